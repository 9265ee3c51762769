//! The handshake of a SecretConnection, in three ways: bytes of anybody; a peer that derives the keys and then says anything as its
//! identity, which never lets it in; an honest peer behind which one byte is altered, who is let in if that byte is not part of
//! the handshake. What is sent is never longer than one ephemeral key and one identity.
#![no_main]

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use libfuzzer_sys::fuzz_target;
use semel_fuzz::Input;
use semel_kms::core::secret::{Established, Expect, FRAME_LEN, Handshake, Identity, Progress, SecretError, Variant};
use semel_kms::wire::Family;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

/// A protobuf ephemeral key and an identity.
const SENT_MAX: usize = 35 + FRAME_LEN;
const OURS: [u8; 32] = [1; 32];
const THEIRS: [u8; 32] = [2; 32];

struct Key(SigningKey);

impl Identity for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64] {
        self.0.sign(challenge).to_bytes()
    }
}

fn key(seed: u8) -> Key {
    Key(SigningKey::from_bytes(&[seed; 32]))
}

fn push(
    handshake: &mut Handshake,
    pieces: &[&[u8]],
    key: &Key,
    out: &mut Vec<u8>,
) -> Result<Option<(Box<Established>, usize)>, SecretError> {
    for (index, piece) in pieces.iter().enumerate() {
        let progress = handshake.push(piece, key, out);
        assert!(out.len() <= SENT_MAX, "{} bytes are sent", out.len());
        if let Progress::Established(established) = progress? {
            assert!(handshake.push(&[0; FRAME_LEN], key, out).is_err(), "a handshake ends once");
            return Ok(Some((established, index + 1)));
        }
    }
    Ok(None)
}

fn ephemeral(family: Family, public: &[u8; 32]) -> Vec<u8> {
    let head: &[u8] = match family {
        Family::Amino => &[0x21, 0x20],
        Family::Protobuf => &[0x22, 0x0a, 0x20],
    };
    [head, public].concat()
}

/// What a peer says that holds the keys: its ephemeral key and these bytes in frames.
fn knowing(family: Family, plain: &[u8]) -> Vec<u8> {
    let secret = StaticSecret::from(THEIRS);
    let public = PublicKey::from(&secret).to_bytes();
    let ours = PublicKey::from(&StaticSecret::from(OURS));
    let mut keys = [0; 64];
    let info = b"TENDERMINT_SECRET_CONNECTION_KEY_AND_CHALLENGE_GEN";
    let shared = secret.diffie_hellman(&ours);
    Hkdf::<Sha256>::new(None, shared.as_bytes()).expand(info, &mut keys).expect("64 bytes are few");
    let send = if ours.as_bytes() < &public { &keys[..32] } else { &keys[32..] };
    let cipher = ChaCha20Poly1305::new(send.into());
    let mut out = ephemeral(family, &public);
    for (counter, chunk) in plain.chunks(1028).enumerate() {
        let mut frame = chunk.to_vec();
        frame.resize(1028, 0);
        let mut nonce = Nonce::default();
        nonce[4..].copy_from_slice(&(counter as u64).to_le_bytes());
        let tag = cipher.encrypt_in_place_detached(&nonce, b"", &mut frame).expect("a frame is short");
        out.extend_from_slice(&frame);
        out.extend_from_slice(&tag);
    }
    out
}

const VARIANTS: [Variant; 3] = [Variant::Legacy, Variant::V033, Variant::V034];

/// Both sides; byte `at` of what the peer says is altered by `alter`, then `payload` goes through.
fn honest(input: &Input<'_>, expect: Expect, ours: &mut Handshake, mut out: Vec<u8>) {
    let Some(([low, high, alter], payload)) = input.rest.split_first_chunk::<3>() else { return };
    let at = usize::from(u16::from_le_bytes([*low, *high]));
    let variant = VARIANTS[usize::from(input.flags >> 5) % 3];
    let mut peer = Handshake::new(Expect::Only(variant), THEIRS);
    let mut said = Vec::new();
    peer.speak_first(variant, &mut said);
    let first = said.len();
    let mut heard = 0;
    let mut taken = 0;
    let mut there = None;
    let mut here = None;
    // Ours may wait for the peer's identity, the peer waits for our ephemeral key: two turns are enough.
    for _ in 0..2 {
        let mut stream = said[taken..].to_vec();
        if let Some(byte) = at.checked_sub(taken).and_then(|at| stream.get_mut(at)) {
            *byte ^= alter;
        }
        taken = said.len();
        if here.is_none() && !stream.is_empty() {
            match push(ours, &input.cut(&stream), &key(1), &mut out) {
                Ok(established) => here = established,
                Err(_) => {
                    let welcome = match expect {
                        Expect::Auto => true,
                        Expect::Only(only) => only == variant,
                    };
                    let spoken = input.flag(4) && matches!(expect, Expect::Auto) && variant != Variant::V034;
                    let altered = *alter != 0 && at < taken;
                    assert!(altered || !welcome || spoken, "an honest peer is refused");
                    return;
                }
            }
        }
        if there.is_none() && heard < out.len() {
            there = push(&mut peer, &[&out[heard..]], &key(2), &mut said).ok().flatten();
            heard = out.len();
        }
    }
    let altered = *alter != 0 && at < taken;
    let (Some((mut here, _)), Some((mut there, _))) = (here, there) else {
        assert!(altered, "two honest sides do not come together");
        return;
    };
    // The old challenge is over the shared secret alone, and that ignores the highest bit of a key.
    let blind = variant == Variant::Legacy && at == first - 1 && *alter == 0x80;
    assert!(!altered || blind, "byte {at} is altered, and nobody notices");
    assert_eq!((here.variant, here.peer), (variant, key(2).public_key()));
    assert_eq!((there.variant, there.peer), (variant, key(1).public_key()));
    for (from, to) in [(&mut here.sealer, &mut there.opener), (&mut there.sealer, &mut here.opener)] {
        let (mut sealed, mut opened) = (Vec::new(), Vec::new());
        from.seal(payload, &mut sealed).expect("the first frames");
        input.cut(&sealed).iter().for_each(|piece| to.push(piece, &mut opened).expect("frames of this connection"));
        assert_eq!(opened, payload);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let expect = match input.flags & 3 {
        0 => Expect::Auto,
        number => Expect::Only(VARIANTS[usize::from(number) - 1]),
    };
    let mut handshake = Handshake::new(expect, OURS);
    let mut out = Vec::new();
    if input.flag(4) {
        handshake.speak_first(if let Expect::Only(variant) = expect { variant } else { Variant::V034 }, &mut out);
    }
    match input.flags >> 2 & 3 {
        0 | 3 => {
            let outcome = push(&mut handshake, &input.cut(input.rest), &key(1), &mut out);
            assert!(!matches!(outcome, Ok(Some(_))), "a stranger is let in");
        }
        1 => {
            let family = if input.flag(5) { Family::Amino } else { Family::Protobuf };
            let stream = knowing(family, input.rest);
            let outcome = push(&mut handshake, &input.cut(&stream), &key(1), &mut out);
            assert!(!matches!(outcome, Ok(Some(_))), "a peer without a signature is let in");
        }
        _ => honest(&input, expect, &mut handshake, out),
    }
});
