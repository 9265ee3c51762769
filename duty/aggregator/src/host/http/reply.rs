//! Bodies and statuses as clients expect them: exactly `application/json`, an empty body for what is not there.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mithril_common::entities::{ClientError, ServerError};
use serde::Serialize;

/// Registration is not possible now; signers know this status.
pub const REGISTRATION_CLOSED: u16 = 550;

/// How long others may keep a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For ever: its path names its content.
    Forever,
    /// Not without asking again.
    Never,
}

/// JSON that is built already.
pub fn json(status: StatusCode, body: Bytes, keep: Keep) -> Response {
    let keep = match keep {
        Keep::Forever => "public, max-age=31536000, immutable",
        Keep::Never => "no-cache",
    };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, keep)];
    (status, headers, body).into_response()
}

/// A message, as JSON.
pub fn message<T: Serialize>(status: StatusCode, message: &T) -> Response {
    match serde_json::to_vec(message) {
        Ok(body) => json(status, body.into(), Keep::Never),
        Err(error) => failed(&error.to_string()),
    }
}

/// Nothing in the body.
pub fn empty(status: StatusCode) -> Response {
    status.into_response()
}

/// What the client did wrong.
pub fn refused(status: StatusCode, label: &str, why: &str) -> Response {
    message(status, &ClientError::new(label, why))
}

/// What went wrong here. The client gets no details of ours; the log has them.
pub fn failed(why: &str) -> Response {
    tracing::warn!(why, "a request failed");
    unable("it failed here, and the log says why")
}

/// What cannot be answered now, in words that everybody may read.
pub fn unable(why: &str) -> Response {
    message(StatusCode::INTERNAL_SERVER_ERROR, &ServerError::new(why))
}

/// Come back later.
pub fn busy() -> Response {
    let mut reply = message(StatusCode::SERVICE_UNAVAILABLE, &ServerError::new("too many requests at once"));
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

/// Come back when what is being made is there: it may take minutes.
pub fn not_yet(why: &str) -> Response {
    let mut reply = message(StatusCode::SERVICE_UNAVAILABLE, &ServerError::new(why));
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
    reply
}

/// What the database says, as a status: a lock or a full disk may pass.
pub fn database(error: &crate::host::store::StoreError) -> Response {
    if error.is_passing() { busy() } else { failed(&error.to_string()) }
}
