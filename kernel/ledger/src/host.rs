//! The host a ledger belongs to, and the directory it lives in.

use crate::disk::{Disk, Open, create_durable};
use crate::error::{LedgerError, LedgerErrorKind};
use crate::journal::now;
use crate::volume::LedgerId;
use rustix::fs::{Access, access};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(crate) const TMPFS: u64 = 0x0102_1994;

/// Version of the format, in the first line of the `host` file.
const VERSION: u32 = 1;

/// What stands for a host without an identity.
const NO_HOST: &str = "none";

/// Longest `host` file, in bytes.
const HOST_FILE_MAX: u64 = 512;

/// How long a new ledger is being set up: its operator starts one process after the other.
const YOUNG_SECONDS: u64 = 600;

/// Lines of the kernel's table of locks that are read, at most.
const LOCKS_MAX: usize = 100_000;

/// Longest command line that is shown, in characters.
const COMMAND_MAX: usize = 200;

/// The process that holds the lock of a file, in words: its number and its command line. Empty where the kernel does not tell.
pub(crate) fn holder_of(path: &Path) -> String {
    let held = || -> Option<String> {
        let file = std::fs::metadata(path).ok()?;
        // `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1835010 0 EOF`: the device in hexadecimal, the inode in decimal digits.
        let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        let place = format!("{major:02x}:{minor:02x}:{}", file.ino());
        let table = std::fs::read_to_string("/proc/locks").ok()?;
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let row = table.lines().take(LOCKS_MAX).map(words).find(|row| row.get(5) == Some(&place))?;
        let process: u32 = row.get(4)?.parse().ok().filter(|process| *process > 0)?;
        Some(process_words(process))
    };
    held().unwrap_or_default()
}

/// A process as `, process 4711: tmkms start`.
pub(crate) fn process_words(process: u32) -> String {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&line).replace('\0', " ");
    let command: String = command.trim().chars().filter(|c| !c.is_control()).take(COMMAND_MAX).collect();
    if command.is_empty() { format!(", process {process}") } else { format!(", process {process}: {command}") }
}

/// What tells this host from a copy of its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity(String);

impl HostIdentity {
    /// From the machine id of the operating system. None where there is none (some containers): such a ledger is not bound.
    pub fn of_this_host() -> Option<Self> {
        let id =
            ["/etc/machine-id", "/var/lib/dbus/machine-id"].iter().find_map(|p| std::fs::read_to_string(p).ok())?;
        (!id.trim().is_empty()).then(|| Self::from_text(id.trim()))
    }

    /// From any text that is the same on this host and different on every other.
    pub fn from_text(text: &str) -> Self {
        let hash = Sha256::new().chain_update("semel host\0").chain_update(text).finalize();
        Self(hex::encode(hash).chars().take(16).collect())
    }
}

impl fmt::Display for HostIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The host that a ledger is bound to, and this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Fingerprint in the ledger.
    pub stored: String,
    /// Fingerprint of this host.
    pub present: String,
}

impl Binding {
    /// Of a ledger that is there.
    pub fn of(directory: &Path) -> Result<Option<Self>, LedgerError> {
        let present = fingerprint(HostIdentity::of_this_host().as_ref());
        Ok(identity(&crate::disk::HostDisk, directory)?.map(|(_, stored)| Self { stored, present }))
    }

    /// Whether it may be used here. One that was made where hosts have no identity is bound to none.
    pub fn is_here(&self) -> bool {
        is_same(&self.stored, &self.present)
    }
}

fn is_same(stored: &str, present: &str) -> bool {
    stored == present || stored == NO_HOST || present == NO_HOST
}

fn fingerprint(host: Option<&HostIdentity>) -> String {
    host.map_or(NO_HOST.to_owned(), ToString::to_string)
}

/// Kinds of file system, by what they mean for a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filesystem {
    /// Local and kept.
    Local,
    /// Gone after a restart, or shared over a network.
    Volatile(&'static str),
}

/// The file system under an existing path.
pub fn filesystem_of(path: &Path) -> std::io::Result<Filesystem> {
    let kind = rustix::fs::statfs(path)?.f_type as u64 & 0xffff_ffff;
    Ok(match kind {
        TMPFS => Filesystem::Volatile("tmpfs"),
        0x8584_58f6 => Filesystem::Volatile("ramfs"),
        0x794c_7630 => Filesystem::Volatile("overlayfs"),
        0x6969 => Filesystem::Volatile("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Filesystem::Volatile("SMB"),
        0x0102_1997 => Filesystem::Volatile("9p"),
        0x6573_5546 => Filesystem::Volatile("FUSE"),
        0x00c3_6400 => Filesystem::Volatile("Ceph"),
        _ => Filesystem::Local,
    })
}

/// Where the ledger is when nobody names a directory: that of the host, and that of the user.
fn default_directories() -> (PathBuf, Option<PathBuf>) {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    (PathBuf::from("/var/lib/semel/ledger"), state.or_else(home).map(|state| state.join("semel/ledger")))
}

/// Where the ledger is when nobody names a directory: where there is one, the host's before the user's; else where one can be made.
pub fn default_directory() -> PathBuf {
    let (host, user) = default_directories();
    match user {
        // A ledger that is there is never passed over: it may hold floors.
        Some(user) if !host.exists() && (user.exists() || !can_be_made(&host)) => user,
        _ => host,
    }
}

/// The same; where neither can be made, the ledger is below `other`: a service may have no home and no directory but its own.
pub fn default_directory_or(other: &Path) -> PathBuf {
    let directory = default_directory();
    if directory.exists() || can_be_made(&directory) { directory } else { other.join("ledger") }
}

/// Whether this user could make a directory. Nothing is made: commands that only look ask this, too.
fn can_be_made(directory: &Path) -> bool {
    let above = directory.ancestors().find(|above| above.exists());
    above.is_some_and(|above| access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

/// Owner and mode of the directory, and the file system under it.
pub(crate) fn check_directory(dir: &Path, allow_volatile: bool) -> Result<(), LedgerError> {
    let meta = std::fs::metadata(dir).map_err(|error| LedgerError::at(dir, error))?;
    let me = rustix::process::geteuid().as_raw();
    let refuse = |text: String| Err(LedgerError::at(dir, LedgerErrorKind::Permissions(text)));
    if meta.uid() != me {
        return refuse(format!("owned by user {}, and this process runs as user {me}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return refuse(format!("mode {:04o} lets others write it", meta.mode() & 0o7777));
    }
    match filesystem_of(dir).map_err(|error| LedgerError::at(dir, error))? {
        Filesystem::Volatile(kind) if !allow_volatile => {
            Err(LedgerError::at(dir, LedgerErrorKind::Filesystem(kind.into())))
        }
        _ => Ok(()),
    }
}

/// What the `host` file of a ledger says.
struct HostFile {
    id: LedgerId,
    host: String,
    /// When the ledger was made, in seconds since 1970.
    made: Option<u64>,
}

/// The identity of an existing ledger and the host it is bound to. None: there is no ledger here yet.
pub(crate) fn identity(disk: &dyn Disk, dir: &Path) -> Result<Option<(LedgerId, String)>, LedgerError> {
    Ok(read(disk, dir)?.map(|file| (file.id, file.host)))
}

/// Whether the ledger was made just now, so that what starts with it belongs to its first set-up.
pub(crate) fn is_young(disk: &dyn Disk, dir: &Path) -> bool {
    let made = read(disk, dir).ok().flatten().and_then(|file| file.made);
    made.is_some_and(|made| (made..made.saturating_add(YOUNG_SECONDS)).contains(&now()))
}

fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<HostFile>, LedgerError> {
    let path = dir.join("host");
    let io = |error| LedgerError::at(&path, LedgerErrorKind::Io(error));
    let damaged = |what: &str| LedgerError::at(&path, LedgerErrorKind::Damaged(what.into()));
    let file = match disk.open(&path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let names = disk.list(dir).map_err(io)?;
            let has_volumes = names.iter().any(|name| name.starts_with("volume-"));
            return if has_volumes { Err(damaged("the file is gone")) } else { Ok(None) };
        }
        Err(error) => return Err(io(error)),
    };
    let len = file.len().map_err(io)?.min(HOST_FILE_MAX);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    file.read(0, &mut bytes).map_err(io)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let version = text.lines().next().and_then(|line| line.strip_prefix("semel-ledger ")?.parse::<u32>().ok());
    if let Some(other) = version.filter(|version| *version != VERSION) {
        return Err(LedgerError::at(&path, LedgerErrorKind::Version(other)));
    }
    let parse = || {
        version?;
        let mut lines = text.lines().skip(1);
        let id = lines.next()?.strip_prefix("id ")?;
        let host = lines.next()?.strip_prefix("host ")?.to_owned();
        let made = lines.next().and_then(|line| line.strip_prefix("made ")?.parse().ok());
        Some(HostFile { id: hex::decode(id).ok()?.try_into().ok()?, host, made })
    };
    parse().map(Some).ok_or_else(|| damaged("not the identity of a ledger"))
}

/// The identity of a ledger that was read or made, and what of it is still to be written.
pub(crate) struct Bound {
    pub(crate) ledger: LedgerId,
    /// It is adopted from another host: the file that says so is written by [`Bound::complete`].
    pub(crate) adopted: Option<String>,
}

/// Reads the identity of the ledger, or makes one, and holds the host against it. One that is adopted is not written yet: its keys
/// hold before it belongs to this host.
pub(crate) fn bind(
    disk: &dyn Disk,
    dir: &Path,
    host: Option<&HostIdentity>,
    adopt: bool,
    fresh_id: LedgerId,
) -> Result<Bound, LedgerError> {
    let path = dir.join("host");
    let present = fingerprint(host);
    let text = |id: LedgerId, made: Option<u64>| {
        let mut text = format!("semel-ledger {VERSION}\nid {}\nhost {present}\n", hex::encode(id));
        text.extend(made.map(|made| format!("made {made}\n")));
        text
    };
    let here = |ledger| Bound { ledger, adopted: None };
    match read(disk, dir)? {
        None => replace(disk, dir, &text(fresh_id, Some(now()))).map(|()| here(fresh_id)),
        Some(HostFile { id, host: stored, .. }) if is_same(&stored, &present) => {
            // Who made it may have ended before its name was durable; a volume that outlived it would be taken for damage.
            disk.sync_dir(dir).map_err(|error| LedgerError::at(dir, error)).map(|()| here(id))
        }
        Some(file) if adopt => Ok(Bound { ledger: file.id, adopted: Some(text(file.id, file.made)) }),
        Some(HostFile { host: stored, .. }) => {
            Err(LedgerError::at(&path, LedgerErrorKind::OtherHost { stored, present }))
        }
    }
}

impl Bound {
    /// Makes an adopted ledger one of this host. Its keys hold by now, durably.
    pub(crate) fn complete(&self, disk: &dyn Disk, dir: &Path) -> Result<(), LedgerError> {
        self.adopted.as_ref().map_or(Ok(()), |text| replace(disk, dir, text))
    }
}

/// Puts the `host` file in place, whole or not at all.
fn replace(disk: &dyn Disk, dir: &Path, content: &str) -> Result<(), LedgerError> {
    let path = dir.join("host");
    put_in_place(disk, dir, &path, content).map_err(|error| LedgerError::at(&path, error))
}

fn put_in_place(disk: &dyn Disk, dir: &Path, path: &Path, content: &str) -> std::io::Result<()> {
    let temporary = dir.join("host.new");
    match create_durable(disk, &temporary, content.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            // Left by a crash. Its name is ours, so it may be written over.
            let file = disk.open(&temporary, Open::Write)?;
            let mut bytes = content.as_bytes().to_vec();
            bytes.resize(usize::try_from(file.len()?).unwrap_or_default().max(bytes.len()), b'\n');
            file.write(0, &bytes)?;
            file.sync()?;
        }
        other => drop(other?),
    }
    disk.rename(&temporary, path)?;
    disk.sync_dir(dir)
}
