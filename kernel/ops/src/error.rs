//! Errors that a person can mend, and what the process answers to its caller.
//!
//! A [`Report`] says what happened (message), why (causes, outermost first) and what to do (one hint). Exit codes: 0 done,
//! 1 failed or refused, 2 misuse, 3 unsafe state, 4 a PIN or password that is not accepted.

use crate::code::Code;
use crate::config::Diagnostics;
use std::error::Error;
use std::fmt;

/// How a process ends when it does not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Exit {
    /// It failed, or it refused.
    #[default]
    Failed = 1,
    /// It was called wrongly.
    Misuse = 2,
    /// Going on would be dangerous.
    Unsafe = 3,
    /// A PIN or password is wrong: each attempt more brings the device nearer to locking itself.
    Credential = 4,
}

impl Exit {
    /// The exit status.
    pub fn status(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.status().into()
    }
}

/// An error for the person at the terminal.
#[derive(Debug, Default)]
pub struct Report {
    code: Option<&'static str>,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    exit: Exit,
    diagnostics: Option<Box<Diagnostics>>,
}

impl Report {
    /// What happened, in one line without a full stop.
    pub fn new(message: impl Into<String>) -> Report {
        Report { message: message.into(), ..Report::default() }
    }

    /// An error of a library: its message, and its sources as causes.
    pub fn of(error: &(dyn Error + 'static)) -> Report {
        let mut report = Report::new(error.to_string());
        if let Some(source) = error.source() {
            report = report.cause(source);
        }
        report
    }

    /// With a stable code.
    #[must_use]
    pub fn code(mut self, code: &'static Code) -> Report {
        self.code = Some(code.id);
        self
    }

    /// With a stable code that is known by its id only.
    #[must_use]
    pub fn code_id(mut self, code: &'static str) -> Report {
        self.code = Some(code);
        self
    }

    /// With a cause, and the causes of that. A cause that only repeats the line above it is left out.
    #[must_use]
    pub fn cause(mut self, error: &(dyn Error + 'static)) -> Report {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if self.causes.last().is_none_or(|last| !last.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// With a cause in words.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Report {
        self.causes.push(cause.into());
        self
    }

    /// With the one thing to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Report {
        self.hint = Some(hint.into());
        self
    }

    /// With another exit status than 1.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Report {
        self.exit = exit;
        self
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The stable code.
    pub fn code_text(&self) -> Option<&'static str> {
        self.code
    }

    /// Why, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// What to do.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// How the process ends.
    pub fn exit_code(&self) -> Exit {
        self.exit
    }

    /// Findings in configuration files, when that is what went wrong.
    pub fn diagnostics(&self) -> Option<&Diagnostics> {
        self.diagnostics.as_deref()
    }
}

impl From<Diagnostics> for Report {
    fn from(diagnostics: Diagnostics) -> Report {
        Report { message: diagnostics.summary(), diagnostics: Some(Box::new(diagnostics)), ..Report::default() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl Error for Report {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the ledger")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_causes_are_the_chain_of_sources_without_repeats() {
        let error = Outer(std::io::Error::other("no space left"));
        let report = Report::of(&error).hint("free some space").exit(Exit::Unsafe);
        assert_eq!(report.causes(), ["no space left"]);
        assert_eq!(report.to_string(), "cannot open the ledger: no space left");
        assert_eq!(report.exit_code().status(), 3);
    }

    #[test]
    fn exit_statuses_are_the_documented_ones() {
        let all = [Exit::Failed, Exit::Misuse, Exit::Unsafe, Exit::Credential];
        assert_eq!(all.map(Exit::status), [1, 2, 3, 4]);
    }
}
