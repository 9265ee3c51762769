//! The closed list of messages that a consensus key signs without a permit, because they cannot be slashed.
//!
//! Each is built here from its fields, so that none of them can be made to spell a vote. (The handshake of a connection is
//! signed by an identity key, which is another type and holds no consensus key.)

use crate::{ChainId, Domain};

/// What comes before everything that is signed as [`Benign::RawBytes`]. It is of the kind that [`Domain`] allows.
pub const RAW_BYTES_DOMAIN: &str = "COMET::RAW_BYTES::SIGN";

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
    /// Celestia's raw bytes: [`RAW_BYTES_DOMAIN`] and {1: chain id, 2: raw bytes, 3: unique id}, length-delimited.
    ///
    /// No position and no record: the unique id names what the bytes are for (it is the same in every request of one kind, not
    /// a number used once), so a node asks for other bytes under the same id all the time, and two such signatures convict nobody.
    RawBytes {
        /// Chain id inside the message.
        chain: &'a ChainId,
        /// What is to be signed.
        raw_bytes: &'a [u8],
        /// What it is for.
        unique_id: &'a str,
    },
    /// Bytes behind a beginning that its operator has allowed, and with which no message of consensus begins.
    InDomain {
        /// The beginning.
        domain: &'a Domain,
        /// What follows it.
        rest: &'a [u8],
    },
}

impl Benign<'_> {
    /// The bytes that are signed.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::VoteExtension { chain, height, round, extension } => {
                let mut body = Vec::with_capacity(extension.len() + chain.as_str().len() + 32);
                put_bytes(&mut body, 0x0a, extension);
                put_fixed(&mut body, 0x11, *height);
                put_fixed(&mut body, 0x19, *round);
                put_bytes(&mut body, 0x22, chain.as_str().as_bytes());
                delimited("", &body)
            }
            Self::RawBytes { chain, raw_bytes, unique_id } => {
                let mut body = Vec::with_capacity(raw_bytes.len() + unique_id.len() + chain.as_str().len() + 32);
                put_bytes(&mut body, 0x0a, chain.as_str().as_bytes());
                put_bytes(&mut body, 0x12, raw_bytes);
                put_bytes(&mut body, 0x1a, unique_id.as_bytes());
                delimited(RAW_BYTES_DOMAIN, &body)
            }
            Self::InDomain { domain, rest } => [domain.as_str().as_bytes(), rest].concat(),
        }
    }
}

fn delimited(domain: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(domain.len() + body.len() + 5);
    out.extend_from_slice(domain.as_bytes());
    put_varint(&mut out, body.len());
    out.extend_from_slice(body);
    out
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

#[cfg(test)]
mod tests {
    use super::{Benign, RAW_BYTES_DOMAIN};
    use crate::{ChainId, Domain};

    #[test]
    fn raw_bytes_are_the_domain_and_the_request() {
        let chain = ChainId::new("mocha-4").unwrap();
        let message = Benign::RawBytes { chain: &chain, raw_bytes: &[0xaa, 0xbb], unique_id: "id" };
        let golden = b"COMET::RAW_BYTES::SIGN\x11\x0a\x07mocha-4\x12\x02\xaa\xbb\x1a\x02id";
        assert_eq!(message.bytes(), golden);
        let long = [7; 300];
        let message = Benign::RawBytes { chain: &chain, raw_bytes: &long, unique_id: "id" }.bytes();
        assert_eq!(message.get(22..36).unwrap(), b"\xbc\x02\x0a\x07mocha-4\x12\xac\x02");
    }

    #[test]
    fn the_domain_of_raw_bytes_is_a_domain() {
        assert!(Domain::new(RAW_BYTES_DOMAIN).is_ok());
    }

    #[test]
    fn bytes_in_a_domain_are_signed_as_they_came() {
        let domain = Domain::new("TEST::").unwrap();
        assert_eq!(Benign::InDomain { domain: &domain, rest: b"\x08\x01" }.bytes(), b"TEST::\x08\x01");
    }
}
