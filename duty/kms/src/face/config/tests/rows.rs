//! One row for each error that an operator can make: what is changed in a good file, and what must be said.

use super::fixture::{Fixture, GOOD, KEY, errors, listing};
use semel_ops::config::Severity;

/// A change to the good file and the finding that it must give.
struct Row {
    name: &'static str,
    /// This text…
    from: &'static str,
    /// …becomes this one.
    to: &'static str,
    code: &'static str,
    severity: Severity,
    /// The position is that of this text in the changed file.
    at: &'static str,
    hint: &'static str,
}

fn error(
    name: &'static str,
    change: (&'static str, &'static str),
    code: &'static str,
    at: &'static str,
    hint: &'static str,
) -> Row {
    Row { name, from: change.0, to: change.1, code, severity: Severity::Error, at, hint }
}

fn warning(
    name: &'static str,
    change: (&'static str, &'static str),
    code: &'static str,
    at: &'static str,
    hint: &'static str,
) -> Row {
    Row { severity: Severity::Warning, ..error(name, change, code, at, hint) }
}

const SOFTSIGN: &str = "[[providers.softsign]]\nchain_ids = [\"commercio-3\"]\nkey_type = \"consensus\"\nkey_format = \"base64\"\npath = \"DIR/consensus.key\"\n";
const YUBIHSM: &str = "[[providers.yubihsm]]\nadapter = { type = \"usb\" }\nauth = { key = 1, password_file = \"DIR/password\" }\nkeys = [{ chain_ids = [\"commercio-3\"], key = 1 }]\n";

/// The good file with its key in a device.
fn on_device() -> String {
    GOOD.replace(SOFTSIGN, YUBIHSM)
}

fn position(text: &str, what: &str) -> (usize, usize) {
    let at = text.find(what).unwrap_or_else(|| panic!("{what:?} is not in the file"));
    let begin = text[..at].rfind('\n').map_or(0, |n| n + 1);
    (text[..at].matches('\n').count() + 1, text[begin..at].chars().count() + 1)
}

fn run(good: &str, rows: &[Row]) {
    let fixture = Fixture::new();
    let directory = fixture.path("");
    let directory = directory.to_str().unwrap().trim_end_matches('/');
    let checked = fixture.check(good);
    assert!(!checked.found.has_errors(), "the good file is good\n{}", checked.found);
    for row in rows {
        assert!(good.contains(row.from), "{}: {:?} is not in the file", row.name, row.from);
        let text = good.replacen(row.from, row.to, 1).replace("DIR", directory);
        let checked = fixture.check(&text);
        let all = checked.found.sorted();
        let (line, column) = position(&text, &row.at.replace("DIR", directory));
        let hit = all.iter().find(|d| {
            (d.code.id, d.severity, d.place.line(), d.place.column()) == (row.code, row.severity, line, column)
        });
        let Some(hit) = hit else {
            panic!("{}: no {} {} at {line}:{column}\n{}", row.name, row.severity, row.code, listing(&all))
        };
        let hint = hit.hint.as_deref().unwrap_or_default();
        assert!(hint.contains(&row.hint.replace("DIR", directory)), "{}: the hint is {hint:?}", row.name);
        if row.severity == Severity::Error {
            assert_eq!(errors(&checked).len(), 1, "{}: one slip is one error\n{}", row.name, listing(&all));
            assert!(checked.configs.is_empty(), "{}", row.name);
        } else {
            assert!(!checked.found.has_errors(), "{}\n{}", row.name, checked.found);
        }
    }
}

#[test]
fn each_slip_in_chains_and_validators_is_found_where_it_is_with_a_hint() {
    let rows = [
        error("unknown key", ("state_file", "stat_file"), "CONFIG-0003", "stat_file", "did you mean `state_file`?"),
        error("unknown table", ("[semel]", "[semmel]"), "CONFIG-0003", "semmel", "did you mean `semel`?"),
        error(
            "key of another table",
            ("reconnect = true", "state_file = \"x\""),
            "CONFIG-0003",
            "state_file = \"x\"",
            "`state_file` belongs to [[chain]]",
        ),
        error(
            "wrong type",
            ("timeout = 10", "timeout = \"10\""),
            "CONFIG-0005",
            "\"10\"",
            "write it without quotes: timeout = 10",
        ),
        error(
            "wrong type of a flag",
            ("reconnect = true", "reconnect = \"yes\""),
            "CONFIG-0005",
            "\"yes\"",
            "give true or false",
        ),
        error("number too large", ("timeout = 10", "timeout = 65536"), "CONFIG-0006", "65536", "timeout = 65535"),
        error("missing key_format", ("key_format = { type", "# { type"), "CONFIG-0004", "[[chain]]", "add key_format"),
        error("missing type", ("type = \"bech32\", ", ""), "CONFIG-0004", "{ account", "one of type"),
        error("unknown type", ("\"bech32\"", "\"bech23\""), "CONFIG-0007", "\"bech23\"", "did you mean \"bech32\"?"),
        error(
            "missing prefix",
            (", consensus_key_prefix = \"did:com:valconspub\"", ""),
            "CONFIG-0004",
            "{ type",
            "consensus_key_prefix",
        ),
        error("bad prefix", ("did:com:valconspub", "did com"), "CONFIG-0120", "\"did com\"", "without blanks"),
        error(
            "bad chain id",
            ("id = \"commercio-3\"", "id = \"commercio/3\""),
            "CONFIG-0101",
            "\"commercio/3\"",
            "A-Z a-z 0-9 - _ .",
        ),
        error("empty chain id", ("id = \"commercio-3\"", "id = \"\""), "CONFIG-0101", "\"\"", "1 to 50"),
        error(
            "chain id of 51",
            ("id = \"commercio-3\"", "id = \"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeef\""),
            "CONFIG-0101",
            "\"aaaaaaaaaabbbbbbbbbbcc",
            "1 to 50",
        ),
        error(
            "duplicate chain id",
            (
                "[[validator]]",
                "[[chain]]\nid = \"commercio-3\"\nkey_format = { type = \"hex\" }\nstate_file = \"DIR/b.json\"\n[[validator]]",
            ),
            "CONFIG-0102",
            "\"commercio-3\"\nkey_format = { type = \"hex\" }",
            "give each [[chain]] a `name`",
        ),
        error(
            "unregistered chain of a validator",
            ("chain_id = \"commercio-3\"", "chain_id = \"commercio-2\""),
            "CONFIG-0103",
            "\"commercio-2\"",
            "did you mean \"commercio-3\"? Else add a [[chain]] with id = \"commercio-2\"",
        ),
        error(
            "unregistered chain with another name",
            ("chain_id = \"commercio-3\"", "chain_id = \"osmosis-1\""),
            "CONFIG-0103",
            "\"osmosis-1\"",
            "add a [[chain]] with id = \"osmosis-1\"",
        ),
        error(
            "no key for a chain",
            (
                "[[validator]]",
                "[[chain]]\nid = \"x-1\"\nkey_format = { type = \"hex\" }\nstate_file = \"DIR/b.json\"\n[[validator]]\naddr = \"unix:///b\"\nchain_id = \"x-1\"\n[[validator]]",
            ),
            "CONFIG-0104",
            "\"x-1\"",
            "add [[providers.softsign]] with chain_ids = [\"x-1\"]",
        ),
        error(
            "missing secret_key for tcp",
            ("secret_key = \"DIR/identity.key\"\n", ""),
            "CONFIG-0109",
            "[[validator]]",
            "head -c 32 /dev/urandom",
        ),
        error(
            "address without a port",
            ("10.1.1.1:26658", "10.1.1.1"),
            "CONFIG-0110",
            "\"tcp://f9d4",
            "10.1.1.1:26658",
        ),
        error("address with a bad peer id", ("f9d4a56c", "z9d4a56c"), "CONFIG-0110", "\"tcp://z9d4", "40 hex digits"),
        error("address with a bad scheme", ("tcp://f9", "http://f9"), "CONFIG-0110", "\"http://f9", "write tcp://"),
        error(
            "missing address",
            ("addr = \"unix:///run/node.sock\"\n", ""),
            "CONFIG-0004",
            "[[validator]]\nchain_id",
            "add addr",
        ),
        error(
            "missing chain_id",
            ("chain_id = \"commercio-3\"\nreconnect", "reconnect"),
            "CONFIG-0004",
            "[[validator]]",
            "add chain_id",
        ),
        error(
            "bad protocol_version",
            ("\"v0.34\"", "\"v0.35\""),
            "CONFIG-0007",
            "\"v0.35\"",
            "\"auto\", \"legacy\", \"v0.33\", \"v0.34\", \"v0.37\", \"v0.38\", \"v0.39\", \"v0.40\", \"v1.0\"",
        ),
        error(
            "unquoted max_height",
            ("\"500000\"", "500000"),
            "CONFIG-0005",
            "500000",
            "put it in quotes: max_height = \"500000\"",
        ),
        error(
            "max_height that is none",
            ("\"500000\"", "\"5e5\""),
            "CONFIG-0111",
            "\"5e5\"",
            "a decimal number in quotes",
        ),
        error("max_height of 0", ("\"500000\"", "\"0\""), "CONFIG-0111", "\"0\"", "a decimal number in quotes"),
        error(
            "state_hook without cmd",
            ("cmd = [\"/bin/true\", \"x\"], ", ""),
            "CONFIG-0004",
            "{ timeout_secs",
            "add cmd",
        ),
        error("state_hook with an empty cmd", ("[\"/bin/true\", \"x\"]", "[]"), "CONFIG-0008", "[], ", "cmd = ["),
        error(
            "state_hook that is no table",
            ("{ cmd = [\"/bin/true\", \"x\"], timeout_secs = 5, fail_closed = true }", "\"/bin/true\""),
            "CONFIG-0005",
            "\"/bin/true\"",
            "state_hook = { … }",
        ),
        error(
            "unknown key in state_hook",
            ("fail_closed", "fail_close"),
            "CONFIG-0003",
            "fail_close ",
            "did you mean `fail_closed`?",
        ),
        error(
            "a repeat signed anew",
            ("sign_extensions", "timestamp_policy = \"resign\"\nsign_extensions"),
            "CONFIG-0127",
            "\"resign\"",
            "leave the key away",
        ),
        error(
            "a quote that is not closed",
            ("\"v0.34\"", "\"v0.34"),
            "CONFIG-0002",
            "\"v0.34",
            "a quote is not closed",
        ),
        error("a string without quotes", ("\"v0.34\"", "v0.34"), "CONFIG-0002", "v0.34", "strings stand in quotes"),
        warning(
            "a timeout on a unix socket",
            ("addr = \"unix:///run/node.sock\"", "addr = \"unix:///run/node.sock\"\ntimeout = 3"),
            "CONFIG-0126",
            "3\nchain_id",
            "leave the key away",
        ),
    ];
    run(GOOD, &rows);
}

#[test]
fn each_slip_in_providers_and_settings_is_found_where_it_is_with_a_hint() {
    let rows = [
        error("missing providers", (SOFTSIGN, ""), "CONFIG-0004", "[[chain]]", "add [[providers.softsign]]"),
        error(
            "unknown provider",
            ("providers.softsign", "providers.softsing"),
            "CONFIG-0003",
            "softsing",
            "did you mean `softsign`?",
        ),
        error(
            "one bracket",
            ("[[providers.softsign]]", "[providers.softsign]"),
            "CONFIG-0005",
            "[providers.softsign]",
            "write [[providers.softsign]] with double brackets",
        ),
        error(
            "unregistered chain of a key",
            ("chain_ids = [\"commercio-3\"]", "chain_ids = [\"commercio-3\", \"commercio-2\"]"),
            "CONFIG-0103",
            "\"commercio-2\"",
            "did you mean \"commercio-3\"?",
        ),
        error(
            "more than one key for a chain",
            ("[semel]", "[[providers.softsign]]\nchain_ids = [\"commercio-3\"]\npath = \"DIR/identity.key\"\n[semel]"),
            "CONFIG-0105",
            "[[providers.softsign]]\nchain_ids = [\"commercio-3\"]\npath",
            "give each its own [[chain]] with a `name`",
        ),
        error(
            "chain_ids is no list",
            ("chain_ids = [\"commercio-3\"]", "chain_ids = \"commercio-3\""),
            "CONFIG-0005",
            "\"commercio-3\"\nkey_type",
            "chain_ids = [\"commercio-3\"]",
        ),
        error(
            "unknown key_type",
            ("\"consensus\"", "\"consensu\""),
            "CONFIG-0007",
            "\"consensu\"",
            "did you mean \"consensus\"?",
        ),
        error(
            "json account key",
            ("key_type = \"consensus\"\nkey_format = \"base64\"", "key_type = \"account\"\nkey_format = \"json\""),
            "CONFIG-0125",
            "\"json\"\npath",
            "leave key_format away",
        ),
        error(
            "missing path",
            ("path = \"DIR/consensus.key\"\n", ""),
            "CONFIG-0004",
            "[[providers.softsign]]",
            "softsign keygen",
        ),
        error("empty path", ("path = \"DIR/consensus.key\"", "path = \"\""), "CONFIG-0008", "\"\"", "give the path"),
        error(
            "no key file",
            ("DIR/consensus.key", "DIR/missing.key"),
            "CONFIG-0113",
            "\"DIR/missing.key",
            "softsign keygen DIR/missing.key",
        ),
        error(
            "no identity file",
            ("DIR/identity.key", "DIR/missing.key"),
            "CONFIG-0113",
            "\"DIR/missing.key",
            "head -c 32 /dev/urandom | base64 > DIR/missing.key",
        ),
        error(
            "key file that is a directory",
            ("DIR/consensus.key", "DIR"),
            "CONFIG-0113",
            "\"DIR\"",
            "softsign keygen",
        ),
        error(
            "state in a missing directory",
            ("DIR/state.json", "DIR/gone/state.json"),
            "CONFIG-0129",
            "\"DIR/gone/state.json",
            "mkdir -p DIR/gone",
        ),
        error(
            "ledger device",
            (SOFTSIGN, "[[providers.ledgertm]]\nchain_ids = [\"commercio-3\"]\n"),
            "CONFIG-0119",
            "ledgertm",
            "keep tmkms for this chain",
        ),
        error(
            "fortanix",
            (SOFTSIGN, "[[providers.fortanixdsm]]\napi_key = \"x\"\n"),
            "CONFIG-0119",
            "fortanixdsm",
            "keep tmkms for this chain",
        ),
        error("bad durability", ("\"reserve\"", "\"async\""), "CONFIG-0007", "\"async\"", "\"sync\", \"reserve\""),
        error("bad http_addr", ("127.0.0.1:9464", "localhost"), "CONFIG-0110", "\"localhost\"", "127.0.0.1:9464"),
        error(
            "both names of one address",
            ("log_format", "metrics_addr = \"127.0.0.1:1\"\nlog_format"),
            "CONFIG-0125",
            "\"127.0.0.1:1\"",
            "keep http_addr",
        ),
        error("bad log_format", ("\"json\"", "\"xml\""), "CONFIG-0007", "\"xml\"", "\"text\", \"json\""),
        error("bad allow_root", ("allow_root = false", "allow_root = 4711"), "CONFIG-0005", "4711", "true"),
        error(
            "reserve_heights of 0",
            ("reserve_heights = 4", "reserve_heights = 0"),
            "CONFIG-0006",
            "0\nledger",
            "reserve_heights = 1",
        ),
        warning("heights without reserve", ("\"reserve\"", "\"sync\""), "CONFIG-0126", "4\nledger", "set durability"),
        warning(
            "a chain without a validator",
            (
                "[[providers.softsign]]\nchain_ids = [",
                "[[chain]]\nid = \"x\"\nkey_format = { type = \"hex\" }\nstate_file = \"DIR/b.json\"\n[[providers.softsign]]\nchain_ids = [\"x\", ",
            ),
            "CONFIG-0122",
            "\"x\"\nkey_format",
            "add [[validator]] with chain_id = \"x\"",
        ),
    ];
    run(GOOD, &rows);
}

#[test]
fn each_slip_in_a_yubihsm_table_is_found_where_it_is_with_a_hint() {
    let http = "{ type = \"http\", addr = \"tcp://127.0.0.1:12345\" }";
    let with_serial = |serial: &str| {
        Box::leak(format!("adapter = {{ type = \"usb\" }}\nserial_number = \"{serial}\"").into_boxed_str())
    };
    let rows = [
        error(
            "two devices",
            (
                "[semel]",
                "[[providers.yubihsm]]\nadapter = { type = \"usb\" }\nauth = { key = 2, password = \"x\" }\n[semel]",
            ),
            "CONFIG-0107",
            "[[providers.yubihsm]]\nadapter = { type = \"usb\" }\nauth = { key = 2",
            "put all keys of one device into its `keys`",
        ),
        error(
            "serial that is too large, on usb",
            ("adapter = { type = \"usb\" }", with_serial("9876543210")),
            "CONFIG-0108",
            "\"9876543210\"",
            "leave the key away",
        ),
        error(
            "serial of 9 digits, on usb",
            ("adapter = { type = \"usb\" }", with_serial("123456789")),
            "CONFIG-0108",
            "\"123456789\"",
            "10 digits",
        ),
        error(
            "missing adapter",
            ("adapter = { type = \"usb\" }\n", ""),
            "CONFIG-0004",
            "[[providers.yubihsm]]",
            "add adapter",
        ),
        error(
            "connector on a unix socket",
            ("{ type = \"usb\" }", "{ type = \"http\", addr = \"unix:///x\" }"),
            "CONFIG-0110",
            "\"unix:///x\"",
            "write tcp://HOST:PORT",
        ),
        error(
            "connector without a port",
            ("{ type = \"usb\" }", "{ type = \"http\", addr = \"tcp://x\" }"),
            "CONFIG-0110",
            "\"tcp://x\"",
            "port",
        ),
        error(
            "auth with both",
            ("auth = { key = 1, ", "auth = { key = 1, password = \"secret\", "),
            "CONFIG-0112",
            "password_file",
            "keep password_file",
        ),
        error(
            "auth with neither",
            (", password_file = \"DIR/password\"", ""),
            "CONFIG-0112",
            "{ key = 1 }",
            "add password_file",
        ),
        error(
            "no password file",
            ("DIR/password", "DIR/missing"),
            "CONFIG-0113",
            "\"DIR/missing\"",
            "write the password",
        ),
        error(
            "key number too large",
            ("[\"commercio-3\"], key = 1", "[\"commercio-3\"], key = 65536"),
            "CONFIG-0006",
            "65536",
            "key = 65535",
        ),
        error(
            "unregistered chain",
            ("chain_ids = [\"commercio-3\"], key", "chain_ids = [\"commercio-3\", \"x\"], key"),
            "CONFIG-0103",
            "\"x\"], key",
            "add a [[chain]] with id = \"x\"",
        ),
        error(
            "two keys for a chain",
            ("key = 1 }]", "key = 1 }, { chain_ids = [\"commercio-3\"], key = 2 }]"),
            "CONFIG-0105",
            "{ chain_ids = [\"commercio-3\"], key = 2 }",
            "keep one",
        ),
        error(
            "an empty list of devices",
            (YUBIHSM, "[providers]\nyubihsm = []\n"),
            "CONFIG-0107",
            "yubihsm = []",
            "put all keys",
        ),
        error(
            "a connector_server without laddr",
            ("keys = [", "connector_server = {}\nkeys = ["),
            "CONFIG-0004",
            "{}",
            "add laddr",
        ),
    ];
    run(&on_device(), &rows);
    let rows = [
        warning(
            "the serial of the guide, on http",
            ("auth =", "serial_number = \"9876543210\"\nauth ="),
            "CONFIG-0108",
            "\"9876543210\"",
            "the http adapter does not use it",
        ),
        warning(
            "a short serial, on http",
            ("auth =", "serial_number = \"1\"\nauth ="),
            "CONFIG-0108",
            "\"1\"",
            "the http adapter does not use it",
        ),
    ];
    run(&on_device().replace("{ type = \"usb\" }", http), &rows);
}

#[test]
fn a_device_key_listed_twice_is_a_warning_with_both_places() {
    let fixture = Fixture::new();
    let text = on_device()
        .replace("[[validator]]\naddr = \"unix", "[[chain]]\nid = \"x\"\nkey_format = { type = \"hex\" }\nstate_file = \"DIR/x.json\"\n[[validator]]\naddr = \"unix")
        .replace("key = 1 }]", "key = 1 }, { chain_ids = [\"x\"], key = 1 }]");
    let checked = fixture.check(&text);
    assert!(!checked.found.has_errors(), "{}", checked.found);
    let all = checked.found.sorted();
    let hit = all.iter().find(|d| d.code.id == "CONFIG-0121").unwrap();
    assert_eq!(hit.related[0].0.line(), hit.place.line());
    assert!(hit.related[0].0.column() < hit.place.column());
}

#[test]
fn files_with_a_wrong_content_are_named_with_what_is_wrong() {
    // Name of the file, its content, the code, a part of the message.
    let rows: [(&str, &[u8], &str, &str); 12] = [
        ("consensus.key", b"AQEB", "CONFIG-0114", "a key of 3 bytes"),
        ("consensus.key", b"not base64 at all", "CONFIG-0114", "not base64"),
        ("consensus.key", b"", "CONFIG-0114", "the file is empty"),
        ("consensus.key", b"{\"priv_key\": 1}", "CONFIG-0114", "this is JSON"),
        ("identity.key", b"AQEB", "CONFIG-0114", "3 bytes"),
        ("state.json", b"", "CONFIG-0115", "the file is empty"),
        ("state.json", b"{\"height\":\"12", "CONFIG-0115", "ends in the middle of a value"),
        ("state.json", b"[]", "CONFIG-0115", "not JSON"),
        ("state.json", b"{\"round\":\"1\"}", "CONFIG-0115", "`height`"),
        ("state.json", b"{\"height\":\"-1\",\"round\":\"1\",\"step\":1}", "CONFIG-0115", "`height` is negative"),
        (
            "state.json",
            b"{\"height\":\"1\",\"round\":\"0\",\"step\":1,\"chain_id\":\"other-1\"}",
            "CONFIG-0115",
            "the state of chain other-1",
        ),
        (
            "state.json",
            b"{\"height\":\"1\",\"round\":\"0\",\"step\":1,\"pub_key\":\"AB\"}",
            "CONFIG-0115",
            "the state of key AB",
        ),
    ];
    for (name, content, code, message) in rows {
        let fixture = Fixture::new();
        fixture.secret(name, content);
        let errors = errors(&fixture.check(GOOD));
        assert_eq!(errors.len(), 1, "{name} {content:?}\n{}", listing(&errors));
        assert_eq!(errors[0].code.id, code);
        assert!(errors[0].message.contains(message), "{}", errors[0].message);
        assert!(errors[0].place.line() > 0 && errors[0].hint.is_some());
    }
}

#[test]
fn a_password_without_a_letter_is_found_before_a_device_counts_it_as_wrong() {
    let fixture = Fixture::new();
    fixture.secret("password", b" \n");
    let errors = errors(&fixture.check(&on_device()));
    assert_eq!(errors.len(), 1, "{}", listing(&errors));
    assert!(errors[0].code.id == "CONFIG-0113" && errors[0].message.contains("is empty"), "{}", errors[0].message);
}

#[test]
fn a_timeout_counts_for_nothing_on_a_socket_of_this_host() {
    let text = GOOD.replace("run/node.sock\"", "run/node.sock\"\ntimeout = 1");
    let fixture = Fixture::new();
    let checked = fixture.check(&text);
    let timeouts: Vec<_> = checked.configs[0].validators.iter().map(|validator| validator.timeout.as_secs()).collect();
    assert_eq!(timeouts, [10, 10]);
}

#[test]
fn every_length_of_a_key_that_tmkms_takes_is_taken() {
    use base64::Engine;
    for (bytes, good) in
        [(31, false), (32, true), (33, false), (63, false), (64, true), (65, false), (95, false), (128, false)]
    {
        let fixture = Fixture::new();
        let text = base64::engine::general_purpose::STANDARD.encode(vec![7_u8; bytes]);
        fixture.secret("consensus.key", format!("{text}\n").as_bytes());
        assert_eq!(!fixture.check(GOOD).found.has_errors(), good, "{bytes}");
    }
    let fixture = Fixture::new();
    fixture.secret("consensus.key", &[7; 32]);
    assert!(!fixture.check(GOOD).found.has_errors(), "32 raw bytes");
    fixture.secret("consensus.key", KEY.trim_end_matches('=').as_bytes());
    assert!(!fixture.check(GOOD).found.has_errors(), "without the signs at its end");
}

#[test]
fn a_secret_that_others_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    for name in ["consensus.key", "identity.key"] {
        let fixture = Fixture::new();
        let path = fixture.path(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let checked = fixture.check(GOOD);
        assert!(!checked.found.has_errors());
        let all = checked.found.sorted();
        assert_eq!(all.len(), 1, "{}", listing(&all));
        assert_eq!((all[0].code.id, all[0].severity), ("CONFIG-0116", Severity::Warning));
        assert_eq!(all[0].hint.as_deref(), Some(format!("chmod 600 {}", path.display()).as_str()));
        assert_eq!(checked.configs[0].warnings, all);
    }
}

#[test]
fn a_secret_of_another_user_than_the_signer_is_a_warning_to_root_too() {
    use std::os::unix::fs::chown;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Who owns the directory of the state file, who the key, who is named as the one who may change it.
    for (service, owner, warned) in
        [(0, 0, None), (0, 1000, Some((1000, 0))), (998, 998, None), (998, 0, None), (998, 1000, Some((1000, 998)))]
    {
        let fixture = Fixture::new();
        chown(fixture.path(""), Some(service), None).unwrap();
        chown(fixture.path("consensus.key"), Some(owner), None).unwrap();
        chown(fixture.path("identity.key"), Some(service), None).unwrap();
        let all = fixture.check(GOOD).found.sorted();
        let told: Vec<_> = all.iter().map(|d| (d.code.id, d.message.contains("consensus.key"))).collect();
        let expected = warned.map(|_| ("CONFIG-0116", true)).into_iter().collect::<Vec<_>>();
        assert_eq!(told, expected, "{service} {owner}: {}", listing(&all));
        for (item, (owner, user)) in all.iter().zip(warned) {
            assert!(item.message.contains(&format!("belongs to user {owner}")), "{}", listing(&all));
            assert!(item.hint.as_deref().unwrap().starts_with(&format!("chown {user} ")), "{}", listing(&all));
        }
    }
}

#[test]
fn what_has_to_last_does_not_lie_where_it_is_lost() {
    use super::super::{Look, check};
    let Ok(volatile) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped: no directory can be made in /dev/shm");
        return;
    };
    let fixture = Fixture::new();
    let shm = volatile.path().to_str().unwrap();
    let text = GOOD
        .replace("DIR/state.json", &format!("{shm}/state.json"))
        .replace("DIR/ledger", &format!("{shm}/not/made/yet"));
    let path = fixture.config("tmkms.toml", &text);
    let found = |volatile_ledger| {
        let all = check(std::slice::from_ref(&path), Look::Disks { volatile_ledger }).found.sorted();
        assert!(all.iter().all(|item| item.message.contains("tmpfs") && item.hint.is_some()), "{}", listing(&all));
        all.iter().map(|item| (item.severity, item.code.id, item.place.line())).collect::<Vec<_>>()
    };
    let state = (Severity::Warning, "CONFIG-0131", 4);
    assert_eq!(found(false), [state, (Severity::Error, "CONFIG-0131", 30)]);
    assert_eq!(found(true), [state], "what `start` is told with --i-accept-volatile-ledger");
    // `start` has its own word about that, and may have been told so.
    assert!(fixture.check(&text).found.is_empty());
}

#[test]
fn a_state_file_that_must_be_there_and_is_not_is_an_error() {
    let fixture = Fixture::new();
    let text = GOOD.replace("sign_extensions", "require_state = true\nsign_extensions");
    let found = errors(&fixture.check(&text));
    assert_eq!(found.iter().map(|d| d.code.id).collect::<Vec<_>>(), ["CONFIG-0113"], "{}", listing(&found));
    fixture.secret("state.json", b"{\"height\":\"0\",\"round\":\"0\",\"step\":0,\"block_id\":{}}");
    assert!(!fixture.check(&text).found.has_errors());
}

#[test]
fn a_password_in_the_file_is_in_no_output() {
    let fixture = Fixture::new();
    let text = on_device().replace("auth = { key = 1, ", "auth = { key = 70000, password = \"hunter2\", ");
    let checked = fixture.check(&text);
    assert!(checked.found.errors() >= 2);
    assert!(!checked.found.to_text().contains("hunter2"));
    assert!(!checked.found.to_json().to_string().contains("hunter2"));
    assert!(!KEY.is_empty() && !checked.found.to_text().contains(KEY));
}

#[test]
fn the_printed_form_is_frozen() {
    use super::super::{Look, examine};
    use semel_ops::config::{Diagnostics, Source};
    let text = "[[chain]]\nid = \"commercio-3\"\nkey_format = { type = \"hex\" }\n\n[[validator]]\naddr = \"unix:///n\"\nchain_id = \"commercio-2_2\"\n\n[[providers.softsign]]\nchain_ids = [\"commercio-3\"]\npath = \"k\"\n";
    let checked = examine(&[Source::new("tmkms.toml", text)], Look::Text, Diagnostics::new());
    let golden = "\
error[CONFIG-0103]: [[validator]] names the chain `commercio-2_2`, but no [[chain]] has this id
 --> tmkms.toml:7:12
  |
7 | chain_id = \"commercio-2_2\"
  |            ^^^^^^^^^^^^^^^
 ::: tmkms.toml:2:6
  |
2 | id = \"commercio-3\"
  |      ------------- the nearest registered one is this
  hint: did you mean \"commercio-3\"? Else add a [[chain]] with id = \"commercio-2_2\"

error: 1 error in the configuration
";
    assert_eq!(checked.found.to_text(), golden);
}
