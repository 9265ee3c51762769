//! The nodes of a benchmark: each listens as a real node does, and asks for prevote and precommit of height after height.
//!
//! A node's own work would take the cores from the signer: one thread per core drives them all, requests are made before they
//! are due, and every signature is verified when all of them are there. In the open loop the clock starts when a request was
//! *due*, so that a signer that stalls pays for everything that waited behind it.

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use semel_devnet_tendermint::consensus::{BlockId, Height, Proposal, Round, SignedVote, Time, Vote, VoteKind};
use semel_devnet_tendermint::privval::{Family, Listen, Listener, ListenerConfig, Remote, RemoteError};
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

/// Waits for the signers of all nodes, measures, and verifies. `begun` is when the signers were started.
pub(crate) fn run(nodes: &[Node], plan: &Plan, begun: Instant) -> Result<Vec<Seen>, RemoteError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(nodes.len()).max(1);
    let together = &Together::new(threads);
    let gone = || RemoteError::Connection(io::Error::other("a node of the benchmark ended early"));
    std::thread::scope(|scope| {
        let group = |index| nodes.iter().skip(index).step_by(threads).collect::<Vec<_>>();
        let spawn = |index| scope.spawn(move || drive(&group(index), plan, begun, together));
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        let ended: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        let seen = ended.into_iter().map(|seen| seen.map_err(|_| gone())?);
        seen.collect::<Result<Vec<Vec<Seen>>, RemoteError>>().map(|seen| seen.into_iter().flatten().collect())
    })
}

/// One thread's nodes, from the call of their signers to the last verified signature.
fn drive(nodes: &[&Node], plan: &Plan, begun: Instant, together: &Together) -> Result<Vec<Seen>, RemoteError> {
    let ready = ready(nodes, plan, begun);
    // Also on a failure: the other threads wait here, and at the end.
    let start = together.begin();
    let asked = ready.and_then(|mut askers| ask_all(&mut askers, start).map(|()| askers));
    together.end();
    asked?.into_iter().map(Asker::verified).collect()
}

fn ready<'p>(nodes: &[&Node], plan: &'p Plan, begun: Instant) -> Result<Vec<Asker<'p>>, RemoteError> {
    let mut askers = Vec::with_capacity(nodes.len());
    for node in nodes {
        let accepted = node.listener.accept(CALL_WAIT);
        let mut remote = accepted.map_err(|error| RemoteError::Connection(io::Error::other(error)))?;
        remote.pub_key()?;
        question(0, plan).ask(&mut remote)?.verify(&remote)?;
        askers.push(Asker::new(remote, plan, begun.elapsed()));
    }
    for asker in &mut askers {
        for index in 1..WARM_UP {
            question(index, plan).ask(&mut asker.remote)?.verify(&asker.remote)?;
        }
    }
    Ok(askers)
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
    /// Nanoseconds from request (or due time) to answer.
    pub(crate) latencies: Vec<u64>,
    pub(crate) refusals: u64,
    /// From the call of the listener to the first verified signature.
    pub(crate) first: Duration,
    pub(crate) took: Duration,
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
}

/// One node's connection, while it is measured.
struct Asker<'p> {
    remote: Remote,
    plan: &'p Plan,
    seen: Seen,
    answers: Vec<Answer>,
    /// How many were asked for, the one that waits for an answer or to be due, and since when it counts.
    asked: usize,
    next: Option<Question>,
    due: Instant,
}

impl<'p> Asker<'p> {
    fn new(remote: Remote, plan: &'p Plan, first: Duration) -> Self {
        let latencies = Vec::with_capacity(plan.requests);
        let seen = Seen { latencies, refusals: 0, first, took: Duration::ZERO };
        let answers = Vec::with_capacity(plan.requests);
        Self { remote, plan, seen, answers, asked: 0, next: None, due: Instant::now() }
    }

    fn is_done(&self) -> bool {
        self.asked == self.plan.requests
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
    fn prepare(&mut self) -> Result<(), RemoteError> {
        if self.next.is_none() && !self.is_done() {
            let question = question(WARM_UP + self.asked, self.plan);
            question.seal(&mut self.remote)?;
            self.next = Some(question);
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), RemoteError> {
        self.prepare()?;
        self.asked += 1;
        self.remote.send_sealed()
    }

    fn receive(&mut self, start: Instant) -> Result<(), RemoteError> {
        let Some(question) = self.next.take() else { return Ok(()) };
        match question.receive(&mut self.remote) {
            Ok(signed) => {
                self.seen.latencies.push(self.due.elapsed().as_nanos() as u64);
                self.answers.push(signed);
            }
            Err(RemoteError::Refused(_)) => self.seen.refusals += 1,
            Err(error) => return Err(error),
        }
        self.seen.took = start.elapsed();
        Ok(())
    }

    fn verified(self) -> Result<Seen, RemoteError> {
        self.answers.iter().try_for_each(|answer| answer.verify(&self.remote))?;
        Ok(self.seen)
    }
}

/// Asks each for everything.
fn ask_all(askers: &mut [Asker<'_>], start: Instant) -> Result<(), RemoteError> {
    let answers = Answers::of(askers)?;
    askers.iter_mut().try_for_each(Asker::prepare)?;
    std::thread::sleep(start.saturating_duration_since(Instant::now()));
    let (mut idle, mut out): (Vec<usize>, usize) = ((0..askers.len()).collect(), 0);
    let mut found = Vec::with_capacity(askers.len());
    loop {
        let now = Instant::now();
        let mut early = Vec::with_capacity(idle.len());
        for index in idle {
            let Some(asker) = askers.get_mut(index).filter(|asker| !asker.is_done()) else { continue };
            if asker.is_due(start, now) {
                asker.send()?;
                out += 1;
            } else {
                early.push(index);
            }
        }
        idle = early;
        let due = idle.iter().filter_map(|index| askers.get(*index)).map(|asker| asker.due).min();
        match (out, due) {
            (0, None) => return Ok(()),
            (0, Some(due)) => {
                askers.iter_mut().try_for_each(Asker::prepare)?;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            (_, due) => answers.wait(askers.len(), due, &mut found)?,
        }
        for index in found.drain(..) {
            askers.get_mut(index).map_or(Ok(()), |asker| asker.receive(start))?;
            idle.push(index);
            out -= 1;
        }
    }
}

/// Where answers come in.
struct Answers(OwnedFd);

impl Answers {
    fn of(askers: &[Asker<'_>]) -> Result<Self, RemoteError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        for (index, asker) in askers.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, asker.remote.socket(), data, epoll::EventFlags::IN).map_err(io::Error::from)?;
        }
        Ok(Self(epoll))
    }

    /// Waits until there is an answer or somebody is to ask, and adds who has one.
    fn wait(&self, askers: usize, due: Option<Instant>, found: &mut Vec<usize>) -> Result<(), RemoteError> {
        if askers == 1 {
            // Reading waits by itself.
            found.push(0);
            return Ok(());
        }
        let timeout = due.map_or(CALL_WAIT, |due| due.saturating_duration_since(Instant::now()));
        let timeout = timeout.try_into().map_err(io::Error::other)?;
        let mut events = Vec::with_capacity(askers);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            looked => looked.map_err(io::Error::from)?,
        };
        if events.is_empty() && due.is_none() {
            return Err(RemoteError::TimedOut);
        }
        found.extend(events.iter().map(|event| event.data.u64() as usize));
        Ok(())
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
