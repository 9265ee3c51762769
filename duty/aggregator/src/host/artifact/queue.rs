//! What is still to be made: artifacts of certified entities, across restarts, without holding up anybody.
//!
//! The row of a job is written together with its certificate; the row goes when its artifact is written, in one transaction.
//! So there is no moment at which an artifact is owed and nobody knows. What fails is tried again, each time later. Kinds of
//! entities do not wait for each other: of each kind one job is under way, so that an hour of archives holds up no stake
//! distribution, and two jobs never write the same files.

use chrono::{DateTime, TimeDelta, Utc};
use mithril_common::entities::{SignedEntityType, SignedEntityTypeDiscriminants};
use semel_ops::shutdown::{OnStop, Stop};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// After the first failure.
const BACK_OFF_FIRST_SECONDS: i64 = 10;

/// Between two attempts, at most.
const BACK_OFF_MAX_SECONDS: i64 = 15 * 60;

/// Jobs of one kind that wait. At one certificate a minute and kind this is a week of failures; beyond, the oldest is given up.
const JOBS_PER_KIND_MAX: usize = 10_000;

/// One artifact to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Of what, at which beacon. There is one certificate, hence one job, for each.
    pub entity: SignedEntityType,
    /// The certificate.
    pub certificate_hash: String,
}

/// A job and its past: one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What is to be made.
    pub job: Job,
    /// How often it failed.
    pub failures: u32,
    /// Not before.
    pub due: DateTime<Utc>,
    /// Why it failed last.
    pub error: Option<String>,
}

impl Attempt {
    /// A job that was never tried.
    pub fn new(job: Job, now: DateTime<Utc>) -> Attempt {
        Attempt { job, failures: 0, due: now, error: None }
    }

    /// The same, after another failure.
    fn failed(self, why: String, now: DateTime<Utc>) -> Attempt {
        let seconds = BACK_OFF_FIRST_SECONDS.saturating_mul(1 << self.failures.min(20)).min(BACK_OFF_MAX_SECONDS);
        let due = now.checked_add_signed(TimeDelta::seconds(seconds)).unwrap_or(now);
        Attempt { failures: self.failures.saturating_add(1), due, error: Some(why), ..self }
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The artifact's hash.
    pub id: String,
    /// The artifact as JSON.
    pub artifact: String,
}

/// Jobs that wait, as data. Durable is what [`JobStore`] holds.
#[derive(Debug, Default)]
pub struct Queue {
    // In the order in which they came.
    waiting: Vec<Attempt>,
    busy: BTreeMap<SignedEntityTypeDiscriminants, Job>,
}

impl Queue {
    /// With what was waiting at the last end.
    pub fn new(waiting: Vec<Attempt>) -> Queue {
        Queue { waiting, busy: BTreeMap::new() }
    }

    /// Takes one more; the one that is given up for it, if there are too many of its kind. A job that waits or is under way
    /// already is not taken twice.
    pub fn push(&mut self, attempt: Attempt) -> Option<Job> {
        let mut known = self.waiting.iter().map(|waiting| &waiting.job).chain(self.busy.values());
        if known.any(|known| *known == attempt.job) {
            return None;
        }
        let kind = kind(&attempt.job);
        let of_its_kind = self.waiting.iter().filter(|waiting| self::kind(&waiting.job) == kind).count();
        self.waiting.push(attempt);
        if of_its_kind < JOBS_PER_KIND_MAX {
            return None;
        }
        let oldest = self.waiting.iter().position(|waiting| self::kind(&waiting.job) == kind)?;
        Some(self.waiting.remove(oldest).job)
    }

    /// The job to do now, if there is one: of a kind that nobody is at, due for longest, first come.
    pub fn take(&mut self, now: DateTime<Utc>) -> Option<Attempt> {
        // Nothing is put off for longer than the longest pause, unless the clock went back.
        let latest = now.checked_add_signed(TimeDelta::seconds(BACK_OFF_MAX_SECONDS)).unwrap_or(now);
        let is_due = |due: DateTime<Utc>| due <= now || due > latest;
        let due = |attempt: &Attempt| is_due(attempt.due) && !self.busy.contains_key(&kind(&attempt.job));
        let (place, _) =
            self.waiting.iter().enumerate().filter(|(_, attempt)| due(attempt)).min_by_key(|(_, a)| a.due)?;
        let attempt = self.waiting.remove(place);
        self.busy.insert(kind(&attempt.job), attempt.job.clone());
        Some(attempt)
    }

    /// It is done.
    pub fn done(&mut self, job: &Job) {
        self.busy.remove(&kind(job));
    }

    /// It failed; what is to be written down.
    pub fn failed(&mut self, attempt: Attempt, why: String, now: DateTime<Utc>) -> Attempt {
        self.busy.remove(&kind(&attempt.job));
        let attempt = attempt.failed(why, now);
        self.waiting.push(attempt.clone());
        attempt
    }

    /// When a job of a kind that nobody is at becomes due.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        let free = self.waiting.iter().filter(|attempt| !self.busy.contains_key(&kind(&attempt.job)));
        free.map(|attempt| attempt.due).min()
    }

    /// Those that wait, in the order in which they came or failed.
    pub fn waiting(&self) -> &[Attempt] {
        &self.waiting
    }
}

fn kind(job: &Job) -> SignedEntityTypeDiscriminants {
    SignedEntityTypeDiscriminants::from(&job.entity)
}

/// Where jobs are durable.
pub trait JobStore: Send + Sync {
    /// All that wait, in the order in which they were written.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self) -> Result<Vec<Attempt>, String>;

    /// Writes a failure down.
    ///
    /// # Errors
    /// When it cannot be written.
    fn failed(&self, attempt: &Attempt) -> Result<(), String>;

    /// Writes the artifact and deletes the job, in one transaction.
    ///
    /// # Errors
    /// When it cannot be written; neither happened then.
    fn finished(&self, job: &Job, made: &Finished) -> Result<(), String>;

    /// Deletes a job that is given up.
    ///
    /// # Errors
    /// When it cannot be written.
    fn given_up(&self, job: &Job) -> Result<(), String>;
}

/// Who makes artifacts. Blocks, for hours if need be, and ends early when `stop` is pulled.
pub trait Workshop: Send + Sync {
    /// Makes one.
    ///
    /// # Errors
    /// With a text for the operator. It is tried again.
    fn make(&self, job: &Job, stop: &Stop) -> Result<Finished, String>;
}

struct Shared {
    queue: Mutex<Queue>,
    woken: Condvar,
    store: Arc<dyn JobStore>,
    workshop: Arc<dyn Workshop>,
    stop: Stop,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that work the queue off, until the stop is pulled. Dropping it waits for them.
pub struct Worker {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    _on_stop: OnStop,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts `threads` of them with what the store holds. At least two, or one kind holds up the others.
    ///
    /// # Errors
    /// When the store cannot be read or a thread cannot be had.
    pub fn start(
        store: Arc<dyn JobStore>,
        workshop: Arc<dyn Workshop>,
        threads: usize,
        stop: &Stop,
    ) -> io::Result<Worker> {
        let queue = Mutex::new(Queue::new(store.load().map_err(io::Error::other)?));
        let shared = Arc::new(Shared { queue, woken: Condvar::new(), store, workshop, stop: stop.clone() });
        let wake = Arc::clone(&shared);
        let on_stop = stop.on_stop(move || {
            // Taking the lock first: a thread is either before its look at the stop or asleep.
            drop(wake.queue());
            wake.woken.notify_all();
        });
        let mut worker = Worker { shared, threads: Vec::new(), _on_stop: on_stop };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&worker.shared);
            let thread = std::thread::Builder::new().name(format!("artifact-{number}"));
            worker.threads.push(thread.spawn(move || work(&shared))?);
        }
        Ok(worker)
    }

    /// Takes a job that is in the store already.
    pub fn accept(&self, attempt: Attempt) {
        let given_up = self.shared.queue().push(attempt);
        if let Some(job) = given_up {
            tracing::warn!(entity = ?job.entity, "its artifact is given up: {JOBS_PER_KIND_MAX} others of its kind wait");
            if let Err(why) = self.shared.store.given_up(&job) {
                tracing::error!(entity = ?job.entity, "cannot be deleted from the queue of artifacts: {why}");
            }
        }
        self.shared.woken.notify_all();
    }

    /// Jobs that wait, those under way not among them.
    pub fn waiting(&self) -> Vec<Attempt> {
        self.shared.queue().waiting().to_vec()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for thread in self.threads.drain(..) {
            // A thread that died has said why on its own.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared) {
    while let Some(attempt) = next(shared) {
        let job = attempt.job.clone();
        let made = shared.workshop.make(&job, &shared.stop);
        let outcome = made.and_then(|made| {
            shared.store.finished(&job, &made).map_err(|why| format!("it is made but cannot be written down: {why}"))
        });
        match outcome {
            Ok(()) => shared.queue().done(&job),
            // Neither done nor failed: it is in the store, for the next start.
            Err(_) if shared.stop.is_stopped() => return,
            Err(why) => {
                tracing::warn!(entity = ?job.entity, "its artifact is not made: {why}");
                let attempt = shared.queue().failed(attempt, why, Utc::now());
                if let Err(why) = shared.store.failed(&attempt) {
                    tracing::error!(entity = ?job.entity, "the failure cannot be written down: {why}");
                }
            }
        }
        // Others of its kind may be due.
        shared.woken.notify_all();
    }
}

/// Sleeps until there is a job; none: the end has come.
fn next(shared: &Shared) -> Option<Attempt> {
    let mut queue = shared.queue();
    loop {
        if shared.stop.is_stopped() {
            return None;
        }
        let now = Utc::now();
        if let Some(attempt) = queue.take(now) {
            return Some(attempt);
        }
        let sleep = match queue.next_due() {
            Some(due) => (due - now).to_std().unwrap_or_default().max(Duration::from_millis(1)),
            None => Duration::from_secs(3600),
        };
        queue = shared.woken.wait_timeout(queue, sleep).unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mithril_common::entities::{CardanoDbBeacon, Epoch};
    use semel_ops::shutdown::StopReason;
    use std::sync::mpsc::{Sender, channel};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn database(number: u64) -> Job {
        let entity = SignedEntityType::CardanoDatabase(CardanoDbBeacon::new(1, number));
        Job { entity, certificate_hash: format!("certificate-{number}") }
    }

    fn stakes(epoch: u64) -> Job {
        let entity = SignedEntityType::CardanoStakeDistribution(Epoch(epoch));
        Job { entity, certificate_hash: format!("stakes-{epoch}") }
    }

    #[test]
    fn one_of_each_kind_is_under_way() {
        let waiting = [database(1), database(2), stakes(1)].map(|job| Attempt::new(job, at(0)));
        let mut queue = Queue::new(waiting.into());
        assert_eq!(queue.take(at(0)).unwrap().job, database(1));
        assert_eq!(queue.take(at(0)).unwrap().job, stakes(1));
        assert_eq!(queue.take(at(0)), None);
        assert_eq!(queue.next_due(), None);
        queue.done(&database(1));
        assert_eq!(queue.take(at(0)).unwrap().job, database(2));
    }

    #[test]
    fn what_failed_lets_the_others_pass_and_comes_back_later_each_time_up_to_a_limit() {
        let mut queue = Queue::new([database(1), database(2)].map(|job| Attempt::new(job, at(0))).into());
        let first = queue.take(at(0)).unwrap();
        let first = queue.failed(first, "disk full".to_owned(), at(0));
        assert_eq!((first.failures, first.due, first.error.as_deref()), (1, at(10), Some("disk full")));
        assert_eq!(queue.take(at(0)).unwrap().job, database(2));
        queue.done(&database(2));
        assert_eq!((queue.take(at(9)), queue.next_due()), (None, Some(at(10))));
        let (mut now, mut waits) = (at(10), Vec::new());
        for _ in 0..9 {
            let attempt = queue.take(now).unwrap();
            let due = queue.failed(attempt, "again".to_owned(), now).due;
            waits.push((due - now).num_seconds());
            now = due;
        }
        assert_eq!(waits, [20, 40, 80, 160, 320, 640, 900, 900, 900]);
    }

    #[test]
    fn a_clock_that_goes_back_puts_nothing_off() {
        let mut queue = Queue::new(vec![Attempt::new(database(1), at(1_000_000))]);
        assert_eq!(queue.take(at(1_000_000 - 900)), None);
        assert_eq!(queue.take(at(500)).unwrap().job, database(1));
    }

    #[test]
    fn a_job_that_is_under_way_is_not_taken_again() {
        let mut queue = Queue::new(vec![Attempt::new(database(1), at(0))]);
        let attempt = queue.take(at(0)).unwrap();
        queue.push(attempt.clone());
        assert_eq!(queue.waiting(), []);
        queue.done(&attempt.job);
        queue.push(attempt);
        assert_eq!(queue.waiting().len(), 1);
    }

    #[test]
    fn a_job_is_taken_once_and_beyond_the_limit_the_oldest_of_its_kind_is_given_up() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(Attempt::new(stakes(1), at(0))), None);
        for number in 0..JOBS_PER_KIND_MAX as u64 {
            assert_eq!(queue.push(Attempt::new(database(number), at(0))), None);
        }
        assert_eq!(queue.push(Attempt::new(database(5), at(0))), None);
        assert_eq!(queue.waiting().len(), JOBS_PER_KIND_MAX + 1);
        assert_eq!(queue.push(Attempt::new(database(u64::MAX), at(0))), Some(database(0)));
        assert_eq!(queue.waiting().len(), JOBS_PER_KIND_MAX + 1);
    }

    /// A store in memory that tells what was written.
    struct Told(Mutex<Vec<Attempt>>, Mutex<Sender<String>>);

    impl Told {
        fn tell(&self, text: String) {
            self.1.lock().unwrap().send(text).unwrap();
        }
    }

    impl JobStore for Told {
        fn load(&self) -> Result<Vec<Attempt>, String> {
            Ok(self.0.lock().unwrap().clone())
        }

        fn failed(&self, attempt: &Attempt) -> Result<(), String> {
            let mut rows = self.0.lock().unwrap();
            rows.retain(|row| row.job != attempt.job);
            rows.push(attempt.clone());
            self.tell(format!("failed {} {}", attempt.job.certificate_hash, attempt.error.as_deref().unwrap()));
            Ok(())
        }

        fn finished(&self, job: &Job, made: &Finished) -> Result<(), String> {
            self.0.lock().unwrap().retain(|row| row.job != *job);
            self.tell(format!("finished {} {}", job.certificate_hash, made.id));
            Ok(())
        }

        fn given_up(&self, _: &Job) -> Result<(), String> {
            unreachable!("there are few")
        }
    }

    /// Makes stake distributions at once; a database only when asked to stop; fails at epoch 13.
    struct Slow;

    impl Workshop for Slow {
        fn make(&self, job: &Job, stop: &Stop) -> Result<Finished, String> {
            match &job.entity {
                SignedEntityType::CardanoDatabase(_) => {
                    stop.wait();
                    Err("stopped".to_owned())
                }
                SignedEntityType::CardanoStakeDistribution(Epoch(13)) => Err("unlucky".to_owned()),
                _ => Ok(Finished { id: "made".to_owned(), artifact: "{}".to_owned() }),
            }
        }
    }

    #[test]
    fn an_artifact_that_takes_long_holds_up_no_other_kind_and_survives_the_end() {
        let (tell, told) = channel();
        let rows = [database(7), stakes(1)].map(|job| Attempt::new(job, at(0))).to_vec();
        let store = Arc::new(Told(Mutex::new(rows), Mutex::new(tell)));
        let stop = Stop::new();
        let as_store: Arc<dyn JobStore> = store.clone();
        let worker = Worker::start(as_store, Arc::new(Slow), 2, &stop).unwrap();
        let next = || told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(next(), "finished stakes-1 made");
        for epoch in [13, 2] {
            worker.accept(Attempt::new(stakes(epoch), Utc::now()));
            assert!(next().starts_with(if epoch == 13 { "failed stakes-13 unlucky" } else { "finished stakes-2" }));
        }
        assert_eq!(worker.waiting().len(), 1);
        stop.stop(StopReason::Asked);
        drop(worker);
        let rows = store.load().unwrap();
        assert_eq!(
            rows.iter().map(|row| (row.job.clone(), row.failures)).collect::<Vec<_>>(),
            [(database(7), 0), (stakes(13), 1)]
        );
    }
}
