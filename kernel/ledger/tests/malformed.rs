//! Ten thousand malformed ledgers. None of them stops the process or keeps it waiting; none of them opens with less than what
//! can be known to have been acknowledged; whoever damages them in a way that shows is refused with a code.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]

#[path = "malformed/damage.rs"]
mod damage;
mod scene;
mod simdisk;

use damage::{DAMAGES, Expected, RECORD_LEN, Stock, claim, is_whole, segment_path};
use scene::{Dice, ask, precommit, refusal, seed, subject};
use semel_guard::{Guard, Lane, Ledger, Mark, Position, Subject};
use semel_ledger::{Durability, HostIdentity, Journal, LedgerError, Options};
use simdisk::{Files, SimDisk};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// Ledgers that are damaged and opened.
const CASES: u64 = 10_000;

/// Longest that one of them may take. It takes a few milliseconds.
const CASE_MAX: Duration = Duration::from_secs(20);

const WORKERS: u64 = 2;

/// A ledger and what was acknowledged in it.
struct Good {
    files: Files,
    /// Volume, sequence with which it was durable, whose, where.
    acknowledged: Vec<(usize, u64, Subject, Mark)>,
    stock: Stock,
}

const LANE: Lane = Lane::Tendermint;

fn open(disk: &SimDisk, subjects: &[Subject]) -> Result<Journal, LedgerError> {
    let options = Options {
        durability: Durability::Sync,
        host: Some(HostIdentity::from_text("here")),
        disk: Arc::new(disk.clone()),
        witness: None,
        check: false,
        segment_records: 32,
        ..Options::at("/var/semel")
    };
    Journal::open(options, subjects)
}

/// A ledger with two volumes: one that has been through all of its segments, and one that has used some of them.
fn build(is_closed: bool) -> Good {
    let disk = SimDisk::new();
    let subjects = [subject(1), subject(2)];
    let journals = subjects.each_ref().map(|subject| open(&disk, std::slice::from_ref(subject)).unwrap());
    let guards = journals.each_ref().map(|journal| Guard::new(journal.clone()));
    let (mut acknowledged, mut earlier) = (Vec::new(), Vec::new());
    for height in 1..=300 {
        for (volume, (guard, subject)) in guards.iter().zip(&subjects).enumerate() {
            if volume == 1 && height > 5 {
                continue;
            }
            ask(guard, subject, precommit(height), "block").unwrap();
            let sequence = guard.ledger().status().sequence;
            acknowledged.push((volume, sequence, subject.clone(), precommit(height).mark()));
            if height % 7 == 0 {
                assert!(ask(guard, subject, precommit(height), "another block").is_err());
            }
        }
        if height % 20 == 5 {
            earlier.push(disk.files());
        }
    }
    if is_closed {
        journals.iter().for_each(|journal| journal.close().unwrap());
    }
    Good { files: disk.files(), acknowledged, stock: Stock { foreign: Files::new(), earlier } }
}

/// Up to where each volume proves that its records were durable, by the records that are left.
fn claims(files: &Files, volume: usize) -> u64 {
    let segments = (0..4).filter_map(|index| files.get(&segment_path(volume, index)));
    let records = segments.flat_map(|bytes| bytes.chunks_exact(RECORD_LEN)).filter(|slot| is_whole(slot));
    records.map(claim).max().unwrap_or_default()
}

/// What a damaged ledger came to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
enum Outcome {
    Refused(&'static str),
    Whole,
    /// The end is missing, and nothing that is left says that it was durable.
    Shorter,
}

/// Opens it, holds it against what was acknowledged, and goes on with it.
fn outcome(good: &Good, files: &Files, expected: Expected) -> Result<Outcome, String> {
    let subjects = [subject(1), subject(2)];
    let journal = match open(&SimDisk::holding(files), &subjects) {
        Ok(journal) => journal,
        Err(error) => {
            assert!(!error.hint().is_empty() && !error.to_string().is_empty());
            return Ok(Outcome::Refused(error.code()));
        }
    };
    let (mut is_shorter, mut unexplained) = (false, None);
    let proven = [claims(files, 0), claims(files, 1)];
    for (volume, sequence, subject, mark) in &good.acknowledged {
        let floor = journal.history(subject, LANE).unwrap().floor;
        if floor < Some(*mark) {
            is_shorter = true;
            if *sequence <= proven[*volume] {
                unexplained = Some(format!("{mark:?} is proven by a record that is left, and the floor is {floor:?}"));
            }
        }
    }
    let guard = Guard::new(journal);
    for subject in &subjects {
        let Some(Mark([height, ..])) = guard.ledger().history(subject, LANE).unwrap().floor else { continue };
        let next =
            Position::Tendermint { height: height.saturating_add(1), round: 0, step: semel_guard::Step::Propose };
        let (first, second) =
            (ask(&guard, subject, next, "next block"), refusal(ask(&guard, subject, next, "another")));
        if expected != Expected::Survived {
            assert!(first.is_ok() && second.is_some(), "it opens, and {first:?} and {second:?}");
        }
    }
    match unexplained {
        Some(text) if expected != Expected::Survived => Err(text),
        _ if is_shorter => Ok(Outcome::Shorter),
        _ => Ok(Outcome::Whole),
    }
}

/// One case: one damage, or a few; what it was, what it had to come to, what it came to.
fn case(good: &Good, dice: &mut Dice) -> (String, Outcome) {
    let mut files = good.files.clone();
    let count = if dice.below(4) == 0 { 2 + dice.below(2) } else { 1 };
    let mut names = Vec::new();
    let mut expected = Expected::Explained;
    for _ in 0..count {
        let (name, damage) = DAMAGES[dice.below(DAMAGES.len())];
        let alone = damage(&mut files, &good.stock, dice);
        names.push(name);
        // One damage may cover another; only what is forged stays forged.
        expected = match (expected, alone) {
            (Expected::Survived, _) | (_, Expected::Survived) => Expected::Survived,
            _ if count == 1 => alone,
            _ => Expected::Explained,
        };
    }
    let about = names.join(", ");
    let found = catch_unwind(AssertUnwindSafe(|| outcome(good, &files, expected)));
    let found = found.unwrap_or_else(|_| panic!("{about}: it panicked"));
    let outcome = found.unwrap_or_else(|text| panic!("{about}: {text}"));
    let is_expected = match expected {
        Expected::Refused(code) => outcome == Outcome::Refused(code),
        Expected::Whole => outcome == Outcome::Whole,
        Expected::Explained | Expected::Survived => true,
    };
    assert!(is_expected, "{about}: {outcome:?} instead of {expected:?}");
    (if count == 1 { about } else { "several".into() }, outcome)
}

#[test]
fn a_malformed_ledger_refuses_or_holds_all_that_it_can_be_known_to_have_held() {
    let cases = std::env::var("SEMEL_MALFORMED").map_or(CASES, |text| text.parse().unwrap());
    let goods = Arc::new([false, true].map(|is_closed| {
        let mut good = build(is_closed);
        good.stock.foreign = build(is_closed).files;
        good
    }));
    let (sender, receiver) = mpsc::channel();
    for worker in 0..WORKERS {
        let (goods, sender) = (Arc::clone(&goods), sender.clone());
        // Not waited for: it may hang, and that is what is to be found out.
        thread::spawn(move || {
            for number in (worker..cases).step_by(WORKERS as usize) {
                let good = &goods[(number / WORKERS % 2) as usize];
                let run = || case(good, &mut Dice(seed(number)));
                let result = catch_unwind(AssertUnwindSafe(run));
                let text =
                    |panic: Box<dyn std::any::Any + Send>| panic.downcast_ref::<String>().cloned().unwrap_or_default();
                sender.send((number, result.map_err(text))).unwrap();
            }
        });
    }
    let mut counts: BTreeMap<(String, Outcome), u64> = BTreeMap::new();
    for _ in 0..cases {
        let (number, result) = receiver.recv_timeout(CASE_MAX).expect("a case hangs");
        let found = result.unwrap_or_else(|text| panic!("case {number}: {text}"));
        *counts.entry(found).or_default() += 1;
    }
    let mut classes: BTreeMap<&Outcome, u64> = BTreeMap::new();
    for ((name, outcome), count) in &counts {
        println!("{count:6} {name}: {outcome:?}");
        *classes.entry(outcome).or_default() += count;
    }
    println!("{classes:?}");
    let refused = |code| Outcome::Refused(code);
    for class in
        [refused("LEDGER-0003"), refused("LEDGER-0004"), refused("LEDGER-0008"), Outcome::Whole, Outcome::Shorter]
    {
        assert!(classes.contains_key(&class), "no ledger came to {class:?}");
    }
    assert!(counts.len() >= DAMAGES.len(), "not every damage was done");
}
