//! `semel kms config init`, `show`, `migrate` and `diff`, with the real binary.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use serde_json::Value;
use stage::{Ran, Stage};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Every table that there is, with a secret in each place that takes one.
const EVERYTHING: &str = r#"# mine
[[chain]]
id = "a-1"   # the id
key_format = { type = "bech32", account_key_prefix = "did:com:", consensus_key_prefix = "did:com:valconspub" }
state_file = "a.json"
state_hook = { cmd = ["/bin/true"] }

[[chain]]
id = "b-1"
name = "second"
key_format = { type = "hex" }

[[validator]]
chain_id = "a-1"
addr = "10.1.1.1:26658"
secret_key = "identity.key"
max_height = "500"
protocol_version = "v0.34"

[[validator]]
chain = "second"
addr = "unix://@node"

[[providers.yubihsm]]
adapter = { type = "http", addr = "tcp://127.0.0.1:12345" }
auth = { key = 1, password = "canary-password" }
keys = [{ chain_ids = ["a-1"], key = 7 }]

[[providers.pkcs11]]
module = "/m.so"
slot = 1
pin = "canary-pin"
keys = [{ chains = ["second"], label = "consensus" }]

[semel]
http_addr = "127.0.0.1:9"
"#;

fn mode(stage: &Stage, name: &str) -> u32 {
    fs::metadata(stage.path(name)).unwrap().permissions().mode() & 0o777
}

fn no_secret(ran: &Ran) {
    let all = format!("{ran:?}");
    assert!(!all.contains("canary") && !all.contains("AQEBAQEB"), "{all}");
}

#[test]
fn a_new_configuration_is_clean_with_every_kind_of_key_and_starts_with_a_key() {
    let stage = Stage::new();
    let words =
        ["kms", "config", "init", "-o", "DIR/new/tmkms.toml", "--chain-id", "my-1", "--node", "tcp://127.0.0.1:1"];
    fs::create_dir(stage.path("new")).unwrap();
    let dry = stage.run(&[&words[..], &["--generate-key", "--dry-run"]].concat());
    assert!(dry.code == 0 && dry.stdout.contains("id = \"my-1\""), "{dry:?}");
    assert_eq!(fs::read_dir(stage.path("new")).unwrap().count(), 0, "a plan makes nothing");
    let ran = stage.run(&[&words[..], &["--generate-key"]].concat());
    assert!(ran.code == 0 && ran.stderr.contains("priv_validator_laddr = \"tcp://0.0.0.0:1\""), "{ran:?}");
    for (name, wanted) in [("new/tmkms.toml", 0o600), ("new/secrets", 0o700), ("new/secrets/my-1-consensus.key", 0o600)]
    {
        assert_eq!(mode(&stage, name), wanted, "{name}");
    }
    let key = stage.read("new/secrets/my-1-consensus.key");
    assert!(!format!("{ran:?}").contains(key.trim()));
    let checked = stage.run(&["kms", "config", "check", "-c", "DIR/new/tmkms.toml"]);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, "     Checked 1 file, 1 chain, 1 validator\n"));
    let _signer = stage.start(&stage.path("new/tmkms.toml")).said("ledger in");

    // Nothing is written over; with --force the configuration is kept, and the key stays.
    let again = stage.run(&words);
    assert!(again.code == 1 && again.stderr.contains("nothing was changed"), "{again:?}");
    let forced = stage.run(&[&words[..], &["--generate-key", "--force"]].concat());
    assert!(forced.code == 0 && forced.stderr.contains("a key is never written over"), "{forced:?}");
    assert_eq!(stage.read("new/secrets/my-1-consensus.key"), key);

    // What is left for a device is the file of its secret, and nothing else.
    for (kind, file) in [("yubihsm", "secrets/yubihsm-password"), ("pkcs11", "secrets/pkcs11-pin")] {
        let output = format!("DIR/new/{kind}.toml");
        let made = stage.run(&["kms", "config", "init", "-o", &output, "--key", kind]);
        assert_eq!(made.code, 0, "{made:?}");
        stage.secret(&format!("new/{file}"), "x\n");
        let checked = stage.run(&["kms", "config", "check", "-c", &output]);
        assert_eq!(checked.code, 0, "{checked:?}");
        let key = stage.run(&["kms", "config", "init", "-o", "DIR/new/k.toml", "--key", kind, "--generate-key"]);
        assert!(key.code == 2 && key.stderr.contains("CONFIG-0201"), "{key:?}");
    }
}

#[test]
fn words_that_make_no_configuration_are_refused_as_the_check_would() {
    let stage = Stage::new();
    for (words, code) in [
        (["--chain-id", "no chain"], "CONFIG-0101"),
        (["--chain-id", "a\"]\nx = 1"], "CONFIG-0101"),
        (["--node", "10.0.0.1"], "CONFIG-0110"),
        (["--node", "tcp://x\"\n[y]"], "CONFIG-0110"),
    ] {
        let ran = stage.run(&[&["kms", "config", "init", "-o", "DIR/new.toml"][..], &words].concat());
        assert!(ran.code == 1 && ran.stderr.contains(code), "{words:?}: {ran:?}");
        assert!(!stage.path("new.toml").exists() && !stage.path("secrets").exists());
    }
    let unix = stage.run(&["kms", "config", "init", "-o", "DIR/new.toml", "--node", "unix:///run/node.sock"]);
    assert!(unix.code == 0 && !stage.read("new.toml").contains("\nsecret_key"), "{unix:?}");
}

#[test]
fn what_counts_is_shown_with_its_origin_and_without_its_secrets() {
    let stage = Stage::new();
    stage.secret("all.toml", EVERYTHING);
    let before = fs::read_dir(stage.path("")).unwrap().count();
    let text = stage.run(&[
        "kms",
        "config",
        "show",
        "-c",
        "DIR/all.toml",
        "--origin",
        "--http",
        "127.0.0.1:1",
        "--ledger",
        "/l",
    ]);
    assert_eq!(text.code, 0, "{text:?}");
    no_secret(&text);
    for (line, origin) in [
        ("id = \"a-1\"", "DIR/all.toml:3"),
        ("key_format.type = \"bech32\"", "DIR/all.toml:4"),
        ("state_hook.timeout_secs = 5", "default"),
        ("state_file = \"b-1_priv_validator_state.json\"", "default"),
        ("addr = \"tcp://10.1.1.1:26658\"", "DIR/all.toml:15"),
        ("timeout = 10", "default"),
        ("protocol_version = \"v0.34\"", "DIR/all.toml:18"),
        ("protocol_version = \"auto\"", "default"),
        ("auth.password = \"(redacted)\"", "DIR/all.toml:26"),
        ("pin = \"(redacted)\"", "DIR/all.toml:32"),
        ("chains = [\"second\"]", "DIR/all.toml:33"),
        ("http_addr = \"127.0.0.1:1\"", "flag --http"),
        ("ledger = \"/l\"", "flag --ledger"),
        ("durability = \"sync\"", "default"),
    ] {
        let found =
            text.stdout.lines().find(|shown| shown.starts_with(line) && shown.ends_with(&format!("# {origin}")));
        assert!(found.is_some(), "{line} # {origin}:\n{}", text.stdout);
    }
    let json = stage.run(&["kms", "config", "show", "-c", "DIR/all.toml", "--json", "--origin"]);
    no_secret(&json);
    let value: Value = serde_json::from_str(&json.stdout).unwrap();
    let file = &value["files"][0];
    assert_eq!(file["chain"][1]["name"]["value"], "second");
    assert_eq!(file["providers"]["yubihsm"][0]["keys"][0]["key"]["origin"], "DIR/all.toml:27");
    assert_eq!(file["providers"]["pkcs11"][0]["keys"][0]["label"]["value"], "consensus");
    assert_eq!(value["semel"]["http_addr"]["origin"], "DIR/all.toml:36");
    assert_eq!(value["files_origin"], "flag --config");
    let plain = stage.run(&["kms", "config", "show", "-c", "DIR/all.toml", "--json"]);
    let value: Value = serde_json::from_str(&plain.stdout).unwrap();
    assert_eq!(value["files"][0]["validator"][0]["max_height"], "500");
    assert_eq!(fs::read_dir(stage.path("")).unwrap().count(), before, "looking writes nothing");

    stage.secret("bad.toml", "[[chain]]\nid = \"x-1\"\nauth = { password = \"canary\" }\n");
    let bad = stage.run(&["kms", "config", "show", "-c", "DIR/bad.toml"]);
    assert_eq!(bad.code, 1);
    no_secret(&bad);
}

#[test]
fn what_is_shown_as_text_is_a_configuration_that_means_the_same() {
    let stage = Stage::new();
    stage.config(&["tcp://127.0.0.1:26659".into(), "unix:///run/x.sock".into()]);
    let mut command = stage::semel();
    command.args(["kms", "config", "show", "-c"]).arg(stage.path("tmkms.toml")).env_remove("SEMEL_ALLOW_ROOT");
    // `timestamp_policy` and every default are legal where they stand; [semel] is a table.
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap().replace("[[semel]]", "[semel]");
    stage.secret("shown.toml", &text);
    let diff = stage.run(&["kms", "config", "diff", "DIR/tmkms.toml", "DIR/shown.toml"]);
    assert_eq!((diff.code, diff.stdout.as_str()), (0, ""), "{diff:?}\n{text}");
}

#[test]
fn two_configurations_are_compared_by_what_they_mean() {
    let stage = Stage::new();
    stage.secret("a.toml", EVERYTHING);
    // Another order, other spellings, defaults written out: the same.
    let (head, tail) = EVERYTHING.split_once("[[chain]]\nid = \"b-1\"").unwrap();
    let second = tail.split_once("\n\n").unwrap();
    let same = format!("{}\n\n{head}\n[[chain]]\nid = \"b-1\"{}", second.1, second.0)
        .replace("\"10.1.1.1:26658\"", "'tcp://10.1.1.1:26658'\nreconnect = true\ntimeout = 10")
        .replace("\"a.json\"", &format!("\"{}\"", stage.path("a.json").display()));
    stage.secret("same.toml", &same);
    let ran = stage.run(&["kms", "config", "diff", "DIR/a.toml", "DIR/same.toml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");

    let other = EVERYTHING
        .replace("10.1.1.1:26658", "10.1.1.2:26658")
        .replace("canary-password", "canary-other")
        .replace("\"500\"", "\"501\"")
        .replace("# mine", "# mine\n[[validator]]\nchain_id = \"a-1\"\naddr = \"unix:///x\"\n")
        .replace("slot = 1", "slot = 2");
    stage.secret("b.toml", &other);
    let ran = stage.run(&["kms", "config", "diff", "DIR/a.toml", "DIR/b.toml"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    no_secret(&ran);
    for line in [
        "+ [[validator]] a-1 at unix:///x (DIR/b.toml:2)",
        "~ [[validator]] a-1 at tcp://10.1.1.1:26658",
        "    addr: \"tcp://10.1.1.1:26658\" (DIR/a.toml:15) → \"tcp://10.1.1.2:26658\" (DIR/b.toml:19)",
        "    max_height: \"500\" (DIR/a.toml:17) → \"501\" (DIR/b.toml:21)",
        "    auth.password: \"(redacted)\" (DIR/a.toml:26) → \"(redacted)\" (DIR/b.toml:30)",
        "    slot: 1 (DIR/a.toml:31) → 2 (DIR/b.toml:35)",
    ] {
        assert!(ran.stdout.lines().any(|shown| shown == line), "{line}:\n{}", ran.stdout);
    }
    let json = stage.run(&["kms", "config", "diff", "--json", "DIR/a.toml", "DIR/b.toml"]);
    no_secret(&json);
    let value: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["same"], false);
    let added: Vec<&Value> =
        value["changes"].as_array().unwrap().iter().filter(|change| change["change"] == "added").collect();
    assert_eq!(added.len(), 1);
    assert_eq!(added.first().unwrap()["at"]["line"], 2);
    let trouble = stage.run(&["kms", "config", "diff", "DIR/a.toml", "DIR/none.toml"]);
    assert_eq!(trouble.code, 2, "{trouble:?}");
}

#[test]
fn what_is_deprecated_goes_and_comments_stay() {
    let stage = Stage::new();
    let old = "# mine\n[chain]   # the one\nid = 'old-1' # id\nkey_format = { type = \"hex\" }\nsign_extensions = true\n\n[[validator]]\n  \
               chain_id = \"old-1\"\n  addr = \"tcp://1.2.3.4:1\"\n  secret_key = \"i.key\"\n  protocol_version = \"v0.34\" # needed\n  \
               max_height = 500 # the end\n  reconnect = \"true\"\n\n[[providers.yubihsm]]\nadapter = { type = \"http\", addr = \"tcp://1.2.3.4:5\" }\n\
               auth = { key = 1, password = \"canary\" }\nserial_number = \"9876543210\"\nkeys = [{ chain_ids = [\"old-1\"], key = 1 }]\n\n[semel]\n\
               metrics_addr = \"127.0.0.1:1\"\n";
    let new = "# mine\n[[chain]]   # the one\nid = 'old-1' # id\nkey_format = { type = \"hex\" }\n\n[[validator]]\n  \
               chain_id = \"old-1\"\n  addr = \"tcp://1.2.3.4:1\"\n  secret_key = \"i.key\"\n  \
               max_height = \"500\" # the end\n  reconnect = true\n\n[[providers.yubihsm]]\nadapter = { type = \"http\", addr = \"tcp://1.2.3.4:5\" }\n\
               auth = { key = 1, password = \"canary\" }\nkeys = [{ chain_ids = [\"old-1\"], key = 1 }]\n\n[semel]\n\
               http_addr = \"127.0.0.1:1\"\n";
    let path = stage.secret("old.toml", old);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let dry = stage.run(&["kms", "config", "migrate", "-c", "DIR/old.toml", "--dry-run"]);
    assert_eq!((dry.code, stage.read("old.toml").as_str()), (0, old), "{dry:?}");
    assert!(dry.stdout.contains("@@ -5,1 +5,0 @@\n-sign_extensions = true\n"), "{}", dry.stdout);
    let ran = stage.run(&["kms", "config", "migrate", "-c", "DIR/old.toml"]);
    assert_eq!((ran.code, stage.read("old.toml").as_str()), (0, new), "{ran:?}");
    assert_eq!(mode(&stage, "old.toml"), 0o640, "who read the old file reads the new one");
    no_secret(&ran);
    let kept = fs::read_dir(stage.path("")).unwrap().filter_map(Result::ok);
    let kept: Vec<_> = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("old.toml.")).collect();
    assert_eq!(fs::read_to_string(kept.first().unwrap().path()).unwrap(), old);
    let again = stage.run(&["kms", "config", "migrate", "-c", "DIR/old.toml"]);
    assert!(again.code == 0 && again.stderr.contains("Unchanged"), "{again:?}");
}

#[test]
fn a_table_of_one_line_loses_only_what_goes_and_what_cannot_be_mended_is_not_written() {
    let stage = Stage::new();
    let inline = "chain = [{ id = \"o-1\", key_format = { type = \"hex\" } }]\n\
                  validator = [{ chain_id = \"o-1\", protocol_version = \"v0.34\", addr = \"unix:///x\", timeout = 3 }, { chain_id = \"o-1\", \
                  addr = \"unix:///y\", protocol_version = \"v0.34\" }]\n[providers]\nsoftsign = [{ chain_ids = [\"o-1\"], path = \"k\" }]\n";
    stage.secret("in.toml", inline);
    let ran = stage.run(&["kms", "config", "migrate", "-c", "DIR/in.toml", "-o", "DIR/out.toml"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let expected =
        "validator = [{ chain_id = \"o-1\", addr = \"unix:///x\" }, { chain_id = \"o-1\", addr = \"unix:///y\" }]\n";
    assert!(stage.read("out.toml").contains(expected), "{}", stage.read("out.toml"));
    let again = stage.run(&["kms", "config", "migrate", "-c", "DIR/in.toml", "-o", "DIR/out.toml"]);
    assert!(again.code == 1 && again.stderr.contains("KEY-0009"), "{again:?}");

    stage.secret("bad.toml", &inline.replace("id = \"o-1\", key", "id = \"other-1\", key"));
    let bad = stage.run(&["kms", "config", "migrate", "-c", "DIR/bad.toml", "-o", "DIR/mended.toml"]);
    assert!(bad.code == 1 && bad.stderr.contains("CONFIG-0103") && !stage.path("mended.toml").exists(), "{bad:?}");
    stage.secret("toml.toml", "[[chain]\nid = 1");
    let bad = stage.run(&["kms", "config", "migrate", "-c", "DIR/toml.toml"]);
    assert!(bad.code == 1 && bad.stderr.contains("CONFIG-"), "{bad:?}");
}

#[test]
fn the_environment_that_allows_root_is_shown_as_an_origin() {
    let stage = Stage::new();
    let config = stage.config(&["unix:///nowhere.sock".into()]);
    for (value, line) in [("1", "allow_root = true"), ("0", "allow_root = false"), ("", "allow_root = false")] {
        let mut command = stage::semel();
        command.args(["kms", "config", "show", "--origin", "-c"]).arg(&config).env("SEMEL_ALLOW_ROOT", value);
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let found = text.lines().find(|found| found.starts_with("allow_root")).unwrap_or_default();
        assert!(found.starts_with(line) && found.contains("SEMEL_ALLOW_ROOT") == (value == "1"), "{value}: {found}");
    }
}
