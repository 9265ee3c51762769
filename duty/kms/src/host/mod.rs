//! Sockets, threads, files and the ledger: what `core` needs to sign in this world.

mod answer;
pub mod chain;
pub(crate) mod channel;
mod connection;
mod ended;
pub mod hook;
pub mod meters;
pub mod node;
pub mod plan;
pub mod service;
pub mod state;
pub mod stream;
mod table;
pub mod tally;
mod worker;

pub use connection::REQUEST_MAX;
