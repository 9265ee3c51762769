//! What is served from memory: small bodies by their number, large ones by their bytes.

use super::cost;
use super::load::{self, End, Load};
use super::network::Network;
use super::{Plan, Results, Row, failed};
use crate::host::commands::CommandError;
use crate::host::store::certificates;
use std::sync::Arc;

/// Clients at once.
const CONNECTIONS: usize = 100;

/// Every read that clients and signers repeat.
pub(super) fn measure(network: &Network, plan: &Plan, results: &mut Results<'_>) -> Result<(), CommandError> {
    let newest = network.running.engine().store().read(|db| certificates::latest(db, 1))?.pop();
    let hash = newest.ok_or_else(|| failed("there is no certificate"))?.hash;
    for path in ["/certificates".to_owned(), "/epoch-settings".to_owned(), format!("/certificate/{hash}")] {
        let load = Load {
            address: network.address()?,
            requests: Arc::new(vec![load::get(&path)]),
            connections: CONNECTIONS,
            end: End::Time(plan.span),
            rate: None,
        };
        let loaded = load::run(&load)?;
        let name = path.split(&hash).next().unwrap_or(&path);
        let count = loaded.statuses.values().sum::<u64>() as f64;
        let each = loaded.bytes as f64 / count.max(1.0);
        let note = format!("{each:.0} bytes each; {:.0} /s per processor of the server", count / loaded.server_seconds);
        results.push(Row::new(format!("GET {name}, 20 signers"), loaded.rate(), "/s").at_least(10_000.0).note(note));
        results.push(Row::new("  p99 with 100 clients", loaded.percentile_ms(0.99), "ms").at_most(50.0));
        results.push(Row::new("  answers that are not 200", loaded.others(200) as f64, "").at_most(0.0));
    }
    results.push(Row::new("memory after the reads", cost::resident_mib(), "MiB").at_most(1024.0));
    Ok(())
}
