//! Reads `[semel]`, the settings of the process that tmkms does not have.

use super::codes;
use super::schema::{Durability, Semel};
use semel_ops::config::{Diagnostic, Reader, Spanned};
use semel_ops::log::LogFormat;
use std::net::SocketAddr;

/// Largest `reserve_heights`.
const RESERVE_HEIGHTS_MAX: i64 = 1000;

pub(super) fn read(mut table: Reader<'_>) -> Semel {
    let mut semel = Semel::default();
    if let Some(word) = table.choice("durability", &[("sync", Durability::Sync), ("reserve", Durability::Reserve)]) {
        semel.durability = Some(word.value);
        semel.note("durability", word.map(|value| format!("{value:?}").to_lowercase()));
    }
    if let Some(heights) = table.integer("reserve_heights", 1..=RESERVE_HEIGHTS_MAX) {
        semel.reserve_heights = Some(heights.value.unsigned_abs());
        if semel.durability == Some(Durability::Sync) {
            let message = "`reserve_heights` is not used with durability = \"sync\"";
            let warning = Diagnostic::warning(&codes::NO_EFFECT, &heights.place, message);
            table.found().push(warning.hint("leave the key away, or set durability = \"reserve\""));
        }
        semel.note("reserve_heights", heights.map(|value| value.to_string()));
    }
    if let Some(path) = table.path("ledger") {
        semel.ledger = Some(path.value.clone());
        semel.note("ledger", path.map(|value| value.display().to_string()));
    }
    let http = socket(&mut table, "http_addr");
    let metrics = socket(&mut table, "metrics_addr");
    if let (Some(http), Some(metrics)) = (&http, &metrics) {
        let message = "`metrics_addr` and `http_addr` are two names of one address";
        let error = Diagnostic::error(&codes::CONTRADICTION, &metrics.place, message);
        table.found().push(error.related(&http.place, "it is given here already").hint("keep http_addr"));
    }
    if let Some(address) = http.or(metrics) {
        semel.http_addr = Some(address.value);
        semel.note("http_addr", address.map(|value| value.to_string()));
    }
    if let Some(format) = table.choice("log_format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]) {
        semel.log_format = Some(format.value);
        semel.note("log_format", format.map(|value| format!("{value:?}").to_lowercase()));
    }
    if let Some(allowed) = table.boolean("allow_root") {
        semel.allow_root = Some(allowed.value);
        semel.note("allow_root", allowed.map(|value| value.to_string()));
    }
    if let Some(hold) = table.boolean("hold_new_keys") {
        semel.hold_new_keys = Some(hold.value);
        semel.note("hold_new_keys", hold.map(|value| value.to_string()));
    }
    table.finish();
    semel
}

impl Semel {
    fn note(&mut self, key: &'static str, value: Spanned<String>) {
        self.set.push((key, value));
    }
}

fn socket(table: &mut Reader<'_>, key: &'static str) -> Option<Spanned<SocketAddr>> {
    let text = table.string(key)?;
    match text.parse::<SocketAddr>() {
        Ok(address) => Some(text.map(|_| address)),
        Err(_) => {
            let message = format!("`{key}` in {} is no IP address with a port", table.name());
            let hint = format!("{key} = \"127.0.0.1:9464\"");
            table.found().push(Diagnostic::error(&codes::ADDRESS, &text.place, message).hint(hint));
            None
        }
    }
}
