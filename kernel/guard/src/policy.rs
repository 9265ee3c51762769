//! The policies: pure functions from what is known to what may be signed.
//!
//! | Lane | Follows | Rule |
//! |---|---|---|
//! | Tendermint | CometBFT signing spec | height, round, step rise; nil is a value like any other; block ids of different steps are not compared |
//! | Ethereum blocks, attestations | EIP-3076, minimal | slot rises; target rises and source does not fall |
//! | other Ethereum duties | – | one value per (duty, slot) |
//! | Mithril | – | one message per (entity type, beacon) |
//! | Aura | – | slot rises, one pre-hash per slot |
//!
//! In all of them a position that is among the last answers is a *repeat* when its content is equal (for Tendermint:
//! equal up to the timestamp) and a *conflict* otherwise. Where another signer left the content of its last answer but not its
//! bytes (tmkms's state file), the same question is answered once more, as that signer would. A request that leaps further than a named bound is refused, so
//! that nobody can burn the future by asking once for height 2⁶³.

use crate::{Duty, Entry, History, Hold, Lane, Mark, Order, Reason, Refusal};

/// Furthest a Tendermint height may lie above the last one. At one block per second: 11 days without a signature.
pub const HEIGHT_LEAP_MAX: u64 = 1_000_000;

/// Highest height of a first signature. The longest chains are near 3 × 10⁸.
pub const HEIGHT_FIRST_MAX: u64 = 2_000_000_000;

/// Furthest a slot, epoch or beacon may lie above the last one. At 12 s per slot: 145 days.
pub const SLOT_LEAP_MAX: u64 = 1 << 20;

/// Highest slot of a first signature.
pub const SLOT_FIRST_MAX: u64 = 1 << 40;

/// What a policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The position is open: advance to it, then sign.
    Fresh,
    /// The question was answered before: this is the entry.
    Replay(Entry),
    /// Not yet: the lane begins to watch here.
    Watch,
    /// No.
    Refuse(Refusal),
}

/// Decides one duty from the history of its lane.
pub fn decide(history: &History, duty: &Duty<'_>) -> Verdict {
    let lane = duty.position.lane();
    let mark = duty.position.mark();
    let refuse = |reason, stored: Option<(Mark, Option<_>)>| {
        let (known, digest) = stored.map_or((history.floor, None), |(mark, digest)| (Some(mark), digest));
        Verdict::Refuse(Refusal::new(reason, duty, known, digest))
    };
    if history.tombstone {
        return refuse(Reason::Tombstoned, None);
    }
    if let Some(entry) = history.at(lane, mark) {
        return match entry.mark == mark && entry.content == duty.content {
            false => refuse(Reason::Conflict, Some((entry.mark, Some(entry.digest)))),
            // Signed by another signer, whose bytes nobody has: signed anew where it is the last word, and nowhere below.
            true if entry.bytes.is_empty() => match history.hold {
                None if history.floor.is_none_or(|floor| floor == mark) => Verdict::Fresh,
                Some(Hold { until: Some(until), cause }) => Verdict::Refuse(Refusal::held(duty, until, cause)),
                Some(Hold { until: None, .. }) => Verdict::Watch,
                None => refuse(Reason::Regression, None),
            },
            true => Verdict::Replay(entry.clone()),
        };
    }
    if is_closed(lane, history.floor, mark) {
        return refuse(Reason::Regression, None);
    }
    if is_too_far(lane, history, mark) {
        return refuse(Reason::TooFar, None);
    }
    match history.hold.filter(|hold| !hold.spares(lane, mark)) {
        Some(Hold { until: None, .. }) => Verdict::Watch,
        Some(Hold { until: Some(until), cause }) if mark <= until => Verdict::Refuse(Refusal::held(duty, until, cause)),
        _ => Verdict::Fresh,
    }
}

/// Whether `mark` lies at or below the floor, or can never be signed.
fn is_closed(lane: Lane, floor: Option<Mark>, mark: Mark) -> bool {
    match lane.order() {
        Order::Rising | Order::Once => floor.is_some_and(|floor| mark <= floor),
        Order::Attestation => {
            let Mark([target, source, _]) = mark;
            source > target || floor.is_some_and(|Mark([t, s, _])| target <= t || source < s)
        }
    }
}

/// Whether `mark` leaps beyond the named bound above everything known.
fn is_too_far(lane: Lane, history: &History, Mark([a, b, _]): Mark) -> bool {
    let (leap, first) = match lane {
        Lane::Tendermint => (HEIGHT_LEAP_MAX, HEIGHT_FIRST_MAX),
        _ => (SLOT_LEAP_MAX, SLOT_FIRST_MAX),
    };
    let highest = history.recent.last().map(|entry| entry.mark).max(history.floor);
    let beyond = |value: u64, known: Option<u64>| match known {
        Some(known) => value.saturating_sub(known) > leap,
        None => value > first,
    };
    match lane.order() {
        // An epoch's number within a beacon starts anew with the entity; only the leading number is bounded.
        Order::Rising | Order::Once => beyond(a, highest.map(|Mark([a, ..])| a)),
        // The source never exceeds the target, so bounding the target bounds both.
        Order::Attestation => beyond(a.max(b), highest.map(|Mark([a, ..])| a)),
    }
}
