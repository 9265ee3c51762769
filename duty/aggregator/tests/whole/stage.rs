//! A stage: an engine over a chain that the test drives, and signers of a fixture.

use chrono::{DateTime, TimeDelta, Utc};
use mithril_common::crypto_helper::{GenesisEd25519SecretKey, GenesisEd25519Signer, KesPeriod};
use mithril_common::entities::{
    BlockNumber, CardanoDbBeacon, ChainPoint, Epoch, ProtocolParameters, SignedEntityType,
    SignedEntityTypeDiscriminants as Kind, SlotNumber, StakeDistribution,
};
use mithril_common::test::builder::{MithrilFixture, MithrilFixtureBuilder};
use semel_aggregator::core::seal::subject;
use semel_aggregator::host::chain::{Blocks, ChainError, Observer, Place, View};
use semel_aggregator::host::engine::runtime::Runtime;
use semel_aggregator::host::engine::{Engine, Event, Options, Parts, SignatureOutcome, SourceError, Sources};
use semel_aggregator::host::store::Store;
use semel_aggregator::host::store::epochs::Settings;
use semel_ledger::Journal;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Whatever happens here happens within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A chain whose epoch and stakes the test sets.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) epoch: Mutex<u64>,
    pub(crate) stakes: Mutex<StakeDistribution>,
    pub(crate) fails: Mutex<bool>,
}

impl Observer for Chain {
    fn view(&self) -> Result<View, ChainError> {
        if *self.fails.lock().unwrap() {
            return Err(ChainError::Unreachable { whom: "the stage".into(), why: "it is told to fail".into() });
        }
        let epoch = *self.epoch.lock().unwrap();
        Ok(View {
            era: "conway".into(),
            epoch: Epoch(epoch),
            tip: ChainPoint::new(SlotNumber(epoch * 100), BlockNumber(epoch * 10), "00".repeat(32)),
            kes_period: KesPeriod(0),
        })
    }

    fn stakes(&self) -> Result<(View, StakeDistribution), ChainError> {
        Ok((self.view()?, self.stakes.lock().unwrap().clone()))
    }

    fn datums(&self, _: &str) -> Result<Vec<Vec<u8>>, ChainError> {
        Ok(Vec::new())
    }

    fn blocks(&self, _: &[Place]) -> Result<Box<dyn Blocks>, ChainError> {
        Err(ChainError::Unsupported("the stage"))
    }
}

/// No files.
struct NoFiles;

impl Sources for NoFiles {
    fn immutable_number(&self) -> Result<u64, SourceError> {
        Ok(0)
    }
    fn database_root(&self, _: &CardanoDbBeacon) -> Result<String, SourceError> {
        Err(SourceError::NotYet("no files".into()))
    }
    fn transactions_root(&self, _: BlockNumber) -> Result<String, SourceError> {
        Err(SourceError::NotYet("no blocks".into()))
    }
    fn blocks_transactions_root(&self, _: BlockNumber) -> Result<String, SourceError> {
        Err(SourceError::NotYet("no blocks".into()))
    }
    fn database_artifact(&self, _: &CardanoDbBeacon, _: &str) -> Result<(String, serde_json::Value), SourceError> {
        Err(SourceError::NotYet("no files".into()))
    }
    fn certified(&self, _: &SignedEntityType, _: &str, _: &str) -> Result<(), SourceError> {
        Ok(())
    }
}

pub(crate) fn genesis_signer() -> GenesisEd25519Signer {
    GenesisEd25519Signer::from_secret_key(GenesisEd25519SecretKey::from_bytes(&[7; 32]).unwrap())
}

pub(crate) fn fixture(signers: usize) -> MithrilFixture {
    fixture_with(signers, 5)
}

/// With another k: one signer of four wins some 26 of 100 indexes.
pub(crate) fn fixture_with(signers: usize, k: u64) -> MithrilFixture {
    MithrilFixtureBuilder::default()
        .with_signers(signers)
        .with_protocol_parameters(ProtocolParameters::new(k, 100, 0.7))
        .build()
}

pub(crate) struct Stage {
    pub(crate) chain: Arc<Chain>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) runtime: Runtime,
    pub(crate) clock: Arc<Mutex<DateTime<Utc>>>,
    pub(crate) events: Receiver<Event>,
}

impl Stage {
    pub(crate) fn new(directory: &Path, fixture: &MithrilFixture, epoch: u64) -> Stage {
        let chain = Arc::new(Chain {
            epoch: Mutex::new(epoch),
            stakes: Mutex::new(fixture.stake_distribution()),
            fails: Mutex::new(false),
        });
        Stage::over(directory, fixture, chain)
    }

    pub(crate) fn over(directory: &Path, fixture: &MithrilFixture, chain: Arc<Chain>) -> Stage {
        Stage::with(directory, fixture, chain, |_| {})
    }

    /// The same of other parts.
    pub(crate) fn with(
        directory: &Path,
        fixture: &MithrilFixture,
        chain: Arc<Chain>,
        change: impl FnOnce(&mut Parts),
    ) -> Stage {
        let genesis = genesis_signer().verification_key();
        let subject = subject(&genesis, "devnet").unwrap();
        let mut ledger = semel_ledger::Options::at(directory.join("ledger"));
        ledger.allow_volatile = true;
        ledger.witness = None;
        let journal = Journal::open(ledger, std::slice::from_ref(&subject)).unwrap();
        let clock = Arc::new(Mutex::new(DateTime::UNIX_EPOCH + TimeDelta::days(20_000)));
        let told = Arc::clone(&clock);
        let observer: Arc<dyn Observer> = Arc::clone(&chain) as Arc<dyn Observer>;
        let options = Options {
            network: "devnet".into(),
            genesis,
            settings: Some(Settings {
                parameters: fixture.protocol_parameters(),
                transactions: None,
                blocks_transactions: None,
            }),
            kinds: [Kind::MithrilStakeDistribution, Kind::CardanoStakeDistribution].into(),
            retention: Some(5),
            interval: Duration::from_millis(100),
            node_version: "10.7.1".into(),
        };
        let mut parts = Parts {
            options,
            store: Store::open(&directory.join("stores")).unwrap(),
            observer,
            sources: Arc::new(NoFiles),
            era: Box::new(|_| Ok("pythagoras".into())),
            clock: Arc::new(move || *told.lock().unwrap()),
            journal,
            subject,
        };
        change(&mut parts);
        let (engine, events) = Engine::new(parts);
        let runtime = Runtime::new(Arc::clone(&engine));
        engine.load_chain().unwrap();
        Stage { chain, engine, runtime, clock, events }
    }

    /// Runs cycles until nothing is under way any more.
    pub(crate) fn settle(&self) {
        let until = Instant::now() + PATIENCE;
        self.runtime.cycle();
        while self.runtime.is_busy() {
            assert!(Instant::now() < until, "still busy: {:?}", self.engine.standing());
            std::thread::sleep(Duration::from_millis(1));
            self.runtime.act();
        }
        self.runtime.act();
    }

    pub(crate) fn enter(&self, epoch: u64) {
        *self.chain.epoch.lock().unwrap() = epoch;
        self.settle();
    }

    pub(crate) fn register(&self, fixture: &MithrilFixture) {
        let epoch = self.engine.round().unwrap().epoch;
        for signer in fixture.signers() {
            self.engine.register_signer(epoch, signer).unwrap();
        }
    }

    /// Everybody signs everything that is open.
    pub(crate) fn sign(&self, fixture: &MithrilFixture) {
        for open in self.engine.open_messages() {
            for signature in fixture.sign_all(&open.hash) {
                let taken = self.engine.register_signature(&open.message.entity, &open.hash, &signature);
                assert_eq!(taken.unwrap(), SignatureOutcome::Registered);
            }
        }
    }

    pub(crate) fn genesis(&self) {
        let (_, message) = self.engine.genesis_message().unwrap();
        let signature = genesis_signer().sign(message.compute_hash().as_bytes());
        self.engine.seal_genesis(signature).unwrap();
    }

    /// Two epochs of registrations, a genesis, and the first epoch that can be certified.
    pub(crate) fn begin(&self, fixture: &MithrilFixture) -> u64 {
        let first = *self.chain.epoch.lock().unwrap();
        self.settle();
        self.register(fixture);
        self.enter(first + 1);
        self.register(fixture);
        self.genesis();
        self.enter(first + 2);
        self.register(fixture);
        first + 2
    }
}
