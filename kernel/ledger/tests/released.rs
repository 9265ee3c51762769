//! A key that a process lets go of: its records are on the medium first, and a ledger that could not put them there says so to all.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod scene;

use scene::{ask, at, precommit, refusal, signature_of, subject};
use semel_guard::{Begun, Duty, Guard, Position, Reason};
use semel_ledger::disk::{Disk, File, HostDisk, Open};
use semel_ledger::{Durability, Journal, Options};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What the syncs of a segment wait for, one after the other, and how each ends; what is not told runs at once.
#[derive(Default)]
struct Syncs {
    told: Mutex<Vec<Receiver<io::Result<()>>>>,
    begun: AtomicUsize,
}

/// The disk of this host, with syncs that take as long as they are told.
struct Slow(Arc<Syncs>);

struct SlowFile(Box<dyn File>, Arc<Syncs>, bool);

impl Disk for Slow {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        HostDisk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        HostDisk.list(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let is_segment = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment"));
        Ok(Box::new(SlowFile(HostDisk.open(path, how)?, Arc::clone(&self.0), is_segment)))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        HostDisk.sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostDisk.rename(from, to)
    }
}

impl File for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let told = if self.2 { self.1.told.lock().unwrap().pop() } else { None };
        self.1.begun.fetch_add(1, Ordering::SeqCst);
        told.map_or(Ok(()), |told| told.recv().unwrap())?;
        self.0.sync()
    }

    fn lock(&self) -> io::Result<bool> {
        self.0.lock()
    }
}

/// Waits until something is so.
fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        thread::yield_now();
    }
}

/// The next sync waits for this.
fn hold_next(syncs: &Syncs) -> Sender<io::Result<()>> {
    let (end, told) = channel();
    syncs.told.lock().unwrap().push(told);
    end
}

/// The syncs, the ledger, the end of the sync that has begun, and the request that waits for it.
type InHand = (Arc<Syncs>, Arc<Guard<Journal>>, Sender<io::Result<()>>, JoinHandle<Option<Reason>>);

/// A ledger of two keys on a slow disk, and a request for the first of them whose sync has begun.
fn in_hand(directory: &Path) -> InHand {
    let syncs = Arc::new(Syncs::default());
    let options = Options { disk: Arc::new(Slow(Arc::clone(&syncs))), ..at(directory, Durability::Sync) };
    let guard = Arc::new(Guard::new(Journal::open(options, &[subject(1), subject(2)]).unwrap()));
    let (end, before) = (hold_next(&syncs), syncs.begun.load(Ordering::SeqCst));
    let first = thread::spawn({
        let guard = Arc::clone(&guard);
        move || refusal(ask(&guard, &subject(1), precommit(10), "block"))
    });
    until(|| syncs.begun.load(Ordering::SeqCst) > before);
    (syncs, guard, end, first)
}

#[test]
fn a_key_is_free_once_its_records_are_on_the_medium() {
    let directory = tempfile::tempdir().unwrap();
    let (_syncs, guard, end, first) = in_hand(directory.path());
    let before = guard.ledger().status().sequence;
    // Its record is only in memory while the sync of the other key runs.
    let second = thread::spawn({
        let guard = Arc::clone(&guard);
        move || refusal(ask(&guard, &subject(2), precommit(10), "block"))
    });
    until(|| guard.ledger().status().sequence > before);
    let release = thread::spawn({
        let guard = Arc::clone(&guard);
        move || guard.ledger().release(&[subject(2)])
    });
    // Nothing of it may be admitted from here on, and nobody else has it yet.
    thread::sleep(Duration::from_millis(100));
    let other = Journal::open(at(directory.path(), Durability::Sync), &[]).unwrap();
    assert_eq!(other.register(&[subject(2)]).err().map(|error| error.code()), Some("LEDGER-0002"));
    assert!(!release.is_finished());
    end.send(Ok(())).unwrap();
    release.join().unwrap();
    assert_eq!((first.join().unwrap(), second.join().unwrap()), (None, None));
    other.register(&[subject(2)]).unwrap();
    let other = Guard::new(other);
    assert_eq!(refusal(ask(&other, &subject(2), precommit(10), "another block")), Some(Reason::Conflict));
    assert_eq!(refusal(ask(&guard, &subject(2), precommit(11), "block")), Some(Reason::Unavailable));
}

#[test]
fn a_key_whose_records_cannot_be_put_there_is_not_let_go() {
    let directory = tempfile::tempdir().unwrap();
    let (_syncs, guard, end, first) = in_hand(directory.path());
    let release = thread::spawn({
        let guard = Arc::clone(&guard);
        move || guard.ledger().release(&[subject(1)])
    });
    thread::sleep(Duration::from_millis(50));
    end.send(Err(io::Error::from_raw_os_error(5))).unwrap();
    release.join().unwrap();
    assert_eq!(first.join().unwrap(), Some(Reason::Unknown));
    let other = Journal::open(at(directory.path(), Durability::Sync), &[]).unwrap();
    assert_eq!(other.register(&[subject(1)]).err().map(|error| error.code()), Some("LEDGER-0002"));
}

#[test]
fn a_close_that_fails_is_told_to_a_request_in_hand() {
    let directory = tempfile::tempdir().unwrap();
    let (syncs, guard, end, first) = in_hand(directory.path());
    // The kernel tells the close of the failed write, and the request that it went well.
    hold_next(&syncs).send(Err(io::Error::from_raw_os_error(5))).unwrap();
    assert!(guard.ledger().close().is_err());
    assert!(guard.ledger().status().failed.is_some());
    end.send(Ok(())).unwrap();
    assert_eq!(first.join().unwrap(), Some(Reason::Unknown));
}

#[test]
fn what_is_begun_together_shares_one_sync_and_does_not_wait_for_a_hung_one_again_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let (_syncs, guard, end, first) = in_hand(directory.path());
    // While another request's sync hangs.
    let since = Instant::now();
    let begin = |text: &str, position| {
        let begun = guard.begin(&Duty::new(&subject(2), position, text.as_bytes()).unwrap());
        match begun {
            Ok(Begun::Pending(pending)) => Ok(pending),
            Ok(Begun::Answered(_)) => unreachable!("nobody asked before"),
            Err(denied) => Err(refusal::<()>(Err(denied))),
        }
    };
    let lanes = [precommit(10), Position::Aura { slot: 10 }, Position::EthereumBlock { slot: 10 }];
    let begun = lanes.map(|position| begin("block", position).unwrap_or_else(|why| unreachable!("{why:?}")));
    for pending in begun {
        assert_eq!(refusal(pending.finish(|_, _| unreachable!("it may be lost"))), Some(Reason::Unknown));
    }
    let waited = since.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&waited), "{waited:?}, and not once for each");
    end.send(Ok(())).unwrap();
    assert_eq!(first.join().unwrap(), None);
    // The disk is back: each position is closed for others, and open for who asks the same again.
    for position in lanes {
        assert_eq!(refusal(ask(&guard, &subject(2), position, "another block")), Some(Reason::Conflict));
        assert_eq!(refusal(ask(&guard, &subject(2), position, "block")), None);
    }
    let before = guard.ledger().status().syncs;
    let next = [precommit(11), Position::Aura { slot: 11 }, Position::EthereumBlock { slot: 11 }];
    let begun = next.map(|position| begin("block", position).unwrap_or_else(|why| unreachable!("{why:?}")));
    for pending in begun {
        assert_eq!(refusal(pending.finish(|_, bytes| Ok(signature_of(bytes)))), None);
    }
    assert_eq!(guard.ledger().status().syncs - before, 1, "one sync for all of them");
}
