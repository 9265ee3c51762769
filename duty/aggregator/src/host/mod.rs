//! What core asks of the world: the chain, the node's files, the database, the HTTP server.
//!
//! Everything here blocks and runs on threads of its own, except the HTTP server and the transfers, which are on tokio.

pub mod aggregator;
pub mod artifact;
pub mod bench;
pub mod chain;
pub mod chaindata;
pub mod commands;
pub mod doctor;
pub mod engine;
pub mod era;
pub mod events;
pub mod files;
pub mod http;
pub mod immutable;
pub mod keys;
pub mod store;
pub mod tickers;
pub mod walk;
