//! What a user of tmkms knows: its commands, files, messages and exit codes.

mod args;
pub mod bundle;
mod command;
pub mod config;
mod configure;
pub mod doctor;
mod edits;
mod explain;
mod init;
mod key;
mod keyring;
mod migrate;
mod plans;
mod processes;
mod softsign;
mod start;
mod state;
pub mod status;
mod units;
pub mod upgrade;
mod users;
mod yubihsm;

pub use command::{Command, Shared, backup, ledger, run, run_shared};
pub use explain::explain;
pub use keyring::Keyring;
pub use plans::plans_of;
pub use semel_admin::ledger_report;

use crate::host::service::{ChainPlan, ServiceError};
use semel_admin::backup::{Role, Sources};
use semel_keys::KeyError;
use semel_ops::clock;
use semel_ops::config::Diagnostics;
use semel_ops::env;
use semel_ops::error::{Exit, Report};
use std::path::PathBuf;

/// Version of tmkms whose behaviour the face has.
const TMKMS_VERSION: &str = "0.15.0";

/// Under which name the program was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// `semel kms`
    Semel,
    /// `tmkms`
    Tmkms,
}

impl Manner {
    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Semel => "semel",
            Self::Tmkms => "tmkms",
        }
    }

    /// The version that `version` prints.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Semel => env!("CARGO_PKG_VERSION"),
            Self::Tmkms => TMKMS_VERSION,
        }
    }
}

/// Configurations, the secrets that they name as files, and their ledger.
fn files_of(paths: &[PathBuf], with_secrets: bool) -> Result<Sources, Report> {
    let found = Diagnostics::new();
    let files = config::files_of(paths, &found);
    if found.has_errors() {
        return Err(found.into());
    }
    let mut all: Vec<(PathBuf, Role)> = files.into_iter().map(|path| (path, Role::Configuration)).collect();
    let checked = config::check(paths, config::Look::Text);
    let has_errors = checked.found.has_errors();
    if with_secrets {
        if has_errors {
            return Err(checked.found.into());
        }
        let mut secrets: Vec<PathBuf> = checked.configs.iter().flat_map(config::Config::secrets).cloned().collect();
        secrets.sort();
        secrets.dedup();
        all.extend(secrets.into_iter().map(|path| (path, Role::Secret)));
    }
    let ledger = match has_errors {
        true => Err(checked.found.into()),
        false => Ok(checked.configs.iter().find_map(|config| config.semel.as_ref()?.ledger.clone())),
    };
    Ok(Sources { files: all, ledger })
}

/// What the host is to run for these configurations.
pub fn plans(paths: &[PathBuf]) -> Result<Vec<ChainPlan>, Report> {
    plans_of(&config::load(paths)?, &mut Keyring::default())
}

/// A sentence for a failed write to standard output.
fn said(result: std::io::Result<()>) -> Result<(), Report> {
    result.map_err(|error| Report::new("cannot write the answer").cause(&error))
}

/// A key file's error, for the person at the terminal.
pub fn key_report(error: &KeyError) -> Report {
    Report::of(error).code_id(error.code()).hint(error.hint())
}

/// A start or reload that failed, for the person at the terminal.
pub fn service_report(error: &ServiceError) -> Report {
    match error {
        ServiceError::Ledger(error) => ledger_report(error),
        ServiceError::State(error) => Report::new(error.to_string()).code_id(error.code()).hint(error.hint()),
        ServiceError::HandedOver(_) => Report::new(error.to_string())
            .code_id("HANDOVER-0006")
            .hint("it lives on another host now; `semel handover accept FILE` with the file of that handover takes it back")
            .exit(Exit::Unsafe),
        other => Report::new(other.to_string()),
    }
}

/// The moment as `YYYYMMDD-HHMMSS` in UTC, for the names of copies.
fn dated() -> String {
    clock::rfc_3339(clock::seconds()).replace(['-', ':', 'Z'], "").replace('T', "-")
}

impl args::Configs {
    /// The files and directories that are meant: those named, else the environment's, else `tmkms.toml`.
    fn paths(&self) -> Vec<PathBuf> {
        if !self.config.is_empty() {
            return self.config.clone();
        }
        vec![env::var(env::TMKMS_CONFIG_FILE).map_or_else(|| PathBuf::from("tmkms.toml"), PathBuf::from)]
    }
}
