//! Backups: made beside a running signer, opened only with their secret, restored without lowering anything.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use semel_devnet_tendermint::privval::Family;
use stage::{Ran, Signer, Stage, called, node, prevote, refusal};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;

/// An age identity, and its recipient.
struct Secret(age::x25519::Identity);

impl Secret {
    fn open(&self, closed: &[u8]) -> String {
        let mut text = String::new();
        let with = std::iter::once(&self.0 as &dyn age::Identity);
        age::Decryptor::new(closed).unwrap().decrypt(with).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn close(&self, plain: &str) -> Vec<u8> {
        let to = self.0.to_public();
        let to = std::iter::once(&to as &dyn age::Recipient);
        let mut closed = Vec::new();
        let mut writer = age::Encryptor::with_recipients(to).unwrap().wrap_output(&mut closed).unwrap();
        writer.write_all(plain.as_bytes()).unwrap();
        writer.finish().unwrap();
        closed
    }
}

fn backup(stage: &Stage, words: &str) -> Ran {
    let (verb, rest) = words.split_once(' ').unwrap();
    let mut arguments = vec!["backup", verb];
    if verb != "verify" {
        arguments.extend(["--ledger", "DIR/ledger", "--i-accept-volatile-ledger"]);
    }
    arguments.extend(rest.split(' ').filter(|word| !word.is_empty()));
    stage.run(&arguments)
}

/// A host that has signed up to this height and signs on, with an identity in `identity.age`.
fn signing(height: u64) -> (Stage, Secret, Signer, semel_devnet_tendermint::privval::Remote) {
    use age::secrecy::ExposeSecret as _;
    let stage = Stage::new();
    let secret = Secret(age::x25519::Identity::generate());
    stage.secret("identity.age", &format!("# a comment\n{}\n", secret.0.to_string().expose_secret()));
    let node = node(Family::V034);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    for height in 1..=height {
        remote.sign_vote(&prevote(height, 1)).unwrap();
    }
    (stage, secret, signer, remote)
}

/// Makes `name` for the identity of the stage.
fn create(stage: &Stage, secret: &Secret, more: &str, name: &str) -> Ran {
    backup(stage, &format!("create --recipient {} {more} DIR/{name}", secret.0.to_public()))
}

#[test]
fn a_backup_beside_a_running_signer_brings_a_lost_host_back_and_its_key_watches_first() {
    let (stage, secret, signer, mut remote) = signing(10);
    let dry = create(&stage, &secret, "--dry-run", "out.age");
    assert!(dry.code == 0 && dry.stderr.contains("Would write") && !stage.path("out.age").exists(), "{dry:?}");
    let made = create(&stage, &secret, "--config DIR/tmkms.toml --with-keys", "out.age");
    assert!(made.code == 0 && made.stdout.contains("prevote #10/0"), "{made:?}");
    assert_eq!(fs::metadata(stage.path("out.age")).unwrap().permissions().mode() & 0o777, 0o600);
    let again = create(&stage, &secret, "", "out.age");
    assert!(again.code == 1 && again.stderr.contains("BACKUP-0006"), "{again:?}");
    let closed = fs::read(stage.path("out.age")).unwrap();
    assert!(!String::from_utf8_lossy(&closed).contains("test-1"));
    // The signer goes on, past the backup.
    remote.sign_vote(&prevote(11, 1)).unwrap();
    let verified = backup(&stage, "verify --identity DIR/identity.age DIR/out.age");
    assert!(verified.code == 0 && verified.stderr.contains("3 files, 1 keys"), "{verified:?}");
    let json = backup(&stage, "verify --json --identity DIR/identity.age DIR/out.age");
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["keys"][0]["lanes"][0]["floor"][0], 10);
    assert!(!json.to_string().contains("content"), "no secret is shown");

    // Another host: nothing but the backup.
    let host = Stage::new();
    for name in ["out.age", "identity.age"] {
        fs::copy(stage.path(name), host.path(name)).unwrap();
    }
    let words = "restore --identity DIR/identity.age --output DIR/back DIR/out.age";
    let dry = backup(&host, &format!("{words} --dry-run"));
    assert!(dry.stdout.contains("floor now") && dry.stderr.contains("Would raise 1 floors"), "{dry:?}");
    assert!(!host.path("ledger").exists() && !host.path("back").exists());
    let restored = backup(&host, words);
    assert_eq!(restored.code, 0, "{restored:?}");
    let below = format!("back{}", stage.path("consensus.key").display());
    assert_eq!(host.read(&below), stage.read("consensus.key"));
    assert_eq!(fs::metadata(host.path(&below)).unwrap().permissions().mode() & 0o777, 0o600);
    drop(signer);
    let node = node(Family::V034);
    let config = host.config(&[node.address().to_string()]);
    let signer = host.start(&config);
    signer.said("this key signs nothing yet: its floor comes from a backup");
    let mut remote = called(&node);
    refusal(remote.sign_vote(&prevote(10, 2)));
    // The original signed this one after the backup.
    assert!(refusal(remote.sign_vote(&prevote(11, 2))).1.contains("GUARD-0007"));
    refusal(remote.sign_vote(&prevote(14, 2)));
    remote.sign_vote(&prevote(15, 2)).unwrap();
}

#[test]
fn an_older_backup_lowers_nothing_and_a_key_in_use_is_not_touched() {
    let (stage, secret, mut signer, mut remote) = signing(3);
    assert_eq!(create(&stage, &secret, "", "old.age").code, 0);
    remote.sign_vote(&prevote(9, 1)).unwrap();
    assert_eq!(create(&stage, &secret, "", "new.age").code, 0);
    let old = "restore --identity DIR/identity.age DIR/old.age";
    // How far a running signer is, only its lock tells.
    assert_eq!(backup(&stage, old).code, 3);
    let ran = backup(&stage, &format!("{old} --dry-run"));
    assert!(ran.code == 0 && ran.stderr.contains("Unchanged"), "{ran:?}");
    assert!(ran.stdout.contains("prevote #9/0  prevote #3/0   prevote #9/0"), "{ran:?}");
    remote.sign_vote(&prevote(10, 1)).unwrap();
    // A backup that knows more than this ledger, while the signer runs.
    let text = secret.open(&fs::read(stage.path("new.age")).unwrap());
    let mut archive: serde_json::Value = serde_json::from_str(&text).unwrap();
    archive["keys"][0]["lanes"][0]["floor"][0] = 500.into();
    archive["keys_sha256"] = sha256(&archive["keys"].to_string()).into();
    fs::write(stage.path("ahead.age"), secret.close(&archive.to_string())).unwrap();
    let ahead = "restore --identity DIR/identity.age DIR/ahead.age";
    let busy = backup(&stage, ahead);
    assert!(busy.code == 3 && busy.stderr.contains("LEDGER-0002") && busy.stderr.contains("kms start"), "{busy:?}");
    remote.sign_vote(&prevote(11, 1)).unwrap();
    signer.signal(rustix::process::Signal::TERM);
    assert!(signer.ended().success());
    let ran = backup(&stage, old);
    assert!(ran.code == 0 && ran.stderr.contains("Unchanged"), "{ran:?}");
    assert_eq!(backup(&stage, ahead).code, 0);
    let shown = stage.run(&["ledger", "show", "--ledger", "DIR/ledger"]);
    assert!(shown.stdout.contains("prevote #500/0") && shown.stdout.contains("waits"), "{shown:?}");
    assert_eq!(backup(&stage, &format!("{ahead} --no-hold")).code, 0);
    let shown = stage.run(&["ledger", "show", "--ledger", "DIR/ledger"]);
    assert!(shown.stdout.contains("prevote #500/0") && !shown.stdout.contains("waits"), "{shown:?}");
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_no_whole_backup_of_ours_restores_nothing() {
    let (stage, secret, signer, remote) = signing(3);
    drop((signer, remote));
    assert_eq!(create(&stage, &secret, "--config DIR/tmkms.toml", "good.age").code, 0);
    let good = fs::read(stage.path("good.age")).unwrap();
    let text = secret.open(&good);
    let plain: serde_json::Value = serde_json::from_str(&text).unwrap();
    let edited = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut value = plain.clone();
        edit(&mut value);
        secret.close(&value.to_string())
    };
    let named = |name: &str| edited(&|value| value["files"][0]["name"] = name.into());
    let mut flipped = good.clone();
    let middle = flipped.len() - 50;
    flipped[middle] ^= 1;
    let rows = [
        ("cut", good[..good.len() - 20].to_vec(), "BACKUP-0001"),
        ("flipped", flipped, "BACKUP-0001"),
        ("of somebody else", Secret(age::x25519::Identity::generate()).close(&text), "BACKUP-0001"),
        ("empty", Vec::new(), "BACKUP-0002"),
        ("no age", b"hello".to_vec(), "BACKUP-0002"),
        ("something else", secret.close("{\"schema\": 1}"), "BACKUP-0002"),
        ("a handover", edited(&|value| value["kind"] = "semel-handover".into()), "BACKUP-0002"),
        ("one field more", edited(&|value| value["more"] = 1.into()), "BACKUP-0002"),
        ("later", edited(&|value| value["schema"] = 2.into()), "BACKUP-0003"),
        ("a lower floor", edited(&|value| value["keys"][0]["lanes"][0]["floor"][0] = 1.into()), "BACKUP-0004"),
        ("another content", edited(&|value| value["files"][0]["content"] = "AAAA".into()), "BACKUP-0004"),
        (
            "a lane that is none",
            edited(&|value| {
                value["keys"][0]["lanes"][0]["lane"] = 9999.into();
                value["keys_sha256"] = sha256(&value["keys"].to_string()).into();
            }),
            "BACKUP-0004",
        ),
        ("upwards", named("../../outside"), "BACKUP-0010"),
        ("upwards inside", named("a/../../outside"), "BACKUP-0010"),
        ("absolute", named("/tmp/outside"), "BACKUP-0010"),
        ("here", named("."), "BACKUP-0010"),
        ("no name", named(""), "BACKUP-0010"),
        (
            "too many files",
            edited(&|value| value["files"] = vec![value["files"][0].clone(); 5000].into()),
            "BACKUP-0007",
        ),
    ];
    let host = Stage::new();
    fs::copy(stage.path("identity.age"), host.path("identity.age")).unwrap();
    let restore = "restore --identity DIR/identity.age --output DIR/back DIR/in.age";
    for (name, bytes, code) in rows {
        fs::write(host.path("in.age"), bytes).unwrap();
        for words in [restore, "verify --identity DIR/identity.age DIR/in.age"] {
            let ran = backup(&host, words);
            assert!(ran.code == 1 && ran.stderr.contains(code), "{name}: {ran:?}");
        }
        assert!(!host.path("ledger").exists() && !host.path("back").exists(), "{name}");
    }
    fs::File::create(host.path("in.age")).unwrap().set_len(65 << 20).unwrap();
    let large = backup(&host, restore);
    assert!(large.code == 1 && large.stderr.contains("BACKUP-0007"), "{large:?}");
    // A link that was put where the files go.
    fs::write(host.path("in.age"), &good).unwrap();
    fs::create_dir_all(host.path("back")).unwrap();
    fs::create_dir_all(host.path("elsewhere")).unwrap();
    let first = plain["files"][0]["name"].as_str().unwrap().split('/').next().unwrap().to_owned();
    std::os::unix::fs::symlink(host.path("elsewhere"), host.path(&format!("back/{first}"))).unwrap();
    let linked = backup(&host, restore);
    assert!(linked.code == 1 && linked.stderr.contains("BACKUP-0009"), "{linked:?}");
    let none = backup(&host, "verify --identity DIR/identity.age DIR/none.age");
    assert!(none.code == 1 && none.stderr.contains("BACKUP-0008"), "{none:?}");
}

#[test]
fn a_passphrase_opens_what_it_closed_and_secrets_that_are_none_are_refused() {
    let (stage, secret, signer, remote) = signing(2);
    drop((signer, remote));
    stage.secret("phrase", "correct horse battery staple\n");
    stage.secret("wrong", "correct horse battery stable\n");
    stage.secret("empty", "\n");
    stage.secret("two", "one\ntwo\n");
    let made = backup(&stage, "create --passphrase-file DIR/phrase DIR/out.age");
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(backup(&stage, "verify --passphrase-file DIR/phrase DIR/out.age").code, 0);
    let recipient = secret.0.to_public().to_string();
    let rows = [
        ("verify --passphrase-file DIR/wrong DIR/out.age", 1, "BACKUP-0001"),
        ("verify --identity DIR/identity.age DIR/out.age", 1, "BACKUP-0001"),
        ("verify --identity DIR/phrase DIR/out.age", 1, "BACKUP-0005"),
        ("verify --passphrase-file DIR/none DIR/out.age", 1, "BACKUP-0005"),
        ("create --passphrase-file DIR/empty DIR/new.age", 1, "BACKUP-0005"),
        ("create --passphrase-file DIR/two DIR/new.age", 1, "BACKUP-0005"),
        ("create --recipient age1nobody DIR/new.age", 2, "BACKUP-0005"),
        ("create DIR/new.age", 2, "--passphrase-file"),
        (&format!("create --recipient {recipient} --passphrase-file DIR/phrase DIR/new.age"), 2, "cannot be used with"),
        (&format!("create --recipient {recipient} --with-keys DIR/new.age"), 2, "--config"),
        (&format!("create --recipient {recipient} --config DIR/none.toml DIR/new.age"), 1, "BACKUP-0008"),
    ];
    for (words, code, name) in rows {
        let ran = backup(&stage, words);
        assert!(ran.code == code && ran.stderr.contains(name), "{words}: {ran:?}");
        assert!(!stage.path("new.age").exists(), "{words}");
    }
    fs::set_permissions(stage.path("phrase"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = backup(&stage, "verify --passphrase-file DIR/phrase DIR/out.age");
    assert!(open.code == 0 && open.stderr.contains("mode 0644 lets others reach it"), "{open:?}");
    fs::create_dir(stage.path("ledger2")).unwrap();
    let words = ["backup", "create", "--recipient", recipient.as_str(), "--ledger", "DIR/ledger2", "DIR/new.age"];
    let empty = stage.run(&words);
    assert!(empty.code == 1 && empty.stderr.contains("BACKUP-0011"), "{empty:?}");
}

#[test]
fn a_backup_takes_the_ledger_that_its_configurations_name_and_is_not_made_without_floors() {
    let (stage, secret, signer, remote) = signing(4);
    drop((signer, remote));
    let recipient = secret.0.to_public().to_string();
    let made = |more: &[&str], name: &str| {
        stage.run(&[&["backup", "create", "--recipient", &recipient, "-c", "DIR/tmkms.toml"], more, &[name]].concat())
    };
    let lost = made(&["--ledger", "DIR/nosuch"], "DIR/new.age");
    assert!(lost.code == 1 && lost.stderr.contains("BACKUP-0011") && lost.stderr.contains("--ledger"), "{lost:?}");
    assert!(!stage.path("new.age").exists());
    let bare = made(&["--ledger", "DIR/nosuch", "--without-floors"], "DIR/bare.age");
    assert!(bare.code == 0 && !bare.stdout.contains("floor"), "{bare:?}");
    let text = stage.read("tmkms.toml") + &format!("\n[semel]\nledger = \"{}\"\n", stage.path("ledger").display());
    stage.secret("tmkms.toml", &text);
    let named = made(&[], "DIR/named.age");
    assert!(named.code == 0 && named.stdout.contains("prevote #4/0"), "{named:?}");
    let bundled = stage.run(&["bundle", "-c", "DIR/tmkms.toml", "-o", "DIR/bundle"]);
    assert!(bundled.code == 0 && stage.read("bundle/ledger.json").contains("prevote #4/0"), "{bundled:?}");
}

#[test]
fn a_key_that_was_handed_over_is_dead_where_its_backup_is_restored() {
    let (stage, secret, mut signer, remote) = signing(2);
    drop(remote);
    signer.signal(rustix::process::Signal::TERM);
    assert!(signer.ended().success());
    let place = ["--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
    assert_eq!(stage.run(&[&["handover", "export"], &place[..], &["-o", "DIR/h.json"]].concat()).code, 0);
    assert!(create(&stage, &secret, "", "out.age").stdout.contains("handed over"));
    let host = Stage::new();
    for name in ["out.age", "identity.age"] {
        fs::copy(stage.path(name), host.path(name)).unwrap();
    }
    assert_eq!(backup(&host, "restore --identity DIR/identity.age DIR/out.age").code, 0);
    let node = node(Family::V034);
    let mut dead = host.start(&host.config(&[node.address().to_string()]));
    assert_eq!(dead.ended().code(), Some(3), "{}", dead.text());
    dead.said("HANDOVER-0006");
}

#[test]
fn a_key_that_was_handed_over_is_dead_again_where_an_older_disk_has_it_alive() {
    let (stage, secret, mut signer, remote) = signing(2);
    drop(remote);
    signer.signal(rustix::process::Signal::TERM);
    assert!(signer.ended().success());
    let copied = |from: &str, to: &str| {
        let done = std::process::Command::new("cp").arg("-a").args([stage.path(from), stage.path(to)]).status();
        assert!(done.unwrap().success());
    };
    copied("ledger", "image");
    let place = ["--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
    assert_eq!(stage.run(&[&["handover", "export"], &place[..], &["-o", "DIR/h.json"]].concat()).code, 0);
    assert_eq!(create(&stage, &secret, "", "out.age").code, 0);
    // The disk failed, and an image of before came back.
    fs::remove_dir_all(stage.path("ledger")).unwrap();
    copied("image", "ledger");
    assert_eq!(backup(&stage, "restore --identity DIR/identity.age DIR/out.age").code, 0);
    let node = node(Family::V034);
    let mut dead = stage.start(&stage.config(&[node.address().to_string()]));
    assert_eq!(dead.ended().code(), Some(3), "{}", dead.text());
    dead.said("HANDOVER-0006");
}
