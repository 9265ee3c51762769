//! Bounded decoders and encoders of what nodes and signers say to each other.
//!
//! Two families: *amino* (Tendermint v0.33 and older) and *protobuf* (v0.34 and newer). No panic, no allocation beyond what
//! the bytes themselves hold, whatever the bytes.

mod delimited;
mod message;
pub(crate) mod proto;
pub(crate) mod types;

pub use delimited::{Delimited, DelimitedError};
pub use message::{ErrorReply, REPLY_MAX, Request, Response, family_of};
pub use proto::WireError;
pub use types::{BlockId, HASH_LEN, PartSetHeader, Proposal, SignedType, Timestamp, Vote};

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Tendermint v0.33 and older.
    Amino,
    /// Tendermint v0.34, CometBFT.
    Protobuf,
}
