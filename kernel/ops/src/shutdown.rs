//! The orderly end: a stop token for blocking threads, and the signals that pull it.
//!
//! SIGTERM and SIGINT stop; a second one, while the stop is under way, ends the process at once in the signal handler
//! itself, whatever the threads do. SIGHUP is an event for whoever reloads. The token is a flag with a condition variable,
//! so that a thread can sleep on it instead of sleeping past it, and callbacks can shut sockets that block a read.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Incoming};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Why the process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// SIGTERM.
    Terminated,
    /// SIGINT.
    Interrupted,
    /// The work is done, or somebody inside asked for the end.
    Asked,
    /// Something failed for good.
    Failed,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopReason::Terminated => "SIGTERM",
            StopReason::Interrupted => "SIGINT",
            StopReason::Asked => "asked to stop",
            StopReason::Failed => "failed",
        })
    }
}

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    reason: Option<StopReason>,
    callbacks: BTreeMap<u64, Callback>,
    next: u64,
}

#[derive(Default)]
struct Inner {
    // Beside the mutex so that a look at it costs no lock.
    stopped: AtomicBool,
    state: Mutex<State>,
    woken: Condvar,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token that everyone holds and anyone may pull; it never goes back.
#[derive(Clone, Default)]
pub struct Stop {
    inner: Arc<Inner>,
}

impl Stop {
    /// A token that nobody has pulled.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Pulls it. The first reason stays. Callbacks run here, in the calling thread, without a lock held.
    pub fn stop(&self, reason: StopReason) {
        let callbacks = {
            let mut state = self.inner.lock();
            state.reason.get_or_insert(reason);
            self.inner.stopped.store(true, Ordering::SeqCst);
            std::mem::take(&mut state.callbacks)
        };
        self.inner.woken.notify_all();
        for callback in callbacks.into_values() {
            callback();
        }
    }

    /// Whether it was pulled.
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::SeqCst)
    }

    /// Why, once it was pulled.
    pub fn reason(&self) -> Option<StopReason> {
        self.inner.lock().reason
    }

    /// Sleeps until the end or for `timeout`, whichever is first; true when it is the end.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let until = Instant::now().checked_add(timeout);
        let mut state = self.inner.lock();
        loop {
            if state.reason.is_some() {
                return true;
            }
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return false;
            }
            state = self.inner.woken.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sleeps until the end.
    pub fn wait(&self) -> StopReason {
        let mut state = self.inner.lock();
        loop {
            if let Some(reason) = state.reason {
                return reason;
            }
            state = self.inner.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs `callback` once at the end (at once, here, if it has come), unless the returned guard is dropped before.
    /// Meant for shutting a socket that a thread reads from; it must be quick and must not block.
    pub fn on_stop(&self, callback: impl FnOnce() + Send + 'static) -> OnStop {
        let mut state = self.inner.lock();
        if state.reason.is_some() {
            drop(state);
            callback();
            return OnStop { stop: Weak::new(), id: 0 };
        }
        let id = state.next;
        state.next = state.next.wrapping_add(1);
        state.callbacks.insert(id, Box::new(callback));
        OnStop { stop: Arc::downgrade(&self.inner), id }
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("stopped", &self.is_stopped()).finish()
    }
}

/// Keeps a callback registered; dropping it takes the callback back.
#[must_use = "the callback is taken back when this is dropped"]
pub struct OnStop {
    stop: Weak<Inner>,
    id: u64,
}

impl Drop for OnStop {
    fn drop(&mut self) {
        if let Some(inner) = self.stop.upgrade() {
            let callback = inner.lock().callbacks.remove(&self.id);
            drop(callback);
        }
    }
}

impl fmt::Debug for OnStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnStop").field("id", &self.id).finish()
    }
}

/// The signals of the process, served by one thread until this is dropped.
#[derive(Debug)]
pub struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    reloads: Receiver<()>,
}

impl Signals {
    /// Takes SIGTERM, SIGINT and SIGHUP over. Call it once, early.
    ///
    /// # Errors
    /// When the operating system refuses a handler or a thread.
    pub fn install(stop: &Stop) -> io::Result<Signals> {
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Registered first, so that it sees the flag as it was before this signal.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&stopping))?;
        }
        let incoming = Incoming::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = incoming.handle();
        // One waiting reload stands for any number of them.
        let (sender, reloads) = sync_channel(1);
        let stop = stop.clone();
        let thread = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || serve(incoming, &stop, &stopping, &sender))?;
        Ok(Signals { handle, thread: Some(thread), reloads })
    }

    /// Where a SIGHUP arrives; several that nobody took are one.
    pub fn reloads(&self) -> &Receiver<()> {
        &self.reloads
    }
}

fn serve(mut incoming: Incoming, stop: &Stop, stopping: &AtomicBool, reloads: &SyncSender<()>) {
    for signal in incoming.forever() {
        match signal {
            SIGHUP => {
                // Full: a reload is waiting already, and it will see this change too.
                let _ = reloads.try_send(());
            }
            SIGINT => {
                stopping.store(true, Ordering::SeqCst);
                stop.stop(StopReason::Interrupted);
            }
            _ => {
                stopping.store(true, Ordering::SeqCst);
                stop.stop(StopReason::Terminated);
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn a_sleeper_wakes_at_the_stop_and_not_at_its_timeout() {
        let stop = Stop::new();
        let other = stop.clone();
        let thread = std::thread::spawn(move || other.wait_timeout(Duration::from_secs(3600)));
        stop.stop(StopReason::Asked);
        assert!(thread.join().unwrap());
        assert!(stop.wait_timeout(Duration::from_secs(3600)));
    }

    #[test]
    fn a_wait_without_a_stop_ends_at_its_timeout() {
        assert!(!Stop::new().wait_timeout(Duration::from_millis(1)));
    }

    #[test]
    fn the_first_reason_stays() {
        let stop = Stop::new();
        stop.stop(StopReason::Failed);
        stop.stop(StopReason::Asked);
        assert_eq!(stop.wait(), StopReason::Failed);
    }

    #[test]
    fn a_callback_runs_once_at_once_when_late_and_never_when_taken_back() {
        let stop = Stop::new();
        let count = Arc::new(AtomicU32::new(0));
        let add = |n: u32| {
            let count = Arc::clone(&count);
            move || {
                count.fetch_add(n, Ordering::SeqCst);
            }
        };
        let _kept = stop.on_stop(add(1));
        drop(stop.on_stop(add(100)));
        stop.stop(StopReason::Asked);
        stop.stop(StopReason::Asked);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let _late = stop.on_stop(add(10));
        assert_eq!(count.load(Ordering::SeqCst), 11);
    }

    // One test for all signals: they belong to the process, not to a test.
    #[test]
    fn sighup_is_an_event_and_sigterm_is_the_stop() {
        let stop = Stop::new();
        let signals = Signals::install(&stop).unwrap();
        signal_hook::low_level::raise(SIGHUP).unwrap();
        signals.reloads().recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(!stop.is_stopped());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert_eq!(stop.wait(), StopReason::Terminated);
    }
}
