//! A half record at the end of the chain: what is cut off, and what is not.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod scene;

use scene::{ask, at, precommit, refusal, subject};
use semel_guard::Guard;
use semel_ledger::{Durability, Journal, examine};
use std::fs;
use std::path::{Path, PathBuf};

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
