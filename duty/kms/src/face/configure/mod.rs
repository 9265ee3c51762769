//! `config`: configurations are made, checked, shown with every default, renewed and compared.

mod diff;
mod init;
pub(super) mod migrate;
mod show;
pub(super) mod template;
pub(super) mod tree;

use super::args::Configs;
use super::{config, said};
use clap::Subcommand;
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use std::path::PathBuf;

/// `config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Write a complete configuration with a comment on every key
    Init(init::Init),
    /// Find every error in configurations, without a network
    Check {
        #[command(flatten)]
        configs: Configs,
        /// For machines
        #[arg(long)]
        json: bool,
        /// Allow a ledger on a file system that forgets or is shared (tmpfs, overlay, NFS)
        #[arg(long)]
        i_accept_volatile_ledger: bool,
    },
    /// Print what counts, with every default filled in and no secret
    Show(show::Show),
    /// Take out of a configuration what is deprecated, unneeded or wrong; comments and order stay
    Migrate(migrate::Migrate),
    /// Say what differs in meaning between two configurations: exit 0 nothing, 1 something, 2 trouble
    Diff(diff::Diff),
}

/// Runs a command.
pub(super) fn run(command: &Config, shell: &Shell) -> Result<(), Report> {
    match command {
        Config::Init(command) => command.run(shell),
        Config::Check { configs, json, i_accept_volatile_ledger } => {
            check(&configs.paths(), config::Look::Disks { volatile_ledger: *i_accept_volatile_ledger }, *json, shell)
        }
        Config::Show(command) => command.run(shell),
        Config::Migrate(command) => command.run(shell),
        Config::Diff(command) => command.run(shell),
    }
}

fn check(paths: &[PathBuf], look: config::Look, json: bool, shell: &Shell) -> Result<(), Report> {
    let checked = config::check(paths, look);
    if json {
        said(shell.json(&checked.found.to_json()))?;
        return match checked.found.has_errors() {
            true => Err(Report::new(checked.found.summary())),
            false => Ok(()),
        };
    }
    if checked.found.has_errors() {
        return Err(checked.found.into());
    }
    if !checked.found.is_empty() {
        shell.diagnostics(&checked.found);
    }
    let chains: usize = checked.configs.iter().map(|config| config.chains.len()).sum();
    let validators: usize = checked.configs.iter().map(|config| config.validators.len()).sum();
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let counts = [(checked.configs.len(), "file"), (chains, "chain"), (validators, "validator")];
    shell.status("Checked", counts.map(|(count, what)| counted(count, what)).join(", "));
    Ok(())
}
