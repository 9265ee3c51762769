//! The one thread that writes: work that waits shares a transaction.

use super::{Connection, Result, StoreError};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Pieces of work that wait; whoever brings more waits to bring it.
const QUEUE_MAX: usize = 4096;
/// Pieces of work that share a commit.
const BATCH_MAX: usize = 512;

/// Tells whoever asked, once it is known whether the commit held.
type Reply = Box<dyn FnOnce(Result<()>) + Send>;

enum Job {
    /// In the common transaction.
    Within(Box<dyn FnOnce(&Connection) -> Reply + Send>),
    /// Outside any transaction.
    Aside(Box<dyn FnOnce(&Connection) + Send>),
}

#[derive(Debug, Clone)]
pub(super) struct Writer {
    jobs: SyncSender<Job>,
    // The thread ends when the last sender is gone, and is waited for then.
    _thread: Arc<Thread>,
}

#[derive(Debug)]
struct Thread(#[expect(dead_code, reason = "ends by itself when the last sender is gone")] Option<JoinHandle<()>>);

impl Writer {
    pub(super) fn start(connection: Connection) -> Writer {
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("database".to_owned()).spawn(move || work(&connection, &queue));
        if let Err(error) = &thread {
            tracing::error!(%error, "no thread for the database");
        }
        Writer { jobs, _thread: Arc::new(Thread(thread.ok())) }
    }

    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = sync_channel(1);
        let job = Job::Within(Box::new(move |connection| {
            let done = within(connection, work);
            Box::new(move |committed: Result<()>| {
                let _gone = tell.send(done.and_then(|value| committed.map(|()| value)));
            })
        }));
        self.jobs.send(job).map_err(|_| StoreError::Ended)?;
        told.recv().map_err(|_| StoreError::Ended)?
    }

    pub(super) fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = sync_channel(1);
        let job = Job::Aside(Box::new(move |connection| {
            let _gone = tell.send(work(connection));
        }));
        self.jobs.send(job).map_err(|_| StoreError::Ended)?;
        told.recv().map_err(|_| StoreError::Ended)?
    }
}

/// One piece of work, undone alone when it fails.
fn within<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    connection.execute_batch("SAVEPOINT piece")?;
    let done = work(connection);
    match done {
        Ok(value) => {
            connection.execute_batch("RELEASE piece")?;
            Ok(value)
        }
        Err(error) => {
            connection.execute_batch("ROLLBACK TO piece; RELEASE piece")?;
            Err(error)
        }
    }
}

fn work(connection: &Connection, queue: &Receiver<Job>) {
    let mut next = queue.recv().ok();
    while let Some(job) = next.take() {
        match job {
            Job::Aside(work) => work(connection),
            Job::Within(first) => next = batch(connection, first, queue),
        }
        if next.is_none() {
            next = queue.recv().ok();
        }
    }
}

/// Runs what waits in one transaction. Gives the piece that could not be part of it.
fn batch(
    connection: &Connection,
    first: Box<dyn FnOnce(&Connection) -> Reply + Send>,
    queue: &Receiver<Job>,
) -> Option<Job> {
    let begun = connection.execute_batch("BEGIN IMMEDIATE");
    let mut replies = vec![first(connection)];
    let mut left = None;
    while replies.len() < BATCH_MAX {
        match queue.try_recv() {
            Ok(Job::Within(work)) => replies.push(work(connection)),
            Ok(aside) => {
                left = Some(aside);
                break;
            }
            Err(_) => break,
        }
    }
    let committed = begun.and_then(|()| connection.execute_batch("COMMIT"));
    if committed.is_err() && !connection.is_autocommit() {
        // A full disk can leave the transaction open; nothing of it may stay.
        let _left = connection.execute_batch("ROLLBACK");
    }
    for reply in replies {
        reply(match &committed {
            Ok(()) => Ok(()),
            Err(rusqlite::Error::SqliteFailure(error, why)) => {
                Err(StoreError::Sqlite(rusqlite::Error::SqliteFailure(*error, why.clone())))
            }
            Err(error) => Err(StoreError::value("a commit", error)),
        });
    }
    left
}
