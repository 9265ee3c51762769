//! The steps of opening a ledger: directories, locks, volumes, and what reservations of earlier processes mean.

use crate::claim::{Claim, claim};
use crate::disk::{Disk, File, Open, create_durable};
use crate::error::{LedgerError, LedgerErrorKind};
use crate::host::holder_of;
use crate::options::Options;
use crate::record::{SubjectId, subject_id};
use crate::state::{State, SubjectState};
use crate::volume::{LedgerId, Scan, scan};
use crate::witness::{Testimony, Witness};
use semel_guard::{HoldCause, Subject};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Volumes of one ledger, at most: processes that ever wrote at the same time.
pub(crate) const VOLUMES_MAX: u64 = 64;

/// Attempts to read a volume that another process is writing.
const SCAN_ATTEMPTS: u32 = 5;

/// Longest wait for another process that opens the same ledger, and the time between two looks.
const OPENING_MAX: Duration = Duration::from_secs(10);
const OPENING_LOOK: Duration = Duration::from_millis(5);

/// What this process holds of each key that it signs with: the lock in the ledger, and the claim on the host.
pub(crate) type Locks = BTreeMap<SubjectId, (Box<dyn File>, Option<Claim>)>;

pub(crate) fn volume_dir(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("volume-{number}"))
}

/// Makes the ledger's directory, and the names on the way to it durable while nothing in it matters yet.
pub(crate) fn make_directory(disk: &dyn Disk, dir: &Path) -> Result<(), LedgerError> {
    let io = |error: io::Error| LedgerError::at(dir, error);
    disk.create_dir(&dir.join("keys")).map_err(io)?;
    if disk.list(dir).map_err(io)?.iter().any(|name| name == "host") {
        return Ok(());
    }
    for ancestor in dir.ancestors() {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match disk.sync_dir(ancestor) {
            // A directory that we may not read is not one that we made.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            other => other.map_err(io)?,
        }
    }
    Ok(())
}

/// Waits until no other process opens this ledger. Ends when the file is dropped.
pub(crate) fn lock_opening(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn File>, LedgerError> {
    let path = dir.join("lock");
    let file = open_lock(disk, &path)?;
    let start = Instant::now();
    while !file.lock().map_err(|error| LedgerError::at(&path, error))? {
        if start.elapsed() > OPENING_MAX {
            let text = format!("another process has been opening this ledger for {} s", OPENING_MAX.as_secs());
            return Err(LedgerError::at(&path, io::Error::new(io::ErrorKind::WouldBlock, text)));
        }
        std::thread::sleep(OPENING_LOOK);
    }
    Ok(file)
}

/// Takes the lock of every key, or of none. Where a ledger may be lost, as in a test network, others may use its keys as well.
pub(crate) fn lock_keys(options: &Options, subjects: &[Subject]) -> Result<Locks, LedgerError> {
    let (disk, dir) = (options.disk.as_ref(), options.directory.as_path());
    let mut locks = Locks::new();
    for subject in subjects {
        let id = subject_id(subject);
        if locks.contains_key(&id) {
            continue;
        }
        let path = dir.join("keys").join(hex::encode(id));
        let file = open_lock(disk, &path)?;
        let in_use = |holder| {
            let (key, chain) = (subject.key.to_string(), subject.chain.to_string());
            LedgerError::at(&path, LedgerErrorKind::KeyInUse { key, chain, holder })
        };
        if !file.lock().map_err(|error| LedgerError::at(&path, error))? {
            return Err(in_use(holder_of(&path)));
        }
        let claimed = if options.is_for_this_host() { claim(&id).map_err(in_use)? } else { None };
        locks.insert(id, (file, claimed));
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
pub(crate) fn read_volumes(disk: &dyn Disk, dir: &Path, ledger: LedgerId) -> Result<Vec<(u64, Scan)>, LedgerError> {
    let names = disk.list(dir).map_err(|error| LedgerError::at(dir, error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.strip_prefix("volume-")?.parse().ok()).collect();
    numbers.sort_unstable();
    let read = |number| Ok(read_volume(disk, dir, ledger, number)?.map(|scan| (number, scan)));
    numbers.into_iter().filter_map(|number| read(number).transpose()).collect()
}

/// What one volume holds; read again when another process moved it meanwhile.
pub(crate) fn read_volume(
    disk: &dyn Disk,
    dir: &Path,
    ledger: LedgerId,
    number: u64,
) -> Result<Option<Scan>, LedgerError> {
    let mut attempt = 1;
    loop {
        match scan(disk, &volume_dir(dir, number), ledger, number) {
            Err(LedgerError { kind: LedgerErrorKind::Damaged(_), .. }) if attempt < SCAN_ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

/// The volume that this process writes: the one that knows most of its keys, among those nobody writes; else a new one.
pub(crate) fn choose_volume(
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

pub(crate) fn open_witness(options: &Options, ledger: LedgerId, number: u64) -> Option<(Witness, Option<Testimony>)> {
    let user = rustix::process::geteuid().as_raw();
    let name = format!("semel-{user}-{}-{number}", hex::encode(ledger));
    Witness::open(options.witness.as_deref()?, &name)
}

/// Decides what the reservations of an earlier process mean: nothing after an end in order or when the witness proves that
/// every record is there; else they are the floor.
pub(crate) fn settle(state: &mut State, scan: Option<&Scan>, testimony: Option<Testimony>) {
    let proven = testimony
        .is_some_and(|testimony| scan.is_some_and(|scan| scan.chain.contains(&(testimony.sequence, testimony.hash))));
    if state.closed || proven { state.forget_reserved() } else { state.burn_reserved() }
}

/// Brings a subject into the state, with all that other volumes know of it.
pub(crate) fn adopt_subject(
    state: &mut State,
    subject: &Subject,
    others: &[(u64, Scan)],
    options: &Options,
    ledger: LedgerId,
) {
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

/// The ledger comes from another host: every key of every volume holds, also those that this process does not sign with.
pub(crate) fn adopt_all(state: &mut State, others: &[(u64, Scan)], options: &Options, ledger: LedgerId) {
    let theirs = others.iter().flat_map(|(_, scan)| scan.state.subjects.values());
    let all: BTreeMap<SubjectId, Subject> = theirs
        .chain(state.subjects.values())
        .map(|known| (subject_id(&known.subject), known.subject.clone()))
        .collect();
    for (id, subject) in all {
        adopt_subject(state, &subject, others, options, ledger);
        if let Some(known) = state.subjects.get_mut(&id) {
            known.holds.begin(HoldCause::Adopted);
            known.tell_lanes();
        }
    }
}

/// Those of `fresh` whose public key this ledger has never seen, where it has a history with others: not all of it began here, now.
/// Processes that start with a new ledger are its first set-up; what a reload brings later is not, nor is a ledger into which
/// somebody brought the history of another.
pub(crate) fn strangers(state: &State, others: &[(u64, Scan)], fresh: &[Subject], is_young: bool) -> Vec<Subject> {
    let known = || others.iter().map(|(_, scan)| &scan.state).chain([state]).flat_map(|state| state.subjects.values());
    let is_from_elsewhere = known().any(SubjectState::is_from_elsewhere);
    if !is_from_elsewhere && (is_young || !known().any(SubjectState::has_history)) {
        return Vec::new();
    }
    fresh.iter().filter(|subject| !known().any(|known| known.subject.key == subject.key)).cloned().collect()
}
