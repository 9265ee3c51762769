//! The one who appends, goes back and says what counts.
//!
//! A batch: records and hashes behind what counts, leaves of the ranges that it completes, perhaps a run of the index; all
//! flushed; then the manifest; then readers see it. Going back is a manifest with shorter lengths. When any of this fails, the
//! state is read again from the files before the next batch, because the manifest may or may not have got there.

use super::ROLL_BACK_MAX;
use super::block::ParsedBlock;
use super::disk::Disk;
use super::error::ChainDataError;
use super::index::{Entry, Run, append as append_run, prefix_of};
use super::manifest::{Manifest, RunEntry};
use super::store::{
    BLOCK_BYTES, BLOCKS, NODE_BYTES, NODES, RANGE_BYTES, RANGES, RangeRecord, Record, Store, TRANSACTION_BYTES,
    TRANSACTIONS,
};
use super::view::{Shared, View, complete, narrow};
use crate::core::merkle::{Form, Hash, RANGE_LENGTH, RangeLeaves, Tree, range_leaf, range_tree};
use crate::host::chain::Place;
use mithril_common::entities::BlockNumber;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// Entries that are kept in memory before they become a run: about 12 MB.
const RECENT_MAX: usize = 400_000;

/// Ranges that are read at once.
const RANGES_AT_ONCE: u64 = 4096;

/// Entries that readers wait for at most while they are put in.
const RECENT_AT_ONCE: usize = 2_000;

/// How many numbers may be missing at once where blocks cannot be parsed: a chunk of the longest kind.
const GAP_MAX: u64 = 21_600;

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) disk: Disk,
    manifest: Manifest,
    /// Whether something failed since the files were read.
    failed: bool,
    recent_max: usize,
}

/// What the files say.
pub(super) struct Loaded {
    pub(super) view: View,
    pub(super) runs: Vec<Arc<Run>>,
    pub(super) recent: BTreeSet<Entry>,
}

/// A batch on its way to the files.
struct Batch {
    view: View,
    manifest: Manifest,
    records: Vec<u8>,
    hashes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Writer {
    pub(super) fn open(disk: Disk, store: &Store) -> Result<(Self, Loaded), ChainDataError> {
        let manifest = Manifest::read(&disk)?;
        let loaded = load(&disk, &manifest, store)?;
        Ok((Self { disk, manifest, failed: false, recent_max: RECENT_MAX }, loaded))
    }

    #[cfg(test)]
    pub(super) fn keep_recent(&mut self, most: usize) {
        self.recent_max = most;
    }

    /// Reads the files again when something failed.
    pub(super) fn mend(&mut self, shared: &Shared) -> Result<(), ChainDataError> {
        if !self.failed {
            return Ok(());
        }
        self.manifest = Manifest::read(&self.disk)?;
        let mut loaded = load(&self.disk, &self.manifest, &shared.store)?;
        loaded.view.roll_backs = shared.view().roll_backs + 1;
        publish(shared, loaded);
        self.failed = false;
        Ok(())
    }

    /// Highest certified block.
    pub(super) fn certified(&self) -> Option<u64> {
        self.manifest.certified
    }

    /// Hash of the last block seen.
    pub(super) fn link(&self, view: &View) -> Option<Hash> {
        let boundary = self.manifest.link.as_ref().and_then(|text| hex::decode(text).ok()?.try_into().ok());
        boundary.or(view.highest.map(|(_, place)| place.hash))
    }

    /// Appends blocks, all or none; `gaps`: some may be missing.
    pub(super) fn append(&mut self, shared: &Shared, blocks: &[ParsedBlock], gaps: bool) -> Result<(), ChainDataError> {
        let batch = self.prepare(shared, blocks, gaps)?;
        if batch.manifest == self.manifest {
            return Ok(());
        }
        self.attempt(|writer| writer.commit(shared, batch))
    }

    /// Takes away everything behind this place, or everything.
    pub(super) fn roll_back(&mut self, shared: &Shared, to: Option<Place>) -> Result<(), ChainDataError> {
        let view = shared.view();
        let count = match to {
            None => 0,
            Some(place) => self.count_up_to(shared, &view, place)?,
        };
        let last = match count.checked_sub(1) {
            Some(index) => shared.store.record(index, view.blocks)?,
            None => None,
        };
        if let Some(certified) = self.manifest.certified
            && last.is_none_or(|last| last.number < certified)
        {
            let to = last.map(|last| BlockNumber(last.number));
            return Err(ChainDataError::BelowCertified { to, certified: BlockNumber(certified) });
        }
        // A boundary block has no record: the chain goes on from it all the same.
        let link =
            to.filter(|place| last.is_some_and(|last| last.hash != place.hash)).map(|place| hex::encode(place.hash));
        if count == view.blocks && link == self.manifest.link {
            return Ok(());
        }
        let first_gone = shared.store.record(count, view.blocks)?;
        let mut next = View::clone(&view);
        next.blocks = count;
        next.transactions = first_gone.map_or(view.transactions, |gone| gone.first);
        next.highest = last.map(|last| (last.number, Place { slot: last.slot, hash: last.hash }));
        next.roll_backs += 1;
        let ranges = last.map_or(0, |last| complete(last.number)).min(self.manifest.ranges);
        next.v1.truncate(ranges);
        next.v2.truncate(ranges);
        let mut manifest = self.manifest.clone();
        manifest.generation += 1;
        manifest.blocks = count;
        manifest.transactions = next.transactions;
        if let Some(gone) = (ranges < manifest.ranges).then(|| shared.store.ranges(ranges..ranges + 1)).transpose()? {
            manifest.nodes = gone.first().map_or(manifest.nodes, |gone| gone.first);
        }
        manifest.ranges = ranges;
        manifest.indexed = manifest.indexed.min(count);
        manifest.link = link;
        self.attempt(|writer| {
            manifest.write(&writer.disk)?;
            writer.manifest = manifest;
            *shared.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
            Ok(())
        })
    }

    /// How many records come at or before this place.
    fn count_up_to(&self, shared: &Shared, view: &View, place: Place) -> Result<u64, ChainDataError> {
        // Going back is seldom far.
        let guess = view.blocks.saturating_sub(1);
        let mut count = shared.store.partition(view.blocks, guess, |record| record.slot <= place.slot)?;
        let mut others = false;
        while let Some(index) = count.checked_sub(1) {
            match shared.store.record(index, view.blocks)? {
                Some(record) if record.slot == place.slot && record.hash != place.hash => others = true,
                Some(record) if record.slot < place.slot && others => {
                    return Err(ChainDataError::OtherBlock { slot: place.slot });
                }
                _ => return Ok(count),
            }
            count = index;
        }
        if others { Err(ChainDataError::OtherBlock { slot: place.slot }) } else { Ok(count) }
    }

    /// From now on nothing goes back below this block.
    pub(super) fn certify(&mut self, shared: &Shared, number: u64) -> Result<(), ChainDataError> {
        shared.view().reaches(number)?;
        if self.manifest.certified.is_some_and(|certified| certified >= number) {
            return Ok(());
        }
        let mut manifest = self.manifest.clone();
        manifest.generation += 1;
        manifest.certified = Some(number);
        self.attempt(|writer| {
            manifest.write(&writer.disk)?;
            writer.manifest = manifest;
            Ok(())
        })
    }

    /// From now on the chain may go back to this block, or to the origin.
    pub(super) fn give_up(&mut self, shared: &Shared, to: Option<BlockNumber>) -> Result<(), ChainDataError> {
        let Some(certified) = self.manifest.certified.filter(|certified| to.is_none_or(|to| *to < *certified)) else {
            return Ok(());
        };
        let highest = shared.view().highest.map_or(certified, |(number, _)| number);
        if highest.saturating_sub(to.map_or(0, |to| *to)) > ROLL_BACK_MAX {
            return Err(ChainDataError::BelowCertified { to, certified: BlockNumber(certified) });
        }
        let mut manifest = self.manifest.clone();
        manifest.generation += 1;
        manifest.certified = to.map(|to| *to);
        self.attempt(|writer| {
            manifest.write(&writer.disk)?;
            writer.manifest = manifest;
            Ok(())
        })
    }

    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<(), ChainDataError>) -> Result<(), ChainDataError> {
        let done = work(self);
        self.failed |= done.is_err();
        done
    }

    /// Checks that blocks follow each other and makes their records.
    fn prepare(&self, shared: &Shared, blocks: &[ParsedBlock], gaps: bool) -> Result<Batch, ChainDataError> {
        let mut view = View::clone(&shared.view());
        let mut manifest = self.manifest.clone();
        let mut link = self.link(&view);
        let (mut records, mut hashes, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for block in blocks {
            if link == Some(block.hash) {
                // Seen already: a boundary block that ended what was read before.
                continue;
            }
            follows(view.highest, link, block, gaps)?;
            link = Some(block.hash);
            if block.boundary && view.highest.is_some_and(|(number, _)| number == block.number) {
                // The number belongs to the block before it.
                manifest.link = Some(hex::encode(block.hash));
                continue;
            }
            let number =
                u32::try_from(block.number).map_err(|_| not_next(block, "its number has more than 32 bits"))?;
            let count =
                u32::try_from(block.transactions.len()).map_err(|_| not_next(block, "too many transactions"))?;
            let sum = crc32c::crc32c(block.transactions.as_flattened());
            let (slot, hash) = (block.slot, block.hash);
            Record { number: block.number, slot, hash, first: view.transactions, count, sum }.write(&mut records);
            entries.push((prefix_of(&block.hash), number));
            for hash in &block.transactions {
                hashes.extend_from_slice(hash);
                entries.push((prefix_of(hash), number));
            }
            if view.blocks == 0 {
                view.base = block.number;
            }
            view.blocks += 1;
            view.transactions += u64::from(count);
            view.highest = Some((block.number, Place { slot: block.slot, hash: block.hash }));
            manifest.link = None;
        }
        manifest.blocks = view.blocks;
        manifest.transactions = view.transactions;
        if manifest != self.manifest {
            manifest.generation += 1;
        }
        Ok(Batch { view, manifest, records, hashes, entries })
    }

    fn commit(&mut self, shared: &Shared, batch: Batch) -> Result<(), ChainDataError> {
        let Batch { mut view, mut manifest, records, hashes, mut entries } = batch;
        let (store, disk, old) = (&shared.store, &self.disk, &self.manifest);
        disk.write_at(&store.blocks, BLOCKS, &records, old.blocks * BLOCK_BYTES)?;
        if !hashes.is_empty() {
            disk.write_at(&store.transactions, TRANSACTIONS, &hashes, old.transactions * TRANSACTION_BYTES)?;
            disk.sync(&store.transactions, TRANSACTIONS)?;
        }
        disk.sync(&store.blocks, BLOCKS)?;
        let ranges = view.highest.map_or(0, |(number, _)| complete(number));
        let (records, nodes) = complete_ranges(store, &view, old.ranges..ranges, old.nodes)?;
        if !records.is_empty() {
            let mut out = Vec::with_capacity(records.len() * RANGE_BYTES as usize);
            records.iter().for_each(|record| record.write(&mut out));
            disk.write_at(&store.nodes, NODES, nodes.as_flattened(), old.nodes * NODE_BYTES)?;
            disk.write_at(&store.ranges, RANGES, &out, old.ranges * RANGE_BYTES)?;
            disk.sync(&store.nodes, NODES)?;
            disk.sync(&store.ranges, RANGES)?;
        }
        grow(&mut view, &records)?;
        manifest.ranges = ranges.max(old.ranges);
        manifest.nodes = old.nodes + nodes.len() as u64;

        let recent = shared.recent.read().unwrap_or_else(PoisonError::into_inner).len();
        let runs = if recent + entries.len() > self.recent_max {
            let runs = self.flush(shared, &mut entries, manifest.generation)?;
            manifest.runs = runs.iter().map(|run| run.entry.clone()).collect();
            manifest.indexed = manifest.blocks;
            disk.sync_directory()?;
            Some(runs)
        } else {
            None
        };
        manifest.write(disk)?;
        self.manifest = manifest;
        show(shared, view, runs, &entries);
        self.sweep()
    }

    /// Makes a run of all entries that no run has.
    fn flush(
        &self,
        shared: &Shared,
        entries: &mut Vec<Entry>,
        generation: u64,
    ) -> Result<Vec<Arc<Run>>, ChainDataError> {
        entries.extend(shared.recent.read().unwrap_or_else(PoisonError::into_inner).iter());
        entries.sort_unstable();
        entries.dedup();
        let mut names = (0..).map(|index| format!("run-{generation}-{index}"));
        let mut name = || names.next().unwrap_or_default();
        let run = Run::write(&self.disk, name(), entries.drain(..).map(Ok))?;
        let runs = shared.runs.read().unwrap_or_else(PoisonError::into_inner).clone();
        append_run(&self.disk, runs, run, name)
    }

    /// Removes runs that the manifest does not name.
    fn sweep(&self) -> Result<(), ChainDataError> {
        sweep(&self.disk, &self.manifest.runs)
    }
}

fn sweep(disk: &Disk, runs: &[RunEntry]) -> Result<(), ChainDataError> {
    for name in disk.names()? {
        if name.starts_with("run-") && runs.iter().all(|run| run.file != name) {
            disk.remove(&name);
        }
    }
    Ok(())
}

fn not_next(block: &ParsedBlock, why: impl Into<String>) -> ChainDataError {
    ChainDataError::NotNext { number: block.number, why: why.into() }
}

/// Whether a block follows the highest one and the last one seen.
fn follows(
    highest: Option<(u64, Place)>,
    link: Option<Hash>,
    block: &ParsedBlock,
    gaps: bool,
) -> Result<(), ChainDataError> {
    let Some((number, place)) = highest else {
        // The first block has number 0, or 1 behind a boundary block that is not there.
        return if block.number <= 1 || gaps && block.number <= GAP_MAX {
            Ok(())
        } else {
            Err(not_next(block, "it would be the first"))
        };
    };
    let step = block.number.checked_sub(number);
    let right = match step {
        Some(0) => block.boundary,
        Some(1) => true,
        Some(step) => gaps && step <= GAP_MAX,
        None => false,
    };
    if !right {
        return Err(not_next(block, format!("the one before it is {number}")));
    }
    if block.slot < place.slot || (block.slot == place.slot && number > 0) {
        return Err(not_next(block, format!("its slot {} is not behind slot {}", block.slot, place.slot)));
    }
    if block.previous != link && !gaps {
        return Err(not_next(block, "it names another block as the one before it"));
    }
    Ok(())
}

/// Records and upper nodes of the ranges that are now complete; `first` is where their nodes begin.
fn complete_ranges(
    store: &Store,
    view: &View,
    ranges: Range<u64>,
    first: u64,
) -> Result<(Vec<RangeRecord>, Vec<Hash>), ChainDataError> {
    let trees = ranges.into_par_iter().map(|range| {
        let last = range * RANGE_LENGTH + (RANGE_LENGTH - 1);
        let blocks = store.range(view.blocks, view.base, range, last)?;
        let v1 = range_tree(Form::Transactions, blocks.clone());
        let v2 = range_tree(Form::BlocksTransactions, blocks);
        let leaf = |tree: &Option<Tree<RangeLeaves>>| tree.as_ref().map(|tree| range_leaf(range, tree.root()));
        let leaves = (range, leaf(&v1), leaf(&v2));
        let nodes: Vec<Hash> = [&v1, &v2].into_iter().flatten().flat_map(Tree::upper).copied().collect();
        Ok::<_, ChainDataError>((leaves, nodes))
    });
    let trees = trees.collect::<Result<Vec<_>, _>>()?;
    let (mut records, mut all) = (Vec::with_capacity(trees.len()), Vec::new());
    for ((range, v1, v2), mut nodes) in trees {
        let count = u32::try_from(nodes.len()).map_err(|_| ChainDataError::damaged(BLOCKS, "too many transactions"))?;
        let sum = crc32c::crc32c(nodes.as_flattened());
        records.push(RangeRecord { range, v1, v2, first: first + all.len() as u64, count, sum });
        all.append(&mut nodes);
    }
    Ok((records, all))
}

/// Puts leaves into the maps.
fn grow(view: &mut View, records: &[RangeRecord]) -> Result<(), ChainDataError> {
    for record in records {
        let range = narrow(record.range)?;
        if let Some(leaf) = record.v1 {
            view.v1.push(range, leaf)?;
        }
        if let Some(leaf) = record.v2 {
            view.v2.push(range, leaf)?;
        }
    }
    Ok(())
}

/// Lets readers see a batch.
fn show(shared: &Shared, view: View, runs: Option<Vec<Arc<Run>>>, entries: &[Entry]) {
    if let Some(runs) = runs {
        *shared.runs.write().unwrap_or_else(PoisonError::into_inner) = runs;
        shared.recent.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
    for some in entries.chunks(RECENT_AT_ONCE) {
        shared.recent.write().unwrap_or_else(PoisonError::into_inner).extend(some);
    }
    *shared.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
}

fn publish(shared: &Shared, loaded: Loaded) {
    *shared.runs.write().unwrap_or_else(PoisonError::into_inner) = loaded.runs;
    *shared.recent.write().unwrap_or_else(PoisonError::into_inner) = loaded.recent;
    *shared.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded.view);
}

/// Reads what the manifest counts and cuts the rest off.
fn load(disk: &Disk, manifest: &Manifest, store: &Store) -> Result<Loaded, ChainDataError> {
    for (file, name, len) in [
        (&store.blocks, BLOCKS, manifest.blocks.saturating_mul(BLOCK_BYTES)),
        (&store.transactions, TRANSACTIONS, manifest.transactions.saturating_mul(TRANSACTION_BYTES)),
        (&store.ranges, RANGES, manifest.ranges.saturating_mul(RANGE_BYTES)),
        (&store.nodes, NODES, manifest.nodes.saturating_mul(NODE_BYTES)),
    ] {
        let have = file.metadata().map_err(ChainDataError::io(format!("asking for the size of {name}")))?.len();
        if have < len {
            return Err(ChainDataError::damaged(name, format!("{have} bytes are there, {len} were written")));
        }
        if have > len {
            disk.cut(file, name, len)?;
        }
    }
    let mut view = View { blocks: manifest.blocks, transactions: manifest.transactions, ..View::default() };
    if let Some(last) = manifest.blocks.checked_sub(1) {
        view.base = store.record(0, view.blocks)?.map_or(0, |first| first.number);
        let last = store.record(last, view.blocks)?;
        if last.is_none_or(|last| last.first.checked_add(u64::from(last.count)) != Some(manifest.transactions)) {
            return Err(ChainDataError::damaged(BLOCKS, "the last record does not end where the transactions do"));
        }
        view.highest = last.map(|last| (last.number, Place { slot: last.slot, hash: last.hash }));
    }
    let mut at = 0;
    while at < manifest.ranges {
        let end = at.saturating_add(RANGES_AT_ONCE).min(manifest.ranges);
        grow(&mut view, &store.ranges(at..end)?)?;
        at = end;
    }
    sweep(disk, &manifest.runs)?;
    let runs = manifest.runs.iter().map(|entry| Run::open(disk, entry).map(Arc::new)).collect::<Result<_, _>>()?;
    let recent = store.entries(manifest.indexed, manifest.blocks)?;
    Ok(Loaded { view, runs, recent })
}

impl Store {
    /// Entries of the index for the records from `start` to `end`.
    fn entries(&self, start: u64, end: u64) -> Result<BTreeSet<Entry>, ChainDataError> {
        let mut entries = BTreeSet::new();
        let mut at = start;
        while at < end {
            let here = (end - at).min(1000);
            for block in self.with_transactions(&self.records(at, usize::try_from(here).unwrap_or_default())?)? {
                let number = u32::try_from(block.number).unwrap_or(u32::MAX);
                entries.insert((prefix_of(&block.hash), number));
                entries.extend(block.transactions.iter().map(|hash| (prefix_of(hash), number)));
            }
            at += here;
        }
        Ok(entries)
    }
}
