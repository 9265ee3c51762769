//! Which immutable files there are.
//!
//! Spec: §7.1. Whatever else lies in the directory is left alone: a name counts only if it is spelled as the node spells it.

use super::ImmutableError;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Last parts of the names of a trio, in the order of the names.
pub const EXTENSIONS: [&str; 3] = ["chunk", "primary", "secondary"];

/// The directory that is looked for.
const DIRECTORY: &str = "immutable";

/// Directories looked at before the search for one called `immutable` is given up. A node's database has about ten.
const DIRECTORIES_MAX: usize = 10_000;

/// Name of one file of a trio: the number with at least five digits.
pub fn file_name(number: u64, extension: &str) -> String {
    format!("{number:05}.{extension}")
}

/// Names of the files of a trio, in order.
pub fn trio(number: u64) -> [String; 3] {
    EXTENSIONS.map(|extension| file_name(number, extension))
}

/// What is in a node's immutable directory at one moment.
#[derive(Debug, Clone)]
pub struct ImmutableFiles {
    directory: PathBuf,
    // By number, which of the trio is there.
    present: BTreeMap<u64, [bool; 3]>,
}

impl ImmutableFiles {
    /// Lists the files of the database at `db`: those in `<db>/immutable`, else in the first directory of that name below.
    ///
    /// # Errors
    /// When there is no such directory or it cannot be read.
    pub fn list(db: &Path) -> Result<ImmutableFiles, ImmutableError> {
        let directory = find(db)?;
        let read = |why| ImmutableError::Read { path: directory.clone(), why };
        let mut present: BTreeMap<u64, [bool; 3]> = BTreeMap::new();
        for entry in fs::read_dir(&directory).map_err(read)? {
            let entry = entry.map_err(read)?;
            let Some((number, place)) = entry.file_name().to_str().and_then(parse) else { continue };
            if let Some(there) = present.entry(number).or_default().get_mut(place) {
                *there = true;
            }
        }
        Ok(ImmutableFiles { directory, present })
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The highest number with every number below the highest one present; none: nothing is complete yet.
    pub fn last_complete(&self) -> Option<u64> {
        self.present.keys().next_back()?.checked_sub(1)
    }

    /// Names of all files from number 0 to `last`, ordered by (number, name).
    ///
    /// # Errors
    /// [`ImmutableError::Ahead`] when `last` is not complete, [`ImmutableError::Missing`] with the first file that is not there.
    pub fn complete_up_to(&self, last: u64) -> Result<Vec<String>, ImmutableError> {
        let complete = self.last_complete().ok_or_else(|| ImmutableError::NothingComplete(self.directory.clone()))?;
        if last > complete {
            return Err(ImmutableError::Ahead { wanted: last, last: complete });
        }
        // Walks what is there, so that its length is bounded by the directory and not by a name in it.
        let mut names = Vec::with_capacity(self.present.len().saturating_mul(3));
        let mut expected = 0;
        for (&number, there) in self.present.range(..=last) {
            if number != expected {
                return Err(self.missing(expected, "chunk"));
            }
            for (extension, there) in EXTENSIONS.iter().zip(there) {
                if !there {
                    return Err(self.missing(number, extension));
                }
                names.push(file_name(number, extension));
            }
            expected = number.saturating_add(1);
        }
        if expected <= last { Err(self.missing(expected, "chunk")) } else { Ok(names) }
    }

    fn missing(&self, number: u64, extension: &str) -> ImmutableError {
        ImmutableError::Missing(self.directory.join(file_name(number, extension)))
    }
}

/// Number and place in the trio; none for a name that no node writes.
fn parse(name: &str) -> Option<(u64, usize)> {
    let (stem, extension) = name.split_once('.')?;
    let place = EXTENSIONS.iter().position(|known| *known == extension)?;
    if !stem.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = stem.parse().ok()?;
    (file_name(number, extension) == name).then_some((number, place))
}

fn find(db: &Path) -> Result<PathBuf, ImmutableError> {
    let first = db.join(DIRECTORY);
    if first.is_dir() {
        return Ok(first);
    }
    if db.file_name().is_some_and(|name| name == DIRECTORY) && db.is_dir() {
        return Ok(db.to_path_buf());
    }
    // Level by level and by name, so that the answer does not depend on the order of the file system.
    let mut waiting = VecDeque::from([db.to_path_buf()]);
    let mut seen = 0;
    while let Some(directory) = waiting.pop_front() {
        let mut below = match subdirectories(&directory) {
            Ok(below) => below,
            Err(why) if seen == 0 && why.kind() != io::ErrorKind::NotFound => {
                return Err(ImmutableError::Read { path: directory, why });
            }
            Err(_) => continue,
        };
        below.sort();
        if let Some(found) = below.iter().find(|path| path.file_name().is_some_and(|name| name == DIRECTORY)) {
            return Ok(found.clone());
        }
        seen += below.len();
        if seen > DIRECTORIES_MAX {
            break;
        }
        waiting.extend(below);
    }
    Err(ImmutableError::NoDirectory(db.to_path_buf()))
}

fn subdirectories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut below = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Links are not followed: they can lead in circles.
        if entry.file_type()?.is_dir() {
            below.push(entry.path());
        }
    }
    Ok(below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;

    fn write_trios(directory: &Path, numbers: impl IntoIterator<Item = u64>) {
        fs::create_dir_all(directory).unwrap();
        for number in numbers {
            for name in trio(number) {
                fs::write(directory.join(&name), &name).unwrap();
            }
        }
    }

    #[test]
    fn the_highest_number_is_never_complete() {
        let db = tempdir().unwrap();
        write_trios(&db.path().join("immutable"), 0..4);
        let files = ImmutableFiles::list(db.path()).unwrap();
        assert_eq!(files.last_complete(), Some(2));
        assert_eq!(files.complete_up_to(1).unwrap(), [trio(0), trio(1)].concat());
        assert!(matches!(files.complete_up_to(3), Err(ImmutableError::Ahead { wanted: 3, last: 2 })));
    }

    #[test]
    fn one_file_of_the_next_trio_completes_the_one_before() {
        let db = tempdir().unwrap();
        write_trios(&db.path().join("immutable"), 0..2);
        fs::write(db.path().join("immutable/00002.primary"), "").unwrap();
        assert_eq!(ImmutableFiles::list(db.path()).unwrap().last_complete(), Some(1));
    }

    #[test]
    fn a_single_trio_is_nothing_yet() {
        let db = tempdir().unwrap();
        write_trios(&db.path().join("immutable"), 0..1);
        let files = ImmutableFiles::list(db.path()).unwrap();
        assert_eq!(files.last_complete(), None);
        assert!(matches!(files.complete_up_to(0), Err(ImmutableError::NothingComplete(_))));
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        for gone in ["00000.chunk", "00001.secondary", "00002.primary"] {
            let db = tempdir().unwrap();
            write_trios(&db.path().join("immutable"), 0..5);
            fs::remove_file(db.path().join("immutable").join(gone)).unwrap();
            match ImmutableFiles::list(db.path()).unwrap().complete_up_to(3) {
                Err(ImmutableError::Missing(path)) => assert_eq!(path.file_name().unwrap(), gone),
                other => panic!("{gone}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_whole_trio_that_is_missing_is_named_even_behind_a_name_of_nineteen_digits() {
        let db = tempdir().unwrap();
        write_trios(&db.path().join("immutable"), [0, 1, 3, 1_000_000_000_000_000_000]);
        match ImmutableFiles::list(db.path()).unwrap().complete_up_to(999_999_999_999_999_999) {
            Err(ImmutableError::Missing(path)) => assert_eq!(path.file_name().unwrap(), "00002.chunk"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn beyond_five_digits_the_order_is_that_of_the_numbers_and_not_of_the_names() {
        let present = (0..=100_001).map(|number| (number, [true; 3])).collect();
        let names = ImmutableFiles { directory: PathBuf::new(), present }.complete_up_to(100_000).unwrap();
        let end: Vec<&str> = names.iter().rev().take(4).map(String::as_str).collect();
        assert_eq!(end, ["100000.secondary", "100000.primary", "100000.chunk", "99999.secondary"]);
        let up_to_five: Vec<&String> =
            names.iter().filter(|name| name.len() < "100000.chunk".len() || name.starts_with('0')).collect();
        assert!(up_to_five.is_sorted());
    }

    #[test]
    fn a_name_that_no_node_writes_does_not_count() {
        for name in [
            "1.chunk",
            "000001.chunk",
            "0000x.chunk",
            "+0001.chunk",
            "00001.chunk.bak",
            "00001",
            "99999999999999999999.chunk",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
        assert_eq!(parse("00001.secondary"), Some((1, 2)));
        assert_eq!(parse("100000.chunk"), Some((100_000, 0)));
    }

    #[test]
    fn the_directory_is_looked_for_first_where_it_belongs_then_below() {
        let db = tempdir().unwrap();
        write_trios(&db.path().join("a/immutable"), 0..3);
        assert_eq!(ImmutableFiles::list(db.path()).unwrap().directory(), db.path().join("a/immutable"));
        write_trios(&db.path().join("immutable"), 0..2);
        assert_eq!(ImmutableFiles::list(db.path()).unwrap().directory(), db.path().join("immutable"));
        let empty = tempdir().unwrap();
        assert!(matches!(ImmutableFiles::list(empty.path()), Err(ImmutableError::NoDirectory(_))));
    }
}
