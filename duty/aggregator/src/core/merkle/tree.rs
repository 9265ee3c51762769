//! The small tree of one range: leaves of any length, kept whole (spec §4.1, traps 16 and 17).
//!
//! A leaf is not hashed: a tree of one leaf has that leaf as its root. Nodes lie one behind the other in one buffer.

use super::position::position_of;
use super::proof::{Nodes, Proof, merge, prove, root};
use super::{MerkleError, position};

/// A mountain range of leaves of any length.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    bytes: Vec<u8>,
    /// Where each node ends in `bytes`.
    ends: Vec<u32>,
    leaves: u64,
}

impl Tree {
    /// Room for this many leaves of this many bytes each.
    #[must_use]
    pub fn with_capacity(leaves: usize, leaf_bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(leaves.saturating_mul(leaf_bytes.saturating_add(32))),
            ends: Vec::with_capacity(leaves.saturating_mul(2)),
            leaves: 0,
        }
    }

    /// Appends a leaf.
    ///
    /// # Errors
    /// The tree would be greater than 4 GiB.
    pub fn push(&mut self, leaf: &[u8]) -> Result<(), MerkleError> {
        let before = self.ends.len() as u64;
        self.append(leaf)?;
        // Each bit set at the low end of the count is a tree as high as the one that was just completed.
        for height in 0..self.leaves.trailing_ones() {
            let right = before + u64::from(height);
            let left = right + 1 - (2 << height);
            let parent = match (self.node(left), self.node(right)) {
                (Some(left), Some(right)) => merge(left, right),
                _ => return Err(MerkleError::NoNode(left)),
            };
            self.append(&parent)?;
        }
        self.leaves += 1;
        Ok(())
    }

    fn append(&mut self, node: &[u8]) -> Result<(), MerkleError> {
        self.bytes.extend_from_slice(node);
        self.ends.push(u32::try_from(self.bytes.len()).map_err(|_| MerkleError::TooLarge)?);
        Ok(())
    }

    /// Bytes in memory, near enough for a bounded cache.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4 + size_of::<Self>()
    }

    /// The last index of this leaf.
    #[must_use]
    pub fn index_of(&self, leaf: &[u8]) -> Option<u64> {
        (0..self.leaves).rev().find(|index| self.node(position_of(*index)) == Some(leaf))
    }

    /// The root.
    ///
    /// # Errors
    /// No leaf at all.
    pub fn root(&self) -> Result<Vec<u8>, MerkleError> {
        root(self).map(std::borrow::Cow::into_owned)
    }

    /// Proves the leaves with these indices.
    ///
    /// # Errors
    /// No index at all, or one behind the end.
    pub fn prove(&self, indices: &[u64]) -> Result<Proof<'_>, MerkleError> {
        prove(self, indices)
    }
}

impl Nodes for Tree {
    fn leaves(&self) -> u64 {
        self.leaves
    }

    fn node(&self, position: u64) -> Option<&[u8]> {
        let index = usize::try_from(position).ok()?;
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        debug_assert!(position < position::size_of(self.leaves + 1));
        self.bytes.get(start..end)
    }
}
