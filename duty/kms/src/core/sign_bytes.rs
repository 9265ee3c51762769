//! The exact bytes that a vote or proposal signature is over: a length and the canonical message.
//!
//! | CanonicalVote | # | | CanonicalProposal | # | |
//! |---|---|---|---|---|---|
//! | type | 1 | varint | type (32) | 1 | varint |
//! | height, round | 2, 3 | sfixed64 | height, round | 2, 3 | sfixed64 |
//! | block id, absent for nil | 4 | message | POL round | 4 | varint; fixed64 in amino |
//! | timestamp, always there | 5 | message | block id, absent for nil | 5 | message |
//! | chain id | 6 | string | timestamp, always there | 6 | message |
//! | | | | chain id | 7 | string |
//!
//! Zero values are absent; in amino also a timestamp of 1970 exactly. The canonical part set header is {1: total, 2: hash};
//! in amino {1: hash, 2: total}. A signature is over the bytes that are built *here* from the decoded request, never over
//! bytes that a peer gave.

use crate::wire::proto::{Fields, Value, put_bytes, put_filled, put_fixed, put_int, put_varint, varint};
use crate::wire::types::{put_timestamp, timestamp};
use crate::wire::{BlockId, Family, PartSetHeader, Proposal, SignedType, Timestamp, Vote, WireError};
use semel_guard::Step;

/// A message in both shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignBytes {
    /// What is signed.
    pub bytes: Vec<u8>,
    /// The same without the timestamp, and written alike in both families: what makes two requests the same question.
    pub content: Vec<u8>,
}

/// A canonical message, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// Prevote, precommit or proposal.
    pub kind: SignedType,
    /// Height.
    pub height: i64,
    /// Round.
    pub round: i64,
    /// Block, nil where there is none.
    pub block_id: BlockId,
    /// When.
    pub timestamp: Timestamp,
    /// Chain.
    pub chain_id: String,
}

impl Canonical {
    /// The vote it is; None for a proposal.
    pub fn to_vote(&self) -> Option<Vote> {
        (self.kind != SignedType::Proposal).then(|| Vote {
            kind: self.kind.code(),
            height: self.height,
            round: self.round,
            block_id: self.block_id.clone(),
            timestamp: self.timestamp,
            ..Vote::default()
        })
    }

    /// The step it belongs to.
    pub fn step(&self) -> Step {
        self.kind.step()
    }
}

/// Sign bytes of a vote.
pub fn vote(family: Family, vote: &Vote, chain_id: &str) -> SignBytes {
    let head = |family| {
        let mut head = Vec::with_capacity(160);
        put_int(&mut head, 1, i64::from(vote.kind));
        put_fixed(&mut head, 2, vote.height);
        put_fixed(&mut head, 3, vote.round);
        put_canonical_block(&mut head, family, 4, &vote.block_id);
        head
    };
    finish(family, head, 5, vote.timestamp, 6, chain_id)
}

/// Sign bytes of a proposal.
pub fn proposal(family: Family, proposal: &Proposal, chain_id: &str) -> SignBytes {
    let head = |family| {
        let mut head = Vec::with_capacity(160);
        put_int(&mut head, 1, i64::from(proposal.kind));
        put_fixed(&mut head, 2, proposal.height);
        put_fixed(&mut head, 3, proposal.round);
        match family {
            Family::Protobuf => put_int(&mut head, 4, proposal.pol_round),
            Family::Amino => put_fixed(&mut head, 4, proposal.pol_round),
        }
        put_canonical_block(&mut head, family, 5, &proposal.block_id);
        head
    };
    finish(family, head, 6, proposal.timestamp, 7, chain_id)
}

fn finish(
    family: Family,
    head: impl Fn(Family) -> Vec<u8>,
    time_field: u64,
    time: Timestamp,
    chain_field: u64,
    chain_id: &str,
) -> SignBytes {
    let mut tail = Vec::with_capacity(chain_id.len() + 2);
    put_filled(&mut tail, chain_field, chain_id.as_bytes());
    let mut stamp = Vec::with_capacity(24);
    // Amino takes 1970 for the zero of times and leaves it out, like every other zero.
    if family == Family::Protobuf || time != Timestamp::default() {
        put_timestamp(&mut stamp, time_field, time);
    }
    let signed = head(family);
    let length = signed.len() + stamp.len() + tail.len();
    let mut bytes = Vec::with_capacity(length + 3);
    put_varint(&mut bytes, length as u64);
    bytes.extend_from_slice(&signed);
    bytes.extend_from_slice(&stamp);
    bytes.extend_from_slice(&tail);
    let mut content = if family == Family::Protobuf { signed } else { head(Family::Protobuf) };
    content.append(&mut tail);
    SignBytes { bytes, content }
}

fn put_canonical_block(out: &mut Vec<u8>, family: Family, number: u64, id: &BlockId) {
    if id.is_nil() {
        return;
    }
    let mut parts = Vec::with_capacity(40);
    let total = i64::from(id.parts.total);
    match family {
        Family::Protobuf => {
            put_int(&mut parts, 1, total);
            put_filled(&mut parts, 2, &id.parts.hash);
        }
        Family::Amino => {
            put_filled(&mut parts, 1, &id.parts.hash);
            put_int(&mut parts, 2, total);
        }
    }
    let mut inner = Vec::with_capacity(80);
    put_filled(&mut inner, 1, &id.hash);
    // Protobuf writes the header even where it is empty; amino leaves an empty struct out.
    match family {
        Family::Protobuf => put_bytes(&mut inner, 2, &parts),
        Family::Amino => put_filled(&mut inner, 2, &parts),
    }
    put_bytes(out, number, &inner);
}

/// Reads sign bytes of a vote or proposal back. Which family wrote them shows in the part set header.
pub fn read(bytes: &[u8]) -> Result<Canonical, WireError> {
    let (length, body) = varint(bytes)?.ok_or(WireError::Truncated)?;
    if body.len() as u64 != length {
        return Err(WireError::Truncated);
    }
    let first = Fields(body).next().ok_or(WireError::Truncated)??;
    let kind = match first.number {
        1 => SignedType::from_code(first.int32()?).ok_or(WireError::Field(1))?,
        _ => return Err(WireError::Field(1)),
    };
    // Behind the round, a proposal has one field more.
    let shift = u64::from(kind == SignedType::Proposal);
    let mut out = Canonical {
        kind,
        height: 0,
        round: 0,
        block_id: BlockId::default(),
        timestamp: Timestamp::default(),
        chain_id: String::new(),
    };
    for field in Fields(body) {
        let field = field?;
        match field.number {
            2 => out.height = field.fixed_int()?,
            3 => out.round = field.fixed_int()?,
            number if number == 4 + shift => out.block_id = canonical_block(field.bytes()?)?,
            number if number == 5 + shift => out.timestamp = timestamp(field.bytes()?)?,
            number if number == 6 + shift => out.chain_id = field.string()?,
            _ => {}
        }
    }
    Ok(out)
}

fn canonical_block(bytes: &[u8]) -> Result<BlockId, WireError> {
    let mut out = BlockId::default();
    for field in Fields(bytes) {
        let field = field?;
        match field.number {
            1 => out.hash = field.bytes()?.to_vec(),
            2 => {
                let mut parts = PartSetHeader::default();
                for field in Fields(field.bytes()?) {
                    let field = field?;
                    match field.value {
                        Value::Varint(_) => parts.total = field.uint32()?,
                        _ => parts.hash = field.bytes()?.to_vec(),
                    }
                }
                out.parts = parts;
            }
            _ => {}
        }
    }
    Ok(out)
}
