//! Committing: records in order under one lock, one `fdatasync` for all that wait, reservations in the background.

use crate::error::{LedgerError, LedgerErrorKind};
use crate::journal::{Inner, Journal, Shared, now};
use crate::options::Durability;
use crate::record::{Kind, Record, SubjectId, subject_id};
use crate::state::{LaneState, SubjectState, entry_records, signature_record};
use crate::sync::{Arc, Condvar, MutexGuard, PoisonError};
use crate::waited;
use semel_guard::{
    Advance, BYTES_MAX, Begin, Digest, Entry, History, Hold, Lane, Ledger, Mark, Order, Reason, Refusal, Signature,
    Subject, Ticket, Unavailable, Version,
};
use std::io;
use std::time::{Duration, Instant};

/// Longest that a request waits for the medium. A node gives up after 5 s.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// A ledger to which nothing was added for this long is quiet: bursts of requests come within less.
const QUIET: Duration = Duration::from_millis(5);

/// Records that one request writes, at most: reserve, entry, late signature, floor.
const REQUEST_RECORDS: usize = 8;

impl Inner {
    /// A key that this process may sign with, now.
    fn subject(&mut self, id: SubjectId) -> Result<&mut SubjectState, Unavailable> {
        Shared::usable(self)?;
        if !self.locks.contains_key(&id) {
            return Err(Unavailable("this process does not hold the lock of this key".into()));
        }
        let unknown = || Unavailable("this ledger was not opened for this key".into());
        self.state.subjects.get_mut(&id).ok_or_else(unknown)
    }

    fn lane(&mut self, id: SubjectId, lane: Lane) -> Result<&mut LaneState, Unavailable> {
        Ok(self.subject(id)?.lane(lane))
    }

    /// Takes note of a bound whose record ends with `sequence`.
    fn promise(&mut self, id: SubjectId, lane: Lane, bound: Mark, sequence: u64) {
        if let Some(subject) = self.state.subjects.get_mut(&id) {
            let state = subject.lane(lane);
            let bound = state.promised.map_or(bound, |(promised, _)| promised.max(bound));
            state.promised = Some((bound, sequence));
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock may have left memory and medium apart: that is a failure like any other.
        self.inner.lock().unwrap_or_else(|poisoned| {
            let mut inner = poisoned.into_inner();
            inner.failed.get_or_insert_with(|| "a thread panicked while it held the ledger".into());
            inner
        })
    }

    /// Tells everybody who waits to look again.
    pub(crate) fn wake(&self) {
        self.changed.iter().for_each(Condvar::notify_all);
        self.work.notify_all();
    }

    pub(crate) fn usable(inner: &Inner) -> Result<(), Unavailable> {
        match &inner.failed {
            Some(why) => Err(Unavailable(format!("the ledger stopped: {why}"))),
            None if inner.closed => Err(Unavailable("the ledger is closed".into())),
            None => Ok(()),
        }
    }

    /// Begins a new segment. An error that leaves the volume half changed is final.
    pub(crate) fn rotate(&self, inner: &mut Inner) -> Result<(), LedgerError> {
        // The new segment names the record that it goes on from. When the process ends before the witness is told of the
        // new segment, it must be that very record which the witness knows.
        if let Err(error) = inner.volume.write() {
            self.fail(inner, &error.to_string());
            return Err(LedgerError::at(&inner.volume.dir, error));
        }
        self.testify(inner);
        let rotated = inner.volume.rotate(&inner.state, now());
        match &rotated {
            Err(LedgerError { kind: LedgerErrorKind::Limit(_), .. }) => {}
            Err(error) => self.fail(inner, &error.to_string()),
            Ok(()) => self.changed.iter().for_each(Condvar::notify_all),
        }
        self.testify(inner);
        rotated
    }

    /// Puts records behind what is buffered, in order; begins a new segment where the old one is full.
    fn put(&self, inner: &mut Inner, records: Vec<Record>) -> io::Result<u64> {
        if !inner.volume.has_room(records.len() + REQUEST_RECORDS) {
            self.rotate(inner).map_err(|error| match error.kind {
                LedgerErrorKind::Io(error) => error,
                other => io::Error::other(other.to_string()),
            })?;
        }
        let time = now();
        for mut record in records {
            record.time = time;
            inner.volume.put(&record);
        }
        Ok(inner.volume.sequence)
    }

    /// Hands what is buffered to the kernel.
    fn hand_over(&self, inner: &mut Inner) -> io::Result<()> {
        if let Err(error) = inner.volume.write() {
            self.fail(inner, &error.to_string());
            return Err(error);
        }
        self.testify(inner);
        Ok(())
    }

    /// Puts records and hands them to the kernel.
    pub(crate) fn write(&self, inner: &mut Inner, records: Vec<Record>) -> io::Result<u64> {
        let sequence = self.put(inner, records)?;
        self.hand_over(inner)?;
        Ok(sequence)
    }

    /// Lets the witness name the last record. Where it cannot, only exactness after a crash is lost.
    pub(crate) fn testify(&self, inner: &Inner) {
        if let (Some(witness), Durability::Reserve { .. }, None) =
            (&self.witness, self.options.durability, &inner.failed)
        {
            let _told = witness.tell(inner.volume.sequence, inner.volume.hash);
        }
    }

    pub(crate) fn fail(&self, inner: &mut Inner, why: &str) {
        inner.failed.get_or_insert_with(|| why.to_owned());
        self.wake();
    }

    /// Waits until everything up to `sequence` is on the medium, syncing for all if nobody else does.
    ///
    /// Who came before a sync began is told when it ends; of those who came later, one is, and syncs for them all.
    pub(crate) fn settle<'a>(
        &'a self,
        inner: MutexGuard<'a, Inner>,
        sequence: u64,
    ) -> Result<MutexGuard<'a, Inner>, String> {
        if inner.volume.durable >= sequence {
            return Ok(inner);
        }
        let begun = Instant::now();
        let settled = self.settle_now(inner, sequence);
        waited::add(begun.elapsed());
        settled
    }

    fn settle_now<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        sequence: u64,
    ) -> Result<MutexGuard<'a, Inner>, String> {
        let mut deadline = None;
        loop {
            if inner.volume.durable >= sequence {
                return Ok(inner);
            }
            if let Some(why) = &inner.failed {
                return Err(why.clone());
            }
            if let Some((target, since)) = inner.syncing {
                // Who comes to a sync that hangs does not wait for it as long again.
                let now = Instant::now();
                let left =
                    (*deadline.get_or_insert(now + WAIT_MAX)).min(since + WAIT_MAX).saturating_duration_since(now);
                if left.is_zero() {
                    return Err(format!("the disk did not answer within {} s", WAIT_MAX.as_secs()));
                }
                let turn = if sequence <= target { inner.syncs } else { inner.syncs + 1 };
                inner = self.wait_turn(inner, turn, left);
                continue;
            }
            // With what others have put there since: one write for all that wait, and one sync.
            self.hand_over(&mut inner).map_err(|error| error.to_string())?;
            let (target, file) = (inner.volume.written, inner.volume.file());
            let begun = Instant::now();
            inner.syncing = Some((target, begun));
            drop(inner);
            let synced = file.sync();
            self.sync_seconds.record(begun.elapsed());
            inner = self.lock();
            let turn = inner.syncs;
            inner.syncing = None;
            inner.syncs += 1;
            match synced {
                // A kernel tells of a failed write once: who synced meanwhile may have been told of this one.
                Ok(()) if inner.failed.is_none() => inner.volume.durable = inner.volume.durable.max(target),
                Ok(()) => {}
                Err(error) => self.fail(&mut inner, &error.to_string()),
            }
            self.end_turn(&inner, turn);
        }
    }

    /// Waits for the end of sync number `turn`, or for the turn to begin it.
    fn wait_turn<'a>(&'a self, mut inner: MutexGuard<'a, Inner>, turn: u64, left: Duration) -> MutexGuard<'a, Inner> {
        let [even, odd] = &self.changed;
        let (turns, side) = if turn.is_multiple_of(2) { (even, 0) } else { (odd, 1) };
        let count = |inner: &mut Inner, by: isize| {
            if let Some(waiting) = inner.waiting.get_mut(side) {
                *waiting = waiting.saturating_add_signed(by);
            }
        };
        count(&mut inner, 1);
        inner = turns.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        count(&mut inner, -1);
        inner
    }

    /// Tells all who waited for sync number `turn`, and one of those who wait for the next.
    fn end_turn(&self, inner: &Inner, turn: u64) {
        let ([even, odd], [at_even, at_odd]) = (&self.changed, inner.waiting);
        let (done, next) = match turn.is_multiple_of(2) {
            true => ((even, at_even), (odd, at_odd)),
            false => ((odd, at_odd), (even, at_even)),
        };
        // A wake-up is a system call, also where nobody waits.
        if done.1 > 0 {
            done.0.notify_all();
        }
        if next.1 > 0 {
            next.0.notify_one();
        }
    }

    /// Waits for work in the background and does it: extends reservations, begins a new segment in a quiet moment, so that no
    /// request has to wait for either. False: the ledger is closed.
    pub(crate) fn work_once(&self) -> bool {
        let mut inner = self.lock();
        while inner.extend.is_empty() {
            if inner.closed || inner.failed.is_some() {
                return false;
            }
            if !inner.tidy {
                inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let before = inner.volume.sequence;
            inner = self.work.wait_timeout(inner, QUIET).unwrap_or_else(PoisonError::into_inner).0;
            inner.tidy &= inner.volume.is_filling();
            let is_quiet = inner.volume.sequence == before && inner.syncing.is_none();
            if inner.tidy && is_quiet && Self::usable(&inner).is_ok() {
                inner.tidy = false;
                // What fails here fails for good, and is known to all from then on.
                let _begun = self.rotate(&mut inner);
            }
        }
        if inner.closed || inner.failed.is_some() {
            return false;
        }
        let wanted = std::mem::take(&mut inner.extend);
        let records = wanted.iter().map(|(id, lane, bound)| reserve_record(*id, *lane, *bound)).collect();
        let Ok(sequence) = self.write(&mut inner, records) else { return false };
        for (id, lane, bound) in wanted {
            inner.promise(id, lane, bound, sequence);
        }
        // A disk that is slow today makes requests wait for it themselves.
        drop(self.settle(inner, sequence));
        true
    }
}

fn reserve_record(subject: SubjectId, lane: Lane, bound: Mark) -> Record {
    Record { subject, lane: lane.code(), mark: bound, ..Record::new(Kind::Reserve) }
}

/// Changes what is known of a key, and returns once the records of it are durable.
pub(crate) fn write_and_settle(
    shared: &Shared,
    id: SubjectId,
    change: impl FnOnce(&mut SubjectState) -> Vec<Record>,
) -> Result<(), Unavailable> {
    let mut guard = shared.lock();
    let inner = &mut *guard;
    let records = change(inner.subject(id)?);
    let sequence = shared.write(inner, records).map_err(|error| Unavailable(error.to_string()))?;
    shared.settle(guard, sequence).map(drop).map_err(Unavailable)
}

impl Ledger for Journal {
    fn history(&self, subject: &Subject, lane: Lane) -> Result<Arc<History>, Unavailable> {
        let id = subject_id(subject);
        let mut inner = self.shared().lock();
        let settles = inner.lane(id, lane)?.settles;
        if settles > inner.volume.durable {
            inner = self.shared().settle(inner, settles).map_err(Unavailable)?;
        }
        Ok(Arc::clone(&inner.lane(id, lane)?.history))
    }

    fn advance(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Advance {
        match self.begin(subject, lane, expected, entry) {
            Begin::Written(version, ticket) => match self.settle(ticket) {
                Ok(()) => Advance::Committed(version),
                Err(why) => Advance::Unknown(why),
            },
            Begin::Done(advance) => advance,
        }
    }

    fn settle(&self, Ticket(sequence): Ticket) -> Result<(), String> {
        let shared = self.shared();
        shared.settle(shared.lock(), sequence).map(drop)
    }

    fn begin(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Begin {
        if entry.bytes.len() > BYTES_MAX {
            let why = format!("a message has at most {BYTES_MAX} bytes");
            return Begin::Done(Advance::Unavailable(Unavailable(why)));
        }
        let id = subject_id(subject);
        let shared = self.shared();
        let mut guard = shared.lock();
        let inner = &mut *guard;
        let durable = inner.volume.durable;
        let holds = inner.state.subjects.get(&id).map(|known| known.holds).unwrap_or_default();
        let state = match inner.lane(id, lane) {
            Ok(state) if state.history.version == expected => state,
            Ok(_) => return Begin::Done(Advance::Conflict),
            Err(why) => return Begin::Done(Advance::Unavailable(why)),
        };
        let (version, mark) = (expected + 1, entry.mark);
        let base = |kind| Record { subject: id, lane: lane.code(), ..Record::new(kind) };
        let mut records = entry_records(base, &entry, version);
        let (covered, extension) = match (shared.options.durability, lane.order()) {
            (Durability::Reserve { heights }, Order::Rising) => state.reserve(entry.mark, heights, durable),
            _ => (false, None),
        };
        let history = Arc::make_mut(&mut state.history);
        history.push(lane, entry);
        history.version = version;
        state.pass(&holds, mark);
        if let (Some(bound), false) = (extension, covered) {
            records.insert(0, reserve_record(id, lane, bound));
        }
        // Who does not wait for a sync has to know that the kernel has it.
        let written = if covered { shared.write(inner, records) } else { shared.put(inner, records) };
        let sequence = match written {
            Ok(sequence) => sequence,
            Err(error) => return Begin::Done(Advance::Unknown(error.to_string())),
        };
        match extension {
            Some(bound) if covered => match inner.extend.iter_mut().find(|queued| (queued.0, queued.1) == (id, lane)) {
                Some((.., queued)) => *queued = bound.max(*queued),
                None => inner.extend.push((id, lane, bound)),
            },
            Some(bound) => inner.promise(id, lane, bound, sequence),
            None => {}
        }
        if covered {
            return Begin::Done(Advance::Committed(version));
        }
        if let Some(subject) = inner.state.subjects.get_mut(&id) {
            subject.lane(lane).settles = sequence;
        }
        Begin::Written(version, Ticket(sequence))
    }

    fn keep(&self, subject: &Subject, lane: Lane, mark: Mark, digest: Digest, signature: &Signature) {
        let id = subject_id(subject);
        let shared = self.shared();
        let mut guard = shared.lock();
        let inner = &mut *guard;
        let Ok(state) = inner.lane(id, lane) else { return };
        Arc::make_mut(&mut state.history).keep(mark, digest, *signature);
        if inner.volume.has_room(REQUEST_RECORDS) {
            let base = Record { subject: id, lane: lane.code(), time: now(), ..Record::new(Kind::Signature) };
            inner.volume.put(&signature_record(base, mark, digest, *signature));
        }
        // Only now, so that the background does not take the ledger from the request that it works for.
        let begins_to_fill = !inner.tidy && inner.volume.is_filling();
        inner.tidy |= begins_to_fill;
        let has_work = begins_to_fill || !inner.extend.is_empty();
        drop(guard);
        if has_work {
            shared.work.notify_one();
        }
    }

    fn raise(&self, subject: &Subject, lane: Lane, floor: Mark) -> Result<(), Unavailable> {
        let id = subject_id(subject);
        let shared = self.shared();
        let mut guard = shared.lock();
        let inner = &mut *guard;
        let state = inner.lane(id, lane)?;
        let present = state.history.floor;
        let mut settles = state.settles;
        if present.is_none_or(|present| lane.higher(present, floor) != present) {
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
            settles = shared.write(inner, vec![record]).map_err(|error| Unavailable(error.to_string()))?;
            inner.lane(id, lane)?.settles = settles;
        }
        // A floor that somebody else raised counts when it is durable, too.
        shared.settle(guard, settles).map(drop).map_err(Unavailable)
    }

    fn bury(&self, subject: &Subject, buried: bool) -> Result<(), Unavailable> {
        let id = subject_id(subject);
        let shared = self.shared();
        let mut guard = shared.lock();
        let inner = &mut *guard;
        let known = inner.subject(id)?;
        let mut settles = known.settles;
        if known.buried != buried {
            let burials = known.burials + 1;
            known.set_buried(buried, burials);
            let record =
                Record { subject: id, flag: u8::from(buried), version: burials, ..Record::new(Kind::Tombstone) };
            settles = shared.write(inner, vec![record]).map_err(|error| Unavailable(error.to_string()))?;
            inner.subject(id)?.settles = settles;
        }
        shared.settle(guard, settles).map(drop).map_err(Unavailable)
    }

    fn watch(&self, subject: &Subject, lane: Lane, asked: Mark) -> Result<Option<Hold>, Unavailable> {
        self.begin_watch(subject, lane, asked)
    }

    fn refused(&self, refusal: &Refusal) {
        let mut inner = self.shared().lock();
        if Shared::usable(&inner).is_err() {
            return;
        }
        let flag = Reason::ALL.iter().position(|reason| *reason == refusal.reason).unwrap_or_default() as u8;
        let record = Record {
            subject: subject_id(&refusal.subject),
            flag,
            lane: refusal.asked.lane().code(),
            mark: refusal.asked.mark(),
            digest: refusal.asked_digest,
            ..Record::new(Kind::Refusal)
        };
        // The answer is no whether or not this reaches the log; a failed write stops the ledger all the same.
        let _logged = self.shared().write(&mut inner, vec![record]);
    }
}
