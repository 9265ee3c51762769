//! A whole network on a virtual clock, from one seed: the same seed gives the same run.
//!
//! Watches agreement as it goes: two nodes that decide different blocks at one height are a violation that stays recorded.

use super::{
    dice::Dice,
    faults::{Fate, Faults},
    node::{Conduct, Input, Node, Output, Recipient, SharedPool, TICK, locked},
    signer::{OnceSigner, VoteSigner},
};
use crate::{
    consensus::{
        BlockId, Commit, Encoding, Height, Settings, SharedBlock, SignRequest, Time, Timeouts, Validator, ValidatorSet,
        ValidatorsError,
    },
    evidence::{Evidence, KeyError, Pool},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Unix time at which simulations begin, in seconds.
pub const EPOCH_SECONDS: u64 = 1_700_000_000;
/// Shortest and longest time that a signature takes.
const SIGNING: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(5));

/// What to simulate.
#[derive(Debug, Clone)]
pub struct SimulationConfig {
    /// Voting power of each validator; one node each.
    pub powers: Vec<u64>,
    /// Seed of faults, delays and keys.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// Nodes that do not follow the rules; their signers sign anything.
    pub equivocators: Vec<usize>,
    /// Patience of the nodes.
    pub timeouts: Timeouts,
    /// How sign bytes are encoded.
    pub encoding: Encoding,
    /// Whether precommits carry extensions.
    pub extensions: bool,
}

impl Default for SimulationConfig {
    fn default() -> Self {
        Self {
            powers: vec![1; 4],
            seed: 0,
            faults: Faults::default(),
            equivocators: Vec::new(),
            timeouts: Timeouts::default(),
            encoding: Encoding::Protobuf,
            extensions: false,
        }
    }
}

/// A simulation that cannot begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulationError {
    /// The validator set is impossible.
    #[error(transparent)]
    Validators(#[from] ValidatorsError),
    /// A key is impossible.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Two nodes decided different blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// At this height.
    pub height: Height,
    /// What was decided first, by anyone.
    pub first: BlockId,
    /// What this node decided.
    pub second: (usize, BlockId),
}

#[derive(Debug)]
struct Slot {
    node: Node,
    signer: OnceSigner,
    /// When the signer is done with what it was asked before: one request at a time.
    signer_free: Duration,
    up: bool,
    boots: u32,
    decided: Height,
}

#[derive(Debug)]
enum Happening {
    /// Boots must match: what a node waited for dies with it. Messages have none.
    Reaches(Option<u32>, Box<Input>),
    Down,
    Up,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Simulation {
    now: Duration,
    sequence: u64,
    queue: BTreeMap<(Duration, u64), (usize, Happening)>,
    slots: Vec<Slot>,
    pool: SharedPool,
    faults: Faults,
    dice: Dice,
    chain: BTreeMap<Height, (SharedBlock, Commit)>,
    disagreements: Vec<Disagreement>,
}

impl Simulation {
    /// A network at time 0.
    pub fn new(config: SimulationConfig) -> Result<Self, SimulationError> {
        const CHAIN: &str = "simulation";
        let mut dice = Dice::new(config.seed);
        let mut signers = Vec::new();
        for index in 0..config.powers.len() {
            let mut seed = [0; 32];
            seed.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&dice.roll().to_le_bytes()));
            let reckless = config.equivocators.contains(&index);
            let make = if reckless { OnceSigner::reckless } else { OnceSigner::new };
            signers.push((make(seed, CHAIN, config.encoding), reckless));
        }
        let keys = signers.iter().zip(&config.powers);
        let validators = keys.map(|((signer, _), power)| Validator { key: signer.public_key(), power: *power });
        let set = ValidatorSet::new(validators.collect())?;
        let pool = Pool::new(CHAIN, config.encoding, config.extensions, &set)?;
        let pool: SharedPool = Arc::new(Mutex::new(pool));
        let slots = signers.into_iter().enumerate().map(|(me, (signer, reckless))| {
            let conduct = if reckless { Conduct::Equivocating } else { Conduct::Honest };
            let (me, set) = (me as u32, set.clone());
            let settings = Settings { me, set, timeouts: config.timeouts, extensions: config.extensions };
            let node = Node::new(settings, pool.clone(), conduct);
            Slot { node, signer, signer_free: Duration::ZERO, up: true, boots: 0, decided: Height(0) }
        });
        let mut simulation = Self {
            now: Duration::ZERO,
            sequence: 0,
            queue: BTreeMap::new(),
            slots: slots.collect(),
            pool,
            faults: config.faults,
            dice,
            chain: BTreeMap::new(),
            disagreements: Vec::new(),
        };
        simulation.set_up();
        Ok(simulation)
    }

    fn set_up(&mut self) {
        for index in 0..self.slots.len() {
            let late = self.dice.between(Duration::ZERO, Duration::from_millis(50));
            self.at(late, index, Happening::Reaches(None, Box::new(Input::Start)));
            self.at(late, index, Happening::Reaches(None, Box::new(Input::Tick)));
        }
        for restart in self.faults.restarts.clone() {
            self.at(restart.at, restart.node, Happening::Down);
            self.at(restart.at.saturating_add(restart.down_for), restart.node, Happening::Up);
        }
    }

    /// Virtual time since the start.
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// The lowest height that every node has decided.
    pub fn height(&self) -> Height {
        self.slots.iter().map(|slot| slot.decided).min().unwrap_or_default()
    }

    /// Decided blocks with the fullest commit that any node has.
    pub const fn chain(&self) -> &BTreeMap<Height, (SharedBlock, Commit)> {
        &self.chain
    }

    /// Violations of agreement; always empty if at most a third of the power is dishonest.
    pub fn disagreements(&self) -> &[Disagreement] {
        &self.disagreements
    }

    /// Contradicting signatures that were seen.
    pub fn evidence(&self) -> Vec<Evidence> {
        locked(&self.pool).evidence().to_vec()
    }

    /// Messages that failed verification.
    pub fn rejected_count(&self) -> u64 {
        locked(&self.pool).rejected_count()
    }

    /// Runs until every node has decided `height`; false if that takes longer than until `deadline`.
    pub fn run_until(&mut self, height: Height, deadline: Duration) -> bool {
        while self.height() < height {
            let Some(((at, _), (index, happening))) = self.queue.pop_first() else { return false };
            if at > deadline {
                return false;
            }
            self.now = at;
            self.happen(index, happening);
        }
        true
    }

    fn happen(&mut self, index: usize, happening: Happening) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let input = match happening {
            Happening::Down => {
                slot.up = false;
                slot.boots = slot.boots.saturating_add(1);
                return;
            }
            Happening::Up => {
                slot.up = true;
                self.after(TICK, index, Happening::Reaches(None, Box::new(Input::Tick)));
                Input::Restarted
            }
            Happening::Reaches(boots, input) => {
                if !slot.up || boots.is_some_and(|boots| boots != slot.boots) {
                    return;
                }
                if matches!(*input, Input::Tick) {
                    self.after(TICK, index, Happening::Reaches(None, Box::new(Input::Tick)));
                }
                *input
            }
        };
        let time = Time::from_epoch(Duration::from_secs(EPOCH_SECONDS).saturating_add(self.now));
        let Some(slot) = self.slots.get_mut(index) else { return };
        for output in slot.node.handle(time, input) {
            self.carry_out(index, output);
        }
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Sign(request) => self.sign(index, request),
            Output::Send(recipient, message) => {
                for to in 0..self.slots.len() {
                    let meant = match recipient {
                        Recipient::All => true,
                        Recipient::Half { odd } => (to % 2 == 1) == odd,
                        Recipient::One(one) => to == one,
                    };
                    if meant && to != index {
                        let fate = self.faults.fate(self.now, index, to, &mut self.dice);
                        if let Fate::Delivered(delay) = fate {
                            let input = Input::Message(index, message.clone());
                            self.after(delay, to, Happening::Reaches(None, Box::new(input)));
                        }
                    }
                }
            }
            Output::Schedule(timeout, after) => {
                let boots = self.slots.get(index).map(|slot| slot.boots);
                self.after(after, index, Happening::Reaches(boots, Box::new(Input::Timeout(timeout))));
            }
            Output::Decided(block, commit) => self.decided(index, block, commit),
            Output::Gathered(commit) => {
                if let Some((_, fullest)) = self.chain.get_mut(&commit.height)
                    && fullest.signatures.len() < commit.signatures.len()
                {
                    *fullest = commit;
                }
            }
        }
    }

    fn sign(&mut self, index: usize, request: SignRequest) {
        let takes = self.dice.between(SIGNING.0, SIGNING.1);
        let Some(slot) = self.slots.get_mut(index) else { return };
        let done = slot.signer_free.max(self.now).saturating_add(takes);
        slot.signer_free = done;
        let input = match slot.signer.sign(index as u32, &request) {
            Ok(signed) => Input::Signed(request, signed),
            Err(_) => Input::NotSigned(request),
        };
        let boots = Some(slot.boots);
        self.at(done, index, Happening::Reaches(boots, Box::new(input)));
    }

    fn decided(&mut self, index: usize, block: SharedBlock, commit: Commit) {
        let (height, id) = (block.height, commit.block);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.decided = height;
        }
        let first = self.chain.entry(height).or_insert((block, commit)).1.block;
        if first != id {
            tracing::error!(%height, ?first, second = ?id, node = index, "two blocks at one height");
            self.disagreements.push(Disagreement { height, first, second: (index, id) });
        }
    }

    fn after(&mut self, delay: Duration, index: usize, happening: Happening) {
        self.at(self.now.saturating_add(delay), index, happening);
    }

    fn at(&mut self, at: Duration, index: usize, happening: Happening) {
        self.sequence = self.sequence.saturating_add(1);
        self.queue.insert((at, self.sequence), (index, happening));
    }
}
