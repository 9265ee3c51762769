//! Sign bytes against the field's own: `testdata/sign_bytes.jsonl` holds requests that Tendermint 0.33, 0.34 and CometBFT 0.38 encoded, and
//! the bytes that they sign for them. A request goes the whole way here: delimited stream, family, decoder, sign bytes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use semel_guard::{Benign, ChainId};
use semel_kms::core::sign_bytes::{self, SignBytes};
use semel_kms::wire::{
    BlockId, Delimited, Family, PartSetHeader, Proposal, Request, SignedType, Timestamp, Vote, family_of,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, HashMap};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    family: String,
    source: String,
    name: String,
    kind: String,
    fields: Fields,
    request_hex: String,
    sign_bytes_hex: String,
    #[serde(default)]
    extension_sign_bytes_hex: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    chain_id: String,
    height: i64,
    round: i64,
    #[serde(default)]
    pol_round: i64,
    #[serde(deserialize_with = "from_hex")]
    block_hash: Vec<u8>,
    parts_total: u32,
    #[serde(deserialize_with = "from_hex")]
    parts_hash: Vec<u8>,
    seconds: i64,
    nanos: i32,
    #[serde(default, deserialize_with = "from_hex")]
    extension: Vec<u8>,
}

fn from_hex<'de, D: Deserializer<'de>>(text: D) -> Result<Vec<u8>, D::Error> {
    hex::decode(String::deserialize(text)?).map_err(D::Error::custom)
}

impl Vector {
    fn family(&self) -> Family {
        match self.family.as_str() {
            "amino" => Family::Amino,
            "protobuf" => Family::Protobuf,
            other => panic!("{other} is no family"),
        }
    }

    fn code(&self) -> i32 {
        match self.kind.as_str() {
            "untyped" => 0,
            "prevote" => 1,
            "precommit" => 2,
            "proposal" => 32,
            other => panic!("{other} is no kind"),
        }
    }

    fn is_proposal(&self) -> bool {
        self.kind == "proposal"
    }

    /// Made by running the field's code; the others were published by the field.
    fn has_request(&self) -> bool {
        !self.request_hex.is_empty()
    }

    fn sign_bytes(&self) -> Vec<u8> {
        hex::decode(&self.sign_bytes_hex).unwrap()
    }

    fn block_id(&self) -> BlockId {
        let Fields { block_hash, parts_total, parts_hash, .. } = &self.fields;
        BlockId { hash: block_hash.clone(), parts: PartSetHeader { total: *parts_total, hash: parts_hash.clone() } }
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp { seconds: self.fields.seconds, nanos: self.fields.nanos }
    }

    /// What we make of the fields, without a request.
    fn built(&self) -> SignBytes {
        let Fields { height, round, pol_round, extension, .. } = &self.fields;
        let (kind, height, round) = (self.code(), *height, *round);
        let (block_id, timestamp) = (self.block_id(), self.timestamp());
        if self.is_proposal() {
            let proposal =
                Proposal { kind, height, round, pol_round: *pol_round, block_id, timestamp, ..Proposal::default() };
            sign_bytes::proposal(self.family(), &proposal, &self.fields.chain_id)
        } else {
            let vote =
                Vote { kind, height, round, block_id, timestamp, extension: extension.clone(), ..Vote::default() };
            sign_bytes::vote(self.family(), &vote, &self.fields.chain_id)
        }
    }

    /// The request, out of a stream.
    fn request(&self) -> Request {
        let bytes = hex::decode(&self.request_hex).unwrap();
        let mut stream = Delimited::new(16 * 1024);
        stream.buffer().extend_from_slice(&bytes);
        let message = stream.next_message().unwrap().unwrap().to_vec();
        assert_eq!(stream.next_message(), Ok(None), "{}: bytes are left over", self.name);
        assert_eq!(family_of(&message), Some(self.family()), "{}", self.name);
        Request::decode(self.family(), &message).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../testdata/sign_bytes.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn there_are_hundreds_of_vectors_and_nearly_all_come_out_of_the_fields_own_code() {
    let mut own = BTreeMap::new();
    let mut published = 0;
    for vector in vectors() {
        if vector.has_request() {
            *own.entry(vector.source).or_insert(0) += 1;
        } else {
            published += 1;
        }
    }
    let counted: Vec<(&str, i32)> = own.iter().map(|(source, count)| (source.as_str(), *count)).collect();
    assert_eq!(counted, [("cometbft 0.38.26", 117), ("tendermint 0.33.9", 105), ("tendermint 0.34.24", 105)]);
    assert_eq!(published, 11);
}

#[test]
fn the_sign_bytes_of_a_decoded_request_are_the_fields() {
    for vector in vectors().iter().filter(|vector| vector.has_request()) {
        let name = format!("{}, {}", vector.source, vector.name);
        let chain = &vector.fields.chain_id;
        let (bytes, named) = match vector.request() {
            Request::SignVote { vote, chain_id, skip_extension_signing } => {
                assert!(!vector.is_proposal() && !skip_extension_signing, "{name}");
                assert_eq!(vote.extension, vector.fields.extension, "{name}");
                assert_eq!((&vote.block_id, vote.timestamp), (&vector.block_id(), vector.timestamp()), "{name}");
                (sign_bytes::vote(vector.family(), &vote, chain).bytes, chain_id)
            }
            Request::SignProposal { proposal, chain_id } => {
                assert!(vector.is_proposal(), "{name}");
                assert_eq!(proposal.pol_round, vector.fields.pol_round, "{name}");
                (sign_bytes::proposal(vector.family(), &proposal, chain).bytes, chain_id)
            }
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(hex::encode(bytes), vector.sign_bytes_hex, "{name}");
        // Amino requests name no chain.
        let expected = if vector.family() == Family::Amino { "" } else { chain };
        assert_eq!(named, expected, "{name}");
    }
}

#[test]
fn the_sign_bytes_of_the_same_fields_are_the_fields_also_where_it_published_no_request() {
    for vector in vectors() {
        let name = format!("{}, {}", vector.source, vector.name);
        assert_eq!(hex::encode(vector.built().bytes), vector.sign_bytes_hex, "{name}");
    }
}

#[test]
fn the_sign_bytes_of_an_extension_are_the_fields() {
    let mut checked = 0;
    for vector in vectors().iter().filter(|vector| !vector.extension_sign_bytes_hex.is_empty()) {
        // The field makes them for a chain without a name too; such a chain cannot be configured.
        let Ok(chain) = ChainId::new(&vector.fields.chain_id) else {
            assert_eq!(vector.fields.chain_id, "");
            continue;
        };
        let Fields { height, round, extension, .. } = &vector.fields;
        let benign = Benign::VoteExtension { chain: &chain, height: *height, round: *round, extension };
        assert_eq!(hex::encode(benign.bytes()), vector.extension_sign_bytes_hex, "{}", vector.name);
        checked += 1;
    }
    assert_eq!(checked, 42);
}

#[test]
fn requests_in_protobuf_are_written_as_the_field_writes_them() {
    for vector in vectors().iter().filter(|vector| vector.has_request()) {
        let (family, request) = (vector.family(), vector.request());
        let written = request.encode(family);
        if family == Family::Protobuf {
            assert_eq!(hex::encode(&written), vector.request_hex, "{}", vector.name);
        }
        let mut stream = Delimited::new(16 * 1024);
        stream.buffer().extend_from_slice(&written);
        let message = stream.next_message().unwrap().unwrap();
        assert_eq!(Request::decode(family, message), Ok(request), "{}", vector.name);
    }
}

#[test]
fn the_content_is_the_same_exactly_where_the_timestamp_alone_differs_in_every_family() {
    let mut by_content: HashMap<Vec<u8>, String> = HashMap::new();
    let mut by_question: HashMap<String, Vec<u8>> = HashMap::new();
    let mut timestamps_alone = 0;
    for vector in vectors() {
        let Fields { chain_id, height, round, pol_round, .. } = &vector.fields;
        let pol_round = vector.is_proposal().then_some(pol_round);
        let question = format!("{} {height} {round} {pol_round:?} {:?} {chain_id:?}", vector.kind, vector.block_id());
        let content = vector.built().content;
        if let Some(before) = by_question.insert(question.clone(), content.clone()) {
            assert_eq!(before, content, "{}: {question}", vector.name);
            timestamps_alone += 1;
        }
        if let Some(before) = by_content.insert(content, question.clone()) {
            assert_eq!(before, question, "{}", vector.name);
        }
    }
    assert_eq!(by_content.len(), by_question.len());
    assert!(timestamps_alone > 200, "only {timestamps_alone}");
}

#[test]
fn sign_bytes_read_back_say_what_was_signed() {
    let mut untyped = 0;
    for vector in vectors() {
        let name = format!("{}, {}", vector.source, vector.name);
        let Some(kind) = SignedType::from_code(vector.code()) else {
            assert!(sign_bytes::read(&vector.sign_bytes()).is_err(), "{name}");
            untyped += 1;
            continue;
        };
        let read = sign_bytes::read(&vector.sign_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.kind, kind, "{name}");
        assert_eq!((read.height, read.round), (vector.fields.height, vector.fields.round), "{name}");
        assert_eq!((read.block_id, read.timestamp), (vector.block_id(), vector.timestamp()), "{name}");
        assert_eq!(read.chain_id, vector.fields.chain_id, "{name}");
    }
    assert_eq!(untyped, 7);
}

#[test]
fn sign_bytes_that_are_cut_or_longer_than_they_say_are_not_read() {
    for vector in vectors().iter().filter(|vector| vector.code() != 0) {
        let bytes = vector.sign_bytes();
        for length in 0..bytes.len() {
            assert!(sign_bytes::read(&bytes[..length]).is_err(), "{} at {length}", vector.name);
        }
        // A whole field, so that nothing but the length is wrong.
        assert!(sign_bytes::read(&[&bytes[..], &[0x78, 1]].concat()).is_err(), "{}", vector.name);
    }
}

#[test]
fn a_proposal_for_nil_that_rests_on_no_round_is_the_known_one() {
    let known = "36082011393000000000000019010000000000000020ffffffffffffffffff01320608a0eff4a8063a0d746573745f636861696e5f6964";
    let found: Vec<String> = vectors()
        .into_iter()
        .filter(|vector| vector.family == "protobuf" && vector.name == "proposal, nil, whole seconds")
        .map(|vector| vector.sign_bytes_hex)
        .collect();
    assert_eq!(found, [known, known]);
}
