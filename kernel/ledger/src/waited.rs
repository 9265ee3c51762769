//! How long this thread has waited for the medium.
//!
//! Who begins or finishes a request knows what part of that was the disk's. The guard between the two need not carry the number.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub(crate) fn add(time: Duration) {
    WAITED.with(|waited| waited.set(waited.get().saturating_add(time)));
}

/// What this thread has waited for media since it was asked last.
pub fn take_waited() -> Duration {
    WAITED.with(Cell::take)
}
