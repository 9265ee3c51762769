//! A connection to a node's local socket that cannot cost more than it may.
//!
//! The multiplexer of the protocol keeps whatever arrives until a message is complete, however long that takes. So it does
//! not get the socket: it gets one end of a pair, and a [`Meter`] on the other end lets through as many bytes as the question
//! may cost. More is [`ChainError::Answer`]. The bound in time is the caller's.

use super::ChainError;
use pallas_network::miniprotocols::{
    PROTOCOL_N2C_CHAIN_SYNC, PROTOCOL_N2C_HANDSHAKE, PROTOCOL_N2C_STATE_QUERY, chainsync,
    handshake::{self, Confirmation, n2c::VersionTable},
    localstate,
};
use pallas_network::multiplexer::{Bearer, Plexer};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes moved at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Length of the reason in an error.
const WHY_CHARS_MAX: usize = 240;

/// How many bytes the node may still say.
#[derive(Debug)]
pub(super) struct Meter {
    left: AtomicU64,
    spent: AtomicBool,
}

impl Meter {
    fn new(budget: u64) -> Self {
        Self { left: AtomicU64::new(budget), spent: AtomicBool::new(false) }
    }

    /// Begins a new question, which may cost this many bytes.
    pub(super) fn refill(&self, budget: u64) {
        self.left.store(budget, Ordering::Relaxed);
    }

    /// Whether the node said more than it may.
    pub(super) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }

    /// Takes bytes from the budget; false when there are not as many.
    fn take(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let enough =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok();
        if !enough {
            self.spent.store(true, Ordering::Relaxed);
        }
        enough
    }
}

/// An open connection, hands shaken.
pub(super) struct Session {
    /// Questions about the ledger's state.
    pub(super) state: localstate::Client,
    /// The walk along the chain.
    pub(super) chain: chainsync::N2CClient,
    /// What the node may still say.
    pub(super) meter: Arc<Meter>,
}

impl Session {
    /// Connects within the current runtime, whose end is the end of the connection.
    pub(super) async fn open(socket: &Path, magic: u64, budget: u64) -> Result<Self, ChainError> {
        let unreachable =
            |why: std::io::Error| ChainError::Unreachable { whom: socket.display().to_string(), why: why.to_string() };
        let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
        let (near, far) = UnixStream::pair().map_err(unreachable)?;
        let meter = Arc::new(Meter::new(budget));

        let (from_node, to_node) = stream.into_split();
        let (from_us, to_us) = far.into_split();
        tokio::spawn(pump(from_node, to_us, Some(Arc::clone(&meter))));
        tokio::spawn(pump(from_us, to_node, None));

        let mut plexer = Plexer::new(Bearer::Unix(near));
        let hands = plexer.subscribe_client(PROTOCOL_N2C_HANDSHAKE);
        let chain = plexer.subscribe_client(PROTOCOL_N2C_CHAIN_SYNC);
        let state = plexer.subscribe_client(PROTOCOL_N2C_STATE_QUERY);
        drop(plexer.spawn());

        let answer = handshake::N2CClient::new(hands).handshake(VersionTable::v10_and_above(magic)).await;
        match answer {
            Ok(Confirmation::Accepted(..)) => {
                Ok(Self { state: localstate::Client::new(state), chain: chainsync::N2CClient::new(chain), meter })
            }
            Ok(Confirmation::Rejected(reason)) => Err(ChainError::Unreachable {
                whom: socket.display().to_string(),
                why: format!("it refuses a client of the network with magic {magic}: {reason:?}"),
            }),
            Ok(Confirmation::QueryReply(_)) => Err(ChainError::Answer {
                whom: socket.display().to_string(),
                why: "it answers a handshake with a list of versions".to_owned(),
            }),
            Err(error) => Err(broken(socket, &meter, &error)),
        }
    }
}

/// What a broken conversation means: a node that says too much, or one that cannot be understood.
pub(super) fn broken(socket: &Path, meter: &Meter, error: &dyn std::error::Error) -> ChainError {
    let why = if meter.is_spent() {
        "it is longer than any answer may be".to_owned()
    } else {
        // Causes are only in what the library prints for debugging; a payload may be among them.
        format!("{error} ({error:?})").chars().take(WHY_CHARS_MAX).collect()
    };
    ChainError::Answer { whom: socket.display().to_string(), why }
}

/// Moves bytes until either end closes or the meter has run out; both halves close then.
async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, meter: Option<Arc<Meter>>) {
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    while from.readable().await.is_ok() {
        match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if meter.as_ref().is_some_and(|meter| !meter.take(length)) {
                    return;
                }
                let Some(bytes) = buffer.get(..length) else { return };
                if write_all(&to, bytes).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn write_all(to: &OwnedWriteHalf, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
