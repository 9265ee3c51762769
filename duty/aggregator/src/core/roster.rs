//! The signers of one epoch with their stakes, parameters and aggregate verification key.
//!
//! A signer's index is its place when all are sorted by (stake, key); Mithril's own code sorts. A single signature names its
//! key by that index only, so what a signature says of its party is believed only when the party holds the key at that index:
//! else a stranger could put a signature of another under a name of his choice, and overwrite one that is there.
//!
//! The aggregate verification key is computed once per epoch, not once per signature, and so are the bounds of every signer's
//! lottery ([`super::lottery`]). What is left of a check is one BLS signature.

use super::lottery::Lottery;
use blake2::{Blake2b512, Digest as _};
use mithril_common::AggregateSignatureType;
use mithril_common::crypto_helper::{
    ProtocolAggregateVerificationKey, ProtocolAggregateVerificationKeyForConcatenation, ProtocolClerk, ProtocolKey,
    ProtocolMultiSignature,
};
use mithril_common::entities::{LotteryIndex, PartyId, ProtocolParameters, SignerWithStake, SingleSignature, Stake};
use mithril_stm::{
    AncillaryGenesisData, AncillaryProofInput, KeyRegistration, Parameters, VerificationKeyForConcatenation,
    VerificationKeyProofOfPossessionForConcatenation,
};
use std::collections::{BTreeMap, HashMap};

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
    clerk: ProtocolClerk,
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
        let mut registration = KeyRegistration::initialize();
        let mut by_key = HashMap::with_capacity(signers.len());
        for signer in &signers {
            let key: VerificationKeyProofOfPossessionForConcatenation =
                signer.verification_key_for_concatenation.into_inner();
            registration
                .register(signer.stake, &key)
                .map_err(|error| RosterError::Key { party: signer.party_id.clone(), why: format!("{error:#}") })?;
            by_key.insert(key.vk, signer.party_id.clone());
        }
        let lottery = |error| RosterError::Lottery(format!("{error:#}"));
        let closed = registration.close_registration(&stm).map_err(lottery)?;
        let clerk = ProtocolClerk::new_clerk_from_closed_key_registration(&stm, &closed);
        let mut parties = Vec::with_capacity(signers.len());
        for index in 0..signers.len() as u64 {
            let (key, stake) = clerk.get_concatenation_registered_party_for_index(&index).map_err(lottery)?;
            let id = by_key.get(&key).cloned().unwrap_or_default();
            parties.push(Party { id, key, stake, lottery: None });
        }
        let key = clerk.compute_aggregate_verification_key();
        let wrapped: ProtocolAggregateVerificationKeyForConcatenation =
            ProtocolKey::new(key.to_concatenation_aggregate_verification_key().clone());
        let key_text = wrapped.to_json_hex().map_err(lottery)?;
        let total_stake = parties.iter().map(|party| party.stake).sum();
        for party in &mut parties {
            party.lottery = Lottery::new(stm.phi_f, party.stake, total_stake);
        }
        let root = root(&key_text).ok_or_else(|| RosterError::Lottery("their key has no root".to_owned()))?;
        Ok(Roster { signers, parameters: parameters.clone(), stm, clerk, key, key_text, parties, total_stake, root })
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
            None => inner
                .verify(&self.stm, &holder.key, &holder.stake, &self.key, message.as_bytes())
                .map_err(invalid)?,
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

    /// Makes one signature of many, as soon as they have k different lottery indexes.
    ///
    /// # Errors
    /// When they have not, or the cryptography refuses.
    pub fn aggregate(
        &self,
        message: &str,
        signatures: &[SingleSignature],
    ) -> Result<ProtocolMultiSignature, AggregateError> {
        let inner: Vec<_> = signatures.iter().map(SingleSignature::to_protocol_signature).collect();
        let mut quorum = Quorum::new(self.stm.k);
        for one in &inner {
            quorum.add(&one.get_concatenation_signature_indices());
        }
        if !quorum.is_reached() {
            return Err(AggregateError::NoQuorum { have: quorum.have(), needed: self.stm.k });
        }
        // Nothing of this input counts for a concatenation.
        let unused = AncillaryProofInput::new(None, AncillaryGenesisData::new());
        let (aggregate, _) = self
            .clerk
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

/// The root in an aggregate verification key (hex of JSON).
fn root(key_text: &str) -> Option<Vec<u8>> {
    let key: serde_json::Value = serde_json::from_slice(&hex::decode(key_text).ok()?).ok()?;
    let bytes = key.get("mt_commitment")?.get("root")?.as_array()?;
    bytes.iter().map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect()
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
mod tests {
    use super::*;
    use mithril_common::entities::{Epoch, ProtocolMessage, ProtocolMessagePartKey};
    use mithril_common::protocol::{SignerBuilder, ToMessage};
    use mithril_common::test::builder::{MithrilFixture, MithrilFixtureBuilder};

    fn fixture() -> MithrilFixture {
        MithrilFixtureBuilder::default()
            .with_signers(4)
            .with_protocol_parameters(ProtocolParameters::new(5, 100, 0.7))
            .build()
    }

    fn message(text: &str) -> ProtocolMessage {
        let mut message = ProtocolMessage::new();
        message.set_message_part(ProtocolMessagePartKey::CurrentEpoch, text.to_owned());
        message
    }

    #[test]
    fn the_aggregate_key_is_mithrils_own() {
        let fixture = fixture();
        let roster = Roster::new(fixture.signers_with_stake(), &fixture.protocol_parameters()).unwrap();
        let theirs = SignerBuilder::new(&fixture.signers_with_stake(), &fixture.protocol_parameters(), Epoch(1))
            .unwrap()
            .compute_aggregate_verification_key();
        assert_eq!(*roster.key(), theirs);
    }

    #[test]
    fn signatures_are_counted_for_the_party_that_holds_the_key_and_for_no_other() {
        let fixture = fixture();
        let roster = Roster::new(fixture.signers_with_stake(), &fixture.protocol_parameters()).unwrap();
        let message = message("1");
        let signatures = fixture.sign_all(&message);
        for signature in &signatures {
            let mut indexes = signature.won_indexes.clone();
            indexes.sort_unstable();
            assert_eq!(roster.verify(&message.to_message(), signature), Ok(indexes));
        }
        let [first, second, ..] = signatures.as_slice() else { panic!("some sign") };
        let stolen = SingleSignature { party_id: second.party_id.clone(), ..first.clone() };
        let refusal = roster.verify(&message.to_message(), &stolen).unwrap_err();
        assert!(matches!(refusal, SignatureRefusal::ForeignParty { .. }), "{refusal}");
        assert!(matches!(roster.verify("other", first), Err(SignatureRefusal::Invalid(_))));
    }

    #[test]
    fn the_lottery_here_and_in_mithril_stm_agree_on_every_index() {
        for phi in [0.2, 0.7, 0.95] {
            let fixture = MithrilFixtureBuilder::default()
                .with_signers(5)
                .with_protocol_parameters(ProtocolParameters::new(5, 60, phi))
                .build();
            let roster = Roster::new(fixture.signers_with_stake(), &fixture.protocol_parameters()).unwrap();
            let message = message("1");
            let mut seen = [0, 0];
            for signature in fixture.sign_all(&message) {
                for index in 0..60 {
                    let mut inner = signature.to_protocol_signature();
                    inner.set_concatenation_signature_indices(&[index]);
                    let holder = &roster.parties[inner.signer_index as usize];
                    let text = message.to_message();
                    let theirs =
                        inner.verify(&roster.stm, &holder.key, &holder.stake, &roster.key, text.as_bytes()).is_ok();
                    let one = SingleSignature { signature: inner.into(), ..signature.clone() };
                    assert_eq!(roster.verify(&text, &one).is_ok(), theirs, "{phi} {index}");
                    assert_eq!(signature.won_indexes.contains(&index), theirs);
                    seen[usize::from(theirs)] += 1;
                }
            }
            assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
        }
    }

    #[test]
    fn an_index_that_is_named_twice_is_no_second_index() {
        let fixture = fixture();
        let roster = Roster::new(fixture.signers_with_stake(), &fixture.protocol_parameters()).unwrap();
        let message = message("1");
        let signature = fixture.sign_all(&message).remove(0);
        for wrong in [vec![], vec![1, 1], vec![100], vec![u64::MAX]] {
            let mut inner = signature.to_protocol_signature();
            inner.set_concatenation_signature_indices(&wrong);
            let forged = SingleSignature { signature: inner.into(), ..signature.clone() };
            let refusal = roster.verify(&message.to_message(), &forged);
            assert_eq!(refusal, Err(SignatureRefusal::Indexes { most: 100 }), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_aggregated_verifies_with_the_key_and_needs_a_quorum() {
        let fixture = fixture();
        let roster = Roster::new(fixture.signers_with_stake(), &fixture.protocol_parameters()).unwrap();
        let message = message("1").to_message();
        let signatures = fixture.sign_all(&message);
        let aggregate = roster.aggregate(&message, &signatures).unwrap();
        let parameters = fixture.protocol_parameters().into();
        aggregate.verify(message.as_bytes(), roster.key(), &parameters, None, None).unwrap();
        assert!(matches!(roster.aggregate(&message, &[]), Err(AggregateError::NoQuorum { have: 0, needed: 5 })));
    }

    #[test]
    fn an_empty_roster_is_none() {
        assert!(matches!(Roster::new(vec![], &ProtocolParameters::new(5, 100, 0.7)), Err(RosterError::Empty)));
    }

    #[test]
    fn a_quorum_counts_different_indexes_and_takes_replaced_ones_back() {
        let mut quorum = Quorum::new(3);
        quorum.add(&[1, 2]);
        quorum.add(&[2]);
        assert_eq!((quorum.have(), quorum.is_reached()), (2, false));
        quorum.remove(&[1, 2]);
        assert_eq!(quorum.have(), 1);
        quorum.add(&[7, 9]);
        assert!(quorum.is_reached());
    }
}
