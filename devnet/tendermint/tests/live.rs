//! The network on the real clock, with small signers that call over TCP. Waits are for events, never for a time.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod peer;

use peer::{Habit, Peer, public_key};
use semel_devnet_tendermint::{
    Config, Devnet, Snapshot,
    consensus::{Height, Timeouts},
    network::{Faults, Partition, Restart},
    privval::Family,
};
use std::time::{Duration, Instant};

const CHAIN: &str = "live-test";
const PATIENCE: Duration = Duration::from_secs(60);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn config(validators: u8) -> Config {
    let keys = (0..validators).map(|n| public_key([n + 1; 32]));
    let timeouts =
        Timeouts { propose: ms(600), prevote: ms(200), precommit: ms(200), increment: ms(100), commit: ms(120) };
    Config { timeouts, patience: PATIENCE, ..Config::new(CHAIN, keys) }
}

/// Starts the network and a signer for each validator.
fn start(config: Config) -> (Devnet, Vec<Peer>) {
    let family = config.family;
    let devnet = Devnet::start(config).unwrap();
    let count = devnet.addresses().len() as u8;
    let peers: Vec<_> = (0..count).map(|n| Peer::new([n + 1; 32], CHAIN, family)).collect();
    for (peer, address) in peers.iter().zip(devnet.addresses()) {
        peer.call(address);
    }
    if let Some(address) = devnet.attack_address() {
        peers[0].call(address);
    }
    assert!(devnet.wait_signers(PATIENCE));
    (devnet, peers)
}

fn assert_calm(snapshot: &Snapshot) {
    assert_eq!(snapshot.evidence, []);
    assert_eq!((snapshot.disagreements, snapshot.rejected), (0, 0));
}

#[test]
fn every_block_carries_all_signatures_in_every_family() {
    for family in Family::ALL {
        let extensions = family == Family::V038;
        let (devnet, _peers) = start(Config { family, extensions, ..config(4) });
        assert!(devnet.wait_height(Height(8), PATIENCE), "{family}: {:?}", devnet.snapshot());
        let begin = Instant::now();
        let snapshot = devnet.stop();
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        assert_calm(&snapshot);
        assert!(snapshot.blocks_settled >= 8);
        for (n, block) in snapshot.blocks.iter().take(8).enumerate() {
            assert_eq!((block.height, block.settled), (Height(n as u64 + 1), true));
            assert_eq!((&block.signers[..], &block.missing[..]), (&[0, 1, 2, 3][..], &[][..]), "{family}: {block:?}");
        }
        assert_eq!(snapshot.blocks_incomplete, 0);
        for validator in &snapshot.validators {
            assert!(validator.connected && validator.signed >= 16 && validator.refused == 0, "{validator:?}");
            assert!(validator.latency.samples >= 16 && validator.latency.p50 <= validator.latency.p99);
        }
    }
}

#[test]
fn an_attacker_is_refused_every_time() {
    let (devnet, _peers) = start(Config { attack: true, ..config(4) });
    assert!(devnet.wait_height(Height(8), PATIENCE));
    let snapshot = devnet.stop();
    let attack = snapshot.attack.clone().unwrap();
    assert!(attack.asked >= 16, "{attack:?}");
    assert_eq!((attack.refused, attack.granted, attack.unanswered), (attack.asked, 0, 0));
    assert!(attack.last_refusal.unwrap().contains("code 2"));
    assert_calm(&snapshot);
    assert_eq!(snapshot.blocks_incomplete, 0, "the attack costs no signature");
}

#[test]
fn an_attacker_with_a_signer_that_signs_anything_is_seen() {
    let config = Config { attack: true, ..config(4) };
    let devnet = Devnet::start(config).unwrap();
    for (n, address) in (0..4).zip(devnet.addresses()) {
        Peer::reckless([n + 1; 32], CHAIN, Family::V038).call(address);
    }
    Peer::reckless([1; 32], CHAIN, Family::V038).call(devnet.attack_address().unwrap());
    assert!(devnet.wait_height(Height(8), PATIENCE));
    let snapshot = devnet.stop();
    assert!(snapshot.attack.unwrap().granted > 0);
    assert!(!snapshot.evidence.is_empty());
    assert!(snapshot.evidence.iter().all(|evidence| evidence.validator == 0));
}

#[test]
fn an_equivocating_proposer_gets_no_second_signature_from_its_signer() {
    let (devnet, _peers) = start(Config { equivocators: vec![2], ..config(4) });
    assert!(devnet.wait_height(Height(8), PATIENCE), "{:?}", devnet.snapshot());
    let snapshot = devnet.stop();
    assert_calm(&snapshot);
    assert!(snapshot.validators[2].refused >= 8, "{:?}", snapshot.validators[2]);
    assert!([0, 1, 3].iter().all(|n| snapshot.validators[*n].refused == 0));
}

#[test]
fn drops_delays_partitions_and_restarts_split_nothing_and_the_chain_goes_on() {
    let faults = Faults {
        drop_per_mille: 50,
        delay: (ms(1), ms(40)),
        partitions: vec![Partition { from: ms(300), until: ms(1200), side: vec![0, 3] }],
        restarts: vec![
            Restart { node: 1, at: ms(200), down_for: ms(300) },
            Restart { node: 2, at: ms(1500), down_for: ms(400) },
        ],
        until: Some(ms(3000)),
    };
    let (devnet, _peers) = start(Config { faults, ..config(4) });
    assert!(devnet.wait_height(Height(20), PATIENCE), "{:?}", devnet.snapshot());
    let snapshot = devnet.stop();
    assert_eq!((snapshot.evidence, snapshot.disagreements), (vec![], 0));
    assert!(snapshot.validators[1].connections >= 2, "a node that restarts hangs up");
}

#[test]
fn a_chain_stands_without_two_of_four_and_goes_on_when_they_are_back() {
    let (devnet, _peers) = start(config(4));
    assert!(devnet.wait_height(Height(3), PATIENCE));
    devnet.take_down(0);
    devnet.take_down(1);
    assert!(!devnet.wait_height(Height(1_000_000), ms(700)));
    let stood = devnet.snapshot().height;
    assert!(!devnet.wait_height(stood.next(), ms(700)), "two of four decide nothing");
    devnet.bring_back(0);
    devnet.bring_back(1);
    assert!(devnet.wait_height(Height(stood.0 + 5), PATIENCE), "{:?}", devnet.snapshot());
    assert_calm(&devnet.stop());
}

#[test]
fn a_refusing_signer_costs_its_signatures_and_no_block() {
    let devnet = Devnet::start(config(4)).unwrap();
    for (n, address) in (0..4).zip(devnet.addresses()) {
        let habit = if n == 3 { Habit::Refuses } else { Habit::None };
        Peer::new([n + 1; 32], CHAIN, Family::V038).with(habit).call(address);
    }
    assert!(devnet.wait_height(Height(4), PATIENCE), "{:?}", devnet.snapshot());
    let snapshot = devnet.stop();
    assert_calm(&snapshot);
    assert!(snapshot.blocks.iter().filter(|block| block.settled).all(|block| block.missing == [3]));
    assert!(snapshot.blocks_incomplete >= 4);
    assert!(snapshot.validators[3].last_error.as_deref().unwrap().contains("a test says no"));
}

#[test]
fn signers_that_hang_up_after_signing_are_asked_again_and_sign_once() {
    let devnet = Devnet::start(config(4)).unwrap();
    for (n, address) in (0..4).zip(devnet.addresses()) {
        Peer::new([n + 1; 32], CHAIN, Family::V038).with(Habit::ClosesOften).call(address);
    }
    assert!(devnet.wait_height(Height(10), PATIENCE), "{:?}", devnet.snapshot());
    let snapshot = devnet.stop();
    assert_calm(&snapshot);
    assert!(snapshot.validators.iter().all(|v| v.connections >= 3 && v.refused == 0), "{:?}", snapshot.validators);
}

#[test]
fn a_signer_with_another_key_is_not_taken() {
    let devnet = Devnet::start(Config { patience: ms(50), ..config(1) }).unwrap();
    Peer::new([1; 32], CHAIN, Family::V038).with(Habit::OtherKey).call(&devnet.addresses()[0]);
    assert!(!devnet.wait_signers(ms(400)));
    assert!(!devnet.snapshot().validators[0].connected);
    Peer::new([1; 32], CHAIN, Family::V038).call(&devnet.addresses()[0]);
    assert!(devnet.wait_signers(PATIENCE));
}

#[test]
fn an_idle_signer_is_pinged() {
    // One of four connected: nothing can be decided, so after its votes of round 0 the signer hears pings only.
    let devnet = Devnet::start(Config { patience: ms(50), ..config(4) }).unwrap();
    let (pings, heard) = std::sync::mpsc::channel();
    Peer::new([1; 32], CHAIN, Family::V038).tell_pings(pings).call(&devnet.addresses()[0]);
    heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(devnet.snapshot().height, Height(0));
}
