//! `yubihsm keys`: the keys of a device, made, listed, backed up and brought in.

use super::super::args::KeyKind;
use super::super::keyring::hsm_report;
use super::super::{config, key_report, said};
use super::{Generate, Import, ImportKind, Keys, device, number, serial, session};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semel_guard::{Algorithm, PublicKey};
use semel_keys::softsign::{self, Form};
use semel_keys::yubihsm::{Capability, Client, Domain, HsmError, HsmErrorKind, Place, asymmetric, object, wrap};
use semel_keys::{encoding, write_new};
use semel_ops::clock::{rfc_3339, seconds};
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use std::path::Path;

/// The wrap key, unless told otherwise.
const WRAP_KEY_DEFAULT: u16 = 1;

/// Longest label, in bytes.
const LABEL_MAX: usize = 40;

/// Longest backup that is read, in bytes.
const BACKUP_MAX: u64 = 16 * 1024;

/// Name of a node's key file.
const NODE_KEY: &str = "priv_validator_key.json";

pub(super) fn run(command: &Keys, shell: &Shell) -> Result<(), Report> {
    match command {
        Keys::Generate(generate) => make(generate, shell),
        Keys::List { configs, json } => {
            let (configs, place) = device(configs)?;
            list(&configs, &place, *json, shell)
        }
        Keys::Export { configs, id, wrapkey, dry_run, path } => {
            let (id, wrap_key) = (number(id)?, number(wrapkey)?);
            let (_, place) = device(configs)?;
            if *dry_run {
                shell.status(
                    "Would export",
                    format!("key {id:#06x} (encrypted under wrap key {wrap_key:#06x}) to {}", path.display()),
                );
                return Ok(());
            }
            let client = session(&place)?;
            demand(&client, &place, id, object::Type::AsymmetricKey)?;
            demand(&client, &place, wrap_key, object::Type::WrapKey)?;
            back_up(&client, &place, id, wrap_key, path)?;
            shell.status(
                "Exported",
                format!("key {id:#06x} (encrypted under wrap key {wrap_key:#06x}) to {}", path.display()),
            );
            Ok(())
        }
        Keys::Import(import) => bring_in(import, shell),
    }
}

fn algorithm(kind: KeyKind) -> (asymmetric::Algorithm, Capability, &'static str) {
    match kind {
        KeyKind::Consensus => (asymmetric::Algorithm::Ed25519, Capability::SIGN_EDDSA, "consensus"),
        KeyKind::Account => (asymmetric::Algorithm::EcK256, Capability::SIGN_ECDSA, "account"),
    }
}

/// A label, which a device takes up to [`LABEL_MAX`] bytes.
fn label(given: Option<&str>, default: &str) -> Result<object::Label, Report> {
    let text = given.map_or_else(|| format!("{default}:{}", rfc_3339(seconds())), str::to_owned);
    let bytes = text.as_bytes();
    // The time of a default label may be cut; a label that somebody chose may not.
    let cut = bytes.get(..LABEL_MAX).filter(|_| given.is_none()).unwrap_or(bytes);
    object::Label::from_bytes(cut)
        .map_err(|_| Report::new(format!("a label of {} bytes: a device takes {LABEL_MAX}", bytes.len())))
}

fn make(command: &Generate, shell: &Shell) -> Result<(), Report> {
    let [id] = command.key_ids.as_slice() else {
        return Err(Report::new("expected exactly 1 key ID to generate"));
    };
    let id = number(id)?;
    let wrap_key = command.wrapkey.as_deref().map_or(Ok(WRAP_KEY_DEFAULT), number)?;
    let (algorithm, capability, name) = algorithm(command.kind);
    let label = label(command.label.as_deref(), command.prefix.as_deref().unwrap_or(name))?;
    let mut capabilities = capability;
    if !command.non_exportable {
        capabilities |= Capability::EXPORTABLE_UNDER_WRAP;
    }
    if let Some(path) = command.backup.as_deref().filter(|path| path.exists()) {
        return Err(Report::new(format!("{}: the file exists, and a backup is never written over", path.display())));
    }
    if let Some(path) = &command.backup {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !directory.is_dir() {
            return Err(Report::new(format!("{}: there is no such directory for the backup", directory.display())));
        }
        if command.non_exportable {
            return Err(Report::new("a key that can never leave the device has no backup")
                .hint("take --backup or --non-exportable away"));
        }
    }
    let (_, place) = device(&command.configs)?;
    if command.dry_run {
        shell.status("Would generate", format!("{name} key {id:#06x} in the YubiHSM at {}", place.adapter));
        return Ok(());
    }
    let client = session(&place)?;
    let failed = |error: &_| hsm_report(&place.failed(error));
    is_free(&client, &place, id)?;
    if command.backup.is_some() {
        demand(&client, &place, wrap_key, object::Type::WrapKey)?;
    }
    client.generate_asymmetric_key(id, label, Domain::DOM1, capabilities, algorithm).map_err(|error| failed(&error))?;
    match command.kind {
        KeyKind::Account => shell.status("Generated", format!("account (secp256k1) key {id:#06x}")),
        KeyKind::Consensus => {
            let key = public_key(&client, &place, id)?;
            let shown = match &command.prefix {
                Some(prefix) => encoding::bech32(prefix, &encoding::amino(&key))
                    .ok_or_else(|| Report::new(format!("`{}` is no bech32 prefix", prefix.escape_debug())))?,
                None => hex::encode_upper(key.as_bytes()),
            };
            shell.status("Generated", format!("consensus (ed25519) key {id:#06x}: {shown}"));
        }
    }
    if let Some(path) = &command.backup {
        back_up(&client, &place, id, wrap_key, path).map_err(|error| {
            let report = Report::new(format!("key {id:#06x} is in the device, and has no backup")).cause(&error);
            report.hint(format!("mend that, then: yubihsm keys export --id {id} --wrapkey {wrap_key} FILE"))
        })?;
        shell.status(
            "Wrote",
            format!("backup of key {id:#06x} (encrypted under wrap key {wrap_key:#06x}) to {}", path.display()),
        );
    }
    Ok(())
}

/// A key is never written over.
fn is_free(client: &Client, place: &Place, id: u16) -> Result<(), Report> {
    match is_there(client, place, id, object::Type::AsymmetricKey)? {
        true => Err(hsm_report(&HsmError { place: place.adapter.to_string(), kind: HsmErrorKind::Exists(id) })),
        false => Ok(()),
    }
}

/// A key or wrap key that a command needs. Devices say no more than that the command is wrong when it is missing.
fn demand(client: &Client, place: &Place, id: u16, kind: object::Type) -> Result<(), Report> {
    let missing = match kind {
        object::Type::WrapKey => HsmErrorKind::NoWrapKey(id),
        _ => HsmErrorKind::NoKey(id),
    };
    match is_there(client, place, id, kind)? {
        true => Ok(()),
        false => Err(hsm_report(&HsmError { place: place.adapter.to_string(), kind: missing })),
    }
}

fn is_there(client: &Client, place: &Place, id: u16, kind: object::Type) -> Result<bool, Report> {
    use semel_keys::yubihsm::DeviceErrorKind as Device;
    match client.get_object_info(id, kind) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.device_error(), Some(Device::ObjectNotFound | Device::InvalidId)) => Ok(false),
        Err(error) => Err(hsm_report(&place.failed(&error))),
    }
}

/// The public half of a key.
fn public_key(client: &Client, place: &Place, id: u16) -> Result<PublicKey, Report> {
    let key = client.get_public_key(id).map_err(|error| hsm_report(&place.failed(&error)))?;
    let made = match key.algorithm {
        asymmetric::Algorithm::Ed25519 => PublicKey::new(Algorithm::Ed25519, &key.bytes),
        // Both coordinates come; the first and the sign of the second are the compressed form.
        asymmetric::Algorithm::EcK256 => {
            let sign = 2 + (key.bytes.last().copied().unwrap_or_default() & 1);
            let first = key.bytes.get(..32).unwrap_or_default();
            PublicKey::new(Algorithm::Secp256k1, &[&[sign], first].concat())
        }
        other => return Err(Report::new(format!("key {id:#06x} is for {other:?}, which signs for no chain here"))),
    };
    made.map_err(|error| Report::of(&error))
}

fn list(configs: &[config::Config], place: &Place, json: bool, shell: &Shell) -> Result<(), Report> {
    let client = session(place)?;
    let failed = |error: &_| hsm_report(&place.failed(error));
    let serial = serial(&client, place)?;
    let filter = [object::Filter::Type(object::Type::AsymmetricKey)];
    let mut keys = client.list_objects(&filter).map_err(|error| failed(&error))?;
    keys.sort_by_key(|key| key.object_id);
    if keys.is_empty() && !json {
        // An error in words only: scripts that came with tmkms expect exit code 0.
        shell.error("no keys in this YubiHSM");
        return Ok(());
    }
    let mut found = Vec::new();
    for key in keys {
        let id = key.object_id;
        let info = client.get_object_info(id, object::Type::AsymmetricKey).map_err(|error| failed(&error))?;
        let kept = public_key(&client, place, id);
        let (kind, text) = match &kept {
            Ok(key) if key.algorithm() == Algorithm::Ed25519 => ("cons", shown(configs, id, key)),
            Ok(key) => ("acct", shown(configs, id, key)),
            Err(_) => ("????", format!("{:?}", info.algorithm)),
        };
        found.push((id, kind, text, info.label.to_string()));
    }
    if json {
        let keys: Vec<_> = found
            .iter()
            .map(|(id, kind, key, label)| serde_json::json!({ "id": id, "type": kind, "key": key, "label": label }))
            .collect();
        return said(shell.json(&serde_json::json!({ "schema": 1, "serial": serial, "keys": keys })));
    }
    said(shell.line(format!("Listing keys in YubiHSM #{serial}:")))?;
    for (id, kind, key, label) in found {
        said(shell.line(format!("- {id:#06x}: [{kind}] {key}")))?;
        said(shell.line(format!("     label: \"{}\"", label.escape_debug())))?;
    }
    Ok(())
}

/// A key in the format of its chain where it has exactly one, else in hexadecimal digits.
fn shown(configs: &[config::Config], id: u16, key: &PublicKey) -> String {
    let mut formats = configs.iter().flat_map(|config| {
        let entries = config.yubihsm.iter().flat_map(|device| &device.keys).filter(move |entry| entry.key.value == id);
        let chains = entries.flat_map(|entry| &entry.chains);
        chains.filter_map(|name| config.chains.iter().find(|chain| chain.name == *name)).map(|chain| &chain.key_format)
    });
    match (formats.next(), formats.next()) {
        (Some(format), None) => config::display::public_key(format, key),
        _ => hex::encode_upper(key.as_bytes()),
    }
}

/// Writes a key, encrypted under a wrap key, into a new file.
fn back_up(client: &Client, place: &Place, id: u16, wrap_key: u16, path: &Path) -> Result<(), Report> {
    let wrapped = client.export_wrapped(wrap_key, object::Type::AsymmetricKey, id);
    let wrapped = wrapped.map_err(|error| hsm_report(&place.failed(&error)))?;
    let text = BASE64.encode(wrapped.into_vec());
    write_new(path, text.as_bytes(), None).map(drop).map_err(|error| key_report(&error))
}

fn bring_in(command: &Import, shell: &Shell) -> Result<(), Report> {
    let is_nodes = command.path.file_name().is_some_and(|name| name == NODE_KEY);
    let kind = command.kind.unwrap_or(if is_nodes { ImportKind::Json } else { ImportKind::Wrap });
    let id = command.id.as_deref().map(number).transpose()?;
    let wrap_key = command.wrapkey.as_deref().map(number).transpose()?;
    let needed = || Report::new("no key ID given").hint("name the number for the key with --id");
    let (_, place) = device(&command.configs)?;
    let failed = |error: &_| hsm_report(&place.failed(error));
    if kind == ImportKind::Wrap {
        if command.label.is_some() {
            shell.warning("--label does not apply to a backup, which has its own");
        }
        let wrap_key = wrap_key.unwrap_or(WRAP_KEY_DEFAULT);
        let message = backup(&command.path)?;
        if command.dry_run {
            shell.status(
                "Would import",
                format!("{} (encrypted under wrap key {wrap_key:#06x})", command.path.display()),
            );
            return Ok(());
        }
        let client = session(&place)?;
        demand(&client, &place, wrap_key, object::Type::WrapKey)?;
        let handle = client.import_wrapped(wrap_key, message).map_err(|error| failed(&error))?;
        let key = public_key(&client, &place, handle.object_id)?;
        shell.status("Imported", format!("key {:#06x}: {}", handle.object_id, hex::encode_upper(key.as_bytes())));
        if let Some(id) = id.filter(|id| *id != handle.object_id) {
            shell.warning(format!("a backup keeps its number: the key is {:#06x}, not {id:#06x}", handle.object_id));
        }
        return Ok(());
    }
    let id = id.ok_or_else(needed)?;
    if wrap_key.is_some() {
        shell.warning("--wrapkey does not apply to a key that is not encrypted");
    }
    let form = if kind == ImportKind::Json { Form::Json } else { Form::Base64 };
    let (public, secret) = softsign::secret_of(&command.path, form).map_err(|error| key_report(&error))?;
    let kind = match public.algorithm() {
        Algorithm::Ed25519 => KeyKind::Consensus,
        _ => KeyKind::Account,
    };
    let (algorithm, capability, name) = algorithm(kind);
    let label = label(command.label.as_deref(), name)?;
    if command.dry_run {
        shell.status("Would import", format!("{name} key {} as {id:#06x}", hex::encode_upper(public.as_bytes())));
        return Ok(());
    }
    let client = session(&place)?;
    is_free(&client, &place, id)?;
    let capabilities = capability | Capability::EXPORTABLE_UNDER_WRAP;
    let put = client.put_asymmetric_key(id, label, Domain::DOM1, capabilities, algorithm, secret.as_slice());
    put.map_err(|error| failed(&error))?;
    // What the device made of it is what counts.
    if public_key(&client, &place, id)? != public {
        return Err(Report::new(format!("key {id:#06x} in the device is another one than in the file")));
    }
    shell.status("Imported", format!("key {id:#06x}"));
    Ok(())
}

/// An encrypted key, as `keys export` writes it.
fn backup(path: &Path) -> Result<wrap::Message, Report> {
    use std::io::Read;
    let named = |what: &str| Report::new(format!("{}: {what}", path.display()));
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(BACKUP_MAX).read_to_string(&mut text));
    read.map_err(|error| named("cannot be read").cause(&error))?;
    let hint = "name a file of `yubihsm keys export`, or say --type base64 or json";
    let bytes = BASE64.decode(text.trim()).map_err(|_| named("no backup of a YubiHSM: not base64").hint(hint))?;
    wrap::Message::from_vec(bytes).map_err(|_| named("no backup of a YubiHSM: too short").hint(hint))
}
