//! A small signer to call at a node's listener: the signer's codec of `semel_kms`, keys in memory, and some bad habits.

#![expect(unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use ed25519_dalek::{Signer as _, SigningKey};
use semel_devnet_tendermint::{
    consensus::{self, BlockId, Height, Round, SignRequest, Signed, Time, VoteKind},
    network::{OnceSigner, Unsigned, VoteSigner as _},
    privval::{Family, Listen},
};
use semel_guard::{Algorithm, PublicKey};
use semel_kms::{
    core::secret::{Established, Expect, Handshake, Identity, Progress},
    wire::{self, Delimited, ErrorReply, Request, Response},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::Sender,
    },
    thread::JoinHandle,
    time::Duration,
};

/// What a signer does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Habit {
    #[default]
    None,
    FlipsSignature,
    ShortSignature,
    OtherHeight,
    OtherRound,
    OtherType,
    OtherBlock,
    OtherIndex,
    OtherAddress,
    OtherTime,
    ExtendsEverything,
    NeverExtends,
    Refuses,
    Hangs,
    Closes,
    /// Signs, and every seventh time hangs up instead of answering.
    ClosesOften,
    Garbage,
    Endless,
    AnswersPing,
    OtherKey,
}

/// A signer's key and memory; shared by its connections, as one process with many nodes is.
#[derive(Clone)]
pub struct Peer {
    pub chain: String,
    pub family: Family,
    pub habit: Habit,
    key: [u8; 32],
    memory: Arc<Mutex<OnceSigner>>,
    pings: Option<Sender<()>>,
    asked: Arc<AtomicU64>,
}

struct Me(SigningKey);

impl Identity for Me {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64] {
        self.0.sign(challenge).to_bytes()
    }
}

impl Peer {
    pub fn new(seed: [u8; 32], chain: &str, family: Family) -> Self {
        let signer = OnceSigner::new(seed, chain, family.encoding());
        let key = signer.public_key();
        Self {
            chain: chain.into(),
            family,
            habit: Habit::None,
            key,
            memory: Arc::new(Mutex::new(signer)),
            pings: None,
            asked: Arc::default(),
        }
    }

    pub fn reckless(seed: [u8; 32], chain: &str, family: Family) -> Self {
        let signer = OnceSigner::reckless(seed, chain, family.encoding());
        Self { memory: Arc::new(Mutex::new(signer)), ..Self::new(seed, chain, family) }
    }

    pub fn with(mut self, habit: Habit) -> Self {
        self.habit = habit;
        self
    }

    /// Tells of each ping.
    pub fn tell_pings(mut self, pings: Sender<()>) -> Self {
        self.pings = Some(pings);
        self
    }

    pub fn key(&self) -> [u8; 32] {
        self.key
    }

    /// Calls at `address` again and again until the node is gone for good.
    pub fn call(&self, address: &Listen) -> JoinHandle<()> {
        let (peer, address) = (self.clone(), address.clone());
        std::thread::spawn(move || {
            let mut misses = 0;
            while misses < 5 {
                let connected = match &address {
                    Listen::Tcp(address) => TcpStream::connect(address).map(|s| peer.serve_tcp(s)),
                    Listen::Unix(path) => UnixStream::connect(path).map(|s| peer.serve(s, None, Vec::new())),
                };
                misses = if connected.is_ok() { 0 } else { misses + 1 };
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    }

    fn serve_tcp(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        // The node is told apart by what it says first, as a signer without configuration does it.
        let mut ephemeral = [0; 32];
        getrandom::fill(&mut ephemeral).unwrap();
        let mut handshake = Handshake::new(Expect::Auto, ephemeral);
        let me = Me(SigningKey::from_bytes(&[99; 32]));
        let mut chunk = [0; 4096];
        loop {
            let Ok(read @ 1..) = stream.read(&mut chunk) else { return };
            let mut out = Vec::new();
            let Ok(progress) = handshake.push(&chunk[..read], &me, &mut out) else { return };
            if stream.write_all(&out).is_err() {
                return;
            }
            if let Progress::Established(mut established) = progress {
                let rest = std::mem::take(&mut established.rest);
                return self.serve(stream, Some(established), rest);
            }
        }
    }

    fn serve(&self, mut stream: impl Read + Write, mut secret: Option<Box<Established>>, rest: Vec<u8>) {
        let mut delimited = Delimited::new(1 << 20);
        delimited.buffer().extend_from_slice(&rest);
        let mut chunk = [0; 8192];
        loop {
            while let Some(message) = delimited.next_message().unwrap() {
                let family = wire::family_of(message).unwrap();
                let Some(answer) = self.answer(Request::decode(family, message).unwrap(), family) else { return };
                let mut out = Vec::new();
                match &mut secret {
                    Some(secret) => secret.sealer.seal(&answer, &mut out).unwrap(),
                    None => out = answer,
                }
                if stream.write_all(&out).is_err() {
                    return;
                }
            }
            let Ok(read @ 1..) = stream.read(&mut chunk) else { return };
            match &mut secret {
                Some(secret) => secret.opener.push(&chunk[..read], delimited.buffer()).unwrap(),
                None => delimited.buffer().extend_from_slice(&chunk[..read]),
            }
        }
    }

    fn answer(&self, request: Request, family: wire::Family) -> Option<Vec<u8>> {
        if !matches!(request, Request::PubKey { .. } | Request::Ping) {
            match self.habit {
                Habit::Closes => return None,
                Habit::Hangs => std::thread::sleep(Duration::from_secs(60)),
                Habit::Garbage => return Some(vec![3, 0xff, 0xff, 0xff]),
                Habit::Endless => return Some(vec![0xff, 0xff, 0xff, 0x7f]),
                Habit::AnswersPing => return Some(Response::Ping.encode(family)),
                _ => {}
            }
        }
        let refused = || ErrorReply { code: 2, description: "a test says no".into() };
        let response = match request {
            Request::PubKey { chain_id } => {
                assert!(chain_id == self.chain || (family == wire::Family::Amino && chain_id.is_empty()));
                let key = if self.habit == Habit::OtherKey { public_key([200; 32]) } else { self.key };
                Response::PubKey(Ok(PublicKey::new(Algorithm::Ed25519, &key).unwrap()))
            }
            Request::Ping => {
                if let Some(pings) = &self.pings {
                    let _nobody_listens = pings.send(());
                }
                Response::Ping
            }
            Request::SignVote { vote, .. } => Response::SignedVote(match self.habit {
                Habit::Refuses => Err(refused()),
                _ => self.vote(vote),
            }),
            Request::SignProposal { proposal, .. } => Response::SignedProposal(match self.habit {
                Habit::Refuses => Err(refused()),
                _ => self.proposal(proposal),
            }),
            other => panic!("{other:?}"),
        };
        let seventh = self.asked.fetch_add(1, Ordering::Relaxed) % 7 == 6;
        (self.habit != Habit::ClosesOften || !seventh).then(|| response.encode(family))
    }

    fn vote(&self, mut vote: wire::Vote) -> Result<wire::Vote, ErrorReply> {
        let kind = if vote.kind == 1 { VoteKind::Prevote } else { VoteKind::Precommit };
        let request = SignRequest::Vote(consensus::Vote {
            kind,
            height: Height(vote.height as u64),
            round: Round(vote.round as u32),
            block: block_id(&vote.block_id),
            time: time(vote.timestamp),
            validator: vote.validator_index as u32,
            extension: vote.extension.clone(),
        });
        let Signed::Vote(signed) = self.sign(&request)? else { unreachable!() };
        vote.timestamp = wire::Timestamp { seconds: signed.vote.time.seconds, nanos: signed.vote.time.nanos as i32 };
        vote.signature = signed.signature.to_vec();
        vote.extension_signature = signed.extension_signature.map(|s| s.to_vec()).unwrap_or_default();
        match self.habit {
            Habit::FlipsSignature => vote.signature[9] ^= 4,
            Habit::ShortSignature => vote.signature.truncate(63),
            Habit::OtherHeight => vote.height += 1,
            Habit::OtherRound => vote.round += 1,
            Habit::OtherType => vote.kind = 3 - vote.kind,
            Habit::OtherBlock => vote.block_id = wire::BlockId::default(),
            Habit::OtherIndex => vote.validator_index += 1,
            Habit::OtherAddress => vote.validator_address = vec![7; 20],
            Habit::OtherTime => vote.timestamp.seconds -= 1,
            Habit::ExtendsEverything => vote.extension_signature = vec![1; 64],
            Habit::NeverExtends => vote.extension_signature = Vec::new(),
            _ => {}
        }
        Ok(vote)
    }

    fn proposal(&self, mut proposal: wire::Proposal) -> Result<wire::Proposal, ErrorReply> {
        let block = block_id(&proposal.block_id).unwrap();
        let pol_round = u32::try_from(proposal.pol_round).ok().map(Round);
        let (height, round) = (Height(proposal.height as u64), Round(proposal.round as u32));
        let asked = consensus::Proposal { height, round, pol_round, block, time: time(proposal.timestamp) };
        let carrier = Arc::new(consensus::Block {
            height,
            round,
            proposer: 0,
            time: asked.time,
            previous: None,
            last_commit: None,
            payload: Vec::new(),
        });
        let Signed::Proposal(signed) = self.sign(&SignRequest::Proposal(asked, carrier))? else { unreachable!() };
        let time = signed.proposal.time;
        proposal.timestamp = wire::Timestamp { seconds: time.seconds, nanos: time.nanos as i32 };
        proposal.signature = signed.signature.to_vec();
        match self.habit {
            Habit::FlipsSignature => proposal.signature[9] ^= 4,
            Habit::OtherHeight => proposal.height += 1,
            Habit::OtherBlock => proposal.block_id.hash = vec![9; 32],
            _ => {}
        }
        Ok(proposal)
    }

    fn sign(&self, request: &SignRequest) -> Result<Signed, ErrorReply> {
        self.memory.lock().unwrap().sign(0, request).map_err(|unsigned| match unsigned {
            Unsigned::Refused { code, description } => ErrorReply { code, description },
            Unsigned::Failed(description) => ErrorReply { code: 1, description },
        })
    }
}

pub fn public_key(seed: [u8; 32]) -> [u8; 32] {
    semel_devnet_tendermint::public_key(&seed)
}

fn time(timestamp: wire::Timestamp) -> Time {
    Time { seconds: timestamp.seconds, nanos: timestamp.nanos as u32 }
}

fn block_id(id: &wire::BlockId) -> Option<BlockId> {
    (!id.is_nil()).then(|| BlockId {
        hash: id.hash.clone().try_into().unwrap(),
        parts_total: id.parts.total,
        parts_hash: id.parts.hash.clone().try_into().unwrap(),
    })
}
