//! `semel kms key`: listing keys, making and importing them, and letting one go.

mod stage;

use semel_devnet_tendermint::privval::Family;
use serde_json::Value;
use stage::{Stage, called, node, prevote};

const LEDGER: [&str; 3] = ["--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];

fn key<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["kms", "key"], words, &["-c", "DIR/tmkms.toml"], &LEDGER].concat()
}

#[test]
fn a_key_is_listed_with_its_address_and_floor_and_gone_once_it_is_let_go() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let bech32 =
        "{ type = \"bech32\", account_key_prefix = \"cosmospub\", consensus_key_prefix = \"cosmosvalconspub\" }";
    stage.edit("tmkms.toml", "{ type = \"hex\" }", bech32);
    let signer = stage.start(&config);
    called(&node).sign_vote(&prevote(7, 1)).unwrap();
    signer.kill();
    // A device that is not there keeps nobody from seeing the other keys.
    let more = stage.read("tmkms.toml")
        + "[[chain]]\nid = \"dev-1\"\nkey_format = { type = \"hex\" }\n[[providers.pkcs11]]\nmodule = \"/none.so\"\nslot = 1\npin = \"canary\"\n\
           keys = [{ chain_ids = [\"dev-1\"], label = \"x\" }]\n";
    stage.secret("tmkms.toml", &more);
    let listed = stage.run(&key(&["list", "--json"]));
    assert_eq!(listed.code, 0, "{listed:?}");
    let value: Value = serde_json::from_str(&listed.stdout).unwrap();
    let first = &value["keys"][0];
    // The seed is 32 times 01.
    assert_eq!(first["key"], "8A88E3DD7409F195FD52DB2D3CBA5D72CA6709BF1D94121BF3748801B40F6F5C");
    assert_eq!(first["address"], "34750F98BD59FCFC946DA45AAABE933BE154A4B5");
    assert!(first["consensus_address"].as_str().unwrap().starts_with("cosmosvalcons1"));
    assert_eq!((&first["state"], &first["floor"]), (&"held".into(), &"prevote #7/0".into()));
    assert!(value["keys"][1]["error"].is_string(), "{value}");
    let text = stage.run(&key(&["list"]));
    assert!(text.stdout.contains("held, prevote #7/0; softsign DIR/consensus.key"), "{text:?}");
    assert!(!format!("{listed:?}{text:?}").contains("canary"));

    let several = stage.run(&key(&["delete", "--history", "DIR/h.json"]));
    assert_eq!(several.code, 2, "{several:?}");
    let words = key(&["delete", "--chain", "test-1", "--history", "DIR/h.json", "--erase"]);
    let dry = stage.run(&[&words[..], &["--dry-run"]].concat());
    assert!(dry.code == 0 && dry.stderr.contains("Would erase DIR/consensus.key"), "{dry:?}");
    assert!(stage.path("consensus.key").exists() && !stage.path("h.json").exists());
    let backup = stage.read("consensus.key");
    let gone = stage.run(&words);
    assert!(gone.code == 0 && gone.stderr.contains("Erased DIR/consensus.key"), "{gone:?}");
    assert!(stage.read("h.json").contains("semel-handover") && !stage.path("consensus.key").exists());

    // The key is dead here even when its file comes back, until the history says otherwise.
    stage.secret("consensus.key", &backup);
    stage.config(&[node.address().to_string()]);
    let listed = stage.run(&key(&["list"]));
    assert!(listed.stdout.contains("let go, prevote #7/0"), "{listed:?}");
    let refused = stage.start_with(&config, &[]).ended();
    assert_eq!(refused.code(), Some(3));
    let taken = stage.run(&[&["handover", "accept", "DIR/h.json"][..], &LEDGER].concat());
    assert_eq!(taken.code, 0, "{taken:?}");
}

#[test]
fn a_key_that_signs_elsewhere_too_is_not_erased() {
    let stage = Stage::new();
    stage.config(&["tcp://127.0.0.1:1".into()]);
    stage.edit("tmkms.toml", "chain_ids = [\"test-1\"]", "chain_ids = [\"test-1\", \"test-2\"]");
    let more = stage.read("tmkms.toml") + "[[chain]]\nid = \"test-2\"\nkey_format = { type = \"hex\" }\n";
    stage.secret("tmkms.toml", &more);
    let ran = stage.run(&key(&["delete", "--chain", "test-1", "--history", "DIR/h.json", "--erase"]));
    assert!(ran.code == 2 && ran.stderr.contains("CONFIG-0202"), "{ran:?}");
    assert!(stage.path("consensus.key").exists() && !stage.path("h.json").exists());
}

#[test]
fn keys_are_made_and_never_written_over() {
    let stage = Stage::new();
    let made = stage.run(&["kms", "key", "create", "DIR/new.key"]);
    assert_eq!(made.code, 0, "{made:?}");
    let secret = stage.read("new.key");
    assert!(!format!("{made:?}").contains(secret.trim()));
    let again = stage.run(&["kms", "key", "create", "DIR/new.key"]);
    assert!(again.code == 1 && again.stderr.contains("KEY-0009"), "{again:?}");
    assert_eq!(stage.read("new.key"), secret);
    let bad = stage.run(&["kms", "key", "import", "DIR/consensus.key", "DIR/other.key"]);
    assert!(bad.code == 1 && !stage.path("other.key").exists(), "{bad:?}");
}
