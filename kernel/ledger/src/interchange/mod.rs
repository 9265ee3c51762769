//! What other signers keep, read and written.

mod mirror;
mod statefile;

pub use mirror::{Mirror, MirrorError};
pub use statefile::{BlockId, Dialect, StateFile, StateFileError};
