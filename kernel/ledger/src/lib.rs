//! The durable memory of what was signed.
//!
//! [`Journal`] is the ledger of one host: an append-only, hash-chained log of 512-byte records in preallocated files, in a
//! directory that belongs to the host and not to a configuration. [`conformance`] is the suite that every ledger passes.
//! [`interchange`] reads and writes what other signers keep.
//!
//! ```text
//! DIR/lock                   held while a process opens the ledger
//! DIR/host                   identity of the ledger and the host it is bound to
//! DIR/keys/ID                one lock per (public key, chain): one process of this host signs with it
//! DIR/damaged/            copies of what was mended
//! DIR/volume-N/lock          one lock per volume: one process writes it
//! DIR/volume-N/segment-M     records; four segments are used in turn, each starts with a complete checkpoint
//! ```
//!
//! A process appends to one volume and reads all of them: what is known of a key is the maximum over the volumes. So keys
//! may move between processes, and a floor never falls.

mod claim;
mod commit;
pub mod conformance;
pub mod disk;
mod error;
mod examine;
mod hold;
mod host;
pub mod interchange;
mod journal;
pub mod memory;
mod open;
mod options;
mod record;
mod state;
mod sync;
mod volume;
mod waited;
mod witness;

pub use claim::Claim;
pub use error::{LedgerError, LedgerErrorKind};
pub use examine::{Examined, Finding, examine, mend};
pub use host::{Binding, Filesystem, HostIdentity, default_directory, default_directory_or, filesystem_of};
pub use journal::{Journal, Known, SYNC_SECONDS, Status};
pub use options::{Durability, Options, RESERVE_HEIGHTS_DEFAULT};
pub use record::{Kind, RECORD_LEN, Record, SubjectId, subject_id};
pub use state::RESERVE_HEIGHTS_MAX;
pub use volume::{SEGMENT_RECORDS_MIN, SEGMENTS};
pub use waited::take_waited;
