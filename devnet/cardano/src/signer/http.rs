//! The signer's side of the aggregator's HTTP API. Every request has the two headers that real signers send.

use reqwest::{Client, Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Version of the API that signers speak.
pub const API_VERSION: &str = "0.1.71";

/// Version that signers say they are.
pub const SIGNER_VERSION: &str = "1.2.0";

/// How long a request may take, as real signers have it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer: 6 MB with 3,000 signers.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection fails.
    #[error("{0}")]
    Connection(#[from] reqwest::Error),
    /// The system fails.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The answer cannot be read.
    #[error("{route}: {why}")]
    Answer {
        /// What was asked.
        route: String,
        /// What is wrong.
        why: String,
    },
}

/// An aggregator.
#[derive(Debug)]
pub(crate) struct Aggregator {
    base: String,
    client: Client,
    runtime: Runtime,
}

impl Aggregator {
    /// The aggregator at a base like `http://127.0.0.1:8080/aggregator`.
    pub(crate) fn new(base: &str) -> Result<Self, HttpError> {
        // The client asks for a provider of TLS even where there is none to do; another one may be there already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder().timeout(PATIENCE).no_proxy().build()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), client, runtime })
    }

    /// What a route answers; none when its status is another than 200, which is then given instead.
    pub(crate) fn get<T: DeserializeOwned>(&self, route: &str) -> Result<Result<T, u16>, HttpError> {
        let (status, body) = self.send(self.request(Method::GET, route), route)?;
        if status != 200 {
            return Ok(Err(status));
        }
        let wrong = |why: serde_json::Error| HttpError::Answer { route: route.to_owned(), why: why.to_string() };
        serde_json::from_slice(&body).map(Ok).map_err(wrong)
    }

    /// The status of what is posted.
    pub(crate) fn post(&self, route: &str, message: &impl Serialize) -> Result<u16, HttpError> {
        let wrong = |why: serde_json::Error| HttpError::Answer { route: route.to_owned(), why: why.to_string() };
        let body = serde_json::to_vec(message).map_err(wrong)?;
        let request = self.request(Method::POST, route).header("content-type", "application/json").body(body);
        Ok(self.send(request, route)?.0)
    }

    fn request(&self, method: Method, route: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{route}", self.base))
            .header(mithril_common::MITHRIL_API_VERSION_HEADER, API_VERSION)
            .header(mithril_common::MITHRIL_SIGNER_VERSION_HEADER, SIGNER_VERSION)
    }

    fn send(&self, request: RequestBuilder, route: &str) -> Result<(u16, Vec<u8>), HttpError> {
        self.runtime.block_on(async {
            let mut response = request.send().await?;
            let mut body = Vec::new();
            while let Some(part) = response.chunk().await? {
                body.extend_from_slice(&part);
                if body.len() > ANSWER_BYTES_MAX {
                    return Err(HttpError::Answer {
                        route: route.to_owned(),
                        why: "the answer is too long".to_owned(),
                    });
                }
            }
            Ok((response.status().as_u16(), body))
        })
    }
}
