//! The listener.
//!
//! A connection costs a task and some kilobytes; there may be as many as there are file descriptors for. One that has not sent its
//! headers in time ends, so half-open ones keep nobody out for long; neither do clients that ask and do not read.

use super::tls::Tls;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Connections at once, where there are file descriptors for them.
const CONNECTIONS_MAX: u64 = 16_384;
/// File descriptors that are for something else: the database, archives, the node.
const DESCRIPTORS_KEPT: u64 = 512;
/// Time for a request's headers; an idle kept-alive connection ends by it as well.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// The same once three quarters of all connections are taken: who is slow then makes room for others.
const HEADER_TIME_PRESSED: Duration = Duration::from_secs(2);
/// Time in which somebody who is sent something has to take some of it. Of a client that does not read, or is gone without a word,
/// neither the connection nor its place among the downloads is kept for longer.
const UNTAKEN_MS_MAX: u32 = 30_000;
/// Bytes of headers, and of a request line without hashes.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request line with its headers, even where few hashes may be asked for at once.
const HEAD_BYTES_MIN: usize = 32 * 1024;
/// Bytes of a hash in a request line, with its comma.
const HASH_BYTES: usize = 65;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Time for what is under way to end when the server does.
const GRACE: Duration = Duration::from_secs(2);
/// How often certificate and key are looked at.
const TLS_LOOK: Duration = Duration::from_secs(2);
/// Pause after an accept that failed (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the head of a request, its line and its headers, may take.
#[derive(Debug, Clone, Copy)]
struct Head {
    time: Duration,
    bytes: usize,
}

/// The running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` (port 0: any), and serves from threads of its own.
    ///
    /// # Errors
    /// When the address cannot be listened on, or no thread can be had.
    pub fn start(address: SocketAddr, app: Router, threads: usize) -> io::Result<Server> {
        Server::start_with(address, app, threads, 0, None)
    }

    /// The same, for requests that name up to `hashes_max` hashes; with TLS when there is any.
    ///
    /// # Errors
    /// The same.
    pub fn start_with(
        address: SocketAddr,
        app: Router,
        threads: usize,
        hashes_max: usize,
        tls: Option<Arc<Tls>>,
    ) -> io::Result<Server> {
        let head_max = (hashes_max * HASH_BYTES + HEADER_BYTES_MAX).max(HEAD_BYTES_MIN);
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("http")
            // More than all classes of routes have places: none waits for another's threads.
            .max_blocking_threads(1024)
            .enable_all()
            .build()?;
        let (end, ended) = watch::channel(false);
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, app, tls, head_max, ended)) {
                tracing::error!(%error, "the HTTP server ended");
            }
            runtime.shutdown_timeout(GRACE);
        })?;
        Ok(Server { address: bound, end, thread: Some(thread) })
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.end.send(true);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// As many connections as there are descriptors for; the limit is raised first, as far as it goes.
fn connections() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = if raised.is_ok() { limit.maximum } else { limit.current };
    let most = now.unwrap_or(u64::MAX).saturating_sub(DESCRIPTORS_KEPT).clamp(64, CONNECTIONS_MAX);
    usize::try_from(most).unwrap_or(64)
}

/// Looks for a new certificate, for as long as the server runs.
async fn renew(tls: Arc<Tls>) {
    loop {
        tokio::time::sleep(TLS_LOOK).await;
        let looked = Arc::clone(&tls);
        match tokio::task::spawn_blocking(move || looked.refresh()).await {
            Ok(Ok(true)) => tracing::info!("a new TLS certificate is served"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the TLS certificate before is served"),
            Err(error) => tracing::warn!(%error, "the TLS certificate was not looked at"),
        }
    }
}

async fn serve(
    listener: TcpListener,
    app: Router,
    tls: Option<Arc<Tls>>,
    head_max: usize,
    mut ended: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let most = match &tls {
        None => connections(),
        // Each has buffers of TLS as well, some 40 KiB.
        Some(tls) => {
            tokio::spawn(renew(Arc::clone(tls)));
            connections() / 2
        }
    };
    let slots = Arc::new(Semaphore::new(most));
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
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let time = match slots.available_permits() < most / 4 {
            true => HEADER_TIME_PRESSED,
            false => HEADER_TIME_MAX,
        };
        let head = Head { time, bytes: head_max };
        let (app, tls, ended) = (app.clone(), tls.as_ref().map(|tls| tls.acceptor()), ended.clone());
        tokio::spawn(async move {
            greeted(stream, app, tls, ended, head).await;
            drop(slot);
        });
    }
    // Every slot free again means that every connection has ended.
    let all = u32::try_from(most).unwrap_or(u32::MAX);
    let _late = tokio::time::timeout(GRACE, slots.acquire_many(all)).await;
    Ok(())
}

/// A connection, after its handshake where there is one; that has the time of a request's headers.
async fn greeted(stream: TcpStream, app: Router, tls: Option<TlsAcceptor>, ended: watch::Receiver<bool>, head: Head) {
    let _slower = stream.set_nodelay(true);
    let _unbounded = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNTAKEN_MS_MAX);
    let Some(tls) = tls else { return connection(stream, app, ended, head).await };
    match tokio::time::timeout(head.time, tls.accept(stream)).await {
        Ok(Ok(stream)) => connection(stream, app, ended, head).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn connection<S>(stream: S, app: Router, mut ended: watch::Receiver<bool>, head: Head)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head.time)
        .max_buf_size(head.bytes)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut serving = std::pin::pin!(serving);
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        _ = ended.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended badly");
    }
}
