//! What is to be signed in an epoch, and signing it.

use super::Now;
use super::library::{SharedLibrary, last_complete};
use crate::world::{Shared, Tip};
use mithril_common::crypto_helper::{
    ProtocolAggregateVerificationKeyForConcatenation, ProtocolInitializer, ProtocolKey,
};
use mithril_common::entities::{
    BlockNumber, CardanoDbBeacon, ChainPoint, Epoch, ProtocolMessage, ProtocolMessagePartKey, ProtocolParameters,
    SignedEntityConfig, SignedEntityType, SignedEntityTypeDiscriminants, Signer, SignerWithStake, SingleSignature,
    SlotNumber, StakeDistribution, TimePoint,
};
use mithril_common::messages::{EpochSettingsMessage, ProtocolConfigurationMessage, SignerMessagePart};
use mithril_common::protocol::{SignerBuilder, ToMessage as _};
use mithril_common::signable_builder::CardanoStakeDistributionSignableBuilder;
use mithril_common::{StdError, StdResult};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

/// What an epoch's signatures are made of.
pub(super) struct Work<'a> {
    pub(super) now: &'a Now,
    pub(super) settings: &'a EpochSettingsMessage,
    pub(super) stakes: &'a BTreeMap<Epoch, StakeDistribution>,
    pub(super) library: &'a SharedLibrary,
    pub(super) node: &'a Shared,
    pub(super) immutable: PathBuf,
}

impl Work<'_> {
    /// The configuration that signing goes by: that of the epoch before.
    fn signing(&self) -> &ProtocolConfigurationMessage {
        let [signing, _, _] = &self.now.configurations;
        signing
    }

    /// What is open, by the aggregator's types and the node's tip.
    pub(super) fn open(&self, tip: ChainPoint) -> StdResult<Vec<SignedEntityType>> {
        let signing = self.signing();
        let types = signing.available_signed_entity_types.iter().cloned();
        let config = SignedEntityConfig {
            // Types that this signer does not know are for others.
            allowed_discriminants: types
                .filter_map(|kind| SignedEntityTypeDiscriminants::try_from(kind).ok())
                .collect(),
            cardano_transactions_signing_config: signing.cardano_transactions_signing_config.clone(),
            cardano_blocks_transactions_signing_config: signing.cardano_blocks_transactions_signing_config.clone(),
        };
        let complete = last_complete(&self.immutable)?;
        let time = TimePoint::new(*self.now.epoch, complete.unwrap_or_default(), tip);
        let mut open = config.list_allowed_signed_entity_types(&time)?;
        if complete.is_none() {
            open.retain(|entity| !matches!(entity, SignedEntityType::CardanoDatabase(_)));
        }
        Ok(open)
    }

    /// Signs; none when no lottery is won. With the signature comes what it signs.
    pub(super) fn sign(
        &self,
        party: &str,
        key: &ProtocolInitializer,
        entity: &SignedEntityType,
    ) -> StdResult<Option<(SingleSignature, String)>> {
        let message = self.message(entity)?;
        let recorded = Epoch(self.now.epoch.saturating_sub(1));
        let mut signers = self.settings.current_signers.clone();
        let own = ProtocolKey::new(key.verification_key_for_concatenation()).to_json_hex()?;
        for signer in signers.iter_mut().filter(|signer| signer.party_id == party) {
            if signer.verification_key_for_concatenation != own {
                // A key that was never registered signs among the others as if it had been.
                signer.verification_key_for_concatenation.clone_from(&own);
                let signature = key.verification_key_signature_for_concatenation();
                signer.verification_key_signature_for_concatenation =
                    signature.map(|signature| signature.to_json_hex()).transpose()?;
                signer.kes_evolutions = Some(mithril_common::crypto_helper::KesEvolutions(0));
            }
        }
        let closed = self.close(&signers, &self.signing().protocol_parameters, recorded)?;
        let signer = closed.restore_signer_from_initializer(party.to_owned(), key.clone())?;
        Ok(signer.sign(&message)?.map(|signature| (signature, message.to_message())))
    }

    /// Everything that is signed with an entity, from the node.
    fn message(&self, entity: &SignedEntityType) -> StdResult<ProtocolMessage> {
        let mut message = self.entity_parts(entity)?;
        let [_, next, _] = &self.now.configurations;
        let closed = self.close(&self.settings.next_signers, &next.protocol_parameters, self.now.epoch)?;
        let key = closed.compute_aggregate_verification_key();
        let key: ProtocolAggregateVerificationKeyForConcatenation =
            key.to_concatenation_aggregate_verification_key().to_owned().into();
        let mut set = |part, value| drop(message.set_message_part(part, value));
        set(ProtocolMessagePartKey::NextAggregateVerificationKey, key.to_json_hex()?);
        set(ProtocolMessagePartKey::NextProtocolParameters, next.protocol_parameters.compute_hash());
        set(ProtocolMessagePartKey::CurrentEpoch, self.now.epoch.to_string());
        Ok(message)
    }

    fn entity_parts(&self, entity: &SignedEntityType) -> StdResult<ProtocolMessage> {
        let mut message = ProtocolMessage::new();
        let mut set = |part, value| drop(message.set_message_part(part, value));
        match entity {
            SignedEntityType::MithrilStakeDistribution(_) => {}
            SignedEntityType::CardanoStakeDistribution(epoch) => {
                let stakes = self.stakes_of(epoch.offset_to_cardano_stake_distribution_snapshot_epoch())?;
                let tree = CardanoStakeDistributionSignableBuilder::compute_merkle_tree_from_stake_distribution(
                    stakes.clone(),
                )?;
                set(ProtocolMessagePartKey::CardanoStakeDistributionEpoch, epoch.to_string());
                set(ProtocolMessagePartKey::CardanoStakeDistributionMerkleRoot, tree.compute_root()?.to_hex());
            }
            SignedEntityType::CardanoDatabase(beacon) => {
                let root = self.library.open().database_root(&self.immutable, beacon.immutable_file_number)?;
                set(ProtocolMessagePartKey::CardanoDatabaseMerkleRoot, root);
            }
            SignedEntityType::CardanoTransactions(_, block) => {
                let root = self.library.open().transactions_root(self.node, *block)?;
                set(ProtocolMessagePartKey::CardanoTransactionsMerkleRoot, root);
                set(ProtocolMessagePartKey::LatestBlockNumber, block.to_string());
            }
            SignedEntityType::CardanoBlocksTransactions(_, block, offset) => {
                let root = self.library.open().blocks_root(self.node, *block)?;
                set(ProtocolMessagePartKey::CardanoBlocksTransactionsMerkleRoot, root);
                set(ProtocolMessagePartKey::LatestBlockNumber, block.to_string());
                set(ProtocolMessagePartKey::CardanoBlocksTransactionsBlockNumberOffset, offset.to_string());
            }
        }
        Ok(message)
    }

    fn stakes_of(&self, recorded: Epoch) -> StdResult<&StakeDistribution> {
        self.stakes.get(&recorded).ok_or_else(|| wrong(format!("stakes of epoch {recorded} were never seen")))
    }

    /// The registration of these signers with the stakes that were recorded for an epoch.
    fn close(
        &self,
        signers: &[SignerMessagePart],
        parameters: &ProtocolParameters,
        recorded: Epoch,
    ) -> StdResult<Arc<SignerBuilder>> {
        let stakes = self.stakes_of(recorded)?;
        let mut name = format!("{recorded} {parameters:?}");
        let mut with_stake = Vec::with_capacity(signers.len());
        for signer in signers {
            let stake = stakes.get(&signer.party_id).copied();
            let stake = stake.ok_or_else(|| wrong(format!("{} has no stake", signer.party_id)))?;
            write!(name, " {} {} {stake}", signer.party_id, signer.verification_key_for_concatenation)?;
            with_stake.push((signer, stake));
        }
        self.library.open().registration(name, || {
            let signers = with_stake.into_iter().map(|(signer, stake)| {
                let signer: Signer = signer.clone().try_into()?;
                Ok(SignerWithStake::from_signer(signer, stake))
            });
            SignerBuilder::new(&signers.collect::<StdResult<Vec<_>>>()?, parameters, recorded)
        })
    }
}

/// Which of these keys the aggregator recorded for a party.
pub(super) fn recorded(
    settings: &EpochSettingsMessage,
    party: &str,
    keys: &[ProtocolInitializer],
) -> StdResult<Option<ProtocolInitializer>> {
    let Some(signer) = settings.current_signers.iter().find(|signer| signer.party_id == party) else {
        return Ok(None);
    };
    for key in keys {
        let text = ProtocolKey::new(key.verification_key_for_concatenation()).to_json_hex()?;
        if text == signer.verification_key_for_concatenation {
            return Ok(Some(key.clone()));
        }
    }
    Ok(None)
}

/// A chain point of a tip.
pub(super) fn chain_point(tip: Option<Tip>) -> ChainPoint {
    match tip {
        Some(tip) => ChainPoint::new(SlotNumber(tip.slot), BlockNumber(tip.number), hex::encode(tip.hash)),
        None => ChainPoint::new(SlotNumber(0), BlockNumber(0), ""),
    }
}

/// The same entity one epoch later.
pub(super) fn one_epoch_later(entity: SignedEntityType) -> SignedEntityType {
    match entity {
        SignedEntityType::MithrilStakeDistribution(epoch) => SignedEntityType::MithrilStakeDistribution(epoch.next()),
        SignedEntityType::CardanoStakeDistribution(epoch) => SignedEntityType::CardanoStakeDistribution(epoch.next()),
        SignedEntityType::CardanoDatabase(beacon) => {
            SignedEntityType::CardanoDatabase(CardanoDbBeacon::new(*beacon.epoch + 1, beacon.immutable_file_number))
        }
        SignedEntityType::CardanoTransactions(epoch, block) => {
            SignedEntityType::CardanoTransactions(epoch.next(), block)
        }
        SignedEntityType::CardanoBlocksTransactions(epoch, block, offset) => {
            SignedEntityType::CardanoBlocksTransactions(epoch.next(), block, offset)
        }
    }
}

fn wrong(why: String) -> StdError {
    std::io::Error::other(why).into()
}
