//! One machine against hand-made messages: the locking rules, the thresholds and the timeouts of the paper.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use semel_devnet_tendermint::{
    consensus::{
        Block, BlockId, Effect, Encoding, Event, Height, Kind, Machine, Proposal, Round, Settings, SharedBlock,
        SignRequest, Signed, SignedProposal, SignedVote, Step, Time, Timeout, TimeoutKind, Timeouts, Validator,
        ValidatorSet, Vote, VoteKind, block::PAYLOAD_MAX,
    },
    evidence::{Pool, Rejected},
    network::{OnceSigner, VoteSigner as _},
};
use std::sync::Arc;

const CHAIN: &str = "rules";
const NOW: Time = Time { seconds: 1_700_000_000, nanos: 0 };

/// A machine and the signers of everyone around it. Proposers of rounds 0, 1, 2, … are validators 0, 1, 2, …; the machine is the last.
struct Stage {
    machine: Machine,
    pool: Pool,
    signers: Vec<OnceSigner>,
    me: u32,
    round: Round,
}

impl Stage {
    fn new(powers: &[u64]) -> Self {
        let mut signers: Vec<OnceSigner> =
            (0..powers.len() as u8).map(|n| OnceSigner::reckless([n + 1; 32], CHAIN, Encoding::Protobuf)).collect();
        signers.sort_by_key(|signer| Validator { key: signer.public_key(), power: 1 }.address());
        let list = signers.iter().zip(powers).map(|(s, power)| Validator { key: s.public_key(), power: *power });
        let set = ValidatorSet::new(list.collect()).unwrap();
        let me = set.count() - 1;
        let pool = Pool::new(CHAIN, Encoding::Protobuf, false, &set).unwrap();
        let settings = Settings { me, set, timeouts: Timeouts::default(), extensions: false };
        let mut stage = Self { machine: Machine::new(settings), pool, signers, me, round: Round(0) };
        stage.machine.handle(NOW, Event::Start);
        stage
    }

    /// Feeds an event and signs whatever the machine asks for; gives what it asked.
    fn feed(&mut self, event: Event) -> Vec<(Kind, u32, Option<BlockId>)> {
        let mut asked = Vec::new();
        let mut effects: Vec<Effect> = self.machine.handle(NOW, event);
        while !effects.is_empty() {
            let mut next = Vec::new();
            for effect in effects {
                if let Effect::Sign(request) = effect {
                    asked.push((request.kind(), request.round().0, request.block()));
                    let signed = self.signers[self.me as usize].sign(self.me, &request).unwrap();
                    let event = match signed {
                        Signed::Proposal(proposal) => Event::OwnProposal(self.pool.proposal(proposal).unwrap()),
                        Signed::Vote(vote) => Event::OwnVote(self.pool.vote(vote).unwrap()),
                    };
                    next.extend(self.machine.handle(NOW, event));
                }
            }
            effects = next;
        }
        self.round = self.machine.position().1;
        asked
    }

    fn block(&self, round: u32, payload: &str) -> SharedBlock {
        Arc::new(Block {
            height: Height(1),
            round: Round(round),
            proposer: round,
            time: NOW,
            previous: None,
            last_commit: None,
            payload: payload.as_bytes().to_vec(),
        })
    }

    fn propose(&mut self, round: u32, pol: Option<u32>, block: &SharedBlock) -> Vec<(Kind, u32, Option<BlockId>)> {
        self.propose_by(round, round, pol, block)
    }

    fn propose_by(
        &mut self,
        by: u32,
        round: u32,
        pol: Option<u32>,
        block: &SharedBlock,
    ) -> Vec<(Kind, u32, Option<BlockId>)> {
        let pol_round = pol.map(Round);
        let height = Height(self.step().0);
        let proposal = Proposal { height, round: Round(round), pol_round, block: block.id(), time: NOW };
        let request = SignRequest::Proposal(proposal, block.clone());
        let Signed::Proposal(signed) = self.signers[by as usize].sign(by, &request).unwrap() else { unreachable!() };
        let verified = self.pool.proposal(signed).unwrap();
        self.feed(Event::Proposal(verified))
    }

    fn vote(
        &mut self,
        by: u32,
        kind: VoteKind,
        round: u32,
        block: Option<BlockId>,
    ) -> Vec<(Kind, u32, Option<BlockId>)> {
        let (height, round) = (Height(1), Round(round));
        let vote = Vote { kind, height, round, block, time: NOW, validator: by, extension: Vec::new() };
        let Signed::Vote(signed) = self.signers[by as usize].sign(by, &SignRequest::Vote(vote)).unwrap() else {
            unreachable!()
        };
        let verified = self.pool.vote(signed).unwrap();
        self.feed(Event::Vote(verified))
    }

    fn timeout(&mut self, kind: TimeoutKind) -> Vec<(Kind, u32, Option<BlockId>)> {
        let (height, round, _) = self.machine.position();
        self.feed(Event::Timeout(Timeout { height, round, kind }))
    }

    fn step(&self) -> (u64, u32, Step) {
        let (height, round, step) = self.machine.position();
        (height.0, round.0, step)
    }

    /// Round 0 in which this machine locks `block` and nobody else precommits it; ends in round 1.
    fn lock_in_round_0(&mut self, block: &SharedBlock) {
        let id = Some(block.id());
        assert_eq!(self.propose(0, None, block), [(Kind::Prevote, 0, id)]);
        assert_eq!(self.vote(0, VoteKind::Prevote, 0, id), []);
        assert_eq!(self.vote(1, VoteKind::Prevote, 0, id), [(Kind::Precommit, 0, id)]);
        assert_eq!(self.machine.locked(), Some((Round(0), block.id())));
        self.vote(0, VoteKind::Precommit, 0, None);
        self.vote(1, VoteKind::Precommit, 0, None);
        self.timeout(TimeoutKind::PrecommitWait);
        assert_eq!(self.step(), (1, 1, Step::Propose));
    }
}

#[test]
fn a_valid_proposal_is_prevoted_precommitted_on_a_polka_and_decided_by_a_quorum() {
    let mut stage = Stage::new(&[1; 4]);
    let block = stage.block(0, "a");
    let id = Some(block.id());
    assert_eq!(stage.propose(0, None, &block), [(Kind::Prevote, 0, id)]);
    stage.vote(0, VoteKind::Prevote, 0, id);
    assert_eq!(stage.vote(1, VoteKind::Prevote, 0, id), [(Kind::Precommit, 0, id)]);
    stage.vote(0, VoteKind::Precommit, 0, id);
    assert_eq!(stage.step(), (1, 0, Step::Precommit));
    stage.vote(1, VoteKind::Precommit, 0, id);
    assert_eq!(stage.step(), (2, 0, Step::NewHeight));
    assert_eq!(stage.machine.last().unwrap().1.signatures.len(), 3);
    stage.vote(2, VoteKind::Precommit, 0, id);
    assert_eq!(stage.machine.last().unwrap().1.signatures.len(), 4, "a late precommit joins the commit");
    stage.timeout(TimeoutKind::Commit);
    stage.vote(2, VoteKind::Precommit, 0, id);
    assert_eq!(stage.step(), (2, 0, Step::Propose));
}

#[test]
fn a_locked_machine_prevotes_nil_on_another_block_without_proof_of_lock() {
    let mut stage = Stage::new(&[1; 4]);
    let (a, b) = (stage.block(0, "a"), stage.block(1, "b"));
    stage.lock_in_round_0(&a);
    assert_eq!(stage.propose(1, None, &b), [(Kind::Prevote, 1, None)]);
}

#[test]
fn a_locked_machine_prevotes_its_block_again() {
    let mut stage = Stage::new(&[1; 4]);
    let a = stage.block(0, "a");
    stage.lock_in_round_0(&a);
    assert_eq!(stage.propose(1, Some(0), &a), [(Kind::Prevote, 1, Some(a.id()))]);
    let mut stage = Stage::new(&[1; 4]);
    stage.lock_in_round_0(&a);
    assert_eq!(stage.propose(1, None, &a), [(Kind::Prevote, 1, Some(a.id()))]);
}

#[test]
fn a_locked_machine_changes_its_vote_only_on_a_later_polka_that_it_has_seen() {
    let mut stage = Stage::new(&[1; 4]);
    let (a, b) = (stage.block(0, "a"), stage.block(1, "b"));
    stage.lock_in_round_0(&a);
    stage.propose(1, None, &b);
    // Round 1 goes by without this machine seeing a polka for b.
    stage.vote(0, VoteKind::Prevote, 1, Some(b.id()));
    stage.vote(1, VoteKind::Prevote, 1, Some(b.id()));
    stage.timeout(TimeoutKind::PrevoteWait);
    stage.vote(0, VoteKind::Precommit, 1, None);
    stage.vote(1, VoteKind::Precommit, 1, None);
    stage.timeout(TimeoutKind::PrecommitWait);
    assert_eq!(stage.step(), (1, 2, Step::Propose));
    assert_eq!(stage.propose(2, Some(1), &b), [], "the proof of lock is claimed but not seen: wait");
    assert_eq!(stage.vote(2, VoteKind::Prevote, 1, Some(b.id())), [(Kind::Prevote, 2, Some(b.id()))]);
    assert_eq!(stage.machine.locked(), Some((Round(0), a.id())), "prevoting unlocks nothing");
    stage.vote(0, VoteKind::Prevote, 2, Some(b.id()));
    assert_eq!(stage.vote(1, VoteKind::Prevote, 2, Some(b.id())), [(Kind::Precommit, 2, Some(b.id()))]);
    assert_eq!(stage.machine.locked(), Some((Round(2), b.id())));
}

#[test]
fn a_polka_older_than_the_lock_does_not_unlock() {
    let mut stage = Stage::new(&[1; 4]);
    let (a, b) = (stage.block(0, "a"), stage.block(1, "b"));
    // Round 0: two others prevote a, so does this machine only later; it locks b in round 1.
    stage.propose(0, None, &a);
    stage.vote(0, VoteKind::Prevote, 0, Some(a.id()));
    stage.vote(1, VoteKind::Prevote, 0, None);
    stage.timeout(TimeoutKind::PrevoteWait);
    stage.vote(0, VoteKind::Precommit, 0, None);
    stage.vote(1, VoteKind::Precommit, 0, None);
    stage.timeout(TimeoutKind::PrecommitWait);
    stage.propose(1, None, &b);
    stage.vote(0, VoteKind::Prevote, 1, Some(b.id()));
    stage.vote(1, VoteKind::Prevote, 1, Some(b.id()));
    assert_eq!(stage.machine.locked(), Some((Round(1), b.id())));
    stage.vote(0, VoteKind::Precommit, 1, None);
    stage.vote(1, VoteKind::Precommit, 1, None);
    stage.timeout(TimeoutKind::PrecommitWait);
    // The polka for a in round 0 becomes known only now; it is older than the lock on b.
    stage.vote(2, VoteKind::Prevote, 0, Some(a.id()));
    assert_eq!(stage.propose(2, Some(0), &a), [(Kind::Prevote, 2, None)]);
}

#[test]
fn a_proposer_proposes_its_valid_block_again_with_the_round_of_its_polka() {
    let mut stage = Stage::new(&[1; 4]);
    let a = stage.block(0, "a");
    stage.lock_in_round_0(&a);
    for round in 1..3 {
        stage.timeout(TimeoutKind::Propose);
        stage.vote(0, VoteKind::Prevote, round, None);
        stage.vote(1, VoteKind::Prevote, round, None);
        stage.vote(0, VoteKind::Precommit, round, None);
        stage.vote(1, VoteKind::Precommit, round, None);
        let asked = stage.timeout(TimeoutKind::PrecommitWait);
        if round == 2 {
            assert_eq!(asked, [(Kind::Proposal, 3, Some(a.id())), (Kind::Prevote, 3, Some(a.id()))]);
        }
    }
    let (proposals, _) = stage.machine.known_at(Round(3));
    let own: Vec<&SignedProposal> = proposals.iter().filter(|p| p.proposal.round == Round(3)).collect();
    assert_eq!(own.len(), 1);
    assert_eq!((own[0].proposal.pol_round, own[0].proposer), (Some(Round(0)), 3));
}

#[test]
fn exactly_two_thirds_of_the_power_moves_nothing() {
    // 6 of 9 is two thirds; 7 is more.
    let mut stage = Stage::new(&[3, 1, 2, 3]);
    let proposer = stage.machine.proposer(Round(0));
    assert_eq!(proposer, 0);
    let block = stage.block(0, "a");
    let id = Some(block.id());
    assert_eq!(stage.propose(0, None, &block), [(Kind::Prevote, 0, id)]);
    assert_eq!(stage.vote(0, VoteKind::Prevote, 0, id), [], "3 + 3 of 9");
    assert_eq!(stage.vote(1, VoteKind::Prevote, 0, id), [(Kind::Precommit, 0, id)], "3 + 3 + 1 of 9");
    stage.vote(0, VoteKind::Precommit, 0, id);
    assert_eq!(stage.step(), (1, 0, Step::Precommit));
    stage.vote(1, VoteKind::Precommit, 0, id);
    assert_eq!(stage.step(), (2, 0, Step::NewHeight));
}

#[test]
fn timeouts_vote_nil_and_end_rounds_and_grow() {
    let mut stage = Stage::new(&[1; 4]);
    assert_eq!(stage.timeout(TimeoutKind::PrevoteWait), [], "a timeout of another step does nothing");
    assert_eq!(stage.timeout(TimeoutKind::Propose), [(Kind::Prevote, 0, None)]);
    stage.vote(0, VoteKind::Prevote, 0, None);
    assert_eq!(
        stage.vote(1, VoteKind::Prevote, 0, None),
        [(Kind::Precommit, 0, None)],
        "a polka for nil needs no timeout"
    );
    stage.vote(0, VoteKind::Precommit, 0, None);
    stage.vote(1, VoteKind::Precommit, 0, None);
    let (height, round) = (Height(1), Round(0));
    let ended = Timeout { height, round, kind: TimeoutKind::PrecommitWait };
    let effects = stage.machine.handle(NOW, Event::Timeout(ended));
    let patience = Timeouts::default();
    let next = Timeout { height, round: Round(1), kind: TimeoutKind::Propose };
    assert_eq!(effects, [Effect::Schedule(next, patience.propose + patience.increment)]);
    assert_eq!(stage.machine.handle(NOW, Event::Timeout(ended)), [], "a timeout of an earlier round does nothing");
}

#[test]
fn more_than_a_third_in_a_later_round_pulls_the_machine_there() {
    let mut stage = Stage::new(&[1; 4]);
    stage.vote(0, VoteKind::Prevote, 5, None);
    assert_eq!(stage.step(), (1, 0, Step::Propose));
    stage.vote(1, VoteKind::Precommit, 4, None);
    assert_eq!(stage.step(), (1, 4, Step::Propose));
}

#[test]
fn proposals_of_strangers_and_invalid_blocks_get_no_vote() {
    let mut stage = Stage::new(&[1; 4]);
    let block = stage.block(0, "a");
    assert_eq!(stage.propose_by(1, 0, None, &block), [], "it is validator 0's turn");
    assert_eq!(stage.propose(0, Some(0), &block), [], "a proof of lock must be of an earlier round");
    let stale = Arc::new(Block { previous: Some(block.id()), ..Block::clone(&block) });
    assert_eq!(stage.propose(0, None, &stale), [(Kind::Prevote, 0, None)], "it follows a block that does not exist");
}

#[test]
fn a_block_that_does_not_follow_the_chain_gets_a_vote_for_nil() {
    type Change = fn(&mut Block);
    let table: [(&str, Option<Change>); 8] = [
        ("nothing", None),
        ("previous block", Some(|b| b.previous = None)),
        ("last commit", Some(|b| b.last_commit = None)),
        ("commit of another block", Some(|b| b.last_commit.as_mut().unwrap().height = Height(7))),
        ("time that does not rise", Some(|b| b.time = NOW)),
        ("height", Some(|b| b.height = Height(3))),
        ("proposer", Some(|b| b.proposer = 2)),
        ("payload", Some(|b| b.payload = vec![0; PAYLOAD_MAX + 1])),
    ];
    for (what, change) in table {
        let mut stage = Stage::new(&[1; 4]);
        let first = stage.block(0, "a");
        stage.propose(0, None, &first);
        for kind in [VoteKind::Prevote, VoteKind::Precommit] {
            stage.vote(0, kind, 0, Some(first.id()));
            stage.vote(1, kind, 0, Some(first.id()));
        }
        stage.timeout(TimeoutKind::Commit);
        let (_, commit) = stage.machine.last().unwrap();
        let mut block = Block {
            height: Height(2),
            round: Round(0),
            proposer: 1,
            time: Time { nanos: 1, ..NOW },
            previous: Some(first.id()),
            last_commit: Some(commit),
            payload: Vec::new(),
        };
        if let Some(change) = change {
            change(&mut block);
        }
        let id = change.is_none().then(|| block.id());
        let round = Round(0);
        let proposal = Proposal { height: Height(2), round, pol_round: None, block: block.id(), time: NOW };
        let request = SignRequest::Proposal(proposal, Arc::new(block));
        let Signed::Proposal(signed) = stage.signers[1].sign(1, &request).unwrap() else { unreachable!() };
        let Ok(verified) = stage.pool.proposal(signed) else {
            assert_eq!(what, "commit of another block", "its signatures do not verify");
            continue;
        };
        assert_eq!(stage.feed(Event::Proposal(verified)), [(Kind::Prevote, 0, id)], "{what}");
    }
}

#[test]
fn two_proposals_of_one_round_get_one_vote_and_are_evidence() {
    let mut stage = Stage::new(&[1; 4]);
    let (a, b) = (stage.block(0, "a"), stage.block(0, "b"));
    assert_eq!(stage.propose(0, None, &a), [(Kind::Prevote, 0, Some(a.id()))]);
    assert_eq!(stage.propose(0, None, &b), []);
    let [evidence] = stage.pool.evidence() else { panic!("{:?}", stage.pool.evidence()) };
    assert_eq!((evidence.validator, evidence.kind, evidence.height.0), (0, Kind::Proposal, 1));
    // If the others settle on b, b it is.
    for kind in [VoteKind::Prevote, VoteKind::Precommit] {
        (0..3).for_each(|by| drop(stage.vote(by, kind, 0, Some(b.id()))));
    }
    assert_eq!(stage.machine.last().unwrap().0, b);
}

#[test]
fn a_lost_signature_costs_a_vote_and_a_restart_asks_for_it_again() {
    let mut stage = Stage::new(&[1; 4]);
    let (height, round) = (Height(1), Round(0));
    let timeout = Timeout { height, round, kind: TimeoutKind::Propose };
    let effects = stage.machine.handle(NOW, Event::Timeout(timeout));
    let [Effect::Sign(request)] = &effects[..] else { panic!("{effects:?}") };
    let later = Time { nanos: 7, ..NOW };
    let again = stage.machine.handle(later, Event::Restarted);
    let [Effect::Sign(SignRequest::Vote(vote))] = &again[..] else { panic!("{again:?}") };
    assert_eq!((vote.kind, vote.block, vote.time), (VoteKind::Prevote, None, later));
    stage.machine.handle(later, Event::SignFailed(request.clone()));
    assert_eq!(stage.machine.handle(later, Event::Restarted), [], "a refusal is final");
    assert_eq!(stage.step(), (1, 0, Step::Prevote));
}

#[test]
fn the_pool_turns_away_what_does_not_verify() {
    let mut stage = Stage::new(&[1; 4]);
    let (height, round) = (Height(1), Round(0));
    let vote =
        Vote { kind: VoteKind::Precommit, height, round, block: None, time: NOW, validator: 1, extension: vec![] };
    let Signed::Vote(good) = stage.signers[1].sign(1, &SignRequest::Vote(vote)).unwrap() else { unreachable!() };
    let block = stage.block(0, "a");
    type Change = fn(&mut SignedVote);
    let changes: [(Rejected, Change); 7] = [
        (Rejected::Unknown(9), |v| v.vote.validator = 9),
        (Rejected::BadSignature, |v| v.vote.validator = 2),
        (Rejected::BadSignature, |v| v.signature[5] ^= 1),
        (Rejected::BadSignature, |v| v.vote.time.nanos += 1),
        (Rejected::BadSignature, |v| v.vote.kind = VoteKind::Prevote),
        (Rejected::TooFar(Height(1_000)), |v| v.vote.height = Height(1_000)),
        (Rejected::ExtensionUnexpected, |v| v.extension_signature = Some([0; 64])),
    ];
    for (expected, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(stage.pool.vote(bad).unwrap_err(), expected);
    }
    assert!(stage.pool.vote(good.clone()).is_ok());
    let commit = semel_devnet_tendermint::consensus::Commit { height, round, block: block.id(), signatures: vec![] };
    assert_eq!(stage.pool.decision(block, commit).unwrap_err(), Rejected::NoCommit);
    assert!(stage.pool.evidence().is_empty());
}

#[test]
fn a_vote_with_another_time_is_no_evidence_and_one_for_another_block_is() {
    let mut stage = Stage::new(&[1; 4]);
    let block = stage.block(0, "a").id();
    let sign = |stage: &mut Stage, block, nanos| {
        let (kind, height, round) = (VoteKind::Precommit, Height(1), Round(0));
        let time = Time { nanos, ..NOW };
        let vote = Vote { kind, height, round, block, time, validator: 1, extension: vec![] };
        let Signed::Vote(signed) = stage.signers[1].sign(1, &SignRequest::Vote(vote)).unwrap() else { unreachable!() };
        stage.pool.vote(signed).unwrap();
        stage.pool.evidence_count()
    };
    assert_eq!(sign(&mut stage, Some(block), 1), 0);
    assert_eq!(sign(&mut stage, Some(block), 2), 0);
    assert_eq!(sign(&mut stage, None, 1), 1);
    assert_eq!(sign(&mut stage, None, 1), 1, "the same contradiction is told once");
    let evidence = &stage.pool.evidence()[0];
    assert_eq!((evidence.first.block, evidence.second.block), (Some(block), None));
}
