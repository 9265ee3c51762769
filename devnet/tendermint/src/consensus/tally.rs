//! Votes of a height, counted by power.
//!
//! A validator that votes twice counts once for each block it named and once in total, which is how the paper's rules read a set
//! of messages. Votes of rounds further ahead than [`ROUNDS_AHEAD_MAX`] leave only the round's number: enough to see that others
//! have moved on.

use super::{
    block::{BlockId, CommitSignature, Round},
    validators::ValidatorSet,
    vote::{SignedVote, VoteKind},
};
use std::collections::BTreeMap;

/// Rounds ahead of our own whose votes are kept.
pub const ROUNDS_AHEAD_MAX: u32 = 8;
/// Different blocks of one validator, round and kind that are counted; an honest one has a single one.
pub const BLOCKS_PER_VALIDATOR_MAX: usize = 4;

/// Votes of one round and kind.
#[derive(Debug, Clone, Default)]
pub struct RoundVotes {
    by_validator: BTreeMap<u32, Vec<SignedVote>>,
}

impl RoundVotes {
    /// Counts a vote; says whether it is news.
    pub fn add(&mut self, signed: SignedVote) -> bool {
        let cast = self.by_validator.entry(signed.vote.validator).or_default();
        let news = cast.len() < BLOCKS_PER_VALIDATOR_MAX && cast.iter().all(|v| v.vote.block != signed.vote.block);
        if news {
            cast.push(signed);
        }
        news
    }

    /// Power of those who voted for `block` (`None` is nil).
    pub fn power_for(&self, set: &ValidatorSet, block: Option<BlockId>) -> u128 {
        self.power_where(set, |vote| vote.vote.block == block)
    }

    /// Power of those who voted at all.
    pub fn power(&self, set: &ValidatorSet) -> u128 {
        self.power_where(set, |_| true)
    }

    fn power_where(&self, set: &ValidatorSet, counts: impl Fn(&SignedVote) -> bool) -> u128 {
        let voters = self.by_validator.iter().filter(|(_, cast)| cast.iter().any(&counts));
        voters.map(|(index, _)| u128::from(set.power(*index))).sum()
    }

    /// What more than two thirds voted for, if there is such a thing.
    pub fn quorum(&self, set: &ValidatorSet) -> Option<Option<BlockId>> {
        let named = self.all().map(|vote| vote.vote.block);
        let mut tried: Vec<Option<BlockId>> = Vec::new();
        for block in named {
            if !tried.contains(&block) {
                if set.is_quorum(self.power_for(set, block)) {
                    return Some(block);
                }
                tried.push(block);
            }
        }
        None
    }

    /// Whether `validator` voted.
    pub fn has(&self, validator: u32) -> bool {
        self.by_validator.contains_key(&validator)
    }

    /// Every vote, by validator.
    pub fn all(&self) -> impl Iterator<Item = &SignedVote> {
        self.by_validator.values().flatten()
    }

    /// The votes for `block` as a commit has them.
    pub fn commit_for(&self, block: BlockId) -> Vec<CommitSignature> {
        let votes = self.all().filter(|signed| signed.vote.block == Some(block));
        votes
            .map(|signed| CommitSignature {
                validator: signed.vote.validator,
                time: signed.vote.time,
                signature: signed.signature,
            })
            .collect()
    }
}

/// Votes of every round of one height.
#[derive(Debug, Clone, Default)]
pub struct HeightVotes {
    prevotes: BTreeMap<Round, RoundVotes>,
    precommits: BTreeMap<Round, RoundVotes>,
    latest: BTreeMap<u32, Round>,
}

impl HeightVotes {
    /// Counts a vote seen by a node that is in round `current`; says whether it is news.
    pub fn add(&mut self, current: Round, signed: SignedVote) -> bool {
        let round = signed.vote.round;
        self.saw(signed.vote.validator, round);
        if round.0 > current.0.saturating_add(ROUNDS_AHEAD_MAX) {
            return false;
        }
        let side = match signed.vote.kind {
            VoteKind::Prevote => &mut self.prevotes,
            VoteKind::Precommit => &mut self.precommits,
        };
        side.entry(round).or_default().add(signed)
    }

    /// Notes that `validator` was in `round`.
    pub fn saw(&mut self, validator: u32, round: Round) {
        let latest = self.latest.entry(validator).or_insert(round);
        *latest = round.max(*latest);
    }

    /// Votes of one round and kind.
    pub fn of(&self, kind: VoteKind, round: Round) -> Option<&RoundVotes> {
        match kind {
            VoteKind::Prevote => self.prevotes.get(&round),
            VoteKind::Precommit => self.precommits.get(&round),
        }
    }

    /// What more than two thirds voted for in this round, if there is such a thing.
    pub fn quorum(&self, set: &ValidatorSet, kind: VoteKind, round: Round) -> Option<Option<BlockId>> {
        self.of(kind, round)?.quorum(set)
    }

    /// Whether more than two thirds voted for `block` in this round.
    pub fn has_quorum_for(&self, set: &ValidatorSet, kind: VoteKind, round: Round, block: Option<BlockId>) -> bool {
        self.of(kind, round).is_some_and(|votes| set.is_quorum(votes.power_for(set, block)))
    }

    /// Whether more than two thirds voted in this round, for anything.
    pub fn has_quorum_of_any(&self, set: &ValidatorSet, kind: VoteKind, round: Round) -> bool {
        self.of(kind, round).is_some_and(|votes| set.is_quorum(votes.power(set)))
    }

    /// A block that more than two thirds precommitted in one round.
    pub fn decided(&self, set: &ValidatorSet) -> impl Iterator<Item = (Round, BlockId)> {
        self.precommits.iter().filter_map(|(round, votes)| Some((*round, votes.quorum(set)??)))
    }

    /// The highest round above `current` that more than one third have reached.
    pub fn skip_to(&self, set: &ValidatorSet, current: Round) -> Option<Round> {
        let mut ahead: Vec<_> = self.latest.iter().filter(|(_, round)| **round > current).collect();
        ahead.sort_by_key(|(_, round)| std::cmp::Reverse(**round));
        let mut power = 0_u128;
        ahead.into_iter().find_map(|(index, round)| {
            power = power.saturating_add(u128::from(set.power(*index)));
            set.has_honest(power).then_some(*round)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Height, Time, Validator, Vote};

    fn set(powers: &[u64]) -> ValidatorSet {
        let list =
            powers.iter().enumerate().map(|(n, power)| Validator { key: [n as u8; 32], power: *power }).collect();
        ValidatorSet::new(list).unwrap()
    }

    fn block(n: u8) -> Option<BlockId> {
        Some(BlockId { hash: [n; 32], parts_total: 1, parts_hash: [n; 32] })
    }

    fn vote(validator: u32, round: u32, block: Option<BlockId>) -> SignedVote {
        let time = Time::default();
        let (kind, height, round) = (VoteKind::Prevote, Height(1), Round(round));
        let vote = Vote { kind, height, round, block, time, validator, extension: Vec::new() };
        SignedVote { vote, signature: [0; 64], extension_signature: None }
    }

    #[test]
    fn a_double_voter_counts_for_both_blocks_and_once_in_total() {
        let set = set(&[1, 1, 1, 1]);
        let mut votes = RoundVotes::default();
        for (validator, named) in [(0, block(1)), (0, block(2)), (1, block(1)), (2, None)] {
            assert!(votes.add(vote(validator, 0, named)));
        }
        assert!(!votes.add(vote(0, 0, block(2))));
        let powers = [block(1), block(2), None].map(|named| votes.power_for(&set, named));
        assert_eq!((powers, votes.power(&set)), ([2, 1, 1], 3));
        assert_eq!(votes.quorum(&set), None);
        votes.add(vote(3, 0, block(1)));
        assert_eq!(votes.quorum(&set), Some(block(1)));
    }

    #[test]
    fn a_flood_of_blocks_by_one_validator_is_bounded() {
        let mut votes = RoundVotes::default();
        let news = (0..100).filter(|n| votes.add(vote(0, 0, block(*n)))).count();
        assert_eq!((news, votes.all().count()), (BLOCKS_PER_VALIDATOR_MAX, BLOCKS_PER_VALIDATOR_MAX));
    }

    #[test]
    fn a_round_is_skipped_to_only_when_more_than_a_third_is_there() {
        let set = set(&[1, 1, 1, 1]);
        let mut votes = HeightVotes::default();
        votes.add(Round(0), vote(0, 1_000_000, None));
        assert_eq!(votes.skip_to(&set, Round(0)), None);
        assert!(votes.of(VoteKind::Prevote, Round(1_000_000)).is_none(), "far rounds keep no votes");
        votes.add(Round(0), vote(1, 3, None));
        assert_eq!(votes.skip_to(&set, Round(0)), Some(Round(3)));
        assert_eq!(votes.skip_to(&set, Round(3)), None);
    }
}
