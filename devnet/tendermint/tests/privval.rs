//! The node's listener against a small signer on a loopback socket, in every variant, and against signers with bad habits.

#![expect(clippy::unwrap_used, reason = "tests")]

mod peer;

use peer::{Habit, Peer};
use semel_devnet_tendermint::{
    consensus::{BlockId, Height, Proposal, Round, Time, Vote, VoteKind},
    privval::{AcceptError, Family, Listen, Listener, ListenerConfig, Remote, RemoteError, SignerKey},
};
use std::time::Duration;

const CHAIN: &str = "privval-test";
const SECONDS_5: Duration = Duration::from_secs(5);

fn loopback() -> Listen {
    Listen::Tcp("127.0.0.1:0".parse().unwrap())
}

fn listener(listen: Listen, family: Family, extensions: bool) -> Listener {
    let config = ListenerConfig { listen, chain: CHAIN.into(), family, extensions, identity: [42; 32] };
    Listener::bind(config).unwrap()
}

fn connect(family: Family, extensions: bool, habit: Habit) -> (Remote, Peer, Listener) {
    let listener = listener(loopback(), family, extensions);
    let peer = Peer::new([7; 32], CHAIN, family).with(habit);
    peer.call(listener.address());
    let mut remote = listener.accept(SECONDS_5).unwrap();
    assert_eq!(remote.pub_key().unwrap(), SignerKey::Ed25519(peer.key()));
    (remote, peer, listener)
}

fn block(n: u8) -> BlockId {
    BlockId { hash: [n; 32], parts_total: 1, parts_hash: [n + 1; 32] }
}

fn vote(kind: VoteKind, height: u64, block: Option<BlockId>) -> Vote {
    let time = Time { seconds: 1_700_000_000, nanos: 123_456_789 };
    Vote { kind, height: Height(height), round: Round(0), block, time, validator: 0, extension: Vec::new() }
}

fn proposal(height: u64, pol_round: Option<u32>) -> Proposal {
    let (round, time) = (Round(3), Time { seconds: 1_700_000_000, nanos: 1 });
    Proposal { height: Height(height), round, pol_round: pol_round.map(Round), block: block(4), time }
}

/// A whole conversation, with everything verified on the way.
fn converse(remote: &mut Remote) {
    remote.ping().unwrap();
    for height in 1..=20 {
        let (signed, _) = remote.sign_proposal(&proposal(height * 2, (height % 2 == 0).then_some(1))).unwrap();
        assert_eq!(signed.round, Round(3));
        for kind in [VoteKind::Prevote, VoteKind::Precommit] {
            let asked = vote(kind, height * 2 + 1, Some(block(height as u8)));
            assert_eq!(remote.sign_vote(&asked).unwrap().vote, asked);
        }
    }
    assert!(remote.sign_vote(&vote(VoteKind::Precommit, 100, None)).unwrap().vote.block.is_none());
    remote.ping().unwrap();
    // A refusal leaves the conversation as it was.
    let refused = remote.sign_vote(&vote(VoteKind::Precommit, 100, Some(block(1)))).unwrap_err();
    assert!(refused.is_refusal(), "{refused:?}");
    let earlier = remote.sign_vote(&vote(VoteKind::Prevote, 5, None)).unwrap_err();
    assert!(earlier.is_refusal(), "{earlier:?}");
    // The same vote at another time comes back with the time of its one signature.
    let mut again = vote(VoteKind::Precommit, 100, None);
    again.time.seconds += 9;
    assert_eq!(remote.sign_vote(&again).unwrap().vote.time.seconds, 1_700_000_000);
    remote.ping().unwrap();
}

#[test]
fn every_variant_signs_over_tcp() {
    for family in Family::ALL {
        let (mut remote, _, _listener) = connect(family, false, Habit::None);
        assert!(remote.peer().is_some());
        converse(&mut remote);
    }
}

#[test]
fn every_variant_signs_over_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    for family in Family::ALL {
        let path = directory.path().join(format!("{family}.sock"));
        std::fs::write(&path, "left over").unwrap();
        let listener = listener(Listen::Unix(path.clone()), family, false);
        Peer::new([7; 32], CHAIN, family).call(listener.address());
        let mut remote = listener.accept(SECONDS_5).unwrap();
        assert!(remote.peer().is_none());
        remote.pub_key().unwrap();
        converse(&mut remote);
        drop(listener);
        assert!(!path.exists());
    }
}

#[test]
fn extensions_are_signed_on_precommits_for_a_block_alone() {
    let (mut remote, _, _listener) = connect(Family::V038, true, Habit::None);
    let mut extended = vote(VoteKind::Precommit, 1, Some(block(1)));
    extended.extension = b"an extension".to_vec();
    assert!(remote.sign_vote(&extended).unwrap().extension_signature.is_some());
    let prevote = remote.sign_vote(&vote(VoteKind::Prevote, 2, Some(block(1)))).unwrap();
    let nil = remote.sign_vote(&vote(VoteKind::Precommit, 2, None)).unwrap();
    assert!(prevote.extension_signature.is_none() && nil.extension_signature.is_none());
}

#[test]
fn each_bad_habit_of_a_signer_is_caught() {
    let precommit = || vote(VoteKind::Precommit, 3, Some(block(1)));
    type Caught = fn(&RemoteError) -> bool;
    let table: &[(Habit, Caught)] = &[
        (Habit::FlipsSignature, |e| matches!(e, RemoteError::BadSignature("vote"))),
        (Habit::ShortSignature, |e| matches!(e, RemoteError::BadSignature("vote"))),
        (Habit::OtherTime, |e| matches!(e, RemoteError::BadSignature("vote"))),
        (Habit::OtherHeight, |e| matches!(e, RemoteError::Changed("height"))),
        (Habit::OtherRound, |e| matches!(e, RemoteError::Changed("round"))),
        (Habit::OtherType, |e| matches!(e, RemoteError::Changed("type"))),
        (Habit::OtherBlock, |e| matches!(e, RemoteError::Changed("block id"))),
        (Habit::OtherIndex, |e| matches!(e, RemoteError::Changed("validator index"))),
        (Habit::OtherAddress, |e| matches!(e, RemoteError::Changed("validator address"))),
        (Habit::Refuses, |e| matches!(e, RemoteError::Refused(refusal) if refusal.code == 2)),
        (Habit::Closes, |e| matches!(e, RemoteError::Connection(_))),
        (Habit::Garbage, |e| matches!(e, RemoteError::Unreadable(_))),
        (Habit::Endless, |e| matches!(e, RemoteError::TooLong(_))),
        (Habit::AnswersPing, |e| matches!(e, RemoteError::Mismatch)),
    ];
    for (habit, expected) in table {
        let (mut remote, _, _listener) = connect(Family::V034, false, *habit);
        let error = remote.sign_vote(&precommit()).unwrap_err();
        assert!(expected(&error), "{habit:?}: {error:?}");
    }
    for habit in [Habit::FlipsSignature, Habit::OtherHeight, Habit::OtherBlock] {
        let (mut remote, _, _listener) = connect(Family::V033, false, habit);
        let error = remote.sign_proposal(&proposal(1, None)).unwrap_err();
        assert!(
            matches!(error, RemoteError::Changed(_) | RemoteError::BadSignature("proposal")),
            "{habit:?}: {error:?}"
        );
    }
}

#[test]
fn extension_signatures_where_a_node_would_panic_are_caught() {
    let (mut remote, _, _listener) = connect(Family::V038, false, Habit::ExtendsEverything);
    let error = remote.sign_vote(&vote(VoteKind::Prevote, 1, Some(block(1)))).unwrap_err();
    assert!(matches!(error, RemoteError::Changed("extension signature")), "{error:?}");
    let discarded = remote.sign_vote(&vote(VoteKind::Precommit, 1, Some(block(1)))).unwrap();
    assert_eq!(discarded.extension_signature, None, "not enabled: not looked at");

    let (mut remote, _, _listener) = connect(Family::V038, true, Habit::NeverExtends);
    let error = remote.sign_vote(&vote(VoteKind::Precommit, 1, Some(block(1)))).unwrap_err();
    assert!(matches!(error, RemoteError::BadSignature("extension")), "{error:?}");
}

#[test]
fn a_caller_that_speaks_something_else_is_turned_away() {
    let listener = listener(loopback(), Family::V034, false);
    let Listen::Tcp(address) = *listener.address() else { panic!() };
    let caller = std::thread::spawn(move || {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
        stream
    });
    assert!(matches!(listener.accept(SECONDS_5), Err(AcceptError::Handshake(RemoteError::Secret(_)))));
    drop(caller.join());
    assert!(matches!(listener.accept(Duration::from_millis(10)), Err(AcceptError::TimedOut)));
}

#[test]
fn messages_of_many_frames_go_out_whole_and_raw_bytes_can_break_the_stream() {
    let (mut remote, _, _listener) = connect(Family::V038, true, Habit::None);
    let mut long = vote(VoteKind::Precommit, 1, Some(block(1)));
    long.extension = vec![0x5a; 200_000];
    assert!(remote.sign_vote(&long).unwrap().extension_signature.is_some(), "too long to be echoed, still signed");
    remote.send_unsealed(&[0; 2_000]).unwrap();
    assert!(matches!(remote.receive(), Err(RemoteError::Connection(_))), "the signer hangs up");
}
