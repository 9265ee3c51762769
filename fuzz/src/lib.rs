//! What the targets share: how an input is divided, and messages that come out of their own length.
//!
//! An input is a flag byte, a byte that chooses how the rest is cut into pieces, and the rest. Choices stand in front and have a
//! fixed length, so that a mutation of the rest leaves them alone.

pub mod disk;

use semel_kms::wire::{Delimited, Family};

/// A divided input.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// One bit per choice.
    pub flags: u8,
    /// Chooses the pieces; 0: one piece.
    pub pieces: u8,
    /// The stranger's bytes.
    pub rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Divides an input. None: too short.
    pub fn new(data: &'a [u8]) -> Option<Self> {
        let ([flags, pieces], rest) = data.split_first_chunk::<2>()?;
        Some(Self { flags: *flags, pieces: *pieces, rest })
    }

    /// Whether a bit of the flags is set.
    pub fn flag(&self, bit: u8) -> bool {
        self.flags & (1 << bit) != 0
    }

    /// The family that bit 0 chooses.
    pub fn family(&self) -> Family {
        if self.flag(0) { Family::Amino } else { Family::Protobuf }
    }

    /// `bytes` in pieces of 1 to 64 bytes, or of up to 2048 bytes where the choice is even, or whole where it is 0.
    pub fn cut<'b>(&self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        if self.pieces == 0 {
            return vec![bytes];
        }
        let most = if self.pieces.is_multiple_of(2) { 2048 } else { 64 };
        let mut state = u32::from(self.pieces);
        let mut left = bytes;
        let mut out = Vec::new();
        while !left.is_empty() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let length = 1 + (state >> 16) as usize % most;
            let (piece, rest) = left.split_at(length.min(left.len()));
            out.push(piece);
            left = rest;
        }
        out
    }
}

/// The message in `encoded`, which must be exactly one, with its length.
pub fn undelimited(encoded: &[u8]) -> Vec<u8> {
    let mut reader = Delimited::new(encoded.len());
    reader.buffer().extend_from_slice(encoded);
    let message = reader.next_message().expect("an encoder writes a length").expect("and all of the message").to_vec();
    assert!(reader.buffer().is_empty(), "an encoder writes one message");
    message
}
