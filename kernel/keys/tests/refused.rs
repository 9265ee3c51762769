//! Files that are no key: each is refused under its code, with what is wrong and what to do.
#![expect(clippy::panic, reason = "a test may stop")]

mod scene;

use rustix::fs::{CWD, FileType, Mode};
use scene::{Known, Place, RFC_8032, SECP256K1, base64, expanded, go_key, node_file, unhex, yubihsm_export};
use semel_keys::identity::Identity;
use semel_keys::softsign::{Form, KeyType, import, load};
use semel_keys::{KeyError, KeyErrorKind};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

const KNOWN: Known = RFC_8032[1];

/// The order of secp256k1's group: the smallest number that is no scalar.
const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

fn refused<T>(name: &str, path: &Path, result: Result<T, KeyError>, code: &str) -> KeyError {
    let error = result.err().unwrap_or_else(|| panic!("{name}: was read"));
    assert_eq!(error.code(), code, "{name}: {error}");
    assert_eq!(error.path, path, "{name}");
    assert!(error.to_string().starts_with(&path.display().to_string()), "{name}: {error}");
    assert!(!error.hint().is_empty(), "{name}");
    error
}

#[test]
fn every_kind_of_error_has_a_code_of_its_own_and_a_hint() {
    let rows = [
        (KeyErrorKind::Io(io::Error::from(io::ErrorKind::NotFound)), "KEY-0001"),
        (KeyErrorKind::Empty, "KEY-0002"),
        (KeyErrorKind::NotAKeyFile("a directory"), "KEY-0003"),
        (KeyErrorKind::NotBase64, "KEY-0004"),
        (KeyErrorKind::Length(31, "a key has 32"), "KEY-0005"),
        (KeyErrorKind::NotJson("no".into()), "KEY-0006"),
        (KeyErrorKind::Mismatch, "KEY-0007"),
        (KeyErrorKind::Invalid, "KEY-0008"),
        (KeyErrorKind::Exists, "KEY-0009"),
    ];
    for (kind, code) in rows {
        let error = KeyError { path: "/etc/key".into(), kind };
        assert_eq!(error.code(), code);
        assert!(!error.hint().is_empty() && error.to_string().starts_with("/etc/key: "), "{error}");
    }
}

#[test]
fn the_hint_of_a_failed_read_or_write_is_about_what_failed() {
    let rows = [
        (io::ErrorKind::NotFound, "softsign keygen"),
        (io::ErrorKind::PermissionDenied, "0600"),
        (io::ErrorKind::NotADirectory, "directory"),
        (io::ErrorKind::StorageFull, "disk"),
    ];
    for (kind, words) in rows {
        let error = KeyError { path: "key".into(), kind: KeyErrorKind::Io(kind.into()) };
        assert!(error.hint().contains(words), "{kind:?}: {}", error.hint());
    }
}

#[test]
fn base64_that_is_no_key_is_refused() {
    let place = Place::new();
    let seed = base64(&unhex(KNOWN.0));
    let (consensus, account) = (KeyType::Consensus, KeyType::Account);
    let mut foreign = yubihsm_export(KNOWN);
    foreign[95] ^= 1;
    let unreversed = [expanded(&unhex(KNOWN.0)).to_vec(), unhex(KNOWN.1)].concat();
    let length = |len: usize| base64(&vec![7; len]).into_bytes();
    let mut rows: Vec<(String, Vec<u8>, KeyType, &str)> = vec![
        ("empty".into(), vec![], consensus, "KEY-0002"),
        ("white space".into(), b" \r\n\t ".to_vec(), consensus, "KEY-0002"),
        ("a line of words".into(), b"correct horse battery staple".to_vec(), consensus, "KEY-0004"),
        ("not ASCII".into(), "schlüssel".repeat(5).into(), consensus, "KEY-0004"),
        ("of another alphabet".into(), "-_".repeat(22).into(), consensus, "KEY-0004"),
        ("broken into lines".into(), format!("{}\n{}", &seed[..20], &seed[20..]).into(), consensus, "KEY-0004"),
        ("hex with one digit too many".into(), format!("{}0", KNOWN.0).into(), consensus, "KEY-0004"),
        ("hex".into(), KNOWN.0.into(), consensus, "KEY-0005"),
        ("cut off".into(), seed[..40].into(), consensus, "KEY-0005"),
        ("raw, with a line end".into(), [&unhex(KNOWN.0)[..], b"\n"].concat(), consensus, "KEY-0004"),
        ("raw, 64 bytes".into(), go_key(KNOWN), consensus, "KEY-0004"),
        ("two keys".into(), format!("{seed}\n{seed}\n").into(), consensus, "KEY-0004"),
        ("JSON".into(), node_file("tendermint", "Ed25519", &[1], &[1]).into(), consensus, "KEY-0003"),
        ("JSON for an account".into(), b"\n {}".to_vec(), account, "KEY-0003"),
        ("a YubiHSM export of another key".into(), base64(&foreign).into(), consensus, "KEY-0007"),
        ("a YubiHSM export that is not reversed".into(), base64(&unreversed).into(), consensus, "KEY-0007"),
        ("the scalar 0".into(), base64(&[0; 32]).into(), account, "KEY-0008"),
        ("the order of the group".into(), base64(&unhex(ORDER)).into(), account, "KEY-0008"),
        ("an Ed25519 key as an account".into(), base64(&go_key(KNOWN)).into(), account, "KEY-0005"),
    ];
    for len in [1, 16, 31, 33, 48, 63, 65, 95, 97, 128] {
        rows.push((format!("{len} bytes"), length(len), consensus, "KEY-0005"));
        rows.push((format!("{len} bytes of an account"), length(len), account, "KEY-0005"));
    }
    for (name, content, kind, code) in rows {
        let path = place.file("key", content);
        refused(&name, &path, load(&path, Form::Base64, kind), code);
    }
}

#[test]
fn json_that_is_no_key_is_refused_also_by_import() {
    let place = Place::new();
    let (public, secret) = (unhex(KNOWN.1), go_key(KNOWN));
    let good = node_file("tendermint", "Ed25519", &public, &secret);
    let with = |public: &[u8], secret: &[u8]| node_file("tendermint", "Ed25519", public, secret);
    let secp = |public: &[u8], secret: &[u8]| node_file("tendermint", "Secp256k1", public, secret);
    let (other, point) = (unhex(RFC_8032[2].1), unhex(SECP256K1[0].1));
    let mixed_up = [unhex(KNOWN.0), other.clone()].concat();
    let rows: [(&str, String, &str); 20] = [
        ("empty", String::new(), "KEY-0002"),
        ("base64", base64(&secret), "KEY-0006"),
        ("cut off", good[..good.len() - 1].into(), "KEY-0006"),
        ("cut off in the secret", good[..good.len() - 20].into(), "KEY-0006"),
        ("something behind it", format!("{good}}}"), "KEY-0006"),
        ("a list", format!("[{good}]"), "KEY-0006"),
        ("a state file", r#"{"height":"1","round":0,"step":3}"#.into(), "KEY-0006"),
        ("no secret half", good.replace("priv_key", "priv"), "KEY-0006"),
        ("no public half", good.replace("pub_key", "pub"), "KEY-0006"),
        ("no type", good.replace("\"type\"", "\"kind\""), "KEY-0006"),
        ("a number as the secret", good.replace(&format!("\"{}\"", base64(&secret)), "7"), "KEY-0006"),
        ("a type nobody knows", good.replace("PrivKeyEd25519", "PrivKeyBls12_381"), "KEY-0006"),
        ("not base64", good.replace(&base64(&secret), "*"), "KEY-0004"),
        ("a short secret", with(&public, &secret[..31]), "KEY-0005"),
        ("a long secret", with(&public, &[&secret[..], &[0]].concat()), "KEY-0005"),
        ("an empty secret", with(&public, &[]), "KEY-0005"),
        ("a public half of another key", with(&other, &secret), "KEY-0007"),
        ("a secret with another public key in it", with(&other, &mixed_up), "KEY-0007"),
        ("a point of another scalar", secp(&point, &[2; 32]), "KEY-0007"),
        ("no scalar", secp(&point, &[0; 32]), "KEY-0008"),
    ];
    for (name, content, code) in rows {
        let (path, output) = (place.file("node.json", content), place.path("key"));
        refused(name, &path, load(&path, Form::Json, KeyType::Consensus), code);
        refused(name, &path, import(&path, &output, None), code);
        assert_eq!(place.names(), ["node.json"], "{name}");
    }
}

#[test]
fn a_secp256k1_key_is_not_imported_into_a_form_that_would_make_another_key_of_it() {
    let place = Place::new();
    let known = SECP256K1[0];
    let input = place.file("node.json", node_file("tendermint", "Secp256k1", &unhex(known.1), &unhex(known.0)));
    let error = refused("secp256k1", &input, import(&input, &place.path("key"), None), "KEY-0003");
    assert!(error.to_string().contains("key_format = \"json\""), "{error}");
    assert_eq!(place.names(), ["node.json"]);
}

#[test]
fn an_identity_is_32_bytes_and_nothing_else() {
    let place = Place::new();
    let rows: [(&str, Vec<u8>, &str); 6] = [
        ("empty", vec![], "KEY-0002"),
        ("not base64", b"x".to_vec(), "KEY-0004"),
        ("JSON", node_file("tendermint", "Ed25519", &[1], &[1]).into(), "KEY-0004"),
        ("31 bytes", base64(&[1; 31]).into(), "KEY-0005"),
        ("64 bytes", base64(&go_key(KNOWN)).into(), "KEY-0005"),
        ("96 bytes", base64(&yubihsm_export(KNOWN)).into(), "KEY-0005"),
    ];
    for (name, content, code) in rows {
        let path = place.file("secret", content);
        refused(name, &path, Identity::load(&path), code);
    }
    let path = place.path("nothing");
    refused("missing", &path, Identity::load(&path), "KEY-0001");
}

#[test]
fn what_is_no_file_is_refused_and_stops_nobody() {
    let place = Place::new();
    let real = place.file("real", base64(&unhex(KNOWN.0)));
    let made = |name: &str, make: &dyn Fn(&Path)| {
        let path = place.path(name);
        make(&path);
        path
    };
    let fifo = |path: &Path| rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let rows = [
        ("missing", place.path("missing"), "KEY-0001"),
        ("below a file", real.join("key"), "KEY-0001"),
        ("a directory", made("directory", &|path| std::fs::create_dir(path).unwrap()), "KEY-0003"),
        ("a pipe without a writer", made("pipe", &fifo), "KEY-0003"),
        ("a device", "/dev/zero".into(), "KEY-0003"),
        ("a link to nothing", made("dangling", &|path| symlink("missing", path).unwrap()), "KEY-0001"),
        ("a link to itself", made("loop", &|path| symlink("loop", path).unwrap()), "KEY-0001"),
        ("a link to a directory", made("linked", &|path| symlink("directory", path).unwrap()), "KEY-0003"),
        ("one byte too long", place.file("large", vec![b'A'; (64 << 10) + 1]), "KEY-0003"),
        ("as long as can be", place.file("long", vec![b'A'; 64 << 10]), "KEY-0005"),
    ];
    for (name, path, code) in rows {
        refused(name, &path, load(&path, Form::Base64, KeyType::Consensus), code);
    }
    // A mounted secret is a link, mostly to a link.
    let mounted = made("mounted", &|path| symlink("real", path).unwrap());
    let (key, _) = load(&mounted, Form::Base64, KeyType::Consensus).unwrap();
    assert_eq!(hex::encode(key.public().as_bytes()), KNOWN.1);
}
