//! Typed values out of the layers; what is wrong is told, and reading goes on.

use super::layers::{Entry, Layers, Raw, Wiped, json};
use super::table::{self, Row};
use crate::face::codes;
use semel_ops::code::Code;
use semel_ops::config::{Diagnostic, Place};
use serde_json::Value;
use std::ops::RangeInclusive;
use std::str::FromStr;
use zeroize::Zeroizing;

/// A JSON object whose texts are wiped when it is dropped.
pub(super) struct Object(Wiped);

impl Object {
    /// A field.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.0.get(name)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.0.0.as_object().into_iter().flat_map(serde_json::Map::keys)
    }
}

/// Reads settings one by one.
pub(super) struct Reader<'a> {
    pub(super) layers: &'a Layers,
}

/// Name of a setting in messages.
pub(super) fn variable(key: &str) -> String {
    table::find(key).map_or_else(|| key.to_uppercase(), Row::variable)
}

impl<'a> Reader<'a> {
    pub(super) fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.layers.entries.get(key)
    }

    pub(super) fn place(&self, key: &str) -> Place {
        self.entry(key).map_or_else(|| self.layers.home.clone(), Entry::place)
    }

    pub(super) fn error(&self, code: &'static Code, key: &str, message: String) {
        self.layers.found.push(Diagnostic::error(code, &self.place(key), message));
    }

    pub(super) fn error_with(&self, code: &'static Code, key: &str, message: String, hint: impl Into<String>) {
        self.layers.found.push(Diagnostic::error(code, &self.place(key), message).hint(hint));
    }

    pub(super) fn warning(&self, code: &'static Code, key: &str, message: String) {
        self.layers.found.push(Diagnostic::warning(code, &self.place(key), message));
    }

    /// Tells that a setting is missing, unless it may be in a part that was not read.
    pub(super) fn missing(&self, key: &str, why: &str, hint: Option<String>) {
        if self.layers.is_partial {
            return;
        }
        let message = format!("{} is missing: {why}", variable(key));
        self.layers.found.push(Diagnostic::error(&codes::MISSING, &self.layers.home, message).maybe_hint(hint));
    }

    /// The text of a setting.
    pub(super) fn text(&self, key: &str) -> Option<Zeroizing<String>> {
        match &self.entry(key)?.raw {
            Raw::Text(said) => Some(Zeroizing::new(said.trim().to_owned())),
            Raw::Json(_) => {
                self.error(&codes::WRONG_TYPE, key, format!("{} is one value, not a structure", variable(key)));
                None
            }
        }
    }

    /// A value that its text tells, `what` says which.
    pub(super) fn parsed<T: FromStr>(&self, key: &str, what: &str) -> Option<T> {
        let said = self.text(key)?;
        let parsed = said.parse().ok();
        if parsed.is_none() {
            self.error(&codes::WRONG_TYPE, key, format!("{} is not {what}", variable(key)));
        }
        parsed
    }

    /// A number in a range.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (least, most) = (range.start(), range.end());
        let limits = if *most == u64::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
        self.within(key, &range, &limits)
    }

    /// A number in a range that begins below 0.
    pub(super) fn signed(&self, key: &str, range: RangeInclusive<i32>) -> Option<i32> {
        let limits = format!("{} to {}", range.start(), range.end());
        self.within(key, &range, &limits)
    }

    fn within<N: FromStr + PartialOrd>(&self, key: &str, range: &RangeInclusive<N>, limits: &str) -> Option<N> {
        let said = self.text(key)?;
        // What does not fit is a number, too, and told as such.
        let is_negative = said.starts_with('-') && N::from_str("-1").is_ok();
        let digits = if is_negative { said.get(1..).unwrap_or_default() } else { said.as_str() };
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        match said.parse::<N>() {
            Ok(number) if range.contains(&number) => Some(number),
            Ok(_) | Err(_) if is_number => {
                self.error(&codes::OUT_OF_RANGE, key, format!("{} has to be {limits}", variable(key)));
                None
            }
            _ => {
                self.error(&codes::WRONG_TYPE, key, format!("{} is not a whole number", variable(key)));
                None
            }
        }
    }

    pub(super) fn size(&self, key: &str, range: RangeInclusive<u64>) -> Option<usize> {
        self.number(key, range).and_then(|number| usize::try_from(number).ok())
    }

    /// A truth value as environments spell it.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let said = self.text(key)?.to_lowercase();
        match said.as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => {
                let hint = "true, 1, yes, on; or false, 0, no, off";
                self.error_with(&codes::WRONG_TYPE, key, format!("{} is neither true nor false", variable(key)), hint);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let said = self.text(key)?;
        let chosen = words.iter().find(|(word, _)| *word == said.as_str()).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("{} is none of its words", variable(key));
            self.error_with(&codes::NOT_A_CHOICE, key, message, suggestion(&said, &words));
        }
        chosen
    }

    /// A JSON setting as an object.
    pub(super) fn object(&self, key: &str) -> Option<Object> {
        let entry = self.entry(key)?;
        let value = match &entry.raw {
            Raw::Json(value) => value.clone(),
            Raw::Text(said) => json(said, &variable(key), entry, &self.layers.found)?,
        };
        if !value.0.is_object() {
            self.error(&codes::WRONG_SHAPE, key, format!("{} is no JSON object", variable(key)));
            return None;
        }
        Some(Object(value))
    }

    /// Tells that a field of a JSON setting is wrong.
    pub(super) fn error_in(&self, code: &'static Code, key: &str, field: &str, message: String) {
        self.layers.found.push(Diagnostic::error(code, &self.field(key, field), message));
    }

    fn field(&self, key: &str, field: &str) -> Place {
        self.part(key, &format!("\"{field}\""))
    }

    /// Place of a part of a value.
    pub(super) fn part(&self, key: &str, part: &str) -> Place {
        self.entry(key).map_or_else(|| self.place(key), |entry| entry.place_of_part(part))
    }

    /// Fields of a JSON setting that are texts: those that have to be there, those that may, and no others.
    pub(super) fn fields<const N: usize>(
        &self,
        key: &str,
        object: &Object,
        needed: [&str; N],
        known: &[&str],
    ) -> Option<[Zeroizing<String>; N]> {
        for name in object.names().filter(|name| !needed.contains(&name.as_str()) && !known.contains(&name.as_str())) {
            let all: Vec<_> = needed.iter().chain(known).copied().collect();
            let message = format!("{} has no field `{name}`", variable(key));
            self.layers.found.push(
                Diagnostic::warning(&codes::WRONG_SHAPE, &self.field(key, name), message).hint(suggestion(name, &all)),
            );
        }
        let found = needed.map(|name| match object.get(name) {
            Some(Value::String(said)) if !said.is_empty() => Some(Zeroizing::new(said.clone())),
            Some(_) => {
                let message = format!("`{name}` in {} is no text, or empty", variable(key));
                self.error_in(&codes::WRONG_SHAPE, key, name, message);
                None
            }
            None => {
                self.error(&codes::WRONG_SHAPE, key, format!("{} needs a field `{name}`", variable(key)));
                None
            }
        });
        let complete = found.iter().all(Option::is_some);
        complete.then(|| found.map(Option::unwrap_or_default))
    }
}

/// The nearest word, or all of them.
pub(super) fn suggestion(said: &str, words: &[&str]) -> String {
    let slips = |word: &&&str| strsim::damerau_levenshtein(&said.to_lowercase(), &word.to_lowercase());
    match words.iter().map(|word| (slips(&word), word)).min_by_key(|(slips, _)| *slips) {
        Some((slips, word)) if slips <= (word.len() / 4).max(1) => format!("did you mean {word}?"),
        _ => format!("one of {}", words.join(", ")),
    }
}
