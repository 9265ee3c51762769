//! A Cardano node, asked over its local socket (Ouroboros node-to-client).
//!
//! Every call opens a connection of its own. One *acquired* state answers era, epoch, tip, KES period and stakes, so that they
//! belong together even when the chain moves meanwhile; stakes are worth something only if the epoch is still the same when a
//! fresh state is asked afterwards.
//!
//! What the node says is bounded: 16 MiB per question, 4 MiB per block, 10 s per call (120 s where a node goes through all
//! that anyone owns); pools and inline datums are counted.
//! An inline datum is whatever anyone has sent to that address: it is cut out of the answer without looking inside, and
//! how deep it nests is for its reader to refuse.
//!
//! Calls block on a runtime of their own: they must not be made from a thread that drives another one.

use super::session::{Meter, Session, broken};
use super::utxo;
use super::{Blocks, ChainError, Observer, Place, Step, View, settled};
use mithril_common::crypto_helper::{KesPeriod, encode_bech32};
use mithril_common::entities::{BlockNumber, ChainPoint, Epoch, SlotNumber, StakeDistribution};
use pallas_addresses::Address;
use pallas_codec::utils::AnyCbor;
use pallas_network::miniprotocols::Point;
use pallas_network::miniprotocols::chainsync::{self, NextResponse};
use pallas_network::miniprotocols::localstate::queries_v16::{self as queries, BlockQuery, LedgerQuery, Request};
use pallas_network::miniprotocols::localtxsubmission::SMaybe;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// How long a call may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a call may take for which a node goes through all that anyone owns: stakes, and what lies at an address.
pub const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// What an answer about the ledger's state may weigh: 3,000 pools are 300 kB.
const STATE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What one step along the chain may weigh: blocks are below 100 kB, boundary blocks of Byron at most 2 MB.
const STEP_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Pools in one snapshot: mainnet has 3,000.
const POOLS_MAX: usize = 100_000;

/// Places offered to the node when a walk begins.
const PLACES_MAX: usize = 128;

/// How long a walk waits at the tip before it says so.
const TIP_WAIT: Duration = Duration::from_millis(5);

/// Names of the ledger's eras, in order.
const ERAS: [&str; 7] = ["Byron", "Shelley", "Allegra", "Mary", "Alonzo", "Babbage", "Conway"];

/// A node's socket and the network that it must be of.
#[derive(Debug, Clone)]
pub struct Node {
    socket: PathBuf,
    magic: u64,
    patience: Duration,
    long_patience: Duration,
}

impl Node {
    /// The node behind a socket, on the network with this magic.
    pub fn new(socket: impl Into<PathBuf>, magic: u64) -> Self {
        Self { socket: socket.into(), magic, patience: PATIENCE, long_patience: LONG_PATIENCE }
    }

    /// The same node with another bound on every call.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, long_patience: patience, ..self }
    }

    /// Runs one conversation about the ledger's state.
    fn ask<T>(
        &self,
        patience: Duration,
        talk: impl AsyncFnOnce(&mut Asking<'_>) -> Result<T, ChainError>,
    ) -> Result<T, ChainError> {
        let runtime = runtime(&self.socket)?;
        let whole = async {
            let session = Session::open(&self.socket, self.magic, STATE_BYTES_MAX).await?;
            talk(&mut Asking { socket: &self.socket, session }).await
        };
        runtime.block_on(async { timeout(patience, whole).await }).unwrap_or_else(|_| Err(late(&self.socket, patience)))
    }
}

impl Observer for Node {
    fn view(&self) -> Result<View, ChainError> {
        self.ask(self.patience, async |asking| {
            asking.acquire().await?;
            Ok(asking.view().await?.1)
        })
    }

    fn stakes(&self) -> Result<(View, StakeDistribution), ChainError> {
        self.ask(self.long_patience, async |asking| {
            asking.acquire().await?;
            let (era, view) = asking.view().await?;
            let stakes = asking.stakes(era).await?;
            asking.reacquire().await?;
            let after = asking.epoch().await?;
            settled(view, stakes, after)
        })
    }

    fn datums(&self, address: &str) -> Result<Vec<Vec<u8>>, ChainError> {
        let address = Address::from_bech32(address).map_err(|why| ChainError::Answer {
            whom: "the address of the markers".to_owned(),
            why: why.to_string(),
        })?;
        self.ask(self.long_patience, async |asking| {
            asking.acquire().await?;
            let era = asking.era().await?;
            let query = BlockQuery::GetUTxOByAddress(vec![address.to_vec().into()]);
            let answer = asking.block_query(era, query).await?;
            utxo::inline_datums(&answer).map_err(|why| asking.wrong(why.to_string()))
        })
    }

    fn blocks(&self, known: &[Place]) -> Result<Box<dyn Blocks>, ChainError> {
        let runtime = runtime(&self.socket)?;
        let mut points: Vec<Point> =
            known.iter().take(PLACES_MAX).map(|place| Point::Specific(place.slot, place.hash.to_vec())).collect();
        points.push(Point::Origin);
        let opening = async {
            let mut session = Session::open(&self.socket, self.magic, STEP_BYTES_MAX).await?;
            let found = session.chain.find_intersect(points).await;
            let (found, _) = found.map_err(|error| broken(&self.socket, &session.meter, &error))?;
            if found.is_none() {
                return Err(wrong(&self.socket, "it does not know the origin of the chain"));
            }
            Ok(session)
        };
        let session = runtime
            .block_on(async { timeout(self.patience, opening).await })
            .unwrap_or_else(|_| Err(late(&self.socket, self.patience)))?;
        Ok(Box::new(Walk {
            socket: self.socket.clone(),
            patience: self.patience,
            chain: session.chain,
            meter: session.meter,
            begun: false,
            ended: false,
            runtime,
        }))
    }
}

/// A conversation about one state after another.
struct Asking<'a> {
    socket: &'a Path,
    session: Session,
}

impl Asking<'_> {
    fn wrong(&self, why: impl Into<String>) -> ChainError {
        wrong(self.socket, why)
    }

    fn broken(&self, error: &dyn std::error::Error) -> ChainError {
        broken(self.socket, &self.session.meter, error)
    }

    async fn acquire(&mut self) -> Result<(), ChainError> {
        let done = self.session.state.acquire(None).await;
        done.map_err(|error| self.broken(&error))
    }

    async fn reacquire(&mut self) -> Result<(), ChainError> {
        let sent = self.session.state.send_reacquire(None).await;
        sent.map_err(|error| self.broken(&error))?;
        let done = self.session.state.recv_while_acquiring().await;
        done.map_err(|error| self.broken(&error))
    }

    async fn era(&mut self) -> Result<queries::Era, ChainError> {
        let era = queries::get_current_era(&mut self.session.state).await;
        era.map_err(|error| self.broken(&error))
    }

    async fn epoch_of(&mut self, era: queries::Era) -> Result<Epoch, ChainError> {
        let epoch = queries::get_block_epoch_number(&mut self.session.state, era).await;
        epoch.map(|epoch| Epoch(epoch.into())).map_err(|error| self.broken(&error))
    }

    async fn epoch(&mut self) -> Result<Epoch, ChainError> {
        let era = self.era().await?;
        self.epoch_of(era).await
    }

    async fn view(&mut self) -> Result<(queries::Era, View), ChainError> {
        let era = self.era().await?;
        let epoch = self.epoch_of(era).await?;
        let tip = self.tip().await?;
        let genesis = queries::get_genesis_config(&mut self.session.state, era).await;
        let genesis = genesis.map_err(|error| self.broken(&error))?;
        let period = tip
            .slot_number
            .checked_div(genesis.slots_per_kes_period.into())
            .ok_or_else(|| self.wrong("a KES period has no slots"))?;
        let name = ERAS.get(usize::from(era)).map_or_else(|| format!("era {era}"), |name| (*name).to_owned());
        Ok((era, View { era: name, epoch, tip, kes_period: KesPeriod(period) }))
    }

    async fn tip(&mut self) -> Result<ChainPoint, ChainError> {
        let point = queries::get_chain_point(&mut self.session.state).await;
        let Some(place) = place(point.map_err(|error| self.broken(&error))?).map_err(|why| self.wrong(why))? else {
            return Ok(ChainPoint::new(SlotNumber(0), BlockNumber(0), ""));
        };
        let number = queries::get_chain_block_no(&mut self.session.state).await;
        let number = number.map_err(|error| self.broken(&error))?.block_number;
        Ok(ChainPoint::new(SlotNumber(place.slot), BlockNumber(number.into()), hex::encode(place.hash)))
    }

    async fn stakes(&mut self, era: queries::Era) -> Result<StakeDistribution, ChainError> {
        let answer = queries::get_stake_snapshots(&mut self.session.state, era, SMaybe::None).await;
        let snapshots = answer.map_err(|error| self.broken(&error))?.stake_snapshots;
        if snapshots.len() > POOLS_MAX {
            return Err(self.wrong(format!("{} pools", snapshots.len())));
        }
        let pools = snapshots.iter().map(|(pool, stakes)| (pool.as_slice(), stakes.snapshot_mark_pool));
        stake_distribution(pools).map_err(|why| self.wrong(why))
    }

    /// A question whose answer is not decoded, without the array of one that says the era is the right one.
    async fn block_query(&mut self, era: queries::Era, query: BlockQuery) -> Result<Vec<u8>, ChainError> {
        let request = Request::LedgerQuery(LedgerQuery::BlockQuery(era, query));
        let answer = self.session.state.query_any(AnyCbor::from_encode(request)).await;
        let answer = answer.map_err(|error| self.broken(&error))?.unwrap();
        match answer.split_first() {
            Some((0x81, rest)) => Ok(rest.to_vec()),
            _ => Err(self.wrong("the era changed within one state")),
        }
    }
}

/// Pools with stake, by their bech32 id.
///
/// Refuses ids that are not 28 bytes, pools named twice, and a sum that does not fit 64 bits.
pub(super) fn stake_distribution<'a>(
    pools: impl Iterator<Item = (&'a [u8], u64)>,
) -> Result<StakeDistribution, String> {
    let mut stakes = StakeDistribution::new();
    let mut total = 0_u64;
    for (pool, stake) in pools {
        if pool.len() != 28 {
            return Err(format!("a pool id of {} bytes", pool.len()));
        }
        if stake == 0 {
            continue;
        }
        let id = encode_bech32("pool", pool).map_err(|why| why.to_string())?;
        total = total.checked_add(stake).ok_or("more stake than there can be")?;
        if stakes.insert(id.clone(), stake).is_some() {
            return Err(format!("pool {id} is named twice"));
        }
    }
    Ok(stakes)
}

fn place(point: Point) -> Result<Option<Place>, String> {
    match point {
        Point::Origin => Ok(None),
        Point::Specific(slot, hash) => {
            let length = hash.len();
            let hash = hash.try_into().map_err(|_| format!("a block's hash of {length} bytes"))?;
            Ok(Some(Place { slot, hash }))
        }
    }
}

fn wrong(socket: &Path, why: impl Into<String>) -> ChainError {
    ChainError::Answer { whom: socket.display().to_string(), why: why.into() }
}

fn late(socket: &Path, patience: Duration) -> ChainError {
    ChainError::Unreachable {
        whom: socket.display().to_string(),
        why: format!("no whole answer within {} ms", patience.as_millis()),
    }
}

fn runtime(socket: &Path) -> Result<Runtime, ChainError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| ChainError::Unreachable { whom: socket.display().to_string(), why: why.to_string() })
}

/// A walk along a node's chain. After an error it is over: every further step is the same kind of error.
struct Walk {
    socket: PathBuf,
    patience: Duration,
    chain: chainsync::N2CClient,
    meter: Arc<Meter>,
    begun: bool,
    ended: bool,
    runtime: Runtime,
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("socket", &self.socket).field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl Walk {
    /// What the node says next; none when it has nothing yet.
    fn next(&mut self) -> Result<Option<NextResponse<chainsync::BlockContent>>, ChainError> {
        self.meter.refill(STEP_BYTES_MAX);
        let Self { runtime, chain, patience, .. } = self;
        let outcome = runtime.block_on(async {
            if !chain.has_agency() {
                return timeout(TIP_WAIT, chain.recv_while_must_reply())
                    .await
                    .map_or(Ok(None), |said| said.map(Some).map_err(Some));
            }
            match timeout(*patience, chain.request_next()).await {
                Ok(said) => said.map(Some).map_err(Some),
                Err(_) => Err(None),
            }
        });
        outcome.map_err(|error| match error {
            Some(error) => broken(&self.socket, &self.meter, &error),
            None => late(&self.socket, self.patience),
        })
    }

    fn advance(&mut self) -> Result<Step, ChainError> {
        let said = self.next()?;
        if !self.begun && !matches!(said, Some(NextResponse::RollBackward(..))) {
            return Err(wrong(&self.socket, "a walk that does not begin where both chains meet"));
        }
        self.begun = true;
        Ok(match said {
            Some(NextResponse::RollForward(block, _)) => Step::Forward(block.0),
            Some(NextResponse::RollBackward(point, _)) => {
                Step::Backward(place(point).map_err(|why| wrong(&self.socket, why))?)
            }
            Some(NextResponse::Await) | None => Step::AtTip,
        })
    }
}

impl Blocks for Walk {
    fn step(&mut self) -> Result<Step, ChainError> {
        if self.ended {
            return Err(ChainError::Unreachable {
                whom: self.socket.display().to_string(),
                why: "the walk ended with an error before".to_owned(),
            });
        }
        let step = self.advance();
        self.ended = step.is_err();
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stakes_of_zero_are_no_stakes_and_doubtful_snapshots_are_refused() {
        let (a, b, short) = ([1_u8; 28], [2_u8; 28], [3_u8; 27]);
        let of = |pools: &[(&[u8], u64)]| stake_distribution(pools.iter().copied());
        assert_eq!(of(&[]).unwrap().len(), 0);
        let two = of(&[(&a, 5), (&b, 0)]).unwrap();
        assert_eq!(two.into_iter().collect::<Vec<_>>(), [(encode_bech32("pool", &a).unwrap(), 5)]);
        assert!(of(&[(&short, 1)]).unwrap_err().contains("27 bytes"));
        assert!(of(&[(&a, 1), (&a, 2)]).unwrap_err().contains("twice"));
        assert!(of(&[(&a, u64::MAX), (&b, 1)]).unwrap_err().contains("more stake"));
    }
}
