//! What signers read of the node: Merkle roots over its blocks and its immutable files.
//!
//! Ranges are those of 15 blocks. A root of the first kind covers transactions only, in ranges that are complete; one of the
//! second kind covers blocks and transactions, the last range cut at the signed block. Complete ranges and the digests of files
//! are computed once; a roll-back takes back what it touches. Real signers each have their own; here they share one.

use crate::block::Block;
use crate::world::Shared;
use mithril_common::StdResult;
use mithril_common::crypto_helper::{MKMap, MKMapNode, MKTree, MKTreeNode, MKTreeStoreInMemory};
use mithril_common::entities::{
    BlockNumber, BlockRange, CardanoBlock, CardanoBlockTransactionMkTreeNode, CardanoTransaction, SlotNumber,
};
use mithril_common::protocol::SignerBuilder;
use pallas_traverse::MultiEraBlock;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Tree = MKTree<MKTreeStoreInMemory>;
type Map = MKMap<BlockRange, MKMapNode<BlockRange, MKTreeStoreInMemory>, MKTreeStoreInMemory>;

/// Closed registrations that are kept: two epochs' worth of current and next signers, and what a strange signer made.
const BUILDERS_MAX: usize = 16;

/// A block as signers see it.
#[derive(Debug)]
struct Leaf {
    block: CardanoBlock,
    /// Hash of the bytes: what the chain calls it.
    hash: [u8; 32],
    transactions: Vec<CardanoTransaction>,
}

/// Roots of one complete range; none for transactions where there are none.
#[derive(Debug, Clone)]
struct Roots {
    transactions: Option<MKTreeNode>,
    all: MKTreeNode,
}

/// What signers know of the chain.
#[derive(Debug, Default)]
pub(crate) struct Library {
    leaves: Vec<Leaf>,
    ranges: BTreeMap<u64, Roots>,
    digests: HashMap<String, String>,
    builders: Vec<(String, Arc<SignerBuilder>)>,
}

/// A library that signers share.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedLibrary(Arc<Mutex<Library>>);

impl SharedLibrary {
    pub(crate) fn open(&self) -> MutexGuard<'_, Library> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Library {
    /// Reads the chain up to a block.
    fn read(&mut self, chain: &Shared, up_to: u64) -> StdResult<()> {
        let world = chain.world();
        let blocks = world.chain.blocks();
        while let Some(last) = self.leaves.last() {
            let at = self.leaves.len() - 1;
            if blocks.get(at).is_some_and(|block| block.hash == last.hash) {
                break;
            }
            self.ranges.split_off(&*BlockRange::start(last.block.block_number));
            self.leaves.pop();
        }
        let unread: Vec<Block> =
            blocks.iter().skip(self.leaves.len()).take_while(|block| block.number <= up_to).cloned().collect();
        drop(world);
        for block in &unread {
            self.leaves.push(leaf(block)?);
        }
        Ok(())
    }

    /// Blocks of a range of numbers. Numbers grow by one without a gap, from the first block's on.
    fn between(&self, from: u64, below: u64) -> &[Leaf] {
        let first = self.leaves.first().map_or(0, |leaf| *leaf.block.block_number);
        let at =
            |number: u64| usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX).min(self.leaves.len());
        self.leaves.get(at(from)..at(below)).unwrap_or_default()
    }

    /// Roots of the complete ranges up to a block.
    fn complete(&mut self, up_to: u64) -> StdResult<Vec<(BlockRange, Roots)>> {
        let length = *BlockRange::LENGTH;
        let mut complete = Vec::new();
        for start in (0..(up_to + 1) / length).map(|range| range * length) {
            let roots = match self.ranges.get(&start) {
                Some(roots) => roots.clone(),
                None => {
                    let Some(roots) = roots(self.between(start, start + length))? else { continue };
                    self.ranges.insert(start, roots.clone());
                    roots
                }
            };
            complete.push((BlockRange::from_block_number(BlockNumber(start)), roots));
        }
        Ok(complete)
    }

    /// Root over the transactions of all complete ranges up to a block.
    pub(crate) fn transactions_root(&mut self, chain: &Shared, up_to: BlockNumber) -> StdResult<String> {
        self.read(chain, *up_to)?;
        let ranges = self.complete(*up_to)?.into_iter();
        let nodes = ranges.filter_map(|(range, roots)| Some((range, MKMapNode::from(roots.transactions?))));
        Ok(Map::new_from_iter(nodes)?.compute_root()?.to_hex())
    }

    /// Root over blocks and transactions up to a block.
    pub(crate) fn blocks_root(&mut self, chain: &Shared, up_to: BlockNumber) -> StdResult<String> {
        self.read(chain, *up_to)?;
        let mut nodes: Vec<_> =
            self.complete(*up_to)?.into_iter().map(|(range, roots)| (range, MKMapNode::from(roots.all))).collect();
        let last = BlockRange::from_block_number(up_to);
        if !last.is_fully_covered_at(up_to)
            && let Some(roots) = roots(self.between(*last.start, *up_to + 1))?
        {
            nodes.push((last, MKMapNode::from(roots.all)));
        }
        Ok(Map::new_from_iter(nodes)?.compute_root()?.to_hex())
    }

    /// Root over the digests of the immutable files up to a number.
    pub(crate) fn database_root(&mut self, immutable: &Path, up_to: u64) -> StdResult<String> {
        let mut leaves = Vec::new();
        for number in 0..=up_to {
            for extension in ["chunk", "primary", "secondary"] {
                let name = format!("{number:05}.{extension}");
                let digest = match self.digests.get(&name) {
                    Some(digest) => digest.clone(),
                    None => {
                        let digest = hex::encode(Sha256::digest(fs::read(immutable.join(&name))?));
                        self.digests.insert(name, digest.clone());
                        digest
                    }
                };
                leaves.push(MKTreeNode::new(digest.into_bytes()));
            }
        }
        Ok(Tree::new(&leaves)?.compute_root()?.to_hex())
    }

    /// What was closed under a name, or what closes now.
    pub(crate) fn registration(
        &mut self,
        name: String,
        close: impl FnOnce() -> StdResult<SignerBuilder>,
    ) -> StdResult<Arc<SignerBuilder>> {
        if let Some((_, closed)) = self.builders.iter().find(|(known, _)| *known == name) {
            return Ok(Arc::clone(closed));
        }
        let closed = Arc::new(close()?);
        if self.builders.len() >= BUILDERS_MAX {
            self.builders.remove(0);
        }
        self.builders.push((name, Arc::clone(&closed)));
        Ok(closed)
    }
}

/// Number of the newest immutable file that is complete: one below the newest.
pub(crate) fn last_complete(immutable: &Path) -> io::Result<Option<u64>> {
    let newest = fs::read_dir(immutable)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".chunk")?.parse::<u64>().ok())
        .max();
    Ok(newest.and_then(|newest| newest.checked_sub(1)))
}

fn leaf(block: &Block) -> StdResult<Leaf> {
    let read = MultiEraBlock::decode(&block.bytes)?;
    let hash = hex::encode(block.hash);
    let (number, slot) = (BlockNumber(block.number), SlotNumber(block.slot));
    let transactions = read
        .txs()
        .iter()
        .map(|tx| CardanoTransaction::new(hex::encode(*tx.hash()), number, slot, hash.as_str()))
        .collect();
    Ok(Leaf { block: CardanoBlock::new(hash, number, slot), hash: block.hash, transactions })
}

fn roots(leaves: &[Leaf]) -> StdResult<Option<Roots>> {
    if leaves.is_empty() {
        return Ok(None);
    }
    let transactions = || leaves.iter().flat_map(|leaf| &leaf.transactions);
    let mut sorted: Vec<&CardanoTransaction> = transactions().collect();
    sorted.sort_by(|a, b| (a.block_number, &a.transaction_hash).cmp(&(b.block_number, &b.transaction_hash)));
    let all: BTreeSet<CardanoBlockTransactionMkTreeNode> = leaves
        .iter()
        .map(|leaf| leaf.block.clone().into())
        .chain(transactions().map(|transaction| transaction.clone().into()))
        .collect();
    let of_transactions = match sorted.is_empty() {
        true => None,
        false => Some(Tree::new_from_iter(sorted)?.compute_root()?),
    };
    Ok(Some(Roots { transactions: of_transactions, all: Tree::new_from_iter(all)?.compute_root()? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CardanoNet, Options};
    use mithril_common::signable_builder::BlockRangeRootRetriever;
    use std::future::Future;
    use std::ops::Range;
    use std::pin::Pin;

    type Answer<'a, T> = Pin<Box<dyn Future<Output = StdResult<T>> + Send + 'a>>;
    type Roots<'a> = Box<dyn Iterator<Item = (BlockRange, MKTreeNode)> + 'a>;

    /// The library asked as Mithril's own builder asks: it says what to do about a range that is cut.
    struct Oracle(Vec<CardanoBlockTransactionMkTreeNode>);

    impl BlockRangeRootRetriever<MKTreeStoreInMemory> for Oracle {
        fn retrieve_block_range_roots<'a, 'b>(&'a self, up_to: BlockNumber) -> Answer<'b, Roots<'a>>
        where
            'a: 'b,
        {
            let complete = BlockRange::all_block_ranges_in(BlockNumber(0)..=up_to);
            let roots = complete.into_vec().into_iter().map(move |range| {
                let leaves = self.0.iter().filter(|leaf| range.contains(&leaf.block_number())).cloned();
                let leaves: BTreeSet<_> = leaves.collect();
                (range, Tree::new_from_iter(leaves).unwrap().compute_root().unwrap())
            });
            Box::pin(async move { Ok(Box::new(roots) as Roots<'a>) })
        }

        fn retrieve_block_ranges_nodes<'a, 'b>(
            &'a self,
            range: Range<BlockNumber>,
        ) -> Answer<'b, BTreeSet<CardanoBlockTransactionMkTreeNode>>
        where
            'a: 'b,
        {
            let leaves = self.0.iter().filter(|leaf| range.contains(&leaf.block_number())).cloned().collect();
            Box::pin(async move { Ok(leaves) })
        }
    }

    fn net() -> (tempfile::TempDir, CardanoNet) {
        let directory = tempfile::tempdir().unwrap();
        let net = CardanoNet::start(Options::new(directory.path())).unwrap();
        (directory, net)
    }

    #[test]
    fn roots_over_blocks_are_those_of_mithrils_own_builder_wherever_the_last_range_is_cut() {
        let (_directory, net) = net();
        let leaves = net.blocks().iter().map(|block| leaf(block).unwrap()).collect::<Vec<_>>();
        let nodes = leaves.iter().flat_map(|leaf| {
            let transactions = leaf.transactions.iter().map(|transaction| transaction.clone().into());
            std::iter::once(leaf.block.clone().into()).chain(transactions)
        });
        let oracle = Oracle(nodes.collect());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for up_to in [3, 14, 15, 29, 30, 44, 51].map(BlockNumber) {
            let map = runtime.block_on(oracle.compute_merkle_map_from_block_range_roots(up_to)).unwrap();
            let root = Library::default().blocks_root(&net.shared, up_to).unwrap();
            assert_eq!(root, map.compute_root().unwrap().to_hex(), "{up_to}");
        }
    }

    #[test]
    fn after_a_fork_a_library_knows_what_a_new_one_reads() {
        let (_directory, net) = net();
        let mut old = Library::default();
        let before = old.blocks_root(&net.shared, BlockNumber(90)).unwrap();
        for deep in [3, 40, 96] {
            net.fork(deep).unwrap();
            net.advance_blocks(deep).unwrap();
            let mut new = Library::default();
            for up_to in [59, 90].map(BlockNumber) {
                let root = old.blocks_root(&net.shared, up_to).unwrap();
                assert_eq!(root, new.blocks_root(&net.shared, up_to).unwrap());
                let root = old.transactions_root(&net.shared, up_to).unwrap();
                assert_eq!(root, new.transactions_root(&net.shared, up_to).unwrap());
            }
        }
        assert_ne!(old.blocks_root(&net.shared, BlockNumber(90)).unwrap(), before);
    }
}
