//! Usage: what the counters counted since the last report.
//!
//! Counters are read as everybody reads them, from the rendering of the recorder: nothing is counted twice, and a counter that a
//! later version adds is reported as well. A counter that did not move is not reported.

use super::Event;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Counters of this family are reported; they end like the second.
const PREFIX: &str = "mithril_aggregator_";
const SUFFIX: &str = "_since_startup";
/// Looks at the chain say nothing of usage.
const NOT_USAGE: &str = "runtime_cycle";

/// The last report.
#[derive(Debug)]
pub struct Usage {
    counted: HashMap<String, u64>,
    at: Instant,
}

impl Default for Usage {
    fn default() -> Usage {
        Usage { counted: HashMap::new(), at: Instant::now() }
    }
}

impl Usage {
    /// What rose since the last call, by the recorder's text.
    pub fn report(&mut self, rendered: &str) -> Vec<Event> {
        let interval = self.at.elapsed();
        self.at = Instant::now();
        rendered.lines().filter_map(|line| self.rose(line, interval)).collect()
    }

    fn rose(&mut self, line: &str, interval: Duration) -> Option<Event> {
        if !line.starts_with(PREFIX) {
            return None;
        }
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let counter = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        if counter.starts_with(NOT_USAGE) {
            return None;
        }
        let value: u64 = value.parse().ok()?;
        let before = self.counted.get(series).copied().unwrap_or(0);
        if value <= before {
            return None;
        }
        self.counted.insert(series.to_owned(), value);
        Some(Event::used(counter, value - before, interval, label(labels, "origin_tag"), label(labels, "client_type")))
    }
}

/// The value of a label. Tags of origins come from the settings, and none of them has a quote.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}
