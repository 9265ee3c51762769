//! Checks of everything that an aggregator stands on. Nothing is written.

use crate::face::settings::{ChainAccess, Settings, Uploader};
use crate::host::artifact::LedgerSnapshot;
use crate::host::chain::Observer;
use crate::host::commands;
use crate::host::immutable::ImmutableFiles;
use crate::host::store::read_only::ReadOnly;
use crate::host::store::{FILE, StoreError, VERSION, certificates};
use mithril_common::entities::SignedEntityTypeDiscriminants as Kind;
use semel_ops::doctor::{Doctor, Verdict};
use std::path::Path;

/// Lowest version of a Cardano node that Mithril's list of networks asks of an aggregator.
const NODE_MIN: (u64, u64, u64) = (10, 7, 1);
/// Free space below which archives are in danger.
const FREE_MIN: u64 = 50 << 30;

/// Adds the checks of this duty.
pub fn examine(settings: Option<&Settings>, doctor: &mut Doctor) {
    let Some(settings) = settings else {
        doctor.check("AGG-0101", Verdict::Fail, "the settings cannot be used", "mend what `config check` tells");
        return;
    };
    doctor.pass("AGG-0101", "the settings can be used");
    versions(settings, doctor);
    chain(settings, doctor);
    files(settings, doctor);
    stores(settings, doctor);
    address(settings, doctor);
}

fn versions(settings: &Settings, doctor: &mut Doctor) {
    let (major, minor, patch) = settings.node_version.numbers;
    let found = format!("CARDANO_NODE_VERSION is {}", settings.node_version);
    let fix = format!("Mithril's networks ask for {}.{}.{} at least", NODE_MIN.0, NODE_MIN.1, NODE_MIN.2);
    doctor.demand("AGG-0102", (major, minor, patch) >= NODE_MIN, Verdict::Warn, found, fix);
}

fn chain(settings: &Settings, doctor: &mut Doctor) {
    if let ChainAccess::Node { socket } = &settings.base.chain {
        let is_socket = std::fs::metadata(socket).is_ok_and(|metadata| {
            use std::os::unix::fs::FileTypeExt as _;
            metadata.file_type().is_socket()
        });
        let found = format!("the node's socket is {}", socket.display());
        doctor.demand("AGG-0103", is_socket, Verdict::Fail, found, "start the node, or mend CARDANO_NODE_SOCKET_PATH");
    }
    let observer = match commands::observer(&settings.base) {
        Ok(observer) => observer,
        Err(error) => return doctor.check("AGG-0104", Verdict::Fail, error.to_string(), "see CHAIN_OBSERVER_TYPE"),
    };
    match observer.view() {
        Ok(view) => {
            doctor.pass("AGG-0104", format!("the chain is at epoch {}, block {}", view.epoch, view.tip.block_number));
            stakes(observer.as_ref(), doctor);
            era(settings, observer.as_ref(), &view, doctor);
        }
        Err(error) => {
            doctor.check("AGG-0104", Verdict::Fail, error.to_string(), "see whether the node runs and NETWORK fits")
        }
    }
}

fn stakes(observer: &dyn Observer, doctor: &mut Doctor) {
    match observer.stakes() {
        Ok((_, stakes)) => {
            let found = format!("{} pools have stake", stakes.len());
            doctor.demand("AGG-0105", !stakes.is_empty(), Verdict::Fail, found, "wait until the node has caught up");
        }
        Err(error) => doctor.check("AGG-0105", Verdict::Fail, error.to_string(), "wait until the node has caught up"),
    }
}

fn era(settings: &Settings, observer: &dyn Observer, view: &crate::host::chain::View, doctor: &mut Doctor) {
    let told = settings.base.era_reader.read(observer).map_err(|error| error.to_string());
    let eras =
        told.and_then(|markers| crate::core::era::Eras::at(view.epoch, &markers).map_err(|error| error.to_string()));
    match eras {
        Ok(eras) => doctor.pass("AGG-0106", format!("the era of Mithril is {}", eras.current)),
        Err(why) => doctor.check("AGG-0106", Verdict::Fail, why, "see ERA_READER_ADAPTER_TYPE and _PARAMS, or update"),
    }
}

fn files(settings: &Settings, doctor: &mut Doctor) {
    let types = &settings.entities.types;
    let needs_files = [Kind::CardanoDatabase, Kind::CardanoTransactions, Kind::CardanoBlocksTransactions];
    if !needs_files.iter().any(|kind| types.contains(kind)) {
        return;
    }
    let db = &settings.base.db_directory;
    match ImmutableFiles::list(db) {
        Ok(files) => {
            let last = files.last_complete();
            let directory = files.directory().display();
            let found = match last {
                Some(last) => format!("immutable files in {directory} are complete up to {last}"),
                None => format!("no immutable file in {directory} is complete"),
            };
            doctor.demand("AGG-0107", last.is_some(), Verdict::Fail, found, "wait until the node has two of them");
        }
        Err(error) => doctor.check("AGG-0107", Verdict::Fail, error.to_string(), "see DB_DIRECTORY"),
    }
    if !types.contains(&Kind::CardanoDatabase) {
        return;
    }
    let snapshots = LedgerSnapshot::list(db).map_or(0, |list| list.len());
    let found = format!("{snapshots} ledger snapshots that can be archived");
    doctor.demand("AGG-0108", snapshots > 0, Verdict::Fail, found, "the node must run with the in-memory backend");
    let directory = &settings.artifacts.directory;
    writable("AGG-0109", directory, "SNAPSHOT_DIRECTORY", doctor);
    if let (Uploader::Local, Ok(stat)) = (&settings.artifacts.uploader, rustix::fs::statvfs(directory)) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let found = format!("{} GiB are free for archives", free >> 30);
        doctor.demand("AGG-0110", free >= FREE_MIN, Verdict::Warn, found, "archives of mainnet need hundreds of GiB");
    }
}

fn stores(settings: &Settings, doctor: &mut Doctor) {
    let directory = &settings.base.data_stores_directory;
    writable("AGG-0111", directory, "DATA_STORES_DIRECTORY", doctor);
    if std::fs::metadata(directory.join(FILE)).map_or(0, |file| file.len()) == 0 {
        return doctor.check("AGG-0112", Verdict::Skipped, "there is no database yet", "");
    }
    match ReadOnly::open(directory) {
        // It can be read; what serves it needs its own version.
        Ok(store) if store.version() != VERSION => {
            let found = StoreError::Older { path: store.path().to_owned(), found: store.version() }.to_string();
            doctor.check(
                "AGG-0112",
                Verdict::Fail,
                found,
                "take it over into an empty directory with `database import`",
            );
        }
        Ok(store) => {
            let genesis = store.read(certificates::latest_genesis).ok().flatten();
            let count = store.read(certificates::count).unwrap_or_default();
            let found = format!("the database holds {count} certificates");
            let fix = "make one with `genesis bootstrap` on a test network, or `genesis export`, `sign` and `import`";
            doctor.demand("AGG-0112", genesis.is_some(), Verdict::Warn, found, fix);
        }
        Err(error) => doctor.check("AGG-0112", Verdict::Fail, error.to_string(), "see DATA_STORES_DIRECTORY"),
    }
}

fn address(settings: &Settings, doctor: &mut Doctor) {
    let url = &settings.http.public_url;
    let is_local = url.host_str().is_some_and(|host| matches!(host, "0.0.0.0" | "127.0.0.1" | "localhost"));
    let found = format!("clients are told {url}");
    doctor.demand("AGG-0113", !is_local, Verdict::Warn, found, "set PUBLIC_SERVER_URL to what clients can reach");
    let found = format!("{} is where it listens", settings.http.address);
    doctor.demand("AGG-0114", settings.http.address.port() != 0, Verdict::Fail, found, "set SERVER_PORT");
}

fn writable(code: &'static str, directory: &Path, variable: &str, doctor: &mut Doctor) {
    let access = rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_ok();
    let parent = directory.parent().unwrap_or(Path::new("/"));
    let can_be_made = !directory.exists() && rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_ok();
    let found = format!("{variable} is {}", directory.display());
    doctor.demand(code, access || can_be_made, Verdict::Fail, found, "let this user write there");
}
