//! A large network: entering an epoch, single signatures, and from the quorum to the certificate.

use super::load::{self, End, Load};
use super::network::{GENESIS, Network, Prepared, Signers, wait};
use super::{Plan, Results, Row, cost, failed};
use crate::core::roster::{Quorum, Roster};
use crate::host::commands::CommandError;
use mithril_common::crypto_helper::ProtocolSingleSignature;
use mithril_common::entities::{ProtocolParameters, SignedEntityType, SingleSignature};
use mithril_common::messages::{RegisterSignatureMessageHttp, SignedEntityTypeMessage};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Clients at once.
const CONNECTIONS: usize = 64;
/// Single signatures per second and core, by the reference's processor time alone.
const REFERENCE_REGISTRATIONS: f64 = 180.0;

/// All of it.
pub(super) fn measure(plan: &Plan, home: &Path, results: &mut Results<'_>) -> Result<(), CommandError> {
    let count = plan.signers;
    results.listener.begins(&format!("Making the keys of {count} signers"));
    // Mainnet's parameters.
    let signers = Signers::new(count, ProtocolParameters::new(2422, 20973, 0.2));
    let prepared = Prepared::new(home, &signers, false)?;
    results.listener.begins("Entering epochs");
    let (first, _) = timed(|| prepared.engine().enter_epoch())?;
    results.push(Row::new(format!("start with {count} signers, two rosters"), first, "s"));
    let (checked, _) = timed(|| prepared.genesis())?;
    results.push(Row::new("  until all proofs of possession are checked, beside the rest", checked, "s"));
    prepared.observer.set_epoch(GENESIS.next());
    let (change, spent) = timed(|| prepared.engine().enter_epoch())?;
    let row = Row::new(format!("epoch change with {count} signers"), change, "s").at_most(3.0);
    results.push(row.note(format!("{spent:.2} s of processor time")));
    results.listener.begins("Waiting until the next signers are checked");
    if let Some(next) = prepared.engine().epoch().and_then(|data| data.next.clone()) {
        next.check().map_err(failed)?;
    }
    let network = prepared.start()?;
    let engine = network.running.engine();
    wait("a message to be opened", || !engine.open_messages().is_empty())?;
    let open = engine.open_messages().pop().ok_or_else(|| failed("no message is open"))?;
    let roster = engine.epoch().and_then(|data| data.current.clone()).ok_or_else(|| failed("nobody signs"))?;
    let signatures = signatures(plan, &signers, &roster, &open.hash, results)?;
    let entity = open.message.entity.clone();
    let first = before_quorum(&signatures, signers.parameters.k)?;
    let (before, rest) = signatures.split_at_checked(first).ok_or_else(|| failed("there are too few signatures"))?;
    registrations(&network, &bodies(before, &entity, &open.hash)?, plan, results)?;
    certificate(&network, &bodies(rest.get(..1).unwrap_or_default(), &entity, &open.hash)?, results, || {
        open.is_certified()
    })
}

/// Wall and processor seconds of a piece of work.
fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(f64, f64), E> {
    let (begun, before) = (Instant::now(), cost::process_seconds());
    work()?;
    Ok((begun.elapsed().as_secs_f64(), cost::process_seconds() - before))
}

/// How many signatures come before the one with which there is a quorum.
fn before_quorum(signatures: &[SingleSignature], k: u64) -> Result<usize, CommandError> {
    let mut quorum = Quorum::new(k);
    let is_last = |signature: &SingleSignature| {
        quorum.add(&signature.won_indexes);
        quorum.is_reached()
    };
    signatures.iter().position(is_last).ok_or_else(|| failed("these signers do not reach a quorum"))
}

fn bodies(of: &[SingleSignature], entity: &SignedEntityType, hash: &str) -> Result<Vec<Vec<u8>>, CommandError> {
    let body = |signature: &SingleSignature| {
        let message = RegisterSignatureMessageHttp {
            signed_entity_type: SignedEntityTypeMessage::Known(entity.clone()),
            party_id: signature.party_id.clone(),
            signature: signature.signature.to_json_hex().map_err(failed)?,
            won_indexes: signature.won_indexes.clone(),
            signed_message: hash.to_owned(),
        };
        Ok(load::post("/register-signatures", &serde_json::to_vec(&message).map_err(failed)?))
    };
    of.iter().map(body).collect()
}

fn registrations(
    network: &Network,
    requests: &[Vec<u8>],
    plan: &Plan,
    results: &mut Results<'_>,
) -> Result<(), CommandError> {
    let turns = plan.registrations.div_ceil(requests.len().max(1));
    let load = Load {
        address: network.address()?,
        requests: Arc::new(requests.to_vec()),
        connections: CONNECTIONS,
        end: End::Requests(turns * requests.len()),
        rate: None,
    };
    let loaded = load::run(&load)?;
    let all = loaded.statuses.values().sum::<u64>() as f64;
    let what = format!("single signatures of {} signers, per processor of the server", plan.signers);
    let note =
        format!("{:.0} /s in all, p99 {:.0} ms with {CONNECTIONS} clients", loaded.rate(), loaded.percentile_ms(0.99));
    results.push(
        Row::new(what, all / loaded.server_seconds, "/s")
            .at_least(1_000.0)
            .reference(REFERENCE_REGISTRATIONS)
            .note(note),
    );
    results.push(Row::new("  answers that are not 201", loaded.others(201) as f64, "").at_most(0.0));
    Ok(())
}

/// Sends the signature that makes the quorum, and waits for its certificate.
fn certificate(
    network: &Network,
    last: &[Vec<u8>],
    results: &mut Results<'_>,
    is_certified: impl Fn() -> bool,
) -> Result<(), CommandError> {
    let load = Load {
        address: network.address()?,
        requests: Arc::new(last.to_vec()),
        connections: 1,
        end: End::Requests(1),
        rate: None,
    };
    let (begun, before) = (Instant::now(), cost::process_seconds());
    let sent = load::run(&load)?;
    if sent.others(201) > 0 {
        return Err(failed(format!("the last signature was not taken: {:?}", sent.statuses)));
    }
    wait("the certificate", is_certified)?;
    let seconds = begun.elapsed().as_secs_f64();
    let row = Row::new("from the k-th index to the certificate", seconds, "s").at_most(2.0);
    results.push(row.note(format!("{:.2} s of processor time", cost::process_seconds() - before)));
    Ok(())
}

/// Signatures over one message, as they are kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    message: String,
    // Party, signature, indexes.
    signatures: Vec<(String, String, Vec<u64>)>,
}

fn signatures(
    plan: &Plan,
    signers: &Signers,
    roster: &Roster,
    message: &str,
    results: &Results<'_>,
) -> Result<Vec<SingleSignature>, CommandError> {
    let path = cache_file(&plan.cache, plan.signers);
    if let Some(kept) = read(&path, message) {
        return Ok(kept);
    }
    results.listener.begins(&format!("Signing as {} signers, once; kept in {}", plan.signers, path.display()));
    let signed = signers.sign(roster, message)?;
    let one = |signature: &SingleSignature| {
        let text = signature.signature.to_json_hex().map_err(failed)?;
        Ok((signature.party_id.clone(), text, signature.won_indexes.clone()))
    };
    let signatures: Result<Vec<_>, CommandError> = signed.iter().map(one).collect();
    let kept = Kept { message: message.to_owned(), signatures: signatures? };
    let io = |source| CommandError::File { path: path.clone(), source };
    std::fs::create_dir_all(&plan.cache).map_err(io)?;
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&unfinished, serde_json::to_vec(&kept).map_err(failed)?).map_err(io)?;
    std::fs::rename(&unfinished, &path).map_err(io)?;
    Ok(signed)
}

/// Where the signatures of so many signers are kept.
fn cache_file(cache: &Path, signers: usize) -> PathBuf {
    cache.join(format!("mithril-{signers}.json"))
}

/// What is kept for this message; what cannot be read counts as nothing.
fn read(path: &Path, message: &str) -> Option<Vec<SingleSignature>> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    if kept.message != message {
        return None;
    }
    let one = |(party, text, indexes): (String, String, Vec<u64>)| {
        Some(SingleSignature::new(party, ProtocolSingleSignature::try_from(text.as_str()).ok()?, indexes))
    };
    kept.signatures.into_iter().map(one).collect()
}
