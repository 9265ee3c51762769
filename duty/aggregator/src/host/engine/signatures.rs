//! Taking single signatures.

use super::{Engine, Event, OpenState};
use crate::core::entity;
use crate::core::roster::SignatureRefusal;
use crate::host::store::messages::{self, OpenMessage};
use crate::host::store::{Result, StoreError};
use mithril_common::entities::{SignedEntityType, SignedEntityTypeDiscriminants as Kind, SingleSignature};
use std::sync::{Arc, PoisonError};

/// What became of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureOutcome {
    /// It counts.
    Registered,
    /// It waits for its message.
    Buffered,
}

/// Why a signature was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RegisterSignatureError {
    /// Nobody may sign in this epoch, or no epoch has been entered.
    #[error("no message is open")]
    NoMessage,
    /// The message has its certificate.
    #[error("the message has its certificate already")]
    AlreadyCertified,
    /// Its time is over.
    #[error("the message takes no more signatures")]
    Expired,
    /// The signature does not hold.
    #[error(transparent)]
    Refused(#[from] SignatureRefusal),
    /// Too many wait already.
    #[error("too many signatures wait for their message")]
    Full,
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// Takes a signature over `signed_message` for an entity.
    ///
    /// # Errors
    /// When it does not hold, comes too late, or cannot be kept.
    pub fn register_signature(
        &self,
        entity: &SignedEntityType,
        signed_message: &str,
        signature: &SingleSignature,
    ) -> std::result::Result<SignatureOutcome, RegisterSignatureError> {
        let Some(data) = self.epoch() else { return Err(RegisterSignatureError::NoMessage) };
        let Some(open) = self.open_state(entity) else {
            let rosters = [data.current.as_ref(), data.next.as_ref()];
            let mut refusal = None;
            for roster in rosters.into_iter().flatten() {
                match roster.verify(signed_message, signature) {
                    Ok(_) => return self.buffer(entity, signature),
                    Err(why) => refusal = Some(refusal.unwrap_or(why)),
                }
            }
            return Err(refusal.map_or(RegisterSignatureError::NoMessage, RegisterSignatureError::Refused));
        };
        {
            let signed = open.signed();
            if signed.is_certified {
                return Err(RegisterSignatureError::AlreadyCertified);
            }
            if signed.is_expired {
                return Err(RegisterSignatureError::Expired);
            }
        }
        let roster = data.current.as_ref().ok_or(RegisterSignatureError::NoMessage)?;
        // One check, against what is signed here and not against what the sender says he signed.
        let indexes = roster.verify(&open.hash, signature)?;
        let (id, registered, now) = (open.message.id.clone(), entity::signing(data.epoch), self.now());
        let (kept, counted) = (signature.clone(), indexes.clone());
        self.store.write(move |db| messages::sign(db, &id, registered, &kept, &counted, &now))?;
        if open.count(&signature.party_id, &indexes) {
            self.tell(Event::Look);
        }
        Ok(SignatureOutcome::Registered)
    }

    fn buffer(
        &self,
        entity: &SignedEntityType,
        signature: &SingleSignature,
    ) -> std::result::Result<SignatureOutcome, RegisterSignatureError> {
        let (kind, kept, now) = (Kind::from(entity), signature.clone(), self.now());
        match self.store.write(move |db| messages::buffer(db, kind, &kept, &now))? {
            true => Ok(SignatureOutcome::Buffered),
            false => Err(RegisterSignatureError::Full),
        }
    }

    /// Opens a message: keeps it, then takes the signatures that waited for it. None when its epoch has gone by.
    pub(super) fn open(&self, message: OpenMessage) -> Result<Option<Arc<OpenState>>> {
        let kept = message.clone();
        self.store.write(move |db| messages::open(db, &kept))?;
        let state = {
            // Under this lock, because an epoch that is entered replaces all that is open.
            let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
            let Some(data) = self.epoch().filter(|data| data.epoch == message.epoch) else { return Ok(None) };
            let state = Arc::new(OpenState::new(message, data.current_settings.parameters.k));
            open.insert(super::key(&state.message.entity), Arc::clone(&state));
            state
        };
        self.take_buffered(&state)?;
        Ok(Some(state))
    }

    fn take_buffered(&self, state: &Arc<OpenState>) -> Result<()> {
        let Some(roster) = self.current_roster() else { return Ok(()) };
        let kind = Kind::from(&state.message.entity);
        let waiting = self.store.read(|db| messages::buffered(db, kind))?;
        let registered = entity::signing(state.message.epoch);
        let now = self.now();
        let mut counted = Vec::new();
        let mut done = Vec::new();
        for signature in waiting {
            match roster.verify(&state.hash, &signature) {
                Ok(indexes) => {
                    done.push(signature.party_id.clone());
                    counted.push((signature, indexes));
                }
                // Of a signer of the next epoch, or for another beacon: it may fit later, and is forgotten by its age.
                Err(why) => tracing::debug!(party = signature.party_id, %why, "a signature that waited does not fit"),
            }
        }
        let (id, kept) = (state.message.id.clone(), counted.clone());
        self.store.write(move |db| {
            for (signature, indexes) in &kept {
                messages::sign(db, &id, registered, signature, indexes, &now)?;
            }
            done.iter().try_for_each(|party| messages::unbuffer(db, kind, party))
        })?;
        for (signature, indexes) in &counted {
            state.count(&signature.party_id, indexes);
        }
        Ok(())
    }

    /// Takes the epoch's messages from the database into memory: after a start, the work goes on.
    pub(super) fn load_open(&self, data: &super::EpochData) -> Result<()> {
        let epoch = data.epoch;
        let found = self.store.read(|db| messages::of_epoch(db, epoch))?;
        let mut open = std::collections::BTreeMap::new();
        for message in found {
            let id = message.id.clone();
            let state = OpenState::new(message, data.current_settings.parameters.k);
            for signature in self.store.read(|db| messages::signatures(db, &id))? {
                state.count(&signature.party_id, &signature.won_indexes);
            }
            open.insert(super::key(&state.message.entity), Arc::new(state));
        }
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = open;
        Ok(())
    }
}
