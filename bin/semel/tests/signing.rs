//! The real binary signs for nodes of every family, and never for two blocks.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use semel_devnet_tendermint::consensus::{Round, VoteKind};
use semel_devnet_tendermint::privval::{Family, Listen, Remote};
use stage::{CHAIN, Stage, called, node, node_at, prevote, proposal, refusal, vote};
use std::fs;
use std::time::Duration;

/// Everything a node asks for in one height.
fn one_height(remote: &mut Remote, height: u64) {
    remote.sign_proposal(&proposal(height, 1)).unwrap();
    remote.sign_vote(&vote(VoteKind::Prevote, height, Some(1), 0)).unwrap();
    remote.sign_vote(&vote(VoteKind::Precommit, height, Some(1), 1)).unwrap();
    remote.ping().unwrap();
}

#[test]
fn one_configuration_serves_nodes_of_every_family() {
    for family in Family::ALL {
        let stage = Stage::new();
        let node = node(family);
        let signer = stage.start(&stage.config(&[node.address().to_string()]));
        let mut remote = called(&node);
        for height in 1..=5 {
            one_height(&mut remote, height);
        }
        // A vote for nil is a vote like any other.
        remote.sign_vote(&vote(VoteKind::Prevote, 6, None, 0)).unwrap();
        signer.said("connected to validator successfully");
        let line = signer.said("signed Precommit:0101010101 at h/r/s 5/0/2");
        assert!(line.contains(&format!("[{CHAIN}@{}] ", node.address())) && line.ends_with(" ms)"), "{family}: {line}");
        signer.said("signed Prevote:<nil> at h/r/s 6/0/1");
    }
}

#[test]
fn unix_and_abstract_sockets_are_served_without_a_handshake() {
    let stage = Stage::new();
    let node = node_at(Listen::Unix(stage.path("node.sock")), Family::V034, CHAIN);
    let _signer = stage.start(&stage.config(&[node.address().to_string()]));
    one_height(&mut called(&node), 1);

    use std::io::{Read, Write};
    use std::os::linux::net::SocketAddrExt;
    let name = format!("semel-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let other = Stage::new();
    let _signer = other.start(&other.config(&[format!("unix://@{name}")]));
    let (mut stream, _) = listener.accept().unwrap();
    // A ping: member 7, empty. The answer is member 8.
    stream.write_all(&[2, 0x3a, 0]).unwrap();
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [2, 0x42, 0]);
}

#[test]
fn a_repeat_gets_the_first_signature_whatever_its_time() {
    for family in Family::ALL {
        let stage = Stage::new();
        let node = node(family);
        let signer = stage.start(&stage.config(&[node.address().to_string()]));
        let mut remote = called(&node);
        let first = remote.sign_vote(&vote(VoteKind::Prevote, 7, Some(1), 0)).unwrap();
        for seconds in [0, 1, -5] {
            let again = remote.sign_vote(&vote(VoteKind::Prevote, 7, Some(1), seconds)).unwrap();
            assert_eq!((again.signature, again.vote.time), (first.signature, first.vote.time), "{family}");
        }
        signer.said("repeated Prevote:0101010101 at h/r/s 7/0/1");
        let (later, _) = remote.sign_proposal(&proposal(8, 1)).unwrap();
        let mut asked = proposal(8, 1);
        asked.time.seconds += 9;
        assert_eq!(remote.sign_proposal(&asked).unwrap().0.time, later.time, "{family}");
    }
}

#[test]
fn a_conflict_is_an_answer_and_the_session_goes_on() {
    for family in Family::ALL {
        let stage = Stage::new();
        let node = node(family);
        let signer = stage.start(&stage.config(&[node.address().to_string()]));
        let mut remote = called(&node);
        remote.sign_vote(&prevote(7, 1)).unwrap();
        let rows = [
            (prevote(7, 2), "GUARD-0003"),
            (vote(VoteKind::Prevote, 7, None, 0), "GUARD-0003"),
            (prevote(6, 1), "GUARD-0001"),
            (vote(VoteKind::Precommit, 6, Some(1), 0), "GUARD-0001"),
        ];
        for (asked, code) in rows {
            let (number, words) = refusal(remote.sign_vote(&asked));
            assert_eq!(number, 2, "{family}: {words}");
            assert!(words.contains(code), "{family}: {words}");
        }
        let (number, words) = refusal(remote.sign_vote(&prevote(1 << 40, 1)));
        assert!(number == 1 && words.contains("GUARD-0002"), "{family}: {words}");
        // A precommit for another block than the prevote's is legal.
        remote.sign_vote(&vote(VoteKind::Precommit, 7, Some(2), 0)).unwrap();
        one_height(&mut remote, 8);
        signer.said("attempted double sign Prevote:0202020202 at h/r/s 7/0/1");
    }
}

#[test]
fn what_was_signed_is_refused_after_a_kill_and_the_state_file_is_current() {
    for durability in ["sync", "reserve"] {
        let stage = Stage::new();
        let node = node(Family::V034);
        let config = stage.config(&[node.address().to_string()]);
        for life in 1..=4_u64 {
            let signer = stage.start_with(&config, &["--durability", durability]);
            let mut remote = called(&node);
            if life > 1 {
                assert_eq!(refusal(remote.sign_vote(&prevote(10 * (life - 1), 2))).0, 2, "{durability}, life {life}");
                let again = remote.sign_vote(&vote(VoteKind::Prevote, 10 * (life - 1), Some(1), 60)).unwrap();
                assert_eq!(again.vote.time.seconds, 1_700_000_000, "the first time is kept over a kill");
            }
            remote.sign_vote(&prevote(10 * life, 1)).unwrap();
            signer.kill();
            let state: serde_json::Value = serde_json::from_str(&stage.read("consensus.json")).unwrap();
            assert_eq!(
                (&state["height"], &state["round"], &state["step"]),
                (&format!("{}", 10 * life).into(), &"0".into(), &1.into())
            );
            assert_eq!(state["block_id"]["hash"], "01".repeat(32));
        }
    }
}

#[test]
fn many_nodes_and_chains_share_one_process_and_one_guard() {
    let stage = Stage::new();
    let sentries = [node(Family::V034), node(Family::V038)];
    let addresses: Vec<String> = sentries.iter().map(|node| node.address().to_string()).collect();
    let first = stage.config(&addresses);
    stage.secret("other.key", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
    let other = node_at(Listen::Tcp("127.0.0.1:0".parse().unwrap()), Family::V033, "other-1");
    let second = stage.config_of("other.toml", "other-1", "other", &[other.address().to_string()]);
    let _signer = stage.start_with(&first, &["-c", second.to_str().unwrap()]);
    let (mut a, mut b, mut c) = (called(&sentries[0]), called(&sentries[1]), called(&other));
    let signed = a.sign_vote(&prevote(5, 1)).unwrap();
    // The other sentry asks the same a moment later, or something else.
    assert_eq!(b.sign_vote(&vote(VoteKind::Prevote, 5, Some(1), 1)).unwrap().signature, signed.signature);
    assert_eq!(refusal(b.sign_vote(&prevote(5, 2))).0, 2);
    // Another key on another chain has nothing to do with it.
    c.sign_vote(&prevote(3, 2)).unwrap();
    assert_ne!(a.pub_key().unwrap(), c.pub_key().unwrap());
}

#[test]
fn a_directory_of_configurations_is_one_process() {
    let stage = Stage::new();
    fs::create_dir(stage.path("conf")).unwrap();
    let nodes = [("a", "a-1"), ("b", "b-1")].map(|(name, chain)| {
        let node = node_at(Listen::Tcp("127.0.0.1:0".parse().unwrap()), Family::V034, chain);
        let key = if name == "a" {
            "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ="
        } else {
            "BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU="
        };
        stage.secret(&format!("{name}.key"), key);
        stage.config_of(&format!("conf/{name}.toml"), chain, name, &[node.address().to_string()]);
        node
    });
    let _signer = stage.start(&stage.path("conf"));
    for node in &nodes {
        one_height(&mut called(node), 1);
    }
}

#[test]
fn a_dry_run_answers_and_signs_nothing() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let _signer = stage.start_with(&stage.config(&[node.address().to_string()]), &["--dry-run"]);
    let mut remote = called(&node);
    let (code, words) = refusal(remote.sign_vote(&prevote(1, 1)));
    assert!(code == 1 && words.contains("--dry-run"), "{words}");
}

#[test]
fn tmkms_is_another_name_of_the_same_program() {
    let stage = Stage::new();
    let link = stage.path("tmkms");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_semel"), &link).unwrap();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let mut command = std::process::Command::new(link);
    command.args(["start", "-c"]).arg(&config).args(stage.ledger());
    let signer = stage::Signer::spawn(command);
    one_height(&mut called(&node), 1);
    signer.said("tmkms 0.15.0 starting up");
}

#[test]
fn extensions_are_signed_where_they_belong() {
    let stage = Stage::new();
    let node = node(Family::V038);
    let _signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    for (height, extension) in [(1, &b""[..]), (2, b"price"), (3, &[7; 1000])] {
        let mut precommit = vote(VoteKind::Precommit, height, Some(1), 0);
        precommit.extension = extension.to_vec();
        let signed = remote.sign_vote(&precommit).unwrap();
        assert!(signed.extension_signature.is_some());
        // A repeat brings another extension: the vote is the stored one, the extension is that of this request.
        precommit.extension.push(1);
        let again = remote.sign_vote(&precommit).unwrap();
        assert_eq!(again.signature, signed.signature);
        assert_ne!(again.extension_signature, signed.extension_signature);
    }
    let nil = remote.sign_vote(&vote(VoteKind::Precommit, 4, None, 0)).unwrap();
    assert_eq!(nil.extension_signature, None);
}

#[test]
fn a_signature_that_was_made_ahead_is_only_over_the_extension_that_is_asked_for() {
    let stage = Stage::new();
    let node = node(Family::V038);
    let _signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    // After an empty one, the empty one of the same height and round is made ahead. Height, round, extension.
    let rows: [(u64, u32, &[u8]); 8] = [
        (1, 0, b""),
        (2, 0, b""),
        (3, 1, b""),
        (4, 0, b"price"),
        (5, 0, b""),
        (6, 0, b""),
        (8, 0, b""),
        (9, 2, b"price"),
    ];
    for (height, round, extension) in rows {
        remote.sign_vote(&vote(VoteKind::Prevote, height, Some(1), 0)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let mut precommit = vote(VoteKind::Precommit, height, Some(1), 0);
        (precommit.round, precommit.extension) = (Round(round), extension.to_vec());
        // The node verifies both signatures.
        assert!(remote.sign_vote(&precommit).unwrap().extension_signature.is_some());
        assert!(remote.sign_vote(&precommit).unwrap().extension_signature.is_some(), "asked again");
    }
}
