//! Connections that one thread serves, in turns: what came is read, begun and made durable together, and answered one by one.
//!
//! A hundred validators of as many chains that are asked at one moment are one sync of the ledger, and wake one thread per
//! core. What a request takes beyond its answer (log line, metrics) is a chore, for when nobody waits; so is what may be asked
//! for next.
//!
//! Each node has one request in a turn. Nothing more is read from it before what it sent is answered, and the answer is out.

use super::answer::{After, Context, Opened, begin};
use super::connection::{Connection, Received};
use super::ended::Ended;
use super::meters::Times;
use crate::wire::{Family, Response};
use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Bytes read at once: 62 frames.
const READ_LEN: usize = 64 * 1024;

/// Sockets that one look finds ready, at most; the next finds the others.
pub(super) const EVENTS_MAX: usize = 256;

/// Chores that may wait. What is more is done whoever waits.
const CHORES_MAX: usize = 1024;

/// What the bell is called among the sockets.
const BELL: u64 = u64::MAX;

/// A connection at the table.
pub(super) struct Seat {
    connection: Connection,
    /// Who waits for its end.
    ended: SyncSender<Ended>,
    /// It is among those that may hold a whole request.
    is_waiting: bool,
    /// It is looked at for room for a reply, and not for requests.
    is_sending: bool,
}

impl Seat {
    pub(super) const fn new(connection: Connection, ended: SyncSender<Ended>) -> Self {
        Self { connection, ended, is_waiting: false, is_sending: false }
    }
}

/// Everybody who is served.
pub(super) struct Table {
    epoll: OwnedFd,
    seats: Vec<Option<Seat>>,
    /// Seats that may hold a whole request, each once.
    waiting: Vec<usize>,
    chores: VecDeque<Chore>,
    input: Vec<u8>,
}

/// What is done while nobody waits.
enum Chore {
    /// Tell of a request.
    Report(Arc<Context>, After, Times),
    /// Make the signature over the empty vote extension of the precommit that comes next.
    Ahead(Arc<Context>, i64, i64),
}

/// A request, where and when it came.
struct Asked {
    seat: usize,
    family: Family,
    at: Instant,
    decode: Duration,
}

impl Table {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (seats, waiting, chores, input) = (Vec::new(), Vec::new(), VecDeque::new(), vec![0; READ_LEN]);
        Ok(Self { epoll, seats, waiting, chores, input })
    }

    /// Has a turn end when this is readable.
    pub(super) fn listen(&self, bell: impl AsFd) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?)
    }

    pub(super) fn seat(&mut self, seat: Seat) {
        let free = self.seats.iter().position(Option::is_none).unwrap_or(self.seats.len());
        let data = epoll::EventData::new_u64(free as u64);
        if let Err(error) = epoll::add(&self.epoll, seat.connection.stream(), data, epoll::EventFlags::IN) {
            // Who waits for the end is there.
            let _told = seat.ended.send(io::Error::from(error).into());
            return;
        }
        match self.seats.get_mut(free) {
            Some(place) => *place = Some(seat),
            None => self.seats.push(Some(seat)),
        }
        // The first request may have come behind the handshake.
        self.wait(free);
    }

    /// The seat is free again: its connection is closed, and who waits for it is told.
    fn end(&mut self, index: usize, why: Ended) {
        if let Some(Seat { connection, ended, .. }) = self.seats.get_mut(index).and_then(Option::take) {
            self.waiting.retain(|waiting| *waiting != index);
            // Closed before it is told of: who is told may dial again at once. Who can end it holds the socket, too, so it
            // would stay among those that are looked at.
            let _gone = epoll::delete(&self.epoll, connection.stream());
            connection.close();
            let _told = ended.send(why);
        }
    }

    fn at(&mut self, index: usize) -> Option<&mut Seat> {
        self.seats.get_mut(index).and_then(Option::as_mut)
    }

    /// Has the next turn look for a whole request there.
    fn wait(&mut self, index: usize) {
        let is_waiting = self.at(index).is_none_or(|seat| std::mem::replace(&mut seat.is_waiting, true));
        if !is_waiting {
            self.waiting.push(index);
        }
    }

    /// Waits for something to do, and does it. True: the bell rang.
    pub(super) fn turn(&mut self, events: &mut Vec<epoll::Event>) -> bool {
        self.look(events);
        // What came until now came in time, however long this turn takes.
        let now = Instant::now();
        let (nobody_waits, is_all) = (events.is_empty() && self.waiting.is_empty(), events.len() < EVENTS_MAX);
        let mut rang = false;
        for event in events.drain(..) {
            match event.data.u64() {
                BELL => rang = true,
                index => self.ready(index as usize),
            }
        }
        if is_all {
            self.expire(now);
        }
        self.answer();
        self.do_chores(usize::from(nobody_waits));
        rang
    }

    /// Waits until a socket is ready or a node has been silent for too long; not at all where there is something else to do.
    fn look(&self, events: &mut Vec<epoll::Event>) {
        let deadline = self.seats.iter().flatten().map(|seat| seat.connection.deadline()).min();
        let timeout = match self.waiting.is_empty() && self.chores.is_empty() {
            true => deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
            false => Some(Duration::ZERO),
        };
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        // An interrupted look finds nothing, and the next one does.
        let _interrupted = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout.as_ref());
    }

    /// Takes what came, or sends what is left.
    fn ready(&mut self, index: usize) {
        let Some(Some(seat)) = self.seats.get_mut(index) else { return };
        let done = match seat.connection.is_sending() {
            true => seat.connection.send(),
            // What it sent before comes first: a node that floods fills its own socket.
            false if seat.is_waiting => return,
            false => seat.connection.fill(&mut self.input),
        };
        self.go_on(index, done);
    }

    /// What comes after reading or writing: the next request, or the end.
    fn go_on(&mut self, index: usize, done: Result<(), Ended>) {
        let Some(seat) = self.seats.get_mut(index).and_then(Option::as_mut) else { return };
        let is_sending = seat.connection.is_sending();
        let done = match std::mem::replace(&mut seat.is_sending, is_sending) == is_sending {
            true => done,
            false => {
                let wanted = if is_sending { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
                let data = epoll::EventData::new_u64(index as u64);
                let looked = epoll::modify(&self.epoll, seat.connection.stream(), data, wanted);
                done.and(looked.map_err(|error| io::Error::from(error).into()))
            }
        };
        match done {
            Ok(()) => self.wait(index),
            Err(why) => self.end(index, why),
        }
    }

    /// Ends those who have been silent for too long.
    fn expire(&mut self, now: Instant) {
        for index in 0..self.seats.len() {
            let silent = self.at(index).filter(|seat| !seat.is_waiting && seat.connection.deadline() <= now);
            if let Some(why) = silent.map(|seat| seat.connection.silent()) {
                self.end(index, why);
            }
        }
    }

    /// Begins one request of each who has one, and then finishes and answers them in the same order. What waits for nothing is
    /// answered first.
    fn answer(&mut self) {
        let (mut requests, mut contexts) = (Vec::new(), Vec::new());
        for index in std::mem::take(&mut self.waiting) {
            let Some(seat) = self.at(index) else { continue };
            seat.is_waiting = false;
            match seat.connection.request() {
                Ok(None) => {}
                Ok(Some(Received { request, family, at, decode })) => {
                    contexts.push(Arc::clone(&seat.connection.context));
                    requests.push((Asked { seat: index, family, at, decode }, request));
                }
                Err(why) => self.end(index, why),
            }
        }
        let mut begun = Vec::with_capacity(requests.len());
        for (context, (asked, request)) in contexts.iter().zip(requests) {
            match begin(context, asked.family, request) {
                Opened::Answered(answered) => {
                    let (response, after) = *answered;
                    self.reply(&asked, context, &response, after);
                }
                Opened::Started(signing) => begun.push((asked, context, signing)),
            }
        }
        let mut waited = Duration::ZERO;
        for (asked, context, signing) in begun {
            let (response, mut after) = signing.finish(context);
            after.share(&mut waited);
            self.reply(&asked, context, &response, after);
        }
    }

    fn reply(&mut self, asked: &Asked, context: &Arc<Context>, response: &Response, after: After) {
        let Some(seat) = self.at(asked.seat) else { return };
        let begun = Instant::now();
        let sent = seat.connection.reply(response, asked.family);
        let times = Times { decode: asked.decode, write: begun.elapsed(), total: asked.at.elapsed() };
        let next = after.next_precommit(context);
        if !matches!(after, After::Nothing) {
            self.chores.push_back(Chore::Report(Arc::clone(context), after, times));
        }
        self.chores.extend(next.map(|(height, round)| Chore::Ahead(Arc::clone(context), height, round)));
        self.go_on(asked.seat, sent);
    }

    /// Does so many chores, and those that are too many to wait.
    fn do_chores(&mut self, count: usize) {
        let count = count.max(self.chores.len().saturating_sub(CHORES_MAX));
        for chore in self.chores.drain(..count.min(self.chores.len())) {
            match chore {
                Chore::Report(context, after, times) => after.report(&context, times),
                Chore::Ahead(context, height, round) => context.chain.sign_ahead(height, round),
            }
        }
    }
}

impl Drop for Table {
    /// Nothing that was signed goes untold.
    fn drop(&mut self) {
        self.chores.retain(|chore| matches!(chore, Chore::Report(..)));
        self.do_chores(usize::MAX);
    }
}
