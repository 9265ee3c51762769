//! The chain as its node tells it.
//!
//! | Module | Who is asked |
//! |---|---|
//! | `node` | a Cardano node, over its local socket |
//! | `cardano_cli` | `cardano-cli`, once per question |
//! | `fake` | nobody: what a test has set |
//!
//! Stakes are those of the *mark* snapshot of the current epoch. They are worth nothing when the epoch changes while they
//! are read: [`Observer::stakes`] gives them with the view they belong to, and refuses when the epoch moved.

pub mod cardano_cli;
pub mod fake;
pub mod node;
mod process;
mod session;
mod utxo;

use mithril_common::crypto_helper::KesPeriod;
use mithril_common::entities::{ChainPoint, Epoch, StakeDistribution};
use std::fmt;

/// Where the chain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Name of the ledger's era, as Cardano spells it (`Conway`).
    pub era: String,
    /// Current epoch.
    pub epoch: Epoch,
    /// Tip of the chain.
    pub tip: ChainPoint,
    /// KES period of the tip's slot.
    pub kes_period: KesPeriod,
}

/// A block's place: slot and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Slot of the block.
    pub slot: u64,
    /// Hash of its header.
    pub hash: [u8; 32],
}

/// One step along the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The next block, as CBOR with its era's tag.
    Forward(Vec<u8>),
    /// Everything behind this place is no longer the chain; none: behind the origin.
    Backward(Option<Place>),
    /// Nothing more for now.
    AtTip,
}

/// Why the chain did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The node or program cannot be reached.
    #[error("{whom} cannot be reached: {why}")]
    Unreachable {
        /// Whom we asked: a socket, a program.
        whom: String,
        /// What went wrong.
        why: String,
    },
    /// It answered what cannot be.
    #[error("{whom} gave an answer that cannot be: {why}")]
    Answer {
        /// Whom we asked.
        whom: String,
        /// What is wrong with it.
        why: String,
    },
    /// The epoch changed between two questions that belong together. Asking again helps.
    #[error("the epoch changed from {before} to {after} while stakes were read")]
    EpochMoved {
        /// Epoch at the first question.
        before: Epoch,
        /// Epoch at the last.
        after: Epoch,
    },
    /// Nobody has any stake. No network that runs is like that, but a node that is still finding its way tells so: what is
    /// recorded of an epoch cannot be changed, so nothing is. Asking again helps.
    #[error("nobody has any stake in epoch {0}")]
    NoStake(Epoch),
    /// The observer cannot answer this question at all.
    #[error("{0} cannot tell")]
    Unsupported(&'static str),
}

/// Whoever knows the chain. Calls block; each has its own bound in time.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Where the chain is.
    fn view(&self) -> Result<View, ChainError>;

    /// Stakes of the mark snapshot in lovelace, pools with none left out, and the view they belong to. There is at least one.
    fn stakes(&self) -> Result<(View, StakeDistribution), ChainError>;

    /// Inline datums (CBOR) of what lies at an address.
    fn datums(&self, address: &str) -> Result<Vec<Vec<u8>>, ChainError>;

    /// Walks the chain from the first of `known` (newest first) that the node knows, or from the origin. The first step
    /// is [`Step::Backward`] to that place.
    fn blocks(&self, known: &[Place]) -> Result<Box<dyn Blocks>, ChainError>;
}

/// Stakes with the view they belong to, if they are worth anything.
fn settled(view: View, stakes: StakeDistribution, after: Epoch) -> Result<(View, StakeDistribution), ChainError> {
    if after != view.epoch {
        return Err(ChainError::EpochMoved { before: view.epoch, after });
    }
    if stakes.is_empty() {
        return Err(ChainError::NoStake(view.epoch));
    }
    Ok((view, stakes))
}

/// A walk along the chain.
pub trait Blocks: Send {
    /// The next step; [`Step::AtTip`] instead of waiting for a block that does not exist yet.
    fn step(&mut self) -> Result<Step, ChainError>;
}
