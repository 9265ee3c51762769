//! Where settings come from, one layer over the other: defaults, configuration file, environment, global options, options of
//! `serve`. The later one wins, setting by setting; an empty text is no value and wins over nothing.
//!
//! Values are kept as they were written, with their place. The text that places show has every secret, and the value of every
//! variable that is not known, replaced by asterisks, sign by sign, so that columns stay right.

use super::env_file::{self, Assignment, ENV_FILE_BYTES_MAX, Ignored};
use super::table::{self, ROWS, Row};
use crate::face::codes;
use semel_ops::config::{Diagnostic, Diagnostics, Place, Source};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::{Zeroize as _, Zeroizing};

/// Variables that libraries and programs under this one look at; proxies are written in small letters, too.
const OF_OTHERS: [&str; 12] = [
    "PATH",
    "TZ",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// The environment of the process.
    Environment,
    /// An environment file, and the line in it.
    EnvFile(PathBuf, usize),
    /// An option of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment => f.write_str("environment"),
            Self::EnvFile(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A value as it was written.
#[derive(Clone)]
pub(super) enum Raw {
    /// Text, as an environment has it.
    Text(Arc<Zeroizing<String>>),
    /// An object or list of the configuration file.
    Json(Wiped),
}

/// JSON that may hold secrets: its texts are wiped when it is dropped.
#[derive(Clone)]
pub(super) struct Wiped(pub(super) Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        _ => {}
    }
}

/// Where a value stands.
#[derive(Clone)]
enum Spot {
    /// Nowhere in particular.
    Whole(Place),
    /// From this byte on, sign by sign.
    From(Arc<Source>, usize, usize),
    /// In an environment file.
    Assignment(Arc<Source>, Arc<Assignment>),
}

/// A value with who set it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
    spot: Spot,
}

impl Entry {
    /// Place of a part of the value, or of the whole.
    pub(super) fn place_of_part(&self, part: &str) -> Place {
        let at = match &self.raw {
            Raw::Text(said) => said.find(part),
            Raw::Json(_) => None,
        };
        at.map_or_else(|| self.place(), |at| self.place_of(at..at.saturating_add(part.len())))
    }

    /// The whole value's place.
    pub(super) fn place(&self) -> Place {
        match (&self.spot, &self.raw) {
            (Spot::Assignment(_, one), _) => self.place_of(0..one.value.len()),
            (Spot::From(_, from, end), _) => self.place_of(0..end.saturating_sub(*from)),
            (Spot::Whole(place), _) => place.clone(),
        }
    }

    fn spans_lines(&self) -> bool {
        match &self.spot {
            Spot::Assignment(source, one) => {
                let last = one.value.len().saturating_sub(1);
                // From the name on: a value may begin below it, after a backslash.
                source.place(one.name_at.clone()).line() != self.place_of(last..one.value.len()).line()
            }
            _ => false,
        }
    }

    /// Place of a range of the value.
    pub(super) fn place_of(&self, range: Range<usize>) -> Place {
        match &self.spot {
            Spot::Whole(place) => place.clone(),
            Spot::From(source, from, _) => {
                source.place(from.saturating_add(range.start)..from.saturating_add(range.end))
            }
            Spot::Assignment(source, one) => source.place(one.place_of(range)),
        }
    }
}

/// The environment that is meant.
#[derive(Debug, Clone)]
pub enum Surroundings {
    /// That of this process.
    Process,
    /// What systemd makes of a file, and nothing else.
    EnvFile(PathBuf),
    /// These variables.
    Given(Vec<(String, String)>),
}

/// All layers on top of each other.
pub struct Layers {
    pub(super) entries: BTreeMap<&'static str, Entry>,
    pub(super) found: Diagnostics,
    /// Where what is missing belongs.
    pub(super) home: Place,
    /// A part was not read: nobody can say what is missing.
    pub(super) is_partial: bool,
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers").field("settings", &self.entries.keys()).finish_non_exhaustive()
    }
}

impl Layers {
    /// Reads the configuration file, if there is one, and the environment.
    pub fn read(config_directory: &Path, run_mode: &str, surroundings: &Surroundings) -> Layers {
        let home = match surroundings {
            Surroundings::EnvFile(path) => Place::file(path),
            _ => Place::file(Path::new("environment")),
        };
        let mut layers = Layers { entries: BTreeMap::new(), found: Diagnostics::new(), home, is_partial: false };
        layers.read_defaults();
        layers.read_file(&config_directory.join(format!("{run_mode}.json")));
        match surroundings {
            Surroundings::EnvFile(path) => layers.read_env_file(path),
            Surroundings::Given(variables) => layers.read_variables(variables.clone().into_iter()),
            Surroundings::Process => layers.read_process(std::env::vars_os()),
        }
        layers
    }

    /// Sets what an option of the command line says.
    pub fn set_flag(&mut self, key: &'static str, flag: &'static str, value: impl fmt::Display) {
        let spot = Spot::Whole(Place::file(Path::new(flag)));
        self.put(key, text(&value.to_string()), Origin::Flag(flag), spot);
    }

    fn put(&mut self, key: &'static str, raw: Raw, origin: Origin, spot: Spot) {
        if !matches!(&raw, Raw::Text(text) if text.trim().is_empty()) {
            self.entries.insert(key, Entry { raw, origin, spot });
        }
    }

    fn read_defaults(&mut self) {
        for row in ROWS {
            if let Some(default) = row.default {
                self.put(row.key, text(default), Origin::Default, Spot::Whole(Place::file(Path::new("default"))));
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        let bytes = match read_bounded(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.unreadable(path, &error),
        };
        let place = Place::file(path);
        let value = match serde_json::from_str(&bytes).map(Wiped) {
            Ok(value) => value,
            Err(error) => {
                self.is_partial = true;
                // The line itself stays unseen: it may hold a secret.
                let message = format!("the configuration file is not JSON: {}", plain(&error));
                return self.found.push(Diagnostic::error(&codes::NOT_JSON, &place, message));
            }
        };
        self.read_tree("", &value.0, path);
    }

    fn read_tree(&mut self, prefix: &str, value: &Value, path: &Path) {
        let Value::Object(fields) = value else {
            let message =
                format!("{} is no JSON object", if prefix.is_empty() { "the configuration file" } else { prefix });
            return self.found.push(Diagnostic::error(&codes::WRONG_SHAPE, &Place::file(path), message));
        };
        for (name, value) in fields {
            let key = if prefix.is_empty() { name.to_lowercase() } else { format!("{prefix}.{}", name.to_lowercase()) };
            let spot = Spot::Whole(Place::file(path));
            let origin = Origin::File(path.to_owned());
            match (table::find(&key), value) {
                (_, Value::Null) => {}
                (Some(row), Value::String(said)) => self.put(row.key, text(said), origin, spot),
                (Some(row), Value::Number(_) | Value::Bool(_)) => {
                    self.put(row.key, text(&value.to_string()), origin, spot)
                }
                (Some(row), Value::Array(words)) if !row.is_object && words.iter().all(Value::is_string) => {
                    let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
                    self.put(row.key, text(&words.join(",")), origin, spot);
                }
                (Some(row), _) => self.put(row.key, Raw::Json(Wiped(value.clone())), origin, spot),
                (None, Value::Object(_)) if is_parent(&key) => self.read_tree(&key, value, path),
                (None, _) => self.unknown(&key, &Place::file(path), |row| row.key.to_owned()),
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        self.is_partial = true;
        let message = format!("cannot read {}: {error}", path.display());
        self.found.push(Diagnostic::error(&codes::UNREADABLE, &Place::file(path), message));
    }

    /// A name that is not text is none of ours; a value of ours that is not text is an error.
    pub(super) fn read_process(&mut self, variables: impl Iterator<Item = (OsString, OsString)>) {
        let mut read = Vec::new();
        for (name, value) in variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value))) {
            match value.into_string() {
                Ok(value) => read.push((name, value)),
                Err(_) if is_ours(&name) => {
                    self.is_partial = true;
                    let place = Place::file(Path::new("environment"));
                    let message = format!("the value of {name} is not UTF-8 text");
                    self.found.push(Diagnostic::error(&codes::WRONG_TYPE, &place, message));
                }
                Err(_) => {}
            }
        }
        self.read_variables(read.into_iter());
    }

    fn read_variables(&mut self, variables: impl Iterator<Item = (String, String)>) {
        // An environment has no order: a structure comes before its fields, whose names are longer.
        let mut variables: Vec<_> = variables.collect();
        variables.sort();
        for (name, value) in variables {
            let from = name.len().saturating_add(1);
            let shown = match is_shown(&name) {
                true => value.clone(),
                false => mask(&value),
            };
            let source = Arc::new(Source::new("environment", format!("{name}={shown}")));
            let name_at = source.place(0..name.len());
            let spot = Spot::From(Arc::clone(&source), from, from.saturating_add(value.len()));
            self.read_variable(&name, Zeroizing::new(value), Origin::Environment, spot, &name_at);
        }
    }

    fn read_env_file(&mut self, path: &Path) {
        let content = match read_bounded(path) {
            Ok(content) => content,
            Err(error) => return self.unreadable(path, &error),
        };
        let parsed = env_file::parse(&content);
        let source = Arc::new(Source::new(path, masked_file(&content, &parsed)));
        for (what, at) in parsed.ignored {
            let (message, hint) = match what {
                Ignored::NoValue(_) => ("systemd passes over this line: it has no equals sign", None),
                Ignored::Name(name) if name.starts_with("export ") => {
                    ("systemd passes over this line: `export` is for shells", Some("leave `export` away".to_owned()))
                }
                Ignored::Name(_) => {
                    ("systemd passes over this line: what stands before the equals sign is no name", None)
                }
            };
            let finding = Diagnostic::warning(&codes::NO_ASSIGNMENT, &source.place(at), message);
            self.found.push(finding.maybe_hint(hint));
        }
        // Of two assignments to one name the later one counts; then as above.
        let by_name: BTreeMap<String, Assignment> =
            parsed.assignments.into_iter().map(|one| (one.name.clone(), one)).collect();
        let signer = by_name.get("ANCILLARY_FILES_SIGNER_CONFIG").map(|one| one.value.clone()).unwrap_or_default();
        for one in by_name.into_values() {
            let name_at = source.place(one.name_at.clone());
            if one.is_unclosed {
                self.is_partial = true;
                let message = format!("the quote that opens the value of {} is never closed", one.name);
                self.found.push(Diagnostic::error(&codes::UNCLOSED, &name_at, message));
                continue;
            }
            let origin = Origin::EnvFile(path.to_owned(), name_at.line());
            let (name, value) = (one.name.clone(), one.value.clone());
            if !is_ours(&name) && nearest(&name, &Row::variable).is_none() {
                // The signer's configuration names a variable of its own.
                if !is_of_others(&name) && !signer.contains(&format!("\"{name}\"")) {
                    self.unknown_without_hint(&name, &name_at);
                }
                continue;
            }
            self.read_variable(&name, value, origin, Spot::Assignment(Arc::clone(&source), Arc::new(one)), &name_at);
        }
    }

    fn read_variable(&mut self, name: &str, value: Zeroizing<String>, origin: Origin, spot: Spot, name_at: &Place) {
        let key = key_of(name);
        if let Some(row) = table::find(&key) {
            return self.put(row.key, Raw::Text(Arc::new(value)), origin, spot);
        }
        if is_parent(&key) {
            return self.read_parent(&key, &Entry { raw: Raw::Text(Arc::new(value)), origin, spot });
        }
        if let Some((row, field)) = ROWS.iter().filter(|row| row.is_object).find_map(|row| {
            Some((row, key.strip_prefix(row.key)?.strip_prefix('.').filter(|field| !field.is_empty())?))
        }) {
            return self.read_field(row, field, &value, origin, spot);
        }
        self.unknown(name, name_at, Row::variable);
    }

    /// A structure as one JSON text, such as `PROTOCOL_PARAMETERS={"k": 5, …}`.
    fn read_parent(&mut self, parent: &str, entry: &Entry) {
        let Raw::Text(said) = &entry.raw else { return };
        if said.trim().is_empty() {
            return;
        }
        let Some(value) = json(said, &parent.to_uppercase(), entry, &self.found) else { return };
        for (name, value) in value.0.as_object().into_iter().flatten() {
            let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            match table::find(&format!("{parent}.{}", name.to_lowercase())) {
                Some(row) => self.put(row.key, text(&said), entry.origin.clone(), Spot::Whole(entry.place())),
                None => {
                    let message = format!("{} has no field `{name}`", parent.to_uppercase());
                    self.found.push(Diagnostic::error(&codes::WRONG_SHAPE, &entry.place(), message));
                }
            }
        }
    }

    /// One field of a JSON setting, such as `ANCILLARY_FILES_SIGNER_CONFIG__TYPE`.
    fn read_field(&mut self, row: &'static Row, field: &str, value: &str, origin: Origin, spot: Spot) {
        if value.trim().is_empty() {
            return;
        }
        let before = self.entries.get(row.key).and_then(|entry| match &entry.raw {
            Raw::Json(value) => Some(value.clone()),
            Raw::Text(said) => serde_json::from_str(said).ok().map(Wiped),
        });
        let mut object = before.filter(|value| value.0.is_object()).unwrap_or_else(|| Wiped(Value::Object(Map::new())));
        if let Value::Object(fields) = &mut object.0 {
            fields.insert(field.to_owned(), Value::String(value.to_owned()));
        }
        self.put(row.key, Raw::Json(object), origin, spot);
    }

    /// Warns of what is not known, when it looks as if something known was meant.
    fn unknown(&self, name: &str, place: &Place, spell: impl Fn(&Row) -> String) {
        let Some(meant) = nearest(name, &spell) else { return };
        let finding = Diagnostic::warning(&codes::UNKNOWN, place, format!("{name} is not known and has no effect"));
        self.found.push(finding.hint(format!("did you mean {meant}?")));
    }

    /// A file is written for this program: whatever it does not know in it is a slip.
    fn unknown_without_hint(&self, name: &str, place: &Place) {
        let message = format!("{name} is not known and has no effect");
        let hint = "`config explain` lists all settings";
        self.found.push(Diagnostic::warning(&codes::UNKNOWN, place, message).hint(hint));
    }

    /// Every setting with its value as it may be shown, and who set it.
    pub fn shown(&self) -> Vec<(&'static Row, Option<(String, Origin)>)> {
        let show = |row: &'static Row| {
            let entry = self.entries.get(row.key)?;
            let value = match &entry.raw {
                // What spans lines may have swallowed a secret.
                _ if row.is_secret || entry.spans_lines() => "<hidden>".to_owned(),
                Raw::Text(said) => said.to_string(),
                Raw::Json(value) => value.0.to_string(),
            };
            Some((value, entry.origin.clone()))
        };
        ROWS.iter().map(|row| (row, show(row))).collect()
    }

    /// What is wrong so far.
    pub fn found(&self) -> &Diagnostics {
        &self.found
    }
}

fn text(said: &str) -> Raw {
    Raw::Text(Arc::new(Zeroizing::new(said.to_owned())))
}

fn key_of(variable: &str) -> String {
    variable.to_lowercase().replace("__", ".")
}

/// Whether a variable is a setting, a structure of settings or a field of one.
fn is_ours(variable: &str) -> bool {
    let key = key_of(variable);
    let is_field = |row: &Row| {
        let field = key.strip_prefix(row.key).and_then(|rest| rest.strip_prefix('.'));
        row.is_object && field.is_some_and(|field| !field.is_empty())
    };
    table::find(&key).is_some() || is_parent(&key) || ROWS.iter().any(is_field)
}

/// Whether it has a meaning for the process, though it is no setting.
fn is_of_others(variable: &str) -> bool {
    let is_read = semel_ops::env::ALL.iter().any(|(name, _)| *name == variable);
    is_read || OF_OTHERS.contains(&variable.to_uppercase().as_str())
}

fn is_parent(key: &str) -> bool {
    ROWS.iter().any(|row| row.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// Whether the value of this variable may be seen: it is one of ours and no secret.
fn is_shown(variable: &str) -> bool {
    let key = key_of(variable);
    table::find(&key).map_or_else(|| is_parent(&key), |row| !row.is_secret)
}

/// The known name that this one is nearly, or that it is but for its underscores.
pub(super) fn nearest(name: &str, spell: &impl Fn(&Row) -> String) -> Option<String> {
    let flat = |name: &str| name.to_lowercase().replace(['.', '_'], "");
    let wanted = flat(name);
    let slips_max = match wanted.len() {
        0..6 => 0,
        6..10 => 1,
        10..20 => 2,
        _ => 3,
    };
    let distance = |row: &Row| strsim::damerau_levenshtein(&wanted, &flat(row.key));
    let best = ROWS.iter().map(|row| (distance(row), row)).min_by_key(|(slips, _)| *slips)?;
    (best.0 <= slips_max).then(|| spell(best.1))
}

/// Everything but the equals sign and the punctuation of JSON becomes an asterisk.
fn mask(value: &str) -> String {
    let keep = |c: char| matches!(c, '=' | '{' | '}' | '[' | ']' | ':' | ',' | '"' | '\'' | '\\' | ' ' | '\n' | '\r');
    // As many bytes as before: offsets stay right.
    value.chars().map(|c| if keep(c) { c.to_string() } else { "*".repeat(c.len_utf8()) }).collect()
}

/// The file with everything masked that may be a secret: values of secrets and of what is not known, and the lines that systemd
/// passes over, which may be the rest of a key that was meant to be one value.
fn masked_file(content: &str, parsed: &env_file::Parsed) -> String {
    // A value of several lines may have swallowed the next assignment.
    let is_long = |one: &Assignment| content.get(one.name_at.start..one.end).is_some_and(|text| text.contains('\n'));
    let secrets = parsed.assignments.iter().filter(|one| !is_shown(&one.name) || one.is_unclosed || is_long(one));
    let values = secrets.map(|one| one.name_at.end..one.end);
    let passed_over = parsed.ignored.iter().map(|(what, at)| match what {
        Ignored::Name(name) if name.starts_with("export ") => {
            at.start.saturating_add(name.len())..line_end(content, at.end)
        }
        _ => at.start..line_end(content, at.end),
    });
    let mut hidden: Vec<Range<usize>> = values.chain(passed_over).collect();
    hidden.sort_by_key(|range| range.start);
    let mut shown = String::with_capacity(content.len());
    for range in hidden {
        let done = shown.len();
        shown.push_str(content.get(done..range.start).unwrap_or_default());
        shown.push_str(&mask(content.get(shown.len()..range.end).unwrap_or_default()));
    }
    let done = shown.len();
    shown.push_str(content.get(done..).unwrap_or_default());
    shown
}

fn line_end(content: &str, at: usize) -> usize {
    content.get(at..).and_then(|rest| rest.find('\n')).map_or(content.len(), |end| at.saturating_add(end))
}

fn read_bounded(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut content = Zeroizing::new(String::new());
    std::fs::File::open(path)?.take(ENV_FILE_BYTES_MAX.saturating_add(1)).read_to_string(&mut content)?;
    match content.len() as u64 > ENV_FILE_BYTES_MAX {
        true => Err(std::io::Error::other("it is larger than 1 MiB")),
        false => Ok(content),
    }
}

/// What serde_json says, without the parts of the text that it may repeat.
fn plain(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a field is missing or of another kind",
        _ => "a syntax error",
    };
    format!("{what}, line {} column {}", error.line(), error.column())
}

/// Parses JSON in a value; what is wrong is told with its place inside the value.
pub(super) fn json(said: &str, name: &str, entry: &Entry, found: &Diagnostics) -> Option<Wiped> {
    match serde_json::from_str(said) {
        Ok(value) => Some(Wiped(value)),
        Err(error) => {
            let before: usize = said.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            let at = before.saturating_add(error.column().saturating_sub(1)).min(said.len().saturating_sub(1));
            let what = plain(&error);
            let what = what.split(',').next().unwrap_or_default();
            let message = format!("{name} is not JSON: {what} at character {} of its value", at.saturating_add(1));
            let lost = matches!(&entry.spot, Spot::Assignment(_, one) if one.lost_backslash);
            let hint = lost.then(|| {
                "systemd took a backslash away: put single quotes around the whole value to keep it".to_owned()
            });
            found.push(
                Diagnostic::error(&codes::NOT_JSON, &entry.place_of(at..at.saturating_add(1)), message)
                    .maybe_hint(hint),
            );
            None
        }
    }
}
