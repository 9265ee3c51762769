//! Real certificates: a whole chain of a development network, one of preprod, and a hundred thousand that are not quite the same.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

use mithril_common::crypto_helper::GenesisEd25519VerificationKey;
use mithril_common::entities::Certificate;
use mithril_common::messages::CertificateMessage;
use proptest::prelude::Rng;
use proptest::test_runner::TestRng;
use semel_aggregator::core::certificates::{Flaw, verify_alone, verify_genesis, verify_link};
use semel_aggregator::face::args::Verify;
use semel_aggregator::host::commands::CommandError;
use semel_aggregator::host::commands::verify::verify_until;
use semel_aggregator::host::store::{Store, certificates};
use semel_aggregator::host::walk::origin::{Origin, OriginError};
use semel_aggregator::host::walk::{WalkError, Walked, join, origin, walk};
use semel_ops::shell::{Format, Shell};
use semel_ops::shutdown::{Stop, StopReason};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The key that the genesis of the development network verifies with; it is nowhere published, and belongs to a test network.
const DEVNET_KEY: &str = "5b33322c3235332c3138362c3230312c3137372c31312c3131372c3133352c3138372c3136372c3138312c3138382c32322c35392c3230362c3130352c3233312c3135302c3231352c33302c37382c3231322c37362c31362c3235322c3138302c37322c3133342c3133372c3234372c3136312c36385d";

fn data(test: &str, name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/mithril").join(name);
    if path.exists() {
        return Some(path);
    }
    if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{test}: no {name} under ../shared/data/mithril").unwrap();
    }
    None
}

fn chain(path: &PathBuf) -> BTreeMap<String, Value> {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn key() -> GenesisEd25519VerificationKey {
    DEVNET_KEY.try_into().unwrap()
}

fn decode(value: &Value) -> Option<Certificate> {
    Certificate::try_from(serde_json::from_value::<CertificateMessage>(value.clone()).ok()?).ok()
}

#[test]
fn every_certificate_of_the_development_network_leads_to_its_genesis() {
    let Some(path) =
        data("every_certificate_of_the_development_network_leads_to_its_genesis", "devnet/certificates.json")
    else {
        return;
    };
    let origin = origin::open(path.to_str().unwrap(), &Stop::new()).unwrap();
    let all = chain(&path);
    assert_eq!(all.len(), 43);
    for hash in all.keys() {
        let walked = walk(origin.as_ref(), &key(), Walked::begin(hash), &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(walked.is_complete);
    }
}

#[test]
fn a_walk_that_was_stopped_goes_on_where_it_was() {
    let Some(path) = data("a_walk_that_was_stopped_goes_on_where_it_was", "devnet/certificates.json") else { return };
    let origin = origin::open(path.to_str().unwrap(), &Stop::new()).unwrap();
    let newest = origin.newest().unwrap();
    let whole = walk(origin.as_ref(), &key(), Walked::begin(&newest), &mut |_| ControlFlow::Continue(())).unwrap();
    let mut kept = Walked::begin(&newest);
    let mut stops = 0;
    let walked = loop {
        let mut last = kept.clone();
        let step = walk(origin.as_ref(), &key(), kept, &mut |walked| {
            last = walked.clone();
            ControlFlow::Break(())
        });
        match step {
            Ok(walked) => break walked,
            Err(WalkError::Stopped(_)) => kept = last,
            Err(error) => panic!("{error}"),
        }
        stops += 1;
        assert!(stops < 100);
    };
    assert_eq!(walked, whole);
}

/// Certificates in memory, of which some are asked for under other names.
struct Forged<'a> {
    by_hash: &'a BTreeMap<String, Certificate>,
    forged: &'a Certificate,
}

impl Origin for Forged<'_> {
    fn certificate(&self, hash: &str) -> Result<Certificate, OriginError> {
        let found = if hash == self.forged.hash { Some(self.forged) } else { self.by_hash.get(hash) };
        found.cloned().ok_or_else(|| OriginError::Missing { hash: hash.to_owned(), place: "memory".to_owned() })
    }

    fn newest(&self) -> Result<String, OriginError> {
        Ok(self.forged.hash.clone())
    }
}

/// Walks from the forged certificate; each step of the walk must have come further than the one before.
fn walk_forged(by_hash: &BTreeMap<String, Certificate>, forged: &Certificate) -> Result<Walked, WalkError> {
    let mut last = 0;
    walk(&Forged { by_hash, forged }, &key(), Walked::begin(&forged.hash), &mut |walked| {
        assert!(walked.certificates > last, "the walk of {} stands still", forged.hash);
        last = walked.certificates;
        ControlFlow::Continue(())
    })
}

#[test]
fn a_certificate_that_continues_nothing_ends_the_walk() {
    let Some(path) = data("a_certificate_that_continues_nothing_ends_the_walk", "devnet/certificates.json") else {
        return;
    };
    let by_hash: BTreeMap<String, Certificate> =
        chain(&path).iter().map(|(hash, value)| (hash.clone(), decode(value).unwrap())).collect();
    for original in by_hash.values().filter(|one| !one.is_genesis()) {
        let mut orphan = original.clone();
        orphan.previous_hash = String::new();
        orphan.hash = orphan.try_compute_hash().unwrap();
        let error = walk_forged(&by_hash, &orphan).unwrap_err();
        assert!(matches!(error, WalkError::Flawed { flaw: Flaw::Orphan, .. }), "{error}");
    }
}

#[test]
fn a_walk_goes_on_when_the_chain_has_grown() {
    let Some(path) = data("a_walk_goes_on_when_the_chain_has_grown", "devnet/certificates.json") else { return };
    let origin = origin::open(path.to_str().unwrap(), &Stop::new()).unwrap();
    let newest = origin.newest().unwrap();
    let go_on = &mut |_: &Walked| ControlFlow::Continue(());
    let all: Vec<Certificate> = chain(&path).values().map(|value| decode(value).unwrap()).collect();
    let whole = walk(origin.as_ref(), &key(), Walked::begin(&newest), go_on).unwrap();
    assert_eq!(whole.top.len() as u64, whole.certificates);
    for old in all.iter().filter(|one| *one.epoch < 24) {
        let mut kept = None;
        let stopped = walk(origin.as_ref(), &key(), Walked::begin(&old.hash), &mut |walked| {
            kept = Some(walked.clone());
            // Below the first of the epoch: the newest itself may lie beside the way.
            if walked.certificates > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let kept = kept.unwrap();
        if stopped.is_ok() {
            continue;
        }
        let joined = join(origin.as_ref(), &key(), &newest, &kept, go_on).unwrap();
        assert_eq!((&joined.reached, joined.is_complete), (&kept.reached, false));
        assert_eq!(joined.top.as_slice(), whole.top.get(..joined.top.len()).unwrap());
        assert_eq!(walk(origin.as_ref(), &key(), joined, go_on).unwrap(), whole);
        // A file without the top still joins at its newest certificate, when that lies on the way.
        let bare = Walked { top: Vec::new(), ..kept };
        let joined = join(origin.as_ref(), &key(), &newest, &bare, go_on).unwrap();
        assert_eq!(joined.is_complete, !whole.top.contains(&old.hash), "{}", old.hash);
        let walked = if joined.is_complete { joined } else { walk(origin.as_ref(), &key(), joined, go_on).unwrap() };
        assert_eq!((walked.certificates, &walked.reached), (whole.certificates, &whole.reached));
    }
    // What is of another chain is not believed: the whole way is walked.
    let strange = Walked { reached: whole.reached.clone(), certificates: 900, ..Walked::begin(&"ab".repeat(32)) };
    assert_eq!(join(origin.as_ref(), &key(), &newest, &strange, go_on).unwrap(), whole);
}

#[test]
fn a_kept_walk_is_used_or_it_is_said_why_not() {
    let Some(path) = data("a_kept_walk_is_used_or_it_is_said_why_not", "devnet/certificates.json") else { return };
    let whose = path.to_str().unwrap().to_owned();
    let origin = origin::open(&whose, &Stop::new()).unwrap();
    let newest = origin.newest().unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("walk.json");
    let mut what =
        Verify { whose, genesis_verification_key: key(), from: None, resume: Some(file.clone()), json: false };
    let whole = walk(origin.as_ref(), &key(), Walked::begin(&newest), &mut |_| ControlFlow::Continue(())).unwrap();
    let at = |begin: usize, certificates: usize| Walked {
        newest: whole.top[begin].clone(),
        reached: whole.top[begin + certificates - 1].clone(),
        certificates: certificates as u64,
        is_complete: false,
        top: whole.top[begin..begin + certificates].to_vec(),
        ..whole.clone()
    };
    let strange = Walked { newest: "ab".repeat(32), top: Vec::new(), ..at(2, 3) };
    for (kept, from, said) in [
        (None, None, ""),
        (Some(at(0, 3)), None, "Resuming after 3"),
        (Some(at(2, 3)), None, "Resuming after 3"),
        (Some(whole.clone()), None, "came to the genesis"),
        (Some(strange), None, "no certificate that it names"),
        (Some(at(2, 3)), Some(newest.clone()), "began with another"),
        (Some(at(0, 3)), Some(newest.clone()), "Resuming after 3"),
    ] {
        match kept {
            Some(kept) => std::fs::write(&file, serde_json::to_vec(&kept).unwrap()).unwrap(),
            None => drop(std::fs::remove_file(&file)),
        }
        what.from = from;
        let (shell, told) = Shell::capture(Format::Text);
        assert_eq!(verify_until(&what, &Stop::new(), false, &shell).unwrap(), whole, "{said}");
        assert!(told.err().contains(said) && told.err().is_empty() == said.is_empty(), "{said}: {}", told.err());
        assert_eq!(told.err().contains("is not used"), !said.is_empty() && !said.contains("Resuming"));
        let kept: Walked = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(kept, whole, "{said}");
    }
    std::fs::write(&file, "garbage").unwrap();
    let (shell, told) = Shell::capture(Format::Text);
    assert_eq!(verify_until(&what, &Stop::new(), false, &shell).unwrap(), whole);
    assert!(told.err().contains("it keeps no walk"), "{}", told.err());
    // A step that cannot be kept ends the walk.
    what.resume = Some(place.path().join("none/walk.json"));
    let error = verify_until(&what, &Stop::new(), false, &shell).unwrap_err();
    assert!(matches!(error, CommandError::File { .. }), "{error}");
}

#[test]
fn a_walk_ends_at_once_while_an_aggregator_keeps_it_waiting() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let what = Verify {
        whose: format!("http://{}/aggregator", server.local_addr().unwrap()),
        genesis_verification_key: key(),
        from: None,
        resume: None,
        json: false,
    };
    // The first waits for the list, the second for a certificate.
    for from in [None, Some("ab".repeat(32))] {
        let what = Verify { from, ..what.clone() };
        let stop = Stop::new();
        let (told, server) = (stop.clone(), server.try_clone().unwrap());
        let signal = std::thread::spawn(move || {
            let (waiting, _) = server.accept().unwrap();
            told.stop(StopReason::Interrupted);
            (waiting, Instant::now())
        });
        let (shell, _) = Shell::capture(Format::Text);
        let error = verify_until(&what, &stop, false, &shell).unwrap_err();
        let (_waiting, begun) = signal.join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert!(matches!(error, CommandError::Walk { why: WalkError::Stopped(0), .. }), "{error}");
    }
}

#[test]
fn certificates_come_out_of_the_database_as_they_went_in() {
    let Some(path) = data("certificates_come_out_of_the_database_as_they_went_in", "devnet/certificates.json") else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let mut all: Vec<Certificate> = chain(&path).values().map(|value| decode(value).unwrap()).collect();
    // Parents first: a certificate refers to the one before it.
    all.sort_by_key(|certificate| (certificate.epoch, certificate.metadata.sealed_at));
    for certificate in all.clone() {
        store.write(move |db| certificates::insert(db, &certificate)).unwrap();
    }
    for certificate in all {
        let read = store.read(|db| certificates::get(db, &certificate.hash)).unwrap().unwrap();
        assert_eq!(read.try_compute_hash().unwrap(), certificate.hash);
        let (ours, theirs) = (CertificateMessage::try_from(read), CertificateMessage::try_from(certificate));
        assert_eq!(serde_json::to_string(&ours.unwrap()).unwrap(), serde_json::to_string(&theirs.unwrap()).unwrap());
    }
}

#[test]
fn a_real_certificate_of_preprod_holds() {
    let Some(path) = data("a_real_certificate_of_preprod_holds", "preprod-v2/cardano_database_certificate.json") else {
        return;
    };
    let certificate = decode(&serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).unwrap();
    assert_eq!(verify_alone(&certificate), Ok(()));
    assert!(matches!(verify_genesis(&certificate, &key()), Err(Flaw::Kind(_))));
}

/// Changes one thing in a certificate, somewhere in its JSON.
fn mutate(value: &mut Value, random: &mut TestRng) {
    let pick = |random: &mut TestRng, most: usize| usize::try_from(random.next_u64() % most as u64).unwrap();
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let at = pick(random, fields.len());
            let field = fields.values_mut().nth(at).unwrap();
            mutate(field, random);
        }
        Value::Array(items) if !items.is_empty() => {
            let at = pick(random, items.len());
            match random.next_u64() % 4 {
                0 => drop(items.remove(at)),
                1 => items.push(items.get(at).unwrap().clone()),
                _ => mutate(items.get_mut(at).unwrap(), random),
            }
        }
        Value::Number(number) => *value = Value::from(number.as_u64().unwrap_or(1) ^ (1 << (random.next_u64() % 20))),
        Value::String(text) if !text.is_empty() => {
            let at = pick(random, text.len());
            let mut bytes = text.clone().into_bytes();
            match random.next_u64() % 16 {
                0 => bytes.clear(),
                1..=5 => drop(bytes.remove(at)),
                6..=10 => bytes.insert(at, b'0' + (random.next_u64() % 10) as u8),
                _ => *bytes.get_mut(at).unwrap() ^= 1 << (random.next_u64() % 5),
            }
            *text = String::from_utf8(bytes).unwrap_or_default();
        }
        _ => *value = Value::String("x".into()),
    }
}

fn hash(certificate: &Value) -> String {
    certificate.get("hash").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn holds(certificate: &Certificate, by_hash: &BTreeMap<String, Certificate>) -> bool {
    match certificate.is_genesis() {
        true => verify_genesis(certificate, &key()).is_ok(),
        false => {
            let previous = by_hash.get(&certificate.previous_hash);
            previous.is_some_and(|previous| verify_link(certificate, previous).is_ok())
                && verify_alone(certificate).is_ok()
        }
    }
}

#[test]
fn a_hundred_thousand_certificates_that_are_not_quite_the_same_do_not_hold() {
    let test = "a_hundred_thousand_certificates_that_are_not_quite_the_same_do_not_hold";
    let Some(path) = data(test, "devnet/certificates.json") else { return };
    let all = chain(&path);
    let by_hash: BTreeMap<String, Certificate> =
        all.iter().map(|(hash, value)| (hash.clone(), decode(value).unwrap())).collect();
    let values: Vec<&Value> = all.values().collect();
    let mut random = TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let (mut undecodable, mut refused, mut same, mut walked) = (0, 0, 0, 0);
    for round in 0..100_000_usize {
        let original = *values.get(round % values.len()).unwrap();
        let mut mutated = original.clone();
        mutate(&mut mutated, &mut random);
        let Some(mut certificate) = decode(&mutated) else {
            undecodable += 1;
            continue;
        };
        // Half of them get the hash that fits what they say now, as a forger would do (where it can be computed at all).
        if round % 2 == 0 && certificate.metadata.protocol_parameters.phi_f <= 1.0 {
            certificate.hash = certificate.try_compute_hash().unwrap_or_default();
        }
        let encoded = CertificateMessage::try_from(certificate.clone()).ok();
        if encoded.is_some_and(|encoded| serde_json::to_value(encoded).unwrap() == *original) {
            // Another spelling of the same: hex in capitals, say.
            same += 1;
            continue;
        }
        // What signers do not sign (times, names) is held by the hash alone: a forgery with a hash of its own is another
        // certificate, which nobody asks for and which nothing continues.
        let is_asked_for = hash(original) == certificate.hash;
        assert!(!(is_asked_for && holds(&certificate, &by_hash)), "{round}: {mutated}");
        refused += 1;
        if round % 17 == 0 {
            walked += 1;
            // Another spelling of what nobody signs may lead to the genesis; what is signed may not.
            if let (Ok(_), Some(original)) = (walk_forged(&by_hash, &certificate), by_hash.get(&hash(original))) {
                assert_eq!(certificate.protocol_message, original.protocol_message, "{round}: {mutated}");
                assert_eq!(certificate.signed_message, original.signed_message, "{round}: {mutated}");
                assert_eq!(certificate.previous_hash, original.previous_hash, "{round}: {mutated}");
            }
        }
    }
    assert!(refused > 20_000 && walked > 1_000, "{undecodable} {refused} {same} {walked}");
    assert_eq!(undecodable + refused + same, 100_000);
}
