//! Transcripts of the real binary: `transcripts/*.txt` hold commands and, word for word, what they print.
//!
//! ```text
//! $ semel kms version            a command; DIR stands for a new directory, one per transcript
//! | 0.1.0                        its standard output
//! ! error: …                     its standard error
//! ? 1                            its exit code, unless 0
//! # text                         for the reader
//! ```
//!
//! `SEMEL_TRANSCRIPTS=write cargo test -p semel --test transcripts` writes what the binary prints now; read the difference.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

mod stage;

use stage::Stage;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Words of a command line; double quotes keep blanks together.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('"').enumerate();
    let words = parts.flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

/// What differs from run to run: dates in the names of copies, and how long the name of the directory is.
fn steady(text: &str) -> String {
    let dates = regex_lite::Regex::new(r"\.20[0-9]{6}-[0-9]{6}").unwrap();
    let carets = regex_lite::Regex::new(r"\^{20,}").unwrap();
    let widths = regex_lite::Regex::new(r#""width":[0-9]{2,}"#).unwrap();
    let text = dates.replace_all(text, ".DATE");
    let text = carets.replace_all(&text, "^^^^^^^^^^^^^^^^^^^^");
    widths.replace_all(&text, "\"width\":N").into_owned()
}

/// Runs the commands of a transcript, and writes down what they print.
fn replay(text: &str) -> String {
    let stage = Stage::new();
    stage.config(&["tcp://127.0.0.1:26659".into()]);
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with('#') {
            writeln!(out, "{line}").unwrap();
        }
        let Some(command) = line.strip_prefix("$ ") else { continue };
        writeln!(out, "{line}").unwrap();
        let words = words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, stdout, stderr) = match words.as_slice() {
            ["semel", arguments @ ..] => {
                let ran = stage.run(arguments);
                (ran.code, ran.stdout, ran.stderr)
            }
            ["tmkms", arguments @ ..] => {
                let ran = stage.run_tmkms(arguments);
                (ran.code, ran.stdout, ran.stderr)
            }
            // A few things that no command of ours does.
            ["write", file, text] => {
                stage.secret(
                    file,
                    &text
                        .replace("\\n", "\n")
                        .replace('\'', "\"")
                        .replace("DIR", stage.path("").to_str().unwrap().trim_end_matches('/')),
                );
                continue;
            }
            ["show", file] => (
                0,
                stage.read(file).replace(stage.path("").to_str().unwrap(), "DIR/").trim_end().to_owned() + "\n",
                String::new(),
            ),
            ["mode", file] => {
                use std::os::unix::fs::PermissionsExt;
                let mode = fs::metadata(stage.path(file)).unwrap().permissions().mode() & 0o7777;
                (0, format!("{mode:04o}\n"), String::new())
            }
            other => panic!("no such command in a transcript: {other:?}"),
        };
        for (mark, text) in [('|', stdout), ('!', stderr)] {
            for line in steady(&text).lines() {
                writeln!(out, "{}", format!("{mark} {line}").trim_end()).unwrap();
            }
        }
        if code != 0 {
            writeln!(out, "? {code}").unwrap();
        }
    }
    out
}

#[test]
fn every_transcript_is_what_the_binary_prints() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut seen = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let expected = fs::read_to_string(&path).unwrap();
        let found = replay(&expected);
        if std::env::var_os("SEMEL_TRANSCRIPTS").is_some_and(|value| value == "write") {
            fs::write(&path, &found).unwrap();
        } else {
            let differs = expected.lines().zip(found.lines()).find(|(a, b)| a != b);
            assert_eq!(found, expected, "{}: first difference {differs:?}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 7, "only {seen} transcripts");
}
