//! The map of block ranges: one leaf per range that holds something (spec §4.1, trap 18).
//!
//! A range is numbered: range `n` is blocks 15n to 15n+14. Its leaf is BLAKE2s-256("start-end" ‖ root of the range). Ranges are
//! in order; empty ones are left out, so numbers have gaps. Nodes lie in one array of 32 bytes each; a copy shares them.

use super::position::{Peak, position_of, size_of};
use super::proof::{Nodes, Proof, merge, prove, root};
use super::shared::Shared;
use super::{Hash, MerkleError};
use std::borrow::Cow;

/// Blocks per range.
pub const RANGE_LENGTH: u64 = 15;

/// Number of the range that holds this block.
#[must_use]
pub const fn range_of(block_number: u64) -> u64 {
    block_number / RANGE_LENGTH
}

/// Leaf of a range in the map.
#[must_use]
pub fn range_leaf(range: u64, root: &[u8]) -> Hash {
    let start = range.saturating_mul(RANGE_LENGTH);
    merge(format!("{start}-{}", start.saturating_add(RANGE_LENGTH)).as_bytes(), root)
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct RangeMap {
    nodes: Shared<Hash>,
    ranges: Shared<u32>,
}

impl RangeMap {
    /// Appends a range.
    ///
    /// # Errors
    /// It does not come behind the last one.
    pub fn push(&mut self, range: u32, leaf: Hash) -> Result<(), MerkleError> {
        if self.ranges.last().is_some_and(|last| *last >= range) {
            return Err(MerkleError::Order(range));
        }
        let before = self.nodes.len() as u64;
        let leaves = self.leaves();
        self.nodes.push(leaf);
        for height in 0..leaves.trailing_ones() {
            let right = before + u64::from(height);
            let left = right + 1 - (2 << height);
            let parent = match (self.at(left), self.at(right)) {
                (Some(left), Some(right)) => merge(left, right),
                _ => return Err(MerkleError::NoNode(left)),
            };
            self.nodes.push(parent);
        }
        self.ranges.push(range);
        Ok(())
    }

    fn at(&self, position: u64) -> Option<&Hash> {
        self.nodes.get(usize::try_from(position).ok()?)
    }

    /// Keeps the ranges below this one.
    pub fn truncate(&mut self, range: u64) {
        let leaves = self.ranges.partition_point(|have| u64::from(*have) < range);
        self.ranges.truncate(leaves);
        self.nodes.truncate(usize::try_from(size_of(leaves as u64)).unwrap_or(usize::MAX));
    }

    /// The last range.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.ranges.last().copied()
    }

    /// Index of this range among the leaves.
    #[must_use]
    pub fn index_of(&self, range: u32) -> Option<u64> {
        let index = self.ranges.partition_point(|have| *have < range);
        (self.ranges.get(index) == Some(&range)).then_some(index as u64)
    }

    /// Leaf of this range.
    #[must_use]
    pub fn leaf_of(&self, range: u32) -> Option<&Hash> {
        self.at(position_of(self.index_of(range)?))
    }

    /// The root.
    ///
    /// # Errors
    /// No range at all.
    pub fn root(&self) -> Result<Vec<u8>, MerkleError> {
        root(self).map(Cow::into_owned)
    }

    /// Proves the leaves with these indices under its root.
    ///
    /// # Errors
    /// No index at all, or one behind the end.
    pub fn prove<'a>(&'a self, root: &'a [u8], indices: &[u64]) -> Result<Proof<'a>, MerkleError> {
        prove(self, root, indices)
    }
}

impl Nodes for RangeMap {
    fn leaves(&self) -> u64 {
        self.ranges.len() as u64
    }

    fn node(&self, peak: Peak, height: u32, index: u64) -> Option<Cow<'_, [u8]>> {
        self.at(peak.node(height, index)).map(|node| Cow::Borrowed(node.as_slice()))
    }
}
