//! The interchange tests of EIP-3076, read from `../shared/data/eip3076` beside the repository: every file, as it is and
//! minified, on every ledger, carried through an export, and with an end of the machine after every operation.
//!
//! The rule of the guard is the minimal one (two watermarks), so what counts is `should_succeed`. A file whose data contradicts
//! itself is imported all the same, as its highest numbers.

mod scene;
mod simdisk;

use scene::{Dice, refusal, signature_of, skip};
use semel_guard::{
    Advance, Algorithm, ChainId, Digest, Duty, Entry, Guard, History, Lane, Ledger, Mark, Permit, Position, PublicKey, Reason,
    Refusal, SLOT_FIRST_MAX, SignError, Signature, Subject, Unavailable, Version,
};
use semel_ledger::interchange::eip3076::{
    Eip3076Error, Interchange, Record, Root, SignedAttestation, SignedBlock, export, export_known, import,
};
use semel_ledger::{Journal, LedgerError, Options};
use serde::Deserialize;
use sha2::Digest as _;
use simdisk::{Fault, SimDisk, Survivors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// SHA-256 over names and contents, in the order of the names: release v5.3.0.
const RELEASE: &str = "d1d56d43994f733626685a54a3341759c73cd63b527ddd9a67988ccdd64c5673";

#[derive(Deserialize)]
struct Case {
    name: String,
    genesis_validators_root: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    should_succeed: bool,
    contains_slashable_data: bool,
    interchange: serde_json::Value,
    blocks: Vec<Asked>,
    attestations: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    pubkey: String,
    slot: Option<String>,
    source_epoch: Option<String>,
    target_epoch: Option<String>,
    signing_root: String,
    should_succeed: bool,
    should_succeed_complete: bool,
}

impl Case {
    fn root(&self) -> Root {
        Root::parse(&self.genesis_validators_root).unwrap()
    }

    fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.steps.iter().flat_map(Step::asked)
    }

    /// Every key that the case names.
    fn subjects(&self) -> Vec<Subject> {
        let chain = self.root().chain().unwrap();
        let imported = self.steps.iter().flat_map(|step| step.interchange().records).map(|record| record.key);
        let mut keys: Vec<PublicKey> = imported.chain(self.asked().map(Asked::key)).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter().map(|key| Subject { key, chain: chain.clone() }).collect()
    }
}

impl Step {
    /// Blocks first, as the suite says.
    fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.blocks.iter().chain(&self.attestations)
    }

    fn interchange(&self) -> Interchange {
        Interchange::parse(self.interchange.to_string().as_bytes()).unwrap()
    }
}

impl Asked {
    fn key(&self) -> PublicKey {
        PublicKey::new(Algorithm::Bls12381, &hex::decode(&self.pubkey[2..]).unwrap()).unwrap()
    }

    fn position(&self) -> Position {
        let number = |text: &Option<String>| text.as_ref().unwrap().parse().unwrap();
        match self.slot {
            Some(_) => Position::EthereumBlock { slot: number(&self.slot) },
            None => Position::EthereumAttestation {
                source: number(&self.source_epoch),
                target: number(&self.target_epoch),
            },
        }
    }
}

/// The suite; None: it is not here.
fn suite(test: &str) -> Option<Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/eip3076");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        skip(test, "the EIP-3076 interchange tests are not in ../shared/data/eip3076");
        return None;
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hash = sha2::Sha256::new();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        hash.update(name);
        hash.update(&text);
        let case: Case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(case.name, name);
        case
    };
    let cases = files.into_iter().map(read).collect();
    assert_eq!(hex::encode(hash.finalize()), RELEASE, "another release of the suite");
    Some(cases)
}

/// The smallest ledger: a map.
#[derive(Default)]
struct MapLedger(Mutex<BTreeMap<(Subject, Lane), History>>);

impl MapLedger {
    fn change<T>(&self, subject: &Subject, lane: Lane, change: impl FnOnce(&mut History) -> T) -> T {
        change(self.0.lock().unwrap().entry((subject.clone(), lane)).or_default())
    }
}

impl Ledger for MapLedger {
    fn history(&self, subject: &Subject, lane: Lane) -> Result<Arc<History>, Unavailable> {
        Ok(Arc::new(self.change(subject, lane, |history| history.clone())))
    }
    fn advance(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Advance {
        self.change(subject, lane, |history| {
            if history.version != expected {
                return Advance::Conflict;
            }
            history.push(lane, entry);
            Advance::Committed(history.version)
        })
    }
    fn keep(&self, subject: &Subject, lane: Lane, mark: Mark, digest: Digest, signature: &Signature) {
        self.change(subject, lane, |history| history.keep(mark, digest, *signature));
    }
    fn raise(&self, subject: &Subject, lane: Lane, floor: Mark) -> Result<(), Unavailable> {
        self.change(subject, lane, |history| history.raise(lane, floor));
        Ok(())
    }
    fn bury(&self, subject: &Subject, buried: bool) -> Result<(), Unavailable> {
        for lane in [Lane::EthereumBlock, Lane::EthereumAttestation] {
            self.change(subject, lane, |history| history.tombstone = buried);
        }
        Ok(())
    }
    fn refused(&self, _refusal: &Refusal) {}
}

fn simulated(disk: &SimDisk, subjects: &[Subject]) -> Result<Journal, LedgerError> {
    let options = Options {
        host: None,
        disk: Arc::new(disk.clone()),
        witness: None,
        check: false,
        segment_records: 32,
        ..Options::at("/var/semel")
    };
    Journal::open(options, subjects)
}

/// What is done to the ledger between two operations.
enum Between {
    Nothing,
    /// It ends, and another process opens what is left of it.
    Crash(SimDisk, Survivors),
    /// Its export is imported into a fresh one.
    Carry,
}

struct Stage {
    ledger: Arc<dyn Ledger>,
    subjects: Vec<Subject>,
    root: Root,
    between: Between,
}

impl Stage {
    fn new(case: &Case, ledger: Arc<dyn Ledger>, between: Between) -> Self {
        Self { ledger, subjects: case.subjects(), root: case.root(), between }
    }

    fn import(&mut self, file: &Interchange) -> Result<(), Eip3076Error> {
        let imported = import(&self.ledger, file, self.root).map(drop);
        self.between();
        imported
    }

    /// Whether it was signed.
    fn ask(&mut self, key: &PublicKey, position: Position, root: Root) -> bool {
        let subject = self.subjects.iter().find(|subject| subject.key == *key).unwrap();
        let signed = ask(&self.ledger, subject, position, root);
        if !matches!(self.between, Between::Carry) {
            self.between();
        }
        signed.is_none()
    }

    fn between(&mut self) {
        match &mut self.between {
            Between::Nothing => {}
            Between::Crash(disk, survivors) => {
                *disk = disk.reboot(*survivors);
                self.ledger = Arc::new(simulated(disk, &self.subjects).unwrap());
            }
            Between::Carry => {
                let before = self.export();
                let fresh = Arc::new(MapLedger::default());
                import(&fresh, &Interchange::parse(before.render().as_bytes()).unwrap(), self.root).unwrap();
                self.ledger = fresh;
                assert_eq!(without_roots(self.export()), without_roots(before));
            }
        }
    }

    fn export(&self) -> Interchange {
        let keys: Vec<PublicKey> = self.subjects.iter().map(|subject| subject.key.clone()).collect();
        export(&self.ledger, self.root, &keys).unwrap()
    }
}

/// A floor alone does not tell what was signed there.
fn without_roots(mut file: Interchange) -> Interchange {
    for record in &mut file.records {
        record.blocks.iter_mut().for_each(|block| block.signing_root = None);
        record.attestations.iter_mut().for_each(|vote| vote.signing_root = None);
    }
    file
}

/// Why it was not signed; None: it was.
fn ask(ledger: &Arc<dyn Ledger>, subject: &Subject, position: Position, root: Root) -> Option<Reason> {
    let duty = Duty::new(subject, position, &root.0).unwrap();
    let sign = |_permit: Permit<'_>, bytes: &[u8]| -> Result<_, SignError> { Ok(signature_of(bytes)) };
    let answered = Guard::new(Arc::clone(ledger)).admit(&duty, sign);
    if let Ok(answer) = &answered {
        assert_eq!(answer.signature, signature_of(&root.0), "signed something else");
    }
    refusal(answered)
}

/// Runs a case and returns what was signed, of everything that was asked for.
fn run(case: &Case, is_minified: bool, stage: &mut Stage) -> Vec<bool> {
    let mut verdicts = Vec::new();
    let mut left: Vec<(PublicKey, Position, Option<Root>)> = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let context = format!("{}, step {number}", case.name);
        let file = step.interchange();
        let file = if is_minified { file.minified() } else { file };
        match stage.import(&file) {
            Ok(()) => assert!(step.should_succeed, "{context}: imported"),
            Err(Eip3076Error::OtherChain { .. }) => assert!(!step.should_succeed, "{context}: refused"),
            Err(error) => panic!("{context}: {error}"),
        }
        if step.should_succeed {
            left.extend(signed_in(&file));
        }
        for asked in step.asked() {
            let (key, position, root) = (asked.key(), asked.position(), Root::parse(&asked.signing_root).unwrap());
            let is_signed = stage.ask(&key, position, root);
            assert_eq!(is_signed, asked.should_succeed, "{context}: {position}, root {root}");
            if is_signed {
                let vote = (key, position, Some(root));
                assert!(left.iter().all(|other| !is_slashable(other, &vote)), "{context}: {position} can be slashed");
                left.push(vote);
            }
            verdicts.push(is_signed);
        }
    }
    verdicts
}

fn signed_in(file: &Interchange) -> Vec<(PublicKey, Position, Option<Root>)> {
    let mut left = Vec::new();
    for Record { key, blocks, attestations } in &file.records {
        for SignedBlock { slot, signing_root } in blocks {
            left.push((key.clone(), Position::EthereumBlock { slot: *slot }, *signing_root));
        }
        for SignedAttestation { source, target, signing_root } in attestations {
            let position = Position::EthereumAttestation { source: *source, target: *target };
            left.push((key.clone(), position, *signing_root));
        }
    }
    left
}

/// What a beacon chain punishes, straight from its definition: two blocks of one slot, two votes for one target, a vote
/// around another.
fn is_slashable(a: &(PublicKey, Position, Option<Root>), b: &(PublicKey, Position, Option<Root>)) -> bool {
    let differs = a.2.is_none() || a.2 != b.2;
    match (a.1, b.1) {
        _ if a.0 != b.0 => false,
        (Position::EthereumBlock { slot: a }, Position::EthereumBlock { slot: b }) => a == b && differs,
        (
            Position::EthereumAttestation { source: s1, target: t1 },
            Position::EthereumAttestation { source: s2, target: t2 },
        ) => (t1 == t2 && differs) || (s1 < s2 && t2 < t1) || (s2 < s1 && t1 < t2),
        _ => false,
    }
}

fn map() -> Arc<dyn Ledger> {
    Arc::new(MapLedger::default())
}

/// Every file, as it is and minified, each with a stage of its own.
fn run_all(cases: &[Case], stage: impl Fn(&Case) -> Stage) -> Vec<Vec<bool>> {
    let both = |case| [false, true].map(|is_minified| run(case, is_minified, &mut stage(case)));
    cases.iter().flat_map(both).collect()
}

#[test]
fn the_suite_is_complete() {
    let Some(cases) = suite("eip3076::the_suite_is_complete") else { return };
    let steps = || cases.iter().flat_map(|case| &case.steps);
    let asked = || cases.iter().flat_map(Case::asked);
    let counted = [
        ("files", cases.len(), 38),
        ("steps", steps().count(), 49),
        ("records", steps().map(|step| step.interchange().records.len()).sum(), 64),
        ("imports that must fail", steps().filter(|step| !step.should_succeed).count(), 1),
        ("steps with slashable data", steps().filter(|step| step.contains_slashable_data).count(), 21),
        ("blocks", steps().map(|step| step.blocks.len()).sum(), 71),
        ("attestations", steps().map(|step| step.attestations.len()).sum(), 79),
        ("differing", asked().filter(|a| a.should_succeed != a.should_succeed_complete).count(), 17),
        ("signed", asked().filter(|a| a.should_succeed).count(), 37),
    ];
    for (what, found, expected) in counted {
        println!("{found} {what}");
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn every_file_passes_as_it_is_and_minified() {
    let Some(cases) = suite("eip3076::every_file_passes_as_it_is_and_minified") else { return };
    let verdicts = run_all(&cases, |case| Stage::new(case, map(), Between::Nothing));
    let asked = verdicts.iter().flatten().count();
    println!("{} runs, {asked} of {asked} verdicts as expected", verdicts.len());
    assert_eq!((verdicts.len(), asked), (76, 300));
}

#[test]
fn every_file_passes_on_the_journal_of_a_real_disk() {
    let Some(cases) = suite("eip3076::every_file_passes_on_the_journal_of_a_real_disk") else { return };
    let dir = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    let verdicts = run_all(&cases, |case| {
        number.set(number.get() + 1);
        let at = dir.path().join(number.get().to_string());
        let options = Options { allow_volatile: true, segment_records: 32, ..Options::at(at) };
        Stage::new(case, Arc::new(Journal::open(options, &case.subjects()).unwrap()), Between::Nothing)
    });
    assert_eq!(verdicts.len(), 76);
}

#[test]
fn every_file_passes_when_each_import_is_carried_into_a_fresh_ledger() {
    let Some(cases) = suite("eip3076::every_file_passes_when_each_import_is_carried_into_a_fresh_ledger") else { return };
    let verdicts = run_all(&cases, |case| Stage::new(case, map(), Between::Carry));
    assert_eq!(verdicts.len(), 76);
}

#[test]
fn every_file_passes_with_an_end_after_every_operation() {
    let Some(cases) = suite("eip3076::every_file_passes_with_an_end_after_every_operation") else { return };
    for survivors in [Survivors::Kernel, Survivors::Mask(0), Survivors::Mask(u64::MAX), Survivors::Seed(5)] {
        let verdicts = run_all(&cases, |case| {
            let disk = SimDisk::new();
            let journal = Arc::new(simulated(&disk, &case.subjects()).unwrap());
            Stage::new(case, journal, Between::Crash(disk, survivors))
        });
        assert_eq!(verdicts.len(), 76);
    }
}

#[test]
fn nothing_slashable_leaves_whatever_is_asked_around_a_file() {
    let Some(cases) = suite("eip3076::nothing_slashable_leaves_whatever_is_asked_around_a_file") else { return };
    let mut dice = Dice(3076);
    let (mut signed, mut refused) = (0, 0);
    for case in cases.iter().filter(|case| case.steps.iter().all(|step| step.should_succeed)) {
        let mut stage = Stage::new(case, map(), Between::Nothing);
        let mut left = Vec::new();
        for step in &case.steps {
            stage.import(&step.interchange()).unwrap();
            left.extend(signed_in(&step.interchange()));
            for _ in 0..300 {
                let key = stage.subjects[dice.below(stage.subjects.len())].key.clone();
                let (a, b) = (dice.below(40) as u64, dice.below(40) as u64);
                let position = match dice.below(2) {
                    0 => Position::EthereumBlock { slot: a },
                    _ => Position::EthereumAttestation { source: a.min(b), target: a.max(b) },
                };
                let vote = (key, position, Some(Root([dice.below(3) as u8; 32])));
                if stage.ask(&vote.0, position, vote.2.unwrap()) {
                    assert!(left.iter().all(|other| !is_slashable(other, &vote)), "{}: {position}", case.name);
                    left.push(vote);
                    signed += 1;
                } else {
                    refused += 1;
                }
            }
        }
    }
    assert!(signed > 1_000 && refused > 1_000, "{signed} signed, {refused} refused");
}

fn key(n: u8) -> PublicKey {
    PublicKey::new(Algorithm::Bls12381, &[n; 48]).unwrap()
}

fn on(root: Root, n: u8) -> Subject {
    Subject { key: key(n), chain: root.chain().unwrap() }
}

const ROOT: Root = Root([9; 32]);

fn file(keys: &[(u8, Option<u64>, Option<(u64, u64)>)]) -> Interchange {
    let record = |(n, slot, vote): &(u8, Option<u64>, Option<(u64, u64)>)| Record {
        key: key(*n),
        blocks: slot.map(|slot| SignedBlock { slot, signing_root: None }).into_iter().collect(),
        attestations: vote
            .map(|(source, target)| SignedAttestation { source, target, signing_root: None })
            .into_iter()
            .collect(),
    };
    Interchange { genesis_validators_root: ROOT, records: keys.iter().map(record).collect() }
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
    for survivors in [Survivors::Kernel, Survivors::Mask(0), Survivors::Mask(u64::MAX), Survivors::Seed(4)] {
        for at in 1.. {
            let mut disk = SimDisk::new();
            let journal = simulated(&disk, &subjects).unwrap();
            import(&journal, &old, ROOT).unwrap();
            disk.arm(at, Fault::Halt);
            let imported = import(&journal, &new, ROOT);
            drop(journal);
            if !disk.fired() {
                imported.unwrap();
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
                assert!(is_either, "operation {at}, {survivors:?}: {found:?}");
            }
            import(&journal, &new, ROOT).unwrap();
            assert_eq!(export(&journal, ROOT, &keys).unwrap(), new, "operation {at}, {survivors:?}");
        }
    }
    assert!(operations >= 4 * 8, "a write and a sync per floor; found {operations}");
}
