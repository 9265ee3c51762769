//! The Ed25519 keys of Mithril: genesis, era markers, ancillary files, protocol configurations.
//!
//! In files and variables they are *JSON-hex*: hex of a JSON list of 32 numbers; the plain hex of the 32 bytes is accepted, too.
//! A secret is read into buffers that are wiped, becomes a key behind the guard, and is written only into new files of mode 0600.

use ed25519_dalek::SigningKey;
use mithril_common::crypto_helper::ed25519::{Ed25519Signature, Ed25519VerificationKey};
use semel_guard::{Benign, Key, SignError};
use semel_keys::softsign::SoftKey;
use semel_keys::{KeyError, KeyErrorKind, write_new};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Longest text of a key, in bytes: 32 numbers of three digits, commas and brackets, twice that in hex, and room for white space.
const TEXT_BYTES_MAX: usize = 4096;

/// Why there is no key or no signature.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The text is no secret key.
    #[error("this is no Ed25519 secret key in JSON-hex")]
    NotAKey,
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] KeyError),
    /// The system gave no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A signature that is none.
    #[error("the key gave a signature of {0} bytes")]
    Signature(usize),
}

/// The 32 secret bytes of a text.
fn seed(text: &str) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let text = text.trim();
    if text.len() > TEXT_BYTES_MAX {
        return Err(KeysError::NotAKey);
    }
    let mut bytes = Zeroizing::new(vec![0; text.len() / 2]);
    hex::decode_to_slice(text, &mut bytes).map_err(|_| KeysError::NotAKey)?;
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(seed) => Ok(Zeroizing::new(seed)),
        // serde_json reads numbers one by one: no copy of them stays behind.
        Err(_) => serde_json::from_slice(&bytes).map(Zeroizing::new).map_err(|_| KeysError::NotAKey),
    }
}

/// A key behind the guard, from its text.
///
/// # Errors
/// The text is no secret key.
pub fn secret_key(text: &str) -> Result<Key, KeysError> {
    let key = SoftKey::from_seed(&*seed(text)?).map_err(|_| KeysError::NotAKey)?;
    Ok(Key::new(Box::new(key)))
}

/// A key behind the guard, from a file.
///
/// # Errors
/// The file cannot be read, or holds no secret key.
pub fn load(path: &Path) -> Result<Key, KeysError> {
    let bytes = semel_keys::read(path)?;
    secret_key(std::str::from_utf8(&bytes).map_err(|_| KeysError::NotAKey)?)
}

/// Signs a message that needs no permit.
///
/// # Errors
/// The key did not sign.
pub fn sign(key: &Key, message: &Benign<'_>) -> Result<Ed25519Signature, KeysError> {
    let signature = key.sign_benign(message)?;
    let bytes = signature.as_bytes();
    let fixed = <[u8; 64]>::try_from(bytes).map_err(|_| KeysError::Signature(bytes.len()))?;
    Ok(ed25519_dalek::Signature::from_bytes(&fixed).into())
}

/// Makes a key pair: `<name>.sk` and `<name>.vk` in a directory that is there. Neither file is written over.
///
/// # Errors
/// A file is there already, or cannot be written.
pub fn generate(directory: &Path, name: &str) -> Result<Ed25519VerificationKey, KeysError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(|error| KeysError::Random(error.to_string()))?;
    let public: Ed25519VerificationKey = SigningKey::from_bytes(&seed).verifying_key().into();
    let (secret_path, public_path) = (directory.join(format!("{name}.sk")), directory.join(format!("{name}.vk")));
    if public_path.exists() {
        return Err(KeyError { path: public_path, kind: KeyErrorKind::Exists }.into());
    }
    let text = json_hex(&seed);
    write_new(&secret_path, text.as_bytes(), None)?;
    let shown = public.to_json_hex().map_err(|_| KeysError::NotAKey)?;
    write_new(&public_path, shown.as_bytes(), None)?;
    let public_mode = std::fs::set_permissions(&public_path, Permissions::from_mode(0o644));
    public_mode.map_err(|error| KeyError { path: public_path, kind: error.into() })?;
    Ok(public)
}

/// The text of a secret key, in one buffer that never grows: what grows leaves copies behind.
fn json_hex(seed: &[u8; 32]) -> Zeroizing<String> {
    let mut list = Zeroizing::new(String::with_capacity(160));
    for (index, byte) in seed.iter().enumerate() {
        list.push(if index == 0 { '[' } else { ',' });
        list.push_str(Zeroizing::new(byte.to_string()).as_str());
    }
    list.push(']');
    let mut text = Zeroizing::new(String::with_capacity(320));
    for digit in list.bytes().flat_map(|byte| [byte >> 4, byte & 0x0f]) {
        text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use mithril_common::crypto_helper::ed25519::{Ed25519SecretKey, Ed25519Signer, Ed25519Verifier};

    #[test]
    fn a_pair_is_what_mithril_reads_and_is_never_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let public = generate(directory.path(), "genesis").unwrap();
        let secret_path = directory.path().join("genesis.sk");
        let text = std::fs::read_to_string(&secret_path).unwrap();
        let theirs = Ed25519SecretKey::from_json_hex(&text).unwrap();
        assert_eq!(Ed25519Signer::from_secret_key(theirs).verification_key(), public);
        let shown = std::fs::read_to_string(directory.path().join("genesis.vk")).unwrap();
        assert_eq!(Ed25519VerificationKey::from_json_hex(&shown).unwrap(), public);
        assert_eq!(std::fs::metadata(&secret_path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(generate(directory.path(), "genesis"), Err(KeysError::File(_))));
        std::fs::remove_file(directory.path().join("genesis.vk")).unwrap();
        assert!(matches!(generate(directory.path(), "genesis"), Err(KeysError::File(_))));
        assert_eq!(std::fs::read_to_string(&secret_path).unwrap(), text);
    }

    #[test]
    fn a_signature_of_the_guard_is_one_that_mithril_verifies() {
        let directory = tempfile::tempdir().unwrap();
        let public = generate(directory.path(), "era").unwrap();
        let key = load(&directory.path().join("era.sk")).unwrap();
        let message = Benign::GenesisMessage(&[7; 32]);
        let signature = sign(&key, &message).unwrap();
        assert!(Ed25519Verifier::from_verification_key(public).verify(&message.bytes(), &signature).is_ok());
    }

    #[test]
    fn both_dialects_of_hex_are_keys_and_nothing_else_is() {
        let plain = "07".repeat(32);
        let list = format!("[{}]", ["7"; 32].join(","));
        let json = hex::encode(&list);
        let keys = [plain.as_str(), json.as_str()].map(|text| secret_key(text).unwrap().public_key().clone());
        assert_eq!(keys[0], keys[1]);
        let short = hex::encode(format!("[{}]", ["7"; 31].join(",")));
        let large = hex::encode(format!("[{}]", ["300"; 32].join(",")));
        for bad in ["", "zz", "5b", "07", short.as_str(), large.as_str(), &"07".repeat(3000)] {
            assert!(matches!(secret_key(bad), Err(KeysError::NotAKey)), "{bad:.20}");
        }
    }
}
