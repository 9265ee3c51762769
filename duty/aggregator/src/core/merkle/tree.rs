//! The tree of one range: leaves of any length, and its upper nodes (spec §4.1, traps 16 and 17).
//!
//! A leaf is not hashed: a tree of one leaf has that leaf as its root. Leaves go in groups of eight. The nodes from the roots
//! of whole groups upwards are themselves a mountain range, with one leaf per group; they are kept. What is below is made from
//! the leaves when it is asked for: at most seven merges for a proof, and seven for the leaves that fill no group.

use super::position::{Peak, size_of};
use super::proof::{Nodes, Proof, merge, prove, root};
use super::{Hash, MerkleError};
use std::borrow::Cow;

/// Height of a whole group: eight leaves.
const GROUP_HEIGHT: u32 = 3;

/// How many upper nodes a tree of this many leaves has.
#[must_use]
pub const fn upper_nodes(leaves: u64) -> u64 {
    size_of(leaves >> GROUP_HEIGHT)
}

/// The leaves of a tree.
pub trait Leaves {
    /// How many there are.
    fn count(&self) -> u64;

    /// The leaf with this index; none behind the end.
    fn leaf(&self, index: u64) -> Option<Vec<u8>>;
}

/// Leaves and upper nodes of a tree that has at least one leaf.
#[derive(Debug, Clone)]
pub struct Tree<L> {
    leaves: L,
    upper: Vec<Hash>,
    root: Vec<u8>,
}

impl<L: Leaves> Tree<L> {
    /// Makes the upper nodes from the leaves.
    ///
    /// # Errors
    /// No leaf at all.
    pub fn build(leaves: L) -> Result<Self, MerkleError> {
        let groups = leaves.count() >> GROUP_HEIGHT;
        let mut upper: Vec<Hash> = Vec::with_capacity(usize::try_from(size_of(groups)).unwrap_or_default());
        for group in 0..groups {
            let right = upper.len();
            let mut node = hash_below(&leaves, GROUP_HEIGHT, group << GROUP_HEIGHT)
                .ok_or(MerkleError::NoLeaf(group << GROUP_HEIGHT))?;
            upper.push(node);
            for height in 0..group.trailing_ones() {
                let left = (right + height as usize + 1)
                    .checked_sub(2 << height)
                    .and_then(|left| upper.get(left))
                    .ok_or(MerkleError::NoNode(right as u64))?;
                node = merge(left, &node);
                upper.push(node);
            }
        }
        Self::with_upper(leaves, upper)
    }

    /// With upper nodes that were made before.
    ///
    /// # Errors
    /// No leaf at all, or not as many upper nodes as the leaves have.
    pub fn with_upper(leaves: L, upper: Vec<Hash>) -> Result<Self, MerkleError> {
        if upper.len() as u64 != upper_nodes(leaves.count()) {
            return Err(MerkleError::NoNode(upper.len() as u64));
        }
        let mut tree = Self { leaves, upper, root: Vec::new() };
        tree.root = root(&tree)?.into_owned();
        Ok(tree)
    }

    /// The leaves.
    #[must_use]
    pub const fn leaves(&self) -> &L {
        &self.leaves
    }

    /// The upper nodes, as a mountain range of the groups.
    #[must_use]
    pub fn upper(&self) -> &[Hash] {
        &self.upper
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// Proves the leaves with these indices.
    ///
    /// # Errors
    /// No index at all, or one behind the end.
    pub fn prove(&self, indices: &[u64]) -> Result<Proof<'_>, MerkleError> {
        prove(self, &self.root, indices)
    }
}

/// The node of this height over the leaves from `first`.
fn below(leaves: &impl Leaves, height: u32, first: u64) -> Option<Vec<u8>> {
    match height {
        0 => leaves.leaf(first),
        _ => hash_below(leaves, height, first).map(Vec::from),
    }
}

/// The same, of a height of at least one.
fn hash_below(leaves: &impl Leaves, height: u32, first: u64) -> Option<Hash> {
    let under = height.checked_sub(1)?;
    if under == 0 {
        return Some(merge(&leaves.leaf(first)?, &leaves.leaf(first + 1)?));
    }
    Some(merge(&hash_below(leaves, under, first)?, &hash_below(leaves, under, first + (1 << under))?))
}

impl<L: Leaves> Nodes for Tree<L> {
    fn leaves(&self) -> u64 {
        self.leaves.count()
    }

    fn node(&self, peak: Peak, height: u32, index: u64) -> Option<Cow<'_, [u8]>> {
        match height.checked_sub(GROUP_HEIGHT) {
            // A tree of groups is a tree over its groups.
            Some(above) => {
                let groups = Peak { height: peak.height.checked_sub(GROUP_HEIGHT)?, first: peak.first >> GROUP_HEIGHT };
                let position = usize::try_from(groups.node(above, index)).ok()?;
                self.upper.get(position).map(|node| Cow::Borrowed(node.as_slice()))
            }
            None => below(&self.leaves, height, peak.first.checked_add(index << height)?).map(Cow::Owned),
        }
    }
}
