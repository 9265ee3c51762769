//! The HTTP API of an aggregator, version 0.1.71 of Mithril's OpenAPI document.
//!
//! | Module | What it gives |
//! |---|---|
//! | [`server`] | the listener: connections, time and sizes are bounded |
//! | [`routes`] | paths, headers, CORS, limits per class of route |
//! | [`read`] | everything that is read: built once, served from memory until something changes |
//! | [`register`] | registrations, signatures, statistics |
//! | [`proofs`] | proofs, by a pool of their own |
//! | [`files`] | archives of the local uploader |
//! | [`reply`] | bodies and statuses |
//! | [`tls`] | certificate and key, where no proxy has them |
//!
//! What a stranger can spend: a body of 256 KiB, a connection's headers within ten seconds, a place in the queue of a class of
//! routes, some of the memory that is there for bodies. Who does not get a place is told to come back (503 with `Retry-After`); nobody waits for somebody else's class.

pub mod cache;
pub mod files;
pub mod proofs;
pub mod read;
pub mod register;
pub mod reply;
pub mod routes;
pub mod server;
pub mod tls;

use crate::host::engine::Engine;
use crate::host::events::Events;
use axum::response::Response;
use proofs::Prover;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Version of the API, as every reply says it.
pub const API_VERSION: &str = "0.1.71";
/// Bytes of a body.
pub const BODY_MAX: usize = 262_144;
/// Items of a list.
pub const LIST_MAX: usize = 20;
/// Epochs that `latest-N` goes back.
pub const EPOCHS_BACK_MAX: u64 = 5;

/// Registrations and signatures that are checked at once, beside each other.
const WRITES_MAX: usize = 256;
/// Reads that are not in memory, at once.
const READS_MAX: usize = 64;
/// Proofs that wait or are made.
const PROOFS_MAX: usize = 512;
/// Downloads at once; each holds a descriptor and 64 KiB.
const DOWNLOADS_MAX: usize = 512;
/// Longest wait of a request for its turn.
const TURN_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of a body that needs no room of its own: as many connections as there may be, 16,384, hold 256 MiB of such.
const BODY_SMALL: usize = 16 * 1024;
/// Bytes of larger bodies at once, those that are still on their way included: 512 of the longest.
const BODIES_LARGE_MAX: usize = 128 << 20;

/// What the server is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is reached from outside, with a slash at its end.
    pub public_url: String,
    /// Version of this program.
    pub version: String,
    /// Hashes of a request for proofs.
    pub hashes_max: usize,
    /// Directory of the local uploader's archives; none: they are elsewhere.
    pub archives: Option<PathBuf>,
    /// Origins that are told apart in metrics.
    pub origins: Vec<String>,
}

/// What every handler has.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    engine: Arc<Engine>,
    prover: Arc<dyn Prover>,
    options: Options,
    events: Events,
    cache: cache::Cache,
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    proofs: Arc<Semaphore>,
    // One per core, given in the order of asking: proofs are all computation, and more at once only wait for each other.
    provers: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    // In bytes.
    large_bodies: Arc<Semaphore>,
}

impl Shared {
    /// Handlers over this engine and prover.
    pub fn new(engine: Arc<Engine>, prover: Arc<dyn Prover>, options: Options) -> Shared {
        Shared::with_events(engine, prover, options, Events::none())
    }

    /// The same, and what happens is told.
    pub fn with_events(engine: Arc<Engine>, prover: Arc<dyn Prover>, options: Options, events: Events) -> Shared {
        Shared(Arc::new(Inside {
            engine,
            prover,
            options,
            events,
            cache: cache::Cache::default(),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            proofs: Arc::new(Semaphore::new(PROOFS_MAX)),
            provers: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
            downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
            large_bodies: Arc::new(Semaphore::new(BODIES_LARGE_MAX)),
        }))
    }
}

/// A place of its class, or that there is none within a while.
async fn turn(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Box<Response>> {
    match tokio::time::timeout(TURN_TIME_MAX, Arc::clone(places).acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(Box::new(reply::busy())),
    }
}

/// Works on a thread that may wait, and gives its place back when it is done, also when whoever asked has gone.
async fn work<T: Send + 'static>(
    place: impl Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    })
    .await
}
