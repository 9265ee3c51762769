//! The journal under a scheduler that tries orders of its threads: three threads with two or three admissions each, a raise
//! and a close. At each signature the medium is looked at, and after each order the machine ends and loses everything unsynced.
//!
//! ```text
//! cargo test -p semel-ledger --features shuttle --test shuttle
//! ```
//! Time does not pass for the scheduler: whoever waits with a timeout waits until he is woken. So a wake-up that gets lost
//! ends in a deadlock, which the scheduler reports with the order that led to it.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod scene;
mod simdisk;

use scene::{ask, at, precommit, refusal, seed, signature_of, subject};
use semel_guard::{Begun, Denied, Digest, Duty, Guard, Lane, Ledger, Mark, Position, Reason};
use semel_ledger::disk::{Disk, File, Open};
use semel_ledger::{Durability, Journal, Kind, Options, RECORD_LEN};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};
use simdisk::{SimDisk, Survivors};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Orders of the threads that each scheduler tries, per mode. SEMEL_SCHEDULES says otherwise.
const SCHEDULES: usize = 10_000;

/// Changes of priority in an order of the PCT scheduler: it finds what needs so many switches at the wrong moment.
const DEPTH: usize = 3;

const STACK: usize = 512 << 10;

/// The floor that one of the threads raises to.
const RAISED: Mark = Mark([3, 0, 3]);

/// A disk at whose every operation others may go first.
struct Scheduled(SimDisk);

struct ScheduledFile(Box<dyn File>);

impl Disk for Scheduled {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list(path)
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        Ok(Box::new(ScheduledFile(self.0.open(path, how)?)))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
}

impl File for ScheduledFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buffer)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        thread::yield_now();
        self.0.write(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        thread::yield_now();
        let synced = self.0.sync();
        thread::yield_now();
        synced
    }
    fn lock(&self) -> io::Result<bool> {
        self.0.lock()
    }
}

fn open(disk: &SimDisk, durability: Durability) -> Guard<Journal> {
    let options = Options {
        disk: Arc::new(Scheduled(disk.clone())),
        check: false,
        // A few admissions fill a segment.
        segment_records: 8,
        ..at(Path::new("/var/semel"), durability)
    };
    Guard::new(Journal::open(options, &[subject(1)]).unwrap())
}

/// Whether the position would be closed if the power went now: by a record of its own, a floor, or a bound.
fn is_closed_on_the_medium(disk: &SimDisk, lane: Lane, Mark([height, _, step]): Mark, text: Option<&str>) -> bool {
    let files = disk.reboot(Survivors::First(0)).files();
    files.values().flat_map(|bytes| bytes.chunks_exact(RECORD_LEN)).any(|slot| {
        let at = |offset: usize, len: usize| slot.get(offset..offset + len).unwrap();
        let number = |offset| u64::from_le_bytes(at(offset, 8).try_into().unwrap());
        let is_above = (number(48), number(64)) >= (height, step);
        let is_same = text.is_some_and(|text| at(72, 32) == Digest::of(text.as_bytes()).0);
        let is_lane = at(6, 2) == lane.code().to_le_bytes();
        let kind = |kind: Kind| at(4, 1) == [kind as u8];
        match text {
            Some(_) => {
                is_lane && (kind(Kind::Entry) && is_above && is_same || kind(Kind::Reserve) && number(48) > height)
            }
            None => is_lane && is_above && (kind(Kind::Entry) || kind(Kind::Floor) || kind(Kind::Reserve)),
        }
    })
}

/// What the threads saw, in the order in which it happened.
struct Seen {
    disk: SimDisk,
    signed: Mutex<BTreeMap<String, (Position, String)>>,
    is_raised: AtomicBool,
    is_closed: AtomicBool,
    totals: Arc<Totals>,
}

/// Counts over all orders.
#[derive(Default)]
struct Totals {
    signed: AtomicU64,
    refused_by_a_closed_ledger: AtomicU64,
}

impl Seen {
    /// Asks at a position, and holds the answer against what had happened before it was asked for.
    fn ask(&self, guard: &Guard<Journal>, position: Position, text: &str) {
        let was_raised = self.is_raised.load(Ordering::SeqCst);
        let was_closed = self.is_closed.load(Ordering::SeqCst);
        let (a, lane, mark) = (subject(1), position.lane(), position.mark());
        let duty = Duty::new(&a, position, text.as_bytes()).unwrap();
        let asked = guard.admit(&duty, |_permit, bytes| {
            let new = (position, text.to_owned());
            let other = self.signed.lock().unwrap().insert(position.to_string(), new.clone());
            assert!(other.is_none_or(|other| other == new), "{text} is the second to be signed at {position}");
            let is_closed = is_closed_on_the_medium(&self.disk, lane, mark, Some(text));
            assert!(is_closed, "{text} can be lost, and is signed at {position}");
            thread::yield_now();
            Ok(signature_of(bytes))
        });
        match asked {
            Ok(_) => {
                assert!(!was_closed, "{text} was signed by a closed ledger");
                let is_above = lane != Lane::Tendermint || mark > RAISED;
                assert!(!was_raised || is_above, "{text} was signed below the floor");
                self.totals.signed.fetch_add(1, Ordering::Relaxed);
            }
            Err(Denied::Refused(refusal)) => {
                let is_closing = matches!(refusal.reason, Reason::Unavailable | Reason::Unknown);
                assert!(!was_closed || is_closing, "{refusal}");
                self.totals.refused_by_a_closed_ledger.fetch_add(u64::from(is_closing), Ordering::Relaxed);
            }
            Err(other) => unreachable!("{other}"),
        }
    }

    /// Begins both before the first is finished: neither may be signed before it is durable.
    fn ask_together(&self, guard: &Guard<Journal>, asked: [Position; 2], text: &str) {
        let a = subject(1);
        let begun = asked.map(|position| (position, guard.begin(&Duty::new(&a, position, text.as_bytes()).unwrap())));
        thread::yield_now();
        for (position, begun) in begun {
            let Ok(Begun::Pending(pending)) = begun else { continue };
            let finished = pending.finish(|_permit, bytes| {
                let new = (position, text.to_owned());
                let other = self.signed.lock().unwrap().insert(position.to_string(), new.clone());
                assert!(other.is_none_or(|other| other == new), "{text} is the second to be signed at {position}");
                let is_closed = is_closed_on_the_medium(&self.disk, position.lane(), position.mark(), Some(text));
                assert!(is_closed, "{text} can be lost, and is signed at {position}");
                Ok(signature_of(bytes))
            });
            self.totals.signed.fetch_add(u64::from(finished.is_ok()), Ordering::Relaxed);
        }
    }

    fn raise(&self, guard: &Guard<Journal>) {
        if guard.ledger().raise(&subject(1), Lane::Tendermint, RAISED).is_ok() {
            let is_closed = is_closed_on_the_medium(&self.disk, Lane::Tendermint, RAISED, None);
            assert!(is_closed, "the floor can be lost");
            self.is_raised.store(true, Ordering::SeqCst);
        }
    }

    fn close(&self, guard: &Guard<Journal>) {
        guard.ledger().close().unwrap();
        self.is_closed.store(true, Ordering::SeqCst);
    }
}

/// What one thread does.
type Work = fn(&Guard<Journal>, &Seen, &str);

/// Two ask the same, two ask for different things at one position, one raises the floor, one closes the ledger.
const CONTENTION: [(&str, Work); 3] = [
    ("first", |guard, seen, name| {
        // The same question as the second asks: its answer must not leave before it is durable, either.
        seen.ask(guard, precommit(1), "both");
        seen.ask(guard, precommit(4), name);
        seen.ask(guard, Position::Aura { slot: 1 }, name);
    }),
    ("second", |guard, seen, name| {
        seen.ask(guard, precommit(1), "both");
        seen.raise(guard);
        seen.ask(guard, precommit(2), name);
    }),
    ("third", |guard, seen, name| {
        seen.ask(guard, precommit(4), name);
        seen.ask(guard, Position::EthereumBlock { slot: 1 }, name);
        seen.close(guard);
        // Who closed it is refused, too, in whatever order the others come.
        seen.ask(guard, Position::EthereumBlock { slot: 2 }, name);
    }),
];

/// One asks for height after height, so that a bound is used up while the next is on its way to the medium.
const RUN_AHEAD: [(&str, Work); 3] = [
    ("first", |guard, seen, name| (1..=6).for_each(|height| seen.ask(guard, precommit(height), name))),
    ("second", |guard, seen, name| {
        seen.ask(guard, precommit(4), name);
        seen.ask(guard, Position::Aura { slot: 1 }, name);
    }),
    ("third", |guard, seen, name| {
        seen.ask(guard, Position::Aura { slot: 1 }, name);
        seen.ask(guard, Position::Aura { slot: 2 }, name);
        seen.close(guard);
    }),
];

/// Two begin two lanes each before they finish any, against one that asks for the same position and then closes the ledger.
const TOGETHER: [(&str, Work); 3] = [
    ("first", |guard, seen, name| seen.ask_together(guard, [precommit(1), Position::Aura { slot: 1 }], name)),
    ("second", |guard, seen, name| {
        seen.ask_together(guard, [Position::EthereumBlock { slot: 1 }, precommit(1)], name);
        seen.ask(guard, precommit(2), name);
    }),
    ("third", |guard, seen, name| {
        seen.ask(guard, precommit(1), name);
        seen.ask(guard, precommit(3), name);
        seen.close(guard);
        seen.ask(guard, precommit(4), name);
        seen.ask(guard, precommit(4), name);
    }),
];

fn scenario(durability: Durability, works: &[(&'static str, Work); 3], totals: &Arc<Totals>) {
    let disk = SimDisk::new();
    let guard = Arc::new(open(&disk, durability));
    let seen = Arc::new(Seen {
        disk: disk.clone(),
        signed: Mutex::default(),
        is_raised: AtomicBool::new(false),
        is_closed: AtomicBool::new(false),
        totals: Arc::clone(totals),
    });
    let threads = works.map(|(name, work)| {
        let (guard, seen) = (Arc::clone(&guard), Arc::clone(&seen));
        thread::spawn(move || work(&guard, &seen, name))
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    seen.ask(&guard, precommit(9), "after the end");
    assert_eq!(guard.ledger().status().failed, None);
    drop(guard);

    let guard = open(&disk.reboot(Survivors::First(0)), durability);
    let floor = |lane| guard.ledger().history(&subject(1), lane).unwrap().floor;
    let is_raised = seen.is_raised.load(Ordering::SeqCst);
    assert!(!is_raised || floor(Lane::Tendermint) >= Some(RAISED), "the floor was raised, and is forgotten");
    for (position, text) in seen.signed.lock().unwrap().values() {
        assert!(floor(position.lane()) >= Some(position.mark()), "{text} was signed at {position}, which is open");
        let other = refusal(ask(&guard, &subject(1), *position, "another"));
        assert!(other.is_some(), "two messages at {position}");
    }
    // An end in order leaves nothing reserved: the next height is free.
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(7), "next")), None);
    guard.ledger().close().unwrap();
}

fn explore(scheduler: impl Scheduler + 'static, durability: Durability, works: &'static [(&'static str, Work); 3]) {
    let mut config = Config::new();
    config.stack_size = STACK;
    let totals = Arc::new(Totals::default());
    let shared = Arc::clone(&totals);
    let orders = Runner::new(scheduler, config).run(move || scenario(durability, works, &shared));
    let [signed, closed] =
        [&totals.signed, &totals.refused_by_a_closed_ledger].map(|count| count.load(Ordering::Relaxed));
    scene::say(&format!("{durability:?}: {orders} orders, {signed} signatures, {closed} refused by a closed ledger"));
    assert!(signed > orders as u64 && closed > orders as u64, "the orders are all alike");
}

fn schedules() -> usize {
    std::env::var("SEMEL_SCHEDULES").map_or(SCHEDULES, |text| text.parse().unwrap())
}

fn any_order(number: u64) -> RandomScheduler {
    RandomScheduler::new_from_seed(seed(number), schedules())
}

fn orders_with_few_switches(number: u64) -> PctScheduler {
    PctScheduler::new_from_seed(seed(number), DEPTH, schedules())
}

const RESERVE: Durability = Durability::Reserve { heights: 3 };

#[test]
fn in_any_order_nothing_is_signed_twice_or_below_a_floor_or_after_the_end() {
    explore(any_order(1), Durability::Sync, &CONTENTION);
}

#[test]
fn in_any_order_what_is_begun_together_is_signed_when_it_is_durable() {
    explore(any_order(5), Durability::Sync, &TOGETHER);
    explore(orders_with_few_switches(6), RESERVE, &TOGETHER);
}

#[test]
fn in_any_order_in_reserve_mode_too() {
    explore(any_order(2), RESERVE, &CONTENTION);
}

#[test]
fn in_any_order_nothing_is_signed_beyond_a_bound_that_is_not_durable() {
    explore(any_order(3), RESERVE, &RUN_AHEAD);
}

#[test]
fn in_orders_with_few_switches_nothing_is_signed_twice_or_below_a_floor_or_after_the_end() {
    explore(orders_with_few_switches(4), Durability::Sync, &CONTENTION);
}

#[test]
fn in_orders_with_few_switches_in_reserve_mode_too() {
    explore(orders_with_few_switches(5), RESERVE, &CONTENTION);
}

#[test]
fn in_orders_with_few_switches_nothing_is_signed_beyond_a_bound_that_is_not_durable() {
    explore(orders_with_few_switches(6), RESERVE, &RUN_AHEAD);
}
