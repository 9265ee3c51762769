//! A node: the consensus machine with signature checks, a block store, and gossip. No I/O.
//!
//! Gossip is quiet while blocks are made: a node that stands still for a tick says where it stands ([`Status`]), and its peers
//! send what it may lack: decided blocks, or proposals and votes of its height.

use crate::{
    consensus::{
        Block, BlockId, Commit, Effect, Event, Height, Kind, Machine, Proposal, Round, Settings, SharedBlock,
        SignRequest, Signed, SignedProposal, SignedVote, Step, Time, Timeout, Vote,
    },
    evidence::Pool,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Decided blocks that a node keeps; a peer that is further behind cannot catch up from it.
pub const STORE_MAX: usize = 1_000;
/// Blocks sent to a lagging peer at once.
pub const CATCH_UP_MAX: usize = 16;
/// How often a node looks whether it stands still.
pub const TICK: Duration = Duration::from_millis(100);

/// How a node behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conduct {
    /// By the rules.
    #[default]
    Honest,
    /// Asks its signer for a contradicting twin of every message, and tells one half of the network this, the other that.
    Equivocating,
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its height.
    pub height: Height,
    /// Its round.
    pub round: Round,
    /// Its step.
    pub step: Step,
}

/// What nodes tell each other.
#[derive(Debug, Clone)]
pub enum Message {
    /// A proposal with its block.
    Proposal(SignedProposal),
    /// A vote.
    Vote(SignedVote),
    /// Where the sender stands.
    Status(Status),
    /// A decided block and why it is.
    Decision(SharedBlock, Commit),
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// Every other node.
    All,
    /// The other nodes with an even index, or with an odd one.
    Half {
        /// Which half.
        odd: bool,
    },
    /// One node.
    One(usize),
}

/// What reaches a node.
#[derive(Debug, Clone)]
pub enum Input {
    /// The network starts.
    Start,
    /// The node comes back after a restart.
    Restarted,
    /// [`TICK`] has passed.
    Tick,
    /// A timeout ended.
    Timeout(Timeout),
    /// A message came.
    Message(usize, Message),
    /// The signer signed.
    Signed(SignRequest, Signed),
    /// The signer did not sign.
    NotSigned(SignRequest),
    /// The payload of blocks from now on.
    Payload(Vec<u8>),
}

/// What a node wants done, in order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Ask the signer.
    Sign(SignRequest),
    /// Send.
    Send(Recipient, Message),
    /// Give [`Input::Timeout`] after this long.
    Schedule(Timeout, Duration),
    /// A block was decided here.
    Decided(SharedBlock, Commit),
    /// All precommits that came in time for a commit.
    Gathered(Commit),
}

/// A pool shared by the nodes of one process: a signature is verified once, a contradiction is seen wherever it shows.
pub type SharedPool = Arc<Mutex<Pool>>;

/// Locks, also after another thread died with the lock: counters and evidence stay readable.
pub(crate) fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the [module](self).
#[derive(Debug)]
pub struct Node {
    machine: Machine,
    pool: SharedPool,
    conduct: Conduct,
    store: VecDeque<(SharedBlock, Commit)>,
    last_tick: Option<(Height, Round, Step)>,
    /// What an equivocator asked for beside what the rules say; of the current and the last height.
    twins: Vec<Claim>,
}

impl Node {
    /// A node before its start.
    pub fn new(settings: Settings, pool: SharedPool, conduct: Conduct) -> Self {
        Self {
            machine: Machine::new(settings),
            pool,
            conduct,
            store: VecDeque::new(),
            last_tick: None,
            twins: Vec::new(),
        }
    }

    /// Where it stands.
    pub const fn status(&self) -> Status {
        let (height, round, step) = self.machine.position();
        Status { height, round, step }
    }

    /// The proposer of the current round.
    pub fn proposer(&self) -> u32 {
        self.machine.proposer(self.status().round)
    }

    /// Takes one input in.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        let event = match input {
            Input::Start => Event::Start,
            Input::Restarted => Event::Restarted,
            Input::Timeout(timeout) => Event::Timeout(timeout),
            Input::NotSigned(request) if self.twins.contains(&claim(&request)) => return Vec::new(),
            Input::NotSigned(request) => Event::SignFailed(request),
            Input::Payload(payload) => Event::Payload(payload),
            Input::Tick => return self.tick(),
            Input::Message(from, Message::Status(status)) => return self.help(from, status),
            Input::Message(_, message) => match self.verify(message) {
                Some(event) => event,
                None => return Vec::new(),
            },
            Input::Signed(request, signed) => match self.signed(&request, signed) {
                Ok(event) => event,
                Err(outputs) => return outputs,
            },
        };
        let effects = self.machine.handle(now, event);
        let mut out = Vec::with_capacity(effects.len());
        effects.into_iter().for_each(|effect| self.carry_out(effect, &mut out));
        out
    }

    fn carry_out(&mut self, effect: Effect, out: &mut Vec<Output>) {
        match effect {
            Effect::Sign(request) => {
                let twin = (self.conduct == Conduct::Equivocating).then(|| self.twin(&request));
                self.twins.extend(twin.as_ref().map(claim));
                out.push(Output::Sign(request));
                out.extend(twin.map(Output::Sign));
            }
            Effect::BroadcastProposal(proposal) => out.push(Output::Send(self.audience(), Message::Proposal(proposal))),
            Effect::BroadcastVote(vote) => out.push(Output::Send(self.audience(), Message::Vote(vote))),
            Effect::Schedule(timeout, after) => out.push(Output::Schedule(timeout, after)),
            Effect::Decided(block, commit) => {
                locked(&self.pool).decided(block.height);
                self.twins.retain(|(height, ..)| *height >= block.height);
                self.store.push_back((block.clone(), commit.clone()));
                if self.store.len() > STORE_MAX {
                    self.store.pop_front();
                }
                out.push(Output::Decided(block, commit));
            }
            Effect::Gathered(commit) => {
                if let Some((_, kept)) = self.store.back_mut().filter(|(_, kept)| kept.height == commit.height) {
                    kept.clone_from(&commit);
                }
                out.push(Output::Gathered(commit));
            }
        }
    }

    const fn audience(&self) -> Recipient {
        match self.conduct {
            Conduct::Honest => Recipient::All,
            Conduct::Equivocating => Recipient::Half { odd: false },
        }
    }

    fn verify(&self, message: Message) -> Option<Event> {
        let mut pool = locked(&self.pool);
        match message {
            Message::Proposal(proposal) => pool.proposal(proposal).ok().map(Event::Proposal),
            Message::Vote(vote) => pool.vote(vote).ok().map(Event::Vote),
            Message::Decision(block, commit) => {
                let wanted = block.height == self.machine.position().0;
                wanted.then(|| pool.decision(block, commit).ok().map(Event::Decision)).flatten()
            }
            Message::Status(_) => None,
        }
    }

    /// An event for the machine, or, for the twin of an equivocator, what to do with it instead.
    fn signed(&self, request: &SignRequest, signed: Signed) -> Result<Event, Vec<Output>> {
        let mut pool = locked(&self.pool);
        let failed = Event::SignFailed(request.clone());
        let twin = self.twins.contains(&claim(request));
        let half = Recipient::Half { odd: true };
        match signed {
            Signed::Proposal(proposal) => match pool.proposal(proposal) {
                Ok(proposal) if twin => Err(vec![Output::Send(half, Message::Proposal(proposal.into_inner()))]),
                Ok(proposal) => Ok(Event::OwnProposal(proposal)),
                Err(_) => Ok(failed),
            },
            Signed::Vote(vote) => match pool.vote(vote) {
                Ok(vote) if twin => Err(vec![Output::Send(half, Message::Vote(vote.into_inner()))]),
                Ok(vote) => Ok(Event::OwnVote(vote)),
                Err(_) => Ok(failed),
            },
        }
    }

    /// The same message for something else; all equivocators agree on what.
    fn twin(&self, request: &SignRequest) -> SignRequest {
        match request {
            SignRequest::Proposal(proposal, block) => {
                let block = Arc::new(twin_block(block));
                SignRequest::Proposal(Proposal { block: block.id(), ..proposal.clone() }, block)
            }
            SignRequest::Vote(vote) => {
                let (proposals, _) = self.machine.known_at(vote.round);
                let original = proposals.iter().find(|known| Some(known.proposal.block) == vote.block);
                SignRequest::Vote(match original {
                    Some(known) => Vote { block: Some(twin_block(&known.block).id()), ..vote.clone() },
                    None => contradicting(vote),
                })
            }
        }
    }

    fn tick(&mut self) -> Vec<Output> {
        let here = self.machine.position();
        let still = self.last_tick.replace(here) == Some(here);
        if still { vec![Output::Send(Recipient::All, Message::Status(self.status()))] } else { Vec::new() }
    }

    fn help(&self, from: usize, status: Status) -> Vec<Output> {
        let to = |message| Output::Send(Recipient::One(from), message);
        let (height, ..) = self.machine.position();
        if status.height < height {
            let lacking = self.store.iter().filter(|(block, _)| block.height >= status.height);
            let decisions = lacking.take(CATCH_UP_MAX);
            decisions.map(|(block, commit)| to(Message::Decision(block.clone(), commit.clone()))).collect()
        } else if status.height == height {
            let (proposals, votes) = self.machine.known_at(status.round);
            let proposals = proposals.into_iter().map(Message::Proposal);
            proposals.chain(votes.into_iter().map(Message::Vote)).map(to).collect()
        } else {
            Vec::new()
        }
    }
}

/// Payload of a twin block.
const TWIN_MARK: &[u8] = b"twin";
/// Hash of the block that a twin of a nil vote names.
const TWIN_HASH: [u8; 32] = [0x2b; 32];

/// The same block with another payload.
fn twin_block(block: &Block) -> Block {
    Block { payload: TWIN_MARK.to_vec(), ..block.clone() }
}

/// A vote for something else at the same place.
pub fn contradicting(vote: &Vote) -> Vote {
    let block = match vote.block {
        Some(_) => None,
        None => Some(BlockId { hash: TWIN_HASH, parts_total: 1, parts_hash: TWIN_HASH }),
    };
    Vote { block, extension: Vec::new(), ..vote.clone() }
}

type Claim = (Height, Round, Kind, Option<BlockId>);

fn claim(request: &SignRequest) -> Claim {
    (request.height(), request.round(), request.kind(), request.block())
}
