//! The nodes of a benchmark: each listens as a real node does, and asks for prevote and precommit of height after height.
//!
//! Every signature is verified, when all of them are there: a node's own work would take the cores from the signer. In the open loop the clock starts when a request was *due*, so that a
//! signer that stalls pays for everything that waited behind it.

use semel_devnet_tendermint::consensus::{BlockId, Height, Proposal, Round, SignedVote, Time, Vote, VoteKind};
use semel_devnet_tendermint::privval::{Family, Listen, Listener, ListenerConfig, Remote, RemoteError};
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

/// What all nodes begin and end with together.
pub(crate) struct Together {
    ready: Barrier,
    start: OnceLock<Instant>,
}

impl Together {
    /// For this many nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        Self { ready: Barrier::new(nodes), start: OnceLock::new() }
    }

    /// Waits for all nodes; the moment from which they count, the same for each.
    fn begin(&self) -> Instant {
        self.ready.wait();
        *self.start.get_or_init(|| Instant::now() + LEAD)
    }

    /// Waits until all nodes have their last answer.
    fn end(&self) {
        self.ready.wait();
    }
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
    pub(crate) fn open(chain: &str, plan: &Plan, unix: Option<PathBuf>) -> std::io::Result<Self> {
        let mut identity = [0; 32];
        getrandom::fill(&mut identity).map_err(|error| std::io::Error::other(error.to_string()))?;
        let listen = unix.map_or_else(|| Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), Listen::Unix);
        let chain = chain.to_owned();
        let extensions = plan.extension_len.is_some();
        let listener = Listener::bind(ListenerConfig { listen, chain, family: plan.family, extensions, identity })?;
        let address = listener.address().to_string();
        Ok(Self { listener, address })
    }

    /// Waits for the signer, warms up, waits for all other nodes, measures, and verifies.
    pub(crate) fn run(&self, plan: &Plan, begun: Instant, together: &Together) -> Result<Seen, RemoteError> {
        let ready = self.ready(plan, begun);
        // Also on a failure: the other nodes wait here, and at the end.
        let start = together.begin();
        let asked =
            ready.and_then(|(mut remote, first)| ask_all(&mut remote, plan, start, first).map(|all| (remote, all)));
        together.end();
        let (remote, (seen, answers)) = asked?;
        answers.iter().try_for_each(|answer| answer.verify(&remote))?;
        Ok(seen)
    }

    fn ready(&self, plan: &Plan, begun: Instant) -> Result<(Remote, Duration), RemoteError> {
        let accepted = self.listener.accept(CALL_WAIT);
        let mut remote = accepted.map_err(|error| RemoteError::Connection(std::io::Error::other(error)))?;
        remote.pub_key()?;
        let mut first = None;
        for index in 0..WARM_UP {
            question(index, plan).ask(&mut remote)?.verify(&remote)?;
            first.get_or_insert_with(|| begun.elapsed());
        }
        Ok((remote, first.unwrap_or_default()))
    }
}

/// Everything that one node asks for, and what came back.
fn ask_all(
    remote: &mut Remote,
    plan: &Plan,
    start: Instant,
    first: Duration,
) -> Result<(Seen, Vec<Answer>), RemoteError> {
    let mut seen = Seen { latencies: Vec::with_capacity(plan.requests), refusals: 0, first, took: Duration::ZERO };
    let mut answers = Vec::with_capacity(plan.requests);
    std::thread::sleep(start.saturating_duration_since(Instant::now()));
    for index in 0..plan.requests {
        let question = question(WARM_UP + index, plan);
        let due = match plan.interval {
            Some(interval) => {
                let due = start + interval * u32::try_from(index).unwrap_or(u32::MAX);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                due
            }
            None => Instant::now(),
        };
        match question.ask(remote) {
            Ok(signed) => {
                seen.latencies.push(due.elapsed().as_nanos() as u64);
                answers.push(signed);
            }
            Err(RemoteError::Refused(_)) => seen.refusals += 1,
            Err(error) => return Err(error),
        }
    }
    seen.took = start.elapsed();
    Ok((seen, answers))
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
        Ok(match self {
            Self::Proposal(proposal) => {
                let (proposal, signature) = remote.ask_proposal(proposal)?;
                Answer::Proposal(proposal, signature)
            }
            Self::Vote(vote) => Answer::Vote(remote.ask_vote(vote)?),
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
