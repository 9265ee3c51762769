//! Names of peers on `noise://`: an Ed25519 key as libp2p writes it.
//!
//! The name holds the whole key: a multihash of the identity kind (00 24) over the key's message (08 01 12 20 and 32 bytes), in
//! base58 with the alphabet of Bitcoin. It always begins with `12D3KooW`.

use std::fmt;
use std::str::FromStr;

/// What comes before the 32 bytes of a key in its message: {1: 1 (Ed25519), 2: 32 bytes}.
pub(super) const KEY_HEAD: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// What comes before the key's message in a name: identity, 36 bytes.
const HASH_HEAD: [u8; 2] = [0x00, 0x24];

/// Bytes of a name before base58.
const BYTES: usize = HASH_HEAD.len() + KEY_HEAD.len() + 32;

/// Longest name that is looked at, in bytes. That of an Ed25519 key has 52.
const TEXT_MAX: usize = 128;

/// The name of a peer with an Ed25519 key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId([u8; 32]);

/// A text that is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerIdError {
    /// Not base58.
    #[error("it is not base58")]
    NotBase58,
    /// A hash of a key, as of RSA, from which the key cannot be told.
    #[error("it does not hold an Ed25519 key")]
    OtherKey,
}

impl PeerId {
    /// The name of this key.
    pub const fn of(public_key: [u8; 32]) -> Self {
        Self(public_key)
    }

    /// The key.
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        if text.is_empty() || text.len() > TEXT_MAX {
            return Err(PeerIdError::NotBase58);
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| PeerIdError::NotBase58)?;
        let key = bytes.strip_prefix(&HASH_HEAD).and_then(|message| message.strip_prefix(&KEY_HEAD));
        key.and_then(|key| key.try_into().ok()).map(Self).ok_or(PeerIdError::OtherKey)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&HASH_HEAD);
        bytes.extend_from_slice(&KEY_HEAD);
        bytes.extend_from_slice(&self.0);
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
