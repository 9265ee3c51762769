//! `bundle`: what somebody who helps needs to see, and nothing that is secret.
//!
//! Configurations go in as data, so without their comments, and with every password, PIN and key in them replaced. Files that they name
//! are not opened.

use super::args::Configs;
use super::start::directory_of;
use super::{config, key_report, said};
use clap::Args;
use semel_admin::Place;
use semel_ledger::Journal;
use semel_ops::clock::{rfc_3339, seconds};
use semel_ops::config::{Diagnostics, is_secret, is_secret_of_auth};
use semel_ops::control::ask_all;
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use toml_edit::{Document, Item};

/// What stands in the place of a secret.
pub(super) const REDACTED: &str = "(redacted)";

/// Longest file of the system that is taken in, in bytes.
const FILE_MAX: usize = 64 * 1024;

/// `bundle`
#[derive(Debug, Args)]
pub struct Bundle {
    #[command(flatten)]
    configs: Configs,
    #[command(flatten)]
    place: Place,
    /// Directory to make
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Show what would be in it
    #[arg(long)]
    dry_run: bool,
}

impl Bundle {
    /// Runs the command.
    pub fn run(&self, shell: &Shell) -> Result<(), Report> {
        let files = self.content();
        for (name, value) in &files {
            said(shell.line(format!("{name:<16} {:>7} bytes", text(value).len())))?;
        }
        if self.dry_run {
            return Ok(());
        }
        let made = std::fs::create_dir(&self.output);
        made.map_err(|error| Report::new(format!("cannot make {}", self.output.display())).cause(&error))?;
        for (name, value) in &files {
            let path = self.output.join(name);
            semel_keys::write_new(&path, text(value).as_bytes(), None).map_err(|error| key_report(&error))?;
        }
        shell.status("Wrote", format!("{}; look into it before you send it", self.output.display()));
        Ok(())
    }

    fn content(&self) -> Vec<(String, Value)> {
        let read = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.chars().take(FILE_MAX).collect::<String>()
        };
        let about = json!({
            "schema": 1, "made": rfc_3339(seconds()), "version": env!("CARGO_PKG_VERSION"),
            "kernel": read("/proc/sys/kernel/osrelease").trim(), "system": read("/etc/os-release"), "memory": read("/proc/meminfo").lines().take(3).collect::<Vec<_>>(),
        });
        let mut files = vec![("about.json".to_owned(), about)];
        let checked = config::check(&self.configs.paths(), config::Look::Disks { volatile_ledger: false });
        files.push(("findings.json".into(), checked.found.to_json()));
        for (number, path) in config::files_of(&self.configs.paths(), &Diagnostics::new()).iter().enumerate() {
            files.push((format!("config-{}.json", number + 1), redacted(path)));
        }
        let directory = directory_of(self.place.ledger.as_ref(), &checked.configs);
        let ledger = match Journal::inspect(&directory) {
            Ok(known) => known
                .iter()
                .flat_map(|known| {
                    known.lanes.iter().map(|(lane, history)| {
                        json!({
                            "key": known.subject.key.to_string(), "chain": known.subject.chain.as_str(), "lane": lane.to_string(),
                            "floor": history.floor.map(|mark| lane.show(mark)), "handed_over": history.tombstone,
                        })
                    })
                })
                .collect(),
            Err(error) => json!({ "error": error.to_string(), "code": error.code() }),
        };
        files.push(("ledger.json".into(), ledger));
        files.push(("status.json".into(), Value::Array(ask_all(&directory.join(super::status::CONTROL), "status"))));
        files
    }
}

fn text(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// A configuration as data, without its secrets.
fn redacted(path: &Path) -> Value {
    let read = std::fs::read_to_string(path);
    let parsed = read.map_err(|error| error.to_string());
    let parsed = parsed.and_then(|text| match Document::parse(text) {
        Ok(document) => Ok(data(document.as_item(), false)),
        // The parser's message quotes the line, which may hold anything.
        Err(_) => Err("it does not parse; `config check` tells where".into()),
    });
    json!({ "path": path, "content": parsed.unwrap_or_else(Value::String) })
}

fn data(item: &Item, is_auth: bool) -> Value {
    if let Some(table) = item.as_table_like() {
        let hidden = |key: &str, item: &Item| {
            let is_auth_itself = key == "auth" && !item.is_table_like();
            match is_secret(key) || key == "secret" || is_auth_itself || (is_auth && is_secret_of_auth(key)) {
                true => Value::String(REDACTED.into()),
                false => data(item, key == "auth"),
            }
        };
        return table.iter().map(|(key, item)| (key.to_owned(), hidden(key, item))).collect();
    }
    if let Some(tables) = item.as_array_of_tables() {
        return tables.iter().map(|table| data(&Item::Table(table.clone()), is_auth)).collect();
    }
    match item.as_value() {
        Some(toml_edit::Value::Array(array)) => {
            array.iter().map(|value| data(&Item::Value(value.clone()), is_auth)).collect()
        }
        Some(toml_edit::Value::String(text)) => Value::String(text.value().clone()),
        Some(toml_edit::Value::Integer(number)) => (*number.value()).into(),
        Some(toml_edit::Value::Boolean(truth)) => (*truth.value()).into(),
        Some(toml_edit::Value::Float(number)) => (*number.value()).into(),
        Some(toml_edit::Value::Datetime(time)) => Value::String(time.value().to_string()),
        _ => Value::Null,
    }
}
