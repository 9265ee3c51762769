//! Tickers of pools, from a Blockfrost server: explorers show them beside the ids of pools. Nothing is certified with them.
//!
//! `GET {base}/pools/extended?count=100&page=N` with the header `project_id`, page after page until one is not full. What comes is a
//! stranger's text: pages, bytes of a page, lengths of ids and tickers are bounded, and a redirect is not followed, because the
//! secret would go with it. A request that fails on its way, or is told to come later, is made again a few times. When a page cannot
//! be had, nothing of this import is kept.

use crate::core::tickers::Ticker;
use crate::face::settings::Blockfrost;
use crate::host::engine::Engine;
use crate::host::store::{StoreError, epochs};
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use semel_ops::shutdown::Stop;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Time from the start to the first import.
pub const FIRST: Duration = Duration::from_secs(5);
/// Pools of a page: the most that Blockfrost gives.
const PAGE: usize = 100;
/// Pages of an import: 20,000 pools. Mainnet has some 3,000.
const PAGES_MAX: usize = 200;
/// Bytes of a page. A pool with all its texts has less than 2 KB.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Time for a page.
const PAGE_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause between two pages: Blockfrost takes ten requests a second.
const PAGE_PAUSE: Duration = Duration::from_millis(120);
/// Times that a page is asked for.
const ATTEMPTS: usize = 5;
/// Pause between two of them.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often a wait looks whether the program ends.
const LOOK: Duration = Duration::from_millis(50);

/// Why tickers were not imported.
#[derive(Debug, thiserror::Error)]
pub enum TickersError {
    /// The project's id names no network, and no server was given.
    #[error("the id of the project begins with the name of no network, and no base_url is given")]
    NoServer,
    /// The project's id can be no header.
    #[error("the id of the project has characters that no request can carry")]
    ProjectId,
    /// The server cannot be reached.
    #[error("the server of tickers cannot be reached: {0}")]
    Connection(#[from] reqwest::Error),
    /// It says no.
    #[error("the server of tickers answers {0}")]
    Status(StatusCode),
    /// A page that is none.
    #[error("page {page} of the tickers cannot be read: {why}")]
    Page {
        /// Which.
        page: usize,
        /// Why.
        why: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of the system.
    #[error("no import of tickers: {0}")]
    System(#[from] io::Error),
    /// The program ends.
    #[error("the program ends")]
    Stopped,
}

impl TickersError {
    /// Whether asking again may help.
    fn is_passing(&self) -> bool {
        match self {
            TickersError::Connection(_) => true,
            TickersError::Status(status) => *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error(),
            _ => false,
        }
    }
}

/// Imports tickers from time to time; `stop` ends it, and dropping it waits for that.
#[derive(Debug)]
pub struct Importer(Option<JoinHandle<()>>);

impl Importer {
    /// The first import comes after `first`, the others `interval` after the one before.
    ///
    /// # Errors
    /// When the settings name no server, or no thread can be had.
    pub fn start(
        from: &Blockfrost,
        engine: &Arc<Engine>,
        first: Duration,
        interval: Duration,
        stop: &Stop,
    ) -> Result<Importer, TickersError> {
        let source = Source::new(from)?;
        let (engine, stop) = (Arc::clone(engine), stop.clone());
        let thread = std::thread::Builder::new().name("tickers".to_owned()).spawn(move || {
            let mut wait = first;
            while !stop.wait_timeout(wait) {
                wait = interval;
                match source.import(&engine, &stop) {
                    Ok(pools) => tracing::info!(pools, "tickers of pools imported"),
                    Err(TickersError::Stopped) => {}
                    Err(error) => tracing::warn!(%error, "tickers of pools stay as they are"),
                }
            }
        })?;
        Ok(Importer(Some(thread)))
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ended = thread.join();
        }
    }
}

struct Source {
    base: String,
    project: HeaderValue,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Source {
    fn new(from: &Blockfrost) -> Result<Source, TickersError> {
        let base = match &from.base_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => {
                let network = ["mainnet", "preprod", "preview"];
                let network = network.into_iter().find(|network| from.project_id.expose().starts_with(network));
                format!("https://cardano-{}.blockfrost.io/api/v0", network.ok_or(TickersError::NoServer)?)
            }
        };
        let mut project = HeaderValue::from_str(from.project_id.expose()).map_err(|_| TickersError::ProjectId)?;
        project.set_sensitive(true);
        // Whoever was first has installed one.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(PAGE_TIME_MAX).redirect(Policy::none()).build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Source { base, project, client, runtime })
    }

    /// Reads all pages and keeps what they say; gives how many pools have a ticker.
    fn import(&self, engine: &Engine, stop: &Stop) -> Result<usize, TickersError> {
        let tickers = self.all(stop)?;
        let pools = tickers.iter().filter(|one| one.ticker.is_some()).count();
        keep(engine, tickers)?;
        Ok(pools)
    }

    fn all(&self, stop: &Stop) -> Result<Vec<Ticker>, TickersError> {
        let mut all = Vec::new();
        for page in 1..=PAGES_MAX {
            let (count, tickers) = crate::core::tickers::page(&self.patiently(page, stop)?)
                .map_err(|error| TickersError::Page { page, why: error.to_string() })?;
            all.extend(tickers);
            if count < PAGE {
                return Ok(all);
            }
            if stop.wait_timeout(PAGE_PAUSE) {
                return Err(TickersError::Stopped);
            }
        }
        tracing::warn!(pages = PAGES_MAX, "there are more pools than are read");
        Ok(all)
    }

    /// A page, asked for again while another time may help.
    fn patiently(&self, page: usize, stop: &Stop) -> Result<Vec<u8>, TickersError> {
        let mut attempt = 1;
        loop {
            let read = self.runtime.block_on(async {
                tokio::select! {
                    read = self.page(page) => read,
                    () = stopped(stop) => Err(TickersError::Stopped),
                }
            });
            match read {
                Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                    tracing::debug!(%error, page, attempt, "a page of tickers is asked for again");
                    attempt += 1;
                    if stop.wait_timeout(RETRY_PAUSE) {
                        return Err(TickersError::Stopped);
                    }
                }
                read => return read,
            }
        }
    }

    async fn page(&self, page: usize) -> Result<Vec<u8>, TickersError> {
        let url = format!("{}/pools/extended?count={PAGE}&page={page}", self.base);
        let mut reply = self.client.get(url).header("project_id", self.project.clone()).send().await?;
        if reply.status() != StatusCode::OK {
            return Err(TickersError::Status(reply.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = reply.chunk().await? {
            if body.len() + chunk.len() > PAGE_BYTES_MAX {
                return Err(TickersError::Page { page, why: format!("it has more than {PAGE_BYTES_MAX} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

async fn stopped(stop: &Stop) {
    while !stop.is_stopped() {
        tokio::time::sleep(LOOK).await;
    }
}

fn keep(engine: &Engine, tickers: Vec<Ticker>) -> Result<(), TickersError> {
    let now = chrono::Utc::now();
    if engine.store().write(move |db| epochs::set_tickers(db, &tickers, &now))? > 0 {
        engine.changed();
    }
    Ok(())
}
