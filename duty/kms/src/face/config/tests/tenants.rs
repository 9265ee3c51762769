//! Several validators in one process: files, directories, names.

use super::super::{Look, SigningKey, check, load};
use super::fixture::{Fixture, GOOD, KEY, OTHER_KEY, errors, listing};

const NAMED: &str = r#"[[chain]]
id = "commercio-3"
name = "one"
key_format = { type = "hex" }
state_file = "DIR/one.json"

[[chain]]
id = "commercio-3"
name = "two"
key_format = { type = "hex" }
state_file = "DIR/two.json"

[[validator]]
addr = "unix:///run/one.sock"
chain = "one"

[[validator]]
addr = "unix:///run/two.sock"
chain = "two"
chain_id = "commercio-3"

[[providers.softsign]]
chains = ["one"]
path = "DIR/consensus.key"

[[providers.softsign]]
chains = ["two"]
path = "DIR/identity.key"
"#;

/// A second tenant of the same chain, with everything its own.
fn second(fixture: &Fixture) -> String {
    fixture.secret("second.key", OTHER_KEY.as_bytes());
    GOOD.replace("DIR/state.json", "DIR/second.json").replace("DIR/consensus.key", "DIR/second.key")
}

#[test]
fn two_files_may_have_the_same_chain_id_with_different_keys_and_states() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.config("a.toml", GOOD), fixture.config("b.toml", &second(&fixture)));
    let checked = fixture.check_all(&[&a, &b]);
    assert!(checked.found.is_empty(), "{}", checked.found);
    assert_eq!(checked.configs.len(), 2);
}

#[test]
fn two_files_must_not_share_a_state_file_or_a_key() {
    for (from, to, code, line) in [
        ("DIR/second.json", "DIR/./state.json", "CONFIG-0117", "state_file"),
        ("DIR/second.key", "DIR/consensus.key", "CONFIG-0118", "[[providers.softsign]]"),
    ] {
        let fixture = Fixture::new();
        let text = second(&fixture).replace(from, to);
        let (a, b) = (fixture.config("a.toml", GOOD), fixture.config("b.toml", &text));
        let errors = errors(&fixture.check_all(&[&a, &b]));
        assert_eq!(errors.len(), 1, "{}", listing(&errors));
        assert_eq!((errors[0].code.id, errors[0].place.path()), (code, b.as_path()));
        assert_eq!(errors[0].place.line(), text.lines().position(|l| l.starts_with(line)).unwrap() + 1);
        assert_eq!(errors[0].related[0].0.path(), a);
        assert!(errors[0].hint.is_some());
    }
}

#[test]
fn a_copy_of_a_key_under_another_path_is_the_same_key() {
    let fixture = Fixture::new();
    let copied = second(&fixture);
    fixture.secret("second.key", KEY.as_bytes());
    let (a, b) = (fixture.config("a.toml", GOOD), fixture.config("b.toml", &copied));
    let errors = errors(&fixture.check_all(&[&a, &b]));
    assert_eq!(errors.iter().map(|d| d.code.id).collect::<Vec<_>>(), ["CONFIG-0118"], "{}", listing(&errors));
    let b = fixture.config("b.toml", &copied.replace("commercio-3", "osmosis-1"));
    assert!(!fixture.check_all(&[&a, &b]).found.has_errors(), "one key on two chains is no conflict");
}

#[test]
fn two_files_must_agree_about_the_process() {
    let fixture = Fixture::new();
    let text = second(&fixture).replace("\"reserve\"\nreserve_heights = 4", "\"sync\"");
    let (a, b) = (fixture.config("a.toml", GOOD), fixture.config("b.toml", &text));
    let errors = errors(&fixture.check_all(&[&a, &b]));
    assert_eq!(errors.len(), 1, "{}", listing(&errors));
    assert_eq!(errors[0].code.id, "CONFIG-0128");
    assert_eq!(errors[0].message, "`durability` is sync here and reserve in another file");
}

#[test]
fn a_directory_stands_for_its_toml_files_sorted_by_name() {
    let fixture = Fixture::new();
    let directory = fixture.path("conf.d");
    std::fs::create_dir(&directory).unwrap();
    fixture.config("conf.d/b.toml", &second(&fixture));
    fixture.config("conf.d/a.toml", GOOD);
    fixture.config("conf.d/notes.txt", "this is no configuration");
    fixture.config("conf.d/.#a.toml", "nor is this, but an editor's lock");
    let configs = load(std::slice::from_ref(&directory)).unwrap();
    let names: Vec<_> = configs.iter().map(|c| c.path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a.toml", "b.toml"]);
    let twice = check(&[directory.clone(), directory.join("a.toml")], Look::Everything);
    assert_eq!(errors(&twice)[0].code.id, "CONFIG-0124");
    let empty = fixture.path("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(errors(&fixture.check_all(&[&empty]))[0].code.id, "CONFIG-0123");
}

#[test]
fn errors_of_all_files_come_together_and_good_files_are_kept() {
    let fixture = Fixture::new();
    let broken = second(&fixture).replace("timeout = 10", "timeout = 0");
    let (a, b) = (fixture.config("a.toml", GOOD), fixture.config("b.toml", &broken));
    let checked = fixture.check_all(&[&a, &b, &fixture.path("missing.toml")]);
    let codes: Vec<_> = errors(&checked).iter().map(|d| d.code.id).collect();
    assert_eq!(codes, ["CONFIG-0006", "CONFIG-0001"]);
    assert_eq!(checked.configs.iter().map(|c| c.path.clone()).collect::<Vec<_>>(), [a]);
}

#[test]
fn names_let_one_file_serve_two_validators_of_one_chain() {
    let fixture = Fixture::new();
    let checked = fixture.check(NAMED);
    assert!(checked.found.is_empty(), "{}", checked.found);
    let config = &checked.configs[0];
    for (name, socket, key) in [("one", "/run/one.sock", "consensus.key"), ("two", "/run/two.sock", "identity.key")] {
        let validators: Vec<_> = config.validators_of(name).map(|v| format!("{:?}", v.addr.value)).collect();
        assert_eq!(validators.len(), 1);
        assert!(validators[0].contains(socket));
        let Some(SigningKey::Softsign(softsign)) = config.signing_key(name) else { panic!("no key for {name}") };
        assert_eq!(softsign.path.value, fixture.path(key));
    }
}

#[test]
fn each_slip_with_names_is_found() {
    for (from, to, code) in [
        ("name = \"two\"", "name = \"one\"", "CONFIG-0102"),
        ("chain = \"two\"", "chain = \"three\"", "CONFIG-0103"),
        ("chain = \"one\"", "chain_id = \"commercio-3\"", "CONFIG-0106"),
        ("chains = [\"two\"]", "chain_ids = [\"commercio-3\"]", "CONFIG-0106"),
        ("chain_id = \"commercio-3\"", "chain_id = \"commercio-2\"", "CONFIG-0125"),
        ("chains = [\"two\"]", "chains = [\"two\", \"one\"]", "CONFIG-0105"),
        ("DIR/two.json", "DIR/one.json", "CONFIG-0117"),
        ("DIR/identity.key", "DIR/consensus.key", "CONFIG-0118"),
    ] {
        let fixture = Fixture::new();
        assert!(NAMED.contains(from), "{from}");
        let text = NAMED.replace(from, to);
        let errors = errors(&fixture.check(&text));
        let codes: Vec<_> = errors.iter().map(|d| d.code.id).collect();
        assert!(codes.contains(&code), "{from} → {to}\n{}", listing(&errors));
        assert!(errors.iter().all(|d| d.place.line() > 0 && d.hint.is_some()), "{}", listing(&errors));
    }
}

#[test]
fn an_account_key_signs_when_there_is_no_consensus_key_and_stands_beside_one_when_there_is() {
    let fixture = Fixture::new();
    let alone = GOOD.replace("key_type = \"consensus\"", "key_type = \"account\"");
    assert!(fixture.check(&alone).found.is_empty());
    let extra =
        "[[providers.softsign]]\nchain_ids = [\"commercio-3\"]\nkey_type = \"account\"\npath = \"DIR/identity.key\"\n";
    let beside = format!("{GOOD}{extra}");
    let checked = fixture.check(&beside);
    assert!(!checked.found.has_errors(), "{}", checked.found);
    let Some(SigningKey::Softsign(key)) = checked.configs[0].signing_key("commercio-3") else { panic!() };
    assert_eq!(key.path.value, fixture.path("consensus.key"));
}
