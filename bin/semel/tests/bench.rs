//! `semel kms bench`: what it measures, and what it says of a signer that does not hold up.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]

mod stage;

use ed25519_dalek::{Signer as _, SigningKey};
use semel_guard::{Algorithm, PublicKey};
use semel_kms::core::sign_bytes;
use semel_kms::wire::{Delimited, Family, Request, Response};
use serde_json::Value;
use stage::{PATIENCE, Stage, skip};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn it_measures_ours_as_several_processes_and_leaves_nothing_behind() {
    let stage = Stage::new();
    let ran = stage.run(
        &[
            &["kms", "bench", "--dir", "DIR/new/deep", "--validators", "3", "--processes", "2"][..],
            &["--requests", "20", "--rounds", "1", "--json"],
        ]
        .concat(),
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = json(&ran.stdout);
    let round = &report["series"][0]["rounds"][0];
    assert_eq!((&round["latency"]["count"], &round["cost"]["processes"]), (&60.into(), &2.into()), "{report}");
    assert_eq!((&round["refusals"], &round["failures"]), (&0.into(), &0.into()), "{report}");
    let rates = round["signatures_per_second_by_connection"].as_array().unwrap();
    let all: f64 = rates.iter().map(|rate| rate.as_f64().unwrap()).sum();
    assert_eq!(rates.len(), 3, "{report}");
    assert!((all - round["signatures_per_second"].as_f64().unwrap()).abs() < 1.0, "{report}");
    assert!(report["disk_floor_before"]["count"] == 500 && report["disk_floor_after"]["count"] == 500, "{report}");
    assert!(!stage.path("new").exists());
}

#[test]
fn the_table_has_errors_and_the_slowest_of_a_thousand() {
    let stage = Stage::new();
    let ran = stage.run(&["kms", "bench", "--dir", "DIR", "--requests", "10", "--rounds", "1", "--unix"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let head = ran.stdout.lines().find(|line| line.starts_with("signer")).unwrap();
    let columns =
        ["procs", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "max µs", "sign/s", "errors", "MiB", "cpu s", "first ms"];
    let found: Vec<_> = columns.iter().map(|column| head.find(column)).collect();
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{head}");
    assert!(ran.stdout.contains(" before, p50 ") && ran.stdout.contains(" after · "), "{}", ran.stdout);
}

#[test]
fn syscalls_are_counted_where_there_is_strace() {
    let traced = Command::new("strace").args(["-f", "-c", "-o", "/dev/null", "--", "true"]).output();
    if !traced.is_ok_and(|traced| traced.status.success()) {
        return skip("syscalls_are_counted_where_there_is_strace", "strace is not installed, or may not trace");
    }
    let stage = Stage::new();
    let words = ["kms", "bench", "--dir", "DIR", "--requests", "10", "--rounds", "1", "--syscalls", "--json"];
    let ran = stage.run(&words);
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = json(&ran.stdout);
    let syscalls = &report["series"][0]["syscalls"];
    let of = |name: &str| syscalls[name].as_f64().unwrap();
    // One sync for each signature, and now and then one more for a segment.
    assert!((1.0..1.5).contains(&of("fdatasync")) && of("all") > 3.0 && of("rename") < 0.1, "{syscalls}");
}

#[test]
fn what_cannot_be_measured_is_an_error_with_a_code_and_a_hint() {
    let stage = Stage::new();
    let bench = ["kms", "bench", "--requests", "10", "--rounds", "1"];
    let rows: [(&[&str], &str, i32); 4] = [
        (&["--dir", "DIR/consensus.key/x"], "BENCH-0001", 1),
        (&["--dir", "DIR/new", "--against", "DIR/no-such-signer -c {config}"], "BENCH-0002", 1),
        (&["--dir", "DIR/new", "--report", "DIR/consensus.key/x"], "BENCH-0003", 1),
        (&["--dir", "DIR/new", "--processes", "2"], "BENCH-0006", 2),
    ];
    for (row, code, exit) in rows {
        let ran = stage.run(&[&bench, row].concat());
        assert_eq!(ran.code, exit, "{row:?}: {ran:?}");
        assert!(ran.stderr.contains(&format!("error[{code}]")) && ran.stderr.contains("hint: "), "{row:?}: {ran:?}");
        assert!(!stage.path("new").exists(), "{row:?}");
        assert_eq!(stage.run(&["explain", code]).code, 0, "{code}");
    }
    // No PATH, no strace.
    let mut command = stage::semel();
    let ran = command.args(["kms", "bench", "--syscalls"]).env("PATH", "/nonexistent").output().unwrap();
    assert!(String::from_utf8_lossy(&ran.stderr).contains("error[BENCH-0004]"), "{ran:?}");
}

/// Answers requests of a node at a unix socket: well, up to the tenth after the warm-up, which gets a signature that does not
/// verify; and hangs up instead of the twentieth.
fn answer_badly(socket: &Path) {
    let key = SigningKey::from_bytes(&[5; 32]);
    let public = PublicKey::new(Algorithm::Ed25519, key.verifying_key().as_bytes()).unwrap();
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut requests = Delimited::new(10_240);
    let (mut chunk, mut votes) = ([0; 4096], 0);
    loop {
        while let Some(message) = requests.next_message().unwrap() {
            let response = match Request::decode(Family::Protobuf, message).unwrap() {
                Request::Ping => Response::Ping,
                Request::PubKey { .. } => Response::PubKey(Ok(public.clone())),
                Request::SignVote { mut vote, chain_id, .. } => {
                    votes += 1;
                    let bytes = sign_bytes::vote(Family::Protobuf, &vote, &chain_id).bytes;
                    vote.signature = match votes {
                        30 => vec![7; 64],
                        40 => return,
                        _ => key.sign(&bytes).to_bytes().to_vec(),
                    };
                    Response::SignedVote(Ok(vote))
                }
                other => panic!("{other:?}"),
            };
            stream.write_all(&response.encode(Family::Protobuf)).unwrap();
        }
        match stream.read(&mut chunk).unwrap() {
            0 => return,
            len => requests.buffer().extend_from_slice(&chunk[..len]),
        }
    }
}

/// The socket of a node of the other signer, once it is there.
fn socket_below(directory: &Path) -> PathBuf {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let homes = fs::read_dir(directory).into_iter().flatten().flatten();
        let found = homes.map(|home| home.path().join("theirs-1/node-0.sock")).find(|path| path.exists());
        if let Some(path) = found {
            return path;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no node listens")
}

#[test]
fn a_signer_that_answers_badly_and_hangs_up_costs_its_own_requests_and_nothing_else() {
    let stage = Stage::new();
    // The process that is started does nothing; this thread answers.
    let idle = stage.secret("idle", "#!/bin/sh\nexec sleep 60\n");
    fs::set_permissions(&idle, fs::Permissions::from_mode(0o700)).unwrap();
    let directory = stage.path("new");
    let answers = std::thread::spawn(move || answer_badly(&socket_below(&directory)));
    let ran = stage.run(
        &[
            &["kms", "bench", "--dir", "DIR/new", "--unix", "--requests", "100", "--rounds", "1"][..],
            &["--against", "DIR/idle {config}", "--report", "DIR/report"],
        ]
        .concat(),
    );
    answers.join().unwrap();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("error[BENCH-0005]: 82 of 200 requests"), "{ran:?}");
    assert!(ran.stdout.contains("idle: 0 refused, 82 without an answer that verifies; first: "), "{ran:?}");
    let report = json(&stage.read("report/report.json"));
    let rounds = [0, 1].map(|index: usize| &report["series"][index]["rounds"][0]);
    assert_eq!(rounds.map(|round| round["latency"]["count"].as_u64().unwrap()), [100, 18], "{report}");
    assert_eq!(rounds.map(|round| round["failures"].as_u64().unwrap()), [0, 82], "{report}");
    assert!(stage.path("report/latency.svg").exists() && !stage.path("new").exists());
}
