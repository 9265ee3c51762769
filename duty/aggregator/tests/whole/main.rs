//! The engine and its API over epochs, on a chain that the tests drive.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop"
)]

mod epochs;
mod hostile;
mod http;
mod stage;
mod tickers;
mod tls;
mod traps;
