//! Digests of immutable files: the reference's table, and beside it what a file looked like when it was read.

use super::{Store, StoreError, entities, text};
use crate::host::immutable::{CachedDigest, DigestCache, ImmutableError, Stamp};
use rusqlite::OptionalExtension;
use std::collections::BTreeMap;

fn failed(error: StoreError) -> ImmutableError {
    ImmutableError::Cache(error.to_string())
}

impl DigestCache for Store {
    fn get(&self, names: &[String]) -> Result<BTreeMap<String, CachedDigest>, ImmutableError> {
        let found = self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT digest, size, modified_ns FROM immutable_file_digest \
                 LEFT JOIN semel_immutable_file_stamp USING (immutable_file_name) WHERE immutable_file_name = ?1",
            )?;
            let mut found = BTreeMap::new();
            for name in names {
                let row = statement
                    .query_row([name], |row| {
                        Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?))
                    })
                    .optional()?;
                // A digest that is none is computed again.
                let digest = row.as_ref().and_then(|(digest, ..)| <[u8; 32]>::try_from(hex::decode(digest).ok()?).ok());
                let (Some(digest), Some((_, size, modified))) = (digest, row) else { continue };
                let stamp = match (size.map(text::unsigned).transpose()?, modified) {
                    (Some(size), Some(modified_ns)) => Some(Stamp { size, modified_ns }),
                    _ => None,
                };
                found.insert(name.clone(), CachedDigest { digest, stamp });
            }
            Ok(found)
        });
        found.map_err(failed)
    }

    fn put(&self, entries: &[(String, CachedDigest)]) -> Result<(), ImmutableError> {
        let entries = entries.to_vec();
        let kept = self.write(move |db| {
            let mut digests = db.prepare_cached(
                "INSERT OR REPLACE INTO immutable_file_digest (immutable_file_name, digest) VALUES (?1, ?2)",
            )?;
            let mut stamps = db.prepare_cached(
                "INSERT OR REPLACE INTO semel_immutable_file_stamp (immutable_file_name, size, modified_ns) \
                 VALUES (?1, ?2, ?3)",
            )?;
            for (name, entry) in &entries {
                digests.execute((name, hex::encode(entry.digest)))?;
                if let Some(stamp) = entry.stamp {
                    stamps.execute((name, text::number(stamp.size), stamp.modified_ns))?;
                }
            }
            Ok(())
        });
        kept.map_err(failed)
    }

    fn reset(&self) -> Result<(), ImmutableError> {
        self.write(|db| {
            db.execute("DELETE FROM semel_immutable_file_stamp", [])?;
            entities::forget_digests(db)
        })
        .map_err(failed)
    }
}
