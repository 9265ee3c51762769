//! Chain data against real chunks and the oracle.

mod crash;
mod import;
mod roll_back;

use super::*;
use crate::core::merkle::Hash;
use crate::host::chaindata::block::ParsedBlock;
use mithril_common::crypto_helper::{MKMap, MKMapNode, MKTree, MKTreeNode, MKTreeStoreInMemory as Memory};
use mithril_common::entities::{BlockRange, CardanoBlockWithTransactions, CardanoTransaction, SlotNumber};
use pallas_codec::minicbor::Encoder;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

type Map = MKMap<BlockRange, MKMapNode<BlockRange, Memory>, Memory>;

/// The directory of shared data; absent: says so where skips are collected.
fn shared_data(test: &str, path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    if path.exists() {
        return Some(path);
    }
    if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
        use std::io::Write as _;
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(log, "{test}: {} is absent", path.display()).unwrap();
    }
    None
}

fn on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A block of our own making, as the chain has it.
fn cbor(number: u64, slot: u64, previous: Option<Hash>, transactions: &[u64]) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new());
    out.array(2).unwrap().u8(7).unwrap().array(5).unwrap();
    out.array(2).unwrap().array(3).unwrap().u64(number).unwrap().u64(slot).unwrap();
    match previous {
        Some(hash) => out.bytes(&hash).unwrap(),
        None => out.null().unwrap(),
    };
    out.bytes(b"signature").unwrap().array(transactions.len() as u64).unwrap();
    for transaction in transactions {
        out.map(1).unwrap().u8(0).unwrap().u64(*transaction).unwrap();
    }
    out.array(0).unwrap().map(0).unwrap().array(0).unwrap();
    out.into_writer()
}

/// A chain from the origin. Block n has n mod 4 transactions, `fork` makes those from block `at` others.
fn chain(len: u64, at: u64, fork: u64) -> Vec<Vec<u8>> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut previous = None;
    for number in 0..len {
        let fork = if number >= at { fork } else { 0 };
        let transactions: Vec<u64> = (0..number % 4).map(|index| number * 1000 + index * 100 + fork).collect();
        let block = cbor(number, 10 + number * 20 + fork, previous, &transactions);
        previous = Some(ParsedBlock::parse(&block).unwrap().hash);
        blocks.push(block);
    }
    blocks
}

fn parsed(blocks: &[Vec<u8>]) -> Vec<ParsedBlock> {
    blocks.iter().map(|block| ParsedBlock::parse(block).unwrap()).collect()
}

fn place(block: &ParsedBlock) -> Place {
    Place { slot: block.slot, hash: block.hash }
}

/// Appends without a node.
fn append(data: &ChainData, blocks: &[Vec<u8>]) -> Result<(), ChainDataError> {
    data.writer()?.append(&data.shared, &parsed(blocks), false)
}

fn entity(block: &ParsedBlock) -> CardanoBlockWithTransactions {
    CardanoBlockWithTransactions::new(
        hex::encode(block.hash),
        BlockNumber(block.number),
        SlotNumber(block.slot),
        block.transactions.iter().map(hex::encode).collect::<Vec<_>>(),
    )
}

/// The map of v1, as the oracle makes it.
fn oracle_v1(blocks: &[ParsedBlock], up_to: u64) -> Map {
    let mut ranges = BTreeMap::<u64, Vec<(u64, String)>>::new();
    for block in blocks.iter().filter(|block| block.number / 15 * 15 + 14 <= up_to) {
        for transaction in entity(block).into_transactions() {
            let CardanoTransaction { transaction_hash, block_number, .. } = transaction;
            ranges.entry(block.number / 15).or_default().push((*block_number, transaction_hash));
        }
    }
    map(ranges.into_iter().map(|(range, mut leaves)| {
        leaves.sort();
        (range, leaves.into_iter().map(|(_, hash)| MKTreeNode::from(hash)).collect())
    }))
}

/// The map of v2, as the oracle makes it.
fn oracle_v2(blocks: &[ParsedBlock], up_to: u64) -> Map {
    let mut ranges = BTreeMap::<u64, BTreeSet<_>>::new();
    for block in blocks.iter().filter(|block| block.number <= up_to) {
        ranges.entry(block.number / 15).or_default().extend(entity(block).into_mk_tree_node());
    }
    map(ranges.into_iter().map(|(range, leaves)| (range, leaves.into_iter().map(MKTreeNode::from).collect())))
}

fn map(ranges: impl Iterator<Item = (u64, Vec<MKTreeNode>)>) -> Map {
    MKMap::new_from_iter(ranges.map(|(range, leaves)| {
        let tree = MKTree::<Memory>::new(&leaves).unwrap();
        (BlockRange::from(range * 15..range * 15 + 15), MKMapNode::Tree(Arc::new(tree)))
    }))
    .unwrap()
}

fn hex_root(map: &Map) -> Option<String> {
    map.compute_root().ok().map(|root| root.to_hex())
}

/// Roots at every one of these blocks are those of the oracle.
fn agrees(data: &ChainData, blocks: &[ParsedBlock], at: impl IntoIterator<Item = u64>) {
    for up_to in at {
        let v1 = data.transactions_root(BlockNumber(up_to)).ok();
        assert_eq!(v1, hex_root(&oracle_v1(blocks, up_to)), "v1 at {up_to}");
        let v2 = data.blocks_transactions_root(BlockNumber(up_to)).ok();
        assert_eq!(v2, hex_root(&oracle_v2(blocks, up_to)), "v2 at {up_to}");
    }
}

fn certified(block: u64, root: &str) -> Certified {
    Certified { certificate_hash: "certificate".to_owned(), block_number: BlockNumber(block), merkle_root: root.into() }
}

fn v1(data: &ChainData, block: u64) -> TransactionsProver {
    let root = data.transactions_root(BlockNumber(block)).unwrap();
    data.transactions_prover(certified(block, &root)).unwrap()
}

fn v2(data: &ChainData, block: u64) -> BlocksTransactionsProver {
    let root = data.blocks_transactions_root(BlockNumber(block)).unwrap();
    data.blocks_transactions_prover(certified(block, &root), BlockNumberOffset(9)).unwrap()
}

/// Every block and transaction up to the certified block is proven under its root, and nothing behind it.
fn proves(data: &ChainData, blocks: &[ParsedBlock], up_to: u64) {
    let complete = (up_to + 1) / 15 * 15;
    for some in blocks.chunks(7) {
        let transactions: Vec<String> = some.iter().flat_map(|block| &block.transactions).map(hex::encode).collect();
        let hashes: Vec<String> = some.iter().map(|block| hex::encode(block.hash)).collect();
        let known =
            |number: u64, end: u64| some.iter().filter(move |block| block.number < end && block.number <= number);

        if complete > 0 && data.transactions_root(BlockNumber(up_to)).is_ok() {
            let message = v1(data, up_to).prove(&transactions).unwrap();
            let proven: usize = known(up_to, complete).map(|block| block.transactions.len()).sum();
            assert_eq!(message.transactions_hashes().len(), proven);
            assert_eq!(message.non_certified_transactions.len(), transactions.len() - proven);
            if proven > 0 {
                message.verify().unwrap();
            }
        }
        let prover = v2(data, up_to);
        let message = prover.prove_transactions(&transactions).unwrap();
        let proven: usize = known(up_to, u64::MAX).map(|block| block.transactions.len()).sum();
        assert_eq!(message.transactions_hashes().len(), proven);
        assert_eq!(message.non_certified_transactions.len(), transactions.len() - proven);
        if proven > 0 {
            assert_eq!(message.verify().unwrap().certified_merkle_root(), prover.certified().merkle_root);
        }
        let message = prover.prove_blocks(&hashes).unwrap();
        assert_eq!(message.blocks_hashes().len(), known(up_to, u64::MAX).count());
        if !message.blocks_hashes().is_empty() {
            assert_eq!(message.verify().unwrap().certified_merkle_root(), prover.certified().merkle_root);
        }
    }
}
