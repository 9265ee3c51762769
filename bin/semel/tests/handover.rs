//! The operator's verbs on the ledger: looking while it is written, checking it, and moving a key from one host to another.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod stage;

use semel_devnet_tendermint::privval::Family;
use stage::{CHAIN, Ran, Stage, called, node, prevote, refusal};
use std::fs;

/// A host where a key signed up to this height.
fn signed(height: u64) -> Stage {
    let stage = Stage::new();
    let node = node(Family::V034);
    let mut signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    for height in 1..=height {
        remote.sign_vote(&prevote(height, 1)).unwrap();
    }
    refusal(remote.sign_vote(&prevote(height, 2)));
    signer.signal(rustix::process::Signal::TERM);
    assert!(signer.ended().success());
    stage
}

fn semel(stage: &Stage, words: &str) -> Ran {
    let words: Vec<&str> = words.split(' ').collect();
    let (verb, rest) = words.split_at(2);
    let place = ["--ledger", "DIR/ledger"];
    let volatile: &[&str] = if verb[0] == "handover" { &["--i-accept-volatile-ledger"] } else { &[] };
    stage.run(&[verb, &place, volatile, rest].concat())
}

#[test]
fn a_ledger_is_looked_into_while_it_is_written() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let _signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    for height in 1..=3 {
        remote.sign_vote(&prevote(height, 1)).unwrap();
    }
    refusal(remote.sign_vote(&prevote(3, 2)));
    let shown = semel(&stage, "ledger show");
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(
        shown.stdout.contains("8A88E3DD7409") && shown.stdout.contains(CHAIN) && shown.stdout.contains("prevote #3/0"),
        "{shown:?}"
    );
    let json: serde_json::Value = serde_json::from_str(&semel(&stage, "ledger show --json").stdout).unwrap();
    assert_eq!((json["keys"][0]["height"].as_u64(), json["keys"][0]["handed_over"].as_bool()), (Some(3), Some(false)));
    let history = semel(&stage, "ledger history --height 3");
    assert!(history.stdout.contains("admitted") && history.stdout.contains("refused (conflict)"), "{history:?}");
    assert_eq!(semel(&stage, "ledger history --limit 1").stdout.lines().count(), 1);
    assert_eq!(semel(&stage, "ledger history --chain other-1").stdout, "");
    let verified = semel(&stage, "ledger verify");
    assert!(verified.code == 0 && verified.stderr.contains("every one is whole"), "{verified:?}");
    let tmkms = stage.run_tmkms(&["ledger", "show", "--ledger", "DIR/ledger"]);
    assert_eq!(tmkms.stdout, shown.stdout);
    remote.sign_vote(&prevote(4, 1)).unwrap();
}

#[test]
fn a_history_names_each_key_and_what_happened_to_it() {
    let stage = signed(2);
    let history = semel(&stage, "ledger history");
    assert!(history.stdout.lines().all(|line| line.contains("  8A88E3DD7409  ")), "{history:?}");
    assert!(history.stdout.contains("key added") && !history.stdout.contains("taken back"), "{history:?}");
    assert_eq!(semel(&stage, "handover export -o DIR/h.json").code, 0);
    assert_eq!(semel(&stage, "handover accept DIR/h.json").code, 0);
    let json: serde_json::Value = serde_json::from_str(&semel(&stage, "ledger history --json").stdout).unwrap();
    let records = json["records"].as_array().unwrap();
    let whats: Vec<&str> = records.iter().map(|record| record["what"].as_str().unwrap()).collect();
    for what in ["handed over", "taken back"] {
        assert!(whats.contains(&what), "{what}: {json}");
    }
    for record in records {
        assert_eq!(record["key"].as_str().map(str::len), Some(64), "{record}");
        assert_eq!(
            record["position"].is_null(),
            ["key added", "handed over", "taken back"].contains(&record["what"].as_str().unwrap())
        );
    }
}

#[test]
fn a_key_is_not_let_go_when_its_file_cannot_be_made() {
    let stage = signed(2);
    let failed = semel(&stage, "handover export -o DIR/nosuch/h.json");
    assert!(failed.code == 1 && failed.stderr.contains("HANDOVER-0001"), "{failed:?}");
    assert!(failed.stderr.contains("not let go"), "{failed:?}");
    assert!(!semel(&stage, "ledger show").stdout.contains("handed over"));
    assert_eq!(semel(&stage, "handover export -o DIR/h.json").code, 0);
    let left: Vec<_> = fs::read_dir(stage.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".h.json")), "{left:?}");
    let missing = semel(&stage, "handover accept DIR/nosuch.json");
    assert!(missing.stderr.contains("name the file that `handover export` made"), "{missing:?}");
}

#[test]
fn a_damaged_ledger_is_unsafe_and_a_missing_one_is_an_error() {
    let stage = signed(3);
    let segment = fs::read_dir(stage.path("ledger/volume-0")).unwrap().map(|entry| entry.unwrap().path());
    let newest = segment
        .filter(|path| path.to_string_lossy().contains("segment"))
        .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    let path = newest.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[700] ^= 1;
    fs::write(&path, bytes).unwrap();
    let verified = semel(&stage, "ledger verify");
    assert!(verified.code == 3 && verified.stderr.contains("LEDGER-0003"), "{verified:?}");
    let none = stage.run(&["ledger", "show", "--ledger", "DIR/none"]);
    assert!(none.code == 1 && none.stderr.contains("there is no ledger"), "{none:?}");
}

#[test]
fn a_key_that_was_handed_over_is_dead_at_the_source_and_signs_above_its_last_height_at_the_target() {
    let (source, target) = (signed(10), Stage::new());
    assert!(semel(&source, "handover export -o DIR/out.json --dry-run").stderr.contains("Would bury"));
    assert!(!source.path("out.json").exists());
    let out = semel(&source, &format!("handover export --chain {CHAIN} -o DIR/out.json"));
    assert_eq!(out.code, 0, "{out:?}");
    let again = semel(&source, "handover export -o DIR/out.json");
    assert!(again.code == 1 && again.stderr.contains("HANDOVER-0001"), "never written over: {again:?}");
    // The source refuses to start, and says why.
    let node = node(Family::V034);
    let mut dead = source.start(&source.config(&[node.address().to_string()]));
    assert_eq!(dead.ended().code(), Some(3), "{}", dead.text());
    dead.said("HANDOVER-0006");
    // A ledger that is let go and whose file was lost makes it again.
    fs::remove_file(source.path("out.json")).unwrap();
    assert_eq!(semel(&source, "handover export -o DIR/out.json").code, 0);
    fs::copy(source.path("out.json"), target.path("in.json")).unwrap();
    assert!(semel(&target, "handover accept DIR/in.json --dry-run").stderr.contains("Would accept"));
    assert!(!target.path("ledger").exists());
    for _ in 0..2 {
        let accepted = semel(&target, "handover accept DIR/in.json");
        assert!(
            accepted.code == 0 && accepted.stdout.contains("signed up to prevote #10/0, signs here from #14 on"),
            "{accepted:?}"
        );
    }
    let signer = target.start(&target.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    for height in [1, 10, 11, 13] {
        refusal(remote.sign_vote(&prevote(height, 7)));
    }
    remote.sign_vote(&prevote(14, 7)).unwrap();
    drop((remote, signer));
    // The same file is not the last word any more: the key signed higher here.
    let late = semel(&target, "handover accept DIR/in.json");
    assert!(late.code == 3 && late.stderr.contains("HANDOVER-0005"), "{late:?}");
    // Taken back at the source, with the floor that it had.
    let back = semel(&source, "handover accept DIR/out.json");
    assert!(back.code == 0 && back.stderr.contains("Taken back"), "{back:?}");
    let node = stage::node(Family::V034);
    let _signer = source.start(&source.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    refusal(remote.sign_vote(&prevote(13, 7)));
    remote.sign_vote(&prevote(14, 7)).unwrap();
}

#[test]
fn a_key_that_somebody_signs_with_is_not_handed_over() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let _signer = stage.start(&stage.config(&[node.address().to_string()]));
    called(&node).sign_vote(&prevote(1, 1)).unwrap();
    let out = semel(&stage, "handover export -o DIR/out.json");
    assert!(out.code == 3 && out.stderr.contains("LEDGER-0002"), "{out:?}");
    assert!(!stage.path("out.json").exists());
    called(&node).sign_vote(&prevote(2, 1)).unwrap();
}

#[test]
fn a_handover_file_that_is_no_whole_one_is_refused_with_its_code() {
    let (source, target) = (signed(10), Stage::new());
    assert_eq!(semel(&source, "handover export -o DIR/out.json").code, 0);
    let good = source.read("out.json");
    let rows = [
        (String::new(), "HANDOVER-0002"),
        ("{}".into(), "HANDOVER-0002"),
        ("[1, 2]".into(), "HANDOVER-0002"),
        (good[..good.len() / 2].into(), "HANDOVER-0002"),
        (good.replace("semel-handover", "semel-backup"), "HANDOVER-0002"),
        (good.replace("\"made\"", "\"more\": 1, \"made\""), "HANDOVER-0002"),
        (
            good.replace("    10,", "    1,").replace("          10,", "          1,").replace("10", "9"),
            "HANDOVER-0003",
        ),
        (good.replace(CHAIN, "test-2"), "HANDOVER-0003"),
        (good.replace("8A88", "8A89"), "HANDOVER-0003"),
        (good.replace("\"schema\": 1", "\"schema\": 2"), "HANDOVER-0004"),
    ];
    for (text, code) in rows {
        fs::write(target.path("in.json"), &text).unwrap();
        let accepted = semel(&target, "handover accept DIR/in.json");
        assert!(accepted.code == 1 && accepted.stderr.contains(code), "{code}: {accepted:?}\n{text}");
    }
    let none = semel(&target, "handover accept DIR/none.json");
    assert!(none.code == 1 && none.stderr.contains("HANDOVER-0001"), "{none:?}");
    assert!(!target.path("ledger").exists());
}
