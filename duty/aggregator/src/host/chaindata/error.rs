//! Why chain data cannot be read, grown or proven.

use crate::core::merkle::MerkleError;
use crate::host::chain::ChainError;
use mithril_common::entities::BlockNumber;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ChainDataError {
    /// A file cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the file.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another process has the directory open.
    #[error("the chain data in {0} are open in another process")]
    Locked(String),
    /// Our own files are not what was written. Deleting the directory and importing again mends it.
    #[error("the chain data are damaged ({file}: {why}); delete their directory to import them again")]
    Damaged {
        /// Which file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The directory was written by a newer version.
    #[error("the chain data have format {found}; this version knows {known}")]
    Newer {
        /// Format of the directory.
        found: u32,
        /// Newest format that this version knows.
        known: u32,
    },
    /// An immutable file of the node cannot be used.
    #[error("immutable file {file}: {why}")]
    Immutable {
        /// Name of the file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A block cannot be parsed, and that is not allowed.
    #[error("a block cannot be parsed ({place}): {why}")]
    Unparsable {
        /// Where the block was found.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// A block that does not follow the one before it.
    #[error("block {number} does not follow the chain: {why}")]
    NotNext {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The chain goes back below what is certified: it is not the chain that was certified.
    #[error("the chain goes back to {}, below block {certified} that is certified", to.map_or("its origin".to_owned(), |to| format!("block {to}")))]
    BelowCertified {
        /// Block that would be the last; none: the origin.
        to: Option<BlockNumber>,
        /// Highest certified block.
        certified: BlockNumber,
    },
    /// The chain goes back to a block that is not the one we have in that slot.
    #[error("the chain goes back to slot {slot}, where another block is known")]
    OtherBlock {
        /// The slot.
        slot: u64,
    },
    /// The certificate is about another chain.
    #[error("the root at block {block} is {ours}, not {certified} as certified")]
    OtherRoot {
        /// The certified block.
        block: BlockNumber,
        /// Root that the certificate has.
        certified: String,
        /// Root that we have.
        ours: String,
    },
    /// The blocks are not here yet.
    #[error("block {wanted} is not imported yet; the highest is {}", highest.map_or("none".to_owned(), |highest| highest.to_string()))]
    NotYet {
        /// Block that is needed.
        wanted: BlockNumber,
        /// Highest block here.
        highest: Option<BlockNumber>,
    },
    /// More hashes than one proof may have.
    #[error("{asked} hashes in one proof; at most {most}")]
    TooMany {
        /// How many were asked for.
        asked: usize,
        /// How many may be.
        most: usize,
    },
    /// Whoever follows the progress said stop. What was imported stays.
    #[error("stopped")]
    Stopped,
    /// The chain did not answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// There is no root or proof.
    #[error(transparent)]
    Merkle(#[from] MerkleError),
}

impl ChainDataError {
    /// Makes an error of what the system said.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Our file is not what was written.
    pub(super) fn damaged(file: &str, why: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), why: why.into() }
    }
}
