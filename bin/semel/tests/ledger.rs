//! What an operator changes in a ledger: floors from other signers and for them.

mod stage;

use semel_devnet_tendermint::privval::Family;
use stage::{CHAIN, Ran, Stage, called, node, prevote, refusal};
use std::fs;

/// The public key of [`Stage::new`]'s consensus key.
const KEY: &str = "8A88E3DD7409F195FD52DB2D3CBA5D72CA6709BF1D94121BF3748801B40F6F5C";

/// A chain of Ethereum, and a key on it.
const ROOT: &str = "0x04700007fabc8282644aed6d1c7c9e21d38a03a0c4ba193f3afe428824b3a673";
const VALIDATOR: &str =
    "0xb845089a1457f811bfc000588fbb4e713669be8ce060ea6be3c6ece09afc3794106c91ca73acda5e5457122d58723bed";

fn ledger(stage: &Stage, words: &str) -> Ran {
    let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
    let mut arguments = vec!["ledger", verb, "--ledger", "DIR/ledger"];
    if ["import", "fsck", "adopt", "lift"].contains(&verb) {
        arguments.push("--i-accept-volatile-ledger");
    }
    arguments.extend(rest.split(' ').filter(|word| !word.is_empty()));
    stage.run(&arguments)
}

fn interchange(slot: u64, source: u64, target: u64) -> String {
    format!(
        r#"{{"metadata": {{"interchange_format_version": "5", "genesis_validators_root": "{ROOT}"}}, "data": [{{"pubkey": "{VALIDATOR}",
        "signed_blocks": [{{"slot": "{slot}"}}], "signed_attestations": [{{"source_epoch": "{source}", "target_epoch": "{target}"}}]}}]}}"#
    )
}

#[test]
fn floors_come_from_every_signer_and_go_to_every_signer() {
    let stage = Stage::new();
    let files = [
        ("tmkms", r#"{"height":"100","round":"0","step":1,"block_id":null}"#, "prevote #100/0"),
        ("cometbft", r#"{"height":"200","round":1,"step":3}"#, "precommit #200/1"),
        ("horcrux", r#"{"height":"300","round":"0","step":2,"signature":null,"signbytes":"00"}"#, "prevote #300/0"),
    ];
    for (format, text, position) in files {
        fs::write(stage.path("in.json"), text).unwrap();
        let words = format!("import --key {KEY} --chain {CHAIN} DIR/in.json");
        let dry = ledger(&stage, &format!("{words} --dry-run"));
        assert!(dry.code == 0 && dry.stdout.contains(position), "{dry:?}");
        assert!(dry.stderr.contains("Would raise 1 floors"), "{dry:?}");
        let before = ledger(&stage, "show").stdout;
        assert!(!before.contains(position), "{before}");
        let done = ledger(&stage, &format!("{words} --format {format}"));
        assert!(done.code == 0 && done.stderr.contains("Raised 1 floors"), "{done:?}");
        assert!(ledger(&stage, "show").stdout.contains(position));
        assert!(ledger(&stage, &words).stderr.contains("Unchanged"));
        let out = ledger(&stage, &format!("export --format {format}"));
        fs::write(stage.path("out.json"), &out.stdout).unwrap();
        let back = ledger(&stage, &format!("import DIR/out.json --format {format} --chain {CHAIN} --key 8A88"));
        // Nobody knows what was signed there, and a file without a block would say nil: all of the height is closed.
        assert!(back.code == 0 && back.stderr.contains("Raised 1 floors"), "{back:?}\n{out:?}");
    }
    // A lower one changes nothing.
    fs::write(stage.path("in.json"), r#"{"height":"7","round":"0","step":1,"block_id":null}"#).unwrap();
    let lower = ledger(&stage, &format!("import --key 8A88 --chain {CHAIN} DIR/in.json"));
    assert!(
        lower.stdout.contains("everything up to height #300  prevote #7/0") && lower.stderr.contains("Unchanged"),
        "{lower:?}"
    );
    let file = ledger(&stage, "export -o DIR/made.json");
    assert!(file.code == 0 && stage.read("made.json").contains("\"height\":\"300\""), "{file:?}");
    let again = ledger(&stage, "export -o DIR/made.json");
    assert!(again.code == 1 && again.stderr.contains("TRANSFER-0004"), "{again:?}");
}

#[test]
fn an_interchange_file_goes_in_and_comes_out() {
    let stage = Stage::new();
    fs::write(stage.path("in.json"), interchange(81_952, 2290, 3007)).unwrap();
    let dry = ledger(&stage, "import DIR/in.json --dry-run");
    assert!(dry.stdout.contains("attestation 2290 → 3007") && dry.stderr.contains("Would raise 2 floors"), "{dry:?}");
    assert!(!stage.path("ledger").exists());
    let done = ledger(&stage, "import DIR/in.json");
    assert!(done.code == 0 && done.stderr.contains("Raised 2 floors"), "{done:?}");
    fs::write(stage.path("in.json"), interchange(80_000, 2291, 3000)).unwrap();
    assert!(ledger(&stage, "import DIR/in.json").stdout.contains("attestation 2291 → 3007"), "each rises by itself");
    let out: serde_json::Value = serde_json::from_str(&ledger(&stage, "export --format eip3076").stdout).unwrap();
    let at = |path: &str| out.pointer(path).unwrap().as_str().unwrap();
    assert_eq!(at("/data/0/pubkey"), VALIDATOR);
    assert_eq!(
        (at("/data/0/signed_blocks/0/slot"), at("/data/0/signed_attestations/0/target_epoch")),
        ("81952", "3007")
    );
    let chain = ledger(&stage, &format!("import DIR/in.json --chain {}", ROOT.replace("0x04", "0x05")));
    assert!(chain.code == 1 && chain.stderr.contains("EIP3076-0009"), "{chain:?}");
}

#[test]
fn a_file_that_cannot_be_taken_in_changes_nothing_and_says_why() {
    let stage = Stage::new();
    let tmkms = r#"{"height":"100","round":"0","step":1,"block_id":null}"#;
    let named = format!("--key {KEY} --chain {CHAIN}");
    let rows = [
        ("", "", 1, "STATE-0001"),
        ("{\"height\":", "", 1, "STATE-0002"),
        ("hello", "", 1, "STATE-0003"),
        (tmkms, "", 2, "TRANSFER-0002"),
        (tmkms, "--key 8A88", 2, "TRANSFER-0002"),
        (tmkms, &format!("{named} --format horcrux"), 2, "TRANSFER-0003"),
        (tmkms, "--format eip3076", 1, "EIP3076-00"),
        (&interchange(1, 1, 2), &format!("{named} --format tmkms"), 2, "TRANSFER-0003"),
        (&interchange(1 << 50, 1, 2), "", 1, "EIP3076-0010"),
        (&interchange(1, 1, 2), "--chain test-1", 2, "TRANSFER-0002"),
        (r#"{"height":"9","round":"0","step":1,"block_id":null,"chain_id":"other-1"}"#, &named, 3, "STATE-0008"),
    ];
    for (text, words, code, name) in rows {
        fs::write(stage.path("in.json"), text).unwrap();
        let ran = ledger(&stage, &format!("import DIR/in.json {words}"));
        assert!(ran.code == code && ran.stderr.contains(name), "{name}: {ran:?}\n{text}");
        assert!(!stage.path("ledger").exists(), "{text}");
    }
    let none = ledger(&stage, "import DIR/none.json");
    assert!(none.code == 1 && none.stderr.contains("TRANSFER-0001"), "{none:?}");
}

#[test]
fn a_key_in_use_is_not_touched_and_an_imported_one_watches_first() {
    let stage = Stage::new();
    fs::write(stage.path("in.json"), r#"{"height":"100","round":"0","step":1,"block_id":null}"#).unwrap();
    let words = format!("import --key {KEY} --chain {CHAIN} DIR/in.json");
    assert_eq!(ledger(&stage, &words).code, 0);
    let other = node(Family::V034);
    let config = stage.config(&[other.address().to_string()]);
    let signer = stage.start(&config);
    signer.said("this key signs nothing yet: its floor was imported");
    let mut remote = called(&other);
    assert!(refusal(remote.sign_vote(&prevote(200, 1))).1.contains("GUARD-0007"));
    fs::write(stage.path("in.json"), r#"{"height":"150","round":"0","step":1,"block_id":null}"#).unwrap();
    let busy = ledger(&stage, &words);
    assert!(busy.code == 3 && busy.stderr.contains("LEDGER-0002") && busy.stderr.contains("kms start"), "{busy:?}");
    assert_eq!(ledger(&stage, &format!("{words} --dry-run")).code, 0, "looking takes no lock");
    drop((remote, signer));
    // Said so: it signs at once.
    let done = ledger(&stage, &format!("{words} --no-hold"));
    assert!(done.code == 0 && done.stderr.contains("no key watches"), "{done:?}");
    let _signer = stage.start(&config);
    let mut remote = called(&other);
    refusal(remote.sign_vote(&prevote(150, 1)));
    remote.sign_vote(&prevote(200, 1)).unwrap();
}

#[test]
fn a_floor_rises_also_where_a_bound_above_it_was_only_promised() {
    let stage = Stage::new();
    let other = node(Family::V034);
    let config = stage.config(&[other.address().to_string()]);
    let signer = stage.start_with(&config, &["--durability", "reserve"]);
    let mut remote = called(&other);
    for height in 1..=5 {
        remote.sign_vote(&prevote(height, 1)).unwrap();
    }
    signer.kill();
    // Another signer went on for two heights, which is less than what was promised.
    fs::write(stage.path("in.json"), r#"{"height":"7","round":"0","step":1,"block_id":null}"#).unwrap();
    let done = ledger(&stage, &format!("import --key {KEY} --chain {CHAIN} DIR/in.json"));
    assert!(done.code == 0 && done.stderr.contains("Raised 1 floors"), "{done:?}");
    let _signer = stage.start_with(&config, &["--durability", "reserve"]);
    let mut remote = called(&other);
    for height in 6..=7 {
        assert!(refusal(remote.sign_vote(&prevote(height, 1))).1.contains("GUARD-0001"), "{height}");
    }
    assert!(refusal(remote.sign_vote(&prevote(8, 1))).1.contains("GUARD-0007"), "it watches first");
}

#[test]
fn a_hold_is_lifted_by_words_that_name_the_risk_and_floors_stay() {
    let stage = Stage::new();
    fs::write(stage.path("in.json"), r#"{"height":"100","round":"0","step":1,"block_id":null}"#).unwrap();
    assert_eq!(ledger(&stage, &format!("import --key {KEY} --chain {CHAIN} DIR/in.json")).code, 0);
    let refused = ledger(&stage, "lift");
    assert!(refused.code == 3 && refused.stderr.contains("ADOPT-0002"), "{refused:?}");
    assert!(ledger(&stage, "lift --dry-run").stderr.contains("Would lift"));
    assert_eq!(ledger(&stage, "lift --chain other-1 --i-accept-double-sign-risk").code, 0);
    assert!(ledger(&stage, "show").stdout.contains("waits"));
    let lifted = ledger(&stage, "lift --i-accept-double-sign-risk");
    assert!(lifted.code == 0 && lifted.stderr.contains("Lifted"), "{lifted:?}");
    let other = node(Family::V034);
    let _signer = stage.start(&stage.config(&[other.address().to_string()]));
    let mut remote = called(&other);
    refusal(remote.sign_vote(&prevote(100, 1)));
    remote.sign_vote(&prevote(101, 1)).unwrap();
}
