//! A Cardano node, asked through `cardano-cli`: one process per question.
//!
//! | need | command |
//! | --- | --- |
//! | era, epoch, tip | `latest query tip` |
//! | stakes | `latest query stake-snapshot --all-stake-pools`; when that fails, or says what cannot be read: `latest query stake-distribution` for the pools, then `latest query stake-snapshot --stake-pool-id` for each |
//! | inline datums | `latest query utxo --address ADDRESS --out-file /dev/stdout` |
//!
//! Every question has `CARDANO_NODE_SOCKET_PATH` in its environment and ends with `--mainnet` or `--testnet-magic N`. Old programs
//! tell a pool's stake as `poolStakeMark`, and an inline datum as JSON without its bytes. The KES
//! period is slot / slots of a KES period, which the program does not tell: it is 129,600 on every public network. The tip is
//! asked before and after stakes, which are refused when the epoch moved.
//!
//! A process gets 120 s and 64 MiB of output, and is killed with what it started. Blocks are not to be had this way: they come
//! from the node itself, over the same socket.

use super::node::{Node, stake_distribution};
use super::process;
use super::{Blocks, ChainError, Observer, Place, View, settled};
use crate::core::markers;
use mithril_common::crypto_helper::{KesPeriod, encode_bech32};
use mithril_common::entities::{BlockNumber, CardanoNetwork, ChainPoint, Epoch, SlotNumber, StakeDistribution};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Slots of a KES period on mainnet, preprod and preview.
pub const SLOTS_PER_KES_PERIOD: u64 = 129_600;

/// How long one process may take: a node goes through all that anyone owns for stakes and for what lies at an address.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pools that are asked for one by one.
const POOLS_ONE_BY_ONE_MAX: usize = 10_000;

/// Characters of what the program said that go into an error.
const SAID_CHARS_MAX: usize = 240;

/// The program and the node that it asks.
#[derive(Debug, Clone)]
pub struct CardanoCli {
    program: PathBuf,
    socket: PathBuf,
    network: CardanoNetwork,
    slots_per_kes_period: u64,
    patience: Duration,
}

/// What `query tip` says. Before the first block it says neither slot nor hash nor block.
#[derive(Debug, Deserialize)]
struct Tip {
    era: String,
    epoch: u64,
    #[serde(default)]
    slot: u64,
    #[serde(default)]
    block: u64,
    #[serde(default)]
    hash: String,
}

/// What `query stake-snapshot` says of all pools.
#[derive(Debug, Deserialize)]
struct Snapshot {
    pools: BTreeMap<String, PoolStake>,
}

#[derive(Debug, Deserialize)]
struct PoolStake {
    #[serde(rename = "stakeMark")]
    mark: u64,
}

/// What `query stake-snapshot` says of one pool.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OnePool {
    Listed(Snapshot),
    Bare {
        #[serde(rename = "poolStakeMark")]
        mark: u64,
    },
}

/// What lies at one output.
#[derive(Debug, Deserialize)]
struct Output {
    #[serde(rename = "inlineDatumRaw", default)]
    raw: Option<String>,
    #[serde(rename = "inlineDatum", default)]
    json: Option<serde_json::Value>,
}

impl Output {
    /// The datum without its bytes has them in its fields: joined, they are one string of hex.
    fn of_fields(&self) -> Option<Vec<u8>> {
        let fields = self.json.as_ref()?.get("fields")?.as_array()?;
        let parts: String = fields.iter().filter_map(|field| field.get("bytes")?.as_str()).collect();
        markers::datum(&hex::decode(parts).ok()?)
    }
}

/// Digits of bech32.
const DIGITS: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Bytes of a pool's id.
fn pool_id(bech32: &str) -> Option<Vec<u8>> {
    let (mut id, mut bits, mut left) = (Vec::new(), 0_u32, 0_u32);
    for digit in bech32.strip_prefix("pool1")?.chars().take(45) {
        let value = u32::try_from(DIGITS.find(digit)?).ok()?;
        (bits, left) = ((bits << 5 | value) & 0xfff, left + 5);
        if left >= 8 {
            left -= 8;
            id.push(u8::try_from(bits >> left & 0xff).ok()?);
        }
    }
    // Which looks at the checksum, too.
    (encode_bech32("pool", &id).ok()? == bech32).then_some(id)
}

impl CardanoCli {
    /// Asks the node behind a socket through a program.
    pub fn new(program: impl Into<PathBuf>, socket: impl Into<PathBuf>, network: CardanoNetwork) -> Self {
        Self {
            program: program.into(),
            socket: socket.into(),
            network,
            slots_per_kes_period: SLOTS_PER_KES_PERIOD,
            patience: PATIENCE,
        }
    }

    /// The same on a network whose KES periods have another length; 0 is taken for 1.
    #[must_use]
    pub fn with_slots_per_kes_period(self, slots: u64) -> Self {
        Self { slots_per_kes_period: slots.max(1), ..self }
    }

    /// The same with another bound on every process.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn wrong(&self, why: impl Into<String>) -> ChainError {
        ChainError::Answer { whom: self.program.display().to_string(), why: why.into() }
    }

    fn unreachable(&self, why: String) -> ChainError {
        ChainError::Unreachable { whom: self.program.display().to_string(), why }
    }

    /// Runs the program with a question.
    fn run(&self, question: &[&str]) -> Result<process::Output, ChainError> {
        let mut command = Command::new(&self.program);
        command.env("CARDANO_NODE_SOCKET_PATH", &self.socket).args(["latest", "query"]).args(question);
        match self.network {
            CardanoNetwork::MainNet => command.arg("--mainnet"),
            CardanoNetwork::TestNet(magic) => command.arg("--testnet-magic").arg(magic.to_string()),
        };
        process::run(command, self.patience).map_err(|why| self.unreachable(why.to_string()))
    }

    /// What the program says to a question; an error when it fails.
    fn ask(&self, question: &[&str]) -> Result<Vec<u8>, ChainError> {
        let output = self.run(question)?;
        if output.success {
            return Ok(output.said);
        }
        let complaint: String =
            String::from_utf8_lossy(&output.complained).trim().chars().take(SAID_CHARS_MAX).collect();
        Err(self.unreachable(format!("`latest query {}` fails: {complaint}", question.join(" "))))
    }

    fn ask_json<T: DeserializeOwned>(&self, question: &[&str]) -> Result<T, ChainError> {
        self.read(question, &self.ask(question)?)
    }

    fn read<T: DeserializeOwned>(&self, question: &[&str], said: &[u8]) -> Result<T, ChainError> {
        serde_json::from_slice(said)
            .map_err(|why| self.wrong(format!("`latest query {}` says what cannot be read: {why}", question.join(" "))))
    }

    fn all_stakes(&self) -> Result<StakeDistribution, ChainError> {
        let at_once = self.ask_json(&["stake-snapshot", "--all-stake-pools"]).and_then(|all| self.pools(all));
        let pools = match at_once {
            Ok(pools) => pools,
            Err(error) => {
                tracing::debug!(%error, "stakes are asked for pool by pool");
                self.pools_one_by_one()?
            }
        };
        stake_distribution(pools.iter().map(|(pool, stake)| (pool.as_slice(), *stake))).map_err(|why| self.wrong(why))
    }

    fn pools(&self, snapshot: Snapshot) -> Result<Vec<(Vec<u8>, u64)>, ChainError> {
        snapshot
            .pools
            .into_iter()
            .map(|(pool, stake)| match hex::decode(&pool) {
                Ok(id) => Ok((id, stake.mark)),
                Err(why) => Err(self.wrong(format!("a pool id that is not hexadecimal: {why}"))),
            })
            .collect()
    }

    /// The pools of the stake distribution (a table), each with its snapshot.
    fn pools_one_by_one(&self) -> Result<Vec<(Vec<u8>, u64)>, ChainError> {
        let table = self.ask(&["stake-distribution"])?;
        let table = String::from_utf8(table).map_err(|_| self.wrong("a stake distribution that is not text"))?;
        let ids = table.split_whitespace().filter(|word| word.starts_with("pool1"));
        let mut pools = Vec::new();
        for id in ids {
            if pools.len() >= POOLS_ONE_BY_ONE_MAX {
                return Err(self.wrong("more pools than are asked for one by one"));
            }
            match self.ask_json(&["stake-snapshot", "--stake-pool-id", id])? {
                OnePool::Listed(snapshot) => pools.extend(self.pools(snapshot)?),
                OnePool::Bare { mark } => {
                    pools.push((pool_id(id).ok_or_else(|| self.wrong("a pool id that is not bech32"))?, mark));
                }
            }
        }
        Ok(pools)
    }
}

impl Observer for CardanoCli {
    fn view(&self) -> Result<View, ChainError> {
        let tip: Tip = self.ask_json(&["tip"])?;
        let is_hash = tip.hash.len() == 64 && tip.hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hash && !tip.hash.is_empty() {
            return Err(self.wrong("a block's hash that is none"));
        }
        let era: String = tip.era.chars().take(32).collect();
        Ok(View {
            era,
            epoch: Epoch(tip.epoch),
            tip: ChainPoint::new(SlotNumber(tip.slot), BlockNumber(tip.block), tip.hash.to_lowercase()),
            kes_period: KesPeriod(tip.slot.checked_div(self.slots_per_kes_period).unwrap_or_default()),
        })
    }

    fn stakes(&self) -> Result<(View, StakeDistribution), ChainError> {
        let view = self.view()?;
        let stakes = self.all_stakes()?;
        let after = self.view()?.epoch;
        settled(view, stakes, after)
    }

    fn datums(&self, address: &str) -> Result<Vec<Vec<u8>>, ChainError> {
        let question = ["utxo", "--address", address, "--out-file", "/dev/stdout"];
        let outputs: BTreeMap<String, Output> = self.ask_json(&question)?;
        let read = |output: Output| match &output.raw {
            Some(raw) => {
                let bytes = hex::decode(raw);
                Some(bytes.map_err(|why| self.wrong(format!("a datum that is not hexadecimal: {why}"))))
            }
            None => output.of_fields().map(Ok),
        };
        outputs.into_values().filter_map(read).collect()
    }

    fn blocks(&self, known: &[Place]) -> Result<Box<dyn Blocks>, ChainError> {
        match self.socket.as_os_str().is_empty() {
            true => Err(ChainError::Unsupported("cardano-cli without CARDANO_NODE_SOCKET_PATH")),
            false => Node::new(&self.socket, self.network.magic_id()).blocks(known),
        }
    }
}
