//! The engine over epochs: registrations, a genesis, certificates that Mithril's own verifier accepts, restarts.
use crate::stage::{Stage, fixture, fixture_with, genesis_signer};
use mithril_common::certificate_chain::{
    CertificateRetriever, CertificateRetrieverError, CertificateVerifier, MithrilCertificateVerifier,
};
use mithril_common::crypto_helper::GenesisVerifier;
use mithril_common::entities::{
    BlockNumber, BlockNumberOffset, CardanoBlocksTransactionsSigningConfig, CardanoDbBeacon,
    CardanoTransactionsSigningConfig, Certificate, Epoch, SignedEntityType, SignedEntityTypeDiscriminants,
};
use mithril_common::test::builder::MithrilFixture;
use semel_aggregator::core::runtime::{Blocked, State};
use semel_aggregator::host::engine::{
    Parts, RegisterSignatureError, RegisterSignerError, SignatureOutcome, SourceError, Sources,
};
use semel_aggregator::host::store::{Store, certificates, entities, epochs};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

struct FromStore(Store);

#[async_trait::async_trait]
impl CertificateRetriever for FromStore {
    async fn get_certificate_details(&self, hash: &str) -> Result<Certificate, CertificateRetrieverError> {
        Ok(self.0.read(|db| certificates::get(db, hash)).unwrap().unwrap())
    }
}

/// Walks the chain as clients do, with Mithril's own code.
fn verify_as_a_client_does(store: &Store) -> usize {
    let newest = store.read(|db| certificates::latest(db, 20)).unwrap();
    let verifier = MithrilCertificateVerifier::new(
        slog::Logger::root(slog::Discard, slog::o!()),
        Arc::new(FromStore(store.clone())),
        Arc::new(GenesisVerifier::from_ed25519(genesis_signer().verification_key())),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let count = newest.len();
    for certificate in newest {
        runtime.block_on(verifier.verify_certificate_chain(certificate)).unwrap();
    }
    count
}

#[test]
fn certificates_follow_from_a_genesis_and_mithrils_own_verifier_accepts_them() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(4);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.settle();
    assert_eq!(stage.engine.standing().state, State::Blocked(Blocked::NoGenesis));
    let first = stage.begin(&fixture);
    for epoch in first..first + 4 {
        assert_eq!(stage.engine.standing().state, State::Signing, "{:?}", stage.engine.standing());
        stage.sign(&fixture);
        stage.settle();
        assert_eq!(stage.engine.standing().state, State::Ready, "{:?}", stage.engine.standing());
        let certified = stage.engine.store().read(certificates::count).unwrap();
        assert_eq!(certified, 1 + 2 * (epoch - first + 1));
        stage.enter(epoch + 1);
        stage.register(&fixture);
    }
    assert_eq!(verify_as_a_client_does(stage.engine.store()), 9);
    assert_eq!(stage.engine.pending_artifacts().unwrap(), []);
    let kind = mithril_common::entities::SignedEntityTypeDiscriminants::MithrilStakeDistribution;
    assert_eq!(stage.engine.store().read(|db| entities::latest(db, kind, 20)).unwrap().len(), 4);
}

#[test]
fn a_restart_at_any_point_goes_on_where_it_was() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture_with(4, 45);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.begin(&fixture);
    let chain = Arc::clone(&stage.chain);
    let signed = stage.engine.open_messages()[0].message.entity.clone();
    let hash = stage.engine.open_messages()[0].hash.clone();
    let signatures = fixture.sign_all(&hash);
    stage.engine.register_signature(&signed, &hash, &signatures[0]).unwrap();
    let before = stage.engine.open_messages()[0].progress();
    drop(stage);
    let stage = Stage::over(place.path(), &fixture, chain);
    stage.settle();
    let open = stage.engine.open_messages();
    let after = open.iter().find(|open| open.message.entity == signed).unwrap();
    assert_eq!((after.progress(), &after.hash), (before, &hash));
    stage.sign(&fixture);
    stage.settle();
    assert_eq!(stage.engine.standing().state, State::Ready);
    verify_as_a_client_does(stage.engine.store());
}

#[test]
fn an_epoch_without_a_certificate_blocks_until_a_new_genesis() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(4);
    let stage = Stage::new(place.path(), &fixture, 10);
    let first = stage.begin(&fixture);
    // Nobody signs in this epoch: the genesis is still of the epoch before the next.
    stage.enter(first + 1);
    stage.register(&fixture);
    assert_eq!(stage.engine.standing().state, State::Blocked(Blocked::EpochGap));
    stage.genesis();
    stage.settle();
    assert_eq!(stage.engine.standing().state, State::Blocked(Blocked::GenesisEpoch));
    stage.enter(first + 2);
    stage.sign(&fixture);
    stage.settle();
    assert_eq!(stage.engine.standing().state, State::Ready);
    verify_as_a_client_does(stage.engine.store());
}

/// A stage whose first epoch with certificates is over, and that epoch.
fn certified(place: &std::path::Path, fixture: &MithrilFixture) -> (Stage, u64) {
    let stage = Stage::new(place, fixture, 10);
    let first = stage.begin(fixture);
    stage.sign(fixture);
    stage.settle();
    (stage, first)
}

#[test]
fn a_signature_before_its_message_waits_and_then_counts() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture_with(4, 45);
    let (stage, epoch) = certified(&place.path().join("behind"), &fixture);
    let (ahead, _) = certified(&place.path().join("ahead"), &fixture);
    ahead.enter(epoch + 1);
    let ahead = ahead.engine.open_messages().remove(0);
    let [early, forged] = [&ahead.hash, "something else"].map(|text| fixture.sign_all(&text.to_owned()).remove(0));
    let taken = stage.engine.register_signature(&ahead.message.entity, &ahead.hash, &early);
    assert_eq!(taken.unwrap(), SignatureOutcome::Buffered);
    let refused = stage.engine.register_signature(&ahead.message.entity, &ahead.hash, &forged).unwrap_err();
    assert!(matches!(refused, RegisterSignatureError::Refused(_)), "{refused}");
    stage.enter(epoch + 1);
    let open = stage.engine.open_messages();
    let open = open.iter().find(|open| open.message.entity == ahead.message.entity).unwrap();
    assert_eq!((&open.hash, open.progress().0), (&ahead.hash, early.won_indexes.len() as u64));
}

#[test]
fn a_signature_over_another_open_message_does_not_wait() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(4);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.begin(&fixture);
    let hash = stage.engine.open_messages().remove(0).hash.clone();
    let signature = fixture.sign_all(&hash).remove(0);
    let unknown = SignedEntityType::MithrilStakeDistribution(Epoch(13));
    let refused = stage.engine.register_signature(&unknown, &hash, &signature).unwrap_err();
    assert!(matches!(refused, RegisterSignatureError::Refused(_)), "{refused}");
}

#[test]
fn late_signatures_are_told_that_they_are_late() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(4);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.begin(&fixture);
    let open = stage.engine.open_messages().remove(0);
    stage.sign(&fixture);
    stage.settle();
    let late = &fixture.sign_all(&open.hash)[0];
    let refused = stage.engine.register_signature(&open.message.entity, &open.hash, late).unwrap_err();
    assert!(matches!(refused, RegisterSignatureError::AlreadyCertified), "{refused}");
}

#[test]
fn a_message_expires_and_the_next_epoch_is_not_held_up() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(4);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.begin(&fixture);
    let open = stage.engine.open_messages().remove(0);
    *stage.clock.lock().unwrap() += chrono::TimeDelta::hours(2);
    stage.settle();
    let late = &fixture.sign_all(&open.hash)[0];
    let refused = stage.engine.register_signature(&open.message.entity, &open.hash, late).unwrap_err();
    assert!(matches!(refused, RegisterSignatureError::Expired), "{refused}");
    assert_eq!(stage.engine.standing().state, State::Ready);
}

#[test]
fn registrations_are_taken_for_the_round_and_for_nobody_elses_pool() {
    let place = tempfile::tempdir().unwrap();
    let (ours, strangers) = (fixture(3), fixture(5));
    let stage = Stage::new(place.path(), &ours, 10);
    let signer = ours.signers().remove(0);
    let closed = stage.engine.register_signer(Epoch(11), signer.clone()).unwrap_err();
    assert!(matches!(closed, RegisterSignerError::Closed), "{closed}");
    stage.settle();
    let wrong = stage.engine.register_signer(Epoch(10), signer.clone()).unwrap_err();
    assert!(matches!(wrong, RegisterSignerError::Epoch { open: Epoch(11), asked: Epoch(10) }), "{wrong}");
    assert!(stage.engine.register_signer(Epoch(11), signer.clone()).unwrap());
    assert!(!stage.engine.register_signer(Epoch(11), signer.clone()).unwrap());
    let mut named = ours.signers().remove(1);
    named.party_id = signer.party_id.clone();
    let other = stage.engine.register_signer(Epoch(11), named).unwrap_err();
    assert!(matches!(other, RegisterSignerError::Refused(_)), "{other}");
    let mut bare = ours.signers().remove(1);
    bare.operational_certificate = None;
    assert!(stage.engine.register_signer(Epoch(11), bare).is_err());
    let mut unsigned = ours.signers().remove(1);
    unsigned.verification_key_signature_for_concatenation = signer.verification_key_signature_for_concatenation;
    assert!(stage.engine.register_signer(Epoch(11), unsigned).is_err());
    let unknown = strangers.signers().into_iter().find(|one| !ours.stake_distribution().contains_key(&one.party_id));
    assert!(stage.engine.register_signer(Epoch(11), unknown.unwrap()).is_err());
}

#[test]
fn an_epoch_that_goes_back_and_a_chain_that_fails_sign_nothing() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(4);
    let stage = Stage::new(place.path(), &fixture, 10);
    let first = stage.begin(&fixture);
    stage.sign(&fixture);
    *stage.chain.epoch.lock().unwrap() = first - 1;
    stage.runtime.cycle();
    assert_eq!(stage.engine.standing().state, State::Idle);
    *stage.chain.fails.lock().unwrap() = true;
    stage.runtime.cycle();
    assert!(stage.engine.standing().trouble.unwrap().contains("told to fail"));
    *stage.chain.fails.lock().unwrap() = false;
    stage.enter(first);
    assert_eq!(stage.engine.standing().state, State::Ready);
}

/// What signers have read of an epoch stays; what nobody signs by yet is completed, and once only.
#[test]
fn a_configuration_that_was_never_recorded_is_added_for_the_recording_epoch_alone() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(2);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.settle();
    let chain = Arc::clone(&stage.chain);
    drop(stage);
    let config =
        |step| CardanoTransactionsSigningConfig { security_parameter: BlockNumberOffset(10), step: BlockNumber(step) };
    let blocks =
        CardanoBlocksTransactionsSigningConfig { security_parameter: BlockNumberOffset(9), step: BlockNumber(15) };
    for step in [30, 60] {
        let stage = Stage::with(place.path(), &fixture, Arc::clone(&chain), |parts| {
            let settings = parts.options.settings.as_mut().unwrap();
            settings.transactions = Some(config(step));
            settings.blocks_transactions = Some(blocks.clone());
        });
        stage.settle();
        let read = |epoch| stage.engine.store().read(|db| epochs::settings(db, Epoch(epoch))).unwrap();
        for announced in [9, 10] {
            let settings = read(announced).unwrap();
            assert_eq!((settings.transactions, settings.blocks_transactions), (None, None), "epoch {announced}");
        }
        let settings = read(11).unwrap();
        assert_eq!((settings.transactions, settings.blocks_transactions), (Some(config(30)), Some(blocks.clone())));
        assert_eq!(read(12), None);
    }
}

/// Imports at start until it is told to go on; whoever asks for a root meanwhile is counted.
#[derive(Default)]
struct Importing {
    goes_on: Mutex<bool>,
    told: Condvar,
    preloads: AtomicUsize,
    roots: AtomicUsize,
}

impl Sources for Importing {
    fn immutable_number(&self) -> Result<u64, SourceError> {
        Ok(0)
    }
    fn database_root(&self, _: &CardanoDbBeacon) -> Result<String, SourceError> {
        Err(SourceError::NotYet("no files".into()))
    }
    fn transactions_root(&self, _: BlockNumber) -> Result<String, SourceError> {
        self.roots.fetch_add(1, SeqCst);
        Ok("ab".repeat(32))
    }
    fn blocks_transactions_root(&self, _: BlockNumber) -> Result<String, SourceError> {
        self.roots.fetch_add(1, SeqCst);
        Ok("cd".repeat(32))
    }
    fn preload(&self) -> Result<(), SourceError> {
        self.preloads.fetch_add(1, SeqCst);
        let goes_on = self.goes_on.lock().unwrap();
        let _on = self.told.wait_while(goes_on, |on| !*on).unwrap();
        Ok(())
    }
    fn database_artifact(&self, _: &CardanoDbBeacon, _: &str) -> Result<(String, serde_json::Value), SourceError> {
        Err(SourceError::NotYet("no files".into()))
    }
    fn certified(&self, _: &SignedEntityType, _: &str, _: &str) -> Result<(), SourceError> {
        Ok(())
    }
}

#[test]
fn nothing_over_blocks_is_drafted_before_the_import_at_start_has_ended() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(2);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.begin(&fixture);
    let chain = Arc::clone(&stage.chain);
    drop(stage);
    let sources = Arc::new(Importing::default());
    let kinds =
        [SignedEntityTypeDiscriminants::CardanoTransactions, SignedEntityTypeDiscriminants::CardanoBlocksTransactions];
    // The configurations count from the epoch for which they are recorded first.
    let with = |parts: &mut Parts| {
        parts.sources = Arc::clone(&sources) as Arc<dyn Sources>;
        parts.options.kinds.extend(kinds);
        let settings = parts.options.settings.as_mut().unwrap();
        settings.transactions =
            Some(CardanoTransactionsSigningConfig { security_parameter: BlockNumberOffset(10), step: BlockNumber(15) });
        settings.blocks_transactions = Some(CardanoBlocksTransactionsSigningConfig {
            security_parameter: BlockNumberOffset(10),
            step: BlockNumber(15),
        });
    };
    let stage = Stage::with(place.path(), &fixture, chain, with);
    stage.settle();
    for epoch in 13..15 {
        assert_eq!(sources.roots.load(SeqCst), 0, "no configuration counts yet");
        stage.register(&fixture);
        stage.sign(&fixture);
        stage.settle();
        *stage.chain.epoch.lock().unwrap() = epoch;
        if epoch == 13 {
            stage.settle();
        }
    }
    let Stage { engine, runtime, events, .. } = stage;
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let late = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < late, "{what}: {:?}", engine.standing());
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    std::thread::scope(|scope| {
        let running = runtime.clone();
        scope.spawn(move || running.run(&events));
        until("the import", &|| sources.preloads.load(SeqCst) == 1);
        until("other types are certified meanwhile", &|| !engine.open_messages().is_empty());
        assert_eq!(sources.roots.load(SeqCst), 0);
        *sources.goes_on.lock().unwrap() = true;
        sources.told.notify_all();
        until("its end", &|| sources.roots.load(SeqCst) >= 2);
        engine.stop();
    });
    runtime.finish();
    assert_eq!(sources.preloads.load(SeqCst), 1);
}

#[test]
fn a_quorum_whose_last_signature_is_still_being_committed_is_no_failure() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture_with(4, 45);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.begin(&fixture);
    let open = Arc::clone(&stage.engine.open_messages()[0]);
    let mut won = std::collections::BTreeSet::new();
    let mut signatures = fixture.sign_all(&open.hash).into_iter().peekable();
    // All but the one with which there is a quorum.
    while let Some(next) =
        signatures.next_if(|next| won.union(&next.won_indexes.iter().copied().collect()).count() < 45)
    {
        won.extend(next.won_indexes.iter().copied());
        stage.engine.register_signature(&open.message.entity, &open.hash, &next).unwrap();
    }
    let last = signatures.next().unwrap();
    let (engine, entity) = (&stage.engine, &open.message.entity);
    let slow = |milliseconds| {
        let done = engine.store().write(move |_| {
            std::thread::sleep(Duration::from_millis(milliseconds));
            Ok(())
        });
        done.unwrap();
    };
    std::thread::scope(|scope| {
        // While the first is written, the signature and the other come into one commit, in this order.
        scope.spawn(|| slow(200));
        std::thread::sleep(Duration::from_millis(50));
        scope.spawn(|| engine.register_signature(entity, &open.hash, &last).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        scope.spawn(|| slow(1_000));
        let late = Instant::now() + Duration::from_secs(20);
        while open.progress().0 < open.progress().1 {
            assert!(Instant::now() < late);
            std::thread::sleep(Duration::from_millis(1));
        }
        stage.settle();
    });
    assert!(open.is_certified(), "{:?}", engine.standing());
}
