//! What every daemon needs: configuration with spans, shell output, tracing, metrics, health, shutdown.
//!
//! Nothing here knows a duty. Invariants: all output of a program goes through [`shell`] (data to stdout, talk to
//! stderr) or [`log`] (log lines to stdout); nothing here is on the way between a request and its signature except the
//! hand-over of a log line to a bounded queue; every thread made here ends when its owner is dropped.
//!
//! | Module | What it gives |
//! |---|---|
//! | [`clock`] | the time of day, in words |
//! | [`code`] | stable codes with an explanation each |
//! | [`config`] | TOML with spans: every error at once, with file, line, column, code and hint |
//! | [`control`] | the local control socket |
//! | [`doctor`] | graded checks, with what mends them |
//! | [`mod@env`] | every environment variable, as a documented constant |
//! | [`error`] | errors that a person can mend, and exit codes |
//! | [`harden`] | what a process gives up once it runs |
//! | [`health`] | named conditions, heartbeats |
//! | [`http`] | `/livez`, `/readyz`, `/healthz`, `/metrics` on an opt-in address |
//! | [`log`] | tracing to stdout, and the collapsing of repeated lines |
//! | [`metrics`] | the Prometheus recorder |
//! | [`shell`] | all other output |
//! | [`shutdown`] | the stop token, signals, callbacks |
//! | [`systemd`] | ready, stopping, reloading, watchdog |

pub mod clock;
pub mod code;
pub mod config;
pub mod control;
pub mod doctor;
pub mod env;
pub mod error;
pub mod harden;
pub mod health;
pub mod http;
pub mod log;
pub mod metrics;
pub mod shell;
pub mod shutdown;
pub mod systemd;
