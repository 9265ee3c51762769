//! Reads `[[validator]]`.

use super::address;
use super::bytes;
use super::codes;
use super::links::{By, Reference};
use super::schema::{Address, Dialect, ProtocolVersion, Validator};
use semel_ops::config::{Diagnostic, Reader, Spanned};
use std::path::PathBuf;
use std::time::Duration;

/// Default of `timeout`.
const TIMEOUT_SECS: i64 = 10;
/// The highest height there is.
const HEIGHT_MAX: u64 = i64::MAX.unsigned_abs();

/// What a table says, before its chain is looked up.
pub(super) struct RawValidator {
    /// What it calls its chain.
    pub(super) reference: Option<Reference>,
    /// The rest, with an empty chain; `None` without an address. A value that is wrong has its default here: it has been
    /// reported, and a file with an error is not used.
    pub(super) value: Option<Validator>,
    /// Its identity, to be looked at even where the rest cannot be used.
    pub(super) secret_key: Option<Spanned<PathBuf>>,
}

pub(super) fn read(mut table: Reader<'_>) -> RawValidator {
    table.required(&[("addr", "add addr = \"tcp://HOST:26658\" with the node's priv_validator_laddr")]);
    let reference = reference(&mut table);
    let (addr, way) = addr(&mut table);
    let reconnect = table.boolean("reconnect").is_none_or(|flag| flag.value);
    let timeout = table.integer("timeout", 1..=i64::from(u16::MAX));
    let secret_key = table.path("secret_key");
    let max_height = max_height(&mut table);
    let protocol_version = table.choice("protocol_version", &ProtocolVersion::WORDS);
    let bytes = bytes::read(&mut table);
    bytes.check(&table, protocol_version.as_ref());
    let place = table.place().clone();
    match (addr.as_ref().map(|addr| &addr.value), way) {
        (_, Some(way)) if !table.has("secret_key") => {
            let message = format!("a validator on {way} has no `secret_key`");
            let hint = "add secret_key = \"kms-identity.key\"; `init` makes such a file, and so does \
                        `head -c 32 /dev/urandom | base64 > kms-identity.key && chmod 600 kms-identity.key`";
            table.found().push(Diagnostic::error(&codes::NO_SECRET_KEY, &place, message).hint(hint));
        }
        (Some(address), _) if is_socket(address) => {
            if let Some(timeout) = &timeout {
                let message = "`timeout` is not used on a unix socket";
                let found = Diagnostic::warning(&codes::NO_EFFECT, &timeout.place, message);
                table.found().push(found.hint("leave the key away"));
            }
        }
        _ => {}
    }
    if let (Some(addr), Some(version)) = (&addr, &protocol_version) {
        noise_is_new(&table, addr, version);
    }
    table.finish();
    let timeout = timeout.filter(|_| !addr.as_ref().is_some_and(|addr| is_socket(&addr.value)));
    let value = addr.map(|addr| Validator {
        addr,
        chain: String::new(),
        reconnect,
        timeout: Duration::from_secs(timeout.map_or(TIMEOUT_SECS, |timeout| timeout.value).unsigned_abs()),
        secret_key: secret_key.clone(),
        max_height: max_height.map(|height| height.value),
        protocol_version: protocol_version.map_or_else(ProtocolVersion::default, |version| version.value),
        dialect: bytes.dialect.map_or_else(Dialect::default, |dialect| dialect.value),
        allow_sign_bytes: bytes.domains,
        place,
    });
    RawValidator { reference, value, secret_key }
}

/// Whether it is a socket of this host.
fn is_socket(address: &Address) -> bool {
    matches!(address, Address::Unix(_) | Address::Abstract(_))
}

/// No node that speaks amino listens with Noise.
fn noise_is_new(table: &Reader<'_>, addr: &Spanned<Address>, version: &Spanned<ProtocolVersion>) {
    let amino = matches!(version.value, ProtocolVersion::Legacy | ProtocolVersion::V0_33);
    if amino && matches!(addr.value, Address::Noise { .. }) {
        let message = "`protocol_version` is of a node that does not know noise://";
        let found = Diagnostic::error(&codes::CONTRADICTION, &version.place, message);
        let found = found.related(&addr.place, "nodes listen like this from CometBFT v0.40 on");
        table.found().push(found.hint("leave protocol_version away, or write tcp://HOST:PORT"));
    }
}

/// `chain_id`, or our `chain`, or both.
fn reference(table: &mut Reader<'_>) -> Option<Reference> {
    if !table.has("chain") {
        table.required(&[("chain_id", "add chain_id = \"CHAIN-ID\", as in [[chain]]")]);
    }
    let id = table.string("chain_id");
    let name = table.string("chain");
    match (name, id) {
        (Some(text), id) => Some(Reference { by: By::Name, text, id }),
        (None, Some(text)) => Some(Reference { by: By::Id, text, id: None }),
        (None, None) => None,
    }
}

/// The address, and the way that it is meant to take if that is encrypted: that is known of one that is not valid, too.
fn addr(table: &mut Reader<'_>) -> (Option<Spanned<Address>>, Option<&'static str>) {
    let Some(text) = table.string("addr") else { return (None, None) };
    let way = address::encrypted(&text);
    match address::parse(&text) {
        Ok(value) => (Some(Spanned { value, place: text.place }), way),
        Err(bad) => {
            let message = format!("`addr` in {} is not valid: {}", table.name(), bad.message);
            table.found().push(Diagnostic::error(&codes::ADDRESS, &text.place, message).hint(bad.hint));
            (None, way)
        }
    }
}

fn max_height(table: &mut Reader<'_>) -> Option<Spanned<u64>> {
    let text = table.string("max_height")?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(height) if digits && height > 0 && height <= HEIGHT_MAX => Some(text.map(|_| height)),
        _ => {
            let message = "`max_height` is not a height";
            let hint = "a decimal number in quotes: max_height = \"500000\"";
            table.found().push(Diagnostic::error(&codes::MAX_HEIGHT, &text.place, message).hint(hint));
            None
        }
    }
}
