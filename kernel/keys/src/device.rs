//! Keys in devices that block: a hardware module, a smart card, a service behind a driver.
//!
//! One thread per device asks it one thing at a time, because that is how such devices work. Callers wait on a bounded queue,
//! each until its own deadline, so a device that hangs costs its own keys their signatures and delays nobody else's.
//!
//! ```text
//! Key ── DeviceKey::sign ── queue, QUEUE_MAX places ── thread ── Device::sign
//!            ↑ waits at most until its deadline           └ passes over what nobody waits for any more
//! ```
//!
//! A driver that panics, or that says the device is gone, ends its thread; every later request is answered with that at once.
//! (Where a build aborts on panics, the process ends instead; nothing is signed either way.)

use metrics::{Counter, counter};
use semel_guard::{Admitted, Algorithm, PublicKey, SignError, Signature, Signer};
use sha2::{Digest as _, Sha256};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

/// Requests that wait for one device, at most. A slow device takes 150 ms per signature: what comes later would be too late.
pub const QUEUE_MAX: usize = 16;

/// How long a request waits for its signature, unless told otherwise. A node gives up after 5 s.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(4);

/// Longest time that a request may be told to wait.
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// Longest name of a thread that the kernel shows.
const THREAD_NAME_MAX: usize = 15;

/// What a device says instead of a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// This request failed; the next may succeed.
    #[error("{0}")]
    Failed(String),
    /// The device will never answer again.
    #[error("{0}")]
    Gone(String),
}

/// A device that holds keys. May block; is never asked two things at once.
pub trait Device: Send + 'static {
    /// Signs exactly these bytes with one of its keys.
    fn sign(&mut self, key: &PublicKey, message: &[u8]) -> Result<Signature, DeviceError>;

    /// Called while nobody asks: keeps a session alive, opens a broken one. Returns how long it wants to be left alone if nobody
    /// asks; None: until somebody does. Whatever it does delays the next request by as much.
    fn rest(&mut self) -> Option<Duration> {
        None
    }
}

struct Request {
    key: PublicKey,
    message: Box<[u8]>,
    deadline: Instant,
    answer: SyncSender<Result<Signature, String>>,
}

/// What a device signed, if it belongs to the key: a fault of the device or of the way to it never leaves. An ECDSA signature comes as
/// r ‖ s or as ASN.1, and leaves as r ‖ s with s in its lower half.
pub(crate) fn verified(key: &PublicKey, message: &[u8], bytes: &[u8]) -> Option<Signature> {
    match key.algorithm() {
        Algorithm::Ed25519 => {
            use ed25519_dalek::Verifier as _;
            let public = ed25519_dalek::VerifyingKey::from_bytes(key.as_bytes().try_into().ok()?).ok()?;
            let signature = ed25519_dalek::Signature::from_slice(bytes).ok()?;
            public.verify(message, &signature).ok()?;
            Signature::new(&signature.to_bytes()).ok()
        }
        Algorithm::Secp256k1 => {
            use k256::ecdsa::signature::hazmat::PrehashVerifier as _;
            let public = k256::ecdsa::VerifyingKey::from_sec1_bytes(key.as_bytes()).ok()?;
            let bare = k256::ecdsa::Signature::from_slice(bytes);
            let signature = bare.or_else(|_| k256::ecdsa::Signature::from_der(bytes)).ok()?;
            let signature = signature.normalize_s().unwrap_or(signature);
            public.verify_prehash(&Sha256::digest(message), &signature).ok()?;
            Signature::new(&signature.to_bytes()).ok()
        }
        _ => None,
    }
}

/// Counter of requests that got no signature, by `provider` and `reason`: `failed`, `gone`, `timeout`, `busy`.
pub const DEVICE_ERRORS: &str = "semel_device_errors_total";

/// Counter of sessions that were opened again, by `provider`. Whoever drives a device with sessions counts it.
pub const SESSION_REOPENS: &str = "semel_device_session_reopens_total";

/// A counter that is there before it counts: an alert needs a zero to rise from.
pub(crate) fn made(counter: Counter) -> Counter {
    counter.increment(0);
    counter
}

/// Counters, made once.
struct Errors {
    failed: Counter,
    gone: Counter,
    timeout: Counter,
    busy: Counter,
}

impl Errors {
    fn of(provider: &str) -> Self {
        let counter =
            |reason: &'static str| made(counter!(DEVICE_ERRORS, "provider" => provider.to_owned(), "reason" => reason));
        Self { failed: counter("failed"), gone: counter("gone"), timeout: counter("timeout"), busy: counter("busy") }
    }
}

/// A device and the thread that asks it. Clones are the same; with the last of them and of its keys the thread ends.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    provider: String,
    deadline: Duration,
    /// None while it is dropped.
    queue: Option<SyncSender<Request>>,
    /// Why the device never answers again.
    gone: Arc<OnceLock<String>>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected once the thread has let go of the device.
    ended: Mutex<Receiver<()>>,
    errors: Errors,
}

impl Worker {
    /// Gives the device a thread. `provider` is its name in logs and metrics; `deadline` is what each request may take, with its
    /// time in the queue; at most [`DEADLINE_MAX`].
    pub fn start(provider: &str, device: impl Device, deadline: Duration) -> io::Result<Self> {
        let deadline = deadline.min(DEADLINE_MAX);
        let (queue, requests) = sync_channel(QUEUE_MAX);
        let (ending, ended) = sync_channel(0);
        let gone = Arc::new(OnceLock::new());
        let why = Arc::clone(&gone);
        let name = provider.chars().filter(char::is_ascii_graphic).take(THREAD_NAME_MAX).collect();
        let thread = thread::Builder::new().name(name).spawn(move || {
            // Dropped last, also when dropping the device panics.
            let _ending: SyncSender<()> = ending;
            serve(device, &requests, &why);
        })?;
        let (thread, ended) = (Some(thread), Mutex::new(ended));
        let errors = Errors::of(provider);
        let (provider, queue) = (provider.into(), Some(queue));
        Ok(Self(Arc::new(Inner { provider, deadline, queue, gone, thread, ended, errors })))
    }

    /// One of the device's keys.
    pub fn key(&self, public_key: PublicKey) -> DeviceKey {
        DeviceKey { worker: self.clone(), public_key }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({}, gone: {:?})", self.0.provider, self.0.gone.get())
    }
}

/// Asks the device until the last handle is dropped, or the device is gone.
fn serve(mut device: impl Device, requests: &Receiver<Request>, gone: &OnceLock<String>) {
    while let Some(Request { key, message, deadline, answer }) = next_request(&mut device, requests, gone) {
        // Who asked has given up: the time belongs to the next.
        if Instant::now() >= deadline {
            continue;
        }
        // After a panic the device is not asked again, so what it left half done is never seen.
        let signed = catch_unwind(AssertUnwindSafe(|| device.sign(&key, &message)));
        let said = match signed {
            Ok(Ok(signature)) => Ok(signature),
            Ok(Err(DeviceError::Failed(why))) => Err(why),
            Ok(Err(DeviceError::Gone(why))) => Err(gone.get_or_init(|| format!("the device is gone: {why}")).clone()),
            Err(_) => Err(gone.get_or_init(|| "the device's driver panicked".into()).clone()),
        };
        // Who asked may have given up meanwhile.
        let _heard = answer.try_send(said);
        if gone.get().is_some() {
            return;
        }
    }
}

/// The next request, and what the device does until it comes. None: no handle is left, or the device panicked.
fn next_request(device: &mut impl Device, requests: &Receiver<Request>, gone: &OnceLock<String>) -> Option<Request> {
    loop {
        let Ok(pause) = catch_unwind(AssertUnwindSafe(|| device.rest())) else {
            gone.get_or_init(|| "the device's driver panicked".into());
            return None;
        };
        let Some(pause) = pause else { return requests.recv().ok() };
        match requests.recv_timeout(pause) {
            Ok(request) => return Some(request),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

impl Inner {
    fn sign(&self, key: &PublicKey, message: &[u8]) -> Result<Signature, String> {
        let gone = || {
            self.errors.gone.increment(1);
            self.gone.get().cloned().unwrap_or_else(|| "the device's thread has ended".into())
        };
        if self.gone.get().is_some() {
            return Err(gone());
        }
        let (answer, answered) = sync_channel(1);
        let deadline = Instant::now() + self.deadline;
        let request = Request { key: key.clone(), message: message.into(), deadline, answer };
        let Some(queue) = &self.queue else { return Err(gone()) };
        match queue.try_send(request) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.errors.busy.increment(1);
                return Err(format!("the device is busy: {QUEUE_MAX} requests wait for it"));
            }
            Err(TrySendError::Disconnected(_)) => return Err(gone()),
        }
        match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(signature)) => Ok(signature),
            Ok(Err(why)) => {
                let counter = if self.gone.get().is_some() { &self.errors.gone } else { &self.errors.failed };
                counter.increment(1);
                Err(why)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.errors.timeout.increment(1);
                Err(format!("the device did not answer within {:?}", self.deadline))
            }
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.queue.take());
        // A device that hangs must not hang the one that lets go of it: its thread ends when the device answers.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(self.deadline);
        if let (Err(RecvTimeoutError::Disconnected), Some(thread)) = (ended, self.thread.take()) {
            let _panicked = thread.join();
        }
    }
}

/// A key of a device, as a backend for [`semel_guard::Key`].
#[derive(Debug, Clone)]
pub struct DeviceKey {
    worker: Worker,
    public_key: PublicKey,
}

impl Signer for DeviceKey {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn provider(&self) -> &str {
        &self.worker.0.provider
    }

    fn sign(&self, message: Admitted<'_>) -> Result<Signature, SignError> {
        let failed = |reason| SignError { provider: self.provider().into(), reason };
        self.worker.0.sign(&self.public_key, message.bytes()).map_err(failed)
    }
}
