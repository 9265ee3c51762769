//! `ledger fsck`: every file of a ledger, what is wrong with it, and what of it can be mended without guessing.

use crate::look::verified;
use crate::{Place, ledger_report, present, said};
use clap::Args;
use semel_ledger::{Finding, examine, mend};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use serde_json::json;

/// `ledger fsck`
#[derive(Debug, Args)]
pub struct Fsck {
    /// Which ledger
    #[command(flatten)]
    place: Place,
    /// Mend what can be mended safely; no signer may run with a key of this ledger
    #[arg(long)]
    repair: bool,
    /// Show what --repair would do
    #[arg(long)]
    dry_run: bool,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Fsck {
    /// Runs the command.
    pub fn run(&self, shell: &Shell) -> Result<(), Report> {
        let directory = self.place.directory();
        present(&directory)?;
        let report = |error: &semel_ledger::LedgerError| ledger_report(error);
        let mut examined = examine(&directory).map_err(|error| report(&error))?;
        let mut mended = Vec::new();
        if self.repair && !self.dry_run && examined.findings.iter().any(|finding| finding.remedy().is_some()) {
            mended = mend(&self.place.options()).map_err(|error| report(&error))?;
            examined = examine(&directory).map_err(|error| report(&error))?;
        }
        let findings = &examined.findings;
        if self.json {
            let row = |finding: &Finding| {
                json!({
                    "path": finding.path, "what": finding.what, "is_unsafe": finding.is_unsafe, "remedy": finding.remedy(),
                })
            };
            let rows = |findings: &[Finding]| findings.iter().map(row).collect::<Vec<_>>();
            let volumes: Vec<_> =
                examined.volumes.iter().map(|(number, count)| json!({ "volume": number, "records": count })).collect();
            said(shell.json(&json!({
                "schema": 1, "ledger": directory, "volumes": volumes, "findings": rows(findings), "mended": rows(&mended),
            })))?;
        } else {
            for finding in &mended {
                shell.status("Mended", format!("{}: {}", finding.path.display(), finding.what));
            }
            for finding in findings {
                said(shell.line(self.words(finding)))?;
            }
            if findings.iter().all(|finding| !finding.is_unsafe) {
                verified(&examined.volumes, shell);
            }
        }
        verdict(findings)
    }

    fn words(&self, finding: &Finding) -> String {
        let word = if finding.is_unsafe { "unsafe" } else { "note" };
        let remedy = match finding.remedy() {
            Some(remedy) if self.dry_run => format!("; would {remedy}"),
            Some(remedy) => format!("; --repair: {remedy}"),
            None => String::new(),
        };
        format!("{word:<6}  {}: {}{remedy}", finding.path.display(), finding.what)
    }
}

fn verdict(findings: &[Finding]) -> Result<(), Report> {
    let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.is_unsafe).collect();
    let report = |text: &str| Report::new(format!("{} {text}", bad.len())).exit(Exit::Unsafe);
    if bad.is_empty() {
        Ok(())
    } else if bad.iter().all(|finding| finding.remedy().is_some()) {
        Err(report("things are not safe, and all can be mended")
            .code_id("FSCK-0002")
            .hint("stop the signer, then `ledger fsck --repair`"))
    } else {
        Err(report("things are not safe, and not all can be mended without guessing")
            .code_id("FSCK-0001")
            .hint("restore the disk, or `backup restore` into a new ledger; never delete this one"))
    }
}
