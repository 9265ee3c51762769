//! A Tendermint network small enough to embed.
//!
//! ```text
//! consensus/   the rules, as a pure state machine: proposer rotation, votes, locks, timeouts, thresholds
//! evidence     verifies every signature, and finds two at one height, round and kind
//! network/     nodes around the machine: a simulation on a virtual clock, and threads on the real one; faults on request
//! privval/     the listener at which a remote signer calls, as a CometBFT node has it
//! devnet       all of it behind one handle: `semel dev` and tests run on it
//! ```

mod attack;
mod board;
pub mod consensus;
mod devnet;
pub mod evidence;
pub mod network;
pub mod privval;

pub use board::{AttackView, BlockView, Latency, Snapshot, ValidatorView};
pub use devnet::{Config, Devnet, DevnetError, public_key};
