//! The identity of a connection: an Ed25519 key that signs what handshakes ask for and nothing else.

use crate::error::{KeyError, KeyErrorKind};
use crate::file;
use crate::locked::Locked;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// See the module.
pub struct Identity(Locked<SigningKey>);

impl Identity {
    /// From a file with the base64 of 32 bytes, or with 32 bytes.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let bytes = file::read(path)?;
        let seed = match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(raw) => Zeroizing::new(raw),
            Err(_) => {
                let decoded = file::decode(&bytes).map_err(|kind| KeyError::at(path, kind))?;
                let wrong = KeyErrorKind::Length(decoded.len(), "an identity has 32");
                Zeroizing::new(decoded.as_slice().try_into().map_err(|_| KeyError::at(path, wrong))?)
            }
        };
        Ok(Self(Locked::new(SigningKey::from_bytes(&seed))))
    }

    /// A new one, in a new file. Returns where an older file was kept.
    pub fn generate(path: &Path, replace: Option<&str>) -> Result<(Self, Option<PathBuf>), KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|error| KeyError::at(path, std::io::Error::other(error.to_string())))?;
        let text = Zeroizing::new(BASE64.encode(seed.as_ref()));
        let kept = file::write_new(path, text.as_bytes(), replace)?;
        Ok((Self(Locked::new(SigningKey::from_bytes(&seed))), kept))
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs the challenge of a handshake.
    pub fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64] {
        self.0.sign(challenge).to_bytes()
    }

    /// Signs the static key of a Noise handshake, behind libp2p's prefix for it.
    pub fn sign_static_key(&self, key: &[u8; 32]) -> [u8; 64] {
        self.0.sign(&[b"noise-libp2p-static-key:".as_slice(), key].concat()).to_bytes()
    }

    /// Lower-case hex of the first 20 bytes of the SHA-256 of the key.
    pub fn node_id(&self) -> String {
        hex::encode(Sha256::digest(self.public_key())).chars().take(40).collect()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.node_id())
    }
}
