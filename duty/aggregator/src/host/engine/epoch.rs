//! Entering an epoch: who signs in it, who signs in the next, and who may register for the one after.
//!
//! Order matters: the round of the epoch before is closed first, stakes are read with the epoch they belong to, and everything that
//! belongs to the new epoch is committed before the new round is open.

use super::{Engine, EngineError, Round};
use crate::core::roster::Roster;
use crate::core::{entity, registration};
use crate::host::chain::ChainError;
use crate::host::store::epochs::{self, Settings};
use crate::host::store::{StoreError, messages};
use chrono::TimeDelta;
use mithril_common::entities::{Epoch, Stake};
use std::sync::{Arc, PoisonError};

/// Epochs that are kept at least: fewer would take the keys that the certificates of this epoch hang on.
const RETENTION_MIN: u64 = 3;
/// How long a signature waits for its message: longer than any message is open.
const BUFFERED_MAX: TimeDelta = TimeDelta::hours(2);

/// What is known of an epoch; never changes while it lasts.
#[derive(Debug)]
pub struct EpochData {
    /// The epoch.
    pub epoch: Epoch,
    /// Era of Cardano's ledger.
    pub cardano_era: String,
    /// Era of Mithril.
    pub mithril_era: String,
    /// Who signs now; none when nobody is registered.
    pub current: Option<Arc<Roster>>,
    /// Who signs in the next epoch.
    pub next: Option<Arc<Roster>>,
    /// Settings of those who sign now.
    pub current_settings: Settings,
    /// Settings of those who sign in the next epoch.
    pub next_settings: Settings,
    /// Settings for whoever registers now.
    pub registration_settings: Settings,
    /// Pools with stake.
    pub pools: u64,
    /// Their stake.
    pub stake: Stake,
}

/// Has the rosters checked on a thread of its own: thousands of proofs of possession take seconds, and nobody needs them before the
/// first quorum, who waits for what is left.
fn check_rosters(data: &Arc<EpochData>) {
    let data = Arc::clone(data);
    let checking = std::thread::Builder::new().name("roster".to_owned()).spawn(move || {
        for roster in [&data.current, &data.next].into_iter().flatten() {
            if let Err(error) = roster.check() {
                tracing::error!(epoch = *data.epoch, %error, "nothing can be certified by these signers");
            }
        }
    });
    if let Err(error) = checking {
        tracing::warn!(%error, "no thread can be had; the signers are checked when they have signed");
    }
}

impl Engine {
    /// Enters the chain's epoch.
    ///
    /// # Errors
    /// When the chain, the era or the database do not answer. Nothing is left open then; entering again starts over.
    pub fn enter_epoch(&self) -> Result<Arc<EpochData>, EngineError> {
        *self.round.write().unwrap_or_else(PoisonError::into_inner) = None;
        let (view, stakes) = self.observer.stakes()?;
        let epoch = view.epoch;
        let answer = |why: String| ChainError::Answer { whom: "the node".to_owned(), why };
        if let Some(entered) = self.epoch().filter(|data| data.epoch > epoch) {
            return Err(answer(format!("epoch {epoch} comes after {}", entered.epoch)).into());
        }
        if stakes.values().try_fold(0_u64, |sum, stake| sum.checked_add(*stake)).is_none() {
            return Err(answer("its stakes have no sum".to_owned()).into());
        }
        let mithril_era = (self.era)(epoch)?;
        let now = self.now();
        let settings = self.options.settings.clone().ok_or(EngineError::Follower)?;
        let kept = self.options.retention.map(|epochs| epochs.max(RETENTION_MIN));
        let recorded = stakes.clone();
        self.store.write(move |db| {
            // A leader that begins, or that missed an epoch, has not lived through those before, and signers ask for their settings.
            // What is recorded stays.
            for around in [entity::signing(epoch), epoch, entity::recording(epoch)] {
                epochs::record_settings(db, around, &settings)?;
            }
            // An earlier version recorded no configuration of a type that was not certified. Nobody signs by those of the recording
            // epoch before two epochs from now; the other two were announced as they are, and signers have read them.
            epochs::complete_settings(db, entity::recording(epoch), &settings)?;
            epochs::record_stakes(db, entity::recording(epoch), &recorded, &now)?;
            messages::prune(db, epoch)?;
            messages::prune_buffer(db, &(now - BUFFERED_MAX))?;
            match kept {
                Some(kept) => epochs::prune(db, epoch, kept),
                None => Ok(()),
            }
        })?;
        let data = Arc::new(self.load(epoch, view.era.clone(), mithril_era)?);
        let stakes = self.stakes_of(epoch)?;
        // All of it is read before any of it counts: what fails here is tried again from the beginning.
        let messages = self.read_open(&data)?;
        {
            let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
            *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&data));
            *open = messages;
        }
        let round = Round { epoch: entity::recording(epoch), stakes, period: view.kes_period };
        *self.round.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(round));
        self.changed();
        check_rosters(&data);
        if let Err(error) = self.store.checkpoint() {
            tracing::warn!(%error, "the database's log was not written back; it is tried again in the next epoch");
        }
        tracing::info!(
            epoch = *epoch,
            signers = data.current.as_ref().map_or(0, |roster| roster.signers().len()),
            next_signers = data.next.as_ref().map_or(0, |roster| roster.signers().len()),
            "entered an epoch"
        );
        Ok(data)
    }

    /// Looks at the chain's epoch and at who is registered, and records nothing: for a genesis certificate.
    ///
    /// # Errors
    /// When the chain, the era or the database do not answer.
    pub fn look_at_epoch(&self) -> Result<(), EngineError> {
        let view = self.observer.view()?;
        let mithril_era = (self.era)(view.epoch)?;
        let data = Arc::new(self.load(view.epoch, view.era, mithril_era)?);
        *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = Some(data);
        Ok(())
    }

    fn load(&self, epoch: Epoch, cardano_era: String, mithril_era: String) -> Result<EpochData, EngineError> {
        let (now, next, then) = (entity::signing(epoch), entity::next_signing(epoch), entity::recording(epoch));
        let (current_settings, next_settings, registration_settings, stakes) = self.store.read(|db| {
            let of = |epoch| {
                let known = epochs::settings(db, epoch)?.or_else(|| self.options.settings.clone());
                known.ok_or_else(|| {
                    StoreError::value(
                        "the settings of an epoch",
                        "there are none: set PROTOCOL_PARAMETERS__K, __M and __PHI_F",
                    )
                })
            };
            Ok((of(now)?, of(next)?, of(then)?, epochs::stakes(db, now)?))
        })?;
        let before = self.epoch();
        // Who was to sign next signs now: their keys need not be checked again.
        let handed_over = before.filter(|data| data.epoch.next() == epoch).and_then(|data| data.next.clone());
        let current = match handed_over {
            Some(roster) => Some(roster),
            None => self.roster(now, &current_settings)?,
        };
        let next = if now == next { current.clone() } else { self.roster(next, &next_settings)? };
        Ok(EpochData {
            epoch,
            cardano_era,
            mithril_era,
            current,
            next,
            current_settings,
            next_settings,
            registration_settings,
            pools: stakes.len() as u64,
            stake: stakes.values().fold(0, |sum: u64, stake| sum.saturating_add(*stake)),
        })
    }

    fn roster(&self, epoch: Epoch, settings: &Settings) -> Result<Option<Arc<Roster>>, EngineError> {
        let signers = self.store.read(|db| epochs::signers(db, epoch))?;
        if signers.is_empty() {
            return Ok(None);
        }
        let roster = Roster::new(signers, &settings.parameters);
        match roster {
            Ok(roster) => Ok(Some(Arc::new(roster))),
            // Nobody can sign then; whoever registers now still can, two epochs from now.
            Err(error) => {
                tracing::error!(epoch = *epoch, %error, "these signers make no roster");
                Ok(None)
            }
        }
    }

    /// What is known of a party before it registers, and whether its key is free.
    pub(super) fn known(
        &self,
        epoch: Epoch,
        party: &str,
        key: &str,
        point: &str,
    ) -> Result<(registration::Known, bool), StoreError> {
        self.store.read(|db| Ok((epochs::known(db, epoch, party, key)?, epochs::is_taken(db, epoch, party, point)?)))
    }
}
