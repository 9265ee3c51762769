//! A chain that does what a chain must not do, under a real aggregator.

use crate::scene::{Scene, until};
use mithril_common::entities::{Epoch, SignedEntityTypeDiscriminants as Kind};
use std::collections::BTreeSet;

#[test]
fn a_roll_back_below_what_is_certified_leaves_the_other_types_and_all_certificates_alone() {
    let mut scene = Scene::new(3, None);
    scene.begin();
    scene.certify();
    let walked = scene.verify();
    let blocks = scene.net.blocks().len();
    scene.net.fork(blocks - 5).unwrap();
    scene.next_epoch();
    let others =
        BTreeSet::from([Kind::MithrilStakeDistribution, Kind::CardanoStakeDistribution, Kind::CardanoDatabase]);
    until("certificates of the other types", || {
        scene.signers.iter_mut().for_each(|signer| drop(signer.tick().unwrap()));
        scene.certified().is_superset(&others)
    });
    assert!(scene.verify() > walked);
    assert_eq!(scene.certified(), others, "a chain that contradicts what was certified is not certified");
}

#[test]
fn an_epoch_that_goes_back_certifies_nothing_and_when_it_is_back_all_goes_on() {
    let mut scene = Scene::new(3, None);
    scene.begin();
    scene.certify();
    let epoch = scene.net.epoch();
    let before = scene.certificates();
    scene.net.set_epoch(Epoch(*epoch - 2));
    until("the epoch that went back", || {
        scene.engine().standing().view.is_some_and(|view| view.epoch == Epoch(*epoch - 2))
    });
    scene.net.advance_blocks(40).unwrap();
    scene.tick();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(scene.certificates(), before);
    scene.net.set_epoch(epoch);
    scene.entered();
    scene.certify();
    scene.next_epoch();
    scene.certify();
    scene.verify();
}

#[test]
fn an_epoch_in_which_nobody_has_stake_at_first_is_registered_for_when_they_have() {
    let mut scene = Scene::new(3, None);
    scene.begin();
    scene.certify();
    scene.net.set_no_stake(true);
    scene.net.advance_epoch().unwrap();
    until("the trouble", || scene.engine().standing().trouble.is_some_and(|why| why.contains("nobody has any stake")));
    for signer in &mut scene.signers {
        assert!(signer.tick().unwrap().registrations.is_empty());
    }
    scene.net.set_no_stake(false);
    scene.entered();
    for _ in 0..3 {
        scene.certify();
        scene.next_epoch();
    }
    scene.verify();
}

#[test]
fn an_epoch_that_moves_while_the_first_stakes_are_read_does_not_mix_up_stakes() {
    let mut scene = Scene::after(3, None, |net| net.move_epoch_with_next_stakes());
    until("the epoch that came meanwhile", || scene.net.epoch() == Epoch(11));
    scene.begin();
    for _ in 0..2 {
        // Signers sign with the stakes that they saw: others would make other keys.
        scene.certify();
        scene.next_epoch();
    }
    scene.verify();
}

#[test]
fn a_beacon_that_a_roll_back_takes_away_for_a_moment_is_signed_when_it_is_back() {
    let mut scene = Scene::new(3, None);
    scene.begin();
    let open = |scene: &Scene| {
        let open = scene.engine().open_messages();
        open.iter().filter(|open| !open.is_certified()).map(|open| open.message.entity.to_string()).collect::<Vec<_>>()
    };
    until("all types", || open(&scene).len() == 5);
    let seen = |scene: &Scene| scene.engine().standing().view.map(|view| view.tip.block_number);
    let at_first = seen(&scene);
    scene.net.roll_back(60).unwrap();
    until("a look at the shorter chain", || seen(&scene) < at_first);
    assert_eq!(open(&scene).len(), 5);
    scene.net.advance_blocks(60).unwrap();
    scene.certify();
}
