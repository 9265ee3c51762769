//! What every ledger must do: one suite, which a backend runs from its own tests in one call.
//!
//! ```no_run
//! use semel_ledger::{conformance, memory::MemoryLedger};
//! use std::sync::Arc;
//!
//! conformance::run(&|_name, _subjects| Arc::new(MemoryLedger::new()), conformance::Reopened::Nothing);
//! ```
//!
//! The cases ask through the [`Ledger`] itself and, where the meaning for a signer counts, through a [`Guard`]. A case
//! that fails panics and says what it saw. Crashes and failing disks are not part of it: they look different
//! for every backend.

#![expect(clippy::expect_used, clippy::panic, reason = "a test suite: it panics to fail")]

use semel_guard::{
    Advance, Algorithm, Answer, BYTES_MAX, Begin, ChainId, Denied, Digest, Duty, Entry, EthereumDuty, Guard, History,
    Lane, Ledger, Mark, Order, Position, PublicKey, RECENT_MAX, Reason, Refusal, SIGNATURE_MAX, SignError, Signature,
    Step, Subject, Version,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Threads of the cases in which many ask at once.
const THREADS: u64 = 8;

/// What each of them does, at least.
const ROUNDS: u64 = 40;

/// How often a ledger is opened again.
const LIVES: u64 = 5;

/// Opens the ledger with this name for these subjects, and makes it where there is none. Ledgers with different names share
/// nothing. The suite drops what it was given before it opens the same name again.
pub type Open<'a> = dyn Fn(&str, &[Subject]) -> Arc<dyn Ledger> + 'a;

/// What a ledger holds when it is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reopened {
    /// Everything that was acknowledged. Floors may be higher than they were, signatures may be missing.
    Everything,
    /// Nothing: it is for tests only.
    Nothing,
}

/// Runs every case, each on a ledger of its own, which is named after it.
pub fn run(open: &Open<'_>, reopened: Reopened) {
    for (name, case) in CASES {
        case(&Candidate { open, name });
    }
    if reopened == Reopened::Everything {
        holds_everything_when_opened_again(&Candidate { open, name: "reopened" });
    }
}

type Case = fn(&Candidate<'_>);

const CASES: [(&str, Case); 16] = [
    ("empty", a_lane_that_nobody_used_is_empty),
    ("advance", an_advance_at_the_version_of_the_lane_is_there_for_the_next_reader),
    ("conflict", an_advance_at_another_version_changes_nothing),
    ("lanes", lanes_and_subjects_do_not_touch_each_other),
    ("floors", floors_never_fall),
    ("recent", the_last_answers_are_found_and_what_is_forgotten_is_closed),
    ("keep", a_signature_is_kept_for_the_message_it_belongs_to),
    ("bury", a_tombstone_is_on_every_lane_until_it_is_taken_away),
    ("refused", a_refusal_changes_nothing),
    ("lost", a_signature_that_was_lost_is_made_again_over_the_stored_bytes),
    ("once", a_lane_without_order_signs_each_position_once),
    ("attestations", attestations_neither_vote_twice_nor_surround),
    ("together", what_is_begun_together_is_there_when_it_is_settled),
    ("concurrent-advance", each_version_is_committed_once_whoever_asks),
    ("concurrent-sign", of_those_who_ask_at_once_one_gets_a_signature),
    ("concurrent-raise", nothing_is_admitted_below_a_floor_that_was_acknowledged),
];

/// The ledger under test, in one case.
struct Candidate<'a> {
    open: &'a Open<'a>,
    name: &'a str,
}

impl Candidate<'_> {
    fn ledger(&self) -> Arc<dyn Ledger> {
        (self.open)(self.name, &[subject(1, "one"), subject(1, "two"), subject(2, "one")])
    }
}

fn subject(key: u8, chain: &str) -> Subject {
    let key = PublicKey::new(Algorithm::Ed25519, &[key; 32]).expect("a key");
    Subject { key, chain: ChainId::new(chain).expect("a chain id") }
}

fn lanes() -> impl Iterator<Item = Lane> {
    (0..=u16::from(u8::MAX)).filter_map(Lane::from_code)
}

/// An entry at number `n` of a lane, over `text`.
fn entry(n: u64, text: &str) -> Entry {
    let digest = Digest::of(text.as_bytes());
    Entry { mark: Mark([n, n / 2, 0]), digest, content: digest, bytes: text.as_bytes().into(), signature: None }
}

fn signature_of(bytes: &[u8]) -> Signature {
    Signature::new(&[Digest::of(bytes).0, Digest::of(b"second half").0].concat()).expect("64 bytes")
}

fn history(ledger: &dyn Ledger, subject: &Subject, lane: Lane) -> Arc<History> {
    ledger.history(subject, lane).expect("the ledger answers")
}

fn committed(outcome: Advance) -> Version {
    match outcome {
        Advance::Committed(version) => version,
        other => panic!("not committed: {other:?}"),
    }
}

/// Advances from whatever version the lane has.
fn advance(ledger: &dyn Ledger, subject: &Subject, lane: Lane, entry: Entry) -> Version {
    committed(ledger.advance(subject, lane, history(ledger, subject, lane).version, entry))
}

fn ask<L: Ledger>(guard: &Guard<L>, subject: &Subject, position: Position, text: &str) -> Result<Answer, Denied> {
    let duty = Duty::new(subject, position, text.as_bytes()).expect("a duty");
    guard.admit(&duty, |_permit, bytes| Ok(signature_of(bytes)))
}

/// Why nothing was signed; None: it was.
fn refusal<T>(asked: Result<T, Denied>) -> Option<Reason> {
    match asked {
        Ok(_) => None,
        Err(Denied::Refused(refusal)) => Some(refusal.reason),
        Err(other) => panic!("neither signed nor refused: {other}"),
    }
}

fn precommit(height: u64) -> Position {
    Position::Tendermint { height, round: 0, step: Step::Precommit }
}

fn a_lane_that_nobody_used_is_empty(candidate: &Candidate<'_>) {
    let ledger = candidate.ledger();
    for lane in lanes() {
        let found = history(&*ledger, &subject(1, "one"), lane);
        assert!(found.floor.is_none() && found.recent.is_empty() && !found.tombstone, "{lane}: {found:?}");
    }
}

fn an_advance_at_the_version_of_the_lane_is_there_for_the_next_reader(candidate: &Candidate<'_>) {
    let (ledger, subject) = (candidate.ledger(), subject(1, "one"));
    for lane in lanes() {
        for n in 1..=3 {
            let before = history(&*ledger, &subject, lane);
            let copy = History::clone(&before);
            let entry = entry(n, &format!("{lane} {n}"));
            let version = committed(ledger.advance(&subject, lane, before.version, entry.clone()));
            let after = history(&*ledger, &subject, lane);
            assert_eq!(*before, copy, "{lane}: a history that was read changes under its reader");
            assert_eq!(after.version, version, "{lane}: not the version that was committed");
            assert_ne!(version, before.version, "{lane}: two states with one version");
            assert_eq!(after.at(lane, entry.mark), Some(&entry), "{lane}");
            let floor = if lane.order() == Order::Once { None } else { Some(entry.mark) };
            assert_eq!(after.floor, floor, "{lane}");
        }
    }
}

fn what_is_begun_together_is_there_when_it_is_settled(candidate: &Candidate<'_>) {
    let ledger = candidate.ledger();
    let subjects = [subject(1, "one"), subject(1, "two"), subject(2, "one")];
    for round in 1..=3 {
        let begun = subjects.each_ref().map(|subject| {
            let version = history(&*ledger, subject, Lane::Tendermint).version;
            (version, ledger.begin(subject, Lane::Tendermint, version, entry(round, "together")))
        });
        for (subject, (before, begun)) in subjects.iter().zip(begun) {
            let version = match begun {
                Begin::Written(version, ticket) => {
                    ledger.settle(ticket).expect("durable");
                    version
                }
                Begin::Done(advance) => committed(advance),
            };
            let found = history(&*ledger, subject, Lane::Tendermint);
            assert!(version > before && found.version == version, "{before}, {version}: {found:?}");
            assert_eq!(found.floor, Some(Mark([round, round / 2, 0])));
            let late = ledger.begin(subject, Lane::Tendermint, before, entry(round + 9, "late"));
            assert_eq!(late, Begin::Done(Advance::Conflict));
        }
    }
}

fn an_advance_at_another_version_changes_nothing(candidate: &Candidate<'_>) {
    let (ledger, subject) = (candidate.ledger(), subject(1, "one"));
    for lane in lanes() {
        let unused = history(&*ledger, &subject, lane).version;
        let first = advance(&*ledger, &subject, lane, entry(1, "first"));
        let second = advance(&*ledger, &subject, lane, entry(2, "second"));
        let before = history(&*ledger, &subject, lane);
        for expected in [unused, first, second + 1, u64::MAX] {
            let outcome = ledger.advance(&subject, lane, expected, entry(3, "third"));
            assert_eq!(outcome, Advance::Conflict, "{lane}: has version {second}, expected was {expected}");
            assert_eq!(history(&*ledger, &subject, lane), before, "{lane}: a conflict left something behind");
        }
        // Whatever changed since the decision was made: the advance must not go through.
        ledger.raise(&subject, lane, Mark([7, 3, 0])).expect("raised");
        assert_eq!(
            ledger.advance(&subject, lane, second, entry(3, "third")),
            Advance::Conflict,
            "{lane}: after a raise"
        );
        let raised = history(&*ledger, &subject, lane).version;
        ledger.bury(&subject, true).expect("buried");
        assert_eq!(
            ledger.advance(&subject, lane, raised, entry(9, "ninth")),
            Advance::Conflict,
            "{lane}: after a burial"
        );
        ledger.bury(&subject, false).expect("brought back");
    }
}

fn lanes_and_subjects_do_not_touch_each_other(candidate: &Candidate<'_>) {
    let ledger = candidate.ledger();
    let subjects = [subject(1, "one"), subject(1, "two"), subject(2, "one")];
    let all = || {
        let pairs = subjects.iter().flat_map(|subject| lanes().map(move |lane| (subject.clone(), lane)));
        pairs.map(|pair| (history(&*ledger, &pair.0, pair.1), pair)).collect::<Vec<_>>()
    };
    for subject in &subjects {
        for lane in lanes() {
            let before = all();
            advance(&*ledger, subject, lane, entry(1, &format!("{} {lane}", subject.chain)));
            ledger.raise(subject, lane, Mark([5, 2, 0])).expect("raised");
            for ((old, pair), (new, _)) in before.iter().zip(all()) {
                let is_own = *pair == (subject.clone(), lane);
                assert_eq!(*old == new, !is_own, "a change of {lane} on {subject:?} is seen wrongly on {pair:?}");
            }
        }
    }
}

fn floors_never_fall(candidate: &Candidate<'_>) {
    let (ledger, subject) = (candidate.ledger(), subject(1, "one"));
    for lane in lanes() {
        let floor = || history(&*ledger, &subject, lane).floor;
        let raise = |mark| ledger.raise(&subject, lane, mark).expect("raised");
        raise(Mark([10, 4, 0]));
        assert_eq!(floor(), Some(Mark([10, 4, 0])), "{lane}");
        let before = history(&*ledger, &subject, lane);
        for lower in [Mark([10, 4, 0]), Mark([9, 4, 0]), Mark([10, 3, 0]), Mark([0, 0, 0])] {
            raise(lower);
            assert_eq!(history(&*ledger, &subject, lane), before, "{lane}: changed by the lower floor {lower:?}");
        }
        raise(Mark([9, 6, 0]));
        let joined = if lane.order() == Order::Attestation { Mark([10, 6, 0]) } else { Mark([10, 4, 0]) };
        assert_eq!(floor(), Some(joined), "{lane}");
        // The ledger stores what it is told to; the rule is the guard's. But the floor stays.
        advance(&*ledger, &subject, lane, entry(2, "below the floor"));
        assert_eq!(floor(), Some(joined), "{lane}: an advance lowered it");
        raise(Mark([20, 10, 0]));
        assert_eq!(floor(), Some(Mark([20, 10, 0])), "{lane}");
    }
}

fn the_last_answers_are_found_and_what_is_forgotten_is_closed(candidate: &Candidate<'_>) {
    let (ledger, subject) = (candidate.ledger(), subject(1, "one"));
    let last = RECENT_MAX as u64 + 4;
    for lane in lanes() {
        let written: Vec<Entry> = (1..=last).map(|n| entry(n, &format!("{lane} {n}"))).collect();
        for entry in &written {
            advance(&*ledger, &subject, lane, entry.clone());
        }
        let found = history(&*ledger, &subject, lane);
        let kept: Vec<&Entry> = written.iter().skip(4).collect();
        assert_eq!(found.recent.iter().collect::<Vec<_>>(), kept, "{lane}: not the last {RECENT_MAX} answers");
        let forgotten = Mark([4, 2, 0]);
        let is_closed = found.floor.is_some_and(|floor| lane.higher(floor, forgotten) == floor);
        assert!(is_closed, "{lane}: {forgotten:?} is forgotten and open, the floor is {:?}", found.floor);
    }
}

fn a_signature_is_kept_for_the_message_it_belongs_to(candidate: &Candidate<'_>) {
    let (ledger, subject) = (candidate.ledger(), subject(1, "one"));
    let long = Signature::new(&[7; SIGNATURE_MAX]).expect("the longest signature");
    for lane in lanes() {
        let texts = ["short".to_owned(), "x".repeat(BYTES_MAX)];
        for (n, (text, signature)) in (1..).zip(texts.iter().zip([signature_of(b"short"), long])) {
            let entry = entry(n, text);
            advance(&*ledger, &subject, lane, entry.clone());
            let before = history(&*ledger, &subject, lane);
            ledger.keep(&subject, lane, entry.mark, Digest::of(b"another message"), &signature);
            ledger.keep(&subject, lane, Mark([99, 49, 0]), entry.digest, &signature);
            let after = history(&*ledger, &subject, lane);
            assert_eq!(after.recent, before.recent, "{lane}: the signature of something else was kept");
            assert_eq!(after.floor, before.floor, "{lane}");
            ledger.keep(&subject, lane, entry.mark, entry.digest, &signature);
            let after = history(&*ledger, &subject, lane);
            let expected = Entry { signature: Some(signature), ..entry.clone() };
            assert_eq!(after.at(lane, entry.mark), Some(&expected), "{lane}");
        }
    }
}

fn a_tombstone_is_on_every_lane_until_it_is_taken_away(candidate: &Candidate<'_>) {
    let (ledger, buried, other) = (candidate.ledger(), subject(1, "one"), subject(1, "two"));
    let (used, raised) = (Lane::Tendermint, Lane::Aura);
    advance(&*ledger, &buried, used, entry(8, "before"));
    ledger.raise(&buried, raised, Mark([5, 0, 0])).expect("raised");
    for _ in 0..2 {
        // Said twice, it is true once.
        ledger.bury(&buried, true).expect("buried");
        ledger.bury(&buried, true).expect("buried");
        for lane in lanes() {
            assert!(history(&*ledger, &buried, lane).tombstone, "{lane}: no tombstone");
            assert!(!history(&*ledger, &other, lane).tombstone, "{lane}: a tombstone of another subject");
        }
        let guard = Guard::new(Arc::clone(&ledger));
        assert_eq!(refusal(ask(&guard, &buried, precommit(9), "after")), Some(Reason::Tombstoned));
        ledger.raise(&buried, raised, Mark([6, 0, 0])).expect("a floor rises also on a buried key");
        ledger.bury(&buried, false).expect("brought back");
        for lane in lanes() {
            assert!(!history(&*ledger, &buried, lane).tombstone, "{lane}: still a tombstone");
        }
        assert_eq!(history(&*ledger, &buried, used).floor, Some(Mark([8, 4, 0])), "a floor was lost with the key");
        assert_eq!(history(&*ledger, &buried, raised).floor, Some(Mark([6, 0, 0])), "a floor was lost with the key");
    }
}

fn a_refusal_changes_nothing(candidate: &Candidate<'_>) {
    let (ledger, subject) = (candidate.ledger(), subject(1, "one"));
    advance(&*ledger, &subject, Lane::Tendermint, entry(3, "third"));
    let before = history(&*ledger, &subject, Lane::Tendermint);
    for reason in Reason::ALL {
        ledger.refused(&Refusal {
            reason,
            subject: subject.clone(),
            asked: precommit(9),
            asked_digest: Digest::of(b"ninth"),
            stored: None,
            stored_digest: None,
            detail: Some("a test".into()),
        });
    }
    assert_eq!(history(&*ledger, &subject, Lane::Tendermint), before);
}

fn a_signature_that_was_lost_is_made_again_over_the_stored_bytes(candidate: &Candidate<'_>) {
    let (guard, subject) = (Guard::new(candidate.ledger()), subject(1, "one"));
    let first = Duty::with_content(&subject, precommit(7), b"block at 10:00", b"block").expect("a duty");
    let unplugged = || SignError { provider: "test".into(), reason: "unplugged".into() };
    let failed = guard.admit(&first, |_, _| Err(unplugged()));
    assert!(matches!(failed, Err(Denied::NotSigned(_))), "{failed:?}");
    assert_eq!(refusal(ask(&guard, &subject, precommit(7), "another block")), Some(Reason::Conflict));
    let later = Duty::with_content(&subject, precommit(7), b"block at 10:05", b"block").expect("a duty");
    let again = guard.admit(&later, |_, bytes| Ok(signature_of(bytes))).expect("signed");
    assert_eq!((&*again.bytes, again.repeated), (&b"block at 10:00"[..], true));
    let kept = guard.admit(&later, |_, _| Err(unplugged())).expect("answered from the ledger");
    assert_eq!((kept.signature, kept.repeated), (signature_of(b"block at 10:00"), true));
}

fn a_lane_without_order_signs_each_position_once(candidate: &Candidate<'_>) {
    let (guard, subject) = (Guard::new(candidate.ledger()), subject(1, "one"));
    let at = |slot| Position::EthereumDuty { duty: EthereumDuty::SyncMessage, slot };
    for slot in [5, 3, 9, 1, 7] {
        assert_eq!(refusal(ask(&guard, &subject, at(slot), "message")), None, "slot {slot}");
    }
    for slot in [5, 3, 9, 1, 7] {
        assert_eq!(refusal(ask(&guard, &subject, at(slot), "another")), Some(Reason::Conflict), "slot {slot}");
        assert!(ask(&guard, &subject, at(slot), "message").is_ok_and(|answer| answer.repeated), "slot {slot}");
    }
    // 12 more push the lowest out of the list. It cannot be told from an open position any more, so it is closed.
    for slot in 20..32 {
        assert_eq!(refusal(ask(&guard, &subject, at(slot), "message")), None, "slot {slot}");
    }
    let rows = [
        (1, Some(Reason::Regression)),
        (2, None),
        // Its answer was the lowest of the list, and is forgotten.
        (2, Some(Reason::Regression)),
        (3, Some(Reason::Conflict)),
        (4, None),
        (3, Some(Reason::Regression)),
        (4, Some(Reason::Conflict)),
    ];
    for (row, (slot, expected)) in rows.into_iter().enumerate() {
        assert_eq!(refusal(ask(&guard, &subject, at(slot), &format!("row {row}"))), expected, "slot {slot}, row {row}");
    }
}

fn attestations_neither_vote_twice_nor_surround(candidate: &Candidate<'_>) {
    let (guard, subject) = (Guard::new(candidate.ledger()), subject(1, "one"));
    let rows = [
        ((2, 5), "a", None),
        ((2, 5), "b", Some(Reason::Conflict)),
        ((3, 5), "a", Some(Reason::Conflict)),
        ((1, 6), "a", Some(Reason::Regression)),
        ((3, 4), "a", Some(Reason::Regression)),
        ((7, 6), "a", Some(Reason::Regression)),
        ((2, 6), "a", None),
        ((4, 9), "a", None),
        ((4, 8), "a", Some(Reason::Regression)),
        ((3, 10), "a", Some(Reason::Regression)),
        ((4, 10), "a", None),
    ];
    for ((source, target), text, expected) in rows {
        let position = Position::EthereumAttestation { source, target };
        let text = format!("{source} {target} {text}");
        assert_eq!(refusal(ask(&guard, &subject, position, &text)), expected, "{position}, {text}");
    }
}

fn each_version_is_committed_once_whoever_asks(candidate: &Candidate<'_>) {
    let (ledger, subject, lane) = (candidate.ledger(), subject(1, "one"), Lane::Tendermint);
    let work = |number: u64| {
        let (ledger, subject) = (&*ledger, &subject);
        move || {
            let (mut done, mut seen) = (Vec::new(), History::default());
            while (done.len() as u64) < ROUNDS {
                let found = history(ledger, subject, lane);
                let is_later = found.version >= seen.version && found.floor >= seen.floor;
                assert!(is_later, "one reader saw {:?} and then {:?}", seen.floor, found.floor);
                let next = found.floor.map_or(0, |Mark([n, ..])| n) + 1;
                let entry = entry(next, &format!("{number} at {next}"));
                match ledger.advance(subject, lane, found.version, entry.clone()) {
                    Advance::Conflict => {}
                    outcome => {
                        let version = committed(outcome);
                        let after = history(ledger, subject, lane);
                        assert!(
                            after.version >= version,
                            "version {version} was committed, {} was read",
                            after.version
                        );
                        done.push((version, entry));
                    }
                }
                seen = History::clone(&found);
            }
            done
        }
    };
    let done: Vec<(Version, Entry)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(work(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread of the suite panicked")).collect()
    });
    let by_version: BTreeMap<Version, &Entry> = done.iter().map(|(version, entry)| (*version, entry)).collect();
    assert_eq!(by_version.len(), done.len(), "one version was committed twice");
    let marks: Vec<u64> = by_version.values().map(|entry| entry.mark.0).map(|[n, ..]| n).collect();
    let expected: Vec<u64> = (1..=THREADS * ROUNDS).collect();
    assert_eq!(marks, expected, "an advance was committed at a version that it had not read");
    let found = history(&*ledger, &subject, lane);
    assert_eq!(Some(&found.version), by_version.keys().next_back());
    let last: Vec<&Entry> = by_version.values().copied().skip(done.len() - RECENT_MAX).collect();
    assert_eq!(found.recent.iter().collect::<Vec<_>>(), last, "what is stored is not what was committed");
}

fn of_those_who_ask_at_once_one_gets_a_signature(candidate: &Candidate<'_>) {
    let (guard, subject) = (Guard::new(candidate.ledger()), subject(1, "one"));
    let work = |number: u64| {
        let (guard, subject) = (&guard, &subject);
        move || {
            let signed =
                |height: &u64| refusal(ask(guard, subject, precommit(*height), &format!("block {number}"))).is_none();
            (1..=ROUNDS).filter(signed).collect::<Vec<u64>>()
        }
    };
    let mut signed: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(work(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread of the suite panicked")).collect()
    });
    signed.sort_unstable();
    let once: Vec<u64> = (1..=ROUNDS).filter(|height| signed.contains(height)).collect();
    assert_eq!(signed, once, "two messages were signed at one height");
    assert!(signed.contains(&ROUNDS), "nobody was signed for at the last height");
}

fn nothing_is_admitted_below_a_floor_that_was_acknowledged(candidate: &Candidate<'_>) {
    let (ledger, subject) = (candidate.ledger(), subject(1, "one"));
    let (guard, acknowledged) = (Guard::new(Arc::clone(&ledger)), AtomicU64::new(1));
    ledger.raise(&subject, Lane::Tendermint, Mark([1, 0, 3])).expect("raised");
    thread::scope(|scope| {
        for number in 1..THREADS {
            let (guard, subject, acknowledged) = (&guard, &subject, &acknowledged);
            scope.spawn(move || {
                loop {
                    let floor = acknowledged.load(Ordering::SeqCst);
                    for height in floor.saturating_sub(1)..floor + 3 {
                        let asked = ask(guard, subject, precommit(height), &format!("block {number}"));
                        let is_fresh = asked.is_ok_and(|answer| !answer.repeated);
                        assert!(!is_fresh || height > floor, "signed {height}, the floor was {floor}");
                    }
                    if floor >= ROUNDS * 2 {
                        return;
                    }
                }
            });
        }
        for floor in (2..=ROUNDS * 2).step_by(2) {
            ledger.raise(&subject, Lane::Tendermint, Mark([floor, 0, 3])).expect("raised");
            acknowledged.store(floor, Ordering::SeqCst);
        }
    });
}

fn holds_everything_when_opened_again(candidate: &Candidate<'_>) {
    let subjects = [subject(1, "one"), subject(1, "two"), subject(2, "one")];
    let mut expected: BTreeMap<(Subject, Lane), Arc<History>> = BTreeMap::new();
    for life in 0..LIVES {
        let ledger = candidate.ledger();
        for ((subject, lane), old) in &expected {
            let found = history(&*ledger, subject, *lane);
            assert_reopened(*lane, old, &found);
        }
        for (subject, lane) in subjects.iter().flat_map(|subject| lanes().map(move |lane| (subject, lane))) {
            // Above what a ledger may have closed to be on the safe side.
            let base = history(&*ledger, subject, lane).floor.map_or(0, |Mark([n, ..])| n) + 1;
            for n in base..base + 3 {
                let entry = entry(n, &format!("life {life}, {lane} {n}"));
                let (mark, digest) = (entry.mark, entry.digest);
                advance(&*ledger, subject, lane, entry);
                ledger.keep(subject, lane, mark, digest, &signature_of(&digest.0));
            }
            ledger.raise(subject, lane, Mark([base + 5, base, 0])).expect("raised");
        }
        // A tombstone outlives its ledger more than once before it is taken away.
        for (index, subject) in (0..).zip(&subjects) {
            if life == index || life == index + 2 {
                ledger.bury(subject, life == index).expect("buried, or brought back");
            }
        }
        for (subject, lane) in subjects.iter().flat_map(|subject| lanes().map(move |lane| (subject, lane))) {
            expected.insert((subject.clone(), lane), history(&*ledger, subject, lane));
        }
    }
}

/// Holds what a ledger says after it was opened again against what it said before.
fn assert_reopened(lane: Lane, old: &History, new: &History) {
    assert_eq!(new.tombstone, old.tombstone, "{lane}: the tombstone");
    let is_kept = match (old.floor, new.floor) {
        (Some(old), Some(new)) => lane.higher(old, new) == new,
        (old, _) => old.is_none(),
    };
    assert!(is_kept, "{lane}: the floor was {:?}, and is {:?}", old.floor, new.floor);
    let unsigned = |entry: &Entry| Entry { signature: None, ..entry.clone() };
    let answers = |history: &History| history.recent.iter().map(unsigned).collect::<Vec<_>>();
    assert_eq!(answers(new), answers(old), "{lane}: the last answers");
    for (old, new) in old.recent.iter().zip(&new.recent) {
        assert!(
            new.signature.is_none() || new.signature == old.signature,
            "{lane}: another signature at {:?}",
            old.mark
        );
    }
}
