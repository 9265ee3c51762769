//! tmkms: its configuration is ours, its keys and devices stay where they are, and its state files go into the ledger.

use super::super::config::Config;
use super::super::configure::migrate::{Renewed, renew, source};
use super::super::configure::tree::address;
use super::Common;
use super::running::Watch;
use super::{Found, Move};
use clap::Args;
use semel_ops::error::Report;
use std::path::PathBuf;

/// `migrate from tmkms`
#[derive(Debug, Args)]
pub struct Tmkms {
    #[command(flatten)]
    pub(super) common: Common,
    /// The configuration of tmkms. Without --output it stays as it is and is used from there
    pub(super) config: PathBuf,
}

impl Tmkms {
    /// The configuration without what is deprecated.
    pub(super) fn renewed(&self) -> Result<Renewed, Report> {
        renew(&source(&self.config)?)
    }

    pub(super) fn found(&self, config: &Config) -> Found {
        let moves: Vec<Move> = config
            .chains
            .iter()
            .map(|chain| Move {
                chain: chain.name.clone(),
                state: chain.state_file.value.clone(),
                new_state: Some(chain.state_file.value.clone()),
                import: None,
            })
            .collect();
        Found {
            signer: "tmkms",
            entries: Vec::new(),
            watch: Watch {
                programs: &["tmkms", "semel"],
                named: vec![self.config.clone()],
                default: Some(PathBuf::from("tmkms.toml"))
                    .filter(|name| self.config.ends_with(name))
                    .map(|_| self.config.clone()),
                files: moves.iter().map(|chain| chain.state.clone()).collect(),
                nodes: config.validators.iter().map(|validator| address(&validator.addr.value)).collect(),
                ..Watch::default()
            },
            moves,
            notes: Vec::new(),
            steps: vec![
                "keep tmkms from starting again: its unit has to start this program in its place".into(),
                "start Semel; priv_validator_laddr of the nodes stays as it is".into(),
            ],
        }
    }
}
