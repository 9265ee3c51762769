//! Signatures over bytes: who gets one, and that none of them is ever one over a vote, a proposal or a vote extension.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use semel_guard::{Benign, ChainId, DOMAIN_MAX, DOMAIN_MIN, Domain};
use semel_kms::core::raw_bytes::{
    BYTES_MAX, BytesToSign, Dialect, RawBytes, RawBytesError, UNIQUE_ID_MAX, may_be_canonical,
};
use semel_kms::core::sign_bytes;
use semel_kms::wire::{BlockId, Family, PartSetHeader, Proposal, Request, Timestamp, Vote};

const CHAIN: &str = "chain-1";
const DIALECTS: [Dialect; 3] = [Dialect::Auto, Dialect::Celestia, Dialect::V1];

/// A length-delimited field with a length of one or two bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    if bytes.len() >= 0x80 {
        out.extend([(bytes.len() & 0x7f) as u8 | 0x80, (bytes.len() >> 7 & 0x7f) as u8 | 0x80]);
        out.push((bytes.len() >> 14) as u8);
    } else {
        out.push(bytes.len() as u8);
    }
    out.extend_from_slice(bytes);
    out
}

fn celestia(chain: &[u8], raw: &[u8], id: &[u8]) -> Vec<u8> {
    let present = [(1, chain), (2, raw), (3, id)].into_iter().filter(|(_, bytes)| !bytes.is_empty());
    present.flat_map(|(number, bytes)| field(number, bytes)).collect()
}

fn policy(dialect: Dialect, domains: &[&str]) -> RawBytes {
    RawBytes { dialect, domains: domains.iter().map(|text| Domain::new(text).unwrap()).collect() }
}

fn raw(bytes: &[u8], id: &str) -> Result<BytesToSign, RawBytesError> {
    Ok(BytesToSign::RawBytes { raw_bytes: bytes.to_vec(), unique_id: id.into() })
}

fn in_domain(domain: &str, rest: &[u8]) -> Result<BytesToSign, RawBytesError> {
    Ok(BytesToSign::InDomain { domain: Domain::new(domain).unwrap(), rest: rest.to_vec() })
}

#[test]
fn the_dialect_says_whose_request_it_is() {
    let whole = celestia(b"chain-1", &[1, 2], b"id");
    let another = celestia(b"another", &[1, 2], b"id");
    let wrong_chain = || Err(RawBytesError::Chain { ours: CHAIN.into(), theirs: "another".into() });
    let missing = |what| Err(RawBytesError::Missing(what));
    let none = || Err(RawBytesError::NoDomain);
    let test = b"TEST::\x01".as_slice();
    type Decided = [Result<BytesToSign, RawBytesError>; 3];
    let rows: [(&str, Vec<u8>, Decided); 9] = [
        // name, body, auto, Celestia, v1
        ("whole", whole, [raw(&[1, 2], "id"), raw(&[1, 2], "id"), none()]),
        ("another chain", another, [none(), wrong_chain(), none()]),
        ("no chain", celestia(b"", &[1], b"id"), [missing("bytes"), missing("chain id"), missing("bytes")]),
        ("no bytes", celestia(b"chain-1", b"", b"id"), [none(), missing("raw bytes"), none()]),
        ("no unique id", celestia(b"chain-1", &[1], b""), [none(), missing("unique id"), none()]),
        ("nothing", Vec::new(), [missing("bytes"), missing("chain id"), missing("bytes")]),
        ("in a domain", field(1, test), [in_domain("TEST::", &[1]), missing("raw bytes"), in_domain("TEST::", &[1])]),
        (
            "the domain alone",
            field(1, b"TEST::"),
            [in_domain("TEST::", b""), missing("raw bytes"), in_domain("TEST::", b"")],
        ),
        ("the domain later", field(1, b" TEST::"), [none(), missing("raw bytes"), none()]),
    ];
    for (name, body, expected) in rows {
        for (dialect, expected) in DIALECTS.into_iter().zip(expected) {
            let found = policy(dialect, &["OTHER::", "TEST::"]).decide(CHAIN, &body);
            assert_eq!(found, expected, "{name}, {dialect:?}");
        }
    }
}

#[test]
fn by_default_v1_bytes_are_refused_and_those_of_celestia_are_signed() {
    let policy = RawBytes::default();
    assert_eq!(policy.decide(CHAIN, &field(1, b"TEST::x")), Err(RawBytesError::NoDomain));
    assert_eq!(policy.decide(CHAIN, &celestia(b"chain-1", &[9], b"id")), raw(&[9], "id"));
}

#[test]
fn sizes_and_texts_have_limits() {
    let long = vec![b'a'; BYTES_MAX + 1];
    let id = "i".repeat(UNIQUE_ID_MAX);
    let celestia_only = policy(Dialect::Celestia, &[]);
    let decide = |raw: &[u8], id: &[u8]| celestia_only.decide(CHAIN, &celestia(b"chain-1", raw, id));
    assert_eq!(decide(long.get(1..).unwrap(), id.as_bytes()), raw(long.get(1..).unwrap(), &id));
    let too_long = |what, found, max| Err(RawBytesError::TooLong { what, found, max });
    assert_eq!(decide(&long, b"id"), too_long("raw bytes", BYTES_MAX + 1, BYTES_MAX));
    assert_eq!(decide(b"x", format!("{id}i").as_bytes()), too_long("a unique id", UNIQUE_ID_MAX + 1, UNIQUE_ID_MAX));
    assert_eq!(decide(b"x", &[0xff]), Err(RawBytesError::UniqueId));
    let v1 = policy(Dialect::V1, &["aaaa"]);
    assert_eq!(v1.decide(CHAIN, &field(1, &long)), too_long("bytes", BYTES_MAX + 1, BYTES_MAX));
    for body in [&[0x0a][..], &[0x0a, 5, 1], &[0x08, 1], &[0xff; 30], &[0x0a, 1, b'x', 0x10, 1]] {
        for dialect in DIALECTS {
            let found = policy(dialect, &["TEST"]).decide(CHAIN, body);
            assert!(matches!(found, Err(RawBytesError::Wire(_))), "{body:02x?}: {found:?}");
        }
    }
}

#[test]
fn a_reply_shows_a_piece_of_a_strange_chain_id_only() {
    let body = celestia(&[b'\n'; 5000], b"x", b"id");
    let Err(error) = policy(Dialect::Celestia, &[]).decide(CHAIN, &body) else { panic!("signed") };
    let text = error.to_string();
    assert!(text.len() < 300 && !text.contains('\n'), "{text}");
}

fn hashes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), vec(any::<u8>(), 32)]
}

fn blocks() -> impl Strategy<Value = BlockId> {
    (hashes(), any::<u32>(), hashes())
        .prop_map(|(hash, total, parts)| BlockId { hash, parts: PartSetHeader { total, hash: parts } })
}

fn chains() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._-]{1,50}"
}

/// Everything that consensus signs, in both families.
fn consensus() -> impl Strategy<Value = Vec<u8>> {
    let times = (any::<i64>(), 0..1_000_000_000_i32).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos });
    let heights = || prop_oneof![Just(1), Just(i64::MAX), 1..=i64::MAX];
    let rounds = || prop_oneof![Just(0), 0..=i64::from(i32::MAX)];
    let families = prop_oneof![Just(Family::Amino), Just(Family::Protobuf)];
    let heads = (families, heights(), rounds(), blocks(), times, chains());
    prop_oneof![
        (heads, 1..=3_i32, -1..5_i64).prop_map(|((family, height, round, block_id, timestamp, chain), kind, pol)| {
            if kind == 3 {
                let proposal =
                    Proposal { kind: 32, height, round, pol_round: pol, block_id, timestamp, ..Proposal::default() };
                return sign_bytes::proposal(family, &proposal, &chain).bytes;
            }
            let vote = Vote { kind, height, round, block_id, timestamp, ..Vote::default() };
            sign_bytes::vote(family, &vote, &chain).bytes
        }),
        (heights(), rounds(), vec(any::<u8>(), 0..300), chains()).prop_map(|(height, round, extension, chain)| {
            let chain = ChainId::new(&chain).unwrap();
            Benign::VoteExtension { chain: &chain, height, round, extension: &extension }.bytes()
        }),
    ]
}

fn domains() -> impl Strategy<Value = Domain> {
    let text = format!("[A-Za-z0-9][ -~]{{{},{}}}", DOMAIN_MIN - 1, DOMAIN_MAX - 1);
    proptest::string::string_regex(&text).unwrap().prop_map(|text| Domain::new(&text).unwrap())
}

proptest! {
    #[test]
    fn what_consensus_signs_is_refused_as_bytes_whatever_is_allowed(
        bytes in consensus(), allowed in vec(domains(), 0..4), dialect in 0..3_usize,
    ) {
        prop_assert!(may_be_canonical(&bytes));
        let policy = RawBytes { dialect: DIALECTS[dialect], domains: allowed };
        prop_assert!(policy.decide(CHAIN, &field(1, &bytes)).is_err());
    }

    #[test]
    fn no_domain_is_a_beginning_of_what_consensus_signs(bytes in consensus(), domain in domains()) {
        prop_assert_eq!(domain.rest_of(&bytes), None);
        // Not even its first two bytes are.
        prop_assert_ne!(domain.as_str().as_bytes().get(..2), bytes.get(..2));
    }

    /// Whatever a node asks: what is signed is not what consensus signs, and it begins with a domain.
    #[test]
    fn bytes_that_are_signed_are_no_vote(
        body in prop_oneof![
            vec(any::<u8>(), 0..100),
            vec(any::<u8>(), 0..100).prop_map(|bytes| field(1, &bytes)),
            (vec(any::<u8>(), 0..100)).prop_map(|rest| field(1, &[b"TEST", rest.as_slice()].concat())),
            (vec(any::<u8>(), 0..300), ".{0,80}").prop_map(|(raw, id)| celestia(b"chain-1", &raw, id.as_bytes())),
            (consensus(), ".{1,9}").prop_map(|(raw, id)| celestia(b"chain-1", &raw, id.as_bytes())),
            consensus().prop_map(|bytes| celestia(&bytes, b"x", b"id")),
        ],
        dialect in 0..3_usize,
    ) {
        let policy = policy(DIALECTS[dialect], &["TEST"]);
        if let Ok(wanted) = policy.decide(CHAIN, &body) {
            let chain = ChainId::new(CHAIN).unwrap();
            let bytes = wanted.message(&chain).bytes();
            prop_assert!(sign_bytes::read(&bytes).is_err());
            prop_assert!(!may_be_canonical(&bytes));
            prop_assert!(bytes.starts_with(b"TEST") || bytes.starts_with(b"COMET::RAW_BYTES::SIGN"));
        }
    }

    #[test]
    fn a_request_for_bytes_comes_through_the_codec_as_it_is(body in vec(any::<u8>(), 0..300)) {
        let request = Request::SignBytes { body };
        let encoded = request.encode(Family::Protobuf);
        let start = if encoded.len() > 0x80 { 2 } else { 1 };
        prop_assert_eq!(Request::decode(Family::Protobuf, encoded.get(start..).unwrap()), Ok(request));
    }
}
