//! Votes and proposals, unsigned and signed.
//!
//! A signed message becomes [`Verified`] only in the [evidence pool](crate::evidence), and only verified messages reach the
//! state machine.

use super::block::{BlockId, Height, Round, SharedBlock, Time};
use std::fmt;

/// What was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A proposal.
    Proposal,
    /// A prevote.
    Prevote,
    /// A precommit.
    Precommit,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proposal => "proposal",
            Self::Prevote => "prevote",
            Self::Precommit => "precommit",
        })
    }
}

/// The two kinds of votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteKind {
    /// First vote of a round.
    Prevote,
    /// Second vote of a round.
    Precommit,
}

impl From<VoteKind> for Kind {
    fn from(kind: VoteKind) -> Self {
        match kind {
            VoteKind::Prevote => Self::Prevote,
            VoteKind::Precommit => Self::Precommit,
        }
    }
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// Prevote or precommit.
    pub kind: VoteKind,
    /// Its height.
    pub height: Height,
    /// Its round.
    pub round: Round,
    /// The block, or `None` for nil.
    pub block: Option<BlockId>,
    /// When it was cast; signed.
    pub time: Time,
    /// Index of the voter; not signed.
    pub validator: u32,
    /// Vote extension of a non-nil precommit; signed by a signature of its own.
    pub extension: Vec<u8>,
}

/// A proposal. The block itself travels beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its height.
    pub height: Height,
    /// Its round.
    pub round: Round,
    /// The round with a polka for this block, if it is proposed again.
    pub pol_round: Option<Round>,
    /// The proposed block.
    pub block: BlockId,
    /// When it was made; signed.
    pub time: Time,
}

/// A vote with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedVote {
    /// What was signed.
    pub vote: Vote,
    /// Ed25519 signature of the canonical vote.
    pub signature: [u8; 64],
    /// Ed25519 signature of the canonical vote extension.
    pub extension_signature: Option<[u8; 64]>,
}

/// A proposal with its signature, its author and the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedProposal {
    /// What was signed.
    pub proposal: Proposal,
    /// Index of the validator whose signature this is.
    pub proposer: u32,
    /// The block that the proposal names.
    pub block: SharedBlock,
    /// Ed25519 signature of the canonical proposal.
    pub signature: [u8; 64],
}

/// A message whose signatures were verified. Only the evidence pool makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(crate) const fn new(message: T) -> Self {
        Self(message)
    }

    /// The message.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// A look at the message.
    pub const fn get(&self) -> &T {
        &self.0
    }
}

/// What the state machine asks its signer for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignRequest {
    /// A proposal and the block it names.
    Proposal(Proposal, SharedBlock),
    /// A vote.
    Vote(Vote),
}

impl SignRequest {
    /// Height of the message.
    pub const fn height(&self) -> Height {
        match self {
            Self::Proposal(proposal, _) => proposal.height,
            Self::Vote(vote) => vote.height,
        }
    }

    /// Round of the message.
    pub const fn round(&self) -> Round {
        match self {
            Self::Proposal(proposal, _) => proposal.round,
            Self::Vote(vote) => vote.round,
        }
    }

    /// Kind of the message.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Proposal(..) => Kind::Proposal,
            Self::Vote(vote) => vote.kind.into(),
        }
    }

    /// The block it names, or `None` for nil.
    pub const fn block(&self) -> Option<BlockId> {
        match self {
            Self::Proposal(proposal, _) => Some(proposal.block),
            Self::Vote(vote) => vote.block,
        }
    }
}

/// What the signer gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// A proposal.
    Proposal(SignedProposal),
    /// A vote; its time may be an earlier one than was asked for.
    Vote(SignedVote),
}
