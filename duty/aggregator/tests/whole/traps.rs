//! Traps of the protocol that a run over many epochs shows: lists, retention, parameters, what waits, what a signer says of its key.
use crate::http::{get, serve};
use crate::stage::{Stage, fixture};
use chrono::{DateTime, TimeDelta, Utc};
use mithril_common::crypto_helper::{KesEvolutions, KesPeriod};
use mithril_common::entities::{Epoch, SignedEntityTypeDiscriminants as Kind, SingleSignature};
use semel_aggregator::core::registration::{self, Known, RegistrationRefusal};
use semel_aggregator::core::runtime::State;
use semel_aggregator::host::engine::RegisterSignerError;
use semel_aggregator::host::store::{certificates, epochs, messages};
use std::sync::Arc;

#[test]
fn lists_have_the_twenty_that_came_last_and_old_epochs_are_forgotten_in_an_order_that_harms_nothing() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(4);
    let stage = Stage::new(place.path(), &fixture, 10);
    let first = stage.begin(&fixture);
    for epoch in first..first + 12 {
        stage.sign(&fixture);
        stage.settle();
        assert_eq!(stage.engine.standing().state, State::Ready, "{:?}", stage.engine.standing());
        stage.enter(epoch + 1);
        stage.register(&fixture);
    }
    let store = stage.engine.store();
    // The clock stands still: dates order nothing.
    let all: Vec<_> = store.read(|db| certificates::latest(db, 100)).unwrap();
    assert_eq!(all.len(), 25);
    assert!(all.first().unwrap().epoch > all.last().unwrap().epoch);
    let server = serve(&stage, None);
    let list = get(server.address(), "/certificates").json();
    let told: Vec<_> = list.as_array().unwrap().iter().map(|one| one["hash"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, all.iter().take(20).map(|one| one.hash.clone()).collect::<Vec<_>>());
    // Five epochs are kept; registrations refer to settings, and nothing is left that refers to what is gone.
    let (settings, registrations, broken): (i64, i64, i64) = store
        .read(|db| {
            let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
            Ok((
                one("SELECT min(epoch_setting_id) FROM epoch_setting")?,
                one("SELECT min(epoch_setting_id) FROM signer_registration")?,
                one("SELECT count(*) FROM pragma_foreign_key_check")?,
            ))
        })
        .unwrap();
    assert!(
        settings >= i64::try_from(first + 12 - 5).unwrap() && registrations >= settings,
        "{settings} {registrations}"
    );
    assert_eq!(broken, 0);
}

#[test]
fn parameters_that_change_begin_with_the_next_recording_and_never_rewrite_one() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(4);
    let stage = Stage::new(place.path(), &fixture, 10);
    let epoch = stage.begin(&fixture);
    let chain = Arc::clone(&stage.chain);
    let recorded = |stage: &Stage, epoch| {
        stage.engine.store().read(|db| epochs::settings(db, Epoch(epoch))).unwrap().map(|one| one.parameters.k)
    };
    let before: Vec<_> = (0..=epoch + 1).map(|epoch| recorded(&stage, epoch)).collect();
    assert_eq!(before.last().unwrap(), &Some(5));
    drop(stage);
    let stage = Stage::with(place.path(), &fixture, chain, |parts| {
        parts.options.settings.as_mut().unwrap().parameters.k = 7;
    });
    stage.settle();
    assert_eq!((0..=epoch + 1).map(|epoch| recorded(&stage, epoch)).collect::<Vec<_>>(), before);
    stage.enter(epoch + 1);
    assert_eq!((recorded(&stage, epoch + 1), recorded(&stage, epoch + 2)), (Some(5), Some(7)));
}

#[test]
fn what_waits_for_its_message_has_a_bound_and_an_end() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(2);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.begin(&fixture);
    let signature = fixture.sign_all(&"some message".to_owned()).remove(0);
    let now: DateTime<Utc> = *stage.clock.lock().unwrap();
    let kind = Kind::MithrilStakeDistribution;
    let waiting = stage
        .engine
        .store()
        .write(move |db| {
            for number in 0..messages::BUFFER_MAX {
                let signature = SingleSignature { party_id: format!("pool{number}"), ..signature.clone() };
                assert!(messages::buffer(db, kind, &signature, &now)?);
            }
            let one_more = SingleSignature { party_id: "one more".to_owned(), ..signature };
            assert!(!messages::buffer(db, kind, &one_more, &now)?);
            let count = "SELECT count(*) FROM buffered_single_signature";
            let full = db.query_row(count, [], |row| row.get::<_, i64>(0))?;
            messages::prune_buffer(db, &(now + TimeDelta::seconds(1)))?;
            Ok((full, db.query_row(count, [], |row| row.get::<_, i64>(0))?))
        })
        .unwrap();
    assert_eq!(waiting, (i64::try_from(messages::BUFFER_MAX).unwrap(), 0));
}

#[test]
fn the_evolutions_of_a_key_are_counted_here_bounded_and_never_taken_from_a_signer() {
    let fixture = fixture(1);
    let stakes = fixture.stake_distribution();
    let ask = |period: u32, said: Option<u64>| {
        let mut signer = fixture.signers().remove(0);
        signer.kes_evolutions = said.map(KesEvolutions);
        registration::verify(signer, &stakes, KesPeriod(period.into()), Epoch(11), &Known::default())
    };
    let honest = ask(0, Some(0)).unwrap();
    for said in [None, Some(1), Some(63), Some(u64::MAX)] {
        assert_eq!(ask(0, said).unwrap(), honest, "{said:?}");
    }
    // A key one evolution off may be a clock that is a little late; far off it is another one.
    assert!(ask(1, Some(0)).is_ok());
    for period in [20, 64, 65, u32::MAX] {
        assert!(ask(period, Some(0)).is_err(), "{period}");
    }
}

#[test]
fn an_operational_certificate_of_before_is_refused_once_a_newer_one_was_seen() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(2);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.settle();
    let signer = fixture.signers().remove(0);
    let number = signer.operational_certificate.as_ref().unwrap().get_issue_number();
    assert!(stage.engine.register_signer(Epoch(11), signer.clone()).unwrap());
    // As if the pool had rotated its key meanwhile.
    let seen = "UPDATE semel_operational_certificate SET issue_number = issue_number + 1";
    assert_eq!(stage.engine.store().write(move |db| Ok(db.execute(seen, [])?)).unwrap(), 1);
    for asked in [11, 12] {
        match stage.engine.register_signer(Epoch(asked), signer.clone()).unwrap_err() {
            RegisterSignerError::Refused(RegistrationRefusal::OldCertificate { given, known, .. }) => {
                assert_eq!((given, known), (number, number + 1));
            }
            other => panic!("{other}"),
        }
        stage.enter(asked);
    }
}
