//! A node that signs with its own file: `config/priv_validator_key.json`, `data/priv_validator_state.json`, and `config/config.toml` where they
//! are elsewhere.

use super::super::configure::migrate::source;
use super::super::configure::template::{Entry, Layout, NODE};
use super::error::MigrateError;
use super::running::Watch;
use super::{Common, Found, Move, Named, key_entry};
use clap::Args;
use semel_ops::error::Report;
use serde::Deserialize;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use toml_edit::{Document, Table};

/// Longest genesis that is searched for the chain's id, in bytes: the longest of public chains have some hundred million.
const GENESIS_MAX: u64 = 4 << 30;

/// `migrate from filepv`
#[derive(Debug, Args)]
pub struct FilePv {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    named: Named,
    /// The node's home
    home: PathBuf,
}

impl FilePv {
    pub(super) fn read(&self, layout: &Layout<'_>) -> Result<Found, Report> {
        let home = &std::path::absolute(&self.home).unwrap_or_else(|_| self.home.clone());
        let text = source(&home.join("config/config.toml"))?;
        let document = Document::parse(text.text());
        let document = document.map_err(|_| MigrateError::input(text.path(), "not TOML"))?;
        let root = document.as_table();
        let key = path(root, home, "priv_validator_key_file", "config/priv_validator_key.json");
        let state = path(root, home, "priv_validator_state_file", "data/priv_validator_state.json");
        let chain = match &self.named.chain_id {
            Some(chain) => chain.clone(),
            None => chain_of(&path(root, home, "genesis_file", "config/genesis.json"))?,
        };
        let laddr = word(root, "priv_validator_laddr").filter(|laddr| !laddr.is_empty());
        let nodes = match (self.named.node.is_empty(), laddr) {
            (false, _) => self.named.node.clone(),
            (true, Some(laddr)) => vec![reachable(laddr, home)],
            (true, None) => vec![NODE.to_owned()],
        };
        let (entry_key, import) = key_entry(&key, layout, &chain)?;
        let entry = Entry { key: entry_key, ..layout.entry(&chain, nodes.clone()) };
        let mut steps = vec![format!(
            "keep {} off the node: move it to an offline backup, so that the node cannot sign",
            key.display()
        )];
        if laddr.is_none() {
            let port = nodes.first().and_then(|node| node.rsplit_once(':')).map_or("26659", |(_, port)| port);
            // The entry that is written dials this: a node on this host has no reason to listen to others.
            let is_here = nodes
                .first()
                .is_some_and(|node| ["//127.", "//localhost:", "//[::1]:"].iter().any(|at| node.contains(at)));
            let laddr = match is_here {
                true => format!("\"tcp://127.0.0.1:{port}\""),
                false => format!("\"tcp://0.0.0.0:{port}\", reachable from here alone"),
            };
            steps.push(format!("in {}: priv_validator_laddr = {laddr}", text.path().display()));
        }
        steps.push("start Semel, then the node: it waits for its signer".into());
        Ok(Found {
            signer: "the node's own signer",
            entries: vec![entry],
            moves: vec![Move { chain, state: state.clone(), new_state: None, import: Some(import) }],
            watch: Watch {
                named: vec![home.clone()],
                files: vec![state],
                directories: vec![home.join("data"), path(root, home, "db_dir", "data")],
                nodes,
                ..Watch::default()
            },
            notes: Vec::new(),
            steps,
        })
    }
}

fn word<'a>(root: &'a Table, key: &str) -> Option<&'a str> {
    root.get(key)?.as_str()
}

/// A path of the node's configuration; relative ones are below its home.
fn path(root: &Table, home: &Path, key: &str, default: &str) -> PathBuf {
    home.join(word(root, key).filter(|path| !path.is_empty()).unwrap_or(default))
}

/// Where a listener is reached from this host.
fn reachable(laddr: &str, home: &Path) -> String {
    if let Some(socket) = laddr.strip_prefix("unix://").filter(|socket| !socket.starts_with('/')) {
        return format!("unix://{}", home.join(socket).display());
    }
    laddr.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
}

/// The chain's id, wherever in the genesis it stands.
fn chain_of(path: &Path) -> Result<String, MigrateError> {
    #[derive(Deserialize)]
    struct Genesis {
        chain_id: String,
    }
    let unclear = |why: String| MigrateError::Unclear {
        what: format!("{}: the chain's id is not to be had: {why}", path.display()),
        hint: "give it with --chain-id ID".into(),
    };
    let file = std::fs::File::open(path).map_err(|error| unclear(error.to_string()))?;
    let genesis: Genesis = serde_json::from_reader(BufReader::new(file.take(GENESIS_MAX)))
        .map_err(|error| unclear(format!("line {} is not as expected", error.line())))?;
    Ok(genesis.chain_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_on_this_host() {
        for (laddr, expected) in [
            ("tcp://0.0.0.0:26659", "tcp://127.0.0.1:26659"),
            ("tcp://[::]:26659", "tcp://[::1]:26659"),
            ("tcp://10.0.0.1:26659", "tcp://10.0.0.1:26659"),
            ("unix:///run/n.sock", "unix:///run/n.sock"),
            ("unix://data/n.sock", "unix:///home/n/data/n.sock"),
        ] {
            assert_eq!(reachable(laddr, Path::new("/home/n")), expected);
        }
    }
}
