//! `noise://`, `dialect` and `allow_sign_bytes`: what is taken, and what is said of what is not.

use super::super::{Address, Dialect};
use super::fixture::{Fixture, GOOD, errors, listing};
use semel_ops::config::Severity;

const ADDR: &str = "addr = \"tcp://f9d4a56c00112233445566778899aabbccddeeff@10.1.1.1:26658\"";
const VERSION: &str = "protocol_version = \"v0.34\"";
/// The name of the key with the bytes 1 to 32.
const PEER: &str = "12D3KooW9tJMax94Lrqw7Y5Qw36viGQAS2gTEPQ5Wg1vTk7xPfQs";

fn noise() -> String {
    format!("addr = \"noise://{PEER}@10.1.1.1:26659\"")
}

/// The good file with these words in place of others.
fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(GOOD.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in the file");
        text.replacen(from, to, 1)
    })
}

#[test]
fn a_node_behind_noise_and_its_dialect_are_read() {
    let fixture = Fixture::new();
    let more = "dialect = \"v1\"\nallow_sign_bytes = [\"TEST::\", \"app-sign:\"]";
    let checked = fixture.check(&changed(&[(ADDR, &noise()), (VERSION, more)]));
    assert!(checked.found.sorted().is_empty(), "{}", checked.found);
    let validator = &checked.configs[0].validators[0];
    let Address::Noise { peer, address } = validator.addr.value else { panic!("{:?}", validator.addr.value) };
    assert_eq!((peer.to_string().as_str(), address.to_string().as_str()), (PEER, "10.1.1.1:26659"));
    assert_eq!(validator.dialect, Dialect::V1);
    let domains: Vec<&str> = validator.allow_sign_bytes.iter().map(|domain| domain.as_str()).collect();
    assert_eq!(domains, ["TEST::", "app-sign:"]);
    let other = &checked.configs[0].validators[1];
    assert_eq!((other.dialect, other.allow_sign_bytes.len()), (Dialect::Auto, 0), "nothing is allowed by default");
}

#[test]
fn each_slip_is_one_finding_with_a_code() {
    let fixture = Fixture::new();
    let noise = noise();
    let list = |entries: &str| format!("allow_sign_bytes = {entries}");
    let many = list(&format!("[{}]", vec!["\"TEST\""; 65].join(", ")));
    let sign_bytes = [
        (list("[\"\"]"), "0 bytes"),
        (list("[\"abc\"]"), "3 bytes"),
        (list("[\"{\\\"@chain_id\"]"), "instead of a letter or a digit"),
        (list("[\"a\\u0008\\u0011bc\"]"), "printable"),
        (list(&format!("[\"{}\"]", "a".repeat(65))), "65 bytes"),
        (many, "65 entries"),
    ];
    for (to, words) in &sign_bytes {
        expect(&fixture, &[(VERSION, to)], Severity::Error, "CONFIG-0130", words);
    }
    type Keys<'a> = &'a [(&'a str, &'a str)];
    let rows: [(Keys<'_>, Severity, &str, &str); 8] = [
        (&[(VERSION, "dialect = \"celesta\"")], Severity::Error, "CONFIG-0007", "celesta"),
        (&[(VERSION, "allow_sign_bytes = \"TEST\"")], Severity::Error, "CONFIG-0005", "allow_sign_bytes"),
        (
            &[(VERSION, "dialect = \"celestia\"\nallow_sign_bytes = [\"TEST\"]")],
            Severity::Warning,
            "CONFIG-0126",
            "not used with dialect",
        ),
        (
            &[(VERSION, "protocol_version = \"v0.33\"\ndialect = \"v1\"")],
            Severity::Warning,
            "CONFIG-0126",
            "not used with this protocol_version",
        ),
        (
            &[(ADDR, noise.as_str()), (VERSION, "protocol_version = \"legacy\"")],
            Severity::Error,
            "CONFIG-0125",
            "does not know noise://",
        ),
        (
            &[(ADDR, noise.as_str()), ("secret_key = \"DIR/identity.key\"\n", "")],
            Severity::Error,
            "CONFIG-0109",
            "a validator on Noise",
        ),
        (&[(ADDR, "addr = \"noise://10.1.1.1:1\"")], Severity::Error, "CONFIG-0110", "no peer id"),
        (&[(ADDR, &format!("addr = \"noise://{PEER}@node.example:1\""))], Severity::Error, "CONFIG-0110", "is a name"),
    ];
    for (changes, severity, code, words) in rows {
        expect(&fixture, changes, severity, code, words);
    }
}

fn expect(fixture: &Fixture, changes: &[(&str, &str)], severity: Severity, code: &str, words: &str) {
    let checked = fixture.check(&changed(changes));
    let all = checked.found.sorted();
    let hit = all.iter().find(|found| (found.code.id, found.severity) == (code, severity));
    let hit = hit.unwrap_or_else(|| panic!("{changes:?}: no {code}\n{}", listing(&all)));
    assert!(hit.message.contains(words), "{changes:?}: {}", hit.message);
    assert!(hit.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{changes:?}");
    assert_eq!(errors(&checked).len(), usize::from(severity == Severity::Error), "{changes:?}\n{}", listing(&all));
}

#[test]
fn several_slips_are_found_at_once() {
    let fixture = Fixture::new();
    let text = changed(&[
        (ADDR, "addr = \"noise://nobody@10.1.1.1:1\""),
        (VERSION, "dialect = \"v2\"\nallow_sign_bytes = [\"ab\", \"TEST\", \"{json\"]"),
    ]);
    let checked = fixture.check(&text);
    let codes: Vec<&str> = errors(&checked).iter().map(|found| found.code.id).collect();
    assert_eq!(codes.iter().filter(|code| **code == "CONFIG-0130").count(), 2, "{codes:?}");
    assert!(codes.contains(&"CONFIG-0110") && codes.len() == 4, "{codes:?}");
}
