//! Bringing a reference's database into ours.
//!
//! Rows are copied as they are, byte for byte, with the columns that both have; a certificate's hash depends on every one of its
//! texts. What the reference keeps only while an epoch lasts (open messages and their signatures) is made again.
//!
//! Left out is what nobody of today can verify, as the reference deletes it on its way to version 44: certificates of whole
//! snapshots of immutable files (type 2), those of blocks and transactions without an offset in their beacon (type 5, before
//! version 42), whatever continues one of these, and their artifacts. So every certificate that comes over leads to its genesis.
//! A database with certificates of another proof system (SNARK) is refused: these could be neither verified nor given whole.

use super::lock::Lock;
use super::{Result, StoreError, certificates, schema, text};
use std::path::{Path, PathBuf};

/// The oldest version whose rows are understood.
pub const VERSION_MIN: i64 = 29;

/// From this version on, beacons of blocks and transactions have an offset.
const VERSION_OF_OFFSETS: i64 = 42;

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
    /// Certificates that were left out, because nobody can verify them any more.
    pub certificates_left_out: u64,
    /// Their artifacts.
    pub artifacts_left_out: u64,
}

/// Name of a database that is being filled; it gets its own when all is in it.
const HALF: &str = "aggregator.sqlite3.import";

/// Copies what the database at `from` holds into the one of `directory`, which is made, or must be empty. Theirs is only read. What
/// fails leaves everything as it was, and an interruption at most a file that the next run takes away.
///
/// # Errors
/// When ours is not empty or held by somebody, theirs is none or of a version that is not known, or a row does not fit.
pub fn import(from: &Path, directory: &Path) -> Result<Imported> {
    let (path, version) = source(from)?;
    let made = make(directory)?;
    let lock = Lock::take(directory, "database import")?;
    let imported = fill(&path, version, directory);
    if imported.is_err() {
        lock.leave_nothing();
        // Deepest first; none that holds something.
        made.iter().for_each(|made| drop(std::fs::remove_dir(made)));
    }
    imported
}

/// What [`import`] would bring in. Writes nothing, and takes no lock.
///
/// # Errors
/// As there.
pub fn plan(from: &Path, directory: &Path) -> Result<Imported> {
    let (path, version) = source(from)?;
    let target = directory.join(super::FILE);
    if target.exists() {
        let ours = super::read_only::look(&target)?;
        if schema::check(&ours, &target)?.is_some() && !is_empty(&ours)? {
            return Err(StoreError::NotEmpty { path: directory.to_owned() });
        }
    }
    let db = schema::in_memory()?;
    attach(&db, &path)?;
    refuse_snark(&db)?;
    leave_out(&db, version)?;
    let rows = |table: &'static str| -> Result<(String, u64)> {
        let Some((_, kept)) = shared(&db, table)? else { return Ok((table.to_owned(), 0)) };
        let sql = format!("SELECT count(*) FROM reference.{table} WHERE {kept}");
        Ok((table.to_owned(), text::unsigned(db.query_row(&sql, [], |row| row.get(0))?)?))
    };
    let rows = TABLES.into_iter().map(rows).collect::<Result<_>>()?;
    let (certificates_left_out, artifacts_left_out) = left_out(&db)?;
    Ok(Imported { version, rows, certificates_left_out, artifacts_left_out })
}

/// Their file and its version.
fn source(from: &Path) -> Result<(PathBuf, i64)> {
    let path: PathBuf = if from.is_dir() { from.join(super::FILE) } else { from.to_owned() };
    if !path.is_file() {
        return Err(StoreError::Absent { path });
    }
    let source = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let version = schema::version(&source)?
        .ok_or_else(|| StoreError::value("a database of an aggregator", "it has no version"))?;
    match version {
        found if found > schema::VERSION => Err(StoreError::Newer { path, found }),
        found if found < VERSION_MIN => Err(StoreError::Older { path, found }),
        _ => Ok((path, version)),
    }
}

/// Makes a directory with those above it; gives the ones that were not there, deepest first.
fn make(directory: &Path) -> Result<Vec<PathBuf>> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<_> = directory.ancestors().take_while(is_missing).map(Path::to_owned).collect();
    std::fs::create_dir_all(directory)
        .map_err(|source| StoreError::Directory { path: directory.to_owned(), source })?;
    Ok(missing)
}

/// Fills the database that is there in one transaction, or one beside its place that is put there when it is whole.
fn fill(from: &Path, version: i64, directory: &Path) -> Result<Imported> {
    let target = directory.join(super::FILE);
    if target.exists() {
        let mut db = super::connect(&target)?;
        schema::prepare(&mut db, &target)?;
        return bring(&db, from, version, directory);
    }
    let half = directory.join(HALF);
    remove(&half);
    let filled = fill_new(from, version, directory, &half, &target);
    if filled.is_err() {
        remove(&half);
    }
    filled
}

fn fill_new(from: &Path, version: i64, directory: &Path, half: &Path, target: &Path) -> Result<Imported> {
    let mut db = super::connect(half)?;
    schema::prepare(&mut db, half)?;
    let imported = bring(&db, from, version, directory)?;
    // Closing empties the log into the file and removes it.
    db.close().map_err(|(_, error)| error)?;
    let placed = std::fs::rename(half, target).and_then(|()| std::fs::File::open(directory)?.sync_all());
    placed.map_err(|source| StoreError::Directory { path: target.to_owned(), source })?;
    Ok(imported)
}

/// Takes a half-filled database away, with what SQLite puts beside it.
fn remove(half: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut path = half.as_os_str().to_owned();
        path.push(suffix);
        let _not_there = std::fs::remove_file(path);
    }
}

fn attach(db: &rusqlite::Connection, from: &Path) -> Result<()> {
    let name = from.to_str().ok_or_else(|| StoreError::value("a path", "it is no text"))?;
    db.execute("ATTACH DATABASE ?1 AS reference", [&format!("file:{name}?mode=ro")])
        .or_else(|_| db.execute("ATTACH DATABASE ?1 AS reference", [name]))?;
    Ok(())
}

fn bring(db: &rusqlite::Connection, from: &Path, version: i64, directory: &Path) -> Result<Imported> {
    if !is_empty(db)? {
        return Err(StoreError::NotEmpty { path: directory.to_owned() });
    }
    // Attaching is not possible inside a transaction.
    attach(db, from)?;
    refuse_snark(db)?;
    db.execute_batch("BEGIN IMMEDIATE")?;
    let copied = copy_all(db, version);
    db.execute_batch(if copied.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    let copied = copied?;
    db.execute_batch("DETACH DATABASE reference")?;
    Ok(copied)
}

fn is_empty(db: &rusqlite::Connection) -> Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM main.certificate) AND NOT EXISTS (SELECT 1 FROM main.epoch_setting)";
    Ok(db.query_row(sql, [], |row| row.get(0))?)
}

fn refuse_snark(db: &rusqlite::Connection) -> Result<()> {
    match has_snark(db)? {
        true => Err(StoreError::value(
            "a database that can be taken over",
            "it holds SNARK certificates, which this version can neither verify nor serve",
        )),
        false => Ok(()),
    }
}

fn copy_all(db: &rusqlite::Connection, version: i64) -> Result<Imported> {
    leave_out(db, version)?;
    let rows = TABLES.iter().map(|table| Ok(((*table).to_owned(), copy_table(db, table)?))).collect::<Result<_>>()?;
    let (certificates_left_out, artifacts_left_out) = left_out(db)?;
    db.execute_batch("DROP TABLE temp.left_out")?;
    Ok(Imported { version, rows, certificates_left_out, artifacts_left_out })
}

/// How many certificates and artifacts stay where they are.
fn left_out(db: &rusqlite::Connection) -> Result<(u64, u64)> {
    let count = |table: &str| -> Result<u64> {
        let sql = format!("SELECT count(*) FROM reference.{table} WHERE certificate_id IN temp.left_out");
        let has_table = !columns(db, "reference", table)?.is_empty();
        if has_table { text::unsigned(db.query_row(&sql, [], |row| row.get(0))?) } else { Ok(0) }
    };
    Ok((count("certificate")?, count("signed_entity")?))
}

/// Lists the certificates that stay where they are.
fn leave_out(db: &rusqlite::Connection, version: i64) -> Result<()> {
    db.execute_batch("CREATE TEMP TABLE left_out (certificate_id text NOT NULL PRIMARY KEY)")?;
    if columns(db, "reference", "certificate")?.is_empty() {
        return Ok(());
    }
    db.execute(
        "INSERT INTO temp.left_out
         WITH RECURSIVE gone (id) AS (
             SELECT certificate_id FROM reference.certificate
             WHERE signed_entity_type_id = 2 OR signed_entity_type_id = 5 AND ?1
             UNION
             SELECT next.certificate_id FROM gone CROSS JOIN reference.certificate AS next
             WHERE next.parent_certificate_id = gone.id
         )
         SELECT id FROM gone",
        [version < VERSION_OF_OFFSETS],
    )?;
    Ok(())
}

fn has_snark(db: &rusqlite::Connection) -> Result<bool> {
    let theirs = columns(db, "reference", "certificate")?;
    if theirs.is_empty() {
        return Ok(false);
    }
    let parts = certificates::SNARK_COLUMNS.iter().filter(|name| theirs.iter().any(|column| column == *name));
    let conditions: Vec<_> = parts.map(|name| format!("{name} IS NOT NULL")).collect();
    let conditions = [conditions, vec![certificates::HAS_TWO_SIGNATURES.to_owned()]].concat().join(" OR ");
    let sql = format!("SELECT EXISTS (SELECT 1 FROM reference.certificate WHERE {conditions})");
    Ok(db.query_row(&sql, [], |row| row.get(0))?)
}

/// Names of a table's columns; none, when there is no such table. A generated column is hidden from this list.
fn columns(db: &rusqlite::Connection, schema: &str, table: &str) -> Result<Vec<String>> {
    let mut statement = db.prepare(&format!("SELECT name FROM pragma_table_info('{table}', '{schema}')"))?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

fn copy_table(db: &rusqlite::Connection, table: &str) -> Result<u64> {
    let Some((list, kept)) = shared(db, table)? else { return Ok(0) };
    let sql = format!(
        "INSERT OR IGNORE INTO main.{table} ({list}) SELECT {list} FROM reference.{table} WHERE {kept} ORDER BY rowid"
    );
    Ok(db.execute(&sql, [])? as u64)
}

/// Columns that both have, and which rows come over; none, when there are no such columns.
fn shared(db: &rusqlite::Connection, table: &str) -> Result<Option<(String, &'static str)>> {
    let theirs = columns(db, "reference", table)?;
    let both: Vec<String> = columns(db, "main", table)?.into_iter().filter(|name| theirs.contains(name)).collect();
    let kept = match table {
        "certificate" | "signed_entity" => "certificate_id NOT IN temp.left_out",
        _ => "true",
    };
    Ok((!both.is_empty()).then(|| (both.join(", "), kept)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::store::{Store, entities, epochs};
    use mithril_common::entities::SignedEntityTypeDiscriminants as Kind;

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
        let stores = place.path().join("stores");
        let planned = plan(&reference, &stores).unwrap();
        assert!(!stores.exists());
        let imported = import(&reference, &stores).unwrap();
        assert_eq!(imported, planned);
        let store = Store::open(&stores).unwrap();
        assert_eq!(imported.version, 39);
        assert_eq!(store.read(certificates::count).unwrap(), 1);
        assert_eq!(
            store.read(|db| epochs::settings(db, mithril_common::entities::Epoch(7))).unwrap().unwrap().parameters.k,
            5
        );
        let signers: String =
            store.read(|db| Ok(db.query_row("SELECT signers FROM certificate", [], |row| row.get(0))?)).unwrap();
        assert_eq!(signers, "[ ]");
        for refused in [import(&reference, &stores), plan(&reference, &stores)] {
            assert!(matches!(refused, Err(StoreError::NotEmpty { .. })));
        }
    }

    #[test]
    fn an_empty_database_is_filled_where_it_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("reference.sqlite3");
        drop(reference(&path, 44, &[("genesis", None, 0, "6")]));
        let stores = place.path().join("stores");
        drop(Store::open(&stores).unwrap());
        let planned = plan(&path, &stores).unwrap();
        assert_eq!(import(&path, &stores).unwrap(), planned);
        assert_eq!(hashes(&Store::open(&stores).unwrap(), "certificate"), ["genesis"]);
    }

    #[test]
    fn what_fails_leaves_nothing_and_the_next_run_fails_or_succeeds_like_the_first() {
        let place = tempfile::tempdir().unwrap();
        let stores = place.path().join("new/stores");
        let path = place.path().join("reference.sqlite3");
        assert!(matches!(import(&path, &stores), Err(StoreError::Absent { .. })));
        std::fs::write(&path, "this is no database, however long it is").unwrap();
        assert!(matches!(import(&path, &stores), Err(StoreError::Sqlite(_))));
        std::fs::remove_file(&path).unwrap();
        // A row that does not fit, after others that do.
        let db = reference(&path, 44, &[("genesis", None, 0, "6"), ("torn", Some("nobody"), 0, "7")]);
        for _ in 0..2 {
            assert!(matches!(import(&path, &stores), Err(StoreError::Sqlite(_))));
            assert!(!place.path().join("new").exists());
        }
        // Nor where the directory was there before, with a half-filled file of a run that was ended.
        std::fs::create_dir_all(&stores).unwrap();
        std::fs::write(stores.join(HALF), "half").unwrap();
        assert!(import(&path, &stores).is_err());
        assert_eq!(std::fs::read_dir(&stores).unwrap().count(), 0);
        db.execute("DELETE FROM signed_entity WHERE certificate_id = 'torn'", []).unwrap();
        db.execute("DELETE FROM certificate WHERE certificate_id = 'torn'", []).unwrap();
        import(&path, &stores).unwrap();
        assert_eq!(hashes(&Store::open(&stores).unwrap(), "certificate"), ["genesis"]);
    }

    /// A database of a reference: certificates as (hash, parent, type, beacon), each with an artifact.
    fn reference(path: &Path, version: i64, rows: &[(&str, Option<&str>, i64, &str)]) -> rusqlite::Connection {
        let db = rusqlite::Connection::open(path).unwrap();
        db.execute_batch(&format!(
            "CREATE TABLE db_version (application_type text, version integer, updated_at text);
             INSERT INTO db_version VALUES ('aggregator', {version}, 'x');
             CREATE TABLE epoch_setting (epoch_setting_id integer PRIMARY KEY, protocol_parameters json NOT NULL);
             CREATE TABLE certificate (certificate_id text PRIMARY KEY, parent_certificate_id text, message text NOT NULL,
               signature text NOT NULL, aggregate_verification_key text NOT NULL, epoch integer NOT NULL, network text NOT NULL,
               signed_entity_type_id integer NOT NULL, signed_entity_beacon json NOT NULL, protocol_version text NOT NULL,
               protocol_parameters json NOT NULL, protocol_message json NOT NULL, signers json NOT NULL,
               initiated_at text NOT NULL, sealed_at text NOT NULL, aggregate_verification_key_snark text);
             CREATE TABLE signed_entity (signed_entity_id text PRIMARY KEY, signed_entity_type_id integer NOT NULL,
               certificate_id text NOT NULL, beacon json NOT NULL, created_at text NOT NULL, artifact json NOT NULL);"
        ))
        .unwrap();
        for (hash, parent, kind, beacon) in rows {
            db.execute(
                "INSERT INTO certificate VALUES (?1, ?2, 'm', 's', 'a', 7, 'preview', ?3, ?4, '0.1.0', '{}', '{}', '[]', \
                 't', 'u', NULL)",
                (hash, parent, kind, beacon),
            )
            .unwrap();
            let created_at = text::time(&chrono::Utc::now());
            db.execute(
                "INSERT INTO signed_entity VALUES ('of ' || ?1, ?2, ?1, ?3, ?4, '{}')",
                (hash, kind, beacon, created_at),
            )
            .unwrap();
        }
        db
    }

    fn hashes(store: &Store, table: &str) -> Vec<String> {
        let sql = format!("SELECT certificate_id FROM {table} ORDER BY certificate_id");
        let found = store.read(|db| {
            let mut statement = db.prepare(&sql)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        });
        found.unwrap()
    }

    #[test]
    fn what_nobody_can_verify_any_more_stays_behind_with_all_that_continues_it() {
        let snapshot = r#"{"network":"preview","epoch":7,"immutable_file_number":5}"#;
        let (bare, offset) =
            (r#"{"epoch":7,"block_number":9}"#, r#"{"epoch":7,"block_number":9,"block_number_offset":3}"#);
        for (version, blocks, kept, left_out) in [
            (41, bare, &["genesis", "stakes", "transactions"][..], 4),
            (42, offset, &["blocks", "genesis", "stakes", "transactions"], 3),
        ] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("reference.sqlite3");
            let rows = [
                ("genesis", None, 0, "6"),
                ("stakes", Some("genesis"), 0, "7"),
                ("snapshot", Some("stakes"), 2, snapshot),
                ("blocks", Some("stakes"), 5, blocks),
                ("transactions", Some("stakes"), 3, bare),
                // Nobody who cannot read the snapshot's certificate gets from these to the genesis.
                ("after the snapshot", Some("snapshot"), 0, "8"),
                ("long after", Some("after the snapshot"), 1, "9"),
            ];
            drop(reference(&path, version, &rows));
            let stores = place.path().join("stores");
            let planned = plan(&path, &stores).unwrap();
            let imported = import(&path, &stores).unwrap();
            assert_eq!(imported, planned);
            let store = Store::open(&stores).unwrap();
            assert_eq!((imported.certificates_left_out, imported.artifacts_left_out), (left_out, left_out));
            assert_eq!(hashes(&store, "certificate"), kept);
            assert_eq!(hashes(&store, "signed_entity"), kept);
            let kind = Kind::CardanoBlocksTransactions;
            let found = store.read(|db| entities::latest(db, kind, 9)).unwrap().len();
            assert_eq!(found, usize::from(version == 42));
        }
    }

    #[test]
    fn a_database_with_certificates_of_another_proof_system_is_refused() {
        for change in ["aggregate_verification_key_snark = '00'", "signature = '{\"ed25519\":\"\"}'"] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("reference.sqlite3");
            let db = reference(&path, 41, &[("genesis", None, 0, "6")]);
            db.execute(&format!("UPDATE certificate SET {change}"), []).unwrap();
            drop(db);
            let stores = place.path().join("stores");
            for refused in [plan(&path, &stores), import(&path, &stores)] {
                let refused = refused.unwrap_err().to_string();
                assert!(refused.contains("SNARK"), "{refused}");
            }
            assert!(!stores.exists());
        }
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
            match import(&path, &place.path().join("stores")).unwrap_err() {
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
