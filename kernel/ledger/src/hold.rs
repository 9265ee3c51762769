//! The hold in the ledger: which keys and lanes watch before they sign, as numbers that only rise, so that volumes merge.

use crate::commit::write_and_settle;
use crate::journal::Journal;
use crate::record::{Kind, Record, SubjectId, subject_id};
use crate::state::{LaneState, SubjectState};
use semel_guard::{Hold, HoldCause, Lane, Mark, Subject, Unavailable};

/// The holds of a key.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Holds {
    /// How many holds there were, and the cause of the last one.
    begun: u64,
    cause: Option<HoldCause>,
    /// Every lane has passed this one.
    lifted: u64,
}

/// How far a lane is with the holds of its key.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watch {
    /// The last hold that it has passed.
    passed: u64,
    /// The hold that it watches in, and up to where.
    bound: Option<(u64, Mark)>,
}

impl Holds {
    /// The hold of a lane, now.
    pub(crate) fn of(&self, watch: &Watch) -> Option<Hold> {
        let cause = self.cause.filter(|_| self.begun > self.lifted.max(watch.passed))?;
        Some(Hold { cause, until: watch.bound.filter(|(number, _)| *number == self.begun).map(|(_, mark)| mark) })
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.begun > self.begun {
            (self.begun, self.cause) = (other.begun, other.cause);
        }
        self.lifted = self.lifted.max(other.lifted);
    }

    pub(crate) fn begin(&mut self, cause: HoldCause) {
        (self.begun, self.cause) = (self.begun + 1, Some(cause));
    }

    /// The records from which it can be read back.
    pub(crate) fn records(&self, subject: SubjectId) -> Vec<Record> {
        let base = Record { subject, ..Record::new(Kind::Hold) };
        let begun = self.cause.map(|cause| Record { flag: cause as u8, version: self.begun, ..base.clone() });
        let lifted = (self.lifted > 0).then_some(Record { version: self.lifted, ..base });
        begun.into_iter().chain(lifted).collect()
    }

    /// Takes in a record of the key.
    fn apply(&mut self, record: &Record) -> bool {
        if record.flag == 0 {
            self.lifted = self.lifted.max(record.version);
            return true;
        }
        let Some(cause) = HoldCause::from_code(record.flag) else { return false };
        self.merge(&Self { begun: record.version, cause: Some(cause), lifted: 0 });
        true
    }
}

impl Watch {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.passed = self.passed.max(other.passed);
        self.bound = self.bound.max(other.bound);
    }

    pub(crate) fn records(&self, subject: SubjectId, lane: u16) -> Vec<Record> {
        let base = Record { subject, lane, ..Record::new(Kind::Hold) };
        let passed = (self.passed > 0).then(|| Record { version: self.passed, ..base.clone() });
        let bound = self.bound.map(|(version, mark)| Record { flag: 1, version, mark, ..base });
        passed.into_iter().chain(bound).collect()
    }

    /// Takes in a record of the lane.
    fn apply(&mut self, record: &Record) {
        match record.flag {
            0 => self.passed = self.passed.max(record.version),
            _ => self.bound = self.bound.max(Some((record.version, record.mark))),
        }
    }
}

impl SubjectState {
    /// The process begins to sign with it: a stranger is held, or one that was held as such is not any more.
    pub(crate) fn meet(&mut self, is_stranger: bool, hold_new_keys: bool) {
        if is_stranger && hold_new_keys {
            self.holds.begin(HoldCause::New);
        } else if self.holds.cause == Some(HoldCause::New) && !hold_new_keys {
            self.holds.lifted = self.holds.begun;
        }
        self.tell_lanes();
    }

    /// Takes in a record of [`Kind::Hold`]. False: it makes no sense.
    pub(crate) fn apply_hold(&mut self, record: &Record) -> bool {
        let makes_sense = match Lane::from_code(record.lane) {
            _ if record.lane == 0 => self.holds.apply(record),
            Some(lane) => {
                self.lane(lane).watch.apply(record);
                true
            }
            None => false,
        };
        self.tell_lanes();
        makes_sense
    }

    /// Lets the history of each lane say whether it holds.
    pub(crate) fn tell_lanes(&mut self) {
        for lane in self.lanes.values_mut() {
            let hold = self.holds.of(&lane.watch);
            if lane.history.hold != hold {
                std::sync::Arc::make_mut(&mut lane.history).hold = hold;
            }
        }
    }

    /// The hold of the key: of a lane that has one, or of those to come.
    pub(crate) fn hold(&self) -> Option<Hold> {
        match self.lanes.is_empty() {
            true => self.holds.of(&Watch::default()),
            false => self.lanes.values().find_map(|lane| lane.history.hold),
        }
    }

    /// Takes in the holds of another, and nothing else.
    pub(crate) fn take_in_holds(&mut self, other: &Self) {
        self.holds.merge(&other.holds);
        self.tell_lanes();
    }

    /// Whether what is known of it came from elsewhere, or may be less than was signed.
    pub(crate) fn is_from_elsewhere(&self) -> bool {
        self.holds.cause.is_some_and(|cause| cause != HoldCause::New)
    }

    /// Whether anything was ever signed or closed with it.
    pub(crate) fn has_history(&self) -> bool {
        self.buried || self.lanes.values().any(|lane| lane.history.floor.is_some() || !lane.history.recent.is_empty())
    }
}

impl LaneState {
    /// An admission at `mark` was made: it ends a hold whose bound lies below.
    pub(crate) fn pass(&mut self, begun: &Holds, mark: Mark) {
        if self.history.hold.is_some_and(|hold| hold.ends_with(self.lane, mark)) {
            self.watch.passed = begun.begun;
            std::sync::Arc::make_mut(&mut self.history).hold = None;
        }
    }
}

impl Journal {
    /// Makes a key watch before it signs, or lets it sign at once, durably. Floors stay.
    pub fn set_hold(&self, subject: &Subject, hold: Option<HoldCause>) -> Result<(), Unavailable> {
        let id = subject_id(subject);
        write_and_settle(self.shared(), id, |known| {
            match hold {
                Some(cause) => known.holds.begin(cause),
                None => known.holds.lifted = known.holds.begun,
            }
            known.tell_lanes();
            known.holds.records(id)
        })
    }

    /// The hold of a key that this process signs with, if it has one.
    pub fn hold(&self, subject: &Subject) -> Option<Hold> {
        self.shared().lock().state.subjects.get(&subject_id(subject)).and_then(SubjectState::hold)
    }

    /// What [`semel_guard::Ledger::watch`] does.
    pub(crate) fn begin_watch(&self, subject: &Subject, lane: Lane, asked: Mark) -> Result<Option<Hold>, Unavailable> {
        let id = subject_id(subject);
        let mut told = None;
        write_and_settle(self.shared(), id, |known| {
            let begun = known.holds.begun;
            let state = known.lane(lane);
            if state.history.hold.is_some_and(|hold| hold.until.is_none()) {
                state.watch.bound = Some((begun, lane.held(asked)));
            }
            let records = state.watch.records(id, lane.code());
            known.tell_lanes();
            told = known.lane(lane).history.hold;
            records
        })?;
        Ok(told)
    }
}
