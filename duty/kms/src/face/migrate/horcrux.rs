//! horcrux: `config.yaml`, `CHAIN_priv_validator_key.json`, `state/CHAIN_priv_validator_state.json` (v3), or `priv_validator_key.json` and
//! `chain-id` (v2). A single signer comes over; a share of a threshold key is no key and is refused.

use super::super::configure::template::{Entry, Layout};
use super::error::MigrateError;
use super::running::Watch;
use super::{Common, Found, Move, Named, key_entry, yaml};
use clap::Args;
use semel_ops::error::Report;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Keys of one directory that are looked at.
const KEYS_MAX: usize = 1000;

/// `migrate from horcrux`
#[derive(Debug, Args)]
pub struct Horcrux {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    named: Named,
    /// The directory of horcrux, such as ~/.horcrux
    home: PathBuf,
}

impl Horcrux {
    pub(super) fn read(&self, layout: &Layout<'_>) -> Result<Found, Report> {
        let home = &std::path::absolute(&self.home).unwrap_or_else(|_| self.home.clone());
        let config = yaml::read(&home.join("config.yaml"))?;
        let keys = config.get("keyDir").and_then(Value::as_str).map_or_else(|| home.clone(), |keys| home.join(keys));
        if let Some(share) = shares(&config, home, &keys) {
            return Err(MigrateError::Threshold(share).into());
        }
        let (chain, key) = self.key(&config, &keys)?;
        let state = home.join(format!("state/{chain}_priv_validator_state.json"));
        let nodes = if self.named.node.is_empty() { nodes(&config) } else { self.named.node.clone() };
        if nodes.is_empty() {
            return Err(MigrateError::Unclear {
                what: "horcrux's configuration names no node".into(),
                hint: "give the node's priv_validator_laddr with --node ADDR".into(),
            }
            .into());
        }
        let (entry_key, import) = key_entry(&key, layout, &chain)?;
        let entry = Entry { key: entry_key, ..layout.entry(&chain, nodes.clone()) };
        Ok(Found {
            signer: "horcrux",
            entries: vec![entry],
            moves: vec![Move { chain, state: state.clone(), new_state: None, import: Some(import) }],
            watch: Watch {
                programs: &["horcrux"],
                named: vec![home.clone(), home.join("config.yaml")],
                default: None,
                files: vec![state],
                directories: vec![home.join("state"), home.join("raft")],
                pid_file: Some(home.join("horcrux.pid")),
                nodes,
            },
            notes: Vec::new(),
            steps: vec![
                "keep horcrux from starting again: systemctl disable --now horcrux, on every host that has this key"
                    .into(),
                format!("move {} to an offline backup", key.display()),
                "start Semel; priv_validator_laddr of the nodes stays as it is".into(),
            ],
        })
    }

    /// The chain that is meant, and its key.
    fn key(&self, config: &Value, keys: &Path) -> Result<(String, PathBuf), MigrateError> {
        // v2 has one chain, and says which.
        if let Some(chain) = config.get("chain-id").and_then(Value::as_str) {
            return Ok((chain.to_owned(), keys.join("priv_validator_key.json")));
        }
        let of = |chain: &str| keys.join(format!("{chain}_priv_validator_key.json"));
        if let Some(chain) = &self.named.chain_id {
            return Ok((chain.clone(), of(chain)));
        }
        let mut chains = names(keys, "_priv_validator_key.json");
        match (chains.pop(), chains.is_empty()) {
            (Some(chain), true) => Ok((chain.clone(), of(&chain))),
            (None, _) => Err(MigrateError::input(keys, "no CHAIN_priv_validator_key.json in it")),
            (Some(last), false) => Err(MigrateError::Unclear {
                what: format!("horcrux signs for several chains: {}, {last}", chains.join(", ")),
                hint: "its configuration does not say which node is of which chain: run this once for each, with --chain-id and --node"
                    .into(),
            }),
        }
    }
}

/// A sign that the key is split.
fn shares(config: &Value, home: &Path, keys: &Path) -> Option<PathBuf> {
    let is_threshold = config.get("signMode").and_then(Value::as_str) == Some("threshold")
        || ["thresholdMode", "cosigner"].iter().any(|key| config.get(key).is_some_and(|table| !table.is_null()));
    let share = [keys.join("share.json"), home.join("share.json")].into_iter().find(|path| path.exists());
    let shard = names(keys, "_shard.json").into_iter().next().map(|chain| keys.join(format!("{chain}_shard.json")));
    shard.or(share).or_else(|| is_threshold.then(|| home.join("config.yaml")))
}

/// What stands before an ending, in the names of a directory, sorted.
fn names(directory: &Path, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().take(KEYS_MAX).filter_map(Result::ok);
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(ending)?.to_owned()))
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names
}

fn nodes(config: &Value) -> Vec<String> {
    let list = |key: &str| config.get(key).and_then(Value::as_array).into_iter().flatten();
    let addr = |node: &Value, key: &str| node.get(key).and_then(Value::as_str).map(str::to_owned);
    let v3 = list("chainNodes").filter_map(|node| addr(node, "privValAddr"));
    v3.chain(list("chain-nodes").filter_map(|node| addr(node, "priv-val-addr"))).collect()
}
