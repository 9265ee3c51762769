//! Writes the seeds in `corpus/`: small inputs that mean something, for the fuzzer to start from. The same ones every time.
//!
//! ```sh
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, hazmat};
use semel_fuzz::undelimited;
use semel_guard::{Algorithm, PublicKey};
use semel_kms::core::secret::{FRAME_LEN, Sealer};
use semel_kms::core::sign_bytes;
use semel_kms::wire::{BlockId, ErrorReply, Family, PartSetHeader, Proposal, Request, Response, Timestamp, Vote};
use std::path::PathBuf;
use std::{fs, io};

const FAMILIES: [(Family, &str); 2] = [(Family::Protobuf, "protobuf"), (Family::Amino, "amino")];
const CHAIN: &str = "semel-1";

type Seeds = Vec<(String, Vec<u8>)>;

fn block() -> BlockId {
    BlockId { hash: vec![0xab; 32], parts: PartSetHeader { total: 3, hash: vec![0xcd; 32] } }
}

fn vote(kind: i32, height: i64, round: i64, block_id: BlockId) -> Vote {
    Vote {
        kind,
        height,
        round,
        block_id,
        timestamp: Timestamp { seconds: 1_700_000_000, nanos: 5 },
        validator_address: vec![0x11; 20],
        validator_index: 2,
        ..Vote::default()
    }
}

fn proposal(height: i64, round: i64, pol_round: i64) -> Proposal {
    let timestamp = Timestamp { seconds: 1_700_000_000, nanos: 999_999_999 };
    Proposal { kind: 32, height, round, pol_round, block_id: block(), timestamp, ..Proposal::default() }
}

fn votes() -> Vec<(&'static str, Vote)> {
    let odd = BlockId { hash: vec![1; 20], parts: PartSetHeader { total: u32::MAX, hash: Vec::new() } };
    let no_time = Vote { timestamp: Timestamp::GO_ZERO, ..vote(1, 1, 0, BlockId::default()) };
    let fork = Vote { unknown: vec![0x5a, 0x01, 0x07, 0xa0, 0x06, 0x05], ..vote(2, 9, 0, block()) };
    vec![
        ("prevote", vote(1, 1, 0, block())),
        ("prevote-nil", vote(1, 12, 3, BlockId::default())),
        ("precommit", vote(2, i64::MAX, i64::from(i32::MAX), block())),
        ("precommit-nil", vote(2, 5, 0, BlockId::default())),
        ("extension", Vote { extension: b"extension".to_vec(), ..vote(2, 7, 1, block()) }),
        ("negative", vote(1, -1, -1, block())),
        ("zero", Vote::default()),
        ("odd-hash", vote(2, 5, 0, odd)),
        ("no-time", no_time),
        ("fork", fork),
    ]
}

fn requests(family: Family) -> Vec<(String, Request)> {
    let chain_id = if family == Family::Protobuf { CHAIN.to_owned() } else { String::new() };
    let mut out = vec![
        ("ping".to_owned(), Request::Ping),
        ("pubkey".to_owned(), Request::PubKey { chain_id: chain_id.clone() }),
        ("proposal".to_owned(), Request::SignProposal { proposal: proposal(3, 2, -1), chain_id: chain_id.clone() }),
        ("proposal-pol".to_owned(), Request::SignProposal { proposal: proposal(3, 2, 1), chain_id: chain_id.clone() }),
    ];
    if family == Family::Protobuf {
        out.push(("bytes".to_owned(), Request::SignBytes { body: b"\x0a\x06TEST::".to_vec() }));
        let body = b"\x0a\x07semel-1\x12\x02\xaa\xbb\x1a\x02id".to_vec();
        out.push(("raw-bytes".to_owned(), Request::SignBytes { body }));
        out.push(("unknown".to_owned(), Request::Unknown { tag: 11 }));
    }
    for (name, vote) in votes() {
        let skip_extension_signing = family == Family::Protobuf && name == "extension";
        out.push((name.to_owned(), Request::SignVote { vote, chain_id: chain_id.clone(), skip_extension_signing }));
    }
    out
}

fn request() -> Seeds {
    let mut out = Vec::new();
    for (family, word) in FAMILIES {
        for (name, request) in requests(family) {
            out.push((format!("{word}-{name}"), undelimited(&request.encode(family))));
        }
    }
    out
}

fn session() -> Seeds {
    let mut out = Vec::new();
    for (family, word) in FAMILIES {
        for (index, (name, request)) in requests(family).into_iter().enumerate() {
            // Every combination of the terms turns up somewhere.
            let flags = u8::from(family == Family::Amino) | (index as u8) << 1 & 0b1_1110;
            let message = undelimited(&request.encode(family));
            out.push((format!("{word}-{name}"), [&[flags, 0], message.as_slice()].concat()));
        }
    }
    out
}

fn response() -> Seeds {
    let error = |code| ErrorReply { code, description: "double sign".to_owned() };
    let ed25519 = PublicKey::new(Algorithm::Ed25519, &[3; 32]).expect("32 bytes");
    let secp256k1 = PublicKey::new(Algorithm::Secp256k1, &[2; 33]).expect("33 bytes");
    let signed = Vote { signature: vec![9; 64], extension_signature: vec![8; 64], ..vote(2, 5, 0, block()) };
    let long = Vote { extension: vec![b'x'; 10_000], ..signed.clone() };
    let mut out = Vec::new();
    for (family, word) in FAMILIES {
        let mut replies = vec![
            ("ping", Response::Ping),
            ("ed25519", Response::PubKey(Ok(ed25519.clone()))),
            ("secp256k1", Response::PubKey(Ok(secp256k1.clone()))),
            ("pubkey-error", Response::PubKey(Err(error(1)))),
            ("vote", Response::SignedVote(Ok(signed.clone()))),
            ("vote-error", Response::SignedVote(Err(error(2)))),
            ("proposal", Response::SignedProposal(Ok(Proposal { signature: vec![7; 64], ..proposal(3, 2, 1) }))),
            ("proposal-error", Response::SignedProposal(Err(error(-1)))),
        ];
        if family == Family::Protobuf {
            replies.push(("long", Response::SignedVote(Ok(long.clone()))));
            replies.push(("bytes", Response::SignedBytes(Err(error(1)))));
        }
        for (name, reply) in replies {
            out.push((format!("{word}-{name}"), undelimited(&reply.encode(family))));
        }
    }
    out
}

fn delimited() -> Seeds {
    let vote =
        Request::SignVote { vote: vote(1, 1, 0, block()), chain_id: CHAIN.to_owned(), skip_extension_signing: false };
    let vote = vote.encode(Family::Protobuf);
    let ping = Request::Ping.encode(Family::Protobuf);
    let named =
        |name: &str, limit: u8, pieces: u8, stream: &[u8]| (name.to_owned(), [&[limit, pieces], stream].concat());
    vec![
        named("nothing", 64, 0, &[]),
        named("ping", 64, 0, &ping),
        named("pings", 64, 1, &ping.repeat(5)),
        named("vote", 64, 3, &vote),
        named("votes", 64, 2, &vote.repeat(3)),
        named("too-long", 1, 1, &vote),
        named("exactly", 1, 1, &[&[16], [7u8; 16].as_slice()].concat()),
        named("empty-messages", 0, 5, &[0; 9]),
        named("half", 64, 7, &vote[..vote.len() / 2]),
        named("overlong-zero", 64, 1, &[0x80, 0x80, 0x80, 0x00, 0x01, 0xff]),
        named("overflow", 64, 1, &[0xff; 12]),
        named("largest", 255, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ]
}

fn sign_bytes_read() -> Seeds {
    let mut out = Vec::new();
    for (family, word) in FAMILIES {
        for (name, vote) in votes() {
            out.push((format!("{word}-{name}"), sign_bytes::vote(family, &vote, CHAIN).bytes));
        }
        out.push((format!("{word}-proposal"), sign_bytes::proposal(family, &proposal(3, 2, -1), CHAIN).bytes));
    }
    out
}

fn handshake() -> Seeds {
    let named = |name: &str, flags: u8, pieces: u8, rest: &[u8]| (name.to_owned(), [&[flags, pieces], rest].concat());
    let key = SigningKey::from_bytes(&[4; 32]);
    let signature = key.sign(&[0; 32]).to_bytes();
    let identity = |head: &[u8], key: &[u8; 32], signature: &[u8; 64]| {
        let message = [head, key, &[0x12, 0x40], signature].concat();
        [(message.len() as u32).to_le_bytes().as_slice(), &message].concat()
    };
    let amino: &[u8] = &[0x69, 0x0a, 0x25, 0x16, 0x24, 0xde, 0x64, 0x20];
    let protobuf: &[u8] = &[0x66, 0x0a, 0x22, 0x0a, 0x20];
    let public = key.verifying_key().to_bytes();
    // The neutral point signs everything, for who does not look.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut of_neutral = [0; 64];
    of_neutral[0] = 1;
    let protobuf_key = [&[0x22, 0x0a, 0x20], [9u8; 32].as_slice()].concat();
    let amino_key = [&[0x21, 0x20], [9u8; 32].as_slice()].concat();
    // Bits: 0 and 1 what is expected, 2 and 3 which of the three ways, 4 we speak first, 5 and more the peer's variant.
    vec![
        named("protobuf", 0, 0, &[protobuf_key.as_slice(), &[5; FRAME_LEN]].concat()),
        named("amino", 0, 3, &[amino_key.as_slice(), &[5; FRAME_LEN]].concat()),
        named("other-family", 3, 0, &amino_key),
        named("low-order", 0, 1, &[&[0x22, 0x0a, 0x20], [0u8; 32].as_slice()].concat()),
        named("no-handshake", 0, 0, b"GET / HTTP/1.1\r\n\r\n"),
        named("speaks-first", 0b1_0000, 1, &protobuf_key),
        named("wrong-signature", 0b100, 2, &identity(protobuf, &public, &signature)),
        named("wrong-signature-amino", 0b10_0100, 2, &identity(amino, &public, &signature)),
        named("neutral-point", 0b100, 0, &identity(protobuf, &neutral, &of_neutral)),
        named("neutral-point-amino", 0b10_0100, 0, &identity(amino, &neutral, &of_neutral)),
        named("frame-length", 0b100, 0, &[0xff; 8]),
        named("empty-frames", 0b100, 1, &[0; 8]),
        named("honest-legacy", 0b1000, 3, &[&[0, 0, 0], b"payload".as_slice()].concat()),
        named("honest-v033", 0b10_1000, 2, &[&[0, 0, 0], b"payload".as_slice()].concat()),
        named("honest-v034", 0b100_1000, 1, &[&[0, 0, 0], b"payload".as_slice()].concat()),
        named("honest-first", 0b101_1000, 1, &[0, 0, 0, 1]),
        named("altered-key", 0b100_1000, 1, &[9, 0, 1]),
        named("altered-blind-bit", 0b1000, 1, &[33, 0, 0x80]),
        named("altered-identity", 0b100_1000, 0, &[50, 0, 1]),
    ]
}

fn noise() -> Seeds {
    let named = |name: &str, flags: u8, pieces: u8, rest: &[u8]| (name.to_owned(), [&[flags, pieces], rest].concat());
    // Bits: 0 and 1 which way, 2 which message is altered. An honest peer's rest: where, by what, frames.
    vec![
        named("no-handshake", 0, 0, b"GET / HTTP/1.1\r\n\r\n"),
        named("too-long", 0, 0, &[0x10, 0x01, 0]),
        named("empty-message", 0, 1, &[0; 8]),
        named("first-message", 1, 1, &[&[0, 32], [9u8; 32].as_slice()].concat()),
        named("low-order", 1, 0, &[&[0, 32], [0u8; 32].as_slice()].concat()),
        named("honest", 2, 0, &[0, 0]),
        named("altered-first", 2, 1, &[5, 1]),
        named("altered-second", 0b110, 1, &[40, 1]),
        named("altered-length", 0b110, 1, &[1, 1]),
        named("frame", 2, 1, &[&[0, 0, 0, 20], [7u8; 20].as_slice()].concat()),
        named("short-frame", 2, 1, &[0, 0, 0, 3, 1, 2, 3]),
    ]
}

fn frames() -> Seeds {
    let named = |name: &str, flags: u8, pieces: u8, rest: &[u8]| (name.to_owned(), [&[flags, pieces], rest].concat());
    let mut frame = Vec::new();
    Sealer::new([8; 32]).seal(b"of another key", &mut frame).expect("one frame");
    let with_length = |length: u32, data: &[u8]| [length.to_le_bytes().as_slice(), data].concat();
    let mut two = with_length(3, b"abc");
    two.resize(FRAME_LEN - 16, 0);
    two.extend(with_length(2, b"de"));
    vec![
        named("other-key", 0, 0, &frame),
        named("half", 0, 1, &frame[..500]),
        named("nothing", 0, 0, &[]),
        named("short", 1, 0, &with_length(3, b"abc")),
        named("two", 1, 3, &two),
        named("full", 1, 0, &with_length(1024, b"x")),
        named("too-long", 1, 0, &with_length(1025, b"x")),
        named("longest", 1, 0, &with_length(u32::MAX, b"x")),
        named("empty", 1, 1, &with_length(0, b"")),
        named("sealed", 2, 1, b"a message"),
        named("sealed-long", 2, 2, &[7; 1025]),
        named("altered-length", 3, 1, b"a message"),
        named("altered-tag", 3 | 6 << 2, 0, &[6; 1100]),
        named("altered-second", 3 | 7 << 2, 2, &[6; 1100]),
    ]
}

fn texts(all: &[(&str, &str)]) -> Seeds {
    all.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn state_file() -> Seeds {
    let hash = "ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB";
    let block = format!(
        r#"{{"height":"12","round":"1","step":1,"block_id":{{"hash":"{hash}","parts":{{"total":1,"hash":"{hash}"}}}}}}"#
    );
    let ours = format!(
        r#"{{"height":"12","round":"1","step":2,"block_id":{{"hash":"{hash}","part_set_header":{{"total":"2","hash":"{hash}"}}}},"signature":"CQkJ","sign_bytes":"0A0B","chain_id":"semel-1","pub_key":"{hash}"}}"#
    );
    texts(&[
        ("tmkms-new", r#"{"height":"0","round":"0","step":0,"block_id":null}"#),
        ("tmkms-nil", r#"{"height":"7","round":"0","step":2,"block_id":{}}"#),
        ("tmkms-block", &block),
        (
            "tmkms-old-vote",
            r#"{"height":"7","round":"0","step":6,"block_id":{"hash":"","parts":{"total":0,"hash":""}}}"#,
        ),
        ("tmkms-old-proposal", r#"{"height":"7","round":"0","step":3,"block_id":null}"#),
        ("ours", &ours),
        ("filepv-new", r#"{"height":"0","round":0,"step":0}"#),
        ("filepv", r#"{"height":"9","round":2,"step":3,"signature":"CQkJCQ==","signbytes":"6E080211"}"#),
        ("filepv-v033", r#"{"height":"9","round":"2","step":2,"signature":"CQkJCQ==","signbytes":"6E08"}"#),
        (
            "horcrux",
            r#"{"height":"9","round":"2","step":1,"ephemeral_public":null,"signature":"CQkJ","signbytes":"6E08"}"#,
        ),
        ("horcrux-empty", r#"{"height":"9","round":"2","step":1,"signature":"","signbytes":""}"#),
        ("doubtful", r#"{"height":"9","round":"2","step":1}"#),
        ("negative", r#"{"height":"-1","round":0,"step":0}"#),
        ("largest", r#"{"height":"9223372036854775807","round":2147483647,"step":3}"#),
        ("too-large", r#"{"height":"9223372036854775808","round":2147483648,"step":255}"#),
        ("fraction", r#"{"height":1e3,"round":0.5,"step":1}"#),
        ("empty", "\0\0\0\n"),
        ("cut", r#"{"height":"9","rou"#),
    ])
}

const SMALL: &str = r#"[[chain]]
id = "semel-1"
key_format = { type = "hex" }
state_file = "state.json"

[[validator]]
chain_id = "semel-1"
addr = "tcp://127.0.0.1:26659"
secret_key = "connection.key"

[[providers.softsign]]
chain_ids = ["semel-1"]
key_type = "consensus"
path = "consensus.key"
"#;

fn tmkms_toml() -> Seeds {
    let with = |from: &str, to: &str| {
        assert!(SMALL.contains(from), "{from} stands in the small file");
        SMALL.replace(from, to)
    };
    let cosmos = r#"{ type = "cosmos-json" }"#;
    let bech32 = r#"{ type = "bech32", account_key_prefix = "cosmospub", consensus_key_prefix = "cosmosvalconspub" }"#;
    let hex = r#"{ type = "hex" }"#;
    let node = "0123456789abcdef0123456789abcdef01234567";
    let hook = r#""state.json"
state_hook = { cmd = ["/bin/height", "--json"], timeout_secs = 5, fail_closed = true }
sign_extensions = false"#;
    let yubihsm = r#"
[[providers.yubihsm]]
adapter = { type = "http", addr = "tcp://127.0.0.1:12345" }
auth = { key = 1, password = "dictionary attacks welcome" }
keys = [{ key = 1, type = "consensus", chain_ids = ["semel-1"] }]
serial_number = "9876543210"
"#;
    texts(&[
        ("empty", ""),
        ("small", SMALL),
        ("bech32", &with(hex, bech32)),
        ("cosmos-json", &with(hex, cosmos)),
        ("node-id", &with("tcp://", &format!("tcp://{node}@"))),
        ("unix", &with("tcp://127.0.0.1:26659", "unix:///run/validator.sock")),
        ("ipv6", &with("127.0.0.1", "[::1]")),
        ("hook", &with(r#""state.json""#, hook)),
        (
            "protocol",
            &with("secret_key", "protocol_version = \"v0.34\"\nreconnect = false\nmax_height = 5\nsecret_key"),
        ),
        ("old-protocol", &with("secret_key", "protocol_version = \"legacy\"\ntimeout = 3\nsecret_key")),
        ("yubihsm", &format!("{SMALL}{yubihsm}")),
        ("fortanix", "[[providers.fortanixdsm]]\napi_endpoint = \"https://example.com\"\napi_key = \"secret\"\n"),
        ("ledger", "[[providers.ledgertm]]\nchain_ids = [\"semel-1\"]\n"),
        ("two-chains", &format!("{SMALL}{SMALL}")),
        ("unknown-key", &with("secret_key", "secretkey")),
        ("unknown-chain", &with("chain_ids = [\"semel-1\"]", "chain_ids = [\"other\"]")),
        ("wrong-type", &with(r#""state.json""#, "7")),
        ("syntax", &with("addr = ", "addr ")),
        ("open-string", &with("consensus.key\"", "consensus.key")),
        ("not-ascii", &with("state.json", "zustände\\u00e9.json")),
        ("semel", "[semel]\ndirectory = \"/var/lib/semel\"\nlisten = \"127.0.0.1:9100\"\n"),
    ])
}

fn eip3076() -> Seeds {
    let root = "ab".repeat(32);
    let key = "cd".repeat(48);
    let file = |data: &str| {
        format!(
            r#"{{"metadata":{{"interchange_format_version":"5","genesis_validators_root":"0x{root}"}},"data":[{data}]}}"#
        )
    };
    let record = |blocks: &str, attestations: &str| {
        format!(r#"{{"pubkey":"0x{key}","signed_blocks":[{blocks}],"signed_attestations":[{attestations}]}}"#)
    };
    let block =
        r#"{"slot":"81952","signing_root":"0x4ff6f743a43f3b4f95350831aeaf0a122a1a392922c45d804280284a69eb850b"}"#;
    let vote = r#"{"source_epoch":"2290","target_epoch":"3007"}"#;
    texts(&[
        ("empty", &file("")),
        ("one", &file(&record(block, vote))),
        ("two", &file(&format!("{},{}", record(block, ""), record("", vote)))),
        ("many", &file(&record(&[block; 3].join(","), &[vote; 3].join(",")))),
        ("other-version", &file("").replace(r#""5""#, r#""4""#)),
        ("number", &file(&record(&block.replace(r#""81952""#, "81952"), ""))),
        ("huge", &file(&record("", &vote.replace("3007", "18446744073709551615")))),
        ("truncated", &file(&record(block, vote))[..200]),
    ])
}

/// Changes of 5 bytes behind the flags: file, slot, place (2), value.
fn ledger() -> Seeds {
    // Places in a record: kind, sequence, durable, lane, mark, version, length of the payload, previous hash.
    let places: [u16; 8] = [4, 8, 16, 6, 48, 136, 144, 492];
    let mut out: Seeds = vec![
        ("untouched".to_owned(), vec![0]),
        ("untouched-reserve".to_owned(), vec![4]),
        ("raw-empty".to_owned(), vec![8]),
        ("raw-magic".to_owned(), [&[9], b"SML1\x01".as_slice(), &[0; 507]].concat()),
        ("host".to_owned(), vec![0, 255, 0, 0, 0, b'x']),
    ];
    for (flags, word) in [(0, "torn"), (1, "forged"), (3, "chained"), (7, "chained-reserve")] {
        for place in places {
            let [low, high] = place.to_le_bytes();
            let changes = (0..4).flat_map(|file| [file, 2 + file, low, high, 3]);
            out.push((format!("{word}-{place}"), std::iter::once(flags).chain(changes).collect()));
        }
    }
    // A record that was never written, and one that begins only.
    let emptied = (0..512_u16).flat_map(|place| [0, 3, place.to_le_bytes()[0], place.to_le_bytes()[1], 0]);
    out.push(("emptied".to_owned(), std::iter::once(0).chain(emptied).collect()));
    let half = (492..512_u16).flat_map(|place| [0, 3, place.to_le_bytes()[0], place.to_le_bytes()[1], 0]);
    out.push(("half".to_owned(), std::iter::once(0).chain(half).collect()));
    out
}

fn key_file() -> Seeds {
    let key = SigningKey::from_bytes(&[7; 32]);
    let (seed, public) = (key.to_bytes(), key.verifying_key().to_bytes());
    let both = [seed, public].concat();
    // Scalar and prefix, and the same as a device exports it: scalar reversed, prefix, public key.
    let expanded = hazmat::ExpandedSecretKey::from(&seed);
    let (scalar, prefix) = (expanded.scalar.to_bytes(), expanded.hash_prefix);
    let reversed: Vec<u8> = scalar.iter().rev().copied().collect();
    let exported = [reversed.as_slice(), &prefix, &public].concat();
    let json = |maker: &str, kind: &str, public: &[u8], secret: &[u8]| {
        let (public, secret) = (BASE64.encode(public), BASE64.encode(secret));
        format!(
            r#"{{"address":"","pub_key":{{"type":"{maker}/PubKey{kind}","value":"{public}"}},"priv_key":{{"type":"{maker}/PrivKey{kind}","value":"{secret}"}}}}"#
        )
    };
    let mut out: Seeds = vec![
        ("raw".to_owned(), seed.to_vec()),
        ("short".to_owned(), seed[..31].to_vec()),
        ("spaces".to_owned(), b" \n\n".to_vec()),
    ];
    out.extend(texts(&[
        ("seed", &BASE64.encode(seed)),
        ("seed-without-padding", BASE64.encode(seed).trim_end_matches('=')),
        ("seed-in-spaces", &format!("  {}\n", BASE64.encode(seed))),
        ("seed-and-public", &BASE64.encode(&both)),
        ("expanded", &BASE64.encode([scalar, prefix].concat())),
        ("yubihsm", &BASE64.encode(&exported)),
        ("yubihsm-mismatch", &BASE64.encode([reversed.as_slice(), &prefix, &seed].concat())),
        ("no-length", &BASE64.encode(&both[..48])),
        ("no-base64", "!!!! this is no base64 text of a key !!!!"),
        ("json", &json("tendermint", "Ed25519", &public, &both)),
        ("json-cometbft", &json("cometbft", "Ed25519", &public, &both)),
        ("json-secp256k1", &json("tendermint", "Secp256k1", &[2; 33], &seed)),
        ("json-mismatch", &json("tendermint", "Ed25519", &seed, &both)),
        ("json-other-type", &json("tendermint", "Bls12_381", &public, &both)),
        ("json-cut", &json("tendermint", "Ed25519", &public, &both)[..90]),
    ]));
    out
}

fn main() -> io::Result<()> {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let all: [(&str, Seeds); 13] = [
        ("request", request()),
        ("response", response()),
        ("delimited", delimited()),
        ("handshake", handshake()),
        ("frames", frames()),
        ("noise", noise()),
        ("sign_bytes_read", sign_bytes_read()),
        ("session", session()),
        ("state_file", state_file()),
        ("tmkms_toml", tmkms_toml()),
        ("eip3076", eip3076()),
        ("ledger", ledger()),
        ("key_file", key_file()),
    ];
    for (target, seeds) in all {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory)?;
        for (name, bytes) in seeds {
            fs::write(directory.join(name), bytes)?;
        }
    }
    Ok(())
}
