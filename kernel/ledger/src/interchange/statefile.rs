//! `priv_validator_state.json`: the last position that a Tendermint signer signed.
//!
//! Three programs write a file of this name, and each numbers the steps in its own way:
//!
//! | Dialect | height | round | step | block | signature |
//! |---|---|---|---|---|---|
//! | tmkms ≥ 0.7 | string | string | 0 proposal, 1 prevote, 2 precommit | `block_id` | – |
//! | tmkms ≤ 0.6 | integer | integer | 3 proposal, 6 any vote | `block_id`, or nothing | – |
//! | CometBFT `FilePV` | string | integer | 1 proposal, 2 prevote, 3 precommit | in `signbytes` | `signature` |
//! | horcrux | string | string | as `FilePV` | in `signbytes` | `signature` |
//!
//! Reading is tolerant of form (numbers or strings, hex in either case, white space and NUL behind the object, keys that are not
//! known) and strict of meaning. Where the step can be read in two ways the later one counts, because a floor that is too
//! high costs a vote and one that is too low costs the stake.
//!
//! [`StateFile::render`] writes any of them. The tmkms dialect has keys of our own in it (`chain_id`, `pub_key`, `sign_bytes`,
//! `signature`), which tmkms does not read.

use super::dialect;
use semel_guard::{Mark, Step};

/// Longest state file, in bytes. tmkms writes about 250, horcrux about 1,000.
pub const STATE_FILE_MAX: usize = 64 * 1024;

/// Highest round that CometBFT can name.
pub const ROUND_MAX: u32 = i32::MAX as u32;

/// Highest height that CometBFT can name.
pub const HEIGHT_MAX: u64 = i64::MAX as u64;

/// Longest message, signature or name inside a state file, in bytes.
pub(super) const FIELD_MAX: usize = 4096;

/// A program's way of writing the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// tmkms.
    #[default]
    Tmkms,
    /// CometBFT's own signer.
    FilePv,
    /// horcrux.
    Horcrux,
}

/// A block's name: header hash and parts. A vote for nil has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockId {
    /// Hash of the header, 0 or 32 bytes.
    pub hash: Vec<u8>,
    /// How many parts.
    pub parts_total: u32,
    /// Root over the parts, 0 or 32 bytes.
    pub parts_hash: Vec<u8>,
}

/// The last position of a signer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateFile {
    /// Height, at most 2⁶³ − 1; 0: nothing was signed.
    pub height: u64,
    /// Round, at most 2³¹ − 1.
    pub round: u32,
    /// Step. None: the file does not say, or nothing was signed.
    pub step: Option<Step>,
    /// What was signed there, where the file says so. None: nil, or not known.
    pub block_id: Option<BlockId>,
    /// The message that was signed.
    pub sign_bytes: Option<Vec<u8>>,
    /// Its signature.
    pub signature: Option<Vec<u8>>,
    /// Chain (a key of our own).
    pub chain_id: Option<String>,
    /// Public key in hex (a key of our own).
    pub pub_key: Option<String>,
    /// Who wrote it.
    pub dialect: Dialect,
    /// What was odd about it.
    pub warnings: Vec<StateWarning>,
}

/// Something odd in a file that was read all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateWarning {
    /// Of an old release.
    #[error("written by tmkms 0.6 or older")]
    OldTmkms,
    /// Step 6 of old releases.
    #[error("the step says only that this was a vote; read as a precommit")]
    AnyVote,
    /// Neither this nor that.
    #[error("the step does not say which one it is; read as the last one of its round")]
    UnclearStep,
}

/// A state file that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateFileError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It ends too early.
    #[error("the file ends in the middle of a value")]
    Truncated,
    /// Something else.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// A key is missing, or its value makes no sense.
    #[error("`{field}` {what}")]
    Field {
        /// The key.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// A number below zero.
    #[error("`{0}` is negative")]
    Negative(&'static str),
    /// A round that no chain has.
    #[error("the round {0} is above 2³¹ − 1")]
    Round(u64),
    /// Longer than any state.
    #[error("the file has {0} bytes, a state has at most {STATE_FILE_MAX}")]
    TooLarge(usize),
    /// The state of somebody else.
    #[error("the state of {found}, and this is {expected}")]
    Foreign {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
}

impl StateFileError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "STATE-0001",
            Self::Truncated => "STATE-0002",
            Self::NotJson(_) => "STATE-0003",
            Self::Field { .. } => "STATE-0004",
            Self::Negative(_) => "STATE-0005",
            Self::Round(_) => "STATE-0006",
            Self::TooLarge(_) => "STATE-0007",
            Self::Foreign { .. } => "STATE-0008",
        }
    }
}

impl StateFile {
    /// Reads any dialect.
    pub fn parse(bytes: &[u8]) -> Result<Self, StateFileError> {
        dialect::parse(bytes)
    }

    /// Refuses the state of another chain or key, where the file says whose it is. `pub_key` in hex, either case.
    pub fn check_owner(&self, chain_id: &str, pub_key: &str) -> Result<(), StateFileError> {
        let foreign = |what: &str, found: &str, expected: &str| {
            Err(StateFileError::Foreign { found: format!("{what} {found}"), expected: format!("{what} {expected}") })
        };
        match (&self.chain_id, &self.pub_key) {
            (Some(found), _) if found != chain_id => foreign("chain", found, chain_id),
            (_, Some(found)) if !found.eq_ignore_ascii_case(pub_key) => foreign("key", found, pub_key),
            _ => Ok(()),
        }
    }

    /// The file in a dialect, without a line end.
    pub fn render(&self, dialect: Dialect) -> String {
        let mut out = Vec::with_capacity(512);
        self.render_into(dialect, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Appends the file in a dialect to `out`.
    pub(super) fn render_into(&self, dialect: Dialect, out: &mut Vec<u8>) {
        dialect::render(self, dialect, out);
    }
}

/// The floor that a state asks for. None: nothing was signed.
///
/// A state without a step closes its whole round. The highest round stands for every round: it closes the whole height.
pub fn floor_of(state: &StateFile) -> Option<Mark> {
    if state.height == 0 {
        return None;
    }
    let step = state.step.unwrap_or(Step::Precommit);
    Some(match state.round {
        ROUND_MAX.. => Mark([state.height.saturating_add(1), 0, 0]),
        round => Mark([state.height, u64::from(round), step as u64]),
    })
}
