//! SIGHUP: what changed starts and stops, what did not is not touched, and what cannot be used changes nothing.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use rustix::process::Signal;
use semel_devnet_tendermint::privval::{Family, Listen, Listener};
use stage::{CHAIN, PATIENCE, Signer, Stage, called, get, node, node_at, prevote, refusal};
use std::fs;
use std::time::{Duration, Instant};

const RELOADED: &str = "configuration reloaded";
const KEPT: &str = "configuration not reloaded, the old one stays";

/// A node of another chain.
fn node_of(chain: &str) -> Listener {
    node_at(Listen::Tcp(([127, 0, 0, 1], 0).into()), Family::V034, chain)
}

/// Reloads, and waits for one more line with these words.
fn reload(signer: &Signer, words: &str) {
    let before = signer.count(words);
    signer.signal(Signal::HUP);
    let deadline = Instant::now() + PATIENCE;
    while signer.count(words) == before {
        assert!(Instant::now() < deadline, "no {words:?}:\n{}", signer.text());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory of configurations, with one chain in it, and the file and node of a second that is not in it yet.
fn two_chains() -> (Stage, [Listener; 2]) {
    let stage = Stage::new();
    fs::create_dir(stage.path("conf")).unwrap();
    stage.secret("other.key", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
    let nodes = [node(Family::V034), node_of("other-1")];
    let [first, second] = nodes.each_ref().map(|node| [node.address().to_string()]);
    stage.config_of("conf/first.toml", CHAIN, "consensus", &first);
    let text = stage.read("conf/first.toml");
    fs::write(stage.path("conf/first.toml"), format!("{text}\n[semel]\nhold_new_keys = false\n")).unwrap();
    stage.config_of("other.toml", "other-1", "other", &second);
    (stage, nodes)
}

#[test]
fn a_chain_comes_and_goes_with_its_file_and_its_key_is_free_again() {
    let (stage, [first, second]) = two_chains();
    let signer = stage.start(&stage.path("conf"));
    let mut remote = called(&first);
    remote.sign_vote(&prevote(1, 1)).unwrap();

    fs::copy(stage.path("other.toml"), stage.path("conf/second.toml")).unwrap();
    reload(&signer, RELOADED);
    let mut other = called(&second);
    other.sign_vote(&prevote(5, 1)).unwrap();
    remote.sign_vote(&prevote(2, 1)).unwrap();
    // Nobody else has the key while it is in use here.
    let elsewhere = ["kms", "state", "set-floor", "5", "-c", "DIR/other.toml", "--ledger", "DIR/ledger"];
    let elsewhere = [&elsewhere[..], &["--i-accept-volatile-ledger"]].concat();
    assert_eq!(stage.run(&elsewhere).code, 3);

    fs::remove_file(stage.path("conf/second.toml")).unwrap();
    reload(&signer, RELOADED);
    assert!(other.ping().is_err(), "its session has ended");
    remote.sign_vote(&prevote(3, 1)).unwrap();
    // Another process takes the key over, and knows what was signed.
    let _second_signer = stage.start(&stage.path("other.toml"));
    let mut other = called(&second);
    assert_eq!(refusal(other.sign_vote(&prevote(5, 2))).0, 2);
    other.sign_vote(&prevote(6, 1)).unwrap();
    remote.sign_vote(&prevote(4, 1)).unwrap();
    assert_eq!(signer.count(&format!("[{CHAIN}@{}] connected", first.address())), 1, "one session all along");
}

#[test]
fn a_configuration_that_cannot_be_used_changes_nothing_and_says_why() {
    let (stage, [first, second]) = two_chains();
    let signer = stage.start(&stage.path("conf"));
    let mut remote = called(&first);
    let good = stage.read("other.toml");
    let first_good = stage.read("conf/first.toml");
    let mut height = 0;
    let mut still_signs = |name: &str| {
        height += 1;
        remote.sign_vote(&prevote(height, 1)).unwrap_or_else(|error| unreachable!("{name}: {error}"));
    };
    // A second file, and a word of the reason.
    let rows = [
        ("no TOML", "[[chain]\n".to_owned(), "CONFIG-0002"),
        ("the same chain and key", first_good.clone(), "CONFIG-01"),
        ("no key file", good.replace("other.key", "nothing.key"), "CONFIG-0113"),
        ("no address", good.replace("addr = ", "adr = "), "CONFIG-0003"),
        ("another chain's state file", good.replace("other.json", "consensus.json"), "CONFIG-0117"),
        ("no directory for the state", good.replace("other.json", "nowhere/other.json"), "CONFIG-0129"),
    ];
    for (name, text, code) in rows {
        fs::write(stage.path("conf/second.toml"), text).unwrap();
        reload(&signer, KEPT);
        // The reasons are the lines after it.
        let deadline = Instant::now() + PATIENCE;
        while !signer.text().rsplit(KEPT).next().unwrap().contains(code) {
            assert!(Instant::now() < deadline, "{name}: no {code}:\n{}", signer.text());
        }
        still_signs(name);
    }
    fs::remove_file(stage.path("conf/second.toml")).unwrap();
    // What only a restart can change.
    fs::write(stage.path("conf/first.toml"), first_good.replace("consensus.json", "moved.json")).unwrap();
    reload(&signer, KEPT);
    signer.said("cannot change while the signer runs: restart it");
    still_signs("another state file");
    assert!(!stage.path("moved.json").exists());

    // After all that a good one is taken.
    fs::write(stage.path("conf/first.toml"), first_good).unwrap();
    fs::write(stage.path("conf/second.toml"), good).unwrap();
    reload(&signer, RELOADED);
    called(&second).sign_vote(&prevote(1, 1)).unwrap();
    still_signs("at last");
    assert_eq!(signer.count(&format!("[{CHAIN}@{}] connected", first.address())), 1, "one session all along");
}

#[test]
fn a_validator_whose_table_changed_is_dialled_anew_and_its_neighbour_is_not() {
    let stage = Stage::new();
    let nodes = [node(Family::V034), node(Family::V034)];
    let addresses = nodes.each_ref().map(|node| node.address().to_string());
    let config = stage.config(&addresses);
    let signer = stage.start(&config);
    let [mut first, mut second] = nodes.each_ref().map(called);
    first.sign_vote(&prevote(1, 1)).unwrap();
    second.ping().unwrap();
    let changed = addresses.each_ref().map(|address| format!("addr = \"{address}\"\n"));
    let [_, line] = &changed;
    stage.edit("tmkms.toml", line, &format!("{line}max_height = \"10\"\n"));
    reload(&signer, RELOADED);
    assert!(second.ping().is_err());
    let [_, node] = &nodes;
    let mut second = called(node);
    assert!(refusal(second.sign_vote(&prevote(11, 1))).1.contains("max_height 10"));
    first.sign_vote(&prevote(11, 1)).unwrap();
}

#[test]
fn reloads_without_end_leave_no_session_no_thread_and_no_health_behind() {
    let (stage, [first, second]) = two_chains();
    let signer = stage.start_with(&stage.path("conf"), &["--http", "127.0.0.1:0"]);
    let http = signer.said("health and metrics on").split("http://").nth(1).unwrap().to_owned();
    let mut remote = called(&first);
    let status = format!("/proc/{}/status", signer.id());
    let threads = || {
        let text = fs::read_to_string(&status).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap().trim().parse::<u32>();
        count.unwrap()
    };
    let files = || fs::read_dir(format!("/proc/{}/fd", signer.id())).unwrap().count();
    let mut steady = None;
    for turn in 1..=12 {
        fs::copy(stage.path("other.toml"), stage.path("conf/second.toml")).unwrap();
        reload(&signer, RELOADED);
        called(&second).sign_vote(&prevote(turn, 1)).unwrap();
        fs::remove_file(stage.path("conf/second.toml")).unwrap();
        reload(&signer, RELOADED);
        remote.sign_vote(&prevote(turn, 1)).unwrap();
        let now = (threads(), files());
        // The first turns start what stays, such as the reader of its ledger.
        match (turn, steady) {
            (4, _) => steady = Some(now),
            (5.., Some(steady)) => assert!(now <= steady, "turn {turn}: {now:?} threads and files, {steady:?} before"),
            _ => {}
        }
    }
    let (status, body) = get(&http, "/readyz");
    assert!(status == 200 && !body.contains("other-1"), "what is gone has no condition: {body}");
}

#[test]
fn signals_that_come_in_crowds_are_answered_and_lose_no_vote() {
    let (stage, [first, _]) = two_chains();
    let mut signer = stage.start(&stage.path("conf"));
    let mut remote = called(&first);
    for height in 1..=200 {
        signer.signal(Signal::HUP);
        remote.sign_vote(&prevote(height, 1)).unwrap();
    }
    signer.said(RELOADED);
    signer.signal(Signal::TERM);
    assert!(signer.ended().success(), "{}", signer.text());
}

#[test]
fn what_only_a_start_can_take_up_is_named() {
    let stage = Stage::new();
    let node = node_of(CHAIN);
    let config = stage.config(&[node.address().to_string()]);
    let signer = stage.start(&config);
    let mut remote = called(&node);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[semel]\ndurability = \"reserve\"\n")).unwrap();
    reload(&signer, "but for [semel]");
    remote.sign_vote(&prevote(1, 1)).unwrap();
}

#[test]
fn a_key_that_is_new_to_a_ledger_with_a_history_watches_before_it_signs() {
    let (stage, [first, second]) = two_chains();
    stage.edit("conf/first.toml", "hold_new_keys = false", "hold_new_keys = true");
    let signer = stage.start(&stage.path("conf"));
    // The ledger is its own: nothing waits.
    let mut remote = called(&first);
    remote.sign_vote(&prevote(1000, 1)).unwrap();
    fs::copy(stage.path("other.toml"), stage.path("conf/second.toml")).unwrap();
    reload(&signer, RELOADED);
    signer.said("[other-1] this key signs nothing yet: it is new to this host");
    let mut other = called(&second);
    for height in [5000, 5003] {
        let (_, words) = refusal(other.sign_vote(&prevote(height, 1)));
        assert!(words.contains("GUARD-0007") && words.contains("everything up to height #5003"), "{words}");
    }
    signer.said("`[semel] hold_new_keys`");
    let status = ["status", "--ledger", "DIR/ledger"];
    assert!(stage.run(&status).stdout.contains("other-1: signs nothing yet: it is new to this host; closed is"));
    let shown = stage.run(&["ledger", "show", "--ledger", "DIR/ledger"]);
    assert!(shown.stdout.contains("waits: it is new to this host"), "{shown:?}");
    remote.sign_vote(&prevote(1001, 1)).unwrap();
    other.sign_vote(&prevote(5004, 1)).unwrap();
    assert!(!stage.run(&status).stdout.contains("signs nothing yet"));
}

#[test]
fn a_hold_that_is_not_wanted_ends_with_the_next_start() {
    let (stage, [first, second]) = two_chains();
    stage.edit("conf/first.toml", "hold_new_keys = false", "");
    let signer = stage.start(&stage.path("conf"));
    called(&first).sign_vote(&prevote(1000, 1)).unwrap();
    fs::copy(stage.path("other.toml"), stage.path("conf/second.toml")).unwrap();
    reload(&signer, RELOADED);
    refusal(called(&second).sign_vote(&prevote(5000, 1)));
    drop(signer);
    stage.edit("conf/first.toml", "[semel]", "[semel]\nhold_new_keys = false");
    let _signer = stage.start(&stage.path("conf"));
    called(&second).sign_vote(&prevote(5000, 1)).unwrap();
}
