//! Import of transactions, and proofs over HTTP.

use super::load::{self, End, Load};
use super::network::Network;
use super::{Plan, Results, Row, cost, failed};
use crate::host::chaindata::{ChainData, Progress};
use crate::host::commands::CommandError;
use crate::host::engine::Sources as _;
use crate::host::http::proofs::Prover as _;
use mithril_common::entities::{BlockNumber, BlockNumberOffset, BlockRange, SignedEntityType};
use pallas_codec::minicbor::Decoder;
use pallas_traverse::MultiEraBlock;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// 90 million transactions in 21 hours.
const REFERENCE_IMPORT: f64 = 90e6 / (21.0 * 3600.0);
/// Clients at once.
const CONNECTIONS: usize = 200;
/// Different requests that are taken in turn.
const REQUESTS: usize = 2_000;

/// What proofs are measured with: hashes of a request, goal, published figure of the reference; per second.
const PROOFS: [(usize, f64, f64); 2] = [(1, 5_000.0, 117.9), (50, 500.0, 26.0)];

/// Imports, certifies and proves.
pub(super) fn measure(network: &Network, plan: &Plan, results: &mut Results<'_>) -> Result<(), CommandError> {
    let Some(directory) = &plan.immutable else { return Ok(()) };
    let data = network.files.chain.as_ref().ok_or_else(|| failed("no chain is imported"))?;
    import(data, directory, results)?;
    let (highest, _) = data.highest().ok_or_else(|| failed("there is no block"))?;
    certify(network, data, highest)?;
    results.listener.begins("Reading the transactions to ask for");
    let complete = (*highest + 1) / *BlockRange::LENGTH * *BlockRange::LENGTH;
    let hashes = transactions(directory, complete)?;
    let sample: Vec<String> = hashes.iter().step_by(hashes.len() / 100 + 1).cloned().collect();
    let (v1, v2) = (network.files.transactions(&sample), network.files.transactions_v2(&sample));
    let v1 =
        v1.map_err(failed)?.is_some_and(|proof| proof.verify().is_ok() && proof.non_certified_transactions.is_empty());
    let v2 =
        v2.map_err(failed)?.is_some_and(|proof| proof.verify().is_ok() && proof.non_certified_transactions.is_empty());
    if !(v1 && v2) {
        return Err(failed("the proofs do not hold"));
    }
    for (version, path) in [("v1", "/proof/cardano-transaction"), ("v2", "/proof/v2/cardano-transaction")] {
        for (each, goal, reference) in PROOFS {
            let requests: Vec<Vec<u8>> = (0..REQUESTS).map(|index| request(path, &hashes, index, each)).collect();
            let load = Load {
                address: network.address()?,
                requests: Arc::new(requests),
                connections: CONNECTIONS,
                end: End::Time(plan.span),
                rate: None,
            };
            let what = format!("proofs {version}, {each} transactions each, 200 clients");
            proofs(&load, &what, (goal, reference), results)?;
        }
    }
    Ok(())
}

fn import(data: &ChainData, directory: &Path, results: &mut Results<'_>) -> Result<(), CommandError> {
    results.listener.begins("Importing the chain");
    let last = Cell::new(Progress::default());
    let note = |progress| {
        last.set(progress);
        ControlFlow::Continue(())
    };
    let (begun, before) = (Instant::now(), cost::process_seconds());
    data.import_immutables(directory, BlockNumber(u64::MAX), &note)?;
    let (seconds, spent) = (begun.elapsed().as_secs_f64(), cost::process_seconds() - before);
    let done = last.get();
    let rate = done.transactions as f64 / seconds;
    let note = format!(
        "{} blocks, {} transactions, {:.0} MB/s of chunks, {:.0} /s per processor; reference: 90 million in 21 h",
        done.blocks,
        done.transactions,
        done.bytes as f64 / 1e6 / seconds,
        done.transactions as f64 / spent
    );
    let row = Row::new("import of transactions", rate, "/s");
    results.push(row.at_least(20.0 * REFERENCE_IMPORT).reference(REFERENCE_IMPORT).note(note));
    Ok(())
}

/// Gives proofs up to a block, as after a certificate.
fn certify(network: &Network, data: &ChainData, highest: BlockNumber) -> Result<(), CommandError> {
    let epoch = super::network::GENESIS;
    let v1 = SignedEntityType::CardanoTransactions(epoch, highest);
    network.files.certified(&v1, "bench", &data.transactions_root(highest)?).map_err(failed)?;
    let v2 = SignedEntityType::CardanoBlocksTransactions(epoch, highest, BlockNumberOffset(1));
    network.files.certified(&v2, "bench", &data.blocks_transactions_root(highest)?).map_err(failed)
}

fn proofs(load: &Load, what: &str, figures: (f64, f64), results: &mut Results<'_>) -> Result<(), CommandError> {
    let (goal, reference) = figures;
    let loaded = load::run(load)?;
    let count = loaded.statuses.values().sum::<u64>() as f64;
    let note = format!(
        "{:.0} /s per processor of the server, {:.1} kB each",
        count / loaded.server_seconds,
        loaded.bytes as f64 / count / 1e3
    );
    results.push(Row::new(what, loaded.rate(), "/s").at_least(goal).reference(reference).note(note));
    // 200 clients that ask again at once wait for each other: 200 over the rate, whoever serves them.
    let row = Row::new("  p99, each asks again at once", loaded.percentile_ms(0.99), "ms");
    let is_possible = CONNECTIONS as f64 / goal < 0.05;
    results.push(if is_possible { row.at_most(50.0) } else { row });
    let paced = load::run(&Load { rate: Some(goal), ..load.clone() })?;
    let row = Row::new(format!("  p99 at {goal:.0} /s"), paced.percentile_ms(0.99), "ms");
    results.push(row.at_most(50.0).note(format!("p50 {:.1} ms", paced.percentile_ms(0.5))));
    let refused = loaded.others(200) + paced.others(200);
    results.push(Row::new("  answers that are not 200", refused as f64, "").at_most(0.0));
    Ok(())
}

fn request(path: &str, hashes: &[String], index: usize, each: usize) -> Vec<u8> {
    let of = |place: usize| hashes.get((index * each + place) * 7919 % hashes.len().max(1)).map_or("", String::as_str);
    let asked: Vec<&str> = (0..each).map(of).collect();
    load::get(&format!("{path}?transaction_hashes={}", asked.join(",")))
}

/// Hashes of the transactions below a block, by pallas.
fn transactions(directory: &Path, below: u64) -> Result<Vec<String>, CommandError> {
    let io = |source| CommandError::File { path: directory.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        names.push(entry.map_err(io)?.path());
    }
    names.retain(|name| name.extension().is_some_and(|kind| kind == "chunk"));
    names.sort();
    let mut hashes = Vec::new();
    for name in names {
        let bytes = std::fs::read(&name).map_err(|source| CommandError::File { path: name.clone(), source })?;
        let mut at = Decoder::new(&bytes);
        while at.position() < bytes.len() {
            let start = at.position();
            at.skip().map_err(failed)?;
            let block = MultiEraBlock::decode(bytes.get(start..at.position()).unwrap_or_default()).map_err(failed)?;
            if block.number() >= below {
                return Ok(hashes);
            }
            hashes.extend(block.txs().iter().map(|transaction| transaction.hash().to_string()));
        }
    }
    Ok(hashes)
}
