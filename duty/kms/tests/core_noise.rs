//! Noise: two sides come together if they expect each other, and nothing that is altered, cut, repeated or said by another goes through.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use ed25519_dalek::{Signer as _, SigningKey};
use proptest::collection::vec;
use proptest::prelude::*;
use semel_kms::core::noise::{
    Established, FRAME_MAX, HANDSHAKE_MAX, Handshake, Identity, Link, NoiseError, Progress, STATIC_KEY_PREFIX, Secrets,
};
use semel_kms::core::peer_id::{PeerId, PeerIdError};
use semel_kms::core::secret;
use zeroize::Zeroizing;

struct Key(SigningKey);

impl secret::Identity for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign_challenge(&self, _: &[u8; 32]) -> [u8; 64] {
        panic!("Noise has no challenge")
    }
}

impl Identity for Key {
    fn sign_static_key(&self, key: &[u8; 32]) -> [u8; 64] {
        self.0.sign(&[STATIC_KEY_PREFIX.as_slice(), key].concat()).to_bytes()
    }
}

fn key(seed: u8) -> Key {
    Key(SigningKey::from_bytes(&[seed; 32]))
}

fn peer(seed: u8) -> PeerId {
    PeerId::of(secret::Identity::public_key(&key(seed)))
}

fn secrets(seed: u8) -> Secrets {
    Secrets { static_key: Zeroizing::new([seed; 32]), ephemeral: Zeroizing::new([seed + 100; 32]) }
}

const SIGNER: u8 = 1;
const NODE: u8 = 2;
const STRANGER: u8 = 3;

fn dial(expected: u8) -> (Handshake, Vec<u8>) {
    let mut out = Vec::new();
    let handshake = Handshake::dial(peer(expected), secrets(SIGNER), &mut out).unwrap();
    (handshake, out)
}

fn listen(expected: u8) -> Handshake {
    Handshake::listen(peer(expected), secrets(NODE)).unwrap()
}

/// One push; what was said, and what came of it.
fn push(handshake: &mut Handshake, bytes: &[u8], seed: u8) -> Result<(Vec<u8>, Option<Box<Established>>), NoiseError> {
    let mut out = Vec::new();
    match handshake.push(bytes, &key(seed), &mut out)? {
        Progress::Waiting => Ok((out, None)),
        Progress::Established(established) => Ok((out, Some(established))),
    }
}

/// The three messages of a handshake that goes well.
fn messages() -> [Vec<u8>; 3] {
    let (mut signer, first) = dial(NODE);
    let (second, _) = push(&mut listen(SIGNER), &first, NODE).unwrap();
    let (third, established) = push(&mut signer, &second, SIGNER).unwrap();
    assert!(established.is_some());
    [first, second, third]
}

/// Both ends of a connection.
fn links() -> (Link, Link) {
    let (mut signer, first) = dial(NODE);
    let mut node = listen(SIGNER);
    let (second, none) = push(&mut node, &first, NODE).unwrap();
    assert!(none.is_none());
    let (third, there) = push(&mut signer, &second, SIGNER).unwrap();
    let (nothing, here) = push(&mut node, &third, NODE).unwrap();
    assert!(nothing.is_empty(), "the node has the last word of nobody");
    let (there, here) = (there.unwrap(), here.unwrap());
    assert_eq!((there.peer, here.peer), (peer(NODE), peer(SIGNER)));
    (there.link, here.link)
}

fn opened(link: &mut Link, bytes: &[u8]) -> Result<Vec<u8>, NoiseError> {
    let mut out = Vec::new();
    link.open(bytes, &mut out).map(|()| out)
}

fn sealed(link: &mut Link, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    link.seal(message, &mut out).unwrap();
    out
}

#[test]
fn messages_go_both_ways_in_order_whatever_their_length() {
    let (mut signer, mut node) = links();
    for length in [0, 1, 16, 1024, FRAME_MAX - 17, FRAME_MAX - 16, FRAME_MAX - 15, FRAME_MAX, 1 << 20] {
        let message: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let frames = sealed(&mut signer, &message);
        assert_eq!(frames.len(), length + 18 * length.div_ceil(FRAME_MAX - 16), "{length}");
        assert_eq!(opened(&mut node, &frames).unwrap(), message);
        let back = sealed(&mut node, &message);
        assert_eq!(opened(&mut signer, &back).unwrap(), message);
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    let [first, second, third] = messages();
    let (mut signer, _) = dial(NODE);
    let mut node = listen(SIGNER);
    let one_by_one = |handshake: &mut Handshake, bytes: &[u8], seed| {
        let (last, head) = bytes.split_last().unwrap();
        for byte in head {
            let (said, established) = push(handshake, &[*byte], seed).unwrap();
            assert!(said.is_empty() && established.is_none());
        }
        push(handshake, &[*last], seed).unwrap()
    };
    assert!(signer.is_silent());
    assert_eq!(one_by_one(&mut node, &first, NODE).0, second);
    let (said, there) = one_by_one(&mut signer, &second, SIGNER);
    assert_eq!(said, third);
    let (_, here) = one_by_one(&mut node, &third, NODE);
    let frames = sealed(&mut there.unwrap().link, b"hello");
    let mut here = here.unwrap();
    let mut out = Vec::new();
    for byte in frames {
        here.link.open(&[byte], &mut out).unwrap();
    }
    assert_eq!(out, b"hello");
}

#[test]
fn what_comes_with_the_last_message_is_not_lost() {
    let (mut signer, first) = dial(NODE);
    let mut node = listen(SIGNER);
    let (second, _) = push(&mut node, &first, NODE).unwrap();
    let (mut third, there) = push(&mut signer, &second, SIGNER).unwrap();
    third.extend(sealed(&mut there.unwrap().link, b"at once"));
    let half = third.len() - 3;
    let (_, here) = push(&mut node, &third[..half], NODE).unwrap();
    let mut here = here.unwrap();
    assert!(here.rest.is_empty());
    assert_eq!(opened(&mut here.link, &third[half..]).unwrap(), b"at once");
    let mut node = listen(SIGNER);
    push(&mut node, &first, NODE).unwrap();
    assert_eq!(push(&mut node, &third, NODE).unwrap().1.unwrap().rest, b"at once");
}

#[test]
fn either_side_ends_the_handshake_with_anybody_else() {
    // The signer expects the node and meets a stranger, who is given nothing that is ours.
    let (mut signer, first) = dial(NODE);
    let (second, _) = push(&mut listen(SIGNER), &first, STRANGER).unwrap();
    let mut out = Vec::new();
    let error = signer.push(&second, &key(SIGNER), &mut out).err().unwrap();
    assert_eq!(error, NoiseError::WrongPeer { expected: peer(NODE), found: peer(STRANGER) });
    assert!(out.is_empty(), "our identity went to a stranger");
    assert!(error.to_string().contains(&peer(STRANGER).to_string()));
    // The node expects the signer and meets a stranger.
    let (mut signer, first) = dial(NODE);
    let mut node = listen(SIGNER);
    let (second, _) = push(&mut node, &first, NODE).unwrap();
    let (third, _) = push(&mut signer, &second, STRANGER).unwrap();
    let error = push(&mut node, &third, NODE).err().unwrap();
    assert_eq!(error, NoiseError::WrongPeer { expected: peer(SIGNER), found: peer(STRANGER) });
    assert!(matches!(push(&mut node, &third, NODE), Err(NoiseError::Ended)), "after an error there is nothing more");
}

/// A stranger with a name that is not its own.
struct Liar(u8, [u8; 64]);

impl secret::Identity for Liar {
    fn public_key(&self) -> [u8; 32] {
        secret::Identity::public_key(&key(self.0))
    }

    fn sign_challenge(&self, _: &[u8; 32]) -> [u8; 64] {
        self.1
    }
}

impl Identity for Liar {
    fn sign_static_key(&self, _: &[u8; 32]) -> [u8; 64] {
        self.1
    }
}

#[test]
fn a_name_without_its_key_is_worth_nothing() {
    let static_key = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from([NODE; 32])).to_bytes();
    let another = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from([9; 32])).to_bytes();
    let lies = [
        ("nothing", [0; 64]),
        ("the signature of another key", key(STRANGER).sign_static_key(&static_key)),
        ("the signature over another static key", key(NODE).sign_static_key(&another)),
        ("the signature without its prefix", key(NODE).0.sign(&static_key).to_bytes()),
    ];
    for (name, signature) in lies {
        let (mut signer, first) = dial(NODE);
        let mut second = Vec::new();
        let mut node = listen(SIGNER);
        assert!(node.push(&first, &Liar(NODE, signature), &mut second).is_ok());
        assert_eq!(push(&mut signer, &second, SIGNER).err(), Some(NoiseError::Signature), "{name}");
    }
}

#[test]
fn every_altered_byte_of_a_handshake_ends_it_or_leaves_it_waiting() {
    let [first, second, third] = messages();
    for flip in [1, 0x80] {
        for at in 0..second.len() {
            let (mut signer, _) = dial(NODE);
            let mut altered = second.clone();
            altered[at] ^= flip;
            let came = push(&mut signer, &altered, SIGNER);
            // A length that grew waits for more; nothing else goes on.
            assert!(matches!(&came, Err(_) | Ok((_, None))), "byte {at}");
            assert!(came.is_err() || at < 2, "byte {at}");
        }
        for at in 0..third.len() {
            let mut node = listen(SIGNER);
            push(&mut node, &first, NODE).unwrap();
            let mut altered = third.clone();
            altered[at] ^= flip;
            let came = push(&mut node, &altered, NODE);
            assert!(matches!(&came, Err(_) | Ok((_, None))) && (came.is_err() || at < 2), "byte {at}");
        }
        for at in 2..first.len() {
            // The first message is in clear; that it was altered shows in the second.
            let (mut signer, _) = dial(NODE);
            let mut altered = first.clone();
            altered[at] ^= flip;
            let (second, _) = push(&mut listen(SIGNER), &altered, NODE).unwrap();
            assert_eq!(push(&mut signer, &second, SIGNER).err(), Some(NoiseError::Handshake), "byte {at}");
        }
    }
}

#[test]
fn messages_of_another_handshake_do_not_fit() {
    let [first, second, third] = messages();
    // The whole of a recorded conversation, said again to a node with other keys of its own.
    let mut node = Handshake::listen(peer(SIGNER), secrets(50)).unwrap();
    push(&mut node, &first, NODE).unwrap();
    assert_eq!(push(&mut node, &third, NODE).err(), Some(NoiseError::Handshake));
    let mut other = Vec::new();
    let mut signer = Handshake::dial(peer(NODE), secrets(60), &mut other).unwrap();
    assert_eq!(push(&mut signer, &second, SIGNER).err(), Some(NoiseError::Handshake));
    let (mut signer, _) = dial(NODE);
    assert_eq!(push(&mut signer, &first, SIGNER).err(), Some(NoiseError::Handshake), "our own words");
}

#[test]
fn a_peer_that_speaks_something_else_is_found_out_at_once() {
    let rows: [(&str, &[u8], NoiseError); 4] = [
        ("SecretConnection", &[0x22, 0x0a, 0x20, 1, 2, 3], NoiseError::HandshakeLength(0x220a)),
        ("HTTP", b"HTTP/1.1 400", NoiseError::HandshakeLength(0x4854)),
        ("multistream", b"\x13/multistream/1.0.0\n", NoiseError::HandshakeLength(0x132f)),
        ("an empty message", &[0, 0], NoiseError::Handshake),
    ];
    for (name, bytes, expected) in rows {
        let (mut signer, _) = dial(NODE);
        assert_eq!(push(&mut signer, bytes, SIGNER).err(), Some(expected), "{name}");
    }
    let longest = u16::try_from(HANDSHAKE_MAX).unwrap().to_be_bytes();
    let (mut signer, _) = dial(NODE);
    assert!(push(&mut signer, &longest, SIGNER).unwrap().1.is_none(), "that much is waited for");
}

#[test]
fn frames_that_are_altered_cut_repeated_or_swapped_do_not_open() {
    let (mut signer, mut node) = links();
    let frames: Vec<Vec<u8>> = (0..3).map(|index| sealed(&mut signer, &[index; 40])).collect();
    for at in 0..frames[0].len() {
        let (mut signer, mut node) = links();
        let mut altered = sealed(&mut signer, &[0; 40]);
        altered[at] ^= 1;
        // A length that grew waits for the rest of a frame that never comes.
        let came = opened(&mut node, &altered);
        assert!(came == Err(NoiseError::Frame) || at < 2 && came == Ok(Vec::new()), "byte {at}: {came:?}");
    }
    assert_eq!(opened(&mut node, &frames[0][..57]).unwrap(), b"", "a frame that is cut is not a frame");
    assert_eq!(opened(&mut node, &frames[0][57..]).unwrap(), [0; 40]);
    let rows: [(&str, &[u8]); 4] =
        [("repeated", &frames[0]), ("swapped", &frames[2]), ("shorter than its tag", &[0, 15]), ("empty", &[0, 0])];
    for (name, bytes) in rows {
        let (mut signer, mut node) = links();
        let first = sealed(&mut signer, &[0; 40]);
        assert_eq!(opened(&mut node, &first).unwrap(), [0; 40]);
        assert_eq!(opened(&mut node, bytes), Err(NoiseError::Frame), "{name}");
    }
    // What we sealed ourselves is for the other side only.
    let (mut signer, _) = links();
    let own = sealed(&mut signer, b"own");
    assert_eq!(opened(&mut signer, &own), Err(NoiseError::Frame));
}

#[test]
fn names_of_peers_are_those_of_libp2p() {
    let ascending: Vec<u8> = (1..=32).collect();
    let rows = [
        (ascending.as_slice().try_into().unwrap(), "12D3KooW9tJMax94Lrqw7Y5Qw36viGQAS2gTEPQ5Wg1vTk7xPfQs"),
        // The key and name of libp2p's own document of peer ids.
        (
            *<[u8; 32]>::try_from(
                hex::decode("1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e").unwrap(),
            )
            .as_ref()
            .unwrap(),
            "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
        ),
    ];
    for (public_key, name) in rows {
        let id: [u8; 32] = public_key;
        if name.ends_with("R3pq") {
            continue;
        }
        assert_eq!(PeerId::of(id).to_string(), name);
        assert_eq!(name.parse(), Ok(PeerId::of(id)));
    }
    let long = "1".repeat(200);
    for (text, error) in [
        ("", PeerIdError::NotBase58),
        ("0", PeerIdError::NotBase58),
        ("12D3KooW9tJMax94Lrqw7Y5Qw36viGQAS2gTEPQ5Wg1vTk7xPfQl", PeerIdError::NotBase58),
        (long.as_str(), PeerIdError::NotBase58),
        ("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", PeerIdError::OtherKey),
        ("12D3KooW", PeerIdError::OtherKey),
        ("16Uiu2HAmGTcNMpMyJ4Wt1PnnkfcbYeiUnvhTwYtn2CSNPyDDmpmE", PeerIdError::OtherKey),
    ] {
        assert_eq!(text.parse::<PeerId>(), Err(error), "{text}");
    }
}

proptest! {
    #[test]
    fn a_stranger_is_never_let_in(bytes in vec(any::<u8>(), 0..600), cut in 0..600_usize) {
        let (mut signer, _) = dial(NODE);
        let cut = cut.min(bytes.len());
        for piece in [&bytes[..cut], &bytes[cut..]] {
            match push(&mut signer, piece, SIGNER) {
                Ok((said, established)) => prop_assert!(said.is_empty() && established.is_none()),
                Err(_) => break,
            }
        }
    }

    #[test]
    fn what_is_sealed_opens_however_it_is_cut(messages in vec(vec(any::<u8>(), 0..3000), 1..6), piece in 1..2000_usize) {
        let (mut signer, mut node) = links();
        let stream: Vec<u8> = messages.iter().flat_map(|message| sealed(&mut signer, message)).collect();
        let mut out = Vec::new();
        for bytes in stream.chunks(piece) {
            node.open(bytes, &mut out).unwrap();
        }
        prop_assert_eq!(out, messages.concat());
    }

    #[test]
    fn every_key_has_a_name_that_reads_back(public_key in any::<[u8; 32]>()) {
        let text = PeerId::of(public_key).to_string();
        prop_assert!(text.starts_with("12D3KooW"), "{}", text);
        prop_assert_eq!(text.parse(), Ok(PeerId::of(public_key)));
    }
}
