//! The signer as a service: signals, reload, health, metrics, logs, the service manager, and the hook.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use rustix::process::Signal;
use semel_devnet_tendermint::consensus::VoteKind;
use semel_devnet_tendermint::privval::{Family, Listen};
use stage::{CHAIN, PATIENCE, Signer, Stage, called, get, node, node_at, prevote, semel, vote};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// Name, type and labels of every metric, one per line.
fn described(text: &str) -> String {
    let mut out = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let labels: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix(name)?.trim_start_matches("_bucket").trim_start_matches("_count").strip_prefix('{')
            })
            .filter_map(|line| line.split_once('}'))
            .flat_map(|(labels, _)| labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0)))
            .filter(|label| *label != "le")
            .collect();
        out.insert(name, format!("{name} {kind} {}", labels.into_iter().collect::<Vec<_>>().join(",")));
    }
    out.into_values().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The address that `--http 127.0.0.1:0` got.
fn http_of(signer: &Signer) -> String {
    signer.said("health and metrics on").split("http://").nth(1).unwrap().to_owned()
}

#[test]
fn sigterm_and_sigint_end_it_within_a_second_with_the_last_vote_in_the_ledger() {
    for signal in [Signal::TERM, Signal::INT] {
        for durability in ["sync", "reserve"] {
            let stage = Stage::new();
            let node = node(Family::V034);
            let config = stage.config(&[node.address().to_string()]);
            let mut signer = stage.start_with(&config, &["--durability", durability]);
            let mut remote = called(&node);
            remote.sign_vote(&prevote(7, 1)).unwrap();
            let since = Instant::now();
            signer.signal(signal);
            let status = signer.ended();
            assert!(status.success() && since.elapsed() < Duration::from_secs(1), "{status} {:?}", since.elapsed());
            signer.said("stopped, every signed position is in the ledger");
            // After an end in order nothing is lost, not even with a reservation.
            let _signer = stage.start_with(&config, &["--durability", durability]);
            let mut remote = called(&node);
            assert!(remote.sign_vote(&prevote(7, 2)).is_err());
            remote.sign_vote(&vote(VoteKind::Precommit, 7, Some(1), 0)).unwrap();
        }
    }
}

#[test]
fn it_ends_at_once_while_no_node_is_there() {
    let stage = Stage::new();
    let mut signer = stage.start(&stage.config(&["tcp://127.0.0.1:1".into()]));
    signer.said("cannot reach the validator");
    let since = Instant::now();
    signer.signal(Signal::TERM);
    assert!(signer.ended().success() && since.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_reload_starts_and_stops_validators_and_leaves_the_others_alone() {
    let stage = Stage::new();
    let nodes = [node(Family::V034), node(Family::V038), node(Family::V033)];
    let address = |index: usize| nodes[index].address().to_string();
    let config = stage.config(&[address(0), address(1)]);
    let signer = stage.start(&config);
    let mut first = called(&nodes[0]);
    let mut second = called(&nodes[1]);
    first.sign_vote(&prevote(1, 1)).unwrap();
    second.ping().unwrap();

    stage.config(&[address(0), address(2)]);
    signer.signal(Signal::HUP);
    signer.said("configuration reloaded");
    let mut third = called(&nodes[2]);
    assert!(second.ping().is_err(), "it was taken out");
    first.sign_vote(&prevote(2, 1)).unwrap();
    assert!(third.sign_vote(&prevote(2, 2)).is_err(), "all nodes have one guard");

    fs::write(&config, "[[chain]\n").unwrap();
    signer.signal(Signal::HUP);
    let line = signer.said("configuration not reloaded, the old one stays");
    assert!(line.contains("CONFIG-"), "{line}");
    first.sign_vote(&prevote(3, 1)).unwrap();
    third.sign_vote(&vote(VoteKind::Precommit, 3, Some(1), 0)).unwrap();
    let connected = format!("[{CHAIN}@{}] connected to validator successfully", address(0));
    assert_eq!(signer.count(&connected), 1, "its session never ended");
}

#[test]
fn health_tells_the_reason_and_metrics_have_frozen_names() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string(), "tcp://127.0.0.1:1".into()]);
    let signer = stage.start_with(&config, &["--http", "127.0.0.1:0"]);
    let http = http_of(&signer);
    let mut remote = called(&node);
    remote.sign_proposal(&stage::proposal(1, 1)).unwrap();
    remote.sign_vote(&prevote(1, 1)).unwrap();
    assert!(remote.sign_vote(&prevote(1, 2)).is_err());
    remote.sign_vote(&vote(VoteKind::Precommit, 4, Some(1), 0)).unwrap();
    signer.said("cannot reach the validator");
    assert_eq!(get(&http, "/livez").0, 200);
    let (status, body) = get(&http, "/readyz");
    assert_eq!(status, 503);
    assert!(body.contains("tcp://127.0.0.1:1") && body.contains("cannot reach"), "{body}");
    assert_eq!(get(&http, "/nothing").0, 404);
    // The counters move after the answer is out.
    let deadline = Instant::now() + PATIENCE;
    let text = loop {
        let (status, text) = get(&http, "/metrics");
        assert_eq!(status, 200);
        if text.contains("semel_kms_last_signed_height")
            && text.lines().any(|l| l.starts_with("semel_kms_last_signed_height") && l.ends_with(" 4"))
        {
            break text;
        }
        assert!(Instant::now() < deadline, "{text}");
    };
    assert_eq!(described(&text), include_str!("golden/metrics.txt"), "metrics are part of what operators build on");
    let of = format!("chain=\"{CHAIN}\",validator=\"{}\"", node.address());
    for line in [
        format!("semel_kms_requests_total{{{of},type=\"prevote\",result=\"signed\"}} 1"),
        format!("semel_kms_requests_total{{{of},type=\"proposal\",result=\"signed\"}} 1"),
        format!("semel_kms_refusals_total{{{of},kind=\"conflict\"}} 1"),
        format!("semel_kms_connected{{{of}}} 1"),
        format!("semel_kms_requests_total{{{of},type=\"prevote\",result=\"refused\"}} 1"),
        format!("semel_kms_refusals_total{{{of},kind=\"regression\"}} 0"),
        format!("semel_kms_request_seconds_count{{{of},stage=\"fsync\"}} 3"),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}

#[test]
fn ready_means_that_every_node_is_connected() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = stage.start_with(&stage.config(&[node.address().to_string()]), &["--http", "127.0.0.1:0"]);
    let _remote = called(&node);
    signer.said("connected to validator successfully");
    assert_eq!(get(&http_of(&signer), "/readyz").0, 200);
}

#[test]
fn json_logs_are_one_object_a_line_and_no_secret_is_in_any() {
    use base64::Engine as _;
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let mut signer = stage.start_with(&config, &["--log-format", "json", "--verbose"]);
    let mut remote = called(&node);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    assert!(remote.sign_vote(&prevote(1, 2)).is_err());
    signer.said("attempted double sign");
    signer.signal(Signal::TERM);
    signer.ended();
    let text = signer.text();
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["timestamp"].is_string() && value["level"].is_string(), "{line}");
    }
    for seed in [[1_u8; 32], [3; 32]] {
        for secret in
            [hex::encode(seed), hex::encode_upper(seed), base64::engine::general_purpose::STANDARD.encode(seed)]
        {
            assert!(!text.contains(&secret), "a secret is in the log");
        }
    }
}

#[test]
fn the_service_manager_hears_ready_watchdog_reloading_and_stopping() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let socket = UnixDatagram::bind(stage.path("notify.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = semel();
    command.args(["kms", "start", "-c"]).arg(&config).args(stage.ledger());
    command.env("NOTIFY_SOCKET", stage.path("notify.sock")).env("WATCHDOG_USEC", "400000");
    let mut signer = Signer::spawn(command);
    let mut heard = Vec::new();
    let mut until = |word: &str| {
        let mut buffer = [0; 1024];
        loop {
            let count = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {word}: {error}; heard {heard:?}"));
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            let is_it = text.lines().any(|line| line == word);
            heard.push(text);
            if is_it {
                return;
            }
        }
    };
    until("READY=1");
    until("WATCHDOG=1");
    signer.signal(Signal::HUP);
    until("RELOADING=1");
    until("READY=1");
    signer.signal(Signal::TERM);
    until("STOPPING=1");
    assert!(signer.ended().success());
}

#[test]
fn a_hook_raises_the_floor_and_a_hook_that_fails_decides_as_configured() {
    // Program, further keys, whether it starts, the lowest height that is signed.
    let rows = [
        (r#"["/bin/echo", "{\"latest_block_height\":\"100\"}"]"#, "", true, 101),
        (r#"["/bin/echo", "{\"latest_block_height\":7}"]"#, "", true, 8),
        (r#"["/bin/echo", "nothing"]"#, "fail_closed = false", true, 1),
        (r#"["/bin/echo", "nothing"]"#, "fail_closed = true", false, 0),
        (r#"["/bin/false"]"#, "fail_closed = true", false, 0),
        (r#"["/bin/sleep", "30"]"#, "fail_closed = true, timeout_secs = 1", false, 0),
        (r#"["/does/not/exist"]"#, "fail_closed = true", false, 0),
    ];
    for (command, more, starts, lowest) in rows {
        let stage = Stage::new();
        let node = node(Family::V034);
        let config = stage.config(&[node.address().to_string()]);
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        let text = fs::read_to_string(&config).unwrap();
        fs::write(
            &config,
            text.replacen("[[chain]]\n", &format!("[[chain]]\nstate_hook = {{ cmd = {command}{more} }}\n"), 1),
        )
        .unwrap();
        let mut signer = stage.start(&config);
        if starts {
            let mut remote = called(&node);
            assert!(remote.sign_vote(&prevote(lowest - 1, 1)).is_err(), "{command}");
            remote.sign_vote(&prevote(lowest, 1)).unwrap();
        } else {
            assert_eq!(signer.ended().code(), Some(1), "{command}: {}", signer.text());
            signer.said("state_hook of test-1 failed");
        }
    }
}

#[test]
fn two_processes_with_different_keys_share_one_ledger() {
    let stage = Stage::new();
    let nodes = [node(Family::V034), node_at(Listen::Tcp("127.0.0.1:0".parse().unwrap()), Family::V034, "other-1")];
    stage.secret("other.key", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
    let first = stage.start(&stage.config(&[nodes[0].address().to_string()]));
    let second = stage.config_of("other.toml", "other-1", "other", &[nodes[1].address().to_string()]);
    let other = stage.start(&second);
    called(&nodes[0]).sign_vote(&prevote(5, 1)).unwrap();
    called(&nodes[1]).sign_vote(&prevote(6, 1)).unwrap();
    first.kill();
    other.kill();
    // Both keys move into one process; nothing is forgotten.
    let _both = stage.start_with(&stage.path("tmkms.toml"), &["-c", second.to_str().unwrap()]);
    assert!(called(&nodes[0]).sign_vote(&prevote(5, 2)).is_err());
    assert!(called(&nodes[1]).sign_vote(&prevote(6, 2)).is_err());
}
