//! The state file: what another signer left in it counts, and what this one leaves in it is always current.

mod stage;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use semel_devnet_tendermint::consensus::canonical::vote_sign_bytes;
use semel_devnet_tendermint::consensus::{Encoding, Height, Proposal, Round, Vote, VoteKind};
use semel_devnet_tendermint::privval::Family;
use stage::{CHAIN, Stage, called, node, prevote, proposal, refusal, vote};
use std::os::unix::fs::PermissionsExt;

/// What the signer before this one signed last.
fn last() -> Vote {
    vote(VoteKind::Precommit, 50, Some(1), 0)
}

/// Its sign bytes in hex, and its signature in base64.
fn signed() -> (String, String) {
    let bytes = vote_sign_bytes(Encoding::Protobuf, CHAIN, &last());
    let signature = SigningKey::from_bytes(&[1; 32]).sign(&bytes);
    (hex::encode_upper(bytes), BASE64.encode(signature.to_bytes()))
}

/// What a repeat of the last vote gets after the takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// The first signature, for the first time.
    First,
    /// A signature: the file tells the block, and not the time.
    Signed,
    /// Nothing: the file does not tell what was signed.
    Refused,
}

#[test]
fn whatever_another_signer_left_closes_its_last_position() {
    let (bytes, signature) = signed();
    let (upper, lower) = ("01".repeat(32).to_uppercase(), "01".repeat(32));
    let rows = [
        (
            "tmkms",
            format!(
                r#"{{"height":"50","round":"0","step":2,"block_id":{{"hash":"{upper}","parts":{{"total":1,"hash":"{upper}"}}}}}}"#
            ),
            Repeat::Signed,
        ),
        (
            "tmkms 0.7, numbers, other names, white space",
            format!(
                "{{\"height\":50,\"round\":0,\"step\":2,\"block_id\":{{\"hash\":\"{lower}\",\"part_set_header\":{{\"total\":\"1\",\"hash\":\"{lower}\"}}}}}}\n  "
            ),
            Repeat::Signed,
        ),
        (
            "tmkms 0.6, where 6 is any vote",
            r#"{"height":50,"round":0,"step":6,"block_id":null}"#.into(),
            Repeat::Refused,
        ),
        (
            "a node",
            format!(r#"{{"height":"50","round":0,"step":3,"signature":"{signature}","signbytes":"{bytes}"}}"#),
            Repeat::First,
        ),
        (
            "a node with a signature of another key",
            format!(
                r#"{{"height":"50","round":0,"step":3,"signature":"{}","signbytes":"{bytes}"}}"#,
                BASE64.encode([7; 64])
            ),
            Repeat::First,
        ),
        ("a node that kept no bytes", r#"{"height":"50","round":0,"step":3}"#.into(), Repeat::Refused),
        ("horcrux that kept no bytes", r#"{"height":"50","round":"0","step":3}"#.into(), Repeat::Refused),
        (
            "horcrux",
            format!(
                r#"{{"height":"50","round":"0","step":3,"nonce_public":null,"signature":"{signature}","signbytes":"{bytes}","vote_ext_signature":null}}"#
            ),
            Repeat::First,
        ),
    ];
    for (name, text, repeat) in rows {
        let stage = Stage::new();
        let node = node(Family::V034);
        let config = stage.config(&[node.address().to_string()]);
        stage.secret("consensus.json", &text);
        let _signer = stage.start(&config);
        let mut remote = called(&node);
        // Another block, a step back: never, whatever the file tells.
        for other in [
            vote(VoteKind::Precommit, 50, Some(2), 0),
            vote(VoteKind::Prevote, 50, Some(1), 0),
            vote(VoteKind::Precommit, 49, Some(1), 0),
        ] {
            assert_eq!(refusal(remote.sign_vote(&other)).0, 2, "{name}: {other:?}");
        }
        // Nil is a block like any other: it repeats a vote for nil, and contradicts every other.
        let nil = remote.sign_vote(&vote(VoteKind::Precommit, 50, None, 0));
        assert_eq!(nil.is_ok(), text.contains("\"block_id\":null"), "{name}: {nil:?}");
        let mut later = last();
        later.time.seconds += 60;
        let found = match remote.sign_vote(&later) {
            Ok(signed) if signed.vote.time == last().time && BASE64.encode(signed.signature) == signature => {
                Repeat::First
            }
            Ok(_) => Repeat::Signed,
            Err(_) => Repeat::Refused,
        };
        assert_eq!(found, repeat, "{name}");
        remote.sign_vote(&prevote(51, 2)).unwrap();
    }
}

#[test]
fn a_fresh_state_of_any_signer_closes_nothing() {
    let rows = [
        r#"{"height":"0","round":"0","step":0,"block_id":{}}"#,
        r#"{"height":"0","round":"0","step":0,"block_id":null}"#,
        r#"{"height":"0","round":0,"step":0}"#,
    ];
    for text in rows {
        let stage = Stage::new();
        let node = node(Family::V034);
        let config = stage.config(&[node.address().to_string()]);
        stage.secret("consensus.json", text);
        let signer = stage.start(&config);
        called(&node).sign_vote(&prevote(1, 1)).unwrap();
        signer.said("state: nothing signed yet");
    }
}

enum Asked {
    Vote(Vote),
    Proposal(Proposal),
}

fn at(mut vote: Vote, round: u32) -> Asked {
    vote.round = Round(round);
    Asked::Vote(vote)
}

#[test]
fn the_state_file_is_current_when_the_answer_arrives_and_reads_as_tmkms_wrote_it() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let _signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    let hash = |name: u8| hex::encode_upper([name; 32]);
    let mut later_proposal = proposal(8, 5);
    later_proposal.round = Round(3);
    later_proposal.pol_round = Some(Round(1));
    // Whether it is signed, the request, and what the file says once the answer is there: height, round, step, block.
    let rows = [
        (true, Asked::Proposal(proposal(7, 1)), ("7", "0", 0, hash(1))),
        (true, at(vote(VoteKind::Prevote, 7, Some(1), 0), 0), ("7", "0", 1, hash(1))),
        (true, at(vote(VoteKind::Precommit, 7, None, 0), 0), ("7", "0", 2, String::new())),
        (true, at(vote(VoteKind::Prevote, 7, None, 0), 1), ("7", "1", 1, String::new())),
        (true, at(vote(VoteKind::Precommit, 7, Some(0xab), 0), 2), ("7", "2", 2, hash(0xab))),
        (true, Asked::Proposal(later_proposal), ("8", "3", 0, hash(5))),
        // A repeat and a refusal move nothing.
        (true, at(vote(VoteKind::Precommit, 7, Some(0xab), 9), 2), ("8", "3", 0, hash(5))),
        (false, at(vote(VoteKind::Precommit, 7, Some(0xac), 0), 2), ("8", "3", 0, hash(5))),
        (true, at(vote(VoteKind::Precommit, 1_000_000, Some(2), 0), 0), ("1000000", "0", 2, hash(2))),
    ];
    for (is_signed, asked, (height, round, step, hash)) in rows {
        let answered = match &asked {
            Asked::Vote(vote) => remote.sign_vote(vote).is_ok(),
            Asked::Proposal(proposal) => remote.sign_proposal(proposal).is_ok(),
        };
        let text = stage.read("consensus.json");
        assert!(!text.trim_end().contains('\n') && text.len() >= 512, "one line, padded: {text:?}");
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        // Strings, strings, a number: as tmkms reads them.
        assert_eq!(state["height"], height, "{text}");
        assert_eq!(state["round"], round, "{text}");
        assert_eq!(state["step"], step, "{text}");
        assert_eq!(state["block_id"]["hash"], hash, "{text}");
        assert!(state["block_id"]["parts"]["total"].is_u64(), "{text}");
        assert_eq!((&state["chain_id"], answered), (&CHAIN.into(), is_signed), "{text}");
        let mode = std::fs::metadata(stage.path("consensus.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn the_state_file_alone_brings_back_the_last_answer() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let signer = stage.start(&config);
    let first = called(&node).sign_vote(&prevote(9, 1)).unwrap();
    signer.kill();
    std::fs::remove_dir_all(stage.path("ledger")).unwrap();
    let _signer = stage.start(&config);
    let mut remote = called(&node);
    let again = remote.sign_vote(&vote(VoteKind::Prevote, 9, Some(1), 60)).unwrap();
    assert_eq!((again.vote.time, again.signature), (first.vote.time, first.signature));
    assert_eq!(refusal(remote.sign_vote(&prevote(9, 2))).0, 2);
}

#[test]
fn commands_read_beside_a_running_signer_and_do_not_write() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    remote.sign_vote(&vote(VoteKind::Precommit, 41, Some(1), 0)).unwrap();
    let ledger = ["-c", "DIR/tmkms.toml", "--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
    let run = |words: &[&str]| stage.run(&[&["kms", "state"], words, &ledger].concat());

    let shown = run(&["show", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let rows = &shown["chains"];
    assert_eq!((&rows[0]["chain"], &rows[0]["height"], &rows[0]["step"]), (&CHAIN.into(), &41.into(), &3.into()));
    assert_eq!(rows[0]["state_file_height"], 41);
    let exported = run(&["export", "--format", "cometbft"]);
    let state: serde_json::Value = serde_json::from_str(&exported.stdout).unwrap();
    assert_eq!((&state["height"], &state["round"], &state["step"]), (&"41".into(), &0.into(), &3.into()));
    let bytes = vote_sign_bytes(Encoding::Protobuf, CHAIN, &vote(VoteKind::Precommit, 41, Some(1), 0));
    assert_eq!(state["signbytes"], hex::encode_upper(bytes));
    let compared = run(&["compare", "--json", "DIR/consensus.json"]);
    assert!(compared.code == 0 && compared.stdout.contains("equal"), "{compared:?}");

    let floor = run(&["set-floor", "100"]);
    assert!(floor.code == 3 && floor.stderr.contains("LEDGER-0002"), "{floor:?}");
    remote.sign_vote(&vote(VoteKind::Precommit, 42, Some(1), 0)).unwrap();
    drop(signer);

    // Once it has ended the floor rises, and holds at the next start.
    let floor = run(&["set-floor", "100"]);
    assert_eq!(floor.code, 0, "{floor:?}");
    // A step back to tmkms goes by the file alone.
    assert!(stage.read("consensus.json").contains("\"height\":\"100\""), "{}", stage.read("consensus.json"));
    let _signer = stage.start(&stage.path("tmkms.toml"));
    let mut remote = called(&node);
    assert_eq!(refusal(remote.sign_vote(&prevote(100, 1))).0, 2);
    let signed = remote.sign_vote(&prevote(101, 1)).unwrap();
    assert_eq!(signed.vote.height, Height(101));
}

#[test]
fn a_block_that_only_the_state_file_knows_stays_in_it_and_an_unknown_one_is_never_nil() {
    let stage = Stage::new();
    let hash = "01".repeat(32).to_uppercase();
    let block = format!(r#"{{"hash":"{hash}","parts":{{"total":1,"hash":"{hash}"}}}}"#);
    stage.secret("consensus.json", &format!(r#"{{"height":"50","round":"0","step":2,"block_id":{block}}}"#));
    let config = stage.config(&["unix:///nowhere.sock".into()]);
    let started = |words: &str| {
        let mut signer = stage.start(&config);
        signer.said(words);
        signer.signal(rustix::process::Signal::TERM);
        assert!(signer.ended().success());
        stage.read("consensus.json").split_whitespace().collect::<String>()
    };
    for words in ["the floor is now", "state: precommit #50/0"] {
        let state = started(words);
        assert!(state.contains(&hash) && state.contains(r#""height":"50","round":"0","step":2"#), "{words}: {state}");
    }
    // Who goes back to tmkms with this one signs nothing at that height, and not nil.
    std::fs::remove_file(stage.path("consensus.json")).unwrap();
    let state = started("the state file was missing");
    assert!(state.contains(r#""height":"50","round":"2147483647","step":2"#), "{state}");
}

#[test]
fn a_file_of_another_dialect_that_does_not_say_which_block_it_was_never_becomes_a_vote_for_nil() {
    let rows = [r#"{"height":"7000","round":0,"step":2}"#, r#"{"height":"7000","round":"0","step":2}"#];
    for text in rows {
        let stage = Stage::new();
        stage.secret("consensus.json", text);
        let config = stage.config(&["unix:///nowhere.sock".into()]);
        let mut signer = stage.start(&config);
        signer.said("the floor is now");
        signer.signal(rustix::process::Signal::TERM);
        assert!(signer.ended().success());
        // Who goes back to tmkms with this one signs nothing at that height.
        let state = stage.read("consensus.json").split_whitespace().collect::<String>();
        assert!(state.contains(r#""height":"7000","round":"2147483647","step":2"#), "{text}: {state}");
    }
}

#[test]
fn an_import_keeps_the_block_that_was_signed_and_what_is_exported_is_no_height_more() {
    let hash = "01".repeat(32).to_uppercase();
    let block = format!(r#"{{"hash":"{hash}","parts":{{"total":1,"hash":"{hash}"}}}}"#);
    let stage = Stage::new();
    let node = node(Family::V034);
    stage.config(&[node.address().to_string()]);
    stage.secret("consensus.json", r#"{"height":"10","round":"0","step":1,"block_id":{}}"#);
    stage.secret("theirs.json", &format!(r#"{{"height":"50","round":"1","step":1,"block_id":{block}}}"#));
    let state = |words: &[&str]| {
        let run = stage.run(&[&["kms", "state"], words, &["-c", "DIR/tmkms.toml", "--ledger", "DIR/ledger"]].concat());
        assert_eq!(run.code, 0, "{words:?}: {run:?}");
        run.stdout.split_whitespace().collect::<String>()
    };
    state(&["import", "DIR/theirs.json"]);
    let file = stage.read("consensus.json").split_whitespace().collect::<String>();
    assert!(file.contains(r#""height":"50","round":"1","step":1"#) && file.contains(&hash), "{file}");
    assert!(state(&["show", "--json"]).contains(r#""height":50,"round":1,"step":2,"position":"prevote#50/1""#));
    assert!(state(&["export", "--format", "cometbft"]).contains(r#""height":"50","round":1,"step":2"#));
    // No more of the height is closed than was signed, and another block is refused where this one was.
    let _signer = stage.start(&stage.path("tmkms.toml"));
    let mut remote = called(&node);
    let mut asked = vote(VoteKind::Prevote, 50, Some(2), 0);
    asked.round = Round(1);
    assert_eq!(refusal(remote.sign_vote(&asked)).0, 2);
    asked.kind = VoteKind::Precommit;
    remote.sign_vote(&asked).unwrap();
}
