//! What kind of network to run.

use crate::database::LedgerForm;
use mithril_common::entities::ProtocolParameters;
use std::path::PathBuf;
use std::time::Duration;

/// What kind of network to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the node's socket and database go.
    pub directory: PathBuf,
    /// Immutable files of a real chain; without, blocks are made up.
    pub immutable: Option<PathBuf>,
    /// The network's magic: 2 is preview's.
    pub magic: u64,
    /// Number of the era that the ledger says it is in: 6 is Conway.
    pub era: u16,
    /// Epoch that the network begins in.
    pub first_epoch: u64,
    /// Trios revealed at the beginning.
    pub first_trios: u64,
    /// Trios revealed by each epoch.
    pub trios_per_epoch: u64,
    /// Blocks at the end of the chain that are not immutable yet; 432 on preview.
    pub k: usize,
    /// Slots of a KES period.
    pub slots_per_kes_period: u32,
    /// How ledger snapshots are stored.
    pub ledger_form: LedgerForm,
    /// Stake pools, each with a signer.
    pub pools: u64,
    /// Seed of all keys.
    pub seed: u64,
    /// What every pool's stake grows by with each epoch, in lovelace.
    pub stake_drift: u64,
    /// Parameters of the protocol that genesis is made with; signers take theirs from the aggregator.
    pub parameters: ProtocolParameters,
    /// How long an epoch takes when the clock is real; without, tests move it by hand.
    pub epoch_time: Option<Duration>,
    /// How often the real clock reveals blocks.
    pub tick_time: Duration,
}

impl Options {
    /// A network of five pools on preview's magic, moved by hand, with made-up blocks.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            immutable: None,
            magic: 2,
            era: 6,
            first_epoch: 10,
            first_trios: 4,
            trios_per_epoch: 2,
            k: 20,
            slots_per_kes_period: 129_600,
            ledger_form: LedgerForm::Tables,
            pools: 5,
            seed: 1,
            stake_drift: 1_000_000,
            parameters: ProtocolParameters { k: 5, m: 100, phi_f: 0.7 },
            epoch_time: None,
            tick_time: Duration::from_millis(500),
        }
    }
}
