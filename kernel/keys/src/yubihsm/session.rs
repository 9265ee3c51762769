//! The session with a device, and the keys behind it.

use super::{Client, HsmError, HsmErrorKind, Open, Place};
use crate::device::{Device, DeviceError, DeviceKey, SESSION_REOPENS, Worker, made, verified};
use metrics::{Counter, counter};
use semel_guard::{Algorithm, PublicKey, Signature};
use sha2::{Digest as _, Sha256};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use yubihsm::asymmetric;

/// A session ends after 30 s in which nothing was asked: it is asked something this often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Time from one attempt to open a session to the next, and between two looks whether it is open.
const REOPEN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// How long one request may take with its time in the queue. A node gives up after 5 s.
const DEADLINE: Duration = Duration::from_secs(4);

/// What a key is configured to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519.
    Consensus,
    /// secp256k1.
    Account,
}

/// A key of the device, by its number and as it is known outside.
type KnownKey = (u16, PublicKey);

/// Every device that this process uses. Keep one of it: who asks for the same place gets the same session.
#[derive(Default)]
pub struct YubiHsms(Vec<Shared>);

struct Shared {
    place: Place,
    worker: Worker,
    keys: Arc<Mutex<Vec<KnownKey>>>,
    /// A session of its own for questions at the start, dropped with the start.
    client: Open,
    serial: String,
}

impl YubiHsms {
    /// A key of a device. Opens the device if this process does not use it yet.
    pub fn key(&mut self, place: &Place, id: u16, kind: KeyKind, serial: Option<u32>) -> Result<DeviceKey, HsmError> {
        let at = match self.0.iter().position(|shared| shared.place == *place) {
            Some(at) => at,
            None => {
                self.0.push(Shared::open(place)?);
                self.0.len() - 1
            }
        };
        let Some(shared) = self.0.get_mut(at) else { return Err(place.error(HsmErrorKind::NoKey(id))) };
        right_device(&shared.serial, place, serial)?;
        let public_key = match public_key(&shared.client, place, id, kind) {
            // The session that was open at the start has ended meanwhile.
            Err(error) if error.kind.is_passing() => {
                shared.client = place.open(false)?;
                public_key(&shared.client, place, id, kind)?
            }
            other => other?,
        };
        let mut keys = shared.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.iter().any(|(known, _)| *known == id) {
            keys.push((id, public_key.clone()));
        }
        Ok(shared.worker.key(public_key))
    }

    /// How many devices are open.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A device that is looked at before a start, by the rules of a start.
pub struct Looked {
    place: Place,
    client: Open,
}

impl Looked {
    /// Opens the device, which must be the one of the configuration.
    pub fn open(place: &Place, serial: Option<u32>) -> Result<Self, HsmError> {
        let client = place.open(false)?;
        right_device(&serial_of(&client, place)?, place, serial)?;
        Ok(Self { place: place.clone(), client })
    }

    /// Whether the device holds this key, and it is of the configured kind.
    pub fn key(&self, id: u16, kind: KeyKind) -> Result<PublicKey, HsmError> {
        public_key(&self.client, &self.place, id, kind)
    }
}

impl Shared {
    fn open(place: &Place) -> Result<Self, HsmError> {
        let client = place.open(false)?;
        let serial = serial_of(&client, place)?;
        let keys = Arc::default();
        let session = Session {
            place: place.clone(),
            keys: Arc::clone(&keys),
            serial: serial.clone(),
            state: State::Open(client.clone()),
            used: Instant::now(),
            reopens: made(counter!(SESSION_REOPENS, "provider" => "yubihsm")),
        };
        let worker = Worker::start("yubihsm", session, DEADLINE)
            .map_err(|error| place.error(HsmErrorKind::Device(error.to_string())))?;
        Ok(Self { place: place.clone(), worker, keys, client, serial })
    }
}

fn serial_of(client: &Client, place: &Place) -> Result<String, HsmError> {
    client.device_info().map(|info| info.serial_number.to_string()).map_err(|error| place.failed(&error))
}

/// Whether this is the device of the configuration.
fn right_device(found: &str, place: &Place, wanted: Option<u32>) -> Result<(), HsmError> {
    match wanted {
        Some(wanted) if found.trim_start_matches('0') != wanted.to_string() => {
            let (found, wanted) = (found.into(), format!("{wanted:010}"));
            Err(place.error(HsmErrorKind::Serial { found, wanted }))
        }
        _ => Ok(()),
    }
}

/// The public half of a key, which must be of the configured kind.
fn public_key(client: &Client, place: &Place, id: u16, kind: KeyKind) -> Result<PublicKey, HsmError> {
    use yubihsm::device::ErrorKind as Device;
    let found = client.get_public_key(id).map_err(|error| match error.device_error() {
        Some(Device::ObjectNotFound | Device::InvalidId) => place.error(HsmErrorKind::NoKey(id)),
        _ => place.failed(&error),
    })?;
    let wrong = |wanted| {
        let found = match found.algorithm {
            asymmetric::Algorithm::Ed25519 => "an Ed25519 key".into(),
            asymmetric::Algorithm::EcK256 => "a secp256k1 key".into(),
            other => format!("a key for {other:?}"),
        };
        place.error(HsmErrorKind::KeyType { id, found, wanted })
    };
    let made = match (kind, found.algorithm) {
        (KeyKind::Consensus, asymmetric::Algorithm::Ed25519) => PublicKey::new(Algorithm::Ed25519, &found.bytes),
        (KeyKind::Account, asymmetric::Algorithm::EcK256) => {
            // The device gives both coordinates, 64 bytes; the field wants 33.
            let bytes = [&[4], found.bytes.as_slice()].concat();
            let point = k256::PublicKey::from_sec1_bytes(&bytes)
                .map_err(|error| place.error(HsmErrorKind::Device(error.to_string())))?;
            PublicKey::new(Algorithm::Secp256k1, &point.to_sec1_bytes())
        }
        (KeyKind::Consensus, _) => return Err(wrong("a consensus (Ed25519) key")),
        (KeyKind::Account, _) => return Err(wrong("an account (secp256k1) key")),
    };
    made.map_err(|error| place.error(HsmErrorKind::Device(error.to_string())))
}

enum State {
    Open(Open),
    /// A thread is opening it; what it says comes here.
    Opening(Receiver<Result<Open, HsmError>>),
    /// Not open, since then, because of this.
    Closed(Instant, HsmError),
}

/// The device, as its thread sees it.
struct Session {
    place: Place,
    keys: Arc<Mutex<Vec<KnownKey>>>,
    serial: String,
    state: State,
    /// When the device was asked something last.
    used: Instant,
    reopens: Counter,
}

impl Session {
    /// Opens the device again, and makes sure that it is the one that was there.
    fn reopen(place: &Place, keys: &[KnownKey], serial: &str) -> Result<Open, HsmError> {
        let client = place.open(false)?;
        let found = serial_of(&client, place)?;
        if found != serial {
            return Err(place.error(HsmErrorKind::Serial { found, wanted: serial.into() }));
        }
        for (id, known) in keys {
            let kind = match known.algorithm() {
                Algorithm::Ed25519 => KeyKind::Consensus,
                _ => KeyKind::Account,
            };
            match public_key(&client, place, *id, kind) {
                Ok(key) if key == *known => {}
                Ok(_) => return Err(place.error(HsmErrorKind::Replaced(*id))),
                Err(HsmError { kind: HsmErrorKind::NoKey(_) | HsmErrorKind::KeyType { .. }, .. }) => {
                    return Err(place.error(HsmErrorKind::Replaced(*id)));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(client)
    }

    fn begin_to_open(&mut self) {
        let (said, heard) = sync_channel(1);
        let (place, serial) = (self.place.clone(), self.serial.clone());
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let since = State::Closed(Instant::now(), self.place.error(HsmErrorKind::Device("it is being opened".into())));
        let before = std::mem::replace(&mut self.state, since);
        let opening = thread::Builder::new().name("yubihsm-open".into()).spawn(move || {
            // What is left of the one before is closed first, here, where nobody waits for it.
            drop(before);
            // The device's thread may have ended meanwhile.
            let _heard = said.send(Self::reopen(&place, &keys, &serial));
        });
        self.state = match opening {
            Ok(_) => State::Opening(heard),
            Err(error) => State::Closed(Instant::now(), self.place.error(HsmErrorKind::Device(error.to_string()))),
        };
    }

    /// Takes in what the opening thread says, if it has said it.
    fn look(&mut self) {
        if let State::Opening(heard) = &self.state {
            self.state = match heard.try_recv() {
                Ok(Ok(client)) => {
                    tracing::info!("YubiHSM at {}: the session is open again", self.place.adapter);
                    self.reopens.increment(1);
                    self.used = Instant::now();
                    State::Open(client)
                }
                Ok(Err(error)) => State::Closed(Instant::now(), error),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    State::Closed(Instant::now(), self.place.error(HsmErrorKind::Device("opening it failed".into())))
                }
            };
        }
    }

    fn broke(&mut self, error: &HsmError) {
        tracing::error!("{error}; the session is opened again");
        self.begin_to_open();
    }
}

impl Device for Session {
    fn sign(&mut self, key: &PublicKey, message: &[u8]) -> Result<Signature, DeviceError> {
        self.look();
        let client = match &self.state {
            State::Open(client) => client.clone(),
            State::Opening(_) => {
                return Err(DeviceError::Failed("the session with the YubiHSM is being opened again".into()));
            }
            State::Closed(_, error) => return Err(DeviceError::Failed(error.to_string())),
        };
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let id = keys.iter().find(|(_, known)| known == key).map(|(id, _)| *id);
        drop(keys);
        let Some(id) = id else { return Err(DeviceError::Failed("the YubiHSM does not hold this key".into())) };
        self.used = Instant::now();
        let signed = match key.algorithm() {
            Algorithm::Ed25519 => client.sign_ed25519(id, message).map(|signature| signature.to_bytes().to_vec()),
            _ => client.sign_ecdsa_prehash_raw(id, Sha256::digest(message).to_vec()),
        };
        match signed {
            Ok(bytes) => verified(key, message, &bytes).ok_or_else(|| {
                let error = self.place.error(HsmErrorKind::BadSignature(id));
                tracing::error!("{error}");
                DeviceError::Failed(error.to_string())
            }),
            Err(error) => {
                let is_alive = error.device_error().is_some();
                let error = self.place.failed(&error);
                // What the device itself answers does not end the session.
                if !is_alive {
                    self.broke(&error);
                }
                Err(DeviceError::Failed(error.to_string()))
            }
        }
    }

    fn rest(&mut self) -> Option<Duration> {
        self.look();
        match &self.state {
            State::Open(client) => {
                let left = KEEP_ALIVE.saturating_sub(self.used.elapsed());
                if !left.is_zero() {
                    return Some(left);
                }
                self.used = Instant::now();
                if let Err(error) = client.ping() {
                    let error = self.place.failed(&error);
                    self.broke(&error);
                    return Some(LOOK);
                }
                Some(KEEP_ALIVE)
            }
            State::Opening(_) => Some(LOOK),
            State::Closed(since, error) => {
                let (since, is_passing) = (*since, error.kind.is_passing());
                if since.elapsed() < REOPEN {
                    return Some(LOOK);
                }
                if !is_passing {
                    tracing::error!("{error}; {}", error.hint());
                }
                self.begin_to_open();
                Some(LOOK)
            }
        }
    }
}
