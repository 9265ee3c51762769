//! How the process is: named conditions and heartbeats.
//!
//! *Ready* means that every condition holds: keys are loaded, validators are connected or waiting, the ledger takes
//! records. *Live* means that every heartbeat is fresh: the threads that must make progress do. A condition is born
//! failing and is forgotten when its handle is dropped. Setting a condition to what it is costs one lock and no allocation.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// The longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 500;

#[derive(Debug)]
struct ConditionState {
    name: String,
    failing: Option<String>,
}

#[derive(Debug)]
struct HeartbeatState {
    name: String,
    last: Instant,
    age_max: Duration,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    conditions: BTreeMap<u64, ConditionState>,
    heartbeats: BTreeMap<u64, HeartbeatState>,
}

type Shared = Mutex<State>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registry; clones are the same registry.
#[derive(Debug, Clone, Default)]
pub struct Health {
    shared: Arc<Shared>,
}

/// One condition or heartbeat as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name: `validator cosmoshub-4@tcp://10.1.1.1:26658`.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Health {
    /// A registry without conditions, which is ready and live.
    pub fn new() -> Health {
        Health::default()
    }

    /// A new condition, failing with "starting" until it is told otherwise.
    pub fn register(&self, name: impl Into<String>) -> Condition {
        let mut state = lock(&self.shared);
        let id = state.take_id();
        state.conditions.insert(id, ConditionState { name: name.into(), failing: Some("starting".to_owned()) });
        Condition { shared: Arc::downgrade(&self.shared), id }
    }

    /// A new heartbeat, fresh now and late when it does not beat for `age_max`.
    pub fn heartbeat(&self, name: impl Into<String>, age_max: Duration) -> Heartbeat {
        let mut state = lock(&self.shared);
        let id = state.take_id();
        state.heartbeats.insert(id, HeartbeatState { name: name.into(), last: Instant::now(), age_max });
        Heartbeat { shared: Arc::downgrade(&self.shared), id }
    }

    /// Every condition, in the order of registration.
    pub fn conditions(&self) -> Vec<Finding> {
        let state = lock(&self.shared);
        let finding =
            |c: &ConditionState| Finding { name: c.name.clone(), ok: c.failing.is_none(), reason: c.failing.clone() };
        state.conditions.values().map(finding).collect()
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        lock(&self.shared).conditions.values().all(|c| c.failing.is_none())
    }

    /// Every heartbeat as of `now`, in the order of registration.
    pub fn heartbeats(&self, now: Instant) -> Vec<Finding> {
        let state = lock(&self.shared);
        let finding = |h: &HeartbeatState| {
            let age = now.saturating_duration_since(h.last);
            let ok = age <= h.age_max;
            let reason =
                (!ok).then(|| format!("silent for {} s, allowed are {} s", age.as_secs(), h.age_max.as_secs()));
            Finding { name: h.name.clone(), ok, reason }
        };
        state.heartbeats.values().map(finding).collect()
    }

    /// Whether every heartbeat is fresh.
    pub fn is_live(&self) -> bool {
        let now = Instant::now();
        lock(&self.shared).heartbeats.values().all(|h| now.saturating_duration_since(h.last) <= h.age_max)
    }
}

impl State {
    fn take_id(&mut self) -> u64 {
        let id = self.next;
        self.next = id.wrapping_add(1);
        id
    }
}

/// One named condition; dropping it takes it out of the registry.
pub struct Condition {
    shared: Weak<Shared>,
    id: u64,
}

impl Condition {
    /// It holds. True when it did not before.
    pub fn ok(&self) -> bool {
        self.set(None)
    }

    /// It does not hold, because. True when it held before, or for another reason.
    pub fn failing(&self, reason: &str) -> bool {
        self.set(Some(reason))
    }

    fn set(&self, reason: Option<&str>) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        let mut state = lock(&shared);
        let Some(condition) = state.conditions.get_mut(&self.id) else { return false };
        if condition.failing.as_deref() == reason {
            return false;
        }
        condition.failing = reason.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect());
        true
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            lock(&shared).conditions.remove(&self.id);
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("id", &self.id).finish()
    }
}

/// A sign of life of one thread; dropping it takes it out of the registry.
pub struct Heartbeat {
    shared: Weak<Shared>,
    id: u64,
}

impl Heartbeat {
    /// The thread made progress.
    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    fn beat_at(&self, now: Instant) {
        let Some(shared) = self.shared.upgrade() else { return };
        if let Some(heartbeat) = lock(&shared).heartbeats.get_mut(&self.id) {
            heartbeat.last = now;
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            lock(&shared).heartbeats.remove(&self.id);
        }
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat").field("id", &self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_born_failing_and_forgotten_when_dropped() {
        let health = Health::new();
        assert!(health.is_ready());
        let condition = health.register("ledger");
        assert!(!health.is_ready());
        drop(condition);
        assert!(health.is_ready());
    }

    #[test]
    fn ready_needs_every_condition_and_tells_the_reasons() {
        let health = Health::new();
        let (a, b) = (health.register("a"), health.register("b"));
        a.ok();
        b.failing("connection refused");
        assert!(!health.is_ready());
        let reasons: Vec<_> = health.conditions().into_iter().map(|c| (c.name, c.reason)).collect();
        assert_eq!(reasons, [("a".to_owned(), None), ("b".to_owned(), Some("connection refused".to_owned()))]);
        b.ok();
        assert!(health.is_ready());
    }

    #[test]
    fn only_a_change_is_reported_as_one() {
        let condition_of = Health::new();
        let condition = condition_of.register("x");
        assert!(condition.ok());
        assert!(!condition.ok());
        assert!(condition.failing("gone"));
        assert!(!condition.failing("gone"));
        assert!(condition.failing("still gone"));
    }

    #[test]
    fn a_silent_heartbeat_is_late_and_a_beat_makes_it_fresh() {
        let health = Health::new();
        let heartbeat = health.heartbeat("journal", Duration::from_secs(5));
        let start = Instant::now();
        assert!(health.is_live());
        let late = start + Duration::from_secs(60);
        let findings = health.heartbeats(late);
        assert!(!findings[0].ok);
        assert!(findings[0].reason.as_deref().unwrap().ends_with("allowed are 5 s"));
        heartbeat.beat_at(late);
        assert!(health.heartbeats(late + Duration::from_secs(5))[0].ok);
        assert!(!health.heartbeats(late + Duration::from_secs(6))[0].ok);
    }
}
