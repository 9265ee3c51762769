//! `ledger adopt`: a ledger that was made on another host becomes this one's. Floors stay; its keys watch before they sign.

use crate::look::{Which, show};
use crate::{Place, known, ledger_report};
use clap::Args;
use semel_guard::{HOLD_HEIGHTS, Subject};
use semel_ledger::{Binding, Journal};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;

/// `ledger adopt`
#[derive(Debug, Args)]
pub struct Adopt {
    /// Which ledger
    #[command(flatten)]
    place: Place,
    /// The host that made it has stopped for good, and will never sign with these keys again
    #[arg(long)]
    i_accept_double_sign_risk: bool,
    /// Show what would be adopted
    #[arg(long)]
    dry_run: bool,
}

impl Adopt {
    /// Runs the command.
    pub fn run(&self, shell: &Shell) -> Result<(), Report> {
        let directory = self.place.directory();
        let known = known(&directory)?;
        let binding = Binding::of(&directory).map_err(|error| ledger_report(&error))?;
        let Some(binding) = binding.filter(|binding| !binding.is_here()) else {
            shell.status("Unchanged", format!("{} belongs to this host", directory.display()));
            return Ok(());
        };
        show(&self.place, &Which { key: None, chain: None }, false, shell)?;
        let change = format!(
            "{} with {} keys, from host {} to this one ({})",
            directory.display(),
            known.len(),
            binding.stored,
            binding.present
        );
        if self.dry_run {
            shell.status("Would adopt", change);
            return Ok(());
        }
        if !self.i_accept_double_sign_risk {
            return Err(Report::new(format!("the ledger was made on another host: {change}"))
                .code_id("ADOPT-0001")
                .hint("stop that host for good, then say so with --i-accept-double-sign-risk")
                .exit(Exit::Unsafe));
        }
        let subjects: Vec<Subject> = known.into_iter().map(|known| known.subject).collect();
        let mut options = self.place.options();
        options.adopt = true;
        // Opening it is what adopts it: its keys hold, durably, before it belongs to this host.
        let journal = Journal::open(options, &subjects).map_err(|error| ledger_report(&error))?;
        journal.close().map_err(|error| ledger_report(&error))?;
        shell.status("Adopted", change);
        shell.note(format!(
            "Floors stay where they were; each key watches {HOLD_HEIGHTS} heights before it signs here."
        ));
        Ok(())
    }
}
