//! Every sequence of up to four requests over three messages and nil, at three positions, with the process ending at every step of
//! every request. After each, everything that was ever signed is held against the invariants.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod stage;

use semel_guard::{Denied, Digest, Guard, History, Lane, Mark, Position, Reason, Step};
use stage::{Model, Scripted, precommit, subject};
use std::collections::BTreeMap;

/// Requests in a sequence.
const DEPTH: u32 = 4;

/// Three messages and nil: a value like any other.
const VALUES: [&str; 4] = ["A", "B", "C", ""];

/// Where the process ends within a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It does not.
    Never,
    /// The entry is not on the medium.
    BeforeWrite,
    /// The entry is, and nothing was signed.
    BeforeSign,
    /// The signature was made and left, and the ledger does not have it.
    BeforeKeep,
}

const ENDS: [End; 4] = [End::Never, End::BeforeWrite, End::BeforeSign, End::BeforeKeep];

fn positions() -> [Position; 3] {
    [Position::Tendermint { height: 1, round: 0, step: Step::Prevote }, precommit(1), precommit(2)]
}

/// What left the signer, by position.
type Signed = BTreeMap<Mark, (String, Digest)>;

struct Walk {
    sequences: u64,
    signatures: u64,
    repeats: u64,
    refusals: BTreeMap<&'static str, u64>,
}

impl Walk {
    /// All continuations of a sequence of `depth` requests.
    fn on(&mut self, model: &Model, signed: &Signed, depth: u32) {
        if depth == DEPTH {
            return;
        }
        for position in positions() {
            for value in VALUES {
                for end in ENDS {
                    self.sequences += 1;
                    let (model, signed) = self.ask(model.clone(), signed.clone(), position, value, end, depth);
                    self.on(&model, &signed, depth + 1);
                }
            }
        }
    }

    fn ask(
        &mut self,
        mut model: Model,
        mut signed: Signed,
        position: Position,
        value: &str,
        end: End,
        depth: u32,
    ) -> (Model, Signed) {
        let (subject, lane, mark) = (subject(1), Lane::Tendermint, position.mark());
        let before = model.medium(lane);
        model.loses_writes = end == End::BeforeWrite;
        model.ends_after_write = end == End::BeforeSign;
        let guard = Guard::new(Scripted::new(model));
        // No two requests have the same time: an equal message is always a repeat with another timestamp.
        let bytes = format!("{value} at {depth}");
        let duty = semel_guard::Duty::with_content(&subject, position, bytes.as_bytes(), value.as_bytes()).unwrap();
        let mut left = None;
        let asked = guard.admit(&duty, |permit, bytes| {
            let medium = guard.ledger().model().medium(lane);
            let entry = medium.at(lane, mark).expect("a permit before the entry is on the medium");
            assert_eq!((entry.digest, &*entry.bytes), (permit.digest(), bytes), "a permit for other bytes");
            left = Some(bytes.to_vec());
            Ok(stage::signature_of(bytes))
        });
        match &asked {
            Ok(answer) if answer.repeated => self.repeats += 1,
            Ok(_) => self.signatures += 1,
            Err(Denied::Refused(refusal)) => *self.refusals.entry(refusal.reason.label()).or_default() += 1,
            Err(other) => panic!("{other}"),
        }
        // What the key made counts as seen by the world, also where the process ended before the answer went out.
        let seen = left.or_else(|| asked.as_ref().ok().map(|answer| answer.bytes.to_vec()));
        if let Some(bytes) = seen {
            let digest = Digest::of(&bytes);
            let (content, first) = signed.entry(mark).or_insert_with(|| (value.to_owned(), digest));
            assert_eq!((content.as_str(), *first), (value, digest), "two messages signed at {position}");
            let highest = signed.keys().next_back();
            let is_repeat = before.at(lane, mark).is_some();
            assert!(is_repeat || highest == Some(&mark), "{position} signed below {highest:?}");
        }
        if let (Some((content, _)), Err(Denied::Refused(refusal))) = (signed.get(&mark), &asked)
            && content != value
        {
            assert!(matches!(refusal.reason, Reason::Conflict | Reason::Unavailable), "{refusal}");
        }
        let mut model = guard.ledger().model();
        let after = model.medium(lane);
        assert!(after.floor >= before.floor, "the floor fell from {:?} to {:?}", before.floor, after.floor);
        if end != End::Never {
            model.restart(end == End::BeforeKeep);
        }
        self.hold(&model.medium(lane), &signed);
        (model, signed)
    }

    /// Nothing that was signed lies above the floor.
    fn hold(&self, history: &History, signed: &Signed) {
        let highest = signed.keys().next_back().copied();
        assert!(history.floor >= highest, "signed at {highest:?}, and the floor is {:?}", history.floor);
    }
}

#[test]
fn no_sequence_of_requests_and_crashes_signs_twice() {
    let mut walk = Walk { sequences: 0, signatures: 0, repeats: 0, refusals: BTreeMap::new() };
    walk.on(&Model::default(), &Signed::new(), 0);
    let choices = (positions().len() * VALUES.len() * ENDS.len()) as u64;
    assert_eq!(walk.sequences, (1..=DEPTH).map(|length| choices.pow(length)).sum::<u64>());
    println!(
        "{} sequences, {} signatures, {} repeats, refusals {:?}",
        walk.sequences, walk.signatures, walk.repeats, walk.refusals
    );
    for reason in [Reason::Conflict, Reason::Regression, Reason::Unknown, Reason::Unavailable] {
        assert!(walk.refusals.get(reason.label()).is_some_and(|count| *count > 0), "never refused for {reason:?}");
    }
    assert!(walk.signatures > 100_000 && walk.repeats > 100_000);
}
