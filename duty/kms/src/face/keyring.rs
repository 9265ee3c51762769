//! The keys of a process: from what a configuration says of them to what signs.

use super::config::{self, Adapter, Password, SigningKey};
use super::key_report;
use semel_guard::{Algorithm, Key};
use semel_keys::pkcs11::{self, Tokens};
use semel_keys::softsign;
use semel_keys::yubihsm::{self, HsmError, KeyKind, YubiHsms};
use semel_ops::error::{Exit, Report};
use zeroize::Zeroizing;

/// The devices that are open. Kept for the life of a process, so that a reload goes on with their sessions.
#[derive(Default)]
pub struct Keyring {
    yubihsms: YubiHsms,
    tokens: Tokens,
}

impl Keyring {
    /// The key that signs for a chain.
    pub(super) fn key(&mut self, config: &config::Config, chain: &config::Chain) -> Result<Key, Report> {
        let no_key = || {
            Report::new(format!("no key for chain {}", chain.id.value))
                .hint("add a [[providers.softsign]] or [[providers.yubihsm]] for it")
        };
        match config.signing_key(&chain.name).ok_or_else(no_key)? {
            SigningKey::Softsign(soft) => {
                let path = &soft.path.value;
                let loaded = softsign::load(path, soft.key_format, soft.key_type);
                let (key, detected) = loaded.map_err(|error| key_report(&error))?;
                tracing::debug!("{}: {detected}", path.display());
                Ok(Key::new(Box::new(key)))
            }
            SigningKey::Yubihsm(device, key) => {
                let place = place(device).map_err(|error| hsm_report(&error))?;
                let key = self.yubihsms.key(&place, key.key.value, kind(key.key_type), device.serial_number);
                Ok(Key::new(Box::new(key.map_err(|error| hsm_report(&error))?)))
            }
            SigningKey::Pkcs11(token, key) => {
                let place = token_place(token)?;
                let key = self.tokens.key(&place, &key.wanted, algorithm(key.key_type));
                let key = key.map_err(|error| token_report(&error))?;
                Ok(Key::new(Box::new(key)))
            }
        }
    }
}

/// What a key in a YubiHSM is configured to be.
pub(super) fn kind(key_type: config::KeyType) -> KeyKind {
    match key_type {
        config::KeyType::Consensus => KeyKind::Consensus,
        config::KeyType::Account => KeyKind::Account,
    }
}

/// How the configuration says that a device is reached.
pub(super) fn place(device: &config::Yubihsm) -> Result<yubihsm::Place, HsmError> {
    let adapter = match &device.adapter {
        Adapter::Http { host, port } => yubihsm::Adapter::Http { host: host.clone(), port: *port },
        Adapter::Usb { timeout } => yubihsm::Adapter::Usb {
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            serial: device.serial_number,
        },
    };
    let password = match &device.auth.password {
        Password::File(path) => yubihsm::Password::read(&adapter, &path.value)?,
        Password::Text(text) => yubihsm::Password::new(text.expose()),
    };
    Ok(yubihsm::Place { adapter, auth_key: device.auth.key, password })
}

/// What a key in a token is configured to be.
pub(super) fn algorithm(key_type: config::KeyType) -> Algorithm {
    match key_type {
        config::KeyType::Consensus => Algorithm::Ed25519,
        config::KeyType::Account => Algorithm::Secp256k1,
    }
}

/// How the configuration says that a token is reached.
pub(super) fn token_place(token: &config::Pkcs11) -> Result<pkcs11::Place, Report> {
    let pin = match &token.pin {
        Password::Text(text) => Zeroizing::new(text.expose().to_owned()),
        Password::File(path) => {
            let read = std::fs::read_to_string(&path.value).map(Zeroizing::new);
            let read = read.map_err(|error| {
                Report::new(format!("{}: the PIN cannot be read", path.value.display())).cause(&error)
            });
            Zeroizing::new(read?.trim_end().to_owned())
        }
    };
    Ok(pkcs11::Place { module: token.module.value.clone(), token: token.token.clone(), pin })
}

/// A token's error, for the person at the terminal.
fn token_report(error: &pkcs11::TokenError) -> Report {
    let report = Report::of(error).code_id(error.code()).hint(error.hint());
    match error.kind {
        pkcs11::TokenErrorKind::Pin | pkcs11::TokenErrorKind::Locked => report.exit(Exit::Credential),
        _ => report,
    }
}

/// A device's error, for the person at the terminal.
pub(super) fn hsm_report(error: &HsmError) -> Report {
    let report = Report::of(error).code_id(error.code()).hint(error.hint());
    match error.kind {
        yubihsm::HsmErrorKind::Replaced(_) | yubihsm::HsmErrorKind::Serial { .. } => report.exit(Exit::Unsafe),
        yubihsm::HsmErrorKind::Authentication(_) => report.exit(Exit::Credential),
        _ => report,
    }
}
