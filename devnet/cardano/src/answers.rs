//! Answers to questions about the ledger, as a node encodes them.
//!
//! An answer of the ledger's era is wrapped in an array of one; what concerns all eras is not.

use crate::server::Genesis;
use crate::world::Ledger;
use pallas_codec::minicbor::{self, Encoder, data::Tag};
use pallas_codec::utils::{AnyCbor, AnyUInt, Bytes};
use pallas_network::miniprotocols::Point;
use pallas_network::miniprotocols::localstate::queries_v16::{
    BigInt, BlockQuery, ChainBlockNumber, Fraction, GenesisConfig, HardForkQuery, LedgerQuery, Pools, Request,
    StakeSnapshots, Stakes, SystemStart,
};
use pallas_network::miniprotocols::localtxsubmission::SMaybe;
use std::collections::BTreeSet;
use std::convert::Infallible;

/// Slots of an epoch, as the genesis of preview has it. Epochs of this network are moved by hand.
const EPOCH_SLOTS: u32 = 86_400;

/// A question that this node does not know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("a question that cannot be decoded: {0}")]
    Undecodable(#[from] minicbor::decode::Error),
    #[error("a question that is not answered here: {0}")]
    Unanswered(String),
    #[error("an answer that cannot be encoded: {0}")]
    Unencodable(#[from] minicbor::encode::Error<Infallible>),
}

/// Answers from a state.
pub(crate) fn answer(ledger: &Ledger, genesis: Genesis, request: &Request) -> Result<AnyCbor, Unknown> {
    let query = match request {
        Request::GetSystemStart => return Ok(AnyCbor::from_encode(system_start())),
        Request::GetChainPoint => {
            let point = ledger.tip.map_or(Point::Origin, |tip| Point::Specific(tip.slot, tip.hash.to_vec()));
            return Ok(AnyCbor::from_encode(point));
        }
        Request::GetChainBlockNo => return Ok(block_number(ledger)),
        Request::LedgerQuery(LedgerQuery::HardForkQuery(HardForkQuery::GetCurrentEra)) => {
            return Ok(AnyCbor::from_encode(ledger.era));
        }
        Request::LedgerQuery(LedgerQuery::BlockQuery(era, query)) if *era == ledger.era => query,
        Request::LedgerQuery(query) => return Err(Unknown::Unanswered(format!("{query:?}"))),
    };
    Ok(match query {
        BlockQuery::GetEpochNo => AnyCbor::from_encode((ledger.epoch,)),
        BlockQuery::GetGenesisConfig => AnyCbor::from_encode((genesis_config(genesis),)),
        BlockQuery::GetStakeSnapshots(pools) => AnyCbor::from_encode((stake_snapshots(ledger, pools),)),
        BlockQuery::GetUTxOByAddress(addresses) => AnyCbor::from_raw_bytes(unspent(ledger, addresses)?),
        query => return Err(Unknown::Unanswered(format!("{query:?}"))),
    })
}

fn block_number(ledger: &Ledger) -> AnyCbor {
    match ledger.tip {
        None => AnyCbor::from_encode((0_u8,)),
        Some(tip) => AnyCbor::from_encode(ChainBlockNumber {
            slot_timeline: 1,
            block_number: u32::try_from(tip.number).unwrap_or(u32::MAX),
        }),
    }
}

fn system_start() -> SystemStart {
    // 2022-10-25, when preview began.
    SystemStart { year: BigInt::from(2022), day_of_year: 298, picoseconds_of_day: BigInt::from(0) }
}

fn genesis_config(genesis: Genesis) -> GenesisConfig {
    GenesisConfig {
        system_start: system_start(),
        network_magic: u32::try_from(genesis.magic).unwrap_or(u32::MAX),
        network_id: 0,
        active_slots_coefficient: Fraction { num: 1, den: 20 },
        security_param: genesis.k,
        epoch_length: EPOCH_SLOTS,
        slots_per_kes_period: genesis.slots_per_kes_period,
        max_kes_evolutions: 62,
        slot_length: 1,
        update_quorum: 5,
        max_lovelace_supply: AnyUInt::U64(45_000_000_000_000_000),
    }
}

fn stake_snapshots(ledger: &Ledger, pools: &SMaybe<Pools>) -> StakeSnapshots {
    let asked: Option<BTreeSet<Vec<u8>>> = match pools {
        SMaybe::None => None,
        SMaybe::Some(pools) => Some(pools.iter().map(|pool| pool.to_vec()).collect()),
    };
    let [mark, set, go] = &ledger.stakes;
    let all: BTreeSet<[u8; 28]> = [mark, set, go].into_iter().flat_map(|stakes| stakes.keys().copied()).collect();
    let of = |stakes: &crate::world::Stakes, pool: &[u8; 28]| stakes.get(pool).copied().unwrap_or_default();
    let snapshots: Vec<(Bytes, Stakes)> = all
        .iter()
        .filter(|pool| asked.as_ref().is_none_or(|asked| asked.contains(&pool[..])))
        .map(|pool| {
            let stakes = Stakes {
                snapshot_mark_pool: of(mark, pool),
                snapshot_set_pool: of(set, pool),
                snapshot_go_pool: of(go, pool),
            };
            (Bytes::from(pool.to_vec()), stakes)
        })
        .collect();
    StakeSnapshots {
        stake_snapshots: snapshots.into(),
        snapshot_stake_mark_total: mark.values().sum(),
        snapshot_stake_set_total: set.values().sum(),
        snapshot_stake_go_total: go.values().sum(),
    }
}

/// Outputs with inline datums at these addresses: `[{[id, index]: {0: address, 1: coin, 2: [1, #6.24(datum)]}}]`.
fn unspent(ledger: &Ledger, addresses: &[Bytes]) -> Result<Vec<u8>, Unknown> {
    let found: Vec<(&Bytes, &Vec<u8>)> = addresses
        .iter()
        .flat_map(|address| ledger.datums.get(&address[..]).into_iter().flatten().map(move |datum| (address, datum)))
        .collect();
    let mut bytes = Vec::new();
    let mut e = Encoder::new(&mut bytes);
    e.array(1)?.map(found.len() as u64)?;
    for (index, (address, datum)) in found.into_iter().enumerate() {
        e.array(2)?.bytes(&[0x5e; 32])?.u64(index as u64)?;
        e.map(3)?.u8(0)?.bytes(address)?.u8(1)?.u64(2_000_000)?;
        e.u8(2)?.array(2)?.u8(1)?.tag(Tag::new(24))?.bytes(datum)?;
    }
    Ok(bytes)
}
