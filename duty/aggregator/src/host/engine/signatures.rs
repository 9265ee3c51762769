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
        if let Some(open) = self.open_state(entity) {
            return self.count_signature(&data, &open, signature);
        }
        // Of another message of this epoch: somebody took it from there, to put it in the place of one that waits.
        if self.open_messages().iter().any(|open| open.hash == signed_message) {
            let why = "it is over another message".to_owned();
            return Err(SignatureRefusal::Invalid(why).into());
        }
        let rosters = [data.current.as_ref(), data.next.as_ref()];
        let mut refusal = None;
        for roster in rosters.into_iter().flatten() {
            match roster.verify(signed_message, signature) {
                Ok(indexes) => {
                    self.buffer(entity, SingleSignature { won_indexes: indexes, ..signature.clone() })?;
                    // Opened meanwhile: then nobody looks at what waits any more.
                    return match self.open_state(entity) {
                        Some(open) => self.count_signature(&data, &open, signature),
                        None => Ok(SignatureOutcome::Buffered),
                    };
                }
                Err(why) => refusal = Some(refusal.unwrap_or(why)),
            }
        }
        Err(refusal.map_or(RegisterSignatureError::NoMessage, RegisterSignatureError::Refused))
    }

    fn count_signature(
        &self,
        data: &super::EpochData,
        open: &Arc<OpenState>,
        signature: &SingleSignature,
    ) -> std::result::Result<SignatureOutcome, RegisterSignatureError> {
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
        let (kept, counting) = (signature.clone(), Arc::clone(open));
        let is_quorum = self.store.write(move |db| {
            messages::sign(db, &id, registered, &kept, &indexes, &now)?;
            // Here, so that of two signatures of one party the one that is kept last is also counted last.
            Ok(counting.count(&kept.party_id, &indexes))
        })?;
        tracing::debug!(entity = %open.message.entity, party = signature.party_id, is_quorum, "a signature counts");
        if is_quorum {
            self.tell(Event::Look);
        }
        Ok(SignatureOutcome::Registered)
    }

    fn buffer(
        &self,
        entity: &SignedEntityType,
        signature: SingleSignature,
    ) -> std::result::Result<(), RegisterSignatureError> {
        let (kind, now) = (Kind::from(entity), self.now());
        match self.store.write(move |db| messages::buffer(db, kind, &signature, &now))? {
            true => Ok(()),
            false => Err(RegisterSignatureError::Full),
        }
    }

    /// Opens a message: keeps it, then takes the signatures that waited for it. None when its epoch has gone by.
    pub(super) fn open(&self, message: OpenMessage) -> Result<Option<Arc<OpenState>>> {
        let message = self.store.write(move |db| messages::open(db, &message))?;
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

    /// Counts the signatures of a message again, as the database has them.
    pub(super) fn recount(&self, open: &OpenState) -> Result<()> {
        let counted = self.store.read(|db| messages::indexes(db, &open.message.id))?;
        open.restart();
        for (party, indexes) in &counted {
            open.count(party, indexes);
        }
        Ok(())
    }

    /// The epoch's messages from the database: after a start, the work goes on.
    pub(super) fn read_open(
        &self,
        data: &super::EpochData,
    ) -> Result<std::collections::BTreeMap<String, Arc<OpenState>>> {
        let epoch = data.epoch;
        let found = self.store.read(|db| messages::of_epoch(db, epoch))?;
        let mut open = std::collections::BTreeMap::new();
        for message in found {
            let is_done = message.is_certified || message.is_expired;
            let state = OpenState::new(message, data.current_settings.parameters.k);
            if !is_done {
                self.recount(&state)?;
            }
            open.insert(super::key(&state.message.entity), Arc::new(state));
        }
        Ok(open)
    }
}
