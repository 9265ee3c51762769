//! The signers of one epoch with their stakes, parameters and aggregate verification key.
//!
//! A signer's index is its place when all are sorted by (stake, key); Mithril's own code sorts. A single signature names its
//! key by that index only, so what a signature says of its party is believed only when the party holds the key at that index:
//! else a stranger could put a signature of another under a name of his choice, and overwrite one that is there.
//!
//! The aggregate verification key is computed once per epoch, not once per signature, and so are the bounds of every signer's
//! lottery ([`super::lottery`]). What is left of a check is one BLS signature.
//!
//! Proofs of possession are checked when a signer registers. mithril-stm aggregates only after it has checked them again, which
//! takes more than a millisecond each; so whoever enters an epoch does not wait for it. [`Roster::check`] does it, once, and
//! compares the key that is computed here with mithril-stm's own; nothing is aggregated before.

use super::lottery::Lottery;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2b512, Digest as _};
use mithril_common::AggregateSignatureType;
use mithril_common::crypto_helper::{
    ProtocolAggregateVerificationKey, ProtocolAggregateVerificationKeyForConcatenation, ProtocolClerk,
    ProtocolMultiSignature,
};
use mithril_common::entities::{LotteryIndex, PartyId, ProtocolParameters, SignerWithStake, SingleSignature, Stake};
use mithril_stm::{
    AncillaryGenesisData, AncillaryProofInput, KeyRegistration, Parameters, VerificationKeyForConcatenation,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

/// Signers of one epoch at most. Cardano mainnet has some 3,000 pools; each costs about a millisecond at an epoch's start.
pub const SIGNERS_MAX: usize = 10_000;

/// Why signers do not make a roster.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// Nobody is registered.
    #[error("nobody is registered")]
    Empty,
    /// More than [`SIGNERS_MAX`].
    #[error("{0} signers are registered, {SIGNERS_MAX} are possible")]
    TooMany(usize),
    /// The keys of these parties cannot be used together.
    #[error("the key of {party} is refused: {why}")]
    Key {
        /// Whose key.
        party: PartyId,
        /// Why.
        why: String,
    },
    /// The stakes or parameters make no lottery.
    #[error("no lottery can be made of these stakes: {0}")]
    Lottery(String),
}

/// Why a single signature is not counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefusal {
    /// The party is not among the signers.
    #[error("{0} is not among the signers")]
    UnknownParty(PartyId),
    /// The signature is of another party's key.
    #[error("the signature is of {holder}, and says it is of {claimed}")]
    ForeignParty {
        /// Who the signature says it is of.
        claimed: PartyId,
        /// Whose key made it.
        holder: PartyId,
    },
    /// It has no index, more than there are, or one twice.
    #[error("a signature has 1 to {most} different lottery indexes below {most}, this one has not")]
    Indexes {
        /// The parameter m.
        most: u64,
    },
    /// The cryptography says no.
    #[error("the signature does not hold: {0}")]
    Invalid(String),
}

/// Why signatures do not make a certificate's signature.
#[derive(Debug, thiserror::Error)]
pub enum AggregateError {
    /// Too few lottery indexes.
    #[error("the signatures have {have} different lottery indexes of {needed}")]
    NoQuorum {
        /// Different indexes that there are.
        have: u64,
        /// The parameter k.
        needed: u64,
    },
    /// The cryptography says no.
    #[error("the signatures cannot be aggregated: {0}")]
    Failed(String),
}

struct Party {
    id: PartyId,
    key: VerificationKeyForConcatenation,
    stake: Stake,
    // None: mithril-stm decides.
    lottery: Option<Lottery>,
}

/// The signers of one epoch.
pub struct Roster {
    signers: Vec<SignerWithStake>,
    parameters: ProtocolParameters,
    stm: Parameters,
    // Made by the first who needs it.
    clerk: OnceLock<Result<ProtocolClerk, String>>,
    key: ProtocolAggregateVerificationKey,
    key_text: String,
    // By signer index.
    parties: Vec<Party>,
    total_stake: Stake,
    // Root of the tree over the signers: signed behind every message.
    root: Vec<u8>,
}

impl Roster {
    /// Signers as they were registered, each already checked by [`super::registration`].
    ///
    /// # Errors
    /// When there are none or too many, or a key or the stakes cannot be used.
    pub fn new(signers: Vec<SignerWithStake>, parameters: &ProtocolParameters) -> Result<Roster, RosterError> {
        if signers.is_empty() {
            return Err(RosterError::Empty);
        }
        if signers.len() > SIGNERS_MAX {
            return Err(RosterError::TooMany(signers.len()));
        }
        let stm: Parameters = parameters.clone().into();
        let party = |signer: &SignerWithStake| Party {
            id: signer.party_id.clone(),
            key: signer.verification_key_for_concatenation.into_inner().vk,
            stake: signer.stake,
            lottery: None,
        };
        let mut parties: Vec<Party> = signers.iter().map(party).collect();
        let mut keys = HashSet::with_capacity(parties.len());
        for party in &parties {
            if !keys.insert(party.key) {
                return Err(RosterError::Key { party: party.id.clone(), why: "it is another's too".to_owned() });
            }
        }
        parties.sort_by_cached_key(|party| (party.stake, party.key.to_canonical_bytes()));
        let total_stake = parties.iter().try_fold(0_u64, |sum, party| sum.checked_add(party.stake));
        let total_stake = total_stake.filter(|total| *total > 0);
        let total_stake = total_stake.ok_or_else(|| RosterError::Lottery("their sum cannot be one".to_owned()))?;
        for party in &mut parties {
            party.lottery = Lottery::new(stm.phi_f, party.stake, total_stake);
        }
        let lottery = |error| RosterError::Lottery(format!("{error:#}"));
        let root = root(&parties);
        let key = aggregate_key(&root, parties.len(), total_stake)
            .map_err(|error| RosterError::Lottery(format!("they have no key: {error}")))?;
        let key_text = key.to_json_hex().map_err(lottery)?;
        let key = ProtocolAggregateVerificationKey::new(key.into_inner());
        let (parameters, clerk) = (parameters.clone(), OnceLock::new());
        Ok(Roster { signers, parameters, stm, clerk, key, key_text, parties, total_stake, root: root.into() })
    }

    /// Has mithril-stm check all proofs of possession and compute the key; the first call takes a millisecond and more for each
    /// signer, and others wait for it.
    ///
    /// # Errors
    /// When a proof does not hold, or mithril-stm's key is another.
    pub fn check(&self) -> Result<(), RosterError> {
        self.clerk().map(|_| ())
    }

    fn clerk(&self) -> Result<&ProtocolClerk, RosterError> {
        let lottery = |why: &String| RosterError::Lottery(why.clone());
        self.clerk.get_or_init(|| self.make_clerk().map_err(|error| error.to_string())).as_ref().map_err(lottery)
    }

    fn make_clerk(&self) -> Result<ProtocolClerk, RosterError> {
        let mut registration = KeyRegistration::initialize();
        for signer in &self.signers {
            registration
                .register(signer.stake, &signer.verification_key_for_concatenation.into_inner())
                .map_err(|error| RosterError::Key { party: signer.party_id.clone(), why: format!("{error:#}") })?;
        }
        let closed = registration.close_registration(&self.stm);
        let closed = closed.map_err(|error| RosterError::Lottery(format!("{error:#}")))?;
        let clerk = ProtocolClerk::new_clerk_from_closed_key_registration(&self.stm, &closed);
        match clerk.compute_aggregate_verification_key() == self.key {
            true => Ok(clerk),
            false => Err(RosterError::Lottery("mithril-stm computes another key".to_owned())),
        }
    }

    /// The signers in the order in which they were given.
    pub fn signers(&self) -> &[SignerWithStake] {
        &self.signers
    }

    /// The parameters of their lottery.
    pub fn parameters(&self) -> &ProtocolParameters {
        &self.parameters
    }

    /// Their aggregate verification key.
    pub fn key(&self) -> &ProtocolAggregateVerificationKey {
        &self.key
    }

    /// The same as messages and certificates spell it (hex of JSON).
    pub fn key_text(&self) -> &str {
        &self.key_text
    }

    /// Sum of their stakes, in lovelace.
    pub fn total_stake(&self) -> Stake {
        self.total_stake
    }

    /// Checks a single signature over `message` (the hex text of a protocol message's hash), and that it is of the party it
    /// says it is of. Gives its lottery indexes, ascending; what the sender says of them beside the signature is not looked at.
    ///
    /// # Errors
    /// See [`SignatureRefusal`].
    pub fn verify(&self, message: &str, signature: &SingleSignature) -> Result<Vec<LotteryIndex>, SignatureRefusal> {
        let claimed = &signature.party_id;
        let inner = signature.to_protocol_signature();
        let holder = usize::try_from(inner.signer_index).ok().and_then(|index| self.parties.get(index));
        let Some(holder) = holder else { return Err(SignatureRefusal::UnknownParty(claimed.clone())) };
        if holder.id != *claimed {
            return Err(SignatureRefusal::ForeignParty { claimed: claimed.clone(), holder: holder.id.clone() });
        }
        let mut indexes = inner.get_concatenation_signature_indices();
        let count = indexes.len();
        indexes.sort_unstable();
        indexes.dedup();
        let is_possible = count > 0 && indexes.len() == count && indexes.last().is_some_and(|last| *last < self.stm.m);
        if !is_possible {
            return Err(SignatureRefusal::Indexes { most: self.stm.m });
        }
        let invalid = |error| SignatureRefusal::Invalid(format!("{error:#}"));
        let sigma = inner.get_concatenation_signature_sigma();
        let signed = [message.as_bytes(), &self.root].concat();
        match self.wins(holder, &signed, &sigma.to_canonical_bytes(), &indexes) {
            Some(true) => sigma.verify(&signed, &holder.key).map_err(invalid)?,
            Some(false) => return Err(SignatureRefusal::Invalid("it wins not all of its lottery indexes".to_owned())),
            None => {
                inner.verify(&self.stm, &holder.key, &holder.stake, &self.key, message.as_bytes()).map_err(invalid)?
            }
        }
        Ok(indexes)
    }

    /// Whether a signature wins all of its indexes; none when mithril-stm has to be asked.
    fn wins(&self, holder: &Party, signed: &[u8], sigma: &[u8], indexes: &[LotteryIndex]) -> Option<bool> {
        let lottery = holder.lottery.as_ref()?;
        let begun = Blake2b512::new().chain_update(b"map").chain_update(signed);
        for index in indexes {
            let value = begun.clone().chain_update(index.to_le_bytes()).chain_update(sigma).finalize();
            if !lottery.is_won(&value.into())? {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Every lottery index that a signature over `message` wins, whatever it says of them.
    pub(crate) fn indexes_won(&self, message: &str, signature: &mithril_stm::SingleSignature) -> Vec<LotteryIndex> {
        let holder = usize::try_from(signature.signer_index).ok().and_then(|index| self.parties.get(index));
        let Some(holder) = holder else { return Vec::new() };
        let sigma = signature.get_concatenation_signature_sigma().to_canonical_bytes();
        let signed = [message.as_bytes(), &self.root].concat();
        (0..self.stm.m).filter(|index| self.wins(holder, &signed, &sigma, &[*index]) == Some(true)).collect()
    }

    /// Whether a party is among the signers.
    pub fn contains(&self, party: &str) -> bool {
        self.signers.iter().any(|signer| signer.party_id == party)
    }

    /// Makes one signature of many, as soon as they have k different lottery indexes. Each has been checked: one that does not hold
    /// may leave too few indexes.
    ///
    /// # Errors
    /// When they have not, or the cryptography refuses.
    pub fn aggregate(
        &self,
        message: &str,
        signatures: &[SingleSignature],
    ) -> Result<ProtocolMultiSignature, AggregateError> {
        let mut inner: Vec<_> = signatures.iter().map(SingleSignature::to_protocol_signature).collect();
        // As few as are enough, those with most indexes first: each costs a check here and at everybody who verifies the
        // certificate, and a thousand bytes in it.
        inner.sort_by_cached_key(|one| std::cmp::Reverse(one.get_concatenation_signature_indices().len()));
        let mut quorum = Quorum::new(self.stm.k);
        let enough = inner.iter().position(|one| {
            quorum.add(&one.get_concatenation_signature_indices());
            quorum.is_reached()
        });
        let Some(last) = enough else {
            return Err(AggregateError::NoQuorum { have: quorum.have(), needed: self.stm.k });
        };
        inner.truncate(last + 1);
        // Nothing of this input counts for a concatenation.
        let unused = AncillaryProofInput::new(None, AncillaryGenesisData::new());
        let clerk = self.clerk().map_err(|error| AggregateError::Failed(error.to_string()))?;
        let (aggregate, _) = clerk
            .aggregate_signatures_with_type(&inner, message.as_bytes(), AggregateSignatureType::Concatenation, unused)
            .map_err(|error| AggregateError::Failed(format!("{error:#}")))?;
        Ok(aggregate.into())
    }
}

impl std::fmt::Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Roster({} signers, {} lovelace)", self.signers.len(), self.total_stake)
    }
}

/// Root of mithril-stm's tree over the signers: a heap whose last nodes are the leaves, and whose missing children are a hash of a
/// zero byte.
fn root(parties: &[Party]) -> [u8; 32] {
    let leaf = |party: &Party| {
        let hash = Blake2b::<U32>::new().chain_update(party.key.to_canonical_bytes());
        <[u8; 32]>::from(hash.chain_update(party.stake.to_be_bytes()).finalize())
    };
    let missing: [u8; 32] = Blake2b::<U32>::digest([0]).into();
    let inner = parties.len().next_power_of_two() - 1;
    // A level below the inner nodes has room for a power of two; the heap ends with the last leaf.
    let mut level: Vec<[u8; 32]> = parties.iter().map(leaf).collect();
    let mut width = inner + 1;
    while width > 1 {
        level.resize(width, missing);
        let parent = |pair: &[[u8; 32]]| <[u8; 32]>::from(Blake2b::<U32>::digest(pair.as_flattened()));
        level = level.chunks(2).map(parent).collect();
        width /= 2;
    }
    level.first().copied().unwrap_or(missing)
}

/// The key with this root, as mithril-stm reads it.
fn aggregate_key(
    root: &[u8; 32],
    signers: usize,
    total_stake: Stake,
) -> serde_json::Result<ProtocolAggregateVerificationKeyForConcatenation> {
    let commitment = serde_json::json!({ "root": root, "nr_leaves": signers, "hasher": null });
    let key = serde_json::json!({ "mt_commitment": commitment, "total_stake": total_stake });
    Ok(ProtocolAggregateVerificationKeyForConcatenation::new(serde_json::from_value(key)?))
}

/// Counts different lottery indexes: a quorum is k of them, whoever has them.
#[derive(Debug, Clone)]
pub struct Quorum {
    needed: u64,
    seen: BTreeMap<LotteryIndex, u32>,
}

impl Quorum {
    /// A count of none, for parameter `k`.
    pub fn new(k: u64) -> Quorum {
        Quorum { needed: k, seen: BTreeMap::new() }
    }

    /// Counts the indexes of a signature.
    pub fn add(&mut self, indexes: &[LotteryIndex]) {
        for index in indexes {
            *self.seen.entry(*index).or_default() += 1;
        }
    }

    /// Takes the indexes of a signature back, which another of the same party replaces.
    pub fn remove(&mut self, indexes: &[LotteryIndex]) {
        for index in indexes {
            if let Some(count) = self.seen.get_mut(index) {
                *count -= 1;
                if *count == 0 {
                    self.seen.remove(index);
                }
            }
        }
    }

    /// Different indexes so far.
    pub fn have(&self) -> u64 {
        self.seen.len() as u64
    }

    /// The parameter k.
    pub fn needed(&self) -> u64 {
        self.needed
    }

    /// Whether there are enough.
    pub fn is_reached(&self) -> bool {
        self.have() >= self.needed
    }
}

#[cfg(test)]
mod tests;
