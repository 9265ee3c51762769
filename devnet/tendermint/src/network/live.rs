//! Nodes on the real clock: one thread per node, one per signer, channels between them.
//!
//! A node never waits for its signer: requests go to the signer's thread one at a time and in order, answers come back as inputs.
//! Links keep their order unless a delay is asked for. What a node waited for dies with it when it restarts; its signer's connection too.

use super::{
    dice::Dice,
    faults::{Fate, Faults},
    node::{Input, Node, Output, Recipient, TICK, locked},
    signer::{Unsigned, VoteSigner},
};
use crate::{
    board::Board,
    consensus::{Height, SignRequest, Time},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Longest wait of a node without anything due.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// How long [`Live::stop`] waits for threads before it leaves them to end by themselves.
const STOP_PATIENCE: Duration = Duration::from_millis(900);

/// A signer that needs care between requests: a connection to accept, a ping to send.
pub trait AttendedSigner: VoteSigner + Send {
    /// How long until [`attend`](Self::attend) is due.
    fn attention_in(&self) -> Duration;
    /// Accepts, pings; blocks for a short time at most.
    fn attend(&mut self);
    /// The node restarts: connections are lost.
    fn hang_up(&mut self);
    /// Whether a signer is connected, and how many connections there have been.
    fn connections(&self) -> (bool, u64);
}

/// What is shared by all threads of a network.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) board: Mutex<Board>,
    pub(crate) changed: Condvar,
    pub(crate) started: Instant,
    pub(crate) stopping: Arc<AtomicBool>,
}

impl Shared {
    pub(crate) fn new(board: Board) -> Arc<Self> {
        let (started, stopping) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        Arc::new(Self { board: Mutex::new(board), changed: Condvar::new(), started, stopping })
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Waits until `done` holds, the network stops, or `patience` is over; says whether it holds.
    pub(crate) fn wait(&self, patience: Duration, mut done: impl FnMut(&Board) -> bool) -> bool {
        let until = Instant::now().checked_add(patience);
        let mut board = locked(&self.board);
        loop {
            if done(&board) {
                return true;
            }
            let left = until.map_or(IDLE_MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() || self.is_stopping() {
                return false;
            }
            let waited = self.changed.wait_timeout(board, left.min(IDLE_MAX));
            board = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn write(&self, change: impl FnOnce(&mut Board)) {
        change(&mut locked(&self.board));
        self.changed.notify_all();
    }
}

enum Letter {
    /// Boots must match, if given.
    Input(Option<u32>, Input),
    Delayed(Duration, Input),
    Down,
    Up,
    Stop,
}

enum Task {
    Sign(u32, SignRequest),
    HangUp,
    Stop,
}

/// A running network.
#[derive(Debug)]
pub struct Live {
    shared: Arc<Shared>,
    inboxes: Vec<Sender<Letter>>,
    tasks: Vec<Sender<Task>>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letter")
    }
}

impl Live {
    /// Starts every node with its signer. Blocks begin when all signers were connected once, or after `patience`.
    pub(crate) fn start(
        nodes: Vec<(Node, Box<dyn AttendedSigner>)>,
        shared: Arc<Shared>,
        faults: &Faults,
        seed: u64,
        patience: Duration,
    ) -> std::io::Result<Self> {
        let (inboxes, letters): (Vec<_>, Vec<_>) = nodes.iter().map(|_| channel()).unzip();
        let mut live = Self { shared: shared.clone(), inboxes, tasks: Vec::new(), threads: Vec::new() };
        let mut dice = Dice::new(seed);
        for (index, ((node, signer), inbox)) in nodes.into_iter().zip(letters).enumerate() {
            let (task, tasks) = channel();
            let Some(home) = live.inboxes.get(index).cloned() else { continue };
            let clerk = Clerk { index, signer, tasks, home, shared: shared.clone() };
            live.tasks.push(task.clone());
            let mut post = NodeThread {
                index,
                node,
                inbox,
                peers: live.inboxes.clone(),
                signer: task,
                faults: faults.clone(),
                dice: Dice::new(dice.roll()),
                due: BTreeMap::new(),
                sequence: 0,
                up: true,
                boots: 0,
                shared: shared.clone(),
            };
            post.plan_restarts();
            live.spawn(format!("node-{index}"), move || post.run())?;
            live.spawn(format!("signer-{index}"), move || clerk.run())?;
        }
        let inboxes = live.inboxes.clone();
        live.spawn("start".into(), move || {
            if !shared.wait(patience, Board::all_were_connected) {
                tracing::warn!("not every signer has connected; blocks begin without them");
            }
            for inbox in inboxes {
                let _closed = inbox.send(Letter::Input(None, Input::Start));
            }
        })?;
        Ok(live)
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(Builder::new().name(name).spawn(body)?);
        Ok(())
    }

    /// Sets the payload of the blocks of every proposer from now on.
    pub(crate) fn payload(&self, payload: &[u8]) {
        for inbox in &self.inboxes {
            let _closed = inbox.send(Letter::Input(None, Input::Payload(payload.to_vec())));
        }
    }

    /// Takes a node down, or brings it back.
    pub(crate) fn power(&self, index: usize, up: bool) {
        if let Some(inbox) = self.inboxes.get(index) {
            let _closed = inbox.send(if up { Letter::Up } else { Letter::Down });
        }
    }

    /// Ends all threads.
    pub(crate) fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        for inbox in &self.inboxes {
            let _closed = inbox.send(Letter::Stop);
        }
        for task in &self.tasks {
            let _closed = task.send(Task::Stop);
        }
        let deadline = Instant::now().checked_add(STOP_PATIENCE);
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && deadline.is_some_and(|deadline| Instant::now() < deadline) {
                std::thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() && thread.join().is_err() {
                tracing::error!("a thread of the network panicked");
            }
        }
    }
}

struct NodeThread {
    index: usize,
    node: Node,
    inbox: Receiver<Letter>,
    peers: Vec<Sender<Letter>>,
    signer: Sender<Task>,
    faults: Faults,
    dice: Dice,
    due: BTreeMap<(Instant, u64), Letter>,
    sequence: u64,
    up: bool,
    boots: u32,
    shared: Arc<Shared>,
}

impl NodeThread {
    fn plan_restarts(&mut self) {
        let mine: Vec<_> = self.faults.restarts.iter().filter(|r| r.node == self.index).cloned().collect();
        for restart in mine {
            self.later(restart.at, Letter::Down);
            self.later(restart.at.saturating_add(restart.down_for), Letter::Up);
        }
        self.later(TICK, Letter::Input(None, Input::Tick));
    }

    fn later(&mut self, delay: Duration, letter: Letter) {
        let now = Instant::now();
        self.sequence = self.sequence.wrapping_add(1);
        self.due.insert((now.checked_add(delay).unwrap_or(now), self.sequence), letter);
    }

    fn run(&mut self) {
        loop {
            let next = self.due.first_key_value().map(|((at, _), _)| at.saturating_duration_since(Instant::now()));
            let letter = match next {
                Some(left) if left.is_zero() => self.due.pop_first().map(|(_, letter)| letter),
                _ => match self.inbox.recv_timeout(next.unwrap_or(IDLE_MAX).min(IDLE_MAX)) {
                    Ok(letter) => Some(letter),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            };
            match letter {
                None => {}
                Some(Letter::Stop) => return,
                Some(Letter::Delayed(delay, input)) => self.later(delay, Letter::Input(None, input)),
                Some(Letter::Down) => self.go_down(),
                Some(Letter::Up) => self.come_up(),
                Some(Letter::Input(boots, input)) => {
                    let tick = matches!(input, Input::Tick);
                    if tick {
                        self.later(TICK, Letter::Input(None, Input::Tick));
                    }
                    if self.up && boots.is_none_or(|boots| boots == self.boots) {
                        self.handle(input);
                    }
                }
            }
        }
    }

    fn go_down(&mut self) {
        self.up = false;
        self.boots = self.boots.saturating_add(1);
        let _closed = self.signer.send(Task::HangUp);
        self.shared.write(|board| board.down(self.index, true));
    }

    fn come_up(&mut self) {
        if !self.up {
            self.up = true;
            self.shared.write(|board| board.down(self.index, false));
            self.handle(Input::Restarted);
        }
    }

    fn handle(&mut self, input: Input) {
        let before = self.node.status();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for output in self.node.handle(Time::from_epoch(since_epoch), input) {
            self.carry_out(output);
        }
        let status = self.node.status();
        if status != before {
            self.shared.write(|board| board.stands(self.index, status));
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Sign(request) => {
                let _closed = self.signer.send(Task::Sign(self.boots, request));
            }
            Output::Schedule(timeout, after) => {
                self.later(after, Letter::Input(Some(self.boots), Input::Timeout(timeout)));
            }
            Output::Decided(block, commit) => {
                let at = self.shared.started.elapsed();
                self.shared.write(|board| board.decided(&block, &commit, at));
            }
            Output::Gathered(commit) => self.shared.write(|board| board.gathered(&commit)),
            Output::Send(recipient, message) => {
                let at = self.shared.started.elapsed();
                for (to, peer) in self.peers.iter().enumerate() {
                    let meant = match recipient {
                        Recipient::All => true,
                        Recipient::Half { odd } => (to % 2 == 1) == odd,
                        Recipient::One(one) => to == one,
                    };
                    if !meant || to == self.index {
                        continue;
                    }
                    let input = Input::Message(self.index, message.clone());
                    let _closed = match self.faults.fate(at, self.index, to, &mut self.dice) {
                        Fate::Dropped => Ok(()),
                        Fate::Delivered(Duration::ZERO) => peer.send(Letter::Input(None, input)),
                        Fate::Delivered(delay) => peer.send(Letter::Delayed(delay, input)),
                    };
                }
            }
        }
    }
}

/// The thread that talks to one signer.
struct Clerk {
    index: usize,
    signer: Box<dyn AttendedSigner>,
    tasks: Receiver<Task>,
    home: Sender<Letter>,
    shared: Arc<Shared>,
}

impl Clerk {
    fn run(mut self) {
        let mut shown = (false, 0);
        loop {
            match self.tasks.recv_timeout(self.signer.attention_in()) {
                Ok(Task::Sign(boots, request)) => {
                    let input = self.sign(request);
                    let _closed = self.home.send(Letter::Input(Some(boots), input));
                }
                Ok(Task::HangUp) => self.signer.hang_up(),
                Ok(Task::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.shared.is_stopping() {
                return;
            }
            if self.signer.attention_in().is_zero() {
                self.signer.attend();
            }
            let now = self.signer.connections();
            if now != shown {
                shown = now;
                self.shared.write(|board| board.connected(self.index, now));
            }
        }
    }

    fn sign(&mut self, request: SignRequest) -> Input {
        let begin = Instant::now();
        match self.signer.sign(self.index as u32, &request) {
            Ok(signed) => {
                let took = begin.elapsed();
                self.shared.write(|board| board.signed(self.index, &request, took));
                Input::Signed(request, signed)
            }
            Err(_) if self.shared.is_stopping() => Input::NotSigned(request),
            Err(unsigned) => {
                let refused = matches!(unsigned, Unsigned::Refused { .. });
                tracing::warn!(validator = self.index, kind = %request.kind(), height = %request.height(),
                    round = %request.round(), reason = %unsigned, "no signature");
                self.shared.write(|board| board.not_signed(self.index, refused, unsigned.to_string()));
                Input::NotSigned(request)
            }
        }
    }
}

/// Whether the chain has gone past `height`, so that its commit is settled.
pub(crate) fn is_past(board: &Board, height: Height) -> bool {
    board.height() > height
}
