//! The text of a new `tmkms.toml`: every key that there is, the optional ones as comments with their defaults.
//!
//! `init`, `config init` and `migrate` write it. What a person gave goes in as a string of TOML, and the whole is checked by the reader
//! of configurations before it is written.

use super::super::config;
use semel_ledger::RESERVE_HEIGHTS_DEFAULT;
use semel_ops::config::{Diagnostics, Source};
use semel_ops::error::Report;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A network whose prefixes are known: name, current chain id, account and consensus key prefixes.
pub(in super::super) struct Network {
    pub(in super::super) name: &'static str,
    pub(in super::super) chain_id: &'static str,
    account: &'static str,
    consensus: &'static str,
}

/// The networks that tmkms's `init` knows.
pub(in super::super) const NETWORKS: [Network; 5] = [
    Network { name: "cosmoshub", chain_id: "cosmoshub-4", account: "cosmospub", consensus: "cosmosvalconspub" },
    Network { name: "irishub", chain_id: "irishub-1", account: "iap", consensus: "icp" },
    Network { name: "sentinelhub", chain_id: "sentinelhub-2", account: "sentpub", consensus: "sentvalconspub" },
    Network { name: "osmosis", chain_id: "osmosis-1", account: "osmopub", consensus: "osmovalconspub" },
    Network { name: "core", chain_id: "core-1", account: "persistencepub", consensus: "persistencevalconspub" },
];

/// Where a node is expected when nobody says it.
pub(in super::super) const NODE: &str = "tcp://127.0.0.1:26659";

/// Where a chain's key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum KeyEntry {
    /// In a file, as base64.
    File(PathBuf),
    /// In a file as a node has it.
    Json(PathBuf),
    /// In a YubiHSM, with the file of its password.
    YubiHsm(PathBuf),
    /// In a PKCS#11 token.
    Pkcs11 {
        /// The library.
        module: PathBuf,
        /// `token_label = "…"` or `slot = N`.
        token: String,
        /// The file of its PIN.
        pin_file: PathBuf,
        /// `label = "…"`, `id = "…"`.
        key: String,
    },
}

/// One chain of a configuration.
#[derive(Debug, Clone)]
pub(in super::super) struct Entry {
    pub(in super::super) chain: String,
    pub(in super::super) state_file: PathBuf,
    pub(in super::super) nodes: Vec<String>,
    pub(in super::super) identity: PathBuf,
    pub(in super::super) key: KeyEntry,
}

/// Where things are below the directory of a configuration, as tmkms lays them out.
pub(in super::super) struct Layout<'a>(pub(in super::super) &'a Path);

impl Layout<'_> {
    pub(in super::super) fn identity(&self) -> PathBuf {
        self.0.join("secrets/kms-identity.key")
    }

    pub(in super::super) fn state_file(&self, chain: &str) -> PathBuf {
        self.0.join(format!("state/{chain}-consensus.json"))
    }

    pub(in super::super) fn key(&self, chain: &str) -> PathBuf {
        self.0.join(format!("secrets/{chain}-consensus.key"))
    }

    /// A chain with its key in a file.
    pub(in super::super) fn entry(&self, chain: &str, nodes: Vec<String>) -> Entry {
        Entry {
            chain: chain.to_owned(),
            state_file: self.state_file(chain),
            nodes,
            identity: self.identity(),
            key: KeyEntry::File(self.key(chain)),
        }
    }
}

/// A string of TOML: JSON's escapes are among those of TOML.
pub(in super::super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007F")
}

fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

const HEAD: &str = "\
# Configuration of a Tendermint key management system.
# `config check` finds what is wrong with it, `config show --origin` tells every value that counts and where it comes from.
# Keys behind a # are optional; what stands there is their default, or an example where there is none.
";

/// The whole file.
pub(in super::super) fn text(entries: &[Entry]) -> String {
    let mut out = String::from(HEAD);
    // A String takes every write.
    let _ = entries.iter().try_for_each(|entry| chain(&mut out, entry));
    let _ = entries.iter().try_for_each(|entry| validators(&mut out, entry));
    let _ = entries.iter().try_for_each(|entry| provider(&mut out, entry));
    let _ = process(&mut out);
    out
}

/// What the reader of configurations has against a text, without its files.
pub(in super::super) fn checked(place: &Path, text: &str) -> Result<(), Report> {
    let checked = config::examine(&[Source::new(place, text)], config::Look::Text, Diagnostics::new());
    if checked.found.has_errors() { Err(checked.found.into()) } else { Ok(()) }
}

fn chain(out: &mut String, entry: &Entry) -> std::fmt::Result {
    let (id, state) = (quoted(&entry.chain), path(&entry.state_file));
    let format = match NETWORKS.iter().find(|network| network.chain_id == entry.chain) {
        Some(Network { account, consensus, .. }) => {
            format!(
                "{{ type = \"bech32\", account_key_prefix = \"{account}\", consensus_key_prefix = \"{consensus}\" }}"
            )
        }
        None => "{ type = \"hex\" }".to_owned(),
    };
    write!(
        out,
        "
[[chain]]
id = {id}
key_format = {format}
state_file = {state}
# require_state = false                 # true: a missing state file is an error
# sign_extensions = true                # false: only where there is one, which saves a device a signature per precommit
# state_hook = {{ cmd = [\"/path/to/program\"], timeout_secs = 5, fail_closed = true }}  # tells the height of the chain
"
    )
}

fn validators(out: &mut String, entry: &Entry) -> std::fmt::Result {
    for node in &entry.nodes {
        write!(out, "\n[[validator]]\nchain_id = {}\naddr = {}\n", quoted(&entry.chain), quoted(node))?;
        match node.starts_with("unix:") {
            true => out.push_str("# secret_key is not needed on a unix socket.\n"),
            false => {
                writeln!(out, "secret_key = {}", path(&entry.identity))?;
                out.push_str("# timeout = 10                          # seconds for a read or a write\n");
            }
        }
        out.push_str(
            "# reconnect = true\n\
             # max_height = \"1234567\"                # the last height that is signed\n\
             # allow_sign_bytes = [\"APP::\"]         # how bytes must begin that CometBFT v1 asks to sign; none without it\n\
             # dialect = \"auto\"                    # \"celestia\", \"v1\": whose request for a signature of bytes is meant\n\
             # The node's protocol is found out; `protocol_version` is needed only to refuse all others.\n",
        );
    }
    Ok(())
}

fn provider(out: &mut String, entry: &Entry) -> std::fmt::Result {
    let id = quoted(&entry.chain);
    match &entry.key {
        KeyEntry::File(key) => write!(
            out,
            "
# Make it with `softsign keygen {shown}` or `softsign import priv_validator_key.json {shown}`.
[[providers.softsign]]
chain_ids = [{id}]
key_type = \"consensus\"
path = {path}
# key_format = \"base64\"                 # \"json\": a node's priv_validator_key.json as it is
",
            // In a comment a line end would end it.
            shown = key.to_string_lossy().replace(char::is_control, "?"),
            path = path(key)
        ),
        KeyEntry::Json(key) => write!(
            out,
            "\n[[providers.softsign]]\nchain_ids = [{id}]\nkey_type = \"consensus\"\nkey_format = \"json\"\npath = {}\n",
            path(key)
        ),
        KeyEntry::YubiHsm(password) => write!(
            out,
            "
# `yubihsm setup` prints the password of authentication key 4; `yubihsm keys generate 1` makes the key.
[[providers.yubihsm]]
adapter = {{ type = \"http\", addr = \"tcp://127.0.0.1:12345\" }}  # or {{ type = \"usb\", timeout_ms = 1000 }}
auth = {{ key = 4, password_file = {} }}
keys = [{{ chain_ids = [{id}], key = 1, type = \"consensus\" }}]
# serial_number = \"0123456789\"          # which device, on USB
",
            path(password)
        ),
        KeyEntry::Pkcs11 { module, token, pin_file, key } => write!(
            out,
            "
[[providers.pkcs11]]
module = {}
{token}
pin_file = {}
keys = [{{ chain_ids = [{id}], {key}, type = \"consensus\" }}]
",
            path(module),
            path(pin_file)
        ),
    }
}

fn process(out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "
# [semel]
# ledger = \"/var/lib/semel/ledger\"
# durability = \"sync\"                   # \"reserve\": a bound some heights ahead is on the disk, not each position
# reserve_heights = {RESERVE_HEIGHTS_DEFAULT}
# http_addr = \"127.0.0.1:26680\"         # serves /livez, /readyz and /metrics
# log_format = \"text\"                   # or \"json\"
# hold_new_keys = true                  # a key that is new to this host watches a few heights before it signs
# allow_root = false
"
    )
}
