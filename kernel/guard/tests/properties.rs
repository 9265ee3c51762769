//! Properties of random histories: whatever is asked, in whatever order, nothing is signed twice and floors never fall.

#![expect(clippy::indexing_slicing, reason = "a test may stop")]

mod stage;

use proptest::prelude::*;
use semel_guard::{Duty, EthereumDuty, Guard, Ledger, Mark, Order, Position, RECENT_MAX, SignedEntity, Step};
use stage::{Model, Scripted, signature_of, subject};
use std::collections::BTreeMap;

/// A position of the lane that `lane` picks, from small numbers, so that they meet.
fn position(lane: u8, a: u64, b: u64) -> Position {
    match lane % 6 {
        0 => Position::Tendermint {
            height: a + 1,
            round: (b % 3) as u32,
            step: [Step::Propose, Step::Prevote, Step::Precommit][(b / 3 % 3) as usize],
        },
        1 => Position::EthereumBlock { slot: a },
        2 => Position::EthereumAttestation { source: b, target: a },
        3 => Position::EthereumDuty { duty: EthereumDuty::Aggregate, slot: a },
        4 => Position::Mithril { entity: SignedEntity::CardanoTransactions, epoch: a, number: b },
        _ => Position::Aura { slot: a },
    }
}

/// Slashable by the words of EIP-3076: two votes with one target, or one that surrounds the other.
fn slashable((s1, t1): (u64, u64), (s2, t2): (u64, u64)) -> bool {
    t1 == t2 || s1 < s2 && t2 < t1 || s2 < s1 && t1 < t2
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn streams_of_requests_keep_the_invariants(
        requests in prop::collection::vec((0..6_u8, 0..40_u64, 0..12_u64, 0..3_u8, prop::bool::weighted(0.05)), 1..120)
    ) {
        let subject = subject(1);
        let guard = Guard::new(Scripted::new(Model::default()));
        let mut signed: BTreeMap<(u16, Mark), Vec<u8>> = BTreeMap::new();
        for (index, (lane, a, b, value, raises)) in requests.into_iter().enumerate() {
            let position = position(lane, a, b);
            let (lane, mark) = (position.lane(), position.mark());
            let before = guard.ledger().history(&subject, lane).unwrap();
            if raises {
                guard.ledger().raise(&subject, lane, mark).unwrap();
            }
            let (bytes, content) = (format!("{value} at {index}"), [value]);
            let duty = Duty::with_content(&subject, position, bytes.as_bytes(), &content).unwrap();
            let mut made = None;
            let answer = guard.admit(&duty, |_, bytes| {
                made = Some(bytes.to_vec());
                Ok(signature_of(bytes))
            });
            if let Ok(answer) = &answer {
                prop_assert_eq!(answer.signature, signature_of(&answer.bytes));
                let first = signed.entry((lane.code(), mark)).or_insert_with(|| answer.bytes.to_vec());
                prop_assert_eq!(&first[..], &answer.bytes[..], "{} was signed twice", position);
            }
            prop_assert_eq!(made.is_some(), answer.is_ok_and(|answer| !answer.repeated));
            let after = guard.ledger().history(&subject, lane).unwrap();
            if let Some(floor) = before.floor {
                let now = after.floor.unwrap();
                prop_assert_eq!(lane.higher(now, floor), now, "the floor fell");
            }
            prop_assert!(after.recent.len() <= RECENT_MAX);
            prop_assert!(after.recent.is_sorted_by(|a, b| a.mark < b.mark));
            prop_assert!(after.version >= before.version);
        }
        let votes: Vec<(u64, u64)> =
            signed.keys().filter(|(code, _)| *code == 17).map(|(_, Mark([target, source, _]))| (*source, *target)).collect();
        for (index, one) in votes.iter().enumerate() {
            for other in &votes[index + 1..] {
                prop_assert!(!slashable(*one, *other), "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn the_higher_of_two_floors_is_above_both(lane in 0..6_u8, a in any::<[u64; 3]>(), b in any::<[u64; 3]>()) {
        let lane = position(lane, 1, 1).lane();
        let (a, b) = (Mark(a), Mark(b));
        let higher = lane.higher(a, b);
        prop_assert_eq!(higher, lane.higher(b, a));
        prop_assert_eq!(lane.higher(higher, a), higher);
        prop_assert_eq!(lane.higher(higher, b), higher);
        if lane.order() != Order::Attestation {
            prop_assert!(higher == a || higher == b);
        }
    }
}
