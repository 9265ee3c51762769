//! The aggregator's observer of a node against this network's node, on real preview blocks where they are.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use mithril_common::crypto_helper::KesPeriod;
use mithril_common::entities::{CardanoNetwork, Epoch};
use pallas_traverse::MultiEraBlock;
use semel_aggregator::host::chain::cardano_cli::CardanoCli;
use semel_aggregator::host::chain::node::Node;
use semel_aggregator::host::chain::{Blocks, ChainError, Observer, Place, Step};
use semel_devnet_cardano::block::Block;
use semel_devnet_cardano::{CardanoNet, Options};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Real immutable files; without, the test is on record as skipped.
fn preview(test: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cardano/preview/immutable");
    if path.is_dir() {
        return Some(path);
    }
    if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{test}: no preview blocks under ../shared/data").unwrap();
    }
    None
}

fn net(change: impl FnOnce(&mut Options)) -> (TempDir, CardanoNet, Node) {
    let directory = tempfile::tempdir().unwrap();
    let mut options = Options::new(directory.path());
    change(&mut options);
    let net = CardanoNet::start(options).unwrap();
    let node = Node::new(net.socket(), net.magic());
    (directory, net, node)
}

fn place(block: &Block) -> Place {
    Place { slot: block.slot, hash: block.hash }
}

fn forward(walk: &mut dyn Blocks) -> Vec<u8> {
    match walk.step().unwrap() {
        Step::Forward(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn assert_backward(walk: &mut dyn Blocks, to: Option<Place>) {
    assert_eq!(walk.step().unwrap(), Step::Backward(to));
}

#[test]
fn a_view_is_era_epoch_tip_and_kes_period_of_one_state() {
    let Some(real) = preview("a_view_is_era_epoch_tip_and_kes_period_of_one_state") else { return };
    let (_directory, net, node) = net(|options| {
        options.immutable = Some(real);
        options.first_trios = 31;
    });
    let tip = net.tip().unwrap();
    let view = node.view().unwrap();
    assert_eq!((view.era.as_str(), view.epoch), ("Conway", Epoch(10)));
    assert_eq!(*view.tip.slot_number, tip.slot);
    assert_eq!(*view.tip.block_number, tip.number);
    assert_eq!(view.tip.block_hash, hex::encode(tip.hash));
    assert_eq!(view.kes_period, KesPeriod(1), "slot {} of periods of 129,600", tip.slot);

    net.advance_epoch().unwrap();
    let next = node.view().unwrap();
    assert_eq!(next.epoch, Epoch(11));
    assert!(next.tip.slot_number > view.tip.slot_number);
}

#[test]
fn stakes_are_the_mark_of_the_current_epoch() {
    let (_directory, net, node) = net(|_| {});
    let (view, stakes) = node.stakes().unwrap();
    assert_eq!(view.epoch, Epoch(10));
    assert_eq!(stakes, net.stakes());
    assert_eq!(stakes[&net.pools()[1].party_id], 2_000_000_000_000 + 10 * 1_000_000);

    net.set_stakes(Epoch(11), &[7, 0, 9]);
    net.advance_epoch().unwrap();
    let (view, stakes) = node.stakes().unwrap();
    assert_eq!(view.epoch, Epoch(11));
    assert_eq!(stakes, net.stakes());
    assert_eq!(stakes.len(), 2, "pools without stake are left out");

    net.set_no_stake(true);
    assert!(matches!(node.stakes(), Err(ChainError::NoStake(Epoch(11)))));
}

#[test]
fn stakes_are_refused_when_the_epoch_moves_while_they_are_read() {
    let (_directory, net, node) = net(|_| {});
    net.move_epoch_with_next_stakes();
    match node.stakes() {
        Err(ChainError::EpochMoved { before, after }) => assert_eq!((before, after), (Epoch(10), Epoch(11))),
        other => panic!("{other:?}"),
    }
    assert_eq!(node.stakes().unwrap().0.epoch, Epoch(11), "asking again helps");
}

#[test]
fn an_epoch_that_goes_back_is_told_as_it_is() {
    let (_directory, net, node) = net(|_| {});
    net.set_epoch(Epoch(8));
    assert_eq!(node.view().unwrap().epoch, Epoch(8));
}

#[test]
fn blocks_come_over_the_socket_also_where_cardano_cli_tells_the_rest() {
    let (_directory, net, _) = net(|options| options.first_trios = 3);
    let network = CardanoNetwork::TestNet(net.magic());
    let cli = CardanoCli::new("/nowhere/cardano-cli", net.socket(), network);
    let mut walk = cli.blocks(&[]).unwrap();
    assert_backward(&mut *walk, None);
    forward(&mut *walk);
    let without = CardanoCli::new("/nowhere/cardano-cli", "", network);
    assert!(matches!(without.blocks(&[]), Err(ChainError::Unsupported(_))));
}

#[test]
fn a_walk_gives_every_real_block_and_then_waits() {
    let Some(real) = preview("a_walk_gives_every_real_block_and_then_waits") else { return };
    let (_directory, net, node) = net(|options| options.immutable = Some(real));
    let blocks = net.blocks();
    assert_eq!(blocks.len(), 864);
    let mut walk = node.blocks(&[]).unwrap();
    assert_backward(&mut *walk, None);
    for block in &blocks {
        let bytes = forward(&mut *walk);
        let read = MultiEraBlock::decode(&bytes).unwrap();
        assert_eq!((read.slot(), read.number(), *read.hash()), (block.slot, block.number, block.hash));
    }
    assert_eq!(walk.step().unwrap(), Step::AtTip);
    assert_eq!(walk.step().unwrap(), Step::AtTip);
    net.advance_blocks(1).unwrap();
    assert_eq!(forward_when_there(&mut *walk), net.tip().unwrap().bytes.to_vec());
}

/// The next block; the news of it takes a moment.
fn forward_when_there(walk: &mut dyn Blocks) -> Vec<u8> {
    for _ in 0..1_000 {
        match walk.step().unwrap() {
            Step::AtTip => {}
            Step::Forward(bytes) => return bytes,
            other => panic!("{other:?}"),
        }
    }
    panic!("no block comes");
}

#[test]
fn a_walk_begins_at_the_newest_known_place_of_the_chain() {
    let (_directory, net, node) = net(|_| {});
    let blocks = net.blocks();
    let unknown = Place { slot: blocks[9].slot, hash: [9; 32] };
    let mut walk = node.blocks(&[unknown, place(&blocks[7]), place(&blocks[3])]).unwrap();
    assert_backward(&mut *walk, Some(place(&blocks[7])));
    assert_eq!(forward(&mut *walk), blocks[8].bytes.to_vec());
    let mut walk = node.blocks(&[unknown]).unwrap();
    assert_backward(&mut *walk, None);
}

#[test]
fn a_walk_follows_a_roll_back_and_a_fork_below_what_is_immutable() {
    let Some(real) = preview("a_walk_follows_a_roll_back_and_a_fork_below_what_is_immutable") else { return };
    let (_directory, net, node) = net(|options| options.immutable = Some(real));
    let blocks = net.blocks();
    let last = blocks.len() - 1;
    let mut walk = node.blocks(&[place(&blocks[last - 2])]).unwrap();
    assert_backward(&mut *walk, Some(place(&blocks[last - 2])));
    assert_eq!(forward(&mut *walk), blocks[last - 1].bytes.to_vec());

    net.roll_back(5).unwrap();
    assert_backward(&mut *walk, Some(place(&blocks[last - 5])));
    net.advance_blocks(5).unwrap();
    assert_eq!(forward_when_there(&mut *walk), blocks[last - 4].bytes.to_vec(), "the same blocks come again");

    net.fork(400).unwrap();
    assert_backward(&mut *walk, Some(place(&blocks[last - 400])));
    net.advance_blocks(3).unwrap();
    let other = forward_when_there(&mut *walk);
    let read = MultiEraBlock::decode(&other).unwrap();
    assert_eq!(read.number(), blocks[last - 400].number + 1);
    assert_ne!(*read.hash(), blocks[last - 399].hash);
}

#[test]
fn a_switch_to_a_longer_fork_is_a_roll_back_and_the_blocks_of_the_fork() {
    let (_directory, net, node) = net(|_| {});
    let blocks = net.blocks();
    let meet = place(&blocks[blocks.len() - 4]);
    let mut walk = node.blocks(&[place(&net.tip().unwrap())]).unwrap();
    assert_backward(&mut *walk, Some(place(&net.tip().unwrap())));
    net.switch_fork(3, 2).unwrap();
    assert_backward(&mut *walk, Some(meet));
    let fork = net.blocks().split_off(blocks.len() - 3);
    assert_eq!(fork.len(), 5);
    for block in fork {
        assert_eq!(forward(&mut *walk), block.bytes.to_vec());
        assert!(!blocks.iter().any(|other| other.hash == block.hash));
    }
}

#[test]
fn a_roll_back_of_everything_leads_behind_the_origin() {
    let (_directory, net, node) = net(|_| {});
    let mut walk = node.blocks(&[place(&net.tip().unwrap())]).unwrap();
    assert_backward(&mut *walk, Some(place(&net.tip().unwrap())));
    assert_eq!(walk.step().unwrap(), Step::AtTip);
    net.roll_back(1_000_000).unwrap();
    loop {
        match walk.step().unwrap() {
            Step::AtTip => {}
            step => break assert_eq!(step, Step::Backward(None)),
        }
    }
    let view = node.view().unwrap();
    assert_eq!((view.tip.block_hash.as_str(), *view.tip.block_number), ("", 0), "a node without a block");
}

#[test]
fn a_genesis_without_kes_periods_is_refused() {
    let (_directory, _net, node) = net(|options| options.slots_per_kes_period = 0);
    let error = node.view().unwrap_err();
    assert!(matches!(&error, ChainError::Answer { why, .. } if why.contains("KES")), "{error}");
}

#[test]
fn an_era_that_is_not_known_yet_has_a_number() {
    let (_directory, _net, node) = net(|options| options.era = 7);
    assert_eq!(node.view().unwrap().era, "era 7");
}

#[test]
fn many_clients_are_served_at_once_and_one_that_breaks_off_disturbs_nobody() {
    let (_directory, net, node) = net(|_| {});
    let mut idle: Vec<_> = (0..50).map(|_| std::os::unix::net::UnixStream::connect(net.socket()).unwrap()).collect();
    for stream in idle.iter_mut().step_by(2) {
        stream.write_all(&[0, 0, 0, 0, 0, 0, 0, 9, 0xff]).unwrap();
    }
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let node = node.clone();
            std::thread::spawn(move || (0..5).all(|_| node.stakes().is_ok()))
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
}

#[test]
fn inline_datums_of_an_address_and_nothing_of_another() {
    let (_directory, net, node) = net(|_| {});
    let address = pallas_addresses::Address::from_bech32(ADDRESS).unwrap();
    assert!(node.datums(ADDRESS).unwrap().is_empty());
    let datums = vec![vec![0x81, 0x05], vec![0x82, 1, 2], vec![0x81; 9_000]];
    net.set_datums(address.to_vec(), datums.clone());
    assert_eq!(node.datums(ADDRESS).unwrap(), datums);
    assert!(matches!(node.datums("addr_test1nonsense"), Err(ChainError::Answer { .. })));
}

/// An enterprise address of a test network.
const ADDRESS: &str = "addr_test1vz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzerspjrlsz";

#[test]
fn a_node_of_another_network_and_a_socket_that_is_not_there_are_unreachable() {
    let (directory, net, _) = net(|_| {});
    let error = Node::new(net.socket(), 1).view().unwrap_err();
    assert!(matches!(&error, ChainError::Unreachable { why, .. } if why.contains("magic 1")), "{error}");
    let error = Node::new(directory.path().join("absent"), 2).view().unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    net.stop();
    let error = Node::new(directory.path().join("node.socket"), 2).view().unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
}

/// A node that accepts one client and does what it is told.
fn strange_node(conduct: impl FnOnce(std::os::unix::net::UnixStream) + Send + 'static) -> (TempDir, Node) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || conduct(listener.accept().unwrap().0));
    (directory, Node::new(path, 2).with_patience(Duration::from_millis(300)))
}

#[test]
fn a_node_that_never_answers_costs_no_more_than_patience() {
    let (_directory, node) = strange_node(|mut stream| {
        let mut all = Vec::new();
        drop(stream.read_to_end(&mut all));
    });
    let begun = Instant::now();
    let error = node.stakes().unwrap_err();
    assert!(matches!(&error, ChainError::Unreachable { why, .. } if why.contains("300 ms")), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_node_that_talks_garbage_is_refused() {
    let (_directory, node) = strange_node(|mut stream| {
        // A segment of the handshake whose payload is no CBOR.
        drop(stream.write_all(&[0, 0, 0, 0, 0x80, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]));
        drop(stream.read(&mut [0; 1_024]));
    });
    let error = node.view().unwrap_err();
    assert!(matches!(error, ChainError::Answer { .. }), "{error}");
}

#[test]
fn a_node_that_never_ends_its_answer_is_cut_off() {
    let (_directory, node) = strange_node(|mut stream| {
        // A handshake refused with a reason of 4 GiB.
        let mut segment = vec![0, 0, 0, 0, 0x80, 0, 0xff, 0xff];
        segment.extend([0x82, 2, 0x83, 2, 16, 0x7a, 0xff, 0xff, 0xff, 0xff]);
        segment.resize(8 + 0xffff, b'x');
        drop(stream.write_all(&segment));
        let tail = segment.split_at_mut(8).1;
        tail.fill(b'x');
        while stream.write_all(&segment).is_ok() {}
    });
    let error = node.with_patience(Duration::from_secs(60)).view().unwrap_err();
    assert!(matches!(&error, ChainError::Answer { why, .. } if why.contains("longer")), "{error}");
}
