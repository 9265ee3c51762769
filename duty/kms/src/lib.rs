//! The duty *sign*: a remote signer for Tendermint and CometBFT nodes, with the face of tmkms.
//!
//! `core` is the protocol as state machines, `wire` its codecs, `host` gives them sockets, threads and the ledger,
//! `face` is what a user of tmkms knows: files, flags, words.

pub mod core;
pub mod face;
pub mod host;
pub mod wire;
