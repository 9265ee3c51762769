//! Reads `[[chain]]`.

use super::codes;
use super::files::Loose;
use super::links::Links;
use super::schema::{Chain, KeyFormat, StateHook};
use bech32::Hrp;
use semel_ops::config::{Diagnostic, Diagnostics, Reader, Spanned, codes as toml};
use std::path::PathBuf;
use std::time::Duration;

/// Characters of a chain id.
const CHAIN_ID_CHARS_MAX: usize = 50;
/// Default of `timeout_secs` of `state_hook`.
const HOOK_TIMEOUT_SECS: i64 = 5;
/// Longest `timeout_secs`.
const HOOK_TIMEOUT_SECS_MAX: i64 = 600;

/// Reads the table; its id and name are registered even when the rest of it is wrong, so that references to it are not
/// reported as well. The state file of one that cannot be used is left in `loose`.
pub(super) fn read(mut table: Reader<'_>, links: &mut Links<'_>, loose: &mut Loose) -> Option<Chain> {
    table.required(&[
        ("id", "add id = \"CHAIN-ID\", as in the chain's genesis file"),
        (
            "key_format",
            "add key_format = { type = \"hex\" }, or \"bech32\" with account_key_prefix and consensus_key_prefix",
        ),
    ]);
    let id = table.string("id");
    let name = table.string("name");
    let good = id.as_ref().is_some_and(|id| is_name(id, "chain id", table.found()))
        & name.as_ref().is_none_or(|name| is_name(name, "name of a chain", table.found()));
    let key_format = table.table("key_format").and_then(key_format);
    let sign_extensions = table.boolean("sign_extensions").map(|flag| flag.value);
    let state_file = table.path("state_file");
    let state_file_is_there = table.has("state_file");
    let require_state = table.boolean("require_state").is_some_and(|flag| flag.value);
    let state_hook = table.table("state_hook").and_then(state_hook);
    timestamp_policy(&mut table);
    let place = table.place().clone();
    table.finish();
    let fresh = links.register(id.as_ref(), name.as_ref(), good, &place);
    let (Some(id), Some(key_format), true) = (id, key_format, good && fresh) else {
        loose.states.extend(state_file);
        return None;
    };
    let state_file = match state_file {
        Some(path) => path,
        None if state_file_is_there => return None,
        // A place of its own it has not: findings about the default point at the id that it is made of.
        None => {
            Spanned { value: PathBuf::from(format!("{}_priv_validator_state.json", id.value)), place: id.place.clone() }
        }
    };
    let name = name.map_or_else(|| id.value.clone(), |name| name.value);
    Some(Chain { id, name, key_format, sign_extensions, state_file, require_state, state_hook, place })
}

fn is_name(text: &Spanned<String>, what: &str, found: &Diagnostics) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let length = text.chars().count();
    let wrong = match text.chars().find(|c| !good(*c)) {
        _ if length == 0 => "it is empty".to_owned(),
        Some(c) => format!("{c:?} is not allowed in it"),
        None if length > CHAIN_ID_CHARS_MAX => format!("it has {length} characters"),
        None => return true,
    };
    let message = format!("this is no {what}: {wrong}");
    let hint = format!("1 to {CHAIN_ID_CHARS_MAX} of the characters A-Z a-z 0-9 - _ .");
    found.push(Diagnostic::error(&codes::CHAIN_ID, &text.place, message).hint(hint));
    false
}

fn key_format(mut table: Reader<'_>) -> Option<KeyFormat> {
    table.required(&[("type", "one of type = \"bech32\", \"cosmos-json\", \"hex\"")]);
    let kind = table.choice("type", &[("bech32", 0), ("cosmos-json", 1), ("hex", 2)]);
    let format = match kind.map(|kind| kind.value) {
        Some(0) => {
            table.required(&[
                ("account_key_prefix", "add account_key_prefix = \"cosmospub\" with the chain's own prefix"),
                ("consensus_key_prefix", "add consensus_key_prefix = \"cosmosvalconspub\" with the chain's own prefix"),
            ]);
            let account_key_prefix = prefix(&mut table, "account_key_prefix");
            let consensus_key_prefix = prefix(&mut table, "consensus_key_prefix");
            account_key_prefix.zip(consensus_key_prefix).map(|(account_key_prefix, consensus_key_prefix)| {
                KeyFormat::Bech32 { account_key_prefix, consensus_key_prefix }
            })
        }
        Some(1) => Some(KeyFormat::CosmosJson),
        Some(_) => Some(KeyFormat::Hex),
        None => {
            table.known(&["account_key_prefix", "consensus_key_prefix"]);
            None
        }
    };
    table.finish();
    format
}

fn prefix(table: &mut Reader<'_>, key: &'static str) -> Option<String> {
    let text = table.string(key)?;
    match Hrp::parse(&text) {
        Ok(_) => Some(text.value),
        Err(error) => {
            let message = format!("`{key}` cannot begin a bech32 string: {error}");
            let hint = "1 to 83 printable ASCII characters without blanks, all in one case";
            table.found().push(Diagnostic::error(&codes::PREFIX, &text.place, message).hint(hint));
            None
        }
    }
}

fn state_hook(mut table: Reader<'_>) -> Option<StateHook> {
    table.required(&[("cmd", "add cmd = [\"/path/to/program\", \"argument\"]")]);
    let cmd = table.strings("cmd");
    let timeout = table.integer("timeout_secs", 1..=HOOK_TIMEOUT_SECS_MAX);
    let fail_closed = table.boolean("fail_closed");
    let found = table.found();
    table.finish();
    let cmd = cmd?;
    if cmd.first().is_none_or(|program| program.is_empty()) {
        let hint = "cmd = [\"/path/to/program\", \"argument\"]";
        found.push(Diagnostic::error(&toml::EMPTY, &cmd.place, "`cmd` of state_hook names no program").hint(hint));
        return None;
    }
    let secs = timeout.map_or(HOOK_TIMEOUT_SECS, |timeout| timeout.value);
    Some(StateHook {
        cmd: cmd.value.into_iter().map(|word| word.value).collect(),
        timeout: Duration::from_secs(secs.unsigned_abs()),
        fail_closed: fail_closed.is_none_or(|flag| flag.value),
    })
}

fn timestamp_policy(table: &mut Reader<'_>) {
    let policy = table.choice("timestamp_policy", &[("reuse", false), ("resign", true)]);
    if let Some(policy) = policy.filter(|policy| policy.value) {
        let message = "`timestamp_policy` cannot be \"resign\": a repeat gets the stored signature, never a new one";
        table.found().push(Diagnostic::error(&codes::RESIGN, &policy.place, message).hint("leave the key away"));
    }
}
