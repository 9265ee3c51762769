//! What is known of one lane of one key: the floor, and the last answers.

use crate::{Digest, Hold, Lane, Mark, Order, Signature};
use std::sync::Arc;

/// Answers that are kept for repeats, per lane.
pub const RECENT_MAX: usize = 16;

/// How often a lane has been changed; the expected value in a compare-and-advance.
pub type Version = u64;

/// One admitted position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The position.
    pub mark: Mark,
    /// Digest of `bytes`.
    pub digest: Digest,
    /// Digest of what makes two requests the same question.
    pub content: Digest,
    /// The message that was admitted; empty where only the position is known (an import without it).
    pub bytes: Arc<[u8]>,
    /// The signature, once it was made and stored.
    pub signature: Option<Signature>,
}

/// One lane of one key on one chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Counts the changes of this lane.
    pub version: Version,
    /// Nothing at or below it is admitted anew. None: nothing is known of this lane.
    pub floor: Option<Mark>,
    /// The last answers, at most [`RECENT_MAX`], ascending.
    pub recent: Vec<Entry>,
    /// The key was deleted here; nothing is signed until it is brought back on purpose.
    pub tombstone: bool,
    /// It watches before it signs.
    pub hold: Option<Hold>,
}

impl History {
    /// The entry at this position.
    pub fn at(&self, lane: Lane, mark: Mark) -> Option<&Entry> {
        let same = |entry: &&Entry| match lane.order() {
            Order::Rising | Order::Once => entry.mark == mark,
            // A second vote with one target is a double vote, whatever its source.
            Order::Attestation => entry.mark.0[0] == mark.0[0],
        };
        self.recent.iter().rev().find(same)
    }

    /// Takes in an admitted entry: closes its position and, when the list of answers is full, forgets the lowest.
    pub fn push(&mut self, lane: Lane, entry: Entry) {
        self.version += 1;
        if lane.order() != Order::Once {
            self.raise_floor(lane, entry.mark);
        }
        // An answer of which only the content was known gives way to the one whose bytes are.
        self.recent.retain(|known| known.mark != entry.mark);
        let index = self.recent.partition_point(|known| known.mark < entry.mark);
        self.recent.insert(index, entry);
        if self.recent.len() > RECENT_MAX {
            let forgotten = self.recent.remove(0);
            self.raise_floor(lane, forgotten.mark);
        }
    }

    /// Closes every position at or below `floor`. Never lowers.
    pub fn raise(&mut self, lane: Lane, floor: Mark) {
        self.version += 1;
        self.raise_floor(lane, floor);
    }

    /// Stores the signature of an admitted position, if it is still among the last answers.
    pub fn keep(&mut self, mark: Mark, digest: Digest, signature: Signature) {
        if let Some(entry) = self.recent.iter_mut().find(|e| e.mark == mark && e.digest == digest) {
            entry.signature = Some(signature);
        }
    }

    fn raise_floor(&mut self, lane: Lane, floor: Mark) {
        self.floor = Some(self.floor.map_or(floor, |old| lane.higher(old, floor)));
    }
}
