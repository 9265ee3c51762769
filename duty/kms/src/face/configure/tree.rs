//! A configuration as it counts: every table, every key, with its value and where that comes from.
//!
//! The values are those of the reader of configurations, so defaults and spellings are already settled: `10.0.0.1:26658` is
//! `tcp://10.0.0.1:26658`. Where a value stands is looked up in the text. A secret is never a value here: it is shown as
//! redacted, and compared by its hash.

use super::super::args::SettingArgs;
use super::super::bundle::REDACTED;
use super::super::config::DIALECTS;
use super::super::config::{self, Adapter, Address, Config, KeyFormat, KeyType, Password, ProtocolVersion};
use super::super::edits::tables;
use super::super::start::Settings;
use semel_guard::Domain;
use semel_keys::pkcs11::Selector;
use semel_keys::softsign::Form;
use semel_ledger::{Durability, RESERVE_HEIGHTS_DEFAULT};
use semel_ops::config::{Secret, Source};
use semel_ops::log::LogFormat;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use toml_edit::{Document, Item, TableLike};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of a file.
    Line(PathBuf, usize),
    /// An environment variable.
    Environment(&'static str),
    /// A flag.
    Flag(&'static str),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A key, its value, and its origin.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Dotted, below its table.
    pub(super) name: &'static str,
    /// Null: it is not set, and has no default.
    pub(super) value: Value,
    pub(super) origin: Origin,
    /// What two configurations have to agree on.
    pub(super) meaning: String,
}

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// Dotted: `chain`, `providers.yubihsm.keys`.
    pub(super) table: &'static str,
    /// Where it begins; Default: it is in no file.
    pub(super) origin: Origin,
    pub(super) keys: Vec<Key>,
    /// What it is called, and by what it is found again in another configuration, the best first.
    pub(super) names: Vec<String>,
}

/// A table that is being read.
struct Reading<'a> {
    source: &'a Source,
    table: Option<&'a dyn TableLike>,
    section: Section,
}

impl<'a> Reading<'a> {
    fn of(source: &'a Source, table: Option<&'a dyn TableLike>, named: &'static str, line: usize) -> Self {
        let origin = Origin::Line(source.path().to_owned(), line);
        Self { source, table, section: Section { table: named, origin, keys: Vec::new(), names: Vec::new() } }
    }

    /// Where a key stands, by the first of its names that is there.
    fn origin(&self, names: &[&str]) -> Origin {
        let at = |name: &&str| {
            let (above, last) = name.rsplit_once('.').unwrap_or(("", name));
            let table = above
                .split('.')
                .filter(|part| !part.is_empty())
                .try_fold(self.table?, |table, part| table.get(part)?.as_table_like())?;
            let (key, item) = table.get_key_value(last)?;
            let span = key.span().or_else(|| item.span())?;
            Some(Origin::Line(self.source.path().to_owned(), self.source.place(span).line()))
        };
        names.iter().find_map(at).unwrap_or(Origin::Default)
    }

    fn put(&mut self, name: &'static str, value: impl Into<Value>) -> &mut Self {
        self.put_as(name, &[name], value)
    }

    fn put_as(&mut self, name: &'static str, names: &[&str], value: impl Into<Value>) -> &mut Self {
        let (value, origin) = (value.into(), self.origin(names));
        let meaning = value.to_string();
        self.section.keys.push(Key { name, value, origin, meaning });
        self
    }

    /// Two spellings of one path mean one file.
    fn path(&mut self, name: &'static str, path: Option<&Path>) -> &mut Self {
        self.put(name, path.map(|path| path.display().to_string()));
        if let (Some(key), Some(path)) = (self.section.keys.last_mut(), path) {
            key.meaning = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        }
        self
    }

    /// A password, in a file or here.
    fn password(&mut self, file: &'static str, text: &'static str, password: &Password) -> &mut Self {
        match password {
            Password::File(path) => self.path(file, Some(&path.value)),
            Password::Text(secret) => self.secret(text, secret),
        }
    }

    fn secret(&mut self, name: &'static str, secret: &Secret) -> &mut Self {
        self.put(name, REDACTED);
        if let Some(key) = self.section.keys.last_mut() {
            key.meaning = hex::encode(Sha256::digest(secret.expose()));
        }
        self
    }

    fn named(mut self, names: Vec<String>) -> Section {
        self.section.names = names;
        self.section
    }
}

/// The tables of a file, without `[semel]`.
pub(super) fn sections(config: &Config, source: &Source) -> Vec<Section> {
    let Ok(document) = Document::parse(source.text()) else { return Vec::new() };
    let root = document.as_table();
    let mut out = Vec::new();
    // A file without errors has every table in the configuration, in its order.
    for (chain, table) in config.chains.iter().zip(tables(root.get("chain"))) {
        out.push(of_chain(chain, Reading::of(source, Some(table), "chain", chain.place.line())));
    }
    for (validator, table) in config.validators.iter().zip(tables(root.get("validator"))) {
        out.push(of_validator(validator, Reading::of(source, Some(table), "validator", validator.place.line())));
    }
    let providers =
        |kind: &str| tables(root.get("providers").and_then(Item::as_table_like).and_then(|all| all.get(kind)));
    for (key, table) in config.softsign.iter().zip(providers("softsign")) {
        let mut reading = Reading::of(source, Some(table), "providers.softsign", key.place.line());
        let form = if key.key_format == Form::Json { "json" } else { "base64" };
        reading.put_as("chains", &["chains", "chain_ids"], json!(key.chains));
        reading.put("key_type", key_type(key.key_type)).put("key_format", form).path("path", Some(&key.path.value));
        out.push(reading.named(vec![key.chains.join(", "), key.path.display().to_string()]));
    }
    for (device, table) in config.yubihsm.iter().zip(providers("yubihsm")) {
        out.extend(of_yubihsm(device, source, table));
    }
    for (token, table) in config.pkcs11.iter().zip(providers("pkcs11")) {
        out.extend(of_pkcs11(token, source, table));
    }
    out
}

fn of_chain(chain: &config::Chain, mut reading: Reading<'_>) -> Section {
    reading.put("id", chain.id.value.as_str()).put("name", chain.name.as_str());
    match &chain.key_format {
        KeyFormat::Bech32 { account_key_prefix, consensus_key_prefix } => reading
            .put("key_format.type", "bech32")
            .put("key_format.account_key_prefix", account_key_prefix.as_str())
            .put("key_format.consensus_key_prefix", consensus_key_prefix.as_str()),
        KeyFormat::CosmosJson => reading.put("key_format.type", "cosmos-json"),
        KeyFormat::Hex => reading.put("key_format.type", "hex"),
    };
    reading.put("sign_extensions", chain.sign_extensions).path("state_file", Some(&chain.state_file.value));
    reading.put("require_state", chain.require_state).put("timestamp_policy", "reuse");
    match &chain.state_hook {
        Some(hook) => reading
            .put("state_hook.cmd", json!(hook.cmd))
            .put("state_hook.timeout_secs", hook.timeout.as_secs())
            .put("state_hook.fail_closed", hook.fail_closed),
        None => reading.put("state_hook", Value::Null),
    };
    reading.named(vec![chain.name.clone(), chain.id.value.clone()])
}

fn of_validator(validator: &config::Validator, mut reading: Reading<'_>) -> Section {
    let addr = address(&validator.addr.value);
    let on_tcp = matches!(validator.addr.value, Address::Tcp { .. } | Address::Noise { .. });
    let words = ProtocolVersion::WORDS.iter().find(|(_, version)| *version == validator.protocol_version);
    reading.put("addr", addr.as_str()).put_as("chain", &["chain", "chain_id"], validator.chain.as_str());
    reading.put("reconnect", validator.reconnect);
    reading.put("timeout", if on_tcp { json!(validator.timeout.as_secs()) } else { Value::Null });
    reading.path("secret_key", validator.secret_key.as_ref().map(|path| path.value.as_path()));
    reading.put("max_height", validator.max_height.map(|height| height.to_string()));
    reading.put("protocol_version", words.map_or("auto", |(word, _)| word));
    let dialect = DIALECTS.iter().find(|(_, dialect)| *dialect == validator.dialect);
    reading.put("dialect", dialect.map_or("auto", |(word, _)| word));
    let domains: Vec<&str> = validator.allow_sign_bytes.iter().map(Domain::as_str).collect();
    reading.put("allow_sign_bytes", if domains.is_empty() { Value::Null } else { json!(domains) });
    reading.named(vec![format!("{} at {addr}", validator.chain), validator.chain.clone()])
}

fn of_yubihsm(device: &config::Yubihsm, source: &Source, table: &dyn TableLike) -> Vec<Section> {
    let mut reading = Reading::of(source, Some(table), "providers.yubihsm", device.place.line());
    match &device.adapter {
        Adapter::Usb { timeout } => reading
            .put("adapter.type", "usb")
            .put("adapter.timeout_ms", u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        Adapter::Http { host, port } => {
            reading.put("adapter.type", "http").put("adapter.addr", format!("tcp://{}:{port}", in_brackets(host)))
        }
    };
    reading.put("auth.key", device.auth.key).password("auth.password_file", "auth.password", &device.auth.password);
    reading.put("serial_number", device.serial_number.map(|number| format!("{number:010}")));
    match &device.connector_server {
        Some(server) => {
            let (host, port) = &server.laddr;
            reading.put("connector_server.laddr", format!("tcp://{}:{port}", in_brackets(host)));
            reading.put("connector_server.cli.auth_key", server.cli_auth_key)
        }
        None => reading.put("connector_server", Value::Null),
    };
    let mut out = vec![reading.named(vec!["the device".into()])];
    for (key, table) in device.keys.iter().zip(tables(table.get("keys"))) {
        let mut reading = Reading::of(source, Some(table), "providers.yubihsm.keys", key.place.line());
        reading.put_as("chains", &["chains", "chain_ids"], json!(key.chains));
        reading.put("key", key.key.value).put("type", key_type(key.key_type));
        out.push(reading.named(vec![key.chains.join(", "), format!("key {}", key.key.value)]));
    }
    out
}

fn of_pkcs11(token: &config::Pkcs11, source: &Source, table: &dyn TableLike) -> Vec<Section> {
    let mut reading = Reading::of(source, Some(table), "providers.pkcs11", token.place.line());
    reading.path("module", Some(&token.module.value));
    let which = match &token.token {
        Selector::Label(label) => ("token_label", json!(label)),
        Selector::Serial(serial) => ("serial", json!(serial)),
        Selector::Slot(slot) => ("slot", json!(slot)),
    };
    reading.put(which.0, which.1.clone());
    reading.password("pin_file", "pin", &token.pin);
    let module = token.module.display().to_string();
    let mut out = vec![reading.named(vec![format!("{} {} of {module}", which.0, which.1), module])];
    for (key, table) in token.keys.iter().zip(tables(table.get("keys"))) {
        let mut reading = Reading::of(source, Some(table), "providers.pkcs11.keys", key.place.line());
        reading.put_as("chains", &["chains", "chain_ids"], json!(key.chains));
        reading.put("label", key.wanted.label.clone()).put("id", key.wanted.id.as_ref().map(hex::encode));
        reading.put("type", key_type(key.key_type));
        out.push(reading.named(vec![key.chains.join(", "), key.wanted.to_string()]));
    }
    out
}

/// `[semel]`: what counts for the process that starts with these files. `ledger` with its origin, if it is not a file's.
pub(super) fn process(configs: &[Config], arguments: &SettingArgs, ledger: Option<(&PathBuf, Origin)>) -> Section {
    let settings = Settings::of(arguments, ledger.as_ref().map(|(path, _)| *path), configs);
    let in_file = |name: &str| {
        let mut set = configs.iter().filter_map(|config| config.semel.as_ref()).flat_map(|semel| &semel.set);
        let place = set.find(|(key, _)| *key == name).map(|(_, value)| &value.place);
        place.map_or(Origin::Default, |place| Origin::Line(place.path().to_owned(), place.line()))
    };
    let or_flag = |is_given: bool, flag: &'static str, name: &str| match is_given {
        true => Origin::Flag(flag),
        false => in_file(name),
    };
    let (durability, heights) = match settings.durability {
        Durability::Sync => ("sync", RESERVE_HEIGHTS_DEFAULT),
        Durability::Reserve { heights } => ("reserve", heights),
    };
    let heights = match settings.durability {
        Durability::Sync => Value::Null,
        Durability::Reserve { .. } => heights.into(),
    };
    let format = if settings.log_format == LogFormat::Json { "json" } else { "text" };
    let keys = [
        ("ledger", settings.ledger.display().to_string().into(), ledger.map_or_else(|| in_file("ledger"), |(_, o)| o)),
        ("durability", durability.into(), or_flag(arguments.durability.is_some(), "--durability", "durability")),
        (
            "reserve_heights",
            heights,
            or_flag(arguments.reserve_heights.is_some(), "--reserve-heights", "reserve_heights"),
        ),
        (
            "http_addr",
            settings.http.map(|addr| addr.to_string()).into(),
            or_flag(arguments.http.is_some(), "--http", "http_addr"),
        ),
        ("hold_new_keys", settings.hold_new_keys.into(), in_file("hold_new_keys")),
        (
            "allow_root",
            configs
                .iter()
                .any(|config| config.semel.as_ref().is_some_and(|semel| semel.allow_root == Some(true)))
                .into(),
            in_file("allow_root"),
        ),
        ("log_format", format.into(), or_flag(arguments.log_format.is_some(), "--log-format", "log_format")),
    ];
    let keys = keys.map(|(name, value, origin): (&'static str, Value, Origin)| {
        let meaning = value.to_string();
        Key { name, value, origin, meaning }
    });
    Section { table: "semel", origin: Origin::Default, keys: keys.to_vec(), names: vec!["the process".into()] }
}

/// The address in its longest spelling.
pub(in super::super) fn address(address: &Address) -> String {
    match address {
        Address::Tcp { peer_id, host, port } => {
            let id = peer_id.map(|id| format!("{}@", hex::encode(id))).unwrap_or_default();
            format!("tcp://{id}{}:{port}", in_brackets(host))
        }
        Address::Noise { peer, address } => format!("noise://{peer}@{address}"),
        Address::Unix(path) => format!("unix://{}", path.display()),
        Address::Abstract(name) => format!("unix://@{name}"),
    }
}

fn in_brackets(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn key_type(kind: KeyType) -> &'static str {
    match kind {
        KeyType::Consensus => "consensus",
        KeyType::Account => "account",
    }
}
