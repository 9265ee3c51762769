//! `migrate from`: a key comes over from another signer, with everything that it signed.
//!
//! The order is the point: the old signer must not run; its state goes into the ledger, durably; then the key is copied; the
//! configuration comes last. Whatever stops it in between leaves a ledger that knows too much, never too little, and nothing
//! that could be started. The same command goes on.

mod cosmos;
mod error;
mod filepv;
mod home;
mod horcrux;
mod plan;
mod running;
mod tmkms;
mod yaml;

use super::args::LedgerArgs;
use super::config::{self, Config};
use super::configure::template::{self, Entry, KeyEntry, Layout};
use super::key_report;
use clap::{Args, Subcommand};
use error::MigrateError;
use plan::Plan;
use running::Watch;
use semel_guard::{Algorithm, PublicKey};
use semel_keys::softsign::{self, Form, KeyType};
use semel_ops::config::{Diagnostics, Source};
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use std::path::{Path, PathBuf};

/// `migrate`
#[derive(Debug, Subcommand)]
pub enum Migrate {
    /// Bring keys over, with all that they signed
    #[command(subcommand)]
    From(From),
}

/// `migrate from`
#[derive(Debug, Subcommand)]
pub enum From {
    /// tmkms: its configuration and state files
    Tmkms(tmkms::Tmkms),
    /// A node that signs itself, with priv_validator_key.json
    Filepv(filepv::FilePv),
    /// horcrux as a single signer
    Horcrux(horcrux::Horcrux),
    /// cosmos/kms
    CosmosKms(cosmos::CosmosKms),
}

/// What all of them take.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Directory for tmkms.toml, secrets/ and state/ [default: the current one]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the plan for machines
    #[arg(long)]
    json: bool,
    /// Go on without a state. If the key ever signed, it may sign twice and lose its stake
    #[arg(long)]
    i_accept_double_sign_risk: bool,
    /// Let the keys sign at once: whoever signed with them has stopped, and its state knows the last of it
    #[arg(long)]
    no_hold: bool,
}

/// What those take that name neither a chain nor a node in one place.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Id of the chain, where the files do not say which one is meant
    #[arg(long, value_name = "ID")]
    chain_id: Option<String>,
    /// Where the node listens, instead of what the files say; may be repeated
    #[arg(long, value_name = "ADDR")]
    node: Vec<String>,
}

/// What another signer left.
struct Found {
    signer: &'static str,
    /// Chains of the new configuration; none: the old one is used.
    entries: Vec<Entry>,
    moves: Vec<Move>,
    watch: Watch,
    /// What does not come over.
    notes: Vec<String>,
    /// What is left for the operator.
    steps: Vec<String>,
}

/// One chain that comes over.
struct Move {
    /// Its name in the new configuration.
    chain: String,
    /// The old signer's state.
    state: PathBuf,
    /// Where ours goes on with it; None: beside the new configuration.
    new_state: Option<PathBuf>,
    /// A key in a file that is copied; None: the key stays where it is.
    import: Option<Import>,
}

/// A key that is copied.
struct Import {
    from: PathBuf,
    to: PathBuf,
    /// As it is, and not as base64: a file of base64 does not say its algorithm.
    as_json: bool,
    public: PublicKey,
}

/// Where a node's key file goes in our configuration.
fn key_entry(from: &Path, layout: &Layout<'_>, chain: &str) -> Result<(KeyEntry, Import), Report> {
    let (key, _) = softsign::load(from, Form::Json, KeyType::Consensus).map_err(|error| key_report(&error))?;
    let as_json = key.public().algorithm() != Algorithm::Ed25519;
    let to = layout.key(chain);
    let to = if as_json { to.with_extension("json") } else { to };
    let entry = if as_json { KeyEntry::Json(to.clone()) } else { KeyEntry::File(to.clone()) };
    Ok((entry, Import { from: from.into(), to, as_json, public: key.public().clone() }))
}

impl Migrate {
    /// Runs the command.
    pub(super) fn run(&self, shell: &Shell) -> Result<(), Report> {
        let Self::From(from) = self;
        let common = from.common();
        let mut plan = from.plan()?;
        let seen = plan.watch.look();
        // Only now: what a signer writes before it ends has to be seen.
        plan.read_states()?;
        if !seen.is_empty() && !common.dry_run {
            return Err(MigrateError::Running(seen).into());
        }
        plan.may_go(common)?;
        plan.show(common.json, shell)?;
        for note in &plan.notes {
            shell.warning(note);
        }
        for process in &seen {
            shell.warning(format!("{process}: it has to be stopped first"));
        }
        if common.dry_run {
            return Ok(());
        }
        plan.carry_out(common, shell)
    }
}

impl From {
    fn common(&self) -> &Common {
        match self {
            Self::Tmkms(tmkms) => &tmkms.common,
            Self::Filepv(filepv) => &filepv.common,
            Self::Horcrux(horcrux) => &horcrux.common,
            Self::CosmosKms(cosmos) => &cosmos.common,
        }
    }

    fn plan(&self) -> Result<Plan, Report> {
        let common = self.common();
        let home = common.output.clone().unwrap_or_else(|| PathBuf::from("."));
        let home = std::path::absolute(&home)
            .map_err(|error| Report::new(format!("no such path: {}", home.display())).cause(&error))?;
        let layout = Layout(&home);
        let (found, config) = match self {
            Self::Tmkms(tmkms) => {
                let renewed = tmkms.renewed()?;
                let config = parsed(&tmkms.config, &renewed.text)?;
                let name = tmkms.config.file_name().map(PathBuf::from).unwrap_or_default();
                let written = common.output.as_ref().map(|_| (home.join(name), renewed.text));
                let mut found = tmkms.found(&config);
                found.notes.extend(renewed.notes.into_iter().map(|(line, note)| {
                    format!(
                        "{}:{line}: {note}{}",
                        tmkms.config.display(),
                        if written.is_some() { "" } else { " (`config migrate` does it)" }
                    )
                }));
                return Plan::of(found, &config, written, home, common);
            }
            Self::Filepv(filepv) => (filepv.read(&layout)?, home.join("tmkms.toml")),
            Self::Horcrux(horcrux) => (horcrux.read(&layout)?, home.join("tmkms.toml")),
            Self::CosmosKms(cosmos) => (cosmos.read(&layout)?, home.join("tmkms.toml")),
        };
        let text = template::text(&found.entries);
        let parsed = parsed(&config, &text)?;
        Plan::of(found, &parsed, Some((config, text)), home, common)
    }
}

/// A text as a configuration, without the files that it names.
fn parsed(path: &Path, text: &str) -> Result<Config, Report> {
    let checked = config::examine(&[Source::new(path, text)], config::Look::Text, Diagnostics::new());
    match (checked.found.has_errors(), checked.configs.into_iter().next()) {
        (false, Some(config)) => Ok(config),
        _ => Err(checked.found.into()),
    }
}
