//! The evidence pool: verifies every signature and remembers what was signed where.
//!
//! Two signatures of one validator at one height, round and kind that name different blocks (nil is one) are [`Evidence`]; it
//! is kept and logged as an error. A different timestamp alone is not evidence. The pool looks back [`WINDOW`] heights from the
//! newest decided one and holds at most [`PLACES_MAX`] places. It is the only maker of [`Verified`] messages.

use crate::consensus::{
    BlockId, Commit, Encoding, Height, Kind, Round, SharedBlock, SignedProposal, SignedVote, Time, ValidatorSet,
    Verified, Vote, VoteKind,
    canonical::{extension_sign_bytes, proposal_sign_bytes, vote_sign_bytes},
};
use ed25519_dalek::{Signature, VerifyingKey};
use std::collections::BTreeMap;

/// Heights around the newest decided one in which signatures are compared.
pub const WINDOW: u64 = 128;
/// Most remembered places: 128 heights × 128 validators × 3 kinds, with room for rounds.
pub const PLACES_MAX: usize = 65_536;
/// Most pieces of evidence kept; later ones are counted only.
pub const EVIDENCE_MAX: usize = 1_024;

/// Why a message was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The author is no validator.
    #[error("validator {0} is unknown")]
    Unknown(u32),
    /// The signature does not verify.
    #[error("the signature does not verify")]
    BadSignature,
    /// A non-nil precommit without the signature of its extension.
    #[error("the signature of the vote extension is missing")]
    ExtensionSignatureMissing,
    /// An extension's signature that does not verify.
    #[error("the signature of the vote extension does not verify")]
    ExtensionSignatureBad,
    /// An extension or its signature where there may be none.
    #[error("a vote extension where there may be none")]
    ExtensionUnexpected,
    /// A height far beyond the chain.
    #[error("height {0} is too far ahead")]
    TooFar(Height),
    /// A commit with too little power, a repeated signer, or for another block.
    #[error("the commit does not decide the block")]
    NoCommit,
}

/// Two signatures that must not both exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Who signed twice.
    pub validator: u32,
    /// What was signed twice.
    pub kind: Kind,
    /// At which height.
    pub height: Height,
    /// In which round.
    pub round: Round,
    /// The signature that was there first.
    pub first: Testimony,
    /// The one that contradicts it.
    pub second: Testimony,
}

/// One of two contradicting signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimony {
    /// The block it names, or `None` for nil.
    pub block: Option<BlockId>,
    /// The time it names.
    pub time: Time,
    /// The signature.
    pub signature: [u8; 64],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    height: Height,
    round: Round,
    kind: Kind,
    validator: u32,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Pool {
    chain: String,
    encoding: Encoding,
    extensions: bool,
    set: ValidatorSet,
    keys: Vec<VerifyingKey>,
    seen: BTreeMap<Place, Testimony>,
    decided: Height,
    evidence: Vec<Evidence>,
    evidence_count: u64,
    rejected_count: u64,
}

/// A validator's key that is no point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key of validator {0} is no Ed25519 public key")]
pub struct KeyError(pub u32);

impl Pool {
    /// A pool for one chain; `extensions` says that non-nil precommits carry signed extensions.
    pub fn new(chain: &str, encoding: Encoding, extensions: bool, set: &ValidatorSet) -> Result<Self, KeyError> {
        let keys = (0..set.count()).map(|index| {
            let key = set.get(index).ok_or(KeyError(index))?;
            VerifyingKey::from_bytes(&key.key).map_err(|_| KeyError(index))
        });
        Ok(Self {
            chain: chain.into(),
            encoding,
            extensions,
            keys: keys.collect::<Result<_, _>>()?,
            set: set.clone(),
            seen: BTreeMap::new(),
            decided: Height(0),
            evidence: Vec::new(),
            evidence_count: 0,
            rejected_count: 0,
        })
    }

    /// The contradictions found, oldest first.
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    /// How many contradictions were found, also beyond [`EVIDENCE_MAX`].
    pub const fn evidence_count(&self) -> u64 {
        self.evidence_count
    }

    /// How many messages were turned away.
    pub const fn rejected_count(&self) -> u64 {
        self.rejected_count
    }

    /// Moves the window: `height` was decided.
    pub fn decided(&mut self, height: Height) {
        if height > self.decided {
            self.decided = height;
            let first = Height(height.0.saturating_sub(WINDOW));
            let place = Place { height: first, round: Round(0), kind: Kind::Proposal, validator: 0 };
            self.seen = self.seen.split_off(&place);
        }
    }

    /// Verifies a vote and its extension.
    pub fn vote(&mut self, signed: SignedVote) -> Result<Verified<SignedVote>, Rejected> {
        let result = self.check_vote(&signed).and_then(|()| self.check_extension(&signed));
        self.counted(result.map(|()| Verified::new(signed)))
    }

    /// Verifies a proposal and the commit inside its block.
    pub fn proposal(&mut self, signed: SignedProposal) -> Result<Verified<SignedProposal>, Rejected> {
        let result = self.check_proposal(&signed);
        self.counted(result.map(|()| Verified::new(signed)))
    }

    /// Verifies that `commit` decides `block`.
    pub fn decision(
        &mut self,
        block: SharedBlock,
        commit: Commit,
    ) -> Result<Verified<(SharedBlock, Commit)>, Rejected> {
        let result = if commit.height == block.height && commit.block == block.id() {
            self.check_commit(&commit)
        } else {
            Err(Rejected::NoCommit)
        };
        self.counted(result.map(|()| Verified::new((block, commit))))
    }

    fn counted<T>(&mut self, result: Result<T, Rejected>) -> Result<T, Rejected> {
        if let Err(rejected) = &result {
            self.rejected_count = self.rejected_count.saturating_add(1);
            tracing::warn!(reason = %rejected, "message turned away");
        }
        result
    }

    fn check_vote(&mut self, signed: &SignedVote) -> Result<(), Rejected> {
        let vote = &signed.vote;
        let place = Place { height: vote.height, round: vote.round, kind: vote.kind.into(), validator: vote.validator };
        let testimony = Testimony { block: vote.block, time: vote.time, signature: signed.signature };
        self.check(place, testimony, |pool| vote_sign_bytes(pool.encoding, &pool.chain, vote))
    }

    fn check_extension(&self, signed: &SignedVote) -> Result<(), Rejected> {
        let vote = &signed.vote;
        let wanted = self.extensions && vote.kind == VoteKind::Precommit && vote.block.is_some();
        match (&signed.extension_signature, wanted) {
            (None, true) => Err(Rejected::ExtensionSignatureMissing),
            (Some(_), false) => Err(Rejected::ExtensionUnexpected),
            (None, false) if vote.extension.is_empty() => Ok(()),
            (None, false) => Err(Rejected::ExtensionUnexpected),
            (Some(signature), true) => {
                let bytes = extension_sign_bytes(&self.chain, vote.height, vote.round, &vote.extension);
                self.verify(vote.validator, &bytes, signature).map_err(|_| Rejected::ExtensionSignatureBad)
            }
        }
    }

    fn check_proposal(&mut self, signed: &SignedProposal) -> Result<(), Rejected> {
        let proposal = &signed.proposal;
        let place =
            Place { height: proposal.height, round: proposal.round, kind: Kind::Proposal, validator: signed.proposer };
        let testimony = Testimony { block: Some(proposal.block), time: proposal.time, signature: signed.signature };
        self.check(place, testimony, |pool| proposal_sign_bytes(pool.encoding, &pool.chain, proposal))?;
        signed.block.last_commit.as_ref().map_or(Ok(()), |commit| self.check_commit(commit))
    }

    fn check_commit(&mut self, commit: &Commit) -> Result<(), Rejected> {
        let mut power = 0_u128;
        let mut above = None;
        for entry in &commit.signatures {
            if above.is_some_and(|last| entry.validator <= last) {
                return Err(Rejected::NoCommit);
            }
            above = Some(entry.validator);
            let vote = Vote {
                kind: VoteKind::Precommit,
                height: commit.height,
                round: commit.round,
                block: Some(commit.block),
                time: entry.time,
                validator: entry.validator,
                extension: Vec::new(),
            };
            self.check_vote(&SignedVote { vote, signature: entry.signature, extension_signature: None })?;
            power = power.saturating_add(u128::from(self.set.power(entry.validator)));
        }
        if self.set.is_quorum(power) { Ok(()) } else { Err(Rejected::NoCommit) }
    }

    fn check(&mut self, place: Place, testimony: Testimony, bytes: impl Fn(&Self) -> Vec<u8>) -> Result<(), Rejected> {
        if place.height.0 > self.decided.0.saturating_add(WINDOW) {
            return Err(Rejected::TooFar(place.height));
        }
        let known = self.seen.get(&place);
        if known == Some(&testimony) {
            return Ok(());
        }
        self.verify(place.validator, &bytes(self), &testimony.signature)?;
        let conflict = known.filter(|first| first.block != testimony.block).cloned();
        match conflict {
            Some(first) => self.accuse(place, first, testimony),
            None if known.is_none() && place.height.0 >= self.decided.0.saturating_sub(WINDOW) => {
                self.seen.insert(place, testimony);
                if self.seen.len() > PLACES_MAX {
                    self.seen.pop_first();
                }
            }
            None => {}
        }
        Ok(())
    }

    fn accuse(&mut self, place: Place, first: Testimony, second: Testimony) {
        let Place { height, round, kind, validator } = place;
        let evidence = Evidence { validator, kind, height, round, first, second };
        if self.evidence.contains(&evidence) {
            return;
        }
        tracing::error!(validator, %kind, %height, %round, first = ?evidence.first.block, second = ?evidence.second.block,
            "two signatures at one place");
        self.evidence_count = self.evidence_count.saturating_add(1);
        if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.push(evidence);
        }
    }

    fn verify(&self, validator: u32, bytes: &[u8], signature: &[u8; 64]) -> Result<(), Rejected> {
        let key = self.keys.get(validator as usize).ok_or(Rejected::Unknown(validator))?;
        key.verify_strict(bytes, &Signature::from_bytes(signature)).map_err(|_| Rejected::BadSignature)
    }
}
