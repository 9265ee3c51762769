//! Keys: the only place where a signature is made.

use crate::{Benign, Digest, Permit, PublicKey};
use std::fmt;

/// Longest signature, in bytes (BLS12-381 in G2).
pub const SIGNATURE_MAX: usize = 96;

/// A signature that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signature has 1 to {SIGNATURE_MAX} bytes, this one has {0}")]
pub struct SignatureError(usize);

/// A signature: 64 bytes for Ed25519, Sr25519 and secp256k1 (r‖s), 96 for BLS12-381. Prints as upper-case hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    len: u8,
    bytes: [u8; SIGNATURE_MAX],
}

impl Signature {
    /// A signature of 1 to [`SIGNATURE_MAX`] bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, SignatureError> {
        let mut fixed = [0; SIGNATURE_MAX];
        match (fixed.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(head), Ok(len)) if len > 0 => {
                head.copy_from_slice(bytes);
                Ok(Self { len, bytes: fixed })
            }
            _ => Err(SignatureError(bytes.len())),
        }
    }

    /// The signature's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02X}"))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A key that did not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{provider}: {reason}")]
pub struct SignError {
    /// Which backend.
    pub provider: String,
    /// What it said.
    pub reason: String,
}

/// Bytes that passed the guard, or that are on the list of [`Benign`] messages. Only this crate makes them.
#[derive(Debug, Clone, Copy)]
pub struct Admitted<'a>(&'a [u8]);

impl Admitted<'_> {
    /// What to sign.
    pub fn bytes(&self) -> &[u8] {
        self.0
    }
}

/// A signing backend: a file key, a device, a service. May block; never reaches the network of the duty itself.
pub trait Signer: Send + Sync {
    /// The key it signs with.
    fn public_key(&self) -> &PublicKey;
    /// Its name in logs and metrics (`softsign`, `yubihsm`).
    fn provider(&self) -> &str;
    /// Whether a signature waits for something else than this processor: a device, a service.
    fn blocks(&self) -> bool {
        true
    }
    /// Signs exactly these bytes.
    fn sign(&self, message: Admitted<'_>) -> Result<Signature, SignError>;
}

/// A key behind the guard.
pub struct Key {
    signer: Box<dyn Signer>,
}

impl Key {
    /// Puts a backend behind the guard.
    pub fn new(signer: Box<dyn Signer>) -> Self {
        Self { signer }
    }

    /// The key's public half.
    pub fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    /// The backend's name.
    pub fn provider(&self) -> &str {
        self.signer.provider()
    }

    /// Whether a signature waits for a device or a service.
    pub fn blocks(&self) -> bool {
        self.signer.blocks()
    }

    /// Makes the one signature that `permit` allows. Refuses bytes with another digest, and a permit of another key.
    pub fn sign(&self, permit: Permit<'_>, bytes: &[u8]) -> Result<Signature, SignError> {
        let reason = if permit.key != self.public_key() {
            "the permit is for another key"
        } else if permit.digest != Digest::of(bytes) {
            "the permit is for another message"
        } else {
            return self.signer.sign(Admitted(bytes));
        };
        Err(SignError { provider: self.provider().into(), reason: reason.into() })
    }

    /// Signs a message that cannot be slashed.
    pub fn sign_benign(&self, message: &Benign<'_>) -> Result<Signature, SignError> {
        self.signer.sign(Admitted(&message.bytes()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {:?})", self.provider(), self.public_key())
    }
}
