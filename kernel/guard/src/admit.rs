//! Admission: decide, make it durable, and only then let one signature happen.

use crate::{
    Advance, Digest, Duty, Entry, Hold, Ledger, PublicKey, Reason, Refusal, SignError, Signature, Verdict, Version,
};
use std::marker::PhantomData;
use std::sync::Arc;

/// Times a lane may change under a request before it is refused. Each change is another request that went first.
const RETRIES_MAX: usize = 64;

/// The right to make one signature: for this key, over bytes with this digest.
///
/// Exists only while the closure given to [`Guard::admit`] runs, because its lifetime is that closure's own.
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
        let lane = duty.position.lane();
        for _ in 0..RETRIES_MAX {
            let unavailable = |why| self.refused(Refusal::detailed(Reason::Unavailable, duty, why));
            let history = self.ledger.history(duty.subject, lane).map_err(|why| unavailable(why.0))?;
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
                    return Ok(Answer { signature, bytes, repeated: true });
                }
                Verdict::Replay(entry) => return self.sign(duty, entry, history.version, true, sign),
                Verdict::Fresh => {
                    let entry = Entry {
                        mark: duty.position.mark(),
                        digest: duty.digest,
                        content: duty.content,
                        bytes: duty.bytes.into(),
                        signature: None,
                    };
                    match self.ledger.advance(duty.subject, lane, history.version, entry.clone()) {
                        Advance::Committed(version) => return self.sign(duty, entry, version, false, sign),
                        Advance::Conflict => continue,
                        Advance::Unknown(why) => {
                            return Err(self.refused(Refusal::detailed(Reason::Unknown, duty, why)));
                        }
                        Advance::Unavailable(why) => return Err(unavailable(why.0)),
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

    fn sign<S>(
        &self,
        duty: &Duty<'_>,
        entry: Entry,
        version: Version,
        repeated: bool,
        sign: S,
    ) -> Result<Answer, Denied>
    where
        S: for<'p> FnOnce(Permit<'p>, &[u8]) -> Result<Signature, SignError>,
    {
        let permit = Permit { key: &duty.subject.key, digest: entry.digest, version, brand: PhantomData };
        let signature = sign(permit, &entry.bytes)?;
        self.ledger.keep(duty.subject, duty.position.lane(), entry.mark, entry.digest, &signature);
        Ok(Answer { signature, bytes: entry.bytes, repeated })
    }
}
