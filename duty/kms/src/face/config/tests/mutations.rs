//! A good configuration broken line by line and character by character: never a panic, always a position.

use super::super::{Look, codes, examine};
use super::fixture::{Fixture, GOOD, listing};
use semel_ops::code::Code;
use semel_ops::config::{Diagnostics, Source, codes as toml};

/// What can happen to a line.
fn broken_lines(line: &str) -> Vec<String> {
    let mut all =
        vec![String::new(), format!("{line}{line}"), format!("x{line}"), format!("{line} x"), line.to_uppercase()];
    let half: String = line.chars().take(line.chars().count() / 2).collect();
    all.push(half);
    for (from, to) in [
        ("\"", ""),
        ("=", ""),
        ("]", ""),
        ("{", ""),
        ("[", "[["),
        ("= ", "= ["),
        ("\"", "'"),
        ("tcp://", "http://"),
        (":", ""),
    ] {
        all.push(line.replacen(from, to, 1));
    }
    if let Some((key, _)) = line.split_once(" = ") {
        for value in
            ["1", "\"\"", "true", "[]", "{}", "-1", "99999999999999999999", "1.5", "1979-05-27", "\"\\u0000\"", "[[1]]"]
        {
            all.push(format!("{key} = {value}"));
        }
    }
    all.retain(|new| new != line);
    all
}

#[test]
fn each_line_altered_in_each_way_never_panics_and_every_finding_has_a_position() {
    let fixture = Fixture::new();
    let lines: Vec<&str> = GOOD.lines().collect();
    let (mut texts, mut with_errors) = (0, 0);
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        for new in broken_lines(line) {
            let mut text = lines.clone();
            text[at] = &new;
            let checked = fixture.check(&text.join("\n"));
            texts += 1;
            with_errors += usize::from(checked.found.has_errors());
            for item in checked.found.sorted() {
                assert!(item.place.line() > 0 && item.place.column() > 0, "{new}\n{}", listing(&[item]));
                assert!(item.place.line() <= lines.len());
                assert!(!item.message.is_empty());
            }
            assert_eq!(checked.configs.is_empty(), checked.found.has_errors(), "{new}\n{}", checked.found);
        }
    }
    assert!(texts > 400, "{texts}");
    assert!(with_errors * 10 > texts * 8, "{with_errors} of {texts}");
}

#[test]
fn the_file_cut_at_any_byte_never_panics() {
    for end in 0..=GOOD.len() {
        let source = Source::new("tmkms.toml", &GOOD[..end]);
        let checked = examine(&[source], Look::Text, Diagnostics::new());
        for item in checked.found.sorted() {
            assert!(item.place.line() > 0 && item.place.column() > 0, "{end}\n{}", listing(&[item]));
        }
    }
}

#[test]
fn a_deleted_line_is_reported_unless_the_key_is_optional() {
    let fixture = Fixture::new();
    let expected: [(&str, Option<&Code>); 14] = [
        ("id = ", Some(&toml::MISSING_KEY)),
        ("key_format = {", Some(&toml::MISSING_KEY)),
        ("state_file", None),
        ("sign_extensions", None),
        ("state_hook", None),
        ("addr = \"tcp", Some(&toml::MISSING_KEY)),
        ("reconnect", None),
        ("timeout = ", None),
        ("secret_key", Some(&codes::NO_SECRET_KEY)),
        ("max_height", None),
        ("protocol_version", None),
        ("chain_ids", Some(&toml::MISSING_KEY)),
        ("path = ", Some(&toml::MISSING_KEY)),
        ("durability", None),
    ];
    for (line, code) in expected {
        let number = GOOD.lines().position(|l| l.starts_with(line)).unwrap();
        let text: Vec<&str> = GOOD.lines().enumerate().filter(|(at, _)| *at != number).map(|(_, l)| l).collect();
        let errors = super::fixture::errors(&fixture.check(&text.join("\n")));
        let found: Vec<&str> = errors.iter().map(|d| d.code.id).collect();
        let wanted: Vec<&str> = code.iter().map(|code| code.id).collect();
        assert_eq!(found, wanted, "without {line}\n{}", listing(&errors));
    }
}
