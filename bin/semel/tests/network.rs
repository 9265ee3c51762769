//! Whole networks: their nodes in the test, their keys in one real process that is killed, ended and reloaded meanwhile.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::process::Signal;
use semel_devnet_tendermint::consensus::{Height, Timeouts};
use semel_devnet_tendermint::privval::Family;
use semel_devnet_tendermint::{Config, Devnet, Snapshot, public_key};
use stage::{Signer, Stage};
use std::process::Stdio;
use std::time::Duration;

/// Longest wait for blocks.
const PATIENCE: Duration = Duration::from_secs(60);

const VALIDATORS: u8 = 4;

fn seed(validator: u8) -> [u8; 32] {
    [validator + 11; 32]
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A network of four, and a directory with a configuration for each of its keys.
fn network(family: Family, attack: bool) -> (Stage, Devnet) {
    let keys = (0..VALIDATORS).map(|validator| public_key(&seed(validator)));
    // Room for a machine with other work: a vote that comes after the commit is missing in its block.
    let timeouts =
        Timeouts { propose: ms(2000), prevote: ms(600), precommit: ms(600), increment: ms(200), commit: ms(300) };
    let extensions = family == Family::V038;
    let config = Config { timeouts, family, extensions, attack, patience: PATIENCE, ..Config::new(stage::CHAIN, keys) };
    let devnet = Devnet::start(config).unwrap();
    let stage = Stage::new();
    std::fs::create_dir(stage.path("conf")).unwrap();
    for (validator, address) in (0..).zip(devnet.addresses()) {
        let name = format!("validator-{validator}");
        stage.secret(&format!("{name}.key"), &BASE64.encode(seed(validator)));
        let attacker = devnet.attack_address().filter(|_| validator == 0).map(ToString::to_string);
        let addresses: Vec<String> = std::iter::once(address.to_string()).chain(attacker).collect();
        stage.config_of(&format!("conf/{name}.toml"), stage::CHAIN, &name, &addresses);
    }
    (stage, devnet)
}

fn start(stage: &Stage, more: &[&str]) -> Signer {
    stage.start_with(&stage.path("conf"), more)
}

/// No two signatures for one place, and no signature that does not verify.
fn assert_calm(last: &Snapshot) {
    assert_eq!(last.evidence, []);
    assert_eq!((last.disagreements, last.rejected), (0, 0));
}

#[test]
fn four_keys_in_one_process_sign_every_block_in_every_family() {
    std::thread::scope(|scope| {
        for family in Family::ALL {
            scope.spawn(move || {
                let (stage, devnet) = network(family, false);
                let _signer = start(&stage, &[]);
                assert!(devnet.wait_signers(PATIENCE), "{family}");
                assert!(devnet.wait_height(Height(8), PATIENCE), "{family}: {:?}", devnet.snapshot());
                let last = devnet.stop();
                assert_calm(&last);
                assert_eq!(last.blocks_incomplete, 0, "{family}");
                assert!(last.validators.iter().all(|one| one.signed >= 16 && one.refused == 0), "{family}: {last:?}");
            });
        }
    });
}

#[test]
fn a_signer_that_is_killed_ended_and_reloaded_never_signs_twice_and_the_chain_goes_on() {
    for durability in ["sync", "reserve"] {
        let (stage, devnet) = network(Family::V034, false);
        let more = ["--durability", durability];
        let mut height = 3;
        for life in 0..5 {
            let mut signer = start(&stage, &more);
            assert!(devnet.wait_height(Height(height), PATIENCE), "{durability}, life {life}: {:?}", devnet.snapshot());
            if life % 2 == 0 {
                signer.kill();
            } else {
                signer.signal(Signal::HUP);
                signer.signal(Signal::TERM);
                assert!(signer.ended().success(), "{}", signer.text());
            }
            height = devnet.snapshot().height.0 + 3;
        }
        let last = devnet.stop();
        assert_calm(&last);
        assert!(last.validators.iter().all(|one| one.connections >= 5), "{durability}: {last:?}");
    }
}

#[test]
fn an_attacker_at_a_second_node_gets_nothing_while_the_network_goes_on() {
    let (stage, devnet) = network(Family::V034, true);
    let signer = start(&stage, &[]);
    assert!(devnet.wait_height(Height(8), PATIENCE), "{:?}", devnet.snapshot());
    let last = devnet.stop();
    assert_calm(&last);
    let attack = last.attack.unwrap();
    assert!(attack.asked >= 8 && attack.granted == 0 && attack.refused == attack.asked, "{attack:?}");
    signer.said("attempted double sign");
}

#[test]
fn the_embedded_network_ends_by_itself_with_a_summary() {
    for (more, family) in [(&[][..], "plain"), (&["--attack"], "attacked")] {
        let stage = Stage::new();
        let words = ["dev", "--blocks", "4", "--block-time", "400", "--json", "--home", "DIR/net"];
        let ran = stage.run(&[&words[..], more].concat());
        assert_eq!(ran.code, 0, "{family}: {ran:?}");
        let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let number = |name: &str| summary.pointer(name).and_then(serde_json::Value::as_u64).unwrap();
        assert!(number("/blocks") >= 4 && number("/signatures") >= 4 * 3 * 3, "{summary}");
        assert_eq!((number("/evidence"), number("/blocks_without_a_signature_of_ours")), (0, 0), "{summary}");
        assert_eq!((number("/attack/granted"), number("/attack/asked") > 0), (0, family == "attacked"), "{summary}");
        // What it leaves is what an operator would have made.
        let check = stage.run(&["kms", "config", "check", "-c", "DIR/net/tmkms-0.toml"]);
        assert_eq!(check.code, 0, "{check:?}");
        let again = stage.run(&words);
        assert!(again.code == 1 && again.stderr.contains("cannot make DIR/net"), "{again:?}");
    }
}

#[test]
fn the_embedded_network_ends_on_a_signal_and_takes_its_directory_along() {
    let stage = Stage::new();
    let mut command = stage::semel();
    command.args(["dev", "--block-time", "250"]).env("TMPDIR", stage.path("")).stdin(Stdio::null());
    let mut network = Signer::spawn(command);
    network.said("Block #2");
    let made = || {
        std::fs::read_dir(stage.path(""))
            .unwrap()
            .any(|one| one.unwrap().file_name().to_string_lossy().starts_with("semel-dev-"))
    };
    assert!(made());
    network.signal(Signal::INT);
    assert!(network.ended().success(), "{}", network.text());
    assert!(!made(), "it leaves nothing behind");
    network.said("0 double signatures");
}
