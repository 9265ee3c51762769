//! Who signs, and for which chain: the two things a ledger is keyed by.

use std::fmt;

/// Longest chain identifier, in bytes. Tendermint allows 50; a genesis root in hex takes 66.
pub const CHAIN_ID_MAX: usize = 128;

/// Longest public key, in bytes (a compressed BLS12-381 key has 48, an uncompressed one 96).
const PUBLIC_KEY_MAX: usize = 96;

/// A public key or chain identifier that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The key has a length that its algorithm does not know.
    #[error("{algorithm} public keys have {expected} bytes, this one has {found}")]
    KeyLength {
        /// The algorithm that was named.
        algorithm: Algorithm,
        /// Bytes such a key has.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// The chain identifier is empty or too long.
    #[error("a chain id has 1 to {CHAIN_ID_MAX} bytes, this one has {0}")]
    ChainLength(usize),
    /// The chain identifier holds a control character.
    #[error("a chain id holds no control characters")]
    ChainCharacter,
}

/// Signature algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032): Tendermint consensus keys.
    Ed25519 = 1,
    /// ECDSA over secp256k1 with SHA-256, 64 bytes r‖s, low s.
    Secp256k1 = 2,
    /// BLS12-381, public keys in G1: Ethereum validators.
    Bls12381 = 3,
    /// Schnorr over Ristretto: Substrate session keys.
    Sr25519 = 4,
}

impl Algorithm {
    /// Bytes of a public key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Ed25519 | Self::Sr25519 => 32,
            Self::Secp256k1 => 33,
            Self::Bls12381 => 48,
        }
    }

    /// The algorithm with this name, as it prints.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Ed25519, Self::Secp256k1, Self::Bls12381, Self::Sr25519].into_iter().find(|one| one.to_string() == name)
    }

    /// The algorithm with this number in a ledger record.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Ed25519),
            2 => Some(Self::Secp256k1),
            3 => Some(Self::Bls12381),
            4 => Some(Self::Sr25519),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "ed25519",
            Self::Secp256k1 => "secp256k1",
            Self::Bls12381 => "bls12-381",
            Self::Sr25519 => "sr25519",
        })
    }
}

/// A public key with its algorithm. Prints as upper-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    algorithm: Algorithm,
    len: u8,
    bytes: [u8; PUBLIC_KEY_MAX],
}

impl PublicKey {
    /// A key of `algorithm`; the bytes are compressed points. The point itself is not checked.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, SubjectError> {
        let expected = algorithm.key_len();
        let mut fixed = [0; PUBLIC_KEY_MAX];
        match (bytes.len() == expected, fixed.get_mut(..expected), u8::try_from(expected)) {
            (true, Some(head), Ok(len)) => {
                head.copy_from_slice(bytes);
                Ok(Self { algorithm, len, bytes: fixed })
            }
            _ => Err(SubjectError::KeyLength { algorithm, expected, found: bytes.len() }),
        }
    }

    /// The key's algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02X}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.algorithm)
    }
}

/// A chain's name inside what is signed: a Tendermint chain id, a genesis validators root, a Cardano network, a genesis hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(Box<str>);

impl ChainId {
    /// 1 to [`CHAIN_ID_MAX`] bytes without control characters.
    pub fn new(id: &str) -> Result<Self, SubjectError> {
        if id.is_empty() || id.len() > CHAIN_ID_MAX {
            return Err(SubjectError::ChainLength(id.len()));
        }
        if id.chars().any(char::is_control) {
            return Err(SubjectError::ChainCharacter);
        }
        Ok(Self(id.into()))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key on a chain: what a ledger remembers by, never a path or the name of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The key that signs.
    pub key: PublicKey,
    /// The chain it signs for.
    pub chain: ChainId,
}
