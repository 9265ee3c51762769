//! What other signers keep, read and written.
//!
//! | Module | What | Specification |
//! |---|---|---|
//! | [`statefile`] | `priv_validator_state.json` of tmkms, CometBFT and horcrux | what those programs write |
//! | [`mirror`] | the tmkms dialect, kept up to date in place | – |
//! | [`eip3076`] | slashing protection of Ethereum validators | EIP-3076, version 5 |

mod dialect;
pub mod eip3076;
pub mod mirror;
pub mod statefile;

pub use mirror::{Mirror, MirrorError};
pub use statefile::{BlockId, Dialect, StateFile, StateFileError, StateWarning, floor_of};
