//! `yubihsm-connector`: the fake connector as a program.

use clap::Parser;
use semel_devnet_yubihsm::{FakeConnector, Kind, PutKey};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// A yubihsm-connector with a mock device behind it, for tests. Authentication key 1 has the password "password".
#[derive(Debug, Parser)]
#[command(name = "yubihsm-connector")]
struct Arguments {
    /// Where to listen; port 0 is any free one
    #[arg(long, default_value = "127.0.0.1:12345")]
    listen: SocketAddr,
    /// Time that each command takes
    #[arg(long, value_name = "MS", default_value_t = 0)]
    sign_delay_ms: u64,
    /// A key to put into the device: ID:ed25519 or ID:secp256k1, and :HEX for its secret
    #[arg(long, value_name = "ID:KIND[:HEX]", value_parser = key)]
    put_key: Vec<PutKey>,
}

fn key(text: &str) -> Result<PutKey, String> {
    let mut words = text.split(':');
    let id = words.next().unwrap_or_default().parse().map_err(|_| "ID is a number up to 65535")?;
    let kind = match words.next() {
        Some("ed25519") => Kind::Ed25519,
        Some("secp256k1") => Kind::Secp256k1,
        _ => return Err("KIND is ed25519 or secp256k1".into()),
    };
    let secret = |hex: &str| hex::decode(hex).ok().and_then(|bytes| bytes.try_into().ok()).ok_or("HEX has 64 digits");
    Ok(PutKey { id, kind, secret: words.next().map(secret).transpose()? })
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let connector = FakeConnector::start(arguments.listen, &arguments.put_key)?;
    connector.set_delay(Duration::from_millis(arguments.sign_delay_ms));
    writeln!(std::io::stdout(), "listening on {}", connector.address())?;
    loop {
        std::thread::park();
    }
}
