//! Where a signer calls.

use super::{
    Family, MESSAGE_DEADLINE,
    remote::{Remote, RemoteError},
    socket::Socket,
};
use ed25519_dalek::SigningKey;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    fmt,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A unix socket at this path; a file that is there is replaced, as a node does it.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// How a listener behaves.
pub struct ListenerConfig {
    /// Where.
    pub listen: Listen,
    /// The chain that requests are for.
    pub chain: String,
    /// Which protocol.
    pub family: Family,
    /// Whether precommits are asked for with extensions; only with [`Family::V038`].
    pub extensions: bool,
    /// Seed of the node's identity in the SecretConnection.
    pub identity: [u8; 32],
}

/// No signer was accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Nobody called in time.
    #[error("no signer called in time")]
    TimedOut,
    /// The socket failed.
    #[error("the listening socket failed")]
    Socket(#[source] std::io::Error),
    /// Somebody called and did not get through the handshake.
    #[error("the handshake failed")]
    Handshake(#[source] RemoteError),
}

#[derive(Debug)]
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A listening socket; accepts one signer after another.
pub struct Listener {
    door: Door,
    address: Listen,
    chain: String,
    family: Family,
    extensions: bool,
    identity: SigningKey,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({}, {})", self.address, self.family)
    }
}

impl Listener {
    /// Opens the socket.
    pub fn bind(config: ListenerConfig) -> std::io::Result<Self> {
        let (door, address) = match config.listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = Listen::Tcp(listener.local_addr()?);
                (Door::Tcp(listener), address)
            }
            Listen::Unix(path) => {
                if let Err(error) = std::fs::remove_file(&path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    return Err(error);
                }
                let listener = UnixListener::bind(&path)?;
                listener.set_nonblocking(true)?;
                (Door::Unix(listener, path.clone()), Listen::Unix(path))
            }
        };
        let identity = SigningKey::from_bytes(&config.identity);
        let extensions = config.extensions && config.family == Family::V038;
        Ok(Self { door, address, chain: config.chain, family: config.family, extensions, identity })
    }

    /// Where it listens, with the port it got: `tcp://127.0.0.1:40001`, `unix:///run/signer.sock`.
    pub const fn address(&self) -> &Listen {
        &self.address
    }

    /// Which protocol it speaks.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Waits for a signer and shakes hands with it.
    pub fn accept(&self, timeout: Duration) -> Result<Remote, AcceptError> {
        let socket = self.accept_socket(timeout)?;
        self.greet(socket).map_err(AcceptError::Handshake)
    }

    /// Waits for a connection, without a word said on it.
    pub fn accept_socket(&self, timeout: Duration) -> Result<Socket, AcceptError> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let accepted = match &self.door {
                Door::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::Tcp(stream)),
                Door::Unix(listener, _) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
            };
            match accepted {
                Ok(socket) => return Ok(socket),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // A caller that gave up before it was accepted.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(AcceptError::Socket(error)),
            }
            let left = deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(AcceptError::TimedOut);
            }
            self.wait(left).map_err(|errno| AcceptError::Socket(errno.into()))?;
        }
    }

    /// Shakes hands on a connection from [`accept_socket`](Self::accept_socket).
    pub fn greet(&self, socket: Socket) -> Result<Remote, RemoteError> {
        socket.prepare(MESSAGE_DEADLINE)?;
        Remote::greet(socket, &self.chain, self.family, self.extensions, &self.identity)
    }

    fn wait(&self, left: Duration) -> Result<(), Errno> {
        let mut ready = [match &self.door {
            Door::Tcp(listener) => PollFd::new(listener, PollFlags::IN),
            Door::Unix(listener, _) => PollFd::new(listener, PollFlags::IN),
        }];
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut ready, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Door::Unix(_, path) = &self.door {
            let _already_gone = std::fs::remove_file(path);
        }
    }
}
