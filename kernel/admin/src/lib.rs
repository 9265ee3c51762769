//! What an operator does with a ledger, whatever duty writes it: looking into it, checking it, moving a key to another host.
//!
//! Looking never takes a lock and never writes: it works beside a running signer. Whatever writes takes the lock of its key, so it
//! refuses while somebody signs with it.

mod handover;
mod look;

pub use handover::{Handover, HandoverError, HandoverErrorKind, HandoverFile};
pub use look::Look;

use clap::Args;
use semel_guard::Subject;
use semel_ledger::{Journal, LedgerError, LedgerErrorKind, Options, default_directories};
use semel_ops::error::{Exit, Report};
use std::path::PathBuf;

/// Where the ledger is.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Directory of the ledger [default: /var/lib/semel/ledger, or ~/.local/state/semel/ledger]
    #[arg(long, value_name = "DIR", env = "SEMEL_LEDGER")]
    pub ledger: Option<PathBuf>,
    /// Allow a ledger on a file system that forgets or is shared (tmpfs, overlay, NFS)
    #[arg(long)]
    pub i_accept_volatile_ledger: bool,
}

impl Place {
    /// The directory that is meant.
    pub fn directory(&self) -> PathBuf {
        self.ledger.clone().unwrap_or_else(|| {
            let (host, user) = default_directories();
            match user {
                Some(user) if !host.exists() && user.exists() => user,
                _ => host,
            }
        })
    }

    fn open(&self, subjects: &[Subject]) -> Result<Journal, LedgerError> {
        let mut options = Options::at(self.directory());
        options.allow_volatile = self.i_accept_volatile_ledger;
        Journal::open(options, subjects)
    }
}

/// A ledger's error, for the person at the terminal.
pub fn ledger_report(error: &LedgerError) -> Report {
    let dangerous = matches!(
        error.kind,
        LedgerErrorKind::KeyInUse { .. } | LedgerErrorKind::Damaged(_) | LedgerErrorKind::OtherHost { .. }
    );
    let report = Report::new(error.to_string()).code_id(error.code()).hint(error.hint());
    if dangerous { report.exit(Exit::Unsafe) } else { report }
}

/// A sentence for a failed write to standard output.
fn said(result: std::io::Result<()>) -> Result<(), Report> {
    result.map_err(|error| Report::new("cannot write the answer").cause(&error))
}
