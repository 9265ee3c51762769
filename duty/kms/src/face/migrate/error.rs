//! What keeps a key from coming over, each with a code, a hint, and how dangerous it would be to go on.

use super::running::Seen;
use semel_ops::error::{Exit, Report};
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(super) enum MigrateError {
    /// The signer that has the key still runs.
    #[error("the old signer still runs: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Running(Vec<Seen>),
    /// It ran meanwhile.
    #[error("the old signer signed for {chain} meanwhile: its state moved from {from} to {to}")]
    Moved {
        /// Chain.
        chain: String,
        /// What it said first.
        from: String,
        /// What it says now.
        to: String,
    },
    /// Nobody knows how far the key signed.
    #[error("{}: no state, so nobody knows how far the key of {chain} signed", path.display())]
    NoState {
        /// Chain.
        chain: String,
        /// Where the state should be.
        path: PathBuf,
    },
    /// Something would be written over.
    #[error("{} exists, and is never written over", .0.display())]
    Exists(PathBuf),
    /// The key is split.
    #[error("{}: a share of a threshold key, not a key", .0.display())]
    Threshold(PathBuf),
    /// The files do not say it.
    #[error("{what}")]
    Unclear {
        /// What is not clear.
        what: String,
        /// What to give.
        hint: String,
    },
    /// A key that does not come over.
    #[error("{0}")]
    Key(String),
    /// A file of the other signer cannot be read.
    #[error("{}: {what}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl MigrateError {
    pub(super) fn input(path: &Path, what: impl Into<String>) -> Self {
        Self::Input { path: path.into(), what: what.into() }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::Running(_) => "MIGRATE-0001",
            Self::NoState { .. } => "MIGRATE-0002",
            Self::Exists(_) => "MIGRATE-0003",
            Self::Threshold(_) => "MIGRATE-0004",
            Self::Unclear { .. } => "MIGRATE-0005",
            Self::Key(_) => "MIGRATE-0006",
            Self::Input { .. } => "MIGRATE-0007",
            Self::Moved { .. } => "MIGRATE-0009",
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Running(_) => "stop it, and keep it from starting again: systemctl disable --now UNIT".into(),
            Self::Moved { .. } => {
                "stop it for good: systemctl disable --now UNIT; no key was copied; the same command then takes the newer state".into()
            }
            Self::NoState { .. } => {
                "bring the state from where the key signed last; only for a key that never signed: --i-accept-double-sign-risk"
                    .into()
            }
            Self::Exists(_) => "give another directory with --output".into(),
            Self::Threshold(_) => {
                "stop all cosigners for good; bring the whole key from the offline copy that the shares were made of, `softsign import` \
                 it, and `state import` the state of EVERY cosigner: the highest counts"
                    .into()
            }
            Self::Unclear { hint, .. } => hint.clone(),
            Self::Key(_) => "keep the old signer for this key, or move the validator to a key in a file, a YubiHSM or a PKCS#11 token".into(),
            Self::Input { .. } => "name the directory or file of the old signer, readable by this user".into(),
        }
    }
}

impl From<MigrateError> for Report {
    fn from(error: MigrateError) -> Self {
        let report = Report::new(error.to_string()).code_id(error.code()).hint(error.hint());
        match error {
            MigrateError::Running(_) | MigrateError::Moved { .. } | MigrateError::NoState { .. } => {
                report.exit(Exit::Unsafe)
            }
            _ => report,
        }
    }
}
