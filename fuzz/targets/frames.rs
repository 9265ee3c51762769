//! Frames of a SecretConnection: bytes of anybody never open; of frames sealed with the right key, whatever they hold, only those
//! open that are whole, unaltered, in order and no longer than a frame; what a `Sealer` seals comes out as it was.
#![no_main]

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use libfuzzer_sys::fuzz_target;
use semel_fuzz::Input;
use semel_kms::core::secret::{FRAME_LEN, Opener, Sealer, SecretError};

const KEY: [u8; 32] = [7; 32];
const PLAIN_LEN: usize = FRAME_LEN - 16;

fn open(pieces: &[&[u8]]) -> (Vec<u8>, Result<(), SecretError>) {
    let mut opener = Opener::new(KEY);
    let mut out = Vec::new();
    let outcome = pieces.iter().try_for_each(|piece| opener.push(piece, &mut out));
    (out, outcome)
}

/// Frames with these bytes, length included; what may come out; and how it ends.
fn sealed(plain: &[u8]) -> (Vec<u8>, Vec<u8>, Result<(), SecretError>) {
    let cipher = ChaCha20Poly1305::new(&KEY.into());
    let (mut out, mut expected, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
    for (counter, chunk) in plain.chunks(PLAIN_LEN).enumerate() {
        let mut frame = chunk.to_vec();
        frame.resize(PLAIN_LEN, 0);
        let (length, data) = frame.split_first_chunk::<4>().expect("4 of 1028 bytes");
        let length = u32::from_le_bytes(*length);
        if outcome.is_ok() {
            match data.get(..length as usize) {
                Some(data) => expected.extend_from_slice(data),
                None => outcome = Err(SecretError::FrameLength(length)),
            }
        }
        let mut nonce = Nonce::default();
        nonce[4..].copy_from_slice(&(counter as u64).to_le_bytes());
        let tag = cipher.encrypt_in_place_detached(&nonce, b"", &mut frame).expect("a frame is short");
        out.extend_from_slice(&frame);
        out.extend_from_slice(&tag);
    }
    (out, expected, outcome)
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    match input.flags & 3 {
        0 => {
            let (out, outcome) = open(&input.cut(input.rest));
            assert!(out.is_empty());
            assert_eq!(outcome.is_err(), input.rest.len() >= FRAME_LEN);
        }
        1 => {
            let (stream, expected, outcome) = sealed(input.rest);
            assert_eq!(open(&input.cut(&stream)), (expected, outcome));
        }
        2 => {
            let mut stream = Vec::new();
            Sealer::new(KEY).seal(input.rest, &mut stream).expect("the first frames");
            assert_eq!(open(&input.cut(&stream)), (input.rest.to_vec(), Ok(())));
        }
        _ => {
            let mut stream = Vec::new();
            Sealer::new(KEY).seal(input.rest, &mut stream).expect("the first frames");
            let at = usize::from(input.flags >> 2) * 167;
            let Some(byte) = stream.get_mut(at) else { return };
            *byte ^= 1 << (at % 8);
            let (out, outcome) = open(&input.cut(&stream));
            assert_eq!(outcome, Err(SecretError::Frame));
            assert_eq!(out, input.rest[..at / FRAME_LEN * 1024]);
        }
    }
});
