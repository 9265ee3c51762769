//! Admission: what reaches the key, when, and how often, whatever the ledger answers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

mod stage;

use semel_guard::{
    Admitted, Advance, Algorithm, Begin, Begun, Benign, Denied, Duty, Entry, Guard, History, Key, Lane, Ledger, Mark,
    PublicKey, Reason, Refusal, SignError, Signature, Signer, Subject, Ticket, Unavailable, Version,
};
use stage::{Model, Scripted, precommit, signature_of, subject};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

fn duty<'a>(subject: &'a Subject, height: u64, text: &'a str) -> Duty<'a> {
    let content = text.split(" at ").next().unwrap();
    Duty::with_content(subject, precommit(height), text.as_bytes(), content.as_bytes()).unwrap()
}

/// Asks, and says what was signed in this call.
fn ask(guard: &Guard<Scripted>, duty: &Duty<'_>) -> (Result<semel_guard::Answer, Denied>, Option<Vec<u8>>) {
    let mut signed = None;
    let answer = guard.admit(duty, |_, bytes| {
        assert!(signed.replace(bytes.to_vec()).is_none(), "signed twice in one call");
        Ok(signature_of(bytes))
    });
    (answer, signed)
}

fn reason(answer: Result<semel_guard::Answer, Denied>) -> Reason {
    match answer {
        Err(Denied::Refused(refusal)) => refusal.reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_fresh_position_is_committed_once_and_signed_once() {
    let subject = subject(1);
    let guard = Guard::new(Scripted::new(Model::default()));
    let (answer, signed) = ask(&guard, &duty(&subject, 5, "A at 1"));
    let answer = answer.unwrap();
    assert_eq!((answer.repeated, &*answer.bytes, signed.as_deref()), (false, &b"A at 1"[..], Some(&b"A at 1"[..])));
    assert_eq!(answer.signature, signature_of(b"A at 1"));
    assert_eq!(guard.ledger().model().advances, 1);
}

#[test]
fn a_repeat_is_answered_from_the_ledger_and_the_key_is_not_asked() {
    let subject = subject(1);
    let guard = Guard::new(Scripted::new(Model::default()));
    let first = ask(&guard, &duty(&subject, 5, "A at 1")).0.unwrap();
    let (again, signed) = ask(&guard, &duty(&subject, 5, "A at 2"));
    let again = again.unwrap();
    assert_eq!((again.repeated, again.signature, &again.bytes), (true, first.signature, &first.bytes));
    assert_eq!((signed, guard.ledger().model().advances), (None, 1));
}

#[test]
fn a_key_that_failed_signs_the_stored_bytes_when_asked_again() {
    let subject = subject(1);
    let guard = Guard::new(Scripted::new(Model::default()));
    let failed =
        guard.admit(&duty(&subject, 5, "A at 1"), |_, _| Err(SignError { provider: "x".into(), reason: "y".into() }));
    assert!(matches!(failed, Err(Denied::NotSigned(_))));
    assert_eq!(reason(ask(&guard, &duty(&subject, 5, "B at 1")).0), Reason::Conflict, "the position is taken");
    let (answer, signed) = ask(&guard, &duty(&subject, 5, "A at 2"));
    assert_eq!((answer.unwrap().repeated, signed.as_deref()), (true, Some(&b"A at 1"[..])));
    assert_eq!(guard.ledger().model().advances, 1, "a repeat is no advance");
}

#[test]
fn what_the_ledger_says_decides_whether_the_key_is_asked() {
    let rows: [(&str, Model, Option<Reason>); 5] = [
        ("committed", Model::default(), None),
        ("changed a few times under the request", Model { conflicts: 5, ..Model::default() }, None),
        ("changed for ever", Model { conflicts: u32::MAX, ..Model::default() }, Some(Reason::Unavailable)),
        ("nothing written", Model { loses_writes: true, ..Model::default() }, Some(Reason::Unavailable)),
        ("nobody knows", Model { ends_after_write: true, ..Model::default() }, Some(Reason::Unknown)),
    ];
    for (name, model, expected) in rows {
        let subject = subject(1);
        let guard = Guard::new(Scripted::new(model));
        let (answer, signed) = ask(&guard, &duty(&subject, 5, "A at 1"));
        assert_eq!(signed.is_some(), expected.is_none(), "{name}");
        if let Some(expected) = expected {
            assert_eq!(reason(answer), expected, "{name}");
            let refused = guard.ledger().model().refused;
            assert_eq!(refused.iter().map(|refusal| refusal.reason).collect::<Vec<_>>(), [expected], "{name}");
        }
    }
}

#[test]
fn an_unknown_outcome_burns_the_position() {
    let subject = subject(1);
    let guard = Guard::new(Scripted::new(Model { ends_after_write: true, ..Model::default() }));
    assert_eq!(reason(ask(&guard, &duty(&subject, 5, "A at 1")).0), Reason::Unknown);
    let mut model = guard.ledger().model();
    model.restart(true);
    let guard = Guard::new(Scripted::new(model));
    assert_eq!(reason(ask(&guard, &duty(&subject, 5, "B at 1")).0), Reason::Conflict);
}

#[test]
fn every_refusal_reaches_the_audit_log_with_what_is_stored() {
    let subject = subject(1);
    let guard = Guard::new(Scripted::new(Model::default()));
    ask(&guard, &duty(&subject, 5, "A at 1")).0.unwrap();
    for (height, expected) in [(5, Reason::Conflict), (4, Reason::Regression), (9_000_000, Reason::TooFar)] {
        assert_eq!(reason(ask(&guard, &duty(&subject, height, "B at 1")).0), expected);
        let refusal = guard.ledger().model().refused.pop().unwrap();
        assert_eq!(
            (refusal.reason, refusal.asked, refusal.stored),
            (expected, precommit(height), Some(precommit(5).mark()))
        );
        assert_eq!(refusal.stored_digest.is_some(), expected == Reason::Conflict);
    }
    guard.ledger().bury(&subject, true).unwrap();
    assert_eq!(reason(ask(&guard, &duty(&subject, 6, "A at 1")).0), Reason::Tombstoned);
}

/// A ledger that another request always outruns by exactly one position.
struct Outrun(Scripted);

impl Ledger for Outrun {
    fn history(&self, subject: &Subject, lane: Lane) -> Result<Arc<History>, Unavailable> {
        self.0.history(subject, lane)
    }
    fn advance(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Advance {
        // The other one asks for the same position, with another message.
        let bytes: Arc<[u8]> = (&b"other"[..]).into();
        let digest = semel_guard::Digest::of(&bytes);
        self.0.advance(subject, lane, expected, Entry { digest, content: digest, bytes, ..entry.clone() });
        self.0.advance(subject, lane, expected, entry)
    }
    fn keep(&self, _: &Subject, _: Lane, _: Mark, _: semel_guard::Digest, _: &Signature) {}
    fn raise(&self, _: &Subject, _: Lane, _: Mark) -> Result<(), Unavailable> {
        Ok(())
    }
    fn bury(&self, _: &Subject, _: bool) -> Result<(), Unavailable> {
        Ok(())
    }
    fn refused(&self, _: &Refusal) {}
}

#[test]
fn of_two_requests_for_one_position_the_second_sees_the_first() {
    let subject = subject(1);
    let guard = Guard::new(Outrun(Scripted::new(Model::default())));
    let asked = guard.admit(&duty(&subject, 5, "A at 1"), |_, _| panic!("signed"));
    assert_eq!(reason(asked), Reason::Conflict);
}

/// A ledger that says later whether what was begun is durable.
struct Later {
    medium: Scripted,
    settled: Mutex<Vec<Ticket>>,
    fails: bool,
}

impl Ledger for Later {
    fn history(&self, subject: &Subject, lane: Lane) -> Result<Arc<History>, Unavailable> {
        self.medium.history(subject, lane)
    }
    fn advance(&self, _: &Subject, _: Lane, _: Version, _: Entry) -> Advance {
        panic!("a guard that begins does not wait")
    }
    fn begin(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Begin {
        match self.medium.advance(subject, lane, expected, entry) {
            Advance::Committed(version) => Begin::Written(version, Ticket(100 + version)),
            other => Begin::Done(other),
        }
    }
    fn settle(&self, ticket: Ticket) -> Result<(), String> {
        self.settled.lock().unwrap().push(ticket);
        if self.fails { Err("the disk is gone".into()) } else { Ok(()) }
    }
    fn keep(&self, subject: &Subject, lane: Lane, mark: Mark, digest: semel_guard::Digest, signature: &Signature) {
        self.medium.keep(subject, lane, mark, digest, signature);
    }
    fn raise(&self, _: &Subject, _: Lane, _: Mark) -> Result<(), Unavailable> {
        Ok(())
    }
    fn bury(&self, _: &Subject, _: bool) -> Result<(), Unavailable> {
        Ok(())
    }
    fn refused(&self, refusal: &Refusal) {
        self.medium.refused(refusal);
    }
}

fn later(fails: bool) -> Guard<Later> {
    Guard::new(Later { medium: Scripted::new(Model::default()), settled: Mutex::default(), fails })
}

#[test]
fn what_is_begun_is_signed_when_it_is_settled_and_not_before() {
    let subject = subject(1);
    let guard = later(false);
    let begun = [5, 6].map(|height| guard.begin(&duty(&subject, height, "A at 1")).unwrap());
    assert_eq!(*guard.ledger().settled.lock().unwrap(), [], "beginning waits for nothing");
    for (count, begun) in (1..).zip(begun) {
        let Begun::Pending(pending) = begun else { panic!("answered") };
        let answer = pending.finish(|_, bytes| {
            assert_eq!(guard.ledger().settled.lock().unwrap().len(), count, "signed before it was settled");
            Ok(signature_of(bytes))
        });
        assert_eq!(answer.unwrap().signature, signature_of(b"A at 1"));
    }
    assert_eq!(*guard.ledger().settled.lock().unwrap(), [Ticket(101), Ticket(102)]);
    assert!(matches!(guard.begin(&duty(&subject, 6, "A at 2")), Ok(Begun::Answered(answer)) if answer.repeated));
}

#[test]
fn what_does_not_settle_is_refused_as_unknown_and_the_key_is_not_asked() {
    let subject = subject(1);
    let guard = later(true);
    let Ok(Begun::Pending(pending)) = guard.begin(&duty(&subject, 5, "A at 1")) else { panic!("answered") };
    let finished = pending.finish(|_, _| panic!("signed"));
    let Err(Denied::Refused(refusal)) = finished else { panic!("{finished:?}") };
    assert_eq!((refusal.reason, refusal.asked), (Reason::Unknown, precommit(5)));
    assert_eq!(refusal.detail.as_deref(), Some("the disk is gone"));
    assert_eq!(guard.ledger().medium.model().refused, [*refusal]);
    assert_eq!(reason(guard.admit(&duty(&subject, 5, "B at 1"), |_, _| panic!("signed"))), Reason::Conflict);
}

/// Signs anything, and counts.
struct Counting {
    key: PublicKey,
    signed: Arc<AtomicUsize>,
}

impl Signer for Counting {
    fn public_key(&self) -> &PublicKey {
        &self.key
    }
    fn provider(&self) -> &str {
        "counting"
    }
    fn sign(&self, message: Admitted<'_>) -> Result<Signature, SignError> {
        self.signed.fetch_add(1, Ordering::SeqCst);
        Ok(signature_of(message.bytes()))
    }
}

#[test]
fn a_key_takes_its_own_permit_for_the_admitted_bytes_and_nothing_else() {
    let (ours, theirs) = (subject(1), subject(2));
    let signed = Arc::new(AtomicUsize::new(0));
    let key = Key::new(Box::new(Counting { key: ours.key.clone(), signed: Arc::clone(&signed) }));
    let guard = Guard::new(Scripted::new(Model::default()));
    let good = guard.admit(&duty(&ours, 5, "A at 1"), |permit, bytes| key.sign(permit, bytes));
    assert_eq!((good.unwrap().signature, signed.load(Ordering::SeqCst)), (signature_of(b"A at 1"), 1));
    let other_bytes = guard.admit(&duty(&ours, 6, "A at 1"), |permit, _| key.sign(permit, b"B at 1"));
    let other_key = guard.admit(&duty(&theirs, 7, "A at 1"), |permit, bytes| key.sign(permit, bytes));
    for (failed, word) in [(other_bytes, "another message"), (other_key, "another key")] {
        let Err(Denied::NotSigned(error)) = failed else { panic!("signed") };
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(signed.load(Ordering::SeqCst), 1);
}

#[test]
fn a_vote_extension_is_never_the_bytes_of_a_vote_or_proposal() {
    let chain = subject(1).chain;
    let spelled_like_a_vote = [0x08, 0x02, 0x11, 1, 0, 0, 0, 0, 0, 0, 0];
    for extension in [&b""[..], b"x", &spelled_like_a_vote, &[0x08; 300]] {
        for height in [1, i64::MAX] {
            for round in [0, 1, i64::MAX] {
                let bytes = Benign::VoteExtension { chain: &chain, height, round, extension }.bytes();
                let body = if bytes[0] < 0x80 { &bytes[1..] } else { &bytes[2..] };
                // A canonical vote or proposal begins with its type: field 1 as a varint.
                assert!(matches!(body[0], 0x0a | 0x11), "{body:02x?}");
            }
        }
    }
    let golden = Benign::VoteExtension { chain: &chain, height: 1, round: 2, extension: b"ab" }.bytes();
    assert_eq!(
        golden,
        [&[30, 0x0a, 2][..], b"ab", &[0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x19, 2, 0, 0, 0, 0, 0, 0, 0, 0x22, 6], b"test-1"]
            .concat()
    );
}

#[test]
fn bytes_of_an_application_are_never_the_bytes_of_a_vote_proposal_or_extension() {
    let chain = subject(1).chain;
    for raw_bytes in [&b"x"[..], &[0x08, 0x02, 0x11], &[0x08; 300]] {
        for unique_id in ["a", "an id"] {
            let bytes = Benign::RawBytes { chain: &chain, unique_id, raw_bytes }.bytes();
            assert!(bytes.starts_with(b"COMET::RAW_BYTES::SIGN"));
            // Behind its length, of one byte or two, a canonical message begins with one of these.
            assert!(bytes[1..3].iter().all(|byte| !matches!(byte, 0x08 | 0x0a | 0x11)), "{bytes:02x?}");
        }
    }
    let golden = Benign::RawBytes { chain: &chain, unique_id: "id", raw_bytes: b"ab" }.bytes();
    let parts = [&b"COMET::RAW_BYTES::SIGN"[..], &[16, 0x0a, 6], b"test-1", &[0x12, 2], b"ab", &[0x1a, 2], b"id"];
    assert_eq!(golden, parts.concat());
}

#[test]
fn messages_signatures_keys_and_chain_ids_have_their_lengths() {
    let subject = subject(1);
    for (length, good) in [(0, false), (1, true), (256, true), (257, false), (100_000, false)] {
        assert_eq!(Duty::new(&subject, precommit(1), &vec![7; length]).is_ok(), good, "message of {length}");
    }
    for (length, good) in [(0, false), (1, true), (64, true), (96, true), (97, false)] {
        assert_eq!(Signature::new(&vec![7; length]).is_ok(), good, "signature of {length}");
    }
    for (algorithm, length) in
        [(Algorithm::Ed25519, 32), (Algorithm::Sr25519, 32), (Algorithm::Secp256k1, 33), (Algorithm::Bls12381, 48)]
    {
        for wrong in [0, length - 1, length + 1, 500] {
            assert!(PublicKey::new(algorithm, &vec![7; wrong]).is_err(), "{algorithm} of {wrong}");
        }
        assert_eq!(PublicKey::new(algorithm, &vec![7; length]).unwrap().as_bytes(), vec![7; length]);
    }
    let chain = semel_guard::ChainId::new;
    for (id, good) in
        [("", false), ("a", true), (&"x".repeat(128), true), (&"x".repeat(129), false), ("a\nb", false), ("a\0", false)]
    {
        assert_eq!(chain(id).is_ok(), good, "{id:?}");
    }
}
