//! Steps of a round, and how long each is waited in.

use super::block::{Height, Round};
use std::time::Duration;

/// Where in a round the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Waits after a commit for late precommits.
    NewHeight,
    /// Waits for the proposal.
    Propose,
    /// Has prevoted.
    Prevote,
    /// Has precommitted.
    Precommit,
}

/// What a timeout is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeoutKind {
    /// No proposal came.
    Propose,
    /// Two thirds prevoted, for different things.
    PrevoteWait,
    /// Two thirds precommitted, for different things.
    PrecommitWait,
    /// The wait after a commit is over.
    Commit,
}

/// A timeout that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeout {
    /// Height it belongs to.
    pub height: Height,
    /// Round it belongs to.
    pub round: Round,
    /// What it is about.
    pub kind: TimeoutKind,
}

/// How long to wait; all but `commit` grow by `increment` per round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a proposal.
    pub propose: Duration,
    /// After two thirds of the prevotes.
    pub prevote: Duration,
    /// After two thirds of the precommits.
    pub precommit: Duration,
    /// Added per round.
    pub increment: Duration,
    /// After a commit, before the next height: the block interval, in effect.
    pub commit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { propose: ms(1500), prevote: ms(500), precommit: ms(500), increment: ms(250), commit: ms(200) }
    }
}

impl Timeouts {
    /// How long this one takes.
    pub fn of(&self, timeout: &Timeout) -> Duration {
        let growing = match timeout.kind {
            TimeoutKind::Commit => return self.commit,
            TimeoutKind::Propose => self.propose,
            TimeoutKind::PrevoteWait => self.prevote,
            TimeoutKind::PrecommitWait => self.precommit,
        };
        growing.saturating_add(self.increment.saturating_mul(timeout.round.0))
    }
}
