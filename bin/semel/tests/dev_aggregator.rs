//! `semel dev` and its Cardano network: certificates of every type, alone and beside the Tendermint network, and what it says when
//! they stay away.

mod stage;

use serde_json::Value;
use stage::{Signer, Stage, semel};
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// Short, with room for a machine that has other work.
const QUICK: [&str; 4] = ["--epoch-time", "5", "--pools", "3"];
const KINDS: [&str; 5] = [
    "CardanoBlocksTransactions",
    "CardanoDatabase",
    "CardanoStakeDistribution",
    "CardanoTransactions",
    "MithrilStakeDistribution",
];

#[test]
fn certificates_of_every_type_are_sealed_and_told_to_programs() {
    let stage = Stage::new();
    let words = ["dev", "--duty", "aggregator", "--certificates", "16", "--json", "--home", "DIR/net"];
    let ran = stage.run(&[&words[..], &QUICK].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, events) = lines.split_last().unwrap();
    assert_eq!(events[0]["event"], "serving");
    assert!(events[0]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{events:?}");
    let summary = &summary["certify"];
    for key in ["url", "genesis_verification_key", "ancillary_verification_key"] {
        assert_eq!(events[0][key], summary[key], "{key}");
    }
    let certificates: Vec<_> = events.iter().filter(|event| event["event"] == "certificate").collect();
    assert_eq!(certificates[0]["type"], "Genesis");
    let hashes: BTreeSet<_> = certificates.iter().map(|one| one["hash"].as_str().unwrap()).collect();
    assert_eq!(hashes.len(), certificates.len(), "told once each");
    for kind in KINDS {
        let count = certificates.iter().filter(|one| one["type"] == kind).count();
        assert!(count > 0 && summary["by_type"][kind] == count, "{kind}: {summary}");
    }
    let of_transactions = certificates.iter().filter(|one| one["type"] == "CardanoTransactions");
    assert!(of_transactions.clone().all(|one| one["block"].as_str().unwrap().len() == 64));
    assert!(of_transactions.clone().any(|one| one["transaction"].as_str().unwrap().len() == 64));
    assert_eq!(
        (summary["certificates"].as_u64().unwrap() >= 16, &summary["epochs_without_every_type"]),
        (true, &0.into())
    );
    // Nobody signs alone.
    assert!(certificates.iter().skip(1).all(|one| one["signers"].as_u64().unwrap() > 1), "{certificates:?}");
    assert!(stage.path("net/cardano/node/db/immutable").is_dir(), "what --home is for");
    assert!(!stage.path("net/ledger").exists(), "the other network does not run");
}

#[test]
fn both_networks_run_side_by_side_and_only_one_where_one_is_asked_for() {
    let stage = Stage::new();
    let ran = stage.run(&[&["dev", "--certificates", "6", "--blocks", "3"][..], &QUICK].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    for line in
        ["       Block #3", "      Sealed Genesis", "     Serving http://", " Genesis key 5b", "   Ancillary 5b"]
    {
        assert!(ran.stderr.contains(line), "{line}: {ran:?}");
    }
    let summaries: Vec<_> = ran.stdout.lines().collect();
    assert!(matches!(summaries[..], [blocks, certificates]
        if blocks.contains("0 double signatures") && certificates.contains("0 without a certificate of every type")));
    let alone = stage.run(&["dev", "--duty", "kms", "--blocks", "2", "--json", "--home", "DIR/net"]);
    let summary: Value = serde_json::from_str(&alone.stdout).unwrap();
    assert!(alone.code == 0 && summary["certify"].is_null() && !stage.path("net/cardano").exists(), "{alone:?}");
}

#[test]
fn an_epoch_that_passes_without_a_certificate_ends_it_with_1() {
    let stage = Stage::new();
    let mut command = semel();
    command
        .args(["dev", "--duty", "aggregator", "--certificates", "1000", "--home"])
        .arg(stage.path("net"))
        .args(QUICK);
    let mut network = Signer::spawn(command);
    network.said("Sealed CardanoDatabase");
    // From now on nobody can tell what the database is; everything else goes on.
    let lost = stage.path("net/cardano/node/db/immutable/00001.chunk");
    fs::remove_file(lost).unwrap();
    let begun = Instant::now();
    while network.is_running() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", network.text());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(network.ended().code(), Some(1), "{}", network.text());
    network.said("passed without a certificate of CardanoDatabase");
    assert!(!network.text().contains("certificate of CardanoStakeDistribution"), "{}", network.text());
}

#[test]
fn options_of_a_network_that_does_not_run_are_misuse() {
    let stage = Stage::new();
    for words in [
        &["--duty", "aggregator", "--blocks", "3"][..],
        &["--duty", "aggregator", "--attack"],
        &["--duty", "kms", "--certificates", "3"],
        &["--duty", "kms", "--immutable", "."],
        &["--epoch-time", "0"],
        &["--pools", "1"],
    ] {
        let ran = stage.run(&[&["dev"], words].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{words:?}: {ran:?}");
    }
    let ran = stage.run(&["dev", "--duty", "aggregator", "--immutable", "DIR"]);
    assert!(ran.code == 1 && ran.stderr.contains("there is no 00000.chunk in DIR"), "{ran:?}");
}
