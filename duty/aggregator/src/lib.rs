//! The duty *certify*: a Mithril aggregator, with the face of `mithril-aggregator`.
//!
//! ```text
//! core   what is decided: beacons, registrations, signatures, certificates, the runtime's states.   pure
//! wire   bounded decoders and encoders of what travels over HTTP
//! host   the chain, the files, the database, the HTTP server: what core asks of the world
//! face   flags, environment, log lines and metric names of mithril-aggregator
//! ```
//!
//! A certificate is a signature that needs a permit: one message per (signed entity type, beacon), kept by the ledger of the
//! host under the network's genesis verification key. Units: epochs, slots, block numbers and immutable file numbers are
//! those of Cardano; stakes are lovelace; times are UTC with nanoseconds, because every certificate's hash covers them.
//!
//! The cryptography, the messages and the hashes are Mithril's own crates; protocols, storage and proofs are ours.

pub mod core;
pub mod face;
pub mod host;
pub mod wire;
