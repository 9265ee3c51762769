//! How public keys are displayed: `key_format` of `[[chain]]`.
//!
//! | | Ed25519 | secp256k1 |
//! |---|---|---|
//! | bech32 | prefix, `1624DE6420` and 32 bytes of key | prefix, 20 bytes of address |
//! | hex | upper-case hex of 32 bytes | upper-case hex of 33 bytes (compressed) |
//! | cosmos-json | `{"@type":"/cosmos.crypto.ed25519.PubKey","key":"BASE64"}` | the same with `secp256k1` |
//!
//! The address of a secp256k1 key is RIPEMD-160 of SHA-256 of its 33 bytes. Human parts may have colons, and the strings may be
//! longer than the 90 characters of BIP 173.

use super::schema::KeyFormat;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use semel_guard::{Algorithm, PublicKey};
use semel_keys::encoding::{address, amino, bech32};

/// The key as this chain's users know it. A form that a kind of key does not have is hex.
pub fn public_key(format: &KeyFormat, key: &PublicKey) -> String {
    let bytes = key.as_bytes();
    let text = match (format, key.algorithm()) {
        (KeyFormat::Bech32 { consensus_key_prefix, .. }, Algorithm::Ed25519) => {
            bech32(consensus_key_prefix, &amino(key))
        }
        (KeyFormat::Bech32 { account_key_prefix, .. }, Algorithm::Secp256k1) => {
            bech32(account_key_prefix, &address(key))
        }
        (KeyFormat::CosmosJson, Algorithm::Ed25519) => Some(json("ed25519", bytes)),
        (KeyFormat::CosmosJson, Algorithm::Secp256k1) => Some(json("secp256k1", bytes)),
        _ => None,
    };
    text.unwrap_or_else(|| hex::encode_upper(bytes))
}

fn json(kind: &str, key: &[u8]) -> String {
    format!("{{\"@type\":\"/cosmos.crypto.{kind}.PubKey\",\"key\":\"{}\"}}", STANDARD.encode(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bech32_format(account: &str, consensus: &str) -> KeyFormat {
        KeyFormat::Bech32 { account_key_prefix: account.to_owned(), consensus_key_prefix: consensus.to_owned() }
    }

    fn ed25519() -> PublicKey {
        // RFC 8032, test 1.
        let key = hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
        PublicKey::new(Algorithm::Ed25519, &key).unwrap()
    }

    fn secp256k1() -> PublicKey {
        // The generator, which is the public key of the secret 1.
        let key = hex::decode("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap();
        PublicKey::new(Algorithm::Secp256k1, &key).unwrap()
    }

    #[test]
    fn hex_is_upper_case_without_a_prefix() {
        let text = public_key(&KeyFormat::Hex, &ed25519());
        assert_eq!(text, "D75A980182B10AB7D54BFED3C964073A0EE172F3DAA62325AF021A68F707511A");
    }

    #[test]
    fn cosmos_json_is_the_json_of_the_sdk() {
        let value: serde_json::Value = serde_json::from_str(&public_key(&KeyFormat::CosmosJson, &ed25519())).unwrap();
        assert_eq!(value["@type"], "/cosmos.crypto.ed25519.PubKey");
        assert_eq!(value["key"], "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    }

    #[test]
    fn a_consensus_key_in_bech32_has_the_amino_prefix() {
        for prefix in ["cosmosvalconspub", "did:com:valconspub"] {
            let text = public_key(&bech32_format("x", prefix), &ed25519());
            let (hrp, data) = ::bech32::decode(&text).unwrap();
            assert_eq!(hrp.as_str(), prefix);
            assert_eq!(hex::encode_upper(&data[..5]), "1624DE6420");
            assert_eq!(&data[5..], ed25519().as_bytes());
        }
    }

    #[test]
    fn an_account_key_in_bech32_is_its_address() {
        // BIP 173 lists the witness program of this key: 751e76e8199196d454941c45d1b3a323f1433bd6.
        let text = public_key(&bech32_format("did:com:", "x"), &secp256k1());
        let (hrp, data) = ::bech32::decode(&text).unwrap();
        assert_eq!(hrp.as_str(), "did:com:");
        assert_eq!(hex::encode(data), "751e76e8199196d454941c45d1b3a323f1433bd6");
    }

    #[test]
    fn a_long_prefix_is_no_obstacle() {
        let text = public_key(&bech32_format("x", &"p".repeat(83)), &ed25519());
        assert!(text.len() > 90 && text.starts_with("pppp"), "{text}");
    }
}
