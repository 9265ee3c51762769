//! What the aggregator does next: a pure function of what is known.
//!
//! ```text
//! IDLE ──epoch entered, chain holds──▶ READY ──something to certify──▶ SIGNING ──quorum──▶ READY
//!   ▲                                    │                                │
//!   └────────── a new epoch ─────────────┴────────────────────────────────┘
//! BLOCKED: no genesis, genesis of this very epoch, or an epoch without a certificate; a new epoch or a new genesis ends it
//! ```
//!
//! The states are those of the reference, but every type of entity is worked on at once: an artifact that takes long, or signers
//! who do not sign one type, hold up nothing else. It is asked at every cycle and after every event (a quorum, an import that
//! ended), so a certificate does not wait for the next cycle.

use crate::core::entity;
use chrono::{DateTime, Utc};
use mithril_common::entities::{Epoch, SignedEntityType, SignedEntityTypeDiscriminants as Kind};
use std::fmt;

/// Why nothing can be certified in this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// There is no genesis certificate.
    NoGenesis,
    /// The genesis certificate is of this epoch: the first certificate follows in the next.
    GenesisEpoch,
    /// An epoch passed without a certificate: only a new genesis helps.
    EpochGap,
    /// The chain of certificates does not hold.
    ChainInvalid,
    /// Nobody may sign in this epoch.
    NoSigners,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Blocked::NoGenesis => "there is no genesis certificate",
            Blocked::GenesisEpoch => "the genesis certificate is of this epoch; certificates start with the next one",
            Blocked::EpochGap => "an epoch passed without a certificate; a new genesis certificate is needed",
            Blocked::ChainInvalid => "the chain of certificates does not hold",
            Blocked::NoSigners => "nobody is registered to sign in this epoch",
        })
    }
}

/// The state, under the reference's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No epoch has been entered yet, or the node's epoch went back.
    Idle,
    /// Nothing can be certified.
    Blocked(Blocked),
    /// Everything that can be certified is.
    Ready,
    /// Signatures are taken.
    Signing,
}

impl State {
    /// Its name in logs and status.
    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Blocked(_) => "blocked",
            State::Ready => "ready",
            State::Signing => "signing",
        }
    }
}

/// A message that signatures are taken for, or were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// What is to be certified.
    pub entity: SignedEntityType,
    /// It has its certificate.
    pub is_certified: bool,
    /// No more signatures are taken.
    pub is_expired: bool,
    /// When that happens by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// There are enough signatures.
    pub has_quorum: bool,
}

/// The chain of certificates, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Epoch of the newest genesis certificate.
    pub genesis: Option<Epoch>,
    /// Epoch of the newest certificate of all.
    pub newest: Option<Epoch>,
    /// Whether it was verified back to its genesis.
    pub holds: bool,
}

/// What is known.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The time.
    pub now: DateTime<Utc>,
    /// The node's epoch.
    pub epoch: Epoch,
    /// Epoch that was entered last.
    pub entered: Option<Epoch>,
    /// Whether somebody may sign in it.
    pub has_signers: bool,
    /// The chain of certificates.
    pub chain: Chain,
    /// What could be certified now, in order.
    pub certifiable: &'a [SignedEntityType],
    /// What cannot be worked on now: its data is being imported.
    pub busy: &'a [Kind],
    /// This epoch's messages.
    pub open: &'a [Open],
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Enter this epoch, then ask again.
    EnterEpoch(Epoch),
    /// Take signatures for this.
    Open(SignedEntityType),
    /// Make the certificate of this.
    Certify(SignedEntityType),
    /// Take no more signatures for this.
    Expire(SignedEntityType),
}

/// Decides.
pub fn decide(facts: &Facts<'_>) -> (State, Vec<Action>) {
    match facts.entered {
        None => return (State::Idle, vec![Action::EnterEpoch(facts.epoch)]),
        Some(entered) if entered < facts.epoch => return (State::Idle, vec![Action::EnterEpoch(facts.epoch)]),
        // A node that goes back an epoch is another node, or one that resynchronizes: nothing is signed on its word.
        Some(entered) if entered > facts.epoch => return (State::Idle, Vec::new()),
        Some(_) => {}
    }
    if let Some(why) = blocked(facts) {
        return (State::Blocked(why), Vec::new());
    }
    let mut actions = Vec::new();
    let mut is_signing = false;
    for one in facts.open.iter().filter(|one| !one.is_certified && !one.is_expired) {
        let is_late = one.expires_at.is_some_and(|at| at <= facts.now);
        let is_superseded = facts.certifiable.iter().any(|now| is_later(now, &one.entity));
        if one.has_quorum && !is_late {
            actions.push(Action::Certify(one.entity.clone()));
        } else if is_late || is_superseded {
            actions.push(Action::Expire(one.entity.clone()));
        } else {
            is_signing = true;
        }
    }
    for entity in facts.certifiable {
        // A tip that falls for a while asks for an older beacon again: that one is past.
        let is_known = facts.open.iter().any(|one| one.entity == *entity || is_later(&one.entity, entity));
        if !is_known && !facts.busy.contains(&Kind::from(entity)) {
            actions.push(Action::Open(entity.clone()));
            is_signing = true;
        }
    }
    (if is_signing { State::Signing } else { State::Ready }, actions)
}

/// Whether one entity is of the same type as another, and of a later beacon.
fn is_later(one: &SignedEntityType, other: &SignedEntityType) -> bool {
    Kind::from(one) == Kind::from(other) && entity::position(one).mark() > entity::position(other).mark()
}

fn blocked(facts: &Facts<'_>) -> Option<Blocked> {
    let Chain { genesis, newest, holds } = facts.chain;
    match (genesis, newest) {
        (None, _) | (_, None) => Some(Blocked::NoGenesis),
        (Some(genesis), _) if genesis >= facts.epoch => Some(Blocked::GenesisEpoch),
        (_, Some(newest)) if newest.next() < facts.epoch => Some(Blocked::EpochGap),
        _ if !holds => Some(Blocked::ChainInvalid),
        _ if !facts.has_signers => Some(Blocked::NoSigners),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use mithril_common::entities::CardanoDbBeacon;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn database(number: u64) -> SignedEntityType {
        SignedEntityType::CardanoDatabase(CardanoDbBeacon::new(10, number))
    }

    fn stakes() -> SignedEntityType {
        SignedEntityType::MithrilStakeDistribution(Epoch(10))
    }

    fn open(entity: SignedEntityType) -> Open {
        Open { entity, is_certified: false, is_expired: false, expires_at: Some(at(100)), has_quorum: false }
    }

    fn facts<'a>(certifiable: &'a [SignedEntityType], open: &'a [Open]) -> Facts<'a> {
        Facts {
            now: at(50),
            epoch: Epoch(10),
            entered: Some(Epoch(10)),
            has_signers: true,
            chain: Chain { genesis: Some(Epoch(8)), newest: Some(Epoch(9)), holds: true },
            certifiable,
            busy: &[],
            open,
        }
    }

    #[test]
    fn every_type_is_opened_at_once_and_certified_as_soon_as_there_is_a_quorum() {
        let certifiable = [stakes(), database(7)];
        let (state, actions) = decide(&facts(&certifiable, &[]));
        assert_eq!((state, actions), (State::Signing, vec![Action::Open(stakes()), Action::Open(database(7))]));
        let known = [Open { has_quorum: true, ..open(stakes()) }, open(database(7))];
        let (state, actions) = decide(&facts(&certifiable, &known));
        assert_eq!((state, actions), (State::Signing, vec![Action::Certify(stakes())]));
        let known = [Open { is_certified: true, ..open(stakes()) }, Open { is_expired: true, ..open(database(7)) }];
        assert_eq!(decide(&facts(&certifiable, &known)), (State::Ready, vec![]));
    }

    #[test]
    fn a_message_ends_when_its_time_is_over_or_a_newer_beacon_is_there() {
        let certifiable = [stakes(), database(8)];
        let known = [Open { expires_at: Some(at(50)), ..open(stakes()) }, open(database(7))];
        let expected = vec![Action::Expire(stakes()), Action::Expire(database(7)), Action::Open(database(8))];
        assert_eq!(decide(&facts(&certifiable, &known)), (State::Signing, expected));
        // Enough signatures are not thrown away for a newer beacon.
        let known = [Open { has_quorum: true, ..open(database(7)) }];
        let (_, actions) = decide(&facts(&certifiable, &known));
        assert!(actions.contains(&Action::Certify(database(7))), "{actions:?}");
    }

    #[test]
    fn a_tip_that_falls_for_a_while_ends_nothing_and_opens_nothing_older() {
        let certifiable = [stakes(), database(6)];
        let known = [open(stakes()), open(database(7))];
        assert_eq!(decide(&facts(&certifiable, &known)), (State::Signing, vec![]));
        let known = [open(stakes()), Open { is_certified: true, ..open(database(7)) }];
        assert_eq!(decide(&facts(&certifiable, &known)), (State::Signing, vec![]));
    }

    #[test]
    fn what_is_being_imported_waits_and_nothing_else_does() {
        let certifiable = [stakes(), database(7)];
        let busy = [Kind::CardanoDatabase];
        let (_, actions) = decide(&Facts { busy: &busy, ..facts(&certifiable, &[]) });
        assert_eq!(actions, [Action::Open(stakes())]);
    }

    #[test]
    fn a_new_epoch_comes_first_and_an_epoch_that_goes_back_is_not_believed() {
        let certifiable = [stakes()];
        for entered in [None, Some(Epoch(9))] {
            let decided = decide(&Facts { entered, ..facts(&certifiable, &[]) });
            assert_eq!(decided, (State::Idle, vec![Action::EnterEpoch(Epoch(10))]));
        }
        let known = [Open { has_quorum: true, ..open(stakes()) }];
        assert_eq!(decide(&Facts { entered: Some(Epoch(11)), ..facts(&certifiable, &known) }), (State::Idle, vec![]));
    }

    #[test]
    fn nothing_is_certified_without_a_chain_that_reaches_the_epoch_before() {
        let certifiable = [stakes()];
        let known = [Open { has_quorum: true, ..open(stakes()) }];
        let chain = |genesis: Option<u64>, newest: Option<u64>, holds| Chain {
            genesis: genesis.map(Epoch),
            newest: newest.map(Epoch),
            holds,
        };
        let cases = [
            (chain(None, None, false), Blocked::NoGenesis),
            (chain(Some(10), Some(10), true), Blocked::GenesisEpoch),
            (chain(Some(11), Some(11), true), Blocked::GenesisEpoch),
            (chain(Some(5), Some(8), true), Blocked::EpochGap),
            (chain(Some(5), Some(9), false), Blocked::ChainInvalid),
        ];
        for (chain, expected) in cases {
            let decided = decide(&Facts { chain, ..facts(&certifiable, &known) });
            assert_eq!(decided, (State::Blocked(expected), vec![]));
        }
        let decided = decide(&Facts { has_signers: false, ..facts(&certifiable, &known) });
        assert_eq!(decided, (State::Blocked(Blocked::NoSigners), vec![]));
    }
}
