//! Reads `[providers]`: softsign, yubihsm and pkcs11. Ledger and Fortanix are refused by name.

use super::address;
use super::codes;
use super::links::{By, Reference};
use super::schema::{
    Adapter, Auth, ConnectorServer, KeyType, Password, Pkcs11, Pkcs11Key, Selector, Softsign, SoftsignFormat, Wanted,
    Yubihsm, YubihsmKey,
};
use semel_ops::config::{Diagnostic, Diagnostics, Place, Reader, Spanned, codes as toml};
use std::path::PathBuf;
use std::time::Duration;

/// Characters of a serial number.
const SERIAL_CHARS: usize = 10;
/// Default of `timeout_ms` of the USB adapter.
const USB_TIMEOUT_MS: i64 = 1000;
/// Longest `timeout_ms`.
const USB_TIMEOUT_MS_MAX: i64 = 600_000;

const KEY_TYPES: [(&str, KeyType); 2] = [("account", KeyType::Account), ("consensus", KeyType::Consensus)];

/// A key before its chains are looked up.
pub(super) struct RawKey {
    pub(super) references: Vec<Reference>,
    pub(super) key_type: KeyType,
    pub(super) place: Place,
}

/// Keys of one device, each with what could be read of it.
type RawDevice = (Vec<(RawKey, Option<YubihsmKey>)>, Option<Yubihsm>);

/// Keys of one token, each with what could be read of it.
type RawToken = (Vec<(RawKey, Option<Pkcs11Key>)>, Option<Pkcs11>);

/// The providers before the chains are looked up.
#[derive(Default)]
pub(super) struct RawProviders {
    pub(super) softsign: Vec<(RawKey, Option<Softsign>)>,
    pub(super) yubihsm: Vec<RawDevice>,
    pub(super) pkcs11: Vec<RawToken>,
    /// Keys whose chains could not be read: as many chains may seem to have none.
    pub(super) unreadable: usize,
    /// Files with the password of a device and with the PIN of a token that cannot be used as they stand.
    pub(super) passwords: Vec<Spanned<PathBuf>>,
    pub(super) pins: Vec<Spanned<PathBuf>>,
}

impl RawProviders {
    /// What is known when there is no such table, which has been reported.
    pub(super) fn unknown() -> RawProviders {
        RawProviders { unreadable: usize::MAX, ..RawProviders::default() }
    }

    /// What any key says of its chains.
    pub(super) fn references(&self) -> Vec<&Reference> {
        let softsign = self.softsign.iter().map(|(raw, _)| raw);
        let yubihsm = self.yubihsm.iter().flat_map(|(keys, _)| keys).map(|(raw, _)| raw);
        let pkcs11 = self.pkcs11.iter().flat_map(|(keys, _)| keys).map(|(raw, _)| raw);
        softsign.chain(yubihsm).chain(pkcs11).flat_map(|raw| &raw.references).collect()
    }
}

pub(super) fn read(mut table: Reader<'_>) -> RawProviders {
    let mut providers = RawProviders::default();
    for entry in table.tables("softsign") {
        let read = softsign(entry, &mut providers.unreadable);
        providers.softsign.push(read);
    }
    one_more(&mut providers.unreadable, table.has("softsign") && providers.softsign.is_empty());
    let devices = table.tables("yubihsm");
    if table.has("yubihsm") {
        one_more(&mut providers.unreadable, devices.is_empty());
        count(&table, &devices);
    }
    for entry in devices {
        let read = yubihsm(entry, &mut providers);
        providers.yubihsm.push(read);
    }
    let tokens = table.tables("pkcs11");
    one_more(&mut providers.unreadable, table.has("pkcs11") && tokens.is_empty());
    for entry in tokens {
        let read = pkcs11(entry, &mut providers);
        providers.pkcs11.push(read);
    }
    for (key, what) in [("ledgertm", "a Ledger"), ("fortanixdsm", "Fortanix DSM")] {
        table.known(&[key]);
        if let Some(place) = table.key_place(key) {
            let message = format!("keys in {what} are not served: [[providers.{key}]]");
            let hint = "keep tmkms for this chain, or move the validator to a key that [[providers.softsign]] can hold";
            table.found().push(Diagnostic::error(&codes::PROVIDER, &place, message).hint(hint));
            one_more(&mut providers.unreadable, true);
        }
    }
    providers.unreadable = providers.unreadable.saturating_add(table.finish());
    providers
}

/// Counts one more, if there is one.
fn one_more(count: &mut usize, is_one: bool) {
    *count = count.saturating_add(usize::from(is_one));
}

/// `chain_ids`, or our `chains`, or both; at least one chain.
fn references(table: &mut Reader<'_>, unreadable: &mut usize) -> Vec<Reference> {
    if !table.has("chains") {
        table.required(&[("chain_ids", "add chain_ids = [\"CHAIN-ID\"], as in [[chain]]")]);
    }
    let ids = table.strings("chain_ids");
    let names = table.strings("chains");
    let is_wrong = |key: &str, list: bool| !list && table.has(key);
    let is_unread = ids.is_none() && names.is_none();
    one_more(unreadable, is_unread || is_wrong("chain_ids", ids.is_some()) || is_wrong("chains", names.is_some()));
    let mut all = Vec::new();
    for (list, by) in [(ids, By::Id), (names, By::Name)] {
        let Some(list) = list else { continue };
        if list.is_empty() {
            let key = if by == By::Id { "chain_ids" } else { "chains" };
            let message = format!("`{key}` in {} is empty, so the key signs for no chain", table.name());
            let hint = format!("{key} = [\"CHAIN\"], or remove the entry");
            table.found().push(Diagnostic::error(&toml::EMPTY, &list.place, message).hint(hint));
        }
        all.extend(list.value.into_iter().map(|text| Reference { by, text, id: None }));
    }
    all
}

fn softsign(mut table: Reader<'_>, unreadable: &mut usize) -> (RawKey, Option<Softsign>) {
    table.required(&[(
        "path",
        "add path = \"PATH\"; `softsign keygen PATH` makes a key, `softsign import` takes a node's",
    )]);
    let references = references(&mut table, unreadable);
    let key_type = table.choice("key_type", &KEY_TYPES);
    let formats = [("base64", SoftsignFormat::Base64), ("json", SoftsignFormat::Json)];
    let key_format = table.choice("key_format", &formats);
    let path = table.path("path");
    let place = table.place().clone();
    let mut contradiction = false;
    if let (Some(key_type), Some(key_format)) = (&key_type, &key_format)
        && key_type.value == KeyType::Account
        && key_format.value == SoftsignFormat::Json
    {
        let message = "`key_format` of an account key cannot be \"json\"";
        let error = Diagnostic::error(&codes::CONTRADICTION, &key_format.place, message);
        let error = error.related(&key_type.place, "it is an account key because of this");
        table.found().push(error.hint("write the 32-byte secret in base64 and leave key_format away"));
        contradiction = true;
    }
    table.finish();
    let key_type = key_type.map_or_else(KeyType::default, |word| word.value);
    let key_format = key_format.map_or_else(SoftsignFormat::default, |word| word.value);
    let raw = RawKey { references, key_type, place: place.clone() };
    (
        raw,
        path.filter(|_| !contradiction).map(|path| Softsign { chains: Vec::new(), key_type, key_format, path, place }),
    )
}

fn count(providers: &Reader<'_>, devices: &[Reader<'_>]) {
    let n = devices.len();
    let (place, first) = match devices {
        [_] => return,
        [first, second, ..] => (second.place().clone(), Some(first.place())),
        // A list of the wrong type has been reported; an empty list has not.
        [] => match providers.key_place("yubihsm") {
            Some(place) if providers.is_empty_list("yubihsm") => (place, None),
            _ => return,
        },
    };
    let message = format!("there must be exactly one [[providers.yubihsm]], there are {n}");
    let mut error = Diagnostic::error(&codes::YUBIHSMS, &place, message);
    if let Some(first) = first {
        error = error.related(first, "the first is this");
    }
    providers.found().push(error.hint("put all keys of one device into its `keys`; use a file for each device"));
}

fn yubihsm(mut table: Reader<'_>, providers: &mut RawProviders) -> RawDevice {
    let unreadable = &mut providers.unreadable;
    table.required(&[
        ("adapter", "add adapter = { type = \"usb\" }, or { type = \"http\", addr = \"tcp://127.0.0.1:12345\" }"),
        ("auth", "add auth = { key = 1, password_file = \"PATH\" }"),
    ]);
    let (adapter, is_http) = table.table("adapter").map_or((None, false), adapter);
    let (auth, password_file) = table.table("auth").map_or((None, None), auth);
    let keys_are_wrong = table.has("keys");
    let entries = table.tables("keys");
    one_more(unreadable, keys_are_wrong && entries.is_empty());
    let keys: Vec<_> = entries.into_iter().map(|entry| yubihsm_key(entry, unreadable)).collect();
    twice(&keys, table.found());
    let serial_number = serial_number(&mut table, is_http);
    let connector_server = table.table("connector_server").and_then(connector_server);
    let place = table.place().clone();
    table.finish();
    let device = adapter.zip(auth).map(|(adapter, auth)| Yubihsm {
        adapter,
        auth,
        keys: Vec::new(),
        serial_number,
        connector_server,
        place,
    });
    if device.is_none() {
        providers.passwords.extend(password_file);
    }
    (keys, device)
}

/// The adapter, and whether it is meant to be the one over HTTP, also where it cannot be used as it stands.
fn adapter(mut table: Reader<'_>) -> (Option<Adapter>, bool) {
    table.required(&[("type", "one of type = \"usb\", \"http\"")]);
    let kind = table.choice("type", &[("usb", false), ("http", true)]);
    let kind = kind.map(|kind| kind.value);
    let is_http = kind.unwrap_or_else(|| table.has("addr"));
    let adapter = match kind {
        Some(false) => {
            let timeout = table.integer("timeout_ms", 1..=USB_TIMEOUT_MS_MAX);
            let ms = timeout.map_or(USB_TIMEOUT_MS, |timeout| timeout.value).unsigned_abs();
            Some(Adapter::Usb { timeout: Duration::from_millis(ms) })
        }
        Some(true) => {
            table.required(&[("addr", "add addr = \"tcp://127.0.0.1:12345\", where yubihsm-connector listens")]);
            tcp(&mut table, "addr").map(|(host, port)| Adapter::Http { host, port })
        }
        None => {
            table.known(&["addr", "timeout_ms"]);
            None
        }
    };
    table.finish();
    (adapter, is_http)
}

fn tcp(table: &mut Reader<'_>, key: &'static str) -> Option<(String, u16)> {
    let text = table.string(key)?;
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", &text));
    let (message, hint) = match scheme.eq_ignore_ascii_case("tcp") {
        true => match address::host_port(rest.strip_suffix('/').unwrap_or(rest)) {
            Ok(address) => return Some(address),
            Err(bad) => (bad.message, bad.hint),
        },
        false => (
            format!("\"{}\" is no scheme of a connector's address", scheme.escape_debug()),
            "write tcp://HOST:PORT; yubihsm-connector listens on 127.0.0.1:12345".to_owned(),
        ),
    };
    let message = format!("`{key}` in {} is not valid: {message}", table.name());
    table.found().push(Diagnostic::error(&codes::ADDRESS, &text.place, message).hint(hint));
    None
}

/// The key and its password, and the file of the password by itself.
fn auth(mut table: Reader<'_>) -> (Option<Auth>, Option<Spanned<PathBuf>>) {
    table.required(&[("key", "add key = 1, the number of the authentication key")]);
    let key = table.integer("key", 1..=i64::from(u16::MAX));
    let file = table.path("password_file");
    let text = table.secret("password");
    let (has_file, has_text) = (table.has("password_file"), table.has("password"));
    let password = match (has_file, has_text) {
        (true, true) => {
            let at = |key: &str| table.key_place(key).unwrap_or_else(|| table.place().clone());
            let message = "`auth` has both `password` and `password_file`";
            let error = Diagnostic::error(&codes::AUTH, &at("password_file"), message);
            let error = error.related(&at("password"), "the password stands here");
            table.found().push(error.hint("keep password_file and remove password"));
            None
        }
        (false, false) => {
            let message = "`auth` has neither `password_file` nor `password`";
            let error = Diagnostic::error(&codes::AUTH, table.place(), message);
            table.found().push(error.hint("add password_file = \"PATH\" with the path of a file that holds it"));
            None
        }
        _ => file.clone().map(Password::File).or_else(|| text.map(|text| Password::Text(text.value))),
    };
    table.finish();
    let key = key.and_then(|key| u16::try_from(key.value).ok());
    (key.zip(password).map(|(key, password)| Auth { key, password }), file)
}

fn yubihsm_key(mut table: Reader<'_>, unreadable: &mut usize) -> (RawKey, Option<YubihsmKey>) {
    table.required(&[("key", "add key = 1, the number of the key in the device")]);
    let references = references(&mut table, unreadable);
    let key = table.integer("key", 1..=i64::from(u16::MAX));
    let key_type = table.choice("type", &KEY_TYPES).map_or_else(KeyType::default, |word| word.value);
    let place = table.place().clone();
    table.finish();
    let raw = RawKey { references, key_type, place: place.clone() };
    let key = key.and_then(|key| Some(Spanned { value: u16::try_from(key.value).ok()?, place: key.place }));
    (raw, key.map(|key| YubihsmKey { chains: Vec::new(), key, key_type, place }))
}

fn twice(keys: &[(RawKey, Option<YubihsmKey>)], found: &Diagnostics) {
    let known: Vec<&YubihsmKey> = keys.iter().filter_map(|(_, key)| key.as_ref()).collect();
    for (at, key) in known.iter().enumerate() {
        if let Some(first) = known.iter().take(at).find(|other| other.key.value == key.key.value) {
            let message = format!("the YubiHSM key {} is listed twice", key.key.value);
            let warning = Diagnostic::warning(&codes::HSM_KEY_TWICE, &key.key.place, message);
            let warning = warning.related(&first.key.place, "it is listed here first");
            found.push(warning.hint("one entry may name several chains in its chain_ids"));
        }
    }
}

/// On USB a bad number is an error. Over HTTP the number is not used, and the number in tmkms's own documentation does not fit:
/// there it is a warning.
fn serial_number(table: &mut Reader<'_>, is_http: bool) -> Option<u32> {
    let text = table.string("serial_number")?;
    let wrong = if text.chars().count() != SERIAL_CHARS || !text.bytes().all(|b| b.is_ascii_digit()) {
        format!("it does not have {SERIAL_CHARS} digits")
    } else {
        match text.parse::<u32>() {
            Ok(number) => return Some(number),
            Err(_) => format!("it is larger than {}", u32::MAX),
        }
    };
    let message = format!("`serial_number` \"{}\" is not valid: {wrong}", text.escape_debug());
    let diagnostic = match is_http {
        true => Diagnostic::warning(&codes::SERIAL, &text.place, message)
            .hint("the http adapter does not use it: leave the key away"),
        false => Diagnostic::error(&codes::SERIAL, &text.place, message)
            .hint("write the 10 digits that `yubihsm detect` prints, with leading zeros, or leave the key away"),
    };
    table.found().push(diagnostic);
    None
}

fn pkcs11(mut table: Reader<'_>, providers: &mut RawProviders) -> RawToken {
    let unreadable = &mut providers.unreadable;
    table.required(&[("module", "add module = \"/usr/lib/softhsm/libsofthsm2.so\", the path of the PKCS#11 library")]);
    let module = table.path("module");
    let label = table.string("token_label").map(|text| Selector::Label(text.value));
    let serial = table.string("serial").map(|text| Selector::Serial(text.value));
    let slot = table.integer("slot", 0..=i64::MAX).map(|slot| Selector::Slot(slot.value.unsigned_abs()));
    let token = one_of(&table, &["token_label", "serial", "slot"], [label, serial, slot]);
    let pin_file = table.path("pin_file");
    let file = pin_file.clone().map(Password::File);
    let text = table.secret("pin").map(|text| Password::Text(text.value));
    let pin = one_of(&table, &["pin_file", "pin"], [file, text]);
    let entries = table.tables("keys");
    one_more(unreadable, table.has("keys") && entries.is_empty());
    let keys: Vec<_> = entries.into_iter().map(|entry| pkcs11_key(entry, unreadable)).collect();
    let place = table.place().clone();
    table.finish();
    let value = module.zip(token).zip(pin);
    if value.is_none() {
        providers.pins.extend(pin_file);
    }
    (keys, value.map(|((module, token), pin)| Pkcs11 { module, token, pin, keys: Vec::new(), place }))
}

/// Exactly one of some keys has to be there.
fn one_of<T, const N: usize>(table: &Reader<'_>, names: &[&str; N], values: [Option<T>; N]) -> Option<T> {
    let given: Vec<&str> = names.iter().copied().filter(|name| table.has(name)).collect();
    if given.len() != 1 {
        let place = given.get(1).and_then(|name| table.key_place(name)).unwrap_or_else(|| table.place().clone());
        let message = match given.as_slice() {
            [] => format!("{} has none of `{}`", table.name(), names.join("`, `")),
            several => format!("{} has both `{}`", table.name(), several.join("` and `")),
        };
        let hint = format!("give one of {}", names.join(", "));
        table.found().push(Diagnostic::error(&codes::CONTRADICTION, &place, message).hint(hint));
        return None;
    }
    values.into_iter().flatten().next()
}

fn pkcs11_key(mut table: Reader<'_>, unreadable: &mut usize) -> (RawKey, Option<Pkcs11Key>) {
    let references = references(&mut table, unreadable);
    let label = table.string("label").map(|text| text.value);
    let id = table.string("id");
    let bytes = id.as_ref().map(|text| hex::decode(&text.value));
    let mut is_wrong = false;
    if let (Some(Err(_)), Some(text)) = (&bytes, &id) {
        let message = format!("`id` \"{}\" is not in hexadecimal digits", text.escape_debug());
        table.found().push(
            Diagnostic::error(&codes::CONTRADICTION, &text.place, message)
                .hint("write it as pkcs11-tool shows it: id = \"01\""),
        );
        is_wrong = true;
    }
    let key_type = table.choice("type", &KEY_TYPES).map_or_else(KeyType::default, |word| word.value);
    let place = table.place().clone();
    table.finish();
    let raw = RawKey { references, key_type, place: place.clone() };
    let wanted = Wanted { label, id: bytes.and_then(Result::ok) };
    (raw, (!is_wrong).then_some(Pkcs11Key { chains: Vec::new(), wanted, key_type, place }))
}

fn connector_server(mut table: Reader<'_>) -> Option<ConnectorServer> {
    table.required(&[("laddr", "add laddr = \"tcp://127.0.0.1:12345\"")]);
    let laddr = tcp(&mut table, "laddr");
    let cli = table.table("cli").and_then(|mut cli| {
        cli.required(&[("auth_key", "add auth_key = 1")]);
        let key = cli.integer("auth_key", 1..=i64::from(u16::MAX));
        cli.finish();
        key.and_then(|key| u16::try_from(key.value).ok())
    });
    table.finish();
    laddr.map(|laddr| ConnectorServer { laddr, cli_auth_key: cli })
}
