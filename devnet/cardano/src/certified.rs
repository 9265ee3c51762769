//! A Cardano network with an aggregator of ours and its signers: the whole of Mithril in one process.
//!
//! The aggregator asks the network's node over its socket and reads its files; signers speak to the aggregator over HTTP only.

use crate::signer::{HttpError, Signer, SignerError};
use crate::{CardanoNet, GenesisKeys, NetError};
use chrono::Utc;
use mithril_common::crypto_helper::{GenesisEd25519SecretKey, GenesisEd25519Signer, ManifestVerifierVerificationKey};
use mithril_common::entities::{
    BlockNumber, BlockNumberOffset, CardanoBlocksTransactionsSigningConfig, CardanoTransactionsSigningConfig,
    SignedEntityTypeDiscriminants as Kind,
};
use semel_aggregator::host::aggregator::{Aggregator, Running, Setup, StartError, chain_directory};
use semel_aggregator::host::artifact::{
    ArtifactError, Compression, DatabaseMaker, Layout, LocalUploader, ManifestKey, ManifestSigner, Uploader,
};
use semel_aggregator::host::chain::Observer;
use semel_aggregator::host::chain::node::Node;
use semel_aggregator::host::chaindata::{self, ChainData, ChainDataError, Provers};
use semel_aggregator::host::engine::{EngineError, Options as EngineOptions};
use semel_aggregator::host::files::NodeFiles;
use semel_aggregator::host::immutable::CachePolicy;
use semel_aggregator::host::store::epochs::Settings;
use semel_aggregator::host::store::{Store, StoreError};
use semel_aggregator::host::{http, keys};
use semel_ops::shutdown::{Stop, StopReason};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Time for something that is under way to happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// The secret of the ancillary manifest's key: of this network only, and known to everybody.
const ANCILLARY_SEED: [u8; 32] = [9; 32];
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum CertifiedError {
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain's data.
    #[error(transparent)]
    ChainData(#[from] ChainDataError),
    /// The archives.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The aggregator.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A signer.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A signer's connection.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A key of the network.
    #[error("a key of the network is none: {0}")]
    Key(String),
    /// It did not happen in time.
    #[error("{what} did not happen: {standing}")]
    Late {
        /// What.
        what: String,
        /// How the aggregator stands.
        standing: String,
    },
    /// Somebody asked for the end.
    #[error("it was told to end")]
    Stopped,
}

/// How the aggregator is set up.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Directory of its stores, archives and ledger.
    pub directory: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it certifies.
    pub kinds: Vec<Kind>,
    /// Time between two looks at the chain.
    pub interval: Duration,
    /// Blocks below the tip that are not certified.
    pub security: u64,
    /// Blocks between two certificates.
    pub step: u64,
    /// Version of the node, as told.
    pub node_version: String,
    /// Epochs that are kept; without, all of them.
    pub retention: Option<u64>,
    /// Ends what waits for something to happen.
    pub stop: Stop,
}

impl Conditions {
    /// All types, on a free port of this host, looking ten times a second.
    pub fn new(directory: impl Into<PathBuf>) -> Conditions {
        Conditions {
            directory: directory.into(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            kinds: vec![
                Kind::MithrilStakeDistribution,
                Kind::CardanoStakeDistribution,
                Kind::CardanoDatabase,
                Kind::CardanoTransactions,
                Kind::CardanoBlocksTransactions,
            ],
            interval: Duration::from_millis(100),
            security: 20,
            step: 15,
            node_version: "10.7.1".to_owned(),
            retention: None,
            stop: Stop::new(),
        }
    }
}

/// A running aggregator over a network.
#[derive(Debug)]
pub struct Certified {
    running: Running,
    url: String,
    keys: GenesisKeys,
    ancillary: String,
    stop: Stop,
    waits_end: Stop,
}

impl Certified {
    /// Starts an aggregator over `net`. A second start over the same directory goes on where the first one was.
    ///
    /// # Errors
    /// When anything of it cannot be had.
    pub fn start(net: &CardanoNet, conditions: &Conditions) -> Result<Certified, CertifiedError> {
        let manifest = keys::secret_key(&hex::encode(format!("{ANCILLARY_SEED:?}").replace(' ', "")))
            .map_err(|error| CertifiedError::Key(error.to_string()))?;
        let manifest = ManifestKey::new(manifest).map_err(|error| CertifiedError::Key(error.to_string()))?;
        let ancillary: ManifestVerifierVerificationKey = (*manifest.verification_key()).into();
        let ancillary = ancillary.to_json_hex().map_err(|error| CertifiedError::Key(error.to_string()))?;
        let keys = net.genesis_keys()?;
        let genesis = keys.verification.as_str().try_into();
        let genesis = genesis.map_err(|error: mithril_common::StdError| CertifiedError::Key(error.to_string()))?;
        // Of its own: an aggregator that is started again over the same conditions runs.
        let stop = Stop::new();
        let directory = &conditions.directory;
        let store = Store::open(&directory.join("stores"))?;
        let observer: Arc<dyn Observer> = Arc::new(Node::new(net.socket(), net.magic()));
        // The port is known before anything is told of it.
        let address = match conditions.address.port() {
            0 => free_port(conditions.address)?,
            _ => conditions.address,
        };
        let url = format!("http://{address}/aggregator");
        let files = Arc::new(Self::files(net, conditions, Arc::new(manifest), &url, &store, &observer, &stop)?);
        let mut ledger = semel_ledger::Options::at(directory.join("ledger"));
        ledger.allow_volatile = true;
        ledger.witness = None;
        let aggregator = Aggregator::open(Setup {
            options: EngineOptions {
                network: net.network().to_string(),
                genesis,
                settings: Some(settings(net, conditions)),
                kinds: conditions.kinds.iter().copied().collect(),
                retention: conditions.retention,
                interval: conditions.interval,
                node_version: conditions.node_version.clone(),
            },
            observer,
            era: Box::new(|_| Ok("pythagoras".to_owned())),
            clock: Arc::new(Utc::now),
            ledger,
            store,
            sources: Arc::clone(&files) as Arc<_>,
        })?;
        let options = http::Options {
            public_url: format!("{url}/"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hashes_max: 100,
            archives: Some(archives(directory).join("cardano-database")),
            origins: Vec::new(),
        };
        let running = aggregator.start(address, files, options)?;
        Ok(Certified { running, url, keys, ancillary, stop, waits_end: conditions.stop.clone() })
    }

    fn files(
        net: &CardanoNet,
        conditions: &Conditions,
        manifest: Arc<dyn ManifestSigner>,
        url: &str,
        store: &Store,
        observer: &Arc<dyn Observer>,
        stop: &Stop,
    ) -> Result<NodeFiles, CertifiedError> {
        let has = |kind| conditions.kinds.contains(&kind);
        let maker = match has(Kind::CardanoDatabase) {
            true => Some(DatabaseMaker {
                db: net.db_directory(),
                network: net.network(),
                node_version: conditions.node_version.clone(),
                compression: Compression { level: 3, workers: 0, ..Compression::default() },
                layout: Layout::open(&archives(&conditions.directory))?,
                manifest,
                uploaders: vec![Arc::new(LocalUploader::new(url)) as Arc<dyn Uploader>],
                digests_route: format!("{url}/artifact/cardano-database/digests"),
            }),
            false => None,
        };
        let chain = match has(Kind::CardanoTransactions) || has(Kind::CardanoBlocksTransactions) {
            true => Some(ChainData::open(
                &chain_directory(&conditions.directory.join("stores")),
                chaindata::Options::default(),
            )?),
            false => None,
        };
        Ok(NodeFiles {
            db: Some(net.db_directory()),
            observer: Arc::clone(observer),
            store: store.clone(),
            digests: Mutex::new(CachePolicy::Use),
            maker,
            chain,
            provers: Provers::default(),
            preload_offset: BlockNumberOffset(conditions.security),
            insistence: Mutex::default(),
            stop: stop.clone(),
        })
    }

    /// Where it is reached: `http://127.0.0.1:PORT/aggregator`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The key that genesis certificates verify with, as hex of its JSON.
    pub fn genesis_key(&self) -> &str {
        &self.keys.verification
    }

    /// The key that ancillary manifests verify with, as hex of its JSON.
    pub fn ancillary_key(&self) -> &str {
        &self.ancillary
    }

    /// What runs.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Makes the first certificate, as the operator of a test network does.
    ///
    /// # Errors
    /// When nobody is registered for the next epoch, or the aggregator refuses.
    pub fn bootstrap(&self) -> Result<(), CertifiedError> {
        let engine = self.running.engine();
        let (_, message) = engine.genesis_message()?;
        let secret: Result<GenesisEd25519SecretKey, _> = self.keys.secret.as_str().try_into();
        let secret = secret.map_err(|error: mithril_common::StdError| CertifiedError::Key(error.to_string()))?;
        let signature = GenesisEd25519Signer::from_secret_key(secret).sign(message.compute_hash().as_bytes());
        engine.seal_genesis(signature)?;
        Ok(())
    }

    /// Waits until `happened`, and looks again and again.
    ///
    /// # Errors
    /// When it takes longer than a minute, or the conditions' token was pulled.
    pub fn wait(&self, what: &str, mut happened: impl FnMut() -> bool) -> Result<(), CertifiedError> {
        let until = Instant::now() + PATIENCE;
        while !happened() {
            if Instant::now() > until {
                let standing = format!("{:?}", self.running.engine().standing());
                return Err(CertifiedError::Late { what: what.to_owned(), standing });
            }
            if self.waits_end.wait_timeout(PAUSE) {
                return Err(CertifiedError::Stopped);
            }
        }
        Ok(())
    }

    /// Waits until the aggregator has entered the network's epoch.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_epoch(&self, net: &CardanoNet) -> Result<(), CertifiedError> {
        let engine = self.running.engine();
        self.wait("the epoch", || {
            engine.epoch().is_some_and(|data| data.epoch == net.epoch()) && engine.round().is_some()
        })
    }

    /// From an empty store to the first epoch in which certificates can be made: two rounds of registrations, and a genesis.
    ///
    /// # Errors
    /// When any of it does not happen.
    pub fn begin(&self, net: &CardanoNet, signers: &mut [Signer]) -> Result<(), CertifiedError> {
        for is_genesis in [false, true, false] {
            self.wait_epoch(net)?;
            for signer in signers.iter_mut() {
                signer.tick()?;
            }
            if is_genesis {
                self.bootstrap()?;
            }
            if net.epoch() < self.first_epoch(net) {
                net.advance_epoch()?;
            }
        }
        self.wait_epoch(net)
    }

    /// The first epoch in which something other than a genesis can be certified.
    pub fn first_epoch(&self, net: &CardanoNet) -> mithril_common::entities::Epoch {
        net.first_epoch() + 2
    }

    /// Signers sign until everything that is open has its certificate and its artifact.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn certify(&self, signers: &mut [Signer]) -> Result<(), CertifiedError> {
        let engine = self.running.engine();
        let kinds = engine.options().kinds.len();
        let until = Instant::now() + PATIENCE;
        loop {
            for signer in signers.iter_mut() {
                signer.tick()?;
            }
            let open = engine.open_messages();
            let certified = open.iter().filter(|open| open.is_certified());
            let certified = certified.map(|open| Kind::from(&open.message.entity)).collect::<BTreeSet<_>>().len();
            if certified >= kinds && engine.pending_artifacts()?.is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                let standing = format!("{:?}, {certified} of {kinds}", engine.standing());
                return Err(CertifiedError::Late { what: "certificates of all types".to_owned(), standing });
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Certified {
    fn drop(&mut self) {
        self.stop.stop(StopReason::Asked);
    }
}

fn settings(net: &CardanoNet, conditions: &Conditions) -> Settings {
    let (security_parameter, step) = (BlockNumberOffset(conditions.security), BlockNumber(conditions.step));
    Settings {
        parameters: net.parameters().clone(),
        transactions: Some(CardanoTransactionsSigningConfig { security_parameter, step }),
        blocks_transactions: Some(CardanoBlocksTransactionsSigningConfig { security_parameter, step }),
    }
}

fn archives(directory: &Path) -> PathBuf {
    directory.join("archives")
}

fn free_port(address: SocketAddr) -> Result<SocketAddr, StartError> {
    let listen = |source| StartError::Listen { address, source };
    std::net::TcpListener::bind(address).and_then(|listener| listener.local_addr()).map_err(listen)
}
