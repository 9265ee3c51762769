//! Proofs at a certified block: what a certificate says, and the maps as they were at its block.
//!
//! A prover is a copy that shares its nodes with the writer and every other prover; the trees of the ranges asked for are made
//! from the files and compared with the range's leaf, so a damaged file is an error and never a wrong proof. Any number of
//! threads may ask at once; none waits for the writer.

use super::cache::Kept;
use super::error::ChainDataError;
use super::view::{Shared, View, narrow};
use crate::core::merkle::range::{
    block_leaf, blocks_transactions_tree, transaction_in_block_leaf, transaction_leaf, transactions_tree,
};
use crate::core::merkle::{Block, Hash, MapProof, RANGE_LENGTH, RangeMap, range_leaf, range_of};
use mithril_common::entities::{BlockNumber, BlockNumberOffset, SlotNumber};
use mithril_common::messages::{
    CardanoBlockMessagePart, CardanoBlocksProofsMessage, CardanoTransactionMessagePart,
    CardanoTransactionsProofsMessage, CardanoTransactionsProofsV2Message, CardanoTransactionsSetProofMessagePart,
    MkSetProofMessagePart,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

/// What the maps and trees are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Transactions (v1).
    Transactions,
    /// Blocks and transactions (v2).
    BlocksTransactions,
}

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
    form: Form,
    by: Certified,
    certified: u64,
    hashes_max: usize,
}

/// What was asked for and found: leaves by range, in one proof.
#[derive(Default)]
struct Found {
    leaves: BTreeMap<u64, Vec<Vec<u8>>>,
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
        form: Form,
        by: Certified,
        hashes_max: usize,
    ) -> Result<Self, ChainDataError> {
        let root = hex::encode(map.root()?);
        if root != by.merkle_root {
            return Err(ChainDataError::OtherRoot { block: by.block_number, certified: by.merkle_root, ours: root });
        }
        let certified = *by.block_number;
        Ok(Self { shared: Arc::clone(shared), view: shared.view(), map, form, by, certified, hashes_max })
    }

    /// Looks up each hash once, in the order of the request.
    fn find(
        &self,
        hashes: &[String],
        is: impl Fn(&Block, &Hash) -> bool,
        mut leaf: impl FnMut(&Block, &Hash) -> Vec<u8>,
    ) -> Result<Found, ChainDataError> {
        if hashes.len() > self.hashes_max {
            return Err(ChainDataError::TooMany { asked: hashes.len(), most: self.hashes_max });
        }
        let mut found = Found::default();
        let mut seen = HashSet::new();
        for text in hashes.iter().filter(|text| seen.insert(text.as_str())) {
            let block = match parse(text) {
                Some(hash) => {
                    let block = self.shared.locate(&self.view, &hash, self.certified, |block| is(block, &hash))?;
                    // A range that is not in the map is not certified: v1 has complete ranges only.
                    let block = block.filter(|block| self.has_range(range_of(block.number)));
                    block.map(|block| (block, hash))
                }
                None => None,
            };
            match block {
                Some((block, hash)) => {
                    found.leaves.entry(range_of(block.number)).or_default().push(leaf(&block, &hash));
                }
                None => found.missing.push(text.clone()),
            }
        }
        Ok(found)
    }

    fn has_range(&self, range: u64) -> bool {
        narrow(range).is_ok_and(|range| self.map.index_of(range).is_some())
    }

    /// Proves leaves and writes the proof in its form; none when there is nothing to prove.
    fn prove(&self, leaves: &BTreeMap<u64, Vec<Vec<u8>>>) -> Result<Option<String>, ChainDataError> {
        if leaves.is_empty() {
            return Ok(None);
        }
        let mut trees = Vec::with_capacity(leaves.len());
        let mut indices = Vec::with_capacity(leaves.len());
        for range in leaves.keys() {
            trees.push(self.tree(*range)?);
            indices.push(self.map.index_of(narrow(*range)?).ok_or_else(|| damaged(*range))?);
        }
        let mut ranges = Vec::with_capacity(leaves.len());
        for ((range, leaves), kept) in leaves.iter().zip(&trees) {
            let tree = &kept.1;
            let inside = leaves.iter().map(|leaf| tree.index_of(leaf)).collect::<Option<Vec<_>>>();
            ranges.push((*range, tree.prove(&inside.ok_or_else(|| damaged(*range))?)?));
        }
        let proof = MapProof { master: self.map.prove(&indices)?, ranges };
        Ok(Some(match self.form {
            Form::Transactions => proof.to_json_hex(),
            Form::BlocksTransactions => proof.to_bincode_hex(),
        }))
    }

    /// The tree of a range, as the map has it.
    fn tree(&self, range: u64) -> Result<Kept, ChainDataError> {
        let end = range.saturating_mul(RANGE_LENGTH).saturating_add(RANGE_LENGTH - 1);
        let last = end.min(self.certified);
        let leaf = self.map.leaf_of(narrow(range)?);
        let key = (if self.form == Form::Transactions { 1 } else { 2 }, range, last);
        if let Some(kept) = self.shared.cache.get(&key).filter(|kept| Some(&kept.0) == leaf) {
            return Ok(kept);
        }
        let blocks = self.shared.store.range(self.view.blocks, self.view.base, range, last)?;
        let tree = match self.form {
            Form::Transactions => transactions_tree(&blocks)?,
            Form::BlocksTransactions => blocks_transactions_tree(&blocks)?,
        };
        let made = range_leaf(range, &tree.root()?);
        if leaf != Some(&made) {
            return Err(damaged(range));
        }
        let kept = Arc::new((made, tree));
        self.shared.cache.put(key, &kept);
        Ok(kept)
    }
}

fn damaged(range: u64) -> ChainDataError {
    ChainDataError::damaged("transactions", format!("range {range} does not have the leaf that was written"))
}

fn holds(block: &Block, hash: &Hash) -> bool {
    block.transactions.binary_search(hash).is_ok()
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
        let map = shared.view().transactions_map(*by.block_number);
        Ok(Self(Arc::new(Snapshot::new(shared, map, Form::Transactions, by, hashes_max)?)))
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
        let found = self.0.find(hashes, holds, |_, hash| {
            certified.push(hex::encode(hash));
            transaction_leaf(hash).to_vec()
        })?;
        let proof = self.0.prove(&found.leaves)?;
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
        let map = shared.view().blocks_transactions_map(&shared.store, *by.block_number)?;
        let snapshot = Snapshot::new(shared, map, Form::BlocksTransactions, by, hashes_max)?;
        Ok(Self(Arc::new(snapshot), security_parameter))
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
        let found = self.0.find(hashes, holds, |block, hash| {
            let (number, slot) = (BlockNumber(block.number), SlotNumber(block.slot));
            items.push(CardanoTransactionMessagePart::new(hex::encode(hash), number, slot, hex::encode(block.hash)));
            transaction_in_block_leaf(hash, block)
        })?;
        let proof = self.0.prove(&found.leaves)?;
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
        let found = self.0.find(
            hashes,
            |block, hash| block.hash == *hash,
            |block, hash| {
                let (number, slot) = (BlockNumber(block.number), SlotNumber(block.slot));
                items.push(CardanoBlockMessagePart::new(hex::encode(hash), number, slot));
                block_leaf(block)
            },
        )?;
        let proof = self.0.prove(&found.leaves)?;
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

    /// From now on this one proves transactions (v1).
    pub fn set_transactions(&self, prover: TransactionsProver) {
        *self.transactions.write().unwrap_or_else(PoisonError::into_inner) = Some(prover);
    }

    /// From now on this one proves blocks and transactions (v2).
    pub fn set_blocks_transactions(&self, prover: BlocksTransactionsProver) {
        *self.blocks_transactions.write().unwrap_or_else(PoisonError::into_inner) = Some(prover);
    }
}
