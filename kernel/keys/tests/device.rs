//! Devices that are slow, fail, panic, die or hang: what the one who asked is told, and that nobody else waits.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use semel_guard::{Algorithm, Benign, ChainId, Digest, Key, PublicKey, SignError, Signature};
use semel_keys::device::{DEADLINE_MAX, Device, DeviceError, QUEUE_MAX, Worker};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

/// Longer than any test here takes: whoever waits for it waits for ever.
const LONG: Duration = DEADLINE_MAX;

/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(200);

/// What a device does with a request.
enum Act {
    Sign,
    Fail,
    Die,
    Panic,
}

/// Tells what it is asked, then waits to be told what to do.
struct Scripted {
    asked: Sender<(PublicKey, Vec<u8>)>,
    acts: Receiver<Act>,
    _dropped: Sender<()>,
}

impl Device for Scripted {
    fn sign(&mut self, key: &PublicKey, message: &[u8]) -> Result<Signature, DeviceError> {
        self.asked.send((key.clone(), message.to_vec())).unwrap();
        match self.acts.recv().unwrap() {
            Act::Sign => Ok(signature_of(key, message)),
            Act::Fail => Err(DeviceError::Failed("the slot is empty".into())),
            Act::Die => Err(DeviceError::Gone("unplugged".into())),
            Act::Panic => panic!("a driver with a defect"),
        }
    }
}

fn signature_of(key: &PublicKey, message: &[u8]) -> Signature {
    Signature::new(&Digest::of(&[key.as_bytes(), message].concat()).0).unwrap()
}

fn public_key(n: u8) -> PublicKey {
    PublicKey::new(Algorithm::Ed25519, &[n; 32]).unwrap()
}

/// A device under test, seen from the other side.
struct Bench {
    worker: Worker,
    asked: Receiver<(PublicKey, Vec<u8>)>,
    acts: Sender<Act>,
    /// Disconnected once the device is dropped.
    dropped: Receiver<()>,
}

impl Bench {
    fn new(deadline: Duration) -> Self {
        let ((asked_tx, asked), (acts, acts_rx), (dropped_tx, dropped)) = (channel(), channel(), channel());
        let device = Scripted { asked: asked_tx, acts: acts_rx, _dropped: dropped_tx };
        Self { worker: Worker::start("scripted", device, deadline).unwrap(), asked, acts, dropped }
    }

    fn key(&self, n: u8) -> Key {
        Key::new(Box::new(self.worker.key(public_key(n))))
    }

    /// Asks from another thread and returns once the device has the request.
    fn ask_in_background(&self, n: u8, height: i64) -> thread::JoinHandle<Result<Signature, SignError>> {
        let key = self.key(n);
        let asking = thread::spawn(move || ask(&key, height));
        assert_eq!(self.asked.recv_timeout(LONG).unwrap(), (public_key(n), message(height)));
        asking
    }
}

fn benign<T>(height: i64, then: impl FnOnce(&Benign<'_>) -> T) -> T {
    let chain = ChainId::new("test-1").unwrap();
    then(&Benign::VoteExtension { chain: &chain, height, round: 0, extension: b"x" })
}

fn message(height: i64) -> Vec<u8> {
    benign(height, |message| message.bytes())
}

fn ask(key: &Key, height: i64) -> Result<Signature, SignError> {
    benign(height, |message| key.sign_benign(message))
}

fn reason(asked: Result<Signature, SignError>) -> String {
    let error = asked.unwrap_err();
    assert_eq!(error.provider, "scripted");
    error.reason
}

#[test]
fn a_device_signs_the_bytes_it_is_given_with_the_key_that_is_meant() {
    let bench = Bench::new(LONG);
    for (n, height) in [(1, 5), (2, 5), (1, 6)] {
        bench.acts.send(Act::Sign).unwrap();
        let key = bench.key(n);
        assert_eq!((key.provider(), key.public_key()), ("scripted", &public_key(n)));
        assert_eq!(ask(&key, height), Ok(signature_of(&public_key(n), &message(height))));
        assert_eq!(bench.asked.try_recv(), Ok((public_key(n), message(height))));
    }
}

#[test]
fn a_failure_costs_its_own_request_only() {
    let bench = Bench::new(LONG);
    let key = bench.key(1);
    bench.acts.send(Act::Fail).unwrap();
    assert_eq!(reason(ask(&key, 1)), "the slot is empty");
    bench.acts.send(Act::Sign).unwrap();
    assert!(ask(&key, 2).is_ok());
}

#[test]
fn a_device_that_panics_or_dies_is_never_asked_again() {
    let rows = [(Act::Panic, "the device's driver panicked"), (Act::Die, "the device is gone: unplugged")];
    for (act, said) in rows {
        let bench = Bench::new(LONG);
        bench.acts.send(act).unwrap();
        assert_eq!(reason(ask(&bench.key(1), 1)), said);
        // Its own key and the others of the device: at once, although the deadline is far and the device would wait.
        for n in [1, 2] {
            assert_eq!(reason(ask(&bench.key(n), 2)), said);
        }
        assert_eq!(bench.asked.try_iter().count(), 1, "{said}");
        assert!(format!("{:?}", bench.worker).contains(said));
        assert!(bench.dropped.recv_timeout(LONG).is_err_and(|error| !error.to_string().contains("timed out")));
    }
}

#[test]
fn who_waits_behind_a_request_that_kills_the_device_is_told_at_once() {
    let bench = Bench::new(LONG);
    let first = bench.ask_in_background(1, 1);
    let behind: Vec<_> = (0..4)
        .map(|height| {
            let key = bench.key(2);
            thread::spawn(move || ask(&key, height))
        })
        .collect();
    bench.acts.send(Act::Panic).unwrap();
    for asked in behind.into_iter().chain([first]) {
        assert_eq!(reason(asked.join().unwrap()), "the device's driver panicked");
    }
    assert_eq!(bench.asked.try_iter().count(), 0, "the device was asked after its panic");
}

#[test]
fn a_slow_device_costs_a_deadline_and_what_nobody_waits_for_is_not_signed() {
    let bench = Bench::new(SHORT);
    let slow = bench.ask_in_background(1, 1);
    // Behind it, until its own deadline.
    assert_eq!(reason(ask(&bench.key(1), 2)), "the device did not answer within 200ms");
    assert_eq!(reason(slow.join().unwrap()), "the device did not answer within 200ms");
    // The late answer goes nowhere, and the one whose caller has gone is passed over.
    (0..100).for_each(|_| bench.acts.send(Act::Sign).unwrap());
    // A machine under load may miss the short deadline: ask until the device was in time.
    let key = bench.key(1);
    let height = (3..100).find(|height| ask(&key, *height).is_ok()).unwrap();
    let asked: Vec<_> = bench.asked.try_iter().map(|(_, message)| message).collect();
    assert!(asked.contains(&message(height)) && !asked.contains(&message(2)), "signed for nobody");
}

#[test]
fn a_device_that_hangs_delays_no_other_device() {
    let (hanging, quick) = (Bench::new(LONG), Bench::new(LONG));
    let asked = hanging.ask_in_background(1, 1);
    for height in 1..=100 {
        quick.acts.send(Act::Sign).unwrap();
        assert!(ask(&quick.key(2), height).is_ok());
    }
    assert!(!asked.is_finished(), "the other device was not hanging");
    hanging.acts.send(Act::Sign).unwrap();
    assert!(asked.join().unwrap().is_ok());
}

#[test]
fn a_full_queue_refuses_at_once_and_empties_in_order() {
    let bench = Bench::new(LONG);
    let mut waiting = vec![bench.ask_in_background(1, 1)];
    let (started, starting) = channel();
    let mut refused = Vec::new();
    // One is with the device; of the rest exactly QUEUE_MAX find a place.
    for height in 0..QUEUE_MAX as i64 + 3 {
        let (key, started) = (bench.key(2), started.clone());
        waiting.push(thread::spawn(move || {
            let answer = ask(&key, 10 + height);
            if answer.is_err() {
                started.send(answer.clone()).unwrap();
            }
            answer
        }));
    }
    for _ in 0..3 {
        refused.push(starting.recv_timeout(LONG).unwrap());
    }
    for answer in refused {
        assert_eq!(reason(answer), format!("the device is busy: {QUEUE_MAX} requests wait for it"));
    }
    for _ in 0..=QUEUE_MAX {
        bench.acts.send(Act::Sign).unwrap();
    }
    let signed = waiting.into_iter().filter_map(|asked| asked.join().unwrap().ok()).count();
    assert_eq!(signed, QUEUE_MAX + 1);
    assert_eq!(bench.asked.try_iter().count(), QUEUE_MAX);
}

#[test]
fn with_the_last_handle_the_thread_ends_and_lets_go_of_the_device() {
    let Bench { worker, acts, dropped, asked: _asked } = Bench::new(LONG);
    let key = Key::new(Box::new(worker.key(public_key(1))));
    drop(worker);
    assert_eq!(dropped.try_recv(), Err(TryRecvError::Empty), "the key still needs it");
    acts.send(Act::Sign).unwrap();
    assert!(ask(&key, 1).is_ok());
    drop(key);
    // No waiting: the drop itself has waited.
    assert_eq!(dropped.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn letting_go_of_a_device_that_hangs_does_not_hang() {
    let bench = Bench::new(SHORT);
    let asked = bench.ask_in_background(1, 1);
    assert!(asked.join().unwrap().is_err());
    let Bench { worker, acts, dropped, asked: _asked } = bench;
    drop(worker);
    assert_eq!(dropped.try_recv(), Err(TryRecvError::Empty), "it was not hanging");
    acts.send(Act::Sign).unwrap();
    assert_eq!(dropped.recv(), Err(std::sync::mpsc::RecvError), "the thread ends when the device answers");
}
