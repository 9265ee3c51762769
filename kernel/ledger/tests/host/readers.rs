//! What others see of a ledger while a process writes it.

use super::scene::{ask, at, precommit, subject};
use super::{code, open};
use semel_guard::{Digest, EthereumDuty, Guard, Lane, Ledger, Mark, Position};
use semel_ledger::{Durability, Journal, Kind, Known};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

fn floor_of(known: &[Known], key: u8, lane: Lane) -> Option<Mark> {
    let known = known.iter().find(|known| known.subject == subject(key))?;
    known.lanes.iter().find(|(other, _)| *other == lane)?.1.floor
}

#[test]
fn a_live_ledger_can_be_looked_into_without_its_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    assert_eq!(code(Journal::inspect(&path)), "LEDGER-0001", "there is no such directory");
    std::fs::create_dir(&path).unwrap();
    assert!(Journal::inspect(&path).unwrap().is_empty());
    assert!(Journal::records(&path).unwrap().is_empty());
    let first = Guard::new(open(&path, &[subject(1)]).unwrap());
    let second = Guard::new(open(&path, &[subject(2)]).unwrap());
    ask(&first, &subject(1), precommit(7), "block").unwrap();
    ask(&first, &subject(1), precommit(5), "too late").unwrap_err();
    ask(&second, &subject(2), Position::EthereumDuty { duty: EthereumDuty::Aggregate, slot: 3 }, "sum").unwrap();
    second.ledger().raise(&subject(2), Lane::Aura, Mark([11, 0, 0])).unwrap();
    second.ledger().bury(&subject(2), true).unwrap();

    let known = Journal::inspect(&path).unwrap();
    assert_eq!(known.len(), 2);
    assert_eq!(floor_of(&known, 1, Lane::Tendermint), Some(precommit(7).mark()));
    assert_eq!(floor_of(&known, 2, Lane::Aura), Some(Mark([11, 0, 0])));
    let lane = Lane::EthereumDuty(EthereumDuty::Aggregate);
    let (_, duty) = known.iter().flat_map(|known| &known.lanes).find(|(other, _)| *other == lane).unwrap();
    assert_eq!(duty.at(lane, Mark([3, 0, 0])).unwrap().digest, Digest::of(b"sum"));
    assert!(duty.tombstone);

    let records = Journal::records(&path).unwrap();
    assert_eq!(records.iter().map(|(volume, _)| *volume).collect::<Vec<_>>(), [0, 1]);
    let kinds = |volume: usize| records[volume].1.iter().map(|record| record.kind).collect::<Vec<_>>();
    let start = [Kind::Segment, Kind::Subject, Kind::Tombstone, Kind::Checkpoint];
    assert_eq!(kinds(0), [&start[..], &[Kind::Entry, Kind::Signature, Kind::Refusal]].concat());
    // The signature goes out with what is written next.
    let second = [Kind::Entry, Kind::Signature, Kind::Floor, Kind::Tombstone];
    assert_eq!(kinds(1), [&start[..], &second].concat());
    let refused = records[0].1.last().unwrap();
    assert_eq!((refused.mark, refused.digest), (precommit(5).mark(), Digest::of(b"too late")));
    // To look changes nothing.
    assert_eq!(Journal::records(&path).unwrap(), records);
}

#[test]
fn reserved_heights_count_as_signed_for_those_who_look() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(at(directory.path(), Durability::Reserve { heights: 50 }), &[subject(1)]).unwrap();
    let guard = Guard::new(journal);
    ask(&guard, &subject(1), precommit(7), "block").unwrap();
    let floor = || floor_of(&Journal::inspect(directory.path()).unwrap(), 1, Lane::Tendermint);
    assert_eq!(floor(), Some(Mark([57, 0, 0])));
    guard.ledger().close().unwrap();
    assert_eq!(floor(), Some(precommit(7).mark()), "after an end in order nothing is outstanding");
}

/// Looks into a ledger, again and again, while it is written as fast as it can be.
fn look_while_it_is_written(path: &Path, durability: Durability) {
    let guard = Guard::new(Journal::open(at(path, durability), &[subject(1)]).unwrap());
    let (acknowledged, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for height in 1.. {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                ask(&guard, &subject(1), precommit(height), "block").unwrap();
                acknowledged.store(height, Ordering::SeqCst);
            }
        });
        let look = || {
            let mut last = None;
            for look in 0..200 {
                let before = acknowledged.load(Ordering::SeqCst);
                let floor = floor_of(&Journal::inspect(path)?, 1, Lane::Tendermint);
                assert!(
                    before == 0 || floor >= Some(precommit(before).mark()),
                    "look {look}: {floor:?}, {before} is signed"
                );
                assert!(floor >= last, "look {look}: {floor:?} after {last:?}");
                last = floor;
            }
            Ok::<_, semel_ledger::LedgerError>(())
        };
        let looked = look();
        is_over.store(true, Ordering::SeqCst);
        looked.unwrap();
    });
    assert!(acknowledged.load(Ordering::SeqCst) > 0);
}

#[test]
fn who_looks_while_it_is_written_sees_everything_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    look_while_it_is_written(&directory.path().join("sync"), Durability::Sync);
    look_while_it_is_written(&directory.path().join("reserve"), Durability::Reserve { heights: 8 });
}
