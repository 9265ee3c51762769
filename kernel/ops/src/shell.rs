//! All output of the program that is not a log line: data to stdout, talk to stderr.
//!
//! Status lines have tmkms's shape, which scripts know: the label right-aligned in 12 columns, bold green, then the message.
//! Errors begin with `error:` in bold red. Colour only on a terminal, and as NO_COLOR, CLICOLOR and CLICOLOR_FORCE say. Each
//! line is written in one piece, so that lines of several threads do not mix. With `--json`, data is JSON and errors are JSON
//! objects on stderr; status lines stay away.

use crate::config::Diagnostics;
use crate::error::Report;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Columns of a status label.
const LABEL_COLUMNS: usize = 12;

const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();

/// Shape of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The two outputs of the program.
pub struct Shell {
    out: Mutex<Box<dyn Write + Send>>,
    err: Mutex<Box<dyn Write + Send>>,
    format: Format,
}

impl Shell {
    /// On the process's own stdout and stderr.
    pub fn stdio(format: Format) -> Shell {
        Shell {
            out: Mutex::new(Box::new(anstream::AutoStream::auto(io::stdout()))),
            err: Mutex::new(Box::new(anstream::AutoStream::auto(io::stderr()))),
            format,
        }
    }

    /// Into memory, without colour, for tests.
    pub fn capture(format: Format) -> (Shell, Captured) {
        let captured = Captured::default();
        let (out, err) = (captured.out.clone(), captured.err.clone());
        (Shell { out: Mutex::new(Box::new(out)), err: Mutex::new(Box::new(err)), format }, captured)
    }

    /// Shape of the data.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether data is wanted as JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A line of data on stdout.
    ///
    /// # Errors
    /// When stdout does not take it; a closed pipe is no error.
    pub fn line(&self, text: impl fmt::Display) -> io::Result<()> {
        self.data(format!("{text}\n").as_bytes())
    }

    /// Data as it is on stdout.
    ///
    /// # Errors
    /// When stdout does not take it; a closed pipe is no error.
    pub fn data(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // `semel … | head -1` ends well.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome,
        }
    }

    /// A value as one line of JSON on stdout.
    ///
    /// # Errors
    /// When the value has no JSON form or stdout does not take it.
    pub fn json(&self, value: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_string(value).map_err(io::Error::other)?;
        text.push('\n');
        self.data(text.as_bytes())
    }

    /// `   Generated consensus (ed25519) key: …` on stderr.
    pub fn status(&self, label: &str, message: impl fmt::Display) {
        if !self.is_json() {
            self.talk(&format!("{GREEN}{label:>LABEL_COLUMNS$}{GREEN:#} {message}\n"));
        }
    }

    /// `error: …` on stderr.
    pub fn error(&self, message: impl fmt::Display) {
        if self.is_json() {
            self.talk(&format!("{}\n", serde_json::json!({ "error": { "message": message.to_string() } })));
        } else {
            self.talk(&format!("{RED}error:{RED:#} {message}\n"));
        }
    }

    /// `warning: …` on stderr.
    pub fn warning(&self, message: impl fmt::Display) {
        if self.is_json() {
            self.talk(&format!("{}\n", serde_json::json!({ "warning": { "message": message.to_string() } })));
        } else {
            self.talk(&format!("{YELLOW}warning:{YELLOW:#} {message}\n"));
        }
    }

    /// `  hint: …` on stderr.
    pub fn hint(&self, message: impl fmt::Display) {
        if !self.is_json() {
            self.talk(&format!("{CYAN}  hint:{CYAN:#} {message}\n"));
        }
    }

    /// Plain talk on stderr: a prompt, a heading.
    pub fn note(&self, message: impl fmt::Display) {
        if !self.is_json() {
            self.talk(&format!("{message}\n"));
        }
    }

    /// An error with its causes and its hint on stderr.
    pub fn report(&self, report: &Report) {
        if let Some(diagnostics) = report.diagnostics() {
            self.diagnostics(diagnostics);
            return;
        }
        if self.is_json() {
            let error = serde_json::json!({ "error": {
                "code": report.code_text(), "message": report.message(), "causes": report.causes(),
                "hint": report.hint_text(), "exit": report.exit_code().status(),
            }});
            self.talk(&format!("{error}\n"));
            return;
        }
        let mut text = match report.code_text() {
            Some(code) => format!("{RED}error[{code}]:{RED:#} {}\n", report.message()),
            None => format!("{RED}error:{RED:#} {}\n", report.message()),
        };
        for cause in report.causes() {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        if let Some(hint) = report.hint_text() {
            text.push_str(&format!("{CYAN}  hint:{CYAN:#} {hint}\n"));
        }
        self.talk(&text);
    }

    /// Findings in configuration files, and a summary line, on stderr.
    pub fn diagnostics(&self, diagnostics: &Diagnostics) {
        if self.is_json() {
            self.talk(&format!("{}\n", diagnostics.to_json()));
        } else {
            self.talk(&diagnostics.to_styled_text());
        }
    }

    fn talk(&self, text: &str) {
        let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        // There is nowhere left to complain about stderr.
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shell").field("format", &self.format).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        anstream::adapter::strip_str(&String::from_utf8_lossy(&bytes)).to_string()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a capturing [`Shell`] was told.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    out: Buffer,
    err: Buffer,
}

impl Captured {
    /// Everything on stdout so far.
    pub fn out(&self) -> String {
        self.out.text()
    }

    /// Everything on stderr so far.
    pub fn err(&self) -> String {
        self.err.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn a_status_label_is_right_aligned_in_12_columns_on_stderr() {
        let (shell, captured) = Shell::capture(Format::Text);
        shell.status("Generated", "KMS configuration: /x/tmkms.toml");
        shell.status("Overlong label", "x");
        assert_eq!(captured.err(), "   Generated KMS configuration: /x/tmkms.toml\nOverlong label x\n");
        assert_eq!(captured.out(), "");
    }

    #[test]
    fn data_goes_to_stdout_and_talk_to_stderr() {
        let (shell, captured) = Shell::capture(Format::Text);
        shell.line("0.15.0").unwrap();
        shell.error("it failed");
        shell.warning("careful");
        shell.hint("try again");
        assert_eq!(captured.out(), "0.15.0\n");
        assert_eq!(captured.err(), "error: it failed\nwarning: careful\n  hint: try again\n");
    }

    #[test]
    fn a_report_shows_code_causes_and_hint() {
        let (shell, captured) = Shell::capture(Format::Text);
        let report = Report::new("cannot open the ledger")
            .code_id("LEDGER-0004")
            .because("it is of another host")
            .hint("see the manual");
        shell.report(&report);
        let expected =
            "error[LEDGER-0004]: cannot open the ledger\n  caused by: it is of another host\n  hint: see the manual\n";
        assert_eq!(captured.err(), expected);
    }

    #[test]
    fn with_json_an_error_is_one_object_and_status_lines_stay_away() {
        let (shell, captured) = Shell::capture(Format::Json);
        shell.status("Generated", "x");
        shell.report(&Report::new("no").exit(Exit::Unsafe));
        let value: serde_json::Value = serde_json::from_str(&captured.err()).unwrap();
        assert_eq!(value["error"]["exit"], 3);
        shell.json(&serde_json::json!({"b": 1, "a": 2})).unwrap();
        assert_eq!(captured.out(), "{\"b\":1,\"a\":2}\n");
    }
}
