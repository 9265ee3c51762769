//! How a ledger is opened.

use crate::disk::{Disk, HostDisk};
use crate::host::HostIdentity;
use crate::sync::Arc;
use crate::volume::SEGMENT_RECORDS_MIN;
use std::path::PathBuf;

/// Heights that `reserve` keeps ahead, unless told otherwise.
pub const RESERVE_HEIGHTS_DEFAULT: u64 = 8;

/// When an admission counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the medium.
    Sync,
    /// When a bound ahead of it is on the medium.
    Reserve {
        /// Heights kept ahead; an end of the machine costs at most the votes of that many. A chain that makes them within a few
        /// milliseconds has more kept ahead, up to [`crate::RESERVE_HEIGHTS_MAX`].
        heights: u64,
    },
}

/// How to open a ledger.
pub struct Options {
    /// The ledger's directory; made where it is missing.
    pub directory: PathBuf,
    /// When an admission counts as durable.
    pub durability: Durability,
    /// Identity of this host, if it has one.
    pub host: Option<HostIdentity>,
    /// Take over a ledger that was made on another host.
    pub adopt: bool,
    /// A key that is new to a ledger with a history watches its chain before it signs.
    pub hold_new_keys: bool,
    /// Allow a file system that forgets.
    pub allow_volatile: bool,
    /// The disk; a test puts another one here.
    pub disk: Arc<dyn Disk>,
    /// Where the witness of `reserve` lives; None: no witness.
    pub witness: Option<PathBuf>,
    /// Check owner, mode and file system of the directory (off for simulated disks).
    pub check: bool,
    /// Records of a segment, at least. Only tests need fewer.
    #[doc(hidden)]
    pub segment_records: usize,
}

impl Options {
    /// Whether what it holds counts for the whole host, and is not that of a test.
    pub(crate) fn is_for_this_host(&self) -> bool {
        self.check && !self.allow_volatile
    }

    /// This host's disk, `sync`, every check on.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            durability: Durability::Sync,
            host: HostIdentity::of_this_host(),
            adopt: false,
            hold_new_keys: false,
            allow_volatile: false,
            disk: Arc::new(HostDisk),
            witness: Some(PathBuf::from("/dev/shm")),
            check: true,
            segment_records: SEGMENT_RECORDS_MIN,
        }
    }
}
