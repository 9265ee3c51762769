//! A Cardano network small enough to embed, with Mithril signers.
//!
//! ```text
//! block, immutable, synthetic, chain   blocks, real or made up, revealed one by one
//! database                             the node's files: immutable trios, ledger snapshots
//! world                                what is true: chain, epoch, stakes
//! server, answers                      the node's local socket (Ouroboros node-to-client)
//! pools                                cold keys, KES keys, operational certificates
//! signer                               Mithril signers that know the aggregator over HTTP only
//! net                                  all of it behind one handle
//! certified                            an aggregator over it
//! watch                                what that aggregator seals, for whoever looks on
//! ```
//!
//! Epochs last as long as one wants: tests move them by hand, `semel dev` gives them seconds. The chain does what a real one
//! does, and on request what a real one must not do.

mod answers;
pub mod block;
pub mod certified;
mod chain;
mod database;
pub mod immutable;
mod net;
mod options;
mod pools;
mod server;
pub mod signer;
mod synthetic;
pub mod watch;
mod world;

pub use chain::ChainError;
pub use database::LedgerForm;
pub use mithril_common::entities::ProtocolParameters;
pub use net::{CardanoNet, GenesisKeys, NetError};
pub use options::Options;
pub use pools::{CERTIFICATE_FILE, KES_KEY_FILE, Pool, PoolError};
