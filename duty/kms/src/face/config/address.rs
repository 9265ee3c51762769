//! `addr` of `[[validator]]`: `tcp://[ID@]HOST:PORT`, `HOST:PORT`, `noise://PEER@IP:PORT`, `unix://PATH`, `unix://@NAME`.
//!
//! HOST is a name, an IPv4 address, or an IPv6 address in brackets; IP is not a name. ID is 40 hex digits of any case, PEER the name
//! of an Ed25519 key as libp2p writes it. A PORT is from 1 to 65535.

use super::schema::Address;
use crate::core::peer_id::{PeerId, PeerIdError};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Bytes of an abstract socket's name or of a socket's path: `sun_path` with its leading or closing zero.
const SOCKET_NAME_BYTES_MAX: usize = 107;
/// Bytes of a host name.
const HOST_BYTES_MAX: usize = 253;
/// Hex digits of a peer id.
const PEER_ID_DIGITS: usize = 40;

/// What is wrong with an address, and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadAddress {
    pub(super) message: String,
    pub(super) hint: String,
}

fn bad<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, BadAddress> {
    Err(BadAddress { message: message.into(), hint: hint.into() })
}

/// Reads `addr` of a validator.
pub(super) fn parse(text: &str) -> Result<Address, BadAddress> {
    let Some((scheme, rest)) = text.split_once("://") else { return tcp(text) };
    match scheme.to_ascii_lowercase().as_str() {
        "unix" => unix(rest),
        // A slash at its end says nothing.
        "tcp" => tcp(rest.strip_suffix('/').unwrap_or(rest)),
        "noise" => noise(rest),
        _ => bad(
            format!("{:?} is no scheme of a node's address", short(scheme)),
            format!("write tcp://{} or unix:///path/to/socket", short(rest)),
        ),
    }
}

/// How a connection to this address is encrypted, going by its scheme alone; none of a socket, of no address and of no known scheme.
pub(super) fn encrypted(text: &str) -> Option<&'static str> {
    let scheme = text.split_once("://").map_or("tcp", |(scheme, _)| scheme);
    match scheme.to_ascii_lowercase().as_str() {
        "tcp" if !text.is_empty() => Some("TCP"),
        "noise" => Some("Noise"),
        _ => None,
    }
}

fn tcp(text: &str) -> Result<Address, BadAddress> {
    let (id, rest) = match text.rsplit_once('@') {
        Some((id, rest)) => (Some(id), rest),
        None => (None, text),
    };
    let peer_id = match id {
        Some(id) => Some(peer_id(id)?),
        None => None,
    };
    let (host, port) = host_port(rest)?;
    Ok(Address::Tcp { peer_id, host, port })
}

fn noise(text: &str) -> Result<Address, BadAddress> {
    let hint = "write noise://PEER_ID@IP:PORT with the node's name, as `cometbft show-node-id --libp2p` prints it";
    let Some((id, rest)) = text.rsplit_once('@') else {
        return bad("there is no peer id: with Noise both sides know each other's", hint);
    };
    let peer = match id.parse::<PeerId>() {
        Ok(peer) => peer,
        Err(_) if id.len() == PEER_ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            return bad("this peer id is the one of tcp://, 40 hex digits", hint);
        }
        Err(error @ PeerIdError::NotBase58) => return bad(format!("{:?} is no peer id: {error}", short(id)), hint),
        Err(error @ PeerIdError::OtherKey) => {
            return bad(format!("the peer id {:?} cannot be used: {error}", short(id)), "it begins with 12D3KooW");
        }
    };
    let (host, port) = host_port(rest)?;
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(Address::Noise { peer, address: SocketAddr::new(ip, port) }),
        Err(_) => bad(
            format!("{:?} is a name, and noise:// takes an address only, as the node does", short(&host)),
            "write the node's IPv4 address, or its IPv6 address in brackets",
        ),
    }
}

fn peer_id(text: &str) -> Result<[u8; 20], BadAddress> {
    let hint = "a peer id is the first 20 bytes of SHA-256 of the node's Ed25519 key, as 40 hex digits; \
                it cannot be pinned with a stock node over tcp, so leave it away";
    let mut id = [0; 20];
    if text.len() != PEER_ID_DIGITS {
        return bad(format!("the peer id has {} characters instead of {PEER_ID_DIGITS}", text.chars().count()), hint);
    }
    match hex::decode_to_slice(text, &mut id) {
        Ok(()) => Ok(id),
        Err(_) => bad("the peer id is not hex", hint),
    }
}

/// Reads `HOST:PORT`.
pub(super) fn host_port(text: &str) -> Result<(String, u16), BadAddress> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => {
                if host.parse::<Ipv6Addr>().is_err() {
                    return bad(format!("{:?} is no IPv6 address", short(host)), "write [::1]:26658");
                }
                (host, port.strip_prefix(':'))
            }
            None => return bad("a bracket is not closed", "write an IPv6 address as [::1]:26658"),
        },
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let Some(port) = port else {
        return bad("there is no port", format!("add the port of priv_validator_laddr: {}:26658", short(text)));
    };
    if !text.starts_with('[') && host.contains(':') {
        return bad("an IPv6 address stands in brackets", format!("write [{}]:{}", short(host), short(port)));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%');
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.chars().all(good) {
        return bad(
            format!("{:?} is no host", short(host)),
            "write a name, an IPv4 address, or an IPv6 address in brackets",
        );
    }
    match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok((host.to_owned(), number)),
        _ => bad(format!("{:?} is no port", short(port)), "a port is a number from 1 to 65535, and nothing follows it"),
    }
}

fn unix(text: &str) -> Result<Address, BadAddress> {
    if text.contains('\0') {
        return bad("the socket's path has a zero byte", "write unix:///path/to/socket");
    }
    if text.len() > SOCKET_NAME_BYTES_MAX {
        return bad(
            format!("the socket's path has {} bytes", text.len()),
            format!("the system takes at most {SOCKET_NAME_BYTES_MAX}"),
        );
    }
    match text.strip_prefix('@') {
        Some("") => bad("the abstract socket has no name", "write unix://@name"),
        Some(name) => Ok(Address::Abstract(name.to_owned())),
        None if text.is_empty() => bad("there is no path", "write unix:///path/to/socket"),
        None => Ok(Address::Unix(PathBuf::from(text))),
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of the key with the bytes 1 to 32, as go-libp2p writes it.
    const PEER: &str = "12D3KooW9tJMax94Lrqw7Y5Qw36viGQAS2gTEPQ5Wg1vTk7xPfQs";
    const ID: &str = "F9D4a56c00112233445566778899aabbccddeeff";

    fn plain(host: &str, port: u16) -> Address {
        Address::Tcp { peer_id: None, host: host.to_owned(), port }
    }

    #[test]
    fn every_form_of_an_address_is_read() {
        for (text, address) in [
            ("tcp://10.1.1.1:26658", plain("10.1.1.1", 26658)),
            ("10.1.1.1:26658", plain("10.1.1.1", 26658)),
            ("TCP://10.1.1.1:26658/", plain("10.1.1.1", 26658)),
            ("tcp://node-1.example.org:1", plain("node-1.example.org", 1)),
            ("tcp://[::1]:65535", plain("::1", 65535)),
            ("[fe80::1]:26658", plain("fe80::1", 26658)),
            ("unix:///run/node.sock", Address::Unix("/run/node.sock".into())),
            ("unix://@node", Address::Abstract("node".to_owned())),
        ] {
            assert_eq!(parse(text), Ok(address), "{text}");
        }
        for (host, ip) in [("10.1.1.1", "10.1.1.1"), ("[2001:db8::1]", "2001:db8::1")] {
            let Ok(Address::Noise { peer, address }) = parse(&format!("noise://{PEER}@{host}:26659")) else { panic!() };
            assert_eq!((peer.to_string().as_str(), address), (PEER, SocketAddr::new(ip.parse().unwrap(), 26659)));
        }
        let Ok(Address::Tcp { peer_id: Some(id), .. }) = parse(&format!("tcp://{ID}@[::1]:26658")) else { panic!() };
        assert_eq!(hex::encode(id), ID.to_lowercase());
    }

    #[test]
    fn every_bad_address_says_what_is_wrong() {
        let long = format!("unix:///{}", "a".repeat(200));
        let bad_hex = format!("tcp://{}@h:1", "g".repeat(40));
        let hex_id = format!("noise://{ID}@10.1.1.1:1");
        let rsa = "noise://QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N@10.1.1.1:1".to_owned();
        let named = format!("noise://{PEER}@node-1.example.org:26659");
        let no_port = format!("noise://{PEER}@10.1.1.1");
        let zero_port = format!("noise://{PEER}@10.1.1.1:0");
        let bare_six = format!("noise://{PEER}@2001:db8::1:26659");
        for (text, what) in [
            ("tcp://10.1.1.1", "no port"),
            ("tcp://[::1]", "no port"),
            ("tcp://10.1.1.1:", "is no port"),
            ("tcp://10.1.1.1:0", "is no port"),
            ("tcp://10.1.1.1:65536", "is no port"),
            ("tcp://10.1.1.1:+1", "is no port"),
            ("tcp://10.1.1.1:26658//", "is no port"),
            ("tcp://:26658", "is no host"),
            ("tcp://a b:26658", "is no host"),
            ("tcp://::1:26658", "in brackets"),
            ("tcp://[::1:26658", "not closed"),
            ("tcp://[nope]:26658", "no IPv6"),
            ("tcp://abcd@h:1", "4 characters instead of 40"),
            (bad_hex.as_str(), "not hex"),
            ("http://h:1", "no scheme"),
            ("noise://10.1.1.1:1", "no peer id"),
            ("noise://@10.1.1.1:1", "not base58"),
            ("noise://0OIl@10.1.1.1:1", "not base58"),
            (rsa.as_str(), "does not hold an Ed25519 key"),
            (hex_id.as_str(), "the one of tcp://"),
            (named.as_str(), "is a name"),
            (no_port.as_str(), "no port"),
            (zero_port.as_str(), "is no port"),
            (bare_six.as_str(), "in brackets"),
            ("unix://", "no path"),
            ("unix://@", "no name"),
            (long.as_str(), "201 bytes"),
            ("", "no port"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(what), "{text}: {}", error.message);
            assert!(!error.hint.is_empty());
        }
    }
}
