//! Votes and proposals, as both families carry them.
//!
//! Field numbers are the same in both families; unknown fields are kept and written back behind the known ones, so that a fork
//! that adds fields reads back what it sent.

use super::proto::{Field, Fields, WireError, put_bytes, put_filled, put_int};
use semel_guard::Step;

/// Bytes of a block hash or part set hash. Nil has none.
pub const HASH_LEN: usize = 32;

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignedType {
    /// Type 1.
    Prevote,
    /// Type 2.
    Precommit,
    /// Type 32.
    Proposal,
}

impl SignedType {
    /// The number on the wire.
    pub const fn code(self) -> i32 {
        match self {
            Self::Prevote => 1,
            Self::Precommit => 2,
            Self::Proposal => 32,
        }
    }

    /// The step of a round in which it is signed.
    pub const fn step(self) -> Step {
        match self {
            Self::Proposal => Step::Propose,
            Self::Prevote => Step::Prevote,
            Self::Precommit => Step::Precommit,
        }
    }

    /// The type with this number.
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            1 => Some(Self::Prevote),
            2 => Some(Self::Precommit),
            32 => Some(Self::Proposal),
            _ => None,
        }
    }
}

/// Seconds and nanoseconds since 1970, as on the wire: Go's zero time is year 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds.
    pub nanos: i32,
}

impl Timestamp {
    /// Go's zero time, 1 January of year 1.
    pub const GO_ZERO: Self = Self { seconds: -62_135_596_800, nanos: 0 };
}

/// Number and root of a block's parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PartSetHeader {
    /// How many parts.
    pub total: u32,
    /// Root over the parts.
    pub hash: Vec<u8>,
}

/// A block's name. Nil: everything empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct BlockId {
    /// Hash of the header.
    pub hash: Vec<u8>,
    /// Its parts.
    pub parts: PartSetHeader,
}

impl BlockId {
    /// Whether it names no block.
    pub fn is_nil(&self) -> bool {
        self.hash.is_empty() && self.parts.total == 0 && self.parts.hash.is_empty()
    }
}

/// A vote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vote {
    /// 1 prevote, 2 precommit; anything else is refused by the session.
    pub kind: i32,
    /// Height.
    pub height: i64,
    /// Round.
    pub round: i64,
    /// What it is for.
    pub block_id: BlockId,
    /// When.
    pub timestamp: Timestamp,
    /// Who.
    pub validator_address: Vec<u8>,
    /// Place in the validator set.
    pub validator_index: i64,
    /// Signature, in replies.
    pub signature: Vec<u8>,
    /// Vote extension (v0.38 and newer).
    pub extension: Vec<u8>,
    /// Signature of the extension, in replies.
    pub extension_signature: Vec<u8>,
    /// Fields that are not known here, whole.
    pub unknown: Vec<u8>,
}

/// A proposal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proposal {
    /// 32.
    pub kind: i32,
    /// Height.
    pub height: i64,
    /// Round.
    pub round: i64,
    /// Round of the proof of lock, −1 for none.
    pub pol_round: i64,
    /// What is proposed.
    pub block_id: BlockId,
    /// When.
    pub timestamp: Timestamp,
    /// Signature, in replies.
    pub signature: Vec<u8>,
    /// Fields that are not known here, whole.
    pub unknown: Vec<u8>,
}

pub(crate) fn timestamp(bytes: &[u8]) -> Result<Timestamp, WireError> {
    let mut out = Timestamp::default();
    for field in Fields(bytes) {
        let field = field?;
        match field.number {
            1 => out.seconds = field.int64()?,
            2 => out.nanos = field.int32()?,
            _ => {}
        }
    }
    Ok(out)
}

pub(crate) fn put_timestamp(out: &mut Vec<u8>, number: u64, time: Timestamp) {
    let mut inner = Vec::with_capacity(20);
    put_int(&mut inner, 1, time.seconds);
    put_int(&mut inner, 2, i64::from(time.nanos));
    put_bytes(out, number, &inner);
}

pub(crate) fn block_id(bytes: &[u8]) -> Result<BlockId, WireError> {
    let mut out = BlockId::default();
    for field in Fields(bytes) {
        let field = field?;
        match field.number {
            1 => out.hash = field.bytes()?.to_vec(),
            2 => {
                for field in Fields(field.bytes()?) {
                    let field = field?;
                    match field.number {
                        1 => out.parts.total = field.uint32()?,
                        2 => out.parts.hash = field.bytes()?.to_vec(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

fn put_block_id(out: &mut Vec<u8>, number: u64, id: &BlockId) {
    let mut parts = Vec::with_capacity(40);
    put_int(&mut parts, 1, i64::from(id.parts.total));
    put_filled(&mut parts, 2, &id.parts.hash);
    let mut inner = Vec::with_capacity(80);
    put_filled(&mut inner, 1, &id.hash);
    put_bytes(&mut inner, 2, &parts);
    put_bytes(out, number, &inner);
}

impl Vote {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut out = Self::default();
        for field in Fields(bytes) {
            let field: Field<'_> = field?;
            match field.number {
                1 => out.kind = field.int32()?,
                2 => out.height = field.int64()?,
                3 => out.round = field.int64()?,
                4 => out.block_id = block_id(field.bytes()?)?,
                5 => out.timestamp = timestamp(field.bytes()?)?,
                6 => out.validator_address = field.bytes()?.to_vec(),
                7 => out.validator_index = field.int64()?,
                8 => out.signature = field.bytes()?.to_vec(),
                9 => out.extension = field.bytes()?.to_vec(),
                10 => out.extension_signature = field.bytes()?.to_vec(),
                _ => out.unknown.extend_from_slice(field.raw),
            }
        }
        Ok(out)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.extension.len());
        put_int(&mut out, 1, i64::from(self.kind));
        put_int(&mut out, 2, self.height);
        put_int(&mut out, 3, self.round);
        put_block_id(&mut out, 4, &self.block_id);
        put_timestamp(&mut out, 5, self.timestamp);
        put_filled(&mut out, 6, &self.validator_address);
        put_int(&mut out, 7, self.validator_index);
        put_filled(&mut out, 8, &self.signature);
        put_filled(&mut out, 9, &self.extension);
        put_filled(&mut out, 10, &self.extension_signature);
        out.extend_from_slice(&self.unknown);
        out
    }
}

impl Proposal {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut out = Self::default();
        for field in Fields(bytes) {
            let field: Field<'_> = field?;
            match field.number {
                1 => out.kind = field.int32()?,
                2 => out.height = field.int64()?,
                3 => out.round = field.int64()?,
                4 => out.pol_round = field.int64()?,
                5 => out.block_id = block_id(field.bytes()?)?,
                6 => out.timestamp = timestamp(field.bytes()?)?,
                7 => out.signature = field.bytes()?.to_vec(),
                _ => out.unknown.extend_from_slice(field.raw),
            }
        }
        Ok(out)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        put_int(&mut out, 1, i64::from(self.kind));
        put_int(&mut out, 2, self.height);
        put_int(&mut out, 3, self.round);
        put_int(&mut out, 4, self.pol_round);
        put_block_id(&mut out, 5, &self.block_id);
        put_timestamp(&mut out, 6, self.timestamp);
        put_filled(&mut out, 7, &self.signature);
        out.extend_from_slice(&self.unknown);
        out
    }
}
