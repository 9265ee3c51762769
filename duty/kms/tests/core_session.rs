//! The session machine: what each request deserves. Errors are replies, in the member and family of their request; nothing here ends a
//! session, which only bytes that are no message do.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use proptest::prelude::*;
use semel_guard::{Algorithm, Position, PublicKey, Signature, Step};
use semel_kms::core::raw_bytes::RawBytes;
use semel_kms::core::session::{CODE_CANNOT, CODE_DOUBLE_SIGN, Extensions, Terms, ToSign, Verdict};
use semel_kms::core::sign_bytes;
use semel_kms::wire::{
    BlockId, ErrorReply, Family, PartSetHeader, Proposal, Request, Response, SignedType, Timestamp, Vote,
};

const CHAIN: &str = "chain-1";
const FAMILIES: [Family; 2] = [Family::Amino, Family::Protobuf];

fn key() -> PublicKey {
    PublicKey::new(Algorithm::Ed25519, &[7; 32]).unwrap()
}

fn terms() -> Terms {
    Terms {
        chain_id: CHAIN.into(),
        public_key: key(),
        max_height: None,
        extensions: Extensions::Always,
        raw_bytes: RawBytes::default(),
    }
}

fn block() -> BlockId {
    BlockId { hash: vec![1; 32], parts: PartSetHeader { total: 3, hash: vec![2; 32] } }
}

fn vote(kind: i32) -> Vote {
    let timestamp = Timestamp { seconds: 1_700_000_000, nanos: 5 };
    let validator_address = vec![8; 20];
    Vote { kind, height: 10, round: 2, block_id: block(), timestamp, validator_address, ..Vote::default() }
}

fn proposal() -> Proposal {
    let timestamp = Timestamp { seconds: 1_700_000_000, nanos: 5 };
    Proposal { kind: 32, height: 10, round: 2, pol_round: -1, block_id: block(), timestamp, ..Proposal::default() }
}

fn ask_vote(vote: Vote) -> Request {
    Request::SignVote { vote, chain_id: CHAIN.into(), skip_extension_signing: false }
}

fn ask_proposal(proposal: Proposal) -> Request {
    Request::SignProposal { proposal, chain_id: CHAIN.into() }
}

fn to_sign(verdict: Verdict) -> ToSign {
    match verdict {
        Verdict::Sign(to_sign) => *to_sign,
        other => panic!("{other:?} instead of something to sign"),
    }
}

/// The error of a refusal, which has to be a reply to that kind of request.
fn refusal(request: &Request, verdict: Verdict) -> ErrorReply {
    match (request, verdict) {
        (Request::PubKey { .. }, Verdict::Refuse(Response::PubKey(Err(error))))
        | (Request::SignVote { .. }, Verdict::Refuse(Response::SignedVote(Err(error))))
        | (Request::SignProposal { .. }, Verdict::Refuse(Response::SignedProposal(Err(error))))
        | (Request::SignBytes { .. } | Request::Unknown { .. }, Verdict::Refuse(Response::SignedBytes(Err(error)))) => {
            error
        }
        (request, verdict) => panic!("{request:?} deserves a refusal, not {verdict:?}"),
    }
}

/// Asks in both families; each refuses with code 1 and these words.
fn refused(name: &str, request: &Request, words: &str) {
    for family in FAMILIES {
        let error = refusal(request, terms().decide(family, request.clone()));
        assert_eq!(error.code, CODE_CANNOT, "{name}");
        assert!(error.description.contains(words), "{name}: {:?} does not say {words:?}", error.description);
    }
}

/// Asks in both families; each agrees, at this position.
fn accepted(name: &str, request: &Request, position: (u64, u32, Step)) {
    let (height, round, step) = position;
    for family in FAMILIES {
        let Verdict::Sign(to_sign) = terms().decide(family, request.clone()) else { panic!("{name}: refused") };
        assert_eq!(to_sign.position, Position::Tendermint { height, round, step }, "{name}");
    }
}

#[test]
fn a_ping_is_answered_and_the_key_is_told_to_its_chain() {
    for family in FAMILIES {
        let Verdict::Reply(pong) = terms().decide(family, Request::Ping) else { panic!("no reply") };
        assert_eq!(pong, Response::Ping);
        let Verdict::Reply(told) = terms().decide(family, Request::PubKey { chain_id: CHAIN.into() }) else {
            panic!("no reply")
        };
        assert_eq!(told, Response::PubKey(Ok(key())));
    }
}

#[test]
fn another_chain_gets_neither_key_nor_signature_and_an_error_that_names_both() {
    for chain in ["chain-2", "", "chain-1 ", "Chain-1", "chain-1\0"] {
        let chain_id = || chain.to_owned();
        let requests = [
            Request::PubKey { chain_id: chain_id() },
            Request::SignVote { vote: vote(1), chain_id: chain_id(), skip_extension_signing: false },
            Request::SignProposal { proposal: proposal(), chain_id: chain_id() },
        ];
        for request in requests {
            let error = refusal(&request, terms().decide(Family::Protobuf, request.clone()));
            assert_eq!(error.code, CODE_CANNOT);
            assert!(error.description.contains("\"chain-1\""), "{}", error.description);
            assert!(error.description.contains(&format!("{chain:?}")), "{}", error.description);
        }
    }
    // What a stranger calls its chain is shown, and not at any length.
    let request = Request::PubKey { chain_id: "é".repeat(5000) };
    let error = refusal(&request, terms().decide(Family::Protobuf, request.clone()));
    assert!(error.description.len() < 250, "{} bytes", error.description.len());
}

#[test]
fn amino_requests_name_no_chain_and_are_signed_for_the_configured_one() {
    let request = Request::SignVote { vote: vote(1), chain_id: String::new(), skip_extension_signing: false };
    let wanted = to_sign(terms().decide(Family::Amino, request));
    assert_eq!(sign_bytes::read(&wanted.sign_bytes.bytes).unwrap().chain_id, CHAIN);
    let request = Request::PubKey { chain_id: String::new() };
    assert!(matches!(terms().decide(Family::Amino, request), Verdict::Reply(Response::PubKey(Ok(_)))));
}

#[test]
fn heights_are_positive_and_may_be_as_large_as_they_come() {
    for height in [0, -1, i64::MIN] {
        refused("vote", &ask_vote(Vote { height, ..vote(1) }), "is not positive");
        refused("proposal", &ask_proposal(Proposal { height, ..proposal() }), "is not positive");
    }
    for height in [1, 1 << 31, 1 << 53, 1 << 62, i64::MAX] {
        let expected = height.cast_unsigned();
        accepted("prevote", &ask_vote(Vote { height, ..vote(1) }), (expected, 2, Step::Prevote));
        accepted("precommit", &ask_vote(Vote { height, ..vote(2) }), (expected, 2, Step::Precommit));
        accepted("proposal", &ask_proposal(Proposal { height, ..proposal() }), (expected, 2, Step::Propose));
    }
}

#[test]
fn rounds_are_not_negative_and_have_31_bits() {
    let largest = i64::from(i32::MAX);
    for round in [-1, i64::MIN, largest + 1, 1 << 32, i64::MAX] {
        refused("vote", &ask_vote(Vote { round, ..vote(1) }), "round");
        refused("proposal", &ask_proposal(Proposal { round, ..proposal() }), "round");
    }
    for (round, expected) in [(0, 0), (1, 1), (largest, 0x7fff_ffff)] {
        accepted("prevote", &ask_vote(Vote { round, ..vote(1) }), (10, expected, Step::Prevote));
        accepted("proposal", &ask_proposal(Proposal { round, ..proposal() }), (10, expected, Step::Propose));
    }
}

#[test]
fn nothing_above_max_height_is_signed() {
    let table =
        [(Some(9), false), (Some(10), true), (Some(11), true), (Some(0), false), (Some(u64::MAX), true), (None, true)];
    for (max_height, signs) in table {
        let terms = Terms { max_height, ..terms() };
        for request in [ask_vote(vote(1)), ask_vote(vote(2)), ask_proposal(proposal())] {
            let verdict = terms.decide(Family::Protobuf, request.clone());
            if signs {
                to_sign(verdict);
            } else {
                let error = refusal(&request, verdict);
                assert_eq!(error.code, CODE_CANNOT);
                assert!(error.description.contains("height 10 is above max_height"), "{}", error.description);
            }
        }
    }
}

#[test]
fn hashes_have_32_bytes_or_none() {
    for length in (0..=40).chain([64, 1024]) {
        let hash = vec![9; length];
        let parts = PartSetHeader { total: 3, hash: hash.clone() };
        for (what, block_id) in
            [("block hash", BlockId { hash, ..block() }), ("part set hash", BlockId { parts, ..block() })]
        {
            let requests = [
                (ask_vote(Vote { block_id: block_id.clone(), ..vote(1) }), Step::Prevote),
                (ask_vote(Vote { block_id: block_id.clone(), ..vote(2) }), Step::Precommit),
                (ask_proposal(Proposal { block_id, ..proposal() }), Step::Propose),
            ];
            for (request, step) in requests {
                if length == 0 || length == 32 {
                    accepted(what, &request, (10, 2, step));
                } else {
                    refused(what, &request, &format!("a {what} has 32 bytes, this one has {length}"));
                }
            }
        }
    }
}

#[test]
fn types_are_those_of_their_message() {
    for kind in [0, 3, 32, -1, 33, i32::MAX, i32::MIN] {
        refused("vote", &ask_vote(vote(kind)), &format!("{kind} is not the type of a vote"));
    }
    for kind in [0, 1, 2, 31, -32] {
        let request = ask_proposal(Proposal { kind, ..proposal() });
        refused("proposal", &request, &format!("{kind} is not the type of a proposal"));
    }
    for (request, kind) in [
        (ask_vote(vote(1)), SignedType::Prevote),
        (ask_vote(vote(2)), SignedType::Precommit),
        (ask_proposal(proposal()), SignedType::Proposal),
    ] {
        assert_eq!(to_sign(terms().decide(Family::Protobuf, request)).kind, kind);
    }
}

#[test]
fn a_proposal_rests_on_an_earlier_round_or_none_and_names_a_block() {
    let at = |round, pol_round| ask_proposal(Proposal { round, pol_round, ..proposal() });
    for (round, pol_round) in [(2, -1), (2, 0), (2, 1), (0, -1), (1, 0), (i64::from(i32::MAX), i64::from(i32::MAX) - 1)]
    {
        accepted("proof of lock", &at(round, pol_round), (10, u32::try_from(round).unwrap(), Step::Propose));
    }
    for (round, pol_round) in [(2, 2), (2, 3), (0, 0), (2, -2), (2, i64::MIN), (0, i64::MAX)] {
        refused("proof of lock", &at(round, pol_round), "cannot rest on round");
    }
    refused("nil", &ask_proposal(Proposal { block_id: BlockId::default(), ..proposal() }), "names a block");
}

#[test]
fn nanoseconds_are_less_than_a_second_and_seconds_are_anything() {
    let at = |seconds, nanos| ask_vote(Vote { timestamp: Timestamp { seconds, nanos }, ..vote(1) });
    for nanos in [-1, 1_000_000_000, i32::MAX, i32::MIN] {
        refused("nanoseconds", &at(5, nanos), "nanoseconds");
    }
    for (seconds, nanos) in [(0, 0), (-1, 999_999_999), (Timestamp::GO_ZERO.seconds, 0), (i64::MAX, 1), (i64::MIN, 1)] {
        accepted("timestamp", &at(seconds, nanos), (10, 2, Step::Prevote));
    }
}

#[test]
fn bytes_without_a_meaning_and_unknown_requests_are_refused_in_words() {
    refused("raw bytes", &Request::SignBytes { body: b"\x0a\x01x".to_vec() }, "they could be a vote");
    for tag in [11, 12, 1 << 28] {
        refused("unknown", &Request::Unknown { tag }, &format!("request {tag} is not known here"));
    }
}

/// What becomes of the extension of a vote.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Signed,
    Left,
    Refused,
}
use Outcome::{Left, Refused, Signed};

#[test]
fn extensions_are_signed_for_precommits_for_a_block_and_nothing_else() {
    use Extensions::{Always, Filled};
    use Family::{Amino, Protobuf};
    let nil = BlockId::default();
    // Type, block, extension, mode, the flag of v1 that leaves it unsigned, family.
    let table = [
        (2, block(), "", Always, false, Protobuf, Signed),
        (2, block(), "x", Always, false, Protobuf, Signed),
        (2, block(), "", Filled, false, Protobuf, Left),
        (2, block(), "x", Filled, false, Protobuf, Signed),
        (2, block(), "", Always, true, Protobuf, Left),
        (2, block(), "x", Always, true, Protobuf, Left),
        (2, block(), "x", Filled, true, Protobuf, Left),
        (2, block(), "", Always, false, Amino, Left),
        (2, block(), "x", Always, false, Amino, Left),
        (2, nil.clone(), "", Always, false, Protobuf, Left),
        (2, nil.clone(), "", Filled, false, Protobuf, Left),
        (2, nil.clone(), "x", Always, false, Protobuf, Refused),
        (2, nil.clone(), "x", Filled, false, Protobuf, Refused),
        (2, nil.clone(), "x", Always, true, Protobuf, Refused),
        (1, block(), "", Always, false, Protobuf, Left),
        (1, block(), "x", Always, false, Protobuf, Refused),
        (1, nil.clone(), "", Always, false, Protobuf, Left),
        (1, nil, "x", Filled, false, Protobuf, Refused),
    ];
    for (index, (kind, block_id, extension, extensions, skip, family, expected)) in table.into_iter().enumerate() {
        let vote = Vote { block_id, extension: extension.into(), ..vote(kind) };
        let request = Request::SignVote { vote, chain_id: CHAIN.into(), skip_extension_signing: skip };
        let found = match (Terms { extensions, ..terms() }).decide(family, request.clone()) {
            Verdict::Sign(wanted) if wanted.with_extension => {
                assert_eq!(wanted.extension(), extension.as_bytes(), "row {index}");
                Signed
            }
            Verdict::Sign(_) => Left,
            refuse => {
                let error = refusal(&request, refuse);
                assert!(error.description.contains("carries a vote extension"), "row {index}: {}", error.description);
                Refused
            }
        };
        assert_eq!(found, expected, "row {index}");
    }
    assert!(!to_sign(terms().decide(Protobuf, ask_proposal(proposal()))).with_extension);
}

#[test]
fn a_vote_does_not_change_with_its_extension_address_or_index() {
    let plain = to_sign(terms().decide(Family::Protobuf, ask_vote(vote(2))));
    let other = Vote {
        extension: vec![1; 50],
        validator_address: vec![9; 20],
        validator_index: 77,
        signature: vec![1; 64],
        unknown: vec![0x58, 1],
        ..vote(2)
    };
    let other = to_sign(terms().decide(Family::Protobuf, ask_vote(other)));
    assert_eq!(plain.sign_bytes, other.sign_bytes);
}

/// The member of a reply: one behind that of its request.
fn member(family: Family, encoded: &[u8]) -> u64 {
    let message = &encoded[1 + usize::from(encoded[0] >= 0x80)..];
    match family {
        Family::Protobuf => u64::from(message[0] >> 3),
        Family::Amino => match message[0] {
            0x17 => 2,
            0xb2 => 4,
            0x4a => 6,
            0xa2 => 8,
            other => panic!("{other:02x} begins no reply"),
        },
    }
}

#[test]
fn every_request_has_its_own_kind_of_reply_in_its_own_family_also_where_it_is_refused() {
    let signature = Signature::new(&[5; 64]).unwrap();
    let another = || "another-chain".to_owned();
    let table = [
        (Request::PubKey { chain_id: CHAIN.into() }, 2),
        (Request::PubKey { chain_id: another() }, 2),
        (ask_vote(vote(1)), 4),
        (ask_vote(vote(2)), 4),
        (ask_vote(vote(99)), 4),
        (Request::SignVote { vote: vote(1), chain_id: another(), skip_extension_signing: true }, 4),
        (ask_proposal(proposal()), 6),
        (ask_proposal(Proposal { height: 0, ..proposal() }), 6),
        (Request::Ping, 8),
        (Request::SignBytes { body: Vec::new() }, 10),
        (Request::Unknown { tag: 11 }, 10),
    ];
    for (request, expected) in table {
        for family in FAMILIES {
            if family == Family::Amino && expected == 10 {
                continue; // amino has no such requests
            }
            let replies = match terms().decide(family, request.clone()) {
                Verdict::Reply(reply) | Verdict::Refuse(reply) => vec![reply],
                Verdict::SignBytes(wanted) => panic!("{wanted:?} is signed"),
                Verdict::Sign(wanted) => {
                    let bytes = wanted.sign_bytes.bytes.clone();
                    vec![wanted.refused(CODE_DOUBLE_SIGN, "no".into()), wanted.signed(&bytes, &signature, None)]
                }
            };
            for reply in replies {
                assert_eq!(member(family, &reply.encode(family)), expected, "{family:?} {request:?}: {reply:?}");
            }
        }
    }
}

#[test]
fn a_signed_vote_is_what_was_asked_with_the_signatures() {
    let (signature, of_extension) = (Signature::new(&[5; 64]).unwrap(), Signature::new(&[6; 64]).unwrap());
    for family in FAMILIES {
        let asked = Vote {
            extension: b"extension".to_vec(),
            extension_signature: b"stale".to_vec(),
            signature: b"stale".to_vec(),
            validator_index: 4,
            unknown: vec![0x58, 1],
            ..vote(2)
        };
        let wanted = to_sign(terms().decide(family, ask_vote(asked.clone())));
        assert_eq!((wanted.height, wanted.round, wanted.block_id()), (10, 2, &block()));
        let bytes = wanted.sign_bytes.bytes.clone();
        let with = Vote { signature: vec![5; 64], extension_signature: vec![6; 64], ..asked.clone() };
        assert_eq!(wanted.clone().signed(&bytes, &signature, Some(&of_extension)), Response::SignedVote(Ok(with)));
        // A signature of an extension that a node sent does not go back as ours.
        let without = Vote { signature: vec![5; 64], extension_signature: Vec::new(), ..asked };
        assert_eq!(wanted.signed(&bytes, &signature, None), Response::SignedVote(Ok(without)));
    }
}

#[test]
fn a_signature_from_before_goes_back_with_the_timestamp_that_it_is_over() {
    let signature = Signature::new(&[5; 64]).unwrap();
    let moments = [
        Timestamp { seconds: 1_600_000_000, nanos: 123_456_789 },
        Timestamp::default(),
        Timestamp { seconds: -1, nanos: 999_999_999 },
        Timestamp::GO_ZERO,
    ];
    for family in FAMILIES {
        for stored_by in FAMILIES {
            for before in moments {
                let first = Vote { timestamp: before, ..vote(1) };
                let stored = to_sign(terms().decide(stored_by, ask_vote(first.clone()))).sign_bytes;
                let wanted = to_sign(terms().decide(family, ask_vote(vote(1))));
                assert_eq!(wanted.sign_bytes.content, stored.content, "the same question");
                let expected = Vote { signature: vec![5; 64], ..first };
                let reply = wanted.signed(&stored.bytes, &signature, None);
                assert_eq!(reply, Response::SignedVote(Ok(expected)), "{family:?} after {stored_by:?}");

                let first = Proposal { timestamp: before, ..proposal() };
                let stored = to_sign(terms().decide(stored_by, ask_proposal(first.clone()))).sign_bytes;
                let wanted = to_sign(terms().decide(family, ask_proposal(proposal())));
                let expected = Proposal { signature: vec![5; 64], ..first };
                let reply = wanted.signed(&stored.bytes, &signature, None);
                assert_eq!(reply, Response::SignedProposal(Ok(expected)), "{family:?} after {stored_by:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_to_be_signed_says_exactly_what_was_asked(
        kind in prop_oneof![1 => -1i32..40, 3 => 1i32..3],
        height in prop_oneof![any::<i64>(), -2i64..100],
        round in prop_oneof![any::<i64>(), -2i64..100, Just(i64::from(i32::MAX))],
        lengths in (prop_oneof![Just(0usize), Just(32), 0usize..40], prop_oneof![Just(0usize), Just(32), 0usize..40]),
        total in prop_oneof![Just(0u32), any::<u32>()],
        (seconds, nanos) in (any::<i64>(), prop_oneof![3 => 0i32..1_000_000_000, 1 => any::<i32>()]),
        extension in prop_oneof![Just(0usize), 1usize..40],
        family in prop_oneof![Just(Family::Amino), Just(Family::Protobuf)],
    ) {
        let block_id = BlockId { hash: vec![1; lengths.0], parts: PartSetHeader { total, hash: vec![2; lengths.1] } };
        let timestamp = Timestamp { seconds, nanos };
        let asked =
            Vote { kind, height, round, block_id, timestamp, extension: vec![3; extension], ..Vote::default() };
        let valid = [0, 32].contains(&lengths.0) && [0, 32].contains(&lengths.1);
        let valid = valid && (1..=2).contains(&kind) && height > 0 && (0..1 << 31).contains(&round);
        let valid = valid && (0..1_000_000_000).contains(&nanos);
        let valid = valid && (extension == 0 || kind == 2 && !asked.block_id.is_nil());
        match terms().decide(family, ask_vote(asked.clone())) {
            Verdict::Sign(wanted) => {
                prop_assert!(valid);
                let read = sign_bytes::read(&wanted.sign_bytes.bytes).unwrap();
                prop_assert_eq!(read.chain_id.as_str(), CHAIN);
                prop_assert_eq!((read.kind.code(), read.height, read.round), (kind, height, round));
                prop_assert_eq!((read.block_id, read.timestamp), (asked.block_id, timestamp));
                prop_assert!(!wanted.with_extension || kind == 2 && family == Family::Protobuf);
            }
            verdict => {
                prop_assert!(!valid);
                prop_assert_eq!(refusal(&ask_vote(asked), verdict).code, CODE_CANNOT);
            }
        }
    }
}
