//! `semel status`, `reload` and `wait-window`: what a running signer says over its control socket.

mod stage;

use semel_devnet_tendermint::consensus::VoteKind;
use semel_devnet_tendermint::privval::Family;
use serde_json::Value;
use stage::{CHAIN, Ran, Stage, called, node, prevote, refusal, vote};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

fn semel(stage: &Stage, words: &[&str]) -> Ran {
    stage.run(&[words, &["--ledger", "DIR/ledger"]].concat())
}

fn json(stage: &Stage) -> Value {
    let ran = semel(stage, &["status", "--json"]);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| unreachable!("{ran:?}"))
}

#[test]
fn a_running_signer_says_what_it_signs_for_whom_and_what_is_wrong() {
    let stage = Stage::new();
    let none = semel(&stage, &["status"]);
    assert!(none.code == 1 && none.stderr.contains("no signer runs"), "{none:?}");
    let node = node(Family::V034);
    let mut signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    remote.sign_vote(&prevote(7, 1)).unwrap();
    refusal(remote.sign_vote(&prevote(7, 2)));
    let status = json(&stage);
    let (process, chain) = (&status["processes"][0], &status["processes"][0]["chains"][0]);
    assert_eq!((status["schema"].as_u64(), process["pid"].as_i64()), (Some(1), Some(i64::from(signer.id()))));
    assert_eq!((chain["chain"].as_str(), chain["height"].as_u64()), (Some(CHAIN), Some(7)));
    assert_eq!((chain["signed"].as_u64(), chain["refused"].as_u64()), (Some(1), Some(1)), "{chain}");
    let screen = semel(&stage, &["status"]);
    assert!(
        screen.code == 0 && screen.stdout.contains("prevote #7/0") && screen.stdout.contains(": well"),
        "{screen:?}"
    );
    assert_eq!(stage.run_tmkms(&["status", "--ledger", "DIR/ledger"]).code, 0);
    drop((remote, node));
    signer.said("cannot reach the validator");
    let screen = semel(&stage, &["status"]);
    assert!(screen.stdout.contains("not well: cannot reach the validator"), "{screen:?}");
    signer.signal(rustix::process::Signal::TERM);
    assert!(signer.ended().success());
    assert_eq!(semel(&stage, &["status"]).code, 1);
    assert_eq!(fs::read_dir(stage.path("ledger/control")).unwrap().count(), 0, "the socket is gone");
}

#[test]
fn a_reload_that_is_asked_for_says_how_it_went_and_frees_what_it_did_not_take() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    called(&node).sign_vote(&prevote(1, 1)).unwrap();
    let good = semel(&stage, &["reload"]);
    assert!(good.code == 0 && good.stderr.contains("Reloaded configuration reloaded"), "{good:?}");
    stage.edit("tmkms.toml", "[[chain]]", "[[chain]]\nnonsense = 1");
    let bad = semel(&stage, &["reload"]);
    assert!(bad.code == 1 && bad.stderr.contains("CONFIG-0003") && bad.stderr.contains("nonsense"), "{bad:?}");
    assert_eq!(json(&stage)["processes"][0]["reload"]["reloaded"], false);
    stage.edit("tmkms.toml", "nonsense = 1", "");
    assert_eq!(semel(&stage, &["reload", "--json"]).code, 0);
    // A chain that cannot be taken in leaves its key to others.
    stage.secret("other.key", "BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY=");
    let more = stage.config_of("more.toml", "more-1", "other", &["unix:///nowhere/node.sock".into()]);
    let text = stage.read("tmkms.toml")
        + &fs::read_to_string(&more)
            .unwrap()
            .replace("[[chain]]", "[[chain]]\nstate_hook = { cmd = [\"/bin/false\"] }");
    stage.secret("tmkms.toml", &text);
    let failed = semel(&stage, &["reload"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    let mut second = stage.start(&more);
    second.said("added consensus Ed25519 key");
    second.signal(rustix::process::Signal::TERM);
    assert!(second.ended().success());
    called(&node).sign_vote(&prevote(2, 1)).unwrap();
    assert_eq!(signer.count("panicked"), 0);
}

#[test]
fn strangers_at_the_socket_get_nothing_and_hold_up_nobody() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    let path = stage.path("ledger/control").join(format!("{}.sock", signer.id()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for rude in ["nonsense\n", "{\"ask\": 1}\n", "{\"ask\": \"sign\"}\n", &"x".repeat(100_000)] {
        let mut stream = UnixStream::connect(&path).unwrap();
        let _cut = stream.write_all(rude.as_bytes());
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer));
        assert!(answer.is_empty() || answer.contains("\"error\""), "{answer}");
    }
    // Somebody who says nothing: votes go on.
    let silent = UnixStream::connect(&path).unwrap();
    for height in 2..20 {
        remote.sign_vote(&prevote(height, 1)).unwrap();
    }
    drop(silent);
    assert_eq!(json(&stage)["processes"][0]["chains"][0]["height"], 19);
}

#[test]
fn the_window_for_a_restart_is_right_after_a_precommit() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let _signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| semel(&stage, &["wait-window", "--max", "1"]));
        std::thread::sleep(std::time::Duration::from_millis(600));
        assert!(!waiting.is_finished(), "a prevote is no end of a height");
        for height in 1..200 {
            if waiting.is_finished() {
                break;
            }
            remote.sign_vote(&vote(VoteKind::Precommit, height, Some(1), 0)).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        waiting.join().unwrap()
    });
    assert!(waiting.code == 0 && waiting.stderr.contains("a restart costs least"), "{waiting:?}");
}

#[test]
fn a_signer_that_only_answers_says_that_it_signs_nothing_and_which_version_of_tmkms_it_is() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let _signer = stage.start_with(&stage.config(&[node.address().to_string()]), &["--dry-run"]);
    let _remote = called(&node);
    let screen = stage.run(&["status", "--ledger", "DIR/ledger"]);
    assert!(screen.code == 0 && screen.stdout.contains("--dry-run, nothing is signed"), "{screen:?}");
    assert!(screen.stdout.starts_with(&format!("semel {}, ", env!("CARGO_PKG_VERSION"))), "{screen:?}");
    let json: serde_json::Value =
        serde_json::from_str(&stage.run(&["status", "--json", "--ledger", "DIR/ledger"]).stdout).unwrap();
    assert_eq!(json.pointer("/processes/0/dry_run").and_then(serde_json::Value::as_bool), Some(true), "{json}");
}
