//! The immutable files of a Cardano node: which are complete, their digests, and the Merkle root that signers sign.
//!
//! ```text
//! files    list <db>/immutable → which numbers are complete, which file is missing
//! digest   SHA-256 of each file, in parallel, through a durable cache
//! cache    where digests are kept: what the database does, and a copy in memory
//! ```
//!
//! Layout: `<db>/immutable/NNNNN.{chunk,primary,secondary}`, a *trio* per number from 0 on, at least five decimal digits. The
//! node writes into the trio of the highest number only; every number below is *complete* and never changes again.
//! Leaves of the Merkle tree are the 64 hexadecimal characters of each file's SHA-256, ordered by (number, file name).
//! Up to number 99999 that is the order of the names too, which clients use.

mod cache;
mod digest;
mod files;

pub use cache::{CachedDigest, DigestCache, MemoryCache, Stamp};
pub use digest::{CachePolicy, Digester, Digests, Progress, merkle_root, names};
pub use files::{EXTENSIONS, ImmutableFiles, file_name, trio};

use std::io;
use std::path::PathBuf;

/// Why there is no digest or no root.
#[derive(Debug, thiserror::Error)]
pub enum ImmutableError {
    /// No directory of that name.
    #[error("there is no directory called immutable in {}", .0.display())]
    NoDirectory(PathBuf),
    /// Nothing is complete yet: there must be at least two trios.
    #[error("no immutable file is complete yet in {}", .0.display())]
    NothingComplete(PathBuf),
    /// A file that must be there is not.
    #[error("the immutable file {} is missing", .0.display())]
    Missing(PathBuf),
    /// A beacon is ahead of the node.
    #[error("immutable file number {wanted} is not complete yet: the last complete one is {last}")]
    Ahead {
        /// Number asked for.
        wanted: u64,
        /// Last complete number.
        last: u64,
    },
    /// A complete file changed while it was read.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// Reading failed.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// What went wrong.
        #[source]
        why: io::Error,
    },
    /// The cache failed.
    #[error("the cache of digests failed: {0}")]
    Cache(String),
    /// Somebody asked for the end.
    #[error("stopped")]
    Stopped,
    /// The tree could not be built.
    #[error("the Merkle tree of the digests cannot be built: {0}")]
    Tree(String),
}
