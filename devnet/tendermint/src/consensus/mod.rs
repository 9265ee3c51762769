//! The consensus rules of Tendermint as a pure state machine: no socket, clock, disk or randomness.
//!
//! Follows *The latest gossip on BFT consensus* (arXiv 1807.04938), algorithm 1, whose line numbers the rules cite, with
//! Tendermint's proposer rotation and its wait after a commit. Signatures are made outside: the machine asks
//! ([`Effect::Sign`]) and goes on; the answer comes back as an [`Event`], or never.

pub mod block;
pub mod canonical;
pub mod machine;
pub mod tally;
pub mod timeouts;
pub mod validators;
pub mod vote;

pub use block::{Block, BlockId, Commit, CommitSignature, Height, Round, SharedBlock, Time};
pub use canonical::Encoding;
pub use machine::{Effect, Event, Machine, Settings};
pub use timeouts::{Step, Timeout, TimeoutKind, Timeouts};
pub use validators::{Validator, ValidatorSet, ValidatorsError};
pub use vote::{Kind, Proposal, SignRequest, Signed, SignedProposal, SignedVote, Verified, Vote, VoteKind};
