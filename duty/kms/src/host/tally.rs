//! What was signed and refused for one key on one chain since the start, over all of its nodes.
//!
//! It is told after an answer is out, so nothing that a vote waits for is here.
//!
//! | Metric | Labels | Unit |
//! |---|---|---|
//! | `semel_kms_last_signed_height`, `_round`, `_step` | chain, key | CometBFT's numbers |
//! | `semel_kms_last_signed_timestamp_seconds` | chain, key | seconds since 1970; NaN before the first, and once it is no longer configured |
//! | `semel_kms_missed_heights_total` | chain, key | heights between two precommits of ours that had none |

use metrics::{Counter, Gauge, Label, counter, gauge};
use semel_guard::{Mark, Position, Step, Subject};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// A counter that is there before it counts: a rate over the first event needs something to rise from.
pub(crate) fn made(counter: Counter) -> Counter {
    counter.increment(0);
    counter
}

/// Hexadecimal digits of a public key in labels.
const KEY_DIGITS: usize = 16;

/// Counts of one key on one chain.
pub struct Tally {
    height: Gauge,
    round: Gauge,
    step: Gauge,
    timestamp: Gauge,
    missed: Counter,
    memory: Mutex<Counts>,
}

/// A look at a [`Tally`].
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Signatures, repeats included.
    pub signed: u64,
    /// Refusals of the guard.
    pub refused: u64,
    /// Heights between two precommits that had none.
    pub missed: u64,
    /// The last position, and when it was signed.
    pub last: Option<(Mark, SystemTime)>,
    /// Height of the last precommit, to see gaps.
    precommitted: u64,
}

impl Tally {
    pub(crate) fn new(subject: &Subject) -> Self {
        let key: String = hex::encode_upper(subject.key.as_bytes()).chars().take(KEY_DIGITS).collect();
        let labels = vec![Label::new("chain", subject.chain.to_string()), Label::new("key", key)];
        let timestamp = gauge!("semel_kms_last_signed_timestamp_seconds", labels.clone());
        // Not known yet is not the year 1970.
        timestamp.set(f64::NAN);
        Self {
            height: gauge!("semel_kms_last_signed_height", labels.clone()),
            round: gauge!("semel_kms_last_signed_round", labels.clone()),
            step: gauge!("semel_kms_last_signed_step", labels.clone()),
            timestamp,
            missed: made(counter!("semel_kms_missed_heights_total", labels)),
            memory: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was signed, or a stored signature given once more.
    pub(crate) fn signed(&self, position: Position) {
        let mut memory = self.lock();
        memory.signed += 1;
        let Position::Tendermint { height, round, step } = position else { return };
        let mark = position.mark();
        // Two nodes may be told of in another order than they were answered in.
        if memory.last.is_some_and(|(last, _)| mark <= last) {
            return;
        }
        let now = SystemTime::now();
        memory.last = Some((mark, now));
        if step == Step::Precommit {
            let before = std::mem::replace(&mut memory.precommitted, height);
            if before > 0 && height > before + 1 {
                memory.missed += height - before - 1;
                self.missed.increment(height - before - 1);
            }
        }
        drop(memory);
        self.height.set(height as f64);
        self.round.set(f64::from(round));
        self.step.set(f64::from(step as u8));
        self.timestamp.set(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64());
    }

    /// The guard refused something.
    pub(crate) fn refused(&self) {
        self.lock().refused += 1;
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }
}

impl Drop for Tally {
    /// The chain is not configured any more.
    fn drop(&mut self) {
        self.timestamp.set(f64::NAN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use semel_guard::{Algorithm, ChainId, PublicKey};

    fn precommit(height: u64) -> Position {
        Position::Tendermint { height, round: 0, step: Step::Precommit }
    }

    fn tally() -> Tally {
        let key = PublicKey::new(Algorithm::Ed25519, &[7; 32]).unwrap();
        Tally::new(&Subject { key, chain: ChainId::new("test-1").unwrap() })
    }

    #[test]
    fn heights_between_two_precommits_are_missed_and_prevotes_alone_do_not_count() {
        let tally = tally();
        // What was before the start is not known, so the first precommit has no gap before it.
        for height in [100, 101, 104] {
            tally.signed(precommit(height));
        }
        assert_eq!(tally.counts().missed, 2);
        tally.signed(Position::Tendermint { height: 105, round: 0, step: Step::Prevote });
        tally.signed(precommit(106));
        let counts = tally.counts();
        assert_eq!((counts.missed, counts.signed), (3, 5));
        assert_eq!(counts.last.unwrap().0, precommit(106).mark());
    }

    #[test]
    fn two_nodes_of_one_validator_miss_nothing_between_them() {
        let tally = tally();
        for height in [7, 8, 8, 9, 7] {
            tally.signed(precommit(height));
        }
        let counts = tally.counts();
        assert_eq!((counts.missed, counts.signed, counts.last.unwrap().0), (0, 5, precommit(9).mark()));
    }
}
