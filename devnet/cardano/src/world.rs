//! What is true on the network: chain, epoch, stakes, datums. Everyone who tells of it asks here.
//!
//! Epochs are moved by hand or by a clock, not by slots: an epoch reveals a fixed number of immutable files' blocks. Stakes
//! are those that the snapshot named *mark* takes in an epoch; *set* is the mark of the epoch before, *go* of the one before
//! that. By default every pool's stake grows in every epoch, so that stakes of a wrong epoch are never those of the right one.

use crate::block::Block;
use crate::chain::{Chain, ChainError};
use crate::database::Database;
use crate::immutable::ImmutableError;
use crate::options::Options;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Lovelace by pool.
pub(crate) type Stakes = BTreeMap<[u8; 28], u64>;

/// The network, shared by those who tell of it.
#[derive(Debug)]
pub(crate) struct Shared {
    world: Mutex<World>,
    changed: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(world: World) -> Self {
        Self { world: Mutex::new(world), changed: watch::Sender::new(0) }
    }

    /// The world, for a look.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world, for a change, of which followers are told.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let outcome = change(&mut self.world());
        self.changed.send_modify(|version| *version += 1);
        outcome
    }

    /// Told of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Where a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) slot: u64,
    pub(crate) number: u64,
    pub(crate) hash: [u8; 32],
}

impl From<&Block> for Tip {
    fn from(block: &Block) -> Self {
        Self { slot: block.slot, number: block.number, hash: block.hash }
    }
}

/// The state of the ledger at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) era: u16,
    pub(crate) epoch: u64,
    pub(crate) tip: Option<Tip>,
    /// Mark, set and go.
    pub(crate) stakes: [Stakes; 3],
    pub(crate) datums: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

/// The network's state.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) chain: Chain,
    pub(crate) database: Database,
    pub(crate) epoch: u64,
    /// Trios whose blocks the current epoch reveals end below this one.
    epoch_ends_at: u64,
    trios_per_epoch: u64,
    k: usize,
    era: u16,
    stakes: BTreeMap<u64, Stakes>,
    drift: u64,
    pub(crate) no_stake: bool,
    pub(crate) epoch_moves_with_stakes: bool,
    pub(crate) datums: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

/// What cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorldError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Files(#[from] ImmutableError),
}

impl World {
    /// A network before its first step: the trios that it begins with are revealed.
    pub(crate) fn begin(options: &Options, database: Database, stakes: Stakes) -> Result<Self, WorldError> {
        let mut world = Self {
            chain: Chain::new(options.immutable.clone()),
            database,
            epoch: options.first_epoch,
            epoch_ends_at: options.first_trios + options.trios_per_epoch,
            trios_per_epoch: options.trios_per_epoch,
            k: options.k,
            era: options.era,
            stakes: BTreeMap::from([(0, stakes)]),
            drift: options.stake_drift,
            no_stake: false,
            epoch_moves_with_stakes: false,
            datums: BTreeMap::new(),
        };
        world.chain.reveal_below(options.first_trios)?;
        world.store()?;
        Ok(world)
    }

    /// Writes down what has become immutable.
    fn store(&mut self) -> Result<(), WorldError> {
        Ok(self.database.follow(self.chain.blocks(), self.k)?)
    }

    pub(crate) fn advance_blocks(&mut self, count: usize) -> Result<(), WorldError> {
        for _ in 0..count {
            self.chain.reveal()?;
        }
        self.store()
    }

    /// Reveals what is left of the epoch and begins the next.
    pub(crate) fn advance_epoch(&mut self) -> Result<u64, WorldError> {
        self.chain.reveal_below(self.epoch_ends_at)?;
        self.epoch_ends_at += self.trios_per_epoch;
        self.epoch += 1;
        self.store()?;
        Ok(self.epoch)
    }

    /// Blocks that the epoch has still to reveal.
    pub(crate) fn left_in_epoch(&mut self) -> Result<usize, WorldError> {
        Ok(self.chain.left_below(self.epoch_ends_at)?)
    }

    pub(crate) fn roll_back(&mut self, count: usize, fork: bool) -> Result<(), WorldError> {
        self.chain.roll_back(count, fork);
        self.store()
    }

    /// From `epoch` on, marks take these stakes (and what the drift adds).
    pub(crate) fn set_stakes(&mut self, epoch: u64, stakes: Stakes) {
        self.stakes.insert(epoch, stakes);
    }

    /// What the mark of an epoch takes.
    pub(crate) fn mark(&self, epoch: u64) -> Stakes {
        let set = self.stakes.range(..=epoch).next_back();
        set.map(|(_, stakes)| stakes)
            .into_iter()
            .flatten()
            .map(|(pool, stake)| match stake {
                0 => (*pool, 0),
                _ => (*pool, stake + self.drift * epoch),
            })
            .collect()
    }

    /// The state as it is now.
    pub(crate) fn ledger(&self) -> Ledger {
        let mut stakes = [0, 1, 2].map(|ago| self.mark(self.epoch.saturating_sub(ago)));
        if self.no_stake {
            stakes.iter_mut().flat_map(|snapshot| snapshot.values_mut()).for_each(|stake| *stake = 0);
        }
        Ledger {
            era: self.era,
            epoch: self.epoch,
            tip: self.chain.tip().map(Tip::from),
            stakes,
            datums: self.datums.clone(),
        }
    }
}
