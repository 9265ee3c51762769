//! Which block holds a hash: sorted runs, each in a file.
//!
//! An entry is the first 8 bytes of a hash (of a block or a transaction) and the number of a block, 12 bytes. It is a hint: who
//! finds one looks into that block. So entries of blocks that a roll-back took away do no harm, and only missing ones would.
//! A page is 4096 bytes: 341 entries and a CRC-32C; behind the pages come the fences, the first prefix of each page, which are
//! kept in memory (8 bytes for 341 entries: 2.6 MB at 110 million transactions). A look-up reads one page of each run.
//!
//! Each run is more than twice as large as the next, up to a size at which runs are left as they are: so there are few, and no
//! merge takes long.

use super::disk::{Disk, read_at};
use super::error::ChainDataError;
use super::manifest::RunEntry;
use crate::core::merkle::Hash;
use std::fs::File;
use std::sync::Arc;

const PAGE: usize = 4096;
const ENTRY: usize = 12;
const PAGE_ENTRIES: usize = (PAGE - 4) / ENTRY;

/// Pages that are written at once.
const PAGES_AT_ONCE: usize = 64;

/// Entries of a run that is not made larger: 400 MB, which take a few seconds to merge. Mainnet has four of them.
const RUN_MAX: u64 = 1 << 25;

/// First bytes of a hash, and a block that may hold it.
pub(super) type Entry = (u64, u32);

/// The part of a hash that the index knows. Big-endian: prefixes ascend as hashes do.
pub(super) fn prefix_of(hash: &Hash) -> u64 {
    hash.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// One sorted run.
#[derive(Debug)]
pub(super) struct Run {
    file: File,
    pub(super) entry: RunEntry,
    fences: Vec<u64>,
}

fn pages_of(entries: u64) -> u64 {
    entries.div_ceil(PAGE_ENTRIES as u64)
}

impl Run {
    /// Opens a run that the manifest names.
    pub(super) fn open(disk: &Disk, entry: &RunEntry) -> Result<Self, ChainDataError> {
        let file = disk.open_file(&entry.file)?;
        let pages = pages_of(entry.entries);
        let len = usize::try_from(pages.saturating_mul(8)).unwrap_or(usize::MAX);
        let bytes = read_at(&file, &entry.file, pages.saturating_mul(PAGE as u64), len)?;
        if crc32c::crc32c(&bytes) != entry.fences {
            return Err(ChainDataError::damaged(&entry.file, "the checksum of its fences is wrong"));
        }
        let (fences, _) = bytes.as_chunks::<8>();
        Ok(Self { file, entry: entry.clone(), fences: fences.iter().map(|fence| u64::from_le_bytes(*fence)).collect() })
    }

    /// Writes a run of ascending entries; it is flushed when this returns.
    pub(super) fn write(
        disk: &Disk,
        name: String,
        entries: impl Iterator<Item = Result<Entry, ChainDataError>>,
    ) -> Result<Self, ChainDataError> {
        let file = disk.open_file(&name)?;
        disk.cut(&file, &name, 0)?;
        let (mut fences, mut count, mut offset) = (Vec::new(), 0_u64, 0_u64);
        let (mut out, mut page) = (Vec::new(), Vec::with_capacity(PAGE));
        let mut entries = entries.peekable();
        while let Some(entry) = entries.next() {
            let (prefix, number) = entry?;
            if page.is_empty() {
                fences.push(prefix);
            }
            page.extend_from_slice(&prefix.to_le_bytes());
            page.extend_from_slice(&number.to_le_bytes());
            count += 1;
            if page.len() == PAGE_ENTRIES * ENTRY || entries.peek().is_none() {
                page.resize(PAGE_ENTRIES * ENTRY, 0);
                page.extend_from_slice(&crc32c::crc32c(&page).to_le_bytes());
                out.append(&mut page);
            }
            if out.len() >= PAGES_AT_ONCE * PAGE {
                disk.write_at(&file, &name, &out, offset)?;
                offset += out.len() as u64;
                out.clear();
            }
        }
        let start = out.len();
        fences.iter().for_each(|fence: &u64| out.extend_from_slice(&fence.to_le_bytes()));
        let sum = crc32c::crc32c(out.get(start..).unwrap_or_default());
        disk.write_at(&file, &name, &out, offset)?;
        disk.sync(&file, &name)?;
        Ok(Self { file, entry: RunEntry { file: name, entries: count, fences: sum }, fences })
    }

    fn page(&self, page: u64) -> Result<Vec<Entry>, ChainDataError> {
        let bytes = read_at(&self.file, &self.entry.file, page.saturating_mul(PAGE as u64), PAGE)?;
        let damaged = || ChainDataError::damaged(&self.entry.file, format!("the checksum of page {page} is wrong"));
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return Err(damaged());
        }
        let before = page.saturating_mul(PAGE_ENTRIES as u64);
        let here = self.entry.entries.saturating_sub(before).min(PAGE_ENTRIES as u64);
        let (entries, _) = body.as_chunks::<ENTRY>();
        let parse = |entry: &[u8; ENTRY]| {
            let (prefix, number) = entry.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*prefix), u32::from_le_bytes(*number.first_chunk::<4>()?)))
        };
        Ok(entries.iter().take(usize::try_from(here).unwrap_or_default()).filter_map(parse).collect())
    }

    /// Numbers of blocks that may hold a hash with this prefix.
    pub(super) fn find(&self, prefix: u64, found: &mut Vec<u32>) -> Result<(), ChainDataError> {
        // The entry may begin on the page before the first that starts with it.
        let first = self.fences.partition_point(|fence| *fence < prefix).saturating_sub(1);
        for (page, fence) in (0_u64..).zip(&self.fences).skip(first) {
            if *fence > prefix {
                break;
            }
            let entries = self.page(page)?;
            let start = entries.partition_point(|(have, _)| *have < prefix);
            found.extend(entries.iter().skip(start).take_while(|(have, _)| *have == prefix).map(|(_, number)| number));
        }
        Ok(())
    }

    /// All entries, in order.
    fn entries(&self) -> impl Iterator<Item = Result<Entry, ChainDataError>> + '_ {
        (0..pages_of(self.entry.entries)).flat_map(|page| match self.page(page) {
            Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(why) => vec![Err(why)],
        })
    }
}

/// Both in one order, what is in both once.
fn merge<'a>(left: &'a Run, right: &'a Run) -> impl Iterator<Item = Result<Entry, ChainDataError>> + 'a {
    let (mut left, mut right) = (left.entries().peekable(), right.entries().peekable());
    let mut last = None;
    std::iter::from_fn(move || {
        loop {
            let from_left = match (left.peek(), right.peek()) {
                (None, None) => return None,
                (Some(Ok(one)), Some(Ok(other))) => one <= other,
                (Some(Err(_)), _) | (Some(_), None) => true,
                (_, Some(_)) => false,
            };
            let next = if from_left { left.next() } else { right.next() };
            match next {
                Some(Ok(entry)) if last == Some(entry) => {}
                Some(Ok(entry)) => {
                    last = Some(entry);
                    return Some(Ok(entry));
                }
                other => return other,
            }
        }
    })
}

/// Appends a run and merges runs until each is more than twice as large as the next, or large. `name` makes names of files.
pub(super) fn append(
    disk: &Disk,
    mut runs: Vec<Arc<Run>>,
    run: Run,
    mut name: impl FnMut() -> String,
) -> Result<Vec<Arc<Run>>, ChainDataError> {
    let mut newest = run;
    while let Some(before) = runs.pop() {
        let (left, right) = (before.entry.entries, newest.entry.entries);
        if left > right.saturating_mul(2) || left.saturating_add(right) > RUN_MAX {
            runs.push(before);
            break;
        }
        newest = Run::write(disk, name(), merge(&before, &newest))?;
    }
    runs.push(Arc::new(newest));
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn numbers(runs: &[Arc<Run>], prefix: u64) -> BTreeSet<u32> {
        let mut found = Vec::new();
        runs.iter().for_each(|run| run.find(prefix, &mut found).unwrap());
        found.into_iter().collect()
    }

    /// Few prefixes, so that one goes over several pages; merged and opened again.
    #[test]
    fn runs_give_what_was_put_in_over_the_borders_of_pages_and_merges() {
        let home = tempfile::tempdir().unwrap();
        let disk = Disk::open(home.path()).unwrap();
        let (mut all, mut runs, mut names) = (BTreeSet::new(), Vec::new(), 0);
        let mut name = || {
            names += 1;
            format!("run-{names}")
        };
        for (round, size) in [5000_u64, 1, 340, 341, 342, 3000, 682, 7, 2000].into_iter().enumerate() {
            let spread = if round % 2 == 0 { 9 } else { u64::MAX / 5 };
            let entries: BTreeSet<Entry> =
                (0..size).map(|i| ((i * 7919 % size % 5) * spread, (i * 31 + round as u64) as u32)).collect();
            all.extend(&entries);
            let run = Run::write(&disk, name(), entries.into_iter().map(Ok)).unwrap();
            runs = append(&disk, runs, run, &mut name).unwrap();
            assert!(runs.windows(2).all(|pair| pair[0].entry.entries > pair[1].entry.entries * 2));
            let entries: u64 = runs.iter().map(|run| run.entry.entries).sum();
            assert!(entries >= all.len() as u64);
            let again: Vec<Arc<Run>> = runs.iter().map(|run| Arc::new(Run::open(&disk, &run.entry).unwrap())).collect();
            for prefix in (0..5).flat_map(|i| [i * 9, i * (u64::MAX / 5)]).chain([1, 8, 10, 37, u64::MAX]) {
                let expected: BTreeSet<u32> = all.range((prefix, 0)..=(prefix, u32::MAX)).map(|(_, n)| *n).collect();
                assert_eq!(numbers(&runs, prefix), expected, "prefix {prefix}");
                assert_eq!(numbers(&again, prefix), expected, "prefix {prefix}, opened again");
            }
        }
    }

    #[test]
    fn a_run_without_entries_finds_nothing() {
        let home = tempfile::tempdir().unwrap();
        let disk = Disk::open(home.path()).unwrap();
        let run = Run::write(&disk, "run-0".to_owned(), std::iter::empty()).unwrap();
        assert_eq!(numbers(&[Arc::new(Run::open(&disk, &run.entry).unwrap())], 0), BTreeSet::new());
    }
}
