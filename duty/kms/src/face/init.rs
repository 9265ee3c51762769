//! `init`: a directory with a configuration and the keys it needs, as tmkms lays it out.
//!
//! ```text
//! PATH/tmkms.toml               configuration
//! PATH/schema/                  key format schemas (kept for compatibility, empty)
//! PATH/secrets/                 0700; kms-identity.key, CHAIN-consensus.key goes here
//! PATH/state/                   CHAIN-consensus.json
//! ```

use super::args::Init;
use semel_keys::identity;
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// A network that `init` knows: name, current chain id, account and consensus key prefixes.
struct Network {
    name: &'static str,
    chain_id: &'static str,
    account: &'static str,
    consensus: &'static str,
}

const NETWORKS: [Network; 5] = [
    Network { name: "cosmoshub", chain_id: "cosmoshub-4", account: "cosmospub", consensus: "cosmosvalconspub" },
    Network { name: "irishub", chain_id: "irishub-1", account: "iap", consensus: "icp" },
    Network { name: "sentinelhub", chain_id: "sentinelhub-2", account: "sentpub", consensus: "sentvalconspub" },
    Network { name: "osmosis", chain_id: "osmosis-1", account: "osmopub", consensus: "osmovalconspub" },
    Network { name: "core", chain_id: "core-1", account: "persistencepub", consensus: "persistencevalconspub" },
];

/// Makes the directory.
pub(super) fn run(init: &Init, shell: &Shell) -> Result<(), Report> {
    let failed =
        |path: &Path, error: &std::io::Error| Report::new(format!("cannot make {}", path.display())).cause(error);
    let mut entries = Vec::new();
    for name in &init.networks {
        let known = NETWORKS.iter().find(|network| network.name == name);
        // A chain id of one's own has a revision or is no name of the list.
        let is_chain_id = name.contains('-') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        match known {
            Some(network) => entries.push((network.chain_id.to_owned(), Some(network))),
            None if is_chain_id => entries.push((name.clone(), None)),
            None => {
                let names: Vec<&str> = NETWORKS.iter().map(|network| network.name).collect();
                return Err(Report::new(format!("unknown network: {name}"))
                    .because(format!("known networks: {}", names.join(", ")))
                    .hint("for another chain give its chain id, such as my-chain-1"));
            }
        }
    }
    let home = &init.path;
    let config = home.join("tmkms.toml");
    if config.exists() && !init.force {
        return Err(Report::new(format!("{} exists", config.display()))
            .hint("nothing was changed; --force writes a new one and keeps a dated copy")
            .exit(Exit::Failed));
    }
    if init.dry_run {
        for path in ["", "schema", "secrets", "state"] {
            shell.status("Would make", home.join(path).display());
        }
        shell.status("Would make", config.display());
        return Ok(());
    }
    shell.status("Creating", home.display());
    for (path, mode) in [("", 0o700), ("schema", 0o755), ("secrets", 0o700), ("state", 0o755)] {
        let path = home.join(path);
        let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.map_err(|error| failed(&path, &error))?;
    }
    let home = std::fs::canonicalize(home).map_err(|error| failed(home, &error))?;
    let config = home.join("tmkms.toml");
    if config.exists() {
        let copy = home.join(format!("tmkms.toml.{}", super::dated()));
        std::fs::rename(&config, &copy).map_err(|error| failed(&copy, &error))?;
        shell.status("Kept", copy.display());
    }
    let written = std::fs::write(&config, text(&home, &entries));
    written.map_err(|error| failed(&config, &error))?;
    shell.status("Generated", format!("KMS configuration: {}", config.display()));
    let secret = home.join("secrets/kms-identity.key");
    if !secret.exists() {
        identity::Identity::generate(&secret, None).map_err(|error| super::key_report(&error))?;
        shell.status("Generated", format!("Secret Connection key: {}", secret.display()));
    }
    Ok(())
}

fn text(home: &Path, entries: &[(String, Option<&Network>)]) -> String {
    let mut out = String::from("# Configuration of a Tendermint key management system.\n");
    let path = |rest: String| home.join(rest).display().to_string();
    let mut put = |text: String| out.push_str(&text);
    for (chain, network) in entries {
        let format = match network {
            Some(Network { account, consensus, .. }) => format!(
                "{{ type = \"bech32\", account_key_prefix = \"{account}\", consensus_key_prefix = \"{consensus}\" }}"
            ),
            None => "{ type = \"hex\" }".to_owned(),
        };
        let state = path(format!("state/{chain}-consensus.json"));
        put(format!("\n[[chain]]\nid = \"{chain}\"\nkey_format = {format}\nstate_file = \"{state}\"\n"));
    }
    for (chain, _) in entries {
        let secret = path("secrets/kms-identity.key".into());
        put(format!(
            "\n[[validator]]\nchain_id = \"{chain}\"\naddr = \"tcp://127.0.0.1:26659\"\nsecret_key = \"{secret}\"\n\
             # The node's protocol is found out; `protocol_version` is needed only to refuse all others.\n"
        ));
    }
    for (chain, _) in entries {
        let key = path(format!("secrets/{chain}-consensus.key"));
        put(format!(
            "\n# Make it with `softsign keygen {key}` or `softsign import priv_validator_key.json {key}`.\n\
             [[providers.softsign]]\nchain_ids = [\"{chain}\"]\nkey_type = \"consensus\"\npath = \"{key}\"\n"
        ));
    }
    out
}
