//! A disk in memory that forgets nothing, for a ledger whose files are made up.

use semel_ledger::disk::{Disk, File, Open};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files by their paths.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The disk. Clones are the same one. It knows no locks: one process opens one ledger at a time.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Files>>);

impl MemoryDisk {
    /// With these files.
    pub fn holding(files: Files) -> Self {
        Self(Arc::new(Mutex::new(files)))
    }

    /// What it holds now.
    pub fn files(&self) -> Files {
        self.inner().clone()
    }

    fn inner(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let files = self.inner();
        let below = files.keys().filter_map(|file| file.strip_prefix(path).ok()?.components().next());
        let mut names: Vec<String> = below.map(|name| name.as_os_str().to_string_lossy().into_owned()).collect();
        names.dedup();
        Ok(names)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut files = self.inner();
        match (files.contains_key(path), how) {
            (false, Open::New) => drop(files.insert(path.to_owned(), Vec::new())),
            (true, Open::New) => return Err(ErrorKind::AlreadyExists.into()),
            (false, _) => return Err(ErrorKind::NotFound.into()),
            (true, _) => {}
        }
        Ok(Box::new(MemoryFile { disk: self.clone(), path: path.to_owned() }))
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.inner();
        let bytes = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), bytes);
        Ok(())
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    path: PathBuf,
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inner().get(&self.path).ok_or(ErrorKind::NotFound)?.len() as u64)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let files = self.disk.inner();
        let bytes = files.get(&self.path).ok_or(ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let have = bytes.get(start..).and_then(|rest| rest.get(..buffer.len())).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(have);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.disk.inner();
        let file = files.get_mut(&self.path).ok_or(ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + bytes.len();
        file.resize(file.len().max(end), 0);
        file[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}
