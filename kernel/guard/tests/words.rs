//! The words that operators read and the numbers that ledgers hold. Both are frozen.

mod stage;

use semel_guard::{
    Algorithm, Digest, Duty, EthereumDuty, History, Lane, Mark, Position, PublicKey, Reason, SignedEntity, Step,
    Verdict, decide,
};
use stage::{precommit, signature_of, subject};
use std::collections::BTreeSet;

#[test]
fn positions_print_in_the_words_of_their_field() {
    let rows = [
        (precommit(7), "precommit #7/0"),
        (Position::Tendermint { height: 1, round: 2, step: Step::Propose }, "proposal #1/2"),
        (Position::Tendermint { height: 3, round: 0, step: Step::Prevote }, "prevote #3/0"),
        (Position::EthereumBlock { slot: 9 }, "block of slot 9"),
        (Position::EthereumAttestation { source: 3, target: 4 }, "attestation 3 → 4"),
        (Position::EthereumDuty { duty: EthereumDuty::SyncMessage, slot: 5 }, "SyncMessage of slot 5"),
        (
            Position::Mithril { entity: SignedEntity::CardanoTransactions, epoch: 5, number: 77 },
            "CardanoTransactions at epoch 5, 77",
        ),
        (Position::Aura { slot: 12 }, "seal of slot 12"),
    ];
    for (position, words) in rows {
        assert_eq!(position.to_string(), words);
    }
    assert_eq!(Lane::Tendermint.show(Mark([8, 0, 0])), "everything up to height #7", "a floor of a whole height");
}

#[test]
fn lanes_have_frozen_numbers_and_are_found_by_them() {
    let plain = [
        (Lane::Tendermint, 1),
        (Lane::EthereumBlock, 16),
        (Lane::EthereumAttestation, 17),
        (Lane::EthereumDuty(EthereumDuty::AggregatorSelection), 32),
        (Lane::EthereumDuty(EthereumDuty::Aggregate), 33),
        (Lane::EthereumDuty(EthereumDuty::SyncMessage), 34),
        (Lane::EthereumDuty(EthereumDuty::SyncSelection), 35),
        (Lane::EthereumDuty(EthereumDuty::SyncContribution), 36),
        (Lane::Mithril(SignedEntity::MithrilStakeDistribution), 64),
        (Lane::Mithril(SignedEntity::CardanoStakeDistribution), 65),
        (Lane::Mithril(SignedEntity::CardanoImmutableFilesFull), 66),
        (Lane::Mithril(SignedEntity::CardanoTransactions), 67),
        (Lane::Mithril(SignedEntity::CardanoDatabase), 68),
        (Lane::Mithril(SignedEntity::CardanoBlocksTransactions), 69),
        (Lane::Aura, 96),
    ];
    for (lane, code) in plain {
        assert_eq!((lane.code(), Lane::from_code(code)), (code, Some(lane)));
    }
    let known: BTreeSet<u16> = plain.iter().map(|(_, code)| *code).collect();
    for code in 0..=u16::MAX {
        assert_eq!(Lane::from_code(code).is_some(), known.contains(&code), "{code}");
    }
    assert_eq!([Step::Propose, Step::Prevote, Step::Precommit].map(|step| step as u64), [1, 2, 3]);
    let algorithms = [Algorithm::Ed25519, Algorithm::Secp256k1, Algorithm::Bls12381, Algorithm::Sr25519];
    assert_eq!(algorithms.map(|algorithm| algorithm as u8), [1, 2, 3, 4]);
    assert!(algorithms.iter().all(|algorithm| Algorithm::from_code(*algorithm as u8) == Some(*algorithm)));
    assert_eq!((Algorithm::from_code(0), Algorithm::from_code(5)), (None, None));
}

#[test]
fn reasons_have_frozen_codes_labels_and_a_hint() {
    let rows: Vec<_> = Reason::ALL.iter().map(|reason| (reason.code(), reason.label())).collect();
    assert_eq!(
        rows,
        [
            ("GUARD-0001", "regression"),
            ("GUARD-0002", "too_far"),
            ("GUARD-0003", "conflict"),
            ("GUARD-0004", "unknown"),
            ("GUARD-0005", "tombstoned"),
            ("GUARD-0006", "unavailable"),
            ("GUARD-0007", "held"),
        ]
    );
    assert!(Reason::ALL.iter().all(|reason| reason.hint().len() > 20));
}

#[test]
fn refusals_say_what_was_asked_what_is_stored_and_that_nothing_was_signed() {
    let subject = subject(1);
    let mut history = History::default();
    let entry = |text: &str| semel_guard::Entry {
        mark: precommit(7).mark(),
        digest: Digest::of(text.as_bytes()),
        content: Digest::of(text.as_bytes()),
        bytes: text.as_bytes().into(),
        signature: None,
    };
    let say = |history: &History, height: u64| match decide(
        history,
        &Duty::new(&subject, precommit(height), b"B").unwrap(),
    ) {
        Verdict::Refuse(refusal) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(
        say(&history, 3_000_000_000),
        "GUARD-0002: precommit #3000000000/0 on test-1 refused: too far for a first signature; nothing was signed"
    );
    history.push(Lane::Tendermint, entry("A"));
    let rows = [
        (
            7,
            "GUARD-0003: precommit #7/0 on test-1 refused: DOUBLE SIGN REFUSED, another message was signed there; nothing was signed",
        ),
        (6, "GUARD-0001: precommit #6/0 on test-1 refused: this key already signed precommit #7/0; nothing was signed"),
        (
            2_000_000,
            "GUARD-0002: precommit #2000000/0 on test-1 refused: too far above precommit #7/0; nothing was signed",
        ),
    ];
    for (height, words) in rows {
        assert_eq!(say(&history, height), words);
    }
    history.tombstone = true;
    assert_eq!(
        say(&history, 8),
        "GUARD-0005: precommit #8/0 on test-1 refused: the key has a tombstone; nothing was signed"
    );
}

#[test]
fn keys_digests_and_signatures_print_as_upper_case_hex() {
    let key = PublicKey::new(Algorithm::Ed25519, &[0xab; 32]).unwrap();
    assert_eq!((key.to_string(), format!("{key:?}")), ("AB".repeat(32), format!("ed25519:{}", "AB".repeat(32))));
    let digest = Digest([0xcd; 32]);
    assert_eq!((digest.to_string(), format!("{digest:?}")), ("CD".repeat(32), format!("{}…", "CD".repeat(6))));
    let signature = signature_of(b"x");
    assert_eq!(signature.to_string(), Digest::of(b"x").to_string());
}
