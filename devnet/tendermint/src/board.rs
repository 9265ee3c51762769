//! The board: what a running network shows of itself.
//!
//! Threads write to it as things happen; a [`Snapshot`] is a copy for a screen or a test. A block's signatures are those of the
//! commit inside the next block, which is what the chain remembers; until then, all that were seen.

use crate::{
    consensus::{BlockId, Commit, Height, Kind, Round, SharedBlock, SignRequest, Step},
    evidence::Evidence,
    network::Status,
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Blocks that are shown.
pub(crate) const BLOCKS_MAX: usize = 256;
/// Latencies per validator that percentiles are taken from: the newest.
pub(crate) const LATENCIES_MAX: usize = 4_096;

/// One validator, as its node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidatorView {
    /// Where its node stands.
    pub status: Option<Status>,
    /// Whether a signer is connected.
    pub connected: bool,
    /// How often a signer connected.
    pub connections: u64,
    /// Whether the node is down by plan.
    pub down: bool,
    /// Signatures received.
    pub signed: u64,
    /// Requests that the signer answered with an error.
    pub refused: u64,
    /// Requests without a usable answer.
    pub failed: u64,
    /// The last refusal or failure, in words.
    pub last_error: Option<String>,
    /// How long signatures took, seen from the node.
    pub latency: Latency,
}

/// Percentiles of the time from request to verified answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many were measured and are still counted.
    pub samples: usize,
    /// Half were faster.
    pub p50: Duration,
    /// Nine of ten were faster.
    pub p90: Duration,
    /// 99 of 100 were faster.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

impl Latency {
    /// Percentiles of these samples (nearest rank).
    pub fn of(samples: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = samples.into_iter().collect();
        sorted.sort_unstable();
        let rank = |per_cent: usize| {
            let index = sorted.len().saturating_mul(per_cent).div_ceil(100).saturating_sub(1);
            sorted.get(index).copied().unwrap_or_default()
        };
        Self { samples: sorted.len(), p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100) }
    }
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockView {
    /// Its height.
    pub height: Height,
    /// Its id.
    pub id: BlockId,
    /// The round in which it was decided.
    pub round: Round,
    /// Who made it.
    pub proposer: u32,
    /// Validators whose precommit is in the commit.
    pub signers: Vec<u32>,
    /// Validators whose precommit is not.
    pub missing: Vec<u32>,
    /// Whether the next block has settled which signatures the commit has.
    pub settled: bool,
    /// When it was first decided, since the start.
    pub decided_at: Duration,
}

/// What the attacker has tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttackView {
    /// Whether the signer is connected to the attacker.
    pub connected: bool,
    /// Contradicting prevotes, precommits and proposals that were asked for.
    pub asked: u64,
    /// Those that the signer refused with an error.
    pub refused: u64,
    /// Those that it signed. Anything but 0 is a failure of the signer.
    pub granted: u64,
    /// Those without an answer.
    pub unanswered: u64,
    /// The last refusal, in words.
    pub last_refusal: Option<String>,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Time since the start.
    pub running_for: Duration,
    /// Each validator.
    pub validators: Vec<ValidatorView>,
    /// The newest blocks, oldest first; at most 256.
    pub blocks: Vec<BlockView>,
    /// The highest decided height.
    pub height: Height,
    /// Blocks whose signatures are settled.
    pub blocks_settled: u64,
    /// Of those, how many lack a signature.
    pub blocks_incomplete: u64,
    /// How often two nodes decided different blocks.
    pub disagreements: u64,
    /// Contradicting signatures.
    pub evidence: Vec<Evidence>,
    /// Messages between nodes that failed verification.
    pub rejected: u64,
    /// The attacker, if there is one.
    pub attack: Option<AttackView>,
}

/// The last thing a validator signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) kind: Kind,
    pub(crate) block: Option<BlockId>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) validators: Vec<ValidatorView>,
    latencies: Vec<VecDeque<Duration>>,
    pub(crate) signed_last: Vec<Option<Position>>,
    blocks: BTreeMap<Height, BlockView>,
    height: Height,
    settled: u64,
    incomplete: u64,
    disagreements: u64,
    pub(crate) attack: Option<AttackView>,
}

impl Board {
    pub(crate) fn new(validators: usize, attack: bool) -> Self {
        Self {
            validators: vec![ValidatorView::default(); validators],
            latencies: vec![VecDeque::new(); validators],
            signed_last: vec![None; validators],
            attack: attack.then(AttackView::default),
            ..Self::default()
        }
    }

    pub(crate) const fn height(&self) -> Height {
        self.height
    }

    pub(crate) fn connected(&mut self, validator: usize, (connected, connections): (bool, u64)) {
        if let Some(view) = self.validators.get_mut(validator) {
            view.connections = connections;
            view.connected = connected;
        }
    }

    pub(crate) fn all_were_connected(&self) -> bool {
        self.validators.iter().all(|view| view.connections > 0)
    }

    pub(crate) fn stands(&mut self, validator: usize, status: Status) {
        if let Some(view) = self.validators.get_mut(validator) {
            view.status = Some(status);
        }
    }

    pub(crate) fn down(&mut self, validator: usize, down: bool) {
        if let Some(view) = self.validators.get_mut(validator) {
            view.down = down;
        }
    }

    pub(crate) fn signed(&mut self, validator: usize, request: &SignRequest, took: Duration) {
        if let Some(view) = self.validators.get_mut(validator) {
            view.signed = view.signed.saturating_add(1);
        }
        if let Some(ring) = self.latencies.get_mut(validator) {
            if ring.len() >= LATENCIES_MAX {
                ring.pop_front();
            }
            ring.push_back(took);
        }
        if let Some(last) = self.signed_last.get_mut(validator) {
            let (height, round, kind, block) = (request.height(), request.round(), request.kind(), request.block());
            *last = Some(Position { height, round, kind, block });
        }
    }

    pub(crate) fn not_signed(&mut self, validator: usize, refused: bool, words: String) {
        if let Some(view) = self.validators.get_mut(validator) {
            let count = if refused { &mut view.refused } else { &mut view.failed };
            *count = count.saturating_add(1);
            view.last_error = Some(words);
        }
    }

    pub(crate) fn decided(&mut self, block: &SharedBlock, commit: &Commit, at: Duration) {
        if let Some(before) = &block.last_commit {
            self.settle(before);
        }
        let known = self.blocks.get(&block.height).map(|view| view.id);
        if known.is_some_and(|id| id != commit.block) {
            self.disagreements = self.disagreements.saturating_add(1);
        }
        if known.is_none() && block.height > self.height {
            self.height = block.height;
            let view = BlockView {
                height: block.height,
                id: commit.block,
                round: commit.round,
                proposer: block.proposer,
                signers: Vec::new(),
                missing: Vec::new(),
                settled: false,
                decided_at: at,
            };
            self.blocks.insert(block.height, view);
            if self.blocks.len() > BLOCKS_MAX {
                self.blocks.pop_first();
            }
        }
        self.gathered(commit);
    }

    /// Adds what one node saw of a commit that is not settled yet.
    pub(crate) fn gathered(&mut self, commit: &Commit) {
        let count = self.validators.len() as u32;
        if let Some(view) = self.blocks.get_mut(&commit.height).filter(|view| !view.settled && view.id == commit.block)
        {
            view.signers = (0..count).filter(|v| view.signers.contains(v) || commit.has(*v)).collect();
            view.missing = (0..count).filter(|v| !view.signers.contains(v)).collect();
        }
    }

    fn settle(&mut self, commit: &Commit) {
        let count = self.validators.len() as u32;
        if let Some(view) = self.blocks.get_mut(&commit.height).filter(|view| !view.settled && view.id == commit.block)
        {
            view.settled = true;
            view.signers = (0..count).filter(|v| commit.has(*v)).collect();
            view.missing = (0..count).filter(|v| !commit.has(*v)).collect();
            self.settled = self.settled.saturating_add(1);
            self.incomplete = self.incomplete.saturating_add(u64::from(!view.missing.is_empty()));
        }
    }

    pub(crate) fn snapshot(&self, running_for: Duration) -> Snapshot {
        let mut validators = self.validators.clone();
        for (view, ring) in validators.iter_mut().zip(&self.latencies) {
            view.latency = Latency::of(ring.iter().copied());
        }
        Snapshot {
            running_for,
            validators,
            blocks: self.blocks.values().cloned().collect(),
            height: self.height,
            blocks_settled: self.settled,
            blocks_incomplete: self.incomplete,
            disagreements: self.disagreements,
            evidence: Vec::new(),
            rejected: 0,
            attack: self.attack.clone(),
        }
    }
}

impl Snapshot {
    /// Latency over all validators is not a mean of percentiles; this is the slowest validator's.
    pub fn slowest(&self) -> Latency {
        self.validators.iter().map(|v| v.latency).max_by_key(|l| l.p99).unwrap_or_default()
    }

    /// Where the foremost node stands.
    pub fn foremost(&self) -> Option<(Height, Round, Step)> {
        self.validators.iter().filter_map(|v| v.status).map(|s| (s.height, s.round, s.step)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let ms = Duration::from_millis;
        assert_eq!(Latency::of([]), Latency::default());
        let latency = Latency::of((1..=200).rev().map(ms));
        assert_eq!(latency, Latency { samples: 200, p50: ms(100), p90: ms(180), p99: ms(198), max: ms(200) });
        assert_eq!(Latency::of([ms(7)]).p50, ms(7));
    }
}
