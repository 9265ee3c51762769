//! `kill -9` under load, many times over, with an audit of every signature that left the process in any of its lives.
//!
//! The test starts itself as the process that is killed. A signature leaves, through a pipe, inside of the very call that
//! makes it: before the ledger has heard of it, and before the one who asked has.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]
#![expect(clippy::print_stdout, reason = "it counts")]

mod scene;

use scene::{Dice, Process, at, refusal, say, seed, signature_of, subject, witness_directory};
use semel_guard::{Duty, Guard, Lane, Ledger, Mark, Position, Step, Subject};
use semel_ledger::{Durability, Journal, Options};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How often the process is killed, in each mode. SEMEL_KILLS says otherwise.
const KILLS: u64 = 100;

/// Longest that it signs, in microseconds.
const LIFE_MAX_US: usize = 40_000;

/// Who ask at once in one process.
const ASKERS: u64 = 4;

/// Far more than a life comes to: where it shows in a floor, a bound was taken for it.
const HEIGHTS: u64 = 100_000;

/// Tells the process that it is the one that is killed: directory, witness directory, durability, number of its life.
const ROLE: &str = "SEMEL_TEST_KILLED";

fn options(directory: &Path, witness: Option<PathBuf>, durability: Durability) -> Options {
    Options { witness, ..at(&directory.join("ledger"), durability) }
}

/// Position number `n`, from 0.
fn position(n: u64) -> Position {
    let step = Step::from_code(n % 3 + 1).unwrap();
    Position::Tendermint { height: n / 3 + 1, round: 0, step }
}

/// Number of the position with this mark. A reserved bound has no step: it is the end of the height below.
fn number(Mark([height, _, step]): Mark) -> u64 {
    (height * 3 + step).saturating_sub(4)
}

/// What is killed: signs as fast as it can, and begins with positions that earlier lives have signed.
fn live(role: &str) {
    let mut words = role.split('|');
    let directory = PathBuf::from(words.next().unwrap());
    let witness = words.next().filter(|path| !path.is_empty()).map(PathBuf::from);
    let durability = match words.next().unwrap() {
        "sync" => Durability::Sync,
        _ => Durability::Reserve { heights: HEIGHTS },
    };
    let life = words.next().unwrap();
    let subjects = [subject(1), subject(2)];
    let guard = Guard::new(Journal::open(options(&directory, witness, durability), &subjects).unwrap());
    let floor = |subject| guard.ledger().history(subject, Lane::Tendermint).unwrap().floor.unwrap_or_default();
    let floors = subjects.each_ref().map(floor);
    let next: [AtomicU64; 2] = floors.map(|floor| AtomicU64::new(number(floor).saturating_sub(3)));
    // A line of its own: the harness has written a part of one.
    say("");
    for (key, Mark([height, round, step])) in floors.iter().enumerate() {
        say(&format!("floor {key} {height} {round} {step}"));
    }
    thread::scope(|scope| {
        for asker in 0..ASKERS {
            let (guard, subjects, next) = (&guard, &subjects, &next);
            scope.spawn(move || {
                for key in (0..2).cycle() {
                    let n = next[key].load(Ordering::SeqCst);
                    // Two sides ask two questions. Those of one side word it differently.
                    let (side, text) =
                        (format!("side {}", asker % 2), format!("side {}, asker {asker}, life {life}", asker % 2));
                    let duty =
                        Duty::with_content(&subjects[key], position(n), text.as_bytes(), side.as_bytes()).unwrap();
                    let leave = |bytes: &[u8]| {
                        say(&format!("signed {key} {n} {}", String::from_utf8_lossy(bytes)));
                        signature_of(bytes)
                    };
                    if let Ok(answer) = guard.admit(&duty, |_permit, bytes| Ok(leave(bytes))) {
                        assert_eq!(answer.signature, leave(&answer.bytes));
                    }
                    let _moved = next[key].compare_exchange(n, n + 1, Ordering::SeqCst, Ordering::SeqCst);
                }
            });
        }
    });
}

/// Everything that left, over all lives.
#[derive(Default)]
struct Audit {
    /// By key and number of the position: what was signed.
    signed: BTreeMap<(usize, u64), String>,
    lines: u64,
    lives_that_opened: u64,
    lives_that_signed: u64,
}

impl Audit {
    fn highest(&self, key: usize) -> Option<u64> {
        self.signed.range((key, 0)..=(key, u64::MAX)).next_back().map(|((_, n), _)| *n)
    }

    /// A floor that was found when the ledger was opened again.
    fn floor(&self, key: usize, floor: Mark, is_exact: bool, about: &str) {
        let Some(highest) = self.highest(key) else { return };
        assert!(position(highest).mark() <= floor, "{about}: {} left, the floor is {floor:?}", position(highest));
        // Each asker has at most one position admitted of which nothing left.
        let is_near = number(floor) <= highest + ASKERS;
        assert!(!is_exact || is_near, "{about}: {} was the last to leave, the floor is {floor:?}", position(highest));
    }

    /// Takes in what a life said. The last line may have been cut off: it did not leave.
    fn hear(&mut self, said: &[String], is_exact: bool, about: &str) {
        let (before, mut has_signed) = (self.lines, false);
        for line in said {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["floor", key, height, rest] => {
                    let (round, step) = rest.split_once(' ').unwrap();
                    let floor = Mark([height, round, step].map(|word| word.parse().unwrap()));
                    self.floor(key.parse().unwrap(), floor, is_exact, about);
                    self.lives_that_opened += u64::from(key == "1");
                }
                ["signed", key, n, text] => {
                    let place = (key.parse().unwrap(), n.parse().unwrap());
                    let first = self.signed.entry(place).or_insert_with(|| text.to_owned());
                    assert_eq!(first, text, "{about}: two messages at {}", position(place.1));
                    self.lines += 1;
                    has_signed = true;
                }
                _ => {}
            }
        }
        assert!(self.lines >= before);
        self.lives_that_signed += u64::from(has_signed);
    }

    /// Opens the ledger between two lives and asks for everything that it still knows.
    fn visit(&self, journal: Journal, subjects: &[Subject], is_exact: bool, about: &str) -> Journal {
        let guard = Guard::new(journal);
        for (key, subject) in subjects.iter().enumerate() {
            let floor = guard.ledger().history(subject, Lane::Tendermint).unwrap().floor.unwrap_or_default();
            self.floor(key, floor, is_exact, about);
            for ((_, n), text) in self.signed.range((key, 0)..=(key, u64::MAX)).rev().take(20) {
                let other = Duty::new(subject, position(*n), b"another message").unwrap();
                let asked = guard.admit(&other, |_permit, bytes| Ok(signature_of(bytes)));
                assert!(refusal(asked).is_some(), "{about}: a second message was signed at {}", position(*n));
                let same = Duty::with_content(subject, position(*n), b"reworded", &text.as_bytes()[..6]).unwrap();
                if let Ok(answer) = guard.admit(&same, |_permit, bytes| Ok(signature_of(bytes))) {
                    assert_eq!(*answer.bytes, *text.as_bytes(), "{about}: {}", position(*n));
                }
            }
        }
        guard.ledger().clone()
    }
}

fn kill_often(test: &str, mode: &str, durability: Durability) {
    if let Ok(role) = std::env::var(ROLE) {
        return live(&role);
    }
    let kills = std::env::var("SEMEL_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let witness = witness_directory(test);
    let witness = witness.as_ref().map(|directory| directory.path().to_path_buf());
    // The machine goes on: only without a witness is a bound taken for the floor.
    let is_exact = durability == Durability::Sync || witness.is_some();
    let subjects = [subject(1), subject(2)];
    let (mut audit, mut dice) = (Audit::default(), Dice(seed(5)));
    for life in 0..kills {
        let about = format!("{mode}, life {life}");
        let shm = witness.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        let role = format!("{}|{shm}|{mode}|{life}", directory.path().display());
        let mut process = Process::start(test, (ROLE, &role));
        let (sender, said) = mpsc::channel();
        let out = BufReader::new(process.out.take().unwrap());
        let reader = thread::spawn(move || {
            let mut out = out;
            let mut line = String::new();
            while out.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
                sender.send(line.trim_end().to_owned()).unwrap();
                line.clear();
            }
        });
        let mut lines = Vec::new();
        // Some are killed while they open the ledger, most once they sign.
        let mut life_us = dice.below(LIFE_MAX_US / 8);
        if dice.below(5) > 0 {
            life_us = 1000 + dice.below(LIFE_MAX_US - 1000);
            let is_last = |line: &String| line.starts_with("floor 1");
            while !lines.last().is_some_and(is_last) {
                lines.push(said.recv().unwrap_or_else(|_| panic!("{about}: ended before it was killed: {lines:?}")));
            }
        }
        thread::sleep(Duration::from_micros(life_us as u64));
        process.kill();
        reader.join().unwrap();
        lines.extend(said.try_iter());
        audit.hear(&lines, is_exact, &about);
        if life % 4 == 3 || life + 1 == kills {
            let journal = Journal::open(options(directory.path(), witness.clone(), durability), &subjects).unwrap();
            let journal = audit.visit(journal, &subjects, is_exact, &about);
            if life % 8 == 3 {
                journal.close().unwrap();
            }
        }
    }
    let Audit { signed, lines, lives_that_opened, lives_that_signed } = audit;
    let positions = signed.len();
    println!(
        "{mode}: {kills} kills, {lives_that_opened} lives opened the ledger, {lives_that_signed} signed: {lines} signatures at {positions} positions"
    );
    assert!(lives_that_signed * 2 >= kills, "only {lives_that_signed} of {kills} lives signed anything");
}

#[test]
fn killed_in_sync_mode_nothing_that_left_is_contradicted() {
    kill_often("killed_in_sync_mode_nothing_that_left_is_contradicted", "sync", Durability::Sync);
}

#[test]
fn killed_in_reserve_mode_nothing_that_left_is_contradicted_and_no_height_is_lost() {
    let durability = Durability::Reserve { heights: HEIGHTS };
    kill_often("killed_in_reserve_mode_nothing_that_left_is_contradicted_and_no_height_is_lost", "reserve", durability);
}
