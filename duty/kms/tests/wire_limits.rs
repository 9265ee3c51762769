//! Limits of messages, and the outermost shape: which family, which member, one or none.

use semel_guard::{Algorithm, PublicKey};
use semel_kms::wire::{
    BlockId, Delimited, DelimitedError, ErrorReply, Family, PartSetHeader, Proposal, REPLY_MAX, Request, Response,
    Timestamp, Vote, WireError, family_of,
};

const FAMILIES: [Family; 2] = [Family::Amino, Family::Protobuf];

/// Requests and replies in turn, from the table of registered names.
const PREFIXES: [[u8; 4]; 8] = [
    [0xcb, 0x94, 0xd6, 0x20],
    [0x17, 0x0e, 0xd5, 0x7c],
    [0xf3, 0xf4, 0x12, 0x04],
    [0xb2, 0x48, 0xa6, 0x16],
    [0xbd, 0xe4, 0x98, 0xe2],
    [0x4a, 0x04, 0xfb, 0x87],
    [0x1b, 0xad, 0xb6, 0x0d],
    [0xa2, 0x9a, 0x03, 0x1a],
];

fn number(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn reader(limit: usize, bytes: &[u8]) -> Delimited {
    let mut reader = Delimited::new(limit);
    reader.buffer().extend_from_slice(bytes);
    reader
}

#[test]
fn a_message_of_the_limit_is_read_and_one_byte_more_is_refused_before_it_arrives() {
    for limit in [0usize, 1, 127, 128, 129, 16_383, 16_384, REPLY_MAX, 1 << 20] {
        let exact = [number(limit as u64), vec![7; limit]].concat();
        assert_eq!(reader(limit, &exact).next_message(), Ok(Some(&vec![7; limit][..])), "{limit}");
        let announced = limit as u64 + 1;
        let over = Err(DelimitedError::TooLong { length: announced, limit });
        assert_eq!(reader(limit, &number(announced)).next_message(), over, "{limit}");
    }
}

#[test]
fn lengths_that_no_memory_holds_are_refused_before_anything_is_set_aside() {
    for length in [1 << 20, u64::from(u32::MAX), 1 << 32, 1 << 63, u64::MAX] {
        let mut reader = reader(1 << 16, &number(length));
        assert_eq!(reader.next_message(), Err(DelimitedError::TooLong { length, limit: 1 << 16 }));
        assert!(reader.buffer().capacity() < 64, "{length}");
    }
    let endless = [0xff; 11];
    assert_eq!(reader(1 << 16, &endless).next_message(), Err(DelimitedError::Wire(WireError::Overflow)));
    assert_eq!(reader(1 << 16, &endless[..9]).next_message(), Ok(None));
}

#[test]
fn what_is_left_over_is_kept_for_the_next_message() {
    let mut reader = reader(16, &[1, 0xaa, 0, 2, 0xbb]);
    assert_eq!(reader.next_message(), Ok(Some(&[0xaa][..])));
    assert_eq!(reader.next_message(), Ok(Some(&[][..])), "a message may be empty");
    assert_eq!(reader.next_message(), Ok(None));
    reader.buffer().push(0xcc);
    assert_eq!(reader.next_message(), Ok(Some(&[0xbb, 0xcc][..])));
    assert_eq!(reader.next_message(), Ok(None));
    assert!(reader.buffer().is_empty());
}

#[test]
fn the_family_shows_in_the_first_bytes() {
    for first in 0..=u8::MAX {
        // One of the prefixes begins like member 9; it needs its other bytes to be one.
        let expected = (first & 7 == 2 && (1..=10).contains(&(first >> 3))).then_some(Family::Protobuf);
        for rest in [&[][..], &[0, 0, 0], &[0x04, 0, 0]] {
            assert_eq!(family_of(&[&[first], rest].concat()), expected, "{first:02x}");
        }
    }
    for prefix in PREFIXES {
        assert_eq!(family_of(&prefix), Some(Family::Amino));
        assert_eq!(family_of(&[&prefix[..], &[0x0a, 0]].concat()), Some(Family::Amino));
        for at in 0..4 {
            let mut other = prefix;
            other[at] ^= 0x80;
            assert_ne!(family_of(&other), Some(Family::Amino), "{prefix:02x?} with byte {at} changed");
        }
        // Read as the other family it is no message, so a mistake about the family cannot turn into a signature.
        assert!(Request::decode(Family::Protobuf, &prefix).is_err(), "{prefix:02x?}");
        assert!(Request::decode(Family::Protobuf, &[&prefix[..], &[0; 4]].concat()).is_err(), "{prefix:02x?}");
    }
    assert_eq!(family_of(&[]), None);
}

#[test]
fn a_reply_is_not_a_request_and_a_request_is_not_a_reply() {
    for (index, prefix) in PREFIXES.into_iter().enumerate() {
        let is_request = index % 2 == 0;
        assert_eq!(Request::decode(Family::Amino, &prefix).is_ok(), is_request, "{prefix:02x?}");
    }
    for tag in 1..=10u8 {
        let message = [tag << 3 | 2, 0];
        let read = Request::decode(Family::Protobuf, &message);
        if tag % 2 == 0 {
            assert_eq!(read, Err(WireError::NotAMessage), "{tag}");
        } else {
            assert!(read.is_ok(), "{tag}: {read:?}");
        }
    }
    for family in FAMILIES {
        for request in [Request::PubKey { chain_id: String::new() }, Request::Ping] {
            let encoded = request.encode(family);
            assert_eq!(Response::decode(family, &encoded[1..]), Err(WireError::NotAMessage), "{request:?}");
        }
    }
    // Replies without what they are for.
    for tag in [2u8, 4, 6, 10] {
        assert_eq!(Response::decode(Family::Protobuf, &[tag << 3 | 2, 0]), Err(WireError::Field(1)), "{tag}");
    }
}

#[test]
fn a_message_has_one_member_and_nothing_beside_it() {
    let ping = [0x3a, 0];
    let cases: [(&str, Vec<u8>, Result<Request, WireError>); 8] = [
        ("one", ping.to_vec(), Ok(Request::Ping)),
        ("none", vec![], Err(WireError::NotAMessage)),
        ("two", [ping, ping].concat(), Err(WireError::NotAMessage)),
        ("two kinds", [ping, [0x0a, 0]].concat(), Err(WireError::NotAMessage)),
        ("a number behind it", [ping, [0x78, 1]].concat(), Err(WireError::NotAMessage)),
        ("a number", vec![0x38, 1], Err(WireError::NotAMessage)),
        ("a byte behind it", [&ping[..], &[0x3a]].concat(), Err(WireError::Truncated)),
        ("a member of a later version", vec![0x5a, 3, 1, 2, 3], Ok(Request::Unknown { tag: 11 })),
    ];
    for (name, message, expected) in cases {
        assert_eq!(Request::decode(Family::Protobuf, &message), expected, "{name}");
    }
    for length in 0..4 {
        assert_eq!(Request::decode(Family::Amino, &PREFIXES[6][..length]), Err(WireError::Truncated), "{length}");
    }
    assert_eq!(Request::decode(Family::Amino, b"none of them"), Err(WireError::NotAMessage));
}

#[test]
fn a_chain_id_is_text() {
    for (bytes, valid) in [(&b"chain-1"[..], true), (&[0xff, 0xfe], false), ("ключ".as_bytes(), true), (&[0xc3], false)]
    {
        let body = [&[0x0a, bytes.len() as u8], bytes].concat();
        let message = [&[0x0a, body.len() as u8], &body[..]].concat();
        let expected = match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Request::PubKey { chain_id: text.to_owned() }),
            Err(_) => Err(WireError::Utf8),
        };
        assert_eq!(expected.is_ok(), valid);
        assert_eq!(Request::decode(Family::Protobuf, &message), expected);
    }
}

#[test]
fn raw_bytes_to_sign_are_known_as_such_whatever_they_hold() {
    for body in [&[][..], b"\x0a\x01x", b"\x0a\x07chain-1\x12\x01x\x1a\x02id", &[0xff; 30]] {
        let message = [&[0x4a, body.len() as u8], body].concat();
        assert_eq!(Request::decode(Family::Protobuf, &message), Ok(Request::SignBytes { body: body.to_vec() }));
    }
}

fn voted(extension: usize) -> Vote {
    let parts = PartSetHeader { total: 1, hash: vec![2; 32] };
    Vote {
        kind: 2,
        height: 10,
        round: 1,
        block_id: BlockId { hash: vec![1; 32], parts },
        timestamp: Timestamp { seconds: 1, nanos: 1 },
        validator_address: vec![3; 20],
        validator_index: 1,
        signature: vec![4; 64],
        extension: vec![5; extension],
        extension_signature: vec![6; 64],
        unknown: Vec::new(),
    }
}

#[test]
fn a_reply_keeps_the_extension_exactly_up_to_what_old_nodes_read() {
    for family in FAMILIES {
        let kept = |extension: usize| {
            let encoded = Response::SignedVote(Ok(voted(extension))).encode(family);
            assert!(encoded.len() <= REPLY_MAX, "{family:?}, {extension}: {} bytes", encoded.len());
            let message = reader(REPLY_MAX, &encoded).next_message().unwrap().unwrap().to_vec();
            let Ok(Response::SignedVote(Ok(vote))) = Response::decode(family, &message) else { unreachable!() };
            let kept = vote.extension.len() == extension;
            assert_eq!(
                vote,
                voted(if kept { extension } else { 0 }),
                "whole or not at all, and nothing else is left out"
            );
            kept
        };
        let longest = (0..REPLY_MAX).rev().find(|extension| kept(*extension)).unwrap();
        assert_eq!(Response::SignedVote(Ok(voted(longest))).encode(family).len(), REPLY_MAX, "{family:?}");
        for extension in (0..300).chain(REPLY_MAX / 2 - 3..REPLY_MAX / 2 + 3).chain(longest - 300..=longest) {
            assert!(kept(extension), "{family:?}, {extension}");
        }
        for extension in (longest + 1..longest + 600).chain([20_000, 1 << 20]) {
            assert!(!kept(extension), "{family:?}, {extension}");
        }
    }
}

#[test]
fn a_short_extension_goes_where_the_rest_leaves_no_room_for_it() {
    for family in FAMILIES {
        // Fields of a fork fill the reply; the extension is short.
        let filled = |fill: usize| {
            let unknown = [&[0x5a][..], &number(fill as u64), &vec![0; fill]].concat();
            Response::SignedVote(Ok(Vote { unknown, ..voted(9) })).encode(family)
        };
        let extension = [&[0x4a, 9][..], &[5; 9]].concat();
        let has = |encoded: &[u8]| encoded.windows(extension.len()).any(|window| window == extension);
        let exact = REPLY_MAX - (filled(1000).len() - 1000);
        assert_eq!((filled(exact).len(), has(&filled(exact))), (REPLY_MAX, true), "{family:?}");
        let over = filled(exact + 1);
        assert_eq!((over.len(), has(&over)), (REPLY_MAX + 1 - extension.len(), false), "{family:?}");
    }
}

#[test]
fn amino_has_no_flag_that_leaves_an_extension_unsigned() {
    for flag in [&[0x18, 1][..], &[0x1a, 1, 0]] {
        let message = [&PREFIXES[2][..], flag].concat();
        let expected =
            Request::SignVote { vote: Vote::default(), chain_id: String::new(), skip_extension_signing: false };
        assert_eq!(Request::decode(Family::Amino, &message), Ok(expected));
    }
    let message = [0x1a, 2, 0x18, 1];
    let read = Request::decode(Family::Protobuf, &message);
    assert!(matches!(read, Ok(Request::SignVote { skip_extension_signing: true, .. })), "{read:?}");
}

#[test]
fn an_extension_of_megabytes_does_not_come_back() {
    let encoded = Response::SignedVote(Ok(voted(8 << 20))).encode(Family::Protobuf);
    assert!(encoded.len() < 400, "{}", encoded.len());
}

#[test]
fn a_public_key_goes_out_in_every_shape_that_a_node_reads() {
    let ed25519 = PublicKey::new(Algorithm::Ed25519, &[0xab; 32]).unwrap();
    let secp256k1 = PublicKey::new(Algorithm::Secp256k1, &[0x02; 33]).unwrap();
    let hex = |response: Response, family| hex::encode(response.encode(family));
    let (ed, k1) = ("ab".repeat(32), "02".repeat(33));
    // {2: {1: {1: key}, 3: key, 4: name}}: CometBFT v0.38 reads field 1, v1 fields 3 and 4.
    let expected = format!("5112 4f 0a22 0a20 {ed} 1a20 {ed} 2207 {}", hex::encode("ed25519")).replace(' ', "");
    assert_eq!(hex(Response::PubKey(Ok(ed25519.clone())), Family::Protobuf), expected);
    let expected = format!("5512 53 0a23 1221 {k1} 1a21 {k1} 2209 {}", hex::encode("secp256k1")).replace(' ', "");
    assert_eq!(hex(Response::PubKey(Ok(secp256k1.clone())), Family::Protobuf), expected);
    let expected = format!("2b 170ed57c 0a25 1624de6420 {ed}").replace(' ', "");
    assert_eq!(hex(Response::PubKey(Ok(ed25519)), Family::Amino), expected);
    let expected = format!("2c 170ed57c 0a26 eb5ae98721 {k1}").replace(' ', "");
    assert_eq!(hex(Response::PubKey(Ok(secp256k1)), Family::Amino), expected);
}

#[test]
fn a_key_of_another_length_or_kind_is_no_key() {
    for length in [0usize, 31, 33] {
        let key = [&[0x0a, length as u8], &vec![1; length][..]].concat();
        let body = [&[0x0a, key.len() as u8], &key[..]].concat();
        let message = [&[0x12, body.len() as u8], &body[..]].concat();
        assert_eq!(Response::decode(Family::Protobuf, &message), Err(WireError::Field(1)), "{length}");
        let inner = [&[0x16, 0x24, 0xde, 0x64, 0x20], &vec![1; length][..]].concat();
        let message = [&PREFIXES[1][..], &[0x0a, inner.len() as u8], &inner].concat();
        assert_eq!(Response::decode(Family::Amino, &message), Err(WireError::Field(1)), "{length}");
    }
    // BLS12-381, which some nodes have.
    let message = [&[0x12, 0x34, 0x0a, 0x32, 0x1a, 0x30][..], &[1; 48]].concat();
    assert_eq!(Response::decode(Family::Protobuf, &message), Err(WireError::Field(3)));
}

#[test]
fn an_error_goes_out_with_its_code_and_words_beside_an_empty_message() {
    let error = ErrorReply { code: 2, description: "no".into() };
    let inner = "0802 1202 6e6f";
    let table = [
        (Response::PubKey(Err(error.clone())), Family::Protobuf, format!("0a 12 08 12 06 {inner}")),
        (Response::SignedVote(Err(error.clone())), Family::Protobuf, format!("0c 22 0a 0a00 12 06 {inner}")),
        (Response::SignedProposal(Err(error.clone())), Family::Protobuf, format!("0c 32 0a 0a00 12 06 {inner}")),
        (Response::SignedBytes(Err(error.clone())), Family::Protobuf, format!("0c 52 0a 0a00 12 06 {inner}")),
        (Response::PubKey(Err(error.clone())), Family::Amino, format!("0c 170ed57c 12 06 {inner}")),
        (Response::SignedVote(Err(error.clone())), Family::Amino, format!("0e b248a616 0a00 12 06 {inner}")),
        (Response::SignedProposal(Err(error)), Family::Amino, format!("0e 4a04fb87 0a00 12 06 {inner}")),
        (Response::Ping, Family::Protobuf, "02 42 00".into()),
        (Response::Ping, Family::Amino, "04 a29a031a".into()),
    ];
    for (response, family, expected) in table {
        let encoded = response.encode(family);
        assert_eq!(hex::encode(&encoded), expected.replace(' ', ""), "{family:?} {response:?}");
        assert_eq!(Response::decode(family, &encoded[1..]), Ok(response));
    }
}

#[test]
fn a_signed_proposal_carries_what_was_asked_and_the_signature() {
    let proposal = Proposal {
        kind: 32,
        height: 3,
        round: 2,
        pol_round: -1,
        block_id: BlockId::default(),
        timestamp: Timestamp { seconds: 5, nanos: 0 },
        signature: vec![9; 2],
        unknown: vec![0x40, 1],
    };
    let body = "0820 1003 1802 20ffffffffffffffffff01 2a02 1200 3202 0805 3a02 0909 4001".replace(' ', "");
    let inner = body.len() / 2;
    let expected = format!("{:02x}32{:02x}0a{inner:02x}{body}", inner + 4, inner + 2);
    assert_eq!(hex::encode(Response::SignedProposal(Ok(proposal)).encode(Family::Protobuf)), expected);
}
