//! Findings in configuration files, collected.

use super::place::Place;
use crate::code::Code;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::PathBuf;

/// Findings that are kept; the rest is counted.
const DIAGNOSTICS_MAX: usize = 500;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but somebody should look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its stable code.
    pub code: &'static Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    pub place: Place,
    /// Other places that belong to it, each with what is there.
    pub related: Vec<(Place, String)>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: &'static Code, place: &Place, message: impl Into<String>) -> Diagnostic {
        let (message, place) = (message.into(), place.clone());
        Diagnostic { code, severity: Severity::Error, message, place, related: Vec::new(), hint: None }
    }

    /// A warning.
    pub fn warning(code: &'static Code, place: &Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, place, message) }
    }

    /// With what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// With what to do, if anything is known.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Diagnostic {
        self.hint = hint;
        self
    }

    /// With another place that belongs to it.
    #[must_use]
    pub fn related(mut self, place: &Place, what: impl Into<String>) -> Diagnostic {
        self.related.push((place.clone(), what.into()));
        self
    }
}

/// The collection. Findings are pushed through a shared reference, because many readers feed one collection.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    items: RefCell<Vec<Diagnostic>>,
    partial: RefCell<Vec<PathBuf>>,
    left_out_errors: Cell<usize>,
    left_out_warnings: Cell<usize>,
}

impl Diagnostics {
    /// Nothing found.
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    /// Adds a finding, unless it is there already or it would need a part of a file that could not be read.
    pub fn push(&self, diagnostic: Diagnostic) {
        if diagnostic.code.whole && self.touches_partial(&diagnostic) {
            return;
        }
        let mut items = self.items.borrow_mut();
        if items.contains(&diagnostic) {
            return;
        }
        if items.len() >= DIAGNOSTICS_MAX {
            let left_out = match diagnostic.severity {
                Severity::Error => &self.left_out_errors,
                Severity::Warning => &self.left_out_warnings,
            };
            left_out.set(left_out.get().saturating_add(1));
            return;
        }
        items.push(diagnostic);
    }

    /// From now on, findings about what is not in this file are held back: part of it was not read.
    pub(super) fn mark_partial(&self, place: &Place) {
        self.partial.borrow_mut().push(place.path().to_owned());
    }

    fn touches_partial(&self, diagnostic: &Diagnostic) -> bool {
        let partial = self.partial.borrow();
        let places = std::iter::once(&diagnostic.place).chain(diagnostic.related.iter().map(|(place, _)| place));
        // A finding about the file as a whole (it cannot be read, say) is certain.
        places.filter(|place| place.line() > 0).any(|place| partial.iter().any(|path| path == place.path()))
    }

    /// The findings by file, line and column; errors before warnings at one place.
    pub fn sorted(&self) -> Vec<Diagnostic> {
        let mut items = self.items.borrow().clone();
        items.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.place.path().to_owned(), d.place.line(), d.place.column(), d.severity);
            key(a).cmp(&key(b))
        });
        items
    }

    /// How many errors.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error).saturating_add(self.left_out_errors.get())
    }

    /// How many warnings.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning).saturating_add(self.left_out_warnings.get())
    }

    fn count(&self, severity: Severity) -> usize {
        self.items.borrow().iter().filter(|item| item.severity == severity).count()
    }

    /// Findings that were not kept because there were too many.
    pub fn left_out(&self) -> usize {
        self.left_out_errors.get().saturating_add(self.left_out_warnings.get())
    }

    /// Nothing found at all.
    pub fn is_empty(&self) -> bool {
        self.items.borrow().is_empty()
    }

    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// `2 errors and 1 warning in the configuration`.
    pub fn summary(&self) -> String {
        let plural = |n: usize, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
        match (self.errors(), self.warnings()) {
            (0, 0) => "no errors in the configuration".to_owned(),
            (errors, 0) => format!("{} in the configuration", plural(errors, "error")),
            (0, warnings) => format!("{} in the configuration", plural(warnings, "warning")),
            (errors, warnings) => {
                format!("{} and {} in the configuration", plural(errors, "error"), plural(warnings, "warning"))
            }
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::super::codes;
    use super::super::place::Source;
    use super::*;

    #[test]
    fn findings_are_sorted_by_place_and_counted_by_severity() {
        let source = Source::new("a.toml", "x\ny\n");
        let found = Diagnostics::new();
        found.push(Diagnostic::error(&codes::UNKNOWN_KEY, &source.place(2..3), "second"));
        found.push(Diagnostic::warning(&codes::EMPTY, &source.place(0..1), "first"));
        found.push(Diagnostic::warning(&codes::EMPTY, &source.place(0..1), "first"));
        let order: Vec<_> = found.sorted().into_iter().map(|d| d.message).collect();
        assert_eq!(order, ["first", "second"]);
        assert_eq!(found.summary(), "1 error and 1 warning in the configuration");
    }

    #[test]
    fn what_needs_the_whole_file_is_held_back_when_part_of_it_was_not_read() {
        let source = Source::new("a.toml", "x\ny\n");
        let other = Source::new("b.toml", "x\n");
        let found = Diagnostics::new();
        found.mark_partial(&source.whole());
        found.push(Diagnostic::error(&codes::MISSING_KEY, &source.place(0..1), "uncertain"));
        found.push(Diagnostic::error(&codes::UNKNOWN_KEY, &source.place(0..1), "certain"));
        found.push(Diagnostic::error(&codes::MISSING_KEY, &other.place(0..1), "elsewhere"));
        let messages: Vec<_> = found.sorted().into_iter().map(|d| d.message).collect();
        assert_eq!(messages, ["certain", "elsewhere"]);
    }

    #[test]
    fn the_number_of_findings_is_bounded() {
        let source = Source::new("a.toml", "x\n");
        let found = Diagnostics::new();
        for n in 0..DIAGNOSTICS_MAX + 7 {
            found.push(Diagnostic::error(&codes::UNKNOWN_KEY, &source.place(0..1), n.to_string()));
        }
        found.push(Diagnostic::warning(&codes::EMPTY, &source.place(0..1), "one warning more"));
        assert_eq!((found.sorted().len(), found.left_out(), found.errors(), found.warnings()), (500, 8, 507, 1));
    }
}
