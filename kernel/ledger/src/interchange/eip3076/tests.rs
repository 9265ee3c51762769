//! The format: what is read, what is refused and under which code, and that nothing is lost between writing and reading.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const ROOT: &str = "0x04700007fabc8282644aed6d1c7c9e21d38a03a0c4ba193f3afe428824b3a673";

fn key(n: u8) -> PublicKey {
    PublicKey::new(semel_guard::Algorithm::Bls12381, &[n; 48]).unwrap()
}

fn key_text(n: u8) -> String {
    format!("0x{}", hex::encode([n; 48]))
}

fn root_text(n: u8) -> String {
    format!("0x{}", hex::encode([n; 32]))
}

fn file(data: &str) -> String {
    let metadata = format!("{{\"interchange_format_version\":\"5\",\"genesis_validators_root\":\"{ROOT}\"}}");
    format!("{{\"metadata\":{metadata},\"data\":[{data}]}}")
}

fn record(blocks: &str, attestations: &str) -> String {
    let key = key_text(0xab);
    format!("{{\"pubkey\":\"{key}\",\"signed_blocks\":[{blocks}],\"signed_attestations\":[{attestations}]}}")
}

fn parse(text: &str) -> Result<Interchange, Eip3076Error> {
    Interchange::parse(text.as_bytes())
}

#[test]
fn a_file_is_read_with_everything_that_the_format_allows() {
    let root = root_text(7);
    let rows: [(&str, String, Vec<SignedBlock>, Vec<SignedAttestation>); 8] = [
        ("nothing signed", record("", ""), vec![], vec![]),
        (
            "with signing roots",
            record(
                &format!(r#"{{"slot":"9","signing_root":"{root}"}}"#),
                &format!(r#"{{"source_epoch":"1","target_epoch":"2","signing_root":"{root}"}}"#),
            ),
            vec![SignedBlock { slot: 9, signing_root: Some(Root([7; 32])) }],
            vec![SignedAttestation { source: 1, target: 2, signing_root: Some(Root([7; 32])) }],
        ),
        (
            "without",
            record(r#"{"slot":"9"}"#, r#"{"source_epoch":"1","target_epoch":"2"}"#),
            vec![SignedBlock { slot: 9, signing_root: None }],
            vec![SignedAttestation { source: 1, target: 2, signing_root: None }],
        ),
        ("null root", record(r#"{"slot":"9","signing_root":null}"#, ""), vec![block(9)], vec![]),
        ("unknown fields", record(r#"{"slot":"9","note":{"a":[1]}}"#, ""), vec![block(9)], vec![]),
        ("twice the same", record(r#"{"slot":"9"},{"slot":"9"}"#, ""), vec![block(9), block(9)], vec![]),
        ("zero", record(r#"{"slot":"0"}"#, ""), vec![block(0)], vec![]),
        ("the highest number", record(r#"{"slot":"18446744073709551615"}"#, ""), vec![block(u64::MAX)], vec![]),
    ];
    for (name, data, blocks, attestations) in rows {
        let read = parse(&file(&data)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.genesis_validators_root.to_string(), ROOT, "{name}");
        assert_eq!(read.records, [Record { key: key(0xab), blocks, attestations }], "{name}");
    }
}

fn block(slot: u64) -> SignedBlock {
    SignedBlock { slot, signing_root: None }
}

#[test]
fn a_key_may_come_twice_and_hex_may_be_of_either_case() {
    let upper = record("", "").replace(&"ab".repeat(48), &"AB".repeat(48));
    let text = file(&format!("{},{upper}", record("", "")));
    let read = parse(&text.replace(ROOT, &format!("0x{}", ROOT[2..].to_uppercase()))).unwrap();
    assert_eq!(read.records.iter().map(|record| &record.key).collect::<Vec<_>>(), [&key(0xab), &key(0xab)]);
    assert_eq!(read.genesis_validators_root.to_string(), ROOT);
    assert_eq!(read.subjects().unwrap().len(), 1);
    assert_eq!(read.subjects().unwrap()[0].chain.as_str(), ROOT);
}

#[test]
fn what_is_no_interchange_file_is_refused_with_its_code_and_its_place() {
    let whole = file(&record(r#"{"slot":"9"}"#, ""));
    let slot = |slot: &str| file(&record(&format!(r#"{{"slot":{slot}}}"#), ""));
    let vote = |text: &str| file(&record("", text));
    let key = key_text(0xab);
    let rows: Vec<(&str, String, &str)> = vec![
        ("nothing", String::new(), "EIP3076-0001"),
        ("white space", " \n\t".into(), "EIP3076-0001"),
        ("cut off", whole[..whole.len() - 1].into(), "EIP3076-0003"),
        ("cut off in the middle", whole[..whole.len() / 2].into(), "EIP3076-0003"),
        ("not JSON", "slashing protection".into(), "EIP3076-0004"),
        ("more behind it", format!("{whole}{whole}"), "EIP3076-0004"),
        ("too deep", format!("{}{}", "{\"metadata\":".repeat(500), "}".repeat(500)), "EIP3076-0004"),
        ("a list", "[]".into(), "EIP3076-0005"),
        ("no metadata", "{\"data\":[]}".into(), "EIP3076-0005"),
        ("no data", whole.replace("\"data\"", "\"date\""), "EIP3076-0005"),
        ("no blocks", whole.replace("signed_blocks", "signed_block"), "EIP3076-0005"),
        ("no attestations", whole.replace("signed_attestations", "attestations"), "EIP3076-0005"),
        ("no key", whole.replace("pubkey", "public_key"), "EIP3076-0005"),
        ("no slot", whole.replace("\"slot\"", "\"height\""), "EIP3076-0005"),
        ("two slots", file(&record(r#"{"slot":"9","slot":"1"}"#, "")), "EIP3076-0005"),
        ("a number without quotes", slot("9"), "EIP3076-0005"),
        ("an empty number", slot("\"\""), "EIP3076-0005"),
        ("a negative number", slot("\"-9\""), "EIP3076-0005"),
        ("a number with a plus", slot("\"+9\""), "EIP3076-0005"),
        ("a fraction", slot("\"9.0\""), "EIP3076-0005"),
        ("a hex number", slot("\"0x9\""), "EIP3076-0005"),
        ("a number with a space", slot("\"9 \""), "EIP3076-0005"),
        ("2⁶⁴", slot("\"18446744073709551616\""), "EIP3076-0005"),
        ("no source", vote(r#"{"target_epoch":"2"}"#), "EIP3076-0005"),
        ("no target", vote(r#"{"source_epoch":"2"}"#), "EIP3076-0005"),
        ("a key without 0x", whole.replace(&key, &key[2..]), "EIP3076-0005"),
        ("a short key", whole.replace(&key, &key[..96]), "EIP3076-0005"),
        ("a long key", whole.replace(&key, &format!("{key}00")), "EIP3076-0005"),
        ("a key that is not hex", whole.replace(&key, &key.replace('a', "g")), "EIP3076-0005"),
        ("a root without 0x", whole.replace(ROOT, &ROOT[2..]), "EIP3076-0005"),
        ("a short root", whole.replace(ROOT, &ROOT[..64]), "EIP3076-0005"),
        ("an empty signing root", file(&record(r#"{"slot":"9","signing_root":""}"#, "")), "EIP3076-0005"),
        ("version 4", whole.replace("\"5\"", "\"4\""), "EIP3076-0006"),
        ("version 4 in another form", whole.replace("\"5\"", "\"4\"").replace("\"data\"", "\"d\""), "EIP3076-0006"),
        ("version 5 as a number", whole.replace("\"5\"", "5.0"), "EIP3076-0006"),
    ];
    for (name, text, code) in rows {
        let error = parse(&text).map(|_| ()).expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        let has_place = matches!(code, "EIP3076-0003" | "EIP3076-0004" | "EIP3076-0005");
        assert_eq!(error.to_string().contains("line 1 column "), has_place, "{name}: {error}");
        assert!(error.to_string().len() < 400, "{name}: {error}");
        assert!(!error.hint().is_empty(), "{name}");
    }
}

#[test]
fn a_message_does_not_carry_the_file_along() {
    let long = "9".repeat(1 << 20);
    for text in [file(&record(&format!("\"{long}\""), "")), file("").replace("\"5\"", &format!("\"{long}\""))] {
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.len() < 400, "{} bytes", message.len());
    }
}

#[test]
fn size_keys_and_entries_are_bounded() {
    assert_eq!(Interchange::parse(&vec![b' '; FILE_MAX + 1]), Err(Eip3076Error::TooLarge(FILE_MAX + 1)));
    let records = |count: usize| file(&vec![record("", ""); count].join(","));
    assert_eq!(parse(&records(KEYS_MAX)).unwrap().records.len(), KEYS_MAX);
    assert_eq!(parse(&records(KEYS_MAX + 1)), Err(Eip3076Error::Keys));
    let blocks = |count: usize| file(&record(&vec![r#"{"slot":"9"}"#; count].join(","), ""));
    assert_eq!(parse(&blocks(ENTRIES_MAX)).unwrap().records[0].blocks.len(), ENTRIES_MAX);
    assert_eq!(parse(&blocks(ENTRIES_MAX + 1)), Err(Eip3076Error::Entries(key(0xab).to_string())));
    let votes = vec![r#"{"source_epoch":"1","target_epoch":"2"}"#; ENTRIES_MAX + 1].join(",");
    assert_eq!(parse(&file(&record("", &votes))), Err(Eip3076Error::Entries(key(0xab).to_string())));
}

#[test]
fn every_error_has_a_code_of_its_own_and_a_hint() {
    let subject = PublicKey::new(semel_guard::Algorithm::Bls12381, &[]).unwrap_err();
    let (line, column, expected) = (1, 2, Root([1; 32]));
    let all = [
        Eip3076Error::Empty,
        Eip3076Error::TooLarge(1),
        Eip3076Error::Truncated { line, column },
        Eip3076Error::NotJson { line, column },
        Eip3076Error::Field("x".into()),
        Eip3076Error::Version("4".into()),
        Eip3076Error::Keys,
        Eip3076Error::Entries("x".into()),
        Eip3076Error::OtherChain { found: Root::default(), expected },
        Eip3076Error::Unreachable { key: "x".into(), number: 1 },
        Eip3076Error::Subject(subject),
        Eip3076Error::Unavailable { key: "x".into(), why: "y".into(), done: 0 },
    ];
    for (index, error) in all.iter().enumerate() {
        assert_eq!(error.code(), format!("EIP3076-{:04}", index + 1));
        assert!(!error.hint().is_empty() && !error.to_string().is_empty());
    }
}

#[test]
fn the_fewest_words_keep_the_highest_of_each_number() {
    let vote = |source, target| SignedAttestation { source, target, signing_root: None };
    let (one, two) = (Some(Root([1; 32])), Some(Root([2; 32])));
    let at = |slot, signing_root| SignedBlock { slot, signing_root };
    type Row = (&'static str, Vec<SignedBlock>, Vec<SignedAttestation>, Vec<SignedBlock>, Vec<SignedAttestation>);
    let rows: Vec<Row> = vec![
        ("nothing", vec![], vec![], vec![], vec![]),
        ("in any order", vec![block(7), block(9), block(8)], vec![], vec![block(9)], vec![]),
        ("source and target of two", vec![], vec![vote(5, 6), vote(2, 9)], vec![], vec![vote(5, 9)]),
        ("source above target", vec![], vec![vote(5, 2)], vec![], vec![vote(5, 2)]),
        ("a root of the highest", vec![at(9, one), at(8, two)], vec![], vec![at(9, one)], vec![]),
        ("equal roots", vec![at(9, one), at(9, one)], vec![], vec![at(9, one)], vec![]),
        ("two roots", vec![at(9, one), at(9, two)], vec![], vec![at(9, None)], vec![]),
        ("a root and none", vec![at(9, one), at(9, None)], vec![], vec![at(9, None)], vec![]),
        ("none and a root", vec![at(9, None), at(9, one)], vec![], vec![at(9, None)], vec![]),
    ];
    for (name, blocks, attestations, fewest_blocks, fewest_attestations) in rows {
        let of = |blocks, attestations| Record { key: key(1), blocks, attestations };
        let file = |records| Interchange { genesis_validators_root: Root([3; 32]), records };
        let fewest = file(vec![of(fewest_blocks, fewest_attestations)]);
        assert_eq!(file(vec![of(blocks.clone(), attestations.clone())]).minified(), fewest, "{name}");
        // The same when each entry has a record of its own.
        let alone = |block: &SignedBlock| of(vec![*block], vec![]);
        let parts = blocks.iter().map(alone).chain([of(vec![], attestations)]).collect();
        assert_eq!(file(parts).minified(), fewest, "{name}, in parts");
    }
}

fn any_file() -> impl Strategy<Value = Interchange> {
    let root = || prop::option::of(any::<[u8; 32]>().prop_map(Root));
    let block = (any::<u64>(), root()).prop_map(|(slot, signing_root)| SignedBlock { slot, signing_root });
    let vote = (any::<u64>(), any::<u64>(), root());
    let vote = vote.prop_map(|(source, target, signing_root)| SignedAttestation { source, target, signing_root });
    let lists = (prop::collection::vec(block, 0..4), prop::collection::vec(vote, 0..4));
    // Few keys, so that some come twice.
    let record = (0..3_u8, lists).prop_map(|(n, (blocks, attestations))| Record { key: key(n), blocks, attestations });
    (any::<[u8; 32]>(), prop::collection::vec(record, 0..5))
        .prop_map(|(root, records)| Interchange { genesis_validators_root: Root(root), records })
}

proptest! {
    #[test]
    fn what_was_written_is_read_again(file in any_file()) {
        prop_assert_eq!(Interchange::parse(file.render().as_bytes()), Ok(file));
    }

    #[test]
    fn the_fewest_words_protect_as_much(file in any_file()) {
        let fewest = file.minified();
        prop_assert_eq!(&fewest.minified(), &fewest);
        let keys: BTreeSet<_> = file.records.iter().map(|record| &record.key).collect();
        prop_assert_eq!(fewest.records.len(), keys.len());
        for record in &fewest.records {
            prop_assert!(record.blocks.len() <= 1 && record.attestations.len() <= 1);
            let same = || file.records.iter().filter(|other| other.key == record.key);
            let votes = || same().flat_map(|other| &other.attestations);
            let highest = (votes().map(|v| v.source).max(), votes().map(|v| v.target).max());
            let found = record.attestations.first();
            prop_assert_eq!((found.map(|v| v.source), found.map(|v| v.target)), highest);
            let slot = same().flat_map(|other| &other.blocks).map(|block| block.slot).max();
            prop_assert_eq!(record.blocks.first().map(|block| block.slot), slot);
        }
    }

    #[test]
    fn a_file_that_was_cut_is_never_read(file in any_file(), cut in any::<prop::sample::Index>()) {
        let text = file.render();
        let object = text.trim_end();
        let end = cut.index(object.len());
        prop_assert!(Interchange::parse(&object.as_bytes()[..end]).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        file in any_file(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = file.render().into_bytes();
        for (place, byte) in edits {
            let index = place.index(bytes.len());
            bytes[index] = byte;
        }
        for bytes in [bytes, noise] {
            if let Err(error) = Interchange::parse(&bytes) {
                prop_assert!(error.code().starts_with("EIP3076-") && error.to_string().len() < 2_000);
            }
        }
    }
}
