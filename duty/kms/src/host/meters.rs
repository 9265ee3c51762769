//! What one connection counts. Handles are made once; a request touches atomics only.
//!
//! | Metric | Labels | Unit |
//! |---|---|---|
//! | `semel_kms_requests_total` | chain, validator, type, result | signed, repeated |
//! | `semel_kms_refusals_total` | chain, validator, kind | refusals: conflict, regression, … |
//! | `semel_kms_request_seconds` | chain, validator, stage | seconds: admit, sign, total |
//! | `semel_kms_last_signed_height`, `_round`, `_step` | chain, validator | CometBFT's numbers |
//! | `semel_kms_last_signed_timestamp_seconds` | chain, validator | seconds since 1970 |
//! | `semel_kms_missed_heights_total` | chain, validator | heights without a precommit of ours |
//! | `semel_kms_connected` | chain, validator | 0 or 1 |
//! | `semel_kms_connects_total`, `semel_kms_disconnects_total` | chain, validator, reason | |

use super::chain::Signed;
use crate::wire::SignedType;
use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use semel_guard::{Position, Step};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Counters of one `[[validator]]`.
pub(crate) struct Meters {
    labels: Vec<Label>,
    signed: [Counter; 3],
    repeated: [Counter; 3],
    admit: Histogram,
    sign: Histogram,
    total: Histogram,
    height: Gauge,
    round: Gauge,
    step: Gauge,
    timestamp: Gauge,
    missed: Counter,
    connected: Gauge,
    connects: Counter,
    /// Height of the last precommit, to see gaps.
    precommitted: AtomicU64,
}

impl Meters {
    pub(crate) fn new(chain: &str, validator: &str) -> Self {
        let labels = vec![Label::new("chain", chain.to_owned()), Label::new("validator", validator.to_owned())];
        let with = |more: &[(&'static str, &'static str)]| {
            let mut labels = labels.clone();
            labels.extend(more.iter().map(|(key, value)| Label::new(*key, *value)));
            labels
        };
        let request = |kind, result| counter!("semel_kms_requests_total", with(&[("type", kind), ("result", result)]));
        let kinds = ["proposal", "prevote", "precommit"];
        let stage = |stage| histogram!("semel_kms_request_seconds", with(&[("stage", stage)]));
        Self {
            signed: kinds.map(|kind| request(kind, "signed")),
            repeated: kinds.map(|kind| request(kind, "repeated")),
            admit: stage("admit"),
            sign: stage("sign"),
            total: stage("total"),
            height: gauge!("semel_kms_last_signed_height", labels.clone()),
            round: gauge!("semel_kms_last_signed_round", labels.clone()),
            step: gauge!("semel_kms_last_signed_step", labels.clone()),
            timestamp: gauge!("semel_kms_last_signed_timestamp_seconds", labels.clone()),
            missed: counter!("semel_kms_missed_heights_total", labels.clone()),
            connected: gauge!("semel_kms_connected", labels.clone()),
            connects: counter!("semel_kms_connects_total", labels.clone()),
            precommitted: AtomicU64::new(0),
            labels,
        }
    }

    pub(crate) fn connected(&self) {
        self.connects.increment(1);
        self.connected.set(1.0);
    }

    pub(crate) fn disconnected(&self, reason: &'static str) {
        self.connected.set(0.0);
        let mut labels = self.labels.clone();
        labels.push(Label::new("reason", reason));
        counter!("semel_kms_disconnects_total", labels).increment(1);
    }

    pub(crate) fn refused(&self, kind: &'static str) {
        let mut labels = self.labels.clone();
        labels.push(Label::new("kind", kind));
        counter!("semel_kms_refusals_total", labels).increment(1);
    }

    /// Bytes that are neither vote nor proposal.
    pub(crate) fn signed_bytes(&self) {
        let mut labels = self.labels.clone();
        labels.extend([Label::new("type", "bytes"), Label::new("result", "signed")]);
        counter!("semel_kms_requests_total", labels).increment(1);
    }

    pub(crate) fn signed(&self, kind: SignedType, position: Position, signed: &Signed, total: Duration) {
        let [proposal, prevote, precommit] = if signed.answer.repeated { &self.repeated } else { &self.signed };
        let counter = match kind {
            SignedType::Proposal => proposal,
            SignedType::Prevote => prevote,
            SignedType::Precommit => precommit,
        };
        counter.increment(1);
        self.admit.record(signed.admit);
        self.sign.record(signed.sign);
        self.total.record(total);
        if let (Position::Tendermint { height, round, step }, false) = (position, signed.answer.repeated) {
            self.height.set(height as f64);
            self.round.set(f64::from(round));
            self.step.set(f64::from(step as u8));
            if step == Step::Precommit {
                let last = self.precommitted.swap(height, Ordering::Relaxed);
                if last > 0 && height > last + 1 {
                    self.missed.increment(height - last - 1);
                }
            }
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.timestamp.set(now.as_secs_f64());
        }
    }
}
