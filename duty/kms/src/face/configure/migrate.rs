//! `config migrate`: a configuration without what is deprecated, unneeded or wrong. Comments and order stay, and the old file does, too.

use super::super::edits::{Edits, Hunk, tables};
use super::super::{config, dated, key_report};
use super::template::quoted;
use super::{said, show};
use clap::Args;
use semel_keys::write_new;
use semel_ops::config::{Diagnostics, Source, parse, read};
use semel_ops::env;
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use toml_edit::{Document, Item, Table, TableLike};

/// `config migrate`
#[derive(Debug, Args)]
pub struct Migrate {
    /// Configuration file [default: $TMKMS_CONFIG_FILE, else tmkms.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File to make [default: the configuration itself, with a dated copy of the old one beside it]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show what would change
    #[arg(long)]
    dry_run: bool,
}

/// A configuration that was renewed.
pub(in super::super) struct Renewed {
    /// Its text.
    pub(in super::super) text: String,
    /// What was done, with the line of the old file.
    pub(in super::super) notes: Vec<(usize, String)>,
    hunks: Vec<Hunk>,
}

impl Migrate {
    /// Runs the command.
    pub(super) fn run(&self, shell: &Shell) -> Result<(), Report> {
        let path = self.config.clone().or_else(|| env::var(env::TMKMS_CONFIG_FILE).map(PathBuf::from));
        let path = path.unwrap_or_else(|| PathBuf::from("tmkms.toml"));
        let source = source(&path)?;
        let renewed = renew(&source)?;
        if renewed.notes.is_empty() {
            shell.status("Unchanged", format!("{}: nothing in it is deprecated", path.display()));
            return Ok(());
        }
        said(shell.data(difference(&source, &renewed).as_bytes()))?;
        for (line, note) in &renewed.notes {
            shell.status("Changes", format!("{}:{line}: {note}", path.display()));
        }
        // What is still wrong is for a person to mend; a file with errors is not written.
        let target = self.output.as_ref().unwrap_or(&path);
        let checked =
            config::examine(&[Source::new(target, renewed.text.as_str())], config::Look::Text, Diagnostics::new());
        if checked.found.has_errors() {
            shell.note("nothing was written, because this is left to mend by hand:");
            return Err(checked.found.into());
        }
        if self.dry_run {
            shell.status("Would write", target.display());
            return Ok(());
        }
        let replace = self.output.is_none().then(dated);
        let before = std::fs::metadata(target).ok().filter(|_| replace.is_some());
        let kept =
            write_new(target, renewed.text.as_bytes(), replace.as_deref()).map_err(|error| key_report(&error))?;
        if let Some(copy) = kept {
            shell.status("Kept", copy.display());
        }
        // Whoever read the old file reads the new one.
        if let Some(before) = before {
            let owned = chown(target, Some(before.uid()), Some(before.gid()));
            let done = owned.and_then(|()| std::fs::set_permissions(target, before.permissions()));
            if let Err(error) = done {
                shell.warning(format!("{} has another owner or mode than before: {error}", target.display()));
            }
        }
        shell.status("Wrote", target.display());
        Ok(())
    }
}

/// The text of one file.
pub(in super::super) fn source(path: &std::path::Path) -> Result<Source, Report> {
    let found = Diagnostics::new();
    read(path, &found).ok_or_else(|| found.into())
}

/// The renewed text.
///
/// # Errors
/// The text is not TOML.
pub(in super::super) fn renew(source: &Source) -> Result<Renewed, Report> {
    let found = Diagnostics::new();
    let _readable = parse(source, &found);
    if found.has_errors() {
        return Err(found.into());
    }
    let document = Document::parse(source.text()).map_err(|_| Report::new("the configuration is not TOML"))?;
    let mut renewal = Renewal { source, edits: Edits::of(source.text()), notes: Vec::new() };
    let root = document.as_table();
    renewal.brackets(root, &["chain", "validator"]);
    tables(root.get("chain")).into_iter().for_each(|chain| renewal.chain(chain));
    tables(root.get("validator")).into_iter().for_each(|validator| renewal.validator(validator));
    if let Some(providers) = root.get("providers").and_then(Item::as_table) {
        renewal.brackets(providers, &["softsign", "yubihsm", "pkcs11"]);
        tables(providers.get("yubihsm")).into_iter().for_each(|device| renewal.yubihsm(device));
    }
    if let Some(semel) = root.get("semel").and_then(Item::as_table_like) {
        renewal.process(semel);
    }
    let mut notes = renewal.notes;
    notes.sort();
    let (text, hunks) = renewal.edits.finish();
    Ok(Renewed { text, notes, hunks })
}

struct Renewal<'a> {
    source: &'a Source,
    edits: Edits<'a>,
    notes: Vec<(usize, String)>,
}

impl Renewal<'_> {
    fn note(&mut self, span: Option<Range<usize>>, text: String) {
        self.notes.push((span.map_or(1, |span| self.source.place(span).line()), text));
    }

    /// `[chain]` where there may be several.
    fn brackets(&mut self, parent: &Table, names: &[&str]) {
        for name in names {
            if let Some(Item::Table(table)) = parent.get(name)
                && self.edits.double_brackets(table)
            {
                self.note(table.span(), format!("[{name}] is a list: double brackets"));
            }
        }
    }

    fn remove(&mut self, table: &dyn TableLike, key: &str, why: &str) {
        let span = table.get_key_value(key).and_then(|(name, _)| name.span());
        if self.edits.remove(table, key) {
            self.note(span, format!("`{key}` goes: {why}"));
        }
    }

    fn put(&mut self, table: &dyn TableLike, key: &str, new: String, why: &str) {
        let item = table.get(key);
        if self.edits.put(item, new) {
            self.note(item.and_then(Item::span), format!("`{key}` {why}"));
        }
    }

    fn chain(&mut self, chain: &dyn TableLike) {
        self.remove(chain, "sign_extensions", "extensions are signed where they belong");
        self.remove(chain, "timestamp_policy", "a repeat always gets the stored signature");
    }

    fn validator(&mut self, validator: &dyn TableLike) {
        self.remove(
            validator,
            "protocol_version",
            "the protocol is found out at each connection (tmkms 0.9 to 0.14 needs the key: keep the old file for a step back)",
        );
        if let Some(height) = validator.get("max_height").and_then(Item::as_integer) {
            self.put(validator, "max_height", quoted(&height.to_string()), "is written in quotes");
        }
        let is_unix = validator.get("addr").and_then(Item::as_str).is_some_and(|addr| addr.starts_with("unix:"));
        let number = validator.get("timeout").and_then(Item::as_str).and_then(|text| text.parse::<u16>().ok());
        match (is_unix, number) {
            (true, _) => self.remove(validator, "timeout", "it is not used on a unix socket"),
            (false, Some(number)) => self.put(validator, "timeout", number.to_string(), "is written without quotes"),
            (false, None) => {}
        }
        if let Some(word @ ("true" | "false")) = validator.get("reconnect").and_then(Item::as_str) {
            self.put(validator, "reconnect", word.to_owned(), "is written without quotes");
        }
    }

    fn yubihsm(&mut self, device: &dyn TableLike) {
        let adapter = device.get("adapter").and_then(Item::as_table_like);
        if adapter.and_then(|adapter| adapter.get("type")).and_then(Item::as_str) == Some("http") {
            self.remove(device, "serial_number", "the http adapter does not use it");
        }
    }

    fn process(&mut self, semel: &dyn TableLike) {
        if semel.contains_key("metrics_addr") && !semel.contains_key("http_addr") {
            let span = semel.get_key_value("metrics_addr").and_then(|(name, _)| name.span());
            if self.edits.rename(semel, "metrics_addr", "http_addr") {
                self.note(span, "`metrics_addr` is now called `http_addr`".into());
            }
        }
        if semel.get("durability").and_then(Item::as_str).is_none_or(|word| word == "sync") {
            self.remove(semel, "reserve_heights", "it is not used with durability = \"sync\"");
        }
    }
}

/// The lines that differ, as `diff -u` marks them, without passwords.
fn difference(source: &Source, renewed: &Renewed) -> String {
    let new = Source::new(source.path(), renewed.text.as_str());
    let (old_lines, new_lines) = (show::lines(source), show::lines(&new));
    let mut out = String::new();
    for (old, new) in &renewed.hunks {
        out.push_str(&format!("@@ -{},{} +{},{} @@\n", old.start + 1, old.len(), new.start + 1, new.len()));
        let (old, new) = (old_lines.get(old.clone()), new_lines.get(new.clone()));
        for (sign, lines) in [('-', old), ('+', new)] {
            for line in lines.unwrap_or_default() {
                out.push_str(&format!("{sign}{line}\n"));
            }
        }
    }
    out
}
