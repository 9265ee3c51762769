//! The handshake of SecretConnection against recorded connections of the field: `testdata/handshakes.jsonl` holds the secrets of both
//! ends and every byte that they sent. Each end in turn is played by ours.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use ed25519_dalek::{Signer as _, SigningKey};
use semel_kms::core::secret::{Established, Expect, FRAME_LEN, Handshake, Identity, Progress, SecretError, Variant};

/// An honest side.
struct Key(SigningKey);

impl Key {
    fn of(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }
}

impl Identity for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64] {
        self.0.sign(challenge).to_bytes()
    }
}

/// Pushes bytes; what is to be sent is appended to `out`.
fn push(
    handshake: &mut Handshake,
    bytes: &[u8],
    identity: &dyn Identity,
    out: &mut Vec<u8>,
) -> Result<Option<Box<Established>>, SecretError> {
    Ok(match handshake.push(bytes, identity, out)? {
        Progress::Waiting => None,
        Progress::Established(established) => Some(established),
    })
}

#[derive(serde::Deserialize)]
struct Recorded {
    variant: String,
    source: String,
    sides: [Side; 2],
}

#[derive(serde::Deserialize)]
struct Side {
    ephemeral_secret_hex: String,
    identity_seed_hex: String,
    identity_public_hex: String,
    handshake_hex: String,
    messages: Vec<Message>,
}

#[derive(serde::Deserialize)]
struct Message {
    plain_hex: String,
    sealed_hex: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn array(hex: &str) -> [u8; 32] {
    bytes(hex).try_into().unwrap()
}

impl Recorded {
    fn all() -> Vec<Self> {
        let text = include_str!("../testdata/handshakes.jsonl");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn variant(&self) -> Variant {
        match self.variant.as_str() {
            "legacy" => Variant::Legacy,
            "v0.33" => Variant::V033,
            "v0.34" => Variant::V034,
            other => panic!("{other} is no variant"),
        }
    }
}

impl Side {
    fn key(&self) -> Key {
        let key = Key::of(array(&self.identity_seed_hex));
        assert_eq!(hex::encode(key.public_key()), self.identity_public_hex);
        key
    }

    fn handshake(&self, expect: Expect) -> Handshake {
        Handshake::new(expect, array(&self.ephemeral_secret_hex))
    }

    /// Everything it sent once the connection stood.
    fn sent(&self) -> Vec<u8> {
        self.messages.iter().flat_map(|message| bytes(&message.sealed_hex)).collect()
    }

    fn said(&self) -> Vec<u8> {
        self.messages.iter().flat_map(|message| bytes(&message.plain_hex)).collect()
    }
}

#[test]
fn every_version_of_the_field_gets_the_bytes_that_it_would_get_from_itself() {
    let mut seen = Vec::new();
    for recorded in Recorded::all() {
        let variant = recorded.variant();
        seen.push((variant, recorded.source.clone()));
        // Each side in turn is ours; one of the two has the lower ephemeral key.
        for (ours, theirs) in [(0, 1), (1, 0)].map(|(a, b)| (&recorded.sides[a], &recorded.sides[b])) {
            for (expect, first) in [
                (Expect::Auto, false),
                (Expect::Only(variant), false),
                (Expect::Only(variant), true),
                (Expect::Auto, true),
            ] {
                let name = format!("{}, {expect:?}, first {first}", recorded.source);
                let mut handshake = ours.handshake(expect);
                let mut out = Vec::new();
                if first {
                    handshake.speak_first(variant, &mut out);
                }
                let established = push(&mut handshake, &bytes(&theirs.handshake_hex), &ours.key(), &mut out).unwrap();
                let mut established = established.unwrap_or_else(|| panic!("{name}: not established"));
                assert_eq!(hex::encode(&out), ours.handshake_hex, "{name}");
                assert_eq!(established.variant, variant, "{name}");
                assert_eq!(hex::encode(established.peer), theirs.identity_public_hex, "{name}");
                assert!(established.rest.is_empty(), "{name}");
                let mut said = Vec::new();
                established.opener.push(&theirs.sent(), &mut said).unwrap();
                assert_eq!(said, theirs.said(), "{name}");
            }
        }
    }
    assert_eq!(
        seen.iter().map(|(variant, source)| (*variant, source.as_str())).collect::<Vec<_>>(),
        [
            (Variant::Legacy, "tendermint 0.32.14"),
            (Variant::V033, "tendermint 0.33.9"),
            (Variant::V034, "tendermint 0.34.24"),
            (Variant::V034, "cometbft 0.38.26"),
        ]
    );
}

#[test]
fn full_frames_are_sealed_as_the_field_seals_them() {
    for recorded in Recorded::all() {
        let mut full = 0;
        for (ours, theirs) in [(0, 1), (1, 0)].map(|(a, b)| (&recorded.sides[a], &recorded.sides[b])) {
            let mut handshake = ours.handshake(Expect::Auto);
            let established = push(&mut handshake, &bytes(&theirs.handshake_hex), &ours.key(), &mut Vec::new());
            let mut established = established.unwrap().unwrap();
            for message in &ours.messages {
                let (plain, expected, mut sealed) = (bytes(&message.plain_hex), bytes(&message.sealed_hex), Vec::new());
                established.sealer.seal(&plain, &mut sealed).unwrap();
                assert_eq!(sealed.len(), expected.len(), "{}: {} bytes", recorded.source, plain.len());
                // What pads the last frame is not the same in every version, and cut off by all of them.
                for (index, frame) in sealed.chunks(FRAME_LEN).take(plain.len() / 1024).enumerate() {
                    assert_eq!(frame, &expected[index * FRAME_LEN..][..FRAME_LEN], "{}", recorded.source);
                    full += 1;
                }
            }
        }
        assert_eq!(full, 4, "{}", recorded.source);
    }
}

#[test]
fn a_recorded_connection_is_understood_wherever_it_is_cut() {
    for recorded in Recorded::all() {
        let (ours, theirs) = (&recorded.sides[0], &recorded.sides[1]);
        let (key, first) = (ours.key(), &theirs.messages[0]);
        let (expected, plain) = (bytes(&ours.handshake_hex), bytes(&first.plain_hex));
        let stream = [bytes(&theirs.handshake_hex), bytes(&first.sealed_hex)].concat();
        let understood = |pieces: &[&[u8]]| {
            let mut handshake = ours.handshake(Expect::Auto);
            let (mut out, mut said, mut standing) = (Vec::new(), Vec::new(), None::<Box<Established>>);
            for piece in pieces {
                if let Some(standing) = &mut standing {
                    standing.opener.push(piece, &mut said).unwrap();
                } else if let Some(established) = push(&mut handshake, piece, &key, &mut out).unwrap() {
                    said.extend_from_slice(&established.rest);
                    standing = Some(established);
                }
            }
            out == expected && said == plain
        };
        let one_by_one: Vec<&[u8]> = stream.chunks(1).collect();
        assert!(understood(&one_by_one), "{}", recorded.source);
        // The two families differ in length; within one, every byte of one version stands for those of the others.
        let every_byte = ["tendermint 0.33.9", "cometbft 0.38.26"].contains(&recorded.source.as_str());
        for at in (0..=stream.len()).step_by(if every_byte { 1 } else { 101 }) {
            let (head, tail) = stream.split_at(at);
            assert!(understood(&[head, tail]), "{} at {at}", recorded.source);
        }
    }
}
