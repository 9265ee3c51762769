//! The directory of the chain data, and everything that is written to it.
//!
//! Whatever writes passes here, so that a test can take the power away before, in the middle of or after any write.

use super::error::ChainDataError;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// Held as long as the directory is open.
    _lock: File,
    #[cfg(test)]
    pub(super) fuse: Option<std::sync::Arc<Fuse>>,
}

/// How many writes the power still lasts for.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Fuse {
    pub(super) writes: std::sync::atomic::AtomicUsize,
    /// Whether what was not flushed is lost when the power goes.
    pub(super) loses: bool,
    /// What was flushed, by name of the file.
    pub(super) flushed: std::sync::Mutex<std::collections::HashMap<String, Vec<u8>>>,
}

impl Disk {
    pub(super) fn open(root: &Path) -> Result<Self, ChainDataError> {
        std::fs::create_dir_all(root).map_err(ChainDataError::io(format!("creating {}", root.display())))?;
        let path = root.join("lock");
        let what = || ChainDataError::io(format!("locking {}", path.display()));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(what())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ChainDataError::Locked(root.display().to_string())),
            Err(TryLockError::Error(why)) => return Err(what()(why)),
        }
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
            #[cfg(test)]
            fuse: None,
        })
    }

    fn what(&self, doing: &str, name: &str) -> String {
        format!("{doing} {}", self.root.join(name).display())
    }

    /// Whether flushing matters: not where a test takes the power away, since what was written is seen all the same.
    fn must_flush(&self) -> bool {
        #[cfg(test)]
        return self.fuse.is_none();
        #[cfg(not(test))]
        true
    }

    /// Whether the power is still there.
    fn spark(&self) -> Result<(), std::io::Error> {
        #[cfg(test)]
        if let Some(fuse) = &self.fuse {
            use std::sync::atomic::Ordering::SeqCst;
            if fuse.writes.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
                return Err(std::io::Error::other("the power went"));
            }
        }
        Ok(())
    }

    /// Before a file changes for the first time, what it has is on disk; when it is flushed, what it has then.
    #[cfg(test)]
    fn remember(&self, name: &str, flushed: bool) {
        if let Some(fuse) = self.fuse.as_ref().filter(|fuse| fuse.loses) {
            let mut all = fuse.flushed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if flushed || !all.contains_key(name) {
                all.insert(name.to_owned(), std::fs::read(self.root.join(name)).unwrap_or_default());
            }
        }
    }

    /// The power went: files have what was flushed.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        if let Some(fuse) = &self.fuse {
            for (name, bytes) in fuse.flushed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
                let _ = std::fs::write(self.root.join(name), bytes);
            }
        }
    }

    /// Opens a file for reading and writing; it is created when there is none.
    pub(super) fn open_file(&self, name: &str) -> Result<File, ChainDataError> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(self.root.join(name))
            .map_err(ChainDataError::io(self.what("opening", name)))
    }

    /// Reads a whole file; none when it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ChainDataError> {
        match std::fs::read(self.root.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(ChainDataError::io(self.what("reading", name))(why)),
        }
    }

    pub(super) fn write_at(&self, file: &File, name: &str, bytes: &[u8], offset: u64) -> Result<(), ChainDataError> {
        let what = self.what("writing", name);
        #[cfg(test)]
        self.remember(name, false);
        if let Err(why) = self.spark() {
            // Half of it got there.
            let (half, _) = bytes.split_at(bytes.len() / 2);
            let _ = file.write_all_at(half, offset);
            return Err(ChainDataError::io(what)(why));
        }
        file.write_all_at(bytes, offset).map_err(ChainDataError::io(what))
    }

    pub(super) fn sync(&self, file: &File, name: &str) -> Result<(), ChainDataError> {
        let flush = || if self.must_flush() { file.sync_data() } else { Ok(()) };
        self.spark().and_then(|()| flush()).map_err(ChainDataError::io(self.what("flushing", name)))?;
        #[cfg(test)]
        self.remember(name, true);
        Ok(())
    }

    /// Cuts a file behind `len` bytes.
    pub(super) fn cut(&self, file: &File, name: &str, len: u64) -> Result<(), ChainDataError> {
        #[cfg(test)]
        self.remember(name, false);
        self.spark().and_then(|()| file.set_len(len)).map_err(ChainDataError::io(self.what("cutting", name)))
    }

    /// A file is there whole, or as it was before: tmp, flush, rename, flush the directory.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ChainDataError> {
        let temporary = format!("{name}.tmp");
        let file = self.open_file(&temporary)?;
        self.cut(&file, &temporary, 0)?;
        self.write_at(&file, &temporary, bytes, 0)?;
        self.sync(&file, &temporary)?;
        self.spark()
            .and_then(|()| std::fs::rename(self.root.join(&temporary), self.root.join(name)))
            .map_err(ChainDataError::io(self.what("renaming", name)))?;
        #[cfg(test)]
        self.remember(name, true);
        self.sync_directory()
    }

    pub(super) fn sync_directory(&self) -> Result<(), ChainDataError> {
        let flush = || if self.must_flush() { File::open(&self.root)?.sync_all() } else { Ok(()) };
        self.spark().and_then(|()| flush()).map_err(ChainDataError::io(format!("flushing {}", self.root.display())))
    }

    /// Removes a file that nothing names any more. Failing costs only its room: the next start tries again.
    pub(super) fn remove(&self, name: &str) {
        if self.spark().is_ok() {
            let _ = std::fs::remove_file(self.root.join(name));
        }
    }

    /// Names of all files.
    pub(super) fn names(&self) -> Result<Vec<String>, ChainDataError> {
        let what = || ChainDataError::io(format!("listing {}", self.root.display()));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(what())? {
            names.extend(entry.map_err(what())?.file_name().into_string());
        }
        Ok(names)
    }
}

/// Reads exactly `len` bytes at this offset.
pub(super) fn read_at(file: &File, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, ChainDataError> {
    let mut bytes = vec![0; len];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(bytes),
        Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(ChainDataError::damaged(name, format!("it ends before byte {}", offset.saturating_add(len as u64))))
        }
        Err(why) => Err(ChainDataError::io(format!("reading {name}"))(why)),
    }
}
