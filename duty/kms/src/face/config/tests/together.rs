//! Many slips in one file: none holds back another.

use super::fixture::{Fixture, GOOD, errors, listing};

#[test]
fn many_slips_are_all_found_in_one_run() {
    let fixture = Fixture::new();
    let text = GOOD
        .replace("state_file", "stat_file")
        .replace("\"500000\"", "500000")
        .replace("\"v0.34\"", "\"v0.35")
        .replace("chain_ids = [\"commercio-3\"]", "chain_ids = [\"x\"]")
        .replace("timeout = 10", "timeout = 0")
        .replace("unix:///run", "http:///run");
    let ids: Vec<_> = errors(&fixture.check(&text)).iter().map(|d| (d.place.line(), d.code.id)).collect();
    // The unregistered chain is held back: the line that does not parse could have been anything.
    let expected =
        [(4, "CONFIG-0003"), (12, "CONFIG-0006"), (14, "CONFIG-0005"), (15, "CONFIG-0002"), (18, "CONFIG-0110")];
    assert_eq!(ids, expected);
    let ids: Vec<_> = errors(&fixture.check(&text.replace("\"v0.35", "\"v0.35\""))).iter().map(|d| d.code.id).collect();
    assert_eq!(
        ids,
        ["CONFIG-0104", "CONFIG-0003", "CONFIG-0006", "CONFIG-0005", "CONFIG-0007", "CONFIG-0110", "CONFIG-0103"]
    );
}

/// Everything that an operator can do wrong in one file. Behind `#!` stand code and column of what is found in the line.
const EVERYTHING: &str = r#"
[[chain]]
id = "bad id" #! CONFIG-0101:6
key_format = { type = "hex" }
state_file = "DIR/no-json.json" #! CONFIG-0115:14

[[chain]]
id = "one-1"
key_format = { type = "hecks" } #! CONFIG-0007:23
state_file = "DIR/empty.json" #! CONFIG-0115:14

[[chain]]
id = "one-1" #! CONFIG-0102:6
key_format = { type = "hex" }

[[chain]]
id = "two-1"
key_format = { type = "hex" }
state_fiel = "x" #! CONFIG-0003:1
state_file = "DIR/gone/state.json" #! CONFIG-0129:14

[[chain]]
id = "keyless-1" #! CONFIG-0104:6
key_format = { type = "hex" }
state_file = "DIR/state.json"
sign_extensions = "yes" #! CONFIG-0005:19

[[validator]] #! CONFIG-0109:1
addr = "tcp://10.1.1.1" #! CONFIG-0110:8
chain_id = "nowhere-1" #! CONFIG-0103:12
max_height = 500000 #! CONFIG-0005:14
protocol_version = "v0.35" #! CONFIG-0007:20

[[validator]]
addr = "tcp://f9d4@10.1.1.1:26658" #! CONFIG-0110:8
chain_id = "two-1"
secret_key = "DIR/short.key" #! CONFIG-0114:14
max_height = "5e5" #! CONFIG-0111:14
timeout = 0 #! CONFIG-0006:11

[[validator]]
addr = "tpc://10.1.1.1:26658" #! CONFIG-0110:8
chain_id = "keyless-1"
secret_key = "DIR/none.key" #! CONFIG-0113:14

[[validator]]
addr = "unix:///run/node.sock"
chain_id = "one-1"

[[providers.softsign]]
chain_ids = ["two-1"]
path = "DIR/none.key" #! CONFIG-0113:8

[[providers.softsign]] #! CONFIG-0105:1
chain_ids = ["two-1", "elsewhere-1"] #! CONFIG-0103:23
path = "DIR/short.key" #! CONFIG-0114:8

[[providers.yubihsm]]
adapter = { type = "usb", timeout_ms = 0 } #! CONFIG-0006:40
auth = { key = 1, password_file = "DIR/none" } #! CONFIG-0113:35
serial_number = "9876543210" #! CONFIG-0108:17
keys = [{ chain_ids = ["one-1"], key = 1 }, { chain_ids = ["bad id"], key = 1 }] #! CONFIG-0121:77

[[providers.yubihsm]] #! CONFIG-0107:1
adapter = { type = "usbee" } #! CONFIG-0007:20
auth = { key = 0, password_file = "DIR/none" } #! CONFIG-0006:16 CONFIG-0113:35
serial_number = "1" #! CONFIG-0108:17

[[providers.yubihsm]]
adapter = { type = "http", addr = "tcp://10.1.1.1" } #! CONFIG-0110:35
auth = { key = 1, password = "x", password_file = "DIR/none" } #! CONFIG-0112:35 CONFIG-0113:51
serial_number = "98765" #! CONFIG-0108:17
"#;

#[test]
fn whatever_else_is_wrong_nothing_is_held_back() {
    let fixture = Fixture::new();
    fixture.secret("short.key", b"AQEB");
    fixture.secret("no-json.json", b"height = 5");
    fixture.secret("empty.json", b"");
    let all = fixture.check(EVERYTHING).found.sorted();
    let found: Vec<_> = all.iter().map(|d| (d.place.line(), d.place.column(), d.code.id.to_owned())).collect();
    let mut expected = Vec::new();
    for (line, text) in EVERYTHING.lines().enumerate() {
        let marks = text.split_once("#! ").map_or("", |(_, marks)| marks);
        for (code, column) in marks.split(' ').filter_map(|mark| mark.split_once(':')) {
            expected.push((line + 1, column.parse::<usize>().unwrap(), code.to_owned()));
        }
    }
    expected.sort();
    let mut sorted = found;
    sorted.sort();
    assert_eq!(sorted, expected, "{}", listing(&all));
    assert!(all.iter().all(|item| item.hint.is_some()), "{}", listing(&all));
    let of = |line: &str| {
        let number = EVERYTHING.lines().position(|text| text.starts_with(line)).unwrap() + 1;
        all.iter().find(|item| item.place.line() == number).and_then(|item| item.hint.clone()).unwrap()
    };
    // What could be meant instead is said, too.
    assert!(of("chain_id = \"nowhere-1\"").contains("correct the bad one in line 3"), "{}", listing(&all));
    assert!(of("id = \"keyless-1\"").contains("correct \"elsewhere-1\" in line"), "{}", listing(&all));
}

#[test]
fn what_most_likely_means_a_chain_with_a_bad_id_is_not_called_unknown_and_the_rest_is() {
    let fixture = Fixture::new();
    let other = "[[validator]]\naddr = \"unix:///other\"\nchain_id = \"nowhere-1\"\n\n[[providers.softsign]]";
    for id in ["id = \"commercio/3\"", "id = \"\"", "id = 3", ""] {
        let text = GOOD.replacen("id = \"commercio-3\"", id, 1).replace("[[providers.softsign]]", other);
        let found = errors(&fixture.check(&text));
        let codes: Vec<_> = found.iter().map(|d| d.code.id).collect();
        assert_eq!((codes.len(), codes[1]), (2, "CONFIG-0103"), "{id}\n{}", listing(&found));
        assert!(found[1].message.contains("nowhere-1"), "{}", listing(&found));
        assert!(found[1].hint.as_deref().unwrap().contains("the bad one in line"), "{}", listing(&found));
    }
}
