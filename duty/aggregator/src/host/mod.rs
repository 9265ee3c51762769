//! What core asks of the world: the chain, the node's files, the database, the HTTP server.
//!
//! Everything here blocks and runs on threads of its own, except the HTTP server and the transfers, which are on tokio.

pub mod chain;
pub mod commands;
pub mod era;
pub mod keys;
