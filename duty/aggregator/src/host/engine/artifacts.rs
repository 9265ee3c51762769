//! Making the artifacts of certified entities, from a list that survives an end of the program.

use super::{Engine, EngineError};
use crate::host::store::entities::{self, Artifact, Pending};
use crate::host::store::snark;
use chrono::TimeDelta;
use mithril_common::entities::{
    CardanoBlocksTransactionsSnapshot, CardanoStakeDistribution, CardanoTransactionsSnapshot, MithrilStakeDistribution,
    ProtocolMessagePartKey as Part, SignedEntityType, SignedEntityTypeDiscriminants as Kind,
};

/// Types over blocks of the chain.
pub(super) const BLOCK_KINDS: [Kind; 2] = [Kind::CardanoTransactions, Kind::CardanoBlocksTransactions];
/// Longest wait before an artifact is tried again.
const RETRY_MAX: TimeDelta = TimeDelta::minutes(30);

impl Engine {
    /// What is certified and whose artifact is still to be made, first come first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn pending_artifacts(&self) -> Result<Vec<Pending>, EngineError> {
        Ok(self.store.read(entities::pending)?)
    }

    /// Makes an artifact; a failure is noted, and it is tried again later.
    pub(super) fn make_artifact(&self, pending: &Pending) -> Result<(), EngineError> {
        let made = self.artifact(&pending.entity, &pending.certificate).and_then(|(id, content)| {
            let artifact = Artifact {
                id,
                entity: pending.entity.clone(),
                certificate: pending.certificate.clone(),
                created_at: self.now(),
                content,
            };
            Ok(self.store.write(move |db| entities::insert(db, &artifact))?)
        });
        match made {
            Ok(()) => {
                if let Err(error) = self.prove(&pending.entity, &pending.certificate) {
                    tracing::warn!(entity = %pending.entity, %error, "no proofs are given for it");
                }
                self.changed();
                tracing::info!(entity = %pending.entity, "artifact made");
                Ok(())
            }
            Err(error) => {
                // 1 s, 2 s, 4 s … half an hour.
                let wait = TimeDelta::seconds(1 << pending.attempts.min(11)).min(RETRY_MAX);
                let (entity, until, why) = (pending.entity.clone(), self.now() + wait, error.to_string());
                self.store.write(move |db| entities::postpone(db, &entity, &until, &why))?;
                Err(error)
            }
        }
    }

    /// Whether blocks and transactions are to be certified, and none ever were.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) fn is_first_import(&self) -> Result<bool, EngineError> {
        if !BLOCK_KINDS.iter().any(|kind| self.options.kinds.contains(kind)) {
            return Ok(false);
        }
        for kind in BLOCK_KINDS {
            if !self.store.read(|db| entities::latest(db, kind, 1))?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives proofs for what is certified newest: after a start nobody waits for the next certificate.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn warm_up(&self) -> Result<(), EngineError> {
        for kind in BLOCK_KINDS {
            let Some(newest) = self.store.read(|db| entities::latest(db, kind, 1))?.pop() else { continue };
            if let Err(error) = self.prove(&newest.entity, &newest.certificate) {
                tracing::warn!(entity = %newest.entity, %error, "no proofs are given until the next certificate");
            }
        }
        Ok(())
    }

    fn prove(&self, entity: &SignedEntityType, certificate: &str) -> Result<(), EngineError> {
        let part = match entity {
            SignedEntityType::CardanoTransactions(..) => Part::CardanoTransactionsMerkleRoot,
            SignedEntityType::CardanoBlocksTransactions(..) => Part::CardanoBlocksTransactionsMerkleRoot,
            _ => return Ok(()),
        };
        let root = self.certified_part(certificate, part)?;
        Ok(self.sources.certified(entity, certificate, &root)?)
    }

    fn artifact(&self, entity: &SignedEntityType, certificate: &str) -> Result<(String, String), EngineError> {
        let failed = |why: String| EngineError::Seal { entity: entity.to_string(), why };
        let tagged = |kind: &str, content: serde_json::Result<serde_json::Value>| {
            let mut content = content.map_err(|error| failed(error.to_string()))?;
            if let Some(fields) = content.as_object_mut() {
                fields.insert("type".into(), kind.into());
            }
            Ok::<_, EngineError>(content.to_string())
        };
        Ok(match entity {
            SignedEntityType::MithrilStakeDistribution(epoch) => {
                let signers = self
                    .store
                    .read(|db| crate::host::store::epochs::signers(db, crate::core::entity::next_signing(*epoch)))?;
                let settings = self
                    .store
                    .read(|db| crate::host::store::epochs::settings(db, crate::core::entity::next_signing(*epoch)))?;
                let settings = settings.ok_or_else(|| failed(format!("no settings are kept for epoch {epoch}")))?;
                let made = MithrilStakeDistribution::new(*epoch, signers, &settings.parameters);
                let kept = self.store.read(|db| snark::of_epoch(db, crate::core::entity::next_signing(*epoch)))?;
                let mut content = serde_json::to_value(&made).map_err(|error| failed(error.to_string()))?;
                snark::add_to_signers(content.get_mut("signers_with_stake"), &kept);
                (made.hash, tagged("MithrilStakeDistribution", Ok(content))?)
            }
            SignedEntityType::CardanoStakeDistribution(epoch) => {
                let made = CardanoStakeDistribution::new(*epoch, self.cardano_stakes(*epoch)?);
                (made.hash.clone(), tagged("CardanoStakeDistribution", serde_json::to_value(&made))?)
            }
            SignedEntityType::CardanoDatabase(beacon) => {
                let root = self.certified_part(certificate, Part::CardanoDatabaseMerkleRoot)?;
                let (hash, made) = self.sources.database_artifact(beacon, &root)?;
                (hash, tagged("CardanoDatabaseSnapshot", Ok(made))?)
            }
            SignedEntityType::CardanoTransactions(_, block) => {
                let root = self.certified_part(certificate, Part::CardanoTransactionsMerkleRoot)?;
                let made = CardanoTransactionsSnapshot::new(root, *block);
                (made.hash.clone(), tagged("CardanoTransactionsSnapshot", serde_json::to_value(&made))?)
            }
            SignedEntityType::CardanoBlocksTransactions(_, block, offset) => {
                let root = self.certified_part(certificate, Part::CardanoBlocksTransactionsMerkleRoot)?;
                let made = CardanoBlocksTransactionsSnapshot::new(root, *block, *offset);
                (made.hash.clone(), tagged("CardanoBlocksTransactionsSnapshot", serde_json::to_value(&made))?)
            }
        })
    }

    /// A part of what a certificate certifies: the artifact says what was signed, whatever the files say now.
    fn certified_part(&self, certificate: &str, part: Part) -> Result<String, EngineError> {
        let failed = |why: &str| EngineError::Seal { entity: certificate.to_owned(), why: why.to_owned() };
        let found = self.store.read(|db| crate::host::store::certificates::get(db, certificate))?;
        let found = found.ok_or_else(|| failed("the certificate is missing"))?;
        let value = found.protocol_message.get_message_part(&part).cloned();
        value.ok_or_else(|| failed("the certificate has no such part"))
    }
}
