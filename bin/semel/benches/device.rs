//! Ten validators with their keys in one device that takes 100 ms per command, and one with its key in a file beside them:
//! what each waits for, and what happens when the device goes away for a second. Semel does it in one process, tmkms in eleven.
//!
//! ```sh
//! SEMEL=target/release/semel TMKMS=~/.cargo/bin/tmkms cargo bench -p semel --bench device --profile dev
//! ```
//!
//! The device is the `yubihsm` crate's mock behind the connector's protocol, which a release build refuses to have: the profile is dev, the
//! signers are what the two variables name. tmkms needs its features `softsign` and `yubihsm`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may stop, and prints")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semel_devnet_tendermint::consensus::{BlockId, Height, Round, Time, Vote, VoteKind};
use semel_devnet_tendermint::privval::{Family, Listen, Listener, ListenerConfig};
use semel_devnet_yubihsm::{FakeConnector, Kind, PASSWORD, PutKey};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VALIDATORS: u16 = 10;
const DELAY: Duration = Duration::from_millis(100);
/// Each validator in the device asks so often, each at another moment; ten of them use a quarter of its time, or half where a precommit takes
/// two signatures.
const PACE: Duration = Duration::from_secs(4);
/// The first request that everybody makes at once, then nothing until here.
const CALM: Duration = Duration::from_secs(8);
const PACE_OF_FILE: Duration = Duration::from_millis(50);
const RUN: Duration = Duration::from_secs(45);
/// When the device goes away, and for how long.
const GONE: (Duration, Duration) = (Duration::from_secs(32), Duration::from_secs(1));

/// What one validator saw.
#[derive(Default)]
struct Seen {
    /// From the start to the first signature.
    first: Duration,
    /// Of those before the device goes away.
    took: Vec<Duration>,
    refused: usize,
    /// From the device's return to the next signature.
    back: Option<Duration>,
}

struct Site {
    directory: tempfile::TempDir,
    hsm: FakeConnector,
    /// The last one has its key in a file.
    nodes: Vec<Listener>,
}

impl Site {
    fn new() -> Self {
        let key = |id: u16| {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).unwrap();
            PutKey { id, kind: Kind::Ed25519, secret: Some(seed) }
        };
        let keys: Vec<PutKey> = (1..=VALIDATORS).map(key).collect();
        let hsm = FakeConnector::start((Ipv4Addr::LOCALHOST, 0).into(), &keys).unwrap();
        let node = |index: u16| {
            let listen = Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into());
            let chain = format!("chain-{index}");
            Listener::bind(ListenerConfig { listen, chain, family: Family::V034, extensions: false, identity: [9; 32] })
                .unwrap()
        };
        let site =
            Self { directory: tempfile::tempdir().unwrap(), hsm, nodes: (1..=VALIDATORS + 1).map(node).collect() };
        site.secret("password", &format!("{PASSWORD}\n"));
        site.secret("identity.key", &BASE64.encode([3; 32]));
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        site.secret("soft.key", &BASE64.encode(seed));
        site
    }

    fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// One configuration per validator.
    fn configs(&self, of_chain: &str) -> Vec<PathBuf> {
        let directory = self.directory.path().display();
        let config = |(index, node): (usize, &Listener)| {
            let (number, address) = (index + 1, node.address());
            let chain = format!("chain-{number}");
            let provider = match number == usize::from(VALIDATORS) + 1 {
                true => format!(
                    "[[providers.softsign]]\nchain_ids = [\"{chain}\"]\nkey_type = \"consensus\"\npath = \"{directory}/soft.key\"\n"
                ),
                false => format!(
                    "[[providers.yubihsm]]\nadapter = {{ type = \"http\", addr = \"tcp://{}\" }}\nauth = {{ key = 1, password_file = \"{directory}/password\" }}\n\
                     keys = [{{ chain_ids = [\"{chain}\"], key = {number} }}]\n",
                    self.hsm.address()
                ),
            };
            let text = format!(
                "[[chain]]\nid = \"{chain}\"\nkey_format = {{ type = \"hex\" }}\nstate_file = \"{directory}/{number}.json\"\n{of_chain}\n\
                 [[validator]]\nchain_id = \"{chain}\"\naddr = \"{address}\"\nsecret_key = \"{directory}/identity.key\"\nprotocol_version = \"v0.34\"\nreconnect = true\n\n{provider}"
            );
            self.secret(&format!("{number}.toml"), &text)
        };
        self.nodes.iter().enumerate().map(config).collect()
    }
}

fn vote(height: u64) -> Vote {
    Vote {
        kind: VoteKind::Precommit,
        height: Height(height),
        round: Round(0),
        block: Some(BlockId { hash: [1; 32], parts_total: 1, parts_hash: [1; 32] }),
        time: Time { seconds: 1_700_000_000 + height as i64, nanos: 0 },
        validator: 0,
        extension: Vec::new(),
    }
}

/// A node that asks for a vote now and then.
fn ask(node: &Listener, begun: Instant, pace: Duration, offset: Duration) -> Seen {
    let mut seen = Seen::default();
    let mut height = 0;
    let (away, returns) = (begun + GONE.0, begun + GONE.0 + GONE.1);
    let mut due = begun;
    while begun.elapsed() < RUN {
        let Ok(mut remote) = node.accept(RUN.saturating_sub(begun.elapsed())) else { break };
        if remote.pub_key().is_err() {
            continue;
        }
        while begun.elapsed() < RUN {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due = due.max(Instant::now().checked_sub(pace).unwrap_or(due)) + pace;
            height += 1;
            let asked = Instant::now();
            match remote.sign_vote(&vote(height)) {
                Ok(_) => {
                    if seen.first.is_zero() {
                        seen.first = begun.elapsed();
                        due = begun + CALM + offset;
                    } else if Instant::now() < away {
                        seen.took.push(asked.elapsed());
                    }
                    if seen.back.is_none() && asked > away {
                        seen.back = Some(Instant::now().saturating_duration_since(returns));
                    }
                }
                Err(error) => {
                    seen.refused += 1;
                    if !error.is_refusal() {
                        break; // the connection is gone
                    }
                    // A node asks again in the next round.
                    due = Instant::now() + Duration::from_millis(200);
                }
            }
        }
    }
    seen
}

fn quantile(sorted: &[Duration], part: f64) -> f64 {
    let index = ((sorted.len() as f64 - 1.0) * part).round() as usize;
    sorted.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

fn measure(name: &str, of_chain: &str, start: impl Fn(&Site, &[PathBuf]) -> Vec<Child>) {
    let site = Site::new();
    let configs = site.configs(of_chain);
    site.hsm.set_delay(DELAY);
    let begun = Instant::now();
    let mut children = start(&site, &configs);
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let asking: Vec<_> = site
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| {
                let pace = if index < usize::from(VALIDATORS) { PACE } else { PACE_OF_FILE };
                let offset = pace * u32::try_from(index).unwrap() / u32::from(VALIDATORS);
                scope.spawn(move || ask(node, begun, pace, offset))
            })
            .collect();
        std::thread::sleep((begun + GONE.0).saturating_duration_since(Instant::now()));
        site.hsm.set_gone(true);
        std::thread::sleep(GONE.1);
        site.hsm.set_gone(false);
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (device, file) = seen.split_at(usize::from(VALIDATORS));
    let sorted = |seen: &[Seen]| {
        let mut all: Vec<Duration> = seen.iter().flat_map(|seen| seen.took.iter().copied()).collect();
        all.sort();
        all
    };
    let (behind, beside) = (sorted(device), sorted(file));
    let first = |pick: fn(&[Duration]) -> Option<Duration>| {
        let all: Vec<Duration> = device.iter().map(|seen| seen.first).collect();
        pick(&all).unwrap_or_default().as_secs_f64()
    };
    let back = device.iter().filter_map(|seen| seen.back).max().unwrap_or(Duration::MAX).as_secs_f64();
    println!(
        "{name}: {} processes, {} sessions opened, {} commands to the device",
        children.len(),
        site.hsm.sessions(),
        site.hsm.commands()
    );
    println!(
        "  first signature of a validator in the device, seconds after the start: {:.1} to {:.1}",
        first(|all| all.iter().min().copied()),
        first(|all| all.iter().max().copied())
    );
    println!(
        "  votes in the device: {} signed, p50 {:.0} ms, p99 {:.0} ms",
        behind.len(),
        quantile(&behind, 0.5),
        quantile(&behind, 0.99)
    );
    println!(
        "  votes with the key in a file: {} signed, p50 {:.2} ms, p99 {:.2} ms, {} refused",
        beside.len(),
        quantile(&beside, 0.5),
        quantile(&beside, 0.99),
        file.iter().map(|seen| seen.refused).sum::<usize>()
    );
    println!(
        "  the device gone for {:?}: the last validator signs again {back:.1} s after its return, {} refused or lost",
        GONE.1,
        device.iter().map(|seen| seen.refused).sum::<usize>()
    );
}

fn spawn(mut command: Command, log: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn main() {
    let semel = std::env::var("SEMEL").unwrap_or_else(|_| env!("CARGO_BIN_EXE_semel").to_owned());
    let start_semel = |site: &Site, configs: &[PathBuf]| {
        let mut command = Command::new(&semel);
        command
            .args(["kms", "start", "--ledger"])
            .arg(site.directory.path().join("ledger"))
            .env("SEMEL_ALLOW_ROOT", "1");
        for config in configs {
            command.arg("-c").arg(config);
        }
        vec![spawn(command, &site.directory.path().join("log"))]
    };
    measure("semel", "", start_semel);
    measure("semel, sign_extensions = false", "sign_extensions = false\n", start_semel);
    let Ok(tmkms) = std::env::var("TMKMS") else {
        println!("tmkms: TMKMS names no binary, not measured");
        return;
    };
    measure("tmkms", "", |site, configs| {
        let start = |config: &PathBuf| {
            let mut command = Command::new(&tmkms);
            command.args(["start", "-c"]).arg(config);
            spawn(command, &site.directory.path().join("log"))
        };
        configs.iter().map(start).collect()
    });
}
