//! An attacker: a second sentry of one validator that asks its signer to contradict itself.
//!
//! It listens as a node does and asks for other votes and proposals at heights that were just decided, and at whatever the
//! validator signed last. Each must be refused with an error; a signature goes to the evidence pool, and counts as granted.

use crate::{
    board::{AttackView, Position},
    consensus::{Block, BlockId, Height, Kind, Proposal, Round, SignRequest, Signed, Time, Vote, VoteKind},
    network::{
        SharedPool, Unsigned, VoteSigner as _,
        live::{AttendedSigner as _, Shared},
        node::locked,
    },
    privval::RemoteSigner,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The block that the attacker wants signed; it does not exist.
const FORGED: BlockId = BlockId { hash: [0xfa; 32], parts_total: 1, parts_hash: [0xce; 32] };
/// Longest wait for something to contradict.
const PATIENCE: Duration = Duration::from_millis(200);

/// See the [module](self).
pub(crate) struct Attacker {
    pub(crate) victim: u32,
    pub(crate) signer: RemoteSigner,
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: SharedPool,
    pub(crate) last: Option<Position>,
}

impl Attacker {
    pub(crate) fn run(mut self) {
        while !self.shared.is_stopping() {
            self.signer.attend();
            let (connected, _) = self.signer.connections();
            self.note(|view| view.connected = connected);
            if !connected {
                continue;
            }
            // Only where the victim has signed is another signature a contradiction: a request that came first would be answered.
            let (victim, last) = (self.victim as usize, self.last.clone());
            let mut news = None;
            self.shared.wait(PATIENCE, |board| {
                news =
                    board.signed_last.get(victim).cloned().flatten().filter(|position| Some(position) != last.as_ref());
                news.is_some()
            });
            let Some(position) = news else { continue };
            self.contradict(&position);
            if last.is_none_or(|last| last.height < position.height) && position.height > Height::FIRST {
                self.rewrite(position.height.previous());
            }
            self.last = Some(position);
        }
    }

    /// Other messages where the victim has just signed: for a forged block, and for nil.
    fn contradict(&mut self, position: &Position) {
        let (height, round) = (position.height, position.round);
        match position.kind {
            Kind::Proposal => self.ask(&proposal(height, round)),
            Kind::Prevote | Kind::Precommit => {
                let kind = if position.kind == Kind::Prevote { VoteKind::Prevote } else { VoteKind::Precommit };
                self.ask(&vote(self.victim, kind, height, round, Some(FORGED)));
                if position.block.is_some() {
                    self.ask(&vote(self.victim, kind, height, round, None));
                }
            }
        }
    }

    /// Another history at a height that the victim has left.
    fn rewrite(&mut self, height: Height) {
        let round = Round(0);
        self.ask(&proposal(height, round));
        for kind in [VoteKind::Prevote, VoteKind::Precommit] {
            self.ask(&vote(self.victim, kind, height, round, Some(FORGED)));
        }
    }

    fn ask(&mut self, request: &SignRequest) {
        let answer = self.signer.sign(self.victim, request);
        if answer.is_err() && self.shared.is_stopping() {
            return;
        }
        self.note(|view| view.asked = view.asked.saturating_add(1));
        match answer {
            Err(Unsigned::Refused { code, description }) => self.note(|view| {
                view.refused = view.refused.saturating_add(1);
                view.last_refusal = Some(format!(
                    "{} at {}/{}: code {code}: {description}",
                    request.kind(),
                    request.height(),
                    request.round()
                ));
            }),
            Err(Unsigned::Failed(reason)) => {
                tracing::warn!(%reason, "the attacker got no answer");
                self.note(|view| view.unanswered = view.unanswered.saturating_add(1));
            }
            Ok(signed) => {
                tracing::error!(kind = %request.kind(), height = %request.height(), "the attacker got a signature");
                self.note(|view| view.granted = view.granted.saturating_add(1));
                // A proposal names a block that nobody has; the votes are enough for evidence.
                if let Signed::Vote(vote) = signed {
                    let _counted_by_the_pool = locked(&self.pool).vote(vote);
                }
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut AttackView)) {
        self.shared.write(|board| {
            if let Some(view) = &mut board.attack {
                change(view);
            }
        });
    }
}

fn now() -> Time {
    Time::from_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn vote(validator: u32, kind: VoteKind, height: Height, round: Round, block: Option<BlockId>) -> SignRequest {
    SignRequest::Vote(Vote { kind, height, round, block, time: now(), validator, extension: Vec::new() })
}

fn proposal(height: Height, round: Round) -> SignRequest {
    let block = Block {
        height,
        round,
        proposer: 0,
        time: now(),
        previous: Some(FORGED),
        last_commit: None,
        payload: b"forged".to_vec(),
    };
    let proposal = Proposal { height, round, pol_round: None, block: block.id(), time: now() };
    SignRequest::Proposal(proposal, Arc::new(block))
}
