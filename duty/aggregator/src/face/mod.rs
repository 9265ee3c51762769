//! The face of `mithril-aggregator`: flags, environment, log lines, metric names.
pub mod metrics;
