//! Writing key files and looking at them: never over another, never half, mode 0600, and a finding for what others can reach.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod scene;

use scene::{Place, RFC_8032, base64, go_key, node_file, skip, unhex};
use semel_keys::identity::Identity;
use semel_keys::softsign::{Form, KeyType, generate, import, load};
use semel_keys::{Finding, KeyError, inspect};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// Set where a test runs again as another process; the directory to work in.
const AGAIN: &str = "SEMEL_TEST_AGAIN";

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

type Make = fn(&Path, &Path, Option<&str>) -> Result<Option<PathBuf>, KeyError>;

/// Everything that writes a key; the first path is that of a node's file.
const MAKERS: [(&str, Make); 4] = [
    ("keygen", |_, path, date| generate(path, KeyType::Consensus, date).map(|(_, kept)| kept)),
    ("account keygen", |_, path, date| generate(path, KeyType::Account, date).map(|(_, kept)| kept)),
    ("import", |node, path, date| import(node, path, date).map(|(_, kept)| kept)),
    ("identity", |_, path, date| Identity::generate(path, date).map(|(_, kept)| kept)),
];

fn node(place: &Place) -> PathBuf {
    let known = RFC_8032[1];
    place.file("node.json", node_file("tendermint", "Ed25519", &unhex(known.1), &go_key(known)))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Runs one test of this binary again, as `command` starts it, with `directory` as its place.
fn again(mut command: Command, test: &str, directory: &Path) -> std::io::Result<Output> {
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(AGAIN, directory).output()
}

#[test]
fn a_key_is_never_written_over() {
    for (name, make) in MAKERS {
        let place = Place::new();
        let node = node(&place);
        let path = place.file("key", "what was here before");
        set_mode(&path, 0o640);
        for _ in 0..2 {
            let error = make(&node, &path, None).unwrap_err();
            assert_eq!((error.code(), &error.path), ("KEY-0009", &path), "{name}");
            assert!(error.hint().contains("--force"), "{name}: {}", error.hint());
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "what was here before", "{name}");
        assert_eq!(mode_of(&path), 0o640, "{name}");
        assert_eq!(place.names(), ["key", "node.json"], "{name}");
    }
}

#[test]
fn a_link_is_not_followed_to_write_a_key() {
    for (name, make) in MAKERS {
        let place = Place::new();
        let (node, path) = (node(&place), place.path("key"));
        symlink("elsewhere", &path).unwrap();
        assert_eq!(make(&node, &path, None).unwrap_err().code(), "KEY-0009", "{name}");
        assert_eq!(place.names(), ["key", "node.json"], "{name}");
    }
}

#[test]
fn by_force_the_old_key_stays_under_a_dated_name_and_that_one_is_never_written_over() {
    for (name, make) in MAKERS {
        let place = Place::new();
        let (node, path) = (node(&place), place.file("key", "the first"));
        let copy = place.path("key.2026-01-02");
        assert_eq!(make(&node, &path, Some("2026-01-02")).unwrap(), Some(copy.clone()), "{name}");
        assert_eq!(fs::read_to_string(&copy).unwrap(), "the first", "{name}");
        assert_eq!(mode_of(&path), 0o600, "{name}");
        let second = fs::read_to_string(&path).unwrap();
        assert_ne!(second, "the first", "{name}");
        assert_eq!(make(&node, &path, Some("2026-01-02")).unwrap_err().code(), "KEY-0009", "{name}");
        assert_eq!(fs::read_to_string(&copy).unwrap(), "the first", "{name}");
        assert_eq!(fs::read_to_string(&path).unwrap(), second, "{name}");
        assert_eq!(place.names(), ["key", "key.2026-01-02", "node.json"], "{name}");
        // Where there is nothing to keep, nothing is kept.
        assert_eq!(make(&node, &place.path("new"), Some("2026-01-02")).unwrap(), None, "{name}");
        assert_eq!(place.names(), ["key", "key.2026-01-02", "new", "node.json"], "{name}");
    }
}

#[test]
fn of_many_who_make_one_key_at_once_one_does() {
    let place = Place::new();
    let path = place.path("key");
    let together = std::sync::Barrier::new(8);
    let make = || {
        together.wait();
        generate(&path, KeyType::Consensus, None)
    };
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 7));
    assert!(refused.iter().all(|error| error.as_ref().is_err_and(|error| error.code() == "KEY-0009")));
    let (key, _) = load(&path, Form::Base64, KeyType::Consensus).unwrap();
    assert_eq!(key.public(), &made.into_iter().next().unwrap().unwrap().0);
    assert_eq!(place.names(), ["key"]);
}

#[test]
fn where_a_key_cannot_be_written_nothing_is_left() {
    for (name, make) in MAKERS {
        let place = Place::new();
        let node = node(&place);
        let error = make(&node, &place.path("missing/key"), None).unwrap_err();
        assert_eq!(error.code(), "KEY-0001", "{name}");
        assert!(error.hint().contains("directory"), "{name}: {}", error.hint());
        let error = make(&node, &node.join("key"), None).unwrap_err();
        assert_eq!(error.code(), "KEY-0001", "{name}");
        assert_eq!(make(&node, Path::new("/"), None).unwrap_err().code(), "KEY-0003", "{name}");
        assert_eq!(place.names(), ["node.json"], "{name}");
    }
}

#[test]
fn a_new_key_has_mode_0600_whatever_the_umask() {
    const TEST: &str = "a_new_key_has_mode_0600_whatever_the_umask";
    if let Some(directory) = env::var_os(AGAIN) {
        let directory = PathBuf::from(directory);
        for (number, (_, make)) in MAKERS.into_iter().enumerate() {
            make(&directory.join("node.json"), &directory.join(format!("made-{number}")), None).unwrap();
        }
        return;
    }
    for umask in ["0000", "0022", "0077", "0277", "0777"] {
        let place = Place::new();
        let node = node(&place);
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("umask {umask}; exec \"$0\" \"$@\"")).arg(env::current_exe().unwrap());
        let output = again(command, TEST, node.parent().unwrap()).unwrap();
        assert!(output.status.success(), "umask {umask}: {}", String::from_utf8_lossy(&output.stdout));
        for (number, (name, _)) in MAKERS.into_iter().enumerate() {
            let path = place.path(&format!("made-{number}"));
            assert_eq!(format!("{:o}", mode_of(&path)), "600", "{name} with umask {umask}");
        }
    }
}

#[test]
fn a_mode_that_lets_others_in_is_a_finding_and_the_key_is_read_all_the_same() {
    let place = Place::new();
    let path = place.file("key", base64(&unhex(RFC_8032[0].0)));
    let link = place.path("link");
    symlink("key", &link).unwrap();
    let rows = [
        (0o600, false),
        (0o400, false),
        (0o700, false),
        (0o640, true),
        (0o620, true),
        (0o610, true),
        (0o604, true),
        (0o602, true),
        (0o601, true),
        (0o644, true),
        (0o666, true),
    ];
    for (mode, is_found) in rows {
        set_mode(&path, mode);
        let expected = is_found.then_some(Finding::Mode { mode });
        assert_eq!(inspect(&path), expected.clone().into_iter().collect::<Vec<_>>(), "{mode:o}");
        assert_eq!(inspect(&link), inspect(&path), "the mode that counts is that of the file, {mode:o}");
        if let Some(finding) = expected {
            let text = finding.to_string();
            assert!(text.contains(&format!("{mode:04o}")) && text.contains("0600"), "{text}");
        }
        load(&path, Form::Base64, KeyType::Consensus).unwrap();
    }
    assert_eq!(inspect(&place.path("missing")), []);
}

#[test]
fn a_key_of_somebody_else_is_a_finding_and_one_that_cannot_be_read_an_error() {
    const TEST: &str = "a_key_of_somebody_else_is_a_finding_and_one_that_cannot_be_read_an_error";
    if let Some(directory) = env::var_os(AGAIN) {
        let path = PathBuf::from(directory).join("key");
        println!("{:?}", inspect(&path));
        let error = load(&path, Form::Base64, KeyType::Consensus).unwrap_err();
        println!("{} | {}", error.code(), error.hint());
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skip(TEST, "only root may start a process of another user");
        return;
    }
    let place = Place::new();
    let path = place.file("key", base64(&unhex(RFC_8032[0].0)));
    set_mode(&path, 0o600);
    let directory = path.parent().unwrap();
    set_mode(directory, 0o755);
    let mut command = Command::new(env::current_exe().unwrap());
    command.uid(NOBODY).gid(NOBODY);
    let output = match again(command, TEST, directory) {
        Ok(output) => output,
        Err(error) => return skip(TEST, &format!("another user cannot start this binary: {error}")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("[Owner { owner: 0, user: 65534 }]"), "{text}");
    assert!(text.contains("KEY-0001 | let the user that runs the signer own the file, mode 0600"), "{text}");
    // Root reads everything, so to root no owner is a finding.
    std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
    assert_eq!(inspect(&path), []);
    let finding = Finding::Owner { owner: 1, user: 2 };
    assert_eq!(finding.to_string(), "owned by user 1, and this process runs as user 2");
}
