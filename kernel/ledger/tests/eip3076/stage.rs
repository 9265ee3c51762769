//! The ledgers that the suite runs on, and what happens to them between two operations.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

use crate::scene::{refusal, signature_of};
use crate::simdisk::{SimDisk, Survivors};
use crate::suite::Case;
use semel_guard::{
    Advance, Digest, Duty, Entry, Guard, History, Lane, Ledger, Mark, Permit, Position, PublicKey, Reason, Refusal,
    SignError, Signature, Subject, Unavailable, Version,
};
use semel_ledger::interchange::eip3076::{Eip3076Error, Interchange, Root, export, import};
use semel_ledger::{Journal, LedgerError, Options};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

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

pub(crate) fn simulated(disk: &SimDisk, subjects: &[Subject]) -> Result<Journal, LedgerError> {
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
pub(crate) enum Between {
    Nothing,
    /// It ends, and another process opens what is left of it.
    Crash(SimDisk, Survivors),
    /// Its export is imported into a fresh one.
    Carry,
}

pub(crate) struct Stage {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) root: Root,
    pub(crate) between: Between,
}

impl Stage {
    pub(crate) fn new(case: &Case, ledger: Arc<dyn Ledger>, between: Between) -> Self {
        Self { ledger, subjects: case.subjects(), root: case.root(), between }
    }

    pub(crate) fn import(&mut self, file: &Interchange) -> Result<(), Eip3076Error> {
        let imported = import(&self.ledger, file, self.root).map(drop);
        self.between();
        imported
    }

    /// Whether it was signed.
    pub(crate) fn ask(&mut self, key: &PublicKey, position: Position, root: Root) -> bool {
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
pub(crate) fn without_roots(mut file: Interchange) -> Interchange {
    for record in &mut file.records {
        record.blocks.iter_mut().for_each(|block| block.signing_root = None);
        record.attestations.iter_mut().for_each(|vote| vote.signing_root = None);
    }
    file
}

/// Why it was not signed; None: it was.
pub(crate) fn ask(ledger: &Arc<dyn Ledger>, subject: &Subject, position: Position, root: Root) -> Option<Reason> {
    let duty = Duty::new(subject, position, &root.0).unwrap();
    let sign = |_permit: Permit<'_>, bytes: &[u8]| -> Result<_, SignError> { Ok(signature_of(bytes)) };
    let answered = Guard::new(Arc::clone(ledger)).admit(&duty, sign);
    if let Ok(answer) = &answered {
        assert_eq!(answer.signature, signature_of(&root.0), "signed something else");
    }
    refusal(answered)
}

pub(crate) fn map() -> Arc<dyn Ledger> {
    Arc::new(MapLedger::default())
}
