//! Bad peers, bad files, bad disks: a clear word with a code, and nothing lost.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semel_devnet_tendermint::consensus::VoteKind;
use semel_devnet_tendermint::privval::{Family, Listener, Remote, RemoteError};
use stage::{CHAIN, PATIENCE, Signer, Stage, called, node, prevote, semel, skip, vote};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::time::{Duration, Instant};

/// Asks for one more signature: the signer is as good as new.
fn is_well(node: &Listener, height: u64) {
    called(node).sign_vote(&prevote(height, 1)).unwrap();
}

/// Whether the other side hangs up without another message.
fn hangs_up(mut remote: Remote) -> bool {
    matches!(remote.receive(), Err(RemoteError::Connection(_) | RemoteError::Secret(_)))
}

#[test]
fn broken_messages_end_the_session_and_the_next_one_is_fine() {
    // Name, what is sent inside the channel, a part of what the signer says.
    let rows: [(&str, Vec<u8>, &str); 6] = [
        ("longer than a request can be", vec![0xff, 0xff, 0xff, 0xff, 0x7f], "undecodable"),
        ("a length without an end", vec![0xff; 12], "undecodable"),
        ("an empty message", vec![0], "undecodable"),
        ("no message", vec![4, 0xff, 0xff, 0xff, 0xff], "undecodable"),
        ("a vote that ends inside a field", vec![4, 0x1a, 2, 0x0a, 9], "undecodable"),
        ("two members", vec![4, 0x3a, 0, 0x3a, 0], "undecodable"),
    ];
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    for (height, (name, bytes, words)) in (1..).zip(rows) {
        let mut remote = called(&node);
        remote.send_raw(&bytes).unwrap();
        assert!(hangs_up(remote), "{name}");
        is_well(&node, height);
        signer.said(words);
    }
    let below: [(&str, Vec<u8>); 3] =
        [("a spoiled frame", vec![7; 1044]), ("half a frame and the end", vec![7; 500]), ("nothing", vec![])];
    for (height, (name, bytes)) in (100..).zip(below) {
        let mut remote = called(&node);
        remote.send_unsealed(&bytes).unwrap();
        if bytes.len() < 1044 {
            remote.socket().shutdown();
        } else {
            assert!(hangs_up(remote), "{name}");
        }
        is_well(&node, height);
    }
}

#[test]
fn requests_that_cannot_be_are_refused_and_the_session_goes_on() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    // A SignVoteRequest: field 1 the vote, field 2 the chain. The parts of a vote, in hex.
    let request = |vote: &str, chain: &str| {
        let vote = hex::decode(vote.replace(' ', "")).unwrap();
        let mut body = vec![0x0a, vote.len() as u8];
        body.extend(vote);
        body.extend([0x12, chain.len() as u8]);
        body.extend(chain.bytes());
        let mut message = vec![0x1a, body.len() as u8];
        message.extend(body);
        message
    };
    let rows = [
        ("another chain", request("0801 1005", "other-1"), "other-1"),
        ("no chain", request("0801 1005", ""), "chain"),
        ("height 0", request("0801", CHAIN), "height"),
        ("negative height", request("0801 10ffffffffffffffffff01", CHAIN), "height"),
        ("negative round", request("0801 1005 18ffffffffffffffffff01", CHAIN), "round"),
        ("huge round", request("0801 1005 18ffffffffffffffff7f", CHAIN), "round"),
        ("type 0", request("1005", CHAIN), "type"),
        ("type of a proposal", request("0820 1005", CHAIN), "type"),
        ("hash of 31 bytes", request(&format!("0801 1005 2221 0a1f{}", "ab".repeat(31)), CHAIN), "hash"),
        ("hash of 1 byte", request("0801 1005 2203 0a01ab", CHAIN), "hash"),
    ];
    for (name, message, words) in rows {
        remote.send(&message).unwrap();
        let answer = remote.receive().unwrap().to_vec();
        assert_eq!(answer[0], 0x22, "{name}: a SignedVoteResponse");
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(text.contains(words), "{name}: {text}");
    }
    // A member that nobody knows, and bytes without a meaning.
    for message in [vec![0x92, 0x01, 0], vec![0x4a, 2, 0x0a, 0]] {
        remote.send(&message).unwrap();
        let answer = remote.receive().unwrap();
        assert_eq!(answer[0], 0x52, "{message:02x?}");
    }
    remote.sign_vote(&prevote(5, 1)).unwrap();
    assert_eq!(signer.count("connected to validator successfully"), 1, "the session never ended");
}

#[test]
fn a_node_that_comes_and_goes_is_dialled_within_a_second_and_complained_about_once() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let address = node.address().to_string();
    let signer = stage.start(&stage.config(std::slice::from_ref(&address)));
    // Hangs up before, within and after the handshake.
    for bytes in [0, 1, 32, 35] {
        let mut socket = node.accept_socket(PATIENCE).unwrap();
        socket.write_all(&vec![0x20; bytes]).unwrap();
        drop(socket);
    }
    drop(called(&node));
    is_well(&node, 1);
    let since = Instant::now();
    let mut socket = node.accept_socket(PATIENCE).unwrap();
    assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
    // A node that says nothing hears our first word after a second.
    let mut word = [0; 35];
    socket.read_exact(&mut word).unwrap();
    drop(socket);
    drop(node);
    signer.said("cannot reach the validator");
    let seen = signer.count("cannot reach the validator");
    std::thread::sleep(Duration::from_millis(2500));
    assert!(signer.count("cannot reach the validator") <= seen + 1, "one line for the same trouble");
}

#[test]
fn another_node_than_the_pinned_one_gets_nothing() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let address = node.address().to_string();
    let pinned = |id: &str| address.replace("tcp://", &format!("tcp://{id}@"));
    let signer = stage.start(&stage.config(&[pinned(&"ab".repeat(20))]));
    let mut remote = node.accept(PATIENCE).unwrap();
    assert!(remote.pub_key().is_err());
    let line = signer.said("expected peer abab");
    let found = line.split("found ").nth(1).unwrap().get(..40).unwrap().to_owned();
    drop(signer);
    let _signer = stage.start(&stage.config(&[pinned(&found)]));
    // What waits in the backlog is from the one that was ended.
    let mut asked = node.accept(PATIENCE);
    while asked.as_mut().map_or(true, |remote| remote.pub_key().is_err()) {
        asked = node.accept(PATIENCE);
    }
}

#[test]
fn a_flood_is_answered_in_order_and_bounded() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let _signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    let pings = [2, 0x3a, 0].repeat(2000);
    remote.send_raw(&pings).unwrap();
    for _ in 0..2000 {
        assert_eq!(remote.receive().unwrap(), [0x42, 0]);
    }
    remote.sign_vote(&prevote(1, 1)).unwrap();
}

#[test]
fn a_second_process_with_the_same_key_does_not_start() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let signer = stage.start(&config);
    is_well(&node, 1);
    let first = format!("process {}: ", signer.id());
    let second =
        stage.run(&["kms", "start", "-c", "DIR/tmkms.toml", "--ledger", "DIR/ledger", "--i-accept-volatile-ledger"]);
    assert_eq!(second.code, 3, "{second:?}");
    assert!(second.stderr.contains("LEDGER-0002") && second.stderr.contains(&first), "{second:?}");
    // Also not with another ledger: the state file is taken.
    let third =
        stage.run(&["kms", "start", "-c", "DIR/tmkms.toml", "--ledger", "DIR/new", "--i-accept-volatile-ledger"]);
    assert!(third.code != 0 && third.stderr.contains("STATE-0011") && third.stderr.contains(&first), "{third:?}");
}

#[test]
fn a_second_process_with_a_ledger_and_a_state_file_of_its_own_does_not_start_either() {
    let (stage, other, node) = (Stage::new(), Stage::new(), node(Family::V034));
    if semel_ledger::filesystem_of(&stage.path(".")).unwrap() != semel_ledger::Filesystem::Local {
        return skip("a_second_process_with_a_ledger_of_its_own", "the temporary directory is on no local disk");
    }
    // A key that no other test has, and ledgers that are not there for a test network.
    let mut seed = [0; 32];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut seed).unwrap();
    let key = BASE64.encode(seed);
    let begun = |stage: &Stage| {
        stage.secret("consensus.key", &key);
        stage.config(&[node.address().to_string()]);
        let mut command = semel();
        command.args(["kms", "start", "-c"]).arg(stage.path("tmkms.toml")).arg("--ledger").arg(stage.path("own"));
        Signer::spawn(command)
    };
    let mut first = begun(&stage);
    is_well(&node, 1);
    let mut second = begun(&other);
    assert_eq!(second.ended().code(), Some(3), "{}", second.text());
    second.said(&format!("process {}: ", first.id()));
    second.said("LEDGER-0002");
    first.signal(rustix::process::Signal::TERM);
    assert!(first.ended().success());
    let _third = begun(&other);
    is_well(&node, 2);
}

/// A stage where height 50 was signed, in order.
fn after_height_50() -> (Stage, Listener) {
    let stage = Stage::new();
    let node = node(Family::V034);
    let mut signer = stage.start(&stage.config(&[node.address().to_string()]));
    called(&node).sign_vote(&vote(VoteKind::Precommit, 50, Some(1), 0)).unwrap();
    signer.signal(rustix::process::Signal::TERM);
    assert!(signer.ended().success());
    (stage, node)
}

#[test]
fn state_files_that_are_not_one_stop_the_start_with_a_code_and_a_hint() {
    let owner = |chain: &str, key: &str| {
        format!(r#"{{"height":"60","round":"0","step":2,"chain_id":"{chain}","pub_key":"{key}"}}"#)
    };
    let key = "8A88E3DD7409F195FD52DB2D3CBA5D72CA6709BF1D94121BF3748801B40F6F5C";
    let rows = [
        ("empty", String::new(), "CONFIG-0115"),
        ("truncated", r#"{"height":"60","ro"#.into(), "CONFIG-0115"),
        ("another chain", owner("other-1", key), "CONFIG-0115"),
        ("another key", owner(CHAIN, &"AB".repeat(32)), "CONFIG-0115"),
    ];
    for (name, text, code) in rows {
        let (stage, _node) = after_height_50();
        fs::write(stage.path("consensus.json"), &text).unwrap();
        let ran = stage.run(&[
            "kms",
            "start",
            "-c",
            "DIR/tmkms.toml",
            "--ledger",
            "DIR/ledger",
            "--i-accept-volatile-ledger",
        ]);
        assert_eq!(ran.code, 1, "{name}: {ran:?}");
        assert!(ran.stderr.contains(code) && ran.stderr.contains("hint:"), "{name}: {ran:?}");
        assert_eq!(stage.read("consensus.json"), text, "{name}: it was left as it is");
    }
}

#[test]
fn the_higher_of_state_file_and_ledger_counts() {
    // What the state file says, the lowest height that is signed then, a part of what the signer says.
    let rows = [
        (Some(r#"{"height":"20","round":"0","step":2,"block_id":{}}"#), 51, "the ledger counts"),
        (Some(r#"{"height":"80","round":"0","step":2,"block_id":{}}"#), 81, "the state file is ahead of the ledger"),
        (None, 51, "the state file was missing"),
    ];
    for (file, lowest, words) in rows {
        let (stage, node) = after_height_50();
        match file {
            Some(text) => fs::write(stage.path("consensus.json"), text).unwrap(),
            None => fs::remove_file(stage.path("consensus.json")).unwrap(),
        }
        let signer = stage.start(&stage.path("tmkms.toml"));
        let mut remote = called(&node);
        signer.said(words);
        assert!(remote.sign_vote(&vote(VoteKind::Precommit, lowest - 1, Some(2), 0)).is_err(), "{file:?}");
        remote.sign_vote(&vote(VoteKind::Precommit, lowest, Some(2), 0)).unwrap();
    }
}

#[test]
fn a_ledger_that_was_damaged_moved_or_closed_to_us_refuses_and_is_left_as_it_is() {
    let start = ["kms", "start", "-c", "DIR/tmkms.toml", "--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
    let segments = |stage: &Stage| {
        let volume = stage.path("ledger/volume-0");
        let names = fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("segment-")).collect::<Vec<_>>()
    };
    let flip = |stage: &Stage| {
        // A byte inside the last record of every segment that has one.
        for path in segments(stage) {
            let bytes = fs::read(&path).unwrap();
            let Some(last) = bytes.chunks(512).rposition(|slot| slot.iter().any(|byte| *byte != 0)) else { continue };
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            let offset = last * 512 + 100;
            file.write_all_at(&[bytes[offset] ^ 1], offset as u64).unwrap();
        }
    };
    let cut = |stage: &Stage| {
        for path in segments(stage) {
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(512 * 3).unwrap();
        }
    };
    let foreign = |stage: &Stage| {
        let path = stage.path("ledger/host");
        let text = fs::read_to_string(&path).unwrap();
        let host = text.lines().find(|line| line.starts_with("host ")).unwrap().to_owned();
        fs::write(&path, text.replace(&host, "host 0123456789abcdef")).unwrap();
    };
    let open_to_all = |stage: &Stage| {
        fs::set_permissions(stage.path("ledger"), fs::Permissions::from_mode(0o777)).unwrap();
    };
    type Spoil<'a> = &'a dyn Fn(&Stage);
    let rows: [(&str, Spoil<'_>, &str, i32); 4] = [
        ("a flipped bit", &flip, "LEDGER-0003", 3),
        ("a segment that is too short", &cut, "LEDGER-0003", 3),
        ("another host", &foreign, "LEDGER-0004", 3),
        ("writable by others", &open_to_all, "LEDGER-0006", 1),
    ];
    for (name, spoil, code, exit) in rows {
        let (stage, _node) = after_height_50();
        if name == "another host" && fs::read_to_string(stage.path("ledger/host")).unwrap().contains("host none") {
            skip("a_ledger_that_was_moved_refuses", "this machine has no machine id");
            continue;
        }
        spoil(&stage);
        let before: Vec<_> = segments(&stage).iter().map(|path| fs::read(path).unwrap()).collect();
        let ran = stage.run(&start);
        assert_eq!(ran.code, exit, "{name}: {ran:?}");
        assert!(ran.stderr.contains(code) && ran.stderr.contains("hint:"), "{name}: {ran:?}");
        let after: Vec<_> = segments(&stage).iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(before == after, "{name}: it was changed");
    }
}

#[test]
fn a_disk_that_is_full_or_not_there_stops_the_start_and_not_the_protection() {
    let stage = Stage::new();
    stage.config(&["unix:///nowhere.sock".into()]);
    // A file where the directory should be.
    fs::write(stage.path("file"), "x").unwrap();
    let ran = stage.run(&["kms", "start", "-c", "DIR/tmkms.toml", "--ledger", "DIR/file"]);
    assert!(ran.code == 1 && ran.stderr.contains("LEDGER-0001"), "{ran:?}");
    // Nothing can be written there, whoever asks.
    let ran = stage.run(&["kms", "start", "-c", "DIR/tmkms.toml", "--ledger", "/proc/semel"]);
    assert!(ran.code == 1 && ran.stderr.contains("LEDGER-0001"), "{ran:?}");
    // A limit on file sizes is a full disk for this process.
    let mut limited = std::process::Command::new("sh");
    let script = format!(
        "ulimit -f 64; trap '' XFSZ; exec {} kms start -c {} --ledger {} --i-accept-volatile-ledger",
        env!("CARGO_BIN_EXE_semel"),
        stage.path("tmkms.toml").display(),
        stage.path("ledger").display()
    );
    let output = limited.args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("LEDGER-0001"), "{text}");
}

#[test]
fn a_file_system_that_forgets_is_refused_unless_it_is_accepted() {
    let shm = std::path::Path::new("/dev/shm");
    if !shm.is_dir() {
        return skip("a_file_system_that_forgets_is_refused", "there is no /dev/shm");
    }
    let directory = tempfile::tempdir_in(shm).unwrap();
    let stage = Stage::new();
    stage.config(&["unix:///nowhere.sock".into()]);
    let ledger = directory.path().join("ledger");
    let ran = stage.run(&["kms", "start", "-c", "DIR/tmkms.toml", "--ledger", ledger.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.stderr.contains("LEDGER-0005"), "{ran:?}");
}

#[test]
fn keys_that_cannot_be_used_are_named_with_what_is_wrong() {
    let rows = [
        ("consensus.key", "AQEB", "CONFIG-0114"),
        ("consensus.key", "", "CONFIG-0114"),
        ("identity.key", "AQEB", "CONFIG-0114"),
    ];
    for (name, content, code) in rows {
        let stage = Stage::new();
        stage.config(&["tcp://127.0.0.1:1".into()]);
        stage.secret(name, content);
        let ran = stage.run(&["kms", "start", "-c", "DIR/tmkms.toml", "--ledger", "DIR/ledger"]);
        assert!(ran.code == 1 && ran.stderr.contains(code) && ran.stderr.contains("hint:"), "{name}: {ran:?}");
    }
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    fs::set_permissions(stage.path("consensus.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let signer = stage.start(&config);
    is_well(&node, 1);
    signer.said("consensus.key has mode 0644");
}

#[test]
fn a_ledger_that_is_deleted_under_the_signer_stops_it_from_signing() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    fs::remove_dir_all(stage.path("ledger")).unwrap();
    signer.said("its files were removed or replaced");
    assert!(remote.sign_vote(&prevote(2, 1)).is_err());
}

#[test]
fn a_dry_run_raises_nothing_and_makes_no_state_file() {
    let (stage, node) = after_height_50();
    let behind = stage.read("consensus.json");
    fs::write(stage.path("consensus.json"), r#"{"height":"80","round":"0","step":2,"block_id":{}}"#).unwrap();
    let mut signer = stage.start_with(&stage.path("tmkms.toml"), &["--dry-run"]);
    signer.said("a dry run changes neither");
    assert!(called(&node).sign_vote(&prevote(60, 1)).is_err(), "nothing is signed");
    signer.signal(rustix::process::Signal::TERM);
    assert!(signer.ended().success());
    assert!(stage.read("consensus.json").contains("\"80\""));
    fs::remove_file(stage.path("consensus.json")).unwrap();
    let mut signer = stage.start_with(&stage.path("tmkms.toml"), &["--dry-run"]);
    signer.said("the state file is missing");
    signer.signal(rustix::process::Signal::TERM);
    assert!(signer.ended().success());
    assert!(!stage.path("consensus.json").exists());
    fs::write(stage.path("consensus.json"), behind).unwrap();
    // Sessions of those before are still in the queue of the other node.
    let fresh = stage::node(Family::V034);
    let _signer = stage.start(&stage.config(&[fresh.address().to_string()]));
    called(&fresh).sign_vote(&prevote(51, 1)).unwrap();
}

#[test]
fn root_does_not_close_heights_in_a_ledger_that_the_signer_does_not_read() {
    if !rustix::process::geteuid().is_root() {
        return skip("root_does_not_close_heights_in_a_ledger_that_the_signer_does_not_read", "this user is not root");
    }
    let stage = Stage::new();
    let config = stage.config(&["unix:///nowhere.sock".into()]);
    fs::write(stage.path("consensus.json"), r#"{"height":"1","round":"0","step":1,"block_id":null}"#).unwrap();
    std::os::unix::fs::chown(stage.path("consensus.json"), Some(65_534), None).unwrap();
    let arguments = ["kms", "state", "set-floor", "-c", config.to_str().unwrap(), "900"];
    let mut command = semel();
    let ran = command.env_remove("SEMEL_LEDGER").env("HOME", stage.path("home")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && text.contains("STATE-0105") && text.contains("sudo -u '#65534'"), "{text}");
    assert!(!stage.path("home").exists());
}
