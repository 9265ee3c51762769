//! Looking: at a running aggregator, at everything it stands on.

use super::CommandError;
use crate::face::args::{Doctor, Status};
use crate::face::settings::{Http, Settings};
use crate::host::walk::origin::fetch_json;
use semel_ops::shell::Shell;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
    let served = settings.map(|settings| served(&settings.http));
    let trusted = settings.filter(|_| what.url.is_none()).and_then(|settings| settings.http.tls.as_ref());
    let trusted = trusted.map(|files| files.certificate.as_path());
    let url = what.url.clone().or(served).unwrap_or_default();
    let ask = |path| {
        fetch_json(&url, path, trusted)
            .map_err(|error| CommandError::Status { url: url.clone(), why: error.to_string() })
    };
    // Other programs do not have it.
    let standing = ask("/semel/standing").ok();
    let told = match (ask("/status"), &standing) {
        (Ok(told), _) => told,
        // No epoch has been entered yet: the rest is told all the same.
        (Err(_), Some(_)) => serde_json::Value::Null,
        (Err(error), None) => return Err(error),
    };
    let certificates = ask("/certificates")?;
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

/// Where a server with these settings is asked from this host.
pub(in crate::host) fn served(http: &Http) -> String {
    let ip = match http.address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}/aggregator", SocketAddr::new(ip, http.address.port()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::http::tls::Files;

    #[test]
    fn a_server_is_asked_as_it_listens() {
        for (address, has_tls, expected) in [
            ("0.0.0.0:8080", false, "http://127.0.0.1:8080/aggregator"),
            ("0.0.0.0:8080", true, "https://127.0.0.1:8080/aggregator"),
            ("10.0.0.1:80", false, "http://10.0.0.1:80/aggregator"),
            ("[::]:8080", false, "http://[::1]:8080/aggregator"),
            ("[fd00::7]:8443", true, "https://[fd00::7]:8443/aggregator"),
        ] {
            let http = Http {
                address: address.parse().unwrap(),
                public_url: "https://aggregator.example.com/".parse().unwrap(),
                hashes_per_request_max: 1,
                origin_tags: Default::default(),
                tls: has_tls.then(|| Files { certificate: "/c".into(), key: "/k".into() }),
            };
            assert_eq!(served(&http), expected);
        }
    }
}
