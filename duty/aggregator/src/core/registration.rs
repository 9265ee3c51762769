//! Registration: who may sign two epochs from now.
//!
//! A pool proves with its operational certificate and its KES key that a Mithril key is its own, and with a proof of possession
//! that it holds that key. Its stake is what the chain says, never what it says. The KES period is the chain's, and the number of
//! evolutions is computed here: what a signer sends of it is not looked at.
//!
//! A registration carries no epoch inside what KES signs, so anybody can send an old one again. An old key therefore never takes
//! the place of a new one, and an operational certificate never that of a later one (its issue number falls).

use mithril_common::crypto_helper::{KesEvolutions, KesPeriod, ProtocolKeyRegistration, SignerRegistrationParameters};
use mithril_common::entities::{Epoch, PartyId, Signer, SignerWithStake, StakeDistribution};

/// Most evolutions that a KES key has.
const EVOLUTIONS_MAX: u64 = 64;

/// Why a signer is not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationRefusal {
    /// There is no operational certificate.
    #[error("an operational certificate is needed to register")]
    NoCertificate,
    /// It says it is another pool than its certificate's.
    #[error("the operational certificate is of {certified}, and the registration says {claimed}")]
    OtherPool {
        /// What the registration says.
        claimed: PartyId,
        /// What the certificate says.
        certified: PartyId,
    },
    /// The pool has no stake in the snapshot.
    #[error("{0} has no stake in this epoch's snapshot")]
    NoStake(PartyId),
    /// Certificate, KES signature or proof of possession do not hold.
    #[error("the registration does not hold: {0}")]
    Invalid(String),
    /// The operational certificate was replaced by a later one.
    #[error("the operational certificate has issue number {given}; {known} is known of {party}")]
    OldCertificate {
        /// Which pool.
        party: PartyId,
        /// Issue number that was given.
        given: u64,
        /// Highest that is known.
        known: u64,
    },
    /// An earlier key would take the place of a new one.
    #[error("{0} registered a new key for this epoch; this one is of an earlier epoch")]
    OldKey(PartyId),
    /// The key is another pool's.
    #[error("the key is that of another signer")]
    TakenKey,
}

/// What is known of a pool before it registers.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Highest issue number of its operational certificates.
    pub issue_number: Option<u64>,
    /// Whether it has registered for this epoch with another key that is of no earlier epoch.
    pub has_new_key: bool,
    /// Whether the key it registers with now is of an earlier epoch.
    pub is_old_key: bool,
}

/// The pool of a registration, by its certificate; nothing else is checked.
///
/// # Errors
/// Without a certificate, or when the registration says it is of another pool.
pub fn pool(signer: &Signer) -> Result<PartyId, RegistrationRefusal> {
    let certificate = signer.operational_certificate.as_ref().ok_or(RegistrationRefusal::NoCertificate)?;
    let certified =
        certificate.compute_protocol_party_id().map_err(|error| RegistrationRefusal::Invalid(error.to_string()))?;
    match signer.party_id.is_empty() || signer.party_id == certified {
        true => Ok(certified),
        false => Err(RegistrationRefusal::OtherPool { claimed: signer.party_id.clone(), certified }),
    }
}

/// Checks a registration against the chain's stakes and KES period, and what is known of the pool. `epoch` is the one it is
/// recorded under.
///
/// # Errors
/// See [`RegistrationRefusal`].
pub fn verify(
    signer: Signer,
    stakes: &StakeDistribution,
    period: KesPeriod,
    epoch: Epoch,
    known: &Known,
) -> Result<SignerWithStake, RegistrationRefusal> {
    let party = pool(&signer)?;
    let stake = *stakes.get(&party).ok_or_else(|| RegistrationRefusal::NoStake(party.clone()))?;
    let certificate = signer.operational_certificate.clone().ok_or(RegistrationRefusal::NoCertificate)?;
    let given = certificate.get_issue_number();
    if let Some(number) = known.issue_number.filter(|number| given < *number) {
        return Err(RegistrationRefusal::OldCertificate { party, given, known: number });
    }
    if known.has_new_key && known.is_old_key {
        return Err(RegistrationRefusal::OldKey(party));
    }
    let evolutions = period.0.saturating_sub(certificate.get_start_kes_period().0).min(EVOLUTIONS_MAX);
    let evolutions = KesEvolutions(evolutions);
    // One pool at a time: whether a key is taken is a question to everybody who is registered, and not this object's.
    let mut registration = ProtocolKeyRegistration::init(&vec![(party.clone(), stake)], epoch);
    registration
        .register(SignerRegistrationParameters {
            party_id: Some(party.clone()),
            operational_certificate: Some(certificate),
            verification_key_for_concatenation: signer.verification_key_for_concatenation,
            verification_key_signature_for_concatenation: signer.verification_key_signature_for_concatenation,
            kes_evolutions: Some(evolutions),
        })
        .map_err(|error| RegistrationRefusal::Invalid(format!("{error:#}")))?;
    let signer = Signer { party_id: party, kes_evolutions: Some(evolutions), ..signer };
    Ok(SignerWithStake::from_signer(signer, stake))
}
