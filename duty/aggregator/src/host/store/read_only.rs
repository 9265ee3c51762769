//! A main database that is only looked at: ours while it is served, a copy, one of mithril-aggregator.
//!
//! Nothing is written: not the file, nor anything beside it (after an end without closing, SQLite makes the index of
//! the log anew). Versions 29 to 44 are read; columns that an earlier version lacks are empty.
//!
//! | Journal of the file | A log (`-wal`) beside it | How it is opened |
//! |---|---|---|
//! | in the file's header: rollback | – | read-only |
//! | write-ahead | yes: somebody has it open, or ended without closing it | read-only; where that cannot be, without the log |
//! | write-ahead | no | as a file that nobody writes: a reader would make a log, and leave it there as its own |

use super::import::VERSION_MIN;
use super::{BUSY_TIMEOUT, Connection, FILE, Result, StoreError, certificates, schema};
use rusqlite::OpenFlags;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where the header of a file says how it is read; a two means a write-ahead log.
const READ_VERSION_AT: u64 = 19;

/// An open database that nobody writes through.
#[derive(Debug)]
pub struct ReadOnly {
    path: PathBuf,
    version: i64,
    connection: Mutex<Connection>,
}

impl ReadOnly {
    /// Opens the database in a directory of stores, of this version or an earlier one.
    ///
    /// # Errors
    /// When there is none, it is of a version that is not known, or it cannot be read.
    pub fn open(directory: &Path) -> Result<ReadOnly> {
        let path = directory.join(FILE);
        let connection = look(&path)?;
        match schema::version(&connection)? {
            None => Err(StoreError::value("a database of an aggregator", "it has no version")),
            Some(found) if found > schema::VERSION => Err(StoreError::Newer { path, found }),
            Some(found) if found < VERSION_MIN => Err(StoreError::Older { path, found }),
            Some(version) => {
                add_columns(&connection)?;
                Ok(ReadOnly { path, version, connection: Mutex::new(connection) })
            }
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version of its tables.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Runs `work`, which reads.
    ///
    /// # Errors
    /// What `work` says.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        work(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Opens a database only to look at it.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn look(path: &Path) -> Result<Connection> {
    if !path.is_file() {
        return Err(StoreError::Absent { path: path.parent().unwrap_or(path).to_owned() });
    }
    let unreadable = |source| StoreError::Directory { path: path.to_owned(), source };
    let whole = std::fs::canonicalize(path).map_err(unreadable)?;
    let log = PathBuf::from(format!("{}-wal", whole.display()));
    match has_write_ahead(path).map_err(unreadable)? {
        true if !log.exists() => connect(&whole, true),
        true => connect(&whole, false).or_else(|error| {
            tracing::warn!(path = %log.display(), %error, "what is only in the log cannot be read");
            connect(&whole, true)
        }),
        false => connect(&whole, false),
    }
}

fn has_write_ahead(path: &Path) -> std::io::Result<bool> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(READ_VERSION_AT))?;
    let mut version = Vec::new();
    file.take(1).read_to_end(&mut version)?;
    Ok(version == [2])
}

/// A connection that has read something.
fn connect(path: &Path, is_still: bool) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let still = if is_still { "&immutable=1" } else { "" };
    let connection = Connection::open_with_flags(format!("file:{}?mode=ro{still}", escaped(path)), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    schema::version(&connection)?;
    Ok(connection)
}

/// A path as it stands in a URI.
fn escaped(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let one = |byte: &u8| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    path.as_os_str().as_bytes().iter().map(one).collect()
}

/// A table of certificates in front of the real one, with the columns that an earlier version does not have. It lives
/// in memory.
fn add_columns(connection: &Connection) -> Result<()> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info('certificate', 'main')")?;
    let there: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let lacking: String = certificates::SNARK_COLUMNS
        .iter()
        .filter(|name| !there.iter().any(|one| one == *name))
        .map(|name| format!(", NULL AS {name}"))
        .collect();
    if there.is_empty() || lacking.is_empty() {
        return Ok(());
    }
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let view = format!("CREATE TEMP VIEW certificate AS SELECT rowid AS rowid, *{lacking} FROM main.certificate");
    Ok(connection.execute_batch(&view)?)
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;
    use sha2::{Digest as _, Sha256};
    use std::collections::BTreeMap;

    fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), Sha256::digest(std::fs::read(path).unwrap()).to_vec())).collect()
    }

    fn count(directory: &Path) -> Result<u64> {
        ReadOnly::open(directory)?.read(certificates::count)
    }

    /// A row that only its number of columns matters of.
    const ROW: &str = "INSERT INTO certificate (certificate_id, message, signature, aggregate_verification_key, epoch, network,
        signed_entity_type_id, signed_entity_beacon, protocol_version, protocol_parameters, protocol_message, signers, initiated_at,
        sealed_at) VALUES ('a', 'm', 's', 'k', 7, 'n', 0, '7', '1', '{}', '{}', '[]', 't', 't')";

    #[test]
    fn a_database_that_is_looked_at_stays_as_it_is_and_nothing_appears_beside_it() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a #100%? directory");
        std::fs::create_dir(&directory).unwrap();
        let made = Store::open(&place.path().join("made")).unwrap();
        let copy = directory.join(FILE).to_str().unwrap().to_owned();
        Connection::open(made.path()).unwrap().execute("VACUUM INTO ?1", [copy]).unwrap();
        for mode in ["WAL", "DELETE"] {
            let db = Connection::open(directory.join(FILE)).unwrap();
            db.pragma_update(None, "journal_mode", mode).unwrap();
            // As mithril-aggregator leaves it: without our tables.
            db.execute_batch("DROP TABLE IF EXISTS semel_artifact_queue").unwrap();
            drop(db);
            let before = content(&directory);
            assert_eq!(before.len(), 1, "{mode}: {before:?}");
            assert_eq!(count(&directory).unwrap(), 0);
            assert_eq!(content(&directory), before, "{mode}");
        }
    }

    #[test]
    fn what_is_only_in_the_log_of_a_running_server_is_seen() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        store.write(|db| Ok(db.execute_batch(ROW)?)).unwrap();
        assert_eq!(count(place.path()).unwrap(), 1);
    }

    #[test]
    fn earlier_versions_are_read_without_the_columns_that_they_lack_and_others_are_refused() {
        let place = tempfile::tempdir().unwrap();
        drop(Store::open(place.path()).unwrap());
        let change = |sql: &str| Connection::open(place.path().join(FILE)).unwrap().execute_batch(sql).unwrap();
        change(ROW);
        for column in certificates::SNARK_COLUMNS {
            change(&format!("ALTER TABLE certificate DROP COLUMN {column}"));
        }
        for (version, is_read) in [(28, false), (29, true), (43, true), (44, true), (45, false)] {
            change(&format!("UPDATE db_version SET version = {version}"));
            match ReadOnly::open(place.path()) {
                Ok(seen) => {
                    assert!(is_read && seen.version() == version, "{version}");
                    // A row of nonsense is read and found to be nonsense: no column is missing.
                    let error = seen.read(|db| certificates::get(db, "a")).unwrap_err();
                    assert!(matches!(error, StoreError::Value { .. }), "{version}: {error}");
                    assert_eq!(seen.read(|db| certificates::get(db, "b")).unwrap().map(|one| one.hash), None);
                }
                Err(StoreError::Newer { found, .. } | StoreError::Older { found, .. }) => {
                    assert!(!is_read && found == version, "{version}");
                }
                Err(error) => panic!("{version}: {error}"),
            }
        }
        change("DROP TABLE db_version");
        assert!(ReadOnly::open(place.path()).is_err());
        assert!(matches!(ReadOnly::open(&place.path().join("none")), Err(StoreError::Absent { .. })));
    }
}
