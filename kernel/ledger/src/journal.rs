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

use crate::disk::{Disk, File, HostDisk, Open, create_durable};
use crate::error::{LedgerError, LedgerErrorKind};
use crate::host::{self, HostIdentity};
use crate::record::{Kind, Record, SubjectId, subject_id};
use crate::state::{State, SubjectState};
use crate::volume::{LedgerId, Scan, Volume, scan};
use crate::witness::Witness;
use semel_guard::{History, Lane, Mark, Subject};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::SystemTime;

/// Heights that `reserve` keeps ahead, unless told otherwise.
pub const RESERVE_HEIGHTS_DEFAULT: u64 = 8;

/// Volumes of one ledger, at most: processes that ever wrote at the same time.
const VOLUMES_MAX: u64 = 64;

/// Attempts to read a volume that another process is writing.
const SCAN_ATTEMPTS: u32 = 5;

/// When an admission counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the medium.
    Sync,
    /// When a bound at most this many heights ahead is on the medium.
    Reserve {
        /// Heights kept ahead; an end of the machine costs at most the votes of that many.
        heights: u64,
    },
}

/// How to open a ledger.
pub struct Options {
    /// The ledger's directory; made where it is missing.
    pub directory: PathBuf,
    /// When an admission counts as durable.
    pub durability: Durability,
    /// Identity of this host, if it has one.
    pub host: Option<HostIdentity>,
    /// Take over a ledger that was made on another host.
    pub adopt: bool,
    /// Allow a file system that forgets.
    pub allow_volatile: bool,
    /// The disk; a test puts another one here.
    pub disk: Arc<dyn Disk>,
    /// Where the witness of `reserve` lives; None: no witness.
    pub witness: Option<PathBuf>,
    /// Check owner, mode and file system of the directory (off for simulated disks).
    pub check: bool,
}

impl Options {
    /// This host's disk, `sync`, every check on.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            durability: Durability::Sync,
            host: HostIdentity::of_this_host(),
            adopt: false,
            allow_volatile: false,
            disk: Arc::new(HostDisk),
            witness: Some(PathBuf::from("/dev/shm")),
            check: true,
        }
    }
}

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
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) ledger: LedgerId,
    pub(crate) witness: Option<Witness>,
    pub(crate) inner: Mutex<Inner>,
    /// Something became durable, failed, or needs a reservation.
    pub(crate) changed: Condvar,
}

pub(crate) struct Inner {
    pub(crate) volume: Volume,
    pub(crate) number: u64,
    pub(crate) state: State,
    /// Held while the process signs with these keys.
    pub(crate) locks: Locks,
    pub(crate) volume_lock: Option<Box<dyn File>>,
    pub(crate) syncing: bool,
    /// Lanes whose reservation is to be extended in the background.
    pub(crate) extend: Vec<(SubjectId, Lane, Mark)>,
    pub(crate) failed: Option<String>,
    pub(crate) closed: bool,
    pub(crate) syncs: u64,
}

type Locks = BTreeMap<SubjectId, Box<dyn File>>;

/// What a ledger knows of one key.
#[derive(Debug, Clone)]
pub struct Known {
    /// The key and its chain.
    pub subject: Subject,
    /// Its lanes.
    pub lanes: Vec<(Lane, Arc<History>)>,
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

fn volume_dir(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("volume-{number}"))
}

impl Journal {
    /// Opens the ledger for these keys, and takes the lock of each.
    pub fn open(options: Options, subjects: &[Subject]) -> Result<Self, LedgerError> {
        let dir = options.directory.clone();
        let disk = Arc::clone(&options.disk);
        let io = |error: io::Error| LedgerError::at(&dir, error);
        disk.create_dir(&dir.join("keys")).map_err(io)?;
        if options.check {
            host::check_directory(&dir, options.allow_volatile)?;
        }
        let ledger = host::bind(disk.as_ref(), &dir, options.host.as_ref(), options.adopt, random_id().map_err(io)?)?;
        let locks = lock_keys(disk.as_ref(), &dir, subjects)?;
        let volumes = read_volumes(disk.as_ref(), &dir, ledger)?;
        let (number, volume_lock) = choose_volume(disk.as_ref(), &dir, &volumes, subjects)?;
        // Read again, now that nobody else writes it.
        let own_dir = volume_dir(&dir, number);
        let own = scan(disk.as_ref(), &own_dir, ledger, number)?;
        let witness = open_witness(&options, ledger, number);
        let mut state = own.as_ref().map(|scan| scan.state.clone()).unwrap_or_default();
        settle(&mut state, own.as_ref(), witness.as_ref().and_then(|(_, testimony)| *testimony));
        let others = volumes.into_iter().filter(|(other, _)| *other != number).collect::<Vec<_>>();
        for subject in subjects {
            adopt_subject(&mut state, subject, &others, &options, ledger);
        }
        let volume = Volume::start(disk, own_dir, ledger, number, own.as_ref(), &state, now())?;
        let shared = Shared {
            ledger,
            witness: witness.map(|(witness, _)| witness),
            inner: Mutex::new(Inner {
                volume,
                number,
                state,
                locks,
                volume_lock: Some(volume_lock),
                syncing: false,
                extend: Vec::new(),
                failed: None,
                closed: false,
                syncs: 0,
            }),
            changed: Condvar::new(),
            options,
        };
        let shared = Arc::new(shared);
        if let Durability::Reserve { .. } = shared.options.durability {
            let background = Arc::downgrade(&shared);
            let run = move || {
                while let Some(shared) = background.upgrade() {
                    if !shared.extend_once() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name("ledger-reserve".into()).spawn(run);
            thread.map_err(|error| LedgerError::at(&dir, error))?;
        }
        Ok(Self { shared })
    }

    /// Adds keys to an open ledger and takes their locks.
    pub fn register(&self, subjects: &[Subject]) -> Result<(), LedgerError> {
        let options = &self.shared.options;
        let mut inner = self.shared.lock();
        let held = |subject: &&Subject| !inner.locks.contains_key(&subject_id(subject));
        let fresh: Vec<Subject> = subjects.iter().filter(held).cloned().collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let locks = lock_keys(options.disk.as_ref(), &options.directory, &fresh)?;
        let number = inner.number;
        let volumes = read_volumes(options.disk.as_ref(), &options.directory, self.shared.ledger)?;
        let others = volumes.into_iter().filter(|(other, _)| *other != number).collect::<Vec<_>>();
        for subject in &fresh {
            adopt_subject(&mut inner.state, subject, &others, options, self.shared.ledger);
        }
        let inner = &mut *inner;
        // A checkpoint is the one way in which a whole state becomes durable at once.
        inner.volume.rotate(&inner.state, now())?;
        inner.locks.extend(locks);
        Ok(())
    }

    /// Lets go of keys that this process no longer signs with.
    pub fn release(&self, subjects: &[Subject]) {
        let gone: Vec<SubjectId> = subjects.iter().map(subject_id).collect();
        self.shared.lock().locks.retain(|id, _| !gone.contains(id));
    }

    /// Ends in order: what is buffered goes to the medium, reservations end, nothing is admitted any more.
    pub fn close(&self) -> Result<(), LedgerError> {
        let mut inner = self.shared.lock();
        if inner.closed {
            return Ok(());
        }
        inner.closed = true;
        let path = inner.volume.dir.clone();
        let record = Record { time: now(), ..Record::new(Kind::Close) };
        let written = match inner.failed {
            Some(_) => return Ok(()),
            None => self.shared.write(&mut inner, &[record]),
        };
        let synced = written.and_then(|_| inner.volume.file().sync());
        inner.locks.clear();
        inner.volume_lock = None;
        self.shared.changed.notify_all();
        synced.map_err(|error| LedgerError::at(&path, error))
    }

    /// What the ledger says of itself.
    pub fn status(&self) -> Status {
        let inner = self.shared.lock();
        Status {
            volume: inner.volume.dir.clone(),
            sequence: inner.volume.sequence,
            durable: inner.volume.durable,
            syncs: inner.syncs,
            failed: inner.failed.clone(),
        }
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
        match host::identity(&HostDisk, directory)? {
            Some((id, _)) => read_volumes(&HostDisk, directory, id),
            None => Ok(Vec::new()),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.closed = true;
    }
}

fn random_id() -> io::Result<LedgerId> {
    let mut id = [0; 16];
    let file = std::fs::File::open("/dev/urandom")?;
    io::Read::read_exact(&mut &file, &mut id)?;
    Ok(id)
}

fn lock_keys(disk: &dyn Disk, dir: &Path, subjects: &[Subject]) -> Result<Locks, LedgerError> {
    let mut locks = Locks::new();
    for subject in subjects {
        let id = subject_id(subject);
        if locks.contains_key(&id) {
            continue;
        }
        let path = dir.join("keys").join(hex::encode(id));
        let file = open_lock(disk, &path)?;
        if !file.lock().map_err(|error| LedgerError::at(&path, error))? {
            let (key, chain) = (subject.key.to_string(), subject.chain.to_string());
            return Err(LedgerError::at(&path, LedgerErrorKind::KeyInUse { key, chain }));
        }
        locks.insert(id, file);
    }
    Ok(locks)
}

fn open_lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn File>, LedgerError> {
    let opened = match disk.open(path, Open::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match create_durable(disk, path, b"") {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(path, Open::Write),
            other => other,
        },
        other => other,
    };
    opened.map_err(|error| LedgerError::at(path, error))
}

/// What each volume holds. A volume that another process writes is read again when it moved meanwhile.
fn read_volumes(disk: &dyn Disk, dir: &Path, ledger: LedgerId) -> Result<Vec<(u64, Scan)>, LedgerError> {
    let names = disk.list(dir).map_err(|error| LedgerError::at(dir, error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.strip_prefix("volume-")?.parse().ok()).collect();
    numbers.sort_unstable();
    let mut volumes = Vec::new();
    for number in numbers {
        let mut attempt = 1;
        let found = loop {
            match scan(disk, &volume_dir(dir, number), ledger, number) {
                Err(LedgerError { kind: LedgerErrorKind::Damaged(_), .. }) if attempt < SCAN_ATTEMPTS => attempt += 1,
                other => break other?,
            }
        };
        volumes.extend(found.map(|scan| (number, scan)));
    }
    Ok(volumes)
}

/// The volume that this process writes: the one that knows most of its keys, among those nobody writes; else a new one.
fn choose_volume(
    disk: &dyn Disk,
    dir: &Path,
    volumes: &[(u64, Scan)],
    subjects: &[Subject],
) -> Result<(u64, Box<dyn File>), LedgerError> {
    let mut ranked: Vec<(usize, u64)> = (0..VOLUMES_MAX)
        .map(|number| {
            let scan = volumes.iter().find(|(other, _)| *other == number).map(|(_, scan)| scan);
            let known = scan.map_or(0, |scan| {
                subjects.iter().filter(|subject| scan.state.subjects.contains_key(&subject_id(subject))).count()
            });
            (usize::MAX - known, number)
        })
        .collect();
    ranked.sort_unstable();
    for (_, number) in ranked {
        let volume = volume_dir(dir, number);
        disk.create_dir(&volume).and_then(|()| disk.sync_dir(dir)).map_err(|error| LedgerError::at(&volume, error))?;
        let lock = open_lock(disk, &volume.join("lock"))?;
        if lock.lock().map_err(|error| LedgerError::at(&volume, error))? {
            return Ok((number, lock));
        }
    }
    let text = format!("{VOLUMES_MAX} processes use this ledger already");
    Err(LedgerError::at(dir, LedgerErrorKind::Limit(text)))
}

fn open_witness(
    options: &Options,
    ledger: LedgerId,
    number: u64,
) -> Option<(Witness, Option<crate::witness::Testimony>)> {
    let user = rustix::process::geteuid().as_raw();
    let name = format!("semel-{user}-{}-{number}", hex::encode(ledger));
    Witness::open(options.witness.as_deref()?, &name)
}

/// Decides what the reservations of an earlier process mean: nothing after an end in order or when the witness proves that
/// every record is there; else they are the floor.
fn settle(state: &mut State, scan: Option<&Scan>, testimony: Option<crate::witness::Testimony>) {
    let proven = testimony
        .is_some_and(|testimony| scan.is_some_and(|scan| scan.chain.contains(&(testimony.sequence, testimony.hash))));
    if state.closed || proven { state.forget_reserved() } else { state.burn_reserved() }
}

/// Brings a subject into the state, with all that other volumes know of it.
fn adopt_subject(state: &mut State, subject: &Subject, others: &[(u64, Scan)], options: &Options, ledger: LedgerId) {
    let id = subject_id(subject);
    let ours = state.subjects.entry(id).or_insert_with(|| SubjectState::new(subject.clone()));
    for (number, scan) in others {
        if scan.state.subjects.contains_key(&id) {
            let mut theirs = scan.state.clone();
            settle(&mut theirs, Some(scan), open_witness(options, ledger, *number).and_then(|(_, told)| told));
            if let Some(theirs) = theirs.subjects.get(&id) {
                ours.merge(theirs);
            }
        }
    }
}
