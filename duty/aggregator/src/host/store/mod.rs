//! The main database: registrations, stakes, open messages, single signatures, certificates, artifacts.
//!
//! The file is the reference's own (`aggregator.sqlite3`, version 44): an operator can go there and back. Tables that only we
//! have begin with `semel_`. One thread writes; what waits for it shares a commit, and whoever asked hears of it after the commit
//! and not before. Reads go through connections of their own and never wait for a write (WAL).
//!
//! Times are RFC 3339 with nanoseconds, because the hash of a certificate covers them; keys and signatures are hex as they travel.

pub mod certificates;
mod digests;
pub mod entities;
pub mod epochs;
pub mod import;
pub mod lock;
pub mod messages;
pub mod read_only;
mod schema;
pub mod snark;
mod writer;

pub use rusqlite::Connection;
pub use schema::VERSION;

use lock::Lock;
use rusqlite::OpenFlags;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use writer::Writer;

/// Name of the file in the directory of stores.
pub const FILE: &str = "aggregator.sqlite3";
/// Connections that read, at most; more readers wait.
const READERS_MAX: usize = 32;
/// How long a connection waits for a lock before it gives up. Nobody else should hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says no.
    #[error("the database says: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Somebody else made it, later than this program.
    #[error("{path} is of version {found}; this program knows version {VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// An earlier version.
    #[error("{path} is of version {found}; this program knows version {VERSION}")]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Somebody else writes there.
    #[error("the databases in {path} are in use by {by}")]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who has them.
        by: String,
    },
    /// There is no database where one has to be.
    #[error("there is no database in {path}")]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// There is something where nothing should be.
    #[error("the database in {path} is not empty: it holds certificates or epochs already")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A value in it is not what its column says.
    #[error("{what} in the database is not one: {why}")]
    Value {
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The directory cannot be had.
    #[error("{path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The writer ended: an earlier write broke the file, or the program ends.
    #[error("the database's writer has ended")]
    Ended,
}

impl StoreError {
    pub(crate) fn value(what: &'static str, why: impl std::fmt::Display) -> StoreError {
        StoreError::Value { what, why: why.to_string() }
    }

    /// Whether asking again may help: the file was locked, or the disk was full.
    pub fn is_passing(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
        matches!(self, StoreError::Sqlite(rusqlite::Error::SqliteFailure(error, _))
            if matches!(error.code, DatabaseBusy | DatabaseLocked | DiskFull))
    }
}

/// What a statement gives, or what the database says.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The open database; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    path: Arc<Path>,
    // Before the writer: only who may write takes the log along when it closes as the last.
    readers: Arc<Readers>,
    writer: Writer,
    // After the writer: the last write is over when others may begin.
    _lock: Option<Arc<Lock>>,
}

/// Connections that read: some that wait, and a count of all.
#[derive(Debug, Default)]
struct Readers {
    state: Mutex<(Vec<Connection>, usize)>,
    freed: Condvar,
}

impl Readers {
    /// One that waits; none: there may be one more.
    fn take(&self) -> Option<Connection> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(connection) = state.0.pop() {
                return Some(connection);
            }
            if state.1 < READERS_MAX {
                state.1 += 1;
                return None;
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give(&self, connection: Option<Connection>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match connection {
            Some(connection) => state.0.push(connection),
            None => state.1 -= 1,
        }
        self.freed.notify_one();
    }
}

impl Store {
    /// Opens the database in a directory of stores, and makes both when they are not there.
    ///
    /// # Errors
    /// When another version made it, or it cannot be opened.
    pub fn open(directory: &Path) -> Result<Store> {
        std::fs::create_dir_all(directory)
            .map_err(|source| StoreError::Directory { path: directory.to_owned(), source })?;
        let path = directory.join(FILE);
        let mut connection = connect(&path)?;
        schema::prepare(&mut connection, &path)?;
        Ok(Store { path: path.into(), writer: Writer::start(connection), readers: Arc::default(), _lock: None })
    }

    /// As [`Store::open`], and nobody else may write there until the last clone is gone. `who`: the command's words.
    ///
    /// # Errors
    /// As there; somebody else writes.
    pub fn open_alone(directory: &Path, who: &str) -> Result<Store> {
        std::fs::create_dir_all(directory)
            .map_err(|source| StoreError::Directory { path: directory.to_owned(), source })?;
        let lock = Lock::take(directory, who)?;
        Ok(Store { _lock: Some(Arc::new(lock)), ..Store::open(directory)? })
    }

    /// As [`Store::open_alone`], of a database that has to be there.
    ///
    /// # Errors
    /// As there; there is none.
    pub fn open_existing_alone(directory: &Path, who: &str) -> Result<Store> {
        match directory.join(FILE).is_file() {
            true => Store::open_alone(directory, who),
            false => Err(StoreError::Absent { path: directory.to_owned() }),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` in a transaction and returns when it is committed. Others' work may share the commit; an error of `work` undoes
    /// its own part only.
    ///
    /// # Errors
    /// What `work` says, or the commit.
    pub fn write<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        self.writer.run(work)
    }

    /// Runs `work` on a connection that only reads.
    ///
    /// # Errors
    /// What `work` says, or that no connection can be had.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let connection = match self.readers.take() {
            Some(connection) => connection,
            None => self.reader().inspect_err(|_| self.readers.give(None))?,
        };
        let done = work(&connection);
        self.readers.give(Some(connection));
        done
    }

    fn reader(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    }

    /// Writes what is in the write-ahead log into the file and empties the log.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn checkpoint(&self) -> Result<()> {
        self.writer.aside(|connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(())
        })
    }

    /// Rewrites the file without what was deleted.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn vacuum(&self) -> Result<()> {
        self.writer.aside(|connection| Ok(connection.execute_batch("VACUUM")?))
    }
}

/// Version of a database's tables; none in an empty one.
///
/// # Errors
/// It is no database.
pub fn version(connection: &Connection) -> Result<Option<i64>> {
    schema::version(connection)
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A certificate is told to the world after its commit, so the commit has to be on the medium.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    Ok(connection)
}

pub(crate) mod text {
    //! How values look in columns.

    use super::StoreError;
    use chrono::{DateTime, SecondsFormat, Utc};

    pub(crate) fn time(at: &DateTime<Utc>) -> String {
        at.to_rfc3339_opts(SecondsFormat::Nanos, false)
    }

    pub(crate) fn parse_time(text: &str) -> super::Result<DateTime<Utc>> {
        match DateTime::parse_from_rfc3339(text) {
            Ok(at) => Ok(at.with_timezone(&Utc)),
            Err(error) => Err(StoreError::value("a time", error)),
        }
    }

    pub(crate) fn json<T: serde::Serialize>(value: &T) -> super::Result<String> {
        serde_json::to_string(value).map_err(|error| StoreError::value("JSON", error))
    }

    pub(crate) fn parse<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> super::Result<T> {
        serde_json::from_str(text).map_err(|error| StoreError::value(what, error))
    }

    /// JSON in a column: SQLite keeps what looks like a number as one.
    pub(crate) fn column(row: &rusqlite::Row<'_>, index: usize) -> super::Result<String> {
        Ok(match row.get::<_, rusqlite::types::Value>(index)? {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            _ => row.get(index)?,
        })
    }

    /// SQLite's integers are signed; nothing of Cardano comes near the bound.
    pub(crate) fn number(value: u64) -> i64 {
        i64::try_from(value).unwrap_or(i64::MAX)
    }

    pub(crate) fn unsigned(value: i64) -> super::Result<u64> {
        u64::try_from(value).map_err(|error| StoreError::value("a number", error))
    }
}
