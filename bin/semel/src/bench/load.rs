//! The nodes of a benchmark: each listens as a real node does, and asks for prevote and precommit of height after height.
//!
//! A node's own work would take the cores from the signer: one thread per core drives them all, requests are made before they
//! are due, and every signature is verified when all of them are there. In the open loop the clock starts when a request was
//! *due*, so that a signer that stalls pays for everything that waited behind it.

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use semel_devnet_tendermint::consensus::{BlockId, Height, Proposal, Round, SignedVote, Time, Vote, VoteKind};
use semel_devnet_tendermint::privval::{Family, Listen, Listener, ListenerConfig, Remote, RemoteError, in_one_line};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// Longest wait for a signer to call.
const CALL_WAIT: Duration = Duration::from_secs(20);

/// Requests before the measured ones.
const WARM_UP: usize = 20;

/// Time between the last warm-up and the first measured request: threads and caches come to rest.
const LEAD: Duration = Duration::from_millis(200);

/// What all threads begin and end with together.
struct Together {
    ready: Barrier,
    start: OnceLock<Instant>,
}

impl Together {
    fn new(threads: usize) -> Self {
        Self { ready: Barrier::new(threads), start: OnceLock::new() }
    }

    /// Waits for all threads; the moment from which they count, the same for each.
    fn begin(&self) -> Instant {
        self.ready.wait();
        *self.start.get_or_init(|| Instant::now() + LEAD)
    }

    /// Waits until all threads have their last answer.
    fn end(&self) {
        self.ready.wait();
    }
}

/// Waits for the signers of all nodes, measures, and verifies; what each node saw, in their order. `begun` is when the signers
/// were started. A signer that does not call, hangs up or answers wrongly costs its own requests only.
pub(crate) fn run(nodes: &[Node], plan: &Plan, begun: Instant) -> io::Result<Vec<Seen>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(nodes.len()).max(1);
    let together = &Together::new(threads);
    let gone = || io::Error::other("a node of the benchmark ended early");
    std::thread::scope(|scope| {
        let group = |index| nodes.iter().enumerate().skip(index).step_by(threads).collect::<Vec<_>>();
        let spawn = |index| scope.spawn(move || drive(&group(index), plan, begun, together));
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        let ended: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        let mut seen = Vec::with_capacity(nodes.len());
        for group in ended {
            seen.extend(group.map_err(|_| gone())??);
        }
        seen.sort_by_key(|(index, _)| *index);
        Ok(seen.into_iter().map(|(_, seen)| seen).collect())
    })
}

/// One thread's nodes, from the call of their signers to the last verified signature.
fn drive(nodes: &[(usize, &Node)], plan: &Plan, begun: Instant, together: &Together) -> io::Result<Vec<(usize, Seen)>> {
    let (mut askers, mut seen) = ready(nodes, plan, begun);
    // Also on a failure: the other threads wait here, and at the end.
    let start = together.begin();
    let asked = ask_all(&mut askers, start);
    together.end();
    asked?;
    seen.extend(askers.into_iter().map(|asker| (asker.index, asker.verified())));
    Ok(seen)
}

/// Those whose signer called and is warm, and what is to be said of the others.
fn ready<'p>(nodes: &[(usize, &Node)], plan: &'p Plan, begun: Instant) -> (Vec<Asker<'p>>, Vec<(usize, Seen)>) {
    let (mut askers, mut failed) = (Vec::with_capacity(nodes.len()), Vec::new());
    // Once one did not call in time, nobody else is waited for.
    let mut wait = CALL_WAIT;
    for (index, node) in nodes {
        match node.called(plan, wait) {
            Ok(remote) => askers.push(Asker::new(*index, remote, plan, begun.elapsed())),
            Err(error) => {
                wait = Duration::ZERO;
                failed.push((*index, Seen::nothing(plan, in_one_line(&error))));
            }
        }
    }
    let mut warm = Vec::with_capacity(askers.len());
    for mut asker in askers {
        match asker.warm_up() {
            Ok(()) => warm.push(asker),
            Err(error) => failed.push((asker.index, Seen::nothing(plan, in_one_line(&error)))),
        }
    }
    (warm, failed)
}

/// What to ask for.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) requests: usize,
    /// Time between requests of one validator; None: the next follows the answer.
    pub(crate) interval: Option<Duration>,
    pub(crate) extension_len: Option<usize>,
    /// Ask for a proposal at each height, too.
    pub(crate) proposals: bool,
    pub(crate) family: Family,
}

/// What one node saw.
pub(crate) struct Seen {
    /// Nanoseconds from request (or due time) to an answer that verifies.
    pub(crate) latencies: Vec<u64>,
    pub(crate) refusals: u64,
    /// Requests without an answer that verifies, and why the first of them has none.
    pub(crate) failures: u64,
    pub(crate) failure: Option<String>,
    /// From the call of the listener to the first verified signature.
    pub(crate) first: Option<Duration>,
    pub(crate) took: Duration,
}

impl Seen {
    /// Of a node that could ask nothing.
    fn nothing(plan: &Plan, failure: String) -> Self {
        let failures = plan.requests as u64;
        let failure = Some(failure);
        Self { latencies: Vec::new(), refusals: 0, failures, failure, first: None, took: Duration::ZERO }
    }

    /// Keeps the first reason.
    fn fails(&mut self, error: &RemoteError) {
        self.failure.get_or_insert_with(|| in_one_line(error));
    }

    /// Signatures a second.
    pub(crate) fn rate(&self) -> f64 {
        match self.took.is_zero() {
            true => 0.0,
            false => self.latencies.len() as f64 / self.took.as_secs_f64(),
        }
    }
}

/// One node's listener, with the address that its signer dials.
pub(crate) struct Node {
    listener: Listener,
    pub(crate) address: String,
}

impl Node {
    /// Opens a listener on loopback, or at a path.
    pub(crate) fn open(chain: &str, plan: &Plan, unix: Option<PathBuf>) -> io::Result<Self> {
        let mut identity = [0; 32];
        getrandom::fill(&mut identity).map_err(|error| io::Error::other(error.to_string()))?;
        let listen = unix.map_or_else(|| Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), Listen::Unix);
        let chain = chain.to_owned();
        let extensions = plan.extension_len.is_some();
        let listener = Listener::bind(ListenerConfig { listen, chain, family: plan.family, extensions, identity })?;
        let address = listener.address().to_string();
        Ok(Self { listener, address })
    }

    /// The signer that calls, once it has told its key, shown that it is there, and signed for the first time.
    fn called(&self, plan: &Plan, wait: Duration) -> Result<Remote, RemoteError> {
        let accepted = self.listener.accept(wait);
        let mut remote = accepted.map_err(|error| RemoteError::Connection(io::Error::other(in_one_line(&error))))?;
        remote.pub_key()?;
        remote.ping()?;
        question(0, plan).ask(&mut remote)?.verify(&remote)?;
        Ok(remote)
    }
}

/// One node's connection, while it is measured.
struct Asker<'p> {
    index: usize,
    remote: Remote,
    plan: &'p Plan,
    seen: Seen,
    answers: Vec<Answer>,
    /// How many were asked for, the one that waits for an answer or to be due, and since when it counts.
    asked: usize,
    next: Option<Question>,
    due: Instant,
    /// Whether the last request waits for its answer.
    is_out: bool,
    /// Whether the connection is of no more use.
    is_broken: bool,
}

impl<'p> Asker<'p> {
    fn new(index: usize, remote: Remote, plan: &'p Plan, first: Duration) -> Self {
        let latencies = Vec::with_capacity(plan.requests);
        let first = Some(first);
        let seen = Seen { latencies, refusals: 0, failures: 0, failure: None, first, took: Duration::ZERO };
        let answers = Vec::with_capacity(plan.requests);
        let (is_out, is_broken) = (false, false);
        Self { index, remote, plan, seen, answers, asked: 0, next: None, due: Instant::now(), is_out, is_broken }
    }

    fn warm_up(&mut self) -> Result<(), RemoteError> {
        for index in 1..WARM_UP {
            question(index, self.plan).ask(&mut self.remote)?.verify(&self.remote)?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.is_broken || self.asked == self.plan.requests
    }

    /// Asks nothing more.
    fn give_up(&mut self, error: &RemoteError) {
        self.seen.fails(error);
        (self.is_out, self.is_broken) = (false, true);
    }

    /// Whether the next is due. In the closed loop it follows the answer.
    fn is_due(&mut self, start: Instant, now: Instant) -> bool {
        match self.plan.interval {
            Some(interval) => self.due = start + interval * u32::try_from(self.asked).unwrap_or(u32::MAX),
            None => self.due = now,
        }
        self.due <= now
    }

    /// Makes the next request, if that was not done before.
    fn prepare(&mut self) {
        if self.next.is_none() && !self.is_done() {
            let question = question(WARM_UP + self.asked, self.plan);
            match question.seal(&mut self.remote) {
                Ok(()) => self.next = Some(question),
                Err(error) => self.give_up(&error),
            }
        }
    }

    fn send(&mut self) {
        self.prepare();
        if self.next.is_none() {
            return;
        }
        self.asked += 1;
        match self.remote.send_sealed() {
            Ok(()) => self.is_out = true,
            Err(error) => self.give_up(&error),
        }
    }

    fn receive(&mut self, start: Instant) {
        let Some(question) = self.next.take_if(|_| self.is_out) else {
            // It hung up, or says what nobody asked.
            let error = self.remote.receive().err().unwrap_or(RemoteError::Mismatch);
            return self.give_up(&error);
        };
        self.is_out = false;
        match question.receive(&mut self.remote) {
            Ok(signed) => {
                self.seen.latencies.push(self.due.elapsed().as_nanos() as u64);
                self.answers.push(signed);
            }
            Err(RemoteError::Refused(refusal)) => {
                self.seen.refusals += 1;
                self.seen.fails(&refusal.into());
            }
            Err(error) if is_of_answer(&error) => self.seen.fails(&error),
            Err(error) => return self.give_up(&error),
        }
        self.seen.took = start.elapsed();
    }

    /// What the node saw; an answer that does not verify is none.
    fn verified(self) -> Seen {
        let mut seen = self.seen;
        let latencies = std::mem::take(&mut seen.latencies);
        for (latency, answer) in latencies.into_iter().zip(&self.answers) {
            match answer.verify(&self.remote) {
                Ok(()) => seen.latencies.push(latency),
                Err(error) => seen.fails(&error),
            }
        }
        seen.failures = (self.plan.requests as u64).saturating_sub(seen.latencies.len() as u64 + seen.refusals);
        seen
    }
}

/// Whether an answer was wrong and its connection is not.
const fn is_of_answer(error: &RemoteError) -> bool {
    use RemoteError::{BadSignature, Changed, Mismatch, Unreadable};
    matches!(error, BadSignature(_) | Changed(_) | Mismatch | Unreadable(_))
}

/// Asks each for everything.
fn ask_all(askers: &mut [Asker<'_>], start: Instant) -> io::Result<()> {
    let answers = Answers::of(askers)?;
    askers.iter_mut().for_each(Asker::prepare);
    std::thread::sleep(start.saturating_duration_since(Instant::now()));
    let (mut idle, mut out): (Vec<usize>, usize) = ((0..askers.len()).collect(), 0);
    let mut found = Vec::with_capacity(askers.len());
    loop {
        let now = Instant::now();
        let mut early = Vec::with_capacity(idle.len());
        for index in idle {
            let Some(asker) = askers.get_mut(index).filter(|asker| !asker.is_done()) else { continue };
            if asker.is_due(start, now) {
                asker.send();
                out += usize::from(asker.is_out);
            } else {
                early.push(index);
            }
        }
        idle = early;
        let due = idle.iter().filter_map(|index| askers.get(*index)).map(|asker| asker.due).min();
        match (out, due) {
            (0, None) => return Ok(()),
            (0, Some(due)) => {
                askers.iter_mut().for_each(Asker::prepare);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            (_, due) => {
                if !answers.wait(askers.len(), due, &mut found)? {
                    askers
                        .iter_mut()
                        .filter(|asker| asker.is_out)
                        .for_each(|asker| asker.give_up(&RemoteError::TimedOut));
                    out = 0;
                }
            }
        }
        for index in found.drain(..) {
            let Some(asker) = askers.get_mut(index) else { continue };
            if asker.is_out {
                out -= 1;
                idle.push(index);
            }
            asker.receive(start);
            if asker.is_broken {
                answers.leave(asker)?;
            }
        }
    }
}

/// Where answers come in.
struct Answers(OwnedFd);

impl Answers {
    fn of(askers: &[Asker<'_>]) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        for (index, asker) in askers.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, asker.remote.socket(), data, epoll::EventFlags::IN).map_err(io::Error::from)?;
        }
        Ok(Self(epoll))
    }

    /// Says no more of one: a connection that was closed would wake forever.
    fn leave(&self, asker: &Asker<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.0, asker.remote.socket())?)
    }

    /// Waits until there is an answer or somebody is to ask, and adds who has one. False: for long there was neither.
    fn wait(&self, askers: usize, due: Option<Instant>, found: &mut Vec<usize>) -> io::Result<bool> {
        if askers == 1 {
            // Reading waits by itself.
            found.push(0);
            return Ok(true);
        }
        let timeout = due.map_or(CALL_WAIT, |due| due.saturating_duration_since(Instant::now()));
        let timeout = timeout.try_into().map_err(io::Error::other)?;
        let mut events = Vec::with_capacity(askers);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => return Ok(true),
            looked => looked.map_err(io::Error::from)?,
        };
        if events.is_empty() && due.is_none() {
            return Ok(false);
        }
        found.extend(events.iter().map(|event| event.data.u64() as usize));
        Ok(true)
    }
}

/// What is asked for.
enum Question {
    Proposal(Proposal),
    Vote(Vote),
}

/// What came back.
enum Answer {
    Proposal(Proposal, [u8; 64]),
    Vote(SignedVote),
}

impl Question {
    fn ask(&self, remote: &mut Remote) -> Result<Answer, RemoteError> {
        self.seal(remote)?;
        remote.send_sealed()?;
        self.receive(remote)
    }

    fn seal(&self, remote: &mut Remote) -> Result<(), RemoteError> {
        match self {
            Self::Proposal(proposal) => remote.seal_proposal(proposal),
            Self::Vote(vote) => remote.seal_vote(vote),
        }
    }

    fn receive(&self, remote: &mut Remote) -> Result<Answer, RemoteError> {
        Ok(match self {
            Self::Proposal(proposal) => {
                let (proposal, signature) = remote.receive_proposal(proposal)?;
                Answer::Proposal(proposal, signature)
            }
            Self::Vote(vote) => Answer::Vote(remote.receive_vote(vote)?),
        })
    }
}

impl Answer {
    fn verify(&self, remote: &Remote) -> Result<(), RemoteError> {
        match self {
            Self::Proposal(proposal, signature) => remote.verify_proposal(proposal, signature),
            Self::Vote(signed) => remote.verify_vote(signed),
        }
    }
}

/// A place in the sequence: proposal (if wanted), prevote and precommit of one block per height.
fn question(index: usize, plan: &Plan) -> Question {
    let steps = if plan.proposals { 3 } else { 2 };
    let height = index as u64 / steps + 1;
    let mut hash = [0xb1; 32];
    hash.iter_mut().zip(height.to_le_bytes()).for_each(|(to, from)| *to = from);
    let block = BlockId { hash, parts_total: 1, parts_hash: [0xfa; 32] };
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = Time { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() };
    let (height, round) = (Height(height), Round(0));
    let kind = match index as u64 % steps + 3 - steps {
        0 => return Question::Proposal(Proposal { height, round, pol_round: None, block, time }),
        1 => VoteKind::Prevote,
        _ => VoteKind::Precommit,
    };
    let extension = match (kind, plan.extension_len) {
        (VoteKind::Precommit, Some(len)) => vec![0xee; len],
        _ => Vec::new(),
    };
    Question::Vote(Vote { kind, height, round, block: Some(block), time, validator: 0, extension })
}
