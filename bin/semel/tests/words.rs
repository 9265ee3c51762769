//! What the running signer writes: lines that alerts are built on, and no secret ever.

mod stage;

use regex_lite::Regex;
use rustix::process::Signal;
use semel_devnet_tendermint::consensus::VoteKind;
use semel_devnet_tendermint::privval::Family;
use stage::{CHAIN, Signer, Stage, called, node, prevote, proposal, semel, vote};

#[test]
fn lines_have_the_shapes_that_alerts_look_for() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let mut signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    remote.sign_proposal(&proposal(1, 0xab)).unwrap();
    remote.sign_vote(&prevote(1, 0xab)).unwrap();
    remote.sign_vote(&vote(VoteKind::Precommit, 1, None, 0)).unwrap();
    remote.sign_vote(&vote(VoteKind::Precommit, 1, None, 9)).unwrap();
    assert!(remote.sign_vote(&vote(VoteKind::Precommit, 1, Some(2), 0)).is_err());
    assert!(remote.sign_vote(&prevote(1 << 50, 1)).is_err());
    // A line comes after its answer.
    signer.said("GUARD-0002");
    signer.signal(Signal::TERM);
    assert!(signer.ended().success());
    let at = regex_lite::escape(&format!("[{CHAIN}@{}]", node.address()));
    let rows = [
        ("INFO", r"semel [0-9]+\.[0-9]+\.[0-9]+ starting up".to_owned()),
        ("INFO", "KMS node ID: [0-9a-f]{40}".into()),
        ("INFO", r"\[keyring:softsign\] added consensus Ed25519 key: [0-9A-F]{64}".into()),
        ("WARN", r"\[test-1\] no state for this key: .*consensus\.json was created at height 0\..*".into()),
        ("INFO", format!("{at} connected to validator successfully")),
        ("INFO", format!("{at} peer [0-9a-f]{{40}}, handshake v0\\.34.*")),
        ("INFO", format!(r"{at} signed Proposal:ABABABABAB at h/r/s 1/0/0 \([0-9]+ ms\)")),
        ("INFO", format!(r"{at} signed Prevote:ABABABABAB at h/r/s 1/0/1 \([0-9]+ ms\)")),
        ("INFO", format!(r"{at} signed Precommit:<nil> at h/r/s 1/0/2 \([0-9]+ ms\)")),
        ("INFO", format!(r"{at} repeated Precommit:<nil> at h/r/s 1/0/2 \([0-9]+ ms\)")),
        ("ERROR", format!(r"{at} attempted double sign Precommit:0202020202 at h/r/s 1/0/2: GUARD-0003: .*")),
        ("WARN", format!("{at} GUARD-0002: .*")),
        ("INFO", "stopping: SIGTERM".into()),
        ("INFO", "stopped, every signed position is in the ledger".into()),
    ];
    let text = signer.text();
    let mut lines = text.lines();
    for (level, words) in rows {
        let shape = format!(r"^[0-9-]{{10}}T[0-9:.]+Z +{level} [a-z_:]+: {words}$");
        let shape = Regex::new(&shape).unwrap();
        // In this order, with others between them.
        assert!(lines.any(|line| shape.is_match(line)), "{words} does not come, or not here:\n{text}");
    }
}

#[test]
fn the_environment_says_how_much_is_written() {
    for (level, info, warnings) in [("warn", false, true), ("error", false, false), ("info", true, true)] {
        let stage = Stage::new();
        let node = node(Family::V034);
        let mut command = semel();
        command.args(["kms", "start", "-c"]).arg(stage.config(&[node.address().to_string()])).args(stage.ledger());
        let mut signer = Signer::spawn({
            command.env("RUST_LOG", level);
            command
        });
        called(&node).sign_vote(&prevote(1, 1)).unwrap();
        signer.signal(Signal::TERM);
        signer.ended();
        assert_eq!((signer.count("INFO") > 0, signer.count("WARN") > 0), (info, warnings), "{}", signer.text());
    }
}

#[test]
fn what_is_wrong_with_a_secret_is_said_without_it() {
    let secret = "nA5mVJ8Yq2sT7uWx0zB3dE6fH9jK1lMnPqRsTuVwXyZ";
    let rows = [
        ("no base64", format!("{secret}!!")),
        ("too short", format!("{}==", secret.split_at(26).0)),
        ("too long", secret.repeat(4)),
        ("two lines", format!("{secret}=\n{secret}=\n")),
        (
            "JSON in a base64 file",
            format!("{{\"priv_key\":{{\"type\":\"tendermint/PrivKeyEd25519\",\"value\":\"{secret}\"}}}}"),
        ),
        ("another type", format!("{{\"priv_key\":{{\"type\":\"{secret}\",\"value\":\"{secret}\"}}}}")),
        ("JSON that ends early", format!("{{\"priv_key\":{{\"value\":\"{secret}")),
    ];
    for format in ["base64", "json"] {
        for (name, text) in &rows {
            let stage = Stage::new();
            stage.config(&["tcp://127.0.0.1:1".into()]);
            stage.edit("tmkms.toml", "key_type =", &format!("key_format = \"{format}\"\nkey_type ="));
            stage.secret("consensus.key", text);
            stage.secret("identity.key", text);
            let ledger = ["--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
            for words in [
                &["kms", "config", "check", "-c", "DIR/tmkms.toml"][..],
                &["kms", "config", "check", "--json", "-c", "DIR/tmkms.toml"],
                &[&["kms", "start", "--verbose", "-c", "DIR/tmkms.toml"], &ledger[..]].concat(),
                &["kms", "softsign", "import", "DIR/consensus.key", "DIR/out.key"],
            ] {
                let ran = stage.run(words);
                let told = format!("{}{}", ran.stdout, ran.stderr);
                assert!(ran.code == 1 && !told.is_empty(), "{name}, {words:?}: {told}");
                let part = secret.split_at(8).0;
                assert!(!told.contains(part), "{name}, {words:?} tells the secret: {told}");
            }
        }
    }
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_it() {
    let stage = Stage::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut signer = stage.start_with(&stage.config(&["unix:///nowhere.sock".into()]), &["--http", &address]);
    assert_eq!(signer.ended().code(), Some(1));
    assert!(signer.said("error:").contains(&address), "{}", signer.text());
}
