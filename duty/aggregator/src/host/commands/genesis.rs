//! The first certificate of a chain.

use super::{CommandError, file, ledger, observer, open_store};
use crate::face::settings::Base;
use crate::host::aggregator::{Aggregator, Setup};
use crate::host::chain::Observer;
use crate::host::engine::{Engine, Options, SourceError, Sources};
use crate::host::keys;
use crate::host::store::Store;
use crate::host::store::epochs::Settings;
use mithril_common::crypto_helper::{GenesisEd25519Signature, GenesisEd25519VerificationKey};
use mithril_common::entities::{
    BlockNumber, CardanoDbBeacon, ProtocolMessage, SignedEntityType, SignedEntityTypeDiscriminants as Kind,
    SupportedEra,
};
use semel_guard::{Benign, Key};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A genesis certificate certifies no files.
struct NoFiles;

impl Sources for NoFiles {
    fn immutable_number(&self) -> Result<u64, SourceError> {
        Ok(0)
    }
    fn database_root(&self, _: &CardanoDbBeacon) -> Result<String, SourceError> {
        Err(no_files())
    }
    fn transactions_root(&self, _: BlockNumber) -> Result<String, SourceError> {
        Err(no_files())
    }
    fn blocks_transactions_root(&self, _: BlockNumber) -> Result<String, SourceError> {
        Err(no_files())
    }
    fn database_artifact(&self, _: &CardanoDbBeacon, _: &str) -> Result<(String, serde_json::Value), SourceError> {
        Err(no_files())
    }
    fn certified(&self, _: &SignedEntityType, _: &str, _: &str) -> Result<(), SourceError> {
        Ok(())
    }
}

fn no_files() -> SourceError {
    SourceError::Failed("no files are looked at".into())
}

/// An engine that looks at the chain's epoch and the database, and changes neither by itself.
fn engine(base: &Base, genesis: GenesisEd25519VerificationKey, store: Store) -> Result<Arc<Engine>, CommandError> {
    // Whoever served before recorded them; they are needed for the epochs that nobody recorded.
    let of = |parameters| Settings { parameters, transactions: None, blocks_transactions: None };
    let observer: Arc<dyn Observer> = observer(base)?.into();
    let aggregator = Aggregator::open(Setup {
        options: Options {
            network: base.network_name.to_string(),
            genesis,
            settings: base.protocol_parameters.clone().map(of),
            kinds: [Kind::MithrilStakeDistribution].into(),
            retention: None,
            interval: Duration::from_secs(60),
            node_version: String::new(),
        },
        // The message holds no era.
        era: Box::new(|_| Ok(SupportedEra::Pythagoras.to_string())),
        observer,
        clock: Arc::new(chrono::Utc::now),
        ledger: ledger(base),
        store,
        sources: Arc::new(NoFiles),
    })?;
    aggregator.engine().look_at_epoch()?;
    Ok(Arc::clone(aggregator.engine()))
}

/// Writes the 64 hex characters that the genesis key has to sign.
///
/// # Errors
/// The chain or the databases do not tell what belongs into the message.
pub fn export(base: &Base, target: &Path) -> Result<(), CommandError> {
    // No certificate is made here, so any key will do for the subject.
    let message = message(&*engine(base, nobody(), Store::open(&base.data_stores_directory)?)?)?;
    std::fs::write(target, message.compute_hash()).map_err(file(target))
}

fn message(engine: &Engine) -> Result<ProtocolMessage, CommandError> {
    Ok(engine.genesis_message()?.1)
}

/// The key that nobody has: the point of an all-one seed.
fn nobody() -> GenesisEd25519VerificationKey {
    ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().into()
}

/// Makes the genesis certificate of a signed payload (64 bytes), verifies and stores it.
///
/// # Errors
/// The signature is not of this key or message, or the certificate cannot be stored.
pub fn import(base: &Base, signed: &Path, key: &GenesisEd25519VerificationKey) -> Result<String, CommandError> {
    let bytes = std::fs::read(signed).map_err(file(signed))?;
    let fixed = <[u8; 64]>::try_from(bytes.as_slice());
    let fixed = fixed.map_err(|_| CommandError::Payload { path: signed.to_owned(), found: bytes.len() })?;
    let signature = ed25519_dalek::Signature::from_bytes(&fixed).into();
    seal(&*engine(base, *key, open_store(base, "genesis import")?)?, signature)
}

/// Export, sign and import at once.
///
/// # Errors
/// As of the two.
pub fn bootstrap(base: &Base, key: &Key) -> Result<String, CommandError> {
    let public = <[u8; 32]>::try_from(key.public_key().as_bytes()).ok();
    let public = public.and_then(|bytes| ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok());
    let public = public.ok_or_else(|| CommandError::Setting("the genesis key is not one of Ed25519".into()))?;
    let engine = engine(base, public.into(), open_store(base, "genesis bootstrap")?)?;
    let hash = message(&engine)?.compute_hash_bytes();
    let signature = keys::sign(key, &Benign::GenesisMessage(&hash))?;
    seal(&engine, signature)
}

fn seal(engine: &Engine, signature: GenesisEd25519Signature) -> Result<String, CommandError> {
    Ok(engine.seal_genesis(signature)?.hash)
}
