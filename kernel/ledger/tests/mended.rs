//! A half record at the end of the chain: what is cut off, what is not, and that the keys hold whatever interrupts the mending.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod scene;

use scene::{ask, at, precommit, refusal, subject};
use semel_guard::{Guard, HoldCause, Lane, Ledger};
use semel_ledger::disk::{Disk, File, HostDisk, Open};
use semel_ledger::{Durability, Journal, examine, mend};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a record.
const RECORD: usize = 512;

fn open(directory: &Path, keys: &[u8]) -> Journal {
    let subjects: Vec<_> = keys.iter().copied().map(subject).collect();
    Journal::open(at(directory, Durability::Sync), &subjects).unwrap()
}

fn sequence(slot: &[u8]) -> u64 {
    u64::from_le_bytes(slot[8..16].try_into().unwrap())
}

/// The segment with the last record of volume 0, its bytes, and the slot of that record.
fn tail(directory: &Path) -> (PathBuf, Vec<u8>, usize) {
    let last_of = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        let slots = bytes.chunks_exact(RECORD).enumerate();
        let last = slots.map(|(at, slot)| (sequence(slot), at)).max().unwrap();
        (last, path, bytes)
    };
    let segments = (0..4).map(|index| directory.join(format!("volume-0/segment-{index}")));
    let ((_, at), path, bytes) = segments.map(last_of).max_by_key(|(last, ..)| *last).unwrap();
    (path, bytes, at)
}

/// Key 1 signs up to height 5, and half a record follows.
fn with_half_a_record(directory: &Path) {
    let guard = Guard::new(open(directory, &[1]));
    for height in 1..=5 {
        assert_eq!(refusal(ask(&guard, &subject(1), precommit(height), "block")), None);
    }
    drop(guard);
    let (path, mut bytes, at) = tail(directory);
    let mut half = bytes[at * RECORD..][..200].to_vec();
    let next = sequence(&half) + 1;
    half[8..16].copy_from_slice(&next.to_le_bytes());
    bytes[(at + 1) * RECORD..][..200].copy_from_slice(&half);
    fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn assert_held(directory: &Path, when: &str) {
    let journal = open(directory, &[1]);
    assert_eq!(journal.hold(&subject(1)).map(|hold| hold.cause), Some(HoldCause::Mended), "{when}");
    let floor = journal.history(&subject(1), Lane::Tendermint).unwrap().floor;
    assert_eq!(floor, Some(precommit(5).mark()), "{when}");
}

#[test]
fn only_a_beginning_of_the_next_record_is_cut_off() {
    type Change = fn(&mut [u8], u64);
    let rows: [(&str, bool, Change); 8] = [
        ("as it is", true, |_, _| {}),
        ("it begins otherwise", false, |slot, _| slot[0] ^= 1),
        ("another sequence", false, |slot, next| slot[8..16].copy_from_slice(&(next + 1).to_le_bytes())),
        ("the one before once more", false, |slot, next| slot[8..16].copy_from_slice(&(next - 1).to_le_bytes())),
        ("it calls itself durable", false, |slot, next| slot[16..24].copy_from_slice(&next.to_le_bytes())),
        ("less is durable than before", false, |slot, _| slot[16..24].fill(0)),
        ("only the end was written", false, |slot, _| {
            slot[..200].fill(0);
            slot[400..].fill(7);
        }),
        ("nothing is left of it but noise", false, |slot, _| slot.fill(0x5a)),
    ];
    for (name, is_mended, change) in rows {
        let directory = tempfile::tempdir().unwrap();
        with_half_a_record(directory.path());
        let (path, mut bytes, _) = tail(directory.path());
        let half = bytes.chunks_exact(RECORD).position(|slot| slot[0] == b'S' && slot[500..].iter().all(|b| *b == 0));
        let half = half.unwrap();
        let slot = &mut bytes[half * RECORD..][..RECORD];
        let next = sequence(slot);
        change(slot, next);
        fs::write(&path, &bytes).unwrap();
        let found = examine(directory.path()).unwrap().findings;
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(found[0].remedy().is_some(), is_mended, "{name}: {found:?}");
    }
}

#[test]
fn a_whole_record_that_lost_its_end_later_is_not_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    with_half_a_record(directory.path());
    let (path, mut bytes, at) = tail(directory.path());
    bytes[at * RECORD..][..RECORD].fill(0);
    let last = &mut bytes[(at - 1) * RECORD..][..RECORD];
    last[RECORD - 20..RECORD - 4].fill(0);
    fs::write(&path, &bytes).unwrap();
    let found = examine(directory.path()).unwrap().findings;
    assert!(!found.is_empty() && found.iter().all(|finding| finding.remedy().is_none()), "{found:?}");
}

#[test]
fn a_mended_key_holds_also_where_another_volume_knows_a_hold_that_it_passed() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), &[1]);
    let other = Guard::new(open(directory.path(), &[2]));
    first.release(&[subject(1)]);
    drop(first);
    // In the other volume: a hold that begins and is passed.
    other.ledger().register(&[subject(1)]).unwrap();
    other.ledger().set_hold(&subject(1), Some(HoldCause::Restored)).unwrap();
    assert!(refusal(ask(&other, &subject(1), precommit(1), "block")).is_some());
    assert_eq!(refusal(ask(&other, &subject(1), precommit(5), "block")), None);
    assert_eq!(other.ledger().hold(&subject(1)), None);
    drop(other);
    // Volume 0 ends in a half record, and knows of none.
    let (path, mut bytes, at) = tail(directory.path());
    let mut half = bytes[at * RECORD..][..200].to_vec();
    let next = sequence(&half) + 1;
    half[8..16].copy_from_slice(&next.to_le_bytes());
    bytes[(at + 1) * RECORD..][..200].copy_from_slice(&half);
    fs::write(path, bytes).unwrap();
    assert_eq!(mend(&at_of(directory.path())).unwrap().len(), 1);
    assert_held(directory.path(), "mended");
}

fn at_of(directory: &Path) -> semel_ledger::Options {
    at(directory, Durability::Sync)
}

/// The disk of this host, on which everything fails from one operation on.
struct Ending(Arc<AtomicU64>);

struct EndingFile(Box<dyn File>, Arc<AtomicU64>);

fn step(left: &AtomicU64) -> io::Result<()> {
    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::other("the process is gone")),
    }
}

impl Disk for Ending {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        step(&self.0).and_then(|()| HostDisk.create_dir(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        HostDisk.list(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        step(&self.0)?;
        Ok(Box::new(EndingFile(HostDisk.open(path, how)?, Arc::clone(&self.0))))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        step(&self.0).and_then(|()| HostDisk.sync_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(&self.0).and_then(|()| HostDisk.rename(from, to))
    }
}

impl File for EndingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        step(&self.1).and_then(|()| self.0.write(offset, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        step(&self.1).and_then(|()| self.0.sync())
    }

    fn lock(&self) -> io::Result<bool> {
        self.0.lock()
    }
}

#[test]
fn a_mending_that_is_cut_short_at_any_step_leaves_keys_that_hold() {
    let origin = tempfile::tempdir().unwrap();
    let path = origin.path().join("ledger");
    with_half_a_record(&path);
    for operations in 0.. {
        let directory = tempfile::tempdir().unwrap();
        copy(&path, directory.path());
        let left = Arc::new(AtomicU64::new(operations));
        let options = semel_ledger::Options { disk: Arc::new(Ending(Arc::clone(&left))), ..at_of(directory.path()) };
        if mend(&options).is_ok() {
            assert_held(directory.path(), "to the end");
            break;
        }
        // What opens, holds; what does not is mended again, and holds then.
        let when = format!("after {operations} operations");
        if examine(directory.path()).unwrap().findings.iter().any(|finding| finding.is_unsafe) {
            mend(&at_of(directory.path())).unwrap();
        }
        assert_held(directory.path(), &when);
    }
}
