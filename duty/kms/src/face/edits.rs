//! Changes to a configuration's text: only what has to change does, byte for byte. Comments, order and quotes stay.

use std::ops::Range;
use toml_edit::{Item, Table, TableLike, Value};

/// The tables of an array, in either notation.
pub(super) fn tables(item: Option<&Item>) -> Vec<&dyn TableLike> {
    match item {
        Some(Item::ArrayOfTables(array)) => array.iter().map(|table: &Table| table as &dyn TableLike).collect(),
        Some(Item::Value(Value::Array(array))) => {
            array.iter().filter_map(Value::as_inline_table).map(|table| table as &dyn TableLike).collect()
        }
        Some(item) => item.as_table_like().into_iter().collect(),
        None => Vec::new(),
    }
}

/// Lines that differ, from 0: those of the old text, and those of the new one.
pub(super) type Hunk = (Range<usize>, Range<usize>);

/// Replacements of parts of a text.
pub(super) struct Edits<'a> {
    text: &'a str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'a> Edits<'a> {
    /// None yet.
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, edits: Vec::new() }
    }

    /// Replaces a string value if it is this one. The quotes stay as they are.
    pub(super) fn replace(&mut self, item: Option<&Item>, old: &str, new: &str) -> bool {
        item.and_then(Item::as_value).is_some_and(|value| self.replace_value(value, old, new))
    }

    fn replace_value(&mut self, value: &Value, old: &str, new: &str) -> bool {
        let (Some(text), Some(span)) = (value.as_str(), value.span()) else { return false };
        if text != old {
            return false;
        }
        let raw = self.text.get(span.clone()).unwrap_or_default();
        let quoted = if raw.contains(old) { raw.replacen(old, new, 1) } else { format!("{new:?}") };
        self.edits.push((span, quoted));
        true
    }

    pub(super) fn replace_in(&mut self, item: Option<&Item>, old: &str, new: &str) {
        for value in item.and_then(Item::as_array).into_iter().flat_map(|array| array.iter()) {
            self.replace_value(value, old, new);
        }
    }

    /// Adds a line below the one that a value ends on, as far in.
    pub(super) fn insert_after(&mut self, item: Option<&Item>, line: &str) {
        let Some(span) = item.and_then(Item::span) else { return };
        let rest = self.text.get(span.end..).unwrap_or_default();
        let end = span.end + rest.find('\n').unwrap_or(rest.len());
        let start = self.text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let indent: String = self
            .text
            .get(start..span.start)
            .unwrap_or_default()
            .chars()
            .take_while(|c| matches!(c, ' ' | '\t'))
            .collect();
        self.edits.push((end..end, format!("\n{indent}{line}")));
    }

    /// Takes a key and its value away: the line, where they have one of their own.
    pub(super) fn remove(&mut self, table: &dyn TableLike, key: &str) -> bool {
        let Some((name, item)) = table.get_key_value(key) else { return false };
        let (Some(name), Some(value)) = (name.span(), item.span()) else { return false };
        let before = self.text.get(..name.start).unwrap_or_default();
        let rest = self.text.get(value.end..).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let tail = rest.get(..end).unwrap_or_default().trim();
        if before.get(start..).unwrap_or_default().trim().is_empty() && (tail.is_empty() || tail.starts_with('#')) {
            self.edits.push((start..value.end + end, String::new()));
            return true;
        }
        // In a table of one line, one of the two commas goes with it.
        let after = rest.trim_start();
        let range = match after.strip_prefix(',') {
            Some(next) => name.start..self.text.len() - next.trim_start_matches(' ').len(),
            None => before.trim_end().strip_suffix(',').map_or(name.start, str::len)..value.end,
        };
        self.edits.push((range, String::new()));
        true
    }

    /// Puts another text in the place of a value, whatever it is.
    pub(super) fn put(&mut self, item: Option<&Item>, new: impl Into<String>) -> bool {
        let Some(span) = item.and_then(Item::as_value).and_then(Value::span) else { return false };
        self.edits.push((span, new.into()));
        true
    }

    /// Gives a key another name.
    pub(super) fn rename(&mut self, table: &dyn TableLike, key: &str, new: &str) -> bool {
        let Some(span) = table.get_key_value(key).and_then(|(name, _)| name.span()) else { return false };
        self.edits.push((span, new.to_owned()));
        true
    }

    /// Doubles the brackets of a table's header.
    pub(super) fn double_brackets(&mut self, table: &Table) -> bool {
        let Some(start) = table.span().map(|span| span.start) else { return false };
        let line = self.text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
        let (true, Some(end)) = (line.starts_with('['), line.find(']')) else { return false };
        self.edits.extend([(start..start, "[".to_owned()), (start + end..start + end, "]".to_owned())]);
        true
    }

    /// The new text, and which lines of both texts differ, from 0: old lines, new lines.
    pub(super) fn finish(mut self) -> (String, Vec<Hunk>) {
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let text = self.text;
        let line_of = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count();
        let mut hunks: Vec<Hunk> = Vec::new();
        let mut shift: isize = 0;
        for (range, new) in &self.edits {
            let old = text.get(range.clone()).unwrap_or_default();
            let (first, last) = (line_of(range.start), line_of(range.end));
            // A whole line that goes takes nothing of the next one.
            let whole = new.is_empty() && old.ends_with('\n');
            let lines = first..if whole { last } else { last + 1 };
            let grown = new.matches('\n').count() as isize - old.matches('\n').count() as isize;
            let new_start = first.saturating_add_signed(shift);
            let new_lines = new_start..new_start.saturating_add_signed(lines.len() as isize + grown);
            shift += grown;
            match hunks.last_mut() {
                Some((old, new)) if lines.start < old.end || (lines.start == old.end && lines.is_empty()) => {
                    old.end = old.end.max(lines.end);
                    new.end = new.end.max(new_lines.end);
                }
                _ => hunks.push((lines, new_lines)),
            }
        }
        (self.apply(), hunks)
    }

    pub(super) fn apply(mut self) -> String {
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let (mut out, mut at) = (String::with_capacity(self.text.len()), 0);
        for (range, new) in self.edits {
            out.push_str(self.text.get(at..range.start).unwrap_or_default());
            out.push_str(&new);
            at = range.end.max(at);
        }
        out.push_str(self.text.get(at..).unwrap_or_default());
        out
    }
}
