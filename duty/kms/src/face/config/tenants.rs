//! What two tenants of one process must not share: a state file, or a key for one chain id. And what they must share: the
//! settings of the process.
//!
//! Paths are compared as the system sees them (absolute, links followed as far as they exist). Keys are one key when they
//! are one file, or one number in one device, or when their public keys are known and equal.

use super::codes;
use super::files::Facts;
use super::schema::{Adapter, Chain, Config, SigningKey};
use semel_guard::PublicKey;
use semel_ops::config::{Diagnostic, Diagnostics, Place};
use std::path::{Component, Path, PathBuf};

pub(super) fn check(configs: &[Config], facts: &Facts, found: &Diagnostics) {
    state_files(configs, found);
    keys(configs, facts, found);
    settings(configs, found);
}

fn state_files(configs: &[Config], found: &Diagnostics) {
    let mut seen: Vec<(PathBuf, &Chain)> = Vec::new();
    for chain in configs.iter().flat_map(|config| &config.chains) {
        let path = absolute(&chain.state_file.value);
        match seen.iter().find(|(other, _)| *other == path) {
            Some((_, first)) => {
                let message = format!("the state file {} is used twice", chain.state_file.display());
                let error = Diagnostic::error(&codes::STATE_TWICE, &chain.state_file.place, message);
                let error = error.related(&first.state_file.place, format!("it belongs to the chain `{}`", first.name));
                let stem = chain.state_file.with_extension("");
                found.push(error.hint(format!("state_file = \"{}-2.json\"", stem.display())));
            }
            None => seen.push((path, chain)),
        }
    }
}

/// One way to say which key it is.
#[derive(PartialEq, Eq)]
enum Identity {
    File(PathBuf),
    Device(String),
    Public(PublicKey),
}

fn keys(configs: &[Config], facts: &Facts, found: &Diagnostics) {
    let mut seen: Vec<(&str, Vec<Identity>, &Place)> = Vec::new();
    for config in configs {
        for chain in &config.chains {
            let Some(key) = config.signing_key(&chain.name) else { continue };
            let identities = identities(key, facts);
            let id = chain.id.value.as_str();
            let same = |other: &[Identity]| other.iter().any(|one| identities.contains(one));
            match seen.iter().find(|(other, others, _)| *other == id && same(others)) {
                Some((_, _, first)) => {
                    let message = format!("this key already signs for the chain id `{id}`");
                    let error = Diagnostic::error(&codes::KEY_TWICE, key.place(), message).related(first, "here");
                    let hint = "give each tenant its own key; several nodes of one validator are several [[validator]] of one [[chain]]";
                    found.push(error.hint(hint));
                }
                None => seen.push((id, identities, key.place())),
            }
        }
    }
}

fn identities(key: SigningKey<'_>, facts: &Facts) -> Vec<Identity> {
    match key {
        SigningKey::Softsign(softsign) => {
            let path = &softsign.path.value;
            let public =
                facts.public_keys.iter().filter(|(of, _)| of == path).map(|(_, key)| Identity::Public(key.clone()));
            public.chain([Identity::File(absolute(path))]).collect()
        }
        SigningKey::Yubihsm(device, key) => {
            let which = match &device.adapter {
                Adapter::Usb { .. } => format!("usb {:?}", device.serial_number),
                Adapter::Http { host, port } => format!("{host}:{port}"),
            };
            vec![Identity::Device(format!("{which} key {}", key.key.value))]
        }
        SigningKey::Pkcs11(token, key) => {
            vec![Identity::Device(format!("{:?} of {} {}", token.token, token.module.value.display(), key.wanted))]
        }
    }
}

fn settings(configs: &[Config], found: &Diagnostics) {
    let mut seen: Vec<(&str, &semel_ops::config::Spanned<String>)> = Vec::new();
    for (name, value) in configs.iter().filter_map(|config| config.semel.as_ref()).flat_map(|semel| &semel.set) {
        match seen.iter().find(|(other, _)| other == name) {
            Some((_, first)) if first.value != value.value => {
                let message = format!("`{name}` is {} here and {} in another file", value.value, first.value);
                let error = Diagnostic::error(&codes::DISAGREE, &value.place, message);
                let error = error.related(&first.place, "the other file says this");
                found.push(error.hint("one process has one: state it in one file"));
            }
            Some(_) => {}
            None => seen.push((name, value)),
        }
    }
}

/// The path as the system sees it. What does not exist is joined to the part that does.
fn absolute(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut existing = full.as_path();
    let mut rest: Vec<Component<'_>> = Vec::new();
    loop {
        if let Ok(real) = existing.canonicalize() {
            return rest.into_iter().rev().fold(real, |path, part| match part {
                Component::ParentDir => path.parent().map(Path::to_owned).unwrap_or(path),
                part => path.join(part),
            });
        }
        match (existing.components().next_back(), existing.parent()) {
            (Some(last), Some(parent)) => {
                rest.push(last);
                existing = parent;
            }
            _ => return full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_under_several_names_is_one_path() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, directory.path().join("link")).unwrap();
        let expected = real.canonicalize().unwrap().join("state.json");
        for name in ["real/state.json", "link/state.json", "real/./state.json", "link/gone/../state.json"] {
            assert_eq!(absolute(&directory.path().join(name)), expected, "{name}");
        }
    }
}
