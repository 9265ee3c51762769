//! Keys, lottery, signatures and aggregates beside mithril-stm's own.

use super::*;
use mithril_common::entities::{Epoch, ProtocolMessage, ProtocolMessagePartKey, Signer};
use mithril_common::protocol::{SignerBuilder, ToMessage};
use mithril_common::test::builder::{MithrilFixture, MithrilFixtureBuilder};
use mithril_stm::Initializer;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

fn fixture() -> MithrilFixture {
    MithrilFixtureBuilder::default()
        .with_signers(4)
        .with_protocol_parameters(ProtocolParameters::new(5, 100, 0.7))
        .build()
}

fn message(text: &str) -> ProtocolMessage {
    let mut message = ProtocolMessage::new();
    message.set_message_part(ProtocolMessagePartKey::CurrentEpoch, text.to_owned());
    message
}

#[test]
fn the_aggregate_key_is_mithrils_own() {
    let fixture = fixture();
    let roster = Roster::new(fixture.signers_with_stake(), &fixture.protocol_parameters()).unwrap();
    let theirs = SignerBuilder::new(&fixture.signers_with_stake(), &fixture.protocol_parameters(), Epoch(1))
        .unwrap()
        .compute_aggregate_verification_key();
    assert_eq!(*roster.key(), theirs);
}

#[test]
fn keys_and_places_are_mithrils_own_for_any_number_of_signers() {
    let parameters = ProtocolParameters::new(5, 100, 0.7);
    for signers in (1..=18).chain([31, 32, 33]) {
        let signer = |index: u64| {
            // Some have the same stake: then their keys decide who comes first.
            let stake = 1 + index * 7919 % 13;
            let random = &mut ChaCha20Rng::seed_from_u64(index);
            let made = Initializer::new(parameters.clone().into(), stake, random);
            let signer = Signer {
                party_id: format!("pool{index}"),
                verification_key_for_concatenation: made.bls_verification_key_proof_of_possession.into(),
                verification_key_signature_for_concatenation: None,
                operational_certificate: None,
                kes_evolutions: None,
            };
            SignerWithStake::from_signer(signer, stake)
        };
        let roster = Roster::new((0..signers).map(signer).collect(), &parameters).unwrap();
        roster.check().unwrap();
        let clerk = roster.clerk().unwrap();
        let theirs = clerk.compute_aggregate_verification_key();
        let theirs = theirs.to_concatenation_aggregate_verification_key().clone();
        assert_eq!(roster.key_text(), mithril_common::crypto_helper::ProtocolKey::new(theirs).to_json_hex().unwrap());
        for (index, party) in (0_u64..).zip(&roster.parties) {
            let (key, stake) = clerk.get_concatenation_registered_party_for_index(&index).unwrap();
            assert_eq!((key, stake), (party.key, party.stake), "{signers} {index}");
        }
    }
}

#[test]
fn a_key_without_its_proof_of_possession_signs_nothing() {
    let fixture = fixture();
    let mut signers = fixture.signers_with_stake();
    let mut key = signers[0].verification_key_for_concatenation.into_inner();
    key.pop = signers[1].verification_key_for_concatenation.into_inner().pop;
    signers[0].verification_key_for_concatenation = key.into();
    let roster = Roster::new(signers, &fixture.protocol_parameters()).unwrap();
    assert!(roster.check().unwrap_err().to_string().contains("is refused"));
    let message = message("1");
    let refused = roster.aggregate(&message.to_message(), &fixture.sign_all(&message)).unwrap_err();
    assert!(matches!(refused, AggregateError::Failed(_)), "{refused}");
    let twice = [fixture.signers_with_stake(), fixture.signers_with_stake()].concat();
    assert!(matches!(Roster::new(twice, &fixture.protocol_parameters()), Err(RosterError::Key { .. })));
}

#[test]
fn signatures_are_counted_for_the_party_that_holds_the_key_and_for_no_other() {
    let fixture = fixture();
    let roster = Roster::new(fixture.signers_with_stake(), &fixture.protocol_parameters()).unwrap();
    let message = message("1");
    let signatures = fixture.sign_all(&message);
    for signature in &signatures {
        let mut indexes = signature.won_indexes.clone();
        indexes.sort_unstable();
        assert_eq!(roster.verify(&message.to_message(), signature), Ok(indexes));
    }
    let [first, second, ..] = signatures.as_slice() else { panic!("some sign") };
    let stolen = SingleSignature { party_id: second.party_id.clone(), ..first.clone() };
    let refusal = roster.verify(&message.to_message(), &stolen).unwrap_err();
    assert!(matches!(refusal, SignatureRefusal::ForeignParty { .. }), "{refusal}");
    assert!(matches!(roster.verify("other", first), Err(SignatureRefusal::Invalid(_))));
}

#[test]
fn the_lottery_here_and_in_mithril_stm_agree_on_every_index() {
    for phi in [0.2, 0.7, 0.95] {
        let fixture = MithrilFixtureBuilder::default()
            .with_signers(5)
            .with_protocol_parameters(ProtocolParameters::new(5, 60, phi))
            .build();
        let roster = Roster::new(fixture.signers_with_stake(), &fixture.protocol_parameters()).unwrap();
        let message = message("1");
        let mut seen = [0, 0];
        for signature in fixture.sign_all(&message) {
            for index in 0..60 {
                let mut inner = signature.to_protocol_signature();
                inner.set_concatenation_signature_indices(&[index]);
                let holder = &roster.parties[inner.signer_index as usize];
                let text = message.to_message();
                let theirs =
                    inner.verify(&roster.stm, &holder.key, &holder.stake, &roster.key, text.as_bytes()).is_ok();
                let one = SingleSignature { signature: inner.into(), ..signature.clone() };
                assert_eq!(roster.verify(&text, &one).is_ok(), theirs, "{phi} {index}");
                assert_eq!(signature.won_indexes.contains(&index), theirs);
                seen[usize::from(theirs)] += 1;
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    }
}

#[test]
fn an_index_that_is_named_twice_is_no_second_index() {
    let fixture = fixture();
    let roster = Roster::new(fixture.signers_with_stake(), &fixture.protocol_parameters()).unwrap();
    let message = message("1");
    let signature = fixture.sign_all(&message).remove(0);
    for wrong in [vec![], vec![1, 1], vec![100], vec![u64::MAX]] {
        let mut inner = signature.to_protocol_signature();
        inner.set_concatenation_signature_indices(&wrong);
        let forged = SingleSignature { signature: inner.into(), ..signature.clone() };
        let refusal = roster.verify(&message.to_message(), &forged);
        assert_eq!(refusal, Err(SignatureRefusal::Indexes { most: 100 }), "{wrong:?}");
    }
}

#[test]
fn what_is_aggregated_verifies_with_the_key_and_needs_a_quorum() {
    let fixture = fixture();
    let roster = Roster::new(fixture.signers_with_stake(), &fixture.protocol_parameters()).unwrap();
    let message = message("1").to_message();
    let signatures = fixture.sign_all(&message);
    let aggregate = roster.aggregate(&message, &signatures).unwrap();
    let parameters = fixture.protocol_parameters().into();
    aggregate.verify(message.as_bytes(), roster.key(), &parameters, None, None).unwrap();
    let most = signatures.iter().map(|one| one.won_indexes.len()).max().unwrap();
    let one_has_all = most >= 5;
    let text = serde_json::to_value(aggregate.into_inner()).unwrap();
    assert_eq!((one_has_all, text["signatures"].as_array().map(Vec::len)), (true, Some(1)), "one is enough");
    assert!(matches!(roster.aggregate(&message, &[]), Err(AggregateError::NoQuorum { have: 0, needed: 5 })));
}

#[test]
fn an_empty_roster_is_none() {
    assert!(matches!(Roster::new(vec![], &ProtocolParameters::new(5, 100, 0.7)), Err(RosterError::Empty)));
}

#[test]
fn a_quorum_counts_different_indexes_and_takes_replaced_ones_back() {
    let mut quorum = Quorum::new(3);
    quorum.add(&[1, 2]);
    quorum.add(&[2]);
    assert_eq!((quorum.have(), quorum.is_reached()), (2, false));
    quorum.remove(&[1, 2]);
    assert_eq!(quorum.have(), 1);
    quorum.add(&[7, 9]);
    assert!(quorum.is_reached());
}
