//! The closed list of messages that a consensus key signs without a permit, because they cannot be slashed.
//!
//! Each is built here from its fields, so that none of them can be made to spell a vote. (The handshake of a connection is
//! signed by an identity key, which is another type and holds no consensus key.)

use crate::ChainId;

/// A message that cannot be slashed.
#[derive(Debug, Clone, Copy)]
pub enum Benign<'a> {
    /// The vote extension of a precommit for a block: CometBFT's `CanonicalVoteExtension`
    /// {1: extension, 2: height sfixed64, 3: round sfixed64, 4: chain id}, length-delimited.
    ///
    /// A canonical vote starts with field 1 as a *varint* (its type, never 0) and a canonical proposal likewise; this message
    /// starts with field 1 as *bytes*, or with field 2. No bytes are both.
    VoteExtension {
        /// Chain id inside the message.
        chain: &'a ChainId,
        /// Height, 1 to 2⁶³ − 1.
        height: i64,
        /// Round.
        round: i64,
        /// What the application put there; may be empty.
        extension: &'a [u8],
    },
}

impl Benign<'_> {
    /// The bytes that are signed.
    pub fn bytes(&self) -> Vec<u8> {
        let Self::VoteExtension { chain, height, round, extension } = self;
        let mut body = Vec::with_capacity(extension.len() + chain.as_str().len() + 32);
        put_bytes(&mut body, 0x0a, extension);
        put_fixed(&mut body, 0x11, *height);
        put_fixed(&mut body, 0x19, *round);
        put_bytes(&mut body, 0x22, chain.as_str().as_bytes());
        let mut out = Vec::with_capacity(body.len() + 5);
        put_varint(&mut out, body.len());
        out.append(&mut body);
        out
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(tag);
        put_varint(out, bytes.len());
        out.extend_from_slice(bytes);
    }
}

fn put_fixed(out: &mut Vec<u8>, tag: u8, value: i64) {
    if value != 0 {
        out.push(tag);
        out.extend_from_slice(&value.to_le_bytes());
    }
}
