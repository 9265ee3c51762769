//! Clients: so many connections, each with one request at a time, on one thread.
//!
//! In a closed loop the next request follows the answer. At a rate, requests are due at equal distances whatever the answers do,
//! and the clock of each starts when it was due: a server that stalls pays for everything that waited behind it.

use super::cost;
use crate::host::commands::CommandError;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Bytes of an answer's head.
const HEAD_MAX: usize = 16 * 1024;

/// When it ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// After so many requests.
    Requests(usize),
    /// After this time.
    Time(Duration),
}

/// What to ask for.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    /// Whole requests, taken in turn.
    pub(super) requests: Arc<Vec<Vec<u8>>>,
    pub(super) connections: usize,
    pub(super) end: End,
    /// Requests per second of all connections; none: a closed loop.
    pub(super) rate: Option<f64>,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Nanoseconds, ascending.
    latencies: Vec<u64>,
    /// How often each status came.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// From the first request to the last answer.
    pub(super) seconds: f64,
    /// Bytes of bodies.
    pub(super) bytes: u64,
    /// Processor time of everything but the clients.
    pub(super) server_seconds: f64,
}

impl Loaded {
    /// Answers per second.
    pub(super) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }

    /// Milliseconds within which this share of the answers came.
    pub(super) fn percentile_ms(&self, share: f64) -> f64 {
        let rank = (self.latencies.len() as f64 * share).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).map_or(0.0, |ns| *ns as f64 / 1e6)
    }

    /// Answers with another status than this.
    pub(super) fn others(&self, status: u16) -> u64 {
        self.statuses.iter().filter(|(other, _)| **other != status).map(|(_, count)| count).sum()
    }
}

/// A request for a path.
pub(super) fn get(path: &str) -> Vec<u8> {
    format!("GET /aggregator{path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// A request with a body.
pub(super) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /aggregator{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Asks, on a thread of its own.
pub(super) fn run(load: &Load) -> Result<Loaded, CommandError> {
    let load = load.clone();
    let failed = |why: io::Error| CommandError::Host("the clients of the benchmark", why);
    let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let server = || cost::process_seconds() - cost::thread_seconds();
        let before = server();
        let loaded = tokio::task::LocalSet::new().block_on(&runtime, all(load))?;
        Ok(Loaded { server_seconds: server() - before, ..loaded })
    });
    thread.map_err(failed)?.join().map_err(|_| super::failed("the clients ended early"))?.map_err(failed)
}

struct Shared {
    load: Load,
    next: usize,
    begun: Instant,
    loaded: Loaded,
}

async fn all(load: Load) -> io::Result<Loaded> {
    let mut streams = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        let stream = TcpStream::connect(load.address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let shared = Shared { load, next: 0, begun: Instant::now(), loaded: Loaded::default() };
    let shared = Rc::new(RefCell::new(shared));
    let tasks: Vec<_> =
        streams.into_iter().map(|stream| tokio::task::spawn_local(connection(stream, Rc::clone(&shared)))).collect();
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    let mut shared = shared.borrow_mut();
    shared.loaded.seconds = shared.begun.elapsed().as_secs_f64();
    shared.loaded.latencies.sort_unstable();
    Ok(std::mem::take(&mut shared.loaded))
}

/// The next request and when it is due; none at the end.
fn next(shared: &RefCell<Shared>) -> Option<(usize, Instant)> {
    let mut shared = shared.borrow_mut();
    let at = shared.next;
    let due = match shared.load.rate {
        Some(rate) => shared.begun + Duration::from_secs_f64(at as f64 / rate),
        None => Instant::now(),
    };
    let is_over = match shared.load.end {
        End::Requests(count) => at >= count,
        End::Time(span) => due.duration_since(shared.begun) >= span,
    };
    if is_over {
        return None;
    }
    shared.next += 1;
    Some((at, due))
}

async fn connection(mut stream: TcpStream, shared: Rc<RefCell<Shared>>) -> io::Result<()> {
    let requests = Arc::clone(&shared.borrow().load.requests);
    let is_paced = shared.borrow().load.rate.is_some();
    let mut buffer = vec![0; CHUNK];
    while let Some((at, due)) = next(&shared) {
        if is_paced {
            tokio::time::sleep_until(due.into()).await;
        }
        let request = requests.get(at % requests.len().max(1)).ok_or(io::ErrorKind::InvalidInput)?;
        stream.write_all(request).await?;
        let (status, bytes) = answer(&mut stream, &mut buffer).await?;
        let mut shared = shared.borrow_mut();
        shared.loaded.latencies.push(due.elapsed().as_nanos() as u64);
        *shared.loaded.statuses.entry(status).or_default() += 1;
        shared.loaded.bytes += bytes;
    }
    Ok(())
}

/// Status, and bytes of the body, which is read and not looked at.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<(u16, u64)> {
    let wrong = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut filled = 0;
    let end = loop {
        let room =
            buffer.get_mut(filled..).filter(|_| filled < HEAD_MAX).ok_or_else(|| wrong("the head is too long"))?;
        let read = stream.read(room).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let seen = buffer.get(..filled).unwrap_or_default();
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
    };
    let head = std::str::from_utf8(buffer.get(..end).unwrap_or_default()).map_err(|_| wrong("the head is no text"))?;
    let status =
        head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| wrong("there is no status"))?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().ok())?
    });
    let length = length.ok_or_else(|| wrong("the length is not told"))?;
    let mut left = length.saturating_sub((filled - end - 4) as u64);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = stream.read(buffer.get_mut(..most).unwrap_or_default()).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= read as u64;
    }
    Ok((status, length))
}
