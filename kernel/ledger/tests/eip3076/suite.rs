//! The files of the suite, and what they ask for.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use crate::scene::skip;
use semel_guard::{Algorithm, Position, PublicKey, Subject};
use semel_ledger::interchange::eip3076::{Interchange, Root};
use serde::Deserialize;
use sha2::Digest as _;
use std::path::{Path, PathBuf};

/// SHA-256 over names and contents, in the order of the names: release v5.3.0.
const RELEASE: &str = "d1d56d43994f733626685a54a3341759c73cd63b527ddd9a67988ccdd64c5673";

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) genesis_validators_root: String,
    pub(crate) steps: Vec<Step>,
}

#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) should_succeed: bool,
    pub(crate) contains_slashable_data: bool,
    pub(crate) interchange: serde_json::Value,
    pub(crate) blocks: Vec<Asked>,
    pub(crate) attestations: Vec<Asked>,
}

#[derive(Deserialize)]
pub(crate) struct Asked {
    pub(crate) pubkey: String,
    slot: Option<String>,
    source_epoch: Option<String>,
    target_epoch: Option<String>,
    pub(crate) signing_root: String,
    pub(crate) should_succeed: bool,
    pub(crate) should_succeed_complete: bool,
}

impl Case {
    pub(crate) fn root(&self) -> Root {
        Root::parse(&self.genesis_validators_root).unwrap()
    }

    pub(crate) fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.steps.iter().flat_map(Step::asked)
    }

    /// Every key that the case names.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let chain = self.root().chain().unwrap();
        let imported = self.steps.iter().flat_map(|step| step.interchange().records).map(|record| record.key);
        let mut keys: Vec<PublicKey> = imported.chain(self.asked().map(Asked::key)).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter().map(|key| Subject { key, chain: chain.clone() }).collect()
    }
}

impl Step {
    /// Blocks first, as the suite says.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.blocks.iter().chain(&self.attestations)
    }

    pub(crate) fn interchange(&self) -> Interchange {
        Interchange::parse(self.interchange.to_string().as_bytes()).unwrap()
    }
}

impl Asked {
    pub(crate) fn key(&self) -> PublicKey {
        PublicKey::new(Algorithm::Bls12381, &hex::decode(&self.pubkey[2..]).unwrap()).unwrap()
    }

    pub(crate) fn position(&self) -> Position {
        let number = |text: &Option<String>| text.as_ref().unwrap().parse().unwrap();
        match self.slot {
            Some(_) => Position::EthereumBlock { slot: number(&self.slot) },
            None => {
                Position::EthereumAttestation { source: number(&self.source_epoch), target: number(&self.target_epoch) }
            }
        }
    }
}

/// The suite; None: it is not here.
pub(crate) fn suite(test: &str) -> Option<Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/eip3076");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        skip(test, "the EIP-3076 interchange tests are not in ../shared/data/eip3076");
        return None;
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hash = sha2::Sha256::new();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        hash.update(name);
        hash.update(&text);
        let case: Case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(case.name, name);
        case
    };
    let cases = files.into_iter().map(read).collect();
    assert_eq!(hex::encode(hash.finalize()), RELEASE, "another release of the suite");
    Some(cases)
}
