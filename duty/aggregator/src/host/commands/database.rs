//! The databases, without a server.
//!
//! What writes holds the lock of the directory, and refuses one without a database; what only tells what would be done (`…_plan`)
//! takes no lock and writes nothing.

use super::CommandError;
use crate::host::events::{self, Events, EventsError};
use crate::host::store::import::{self, Imported};
use crate::host::store::{self, FILE, Store, StoreError, certificates};
use std::path::Path;

/// Brings the main database and that of events to the form of this version; gives the number of certificates in the first.
///
/// # Errors
/// A database is not there, is held, cannot be read or written, or is of another version.
pub fn migrate(stores: &Path) -> Result<u64, CommandError> {
    let store = Store::open_existing_alone(stores, "database migrate")?;
    Events::migrate(stores)?;
    Ok(store.read(certificates::count)?)
}

/// Version of the main database, number of certificates in it, and version of that of events; none where there is none.
pub type Versions = (Option<i64>, u64, Option<i64>);

/// What [`migrate`] would find.
///
/// # Errors
/// As there.
pub fn migrate_plan(stores: &Path) -> Result<Versions, CommandError> {
    let (db, main) = look(stores)?;
    let count = if main.is_some() { certificates::count(&db)? } else { 0 };
    let path = stores.join(events::FILE);
    let of_events = if path.is_file() { store::version(&store::read_only::look(&path)?)? } else { None };
    match of_events {
        Some(found) if found > events::VERSION => Err(EventsError::Version { path, found }.into()),
        _ => Ok((main, count, of_events)),
    }
}

/// The main database, only to look at, and its version, which is this program's.
fn look(stores: &Path) -> Result<(store::Connection, Option<i64>), CommandError> {
    let path = stores.join(FILE);
    let db = store::read_only::look(&path)?;
    match store::version(&db)? {
        Some(found) if found > store::VERSION => Err(StoreError::Newer { path, found }.into()),
        Some(found) if found < store::VERSION => Err(StoreError::Older { path, found }.into()),
        version => Ok((db, version)),
    }
}

/// Gives back what the main database no longer uses.
///
/// # Errors
/// The database is not there, is held, or cannot be read or written.
pub fn vacuum(stores: &Path) -> Result<(), CommandError> {
    Ok(Store::open_existing_alone(stores, "database vacuum")?.vacuum()?)
}

/// How many bytes the main database has, and how many of them [`vacuum`] would give back.
///
/// # Errors
/// As there.
pub fn vacuum_plan(stores: &Path) -> Result<(u64, u64), CommandError> {
    let (db, _) = look(stores)?;
    let number = |name: &str| -> Result<u64, StoreError> {
        let number: i64 = db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
        Ok(number.unsigned_abs())
    };
    let page = number("page_size")?;
    Ok((number("page_count")?.saturating_mul(page), number("freelist_count")?.saturating_mul(page)))
}

/// Recomputes the hash of every certificate, oldest first; gives how many there are and how many changed.
///
/// # Errors
/// The database is not there, is held, or cannot be read or written.
pub fn recompute_certificates_hash(stores: &Path) -> Result<(u64, u64), CommandError> {
    let store = Store::open_existing_alone(stores, "tools recompute-certificates-hash")?;
    let counted = store.write(certificates::recompute_hashes)?;
    store.vacuum()?;
    Ok(counted)
}

/// How many certificates there are, and how many hashes [`recompute_certificates_hash`] would change.
///
/// # Errors
/// As there.
pub fn recompute_plan(stores: &Path) -> Result<(u64, u64), CommandError> {
    match look(stores)? {
        (_, None) => Ok((0, 0)),
        (db, Some(_)) => {
            let (count, renamed) = certificates::wrong_hashes(&db)?;
            Ok((count, renamed.len() as u64))
        }
    }
}

/// Brings what a reference's database holds into ours, byte for byte.
///
/// # Errors
/// A database cannot be read or written, ours is held or not empty, or theirs is older than can be read.
pub fn import(from: &Path, stores: &Path) -> Result<Imported, CommandError> {
    Ok(import::import(from, stores)?)
}

/// What [`import()`] would bring in.
///
/// # Errors
/// As there.
pub fn import_plan(from: &Path, stores: &Path) -> Result<Imported, CommandError> {
    Ok(import::plan(from, stores)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::store::Connection;
    use crate::host::store::lock::Lock;

    #[test]
    fn a_migration_brings_along_both_databases() {
        let place = tempfile::tempdir().unwrap();
        drop(Store::open(place.path()).unwrap());
        assert_eq!(migrate(place.path()).unwrap(), 0);
        let file = || Connection::open(place.path().join(events::FILE)).unwrap();
        let earlier = "UPDATE db_version SET version = 3; DROP VIEW metrics_per_day_and_origin";
        file().execute_batch(earlier).unwrap();
        assert_eq!(migrate_plan(place.path()).unwrap(), (Some(store::VERSION), 0, Some(3)));
        let view = "SELECT count(*) FROM sqlite_master WHERE name = 'metrics_per_day_and_origin'";
        let views = || file().query_row(view, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(views(), 0);
        migrate(place.path()).unwrap();
        assert_eq!(views(), 1);
        file().execute_batch("UPDATE db_version SET version = 6").unwrap();
        assert!(matches!(migrate(place.path()), Err(CommandError::Events(_))));
        assert!(matches!(migrate_plan(place.path()), Err(CommandError::Events(_))));
    }

    /// What each command that needs a database says of a directory.
    fn each(stores: &Path) -> Vec<(&'static str, Result<(), CommandError>)> {
        vec![
            ("migrate", migrate(stores).map(drop)),
            ("vacuum", vacuum(stores)),
            ("recompute", recompute_certificates_hash(stores).map(drop)),
        ]
    }

    fn each_plan(stores: &Path) -> Vec<(&'static str, Result<(), CommandError>)> {
        vec![
            ("migrate", migrate_plan(stores).map(drop)),
            ("vacuum", vacuum_plan(stores).map(drop)),
            ("recompute", recompute_plan(stores).map(drop)),
        ]
    }

    #[test]
    fn a_directory_without_a_database_is_refused_and_stays_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        for stores in [place.path().to_owned(), place.path().join("typo")] {
            for (what, done) in each(&stores).into_iter().chain(each_plan(&stores)) {
                assert!(matches!(done, Err(CommandError::Store(StoreError::Absent { .. }))), "{what}");
            }
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn nobody_writes_databases_that_somebody_else_has_and_everybody_may_look() {
        let place = tempfile::tempdir().unwrap();
        let server = Store::open_alone(place.path(), "serve").unwrap();
        let whole = place.path().join("whole");
        drop(Store::open(&whole).unwrap());
        for (what, done) in each(place.path()).into_iter().chain([("import", import(&whole, place.path()).map(drop))]) {
            match done {
                Err(CommandError::Store(StoreError::Held { by, .. })) => {
                    assert!(by.contains("`serve`, process"), "{by}")
                }
                other => panic!("{what}: {other:?}"),
            }
        }
        for (what, done) in each_plan(place.path()) {
            assert!(done.is_ok(), "{what}: {done:?}");
        }
        drop(server);
        for (what, done) in each(place.path()) {
            assert!(done.is_ok(), "{what}: {done:?}");
        }
        drop(Lock::take(place.path(), "the next").unwrap());
    }

    #[test]
    fn looking_leaves_no_trace() {
        let place = tempfile::tempdir().unwrap();
        let from = tempfile::tempdir().unwrap();
        drop(Store::open(from.path()).unwrap());
        // A database that nobody has open.
        import(from.path(), place.path()).unwrap();
        let files = || {
            let entry = |entry: std::io::Result<std::fs::DirEntry>| {
                let path = entry.unwrap().path();
                (path.clone(), std::fs::read(path).unwrap())
            };
            std::fs::read_dir(place.path()).unwrap().map(entry).collect::<std::collections::BTreeMap<_, _>>()
        };
        let before = files();
        for (what, done) in each_plan(place.path()) {
            assert!(done.is_ok(), "{what}: {done:?}");
        }
        assert_eq!(files(), before);
        assert_eq!(vacuum_plan(place.path()).unwrap().0, before[&place.path().join(FILE)].len() as u64);
    }
}
