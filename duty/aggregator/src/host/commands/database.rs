//! The databases, without a server.

use super::CommandError;
use crate::host::events::Events;
use crate::host::store::{Store, certificates};
use std::path::Path;

/// Brings the main database and that of events to the form of this version; gives the number of certificates in the first.
///
/// # Errors
/// A database cannot be read or written, or is of another version.
pub fn migrate(stores: &Path) -> Result<u64, CommandError> {
    let count = Store::open(stores)?.read(certificates::count)?;
    Events::migrate(stores)?;
    Ok(count)
}

/// Gives back what the main database no longer uses.
///
/// # Errors
/// The database cannot be read or written.
pub fn vacuum(stores: &Path) -> Result<(), CommandError> {
    Ok(Store::open(stores)?.vacuum()?)
}

/// Recomputes the hash of every certificate, oldest first; gives how many there are and how many changed.
///
/// # Errors
/// The database cannot be read or written.
pub fn recompute_certificates_hash(stores: &Path) -> Result<(u64, u64), CommandError> {
    let store = Store::open(stores)?;
    let counted = store.write(certificates::recompute_hashes)?;
    store.vacuum()?;
    Ok(counted)
}

/// Brings what a reference's database holds into ours, byte for byte; gives the number of certificates.
///
/// # Errors
/// A database cannot be read or written, ours is not empty, or theirs is older than can be read.
pub fn import(from: &Path, stores: &Path) -> Result<crate::host::store::import::Imported, CommandError> {
    Ok(crate::host::store::import::import(from, &Store::open(stores)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::events;
    use crate::host::store::{Connection, FILE};

    #[test]
    fn a_migration_makes_and_brings_along_both_databases() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(migrate(place.path()).unwrap(), 0);
        assert!(place.path().join(FILE).exists());
        let file = || Connection::open(place.path().join(events::FILE)).unwrap();
        let earlier = "UPDATE db_version SET version = 3; DROP VIEW metrics_per_day_and_origin";
        file().execute_batch(earlier).unwrap();
        migrate(place.path()).unwrap();
        let view = "SELECT count(*) FROM sqlite_master WHERE name = 'metrics_per_day_and_origin'";
        let count: i64 = file().query_row(view, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
        file().execute_batch("UPDATE db_version SET version = 6").unwrap();
        assert!(matches!(migrate(place.path()), Err(CommandError::Events(_))));
    }
}
