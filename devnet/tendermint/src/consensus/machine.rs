//! One validator's consensus state machine.
//!
//! Time comes in as data with each event. Everything the machine wants done is an [`Effect`]; the order of effects is the
//! order in which they must be carried out. A lock is taken when the precommit is *asked for*: a signature that never comes back
//! may still exist. A signer that refuses costs the vote, not the machine: the timeouts go on.

use super::{
    block::{Block, BlockId, Commit, Height, PAYLOAD_MAX, Round, SharedBlock, Time},
    tally::{HeightVotes, ROUNDS_AHEAD_MAX, RoundVotes},
    timeouts::{Step, Timeout, TimeoutKind, Timeouts},
    validators::ValidatorSet,
    vote::{Proposal, SignRequest, SignedProposal, SignedVote, Verified, Vote, VoteKind},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Proposals kept per round; an honest proposer makes one.
pub const PROPOSALS_PER_ROUND_MAX: usize = 4;

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The node starts, at height 1.
    Start,
    /// The node comes back with its state as it was: timeouts and unanswered signatures are asked for again.
    Restarted,
    /// The payload of blocks we propose from now on; cut at [`PAYLOAD_MAX`].
    Payload(Vec<u8>),
    /// A proposal came from a peer.
    Proposal(Verified<SignedProposal>),
    /// A vote came from a peer.
    Vote(Verified<SignedVote>),
    /// A peer showed that this height is decided.
    Decision(Verified<(SharedBlock, Commit)>),
    /// A timeout ended.
    Timeout(Timeout),
    /// Our signer signed our proposal.
    OwnProposal(Verified<SignedProposal>),
    /// Our signer signed our vote.
    OwnVote(Verified<SignedVote>),
    /// Our signer refused or failed; final for that message.
    SignFailed(SignRequest),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask the signer; strictly in order, one at a time.
    Sign(SignRequest),
    /// Send our proposal to everyone.
    BroadcastProposal(SignedProposal),
    /// Send our vote to everyone.
    BroadcastVote(SignedVote),
    /// Give [`Event::Timeout`] after this long.
    Schedule(Timeout, Duration),
    /// The block is decided, with at least the power that a commit needs.
    Decided(SharedBlock, Commit),
    /// The wait for late precommits of this commit is over.
    Gathered(Commit),
}

/// Who the machine is and how it behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Index of this validator.
    pub me: u32,
    /// The validators, before the first turn.
    pub set: ValidatorSet,
    /// Its patience.
    pub timeouts: Timeouts,
    /// Whether non-nil precommits carry a vote extension.
    pub extensions: bool,
}

#[derive(Debug, Clone)]
struct Candidate {
    signed: SignedProposal,
    valid: bool,
}

#[derive(Debug, Clone)]
struct Last {
    block: SharedBlock,
    id: BlockId,
    round: Round,
    precommits: RoundVotes,
}

impl Last {
    fn commit(&self) -> Commit {
        let signatures = self.precommits.commit_for(self.id);
        Commit { height: self.block.height, round: self.round, block: self.id, signatures }
    }
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Machine {
    settings: Settings,
    /// The set after `height − 1` turns.
    rotation: ValidatorSet,
    height: Height,
    round: Round,
    step: Step,
    locked: Option<(Round, BlockId)>,
    valid: Option<(Round, SharedBlock)>,
    proposals: BTreeMap<Round, Vec<Candidate>>,
    votes: HeightVotes,
    polka_seen: bool,
    prevote_wait: bool,
    precommit_wait: bool,
    unanswered: Vec<SignRequest>,
    last: Option<Last>,
    payload: Vec<u8>,
}

impl Machine {
    /// A machine before [`Event::Start`].
    pub fn new(settings: Settings) -> Self {
        Self {
            rotation: settings.set.clone(),
            settings,
            height: Height::FIRST,
            round: Round(0),
            step: Step::NewHeight,
            locked: None,
            valid: None,
            proposals: BTreeMap::new(),
            votes: HeightVotes::default(),
            polka_seen: false,
            prevote_wait: false,
            precommit_wait: false,
            unanswered: Vec::new(),
            last: None,
            payload: Vec::new(),
        }
    }

    /// Height, round and step.
    pub const fn position(&self) -> (Height, Round, Step) {
        (self.height, self.round, self.step)
    }

    /// Index of this validator.
    pub const fn me(&self) -> u32 {
        self.settings.me
    }

    /// The block it is locked on, and since which round.
    pub const fn locked(&self) -> Option<(Round, BlockId)> {
        self.locked
    }

    /// The proposer of a round of the current height.
    pub fn proposer(&self, round: Round) -> u32 {
        self.rotation.proposer_after(round.0.saturating_add(1))
    }

    /// The last decided block and the precommits for it that were seen so far.
    pub fn last(&self) -> Option<(SharedBlock, Commit)> {
        self.last.as_ref().map(|last| (last.block.clone(), last.commit()))
    }

    /// What a peer in `round` of the current height may lack: proposals and votes of its round, of ours, and of the valid block's.
    pub fn known_at(&self, round: Round) -> (Vec<SignedProposal>, Vec<SignedVote>) {
        let mut rounds = vec![round, self.round];
        rounds.extend(self.valid.as_ref().map(|(round, _)| *round));
        rounds.sort();
        rounds.dedup();
        let proposals = rounds.iter().filter_map(|r| self.proposals.get(r)).flatten().map(|c| c.signed.clone());
        let kinds = [VoteKind::Prevote, VoteKind::Precommit];
        let sides = rounds.iter().flat_map(|r| kinds.iter().filter_map(|kind| self.votes.of(*kind, *r)));
        (proposals.collect(), sides.flat_map(RoundVotes::all).cloned().collect())
    }

    /// Takes one event in and gives what follows from it.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        self.take(now, event, &mut out);
        while self.advance(now, &mut out) {}
        out
    }

    fn take(&mut self, now: Time, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Start if self.last.is_none() && self.step == Step::NewHeight => self.start_round(now, Round(0), out),
            Event::Start => {}
            Event::Restarted => self.resume(now, out),
            Event::Payload(mut payload) => {
                payload.truncate(PAYLOAD_MAX);
                self.payload = payload;
            }
            Event::Proposal(proposal) => self.add_proposal(proposal.into_inner()),
            Event::Vote(vote) => self.add_vote(vote.into_inner()),
            Event::Decision(decision) => {
                let (block, commit) = decision.into_inner();
                self.adopt(block, commit, out);
            }
            Event::Timeout(timeout) => self.timed_out(now, timeout, out),
            Event::OwnProposal(proposal) => {
                let proposal = proposal.into_inner();
                self.answered(&SignRequest::Proposal(proposal.proposal.clone(), proposal.block.clone()));
                self.add_proposal(proposal.clone());
                out.push(Effect::BroadcastProposal(proposal));
            }
            Event::OwnVote(vote) => {
                let vote = vote.into_inner();
                self.answered(&SignRequest::Vote(vote.vote.clone()));
                self.add_vote(vote.clone());
                out.push(Effect::BroadcastVote(vote));
            }
            Event::SignFailed(request) => self.answered(&request),
        }
    }

    fn answered(&mut self, answer: &SignRequest) {
        self.unanswered.retain(|asked| {
            (asked.height(), asked.round(), asked.kind()) != (answer.height(), answer.round(), answer.kind())
        });
    }

    fn resume(&mut self, now: Time, out: &mut Vec<Effect>) {
        let kind = match self.step {
            Step::NewHeight => Some(TimeoutKind::Commit),
            Step::Propose => Some(TimeoutKind::Propose),
            Step::Prevote => self.prevote_wait.then_some(TimeoutKind::PrevoteWait),
            Step::Precommit => None,
        };
        let precommit = (self.precommit_wait && self.step != Step::NewHeight).then_some(TimeoutKind::PrecommitWait);
        for kind in kind.into_iter().chain(precommit) {
            self.schedule(kind, out);
        }
        // A vote is asked for with the time of now, as a node does that replays its log; a proposal is what it was.
        for request in &mut self.unanswered {
            if let SignRequest::Vote(vote) = request {
                vote.time = now;
            }
            out.push(Effect::Sign(request.clone()));
        }
    }

    fn add_proposal(&mut self, signed: SignedProposal) {
        let proposal = &signed.proposal;
        let far = proposal.round.0 > self.round.0.saturating_add(ROUNDS_AHEAD_MAX);
        if proposal.height != self.height
            || far
            || signed.proposer != self.proposer(proposal.round)
            || proposal.pol_round.is_some_and(|pol| pol >= proposal.round)
            || signed.block.id() != proposal.block
        {
            return;
        }
        let valid = self.is_valid(&signed.block, proposal.round);
        let kept = self.proposals.entry(proposal.round).or_default();
        if kept.len() < PROPOSALS_PER_ROUND_MAX && kept.iter().all(|c| c.signed.proposal != signed.proposal) {
            kept.push(Candidate { signed, valid });
        }
    }

    fn add_vote(&mut self, signed: SignedVote) {
        let vote = &signed.vote;
        if vote.height == self.height {
            self.votes.add(self.round, signed);
        } else if let Some(last) = &mut self.last
            && self.step == Step::NewHeight
            && vote.height == last.block.height
            && (vote.kind, vote.round, vote.block) == (VoteKind::Precommit, last.round, Some(last.id))
        {
            last.precommits.add(signed);
        }
    }

    /// The paper's `valid(v)`. Signatures of the last commit were verified before the proposal came here.
    fn is_valid(&self, block: &Block, proposed_in: Round) -> bool {
        let follows = match (&self.last, &block.last_commit) {
            (None, None) => block.previous.is_none(),
            (Some(last), Some(commit)) => {
                block.previous == Some(last.id)
                    && (commit.height, commit.block) == (last.block.height, last.id)
                    && block.time > last.block.time
            }
            _ => false,
        };
        follows
            && block.height == self.height
            && block.round <= proposed_in
            && block.payload.len() <= PAYLOAD_MAX
            && block.proposer == self.proposer(block.round)
    }

    /// One application of the first rule that applies.
    fn advance(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        self.decide(out)
            || self.skip_round(now, out)
            || self.follow_early_proposal(now, out)
            || self.step != Step::NewHeight
                && (self.prevote_on_proposal(now, out)
                    || self.on_polka(now, out)
                    || self.precommit_nil_on_nil_polka(now, out)
                    || self.wait_for_prevotes(out)
                    || self.wait_for_precommits(out))
    }

    /// Line 49: a proposal with more than two thirds of the precommits of any round decides.
    fn decide(&mut self, out: &mut Vec<Effect>) -> bool {
        let found = self.votes.decided(&self.settings.set).find_map(|(round, id)| {
            let candidates = self.proposals.values().flatten();
            let named = candidates.filter(|c| c.valid).find(|c| c.signed.proposal.block == id)?;
            Some((round, id, named.signed.block.clone()))
        });
        let Some((round, id, block)) = found else { return false };
        let precommits = self.votes.of(VoteKind::Precommit, round).cloned().unwrap_or_default();
        self.close_height(Last { block, id, round, precommits }, out);
        true
    }

    fn adopt(&mut self, block: SharedBlock, commit: Commit, out: &mut Vec<Effect>) {
        if commit.height != self.height || !self.is_valid(&block, commit.round) {
            return;
        }
        let mut precommits = self.votes.of(VoteKind::Precommit, commit.round).cloned().unwrap_or_default();
        for entry in commit.signatures {
            let vote = Vote {
                kind: VoteKind::Precommit,
                height: commit.height,
                round: commit.round,
                block: Some(commit.block),
                time: entry.time,
                validator: entry.validator,
                extension: Vec::new(),
            };
            precommits.add(SignedVote { vote, signature: entry.signature, extension_signature: None });
        }
        self.close_height(Last { block, id: commit.block, round: commit.round, precommits }, out);
    }

    fn close_height(&mut self, last: Last, out: &mut Vec<Effect>) {
        self.leave_new_height(out);
        out.push(Effect::Decided(last.block.clone(), last.commit()));
        self.last = Some(last);
        self.rotation.rotate(1);
        self.height = self.height.next();
        self.round = Round(0);
        self.step = Step::NewHeight;
        self.locked = None;
        self.valid = None;
        self.proposals.clear();
        self.votes = HeightVotes::default();
        self.unanswered.retain(|asked| asked.kind() == super::vote::Kind::Precommit);
        self.schedule(TimeoutKind::Commit, out);
    }

    fn leave_new_height(&self, out: &mut Vec<Effect>) {
        if self.step == Step::NewHeight
            && let Some(last) = &self.last
        {
            out.push(Effect::Gathered(last.commit()));
        }
    }

    /// Line 55: more than one third are ahead, so an honest one is.
    fn skip_round(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        let Some(round) = self.votes.skip_to(&self.settings.set, self.round) else { return false };
        self.start_round(now, round, out);
        true
    }

    /// A proposal for the new height shows that its proposer no longer waits: late precommits have nowhere to go, and a node
    /// that waited on could see the height decided before it has voted.
    fn follow_early_proposal(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        let due = self.step == Step::NewHeight
            && self.proposals.get(&Round(0)).is_some_and(|candidates| candidates.iter().any(|c| c.valid));
        if due {
            self.start_round(now, Round(0), out);
        }
        due
    }

    /// Line 11.
    fn start_round(&mut self, now: Time, round: Round, out: &mut Vec<Effect>) {
        self.leave_new_height(out);
        self.round = round;
        self.step = Step::Propose;
        self.polka_seen = false;
        self.prevote_wait = false;
        self.precommit_wait = false;
        self.unanswered.clear();
        self.schedule(TimeoutKind::Propose, out);
        if self.proposer(round) == self.settings.me {
            self.propose(now, out);
        }
    }

    fn propose(&mut self, now: Time, out: &mut Vec<Effect>) {
        let (block, pol_round) = match &self.valid {
            Some((round, block)) => (block.clone(), Some(*round)),
            None => (Arc::new(self.new_block(now)), None),
        };
        let proposal = Proposal { height: self.height, round: self.round, pol_round, block: block.id(), time: now };
        self.ask(SignRequest::Proposal(proposal, block), out);
    }

    fn new_block(&self, now: Time) -> Block {
        let earliest = self.last.as_ref().map_or(now, |last| after(last.block.time));
        Block {
            height: self.height,
            round: self.round,
            proposer: self.settings.me,
            time: now.max(earliest),
            previous: self.last.as_ref().map(|last| last.id),
            last_commit: self.last.as_ref().map(Last::commit),
            payload: self.payload.clone(),
        }
    }

    /// Lines 22 and 28: prevote on the proposal, unless the lock forbids it.
    fn prevote_on_proposal(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        if self.step != Step::Propose {
            return false;
        }
        let set = &self.settings.set;
        let verdict = self.proposals.get(&self.round).into_iter().flatten().find_map(|candidate| {
            let proposal = &candidate.signed.proposal;
            let free = match proposal.pol_round {
                None => self.locked.is_none_or(|(_, id)| id == proposal.block),
                Some(pol) => {
                    if !self.votes.has_quorum_for(set, VoteKind::Prevote, pol, Some(proposal.block)) {
                        return None;
                    }
                    self.locked.is_none_or(|(round, id)| round <= pol || id == proposal.block)
                }
            };
            Some((candidate.valid && free).then_some(proposal.block))
        });
        let Some(block) = verdict else { return false };
        self.cast(now, VoteKind::Prevote, block, out);
        true
    }

    /// Line 36: more than two thirds prevoted for a valid proposal of this round.
    fn on_polka(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        if self.polka_seen || self.step < Step::Prevote {
            return false;
        }
        let Some(Some(id)) = self.votes.quorum(&self.settings.set, VoteKind::Prevote, self.round) else { return false };
        let candidates = self.proposals.get(&self.round).into_iter().flatten();
        let Some(block) =
            candidates.filter(|c| c.valid).find(|c| c.signed.proposal.block == id).map(|c| c.signed.block.clone())
        else {
            return false;
        };
        self.polka_seen = true;
        self.valid = Some((self.round, block));
        if self.step == Step::Prevote {
            self.locked = Some((self.round, id));
            self.cast(now, VoteKind::Precommit, Some(id), out);
        }
        true
    }

    /// Line 44.
    fn precommit_nil_on_nil_polka(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        let nil = self.step == Step::Prevote
            && self.votes.has_quorum_for(&self.settings.set, VoteKind::Prevote, self.round, None);
        if nil {
            self.cast(now, VoteKind::Precommit, None, out);
        }
        nil
    }

    /// Line 34.
    fn wait_for_prevotes(&mut self, out: &mut Vec<Effect>) -> bool {
        let due = self.step == Step::Prevote
            && !self.prevote_wait
            && self.votes.has_quorum_of_any(&self.settings.set, VoteKind::Prevote, self.round);
        if due {
            self.prevote_wait = true;
            self.schedule(TimeoutKind::PrevoteWait, out);
        }
        due
    }

    /// Line 47.
    fn wait_for_precommits(&mut self, out: &mut Vec<Effect>) -> bool {
        let due =
            !self.precommit_wait && self.votes.has_quorum_of_any(&self.settings.set, VoteKind::Precommit, self.round);
        if due {
            self.precommit_wait = true;
            self.schedule(TimeoutKind::PrecommitWait, out);
        }
        due
    }

    /// Lines 57, 61 and 65, and the end of the wait after a commit.
    fn timed_out(&mut self, now: Time, timeout: Timeout, out: &mut Vec<Effect>) {
        if (timeout.height, timeout.round) != (self.height, self.round) {
            return;
        }
        match (timeout.kind, self.step) {
            (TimeoutKind::Commit, Step::NewHeight) => self.start_round(now, Round(0), out),
            (TimeoutKind::Propose, Step::Propose) => self.cast(now, VoteKind::Prevote, None, out),
            (TimeoutKind::PrevoteWait, Step::Prevote) => self.cast(now, VoteKind::Precommit, None, out),
            (TimeoutKind::PrecommitWait, Step::Propose | Step::Prevote | Step::Precommit) => {
                self.start_round(now, self.round.next(), out);
            }
            _ => {}
        }
    }

    fn cast(&mut self, now: Time, kind: VoteKind, block: Option<BlockId>, out: &mut Vec<Effect>) {
        self.step = match kind {
            VoteKind::Prevote => Step::Prevote,
            VoteKind::Precommit => Step::Precommit,
        };
        let extended = self.settings.extensions && kind == VoteKind::Precommit && block.is_some();
        let extension = if extended { format!("{}/{}", self.height, self.round).into_bytes() } else { Vec::new() };
        let (height, round, validator) = (self.height, self.round, self.settings.me);
        self.ask(SignRequest::Vote(Vote { kind, height, round, block, time: now, validator, extension }), out);
    }

    fn ask(&mut self, request: SignRequest, out: &mut Vec<Effect>) {
        self.unanswered.push(request.clone());
        out.push(Effect::Sign(request));
    }

    fn schedule(&self, kind: TimeoutKind, out: &mut Vec<Effect>) {
        let timeout = Timeout { height: self.height, round: self.round, kind };
        out.push(Effect::Schedule(timeout, self.settings.timeouts.of(&timeout)));
    }
}

/// The next moment, for blocks whose time must rise.
fn after(time: Time) -> Time {
    if time.nanos < 999_999_999 {
        Time { seconds: time.seconds, nanos: time.nanos.saturating_add(1) }
    } else {
        Time { seconds: time.seconds.saturating_add(1), nanos: 0 }
    }
}
