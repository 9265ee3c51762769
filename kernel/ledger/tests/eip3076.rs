//! The interchange tests of EIP-3076, read from `../shared/data/eip3076` beside the repository: every file, as it is and
//! minified, on every ledger, carried through an export, and with an end of the machine after every operation.
//!
//! The rule of the guard is the minimal one (two watermarks), so what counts is `should_succeed`. A file whose data contradicts
//! itself is imported all the same, as its highest numbers.

mod scene;
mod simdisk;

use scene::{Dice, refusal, signature_of, skip};
use semel_guard::{
    Advance, Algorithm, ChainId, Digest, Duty, Entry, Guard, History, Lane, Ledger, Mark, Position, PublicKey, Reason,
    Refusal, SLOT_FIRST_MAX, SignError, Signature, Subject, Unavailable, Version,
};
use semel_ledger::interchange::eip3076::{
    Eip3076Error, Interchange, Record, Root, SignedAttestation, SignedBlock, export, export_known, import,
};
use semel_ledger::{Journal, Options};
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

fn simulated(disk: &SimDisk, subjects: &[Subject]) -> Journal {
    let options = Options {
        host: None,
        disk: Arc::new(disk.clone()),
        witness: None,
        check: false,
        segment_records: 32,
        ..Options::at("/var/semel")
    };
    Journal::open(options, subjects).unwrap()
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
    fn new(case: &Case, between: Between) -> Self {
        let (subjects, root) = (case.subjects(), case.root());
        let ledger: Arc<dyn Ledger> = match &between {
            Between::Crash(disk, _) => Arc::new(simulated(disk, &subjects)),
            Between::Nothing | Between::Carry => Arc::new(MapLedger::default()),
        };
        Self { ledger, subjects, root, between }
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
                self.ledger = Arc::new(simulated(disk, &self.subjects));
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
fn ask(ledger: &dyn Ledger, subject: &Subject, position: Position, root: Root) -> Option<Reason> {
    struct Borrowed<'a>(&'a dyn Ledger);
    impl Ledger for Borrowed<'_> {
        fn history(&self, subject: &Subject, lane: Lane) -> Result<Arc<History>, Unavailable> {
            self.0.history(subject, lane)
        }
        fn advance(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Advance {
            self.0.advance(subject, lane, expected, entry)
        }
        fn keep(&self, subject: &Subject, lane: Lane, mark: Mark, digest: Digest, signature: &Signature) {
            self.0.keep(subject, lane, mark, digest, signature);
        }
        fn raise(&self, subject: &Subject, lane: Lane, floor: Mark) -> Result<(), Unavailable> {
            self.0.raise(subject, lane, floor)
        }
        fn bury(&self, subject: &Subject, buried: bool) -> Result<(), Unavailable> {
            self.0.bury(subject, buried)
        }
        fn refused(&self, refusal: &Refusal) {
            self.0.refused(refusal);
        }
    }
    let duty = Duty::new(subject, position, &root.0).unwrap();
    let sign = |_permit: semel_guard::Permit<'_>, bytes: &[u8]| -> Result<_, SignError> { Ok(signature_of(bytes)) };
    let answered = Guard::new(Borrowed(ledger)).admit(&duty, sign);
    if let Ok(answer) = &answered {
        assert_eq!(answer.signature, signature_of(&root.0), "signed something else");
    }
    refusal(answered)
}
