//! Where digests are kept between two beacons.
//!
//! The reference's table `immutable_file_digest(immutable_file_name, digest)` says nothing about the file that was read, so a
//! digest outlives a file that was replaced. A [`Stamp`] is therefore kept beside it, in a table of its own, so that the first
//! one stays compatible: `immutable_file_stamp(immutable_file_name, size, modified_ns)`. A digest whose file has another size
//! or time of modification now is computed anew. One without a stamp (imported from a reference database) is believed and
//! gets the stamp of today.

use super::ImmutableError;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

/// By what a file is recognised as the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Time of modification, nanoseconds since 1970.
    pub modified_ns: i64,
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(metadata: &Metadata) -> Stamp {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or_default();
        Stamp { size: metadata.len(), modified_ns }
    }
}

/// A digest and the file that it was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedDigest {
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// What the file looked like; none: nobody wrote it down.
    pub stamp: Option<Stamp>,
}

/// A durable map from file name to digest.
pub trait DigestCache: Send + Sync {
    /// What is kept of these names; a name that is not kept is left out.
    ///
    /// # Errors
    /// When it cannot be read.
    fn get(&self, names: &[String]) -> Result<BTreeMap<String, CachedDigest>, ImmutableError>;

    /// Keeps these, in place of what was kept under the same names.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put(&self, entries: &[(String, CachedDigest)]) -> Result<(), ImmutableError>;

    /// Forgets everything.
    ///
    /// # Errors
    /// When it cannot be written.
    fn reset(&self) -> Result<(), ImmutableError>;
}

/// A cache that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryCache(Mutex<BTreeMap<String, CachedDigest>>);

impl DigestCache for MemoryCache {
    fn get(&self, names: &[String]) -> Result<BTreeMap<String, CachedDigest>, ImmutableError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(names.iter().filter_map(|name| kept.get(name).map(|entry| (name.clone(), *entry))).collect())
    }

    fn put(&self, entries: &[(String, CachedDigest)]) -> Result<(), ImmutableError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(entries.iter().cloned());
        Ok(())
    }

    fn reset(&self) -> Result<(), ImmutableError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }
}
