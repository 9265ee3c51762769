//! The signer's side of a session: what each request deserves.
//!
//! | Situation | Answer |
//! |---|---|
//! | conflict, regression | error reply, code 2; the session goes on |
//! | wrong chain, above `max_height`, malformed vote, key failure, unknown member | error reply, code 1; the session goes on |
//! | raw bytes that cannot be a vote (`raw_bytes`) | a signature; there is no position to record |
//! | other raw bytes | error reply, code 1; the session goes on |
//! | bytes that are no message | the session ends |
//!
//! Vote extensions: signed for every precommit for a block (empty ones too: v0.38.0 to v0.38.10 and v1.0.0 panic without), never
//! for a prevote or a nil precommit (newer nodes panic with), and not at all in amino.

use super::raw_bytes::{BytesToSign, RawBytes};
use super::sign_bytes::{self, SignBytes};
use crate::wire::{BlockId, Timestamp};
use crate::wire::{ErrorReply, Family, HASH_LEN, Proposal, Request, Response, SignedType, Vote};
use semel_guard::{Position, PublicKey, Signature};

/// When vote extensions are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extensions {
    /// With every precommit for a block.
    #[default]
    Always,
    /// Only where there is one: `sign_extensions = false` in a configuration.
    Filled,
}

/// What a session knows.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The chain that is signed for.
    pub chain_id: String,
    /// The key that signs.
    pub public_key: PublicKey,
    /// Highest height that is signed.
    pub max_height: Option<u64>,
    /// When vote extensions are signed.
    pub extensions: Extensions,
    /// Which bytes are signed that are no vote and no proposal.
    pub raw_bytes: RawBytes,
}

/// A vote or proposal that may be signed, if the guard agrees.
#[derive(Debug, Clone)]
pub struct ToSign {
    /// Where it belongs.
    pub position: Position,
    /// What it is.
    pub kind: SignedType,
    /// Height, positive.
    pub height: i64,
    /// Round, not negative.
    pub round: i64,
    /// The bytes to sign.
    pub sign_bytes: SignBytes,
    /// Sign the vote extension too.
    pub with_extension: bool,
    message: Message,
}

#[derive(Debug, Clone)]
enum Message {
    Vote(Vote),
    Proposal(Proposal),
}

/// What a request deserves.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// An answer at once.
    Reply(Response),
    /// An answer at once, and a word in the log.
    Refuse(Response),
    /// Ask the guard.
    Sign(Box<ToSign>),
    /// Sign these; they cannot be a vote.
    SignBytes(Box<BytesToSign>),
}

/// Error code: cannot.
pub const CODE_CANNOT: i32 = 1;
/// Error code: would be a double signature or a step back.
pub const CODE_DOUBLE_SIGN: i32 = 2;

impl Terms {
    /// Decides one request.
    pub fn decide(&self, family: Family, request: Request) -> Verdict {
        match request {
            Request::Ping => Verdict::Reply(Response::Ping),
            Request::PubKey { chain_id } => match self.check_chain(family, &chain_id) {
                Ok(()) => Verdict::Reply(Response::PubKey(Ok(self.public_key.clone()))),
                Err(error) => Verdict::Refuse(Response::PubKey(Err(error))),
            },
            Request::SignVote { vote, chain_id, skip_extension_signing } => {
                match self.vote(family, &vote, &chain_id, skip_extension_signing) {
                    Ok(accepted) => accepted.with(Message::Vote(vote)),
                    Err(error) => Verdict::Refuse(Response::SignedVote(Err(error))),
                }
            }
            Request::SignProposal { proposal, chain_id } => match self.proposal(family, &proposal, &chain_id) {
                Ok(accepted) => accepted.with(Message::Proposal(proposal)),
                Err(error) => Verdict::Refuse(Response::SignedProposal(Err(error))),
            },
            Request::SignBytes { body } => match self.raw_bytes.decide(&self.chain_id, &body) {
                Ok(wanted) => Verdict::SignBytes(Box::new(wanted)),
                Err(why) => Verdict::Refuse(Response::SignedBytes(Err(cannot(why.to_string())))),
            },
            Request::Unknown { tag } => {
                Verdict::Refuse(Response::SignedBytes(Err(cannot(format!("request {tag} is not known here")))))
            }
        }
    }

    fn check_chain(&self, family: Family, chain_id: &str) -> Result<(), ErrorReply> {
        // Amino requests name no chain.
        if family == Family::Amino || chain_id == self.chain_id {
            return Ok(());
        }
        let shown: String = chain_id.chars().take(64).collect();
        Err(cannot(format!("this signer is for chain {:?}, the request is for {shown:?}", self.chain_id)))
    }

    fn vote(&self, family: Family, vote: &Vote, chain_id: &str, skip: bool) -> Result<Accepted, ErrorReply> {
        self.check_chain(family, chain_id)?;
        let kind = SignedType::from_code(vote.kind).filter(|kind| *kind != SignedType::Proposal);
        let kind = kind.ok_or_else(|| cannot(format!("{} is not the type of a vote", vote.kind)))?;
        let position = self.position(kind, vote.height, vote.round, &vote.block_id, vote.timestamp)?;
        let for_block = kind == SignedType::Precommit && !vote.block_id.is_nil();
        if !for_block && !vote.extension.is_empty() {
            return Err(cannot("only a precommit for a block carries a vote extension".into()));
        }
        let wanted = self.extensions == Extensions::Always || !vote.extension.is_empty();
        let with_extension = for_block && wanted && !skip && family == Family::Protobuf;
        let sign_bytes = sign_bytes::vote(family, vote, &self.chain_id);
        Ok(Accepted { position, kind, height: vote.height, round: vote.round, sign_bytes, with_extension })
    }

    fn proposal(&self, family: Family, proposal: &Proposal, chain_id: &str) -> Result<Accepted, ErrorReply> {
        self.check_chain(family, chain_id)?;
        let Proposal { height, round, pol_round, block_id, timestamp, .. } = proposal;
        if proposal.kind != SignedType::Proposal.code() {
            return Err(cannot(format!("{} is not the type of a proposal", proposal.kind)));
        }
        if *pol_round < -1 || *pol_round >= (*round).max(0) {
            return Err(cannot(format!("a proposal of round {round} cannot rest on round {pol_round}")));
        }
        if block_id.is_nil() {
            return Err(cannot("a proposal names a block".into()));
        }
        let position = self.position(SignedType::Proposal, *height, *round, block_id, *timestamp)?;
        let sign_bytes = sign_bytes::proposal(family, proposal, &self.chain_id);
        let (height, round, kind) = (*height, *round, SignedType::Proposal);
        Ok(Accepted { position, kind, height, round, sign_bytes, with_extension: false })
    }

    fn position(
        &self,
        kind: SignedType,
        height: i64,
        round: i64,
        block_id: &BlockId,
        timestamp: Timestamp,
    ) -> Result<Position, ErrorReply> {
        let positive = u64::try_from(height).ok().filter(|height| *height > 0);
        let height = positive.ok_or_else(|| cannot(format!("height {height} is not positive")))?;
        let round = i32::try_from(round).ok().and_then(|round| u32::try_from(round).ok());
        let round = round.ok_or_else(|| cannot("the round is negative or too large".into()))?;
        if let Some(max) = self.max_height.filter(|max| height > *max) {
            return Err(cannot(format!("height {height} is above max_height {max}")));
        }
        for (what, hash) in [("block hash", &block_id.hash), ("part set hash", &block_id.parts.hash)] {
            if !hash.is_empty() && hash.len() != HASH_LEN {
                return Err(cannot(format!("a {what} has {HASH_LEN} bytes, this one has {}", hash.len())));
            }
        }
        if !(0..1_000_000_000).contains(&timestamp.nanos) {
            return Err(cannot(format!("{} is no number of nanoseconds", timestamp.nanos)));
        }
        Ok(Position::Tendermint { height, round, step: kind.step() })
    }
}

struct Accepted {
    position: Position,
    kind: SignedType,
    height: i64,
    round: i64,
    sign_bytes: SignBytes,
    with_extension: bool,
}

impl Accepted {
    fn with(self, message: Message) -> Verdict {
        let Self { position, kind, height, round, sign_bytes, with_extension } = self;
        Verdict::Sign(Box::new(ToSign { position, kind, height, round, sign_bytes, with_extension, message }))
    }
}

impl ToSign {
    /// The vote extension; empty where there is none.
    pub fn extension(&self) -> &[u8] {
        match &self.message {
            Message::Vote(vote) => &vote.extension,
            Message::Proposal(_) => &[],
        }
    }

    /// The block that is voted for or proposed.
    pub fn block_id(&self) -> &BlockId {
        match &self.message {
            Message::Vote(vote) => &vote.block_id,
            Message::Proposal(proposal) => &proposal.block_id,
        }
    }

    /// The reply with signatures. `signed` are the bytes that the signature is over: those of the first request at
    /// this position, whose timestamp goes back to the node.
    pub fn signed(self, signed: &[u8], signature: &Signature, extension: Option<&Signature>) -> Response {
        let stored = (signed != self.sign_bytes.bytes).then(|| sign_bytes::read(signed).ok()).flatten();
        let signature = signature.as_bytes().to_vec();
        match self.message {
            Message::Vote(vote) => Response::SignedVote(Ok(Vote {
                signature,
                timestamp: stored.map_or(vote.timestamp, |stored| stored.timestamp),
                extension_signature: extension.map(|signature| signature.as_bytes().to_vec()).unwrap_or_default(),
                ..vote
            })),
            Message::Proposal(proposal) => Response::SignedProposal(Ok(Proposal {
                signature,
                timestamp: stored.map_or(proposal.timestamp, |stored| stored.timestamp),
                ..proposal
            })),
        }
    }

    /// The reply that nothing was signed.
    pub fn refused(&self, code: i32, description: String) -> Response {
        let error = ErrorReply { code, description };
        match self.message {
            Message::Vote(_) => Response::SignedVote(Err(error)),
            Message::Proposal(_) => Response::SignedProposal(Err(error)),
        }
    }
}

fn cannot(description: String) -> ErrorReply {
    ErrorReply { code: CODE_CANNOT, description }
}
