//! Merkle structures of blocks and transactions (spec §4.1): pure.
//!
//! ```text
//! position   where nodes are                     shared   an array whose copies share
//! proof      roots and proofs over any store     tree     one range: leaves and upper nodes
//! map        all ranges: nodes of 32 bytes       range    leaves of a range, v1 and v2
//! encode     proofs as they travel
//! ```
//!
//! Roots and proofs are byte-equal to those of mithril-merkle-tree 0.1.5, which the tests ask.

pub mod encode;
pub mod map;
pub mod position;
pub mod proof;
pub mod range;
pub mod shared;
pub mod tree;

#[cfg(test)]
mod tests;

pub use encode::MapProof;
pub use map::{RANGE_LENGTH, RangeMap, range_leaf, range_of};
pub use proof::{Nodes, Proof};
pub use range::{Block, Form, RangeLeaves, range_tree};
pub use tree::{Leaves, Tree};

/// A node of the map, a hash of a block or transaction: 32 bytes.
pub type Hash = [u8; 32];

/// Why there is no root or proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// There is no leaf.
    #[error("there is no leaf")]
    NoLeaves,
    /// There is no leaf with this index.
    #[error("there is no leaf {0}")]
    NoLeaf(u64),
    /// There is no node at this position.
    #[error("there is no node {0}")]
    NoNode(u64),
    /// A range that does not come behind the last one.
    #[error("range {0} does not come behind the last one")]
    Order(u32),
}
