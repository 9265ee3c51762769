//! One key on one chain: the guard before it, the key behind it, the state file beside it.

use super::tally::Tally;
use semel_guard::{Answer, Benign, Denied, Duty, Guard, Key, Mark, Position, Signature, Subject};
use semel_ledger::interchange::Mirror;
use semel_ledger::{Journal, take_waited};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A key that signs for a chain. Shared by every connection of that chain.
pub struct Chain {
    subject: Subject,
    key: Key,
    guard: Guard<Journal>,
    mirror: Mutex<Mirrored>,
    tally: Tally,
}

/// The state file, and the last position in it.
struct Mirrored {
    file: Option<Mirror>,
    last: Option<Mark>,
}

/// What to sign, as decided by the session.
pub struct Ask<'a> {
    /// Where it belongs.
    pub position: Position,
    /// The canonical message.
    pub sign_bytes: &'a [u8],
    /// The same without its timestamp.
    pub content: &'a [u8],
    /// The vote extension to sign with it.
    pub extension: Option<Benign<'a>>,
}

/// What was signed.
pub struct Signed {
    /// The signature, and the bytes it is over.
    pub answer: Answer,
    /// Signature of the vote extension.
    pub extension: Option<Signature>,
    /// Time in the guard, the ledger and the state file, without the wait for the medium.
    pub state: Duration,
    /// Time in which the medium was waited for.
    pub fsync: Duration,
    /// Time in the key.
    pub sign: Duration,
}

impl Chain {
    /// A key behind its guard. `state_file` gets each position before the answer leaves.
    pub fn new(subject: Subject, key: Key, guard: Guard<Journal>, state_file: Option<Mirror>) -> Self {
        let tally = Tally::new(&subject);
        Self { subject, key, guard, mirror: Mutex::new(Mirrored { file: state_file, last: None }), tally }
    }

    /// The key and the chain.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What it signed and refused since the start.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Name of the key's backend.
    pub fn provider(&self) -> &str {
        self.key.provider()
    }

    /// Asks the guard, signs, and writes the state file, in this order.
    pub fn sign(&self, ask: &Ask<'_>) -> Result<Signed, Denied> {
        let unsignable =
            |reason: String| Denied::NotSigned(semel_guard::SignError { provider: self.provider().into(), reason });
        let duty = Duty::with_content(&self.subject, ask.position, ask.sign_bytes, ask.content)
            .map_err(|error| unsignable(error.to_string()))?;
        let start = Instant::now();
        // What this thread waited for before is not this request's.
        let _before = take_waited();
        let mut sign = Duration::ZERO;
        let answer = self.guard.admit(&duty, |permit, bytes| {
            let begun = Instant::now();
            let signature = self.key.sign(permit, bytes);
            sign = begun.elapsed();
            signature
        })?;
        let fsync = take_waited();
        // The extension has no position of its own; each request gets the signature over the extension it brought.
        let extend = |extension| {
            let begun = Instant::now();
            let signature = self.key.sign_benign(extension);
            sign += begun.elapsed();
            signature
        };
        let extension = ask.extension.as_ref().map(extend).transpose()?;
        self.mirror(ask.position, &answer);
        let state = start.elapsed().saturating_sub(sign + fsync);
        Ok(Signed { answer, extension, state, fsync, sign })
    }

    /// Signs what cannot be slashed and has no position.
    ///
    /// # Errors
    /// What the key said.
    pub fn sign_benign(&self, message: &Benign<'_>) -> Result<Signature, semel_guard::SignError> {
        self.key.sign_benign(message)
    }

    /// Writes the state file, unless it is ahead already. A failure is no refusal: the ledger holds the truth.
    fn mirror(&self, position: Position, answer: &Answer) {
        let mark = position.mark();
        let mut mirror = self.mirror.lock().unwrap_or_else(PoisonError::into_inner);
        if mirror.last.is_some_and(|last| mark <= last) {
            return;
        }
        mirror.last = Some(mark);
        if let Some(file) = &mut mirror.file {
            let state = super::state::state_at(&self.subject, mark, &answer.bytes, Some(&answer.signature));
            if let Err(error) = file.write(&state) {
                tracing::warn!(chain = %self.subject.chain, "[{}] state file not written: {error}", self.subject.chain);
            }
        }
    }

    /// The last look at the state file, when nothing is signed any more.
    pub(crate) fn settle(&self) {
        let mut mirror = self.mirror.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = mirror.file.as_mut().map(Mirror::settle) {
            tracing::warn!(chain = %self.subject.chain, "[{}] state file not written: {error}", self.subject.chain);
        }
    }
}
