//! Messages out of a stream: however the stream is cut, the same messages come out, none longer than the limit, and the
//! stream is what was taken and what is left.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_fuzz::Input;
use semel_kms::wire::{Delimited, DelimitedError};

fn read(pieces: &[&[u8]], limit: usize) -> (Vec<Vec<u8>>, Option<DelimitedError>, Vec<u8>) {
    let mut reader = Delimited::new(limit);
    let mut messages = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        reader.buffer().extend_from_slice(piece);
        loop {
            match reader.next_message() {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.next_message(), Err(error), "a broken stream stays broken");
                    let rest = pieces.iter().skip(index + 1).flat_map(|piece| piece.iter());
                    return (messages, Some(error), reader.buffer().iter().chain(rest).copied().collect());
                }
            }
        }
    }
    (messages, None, reader.buffer().clone())
}

/// How many bytes a length takes, and the length.
fn length(bytes: &[u8]) -> (usize, u64) {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return (index + 1, value);
        }
    }
    panic!("a message came out of half a length");
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let limit = usize::from(input.flags) * 16;
    let (messages, error, left) = read(&[input.rest], limit);
    assert_eq!(read(&input.cut(input.rest), limit), (messages.clone(), error, left.clone()));
    let mut stream = input.rest;
    for message in &messages {
        assert!(message.len() <= limit);
        let (head, announced) = length(stream);
        assert_eq!(announced, message.len() as u64);
        stream = stream[head..].strip_prefix(message.as_slice()).expect("a message is what stands in the stream");
    }
    assert_eq!(stream, left);
    match error {
        Some(DelimitedError::TooLong { length: announced, limit: said }) => {
            assert_eq!(said, limit);
            assert_eq!(length(stream).1, announced);
            assert!(announced > limit as u64);
        }
        // Ten bytes at most are looked at.
        Some(DelimitedError::Wire(_)) => assert!(left.len() >= 10),
        None => {}
    }
});
