//! cosmos/kms (0.1): `kms.yaml` in its home, with chains, validators and keys, as tmkms has them; states as a node writes them.

use super::super::configure::template::{Entry, KeyEntry, Layout, quoted};
use super::error::MigrateError;
use super::running::Watch;
use super::{Common, Found, Move, key_entry, yaml};
use clap::Args;
use semel_ops::error::Report;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// `migrate from cosmos-kms`
#[derive(Debug, Args)]
pub struct CosmosKms {
    #[command(flatten)]
    pub(super) common: Common,
    /// The home of cosmos/kms, with kms.yaml in it
    home: PathBuf,
}

fn word<'a>(table: &'a Value, key: &str) -> Option<&'a str> {
    table.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn list<'a>(table: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    table.get(key).and_then(Value::as_array).into_iter().flatten()
}

impl CosmosKms {
    pub(super) fn read(&self, layout: &Layout<'_>) -> Result<Found, Report> {
        let home = &std::path::absolute(&self.home).unwrap_or_else(|_| self.home.clone());
        let path = home.join("kms.yaml");
        let config = yaml::read(&path)?;
        let (mut entries, mut moves, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for chain in list(&config, "chains").filter_map(|chain| word(chain, "id").map(|id| (id, chain))) {
            let (id, table) = chain;
            let state =
                word(table, "state_file").map_or_else(|| home.join(format!("state/{id}.json")), |at| home.join(at));
            let validators = list(&config, "validators").filter(|validator| word(validator, "chain_id") == Some(id));
            let nodes: Vec<String> =
                validators.filter_map(|validator| word(validator, "addr").map(str::to_owned)).collect();
            let key = list(&config, "keys").find(|key| list(key, "chain_ids").any(|chain| chain.as_str() == Some(id)));
            let key = key.ok_or_else(|| MigrateError::Key(format!("{}: no key signs for {id}", path.display())))?;
            let (entry_key, import) = match word(key, "backend").unwrap_or("file") {
                "file" => {
                    let file = word(key, "key_file").map(|file| home.join(file));
                    let file =
                        file.ok_or_else(|| MigrateError::input(&path, format!("the key of {id} has no key_file")))?;
                    steps.push(format!("move {} to an offline backup", file.display()));
                    let (entry, import) = key_entry(&file, layout, id)?;
                    (entry, Some(import))
                }
                "pkcs11" => (token(key, id, home, &path)?, None),
                other => {
                    return Err(
                        MigrateError::Key(format!("the key of {id} is in {other}, which is not served here")).into()
                    );
                }
            };
            entries.push(Entry { key: entry_key, ..layout.entry(id, nodes) });
            moves.push(Move { chain: id.to_owned(), state, new_state: None, import });
        }
        if entries.is_empty() {
            return Err(MigrateError::input(&path, "it names no chain").into());
        }
        let nodes = entries.iter().flat_map(|entry| entry.nodes.clone()).collect();
        steps.insert(0, "keep cosmos/kms from starting again: systemctl disable --now its unit".into());
        steps.push("start Semel; priv_validator_laddr of the nodes stays as it is".into());
        Ok(Found {
            signer: "cosmos/kms",
            entries,
            watch: Watch {
                programs: &["kms"],
                named: vec![home.clone()],
                default: Some(path),
                files: moves.iter().map(|chain: &Move| chain.state.clone()).collect(),
                nodes,
                ..Watch::default()
            },
            moves,
            notes: notes(&config),
            steps,
        })
    }
}

/// A key in a PKCS#11 token, as our configuration says it.
fn token(key: &Value, chain: &str, home: &Path, path: &Path) -> Result<KeyEntry, MigrateError> {
    let module = word(key, "module").map(PathBuf::from);
    let module = module.ok_or_else(|| MigrateError::input(path, format!("the key of {chain} has no module")))?;
    let token = match (word(key, "token_label"), key.get("slot").and_then(Value::as_u64)) {
        (Some(label), _) => format!("token_label = {}", quoted(label)),
        (None, Some(slot)) => format!("slot = {slot}"),
        (None, None) => return Err(MigrateError::input(path, format!("the key of {chain} names no token"))),
    };
    let pin_file = word(key, "pin_file").map(|file| home.join(file)).ok_or_else(|| MigrateError::Unclear {
        what: format!("the PIN of the key of {chain} is in no file"),
        hint: "write it to a file of its own, mode 0600, and name that as pin_file in kms.yaml".into(),
    })?;
    let names = [("label", "key_label"), ("id", "key_id")];
    let names = names.map(|(ours, theirs)| word(key, theirs).map(|text| format!("{ours} = {}", quoted(text))));
    let key = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
    Ok(KeyEntry::Pkcs11 { module, token, pin_file, key })
}

/// What does not come over.
fn notes(config: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    if config.get("grpc").is_some_and(|grpc| !grpc.is_null()) {
        notes.push("its gRPC service has no counterpart here".to_owned());
    }
    if list(config, "validators").any(|validator| validator.get("reconnect") == Some(&Value::Bool(false))) {
        notes.push("reconnect = false is not carried over: a node that goes away is dialled again".to_owned());
    }
    notes
}
