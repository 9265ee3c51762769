//! The state file that tmkms and `jq` read, kept beside the ledger.
//!
//! Written in place with one `pwrite` of a text padded with spaces to a fixed length, before the answer leaves: it survives
//! the end of the process at the cost of microseconds, and is right after every ordinary stop. Only a loss of power can make it
//! stale; then the ledger counts and writes it again at the start. A file that is a link, or that others link to, is replaced as
//! a whole instead.

use super::{Dialect, StateFile};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The text is padded to a multiple of this.
const PAD: usize = 512;

/// A state file that cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// It cannot be made or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another signer has it open.
    #[error("another process keeps this state file")]
    InUse,
    /// It is something else.
    #[error("not a file")]
    NotAFile,
}

/// An open state file.
#[derive(Debug)]
pub struct Mirror {
    path: PathBuf,
    file: File,
    length: usize,
    in_place: bool,
    buffer: Vec<u8>,
}

impl Mirror {
    /// Opens the state file, or makes one that says that nothing was signed, and takes its lock.
    pub fn open(path: &Path) -> Result<Self, MirrorError> {
        let kind = match fs::symlink_metadata(path) {
            Ok(meta) => Some(meta.file_type()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if kind.is_none() {
            let fresh = padded(StateFile::default().render(Dialect::Tmkms), 0);
            replace(path, &fresh, 0o600)?;
        }
        let is_link = kind.is_some_and(|kind| kind.is_symlink());
        let follow = if is_link { OFlags::empty() } else { OFlags::NOFOLLOW };
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(follow.bits().cast_signed());
        let file = options.open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(MirrorError::NotAFile);
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(MirrorError::InUse),
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let length = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        let in_place = !is_link && meta.nlink() == 1;
        Ok(Self { path: path.into(), file, length, in_place, buffer: Vec::with_capacity(2 * PAD) })
    }

    /// Writes a state.
    pub fn write(&mut self, state: &StateFile) -> Result<(), MirrorError> {
        let text = padded(state.render(Dialect::Tmkms), self.length);
        self.buffer.clear();
        self.buffer.extend_from_slice(&text);
        if self.in_place {
            self.file.write_all_at(&self.buffer, 0)?;
        } else {
            let target = fs::canonicalize(&self.path)?;
            let mode = self.file.metadata()?.permissions().mode() & 0o7777;
            replace(&target, &self.buffer, mode)?;
        }
        self.length = self.buffer.len();
        Ok(())
    }
}

/// The text with spaces up to the next multiple of [`PAD`], and never shorter than what it is written over.
fn padded(text: String, over: usize) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    let length = bytes.len().max(over).next_multiple_of(PAD);
    bytes.resize(length, b' ');
    bytes
}

/// Puts a file in place, whole or not at all.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = directory.join(name);
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    };
    write().inspect_err(|_| {
        // What is left is only the unfinished new file.
        let _removed = fs::remove_file(&temporary);
    })
}
