//! Bringing a reference's database into ours.
//!
//! Rows are copied as they are, byte for byte, with the columns that both have; a certificate's hash depends on every one of its
//! texts. What the reference keeps only while an epoch lasts (open messages and their signatures) is made again.

use super::{Result, Store, StoreError, schema};
use std::path::{Path, PathBuf};

/// The oldest version whose rows are understood.
pub const VERSION_MIN: i64 = 29;

/// Tables that are copied, in an order in which nothing refers to what comes later.
const TABLES: [&str; 7] = [
    "signer",
    "epoch_setting",
    "signer_registration",
    "stake_pool",
    "certificate",
    "signed_entity",
    "immutable_file_digest",
];

/// What was brought in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Version of the database that it came from.
    pub version: i64,
    /// Rows by table.
    pub rows: Vec<(String, u64)>,
}

/// Copies what the database at `from` holds into `store`, which must be empty. Theirs is only read.
///
/// # Errors
/// When ours is not empty, theirs is none or of a version that is not known, or a row does not fit.
pub fn import(from: &Path, store: &Store) -> Result<Imported> {
    let path: PathBuf = if from.is_dir() { from.join(super::FILE) } else { from.to_owned() };
    let source = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let version = schema::version(&source)?
        .ok_or_else(|| StoreError::value("a database of an aggregator", "it has no version"))?;
    match version {
        found if found > schema::VERSION => return Err(StoreError::Newer { path, found }),
        found if found < VERSION_MIN => return Err(StoreError::Older { path, found }),
        _ => {}
    }
    drop(source);
    let name = path.to_str().ok_or_else(|| StoreError::value("a path", "it is no text"))?.to_owned();
    // Attaching is not possible inside a transaction.
    store.outside(move |db| {
        db.execute("ATTACH DATABASE ?1 AS reference", [&format!("file:{name}?mode=ro")])
            .or_else(|_| db.execute("ATTACH DATABASE ?1 AS reference", [&name]))?;
        let copied = copy(db);
        db.execute_batch("DETACH DATABASE reference")?;
        Ok(Imported { version, rows: copied? })
    })
}

fn copy(db: &rusqlite::Connection) -> Result<Vec<(String, u64)>> {
    let is_empty: bool = db.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM main.certificate) AND NOT EXISTS (SELECT 1 FROM main.epoch_setting)",
        [],
        |row| row.get(0),
    )?;
    if !is_empty {
        return Err(StoreError::value("an empty database", "it holds certificates or epochs already"));
    }
    db.execute_batch("BEGIN IMMEDIATE")?;
    let copied =
        TABLES.iter().map(|table| Ok(((*table).to_owned(), copy_table(db, table)?))).collect::<Result<Vec<_>>>();
    db.execute_batch(if copied.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    copied
}

fn copy_table(db: &rusqlite::Connection, table: &str) -> Result<u64> {
    let columns = |schema: &str| -> Result<Vec<String>> {
        // A generated column is hidden from this list.
        let mut statement = db.prepare(&format!("SELECT name FROM pragma_table_info('{table}', '{schema}')"))?;
        let names = statement.query_map([], |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    };
    let theirs = columns("reference")?;
    let both: Vec<String> = columns("main")?.into_iter().filter(|name| theirs.contains(name)).collect();
    if both.is_empty() {
        return Ok(0);
    }
    let list = both.join(", ");
    let copied = db.execute(
        &format!("INSERT OR IGNORE INTO main.{table} ({list}) SELECT {list} FROM reference.{table} ORDER BY rowid"),
        [],
    )?;
    Ok(copied as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::store::{certificates, epochs};

    #[test]
    fn what_a_reference_holds_comes_over_byte_for_byte_and_only_once() {
        let place = tempfile::tempdir().unwrap();
        let reference = place.path().join("reference.sqlite3");
        let db = rusqlite::Connection::open(&reference).unwrap();
        // The texts are not ours to judge: spaces and orders of keys stay.
        db.execute_batch(
            "CREATE TABLE db_version (application_type text, version integer, updated_at text);
             INSERT INTO db_version VALUES ('aggregator', 39, 'x');
             CREATE TABLE epoch_setting (epoch_setting_id integer PRIMARY KEY, protocol_parameters json NOT NULL);
             INSERT INTO epoch_setting VALUES (7, '{\"k\": 5,  \"m\":100,\"phi_f\":0.7}');
             CREATE TABLE certificate (certificate_id text PRIMARY KEY, parent_certificate_id text, message text NOT NULL,
               signature text NOT NULL, aggregate_verification_key text NOT NULL, epoch integer NOT NULL, network text NOT NULL,
               signed_entity_type_id integer NOT NULL, signed_entity_beacon json NOT NULL, protocol_version text NOT NULL,
               protocol_parameters json NOT NULL, protocol_message json NOT NULL, signers json NOT NULL,
               initiated_at text NOT NULL, sealed_at text NOT NULL);
             INSERT INTO certificate VALUES ('h', NULL, 'm', 's', 'a', 7, 'preview', 0, '7', '0.1.0', '{ }', '{}', '[ ]', 't', 'u');",
        )
        .unwrap();
        drop(db);
        let store = Store::open(&place.path().join("stores")).unwrap();
        let imported = import(&reference, &store).unwrap();
        assert_eq!(imported.version, 39);
        assert_eq!(store.read(certificates::count).unwrap(), 1);
        assert_eq!(
            store.read(|db| epochs::settings(db, mithril_common::entities::Epoch(7))).unwrap().unwrap().parameters.k,
            5
        );
        let signers: String =
            store.read(|db| Ok(db.query_row("SELECT signers FROM certificate", [], |row| row.get(0))?)).unwrap();
        assert_eq!(signers, "[ ]");
        assert!(import(&reference, &store).is_err());
    }

    #[test]
    fn versions_that_are_not_known_are_refused() {
        let place = tempfile::tempdir().unwrap();
        for (version, is_newer) in [(28, false), (45, true)] {
            let path = place.path().join(format!("{version}.sqlite3"));
            let db = rusqlite::Connection::open(&path).unwrap();
            db.execute_batch(&format!(
                "CREATE TABLE db_version (application_type text, version integer, updated_at text);
                 INSERT INTO db_version VALUES ('aggregator', {version}, 'x');"
            ))
            .unwrap();
            drop(db);
            let store = Store::open(&place.path().join("stores")).unwrap();
            match import(&path, &store).unwrap_err() {
                StoreError::Newer { .. } => assert!(is_newer),
                StoreError::Older { .. } => assert!(!is_newer),
                other => panic!("{other}"),
            }
        }
        let newer = place.path().join("newer");
        std::fs::create_dir(&newer).unwrap();
        std::fs::rename(place.path().join("45.sqlite3"), newer.join(super::super::FILE)).unwrap();
        assert!(matches!(Store::open(&newer), Err(StoreError::Newer { found: 45, .. })));
    }
}
