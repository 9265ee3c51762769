//! The closed list of messages that a consensus key signs without a permit, because they cannot be slashed.
//!
//! Each is built here from its fields, so that none of them can be made to spell a vote. (The handshake of a connection is
//! signed by an identity key, which is another type and holds no consensus key.)

use crate::{ChainId, Domain};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// What comes before everything that is signed as [`Benign::RawBytes`]. It is of the kind that [`Domain`] allows.
pub const RAW_BYTES_DOMAIN: &str = "COMET::RAW_BYTES::SIGN";

/// Longest name of an era, in bytes.
pub const ERA_NAME_MAX: usize = 32;

/// A text that is no name of an era.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of an era is 1 to {ERA_NAME_MAX} small letters, digits, hyphens and underscores")]
pub struct EraNameError;

/// An era of Mithril, and the epoch in which it begins, if that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EraMark<'a> {
    name: &'a str,
    epoch: Option<u64>,
}

impl<'a> EraMark<'a> {
    /// Checks the name: nothing in it needs an escape in JSON.
    ///
    /// # Errors
    /// The name is empty, too long, or has another character.
    pub fn new(name: &'a str, epoch: Option<u64>) -> Result<Self, EraNameError> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        match (1..=ERA_NAME_MAX).contains(&name.len()) && name.bytes().all(is_plain) {
            true => Ok(Self { name, epoch }),
            false => Err(EraNameError),
        }
    }
}

/// A message that cannot be slashed.
///
/// The four of Mithril are signed by keys of their own (genesis, eras, ancillary files, protocol configurations), and still none can
/// be made to spell another, or a vote: markers begin with `[` and a brace, or are `[]`; a genesis message is 64 hex characters; a
/// manifest is a SHA-256 that is computed here, 32 bytes.
#[derive(Debug, Clone, Copy)]
pub enum Benign<'a> {
    /// The vote extension of a precommit for a block: CometBFT's `CanonicalVoteExtension`
    /// {1: extension, 2: height sfixed64, 3: round sfixed64, 4: chain id}, length-delimited.
    ///
    /// A canonical vote starts with field 1 as a *varint* (its type, never 0) and a canonical proposal likewise; this message
    /// starts with field 1 as *bytes*, or with field 2. No bytes are both.
    VoteExtension {
        /// Chain id inside the message.
        chain: &'a ChainId,
        /// Height, 1 to 2⁶³ − 1.
        height: i64,
        /// Round.
        round: i64,
        /// What the application put there; may be empty.
        extension: &'a [u8],
    },
    /// Celestia's raw bytes: [`RAW_BYTES_DOMAIN`] and {1: chain id, 2: raw bytes, 3: unique id}, length-delimited.
    ///
    /// No position and no record: the unique id names what the bytes are for (it is the same in every request of one kind, not
    /// a number used once), so a node asks for other bytes under the same id all the time, and two such signatures convict nobody.
    RawBytes {
        /// Chain id inside the message.
        chain: &'a ChainId,
        /// What is to be signed.
        raw_bytes: &'a [u8],
        /// What it is for.
        unique_id: &'a str,
    },
    /// Bytes behind a beginning that its operator has allowed, and with which no message of consensus begins.
    InDomain {
        /// The beginning.
        domain: &'a Domain,
        /// What follows it.
        rest: &'a [u8],
    },
    /// The eras of Mithril as compact JSON: `[{"name":"pythagoras","epoch":1},{"name":"lagrange","epoch":null}]`.
    EraMarkers(&'a [EraMark<'a>]),
    /// What each epoch's protocol configuration is (CBOR), as compact JSON with hex: `[{"epoch":1,"configuration":"a4…"}]`.
    ProtocolConfigurations(&'a [(u64, &'a [u8])]),
    /// The genesis certificate of Mithril: the 64 small hex characters of its protocol message's SHA-256.
    GenesisMessage(&'a [u8; 32]),
    /// The manifest of ancillary files: SHA-256 over path ‖ hex of the file's SHA-256, in the order of the paths' parts.
    AncillaryManifest(&'a [(&'a str, [u8; 32])]),
}

impl Benign<'_> {
    /// The bytes that are signed.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::VoteExtension { chain, height, round, extension } => {
                let mut body = Vec::with_capacity(extension.len() + chain.as_str().len() + 32);
                put_bytes(&mut body, 0x0a, extension);
                put_fixed(&mut body, 0x11, *height);
                put_fixed(&mut body, 0x19, *round);
                put_bytes(&mut body, 0x22, chain.as_str().as_bytes());
                delimited("", &body)
            }
            Self::RawBytes { chain, raw_bytes, unique_id } => {
                let mut body = Vec::with_capacity(raw_bytes.len() + unique_id.len() + chain.as_str().len() + 32);
                put_bytes(&mut body, 0x0a, chain.as_str().as_bytes());
                put_bytes(&mut body, 0x12, raw_bytes);
                put_bytes(&mut body, 0x1a, unique_id.as_bytes());
                delimited(RAW_BYTES_DOMAIN, &body)
            }
            Self::InDomain { domain, rest } => [domain.as_str().as_bytes(), rest].concat(),
            Self::EraMarkers(marks) => list(marks.iter().map(|mark| {
                let epoch = mark.epoch.map_or_else(|| "null".to_owned(), |epoch| epoch.to_string());
                format!("{{\"name\":\"{}\",\"epoch\":{epoch}}}", mark.name)
            })),
            Self::ProtocolConfigurations(marks) => list(marks.iter().map(|(epoch, configuration)| {
                format!("{{\"epoch\":{epoch},\"configuration\":\"{}\"}}", hex(configuration))
            })),
            Self::GenesisMessage(hash) => hex(*hash).into_bytes(),
            Self::AncillaryManifest(files) => {
                let mut files = files.to_vec();
                // `a/b` comes before `a-b`: readers sort by parts, not by characters.
                files.sort_by(|(a, _), (b, _)| Path::new(a).cmp(Path::new(b)));
                let hasher = files.iter().fold(Sha256::new(), |hasher, (path, hash)| {
                    hasher.chain_update(path.as_bytes()).chain_update(hex(hash))
                });
                hasher.finalize().to_vec()
            }
        }
    }
}

fn list(items: impl Iterator<Item = String>) -> Vec<u8> {
    format!("[{}]", items.collect::<Vec<_>>().join(",")).into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn delimited(domain: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(domain.len() + body.len() + 5);
    out.extend_from_slice(domain.as_bytes());
    put_varint(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(tag);
        put_varint(out, bytes.len());
        out.extend_from_slice(bytes);
    }
}

fn put_fixed(out: &mut Vec<u8>, tag: u8, value: i64) {
    if value != 0 {
        out.push(tag);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{Benign, ERA_NAME_MAX, EraMark, EraNameError, RAW_BYTES_DOMAIN};
    use crate::{ChainId, Domain};
    use proptest::prelude::*;
    use sha2::Digest as _;

    #[test]
    fn raw_bytes_are_the_domain_and_the_request() {
        let chain = ChainId::new("mocha-4").unwrap();
        let message = Benign::RawBytes { chain: &chain, raw_bytes: &[0xaa, 0xbb], unique_id: "id" };
        let golden = b"COMET::RAW_BYTES::SIGN\x11\x0a\x07mocha-4\x12\x02\xaa\xbb\x1a\x02id";
        assert_eq!(message.bytes(), golden);
        let long = [7; 300];
        let message = Benign::RawBytes { chain: &chain, raw_bytes: &long, unique_id: "id" }.bytes();
        assert_eq!(message.get(22..36).unwrap(), b"\xbc\x02\x0a\x07mocha-4\x12\xac\x02");
    }

    #[test]
    fn the_domain_of_raw_bytes_is_a_domain() {
        assert!(Domain::new(RAW_BYTES_DOMAIN).is_ok());
    }

    #[test]
    fn bytes_in_a_domain_are_signed_as_they_came() {
        let domain = Domain::new("TEST::").unwrap();
        assert_eq!(Benign::InDomain { domain: &domain, rest: b"\x08\x01" }.bytes(), b"TEST::\x08\x01");
    }

    #[test]
    fn era_markers_are_compact_json() {
        let marks = [EraMark::new("pythagoras", Some(1)).unwrap(), EraMark::new("lagrange", None).unwrap()];
        let golden = br#"[{"name":"pythagoras","epoch":1},{"name":"lagrange","epoch":null}]"#;
        assert_eq!(Benign::EraMarkers(&marks).bytes(), golden);
        assert_eq!(Benign::EraMarkers(&[]).bytes(), b"[]");
    }

    #[test]
    fn the_name_of_an_era_needs_no_escape() {
        let long = "a".repeat(ERA_NAME_MAX + 1);
        for bad in ["", "\"", "\\", "a b", "Pythagoras", "é", "a\n", long.as_str()] {
            assert_eq!(EraMark::new(bad, None), Err(EraNameError), "{bad:?}");
        }
    }

    #[test]
    fn protocol_configurations_are_compact_json_with_hex() {
        let golden = br#"[{"epoch":7,"configuration":"a400"}]"#;
        assert_eq!(Benign::ProtocolConfigurations(&[(7, &[0xa4, 0])]).bytes(), golden);
    }

    #[test]
    fn a_genesis_message_is_hex_and_a_manifest_is_a_hash_of_sorted_parts() {
        let message = Benign::GenesisMessage(&[0xab; 32]).bytes();
        assert_eq!(message, "ab".repeat(32).into_bytes());
        let (one, two) = (("a/b", [1; 32]), ("a-b", [2; 32]));
        let sorted = Benign::AncillaryManifest(&[one, two]).bytes();
        assert_eq!(sorted, Benign::AncillaryManifest(&[two, one]).bytes());
        let by_hand = [b"a/b".to_vec(), "01".repeat(32).into_bytes(), b"a-b".to_vec(), "02".repeat(32).into_bytes()];
        assert_eq!(sorted, sha2::Sha256::digest(by_hand.concat()).to_vec());
    }

    /// What the messages of Mithril look like from outside.
    fn kind(bytes: &[u8]) -> &'static str {
        match (bytes.len(), bytes) {
            (_, b"[]" | [b'[', b'{', ..]) if bytes.ends_with(b"]") && bytes.is_ascii() => "markers",
            (64, _) if bytes.iter().all(u8::is_ascii_hexdigit) => "genesis",
            (32, _) => "hash",
            _ => "other",
        }
    }

    proptest! {
        #[test]
        fn no_message_of_mithril_spells_another_or_a_vote(
            names in prop::collection::vec(("[a-z0-9_-]{1,32}", any::<Option<u64>>()), 0..5),
            configurations in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..40)), 0..4),
            hash in any::<[u8; 32]>(),
            path in "[ -~]{0,40}",
        ) {
            let marks: Vec<_> = names.iter().map(|(name, epoch)| EraMark::new(name, *epoch).unwrap()).collect();
            let eras = Benign::EraMarkers(&marks).bytes();
            let shown: Vec<_> = configurations.iter().map(|(epoch, bytes)| (*epoch, bytes.as_slice())).collect();
            let settings = Benign::ProtocolConfigurations(&shown).bytes();
            let genesis = Benign::GenesisMessage(&hash).bytes();
            let manifest = Benign::AncillaryManifest(&[(path.as_str(), hash)]).bytes();
            prop_assert_eq!((kind(&eras), kind(&settings), kind(&genesis)), ("markers", "markers", "genesis"));
            prop_assert_eq!(manifest.len(), 32);
            // The two lists of markers differ in their first field, unless both say nothing.
            prop_assert!(eras != settings || (names.is_empty() && configurations.is_empty()));
            for message in [&eras, &settings, &genesis] {
                // A canonical vote, proposal or extension has one of these tags behind a length of one or two bytes; votes of old were
                // JSON objects.
                prop_assert!(message.iter().take(3).all(|byte| !matches!(byte, 0x08 | 0x0a | 0x11 | 0x19)));
                prop_assert_ne!(message.first(), Some(&b'{'));
            }
            let chain = ChainId::new("test-1").unwrap();
            let vote = Benign::VoteExtension { chain: &chain, height: 1, round: 0, extension: path.as_bytes() }.bytes();
            let raw = Benign::RawBytes { chain: &chain, raw_bytes: path.as_bytes(), unique_id: "id" }.bytes();
            for message in [&eras, &settings, &genesis, &manifest] {
                prop_assert!(*message != vote && *message != raw);
            }
        }
    }
}
