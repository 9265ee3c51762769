//! Signers that tick by themselves, one thread each.

use super::{Report, Signer, SignerError};
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Signers at work. They stop when this is dropped.
#[derive(Debug)]
pub struct Population {
    stops: Vec<Sender<()>>,
    threads: Vec<JoinHandle<Signer>>,
}

impl Population {
    /// Sets signers to work, each at this interval; what each tick brought is told to `told`.
    pub fn start(
        signers: impl IntoIterator<Item = Signer>,
        interval: Duration,
        told: impl Fn(&str, &Result<Report, SignerError>) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut population = Self { stops: Vec::new(), threads: Vec::new() };
        for mut signer in signers {
            let (stop, stopped) = channel();
            let told = told.clone();
            let thread = Builder::new().name("mithril-signer".to_owned()).spawn(move || {
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    let outcome = signer.tick();
                    told(signer.party_id(), &outcome);
                }
                signer
            })?;
            population.stops.push(stop);
            population.threads.push(thread);
        }
        Ok(population)
    }

    /// Stops all and gives them back with what they know.
    pub fn stop(mut self) -> Vec<Signer> {
        self.stops.clear();
        self.threads.drain(..).filter_map(|thread| thread.join().ok()).collect()
    }
}

impl Drop for Population {
    fn drop(&mut self) {
        self.stops.clear();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            drop(thread.join());
        }
    }
}
