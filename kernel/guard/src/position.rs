//! Where in a chain's time a signature belongs.
//!
//! A [`Position`] is what the field calls it; a [`Lane`] is the sequence it belongs to, with a history of its own; a
//! [`Mark`] is the position as three numbers, as the ledger stores it.

use std::fmt;

/// A position as stored: three numbers whose meaning and order the [`Lane`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mark(pub [u64; 3]);

/// Step of a Tendermint round, with CometBFT's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Step {
    /// A proposal.
    Propose = 1,
    /// A prevote, nil or for a block.
    Prevote = 2,
    /// A precommit, nil or for a block.
    Precommit = 3,
}

impl Step {
    /// The step with CometBFT's number 1, 2 or 3.
    pub const fn from_code(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::Propose),
            2 => Some(Self::Prevote),
            3 => Some(Self::Precommit),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Propose => "proposal",
            Self::Prevote => "prevote",
            Self::Precommit => "precommit",
        })
    }
}

/// Ethereum duties that are neither a block nor an attestation: one value per (duty, slot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EthereumDuty {
    /// Selection proof of an aggregator.
    AggregatorSelection = 0,
    /// Aggregate and proof.
    Aggregate = 1,
    /// Sync committee message.
    SyncMessage = 2,
    /// Selection proof of a sync committee aggregator.
    SyncSelection = 3,
    /// Sync committee contribution and proof.
    SyncContribution = 4,
}

impl EthereumDuty {
    /// Every one of them.
    pub const ALL: [Self; 5] =
        [Self::AggregatorSelection, Self::Aggregate, Self::SyncMessage, Self::SyncSelection, Self::SyncContribution];
}

/// Entity types that Mithril certifies, with Mithril's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SignedEntity {
    /// Beacon: epoch.
    MithrilStakeDistribution = 0,
    /// Beacon: epoch.
    CardanoStakeDistribution = 1,
    /// Beacon: epoch, immutable file number.
    CardanoImmutableFilesFull = 2,
    /// Beacon: epoch, block number.
    CardanoTransactions = 3,
    /// Beacon: epoch, immutable file number.
    CardanoDatabase = 4,
    /// Beacon: epoch, block number.
    CardanoBlocksTransactions = 5,
}

impl SignedEntity {
    /// Every one of them.
    pub const ALL: [Self; 6] = [
        Self::MithrilStakeDistribution,
        Self::CardanoStakeDistribution,
        Self::CardanoImmutableFilesFull,
        Self::CardanoTransactions,
        Self::CardanoDatabase,
        Self::CardanoBlocksTransactions,
    ];
}

/// Where one signature belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// Height ≥ 1, round ≥ 0, step. Ordered height, round, step.
    Tendermint {
        /// Block height.
        height: u64,
        /// Round at that height.
        round: u32,
        /// Step of the round.
        step: Step,
    },
    /// A beacon block, blinded or not. Ordered by slot.
    EthereumBlock {
        /// Slot of the block.
        slot: u64,
    },
    /// An attestation: two watermarks (EIP-3076, minimal).
    EthereumAttestation {
        /// Source epoch; may stay, never falls.
        source: u64,
        /// Target epoch; rises.
        target: u64,
    },
    /// Any other Ethereum duty: one value per slot.
    EthereumDuty {
        /// Which duty.
        duty: EthereumDuty,
        /// Slot of the duty.
        slot: u64,
    },
    /// One message per (entity type, beacon).
    Mithril {
        /// What is certified.
        entity: SignedEntity,
        /// Epoch of the beacon.
        epoch: u64,
        /// Immutable file number or block number; 0 for entities that have an epoch only.
        number: u64,
    },
    /// One pre-hash per slot.
    Aura {
        /// Aura slot.
        slot: u64,
    },
}

impl Position {
    /// The sequence this position belongs to.
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Tendermint { .. } => Lane::Tendermint,
            Self::EthereumBlock { .. } => Lane::EthereumBlock,
            Self::EthereumAttestation { .. } => Lane::EthereumAttestation,
            Self::EthereumDuty { duty, .. } => Lane::EthereumDuty(*duty),
            Self::Mithril { entity, .. } => Lane::Mithril(*entity),
            Self::Aura { .. } => Lane::Aura,
        }
    }

    /// The position as the ledger stores it.
    pub fn mark(&self) -> Mark {
        Mark(match *self {
            Self::Tendermint { height, round, step } => [height, u64::from(round), step as u64],
            Self::EthereumBlock { slot } | Self::EthereumDuty { slot, .. } | Self::Aura { slot } => [slot, 0, 0],
            Self::EthereumAttestation { source, target } => [target, source, 0],
            Self::Mithril { epoch, number, .. } => [epoch, number, 0],
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lane().show(self.mark()))
    }
}

/// How the positions of a lane relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Strictly rising in lexicographic order.
    Rising,
    /// EIP-3076 attestations: the target rises, the source does not fall.
    Attestation,
    /// One value per position; positions above the floor may come in any order.
    Once,
}

/// A sequence of positions with a history of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Tendermint votes and proposals.
    Tendermint,
    /// Beacon blocks.
    EthereumBlock,
    /// Attestations.
    EthereumAttestation,
    /// Another Ethereum duty.
    EthereumDuty(EthereumDuty),
    /// Mithril messages of one entity type.
    Mithril(SignedEntity),
    /// Aura seals.
    Aura,
}

impl Lane {
    /// The lane's number in a ledger record.
    pub const fn code(self) -> u16 {
        match self {
            Self::Tendermint => 1,
            Self::EthereumBlock => 16,
            Self::EthereumAttestation => 17,
            Self::EthereumDuty(duty) => 32 + duty as u16,
            Self::Mithril(entity) => 64 + entity as u16,
            Self::Aura => 96,
        }
    }

    /// The lane with this number in a ledger record.
    pub fn from_code(code: u16) -> Option<Self> {
        let plain = [Self::Tendermint, Self::EthereumBlock, Self::EthereumAttestation, Self::Aura];
        let duties = EthereumDuty::ALL.into_iter().map(Self::EthereumDuty);
        let entities = SignedEntity::ALL.into_iter().map(Self::Mithril);
        plain.into_iter().chain(duties).chain(entities).find(|lane| lane.code() == code)
    }

    /// How this lane's positions relate.
    pub const fn order(self) -> Order {
        match self {
            Self::Tendermint | Self::EthereumBlock | Self::Aura => Order::Rising,
            Self::EthereumAttestation => Order::Attestation,
            Self::EthereumDuty(_) | Self::Mithril(_) => Order::Once,
        }
    }

    /// A mark of this lane in the words of its field.
    pub fn show(self, Mark([a, b, c]): Mark) -> String {
        match self {
            Self::Tendermint => match Step::from_code(c) {
                Some(step) => format!("{step} #{a}/{b}"),
                None if b == 0 => format!("everything up to height #{}", a.saturating_sub(1)),
                None => format!("height #{a}, round {b}"),
            },
            Self::EthereumBlock => format!("block of slot {a}"),
            Self::EthereumAttestation => format!("attestation {b} → {a}"),
            Self::EthereumDuty(duty) => format!("{duty:?} of slot {a}"),
            Self::Mithril(entity) => format!("{entity:?} at epoch {a}, {b}"),
            Self::Aura => format!("seal of slot {a}"),
        }
    }

    /// The larger of two floors of this lane: they never fall.
    pub fn higher(self, a: Mark, b: Mark) -> Mark {
        match self.order() {
            Order::Rising | Order::Once => a.max(b),
            Order::Attestation => {
                let (Mark([t1, s1, _]), Mark([t2, s2, _])) = (a, b);
                Mark([t1.max(t2), s1.max(s2), 0])
            }
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tendermint => f.write_str("tendermint"),
            Self::EthereumBlock => f.write_str("ethereum block"),
            Self::EthereumAttestation => f.write_str("ethereum attestation"),
            Self::EthereumDuty(duty) => write!(f, "ethereum {duty:?}"),
            Self::Mithril(entity) => write!(f, "mithril {entity:?}"),
            Self::Aura => f.write_str("aura"),
        }
    }
}
