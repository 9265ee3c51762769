//! Graded checks of an installation: what was looked at, how it came out, why, and what mends it.
//!
//! A duty adds its checks; this prints them and decides the exit code: 0 well, 1 something failed, 3 something is unsafe.

use crate::error::{Exit, Report};
use crate::shell::Shell;
use serde::Serialize;
use serde_json::json;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Could not be looked at; the text says why.
    Skipped,
    /// Works, and could be better.
    Warn,
    /// Does not work.
    Fail,
    /// Could lead to a second signature, or to a stolen key.
    Unsafe,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its stable code.
    pub code: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, in one line.
    pub found: String,
    /// What mends it; empty where nothing has to be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

/// The checks of one run.
#[derive(Debug, Default)]
pub struct Doctor {
    checks: Vec<Check>,
}

impl Doctor {
    /// Adds a check.
    pub fn check(&mut self, code: &'static str, verdict: Verdict, found: impl Into<String>, fix: impl Into<String>) {
        let fix = if verdict <= Verdict::Skipped { String::new() } else { fix.into() };
        self.checks.push(Check { code, verdict, found: found.into(), fix });
    }

    /// Adds one that is as it should be.
    pub fn pass(&mut self, code: &'static str, found: impl Into<String>) {
        self.check(code, Verdict::Pass, found, "");
    }

    /// Adds one that passes, or else comes out like this.
    pub fn demand(
        &mut self,
        code: &'static str,
        is_well: bool,
        otherwise: Verdict,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.check(code, if is_well { Verdict::Pass } else { otherwise }, found, fix);
    }

    /// All of them, worst first.
    pub fn checks(&self) -> Vec<&Check> {
        let mut all: Vec<&Check> = self.checks.iter().collect();
        all.sort_by_key(|check| std::cmp::Reverse(check.verdict));
        all
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// Prints them.
    ///
    /// # Errors
    /// A check failed (exit code 1) or is unsafe (3).
    pub fn conclude(&self, as_json: bool, shell: &Shell) -> Result<(), Report> {
        let unwritten = |error: std::io::Error| Report::new("cannot write the answer").cause(&error);
        let (failed, dangerous) = (self.count(Verdict::Fail), self.count(Verdict::Unsafe));
        let summary = format!(
            "{} checks: {} passed, {} warnings, {failed} failed, {dangerous} unsafe, {} skipped",
            self.checks.len(),
            self.count(Verdict::Pass),
            self.count(Verdict::Warn),
            self.count(Verdict::Skipped)
        );
        if as_json {
            shell.json(&json!({ "schema": 1, "checks": self.checks(), "summary": summary })).map_err(unwritten)?;
        } else {
            for check in self.checks() {
                let word = match check.verdict {
                    Verdict::Unsafe => "UNSAFE",
                    Verdict::Fail => "fail",
                    Verdict::Warn => "warn",
                    Verdict::Skipped => "skip",
                    Verdict::Pass => "pass",
                };
                shell.line(format!("{word:>6}  {}  {}", check.code, check.found)).map_err(unwritten)?;
                if !check.fix.is_empty() {
                    shell.line(format!("        fix: {}", check.fix)).map_err(unwritten)?;
                }
            }
            shell.line(&summary).map_err(unwritten)?;
        }
        match (dangerous, failed) {
            (0, 0) => Ok(()),
            (0, _) => Err(Report::new(summary)),
            _ => Err(Report::new(summary).exit(Exit::Unsafe)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::Format;

    #[test]
    fn the_worst_comes_first_and_decides_the_exit_code() {
        for (verdicts, exit) in [
            (vec![Verdict::Pass, Verdict::Warn, Verdict::Skipped], None),
            (vec![Verdict::Pass, Verdict::Fail], Some(Exit::Failed)),
            (vec![Verdict::Unsafe, Verdict::Fail], Some(Exit::Unsafe)),
        ] {
            let mut doctor = Doctor::default();
            for verdict in &verdicts {
                doctor.check("TEST-0001", *verdict, format!("{verdict:?}"), "mend it");
            }
            let (shell, captured) = Shell::capture(Format::default());
            let concluded = doctor.conclude(false, &shell);
            assert_eq!(concluded.err().map(|report| report.exit_code()), exit);
            let first = captured.out().lines().next().unwrap_or_default().to_owned();
            assert!(first.contains(&format!("{:?}", verdicts.iter().max().unwrap())), "{first}");
            assert_eq!(
                captured.out().contains("fix: mend it"),
                verdicts.iter().any(|verdict| *verdict > Verdict::Skipped)
            );
        }
    }
}
