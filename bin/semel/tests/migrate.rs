//! `semel kms migrate from`: keys come over from a node, tmkms, horcrux and cosmos/kms with all that they signed, and never while the
//! old signer runs.
//!
//! The files of the node are those that CometBFT v0.38.26 wrote in a run of five blocks; those of horcrux have the form of its own test
//! data (v3.3), those of cosmos/kms that of its template (v0.1).

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semel_devnet_tendermint::consensus::{BlockId, Vote, VoteKind};
use semel_devnet_tendermint::privval::Family;
use stage::{CHAIN, Stage, called, node, prevote, refusal, vote};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const COMET_CHAIN: &str = "test-chain-Orcy2y";

const COMET_KEY: &str = r#"{
  "address": "B922823F4B00CF52531457D67D8C7E47BE6F504C",
  "pub_key": {
    "type": "tendermint/PubKeyEd25519",
    "value": "j7HWcUwu57zlLpY4N+IKJ9n35JhfSG/cWanknBLKbSg="
  },
  "priv_key": {
    "type": "tendermint/PrivKeyEd25519",
    "value": "i/Ngwp51LWr+9I7avv5HN3fqDYcorU+0guIwrkEhreSPsdZxTC7nvOUuljg34gon2ffkmF9Ib9xZqeScEsptKA=="
  }
}"#;

const COMET_STATE: &str = r#"{
  "height": "5",
  "round": 0,
  "step": 3,
  "signature": "qj5yVQDTwRpQRZA/lJNs3o19AG/AuE6+qoW2knMISAUNy1PzBFZn9O1po4HZA90q7YVCvVWdUAVR/jh6SKeLBQ==",
  "signbytes": "76080211050000000000000022480A20873013716FFCFE26F28886335D8795803B77BDCEA0D535717F06A6F42F5A0D7F12240801122038A5290F1633CD584C50D1B78B12639CEE6334A222C54095BE376D0AE2F260B42A0C08EFA985D80610D8A7D5E3013211746573742D636861696E2D4F7263793279"
}"#;

/// What no output may hold: the seed, in base64 and in hex.
const SECRETS: [&str; 2] = ["i/Ngwp51LWr", "8BF360C29E75"];

/// A node's home, as `cometbft init` and a run leave it.
fn node_home(stage: &Stage, laddr: &str) {
    for directory in ["node/config", "node/data"] {
        fs::create_dir_all(stage.path(directory)).unwrap();
    }
    stage.secret(
        "node/config/config.toml",
        &format!(
            "genesis_file = \"config/genesis.json\"\npriv_validator_key_file = \"config/priv_validator_key.json\"\n\
             priv_validator_state_file = \"data/priv_validator_state.json\"\npriv_validator_laddr = \"{laddr}\"\n[rpc]\nladdr = \"x\"\n"
        ),
    );
    stage.secret(
        "node/config/genesis.json",
        &format!(
            "{{\"app_state\": {{\"chain_id\": \"wrong\"}}, \"chain_id\": \"{COMET_CHAIN}\", \"initial_height\": \"0\"}}"
        ),
    );
    stage.secret("node/config/priv_validator_key.json", COMET_KEY);
    stage.secret("node/data/priv_validator_state.json", COMET_STATE);
}

/// The words of `migrate from`, with a place for everything.
fn words<'a>(from: &[&'a str]) -> Vec<&'a str> {
    let place = ["-o", "DIR/kms", "--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
    ["kms", "migrate", "from"].iter().chain(from).chain(&place).copied().collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_node_without_an_address_for_signers_is_told_the_one_that_the_configuration_dials() {
    for (node, expected) in [
        (&[][..], "priv_validator_laddr = \"tcp://127.0.0.1:26659\""),
        (&["--node", "tcp://127.0.0.1:7777"], "priv_validator_laddr = \"tcp://127.0.0.1:7777\""),
        (
            &["--node", "tcp://10.0.0.1:7777"],
            "priv_validator_laddr = \"tcp://0.0.0.0:7777\", reachable from here alone",
        ),
    ] {
        let stage = Stage::new();
        node_home(&stage, "");
        let from = [&["filepv", "DIR/node"], node].concat();
        let ran = stage.run(&words(&from));
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert!(ran.code == 0 && told.contains(expected), "{expected}: {ran:?}");
    }
}

#[test]
fn a_key_comes_over_from_a_node_and_signs_only_what_is_new() {
    let stage = Stage::new();
    let listener = node_of(COMET_CHAIN);
    node_home(&stage, &listener.address().to_string());
    let from = words(&["filepv", "DIR/node"]);
    let plan = stage.run(&[&from[..], &["--dry-run", "--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(json["chains"][0]["state"], "precommit #5/0");
    assert_eq!(json["chains"][0]["holds"], true);
    assert!(!stage.path("kms").exists() && !stage.path("ledger").exists(), "a plan writes nothing");
    let ran = stage.run(&from);
    assert_eq!(ran.code, 0, "{ran:?}");
    for text in [
        "Raised test-chain-Orcy2y: precommit #5/0",
        "Next know that the key of test-chain-Orcy2y watches 3 heights before it signs (GUARD-0007). With more than a third of the power: --no-hold",
        "Next keep DIR/node/config/priv_validator_key.json off the node",
    ] {
        assert!(ran.stderr.contains(text), "{text}: {ran:?}");
    }
    for secret in SECRETS {
        assert!(!format!("{plan:?}{ran:?}").contains(secret));
    }
    let key = stage.path(&format!("kms/secrets/{COMET_CHAIN}-consensus.key"));
    assert_eq!((mode(&key), mode(&stage.path("kms/tmkms.toml"))), (0o600, 0o600));
    let checked = stage.run(&["kms", "config", "check", "-c", "DIR/kms/tmkms.toml"]);
    assert_eq!((checked.code, checked.stdout.as_str()), (0, ""), "{checked:?}");

    // What the node signed last is answered with the node's own signature; another block there is refused; the next heights are watched.
    let signer = stage.start(&stage.path("kms/tmkms.toml"));
    let mut remote = called(&listener);
    let hash = |text: &str| <[u8; 32]>::try_from(hex::decode(text).unwrap()).unwrap();
    let block = BlockId {
        hash: hash("873013716FFCFE26F28886335D8795803B77BDCEA0D535717F06A6F42F5A0D7F"),
        parts_total: 1,
        parts_hash: hash("38A5290F1633CD584C50D1B78B12639CEE6334A222C54095BE376D0AE2F260B4"),
    };
    let last = Vote { block: Some(block), ..vote(VoteKind::Precommit, 5, None, 0) };
    let repeat = remote.sign_vote(&last).unwrap();
    let signature = BASE64.encode(repeat.signature);
    assert!(COMET_STATE.contains(&signature), "{signature} is not the one that the node made");
    let error = refusal(remote.sign_vote(&vote(VoteKind::Precommit, 5, Some(7), 0)));
    assert!(error.1.contains("GUARD-"), "{error:?}");
    assert!(refusal(remote.sign_vote(&prevote(4, 1))).1.contains("GUARD-"));
    for height in [6, 9] {
        assert!(refusal(remote.sign_vote(&prevote(height, 1))).1.contains("GUARD-0007"), "{height}");
    }
    remote.sign_vote(&prevote(10, 1)).unwrap();
    drop(signer);

    let again = stage.run(&from);
    assert!(again.code == 1 && again.stderr.contains("MIGRATE-0003"), "{again:?}");
}

#[test]
fn a_key_that_came_over_signs_at_once_where_that_is_said_before_or_after() {
    let stage = Stage::new();
    let listener = node_of(COMET_CHAIN);
    node_home(&stage, &listener.address().to_string());
    let from = words(&["filepv", "DIR/node"]);
    let signs = |height: u64| {
        let _signer = stage.start(&stage.path("kms/tmkms.toml"));
        called(&listener).sign_vote(&prevote(height, 1))
    };
    let without = [&from[..], &["--no-hold"]].concat();
    let ran = stage.run(&without);
    assert!(ran.code == 0 && !format!("{ran:?}").contains("watches"), "{ran:?}");
    signs(6).unwrap();

    // As the closing step says it, word for word.
    let again = || ["kms", "ledger"].map(|name| fs::remove_dir_all(stage.path(name)).unwrap());
    again();
    let ran = stage.run(&from);
    let command = ran.stderr.split("before the start: semel ").nth(1).unwrap().lines().next().unwrap();
    let command: Vec<&str> = command.split(' ').chain(["--i-accept-volatile-ledger"]).collect();
    let ended = stage.run(&command);
    assert_eq!(ended.code, 0, "{ended:?}");
    signs(6).unwrap();

    // The same, where the first run ended early: the hold is there, and ends.
    again();
    assert_eq!(stage.run(&from).code, 0);
    fs::remove_file(stage.path("kms/tmkms.toml")).unwrap();
    let plan = stage.run(&[&from[..], &["--dry-run"]].concat());
    assert!(plan.stdout.contains("hold     3 heights before it signs; --no-hold leaves that out"), "{plan:?}");
    assert_eq!(stage.run(&without).code, 0);
    signs(6).unwrap();

    // A key that never signed waits too, but not where its chain begins.
    again();
    stage.secret("node/data/priv_validator_state.json", r#"{"height": "0", "round": 0, "step": 0}"#);
    let ran = stage.run(&from);
    assert!(ran.code == 0 && ran.stderr.contains("`[semel] hold_new_keys = false`"), "{ran:?}");
    signs(1).unwrap();
    again();
    assert_eq!(stage.run(&from).code, 0);
    assert!(refusal(signs(70)).1.contains("GUARD-0007"));
}

fn node_of(chain: &str) -> semel_devnet_tendermint::privval::Listener {
    let listen = semel_devnet_tendermint::privval::Listen::Tcp(([127, 0, 0, 1], 0).into());
    stage::node_at(listen, Family::V034, chain)
}

#[test]
fn what_was_interrupted_goes_on_and_another_key_is_never_written_over() {
    let stage = Stage::new();
    node_home(&stage, "");
    let from = words(&["filepv", "DIR/node"]);
    assert_eq!(stage.run(&from).code, 0);
    fs::remove_file(stage.path("kms/tmkms.toml")).unwrap();
    let again = stage.run(&from);
    assert!(again.code == 0 && again.stderr.contains("it is the same key"), "{again:?}");
    assert!(stage.read("kms/tmkms.toml").contains("tcp://127.0.0.1:26659"));
    fs::remove_file(stage.path("kms/tmkms.toml")).unwrap();
    let key = format!("kms/secrets/{COMET_CHAIN}-consensus.key");
    fs::copy(stage.path("consensus.key"), stage.path(&key)).unwrap();
    let other = stage.run(&from);
    assert!(other.code == 1 && other.stderr.contains("KEY-0009"), "{other:?}");
}

#[test]
fn a_key_without_a_state_stays_where_it_is_unless_the_risk_is_named() {
    let stage = Stage::new();
    node_home(&stage, "");
    fs::remove_file(stage.path("node/data/priv_validator_state.json")).unwrap();
    let from = words(&["filepv", "DIR/node"]);
    let ran = stage.run(&from);
    assert!(ran.code == 3 && ran.stderr.contains("MIGRATE-0002"), "{ran:?}");
    assert!(!stage.path("kms").exists() && !stage.path("ledger").exists());
    let ran = stage.run(&[&from[..], &["--i-accept-double-sign-risk"]].concat());
    assert!(ran.code == 0 && ran.stdout.contains("MISSING"), "{ran:?}");
}

#[test]
fn a_floor_that_the_ledger_has_already_is_not_lowered() {
    let stage = Stage::new();
    node_home(&stage, "");
    let from = words(&["filepv", "DIR/node"]);
    assert_eq!(stage.run(&from).code, 0);
    let ledger = ["--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
    let floor = [&["kms", "state", "set-floor", "-c", "DIR/kms/tmkms.toml"][..], &ledger, &["900"]].concat();
    assert_eq!(stage.run(&floor).code, 0);
    fs::remove_file(stage.path("kms/tmkms.toml")).unwrap();
    let ran = stage.run(&from);
    assert!(
        ran.code == 0
            && ran.stderr.contains("Unchanged test-chain-Orcy2y")
            && ran.stdout.contains("everything up to height #900"),
        "{ran:?}"
    );
}

#[test]
fn files_that_are_not_what_they_should_be_are_named() {
    let stage = Stage::new();
    node_home(&stage, "");
    for (file, text, code) in [
        ("node/config/genesis.json", "{\"chain_id\": 7}", "MIGRATE-0005"),
        ("node/config/priv_validator_key.json", "{}", "KEY-0006"),
        ("node/data/priv_validator_state.json", "{\"height\":", "STATE-0002"),
        ("node/config/config.toml", "a = [", "MIGRATE-0007"),
        ("node/config/config.toml", "priv_validator_laddr = \"http://x\"", "CONFIG-0110"),
    ] {
        let before = stage.read(file);
        stage.secret(file, text);
        let ran = stage.run(&words(&["filepv", "DIR/node"]));
        assert!(ran.code != 0 && ran.stderr.contains(code), "{file}: {ran:?}");
        assert!(!stage.path("kms").exists() && !stage.path("ledger").exists(), "{file}");
        stage.secret(file, &before);
    }
    let ran = stage.run(&words(&["filepv", "DIR/nothing"]));
    assert!(ran.code == 1 && ran.stderr.contains("DIR/nothing/config/config.toml"), "{ran:?}");
}

/// A process that runs under a name, with a command line, until it is dropped.
struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// A signer that does nothing but be there.
fn stranger(stage: &Stage, name: &str, arguments: &[&str]) -> Stranger {
    let path = stage.path("strangers").join(name);
    fs::create_dir_all(stage.path("strangers")).unwrap();
    fs::write(&path, "#!/bin/sh\necho up\nread line\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let mut child = Command::new(path)
        .args(arguments.iter().map(|word| word.replace("DIR", stage.path("").to_str().unwrap().trim_end_matches('/'))))
        .current_dir(stage.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
    Stranger(child)
}

#[test]
fn nothing_comes_over_while_the_old_signer_runs() {
    let stage = Stage::new();
    node_home(&stage, "");
    stage.config(&["tcp://127.0.0.1:26659".into()]);
    stage.secret("consensus.json", r#"{"height":"70","round":"0","step":1,"block_id":{}}"#);
    horcrux_home(&stage, "single");
    let seen = |name: &str, arguments: &[&str], from: &[&str]| {
        let old = stranger(&stage, name, arguments);
        let ran = stage.run(&words(from));
        assert_eq!(ran.code, 3, "{ran:?}");
        for text in ["MIGRATE-0001", &format!("process {} ({name})", old.0.id())] {
            assert!(ran.stderr.contains(text), "{text}: {ran:?}");
        }
        let plan = stage.run(&[&words(from)[..], &["--dry-run"]].concat());
        assert!(plan.code == 0 && plan.stderr.contains("it has to be stopped first"), "{plan:?}");
        assert!(!stage.path("kms").exists() && !stage.path("ledger").exists());
    };
    seen("gaiad", &["start", "--home", "DIR/node"], &["filepv", "DIR/node"]);
    seen("gaiad", &["start", "--home=node"], &["filepv", "DIR/node"]);
    seen("tmkms", &["start", "-c", "DIR/tmkms.toml"], &["tmkms", "DIR/tmkms.toml"]);
    seen("tmkms", &["start"], &["tmkms", "DIR/tmkms.toml"]);
    seen("horcrux", &["start", "--home", "DIR/horcrux"], &["horcrux", "DIR/horcrux"]);
    seen("tmkms", &["start", "-cDIR/tmkms.toml"], &["tmkms", "DIR/tmkms.toml"]);
    // A node that names nothing holds its database.
    let lock = fs::File::create(stage.path("node/data/LOCK")).unwrap();
    let ran = stage.run(&words(&["filepv", "DIR/node"]));
    assert!(ran.code == 3 && ran.stderr.contains(&format!("process {} ", std::process::id())), "{ran:?}");
    assert!(ran.stderr.contains("holds DIR/node/data/LOCK"), "{ran:?}");
    drop(lock);
    // Another one's command line is no reason.
    let _other = stranger(&stage, "tmkms", &["start", "-c", "DIR/another.toml"]);
    assert_eq!(stage.run(&words(&["tmkms", "DIR/tmkms.toml"])).code, 0);
}

/// What runs in another mount namespace: the home is where `inside` is, and nowhere else.
fn container(stage: &Stage, script: &str) -> Option<Stranger> {
    fs::create_dir_all(stage.path("inside")).unwrap();
    let text = format!("mount --bind node inside && echo up && {script}");
    let mut child = Command::new("unshare")
        .args(["-m", "sh", "-c", &text])
        .current_dir(stage.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut up = [0; 3];
    let is_up = std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).is_ok();
    let child = Stranger(child);
    is_up.then_some(child)
}

#[test]
fn a_node_in_a_container_is_seen_by_the_files_that_it_holds() {
    let stage = Stage::new();
    node_home(&stage, "");
    fs::create_dir_all(stage.path("node/data/blockstore.db")).unwrap();
    let refused = |what: &str| {
        let ran = stage.run(&words(&["filepv", "DIR/node"]));
        assert!(ran.code == 3 && ran.stderr.contains("MIGRATE-0001") && ran.stderr.contains(what), "{ran:?}");
        assert!(!stage.path("kms").exists() && !stage.path("ledger").exists());
    };
    // The same file under another path is what a bind mount shows of it.
    for name in ["data/blockstore.db/LOCK", "data/priv_validator_state.json", "config/priv_validator_key.json"] {
        let path = stage.path("node").join(name);
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        fs::hard_link(&path, stage.path("elsewhere")).unwrap();
        let held = fs::File::open(stage.path("elsewhere")).unwrap();
        fs::remove_file(stage.path("elsewhere")).unwrap();
        refused(&format!("holds DIR/node/{name}"));
        drop(held);
    }
    // A database on another disk is behind a link.
    fs::create_dir_all(stage.path("disk")).unwrap();
    std::os::unix::fs::symlink(stage.path("disk"), stage.path("node/data/application.db")).unwrap();
    let lock = fs::File::create(stage.path("disk/LOCK")).unwrap();
    refused("holds DIR/node/data/application.db/LOCK");
    drop(lock);
    // What anybody may hold is no sign.
    std::os::unix::fs::symlink("/dev/null", stage.path("node/data/log")).unwrap();
    let _null = fs::File::open("/dev/null").unwrap();

    let Some(node) = container(&stage, "read line 3<inside/data/blockstore.db/LOCK") else {
        return stage::skip("a_node_in_a_container_is_seen_by_the_files_that_it_holds", "no mount namespaces here");
    };
    refused("holds DIR/node/data/blockstore.db/LOCK");
    drop(node);
    // It holds nothing, and its words say where it is in its own file system.
    let node = container(&stage, "exec sh -c 'read line' start --home \"$PWD/inside\"").unwrap();
    refused("was started with");
    drop(node);
    let ran = stage.run(&words(&["filepv", "DIR/node"]));
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// Hands over the contents of a file one by one, each when the program reads it; before each, something may happen.
fn told(stage: &Stage, name: &str, contents: Vec<(String, Box<dyn FnOnce() + Send>)>) {
    let path = stage.path(name);
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    std::thread::spawn(move || {
        for (text, before) in contents {
            // Opens when the reader is there.
            let mut pipe = fs::OpenOptions::new().write(true).open(&path).unwrap();
            before();
            std::io::Write::write_all(&mut pipe, text.as_bytes()).unwrap();
            drop(pipe);
            // The reader has to see the end of one before the next begins.
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    });
}

#[test]
fn a_signer_that_starts_again_meanwhile_stops_the_migration_before_the_key_is_copied() {
    let stage = Stage::new();
    node_home(&stage, "");
    let (sender, receiver) = std::sync::mpsc::channel();
    let old = stage.path("");
    let start = Box::new(move || {
        let home = old.join("node");
        let mut command = Command::new("sh");
        command.args(["-c", "read line", "start", "--home"]).arg(home).stdin(Stdio::piped());
        sender.send(Stranger(command.spawn().unwrap())).unwrap();
    });
    told(&stage, "node/data/priv_validator_state.json", vec![(COMET_STATE.into(), start)]);
    let ran = stage.run(&[&words(&["filepv", "DIR/node"])[..], &["--no-hold"]].concat());
    assert!(ran.code == 3 && ran.stderr.contains("MIGRATE-0001"), "{ran:?}");
    assert!(ran.stderr.contains("Raised test-chain-Orcy2y: precommit #5/0"), "{ran:?}");
    assert!(!stage.path("kms").exists());
    drop(receiver.recv().unwrap());
    // Whatever was said about it: it watches as long as the way over is not done.
    let shown = stage.run(&["ledger", "show", "--ledger", "DIR/ledger"]);
    assert!(shown.stdout.contains("its floor was imported"), "{shown:?}");

    // One that signed, and is gone again.
    let later = COMET_STATE.replace("\"height\": \"5\"", "\"height\": \"6\"");
    let nothing = || -> Box<dyn FnOnce() + Send> { Box::new(|| ()) };
    let states = vec![(COMET_STATE.into(), nothing()), (later, nothing())];
    told(&stage, "node/data/priv_validator_state.json", states);
    let ran = stage.run(&words(&["filepv", "DIR/node"]));
    assert!(ran.code == 3 && ran.stderr.contains("MIGRATE-0009"), "{ran:?}");
    for text in ["precommit #5/0", "precommit #6/0"] {
        assert!(ran.stderr.contains(text), "{text}: {ran:?}");
    }
    assert!(!stage.path("kms").exists());
}

#[test]
fn a_signer_that_is_connected_to_the_node_is_seen() {
    let stage = Stage::new();
    let listener = node(Family::V034);
    let config = stage.config(&[listener.address().to_string()]);
    let signer = stage.start(&config);
    called(&listener).sign_vote(&prevote(7, 1)).unwrap();
    let mut remote = called(&listener);
    // The same node, under another configuration.
    fs::copy(&config, stage.path("other.toml")).unwrap();
    let ran = stage.run(&words(&["tmkms", "DIR/other.toml"]));
    assert!(ran.code == 3 && ran.stderr.contains(&format!("process {} (semel)", signer.id())), "{ran:?}");
    remote.sign_vote(&prevote(8, 1)).unwrap();
}

#[test]
fn the_state_of_tmkms_goes_into_the_ledger_and_its_configuration_is_renewed() {
    let stage = Stage::new();
    stage.config(&["tcp://127.0.0.1:26659".into()]);
    stage.edit("tmkms.toml", "reconnect = true", "reconnect = true # always\nprotocol_version = \"v0.34\"");
    // As tmkms 0.12.2 writes it.
    let state = format!(
        r#"{{"height":"70","round":"0","step":2,"block_id":{{"hash":"{0}","parts":{{"total":1,"hash":"{0}"}}}}}}"#,
        "AB".repeat(32)
    );
    stage.secret("consensus.json", &state);
    let ran = stage.run(&words(&["tmkms", "DIR/tmkms.toml"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("Raised test-1: precommit #70/0"), "{ran:?}");
    let new = stage.read("kms/tmkms.toml");
    assert!(new.contains("# always") && !new.contains("protocol_version"), "{new}");
    assert_eq!(stage.read("consensus.json"), state, "the old state is as it was");
    let shown = stage.run(&["kms", "state", "show", "--json", "-c", "DIR/kms/tmkms.toml", "--ledger", "DIR/ledger"]);
    assert!(shown.stdout.contains("\"height\":70"), "{shown:?}");

    // In place, the configuration is not touched; without the state, nothing happens.
    let before = stage.read("tmkms.toml");
    let place =
        ["kms", "migrate", "from", "tmkms", "DIR/tmkms.toml", "--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
    let ran = stage.run(&place);
    assert!(ran.code == 0 && ran.stderr.contains("Unchanged"), "{ran:?}");
    assert_eq!(stage.read("tmkms.toml"), before);
    fs::remove_file(stage.path("consensus.json")).unwrap();
    let ran = stage.run(&place);
    assert!(ran.code == 3 && ran.stderr.contains("MIGRATE-0002"), "{ran:?}");
}

/// The directory of horcrux v3.
fn horcrux_home(stage: &Stage, sign_mode: &str) {
    fs::create_dir_all(stage.path("horcrux/state")).unwrap();
    stage.secret(
        "horcrux/config.yaml",
        &format!(
            "signMode: {sign_mode}\nchainNodes:\n- privValAddr: tcp://127.0.0.1:1234\n- privValAddr: tcp://127.0.0.1:2345\ndebugAddr: \"\"\n\
             grpcAddr: \"\"\nmaxReadSize: 1048576\n"
        ),
    );
    stage.secret(&format!("horcrux/{CHAIN}_priv_validator_key.json"), COMET_KEY);
    stage.secret(
        &format!("horcrux/state/{CHAIN}_priv_validator_state.json"),
        r#"{"height":"812","round":"1","step":3,"nonce_public":null,"signature":"AAAA","signbytes":"00"}"#,
    );
}

#[test]
fn horcrux_as_a_single_signer_comes_over_and_its_shares_do_not() {
    let stage = Stage::new();
    horcrux_home(&stage, "single");
    let ran = stage.run(&words(&["horcrux", "DIR/horcrux"]));
    assert!(ran.code == 0 && ran.stderr.contains("Raised test-1: precommit #812/1"), "{ran:?}");
    let text = stage.read("kms/tmkms.toml");
    assert!(text.contains("tcp://127.0.0.1:1234") && text.contains("tcp://127.0.0.1:2345"), "{text}");
    for secret in SECRETS {
        assert!(!format!("{ran:?}").contains(secret));
    }

    // A second chain: which node is whose is not known.
    stage.secret("horcrux/other-1_priv_validator_key.json", COMET_KEY);
    let ran = stage.run(&words(&["horcrux", "DIR/horcrux"]));
    assert!(ran.code == 1 && ran.stderr.contains("MIGRATE-0005") && ran.stderr.contains("other-1, test-1"), "{ran:?}");

    for (file, text) in [
        ("horcrux/config.yaml", "signMode: threshold\nthresholdMode:\n  threshold: 2\n"),
        (
            "horcrux/config.yaml",
            "chain-id: test\ncosigner:\n  threshold: 2\nchain-nodes:\n- priv-val-addr: tcp://127.0.0.1:1\n",
        ),
        ("horcrux/test-1_shard.json", "{\"pubKey\":\"x\",\"privateShard\":\"x\",\"id\":3}"),
    ] {
        let before = fs::read_to_string(stage.path(file)).ok();
        stage.secret(file, text);
        let ran = stage.run(&words(&["horcrux", "DIR/horcrux"]));
        assert!(
            ran.code == 1 && ran.stderr.contains("MIGRATE-0004") && ran.stderr.contains("EVERY cosigner"),
            "{ran:?}"
        );
        if let Some(before) = before {
            stage.secret(file, &before);
        }
    }
}

#[test]
fn cosmos_kms_comes_over_with_several_chains_and_what_is_not_served_is_refused() {
    let stage = Stage::new();
    fs::create_dir_all(stage.path("cosmos/state")).unwrap();
    let yaml = "chains:\n  - id: a-1\n  - id: b-1\n    state_file: b.json\nvalidators:\n  - chain_id: a-1\n    addr: tcp://127.0.0.1:26659\n    \
                identity_key: identity.json\n  - chain_id: b-1\n    addr: tcp://127.0.0.1:26660\n    identity_key: identity.json\n    reconnect: false\n\
                keys:\n  - chain_ids: [a-1, b-1]\n    backend: file\n    key_file: priv_validator_key.json\n";
    stage.secret("cosmos/kms.yaml", yaml);
    stage.secret("cosmos/priv_validator_key.json", COMET_KEY);
    stage.secret("cosmos/state/a-1.json", r#"{"height": "11", "round": 0, "step": 2}"#);
    stage.secret("cosmos/b.json", r#"{"height": "0", "round": 0, "step": 0}"#);
    let ran = stage.run(&words(&["cosmos-kms", "DIR/cosmos"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    for text in [
        "Raised a-1: prevote #11/0",
        "Unchanged b-1: nothing signed",
        "nothing was signed, it says",
        "reconnect = false",
    ] {
        assert!(ran.stderr.contains(text), "{text}: {ran:?}");
    }
    let shown = stage.run(&["kms", "config", "show", "-c", "DIR/kms/tmkms.toml"]);
    assert!(shown.code == 0 && shown.stdout.contains("tcp://127.0.0.1:26660"), "{shown:?}");

    for (from, to, code) in [
        ("backend: file", "backend: awskms", "MIGRATE-0006"),
        ("backend: file", "backend: pkcs11\n    module: /m.so\n    token_label: t\n    pin: canary", "MIGRATE-0005"),
        ("tcp://127.0.0.1:26659", "noise://x@127.0.0.1:26659", "CONFIG-0110"),
        ("chains:", "chains: &x\nmore: *x\nother:", "MIGRATE-0007"),
    ] {
        stage.secret("cosmos/kms.yaml", &yaml.replacen(from, to, 1));
        let mut words = words(&["cosmos-kms", "DIR/cosmos"]);
        let at = words.iter().position(|word| *word == "DIR/kms").unwrap();
        *words.get_mut(at).unwrap() = "DIR/kms2";
        let ran = stage.run(&words);
        assert!(ran.code == 1 && ran.stderr.contains(code), "{to}: {ran:?}");
        assert!(!format!("{ran:?}").contains("canary"));
        assert!(!stage.path("kms2").exists());
    }
}
