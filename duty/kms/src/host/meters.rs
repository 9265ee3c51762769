//! What is counted. Handles are made once, so a request touches atomics only; every label has a bounded set of values.
//!
//! What belongs to a key and not to a connection is in [`super::tally`].
//!
//! | Metric | Labels | Unit |
//! |---|---|---|
//! | `semel_kms_requests_total` | chain, validator, type, result | signed, repeated (the stored signature again), refused |
//! | `semel_kms_refusals_total` | chain, validator, kind | refusals: conflict (a double signature, if it were made), regression, … |
//! | `semel_kms_request_seconds` | chain, validator, stage | seconds: decode, state, fsync, sign, write, turn (others, answered before); total is their sum |
//! | `semel_kms_connected` | chain, validator | 0 or 1; NaN once it is no longer configured |
//! | `semel_kms_connects_total`, `semel_kms_reconnects_total` | chain, validator | all, and all but the first |
//! | `semel_kms_disconnects_total` | chain, validator, reason | |
//! | `semel_kms_dial_failures_total` | chain, validator | |
//! | `semel_kms_handshake_failures_total` | chain, validator, reason | |

use super::chain::Signed;
use super::tally::made;
use crate::wire::SignedType;
use metrics::{Counter, Gauge, Histogram, Label, counter, describe_counter, describe_gauge, describe_histogram};
use metrics::{Unit, gauge, histogram};
use std::time::Duration;

/// Kinds of refusals: the guard's reasons, a key that did not sign, and requests that nobody may ask.
pub(crate) const KINDS: [&str; 9] =
    ["conflict", "regression", "too_far", "unknown", "tombstoned", "unavailable", "held", "key", "request"];

/// Why sessions end.
pub(crate) const ENDS: [&str; 8] =
    ["closed", "silent", "io", "handshake", "frame", "wrong_peer", "no_identity", "undecodable"];

/// Why handshakes fail.
pub(crate) const HANDSHAKES: [&str; 11] = [
    "closed",
    "silent",
    "io",
    "not_secret_connection",
    "not_noise",
    "protocol_version",
    "low_order",
    "frame",
    "identity",
    "wrong_peer",
    "no_identity",
];

const TYPES: [&str; 3] = ["proposal", "prevote", "precommit"];

/// Says once what each metric is.
pub fn describe() {
    let seconds = Unit::Seconds;
    for (name, text) in [
        ("semel_kms_requests_total", "Requests for signatures, by type and result."),
        ("semel_kms_refusals_total", "Refusals, by kind; conflict is a double signature that was not made."),
        ("semel_kms_connects_total", "Sessions with a validator."),
        ("semel_kms_reconnects_total", "Sessions with a validator after the first."),
        ("semel_kms_disconnects_total", "Sessions that ended, by reason."),
        ("semel_kms_dial_failures_total", "Validators that could not be reached, each time."),
        ("semel_kms_handshake_failures_total", "Connections that ended before the validator was known, by reason."),
        ("semel_kms_missed_heights_total", "Heights between two precommits of ours that had none."),
        ("semel_ledger_syncs_total", "Waits for the ledger's medium."),
        (semel_keys::device::DEVICE_ERRORS, "Devices that failed a request or went away, by provider and reason."),
        (semel_keys::device::SESSION_REOPENS, "Sessions with a device that were opened again, by provider."),
    ] {
        describe_counter!(name, text);
    }
    for (name, text) in [
        (
            "semel_kms_connected",
            "Whether there is a session with the validator; NaN once it is not configured any more.",
        ),
        ("semel_ready", "Whether every part of this process is well: each validator connected or waited for."),
        ("semel_ledger_stopped", "Whether the ledger has stopped, and nothing is signed any more."),
        ("semel_ledger_disk_free_ratio", "Free part of the ledger's file system, 0 to 1."),
        ("semel_config_generation", "How often a configuration was taken in."),
        ("semel_config_last_reload_success", "Whether the last reload was taken."),
        ("semel_kms_last_signed_height", "Height of the last signature."),
        ("semel_kms_last_signed_round", "Round of the last signature."),
        ("semel_kms_last_signed_step", "Step of the last signature: 1 proposal, 2 prevote, 3 precommit."),
        ("semel_kms_last_signed_timestamp_seconds", "When the last signature was made, in seconds since 1970."),
    ] {
        describe_gauge!(name, text);
    }
    describe_histogram!("semel_kms_request_seconds", seconds, "Time of a signature, by stage.");
    describe_histogram!(
        semel_ledger::SYNC_SECONDS,
        seconds,
        "Time that the ledger's medium took to make records durable."
    );
}

/// Where the time of one request went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) decode: Duration,
    pub(crate) write: Duration,
    pub(crate) total: Duration,
}

struct Stages {
    decode: Histogram,
    state: Histogram,
    fsync: Histogram,
    sign: Histogram,
    write: Histogram,
    turn: Histogram,
    total: Histogram,
}

/// Counters of one `[[validator]]`.
pub(crate) struct Meters {
    signed: [Counter; 3],
    repeated: [Counter; 3],
    refused: [Counter; 3],
    bytes: Counter,
    refusals: [Counter; 9],
    stages: Stages,
    connected: Gauge,
    connects: Counter,
    reconnects: Counter,
    disconnects: [Counter; 8],
    dial_failures: Counter,
    handshake_failures: [Counter; 11],
}

impl Meters {
    pub(crate) fn new(chain: &str, validator: &str) -> Self {
        let labels = vec![Label::new("chain", chain.to_owned()), Label::new("validator", validator.to_owned())];
        let with = |more: &[(&'static str, &'static str)]| {
            let mut labels = labels.clone();
            labels.extend(more.iter().map(|(key, value)| Label::new(*key, *value)));
            labels
        };
        // Each is there from the start, at 0: a rate over the first event needs something to rise from.
        let request = |result| {
            TYPES.map(|kind| made(counter!("semel_kms_requests_total", with(&[("type", kind), ("result", result)]))))
        };
        let stage = |stage| histogram!("semel_kms_request_seconds", with(&[("stage", stage)]));
        let connected = gauge!("semel_kms_connected", labels.clone());
        connected.set(0.0);
        Self {
            signed: request("signed"),
            repeated: request("repeated"),
            refused: request("refused"),
            bytes: made(counter!("semel_kms_requests_total", with(&[("type", "bytes"), ("result", "signed")]))),
            refusals: KINDS.map(|kind| made(counter!("semel_kms_refusals_total", with(&[("kind", kind)])))),
            stages: Stages {
                decode: stage("decode"),
                state: stage("state"),
                fsync: stage("fsync"),
                sign: stage("sign"),
                write: stage("write"),
                turn: stage("turn"),
                total: stage("total"),
            },
            connected,
            connects: made(counter!("semel_kms_connects_total", labels.clone())),
            reconnects: made(counter!("semel_kms_reconnects_total", labels.clone())),
            disconnects: ENDS.map(|reason| made(counter!("semel_kms_disconnects_total", with(&[("reason", reason)])))),
            dial_failures: made(counter!("semel_kms_dial_failures_total", labels.clone())),
            handshake_failures: HANDSHAKES
                .map(|reason| made(counter!("semel_kms_handshake_failures_total", with(&[("reason", reason)])))),
        }
    }

    pub(crate) fn connected(&self, is_first: bool) {
        self.connects.increment(1);
        if !is_first {
            self.reconnects.increment(1);
        }
        self.connected.set(1.0);
    }

    pub(crate) fn disconnected(&self, reason: &'static str) {
        self.connected.set(0.0);
        count(&ENDS, &self.disconnects, reason);
    }

    pub(crate) fn dial_failed(&self) {
        self.connected.set(0.0);
        self.dial_failures.increment(1);
    }

    pub(crate) fn handshake_failed(&self, reason: &'static str) {
        count(&HANDSHAKES, &self.handshake_failures, reason);
    }

    /// Bytes that are neither vote nor proposal.
    pub(crate) fn signed_bytes(&self) {
        self.bytes.increment(1);
    }

    /// The validator is not configured any more.
    pub(crate) fn gone(&self) {
        self.connected.set(f64::NAN);
    }

    pub(crate) fn refused(&self, asked: Option<SignedType>, kind: &'static str) {
        if let Some(asked) = asked {
            of(&self.refused, asked).increment(1);
        }
        count(&KINDS, &self.refusals, kind);
    }

    pub(crate) fn signed(&self, kind: SignedType, signed: &Signed, times: Times) {
        let counters = if signed.answer.repeated { &self.repeated } else { &self.signed };
        of(counters, kind).increment(1);
        let Stages { decode, state, fsync, sign, write, turn, total } = &self.stages;
        decode.record(times.decode);
        state.record(signed.state);
        fsync.record(signed.fsync);
        sign.record(signed.sign);
        write.record(times.write);
        let own = times.decode + signed.state + signed.fsync + signed.sign + times.write;
        turn.record(times.total.saturating_sub(own));
        total.record(times.total);
    }
}

fn of(counters: &[Counter; 3], kind: SignedType) -> &Counter {
    let [proposal, prevote, precommit] = counters;
    match kind {
        SignedType::Proposal => proposal,
        SignedType::Prevote => prevote,
        SignedType::Precommit => precommit,
    }
}

fn count(labels: &[&str], counters: &[Counter], label: &str) {
    let index = labels.iter().position(|known| *known == label);
    if let Some(counter) = index.and_then(|index| counters.get(index)) {
        counter.increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::KINDS;

    #[test]
    fn every_reason_of_the_guard_is_a_kind() {
        for reason in semel_guard::Reason::ALL {
            assert!(KINDS.contains(&reason.label()), "{reason:?}");
        }
    }
}
