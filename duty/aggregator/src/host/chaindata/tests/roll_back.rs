//! The chain behind the immutable files: a node that goes forward, back and astray.

use super::*;
use crate::host::chain::{Blocks, ChainError, Step, View as Tip};
use crate::host::engine::{SourceError, Sources};
use crate::host::files::NodeFiles;
use crate::host::immutable::CachePolicy;
use mithril_common::crypto_helper::KesPeriod;
use mithril_common::entities::{ChainPoint, Epoch, SignedEntityType, StakeDistribution};
use semel_ops::shutdown::Stop;
use std::sync::Mutex as Lock;
use std::time::Duration;

/// A node that has a chain and then says what a script has.
#[derive(Debug, Default)]
struct Node {
    chain: Lock<Vec<Vec<u8>>>,
    /// Steps that come when the chain is told, before the tip.
    then: Lock<Vec<Step>>,
    /// Blocks that were sent.
    sent: Lock<usize>,
}

struct Walk<'a> {
    next: usize,
    first: Option<Option<Place>>,
    node: &'a Node,
}

impl Node {
    fn with(chain: Vec<Vec<u8>>, then: Vec<Step>) -> Self {
        Self { chain: Lock::new(chain), then: Lock::new(then.into_iter().rev().collect()), sent: Lock::default() }
    }
}

impl Observer for &'static Node {
    fn view(&self) -> Result<Tip, ChainError> {
        let chain = self.chain.lock().unwrap();
        let tip = chain.last().and_then(|block| ParsedBlock::parse(block).ok()).unwrap();
        Ok(Tip {
            era: "Conway".to_owned(),
            epoch: Epoch(1),
            tip: ChainPoint::new(SlotNumber(tip.slot), BlockNumber(tip.number), hex::encode(tip.hash)),
            kes_period: KesPeriod(0),
        })
    }

    fn stakes(&self) -> Result<(Tip, StakeDistribution), ChainError> {
        Err(ChainError::Unsupported("this node"))
    }

    fn datums(&self, _: &str) -> Result<Vec<Vec<u8>>, ChainError> {
        Err(ChainError::Unsupported("this node"))
    }

    fn blocks(&self, known: &[Place]) -> Result<Box<dyn Blocks>, ChainError> {
        let chain = self.chain.lock().unwrap();
        let places: Vec<Option<Place>> =
            chain.iter().map(|block| ParsedBlock::parse(block).ok().map(|block| place(&block))).collect();
        let common = known.iter().find_map(|known| places.iter().position(|place| *place == Some(*known)));
        let first = common.and_then(|index| places[index]);
        Ok(Box::new(Walk { next: common.map_or(0, |index| index + 1), first: Some(first), node: self }))
    }
}

impl Blocks for Walk<'static> {
    fn step(&mut self) -> Result<Step, ChainError> {
        if let Some(first) = self.first.take() {
            return Ok(Step::Backward(first));
        }
        if let Some(block) = self.node.chain.lock().unwrap().get(self.next) {
            self.next += 1;
            *self.node.sent.lock().unwrap() += 1;
            return Ok(Step::Forward(block.clone()));
        }
        Ok(self.node.then.lock().unwrap().pop().unwrap_or(Step::AtTip))
    }
}

/// A node that lives as long as the tests.
fn node(chain: Vec<Vec<u8>>, then: Vec<Step>) -> &'static Node {
    Box::leak(Box::new(Node::with(chain, then)))
}

fn open() -> (tempfile::TempDir, ChainData) {
    let home = tempfile::tempdir().unwrap();
    let data = ChainData::open(home.path(), Options::default()).unwrap();
    (home, data)
}

fn follow(data: &ChainData, node: &'static Node, up_to: u64) -> Result<bool, ChainDataError> {
    data.follow(&node, BlockNumber(up_to), &on)
}

#[test]
fn following_a_chain_gives_the_roots_and_proofs_of_the_oracle_at_every_block() {
    let (_home, data) = open();
    let blocks = chain(95, 0, 0);
    assert!(!follow(&data, node(blocks.clone(), vec![]), 1000).unwrap(), "the tip comes before block 1000");
    agrees(&data, &parsed(&blocks), 0..95);
    for up_to in [1, 13, 14, 15, 30, 44, 94] {
        proves(&data, &parsed(&blocks), up_to);
    }
    assert!(matches!(data.transactions_root(BlockNumber(95)), Err(ChainDataError::NotYet { .. })));
}

#[test]
fn nothing_behind_the_wanted_block_is_taken_and_the_rest_comes_later() {
    let (_home, data) = open();
    let node = node(chain(95, 0, 0), vec![]);
    assert!(follow(&data, node, 40).unwrap());
    assert_eq!(data.highest().unwrap().0, BlockNumber(40));
    let sent = *node.sent.lock().unwrap();
    assert!(follow(&data, node, 40).unwrap());
    assert_eq!(*node.sent.lock().unwrap(), sent, "nothing is asked for twice");
    assert!(follow(&data, node, 94).unwrap());
    agrees(&data, &parsed(&chain(95, 0, 0)), 0..95);
}

#[test]
fn a_fork_at_every_border_gives_what_a_fresh_import_of_it_gives() {
    for at in [0, 1, 2, 13, 14, 15, 16, 28, 29, 30, 31, 43, 44, 45, 46, 58, 59, 60, 61, 62, 63] {
        let (home, data) = open();
        follow(&data, node(chain(64, 0, 0), vec![]), 1000).unwrap();
        let fork = chain(70, at, 7);
        assert!(!follow(&data, node(fork.clone(), vec![]), 1000).unwrap());
        agrees(&data, &parsed(&fork), [at.saturating_sub(1), at, at + 1, 44, 59, 69]);
        drop(data);
        let data = ChainData::open(home.path(), Options::default()).unwrap();
        agrees(&data, &parsed(&fork), [at, 59, 69]);
        if at % 15 < 2 {
            proves(&data, &parsed(&fork), 69);
            let gone: Vec<String> = parsed(&chain(64, 0, 0))[at as usize..]
                .iter()
                .flat_map(|block| &block.transactions)
                .map(hex::encode)
                .collect();
            assert_eq!(v2(&data, 69).prove_transactions(&gone).unwrap().transactions_hashes().len(), 0);
        }
    }
}

#[test]
fn going_back_within_what_is_not_written_yet_and_into_what_is() {
    let old = chain(50, 0, 0);
    let places: Vec<Place> = parsed(&old).iter().map(place).collect();
    let fork = chain(52, 30, 3);
    let mut then = vec![Step::Backward(Some(places[45])), Step::Forward(old[46].clone())];
    then.push(Step::Backward(Some(places[29])));
    then.extend(fork[30..].iter().cloned().map(Step::Forward));
    let (_home, data) = open();
    append(&data, &old[..40]).unwrap();
    follow(&data, node(old, then), 1000).unwrap();
    agrees(&data, &parsed(&fork), 25..52);

    let all_back = vec![Step::Backward(None), Step::Forward(fork[0].clone())];
    let (_home, data) = open();
    follow(&data, node(fork.clone(), all_back), 1000).unwrap();
    assert_eq!(data.counts().0, 1);
}

#[test]
fn a_chain_that_goes_back_below_a_certified_block_is_refused_now_and_after_a_restart() {
    let (home, data) = open();
    let old = chain(64, 0, 0);
    follow(&data, node(old.clone(), vec![]), 1000).unwrap();
    proves(&data, &parsed(&old), 44);
    assert_eq!(data.certified().unwrap(), Some(BlockNumber(44)));
    let refused = |data: &ChainData, at: u64| match follow(data, node(chain(80, at, 5), vec![]), 1000) {
        Err(ChainDataError::BelowCertified { to, certified }) => {
            assert!(to.is_none_or(|to| *to < 44));
            assert_eq!(certified, BlockNumber(44));
        }
        other => panic!("{other:?}"),
    };
    refused(&data, 44);
    refused(&data, 0);
    drop(data);
    let data = ChainData::open(home.path(), Options::default()).unwrap();
    refused(&data, 44);
    refused(&data, 20);
    agrees(&data, &parsed(&old), [43, 44, 63]);
    follow(&data, node(chain(80, 45, 5), vec![]), 1000).unwrap();
    agrees(&data, &parsed(&chain(80, 45, 5)), [44, 45, 79]);
}

/// The node's files as the aggregator has them; a node is believed at its third look.
fn files(home: &Path, node: &'static Node) -> NodeFiles {
    NodeFiles {
        db: None,
        observer: Arc::new(node),
        store: crate::host::store::Store::open(&home.join("stores")).unwrap(),
        digests: Lock::new(CachePolicy::Off),
        maker: None,
        chain: Some(ChainData::open(&home.join("chain-data"), Options::default()).unwrap()),
        provers: Provers::default(),
        preload_offset: BlockNumberOffset(10),
        insistence: Lock::new(Insistence::after(Duration::ZERO)),
        stop: Stop::new(),
    }
}

fn refused(files: &NodeFiles, up_to: u64, text: &str) {
    match files.transactions_root(BlockNumber(up_to)) {
        Err(SourceError::Failed(why)) => assert!(why.contains(text), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_that_keeps_to_another_chain_is_followed_below_a_certified_block_and_nothing_old_is_proven() {
    let home = tempfile::tempdir().unwrap();
    let node = node(chain(64, 0, 0), vec![]);
    let files = files(home.path(), node);
    let root = files.transactions_root(BlockNumber(29)).unwrap();
    files.certified(&SignedEntityType::CardanoTransactions(Epoch(1), BlockNumber(29)), "low", &root).unwrap();
    let root = files.blocks_transactions_root(BlockNumber(63)).unwrap();
    let high = SignedEntityType::CardanoBlocksTransactions(Epoch(1), BlockNumber(63), BlockNumberOffset(9));
    files.certified(&high, "high", &root).unwrap();
    let data = files.chain.as_ref().unwrap();

    // A node that has fewer blocks than are here may still catch up, however often it is asked.
    *node.chain.lock().unwrap() = chain(50, 40, 7);
    (0..4).for_each(|_| refused(&files, 89, "catch up"));
    let fork = chain(120, 40, 7);
    *node.chain.lock().unwrap() = fork.clone();
    refused(&files, 89, "below block 63");
    // What is here already is no word of the node's.
    files.blocks_transactions_root(BlockNumber(59)).unwrap();
    refused(&files, 89, "below block 63");
    assert!(files.provers.blocks_transactions().is_some());
    files.transactions_root(BlockNumber(89)).unwrap();
    agrees(data, &parsed(&fork), [29, 39, 44, 59, 89]);
    assert!(files.provers.blocks_transactions().is_none(), "its blocks are gone");
    let low = files.provers.transactions().unwrap();
    assert_eq!(low.certified().certificate_hash, "low");
    let hashes: Vec<String> =
        parsed(&fork[..30]).iter().flat_map(|block| &block.transactions).map(hex::encode).collect();
    let message = low.prove(&hashes).unwrap();
    message.verify().unwrap();
    assert_eq!(message.transactions_hashes().len(), hashes.len());
    // And what is certified from now on holds again.
    data.certify(BlockNumber(89)).unwrap();
    *node.chain.lock().unwrap() = chain(140, 80, 9);
    refused(&files, 119, "below block 89");
}

#[test]
fn the_import_at_start_ends_so_many_blocks_below_the_tip() {
    let home = tempfile::tempdir().unwrap();
    let node = node(chain(64, 0, 0), vec![]);
    let files = files(home.path(), node);
    files.preload().unwrap();
    assert_eq!(files.chain.as_ref().unwrap().highest().unwrap().0, BlockNumber(53));
    *node.chain.lock().unwrap() = chain(5, 0, 0);
    let (home, node) = (tempfile::tempdir().unwrap(), node);
    self::files(home.path(), node).preload().unwrap();
}

#[test]
fn nobody_is_followed_further_back_than_a_network_goes() {
    let home = tempfile::tempdir().unwrap();
    let node = node(chain(2200, 0, 0), vec![]);
    let files = files(home.path(), node);
    files.transactions_root(BlockNumber(2199)).unwrap();
    let data = files.chain.as_ref().unwrap();
    data.certify(BlockNumber(2100)).unwrap();
    *node.chain.lock().unwrap() = chain(2300, 30, 7);
    (0..4).for_each(|_| refused(&files, 2299, "it is not believed"));
    assert!(matches!(data.give_up(Some(BlockNumber(29))), Err(ChainDataError::BelowCertified { .. })));
    // As far as a network goes, a place is known that the node has too.
    *node.chain.lock().unwrap() = chain(2300, 45, 7);
    (0..2).for_each(|_| refused(&files, 2299, "minutes"));
    files.transactions_root(BlockNumber(2299)).unwrap();
    agrees(data, &parsed(&chain(2300, 45, 7)), [44, 2299]);
}

#[test]
fn what_does_not_follow_is_refused_and_changes_nothing() {
    let good = chain(30, 0, 0);
    let last = parsed(&good)[29].clone();
    let lies = [
        ("the number jumps", cbor(31, 10_000, Some(last.hash), &[])),
        ("the number stays", cbor(29, 10_000, Some(last.hash), &[])),
        ("the number falls", cbor(3, 10_000, Some(last.hash), &[])),
        ("the slot stays", cbor(30, last.slot, Some(last.hash), &[])),
        ("the slot falls", cbor(30, 1, Some(last.hash), &[])),
        ("another block before it", cbor(30, 10_000, Some([1; 32]), &[])),
        ("no block before it", cbor(30, 10_000, None, &[])),
        ("not a block", vec![0x82, 7, 0x80]),
        ("an unknown era", vec![0x82, 8, 0x80]),
        ("bytes behind it", [cbor(30, 10_000, Some(last.hash), &[]), vec![0]].concat()),
        ("nothing", vec![]),
    ];
    for (lie, block) in lies {
        let (_home, data) = open();
        append(&data, &good).unwrap();
        let told = follow(&data, node(good.clone(), vec![Step::Forward(block)]), 1000);
        assert!(
            matches!(told, Err(ChainDataError::NotNext { .. } | ChainDataError::Unparsable { .. })),
            "{lie}: {told:?}"
        );
        assert_eq!(data.highest(), Some((BlockNumber(29), place(&last))), "{lie}");
        agrees(&data, &parsed(&good), [14, 29]);
    }
    let (_home, data) = open();
    append(&data, &good).unwrap();
    let beyond = vec![Step::Forward(cbor(2000, 90_000, Some(last.hash), &[]))];
    let told = follow(&data, node(good.clone(), beyond), 1000);
    assert!(matches!(told, Err(ChainDataError::NotNext { number: 2000, .. })), "a jump over what is wanted: {told:?}");
    let (_home, data) = open();
    assert!(matches!(append(&data, &good[2..]), Err(ChainDataError::NotNext { number: 2, .. })));
    let wrong = Step::Backward(Some(Place { slot: last.slot, hash: [9; 32] }));
    let told = follow(&data, node(good.clone(), vec![wrong.clone()]), 1000);
    assert!(matches!(told, Err(ChainDataError::OtherBlock { .. })), "{told:?}");
    append(&data, &good).unwrap();
    let told = follow(&data, node(good, vec![wrong]), 1000);
    assert!(matches!(told, Err(ChainDataError::OtherBlock { .. })), "{told:?}");
}

#[test]
fn where_blocks_may_be_left_out_numbers_are_still_bounded() {
    let home = tempfile::tempdir().unwrap();
    let options = Options { allow_unparsable_block: true, ..Options::default() };
    let data = ChainData::open(home.path(), options).unwrap();
    for number in [u64::MAX, 1 << 32, 100_000] {
        let told = data.follow(&node(vec![cbor(number, 5, None, &[])], vec![]), BlockNumber(u64::MAX), &on);
        assert!(matches!(told, Err(ChainDataError::NotNext { .. })), "{told:?}");
    }
    // A block that cannot be parsed leaves a gap, here as in the immutable files.
    let mut blocks = chain(40, 0, 0);
    blocks[33] = vec![0x82, 7];
    let gap = node(blocks.clone(), vec![]);
    let one = data.follow(&gap, BlockNumber(33), &on);
    assert!(one.unwrap(), "there is a way behind a wanted block that cannot be parsed");
    data.follow(&gap, BlockNumber(39), &on).unwrap();
    blocks.remove(33);
    agrees(&data, &parsed(&blocks), [29, 32, 33, 34, 39]);
}

#[test]
fn a_prover_stays_as_it_is_while_the_chain_grows_forks_and_is_asked_by_many() {
    let (_home, data) = open();
    let blocks = chain(200, 0, 0);
    append(&data, &blocks[..100]).unwrap();
    let certified = parsed(&blocks[..=80]);
    let hashes: Vec<String> = certified.iter().flat_map(|block| &block.transactions).map(hex::encode).collect();
    let provers = Provers::default();
    assert!(provers.transactions().is_none() && provers.blocks_transactions().is_none());
    provers.set_transactions(v1(&data, 80));
    provers.set_blocks_transactions(v2(&data, 80));
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (provers, hashes) = (&provers, &hashes);
            scope.spawn(move || {
                for round in 0..40 {
                    let some: Vec<String> = hashes.iter().skip((round + reader) % 7).step_by(7).cloned().collect();
                    let prover = provers.transactions().unwrap();
                    let message = prover.prove(&some).unwrap();
                    message.verify().unwrap();
                    let prover = provers.blocks_transactions().unwrap();
                    let message = prover.prove_transactions(&some).unwrap();
                    assert_eq!(message.non_certified_transactions, Vec::<String>::new());
                    assert_eq!(message.verify().unwrap().certified_merkle_root(), prover.certified().merkle_root);
                }
            });
        }
        for at in 81..100 {
            follow(&data, node(chain(100 + at, at, at), vec![]), 1000).unwrap();
            if at % 5 == 0 {
                // The part of the range that block 80 cuts is complete now: both provers are right.
                provers.set_blocks_transactions(v2(&data, at - 1));
            }
        }
    });
}

#[test]
fn hashes_are_bounded_and_what_is_not_a_hash_is_not_certified() {
    let (_home, data) = open();
    let blocks = chain(64, 0, 0);
    append(&data, &blocks).unwrap();
    let known = hex::encode(parsed(&blocks)[3].transactions[0]);
    let prover = v1(&data, 63);
    let asked = [
        known.clone(),
        known.to_uppercase(),
        known.clone(),
        "ff".repeat(32),
        "zz".into(),
        String::new(),
        "é".repeat(32),
    ];
    let message = prover.prove(&asked).unwrap();
    assert_eq!(message.transactions_hashes(), std::slice::from_ref(&known));
    assert_eq!(message.non_certified_transactions.len(), 5);
    message.verify().unwrap();
    let none = prover.prove(&asked[3..]).unwrap();
    assert!(none.certified_transactions.is_empty());
    assert_eq!(v2(&data, 63).prove_blocks(&asked).unwrap().certified_blocks, None);
    let many = vec![known; 101];
    assert!(matches!(prover.prove(&many), Err(ChainDataError::TooMany { asked: 101, most: 100 })));
    let other = data.transactions_prover(certified(59, "00"));
    assert!(matches!(other, Err(ChainDataError::OtherRoot { .. })));
}

#[test]
fn a_certificate_whose_last_range_is_whole_is_proven_too_and_keeps_that_range() {
    let (_home, data) = open();
    let blocks = chain(64, 0, 0);
    append(&data, &blocks).unwrap();
    let whole = data.blocks_transactions_root(BlockNumber(44)).unwrap();
    let prover = data.blocks_transactions_prover(certified(38, &whole), BlockNumberOffset(9)).unwrap();
    assert_eq!(data.certified().unwrap(), Some(BlockNumber(44)), "its blocks are certified as well");
    let hashes: Vec<String> = parsed(&blocks).iter().map(|block| hex::encode(block.hash)).collect();
    let message = prover.prove_blocks(&hashes).unwrap();
    assert_eq!(message.verify().unwrap().certified_merkle_root(), whole);
    assert_eq!((message.blocks_hashes().len(), *message.latest_block_number), (39, 38));
    let of_the_next = data.blocks_transactions_root(BlockNumber(59)).unwrap();
    let told = data.blocks_transactions_prover(certified(38, &of_the_next), BlockNumberOffset(9));
    assert!(matches!(told, Err(ChainDataError::OtherRoot { .. })));
    assert_eq!(data.certified().unwrap(), Some(BlockNumber(44)), "what is refused certifies nothing");
}
