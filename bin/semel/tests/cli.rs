//! The command line where a transcript cannot tell: every code, every shell, machine-readable output, streams and environment.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use stage::{Ran, Stage, skip};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Every stable code, as `semel explain` lists them.
fn codes(stage: &Stage) -> Vec<String> {
    let listed = stage.run(&["explain"]);
    assert_eq!((listed.code, listed.stderr.as_str()), (0, ""));
    listed.stdout.lines().map(|line| line.split("  ").next().unwrap().to_owned()).collect()
}

#[test]
fn every_code_is_explained_once_in_words_of_its_own() {
    let stage = Stage::new();
    let codes = codes(&stage);
    let families: BTreeSet<&str> = codes.iter().map(|code| code.split('-').next().unwrap()).collect();
    assert_eq!(
        families.into_iter().collect::<Vec<_>>(),
        [
            "ADOPT", "AGG", "BACKUP", "BENCH", "CONFIG", "DOC", "EIP3076", "FSCK", "GUARD", "HANDOVER", "HOST", "HSM",
            "KEY", "LEDGER", "MIGRATE", "P11", "STATE", "TRANSFER", "UPGRADE"
        ]
    );
    let mut texts = BTreeSet::new();
    for code in &codes {
        let ran = stage.run(&["explain", code]);
        let text = ran.stdout.strip_prefix(&format!("{code}  ")).unwrap_or_else(|| unreachable!("{code}: {ran:?}"));
        assert!(text.len() > 15 && ran.code == 0, "{code}: {text}");
        assert!(texts.insert(text.to_owned()), "{code} says the same as another one: {text}");
    }
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
}

#[test]
fn every_code_that_a_transcript_or_a_test_shows_is_explained() {
    let stage = Stage::new();
    let known: BTreeSet<String> = codes(&stage).into_iter().collect();
    let shape = regex_lite::Regex::new(
        r"\b(?:GUARD|LEDGER|KEY|STATE|EIP3076|CONFIG|TRANSFER|BACKUP|BENCH|FSCK|ADOPT|AGG)-[0-9]{4}\b",
    )
    .unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut seen = BTreeSet::new();
    for directory in [tests.clone(), tests.join("transcripts")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                seen.extend(shape.find_iter(&fs::read_to_string(path).unwrap()).map(|code| code.as_str().to_owned()));
            }
        }
    }
    // The one that a transcript asks for in vain.
    seen.remove(concat!("GUARD", "-9999"));
    let unknown: Vec<_> = seen.difference(&known).collect();
    assert!(unknown.is_empty() && seen.len() >= 20, "{unknown:?} of {seen:?}");
}

#[test]
fn completions_come_for_every_shell_and_their_shells_can_read_them() {
    let stage = Stage::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = stage.run(&["completions", shell]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{shell}");
        for word in ["set-floor", "softsign", "i-accept-volatile-ledger", "explain"] {
            assert!(ran.stdout.contains(word), "{shell} knows nothing of {word}");
        }
        if !["bash", "zsh", "fish"].contains(&shell) {
            continue;
        }
        fs::write(stage.path("script"), &ran.stdout).unwrap();
        match Command::new(shell).arg("-n").arg(stage.path("script")).stderr(Stdio::piped()).output() {
            Ok(read) => assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr)),
            Err(error) => skip(&format!("completions_come_for_every_shell ({shell})"), &error.to_string()),
        }
    }
    assert_eq!(stage.run(&["completions", "csh"]).code, 2);
}

#[test]
fn help_is_there_at_every_level_and_misuse_ends_with_2() {
    let stage = Stage::new();
    let levels: [&[&str]; 16] = [
        &[],
        &["kms"],
        &["kms", "start"],
        &["kms", "version"],
        &["kms", "init"],
        &["kms", "softsign"],
        &["kms", "softsign", "import"],
        &["kms", "config"],
        &["kms", "config", "check"],
        &["kms", "state", "show"],
        &["kms", "state", "import"],
        &["kms", "state", "export"],
        &["kms", "state", "compare"],
        &["kms", "ledger", "init"],
        &["dev"],
        &["kms", "bench"],
    ];
    for level in levels {
        for flag in ["--help", "-h"] {
            let ran = stage.run(&[level, &[flag]].concat());
            assert!(ran.code == 0 && ran.stderr.is_empty(), "{level:?} {flag}: {ran:?}");
            assert!(ran.stdout.contains("Usage: semel"), "{level:?} {flag}: {}", ran.stdout);
        }
        let ran = stage.run(&[level, &["--no-such-flag"]].concat());
        assert!(ran.code == 2 && ran.stdout.is_empty() && ran.stderr.contains("Usage:"), "{level:?}: {ran:?}");
    }
}

#[test]
fn nothing_is_coloured_where_nobody_looks() {
    let stage = Stage::new();
    stage.config(&["unix:///nowhere.sock".into()]);
    let rows: [&[&str]; 5] = [
        &["kms", "--help"],
        &["kms", "config", "check", "-c", "DIR/tmkms.toml"],
        &["kms", "config", "check", "-c", "DIR/missing.toml"],
        &["kms", "softsign", "keygen", "DIR/fresh.key"],
        &["kms", "softsign", "keygen", "DIR/fresh.key"],
    ];
    for row in rows {
        let Ran { stdout, stderr, .. } = stage.run(row);
        assert!(!format!("{stdout}{stderr}").contains('\u{1b}'), "{row:?}: {stdout}{stderr}");
    }
}

#[test]
fn diagnostics_for_machines_have_what_those_for_people_have() {
    let stage = Stage::new();
    stage.config(&["tcp://127.0.0.1".into(), "tpc://127.0.0.1:1".into()]);
    stage.edit("tmkms.toml", "key_format", "key_fromat");
    stage.secret("consensus.key", "AQEB");
    let people = stage.run(&["kms", "config", "check", "-c", "DIR/tmkms.toml"]);
    let machines = stage.run(&["kms", "config", "check", "--json", "-c", "DIR/tmkms.toml"]);
    assert_eq!((people.code, machines.code), (1, 1));
    let json: serde_json::Value = serde_json::from_str(&machines.stdout).unwrap();
    let found = json.get("diagnostics").unwrap().as_array().unwrap();
    assert_eq!(found.len(), 4, "all at once, and a misspelt key is not missing as well: {json}");
    assert_eq!(json.get("errors").unwrap().as_u64().unwrap(), found.len() as u64);
    for one in found {
        let text = |key: &str| one.get(key).unwrap().as_str().unwrap();
        let number = |key: &str| one.get(key).unwrap().as_u64().unwrap();
        let place = format!("--> {}:{}:{}", text("path"), number("line"), number("column"));
        assert!(people.stderr.contains(&place), "{place} is not in\n{}", people.stderr);
        assert!(people.stderr.contains(&format!("error[{}]: {}", text("code"), text("message"))), "{one}");
        assert!(people.stderr.contains(&format!("hint: {}", text("hint"))), "{one}");
    }
    assert!(people.stderr.contains("did you mean `key_format`?"), "{}", people.stderr);
}

#[test]
fn a_closed_output_is_an_error_and_not_a_panic() {
    let stage = Stage::new();
    stage.config(&["unix:///nowhere.sock".into()]);
    for words in [&["explain"][..], &["kms", "version"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = stage::semel();
        command.args(words).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains("panicked") && output.status.code() != Some(101), "{words:?}: {text}");
    }
}

#[test]
fn keys_and_directories_are_made_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    for umask in ["000", "077", "277"] {
        let stage = Stage::new();
        let at = stage.path("");
        let script = format!(
            "umask {umask}; {0} kms softsign keygen {1}/new.key && {0} kms init {1}/home",
            env!("CARGO_BIN_EXE_semel"),
            at.display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let mode = |name: &str| fs::metadata(stage.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("new.key"), 0o600, "umask {umask}");
        if umask == "277" {
            // Root goes on where others stop; both are right.
            continue;
        }
        assert!(output.status.success(), "umask {umask}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!((mode("home/secrets"), mode("home/secrets/kms-identity.key")), (0o700, 0o600), "umask {umask}");
        assert_eq!(mode("home") & 0o077, 0, "umask {umask}");
    }
}

#[test]
fn words_that_hints_and_errors_name_are_there_under_both_names() {
    let stage = Stage::new();
    for word in ["config", "key", "state", "migrate", "explain", "top", "wait-window", "backup", "handover", "bundle"] {
        assert_eq!((stage.run(&[word, "--help"]).code, stage.run_tmkms(&[word, "--help"]).code), (0, 0), "{word}");
        assert_eq!(stage.run(&["kms", word, "--help"]).code, 0, "kms {word}");
    }
    assert_eq!(stage.run(&["kms", "explain", "GUARD-0003"]).stdout, stage.run(&["explain", "GUARD-0003"]).stdout);
    let named = stage.run(&["completions", "bash", "--name", "tmkms"]);
    assert!(named.code == 0 && named.stdout.contains("complete -F _tmkms"), "{named:?}");
    assert_eq!(stage.run_tmkms(&["completions", "bash"]).stdout, named.stdout);
    assert!(stage.run(&["completions", "bash"]).stdout.contains("complete -F _semel"));
}

#[test]
fn a_wrong_number_of_arguments_ends_with_1_where_it_does_in_tmkms() {
    let stage = Stage::new();
    let rows: [(&[&str], i32); 13] = [
        (&["init"], 1),
        (&["init", "DIR/a", "DIR/b"], 1),
        (&["softsign", "keygen"], 1),
        (&["softsign", "keygen", "DIR/a", "DIR/b"], 1),
        (&["softsign", "import", "DIR/a"], 1),
        (&["softsign", "import", "-f", "hex", "DIR/a", "DIR/b"], 1),
        (&["softsign", "import", "--format=hex", "DIR/a", "DIR/b"], 1),
        (&["softsign", "import", "--no-such-flag", "DIR/a", "DIR/b"], 2),
        (&["softsign", "keygen", "-t", "hex", "DIR/a"], 2),
        (&["yubihsm", "keys", "generate"], 1),
        (&["init", "--no-such-flag"], 2),
        (&["softsign", "keygen", "--no-such-flag", "DIR/a"], 2),
        (&["state", "import"], 2),
    ];
    for (words, code) in rows {
        for ran in [stage.run_tmkms(words), stage.run(&[&["kms"], words].concat())] {
            assert!(ran.code == code && ran.stderr.contains("--help"), "{words:?}: {ran:?}");
        }
    }
}
