//! What an operator does with a ledger, whatever duty writes it: looking into it, checking it, moving a key to another host.
//!
//! Looking never takes a lock and never writes: it works beside a running signer. Whatever writes takes the lock of its key, so it
//! refuses while somebody signs with it.

mod handover;
mod look;

pub use handover::{HANDOVER_HEIGHTS, Handover, HandoverError, HandoverErrorKind, HandoverFile};
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

/// A time as `2026-11-21T06:00:00Z`, from seconds since 1970.
fn rfc_3339(seconds: u64) -> String {
    // Civil date from days (Howard Hinnant's algorithm), years 1970 and later.
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}
