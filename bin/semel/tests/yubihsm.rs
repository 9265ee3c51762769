//! Keys in a YubiHSM: the mock device of the `yubihsm` crate behind a connector, the real binary in front of it.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use k256::ecdsa::signature::Verifier as _;
use semel_devnet_tendermint::consensus::Encoding;
use semel_devnet_tendermint::consensus::canonical::vote_sign_bytes;
use semel_devnet_tendermint::privval::{Family, Listen, Listener, SignerKey};
use semel_devnet_yubihsm::{FakeConnector, Kind, PASSWORD, PutKey};
use stage::{PATIENCE, Signer, Stage, called, node, node_at, prevote, refusal};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn ed25519(id: u16) -> PutKey {
    PutKey { id, kind: Kind::Ed25519, secret: Some([id as u8; 32]) }
}

fn connector(keys: &[PutKey]) -> FakeConnector {
    FakeConnector::start((Ipv4Addr::LOCALHOST, 0).into(), keys).unwrap()
}

/// A configuration of one chain whose key has this number in the device.
fn config(stage: &Stage, name: &str, chain: &str, hsm: &FakeConnector, key: u16, node: &Listener) -> PathBuf {
    let directory = stage.path("").display().to_string();
    stage.secret("password", &format!("{PASSWORD}\n"));
    stage.secret(
        &format!("{name}.toml"),
        &format!(
            "[[chain]]\nid = \"{chain}\"\nkey_format = {{ type = \"hex\" }}\nstate_file = \"{directory}{name}.json\"\n\n\
             [[validator]]\nchain_id = \"{chain}\"\naddr = \"{}\"\nsecret_key = \"{directory}identity.key\"\n\n\
             [[providers.yubihsm]]\nadapter = {{ type = \"http\", addr = \"tcp://{}\" }}\n\
             auth = {{ key = 1, password_file = \"{directory}password\" }}\n\
             keys = [{{ chain_ids = [\"{chain}\"], key = {key} }}]\n",
            node.address(),
            hsm.address()
        ),
    )
}

fn listening(chain: &str) -> Listener {
    node_at(Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into()), Family::V034, chain)
}

fn start(stage: &Stage, configs: &[&Path]) -> Signer {
    let mut command = stage::semel();
    command.args(["kms", "start"]).args(stage.ledger());
    for config in configs {
        command.arg("-c").arg(config);
    }
    Signer::spawn(command)
}

/// Asks until the vote is signed; what is refused on the way comes back.
fn ask_until_signed(remote: &mut semel_devnet_tendermint::privval::Remote, height: u64) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut refused = Vec::new();
    loop {
        match remote.sign_vote(&prevote(height, 1)) {
            Ok(_) => return refused,
            refused_one => refused.push(refusal(refused_one).1),
        }
        assert!(Instant::now() < deadline, "{refused:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn votes_are_signed_with_the_key_in_the_device_in_every_family() {
    let hsm = connector(&[ed25519(1)]);
    let public = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
    for family in Family::ALL {
        let stage = Stage::new();
        let node = node(family);
        let signer = start(&stage, &[&config(&stage, "a", stage::CHAIN, &hsm, 1, &node)]);
        let mut remote = node.accept(PATIENCE).unwrap();
        assert_eq!(remote.pub_key().unwrap(), SignerKey::Ed25519(public));
        for height in 1..=3 {
            remote.sign_vote(&prevote(height, 1)).unwrap();
        }
        let line = signer.said("[keyring:yubihsm] added consensus Ed25519 key");
        assert!(line.contains(&hex::encode_upper(public)), "{line}");
    }
}

#[test]
fn all_configurations_of_a_process_share_one_session() {
    let stage = Stage::new();
    let keys: Vec<PutKey> = (1..=10).map(ed25519).collect();
    let hsm = connector(&keys);
    let nodes: Vec<Listener> = (1..=10).map(|n| listening(&format!("chain-{n}"))).collect();
    let configs: Vec<PathBuf> = nodes
        .iter()
        .zip(1..)
        .map(|(node, n)| config(&stage, &format!("n{n}"), &format!("chain-{n}"), &hsm, n, node))
        .collect();
    let _signer = start(&stage, &configs.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    for node in &nodes {
        called(node).sign_vote(&prevote(1, 1)).unwrap();
    }
    assert_eq!(hsm.sessions(), 1);
}

#[test]
fn a_slow_device_delays_no_key_in_a_file() {
    let stage = Stage::new();
    let hsm = connector(&[ed25519(1)]);
    let (slow, quick) = (listening("slow-1"), node(Family::V034));
    let configs = [config(&stage, "slow", "slow-1", &hsm, 1, &slow), stage.config(&[quick.address().to_string()])];
    let _signer = start(&stage, &[&configs[0], &configs[1]]);
    let (mut behind, mut beside) = (called(&slow), called(&quick));
    hsm.set_delay(Duration::from_millis(300));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for height in 1..=3 {
                behind.sign_vote(&prevote(height, 1)).unwrap();
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let mut signed = 0;
        while !is_done.load(Ordering::SeqCst) {
            signed += 1;
            beside.sign_vote(&prevote(signed, 1)).unwrap();
        }
        // Each vote of the device takes longer than many of those in files.
        assert!(signed > 60, "{signed}");
    });
}

#[test]
fn a_device_that_goes_and_comes_is_used_again_without_a_restart() {
    let stage = Stage::new();
    let hsm = connector(&[ed25519(1)]);
    let node = node(Family::V034);
    let config = config(&stage, "a", stage::CHAIN, &hsm, 1, &node);
    let signer = stage.start_with(&config, &["--http", "127.0.0.1:0"]);
    let http = signer.said("health and metrics on").split("http://").nth(1).unwrap().to_owned();
    let counted = |name: &str, count: u32| {
        let (_, text) = stage::get(&http, "/metrics");
        assert!(text.lines().any(|line| line == format!("semel_device_{name} {count}")), "{name} {count}\n{text}");
    };
    let mut remote = called(&node);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    let (_, text) = stage::get(&http, "/metrics");
    let mut described: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("semel_device_") && !line.starts_with("# HELP"))
        .map(|line| if line.starts_with('#') { line } else { line.rsplit_once(' ').unwrap().0 })
        .collect();
    described.sort_unstable();
    let described = described.join("\n") + "\n";
    assert_eq!(described, include_str!("golden/metrics-device.txt"), "metrics are part of what operators build on");
    counted("session_reopens_total{provider=\"yubihsm\"}", 0);
    counted("errors_total{provider=\"yubihsm\",reason=\"failed\"}", 0);
    hsm.set_gone(true);
    let (code, words) = refusal(remote.sign_vote(&prevote(2, 1)));
    assert!(code == 1 && words.contains("YubiHSM"), "{words}");
    // While it is away a request is answered at once.
    let asked = Instant::now();
    refusal(remote.sign_vote(&prevote(3, 1)));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    hsm.set_gone(false);
    let refused = ask_until_signed(&mut remote, 4).len() as u32;
    signer.said("the session is open again");
    counted("session_reopens_total{provider=\"yubihsm\"}", 1);
    counted("errors_total{provider=\"yubihsm\",reason=\"failed\"}", 2 + refused);
}

#[test]
fn another_device_in_its_place_signs_nothing() {
    let stage = Stage::new();
    let hsm = connector(&[ed25519(1)]);
    let node = node(Family::V034);
    let signer = start(&stage, &[&config(&stage, "a", stage::CHAIN, &hsm, 1, &node)]);
    let mut remote = called(&node);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    hsm.replace(&[PutKey { id: 1, kind: Kind::Ed25519, secret: Some([99; 32]) }]).unwrap();
    refusal(remote.sign_vote(&prevote(2, 1)));
    signer.said("another key than before");
    assert!(!signer.text().contains("protocol error: protocol error"), "{}", signer.text());
    for height in 3..6 {
        refusal(remote.sign_vote(&prevote(height, 1)));
    }
    // The one that is known comes back.
    hsm.replace(&[ed25519(1)]).unwrap();
    ask_until_signed(&mut remote, 7);
}

#[test]
fn what_is_wrong_with_a_device_is_said_at_the_start_with_a_code() {
    let keys = [ed25519(1), PutKey { id: 2, kind: Kind::Secp256k1, secret: Some([2; 32]) }];
    // Name, what is changed, code, words.
    type Change = fn(&Stage, &FakeConnector);
    let rows: [(&str, u16, Change, &str, &str); 6] = [
        ("absent", 1, |_, hsm| hsm.set_gone(true), "HSM-0001", "cannot be reached"),
        (
            "a wrong password",
            1,
            |stage, _| drop(stage.secret("password", "not it")),
            "HSM-0002",
            "authentication key 1",
        ),
        ("no session is free", 1, |_, hsm| hsm.set_full(true), "HSM-0003", "sessions are taken"),
        ("no such key", 9, |_, _| {}, "HSM-0004", "0x0009"),
        ("a key of another kind", 2, |_, _| {}, "HSM-0005", "a secp256k1 key"),
        (
            "no password file",
            1,
            |stage, _| std::fs::remove_file(stage.path("password")).unwrap(),
            "CONFIG-",
            "password",
        ),
    ];
    for (name, key, change, code, words) in rows {
        let (stage, hsm, node) = (Stage::new(), connector(&keys), node(Family::V034));
        let config = config(&stage, "a", stage::CHAIN, &hsm, key, &node);
        change(&stage, &hsm);
        let mut signer = start(&stage, &[&config]);
        let exit = if code == "HSM-0002" { 4 } else { 1 };
        assert_eq!(signer.ended().code(), Some(exit), "{name}: {}", signer.text());
        let text = signer.text();
        assert!(text.contains(code) && text.contains(words), "{name}: {text}");
        assert!(!text.contains("not it"), "{name}: the password is in the log");
    }
}

#[test]
fn a_secp256k1_key_of_the_device_signs_where_it_is_the_only_one() {
    let stage = Stage::new();
    let hsm = connector(&[PutKey { id: 2, kind: Kind::Secp256k1, secret: Some([2; 32]) }]);
    let node = node(Family::V034);
    let path = config(&stage, "a", stage::CHAIN, &hsm, 2, &node);
    stage.edit("a.toml", "key = 2 }", "key = 2, type = \"account\" }");
    let _signer = start(&stage, &[&path]);
    let mut remote = node.accept(PATIENCE).unwrap();
    let public = *k256::ecdsa::SigningKey::from_slice(&[2; 32]).unwrap().verifying_key();
    let shown = SignerKey::Secp256k1(public.to_encoded_point(true).as_bytes().try_into().unwrap());
    assert_eq!(remote.pub_key().unwrap(), shown);
    for height in 1..=20 {
        let signed = remote.ask_vote(&prevote(height, 1)).unwrap();
        let signature = k256::ecdsa::Signature::from_slice(&signed.signature).unwrap();
        assert!(signature.normalize_s().is_none(), "the lower of the two, as nodes want it");
        public.verify(&vote_sign_bytes(Encoding::Protobuf, stage::CHAIN, &signed.vote), &signature).unwrap();
    }
}

/// A stage with the configuration of one key, and the device.
fn bench() -> (Stage, FakeConnector) {
    let (stage, hsm) = (Stage::new(), connector(&[]));
    let node = node(Family::V034);
    config(&stage, "tmkms", stage::CHAIN, &hsm, 1, &node);
    (stage, hsm)
}

#[test]
fn keys_are_made_listed_backed_up_and_brought_in_with_the_words_of_tmkms() {
    let (stage, _hsm) = bench();
    let tmkms = |words: &str| stage.run_tmkms(&words.split(' ').collect::<Vec<_>>());
    let none = tmkms("yubihsm keys list");
    assert_eq!((none.code, none.stdout.as_str()), (0, ""), "{none:?}");
    assert!(none.stderr.contains("error: no keys in this YubiHSM"), "{none:?}");
    // Nothing is made whose backup is known to fail.
    for (words, text) in [
        ("yubihsm keys generate 1 -b DIR/backup", "it has no wrap key 0x0001"),
        ("yubihsm keys generate 1 -b DIR/none/backup", "none: there is no such directory"),
        ("yubihsm keys generate 1 --non-exportable -b DIR/backup", "never leave the device"),
    ] {
        let refused = tmkms(words);
        assert!(refused.code == 1 && refused.stderr.contains(text), "{words}: {refused:?}");
        assert!(tmkms("yubihsm keys list").stderr.contains("no keys"), "{words}");
    }
    let made = tmkms("yubihsm keys generate 1 -l validator");
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.stderr.contains("   Generated consensus (ed25519) key 0x0001: "), "{made:?}");
    let key = made.stderr.split("0x0001: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let listed = tmkms("yubihsm keys list");
    let expected = format!("Listing keys in YubiHSM #0123456789:\n- 0x0001: [cons] {key}\n     label: \"validator\"\n");
    assert_eq!((listed.code, listed.stdout), (0, expected));
    // In the chain's format: the key belongs to exactly one chain.
    let format = r#"type = "bech32", account_key_prefix = "did:com:", consensus_key_prefix = "did:com:valconspub""#;
    stage.edit("tmkms.toml", "type = \"hex\"", format);
    assert!(tmkms("yubihsm keys list").stdout.contains("[cons] did:com:valconspub1"));
    let bech32 = tmkms("yubihsm keys generate 0x2 -p cosmosvalconspub");
    assert!(bech32.code == 0 && bech32.stderr.contains("key 0x0002: cosmosvalconspub1zcjduepq"), "{bech32:?}");
    let account = tmkms("yubihsm keys generate 3 -t account --non-exportable");
    assert!(
        account.code == 0 && account.stderr.contains("   Generated account (secp256k1) key 0x0003\n"),
        "{account:?}"
    );
    stage.secret("seed.key", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
    let imported = tmkms("yubihsm keys import -t base64 -i 4 DIR/seed.key");
    assert!(imported.code == 0 && imported.stderr.contains("    Imported key 0x0004\n"), "{imported:?}");
    let listed = tmkms("yubihsm keys list");
    assert!(listed.stdout.contains("8A88E3DD7409F195FD52DB2D3CBA5D72CA6709BF1D94121BF3748801B40F6F5C"), "{listed:?}");
    let tested = tmkms("yubihsm test 1 --count 2");
    assert!(tested.code == 0 && tested.stderr.matches("     Success signed message using key ID #1 in ").count() == 2);
    for (words, code, text) in [
        ("yubihsm keys generate", 1, "KEY_ID"),
        ("yubihsm keys generate 1 2", 1, "exactly 1 key ID"),
        ("yubihsm keys generate nonsense", 1, "is no number of a key"),
        ("yubihsm keys generate 0", 1, "is no number of a key"),
        ("yubihsm keys generate 1", 1, "HSM-0013"),
        ("yubihsm keys import -t base64 -i 1 DIR/seed.key", 1, "HSM-0013"),
        ("yubihsm keys import -t json DIR/seed.key", 1, "no key ID given"),
        ("yubihsm keys import DIR/seed.key", 1, "HSM-0004"),
        ("yubihsm keys export -i 9 DIR/nine", 1, "it has no key 0x0009"),
        ("yubihsm keys export -i 1 DIR/one", 1, "it has no wrap key 0x0001"),
        ("yubihsm keys export -i 1 -w 7 DIR/one", 1, "it has no wrap key 0x0007"),
        ("yubihsm keys import DIR/tmkms.toml", 1, "not base64"),
        ("yubihsm test 9 --count 1", 1, "1 of 1 signatures failed"),
        ("yubihsm detect", 1, "HSM-0011"),
    ] {
        let ran = tmkms(words);
        assert_eq!(ran.code, code, "{words}: {ran:?}");
        assert!(ran.stderr.contains(text), "{words}: {ran:?}");
    }
}

#[test]
fn a_key_that_is_backed_up_comes_back_with_the_wrap_key_of_the_same_words() {
    let (stage, _hsm) = bench();
    let printed = stage.run_tmkms(&["yubihsm", "setup", "--print-only"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let words: Vec<&str> = printed.stdout.lines().filter(|line| line.starts_with("    ")).map(str::trim).collect();
    assert_eq!(words.iter().map(|line| line.split(' ').count()).collect::<Vec<_>>(), [12, 12], "{printed:?}");
    let passwords: Vec<&str> = printed.stdout.lines().filter(|line| line.starts_with("- authkey")).collect();
    assert_eq!(passwords.len(), 3, "{printed:?}");
    // Said no, nothing happened: the default password still opens the device.
    let no = answered(&stage, &["yubihsm", "setup"], "n\n");
    assert_eq!(no.0, Some(1), "{}", no.1);
    assert_eq!(stage.run_tmkms(&["yubihsm", "keys", "list"]).code, 0);
    let mnemonic = words.join(" ");
    let set_up = ["yubihsm", "setup", "--restore", "--write-report", "report.json"];
    let yes = answered(&stage, &set_up, &format!("{mnemonic}\ny\n"));
    assert_eq!(yes.0, Some(0), "{}", yes.1);
    assert!(yes.1.contains(passwords[2]) && yes.1.contains("reinitialized YubiHSM (serial: 0123456789)"), "{}", yes.1);
    let report: serde_json::Value = serde_json::from_str(&stage.read("report.json")).unwrap();
    assert_eq!(report["device_serial_number"], "0123456789");
    // The old password is gone, the admin's is the words.
    let old = stage.run_tmkms(&["yubihsm", "keys", "list"]);
    assert!(matches!(old.code, 1 | 4) && old.stderr.contains("HSM-"), "{old:?}");
    stage.secret("password", &mnemonic);
    let run = |words: &str| stage.run_tmkms(&words.split(' ').collect::<Vec<_>>());
    // The mock brings an Ed25519 key back as another one; the other kind comes back as it was.
    let made = run("yubihsm keys generate 1 -t account -b DIR/backup");
    assert!(made.code == 0 && made.stderr.contains("       Wrote backup of key 0x0001"), "{made:?}");
    let exported = run("yubihsm keys export -i 1 DIR/again");
    assert!(exported.code == 0 && exported.stderr.contains("    Exported key 0x0001"), "{exported:?}");
    let again = run("yubihsm keys export -i 1 DIR/again");
    assert!(again.code == 1 && again.stderr.contains("KEY-0009"), "never written over: {again:?}");
    let key = run("yubihsm keys list").stdout;
    // Another device of the same words takes the backup.
    let emptied = answered(&stage, &["yubihsm", "setup", "--restore"], &format!("{mnemonic}\ny\n"));
    assert_eq!(emptied.0, Some(0), "{}", emptied.1);
    assert!(run("yubihsm keys list").stderr.contains("no keys"));
    let back = run("yubihsm keys import DIR/backup");
    assert!(back.code == 0 && back.stderr.contains("    Imported key 0x0001: "), "{back:?}");
    assert_eq!(run("yubihsm keys list").stdout, key);
    let lost = run(&format!("yubihsm keys generate 2 -t account -b DIR/{}", "x".repeat(300)));
    assert!(lost.code == 1 && lost.stderr.contains("key 0x0002 is in the device, and has no backup"), "{lost:?}");
    assert!(lost.stderr.contains("yubihsm keys export --id 2 --wrapkey 1"), "{lost:?}");
}

#[test]
fn twenty_commands_in_a_row_leave_no_session_behind() {
    let (stage, hsm) = bench();
    hsm.put(&ed25519(1)).unwrap();
    for round in 0..20 {
        let words: &[&str] = match round % 4 {
            0 => &["yubihsm", "keys", "list"],
            1 => &["yubihsm", "test", "1", "--count", "1"],
            2 => &["yubihsm", "setup", "--print-only"],
            _ => &["doctor", "--deep"],
        };
        let ran = stage.run_tmkms(words);
        assert!(round % 4 == 3 || ran.code == 0, "{round}: {ran:?}");
        assert_eq!(hsm.open_sessions(), 0, "{words:?}: {ran:?}");
    }
    assert!(hsm.sessions() >= 20);
    let failed = stage.run_tmkms(&["yubihsm", "keys", "generate", "1"]);
    assert!(failed.code == 1 && hsm.open_sessions() == 0, "{failed:?}");
}

#[test]
fn a_signer_closes_its_session_at_its_end_and_after_a_failed_start() {
    let hsm = connector(&[ed25519(1)]);
    let (stage, node) = (Stage::new(), node(Family::V034));
    let path = config(&stage, "a", stage::CHAIN, &hsm, 1, &node);
    let mut signer = start(&stage, &[&path]);
    called(&node).sign_vote(&prevote(1, 1)).unwrap();
    assert_eq!(hsm.open_sessions(), 1);
    signer.signal(rustix::process::Signal::TERM);
    assert_eq!(signer.ended().code(), Some(0), "{}", signer.text());
    assert_eq!(hsm.open_sessions(), 0, "{}", signer.text());
    stage.edit("a.toml", "key = 1 }]", "key = 9 }]");
    let mut signer = start(&stage, &[&path]);
    assert_eq!(signer.ended().code(), Some(1), "{}", signer.text());
    assert_eq!(hsm.open_sessions(), 0, "{}", signer.text());
}

#[test]
fn doctor_demands_of_a_device_what_a_start_demands() {
    let (stage, hsm) = bench();
    hsm.put(&PutKey { id: 1, kind: Kind::Secp256k1, secret: Some([2; 32]) }).unwrap();
    let examined = || {
        let ran = stage.run_tmkms(&["doctor", "--deep", "-c", "DIR/tmkms.toml"]);
        let lines = ran.stdout.lines().filter(|line| line.contains("DOC-06")).map(str::to_owned);
        lines.collect::<Vec<_>>().join("\n")
    };
    let kind = examined();
    assert!(kind.contains("pass  DOC-0601") && kind.contains("fail  DOC-0602"), "{kind}");
    assert!(kind.contains("a secp256k1 key"), "{kind}");
    stage.edit("tmkms.toml", "key = 1 }]", "key = 1, type = \"account\" }]");
    let right = examined();
    assert!(right.contains("pass  DOC-0602"), "{right}");
    stage.edit("tmkms.toml", "auth = {", "serial_number = \"0000000007\"\nauth = {");
    let other = examined();
    assert!(other.contains("fail  DOC-0601") && other.contains("0123456789, not 0000000007"), "{other}");
    assert!(!other.contains("DOC-0602"), "{other}");
    assert_eq!(hsm.open_sessions(), 0);
}

/// Runs `tmkms` with something to say on its standard input. Exit code, and everything it said.
fn answered(stage: &Stage, words: &[&str], answer: &str) -> (Option<i32>, String) {
    use std::io::Write;
    use std::process::Stdio;
    let mut command = stage::semel();
    command.arg("kms").args(words).current_dir(stage.path(""));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn the_plan_of_an_upgrade_asks_each_device_for_its_own_keys() {
    let stage = Stage::new();
    let hsms = [connector(&[ed25519(1)]), connector(&[ed25519(2)])];
    let node = listening("old-1");
    let state = |name: &str, owner: u8| {
        let key = ed25519_dalek::SigningKey::from_bytes(&[owner; 32]).verifying_key();
        let step = r#""round":"0","step":2,"block_id":{"hash":"","parts":{"total":0,"hash":""}}"#;
        let text = format!(r#"{{"height":"5",{step},"pub_key":"{}"}}"#, hex::encode_upper(key));
        stage.secret(&format!("{name}.json"), &text);
    };
    for (name, hsm, key) in [("a", &hsms[0], 1), ("b", &hsms[1], 2)] {
        config(&stage, name, "old-1", hsm, key, &node);
        state(name, key as u8);
    }
    let plan = || {
        let words = ["upgrade", "plan", "--from", "old-1", "--to", "new-1", "--dry-run"];
        let more = ["--configs", "DIR/?.toml", "--exec-template", "docker {action} {unit}"];
        stage.run(&[&words[..], &more].concat())
    };
    let ran = plan();
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for (hsm, key) in hsms.iter().zip(1..) {
        let public = hex::encode_upper(ed25519_dalek::SigningKey::from_bytes(&[key; 32]).verifying_key());
        let line = format!("key {key:#06x} is in the YubiHSM at {}, the same for both chains: {public}", hsm.address());
        assert!(ran.stdout.contains("pass  UPGRADE-0013"), "{}", ran.stdout);
        assert!(ran.stdout.replace("http://", "").contains(&line), "{line}: {}", ran.stdout);
    }
    // The number is there, and the key behind it is that of another validator.
    state("b", 1);
    let ran = plan();
    assert!(ran.code == 1 && ran.stdout.contains("b.json is the state of"), "{}", ran.stdout);
    state("b", 2);
    stage.edit("b.toml", "key = 2 }", "key = 1 }");
    let ran = plan();
    assert!(ran.code == 1 && ran.stdout.contains("FAIL  UPGRADE-0013"), "{}", ran.stdout);
    assert!(ran.stdout.contains("it has no key 0x0001"), "{}", ran.stdout);
}
