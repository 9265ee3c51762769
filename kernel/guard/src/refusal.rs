//! "No", as a type of its own: not an error, and never a signature.

use crate::{Digest, Duty, HoldCause, Lane, Mark, Position, Subject};
use std::fmt;

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Another message was already signed at this position: a double signature, if it were made.
    Conflict,
    /// The position lies at or below the floor.
    Regression,
    /// The position lies further ahead than the named bound.
    TooFar,
    /// The outcome of a write is unknown; the position is burnt.
    Unknown,
    /// The key was deleted here, or handed over.
    Tombstoned,
    /// The ledger cannot answer.
    Unavailable,
    /// The key watches before it signs.
    Held,
}

impl Reason {
    /// Every reason, in the order of the codes.
    pub const ALL: [Self; 7] = [
        Self::Regression,
        Self::TooFar,
        Self::Conflict,
        Self::Unknown,
        Self::Tombstoned,
        Self::Unavailable,
        Self::Held,
    ];

    /// The stable code, for logs, alerts and `semel explain`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Regression => "GUARD-0001",
            Self::TooFar => "GUARD-0002",
            Self::Conflict => "GUARD-0003",
            Self::Unknown => "GUARD-0004",
            Self::Tombstoned => "GUARD-0005",
            Self::Unavailable => "GUARD-0006",
            Self::Held => "GUARD-0007",
        }
    }

    /// One word, for metric labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Regression => "regression",
            Self::TooFar => "too_far",
            Self::Unknown => "unknown",
            Self::Tombstoned => "tombstoned",
            Self::Unavailable => "unavailable",
            Self::Held => "held",
        }
    }

    /// What to do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Conflict => "most likely two nodes with different proposals use this key",
            Self::Regression => "a node that replays old heights, or that runs behind another node with this key",
            Self::TooFar => "if the chain really is this far, raise the floor on purpose: `state set-floor`",
            Self::Unknown => "the disk under the ledger failed; check it, then restart",
            Self::Tombstoned => "the key was handed over or deleted here",
            Self::Unavailable => "check the ledger's disk and the process log, then restart",
            Self::Held => {
                "wait a few heights and make sure that no other signer has this key; `[semel] hold_new_keys` and `--no-hold` leave it out"
            }
        }
    }
}

/// A refusal: nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Whose signature was asked for.
    pub subject: Subject,
    /// What was asked for.
    pub asked: Position,
    /// Digest of what was asked for.
    pub asked_digest: Digest,
    /// What the ledger holds: the entry at this position, or the floor.
    pub stored: Option<Mark>,
    /// Digest of what was signed there, where it is known.
    pub stored_digest: Option<Digest>,
    /// More words, for reasons that come from the ledger.
    pub detail: Option<String>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, duty: &Duty<'_>, stored: Option<Mark>, stored_digest: Option<Digest>) -> Self {
        let subject = duty.subject.clone();
        let asked_digest = duty.digest;
        Self { reason, subject, asked: duty.position, asked_digest, stored, stored_digest, detail: None }
    }

    pub(crate) fn detailed(reason: Reason, duty: &Duty<'_>, detail: String) -> Self {
        Self { detail: Some(detail), ..Self::new(reason, duty, None, None) }
    }

    /// What was begun was perhaps not made durable.
    pub(crate) fn unknown(subject: Subject, asked: Position, asked_digest: Digest, why: String) -> Self {
        let (stored, stored_digest) = (None, None);
        Self { reason: Reason::Unknown, subject, asked, asked_digest, stored, stored_digest, detail: Some(why) }
    }

    /// The lane watches up to `until`.
    pub(crate) fn held(duty: &Duty<'_>, until: Mark, cause: HoldCause) -> Self {
        let detail = format!("{cause}; closed is {}", duty.position.lane().show(until));
        Self { detail: Some(detail), ..Self::new(Reason::Held, duty, Some(until), None) }
    }

    fn lane(&self) -> Lane {
        self.asked.lane()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, subject, asked, .. } = self;
        let stored = self.stored.map(|mark| self.lane().show(mark));
        write!(f, "{}: {} on {} refused: ", reason.code(), asked, subject.chain)?;
        match (reason, stored) {
            (Reason::Conflict, _) => f.write_str("DOUBLE SIGN REFUSED, another message was signed there")?,
            (Reason::Regression, Some(stored)) => write!(f, "this key already signed {stored}")?,
            (Reason::TooFar, Some(stored)) => write!(f, "too far above {stored}")?,
            (Reason::TooFar, None) => f.write_str("too far for a first signature")?,
            (Reason::Regression, None) => f.write_str("it can never be signed")?,
            (Reason::Unknown, _) => f.write_str("the outcome of a write is unknown, the position is burnt")?,
            (Reason::Tombstoned, _) => f.write_str("the key has a tombstone")?,
            (Reason::Held, _) => f.write_str("the key waits a few heights before it signs here")?,
            (Reason::Unavailable, _) => f.write_str("the ledger cannot answer")?,
        }
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        f.write_str("; nothing was signed")
    }
}
