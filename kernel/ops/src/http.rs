//! `/livez`, `/readyz`, `/healthz` and `/metrics` on an opt-in address.
//!
//! | Path | 200 | 503 |
//! |---|---|---|
//! | `/livez` | every heartbeat is fresh | one is late |
//! | `/readyz` | every condition holds | one does not; the body says which and why |
//! | `/healthz` | live and ready | else |
//! | `/metrics` | always, in the Prometheus text format | |
//!
//! `?verbose` lists what holds too; `Accept: application/json` gives the same as JSON. The server has a thread and a runtime
//! of its own, so that nothing it does can delay a signature. What a stranger can spend is bounded: see the constants.

use crate::health::{Finding, Health};
use crate::metrics::{CONTENT_TYPE, Metrics};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// Connections served at once; one more waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request line with its headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Time for a request's headers to arrive; an idle kept-alive connection ends by it as well.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Time of a connection, however many requests it makes.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(120);
/// Time that open connections get at the end.
const GRACE: Duration = Duration::from_millis(200);
/// Pause after a failed accept (out of file descriptors, say), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the listener did not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// No thread or no runtime.
    #[error("cannot start the HTTP thread")]
    Start(#[source] io::Error),
}

#[derive(Clone)]
struct Shown {
    health: Health,
    metrics: Option<Metrics>,
}

/// The running listener; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` (port 0: any) and serves from a thread of its own.
    ///
    /// # Errors
    /// When the address cannot be listened on, or no thread can be had.
    pub fn start(address: SocketAddr, health: &Health, metrics: Option<&Metrics>) -> Result<Server, HttpError> {
        let listen = |source| HttpError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(HttpError::Start)?;
        let app = router(Shown { health: health.clone(), metrics: metrics.cloned() });
        let (end, ended) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, app, ended)) {
                    tracing::error!(%error, "the HTTP listener ended");
                }
                runtime.shutdown_timeout(GRACE);
            })
            .map_err(HttpError::Start)?;
        Ok(Server { address: bound, end, thread: Some(thread) })
    }

    /// Where it listens; the port is the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Ends it: no new connections, open ones get a short grace.
    pub fn shutdown(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        let _ = self.end.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.finish();
    }
}

async fn serve(listener: TcpListener, app: Router, mut ended: watch::Receiver<bool>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = tokio::select! {
            _ = ended.changed() => break,
            slot = Arc::clone(&slots).acquire_owned() => match slot {
                Ok(slot) => slot,
                Err(_) => break,
            },
        };
        let stream = tokio::select! {
            _ = ended.changed() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (app, ended) = (app.clone(), ended.clone());
        tokio::spawn(async move {
            connection(stream, app, ended).await;
            drop(slot);
        });
    }
    // Every slot free again means every connection has ended.
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(GRACE, slots.acquire_many(all)).await;
    Ok(())
}

async fn connection(stream: tokio::net::TcpStream, app: Router, mut ended: watch::Receiver<bool>) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut serving = std::pin::pin!(serving);
    let outcome = tokio::time::timeout(CONNECTION_TIME_MAX, async {
        tokio::select! {
            outcome = serving.as_mut() => outcome,
            _ = ended.changed() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    });
    if let Ok(Err(error)) = outcome.await {
        tracing::debug!(%error, "an HTTP connection ended badly");
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(shown)
}

async fn livez(State(shown): State<Shown>, query: RawQuery, headers: HeaderMap) -> Response {
    answer("live", &shown.health.heartbeats(Instant::now()), &query, &headers)
}

async fn readyz(State(shown): State<Shown>, query: RawQuery, headers: HeaderMap) -> Response {
    answer("ready", &shown.health.conditions(), &query, &headers)
}

async fn healthz(State(shown): State<Shown>, query: RawQuery, headers: HeaderMap) -> Response {
    let mut findings = shown.health.heartbeats(Instant::now());
    findings.extend(shown.health.conditions());
    answer("healthy", &findings, &query, &headers)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match &shown.metrics {
        Some(metrics) => typed(StatusCode::OK, CONTENT_TYPE, metrics.render()),
        None => typed(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "no metrics are kept\n".to_owned()),
    }
}

fn answer(word: &'static str, findings: &[Finding], query: &RawQuery, headers: &HeaderMap) -> Response {
    let ok = findings.iter().all(|finding| finding.ok);
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json") {
        let body = serde_json::json!({ "status": if ok { word.to_owned() } else { format!("not {word}") }, "checks": findings });
        return typed(status, "application/json", format!("{body}\n"));
    }
    let verbose =
        query.0.as_deref().is_some_and(|q| q.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose=")));
    typed(status, "text/plain; charset=utf-8", text(word, findings, ok, verbose))
}

fn text(word: &str, findings: &[Finding], ok: bool, verbose: bool) -> String {
    let mut body = String::new();
    for finding in findings.iter().filter(|finding| verbose || !finding.ok) {
        // Writing to a string does not fail.
        let _ = match &finding.reason {
            Some(reason) => writeln!(body, "[-] {}: {reason}", finding.name),
            None => writeln!(body, "[+] {} ok", finding.name),
        };
    }
    let _ = if ok { writeln!(body, "{word}") } else { writeln!(body, "not {word}") };
    body
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write as _};
    use std::net::TcpStream;

    fn started(health: &Health, metrics: Option<&Metrics>) -> Server {
        Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), health, metrics).unwrap()
    }

    fn ask(server: &Server, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    #[test]
    fn readyz_is_503_with_reasons_until_every_condition_holds() {
        let health = Health::new();
        let (ledger, node) = (health.register("ledger"), health.register("validator a@tcp://10.1.1.1:26658"));
        ledger.ok();
        node.failing("connection refused");
        let server = started(&health, None);
        let (status, body) = ask(&server, "/readyz", "");
        assert_eq!(
            (status, body.as_str()),
            (503, "[-] validator a@tcp://10.1.1.1:26658: connection refused\nnot ready\n")
        );
        let (_, body) = ask(&server, "/readyz?verbose", "");
        assert!(body.starts_with("[+] ledger ok\n[-] validator"), "{body}");
        let (status, body) = ask(&server, "/readyz", "Accept: application/json\r\n");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, json["checks"][1]["reason"].as_str()), (503, Some("connection refused")));
        node.ok();
        assert_eq!(ask(&server, "/readyz", ""), (200, "ready\n".to_owned()));
        assert_eq!(ask(&server, "/healthz", ""), (200, "healthy\n".to_owned()));
    }

    #[test]
    fn livez_follows_the_heartbeats() {
        let health = Health::new();
        let server = started(&health, None);
        assert_eq!(ask(&server, "/livez", ""), (200, "live\n".to_owned()));
        let _late = health.heartbeat("journal", Duration::ZERO);
        assert_eq!(ask(&server, "/livez", "").0, 503);
    }

    #[test]
    fn metrics_are_rendered_and_other_paths_are_not_found() {
        let (recorder, metrics) = Metrics::local().unwrap();
        metrics::with_local_recorder(&recorder, || metrics::counter!("semel_test_total").increment(3));
        let health = Health::new();
        let server = started(&health, Some(&metrics));
        let (status, body) = ask(&server, "/metrics", "");
        assert_eq!(status, 200);
        assert!(body.contains("semel_test_total 3"), "{body}");
        assert_eq!(ask(&server, "/", "").0, 404);
        assert_eq!(ask(&started(&health, None), "/metrics", "").0, 404);
    }

    /// Sends a request whose answer may be lost, because the server closes while we still write.
    fn is_refused(server: &Server, headers: &str) -> bool {
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        let mut answer = Vec::new();
        let sent = write!(stream, "GET /livez HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        let read = stream.read_to_end(&mut answer);
        answer.starts_with(b"HTTP/1.1 431") || (answer.is_empty() && (sent.is_err() || read.is_err()))
    }

    #[test]
    fn headers_beyond_the_limits_end_the_request() {
        let server = started(&Health::new(), None);
        let many: String = (0..=HEADERS_MAX).map(|n| format!("X-{n}: 1\r\n")).collect();
        assert!(is_refused(&server, &many));
        let long = format!("X: {}\r\n", "a".repeat(HEADER_BYTES_MAX));
        assert!(is_refused(&server, &long));
        assert_eq!(ask(&server, "/livez", "").0, 200);
    }

    #[test]
    fn a_shutdown_does_not_wait_for_a_silent_client() {
        let server = started(&Health::new(), None);
        let address = server.local_addr();
        let _silent = TcpStream::connect(address).unwrap();
        let begun = Instant::now();
        server.shutdown();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn an_address_that_is_taken_is_named_in_the_error() {
        let server = started(&Health::new(), None);
        let error = Server::start(server.local_addr(), &Health::new(), None).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {}", server.local_addr()));
    }
}
