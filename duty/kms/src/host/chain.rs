//! One key on one chain: the guard before it, the key behind it, the state file beside it.

use super::tally::Tally;
use semel_guard::{Answer, Begun, Benign, Denied, Duty, Guard, Key, Mark, Position, Signature, Subject};
use semel_ledger::interchange::Mirror;
use semel_ledger::{Journal, take_waited};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A key that signs for a chain. Shared by every connection of that chain.
pub struct Chain {
    subject: Subject,
    key: Key,
    guard: Guard<Journal>,
    mirror: Mutex<Mirrored>,
    ahead: Mutex<Ahead>,
    tally: Tally,
}

/// The signature over the empty vote extension of the precommit that comes next, made while nobody waits.
#[derive(Default)]
struct Ahead {
    /// The last precommit for a block came with an empty one.
    is_wanted: bool,
    made: Option<(i64, i64, Signature)>,
}

/// A vote extension to sign.
#[derive(Clone, Copy)]
pub struct Extension<'a> {
    /// Height.
    pub height: i64,
    /// Round.
    pub round: i64,
    /// What the application put there; may be empty.
    pub bytes: &'a [u8],
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
}

/// What the guard has begun.
pub struct Started<'c> {
    begun: Begun<'c, Journal>,
    position: Position,
    /// Time of the first half, and what of it the medium was waited for.
    time: Duration,
    fsync: Duration,
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
        let mirror = Mutex::new(Mirrored { file: state_file, last: None });
        Self { subject, key, guard, mirror, ahead: Mutex::default(), tally }
    }

    /// The key and the chain.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What it signed and refused since the start.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether its key keeps who signs with it waiting: a device, a service.
    pub fn blocks(&self) -> bool {
        self.key.blocks()
    }

    /// Name of the key's backend.
    pub fn provider(&self) -> &str {
        self.key.provider()
    }

    /// Asks the guard, and writes down what may be signed. Requests of many chains that are begun before the first is
    /// finished share one sync.
    ///
    /// # Errors
    /// What the guard refused.
    pub fn begin(&self, ask: &Ask<'_>) -> Result<Started<'_>, Denied> {
        let unsignable =
            |reason: String| Denied::NotSigned(semel_guard::SignError { provider: self.provider().into(), reason });
        let begun = Instant::now();
        // What this thread waited for before is not this request's.
        let _before = take_waited();
        let duty = Duty::with_content(&self.subject, ask.position, ask.sign_bytes, ask.content)
            .map_err(|error| unsignable(error.to_string()))?;
        let (done, position) = (self.guard.begin(&duty)?, ask.position);
        Ok(Started { begun: done, position, time: begun.elapsed(), fsync: take_waited() })
    }

    /// Waits until it is durable, signs, and writes the state file, in this order. `extension` is the vote extension to sign
    /// with it.
    ///
    /// # Errors
    /// What the guard refused, or the key said.
    pub fn finish(&self, started: Started<'_>, extension: Option<Extension<'_>>) -> Result<Signed, Denied> {
        let Started { begun, position, time, fsync } = started;
        let start = Instant::now();
        let _before = take_waited();
        let mut sign = Duration::ZERO;
        let answer = match begun {
            Begun::Answered(answer) => answer,
            Begun::Pending(pending) => pending.finish(|permit, bytes| {
                let begun = Instant::now();
                let signature = self.key.sign(permit, bytes);
                sign = begun.elapsed();
                signature
            })?,
        };
        let waited = take_waited();
        let extension = extension
            .map(|extension| {
                let begun = Instant::now();
                let signature = self.extend(extension);
                sign += begun.elapsed();
                signature
            })
            .transpose()?;
        self.mirror(position, &answer);
        let fsync = fsync + waited;
        let state = (time + start.elapsed()).saturating_sub(sign + fsync);
        Ok(Signed { answer, extension, state, fsync, sign })
    }

    /// Signs a vote extension. It has no position of its own; each request gets the signature over the one that it brought.
    fn extend(&self, Extension { height, round, bytes }: Extension<'_>) -> Result<Signature, semel_guard::SignError> {
        let made = {
            let mut ahead = self.ahead();
            ahead.is_wanted = bytes.is_empty();
            ahead.made.filter(|(at, of, _)| bytes.is_empty() && (*at, *of) == (height, round))
        };
        match made {
            Some((.., signature)) => Ok(signature),
            None => {
                self.sign_benign(&Benign::VoteExtension { chain: &self.subject.chain, height, round, extension: bytes })
            }
        }
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the next precommit will most likely come with an empty vote extension, whose signature costs nothing but this
    /// processor's time.
    pub fn wants_ahead(&self) -> bool {
        !self.key.blocks() && self.ahead().is_wanted
    }

    /// Signs the empty vote extension of the precommit that will most likely be asked for, unless it was already.
    pub fn sign_ahead(&self, height: i64, round: i64) {
        if self.ahead().made.is_some_and(|(at, of, _)| (at, of) >= (height, round)) {
            return;
        }
        let chain = &self.subject.chain;
        // A key that does not sign says so when it is asked to.
        if let Ok(signature) = self.sign_benign(&Benign::VoteExtension { chain, height, round, extension: &[] }) {
            self.ahead().made = Some((height, round, signature));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use semel_guard::{Admitted, Algorithm, ChainId, PublicKey, SignError, Signer, Step};
    use semel_ledger::Options;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Signs anything, and counts.
    struct Counting(PublicKey, Arc<AtomicUsize>);

    impl Signer for Counting {
        fn public_key(&self) -> &PublicKey {
            &self.0
        }
        fn provider(&self) -> &str {
            "counting"
        }
        fn blocks(&self) -> bool {
            false
        }
        fn sign(&self, message: Admitted<'_>) -> Result<Signature, SignError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Ok(Signature::new(&semel_guard::Digest::of(message.bytes()).0).unwrap())
        }
    }

    #[test]
    fn the_empty_extension_is_signed_ahead_once_the_last_one_was_empty_and_is_used_once() {
        let directory = tempfile::tempdir().unwrap();
        let public = PublicKey::new(Algorithm::Ed25519, &[7; 32]).unwrap();
        let subject = Subject { key: public.clone(), chain: ChainId::new("test-1").unwrap() };
        let options = Options { allow_volatile: true, ..Options::at(directory.path()) };
        let journal = Journal::open(options, std::slice::from_ref(&subject)).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let key = Key::new(Box::new(Counting(public, Arc::clone(&count))));
        let chain = Chain::new(subject, key, Guard::new(journal), None);
        // What the key signed for one precommit.
        let signed = |height: i64, bytes: &[u8]| {
            let before = count.load(Ordering::SeqCst);
            let position = Position::Tendermint { height: height as u64, round: 0, step: Step::Precommit };
            let text = format!("precommit {height}");
            let ask = Ask { position, sign_bytes: text.as_bytes(), content: text.as_bytes() };
            let extension = Extension { height, round: 0, bytes };
            let signed = chain.finish(chain.begin(&ask).unwrap(), Some(extension)).unwrap();
            (count.load(Ordering::SeqCst) - before, signed.extension.unwrap())
        };
        assert!(!chain.wants_ahead(), "nothing is known of the chain");
        assert_eq!(signed(1, b"price").0, 2);
        assert!(!chain.wants_ahead(), "it has extensions");
        let (signatures, first) = signed(2, b"");
        assert_eq!((signatures, chain.wants_ahead()), (2, true));
        chain.sign_ahead(3, 0);
        let (signatures, third) = signed(3, b"");
        assert_eq!(signatures, 1, "the vote alone");
        assert_ne!(first, third, "each has its height");
        assert_eq!(signed(4, b"").0, 2, "nothing was made for it");
        chain.sign_ahead(5, 0);
        assert_eq!(signed(5, b"price").0, 2, "another one than was made");
        chain.sign_ahead(6, 1);
        assert_eq!(signed(6, b"").0, 2, "of another round");
        let before = count.load(Ordering::SeqCst);
        (0..3).for_each(|_| chain.sign_ahead(7, 0));
        chain.sign_ahead(6, 0);
        assert_eq!(count.load(Ordering::SeqCst) - before, 1, "made once, and not for what is over");
    }
}
