//! The ledger snapshots that a node keeps, by form.
//!
//! Spec: §4.4, §13 trap 21. Before UTxO-HD a snapshot is a file `ledger/<slot>`; since then a directory, of which only that of
//! the in-memory backend is recognised: `meta` says `utxohd-mem`, `state`, and the tables: `tables/tvar` up to node 10.6,
//! the file `tables` from 10.7 on. Any other directory (the LMDB backend, one half written) is none.

use super::ArtifactError;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Directory of the snapshots.
pub(crate) const DIRECTORY: &str = "ledger";

/// Largest `meta` that is read. A real one has about 50 bytes.
const META_BYTES_MAX: u64 = 64 * 1024;

/// Version of cardano-node, as far as it decides anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeVersion(pub u64, pub u64, pub u64, pub Stage);

/// Whether a version is out: one with a `-` and a name comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// `10.4.1-pre`.
    Before,
    /// `10.4.1`.
    Out,
}

impl NodeVersion {
    /// From `10.4.1`, `10.4.1-pre` or `10.4.1+build`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<NodeVersion, ArtifactError> {
        let version = text.split('+').next().unwrap_or_default();
        let (numbers, stage) = match version.split_once('-') {
            Some((numbers, _)) => (numbers, Stage::Before),
            None => (version, Stage::Out),
        };
        let numbers: Option<Vec<u64>> = numbers.split('.').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some([major, minor, patch]) => Ok(NodeVersion(*major, *minor, *patch, stage)),
            _ => Err(ArtifactError::NodeVersion(text.to_owned())),
        }
    }

    /// How many of the newest snapshots are packed: before 10.4.1 the newest one may be half written.
    pub fn snapshots(self) -> usize {
        if self < NodeVersion(10, 4, 1, Stage::Out) { 2 } else { 1 }
    }
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerSnapshot {
    /// Slot at which it was taken.
    pub slot: u64,
    /// Its files, relative to the database.
    pub files: Vec<PathBuf>,
}

impl LedgerSnapshot {
    /// Snapshots of the database at `db`, oldest first.
    ///
    /// # Errors
    /// When the directory cannot be read. None at all is not an error here.
    pub fn list(db: &Path) -> Result<Vec<LedgerSnapshot>, ArtifactError> {
        let directory = db.join(DIRECTORY);
        let failed = |why| ArtifactError::file(&directory, why);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(why) => return Err(failed(why)),
        };
        let mut snapshots = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
                continue;
            };
            let Ok(slot) = name.parse() else { continue };
            if let Some(files) = files_of(&directory, name) {
                let files = files.into_iter().map(|file| Path::new(DIRECTORY).join(file)).collect();
                snapshots.push(LedgerSnapshot { slot, files });
            }
        }
        snapshots.sort_by(|a, b| (a.slot, &a.files).cmp(&(b.slot, &b.files)));
        Ok(snapshots)
    }

    /// The newest ones that go into an archive, and their files opened, so that they stay readable when the node deletes them.
    ///
    /// # Errors
    /// [`ArtifactError::NoLedger`] when there is none.
    pub fn open_newest(db: &Path, version: NodeVersion) -> Result<Vec<(PathBuf, File)>, ArtifactError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let snapshots = LedgerSnapshot::list(db)?;
            if snapshots.is_empty() {
                return Err(ArtifactError::NoLedger(db.join(DIRECTORY)));
            }
            let newest = snapshots.iter().rev().take(version.snapshots());
            let opened: io::Result<Vec<_>> = newest
                .flat_map(|snapshot| &snapshot.files)
                .map(|file| File::open(db.join(file)).map(|open| (file.clone(), open)))
                .collect();
            match opened {
                Ok(opened) => return Ok(opened),
                // The node took another snapshot and deleted this one in between.
                Err(why) if why.kind() == io::ErrorKind::NotFound && attempts < 3 => {}
                Err(why) => return Err(ArtifactError::file(&db.join(DIRECTORY), why)),
            }
        }
    }
}

fn files_of(directory: &Path, name: &str) -> Option<Vec<PathBuf>> {
    let path = directory.join(name);
    if path.is_file() {
        return Some(vec![PathBuf::from(name)]);
    }
    if !in_memory(&path.join("meta")) || !path.join("state").is_file() {
        return None;
    }
    let tables = if path.join("tables").is_file() {
        "tables"
    } else if path.join("tables/tvar").is_file() {
        "tables/tvar"
    } else {
        return None;
    };
    Some(["meta", "state", tables].iter().map(|file| Path::new(name).join(file)).collect())
}

/// Whether a `meta` file names the in-memory backend.
fn in_memory(meta: &Path) -> bool {
    let mut text = String::new();
    let read = File::open(meta).and_then(|file| file.take(META_BYTES_MAX).read_to_string(&mut text));
    let meta: Option<serde_json::Value> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    meta.and_then(|meta| Some(meta.get("backend")?.as_str()? == "utxohd-mem")).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;

    fn put(db: &Path, name: &str, content: &str) {
        let path = db.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn slots(db: &Path) -> Vec<u64> {
        LedgerSnapshot::list(db).unwrap().iter().map(|snapshot| snapshot.slot).collect()
    }

    #[test]
    fn each_form_is_recognised_and_they_are_ordered_by_slot() {
        let db = tempdir().unwrap();
        put(db.path(), "ledger/900", "legacy");
        for (slot, tables) in [("1000", "tables/tvar"), ("1100", "tables")] {
            put(db.path(), &format!("ledger/{slot}/meta"), r#"{"backend":"utxohd-mem","checksum":1}"#);
            put(db.path(), &format!("ledger/{slot}/state"), "state");
            put(db.path(), &format!("ledger/{slot}/{tables}"), "tables");
        }
        assert_eq!(slots(db.path()), [900, 1000, 1100]);
        let newest = LedgerSnapshot::open_newest(db.path(), NodeVersion(10, 7, 0, Stage::Out)).unwrap();
        let names: Vec<_> = newest.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["ledger/1100/meta", "ledger/1100/state", "ledger/1100/tables"]);
        let two = LedgerSnapshot::open_newest(db.path(), NodeVersion(10, 4, 0, Stage::Out)).unwrap();
        assert_eq!(two.len(), 6);
        assert!(two.iter().any(|(name, _)| name.ends_with("1000/tables/tvar")));
    }

    #[test]
    fn what_is_not_of_the_in_memory_backend_or_not_whole_is_no_snapshot() {
        let db = tempdir().unwrap();
        for (slot, meta, files) in [
            ("1", r#"{"backend":"utxohd-lmdb"}"#, &["state", "tables"][..]),
            ("2", "not json", &["state", "tables"]),
            ("3", r#"{"backend":"utxohd-mem"}"#, &["state"]),
            ("4", r#"{"backend":"utxohd-mem"}"#, &["tables"]),
            ("5_tmp", r#"{"backend":"utxohd-mem"}"#, &["state", "tables"]),
            ("6", "[]", &["state", "tables"]),
        ] {
            put(db.path(), &format!("ledger/{slot}/meta"), meta);
            for file in files {
                put(db.path(), &format!("ledger/{slot}/{file}"), "x");
            }
        }
        put(db.path(), "ledger/README.md", "x");
        put(db.path(), "ledger/77.bak", "x");
        assert_eq!(slots(db.path()), [] as [u64; 0]);
        let none = LedgerSnapshot::open_newest(db.path(), NodeVersion(10, 7, 0, Stage::Out));
        assert!(matches!(none, Err(ArtifactError::NoLedger(_))));
    }

    #[test]
    fn versions_are_three_numbers() {
        assert_eq!(NodeVersion::parse("10.4.1").unwrap(), NodeVersion(10, 4, 1, Stage::Out));
        assert_eq!(NodeVersion::parse("11.0.1-pre+x").unwrap(), NodeVersion(11, 0, 1, Stage::Before));
        for wrong in ["", "10", "10.4", "10.4.x", "v10.4.1", "10.4.1.2"] {
            assert!(NodeVersion::parse(wrong).is_err(), "{wrong}");
        }
        let forms = [
            ("10.4.0", 2),
            ("10.4.1-pre", 2),
            ("10.4.1", 1),
            ("10.4.1+x", 1),
            ("10.4.2-pre", 1),
            ("9.9.9", 2),
            ("11.0.0", 1),
        ];
        for (version, snapshots) in forms {
            assert_eq!(NodeVersion::parse(version).unwrap().snapshots(), snapshots, "{version}");
        }
    }
}
