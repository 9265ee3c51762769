//! A session that is closed when nobody uses it any more.
//!
//! A device has sixteen sessions, and takes an idle one back after 30 s only; the `yubihsm` crate (0.42.1) never ends one, and hands none
//! out to be ended: [`Session::close`](yubihsm::session::Session::close) wants the session itself, and there are only borrows of it.
//! So a thread takes it out of its place, closes it, and sleeps for ever, so that nobody sees the empty place.

use super::Client;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

/// How long the end of a session may take. A connector that hangs keeps nobody from ending.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Sessions that one process closes: each keeps a thread. A command has one or two, a signer one; what a device that comes and goes leaves
/// open beyond that, it takes back after 30 s.
const CLOSES_MAX: usize = 32;

/// How many sessions this process has closed.
static CLOSED: AtomicUsize = AtomicUsize::new(0);

/// A session. It is closed with the last of its clones.
#[derive(Clone)]
pub struct Open(Arc<Closing>);

impl Open {
    pub(super) fn new(client: Client) -> Self {
        Self(Arc::new(Closing(client)))
    }
}

impl Deref for Open {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0.0
    }
}

struct Closing(Client);

impl Drop for Closing {
    fn drop(&mut self) {
        let client = self.0.clone();
        let (closed, ended) = sync_channel::<()>(1);
        let closing = thread::Builder::new().name("yubihsm-close".into()).spawn(move || {
            // One that broke is not open, and the device takes it back by itself.
            let Ok(mut session) = client.session() else { return };
            if CLOSED.fetch_add(1, Ordering::Relaxed) >= CLOSES_MAX {
                return;
            }
            replace_with::replace_with_or_abort(&mut *session, |session| {
                // A panic must not get out of here: it would end the process.
                let _closed = catch_unwind(AssertUnwindSafe(|| session.close()));
                drop(closed);
                loop {
                    thread::park();
                }
            });
        });
        if closing.is_ok() {
            // Hears nothing but the end of the other side.
            let _ended = ended.recv_timeout(CLOSE_MAX);
        }
    }
}
