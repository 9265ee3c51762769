//! The trees of one range, in both forms (spec §4.1).
//!
//! * Transactions (v1): leaf = hash of the transaction in hexadecimal, ordered by (block number, hash).
//! * Blocks and transactions (v2): `Block/<hash>/<number>/<slot>` of all blocks by (number, slot, hash), then
//!   `Tx/<hash>/<block hash>/<number>/<slot>` by (number, slot, block hash, hash).

use super::Hash;
use super::tree::{Leaves, Tree};
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

/// Which leaves a tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Transactions (v1).
    Transactions,
    /// Blocks and transactions (v2).
    BlocksTransactions,
}

/// The leaves of a range, made from its blocks when they are asked for.
#[derive(Debug, Clone)]
pub struct RangeLeaves {
    form: Form,
    blocks: Vec<Block>,
    /// Index among all transactions of the first one of each block.
    starts: Vec<u64>,
    transactions: u64,
}

impl RangeLeaves {
    /// Of these blocks, which are in order.
    #[must_use]
    pub fn new(form: Form, blocks: Vec<Block>) -> Self {
        let mut starts = Vec::with_capacity(blocks.len());
        let mut transactions = 0_u64;
        for block in &blocks {
            starts.push(transactions);
            transactions = transactions.saturating_add(block.transactions.len() as u64);
        }
        Self { form, blocks, starts, transactions }
    }

    /// How many leaves come before those of transactions.
    fn before(&self) -> u64 {
        match self.form {
            Form::Transactions => 0,
            Form::BlocksTransactions => self.blocks.len() as u64,
        }
    }

    fn place_of(&self, number: u64) -> Option<(usize, &Block)> {
        let place = self.blocks.binary_search_by_key(&number, |block| block.number).ok()?;
        Some((place, self.blocks.get(place)?))
    }

    /// Leaf of a transaction in the block with this number, and that block.
    #[must_use]
    pub fn transaction(&self, number: u64, hash: &Hash) -> Option<(u64, &Block)> {
        let (place, block) = self.place_of(number)?;
        let inside = block.transactions.binary_search(hash).ok()? as u64;
        Some((self.before() + self.starts.get(place)? + inside, block))
    }

    /// Leaf of the block with this number if it has this hash, and the block. Only v2 has such leaves.
    #[must_use]
    pub fn block(&self, number: u64, hash: &Hash) -> Option<(u64, &Block)> {
        let (place, block) = self.place_of(number)?;
        (self.form == Form::BlocksTransactions && block.hash == *hash).then_some((place as u64, block))
    }

    /// Bytes in memory, near enough for a bounded cache.
    #[must_use]
    pub fn weight(&self) -> usize {
        let transactions: usize = self.blocks.iter().map(|block| block.transactions.capacity() * 32).sum();
        transactions + self.blocks.capacity() * size_of::<Block>() + self.starts.capacity() * 8 + size_of::<Self>()
    }
}

impl Leaves for RangeLeaves {
    fn count(&self) -> u64 {
        self.before() + self.transactions
    }

    fn leaf(&self, index: u64) -> Option<Vec<u8>> {
        let Some(inside) = index.checked_sub(self.before()) else {
            return self.blocks.get(usize::try_from(index).ok()?).map(block_leaf);
        };
        let place = self.starts.partition_point(|start| *start <= inside).checked_sub(1)?;
        let block = self.blocks.get(place)?;
        let hash = block.transactions.get(usize::try_from(inside - self.starts.get(place)?).ok()?)?;
        Some(match self.form {
            Form::Transactions => transaction_leaf(hash).to_vec(),
            Form::BlocksTransactions => transaction_in_block_leaf(hash, block),
        })
    }
}

/// The tree of a range in this form; none when it has no leaf. Blocks are in order.
#[must_use]
pub fn range_tree(form: Form, blocks: Vec<Block>) -> Option<Tree<RangeLeaves>> {
    Tree::build(RangeLeaves::new(form, blocks)).ok()
}
