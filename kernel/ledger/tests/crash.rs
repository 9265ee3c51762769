//! Every operation of the disk, failed in every way: not executed, unsynced sectors lost in any combination, an error, half a
//! write. After each, the ledger opens again, explains every signature that left, and no floor has fallen.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may stop, and counts")]

mod scene;
mod simdisk;

use scene::{Dice, ask, precommit, refusal, signature_of, subject};
use semel_guard::{
    Begun, Denied, Digest, Duty, EthereumDuty, Guard, Lane, Ledger, Mark, Position, SignError, Step, Subject, decide,
};
use semel_ledger::{Durability, Journal, LedgerErrorKind, Options, RESERVE_HEIGHTS_MAX};
use simdisk::{Fault, SimDisk, Survivors};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

const HEIGHTS: u64 = 3;

/// Segments this short change every few operations.
const SEGMENT_RECORDS: usize = 32;

/// What the world knows: what left the signer, and what it was told.
#[derive(Default, Clone)]
struct World {
    left: Vec<(Subject, Position, String)>,
    floors: BTreeMap<(Subject, Lane), Mark>,
    /// None: asked for, and not answered.
    buried: BTreeMap<Subject, Option<bool>>,
    highest: u64,
}

struct Stage {
    disk: SimDisk,
    durability: Durability,
    witness: Option<PathBuf>,
}

impl Stage {
    fn open(&self, subjects: &[Subject]) -> Result<Journal, semel_ledger::LedgerError> {
        let options = Options {
            durability: self.durability,
            host: None,
            disk: Arc::new(self.disk.clone()),
            witness: self.witness.clone(),
            check: false,
            segment_records: SEGMENT_RECORDS,
            ..Options::at("/var/semel")
        };
        Journal::open(options, subjects)
    }
}

/// Stops a scenario, as an error stops a process.
struct Stopped;

impl World {
    fn sign(&mut self, guard: &Guard<Journal>, subject: &Subject, position: Position) -> Result<(), Stopped> {
        let text = format!("{position}");
        if let Position::Tendermint { height, .. } = position {
            self.highest = self.highest.max(height);
        }
        match ask(guard, subject, position, &text) {
            Ok(answer) => {
                assert_eq!(answer.signature, signature_of(text.as_bytes()));
                self.left.push((subject.clone(), position, text));
                Ok(())
            }
            Err(_) => Err(Stopped),
        }
    }

    /// Begins all of them before the first is finished, as a thread with many connections does.
    fn sign_together(&mut self, guard: &Guard<Journal>, asked: &[(&Subject, Position)]) -> Result<(), Stopped> {
        let begin = |(subject, position): &(&Subject, Position)| {
            let text = format!("{position}");
            let begun = guard.begin(&Duty::new(subject, *position, text.as_bytes()).unwrap());
            ((*subject).clone(), *position, text, begun)
        };
        let begun: Vec<_> = asked.iter().map(begin).collect();
        let mut all = Ok(());
        for (subject, position, text, begun) in begun {
            let Ok(Begun::Pending(pending)) = begun else {
                all = Err(Stopped);
                continue;
            };
            match pending.finish(|_permit, bytes| Ok(signature_of(bytes))) {
                Ok(_) => self.left.push((subject, position, text)),
                Err(_) => all = Err(Stopped),
            }
        }
        all
    }

    fn raise(&mut self, journal: &Journal, subject: &Subject, lane: Lane, floor: Mark) -> Result<(), Stopped> {
        self.highest = self.highest.max(if lane == Lane::Tendermint { floor.0[0] } else { 0 });
        journal.raise(subject, lane, floor).map_err(|_| Stopped)?;
        self.floors.insert((subject.clone(), lane), floor);
        Ok(())
    }

    fn bury(&mut self, journal: &Journal, subject: &Subject, buried: bool) -> Result<(), Stopped> {
        self.buried.insert(subject.clone(), None);
        journal.bury(subject, buried).map_err(|_| Stopped)?;
        self.buried.insert(subject.clone(), Some(buried));
        Ok(())
    }
}

/// Every operation of the ledger, once or more.
fn scenario(stage: &Stage, world: &mut World) -> Result<(), Stopped> {
    let (a, b) = (subject(1), subject(2));
    let open = |subjects: &[Subject]| stage.open(subjects).map_err(|_| Stopped);
    let journal = open(std::slice::from_ref(&a))?;
    let guard = Guard::new(journal.clone());
    for height in 1..=3 {
        for step in [Step::Propose, Step::Prevote, Step::Precommit] {
            world.sign(&guard, &a, Position::Tendermint { height, round: 0, step })?;
        }
    }
    world.raise(&journal, &a, Lane::Tendermint, Mark([20, 0, 3]))?;
    world.sign(&guard, &a, precommit(21))?;
    journal.register(std::slice::from_ref(&b)).map_err(|_| Stopped)?;
    world.sign(&guard, &b, precommit(1))?;
    world.sign(&guard, &b, Position::EthereumAttestation { source: 3, target: 5 })?;
    world.sign(&guard, &b, Position::EthereumAttestation { source: 4, target: 6 })?;
    for slot in [4, 2, 9, 1] {
        world.sign(&guard, &b, Position::EthereumDuty { duty: EthereumDuty::SyncMessage, slot })?;
    }
    world.raise(&journal, &b, Lane::EthereumAttestation, Mark([7, 4, 0]))?;
    world.bury(&journal, &b, true)?;
    // Refusals fill the segment, until it changes.
    for _ in 0..2 * SEGMENT_RECORDS {
        let asked = ask(&guard, &a, precommit(2), "another block");
        assert!(asked.is_err(), "signed below the floor");
    }
    world.sign(&guard, &a, precommit(22))?;
    world.bury(&journal, &b, false)?;
    world.sign(&guard, &b, precommit(2))?;
    let slot = Position::EthereumDuty { duty: EthereumDuty::SyncMessage, slot: 11 };
    world.sign_together(&guard, &[(&a, precommit(23)), (&b, precommit(3)), (&b, slot), (&a, precommit(24))])?;
    journal.close().map_err(|_| Stopped)?;
    drop((guard, journal));
    let both = [a.clone(), b.clone()];
    let guard = Guard::new(open(&both)?);
    for height in 40..=43 {
        world.sign(&guard, &a, precommit(height))?;
    }
    drop(guard);
    let guard = Guard::new(open(&both)?);
    world.sign(&guard, &a, precommit(60))?;
    world.sign(&guard, &b, precommit(60))
}

/// Opens the ledger after the fault and holds it against the world.
fn check(stage: &Stage, world: &World, about: &str) -> Result<Journal, semel_ledger::LedgerError> {
    let journal = stage.open(&[subject(1), subject(2)])?;
    let guard = Guard::new(journal.clone());
    for ((subject, lane), floor) in &world.floors {
        let found = journal.history(subject, *lane).unwrap().floor;
        let kept = found.is_some_and(|found| lane.higher(found, *floor) == found);
        assert!(kept, "{about}: the floor {floor:?} of {lane} fell to {found:?}");
    }
    for (subject, buried) in &world.buried {
        let history = journal.history(subject, Lane::Tendermint).unwrap();
        assert!(buried.is_none_or(|buried| buried == history.tombstone), "{about}: tombstone {buried:?} forgotten");
    }
    for (subject, position, text) in &world.left {
        let other = refusal(ask(&guard, subject, *position, "another block"));
        assert!(other.is_some(), "{about}: {position} was signed twice");
        // The same question is answered with the same signature, or not at all.
        if let Ok(answer) = ask(&guard, subject, *position, text) {
            assert_eq!(answer.signature, signature_of(text.as_bytes()), "{about}");
        }
    }
    Ok(journal)
}

/// Goes on with a ledger that was opened after a fault, and opens it once more.
fn go_on(stage: &Stage, journal: Journal, world: &mut World, about: &str) {
    let a = subject(1);
    let guard = Guard::new(journal.clone());
    let bound = world.highest + RESERVE_HEIGHTS_MAX + 1;
    let went = world.sign(&guard, &a, precommit(bound));
    assert!(went.is_ok(), "{about}: more than the window is lost");
    drop(guard);
    journal.close().unwrap();
    drop(journal);
    drop(check(stage, world, &format!("{about}, once more")).unwrap_or_else(|error| panic!("{about}: {error}")));
}

/// Operations that failed, and ledgers that were opened after it.
struct Counts {
    points: u64,
    recoveries: u64,
}

/// What may be left of `risk` unsynced sectors and names after the power went: nothing, everything up to one of them (torn),
/// everything but one of them (written in another order), and mixtures; every one where they are few.
fn left_by_a_loss_of_power(risk: usize, dice: &mut Dice) -> Vec<Survivors> {
    let mut survivors = vec![Survivors::Kernel, Survivors::First(0)];
    if risk <= 3 {
        survivors.extend((1..1_u64 << risk).map(Survivors::Mask));
    } else {
        let cuts = 4.min(risk);
        survivors
            .extend((0..cuts).map(|cut| Survivors::First(1 + cut * risk / cuts + dice.below(risk.div_ceil(cuts)))));
        survivors.extend((0..cuts).map(|cut| Survivors::AllBut(cut * risk / cuts + dice.below(risk / cuts))));
        survivors.push(Survivors::Seed(dice.roll()));
    }
    survivors
}

/// The scenario with a fault at every operation, until it ends before the fault; after each, the ledger opens on what
/// `survivors` says of the sectors and names at risk.
fn enumerate(
    durability: Durability,
    fault: Fault,
    seed: u64,
    survivors: impl Fn(usize, &mut Dice) -> Vec<Survivors>,
) -> Counts {
    let mut counts = Counts { points: 0, recoveries: 0 };
    let mut dice = Dice(scene::seed(seed));
    for at in 1.. {
        let stage = Stage { disk: SimDisk::new(), durability, witness: None };
        let mut world = World::default();
        stage.disk.arm(at, fault);
        let _ended = scenario(&stage, &mut world);
        if !stage.disk.fired() {
            break;
        }
        counts.points = at;
        for survivor in survivors(stage.disk.at_risk(), &mut dice) {
            let about = format!("{durability:?}, {fault:?} at operation {at}, {survivor:?}");
            let mut world = world.clone();
            let mut stage = Stage { disk: stage.disk.reboot(survivor), durability, witness: None };
            counts.recoveries += 1;
            // Every other time the recovery is cut off, too, and the power goes.
            if dice.below(2) == 0 {
                stage.disk.arm(1 + dice.roll() % 60, Fault::Halt);
                if let Ok(journal) = stage.open(&[subject(1), subject(2)]) {
                    let guard = Guard::new(journal);
                    let _ended = world.sign(&guard, &subject(1), precommit(world.highest + RESERVE_HEIGHTS_MAX + 1));
                }
                stage.disk = stage.disk.reboot(Survivors::Seed(dice.roll()));
            }
            match check(&stage, &world, &about) {
                Ok(journal) => go_on(&stage, journal, &mut world, &about),
                Err(error) => {
                    // Only what a failing medium did to acknowledged records may stop the next start.
                    let is_loud = matches!(error.kind, LedgerErrorKind::Damaged(_));
                    let is_error = fault != Fault::Halt;
                    assert!(is_loud && is_error, "{about}: does not open: {error}");
                }
            }
        }
    }
    println!("{durability:?}, {fault:?}: {} points, {} recoveries", counts.points, counts.recoveries);
    assert!(counts.points > 300, "only {} operations were numbered", counts.points);
    counts
}

const RESERVE: Durability = Durability::Reserve { heights: HEIGHTS };

#[test]
fn a_crash_at_any_operation_in_sync_mode_leaves_a_ledger_that_opens_and_explains_every_signature() {
    let counts = enumerate(Durability::Sync, Fault::Halt, 1, left_by_a_loss_of_power);
    assert!(counts.recoveries > 1000, "{} recoveries", counts.recoveries);
}

#[test]
fn a_crash_at_any_operation_in_reserve_mode_leaves_a_ledger_that_opens_and_explains_every_signature() {
    let counts = enumerate(RESERVE, Fault::Halt, 2, left_by_a_loss_of_power);
    assert!(counts.recoveries > 1000, "{} recoveries", counts.recoveries);
}

#[test]
fn a_start_that_is_cut_off_twice_leaves_a_ledger_that_opens() {
    let stage = |disk| Stage { disk, durability: Durability::Sync, witness: None };
    let subjects = [subject(1)];
    let mut count = 0;
    for first in 1.. {
        let unborn = stage(SimDisk::new());
        unborn.disk.arm(first, Fault::Halt);
        if unborn.open(&subjects).is_ok() {
            break;
        }
        // The process ended, and what it left is not yet on the medium when the next one finds it.
        for second in 1.. {
            let found = stage(unborn.disk.reboot(Survivors::Kernel));
            found.disk.arm(second, Fault::Halt);
            let is_open = found.open(&subjects).is_ok();
            for names in 0..1_u64 << found.disk.names_at_risk() {
                for sectors in [false, true] {
                    let survivors = Survivors::Apart { sectors, names };
                    let opened = stage(found.disk.reboot(survivors)).open(&subjects);
                    let error = opened.err().map(|error| error.to_string());
                    assert_eq!(error, None, "cut off at operation {first}, then at {second}, {survivors:?}");
                    count += 1;
                }
            }
            if is_open {
                break;
            }
        }
    }
    println!("{count} starts");
    assert!(count > 3000, "only {count} starts");
}

/// Every error that a disk gives, at every operation. The first is followed by losses of power of each kind; where the
/// others differ is in what the process does with them.
fn enumerate_errors(durability: Durability, seed: u64) {
    const EINTR: i32 = 4;
    const EIO: i32 = 5;
    const EMFILE: i32 = 24;
    const ENOSPC: i32 = 28;
    const EROFS: i32 = 30;
    let some = |risk: usize, dice: &mut Dice| {
        vec![
            Survivors::Kernel,
            Survivors::First(0),
            Survivors::First(dice.below(risk + 1)),
            Survivors::Seed(dice.roll()),
        ]
    };
    let few = |_: usize, dice: &mut Dice| match dice.below(3) {
        0 => vec![Survivors::Kernel],
        1 => vec![Survivors::First(0)],
        _ => vec![Survivors::Seed(dice.roll())],
    };
    for fault in [Fault::Error(EIO), Fault::Short] {
        enumerate(durability, fault, seed, some);
    }
    for number in [ENOSPC, EROFS, EINTR, EMFILE] {
        enumerate(durability, Fault::Error(number), seed, few);
    }
}

#[test]
fn an_error_at_any_operation_in_sync_mode_costs_no_signature_twice() {
    enumerate_errors(Durability::Sync, 3);
}

#[test]
fn an_error_at_any_operation_in_reserve_mode_costs_no_signature_twice() {
    enumerate_errors(RESERVE, 4);
}

#[test]
fn after_a_crash_of_the_process_the_witness_gives_the_exact_floor_and_without_it_the_bound_counts() {
    let a = subject(1);
    let durability = Durability::Reserve { heights: 100 };
    let name = "after_a_crash_of_the_process_the_witness_gives_the_exact_floor_and_without_it_the_bound_counts";
    let Some(directory) = scene::witness_directory(name) else { return };
    let rows: [(&str, bool, Survivors, Mark); 4] = [
        ("process, witness", true, Survivors::Kernel, Mark([5, 0, 3])),
        ("process, no witness", false, Survivors::Kernel, Mark([101, 0, 0])),
        ("power, a witness of this boot that names what is not there", true, Survivors::Mask(0), Mark([101, 0, 0])),
        ("power, no witness", false, Survivors::Mask(0), Mark([101, 0, 0])),
    ];
    for (name, has_witness, survivors, floor) in rows {
        let witness = has_witness.then(|| directory.path().to_path_buf());
        let stage = Stage { disk: SimDisk::new(), durability, witness };
        let guard = Guard::new(stage.open(std::slice::from_ref(&a)).unwrap());
        for height in 1..=5 {
            ask(&guard, &a, precommit(height), "block").unwrap();
        }
        // Until the bound of the first height is on the medium, and no longer: what follows it is not.
        let durable = || {
            let disk = stage.disk.reboot(Survivors::Mask(0));
            let stage = Stage { disk, durability, witness: None };
            stage.open(std::slice::from_ref(&a)).unwrap().history(&a, Lane::Tendermint).unwrap().floor
        };
        let is_there = (0..5_000).any(|_| {
            std::thread::yield_now();
            durable() == Some(Mark([101, 0, 0]))
        });
        assert!(is_there, "{name}: the bound never reached the medium");
        ask(&guard, &a, Position::Tendermint { height: 5, round: 1, step: Step::Prevote }, "block").unwrap();
        let floor = if floor == Mark([5, 0, 3]) { Mark([5, 1, 2]) } else { floor };
        let next = Stage { disk: stage.disk.reboot(survivors), durability, witness: stage.witness.clone() };
        let journal = next.open(std::slice::from_ref(&a)).unwrap();
        assert_eq!(journal.history(&a, Lane::Tendermint).unwrap().floor, Some(floor), "{name}");
    }
}

#[test]
fn a_signature_that_was_lost_is_made_again_over_the_stored_bytes() {
    let a = subject(1);
    let stage = Stage { disk: SimDisk::new(), durability: Durability::Sync, witness: None };
    let guard = Guard::new(stage.open(std::slice::from_ref(&a)).unwrap());
    let duty = Duty::with_content(&a, precommit(7), b"block at 10:00", b"block").unwrap();
    let failed = guard.admit(&duty, |_, _| Err(SignError { provider: "test".into(), reason: "unplugged".into() }));
    assert!(matches!(failed, Err(Denied::NotSigned(_))));
    let stage = Stage { disk: stage.disk.reboot(Survivors::Mask(0)), ..stage };
    let guard = Guard::new(stage.open(std::slice::from_ref(&a)).unwrap());
    let later = Duty::with_content(&a, precommit(7), b"block at 10:05", b"block").unwrap();
    let answer = guard.admit(&later, |_, bytes| Ok(signature_of(bytes))).unwrap();
    assert_eq!((&*answer.bytes, answer.repeated), (&b"block at 10:00"[..], true));
    let history = guard.ledger().history(&a, Lane::Tendermint).unwrap();
    assert_eq!(history.at(Lane::Tendermint, precommit(7).mark()).unwrap().digest, Digest::of(b"block at 10:00"));
    assert!(matches!(decide(&history, &later), semel_guard::Verdict::Replay(_)));
}
