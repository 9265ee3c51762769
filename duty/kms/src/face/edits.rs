//! Changes to a configuration's text: only what has to change does, byte for byte. Comments, order and quotes stay.

use std::ops::Range;
use toml_edit::{Item, Table, Value};

/// The tables of an array, in either notation.
pub(super) fn tables(item: Option<&Item>) -> Vec<&dyn toml_edit::TableLike> {
    match item {
        Some(Item::ArrayOfTables(array)) => {
            array.iter().map(|table: &Table| table as &dyn toml_edit::TableLike).collect()
        }
        Some(Item::Value(Value::Array(array))) => {
            array.iter().filter_map(Value::as_inline_table).map(|table| table as &dyn toml_edit::TableLike).collect()
        }
        Some(item) => item.as_table_like().into_iter().collect(),
        None => Vec::new(),
    }
}

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

    /// Takes the line of a value away.
    pub(super) fn remove_line(&mut self, item: &Item) {
        let Some(span) = item.span() else { return };
        let start = self.text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let rest = self.text.get(span.end..).unwrap_or_default();
        let end = span.end + rest.find('\n').map_or(rest.len(), |at| at + 1);
        self.edits.push((start..end, String::new()));
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
