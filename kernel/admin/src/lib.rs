//! What an operator does with a ledger, whatever duty writes it: looking into it, checking and mending it, moving floors between
//! signers, backing it up, adopting it, moving a key to another host.
//!
//! Looking never takes a lock and never writes: it works beside a running signer. Whatever writes takes the lock of its key, so it
//! refuses while somebody signs with it.

mod adopt;
pub mod backup;
mod floors;
mod fsck;
mod handover;
mod lift;
mod look;
mod transfer;

pub use adopt::Adopt;
pub use backup::Backup;
pub use floors::{Floor, How, Wait, raise};
pub use fsck::Fsck;
pub use handover::{Handover, HandoverError, HandoverErrorKind, HandoverFile};
pub use lift::Lift;
pub use look::{Look, Which};
pub use transfer::{Export, FileFormat, Import};

use clap::{Args, Subcommand};
use semel_guard::{History, Subject};
use semel_ledger::interchange::StateFile;
use semel_ledger::{Journal, Known, LedgerError, LedgerErrorKind, Options, default_directory};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
        self.ledger.clone().unwrap_or_else(default_directory)
    }

    /// How the ledger there is opened.
    fn options(&self) -> Options {
        Options { allow_volatile: self.i_accept_volatile_ledger, ..Options::at(self.directory()) }
    }

    fn open(&self, subjects: &[Subject]) -> Result<Journal, LedgerError> {
        Journal::open(self.options(), subjects)
    }
}

/// How a duty writes what the ledger knows of a key as a state file of other signers.
pub type StateOf = fn(&Subject, &History) -> StateFile;

/// `ledger`
#[derive(Debug, Subcommand)]
pub enum LedgerVerb {
    /// What reads
    #[command(flatten)]
    Look(Look),
    /// Raise floors to what a file of another signer says
    Import(Import),
    /// Write what is known for another signer
    Export(Export),
    /// Check every file of the ledger, and mend what can be mended without guessing
    Fsck(Fsck),
    /// Take over a ledger that was made on another host, which must never sign again
    Adopt(Adopt),
    /// Let keys sign that watch before they sign
    Lift(Lift),
}

impl LedgerVerb {
    /// Runs the command.
    pub fn run(&self, state_of: StateOf, shell: &Shell) -> Result<(), Report> {
        match self {
            Self::Look(look) => look.run(shell),
            Self::Import(import) => import.run(shell),
            Self::Export(export) => export.run(state_of, shell),
            Self::Fsck(fsck) => fsck.run(shell),
            Self::Adopt(adopt) => adopt.run(shell),
            Self::Lift(lift) => lift.run(shell),
        }
    }
}

fn present(directory: &Path) -> Result<(), Report> {
    match directory.exists() {
        true => Ok(()),
        false => Err(Report::new(format!("there is no ledger in {}", directory.display()))
            .hint("name another directory with --ledger")),
    }
}

/// Every key of the ledger in this directory, read without a lock.
fn known(directory: &Path) -> Result<Vec<Known>, Report> {
    present(directory)?;
    Journal::inspect(directory).map_err(|error| ledger_report(&error))
}

/// The whole of a file of at most `limit` bytes.
fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, Report> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    let read = read.map_err(|error| Report::new(format!("cannot read {}", path.display())).cause(&error))?;
    match read as u64 > limit {
        true => Err(Report::new(format!("{} has more than {limit} bytes", path.display()))),
        false => Ok(bytes),
    }
}

/// Makes a file, mode 0600, durable; one that is there already is an error.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Writes a text into a new file, or to standard output.
pub fn put_out(output: Option<&Path>, text: &str, shell: &Shell) -> Result<(), Report> {
    let Some(path) = output else { return said(shell.line(text)) };
    write_new(path, format!("{text}\n").as_bytes()).map_err(|error| {
        let report = Report::new(format!("cannot make {}", path.display())).cause(&error).code_id("TRANSFER-0004");
        report.hint("a file that is there already is never written over")
    })?;
    shell.status("Wrote", path.display());
    Ok(())
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
