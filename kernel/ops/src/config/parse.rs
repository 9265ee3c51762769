//! From text to tables, going on after a syntax error where that is certain.
//!
//! The parser stops at its first error. If that error is in a line that is a whole `key = value` of its own, the line is
//! blanked and the text is parsed again, so that every such line is reported and the rest is still checked. An error anywhere
//! else (a table header, a multi-line value) could change the meaning of the lines after it: there the reading ends.

use super::codes;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::place::{Place, Source};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use toml_edit::Table;
use zeroize::Zeroizing;

/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Syntax errors that are reported for one file.
const SYNTAX_ERRORS_MAX: usize = 64;

/// The tables of a parsed text.
#[derive(Debug)]
pub struct Document {
    document: toml_edit::Document<String>,
}

impl Document {
    pub(super) fn root(&self) -> &Table {
        self.document.as_table()
    }
}

/// Reads a file. `None` when it cannot be read, which has been pushed to `found`.
pub fn read(path: &Path, found: &Diagnostics) -> Option<Source> {
    let fail = |message: String, hint: &str| {
        found.push(Diagnostic::error(&codes::UNREADABLE, &Place::file(path), message).hint(hint));
        None
    };
    let shown = path.display();
    let mut text = Zeroizing::new(Vec::new());
    // Not opened before it is known to be a file: opening a pipe would wait.
    let outcome = std::fs::metadata(path).and_then(|metadata| {
        if !metadata.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        File::open(path)?.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut text)
    });
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fail(format!("cannot read {shown}: no such file"), "relative paths are relative to the current directory")
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            fail(format!("cannot read {shown}: permission denied"), "let the user of this process read it")
        }
        Err(error) => fail(format!("cannot read {shown}: {error}"), "name a readable file"),
        Ok(_) if u64::try_from(text.len()).is_ok_and(|length| length > FILE_BYTES_MAX) => {
            fail(format!("{shown} is larger than {FILE_BYTES_MAX} bytes"), "this is not a configuration file")
        }
        Ok(_) => match std::str::from_utf8(&text) {
            Ok(text) => Some(Source::new(path, text.strip_prefix('\u{feff}').unwrap_or(text))),
            Err(_) => fail(format!("{shown} is not UTF-8 text"), "save it as UTF-8"),
        },
    }
}

/// Parses a text. Syntax errors are pushed to `found`; `None` when nothing certain can be said about the rest.
pub fn parse(source: &Source, found: &Diagnostics) -> Option<Document> {
    let mut text = Zeroizing::new(source.text().to_owned());
    for _ in 0..SYNTAX_ERRORS_MAX {
        let error = match toml_edit::Document::parse(text.to_string()) {
            Ok(document) => return Some(Document { document }),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let place = source.place(span.clone());
        found.mark_partial(&place);
        let message = format!("this is not TOML: {}", error.message().replace('\n', ", "));
        let line = line_of(&text, span.start).unwrap_or_default();
        let hint = text.get(line.clone()).and_then(hint);
        // What is wrong is the value, though the parser may notice it at its end.
        let value = value_of(&text, &line).filter(|_| hint.is_some());
        let place = value.map_or(place, |value| source.place(value));
        found.push(Diagnostic::error(&codes::SYNTAX, &place, message).maybe_hint(hint));
        text = Zeroizing::new(without_line(&text, span.start)?);
    }
    None
}

/// The line of byte `at`; an error at the very end of a line belongs to that line.
fn line_of(text: &str, at: usize) -> Option<Range<usize>> {
    let begin = text.get(..at)?.rfind('\n').map_or(0, |n| n.saturating_add(1));
    let line = text.get(begin..)?.split('\n').next()?;
    Some(begin..begin.saturating_add(line.len()))
}

/// What follows the first `=` of a line.
fn value_of(text: &str, line: &Range<usize>) -> Option<Range<usize>> {
    let (_, value) = text.get(line.clone())?.split_once('=')?;
    let start = line.end.saturating_sub(value.trim_start().len());
    Some(start..line.end.max(start))
}

/// The text with the line of byte `at` blanked, if that line can be missed.
fn without_line(text: &str, at: usize) -> Option<String> {
    let span = line_of(text, at)?;
    let line = text.get(span.clone())?;
    let trimmed = line.trim();
    let (key, value) = trimmed.split_once('=')?;
    let key_like = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || " \t_-.\"'".contains(c));
    let closed = |open: char, close: char| value.matches(open).count() == value.matches(close).count();
    let multi_line = value.contains("\"\"\"") || value.contains("'''") || !closed('[', ']') || !closed('{', '}');
    if !key_like || multi_line {
        return None;
    }
    Some(format!("{}{}{}", text.get(..span.start)?, " ".repeat(line.len()), text.get(span.end..)?))
}

fn hint(line: &str) -> Option<String> {
    let value = line.split_once('=').map_or("", |(_, value)| value.trim());
    if value.is_empty() {
        return None;
    }
    let odd = |quote: char| value.matches(quote).count() % 2 == 1;
    if odd('"') || odd('\'') {
        return Some("a quote is not closed".to_owned());
    }
    let bare = value.chars().next().is_some_and(|c| c.is_alphabetic() || c == '/' || c == '.');
    (bare && !["true", "false"].contains(&value)).then(|| "strings stand in quotes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> (bool, Vec<(usize, usize)>) {
        let found = Diagnostics::new();
        let document = parse(&Source::new("a.toml", text), &found);
        (document.is_some(), found.sorted().iter().map(|d| (d.place.line(), d.place.column())).collect())
    }

    #[test]
    fn every_broken_line_is_reported_and_the_rest_is_read() {
        let (read, at) = errors("a = 1\nb = \"open\nc = 3\nd = tcp://x\ne = 5\n");
        assert!(read);
        assert_eq!(at.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn a_broken_header_or_a_value_of_many_lines_ends_the_reading() {
        for text in ["[[chain]\nid = 1\n", "a = [\n1,\n[[chain]]\n", "a = \"\"\"\nnever closed\n", "just words\n"] {
            let (read, at) = errors(text);
            assert!(!read && at.len() == 1 && at[0].0 > 0, "{text:?} {at:?}");
        }
    }

    #[test]
    fn a_key_given_twice_is_reported_where_it_is_given_again() {
        let (read, at) = errors("a = 1\nb = 2\na = 3\n");
        assert!(read);
        assert_eq!(at, [(3, 1)]);
    }

    #[test]
    fn an_unclosed_quote_and_a_bare_word_have_hints() {
        assert_eq!(hint("a = \"x").as_deref(), Some("a quote is not closed"));
        assert_eq!(hint("a = v0.34").as_deref(), Some("strings stand in quotes"));
        assert_eq!(hint("a = true"), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_finding_without_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let binary = directory.path().join("binary");
        std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
        let large = directory.path().join("large");
        File::create(&large).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        for path in [directory.path().join("missing"), binary, large, directory.path().to_owned()] {
            let found = Diagnostics::new();
            assert!(read(&path, &found).is_none());
            let item = &found.sorted()[0];
            assert_eq!((item.code.id, item.place.line()), ("CONFIG-0001", 0), "{}", item.message);
        }
    }
}
