//! Looking on while certificates are sealed: which ones are new, and whether an epoch went by without one it could have had.
//!
//! Every epoch of this network reveals blocks and immutable files, so that in each of them every type can be certified.

use crate::CardanoNet;
use crate::certified::Certified;
use mithril_common::entities::{Certificate, SignedEntityType, SignedEntityTypeDiscriminants as Kind};
use semel_aggregator::host::engine::EngineError;
use semel_aggregator::host::store::certificates;
use std::collections::{BTreeMap, BTreeSet};

/// Certificates looked at in one go: more than are sealed between two looks.
const LATEST_MAX: usize = 200;
/// Blocks among which one with a transaction is looked for.
const SAMPLE_BLOCKS: usize = 2_000;

/// A certificate that was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its type, as the API names it; `Genesis` for the first.
    pub kind: String,
    /// Its epoch.
    pub epoch: u64,
    /// What of its type it certifies, for people.
    pub beacon: String,
    /// Its hash.
    pub hash: String,
    /// How many signed.
    pub signers: usize,
    /// A block that it covers.
    pub block: Option<String>,
    /// A transaction that it covers.
    pub transaction: Option<String>,
}

/// An epoch that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Which.
    pub epoch: u64,
    /// Types that have no certificate of it.
    pub without: Vec<String>,
}

/// What was seen so far.
#[derive(Debug)]
pub struct Watch {
    kinds: BTreeSet<Kind>,
    known: BTreeSet<String>,
    by_epoch: BTreeMap<u64, BTreeSet<Kind>>,
    next_to_judge: u64,
}

impl Watch {
    /// Nothing was seen yet; epochs are judged from the first one on that can be certified, or the current one if that is later.
    pub fn new(net: &CardanoNet, certified: &Certified) -> Self {
        let kinds = certified.running().engine().options().kinds.iter().copied().collect();
        let next_to_judge = *certified.first_epoch(net).max(net.epoch());
        Self { kinds, known: BTreeSet::new(), by_epoch: BTreeMap::new(), next_to_judge }
    }

    /// What was sealed since the last look, oldest first, and the epochs that have ended since.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn look(&mut self, net: &CardanoNet, certified: &Certified) -> Result<(Vec<Sealed>, Vec<Passed>), EngineError> {
        let engine = certified.running().engine();
        // The epoch first: whoever enters one seals nothing of those before any more.
        let entered = engine.epoch().map(|data| *data.epoch);
        let latest = engine.store().read(|db| certificates::latest(db, LATEST_MAX))?;
        let mut new = Vec::new();
        let known = latest.iter().map(|certificate| certificate.hash.clone()).collect();
        let known = std::mem::replace(&mut self.known, known);
        for certificate in latest.into_iter().rev().filter(|certificate| !known.contains(&certificate.hash)) {
            if !certificate.is_genesis() {
                let kind = Kind::from(certificate.signed_entity_type());
                self.by_epoch.entry(*certificate.epoch).or_default().insert(kind);
            }
            new.push(sealed(&certificate, net));
        }
        let mut passed = Vec::new();
        while entered.is_some_and(|entered| self.next_to_judge < entered) {
            let seen = self.by_epoch.remove(&self.next_to_judge).unwrap_or_default();
            let without = self.kinds.difference(&seen).map(ToString::to_string).collect();
            passed.push(Passed { epoch: self.next_to_judge, without });
            self.next_to_judge += 1;
        }
        Ok((new, passed))
    }
}

fn sealed(certificate: &Certificate, net: &CardanoNet) -> Sealed {
    let entity = certificate.signed_entity_type();
    let (beacon, up_to) = match &entity {
        _ if certificate.is_genesis() => ("of the chain".to_owned(), None),
        SignedEntityType::MithrilStakeDistribution(epoch) | SignedEntityType::CardanoStakeDistribution(epoch) => {
            (format!("of epoch {epoch}"), None)
        }
        SignedEntityType::CardanoDatabase(beacon) => (format!("up to file {}", beacon.immutable_file_number), None),
        SignedEntityType::CardanoTransactions(_, number)
        | SignedEntityType::CardanoBlocksTransactions(_, number, _) => {
            (format!("up to block {number}"), Some(**number))
        }
    };
    let found = |has_transactions| {
        let block = up_to.and_then(|number| net.block_below(number, has_transactions, SAMPLE_BLOCKS))?;
        Some((hex::encode(block.hash), block.transactions().first().map(hex::encode)))
    };
    Sealed {
        kind: if certificate.is_genesis() { "Genesis".to_owned() } else { Kind::from(entity).to_string() },
        epoch: *certificate.epoch,
        beacon,
        hash: certificate.hash.clone(),
        signers: certificate.metadata.signers.len(),
        block: found(false).map(|(block, _)| block),
        transaction: found(true).and_then(|(_, transaction)| transaction),
    }
}
