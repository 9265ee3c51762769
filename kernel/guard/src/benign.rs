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
    /// Bytes of an application, under Celestia's `COMET::RAW_BYTES::SIGN`: that prefix, then {1: chain id, 2: bytes, 3: unique id},
    /// length-delimited.
    ///
    /// The second byte of a canonical vote, proposal or extension is the tag of its first field: 0x08, 0x0a or 0x11. Here it is the second
    /// letter of the prefix, or the first where the length takes two bytes. No bytes are both.
    RawBytes {
        /// Chain id inside the message.
        chain: &'a ChainId,
        /// What the application calls them; not empty.
        unique_id: &'a str,
        /// The bytes; not empty.
        raw_bytes: &'a [u8],
    },
}

/// What Celestia puts before an application's bytes.
const RAW_BYTES_PREFIX: &[u8] = b"COMET::RAW_BYTES::SIGN";

impl Benign<'_> {
    /// The bytes that are signed.
    pub fn bytes(&self) -> Vec<u8> {
        let (prefix, mut body) = match self {
            Self::VoteExtension { chain, height, round, extension } => {
                let mut body = Vec::with_capacity(extension.len() + chain.as_str().len() + 32);
                put_bytes(&mut body, 0x0a, extension);
                put_fixed(&mut body, 0x11, *height);
                put_fixed(&mut body, 0x19, *round);
                put_bytes(&mut body, 0x22, chain.as_str().as_bytes());
                (&[][..], body)
            }
            Self::RawBytes { chain, unique_id, raw_bytes } => {
                let mut body = Vec::with_capacity(raw_bytes.len() + unique_id.len() + chain.as_str().len() + 16);
                put_bytes(&mut body, 0x0a, chain.as_str().as_bytes());
                put_bytes(&mut body, 0x12, raw_bytes);
                put_bytes(&mut body, 0x1a, unique_id.as_bytes());
                (RAW_BYTES_PREFIX, body)
            }
        };
        let mut out = Vec::with_capacity(prefix.len() + body.len() + 5);
        out.extend_from_slice(prefix);
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
