//! The whole: this network's node and signers, a real aggregator over sockets and HTTP, and certificates of every type that
//! Mithril's own verifier follows back to genesis.

mod scene;

use mithril_common::entities::{Epoch, SignedEntityTypeDiscriminants as Kind};
use scene::Scene;
use semel_devnet_cardano::signer::Conduct;
use std::path::PathBuf;

fn preview() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cardano/preview/immutable");
    path.is_dir().then_some(path)
}

#[test]
fn certificates_of_all_types_follow_epoch_after_epoch_on_real_blocks() {
    let mut scene = Scene::new(4, preview(), Kind::all());
    scene.begin();
    for length in 3.. {
        scene.certify();
        // Genesis, one per epoch that ended, and the last of this epoch behind its first.
        assert!(scene.verify() <= length);
        if length == 8 {
            break;
        }
        scene.next_epoch();
    }
    assert_eq!(scene.net.epoch(), Epoch(17));
}

#[test]
fn certificates_of_all_types_follow_on_made_up_blocks_while_some_signers_misbehave() {
    let mut scene = Scene::new(12, None, Kind::all());
    let strange = [
        Conduct::Late(1),
        Conduct::WrongKey,
        Conduct::WrongEpoch,
        Conduct::Duplicate,
        Conduct::Silent,
        Conduct::ForeignParty,
        Conduct::ReRegisters,
    ];
    for (signer, conduct) in scene.signers.iter_mut().zip(strange) {
        signer.set_conduct(conduct);
    }
    scene.begin();
    for _ in 0..3 {
        scene.certify();
        scene.verify();
        scene.next_epoch();
    }
}

#[test]
fn an_aggregator_that_is_started_again_goes_on_with_the_chain() {
    let mut scene = Scene::new(3, None, Kind::all());
    scene.begin();
    for _ in 0..3 {
        scene.certify();
        scene.restart();
        scene.verify();
        scene.next_epoch();
    }
    scene.certify();
    scene.verify();
}
