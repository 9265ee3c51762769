//! Looking: at a chain of certificates, at a running aggregator, at everything it stands on.

use super::CommandError;
use crate::face::args::{Doctor, Status, Verify};
use crate::face::settings::Settings;
use crate::host::walk::{Walked, origin, walk};
use semel_ops::shell::Shell;
use semel_ops::shutdown::{Signals, Stop};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two lines of a long walk.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Walks and verifies a certificate chain.
///
/// # Errors
/// A certificate is not valid, or cannot be had.
pub fn verify(what: &Verify, shell: &Shell) -> Result<(), CommandError> {
    let key = what.genesis_verification_key;
    let origin = origin::open(&what.whose)?;
    let newest = match &what.from {
        Some(hash) => hash.clone(),
        None => origin.newest()?,
    };
    let kept = what.resume.as_deref().and_then(|path| read_walked(path, &newest));
    if let Some(kept) = &kept {
        shell.status("Resuming", format!("after {} certificates, at epoch {}", kept.certificates, kept.epoch));
    }
    let stop = Stop::new();
    let _signals = Signals::install(&stop).map_err(|error| CommandError::Host("cannot listen for signals", error))?;
    let begun = Instant::now();
    let mut told = begun;
    let mut unwritten = None;
    let walked = walk(origin.as_ref(), &key, kept.unwrap_or_else(|| Walked::begin(&newest)), &mut |walked| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            shell.status("Verified", format!("{} certificates, down to epoch {}", walked.certificates, walked.epoch));
        }
        if let Some(path) = &what.resume
            && let Err(error) = write_walked(path, walked)
        {
            unwritten = Some(error);
            return ControlFlow::Break(());
        }
        if stop.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let (Some(error), Some(path)) = (unwritten, &what.resume) {
        return Err(CommandError::File { path: path.clone(), source: error });
    }
    let walked = walked?;
    let done = match what.json {
        true => shell.json(&json!({
            "holds": true,
            "newest": walked.newest,
            "genesis": walked.reached,
            "genesis_epoch": *walked.epoch,
            "certificates": walked.certificates,
            "seconds": begun.elapsed().as_secs_f64(),
        })),
        false => shell.line(format!(
            "{} certificates hold, from {} to the genesis {} of epoch {}",
            walked.certificates, walked.newest, walked.reached, walked.epoch
        )),
    };
    done.map_err(CommandError::Shell)
}

/// What an earlier walk from the same certificate came to.
fn read_walked(path: &Path, newest: &str) -> Option<Walked> {
    let text = std::fs::read(path).ok()?;
    let walked: Walked = serde_json::from_slice(&text).ok()?;
    (walked.newest == newest && !walked.is_complete).then_some(walked)
}

fn write_walked(path: &Path, walked: &Walked) -> std::io::Result<()> {
    let text = serde_json::to_vec(walked)?;
    let half = path.with_extension("tmp");
    std::fs::write(&half, text)?;
    std::fs::rename(&half, path)
}

/// What a server of ours says of itself.
fn standing_lines(standing: &serde_json::Value) -> Vec<(&'static str, String)> {
    let text = |key: &str| standing.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
    let number =
        |value: &serde_json::Value, key: &str| value.get(key).and_then(serde_json::Value::as_u64).unwrap_or_default();
    let state = text("state").unwrap_or_else(|| "–".to_owned());
    let mut lines = vec![("state", text("why").map_or_else(|| state.clone(), |why| format!("{state}: {why}")))];
    if standing.get("last_cycle_failed") == Some(&serde_json::Value::Bool(true)) {
        lines.push(("trouble", "the last cycle did not end well; the log says why, and it is tried again".to_owned()));
    }
    for open in standing.get("open_messages").and_then(serde_json::Value::as_array).into_iter().flatten() {
        if open.get("is_certified") == Some(&serde_json::Value::Bool(false)) {
            let kind = open.get("type").and_then(serde_json::Value::as_str).unwrap_or("–");
            let beacon = open.get("beacon").map(ToString::to_string).unwrap_or_default();
            let (have, needed) = (number(open, "indexes"), number(open, "quorum"));
            lines.push(("signing", format!("{kind} {beacon}: {have} of {needed} indexes")));
        }
    }
    let queued = number(standing, "artifacts_queued");
    if queued > 0 {
        lines.push(("queued", format!("{queued} artifacts are still to be made")));
    }
    lines
}

/// Tells what a running aggregator does; without settings, `what.url` has to be there.
///
/// # Errors
/// It does not answer.
pub fn status(what: &Status, settings: Option<&Settings>, shell: &Shell) -> Result<(), CommandError> {
    let served = settings.map(|settings| {
        let address = settings.http.address;
        let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { address.ip().to_string() };
        format!("http://{host}:{}/aggregator", address.port())
    });
    let url = what.url.clone().or(served).unwrap_or_default();
    // Other programs do not have it.
    let standing = crate::host::walk::origin::fetch_json(&url, "/semel/standing").ok();
    let told = match (crate::host::walk::origin::fetch_json(&url, "/status"), &standing) {
        (Ok(told), _) => told,
        // No epoch has been entered yet: the rest is told all the same.
        (Err(_), Some(_)) => serde_json::Value::Null,
        (Err(error), None) => return Err(CommandError::Status { url, why: error.to_string() }),
    };
    let certificates = crate::host::walk::origin::fetch_json(&url, "/certificates")
        .map_err(|error| CommandError::Status { url: url.clone(), why: error.to_string() })?;
    let newest = certificates.get(0).cloned().unwrap_or_default();
    let done = match what.json {
        true => shell.json(
            &json!({ "schema": 1, "url": url, "standing": standing, "status": told, "newest_certificate": newest }),
        ),
        false => {
            let text = |value: &serde_json::Value, key: &str| match value.get(key) {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => "–".to_owned(),
            };
            let mut lines = vec![
                ("aggregator", url.clone()),
                ("network", text(&told, "cardano_network")),
                ("epoch", format!("{} ({})", text(&told, "epoch"), text(&told, "cardano_era"))),
                (
                    "signers",
                    format!(
                        "{} now, {} in the next epoch",
                        text(&told, "total_signers"),
                        text(&told, "total_next_signers")
                    ),
                ),
                (
                    "stake",
                    format!(
                        "{} of {} lovelace",
                        text(&told, "total_stakes_signers"),
                        text(&told, "total_cardano_stake")
                    ),
                ),
                ("certificate", format!("{} of epoch {}", text(&newest, "hash"), text(&newest, "epoch"))),
                ("sealed", newest.pointer("/metadata/sealed_at").and_then(|at| at.as_str()).unwrap_or("–").to_owned()),
            ];
            lines.splice(1..1, standing.iter().flat_map(standing_lines));
            lines.iter().try_for_each(|(name, value)| shell.line(format!("{name:<12} {value}")))
        }
    };
    done.map_err(CommandError::Shell)
}

/// Looks at everything that the aggregator stands on.
///
/// # Errors
/// Something is wrong.
pub fn doctor(what: &Doctor, settings: Option<&Settings>, shell: &Shell) -> Result<(), CommandError> {
    let mut doctor = semel_ops::doctor::Doctor::default();
    super::super::doctor::examine(settings, &mut doctor);
    doctor.conclude(what.json, shell).map_err(|report| CommandError::Found(Box::new(report)))
}
