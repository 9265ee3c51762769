//! Our reader of environment files beside systemd's own, which the generator of `environment.d` uses, too.
//!
//! Left out, because they differ there: `$` (expanded), values that are empty (refused), and comments that end with a backslash (their
//! next line counts from systemd 254 on only).

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use semel_aggregator::face::settings::env_file::parse;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const GENERATOR: &str = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator";

/// What systemd reads; it prints values with quotes and escapes where a shell would need them.
fn theirs(directory: &Path, text: &str) -> BTreeMap<String, String> {
    let place = directory.join("environment.d");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("10.conf"), text).unwrap();
    let mut command = Command::new(GENERATOR);
    command.env_clear().env("HOME", directory).env("XDG_CONFIG_HOME", directory);
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    output
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), unquoted(value)))
        .collect()
}

fn unquoted(value: &str) -> String {
    let ansi = value.strip_prefix("$'").and_then(|rest| rest.strip_suffix('\''));
    let Some(inner) = ansi.or_else(|| value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))) else {
        return value.to_owned();
    };
    let mut out = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        out.push(match letter {
            '\\' => match letters.next().unwrap() {
                'n' => '\n',
                't' => '\t',
                other => other,
            },
            plain => plain,
        });
    }
    out
}

fn ours(text: &str) -> BTreeMap<String, String> {
    let all = parse(text).assignments.into_iter().filter(|one| !one.value.is_empty());
    all.map(|one| (one.name, one.value.to_string())).collect()
}

#[test]
fn values_are_those_that_systemd_reads() {
    if !Path::new(GENERATOR).exists() {
        println!("skipped: there is no systemd here");
        if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
            use std::io::Write as _;
            let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
            writeln!(log, "values_are_those_that_systemd_reads: no systemd").unwrap();
        }
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let line = "(Q[A-C]=|)[A-Cx=\"'\\\\ {}:,\t]{0,14}\n?";
    let outcome = runner.run(&prop::collection::vec(line, 1..8), |lines| {
        let text = lines.concat();
        // Their own environment has names that are not ours.
        let mut theirs = theirs(directory.path(), &text);
        theirs.retain(|name, _| text.contains(name.as_str()));
        prop_assert_eq!(ours(&text), theirs, "{:?}", text);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
