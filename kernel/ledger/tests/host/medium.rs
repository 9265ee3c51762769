//! A disk that is full, or that was mounted read-only.

use super::scene::{ask, at, precommit, refusal, subject};
use super::simdisk::{SimDisk, Survivors};
use super::{code, floor};
use semel_guard::{Guard, Reason};
use semel_ledger::{Durability, Journal, LedgerError, Options};
use std::path::Path;
use std::sync::Arc;

fn open(disk: &SimDisk, keys: u8) -> Result<Journal, LedgerError> {
    let subjects: Vec<_> = (1..=keys).map(subject).collect();
    let options = Options {
        disk: Arc::new(disk.clone()),
        check: false,
        // Room for a checkpoint of one key, however long its history.
        segment_records: 128,
        ..at(Path::new("/var/semel"), Durability::Sync)
    };
    Journal::open(options, &subjects)
}

#[test]
fn a_full_disk_takes_no_new_ledger_and_does_once_there_is_room() {
    // The space is used up before any of the steps of making it.
    for step in 0..60 {
        let disk = SimDisk::new();
        disk.fill_after(step);
        let opened = open(&disk, 1);
        if let Err(error) = &opened {
            assert!(error.hint().contains("space"), "step {step}: {error}: {}", error.hint());
        }
        let code = code(opened);
        assert!(code == "LEDGER-0001" || (code.is_empty() && step > 0), "step {step}: {code:?}");
        disk.set_full(false);
        let guard = Guard::new(open(&disk, 1).unwrap_or_else(|error| unreachable!("step {step}: {error}")));
        assert_eq!(refusal(ask(&guard, &subject(1), precommit(1), "block")), None, "step {step}");
    }
}

#[test]
fn a_full_disk_does_not_stop_a_ledger_that_has_its_segments() {
    let disk = SimDisk::new();
    let guard = Guard::new(open(&disk, 1).unwrap());
    disk.set_full(true);
    // Through every segment, more than once.
    for height in 1..=300 {
        assert_eq!(refusal(ask(&guard, &subject(1), precommit(height), "block")), None, "height {height}");
    }
    drop(guard);
    let journal = open(&disk, 1).unwrap();
    assert_eq!(floor(&journal, &subject(1)), Some(precommit(300).mark()));
}

#[test]
fn a_full_disk_that_has_no_room_for_more_keys_stops_the_ledger_and_loses_nothing() {
    let disk = SimDisk::new();
    let guard = Guard::new(open(&disk, 1).unwrap());
    ask(&guard, &subject(1), precommit(1), "block").unwrap();
    let many: Vec<_> = (2..=40).map(subject).collect();
    disk.set_full(true);
    assert_eq!(code(guard.ledger().register(&many)), "LEDGER-0001", "no room for a lock");
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(2), "block")), None, "nothing was begun");
    disk.fill_after(many.len() as u64);
    assert_eq!(code(guard.ledger().register(&many)), "LEDGER-0001", "no room for a larger segment");
    // It was begun, and nobody knows how far that came.
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(3), "block")), Some(Reason::Unavailable));
    assert!(guard.ledger().status().failed.is_some());
    drop(guard);
    disk.set_full(false);
    for survivors in [Survivors::Kernel, Survivors::First(0)] {
        let journal = open(&disk.reboot(survivors), 40).unwrap();
        assert_eq!(floor(&journal, &subject(1)), Some(precommit(2).mark()), "{survivors:?}");
    }
}

#[test]
fn a_read_only_disk_takes_no_ledger_and_a_remount_stops_one() {
    let disk = SimDisk::new();
    disk.set_read_only(true);
    let error = open(&disk, 1).err().unwrap();
    assert!(error.code() == "LEDGER-0001" && error.hint().contains("writable"), "{error}: {}", error.hint());
    disk.set_read_only(false);
    let guard = Guard::new(open(&disk, 1).unwrap());
    ask(&guard, &subject(1), precommit(1), "block").unwrap();
    disk.set_read_only(true);
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(2), "block")), Some(Reason::Unknown));
    // An error is final: a disk that comes back is not trusted before it was read again.
    disk.set_read_only(false);
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(3), "block")), Some(Reason::Unavailable));
    let status = guard.ledger().status();
    assert!(status.failed.as_ref().is_some_and(|why| why.contains("Read-only")), "{status:?}");
    drop(guard);
    disk.set_read_only(true);
    assert_eq!(code(open(&disk, 1)), "LEDGER-0001");
    disk.set_read_only(false);
    let guard = Guard::new(open(&disk, 1).unwrap());
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(1), "another block")), Some(Reason::Conflict));
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(2), "another block")), None, "it never reached the disk");
}
