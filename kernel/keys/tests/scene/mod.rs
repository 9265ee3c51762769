//! What the tests of key files share: known keys, files in every form, and the way through the guard to a signature.
#![expect(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semel_guard::{
    Advance, ChainId, Digest, Duty, Entry, Guard, History, Key, Lane, Ledger, Mark, Position, Refusal, Signature,
    Signer, Step, Subject, Unavailable, Version,
};
use sha2::Digest as _;
use std::path::PathBuf;
use std::sync::Arc;

/// A known answer: secret, public key, message, signature, in hex.
pub(crate) type Known = (&'static str, &'static str, &'static str, &'static str);

/// RFC 8032, section 7.1, tests 1 to 3.
pub(crate) const RFC_8032: [Known; 3] = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe\
         24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a\
         eeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2\
         8dc027beceea1ec40a",
    ),
];

/// The scalar 1 of secp256k1, its point, and what RFC 6979 makes of two messages.
pub(crate) const SECP256K1: [Known; 2] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000001",
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        "5361746f736869204e616b616d6f746f",
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d82442ce9d2b916064108014783e923ec36b49743e2ffa1c\
         4496f01a512aafd9e5",
    ),
    (
        "0000000000000000000000000000000000000000000000000000000000000001",
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        "416c6c2074686f7365206d6f6d656e74732077696c6c206265206c6f737420696e2074696d652c206c696b6520746561727320696e20726169\
         6e2e2054696d6520746f206469652e2e2e",
        "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b547fe64427496db33bf66019dacbf0039c04199abb0122\
         918601db38a72cfc21",
    ),
];

/// Bytes of a known answer.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// The text that key files hold.
pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Seed and public key, as Go keeps them.
pub(crate) fn go_key((secret, public, ..): Known) -> Vec<u8> {
    [unhex(secret), unhex(public)].concat()
}

/// Scalar and prefix, as RFC 8032 derives them from a seed.
pub(crate) fn expanded(seed: &[u8]) -> [u8; 64] {
    let mut hash: [u8; 64] = sha2::Sha512::digest(seed).into();
    hash[0] &= 248;
    hash[31] &= 127;
    hash[31] |= 64;
    hash
}

/// Reversed scalar, prefix, public key.
pub(crate) fn yubihsm_export((secret, public, ..): Known) -> Vec<u8> {
    let mut bytes = expanded(&unhex(secret)).to_vec();
    bytes[..32].reverse();
    [bytes, unhex(public)].concat()
}

/// A `priv_validator_key.json` as a node writes it.
pub(crate) fn node_file(maker: &str, algorithm: &str, public: &[u8], secret: &[u8]) -> String {
    format!(
        r#"{{
  "address": "0000000000000000000000000000000000000000",
  "pub_key": {{
    "type": "{maker}/PubKey{algorithm}",
    "value": "{}"
  }},
  "priv_key": {{
    "type": "{maker}/PrivKey{algorithm}",
    "value": "{}"
  }}
}}"#,
        base64(public),
        base64(secret)
    )
}

/// A directory that goes away with the test.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a file, or fills it anew.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Every name in it, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A ledger on which every position is open.
struct Forgetful;

impl Ledger for Forgetful {
    fn history(&self, _: &Subject, _: Lane) -> Result<Arc<History>, Unavailable> {
        Ok(Arc::default())
    }
    fn advance(&self, _: &Subject, _: Lane, _: Version, _: Entry) -> Advance {
        Advance::Committed(1)
    }
    fn keep(&self, _: &Subject, _: Lane, _: Mark, _: Digest, _: &Signature) {}
    fn raise(&self, _: &Subject, _: Lane, _: Mark) -> Result<(), Unavailable> {
        Ok(())
    }
    fn bury(&self, _: &Subject, _: bool) -> Result<(), Unavailable> {
        Ok(())
    }
    fn refused(&self, _: &Refusal) {}
}

/// What the key makes of a message.
pub(crate) fn sign(signer: impl Signer + 'static, message: &[u8]) -> Vec<u8> {
    let key = Key::new(Box::new(signer));
    let subject = Subject { key: key.public_key().clone(), chain: ChainId::new("test-1").unwrap() };
    let position = Position::Tendermint { height: 1, round: 0, step: Step::Precommit };
    let duty = Duty::new(&subject, position, message).unwrap();
    let answer = Guard::new(Forgetful).admit(&duty, |permit, bytes| key.sign(permit, bytes)).unwrap();
    answer.signature.as_bytes().to_vec()
}

/// Says that a test cannot run here, and lets the count know.
pub(crate) fn skip(name: &str, reason: &str) {
    println!("SKIP: {name}: {reason}");
    if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        // One write, so that the lines of tests that run at the same time stay apart.
        file.write_all(format!("{name}: {reason}\n").as_bytes()).unwrap();
    }
}
