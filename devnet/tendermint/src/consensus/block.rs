//! Blocks, their ids, and commits.
//!
//! A block id is the SHA-256 of the block's encoding plus a part-set header of one part, so ids differ for every height, round,
//! proposer, time or payload. Heights start at 1, rounds at 0; times are Unix seconds and nanoseconds.

use sha2::{Digest as _, Sha256};
use std::{fmt, sync::Arc, time::Duration};

/// Largest payload of one block, in bytes.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// Height of a block; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Height(pub u64);

impl Height {
    /// The first height of a chain.
    pub const FIRST: Self = Self(1);

    /// The height after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The height before this one; 0 before the first.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Round of a height; the first is 0. At most `i32::MAX` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Round(pub u32);

impl Round {
    /// The round after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment: Unix seconds and nanoseconds (0 to 999,999,999), as the wire has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since the Unix epoch.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

impl Time {
    /// The moment `since_epoch` after the Unix epoch.
    pub fn from_epoch(since_epoch: Duration) -> Self {
        Self { seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX), nanos: since_epoch.subsec_nanos() }
    }
}

/// Names a block: its hash and the header of its part set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// SHA-256 of the block's encoding.
    pub hash: [u8; 32],
    /// Number of parts.
    pub parts_total: u32,
    /// Hash of the part set.
    pub parts_hash: [u8; 32],
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash.iter().take(5).try_for_each(|b| write!(f, "{b:02X}"))
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One validator's precommit inside a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSignature {
    /// Index of the validator.
    pub validator: u32,
    /// Time that the validator signed.
    pub time: Time,
    /// Ed25519 signature of the precommit.
    pub signature: [u8; 64],
}

/// The precommits that decided a block. One per validator at most, ordered by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Height that was decided.
    pub height: Height,
    /// Round in which it was decided.
    pub round: Round,
    /// The decided block.
    pub block: BlockId,
    /// The precommits for it.
    pub signatures: Vec<CommitSignature>,
}

impl Commit {
    fn hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.height.0.to_be_bytes());
        hasher.update(self.round.0.to_be_bytes());
        hasher.update(self.block.hash);
        for entry in &self.signatures {
            hasher.update(entry.validator.to_be_bytes());
            hasher.update(entry.time.seconds.to_be_bytes());
            hasher.update(entry.time.nanos.to_be_bytes());
            hasher.update(entry.signature);
        }
        hasher.finalize().into()
    }

    /// Whether `validator` signed this commit.
    pub fn has(&self, validator: u32) -> bool {
        self.signatures.iter().any(|entry| entry.validator == validator)
    }
}

/// A block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its height.
    pub height: Height,
    /// The round in which it was first proposed.
    pub round: Round,
    /// Index of the validator that made it.
    pub proposer: u32,
    /// When it was made.
    pub time: Time,
    /// The block before; `None` at height 1.
    pub previous: Option<BlockId>,
    /// The commit of the block before; `None` at height 1.
    pub last_commit: Option<Commit>,
    /// At most [`PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// A block shared between messages, stores and threads.
pub type SharedBlock = Arc<Block>;

impl Block {
    /// The block's id: SHA-256 over every field, the commit by its hash.
    pub fn id(&self) -> BlockId {
        let mut hasher = Sha256::new();
        hasher.update(b"devnet block");
        hasher.update(self.height.0.to_be_bytes());
        hasher.update(self.round.0.to_be_bytes());
        hasher.update(self.proposer.to_be_bytes());
        hasher.update(self.time.seconds.to_be_bytes());
        hasher.update(self.time.nanos.to_be_bytes());
        hasher.update(self.previous.map_or([0; 32], |id| id.hash));
        hasher.update(self.last_commit.as_ref().map_or([0; 32], Commit::hash));
        hasher.update(Sha256::digest(&self.payload));
        let hash: [u8; 32] = hasher.finalize().into();
        let mut parts = Sha256::new();
        parts.update(b"devnet part");
        parts.update(hash);
        BlockId { hash, parts_total: 1, parts_hash: parts.finalize().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_block_changes_its_id() {
        let block = Block {
            height: Height(3),
            round: Round(0),
            proposer: 1,
            time: Time { seconds: 5, nanos: 6 },
            previous: None,
            last_commit: None,
            payload: b"p".to_vec(),
        };
        let commit = Commit { height: Height(2), round: Round(0), block: block.id(), signatures: Vec::new() };
        let variants = [
            Block { height: Height(4), ..block.clone() },
            Block { round: Round(1), ..block.clone() },
            Block { proposer: 2, ..block.clone() },
            Block { time: Time { seconds: 5, nanos: 7 }, ..block.clone() },
            Block { previous: Some(block.id()), ..block.clone() },
            Block { last_commit: Some(commit), ..block.clone() },
            Block { payload: Vec::new(), ..block.clone() },
        ];
        let mut ids: Vec<_> = variants.iter().chain([&block]).map(Block::id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 8);
    }
}
