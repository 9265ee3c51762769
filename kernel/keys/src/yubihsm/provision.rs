//! The passwords and keys of a device, derived from 24 words: the same words give the same device again.
//!
//! HKD32 over 32 bytes of entropy, paths `/1/role/NAME` for passwords and `/1/wrap/0x0001` for the wrap key.

use crate::encoding;
use hkd32::mnemonic::{Language, Phrase};
use hkd32::{KeyMaterial, PathBuf};
use hkdf::Hkdf;
use sha2::Sha512;
use yubihsm::setup::{Profile, Role};
use yubihsm::{AuditOption, Capability, Credentials, Domain, object, wrap};
use zeroize::Zeroizing;

/// Domain separation of the entropy.
const ENTROPY_INFO: &[u8] = b"yubihsm setup BIP39 derivation";

/// Bytes of a derived password, before its encoding.
const PASSWORD_LEN: usize = 16;

/// Authentication keys and their roles, in the order of their numbers.
const ROLES: [&str; 4] = ["admin", "operator", "auditor", "validator"];

/// The number of the wrap key.
pub const WRAP_KEY: u16 = 1;

/// Role, number and password of an authentication key.
pub type Access = (&'static str, u16, Zeroizing<String>);

/// Words that are none, or not 24 of them, or with a wrong checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these are not the 24 words of a YubiHSM setup: a word is unknown, missing, or in another place")]
pub struct BadWords;

/// Everything that a setup puts into a device.
pub struct Provision {
    words: Phrase,
}

impl Provision {
    /// A new one, from the entropy of a device and that of this host.
    pub fn generate(device: &[u8; 32], host: &[u8; 32]) -> Result<Self, BadWords> {
        let mut input = Zeroizing::new([0; 64]);
        input.iter_mut().zip(device.iter().chain(host)).for_each(|(to, from)| *to = *from);
        let mut entropy = Zeroizing::new([0; 32]);
        Hkdf::<Sha512>::new(None, input.as_ref()).expand(ENTROPY_INFO, entropy.as_mut()).map_err(|_| BadWords)?;
        Ok(Self { words: Phrase::from_entropy(*entropy, Language::English) })
    }

    /// From the words of an earlier setup.
    pub fn restore(words: &str) -> Result<Self, BadWords> {
        let words = Zeroizing::new(words.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
        if words.split(' ').count() != 24 {
            return Err(BadWords);
        }
        Phrase::new(words.as_str(), Language::English).map(|words| Self { words }).map_err(|_| BadWords)
    }

    /// The 24 words.
    pub fn words(&self) -> &str {
        self.words.phrase()
    }

    fn derive(&self, path: &str) -> Result<KeyMaterial, BadWords> {
        let path: PathBuf = path.parse().map_err(|_| BadWords)?;
        Ok(KeyMaterial::new(*self.words.entropy()).derive_subkey(path))
    }

    /// Name, number and password of each authentication key.
    pub fn passwords(&self) -> Result<Vec<Access>, BadWords> {
        let mut all = Vec::new();
        for (role, number) in ROLES.into_iter().zip(1..) {
            let password = if role == "admin" {
                Zeroizing::new(self.words().to_owned())
            } else {
                let derived = self.derive(&format!("/1/role/{role}"))?;
                let bytes = derived.as_bytes().get(..PASSWORD_LEN).ok_or(BadWords)?;
                Zeroizing::new(encoding::bech32(&format!("kms-{role}-password-"), bytes).ok_or(BadWords)?)
            };
            all.push((role, number, password));
        }
        Ok(all)
    }

    /// The wrap key, 32 bytes.
    pub fn wrap_key(&self) -> Result<Zeroizing<[u8; 32]>, BadWords> {
        let derived = self.derive(&format!("/1/wrap/{WRAP_KEY:#06x}"))?;
        let bytes = derived.as_bytes().first_chunk::<32>().ok_or(BadWords)?;
        Ok(Zeroizing::new(*bytes))
    }

    /// What the crate's setup does with a device. `time` goes into labels.
    pub fn profile(&self, time: &str) -> Result<Profile, BadWords> {
        let mut roles = Vec::new();
        for (role, number, password) in self.passwords()? {
            let (capabilities, delegated, domains) = rights(role);
            let made = Role::new(Credentials::from_password(number, password.as_bytes()))
                .authentication_key_label(object::Label::from(format!("{role}:{time}").as_str()));
            roles.push(made.capabilities(capabilities).delegated_capabilities(delegated).domains(domains));
        }
        let key = wrap::Key::from_bytes(WRAP_KEY, self.wrap_key()?.as_ref()).map_err(|_| BadWords)?;
        let rights =
            Capability::EXPORT_WRAPPED | Capability::IMPORT_WRAPPED | Capability::UNWRAP_DATA | Capability::WRAP_DATA;
        let key = key.label(object::Label::from(format!("primary:{time}").as_str())).capabilities(rights);
        let key = key.delegated_capabilities(Capability::all()).domains(Domain::all());
        Ok(Profile::new().audit_option(AuditOption::Off).roles(roles).wrap_keys(vec![key]))
    }
}

/// What a role may do, what its objects may, and in which domains.
fn rights(role: &str) -> (Capability, Capability, Domain) {
    match role {
        "admin" => (Capability::all(), Capability::all(), Domain::all()),
        "operator" => (
            Capability::GENERATE_ASYMMETRIC_KEY
                | Capability::PUT_ASYMMETRIC_KEY
                | Capability::GENERATE_HMAC_KEY
                | Capability::PUT_HMAC_KEY
                | Capability::IMPORT_WRAPPED
                | Capability::EXPORT_WRAPPED
                | Capability::GET_OPAQUE
                | Capability::GET_OPTION
                | Capability::GET_LOG_ENTRIES
                | Capability::SIGN_ATTESTATION_CERTIFICATE,
            Capability::all(),
            Domain::all(),
        ),
        "auditor" => (
            Capability::GET_LOG_ENTRIES | Capability::GET_OPTION | Capability::PUT_OPTION | Capability::GET_OPAQUE,
            Capability::empty(),
            Domain::all(),
        ),
        _ => (
            Capability::SIGN_ECDSA
                | Capability::SIGN_EDDSA
                | Capability::SIGN_ATTESTATION_CERTIFICATE
                | Capability::GET_LOG_ENTRIES,
            Capability::empty(),
            Domain::DOM1,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> [u8; 32] {
        std::array::from_fn(|index| index as u8)
    }

    #[test]
    fn keys_are_derived_as_by_hkd32() {
        let rows = [
            ("/1/1", "034ce35b64f71d07cc4c17aa17a00615bbe9dc062d83a20996f685f4636b654e"),
            ("/1/1/2", "eca907266271e6f6c88d88bdbd13c7f8157f5e4b98865e80ddacd9a5c857a2cd"),
        ];
        let provision = Provision { words: Phrase::from_entropy(counting(), Language::English) };
        for (path, expected) in rows {
            assert_eq!(hex::encode(provision.derive(path).unwrap().as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn the_words_give_the_same_passwords_and_wrap_key_again() {
        let first = Provision::generate(&[1; 32], &[2; 32]).unwrap();
        assert_eq!(first.words().split(' ').count(), 24);
        let again = Provision::restore(&format!("  {}\n", first.words().to_uppercase())).unwrap();
        assert_eq!(first.passwords().unwrap(), again.passwords().unwrap());
        assert_eq!(first.wrap_key().unwrap(), again.wrap_key().unwrap());
        let passwords = first.passwords().unwrap();
        assert_eq!(
            passwords.iter().map(|(role, number, _)| (*role, *number)).collect::<Vec<_>>(),
            [("admin", 1), ("operator", 2), ("auditor", 3), ("validator", 4)]
        );
        assert_eq!(passwords[0].2.as_str(), first.words());
        assert!(passwords[3].2.starts_with("kms-validator-password-1"), "{}", passwords[3].2.as_str());
        let other = Provision::generate(&[1; 32], &[3; 32]).unwrap();
        assert_ne!(first.words(), other.words());
    }

    #[test]
    fn words_that_are_wrong_short_or_in_another_order_are_refused() {
        let words = Provision::generate(&[1; 32], &[2; 32]).unwrap().words().to_owned();
        let mut swapped: Vec<&str> = words.split(' ').collect();
        swapped.swap(0, 1);
        for bad in
            ["", "abandon", &words[..words.len() - 10], &words.replacen(' ', " nonsense ", 1), &swapped.join(" ")]
        {
            assert!(Provision::restore(bad).is_err(), "{bad}");
        }
    }
}
