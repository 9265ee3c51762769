//! The policies as tables: what is known, what is asked, what comes of it.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use semel_guard::{
    Digest, Duty, Entry, EthereumDuty, HEIGHT_FIRST_MAX, HEIGHT_LEAP_MAX, History, Hold, HoldCause, Mark, Position,
    RECENT_MAX, Reason, SLOT_FIRST_MAX, SLOT_LEAP_MAX, SignedEntity, Step, Verdict, decide,
};
use stage::{signature_of, subject};

/// What a row expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Fresh,
    Repeat,
    Watches,
    No(Reason),
}
use Expect::{Fresh, No, Repeat, Watches};
use Reason::{Conflict, Held, Regression, TooFar};

fn entry(position: Position, content: &str) -> Entry {
    let bytes = format!("{content} first");
    Entry {
        mark: position.mark(),
        digest: Digest::of(bytes.as_bytes()),
        content: Digest::of(content.as_bytes()),
        bytes: bytes.as_bytes().into(),
        signature: Some(signature_of(bytes.as_bytes())),
    }
}

fn history(signed: &[(Position, &str)]) -> History {
    let mut history = History::default();
    for (position, content) in signed {
        history.push(position.lane(), entry(*position, content));
    }
    history
}

fn verdict(history: &History, position: Position, content: &str) -> Expect {
    let subject = subject(1);
    let bytes = format!("{content} later");
    let duty = Duty::with_content(&subject, position, bytes.as_bytes(), content.as_bytes()).unwrap();
    let verdict = decide(history, &duty);
    assert_eq!(verdict, decide(history, &duty), "a policy has no memory of its own");
    match verdict {
        Verdict::Fresh => Fresh,
        Verdict::Replay(stored) => {
            assert_eq!(&*stored.bytes, format!("{content} first").as_bytes(), "a repeat has the bytes of the first");
            Repeat
        }
        Verdict::Watch => Watches,
        Verdict::Refuse(refusal) => {
            assert_eq!((refusal.asked, &refusal.subject), (position, &subject));
            No(refusal.reason)
        }
    }
}

fn run(signed: &[(Position, &str)], rows: &[(Position, &str, Expect)]) {
    let history = history(signed);
    for (position, content, expected) in rows {
        assert_eq!(verdict(&history, *position, content), *expected, "{position} for {content:?} after {signed:?}");
    }
}

fn vote(height: u64, round: u32, step: Step) -> Position {
    Position::Tendermint { height, round, step }
}

#[test]
fn tendermint_height_round_and_step_rise_and_nil_is_a_value() {
    use Step::{Precommit, Prevote, Propose};
    let signed = [
        (vote(10, 0, Prevote), "A"),
        (vote(10, 0, Precommit), ""),
        (vote(10, 1, Propose), "B"),
        (vote(10, 1, Prevote), "B"),
    ];
    let rows = [
        // The same question, and another one, at each position that was signed.
        (vote(10, 1, Prevote), "B", Repeat),
        (vote(10, 1, Prevote), "A", No(Conflict)),
        (vote(10, 1, Prevote), "", No(Conflict)),
        (vote(10, 0, Precommit), "", Repeat),
        (vote(10, 0, Precommit), "A", No(Conflict)),
        (vote(10, 0, Prevote), "A", Repeat),
        (vote(10, 0, Prevote), "", No(Conflict)),
        // Below what was signed.
        (vote(10, 0, Propose), "A", No(Regression)),
        (vote(9, 5, Precommit), "A", No(Regression)),
        (vote(0, 0, Prevote), "A", No(Regression)),
        // Above. The block of a precommit is not held against that of the prevote.
        (vote(10, 1, Precommit), "A", Fresh),
        (vote(10, 1, Precommit), "", Fresh),
        (vote(10, 2, Propose), "C", Fresh),
        (vote(11, 0, Propose), "A", Fresh),
        (vote(11, 0, Prevote), "", Fresh),
        (vote(10, u32::MAX, Precommit), "A", Fresh),
    ];
    run(&signed, &rows);
}

#[test]
fn heights_leap_as_far_as_their_bound_and_no_further() {
    let at = |height| vote(height, 0, Step::Prevote);
    run(
        &[],
        &[
            (at(1), "A", Fresh),
            (at(HEIGHT_FIRST_MAX), "A", Fresh),
            (at(HEIGHT_FIRST_MAX + 1), "A", No(TooFar)),
            (at(u64::MAX), "A", No(TooFar)),
        ],
    );
    run(
        &[(at(500), "A")],
        &[
            (at(500 + HEIGHT_LEAP_MAX), "A", Fresh),
            (at(501 + HEIGHT_LEAP_MAX), "A", No(TooFar)),
            (at(1 << 62), "A", No(TooFar)),
        ],
    );
    // A floor that was raised on purpose counts like a signature.
    let mut raised = History::default();
    raised.raise(at(1).lane(), Mark([10_000_000_000, 0, 0]));
    assert_eq!(verdict(&raised, at(10_000_000_000 + HEIGHT_LEAP_MAX), "A"), Fresh);
    assert_eq!(verdict(&raised, at(9_999_999_999), "A"), No(Regression));
}

#[test]
fn ethereum_blocks_follow_the_minimal_rule_of_eip_3076() {
    let block = |slot| Position::EthereumBlock { slot };
    run(
        &[(block(10), "A"), (block(12), "B")],
        &[
            (block(12), "B", Repeat),
            (block(12), "A", No(Conflict)),
            (block(10), "A", Repeat),
            (block(10), "B", No(Conflict)),
            (block(11), "A", No(Regression)),
            (block(9), "A", No(Regression)),
            (block(13), "A", Fresh),
            (block(12 + SLOT_LEAP_MAX), "A", Fresh),
            (block(13 + SLOT_LEAP_MAX), "A", No(TooFar)),
        ],
    );
    run(
        &[],
        &[(block(0), "A", Fresh), (block(SLOT_FIRST_MAX), "A", Fresh), (block(SLOT_FIRST_MAX + 1), "A", No(TooFar))],
    );
}

#[test]
fn ethereum_attestations_are_neither_double_nor_surrounding() {
    let vote = |source, target| Position::EthereumAttestation { source, target };
    run(
        &[(vote(2, 3), "A"), (vote(3, 6), "B")],
        &[
            (vote(3, 6), "B", Repeat),
            (vote(3, 6), "A", No(Conflict)),
            // One target, another source: a double vote all the same.
            (vote(4, 6), "B", No(Conflict)),
            (vote(2, 6), "B", No(Conflict)),
            (vote(2, 3), "A", Repeat),
            (vote(1, 3), "A", No(Conflict)),
            // Surrounded by (3, 6); surrounding it; before all.
            (vote(4, 5), "C", No(Regression)),
            (vote(2, 7), "C", No(Regression)),
            (vote(0, 1), "C", No(Regression)),
            // A source above its target can never be signed.
            (vote(9, 8), "C", No(Regression)),
            (vote(3, 7), "C", Fresh),
            (vote(6, 7), "C", Fresh),
            (vote(7, 7), "C", Fresh),
            (vote(3, 6 + SLOT_LEAP_MAX), "C", Fresh),
            (vote(3, 7 + SLOT_LEAP_MAX), "C", No(TooFar)),
            (vote(7 + SLOT_LEAP_MAX, 7 + SLOT_LEAP_MAX), "C", No(TooFar)),
        ],
    );
    run(
        &[],
        &[
            (vote(0, 0), "A", Fresh),
            (vote(0, SLOT_FIRST_MAX), "A", Fresh),
            (vote(0, SLOT_FIRST_MAX + 1), "A", No(TooFar)),
        ],
    );
}

#[test]
fn other_ethereum_duties_have_one_value_per_slot_in_any_order() {
    for duty in EthereumDuty::ALL {
        let at = |slot| Position::EthereumDuty { duty, slot };
        run(
            &[(at(10), "A"), (at(7), "B"), (at(12), "")],
            &[
                (at(10), "A", Repeat),
                (at(10), "B", No(Conflict)),
                (at(7), "B", Repeat),
                (at(12), "A", No(Conflict)),
                (at(8), "C", Fresh),
                (at(11), "C", Fresh),
                (at(13), "C", Fresh),
                (at(12 + SLOT_LEAP_MAX), "C", Fresh),
                (at(13 + SLOT_LEAP_MAX), "C", No(TooFar)),
            ],
        );
        // What falls out of the last answers is closed with everything below it.
        let many: Vec<(Position, &str)> = (0..=RECENT_MAX as u64).map(|n| (at(100 + 2 * n), "A")).collect();
        run(
            &many,
            &[
                (at(100), "A", No(Regression)),
                (at(99), "A", No(Regression)),
                (at(101), "A", Fresh),
                (at(102), "A", Repeat),
            ],
        );
    }
}

#[test]
fn mithril_has_one_message_per_entity_type_and_beacon() {
    for entity in SignedEntity::ALL {
        let at = |epoch, number| Position::Mithril { entity, epoch, number };
        run(
            &[(at(5, 100), "A"), (at(6, 1), "B")],
            &[
                (at(5, 100), "A", Repeat),
                (at(5, 100), "B", No(Conflict)),
                (at(6, 1), "A", No(Conflict)),
                (at(5, 101), "B", Fresh),
                (at(4, 7), "A", Fresh),
                (at(7, 0), "A", Fresh),
                (at(6 + SLOT_LEAP_MAX, 0), "A", Fresh),
                (at(7 + SLOT_LEAP_MAX, 0), "A", No(TooFar)),
            ],
        );
    }
}

#[test]
fn aura_has_one_pre_hash_per_slot_and_slots_rise() {
    let at = |slot| Position::Aura { slot };
    run(
        &[(at(10), "A"), (at(11), "B")],
        &[
            (at(11), "B", Repeat),
            (at(11), "A", No(Conflict)),
            (at(10), "A", Repeat),
            (at(9), "A", No(Regression)),
            (at(12), "A", Fresh),
            (at(12 + SLOT_LEAP_MAX), "A", No(TooFar)),
        ],
    );
}

#[test]
fn a_tombstone_refuses_everything_also_repeats() {
    let mut history = history(&[(vote(5, 0, Step::Prevote), "A")]);
    history.tombstone = true;
    for (height, content) in [(5, "A"), (5, "B"), (4, "A"), (6, "A")] {
        assert_eq!(
            verdict(&history, vote(height, 0, Step::Prevote), content),
            No(Reason::Tombstoned),
            "{height} {content}"
        );
    }
}

#[test]
fn an_answer_without_bytes_is_given_once_more_for_the_same_question_only() {
    let position = vote(5, 0, Step::Precommit);
    let mut history = History::default();
    history.push(position.lane(), Entry { bytes: (&b""[..]).into(), signature: None, ..entry(position, "A") });
    assert_eq!(verdict(&history, position, "A"), Fresh);
    assert_eq!(verdict(&history, position, "B"), No(Conflict));
    // Not below a floor, and not while it watches: there is nothing to give again.
    let bare = history.clone();
    history.raise(position.lane(), vote(50, 0, Step::Propose).mark());
    assert_eq!(verdict(&history, position, "A"), No(Regression));
    history = History { hold: Some(Hold { cause: HoldCause::Imported, until: None }), ..bare.clone() };
    assert_eq!(verdict(&history, position, "A"), Watches);
    history = bare;
    history.push(position.lane(), entry(position, "A"));
    assert_eq!((history.recent.len(), verdict(&history, position, "A")), (1, Repeat));
}

#[test]
fn the_last_sixteen_answers_can_be_given_again_and_older_ones_cannot() {
    let at = |height| vote(height, 0, Step::Precommit);
    let signed: Vec<(Position, &str)> = (1..=RECENT_MAX as u64 + 4).map(|height| (at(height), "A")).collect();
    let history = history(&signed);
    assert_eq!(history.recent.len(), RECENT_MAX);
    for (position, _) in &signed {
        let Position::Tendermint { height, .. } = position else { unreachable!() };
        let expected = if *height > 4 { Repeat } else { No(Regression) };
        assert_eq!(verdict(&history, *position, "A"), expected, "{position}");
        assert!(matches!(verdict(&history, *position, "B"), No(Conflict | Regression)));
    }
}

#[test]
fn a_held_lane_watches_first_and_signs_above_the_bound() {
    let held = |cause, until| {
        let mut history = history(&[(vote(100, 0, Step::Precommit), "A")]);
        history.hold = Some(Hold { cause, until });
        history
    };
    let first = History { hold: Some(Hold { cause: HoldCause::New, until: None }), ..History::default() };
    let bound = semel_guard::Lane::Tendermint.held(vote(105, 2, Step::Propose).mark());
    let rows = [
        // Nothing was asked yet: what was closed stays so, what was answered is answered.
        (held(HoldCause::Restored, None), vote(100, 0, Step::Precommit), "A", Repeat),
        (held(HoldCause::Restored, None), vote(100, 0, Step::Precommit), "B", No(Conflict)),
        (held(HoldCause::Restored, None), vote(99, 0, Step::Precommit), "A", No(Regression)),
        (held(HoldCause::Restored, None), vote(101, 0, Step::Prevote), "A", Watches),
        (held(HoldCause::Imported, None), vote(100 + HEIGHT_LEAP_MAX + 1, 0, Step::Prevote), "A", No(TooFar)),
        (held(HoldCause::New, Some(bound)), vote(105, 2, Step::Propose), "A", No(Held)),
        (held(HoldCause::New, Some(bound)), vote(108, 9, Step::Precommit), "A", No(Held)),
        (held(HoldCause::New, Some(bound)), vote(109, 0, Step::Propose), "A", Fresh),
        // A chain that has just begun has no block in which others could have signed.
        (first.clone(), vote(1, 0, Step::Propose), "A", Fresh),
        (first.clone(), vote(3, 0, Step::Precommit), "A", Fresh),
        (first.clone(), vote(4, 0, Step::Propose), "A", Watches),
        (first, vote(HEIGHT_FIRST_MAX + 1, 0, Step::Propose), "A", No(TooFar)),
        (held(HoldCause::New, Some(bound)), vote(101, 0, Step::Propose), "A", No(Held)),
    ];
    for (history, position, content, expected) in rows {
        assert_eq!(verdict(&history, position, content), expected, "{position} under {:?}", history.hold);
    }
}
