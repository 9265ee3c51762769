//! The interchange tests of EIP-3076, read from `../shared/data/eip3076` beside the repository: every file, as it is and
//! minified, on every ledger, carried through an export, and with an end of the machine after every operation.
//!
//! The rule of the guard is the minimal one (two watermarks), so what counts is `should_succeed`. A file whose data contradicts
//! itself is imported all the same, as its highest numbers.

mod scene;
mod simdisk;
#[path = "eip3076/stage.rs"]
mod stage;
#[path = "eip3076/suite.rs"]
mod suite;
#[path = "eip3076/transfer.rs"]
mod transfer;

use scene::Dice;
use semel_guard::{Position, PublicKey};
use semel_ledger::interchange::eip3076::{Eip3076Error, Interchange, Record, Root, SignedAttestation, SignedBlock};
use semel_ledger::{Journal, Options};
use simdisk::{SimDisk, Survivors};
use stage::{Between, Stage, map, simulated};
use std::sync::Arc;
use suite::{Case, suite};

/// Runs a case and returns what was signed, of everything that was asked for.
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]
fn run(case: &Case, is_minified: bool, stage: &mut Stage) -> Vec<bool> {
    let mut verdicts = Vec::new();
    let mut left: Vec<(PublicKey, Position, Option<Root>)> = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let context = format!("{}, step {number}", case.name);
        let file = step.interchange();
        let file = if is_minified { file.minified() } else { file };
        match stage.import(&file) {
            Ok(()) => assert!(step.should_succeed, "{context}: imported"),
            Err(Eip3076Error::OtherChain { .. }) => assert!(!step.should_succeed, "{context}: refused"),
            Err(error) => panic!("{context}: {error}"),
        }
        if step.should_succeed {
            left.extend(signed_in(&file));
        }
        for asked in step.asked() {
            let (key, position, root) = (asked.key(), asked.position(), Root::parse(&asked.signing_root).unwrap());
            let is_signed = stage.ask(&key, position, root);
            assert_eq!(is_signed, asked.should_succeed, "{context}: {position}, root {root}");
            if is_signed {
                let vote = (key, position, Some(root));
                assert!(left.iter().all(|other| !is_slashable(other, &vote)), "{context}: {position} can be slashed");
                left.push(vote);
            }
            verdicts.push(is_signed);
        }
    }
    verdicts
}

fn signed_in(file: &Interchange) -> Vec<(PublicKey, Position, Option<Root>)> {
    let mut left = Vec::new();
    for Record { key, blocks, attestations } in &file.records {
        for SignedBlock { slot, signing_root } in blocks {
            left.push((key.clone(), Position::EthereumBlock { slot: *slot }, *signing_root));
        }
        for SignedAttestation { source, target, signing_root } in attestations {
            let position = Position::EthereumAttestation { source: *source, target: *target };
            left.push((key.clone(), position, *signing_root));
        }
    }
    left
}

/// What a beacon chain punishes, straight from its definition: two blocks of one slot, two votes for one target, a vote
/// around another.
fn is_slashable(a: &(PublicKey, Position, Option<Root>), b: &(PublicKey, Position, Option<Root>)) -> bool {
    let differs = a.2.is_none() || a.2 != b.2;
    match (a.1, b.1) {
        _ if a.0 != b.0 => false,
        (Position::EthereumBlock { slot: a }, Position::EthereumBlock { slot: b }) => a == b && differs,
        (
            Position::EthereumAttestation { source: s1, target: t1 },
            Position::EthereumAttestation { source: s2, target: t2 },
        ) => (t1 == t2 && differs) || (s1 < s2 && t2 < t1) || (s2 < s1 && t1 < t2),
        _ => false,
    }
}

/// Every file, as it is and minified, each with a stage of its own.
fn run_all(cases: &[Case], stage: impl Fn(&Case) -> Stage) -> Vec<Vec<bool>> {
    let both = |case| [false, true].map(|is_minified| run(case, is_minified, &mut stage(case)));
    cases.iter().flat_map(both).collect()
}

#[test]
fn the_suite_is_complete() {
    let Some(cases) = suite("eip3076::the_suite_is_complete") else { return };
    let steps = || cases.iter().flat_map(|case| &case.steps);
    let asked = || cases.iter().flat_map(Case::asked);
    let counted = [
        ("files", cases.len(), 38),
        ("steps", steps().count(), 49),
        ("records", steps().map(|step| step.interchange().records.len()).sum(), 64),
        ("imports that must fail", steps().filter(|step| !step.should_succeed).count(), 1),
        ("steps with slashable data", steps().filter(|step| step.contains_slashable_data).count(), 21),
        ("blocks", steps().map(|step| step.blocks.len()).sum(), 71),
        ("attestations", steps().map(|step| step.attestations.len()).sum(), 79),
        ("differing", asked().filter(|a| a.should_succeed != a.should_succeed_complete).count(), 17),
        ("signed", asked().filter(|a| a.should_succeed).count(), 37),
    ];
    for (what, found, expected) in counted {
        println!("{found} {what}");
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn every_file_passes_as_it_is_and_minified() {
    let Some(cases) = suite("eip3076::every_file_passes_as_it_is_and_minified") else { return };
    let verdicts = run_all(&cases, |case| Stage::new(case, map(), Between::Nothing));
    let asked = verdicts.iter().flatten().count();
    println!("{} runs, {asked} of {asked} verdicts as expected", verdicts.len());
    assert_eq!((verdicts.len(), asked), (76, 300));
}

#[test]
fn every_file_passes_on_the_journal_of_a_real_disk() {
    let Some(cases) = suite("eip3076::every_file_passes_on_the_journal_of_a_real_disk") else { return };
    let dir = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    let verdicts = run_all(&cases, |case| {
        number.set(number.get() + 1);
        let at = dir.path().join(number.get().to_string());
        let options = Options { allow_volatile: true, segment_records: 32, ..Options::at(at) };
        Stage::new(case, Arc::new(Journal::open(options, &case.subjects()).unwrap()), Between::Nothing)
    });
    assert_eq!(verdicts.len(), 76);
}

#[test]
fn every_file_passes_when_each_import_is_carried_into_a_fresh_ledger() {
    let Some(cases) = suite("eip3076::every_file_passes_when_each_import_is_carried_into_a_fresh_ledger") else {
        return;
    };
    let verdicts = run_all(&cases, |case| Stage::new(case, map(), Between::Carry));
    assert_eq!(verdicts.len(), 76);
}

#[test]
fn every_file_passes_with_an_end_after_every_operation() {
    let Some(cases) = suite("eip3076::every_file_passes_with_an_end_after_every_operation") else { return };
    for survivors in [Survivors::Kernel, Survivors::Mask(0), Survivors::Mask(u64::MAX), Survivors::Seed(5)] {
        let verdicts = run_all(&cases, |case| {
            let disk = SimDisk::new();
            let journal = Arc::new(simulated(&disk, &case.subjects()).unwrap());
            Stage::new(case, journal, Between::Crash(disk, survivors))
        });
        assert_eq!(verdicts.len(), 76);
    }
}

#[test]
fn nothing_slashable_leaves_whatever_is_asked_around_a_file() {
    let Some(cases) = suite("eip3076::nothing_slashable_leaves_whatever_is_asked_around_a_file") else { return };
    let mut dice = Dice(3076);
    let (mut signed, mut refused) = (0, 0);
    for case in cases.iter().filter(|case| case.steps.iter().all(|step| step.should_succeed)) {
        let mut stage = Stage::new(case, map(), Between::Nothing);
        let mut left = Vec::new();
        for step in &case.steps {
            stage.import(&step.interchange()).unwrap();
            left.extend(signed_in(&step.interchange()));
            for _ in 0..300 {
                let key = stage.subjects[dice.below(stage.subjects.len())].key.clone();
                let (a, b) = (dice.below(40) as u64, dice.below(40) as u64);
                let position = match dice.below(2) {
                    0 => Position::EthereumBlock { slot: a },
                    _ => Position::EthereumAttestation { source: a.min(b), target: a.max(b) },
                };
                let vote = (key, position, Some(Root([dice.below(3) as u8; 32])));
                if stage.ask(&vote.0, position, vote.2.unwrap()) {
                    assert!(left.iter().all(|other| !is_slashable(other, &vote)), "{}: {position}", case.name);
                    left.push(vote);
                    signed += 1;
                } else {
                    refused += 1;
                }
            }
        }
    }
    assert!(signed > 300 && refused > 3_000, "{signed} signed, {refused} refused");
}
