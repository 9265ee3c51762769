//! Digests of immutable files and the root over them.
//!
//! Spec: §4.1, §13 trap 19. Files are read in batches, each batch in parallel; what a batch gave is in the cache before the next
//! one begins, so that an end at any moment costs one batch.

use super::cache::{CachedDigest, DigestCache, Stamp};
use super::{ImmutableError, ImmutableFiles};
use mithril_common::crypto_helper::{MKTree, MKTreeStoreInMemory};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use semel_ops::shutdown::Stop;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Files per batch: 64 trios, about 3 GB on mainnet.
const BATCH: usize = 192;

/// Bytes read at once. Large enough that a spinning disk streams, small enough for the second level of cache.
const BUFFER_BYTES: usize = 256 * 1024;

/// What to do with the digests that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CachePolicy {
    /// Believe those whose files have not moved.
    #[default]
    Use,
    /// Forget all of them, then as `Use`. (`RESET_DIGESTS_CACHE`)
    Reset,
    /// Neither read nor write them. (`DISABLE_DIGESTS_CACHE`)
    Off,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Files whose digest is known.
    pub done: usize,
    /// Files in all.
    pub total: usize,
    /// Of those known, how many were read and not taken from the cache.
    pub computed: usize,
}

/// Digests of all files from number 0 to a beacon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// Name and SHA-256, ordered by (number, name).
    pub entries: Vec<(String, [u8; 32])>,
    /// How many were read and not taken from the cache.
    pub computed: usize,
}

impl Digests {
    /// Hexadecimal root of the Merkle tree over them: the message part `cardano_database_merkle_root`.
    ///
    /// # Errors
    /// When there are none.
    pub fn merkle_root(&self) -> Result<String, ImmutableError> {
        merkle_root(self.entries.iter().map(|(_, digest)| hex::encode(digest)))
    }
}

/// Root over digests in hexadecimal, in the order given.
///
/// # Errors
/// When there are none.
pub fn merkle_root(digests: impl IntoIterator<Item = String>) -> Result<String, ImmutableError> {
    let leaves: Vec<String> = digests.into_iter().collect();
    let failed = |why: mithril_common::StdError| ImmutableError::Tree(format!("{why:#}"));
    let tree: MKTree<MKTreeStoreInMemory> = MKTree::new(&leaves).map_err(failed)?;
    Ok(tree.compute_root().map_err(failed)?.to_hex())
}

/// Names of `entries`.
pub fn names(entries: &[(String, [u8; 32])]) -> Vec<String> {
    entries.iter().map(|(name, _)| name.clone()).collect()
}

/// Computes digests, in the pool of threads it is called in.
#[derive(Clone, Copy)]
pub struct Digester<'a> {
    /// Where digests are kept.
    pub cache: &'a dyn DigestCache,
    /// What to do with them.
    pub policy: CachePolicy,
    /// Pulled when there is no more time.
    pub stop: &'a Stop,
}

impl Digester<'_> {
    /// Digests of all files up to number `last`, in order.
    ///
    /// # Errors
    /// When a file is missing, changes or cannot be read, the cache fails, or the end has come.
    pub fn digests(
        &self,
        files: &ImmutableFiles,
        last: u64,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Digests, ImmutableError> {
        if self.policy == CachePolicy::Reset {
            self.cache.reset()?;
        }
        let names = files.complete_up_to(last)?;
        let mut found = Digests { entries: Vec::with_capacity(names.len()), computed: 0 };
        for batch in names.chunks(BATCH) {
            self.batch(files.directory(), batch, &mut found)?;
            progress(Progress { done: found.entries.len(), total: names.len(), computed: found.computed });
        }
        Ok(found)
    }

    fn batch(&self, directory: &Path, names: &[String], found: &mut Digests) -> Result<(), ImmutableError> {
        let kept = if self.policy == CachePolicy::Off { Default::default() } else { self.cache.get(names)? };
        let outcomes: Vec<(CachedDigest, bool)> =
            names.par_iter().map(|name| self.one(&directory.join(name), kept.get(name))).collect::<Result<_, _>>()?;
        let fresh: Vec<(String, CachedDigest)> = names
            .iter()
            .zip(&outcomes)
            .filter(|(name, (entry, _))| kept.get(*name) != Some(entry))
            .map(|(name, (entry, _))| (name.clone(), *entry))
            .collect();
        if self.policy != CachePolicy::Off && !fresh.is_empty() {
            self.cache.put(&fresh)?;
        }
        found.computed += outcomes.iter().filter(|(_, read)| *read).count();
        found.entries.extend(names.iter().cloned().zip(outcomes.into_iter().map(|(entry, _)| entry.digest)));
        Ok(())
    }

    /// The digest of one file and whether it was read for it.
    fn one(&self, path: &Path, kept: Option<&CachedDigest>) -> Result<(CachedDigest, bool), ImmutableError> {
        if self.stop.is_stopped() {
            return Err(ImmutableError::Stopped);
        }
        if let Some(kept) = kept {
            let stamp = Stamp::of(&fs::metadata(path).map_err(|why| read_failed(path, why))?);
            if kept.stamp.is_none_or(|then| then == stamp) {
                return Ok((CachedDigest { digest: kept.digest, stamp: Some(stamp) }, false));
            }
        }
        let (digest, stamp) = digest_file(path)?;
        Ok((CachedDigest { digest, stamp: Some(stamp) }, true))
    }
}

fn read_failed(path: &Path, why: std::io::Error) -> ImmutableError {
    if why.kind() == std::io::ErrorKind::NotFound {
        return ImmutableError::Missing(path.to_path_buf());
    }
    ImmutableError::Read { path: path.to_path_buf(), why }
}

/// SHA-256 of a file, and its stamp, which was the same before and after.
fn digest_file(path: &Path) -> Result<([u8; 32], Stamp), ImmutableError> {
    let failed = |why| read_failed(path, why);
    let mut file = File::open(path).map_err(failed)?;
    let before = Stamp::of(&file.metadata().map_err(failed)?);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(failed(why)),
        };
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
    let after = Stamp::of(&file.metadata().map_err(failed)?);
    if before != after {
        return Err(ImmutableError::Changed(path.to_path_buf()));
    }
    Ok((hasher.finalize().into(), before))
}
