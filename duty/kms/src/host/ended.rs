//! Why connections end: in words for the log, in one word for metrics.

use crate::core::noise::NoiseError;
use crate::core::peer_id::PeerId;
use crate::core::secret::SecretError;
use crate::wire::{DelimitedError, WireError};
use std::io;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the node closed the connection")]
    Closed,
    #[error(
        "the node closed the connection within the handshake: it has a signer already, or does not speak the \
         protocol_version that is configured"
    )]
    ClosedEarly,
    #[error("no message for {0} s, not even a ping")]
    Silent(u64),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("handshake failed: {0}")]
    Handshake(#[source] SecretError),
    #[error("the connection cannot go on: {0}")]
    Secret(#[source] SecretError),
    #[error("handshake failed: {0}")]
    NoiseHandshake(#[source] NoiseError),
    #[error("the connection cannot go on: {0}")]
    Noise(#[source] NoiseError),
    #[error(
        "the node closed the connection right after the handshake: is the peer id of this signer, {0}, the one in its \
         priv_validator_laddr?"
    )]
    NotWelcome(PeerId),
    #[error("expected peer {expected}, found {found}")]
    WrongPeer { expected: String, found: String },
    #[error("an encrypted connection needs a secret_key")]
    NoIdentity,
    #[error("undecodable request: {0}")]
    Wire(#[from] WireError),
    #[error("undecodable request: {0}")]
    Delimited(#[from] DelimitedError),
}

impl Ended {
    /// One word, for metric labels.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Silent(_) => "silent",
            Self::Io(_) => "io",
            Self::ClosedEarly | Self::Handshake(_) | Self::NoiseHandshake(_) | Self::NotWelcome(_) => "handshake",
            Self::Secret(_) | Self::Noise(_) => "frame",
            Self::WrongPeer { .. } => "wrong_peer",
            Self::NoIdentity => "no_identity",
            Self::Wire(_) | Self::Delimited(_) => "undecodable",
        }
    }

    /// The same for a connection whose node was never known.
    pub(crate) fn handshake_label(&self) -> &'static str {
        match self {
            Self::Closed | Self::ClosedEarly => "closed",
            Self::Handshake(error) | Self::Secret(error) => match error {
                SecretError::NotSecretConnection(_) => "not_secret_connection",
                SecretError::Variant { .. } => "protocol_version",
                SecretError::LowOrder => "low_order",
                SecretError::Identity | SecretError::Signature => "identity",
                SecretError::Frame | SecretError::FrameLength(_) | SecretError::NonceOverflow => "frame",
            },
            Self::NoiseHandshake(error) | Self::Noise(error) => match error {
                NoiseError::HandshakeLength(_) | NoiseError::Handshake => "not_noise",
                NoiseError::Identity | NoiseError::Signature => "identity",
                NoiseError::WrongPeer { .. } => "wrong_peer",
                NoiseError::Frame | NoiseError::Ended | NoiseError::Setup(_) => "frame",
            },
            other => other.label(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::meters::{ENDS, HANDSHAKES};
    use super::*;
    use crate::core::secret::Variant;

    #[test]
    fn every_end_has_a_counter_of_its_own() {
        let variant = SecretError::Variant { expected: Variant::V034, found: Variant::V033 };
        let secret = [
            SecretError::NotSecretConnection("x".into()),
            variant,
            SecretError::LowOrder,
            SecretError::Frame,
            SecretError::FrameLength(9),
            SecretError::Identity,
            SecretError::Signature,
            SecretError::NonceOverflow,
        ];
        let ends = [
            Ended::Closed,
            Ended::ClosedEarly,
            Ended::Silent(5),
            Ended::Io(io::Error::other("x")),
            Ended::Secret(SecretError::Frame),
            Ended::WrongPeer { expected: "a".into(), found: "b".into() },
            Ended::NoIdentity,
            Ended::Wire(WireError::NotAMessage),
        ];
        for ended in ends.iter() {
            assert!(ENDS.contains(&ended.label()), "{ended}");
        }
        // What a message that does not decode counts as needs a node that is known.
        for ended in secret.into_iter().map(Ended::Handshake).chain(ends.into_iter().take(7)) {
            assert!(HANDSHAKES.contains(&ended.handshake_label()), "{ended}");
            assert!(ENDS.contains(&ended.label()), "{ended}");
        }
    }
}
