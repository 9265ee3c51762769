//! A running network behind one handle.

use crate::block::Block;
use crate::chain::ChainError;
use crate::database::Database;
use crate::immutable::ImmutableError;
use crate::options::Options;
use crate::pools::{Pool, PoolError};
use crate::server::{self, Genesis};
use crate::signer::library::SharedLibrary;
use crate::signer::{HttpError, Signer};
use crate::world::{Shared, Stakes, World, WorldError};
use mithril_common::crypto_helper::{GenesisEd25519Signer, KesPeriod};
use mithril_common::entities::{CardanoNetwork, Epoch, ProtocolParameters, StakeDistribution};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Stake of the first pool, in lovelace; the second has twice that, and so on.
const FIRST_STAKE: u64 = 1_000_000_000_000;

/// Why a network does not run.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Blocks cannot be had.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Files cannot be read or written.
    #[error(transparent)]
    Files(#[from] ImmutableError),
    /// Keys cannot be made.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The socket or a thread cannot be had.
    #[error("{what}: {source}")]
    System {
        /// Which one.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Another network's database is there.
    #[error("{0}: there is a database already")]
    Occupied(PathBuf),
    /// Keys of genesis cannot be written.
    #[error("keys of genesis: {0}")]
    Genesis(String),
}

impl From<WorldError> for NetError {
    fn from(error: WorldError) -> Self {
        match error {
            WorldError::Chain(error) => Self::Chain(error),
            WorldError::Files(error) => Self::Files(error),
        }
    }
}

/// Keys that sign the first certificate, as hex of their JSON.
#[derive(Debug, Clone)]
pub struct GenesisKeys {
    /// The secret key: of this network only, and known to everybody.
    pub secret: String,
    /// The verification key.
    pub verification: String,
}

/// A small Cardano network: one node with a socket and a database, and pools.
#[derive(Debug)]
pub struct CardanoNet {
    options: Options,
    pub(crate) shared: Arc<Shared>,
    pools: Vec<Arc<Pool>>,
    library: SharedLibrary,
    socket: PathBuf,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl CardanoNet {
    /// Starts the node. With a real clock, epochs move from now on.
    pub fn start(options: Options) -> Result<Self, NetError> {
        let directory = options.directory.join("db");
        if directory.exists() {
            return Err(NetError::Occupied(directory));
        }
        let database = Database::create(directory, options.magic, options.ledger_form)?;
        let pools = (0..options.pools)
            .map(|index| Pool::new(options.seed, index, KesPeriod(0)).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let stakes: Stakes = pools.iter().map(|pool| pool.id).zip((1..).map(|times| FIRST_STAKE * times)).collect();
        let shared = Arc::new(Shared::new(World::begin(&options, database, stakes)?));
        let socket = options.directory.join("node.socket");
        let library = SharedLibrary::default();
        let mut net =
            Self { socket, shared, pools, library, stop: watch::Sender::new(false), threads: Vec::new(), options };
        net.listen()?;
        if let Some(epoch_time) = net.options.epoch_time {
            net.start_clock(epoch_time)?;
        }
        Ok(net)
    }

    fn listen(&mut self) -> Result<(), NetError> {
        let failed = |source| NetError::System { what: self.socket.display().to_string(), source };
        if self.socket.exists() {
            std::fs::remove_file(&self.socket).map_err(failed)?;
        }
        let listener = UnixListener::bind(&self.socket).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let genesis = Genesis {
            magic: self.options.magic,
            k: u32::try_from(self.options.k).unwrap_or(u32::MAX),
            slots_per_kes_period: self.options.slots_per_kes_period,
        };
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.subscribe());
        self.spawn("cardano-node", move || {
            runtime.block_on(async {
                if let Ok(listener) = tokio::net::UnixListener::from_std(listener) {
                    server::serve(listener, shared, genesis, stop).await;
                }
            });
        })
    }

    /// From now on the clock is real: the blocks of an epoch are revealed over its time, then the next one begins.
    pub fn start_clock(&mut self, epoch_time: Duration) -> Result<(), NetError> {
        let (shared, stop, tick) = (Arc::clone(&self.shared), self.stop.subscribe(), self.options.tick_time);
        self.spawn("cardano-clock", move || {
            let mut ends = Instant::now() + epoch_time;
            while !*stop.borrow() {
                thread::sleep(tick.min(ends.saturating_duration_since(Instant::now())));
                let left = ends.saturating_duration_since(Instant::now());
                let outcome = if left.is_zero() {
                    ends += epoch_time;
                    shared.change(World::advance_epoch).map(drop)
                } else {
                    shared.change(|world| reveal_share(world, tick, left))
                };
                if let Err(error) = outcome {
                    tracing::error!(%error, "the chain stands still");
                    return;
                }
            }
        })
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), NetError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.push(thread.map_err(|source| NetError::System { what: name.to_owned(), source })?);
        Ok(())
    }

    /// The node's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The node's database.
    pub fn db_directory(&self) -> PathBuf {
        self.shared.world().database.directory().to_owned()
    }

    /// The network's magic.
    pub fn magic(&self) -> u64 {
        self.options.magic
    }

    /// The network.
    pub fn network(&self) -> CardanoNetwork {
        match self.options.magic {
            CardanoNetwork::MAINNET_MAGIC_ID => CardanoNetwork::MainNet,
            magic => CardanoNetwork::TestNet(magic),
        }
    }

    /// Parameters that genesis is made with.
    pub fn parameters(&self) -> &ProtocolParameters {
        &self.options.parameters
    }

    /// Slots of a KES period.
    pub fn slots_per_kes_period(&self) -> u32 {
        self.options.slots_per_kes_period
    }

    /// Blocks at the end of the chain that are not immutable yet.
    pub fn security_parameter(&self) -> usize {
        self.options.k
    }

    /// The current epoch.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.shared.world().epoch)
    }

    /// The epoch that it began in.
    pub fn first_epoch(&self) -> Epoch {
        Epoch(self.options.first_epoch)
    }

    /// The pools, in the order of their stakes.
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// The newest block.
    pub fn tip(&self) -> Option<Block> {
        self.shared.world().chain.tip().cloned()
    }

    /// The newest block that is no newer than `number`, has a transaction if that is wanted, and is one of the last `among`.
    pub fn block_below(&self, number: u64, has_transactions: bool, among: usize) -> Option<Block> {
        let world = self.shared.world();
        let blocks = world.chain.blocks().iter().rev().take(among);
        let mut blocks = blocks.filter(|block| block.number <= number);
        blocks.find(|block| !has_transactions || !block.transactions().is_empty()).cloned()
    }

    /// All blocks of the chain, oldest first.
    pub fn blocks(&self) -> Vec<Block> {
        self.shared.world().chain.blocks().to_vec()
    }

    /// What the mark of the current epoch takes, pools with nothing left out.
    pub fn stakes(&self) -> StakeDistribution {
        let world = self.shared.world();
        let [mark, ..] = world.ledger().stakes;
        let stake_of = |pool: &Arc<Pool>| Some((pool.party_id.clone(), *mark.get(&pool.id)?));
        self.pools.iter().filter_map(stake_of).filter(|(_, stake)| *stake > 0).collect()
    }

    /// One honest signer for each pool, for the aggregator at a base like `http://127.0.0.1:8080/aggregator`.
    pub fn signers(&self, url: &str) -> Result<Vec<Signer>, HttpError> {
        let slots = self.options.slots_per_kes_period.into();
        let signer = |pool: &Arc<Pool>| {
            Signer::new(Arc::clone(pool), Arc::clone(&self.shared), self.library.clone(), slots, url)
        };
        self.pools.iter().map(signer).collect()
    }

    /// Keys for the first certificate.
    pub fn genesis_keys(&self) -> Result<GenesisKeys, NetError> {
        let signer = GenesisEd25519Signer::create_deterministic_signer();
        let failed = |why: mithril_common::StdError| NetError::Genesis(why.to_string());
        Ok(GenesisKeys {
            secret: signer.secret_key().to_json_hex().map_err(failed)?,
            verification: signer.verification_key().to_json_hex().map_err(failed)?,
        })
    }

    /// Reveals the rest of the epoch's blocks and begins the next epoch, which is given back.
    pub fn advance_epoch(&self) -> Result<Epoch, NetError> {
        Ok(Epoch(self.shared.change(World::advance_epoch)?))
    }

    /// Reveals blocks without changing the epoch.
    pub fn advance_blocks(&self, count: usize) -> Result<(), NetError> {
        Ok(self.shared.change(|world| world.advance_blocks(count))?)
    }

    /// Takes the newest blocks away, however deep; they will come again.
    pub fn roll_back(&self, count: usize) -> Result<(), NetError> {
        Ok(self.shared.change(|world| world.roll_back(count, false))?)
    }

    /// Takes the newest blocks away, however deep; others will come.
    pub fn fork(&self, count: usize) -> Result<(), NetError> {
        Ok(self.shared.change(|world| world.roll_back(count, true))?)
    }

    /// Does what a real node does that finds a longer chain: the newest `depth` blocks go and `depth + longer_by` others come,
    /// all at once.
    pub fn switch_fork(&self, depth: usize, longer_by: usize) -> Result<(), NetError> {
        Ok(self.shared.change(|world| {
            world.roll_back(depth, true)?;
            world.advance_blocks(depth + longer_by)
        })?)
    }

    /// Makes the node tell another epoch, an earlier one perhaps.
    pub fn set_epoch(&self, epoch: Epoch) {
        self.shared.change(|world| world.epoch = *epoch);
    }

    /// Makes the node tell that nobody has any stake.
    pub fn set_no_stake(&self, none: bool) {
        self.shared.change(|world| world.no_stake = none);
    }

    /// From an epoch on, marks take these stakes of the pools in order, plus the drift; a stake of nothing stays nothing.
    pub fn set_stakes(&self, from: Epoch, stakes: &[u64]) {
        let stakes: Stakes = self.pools.iter().map(|pool| pool.id).zip(stakes.iter().copied()).collect();
        self.shared.change(|world| world.set_stakes(*from, stakes));
    }

    /// The next time that stakes are asked for, the epoch changes right after the answer.
    pub fn move_epoch_with_next_stakes(&self) {
        self.shared.change(|world| world.epoch_moves_with_stakes = true);
    }

    /// Puts outputs with these inline datums (CBOR) at an address (its bytes).
    pub fn set_datums(&self, address: Vec<u8>, datums: Vec<Vec<u8>>) {
        self.shared.change(|world| world.datums.insert(address, datums));
    }

    /// Stops node and clock.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            drop(thread.join());
        }
        // It may be gone with its directory.
        drop(std::fs::remove_file(&self.socket));
    }
}

impl Drop for CardanoNet {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reveals as many of the epoch's blocks as this tick is of the time that is left.
fn reveal_share(world: &mut World, tick: Duration, left: Duration) -> Result<(), WorldError> {
    let blocks = u128::try_from(world.left_in_epoch()?).unwrap_or_default();
    let share = blocks * tick.as_millis() / (left + tick).as_millis().max(1);
    world.advance_blocks(usize::try_from(share).unwrap_or_default())
}
