//! A log that nobody reads any more holds up no signature and no end.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use rustix::process::{Pid, Signal, kill_process};
use semel_devnet_tendermint::privval::Family;
use stage::{PATIENCE, Stage, called, node, prevote, semel};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A signer whose standard output and error go to this pipe.
fn piped(stage: &Stage, address: &str, output: std::io::PipeWriter) -> Child {
    let mut command = semel();
    command.args(["kms", "start", "-c"]).arg(stage.config(&[address.to_owned()])).args(stage.ledger());
    command.stdin(Stdio::null()).stderr(output.try_clone().unwrap()).stdout(output).spawn().unwrap()
}

fn ends_in_order(mut child: Child, within: Duration) {
    let since = Instant::now();
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if since.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success() && since.elapsed() < within, "{status} after {:?}", since.elapsed());
}

/// Signs more than fits into a pipe: a line has 100 bytes, the pipe 64 KiB.
fn signs_and_ends(reader: Option<std::io::PipeReader>, writer: std::io::PipeWriter) {
    let stage = Stage::new();
    let node = node(Family::V034);
    let child = piped(&stage, &node.address().to_string(), writer);
    let mut remote = called(&node);
    let mut slowest = Duration::ZERO;
    for height in 1..=1500 {
        let since = Instant::now();
        remote.sign_vote(&prevote(height, 1)).unwrap();
        slowest = slowest.max(since.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    ends_in_order(child, Duration::from_secs(3));
    drop(reader);
}

#[test]
fn a_log_whose_reader_is_gone_is_given_up() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    signs_and_ends(None, writer);
}

#[test]
fn a_log_whose_reader_has_stopped_is_left_behind_at_the_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    signs_and_ends(Some(reader), writer);
}
