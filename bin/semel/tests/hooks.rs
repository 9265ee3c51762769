//! `state_hook`: programs that hang, shout, lie, leave something behind, or are asked for at a bad moment.

mod stage;

use rustix::process::Signal;
use semel_devnet_tendermint::privval::Family;
use stage::{Stage, called, node, prevote, refusal};
use std::time::{Duration, Instant};

/// A stage whose chain has this hook.
fn with_hook(address: &str, hook: &str) -> Stage {
    let stage = Stage::new();
    stage.config(&[address.to_owned()]);
    stage.edit("tmkms.toml", "[[chain]]\n", &format!("[[chain]]\nstate_hook = {{ {hook} }}\n"));
    stage
}

fn shell(script: &str) -> String {
    format!("cmd = [\"sh\", \"-c\", {}], fail_closed = true, timeout_secs = 2", serde_json::Value::from(script))
}

#[test]
fn what_is_no_height_stops_the_start_and_closes_nothing() {
    let rows = [
        ("nothing", "true", "not JSON"),
        ("too much", "yes '{'", ""),
        ("no key", "echo '{}'", "no latest_block_height"),
        ("null", "echo '{\"latest_block_height\":null}'", "not a height"),
        ("negative", "echo '{\"latest_block_height\":-5}'", "not a height"),
        ("a fraction", "echo '{\"latest_block_height\":1.5}'", "not a height"),
        ("words", "echo '{\"latest_block_height\":\"soon\"}'", "not a height"),
        ("above every chain", "echo '{\"latest_block_height\":\"18446744073709551615\"}'", "not a height"),
        ("not UTF-8", "printf '\\377\\376'", "UTF-8"),
        ("a failure after the answer", "echo '{\"latest_block_height\":1}'; exit 3", "ended with exit status: 3"),
        ("killed", "kill -9 $$", "signal: 9"),
        ("output held open", "sleep 30 2>/dev/null & echo '{\"latest_block_height\":\"1\"}'", "does not end"),
        ("hanging", "sleep 30", "longer than 2 s"),
    ];
    std::thread::scope(|scope| {
        for (name, script, words) in rows {
            scope.spawn(move || {
                let stage = with_hook("unix:///nowhere.sock", &shell(script));
                let since = Instant::now();
                let mut signer = stage.start(&stage.path("tmkms.toml"));
                assert_eq!(signer.ended().code(), Some(1), "{name}: {}", signer.text());
                assert!(since.elapsed() < Duration::from_secs(8), "{name}: {:?}", since.elapsed());
                let line = signer.said("state_hook of test-1 failed");
                assert!(line.contains(words), "{name}: {line}");
                let state = stage.run(&["kms", "state", "show", "-c", "DIR/tmkms.toml", "--ledger", "DIR/ledger"]);
                assert!(state.stdout.contains("ledger: nothing signed"), "{name}: {state:?}");
            });
        }
    });
}

#[test]
fn an_end_while_a_hook_runs_is_an_end_within_a_second_and_no_start() {
    for fail_closed in [true, false] {
        let node = node(Family::V034);
        let hook = format!("cmd = [\"sleep\", \"60\"], fail_closed = {fail_closed}, timeout_secs = 60");
        let stage = with_hook(&node.address().to_string(), &hook);
        let mut signer = stage.start(&stage.path("tmkms.toml"));
        signer.said("no state for this key");
        let since = Instant::now();
        signer.signal(Signal::TERM);
        signer.ended();
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        signer.said("the signer was told to stop");
        assert!(node.accept_socket(Duration::ZERO).is_err(), "it never called");
    }
}

#[test]
fn a_height_below_the_ledger_lowers_nothing_and_one_above_raises() {
    let node = node(Family::V034);
    let stage = with_hook(&node.address().to_string(), &shell("cat tip"));
    // Height that the hook tells, the highest that is closed then.
    for (tip, closed) in [(10, 10), (3, 11), (20, 20), (20, 21)] {
        stage.secret("tip", &format!("{{\"latest_block_height\":\"{tip}\"}}"));
        let mut command = stage::semel();
        command.args(["kms", "start", "-c", "tmkms.toml"]).args(stage.ledger()).current_dir(stage.path(""));
        let signer = stage::Signer::spawn(command);
        let mut remote = called(&node);
        signer.said(&format!("nothing at or below height {tip} is signed"));
        assert_eq!(refusal(remote.sign_vote(&prevote(closed, 2))).0, 2, "{tip}");
        remote.sign_vote(&prevote(closed + 1, 1)).unwrap();
    }
}
