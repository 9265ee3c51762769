//! Where certificates come from: an aggregator, a database of one, a file.

use super::pin;
use crate::host::store::read_only::ReadOnly;
use crate::host::store::{FILE, StoreError, certificates};
use crate::wire::certificate as wire;
use mithril_common::entities::{Certificate, Epoch};
use mithril_common::messages::{CertificateListMessage, CertificateMessage};
use semel_ops::shutdown::{OnStop, Stop};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// Bytes of a certificate, or of a list.
const REPLY_MAX: usize = 64 << 20;
/// Bytes of a file of certificates.
const FILE_MAX: u64 = 1 << 30;
/// Time for a reply.
const REPLY_TIME_MAX: Duration = Duration::from_secs(60);
/// Time for a reply that says what a server does.
const STATUS_TIME_MAX: Duration = Duration::from_secs(10);

/// Why a certificate cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// It is not there.
    #[error("there is no certificate {hash} in {place}")]
    Missing {
        /// Its hash.
        hash: String,
        /// Where it was looked for.
        place: String,
    },
    /// There is none at all.
    #[error("there is no certificate in {0}")]
    Empty(String),
    /// The place cannot be reached or read.
    #[error("{place}: {why}")]
    Place {
        /// Which.
        place: String,
        /// Why.
        why: String,
    },
    /// What is there is no certificate.
    #[error("what {place} gives is no certificate: {why}")]
    Undecodable {
        /// Which place.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody waits for it any more.
    #[error("the answer was not waited for")]
    Abandoned,
}

/// What a text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An aggregator.
    Url,
    /// A directory of stores.
    Directory,
    /// A file of certificates.
    File,
}

impl Kind {
    /// Of a text as [`open`] takes it.
    pub fn of(text: &str) -> Kind {
        match text.starts_with("http://") || text.starts_with("https://") {
            true => Kind::Url,
            false if Path::new(text).is_dir() => Kind::Directory,
            false => Kind::File,
        }
    }
}

/// Where certificates come from.
pub trait Origin {
    /// The certificate with this hash.
    ///
    /// # Errors
    /// When it cannot be had.
    fn certificate(&self, hash: &str) -> Result<Certificate, OriginError>;

    /// Hash of the newest one.
    ///
    /// # Errors
    /// When there is none, or nobody answers.
    fn newest(&self) -> Result<String, OriginError>;

    /// Epoch of the genesis, as it says. Nobody has verified it: this is for showing how far it is.
    fn genesis_epoch(&self) -> Option<Epoch> {
        None
    }

    /// Lets whoever waits for an answer wait no more.
    fn abandon(&self) {}
}

/// The origin that a text names: a URL, a directory of stores, or a JSON file of certificates. After the stop it gives
/// nothing more.
///
/// # Errors
/// When there is nothing of the kind.
pub fn open(text: &str, stop: &Stop) -> Result<Box<dyn Origin + Sync>, OriginError> {
    let path = Path::new(text);
    match Kind::of(text) {
        Kind::Url => {
            let remote = Remote::new(text, None, REPLY_TIME_MAX)?;
            let abandoned = remote.abandoned.clone();
            let on_stop = stop.on_stop(move || {
                abandoned.send_replace(true);
            });
            Ok(Box::new(Remote { _on_stop: Some(on_stop), ..remote }))
        }
        Kind::Directory if !path.join(FILE).exists() => {
            let why = format!("it holds no {FILE}");
            Err(OriginError::Place { place: text.to_owned(), why })
        }
        Kind::Directory => Ok(Box::new(Local(ReadOnly::open(path)?, path.to_owned()))),
        Kind::File => Ok(Box::new(File::read(path)?)),
    }
}

/// An aggregator.
#[derive(Debug)]
struct Remote {
    base: String,
    client: reqwest::Client,
    runtime: Runtime,
    abandoned: watch::Sender<bool>,
    _on_stop: Option<OnStop>,
}

/// A runtime whose end waits for nobody: a name may be looked up for a long time.
#[derive(Debug)]
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Remote {
    fn new(url: &str, trusted: Option<&Path>, time_max: Duration) -> Result<Remote, OriginError> {
        let place = |why: String| OriginError::Place { place: url.to_owned(), why };
        // Whoever was first has installed one.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder().timeout(time_max);
        if let Some(certificate) = trusted {
            let trust = pin::only(certificate).map_err(|error| place(error.to_string()))?;
            client = client.tls_backend_preconfigured(trust).no_proxy();
        }
        let client = client.build().map_err(|error| place(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Remote {
            base: url.trim_end_matches('/').to_owned(),
            client,
            runtime: Runtime(Some(runtime.map_err(|error| place(error.to_string()))?)),
            abandoned: watch::Sender::new(false),
            _on_stop: None,
        })
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, OriginError> {
        let Some(runtime) = &self.runtime.0 else { return Err(OriginError::Abandoned) };
        let mut abandoned = self.abandoned.subscribe();
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = abandoned.wait_for(|is_abandoned| *is_abandoned) => Err(OriginError::Abandoned),
                got = self.ask(path) => got,
            }
        })
    }

    async fn ask(&self, path: &str) -> Result<Option<Vec<u8>>, OriginError> {
        let url = format!("{}{path}", self.base);
        let place = |why: String| OriginError::Place { place: url.clone(), why };
        let mut reply = self.client.get(&url).send().await.map_err(|error| place(error_text(&error)))?;
        if reply.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !reply.status().is_success() {
            return Err(place(format!("it answers {}", reply.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = reply.chunk().await.map_err(|error| place(error_text(&error)))? {
            if body.len() + chunk.len() > REPLY_MAX {
                return Err(place(format!("its answer has more than {REPLY_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }
}

/// What went wrong with a request, with its cause.
fn error_text(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

fn undecodable(place: &str) -> impl FnOnce(wire::Undecodable) -> OriginError {
    let place = place.to_owned();
    move |error| OriginError::Undecodable { place, why: error.to_string() }
}

/// What an aggregator at `url` says on one of its routes. Over TLS it may be asked to show one certificate, the first
/// in a PEM file.
///
/// # Errors
/// When nobody answers, or not with JSON.
pub fn fetch_json(url: &str, path: &str, trusted: Option<&Path>) -> Result<serde_json::Value, OriginError> {
    let body = Remote::new(url, trusted, STATUS_TIME_MAX)?
        .get(path)?
        .ok_or_else(|| OriginError::Empty(format!("{url}{path}")))?;
    serde_json::from_slice(&body)
        .map_err(|error| OriginError::Undecodable { place: format!("{url}{path}"), why: error.to_string() })
}

impl Origin for Remote {
    fn certificate(&self, hash: &str) -> Result<Certificate, OriginError> {
        let missing = || OriginError::Missing { hash: hash.to_owned(), place: self.base.clone() };
        let body = self.get(&format!("/certificate/{hash}"))?.ok_or_else(missing)?;
        wire::decode(&body).map_err(undecodable(&self.base))
    }

    fn newest(&self) -> Result<String, OriginError> {
        let empty = || OriginError::Empty(self.base.clone());
        let body = self.get("/certificates")?.ok_or_else(empty)?;
        let list: CertificateListMessage = serde_json::from_slice(&body)
            .map_err(|error| OriginError::Undecodable { place: self.base.clone(), why: error.to_string() })?;
        Ok(list.into_iter().next().ok_or_else(empty)?.hash)
    }

    fn genesis_epoch(&self) -> Option<Epoch> {
        let body = self.get("/certificate/genesis").ok().flatten()?;
        Some(wire::decode(&body).ok()?.epoch)
    }

    fn abandon(&self) {
        self.abandoned.send_replace(true);
    }
}

/// A database, which is only read.
struct Local(ReadOnly, PathBuf);

impl Origin for Local {
    fn certificate(&self, hash: &str) -> Result<Certificate, OriginError> {
        let missing = || OriginError::Missing { hash: hash.to_owned(), place: self.1.display().to_string() };
        self.0.read(|db| certificates::get(db, hash))?.ok_or_else(missing)
    }

    fn newest(&self) -> Result<String, OriginError> {
        let newest = self.0.read(|db| certificates::latest(db, 1))?.pop();
        Ok(newest.ok_or_else(|| OriginError::Empty(self.1.display().to_string()))?.hash)
    }

    fn genesis_epoch(&self) -> Option<Epoch> {
        Some(self.0.read(certificates::latest_genesis).ok().flatten()?.epoch)
    }
}

/// A file: a JSON object of certificates by hash, or a list of them.
struct File {
    place: String,
    certificates: BTreeMap<String, CertificateMessage>,
}

impl File {
    fn read(path: &Path) -> Result<File, OriginError> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Content {
            List(Vec<CertificateMessage>),
            Map(BTreeMap<String, CertificateMessage>),
        }
        let place = path.display().to_string();
        let failed = |why: String| OriginError::Place { place: place.clone(), why };
        let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
        if size > FILE_MAX {
            return Err(failed(format!("it has more than {FILE_MAX} bytes")));
        }
        let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let content = serde_json::from_slice(&text)
            .map_err(|error| OriginError::Undecodable { place: place.clone(), why: error.to_string() })?;
        let list = match content {
            Content::List(list) => list,
            Content::Map(map) => map.into_values().collect(),
        };
        Ok(File { place, certificates: list.into_iter().map(|one| (one.hash.clone(), one)).collect() })
    }
}

impl Origin for File {
    fn certificate(&self, hash: &str) -> Result<Certificate, OriginError> {
        let missing = || OriginError::Missing { hash: hash.to_owned(), place: self.place.clone() };
        let message = self.certificates.get(hash).cloned().ok_or_else(missing)?;
        wire::of_message(message).map_err(undecodable(&self.place))
    }

    fn newest(&self) -> Result<String, OriginError> {
        let newest = self.certificates.values().max_by_key(|one| (one.epoch, one.metadata.sealed_at));
        Ok(newest.ok_or_else(|| OriginError::Empty(self.place.clone()))?.hash.clone())
    }

    fn genesis_epoch(&self) -> Option<Epoch> {
        self.certificates.values().filter(|one| !one.genesis_signature.is_empty()).map(|one| one.epoch).max()
    }
}
