//! `doctor`: looks at everything that a signer stands on, and says what is wrong and what mends it. It never signs; all that it writes
//! is an empty file beside the ledger, to see how long the disk takes, and that is gone again.

mod host;
mod node;
mod units;

use super::args::Configs;
use super::config::{self, Look};
use super::keyring::{Keyring, kind, place};
use super::plans::{Tenant, tenants};
use super::users::name_of;
use crate::host::state::read;
use clap::Args;
use semel_admin::Place;
use semel_guard::Lane;
use semel_keys::yubihsm::Looked;
use semel_ledger::interchange::floor_of;
use semel_ledger::{Filesystem, Journal, LedgerErrorKind, filesystem_of};
use semel_ops::control::ask_all;
use semel_ops::doctor::{Doctor, Verdict};
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Space that a ledger's disk should have, in bytes.
const FREE_MIN: u64 = 64 << 20;

/// `doctor`
#[derive(Debug, Args)]
pub struct Examine {
    #[command(flatten)]
    configs: Configs,
    #[command(flatten)]
    place: Place,
    /// The systemd units, as a quoted pattern
    #[arg(long, value_name = "GLOB")]
    units: Option<String>,
    /// Also connect to the nodes, with a handshake, and to the devices
    #[arg(long)]
    deep: bool,
    /// RPC of a node of the chain, as http://HOST:26657: compares keys and heights
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(command: &Examine, shell: &Shell) -> Result<(), Report> {
    let mut doctor = Doctor::default();
    let checked = config::check(&command.configs.paths(), Look::Everything);
    for found in checked.found.sorted() {
        let verdict = match found.severity {
            semel_ops::config::Severity::Error => Verdict::Fail,
            _ => Verdict::Warn,
        };
        let where_ = format!("{}:{}", found.place.path().display(), found.place.line());
        doctor.check(
            found.code.id,
            verdict,
            format!("{where_}: {}", found.message),
            found.hint.clone().unwrap_or_default(),
        );
    }
    let counted: usize = checked.configs.iter().map(|config| config.chains.len()).sum();
    doctor.demand(
        "DOC-0101",
        !checked.found.has_errors(),
        Verdict::Fail,
        format!("{} configurations without an error, {counted} chains", checked.configs.len()),
        "mend the errors above",
    );
    for config in &checked.configs {
        for validator in &config.validators {
            if let config::ProtocolVersion::Legacy | config::ProtocolVersion::V0_33 = validator.protocol_version {
                doctor.pass(
                    "DOC-0102",
                    format!("{}: amino nodes (protocol_version v0.33 or legacy) are served", config.path.display()),
                );
            }
        }
        files(&mut doctor, config);
    }
    ledger(&mut doctor, command, &checked.configs);
    // Once: a token counts every wrong PIN.
    let mut all = Vec::new();
    if checked.found.has_errors() {
        doctor.check(
            "DOC-0301",
            Verdict::Skipped,
            "states and keys are not compared while a configuration has errors",
            "",
        );
    } else {
        match tenants(&checked.configs, &mut Keyring::default()) {
            Ok(found) => all = found,
            Err(report) => {
                doctor.check("DOC-0302", Verdict::Fail, report.to_string(), report.hint_text().unwrap_or_default());
            }
        }
        states(&mut doctor, command, &checked.configs, &all);
    }
    let running = running(command, &checked.configs);
    let numbers: Vec<u32> = running.iter().filter_map(number).collect();
    host::examine(&mut doctor, &checked.configs, &numbers);
    if let Some(pattern) = &command.units {
        units::examine(&mut doctor, pattern, &checked.configs);
    }
    for config in &checked.configs {
        node::names(&mut doctor, config);
        if command.deep {
            node::reach(&mut doctor, config, &running);
            devices(&mut doctor, config);
        }
    }
    if let Some(rpc) = &command.rpc {
        node::chain(&mut doctor, rpc, &all);
    }
    doctor.conclude(command.json, shell)
}

/// What the processes that sign with this ledger say of themselves, at its control sockets.
fn running(command: &Examine, configs: &[config::Config]) -> Vec<Value> {
    let directory = super::start::directory_of(command.place.ledger.as_ref(), configs);
    ask_all(&directory.join(super::status::CONTROL), "status")
}

/// The number of a process that says something of itself.
fn number(answer: &Value) -> Option<u32> {
    answer.get("pid")?.as_u64()?.try_into().ok()
}

/// Files with secrets belong to one user, and nobody else reads them.
fn files(doctor: &mut Doctor, config: &config::Config) {
    let mut secrets: Vec<(&str, &Path)> = config.softsign.iter().map(|key| ("key", key.path.value.as_path())).collect();
    secrets.extend(config.validators.iter().filter_map(|v| Some(("identity", v.secret_key.as_ref()?.value.as_path()))));
    for device in &config.yubihsm {
        if let config::Password::File(path) = &device.auth.password {
            secrets.push(("password", path.value.as_path()));
        }
    }
    for token in &config.pkcs11 {
        if let config::Password::File(path) = &token.pin {
            secrets.push(("PIN", path.value.as_path()));
        }
    }
    for (what, path) in secrets {
        let Ok(meta) = std::fs::metadata(path) else { continue };
        let mode = meta.mode() & 0o777;
        let named = path.display();
        doctor.demand(
            "DOC-0201",
            mode & 0o077 == 0,
            Verdict::Unsafe,
            format!("the {what} file {named} has mode {mode:04o}"),
            format!("chmod 600 {named}"),
        );
        let known = name_of(meta.uid(), "/etc/passwd");
        let group = name_of(meta.gid(), "/etc/group");
        let owners = format!(
            "{}:{}",
            known.clone().unwrap_or_else(|| meta.uid().to_string()),
            group.clone().unwrap_or_else(|| meta.gid().to_string())
        );
        doctor.demand(
            "DOC-0202",
            known.is_some() && group.is_some(),
            Verdict::Fail,
            format!("the {what} file {named} belongs to {owners}"),
            format!("chown to the user that runs the signer: chown tmkms:tmkms {named}"),
        );
    }
    for chain in &config.chains {
        let path = &chain.state_file.value;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Ok(kind) = filesystem_of(directory) {
            doctor.demand(
                "DOC-0203",
                kind == Filesystem::Local,
                Verdict::Warn,
                format!("the state file of {} lies on a {} file system", chain.id.value, kind_name(&kind)),
                "move it to a local disk; the ledger is what counts, and has to be on one",
            );
        }
        doctor.demand(
            "DOC-0204",
            path.is_absolute(),
            Verdict::Warn,
            format!("the state file of {} is {}", chain.id.value, path.display()),
            "name it absolutely: a relative path counts from the working directory, and another one is another file",
        );
    }
}

fn kind_name(kind: &Filesystem) -> &'static str {
    match kind {
        Filesystem::Local => "local",
        Filesystem::Volatile(name) => name,
    }
}

/// The ledger is there, whole, ours, on a disk that keeps it and has room.
fn ledger(doctor: &mut Doctor, command: &Examine, configs: &[config::Config]) {
    let named = configs.iter().find_map(|config| config.semel.as_ref()?.ledger.clone());
    let directory = command.place.ledger.clone().or(named).unwrap_or_else(|| command.place.directory());
    let shown = directory.display();
    if !directory.exists() {
        doctor.check(
            "DOC-0401",
            Verdict::Warn,
            format!("there is no ledger in {shown} yet"),
            "the first `start` makes it; if this host signed before, name its ledger with --ledger",
        );
        return;
    }
    doctor.pass("DOC-0401", format!("the ledger is in {shown}"));
    match filesystem_of(&directory) {
        Ok(kind) => doctor.demand(
            "DOC-0402",
            kind == Filesystem::Local,
            Verdict::Unsafe,
            format!("the ledger lies on a {} file system", kind_name(&kind)),
            "move it to a local disk",
        ),
        Err(error) => doctor.check("DOC-0402", Verdict::Skipped, format!("the file system of the ledger: {error}"), ""),
    }
    if let Ok(stat) = rustix::fs::statvfs(&directory) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        doctor.demand(
            "DOC-0403",
            free >= FREE_MIN,
            Verdict::Fail,
            format!("{} MiB are free where the ledger is", free >> 20),
            "make room: a ledger that cannot write signs nothing",
        );
    }
    if let Ok(meta) = std::fs::metadata(&directory) {
        let mode = meta.mode() & 0o777;
        doctor.demand(
            "DOC-0404",
            mode & 0o077 == 0,
            Verdict::Unsafe,
            format!("the ledger has mode {mode:04o}"),
            format!("chmod 700 {shown}"),
        );
    }
    match Journal::records(&directory) {
        Ok(volumes) => {
            let count: usize = volumes.iter().map(|(_, records)| records.len()).sum();
            doctor.pass("DOC-0405", format!("{count} records in {} volumes are whole", volumes.len()));
        }
        Err(error) => {
            let verdict =
                if matches!(error.kind, LedgerErrorKind::Damaged(_)) { Verdict::Unsafe } else { Verdict::Fail };
            doctor.check("DOC-0405", verdict, error.to_string(), error.hint());
        }
    }
    let begun = std::time::Instant::now();
    let probe = directory.join(format!(".doctor-{}", std::process::id()));
    let synced = std::fs::File::create_new(&probe).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &[0; 512])?;
        file.sync_data()
    });
    let _gone = std::fs::remove_file(&probe);
    match synced {
        Ok(()) => {
            let ms = begun.elapsed().as_millis();
            doctor.demand(
                "DOC-0406",
                ms < 50,
                Verdict::Warn,
                format!("a new file is on the ledger's disk after {ms} ms"),
                "a slow disk delays every vote: use another one, or durability = \"reserve\"",
            );
        }
        Err(error) => doctor.check(
            "DOC-0406",
            Verdict::Warn,
            format!("this user cannot write the ledger: {error}"),
            "run this as the user that runs the signer",
        ),
    }
}

/// State files belong to their key and chain, and are not behind the ledger.
fn states(doctor: &mut Doctor, command: &Examine, configs: &[config::Config], all: &[(&config::Config, Tenant<'_>)]) {
    let directory = super::start::directory_of(command.place.ledger.as_ref(), configs);
    let known = if directory.exists() { Journal::inspect(&directory).unwrap_or_default() } else { Vec::new() };
    for (_, tenant) in all {
        let (chain, path) = (&tenant.chain.id.value, &tenant.chain.state_file.value);
        doctor.pass("DOC-0302", format!("{chain} signs with {}", tenant.key_text));
        let ledger = known.iter().find(|known| known.subject == tenant.subject);
        let lane = ledger.and_then(|known| known.lanes.iter().find(|(lane, _)| *lane == Lane::Tendermint));
        if lane.is_some_and(|(_, history)| history.tombstone) {
            doctor.check(
                "DOC-0306",
                Verdict::Unsafe,
                format!("the key of {chain} was handed over to another host"),
                "take its configuration away here, or take it back with `semel handover accept`",
            );
        }
        let highest = lane.and_then(|(_, history)| history.recent.last().map(|entry| entry.mark).max(history.floor));
        match (read(path), highest) {
            (Ok(None), None) => doctor.check(
                "DOC-0303",
                Verdict::Warn,
                format!("{chain} has no state file, and the ledger does not know its key"),
                "right for a key that never signed; else import its state: `state import`",
            ),
            (Ok(None), Some(_)) => {
                doctor.pass("DOC-0303", format!("{chain}: the state file will be written again from the ledger"))
            }
            (Ok(Some(state)), highest) => {
                let file = floor_of(&state);
                // A floor that nothing was signed at was put there: by `set-floor`, an import, a handover, a reservation.
                let signed = lane.and_then(|(_, history)| history.recent.last().map(|entry| entry.mark));
                let text = format!(
                    "{chain}: the state file is at {}, the ledger at {}{}",
                    file.map_or_else(|| "nothing".into(), |mark| Lane::Tendermint.show(mark)),
                    highest.map_or_else(|| "nothing".into(), |mark| Lane::Tendermint.show(mark)),
                    if signed < highest && file < highest { ", where its floor was put" } else { "" }
                );
                doctor.demand("DOC-0305", file >= signed, Verdict::Unsafe, text, "a state that was restored or lost: the ledger counts and writes it again, but find out who put it back");
            }
            (Err(error), _) => doctor.check("DOC-0303", Verdict::Fail, error.to_string(), error.hint()),
        }
    }
}

/// Devices answer, are the configured ones, and hold the keys of the configured kinds: what a start demands of them.
fn devices(doctor: &mut Doctor, config: &config::Config) {
    for device in &config.yubihsm {
        let opened =
            place(device).and_then(|place| Looked::open(&place, device.serial_number).map(|look| (place, look)));
        match opened {
            Ok((place, look)) => {
                doctor.pass(
                    "DOC-0601",
                    format!("the YubiHSM at {} takes authentication key {}", place.adapter, place.auth_key),
                );
                for key in &device.keys {
                    let id = key.key.value;
                    match look.key(id, kind(key.key_type)) {
                        Ok(_) => {
                            doctor.pass("DOC-0602", format!("key {id:#06x} is in the YubiHSM at {}", place.adapter))
                        }
                        Err(error) => doctor.check("DOC-0602", Verdict::Fail, error.to_string(), error.hint()),
                    }
                }
            }
            Err(error) => doctor.check("DOC-0601", Verdict::Fail, error.to_string(), error.hint()),
        }
    }
}
