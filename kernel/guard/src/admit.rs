//! Admission: decide, make it durable, and only then let one signature happen.

use crate::{
    Advance, Begin, Digest, Duty, Entry, Hold, Ledger, Position, PublicKey, Reason, Refusal, SignError, Signature,
    Subject, Ticket, Verdict, Version,
};
use std::marker::PhantomData;
use std::sync::Arc;

/// Times a lane may change under a request before it is refused. Each change is another request that went first.
const RETRIES_MAX: usize = 64;

/// The right to make one signature: for this key, over bytes with this digest.
///
/// Exists only while the closure given to [`Guard::admit`] or [`Pending::finish`] runs, because its lifetime is that closure's own.
#[must_use = "a permit that is not used is a lost signature"]
pub struct Permit<'p> {
    pub(crate) key: &'p PublicKey,
    pub(crate) digest: Digest,
    version: Version,
    brand: PhantomData<fn(&'p ()) -> &'p ()>,
}

impl Permit<'_> {
    /// Digest of the one message that may be signed.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Ledger version that admitted it.
    pub fn version(&self) -> Version {
        self.version
    }
}

/// What an admitted duty got.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The signature.
    pub signature: Signature,
    /// The bytes it is over: those of the first request at this position.
    pub bytes: Arc<[u8]>,
    /// Whether the question had been answered before.
    pub repeated: bool,
}

/// What a duty got that was not signed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Denied {
    /// The guard said no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The position was admitted, but the key did not sign. Asking the same again may succeed.
    #[error("admitted, but not signed: {0}")]
    NotSigned(#[from] SignError),
}

/// A duty that may be signed as soon as it is durable, by the guard that began it. Dropped, it is a position that nobody signs but who
/// asks the same again.
#[must_use = "what was begun is to be finished"]
pub struct Pending<'g, L> {
    guard: &'g Guard<L>,
    subject: Subject,
    position: Position,
    asked: Digest,
    entry: Entry,
    version: Version,
    repeated: bool,
    /// None: it is durable.
    ticket: Option<Ticket>,
}

/// What comes of a duty at once.
#[expect(clippy::large_enum_variant, reason = "it is finished where it was begun, moments later")]
pub enum Begun<'g, L> {
    /// It had been answered before.
    Answered(Answer),
    /// It is to be finished.
    Pending(Pending<'g, L>),
}

/// The one way to a signature.
#[derive(Debug, Clone)]
pub struct Guard<L> {
    ledger: L,
}

impl<L: Ledger> Guard<L> {
    /// A guard over this ledger.
    pub fn new(ledger: L) -> Self {
        Self { ledger }
    }

    /// The ledger behind the guard.
    pub fn ledger(&self) -> &L {
        &self.ledger
    }

    /// Admits `duty` and lets `sign` make its signature, or answers with the stored one, or refuses.
    ///
    /// `sign` gets the permit and the bytes to sign, and is called at most once: for a position that was open, after
    /// the ledger has made it durable; for a repeat whose signature was lost, with the *stored* bytes.
    pub fn admit<S>(&self, duty: &Duty<'_>, sign: S) -> Result<Answer, Denied>
    where
        S: for<'p> FnOnce(Permit<'p>, &[u8]) -> Result<Signature, SignError>,
    {
        match self.begin(duty)? {
            Begun::Answered(answer) => Ok(answer),
            Begun::Pending(pending) => pending.finish(sign),
        }
    }

    /// The first half of [`admit`](Self::admit): decides, and writes down what may be signed. Who has many duties begins them all
    /// and then finishes them: they share one sync.
    pub fn begin(&self, duty: &Duty<'_>) -> Result<Begun<'_, L>, Denied> {
        let lane = duty.position.lane();
        for _ in 0..RETRIES_MAX {
            let unavailable = |why| self.refused(Refusal::detailed(Reason::Unavailable, duty, why));
            let history = self.ledger.history(duty.subject, lane).map_err(|why| unavailable(why.0))?;
            let pending = |entry, version, repeated, ticket| {
                let (subject, position, asked) = (duty.subject.clone(), duty.position, duty.digest);
                Ok(Begun::Pending(Pending { guard: self, subject, position, asked, entry, version, repeated, ticket }))
            };
            match crate::decide(&history, duty) {
                Verdict::Refuse(refusal) => return Err(self.refused(refusal)),
                Verdict::Watch => {
                    let watched = self
                        .ledger
                        .watch(duty.subject, lane, duty.position.mark())
                        .map_err(|why| unavailable(why.0))?;
                    // None: the hold was lifted meanwhile.
                    let Some(Hold { cause, until: Some(until) }) = watched else { continue };
                    return Err(self.refused(Refusal::held(duty, until, cause)));
                }
                Verdict::Replay(Entry { signature: Some(signature), bytes, .. }) => {
                    return Ok(Begun::Answered(Answer { signature, bytes, repeated: true }));
                }
                Verdict::Replay(entry) => return pending(entry, history.version, true, None),
                Verdict::Fresh => {
                    // The ledger changes its own copy, and need not make one because of this one.
                    let expected = history.version;
                    drop(history);
                    let entry = Entry {
                        mark: duty.position.mark(),
                        digest: duty.digest,
                        content: duty.content,
                        bytes: duty.bytes.into(),
                        signature: None,
                    };
                    match self.ledger.begin(duty.subject, lane, expected, entry.clone()) {
                        Begin::Written(version, ticket) => return pending(entry, version, false, Some(ticket)),
                        Begin::Done(Advance::Committed(version)) => return pending(entry, version, false, None),
                        Begin::Done(Advance::Conflict) => continue,
                        Begin::Done(Advance::Unknown(why)) => {
                            return Err(self.refused(Refusal::detailed(Reason::Unknown, duty, why)));
                        }
                        Begin::Done(Advance::Unavailable(why)) => return Err(unavailable(why.0)),
                    }
                }
            }
        }
        Err(self.refused(Refusal::detailed(Reason::Unavailable, duty, "too many requests for one lane".into())))
    }

    fn refused(&self, refusal: Refusal) -> Denied {
        self.ledger.refused(&refusal);
        Denied::Refused(Box::new(refusal))
    }
}

impl<L: Ledger> Pending<'_, L> {
    /// The second half of [`Guard::admit`]: waits until the duty is durable, and only then makes the permit and lets `sign` make its
    /// signature.
    pub fn finish<S>(self, sign: S) -> Result<Answer, Denied>
    where
        S: for<'p> FnOnce(Permit<'p>, &[u8]) -> Result<Signature, SignError>,
    {
        let Self { guard, subject, position, asked, entry, version, repeated, ticket } = self;
        if let Some(Err(why)) = ticket.map(|ticket| guard.ledger.settle(ticket)) {
            return Err(guard.refused(Refusal::unknown(subject, position, asked, why)));
        }
        let permit = Permit { key: &subject.key, digest: entry.digest, version, brand: PhantomData };
        let signature = sign(permit, &entry.bytes)?;
        guard.ledger.keep(&subject, position.lane(), entry.mark, entry.digest, &signature);
        Ok(Answer { signature, bytes: entry.bytes, repeated })
    }
}
