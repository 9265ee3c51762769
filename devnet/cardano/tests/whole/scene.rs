//! A scene: the network's node and signers, and an aggregator over its socket and files, reached over HTTP.

use mithril_common::certificate_chain::{CertificateVerifier as _, MithrilCertificateVerifier};
use mithril_common::crypto_helper::{GenesisEd25519VerificationKey, GenesisVerifier};
use mithril_common::entities::{Certificate, SignedEntityTypeDiscriminants as Kind};
use mithril_common::messages::{CertificateListMessage, CertificateMessage};
use mithril_common::test::double::FakeCertificaterRetriever;
use semel_aggregator::host::engine::Engine;
use semel_devnet_cardano::certified::{Certified, Conditions};
use semel_devnet_cardano::signer::{Report, Signer};
use semel_devnet_cardano::{CardanoNet, Options};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whatever is awaited comes within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The network, its signers and an aggregator.
pub(crate) struct Scene {
    pub(crate) net: CardanoNet,
    aggregator: Option<Certified>,
    pub(crate) signers: Vec<Signer>,
    conditions: Conditions,
    _directory: tempfile::TempDir,
}

impl Scene {
    /// All types, with so many pools, on real blocks where there are any.
    pub(crate) fn new(pools: u64, immutable: Option<PathBuf>) -> Self {
        Self::after(pools, immutable, |_| {})
    }

    /// A scene in which something happened to the network before the aggregator came.
    pub(crate) fn after(pools: u64, immutable: Option<PathBuf>, before: impl FnOnce(&CardanoNet)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new(directory.path().join("node"));
        options.pools = pools;
        options.immutable = immutable;
        let net = CardanoNet::start(options).unwrap();
        before(&net);
        let mut conditions = Conditions::new(directory.path().join("aggregator"));
        conditions.interval = Duration::from_millis(50);
        let aggregator = Certified::start(&net, &conditions).unwrap();
        let signers = net.signers(aggregator.url()).unwrap();
        Self { net, aggregator: Some(aggregator), signers, conditions, _directory: directory }
    }

    pub(crate) fn aggregator(&self) -> &Certified {
        self.aggregator.as_ref().unwrap()
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.aggregator().running().engine()
    }

    /// Ends the aggregator and starts another over the same files; signers turn to it.
    pub(crate) fn restart(&mut self) {
        self.aggregator = None;
        let aggregator = Certified::start(&self.net, &self.conditions).unwrap();
        for signer in &mut self.signers {
            signer.turn_to(aggregator.url()).unwrap();
        }
        self.aggregator = Some(aggregator);
        self.entered();
    }

    /// The aggregator has entered the node's epoch and takes registrations.
    pub(crate) fn entered(&self) {
        let epoch = self.net.epoch();
        until(&format!("epoch {epoch}"), || self.engine().round().is_some_and(|round| round.epoch == epoch.next()));
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
        self.aggregator().bootstrap().unwrap();
        self.next_epoch();
    }

    fn get<T: DeserializeOwned>(&self, route: &str) -> T {
        let (host, path) = self.aggregator().url().strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "GET /{path}{route} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        let (head, body) = all.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|why| panic!("{route}: {why}: {head}\n{body}"))
    }

    /// The newest certificates.
    pub(crate) fn certificates(&self) -> CertificateListMessage {
        self.get("/certificates")
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
        while self.certified() != Kind::all() {
            let reports = self.tick();
            let standing = self.engine().standing();
            assert!(begun.elapsed() < PATIENCE, "epoch {epoch}: {:?}; {standing:?}; {reports:#?}", self.certified());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Follows the newest certificate back to genesis with Mithril's verifier; gives the length of the walk.
    pub(crate) fn verify(&self) -> usize {
        let mut hash = self.certificates().first().unwrap().hash.clone();
        let mut chain: Vec<Certificate> = Vec::new();
        while !hash.is_empty() {
            let message: CertificateMessage = self.get(&format!("/certificate/{hash}"));
            hash.clone_from(&message.previous_hash);
            chain.push(message.try_into().unwrap());
        }
        let retriever = Arc::new(FakeCertificaterRetriever::from_certificates(&chain));
        let key = self.net.genesis_keys().unwrap().verification;
        let genesis = GenesisVerifier::from_ed25519(GenesisEd25519VerificationKey::from_json_hex(&key).unwrap());
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let verifier = MithrilCertificateVerifier::new(logger, retriever, Arc::new(genesis));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(verifier.verify_certificate_chain(chain.first().unwrap().clone())).unwrap();
        chain.len()
    }
}
