//! What the records of a volume add up to.

use crate::hold::{Holds, Watch};
use crate::record::{Kind, ROOM, Record, SubjectId, subject_id};
use semel_guard::{Entry, History, Lane, Mark, Signature, Subject};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A bound that is half used up sooner than this is followed by one twice as far ahead.
const BRIEF: Duration = Duration::from_millis(50);

/// Furthest that a bound may come to lie ahead of a chain that makes its heights in milliseconds.
pub const RESERVE_HEIGHTS_MAX: u64 = 1024;

/// Everything known of one (public key, chain).
#[derive(Debug, Clone)]
pub(crate) struct SubjectState {
    pub(crate) subject: Subject,
    pub(crate) buried: bool,
    /// Counts burials and returns, so that the latest word wins when volumes are merged.
    pub(crate) burials: u64,
    /// The burial is on the medium once this sequence is.
    pub(crate) settles: u64,
    /// When it watches before it signs.
    pub(crate) holds: Holds,
    pub(crate) lanes: BTreeMap<u16, LaneState>,
}

/// Everything known of one lane.
#[derive(Debug, Clone)]
pub(crate) struct LaneState {
    pub(crate) lane: Lane,
    pub(crate) history: Arc<History>,
    /// Positions below it may be admitted without waiting; on the medium.
    pub(crate) bound: Option<Mark>,
    /// The next bound, and the sequence with which it is on the medium.
    pub(crate) promised: Option<(Mark, u64)>,
    /// The lane answers once this sequence is durable.
    pub(crate) settles: u64,
    pub(crate) watch: Watch,
    /// How many heights the last bound lay ahead, and when it was wanted.
    pace: Option<(u64, Instant)>,
}

impl SubjectState {
    pub(crate) fn new(subject: Subject) -> Self {
        Self { subject, buried: false, burials: 0, settles: 0, holds: Holds::default(), lanes: BTreeMap::new() }
    }

    pub(crate) fn lane(&mut self, lane: Lane) -> &mut LaneState {
        let (buried, watch) = (self.buried, Watch::default());
        let hold = self.holds.of(&watch);
        self.lanes.entry(lane.code()).or_insert_with(|| LaneState {
            lane,
            history: Arc::new(History { tombstone: buried, hold, ..History::default() }),
            bound: None,
            promised: None,
            settles: 0,
            watch,
            pace: None,
        })
    }

    pub(crate) fn set_buried(&mut self, buried: bool, burials: u64) {
        (self.buried, self.burials) = (buried, burials);
        for lane in self.lanes.values_mut() {
            let history = Arc::make_mut(&mut lane.history);
            history.tombstone = buried;
            history.version += 1;
        }
    }

    /// Takes in what another volume knows of the same subject: floors rise, answers are joined.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (code, theirs) in &other.lanes {
            let lane = theirs.lane;
            let ours = self.lane(lane);
            let history = Arc::make_mut(&mut ours.history);
            let mut joined = History { floor: theirs.history.floor, ..History::default() };
            if let Some(floor) = history.floor {
                joined.raise(lane, floor);
            }
            let mut entries: BTreeMap<Mark, Entry> = BTreeMap::new();
            for entry in history.recent.iter().chain(&theirs.history.recent) {
                let known = entries.entry(entry.mark).or_insert_with(|| entry.clone());
                if known.bytes.is_empty() && !entry.bytes.is_empty() {
                    // Known by its content alone here, and whole there.
                    *known = entry.clone();
                } else if known.digest == entry.digest && known.signature.is_none() {
                    known.signature = entry.signature;
                }
            }
            entries.into_values().for_each(|entry| joined.push(lane, entry));
            joined.version = history.version.max(theirs.history.version) + 1;
            *history = joined;
            ours.watch.merge(&theirs.watch);
            debug_assert_eq!(*code, lane.code());
        }
        let (buried, burials) =
            if other.burials > self.burials { (other.buried, other.burials) } else { (self.buried, self.burials) };
        self.set_buried(buried, burials);
        self.holds.merge(&other.holds);
        self.tell_lanes();
    }

    /// The records from which this state can be read back.
    pub(crate) fn checkpoint(&self) -> Vec<Record> {
        let id = subject_id(&self.subject);
        let mut records = vec![Record::of_subject(&self.subject)];
        records.push(Record {
            subject: id,
            flag: u8::from(self.buried),
            version: self.burials,
            ..Record::new(Kind::Tombstone)
        });
        for (code, lane) in &self.lanes {
            let base = |kind| Record { subject: id, lane: *code, ..Record::new(kind) };
            for entry in &lane.history.recent {
                records.extend(entry_records(base, entry, lane.history.version));
            }
            // After the entries, because it carries the exact version and floor.
            records.push(Record {
                flag: u8::from(lane.history.floor.is_some()),
                mark: lane.history.floor.unwrap_or_default(),
                version: lane.history.version,
                ..base(Kind::Floor)
            });
            // Whoever waits for the promised bound is told that it is durable once this checkpoint is.
            let bound = lane.promised.map(|(mark, _)| mark).max(lane.bound);
            records.extend(bound.map(|mark| Record { mark, ..base(Kind::Reserve) }));
        }
        // After all entries: one of before a hold does not end it.
        records.extend(self.holds.records(id));
        records.extend(self.lanes.iter().flat_map(|(code, lane)| lane.watch.records(id, *code)));
        records
    }
}

impl LaneState {
    /// Whether `mark` lies below a bound that is on the medium, and the bound that is to be put there next, if any: when half of
    /// the last one is used up.
    ///
    /// A bound lies `heights` ahead, and twice as far as the one before where that one did not last for [`BRIEF`].
    pub(crate) fn reserve(&mut self, mark: Mark, heights: u64, durable: u64) -> (bool, Option<Mark>) {
        let Mark([height, ..]) = mark;
        let ahead = |heights: u64| Mark([height.saturating_add(heights), 0, 0]);
        let bound = self.bound_at(durable);
        let covered = bound.is_some_and(|bound| mark < bound);
        let last = self.pace.map_or(heights, |(last, _)| last);
        let promised = self.promised.map(|(mark, _)| mark).max(bound);
        if covered && promised >= Some(ahead(last.div_ceil(2))) {
            return (true, None);
        }
        let now = Instant::now();
        let was_brief = self.pace.is_some_and(|(_, since)| now.duration_since(since) < BRIEF);
        let next = if was_brief { last.saturating_mul(2).min(RESERVE_HEIGHTS_MAX.max(heights)) } else { heights };
        self.pace = Some((next, now));
        (covered, Some(ahead(next)))
    }

    /// The bound that counts when everything up to `durable` is on the medium.
    pub(crate) fn bound_at(&mut self, durable: u64) -> Option<Mark> {
        if let Some((mark, _)) = self.promised.filter(|(_, sequence)| *sequence <= durable) {
            self.bound = self.bound.max(Some(mark));
            self.promised = None;
        }
        self.bound
    }
}

/// An admission as one record, or two where its signature does not fit into the same.
pub(crate) fn entry_records(base: impl Fn(Kind) -> Record, entry: &Entry, version: u64) -> Vec<Record> {
    let fits = |s: &Signature| entry.bytes.len() + s.as_bytes().len() <= ROOM;
    let inline = entry.signature.filter(fits);
    let mut records = vec![Record {
        mark: entry.mark,
        digest: entry.digest,
        content: entry.content,
        version,
        payload: entry.bytes.to_vec(),
        signature: inline,
        ..base(Kind::Entry)
    }];
    if let (Some(signature), None) = (entry.signature, inline) {
        records.push(signature_record(base(Kind::Signature), entry.mark, entry.digest, signature));
    }
    records
}

/// The signature of an admission.
pub(crate) fn signature_record(base: Record, mark: Mark, digest: semel_guard::Digest, signature: Signature) -> Record {
    Record { mark, digest, signature: Some(signature), ..base }
}

/// Everything a volume knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) subjects: BTreeMap<SubjectId, SubjectState>,
    /// The last record says that the process ended in order.
    pub(crate) closed: bool,
}

impl State {
    /// Takes in the next record. False: a record that refers to nothing.
    pub(crate) fn apply(&mut self, record: &Record) -> bool {
        self.closed = record.kind == Kind::Close;
        if record.kind == Kind::Close {
            self.subjects.values_mut().flat_map(|s| s.lanes.values_mut()).for_each(|lane| lane.bound = None);
            return true;
        }
        if let Kind::Subject = record.kind {
            let Some(subject) = record.to_subject() else { return false };
            self.subjects.entry(record.subject).or_insert_with(|| SubjectState::new(subject));
            return true;
        }
        if matches!(record.kind, Kind::Segment | Kind::Checkpoint | Kind::Refusal) {
            return true;
        }
        let Some(subject) = self.subjects.get_mut(&record.subject) else { return false };
        if let Kind::Tombstone = record.kind {
            subject.set_buried(record.flag == 1, record.version);
            return true;
        }
        if let Kind::Hold = record.kind {
            return subject.apply_hold(record);
        }
        let holds = subject.holds;
        let Some(lane) = Lane::from_code(record.lane) else { return false };
        let state = subject.lane(lane);
        let history = Arc::make_mut(&mut state.history);
        match record.kind {
            Kind::Entry => {
                let (mark, digest, content) = (record.mark, record.digest, record.content);
                // A checkpoint taken under an admission already holds it.
                if !history.recent.iter().any(|known| known.mark == mark && known.digest == digest) {
                    let bytes = record.payload.as_slice().into();
                    history.push(lane, Entry { mark, digest, content, bytes, signature: record.signature });
                }
                history.version = record.version;
                state.pass(&holds, record.mark);
            }
            Kind::Signature => {
                if let Some(signature) = record.signature {
                    history.keep(record.mark, record.digest, signature);
                }
            }
            Kind::Floor => {
                if record.flag == 1 {
                    history.raise(lane, record.mark);
                }
                history.version = record.version;
            }
            _ => state.bound = state.bound.max(Some(record.mark)),
        }
        true
    }

    /// After an end without order, what was reserved counts as signed.
    pub(crate) fn burn_reserved(&mut self) {
        for lane in self.subjects.values_mut().flat_map(|s| s.lanes.values_mut()) {
            if let Some(bound) = lane.bound.take() {
                Arc::make_mut(&mut lane.history).raise(lane.lane, bound);
            }
        }
    }

    /// After an end whose records are all there, nothing needs to burn.
    pub(crate) fn forget_reserved(&mut self) {
        self.subjects.values_mut().flat_map(|s| s.lanes.values_mut()).for_each(|lane| lane.bound = None);
    }
}
