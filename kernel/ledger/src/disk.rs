//! All disk access of the ledger, as one small trait, so that tests can number every operation and fail each of them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It must exist.
    Read,
    /// It must exist.
    Write,
    /// It must not exist; mode 0600.
    New,
}

/// A file of a ledger.
pub trait File: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buffer` from `offset`.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything written is on the medium (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Takes the exclusive lock of this file, or says false where another process has it. Ends with the file.
    fn lock(&self) -> io::Result<bool>;
}

/// A disk.
pub trait Disk: Send + Sync {
    /// Makes a directory (mode 0700) and its parents. An existing one is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Moves a file over another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// The disk of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDisk;

impl Disk for HostDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(how != Open::Read).create_new(how == Open::New).mode(0o600);
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        Ok(Box::new(options.open(path)?))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

impl File for fs::File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn lock(&self) -> io::Result<bool> {
        use rustix::fs::{FlockOperation, flock};
        match flock(self, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Zeros written at once: small pieces stay small in the kernel's memory, where what belongs to a piece is looked through with each
/// record.
const ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// Writes zeros over the first `len` bytes of a file.
pub(crate) fn write_zeros(file: &dyn File, len: usize) -> io::Result<()> {
    for offset in (0..len).step_by(ZEROS.len()) {
        let piece = ZEROS.get(..len - offset).unwrap_or(&ZEROS);
        file.write(offset as u64, piece)?;
    }
    Ok(())
}

/// Creates a file with `content`, durable together with its name.
pub(crate) fn create_durable(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<Box<dyn File>> {
    create_filled(disk, path, |file| file.write(0, content))
}

/// The same with whatever `fill` writes.
pub(crate) fn create_filled(
    disk: &dyn Disk,
    path: &Path,
    fill: impl FnOnce(&dyn File) -> io::Result<()>,
) -> io::Result<Box<dyn File>> {
    let file = disk.open(path, Open::New)?;
    fill(file.as_ref())?;
    file.sync()?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    Ok(file)
}
