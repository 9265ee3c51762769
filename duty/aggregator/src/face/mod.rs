//! The face of `mithril-aggregator`: flags, environment, log lines, metric names.

pub mod args;
mod bench;
pub mod codes;
mod command;
mod configure;
mod databases;
mod explain;
pub mod logs;
pub mod metrics;
pub mod settings;
mod tools;

pub use command::{hide_own_words, run};
pub use explain::codes as explained;

/// Version of mithril-aggregator whose behaviour the face has.
pub const AGGREGATOR_VERSION: &str = "0.9.21";
