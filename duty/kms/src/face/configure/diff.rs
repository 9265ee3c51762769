//! `config diff`: what differs in meaning between two configurations. Comments, order, spelling of paths and defaults that are written
//! out make no difference.

use super::super::args::SettingArgs;
use super::said;
use super::show::{read_all, toml};
use super::tree::{self, Key, Origin, Section, sections};
use clap::Args;
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `config diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// For machines
    #[arg(long)]
    json: bool,
    /// The one configuration, or a directory of them
    a: PathBuf,
    /// The other
    b: PathBuf,
}

/// One thing that differs.
enum Change {
    Removed(Section),
    Added(Section),
    Changed(Section, Section, Vec<(Option<Key>, Option<Key>)>),
}

impl Diff {
    /// Runs the command.
    pub(super) fn run(&self, shell: &Shell) -> Result<(), Report> {
        let changes = changes(all(&self.a)?, all(&self.b)?);
        if self.json {
            let list: Vec<Value> = changes.iter().map(Change::to_json).collect();
            said(shell.json(&json!({ "schema": 1, "same": list.is_empty(), "changes": list })))?;
        } else {
            for change in &changes {
                said(shell.line(change.to_text()))?;
            }
        }
        match changes.len() {
            0 => Ok(()),
            1 => Err(Report::new("the configurations differ in one table")),
            count => Err(Report::new(format!("the configurations differ in {count} tables"))),
        }
    }
}

fn all(path: &Path) -> Result<Vec<Section>, Report> {
    let (configs, sources) = read_all(&[path.to_owned()]).map_err(|report| report.exit(Exit::Misuse))?;
    let mut out = Vec::new();
    for config in &configs {
        if let Some(source) = sources.iter().find(|source| source.path() == config.path) {
            out.extend(sections(config, source));
        }
    }
    out.push(tree::process(&configs, &SettingArgs::default(), None));
    Ok(out)
}

/// Finds each table again by its names, the best ones first, and compares what was found.
fn changes(left: Vec<Section>, right: Vec<Section>) -> Vec<Change> {
    let mut right: Vec<Option<Section>> = right.into_iter().map(Some).collect();
    let mut pairs: Vec<(Section, Option<Section>)> = left.into_iter().map(|section| (section, None)).collect();
    let depth = pairs.iter().map(|(section, _)| section.names.len()).max().unwrap_or_default();
    for level in 0..depth {
        for (section, partner) in pairs.iter_mut().filter(|(_, partner)| partner.is_none()) {
            let Some(name) = section.names.get(level) else { continue };
            let fits = |other: &&mut Option<Section>| {
                other.as_ref().is_some_and(|other| other.table == section.table && other.names.get(level) == Some(name))
            };
            // Of several, the one that is most like it.
            let unlike =
                |other: &&mut Option<Section>| other.as_ref().map_or(usize::MAX, |other| keys(section, other).len());
            *partner = right.iter_mut().filter(fits).min_by_key(unlike).and_then(Option::take);
        }
    }
    let mut out = Vec::new();
    for (section, partner) in pairs {
        let Some(partner) = partner else {
            out.push(Change::Removed(section));
            continue;
        };
        let keys = keys(&section, &partner);
        if !keys.is_empty() {
            out.push(Change::Changed(section, partner, keys));
        }
    }
    out.extend(right.into_iter().flatten().map(Change::Added));
    out
}

fn keys(left: &Section, right: &Section) -> Vec<(Option<Key>, Option<Key>)> {
    let of = |section: &Section, name: &str| section.keys.iter().find(|key| key.name == name).cloned();
    let mut out = Vec::new();
    for key in &left.keys {
        let other = of(right, key.name);
        if other.as_ref().is_none_or(|other| other.meaning != key.meaning) {
            out.push((Some(key.clone()), other));
        }
    }
    out.extend(right.keys.iter().filter(|key| of(left, key.name).is_none()).map(|key| (None, Some(key.clone()))));
    // What is absent and what is not set are the same.
    let is_set = |key: &Option<Key>| key.as_ref().is_some_and(|key| !key.value.is_null());
    out.retain(|(left, right)| is_set(left) || is_set(right));
    out
}

fn heading(section: &Section) -> String {
    let brackets = if section.table == "semel" { "[semel]".into() } else { format!("[[{}]]", section.table) };
    format!("{brackets} {}", section.names.first().map_or("", String::as_str))
}

fn shown(key: Option<&Key>) -> String {
    match key.filter(|key| !key.value.is_null()) {
        Some(Key { value, origin, .. }) => format!("{} ({origin})", toml(value)),
        None => "not set".into(),
    }
}

impl Change {
    fn to_text(&self) -> String {
        match self {
            Self::Removed(section) => format!("- {} ({})", heading(section), section.origin),
            Self::Added(section) => format!("+ {} ({})", heading(section), section.origin),
            Self::Changed(section, _, keys) => {
                let name = |left: &Option<Key>, right: &Option<Key>| {
                    left.as_ref().or(right.as_ref()).map_or("", |key| key.name)
                };
                let lines = keys.iter().map(|(left, right)| {
                    format!("    {}: {} → {}", name(left, right), shown(left.as_ref()), shown(right.as_ref()))
                });
                [format!("~ {}", heading(section))].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn to_json(&self) -> Value {
        let about = |kind: &str, section: &Section, more: Value| {
            let mut out = json!({ "change": kind, "table": section.table, "name": section.names.first() });
            if let (Value::Object(out), Value::Object(more)) = (&mut out, more) {
                out.extend(more);
            }
            out
        };
        let place = |origin: &Origin| match origin {
            Origin::Line(path, line) => json!({ "file": path, "line": line }),
            _ => Value::Null,
        };
        let side = |key: Option<&Key>| key.map(|key| json!({ "value": key.value, "origin": key.origin.to_string() }));
        match self {
            Self::Removed(section) => about("removed", section, json!({ "at": place(&section.origin) })),
            Self::Added(section) => about("added", section, json!({ "at": place(&section.origin) })),
            Self::Changed(section, other, keys) => {
                let keys = keys.iter().map(|(left, right)| {
                    let name = left.as_ref().or(right.as_ref()).map(|key| key.name);
                    json!({ "key": name, "a": side(left.as_ref()), "b": side(right.as_ref()) })
                });
                let keys: Vec<Value> = keys.collect();
                let more = json!({ "a": place(&section.origin), "b": place(&other.origin), "keys": keys });
                about("changed", section, more)
            }
        }
    }
}
