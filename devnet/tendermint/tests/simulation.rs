//! Whole networks on a virtual clock: agreement always, progress once faults stop, no contradiction by honest validators.

#![expect(clippy::unwrap_used, reason = "tests")]

use semel_devnet_tendermint::{
    consensus::{Encoding, Height},
    network::{Faults, Partition, Restart, Simulation, SimulationConfig, dice::Dice},
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn run(config: SimulationConfig, height: u64, deadline: Duration) -> Simulation {
    let shown = format!("{config:?}");
    let mut simulation = Simulation::new(config).unwrap();
    let arrived = simulation.run_until(Height(height), deadline);
    assert_eq!(simulation.disagreements(), [], "{shown}");
    assert!(arrived, "at height {} after {:?}: {shown}", simulation.height(), simulation.now());
    simulation
}

#[test]
fn quiet_networks_make_200_blocks_in_round_0_that_carry_every_signature() {
    for (validators, encoding, extensions) in [
        (4, Encoding::Protobuf, false),
        (7, Encoding::Amino, false),
        (1, Encoding::Protobuf, false),
        (4, Encoding::Protobuf, true),
    ] {
        // Links keep their order, as TCP does; then no node sees a decision before it could vote.
        let delay = (Duration::from_millis(10), Duration::from_millis(10));
        let faults = Faults { delay, ..Faults::default() };
        let config =
            SimulationConfig { powers: vec![1; validators], faults, encoding, extensions, ..Default::default() };
        let simulation = run(config, 201, 400 * SECOND);
        assert_eq!((simulation.evidence(), simulation.rejected_count()), (vec![], 0));
        for (height, (block, commit)) in simulation.chain().range(..=Height(200)) {
            assert_eq!((commit.round.0, commit.signatures.len()), (0, validators), "height {height}");
            assert_eq!(block.id(), commit.block);
            if let Some((before, _)) = simulation.chain().get(&height.previous()) {
                assert_eq!(block.previous, Some(before.id()));
                assert!(block.time > before.time);
                assert_eq!(block.last_commit.as_ref().map(|c| c.signatures.len()), Some(validators));
            }
        }
    }
}

#[test]
fn equal_validators_propose_equally_often() {
    let simulation = run(SimulationConfig::default(), 40, 100 * SECOND);
    let mut turns = [0; 4];
    simulation.chain().range(..=Height(40)).for_each(|(_, (block, _))| turns[block.proposer as usize] += 1);
    assert_eq!(turns, [10; 4]);
}

fn storm(seed: u64) -> SimulationConfig {
    let mut dice = Dice::new(seed ^ 0x5eed);
    let validators = if seed.is_multiple_of(2) { 4 } else { 7 };
    let ms = Duration::from_millis;
    let partitions = (0..dice.below(4)).map(|_| {
        let from = ms(dice.below(25_000));
        let side = (0..validators).filter(|_| dice.below(2) == 0).collect();
        Partition { from, until: from + ms(500 + dice.below(6_000)), side }
    });
    let partitions = partitions.collect();
    let restarts = (0..dice.below(6)).map(|_| Restart {
        node: dice.below(validators as u64) as usize,
        at: ms(dice.below(25_000)),
        down_for: ms(10 + dice.below(4_000)),
    });
    let restarts = restarts.collect();
    let delay = (ms(1), ms(1 + dice.below(800)));
    let faults =
        Faults { drop_per_mille: dice.below(300) as u32, delay, partitions, restarts, until: Some(30 * SECOND) };
    let powers = (0..validators).map(|_| 1 + dice.below(if seed.is_multiple_of(3) { 10 } else { 1 })).collect();
    SimulationConfig { powers, seed, faults, ..SimulationConfig::default() }
}

#[test]
fn storms_of_drops_delays_partitions_and_restarts_never_split_the_chain() {
    for seed in 0..80 {
        let config = storm(seed);
        let mut simulation = Simulation::new(config.clone()).unwrap();
        simulation.run_until(Height(u64::MAX), 33 * SECOND);
        let target = simulation.height().0.max(4) + 20;
        let arrived = simulation.run_until(Height(target), 120 * SECOND);
        assert_eq!(simulation.disagreements(), [], "{config:?}");
        assert_eq!(simulation.evidence(), [], "{config:?}");
        assert!(arrived, "seed {seed} stands at {} after {:?}: {config:?}", simulation.height(), simulation.now());
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut runs = (0..2).map(|_| {
        let mut simulation = Simulation::new(storm(12)).unwrap();
        simulation.run_until(Height(30), 90 * SECOND);
        (simulation.now(), simulation.chain().clone())
    });
    assert_eq!(runs.next(), runs.next());
}

#[test]
fn without_a_quorum_no_block_is_made_and_with_it_the_chain_goes_on() {
    let cut = Partition { from: Duration::ZERO, until: 20 * SECOND, side: vec![0, 1] };
    let faults = Faults { partitions: vec![cut], ..Faults::default() };
    let mut simulation = Simulation::new(SimulationConfig { faults, ..Default::default() }).unwrap();
    assert!(!simulation.run_until(Height(1), 20 * SECOND));
    assert!(simulation.chain().is_empty(), "two of four decided alone");
    assert!(simulation.run_until(Height(10), 80 * SECOND));
}

#[test]
fn one_equivocator_of_four_is_caught_and_splits_nothing() {
    for seed in 0..20 {
        let delay = (Duration::from_millis(1), Duration::from_millis(60));
        let faults = Faults { delay, ..Faults::default() };
        let equivocators = vec![seed as usize % 4];
        let config = SimulationConfig { seed, faults, equivocators, ..Default::default() };
        let simulation = run(config, 20, 200 * SECOND);
        let evidence = simulation.evidence();
        assert!(evidence.len() >= 20, "seed {seed}: {}", evidence.len());
        assert!(evidence.iter().all(|e| u64::from(e.validator) == seed % 4), "an honest validator is accused");
        assert!(evidence.iter().all(|e| e.first.block != e.second.block));
    }
}

#[test]
fn a_dishonest_majority_splits_the_chain_and_the_simulation_sees_it() {
    let config = SimulationConfig { powers: vec![1, 1, 9, 1, 9], equivocators: vec![2, 4], ..Default::default() };
    let mut simulation = Simulation::new(config).unwrap();
    simulation.run_until(Height(5), 60 * SECOND);
    assert!(!simulation.disagreements().is_empty());
}
