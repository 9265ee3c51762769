//! One thing that somebody asks to have signed.

use crate::{Position, Subject};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Longest message that the guard keeps for a replay, in bytes. A Tendermint vote with a 50-byte chain id has 190.
pub const BYTES_MAX: usize = 256;

/// SHA-256 of the bytes that are signed. Prints as upper-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02X}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|b| write!(f, "{b:02X}"))?;
        f.write_str("…")
    }
}

/// A duty that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DutyError {
    /// The message is empty or longer than [`BYTES_MAX`].
    #[error("a message to sign has 1 to {BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
}

/// One thing to sign: who, where in time, and the exact bytes.
#[derive(Debug, Clone, Copy)]
pub struct Duty<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) position: Position,
    pub(crate) bytes: &'a [u8],
    pub(crate) digest: Digest,
    pub(crate) content: Digest,
}

impl<'a> Duty<'a> {
    /// A duty whose question is the message itself.
    pub fn new(subject: &'a Subject, position: Position, bytes: &'a [u8]) -> Result<Self, DutyError> {
        Self::with_content(subject, position, bytes, bytes)
    }

    /// A duty where some of the message may differ without being another question: `content` is the message without
    /// that part (a Tendermint vote without its timestamp). Equal content at one position is a repeat, which is
    /// answered with the signature over the bytes of the *first* request; the new bytes are never signed.
    pub fn with_content(
        subject: &'a Subject,
        position: Position,
        bytes: &'a [u8],
        content: &[u8],
    ) -> Result<Self, DutyError> {
        if bytes.is_empty() || bytes.len() > BYTES_MAX {
            return Err(DutyError::Length(bytes.len()));
        }
        Ok(Self { subject, position, bytes, digest: Digest::of(bytes), content: Digest::of(content) })
    }

    /// Whose signature is asked for, and on which chain.
    pub fn subject(&self) -> &Subject {
        self.subject
    }

    /// Where in time it belongs.
    pub fn position(&self) -> Position {
        self.position
    }
}
