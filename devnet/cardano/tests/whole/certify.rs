//! Certificates of every type, epoch after epoch.

use crate::scene::Scene;
use mithril_common::entities::Epoch;
use semel_devnet_cardano::signer::Conduct;
use std::io::Write as _;
use std::path::PathBuf;

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

#[test]
fn certificates_of_all_types_follow_epoch_after_epoch_on_real_blocks() {
    let test = "certificates_of_all_types_follow_epoch_after_epoch_on_real_blocks";
    let Some(real) = preview(test) else { return };
    let mut scene = Scene::new(4, Some(real));
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
    let mut scene = Scene::new(12, None);
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
    let mut scene = Scene::new(3, None);
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
