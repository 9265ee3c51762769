//! A disk in memory that numbers every operation, fails the one it is told to, and forgets what was not synced.
//!
//! Two layers: what the kernel has (every read sees it) and what the medium has. A sync of a file moves its sectors and its
//! length down, a sync of a directory moves names down. After a loss of power each unsynced 512-byte sector is there or not, on
//! its own, and so is each unsynced name; a rename is one name.
#![expect(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

use semel_ledger::disk::{Disk, File, Open};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// The unit in which a medium tears.
const SECTOR: usize = 512;

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not executed, and neither is any after it: the process or the machine is gone.
    Halt,
    /// It fails with this error number and changes nothing. A failed sync loses what it should have written.
    Error(i32),
    /// Half of the sectors are written, then the space is used up. Other operations: as `Error`.
    Short,
}

/// What survives of the unsynced sectors and names when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survivors {
    /// The power did not go; the kernel kept everything.
    Kernel,
    /// Those whose bit is set: bit n for the n-th.
    Mask(u64),
    /// The first n: what was being written is torn there.
    First(usize),
    /// All but the n-th, from 0: the medium wrote in another order.
    AllBut(usize),
    /// All sectors or none, and of the names those whose bit is set.
    Apart { sectors: bool, names: u64 },
    /// As the seed says.
    Seed(u64),
}

#[derive(Default, Clone)]
struct Inode {
    kernel: Vec<u8>,
    medium: Vec<u8>,
    /// Unsynced sectors, in the order of their writes.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum NameChange {
    Directory(PathBuf),
    Link(PathBuf, usize),
    Move(PathBuf, PathBuf, usize),
}

#[derive(Default)]
struct Inner {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    directories: BTreeSet<PathBuf>,
    medium_names: BTreeMap<PathBuf, usize>,
    medium_directories: BTreeSet<PathBuf>,
    pending: Vec<NameChange>,
    locked: BTreeSet<usize>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    fired: bool,
    halted: bool,
    /// Error number of everything that changes the disk.
    read_only: Option<i32>,
    /// No file grows, and no new one is made, once so many more of these have happened.
    room: Option<u64>,
}

/// Numbers of the errors, as Linux has them.
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// Files by their paths.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<Inner>>);

impl SimDisk {
    /// An empty disk with a root directory.
    pub(crate) fn new() -> Self {
        let disk = Self::default();
        disk.inner().directories.insert("/".into());
        disk.inner().medium_directories.insert("/".into());
        disk
    }

    /// A disk that holds these files, all of them on the medium.
    pub(crate) fn holding(files: &Files) -> Self {
        let disk = Self::new();
        let mut inner = disk.inner();
        for (path, bytes) in files {
            let inode = Inode { kernel: bytes.clone(), medium: bytes.clone(), pending: Vec::new() };
            inner.inodes.push(inode);
            let inode = inner.inodes.len() - 1;
            inner.names.insert(path.clone(), inode);
            inner.directories.extend(path.ancestors().skip(1).map(Path::to_path_buf));
        }
        inner.medium_names = inner.names.clone();
        inner.medium_directories = inner.directories.clone();
        drop(inner);
        disk
    }

    /// Every file, as the kernel has it.
    pub(crate) fn files(&self) -> Files {
        let inner = self.inner();
        inner.names.iter().map(|(path, inode)| (path.clone(), inner.inodes[*inode].kernel.clone())).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Starts to count anew, and lets operation `at` (from 1) fail.
    pub(crate) fn arm(&self, at: u64, fault: Fault) {
        let mut inner = self.inner();
        (inner.operations, inner.fired, inner.halted, inner.fault) = (0, false, false, Some((at, fault)));
    }

    /// Mounts it read-only, or writable again.
    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        self.inner().read_only = is_read_only.then_some(EROFS);
    }

    /// Uses up its space, or frees some.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.inner().room = is_full.then_some(0);
    }

    /// Leaves room for so many files to be made, or to grow.
    pub(crate) fn fill_after(&self, room: u64) {
        self.inner().room = Some(room);
    }

    /// Whether the chosen operation was reached.
    pub(crate) fn fired(&self) -> bool {
        self.inner().fired
    }

    /// Unsynced sectors and names: the number of things that a loss of power decides about.
    pub(crate) fn at_risk(&self) -> usize {
        let inner = self.inner();
        inner.pending.len() + inner.inodes.iter().map(|inode| inode.pending.len()).sum::<usize>()
    }

    /// Unsynced names.
    pub(crate) fn names_at_risk(&self) -> usize {
        self.inner().pending.len()
    }

    /// A disk as the next process finds it: no locks, no faults, and of what was unsynced what survived.
    pub(crate) fn reboot(&self, survivors: Survivors) -> Self {
        let old = self.inner();
        let mut new = Inner {
            inodes: old.inodes.clone(),
            names: old.names.clone(),
            directories: old.directories.clone(),
            medium_names: old.medium_names.clone(),
            medium_directories: old.medium_directories.clone(),
            pending: old.pending.clone(),
            ..Inner::default()
        };
        let mut index = 0_u64;
        let mut dice = super::scene::Dice(match survivors {
            Survivors::Seed(seed) => seed,
            _ => 0,
        });
        let mut survives = |is_name: bool| {
            index += 1;
            match survivors {
                Survivors::Apart { sectors, .. } if !is_name => {
                    index = 0;
                    sectors
                }
                Survivors::Apart { names, .. } => names & 1_u64.checked_shl((index - 1) as u32).unwrap_or(0) != 0,
                Survivors::Kernel => true,
                Survivors::Mask(mask) => mask & 1_u64.checked_shl((index - 1) as u32).unwrap_or(0) != 0,
                Survivors::First(count) => index <= count as u64,
                Survivors::AllBut(lost) => index != lost as u64 + 1,
                Survivors::Seed(seed) => dice.below(8) < (seed % 9) as usize,
            }
        };
        if survivors != Survivors::Kernel {
            for inode in &mut new.inodes {
                for (sector, bytes) in std::mem::take(&mut inode.pending) {
                    if survives(false) {
                        put(&mut inode.medium, sector * SECTOR, &bytes);
                    }
                }
                inode.kernel = inode.medium.clone();
            }
            for change in std::mem::take(&mut new.pending) {
                if survives(true) {
                    new.medium_change(change);
                }
            }
            new.names = new.medium_names.clone();
            new.directories = new.medium_directories.clone();
        }
        Self(Arc::new(Mutex::new(new)))
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl Inner {
    /// Counts an operation. Err: it is the one that fails, or comes after a halt. Ok(Some): it is done in part.
    fn step(&mut self) -> io::Result<Option<io::Error>> {
        self.operations += 1;
        if self.halted {
            return Err(io::Error::other("after the halt"));
        }
        match self.fault {
            Some((at, fault)) if at == self.operations => {
                self.fired = true;
                match fault {
                    Fault::Halt => {
                        self.halted = true;
                        Err(io::Error::other("halt"))
                    }
                    Fault::Error(number) => Err(io::Error::from_raw_os_error(number)),
                    Fault::Short => Ok(Some(ErrorKind::StorageFull.into())),
                }
            }
            _ => Ok(None),
        }
    }

    /// An operation that cannot be done in part.
    fn whole(&mut self) -> io::Result<()> {
        match self.step()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Whether something may be changed, and, if it grows, whether there is room.
    fn writable(&mut self, grows: bool) -> io::Result<()> {
        let error = match (self.read_only, self.room.as_mut().filter(|_| grows)) {
            (Some(number), _) => number,
            (None, Some(0)) => ENOSPC,
            (None, room) => {
                room.into_iter().for_each(|room| *room -= 1);
                return Ok(());
            }
        };
        Err(io::Error::from_raw_os_error(error))
    }

    fn medium_change(&mut self, change: NameChange) {
        match change {
            NameChange::Directory(path) => drop(self.medium_directories.insert(path)),
            NameChange::Link(path, inode) => drop(self.medium_names.insert(path, inode)),
            NameChange::Move(from, to, inode) => {
                self.medium_names.remove(&from);
                self.medium_names.insert(to, inode);
            }
        }
    }

    /// A name counts only when all directories above it are there.
    fn is_reachable(&self, path: &Path) -> bool {
        path.ancestors().skip(1).all(|above| self.directories.contains(above))
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.whole()?;
        let missing: Vec<PathBuf> =
            path.ancestors().filter(|p| !inner.directories.contains(*p)).map(Path::to_path_buf).collect();
        if !missing.is_empty() {
            inner.writable(true)?;
        }
        for directory in missing.into_iter().rev() {
            inner.directories.insert(directory.clone());
            inner.pending.push(NameChange::Directory(directory));
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut inner = self.inner();
        inner.whole()?;
        if !inner.directories.contains(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let children = inner.names.keys().chain(&inner.directories).filter(|name| name.parent() == Some(path));
        let mut names: Vec<String> =
            children.map(|name| name.file_name().unwrap().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut inner = self.inner();
        inner.whole()?;
        if !inner.is_reachable(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let known = inner.names.get(path).copied();
        match (known, how) {
            (Some(_), Open::Write) => inner.writable(false)?,
            (None, Open::New) => inner.writable(true)?,
            _ => {}
        }
        let inode = match (known, how) {
            (Some(_), Open::New) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, Open::New) => {
                inner.inodes.push(Inode::default());
                let inode = inner.inodes.len() - 1;
                inner.names.insert(path.into(), inode);
                inner.pending.push(NameChange::Link(path.into(), inode));
                inode
            }
            (None, _) => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Box::new(SimFile { disk: self.clone(), inode, holds: Mutex::new(false) }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.whole()?;
        if !inner.directories.contains(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let here = |change: &NameChange| match change {
            NameChange::Directory(name) | NameChange::Link(name, _) | NameChange::Move(_, name, _) => {
                name.parent() == Some(path)
            }
        };
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.pending).into_iter().partition(here);
        inner.pending = rest;
        synced.into_iter().for_each(|change| inner.medium_change(change));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.whole()?;
        inner.writable(false)?;
        let inode = inner.names.remove(from).ok_or(ErrorKind::NotFound)?;
        inner.names.insert(to.into(), inode);
        inner.pending.push(NameChange::Move(from.into(), to.into(), inode));
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    holds: Mutex<bool>,
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut inner = self.disk.inner();
        inner.whole()?;
        Ok(inner.inodes[self.inode].kernel.len() as u64)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.whole()?;
        let start = offset as usize;
        let have = inner.inodes[self.inode].kernel.get(start..start + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(have);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.inner();
        let fails = inner.step()?;
        let grows = offset as usize + bytes.len() > inner.inodes[self.inode].kernel.len();
        inner.writable(grows)?;
        let sectors = bytes.len().div_ceil(SECTOR);
        let whole = if fails.is_some() { sectors / 2 * SECTOR } else { bytes.len() };
        let inode = &mut inner.inodes[self.inode];
        let offset = offset as usize;
        assert_eq!(offset % SECTOR, 0, "records are whole sectors");
        put(&mut inode.kernel, offset, &bytes[..whole]);
        for (index, sector) in bytes[..whole].chunks(SECTOR).enumerate() {
            inode.pending.push((offset / SECTOR + index, sector.to_vec()));
        }
        fails.map_or(Ok(()), Err)
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        let outcome = inner.whole();
        let halted = inner.halted;
        let inode = &mut inner.inodes[self.inode];
        match outcome {
            Ok(()) => {
                for (sector, bytes) in std::mem::take(&mut inode.pending) {
                    put(&mut inode.medium, sector * SECTOR, &bytes);
                }
            }
            // The kernel reports a failed write-back once, and then takes its pages for clean.
            Err(_) if !halted => inode.pending.clear(),
            Err(_) => {}
        }
        outcome
    }

    fn lock(&self) -> io::Result<bool> {
        let mut inner = self.disk.inner();
        inner.whole()?;
        let mut holds = self.holds.lock().unwrap();
        *holds |= inner.locked.insert(self.inode);
        Ok(*holds)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *self.holds.lock().unwrap() {
            self.disk.inner().locked.remove(&self.inode);
        }
    }
}
