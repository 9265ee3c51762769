//! Proofs at a certified block: what a certificate says, and the maps as they were at its block.
//!
//! A prover is a copy that shares its nodes with the writer and every other prover; the trees of the ranges asked for are made
//! from the files and compared with the range's leaf, so a damaged file is an error and never a wrong proof. Any number of
//! threads may ask at once; none waits for the writer.

use super::cache::Kept;
use super::error::ChainDataError;
use super::view::{Shared, View, narrow};
use crate::core::merkle::tree::upper_nodes;
use crate::core::merkle::{
    Block, Form, Hash, Leaves, MapProof, RANGE_LENGTH, RangeLeaves, RangeMap, Tree, range_leaf, range_of, range_tree,
};
use mithril_common::entities::{BlockNumber, BlockNumberOffset, SlotNumber};
use mithril_common::messages::{
    CardanoBlockMessagePart, CardanoBlocksProofsMessage, CardanoTransactionMessagePart,
    CardanoTransactionsProofsMessage, CardanoTransactionsProofsV2Message, CardanoTransactionsSetProofMessagePart,
    MkSetProofMessagePart,
};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// Hash of the certificate.
    pub certificate_hash: String,
    /// The highest block that it covers.
    pub block_number: BlockNumber,
    /// Root up to that block, in hexadecimal.
    pub merkle_root: String,
}

/// The maps at a certified block.
#[derive(Debug)]
struct Snapshot {
    shared: Arc<Shared>,
    view: Arc<View>,
    map: RangeMap,
    root: Vec<u8>,
    form: Form,
    by: Certified,
    /// The highest certified block.
    certified: u64,
    /// The highest block in the map: that one, or the end of its range.
    covered: u64,
    hashes_max: usize,
}

/// What was asked for and found: trees of ranges with the leaves to prove.
#[derive(Default)]
struct Found {
    ranges: BTreeMap<u64, (Kept, Vec<u64>)>,
    missing: Vec<String>,
}

/// A hash as it is in a leaf: 64 digits in lower case.
fn parse(text: &str) -> Option<Hash> {
    let lower = text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
    let mut hash = [0; 32];
    (lower && hex::decode_to_slice(text, &mut hash).is_ok()).then_some(hash)
}

impl Snapshot {
    fn new(
        shared: &Arc<Shared>,
        map: RangeMap,
        covered: u64,
        form: Form,
        by: Certified,
        hashes_max: usize,
    ) -> Result<Self, ChainDataError> {
        let root = map.root()?;
        let ours = hex::encode(&root);
        if ours != by.merkle_root {
            return Err(ChainDataError::OtherRoot { block: by.block_number, certified: by.merkle_root, ours });
        }
        let certified = *by.block_number;
        let (shared, view) = (Arc::clone(shared), shared.view());
        Ok(Self { shared, view, map, root, form, by, certified, covered, hashes_max })
    }

    /// Looks up each hash once, in the order of the request. `leaf` finds it in the block with a number; `item` is told of
    /// what was found.
    fn find(
        &self,
        hashes: &[String],
        leaf: impl for<'a> Fn(&'a RangeLeaves, u64, &Hash) -> Option<(u64, &'a Block)>,
        mut item: impl FnMut(&Block, &Hash),
    ) -> Result<Found, ChainDataError> {
        if hashes.len() > self.hashes_max {
            return Err(ChainDataError::TooMany { asked: hashes.len(), most: self.hashes_max });
        }
        let mut found = Found::default();
        let mut seen = HashSet::new();
        for text in hashes.iter().filter(|text| seen.insert(text.as_str())) {
            let mut known = false;
            let hash = parse(text);
            for number in hash.map_or(Ok(Vec::new()), |hash| self.shared.candidates(&hash, self.certified))? {
                let (Some(hash), Some((kept, leaves))) = (hash, self.range_of(&mut found, number)?) else { continue };
                if let Some((index, block)) = leaf(kept.1.leaves(), number, &hash) {
                    leaves.push(index);
                    item(block, &hash);
                    known = true;
                    break;
                }
            }
            if !known {
                found.missing.push(text.clone());
            }
        }
        found.ranges.retain(|_, (_, leaves)| !leaves.is_empty());
        Ok(found)
    }

    /// The tree of the range with this block, and what is to be proven of it. None: it is not certified in this form, for
    /// example because v1 has complete ranges only.
    fn range_of<'a>(
        &self,
        found: &'a mut Found,
        number: u64,
    ) -> Result<Option<&'a mut (Kept, Vec<u64>)>, ChainDataError> {
        let range = range_of(number);
        Ok(match found.ranges.entry(range) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => self.tree(range)?.map(|kept| entry.insert((kept, Vec::new()))),
        })
    }

    /// Proves what was found and writes the proof in its form; none when there is nothing to prove.
    fn prove(&self, found: &Found) -> Result<Option<String>, ChainDataError> {
        if found.ranges.is_empty() {
            return Ok(None);
        }
        let mut indices = Vec::with_capacity(found.ranges.len());
        let mut ranges = Vec::with_capacity(found.ranges.len());
        for (range, (kept, leaves)) in &found.ranges {
            indices.push(self.map.index_of(narrow(*range)?).ok_or_else(|| damaged(*range))?);
            ranges.push((*range, kept.1.prove(leaves)?));
        }
        let proof = MapProof { master: self.map.prove(&self.root, &indices)?, ranges };
        Ok(Some(match self.form {
            Form::Transactions => proof.to_json_hex(),
            Form::BlocksTransactions => proof.to_bincode_hex(),
        }))
    }

    /// The tree of a range as the map has it; none when the map has not.
    fn tree(&self, range: u64) -> Result<Option<Kept>, ChainDataError> {
        let Some(leaf) = self.map.leaf_of(narrow(range)?) else { return Ok(None) };
        let end = range_end(range);
        let last = end.min(self.covered);
        let key = (self.form, range, last);
        if let Some(kept) = self.shared.cache.get(&key).filter(|kept| kept.0 == *leaf) {
            return Ok(Some(kept));
        }
        let blocks = self.shared.store.range(self.view.blocks, self.view.base, range, last)?;
        let tree = if last == end { Some(self.stored_tree(range, blocks)?) } else { range_tree(self.form, blocks) };
        let tree = tree.filter(|tree| range_leaf(range, tree.root()) == *leaf).ok_or_else(|| damaged(range))?;
        let kept = Arc::new((*leaf, tree));
        self.shared.cache.put(key, &kept);
        Ok(Some(kept))
    }

    /// The tree of a complete range with the upper nodes that are stored.
    fn stored_tree(&self, range: u64, blocks: Vec<Block>) -> Result<Tree<RangeLeaves>, ChainDataError> {
        let mut nodes = self.shared.store.nodes(range)?;
        let transactions: u64 = blocks.iter().map(|block| block.transactions.len() as u64).sum();
        let v1 = usize::try_from(upper_nodes(transactions)).unwrap_or(usize::MAX).min(nodes.len());
        let v2 = nodes.split_off(v1);
        let leaves = RangeLeaves::new(self.form, blocks);
        let upper = if self.form == Form::Transactions { nodes } else { v2 };
        if upper.len() as u64 != upper_nodes(leaves.count()) {
            return Err(damaged(range));
        }
        Ok(Tree::with_upper(leaves, upper)?)
    }
}

/// The last block of a range.
const fn range_end(range: u64) -> u64 {
    range.saturating_mul(RANGE_LENGTH).saturating_add(RANGE_LENGTH - 1)
}

fn damaged(range: u64) -> ChainDataError {
    ChainDataError::damaged("transactions", format!("range {range} does not have the leaf that was written"))
}

/// Proofs of transactions (v1) at a certified block.
#[derive(Debug, Clone)]
pub struct TransactionsProver(Arc<Snapshot>);

/// Proofs of blocks and transactions (v2) at a certified block.
#[derive(Debug, Clone)]
pub struct BlocksTransactionsProver(Arc<Snapshot>, BlockNumberOffset);

impl TransactionsProver {
    /// The chain must not go back meanwhile.
    pub(super) fn new(shared: &Arc<Shared>, by: Certified, hashes_max: usize) -> Result<Self, ChainDataError> {
        let certified = *by.block_number;
        let map = shared.view().transactions_map(certified);
        Ok(Self(Arc::new(Snapshot::new(shared, map, certified, Form::Transactions, by, hashes_max)?)))
    }

    /// The certificate under which it proves.
    #[must_use]
    pub fn certified(&self) -> &Certified {
        &self.0.by
    }

    /// Proves transactions. What is not certified is listed as such, and so is what is not a hash.
    ///
    /// # Errors
    /// More hashes than allowed; files that cannot be read or are damaged.
    pub fn prove(&self, hashes: &[String]) -> Result<CardanoTransactionsProofsMessage, ChainDataError> {
        let mut certified = Vec::new();
        let found = self.0.find(hashes, RangeLeaves::transaction, |_, hash| certified.push(hex::encode(hash)))?;
        let proof = self.0.prove(&found)?;
        Ok(CardanoTransactionsProofsMessage {
            certificate_hash: self.0.by.certificate_hash.clone(),
            certified_transactions: proof
                .into_iter()
                .map(|proof| CardanoTransactionsSetProofMessagePart {
                    transactions_hashes: std::mem::take(&mut certified),
                    proof,
                })
                .collect(),
            non_certified_transactions: found.missing,
            latest_block_number: self.0.by.block_number,
        })
    }
}

impl BlocksTransactionsProver {
    /// The chain must not go back meanwhile.
    pub(super) fn new(
        shared: &Arc<Shared>,
        by: Certified,
        security_parameter: BlockNumberOffset,
        hashes_max: usize,
    ) -> Result<Self, ChainDataError> {
        let view = shared.view();
        let certified = *by.block_number;
        let end = range_end(range_of(certified));
        let snapshot = |covered: u64| {
            let map = view.blocks_transactions_map(&shared.store, covered)?;
            Snapshot::new(shared, map, covered, Form::BlocksTransactions, by.clone(), hashes_max)
        };
        // The reference takes the last range whole when it happens to have it whole: the root tells.
        let snapshot = match snapshot(certified) {
            Err(ChainDataError::OtherRoot { .. }) if end > certified && view.reaches(end).is_ok() => snapshot(end),
            other => other,
        };
        Ok(Self(Arc::new(snapshot?), security_parameter))
    }

    /// The highest block that the certificate's root covers.
    pub(super) fn covered(&self) -> u64 {
        self.0.covered
    }

    /// The certificate under which it proves.
    #[must_use]
    pub fn certified(&self) -> &Certified {
        &self.0.by
    }

    /// Proves transactions. What is not certified is listed as such, and so is what is not a hash.
    ///
    /// # Errors
    /// More hashes than allowed; files that cannot be read or are damaged.
    pub fn prove_transactions(&self, hashes: &[String]) -> Result<CardanoTransactionsProofsV2Message, ChainDataError> {
        let mut items = Vec::new();
        let found = self.0.find(hashes, RangeLeaves::transaction, |block, hash| {
            let (number, slot) = (BlockNumber(block.number), SlotNumber(block.slot));
            items.push(CardanoTransactionMessagePart::new(hex::encode(hash), number, slot, hex::encode(block.hash)));
        })?;
        let proof = self.0.prove(&found)?;
        Ok(CardanoTransactionsProofsV2Message {
            certificate_hash: self.0.by.certificate_hash.clone(),
            certified_transactions: proof.map(|proof| MkSetProofMessagePart { items, proof }),
            non_certified_transactions: found.missing,
            latest_block_number: self.0.by.block_number,
            security_parameter: self.1,
        })
    }

    /// Proves blocks. What is not certified is listed as such, and so is what is not a hash.
    ///
    /// # Errors
    /// More hashes than allowed; files that cannot be read or are damaged.
    pub fn prove_blocks(&self, hashes: &[String]) -> Result<CardanoBlocksProofsMessage, ChainDataError> {
        let mut items = Vec::new();
        let found = self.0.find(hashes, RangeLeaves::block, |block, hash| {
            let (number, slot) = (BlockNumber(block.number), SlotNumber(block.slot));
            items.push(CardanoBlockMessagePart::new(hex::encode(hash), number, slot));
        })?;
        let proof = self.0.prove(&found)?;
        Ok(CardanoBlocksProofsMessage {
            certificate_hash: self.0.by.certificate_hash.clone(),
            certified_blocks: proof.map(|proof| MkSetProofMessagePart { items, proof }),
            non_certified_blocks: found.missing,
            latest_block_number: self.0.by.block_number,
            security_parameter: self.1,
        })
    }
}

/// The provers of the newest certificates, for all readers. A new one is there at once; who has the old one keeps it.
#[derive(Debug, Default)]
pub struct Provers {
    transactions: RwLock<Option<TransactionsProver>>,
    blocks_transactions: RwLock<Option<BlocksTransactionsProver>>,
}

impl Provers {
    /// Whoever proves transactions (v1) now.
    #[must_use]
    pub fn transactions(&self) -> Option<TransactionsProver> {
        self.transactions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whoever proves blocks and transactions (v2) now.
    #[must_use]
    pub fn blocks_transactions(&self) -> Option<BlocksTransactionsProver> {
        self.blocks_transactions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody proves any more by what is above this block (none: anything): it is given up.
    pub fn forget_above(&self, block: Option<BlockNumber>) {
        let is_above = |covered: u64| block.is_none_or(|block| covered > *block);
        let mut transactions = self.transactions.write().unwrap_or_else(PoisonError::into_inner);
        if transactions.as_ref().is_some_and(|prover| is_above(prover.0.covered)) {
            *transactions = None;
        }
        let mut blocks = self.blocks_transactions.write().unwrap_or_else(PoisonError::into_inner);
        if blocks.as_ref().is_some_and(|prover| is_above(prover.covered())) {
            *blocks = None;
        }
    }

    /// From now on this one proves transactions (v1).
    pub fn set_transactions(&self, prover: TransactionsProver) {
        *self.transactions.write().unwrap_or_else(PoisonError::into_inner) = Some(prover);
    }

    /// From now on this one proves blocks and transactions (v2).
    pub fn set_blocks_transactions(&self, prover: BlocksTransactionsProver) {
        *self.blocks_transactions.write().unwrap_or_else(PoisonError::into_inner) = Some(prover);
    }
}
