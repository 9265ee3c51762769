//! What can go wrong with an interchange file, each with a stable code and what to do.

use super::{ENTRIES_MAX, FILE_MAX, FORMAT_VERSION, KEYS_MAX, Root};
use semel_guard::{SLOT_FIRST_MAX, SubjectError};

/// An interchange file that cannot be read, imported or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Eip3076Error {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Longer than [`FILE_MAX`].
    #[error("the file has {0} bytes, at most {FILE_MAX} are read")]
    TooLarge(usize),
    /// It ends too early.
    #[error("the file ends in the middle of a value, line {line} column {column}")]
    Truncated {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A syntax error.
    #[error("not JSON: line {line} column {column}")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// JSON, but a field is missing, of another type, or makes no sense.
    #[error("not an interchange file: {0}")]
    Field(String),
    /// Another version of the format.
    #[error("the file has format version {0}, and {FORMAT_VERSION} is read here")]
    Version(String),
    /// More than [`KEYS_MAX`] records.
    #[error("more than {KEYS_MAX} keys in one file")]
    Keys,
    /// More than [`ENTRIES_MAX`] blocks or attestations of one key.
    #[error("more than {ENTRIES_MAX} blocks or attestations of key {0}")]
    Entries(String),
    /// The file of another chain.
    #[error("the file is for the chain with genesis validators root {found}, and this is {expected}")]
    OtherChain {
        /// The root in the file.
        found: Root,
        /// The root of the chain that the ledger protects.
        expected: Root,
    },
    /// A slot or epoch that no chain reaches, and that would close the key for ever.
    #[error("key {key}: {number} is above every slot and epoch that can be ({SLOT_FIRST_MAX})")]
    Unreachable {
        /// The key.
        key: String,
        /// The slot or epoch.
        number: u64,
    },
    /// A key that is no BLS12-381 key.
    #[error("{0}")]
    Subject(#[from] SubjectError),
    /// The ledger did not answer. What it took before stays.
    #[error("key {key}: {why}; {done} floors are raised")]
    Unavailable {
        /// The key.
        key: String,
        /// What the ledger said.
        why: String,
        /// Floors that this import had raised by then.
        done: usize,
    },
}

impl Eip3076Error {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "EIP3076-0001",
            Self::TooLarge(_) => "EIP3076-0002",
            Self::Truncated { .. } => "EIP3076-0003",
            Self::NotJson { .. } => "EIP3076-0004",
            Self::Field(_) => "EIP3076-0005",
            Self::Version(_) => "EIP3076-0006",
            Self::Keys => "EIP3076-0007",
            Self::Entries(_) => "EIP3076-0008",
            Self::OtherChain { .. } => "EIP3076-0009",
            Self::Unreachable { .. } => "EIP3076-0010",
            Self::Subject(_) => "EIP3076-0011",
            Self::Unavailable { .. } => "EIP3076-0012",
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::NotJson { .. } | Self::Field(_) => {
                "name the file that the old validator client exported as slashing protection"
            }
            Self::Truncated { .. } => "export it from the old validator client once more; the copy is not whole",
            Self::TooLarge(_) | Self::Entries(_) => {
                "let the old validator client export a minimal file, or keep only the highest entries of each key"
            }
            Self::Keys => "split the file by keys and import the parts one after the other",
            Self::Version(_) => "export it with a current release of the old validator client",
            Self::OtherChain { .. } => "take the file of this chain; protection of another one is of no use here",
            Self::Unreachable { .. } => {
                "find out who wrote this number; a key that took it as its floor could never sign again"
            }
            Self::Subject(_) => "only BLS12-381 keys of Ethereum validators have an interchange file",
            Self::Unavailable { .. } => {
                "open the ledger for every key of the file, then import it once more: what was raised stays raised"
            }
        }
    }
}
