//! `bench`: the table, or the same as JSON.

use super::command::failed;
use crate::host::bench::{self, Listener, Plan, Row};
use crate::host::commands::CommandError;
use clap::Args;
use semel_ops::env;
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use std::path::PathBuf;
use std::time::Duration;

/// Some seconds' worth.
const REGISTRATIONS: usize = 4_000;

/// `bench`
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// A node's immutable files, for import and proofs [default: neither is measured]
    #[arg(long, value_name = "DIR")]
    pub immutable: Option<PathBuf>,
    /// Signers of the large network, which share its stake in equal parts
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub signers: u16,
    /// Seconds that each rate is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Directory for databases: its disk is part of what is measured [default: the system's temporary one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write aggregator.json there
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

struct Table<'s> {
    shell: &'s Shell,
    is_shown: bool,
}

impl Listener for Table<'_> {
    fn begins(&self, what: &str) {
        self.shell.status("Bench", what);
    }

    fn row(&self, row: &Row) {
        if self.is_shown {
            // Who closed the terminal finds the report in its file.
            let _gone = self.shell.line(line(row));
        }
    }
}

fn line(row: &Row) -> String {
    let figure = |value: f64| match value {
        value if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    };
    let goal = match (row.goal, row.holds) {
        (Some(goal), Some(holds)) => format!("goal {} {}", figure(goal), if holds { "holds" } else { "MISSED" }),
        _ => String::new(),
    };
    let value = format!("{} {}", figure(row.value), row.unit);
    let against = row
        .reference
        .map(|reference| format!("{:.0} x the reference's published {}", row.value / reference, figure(reference)));
    let notes: Vec<&str> = against.iter().map(String::as_str).chain(Some(row.note.as_str())).collect();
    let notes = notes.into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join("; ");
    format!("{:<62} {value:>14}  {goal:<20} {notes}", row.what).trim_end().to_owned()
}

/// Runs it.
pub(super) fn run(what: &Bench, shell: &Shell) -> Result<(), Report> {
    let cache = env::var(env::SEMEL_CACHE).map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var(env::HOME)?).join(".cache/semel")));
    let plan = Plan {
        signers: what.signers.into(),
        immutable: what.immutable.clone(),
        directory: what.dir.clone().unwrap_or_else(std::env::temp_dir),
        cache: cache.unwrap_or_else(std::env::temp_dir),
        span: Duration::from_secs(what.seconds),
        registrations: REGISTRATIONS,
    };
    if cfg!(debug_assertions) {
        shell.warning("this program is not built to be fast (cargo build --release): no figure counts");
    }
    let report = bench::run(&plan, &Table { shell, is_shown: !what.json }).map_err(failed)?;
    if let Some(directory) = &what.report {
        let path = directory.join("aggregator.json");
        let written = std::fs::create_dir_all(directory)
            .and_then(|()| serde_json::to_vec_pretty(&report).map_err(Into::into))
            .and_then(|json| std::fs::write(&path, json));
        written.map_err(|source| failed(CommandError::File { path: path.clone(), source }))?;
        shell.status("Wrote", path.display());
    }
    if what.json {
        shell.json(&report).map_err(|error| failed(CommandError::Shell(error)))?;
    }
    Ok(())
}
