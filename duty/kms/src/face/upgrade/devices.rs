//! Keys in devices: each device has its own keys, the old and the new configuration mean the same one, and the old state is its
//! state. Keys in files are looked at with the configurations.

use super::plan::{Checks, NewFile, State, Verdict, read};
use crate::face::config::{self, Config, Pkcs11, Pkcs11Key, Yubihsm, YubihsmKey};
use crate::face::keyring::{algorithm, kind, place, token_place};
use semel_guard::PublicKey;
use semel_keys::pkcs11::{TokenErrorKind, Tokens};
use semel_keys::yubihsm::{self, HsmError, Looked};
use semel_ledger::interchange::StateFile;
use semel_ops::config::{Diagnostics, Source};
use std::path::Path;

/// What says how a check came out.
const CODE: &str = "UPGRADE-0013";

/// A key that could not be asked for: how bad that is, why, and what mends it.
type Trouble = (Verdict, String, String);

/// A key of a device, and where it is, in words.
struct Found {
    public: PublicKey,
    words: String,
}

/// The devices that were asked so far. A device is opened once, and a PIN is tried once.
#[derive(Default)]
struct Devices {
    yubihsms: Vec<(yubihsm::Place, Option<u32>, Result<Looked, HsmError>)>,
    tokens: Tokens,
}

impl Devices {
    fn yubihsm(&mut self, device: &Yubihsm, key: &YubihsmKey) -> Result<Found, Trouble> {
        let place = place(device).map_err(|error| {
            (Verdict::Fail, error.to_string(), "let this user read the password, or run this as root".to_owned())
        })?;
        let serial = device.serial_number;
        if !self.yubihsms.iter().any(|(known, number, _)| (known, *number) == (&place, serial)) {
            let opened = Looked::open(&place, serial);
            self.yubihsms.push((place.clone(), serial, opened));
        }
        let trouble = |error: &HsmError| {
            // A device that is away for a while stops no plan.
            let verdict = if error.kind.is_passing() { Verdict::Warn } else { Verdict::Fail };
            (verdict, error.to_string(), error.hint().to_owned())
        };
        let known = self.yubihsms.iter().find(|(known, number, _)| (known, *number) == (&place, serial));
        let Some((_, _, opened)) = known else { return Err((Verdict::Fail, place.adapter.to_string(), String::new())) };
        let looked = opened.as_ref().map_err(trouble)?;
        let id = key.key.value;
        let public = looked.key(id, kind(key.key_type)).map_err(|error| trouble(&error))?;
        Ok(Found { public, words: format!("key {id:#06x} is in the YubiHSM at {}", place.adapter) })
    }

    fn token(&mut self, token: &Pkcs11, key: &Pkcs11Key) -> Result<Found, Trouble> {
        let place = token_place(token).map_err(|report| {
            (Verdict::Fail, report.to_string(), "let this user read the PIN, or run this as root".to_owned())
        })?;
        let found = self.tokens.key(&place, &key.wanted, algorithm(key.key_type)).map_err(|error| {
            let is_away = matches!(error.kind, TokenErrorKind::NoToken | TokenErrorKind::Token(_));
            (if is_away { Verdict::Warn } else { Verdict::Fail }, error.to_string(), error.hint().to_owned())
        })?;
        let public = semel_guard::Signer::public_key(&found).clone();
        Ok(Found { public, words: format!("{} is in {place}", key.wanted) })
    }

    /// The keys of a configuration in the order of their tables, with the chains that each of them signs for.
    fn keys<'a>(&mut self, config: &'a Config) -> Vec<(&'a [String], Result<Found, Trouble>)> {
        let mut found = Vec::new();
        for device in &config.yubihsm {
            found.extend(device.keys.iter().map(|key| (key.chains.as_slice(), self.yubihsm(device, key))));
        }
        for token in &config.pkcs11 {
            found.extend(token.keys.iter().map(|key| (key.chains.as_slice(), self.token(token, key))));
        }
        found
    }
}

/// Asks every device for its keys.
pub(super) fn examine(checks: &mut Checks, files: &[NewFile], states: &[State], new: &[Config]) {
    let mut devices = Devices::default();
    for file in files {
        let Some(new) = new.iter().find(|config| config.path == file.new) else { continue };
        if new.yubihsm.is_empty() && new.pkcs11.is_empty() {
            continue;
        }
        let text = read(&file.old).unwrap_or_default();
        let old = [Source::new(file.old.display().to_string(), &text)];
        let old = config::examine(&old, config::Look::Text, Diagnostics::new());
        let before = old.configs.first().map_or_else(Vec::new, |old| devices.keys(old));
        for (at, (chains, after)) in devices.keys(new).into_iter().enumerate() {
            let found = match after {
                Ok(found) => found,
                Err((verdict, what, fix)) => {
                    checks.add_once(CODE, verdict, what, fix);
                    continue;
                }
            };
            let was = before.get(at).and_then(|(_, found)| found.as_ref().ok()).map(|found| &found.public);
            if was != Some(&found.public) {
                let what = format!("{}, and is not the key of {}", found.words, file.old.display());
                checks.add(CODE, Verdict::Fail, what, "both chains use one key: compare the tables of its provider");
                continue;
            }
            match other_owner(new, chains, states, &file.old, &found.public) {
                Some(what) => checks.add(
                    CODE,
                    Verdict::Fail,
                    format!("{}: {what}", found.words),
                    "it is another device, or another key of this one: correct the provider's table",
                ),
                None => {
                    let what = format!("{}, the same for both chains: {}", found.words, found.public);
                    checks.add_once(CODE, Verdict::Pass, what, "");
                }
            }
        }
    }
}

/// Whose state a chain of this key has, where the state says so and it is not the key's.
fn other_owner(new: &Config, chains: &[String], states: &[State], old: &Path, key: &PublicKey) -> Option<String> {
    let mine = new.chains.iter().filter(|chain| chains.contains(&chain.name));
    let mut states =
        mine.flat_map(|chain| states.iter().filter(|state| state.config == old && state.new == chain.state_file.value));
    states.find_map(|state| {
        let text = read(&state.old).ok()?;
        let owner = StateFile::parse(text.as_bytes()).ok()?.pub_key?;
        (!owner.eq_ignore_ascii_case(&key.to_string()))
            .then(|| format!("{key}, and {} is the state of {owner}", state.old.display()))
    })
}
