//! The codecs: round trips of every message of both families, and bytes that are no message.
//!
//! `field`, `number` and `delimited` below write bytes without the code under test, so that what is wrong can be written too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use semel_guard::{Algorithm, PublicKey};
use semel_kms::core::sign_bytes;
use semel_kms::wire::{
    BlockId, Delimited, ErrorReply, Family, PartSetHeader, Proposal, Request, Response, Timestamp, Vote, WireError,
    family_of,
};

const FAMILIES: [Family; 2] = [Family::Amino, Family::Protobuf];

/// A varint in as few bytes as it takes.
fn number(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// A field: its tag and whatever follows it.
fn field(tag: u64, kind: u64, rest: &[u8]) -> Vec<u8> {
    [number(tag << 3 | kind), rest.to_vec()].concat()
}

/// A field of bytes.
fn filled(tag: u64, bytes: &[u8]) -> Vec<u8> {
    field(tag, 2, &delimited(bytes))
}

fn delimited(bytes: &[u8]) -> Vec<u8> {
    [number(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A request to sign this vote or proposal, without its length.
fn request(family: Family, message: u64, body: &[u8]) -> Vec<u8> {
    match (family, message) {
        (Family::Protobuf, _) => filled(message, body),
        (Family::Amino, 3) => [&[0xf3, 0xf4, 0x12, 0x04], body].concat(),
        (Family::Amino, 5) => [&[0xbd, 0xe4, 0x98, 0xe2], body].concat(),
        (Family::Amino, other) => unreachable!("{other}"),
    }
}

/// The message without the length that `encode` puts before it.
fn stripped(encoded: &[u8]) -> Vec<u8> {
    let mut stream = Delimited::new(1 << 20);
    stream.buffer().extend_from_slice(encoded);
    let message = stream.next_message().unwrap().unwrap().to_vec();
    assert_eq!(stream.next_message(), Ok(None));
    assert!(stream.buffer().is_empty(), "bytes are left over");
    message
}

fn block_ids() -> impl Strategy<Value = BlockId> {
    let hash = || vec(any::<u8>(), 0..40);
    (hash(), any::<u32>(), hash())
        .prop_map(|(hash, total, root)| BlockId { hash, parts: PartSetHeader { total, hash: root } })
}

/// Fields that no version has, in every wire type.
fn unknown_fields() -> impl Strategy<Value = Vec<u8>> {
    let one = (11u64..1 << 29, 0u8..4, any::<u64>(), vec(any::<u8>(), 0..20));
    let one = one.prop_map(|(tag, kind, value, bytes)| match kind {
        0 => field(tag, 0, &number(value)),
        1 => field(tag, 1, &value.to_le_bytes()),
        2 => filled(tag, &bytes),
        _ => field(tag, 5, &(value as u32).to_le_bytes()),
    });
    vec(one, 0..4).prop_map(|fields| fields.concat())
}

fn timestamps() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), any::<i32>()).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn votes() -> impl Strategy<Value = Vote> {
    let numbers = (any::<i32>(), any::<i64>(), any::<i64>(), any::<i64>());
    let bytes = (vec(any::<u8>(), 0..24), vec(any::<u8>(), 0..70), vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..70));
    (numbers, block_ids(), timestamps(), bytes, unknown_fields()).prop_map(
        |((kind, height, round, validator_index), block_id, timestamp, bytes, unknown)| {
            let (validator_address, signature, extension, extension_signature) = bytes;
            Vote {
                kind,
                height,
                round,
                block_id,
                timestamp,
                validator_address,
                validator_index,
                signature,
                extension,
                extension_signature,
                unknown,
            }
        },
    )
}

fn proposals() -> impl Strategy<Value = Proposal> {
    let numbers = (any::<i32>(), any::<i64>(), any::<i64>(), any::<i64>());
    let rest = (block_ids(), timestamps(), vec(any::<u8>(), 0..70), unknown_fields());
    (numbers, rest).prop_map(|((kind, height, round, pol_round), (block_id, timestamp, signature, unknown))| Proposal {
        kind,
        height,
        round,
        pol_round,
        block_id,
        timestamp,
        signature,
        unknown,
    })
}

/// Every request that the family can write.
fn requests(family: Family) -> impl Strategy<Value = Request> {
    let chain =
        move || ".{0,60}".prop_map(move |chain_id| if family == Family::Protobuf { chain_id } else { String::new() });
    let known = prop_oneof![
        chain().prop_map(|chain_id| Request::PubKey { chain_id }),
        (votes(), chain(), any::<bool>()).prop_map(move |(vote, chain_id, skip)| Request::SignVote {
            vote,
            chain_id,
            skip_extension_signing: skip && family == Family::Protobuf
        }),
        (proposals(), chain()).prop_map(|(proposal, chain_id)| Request::SignProposal { proposal, chain_id }),
        Just(Request::Ping),
    ];
    if family == Family::Amino {
        return known.boxed();
    }
    prop_oneof![
        8 => known,
        1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(|body| Request::SignBytes { body }),
        1 => (11u64..1 << 29).prop_map(|tag| Request::Unknown { tag }),
    ]
    .boxed()
}

fn responses(family: Family) -> impl Strategy<Value = Response> {
    let error = || (any::<i32>(), ".{0,200}").prop_map(|(code, description)| ErrorReply { code, description });
    let key = prop_oneof![
        any::<[u8; 32]>().prop_map(|key| PublicKey::new(Algorithm::Ed25519, &key).unwrap()),
        (any::<bool>(), any::<[u8; 32]>()).prop_map(|(odd, x)| {
            PublicKey::new(Algorithm::Secp256k1, &[&[2 + u8::from(odd)], &x[..]].concat()).unwrap()
        }),
    ];
    let both = prop_oneof![
        key.prop_map(|key| Response::PubKey(Ok(key))),
        error().prop_map(|error| Response::PubKey(Err(error))),
        votes().prop_map(|vote| Response::SignedVote(Ok(vote))),
        error().prop_map(|error| Response::SignedVote(Err(error))),
        proposals().prop_map(|proposal| Response::SignedProposal(Ok(proposal))),
        error().prop_map(|error| Response::SignedProposal(Err(error))),
        Just(Response::Ping),
    ];
    if family == Family::Amino {
        return both.boxed();
    }
    prop_oneof![8 => both, 1 => error().prop_map(|error| Response::SignedBytes(Err(error))),
        1 => proptest::collection::vec(any::<u8>(), 0..97).prop_map(|signature| Response::SignedBytes(Ok(signature))),
    ]
    .boxed()
}

fn families() -> impl Strategy<Value = Family> {
    proptest::sample::select(FAMILIES.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_is_read_as_it_was_written(
        (family, request) in families().prop_flat_map(|family| (Just(family), requests(family)))
    ) {
        let message = stripped(&request.encode(family));
        if !matches!(request, Request::Unknown { .. }) {
            prop_assert_eq!(family_of(&message), Some(family));
        }
        prop_assert_eq!(Request::decode(family, &message), Ok(request));
    }

    #[test]
    fn a_reply_is_read_as_it_was_written(
        (family, response) in families().prop_flat_map(|family| (Just(family), responses(family)))
    ) {
        let message = stripped(&response.encode(family));
        prop_assert_eq!(family_of(&message), Some(family));
        prop_assert_eq!(Response::decode(family, &message), Ok(response));
    }

    #[test]
    fn any_bytes_are_read_or_refused(family in families(), bytes in vec(any::<u8>(), 0..400)) {
        let _read = (Request::decode(family, &bytes), Response::decode(family, &bytes), sign_bytes::read(&bytes));
        let mut stream = Delimited::new(128);
        stream.buffer().extend_from_slice(&bytes);
        while let Ok(Some(message)) = stream.next_message() {
            prop_assert!(message.len() <= 128);
        }
    }

    #[test]
    fn a_request_with_a_byte_changed_is_refused_or_means_what_is_written_for_it(
        (family, request) in families().prop_flat_map(|family| (Just(family), requests(family))),
        at in any::<proptest::sample::Index>(),
        with in 1u8..,
    ) {
        let mut message = stripped(&request.encode(family));
        let at = at.index(message.len());
        message[at] ^= with;
        if let Ok(read) = Request::decode(family, &message) {
            let again = stripped(&read.encode(family));
            prop_assert_eq!(Request::decode(family, &again), Ok(read));
        }
    }

    #[test]
    fn messages_come_out_of_a_stream_however_it_is_cut(
        messages in vec(vec(any::<u8>(), 0..200), 1..8),
        cuts in vec(1usize..50, 1..100),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| delimited(message)).collect();
        let mut stream = Delimited::new(200);
        let (mut out, mut rest) = (Vec::new(), bytes.as_slice());
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            stream.buffer().extend_from_slice(head);
            rest = tail;
            while let Some(message) = stream.next_message().unwrap() {
                out.push(message.to_vec());
            }
        }
        prop_assert_eq!(out, messages);
        prop_assert!(stream.buffer().is_empty());
    }
}

fn vote() -> Vote {
    Vote {
        kind: 2,
        height: 1 << 40,
        round: 7,
        block_id: BlockId { hash: vec![0xaa; 32], parts: PartSetHeader { total: 300, hash: vec![0xbb; 32] } },
        timestamp: Timestamp { seconds: 1_700_000_000, nanos: 999 },
        validator_address: vec![0xcc; 20],
        validator_index: 200,
        signature: Vec::new(),
        extension: vec![0xdd; 5],
        extension_signature: Vec::new(),
        unknown: Vec::new(),
    }
}

fn sign_vote(family: Family, vote: Vote) -> Request {
    let chain_id = if family == Family::Protobuf { "chain".to_owned() } else { String::new() };
    Request::SignVote { vote, chain_id, skip_extension_signing: false }
}

#[test]
fn fields_that_are_not_known_come_back_in_the_reply_wherever_they_stood() {
    let strange = [
        field(11, 0, &number(u64::MAX)),
        field(12, 1, &[1, 2, 3, 4, 5, 6, 7, 8]),
        filled(13, b"a fork's field"),
        field(536_870_911, 5, &[9, 9, 9, 9]),
    ];
    for (family, member) in [(Family::Protobuf, 3), (Family::Protobuf, 5), (Family::Amino, 3), (Family::Amino, 5)] {
        // Before, between and behind the known ones; the second behind a field that comes twice.
        let message = [
            strange[0].clone(),
            field(1, 0, &number(1)),
            strange[1].clone(),
            field(2, 0, &number(5)),
            strange[2].clone(),
            field(2, 0, &number(6)),
            strange[3].clone(),
        ]
        .concat();
        let (reply, known) = match Request::decode(family, &request(family, member, &filled(1, &message))).unwrap() {
            Request::SignVote { vote, .. } => {
                assert_eq!((vote.kind, vote.height, vote.unknown.clone()), (1, 6, strange.concat()));
                let known = Vote { unknown: Vec::new(), ..vote.clone() };
                (Response::SignedVote(Ok(vote)), Response::SignedVote(Ok(known)))
            }
            Request::SignProposal { proposal, .. } => {
                assert_eq!((proposal.kind, proposal.height, proposal.unknown.clone()), (1, 6, strange.concat()));
                let known = Proposal { unknown: Vec::new(), ..proposal.clone() };
                (Response::SignedProposal(Ok(proposal)), Response::SignedProposal(Ok(known)))
            }
            other => unreachable!("{other:?}"),
        };
        let (with, without) = (stripped(&reply.encode(family)), stripped(&known.encode(family)));
        assert!(with.ends_with(&strange.concat()), "{family:?} {member}");
        assert!(with.len() >= without.len() + strange.concat().len(), "{family:?} {member}");
    }
}

#[test]
fn numbers_may_be_padded_up_to_ten_bytes_and_hold_64_bits_at_most() {
    let nine = [0x80; 9].as_slice();
    let table: [(&str, Vec<u8>, Result<i64, WireError>); 9] = [
        ("shortest", vec![5], Ok(5)),
        ("one byte too many", vec![0x85, 0x00], Ok(5)),
        ("ten bytes", [&[0x85], &nine[..8], &[0]].concat(), Ok(5)),
        ("ten bytes, the highest bit", [nine, &[1]].concat(), Ok(i64::MIN)),
        ("minus one", [[0xff; 9].as_slice(), &[1]].concat(), Ok(-1)),
        ("bit 64", [nine, &[2]].concat(), Err(WireError::Overflow)),
        ("an eleventh byte", [nine, &[0x80, 0]].concat(), Err(WireError::Overflow)),
        ("an eleventh byte behind bits", [[0xff; 10].as_slice(), &[1]].concat(), Err(WireError::Overflow)),
        ("no end", vec![0x80; 3], Err(WireError::Truncated)),
    ];
    for family in FAMILIES {
        for (name, bytes, expected) in &table {
            let message = request(family, 3, &filled(1, &field(2, 0, bytes)));
            let read = Request::decode(family, &message).map(|request| match request {
                Request::SignVote { vote, .. } => vote.height,
                other => unreachable!("{other:?}"),
            });
            assert_eq!(read, *expected, "{family:?}, {name}");
        }
    }
}

#[test]
fn numbers_that_do_not_fit_their_field_are_refused() {
    let over = |bits: u32| number(1 << bits);
    let minus = |value: i64| number(value.cast_unsigned());
    let time = |bytes: &[u8]| filled(5, &field(2, 0, bytes));
    let total = |bytes: &[u8]| filled(4, &filled(2, &field(1, 0, bytes)));
    let table = [
        ("a type of 31 bits", field(1, 0, &over(30)), true),
        ("a negative type", field(1, 0, &minus(-1)), true),
        ("a type of 32 bits", field(1, 0, &over(31)), false),
        ("a type below 32 bits", field(1, 0, &minus(i64::from(i32::MIN) - 1)), false),
        ("nanoseconds of 31 bits", time(&over(30)), true),
        ("nanoseconds of 32 bits", time(&over(31)), false),
        ("a total of 32 bits", total(&over(31)), true),
        ("a total of 33 bits", total(&over(32)), false),
        ("a negative total", total(&minus(-1)), false),
        ("a round of 64 bits", field(3, 0, &over(63)), true),
    ];
    for family in FAMILIES {
        for (name, vote, fits) in &table {
            let read = Request::decode(family, &request(family, 3, &filled(1, vote)));
            assert_eq!(read.is_ok(), *fits, "{family:?}, {name}: {read:?}");
        }
    }
}

/// Puts a field where it belongs in the body of a request.
type Wrap = fn(Vec<u8>) -> Vec<u8>;
/// Numbers and wire types of the fields that are known there.
type Known = &'static [(u64, u64)];

#[test]
fn a_known_field_of_another_kind_is_refused_and_an_unknown_one_is_not() {
    // What is written behind a tag of each wire type; 3, 4, 6 and 7 are groups and nothing.
    let behind = |kind: u64| match kind {
        0 => vec![1],
        1 => vec![0; 8],
        2 => vec![0],
        5 => vec![0; 4],
        _ => vec![0; 16],
    };
    let outer: [(&str, u64, Wrap, Known); 6] = [
        (
            "vote",
            3,
            |f| filled(1, &f),
            &[(1, 0), (2, 0), (3, 0), (4, 2), (5, 2), (6, 2), (7, 0), (8, 2), (9, 2), (10, 2)],
        ),
        ("proposal", 5, |f| filled(1, &f), &[(1, 0), (2, 0), (3, 0), (4, 0), (5, 2), (6, 2), (7, 2)]),
        ("block id", 3, |f| filled(1, &filled(4, &f)), &[(1, 2), (2, 2)]),
        ("parts", 3, |f| filled(1, &filled(4, &filled(2, &f))), &[(1, 0), (2, 2)]),
        ("timestamp", 5, |f| filled(1, &filled(6, &f)), &[(1, 0), (2, 0)]),
        ("request", 3, |f| f, &[(1, 2)]),
    ];
    let mut refused = 0;
    for family in FAMILIES {
        for (name, member, wrap, known) in outer {
            for tag in 0..=20 {
                for kind in 0..8 {
                    let known = known.iter().find(|(number, _)| *number == tag).map(|(_, kind)| *kind);
                    if name == "request" && known.is_none() && (1..=3).contains(&tag) {
                        continue; // the chain id and the flag, which only protobuf has
                    }
                    let expected = match (tag, kind) {
                        (0, _) => Err(WireError::WireType(0)),
                        (_, 3 | 4 | 6 | 7) => Err(WireError::WireType(tag)),
                        _ if known.is_some_and(|known| known != kind) => Err(WireError::Field(tag)),
                        _ => Ok(()),
                    };
                    let message = request(family, member, &wrap(field(tag, kind, &behind(kind))));
                    let read = Request::decode(family, &message).map(drop);
                    assert_eq!(read, expected, "{family:?} {name}: field {tag} of kind {kind}");
                    refused += u32::from(expected.is_err());
                }
            }
        }
    }
    assert!(refused > 1000);
    for (tag, kind) in [(2, 0), (2, 1), (2, 5), (3, 1), (3, 2), (3, 5)] {
        let message = request(Family::Protobuf, 3, &field(tag, kind, &behind(kind)));
        assert_eq!(Request::decode(Family::Protobuf, &message), Err(WireError::Field(tag)), "kind {kind}");
    }
}

#[test]
fn a_length_beyond_the_bytes_that_are_there_is_refused_whatever_it_is() {
    for length in [1, 1 << 20, u64::from(u32::MAX), 1 << 32, i64::MAX.cast_unsigned(), 1 << 63, u64::MAX] {
        let lie = [number(4 << 3 | 2), number(length)].concat();
        for family in FAMILIES {
            let cases = [
                request(family, 3, &[number(1 << 3 | 2), number(length)].concat()),
                request(family, 3, &filled(1, &lie)),
            ];
            for message in cases {
                assert_eq!(Request::decode(family, &message), Err(WireError::Truncated), "{length}");
            }
        }
        let outermost = [number(3 << 3 | 2), number(length)].concat();
        assert_eq!(Request::decode(Family::Protobuf, &outermost), Err(WireError::Truncated), "{length}");
    }
}

#[test]
fn a_request_that_ends_early_is_refused_at_every_byte() {
    for family in FAMILIES {
        let encoded = sign_vote(family, vote()).encode(family);
        let message = stripped(&encoded);
        for length in 0..message.len() {
            let read = Request::decode(family, &message[..length]);
            if family == Family::Amino && length == 4 {
                // A registered prefix and nothing else is a request without a vote: type 0, which no session signs.
                assert_eq!(read, Ok(sign_vote(family, Vote::default())));
            } else {
                assert!(read.is_err(), "{family:?} at {length}: {read:?}");
            }
        }
        let mut stream = Delimited::new(4096);
        for (index, byte) in encoded.iter().enumerate() {
            assert_eq!(stream.next_message(), Ok(None), "{family:?} at {index}");
            stream.buffer().push(*byte);
        }
        assert_eq!(stream.next_message(), Ok(Some(&message[..])));
    }
}

#[test]
fn a_vote_that_ends_early_inside_its_request_is_read_only_where_a_field_ends() {
    for family in FAMILIES {
        let whole = stripped(&Response::SignedVote(Ok(vote())).encode(Family::Amino));
        // Prefix, tag and a length of two bytes go before the vote itself.
        let whole = &whole[4 + 1 + 2..];
        let read: Vec<usize> = (0..=whole.len())
            .filter(|length| Request::decode(family, &request(family, 3, &filled(1, &whole[..*length]))).is_ok())
            .collect();
        // Type, height (6 bytes), round, block id (73), timestamp, address, index (2), extension.
        let lengths = [0, 2, 7, 2, 2 + 34 + 2 + 3 + 34, 2 + 6 + 3, 22, 3, 7];
        let ends: Vec<usize> = lengths.iter().scan(0, |at, length| Some((*at += length, *at).1)).collect();
        assert_eq!(read, ends, "{family:?}");
        assert_eq!(ends.last(), Some(&whole.len()));
    }
}
