//! Frames of SecretConnection: lengths, cuts, and what a network or a thief may do to them; and ephemeral keys of low order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use proptest::collection::vec;
use proptest::prelude::*;
use semel_kms::core::secret::{Expect, FRAME_LEN, Handshake, Identity, Opener, Progress, Sealer, SecretError, Variant};

const KEY: [u8; 32] = [0x42; 32];

fn sealed(messages: &[&[u8]]) -> Vec<u8> {
    let (mut sealer, mut out) = (Sealer::new(KEY), Vec::new());
    for message in messages {
        sealer.seal(message, &mut out).unwrap();
    }
    out
}

fn opened(bytes: &[u8]) -> Result<Vec<u8>, SecretError> {
    let mut out = Vec::new();
    Opener::new(KEY).push(bytes, &mut out).map(|()| out)
}

fn counting(length: usize) -> Vec<u8> {
    (0..length).map(|index| index as u8).collect()
}

/// A frame made without the code under test.
fn frame(key: [u8; 32], counter: u64, length: u32, data: &[u8]) -> Vec<u8> {
    let mut plain = length.to_le_bytes().to_vec();
    plain.extend_from_slice(data);
    plain.resize(1028, 0xee);
    let nonce = [&[0; 4][..], &counter.to_le_bytes()].concat();
    ChaCha20Poly1305::new(&key.into()).encrypt(Nonce::from_slice(&nonce), plain.as_slice()).unwrap()
}

#[test]
fn a_message_takes_as_many_frames_as_it_needs() {
    for (length, frames) in
        [(0, 0), (1, 1), (1023, 1), (1024, 1), (1025, 2), (2048, 2), (2049, 3), (10_240, 10), (1 << 20, 1024)]
    {
        let message = counting(length);
        let bytes = sealed(&[&message]);
        assert_eq!(bytes.len(), frames * FRAME_LEN, "{length}");
        assert_eq!(opened(&bytes), Ok(message), "{length}");
    }
    assert_eq!(FRAME_LEN, 1044);
}

#[test]
fn frames_are_those_that_the_protocol_describes() {
    let message = counting(1025);
    let bytes = sealed(&[&message]);
    let first = frame(KEY, 0, 1024, &message[..1024]);
    assert_eq!(bytes[..FRAME_LEN], first);
    // Ours pad with zeros, and take whatever others pad with.
    let padded = [&message[1024..], &[0; 1023]].concat();
    assert_eq!(bytes[FRAME_LEN..], frame(KEY, 1, 1, &padded));
    assert_eq!(opened(&[first, frame(KEY, 1, 1, &message[1024..])].concat()), Ok(message));
}

#[test]
fn a_frame_is_understood_wherever_it_is_cut() {
    let message = counting(1500);
    let bytes = sealed(&[&message]);
    for at in 0..=bytes.len() {
        let (mut opener, mut out) = (Opener::new(KEY), Vec::new());
        opener.push(&bytes[..at], &mut out).unwrap();
        let whole = match at / FRAME_LEN {
            0 => 0,
            1 => 1024,
            _ => 1500,
        };
        assert_eq!(out.len(), whole, "nothing of a frame is given before all of it is there, at {at}");
        opener.push(&bytes[at..], &mut out).unwrap();
        assert_eq!(out, message, "{at}");
    }
    let (mut opener, mut out) = (Opener::new(KEY), Vec::new());
    for byte in &bytes {
        opener.push(&[*byte], &mut out).unwrap();
    }
    assert_eq!(out, message);
}

/// What is done, the frames that arrive, what is understood of them.
type Abused<'a> = (&'a str, Vec<&'a [u8]>, &'a [u8]);

#[test]
fn a_frame_that_is_repeated_reordered_dropped_or_of_another_connection_does_not_open() {
    let messages: [&[u8]; 4] = [b"first", b"second", b"third", b"fourth"];
    let bytes = sealed(&messages);
    let frames: Vec<&[u8]> = bytes.chunks(FRAME_LEN).collect();
    let other = frame([0x43; 32], 0, 1, b"x");
    let table: [Abused<'_>; 9] = [
        ("repeated at once", vec![frames[0], frames[0]], b"first"),
        ("repeated later", vec![frames[0], frames[1], frames[0]], b"firstsecond"),
        ("reordered", vec![frames[1], frames[0]], b""),
        ("reordered later", vec![frames[0], frames[2], frames[1]], b"first"),
        ("the first dropped", vec![frames[1]], b""),
        ("one dropped", vec![frames[0], frames[1], frames[3]], b"firstsecond"),
        ("of another connection", vec![&other], b""),
        ("of another connection, later", vec![frames[0], &other], b"first"),
        ("cut out of the middle", vec![&frames[0][..500], &frames[1][..544]], b""),
    ];
    for (name, frames, before) in table {
        let (mut opener, mut out) = (Opener::new(KEY), Vec::new());
        assert_eq!(opener.push(&frames.concat(), &mut out), Err(SecretError::Frame), "{name}");
        assert_eq!(out, before, "{name}: what came before is there, and nothing else");
    }
}

#[test]
fn a_connection_that_has_failed_does_not_recover() {
    let bytes = sealed(&[b"first", b"second"]);
    let (first, second) = bytes.split_at(FRAME_LEN);
    let (mut opener, mut out) = (Opener::new(KEY), Vec::new());
    assert_eq!(opener.push(second, &mut out), Err(SecretError::Frame));
    for bytes in [first, second, &[0]] {
        assert_eq!(opener.push(bytes, &mut out), Err(SecretError::Frame));
    }
    assert!(out.is_empty());
}

#[test]
fn a_changed_bit_anywhere_in_a_frame_closes_it() {
    let bytes = sealed(&[b"message"]);
    for at in 0..FRAME_LEN {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert_eq!(opened(&changed), Err(SecretError::Frame), "byte {at}");
    }
    for at in FRAME_LEN - 16..FRAME_LEN {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert_eq!(opened(&changed), Err(SecretError::Frame), "bit {bit} of byte {at} of the tag");
        }
    }
}

#[test]
fn a_frame_cannot_announce_more_than_it_holds() {
    for length in [0, 1, 1023, 1024] {
        assert_eq!(opened(&frame(KEY, 0, length, &counting(1024))), Ok(counting(length as usize)), "{length}");
    }
    for length in [1025, 1028, 1044, 65_536, 1 << 31, u32::MAX] {
        let (mut opener, mut out) = (Opener::new(KEY), Vec::new());
        let bytes = frame(KEY, 0, length, &counting(1024));
        assert_eq!(opener.push(&bytes, &mut out), Err(SecretError::FrameLength(length)));
        assert!(out.is_empty(), "{length}");
        assert!(opener.push(&frame(KEY, 1, 1, b"x"), &mut out).is_err(), "{length}: and that is the end");
    }
}

#[test]
fn the_two_directions_do_not_share_a_key() {
    // What we send, sent back, does not open.
    let (mut at_node, mut at_signer) =
        (Handshake::new(Expect::Only(Variant::V034), [1; 32]), Handshake::new(Expect::Auto, [2; 32]));
    let (mut said, mut answer) = (Vec::new(), Vec::new());
    at_node.speak_first(Variant::V034, &mut said);
    assert!(matches!(at_signer.push(&said, &Nobody, &mut answer), Ok(Progress::Waiting)));
    let back = &answer[35..];
    assert_eq!(at_signer.push(back, &Nobody, &mut Vec::new()).err(), Some(SecretError::Frame));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_of_any_length_come_through_however_the_stream_is_cut(
        messages in vec(vec(any::<u8>(), 0..3000), 1..6),
        cuts in vec(1usize..1500, 1..40),
    ) {
        let borrowed: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let bytes = sealed(&borrowed);
        let (mut opener, mut out, mut rest) = (Opener::new(KEY), Vec::new(), bytes.as_slice());
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            opener.push(head, &mut out).unwrap();
            rest = tail;
        }
        prop_assert_eq!(out, messages.concat());
    }

    #[test]
    fn bytes_of_a_stranger_do_not_open(bytes in vec(any::<u8>(), FRAME_LEN..3 * FRAME_LEN)) {
        prop_assert_eq!(opened(&bytes), Err(SecretError::Frame));
    }
}

// ---- ephemeral keys of low order ----

struct Nobody;

impl Identity for Nobody {
    fn public_key(&self) -> [u8; 32] {
        [0; 32]
    }

    fn sign_challenge(&self, _: &[u8; 32]) -> [u8; 64] {
        [0; 64]
    }
}

/// Every coordinate below 2²⁵⁵ whose point, on the curve or its twist, has order 1, 2, 4 or 8: two of them in two ways, modulo p.
const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// Listed beside them in other implementations: of low order only where the highest bit counts, and in X25519 (RFC 7748) it does not.
const LOW_ORDER_BEYOND_255_BITS: [&str; 5] = [
    "cdeb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
    "4c9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7",
    "d9ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "daffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "dbffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

fn key(hex: &str) -> [u8; 32] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

/// What comes of an ephemeral key, in each encoding and for a few secrets of ours.
fn tries(key: [u8; 32]) -> Vec<(Option<SecretError>, Vec<u8>)> {
    let heads: [(&[u8], Variant); 3] =
        [(&[0x21, 0x20], Variant::Legacy), (&[0x21, 0x20], Variant::V033), (&[0x22, 0x0a, 0x20], Variant::V034)];
    let mut tried = Vec::new();
    for (head, variant) in heads {
        for expect in [Expect::Auto, Expect::Only(variant)] {
            for secret in [[0; 32], [3; 32], [0xff; 32]] {
                let mut out = Vec::new();
                let said = [head, &key].concat();
                let failed = Handshake::new(expect, secret).push(&said, &Nobody, &mut out).err();
                tried.push((failed, out));
            }
        }
    }
    tried
}

#[test]
fn an_ephemeral_key_of_low_order_is_refused_before_anything_is_said() {
    for hex in LOW_ORDER {
        for high_bit in [0, 0x80] {
            let mut low = key(hex);
            low[31] |= high_bit;
            for (failed, out) in tries(low) {
                assert_eq!(failed, Some(SecretError::LowOrder), "{hex} with {high_bit:02x}");
                assert!(out.is_empty(), "{hex}");
            }
        }
    }
}

#[test]
fn keys_that_only_look_like_them_give_a_secret() {
    for hex in LOW_ORDER_BEYOND_255_BITS {
        for (failed, out) in tries(key(hex)) {
            assert_eq!((failed, out.is_empty()), (None, false), "{hex}");
        }
    }
}
