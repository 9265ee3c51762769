//! Signers from a seed, and an aggregator that knows them: its rosters come from the database, as after a start.
//!
//! Signers have no KES keys: what is measured begins after their registration. A signer signs with parameters with which every
//! index wins, because mithril-stm tries all m otherwise (0.27 s each); the indexes that it really wins are then found as the
//! roster finds them, and mithril-stm checks them when the certificate is made.

use super::failed;
use crate::core::entity;
use crate::core::roster::Roster;
use crate::host::aggregator::{Aggregator, Running, Setup};
use crate::host::chain::fake::Fake;
use crate::host::chain::{Observer, View};
use crate::host::chaindata::{self, ChainData, Provers};
use crate::host::commands::CommandError;
use crate::host::engine::{Engine, Options};
use crate::host::files::NodeFiles;
use crate::host::http;
use crate::host::immutable::CachePolicy;
use crate::host::store::Store;
use crate::host::store::epochs::{self, Settings};
use ed25519_dalek::Signer as _;
use mithril_common::crypto_helper::{KesPeriod, ProtocolMembershipDigest, ProtocolSingleSignature};
use mithril_common::entities::{
    BlockNumber, BlockNumberOffset, ChainPoint, Epoch, ProtocolParameters, SignedEntityTypeDiscriminants as Kind,
    Signer, SignerWithStake, SingleSignature, SlotNumber,
};
use mithril_stm::{Initializer, KeyRegistration, Parameters};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use semel_ops::shutdown::Stop;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Epoch of the genesis certificate.
pub(super) const GENESIS: Epoch = Epoch(10);
/// Lovelace of each signer.
const STAKE: u64 = 7_000_000_000_000;
/// Longest wait for something that takes moments.
const PATIENCE: Duration = Duration::from_secs(120);

/// Signers, the same for the same count.
#[derive(Debug)]
pub(super) struct Signers {
    keys: Vec<Initializer>,
    pub(super) all: Vec<SignerWithStake>,
    pub(super) parameters: ProtocolParameters,
}

impl Signers {
    pub(super) fn new(count: usize, parameters: ProtocolParameters) -> Signers {
        let easy = Parameters { m: 1, k: 1, phi_f: 1.0 };
        let keys: Vec<Initializer> = (0..count as u64)
            .into_par_iter()
            .map(|index| Initializer::new(easy, STAKE, &mut ChaCha20Rng::seed_from_u64(index)))
            .collect();
        let signer = |(index, key): (usize, &Initializer)| {
            let signer = Signer {
                party_id: format!("pool{index:05}"),
                verification_key_for_concatenation: key.bls_verification_key_proof_of_possession.into(),
                verification_key_signature_for_concatenation: None,
                operational_certificate: None,
                kes_evolutions: None,
            };
            SignerWithStake::from_signer(signer, STAKE)
        };
        let all = keys.iter().enumerate().map(signer).collect();
        Signers { keys, all, parameters }
    }

    /// What those sign who win at least one index.
    pub(super) fn sign(&self, roster: &Roster, message: &str) -> Result<Vec<SingleSignature>, CommandError> {
        let easy = Parameters { m: 1, k: 1, phi_f: 1.0 };
        let mut registration = KeyRegistration::initialize();
        for key in &self.keys {
            registration.register(STAKE, &key.bls_verification_key_proof_of_possession).map_err(failed)?;
        }
        let closed = registration.close_registration(&easy).map_err(failed)?;
        let sign = |(key, signer): (&Initializer, &SignerWithStake)| {
            let prepared = key.clone().try_create_signer::<ProtocolMembershipDigest>(&closed).map_err(failed)?;
            let mut signature = prepared.create_single_signature(message.as_bytes()).map_err(failed)?;
            let won = roster.indexes_won(message, &signature);
            signature.set_concatenation_signature_indices(&won);
            let signature = ProtocolSingleSignature::from(signature);
            Ok((!won.is_empty()).then(|| SingleSignature::new(signer.party_id.clone(), signature, won)))
        };
        let signed: Result<Vec<_>, CommandError> = self.keys.par_iter().zip(&self.all).map(sign).collect();
        Ok(signed?.into_iter().flatten().collect())
    }
}

/// An aggregator with everything under it.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) files: Arc<NodeFiles>,
    pub(super) running: Running,
}

fn view(epoch: Epoch) -> View {
    View {
        era: "Conway".to_owned(),
        epoch,
        tip: ChainPoint::new(SlotNumber(1_000), BlockNumber(50), "00".repeat(32)),
        kes_period: KesPeriod(0),
    }
}

/// An aggregator that does nothing yet.
#[derive(Debug)]
pub(super) struct Prepared {
    aggregator: Aggregator,
    files: Arc<NodeFiles>,
    pub(super) observer: Arc<Fake>,
}

impl Prepared {
    /// In a directory; signers are registered for three epochs.
    pub(super) fn new(home: &Path, signers: &Signers, with_chain: bool) -> Result<Prepared, CommandError> {
        let io = |source| CommandError::File { path: home.to_owned(), source };
        std::fs::create_dir_all(home).map_err(io)?;
        let observer = Arc::new(Fake::new());
        observer.set_view(view(GENESIS));
        observer.set_stakes(signers.all.iter().map(|one| (one.party_id.clone(), one.stake)).collect());
        let settings =
            Settings { parameters: signers.parameters.clone(), transactions: None, blocks_transactions: None };
        let store = Store::open(&home.join("stores"))?;
        let (kept, all) = (settings.clone(), signers.all.clone());
        store.write(move |db| {
            for epoch in [entity::signing(GENESIS), GENESIS, entity::recording(GENESIS)] {
                epochs::record_settings(db, epoch, &kept)?;
                for signer in &all {
                    epochs::register(db, epoch, signer, &chrono::Utc::now())?;
                }
            }
            Ok(())
        })?;
        let chain = match with_chain {
            true => Some(ChainData::open(&home.join("chain-data"), chaindata::Options::default())?),
            false => None,
        };
        let files = Arc::new(NodeFiles {
            db: None,
            observer: Arc::clone(&observer) as Arc<dyn Observer>,
            store: store.clone(),
            digests: Mutex::new(CachePolicy::Off),
            maker: None,
            chain,
            provers: Provers::default(),
            preload_offset: BlockNumberOffset(0),
            insistence: Mutex::default(),
            stop: Stop::new(),
        });
        let mut ledger = semel_ledger::Options::at(home.join("ledger"));
        // Nothing that counts is signed here.
        (ledger.allow_volatile, ledger.witness) = (true, None);
        let aggregator = Aggregator::open(Setup {
            options: Options {
                network: "bench".to_owned(),
                genesis: genesis_key().verifying_key().into(),
                settings: Some(settings),
                kinds: [Kind::MithrilStakeDistribution].into(),
                retention: None,
                interval: Duration::from_secs(1),
                node_version: String::new(),
            },
            observer: Arc::clone(&observer) as Arc<dyn Observer>,
            era: Box::new(|_| Ok("pythagoras".to_owned())),
            clock: Arc::new(chrono::Utc::now),
            ledger,
            store,
            sources: Arc::clone(&files) as _,
        })?;
        Ok(Prepared { aggregator, files, observer })
    }

    pub(super) fn engine(&self) -> &Engine {
        self.aggregator.engine()
    }

    /// The genesis certificate of the epoch that was entered.
    pub(super) fn genesis(&self) -> Result<(), CommandError> {
        let (_, message) = self.engine().genesis_message()?;
        let signature = genesis_key().sign(message.compute_hash().as_bytes());
        self.engine().seal_genesis(signature.into())?;
        Ok(())
    }

    /// Starts runtime and server.
    pub(super) fn start(self) -> Result<Network, CommandError> {
        let options = http::Options {
            public_url: "http://localhost/aggregator/".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hashes_max: 100,
            archives: None,
            origins: Vec::new(),
        };
        let running =
            self.aggregator.start(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::clone(&self.files) as _, options)?;
        Ok(Network { files: self.files, running })
    }
}

/// The genesis key of a network that lives for minutes.
fn genesis_key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[7; 32])
}

impl Network {
    /// Twenty signers, two certificates, and a chain when there are files of one.
    pub(super) fn small(home: &Path, immutable: Option<&Path>) -> Result<Network, CommandError> {
        let signers = Signers::new(20, ProtocolParameters::new(30, 100, 0.65));
        let prepared = Prepared::new(home, &signers, immutable.is_some())?;
        prepared.engine().enter_epoch()?;
        prepared.genesis()?;
        prepared.observer.set_epoch(GENESIS.next());
        prepared.engine().enter_epoch()?;
        let network = prepared.start()?;
        let engine = network.running.engine();
        wait("a message to be opened", || !engine.open_messages().is_empty())?;
        for open in engine.open_messages() {
            let roster = engine.epoch().and_then(|data| data.current.clone()).ok_or_else(|| failed("nobody signs"))?;
            for signature in signers.sign(&roster, &open.hash)? {
                // The last ones come after the quorum, when the certificate may be there.
                let _late = engine.register_signature(&open.message.entity, &open.hash, &signature);
            }
            wait("a certificate", || open.is_certified())?;
        }
        Ok(network)
    }

    pub(super) fn address(&self) -> Result<SocketAddr, CommandError> {
        self.running.address().ok_or_else(|| failed("nobody listens"))
    }
}

/// Waits for something that takes moments; how long it took.
pub(super) fn wait(what: &str, happened: impl Fn() -> bool) -> Result<Duration, CommandError> {
    let begun = Instant::now();
    while !happened() {
        if begun.elapsed() > PATIENCE {
            return Err(failed(format!("waited too long for {what}")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(begun.elapsed())
}
