//! A scene: the network's node and signers, and a real aggregator over its socket and files, reached over HTTP.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use chrono::Utc;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use mithril_common::certificate_chain::{CertificateVerifier as _, MithrilCertificateVerifier};
use mithril_common::crypto_helper::{GenesisEd25519SecretKey, GenesisEd25519Signer, GenesisVerifier};
use mithril_common::entities::{
    BlockNumber, BlockNumberOffset, CardanoBlocksTransactionsSigningConfig, CardanoTransactionsSigningConfig,
    Certificate, SignedEntityTypeDiscriminants as Kind,
};
use mithril_common::messages::{CertificateListMessage, CertificateMessage};
use mithril_common::test::double::FakeCertificaterRetriever;
use semel_aggregator::host::aggregator::{Aggregator, Running, Setup};
use semel_aggregator::host::artifact::{
    Compression, DatabaseMaker, Layout, LocalUploader, ManifestSigner, ManifestSigningError,
};
use semel_aggregator::host::chain::Observer;
use semel_aggregator::host::chain::node::Node;
use semel_aggregator::host::chaindata::{ChainData, Options as ChainOptions, Provers};
use semel_aggregator::host::engine::Options as EngineOptions;
use semel_aggregator::host::files::NodeFiles;
use semel_aggregator::host::http;
use semel_aggregator::host::immutable::CachePolicy;
use semel_aggregator::host::store::Store;
use semel_aggregator::host::store::epochs::Settings;
use semel_devnet_cardano::signer::{Report, Signer};
use semel_devnet_cardano::{CardanoNet, Options};
use semel_ops::shutdown::Stop;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whatever is awaited comes within this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Security parameter of both transaction types.
const OFFSET: u64 = 12;

/// A key for the ancillary manifest.
#[derive(Debug)]
struct Secret(SigningKey, VerifyingKey);

impl ManifestSigner for Secret {
    fn verification_key(&self) -> &VerifyingKey {
        &self.1
    }

    fn sign(&self, files: &[(String, String)]) -> Result<[u8; 64], ManifestSigningError> {
        let text: String = files.iter().map(|(path, hash)| format!("{path}{hash}")).collect();
        Ok(self.0.sign(&Sha256::digest(text)).to_bytes())
    }
}

fn genesis(net: &CardanoNet) -> GenesisEd25519Signer {
    let secret = net.genesis_keys().unwrap().secret;
    GenesisEd25519Signer::from_secret_key(GenesisEd25519SecretKey::from_json_hex(&secret).unwrap())
}

/// An aggregator over the network's node, with its files below a directory.
fn aggregator(net: &CardanoNet, directory: &Path, kinds: BTreeSet<Kind>) -> Running {
    let stores = directory.join("stores");
    let store = Store::open(&stores).unwrap();
    let observer: Arc<dyn Observer> = Arc::new(Node::new(net.socket(), net.magic()));
    let base = "http://127.0.0.1/aggregator/";
    let key = SigningKey::from_bytes(&[5; 32]);
    let public = key.verifying_key();
    let maker = DatabaseMaker {
        db: net.db_directory(),
        network: net.network(),
        node_version: "10.7.1".to_owned(),
        compression: Compression { level: 3, workers: 1 },
        layout: Layout::open(&directory.join("snapshots")).unwrap(),
        manifest: Arc::new(Secret(key, public)),
        uploaders: vec![Arc::new(LocalUploader::new(base))],
        digests_route: format!("{base}artifact/cardano-database/digests"),
    };
    let files = Arc::new(NodeFiles {
        db: Some(net.db_directory()),
        observer: Arc::clone(&observer),
        store: store.clone(),
        digests: CachePolicy::Use,
        maker: Some(maker),
        chain: Some(ChainData::open(&stores.join("chain-data"), ChainOptions::default()).unwrap()),
        provers: Provers::default(),
        stop: Stop::new(),
    });
    let mut ledger = semel_ledger::Options::at(directory.join("ledger"));
    ledger.allow_volatile = true;
    ledger.witness = None;
    let setup = Setup {
        options: EngineOptions {
            network: net.network().to_string(),
            genesis: genesis(net).verification_key(),
            settings: Settings {
                parameters: net.parameters().clone(),
                transactions: Some(CardanoTransactionsSigningConfig {
                    security_parameter: BlockNumberOffset(OFFSET),
                    step: BlockNumber(15),
                }),
                blocks_transactions: Some(CardanoBlocksTransactionsSigningConfig {
                    security_parameter: BlockNumberOffset(OFFSET),
                    step: BlockNumber(7),
                }),
            },
            kinds,
            retention: Some(5),
            interval: Duration::from_millis(50),
            node_version: "10.7.1".into(),
        },
        observer,
        era: Box::new(|_| Ok("pythagoras".into())),
        clock: Arc::new(Utc::now),
        ledger,
        store,
        sources: Arc::clone(&files) as Arc<_>,
    };
    let options = http::Options {
        public_url: base.into(),
        version: "0.1.0".into(),
        hashes_max: 100,
        archives: None,
        origins: Vec::new(),
    };
    Aggregator::open(setup).unwrap().start("127.0.0.1:0".parse().unwrap(), files, options).unwrap()
}

fn get<T: DeserializeOwned>(at: SocketAddr, route: &str) -> T {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET /aggregator{route} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|why| panic!("{route}: {why}: {head}\n{body}"))
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) struct Scene {
    pub(crate) net: CardanoNet,
    running: Option<Running>,
    pub(crate) signers: Vec<Signer>,
    directory: tempfile::TempDir,
    kinds: BTreeSet<Kind>,
}

impl Scene {
    pub(crate) fn new(pools: u64, immutable: Option<PathBuf>, kinds: BTreeSet<Kind>) -> Self {
        Self::after(pools, immutable, kinds, |_| {})
    }

    /// A scene in which something happened to the network before the aggregator came.
    pub(crate) fn after(
        pools: u64,
        immutable: Option<PathBuf>,
        kinds: BTreeSet<Kind>,
        before: impl FnOnce(&CardanoNet),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("node");
        std::fs::create_dir(&node).unwrap();
        let mut options = Options::new(node);
        options.pools = pools;
        options.immutable = immutable;
        let net = CardanoNet::start(options).unwrap();
        before(&net);
        let running = aggregator(&net, directory.path(), kinds.clone());
        let url = format!("http://{}/aggregator", running.address().unwrap());
        let signers = net.signers(&url).unwrap();
        Self { net, running: Some(running), signers, directory, kinds }
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn at(&self) -> SocketAddr {
        self.running().address().unwrap()
    }

    /// The aggregator has entered the node's epoch and takes registrations.
    pub(crate) fn entered(&self) {
        let epoch = self.net.epoch();
        until(&format!("epoch {epoch}"), || {
            self.running().engine().round().is_some_and(|round| round.epoch == epoch.next())
        });
    }

    pub(crate) fn tick(&mut self) -> Vec<Report> {
        self.signers.iter_mut().map(|signer| signer.tick().unwrap()).collect()
    }

    pub(crate) fn next_epoch(&mut self) {
        self.net.advance_epoch().unwrap();
        self.entered();
    }

    /// Two epochs of registrations, genesis in the second; the third can be certified.
    pub(crate) fn begin(&mut self) {
        self.entered();
        self.tick();
        self.next_epoch();
        self.tick();
        let engine = self.running().engine();
        let (_, message) = engine.genesis_message().unwrap();
        engine.seal_genesis(genesis(&self.net).sign(message.compute_hash().as_bytes())).unwrap();
        self.next_epoch();
    }

    pub(crate) fn certificates(&self) -> CertificateListMessage {
        get(self.at(), "/certificates")
    }

    /// Types that have a certificate of the current epoch.
    pub(crate) fn certified(&self) -> BTreeSet<Kind> {
        let epoch = self.net.epoch();
        let list = self.certificates().into_iter().filter(|certificate| certificate.epoch == epoch);
        list.filter_map(|certificate| Kind::try_from(certificate.signed_entity_type).ok()).collect()
    }

    /// Ticks until every type is certified in this epoch.
    pub(crate) fn certify(&mut self) {
        let (begun, epoch) = (Instant::now(), self.net.epoch());
        while self.certified() != self.kinds {
            let reports = self.tick();
            let standing = self.running().engine().standing();
            assert!(begun.elapsed() < PATIENCE, "epoch {epoch}: {:?}; {standing:?}; {reports:#?}", self.certified());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Follows the newest certificate back to genesis with Mithril's verifier; gives the length of the walk.
    pub(crate) fn verify(&self) -> usize {
        let mut hash = self.certificates().first().unwrap().hash.clone();
        let mut chain: Vec<Certificate> = Vec::new();
        while !hash.is_empty() {
            let message: CertificateMessage = get(self.at(), &format!("/certificate/{hash}"));
            hash.clone_from(&message.previous_hash);
            chain.push(message.try_into().unwrap());
        }
        let retriever = Arc::new(FakeCertificaterRetriever::from_certificates(&chain));
        let genesis = GenesisVerifier::from_ed25519(genesis(&self.net).verification_key());
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let verifier = MithrilCertificateVerifier::new(logger, retriever, Arc::new(genesis));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(verifier.verify_certificate_chain(chain.first().unwrap().clone())).unwrap();
        chain.len()
    }

    /// Ends the aggregator and starts another over the same files; signers turn to it.
    pub(crate) fn restart(&mut self) {
        self.running = None;
        let running = aggregator(&self.net, self.directory.path(), self.kinds.clone());
        let url = format!("http://{}/aggregator", running.address().unwrap());
        self.running = Some(running);
        for signer in &mut self.signers {
            signer.turn_to(&url).unwrap();
        }
        self.entered();
    }
}
