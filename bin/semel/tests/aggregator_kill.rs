//! The aggregator is killed again and again, at whatever it is at: nothing is certified twice, nothing that was told is lost.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use mithril_common::entities::SignedEntityTypeDiscriminants as Kind;
use semel_aggregator::host::store::{Store, certificates, entities};
use semel_devnet_cardano::signer::Signer;
use semel_devnet_cardano::{CardanoNet, Options};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Times that it is killed.
const KILLS: usize = 40;
/// All of it takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(240);

struct Aggregator<'a> {
    net: &'a CardanoNet,
    directory: &'a Path,
    port: u16,
}

impl Aggregator<'_> {
    fn command(&self) -> Command {
        let keys = self.net.genesis_keys().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_semel"));
        command
            .arg("aggregator")
            .env_clear()
            .envs([
                ("NETWORK", "preview".to_owned()),
                ("CARDANO_NODE_SOCKET_PATH", self.net.socket().display().to_string()),
                ("CARDANO_NODE_VERSION", "10.7.1".to_owned()),
                ("DB_DIRECTORY", self.net.db_directory().display().to_string()),
                ("DATA_STORES_DIRECTORY", self.directory.join("stores").display().to_string()),
                ("SNAPSHOT_DIRECTORY", self.directory.join("archives").display().to_string()),
                ("SEMEL_LEDGER", self.directory.join("ledger").display().to_string()),
                ("SNAPSHOT_UPLOADER_TYPE", "local".to_owned()),
                ("ZSTANDARD_PARAMETERS__LEVEL", "1".to_owned()),
                ("GENESIS_VERIFICATION_KEY", keys.verification),
                ("GENESIS_SECRET_KEY", keys.secret.clone()),
                (
                    "ANCILLARY_FILES_SIGNER_CONFIG",
                    format!(r#"{{"type": "secret-key", "secret_key": "{}"}}"#, keys.secret),
                ),
                (
                    "SIGNED_ENTITY_TYPES",
                    "CardanoStakeDistribution,CardanoDatabase,CardanoTransactions,CardanoBlocksTransactions".to_owned(),
                ),
                ("PROTOCOL_PARAMETERS__K", "5".to_owned()),
                ("PROTOCOL_PARAMETERS__M", "100".to_owned()),
                ("PROTOCOL_PARAMETERS__PHI_F", "0.7".to_owned()),
                ("CARDANO_TRANSACTIONS_SIGNING_CONFIG__SECURITY_PARAMETER", "20".to_owned()),
                ("CARDANO_TRANSACTIONS_SIGNING_CONFIG__STEP", "15".to_owned()),
                ("CARDANO_BLOCKS_TRANSACTIONS_SIGNING_CONFIG__SECURITY_PARAMETER", "20".to_owned()),
                ("CARDANO_BLOCKS_TRANSACTIONS_SIGNING_CONFIG__STEP", "15".to_owned()),
                ("RUN_INTERVAL", "50".to_owned()),
                ("SERVER_IP", "127.0.0.1".to_owned()),
                ("SERVER_PORT", self.port.to_string()),
                ("SEMEL_ALLOW_ROOT", "1".to_owned()),
            ])
            .stdout(Stdio::null());
        command
    }

    fn serve(&self) -> Child {
        self.command().arg("serve").spawn().unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&self.directory.join("stores")).unwrap()
    }
}

/// Signers go on, whether anybody answers or not.
fn tick(signers: &mut [Signer]) {
    for signer in signers {
        let _nobody_there = signer.tick();
    }
}

/// A number that looks like no other; the same in every run.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn killed_forty_times_it_certifies_every_epoch_and_nothing_twice() {
    let place = tempfile::tempdir().unwrap();
    let mut options = Options::new(place.path().join("node"));
    options.pools = 3;
    let net = CardanoNet::start(options).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let aggregator = Aggregator { net: &net, directory: place.path(), port };
    let mut signers = net.signers(&format!("http://127.0.0.1:{port}/aggregator")).unwrap();
    let begun = Instant::now();
    let registered = |epoch: u64| {
        let store = aggregator.store();
        let epoch = mithril_common::entities::Epoch(epoch);
        store.read(|db| semel_aggregator::host::store::epochs::signers(db, epoch)).unwrap().len()
    };
    // Two rounds of registrations, then the genesis, made while nobody serves.
    for _ in 0..2 {
        let mut child = aggregator.serve();
        while !place.path().join("stores/aggregator.sqlite3").exists() || registered(*net.epoch() + 1) < 3 {
            tick(&mut signers);
            std::thread::sleep(Duration::from_millis(20));
            assert!(begun.elapsed() < PATIENCE);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if net.epoch() == net.first_epoch() + 1 {
            // The parameters are those that were recorded.
            let mut bootstrap = aggregator.command();
            for name in ["K", "M", "PHI_F"] {
                bootstrap.env_remove(format!("PROTOCOL_PARAMETERS__{name}"));
            }
            let done = bootstrap.args(["genesis", "bootstrap"]).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        net.advance_epoch().unwrap();
    }
    let mut random = 7;
    let mut kills = 0;
    let mut certified_epochs = 0;
    while kills < KILLS || certified_epochs < 4 {
        let mut child = aggregator.serve();
        let until = Instant::now() + Duration::from_millis(100 + next(&mut random) % 900);
        while Instant::now() < until {
            tick(&mut signers);
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let epoch = net.epoch();
        let newest = aggregator.store().read(|db| certificates::latest(db, 20)).unwrap();
        let kinds: BTreeSet<Kind> = newest
            .iter()
            .filter(|one| one.epoch == epoch && !one.is_genesis())
            .map(|one| Kind::from(one.signed_entity_type()))
            .collect();
        if kinds.len() == 5 && registered(*epoch + 1) == 3 {
            certified_epochs += 1;
            net.advance_epoch().unwrap();
        }
        assert!(begun.elapsed() < PATIENCE, "{kills} kills, {certified_epochs} epochs, {kinds:?} at {epoch}");
    }
    // One certificate for each beacon, all of them on one chain.
    let store = aggregator.store();
    let all = store.read(|db| certificates::latest(db, 10_000)).unwrap();
    let beacons: BTreeSet<String> =
        all.iter().filter(|one| !one.is_genesis()).map(|one| format!("{:?}", one.signed_entity_type())).collect();
    assert_eq!(beacons.len() + 1, all.len());
    let stores = place.path().join("stores");
    let verified = aggregator.command().arg("verify").arg(&stores).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    // What was certified gets its artifact, however often the making was interrupted.
    let mut child = aggregator.serve();
    let is_served = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    while !is_served() || !store.read(entities::pending).unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(50));
        assert!(begun.elapsed() < PATIENCE, "{:?}", store.read(entities::pending).unwrap());
    }
    let _stopped = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    let ended = child.wait().unwrap();
    assert!(ended.success(), "{ended}");
}
