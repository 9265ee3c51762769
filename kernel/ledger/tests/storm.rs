//! A storm of conflicts: many nodes with one key ask for different messages at the same position, at once, a thousand times.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod scene;

use scene::{at, precommit, signature_of, subject};
use semel_guard::{Denied, Duty, Guard, Lane, Ledger, Reason};
use semel_ledger::disk::{Disk, File, HostDisk, Open};
use semel_ledger::{Durability, Journal, Options};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

/// Who ask at the same time.
const ASKERS: usize = 256;

/// Positions they all ask for.
const POSITIONS: u64 = 1000;

/// The disk of this host, which does not wait for the medium, but lets everybody else go first as if it did.
struct Hasty;

struct HastyFile(Box<dyn File>);

impl Disk for Hasty {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        HostDisk.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        HostDisk.list(path)
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        Ok(Box::new(HastyFile(HostDisk.open(path, how)?)))
    }
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostDisk.rename(from, to)
    }
}

impl File for HastyFile {
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
        thread::yield_now();
        Ok(())
    }
    fn lock(&self) -> io::Result<bool> {
        self.0.lock()
    }
}

/// What the askers were told, all together.
#[derive(Default)]
struct Answers {
    signed: AtomicU64,
    conflicts: AtomicU64,
    /// How often the key was used, whatever they were told.
    used: AtomicU64,
    /// Any other answer. Kept, because an asker that panics would leave the others waiting for it.
    others: Mutex<Vec<String>>,
}

fn storm(durability: Durability) {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { disk: Arc::new(Hasty), ..at(&directory.path().join("ledger"), durability) };
    let a = subject(1);
    let guard = Guard::new(Journal::open(options, std::slice::from_ref(&a)).unwrap());
    let start = Barrier::new(ASKERS);
    let answers: Vec<Answers> = (0..POSITIONS).map(|_| Answers::default()).collect();
    thread::scope(|scope| {
        for asker in 0..ASKERS {
            let (guard, a, start, answers) = (&guard, &a, &start, &answers);
            let work = move || {
                for (height, told) in (1..).zip(answers) {
                    let text = format!("block {height} of node {asker}");
                    let duty = Duty::new(a, precommit(height), text.as_bytes()).unwrap();
                    start.wait();
                    let asked = guard.admit(&duty, |_permit, bytes| {
                        told.used.fetch_add(1, Ordering::Relaxed);
                        Ok(signature_of(bytes))
                    });
                    match asked {
                        Ok(answer) if answer.signature == signature_of(text.as_bytes()) => &told.signed,
                        Err(Denied::Refused(refusal)) if refusal.reason == Reason::Conflict => &told.conflicts,
                        other => {
                            told.others.lock().unwrap().push(format!("{other:?}"));
                            continue;
                        }
                    }
                    .fetch_add(1, Ordering::Relaxed);
                }
            };
            thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, work).unwrap();
        }
    });
    for (height, told) in (1..).zip(&answers) {
        // Nobody went on before everybody was answered: a position is never so old that its conflict is forgotten.
        assert_eq!(*told.others.lock().unwrap(), Vec::<String>::new(), "at height {height}");
        let counts = [&told.signed, &told.conflicts, &told.used].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [1, ASKERS as u64 - 1, 1], "at height {height}: signed, conflicts, uses of the key");
    }
    let history = guard.ledger().history(&a, Lane::Tendermint).unwrap();
    assert_eq!(history.floor, Some(precommit(POSITIONS).mark()));
    let status = guard.ledger().status();
    println!("{durability:?}: {} records, {} syncs", status.sequence, status.syncs);
}

#[test]
fn of_256_that_ask_for_different_messages_at_once_exactly_one_is_signed_at_each_of_1000_positions() {
    storm(Durability::Sync);
}

#[test]
fn in_reserve_mode_too() {
    storm(Durability::Reserve { heights: 8 });
}
