//! A running aggregator: database, ledger, engine, runtime thread and HTTP server, put together and taken apart in order.

use crate::core::seal;
use crate::host::chain::Observer;
use crate::host::engine::runtime::Runtime;
use crate::host::engine::{Clock, Engine, EngineError, EraOf, Event, Options, Parts, Sources};
use crate::host::events::Events;
use crate::host::http::proofs::Prover;
use crate::host::http::routes::router;
use crate::host::http::server::Server;
use crate::host::http::tls::Tls;
use crate::host::http::{self, Shared};
use crate::host::store::{Store, StoreError};
use semel_guard::SubjectError;
use semel_ledger::{Journal, LedgerError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

/// Threads that serve HTTP.
const HTTP_THREADS: usize = 2;

/// Why an aggregator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network's name.
    #[error("the network's name: {0}")]
    Subject(#[from] SubjectError),
    /// The ledger.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No thread.
    #[error("no thread can be had: {0}")]
    Thread(#[source] io::Error),
}

/// What an aggregator is made of, beside its files.
#[expect(missing_debug_implementations, reason = "closures and trait objects inside")]
pub struct Setup {
    /// What the engine is told.
    pub options: Options,
    /// The chain.
    pub observer: Arc<dyn Observer>,
    /// The era.
    pub era: EraOf,
    /// The time.
    pub clock: Clock,
    /// The ledger of this host.
    pub ledger: semel_ledger::Options,
    /// The database.
    pub store: Store,
    /// The node's files.
    pub sources: Arc<dyn Sources>,
}

/// An engine with everything under it, and nothing that runs.
#[derive(Debug)]
pub struct Aggregator {
    engine: Arc<Engine>,
    events: Receiver<Event>,
    told: Events,
    tls: Option<Arc<Tls>>,
}

impl Aggregator {
    /// Opens the ledger and puts the engine together.
    ///
    /// # Errors
    /// When the ledger refuses, or the database does not answer.
    pub fn open(setup: Setup) -> Result<Aggregator, StartError> {
        let subject = seal::subject(&setup.options.genesis, &setup.options.network)?;
        let journal = Journal::open(setup.ledger, std::slice::from_ref(&subject))?;
        let (engine, events) = Engine::new(Parts {
            options: setup.options,
            store: setup.store,
            observer: setup.observer,
            sources: setup.sources,
            era: setup.era,
            clock: setup.clock,
            journal,
            subject,
        });
        Ok(Aggregator { engine, events, told: Events::none(), tls: None })
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Lets it tell what happens.
    #[must_use]
    pub fn with_events(mut self, events: Events) -> Aggregator {
        self.told = events;
        self
    }

    /// Lets it serve TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Arc<Tls>>) -> Aggregator {
        self.tls = tls;
        self
    }

    /// Starts the runtime thread and the HTTP server.
    ///
    /// # Errors
    /// When the address is taken, or no thread can be had.
    pub fn start(
        self,
        address: SocketAddr,
        prover: Arc<dyn Prover>,
        options: http::Options,
    ) -> Result<Running, StartError> {
        let hashes_max = options.hashes_max;
        let shared = Shared::with_events(Arc::clone(&self.engine), prover, options, self.told);
        let server = Server::start_with(address, router(shared), HTTP_THREADS, hashes_max, self.tls)
            .map_err(|source| StartError::Listen { address, source })?;
        let (engine, events) = (Arc::clone(&self.engine), self.events);
        let thread = std::thread::Builder::new().name("runtime".to_owned()).spawn(move || {
            let runtime = Runtime::new(Arc::clone(&engine));
            runtime.run(&events);
            runtime.finish();
        });
        Ok(Running { engine: self.engine, server: Some(server), thread: Some(thread.map_err(StartError::Thread)?) })
    }
}

/// A running aggregator; dropping it ends it in order.
#[derive(Debug)]
pub struct Running {
    engine: Arc<Engine>,
    server: Option<Server>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Where it is reached.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// Whether the runtime thread has ended by itself: something that cannot be mended here.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody new is served, then what is under way ends, then the database and the ledger are closed.
        self.server = None;
        self.engine.stop();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Where chain data are, in a directory of stores.
pub fn chain_directory(stores: &Path) -> PathBuf {
    stores.join("chain-data")
}
