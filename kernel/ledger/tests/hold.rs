//! The hold of keys that are new to a ledger with a history, or whose floors came from elsewhere.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod scene;

use scene::{ask, precommit, refusal, subject};
use semel_guard::{ChainId, Guard, HoldCause, Lane, Ledger, Mark, Reason, Subject};
use semel_ledger::{Journal, Options};
use std::path::Path;

fn open(directory: &Path) -> Journal {
    let options = Options { allow_volatile: true, hold_new_keys: true, ..Options::at(directory.join("ledger")) };
    Journal::open(options, &[]).unwrap()
}

/// A signer with these keys.
fn signer(directory: &Path, subjects: &[Subject]) -> Guard<Journal> {
    let journal = open(directory);
    journal.register(subjects).unwrap();
    Guard::new(journal)
}

/// Makes the ledger one of an hour ago.
fn age(directory: &Path) {
    let path = directory.join("ledger/host");
    let text = std::fs::read_to_string(&path).unwrap();
    let (rest, made) = text.split_once("made ").unwrap();
    let made: u64 = made.trim().parse().unwrap();
    std::fs::write(&path, format!("{rest}made {}\n", made - 3600)).unwrap();
}

fn asked(guard: &Guard<Journal>, subject: &Subject, height: u64) -> Option<Reason> {
    refusal(ask(guard, subject, precommit(height), "A"))
}

#[test]
fn the_first_keys_of_a_ledger_sign_at_once_and_a_later_one_watches() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two, three) = (subject(1), subject(2), subject(3));
    let guard = signer(directory.path(), &[one.clone(), two.clone()]);
    assert_eq!((asked(&guard, &one, 1000), asked(&guard, &two, 1000)), (None, None));
    guard.ledger().register(std::slice::from_ref(&three)).unwrap();
    assert_eq!(guard.ledger().hold(&three).unwrap().cause, HoldCause::New);
    for height in [1000, 1000, 1003, 1001] {
        assert_eq!(asked(&guard, &three, height), Some(Reason::Held), "{height}");
    }
    assert_eq!(asked(&guard, &one, 1001), None);
    assert_eq!(guard.ledger().history(&three, Lane::Tendermint).unwrap().floor, None, "no floor rises for a hold");
    assert_eq!(asked(&guard, &three, 1004), None);
    assert_eq!(guard.ledger().hold(&three), None);
    assert_eq!(asked(&guard, &three, 1003), Some(Reason::Regression));
}

#[test]
fn keys_that_start_together_or_move_to_a_new_chain_are_no_strangers() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (signer(directory.path(), &[subject(1)]), signer(directory.path(), &[subject(2)]));
    assert_eq!((asked(&second, &subject(2), 500), asked(&first, &subject(1), 500)), (None, None));
    let next = Subject { chain: ChainId::new("test-2").unwrap(), ..subject(1) };
    first.ledger().register(std::slice::from_ref(&next)).unwrap();
    assert_eq!(asked(&first, &next, 700), None, "this key is at home here");
    let third = signer(directory.path(), &[subject(3)]);
    assert_eq!(asked(&third, &subject(3), 500), None, "the ledger is being set up");
    age(directory.path());
    let late = signer(directory.path(), &[subject(4)]);
    assert_eq!(asked(&late, &subject(4), 500), Some(Reason::Held), "others have signed here for long");
}

#[test]
fn a_hold_outlives_the_process_and_the_volume_that_it_began_in() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (subject(1), subject(2));
    let guard = signer(directory.path(), std::slice::from_ref(&one));
    assert_eq!(asked(&guard, &one, 10), None);
    age(directory.path());
    let other = signer(directory.path(), std::slice::from_ref(&two));
    assert_eq!(asked(&other, &two, 100), Some(Reason::Held));
    drop(other);
    // Into the volume of the first.
    guard.ledger().register(std::slice::from_ref(&two)).unwrap();
    let bound = Some(Mark([104, 0, 0]));
    assert_eq!(guard.ledger().hold(&two).unwrap().until, bound);
    let known = Journal::inspect(&directory.path().join("ledger")).unwrap();
    assert_eq!(known.iter().find(|known| known.subject == two).unwrap().hold.unwrap().until, bound);
    assert_eq!((asked(&guard, &two, 103), asked(&guard, &two, 104)), (Some(Reason::Held), None));
    guard.ledger().close().unwrap();
    drop(guard);
    // What was passed stays passed, whatever the other volume still says.
    let again = signer(directory.path(), &[one, two.clone()]);
    assert_eq!((again.ledger().hold(&two), asked(&again, &two, 105)), (None, None));
}

#[test]
fn a_restored_key_watches_once_more_and_a_hold_can_be_lifted() {
    let directory = tempfile::tempdir().unwrap();
    let one = subject(1);
    let guard = signer(directory.path(), std::slice::from_ref(&one));
    assert_eq!(asked(&guard, &one, 2), None);
    for (cause, height) in [(HoldCause::Restored, 50), (HoldCause::Imported, 60), (HoldCause::Restored, 70)] {
        guard.ledger().set_hold(&one, Some(cause)).unwrap();
        assert_eq!(asked(&guard, &one, height), Some(Reason::Held));
        assert_eq!(guard.ledger().hold(&one).unwrap().cause, cause);
        assert_eq!(asked(&guard, &one, height + 4), None);
    }
    guard.ledger().set_hold(&one, Some(HoldCause::Restored)).unwrap();
    assert_eq!(asked(&guard, &one, 100), Some(Reason::Held));
    guard.ledger().close().unwrap();
    drop(guard);
    let guard = signer(directory.path(), std::slice::from_ref(&one));
    assert_eq!(asked(&guard, &one, 100), Some(Reason::Held));
    guard.ledger().set_hold(&one, None).unwrap();
    assert_eq!(asked(&guard, &one, 100), None);
    drop(guard);
    let guard = signer(directory.path(), std::slice::from_ref(&one));
    assert_eq!(asked(&guard, &one, 101), None);
}

#[test]
fn a_young_ledger_with_floors_from_elsewhere_is_no_first_set_up() {
    for cause in [HoldCause::Imported, HoldCause::Restored, HoldCause::Mended, HoldCause::Adopted] {
        let directory = tempfile::tempdir().unwrap();
        let restored = signer(directory.path(), &[subject(1)]);
        restored.ledger().set_hold(&subject(1), Some(cause)).unwrap();
        restored.ledger().raise(&subject(1), Lane::Tendermint, Mark([100, 0, 0])).unwrap();
        restored.ledger().close().unwrap();
        drop(restored);
        // It is in no backup, and nobody knows what it signed.
        let late = signer(directory.path(), &[subject(2)]);
        assert_eq!(asked(&late, &subject(2), 500), Some(Reason::Held), "{cause:?}");
    }
}

#[test]
fn a_key_that_a_command_brings_to_a_ledger_with_a_history_watches() {
    let directory = tempfile::tempdir().unwrap();
    let named = |number| {
        let options = Options { allow_volatile: true, ..Options::at(directory.path().join("ledger")) };
        Journal::open(options, &[subject(number)]).unwrap()
    };
    // The first set-up: nothing was here before.
    named(1).raise(&subject(1), Lane::Tendermint, Mark([1, 0, 0])).unwrap();
    drop(named(2));
    let guard = signer(directory.path(), &[subject(1), subject(2)]);
    assert_eq!((asked(&guard, &subject(1), 500), asked(&guard, &subject(2), 500)), (None, None));
    drop(guard);
    age(directory.path());
    // As `state set-floor 1` for a key that is new here, and as a command that ends before it has raised anything.
    named(3).raise(&subject(3), Lane::Tendermint, Mark([1, 0, 0])).unwrap();
    drop(named(4));
    // One that is known stays as it is.
    drop(named(1));
    let guard = signer(directory.path(), &[1, 2, 3, 4].map(subject));
    let asked = [1, 2, 3, 4].map(|number| asked(&guard, &subject(number), 600));
    assert_eq!(asked, [None, None, Some(Reason::Held), Some(Reason::Held)]);
}
