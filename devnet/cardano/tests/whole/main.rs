//! The whole: this network's node and signers, a real aggregator over sockets and HTTP, and certificates of every type that
//! Mithril's own verifier follows back to genesis.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may stop")]

mod certify;
mod contract;
mod document;
mod hostile;
mod scene;
mod seeded;
