//! The artifact of a certified Cardano database: what a client downloads to start a node, and the queue of artifacts to make.
//!
//! ```text
//! archive      one .tar.zst from files, hashed on its way in and on its way out
//! ledger       which ledger snapshots a node has
//! ancillary    what no signer vouches for: the growing trio and the ledger, with a signed manifest
//! database     ancillary → immutables → digests → the artifact, resumed where it stopped
//! upload       to a directory that we serve, or to a bucket
//! acl          what makes an uploaded file public in Google's
//! kms          the manifest's key in Google Cloud KMS
//! queue        what is still to be made, across restarts
//! ```
//!
//! Spec: §2 (CardanoDatabase item, locations), §4.4, §13 traps 19 to 22.
//!
//! A file in place is whole: it was written beside, hashed while it was written, synced, read back, and only then renamed. So an
//! end at any moment costs the archive that was under way. Sizes are bytes before compression, unless said otherwise.

mod acl;
mod ancillary;
mod archive;
mod database;
mod kms;
mod ledger;
mod remote;
mod upload;

pub use ancillary::{MANIFEST_NAME, ManifestKey, ManifestSigner, ManifestSigningError};
pub use archive::{Algorithm, Compression, Content, Packed, Source, pack, unpacked_size};
pub use database::{DatabaseMaker, Step};
pub use kms::CloudKms;
pub use ledger::{LedgerSnapshot, NodeVersion};
pub use remote::{Bucket, RemoteUploader, S3};
pub use upload::{Layout, LocalUploader, Part, UploadError, Uploader};

use super::immutable::ImmutableError;
use std::io;
use std::path::{Path, PathBuf};

/// Why an artifact was not made. Each can be tried again; what is in place by then is not made again.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The disk is full. What was half written is gone, what was whole stays.
    #[error("the disk is full while writing {}", .0.display())]
    DiskFull(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        #[source]
        why: io::Error,
    },
    /// A file is not what was certified.
    #[error("{} is not the file whose digest was certified", .0.display())]
    NotCertified(PathBuf),
    /// The digests have another root than the certificate.
    #[error("the digests have the Merkle root {ours}, and certified is {certified}")]
    OtherRoot {
        /// Root of the digests.
        ours: String,
        /// Root of the certificate.
        certified: String,
    },
    /// A file changed while it was packed.
    #[error("{} changed while it was packed", .0.display())]
    Changed(PathBuf),
    /// What was read back is not what was written.
    #[error("{} was not written as it was meant to be: the disk gives other bytes back", .0.display())]
    ReadBack(PathBuf),
    /// The node has no ledger snapshot that we recognise.
    #[error(
        "no ledger snapshot in {}: it must be a file, or a directory of the in-memory backend (utxohd-mem)", .0.display()
    )]
    NoLedger(PathBuf),
    /// The node's version is no version.
    #[error("{0:?} is not a version of cardano-node, such as 10.7.1")]
    NodeVersion(String),
    /// Immutable files.
    #[error(transparent)]
    Immutable(#[from] ImmutableError),
    /// The manifest could not be signed.
    #[error(transparent)]
    Signing(#[from] ManifestSigningError),
    /// No uploader works.
    #[error("nothing could be uploaded: {0}")]
    Upload(String),
    /// Somebody asked for the end.
    #[error("stopped")]
    Stopped,
    /// A structure cannot be written as JSON.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The pool of threads cannot be had.
    #[error("no threads: {0}")]
    Threads(String),
}

impl ArtifactError {
    /// An error of the file system at `path`.
    pub(crate) fn file(path: &Path, why: io::Error) -> ArtifactError {
        match why.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ArtifactError::DiskFull(path.to_path_buf()),
            _ => ArtifactError::File { path: path.to_path_buf(), why },
        }
    }
}
