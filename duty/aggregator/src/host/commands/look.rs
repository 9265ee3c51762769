//! Looking: at a running aggregator, at everything it stands on.

use super::CommandError;
use crate::face::args::{Doctor, Status};
use crate::face::settings::{Http, Settings};
use crate::host::walk::origin::fetch_json;
use semel_ops::shell::Shell;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
    let told = ask("/status")?;
    let certificates = ask("/certificates")?;
    let newest = certificates.get(0).cloned().unwrap_or_default();
    let done = match what.json {
        true => shell.json(&json!({ "url": url, "status": told, "newest_certificate": newest })),
        false => {
            let text = |value: &serde_json::Value, key: &str| match value.get(key) {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => "–".to_owned(),
            };
            let lines = [
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
