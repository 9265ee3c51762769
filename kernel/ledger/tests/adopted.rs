//! A ledger that comes from another host: whatever interrupts its adoption, no key signs here before it has watched.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod scene;
mod simdisk;

use scene::{ask, precommit, refusal, subject};
use semel_guard::{Guard, HoldCause, Reason, Subject};
use semel_ledger::{HostIdentity, Journal, LedgerError, LedgerErrorKind, Options};
use simdisk::{Fault, Files, SimDisk, Survivors};
use std::path::Path;
use std::sync::Arc;

fn open(disk: &SimDisk, host: &str, adopt: bool, subjects: &[Subject]) -> Result<Journal, LedgerError> {
    let options = Options {
        disk: Arc::new(disk.clone()),
        host: Some(HostIdentity::from_text(host)),
        adopt,
        witness: None,
        check: false,
        segment_records: 64,
        ..Options::at(Path::new("/var/semel"))
    };
    Journal::open(options, subjects)
}

/// The disk of a host where two processes signed, each with a key of its own.
fn of_two_volumes() -> Files {
    let disk = SimDisk::new();
    let guards = [1, 2].map(|number| Guard::new(open(&disk, "there", false, &[subject(number)]).unwrap()));
    for (guard, number) in guards.iter().zip([1, 2]) {
        assert_eq!(refusal(ask(guard, &subject(number), precommit(50), "block")), None);
    }
    disk.files()
}

/// Opened without being told to adopt, the keys hold.
fn assert_held(disk: &SimDisk, when: &str) {
    let guard = Guard::new(open(disk, "here", false, &[]).unwrap());
    guard.ledger().register(&[subject(1), subject(2)]).unwrap();
    for number in [1, 2] {
        let hold = guard.ledger().hold(&subject(number));
        assert_eq!(hold.map(|hold| hold.cause), Some(HoldCause::Adopted), "{when}: key {number}");
        assert_eq!(refusal(ask(&guard, &subject(number), precommit(51), "block")), Some(Reason::Held), "{when}");
    }
}

#[test]
fn an_adoption_by_the_start_lets_the_keys_of_every_volume_hold() {
    let disk = SimDisk::holding(&of_two_volumes());
    // As `start --adopt-host` does: no key is named before the ledger is open.
    let guard = Guard::new(open(&disk, "here", true, &[]).unwrap());
    guard.ledger().register(&[subject(1)]).unwrap();
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(51), "block")), Some(Reason::Held));
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(55), "block")), None);
    drop(guard);
    // The flag stays in the unit file: it means nothing any more.
    let guard = Guard::new(open(&disk, "here", true, &[]).unwrap());
    guard.ledger().register(&[subject(1), subject(2)]).unwrap();
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(56), "block")), None);
    assert_eq!(guard.ledger().hold(&subject(2)).map(|hold| hold.cause), Some(HoldCause::Adopted));
}

#[test]
fn an_adoption_that_is_cut_short_at_any_step_can_be_repeated_and_never_lets_a_key_sign_at_once() {
    let files = of_two_volumes();
    let mut adopted = 0;
    for step in 1.. {
        let disk = SimDisk::holding(&files);
        disk.arm(step, Fault::Halt);
        let opened = open(&disk, "here", true, &[subject(1), subject(2)]);
        if !disk.fired() {
            assert!(opened.is_ok());
            break;
        }
        drop(opened);
        let survivors = [Survivors::Kernel, Survivors::First(0), Survivors::AllBut(0)];
        for survivors in survivors.into_iter().chain((0..4).map(Survivors::Seed)) {
            let when = format!("step {step}, {survivors:?}");
            let left = disk.reboot(survivors);
            match open(&left, "here", false, &[]) {
                Ok(journal) => {
                    drop(journal);
                    assert_held(&left, &when);
                    adopted += 1;
                }
                Err(error) => {
                    assert!(matches!(error.kind, LedgerErrorKind::OtherHost { .. }), "{when}: {error}");
                    drop(open(&left, "here", true, &[]).unwrap());
                    assert_held(&left, &when);
                }
            }
        }
    }
    assert!(adopted > 0, "an end after it belongs here");
}

#[test]
fn an_adoption_that_does_not_get_a_key_changes_nothing() {
    let disk = SimDisk::holding(&of_two_volumes());
    let other = Options {
        disk: Arc::new(disk.clone()),
        host: None,
        witness: None,
        check: false,
        segment_records: 64,
        ..Options::at(Path::new("/var/semel"))
    };
    let holder = Journal::open(other, &[subject(2)]).unwrap();
    let refused = open(&disk, "here", true, &[subject(1), subject(2)]).err().unwrap();
    assert!(matches!(refused.kind, LedgerErrorKind::KeyInUse { .. }), "{refused}");
    drop(holder);
    let still = open(&disk, "here", false, &[]).err().unwrap();
    assert!(matches!(still.kind, LedgerErrorKind::OtherHost { .. }), "{still}");
    drop(open(&disk, "here", true, &[subject(1), subject(2)]).unwrap());
    assert_held(&disk, "the second time");
}
