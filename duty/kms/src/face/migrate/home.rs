//! The files of the old signer, by device and inode: a container shows them under other paths, and they are the same files.

use super::super::processes::FileId;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

/// Files that are known, at most. With a path of some 100 bytes each it is 20 MB.
const FILES_MAX: usize = 200_000;

/// Entries of one directory that are looked at, at most: a database of a node has one for each 2 MB.
const ENTRIES_MAX: usize = 20_000;

/// How far down: `data/NAME.db/DIR/FILE`, and one more.
const DEPTH_MAX: usize = 4;

/// What the databases of nodes hold from their start to their end, whatever their number of files.
const LOCK: &str = "LOCK";

/// The files, and what is below the directories, as far as it is bounded; links are followed, as a signer follows them.
pub(super) fn files_of(files: &[PathBuf], directories: &[PathBuf]) -> HashMap<FileId, PathBuf> {
    let mut known = HashMap::new();
    for file in files {
        add(&mut known, file);
    }
    let mut left: VecDeque<(PathBuf, usize)> = VecDeque::new();
    for directory in directories {
        if add(&mut known, directory) {
            left.push_back((directory.clone(), 1));
        }
    }
    while let Some((directory, depth)) = left.pop_front() {
        add(&mut known, &directory.join(LOCK));
        let entries = std::fs::read_dir(&directory).into_iter().flatten().take(ENTRIES_MAX);
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if known.len() >= FILES_MAX {
                return known;
            }
            // One that is known already is not gone through again: links may go round.
            if add(&mut known, &path) && depth < DEPTH_MAX && path.is_dir() {
                left.push_back((path, depth + 1));
            }
        }
    }
    known
}

/// Whether it is there, and was not known.
fn add(known: &mut HashMap<FileId, PathBuf>, path: &Path) -> bool {
    FileId::of(path).is_some_and(|id| known.insert(id, path.to_owned()).is_none())
}
