//! The local control socket of a running process: one line of JSON asks, one line answers.
//!
//! A unix socket of mode 0600 in a directory of the process' user; whoever connects has to be that user or root. Requests are
//! short, answered one after another, each within a few seconds; nothing here is on the way of a signature. The socket of a process that has
//! died is replaced, that of a living one never.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait of either side for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest request, in bytes.
const REQUEST_MAX: u64 = 4096;

/// Longest answer, in bytes.
const ANSWER_MAX: u64 = 16 << 20;

/// Processes that are asked, at most.
const PROCESSES_MAX: usize = 256;

/// A request on its way to the main loop.
pub struct Asked {
    /// What is asked: `status`, `reload`, …
    pub word: String,
    answer: SyncSender<Value>,
}

impl Asked {
    /// Answers.
    pub fn answer(self, value: Value) {
        // Who asked may have given up.
        let _heard = self.answer.try_send(value);
    }
}

/// The socket. Gone with the value.
pub struct Server {
    path: PathBuf,
    requests: Receiver<Asked>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens in a directory, which is made where it is missing (mode 0700), under the number of this process.
    pub fn start(directory: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        sweep(directory);
        let path = directory.join(format!("{}.sock", std::process::id()));
        let _stale = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let (sender, requests) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        let mine = Arc::clone(&ended);
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
            for stream in listener.incoming() {
                if mine.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    // A caller that is slow, rude or gone ends his own request.
                    let _served = serve(&stream, &sender);
                }
            }
        })?;
        Ok(Self { path, requests, ended, thread: Some(thread) })
    }

    /// What was asked since the last look.
    pub fn asked(&self) -> Option<Asked> {
        self.requests.try_recv().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread.
        let _woken = UnixStream::connect(&self.path);
        let _gone = std::fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn serve(stream: &UnixStream, sender: &Sender<Asked>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let caller = rustix::net::sockopt::socket_peercred(stream)?.uid;
    let say = |value: &Value| -> io::Result<()> {
        let mut stream = stream;
        stream.write_all(format!("{value}\n").as_bytes())
    };
    if !caller.is_root() && caller != rustix::process::geteuid() {
        return say(&json!({ "error": "this socket belongs to another user" }));
    }
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST_MAX)).read_line(&mut line)?;
    let word = serde_json::from_str::<Value>(&line).ok().and_then(|value| Some(value.get("ask")?.as_str()?.to_owned()));
    let Some(word) = word else { return say(&json!({ "error": "no request: one line of JSON with `ask`" })) };
    let (answer, answered) = sync_channel(1);
    if sender.send(Asked { word, answer }).is_err() {
        return say(&json!({ "error": "this process is ending" }));
    }
    let answer = answered.recv_timeout(PATIENCE);
    say(&answer.unwrap_or_else(|_| json!({ "error": "no answer in time" })))
}

/// Takes the sockets of processes away that do not answer because they are gone.
fn sweep(directory: &Path) {
    for path in sockets(directory) {
        if matches!(UnixStream::connect(&path), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused) {
            let _gone = std::fs::remove_file(path);
        }
    }
}

fn sockets(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "sock")).take(PROCESSES_MAX).collect();
    found.sort();
    found
}

/// Asks every process that listens in a directory. Those that are gone are passed over.
pub fn ask_all(directory: &Path, word: &str) -> Vec<Value> {
    sockets(directory).iter().filter_map(|path| ask(path, word).ok()).collect()
}

/// Asks one process.
pub fn ask(path: &Path, word: &str) -> io::Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{}\n", json!({ "ask": word })).as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_and_a_rude_one_ends_itself() {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(&directory.path().join("control")).unwrap();
        let path = server.path.clone();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let asking = std::thread::spawn(move || {
            for rude in ["", "\n", "nonsense\n", "{}\n", &"x".repeat(10_000)] {
                let mut stream = UnixStream::connect(&path).unwrap();
                // A caller that is cut off may not even be able to write.
                let _cut = stream.write_all(rude.as_bytes());
                drop(stream.shutdown(std::net::Shutdown::Write));
                let mut answer = String::new();
                drop(stream.read_to_string(&mut answer));
                assert!(answer.is_empty() || answer.contains("no request"), "{answer}");
            }
            ask(&path, "status").unwrap()
        });
        let asked = loop {
            match server.asked() {
                Some(asked) => break asked,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(asked.word, "status");
        asked.answer(json!({ "well": true }));
        assert_eq!(asking.join().unwrap(), json!({ "well": true }));
    }

    #[test]
    fn the_socket_of_the_dead_is_swept_away_and_that_of_the_living_stays() {
        let directory = tempfile::tempdir().unwrap();
        let dead = directory.path().join("1.sock");
        drop(UnixListener::bind(&dead).unwrap());
        let alive = directory.path().join("2.sock");
        let _listener = UnixListener::bind(&alive).unwrap();
        let server = Server::start(directory.path()).unwrap();
        assert!(!dead.exists() && alive.exists());
        let path = server.path.clone();
        drop(server);
        assert!(!path.exists());
    }
}
