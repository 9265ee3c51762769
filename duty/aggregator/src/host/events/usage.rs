//! Usage: what the counters counted since the last report.
//!
//! Counters are read as everybody reads them, from the rendering of the recorder: nothing is counted twice, and a counter that a
//! later version adds is reported as well, under its whole name. A counter that did not move is not reported.

use super::Event;
use crate::face::metrics::{ByClient, CERTIFICATE_DETAIL_WITHOUT_PREFIX};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Counters of this family are reported; they end like the second.
const PREFIX: &str = "mithril_aggregator_";
const SUFFIX: &str = "_since_startup";

/// The last report.
#[derive(Debug)]
pub struct Usage {
    counted: HashMap<String, u64>,
    period: Duration,
    reported: Option<Instant>,
}

impl Usage {
    /// Nothing was reported yet; there is a report every `period`.
    pub fn new(period: Duration) -> Usage {
        Usage { counted: HashMap::new(), period, reported: None }
    }

    /// Whether it is time for a report: the first one is made at once.
    pub fn is_due(&self) -> bool {
        self.reported.is_none_or(|reported| reported.elapsed() >= self.period)
    }

    /// What rose since the last call, by the recorder's text.
    pub fn report(&mut self, rendered: &str) -> Vec<Event> {
        self.reported = Some(Instant::now());
        rendered.lines().filter_map(|line| self.rose(line)).collect()
    }

    fn rose(&mut self, line: &str) -> Option<Event> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        if !is_usage(name) {
            return None;
        }
        let value: u64 = value.parse().ok()?;
        let before = self.counted.get(series).copied().unwrap_or(0);
        if value <= before {
            return None;
        }
        self.counted.insert(series.to_owned(), value);
        let label = |name| label(labels, name).unwrap_or_default();
        Some(Event::used(name, value - before, self.period, label("origin_tag"), label("client_type")))
    }
}

/// Certificates' details are counted under two names; the reference reports the one without a prefix.
fn is_usage(name: &str) -> bool {
    let is_of_family = name.starts_with(PREFIX) && name.ends_with(SUFFIX);
    name == CERTIFICATE_DETAIL_WITHOUT_PREFIX || is_of_family && name != ByClient::CertificateDetail.name()
}

/// The value of a label. Tags of origins come from the settings, and none of them has a quote.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}
