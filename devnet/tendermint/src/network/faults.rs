//! Faults of a network, by plan: what is dropped, delayed, cut off, restarted.
//!
//! Times are counted from the start of the network. Indices are those of nodes.

use super::dice::Dice;
use std::time::Duration;

/// A time in which `side` and the other nodes do not hear each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// When it begins.
    pub from: Duration,
    /// When it ends.
    pub until: Duration,
    /// One of the two sides.
    pub side: Vec<usize>,
}

/// A node that goes down and comes back with its state as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Which node.
    pub node: usize,
    /// When it goes down.
    pub at: Duration,
    /// For how long.
    pub down_for: Duration,
}

/// A plan of faults; the default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Messages lost, of a thousand.
    pub drop_per_mille: u32,
    /// Shortest and longest delay of a message.
    pub delay: (Duration, Duration),
    /// Partitions; they may overlap.
    pub partitions: Vec<Partition>,
    /// Restarts.
    pub restarts: Vec<Restart>,
    /// When drops end and delays shrink to the shortest; `None` for never.
    pub until: Option<Duration>,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is lost.
    Dropped,
    /// It arrives after this long.
    Delivered(Duration),
}

impl Faults {
    /// What becomes of a message that is sent at `at`.
    pub fn fate(&self, at: Duration, from: usize, to: usize, dice: &mut Dice) -> Fate {
        let cut = |p: &Partition| (p.from..p.until).contains(&at) && p.side.contains(&from) != p.side.contains(&to);
        let over = self.until.is_some_and(|until| at >= until);
        if self.partitions.iter().any(cut) || (!over && dice.below(1000) < u64::from(self.drop_per_mille)) {
            return Fate::Dropped;
        }
        let (min, max) = self.delay;
        Fate::Delivered(if over { min } else { dice.between(min, max) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_cuts_only_across_and_only_in_its_time() {
        let second = Duration::from_secs;
        let cut = Partition { from: second(1), until: second(2), side: vec![0, 1] };
        let faults = Faults { partitions: vec![cut], ..Faults::default() };
        let mut dice = Dice::new(1);
        let table =
            [(0, 0, 2, false), (1, 0, 2, true), (1, 2, 0, true), (1, 0, 1, false), (1, 2, 3, false), (2, 0, 2, false)];
        for (at, from, to, dropped) in table {
            assert_eq!(faults.fate(second(at), from, to, &mut dice) == Fate::Dropped, dropped, "{at} {from} {to}");
        }
    }

    #[test]
    fn drops_come_at_their_rate_and_end() {
        let faults = Faults { drop_per_mille: 250, until: Some(Duration::from_secs(1)), ..Faults::default() };
        let mut dice = Dice::new(7);
        let mut lost = |at| (0..10_000).filter(|_| faults.fate(at, 0, 1, &mut dice) == Fate::Dropped).count();
        assert!((2_300..2_700).contains(&lost(Duration::ZERO)));
        assert_eq!(lost(Duration::from_secs(1)), 0);
    }
}
