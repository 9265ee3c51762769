//! Keys, eras and protocol configurations: commands that need no database.

use super::args::{Era, MithrilEra, ProtocolConfiguration, Registry, SecretText};
use super::command::failed;
use super::settings::Base;
use crate::core::protocol_configuration::{
    ANNOUNCED_BYTES_MAX, Configuration, ConfigurationError, check, configurations_of_datum, defaults, with_message,
};
use crate::core::{era, markers};
use crate::host::chain::Observer;
use crate::host::commands;
use crate::host::keys::{self, KeysError};
use mithril_common::crypto_helper::ed25519::Ed25519VerificationKey;
use mithril_common::entities::{Epoch, SupportedEra};
use semel_guard::{Benign, Key};
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Longest file that somebody edited, in bytes.
const EDITED_BYTES_MAX: u64 = 1024 * 1024;
/// Longest genesis payload, in bytes: 64 and white space.
const PAYLOAD_BYTES_MAX: u64 = 80;

/// Refuses the era that needs proofs.
pub(super) fn only_pythagoras(era: MithrilEra) -> Result<(), Report> {
    match era.era() {
        SupportedEra::Pythagoras => Ok(()),
        other => Err(Report::new(format!("the era {other} needs proofs that this program does not make"))
            .code_id("AGG-0006")
            .hint("leave --mithril-era away, or say pythagoras")),
    }
}

/// A secret key of the command line or the environment.
pub(super) fn secret_key(text: &SecretText) -> Result<Key, Report> {
    keys::secret_key(text.expose()).map_err(|error| key_report(&error))
}

fn key_report(error: &KeysError) -> Report {
    match error {
        KeysError::File(file) => Report::of(file).code_id(file.code()).hint(match file.kind {
            semel_keys::KeyErrorKind::Exists => "a key is never written over: name another directory",
            _ => "check the path, and that this user owns the file",
        }),
        other => Report::of(other).code_id("AGG-0003").hint("the whole content of the .sk file"),
    }
}

/// Makes a key pair.
pub(super) fn generate_keypair(directory: &Path, name: &str, shell: &Shell) -> Result<(), Report> {
    if !directory.is_dir() {
        return Err(unwritable(directory, &io::Error::new(io::ErrorKind::NotFound, "there is no such directory")));
    }
    let public = keys::generate(directory, name).map_err(|error| key_report(&error))?;
    shell.status("Generated", format!("{} and {name}.vk", directory.join(format!("{name}.sk")).display()));
    shell.status("Public", hex::encode(public.as_bytes()));
    Ok(())
}

/// Signs an exported genesis payload.
pub(super) fn sign_genesis(payload: &Path, target: &Path, key: &Path, shell: &Shell) -> Result<(), Report> {
    let text = read(payload, PAYLOAD_BYTES_MAX)?;
    let mut hash = [0; 32];
    let trimmed = text.trim();
    let is_small = !trimmed.bytes().any(|byte| byte.is_ascii_uppercase());
    if !is_small || hex::decode_to_slice(trimmed, &mut hash).is_err() {
        return Err(Report::new(format!("{} is no genesis payload", payload.display()))
            .code_id("AGG-0004")
            .hint("`genesis export` writes 64 hex characters"));
    }
    let key = keys::load(key).map_err(|error| key_report(&error))?;
    let signature = keys::sign(&key, &Benign::GenesisMessage(&hash)).map_err(|error| key_report(&error))?;
    write(target, &signature.to_bytes())?;
    shell.status("Signed", target.display());
    Ok(())
}

/// `era`
pub(super) fn era(verb: Era, shell: &Shell) -> Result<(), Report> {
    match verb {
        Era::List { json: true } => said(shell.json(&SupportedEra::eras())),
        Era::List { json: false } => said(shell.line(format!("Supported Eras:\n{:#?}", SupportedEra::eras()))),
        Era::GenerateKeypair { target_path } => generate_keypair(&target_path, "era", shell),
        Era::GenerateTxDatum { target_path, current_era_epoch, next_era_epoch, era_markers_secret_key } => {
            let announced = era::announce(current_era_epoch, next_era_epoch)
                .map_err(|error| Report::of(&error).code_id("AGG-0005"))?;
            let key = secret_key(&era_markers_secret_key)?;
            let datum = era::with_message(&announced, |message| signed_datum(&key, message))
                .map_err(|error| Report::of(&error))??;
            write(&target_path, datum.to_string().as_bytes())?;
            shell.status("Wrote", target_path.display());
            Ok(())
        }
    }
}

fn signed_datum(key: &Key, message: &Benign<'_>) -> Result<Value, Report> {
    let signature = keys::sign(key, message).map_err(|error| key_report(&error))?;
    Ok(markers::datum_json(&message.bytes(), &hex::encode(signature.to_bytes())))
}

/// `protocol-configuration`
pub(super) fn protocol_configuration(
    verb: ProtocolConfiguration,
    shell: &Shell,
    base: impl Fn() -> Result<Base, Report>,
) -> Result<(), Report> {
    match verb {
        ProtocolConfiguration::ExportMarkers { target_path, default } => {
            let configurations = if default { defaults() } else { on_chain(&base()?)?.1 };
            let text = serde_json::to_string_pretty(&configurations).map_err(|error| Report::of(&error))?;
            write(&target_path, text.as_bytes())?;
            shell.status("Wrote", target_path.display());
            Ok(())
        }
        ProtocolConfiguration::ImportMarkers {
            import_path,
            target_path,
            protocol_configuration_markers_secret_key,
            force,
        } => {
            let edited = edited(&import_path)?;
            check(&edited, None).map_err(|error| configuration_report(&error))?;
            let key = secret_key(&protocol_configuration_markers_secret_key)?;
            if !force {
                let (now, announced) = on_chain(&base()?)?;
                check(&edited, Some((now, &announced))).map_err(|error| configuration_report(&error))?;
            }
            let datum = with_message(&edited, |message| signed_datum(&key, message))?;
            let length = markers::datum_bytes(&datum);
            if length > ANNOUNCED_BYTES_MAX {
                return Err(configuration_report(&ConfigurationError::TooLong(length)));
            }
            write(&target_path, datum.to_string().as_bytes())?;
            shell.status("Wrote", target_path.display());
            Ok(())
        }
    }
}

fn edited(path: &Path) -> Result<Vec<Configuration>, Report> {
    let text = read(path, EDITED_BYTES_MAX)?;
    serde_json::from_str(&text).map_err(|error| {
        Report::new(format!("{} is no list of protocol configurations", path.display()))
            .code_id("AGG-0007")
            .cause(&error)
            .hint("`protocol-configuration export-markers --default` writes one to start with")
    })
}

fn configuration_report(error: &ConfigurationError) -> Report {
    Report::of(error).code_id("AGG-0007")
}

/// Current epoch, and what is announced.
fn on_chain(base: &Base) -> Result<(Epoch, Vec<Configuration>), Report> {
    let place = base.protocol_configurations.as_ref().ok_or_else(|| {
        Report::new("nobody says where on the chain protocol configurations are announced")
            .code_id("AGG-0009")
            .hint("set PROTOCOL_CONFIGURATION_READER_ADAPTER_PARAMS, or use --default or --force")
    })?;
    let observer = commands::observer(base).map_err(failed)?;
    announced(observer.as_ref(), &place.address, &place.verification_key)
}

/// Current epoch, and what somebody with the key has put at the address. Nothing there is an empty list only when it is a first time:
/// that is for `--default` and `--force` to say.
fn announced(
    observer: &dyn Observer,
    address: &str,
    key: &Ed25519VerificationKey,
) -> Result<(Epoch, Vec<Configuration>), Report> {
    let on_chain = |error: &(dyn std::error::Error + 'static)| Report::of(error).code_id("AGG-0009");
    let view = observer.view().map_err(|error| on_chain(&error))?;
    let datums = observer.datums(address).map_err(|error| on_chain(&error))?;
    let found = datums.iter().find_map(|datum| configurations_of_datum(datum, key));
    let found = found.ok_or_else(|| {
        Report::new(format!("no output at {address} carries protocol configurations that the key has signed"))
            .code_id("AGG-0009")
            .hint("the first time, use `export-markers --default` and `import-markers --force`")
    })?;
    Ok((view.epoch, found))
}

/// `registry`: the list has, per Cardano network, a list of objects with one Mithril network each.
pub(super) fn registry(verb: &Registry, shell: &Shell) -> Result<(), Report> {
    let Registry::Add { networks, mithril_network, endpoint } = verb;
    let text = read(networks, EDITED_BYTES_MAX)?;
    let refused = |why: String| Report::new(why).code_id("AGG-0011");
    let mut list: Value = serde_json::from_str(&text)
        .map_err(|error| refused(format!("{} is not JSON", networks.display())).cause(&error))?;
    let all = list.as_object_mut().into_iter().flat_map(|networks| networks.values_mut());
    let mut of_mithril = all.filter_map(|network| network.get_mut("mithril-networks")?.as_array_mut()).flatten();
    let found = of_mithril.find_map(|network| network.get_mut(mithril_network)?.get_mut("aggregators")?.as_array_mut());
    let Some(aggregators) = found else {
        return Err(refused(format!("{} has no Mithril network {mithril_network:?}", networks.display())));
    };
    let url = endpoint.as_str().trim_end_matches('/');
    let is_there =
        |one: &Value| one.get("url").and_then(Value::as_str).is_some_and(|known| known.trim_end_matches('/') == url);
    if aggregators.iter().any(is_there) {
        return Err(refused(format!("{url} is in the list already")));
    }
    aggregators.push(json!({ "url": url }));
    let text = serde_json::to_string_pretty(&list).map_err(|error| Report::of(&error))?;
    said(shell.line(text))
}

fn read(path: &Path, bytes_max: u64) -> Result<String, Report> {
    let mut text = String::new();
    let length = File::open(path).and_then(|file| file.take(bytes_max.saturating_add(1)).read_to_string(&mut text));
    let unreadable = || Report::new(format!("cannot read {}", path.display())).code_id("AGG-0001");
    match length {
        Ok(length) if length as u64 > bytes_max => {
            Err(unreadable().because(format!("it is longer than {bytes_max} bytes")))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(unreadable().cause(&error)),
    }
}

/// Writes a file whole: beside it first, then under its name.
fn write(path: &Path, content: &[u8]) -> Result<(), Report> {
    let name = path.file_name().ok_or_else(|| unwritable(path, &io::Error::other("it is no file name")))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary: PathBuf = parent.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path))
        .and_then(|()| File::open(parent)?.sync_all());
    written.map_err(|error| {
        let _gone = std::fs::remove_file(&temporary);
        unwritable(path, &error)
    })
}

fn unwritable(path: &Path, error: &io::Error) -> Report {
    Report::new(format!("cannot write {}", path.display())).code_id("AGG-0002").cause(error)
}

/// A sentence for a failed write to standard output.
pub(super) fn said(result: io::Result<()>) -> Result<(), Report> {
    result.map_err(|error| Report::new("cannot write the answer").cause(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::markers::tests::cbor;
    use crate::host::chain::{Blocks, ChainError, Place, View};
    use mithril_common::crypto_helper::KesPeriod;
    use mithril_common::entities::{BlockNumber, ChainPoint, SlotNumber, StakeDistribution};

    #[derive(Debug)]
    struct Outputs(Vec<Vec<u8>>);

    impl Observer for Outputs {
        fn view(&self) -> Result<View, ChainError> {
            let tip = ChainPoint::new(SlotNumber(1), BlockNumber(1), "aa");
            Ok(View { era: "conway".into(), epoch: Epoch(20), tip, kes_period: KesPeriod(1) })
        }
        fn stakes(&self) -> Result<(View, StakeDistribution), ChainError> {
            Err(ChainError::Unsupported("a list of outputs"))
        }
        fn datums(&self, _: &str) -> Result<Vec<Vec<u8>>, ChainError> {
            Ok(self.0.clone())
        }
        fn blocks(&self, _: &[Place]) -> Result<Box<dyn Blocks>, ChainError> {
            Err(ChainError::Unsupported("a list of outputs"))
        }
    }

    #[test]
    fn what_the_chain_announces_is_what_the_key_signed() {
        let directory = tempfile::tempdir().unwrap();
        let public = keys::generate(directory.path(), "protocol").unwrap();
        let key = keys::load(&directory.path().join("protocol.sk")).unwrap();
        let datum = with_message(&defaults(), |message| signed_datum(&key, message)).unwrap();
        let outputs = Outputs(vec![vec![0xff], cbor(&datum)]);
        assert_eq!(announced(&outputs, "addr", &public).unwrap(), (Epoch(20), defaults()));
        let nobody = announced(&Outputs(Vec::new()), "addr", &public).unwrap_err();
        assert_eq!(nobody.code_text(), Some("AGG-0009"));
    }

    #[test]
    fn a_file_is_written_whole_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("datum.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(write(&directory.path().join("no/x"), b"").unwrap_err().code_text(), Some("AGG-0002"));
    }
}
