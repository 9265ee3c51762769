//! EIP-3076: the slashing-protection interchange of Ethereum validators, version 5.
//!
//! What is read becomes floors and nothing else: per key the highest slot of a block, the highest target and the highest
//! source of an attestation. A file that contradicts itself is read in the same way, so that nobody is left without
//! protection because of it. Floors never fall, and a file of another chain is refused.
//!
//! ```text
//! {"metadata": {"interchange_format_version": "5", "genesis_validators_root": "0x…"},
//!  "data": [{"pubkey": "0x…", "signed_blocks": [{"slot": "7", "signing_root": "0x…"}],
//!            "signed_attestations": [{"source_epoch": "1", "target_epoch": "2", "signing_root": "0x…"}]}]}
//! ```
//!
//! A chain's name in the ledger is its genesis validators root, written as here: `0x` and 64 lower-case digits.

mod error;
#[cfg(test)]
mod tests;
mod transfer;
mod wire;

pub use error::Eip3076Error;
pub use transfer::{Change, Report, export, export_known, import};

use semel_guard::{ChainId, Lane, Mark, PublicKey, SLOT_FIRST_MAX, Subject, SubjectError};
use std::collections::BTreeMap;
use std::fmt;

/// The one version that is read and written.
pub const FORMAT_VERSION: &str = "5";

/// Longest file, in bytes. A key that is minimal takes 350; a year of one key's complete history takes 12 million.
pub const FILE_MAX: usize = 128 << 20;

/// Most records of a file. A key may have several.
pub const KEYS_MAX: usize = 1 << 16;

/// Most blocks, and most attestations, of a record. One attestation per epoch fills it in twelve years.
pub const ENTRIES_MAX: usize = 1 << 20;

/// 32 bytes: a genesis validators root, or a signing root. Prints as `0x` and lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Root(pub [u8; 32]);

impl Root {
    /// Reads `0x` and 64 hex digits of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut root = [0; 32];
        hex::decode_to_slice(text.strip_prefix("0x")?, &mut root).ok()?;
        Some(Self(root))
    }

    /// The name that the ledger has for the chain with this genesis validators root.
    pub fn chain(&self) -> Result<ChainId, SubjectError> {
        ChainId::new(&self.to_string())
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A block that was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedBlock {
    /// Its slot.
    pub slot: u64,
    /// What was signed, where the file says so.
    pub signing_root: Option<Root>,
}

/// An attestation that was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedAttestation {
    /// Its source epoch.
    pub source: u64,
    /// Its target epoch.
    pub target: u64,
    /// What was signed, where the file says so.
    pub signing_root: Option<Root>,
}

/// What was signed with one key. A file may have several records of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key, BLS12-381.
    pub key: PublicKey,
    /// Blocks, in any order.
    pub blocks: Vec<SignedBlock>,
    /// Attestations, in any order.
    pub attestations: Vec<SignedAttestation>,
}

impl Record {
    /// The lowest floors that close everything in this record.
    pub fn floors(&self) -> Vec<(Lane, Mark)> {
        let block = self.blocks.iter().map(|block| (Lane::EthereumBlock, Mark([block.slot, 0, 0])));
        let vote = |vote: &SignedAttestation| (Lane::EthereumAttestation, Mark([vote.target, vote.source, 0]));
        let higher = |(lane, a): (Lane, Mark), (_, b): (Lane, Mark)| (lane, lane.higher(a, b));
        let attestation = self.attestations.iter().map(vote).reduce(higher);
        block.reduce(higher).into_iter().chain(attestation).collect()
    }
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interchange {
    /// The chain.
    pub genesis_validators_root: Root,
    /// Its records.
    pub records: Vec<Record>,
}

impl Interchange {
    /// Reads a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Eip3076Error> {
        wire::parse(bytes)
    }

    /// The file, indented, with a line end.
    pub fn render(&self) -> String {
        wire::render(self)
    }

    /// The same protection in the fewest words: one record per key, with at most one block and one attestation. A signing
    /// root stays where the file says which one belongs to the highest position.
    pub fn minified(&self) -> Self {
        let mut keys: BTreeMap<&PublicKey, Record> = BTreeMap::new();
        for record in &self.records {
            let key = record.key.clone();
            let empty = || Record { key, blocks: Vec::new(), attestations: Vec::new() };
            let joined = keys.entry(&record.key).or_insert_with(empty);
            joined.blocks.extend(&record.blocks);
            joined.attestations.extend(&record.attestations);
        }
        let records = keys.into_values().map(|record| minimal(&record)).collect();
        Self { genesis_validators_root: self.genesis_validators_root, records }
    }

    /// What the file closes. Refuses one with numbers that no chain reaches.
    pub fn floors(&self) -> Result<Vec<(Subject, Lane, Mark)>, Eip3076Error> {
        let chain = self.genesis_validators_root.chain()?;
        let mut floors = Vec::new();
        for record in self.minified().records {
            for (lane, floor) in record.floors() {
                if let Some(number) = floor.0.into_iter().find(|number| *number > SLOT_FIRST_MAX) {
                    return Err(Eip3076Error::Unreachable { key: record.key.to_string(), number });
                }
                floors.push((Subject { key: record.key.clone(), chain: chain.clone() }, lane, floor));
            }
        }
        Ok(floors)
    }

    /// The keys of the file on its chain, each once: those that a ledger must be open for before an import.
    pub fn subjects(&self) -> Result<Vec<Subject>, Eip3076Error> {
        let chain = self.genesis_validators_root.chain()?;
        let mut keys: Vec<&PublicKey> = self.records.iter().map(|record| &record.key).collect();
        keys.sort_unstable();
        keys.dedup();
        Ok(keys.into_iter().map(|key| Subject { key: key.clone(), chain: chain.clone() }).collect())
    }
}

/// One block and one attestation that close as much as the whole record does.
fn minimal(record: &Record) -> Record {
    let (mut blocks, mut attestations) = (Vec::new(), Vec::new());
    for (lane, Mark([first, second, _])) in record.floors() {
        if lane == Lane::EthereumBlock {
            let roots = record.blocks.iter().filter(|block| block.slot == first).map(|block| block.signing_root);
            blocks.push(SignedBlock { slot: first, signing_root: only(roots) });
        } else {
            let same = |vote: &&SignedAttestation| (vote.target, vote.source) == (first, second);
            let roots = record.attestations.iter().filter(same).map(|vote| vote.signing_root);
            attestations.push(SignedAttestation { source: second, target: first, signing_root: only(roots) });
        }
    }
    Record { key: record.key.clone(), blocks, attestations }
}

/// The root that all of them have. Where two differ, naming one would make the other look unsigned.
fn only(mut roots: impl Iterator<Item = Option<Root>>) -> Option<Root> {
    let first = roots.next()??;
    roots.all(|root| root == Some(first)).then_some(first)
}
