//! Keys in files: Ed25519 and secp256k1, in every form that tmkms, nodes and tools write.
//!
//! | Content | Meaning |
//! |---|---|
//! | base64 of 32 bytes, or 32 bytes | Ed25519 seed, or secp256k1 scalar for an account key |
//! | base64 of 64 bytes | seed and public key, if they belong together (Go); else the expanded key: scalar, prefix (tmkms) |
//! | base64 of 96 bytes | YubiHSM export: byte-reversed scalar, prefix, public key |
//! | `priv_validator_key.json` | seed and public key, or secp256k1 scalar, with its public half |
//!
//! White space around base64 does not count.

use crate::error::{KeyError, KeyErrorKind};
use crate::file;
use crate::locked::Locked;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use semel_guard::{Admitted, Algorithm, PublicKey, SignError, Signature, Signer};
use serde::Deserialize;
use sha2::Sha512;
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest name of a key's type that is repeated in an error.
const TYPE_MAX: usize = 64;

/// Whose names of types are repeated in an error.
const MAKERS: [&str; 2] = ["tendermint/", "cometbft/"];

/// How the configuration says a key is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// One base64 text.
    #[default]
    Base64,
    /// A `priv_validator_key.json`.
    Json,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyType {
    /// Ed25519.
    #[default]
    Consensus,
    /// secp256k1.
    Account,
}

/// Which form was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// 32 bytes.
    Seed,
    /// 64 bytes: seed and public key.
    SeedAndPublic,
    /// 64 bytes: scalar and prefix.
    Expanded,
    /// 96 bytes.
    YubiHsm,
    /// 32 bytes of secp256k1.
    Scalar,
    /// A `priv_validator_key.json`.
    Json,
}

impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seed => "seed",
            Self::SeedAndPublic => "seed and public key",
            Self::Expanded => "expanded key",
            Self::YubiHsm => "YubiHSM export",
            Self::Scalar => "secp256k1 scalar",
            Self::Json => "priv_validator_key.json",
        })
    }
}

enum Secret {
    Ed25519 { expanded: Locked<ExpandedSecretKey>, public: VerifyingKey },
    Secp256k1(Locked<k256::ecdsa::SigningKey>),
}

/// A key in memory. Its public half and its expanded secret are kept, so that a signature costs one multiplication.
pub struct SoftKey {
    secret: Secret,
    public_key: PublicKey,
}

impl fmt::Debug for SoftKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftKey({:?})", self.public_key)
    }
}

impl SoftKey {
    fn ed25519(expanded: ExpandedSecretKey) -> Result<Self, KeyErrorKind> {
        let public = VerifyingKey::from(&expanded);
        let public_key = PublicKey::new(Algorithm::Ed25519, public.as_bytes()).map_err(|_| KeyErrorKind::Invalid)?;
        Ok(Self { secret: Secret::Ed25519 { expanded: Locked::new(expanded), public }, public_key })
    }

    /// From the 32 bytes of an Ed25519 seed, which the caller wipes.
    ///
    /// # Errors
    /// Never for 32 bytes of any kind; the type is that of the other forms.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyErrorKind> {
        Self::ed25519(ExpandedSecretKey::from(seed))
    }

    fn secp256k1(scalar: &[u8]) -> Result<Self, KeyErrorKind> {
        let key = k256::ecdsa::SigningKey::from_slice(scalar).map_err(|_| KeyErrorKind::Invalid)?;
        let point = key.verifying_key().to_encoded_point(true);
        let public_key = PublicKey::new(Algorithm::Secp256k1, point.as_bytes()).map_err(|_| KeyErrorKind::Invalid)?;
        Ok(Self { secret: Secret::Secp256k1(Locked::new(key)), public_key })
    }

    /// The key's public half.
    pub fn public(&self) -> &PublicKey {
        &self.public_key
    }
}

impl Signer for SoftKey {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn provider(&self) -> &str {
        "softsign"
    }

    fn blocks(&self) -> bool {
        false
    }

    fn sign(&self, message: Admitted<'_>) -> Result<Signature, SignError> {
        let failed = |reason: String| SignError { provider: "softsign".into(), reason };
        match &self.secret {
            Secret::Ed25519 { expanded, public } => {
                let signature = raw_sign::<Sha512>(expanded, message.bytes(), public);
                Signature::new(&signature.to_bytes()).map_err(|error| failed(error.to_string()))
            }
            Secret::Secp256k1(key) => {
                use k256::ecdsa::signature::Signer as _;
                let signature: k256::ecdsa::Signature =
                    key.try_sign(message.bytes()).map_err(|error| failed(error.to_string()))?;
                let signature = signature.normalize_s().unwrap_or(signature);
                Signature::new(&signature.to_bytes()).map_err(|error| failed(error.to_string()))
            }
        }
    }
}

/// Reads a key.
pub fn load(path: &Path, form: Form, kind: KeyType) -> Result<(SoftKey, Detected), KeyError> {
    let bytes = file::read(path)?;
    let at = |kind| KeyError::at(path, kind);
    match form {
        Form::Json => parse_json(&bytes).map(|(key, _)| (key, Detected::Json)).map_err(at),
        Form::Base64 => parse_base64(&bytes, kind).map_err(at),
    }
}

fn parse_base64(bytes: &[u8], kind: KeyType) -> Result<(SoftKey, Detected), KeyErrorKind> {
    // A file of exactly 32 bytes is a key without base64, whatever its bytes spell: no base64 text of a key is that short.
    let decoded = match bytes.len() {
        32 => Zeroizing::new(bytes.to_vec()),
        _ if bytes.trim_ascii_start().starts_with(b"{") => {
            return Err(KeyErrorKind::NotAKeyFile("this is JSON: say key_format = \"json\""));
        }
        _ => file::decode(bytes)?,
    };
    let length = decoded.len();
    if kind == KeyType::Account {
        return match length {
            32 => Ok((SoftKey::secp256k1(&decoded)?, Detected::Scalar)),
            _ => Err(KeyErrorKind::Length(length, "a secp256k1 key has 32")),
        };
    }
    let part = |from: usize| decoded.get(from..).and_then(|rest| rest.first_chunk::<32>());
    match (length, part(0), part(32), part(64)) {
        (32, Some(seed), ..) => Ok((SoftKey::from_seed(seed)?, Detected::Seed)),
        (64, Some(first), Some(second), _) => {
            let as_seed = SoftKey::from_seed(first)?;
            if as_seed.public_key.as_bytes() == second {
                return Ok((as_seed, Detected::SeedAndPublic));
            }
            Ok((expanded(first, second)?, Detected::Expanded))
        }
        (96, Some(reversed), Some(prefix), Some(public)) => {
            let mut scalar = Zeroizing::new(*reversed);
            scalar.reverse();
            let key = expanded(&scalar, prefix)?;
            if key.public_key.as_bytes() != public {
                return Err(KeyErrorKind::Mismatch);
            }
            Ok((key, Detected::YubiHsm))
        }
        _ => Err(KeyErrorKind::Length(length, "a key has 32, 64 or 96")),
    }
}

fn expanded(scalar: &[u8; 32], prefix: &[u8; 32]) -> Result<SoftKey, KeyErrorKind> {
    let mut both = Zeroizing::new([0; 64]);
    both.iter_mut().zip(scalar.iter().chain(prefix)).for_each(|(to, from)| *to = *from);
    SoftKey::ed25519(ExpandedSecretKey::from_bytes(&both))
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
    value: Zeroizing<String>,
}

#[derive(Deserialize)]
struct PrivValidatorKey {
    pub_key: Typed,
    priv_key: Typed,
}

/// The key, and its secret as the file has it.
fn parse_json(bytes: &[u8]) -> Result<(SoftKey, Zeroizing<Vec<u8>>), KeyErrorKind> {
    // serde_json's message names a place and a type, never a value of a secret string.
    let file: PrivValidatorKey =
        serde_json::from_slice(bytes).map_err(|error| KeyErrorKind::NotJson(place_of(&error)))?;
    let secret = file::decode(file.priv_key.value.as_bytes())?;
    let public = file::decode(file.pub_key.value.as_bytes())?;
    let key = match file.priv_key.kind.as_str() {
        "tendermint/PrivKeyEd25519" | "cometbft/PrivKeyEd25519" => {
            let seed = secret.first_chunk::<32>().ok_or(KeyErrorKind::Length(secret.len(), "Ed25519 has 64"))?;
            if !matches!(secret.len(), 32 | 64) {
                return Err(KeyErrorKind::Length(secret.len(), "Ed25519 has 64"));
            }
            let key = SoftKey::from_seed(seed)?;
            if secret.len() == 64 && secret.get(32..) != Some(key.public_key.as_bytes()) {
                return Err(KeyErrorKind::Mismatch);
            }
            key
        }
        "tendermint/PrivKeySecp256k1" | "cometbft/PrivKeySecp256k1" => SoftKey::secp256k1(&secret)?,
        other => {
            // A file with mixed up fields may have the secret here.
            let is_name = other.len() <= TYPE_MAX && MAKERS.iter().any(|maker| other.starts_with(maker));
            let shown = if is_name { format!("{other:?}") } else { "another name".into() };
            return Err(KeyErrorKind::NotJson(format!("its type is {shown}, which is not known here")));
        }
    };
    if public.as_slice() != key.public_key.as_bytes() {
        return Err(KeyErrorKind::Mismatch);
    }
    Ok((key, secret))
}

fn place_of(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a field is missing or of another type",
        _ => "a syntax error",
    };
    format!("{what}, line {} column {}", error.line(), error.column())
}

/// Makes a new key in a new file, as base64 of 32 bytes. Returns where an older file was kept.
pub fn generate(path: &Path, kind: KeyType, replace: Option<&str>) -> Result<(PublicKey, Option<PathBuf>), KeyError> {
    let at = |kind| KeyError::at(path, kind);
    loop {
        let mut secret = Zeroizing::new([0; 32]);
        let filled = getrandom::fill(secret.as_mut());
        filled.map_err(|error| KeyError::at(path, std::io::Error::other(error.to_string())))?;
        let key = match kind {
            KeyType::Consensus => SoftKey::from_seed(&secret).map_err(at)?,
            // One number in 2¹²⁸ is no scalar.
            KeyType::Account => match SoftKey::secp256k1(secret.as_ref()) {
                Ok(key) => key,
                Err(_) => continue,
            },
        };
        let text = Zeroizing::new(BASE64.encode(secret.as_ref()));
        let kept = file::write_new(path, text.as_bytes(), replace)?;
        return Ok((key.public_key, kept));
    }
}

/// Writes the Ed25519 key of a `priv_validator_key.json` as base64 of its seed into a new file.
pub fn import(input: &Path, output: &Path, replace: Option<&str>) -> Result<(PublicKey, Option<PathBuf>), KeyError> {
    let bytes = file::read(input)?;
    let at = |kind| KeyError::at(input, kind);
    let (key, secret) = parse_json(&bytes).map_err(at)?;
    // The file made here does not say of which algorithm it is, and would be read as an Ed25519 seed: another key.
    if key.public_key.algorithm() != Algorithm::Ed25519 {
        return Err(at(KeyErrorKind::NotAKeyFile("a secp256k1 key is used as it is: say key_format = \"json\"")));
    }
    let seed = secret.first_chunk::<32>().ok_or_else(|| at(KeyErrorKind::Invalid))?;
    let text = Zeroizing::new(BASE64.encode(seed));
    let kept = file::write_new(output, text.as_bytes(), replace)?;
    Ok((key.public_key, kept))
}

/// Copies a `priv_validator_key.json`, as it is, into a new file.
pub fn copy(input: &Path, output: &Path) -> Result<PublicKey, KeyError> {
    let bytes = file::read(input)?;
    let (key, _) = parse_json(&bytes).map_err(|kind| KeyError::at(input, kind))?;
    file::write_new(output, &bytes, None)?;
    Ok(key.public_key)
}

/// The 32 secret bytes of a key file, for a device to take in.
pub fn secret_of(path: &Path, form: Form) -> Result<(PublicKey, Zeroizing<[u8; 32]>), KeyError> {
    let bytes = file::read(path)?;
    let at = |kind| KeyError::at(path, kind);
    let (public, secret) = match form {
        Form::Json => parse_json(&bytes).map(|(key, secret)| (key.public_key, secret)).map_err(at)?,
        Form::Base64 => {
            let secret =
                if bytes.len() == 32 { Zeroizing::new(bytes.to_vec()) } else { file::decode(&bytes).map_err(at)? };
            let (key, _) = parse_base64(&bytes, KeyType::Consensus).map_err(at)?;
            (key.public_key, secret)
        }
    };
    // Longer forms are seed and public key; an expanded key has no seed that a device could take.
    let is_seed = secret.len() == 32 || secret.get(32..) == Some(public.as_bytes());
    match secret.first_chunk::<32>() {
        Some(seed) if is_seed => Ok((public, Zeroizing::new(*seed))),
        _ => Err(at(KeyErrorKind::Length(secret.len(), "a device takes a seed of 32"))),
    }
}
