//! The processes of this host, as far as they can be seen.

use std::path::PathBuf;

/// Processes that are looked at, at most.
const PROCESSES_MAX: usize = 100_000;

/// Open files of one process that are looked at, at most.
const FILES_MAX: usize = 4096;

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: u32,
    /// Its name, of at most 15 bytes.
    pub(super) name: String,
    /// Its command line.
    pub(super) words: Vec<String>,
}

/// Every process that can be seen.
pub(super) fn processes() -> impl Iterator<Item = Process> {
    std::fs::read_dir("/proc").into_iter().flatten().take(PROCESSES_MAX).filter_map(|entry| {
        let entry = entry.ok()?;
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        Some(Process { id, name, words })
    })
}

impl Process {
    /// A link of it: `exe`, `cwd`. None: it is gone, or of another user.
    pub(super) fn link(&self, name: &str) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/{name}", self.id)).ok()
    }

    /// What it holds open; nothing, where another user's process may not be looked into.
    pub(super) fn open_files(&self) -> impl Iterator<Item = PathBuf> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.id));
        entries.into_iter().flatten().take(FILES_MAX).filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
    }
}
