//! A node that goes back below a certified block, and keeps to it.
//!
//! The network may go back by [`ROLL_BACK_MAX`] blocks, and certificates are usually made of younger ones. One look decides
//! nothing: a node that has just started, or was cut off for a while, comes back to the chain that it left. So what is certified
//! is given up only when the node says the same at several looks over some minutes, on a chain that is at least as long as ours.

use super::ROLL_BACK_MAX;
use mithril_common::entities::BlockNumber;
use std::time::{Duration, Instant};

/// How long a node has to keep to it.
const INSISTS_FOR: Duration = Duration::from_secs(300);

/// How often it has to say so.
const LOOKS: u32 = 3;

/// What the node said so far.
#[derive(Debug)]
pub struct Insistence {
    insists_for: Duration,
    said: Option<Said>,
}

#[derive(Debug)]
struct Said {
    /// Block to which the chain goes back; none: the origin.
    to: Option<BlockNumber>,
    since: Instant,
    looks: u32,
}

/// What to make of a node that goes back below a certified block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may come back; look again.
    Wait,
    /// It keeps to it, and the network may do so.
    Follow,
    /// No network goes back so far.
    TooFar,
}

impl Default for Insistence {
    fn default() -> Self {
        Self::after(INSISTS_FOR)
    }
}

impl Insistence {
    /// With another time for which a node has to keep to it.
    #[must_use]
    pub fn after(insists_for: Duration) -> Self {
        Self { insists_for, said: None }
    }

    /// The node goes back to a block, from a chain here whose highest is `highest`.
    pub fn look(&mut self, to: Option<BlockNumber>, highest: BlockNumber, now: Instant) -> Verdict {
        if highest.saturating_sub(to.map_or(0, |to| *to)) > ROLL_BACK_MAX {
            self.said = None;
            return Verdict::TooFar;
        }
        let said = match self.said.take() {
            Some(said) if said.to == to => Said { looks: said.looks.saturating_add(1), ..said },
            _ => Said { to, since: now, looks: 1 },
        };
        let insists = said.looks >= LOOKS && now.saturating_duration_since(said.since) >= self.insists_for;
        self.said = Some(said);
        if insists { Verdict::Follow } else { Verdict::Wait }
    }

    /// The node has the certified blocks, or its chain is shorter than ours: what it said before counts no more.
    pub fn forget(&mut self) {
        self.said = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_followed_when_it_says_the_same_often_and_long_enough_and_not_from_too_far() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (to, highest) = (Some(BlockNumber(900)), BlockNumber(1000));
        let mut insistence = Insistence::default();
        for (seconds, verdict) in
            [(0, Verdict::Wait), (299, Verdict::Wait), (300, Verdict::Follow), (360, Verdict::Follow)]
        {
            assert_eq!(insistence.look(to, highest, after(seconds)), verdict, "{seconds} s");
        }
        // Two looks are too few, however far apart.
        let mut insistence = Insistence::default();
        assert_eq!(insistence.look(to, highest, after(0)), Verdict::Wait);
        assert_eq!(insistence.look(to, highest, after(3600)), Verdict::Wait);
        // Another place, or the certified blocks in between, begin anew.
        assert_eq!(insistence.look(Some(BlockNumber(899)), highest, after(3700)), Verdict::Wait);
        insistence.forget();
        for seconds in [3800, 3900] {
            assert_eq!(insistence.look(to, highest, after(seconds)), Verdict::Wait);
        }
        for (to, highest, verdict) in [
            (Some(BlockNumber(5000)), BlockNumber(7160), Verdict::Wait),
            (Some(BlockNumber(5000)), BlockNumber(7161), Verdict::TooFar),
            (None, BlockNumber(2160), Verdict::Wait),
            (None, BlockNumber(2161), Verdict::TooFar),
        ] {
            assert_eq!(Insistence::default().look(to, highest, after(0)), verdict, "{to:?} from {highest}");
        }
    }
}
