//! The file of events: the reference's table and views, and what is kept for how long.
//!
//! Usage of a day that is over is summed up, one row for each counter, origin and type of client, in the form of the rows that it
//! stands for: the views tell the same sums, and a year of reports every ten seconds is some thousand rows. Only rows that this
//! program wrote are summed up: `semel_usage` lists those that wait for it. Nothing else is ever changed, and rows of any kind go
//! only when a retention is set and they are older.
//!
//! A stranger adds at most [`REGISTRATIONS_MAX`] rows for each pool and epoch, [`RESTORATIONS_MAX`] a day for restorations, and
//! [`USAGE_MAX`] of usage before they are summed up.

use super::{Event, REGISTRATION, RESTORATION, USAGE};
use crate::host::store::{Connection, text};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::types::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file in the directory of stores.
pub const FILE: &str = "monitoring.sqlite3";
/// Version of the reference's schema that this is.
pub const VERSION: i64 = 5;
/// The first version whose file can be gone on with: the next ones added views and an index.
const VERSION_MIN: i64 = 1;
/// Rows of usage that wait to be summed up: some 30 MB. More are summed up before their day is over.
pub(super) const USAGE_MAX: u64 = 100_000;
/// Restorations of a day that are kept: anybody can tell one, as often as he likes.
pub(super) const RESTORATIONS_MAX: u64 = 10_000;
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
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS metric_date_index ON event(date(json_extract(content, '$.content.date')));
CREATE INDEX IF NOT EXISTS semel_event_time ON event (created_at);
CREATE INDEX IF NOT EXISTS semel_event_registration ON event
    (json_extract(content, '$.headers.epoch'), json_extract(content, '$.content.party_id'))
    WHERE action = 'register_signer';
CREATE TABLE IF NOT EXISTS semel_usage (event_id NOT NULL PRIMARY KEY, day text NOT NULL);
CREATE INDEX IF NOT EXISTS semel_usage_day ON semel_usage (day);
";

/// The views of usage: name, what they tell beside the day, the counter and the sum.
const USAGE_VIEWS: [(&str, Option<&str>); 3] = [
    ("metrics_per_day", None),
    ("metrics_per_day_and_origin", Some("origin")),
    ("metrics_per_day_and_client_type", Some("client_type")),
];

/// Of several registrations of a pool for an epoch the last counts. Versions are told without what follows a plus.
const SIGNERS_VIEW: &str = "
CREATE VIEW signer_registration_summary AS
    WITH newest AS (
        SELECT max(rowid), CAST(json_extract(content, '$.headers.epoch') AS int) AS epoch,
            json_extract(content, '$.headers.signer-node-version') AS said,
            json_extract(content, '$.content.stake') AS stake
        FROM event WHERE action = 'register_signer'
        GROUP BY json_extract(content, '$.headers.epoch'), json_extract(content, '$.content.party_id')
    ), of_version AS (
        SELECT epoch, iif(instr(said, '+') > 0, substr(said, 1, instr(said, '+') - 1), said) AS version,
            sum(stake) AS stakes, count(*) AS pools
        FROM newest GROUP BY 1, 2
    ), whole AS (SELECT epoch, sum(stakes) AS stakes FROM of_version GROUP BY epoch)
    SELECT whole.epoch AS epoch, version, whole.stakes AS total_epoch_stakes, of_version.stakes AS stakes_version,
        printf('%02d %%', round(100.0 * of_version.stakes / whole.stakes)) AS stakes_ratio, pools AS pool_count
    FROM of_version JOIN whole ON whole.epoch = of_version.epoch
    ORDER BY 1 DESC, 2 DESC;
";

pub(super) struct Database {
    connection: Connection,
    days: Option<u64>,
    // The reference may have ids of text.
    has_text_ids: bool,
    // Rows that wait to be summed up.
    usage: u64,
    usage_max: u64,
    // A day, and the restorations of it that are kept.
    restorations: (String, u64),
}

impl Database {
    /// `days`: how long events are kept; none: for ever.
    pub(super) fn open(directory: &Path, days: Option<u64>) -> Result<Database> {
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
        let count = |sql: &str, of: &[&str]| -> Result<u64> {
            let count: i64 = connection.query_row(sql, rusqlite::params_from_iter(of), |row| row.get(0))?;
            Ok(count.unsigned_abs())
        };
        let usage = count("SELECT count(*) FROM semel_usage", &[])?;
        let today = day(&Utc::now());
        let sql = "SELECT count(*) FROM event WHERE created_at >= ?1 AND action = ?2";
        let restorations = count(sql, &[&today, RESTORATION])?;
        Ok(Database {
            connection,
            days,
            has_text_ids,
            usage,
            usage_max: USAGE_MAX,
            restorations: (today, restorations),
        })
    }

    /// Whether so much waits to be summed up that it cannot wait for its day to be over.
    pub(super) fn is_full(&self) -> bool {
        self.usage > self.usage_max
    }

    pub(super) fn add(&mut self, events: &[Event]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let (mut usage, mut restorations) = (0, self.restorations.clone());
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO event (event_id, created_at, source, action, content) VALUES (?1, ?2, ?3, ?4, ?5) \
                 RETURNING event_id",
            )?;
            let mut list = transaction.prepare_cached("INSERT INTO semel_usage (event_id, day) VALUES (?1, ?2)")?;
            for event in events {
                let day = day(&event.at);
                let is_left_out = match event.action.as_str() {
                    REGISTRATION => is_told(&transaction, event)?,
                    RESTORATION => !counts(&mut restorations, &day),
                    _ => false,
                };
                if is_left_out {
                    continue;
                }
                let id = self.has_text_ids.then(|| uuid::Uuid::new_v4().to_string());
                let content = event.content.to_string();
                let row = (id, text::time(&event.at), event.source, &event.action, content);
                let id: Value = insert.query_row(row, |row| row.get(0))?;
                if event.source == USAGE {
                    list.execute((id, day))?;
                    usage += 1;
                }
            }
        }
        transaction.commit()?;
        self.usage += usage;
        self.restorations = restorations;
        Ok(())
    }

    /// Sums up, and forgets.
    pub(super) fn tidy(&mut self, now: DateTime<Utc>) -> Result<()> {
        let is_full = self.is_full();
        let transaction = self.connection.transaction()?;
        let days: Vec<String> = transaction
            .prepare("SELECT DISTINCT day FROM semel_usage WHERE day < ?1 OR ?2 ORDER BY 1")?
            .query_map((day(&now), is_full), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for day in &days {
            sum_up(&transaction, day, self.has_text_ids)?;
        }
        if let Some(days) = self.days {
            let days = i64::try_from(days).ok().and_then(TimeDelta::try_days);
            let oldest = days.and_then(|days| now.checked_sub_signed(days)).unwrap_or(DateTime::UNIX_EPOCH);
            transaction.execute("DELETE FROM event WHERE created_at < ?1", [text::time(&oldest)])?;
        }
        let usage: i64 = transaction.query_row("SELECT count(*) FROM semel_usage", [], |row| row.get(0))?;
        transaction.commit()?;
        self.usage = usage.unsigned_abs();
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn with_usage_max(mut self, usage_max: u64) -> Database {
        self.usage_max = usage_max;
        self
    }

    #[cfg(test)]
    pub(super) fn rows(&self) -> u64 {
        let count: i64 = self.connection.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap();
        count.unsigned_abs()
    }
}

/// The day of a time, as SQLite writes it.
fn day(at: &DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}

/// Whether one more restoration is kept.
fn counts((of, count): &mut (String, u64), day: &str) -> bool {
    if of != day {
        (*of, *count) = (day.to_owned(), 0);
    }
    *count += 1;
    *count <= RESTORATIONS_MAX
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
    if let Some(found) = found.filter(|found| !(VERSION_MIN..=VERSION).contains(found)) {
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
    transaction.execute_batch(INDEXES)?;
    for (name, by) in USAGE_VIEWS {
        transaction.execute_batch(&format!("DROP VIEW IF EXISTS {name}; {}", usage_view(name, by)))?;
    }
    transaction.execute_batch("DROP VIEW IF EXISTS signer_registration_summary")?;
    transaction.execute_batch(SIGNERS_VIEW)?;
    transaction.execute(
        "UPDATE db_version SET version = ?1, updated_at = ?2 WHERE version < ?1",
        (VERSION, text::time(&Utc::now())),
    )?;
    transaction.commit()?;
    Ok(())
}

/// Sums of usage by day and counter, and perhaps one more field.
fn usage_view(name: &str, by: Option<&str>) -> String {
    let (shown, grouped) = match by {
        Some(field) => (format!("json_extract(content, '$.content.{field}') AS {field}, "), "1, 2, 3"),
        None => (String::new(), "1, 2"),
    };
    format!(
        "CREATE VIEW {name} AS SELECT date(json_extract(content, '$.content.date')) AS date, action AS counter_name, \
         {shown}sum(json_extract(content, '$.content.value')) AS value \
         FROM event WHERE source = '{USAGE}' GROUP BY {grouped};"
    )
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

/// One row for each counter, origin and type of client in place of those of a day that wait for it. The new ones wait no more.
fn sum_up(db: &Connection, day: &str, has_text_ids: bool) -> Result<()> {
    let id = if has_text_ids { "lower(hex(randomblob(16)))" } else { "NULL" };
    let of_day = "event_id IN (SELECT event_id FROM semel_usage WHERE day = ?1)";
    db.execute_batch("CREATE TEMP TABLE IF NOT EXISTS semel_sums (action, content); DELETE FROM temp.semel_sums")?;
    db.execute(
        &format!(
            "INSERT INTO temp.semel_sums \
             SELECT action, json_object('headers', json_object(), 'content', json_object('name', action, \
                 'value', sum(json_extract(content, '$.content.value')), \
                 'period', json_object('secs', 86400, 'nanos', 0), \
                 'origin', json_extract(content, '$.content.origin'), \
                 'client_type', json_extract(content, '$.content.client_type'), 'date', ?1 || 'T00:00:00Z')) \
             FROM event WHERE {of_day} \
             GROUP BY action, json_extract(content, '$.content.origin'), json_extract(content, '$.content.client_type')"
        ),
        [day],
    )?;
    db.execute(&format!("DELETE FROM event WHERE {of_day}"), [day])?;
    db.execute("DELETE FROM semel_usage WHERE day = ?1", [day])?;
    db.execute(
        &format!(
            "INSERT INTO event (event_id, created_at, source, action, content) \
             SELECT {id}, ?1 || 'T00:00:00.000000000+00:00', '{USAGE}', action, content FROM temp.semel_sums"
        ),
        [day],
    )?;
    Ok(())
}
