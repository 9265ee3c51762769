//! Requests of a node and replies of a signer.
//!
//! | | protobuf: member of `Message` | amino: registered prefix |
//! |---|---|---|
//! | public key | 1, 2 | `CB94D620`, `170ED57C` |
//! | vote | 3, 4 | `F3F41204`, `B248A616` |
//! | proposal | 5, 6 | `BDE498E2`, `4A04FB87` |
//! | ping | 7, 8 | `1BADB60D`, `A29A031A` |
//! | raw bytes (v1, Celestia) | 9, 10 | – |
//!
//! The public key goes out in every shape that a node may read: field 1 (v0.34 to v0.40) and fields 3 and 4 (v1).

use super::Family;
use super::proto::{Fields, Value, WireError, put_bytes, put_filled, put_int, put_varint};
use super::types::{Proposal, Vote};
use semel_guard::{Algorithm, PublicKey, SubjectError};

/// Longest reply that a node before v0.40 reads, in bytes, with its length.
pub const REPLY_MAX: usize = 10_240;

const AMINO_ED25519: [u8; 5] = [0x16, 0x24, 0xde, 0x64, 0x20];
const AMINO_SECP256K1: [u8; 5] = [0xeb, 0x5a, 0xe9, 0x87, 0x21];

const PREFIXES: [([u8; 4], u64); 8] = [
    ([0xcb, 0x94, 0xd6, 0x20], 1),
    ([0x17, 0x0e, 0xd5, 0x7c], 2),
    ([0xf3, 0xf4, 0x12, 0x04], 3),
    ([0xb2, 0x48, 0xa6, 0x16], 4),
    ([0xbd, 0xe4, 0x98, 0xe2], 5),
    ([0x4a, 0x04, 0xfb, 0x87], 6),
    ([0x1b, 0xad, 0xb6, 0x0d], 7),
    ([0xa2, 0x9a, 0x03, 0x1a], 8),
];

/// What a node asks. Amino requests carry no chain id; there it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Which key signs?
    PubKey {
        /// The chain it is asked for.
        chain_id: String,
    },
    /// Sign this vote.
    SignVote {
        /// The vote.
        vote: Vote,
        /// The chain it is for.
        chain_id: String,
        /// v1: leave the extension unsigned.
        skip_extension_signing: bool,
    },
    /// Sign this proposal.
    SignProposal {
        /// The proposal.
        proposal: Proposal,
        /// The chain it is for.
        chain_id: String,
    },
    /// Still there?
    Ping,
    /// Sign bytes: v1 `SignBytes` and Celestia `SignRawBytes` are one member, whose fields depend on who asks.
    SignBytes {
        /// The fields, unread.
        body: Vec<u8>,
    },
    /// A member that is not known here.
    Unknown {
        /// Its field number.
        tag: u64,
    },
}

/// An error as a reply: final for that request, and the session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// 1: cannot; 2: would be a double signature or a step back.
    pub code: i32,
    /// Why.
    pub description: String,
}

/// What a signer answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// The key.
    PubKey(Result<PublicKey, ErrorReply>),
    /// The vote with its signatures.
    SignedVote(Result<Vote, ErrorReply>),
    /// The proposal with its signature.
    SignedProposal(Result<Proposal, ErrorReply>),
    /// Still here.
    Ping,
    /// The signature of bytes.
    SignedBytes(Result<Vec<u8>, ErrorReply>),
}

/// The family of a message without its length. None: neither.
pub fn family_of(message: &[u8]) -> Option<Family> {
    let amino = PREFIXES.iter().any(|(prefix, _)| message.starts_with(prefix));
    // Members 1 to 10 of the oneof, all of them messages. One registered prefix begins like member 9, that of a signed
    // proposal; its third and fourth byte are a group's tag, which no protobuf message here holds.
    let protobuf = message.first().is_some_and(|tag| tag & 7 == 2 && (1..=10).contains(&(tag >> 3)));
    match (amino, protobuf) {
        (true, _) => Some(Family::Amino),
        (false, true) => Some(Family::Protobuf),
        (false, false) => None,
    }
}

/// The member's number and body.
fn member(family: Family, message: &[u8]) -> Result<(u64, &[u8]), WireError> {
    match family {
        Family::Amino => {
            let (prefix, body) = message.split_first_chunk::<4>().ok_or(WireError::Truncated)?;
            let known = PREFIXES.iter().find(|(known, _)| known == prefix).ok_or(WireError::NotAMessage)?;
            Ok((known.1, body))
        }
        Family::Protobuf => {
            let mut found = None;
            for field in Fields(message) {
                let field = field?;
                if let (Value::Bytes(body), None) = (field.value, found) {
                    found = Some((field.number, body));
                } else {
                    return Err(WireError::NotAMessage);
                }
            }
            found.ok_or(WireError::NotAMessage)
        }
    }
}

/// A message of `family` with its length, around `body`.
fn delimited(family: Family, number: u64, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(body.len() + 16);
    match family {
        Family::Protobuf => put_bytes(&mut message, number, body),
        Family::Amino => {
            if let Some((prefix, _)) = PREFIXES.iter().find(|(_, known)| *known == number) {
                message.extend_from_slice(prefix);
            }
            message.extend_from_slice(body);
        }
    }
    let mut out = Vec::with_capacity(message.len() + 5);
    put_varint(&mut out, message.len() as u64);
    out.append(&mut message);
    out
}

impl Request {
    /// Reads a request, without its length.
    pub fn decode(family: Family, message: &[u8]) -> Result<Self, WireError> {
        let (number, body) = member(family, message)?;
        let mut chain_id = String::new();
        let mut payload: &[u8] = &[];
        let mut skip_extension_signing = false;
        let chain_field = match (family, number) {
            (Family::Protobuf, 1) => 1,
            (Family::Protobuf, 3 | 5) => 2,
            _ => 0,
        };
        if matches!(number, 1 | 3 | 5) {
            for field in Fields(body) {
                let field = field?;
                match field.number {
                    number if number == chain_field => chain_id = field.string()?,
                    1 => payload = field.bytes()?,
                    3 if family == Family::Protobuf => skip_extension_signing = field.int64()? != 0,
                    _ => {}
                }
            }
        }
        Ok(match number {
            1 => Self::PubKey { chain_id },
            3 => Self::SignVote { vote: Vote::decode(payload)?, chain_id, skip_extension_signing },
            5 => Self::SignProposal { proposal: Proposal::decode(payload)?, chain_id },
            7 => Self::Ping,
            9 => Self::SignBytes { body: body.to_vec() },
            2 | 4 | 6 | 8 | 10 => return Err(WireError::NotAMessage),
            tag => Self::Unknown { tag },
        })
    }

    /// Writes a request with its length, as a node does.
    pub fn encode(&self, family: Family) -> Vec<u8> {
        let mut body = Vec::new();
        let chain = |body: &mut Vec<u8>, number, chain_id: &str| {
            if family == Family::Protobuf {
                put_filled(body, number, chain_id.as_bytes());
            }
        };
        let number = match self {
            Self::PubKey { chain_id } => {
                chain(&mut body, 1, chain_id);
                1
            }
            Self::SignVote { vote, chain_id, skip_extension_signing } => {
                put_bytes(&mut body, 1, &vote.encode());
                chain(&mut body, 2, chain_id);
                put_int(&mut body, 3, i64::from(*skip_extension_signing));
                3
            }
            Self::SignProposal { proposal, chain_id } => {
                put_bytes(&mut body, 1, &proposal.encode());
                chain(&mut body, 2, chain_id);
                5
            }
            Self::Ping => 7,
            Self::SignBytes { body: fields } => {
                body.extend_from_slice(fields);
                9
            }
            Self::Unknown { tag } => *tag,
        };
        delimited(family, number, &body)
    }
}

impl ErrorReply {
    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut out = Self { code: 0, description: String::new() };
        for field in Fields(bytes) {
            let field = field?;
            match field.number {
                1 => out.code = field.int32()?,
                2 => out.description = field.string()?,
                _ => {}
            }
        }
        Ok(out)
    }

    fn put(&self, out: &mut Vec<u8>, number: u64) {
        let mut inner = Vec::with_capacity(self.description.len() + 8);
        put_int(&mut inner, 1, i64::from(self.code));
        put_filled(&mut inner, 2, self.description.as_bytes());
        put_bytes(out, number, &inner);
    }
}

impl Response {
    /// Reads a reply, without its length, as a node does.
    pub fn decode(family: Family, message: &[u8]) -> Result<Self, WireError> {
        let (number, body) = member(family, message)?;
        let mut payload = None;
        let mut error = None;
        for field in Fields(body) {
            let field = field?;
            match (number, field.number) {
                (2 | 4 | 6 | 10, 1) => payload = Some(field.bytes()?),
                (2 | 4 | 6 | 10, 2) => error = Some(ErrorReply::decode(field.bytes()?)?),
                _ => {}
            }
        }
        let filled = payload.ok_or(WireError::Field(1));
        Ok(match (number, error) {
            (2, Some(error)) => Self::PubKey(Err(error)),
            (4, Some(error)) => Self::SignedVote(Err(error)),
            (6, Some(error)) => Self::SignedProposal(Err(error)),
            (10, Some(error)) => Self::SignedBytes(Err(error)),
            (2, None) => Self::PubKey(Ok(public_key(family, filled?)?)),
            (4, None) => Self::SignedVote(Ok(Vote::decode(filled?)?)),
            (6, None) => Self::SignedProposal(Ok(Proposal::decode(filled?)?)),
            (10, None) => Self::SignedBytes(Ok(filled?.to_vec())),
            (8, _) => Self::Ping,
            _ => return Err(WireError::NotAMessage),
        })
    }

    /// Writes a reply with its length. A vote whose extension would make the reply longer than [`REPLY_MAX`] goes back
    /// without the extension; the node has it.
    pub fn encode(&self, family: Family) -> Vec<u8> {
        match self {
            Self::PubKey(key) => delimited(family, 2, &pub_key_body(family, key)),
            Self::SignedVote(vote) => {
                let encode = |vote: &Vote| delimited(family, 4, &signed_body(Ok(vote.encode())));
                match vote {
                    Err(error) => delimited(family, 4, &signed_body(Err(error))),
                    Ok(vote) if vote.extension.len() < REPLY_MAX / 2 => {
                        let reply = encode(vote);
                        if reply.len() <= REPLY_MAX { reply } else { encode(&without_extension(vote)) }
                    }
                    Ok(vote) => {
                        let reply = (vote.extension.len() < REPLY_MAX).then(|| encode(vote));
                        reply
                            .filter(|reply| reply.len() <= REPLY_MAX)
                            .unwrap_or_else(|| encode(&without_extension(vote)))
                    }
                }
            }
            Self::SignedProposal(Ok(proposal)) => delimited(family, 6, &signed_body(Ok(proposal.encode()))),
            Self::SignedProposal(Err(error)) => delimited(family, 6, &signed_body(Err(error))),
            Self::Ping => delimited(family, 8, &[]),
            Self::SignedBytes(Ok(signature)) => delimited(family, 10, &signed_body(Ok(signature.clone()))),
            Self::SignedBytes(Err(error)) => delimited(family, 10, &signed_body(Err(error))),
        }
    }
}

fn without_extension(vote: &Vote) -> Vote {
    Vote { extension: Vec::new(), ..vote.clone() }
}

fn signed_body(signed: Result<Vec<u8>, &ErrorReply>) -> Vec<u8> {
    let mut body = Vec::new();
    match signed {
        Ok(message) => put_bytes(&mut body, 1, &message),
        Err(error) => {
            // A node reads the message field without looking; an empty one is what its own signer sends.
            put_bytes(&mut body, 1, &[]);
            error.put(&mut body, 2);
        }
    }
    body
}

fn pub_key_body(family: Family, key: &Result<PublicKey, ErrorReply>) -> Vec<u8> {
    let mut body = Vec::new();
    let key = match key {
        Ok(key) => key,
        Err(error) => {
            error.put(&mut body, 2);
            return body;
        }
    };
    let (number, name, prefix) = match key.algorithm() {
        Algorithm::Secp256k1 => (2, "secp256k1", AMINO_SECP256K1),
        _ => (1, "ed25519", AMINO_ED25519),
    };
    let mut inner = Vec::with_capacity(40);
    match family {
        Family::Amino => {
            inner.extend_from_slice(&prefix);
            inner.extend_from_slice(key.as_bytes());
            put_bytes(&mut body, 1, &inner);
        }
        Family::Protobuf => {
            put_bytes(&mut inner, number, key.as_bytes());
            put_bytes(&mut body, 1, &inner);
            put_bytes(&mut body, 3, key.as_bytes());
            put_bytes(&mut body, 4, name.as_bytes());
        }
    }
    body
}

fn public_key(family: Family, bytes: &[u8]) -> Result<PublicKey, WireError> {
    let invalid = |_: SubjectError| WireError::Field(1);
    if family == Family::Amino {
        return match bytes.split_first_chunk::<5>() {
            Some((&AMINO_ED25519, key)) => PublicKey::new(Algorithm::Ed25519, key).map_err(invalid),
            Some((&AMINO_SECP256K1, key)) => PublicKey::new(Algorithm::Secp256k1, key).map_err(invalid),
            _ => Err(WireError::Field(1)),
        };
    }
    let field = Fields(bytes).next().ok_or(WireError::Field(1))??;
    match field.number {
        1 => PublicKey::new(Algorithm::Ed25519, field.bytes()?).map_err(invalid),
        2 => PublicKey::new(Algorithm::Secp256k1, field.bytes()?).map_err(invalid),
        number => Err(WireError::Field(number)),
    }
}
