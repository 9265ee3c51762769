//! What readers see: a state of the files that only grows behind them.
//!
//! A view is replaced as a whole when a batch or a roll-back is on disk. What lies at or below a certified block never
//! changes, so a reader that keeps to it needs no lock.

use super::cache::Cache;
use super::error::ChainDataError;
use super::index::{Entry, Run, prefix_of};
use super::store::Store;
use crate::core::merkle::{Form, Hash, RANGE_LENGTH, RangeMap, range_leaf, range_of, range_tree};
use crate::host::chain::Place;
use mithril_common::entities::BlockNumber;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Records of blocks.
    pub(super) blocks: u64,
    /// Hashes of transactions.
    pub(super) transactions: u64,
    /// Number of the first record.
    pub(super) base: u64,
    /// The highest block.
    pub(super) highest: Option<(u64, Place)>,
    /// Complete ranges with transactions.
    pub(super) v1: RangeMap,
    /// Complete ranges with blocks.
    pub(super) v2: RangeMap,
    /// How often the chain went back since the files were opened.
    pub(super) roll_backs: u64,
}

impl View {
    /// Refuses what is not here yet.
    pub(super) fn reaches(&self, number: u64) -> Result<(), ChainDataError> {
        match self.highest {
            Some((highest, _)) if highest >= number => Ok(()),
            highest => Err(ChainDataError::NotYet {
                wanted: BlockNumber(number),
                highest: highest.map(|(number, _)| BlockNumber(number)),
            }),
        }
    }

    /// The map of ranges of v1 that end at or below this block.
    pub(super) fn transactions_map(&self, up_to: u64) -> RangeMap {
        let mut map = self.v1.clone();
        map.truncate(complete(up_to));
        map
    }

    /// The map of ranges of v2 that end at or below this block, with the part of a range that it cuts.
    pub(super) fn blocks_transactions_map(&self, store: &Store, up_to: u64) -> Result<RangeMap, ChainDataError> {
        let mut map = self.v2.clone();
        let next = complete(up_to);
        map.truncate(next);
        if next == range_of(up_to) {
            let blocks = store.range(self.blocks, self.base, next, up_to)?;
            if let Some(tree) = range_tree(Form::BlocksTransactions, blocks) {
                map.push(narrow(next)?, range_leaf(next, tree.root()))?;
            }
        }
        Ok(map)
    }
}

/// How many ranges end at or below this block.
pub(super) const fn complete(up_to: u64) -> u64 {
    up_to.saturating_add(1) / RANGE_LENGTH
}

/// The number of a range as the map has it. Block numbers have 32 bits, so it fits.
pub(super) fn narrow(range: u64) -> Result<u32, ChainDataError> {
    u32::try_from(range).map_err(|_| ChainDataError::damaged("ranges", "a range beyond 32 bits"))
}

/// What readers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) cache: Cache,
    pub(super) view: RwLock<Arc<View>>,
    pub(super) runs: RwLock<Vec<Arc<Run>>>,
    /// Entries that no run has yet.
    pub(super) recent: RwLock<BTreeSet<Entry>>,
}

impl Shared {
    pub(super) fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Blocks up to `most` that may hold this hash, or bear it.
    pub(super) fn candidates(&self, hash: &Hash, most: u64) -> Result<Vec<u64>, ChainDataError> {
        let prefix = prefix_of(hash);
        let mut found: Vec<u32> = {
            // First what no run has: entries go from there to the runs, never back.
            let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
            recent.range((prefix, 0)..=(prefix, u32::MAX)).map(|(_, number)| *number).collect()
        };
        let runs = self.runs.read().unwrap_or_else(PoisonError::into_inner).clone();
        for run in &runs {
            run.find(prefix, &mut found)?;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found.into_iter().map(u64::from).filter(|number| *number <= most).collect())
    }
}
