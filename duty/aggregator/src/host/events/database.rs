//! The file of events: the reference's table and views, and what is kept for how long.
//!
//! Usage of a day that is over is summed up, one row for each counter, origin and type of client: the views tell the same sums,
//! and a year of reports every ten seconds is some thousand rows. Rows of any kind go when they are older than the retention, or
//! when there are more than [`ROWS_MAX`], the oldest first.

use super::Event;
use crate::host::store::{Connection, text};
use chrono::{DateTime, TimeDelta, Utc};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file in the directory of stores.
pub const FILE: &str = "monitoring.sqlite3";
/// Version of the reference's schema that this is.
pub const VERSION: i64 = 5;
/// Rows at most: some 300 MB.
pub(super) const ROWS_MAX: u64 = 1_000_000;
/// Rows that go at once when there are too many.
const ROWS_FREED: u64 = ROWS_MAX / 10;
/// Events of one party's registrations for one epoch: anybody can repeat a registration, with any header.
const REGISTRATIONS_MAX: i64 = 8;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there are no events.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// SQLite says no.
    #[error("the event database says: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Made by another version.
    #[error("{path} is of version {found}; this program knows version {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
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
    /// No thread.
    #[error("no thread for events: {0}")]
    Thread(#[source] std::io::Error),
}

type Result<T> = std::result::Result<T, EventsError>;

const TABLES: &str = "
CREATE TABLE event (
    event_id integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    created_at text NOT NULL,
    source text NOT NULL,
    action text NOT NULL,
    content json NOT NULL
);
CREATE TABLE IF NOT EXISTS db_version (
    application_type text NOT NULL PRIMARY KEY,
    version integer NOT NULL,
    updated_at text NOT NULL
);
";

/// Made beside a reference's table, too, where they are missing.
const VIEWS: &str = "
CREATE INDEX IF NOT EXISTS semel_event_time ON event (created_at);
CREATE INDEX IF NOT EXISTS semel_event_registration ON event
    (json_extract(content, '$.headers.epoch'), json_extract(content, '$.content.party_id'))
    WHERE action = 'register_signer';
CREATE VIEW IF NOT EXISTS metrics_per_day AS
    SELECT action AS counter_name, sum(json_extract(content, '$.content.value')) AS value, date(created_at) AS date
    FROM event WHERE source = 'Metrics' GROUP BY action, date(created_at);
CREATE VIEW IF NOT EXISTS metrics_per_day_and_origin AS
    SELECT action AS counter_name, json_extract(content, '$.content.origin') AS origin,
        sum(json_extract(content, '$.content.value')) AS value, date(created_at) AS date
    FROM event WHERE source = 'Metrics' GROUP BY action, json_extract(content, '$.content.origin'), date(created_at);
CREATE VIEW IF NOT EXISTS metrics_per_day_and_client_type AS
    SELECT action AS counter_name, json_extract(content, '$.content.client_type') AS client_type,
        sum(json_extract(content, '$.content.value')) AS value, date(created_at) AS date
    FROM event WHERE source = 'Metrics'
    GROUP BY action, json_extract(content, '$.content.client_type'), date(created_at);
CREATE VIEW IF NOT EXISTS signer_registration_summary AS
    WITH newest AS (
        SELECT max(event_id), json_extract(content, '$.headers.epoch') AS epoch,
            json_extract(content, '$.headers.signer-node-version') AS version,
            json_extract(content, '$.content.stake') AS stake
        FROM event WHERE action = 'register_signer'
        GROUP BY json_extract(content, '$.headers.epoch'), json_extract(content, '$.content.party_id')
    ), whole AS (SELECT epoch, sum(stake) AS stakes FROM newest GROUP BY epoch)
    SELECT newest.epoch AS epoch, newest.version AS version, count(*) AS total_signers,
        whole.stakes AS total_epoch_stakes, sum(newest.stake) AS stakes_version,
        printf('%02d %%', round(100.0 * sum(newest.stake) / max(whole.stakes, 1))) AS stakes_ratio
    FROM newest JOIN whole ON whole.epoch = newest.epoch
    GROUP BY newest.epoch, newest.version ORDER BY CAST(newest.epoch AS integer) DESC, stakes_version DESC;
";

pub(super) struct Database {
    connection: Connection,
    days: u64,
    // The reference may have ids of text.
    has_text_ids: bool,
    rows: u64,
    rows_max: u64,
}

impl Database {
    pub(super) fn open(directory: &Path, days: u64) -> Result<Database> {
        std::fs::create_dir_all(directory)
            .map_err(|source| EventsError::Directory { path: directory.to_owned(), source })?;
        let path = directory.join(FILE);
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        prepare(&mut connection, &path)?;
        let has_text_ids = connection.query_row(
            "SELECT lower(type) LIKE '%text%' FROM pragma_table_info('event') WHERE name = 'event_id'",
            [],
            |row| row.get(0),
        )?;
        let rows = connection.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, i64>(0))?;
        Ok(Database { connection, days, has_text_ids, rows: rows.unsigned_abs(), rows_max: ROWS_MAX })
    }

    /// Whether something has to go.
    pub(super) fn is_full(&self) -> bool {
        self.rows > self.rows_max
    }

    pub(super) fn add(&mut self, events: &[Event]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let mut added = 0;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO event (event_id, created_at, source, action, content) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for event in events {
                if event.action == "register_signer" && is_told(&transaction, event)? {
                    continue;
                }
                let id = self.has_text_ids.then(|| uuid::Uuid::new_v4().to_string());
                let content = event.content.to_string();
                insert.execute((id, text::time(&event.at), event.source, &event.action, content))?;
                added += 1;
            }
        }
        transaction.commit()?;
        self.rows += added;
        Ok(())
    }

    /// Sums up, and forgets.
    pub(super) fn tidy(&mut self, now: DateTime<Utc>) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let today = now.format("%Y-%m-%d").to_string();
        let days: Vec<String> = transaction
            .prepare(
                "SELECT DISTINCT date(created_at) FROM event WHERE source = 'Metrics' AND created_at < ?1 \
                 AND json_extract(content, '$.content.duration.secs') < 86400 ORDER BY 1",
            )?
            .query_map([&today], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for day in &days {
            sum_up(&transaction, day, self.has_text_ids)?;
        }
        let days = i64::try_from(self.days).ok().and_then(TimeDelta::try_days);
        let oldest = days.and_then(|days| now.checked_sub_signed(days)).unwrap_or(DateTime::UNIX_EPOCH);
        transaction.execute("DELETE FROM event WHERE created_at < ?1", [text::time(&oldest)])?;
        let count = |db: &Connection| db.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, i64>(0));
        let mut rows = count(&transaction)?.unsigned_abs();
        if rows > self.rows_max {
            let freed = text::number(rows - self.rows_max + ROWS_FREED.min(self.rows_max / 10));
            transaction.execute(
                "DELETE FROM event WHERE rowid IN (SELECT rowid FROM event ORDER BY created_at LIMIT ?1)",
                [freed],
            )?;
            rows = count(&transaction)?.unsigned_abs();
        }
        transaction.commit()?;
        self.rows = rows;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn with_rows_max(mut self, rows_max: u64) -> Database {
        self.rows_max = rows_max;
        self
    }

    #[cfg(test)]
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    // The version first: a file of another program's future is not touched.
    let has_versions = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'db_version')",
        [],
        |row| row.get(0),
    )?;
    let found: Option<i64> = match has_versions {
        true => connection.query_row("SELECT max(version) FROM db_version", [], |row| row.get(0))?,
        false => None,
    };
    if let Some(found) = found.filter(|found| *found != VERSION) {
        return Err(EventsError::Version { path: path.to_owned(), found });
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction()?;
    if found.is_none() {
        transaction.execute_batch(TABLES)?;
        transaction.execute(
            "INSERT INTO db_version (application_type, version, updated_at) VALUES ('aggregator', ?1, ?2)",
            (VERSION, text::time(&Utc::now())),
        )?;
    }
    transaction.execute_batch(VIEWS)?;
    transaction.commit()?;
    Ok(())
}

/// Whether this registration is on record already, or too many others of the same party for the same epoch are.
fn is_told(db: &Connection, event: &Event) -> Result<bool> {
    let of = |pointer: &str| event.content.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
    let mut same = db.prepare_cached(
        "SELECT count(*), coalesce(max(event_id = (SELECT max(event_id) FROM event WHERE action = 'register_signer' \
             AND json_extract(content, '$.headers.epoch') = ?1 AND json_extract(content, '$.content.party_id') = ?2) \
             AND content = ?3), 0) \
         FROM event WHERE action = 'register_signer' \
         AND json_extract(content, '$.headers.epoch') = ?1 AND json_extract(content, '$.content.party_id') = ?2",
    )?;
    let (count, is_newest): (i64, bool) = same
        .query_row((of("/headers/epoch"), of("/content/party_id"), event.content.to_string()), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    Ok(is_newest || count >= REGISTRATIONS_MAX)
}

/// One row for each counter, origin and type of client in place of a day's reports.
fn sum_up(db: &Connection, day: &str, has_text_ids: bool) -> Result<()> {
    let id = if has_text_ids { "lower(hex(randomblob(16)))" } else { "NULL" };
    let of_day = "source = 'Metrics' AND created_at >= ?1 AND created_at < date(?1, '+1 day')";
    let last: i64 = db.query_row("SELECT coalesce(max(rowid), 0) FROM event", [], |row| row.get(0))?;
    db.execute(
        &format!(
            "INSERT INTO event (event_id, created_at, source, action, content) \
             SELECT {id}, ?1 || 'T00:00:00.000000000+00:00', 'Metrics', action, json_object('headers', json_object(), \
                 'content', json_object('value', sum(json_extract(content, '$.content.value')), \
                     'duration', json_object('secs', 86400, 'nanos', 0), \
                     'origin', json_extract(content, '$.content.origin'), \
                     'client_type', json_extract(content, '$.content.client_type'))) \
             FROM event WHERE {of_day} \
             GROUP BY action, json_extract(content, '$.content.origin'), json_extract(content, '$.content.client_type')"
        ),
        [day],
    )?;
    db.execute(&format!("DELETE FROM event WHERE rowid <= ?2 AND {of_day}"), (day, last))?;
    Ok(())
}
