//! Registering signers for the epoch after the next.

use super::{Engine, EngineError};
use crate::core::registration::{self, RegistrationRefusal};
use crate::host::store::epochs;
use crate::host::store::snark::{self, SnarkFields};
use mithril_common::crypto_helper::KesPeriod;
use mithril_common::entities::{Epoch, Signer, SignerWithStake, StakeDistribution};
use std::sync::{Arc, PoisonError};

/// The round in which signers register.
#[derive(Debug)]
pub struct Round {
    /// Epoch that registrations are kept under.
    pub epoch: Epoch,
    /// Who may register, with what stake.
    pub stakes: StakeDistribution,
    /// KES period of the chain when the round was opened.
    pub period: KesPeriod,
}

/// Why a signer was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterSignerError {
    /// There is no round now.
    #[error("no registration round is open")]
    Closed,
    /// The registration is for another epoch.
    #[error("registrations are taken for epoch {open}, this one is for epoch {asked}")]
    Epoch {
        /// What the round is for.
        open: Epoch,
        /// What the registration is for.
        asked: Epoch,
    },
    /// The registration is refused.
    #[error(transparent)]
    Refused(#[from] RegistrationRefusal),
    /// It could not be kept.
    #[error(transparent)]
    Failed(#[from] EngineError),
}

impl From<crate::host::store::StoreError> for RegisterSignerError {
    fn from(error: crate::host::store::StoreError) -> Self {
        RegisterSignerError::Failed(error.into())
    }
}

impl Engine {
    /// Registers a signer for `asked`, the epoch it names. True when it had not registered for it yet.
    ///
    /// # Errors
    /// When there is no round for that epoch, the registration does not hold, or it cannot be kept.
    pub fn register_signer(&self, asked: Epoch, signer: Signer) -> Result<bool, RegisterSignerError> {
        self.register_signer_with(asked, signer, SnarkFields::default())
    }

    /// The same for a signer that sends fields which are kept for others.
    ///
    /// # Errors
    /// The same.
    pub fn register_signer_with(
        &self,
        asked: Epoch,
        signer: Signer,
        fields: SnarkFields,
    ) -> Result<bool, RegisterSignerError> {
        if let Some(field) = fields.refused() {
            return Err(RegistrationRefusal::Invalid(format!("{field} is no hex of a length that is kept")).into());
        }
        let round = self.round().ok_or(RegisterSignerError::Closed)?;
        if round.epoch != asked {
            return Err(RegisterSignerError::Epoch { open: round.epoch, asked });
        }
        let party = registration::pool(&signer)?;
        let key = signer
            .verification_key_for_concatenation
            .to_json_hex()
            .map_err(|error| RegistrationRefusal::Invalid(format!("{error:#}")))?;
        // The key without its proof of possession: a pool can make other bytes of the same proof, and two pools with one key would
        // make no roster.
        let point = serde_json::to_string(&signer.verification_key_for_concatenation.into_inner().vk)
            .map_err(|error| RegistrationRefusal::Invalid(error.to_string()))?;
        let (known, is_taken) = self.known(asked, &party, &key, &point)?;
        if is_taken {
            return Err(RegistrationRefusal::TakenKey.into());
        }
        // The period moves on within a round; the chain's newest is the one that counts.
        let period = self.standing().view.map_or(round.period, |view| view.kes_period);
        let verified = registration::verify(signer, &round.stakes, period, asked, &known)?;
        self.keep_registration(&round, verified, (key, point), fields)
    }

    fn keep_registration(
        &self,
        round: &Arc<Round>,
        signer: SignerWithStake,
        (key, point): (String, String),
        fields: SnarkFields,
    ) -> Result<bool, RegisterSignerError> {
        let now = self.now();
        let (rounds, round, epoch) = (Arc::clone(&self.round), Arc::clone(round), round.epoch);
        let kept = self.store.write(move |db| {
            // Whoever enters an epoch ends the round first and writes then: what comes here later is too late for its roster.
            let is_open = rounds
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &round));
            if !is_open {
                return Ok(None);
            }
            keep(db, epoch, &signer, (&key, &point), &fields, &now).map(Some)
        })?;
        Ok(kept.ok_or(RegisterSignerError::Closed)??)
    }
}

/// Keeps a registration, now that nobody else writes.
fn keep(
    db: &crate::host::store::Connection,
    epoch: Epoch,
    signer: &SignerWithStake,
    (key, point): (&str, &str),
    fields: &SnarkFields,
    now: &chrono::DateTime<chrono::Utc>,
) -> crate::host::store::Result<Result<bool, RegistrationRefusal>> {
    if epochs::is_taken(db, epoch, &signer.party_id, point)? {
        return Ok(Err(RegistrationRefusal::TakenKey));
    }
    let known = epochs::known(db, epoch, &signer.party_id, key)?;
    if known.has_new_key && known.is_old_key {
        return Ok(Err(RegistrationRefusal::OldKey(signer.party_id.clone())));
    }
    let key_before = snark::key(db, epoch, &signer.party_id)?;
    let is_new = epochs::register(db, epoch, signer, now)?;
    epochs::take(db, epoch, &signer.party_id, point)?;
    snark::keep(db, epoch, &signer.party_id, fields, key_before.as_deref())?;
    Ok(Ok(is_new))
}
