//! What a ledger must do. Its implementations live elsewhere and pass one conformance suite.

use crate::{Digest, Entry, History, Hold, Lane, Mark, Refusal, Signature, Subject, Version};
use std::sync::Arc;

/// The ledger cannot answer: closed, halted by a failed write, or not the owner of this key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// What to ask [`Ledger::settle`] with: the entry that was written, in the ledger's own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// Outcome of a compare-and-advance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advance {
    /// The entry is durable; the lane has this version now.
    Committed(Version),
    /// The lane had another version; nothing was written.
    Conflict,
    /// Nobody knows whether the entry is durable. The position counts as signed.
    Unknown(String),
    /// Nothing was written.
    Unavailable(Unavailable),
}

/// Outcome of the first half of a compare-and-advance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// The entry is in its place, the lane has this version now, and [`Ledger::settle`] says when it is durable.
    Written(Version, Ticket),
    /// There is nothing to settle.
    Done(Advance),
}

/// The durable memory of what was signed: one linearizable register per (subject, lane).
pub trait Ledger: Send + Sync {
    /// What is known of a lane. A lane nobody has used is an empty history.
    fn history(&self, subject: &Subject, lane: Lane) -> Result<Arc<History>, Unavailable>;

    /// If the lane has version `expected`, adds `entry` to it and returns once that is durable.
    fn advance(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Advance;

    /// The first half of [`advance`](Self::advance): several lanes can begin before the first of them waits, and wait for one
    /// sync. Until it is settled, nobody else is told of the entry either. A ledger that is durable at once keeps this.
    fn begin(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Begin {
        Begin::Done(self.advance(subject, lane, expected, entry))
    }

    /// The second half: returns once what was begun is durable. On an error nobody knows whether it is, and the position counts
    /// as signed.
    fn settle(&self, _ticket: Ticket) -> Result<(), String> {
        Err("this ledger has given no ticket".into())
    }

    /// Stores the signature of an admitted entry. Need not be durable: a lost signature is made again from the
    /// entry's bytes.
    fn keep(&self, subject: &Subject, lane: Lane, mark: Mark, digest: Digest, signature: &Signature);

    /// Closes every position at or below `floor`, durably. A lower floor than the present one changes nothing.
    fn raise(&self, subject: &Subject, lane: Lane, floor: Mark) -> Result<(), Unavailable>;

    /// Writes a tombstone for every lane of the subject, or takes it away, durably.
    fn bury(&self, subject: &Subject, buried: bool) -> Result<(), Unavailable>;

    /// A held lane was asked for `asked`: from here on, everything up to [`Lane::held`] of it is refused, durably. The first word
    /// counts. Returns the hold; None: there is none. A ledger that never holds keeps this.
    fn watch(&self, _subject: &Subject, _lane: Lane, _asked: Mark) -> Result<Option<Hold>, Unavailable> {
        Err(Unavailable("this ledger knows no hold".into()))
    }

    /// Takes a refusal into the audit log, before the answer leaves. Need not be durable.
    fn refused(&self, refusal: &Refusal);
}

impl<L: Ledger + ?Sized> Ledger for Arc<L> {
    fn history(&self, subject: &Subject, lane: Lane) -> Result<Arc<History>, Unavailable> {
        (**self).history(subject, lane)
    }
    fn advance(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Advance {
        (**self).advance(subject, lane, expected, entry)
    }
    fn begin(&self, subject: &Subject, lane: Lane, expected: Version, entry: Entry) -> Begin {
        (**self).begin(subject, lane, expected, entry)
    }
    fn settle(&self, ticket: Ticket) -> Result<(), String> {
        (**self).settle(ticket)
    }
    fn keep(&self, subject: &Subject, lane: Lane, mark: Mark, digest: Digest, signature: &Signature) {
        (**self).keep(subject, lane, mark, digest, signature);
    }
    fn raise(&self, subject: &Subject, lane: Lane, floor: Mark) -> Result<(), Unavailable> {
        (**self).raise(subject, lane, floor)
    }
    fn bury(&self, subject: &Subject, buried: bool) -> Result<(), Unavailable> {
        (**self).bury(subject, buried)
    }
    fn watch(&self, subject: &Subject, lane: Lane, asked: Mark) -> Result<Option<Hold>, Unavailable> {
        (**self).watch(subject, lane, asked)
    }
    fn refused(&self, refusal: &Refusal) {
        (**self).refused(refusal);
    }
}
