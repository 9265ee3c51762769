//! What the tests of the guard share: keys, positions, and a ledger in memory that forgets on demand.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test may stop")]

use semel_guard::{
    Advance, Algorithm, ChainId, Digest, Entry, History, Lane, Ledger, Mark, Position, PublicKey, Refusal, Signature,
    Step, Subject, Unavailable, Version,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Key number `n`, on a chain.
pub(crate) fn subject(n: u8) -> Subject {
    let key = PublicKey::new(Algorithm::Ed25519, &[n; 32]).unwrap();
    Subject { key, chain: ChainId::new("test-1").unwrap() }
}

/// A precommit of round 0.
pub(crate) fn precommit(height: u64) -> Position {
    Position::Tendermint { height, round: 0, step: Step::Precommit }
}

/// What the key makes of a message: the same for the same message.
pub(crate) fn signature_of(bytes: &[u8]) -> Signature {
    Signature::new(&Digest::of(bytes).0).unwrap()
}

/// A ledger as a value: what is on the medium, and the signatures that only memory has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) lanes: BTreeMap<u16, Arc<History>>,
    /// Signatures that were kept and are not on the medium.
    pub(crate) kept: Vec<(u16, Mark, Digest, Signature)>,
    /// The next write fails, and nothing is on the medium.
    pub(crate) loses_writes: bool,
    /// The next write is on the medium, and nobody is told.
    pub(crate) ends_after_write: bool,
    /// How often an advance finds another version.
    pub(crate) conflicts: u32,
    /// Refusals that were reported.
    pub(crate) refused: Vec<Refusal>,
    /// Advances that were committed.
    pub(crate) advances: u32,
}

impl Model {
    /// A lane as the medium has it.
    pub(crate) fn medium(&self, lane: Lane) -> Arc<History> {
        self.lanes.get(&lane.code()).cloned().unwrap_or_default()
    }

    /// A lane's history from now on.
    pub(crate) fn set(&mut self, lane: Lane, history: History) {
        self.lanes.insert(lane.code(), Arc::new(history));
    }

    /// Ends the process and starts it again. With `loses_signatures`, those that were kept since are gone.
    pub(crate) fn restart(&mut self, loses_signatures: bool) {
        (self.loses_writes, self.ends_after_write) = (false, false);
        if loses_signatures {
            self.kept.clear();
        }
    }

    fn with_kept(&self, lane: Lane) -> Arc<History> {
        let mut history = self.medium(lane);
        for (_, mark, digest, signature) in self.kept.iter().filter(|(code, ..)| *code == lane.code()) {
            Arc::make_mut(&mut history).keep(*mark, *digest, *signature);
        }
        history
    }
}

/// A [`Model`] behind the trait.
pub(crate) struct Scripted(Mutex<Model>);

impl Scripted {
    pub(crate) fn new(model: Model) -> Self {
        Self(Mutex::new(model))
    }

    pub(crate) fn model(&self) -> Model {
        self.0.lock().unwrap().clone()
    }
}

impl Ledger for Scripted {
    fn history(&self, _: &Subject, lane: Lane) -> Result<Arc<History>, Unavailable> {
        Ok(self.0.lock().unwrap().with_kept(lane))
    }

    fn advance(&self, _: &Subject, lane: Lane, expected: Version, entry: Entry) -> Advance {
        let mut model = self.0.lock().unwrap();
        if model.conflicts > 0 {
            model.conflicts -= 1;
            return Advance::Conflict;
        }
        if model.loses_writes {
            return Advance::Unavailable(Unavailable("the process ends".into()));
        }
        let mut history = model.medium(lane);
        if history.version != expected {
            return Advance::Conflict;
        }
        Arc::make_mut(&mut history).push(lane, entry);
        let version = history.version;
        model.lanes.insert(lane.code(), history);
        model.advances += 1;
        match model.ends_after_write {
            true => Advance::Unknown("the process ends".into()),
            false => Advance::Committed(version),
        }
    }

    fn keep(&self, _: &Subject, lane: Lane, mark: Mark, digest: Digest, signature: &Signature) {
        self.0.lock().unwrap().kept.push((lane.code(), mark, digest, *signature));
    }

    fn raise(&self, _: &Subject, lane: Lane, floor: Mark) -> Result<(), Unavailable> {
        let mut model = self.0.lock().unwrap();
        let mut history = model.medium(lane);
        Arc::make_mut(&mut history).raise(lane, floor);
        model.lanes.insert(lane.code(), history);
        Ok(())
    }

    fn bury(&self, _: &Subject, buried: bool) -> Result<(), Unavailable> {
        let mut model = self.0.lock().unwrap();
        for history in model.lanes.values_mut() {
            Arc::make_mut(history).tombstone = buried;
        }
        Ok(())
    }

    fn refused(&self, refusal: &Refusal) {
        self.0.lock().unwrap().refused.push(refusal.clone());
    }
}
