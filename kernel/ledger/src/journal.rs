//! The ledger of one host.
//!
//! Whoever asks first writes for all that wait: records go to the kernel under one lock, in order, and the `fdatasync` runs
//! outside of it, once for every request that came before it began (group commit). No thread hands over to another on
//! the way, so a lone validator waits for nothing but its disk. A lane answers again only when its last
//! admission is durable.
//!
//! `sync`: every admission is on the medium before the permit. `reserve`: a bound a few heights ahead is, in the background;
//! positions below it are handed to the kernel without waiting. After an end of the machine the bound is the floor. After an end
//! of only the process the exact floor is, when the [`crate::witness`] proves that every record is there.
//!
//! An error of a write or sync is final: nothing is admitted until the process is started again and reads what the
//! medium really holds.

use crate::claim::{Claim, claim_node};
use crate::disk::File;
use crate::error::{LedgerError, LedgerErrorKind};
use crate::host;
use crate::open::{self, Locks, volume_dir};
use crate::options::Options;
use crate::record::{Kind, Record, SubjectId, subject_id};
use crate::state::{State, SubjectState};
use crate::sync::{Arc, Condvar, Mutex, PoisonError, thread};
use crate::volume::{LedgerId, Scan, Volume, scan};
use crate::witness::Witness;
use semel_guard::{History, Hold, Lane, Mark, Subject};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// Histogram of the times that the medium took to make records durable.
pub const SYNC_SECONDS: &str = "semel_ledger_sync_seconds";

/// What a ledger says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Directory of the volume this process writes.
    pub volume: PathBuf,
    /// Sequence of the last record.
    pub sequence: u64,
    /// Sequence up to which records are on the medium.
    pub durable: u64,
    /// How often the medium was waited for.
    pub syncs: u64,
    /// Why nothing is admitted any more.
    pub failed: Option<String>,
}

/// The local ledger. Cheap to share: clones are the same ledger.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

/// What the clones of a [`Journal`] share. With the last of them the locks end, whatever the background still does.
struct Handle(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) ledger: LedgerId,
    pub(crate) witness: Option<Witness>,
    pub(crate) inner: Mutex<Inner>,
    /// Something became durable, or failed: for those who wait for an even and for an odd number of syncs.
    pub(crate) changed: [Condvar; 2],
    /// The background has reservations to extend or a segment to begin, or is to end.
    pub(crate) work: Condvar,
    /// How long the medium took, each time.
    pub(crate) sync_seconds: metrics::Histogram,
}

pub(crate) struct Inner {
    pub(crate) volume: Volume,
    pub(crate) number: u64,
    pub(crate) state: State,
    /// Held while the process signs with these keys.
    pub(crate) locks: Locks,
    pub(crate) volume_lock: Option<Box<dyn File>>,
    /// A sync runs, of everything up to this sequence, since then.
    pub(crate) syncing: Option<(u64, Instant)>,
    /// How many wait on each side of [`Shared::changed`].
    pub(crate) waiting: [usize; 2],
    /// Lanes whose reservation is to be extended in the background.
    pub(crate) extend: Vec<(SubjectId, Lane, Mark)>,
    /// The next segment is to be begun in the background, at a quiet moment.
    pub(crate) tidy: bool,
    pub(crate) failed: Option<String>,
    pub(crate) closed: bool,
    pub(crate) syncs: u64,
}

/// What a ledger knows of one key.
#[derive(Debug, Clone)]
pub struct Known {
    /// The key and its chain.
    pub subject: Subject,
    /// Its lanes.
    pub lanes: Vec<(Lane, Arc<History>)>,
    /// It watches before it signs.
    pub hold: Option<Hold>,
    /// It was deleted or handed over.
    pub buried: bool,
    /// How often it was, and came back: the higher count is the later word.
    pub burials: u64,
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

impl Journal {
    /// Opens the ledger for these keys, and takes the lock of each.
    pub fn open(options: Options, subjects: &[Subject]) -> Result<Self, LedgerError> {
        let dir = options.directory.clone();
        let disk = Arc::clone(&options.disk);
        open::make_directory(disk.as_ref(), &dir)?;
        if options.check {
            host::check_directory(&dir, options.allow_volatile)?;
        }
        let _opening = open::lock_opening(disk.as_ref(), &dir)?;
        let fresh = random_id().map_err(|error| LedgerError::at(&dir, error))?;
        let bound = host::bind(disk.as_ref(), &dir, options.host.as_ref(), options.adopt, fresh)?;
        let ledger = bound.ledger;
        let locks = open::lock_keys(&options, subjects)?;
        let volumes = open::read_volumes(disk.as_ref(), &dir, ledger)?;
        let (number, volume_lock) = open::choose_volume(disk.as_ref(), &dir, &volumes, subjects)?;
        let witness = open::open_witness(&options, ledger, number);
        // Read again, now that nobody else writes it.
        let own_dir = volume_dir(&dir, number);
        let own = scan(disk.as_ref(), &own_dir, ledger, number)?;
        let mut state = own.as_ref().map(|scan| scan.state.clone()).unwrap_or_default();
        open::settle(&mut state, own.as_ref(), witness.as_ref().and_then(|(_, testimony)| *testimony));
        let others = volumes.into_iter().filter(|(other, _)| *other != number).collect::<Vec<_>>();
        let strangers = open::strangers(&state, &others, subjects, host::is_young(disk.as_ref(), &dir));
        for subject in subjects {
            open::adopt_subject(&mut state, subject, &others, &options, ledger);
            let known = state.subjects.get_mut(&subject_id(subject));
            if let Some(known) = known.filter(|_| strangers.contains(subject)) {
                // Once it is stored here it is no stranger any more.
                known.meet(true, true);
            }
        }
        if bound.adopted.is_some() {
            open::adopt_all(&mut state, &others, &options, ledger);
        }
        let place = (own_dir, ledger, number);
        let volume = Volume::start(Arc::clone(&disk), place, options.segment_records, own.as_ref(), &state, now())?;
        bound.complete(disk.as_ref(), &dir)?;
        let shared = Arc::new(Shared {
            ledger,
            witness: witness.map(|(witness, _)| witness),
            inner: Mutex::new(Inner {
                volume,
                number,
                state,
                locks,
                volume_lock: Some(volume_lock),
                syncing: None,
                waiting: [0; 2],
                extend: Vec::new(),
                tidy: false,
                failed: None,
                closed: false,
                syncs: 0,
            }),
            changed: [Condvar::new(), Condvar::new()],
            work: Condvar::new(),
            sync_seconds: metrics::histogram!(SYNC_SECONDS),
            options,
        });
        shared.testify(&shared.lock());
        let journal = Self { handle: Arc::new(Handle(Arc::clone(&shared))) };
        let run = move || while shared.work_once() {};
        let thread = thread::Builder::new().name("ledger".into()).spawn(run);
        thread.map_err(|error| LedgerError::at(&dir, error))?;
        Ok(journal)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// Adds keys to an open ledger and takes their locks.
    pub fn register(&self, subjects: &[Subject]) -> Result<(), LedgerError> {
        let shared = self.shared();
        let options = &shared.options;
        let (disk, dir) = (options.disk.as_ref(), options.directory.as_path());
        let _opening = open::lock_opening(disk, dir)?;
        let mut inner = shared.lock();
        Shared::usable(&inner).map_err(|why| LedgerError::at(dir, io::Error::other(why.0)))?;
        let held = |subject: &&Subject| !inner.locks.contains_key(&subject_id(subject));
        let fresh: Vec<Subject> = subjects.iter().filter(held).cloned().collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let locks = open::lock_keys(options, &fresh)?;
        let number = inner.number;
        let volumes = open::read_volumes(disk, dir, shared.ledger)?;
        let others = volumes.into_iter().filter(|(other, _)| *other != number).collect::<Vec<_>>();
        let before = inner.state.clone();
        let is_setup = inner.locks.is_empty() && host::is_young(disk, dir);
        let strangers = open::strangers(&inner.state, &others, &fresh, is_setup);
        for subject in &fresh {
            open::adopt_subject(&mut inner.state, subject, &others, options, shared.ledger);
            let known = inner.state.subjects.get_mut(&subject_id(subject));
            if let Some(known) = known {
                known.meet(strangers.contains(subject), options.hold_new_keys);
            }
        }
        // A checkpoint is the one way in which a whole state becomes durable at once.
        let rotated = shared.rotate(&mut inner);
        if let Err(LedgerError { kind: LedgerErrorKind::Limit(_), .. }) = rotated {
            inner.state = before;
        }
        rotated?;
        if let Err(error) = inner.volume.level() {
            shared.fail(&mut inner, &error.to_string());
            return Err(error);
        }
        inner.locks.extend(locks);
        Ok(())
    }

    /// Claims a node for a key: no other process on this host dials it with the same key, whatever chain it signs for. None where a
    /// ledger may be lost, as in a test network.
    ///
    /// # Errors
    /// [`LedgerErrorKind::KeyInUse`], with the process that has it.
    pub fn claim_node(&self, subject: &Subject, node: &str) -> Result<Option<Claim>, LedgerError> {
        let options = &self.shared().options;
        if !options.is_for_this_host() {
            return Ok(None);
        }
        claim_node(&subject.key, node).map_err(|holder| {
            let (key, chain) = (subject.key.to_string(), format!("the node at {node}"));
            LedgerError::at(&options.directory, LedgerErrorKind::KeyInUse { key, chain, holder })
        })
    }

    /// Lets go of keys that this process no longer signs with, once every record of them is on the medium, where the next process
    /// reads them. Where that fails it keeps them until it ends.
    pub fn release(&self, subjects: &[Subject]) {
        let gone: Vec<SubjectId> = subjects.iter().map(subject_id).collect();
        let shared = self.shared();
        let mut inner = shared.lock();
        // Nothing is admitted for them from here on, while others may still wait for what was.
        let locks: Locks = gone.iter().filter_map(|id| inner.locks.remove_entry(id)).collect();
        if locks.is_empty() {
            return;
        }
        let sequence = inner.volume.sequence;
        match shared.settle(inner, sequence) {
            Ok(settled) => drop((settled, locks)),
            Err(_) => shared.lock().locks.extend(locks),
        }
    }

    /// Ends in order: what is buffered goes to the medium, reservations end, nothing is admitted any more.
    pub fn close(&self) -> Result<(), LedgerError> {
        let shared = self.shared();
        let mut inner = shared.lock();
        if inner.closed {
            return Ok(());
        }
        inner.closed = true;
        shared.wake();
        if inner.failed.is_some() {
            return Ok(());
        }
        let written = shared.write(&mut inner, vec![Record::new(Kind::Close)]);
        let synced = written.and_then(|_| inner.volume.file().sync());
        if let Err(error) = &synced {
            // A request still in hand is not told that its record is there.
            shared.fail(&mut inner, &error.to_string());
        }
        inner.locks.clear();
        inner.volume_lock = None;
        synced.map_err(|error| LedgerError::at(&inner.volume.dir, error))
    }

    /// What the ledger says of itself.
    pub fn status(&self) -> Status {
        let inner = self.shared().lock();
        Status {
            volume: inner.volume.dir.clone(),
            sequence: inner.volume.sequence,
            durable: inner.volume.durable,
            syncs: inner.syncs,
            failed: inner.failed.clone(),
        }
    }

    /// Admits nothing any more, as after a failed write: whoever calls it knows that the medium does not keep what is written.
    pub fn halt(&self, why: &str) {
        let shared = self.shared();
        shared.fail(&mut shared.lock(), why);
    }

    /// Every key of every volume of a ledger, merged, without opening it for writing. Reserved bounds count as signed.
    pub fn inspect(directory: &Path) -> Result<Vec<Known>, LedgerError> {
        let mut merged = State::default();
        for (_, scan) in Self::read(directory)? {
            let mut state = scan.state;
            state.burn_reserved();
            for (id, theirs) in &state.subjects {
                let ours = merged.subjects.entry(*id);
                ours.or_insert_with(|| SubjectState::new(theirs.subject.clone())).merge(theirs);
            }
        }
        let known = |subject: SubjectState| Known {
            hold: subject.hold(),
            buried: subject.buried,
            burials: subject.burials,
            lanes: subject.lanes.values().map(|lane| (lane.lane, Arc::clone(&lane.history))).collect(),
            subject: subject.subject,
        };
        Ok(merged.subjects.into_values().map(known).collect())
    }

    /// Every record that a ledger still holds, volume by volume, oldest first.
    pub fn records(directory: &Path) -> Result<Vec<(u64, Vec<Record>)>, LedgerError> {
        Ok(Self::read(directory)?.into_iter().map(|(number, scan)| (number, scan.records)).collect())
    }

    fn read(directory: &Path) -> Result<Vec<(u64, Scan)>, LedgerError> {
        match host::identity(&crate::disk::HostDisk, directory)? {
            Some((id, _)) => open::read_volumes(&crate::disk::HostDisk, directory, id),
            None => Ok(Vec::new()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.closed = true;
        inner.locks.clear();
        inner.volume_lock = None;
        self.0.wake();
    }
}

fn random_id() -> io::Result<LedgerId> {
    let mut id = [0; 16];
    let file = std::fs::File::open("/dev/urandom")?;
    io::Read::read_exact(&mut &file, &mut id)?;
    Ok(id)
}
