//! Key files and signing backends.
//!
//! Secrets are read into buffers that are wiped, never printed, never cloned, never swapped out while they
//! are in use, and written only into new files of mode 0600.

pub mod device;
pub mod encoding;
mod error;
mod file;
pub mod identity;
pub mod locked;
pub mod pkcs11;
pub mod softsign;
pub mod yubihsm;

pub use error::{KeyError, KeyErrorKind};
pub use file::{Finding, inspect, read, write_new};
