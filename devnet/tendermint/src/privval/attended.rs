//! A remote signer as a node's consensus uses it: accepted again when it calls again, pinged when idle, asked again when the
//! connection fails. An error answer is final for its message.

use super::{
    Family, PING_INTERVAL, RETRIES_MAX, RETRY_INTERVAL,
    listener::{AcceptError, Listen, Listener},
    messages::SignerKey,
    remote::{Remote, RemoteError},
};
use crate::{
    consensus::{SignRequest, Signed, SignedProposal},
    network::{Unsigned, VoteSigner, live::AttendedSigner},
};
use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// See the [module](self).
#[derive(Debug)]
pub struct RemoteSigner {
    listener: Listener,
    key: [u8; 32],
    remote: Option<Remote>,
    /// When the signer last answered.
    heard: Instant,
    stopping: Arc<AtomicBool>,
    connections: u64,
}

impl RemoteSigner {
    /// A signer that is expected at `listener` with this public key. `stopping` ends retries early.
    pub fn new(listener: Listener, key: [u8; 32], stopping: Arc<AtomicBool>) -> Self {
        Self { listener, key, remote: None, heard: Instant::now(), stopping, connections: 0 }
    }

    /// Where it is expected.
    pub const fn address(&self) -> &Listen {
        self.listener.address()
    }

    /// Which protocol is spoken.
    pub const fn family(&self) -> Family {
        self.listener.family()
    }

    /// The connected signer; waits for one for `patience`. Its key was compared.
    pub fn remote(&mut self, patience: Duration) -> Option<&mut Remote> {
        if self.remote.is_none() {
            match self.listener.accept(patience) {
                Ok(remote) => self.admit(remote),
                Err(AcceptError::TimedOut) => {}
                Err(error) => {
                    tracing::warn!(address = %self.listener.address(), error = %in_one_line(&error), "no signer accepted");
                    // A broken socket fails at once; a pause keeps the loop calm.
                    if matches!(error, AcceptError::Socket(_)) {
                        std::thread::sleep(patience);
                    }
                }
            }
        }
        self.remote.as_mut()
    }

    fn admit(&mut self, mut remote: Remote) {
        match remote.pub_key() {
            Ok(SignerKey::Ed25519(key)) if key == self.key => {
                self.heard = Instant::now();
                self.connections = self.connections.saturating_add(1);
                self.remote = Some(remote);
            }
            Ok(other) => {
                tracing::error!(address = %self.listener.address(), key = ?other, "the signer has another key")
            }
            Err(error) => {
                tracing::warn!(address = %self.listener.address(), error = %in_one_line(&error), "the signer gave no key");
            }
        }
    }

    /// Drops the connection after a failure, not after a refusal.
    pub fn failed(&mut self, error: &RemoteError) {
        if error.is_refusal() {
            self.heard = Instant::now();
        } else {
            self.remote = None;
        }
    }

    fn try_once(&mut self, validator: u32, request: &SignRequest) -> Option<Result<Signed, RemoteError>> {
        let remote = self.remote(RETRY_INTERVAL)?;
        let result = match request {
            SignRequest::Vote(vote) => remote.sign_vote(vote).map(Signed::Vote),
            SignRequest::Proposal(proposal, block) => remote.sign_proposal(proposal).map(|(proposal, signature)| {
                Signed::Proposal(SignedProposal { proposal, proposer: validator, block: block.clone(), signature })
            }),
        };
        match &result {
            Ok(_) => self.heard = Instant::now(),
            Err(error) => self.failed(error),
        }
        Some(result)
    }
}

impl VoteSigner for RemoteSigner {
    fn sign(&mut self, validator: u32, request: &SignRequest) -> Result<Signed, Unsigned> {
        let mut last = String::from("no signer is connected");
        for _ in 0..RETRIES_MAX {
            if self.stopping.load(Ordering::Relaxed) {
                break;
            }
            match self.try_once(validator, request) {
                None => {}
                Some(Ok(signed)) => return Ok(signed),
                Some(Err(RemoteError::Refused(refusal))) => {
                    return Err(Unsigned::Refused { code: refusal.code, description: refusal.description });
                }
                // A signer that answers something else is not asked again.
                Some(Err(error @ (RemoteError::Changed(_) | RemoteError::BadSignature(_) | RemoteError::Mismatch))) => {
                    return Err(Unsigned::Failed(in_one_line(&error)));
                }
                Some(Err(error)) => last = in_one_line(&error),
            }
        }
        Err(Unsigned::Failed(last))
    }
}

impl AttendedSigner for RemoteSigner {
    fn attention_in(&self) -> Duration {
        match self.remote {
            Some(_) => PING_INTERVAL.saturating_sub(self.heard.elapsed()),
            None => Duration::ZERO,
        }
    }

    fn attend(&mut self) {
        let due = self.heard.elapsed() >= PING_INTERVAL;
        if let Some(remote) = self.remote.as_mut().filter(|_| due) {
            match remote.ping() {
                Ok(()) => self.heard = Instant::now(),
                Err(error) => self.failed(&error),
            }
        }
        let _maybe_none_called = self.remote(RETRY_INTERVAL);
    }

    fn hang_up(&mut self) {
        self.remote = None;
    }

    fn connections(&self) -> (bool, u64) {
        (self.remote.is_some(), self.connections)
    }
}

/// An error with its causes, in one line.
pub fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _infallible = write!(words, ": {inner}");
        cause = inner.source();
    }
    words
}
