//! One process at a time writes the databases of a directory.
//!
//! Whoever opens them for writing holds `aggregator.lock` beside them (`flock`), and writes into it who it is. The lock ends with the
//! process, however that ends; the file stays, and what stands in it means nothing while nobody holds it. Readers take no lock.

use super::{Result, StoreError};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Name of the file.
pub const FILE: &str = "aggregator.lock";
/// Longest text about a holder that is read.
const HOLDER_BYTES_MAX: u64 = 200;

/// The right to write, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
    is_new: bool,
}

impl Lock {
    /// Takes the lock of a directory, which has to be there, for `who`: a command's words.
    ///
    /// # Errors
    /// [`StoreError::Held`] when somebody else has it; the file cannot be made.
    pub fn take(directory: &Path, who: &str) -> Result<Lock> {
        let path = directory.join(FILE);
        let failed = |source| StoreError::Directory { path: path.clone(), source };
        let is_new = !path.exists();
        let open = || OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = open().map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Held { path: directory.to_owned(), by: holder(file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        write!(file, "`{who}`, process {}", std::process::id()).map_err(failed)?;
        Ok(Lock { path, _file: file, is_new })
    }

    /// Takes the file away again, if it was made for this lock.
    pub(super) fn leave_nothing(self) {
        if self.is_new {
            let _stays = std::fs::remove_file(&self.path);
        }
    }
}

/// Who has it, as the file tells.
fn holder(file: File) -> String {
    let mut text = String::new();
    match file.take(HOLDER_BYTES_MAX).read_to_string(&mut text) {
        Ok(length) if length > 0 => text.escape_debug().to_string(),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_holds_it_and_the_next_hears_who() {
        let place = tempfile::tempdir().unwrap();
        let held = Lock::take(place.path(), "serve").unwrap();
        let refused = Lock::take(place.path(), "database vacuum").unwrap_err().to_string();
        assert!(refused.contains(&format!("`serve`, process {}", std::process::id())), "{refused}");
        drop(held);
        // What an earlier holder wrote means nothing.
        drop(Lock::take(place.path(), "a much longer command than that").unwrap());
        let _held = Lock::take(place.path(), "x").unwrap();
        assert!(Lock::take(place.path(), "y").unwrap_err().to_string().contains("by `x`, process"));
    }
}
