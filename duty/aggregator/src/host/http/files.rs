//! Archives of the local uploader.

use super::{Shared, reply};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use httpdate::HttpDate;
use std::io::SeekFrom;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// `GET /cardano-database-download/{kind}/{file}`, with ranges.
pub async fn download(
    State(shared): State<Shared>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let Some(root) = &shared.0.options.archives else { return reply::empty(StatusCode::FORBIDDEN) };
    // One name in one of three directories: no path of a stranger's is ever followed.
    let is_plain = |name: &str| {
        !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if !matches!(kind.as_str(), "ancillary" | "immutable" | "digests") || !is_plain(&name) || name.ends_with(".tmp") {
        return reply::empty(StatusCode::NOT_FOUND);
    }
    let Ok(place) = std::sync::Arc::clone(&shared.0.downloads).try_acquire_owned() else { return reply::busy() };
    let Ok(mut file) = tokio::fs::File::open(root.join(&kind).join(&name)).await else {
        return reply::empty(StatusCode::NOT_FOUND);
    };
    let (size, modified) = match file.metadata().await {
        Ok(metadata) if metadata.is_file() => (metadata.len(), metadata.modified().ok().map(HttpDate::from)),
        _ => return reply::empty(StatusCode::NOT_FOUND),
    };
    let said = |name: HeaderName| headers.get(name).and_then(|text| text.to_str().ok());
    let date = |name| said(name).and_then(|text| text.parse::<HttpDate>().ok());
    if modified.is_some_and(|modified| date(header::IF_MODIFIED_SINCE).is_some_and(|known| modified <= known)) {
        return dated(reply::empty(StatusCode::NOT_MODIFIED), modified);
    }
    // A part of another file than the one that was begun is of no use.
    let is_same = said(header::IF_RANGE).is_none() || modified.is_some() && date(header::IF_RANGE) == modified;
    let range = said(header::RANGE).filter(|_| is_same).map(|text| range(text, size));
    let (status, start, end) = match range {
        None | Some(Asked::Whole) => (StatusCode::OK, 0, size),
        Some(Asked::Part(start, end)) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(Asked::Impossible) => {
            let mut refused = reply::empty(StatusCode::RANGE_NOT_SATISFIABLE);
            if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
                refused.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            return refused;
        }
    };
    if start > 0 && file.seek(SeekFrom::Start(start)).await.is_err() {
        return reply::failed("an archive cannot be read");
    }
    let mut response = Response::new(stream(file, end - start, place));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, "application/octet-stream");
    set(header::CONTENT_LENGTH, &(end - start).to_string());
    set(header::ACCEPT_RANGES, "bytes");
    set(header::CONTENT_DISPOSITION, &format!("attachment; filename=\"{name}\""));
    if status == StatusCode::PARTIAL_CONTENT {
        set(header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
    }
    dated(response, modified)
}

fn dated(mut reply: Response, modified: Option<HttpDate>) -> Response {
    if let Some(value) = modified.and_then(|modified| HeaderValue::from_str(&modified.to_string()).ok()) {
        reply.headers_mut().insert(header::LAST_MODIFIED, value);
    }
    reply
}

fn stream(file: tokio::fs::File, length: u64, place: tokio::sync::OwnedSemaphorePermit) -> Body {
    let steps = futures_util::stream::try_unfold((file, length, place), |(mut file, left, place)| async move {
        if left == 0 {
            return Ok::<_, std::io::Error>(None);
        }
        let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; size];
        file.read_exact(&mut chunk).await?;
        Ok(Some((bytes::Bytes::from(chunk), (file, left - size as u64, place))))
    });
    Body::from_stream(steps)
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// No range that is understood: RFC 9110 says to ignore it.
    Whole,
    /// From the first byte up to, and without, the second.
    Part(u64, u64),
    Impossible,
}

fn range(text: &str, size: u64) -> Asked {
    let Some(spec) = text.strip_prefix("bytes=") else { return Asked::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Asked::Whole };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        _ if size == 0 => Asked::Impossible,
        (Ok(first), _) if first >= size => Asked::Impossible,
        (Ok(first), Ok(last)) if last >= first => Asked::Part(first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.trim().is_empty() => Asked::Part(first, size),
        (Err(_), Ok(0)) if first.trim().is_empty() => Asked::Impossible,
        (Err(_), Ok(tail)) if first.trim().is_empty() => Asked::Part(size.saturating_sub(tail), size),
        _ => Asked::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, range};

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let table = [
            ("bytes=0-", Asked::Part(0, 10)),
            ("bytes=3-5", Asked::Part(3, 6)),
            ("bytes=3-99", Asked::Part(3, 10)),
            ("bytes=-4", Asked::Part(6, 10)),
            ("bytes=-40", Asked::Part(0, 10)),
            ("bytes=10-", Asked::Impossible),
            ("bytes=-0", Asked::Impossible),
            ("bytes=5-3", Asked::Whole),
            ("bytes=0-1,4-5", Asked::Whole),
            ("lines=1-2", Asked::Whole),
        ];
        for (text, expected) in table {
            assert_eq!(range(text, 10), expected, "{text}");
        }
        assert_eq!(range("bytes=-5", 0), Asked::Impossible);
    }
}
