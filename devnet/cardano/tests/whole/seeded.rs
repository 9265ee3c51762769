//! Twelve epochs in which signers join and leave, register again or fall silent, the chain forks near its tip, and the
//! aggregator ends at any moment. What happens is drawn from a seed that a failure names.

use crate::scene::Scene;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use semel_devnet_cardano::signer::Conduct;

const POOLS: usize = 6;
const EPOCHS: u64 = 12;

/// Blocks that a fork takes away at most: fewer than are left out of certificates.
const FORK_MAX: u64 = 12;

struct Dice(ChaCha20Rng);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0.next_u64() % sides
    }

    fn pick(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

/// Something happens.
fn event(scene: &mut Scene, dice: &mut Dice) -> String {
    match dice.below(7) {
        0 => {
            scene.restart();
            "the aggregator starts again".to_owned()
        }
        1 => {
            // At least the first pool stays.
            let stakes: Vec<u64> = (0..POOLS).map(|pool| if pool == 0 { 9 } else { dice.below(3) * 1_000 }).collect();
            scene.net.set_stakes(scene.net.epoch().next(), &stakes);
            format!("stakes from the next epoch on: {stakes:?}")
        }
        2 => {
            let conduct =
                [Conduct::Silent, Conduct::ReRegisters, Conduct::Duplicate, Conduct::Late(2), Conduct::Honest];
            let (pool, conduct) = (1 + dice.pick(POOLS - 1), conduct.get(dice.pick(conduct.len())).copied().unwrap());
            scene.signers.get_mut(pool).unwrap().set_conduct(conduct);
            format!("{pool} is {conduct:?}")
        }
        3 => {
            let depth = usize::try_from(dice.below(FORK_MAX)).unwrap();
            scene.net.switch_fork(depth, 1).unwrap();
            format!("a fork {depth} blocks deep")
        }
        4 => {
            let depth = usize::try_from(dice.below(FORK_MAX)).unwrap();
            scene.net.switch_fork(depth, depth).unwrap();
            format!("a fork {depth} blocks deep and as many longer")
        }
        5 => {
            let blocks = usize::try_from(dice.below(30)).unwrap();
            scene.net.advance_blocks(blocks).unwrap();
            format!("{blocks} blocks")
        }
        _ => {
            scene.tick();
            "signers look".to_owned()
        }
    }
}

fn play(seed: u64) {
    let mut dice = Dice(ChaCha20Rng::seed_from_u64(seed));
    let mut scene = Scene::new(POOLS as u64, None);
    scene.begin();
    let mut walked = 0;
    for _ in 0..EPOCHS {
        let epoch = scene.net.epoch();
        for _ in 0..dice.below(4) {
            let what = event(&mut scene, &mut dice);
            println!("seed {seed}, epoch {epoch}: {what}");
        }
        scene.certify();
        for _ in 0..dice.below(2) {
            let what = event(&mut scene, &mut dice);
            println!("seed {seed}, epoch {epoch}, certified: {what}");
        }
        // Whoever stays registers before the epoch ends.
        scene.tick();
        let length = scene.verify();
        assert!(length >= walked, "seed {seed}: the way to genesis became shorter");
        walked = length;
        scene.next_epoch();
    }
    assert!(walked > usize::try_from(EPOCHS).unwrap());
}

#[test]
fn twelve_eventful_epochs_are_certified_without_a_gap() {
    for seed in 0..3 {
        play(seed);
    }
}
