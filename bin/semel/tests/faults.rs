//! Disks that fail under a running signer, and ends in the middle of its work: a signature that left is never followed by another.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]

mod stage;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use semel_devnet_tendermint::consensus::{Encoding, Height, VoteKind};
use semel_devnet_tendermint::privval::messages::{Answer, Request, Scratch};
use semel_devnet_tendermint::privval::{Family, Listener, Remote};
use stage::{PATIENCE, Signer, Stage, called, get, node, prevote, refusal, skip, vote};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The signer under a shell that has done something first.
fn shelled(stage: &Stage, config: &Path, first: &str, more: &str) -> Command {
    let script = format!(
        "{first}exec {} kms start -c {} --ledger {} --i-accept-volatile-ledger {more}",
        env!("CARGO_BIN_EXE_semel"),
        config.display(),
        stage.path("ledger").display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    command
}

/// No file of this process takes another byte from now on, as on a full or failing disk; or again as before.
fn set_disk_fails(signer: &Signer, fails: bool) {
    let before = getrlimit(Resource::Fsize);
    let limit = Rlimit { current: if fails { Some(0) } else { before.current }, maximum: before.maximum };
    prlimit(Pid::from_raw(signer.id()), Resource::Fsize, limit).unwrap();
}

#[test]
fn a_disk_that_fails_under_way_stops_signatures_and_not_the_session() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let signer = Signer::spawn(shelled(&stage, &config, "trap '' XFSZ; ", "--http 127.0.0.1:0"));
    let http = signer.said("health and metrics on").split("http://").nth(1).unwrap().to_owned();
    let mut remote = called(&node);
    remote.sign_vote(&prevote(5, 1)).unwrap();
    set_disk_fails(&signer, true);
    for height in 6..9 {
        let (code, words) = refusal(remote.sign_vote(&prevote(height, 1)));
        assert!(code == 1 && words.contains("GUARD-"), "{words}");
    }
    signer.said("the ledger stopped, nothing is signed any more");
    let deadline = Instant::now() + PATIENCE;
    while get(&http, "/readyz").0 == 200 {
        assert!(Instant::now() < deadline, "it is ready with a ledger that failed");
    }
    assert!(get(&http, "/readyz").1.contains("ledger"));
    // What a failed write left behind is unknown, so the ledger stays closed until it is read again.
    set_disk_fails(&signer, false);
    assert_eq!(refusal(remote.sign_vote(&prevote(9, 1))).0, 1);
    // What was signed before is still answered, and is still refused for another block.
    remote.ping().unwrap();
    assert!(remote.sign_vote(&prevote(5, 2)).is_err());
    signer.kill();
    let _signer = stage.start(&config);
    let mut remote = called(&node);
    assert_eq!(refusal(remote.sign_vote(&prevote(5, 2))).0, 2);
    remote.sign_vote(&prevote(10, 2)).unwrap();
}

/// A private mount on the ledger's directory, or the reason why there is none.
fn mounted(name: &str) -> bool {
    let tried = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    let can = tried.is_ok_and(|status| status.success());
    if !can {
        skip(name, "this user may not mount");
    }
    can
}

#[test]
fn a_file_system_without_room_is_said_at_the_start_and_filled_later_does_no_harm() {
    if !mounted("a_file_system_without_room") {
        return;
    }
    let stage = Stage::new();
    std::fs::create_dir(stage.path("mount")).unwrap();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let at = stage.path("mount").display().to_string();
    let ledger = format!("{at}/ledger");
    let start = |size: &str, then: &str| {
        let script = format!(
            "mount -t tmpfs -o size={size} none {at} || exit 9; {then} exec {} kms start -c {} --ledger {ledger} --i-accept-volatile-ledger",
            env!("CARGO_BIN_EXE_semel"),
            config.display(),
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]);
        Signer::spawn(command)
    };
    let mut signer = start("64k", "");
    assert_eq!(signer.ended().code(), Some(1), "{}", signer.text());
    let line = signer.said("LEDGER-0001");
    assert!(line.contains("space"), "{line}");
    signer.said("hint:");

    // Something else eats the rest once the ledger is there; segments have their room from the start.
    let eat = format!(
        "(until [ -e {ledger}/volume-0/segment-0 ]; do sleep 0.01; done; sleep 0.3; cat /dev/zero > {at}/eaten 2>/dev/null; echo EATEN) &"
    );
    let signer = start("64m", &eat);
    signer.said("EATEN");
    let mut remote = called(&node);
    for height in 1..200 {
        remote.sign_vote(&prevote(height, 1)).unwrap();
    }
}

#[test]
fn a_read_only_disk_is_said_at_the_start_and_what_it_holds_stays() {
    if !mounted("a_read_only_disk") {
        return;
    }
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let signer = stage.start(&config);
    called(&node).sign_vote(&prevote(5, 1)).unwrap();
    signer.kill();
    let first = format!("mount --bind {0} {0} && mount -o remount,ro,bind {0} && ", stage.path("ledger").display());
    let inner = shelled(&stage, &config, &first, "");
    let mut command = Command::new("unshare");
    command.arg("-m").arg(inner.get_program()).args(inner.get_args());
    let mut signer = Signer::spawn(command);
    assert_eq!(signer.ended().code(), Some(1), "{}", signer.text());
    let line = signer.said("LEDGER-0001");
    assert!(line.to_lowercase().contains("read-only"), "{line}");
    let _signer = stage.start(&config);
    assert_eq!(refusal(called(&node).sign_vote(&prevote(5, 2))).0, 2);
}

#[test]
fn a_ledger_that_is_lost_leaves_the_floor_of_the_state_file() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let signer = stage.start(&config);
    called(&node).sign_vote(&vote(VoteKind::Precommit, 50, Some(1), 0)).unwrap();
    signer.kill();
    std::fs::remove_dir_all(stage.path("ledger")).unwrap();
    let signer = stage.start(&config);
    let mut remote = called(&node);
    signer.said("the state file is ahead of the ledger");
    assert_eq!(refusal(remote.sign_vote(&vote(VoteKind::Precommit, 50, Some(2), 0))).0, 2);
    assert_eq!(refusal(remote.sign_vote(&prevote(50, 1))).0, 2);
    remote.sign_vote(&prevote(51, 2)).unwrap();
}

#[test]
fn files_of_another_user_are_named() {
    if !rustix::process::geteuid().is_root() {
        return skip("files_of_another_user_are_named", "only root can be two users");
    }
    let nobody = 65_534;
    let stage = Stage::new();
    let config = stage.config(&["unix:///nowhere.sock".into()]);
    for name in ["", "consensus.key", "tmkms.toml"] {
        let mode = if name.is_empty() { 0o777 } else { 0o644 };
        std::fs::set_permissions(stage.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::chown(stage.path("consensus.key"), Some(nobody - 1), None).unwrap();
    let ledger = stage.path("ledger");
    std::fs::create_dir(&ledger).unwrap();
    // Writable through its group, and still somebody else's.
    std::os::unix::fs::chown(&ledger, Some(nobody - 1), Some(nobody)).unwrap();
    std::fs::set_permissions(&ledger, std::fs::Permissions::from_mode(0o770)).unwrap();
    // The binary may lie where only root comes.
    let program = stage.path("semel");
    std::fs::copy(env!("CARGO_BIN_EXE_semel"), &program).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("kms").args(arguments).arg("-c").arg(&config).uid(nobody).gid(nobody).current_dir(stage.path(""));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    let text = run(&["config", "check"]);
    assert!(text.contains("consensus.key") && text.contains("belongs to user 65533"), "{text}");
    let text = run(&["start", "--i-accept-volatile-ledger", "--ledger", ledger.to_str().unwrap()]);
    assert!(text.contains("LEDGER-0006") && text.contains("hint:"), "{text}");
}

/// Asks for so many prevotes in one write, and does not wait for an answer.
fn ask_for(remote: &mut Remote, first: u64, count: u64) {
    let (mut scratch, mut message, mut all) = (Scratch::default(), Vec::new(), Vec::new());
    for height in first..first + count {
        let request = prevote(height, 1);
        Request::Vote(&request, [0; 20]).write(Encoding::Protobuf, stage::CHAIN, &mut scratch, &mut message);
        // A length below 2^14 as a varint of two bytes, which may be longer than it must be.
        all.extend([message.len() as u8 | 0x80, (message.len() >> 7) as u8]);
        all.extend_from_slice(&message);
    }
    remote.send_raw(&all).unwrap();
}

/// Takes answers until the connection ends; the height of the last one.
fn last_signed(remote: &mut Remote) -> u64 {
    let mut last = 0;
    while let Ok(bytes) = remote.receive() {
        match Answer::read(Encoding::Protobuf, bytes).unwrap() {
            Answer::Vote(Ok(echo)) => last = echo.height.cast_unsigned(),
            // Too late for the end.
            Answer::Vote(Err(error)) => assert_eq!(error.code, 1, "{error}"),
            other => panic!("{other:?}"),
        }
    }
    last
}

fn ends_in_the_middle(stage: &Stage, node: &Listener, durability: &str, signal: Signal) -> u64 {
    const AT_ONCE: u64 = 400;
    let config = stage.config(&[node.address().to_string()]);
    let more = ["--durability", durability];
    let (mut top, mut signed) = (0, 0);
    for _ in 0..3 {
        let mut signer = stage.start_with(&config, &more);
        let mut remote = called(node);
        if top > 0 {
            let words = format!("{durability} {signal:?}: height {top} was signed before");
            assert_eq!(refusal(remote.sign_vote(&prevote(top, 2))).0, 2, "{words}");
        }
        // Answers may have been lost on their way, and a reservation of a killed signer may have closed some heights.
        let first = signed + 30;
        ask_for(&mut remote, first, AT_ONCE);
        // At least one answer is on the way when it ends.
        let bytes = remote.receive().unwrap().to_vec();
        assert!(matches!(Answer::read(Encoding::Protobuf, &bytes).unwrap(), Answer::Vote(Ok(_))));
        let since = Instant::now();
        signer.signal(signal);
        top = last_signed(&mut remote).max(first);
        let status = signer.ended();
        if signal == Signal::TERM {
            assert!(status.success() && since.elapsed().as_millis() < 1500, "{status} {:?}", since.elapsed());
        }
        let state: serde_json::Value = serde_json::from_str(&stage.read("consensus.json")).unwrap();
        let height: u64 = state["height"].as_str().unwrap().parse().unwrap();
        assert!(height >= top, "{durability}: the state file says {height}, {top} was answered");
        signed = height;
    }
    top
}

#[test]
fn whatever_left_before_a_sudden_or_an_orderly_end_is_closed_after_it() {
    for durability in ["sync", "reserve"] {
        for signal in [Signal::KILL, Signal::TERM] {
            let (stage, node) = (Stage::new(), node(Family::V034));
            let top = ends_in_the_middle(&stage, &node, durability, signal);
            let asked = Height(top);
            assert!(asked.0 >= 90);
        }
    }
}
