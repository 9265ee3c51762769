//! Keys in PKCS#11 tokens: SoftHSM2 with tokens of each test's own, the real binary in front of them.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use k256::ecdsa::signature::Verifier as _;
use semel_devnet_tendermint::consensus::Encoding;
use semel_devnet_tendermint::consensus::canonical::vote_sign_bytes;
use semel_devnet_tendermint::privval::{Family, Listener, SignerKey};
use stage::{PATIENCE, Signer, Stage, called, node, prevote, refusal};
use std::path::{Path, PathBuf};
use std::process::Command;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A directory of tokens; None where SoftHSM2 is not installed.
fn tokens(name: &str) -> Option<Stage> {
    let is_there = |tool: &str| Command::new(tool).arg("--help").output().is_ok();
    if !Path::new(MODULE).exists() || !is_there("softhsm2-util") || !is_there("pkcs11-tool") {
        stage::skip(name, "softhsm2 and opensc are not installed");
        return None;
    }
    let stage = Stage::new();
    std::fs::create_dir(stage.path("tokens")).unwrap();
    let place = stage.path("tokens").display().to_string();
    stage.secret(
        "softhsm2.conf",
        &format!("directories.tokendir = {place}\nobjectstore.backend = file\nlog.level = ERROR\n"),
    );
    stage.secret("pin", "1234\n");
    Some(stage)
}

fn tool(stage: &Stage, program: &str, words: &str) {
    let mut command = Command::new(program);
    command.args(words.split(' ')).env("SOFTHSM2_CONF", stage.path("softhsm2.conf"));
    let done = command.output().unwrap();
    assert!(done.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&done.stderr));
}

fn token(stage: &Stage, label: &str) {
    tool(stage, "softhsm2-util", &format!("--init-token --free --label {label} --pin 1234 --so-pin 4321"));
}

fn key(stage: &Stage, token: &str, kind: &str, label: &str, id: &str) {
    let words = format!("--module {MODULE} --token-label {token} --login --pin 1234 --keypairgen --key-type {kind}");
    tool(stage, "pkcs11-tool", &format!("{words} --label {label} --id {id}"));
}

fn config(stage: &Stage, node: &Listener, token: &str, key: &str) -> PathBuf {
    let dir = stage.path("").display().to_string();
    let text = format!(
        "[[chain]]\nid = \"{chain}\"\nkey_format = {{ type = \"hex\" }}\nstate_file = \"{dir}state.json\"\n\n\
         [[validator]]\nchain_id = \"{chain}\"\naddr = \"{}\"\nsecret_key = \"{dir}identity.key\"\n\n\
         [[providers.pkcs11]]\nmodule = \"{MODULE}\"\n{token}\npin_file = \"{dir}pin\"\nkeys = [{{ chain_ids = [\"{chain}\"], {key} }}]\n",
        node.address(),
        chain = stage::CHAIN,
    );
    stage.secret("tmkms.toml", &text)
}

fn start(stage: &Stage, config: &Path) -> Signer {
    let mut command = stage::semel();
    command.args(["kms", "start", "-c"]).arg(config).args(stage.ledger());
    Signer::spawn({
        command.env("SOFTHSM2_CONF", stage.path("softhsm2.conf"));
        command
    })
}

#[test]
fn votes_are_signed_with_a_key_in_a_token_found_by_label_id_or_as_the_only_one() {
    let Some(stage) = tokens("votes_are_signed_with_a_key_in_a_token") else { return };
    token(&stage, "one");
    key(&stage, "one", "EC:edwards25519", "validator", "01");
    for (height, words) in (1..).zip([
        "label = \"validator\"",
        "id = \"01\"",
        "label = \"validator\", id = \"01\"",
        "type = \"consensus\"",
    ]) {
        let node = node(Family::V034);
        let signer = start(&stage, &config(&stage, &node, "token_label = \"one\"", words));
        called(&node).sign_vote(&prevote(height, 1)).unwrap();
        signer.said("[keyring:pkcs11] added consensus Ed25519 key");
    }
}

#[test]
fn a_secp256k1_key_of_a_token_signs_with_the_lower_s() {
    let Some(stage) = tokens("a_secp256k1_key_of_a_token") else { return };
    token(&stage, "one");
    key(&stage, "one", "EC:secp256k1", "account", "02");
    let node = node(Family::V034);
    let _signer =
        start(&stage, &config(&stage, &node, "token_label = \"one\"", "label = \"account\", type = \"account\""));
    let mut remote = node.accept(PATIENCE).unwrap();
    let SignerKey::Secp256k1(public) = remote.pub_key().unwrap() else { unreachable!("not secp256k1") };
    let public = k256::ecdsa::VerifyingKey::from_sec1_bytes(&public).unwrap();
    for height in 1..=20 {
        let signed = remote.ask_vote(&prevote(height, 1)).unwrap();
        let signature = k256::ecdsa::Signature::from_slice(&signed.signature).unwrap();
        assert!(signature.normalize_s().is_none());
        public.verify(&vote_sign_bytes(Encoding::Protobuf, stage::CHAIN, &signed.vote), &signature).unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_token_is_said_at_the_start_and_a_wrong_pin_is_tried_once() {
    let Some(stage) = tokens("what_is_wrong_with_a_token") else { return };
    for label in ["one", "twin", "twin"] {
        token(&stage, label);
    }
    key(&stage, "one", "EC:edwards25519", "validator", "01");
    key(&stage, "one", "EC:edwards25519", "again", "02");
    key(&stage, "one", "EC:secp256k1", "account", "03");
    let rows = [
        ("no such token", "token_label = \"none\"", "id = \"01\"", "1234", "P11-0002"),
        ("two tokens", "token_label = \"twin\"", "id = \"01\"", "1234", "P11-0003"),
        ("a wrong PIN", "token_label = \"one\"", "id = \"01\"", "9999", "P11-0004"),
        ("no such key", "token_label = \"one\"", "label = \"none\"", "1234", "P11-0006"),
        ("several keys", "token_label = \"one\"", "type = \"consensus\"", "1234", "P11-0007"),
        ("a key of another kind", "token_label = \"one\"", "id = \"03\"", "1234", "P11-0008"),
    ];
    for (name, token, key, pin, code) in rows {
        stage.secret("pin", pin);
        let node = node(Family::V034);
        let mut signer = start(&stage, &config(&stage, &node, token, key));
        // The unit does not start again what ends with 4: a token locks itself after a few wrong PINs.
        let exit = if code == "P11-0004" { 4 } else { 1 };
        assert_eq!(signer.ended().code(), Some(exit), "{name}: {}", signer.text());
        assert!(signer.text().contains(code), "{name}: {}", signer.text());
        assert!(!signer.text().contains("9999"), "the PIN is in the log: {}", signer.text());
    }
    stage.secret("pin", "1234");
    let node = node(Family::V034);
    stage.secret("none.so", "no library");
    let path = config(&stage, &node, "token_label = \"one\"", "id = \"01\"");
    stage.edit("tmkms.toml", MODULE, &stage.path("none.so").display().to_string());
    let mut signer = start(&stage, &path);
    assert_eq!(signer.ended().code(), Some(1));
    assert!(signer.text().contains("P11-0001"), "{}", signer.text());
}

#[test]
fn the_unit_tries_no_pin_twice_and_is_never_stopped_by_a_device_that_is_away() {
    let unit = include_str!("../../../packaging/systemd/semel-kms.service");
    let (head, service) = unit.split_once("[Service]").unwrap();
    assert!(head.lines().any(|line| line == "StartLimitIntervalSec=0"), "{unit}");
    assert!(service.lines().any(|line| line == "RestartPreventExitStatus=3 4"), "{unit}");
}

#[test]
fn a_configuration_says_each_slip_about_a_token() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let rows = [
        ("token_label = \"one\"", "token_label = \"one\"\nslot = 1", "has both `token_label` and `slot`"),
        ("token_label = \"one\"\n", "", "has none of `token_label`, `serial`, `slot`"),
        ("pin_file", "pin = \"1\"\npin_file", "has both `pin_file` and `pin`"),
        ("id = \"01\"", "id = \"xyz\"", "not in hexadecimal digits"),
        ("module = ", "modul = ", "did you mean"),
    ];
    for (from, to, words) in rows {
        stage.secret("pin", "1234");
        config(&stage, &node, "token_label = \"one\"", "id = \"01\"");
        stage.edit("tmkms.toml", from, to);
        let checked = stage.run(&["kms", "config", "check", "-c", "DIR/tmkms.toml"]);
        assert!(checked.code == 1 && checked.stderr.contains(words), "{to}: {checked:?}");
    }
}

#[test]
fn a_token_that_is_gone_is_refused_at_once_and_the_session_goes_on() {
    let Some(stage) = tokens("a_token_that_is_gone") else { return };
    token(&stage, "one");
    key(&stage, "one", "EC:edwards25519", "validator", "01");
    let node = node(Family::V034);
    let _signer = start(&stage, &config(&stage, &node, "token_label = \"one\"", "id = \"01\""));
    let mut remote = called(&node);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    // The objects of the token are taken away under the module.
    tool(
        &stage,
        "pkcs11-tool",
        &format!("--module {MODULE} --token-label one --login --pin 1234 --delete-object --type privkey --id 01"),
    );
    let (code, words) = refusal(remote.sign_vote(&prevote(2, 1)));
    assert!(code == 1 && words.contains("token \"one\""), "{words}");
    refusal(remote.sign_vote(&prevote(3, 1)));
    remote.ping().unwrap();
    // Another key under the same words is another key.
    key(&stage, "one", "EC:edwards25519", "validator", "01");
    for height in 4..7 {
        refusal(remote.sign_vote(&prevote(height, 1)));
        std::thread::sleep(std::time::Duration::from_millis(400));
    }
}

#[test]
fn the_plan_of_an_upgrade_asks_a_token_for_its_key() {
    let Some(stage) = tokens("the_plan_of_an_upgrade_asks_a_token_for_its_key") else { return };
    token(&stage, "one");
    key(&stage, "one", "EC:edwards25519", "validator", "01");
    let node = node(Family::V034);
    let step = r#""round":"0","step":2,"block_id":{"hash":"","parts":{"total":0,"hash":""}}"#;
    stage.secret("state.json", &format!(r#"{{"height":"5",{step}}}"#));
    let rows = [
        ("label = \"validator\"", "1234", "pass  UPGRADE-0013  key \"validator\" is in token \"one\""),
        ("label = \"nobody\"", "1234", "FAIL  UPGRADE-0013  token \"one\""),
        ("label = \"validator\"", "4711", "the PIN is wrong; it is not tried again"),
    ];
    for (words, pin, expected) in rows {
        config(&stage, &node, "token_label = \"one\"", words);
        stage.secret("pin", &format!("{pin}\n"));
        let mut command = stage::semel();
        let configs = stage.path("tmkms.toml");
        command.args(["upgrade", "plan", "--from", stage::CHAIN, "--to", "new-1", "--dry-run", "--exec-template"]);
        command.arg("docker {action} {unit}").arg("--configs").arg(configs);
        let done = command.env("SOFTHSM2_CONF", stage.path("softhsm2.conf")).output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        assert!(said.contains(expected), "{said}");
        assert_eq!(done.status.success(), expected.starts_with("pass"), "{said}");
    }
}
