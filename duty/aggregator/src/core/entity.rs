//! What can be certified now: signed entity types, their beacons, how long they are open, and where they stand in the guard.

use mithril_common::entities::{
    CardanoDbBeacon, Epoch, SignedEntityConfig, SignedEntityType, SignedEntityTypeDiscriminants, TimePoint,
};
use semel_guard::{Position, SignedEntity};
use std::time::Duration;

/// Epoch of the signers who sign in `epoch`: those registered two epochs earlier, kept under the epoch before.
pub fn signing(epoch: Epoch) -> Epoch {
    epoch.offset_to_signer_retrieval_epoch_saturating()
}

/// Epoch under which the signers are kept who sign in the epoch after `epoch`.
pub fn next_signing(epoch: Epoch) -> Epoch {
    epoch.offset_to_next_signer_retrieval_epoch()
}

/// Epoch under which is kept what is registered in `epoch`: signers, stakes and settings.
pub fn recording(epoch: Epoch) -> Epoch {
    epoch.offset_to_recording_epoch()
}

/// What could be certified at `now`, in the order in which it is worked on. Types whose beacon cannot be told yet are left out:
/// the stake distribution of the epoch before the first.
pub fn certifiable(config: &SignedEntityConfig, now: &TimePoint) -> Vec<SignedEntityType> {
    config
        .list_allowed_signed_entity_types_discriminants()
        .into_iter()
        .filter_map(|kind| config.time_point_to_signed_entity(kind, now).ok())
        .collect()
}

/// How long signatures are taken.
pub fn open_for(entity: &SignedEntityType) -> Duration {
    entity.get_open_message_timeout().unwrap_or(Duration::from_secs(600))
}

/// Where in the guard's order the message for an entity stands: one message per position, once.
pub fn position(entity: &SignedEntityType) -> Position {
    let (kind, epoch, number) = match entity {
        SignedEntityType::MithrilStakeDistribution(epoch) => (SignedEntity::MithrilStakeDistribution, epoch, 0),
        SignedEntityType::CardanoStakeDistribution(epoch) => (SignedEntity::CardanoStakeDistribution, epoch, 0),
        SignedEntityType::CardanoDatabase(beacon) => {
            (SignedEntity::CardanoDatabase, &beacon.epoch, beacon.immutable_file_number)
        }
        SignedEntityType::CardanoTransactions(epoch, block) => (SignedEntity::CardanoTransactions, epoch, **block),
        // The offset is not part of the position: another security parameter is another message for the same block.
        SignedEntityType::CardanoBlocksTransactions(epoch, block, _) => {
            (SignedEntity::CardanoBlocksTransactions, epoch, **block)
        }
    };
    Position::Mithril { entity: kind, epoch: **epoch, number }
}

/// The entity of a kind with the beacon that a database keeps as JSON. None when it is not one.
pub fn from_beacon(kind: SignedEntityTypeDiscriminants, beacon: &str) -> Option<SignedEntityType> {
    use SignedEntityTypeDiscriminants as Kind;
    #[derive(serde::Deserialize)]
    struct Block {
        epoch: Epoch,
        block_number: mithril_common::entities::BlockNumber,
        block_number_offset: Option<mithril_common::entities::BlockNumberOffset>,
    }
    Some(match kind {
        Kind::MithrilStakeDistribution => {
            SignedEntityType::MithrilStakeDistribution(serde_json::from_str(beacon).ok()?)
        }
        Kind::CardanoStakeDistribution => {
            SignedEntityType::CardanoStakeDistribution(serde_json::from_str(beacon).ok()?)
        }
        Kind::CardanoDatabase => {
            SignedEntityType::CardanoDatabase(serde_json::from_str::<CardanoDbBeacon>(beacon).ok()?)
        }
        Kind::CardanoTransactions => {
            let Block { epoch, block_number, .. } = serde_json::from_str(beacon).ok()?;
            SignedEntityType::CardanoTransactions(epoch, block_number)
        }
        Kind::CardanoBlocksTransactions => {
            let Block { epoch, block_number, block_number_offset } = serde_json::from_str(beacon).ok()?;
            SignedEntityType::CardanoBlocksTransactions(epoch, block_number, block_number_offset?)
        }
    })
}
