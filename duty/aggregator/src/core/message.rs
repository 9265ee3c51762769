//! What the signers of an epoch have to sign: parts, in Mithril's order, and the hash of them.
//!
//! Every message names the keys and parameters of the next epoch, and the epoch; what else is in it depends on what is
//! certified. What signers sign is the *text* of the hash: 64 lower-case hex digits, as ASCII.

use crate::core::roster::Roster;
use mithril_common::crypto_helper::{MKTree, MKTreeNode, MKTreeStoreInMemory};
use mithril_common::entities::{
    BlockNumber, BlockNumberOffset, Epoch, ProtocolMessage, ProtocolMessagePartKey as Part, StakeDistribution,
};

/// What a kind of entity adds to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing: the keys and parameters of the next epoch are the content.
    MithrilStakeDistribution,
    /// Stakes of an epoch.
    CardanoStakeDistribution {
        /// The epoch.
        epoch: Epoch,
        /// Root over `pool id ‖ stake`, in hex.
        root: String,
    },
    /// Immutable files.
    CardanoDatabase {
        /// Root over the files' digests, in hex.
        root: String,
    },
    /// Transactions.
    CardanoTransactions {
        /// Root over ranges of blocks, in hex.
        root: String,
        /// The last block.
        block: BlockNumber,
    },
    /// Blocks and transactions.
    CardanoBlocksTransactions {
        /// Root over ranges of blocks, in hex.
        root: String,
        /// The last block.
        block: BlockNumber,
        /// Blocks between it and the tip that were left out.
        offset: BlockNumberOffset,
    },
}

/// The message for `content` at `epoch`, which hands over to `next`.
pub fn message(epoch: Epoch, next: &Roster, content: &Content) -> ProtocolMessage {
    let mut message = genesis(epoch, next);
    let mut set = |part, value: String| {
        message.set_message_part(part, value);
    };
    match content {
        Content::MithrilStakeDistribution => {}
        Content::CardanoStakeDistribution { epoch, root } => {
            set(Part::CardanoStakeDistributionEpoch, epoch.to_string());
            set(Part::CardanoStakeDistributionMerkleRoot, root.clone());
        }
        Content::CardanoDatabase { root } => set(Part::CardanoDatabaseMerkleRoot, root.clone()),
        Content::CardanoTransactions { root, block } => {
            set(Part::CardanoTransactionsMerkleRoot, root.clone());
            set(Part::LatestBlockNumber, block.to_string());
        }
        Content::CardanoBlocksTransactions { root, block, offset } => {
            set(Part::CardanoBlocksTransactionsMerkleRoot, root.clone());
            set(Part::LatestBlockNumber, block.to_string());
            set(Part::CardanoBlocksTransactionsBlockNumberOffset, offset.to_string());
        }
    }
    message
}

/// The message of a genesis certificate: who signs in the next epoch, and under which parameters.
pub fn genesis(epoch: Epoch, next: &Roster) -> ProtocolMessage {
    let mut message = ProtocolMessage::new();
    message.set_message_part(Part::NextAggregateVerificationKey, next.key_text().to_owned());
    message.set_message_part(Part::NextProtocolParameters, next.parameters().compute_hash());
    message.set_message_part(Part::CurrentEpoch, epoch.to_string());
    message
}

/// Root over stakes: leaves are `pool id ‖ stake in decimal`, ordered by pool. None when there are no stakes.
pub fn stakes_root(stakes: &StakeDistribution) -> Option<String> {
    let leaves: Vec<MKTreeNode> =
        stakes.iter().map(|(pool, stake)| MKTreeNode::new(format!("{pool}{stake}").into_bytes())).collect();
    let tree = MKTree::<MKTreeStoreInMemory>::new(&leaves).ok()?;
    Some(tree.compute_root().ok()?.to_hex())
}
