//! The processes of this host, as far as they can be seen.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// Which file it is, under whatever path: a container has other paths for the files of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// That of a file or directory. None: it cannot be seen, or it is a device, a pipe or a socket, which anybody may hold.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok().filter(|meta| meta.is_file() || meta.is_dir())?;
        Some(Self { device: meta.dev(), inode: meta.ino() })
    }
}

/// What a process holds open.
#[derive(Debug)]
pub(super) struct Open {
    /// As the process has it; `socket:[NUMBER]` for a socket.
    pub(super) path: PathBuf,
    pub(super) id: Option<FileId>,
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

    /// Where a path leads that it names, seen from here: into its own file system, or on from where it runs.
    pub(super) fn meant(&self, path: &Path) -> PathBuf {
        let own = PathBuf::from(format!("/proc/{}", self.id));
        match path.strip_prefix("/") {
            Ok(rest) => own.join("root").join(rest),
            Err(_) => own.join("cwd").join(path),
        }
    }

    /// What it holds open; nothing, where another user's process may not be looked into.
    pub(super) fn open_files(&self) -> impl Iterator<Item = Open> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.id));
        entries.into_iter().flatten().take(FILES_MAX).filter_map(|entry| {
            let link = entry.ok()?.path();
            // Through the link, not by its text: that is a path of another file system where the process is in a container.
            Some(Open { path: std::fs::read_link(&link).ok()?, id: FileId::of(&link) })
        })
    }
}
