//! The node's side of the remote signer protocol: a listener, and the one signer it has accepted.
//!
//! Follows CometBFT's `privval` package: the node listens, the signer dials; TCP is encrypted by a SecretConnection, a unix socket is
//! not; requests go strictly one at a time; a message has [`MESSAGE_DEADLINE`]; a ping follows [`PING_INTERVAL`] without
//! a request. Every field of an answer is compared and every signature verified.
//!
//! [`Remote`] is blocking and reuses its buffers: one write per message, no allocation for requests.

pub mod attended;
pub mod fields;
pub mod listener;
pub mod messages;
pub mod remote;
mod secret;
pub mod socket;

pub use attended::{RemoteSigner, in_one_line};
pub use listener::{AcceptError, Listen, Listener, ListenerConfig};
pub use messages::{ANSWER_MAX, SignerError, SignerKey};
pub use remote::{Remote, RemoteError};

use crate::consensus::Encoding;
use std::time::Duration;

/// How long reading or writing one message may take (CometBFT: 5 s).
pub const MESSAGE_DEADLINE: Duration = Duration::from_secs(5);
/// A ping follows this long after the last successful request (two thirds of the deadline).
pub const PING_INTERVAL: Duration = Duration::from_millis(3_333);
/// How often a request is tried when the connection fails (CometBFT since v0.34: 50 times).
pub const RETRIES_MAX: u32 = 50;
/// Time between two tries.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Which nodes' protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// v0.32 and older: amino messages, challenge from the key derivation.
    Legacy,
    /// v0.33: amino messages, challenge from the transcript.
    V033,
    /// v0.34 to v0.37: protobuf messages.
    V034,
    /// v0.38 and later: protobuf messages, vote extensions if enabled.
    V038,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Legacy, Self::V033, Self::V034, Self::V038];

    /// How messages and sign bytes are encoded.
    pub const fn encoding(self) -> Encoding {
        match self {
            Self::Legacy | Self::V033 => Encoding::Amino,
            Self::V034 | Self::V038 => Encoding::Protobuf,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy",
            Self::V033 => "v0.33",
            Self::V034 => "v0.34",
            Self::V038 => "v0.38",
        })
    }
}
