//! The engine: what the HTTP server and the runtime thread share.
//!
//! ```text
//! HTTP ──register_signer──▶ round ──▶ database
//! HTTP ──register_signature─▶ open message ──▶ database, quorum ──event──▶ runtime thread ──▶ certificate
//! runtime thread ──▶ core::runtime::decide ──▶ enter an epoch │ open │ aggregate │ seal │ expire
//! ```
//!
//! One thread decides ([`runtime`]); what takes long (the content of a message, an aggregate, an artifact) runs on a thread of its
//! own per type of entity, so that none waits for another. A certificate is admitted by the guard, then committed with all that
//! follows from it in one transaction, then told.

pub mod artifacts;
pub mod epoch;
pub mod registration;
pub mod runtime;
pub mod seal;
pub mod signatures;

use crate::core::roster::{Quorum, Roster};
use crate::core::runtime::{Chain, State};
use crate::host::chain::{ChainError, Observer, View};
use crate::host::store::messages::OpenMessage;
use crate::host::store::{Store, StoreError};
use chrono::{DateTime, Utc};
use mithril_common::crypto_helper::GenesisEd25519VerificationKey;
use mithril_common::entities::{
    BlockNumber, CardanoDbBeacon, Epoch, LotteryIndex, PartyId, ProtocolMessagePartValue, SignedEntityConfig,
    SignedEntityType, SignedEntityTypeDiscriminants as Kind, StakeDistribution, TimePoint,
};
use semel_guard::{Guard, Subject};
use semel_ledger::Journal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

pub use epoch::EpochData;
pub use registration::{RegisterSignerError, Round};
pub use signatures::{RegisterSignatureError, SignatureOutcome};

/// What the engine is told once.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the network, as certificates carry it.
    pub network: String,
    /// The key that genesis certificates are verified with.
    pub genesis: GenesisEd25519VerificationKey,
    /// Settings of epochs that are recorded from now on; none: this aggregator follows another, and records none.
    pub settings: Option<crate::host::store::epochs::Settings>,
    /// What is certified, beside the Mithril stake distribution.
    pub kinds: BTreeSet<Kind>,
    /// Epochs that are kept; none: all.
    pub retention: Option<u64>,
    /// Time between two looks at the chain.
    pub interval: Duration,
    /// Version of the Cardano node, as its operator says.
    pub node_version: String,
}

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Content and artifacts of entities that need more than the database: whoever holds the node's files.
pub trait Sources: Send + Sync {
    /// Last immutable file that is complete; 0 when none is looked at.
    fn immutable_number(&self) -> Result<u64, SourceError>;

    /// Root for a Cardano database.
    fn database_root(&self, beacon: &CardanoDbBeacon) -> Result<ProtocolMessagePartValue, SourceError>;

    /// Root over transactions up to a block.
    fn transactions_root(&self, up_to: BlockNumber) -> Result<ProtocolMessagePartValue, SourceError>;

    /// Root over blocks and transactions up to a block.
    fn blocks_transactions_root(&self, up_to: BlockNumber) -> Result<ProtocolMessagePartValue, SourceError>;

    /// Makes the artifact of a Cardano database whose certificate has this root.
    /// Its hash, and it as JSON.
    fn database_artifact(&self, beacon: &CardanoDbBeacon, root: &str) -> Result<(String, Value), SourceError>;

    /// Imports what is far enough below the tip. Asked once, at a start with nothing certified.
    fn preload(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// An artifact is there, for an entity whose certificate has this hash and root: proofs are given for it from now on.
    fn certified(&self, entity: &SignedEntityType, certificate: &str, root: &str) -> Result<(), SourceError>;
}

/// Why content cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not yet: the files or blocks are not there. Asking again helps.
    #[error("{0}")]
    NotYet(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

/// Why the engine did not do it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The files.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The era of the network.
    #[error("the network's era: {0}")]
    Era(#[from] EraFailure),
    /// This aggregator is to follow another.
    #[error(
        "this aggregator follows another, which is not part of this version: it leads when LEADER_AGGREGATOR_ENDPOINT is not set"
    )]
    Follower,
    /// Signers do not make a roster.
    #[error("the signers of epoch {epoch}: {why}")]
    Roster {
        /// Epoch they are kept under.
        epoch: Epoch,
        /// Why.
        why: crate::core::roster::RosterError,
    },
    /// No certificate could be made.
    #[error("no certificate for {entity}: {why}")]
    Seal {
        /// What of.
        entity: String,
        /// Why.
        why: String,
    },
}

/// Why the network's era is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EraFailure {
    /// Nobody tells it now. Asking again may help.
    #[error("{0}")]
    NotTold(String),
    /// It is one that this program does not know: it must not go on.
    #[error("{0}")]
    Unknown(String),
}

/// What the network's era is at an epoch.
pub type EraOf = Box<dyn Fn(Epoch) -> Result<String, EraFailure> + Send + Sync>;

/// What the runtime thread is told.
#[derive(Debug)]
pub enum Event {
    /// A message has enough signatures, or a job ended: look what is to be done.
    Look,
    /// End.
    Stop,
}

/// A message in memory, with a count of its signatures.
#[derive(Debug)]
pub struct OpenState {
    /// As it is in the database.
    pub message: OpenMessage,
    /// What is signed: the hash as text.
    pub hash: String,
    signed: Mutex<Signed>,
}

#[derive(Debug)]
struct Signed {
    by_party: HashMap<PartyId, Vec<LotteryIndex>>,
    quorum: Quorum,
    is_certified: bool,
    is_expired: bool,
}

impl Signed {
    /// Ends the count: what was counted is in the database, and thousands of signers' indexes are not kept here.
    pub(super) fn end(&mut self, how: impl FnOnce(&mut Signed)) {
        how(self);
        self.by_party = HashMap::new();
        self.quorum = Quorum::new(self.quorum.needed());
    }
}

impl OpenState {
    pub(super) fn new(message: OpenMessage, k: u64) -> OpenState {
        let signed = Signed {
            by_party: HashMap::new(),
            quorum: Quorum::new(k),
            is_certified: message.is_certified,
            is_expired: message.is_expired,
        };
        OpenState { hash: message.message.compute_hash(), message, signed: Mutex::new(signed) }
    }

    fn signed(&self) -> MutexGuard<'_, Signed> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Different lottery indexes, and how many are needed.
    pub fn progress(&self) -> (u64, u64) {
        let signed = self.signed();
        (signed.quorum.have(), signed.quorum.needed())
    }

    /// Forgets what was counted.
    fn restart(&self) {
        self.signed().end(|_| {});
    }

    /// Whether it has its certificate.
    pub fn is_certified(&self) -> bool {
        self.signed().is_certified
    }

    fn count(&self, party: &PartyId, indexes: &[LotteryIndex]) -> bool {
        let mut signed = self.signed();
        if let Some(before) = signed.by_party.insert(party.clone(), indexes.to_vec()) {
            signed.quorum.remove(&before);
        }
        signed.quorum.add(indexes);
        signed.quorum.is_reached()
    }
}

/// What is told to whoever asks for the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// State of the runtime.
    pub state: State,
    /// Where the chain was when it was last looked at.
    pub view: Option<View>,
    /// The last failure that is not over.
    pub trouble: Option<String>,
}

/// What the HTTP server and the runtime thread share.
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) store: Store,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) sources: Arc<dyn Sources>,
    pub(crate) era: EraOf,
    pub(crate) clock: Clock,
    guard: Guard<Journal>,
    subject: Subject,
    epoch: RwLock<Option<Arc<EpochData>>>,
    round: Arc<RwLock<Option<Arc<Round>>>>,
    open: RwLock<BTreeMap<String, Arc<OpenState>>>,
    standing: RwLock<Standing>,
    chain: Mutex<Chain>,
    events: Sender<Event>,
    // A look was asked for and has not begun: one is enough.
    is_look_asked: AtomicBool,
    // Milliseconds since `began` at the last cycle.
    beaten: AtomicU64,
    began: Instant,
    // Rises whenever something that is served changes.
    version: AtomicU64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.options.network)
    }
}

/// Everything that an engine is made of.
#[expect(missing_debug_implementations, reason = "closures and trait objects inside")]
pub struct Parts {
    /// What it is told once.
    pub options: Options,
    /// The database.
    pub store: Store,
    /// The chain.
    pub observer: Arc<dyn Observer>,
    /// The node's files.
    pub sources: Arc<dyn Sources>,
    /// The network's era.
    pub era: EraOf,
    /// The time.
    pub clock: Clock,
    /// The ledger, open for [`crate::core::seal::subject`].
    pub journal: Journal,
    /// Its subject.
    pub subject: Subject,
}

impl Engine {
    /// An engine that has entered no epoch, and the events that its runtime thread waits for.
    pub fn new(parts: Parts) -> (Arc<Engine>, std::sync::mpsc::Receiver<Event>) {
        let (events, waited) = std::sync::mpsc::channel();
        let engine = Engine {
            options: parts.options,
            store: parts.store,
            observer: parts.observer,
            sources: parts.sources,
            era: parts.era,
            clock: parts.clock,
            guard: Guard::new(parts.journal),
            subject: parts.subject,
            epoch: RwLock::new(None),
            round: Arc::default(),
            open: RwLock::default(),
            standing: RwLock::new(Standing { state: State::Idle, view: None, trouble: None }),
            chain: Mutex::new(Chain { genesis: None, newest: None, holds: false }),
            events,
            is_look_asked: AtomicBool::new(false),
            beaten: AtomicU64::new(0),
            began: Instant::now(),
            version: AtomicU64::new(0),
        };
        (Arc::new(engine), waited)
    }

    /// What it was told once.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The epoch that was entered last.
    pub fn epoch(&self) -> Option<Arc<EpochData>> {
        self.epoch.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The round in which signers register, while there is one.
    pub fn round(&self) -> Option<Arc<Round>> {
        self.round.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The messages of the epoch, in no order.
    pub fn open_messages(&self) -> Vec<Arc<OpenState>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The chain of certificates, as far as it matters to the runtime.
    pub fn chain(&self) -> Chain {
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rises whenever something that is served changes.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Ends the runtime thread.
    pub fn stop(&self) {
        self.tell(Event::Stop);
    }

    fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// How long ago the runtime last began a cycle.
    pub fn since_cycle(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.beaten.load(Ordering::Relaxed)))
    }

    fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beaten.store(now, Ordering::Relaxed);
    }

    /// A look begins: whatever happens from now on asks for another.
    fn looked(&self) {
        self.is_look_asked.store(false, Ordering::SeqCst);
    }

    fn tell(&self, event: Event) {
        if matches!(event, Event::Look) && self.is_look_asked.swap(true, Ordering::SeqCst) {
            return;
        }
        // Nobody listens any more when the program ends.
        let _gone = self.events.send(event);
    }

    pub(crate) fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn open_state(&self, entity: &SignedEntityType) -> Option<Arc<OpenState>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&key(entity)).cloned()
    }

    /// What could be certified at a point of the chain.
    fn certifiable(&self, data: &EpochData, now: &TimePoint) -> Vec<SignedEntityType> {
        let config = SignedEntityConfig {
            allowed_discriminants: self.kinds_of(data),
            cardano_transactions_signing_config: data.current_settings.transactions.clone(),
            cardano_blocks_transactions_signing_config: data.current_settings.blocks_transactions.clone(),
        };
        crate::core::entity::certifiable(&config, now)
    }

    /// Types that are worked on; those whose configuration an epoch lacks are left out.
    fn kinds_of(&self, data: &EpochData) -> BTreeSet<Kind> {
        data.current_settings.configured(&self.options.kinds)
    }

    /// Stakes that signers register against in this epoch.
    fn stakes_of(&self, epoch: Epoch) -> Result<StakeDistribution, StoreError> {
        self.store.read(|db| crate::host::store::epochs::stakes(db, crate::core::entity::recording(epoch)))
    }

    fn current_roster(&self) -> Option<Arc<Roster>> {
        self.epoch().and_then(|data| data.current.clone())
    }
}

/// An entity as a key: its type and beacon.
fn key(entity: &SignedEntityType) -> String {
    format!("{}:{}", entity.index(), entity.get_json_beacon().unwrap_or_default())
}
