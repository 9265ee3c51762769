//! The node's side of the local socket: handshake, questions about the ledger, the walk along the chain.
//!
//! A state is acquired by copying it; questions are answered from the copy. A question that is not known closes the
//! connection, as a node does with what it cannot decode. One connection never disturbs another.

use crate::answers::{self, Unknown};
use crate::block::Block;
use crate::world::{Ledger, Shared};
use pallas_codec::utils::AnyCbor;
use pallas_network::facades::NodeServer;
use pallas_network::miniprotocols::Point;
use pallas_network::miniprotocols::chainsync::{self, BlockContent, ClientRequest};
use pallas_network::miniprotocols::localstate::{
    self, AcquireFailure, ClientAcquireRequest, ClientQueryRequest,
    queries_v16::{BlockQuery, LedgerQuery, Request},
};
use pallas_network::multiplexer::Bearer;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Why a conversation ended early.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Chain(#[from] chainsync::ServerError),
    #[error("{0}")]
    State(#[from] localstate::Error),
    #[error("{0}")]
    Question(#[from] Unknown),
}

/// What every connection is told about the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Genesis {
    pub(crate) magic: u64,
    pub(crate) k: u32,
    pub(crate) slots_per_kes_period: u32,
}

/// Serves connections until told to stop.
pub(crate) async fn serve(
    listener: UnixListener,
    shared: Arc<Shared>,
    genesis: Genesis,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = Bearer::accept_unix(&listener) => {
                let Ok((bearer, _)) = accepted else { continue };
                tokio::spawn(connection(bearer, Arc::clone(&shared), genesis));
            }
        }
    }
}

async fn connection(bearer: Bearer, shared: Arc<Shared>, genesis: Genesis) {
    let mut server = NodeServer::new(bearer).await;
    let versions = pallas_network::miniprotocols::handshake::n2c::VersionTable::v10_and_above(genesis.magic);
    let accepted = matches!(server.handshake().handshake(versions).await, Ok(Some(_)));
    if accepted {
        let NodeServer { chainsync, statequery, .. } = &mut server;
        let ended = tokio::select! {
            ended = state(statequery, &shared, genesis) => ended,
            ended = chain(chainsync, &shared) => ended,
        };
        if let Err(why) = ended {
            tracing::debug!(%why, "a conversation ended");
        }
    } else {
        // The refusal is still on its way.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    server.abort().await;
}

async fn state(server: &mut localstate::Server, shared: &Shared, genesis: Genesis) -> Result<(), Ended> {
    while let Some(ClientAcquireRequest(point)) = server.recv_while_idle().await? {
        let Some(mut ledger) = acquire(server, shared, point).await? else { continue };
        loop {
            match server.recv_while_acquired().await? {
                ClientQueryRequest::ReAcquire(point) => match acquire(server, shared, point).await? {
                    Some(next) => ledger = next,
                    None => break,
                },
                ClientQueryRequest::Release => break,
                ClientQueryRequest::Query(question) => {
                    let answer = answer(shared, &mut ledger, genesis, question)?;
                    server.send_result(answer).await?;
                }
            }
        }
    }
    std::future::pending().await
}

fn answer(shared: &Shared, ledger: &mut Ledger, genesis: Genesis, question: AnyCbor) -> Result<AnyCbor, Ended> {
    let request: Request = question.into_decode().map_err(Unknown::from)?;
    let answer = answers::answer(ledger, genesis, &request)?;
    let stakes_asked =
        matches!(request, Request::LedgerQuery(LedgerQuery::BlockQuery(_, BlockQuery::GetStakeSnapshots(_))));
    if stakes_asked && shared.world().epoch_moves_with_stakes {
        shared.change(|world| {
            world.epoch_moves_with_stakes = false;
            world.epoch += 1;
        });
    }
    Ok(answer)
}

async fn acquire(
    server: &mut localstate::Server,
    shared: &Shared,
    point: Option<Point>,
) -> Result<Option<Ledger>, Ended> {
    let ledger = shared.world().ledger();
    let known = match &point {
        None => true,
        Some(Point::Origin) => ledger.tip.is_none(),
        Some(Point::Specific(slot, hash)) => {
            ledger.tip.is_some_and(|tip| tip.slot == *slot && tip.hash[..] == hash[..])
        }
    };
    if known {
        server.send_acquired().await?;
        Ok(Some(ledger))
    } else {
        server.send_failure(AcquireFailure::PointNotOnChain).await?;
        Ok(None)
    }
}

/// Where a follower is.
#[derive(Debug, Default)]
struct Follower {
    /// Blocks that it has.
    blocks: usize,
    /// Roll-backs that it knows of.
    rollbacks: usize,
    /// It must be told where its walk begins.
    starts: bool,
}

/// What a follower is told next.
enum Next {
    Forward(Vec<u8>),
    Backward(Point),
}

impl Follower {
    fn next(&mut self, shared: &Shared) -> (Option<Next>, chainsync::Tip) {
        let world = shared.world();
        let blocks = world.chain.blocks();
        let tip = tip(blocks.last());
        let rollbacks = world.chain.rollbacks();
        let left = rollbacks.iter().skip(self.rollbacks).copied().min();
        self.rollbacks = rollbacks.len();
        let back_to = left.filter(|left| *left < self.blocks);
        if let Some(left) = back_to {
            self.blocks = left;
        }
        if back_to.is_some() || self.starts {
            self.starts = false;
            let last = self.blocks.checked_sub(1).and_then(|last| blocks.get(last));
            return (Some(Next::Backward(point(last))), tip);
        }
        let forward = blocks.get(self.blocks).map(|block| Next::Forward(block.bytes.to_vec()));
        self.blocks += usize::from(forward.is_some());
        (forward, tip)
    }

    /// Places the follower at the first of the points that is on the chain.
    fn intersect(&mut self, shared: &Shared, points: &[Point]) -> (Option<Point>, chainsync::Tip) {
        let world = shared.world();
        let blocks = world.chain.blocks();
        let found = points.iter().find_map(|point| Some((position(blocks, point)?, point.clone())));
        if let Some((position, _)) = &found {
            *self = Self { blocks: *position, rollbacks: world.chain.rollbacks().len(), starts: true };
        }
        (found.map(|(_, point)| point), tip(blocks.last()))
    }
}

/// How many blocks lie up to a point that is on the chain.
fn position(blocks: &[Block], point: &Point) -> Option<usize> {
    match point {
        Point::Origin => Some(0),
        Point::Specific(slot, hash) => {
            let at = blocks.binary_search_by_key(slot, |block| block.slot).ok()?;
            (blocks.get(at)?.hash[..] == hash[..]).then_some(at + 1)
        }
    }
}

fn point(block: Option<&Block>) -> Point {
    block.map_or(Point::Origin, |block| Point::Specific(block.slot, block.hash.to_vec()))
}

fn tip(block: Option<&Block>) -> chainsync::Tip {
    chainsync::Tip(point(block), block.map_or(0, |block| block.number))
}

async fn chain(server: &mut chainsync::N2CServer, shared: &Shared) -> Result<(), Ended> {
    let mut follower = Follower { starts: true, ..Follower::default() };
    let mut changes = shared.changes();
    while let Some(request) = server.recv_while_idle().await? {
        match request {
            ClientRequest::Intersect(points) => match follower.intersect(shared, &points) {
                (Some(point), tip) => server.send_intersect_found(point, tip).await?,
                (None, tip) => server.send_intersect_not_found(tip).await?,
            },
            ClientRequest::RequestNext => {
                let mut waits = false;
                loop {
                    changes.mark_unchanged();
                    match follower.next(shared) {
                        (Some(Next::Forward(bytes)), tip) => {
                            server.send_roll_forward(BlockContent(bytes), tip).await?;
                            break;
                        }
                        (Some(Next::Backward(point)), tip) => {
                            server.send_roll_backward(point, tip).await?;
                            break;
                        }
                        (None, _) => {
                            if !waits {
                                server.send_await_reply().await?;
                                waits = true;
                            }
                            if changes.changed().await.is_err() {
                                return Ok(());
                            }
                        }
                    }
                }
            }
        }
    }
    std::future::pending().await
}
