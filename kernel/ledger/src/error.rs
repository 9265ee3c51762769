//! What can go wrong with a ledger, each with a stable code and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// A ledger that cannot be opened or used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct LedgerError {
    /// The file or directory it is about.
    pub path: PathBuf,
    /// What is wrong.
    #[source]
    pub kind: LedgerErrorKind,
}

/// What is wrong with a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerErrorKind {
    /// A disk operation failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another process has the key.
    #[error("another process on this host signs with key {key} for {chain}{holder}")]
    KeyInUse {
        /// The key.
        key: String,
        /// Its chain.
        chain: String,
        /// The process, as `, process 4711: semel kms start`, where the kernel tells.
        holder: String,
    },
    /// The records do not form an unbroken chain up to what was acknowledged.
    #[error("damaged: {0}")]
    Damaged(String),
    /// Made on another host.
    #[error("this ledger belongs to another host (it has {stored}, this host is {present})")]
    OtherHost {
        /// Fingerprint in the ledger.
        stored: String,
        /// Fingerprint of this host.
        present: String,
    },
    /// The file system forgets, or cannot lock.
    #[error("a ledger on {0} can be lost or shared without a lock")]
    Filesystem(String),
    /// Owner or mode lets somebody else write it.
    #[error("{0}")]
    Permissions(String),
    /// Too many volumes, keys or records.
    #[error("{0}")]
    Limit(String),
    /// The file is of another version of this program.
    #[error("format version {0} is not known here")]
    Version(u32),
}

impl LedgerError {
    pub(crate) fn at(path: &Path, kind: impl Into<LedgerErrorKind>) -> Self {
        Self { path: path.into(), kind: kind.into() }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self.kind {
            LedgerErrorKind::Io(_) => "LEDGER-0001",
            LedgerErrorKind::KeyInUse { .. } => "LEDGER-0002",
            LedgerErrorKind::Damaged(_) => "LEDGER-0003",
            LedgerErrorKind::OtherHost { .. } => "LEDGER-0004",
            LedgerErrorKind::Filesystem(_) => "LEDGER-0005",
            LedgerErrorKind::Permissions(_) => "LEDGER-0006",
            LedgerErrorKind::Limit(_) => "LEDGER-0007",
            LedgerErrorKind::Version(_) => "LEDGER-0008",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match &self.kind {
            LedgerErrorKind::Io(error) => match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "let the user that runs the signer own this path, or name another directory with --ledger".into()
                }
                io::ErrorKind::StorageFull => "free some space: a volume needs 8 MiB, once".into(),
                io::ErrorKind::ReadOnlyFilesystem => {
                    "mount it writable, or name another directory with --ledger".into()
                }
                _ => "check the disk; nothing is signed until the ledger opens".into(),
            },
            LedgerErrorKind::KeyInUse { .. } => {
                "stop the other process first; two signers with one key are how keys get slashed".into()
            }
            LedgerErrorKind::Damaged(_) => {
                "do not delete it: `ledger fsck` says what can be mended; else restore the disk, or start a new ledger with a floor above every height this key \
                 may have signed (`state set-floor`)"
                    .into()
            }
            LedgerErrorKind::OtherHost { .. } => {
                "if this is a copy, the original may still sign: stop it for good, then say so once with `ledger adopt`, or --adopt-host"
                    .into()
            }
            LedgerErrorKind::Filesystem(_) => {
                "use a local disk, or say --i-accept-volatile-ledger for a test network".into()
            }
            LedgerErrorKind::Permissions(_) => "chown it to the user that runs the signer, mode 0700".into(),
            LedgerErrorKind::Limit(_) => "split the keys over several ledgers with --ledger".into(),
            LedgerErrorKind::Version(_) => "use the version of the program that wrote it, or a newer one".into(),
        }
    }
}
