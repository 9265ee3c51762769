//! Into a ledger and out of it, beside the suite: what rises, what is refused, what an export says, what a crash leaves.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

use crate::simdisk::{Fault, SimDisk, Survivors};
use crate::stage::{ask, map, simulated};
use semel_guard::{Algorithm, Lane, Ledger as _, Mark, Position, PublicKey, SLOT_FIRST_MAX, Subject};
use semel_ledger::interchange::eip3076::{
    Interchange, Record, Root, SignedAttestation, SignedBlock, export, export_known, import,
};
use semel_ledger::{Journal, Options};

fn key(n: u8) -> PublicKey {
    PublicKey::new(Algorithm::Bls12381, &[n; 48]).unwrap()
}

fn on(root: Root, n: u8) -> Subject {
    Subject { key: key(n), chain: root.chain().unwrap() }
}

const ROOT: Root = Root([9; 32]);

/// A key, its highest slot, its highest source and target.
type Line = (u8, Option<u64>, Option<(u64, u64)>);

fn file(lines: &[Line]) -> Interchange {
    let record = |(n, slot, vote): &Line| Record {
        key: key(*n),
        blocks: slot.map(|slot| SignedBlock { slot, signing_root: None }).into_iter().collect(),
        attestations: vote
            .map(|(source, target)| SignedAttestation { source, target, signing_root: None })
            .into_iter()
            .collect(),
    };
    Interchange { genesis_validators_root: ROOT, records: lines.iter().map(record).collect() }
}

fn keys_of(file: &Interchange) -> Vec<PublicKey> {
    file.records.iter().map(|record| record.key.clone()).collect()
}

#[test]
fn an_import_raises_and_never_lowers() {
    let ledger = map();
    let (block, vote) = (Lane::EthereumBlock, Lane::EthereumAttestation);
    type Floors = (Option<u64>, Option<(u64, u64)>);
    let rows: [(&str, Floors, Floors, usize); 9] = [
        ("a key nobody knows", (Some(10), Some((4, 5))), (Some(10), Some((4, 5))), 2),
        ("the same again", (Some(10), Some((4, 5))), (Some(10), Some((4, 5))), 0),
        ("older", (Some(9), Some((3, 4))), (Some(10), Some((4, 5))), 0),
        ("nothing", (None, None), (Some(10), Some((4, 5))), 0),
        ("a newer block", (Some(11), None), (Some(11), Some((4, 5))), 1),
        ("a newer target with an older source", (None, Some((1, 9))), (Some(11), Some((4, 9))), 1),
        ("a newer source with an older target", (None, Some((6, 7))), (Some(11), Some((6, 9))), 1),
        ("a source above its target", (None, Some((12, 3))), (Some(11), Some((12, 9))), 1),
        ("zero", (Some(0), Some((0, 0))), (Some(11), Some((12, 9))), 0),
    ];
    for (name, (slot, attestation), (slot_after, attestation_after), raised) in rows {
        let file = file(&[(1, slot, attestation)]);
        let report = import(&ledger, &file, ROOT).unwrap();
        assert_eq!(report.raised().count(), raised, "{name}");
        let said = (report.keys, report.blocks, report.attestations, report.lanes.len());
        let (blocks, attestations) = (usize::from(slot.is_some()), usize::from(attestation.is_some()));
        assert_eq!(said, (1, blocks, attestations, blocks + attestations), "{name}");
        let floor = |lane| ledger.history(&on(ROOT, 1), lane).unwrap().floor;
        let expected = attestation_after.map(|(source, target)| Mark([target, source, 0]));
        assert_eq!(floor(block), slot_after.map(|slot| Mark([slot, 0, 0])), "{name}");
        assert_eq!(floor(vote), expected, "{name}");
        for change in &report.lanes {
            assert_eq!(Some(change.after), floor(change.lane), "{name}");
        }
    }
}

#[test]
fn an_import_that_is_refused_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [on(ROOT, 1), on(ROOT, 2)];
    let options = Options { allow_volatile: true, segment_records: 32, ..Options::at(dir.path().join("ledger")) };
    let journal = Journal::open(options, &subjects).unwrap();
    import(&journal, &file(&[(1, Some(5), Some((2, 3)))]), ROOT).unwrap();
    let before = export(&journal, ROOT, &[key(1), key(2)]).unwrap();
    let good = (1, Some(8), Some((7, 8)));
    let rows = [
        ("another chain", file(&[good]), Root([8; 32]), "EIP3076-0009"),
        ("a slot without end", file(&[good, (2, Some(u64::MAX), None)]), ROOT, "EIP3076-0010"),
        ("a target without end", file(&[good, (2, None, Some((0, u64::MAX)))]), ROOT, "EIP3076-0010"),
        ("a source without end", file(&[good, (2, None, Some((SLOT_FIRST_MAX + 1, 1)))]), ROOT, "EIP3076-0010"),
        ("a key that the ledger is not open for", file(&[good, (3, Some(1), None)]), ROOT, "EIP3076-0012"),
    ];
    for (name, file, expected, code) in rows {
        let error = import(&journal, &file, expected).expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        assert_eq!(export(&journal, ROOT, &[key(1), key(2)]).unwrap(), before, "{name}");
    }
    import(&journal, &file(&[(2, Some(SLOT_FIRST_MAX), None)]), ROOT).unwrap();
}

#[test]
fn a_file_of_many_keys_comes_out_as_it_went_in() {
    let whole = file(&[(1, Some(7), Some((1, 2))), (2, None, Some((5, 2))), (3, Some(0), None), (4, None, None)]);
    let ledger = map();
    import(&ledger, &whole, ROOT).unwrap();
    let again = export(&ledger, ROOT, &keys_of(&whole)).unwrap();
    assert_eq!(again, whole);
    let fresh = map();
    import(&fresh, &again, ROOT).unwrap();
    assert_eq!(export(&fresh, ROOT, &keys_of(&whole)).unwrap(), whole);
    // Each key once, whoever asks twice.
    assert_eq!(export(&ledger, ROOT, &[keys_of(&whole), keys_of(&whole)].concat()).unwrap(), whole);
    // Of another chain nothing is known.
    let elsewhere = export(&ledger, Root([8; 32]), &[key(1)]).unwrap();
    assert_eq!(elsewhere.records, [Record { key: key(1), blocks: vec![], attestations: vec![] }]);
}

#[test]
fn an_export_names_the_signing_root_where_it_is_that_of_the_floor() {
    let ledger = map();
    let subject = on(ROOT, 1);
    let sign = |position, byte: u8| assert_eq!(ask(&ledger, &subject, position, Root([byte; 32])), None);
    let exported = || export(&ledger, ROOT, &[key(1)]).unwrap().records.remove(0);
    sign(Position::EthereumBlock { slot: 3 }, 0x33);
    sign(Position::EthereumAttestation { source: 1, target: 2 }, 0x12);
    let block = |slot, signing_root| vec![SignedBlock { slot, signing_root }];
    let vote = |source, target, signing_root| vec![SignedAttestation { source, target, signing_root }];
    assert_eq!(exported().blocks, block(3, Some(Root([0x33; 32]))));
    assert_eq!(exported().attestations, vote(1, 2, Some(Root([0x12; 32]))));
    // A floor from elsewhere: what was signed there is not known, and the older root would be a lie.
    import(&ledger, &file(&[(1, Some(4), Some((2, 2)))]), ROOT).unwrap();
    assert_eq!(exported().blocks, block(4, None));
    assert_eq!(exported().attestations, vote(2, 2, None));
}

#[test]
fn a_ledger_at_rest_is_exported_without_opening_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("ledger");
    let whole = file(&[(1, Some(7), Some((1, 2))), (2, None, Some((5, 2)))]);
    let mut subjects = whole.subjects().unwrap();
    subjects.push(on(Root([8; 32]), 1));
    let options = Options { allow_volatile: true, segment_records: 32, ..Options::at(&at) };
    let journal = Journal::open(options, &subjects).unwrap();
    import(&journal, &whole, ROOT).unwrap();
    assert_eq!(export_known(&Journal::inspect(&at).unwrap(), ROOT).unwrap(), whole, "while it is open");
    journal.close().unwrap();
    assert_eq!(export_known(&Journal::inspect(&at).unwrap(), ROOT).unwrap(), whole, "after it was closed");
    assert_eq!(export_known(&Journal::inspect(&at).unwrap(), Root([7; 32])).unwrap().records, []);
}

#[test]
fn only_keys_of_the_format_are_exported() {
    let tendermint = PublicKey::new(Algorithm::Ed25519, &[1; 32]).unwrap();
    let error = export(&map(), ROOT, &[key(1), tendermint]).unwrap_err();
    assert_eq!(error.code(), "EIP3076-0011", "{error}");
}

#[test]
fn a_crash_inside_an_import_leaves_old_floors_or_new_ones_and_the_import_can_be_made_again() {
    let old = file(&[(1, Some(5), Some((2, 3))), (2, Some(6), None)]);
    let new = file(&[(1, Some(8), Some((4, 9))), (2, Some(7), Some((1, 1)))]);
    let subjects = new.subjects().unwrap();
    let keys = keys_of(&new);
    let mut operations = 0;
    let faults = [
        (Fault::Halt, Survivors::Kernel),
        (Fault::Halt, Survivors::Mask(0)),
        (Fault::Halt, Survivors::Mask(u64::MAX)),
        (Fault::Halt, Survivors::Seed(4)),
        (Fault::Short, Survivors::Kernel),
        (Fault::Short, Survivors::Mask(u64::MAX)),
    ];
    for (fault, survivors) in faults {
        for at in 1.. {
            let mut disk = SimDisk::new();
            let journal = simulated(&disk, &subjects).unwrap();
            import(&journal, &old, ROOT).unwrap();
            disk.arm(at, fault);
            let imported = import(&journal, &new, ROOT);
            drop(journal);
            if !disk.fired() {
                imported.unwrap();
                assert_eq!(disk.at_risk(), 0, "an import has returned and is not on the medium");
                operations += at - 1;
                break;
            }
            assert_eq!(imported.unwrap_err().code(), "EIP3076-0012", "operation {at}");
            disk = disk.reboot(survivors);
            let journal = simulated(&disk, &subjects).unwrap();
            let found = export(&journal, ROOT, &keys).unwrap();
            for ((found, old), new) in found.records.iter().zip(&old.records).zip(&new.records) {
                let is_either = (found.blocks == old.blocks || found.blocks == new.blocks)
                    && (found.attestations == old.attestations || found.attestations == new.attestations);
                assert!(is_either, "operation {at}, {fault:?}: {found:?}");
            }
            import(&journal, &new, ROOT).unwrap();
            assert_eq!(export(&journal, ROOT, &keys).unwrap(), new, "operation {at}, {fault:?}, {survivors:?}");
        }
    }
    assert!(operations >= 6 * 8, "a write and a sync per floor; found {operations}");
}
