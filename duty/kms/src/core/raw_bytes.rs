//! Requests for a signature over bytes that are neither vote nor proposal: member 9, which is one message in CometBFT v1 and
//! another in Celestia.
//!
//! | | fields | what is signed | allowed |
//! |---|---|---|---|
//! | Celestia `SignRawBytes` | chain id 1, bytes 2, unique id 3 | a prefix of Celestia's and the request, built here | for the chain that is configured |
//! | v1 `SignBytes` | bytes 1 | the bytes as they are | behind a domain of `allow_sign_bytes`, nothing by default |
//!
//! Both are stateless: no position, no record. So a signature over them must never be one over a vote. Celestia's prefix and every
//! [`Domain`] see to that by their first two bytes; and what reads as a message of consensus is refused once more, wherever it
//! would come from.

use crate::wire::WireError;
use crate::wire::proto::{Fields, varint};
use semel_guard::{Benign, ChainId, Domain};

/// Longest unique id, in bytes.
pub const UNIQUE_ID_MAX: usize = 256;

/// Longest bytes to sign.
pub const BYTES_MAX: usize = 1 << 20;

/// Longest piece of a peer's text in an error reply, in characters.
const SHOWN_MAX: usize = 64;

/// Whose message member 9 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Celestia's where it names the chain and has all its fields, else v1's.
    #[default]
    Auto,
    /// Celestia's.
    Celestia,
    /// That of CometBFT v1.
    V1,
}

/// Which bytes are signed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawBytes {
    /// Whose message it is.
    pub dialect: Dialect,
    /// v1: beginnings of which one must be there.
    pub domains: Vec<Domain>,
}

/// Bytes that may be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BytesToSign {
    /// Celestia's.
    RawBytes {
        /// What is to be signed.
        raw_bytes: Vec<u8>,
        /// What it is for.
        unique_id: String,
    },
    /// v1's.
    InDomain {
        /// How they begin.
        domain: Domain,
        /// How they go on.
        rest: Vec<u8>,
    },
}

impl BytesToSign {
    /// The message, as the guard knows it.
    pub fn message<'a>(&'a self, chain: &'a ChainId) -> Benign<'a> {
        match self {
            Self::RawBytes { raw_bytes, unique_id } => Benign::RawBytes { chain, raw_bytes, unique_id },
            Self::InDomain { domain, rest } => Benign::InDomain { domain, rest },
        }
    }

    /// What it is, in a word or two of the peer's.
    pub fn what(&self) -> &str {
        match self {
            Self::RawBytes { unique_id, .. } => unique_id,
            Self::InDomain { domain, .. } => domain.as_str(),
        }
    }
}

/// Bytes that are not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RawBytesError {
    /// The fields cannot be read.
    #[error("the request for a signature of bytes cannot be read: {0}")]
    Wire(#[from] WireError),
    /// A field that must be there.
    #[error("a request for a signature of bytes has no {0}")]
    Missing(&'static str),
    /// Another chain.
    #[error("this signer is for chain {ours:?}, the request is for {theirs:?}")]
    Chain {
        /// Configured.
        ours: String,
        /// Asked.
        theirs: String,
    },
    /// Too long.
    #[error("{what} of {found} bytes, at most {max} are signed")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The longest there is.
        max: usize,
    },
    /// The unique id is no text.
    #[error("the unique id of raw bytes is not UTF-8")]
    UniqueId,
    /// They read as a vote, a proposal or an extension.
    #[error("these bytes read as a message of consensus: they are never signed as mere bytes")]
    Canonical,
    /// In no domain.
    #[error(
        "bytes without a meaning are not signed: they could be a vote; allow_sign_bytes can name how they must begin"
    )]
    NoDomain,
}

/// The fields of member 9. What is not there is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Body<'a> {
    /// v1 the bytes, Celestia the chain id.
    first: &'a [u8],
    raw_bytes: &'a [u8],
    unique_id: &'a [u8],
}

impl<'a> Body<'a> {
    fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let mut out = Self::default();
        for field in Fields(body) {
            let field = field?;
            match field.number {
                1 => out.first = field.bytes()?,
                2 => out.raw_bytes = field.bytes()?,
                3 => out.unique_id = field.bytes()?,
                _ => {}
            }
        }
        Ok(out)
    }
}

impl RawBytes {
    /// Decides what member 9 with this body deserves.
    ///
    /// # Errors
    /// Why nothing is signed.
    pub fn decide(&self, chain_id: &str, body: &[u8]) -> Result<BytesToSign, RawBytesError> {
        let fields = Body::read(body)?;
        let all = !fields.raw_bytes.is_empty() && !fields.unique_id.is_empty();
        let celestia = match self.dialect {
            Dialect::Auto => all && fields.first == chain_id.as_bytes(),
            Dialect::Celestia => true,
            Dialect::V1 => false,
        };
        if celestia { celestia_bytes(chain_id, &fields) } else { self.v1_bytes(fields.first) }
    }

    fn v1_bytes(&self, bytes: &[u8]) -> Result<BytesToSign, RawBytesError> {
        if bytes.is_empty() {
            return Err(RawBytesError::Missing("bytes"));
        }
        within("bytes", bytes, BYTES_MAX)?;
        if may_be_canonical(bytes) {
            return Err(RawBytesError::Canonical);
        }
        let inside = |domain: &Domain| {
            let rest = domain.rest_of(bytes)?.to_vec();
            Some(BytesToSign::InDomain { domain: domain.clone(), rest })
        };
        self.domains.iter().find_map(inside).ok_or(RawBytesError::NoDomain)
    }
}

fn celestia_bytes(chain_id: &str, fields: &Body<'_>) -> Result<BytesToSign, RawBytesError> {
    for (what, field) in [("chain id", fields.first), ("raw bytes", fields.raw_bytes), ("unique id", fields.unique_id)]
    {
        if field.is_empty() {
            return Err(RawBytesError::Missing(what));
        }
    }
    if fields.first != chain_id.as_bytes() {
        let theirs = String::from_utf8_lossy(fields.first).chars().take(SHOWN_MAX).collect();
        return Err(RawBytesError::Chain { ours: chain_id.into(), theirs });
    }
    within("raw bytes", fields.raw_bytes, BYTES_MAX)?;
    within("a unique id", fields.unique_id, UNIQUE_ID_MAX)?;
    let unique_id = std::str::from_utf8(fields.unique_id).map_err(|_| RawBytesError::UniqueId)?;
    Ok(BytesToSign::RawBytes { raw_bytes: fields.raw_bytes.to_vec(), unique_id: unique_id.into() })
}

fn within(what: &'static str, bytes: &[u8], max: usize) -> Result<(), RawBytesError> {
    if bytes.len() <= max { Ok(()) } else { Err(RawBytesError::TooLong { what, found: bytes.len(), max }) }
}

/// Whether the bytes are a length and that many bytes of fields: every message of consensus is, in both families, whatever its
/// fields. Wider than the messages there are, so that one more field does not open a door.
pub fn may_be_canonical(bytes: &[u8]) -> bool {
    match varint(bytes) {
        Ok(Some((length, body))) => body.len() as u64 == length && Fields(body).all(|field| field.is_ok()),
        _ => false,
    }
}
