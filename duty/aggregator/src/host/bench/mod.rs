//! `bench`: how fast the parts of an aggregator are that others wait for, each against its goal.
//!
//! | Module | What it measures |
//! |---|---|
//! | `certify` | entering an epoch, single signatures, from the quorum to the certificate |
//! | `chain` | import of transactions, proofs |
//! | `reads` | what is served from memory |
//! | `network` | nothing: signers, and an aggregator to put the questions to |
//! | `load`, `cost` | nothing: the clients, and what the server's threads cost |
//!
//! The server is the real one, over loopback; its clients are a thread of the same process, so both share the cores. Reference
//! figures are published ones (`spec/mithril.md` §10, from other machines): the reference program is not run here.

mod certify;
mod chain;
mod cost;
mod load;
mod network;
mod reads;

use crate::host::commands::CommandError;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// What to measure, and with what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Signers of the large network.
    pub signers: usize,
    /// A node's immutable files; none: nothing of the chain is measured.
    pub immutable: Option<PathBuf>,
    /// Where databases are made for the time.
    pub directory: PathBuf,
    /// Where signatures are kept from one run to the next.
    pub cache: PathBuf,
    /// How long each rate is measured.
    pub span: Duration,
    /// Registrations of single signatures that are measured, at least: those before the quorum come again and again.
    pub registrations: usize,
}

/// One result.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it should be at least (or at most, for times and memory), in the same unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<f64>,
    /// Whether it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds: Option<bool>,
    /// Published figure of the reference, in the same unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<f64>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Row {
    fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Row {
        Row { what: what.into(), value, unit, goal: None, holds: None, reference: None, note: String::new() }
    }

    fn at_least(mut self, goal: f64) -> Row {
        (self.goal, self.holds) = (Some(goal), Some(self.value >= goal));
        self
    }

    fn at_most(mut self, goal: f64) -> Row {
        (self.goal, self.holds) = (Some(goal), Some(self.value <= goal));
        self
    }

    fn reference(mut self, figure: f64) -> Row {
        self.reference = Some(figure);
        self
    }

    fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// Whether it was built to be fast.
    pub optimized: bool,
    /// Processors that this process may use.
    pub processors: usize,
    /// Signers of the large network.
    pub signers: usize,
    /// The results, in the order in which they were taken.
    pub rows: Vec<Row>,
}

/// Who is told each result as it comes, and what takes long before.
pub trait Listener {
    /// Something that takes long begins.
    fn begins(&self, what: &str);
    /// A result.
    fn row(&self, row: &Row);
}

struct Results<'l> {
    rows: Vec<Row>,
    listener: &'l dyn Listener,
}

impl Results<'_> {
    fn push(&mut self, row: Row) {
        self.listener.row(&row);
        self.rows.push(row);
    }
}

/// Measures.
///
/// # Errors
/// When an aggregator cannot be put together in the directory, or does not do what it should.
pub fn run(plan: &Plan, listener: &dyn Listener) -> Result<Report, CommandError> {
    let home = plan.directory.join(format!("semel-bench-{}", std::process::id()));
    let io = |source| CommandError::File { path: home.clone(), source };
    std::fs::create_dir_all(&home).map_err(io)?;
    let mut results = Results { rows: Vec::new(), listener };
    let done = measure(plan, &home, &mut results);
    std::fs::remove_dir_all(&home).map_err(io)?;
    done?;
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        optimized: !cfg!(debug_assertions),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        signers: plan.signers,
        rows: results.rows,
    })
}

fn measure(plan: &Plan, home: &std::path::Path, results: &mut Results<'_>) -> Result<(), CommandError> {
    let small = network::Network::small(&home.join("small"), plan.immutable.as_deref())?;
    if plan.immutable.is_some() {
        chain::measure(&small, plan, results)?;
    }
    reads::measure(&small, plan, results)?;
    drop(small);
    certify::measure(plan, &home.join("large"), results)?;
    results
        .push(Row::new("memory of all this in one process, at most", cost::resident_mib_most(), "MiB").at_most(1024.0));
    Ok(())
}

fn failed(why: impl std::fmt::Display) -> CommandError {
    CommandError::Bench(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;

    impl Listener for Silent {
        fn begins(&self, _: &str) {}
        fn row(&self, _: &Row) {}
    }

    #[test]
    fn a_small_network_is_measured_and_refuses_nobody() {
        let place = tempfile::tempdir().unwrap();
        let plan = Plan {
            signers: 12,
            immutable: None,
            directory: place.path().to_owned(),
            cache: place.path().join("cache"),
            span: Duration::from_millis(100),
            registrations: 1,
        };
        for is_cached in [false, true] {
            assert_eq!(plan.cache.join("mithril-12.json").exists(), is_cached);
            let report = run(&plan, &Silent).unwrap();
            let refused: Vec<&Row> =
                report.rows.iter().filter(|row| row.what.contains("answers that are not")).collect();
            assert_eq!(refused.len(), 4);
            assert!(refused.iter().all(|row| row.holds == Some(true)), "{refused:?}");
            let of = |what: &str| report.rows.iter().find(|row| row.what.starts_with(what)).unwrap().value;
            assert!(of("from the k-th index to the certificate") > 0.0);
            assert!(of("single signatures of 12 signers") > 0.0);
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "only the cache is left");
    }
}
