//! Environment files, read as systemd reads an `EnvironmentFile=` (systemd.exec(5), version 255).
//!
//! | Rule | Example | Value |
//! |---|---|---|
//! | a quote counts at the beginning of a value, and right behind a quoted part | `'{"a": 1}'` | `{"a": 1}` |
//! | elsewhere it is a character | `{"a": 1}` | `{"a": 1}` |
//! | outside quotes a backslash takes the next character as it is, and joins lines | `a\"b` | `a"b` |
//! | inside double quotes it does so before `"`, `\`, `` ` ``, `$` and the end of a line only | `"a\nb"` | `a\nb` |
//! | inside single quotes nothing is special | `'a\b'` | `a\b` |
//! | `#` and `;` begin a comment at the beginning of a line only | `A=b # c` | `b # c` |
//! | nothing is expanded | `$HOME` | `$HOME` |
//!
//! Names are ASCII letters, digits and underscores, no digit first; systemd ignores any other assignment, and so does
//! [`parse`], which tells of it. Every byte of a value knows where in the file it stood, so that errors inside JSON values
//! have a line and a column. Offsets are in bytes.

use std::ops::Range;
use zeroize::Zeroizing;

/// Longest environment file, in bytes. The guide's has 2,000.
pub const ENV_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// One assignment.
pub struct Assignment {
    /// The name.
    pub name: String,
    /// The value, quotes and backslashes taken away. It may be a secret.
    pub value: Zeroizing<String>,
    /// Where the name stands.
    pub name_at: Range<usize>,
    /// Where the assignment ends.
    pub end: usize,
    /// Where each byte of the value stands.
    offsets: Vec<usize>,
    /// A quote was opened and never closed: the rest of the file is in this value.
    pub is_unclosed: bool,
    /// A backslash outside single quotes was taken away.
    pub lost_backslash: bool,
}

impl Assignment {
    /// Where a range of the value stands in the file; of an empty value, the end of the assignment.
    pub fn place_of(&self, range: Range<usize>) -> Range<usize> {
        let last = self.offsets.last().copied().unwrap_or(self.end);
        let start = self.offsets.get(range.start).copied().unwrap_or(last);
        let end = range.end.checked_sub(1).and_then(|at| self.offsets.get(at)).copied().unwrap_or(last);
        start..end.max(start).saturating_add(1)
    }
}

impl std::fmt::Debug for Assignment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

/// What a line is that systemd passes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// It has no equals sign.
    NoValue(String),
    /// What stands before the equals sign is no name.
    Name(String),
}

/// What is in a file.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Assignments in their order; of two with one name the later one counts.
    pub assignments: Vec<Assignment>,
    /// What systemd passes over, with its place.
    pub ignored: Vec<(Ignored, Range<usize>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeName,
    Name,
    BeforeValue,
    Value,
    ValueEscape,
    Single,
    Double,
    DoubleEscape,
    Comment,
    CommentEscape,
}

/// Reads a file. Every text is one; what makes no sense is passed over and told.
pub fn parse(text: &str) -> Parsed {
    let mut reader = Reader::default();
    for (at, c) in text.char_indices() {
        reader.take(at, c);
    }
    reader.finish(text.len());
    reader.parsed
}

#[derive(Debug)]
struct Reader {
    state: State,
    parsed: Parsed,
    name: String,
    name_start: usize,
    value: Zeroizing<String>,
    offsets: Vec<usize>,
    /// Bytes of the value up to its last character that trimming leaves.
    kept: usize,
    lost_backslash: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            state: State::BeforeName,
            parsed: Parsed::default(),
            name: String::new(),
            name_start: 0,
            value: Zeroizing::default(),
            offsets: Vec::new(),
            kept: 0,
            lost_backslash: false,
        }
    }
}

fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

impl Reader {
    fn take(&mut self, at: usize, c: char) {
        match self.state {
            State::BeforeName if matches!(c, '#' | ';') => self.state = State::Comment,
            State::BeforeName if is_space(c) => {}
            State::BeforeName => {
                self.name_start = at;
                self.state = State::Name;
                // Even an equals sign: systemd takes a line that begins with one as a name.
                self.name.push(c);
            }
            State::Name => self.take_name(at, c),
            State::BeforeValue => self.take_before_value(at, c),
            State::Value if is_newline(c) => self.finish(at),
            State::Value if c == '\\' => {
                self.state = State::ValueEscape;
                // Blanks before a backslash stay, whatever follows it.
                self.kept = self.value.len();
            }
            State::Value => self.push(at, c, !is_space(c)),
            State::ValueEscape => {
                self.state = State::Value;
                // A backslash joins lines, and keeps anything else, a blank at the end too.
                if !is_newline(c) {
                    self.lost_backslash = true;
                    self.push(at, c, true);
                }
            }
            State::Single if c == '\'' => self.state = State::BeforeValue,
            State::Double if c == '"' => self.state = State::BeforeValue,
            State::Double if c == '\\' => self.state = State::DoubleEscape,
            State::Single | State::Double => self.push(at, c, true),
            State::DoubleEscape => self.take_double_escape(at, c),
            State::Comment if c == '\\' => self.state = State::CommentEscape,
            State::Comment | State::CommentEscape => {
                self.state = if is_newline(c) { State::BeforeName } else { State::Comment };
            }
        }
    }

    fn take_name(&mut self, at: usize, c: char) {
        match c {
            '=' => self.state = State::BeforeValue,
            c if is_newline(c) => {
                let what = Ignored::NoValue(std::mem::take(&mut self.name));
                self.parsed.ignored.push((what, self.name_start..at));
                self.state = State::BeforeName;
            }
            c => self.name.push(c),
        }
    }

    fn take_before_value(&mut self, at: usize, c: char) {
        match c {
            c if is_newline(c) => self.finish(at),
            '\'' => self.state = State::Single,
            '"' => self.state = State::Double,
            '\\' => self.state = State::ValueEscape,
            c if is_space(c) => {}
            c => {
                self.state = State::Value;
                self.push(at, c, true);
            }
        }
    }

    fn take_double_escape(&mut self, at: usize, c: char) {
        self.state = State::Double;
        match c {
            '"' | '\\' | '`' | '$' => self.push(at, c, true),
            '\n' => {}
            c => {
                self.push(at.saturating_sub(1), '\\', true);
                self.push(at, c, true);
            }
        }
    }

    fn push(&mut self, at: usize, c: char, is_kept: bool) {
        self.value.push(c);
        self.offsets.extend((0..c.len_utf8()).map(|byte| at.saturating_add(byte)));
        if is_kept {
            self.kept = self.value.len();
        }
    }

    /// Ends the assignment, if one has begun.
    fn finish(&mut self, at: usize) {
        let (state, kept) = (std::mem::replace(&mut self.state, State::BeforeName), std::mem::take(&mut self.kept));
        let mut value = std::mem::take(&mut self.value);
        let mut offsets = std::mem::take(&mut self.offsets);
        let lost_backslash = std::mem::take(&mut self.lost_backslash);
        let name = std::mem::take(&mut self.name).trim_end_matches(is_space).to_owned();
        match state {
            State::BeforeName | State::Comment | State::CommentEscape => return,
            State::Name => return self.parsed.ignored.push((Ignored::NoValue(name), self.name_start..at)),
            _ => {}
        }
        value.truncate(kept);
        offsets.truncate(kept);
        let name_at = self.name_start..self.name_start.saturating_add(name.len());
        if !is_name(&name) {
            return self.parsed.ignored.push((Ignored::Name(name), name_at));
        }
        let is_unclosed = matches!(state, State::Single | State::Double | State::DoubleEscape);
        self.parsed.assignments.push(Assignment {
            name,
            value,
            name_at,
            end: at,
            offsets,
            is_unclosed,
            lost_backslash,
        });
    }
}

fn is_name(name: &str) -> bool {
    let is_first = name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    is_first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(text: &str) -> Vec<(String, String)> {
        parse(text).assignments.into_iter().map(|one| (one.name, one.value.to_string())).collect()
    }

    #[test]
    fn values_are_what_systemd_makes_of_them() {
        for (text, expected) in [
            ("A=b", "b"),
            ("A=", ""),
            ("A=\n", ""),
            ("  A  =  b  \n", "b"),
            ("A=b c  # d", "b c  # d"),
            ("A=\"b c\"", "b c"),
            ("A=\" b \"", " b "),
            ("A='b c' ", "b c"),
            ("A=\"b\"c", "bc"),
            ("A=\"b\" 'c'", "bc"),
            ("A=b\"c\"", "b\"c\""),
            ("A={\"a\": \"b c\"}", "{\"a\": \"b c\"}"),
            ("A='{\"a\": \"b\"}'", "{\"a\": \"b\"}"),
            ("A=\"{\\\"a\\\": 1}\"", "{\"a\": 1}"),
            ("A={\"a\": \"b\\\"c\"}", "{\"a\": \"b\"c\"}"),
            ("A='a\\b'", "a\\b"),
            ("A=a\\b", "ab"),
            ("A=\"a\\b\\n\"", "a\\b\\n"),
            ("A=\"a\\$b\\`c\\\\d\"", "a$b`c\\d"),
            ("A=a\\\nb", "ab"),
            ("A=\"a\\\nb\"", "ab"),
            ("A=\"a\nb\"", "a\nb"),
            ("A='a\\\nb'", "a\\\nb"),
            ("A=$HOME ${B}", "$HOME ${B}"),
            ("A=b\\ \n", "b "),
            ("A=b \\\n", "b "),
            ("=x=y\nA=b", "b"),
            ("A=b\r\n", "b"),
            ("A=é", "é"),
            ("A=b=c", "b=c"),
            ("A=\"b", "b"),
        ] {
            assert_eq!(values(text), [("A".to_owned(), expected.to_owned())], "{text:?}");
        }
    }

    #[test]
    fn comments_blank_lines_and_what_is_no_assignment_are_passed_over() {
        let text = "# a=1\n; b=2\n\n  # c=3\nd=4\nexport e=5\nnonsense\n9=1\n# joined \\\nf=6\nA=1\nA=2\n";
        let parsed = parse(text);
        let found: Vec<_> = parsed.assignments.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
        assert_eq!(found, [("d", "4"), ("f", "6"), ("A", "1"), ("A", "2")]);
        let ignored: Vec<_> = parsed.ignored.into_iter().map(|(what, _)| what).collect();
        assert_eq!(
            ignored,
            [Ignored::Name("export e".into()), Ignored::NoValue("nonsense".into()), Ignored::Name("9".into())]
        );
    }

    #[test]
    fn every_byte_of_a_value_knows_its_place() {
        let text = "# x\nA=\"{\\\"a\\\": é}\"\n";
        let parsed = parse(text);
        let one = parsed.assignments.first().unwrap();
        assert_eq!(one.value.as_str(), "{\"a\": é}");
        assert_eq!(&text[one.place_of(1..2)], "\"");
        let wide = one.value.find('é').unwrap();
        assert_eq!(&text[one.place_of(wide..wide + 2)], "é");
        assert_eq!(&text[one.name_at.clone()], "A");
    }

    #[test]
    fn an_open_quote_and_a_lost_backslash_are_told() {
        let parsed = parse("A=\"b\nC=d\n");
        assert!(parsed.assignments[0].is_unclosed);
        assert_eq!(parsed.assignments[0].value.as_str(), "b\nC=d\n");
        assert!(parse("A={\"a\": \"\\\"\"}").assignments[0].lost_backslash);
        assert!(!parse("A='{\"a\": \"\\\"\"}'").assignments[0].lost_backslash);
    }

    proptest! {
        #[test]
        fn no_text_stops_the_reader_and_every_place_is_in_the_text(text in "[A-Z=\"'\\\\ \n#;é]{0,60}") {
            for one in parse(&text).assignments {
                prop_assert_eq!(one.offsets.len(), one.value.len());
                let place = one.place_of(0..one.value.len());
                prop_assert!(place.start <= text.len());
            }
        }
    }
}
