//! `key`: what the keys of a configuration are, making and importing them, and letting one go for good.
//!
//! Letting go is a handover without a taker: the ledger has a tombstone before the file with the history exists, and the key's own
//! file is touched last, if at all.

use super::args::{Configs, ImportFormat, KeyKind, Softsign, Which};
use super::config::{self, Chain, Config, KeyFormat, SigningKey};
use super::keyring::Keyring;
use super::start::directory;
use super::state::{history_of, reached};
use super::{said, softsign};
use clap::{Args, Subcommand};
use semel_admin::{Handover, Place};
use semel_guard::{ChainId, History, Subject};
use semel_keys::encoding::{address, bech32};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `key`
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Every key of the configurations: where it is, for which chain, how far it signed
    List {
        #[command(flatten)]
        which: Which,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Make a key in a file
    Create {
        /// What the key is for
        #[arg(short = 't', long = "type", value_enum, default_value = "consensus")]
        kind: KeyKind,
        /// Show what would be made
        #[arg(long)]
        dry_run: bool,
        /// File to make
        path: PathBuf,
    },
    /// Import the key of a node that never signed; `migrate from filepv` brings its state, too
    Import {
        /// Show what would be made
        #[arg(long)]
        dry_run: bool,
        /// The node's priv_validator_key.json
        input: PathBuf,
        /// File to make
        output: PathBuf,
    },
    /// Let a key go: nothing is signed with it here any more, and its history is kept in a file
    Delete(Delete),
}

/// `key delete`
#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    which: Which,
    /// File to make, with how far the key signed; `handover accept` takes it
    #[arg(long, value_name = "FILE")]
    history: PathBuf,
    /// Remove the key's file, too. Without a backup the key is gone
    #[arg(long)]
    erase: bool,
    /// Show what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Key {
    /// Runs the command.
    pub(super) fn run(&self, shell: &Shell) -> Result<(), Report> {
        match self {
            Self::List { which, json } => list(which, *json, shell),
            Self::Create { kind, dry_run, path } => {
                let made = Softsign::Keygen { kind: *kind, force: false, dry_run: *dry_run, path: path.clone() };
                softsign::run(&made, shell).map_err(without_force)
            }
            Self::Import { dry_run, input, output } => {
                let (format, force, dry_run) = (ImportFormat::Json, false, *dry_run);
                let (input, output) = (input.clone(), output.clone());
                softsign::run(&Softsign::Import { format, force, dry_run, input, output }, shell).map_err(without_force)
            }
            Self::Delete(delete) => delete.run(shell),
        }
    }
}

/// These commands have no `--force`.
fn without_force(report: Report) -> Report {
    match report.code_text() {
        Some("KEY-0009") => report.hint("name another path; a key is never written over"),
        _ => report,
    }
}

/// A key as a configuration has it.
struct Row<'a> {
    config: &'a Config,
    chain: &'a Chain,
    place: Option<String>,
    /// Why not: a device that is not there keeps nobody from seeing the other keys.
    subject: Result<Subject, Report>,
    history: Arc<History>,
}

fn configs(configs: &Configs) -> Result<Vec<Config>, Report> {
    Ok(config::load_without_states(&configs.paths())?)
}

fn rows<'a>(which: &Which, configs: &'a [Config]) -> Result<Vec<Row<'a>>, Report> {
    let ledger = directory(&which.ledger, configs);
    let mut keyring = Keyring::default();
    let mut rows = Vec::new();
    for config in configs {
        let wanted = |chain: &&Chain| which.chain.as_ref().is_none_or(|id| chain.id.value == *id || chain.name == *id);
        for chain in config.chains.iter().filter(wanted) {
            let key = keyring.key(config, chain);
            let subject = key.and_then(|key| {
                let id = ChainId::new(&chain.id.value).map_err(|error| Report::of(&error))?;
                Ok(Subject { key: key.public_key().clone(), chain: id })
            });
            let history = match &subject {
                Ok(subject) => history_of(&ledger, subject)?,
                Err(_) => Arc::default(),
            };
            let place = config.signing_key(&chain.name).map(place);
            rows.push(Row { config, chain, place, subject, history });
        }
    }
    if rows.is_empty() {
        return Err(Report::new("no such chain in the configuration").exit(Exit::Misuse));
    }
    Ok(rows)
}

/// Where a key is.
fn place(key: SigningKey<'_>) -> String {
    match key {
        SigningKey::Softsign(key) => format!("softsign {}", key.path.display()),
        SigningKey::Yubihsm(_, key) => format!("yubihsm 0x{:04x}", key.key.value),
        SigningKey::Pkcs11(token, key) => format!("pkcs11 {} in {}", key.wanted, token.module.display()),
    }
}

fn list(which: &Which, as_json: bool, shell: &Shell) -> Result<(), Report> {
    let configs = configs(&which.configs)?;
    let rows = rows(which, &configs)?;
    if as_json {
        return said(shell.json(&json!({ "schema": 1, "keys": rows.iter().map(Row::to_json).collect::<Vec<_>>() })));
    }
    for row in &rows {
        said(shell.line(row.to_text()))?;
    }
    Ok(())
}

impl Row<'_> {
    fn state(&self) -> &'static str {
        if self.history.tombstone { "let go" } else { "held" }
    }

    fn addresses(&self, subject: &Subject) -> (String, Option<String>) {
        let bytes = address(&subject.key);
        let valcons = match &self.chain.key_format {
            KeyFormat::Bech32 { consensus_key_prefix, .. } => {
                consensus_key_prefix.strip_suffix("pub").and_then(|prefix| bech32(prefix, &bytes))
            }
            _ => None,
        };
        (hex::encode_upper(bytes), valcons)
    }

    fn to_json(&self) -> Value {
        let mut out = json!({ "file": self.config.path, "chain": self.chain.id.value, "name": self.chain.name, "place": self.place });
        let more = match &self.subject {
            Ok(subject) => {
                let (address, valcons) = self.addresses(subject);
                json!({
                    "algorithm": subject.key.algorithm().to_string(), "key": subject.key.to_string(),
                    "key_text": config::display::public_key(&self.chain.key_format, &subject.key),
                    "address": address, "consensus_address": valcons, "state": self.state(),
                    "floor": self.history.floor.map(|floor| reached(Some(floor))),
                })
            }
            Err(report) => json!({ "error": report.to_string(), "code": report.code_text() }),
        };
        if let (Value::Object(out), Value::Object(more)) = (&mut out, more) {
            out.extend(more);
        }
        out
    }

    fn to_text(&self) -> String {
        let (chain, place) = (&self.chain.name, self.place.as_deref().unwrap_or("nowhere"));
        match &self.subject {
            Ok(subject) => {
                let (address, valcons) = self.addresses(subject);
                let key = config::display::public_key(&self.chain.key_format, &subject.key);
                let valcons = valcons.map(|text| format!("  {text}")).unwrap_or_default();
                let floor = reached(self.history.floor);
                format!("{chain}  {key}\n  address {address}{valcons}\n  {}, {floor}; {place}", self.state())
            }
            Err(report) => format!("{chain}  cannot be read: {report}\n  {place}"),
        }
    }
}

impl Delete {
    fn run(&self, shell: &Shell) -> Result<(), Report> {
        let configs = configs(&self.which.configs)?;
        let mut rows = rows(&self.which, &configs)?;
        let (Some(row), true) = (rows.pop(), rows.is_empty()) else {
            return Err(Report::new("the configuration has several chains")
                .hint("name one with --chain ID")
                .exit(Exit::Misuse));
        };
        let erased = if self.erase { Some(erasable(&row, &configs)?) } else { None };
        let subject = row.subject?;
        let place = Place {
            ledger: Some(directory(&self.which.ledger, &configs)),
            i_accept_volatile_ledger: self.which.ledger.i_accept_volatile_ledger,
        };
        let which =
            semel_admin::Which { key: Some(subject.key.to_string()), chain: Some(subject.chain.as_str().into()) };
        Handover::Export { place, which, output: self.history.clone(), dry_run: self.dry_run }.run(shell)?;
        match (erased, self.dry_run) {
            (Some(path), true) => shell.status("Would erase", path.display()),
            (Some(path), false) => {
                let gone = std::fs::remove_file(path);
                gone.map_err(|error| Report::new(format!("cannot remove {}", path.display())).cause(&error))?;
                shell.status("Erased", path.display());
            }
            (None, _) => shell.status("Stays", row.place.unwrap_or_default()),
        }
        shell.status("Next", format!("take {} out of {}", row.chain.name, row.config.path.display()));
        Ok(())
    }
}

/// The file of a key that nothing else in these configurations signs with.
fn erasable<'a>(row: &Row<'a>, configs: &'a [Config]) -> Result<&'a Path, Report> {
    let refuse = |why: String, hint: &str| Err(Report::new(why).code_id("CONFIG-0202").hint(hint).exit(Exit::Misuse));
    let Some(SigningKey::Softsign(key)) = row.config.signing_key(&row.chain.name) else {
        return refuse("the key is in a device".into(), "leave --erase away; the tool of the device removes it");
    };
    let path = key.path.value.as_path();
    let others = configs.iter().flat_map(|config| &config.softsign).filter(|other| other.path.value == path);
    if others.map(|other| other.chains.len()).sum::<usize>() > 1 {
        return refuse(
            format!("{} signs for other chains, too", path.display()),
            "leave --erase away until it signs for none",
        );
    }
    Ok(path)
}
