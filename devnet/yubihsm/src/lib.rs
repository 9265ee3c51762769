//! A `yubihsm-connector` with the `yubihsm` crate's mock device behind it.
//!
//! The connector's HTTP is real, and so is the encrypted session; the device keeps its objects in memory and does not hold anybody to the
//! capabilities of his key. A relay in front of it makes it as slow as a device (one command at a time), and as unreliable as a test wants.
//!
//! ```text
//! signer ── HTTP ── relay (delay, faults) ── HTTP ── the crate's server ── mock device
//! ```

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use yubihsm::connector::http::Server;
use yubihsm::{Capability, Client, Connector, Credentials, Domain, HttpConfig, asymmetric, object};

/// Longest body of a request or reply, in bytes. A device takes 2 KiB.
const BODY_MAX: usize = 16 * 1024;

/// Longest head of a request or reply, in lines.
const LINES_MAX: usize = 64;

/// Numbers of the commands that open a session, and that say something in one.
const CREATE_SESSION: u8 = 0x03;
const SESSION_MESSAGE: u8 = 0x05;

/// What is added to the number of a command that succeeded.
const DONE: u8 = 0x80;

/// Sessions that a device has at a time.
const SESSIONS_MAX: u8 = 16;

/// Longest message of a session that can be the one that ends it, and longest answer to that: number and length, session, one block of
/// the cipher, and eight bytes that authenticate them.
const BRIEF_MAX: usize = 3 + 1 + 16 + 8;

/// The password of authentication key 1 of a new device.
pub const PASSWORD: &str = "password";

/// The serial number of the mock device.
pub const SERIAL: &str = "0123456789";

/// A key to put into the device.
#[derive(Debug, Clone)]
pub struct PutKey {
    /// Its number.
    pub id: u16,
    /// What kind of key it is.
    pub kind: Kind,
    /// Its 32 secret bytes; None: a new key.
    pub secret: Option<[u8; 32]>,
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ed25519.
    Ed25519,
    /// secp256k1.
    Secp256k1,
}

/// What the relay does to what passes through it.
#[derive(Debug, Default)]
struct Manner {
    delay_ms: AtomicU64,
    /// Every connection is closed unanswered.
    gone: AtomicBool,
    /// No session can be opened: the table is full.
    full: AtomicBool,
    sessions: AtomicUsize,
    commands: AtomicUsize,
    table: Mutex<Table>,
}

/// The sessions of the device, as far as they can be told from outside.
///
/// A session counts as ended after a brief command with a brief answer, and as open again after any other: the command that ends it
/// is brief, and so is what Semel asks last only where it failed.
#[derive(Debug, Default)]
struct Table(BTreeSet<u8>);

impl Table {
    /// Whether the mock has no number for another session: it takes the one after the highest.
    fn is_full(&self) -> bool {
        self.0.last().is_some_and(|last| last + 1 >= SESSIONS_MAX)
    }

    /// Takes in what was asked and answered.
    fn heard(&mut self, asked: &[u8], answered: &[u8]) {
        let (Some(command), Some(done), Some(session)) = (asked.first(), answered.first(), answered.get(3)) else {
            return;
        };
        match *command {
            CREATE_SESSION if *done == CREATE_SESSION + DONE => {
                // Higher ones have ended, or this would not be the highest.
                self.0.split_off(session);
                self.0.insert(*session);
            }
            SESSION_MESSAGE if *done == SESSION_MESSAGE + DONE => {
                if asked.len() <= BRIEF_MAX && answered.len() <= BRIEF_MAX {
                    self.0.remove(session);
                } else {
                    self.0.insert(*session);
                }
            }
            _ => {}
        }
    }
}

/// A running connector. Ends with the process, or is out of reach with [`Self::set_gone`].
pub struct FakeConnector {
    address: SocketAddr,
    manner: Arc<Manner>,
    backend: Arc<Mutex<u16>>,
    client: Mutex<Client>,
}

/// A server with a new mock device, on a port of its own.
fn device(keys: &[PutKey]) -> io::Result<(u16, Client)> {
    let other = |error: String| io::Error::other(error);
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let config = HttpConfig { addr: "127.0.0.1".into(), port, timeout_ms: 5000 };
    let connector = Connector::mockhsm();
    let server = Server::new(&config, connector.clone()).map_err(|error| other(error.to_string()))?;
    thread::Builder::new().name("mock-device".into()).spawn(move || {
        loop {
            // A command that the mock does not know makes it panic; the caller finds a closed connection.
            let _answered = catch_unwind(AssertUnwindSafe(|| server.handle_request()));
        }
    })?;
    let credentials = Credentials::from_password(1, PASSWORD.as_bytes());
    let client = Client::open(connector, credentials, true).map_err(|error| other(error.to_string()))?;
    for key in keys {
        put(&client, key)?;
    }
    Ok((port, client))
}

fn put(client: &Client, key: &PutKey) -> io::Result<()> {
    let (algorithm, capability) = match key.kind {
        Kind::Ed25519 => (asymmetric::Algorithm::Ed25519, Capability::SIGN_EDDSA),
        Kind::Secp256k1 => (asymmetric::Algorithm::EcK256, Capability::SIGN_ECDSA),
    };
    let capabilities = capability | Capability::EXPORTABLE_UNDER_WRAP;
    let label = object::Label::from(format!("test:{}", key.id).as_str());
    let done = match key.secret {
        Some(secret) => client.put_asymmetric_key(key.id, label, Domain::DOM1, capabilities, algorithm, secret),
        None => client.generate_asymmetric_key(key.id, label, Domain::DOM1, capabilities, algorithm),
    };
    done.map(drop).map_err(|error| io::Error::other(error.to_string()))
}

impl FakeConnector {
    /// A connector at an address (port 0: any), with a device that holds these keys and has the default authentication key.
    pub fn start(listen: SocketAddr, keys: &[PutKey]) -> io::Result<Self> {
        let (port, client) = device(keys)?;
        let listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?;
        let (manner, backend) = (Arc::new(Manner::default()), Arc::new(Mutex::new(port)));
        let (mine, behind) = (Arc::clone(&manner), Arc::clone(&backend));
        // One command at a time, as a device does.
        let turn = Arc::new(Mutex::new(()));
        thread::Builder::new().name("connector".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let (manner, behind, turn) = (Arc::clone(&mine), Arc::clone(&behind), Arc::clone(&turn));
                let relayed = thread::Builder::new().name("relay".into()).spawn(move || {
                    // A client that goes away is no error.
                    let _ended = relay(&stream, &manner, &behind, &turn);
                });
                drop(relayed);
            }
        })?;
        Ok(Self { address, manner, backend, client: Mutex::new(client) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Each command takes this long from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.manner.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Out of reach, or back.
    pub fn set_gone(&self, gone: bool) {
        self.manner.gone.store(gone, Ordering::SeqCst);
    }

    /// All sixteen sessions are taken, or are not.
    pub fn set_full(&self, full: bool) {
        self.manner.full.store(full, Ordering::SeqCst);
    }

    /// Puts another device in the place of this one. Sessions end.
    pub fn replace(&self, keys: &[PutKey]) -> io::Result<()> {
        let (port, client) = device(keys)?;
        *self.backend.lock().unwrap_or_else(PoisonError::into_inner) = port;
        *self.manner.table.lock().unwrap_or_else(PoisonError::into_inner) = Table::default();
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    /// Puts one more key into the device.
    pub fn put(&self, key: &PutKey) -> io::Result<()> {
        put(&self.client.lock().unwrap_or_else(PoisonError::into_inner), key)
    }

    /// How many sessions were opened.
    pub fn sessions(&self) -> usize {
        self.manner.sessions.load(Ordering::SeqCst)
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.manner.table.lock().unwrap_or_else(PoisonError::into_inner).0.len()
    }

    /// How many commands were sent.
    pub fn commands(&self) -> usize {
        self.manner.commands.load(Ordering::SeqCst)
    }
}

/// Relays one connection until it ends.
fn relay(client: &TcpStream, manner: &Manner, backend: &Mutex<u16>, turn: &Mutex<()>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    loop {
        let Some((head, body)) = message(&mut reader)? else { return Ok(()) };
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if manner.gone.load(Ordering::SeqCst) {
            return Ok(());
        }
        let opens = body.first() == Some(&CREATE_SESSION);
        manner.commands.fetch_add(usize::from(!body.is_empty()), Ordering::SeqCst);
        let table = || manner.table.lock().unwrap_or_else(PoisonError::into_inner);
        if opens && (manner.full.load(Ordering::SeqCst) || table().is_full()) {
            // The device's word for it: an error message with code 5.
            let mut client = client;
            client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x7f\x00\x01\x05")?;
            continue;
        }
        manner.sessions.fetch_add(usize::from(opens), Ordering::SeqCst);
        if !body.is_empty() {
            thread::sleep(Duration::from_millis(manner.delay_ms.load(Ordering::SeqCst)));
        }
        let port = *backend.lock().unwrap_or_else(PoisonError::into_inner);
        let mut behind = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        behind.write_all(&head)?;
        behind.write_all(&body)?;
        let Some((head, answer)) = message(&mut BufReader::new(behind))? else { return Ok(()) };
        table().heard(&body, &answer);
        let mut client = client;
        client.write_all(&[head, answer].concat())?;
    }
}

/// One HTTP message: its head with the empty line, and its body. None at the end of the connection.
fn message(reader: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut head = Vec::new();
    let mut length = 0;
    for _ in 0..LINES_MAX {
        let start = head.len();
        if reader.by_ref().take(BODY_MAX as u64).read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(head.get(start..).unwrap_or_default()).trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            let mut body = vec![0; usize::min(length, BODY_MAX)];
            reader.read_exact(&mut body)?;
            return Ok(Some((head, body)));
        }
    }
    Err(io::Error::other("a head without an end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_is_answered_with_an_error_and_breaks_nothing() {
        let hsm = FakeConnector::start((Ipv4Addr::LOCALHOST, 0).into(), &[]).unwrap();
        let config = HttpConfig { addr: "127.0.0.1".into(), port: hsm.address().port(), timeout_ms: 5000 };
        let open = || {
            let credentials = Credentials::from_password(1, PASSWORD.as_bytes());
            Client::open(Connector::http(&config), credentials, false)
        };
        let opened: Vec<Client> = std::iter::from_fn(|| open().ok()).take(20).collect();
        assert_eq!((opened.len(), hsm.open_sessions()), (15, 15), "the device's own is the sixteenth");
        for _ in 0..3 {
            let error = open().err().unwrap();
            assert_eq!(error.device_error(), Some(yubihsm::device::ErrorKind::SessionsFull), "{error}");
        }
        opened.first().unwrap().ping().unwrap();
    }
}
