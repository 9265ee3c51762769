//! The nodes: names, ports, handshakes, and what their chain says of our keys.

use super::super::config::{self, Address};
use super::super::plans::{Tenant, load_identity, node};
use super::number;
use crate::host::channel::meet;
use crate::host::stream::Stream;
use semel_keys::encoding;
use semel_ops::doctor::{Doctor, Verdict};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest wait for a node.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer of an RPC that is read, in bytes.
const ANSWER_MAX: u64 = 4 << 20;

/// Pages of a validator set that are read, at most: of 100 validators each.
const PAGES_MAX: usize = 20;

/// What closes the port of a node.
const LADDR: &str = "set priv_validator_laddr = \"tcp://0.0.0.0:26658\" in the node's config.toml, start it, and look at VPN and firewall";

/// Names of nodes have addresses.
pub(super) fn names(doctor: &mut Doctor, config: &config::Config) {
    for validator in &config.validators {
        if let Address::Tcp { host, port, .. } = &validator.addr.value {
            let resolved = (host.as_str(), *port).to_socket_addrs().is_ok_and(|mut all| all.next().is_some());
            doctor.demand(
                "DOC-0501",
                resolved,
                Verdict::Fail,
                format!("{host} has an address"),
                "check the name, the VPN and the resolver",
            );
        }
    }
}

/// A process that has this node, and reports no trouble with it.
fn served_by(running: &[serde_json::Value], endpoint: &str) -> Option<u32> {
    let is_well = |condition: &serde_json::Value| {
        let name = condition.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        let is_this = name.strip_prefix("validator ").is_some_and(|name| name.ends_with(&format!("@{endpoint}")));
        is_this && condition.get("reason").is_some_and(serde_json::Value::is_null)
    };
    let conditions =
        |answer: &serde_json::Value| answer.get("conditions").and_then(serde_json::Value::as_array).cloned();
    let served = running.iter().find(|answer| conditions(answer).is_some_and(|all| all.iter().any(is_well)))?;
    number(served)
}

/// Each node takes a connection, and shakes hands. Nothing is asked and nothing answered. A node that a running signer has is left alone:
/// it speaks to one at a time, and whoever else dials waits for its turn.
pub(super) fn reach(doctor: &mut Doctor, config: &config::Config, running: &[serde_json::Value]) {
    for validator in &config.validators {
        let identity = validator.secret_key.as_ref().map(|path| load_identity(&path.value, &mut HashMap::new()));
        let Ok(identity) = identity.transpose() else { continue };
        let is_known = identity.is_some();
        let mut plan = node(validator, identity);
        plan.timeout = PATIENCE;
        let named = plan.endpoint.to_string();
        if let Some(process) = served_by(running, &named) {
            doctor.pass("DOC-0503", format!("{named} is with process {process} now, which has no trouble with it"));
            continue;
        }
        let mut stream = match Stream::connect(&plan.endpoint) {
            Ok(stream) => stream,
            Err(error) => {
                doctor.check("DOC-0502", Verdict::Fail, format!("{named} takes no connection: {error}"), LADDR);
                continue;
            }
        };
        doctor.pass("DOC-0502", format!("{named} takes connections"));
        if !is_known {
            continue;
        }
        match meet(&mut stream, &plan) {
            Ok(how) => doctor.pass("DOC-0503", format!("{named} shakes hands: {how}")),
            Err(why) => doctor.check(
                "DOC-0503",
                Verdict::Fail,
                format!("{named} is reached, and does not shake hands: {why}"),
                "is it the priv_validator_laddr of a node, and has the node no other signer?",
            ),
        }
    }
}

/// Asks a node's RPC. Plain HTTP, bounded.
fn get(rpc: &str, path: &str) -> Result<serde_json::Value, String> {
    let place = rpc.strip_prefix("http://").ok_or("the address begins with http://")?.trim_end_matches('/');
    let address = place.to_socket_addrs().map_err(|error| error.to_string())?.next().ok_or("it has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {place}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer of HTTP")?;
    let value: serde_json::Value = serde_json::from_str(body.trim()).map_err(|error| error.to_string())?;
    Ok(value.get("result").cloned().unwrap_or(value))
}

/// A text in an answer; empty where it is not there.
fn text(value: &serde_json::Value, path: &str) -> String {
    value.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

/// Addresses of the validators, of all pages at one height.
fn validators(rpc: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut height = String::new();
    for page in 1..=PAGES_MAX {
        let set = get(rpc, &format!("/validators?per_page=100&page={page}{height}"))?;
        let found = set.get("validators").and_then(serde_json::Value::as_array).map_or(&[][..], Vec::as_slice);
        all.extend(found.iter().map(|one| text(one, "/address").to_uppercase()));
        let total: usize = text(&set, "/total").parse().unwrap_or(0);
        if found.is_empty() || all.len() >= total {
            break;
        }
        height = text(&set, "/block_height").parse().map_or_else(|_| String::new(), |at: u64| format!("&height={at}"));
    }
    Ok(all)
}

/// The chain knows our keys, and our states are not behind it.
pub(super) fn chain(doctor: &mut Doctor, rpc: &str, all: &[(&config::Config, Tenant<'_>)]) {
    let (status, addresses) = match (get(rpc, "/status"), validators(rpc)) {
        (Ok(status), Ok(addresses)) => (status, addresses),
        (Err(why), _) | (_, Err(why)) => {
            doctor.check(
                "DOC-0504",
                Verdict::Fail,
                format!("{rpc}: {why}"),
                "name the RPC of a node of the chain, as http://10.1.1.1:26657",
            );
            return;
        }
    };
    let network = text(&status, "/node_info/network");
    let tip: u64 = text(&status, "/sync_info/latest_block_height").parse().unwrap_or(0);
    doctor.pass("DOC-0504", format!("{rpc} is a node of {network}, at height {tip}"));
    if all.is_empty() {
        return;
    }
    let mine: Vec<_> = all.iter().filter(|(_, tenant)| tenant.chain.id.value == network).collect();
    doctor.demand(
        "DOC-0505",
        !mine.is_empty(),
        Verdict::Fail,
        format!("a configuration has the chain {network}"),
        "is it the node of another chain, or the chain id of before an upgrade?",
    );
    for (_, tenant) in mine {
        let address = hex::encode_upper(encoding::address(&tenant.subject.key));
        let is_known = addresses.contains(&address);
        doctor.demand("DOC-0506", is_known, Verdict::Fail, format!("{address} is {}in the validator set of {network}", if is_known { "" } else { "not " }), format!("the validator signs with another key than {}, is jailed, or is not bonded: compare with `show-validator` of the node", tenant.key_text));
        if let Ok(Some(state)) = crate::host::state::read(&tenant.chain.state_file.value) {
            let behind = tip.saturating_sub(state.height);
            doctor.demand(
                "DOC-0507",
                behind < 100,
                Verdict::Warn,
                format!("the state of {network} is at {}, {behind} heights behind the tip", state.height),
                "right for a validator that was away; if it was not, this is an old state file",
            );
        }
    }
}
