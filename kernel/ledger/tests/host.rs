//! The ledger on its host: who may open it, where it may lie, what others see of it.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "host/medium.rs"]
mod medium;
#[path = "host/readers.rs"]
mod readers;
mod scene;
mod simdisk;

use scene::{Process, ask, at, precommit, refusal, skip, subject};
use semel_guard::{Guard, Lane, Ledger, Mark, Position, Reason, Subject};
use semel_ledger::{Durability, HostIdentity, Journal, LedgerError, LedgerErrorKind, Options, subject_id};
use simdisk::SimDisk;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::Arc;

/// Tells the process that it is the one that holds the key, and in which directory.
const ROLE: &str = "SEMEL_TEST_HOLDER";

fn open(directory: &Path, subjects: &[Subject]) -> Result<Journal, LedgerError> {
    Journal::open(at(directory, Durability::Sync), subjects)
}

fn code<T>(opened: Result<T, LedgerError>) -> &'static str {
    match opened {
        Ok(_) => "",
        Err(error) => {
            assert!(!error.hint().is_empty() && !error.to_string().is_empty(), "{error:?}");
            error.code()
        }
    }
}

fn floor(journal: &Journal, subject: &Subject) -> Option<Mark> {
    journal.history(subject, Lane::Tendermint).unwrap().floor
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            drop(fs::copy(entry.path(), target))
        }
    }
}

#[test]
fn a_key_that_another_process_signs_with_is_refused_until_that_process_ends() {
    let name = "a_key_that_another_process_signs_with_is_refused_until_that_process_ends";
    if let Ok(role) = std::env::var(ROLE) {
        let guard = Guard::new(open(Path::new(&role), &[subject(1)]).unwrap());
        ask(&guard, &subject(1), precommit(9), "block").unwrap();
        scene::say("\nholds it");
        loop {
            std::thread::park();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let mut process = Process::start(name, (ROLE, path.to_str().unwrap()));
    let mut said = BufReader::new(process.out.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "holds it"));
    assert_eq!(code(open(&path, &[subject(1)])), "LEDGER-0002");
    // None of the keys is taken when one of them is not free.
    assert_eq!(code(open(&path, &[subject(2), subject(1)])), "LEDGER-0002");
    let other = open(&path, &[subject(2)]).unwrap();
    assert_eq!(code(other.register(&[subject(3), subject(1)])), "LEDGER-0002");
    let guard = Guard::new(other);
    assert_eq!(refusal(ask(&guard, &subject(2), precommit(1), "block")), None);
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(10), "block")), Some(Reason::Unavailable));
    let third = open(&path, &[subject(3)]).unwrap();
    process.kill();
    third.register(&[subject(1)]).unwrap();
    assert_eq!(floor(&third, &subject(1)), Some(precommit(9).mark()), "what the dead process signed");
}

#[test]
fn one_process_cannot_open_a_key_twice_either_and_a_clone_is_the_same_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), &[subject(1)]).unwrap();
    let error = open(directory.path(), &[subject(1)]).err().unwrap();
    assert!(matches!(error.kind, LedgerErrorKind::KeyInUse { .. }), "{error}");
    assert!(error.path.ends_with(hex::encode(subject_id(&subject(1)))), "{error}");
    let clone = first.clone();
    drop(first);
    assert_eq!(code(open(directory.path(), &[subject(1)])), "LEDGER-0002", "a clone still holds it");
    drop(clone);
    assert_eq!(code(open(directory.path(), &[subject(1)])), "");
    // The same key on another chain is another subject.
    let _first = open(directory.path(), &[subject(1)]).unwrap();
    let elsewhere = Subject { chain: semel_guard::ChainId::new("test-2").unwrap(), ..subject(1) };
    assert_eq!(code(open(directory.path(), &[elsewhere])), "");
}

#[test]
fn a_key_that_is_released_goes_to_another_process_and_back_with_its_floor() {
    let directory = tempfile::tempdir().unwrap();
    let a = subject(1);
    let first = Guard::new(open(directory.path(), &[a.clone(), subject(2)]).unwrap());
    let second = Guard::new(open(directory.path(), &[subject(3)]).unwrap());
    ask(&first, &a, precommit(10), "block").unwrap();
    ask(&first, &a, Position::EthereumAttestation { source: 3, target: 9 }, "vote").unwrap();
    for (round, (from, to)) in (1..).zip([(&first, &second), (&second, &first), (&first, &second)]) {
        let height = 10 * round;
        assert_eq!(code(to.ledger().register(std::slice::from_ref(&a))), "LEDGER-0002");
        from.ledger().release(std::slice::from_ref(&a));
        assert_eq!(refusal(ask(from, &a, precommit(height + 1), "block")), Some(Reason::Unavailable));
        to.ledger().register(std::slice::from_ref(&a)).unwrap();
        assert_eq!(refusal(ask(to, &a, precommit(height), "another block")), Some(Reason::Conflict), "round {round}");
        assert!(ask(to, &a, precommit(height), "block").unwrap().repeated, "round {round}");
        assert_eq!(refusal(ask(to, &a, precommit(height + 10), "block")), None, "round {round}");
        let attested = to.ledger().history(&a, Lane::EthereumAttestation).unwrap().floor;
        assert_eq!(attested, Some(Mark([9, 3, 0])), "round {round}");
    }
    drop((first, second));
    let all = [a.clone(), subject(2), subject(3)];
    let journal = open(directory.path(), &all).unwrap();
    assert_eq!(floor(&journal, &a), Some(precommit(40).mark()));
}

#[test]
fn burials_and_returns_travel_between_volumes_and_the_last_word_counts() {
    let directory = tempfile::tempdir().unwrap();
    let a = subject(1);
    let journals =
        [open(directory.path(), &[a.clone(), subject(2)]).unwrap(), open(directory.path(), &[subject(3)]).unwrap()];
    for (turn, buried) in [true, false, true].into_iter().enumerate() {
        let (from, to) = (&journals[turn % 2], &journals[(turn + 1) % 2]);
        from.bury(&a, buried).unwrap();
        from.release(std::slice::from_ref(&a));
        to.register(std::slice::from_ref(&a)).unwrap();
        assert_eq!(to.history(&a, Lane::Tendermint).unwrap().tombstone, buried, "turn {turn}");
    }
    drop(journals);
    let journal = open(directory.path(), &[a.clone(), subject(2), subject(3)]).unwrap();
    assert!(journal.history(&a, Lane::Tendermint).unwrap().tombstone);
}

#[test]
fn a_ledger_that_is_closed_lets_go_of_its_keys_and_admits_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let guard = Guard::new(open(directory.path(), &[subject(1)]).unwrap());
    ask(&guard, &subject(1), precommit(1), "block").unwrap();
    guard.ledger().close().unwrap();
    guard.ledger().close().unwrap();
    assert_eq!(refusal(ask(&guard, &subject(1), precommit(2), "block")), Some(Reason::Unavailable));
    assert!(guard.ledger().raise(&subject(1), Lane::Tendermint, Mark([9, 0, 3])).is_err());
    assert_eq!(code(guard.ledger().register(&[subject(2)])), "LEDGER-0001");
    let next = open(directory.path(), &[subject(1)]).unwrap();
    assert_eq!(floor(&next, &subject(1)), Some(precommit(1).mark()));
}

#[test]
fn a_ledger_of_another_host_and_any_copy_of_it_are_refused_until_they_are_adopted() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (HostIdentity::from_text("here"), HostIdentity::from_text("there"));
    let original = directory.path().join("ledger");
    let open = |path: &Path, host: Option<&HostIdentity>, adopt| {
        let options = Options { host: host.cloned(), adopt, ..at(path, Durability::Sync) };
        Journal::open(options, &[subject(1)])
    };
    let guard = Guard::new(open(&original, Some(&here), false).unwrap());
    ask(&guard, &subject(1), precommit(5), "block").unwrap();
    // An image of the running host, byte for byte.
    let image = directory.path().join("image");
    copy(&original, &image);
    let error = open(&image, Some(&there), false).err().unwrap();
    let kind = (here.to_string(), there.to_string());
    assert!(
        matches!(&error.kind, LedgerErrorKind::OtherHost { stored, present } if (stored, present) == (&kind.0, &kind.1))
    );
    assert_eq!(code(Err::<(), _>(error)), "LEDGER-0004");
    // Refused, it is as it was: the original host still opens it.
    assert_eq!(code(open(&image, Some(&here), false)), "");
    // Nobody who does not know who he is is kept out, and nobody binds it by that.
    assert_eq!(code(open(&image, None, false)), "");
    assert_eq!(code(open(&image, Some(&there), false)), "LEDGER-0004");
    let adopted = open(&image, Some(&there), true).unwrap();
    assert_eq!(floor(&adopted, &subject(1)), Some(precommit(5).mark()), "adopted with its floor");
    drop(adopted);
    assert_eq!(code(open(&image, Some(&there), false)), "", "it belongs to the new host now");
    assert_eq!(code(open(&image, Some(&here), false)), "LEDGER-0004", "and not to the old one");
}

#[test]
fn a_file_system_that_forgets_is_refused_unless_it_is_allowed() {
    let name = "a_file_system_that_forgets_is_refused_unless_it_is_allowed";
    let Some(directory) = scene::witness_directory(name) else { return };
    let options = |allow_volatile| Options { allow_volatile, ..at(&directory.path().join("ledger"), Durability::Sync) };
    let error = Journal::open(options(false), &[subject(1)]).err().unwrap();
    assert!(matches!(&error.kind, LedgerErrorKind::Filesystem(kind) if kind == "tmpfs"), "{error}");
    assert_eq!(code(Err::<(), _>(error)), "LEDGER-0005");
    assert_eq!(code(Journal::open(options(true), &[subject(1)])), "");
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let rows = [
        (0o700, ""),
        (0o750, ""),
        (0o755, ""),
        (0o720, "LEDGER-0006"),
        (0o702, "LEDGER-0006"),
        (0o770, "LEDGER-0006"),
        (0o1777, "LEDGER-0006"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    for (mode, expected) in rows {
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(code(open(&path, &[subject(1)])), expected, "mode {mode:o}");
    }
    fs::remove_dir_all(&path).unwrap();
    drop(open(&path, &[subject(1)]).unwrap());
    for (name, expected) in
        [("", 0o700), ("keys", 0o700), ("volume-0", 0o700), ("host", 0o600), ("volume-0/segment-1", 0o600)]
    {
        let mode = fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, expected, "{name:?} has mode {mode:o}");
    }
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    drop(open(&path, &[subject(1)]).unwrap());
    if chown(&path, Some(4711), None).is_err() {
        return skip("a_directory_of_another_user_is_refused", "only root gives a directory away");
    }
    let error = open(&path, &[subject(1)]).err().unwrap();
    assert!(matches!(&error.kind, LedgerErrorKind::Permissions(text) if text.contains("4711")), "{error}");
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_followed() {
    for name in ["host", "lock", "volume-0/lock", "volume-0/segment-1"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        drop(open(&path, &[subject(1)]).unwrap());
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(path.join(name), &elsewhere).unwrap();
        symlink(&elsewhere, path.join(name)).unwrap();
        assert_eq!(code(open(&path, &[subject(1)])), "LEDGER-0001", "{name}");
    }
}

#[test]
fn a_ledger_of_a_newer_version_is_refused_by_its_version() {
    let disk = SimDisk::new();
    let options = |disk: &SimDisk| Options {
        disk: Arc::new(disk.clone()),
        check: false,
        ..at(Path::new("/var/semel"), Durability::Sync)
    };
    drop(Journal::open(options(&disk), &[subject(1)]).unwrap());
    let host = Path::new("/var/semel/host");
    for (line, version) in [("semel-ledger 2", 2), ("semel-ledger 77", 77)] {
        let mut files = disk.files();
        let text = String::from_utf8(files[host].clone()).unwrap().replace("semel-ledger 1", line);
        files.insert(host.into(), text.into_bytes());
        let error = Journal::open(options(&SimDisk::holding(&files)), &[subject(1)]).err().unwrap();
        assert!(matches!(error.kind, LedgerErrorKind::Version(found) if found == version), "{line}: {error}");
        assert_eq!(code(Err::<(), _>(error)), "LEDGER-0008");
    }
}

#[test]
fn a_65th_process_is_told_that_there_are_too_many() {
    let disk = SimDisk::new();
    let open = |number: u8| {
        let options = Options {
            disk: Arc::new(disk.clone()),
            check: false,
            segment_records: 8,
            ..at(Path::new("/var/semel"), Durability::Sync)
        };
        Journal::open(options, &[subject(number)])
    };
    let journals: Vec<Journal> = (0..64).map(|number| open(number).unwrap()).collect();
    assert_eq!(code(open(64)), "LEDGER-0007");
    drop(journals);
    assert_eq!(code(open(64)), "");
}
