//! Every form in which a key may lie in a file, and what the keys of known answers sign.

mod scene;

use k256::ecdsa::signature::Verifier as _;
use scene::{Known, Place, RFC_8032, SECP256K1, base64, expanded, go_key, node_file, sign, unhex, yubihsm_export};
use semel_guard::{Algorithm, PublicKey};
use semel_keys::encoding;
use semel_keys::identity::Identity;
use semel_keys::softsign::{Detected, Form, KeyType, generate, import, load};

fn seed((secret, ..): Known) -> Vec<u8> {
    unhex(secret)
}

#[test]
fn every_form_of_an_ed25519_key_is_read_as_the_same_key_and_signs_the_same() {
    let place = Place::new();
    for known in RFC_8032 {
        let (_, public, message, signature) = known;
        let (public, message) = (unhex(public), unhex(message));
        let json = |maker: &str, secret: &[u8]| node_file(maker, "Ed25519", &public, secret).into_bytes();
        let rows: [(&str, Vec<u8>, Form, Detected); 8] = [
            ("base64 of the seed", base64(&seed(known)).into(), Form::Base64, Detected::Seed),
            ("the seed itself", seed(known), Form::Base64, Detected::Seed),
            ("Go", base64(&go_key(known)).into(), Form::Base64, Detected::SeedAndPublic),
            ("expanded", base64(&expanded(&seed(known))).into(), Form::Base64, Detected::Expanded),
            ("YubiHSM export", base64(&yubihsm_export(known)).into(), Form::Base64, Detected::YubiHsm),
            ("Tendermint's file", json("tendermint", &go_key(known)), Form::Json, Detected::Json),
            ("CometBFT's file", json("cometbft", &go_key(known)), Form::Json, Detected::Json),
            ("a file with the seed alone", json("tendermint", &seed(known)), Form::Json, Detected::Json),
        ];
        for (name, content, form, expected) in rows {
            let path = place.file("key", content);
            let (key, detected) =
                load(&path, form, KeyType::Consensus).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(detected, expected, "{name}");
            assert_eq!(key.public().algorithm(), Algorithm::Ed25519, "{name}");
            assert_eq!(key.public().as_bytes(), public, "{name}");
            // The guard admits no empty message, so of the first answer only the key is compared.
            if !message.is_empty() {
                assert_eq!(hex::encode(sign(key, &message)), signature, "{name}");
            }
        }
    }
}

#[test]
fn every_form_of_a_secp256k1_key_signs_r_and_low_s() {
    let place = Place::new();
    for known in SECP256K1 {
        let (_, public, message, signature) = known;
        let json = |maker| node_file(maker, "Secp256k1", &unhex(public), &seed(known)).into_bytes();
        let rows: [(&str, Vec<u8>, Form, KeyType, Detected); 4] = [
            ("base64", base64(&seed(known)).into(), Form::Base64, KeyType::Account, Detected::Scalar),
            ("the scalar itself", seed(known), Form::Base64, KeyType::Account, Detected::Scalar),
            ("Tendermint's file", json("tendermint"), Form::Json, KeyType::Consensus, Detected::Json),
            ("CometBFT's file", json("cometbft"), Form::Json, KeyType::Consensus, Detected::Json),
        ];
        for (name, content, form, kind, expected) in rows {
            let path = place.file("key", content);
            let (key, detected) = load(&path, form, kind).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(detected, expected, "{name}");
            assert_eq!(key.public().algorithm(), Algorithm::Secp256k1, "{name}");
            assert_eq!(hex::encode(key.public().as_bytes()), public, "{name}");
            assert_eq!(hex::encode(sign(key, &unhex(message))), signature, "{name}");
        }
    }
}

#[test]
fn signatures_of_new_secp256k1_keys_verify_and_have_a_low_s() {
    let place = Place::new();
    for n in 0..32 {
        let path = place.path(&format!("key-{n}"));
        let (public, _) = generate(&path, KeyType::Account, None).unwrap();
        let (key, _) = load(&path, Form::Base64, KeyType::Account).unwrap();
        assert_eq!(key.public(), &public);
        let message = format!("message {n}");
        let signature = k256::ecdsa::Signature::from_slice(&sign(key, message.as_bytes())).unwrap();
        assert!(signature.normalize_s().is_none(), "a high s");
        let verifying = k256::ecdsa::VerifyingKey::from_sec1_bytes(public.as_bytes()).unwrap();
        verifying.verify(message.as_bytes(), &signature).unwrap();
        assert!(verifying.verify(b"another message", &signature).is_err());
    }
}

#[test]
fn signatures_of_new_ed25519_keys_verify() {
    let place = Place::new();
    let path = place.path("key");
    let (public, kept) = generate(&path, KeyType::Consensus, None).unwrap();
    assert_eq!(kept, None);
    let (key, detected) = load(&path, Form::Base64, KeyType::Consensus).unwrap();
    assert_eq!((key.public(), detected), (&public, Detected::Seed));
    let verifying = ed25519_dalek::VerifyingKey::from_bytes(public.as_bytes().try_into().unwrap()).unwrap();
    let signature = ed25519_dalek::Signature::from_slice(&sign(key, b"message")).unwrap();
    verifying.verify_strict(b"message", &signature).unwrap();
    assert!(verifying.verify_strict(b"another message", &signature).is_err());
}

#[test]
fn two_new_keys_differ() {
    let place = Place::new();
    for kind in [KeyType::Consensus, KeyType::Account] {
        let key = |name: &str| generate(&place.path(&format!("{name}-{kind:?}")), kind, None).unwrap().0;
        assert_ne!(key("a"), key("b"));
    }
}

#[test]
fn white_space_around_base64_does_not_count() {
    let place = Place::new();
    let known = RFC_8032[1];
    for (before, after) in [("", "\n"), ("", "\r\n"), ("", "\n\n"), ("", " \t\n"), ("\n ", ""), ("", "")] {
        for (secret, kind) in [(seed(known), KeyType::Consensus), (seed(SECP256K1[0]), KeyType::Account)] {
            let path = place.file("key", format!("{before}{}{after}", base64(&secret)));
            load(&path, Form::Base64, kind).unwrap_or_else(|error| panic!("{before:?} {after:?}: {error}"));
        }
        let path = place.file(
            "key",
            format!("{before}{}{after}", node_file("tendermint", "Ed25519", &unhex(known.1), &go_key(known))),
        );
        load(&path, Form::Json, KeyType::Consensus).unwrap();
        let path = place.file("key", format!("{before}{}{after}", base64(&seed(known))));
        assert_eq!(hex::encode(Identity::load(&path).unwrap().public_key()), known.1);
    }
}

#[test]
fn thirty_two_raw_bytes_are_a_key_whatever_they_spell() {
    let place = Place::new();
    for first in [b'{', b' ', b'\n', 0, 0xff, b'A'] {
        let mut raw = seed(RFC_8032[0]);
        raw[0] = first;
        let path = place.file("key", &raw);
        let (key, detected) = load(&path, Form::Base64, KeyType::Consensus).unwrap();
        let expected = ed25519_dalek::SigningKey::from_bytes(raw.as_slice().try_into().unwrap()).verifying_key();
        assert_eq!((key.public().as_bytes(), detected), (expected.as_bytes().as_slice(), Detected::Seed));
        assert_eq!(&Identity::load(&path).unwrap().public_key(), expected.as_bytes());
    }
}

#[test]
fn sixty_four_bytes_are_seed_and_public_key_only_where_the_two_belong_together() {
    let place = Place::new();
    let mut bytes = go_key(RFC_8032[1]);
    let load_it = |bytes: &[u8]| load(&place.file("key", base64(bytes)), Form::Base64, KeyType::Consensus).unwrap();
    let (key, detected) = load_it(&bytes);
    assert_eq!((hex::encode(key.public().as_bytes()).as_str(), detected), (RFC_8032[1].1, Detected::SeedAndPublic));
    bytes[63] ^= 1;
    let (key, detected) = load_it(&bytes);
    assert_eq!(detected, Detected::Expanded);
    assert_ne!(hex::encode(key.public().as_bytes()), RFC_8032[1].1);
}

#[test]
fn an_imported_key_is_the_base64_of_its_seed() {
    let place = Place::new();
    for (number, known) in RFC_8032.into_iter().enumerate() {
        let input = place.file("node.json", node_file("tendermint", "Ed25519", &unhex(known.1), &go_key(known)));
        let output = place.path(&format!("key-{number}"));
        let (public, kept) = import(&input, &output, None).unwrap();
        assert_eq!((hex::encode(public.as_bytes()).as_str(), kept), (known.1, None));
        assert_eq!(std::fs::read_to_string(&output).unwrap(), base64(&seed(known)));
        assert_eq!(load(&output, Form::Base64, KeyType::Consensus).unwrap().0.public(), &public);
    }
}

#[test]
fn an_identity_signs_challenges_and_has_the_node_id_of_its_key() {
    let place = Place::new();
    let known = RFC_8032[2];
    let identity = Identity::load(&place.file("secret", base64(&seed(known)))).unwrap();
    assert_eq!(hex::encode(identity.public_key()), known.1);
    let id = <sha2::Sha256 as sha2::Digest>::digest(unhex(known.1));
    assert_eq!(identity.node_id(), hex::encode(&id[..20]));
    let signature = ed25519_dalek::Signature::from_bytes(&identity.sign_challenge(&[7; 32]));
    let verifying = ed25519_dalek::VerifyingKey::from_bytes(&identity.public_key()).unwrap();
    verifying.verify_strict(&[7; 32], &signature).unwrap();
    let (made, kept) = Identity::generate(&place.path("new"), None).unwrap();
    assert_eq!(kept, None);
    assert_eq!(Identity::load(&place.path("new")).unwrap().public_key(), made.public_key());
}

#[test]
fn public_keys_are_named_as_the_field_names_them() {
    let ed25519 = PublicKey::new(Algorithm::Ed25519, &unhex(RFC_8032[0].1)).unwrap();
    let secp256k1 = PublicKey::new(Algorithm::Secp256k1, &unhex(SECP256K1[0].1)).unwrap();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(ed25519.as_bytes());
    assert_eq!(encoding::address(&ed25519), hash[..20]);
    // The point of the scalar 1 in BIP 173.
    assert_eq!(hex::encode(encoding::address(&secp256k1)), "751e76e8199196d454941c45d1b3a323f1433bd6");
    let rows = [
        (&ed25519, format!("1624de6420{}", RFC_8032[0].1), "cosmosvalconspub1zcjduepq"),
        (&secp256k1, format!("eb5ae98721{}", SECP256K1[0].1), "cosmosvalconspub1addwnpepq"),
    ];
    for (key, amino, text) in rows {
        assert_eq!(hex::encode(encoding::amino(key)), amino);
        let bech32 = encoding::bech32("cosmosvalconspub", &encoding::amino(key)).unwrap();
        assert!(bech32.starts_with(text), "{bech32}");
    }
    assert_eq!(encoding::bech32("a", &[]).as_deref(), Some("a12uel5l"));
    let long = "x".repeat(83);
    assert!(encoding::bech32(&long, &encoding::amino(&ed25519)).unwrap().len() > 90);
    assert_eq!(encoding::bech32("", &[]), None);
}
