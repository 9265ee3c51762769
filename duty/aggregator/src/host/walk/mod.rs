//! Walking a chain of certificates from any of them back to its genesis, and believing nothing on the way.
//!
//! ```text
//! origin ──fetch──▶ at most AHEAD certificates ──▶ each alone, in parallel ──▶ each with the one before it, in order
//! ```
//!
//! A certificate's hash is asked for and computed again, so whatever an origin gives, a walk that ends at the genesis key holds. A
//! walk can be interrupted: what it came to is a hash, and from that hash it goes on. When the chain has grown
//! meanwhile, what is new is walked down to a certificate that was walked already.
//!
//! Every turn of the check takes a certificate, or is the last one: an origin can make a walk fail, and not go on for
//! ever.

pub mod origin;
pub mod pin;

use crate::core::certificates::{self, Flaw};
use mithril_common::crypto_helper::GenesisEd25519VerificationKey;
use mithril_common::entities::{Certificate, Epoch};
use origin::{Origin, OriginError};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, sync_channel};

/// Certificates that are fetched ahead of the check. One of 3,000 signers has some 1.8 MB.
const AHEAD: usize = 16;
/// Certificates that are checked beside each other.
const BATCH: usize = 8;

/// Certificates at the top of a walk whose hashes are remembered. A chain that has grown continues the newest one, or
/// the first of its epoch, which is the second of the walk.
const TOP_MAX: usize = 64;

/// Where a walk is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walked {
    /// Hash of the certificate that it began with.
    pub newest: String,
    /// Hash of the last certificate that holds and that everything before hangs on.
    pub reached: String,
    /// Epoch of that one.
    pub epoch: Epoch,
    /// Certificates that hold.
    pub certificates: u64,
    /// Whether it came to a genesis certificate.
    pub is_complete: bool,
    /// Hashes of the first certificates that hold, from the newest down; at most `TOP_MAX`.
    #[serde(default)]
    pub top: Vec<String>,
}

/// Why a walk ended before its genesis.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A certificate does not hold.
    #[error("certificate {hash} of epoch {epoch} does not hold: {flaw}")]
    Flawed {
        /// Which.
        hash: String,
        /// Its epoch.
        epoch: Epoch,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// Another certificate was given than was asked for.
    #[error("certificate {given} was given for {asked}")]
    Other {
        /// The hash that was asked for.
        asked: String,
        /// The hash that was given.
        given: String,
    },
    /// It cannot be had.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// Somebody asked for the end; it can go on from where it is.
    #[error("stopped after {0} certificates")]
    Stopped(u64),
}

/// Walks from `from` to the genesis. `progress` is told after every batch, and may stop it.
///
/// # Errors
/// The first certificate that does not hold, or that cannot be had.
pub fn walk(
    origin: &(dyn Origin + Sync),
    genesis: &GenesisEd25519VerificationKey,
    from: Walked,
    progress: &mut dyn FnMut(&Walked) -> ControlFlow<()>,
) -> Result<Walked, WalkError> {
    walk_until(origin, genesis, from, &|_| false, progress)
}

/// Walks from `newest` down to a certificate that `earlier` has walked, and says where a walk is that has done both: it
/// goes on where `earlier` is. When there is no such certificate on the way, this comes to the genesis.
///
/// # Errors
/// As [`walk`].
pub fn join(
    origin: &(dyn Origin + Sync),
    genesis: &GenesisEd25519VerificationKey,
    newest: &str,
    earlier: &Walked,
    progress: &mut dyn FnMut(&Walked) -> ControlFlow<()>,
) -> Result<Walked, WalkError> {
    let place = |hash: &str| match hash == earlier.newest {
        true => Some(0),
        false => earlier.top.iter().position(|one| one == hash),
    };
    let is_known = |hash: &str| place(hash).is_some();
    let walked = walk_until(origin, genesis, Walked::begin(newest), &is_known, progress)?;
    let Some(above) = place(&walked.reached).filter(|_| !walked.is_complete) else { return Ok(walked) };
    let top = walked.top.into_iter().chain(earlier.top.iter().skip(above).skip(1).cloned());
    Ok(Walked {
        newest: walked.newest,
        reached: earlier.reached.clone(),
        epoch: earlier.epoch,
        // The one where they meet is counted by both.
        certificates: (walked.certificates - 1).saturating_add(earlier.certificates.saturating_sub(above as u64)),
        is_complete: false,
        top: top.take(TOP_MAX).collect(),
    })
}

fn walk_until(
    origin: &(dyn Origin + Sync),
    genesis: &GenesisEd25519VerificationKey,
    from: Walked,
    is_last: &(dyn Fn(&str) -> bool + Sync),
    progress: &mut dyn FnMut(&Walked) -> ControlFlow<()>,
) -> Result<Walked, WalkError> {
    let first = from.reached.clone();
    std::thread::scope(|scope| {
        let (send, fetched) = sync_channel(AHEAD);
        scope.spawn(move || {
            let mut next = first;
            loop {
                let got = origin.certificate(&next).map_err(WalkError::from).and_then(|certificate| {
                    match certificate.hash == next {
                        true => Ok(certificate),
                        false => Err(WalkError::Other { asked: next.clone(), given: certificate.hash }),
                    }
                });
                let goes_on =
                    |one: &Certificate| !one.is_genesis() && !one.previous_hash.is_empty() && !is_last(&one.hash);
                let previous = got.as_ref().ok().filter(|one| goes_on(one)).map(|one| one.previous_hash.clone());
                match (send.send(got), previous) {
                    (Ok(()), Some(previous)) => next = previous,
                    _ => return,
                }
            }
        });
        let done = check(&fetched, genesis, from, is_last, progress);
        if done.is_err() {
            // What is asked for ahead is not needed; its thread is waited for.
            origin.abandon();
        }
        done
    })
}

fn check(
    fetched: &Receiver<Result<Certificate, WalkError>>,
    genesis: &GenesisEd25519VerificationKey,
    from: Walked,
    is_last: &dyn Fn(&str) -> bool,
    progress: &mut dyn FnMut(&Walked) -> ControlFlow<()>,
) -> Result<Walked, WalkError> {
    let mut walked = from;
    // A walk that goes on looks again at the certificate that it had reached.
    walked.certificates = walked.certificates.saturating_sub(1);
    let mut newer: Option<Certificate> = None;
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        let mut failed = None;
        while batch.len() < BATCH && failed.is_none() {
            // What is there already is taken; nobody waits to fill a batch.
            let next = if batch.is_empty() { fetched.recv().ok() } else { fetched.try_recv().ok() };
            match next {
                Some(Ok(certificate)) => batch.push(certificate),
                Some(Err(error)) => failed = Some(error),
                None => break,
            }
        }
        let flawed = |certificate: &Certificate, flaw| WalkError::Flawed {
            hash: certificate.hash.clone(),
            epoch: certificate.epoch,
            flaw,
        };
        if batch.is_empty() && failed.is_none() {
            // Nothing more comes, and this was not the last one.
            let (hash, epoch) = (walked.reached, walked.epoch);
            return Err(WalkError::Flawed { hash, epoch, flaw: Flaw::Orphan });
        }
        let alone = |certificate: &Certificate| match certificate.is_genesis() {
            true => certificates::verify_genesis(certificate, genesis),
            false => certificates::verify_alone(certificate),
        };
        let flaws: Vec<_> = batch.par_iter().map(alone).collect();
        let mut is_done = false;
        for (certificate, outcome) in batch.into_iter().zip(flaws) {
            outcome.map_err(|flaw| flawed(&certificate, flaw))?;
            if let Some(newer) = &newer {
                certificates::verify_link(newer, &certificate).map_err(|flaw| flawed(newer, flaw))?;
            }
            walked.count(&certificate);
            is_done = certificate.is_genesis() || is_last(&certificate.hash);
            newer = Some(certificate);
        }
        match failed {
            Some(WalkError::Origin(OriginError::Abandoned)) => return Err(WalkError::Stopped(walked.certificates)),
            Some(error) => return Err(error),
            None => {}
        }
        if progress(&walked).is_break() && !is_done {
            return Err(WalkError::Stopped(walked.certificates));
        }
        if is_done {
            return Ok(walked);
        }
    }
}

impl Walked {
    /// The beginning of a walk.
    pub fn begin(newest: &str) -> Walked {
        Walked {
            newest: newest.to_owned(),
            reached: newest.to_owned(),
            epoch: Epoch(0),
            certificates: 0,
            is_complete: false,
            top: Vec::new(),
        }
    }

    /// One more holds.
    fn count(&mut self, certificate: &Certificate) {
        if self.top.len() < TOP_MAX && self.top.len() as u64 == self.certificates {
            self.top.push(certificate.hash.clone());
        }
        self.certificates = self.certificates.saturating_add(1);
        self.reached.clone_from(&certificate.hash);
        self.epoch = certificate.epoch;
        self.is_complete = certificate.is_genesis();
    }
}
