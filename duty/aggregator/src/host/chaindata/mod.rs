//! The chain's blocks and transactions in files of our own, their Merkle roots, and proofs (spec §4.1 to 4.3).
//!
//! ```text
//! immutable, block   the node's chunks and what is read of a block
//! import, follow     from the chunks in parallel; behind them by chain-sync, roll-backs included
//! disk, manifest     the directory; what of it counts
//! insistence         when a node is believed that goes back below a certified block
//! store, index       blocks, transactions and range leaves; which block holds a hash
//! writer, view       who appends and goes back; what readers see
//! prover, cache      proofs at a certified block
//! ```
//!
//! Invariants: block numbers and slots ascend, each block names the one before it; what a manifest counts is on disk, so a stop
//! at any write leaves the state of the last manifest; nothing goes back below a certified block unless that is given up first
//! ([`ChainData::give_up`]). A Byron boundary block bears
//! the number of the block before it and is left out, except the first of the chain, which is block 0 (trap 18).
//!
//! A root at a block is a function of the chain up to it: v1 has the ranges that end at or below it, v2 also the part of the
//! range in which it lies. Seen in mithril-common 0.8.3: who happens to have stored that range whole takes it whole, so the same
//! beacon may have either root there; the other one is ours at the last block of the range. A prover takes the one that is
//! certified.

mod block;
mod cache;
mod disk;
mod error;
mod follow;
mod immutable;
mod import;
mod index;
mod insistence;
mod manifest;
mod prover;
mod store;
mod view;
mod writer;

#[cfg(test)]
mod tests;

pub use block::ParsedBlock;
pub use error::ChainDataError;
pub use insistence::{Insistence, Verdict};
pub use prover::{BlocksTransactionsProver, Certified, Provers, TransactionsProver};

use crate::host::chain::{Observer, Place};
use cache::Cache;
use disk::Disk;
use immutable::Immutables;
use mithril_common::entities::{BlockNumber, BlockNumberOffset};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use store::Store;
use view::Shared;
use writer::{Loaded, Writer};

/// Blocks by which a network may go back: the security parameter k of all public ones.
pub const ROLL_BACK_MAX: u64 = 2160;

/// How chain data are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether blocks that cannot be parsed are left out instead of stopping the import.
    pub allow_unparsable_block: bool,
    /// Most bytes of trees that are kept for the next proof.
    pub cache_bytes_max: usize,
    /// Most hashes in one proof.
    pub hashes_max: usize,
}

impl Default for Options {
    /// 8 MiB are about a thousand ranges.
    fn default() -> Self {
        Self { allow_unparsable_block: false, cache_bytes_max: 8 << 20, hashes_max: 100 }
    }
}

/// How far an import is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Immutable files that are to be read.
    pub chunks: u64,
    /// Of them, how many are done.
    pub done: u64,
    /// Bytes of chunks read.
    pub bytes: u64,
    /// Blocks that are new.
    pub blocks: u64,
    /// Their transactions.
    pub transactions: u64,
    /// Highest block here.
    pub highest: Option<BlockNumber>,
}

/// See the module.
#[derive(Debug)]
pub struct ChainData {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
    /// One import at a time. The writer is free between its batches.
    importing: Mutex<()>,
    options: Options,
}

impl ChainData {
    /// Opens a directory, which is made when there is none. No other process may have it open.
    ///
    /// # Errors
    /// The directory is locked, damaged or of a newer version, or cannot be read or written.
    pub fn open(dir: &Path, options: Options) -> Result<Self, ChainDataError> {
        Self::open_on(Disk::open(dir)?, options)
    }

    fn open_on(disk: Disk, options: Options) -> Result<Self, ChainDataError> {
        let store = Store::open(&disk)?;
        let (writer, Loaded { view, runs, recent }) = Writer::open(disk, &store)?;
        let shared = Shared {
            store,
            cache: Cache::new(options.cache_bytes_max),
            view: RwLock::new(Arc::new(view)),
            runs: RwLock::new(runs),
            recent: RwLock::new(recent),
        };
        Ok(Self { shared: Arc::new(shared), writer: Mutex::new(writer), importing: Mutex::new(()), options })
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, ChainDataError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.mend(&self.shared)?;
        Ok(writer)
    }

    /// Imports from the complete immutable files of a directory, up to and including a block. `progress` is told after each
    /// batch and may say stop; what was imported stays.
    ///
    /// # Errors
    /// Files that are missing or cannot be read, blocks that cannot be parsed or do not follow each other, a chain that is
    /// not the one that was certified.
    pub fn import_immutables(
        &self,
        immutable_dir: &Path,
        up_to: BlockNumber,
        progress: &dyn Fn(Progress) -> ControlFlow<()>,
    ) -> Result<(), ChainDataError> {
        let _alone = self.importing.lock().unwrap_or_else(PoisonError::into_inner);
        self.import(&Immutables::list(immutable_dir)?, *up_to, progress)
    }

    /// Follows the chain of a node up to and including a block; true when it is reached, false at the tip. A roll-back takes
    /// away all blocks and ranges behind its place.
    ///
    /// # Errors
    /// The node does not answer, sends what is not the next block, or goes back below a certified block.
    pub fn follow(
        &self,
        observer: &dyn Observer,
        up_to: BlockNumber,
        progress: &dyn Fn(Progress) -> ControlFlow<()>,
    ) -> Result<bool, ChainDataError> {
        let _alone = self.importing.lock().unwrap_or_else(PoisonError::into_inner);
        self.walk(observer, *up_to, progress)
    }

    /// The highest block here.
    #[must_use]
    pub fn highest(&self) -> Option<(BlockNumber, Place)> {
        self.shared.view().highest.map(|(number, place)| (BlockNumber(number), place))
    }

    /// How many blocks and transactions are here.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let view = self.shared.view();
        (view.blocks, view.transactions)
    }

    /// Root over the transactions of the ranges that end at or below a block (v1), in hexadecimal.
    ///
    /// # Errors
    /// The block is not here yet, or no complete range has a transaction.
    pub fn transactions_root(&self, up_to: BlockNumber) -> Result<String, ChainDataError> {
        let view = self.shared.view();
        view.reaches(*up_to)?;
        Ok(hex::encode(view.transactions_map(*up_to).root()?))
    }

    /// Root over the blocks and transactions up to a block (v2), in hexadecimal.
    ///
    /// # Errors
    /// The block is not here yet, or files cannot be read.
    pub fn blocks_transactions_root(&self, up_to: BlockNumber) -> Result<String, ChainDataError> {
        loop {
            let view = self.shared.view();
            view.reaches(*up_to)?;
            let map = view.blocks_transactions_map(&self.shared.store, *up_to);
            // The last blocks may have been replaced while they were read.
            if view.roll_backs == self.shared.view().roll_backs {
                return Ok(hex::encode(map?.root()?));
            }
        }
    }

    /// Nothing goes back below this block any more, not even after a restart: a certificate says so.
    ///
    /// # Errors
    /// The block is not here yet, or this cannot be written.
    pub fn certify(&self, number: BlockNumber) -> Result<(), ChainDataError> {
        self.writer()?.certify(&self.shared, *number)
    }

    /// The highest certified block.
    ///
    /// # Errors
    /// The files had to be read again and cannot be.
    pub fn certified(&self) -> Result<Option<BlockNumber>, ChainDataError> {
        Ok(self.writer()?.certified().map(BlockNumber))
    }

    /// Lets the chain go back to this block (none: the origin), whatever is certified above it. The provers above it must be gone:
    /// see [`Provers::forget_above`].
    ///
    /// # Errors
    /// It is further than [`ROLL_BACK_MAX`], or this cannot be written.
    pub fn give_up(&self, to: Option<BlockNumber>) -> Result<(), ChainDataError> {
        self.writer()?.give_up(&self.shared, to)
    }

    /// A prover of transactions (v1) for a certificate; nothing goes back below its block any more.
    ///
    /// # Errors
    /// The block is not here yet, the root is another one, or this cannot be written.
    pub fn transactions_prover(&self, by: Certified) -> Result<TransactionsProver, ChainDataError> {
        // As long as the writer is held, nothing goes back.
        let mut writer = self.writer()?;
        self.shared.view().reaches(*by.block_number)?;
        let prover = TransactionsProver::new(&self.shared, by, self.options.hashes_max)?;
        writer.certify(&self.shared, *prover.certified().block_number)?;
        Ok(prover)
    }

    /// A prover of blocks and transactions (v2) for a certificate; nothing goes back below its block any more.
    ///
    /// # Errors
    /// The block is not here yet, the root is another one, files cannot be read, or this cannot be written.
    pub fn blocks_transactions_prover(
        &self,
        by: Certified,
        security_parameter: BlockNumberOffset,
    ) -> Result<BlocksTransactionsProver, ChainDataError> {
        let mut writer = self.writer()?;
        self.shared.view().reaches(*by.block_number)?;
        let prover = BlocksTransactionsProver::new(&self.shared, by, security_parameter, self.options.hashes_max)?;
        writer.certify(&self.shared, prover.covered())?;
        Ok(prover)
    }
}
