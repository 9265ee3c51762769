//! What is wrong with a ledger, and what of it can be mended without guessing.
//!
//! Mended is only what cannot hold anything that was acknowledged: a record whose end was never written, at the end of the chain;
//! a file that a crash left under a name of its own; permissions. Everything else is said, and left as it is.
//!
//! A half record is cut off in this order: a copy aside, then every key of the volume holds, durably, in another volume, then the
//! slot is emptied, then a new segment begins that says the same. An end in between leaves a ledger whose keys hold, or one that
//! can be mended again.

use crate::disk::{Disk, HostDisk, Open, create_durable};
use crate::error::{LedgerError, LedgerErrorKind};
use crate::host::{self, Binding};
use crate::journal::now;
use crate::open::{self, volume_dir};
use crate::options::Options;
use crate::record::{RECORD_LEN, Slot, beginning, decode, subject_id};
use crate::state::{State, SubjectState};
use crate::volume::{LedgerId, SEGMENTS, Tolerated, Volume, scan, scan_tolerantly, segment_path};
use semel_guard::{HoldCause, Subject};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bits in which the end of a half record differs from that of a whole one, at least. Of 128 that are unrelated 64 differ; a medium
/// that forgets does not change as many and leave the rest.
const TORN_BITS_MIN: u32 = 24;

/// What can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mend {
    /// Nothing.
    Nothing,
    /// The file is removed.
    Remove,
    /// The mode is set.
    Mode(u32),
    /// The half record in this slot of this segment of this volume is cut off.
    Cut { volume: u64, at: usize },
}

/// Something that is wrong with a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
    /// Nothing should be signed until it is mended.
    pub is_unsafe: bool,
    mend: Mend,
}

impl Finding {
    fn new(path: &Path, what: impl Into<String>, is_unsafe: bool, mend: Mend) -> Self {
        Self { path: path.into(), what: what.into(), is_unsafe, mend }
    }

    /// What [`mend`] does about it. None: nothing, because nobody can know what is right.
    pub fn remedy(&self) -> Option<String> {
        match self.mend {
            Mend::Nothing => None,
            Mend::Remove => Some("remove it".into()),
            Mend::Mode(mode) => Some(format!("set its mode to {mode:04o}")),
            Mend::Cut { .. } => {
                Some("keep a copy, cut the half record off, and let the keys watch before they sign".into())
            }
        }
    }
}

/// What was found in a ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// Volumes that are whole, and how many records each holds.
    pub volumes: Vec<(u64, usize)>,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

/// Looks at every file of a ledger, without a lock. An error: it cannot be looked at.
pub fn examine(directory: &Path) -> Result<Examined, LedgerError> {
    let mut examined = Examined::default();
    let found = &mut examined.findings;
    modes(directory, 0o700, found)?;
    let names = HostDisk.list(directory).map_err(|error| LedgerError::at(directory, error))?;
    for name in &names {
        let path = directory.join(name);
        match name.as_str() {
            "lock" | "host" => modes(&path, 0o600, found)?,
            "keys" | "damaged" | "control" => modes(&path, 0o700, found)?,
            "host.new" => found.push(Finding::new(&path, "left by a process that ended", false, Mend::Remove)),
            _ if volume_number(name).is_some() => {}
            _ => found.push(Finding::new(&path, "does not belong to a ledger", false, Mend::Nothing)),
        }
    }
    let keys = directory.join("keys");
    for name in HostDisk.list(&keys).unwrap_or_default() {
        let path = keys.join(&name);
        match hex::decode(&name).is_ok_and(|id| id.len() == 16) {
            true => modes(&path, 0o600, found)?,
            false => found.push(Finding::new(&path, "does not belong to a ledger", false, Mend::Nothing)),
        }
    }
    let ledger = identity(directory, found);
    let Some(ledger) = ledger else { return Ok(examined) };
    for number in names.iter().filter_map(|name| volume_number(name)) {
        let dir = volume_dir(directory, number);
        modes(&dir, 0o700, &mut examined.findings)?;
        for name in HostDisk.list(&dir).map_err(|error| LedgerError::at(&dir, error))? {
            let path = dir.join(&name);
            let is_ours = name == "lock" || (0..SEGMENTS).any(|index| path == segment_path(&dir, index));
            match is_ours {
                true => modes(&path, 0o600, &mut examined.findings)?,
                false => {
                    examined.findings.push(Finding::new(&path, "does not belong to a volume", false, Mend::Nothing));
                }
            }
        }
        match open::read_volume(&HostDisk, directory, ledger, number) {
            Ok(scan) => examined.volumes.push((number, scan.map_or(0, |scan| scan.records.len()))),
            Err(error) => examined.findings.push(of_volume(&dir, ledger, number, &error)),
        }
    }
    Ok(examined)
}

/// The identity of the ledger, where it has one that can be read.
fn identity(directory: &Path, found: &mut Vec<Finding>) -> Option<LedgerId> {
    let host = directory.join("host");
    if let Ok(Some(Binding { stored, present })) =
        Binding::of(directory).map(|b| b.filter(|binding| !binding.is_here()))
    {
        let what = format!("belongs to another host (it has {stored}, this host is {present}); see `ledger adopt`");
        found.push(Finding::new(&host, what, true, Mend::Nothing));
    }
    match host::identity(&HostDisk, directory) {
        Ok(identity) => identity.map(|(ledger, _)| ledger),
        Err(error) => {
            found.push(Finding::new(&error.path, error.kind.to_string(), true, Mend::Nothing));
            None
        }
    }
}

fn volume_number(name: &str) -> Option<u64> {
    name.strip_prefix("volume-")?.parse().ok().filter(|number: &u64| name == format!("volume-{number}"))
}

/// Who may write it.
fn modes(path: &Path, wanted: u32, found: &mut Vec<Finding>) -> Result<(), LedgerError> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound && wanted == 0o600 => return Ok(()),
        Err(error) => return Err(LedgerError::at(path, error)),
    };
    let (mode, me) = (meta.mode() & 0o7777, rustix::process::geteuid().as_raw());
    if meta.is_symlink() {
        found.push(Finding::new(path, "is a link", true, Mend::Nothing));
    } else if meta.uid() != me && me != 0 {
        let what = format!("owned by user {}, and this process runs as user {me}", meta.uid());
        found.push(Finding::new(path, what, true, Mend::Nothing));
    } else if mode & 0o022 != 0 {
        found.push(Finding::new(path, format!("mode {mode:04o} lets others write it"), true, Mend::Mode(wanted)));
    }
    Ok(())
}

/// A volume that does not open.
fn of_volume(dir: &Path, ledger: LedgerId, number: u64, error: &LedgerError) -> Finding {
    let (path, what) = (&error.path, error.kind.to_string());
    match torn(dir, ledger, number) {
        Some((index, at)) => {
            let what = format!("record {at} was written half, and nothing was acknowledged after the one before it");
            Finding::new(&segment_path(dir, index), what, true, Mend::Cut { volume: number, at })
        }
        None => Finding::new(path, what, true, Mend::Nothing),
    }
}

/// The only damaged slot of a volume, if it lies at the end of the chain and its end was never written.
fn torn(dir: &Path, ledger: LedgerId, number: u64) -> Option<(u64, usize)> {
    let mut tolerated = Tolerated::default();
    let scan = scan_tolerantly(&HostDisk, dir, ledger, number, &mut tolerated).ok()??;
    let [(index, at)] = tolerated.damaged.as_slice() else { return None };
    let (_, generation, len, hash) = *tolerated.chains.iter().find(|(other, ..)| other == index)?;
    let is_next = *index == (scan.generation + 1) % SEGMENTS;
    let previous = match (*index == scan.generation % SEGMENTS, hash) {
        (true, hash) => hash?,
        // The segment that was being begun; its chain goes on from this one.
        (false, None) if is_next => scan.hash,
        (false, Some(hash)) if is_next && generation == scan.generation + 1 => hash,
        _ => return None,
    };
    let bytes = fs::read(segment_path(dir, *index)).ok()?;
    let slot = bytes.chunks_exact(RECORD_LEN).nth(*at).filter(|_| *at == len)?;
    let end = slot.get(RECORD_LEN - 20..RECORD_LEN - 4)?;
    let differing: u32 = end.iter().zip(previous).map(|(a, b)| (a ^ b).count_ones()).sum();
    // It begins as the record that would have come next, and nothing came after it. One of which only the end is there begins as
    // nothing, or as an older one.
    let records_begun = if is_next { len as u64 } else { 0 };
    let (sequence, durable) = beginning(slot, &previous)?;
    let is_last = sequence == scan.sequence + records_begun + 1 && tolerated.highest < sequence;
    let is_plausible = is_last && (tolerated.claims..=scan.sequence).contains(&durable);
    (is_plausible && matches!(decode(slot), Slot::Damaged) && differing >= TORN_BITS_MIN).then_some((*index, *at))
}

/// Mends what [`examine`] finds and can be mended, while no process signs with any key of the ledger. Returns what was done.
pub fn mend(options: &Options) -> Result<Vec<Finding>, LedgerError> {
    let directory = options.directory.as_path();
    let _opening = open::lock_opening(options.disk.as_ref(), directory)?;
    let locks = lock_all(directory)?;
    let mut done = Vec::new();
    for finding in examine(directory)?.findings {
        let io = |error| LedgerError::at(&finding.path, LedgerErrorKind::Io(error));
        match finding.mend {
            Mend::Nothing => continue,
            Mend::Remove => fs::remove_file(&finding.path).map_err(io)?,
            Mend::Mode(mode) => fs::set_permissions(&finding.path, Permissions::from_mode(mode)).map_err(io)?,
            Mend::Cut { volume, at } => cut(options, volume, &finding.path, at)?,
        }
        done.push(finding);
    }
    drop(locks);
    Ok(done)
}

/// Takes the lock of every key and volume, or says who has one.
fn lock_all(directory: &Path) -> Result<Vec<Box<dyn crate::disk::File>>, LedgerError> {
    let known: Vec<Subject> = crate::Journal::inspect(directory)
        .map(|known| known.into_iter().map(|known| known.subject).collect())
        .unwrap_or_default();
    let name_of = |name: &str| {
        let subject = known.iter().find(|subject| hex::encode(crate::subject_id(subject)) == name);
        subject.map_or_else(|| (name.to_owned(), "a chain".into()), |s| (s.key.to_string(), s.chain.to_string()))
    };
    let mut paths: Vec<(PathBuf, String)> = Vec::new();
    let keys = directory.join("keys");
    for name in HostDisk.list(&keys).map_err(|error| LedgerError::at(&keys, error))? {
        paths.push((keys.join(&name), name));
    }
    let names = HostDisk.list(directory).map_err(|error| LedgerError::at(directory, error))?;
    paths.extend(
        names
            .into_iter()
            .filter(|name| volume_number(name).is_some())
            .map(|name| (directory.join(&name).join("lock"), name)),
    );
    let mut locks = Vec::new();
    for (path, name) in paths {
        let file = match HostDisk.open(&path, Open::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|error| LedgerError::at(&path, error))?,
        };
        if !file.lock().map_err(|error| LedgerError::at(&path, error))? {
            let ((key, chain), holder) = (name_of(&name), host::holder_of(&path));
            return Err(LedgerError::at(&path, LedgerErrorKind::KeyInUse { key, chain, holder }));
        }
        locks.push(file);
    }
    Ok(locks)
}

/// Cuts a half record off.
fn cut(options: &Options, number: u64, segment: &Path, at: usize) -> Result<(), LedgerError> {
    let directory = options.directory.as_path();
    let disk = Arc::clone(&options.disk);
    let aside = directory.join("damaged");
    let io = |error| LedgerError::at(segment, LedgerErrorKind::Io(error));
    disk.create_dir(&aside).map_err(io)?;
    let name = segment.file_name().unwrap_or_default().to_string_lossy();
    // A cut that was cut short may have left one of the same second.
    let copy = |time: u64| aside.join(format!("volume-{number}-{name}-{time}"));
    let copy =
        (now()..).map(copy).find(|copy| !copy.exists()).ok_or_else(|| io(io::ErrorKind::AlreadyExists.into()))?;
    drop(create_durable(disk.as_ref(), &copy, &fs::read(segment).map_err(io)?).map_err(io)?);
    let dir = volume_dir(directory, number);
    let damaged = |what: &str| LedgerError::at(&dir, LedgerErrorKind::Damaged(what.into()));
    let (ledger, _) = host::identity(disk.as_ref(), directory)?.ok_or_else(|| damaged("its ledger has no identity"))?;
    let held = hold_elsewhere(options, ledger, number)?;
    let file = disk.open(segment, Open::Write).map_err(io)?;
    file.write((at * RECORD_LEN) as u64, &[0; RECORD_LEN]).and_then(|()| file.sync()).map_err(io)?;
    let scan = scan(disk.as_ref(), &dir, ledger, number)?.ok_or_else(|| damaged("nothing is left of it"))?;
    let mut state = scan.state.clone();
    take_in(&mut state, &held);
    Volume::start(disk, (dir, ledger, number), options.segment_records, Some(&scan), &state, now()).map(drop)
}

/// Lets every key of a volume that is to be cut hold, durably, in another volume: whatever ends the cut, the next process reads it
/// there. Returns the holds. Their numbers lie above every one that a volume knows, so that none counts as passed.
fn hold_elsewhere(options: &Options, ledger: LedgerId, number: u64) -> Result<Vec<SubjectState>, LedgerError> {
    let (directory, disk) = (options.directory.as_path(), &options.disk);
    let names = disk.list(directory).map_err(|error| LedgerError::at(directory, error))?;
    let mut volumes = Vec::new();
    for other in names.iter().filter_map(|name| volume_number(name)) {
        let dir = volume_dir(directory, other);
        let mut tolerated = Tolerated::default();
        let scan = scan_tolerantly(disk.as_ref(), &dir, ledger, other, &mut tolerated)?;
        volumes.push((other, tolerated.damaged.is_empty(), scan));
    }
    let states = || volumes.iter().filter_map(|(_, _, scan)| Some(&scan.as_ref()?.state));
    let cut = volumes.iter().find(|(other, ..)| *other == number).and_then(|(_, _, scan)| scan.as_ref());
    let mut held = Vec::new();
    for (id, subject) in cut.iter().flat_map(|scan| &scan.state.subjects) {
        let mut known = SubjectState::new(subject.subject.clone());
        states().filter_map(|state| state.subjects.get(id)).for_each(|theirs| known.holds.merge(&theirs.holds));
        known.holds.begin(HoldCause::Mended);
        held.push(known);
    }
    let is_free = |other: &u64| volumes.iter().all(|(taken, ..)| taken != other);
    let whole = volumes.iter().find(|(other, is_whole, _)| *is_whole && *other != number);
    let limit = || LedgerError::at(directory, LedgerErrorKind::Limit("no other volume is whole".into()));
    let (other, scan) = match whole {
        Some((other, _, scan)) => (*other, scan.as_ref()),
        None => ((0..open::VOLUMES_MAX).find(is_free).ok_or_else(limit)?, None),
    };
    let dir = volume_dir(directory, other);
    let made = disk.create_dir(&dir).and_then(|()| disk.sync_dir(directory));
    made.map_err(|error| LedgerError::at(&dir, error))?;
    let mut state = scan.map(|scan| scan.state.clone()).unwrap_or_default();
    take_in(&mut state, &held);
    Volume::start(Arc::clone(disk), (dir, ledger, other), options.segment_records, scan, &state, now())?;
    Ok(held)
}

/// Takes holds into what a volume knows.
fn take_in(state: &mut State, held: &[SubjectState]) {
    for known in held {
        let subject = state.subjects.entry(subject_id(&known.subject));
        subject.or_insert_with(|| SubjectState::new(known.subject.clone())).take_in_holds(known);
    }
}
