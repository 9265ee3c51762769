//! A state file in tmkms's dialect, kept up to date while signing.
//!
//! Each write is one `pwrite` of a text padded with spaces to a multiple of 512 bytes, so that `jq -r .height` and a step back to
//! tmkms work at any time. It is not synced: it survives the end of the process, and after an end of the machine the
//! ledger is right and writes it again. The file never gets shorter, and keeps its owner and mode.
//!
//! A symbolic link, or a file that only its directory lets us replace, is written by temporary file, sync and rename: of what the
//! link points to, so that the link stays. A lock (`flock`) on the file keeps two processes from sharing one.

use super::statefile::{Dialect, StateFile};
use rustix::fs::{FlockOperation, RenameFlags};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The text is padded to a multiple of this, in bytes.
const BLOCK: usize = 512;

/// Times a file may be replaced by somebody else while we open it.
const OPEN_ATTEMPTS: u32 = 8;

/// How often we look whether somebody put another file in the place of ours.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Names tried for a temporary file.
const TEMPORARY_ATTEMPTS: u32 = 16;

/// A state file that cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Another process keeps it.
    #[error("another process keeps this state file{0}")]
    InUse(
        /// The process, as `, process 4711: tmkms start`, where the kernel tells.
        String,
    ),
    /// A directory, device or pipe.
    #[error("not a regular file")]
    NotAFile,
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl MirrorError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InUse(_) => "STATE-0011",
            Self::NotAFile => "STATE-0012",
            Self::Io(_) => "STATE-0013",
        }
    }

    /// The same, with the process that holds the file.
    fn held_at(self, path: &Path) -> Self {
        match self {
            Self::InUse(_) => Self::InUse(crate::host::holder_of(path)),
            other => other,
        }
    }
}

/// An open state file.
#[derive(Debug)]
pub struct Mirror {
    /// What is written: the end of the chain of links.
    path: PathBuf,
    file: File,
    in_place: bool,
    /// When the file was last known to be the one at `path`.
    seen: Instant,
    len: usize,
    text: Vec<u8>,
}

impl Mirror {
    /// Opens and locks the file; made, at height 0 and with mode 0600, where it is missing. Nothing in an existing file changes.
    pub fn open(path: &Path) -> Result<Self, MirrorError> {
        let is_link = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
        let path = if is_link { resolve(path)? } else { path.to_path_buf() };
        for _ in 0..OPEN_ATTEMPTS {
            let (file, writable) = match open_existing(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    create(&path)?;
                    continue;
                }
                other => other?,
            };
            let meta = file.metadata()?;
            if !meta.is_file() {
                return Err(MirrorError::NotAFile);
            }
            lock(&file).map_err(|error| error.held_at(&path))?;
            // Between opening and locking, another writer may have put a new file in its place.
            if !is_away(&meta, &path) {
                let len = usize::try_from(meta.len()).unwrap_or(usize::MAX);
                let in_place = writable && !is_link && len <= super::statefile::STATE_FILE_MAX;
                let (seen, text) = (Instant::now(), Vec::with_capacity(2 * BLOCK));
                return Ok(Self { path, file, in_place, seen, len, text });
            }
        }
        Err(MirrorError::InUse(String::new()))
    }

    /// Writes a state.
    pub fn write(&mut self, state: &StateFile) -> Result<(), MirrorError> {
        let Self { text, len, file, in_place, seen, .. } = self;
        text.clear();
        state.render_into(Dialect::Tmkms, text);
        let wanted = if *in_place { text.len().max(*len) } else { text.len() };
        text.resize(wanted.next_multiple_of(BLOCK), b' ');
        // Asking each time would cost more than writing: a file whose times were read gets new ones with the next write.
        let mut was_replaced = false;
        if *in_place && seen.elapsed() >= LOOK_EVERY {
            *seen = Instant::now();
            was_replaced = is_away(&file.metadata()?, &self.path);
        }
        if *in_place && !was_replaced {
            file.write_all_at(text, 0)?;
        } else {
            self.file = replace(&self.path, &self.text, Some(&self.file.metadata()?), RenameFlags::empty())?;
        }
        self.len = self.text.len();
        Ok(())
    }

    /// The last look: a file that somebody took away is put back.
    pub fn settle(&mut self) -> Result<(), MirrorError> {
        let meta = self.file.metadata()?;
        if is_away(&meta, &self.path) && !self.text.is_empty() {
            self.file = replace(&self.path, &self.text, Some(&meta), RenameFlags::empty())?;
        }
        Ok(())
    }
}

/// Whether a file is no longer under its name: deleted, replaced or moved away.
fn is_away(file: &Metadata, path: &Path) -> bool {
    file.nlink() == 0
        || std::fs::metadata(path).map_or(true, |there| (there.dev(), there.ino()) != (file.dev(), file.ino()))
}

/// The end of a chain of links, which may not exist yet.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let target = std::fs::read_link(path)?;
            Ok(path.parent().unwrap_or(Path::new("")).join(target))
        }
        other => other,
    }
}

/// Opens for writing, or for reading where only that is allowed.
fn open_existing(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    // A pipe without a reader must not stop the start.
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    match options.clone().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok((options.open(path)?, false)),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok((options.open(path)?, false)),
        other => Ok((other?, true)),
    }
}

fn lock(file: &File) -> Result<(), MirrorError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(MirrorError::InUse(String::new())),
        other => Ok(other.map_err(io::Error::from)?),
    }
}

/// Makes the file whole or not at all, and never over one that somebody else made meanwhile. It says nothing yet, so nobody waits
/// for the medium.
fn create(path: &Path) -> Result<(), MirrorError> {
    let mut text = Vec::with_capacity(BLOCK);
    StateFile::default().render_into(Dialect::Tmkms, &mut text);
    text.resize(BLOCK, b' ');
    match replace(path, &text, None, RenameFlags::NOREPLACE) {
        Err(MirrorError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// Puts a new, locked file in the place of `path`, durably and with the owner and mode of the old one, if there is one.
fn replace(path: &Path, text: &[u8], old: Option<&Metadata>, flags: RenameFlags) -> Result<File, MirrorError> {
    let (file, temporary) = temporary_beside(path)?;
    let place = || -> Result<(), MirrorError> {
        lock(&file)?;
        if let Some(old) = old {
            // Only root may give files away; anybody else owns the old one already, or cannot keep its owner.
            let _kept = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
            file.set_permissions(old.permissions())?;
        }
        file.write_all_at(text, 0)?;
        if old.is_some() {
            file.sync_all()?;
        }
        let cwd = rustix::fs::CWD;
        let renamed = match rustix::fs::renameat_with(cwd, &temporary, cwd, path, flags) {
            // A file system without this flag.
            Err(rustix::io::Errno::INVAL) => rustix::fs::rename(&temporary, path),
            other => other,
        };
        Ok(renamed.map_err(io::Error::from)?)
    };
    if let Err(error) = place() {
        let _gone = std::fs::remove_file(&temporary);
        return Err(error);
    }
    if old.is_some() {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}

fn temporary_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for attempt in 0..TEMPORARY_ATTEMPTS {
        let temporary = path.with_file_name(format!(".{name}.{}-{attempt}", std::process::id()));
        match options.open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
