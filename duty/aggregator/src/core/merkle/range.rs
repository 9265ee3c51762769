//! The trees of one range, in both forms (spec §4.1).
//!
//! * Transactions (v1): leaf = hash of the transaction in hexadecimal, ordered by (block number, hash).
//! * Blocks and transactions (v2): `Block/<hash>/<number>/<slot>` of all blocks by (number, slot, hash), then
//!   `Tx/<hash>/<block hash>/<number>/<slot>` by (number, slot, block hash, hash).

use super::tree::Tree;
use super::{Hash, MerkleError};
use std::io::Write as _;

/// A block, as far as it is certified.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its slot.
    pub slot: u64,
    /// Hash of its header.
    pub hash: Hash,
    /// Hashes of its transactions, in ascending order.
    pub transactions: Vec<Hash>,
}

/// Leaf of a transaction, v1.
#[must_use]
pub fn transaction_leaf(transaction: &Hash) -> [u8; 64] {
    let mut leaf = [0; 64];
    // Cannot fail: 64 is twice 32.
    let _ = hex::encode_to_slice(transaction, &mut leaf);
    leaf
}

/// Leaf of a block, v2.
#[must_use]
pub fn block_leaf(block: &Block) -> Vec<u8> {
    let mut leaf = Vec::with_capacity(110);
    leaf.extend_from_slice(b"Block/");
    leaf.extend_from_slice(&transaction_leaf(&block.hash));
    end_of_leaf(&mut leaf, block);
    leaf
}

/// Leaf of a transaction in this block, v2.
#[must_use]
pub fn transaction_in_block_leaf(transaction: &Hash, block: &Block) -> Vec<u8> {
    let mut leaf = Vec::with_capacity(170);
    leaf.extend_from_slice(b"Tx/");
    leaf.extend_from_slice(&transaction_leaf(transaction));
    leaf.push(b'/');
    leaf.extend_from_slice(&transaction_leaf(&block.hash));
    end_of_leaf(&mut leaf, block);
    leaf
}

fn end_of_leaf(leaf: &mut Vec<u8>, block: &Block) {
    // Writing to a vector cannot fail.
    let _ = write!(leaf, "/{}/{}", block.number, block.slot);
}

/// The tree of the transactions of a range, v1. Blocks are in order.
///
/// # Errors
/// More than 4 GiB of leaves.
pub fn transactions_tree(blocks: &[Block]) -> Result<Tree, MerkleError> {
    let mut tree = Tree::with_capacity(blocks.iter().map(|block| block.transactions.len()).sum(), 64);
    for transaction in blocks.iter().flat_map(|block| &block.transactions) {
        tree.push(&transaction_leaf(transaction))?;
    }
    Ok(tree)
}

/// The tree of the blocks and transactions of a range, v2. Blocks are in order.
///
/// # Errors
/// More than 4 GiB of leaves.
pub fn blocks_transactions_tree(blocks: &[Block]) -> Result<Tree, MerkleError> {
    let leaves = blocks.iter().map(|block| block.transactions.len() + 1).sum();
    let mut tree = Tree::with_capacity(leaves, 160);
    for block in blocks {
        tree.push(&block_leaf(block))?;
    }
    for block in blocks {
        for transaction in &block.transactions {
            tree.push(&transaction_in_block_leaf(transaction, block))?;
        }
    }
    Ok(tree)
}
