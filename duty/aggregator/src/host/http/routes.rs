//! Paths, and what every request and reply goes through.

use super::{API_VERSION, Shared, files, proofs, read, register, reply};
use crate::face::metrics::Timed;
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
        ("/semel/standing", get(read::standing)),
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
    let (class, began) = (class(request.uri().path()), Instant::now());
    let asked =
        tracing::enabled!(tracing::Level::DEBUG).then(|| (request.method().clone(), request.uri().path().to_owned()));
    let mut reply = match *request.method() {
        Method::OPTIONS => preflight(),
        _ => next.run(request).await,
    };
    // Of the library below: a path that is no text. Nothing is there.
    let is_foreign =
        reply.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/"));
    if is_foreign {
        reply = reply::empty(StatusCode::NOT_FOUND);
    }
    let took = began.elapsed();
    Timed::Request.record(class, took);
    if let Some((method, path)) = asked {
        let (status, milliseconds) = (reply.status().as_u16(), took.as_millis());
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

/// Class of a path, for its time.
fn class(path: &str) -> &'static str {
    let path = path.strip_prefix(BASE).unwrap_or_default();
    let classes = [
        ("/proof", "proof"),
        ("/register-", "registration"),
        ("/artifact", "artifact"),
        ("/certificate", "certificate"),
        ("/cardano-database-download", "download"),
        ("/statistics", "statistics"),
    ];
    classes.iter().find(|(start, _)| path.starts_with(start)).map_or("other", |(_, class)| class)
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
