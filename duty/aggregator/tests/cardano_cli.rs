//! The observer through `cardano-cli`, against scripts in its place.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use mithril_common::crypto_helper::{KesPeriod, encode_bech32};
use mithril_common::entities::{CardanoNetwork, Epoch};
use semel_aggregator::core::markers::payload;
use semel_aggregator::host::chain::cardano_cli::CardanoCli;
use semel_aggregator::host::chain::{ChainError, Observer};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// Answers `tip` and `stake-snapshot` only, wherever the words stand, and `{}` to everything else.
const TWO_ANSWERS: &str = r#"
echo "$CARDANO_NODE_SOCKET_PATH $*" >> "$0.asked"
for word in "$@"; do
  case "$word" in
    tip) echo '{"era":"Babbage","syncProgress":"100.00","hash":"f6d1b8c328697c7a4a8e7f718c79510acbcd411ff4ca19401ded13534d45a38d","epoch":'$(cat "$0.epoch")',"slot":259300,"block":12}'; exit ;;
    stake-snapshot) cat "$0.stakes"; [ ! -f "$0.moves" ] || mv "$0.moves" "$0.epoch"; exit ;;
  esac
done
echo '{}'
"#;

/// A script that is being written while another test starts a process cannot be run.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A script in the place of the program, for one test at a time.
struct Place {
    directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Place {
    fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn cli(script: &str) -> (Place, CardanoCli) {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("cardano-cli");
    fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let cli = CardanoCli::new(program, "/run/node.socket", CardanoNetwork::TestNet(42));
    (Place { directory, _turn: turn }, cli)
}

fn write(directory: &Place, name: &str, text: &str) {
    fs::write(directory.path().join(format!("cardano-cli.{name}")), text).unwrap();
}

fn asked(directory: &Place) -> Vec<String> {
    let asked = fs::read_to_string(directory.path().join("cardano-cli.asked")).unwrap();
    asked.lines().map(str::to_owned).collect()
}

#[test]
fn two_answers_are_enough_for_epoch_tip_and_stakes() {
    let (directory, cli) = cli(TWO_ANSWERS);
    write(&directory, "epoch", "5");
    let (one, none) = ("01".repeat(28), "02".repeat(28));
    let stake = |mark| format!(r#"{{"stakeGo":3,"stakeMark":{mark},"stakeSet":2}}"#);
    let pools = format!(r#"{{"pools":{{"{one}":{},"{none}":{}}},"total":{}}}"#, stake(300), stake(0), stake(300));
    write(&directory, "stakes", &pools);

    let (view, stakes) = cli.stakes().unwrap();
    assert_eq!((view.era.as_str(), view.epoch, view.kes_period), ("Babbage", Epoch(5), KesPeriod(2)));
    assert_eq!((*view.tip.slot_number, *view.tip.block_number), (259_300, 12));
    assert_eq!(stakes.into_iter().collect::<Vec<_>>(), [(encode_bech32("pool", &[1; 28]).unwrap(), 300)]);
    assert_eq!(
        asked(&directory),
        [
            "/run/node.socket latest query tip --testnet-magic 42",
            "/run/node.socket latest query stake-snapshot --all-stake-pools --testnet-magic 42",
            "/run/node.socket latest query tip --testnet-magic 42",
        ]
    );
    assert_eq!(cli.clone().with_slots_per_kes_period(1_000).view().unwrap().kes_period, KesPeriod(259));
    assert!(cli.datums("addr").unwrap().is_empty());
    // Blocks are asked of the node itself, and nobody listens at that socket.
    assert!(matches!(cli.blocks(&[]), Err(ChainError::Unreachable { .. })));
    let without = CardanoCli::new("/nowhere/cardano-cli", "", CardanoNetwork::TestNet(42));
    assert!(matches!(without.blocks(&[]), Err(ChainError::Unsupported(_))));
}

#[test]
fn stakes_are_refused_when_the_epoch_moves_between_two_processes() {
    let (directory, cli) = cli(TWO_ANSWERS);
    write(&directory, "epoch", "5");
    write(&directory, "moves", "6");
    write(&directory, "stakes", r#"{"pools":{}}"#);
    let error = cli.stakes().unwrap_err();
    assert!(matches!(error, ChainError::EpochMoved { before: Epoch(5), after: Epoch(6) }), "{error}");
    let error = cli.stakes().unwrap_err();
    assert!(matches!(error, ChainError::NoStake(Epoch(6))), "{error}");
}

#[test]
fn a_program_that_does_not_tell_all_pools_is_asked_pool_by_pool() {
    let id = encode_bech32("pool", &[3; 28]).unwrap();
    let listed = format!(r#"{{"pools":{{"{}":{{"stakeMark":7,"stakeSet":0,"stakeGo":0}}}}}}"#, "03".repeat(28));
    for at_once in ["echo Invalid option >&2; exit 1", "echo nonsense", r#"echo '{"pools":{"zz":{"stakeMark":1}}}'"#] {
        for one in [listed.as_str(), r#"{"poolStakeGo":1,"poolStakeSet":2,"poolStakeMark":7,"activeStakeGo":9}"#] {
            let script = format!(
                r#"
case "$*" in
  *--all-stake-pools*) {at_once} ;;
  *"stake-distribution"*) printf 'PoolId   Stake frac\n---\n{id}   1.0e-3\n' ;;
  *"--stake-pool-id {id}"*) echo '{one}' ;;
  *tip*) echo '{{"era":"Conway","epoch":1}}' ;;
esac
"#
            );
            let (_directory, cli) = cli(&script);
            let (view, stakes) = cli.stakes().unwrap();
            assert_eq!(view.tip.block_hash, "", "before the first block");
            assert_eq!(stakes.into_iter().collect::<Vec<_>>(), [(id.clone(), 7)], "{at_once} {one}");
        }
    }
}

#[test]
fn a_pool_whose_id_is_none_is_an_error() {
    let id = encode_bech32("pool", &[3; 28]).unwrap().replace("pool1q", "pool1p");
    let script = format!(
        r#"
case "$*" in
  *--all-stake-pools*) exit 1 ;;
  *"stake-distribution"*) echo '{id} 1.0' ;;
  *"--stake-pool-id"*) echo '{{"poolStakeMark":7}}' ;;
  *tip*) echo '{{"era":"Conway","epoch":1}}' ;;
esac
"#
    );
    let (_directory, cli) = cli(&script);
    let error = cli.stakes().unwrap_err().to_string();
    assert!(error.contains("not bech32"), "{error}");
}

#[test]
fn inline_datums_are_those_with_their_bytes() {
    let (_directory, cli) =
        cli(r#"echo '{"aa#0":{"inlineDatumRaw":"d87980"},"bb#1":{"inlineDatumRaw":null},"cc#2":{}}'"#);
    assert_eq!(cli.datums("addr").unwrap(), [vec![0xd8, 0x79, 0x80]]);
}

#[test]
fn an_inline_datum_without_its_bytes_is_made_of_those_in_its_fields() {
    // The second output's strings are cut within a byte; the others have none, or no hex.
    let outputs = serde_json::json!({
        "aa#0": {"inlineDatum": {"constructor": 0, "fields": [{"bytes": "6162"}, {"int": 5}, {"bytes": "63"}]}},
        "bb#0": {"inlineDatum": {"constructor": 0, "fields": [{"bytes": "616"}, {"bytes": "263"}]}},
        "cc#0": {"inlineDatum": null},
        "dd#0": {"inlineDatum": {"fields": [{"bytes": "zz"}]}},
        "ee#0": {"inlineDatum": {"list": []}},
        "ff#0": {"inlineDatum": {"fields": [{"bytes": "00"}]}, "inlineDatumRaw": "d87980"},
    });
    let (_directory, cli) = cli(&format!("echo '{outputs}'"));
    let datums = cli.datums("addr").unwrap();
    let payloads: Vec<_> = datums.iter().map(|datum| payload(datum).unwrap()).collect();
    assert_eq!(payloads, [b"abc".to_vec(), b"abc".to_vec(), Vec::new()]);
}

#[test]
fn a_program_that_is_absent_fails_hangs_or_talks_nonsense_is_an_error() {
    let absent = CardanoCli::new("/nowhere/cardano-cli", "/run/node.socket", CardanoNetwork::MainNet);
    assert!(matches!(absent.view(), Err(ChainError::Unreachable { .. })));
    for (script, text) in [
        ("echo 'no socket' >&2; exit 1", "no socket"),
        ("sleep 100", "has not ended after 300 ms"),
        ("echo '{\"era\":5}'", "cannot be read"),
        ("echo '{\"era\":\"Conway\",\"epoch\":-1}'", "cannot be read"),
        ("echo '{\"era\":\"Conway\",\"epoch\":1,\"hash\":\"zz\"}'", "none"),
        ("echo", "cannot be read"),
    ] {
        let (_directory, cli) = cli(script);
        let error = cli.with_patience(Duration::from_millis(300)).stakes().unwrap_err().to_string();
        assert!(error.contains(text), "{script}: {error}");
    }
}
