//! Threads that serve connections: one for many, or the one that dialled for its own.

use super::connection::Connection;
use super::ended::Ended;
use super::table::{EVENTS_MAX, Seat, Table};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Stack of a thread that serves or dials. The deepest path (handshake) takes a tenth of it.
pub(crate) const STACK_LEN: usize = 256 * 1024;

/// A thread that serves many connections.
pub(crate) struct Worker {
    door: Arc<Door>,
    thread: JoinHandle<()>,
}

/// Through which connections come to a worker.
pub(crate) struct Door {
    arrivals: Mutex<Arrivals>,
    bell: OwnedFd,
}

#[derive(Default)]
struct Arrivals {
    seats: Vec<Seat>,
    is_closed: bool,
}

impl Worker {
    /// Starts its thread.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let door = Arc::new(Door { arrivals: Mutex::default(), bell });
        let mut table = Table::new()?;
        table.listen(&door.bell)?;
        let behind = Arc::clone(&door);
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_LEN);
        let thread = thread.spawn(move || {
            let mut events = Vec::with_capacity(EVENTS_MAX);
            while !behind.arrivals().is_closed {
                if table.turn(&mut events) {
                    behind.silence();
                }
                let arrived = std::mem::take(&mut behind.arrivals().seats);
                arrived.into_iter().for_each(|seat| table.seat(seat));
            }
            // Who waits for the end of a connection that was never seated is told by the seat that goes.
            behind.arrivals().seats.clear();
        })?;
        Ok(Self { door, thread })
    }

    /// Where connections go in.
    pub(crate) fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door)
    }

    /// How many nodes have this door.
    pub(crate) fn nodes(&self) -> usize {
        Arc::strong_count(&self.door)
    }

    /// Ends the thread after its turn; its handle is to be waited for.
    pub(crate) fn close(self) -> JoinHandle<()> {
        self.door.arrivals().is_closed = true;
        self.door.ring();
        self.thread
    }
}

impl Door {
    /// Serves a connection until it ends.
    pub(crate) fn serve(&self, connection: Connection) -> Ended {
        let (ended, end) = sync_channel(1);
        let mut arrivals = self.arrivals();
        if !arrivals.is_closed {
            arrivals.seats.push(Seat::new(connection, ended));
        }
        drop(arrivals);
        self.ring();
        // It went with its seat: the worker has ended.
        end.recv().unwrap_or_else(|_| io::Error::other("this signer ends").into())
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // A bell that cannot be rung higher was rung.
        let _rung = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn silence(&self) {
        let _silent = rustix::io::read(&self.bell, &mut [0; 8]);
    }
}

/// Serves one connection in this thread, until it ends: for keys in devices, which block.
pub(crate) fn serve_alone(connection: Connection) -> Ended {
    let (ended, end) = sync_channel(1);
    let mut table = match Table::new() {
        Ok(table) => table,
        Err(error) => return error.into(),
    };
    table.seat(Seat::new(connection, ended));
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        if let Ok(ended) = end.try_recv() {
            return ended;
        }
        table.turn(&mut events);
    }
}
