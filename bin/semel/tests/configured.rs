//! What a configuration says is what the running signer does.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

mod stage;

use semel_devnet_tendermint::consensus::canonical::vote_sign_bytes;
use semel_devnet_tendermint::consensus::{Encoding, Vote, VoteKind};
use semel_devnet_tendermint::privval::messages::{Answer, Request};
use semel_devnet_tendermint::privval::socket::Socket;
use semel_devnet_tendermint::privval::{AcceptError, Family, Listen, Listener, ListenerConfig, Remote, SignerKey};
use stage::{CHAIN, PATIENCE, Signer, Stage, called, get, node, prevote, proposal, refusal, semel, skip, vote};
use std::time::{Duration, Instant};

/// Public half of the key of a stage.
const KEY: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";

#[test]
fn the_node_and_the_log_get_the_public_half_of_the_key_in_the_file() {
    for family in Family::ALL {
        let stage = Stage::new();
        let node = node(family);
        let signer = stage.start(&stage.config(&[node.address().to_string()]));
        let mut remote = node.accept(PATIENCE).unwrap();
        let SignerKey::Ed25519(key) = remote.pub_key().unwrap() else { panic!("{family}: not Ed25519") };
        assert_eq!(hex::encode(key), KEY, "{family}");
        let line = signer.said("[keyring:softsign] added consensus Ed25519 key: ");
        assert!(line.ends_with(&KEY.to_uppercase()), "{line}");
        // The identity on the channel is another key, and its node ID is in the log.
        let identity = ed25519_dalek::SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes();
        assert_eq!(remote.peer(), Some(identity), "{family}");
        signer.said("KMS node ID: ");
    }
}

#[test]
fn a_stated_protocol_version_refuses_every_other() {
    // What is configured, what the node speaks, whether they meet.
    let rows = [
        ("auto", Family::Legacy, true),
        ("legacy", Family::Legacy, true),
        ("legacy", Family::V033, false),
        ("legacy", Family::V034, false),
        ("v0.33", Family::V033, true),
        ("v0.33", Family::Legacy, false),
        ("v0.33", Family::V034, false),
        ("v0.34", Family::V034, true),
        ("v0.34", Family::V038, true),
        ("v0.38", Family::V034, true),
        ("v1.0", Family::V038, true),
        ("v0.34", Family::V033, false),
        ("v0.34", Family::Legacy, false),
    ];
    for (version, family, meet) in rows {
        let stage = Stage::new();
        let node = node(family);
        let config = stage.config(&[node.address().to_string()]);
        stage.edit("tmkms.toml", "reconnect", &format!("protocol_version = \"{version}\"\nreconnect"));
        let signer = stage.start(&config);
        let accepted = node.accept(PATIENCE);
        if meet {
            let mut remote = accepted.unwrap();
            remote.pub_key().unwrap();
            remote.sign_vote(&prevote(1, 1)).unwrap();
            continue;
        }
        // The node ends last in some of these; what it gets is never an answer.
        let gets_a_key = accepted.is_ok_and(|mut remote| remote.pub_key().is_ok());
        assert!(!gets_a_key, "{version} with a node of {family}");
        let line = signer.said("handshake");
        assert!(line.contains("protocol_version"), "{version} with a node of {family}: {line}");
    }
}

#[test]
fn nothing_is_signed_above_max_height_and_the_state_stays_where_it_was() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    stage.edit("tmkms.toml", "reconnect", "max_height = \"10\"\nreconnect");
    let _signer = stage.start(&config);
    let mut remote = called(&node);
    remote.sign_vote(&prevote(9, 1)).unwrap();
    for height in [11, 12, 1 << 62] {
        let (code, words) = refusal(remote.sign_vote(&prevote(height, 1)));
        assert!(code == 1 && words.contains("max_height 10"), "{words}");
        let (code, _) = refusal(remote.sign_proposal(&proposal(height, 1)));
        assert_eq!(code, 1);
    }
    remote.sign_vote(&prevote(10, 1)).unwrap();
    assert!(stage.read("consensus.json").contains(r#""height":"10""#));
}

#[test]
fn without_reconnect_the_end_of_the_last_session_is_the_end_of_the_process() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    stage.edit("tmkms.toml", "reconnect = true", "reconnect = false");
    let mut signer = stage.start(&config);
    called(&node).sign_vote(&prevote(1, 1)).unwrap();
    assert_eq!(signer.ended().code(), Some(1), "{}", signer.text());
    signer.said("reconnect is off, this validator is done");
    signer.said("stopped, every signed position is in the ledger");
    assert!(signer.said("error: every validator has ended").starts_with("error:"));
    signer.said("hint: `reconnect = true` dials again");
}

#[test]
fn a_state_that_must_be_there_is_asked_for() {
    let stage = Stage::new();
    stage.config(&["unix:///nowhere.sock".into()]);
    stage.edit("tmkms.toml", "[[chain]]\n", "[[chain]]\nrequire_state = true\n");
    let mut words: Vec<String> = ["kms", "start", "-c", "DIR/tmkms.toml"].map(str::to_owned).to_vec();
    words.extend(stage.ledger());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ran = stage.run(&words);
    assert!(ran.code == 1 && ran.stderr.contains("consensus.json") && ran.stderr.contains("hint:"), "{ran:?}");
    assert!(!stage.path("consensus.json").exists() && !stage.path("ledger").exists(), "nothing was made");
}

/// Asks for a vote, and returns the signature of its extension as it came.
fn extension_signature(remote: &mut Remote, asked: &Vote) -> Vec<u8> {
    match remote.ask(&Request::Vote(asked, [0; 20])).unwrap() {
        Answer::Vote(Ok(echo)) => echo.extension_signature,
        other => panic!("no signed vote: {other:?}"),
    }
}

#[test]
fn extensions_are_signed_always_or_only_where_there_is_one() {
    // `sign_extensions`, the extension, length of its signature.
    let rows: [(&str, &[u8], usize); 6] = [
        ("", b"", 64),
        ("", b"price", 64),
        ("sign_extensions = true\n", b"", 64),
        ("sign_extensions = true\n", b"price", 64),
        ("sign_extensions = false\n", b"", 0),
        ("sign_extensions = false\n", b"price", 64),
    ];
    for (line, extension, length) in rows {
        let stage = Stage::new();
        let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
        let family = Family::V038;
        let config = ListenerConfig { listen, chain: CHAIN.into(), family, extensions: false, identity: [9; 32] };
        let node = Listener::bind(config).unwrap();
        let config = stage.config(&[node.address().to_string()]);
        stage.edit("tmkms.toml", "[[chain]]\n", &format!("[[chain]]\n{line}"));
        let signer = stage.start(&config);
        let mut remote = called(&node);
        let mut asked = vote(VoteKind::Precommit, 1, Some(1), 0);
        asked.extension = extension.to_vec();
        assert_eq!(extension_signature(&mut remote, &asked).len(), length, "{line:?} {extension:?}");
        // Newer nodes stop over one that does not belong there.
        assert_eq!(extension_signature(&mut remote, &vote(VoteKind::Precommit, 2, None, 0)).len(), 0, "{line:?}");
        assert_eq!(extension_signature(&mut remote, &vote(VoteKind::Prevote, 3, Some(1), 0)).len(), 0, "{line:?}");
        assert_eq!(signer.count("sign_extensions = false"), usize::from(line.contains("false")), "it is warned of");
    }
}

#[test]
fn settings_of_the_process_come_from_the_file_and_the_command_line_wins() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let ledger = stage.path("of-the-file");
    let settings = format!(
        "[semel]\ndurability = \"reserve\"\nreserve_heights = 3\nledger = {ledger:?}\nhttp_addr = \"127.0.0.1:0\"\n\
         log_format = \"json\"\n\n[[chain]]\n"
    );
    stage.edit("tmkms.toml", "[[chain]]\n", &settings);
    let mut command = semel();
    command.args(["kms", "start", "--i-accept-volatile-ledger", "-c"]).arg(&config);
    let signer = Signer::spawn(command);
    called(&node).sign_vote(&prevote(1, 1)).unwrap();
    let line: serde_json::Value = serde_json::from_str(&signer.said("health and metrics on")).unwrap();
    let address = line.to_string().split("http://").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(get(&address, "/livez").0, 200);
    assert!(ledger.join("volume-0").is_dir());
    drop(signer);

    let signer = stage.start_with(&config, &["--log-format", "text", "--durability", "sync"]);
    called(&node).sign_vote(&prevote(2, 1)).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&signer.said("starting up")).is_err(), "text");
    assert!(stage.path("ledger/volume-0").is_dir(), "--ledger wins");
}

#[test]
fn a_ledger_that_start_refuses_is_found_by_config_check() {
    let Ok(volatile) = tempfile::tempdir_in("/dev/shm") else {
        return skip("a_ledger_that_start_refuses", "no directory can be made in /dev/shm");
    };
    let stage = Stage::new();
    stage.config(&["unix:///nowhere.sock".into()]);
    let ledger = volatile.path().join("ledger");
    stage.edit("tmkms.toml", "[[chain]]\n", &format!("[semel]\nledger = {ledger:?}\n\n[[chain]]\n"));
    let started = stage.run(&["kms", "start", "-c", "DIR/tmkms.toml"]);
    assert!(started.code == 1 && started.stderr.contains("LEDGER-0005"), "{started:?}");
    for ran in [
        stage.run(&["kms", "config", "check", "-c", "DIR/tmkms.toml"]),
        stage.run_tmkms(&["config", "check", "-c", "DIR/tmkms.toml"]),
    ] {
        assert!(ran.code == 1 && ran.stderr.contains("error[CONFIG-0131]"), "{ran:?}");
        assert!(ran.stderr.contains("LEDGER-0005") && ran.stderr.contains("tmkms.toml:2:10"), "{ran:?}");
    }
    let accepted = stage.run(&["kms", "config", "check", "-c", "DIR/tmkms.toml", "--i-accept-volatile-ledger"]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
}

#[test]
fn what_is_odd_at_the_start_is_said_once_with_a_code_and_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let key = stage.path("consensus.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let signer = stage.start(&config);
    signer.said("(STATE-0108)");
    called(&node).sign_vote(&prevote(7, 1)).unwrap();
    assert_eq!(signer.count("has mode 0644"), 1, "{}", signer.text());
    assert_eq!(signer.count("lets others"), 0, "{}", signer.text());
    let line = signer.said("CONFIG-0116");
    assert!(line.contains("chmod 600") && line.contains("consensus.key"), "{line}");
    drop(signer);
    let state = stage.path("consensus.json");
    std::fs::remove_file(&state).unwrap();
    let signer = stage.start(&config);
    assert!(signer.said("(STATE-0107)").contains("the state file was missing"), "{}", signer.text());
    drop(signer);
    std::fs::write(&state, r#"{"height":"3","round":"0","step":1,"block_id":{}}"#).unwrap();
    let signer = stage.start(&config);
    assert!(signer.said("(STATE-0106)").contains("the file is written again; find out"), "{}", signer.text());
}

#[test]
fn the_configuration_is_found_as_tmkms_finds_it() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let base = || {
        let mut command = semel();
        command.args(["kms", "start"]).args(stage.ledger());
        command
    };
    let mut by_environment = base();
    by_environment.env("TMKMS_CONFIG_FILE", &config).current_dir("/");
    let mut by_default = base();
    by_default.current_dir(stage.path(""));
    for (height, command) in (1..).zip([by_environment, by_default]) {
        let _signer = Signer::spawn(command);
        called(&node).sign_vote(&prevote(height, 1)).unwrap();
    }
    let mut nowhere = base();
    nowhere.current_dir("/proc");
    let ran = nowhere.output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("tmkms.toml"));
}

#[test]
fn sentries_that_ask_for_different_blocks_at_once_get_one_signature_a_height() {
    const SENTRIES: usize = 6;
    const HEIGHTS: u64 = 20;
    let stage = Stage::new();
    let nodes: Vec<Listener> = (0..SENTRIES).map(|_| node(Family::V034)).collect();
    let addresses: Vec<String> = nodes.iter().map(|node| node.address().to_string()).collect();
    let _signer = stage.start(&stage.config(&addresses));
    let start = std::sync::Barrier::new(SENTRIES);
    let signed: Vec<Vec<bool>> = std::thread::scope(|scope| {
        let asking: Vec<_> = (1..)
            .zip(&nodes)
            .map(|(block, node)| {
                let start = &start;
                scope.spawn(move || {
                    let mut remote = called(node);
                    let ask = |height| {
                        start.wait();
                        match remote.sign_vote(&prevote(height, block)) {
                            Ok(_) => true,
                            other => {
                                assert_eq!(refusal(other).0, 2);
                                false
                            }
                        }
                    };
                    (1..=HEIGHTS).map(ask).collect()
                })
            })
            .collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for height in 0..HEIGHTS as usize {
        let count = signed.iter().filter(|signed| signed[height]).count();
        assert_eq!(count, 1, "height {}", height + 1);
    }
}

#[test]
fn two_hundred_nodes_are_dialled_at_once() {
    let stage = Stage::new();
    let nodes: Vec<Listener> = (0..200).map(|_| node(Family::V034)).collect();
    let addresses: Vec<String> = nodes.iter().map(|node| node.address().to_string()).collect();
    let since = Instant::now();
    let _signer = stage.start(&stage.config(&addresses));
    for node in &nodes {
        match node.accept_socket(Duration::from_secs(10)) {
            Ok(_) => {}
            Err(AcceptError::TimedOut) => panic!("no call within 10 s"),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
}

#[test]
fn votes_are_signed_over_unix_and_abstract_sockets_in_every_family() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    for family in Family::ALL {
        let stage = Stage::new();
        let name = format!("semel-{}-{family}", std::process::id());
        let abstract_one = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let by_path = stage::node_at(Listen::Unix(stage.path("node.sock")), family, CHAIN);
        let signer = stage.start(&stage.config(&[by_path.address().to_string(), format!("unix://@{name}")]));
        let mut first = by_path.accept(PATIENCE).unwrap();
        let (stream, _) = abstract_one.accept().unwrap();
        let mut second = by_path.greet(Socket::Unix(stream)).unwrap();
        assert_eq!(first.pub_key().unwrap(), second.pub_key().unwrap(), "{family}");
        first.sign_vote(&prevote(1, 1)).unwrap();
        second.sign_vote(&prevote(1, 1)).unwrap();
        second.sign_proposal(&proposal(2, 1)).unwrap();
        assert_eq!(refusal(first.sign_vote(&prevote(1, 2))).0, 2, "{family}");
        signer.said(&format!("[{CHAIN}@unix://@{name}] signed Proposal:0101010101"));
    }
}

#[test]
fn a_node_of_secp256k1_keys_gets_signatures_that_verify() {
    use base64::Engine as _;
    use k256::ecdsa::signature::Verifier;
    let stage = Stage::new();
    let node = node(Family::V034);
    let secret = k256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let public = secret.verifying_key().to_encoded_point(true);
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let text = format!(
        r#"{{"address":"","pub_key":{{"type":"tendermint/PubKeySecp256k1","value":"{}"}},"priv_key":{{"type":"tendermint/PrivKeySecp256k1","value":"{}"}}}}"#,
        base64(public.as_bytes()),
        base64(&[7; 32])
    );
    stage.secret("consensus.key", &text);
    let config = stage.config(&[node.address().to_string()]);
    stage.edit("tmkms.toml", "key_type =", "key_format = \"json\"\nkey_type =");
    let _signer = stage.start(&config);
    let mut remote = node.accept(PATIENCE).unwrap();
    let SignerKey::Secp256k1(key) = remote.pub_key().unwrap() else { panic!("not secp256k1") };
    assert_eq!(key, public.as_bytes());
    let asked = prevote(1, 1);
    let signed = remote.ask_vote(&asked).unwrap();
    let bytes = vote_sign_bytes(Encoding::Protobuf, CHAIN, &signed.vote);
    let signature = k256::ecdsa::Signature::from_slice(&signed.signature).unwrap();
    assert!(signature.normalize_s().is_none(), "the lower of the two, as nodes want it");
    secret.verifying_key().verify(&bytes, &signature).unwrap();
    assert!(remote.ask_vote(&prevote(1, 2)).is_err());
}
