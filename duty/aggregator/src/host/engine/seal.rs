//! Making certificates: aggregate, admit, build, verify, commit.

use super::{Engine, EngineError, OpenState};
use crate::core::certificates::{self, Parts};
use crate::core::seal::{self, Right};
use crate::core::{entity, message};
use crate::host::store::{certificates as rows, entities, messages};
use chrono::{DateTime, Utc};
use mithril_common::crypto_helper::{GenesisEd25519Signature, ProtocolMultiSignature};
use mithril_common::entities::{Certificate, Epoch, SignedEntityType, SingleSignature, StakeDistributionParty};
use std::collections::HashSet;

/// A signature of many over a message.
#[derive(Debug)]
pub(super) struct Aggregated {
    signature: ProtocolMultiSignature,
    signers: Vec<StakeDistributionParty>,
    sealed_at: DateTime<Utc>,
}

impl Engine {
    /// Makes one signature of those that are there. Takes a second or two with thousands of signers.
    pub(super) fn aggregate(&self, open: &OpenState) -> Result<Aggregated, EngineError> {
        let failed = |why: String| EngineError::Seal { entity: open.message.entity.to_string(), why };
        let roster = self.current_roster().ok_or_else(|| failed("nobody may sign in this epoch".into()))?;
        let id = open.message.id.clone();
        // Where they are written: the one that completed the quorum was counted before its commit.
        let signatures: Vec<SingleSignature> = self.store.write(move |db| messages::signatures(db, &id))?;
        let signature = match roster.aggregate(&open.hash, &signatures) {
            Ok(signature) => signature,
            Err(why) => {
                // What was counted in memory may be ahead of a commit that failed.
                self.recount(open)?;
                return Err(failed(why.to_string()));
            }
        };
        let signed: HashSet<_> = signatures.iter().map(|signature| &signature.party_id).collect();
        let signers = roster
            .signers()
            .iter()
            .filter(|signer| signed.contains(&signer.party_id))
            .map(|signer| StakeDistributionParty { party_id: signer.party_id.clone(), stake: signer.stake })
            .collect();
        Ok(Aggregated { signature, signers, sealed_at: self.now() })
    }

    /// Makes the certificate and commits it with everything that follows from it; admitted by the guard first.
    pub(super) fn seal(&self, open: &OpenState, aggregated: Aggregated) -> Result<Certificate, EngineError> {
        let entity = &open.message.entity;
        let failed = |why: String| EngineError::Seal { entity: entity.to_string(), why };
        let sealed = seal::seal(&self.guard, &self.subject, entity, &open.hash, |right| {
            self.make(right, open, aggregated).map_err(|error| error.to_string())
        });
        let hash = hex::encode(sealed.map_err(|error| failed(error.to_string()))?.hash);
        let certificate = self.store.read(|db| rows::get(db, &hash))?;
        let certificate = certificate.ok_or_else(|| {
            failed(format!(
                "the ledger knows its certificate {hash}, and the database does not: it is older than the ledger"
            ))
        })?;
        open.signed().end(|signed| signed.is_certified = true);
        self.note_chain(&certificate);
        self.changed();
        tracing::info!(entity = %entity, hash, "certificate sealed");
        Ok(certificate)
    }

    fn make(&self, right: Right<'_>, open: &OpenState, aggregated: Aggregated) -> Result<[u8; 32], EngineError> {
        let message = &open.message;
        let entity = &message.entity;
        let failed = |why: String| EngineError::Seal { entity: entity.to_string(), why };
        // An earlier end of this program may have come after the commit and before the ledger heard of it.
        if let Some(made) = self.store.read(|db| rows::of_entity(db, entity, message.epoch))? {
            return hash_bytes(&made.hash).ok_or_else(|| failed("its hash is none".into()));
        }
        let roster = self.current_roster().ok_or_else(|| failed("nobody may sign in this epoch".into()))?;
        let parent = self.store.read(|db| rows::master(db, message.epoch))?;
        let parent = parent.ok_or_else(|| failed("there is no certificate to continue".into()))?;
        let parts = Parts {
            previous_hash: parent.hash.clone(),
            epoch: message.epoch,
            network: self.options.network.clone(),
            parameters: roster.parameters().clone(),
            initiated_at: message.created_at,
            sealed_at: aggregated.sealed_at,
            signers: aggregated.signers,
            message: message.message.clone(),
            key: roster.key().clone(),
        };
        let certificate = certificates::build(right, parts, entity.clone(), aggregated.signature)
            .map_err(|error| failed(error.to_string()))?;
        certificates::verify_alone(&certificate).map_err(|flaw| failed(flaw.to_string()))?;
        certificates::verify_link(&certificate, &parent).map_err(|flaw| failed(flaw.to_string()))?;
        let hash = hash_bytes(&certificate.hash).ok_or_else(|| failed("its hash is none".into()))?;
        let (entity, now) = (entity.clone(), self.now());
        self.store.write(move |db| {
            rows::insert(db, &certificate)?;
            messages::certified(db, &entity)?;
            entities::enqueue(db, &entity, &certificate.hash, &now)
        })?;
        Ok(hash)
    }

    /// The message of a genesis certificate for the current epoch.
    ///
    /// # Errors
    /// When nobody is registered to sign in the next epoch.
    pub fn genesis_message(&self) -> Result<(Epoch, mithril_common::entities::ProtocolMessage), EngineError> {
        let (data, next) = self.genesis_data()?;
        Ok((data.epoch, message::genesis(data.epoch, &next)))
    }

    fn genesis_data(
        &self,
    ) -> Result<(std::sync::Arc<super::EpochData>, std::sync::Arc<crate::core::roster::Roster>), EngineError> {
        let failed = |why: &str| EngineError::Seal { entity: "genesis".into(), why: why.into() };
        let data = self.epoch().ok_or_else(|| failed("no epoch has been entered"))?;
        let next = data.next.clone().ok_or_else(|| failed("nobody is registered to sign in the next epoch"))?;
        // A chain begins with these keys.
        next.check().map_err(|error| failed(&error.to_string()))?;
        Ok((data, next))
    }

    /// Makes and keeps a genesis certificate over [`Self::genesis_message`].
    ///
    /// # Errors
    /// When the signature does not hold, another genesis was made for this epoch, or it cannot be kept.
    pub fn seal_genesis(&self, signature: GenesisEd25519Signature) -> Result<Certificate, EngineError> {
        let (data, next) = self.genesis_data()?;
        let entity = SignedEntityType::genesis(data.epoch);
        let failed = |why: String| EngineError::Seal { entity: "genesis".into(), why };
        let message = message::genesis(data.epoch, &next);
        let hash = message.compute_hash();
        self.options
            .genesis
            .verify(hash.as_bytes(), &signature)
            .map_err(|error| failed(format!("the signature is not of the genesis key: {error:#}")))?;
        let now = self.now();
        let sealed = seal::seal(&self.guard, &self.subject, &entity, &hash, |right| {
            let known = self.store.read(rows::latest_genesis).map_err(|error| error.to_string())?;
            if let Some(known) = known.filter(|known| known.signed_message == hash) {
                return hash_bytes(&known.hash).ok_or_else(|| "its hash is none".to_owned());
            }
            let parts = Parts {
                previous_hash: String::new(),
                epoch: data.epoch,
                network: self.options.network.clone(),
                parameters: next.parameters().clone(),
                initiated_at: now,
                sealed_at: now,
                signers: Vec::new(),
                message,
                key: next.key().clone(),
            };
            let certificate =
                certificates::build_genesis(right, parts, signature).map_err(|error| error.to_string())?;
            certificates::verify_genesis(&certificate, &self.options.genesis).map_err(|flaw| flaw.to_string())?;
            let bytes = hash_bytes(&certificate.hash).ok_or_else(|| "its hash is none".to_owned())?;
            self.store.write(move |db| rows::insert(db, &certificate)).map_err(|error| error.to_string())?;
            Ok(bytes)
        });
        let hash = hex::encode(sealed.map_err(|error| failed(error.to_string()))?.hash);
        let certificate = self.store.read(|db| rows::get(db, &hash))?;
        let certificate = certificate.filter(Certificate::is_genesis);
        let certificate = certificate.ok_or_else(|| {
            failed(format!(
                "{hash} was certified for this epoch and is no genesis certificate: wait for the next epoch"
            ))
        })?;
        self.load_chain()?;
        self.changed();
        Ok(certificate)
    }

    /// Looks at the newest certificates, and verifies the chain from the newest one back to its genesis.
    ///
    /// # Errors
    /// When the database does not answer. A chain that does not hold is no error; it blocks.
    pub fn load_chain(&self) -> Result<(), EngineError> {
        let genesis = self.store.read(rows::latest_genesis)?;
        let newest = self.store.read(|db| rows::latest(db, 1))?.pop();
        let holds = match &newest {
            Some(newest) => match self.verify_chain(newest.clone())? {
                Ok(()) => true,
                Err(why) => {
                    tracing::error!(why, "the chain of certificates does not hold");
                    false
                }
            },
            None => false,
        };
        let chain = crate::core::runtime::Chain {
            genesis: genesis.map(|certificate| certificate.epoch),
            newest: newest.map(|certificate| certificate.epoch),
            holds,
        };
        *self.chain.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = chain;
        Ok(())
    }

    fn verify_chain(&self, newest: Certificate) -> Result<Result<(), String>, EngineError> {
        let mut current = newest;
        loop {
            let flawed = |flaw: certificates::Flaw| Ok(Err(format!("certificate {}: {flaw}", current.hash)));
            if current.is_genesis() {
                return match certificates::verify_genesis(&current, &self.options.genesis) {
                    Ok(()) => Ok(Ok(())),
                    Err(flaw) => flawed(flaw),
                };
            }
            if let Err(flaw) = certificates::verify_alone(&current) {
                return flawed(flaw);
            }
            let Some(previous) = self.store.read(|db| rows::get(db, &current.previous_hash))? else {
                return Ok(Err(format!("certificate {} is missing", current.previous_hash)));
            };
            if let Err(flaw) = certificates::verify_link(&current, &previous) {
                return flawed(flaw);
            }
            current = previous;
        }
    }

    fn note_chain(&self, certificate: &Certificate) {
        let mut chain = self.chain.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        chain.newest = chain.newest.max(Some(certificate.epoch));
    }
}

fn hash_bytes(hash: &str) -> Option<[u8; 32]> {
    hex::decode(hash).ok()?.try_into().ok()
}

/// The content of an entity that the database alone can tell.
impl Engine {
    pub(super) fn content(&self, entity: &SignedEntityType) -> Result<message::Content, EngineError> {
        use message::Content;
        Ok(match entity {
            SignedEntityType::MithrilStakeDistribution(_) => Content::MithrilStakeDistribution,
            SignedEntityType::CardanoStakeDistribution(epoch) => {
                let stakes = self.cardano_stakes(*epoch)?;
                let root = message::stakes_root(&stakes);
                let missing = || super::SourceError::NotYet(format!("the stakes of epoch {epoch} are not known"));
                Content::CardanoStakeDistribution { epoch: *epoch, root: root.ok_or_else(missing)? }
            }
            SignedEntityType::CardanoDatabase(beacon) => {
                Content::CardanoDatabase { root: self.sources.database_root(beacon)? }
            }
            SignedEntityType::CardanoTransactions(_, block) => {
                Content::CardanoTransactions { root: self.sources.transactions_root(*block)?, block: *block }
            }
            SignedEntityType::CardanoBlocksTransactions(_, block, offset) => Content::CardanoBlocksTransactions {
                root: self.sources.blocks_transactions_root(*block)?,
                block: *block,
                offset: *offset,
            },
        })
    }

    /// The stakes that a Cardano stake distribution of an epoch is over.
    pub(super) fn cardano_stakes(
        &self,
        epoch: Epoch,
    ) -> Result<mithril_common::entities::StakeDistribution, EngineError> {
        let kept = epoch.offset_to_cardano_stake_distribution_snapshot_epoch();
        let stakes = self.store.read(|db| crate::host::store::epochs::stakes(db, kept))?;
        if stakes.is_empty() {
            return Err(super::SourceError::NotYet(format!("the stakes of epoch {epoch} are not known")).into());
        }
        Ok(stakes)
    }

    /// The message that is opened for an entity now.
    pub(super) fn draft(
        &self,
        data: &super::EpochData,
        entity: &SignedEntityType,
    ) -> Result<messages::OpenMessage, EngineError> {
        let failed = |why: &str| EngineError::Seal { entity: entity.to_string(), why: why.into() };
        let next = data.next.as_ref().ok_or_else(|| failed("nobody is registered to sign in the next epoch"))?;
        let content = self.content(entity)?;
        let created_at = self.now();
        let open_for = chrono::TimeDelta::from_std(entity::open_for(entity)).unwrap_or_default();
        Ok(messages::OpenMessage {
            id: uuid::Uuid::new_v4().to_string(),
            epoch: data.epoch,
            entity: entity.clone(),
            message: message::message(data.epoch, next, &content),
            is_certified: false,
            is_expired: false,
            created_at,
            expires_at: Some(created_at + open_for),
        })
    }
}
