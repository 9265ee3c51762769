//! Messages between a node and its signer, seen from the node: requests are written, answers are read.
//!
//! Follows `proto/tendermint/privval/types.proto` (v0.34 to v0.40) and the registered amino messages of v0.33 and older. The
//! signer's codec is another one; that the two agree is part of what a network shows.

use super::fields::{Field, FieldError, Reader, write_bytes, write_number, write_struct};
use crate::consensus::{BlockId, Encoding, Proposal, Time, Vote, VoteKind};

/// Longest answer that a node reads (v0.34 to v0.39), in bytes.
pub const ANSWER_MAX: usize = 10_240;
/// Longest description of an error that is kept, in bytes.
pub const DESCRIPTION_MAX: usize = 1_024;

/// A question to the signer.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// Which key do you have?
    PubKey,
    /// Are you there?
    Ping,
    /// Sign this vote of the validator with this address.
    Vote(&'a Vote, [u8; 20]),
    /// Sign this proposal.
    Proposal(&'a Proposal),
}

/// What a signer says about a vote or proposal: the fields as they came back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Echo {
    /// Type of the message: 1, 2 or 32.
    pub kind: i64,
    /// Height.
    pub height: i64,
    /// Round.
    pub round: i64,
    /// Proof-of-lock round of a proposal.
    pub pol_round: i64,
    /// The block, or `None` for nil.
    pub block: Option<BlockId>,
    /// The signed time.
    pub time: Time,
    /// Address of the voter.
    pub address: Vec<u8>,
    /// Index of the voter.
    pub index: i64,
    /// The signature.
    pub signature: Vec<u8>,
    /// The vote extension.
    pub extension: Vec<u8>,
    /// Signature of the extension.
    pub extension_signature: Vec<u8>,
}

/// An error that the signer answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("code {code}: {description}")]
pub struct SignerError {
    /// Its code.
    pub code: i32,
    /// Its words.
    pub description: String,
}

/// A key that the signer says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerKey {
    /// 32 bytes.
    Ed25519([u8; 32]),
    /// 33 bytes, compressed.
    Secp256k1([u8; 33]),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Request::PubKey`].
    PubKey(Result<SignerKey, SignerError>),
    /// To [`Request::Ping`].
    Pong,
    /// To [`Request::Vote`].
    Vote(Result<Echo, SignerError>),
    /// To [`Request::Proposal`].
    Proposal(Result<Echo, SignerError>),
}

/// An answer that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// A field is broken.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The message is none that a signer sends.
    #[error("this is no answer of a signer")]
    Unknown,
    /// Neither a result nor an error.
    #[error("the answer is empty")]
    Empty,
}

const AMINO_PUB_KEY_REQUEST: [u8; 4] = [0xcb, 0x94, 0xd6, 0x20];
const AMINO_PUB_KEY_RESPONSE: [u8; 4] = [0x17, 0x0e, 0xd5, 0x7c];
const AMINO_VOTE_REQUEST: [u8; 4] = [0xf3, 0xf4, 0x12, 0x04];
const AMINO_VOTE_RESPONSE: [u8; 4] = [0xb2, 0x48, 0xa6, 0x16];
const AMINO_PROPOSAL_REQUEST: [u8; 4] = [0xbd, 0xe4, 0x98, 0xe2];
const AMINO_PROPOSAL_RESPONSE: [u8; 4] = [0x4a, 0x04, 0xfb, 0x87];
const AMINO_PING_REQUEST: [u8; 4] = [0x1b, 0xad, 0xb6, 0x0d];
const AMINO_PING_RESPONSE: [u8; 4] = [0xa2, 0x9a, 0x03, 0x1a];
const AMINO_ED25519: [u8; 5] = [0x16, 0x24, 0xde, 0x64, 0x20];

/// Buffers that are used again for every message.
#[derive(Debug, Default)]
pub struct Scratch {
    inner: Vec<u8>,
    middle: Vec<u8>,
    outer: Vec<u8>,
    pub(super) delimited: Vec<u8>,
}

impl Request<'_> {
    /// Writes the request without its length into `out`, which is cleared first.
    pub fn write(&self, encoding: Encoding, chain: &str, scratch: &mut Scratch, out: &mut Vec<u8>) {
        out.clear();
        scratch.outer.clear();
        let chain = if encoding == Encoding::Protobuf { chain } else { "" };
        match self {
            Self::PubKey => write_bytes(&mut scratch.outer, 1, chain.as_bytes()),
            Self::Ping => {}
            Self::Vote(vote, address) => {
                write_vote(encoding, vote, address, scratch);
                write_struct(&mut scratch.outer, 1, &scratch.middle);
                write_bytes(&mut scratch.outer, 2, chain.as_bytes());
            }
            Self::Proposal(proposal) => {
                write_proposal(encoding, proposal, scratch);
                write_struct(&mut scratch.outer, 1, &scratch.middle);
                write_bytes(&mut scratch.outer, 2, chain.as_bytes());
            }
        }
        let (field, prefix) = match self {
            Self::PubKey => (1, AMINO_PUB_KEY_REQUEST),
            Self::Vote(..) => (3, AMINO_VOTE_REQUEST),
            Self::Proposal(_) => (5, AMINO_PROPOSAL_REQUEST),
            Self::Ping => (7, AMINO_PING_REQUEST),
        };
        match encoding {
            Encoding::Protobuf => write_struct(out, field, &scratch.outer),
            Encoding::Amino => {
                out.extend_from_slice(&prefix);
                out.extend_from_slice(&scratch.outer);
            }
        }
    }
}

fn write_vote(encoding: Encoding, vote: &Vote, address: &[u8], scratch: &mut Scratch) {
    let kind = match vote.kind {
        VoteKind::Prevote => 1,
        VoteKind::Precommit => 2,
    };
    scratch.middle.clear();
    write_number(&mut scratch.middle, 1, kind);
    write_number(&mut scratch.middle, 2, vote.height.0.cast_signed());
    write_number(&mut scratch.middle, 3, i64::from(vote.round.0));
    write_block_id(encoding, vote.block.as_ref(), 4, scratch);
    write_time(vote.time, 5, scratch);
    write_bytes(&mut scratch.middle, 6, address);
    write_number(&mut scratch.middle, 7, i64::from(vote.validator));
    write_bytes(&mut scratch.middle, 9, &vote.extension);
}

fn write_proposal(encoding: Encoding, proposal: &Proposal, scratch: &mut Scratch) {
    scratch.middle.clear();
    write_number(&mut scratch.middle, 1, 32);
    write_number(&mut scratch.middle, 2, proposal.height.0.cast_signed());
    write_number(&mut scratch.middle, 3, i64::from(proposal.round.0));
    write_number(&mut scratch.middle, 4, proposal.pol_round.map_or(-1, |round| i64::from(round.0)));
    write_block_id(encoding, Some(&proposal.block), 5, scratch);
    write_time(proposal.time, 6, scratch);
}

fn write_block_id(encoding: Encoding, block: Option<&BlockId>, field: u8, scratch: &mut Scratch) {
    match (block, encoding) {
        // A protobuf node writes the empty inner structs of a nil block id; an amino node leaves them out.
        (None, Encoding::Protobuf) => write_struct(&mut scratch.middle, field, &[0x12, 0]),
        (None, Encoding::Amino) => {}
        (Some(id), _) => {
            let inner = &mut scratch.inner;
            inner.clear();
            write_bytes(inner, 1, &id.hash);
            let total_len = match id.parts_total {
                0 => 0_usize,
                total => 1 + (32 - total.leading_zeros()).div_ceil(7) as usize,
            };
            inner.push(0x12);
            inner.push((total_len as u8).saturating_add(34));
            write_number(inner, 1, i64::from(id.parts_total));
            write_bytes(inner, 2, &id.parts_hash);
            write_struct(&mut scratch.middle, field, inner);
        }
    }
}

fn write_time(time: Time, field: u8, scratch: &mut Scratch) {
    let inner = &mut scratch.inner;
    inner.clear();
    write_number(inner, 1, time.seconds);
    write_number(inner, 2, i64::from(time.nanos));
    write_struct(&mut scratch.middle, field, inner);
}

impl Answer {
    /// Reads an answer without its length.
    pub fn read(encoding: Encoding, bytes: &[u8]) -> Result<Self, AnswerError> {
        match encoding {
            Encoding::Protobuf => {
                let mut reader = Reader::new(bytes);
                let field = reader.field()?.ok_or(AnswerError::Empty)?;
                let body = field.bytes()?;
                match field.number {
                    2 => read_pub_key(encoding, body),
                    4 => read_signed(body, 8).map(Self::Vote),
                    6 => read_signed(body, 7).map(Self::Proposal),
                    8 => Ok(Self::Pong),
                    _ => Err(AnswerError::Unknown),
                }
            }
            Encoding::Amino => {
                let (prefix, body) = bytes.split_at_checked(4).ok_or(AnswerError::Unknown)?;
                match prefix {
                    p if p == AMINO_PUB_KEY_RESPONSE => read_pub_key(encoding, body),
                    p if p == AMINO_VOTE_RESPONSE => read_signed(body, 8).map(Self::Vote),
                    p if p == AMINO_PROPOSAL_RESPONSE => read_signed(body, 7).map(Self::Proposal),
                    p if p == AMINO_PING_RESPONSE => Ok(Self::Pong),
                    _ => Err(AnswerError::Unknown),
                }
            }
        }
    }
}

fn read_pub_key(encoding: Encoding, body: &[u8]) -> Result<Answer, AnswerError> {
    let (mut key, mut error) = (None, None);
    let mut reader = Reader::new(body);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => key = Some(read_key(encoding, &field)?),
            2 => error = Some(read_error(field.bytes()?)?),
            _ => {}
        }
    }
    match (error, key) {
        (Some(error), _) => Ok(Answer::PubKey(Err(error))),
        (None, Some(key)) => Ok(Answer::PubKey(Ok(key))),
        (None, None) => Err(AnswerError::Empty),
    }
}

fn read_key(encoding: Encoding, field: &Field<'_>) -> Result<SignerKey, AnswerError> {
    let bytes = field.bytes()?;
    match encoding {
        Encoding::Amino => {
            let key = bytes.strip_prefix(&AMINO_ED25519).ok_or(AnswerError::Unknown)?;
            Ok(SignerKey::Ed25519(key.try_into().map_err(|_| FieldError::Length(field.number))?))
        }
        Encoding::Protobuf => {
            let inner = Reader::new(bytes).field()?.ok_or(AnswerError::Empty)?;
            match inner.number {
                1 => Ok(SignerKey::Ed25519(inner.array()?)),
                2 => Ok(SignerKey::Secp256k1(inner.array()?)),
                _ => Err(AnswerError::Unknown),
            }
        }
    }
}

fn read_signed(body: &[u8], signature: u64) -> Result<Result<Echo, SignerError>, AnswerError> {
    let (mut echo, mut error) = (None, None);
    let mut reader = Reader::new(body);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => echo = Some(read_echo(field.bytes()?, signature == 7)?),
            2 => error = Some(read_error(field.bytes()?)?),
            _ => {}
        }
    }
    match (error, echo) {
        (Some(error), _) => Ok(Err(error)),
        (None, Some(echo)) => Ok(Ok(echo)),
        (None, None) => Err(AnswerError::Empty),
    }
}

fn read_echo(body: &[u8], is_proposal: bool) -> Result<Echo, AnswerError> {
    let mut echo = Echo::default();
    let mut reader = Reader::new(body);
    while let Some(field) = reader.field()? {
        match (field.number, is_proposal) {
            (1, _) => echo.kind = field.signed()?,
            (2, _) => echo.height = field.signed()?,
            (3, _) => echo.round = field.signed()?,
            (4, true) => echo.pol_round = field.signed()?,
            (4, false) | (5, true) => echo.block = read_block_id(field.bytes()?)?,
            (5, false) | (6, true) => echo.time = read_time(field.bytes()?)?,
            (6, false) => echo.address = field.bytes()?.to_vec(),
            (7, false) => echo.index = field.signed()?,
            (8, false) | (7, true) => echo.signature = field.bytes()?.to_vec(),
            (9, false) => echo.extension = field.bytes()?.to_vec(),
            (10, false) => echo.extension_signature = field.bytes()?.to_vec(),
            _ => {}
        }
    }
    Ok(echo)
}

fn read_block_id(body: &[u8]) -> Result<Option<BlockId>, AnswerError> {
    let mut id = BlockId { hash: [0; 32], parts_total: 0, parts_hash: [0; 32] };
    let mut nil = true;
    let mut reader = Reader::new(body);
    while let Some(field) = reader.field()? {
        match field.number {
            1 if !field.bytes()?.is_empty() => {
                id.hash = field.array()?;
                nil = false;
            }
            2 => {
                let mut parts = Reader::new(field.bytes()?);
                while let Some(part) = parts.field()? {
                    match part.number {
                        1 => {
                            id.parts_total = part.number()?;
                            nil = nil && id.parts_total == 0;
                        }
                        2 if !part.bytes()?.is_empty() => {
                            id.parts_hash = part.array()?;
                            nil = false;
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok((!nil).then_some(id))
}

fn read_time(body: &[u8]) -> Result<Time, AnswerError> {
    let mut time = Time::default();
    let mut reader = Reader::new(body);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => time.seconds = field.signed()?,
            2 => time.nanos = field.number()?,
            _ => {}
        }
    }
    Ok(time)
}

fn read_error(body: &[u8]) -> Result<SignerError, AnswerError> {
    let (mut code, mut description) = (0, String::new());
    let mut reader = Reader::new(body);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => code = field.number()?,
            2 => {
                let bytes = field.bytes()?;
                let kept = bytes.get(..bytes.len().min(DESCRIPTION_MAX)).unwrap_or_default();
                description = String::from_utf8_lossy(kept).into_owned();
            }
            _ => {}
        }
    }
    Ok(SignerError { code, description })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Height, Round};

    fn written(encoding: Encoding, request: Request<'_>) -> String {
        let mut out = Vec::new();
        request.write(encoding, "c", &mut Scratch::default(), &mut out);
        hex::encode(out)
    }

    #[test]
    fn requests_have_the_bytes_of_a_node() {
        let block = BlockId { hash: [1; 32], parts_total: 300, parts_hash: [2; 32] };
        let time = Time { seconds: 1, nanos: 2 };
        let (height, round) = (Height(3), Round(0));
        let nil =
            Vote { kind: VoteKind::Prevote, height, round, block: None, time, validator: 1, extension: Vec::new() };
        let proposal = Proposal { height, round, pol_round: None, block, time };
        let (one, two, address) = ("01".repeat(32), "02".repeat(32), "aa".repeat(20));
        let id = format!("0a20{one}122508ac021220{two}");
        let none = "20ffffffffffffffffff01";
        let table = [
            (Encoding::Protobuf, Request::PubKey, "0a030a0163".into()),
            (Encoding::Protobuf, Request::Ping, "3a00".into()),
            (Encoding::Amino, Request::PubKey, "cb94d620".into()),
            (Encoding::Amino, Request::Ping, "1badb60d".into()),
            (
                Encoding::Protobuf,
                Request::Vote(&nil, [0xaa; 20]),
                format!("1a2b0a2608011003220212002a04080110023214{address}3801120163"),
            ),
            (
                Encoding::Amino,
                Request::Vote(&nil, [0xaa; 20]),
                format!("f3f412040a22080110032a04080110023214{address}3801"),
            ),
            (
                Encoding::Protobuf,
                Request::Proposal(&proposal),
                format!("2a650a600820100 3{none}2a49{id}320408011002120163").replace(' ', ""),
            ),
            (Encoding::Amino, Request::Proposal(&proposal), format!("bde498e20a6008201003{none}2a49{id}320408011002")),
        ];
        for (encoding, request, expected) in table {
            assert_eq!(written(encoding, request), expected, "{encoding:?} {request:?}");
        }
    }

    #[test]
    fn answers_are_read_and_unknown_fields_skipped() {
        let read = |encoding, bytes: &str| Answer::read(encoding, &hex::decode(bytes).unwrap());
        let key = "07".repeat(32);
        let refusal = || SignerError { code: 2, description: "no".into() };
        let table = [
            (Encoding::Protobuf, "4200".into(), Ok(Answer::Pong)),
            (Encoding::Amino, "a29a031a".into(), Ok(Answer::Pong)),
            (Encoding::Protobuf, format!("12240a220a20{key}"), Ok(Answer::PubKey(Ok(SignerKey::Ed25519([7; 32]))))),
            (
                Encoding::Protobuf,
                format!("124f0a220a20{key}1a20{key}2207656432353531 39").replace(' ', ""),
                Ok(Answer::PubKey(Ok(SignerKey::Ed25519([7; 32])))),
            ),
            (
                Encoding::Amino,
                format!("170ed57c0a251624de6420{key}"),
                Ok(Answer::PubKey(Ok(SignerKey::Ed25519([7; 32])))),
            ),
            (Encoding::Protobuf, "2208120608021202 6e6f".replace(' ', ""), Ok(Answer::Vote(Err(refusal())))),
            (Encoding::Protobuf, "320812060802 12026e6f".replace(' ', ""), Ok(Answer::Proposal(Err(refusal())))),
            (Encoding::Amino, "b248a616120608021202 6e6f".replace(' ', ""), Ok(Answer::Vote(Err(refusal())))),
            (Encoding::Protobuf, "2200".into(), Err(AnswerError::Empty)),
            (Encoding::Protobuf, String::new(), Err(AnswerError::Empty)),
            (Encoding::Protobuf, "5200".into(), Err(AnswerError::Unknown)),
            (Encoding::Amino, "00000000".into(), Err(AnswerError::Unknown)),
            (Encoding::Protobuf, format!("12230a210a1f{}", "07".repeat(31)), Err(FieldError::Length(1).into())),
        ];
        for (encoding, bytes, expected) in table {
            assert_eq!(read(encoding, &bytes), expected, "{bytes}");
        }
    }
}
