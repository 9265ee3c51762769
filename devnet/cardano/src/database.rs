//! The database directory of the network's node, as far as others read it.
//!
//! ```text
//! db/protocolMagicId           the magic, decimal
//! db/clean                     empty
//! db/immutable/NNNNN.*         blocks more than k below the tip; the newest trio is still being written
//! db/ledger/<slot>/            meta, state, tables: a snapshot at each completed trio, the newest two are kept
//! db/volatile/blocks-0.dat     the other blocks
//! ```
//!
//! What is immutable stays, whatever the chain does: a trio that is complete is never written again.

use crate::block::Block;
use crate::immutable::{ImmutableError, Trio, replace};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How a node stores its snapshots of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerForm {
    /// A directory with `meta`, `state` and `tables` (node 10.7 and later).
    Tables,
    /// A directory with `meta`, `state` and `tables/tvar` (before 10.7).
    TablesTvar,
    /// One file (before UTxO-HD).
    File,
}

/// The directory and how far it was written.
#[derive(Debug)]
pub(crate) struct Database {
    directory: PathBuf,
    form: LedgerForm,
    written: Written,
}

#[derive(Debug, Default, Clone, Copy)]
struct Written {
    /// Immutable blocks so far.
    blocks: usize,
    /// Where the trio that is being written begins.
    trio_begins: usize,
    /// Its number.
    trio: u64,
}

/// Snapshots of the ledger that a node keeps.
const SNAPSHOTS_KEPT: usize = 2;

impl Database {
    pub(crate) fn create(directory: PathBuf, magic: u64, form: LedgerForm) -> Result<Self, ImmutableError> {
        for name in ["immutable", "ledger", "volatile"] {
            make_directory(&directory.join(name))?;
        }
        replace(&directory.join("protocolMagicId"), magic.to_string().as_bytes())?;
        replace(&directory.join("clean"), b"")?;
        Ok(Self { directory, form, written: Written::default() })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes what has become immutable, with `k` blocks at the end that have not.
    ///
    /// Below what was immutable before, the chain may have changed: that part of it is not looked at again.
    pub(crate) fn follow(&mut self, chain: &[Block], k: usize) -> Result<(), ImmutableError> {
        let immutable = chain.len().saturating_sub(k);
        let volatile: Vec<u8> = chain.iter().skip(immutable).flat_map(|block| block.bytes.iter().copied()).collect();
        replace(&self.directory.join("volatile").join("blocks-0.dat"), &volatile)?;
        if immutable <= self.written.blocks {
            return Ok(());
        }
        let mut next = self.written;
        let mut begins = next.trio_begins;
        let Some(blocks) = chain.get(begins..immutable) else { return Ok(()) };
        for trio in blocks.chunk_by(|one, other| one.chunk() == other.chunk()) {
            let Some(number) = trio.first().map(Block::chunk) else { continue };
            // A chain that was rolled back below what is immutable may come back to trios that are already there.
            if number < next.trio {
                begins += trio.len();
                continue;
            }
            let complete = begins + trio.len() < immutable;
            // A trio without any block is a trio all the same.
            for empty in next.trio + 1..number {
                self.write_trio(empty, &[], true)?;
            }
            self.write_trio(number, trio, complete)?;
            next = Written { blocks: begins + trio.len(), trio_begins: begins, trio: number };
            if complete && let Some(last) = trio.last() {
                self.snapshot(last)?;
            }
            begins += trio.len();
        }
        self.written = next;
        self.forget_snapshots()
    }

    fn write_trio(&self, number: u64, blocks: &[Block], complete: bool) -> Result<(), ImmutableError> {
        Trio::encode(number, blocks, complete)?.write(&self.directory.join("immutable"), number)
    }

    fn snapshot(&self, at: &Block) -> Result<(), ImmutableError> {
        let place = self.directory.join("ledger").join(at.slot.to_string());
        let state = [&at.number.to_be_bytes()[..], &at.hash].concat();
        if self.form == LedgerForm::File {
            return replace(&place, &state);
        }
        make_directory(&place)?;
        replace(&place.join("meta"), br#"{"backend":"utxohd-mem","checksum":0,"tablesCodecVersion":1}"#)?;
        replace(&place.join("state"), &state)?;
        let tables = match self.form {
            LedgerForm::TablesTvar => {
                make_directory(&place.join("tables"))?;
                place.join("tables").join("tvar")
            }
            LedgerForm::Tables | LedgerForm::File => place.join("tables"),
        };
        replace(&tables, &at.bytes)
    }

    fn forget_snapshots(&self) -> Result<(), ImmutableError> {
        let directory = self.directory.join("ledger");
        let failed = |source| ImmutableError::File { path: directory.clone(), source };
        let mut slots: Vec<u64> = fs::read_dir(&directory)
            .map_err(failed)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        slots.sort_unstable();
        let old = slots.len().saturating_sub(SNAPSHOTS_KEPT);
        for slot in slots.into_iter().take(old) {
            let path = directory.join(slot.to_string());
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.map_err(|source| ImmutableError::File { path, source })?;
        }
        Ok(())
    }
}

fn make_directory(path: &Path) -> Result<(), ImmutableError> {
    fs::create_dir_all(path).map_err(|source: io::Error| ImmutableError::File { path: path.to_owned(), source })
}
