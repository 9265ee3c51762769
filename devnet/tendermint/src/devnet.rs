//! A running network behind one handle.
//!
//! One node per validator, each with a privval listener of its own; signers dial in, and when all have, blocks begin. With
//! `attack` there is one more listener: a second sentry of validator 0 that asks for contradictions.

use crate::{
    attack::Attacker,
    board::{Board, Snapshot},
    consensus::{Height, Settings, Timeouts, Validator, ValidatorSet, ValidatorsError},
    evidence::{KeyError, Pool},
    network::{
        Conduct, Faults, Node, SharedPool,
        live::{AttendedSigner, Live, Shared, is_past},
        node::locked,
    },
    privval::{Family, Listen, Listener, ListenerConfig, RemoteSigner},
};
use ed25519_dalek::SigningKey;
use sha2::{Digest as _, Sha256};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    thread::{Builder, JoinHandle},
    time::Duration,
};

/// What to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Chain id.
    pub chain: String,
    /// Keys and powers of the validators.
    pub validators: Vec<Validator>,
    /// What the nodes speak to their signers.
    pub family: Family,
    /// Whether precommits carry vote extensions; only with [`Family::V038`].
    pub extensions: bool,
    /// Patience of the nodes. `timeouts.commit` is the block interval, in effect.
    pub timeouts: Timeouts,
    /// Where each validator's node listens for its signer; TCP on a free loopback port where the list ends.
    pub listen: Vec<Listen>,
    /// What goes wrong.
    pub faults: Faults,
    /// Seed of faults and of the nodes' identities.
    pub seed: u64,
    /// Nodes that ask their signers for contradicting twins of everything.
    pub equivocators: Vec<usize>,
    /// Whether there is an attacker.
    pub attack: bool,
    /// How long to wait for all signers before blocks begin without the missing.
    pub patience: Duration,
}

impl Config {
    /// A calm network of validators with equal power.
    pub fn new(chain: &str, keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self {
            chain: chain.into(),
            validators: keys.into_iter().map(|key| Validator { key, power: 1 }).collect(),
            family: Family::V038,
            extensions: false,
            timeouts: Timeouts::default(),
            listen: Vec::new(),
            faults: Faults::default(),
            seed: 0,
            equivocators: Vec::new(),
            attack: false,
            patience: Duration::from_secs(10),
        }
    }

    /// The same network with this time between blocks, of which the wait for late precommits is the greater part.
    #[must_use]
    pub const fn block_interval(mut self, interval: Duration) -> Self {
        self.timeouts.commit = interval;
        self
    }
}

/// The Ed25519 public key of the validator key with this seed.
pub fn public_key(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// A network that did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// The validator set is impossible.
    #[error(transparent)]
    Validators(#[from] ValidatorsError),
    /// A validator's key is impossible.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A socket or thread could not be had.
    #[error("the system gave no socket or thread")]
    System(#[from] std::io::Error),
}

/// A running network; it ends when this is dropped.
#[derive(Debug)]
pub struct Devnet {
    shared: Arc<Shared>,
    pool: SharedPool,
    live: Live,
    attacker: Option<JoinHandle<()>>,
    addresses: Vec<Listen>,
    attack_address: Option<Listen>,
}

impl Devnet {
    /// Opens the listeners and starts the nodes; blocks begin when every signer has connected.
    pub fn start(config: Config) -> Result<Self, DevnetError> {
        let set = ValidatorSet::new(config.validators.clone())?;
        let extensions = config.extensions && config.family == Family::V038;
        let pool = Pool::new(&config.chain, config.family.encoding(), extensions, &set)?;
        let pool: SharedPool = Arc::new(Mutex::new(pool));
        let shared = Shared::new(Board::new(config.validators.len(), config.attack));

        let mut addresses = Vec::with_capacity(config.validators.len());
        let mut nodes: Vec<(Node, Box<dyn AttendedSigner>)> = Vec::with_capacity(config.validators.len());
        for (index, validator) in config.validators.iter().enumerate() {
            let listen = config.listen.get(index).cloned().unwrap_or_else(loopback);
            let listener = Listener::bind(listener_config(&config, listen, index))?;
            addresses.push(listener.address().clone());
            let conduct = if config.equivocators.contains(&index) { Conduct::Equivocating } else { Conduct::Honest };
            let settings = Settings { me: index as u32, set: set.clone(), timeouts: config.timeouts, extensions };
            let signer = RemoteSigner::new(listener, validator.key, shared.stopping.clone());
            nodes.push((Node::new(settings, pool.clone(), conduct), Box::new(signer)));
        }

        let (mut attacker, mut attack_address) = (None, None);
        if let Some(validator) = config.validators.first().filter(|_| config.attack) {
            let listener = Listener::bind(listener_config(&config, loopback(), config.validators.len()))?;
            attack_address = Some(listener.address().clone());
            let signer = RemoteSigner::new(listener, validator.key, shared.stopping.clone());
            let (shared, pool) = (shared.clone(), pool.clone());
            let body = Attacker { victim: 0, signer, shared, pool, last: None };
            attacker = Some(Builder::new().name("attacker".into()).spawn(move || body.run())?);
        }

        let live = Live::start(nodes, shared.clone(), &config.faults, config.seed, config.patience)?;
        Ok(Self { shared, pool, live, attacker, addresses, attack_address })
    }

    /// Where each validator's signer is expected; printed as `tcp://127.0.0.1:PORT` or `unix://PATH`.
    pub fn addresses(&self) -> &[Listen] {
        &self.addresses
    }

    /// Where the attacker expects the signer of validator 0, if there is one.
    pub const fn attack_address(&self) -> Option<&Listen> {
        self.attack_address.as_ref()
    }

    /// Everything at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = locked(&self.shared.board).snapshot(self.shared.started.elapsed());
        let pool = locked(&self.pool);
        snapshot.evidence = pool.evidence().to_vec();
        snapshot.rejected = pool.rejected_count();
        snapshot
    }

    /// Waits until `height` is decided and the next block has settled its commit; false if `patience` ends first.
    pub fn wait_height(&self, height: Height, patience: Duration) -> bool {
        self.shared.wait(patience, |board| is_past(board, height))
    }

    /// Waits until every validator's signer has connected once; false if `patience` ends first.
    pub fn wait_signers(&self, patience: Duration) -> bool {
        self.shared.wait(patience, Board::all_were_connected)
    }

    /// The payload of blocks from now on.
    pub fn payload(&self, payload: &[u8]) {
        self.live.payload(payload);
    }

    /// Takes a node down; its signer's connection is lost.
    pub fn take_down(&self, validator: usize) {
        self.live.power(validator, false);
    }

    /// Brings a node back with its state as it was.
    pub fn bring_back(&self, validator: usize) {
        self.live.power(validator, true);
    }

    /// Ends the network, within about a second, and gives the last state of things.
    pub fn stop(mut self) -> Snapshot {
        self.end();
        self.snapshot()
    }

    fn end(&mut self) {
        self.live.stop();
        if let Some(attacker) = self.attacker.take().filter(JoinHandle::is_finished)
            && attacker.join().is_err()
        {
            tracing::error!("the attacker panicked");
        }
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        self.end();
    }
}

const fn loopback() -> Listen {
    Listen::Tcp(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0))
}

fn listener_config(config: &Config, listen: Listen, index: usize) -> ListenerConfig {
    let mut hasher = Sha256::new();
    hasher.update(b"devnet node identity");
    hasher.update(config.seed.to_be_bytes());
    hasher.update((index as u64).to_be_bytes());
    let (chain, family, extensions) = (config.chain.clone(), config.family, config.extensions);
    ListenerConfig { listen, chain, family, extensions, identity: hasher.finalize().into() }
}
