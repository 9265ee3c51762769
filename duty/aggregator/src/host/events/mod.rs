//! The event database: who registered with which version of the signer, what clients restored, how much was used.
//!
//! `monitoring.sqlite3` is the reference's own file (version 5, §5 of the specification): table `event`, and views over it that
//! dashboards read. An event's content is `{"headers": {…}, "content": {…}}`.
//!
//! Events are for people who like to look back; nothing here depends on them. So nobody ever waits for them: a place in the queue
//! is had at once or the event is dropped and counted. One thread writes what has gathered in one transaction. What a stranger
//! can add is bounded three times: by the queue, by the length of a header, by the rows of a day.
//!
//! | Module | What it gives |
//! |---|---|
//! | `database` | tables, views, what is kept for how long |
//! | [`usage`] | what the counters counted since the last report |

mod database;
pub mod usage;

pub use database::{EventsError, FILE, VERSION};

use chrono::{DateTime, SecondsFormat, Utc};
use database::Database;
use mithril_common::entities::SignerWithStake;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Events that wait to be written. One has some 300 bytes, that of a registration some 6,000.
const QUEUE_MAX: usize = 4096;
/// Events that share a transaction.
const BATCH_MAX: usize = 1024;
/// Time in which events gather before they are written.
const GATHER: Duration = Duration::from_millis(200);
/// Time between two tidyings of what is old.
const TIDY: Duration = Duration::from_secs(60 * 60);
/// Characters of a header that are kept.
const HEADER_MAX: usize = 64;

/// Action of a registration.
const REGISTRATION: &str = "register_signer";
/// Action of a restoration.
const RESTORATION: &str = "cardano_database_restoration";
/// Source of usage.
const USAGE: &str = "Metrics";

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    at: DateTime<Utc>,
    source: &'static str,
    action: String,
    content: Value,
}

impl Event {
    /// A signer registered for `epoch`, and said it is of this version.
    pub fn signer_registered(version: Option<&str>, epoch: u64, signer: &SignerWithStake) -> Event {
        Event::registration(version, epoch, json!(signer))
    }

    fn registration(version: Option<&str>, epoch: u64, signer: Value) -> Event {
        let mut headers = Map::new();
        if let Some(version) = version {
            headers.insert("signer-node-version".to_owned(), bounded(version).into());
        }
        // As text, like every header.
        headers.insert("epoch".to_owned(), epoch.to_string().into());
        Event::new("HTTP::signer_register", REGISTRATION, headers, signer)
    }

    /// A client restored a Cardano database, whole or in part.
    pub fn restored(is_complete: bool) -> Event {
        let content = if is_complete { "complete" } else { "partial" };
        Event::new("HTTP::statistics", RESTORATION, Map::new(), content.into())
    }

    /// A counter rose by `value` within `period`. No origin and no type of client are empty texts.
    fn used(counter: &str, value: u64, period: Duration, origin: &str, client: &str) -> Event {
        let mut event = Event::new(USAGE, counter, Map::new(), Value::Null);
        let content = json!({
            "name": counter,
            "value": value,
            "period": {"secs": period.as_secs(), "nanos": period.subsec_nanos()},
            "origin": origin,
            "client_type": client,
            "date": event.at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        });
        event.content = json!({"headers": {}, "content": content});
        event
    }

    fn new(source: &'static str, action: impl Into<String>, headers: Map<String, Value>, content: Value) -> Event {
        Event {
            at: Utc::now(),
            source,
            action: action.into(),
            content: json!({"headers": headers, "content": content}),
        }
    }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).take(HEADER_MAX).collect()
}

/// Where events go; clones share it. When the last one is gone, what waits is written and the file is closed.
#[derive(Debug, Clone, Default)]
pub struct Events(Option<Arc<Inside>>);

#[derive(Debug)]
struct Inside {
    queue: Mutex<Option<SyncSender<Event>>>,
    counts: Arc<Counts>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Events {
    /// Events go nowhere.
    pub fn none() -> Events {
        Events(None)
    }

    /// Opens the database in a directory of stores, and makes both when they are not there; events are kept for `days`,
    /// or for ever.
    ///
    /// # Errors
    /// When another version made it, it cannot be opened, or no thread can be had.
    pub fn open(directory: &Path, days: Option<u64>) -> Result<Events, EventsError> {
        let mut database = Database::open(directory, days)?;
        database.tidy(Utc::now())?;
        let (queue, waiting) = sync_channel(QUEUE_MAX);
        let counts = Arc::new(Counts::default());
        let told = Arc::clone(&counts);
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || write(database, &waiting, &told))
            .map_err(EventsError::Thread)?;
        let (queue, thread) = (Mutex::new(Some(queue)), Mutex::new(Some(thread)));
        Ok(Events(Some(Arc::new(Inside { queue, counts, thread }))))
    }

    /// Makes the database in a directory of stores, or brings it to this version.
    ///
    /// # Errors
    /// When a later version made it, or it cannot be opened.
    pub fn migrate(directory: &Path) -> Result<(), EventsError> {
        Database::open(directory, None).map(drop)
    }

    /// Takes an event, unless too many wait already. Never waits.
    pub fn record(&self, event: Event) {
        let Some(inside) = &self.0 else { return };
        let queue = inside.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.as_ref().is_none_or(|queue| queue.try_send(event).is_err()) {
            inside.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that found no place.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |inside| inside.counts.dropped.load(Ordering::Relaxed))
    }

    /// Events that could not be written.
    pub fn failed(&self) -> u64 {
        self.0.as_ref().map_or(0, |inside| inside.counts.failed.load(Ordering::Relaxed))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ended = thread.join();
        }
    }
}

fn write(mut database: Database, waiting: &Receiver<Event>, counts: &Counts) {
    let mut tidied = Instant::now();
    let mut was_lost = 0;
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH_MAX
            && let Ok(event) = waiting.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            batch.push(event);
        }
        if let Err(error) = database.add(&batch) {
            counts.failed.fetch_add(batch.len() as u64, Ordering::Relaxed);
            tracing::debug!(%error, "events are lost");
        }
        if tidied.elapsed() >= TIDY || database.is_full() {
            tidied = Instant::now();
            if let Err(error) = database.tidy(Utc::now()) {
                tracing::warn!(%error, "old events stay");
            }
            let (dropped, failed) = (counts.dropped.load(Ordering::Relaxed), counts.failed.load(Ordering::Relaxed));
            if dropped + failed > was_lost {
                was_lost = dropped + failed;
                tracing::warn!(dropped, failed, "events were lost since the start");
            }
        }
    }
}

#[cfg(test)]
mod tests;
