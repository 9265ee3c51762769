//! Walking a chain of certificates from any of them back to its genesis, and believing nothing on the way.
//!
//! ```text
//! origin ──fetch──▶ at most AHEAD certificates ──▶ each alone, in parallel ──▶ each with the one before it, in order
//! ```
//!
//! A certificate's hash is asked for and computed again, so whatever an origin gives, a walk that ends at the genesis key holds. A
//! walk can be interrupted: what it came to is a hash, and from that hash it goes on.

pub mod origin;

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
                let previous = got.as_ref().ok().map(|certificate| certificate.previous_hash.clone());
                if send.send(got).is_err() {
                    return;
                }
                match previous {
                    Some(previous) if !previous.is_empty() => next = previous,
                    _ => return,
                }
            }
        });
        check(&fetched, genesis, from, progress)
    })
}

fn check(
    fetched: &Receiver<Result<Certificate, WalkError>>,
    genesis: &GenesisEd25519VerificationKey,
    from: Walked,
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
        let alone = |certificate: &Certificate| match certificate.is_genesis() {
            true => certificates::verify_genesis(certificate, genesis),
            false => certificates::verify_alone(certificate),
        };
        let flaws: Vec<_> = batch.par_iter().map(alone).collect();
        for (certificate, outcome) in batch.into_iter().zip(flaws) {
            outcome.map_err(|flaw| flawed(&certificate, flaw))?;
            if let Some(newer) = &newer {
                certificates::verify_link(newer, &certificate).map_err(|flaw| flawed(newer, flaw))?;
            }
            walked.certificates += 1;
            walked.reached.clone_from(&certificate.hash);
            walked.epoch = certificate.epoch;
            walked.is_complete = certificate.is_genesis();
            newer = Some(certificate);
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if progress(&walked).is_break() && !walked.is_complete {
            return Err(WalkError::Stopped(walked.certificates));
        }
        if walked.is_complete {
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
        }
    }
}
