//! Paths, and what every request and reply goes through.

use super::{API_VERSION, Shared, files, proofs, read, register, reply};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use std::time::Instant;

/// Where the API begins.
pub const BASE: &str = "/aggregator";

const VERSION_HEADER: HeaderName = HeaderName::from_static("mithril-api-version");

/// The whole API.
pub fn router(shared: Shared) -> Router {
    let paths = [
        ("", get(read::features)),
        ("/status", get(read::status)),
        ("/epoch-settings", get(read::epoch_settings)),
        ("/protocol-configuration/{epoch}", get(read::protocol_configuration)),
        ("/certificates", get(read::certificates)),
        ("/certificate/genesis", get(read::genesis_certificate)),
        ("/certificate/{hash}", get(read::certificate)),
        ("/artifact/cardano-database/digests", get(read::digests)),
        ("/artifact/{kind}", get(read::artifacts)),
        ("/artifact/{kind}/{hash}", get(read::artifact)),
        ("/artifact/{kind}/epoch/{epoch}", get(read::artifacts_of_epoch)),
        ("/proof/cardano-transaction", get(proofs::transactions)),
        ("/proof/v2/cardano-transaction", get(proofs::transactions_v2)),
        ("/proof/v2/cardano-block", get(proofs::blocks_v2)),
        ("/signers/registered/{epoch}", get(read::registered)),
        ("/signers/tickers", get(read::tickers)),
        ("/register-signer", post(register::signer)),
        ("/register-signatures", post(register::signature)),
        ("/statistics/cardano-database/{what}", post(register::statistics)),
        ("/cardano-database-download/{kind}/{file}", get(files::download)),
    ];
    // A slash at the end makes no difference.
    let with_both = |router: Router<Shared>, (path, handler): (&str, MethodRouter<Shared>)| {
        router.route(&format!("{BASE}{path}"), handler.clone()).route(&format!("{BASE}{path}/"), handler)
    };
    paths
        .into_iter()
        .fold(Router::new(), with_both)
        .method_not_allowed_fallback(|| async { reply::empty(StatusCode::METHOD_NOT_ALLOWED) })
        .fallback(|| async { reply::empty(StatusCode::NOT_FOUND) })
        .layer(middleware::from_fn(around))
        .with_state(shared)
}

/// Whatever every request and reply has.
async fn around(request: Request, next: Next) -> Response {
    let origin = request.headers().contains_key(header::ORIGIN);
    let asked = tracing::enabled!(tracing::Level::DEBUG)
        .then(|| (request.method().clone(), request.uri().path().to_owned(), Instant::now()));
    let mut reply = match *request.method() {
        Method::OPTIONS => preflight(),
        _ => next.run(request).await,
    };
    if let Some((method, path, began)) = asked {
        let (status, milliseconds) = (reply.status().as_u16(), began.elapsed().as_millis());
        tracing::debug!(%method, path, status, %milliseconds, "answered");
    }
    let headers = reply.headers_mut();
    headers.insert(VERSION_HEADER, HeaderValue::from_static(API_VERSION));
    if origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("mithril-api-version"));
    }
    reply
}

fn preflight() -> Response {
    let mut reply = Response::new(Body::empty());
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("content-type, mithril-api-version, mithril-origin-tag, mithril-client-type"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    reply
}
