//! `config show`: what counts, with every default filled in. As text it is TOML again, but for what is secret.

use super::super::args::{Configs, SettingArgs};
use super::super::config;
use super::template::quoted;
use super::tree::{self, Key, Origin, Section};
use super::{said, tree::sections};
use clap::Args;
use semel_ops::config::{Diagnostics, Source, read};
use semel_ops::env;
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Column in which origins stand.
const ORIGIN_COLUMN: usize = 56;

/// `config show`
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    configs: Configs,
    #[command(flatten)]
    settings: SettingArgs,
    /// Directory of the ledger [default: $SEMEL_LEDGER, else as the configuration says]
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
    /// Name the file and line, variable or flag that each value comes from
    #[arg(long)]
    origin: bool,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// A file and its tables.
type File = (PathBuf, Vec<Section>);

/// The configurations behind some paths, with their texts.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<(Vec<config::Config>, Vec<Source>), Report> {
    let found = Diagnostics::new();
    let files = config::files_of(paths, &found);
    let sources: Vec<Source> = files.iter().filter_map(|path| read(path, &found)).collect();
    let checked = config::examine(&sources, config::Look::Text, found);
    if checked.found.has_errors() { Err(checked.found.into()) } else { Ok((checked.configs, sources)) }
}

impl Show {
    /// Runs the command.
    pub(super) fn run(&self, shell: &Shell) -> Result<(), Report> {
        let (configs, sources) = read_all(&self.configs.paths())?;
        let pairs = configs.iter().filter_map(|config| {
            let source = sources.iter().find(|source| source.path() == config.path)?;
            Some((config.path.clone(), sections(config, source)))
        });
        let files: Vec<File> = pairs.collect();
        let variable = env::var(env::SEMEL_LEDGER).map(PathBuf::from);
        let ledger = match (&self.ledger, &variable) {
            (Some(path), _) => Some((path, Origin::Flag("--ledger"))),
            (None, Some(path)) => Some((path, Origin::Environment(env::SEMEL_LEDGER))),
            (None, None) => None,
        };
        let mut process = tree::process(&configs, &self.settings, ledger);
        let falsey = ["n", "no", "f", "false", "off", "0"];
        if env::var(env::SEMEL_ALLOW_ROOT).is_some_and(|value| !falsey.contains(&value.to_lowercase().as_str())) {
            for key in process.keys.iter_mut().filter(|key| key.name == "allow_root" && key.value == Value::Bool(false))
            {
                (key.value, key.origin) = (Value::Bool(true), Origin::Environment(env::SEMEL_ALLOW_ROOT));
            }
        }
        if self.json {
            return said(shell.json(&self.to_json(&files, &process)));
        }
        said(shell.data(self.to_text(&files, &process).as_bytes()))
    }

    /// How the list of files came to be.
    fn files_origin(&self) -> Origin {
        match (self.configs.config.is_empty(), env::var(env::TMKMS_CONFIG_FILE)) {
            (false, _) => Origin::Flag("--config"),
            (true, Some(_)) => Origin::Environment(env::TMKMS_CONFIG_FILE),
            (true, None) => Origin::Default,
        }
    }

    fn to_json(&self, files: &[File], process: &Section) -> Value {
        let files: Vec<Value> = files
            .iter()
            .map(|(path, sections)| {
                let mut root = json!({ "path": path });
                for section in sections {
                    append(&mut root, section.table, self.table(section));
                }
                root
            })
            .collect();
        let origin = self.origin.then(|| self.files_origin().to_string());
        json!({ "schema": 1, "files_origin": origin, "files": files, "semel": self.table(process) })
    }

    fn table(&self, section: &Section) -> Value {
        let mut table = Value::Object(Map::new());
        for Key { name, value, origin, .. } in &section.keys {
            let value = match self.origin {
                true => json!({ "value": value, "origin": origin.to_string() }),
                false => value.clone(),
            };
            if let Some(at) = name.split('.').try_fold(&mut table, child) {
                *at = value;
            }
        }
        table
    }

    fn to_text(&self, files: &[File], process: &Section) -> String {
        let mut out = String::new();
        for (path, sections) in files {
            let origin = if self.origin { format!(" ({})", self.files_origin()) } else { String::new() };
            // A String takes every write.
            let _ = writeln!(out, "# {}{origin}", path.display());
            for section in sections {
                let _ = writeln!(out, "\n[[{}]]", section.table);
                self.keys(&mut out, section);
            }
            out.push('\n');
        }
        out.push_str("# the process\n\n[semel]\n");
        self.keys(&mut out, process);
        out
    }

    fn keys(&self, out: &mut String, section: &Section) {
        for Key { name, value, origin, .. } in &section.keys {
            let line = match value {
                Value::Null => format!("# {name} is not set"),
                value => format!("{name} = {}", toml(value)),
            };
            let _ = match self.origin && !(value.is_null() && *origin == Origin::Default) {
                true => writeln!(out, "{line:<ORIGIN_COLUMN$}  # {origin}"),
                false => writeln!(out, "{line}"),
            };
        }
    }
}

/// A member of an object; what is null becomes one.
fn child<'a>(parent: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    if parent.is_null() {
        *parent = Value::Object(Map::new());
    }
    // A list stands for its last table.
    let parent = if parent.is_array() { parent.as_array_mut()?.last_mut()? } else { parent };
    Some(parent.as_object_mut()?.entry(name).or_insert(Value::Null))
}

/// Puts a table at the end of the list of that name; a list below a list belongs to the last one.
fn append(root: &mut Value, path: &str, table: Value) {
    match path.split('.').try_fold(root, child) {
        Some(Value::Array(list)) => list.push(table),
        Some(other) => *other = json!([table]),
        None => {}
    }
}

/// A value as TOML writes it.
pub(super) fn toml(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(list) => format!("[{}]", list.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Every line of a file as it may be shown: passwords hidden.
pub(super) fn lines(source: &Source) -> Vec<String> {
    let mut at = 0;
    let shown = source.text().split_inclusive('\n').map(|line| {
        let place = source.place(at..at);
        at += line.len();
        place.shown().to_owned()
    });
    shown.collect()
}
