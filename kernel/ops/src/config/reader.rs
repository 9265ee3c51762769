//! Reads one table, key by key, into values with places.
//!
//! A key that is absent gives `None` and no finding; a key that is there with the wrong type or value gives `None` and a
//! finding; [`Reader::required`] makes absence a finding. Whatever was not asked for when the reader is finished is an unknown
//! key.

use super::codes;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::parse::Document;
use super::place::{Place, Secret, Source, Spanned};
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use toml_edit::{InlineTable, Item, Table, TableLike, Value};

/// Tables of one list.
const TABLES_MAX: usize = 10_000;

/// Reads one table. See the module.
pub struct Reader<'a> {
    table: &'a dyn TableLike,
    source: &'a Source,
    found: &'a Diagnostics,
    name: String,
    place: Place,
    asked: BTreeSet<&'static str>,
    missing: Vec<(&'static str, String)>,
    elsewhere: &'static [(&'static str, &'static str)],
}

impl<'a> Reader<'a> {
    /// The top level of a document.
    pub fn root(document: &'a Document, source: &'a Source, found: &'a Diagnostics) -> Reader<'a> {
        Reader {
            table: document.root(),
            source,
            found,
            name: "the top level".to_owned(),
            place: source.place(0..0),
            asked: BTreeSet::new(),
            missing: Vec::new(),
            elsewhere: &[],
        }
    }

    /// Known keys of other tables, as (key, table), so that a key in the wrong table gets the right hint.
    #[must_use]
    pub fn elsewhere(mut self, keys: &'static [(&'static str, &'static str)]) -> Reader<'a> {
        self.elsewhere = keys;
        self
    }

    /// What the table is called in messages: `[[chain]]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the table begins.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where findings go.
    pub fn found(&self) -> &'a Diagnostics {
        self.found
    }

    /// Whether the key is there, of whatever type.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether the key is there with an empty list.
    pub fn is_empty_list(&self, key: &str) -> bool {
        self.table.get(key).and_then(Item::as_array).is_some_and(toml_edit::Array::is_empty)
    }

    /// Where the key stands, if it is there.
    pub fn key_place(&self, key: &str) -> Option<Place> {
        let (name, item) = self.table.get_key_value(key)?;
        Some(name.span().or_else(|| item.span()).map_or_else(|| self.place.clone(), |span| self.source.place(span)))
    }

    /// Keys that must be there, each with a hint for when it is not. Reported by [`Reader::finish`].
    pub fn required(&mut self, keys: &[(&'static str, &str)]) {
        for (key, hint) in keys {
            self.asked.insert(key);
            if !self.has(key) {
                self.missing.push((key, (*hint).to_owned()));
            }
        }
    }

    /// Keys that are known and not read here.
    pub fn known(&mut self, keys: &[&'static str]) {
        self.asked.extend(keys);
    }

    /// A string.
    pub fn string(&mut self, key: &'static str) -> Option<Spanned<String>> {
        self.scalar(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A string that is not empty, as a path.
    pub fn path(&mut self, key: &'static str) -> Option<Spanned<PathBuf>> {
        let text = self.string(key)?;
        if text.is_empty() {
            let message = format!("`{key}` in {} is empty", self.name);
            self.found.push(Diagnostic::error(&codes::EMPTY, &text.place, message).hint("give the path of a file"));
            return None;
        }
        Some(text.map(PathBuf::from))
    }

    /// A string that is never shown.
    pub fn secret(&mut self, key: &'static str) -> Option<Spanned<Secret>> {
        self.scalar(key, "a string", |value| value.as_str().map(Secret::new))
    }

    /// true or false.
    pub fn boolean(&mut self, key: &'static str) -> Option<Spanned<bool>> {
        self.scalar(key, "true or false", Value::as_bool)
    }

    /// An integer in a range.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<Spanned<i64>> {
        let number = self.scalar(key, "an integer", Value::as_integer)?;
        if !range.contains(&number.value) {
            let (low, high) = (range.start(), range.end());
            let message = format!("`{key}` in {} must be from {low} to {high}, this is {}", self.name, number.value);
            self.found.push(
                Diagnostic::error(&codes::OUT_OF_RANGE, &number.place, message)
                    .hint(format!("{key} = {}", number.value.clamp(*low, *high))),
            );
            return None;
        }
        Some(number)
    }

    /// One of a few words.
    pub fn choice<T: Clone>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<Spanned<T>> {
        let word = self.string(key)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word.value) {
            return Some(Spanned { value: value.clone(), place: word.place });
        }
        self.not_a_choice(key, &word, &choices.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        None
    }

    /// Reports that `word` is none of `choices`.
    pub fn not_a_choice(&self, key: &str, word: &Spanned<String>, choices: &[&str]) {
        let list = choices.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
        let hint = match nearest(&word.value, choices.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"? Known are {list}"),
            None => format!("known are {list}"),
        };
        let message = format!("`{key}` in {} is \"{}\", which is not known", self.name, cut(&word.value));
        self.found.push(Diagnostic::error(&codes::NOT_A_CHOICE, &word.place, message).hint(hint));
    }

    /// A list of strings.
    pub fn strings(&mut self, key: &'static str) -> Option<Spanned<Vec<Spanned<String>>>> {
        let (place, item) = self.item(key)?;
        let Some(array) = item.as_array() else {
            let hint = item.as_str().map(|text| format!("{key} = [\"{}\"]", cut(text)));
            self.wrong_type(key, &place, "a list of strings", kind(item), hint);
            return None;
        };
        let mut list = Vec::new();
        let mut good = true;
        for value in array {
            let place = self.at(value.span(), &place);
            match value.as_str() {
                Some(text) => list.push(Spanned { value: text.to_owned(), place }),
                None => {
                    good = false;
                    self.wrong_type(key, &place, "a list of strings", value.type_name(), quoted(value));
                }
            }
        }
        good.then_some(Spanned { value: list, place })
    }

    /// A table, in either notation.
    pub fn table(&mut self, key: &'static str) -> Option<Reader<'a>> {
        let (place, item) = self.item(key)?;
        let name = self.child_name(key);
        if let Some(table) = item.as_table_like() {
            return Some(self.child(table, name, place));
        }
        let hint = match item {
            Item::ArrayOfTables(_) => format!("write [{key}] with single brackets"),
            _ => format!("write {key} = {{ … }}"),
        };
        self.wrong_type(key, &place, "a table", kind(item), Some(hint));
        None
    }

    /// A list of tables, in either notation; empty when the key is absent or wrong.
    pub fn tables(&mut self, key: &'static str) -> Vec<Reader<'a>> {
        let Some((place, item)) = self.item(key) else { return Vec::new() };
        let name = format!("[[{}]]", self.child_name(key).trim_matches(['[', ']', '`']));
        match item {
            Item::ArrayOfTables(tables) => tables
                .iter()
                .take(TABLES_MAX)
                .map(|table: &'a Table| {
                    let place = self.at(header(table, self.source), &place);
                    self.child(table, name.clone(), place)
                })
                .collect(),
            Item::Value(Value::Array(array)) => {
                let mut readers = Vec::new();
                for value in array.iter().take(TABLES_MAX) {
                    let place = self.at(value.span(), &place);
                    match value.as_inline_table() {
                        Some(table) => {
                            let table: &'a InlineTable = table;
                            readers.push(self.child(table, name.clone(), place));
                        }
                        None => self.wrong_type(key, &place, "a list of tables", value.type_name(), None),
                    }
                }
                readers
            }
            _ => {
                let hint = match item {
                    Item::Table(_) => format!("write {name} with double brackets"),
                    _ => format!("write {key} = [{{ … }}]"),
                };
                self.wrong_type(key, &place, "a list of tables", kind(item), Some(hint));
                Vec::new()
            }
        }
    }

    /// Reports every key that nobody asked for, and says how many there are. A mandatory key that is there misspelt is
    /// reported as that and not as missing too.
    pub fn finish(mut self) -> usize {
        let mut unknown = 0_usize;
        for (name, item) in self.table.iter() {
            if self.asked.contains(name) {
                continue;
            }
            unknown = unknown.saturating_add(1);
            let span = self.table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
            let place = self.at(span, &self.place);
            let absent = self.asked.iter().copied().filter(|key| !self.table.contains_key(key));
            let near = nearest(name, absent).or_else(|| nearest(name, self.asked.iter().copied()));
            if let Some(near) = near {
                self.missing.retain(|(key, _)| *key != near);
            }
            let hint = match near {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None => self.belongs(name),
            };
            let list = self.asked.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let hint = hint.unwrap_or_else(|| format!("known keys are {list}"));
            let message = format!("unknown key `{}` in {}", cut(name), self.name);
            self.found.push(Diagnostic::error(&codes::UNKNOWN_KEY, &place, message).hint(hint));
        }
        for (key, hint) in &self.missing {
            let message = format!("{} has no `{key}`", self.name);
            self.found.push(Diagnostic::error(&codes::MISSING_KEY, &self.place, message).hint(hint.as_str()));
        }
        unknown
    }

    fn belongs(&self, name: &str) -> Option<String> {
        let (key, table) = self.elsewhere.iter().find(|(key, table)| *key == name && *table != self.name)?;
        Some(format!("`{key}` belongs to {table}"))
    }

    fn child(&self, table: &'a dyn TableLike, name: String, place: Place) -> Reader<'a> {
        let (source, found, elsewhere) = (self.source, self.found, self.elsewhere);
        Reader { table, source, found, name, place, asked: BTreeSet::new(), missing: Vec::new(), elsewhere }
    }

    fn child_name(&self, key: &str) -> String {
        match self.name.as_str() {
            "the top level" => format!("[{key}]"),
            parent if parent.starts_with("[[") => format!("`{key}` of {parent}"),
            parent => format!("[{}.{key}]", parent.trim_matches(['[', ']', '`'])),
        }
    }

    fn item(&mut self, key: &'static str) -> Option<(Place, &'a Item)> {
        self.asked.insert(key);
        let (name, item) = self.table.get_key_value(key)?;
        if item.is_none() {
            return None;
        }
        let span = match item {
            Item::Value(value) => value.span(),
            Item::Table(table) => header(table, self.source),
            _ => None,
        };
        Some((self.at(span.or_else(|| name.span()), &self.place), item))
    }

    fn scalar<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<Spanned<T>> {
        let (place, item) = self.item(key)?;
        if let Some(value) = item.as_value().and_then(read) {
            return Some(Spanned { value, place });
        }
        let hint = match (expected, item.as_value()) {
            ("a string", Some(value)) => quoted(value).map(|text| format!("put it in quotes: {key} = {text}")),
            (_, Some(Value::String(text))) => {
                let text = text.value().trim();
                let bare = text.parse::<i64>().is_ok() || text == "true" || text == "false";
                bare.then(|| format!("write it without quotes: {key} = {text}"))
            }
            _ => None,
        };
        self.wrong_type(key, &place, expected, kind(item), hint);
        None
    }

    fn wrong_type(&self, key: &str, place: &Place, expected: &str, actual: &str, hint: Option<String>) {
        let message = format!("`{key}` in {} must be {expected}, this is {}", self.name, article(actual));
        let hint = hint.unwrap_or_else(|| format!("give {expected}"));
        self.found.push(Diagnostic::error(&codes::WRONG_TYPE, place, message).hint(hint));
    }

    fn at(&self, span: Option<Range<usize>>, otherwise: &Place) -> Place {
        span.map_or_else(|| otherwise.clone(), |span| self.source.place(span))
    }
}

/// The header line of a table; `None` for one that has none of its own.
fn header(table: &Table, source: &Source) -> Option<Range<usize>> {
    let span = table.span()?;
    let text = source.text().get(span.clone())?;
    let line = text.split('\n').next().unwrap_or_default().trim_end();
    Some(span.start..span.start.saturating_add(line.len()))
}

fn kind(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Value(value) => value.type_name(),
        Item::Table(_) => "table",
        Item::ArrayOfTables(_) => "list of tables",
    }
}

fn article(kind: &str) -> String {
    match kind {
        "array" => "a list".to_owned(),
        "inline table" | "table" => "a table".to_owned(),
        "integer" => "an integer".to_owned(),
        "nothing" => "nothing".to_owned(),
        "boolean" => "true or false".to_owned(),
        "datetime" => "a date".to_owned(),
        other => format!("a {other}"),
    }
}

fn quoted(value: &Value) -> Option<String> {
    match value {
        Value::Integer(number) => Some(format!("\"{}\"", number.value())),
        Value::Float(number) => Some(format!("\"{}\"", number.value())),
        Value::Boolean(flag) => Some(format!("\"{}\"", flag.value())),
        _ => None,
    }
}

/// A stranger's word, short enough for a message.
fn cut(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut short: String = clean.take(64).collect();
    if text.chars().nth(64).is_some() {
        short.push('…');
    }
    short
}

/// The candidate that a person may have meant.
pub(super) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > 64 {
        return None;
    }
    let limit = word.chars().count().div_ceil(4).clamp(1, 3);
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' '], "_");
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&plain(word), &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn found(text: &str, read: impl Fn(&mut Reader<'_>)) -> Vec<(&'static str, usize, usize, String)> {
        let found = Diagnostics::new();
        let source = Source::new("a.toml", text);
        let document = parse(&source, &found).unwrap();
        let mut reader = Reader::root(&document, &source, &found);
        read(&mut reader);
        reader.finish();
        let flat = |d: Diagnostic| (d.code.id, d.place.line(), d.place.column(), d.hint.unwrap_or_default());
        found.sorted().into_iter().map(flat).collect()
    }

    #[test]
    fn unknown_keys_are_reported_with_what_was_meant() {
        let text = "addr = \"x\"\ntimout = 3\nChain-ID = \"y\"\nstate_file = \"z\"\nqwertz = 1\n";
        let all = found(text, |r| {
            r.elsewhere = &[("state_file", "[[chain]]")];
            r.string("addr");
            r.integer("timeout", 1..=9);
            r.string("chain_id");
        });
        let expected = [
            ("CONFIG-0003", 2, 1, "did you mean `timeout`?"),
            ("CONFIG-0003", 3, 1, "did you mean `chain_id`?"),
            ("CONFIG-0003", 4, 1, "`state_file` belongs to [[chain]]"),
            ("CONFIG-0003", 5, 1, "known keys are `addr`, `chain_id`, `timeout`"),
        ];
        assert_eq!(all, expected.map(|(a, b, c, d)| (a, b, c, d.to_owned())));
    }

    #[test]
    fn wrong_types_say_how_to_write_it() {
        let text = "max_height = 500\ntimeout = \"10\"\nreconnect = \"true\"\nids = \"a\"\nlist = [\"a\", 7]\nn = 99\n";
        let all = found(text, |r| {
            r.string("max_height");
            r.integer("timeout", 0..=10);
            r.boolean("reconnect");
            r.strings("ids");
            r.strings("list");
            r.integer("n", 0..=10);
        });
        let expected = [
            ("CONFIG-0005", 1, 14, "put it in quotes: max_height = \"500\""),
            ("CONFIG-0005", 2, 11, "write it without quotes: timeout = 10"),
            ("CONFIG-0005", 3, 13, "write it without quotes: reconnect = true"),
            ("CONFIG-0005", 4, 7, "ids = [\"a\"]"),
            ("CONFIG-0005", 5, 14, "\"7\""),
            ("CONFIG-0006", 6, 5, "n = 10"),
        ];
        assert_eq!(all, expected.map(|(a, b, c, d)| (a, b, c, d.to_owned())));
    }

    #[test]
    fn tables_are_read_in_either_notation_and_point_at_their_header() {
        for (text, line, column) in
            [("x = 1\n[[chain]]\n[[chain]]\nid = 1\n", 3, 1), ("x = 1\nchain = [{}, {id = 1}]\n", 2, 14)]
        {
            let found = Diagnostics::new();
            let source = Source::new("a.toml", text);
            let document = parse(&source, &found).unwrap();
            let readers = Reader::root(&document, &source, &found).tables("chain");
            assert_eq!(readers.len(), 2);
            assert_eq!(readers[1].name(), "[[chain]]");
            assert_eq!((readers[1].place().line(), readers[1].place().column()), (line, column), "{text}");
        }
    }

    #[test]
    fn single_and_double_brackets_are_told_apart() {
        let all = found("[chain]\nid = 1\n", |r| {
            r.tables("chain");
        });
        assert_eq!(all, [("CONFIG-0005", 1, 1, "write [[chain]] with double brackets".to_owned())]);
        let all = found("[[providers]]\nid = 1\n", |r| {
            r.table("providers");
        });
        assert_eq!(all, [("CONFIG-0005", 1, 3, "write [providers] with single brackets".to_owned())]);
    }

    #[test]
    fn a_missing_key_points_at_the_table() {
        let found = Diagnostics::new();
        let source = Source::new("a.toml", "\n[[chain]]\n");
        let document = parse(&source, &found).unwrap();
        let mut chain = Reader::root(&document, &source, &found).tables("chain").remove(0);
        chain.required(&[("id", "add id = \"…\"")]);
        chain.finish();
        let item = &found.sorted()[0];
        assert_eq!((item.code.id, item.place.line(), item.place.column()), ("CONFIG-0004", 2, 1));
        assert_eq!(item.message, "[[chain]] has no `id`");
    }

    #[test]
    fn a_mandatory_key_that_is_misspelt_is_one_error() {
        let all = found("chain_id = [\"x\"]\n", |r| {
            r.required(&[("chain_ids", "add it"), ("path", "add it too")]);
        });
        let hints: Vec<_> = all.iter().map(|(code, _, _, hint)| (*code, hint.as_str())).collect();
        assert_eq!(hints, [("CONFIG-0003", "did you mean `chain_ids`?"), ("CONFIG-0004", "add it too")]);
    }

    #[test]
    fn a_word_is_near_another_when_a_few_letters_differ() {
        let known = ["state_file", "state_hook", "id"];
        for (word, near) in
            [("stat_file", Some("state_file")), ("State-File", Some("state_file")), ("ids", Some("id")), ("zzz", None)]
        {
            assert_eq!(nearest(word, known.into_iter()), near, "{word}");
        }
    }
}
