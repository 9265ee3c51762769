//! `semel doctor`: what it finds, what it says mends it, and its exit code.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod stage;

use semel_devnet_tendermint::privval::Family;
use serde_json::Value;
use stage::{CHAIN, Signer, Stage, called, node, prevote};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A stage whose key signed up to height 5, in order.
fn signed() -> Stage {
    let stage = Stage::new();
    let node = node(Family::V034);
    let mut signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    for height in 1..=5 {
        remote.sign_vote(&prevote(height, 1)).unwrap();
    }
    signer.signal(rustix::process::Signal::TERM);
    assert!(signer.ended().success());
    stage
}

/// Exit code and checks.
fn examine(stage: &Stage, more: &[&str]) -> (i32, Vec<Value>) {
    let words = ["doctor", "-c", "DIR/tmkms.toml", "--ledger", "DIR/ledger", "--json"];
    let ran = stage.run(&[&words[..], more].concat());
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| unreachable!("{ran:?}"));
    (ran.code, answer["checks"].as_array().unwrap().clone())
}

fn verdict<'a>(checks: &'a [Value], code: &str) -> Vec<&'a str> {
    checks.iter().filter(|check| check["code"] == code).map(|check| check["verdict"].as_str().unwrap()).collect()
}

#[test]
fn a_well_kept_signer_is_told_so_and_every_finding_has_what_mends_it() {
    let stage = signed();
    let (code, checks) = examine(&stage, &[]);
    assert_eq!(code, 0, "{checks:#?}");
    assert!(checks.len() >= 20, "{}", checks.len());
    for expected in ["DOC-0101", "DOC-0201", "DOC-0302", "DOC-0305", "DOC-0401", "DOC-0405", "DOC-0501"] {
        assert!(verdict(&checks, expected).iter().all(|verdict| *verdict == "pass"), "{expected}: {checks:#?}");
        assert!(!verdict(&checks, expected).is_empty(), "{expected}");
    }
    for check in checks {
        let is_open = matches!(check["verdict"].as_str(), Some("warn" | "fail" | "unsafe"));
        assert_eq!(is_open, check["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{check}");
    }
    let tmkms = stage.run_tmkms(&["doctor", "-c", "DIR/tmkms.toml", "--ledger", "DIR/ledger"]);
    assert!(tmkms.code == 0 && tmkms.stdout.contains("  pass  DOC-0405  "), "{tmkms:?}");
}

#[test]
fn what_could_lead_to_a_second_signature_or_a_stolen_key_is_unsafe_and_ends_with_3() {
    type Change = fn(&Stage);
    let rows: [(&str, Change); 5] = [
        ("DOC-0305", |stage| stage.edit("consensus.json", "\"height\":\"5\"", "\"height\":\"4\"")),
        ("DOC-0201", |stage| {
            fs::set_permissions(stage.path("consensus.key"), fs::Permissions::from_mode(0o644)).unwrap()
        }),
        ("DOC-0404", |stage| fs::set_permissions(stage.path("ledger"), fs::Permissions::from_mode(0o755)).unwrap()),
        ("DOC-0306", |stage| {
            let out = ["handover", "export", "-o", "DIR/out", "--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
            assert_eq!(stage.run(&out).code, 0);
        }),
        ("DOC-0405", |stage| {
            for entry in fs::read_dir(stage.path("ledger/volume-0")).unwrap() {
                let path = entry.unwrap().path();
                let mut bytes = fs::read(&path).unwrap();
                if bytes.len() > 1024 && bytes[512..1024].iter().any(|byte| *byte != 0) {
                    bytes[700] ^= 1;
                    fs::write(path, bytes).unwrap();
                }
            }
        }),
    ];
    for (code, change) in rows {
        let stage = signed();
        change(&stage);
        let (exit, checks) = examine(&stage, &[]);
        assert!(verdict(&checks, code).contains(&"unsafe"), "{code}: {checks:#?}");
        assert_eq!((exit, checks[0]["verdict"].as_str()), (3, Some("unsafe")), "{code}: the worst comes first");
    }
}

#[test]
fn the_slips_of_the_guide_are_found() {
    let stage = signed();
    // v0.33 is no slip here.
    stage.edit("tmkms.toml", "reconnect = true", "reconnect = true\nprotocol_version = \"v0.33\"");
    let dir = stage.path("").display().to_string();
    // The unit names the configuration under a directory that nobody made, a user and a group that are not there.
    fs::create_dir(stage.path("units")).unwrap();
    let unit = format!("[Service]\nUser=tmkms-nobody\nGroup=tmks\nExecStart=/bin/sh start -c {dir}2.2.0/tmkms.toml\n");
    fs::write(stage.path("units/tmkms-01.service"), unit).unwrap();
    let (code, checks) = examine(&stage, &["--units", "DIR/units/*.service"]);
    assert_eq!(code, 1, "{checks:#?}");
    assert_eq!(verdict(&checks, "DOC-0102"), ["pass"]);
    for slip in ["DOC-0803", "DOC-0804", "DOC-0805"] {
        assert_eq!(verdict(&checks, slip), ["fail"], "{slip}: {checks:#?}");
    }
    let fix =
        |code: &str| checks.iter().find(|check| check["code"] == code).unwrap()["fix"].as_str().unwrap().to_owned();
    assert_eq!(fix("DOC-0803"), "it is DIR/tmkms.toml: correct ExecStart, or move the file");
    assert!(fix("DOC-0805").contains("chown -R tmkms-nobody:tmkms-nobody"), "{}", fix("DOC-0805"));
    // Who came from a signer that asked nothing has no user in the unit.
    stage.edit("units/tmkms-01.service", "User=tmkms-nobody\nGroup=tmks\n", "");
    for (allowed, expected) in [("", "fail"), ("Environment=SEMEL_ALLOW_ROOT=1\n", "pass")] {
        stage.edit("units/tmkms-01.service", "[Service]\n", &format!("[Service]\n{allowed}"));
        assert_eq!(verdict(&examine(&stage, &["--units", "DIR/units/*.service"]).1, "DOC-0809"), [expected]);
    }
    stage.edit("units/tmkms-01.service", "Environment=SEMEL_ALLOW_ROOT=1\n", "User=tmkms-nobody\nGroup=tmks\n");
    // A user who may not read what root owns, as after the chown that failed.
    stage.edit("units/tmkms-01.service", "User=tmkms-nobody\nGroup=tmks", "User=nobody");
    stage.edit("units/tmkms-01.service", "2.2.0/", "");
    let (_, checks) = examine(&stage, &["--units", "DIR/units/*.service"]);
    for right in ["DOC-0806", "DOC-0807", "DOC-0808"] {
        assert!(verdict(&checks, right).contains(&"fail"), "{right}: {checks:#?}");
    }
    assert!(
        checks
            .iter()
            .any(|check| check["fix"].as_str().is_some_and(|fix| fix.contains("sudo chown -R nobody:nobody ")))
    );
}

#[test]
fn units_are_read_as_systemd_reads_them() {
    let stage = signed();
    let node = node(Family::V034);
    stage.config(&[node.address().to_string()]);
    let dir = stage.path("").display().to_string();
    fs::create_dir(stage.path("units")).unwrap();
    let rows = [
        ("ExecStart=-/bin/sh start -c DIR/tmkms.toml", &["pass"][..]),
        ("ExecStart=@+/bin/sh sh start -c DIR/tmkms.toml", &["pass"]),
        ("WorkingDirectory=DIR\nExecStart=/bin/sh start -c tmkms.toml", &["pass"]),
        ("ExecStart=/bin/sh start \\\n  -c \\\n  DIR/tmkms.toml", &["pass"]),
        ("ExecStart=/bin/sh start --config=DIR/tmkms.toml", &["pass"]),
        ("ExecStart=/bin/sh start \\\n  -c DIR/nothing.toml", &["fail"]),
        ("ExecStart=/bin/sh start --config=DIR/nothing.toml", &["fail"]),
        ("ExecStart=/bin/sh start -c DIR", &["pass"]),
        ("ExecStart=/bin/sh start -c ${CONF}", &["skipped"]),
    ];
    for (text, expected) in rows {
        let text = format!("[Service]\nUser=root\n{}\n", text.replace("DIR", dir.trim_end_matches('/')));
        fs::write(stage.path("units/tmkms-01.service"), &text).unwrap();
        let (_, checks) = examine(&stage, &["--units", "DIR/units/*.service"]);
        assert_eq!(verdict(&checks, "DOC-0802"), ["pass"], "{text}{checks:#?}");
        assert_eq!(verdict(&checks, "DOC-0803"), expected, "{text}{checks:#?}");
    }
    fs::remove_file(stage.path("units/tmkms-01.service")).unwrap();
    fs::write(stage.path("units/t@.service"), format!("[Service]\nExecStart=/bin/sh start -c {dir}%i.toml\n")).unwrap();
    for (units, expected) in [("t@*.service", "skipped"), ("t@tmkms.service", "pass"), ("t@other.service", "fail")] {
        let (_, checks) = examine(&stage, &["--units", &format!("DIR/units/{units}")]);
        assert_eq!(verdict(&checks, "DOC-0803"), [expected], "{units}{checks:#?}");
    }
}

#[test]
fn a_node_is_reached_shaken_hands_with_and_told_apart_from_a_port_that_is_shut() {
    let stage = signed();
    let node = node(Family::V034);
    stage.config(&[node.address().to_string()]);
    let listening = std::thread::spawn(move || node.accept(stage::PATIENCE).map(drop));
    let (_, checks) = examine(&stage, &["--deep"]);
    assert_eq!(
        (verdict(&checks, "DOC-0502"), verdict(&checks, "DOC-0503")),
        (vec!["pass"], vec!["pass"]),
        "{checks:#?}"
    );
    drop(listening.join());
    let (code, checks) = examine(&stage, &["--deep"]);
    let shut = checks.iter().find(|check| check["code"] == "DOC-0502").unwrap();
    assert!(code == 1 && shut["fix"].as_str().unwrap().contains("priv_validator_laddr"), "{shut}");
}

#[test]
fn a_signer_that_runs_is_known_to_its_own_user_and_keeps_its_keys_out_of_swap() {
    if !rustix::process::geteuid().is_root() {
        return stage::skip("a_signer_that_runs_is_known_to_its_own_user", "only root can be another user");
    }
    let nobody = 65_534;
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    fs::copy(env!("CARGO_BIN_EXE_semel"), stage.path("semel")).unwrap();
    for name in ["", "semel", "tmkms.toml", "consensus.key", "identity.key"] {
        chown(stage.path(name), Some(nobody), Some(nobody)).unwrap();
    }
    let run = |verb: &str| {
        let mut command = Command::new(stage.path("semel"));
        command.arg(verb).env_remove("SEMEL_ALLOW_ROOT").uid(nobody).gid(nobody).current_dir(stage.path(""));
        command
    };
    let looked = || {
        let mut command = run("doctor");
        let out = command.arg("--json").arg("-c").arg(&config).args(&stage.ledger()[..2]).output().unwrap();
        let answer: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| unreachable!("{out:?}"));
        answer["checks"].as_array().unwrap().clone()
    };
    assert_eq!(verdict(&looked(), "DOC-0708"), ["skipped"]);
    let mut command = run("kms");
    command.args(["start", "-c"]).arg(&config).args(stage.ledger());
    let signer = Signer::spawn(command);
    called(&node).sign_vote(&prevote(1, 1)).unwrap();
    let checks = looked();
    assert_eq!(verdict(&checks, "DOC-0706"), ["pass"], "{checks:#?}");
    assert_eq!(verdict(&checks, "DOC-0708"), ["pass"], "{checks:#?}\n{}", signer.text());
}

/// A node's RPC with 101 validators, of whom this one is the last, for three requests.
fn rpc(height: u64, address: &str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let place = format!("http://{}", listener.local_addr().unwrap());
    let status = format!(
        r#"{{"result":{{"node_info":{{"network":"{CHAIN}"}},"sync_info":{{"latest_block_height":"{height}"}}}}}}"#
    );
    let page = |validators: &str| {
        format!(r#"{{"result":{{"block_height":"{height}","validators":[{validators}],"count":"1","total":"101"}}}}"#)
    };
    let first = page(&vec![r#"{"address":"0A"}"#; 100].join(","));
    let second = page(&format!(r#"{{"address":"{address}"}}"#));
    let rest = format!("page=2&height={height} ");
    std::thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let body = match &line {
                line if line.contains("/status") => &status,
                line if line.contains(&rest) => &second,
                _ => &first,
            };
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    place
}

#[test]
fn the_chain_tells_a_key_that_it_does_not_know_and_a_state_that_is_old() {
    let stage = signed();
    let address = "34750F98BD59FCFC946DA45AAABE933BE154A4B5";
    let rows = [(6, address, "pass", "pass"), (6, "00", "fail", "pass"), (50_000, address, "pass", "warn")];
    for (height, address, key, state) in rows {
        let (_, checks) = examine(&stage, &["--rpc", &rpc(height, address)]);
        assert_eq!(
            (verdict(&checks, "DOC-0506"), verdict(&checks, "DOC-0507")),
            (vec![key], vec![state]),
            "{checks:#?}"
        );
    }
    let (code, checks) = examine(&stage, &["--rpc", "http://127.0.0.1:1"]);
    assert_eq!((code, verdict(&checks, "DOC-0504")), (1, vec!["fail"]));
}

#[test]
fn a_node_that_a_running_signer_has_is_left_to_it() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let mut signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    let (code, checks) = examine(&stage, &["--deep"]);
    assert_eq!((code, verdict(&checks, "DOC-0503")), (0, vec!["pass"]), "{checks:#?}");
    let said = checks.iter().find(|check| check["code"] == "DOC-0503").unwrap()["found"].as_str().unwrap();
    assert!(said.contains(" is with process "), "{said}");
    assert_eq!(verdict(&checks, "DOC-0502"), Vec::<&str>::new(), "nobody waits at its door");
    remote.sign_vote(&prevote(2, 1)).unwrap();
    signer.signal(rustix::process::Signal::TERM);
    assert!(signer.ended().success());
}

#[test]
fn a_floor_that_was_put_above_what_was_signed_is_no_danger_and_a_lost_position_is() {
    let ledger = ["--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
    let stage = signed();
    let ran = stage.run(&[&["kms", "state", "set-floor", "-c", "DIR/tmkms.toml", "500"], &ledger[..]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let (code, checks) = examine(&stage, &[]);
    assert_eq!((code, verdict(&checks, "DOC-0305")), (0, vec!["pass"]), "{checks:#?}");
    let rows: [&[&[&str]]; 2] = [
        &[&["ledger", "import", "DIR/high.json"]],
        &[&["handover", "export", "-o", "DIR/out"], &["handover", "accept", "DIR/out"]],
    ];
    for commands in rows {
        let stage = signed();
        let high = stage.read("consensus.json").replace("\"height\":\"5\"", "\"height\":\"500\"");
        stage.secret("high.json", &high);
        for command in commands {
            let ran = stage.run(&[command, &ledger[..]].concat());
            assert_eq!(ran.code, 0, "{ran:?}");
        }
        let (code, checks) = examine(&stage, &[]);
        assert_eq!((code, verdict(&checks, "DOC-0305")), (0, vec!["pass"]), "{checks:#?}");
        let said = checks.iter().find(|check| check["code"] == "DOC-0305").unwrap()["found"].as_str().unwrap();
        assert!(said.ends_with(", where its floor was put"), "{said}");
        stage.edit("consensus.json", "\"height\":\"5\"", "\"height\":\"4\"");
        let (code, checks) = examine(&stage, &[]);
        assert_eq!((code, verdict(&checks, "DOC-0305")), (3, vec!["unsafe"]), "{checks:#?}");
    }
}
