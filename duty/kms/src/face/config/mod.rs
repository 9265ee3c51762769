//! `tmkms.toml`: the schema of tmkms 0.6 to 0.15 and our optional keys, with every error found at once.
//!
//! [`check`] reads any number of files or directories of `*.toml`, each file a tenant; [`load`] is the same for a start. The
//! steps are: text to tables (`semel_ops::config`), tables to structs (`chain`, `validator`, `providers`, `settings`), references
//! inside a file (`links`), the files that are named (`files`), and what two tenants must not share (`tenants`). Each
//! finding has a code, see [`codes`]. Relative paths are relative to the current directory, as in tmkms.

mod address;
mod bytes;
mod chain;
pub mod codes;
pub mod display;
mod files;
mod links;
mod providers;
mod schema;
mod settings;
mod tenants;
#[cfg(test)]
mod tests;
mod validator;

pub use bytes::DIALECTS;
pub use files::Look;
pub use schema::{
    Adapter, Address, Auth, Chain, Config, ConnectorServer, Dialect, Durability, KeyFormat, KeyType, Password, Pkcs11,
    Pkcs11Key, ProtocolVersion, Semel, SigningKey, Softsign, SoftsignFormat, StateHook, Validator, Yubihsm, YubihsmKey,
};

use semel_ops::config::{Diagnostic, Diagnostics, Place, Reader, Severity, Source, parse, read};
use std::path::{Path, PathBuf};

/// Files that one process takes.
const FILES_MAX: usize = 1000;

/// What [`check`] found.
#[derive(Debug)]
pub struct Checked {
    /// The files that have no error of their own, in the order they were given.
    pub configs: Vec<Config>,
    /// Everything found in any file.
    pub found: Diagnostics,
}

/// Reads the files and directories for a start.
///
/// # Errors
/// Every finding, when one of them is an error. Without errors the warnings are in the [`Config`]s.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Config>, Diagnostics> {
    load_by(paths, Look::Everything)
}

/// Like [`load`], whatever the state files hold.
///
/// # Errors
/// As [`load`].
pub fn load_without_states(paths: &[PathBuf]) -> Result<Vec<Config>, Diagnostics> {
    load_by(paths, Look::Files)
}

fn load_by(paths: &[PathBuf], look: Look) -> Result<Vec<Config>, Diagnostics> {
    let checked = check(paths, look);
    if checked.found.has_errors() { Err(checked.found) } else { Ok(checked.configs) }
}

/// Reads the files and directories and finds everything that is wrong with them and with the files that they name.
pub fn check(paths: &[PathBuf], look: Look) -> Checked {
    let found = Diagnostics::new();
    let files = expand(paths, &found);
    let sources: Vec<Source> = files.iter().filter_map(|path| read(path, &found)).collect();
    examine(&sources, look, found)
}

/// The files that are meant: a directory stands for the `.toml` files in it.
pub(super) fn files_of(paths: &[PathBuf], found: &Diagnostics) -> Vec<PathBuf> {
    expand(paths, found)
}

/// The same for texts.
pub fn examine(sources: &[Source], look: Look, found: Diagnostics) -> Checked {
    let mut loose = files::Loose::default();
    let mut configs: Vec<Config> = sources.iter().map(|source| config(source, &mut loose, &found)).collect();
    let facts = match look {
        Look::Text => files::Facts::default(),
        _ => files::check(&configs, &loose, look, &found),
    };
    tenants::check(&configs, &facts, &found);
    let all = found.sorted();
    for config in &mut configs {
        let own = |item: &&Diagnostic| item.place.path() == config.path && item.severity == Severity::Warning;
        config.warnings = all.iter().filter(own).cloned().collect();
    }
    let broken = |config: &Config| all.iter().any(|d| d.severity == Severity::Error && d.place.path() == config.path);
    // With findings left out nobody knows whose they were.
    configs.retain(|config| !broken(config) && found.left_out() == 0);
    Checked { configs, found }
}

/// Directories become the `*.toml` files in them, sorted by name.
fn expand(paths: &[PathBuf], found: &Diagnostics) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(directory(path, found));
        } else {
            files.push(path.clone());
        }
    }
    let mut seen: Vec<PathBuf> = Vec::new();
    for file in files {
        if seen.contains(&file) {
            let message = format!("{} is given twice", file.display());
            found
                .push(Diagnostic::error(&codes::GIVEN_TWICE, &Place::file(&file), message).hint("give each file once"));
        } else {
            seen.push(file);
        }
    }
    if seen.len() > FILES_MAX {
        let message = format!("{} configuration files are too many for one process", seen.len());
        let place = paths.first().map_or_else(|| Place::file(Path::new("")), |path| Place::file(path));
        found.push(Diagnostic::error(&codes::NO_FILES, &place, message).hint(format!("at most {FILES_MAX} are taken")));
        seen.truncate(FILES_MAX);
    }
    seen
}

fn directory(path: &Path, found: &Diagnostics) -> Vec<PathBuf> {
    // A hidden one is an editor's: a lock, a copy of before.
    let is_hidden = |file: &Path| file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let is_toml = |file: &PathBuf| {
        file.extension().is_some_and(|extension| extension == "toml") && !is_hidden(file) && !file.is_dir()
    };
    let fail = |message: String, hint: &str| {
        found.push(Diagnostic::error(&codes::NO_FILES, &Place::file(path), message).hint(hint));
        Vec::new()
    };
    let entries = match std::fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => {
            return fail(
                format!("cannot list {}: {error}", path.display()),
                "let the user of this process read the directory",
            );
        }
    };
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_toml).collect();
    files.sort();
    if files.is_empty() {
        return fail(format!("no *.toml in {}", path.display()), "put the configuration files of the tenants here");
    }
    files
}

fn config(source: &Source, loose: &mut files::Loose, found: &Diagnostics) -> Config {
    let mut config = Config {
        path: source.path().to_owned(),
        chains: Vec::new(),
        validators: Vec::new(),
        softsign: Vec::new(),
        yubihsm: Vec::new(),
        pkcs11: Vec::new(),
        semel: None,
        warnings: Vec::new(),
    };
    let Some(document) = parse(source, found) else { return config };
    let mut root = Reader::root(&document, source, found).elsewhere(KEYS);
    root.required(&[("providers", "add [[providers.softsign]] with chain_ids and path, or another provider")]);
    let mut links = links::Links::new(found);
    let chains = root.tables("chain").into_iter();
    config.chains = chains.filter_map(|table| chain::read(table, &mut links, loose)).collect();
    let validators: Vec<_> = root.tables("validator").into_iter().map(validator::read).collect();
    let mut providers = root.table("providers").map_or_else(providers::RawProviders::unknown, providers::read);
    loose.passwords.append(&mut providers.passwords);
    loose.pins.append(&mut providers.pins);
    config.semel = root.table("semel").map(settings::read);
    root.finish();
    links.resolve(&mut config, validators, providers, loose);
    config
}

/// Which table each key belongs to, for hints about keys in the wrong one.
const KEYS: &[(&str, &str)] = &[
    ("id", "[[chain]]"),
    ("name", "[[chain]]"),
    ("sign_extensions", "[[chain]]"),
    ("state_file", "[[chain]]"),
    ("state_hook", "[[chain]]"),
    ("require_state", "[[chain]]"),
    ("addr", "[[validator]]"),
    ("chain_id", "[[validator]]"),
    ("reconnect", "[[validator]]"),
    ("timeout", "[[validator]]"),
    ("secret_key", "[[validator]]"),
    ("max_height", "[[validator]]"),
    ("protocol_version", "[[validator]]"),
    ("dialect", "[[validator]]"),
    ("allow_sign_bytes", "[[validator]]"),
    ("key_type", "[[providers.softsign]]"),
    ("path", "[[providers.softsign]]"),
    ("adapter", "[[providers.yubihsm]]"),
    ("auth", "[[providers.yubihsm]]"),
    ("keys", "[[providers.yubihsm]]"),
    ("serial_number", "[[providers.yubihsm]]"),
    ("connector_server", "[[providers.yubihsm]]"),
    ("softsign", "[providers]"),
    ("yubihsm", "[providers]"),
    ("pkcs11", "[providers]"),
    ("durability", "[semel]"),
    ("reserve_heights", "[semel]"),
    ("hold_new_keys", "[semel]"),
    ("ledger", "[semel]"),
    ("http_addr", "[semel]"),
    ("metrics_addr", "[semel]"),
    ("log_format", "[semel]"),
    ("allow_root", "[semel]"),
];
