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

/// Work for the common transaction, or the news that there is none.
type Piece = Box<dyn FnOnce(Result<&Connection>) -> Reply + Send>;

enum Job {
    /// In the common transaction.
    Within(Piece),
    /// Outside any transaction.
    Aside(Box<dyn FnOnce(&Connection) + Send>),
}

#[derive(Debug, Clone)]
pub(super) struct Writer {
    // Before the thread, which ends when the last sender is gone.
    jobs: SyncSender<Job>,
    _thread: Arc<Thread>,
}

/// Waited for with the last writer: the file is closed then, and its log is in it.
#[derive(Debug)]
struct Thread(Option<JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        // Work may hold a writer of its own, and end as the last.
        if let Some(thread) = self.0.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ended = thread.join();
        }
    }
}

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
            let done = connection.and_then(|connection| within(connection, work));
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
fn batch(connection: &Connection, first: Piece, queue: &Receiver<Job>) -> Option<Job> {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        first(Err(again(&error)))(Ok(()));
        return None;
    }
    let mut replies = vec![first(Ok(connection))];
    let mut left = None;
    // A full disk or a failing one can end the whole transaction inside a piece; nothing may then run outside of it.
    while replies.len() < BATCH_MAX && !connection.is_autocommit() {
        match queue.try_recv() {
            Ok(Job::Within(work)) => replies.push(work(Ok(connection))),
            Ok(aside) => {
                left = Some(aside);
                break;
            }
            Err(_) => break,
        }
    }
    let committed = match connection.is_autocommit() {
        true => Err(rusqlite::Error::InvalidQuery),
        false => connection.execute_batch("COMMIT"),
    };
    if committed.is_err() && !connection.is_autocommit() {
        let _nothing_left = connection.execute_batch("ROLLBACK");
    }
    for reply in replies {
        reply(match &committed {
            Ok(()) => Ok(()),
            Err(error) => Err(again(error)),
        });
    }
    left
}

/// The same error for everybody who shared a commit.
fn again(error: &rusqlite::Error) -> StoreError {
    match error {
        rusqlite::Error::SqliteFailure(error, why) => {
            StoreError::Sqlite(rusqlite::Error::SqliteFailure(*error, why.clone()))
        }
        rusqlite::Error::InvalidQuery => StoreError::value("a commit", "the database gave the transaction up"),
        error => StoreError::value("a commit", error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Store, StoreError};
    use std::sync::Arc;

    #[test]
    fn a_piece_that_fails_takes_nothing_of_the_others_with_it() {
        let place = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(place.path()).unwrap());
        store.write(|db| Ok(db.execute_batch("CREATE TABLE t (n integer PRIMARY KEY)")?)).unwrap();
        let threads: Vec<_> = (0..64)
            .map(|number: i64| {
                let store = Arc::clone(&store);
                std::thread::spawn(move || {
                    store.write(move |db| {
                        db.execute("INSERT INTO t VALUES (?1)", [number])?;
                        match number % 3 {
                            0 => Err(StoreError::value("a third", "refused")),
                            _ => Ok(number),
                        }
                    })
                })
            })
            .collect();
        let kept = threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).count();
        let rows: i64 = store.read(|db| Ok(db.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)).unwrap();
        assert_eq!((kept, rows), (42, 42));
    }

    #[test]
    fn a_transaction_that_ends_inside_a_piece_is_told_to_everybody_who_shared_it() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        store.write(|db| Ok(db.execute_batch("CREATE TABLE t (n integer PRIMARY KEY)")?)).unwrap();
        // As SQLite itself does when the disk is full.
        let done = store.write(|db| {
            db.execute("INSERT INTO t VALUES (1)", [])?;
            Ok(db.execute_batch("ROLLBACK")?)
        });
        assert!(done.is_err());
        store.write(|db| Ok(db.execute("INSERT INTO t VALUES (2)", [])?)).unwrap();
        let rows: Vec<i64> = store
            .read(|db| {
                let mut statement = db.prepare("SELECT n FROM t")?;
                let rows = statement.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .unwrap();
        assert_eq!(rows, [2]);
    }
}
