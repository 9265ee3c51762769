//! Committing: records in order under one lock, one `fdatasync` for all that wait, reservations in the background.

use crate::error::LedgerErrorKind;
use crate::journal::{Durability, Inner, Journal, Shared, now};
use crate::record::{Kind, Record, SubjectId, subject_id};
use crate::state::{entry_records, signature_record};
use semel_guard::{
    Advance, Digest, Entry, History, Lane, Ledger, Mark, Order, Refusal, Signature, Subject, Unavailable, Version,
};
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest that a request waits for the medium. A node gives up after 5 s.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// Records that one request writes, at most: reserve, entry, late signature, floor.
const REQUEST_RECORDS: usize = 8;

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock may have left memory and medium apart: that is a failure like any other.
        self.inner.lock().unwrap_or_else(|poisoned| {
            let mut inner = poisoned.into_inner();
            inner.failed.get_or_insert_with(|| "a thread panicked while it held the ledger".into());
            inner
        })
    }

    fn usable(inner: &Inner) -> Result<(), Unavailable> {
        match &inner.failed {
            Some(why) => Err(Unavailable(format!("the ledger stopped: {why}"))),
            None if inner.closed => Err(Unavailable("the ledger is closed".into())),
            None => Ok(()),
        }
    }

    /// Writes records behind what is buffered, in order; begins a new segment where the old one is full.
    pub(crate) fn write(&self, inner: &mut Inner, records: &[Record]) -> io::Result<u64> {
        if !inner.volume.has_room(records.len() + REQUEST_RECORDS) {
            let rotated = inner.volume.rotate(&inner.state, now()).map_err(|error| match error.kind {
                LedgerErrorKind::Io(error) => error,
                other => io::Error::other(other.to_string()),
            });
            inner.syncs += 1;
            self.changed.notify_all();
            if let Err(error) = rotated {
                return Err(fail(inner, error));
            }
        }
        let time = now();
        for record in records {
            inner.volume.put(&Record { time, ..record.clone() });
        }
        if let Err(error) = inner.volume.write() {
            return Err(fail(inner, error));
        }
        Ok(inner.volume.sequence)
    }

    /// Waits until everything up to `sequence` is on the medium, syncing for all if nobody else does.
    fn settle<'a>(&'a self, mut inner: MutexGuard<'a, Inner>, sequence: u64) -> Result<MutexGuard<'a, Inner>, String> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            if inner.volume.durable >= sequence {
                return Ok(inner);
            }
            if let Some(why) = &inner.failed {
                return Err(why.clone());
            }
            if inner.syncing {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(format!("the disk did not answer within {} s", WAIT_MAX.as_secs()));
                }
                let waited = self.changed.wait_timeout(inner, left);
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            inner.syncing = true;
            let (target, file) = (inner.volume.sequence, inner.volume.file());
            drop(inner);
            let synced = file.sync();
            inner = self.lock();
            inner.syncing = false;
            inner.syncs += 1;
            match synced {
                Ok(()) => inner.volume.durable = inner.volume.durable.max(target),
                Err(error) => drop(fail(&mut inner, error)),
            }
            self.changed.notify_all();
        }
    }

    /// Waits for work in the background and extends reservations. False: the ledger is closed.
    pub(crate) fn extend_once(&self) -> bool {
        let mut inner = self.lock();
        if inner.extend.is_empty() {
            // Woken often enough to notice that the ledger is gone.
            let waited = self.changed.wait_timeout(inner, Duration::from_millis(200));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if inner.closed || inner.failed.is_some() {
            return false;
        }
        let wanted = std::mem::take(&mut inner.extend);
        if wanted.is_empty() {
            return true;
        }
        let records: Vec<Record> = wanted.iter().map(|(id, lane, bound)| reserve_record(*id, *lane, *bound)).collect();
        let Ok(sequence) = self.write(&mut inner, &records) else { return false };
        self.witness(&inner);
        let Ok(mut inner) = self.settle(inner, sequence) else { return false };
        for (id, lane, bound) in wanted {
            if let Some(subject) = inner.state.subjects.get_mut(&id) {
                let state = subject.lane(lane);
                state.bound = Some(state.bound.map_or(bound, |old| old.max(bound)));
            }
        }
        true
    }

    /// Lets the witness name the last record. False: there is none to rely on, which costs only exactness.
    fn witness(&self, inner: &Inner) -> bool {
        self.witness.as_ref().is_some_and(|witness| witness.tell(inner.volume.sequence, inner.volume.hash))
    }
}

fn fail(inner: &mut Inner, error: io::Error) -> io::Error {
    inner.failed.get_or_insert_with(|| error.to_string());
    error
}

fn reserve_record(subject: SubjectId, lane: Lane, bound: Mark) -> Record {
    Record { subject, lane: lane.code(), mark: bound, ..Record::new(Kind::Reserve) }
}

impl Ledger for Journal {
    fn history(&self, subject: &Subject, lane: Lane) -> Result<Arc<History>, Unavailable> {
        let id = subject_id(subject);
        let mut inner = self.shared.lock();
        Shared::usable(&inner)?;
        if !inner.locks.contains_key(&id) {
            return Err(Unavailable("this process does not hold the lock of this key".into()));
        }
        let unknown = || Unavailable("this ledger was not opened for this key".into());
        let settles = inner.state.subjects.get_mut(&id).ok_or_else(unknown)?.lane(lane).settles;
        if settles > inner.volume.durable {
            inner = self.shared.settle(inner, settles).map_err(Unavailable)?;
        }
        let subject = inner.state.subjects.get_mut(&id).ok_or_else(unknown)?;
        Ok(Arc::clone(&subject.lane(lane).history))
    }

    fn advance(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Advance {
        let id = subject_id(subject);
        let mut guard = self.shared.lock();
        if let Err(why) = Shared::usable(&guard) {
            return Advance::Unavailable(why);
        }
        let inner = &mut *guard;
        let Some(known) = inner.state.subjects.get_mut(&id) else {
            return Advance::Unavailable(Unavailable("this ledger was not opened for this key".into()));
        };
        let state = known.lane(lane);
        if state.history.version != expected {
            return Advance::Conflict;
        }
        let version = expected + 1;
        let base = |kind| Record { subject: id, lane: lane.code(), ..Record::new(kind) };
        let mut records = entry_records(base, &entry, version);
        let mut bound = None;
        let mut ahead = false;
        if let (Durability::Reserve { heights }, Order::Rising) = (self.shared.options.durability, lane.order()) {
            let wanted = Mark([entry.mark.0[0].saturating_add(heights), 0, 0]);
            let present = state.bound.filter(|bound| entry.mark < *bound);
            ahead = present.is_some();
            match present {
                Some(present) if present < wanted => {
                    inner.extend.retain(|(other, other_lane, _)| (*other, *other_lane) != (id, lane));
                    inner.extend.push((id, lane, wanted));
                }
                Some(_) => {}
                None => {
                    records.insert(0, reserve_record(id, lane, wanted));
                    bound = Some(wanted);
                }
            }
        }
        let history = Arc::make_mut(&mut state.history);
        history.push(lane, entry);
        history.version = version;
        let sequence = match self.shared.write(inner, &records) {
            Ok(sequence) => sequence,
            Err(error) => return Advance::Unknown(error.to_string()),
        };
        if let Durability::Reserve { .. } = self.shared.options.durability {
            self.shared.witness(inner);
        }
        if ahead {
            if !inner.extend.is_empty() {
                self.shared.changed.notify_all();
            }
            return Advance::Committed(version);
        }
        if let Some(known) = inner.state.subjects.get_mut(&id) {
            known.lane(lane).settles = sequence;
        }
        match self.shared.settle(guard, sequence) {
            Ok(mut inner) => {
                if let (Some(bound), Some(known)) = (bound, inner.state.subjects.get_mut(&id)) {
                    known.lane(lane).bound = Some(bound);
                }
                Advance::Committed(version)
            }
            Err(why) => Advance::Unknown(why),
        }
    }

    fn keep(&self, subject: &Subject, lane: Lane, mark: Mark, digest: Digest, signature: &Signature) {
        let id = subject_id(subject);
        let mut guard = self.shared.lock();
        let inner = &mut *guard;
        if Shared::usable(inner).is_err() {
            return;
        }
        let Some(known) = inner.state.subjects.get_mut(&id) else { return };
        let state = known.lane(lane);
        Arc::make_mut(&mut state.history).keep(mark, digest, *signature);
        if inner.volume.has_room(REQUEST_RECORDS) {
            let base = Record { subject: id, lane: lane.code(), time: now(), ..Record::new(Kind::Signature) };
            inner.volume.put(&signature_record(base, mark, digest, *signature));
        }
    }

    fn raise(&self, subject: &Subject, lane: Lane, floor: Mark) -> Result<(), Unavailable> {
        let id = subject_id(subject);
        let mut guard = self.shared.lock();
        Shared::usable(&guard)?;
        let inner = &mut *guard;
        let unknown = || Unavailable("this ledger was not opened for this key".into());
        let state = inner.state.subjects.get_mut(&id).ok_or_else(unknown)?.lane(lane);
        let present = state.history.floor;
        if present.is_some_and(|present| lane.higher(present, floor) == present) {
            return Ok(());
        }
        let history = Arc::make_mut(&mut state.history);
        history.raise(lane, floor);
        let record = Record {
            subject: id,
            lane: lane.code(),
            flag: 1,
            mark: history.floor.unwrap_or(floor),
            version: history.version,
            ..Record::new(Kind::Floor)
        };
        self.write_and_settle(guard, record, Some((id, lane)))
    }

    fn bury(&self, subject: &Subject, buried: bool) -> Result<(), Unavailable> {
        let id = subject_id(subject);
        let mut guard = self.shared.lock();
        Shared::usable(&guard)?;
        let inner = &mut *guard;
        let unknown = || Unavailable("this ledger was not opened for this key".into());
        let known = inner.state.subjects.get_mut(&id).ok_or_else(unknown)?;
        if known.buried == buried {
            return Ok(());
        }
        let burials = known.burials + 1;
        known.set_buried(buried, burials);
        let record = Record { subject: id, flag: u8::from(buried), version: burials, ..Record::new(Kind::Tombstone) };
        self.write_and_settle(guard, record, None)
    }

    fn refused(&self, refusal: &Refusal) {
        let mut inner = self.shared.lock();
        if Shared::usable(&inner).is_err() {
            return;
        }
        let reasons = semel_guard::Reason::ALL;
        let flag = reasons.iter().position(|reason| *reason == refusal.reason).unwrap_or_default() as u8;
        let record = Record {
            subject: subject_id(&refusal.subject),
            flag,
            lane: refusal.asked.lane().code(),
            mark: refusal.asked.mark(),
            digest: refusal.asked_digest,
            ..Record::new(Kind::Refusal)
        };
        // The answer is no whether or not this reaches the log; a failed write stops the ledger all the same.
        let _logged = self.shared.write(&mut inner, &[record]);
    }
}

impl Journal {
    fn write_and_settle(
        &self,
        mut guard: MutexGuard<'_, Inner>,
        record: Record,
        lane: Option<(SubjectId, Lane)>,
    ) -> Result<(), Unavailable> {
        let sequence = self.shared.write(&mut guard, &[record]).map_err(|error| Unavailable(error.to_string()))?;
        if let Some((id, lane)) = lane
            && let Some(known) = guard.state.subjects.get_mut(&id)
        {
            known.lane(lane).settles = sequence;
        }
        self.shared.settle(guard, sequence).map(drop).map_err(Unavailable)
    }
}
