//! Where a value stands: file, line, column, and the line itself with passwords hidden.

use std::fmt;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Keys whose values are never shown.
const HIDDEN_KEYS: [&str; 6] = ["password", "passphrase", "api_key", "pin", "token", "mnemonic"];
/// What is shown of `auth`; anything else in it may be a password with a slip in its name.
const AUTH_SHOWN: [&str; 2] = ["key", "password_file"];
/// What is shown instead.
const HIDDEN: &str = "<hidden>";
/// Characters of a line that are shown.
const LINE_CHARS_MAX: usize = 200;

/// The text of a file. Wiped when dropped, and never printed, because it may hold a password.
pub struct Source {
    path: Arc<Path>,
    text: Zeroizing<String>,
    hidden: Vec<Range<usize>>,
}

impl Source {
    /// A text with the path to name it by.
    pub fn new(path: impl AsRef<Path>, text: impl Into<String>) -> Source {
        let text = Zeroizing::new(text.into());
        let hidden = hidden_values(&text);
        Source { path: Arc::from(path.as_ref()), text, hidden }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place of a range of bytes; a range that is not in the text is the nearest one that is.
    pub fn place(&self, span: Range<usize>) -> Place {
        let start = floor(&self.text, span.start);
        let begin = self.text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |at| at.saturating_add(1));
        let rest = self.text.get(begin..).unwrap_or_default();
        let full = rest.split('\n').next().unwrap_or_default();
        let end = begin.saturating_add(full.len());
        let line = self.text.get(..begin).unwrap_or_default().matches('\n').count().saturating_add(1);
        let column = chars(&self.text, begin..start).saturating_add(1);
        let width = chars(&self.text, start..floor(&self.text, span.end.min(end))).max(1);
        Place { path: Arc::clone(&self.path), line, column, width, shown: self.shown(begin..end) }
    }

    /// The file as a whole.
    pub fn whole(&self) -> Place {
        Place::file(&self.path)
    }

    fn shown(&self, line: Range<usize>) -> Arc<str> {
        let cut = self.hidden.iter().find(|hidden| hidden.start < line.end && hidden.end > line.start);
        let text = match cut {
            Some(hidden) => {
                let before = self.text.get(line.start..hidden.start.max(line.start)).unwrap_or_default();
                format!("{before}{HIDDEN}")
            }
            None => self.text.get(line).unwrap_or_default().to_owned(),
        };
        let clean = text.trim_end().chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c });
        let mut shown: String = clean.take(LINE_CHARS_MAX).collect();
        if text.trim_end().chars().nth(LINE_CHARS_MAX).is_some() {
            shown.push('…');
        }
        Arc::from(shown)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at = at.saturating_sub(1);
    }
    at
}

fn chars(text: &str, range: Range<usize>) -> usize {
    text.get(range).map_or(0, |part| part.chars().count())
}

/// The values of [`HIDDEN_KEYS`], found without a parser because the text may not parse.
fn hidden_values(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for key in HIDDEN_KEYS {
        for (at, _) in text.match_indices(key) {
            let before = text.get(..at).and_then(|t| t.chars().next_back());
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-') {
                continue;
            }
            let after = at.saturating_add(key.len());
            let rest = text.get(after..).unwrap_or_default();
            let value = rest.trim_start_matches(['"', '\'', ' ', '\t']);
            let Some(value) = value.strip_prefix('=') else { continue };
            let value = value.trim_start_matches([' ', '\t']);
            let start = text.len().saturating_sub(value.len());
            found.push(start..start.saturating_add(value_length(value)));
        }
    }
    for (at, _) in text.match_indices('=') {
        let (key, value) = (word_before(text, at), value_at(text, at));
        if is_secret(key) || (key == "auth" && !text.get(value.start..).is_some_and(|value| value.starts_with('{'))) {
            found.push(value);
        }
    }
    for (at, _) in text.match_indices("auth") {
        let begin = at.saturating_add("auth".len());
        let rest = text.get(begin..).unwrap_or_default();
        let table = match rest.trim_start_matches(['"', '\'', ' ', '\t']).chars().next() {
            // [providers.yubihsm.auth]: up to the next table.
            Some(']') => rest.find("\n[").unwrap_or(rest.len()),
            // auth = { … }: to the end of the line in which it closes.
            Some('=') => rest.find('}').map_or(rest.len(), |end| line_end(rest, end)),
            // auth.key = …
            Some('.') => line_end(rest, 0),
            _ => continue,
        };
        let inner =
            rest.get(..table).unwrap_or_default().match_indices('=').map(|(inner, _)| begin.saturating_add(inner));
        let strange = |at: &usize| !["auth"].iter().chain(&AUTH_SHOWN).any(|known| *known == word_before(text, *at));
        found.extend(inner.filter(strange).map(|at| value_at(text, at)));
    }
    found.sort_by_key(|range| range.start);
    found
}

/// Whether the values of this key are never shown: it is the name of a secret, or nearly.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    HIDDEN_KEYS.iter().any(|hidden| {
        let slips = if hidden.len() > 5 { 2 } else { 1 };
        strsim::damerau_levenshtein(&key, hidden) <= slips
    })
}

/// Whether the values of this key below `auth` are never shown.
pub fn is_secret_of_auth(key: &str) -> bool {
    !AUTH_SHOWN.contains(&key)
}

/// The last word of the key that ends at an equals sign.
fn word_before(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or_default().trim_end_matches(['"', '\'', ' ', '\t']);
    before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).next().unwrap_or_default()
}

/// The value behind the equals sign there.
fn value_at(text: &str, at: usize) -> Range<usize> {
    let rest = text.get(at.saturating_add(1)..).unwrap_or_default();
    let value = rest.trim_start_matches([' ', '\t']);
    let start = text.len().saturating_sub(value.len());
    start..start.saturating_add(value_length(value))
}

fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |end| at.saturating_add(end))
}

/// Bytes of a value, rather too many than too few.
fn value_length(value: &str) -> usize {
    for quote in ["\"\"\"", "'''"] {
        if let Some(inner) = value.strip_prefix(quote) {
            return inner.find(quote).map_or(value.len(), |end| end.saturating_add(6));
        }
    }
    value.find('\n').unwrap_or(value.len())
}

/// A place in a file. Cheap to clone; it holds its line, not the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    path: Arc<Path>,
    line: usize,
    column: usize,
    width: usize,
    shown: Arc<str>,
}

impl Place {
    /// A file as a whole.
    pub fn file(path: &Path) -> Place {
        Place { path: Arc::from(path), line: 0, column: 0, width: 0, shown: Arc::from("") }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line from 1; 0 for a file as a whole.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in characters from 1; 0 for a file as a whole.
    pub fn column(&self) -> usize {
        self.column
    }

    /// How many characters of the line are meant.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The line as it may be shown: passwords hidden, cut when very long.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.path.display()),
            line => write!(f, "{}:{line}:{}", self.path.display(), self.column),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

impl<T> Spanned<T> {
    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), place: self.place }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A secret that stood in a configuration file. Wiped when dropped.
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: &str) -> Secret {
        Secret(Zeroizing::new(text.to_owned()))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let source = Source::new("a.toml", "x = 1\nprefix = \"é\" # ü\nlast");
        let table = [(0..1, 1, 1, 1), (6..12, 2, 1, 6), (15..19, 2, 10, 3), (25..999, 3, 1, 4), (999..999, 3, 5, 1)];
        for (span, line, column, width) in table {
            let place = source.place(span.clone());
            assert_eq!((place.line(), place.column(), place.width()), (line, column, width), "{span:?}");
        }
        assert_eq!(source.place(15..19).to_string(), "a.toml:2:10");
        assert_eq!(source.whole().to_string(), "a.toml");
    }

    #[test]
    fn a_span_over_several_lines_ends_with_its_first_line() {
        let source = Source::new("a.toml", "keys = [\n 1,\n]\n");
        assert_eq!(source.place(7..15).width(), 1);
    }

    #[test]
    fn a_password_is_never_shown_wherever_it_stands() {
        for text in [
            "auth = { key = 1, password = \"hunter2\" }",
            "password='hunter2'",
            "\"password\" = \"hunter2",
            "password = hunter2",
            "auth.password = \"hunter2\"",
            "password = \"\"\"\nhunter2\n\"\"\"",
            "api_key = \"hunter2\"",
            "auth = { key = 1, pasword = \"hunter2\" }",
            "auth = { key = 1, other = \"hunter2\" }",
            "auth = {\n key = 1,\n other = \"hunter2\"\n}",
            "auth = \"hunter2\"",
            "auth.other = \"hunter2\"",
            "[providers.yubihsm.auth]\nkey = 1\nother = \"hunter2\"\n",
            "pni = \"hunter2\"",
            "\"passwrod\" = \"hunter2\"",
        ] {
            let source = Source::new("a.toml", text);
            for at in 0..=text.len() {
                assert!(!source.place(at..at).shown().contains("hunter2"), "{text}");
            }
            assert!(!format!("{source:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_password_file_is_shown() {
        let source = Source::new("a.toml", "auth = { key = 1, password_file = \"/etc/pass\" }");
        assert!(source.place(0..1).shown().contains("/etc/pass"));
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }

    #[test]
    fn a_very_long_line_is_cut() {
        let source = Source::new("a.toml", "x".repeat(10_000));
        assert_eq!(source.place(0..1).shown().chars().count(), LINE_CHARS_MAX + 1);
    }
}
