//! From an interchange file into a ledger, and out of a ledger into a file.

use super::{Eip3076Error, Interchange, Record, Root, SignedAttestation, SignedBlock};
use crate::journal::Known;
use semel_guard::{Algorithm, History, Lane, Ledger, Mark, PublicKey, Subject, SubjectError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of what is signed for a block or an attestation: its signing root.
const SIGNING_ROOT_LEN: usize = 32;

/// A lane that an import looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: PublicKey,
    /// Blocks or attestations.
    pub lane: Lane,
    /// The floor before.
    pub before: Option<Mark>,
    /// The floor after; equal to the one before where the file knew less than the ledger.
    pub after: Mark,
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Different keys in the file.
    pub keys: usize,
    /// Blocks in the file.
    pub blocks: usize,
    /// Attestations in the file.
    pub attestations: usize,
    /// Every lane that the file says something about.
    pub lanes: Vec<Change>,
}

impl Report {
    /// The lanes whose floor rose.
    pub fn raised(&self) -> impl Iterator<Item = &Change> {
        self.lanes.iter().filter(|change| change.before != Some(change.after))
    }
}

/// Raises the floors of every key in the file, durably. Refuses a file of another chain, and one with numbers that no chain
/// reaches, before anything is raised.
///
/// The ledger must be open for [`Interchange::subjects`]. An import that the ledger cut short may be made again.
pub fn import(ledger: &dyn Ledger, file: &Interchange, expected: Root) -> Result<Report, Eip3076Error> {
    let found = file.genesis_validators_root;
    if found != expected {
        return Err(Eip3076Error::OtherChain { found, expected });
    }
    let unavailable = |key: &PublicKey, why: semel_guard::Unavailable, done| Eip3076Error::Unavailable {
        key: key.to_string(),
        why: why.0,
        done,
    };
    let floors = file.floors()?;
    let mut report = Report {
        keys: file.subjects()?.len(),
        blocks: file.records.iter().map(|record| record.blocks.len()).sum(),
        attestations: file.records.iter().map(|record| record.attestations.len()).sum(),
        lanes: Vec::new(),
    };
    for (subject, lane, floor) in &floors {
        let (key, lane) = (&subject.key, *lane);
        let before = ledger.history(subject, lane).map_err(|why| unavailable(key, why, 0))?.floor;
        let after = before.map_or(*floor, |before| lane.higher(before, *floor));
        report.lanes.push(Change { key: key.clone(), lane, before, after });
    }
    for (done, (subject, lane, floor)) in floors.iter().enumerate() {
        // Also where nothing rises: a floor counts when it is durable, whoever raised it.
        ledger.raise(subject, *lane, *floor).map_err(|why| unavailable(&subject.key, why, done))?;
    }
    Ok(report)
}

/// What the ledger knows of these keys: one record per key, with one block and one attestation where something is known.
/// Importing it elsewhere gives the same floors.
pub fn export(ledger: &dyn Ledger, root: Root, keys: &[PublicKey]) -> Result<Interchange, Eip3076Error> {
    let chain = root.chain()?;
    let mut records = Vec::new();
    for key in keys.iter().collect::<BTreeSet<_>>() {
        let subject = Subject { key: checked(key)?.clone(), chain: chain.clone() };
        let history = |lane| {
            let answer = ledger.history(&subject, lane);
            answer.map_err(|why| Eip3076Error::Unavailable { key: key.to_string(), why: why.0, done: 0 })
        };
        let (blocks, attestations) = (history(Lane::EthereumBlock)?, history(Lane::EthereumAttestation)?);
        records.push(record(key, Some(&blocks), Some(&attestations)));
    }
    Ok(Interchange { genesis_validators_root: root, records })
}

/// As [`export`], of every key of this chain in a ledger that is not open for writing
/// ([`Journal::inspect`](crate::Journal::inspect)).
pub fn export_known(known: &[Known], root: Root) -> Result<Interchange, Eip3076Error> {
    let chain = root.chain()?;
    let mut records = BTreeMap::new();
    for Known { subject, lanes, .. } in known.iter().filter(|known| known.subject.chain == chain) {
        let history = |wanted| lanes.iter().find(|(lane, _)| *lane == wanted).map(|(_, history)| history);
        let (blocks, attestations) = (history(Lane::EthereumBlock), history(Lane::EthereumAttestation));
        records.insert(checked(&subject.key)?, record(&subject.key, blocks, attestations));
    }
    Ok(Interchange { genesis_validators_root: root, records: records.into_values().collect() })
}

/// The format has no place for another kind of key.
fn checked(key: &PublicKey) -> Result<&PublicKey, SubjectError> {
    let (algorithm, found) = (Algorithm::Bls12381, key.as_bytes().len());
    match key.algorithm() == algorithm {
        true => Ok(key),
        false => Err(SubjectError::KeyLength { algorithm, expected: algorithm.key_len(), found }),
    }
}

fn record(key: &PublicKey, blocks: Option<&Arc<History>>, attestations: Option<&Arc<History>>) -> Record {
    let highest = |history: Option<&Arc<History>>| {
        let history = history?;
        let floor = history.floor?;
        let is_root = |bytes: &[u8]| <[u8; SIGNING_ROOT_LEN]>::try_from(bytes).ok().map(Root);
        Some((floor, history.recent.iter().find(|entry| entry.mark == floor).and_then(|entry| is_root(&entry.bytes))))
    };
    let block = highest(blocks).map(|(Mark([slot, ..]), signing_root)| SignedBlock { slot, signing_root });
    let vote = |(Mark([target, source, _]), signing_root)| SignedAttestation { source, target, signing_root };
    let attestation = highest(attestations).map(vote);
    Record { key: key.clone(), blocks: block.into_iter().collect(), attestations: attestation.into_iter().collect() }
}
