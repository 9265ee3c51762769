//! What the commands of the face do to databases, chain and network.
//!
//! | Module | Commands |
//! |---|---|
//! | [`serve`] | `serve` |
//! | [`genesis`] | `genesis export`, `import`, `bootstrap` |
//! | [`database`] | `database …`, `tools …` |
//! | [`look`] | `status`, `doctor` |
//! | [`verify`] | `verify` |

pub mod database;
pub mod genesis;
pub mod look;
pub mod serve;
pub mod verify;

use super::chain::cardano_cli::CardanoCli;
use super::chain::fake::Fake;
use super::chain::node::Node;
use super::chain::{ChainError, Observer};
use crate::face::settings::{Base, ChainAccess};
use crate::host::aggregator::StartError;
use crate::host::artifact::ArtifactError;
use crate::host::chaindata::ChainDataError;
use crate::host::engine::{EngineError, EraFailure, EraOf};
use crate::host::events::EventsError;
use crate::host::keys::KeysError;
use crate::host::store::{Store, StoreError};
use crate::host::walk::{WalkError, origin};
use mithril_common::entities::SupportedEra;
use semel_ops::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The aggregator does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event database.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The chain's data.
    #[error(transparent)]
    ChainData(#[from] ChainDataError),
    /// The archives.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A key.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A chain of certificates.
    #[error("{why}")]
    Walk {
        /// What it was asked of.
        whose: origin::Kind,
        /// Why it was not walked to its end.
        why: WalkError,
    },
    /// A setting that this command needs is not there, or cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A payload that is not one.
    #[error("{path} holds {found} bytes, a signature has 64")]
    Payload {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        found: usize,
    },
    /// Something the program needs of its host.
    #[error("{0}: {1}")]
    Host(&'static str, #[source] io::Error),
    /// It ended by itself.
    #[error("the aggregator ended: {0}")]
    Ended(String),
    /// The terminal is gone.
    #[error("nothing can be written to the terminal: {0}")]
    Shell(#[source] io::Error),
    /// What an aggregator says cannot be read.
    #[error("{url} does not answer as an aggregator does: {why}")]
    Status {
        /// Whom we asked.
        url: String,
        /// What it said.
        why: String,
    },
    /// A benchmark.
    #[error("the benchmark failed: {0}")]
    Bench(String),
    /// A check found something.
    #[error("{0}")]
    Found(Box<semel_ops::error::Report>),
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    let path = path.to_owned();
    move |source| CommandError::File { path, source }
}

/// Whoever tells the chain, as the settings say.
///
/// # Errors
/// Never at once: a node that is not there yet is asked again.
pub fn observer(base: &Base) -> Result<Box<dyn Observer>, CommandError> {
    Ok(match &base.chain {
        ChainAccess::Node { socket } => Box::new(Node::new(socket, base.network.magic_id())),
        ChainAccess::CardanoCli { program, socket } => {
            Box::new(CardanoCli::new(program, socket.clone().unwrap_or_default(), base.network))
        }
        ChainAccess::Fake => Box::new(Fake::new()),
    })
}

/// The network's era, as the settings say.
fn era_of(base: &Base, observer: &Arc<dyn Observer>) -> EraOf {
    let (reader, observer) = (base.era_reader.clone(), Arc::clone(observer));
    Box::new(move |epoch| {
        let markers = reader.read(observer.as_ref()).map_err(|error| EraFailure::NotTold(error.to_string()))?;
        let eras =
            crate::core::era::Eras::at(epoch, &markers).map_err(|error| EraFailure::Unknown(error.to_string()))?;
        if let Some(next) = eras.next.filter(|next| next.era.is_none()) {
            tracing::warn!(era = next.marker.name, "an era is announced that this version does not know: update it");
        }
        if eras.current != SupportedEra::Pythagoras {
            tracing::warn!(era = %eras.current, "certificates are made as in pythagoras: proofs (SNARK) of a later era are not part of this version");
        }
        Ok(eras.current.to_string())
    })
}

/// The ledger: where it is said to be, the host's or the user's, or beside the databases.
pub(super) fn ledger(base: &Base) -> semel_ledger::Options {
    let beside = || semel_ledger::default_directory_or(&base.data_stores_directory);
    let directory = env::var(env::SEMEL_LEDGER).map_or_else(beside, PathBuf::from);
    tracing::info!(directory = %directory.display(), "ledger");
    semel_ledger::Options::at(directory)
}

/// Opens the main database for a command that writes it, alone.
fn open_store(base: &Base, who: &str) -> Result<Store, CommandError> {
    Ok(Store::open_alone(&base.data_stores_directory, who)?)
}
