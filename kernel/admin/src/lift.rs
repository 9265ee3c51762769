//! `ledger lift`: keys that watch before they sign, whatever made them, sign at once. Floors stay.

use crate::look::{Which, show};
use crate::{Place, known, ledger_report};
use clap::Args;
use semel_guard::{Subject, Unavailable};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;

/// `ledger lift`
#[derive(Debug, Args)]
pub struct Lift {
    /// Which ledger
    #[command(flatten)]
    place: Place,
    /// Which keys
    #[command(flatten)]
    which: Which,
    /// Nobody else signs with these keys, and what they signed elsewhere lies below the floors that are shown
    #[arg(long)]
    i_accept_double_sign_risk: bool,
    /// Show which keys hold
    #[arg(long)]
    dry_run: bool,
}

impl Lift {
    /// Runs the command.
    pub fn run(&self, shell: &Shell) -> Result<(), Report> {
        let all = known(&self.place.directory())?;
        let held = all.into_iter().filter(|known| self.which.takes(known) && known.hold.is_some());
        let held: Vec<Subject> = held.map(|known| known.subject).collect();
        if held.is_empty() {
            shell.status("Unchanged", "no such key holds");
            return Ok(());
        }
        show(&self.place, &self.which, false, shell)?;
        if self.dry_run {
            shell.status("Would lift", format!("the hold of {} keys", held.len()));
            return Ok(());
        }
        if !self.i_accept_double_sign_risk {
            return Err(Report::new(format!("{} keys hold because another signer may still have them", held.len()))
                .code_id("ADOPT-0002")
                .hint("make sure that nobody else signs with them, then say so with --i-accept-double-sign-risk")
                .exit(Exit::Unsafe));
        }
        let failed = |why: Unavailable| Report::new(why.to_string()).hint("give the command again");
        let journal = self.place.open(&held).map_err(|error| ledger_report(&error))?;
        for subject in &held {
            journal.set_hold(subject, None).map_err(failed)?;
        }
        journal.close().map_err(|error| ledger_report(&error))?;
        shell.status("Lifted", format!("the hold of {} keys; floors stay where they were", held.len()));
        Ok(())
    }
}
