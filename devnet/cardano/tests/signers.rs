//! Signers against an aggregator that checks: the order and shape of their calls, what they agree on, how the strange ones fail.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod aggregator;

use aggregator::Aggregator;
use mithril_common::entities::{Epoch, ProtocolParameters, SingleSignature};
use mithril_stm::{AggregateSignatureType, AncillaryGenesisData, AncillaryProofInput};
use semel_devnet_cardano::signer::{Conduct, Population, Signer, SignerError};
use semel_devnet_cardano::{CardanoNet, Options};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Scene {
    _directory: TempDir,
    net: CardanoNet,
    aggregator: Aggregator,
    signers: Vec<Signer>,
}

impl Scene {
    fn new(pools: u64, change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new(directory.path());
        options.pools = pools;
        change(&mut options);
        let net = CardanoNet::start(options).unwrap();
        let aggregator = Aggregator::start();
        let signers = net.signers(&aggregator.url).unwrap();
        aggregator.enter(net.epoch(), net.stakes());
        Self { _directory: directory, net, aggregator, signers }
    }

    fn tick_all(&mut self) {
        for signer in &mut self.signers {
            signer.tick().unwrap();
        }
    }

    fn next_epoch(&mut self) {
        let epoch = self.net.advance_epoch().unwrap();
        self.aggregator.enter(epoch, self.net.stakes());
    }

    /// Two epochs of registrations: in the third, signers sign.
    fn until_signing(&mut self) {
        for _ in 0..2 {
            self.tick_all();
            self.next_epoch();
        }
    }

    /// Types signed in the current epoch, and messages and parties of each.
    fn signed(&self) -> Vec<(String, BTreeSet<String>, Vec<SingleSignature>)> {
        self.aggregator.with(|state| {
            let now = state.signatures.iter().filter(|((epoch, _), _)| *epoch == state.epoch);
            now.map(|((_, entity), signatures)| {
                let messages = signatures.iter().map(|(_, message)| message.clone()).collect();
                (entity.clone(), messages, signatures.iter().map(|(signature, _)| signature.clone()).collect())
            })
            .collect()
        })
    }
}

fn preview() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cardano/preview/immutable");
    path.is_dir().then_some(path)
}

#[test]
fn a_signer_calls_what_a_real_one_calls_in_its_order() {
    let mut scene = Scene::new(1, |_| {});
    let get = |route: &str| (format!("GET /aggregator/{route}"), 200);
    let first = [
        get("epoch-settings"),
        get("protocol-configuration/9"),
        get("protocol-configuration/10"),
        get("protocol-configuration/11"),
        ("POST /aggregator/register-signer".to_owned(), 201),
    ];
    scene.tick_all();
    assert_eq!(scene.aggregator.calls(), first);
    scene.tick_all();
    assert_eq!(scene.aggregator.calls()[5..], [get("epoch-settings")], "an epoch's configuration is asked for once");

    let calls = scene.aggregator.with(|state| state.calls.clone());
    for call in &calls {
        assert_eq!(call.headers["mithril-api-version"], "0.1.71");
        assert_eq!(call.headers["signer-node-version"], "1.2.0");
    }
    let registration = calls[4].body.as_object().unwrap();
    let names: Vec<&str> = registration.keys().map(String::as_str).collect();
    let wanted = [
        "epoch",
        "party_id",
        "verification_key",
        "verification_key_signature",
        "operational_certificate",
        "kes_period",
    ];
    assert_eq!(names.iter().collect::<BTreeSet<_>>(), wanted.iter().collect::<BTreeSet<_>>());
    assert_eq!(registration["epoch"], 11, "the epoch that it is recorded under");
    assert_eq!(registration["party_id"], scene.net.pools()[0].party_id.as_str());
}

#[test]
fn signers_agree_on_every_type_and_their_signatures_make_a_certificate() {
    let real = preview();
    let mut scene = Scene::new(4, |options| options.immutable = real);
    // Other parameters from epoch 12 on: what signs in 13 and what comes next differ.
    scene.aggregator.with(|state| state.parameters.insert(Epoch(12), ProtocolParameters::new(4, 90, 0.8)));
    scene.until_signing();
    for epoch in [12, 13, 14] {
        scene.tick_all();
        let signed = scene.signed();
        assert_eq!(
            signed.len(),
            5,
            "epoch {epoch}: {:?}",
            signed.iter().map(|(entity, ..)| entity).collect::<Vec<_>>()
        );
        for (entity, messages, signatures) in signed {
            assert_eq!((messages.len(), signatures.len()), (1, 4), "epoch {epoch}, {entity}");
            let message = messages.into_iter().next().unwrap();
            let multi_signer = scene.aggregator.with(|state| state.current().build_multi_signer());
            let kind = AggregateSignatureType::Concatenation;
            multi_signer
                .aggregate_single_signatures(
                    &signatures,
                    &message,
                    kind,
                    AncillaryProofInput::new(None, AncillaryGenesisData::new()),
                )
                .unwrap();
        }
        let before = scene.aggregator.calls().len();
        scene.tick_all();
        assert_eq!(scene.aggregator.calls().len(), before + 4, "what is signed is not signed again");
        scene.next_epoch();
    }
}

#[test]
fn a_new_block_beacon_within_an_epoch_is_signed_and_a_fork_changes_what_is_signed() {
    let mut scene = Scene::new(2, |_| {});
    scene.until_signing();
    scene.tick_all();
    let types = |scene: &Scene| scene.signed().len();
    assert_eq!(types(&scene), 5);
    scene.net.advance_blocks(15).unwrap();
    scene.tick_all();
    assert_eq!(types(&scene), 7, "transactions, and blocks with transactions, at a later block");

    // Epoch after epoch on a fork: signers still agree.
    scene.net.fork(60).unwrap();
    scene.next_epoch();
    scene.tick_all();
    assert!(scene.signed().iter().all(|(_, messages, signatures)| messages.len() == 1 && signatures.len() == 2));
    assert_eq!(types(&scene), 5);
}

#[test]
fn a_signer_waits_for_the_aggregator_and_registers_when_the_round_opens() {
    let mut scene = Scene::new(1, |_| {});
    scene.net.advance_epoch().unwrap();
    assert_eq!(scene.signers[0].tick().unwrap().waits_for, Some(Epoch(10)));
    assert_eq!(scene.aggregator.calls().len(), 1);

    scene.aggregator.enter(Epoch(11), scene.net.stakes());
    scene.aggregator.with(|state| state.missing = Some(Epoch(10)));
    let error = scene.signers[0].tick().unwrap_err();
    assert!(matches!(error, SignerError::Status { status: 404, .. }), "{error}");
    scene.aggregator.with(|state| {
        state.missing = None;
        state.open = false;
    });
    assert_eq!(scene.signers[0].tick().unwrap().registrations, [550]);
    scene.aggregator.with(|state| state.open = true);
    assert_eq!(scene.signers[0].tick().unwrap().registrations, [201]);
    assert!(scene.signers[0].tick().unwrap().registrations.is_empty());
}

/// What the first of three signers gets for its registration and its signatures when it behaves like this.
fn outcome(conduct: Conduct) -> (Vec<u16>, Vec<u16>) {
    let mut scene = Scene::new(3, |_| {});
    scene.until_signing();
    scene.signers[0].set_conduct(conduct);
    let report = scene.signers[0].tick().unwrap();
    (report.registrations, report.signatures.into_iter().map(|(_, status)| status).collect())
}

#[test]
fn strange_signers_do_what_they_are_named_after() {
    for (conduct, registrations, signatures) in [
        (Conduct::Honest, vec![201], vec![201; 5]),
        (Conduct::Late(1), vec![201], vec![]),
        (Conduct::Silent, vec![201], vec![]),
        (Conduct::Duplicate, vec![201; 2], vec![201; 10]),
        (Conduct::WrongKey, vec![201], vec![400; 5]),
        (Conduct::ReRegisters, vec![201], vec![201; 5]),
    ] {
        assert_eq!(outcome(conduct), (registrations, signatures), "{conduct:?}");
    }
    let (registrations, signatures) = outcome(Conduct::WrongEpoch);
    assert_eq!((registrations, signatures.len()), (vec![500], 5));
    let (registrations, signatures) = outcome(Conduct::ForeignParty);
    assert_eq!((registrations, signatures.len()), (vec![400], 5));
}

#[test]
fn a_late_signer_signs_later_and_one_that_re_registers_signs_with_its_last_key() {
    let mut scene = Scene::new(2, |_| {});
    scene.signers[0].set_conduct(Conduct::Late(2));
    scene.signers[1].set_conduct(Conduct::ReRegisters);
    for _ in 0..2 {
        scene.tick_all();
        scene.tick_all();
        scene.tick_all();
        scene.next_epoch();
    }
    let counts: Vec<usize> = (0..3).map(|_| scene.signers[0].tick().unwrap().signatures.len()).collect();
    assert_eq!(counts, [0, 0, 5]);
    let report = scene.signers[1].tick().unwrap();
    assert!(report.signatures.len() == 5 && report.signatures.iter().all(|(_, status)| *status == 201));
}

#[test]
fn foreign_parties_and_wrong_epochs_send_what_they_should_not() {
    let mut scene = Scene::new(3, |_| {});
    scene.until_signing();
    scene.signers[0].set_conduct(Conduct::ForeignParty);
    scene.signers[0].tick().unwrap();
    let parties: BTreeSet<String> = scene.aggregator.with(|state| {
        let posts = state.calls.iter().filter(|call| call.what.starts_with("POST"));
        posts.map(|call| call.body["party_id"].as_str().unwrap().to_owned()).collect()
    });
    assert_eq!(parties.len(), 1);
    assert!(!parties.contains(scene.signers[0].party_id()));

    scene.signers[1].set_conduct(Conduct::WrongEpoch);
    scene.signers[1].tick().unwrap();
    let entity = |name: &str| {
        scene.aggregator.with(|state| {
            state.calls.iter().find_map(|call| call.body["entity_type"].get(name).cloned().filter(|epoch| *epoch == 13))
        })
    };
    assert!(entity("MithrilStakeDistribution").is_some());
}

#[test]
fn a_population_ticks_by_itself_until_it_is_stopped() {
    let mut scene = Scene::new(3, |_| {});
    let ticks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ticks);
    let signers = std::mem::take(&mut scene.signers);
    let population = Population::start(signers, Duration::from_millis(20), move |_, outcome| {
        counted.fetch_add(usize::from(outcome.is_ok()), Ordering::Relaxed);
    })
    .unwrap();
    let begun = Instant::now();
    while scene.aggregator.with(|state| state.signers.get(&Epoch(11)).map_or(0, |signers| signers.len())) < 3 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(population.stop().len(), 3);
    let after = ticks.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(ticks.load(Ordering::Relaxed), after);
}
