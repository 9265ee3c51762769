//! A ledger in memory, for tests and simulations.

use crate::sync::{Arc, Mutex, MutexGuard};
use semel_guard::{
    Advance, BYTES_MAX, Digest, Entry, History, Lane, Ledger, Mark, Refusal, Signature, Subject, Unavailable, Version,
};
use std::collections::BTreeMap;

/// A ledger that knows every key and forgets everything when it is dropped. It must not guard a key that others trust.
///
/// It is linearizable: every operation happens at one moment, under one lock.
#[derive(Default)]
pub struct MemoryLedger {
    subjects: Mutex<BTreeMap<Subject, Lanes>>,
}

/// What is known of one subject.
#[derive(Default)]
struct Lanes {
    buried: bool,
    histories: BTreeMap<Lane, Arc<History>>,
}

impl Lanes {
    fn history(&mut self, lane: Lane) -> &mut Arc<History> {
        let fresh = || Arc::new(History { tombstone: self.buried, ..History::default() });
        self.histories.entry(lane).or_insert_with(fresh)
    }
}

impl MemoryLedger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> Result<MutexGuard<'_, BTreeMap<Subject, Lanes>>, Unavailable> {
        self.subjects.lock().map_err(|_| Unavailable("a thread panicked while it held the ledger".into()))
    }
}

impl Ledger for MemoryLedger {
    fn history(&self, subject: &Subject, lane: Lane) -> Result<Arc<History>, Unavailable> {
        let subjects = self.lock()?;
        let known = subjects.get(subject);
        let empty = || History { tombstone: known.is_some_and(|lanes| lanes.buried), ..History::default() };
        Ok(known.and_then(|lanes| lanes.histories.get(&lane)).map_or_else(|| Arc::new(empty()), Arc::clone))
    }

    fn advance(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Advance {
        if entry.bytes.len() > BYTES_MAX {
            return Advance::Unavailable(Unavailable(format!("a message has at most {BYTES_MAX} bytes")));
        }
        let mut subjects = match self.lock() {
            Ok(subjects) => subjects,
            Err(why) => return Advance::Unavailable(why),
        };
        let history = subjects.entry(subject.clone()).or_default().history(lane);
        if history.version != expected {
            return Advance::Conflict;
        }
        let history = Arc::make_mut(history);
        history.push(lane, entry);
        Advance::Committed(history.version)
    }

    fn keep(&self, subject: &Subject, lane: Lane, mark: Mark, digest: Digest, signature: &Signature) {
        let Ok(mut subjects) = self.lock() else { return };
        if let Some(history) = subjects.get_mut(subject).and_then(|lanes| lanes.histories.get_mut(&lane)) {
            Arc::make_mut(history).keep(mark, digest, *signature);
        }
    }

    fn raise(&self, subject: &Subject, lane: Lane, floor: Mark) -> Result<(), Unavailable> {
        let mut subjects = self.lock()?;
        let history = subjects.entry(subject.clone()).or_default().history(lane);
        if history.floor.is_none_or(|present| lane.higher(present, floor) != present) {
            Arc::make_mut(history).raise(lane, floor);
        }
        Ok(())
    }

    fn bury(&self, subject: &Subject, buried: bool) -> Result<(), Unavailable> {
        let mut subjects = self.lock()?;
        let lanes = subjects.entry(subject.clone()).or_default();
        if lanes.buried != buried {
            lanes.buried = buried;
            for history in lanes.histories.values_mut().map(Arc::make_mut) {
                history.tombstone = buried;
                history.version += 1;
            }
        }
        Ok(())
    }

    fn refused(&self, _refusal: &Refusal) {
        // There is no log that could be read later.
    }
}
