//! `status`, `reload`, `wait-window`: asking the processes that run on this host, over their control sockets.

use super::{Manner, said};
use crate::host::service::Service;
use clap::Args;
use metrics::gauge;
use semel_admin::Place;
use semel_guard::{HOLD_HEIGHTS, Hold, Lane, Ledger, Step};
use semel_ops::control::ask_all;
use semel_ops::error::{Exit, Report};
use semel_ops::health::Health;
use semel_ops::shell::Shell;
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Directory of the control sockets, in the ledger's.
pub(super) const CONTROL: &str = "control";

/// Time between two screens of `--watch`.
const WATCH: Duration = Duration::from_secs(2);

/// An empty screen, written from its upper left.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Time between two looks of `wait-window`.
const LOOK: Duration = Duration::from_millis(200);

/// A precommit is fresh for this long: the next proposal is some way off.
const FRESH_MS: u64 = 500;

/// How reloads went.
#[derive(Debug)]
pub(super) struct Reloads {
    generation: u64,
    last: Option<Result<String, String>>,
}

impl Reloads {
    /// None so far: the configuration of the start counts as the first.
    pub(super) fn none() -> Self {
        let new = Self { generation: 1, last: None };
        new.publish();
        new
    }

    fn publish(&self) {
        let is_taken = self.last.as_ref().is_none_or(Result::is_ok);
        gauge!("semel_config_generation").set(self.generation as f64);
        gauge!("semel_config_last_reload_success").set(if is_taken { 1.0 } else { 0.0 });
    }

    pub(super) fn note(&mut self, result: Result<String, String>) {
        self.generation += u64::from(result.is_ok());
        self.last = Some(result);
        self.publish();
    }

    pub(super) fn answer(&self) -> Value {
        match &self.last {
            Some(Ok(text)) => json!({ "reloaded": true, "text": text, "generation": self.generation }),
            Some(Err(text)) => json!({ "reloaded": false, "text": text, "generation": self.generation }),
            None => json!({ "reloaded": null, "generation": self.generation }),
        }
    }
}

/// What a process says of itself.
pub(super) fn of(service: &Service, health: &Health, up: Duration, manner: Manner, reloads: &Reloads) -> Value {
    let chains: Vec<Value> = service
        .chains()
        .map(|(chain, key)| {
            let history = service.journal().history(chain.subject(), Lane::Tendermint).ok();
            let mark = history.and_then(|history| history.recent.last().map(|entry| entry.mark).max(history.floor));
            let counts = chain.tally().counts();
            let ago = counts
                .last
                .and_then(|(_, at)| at.elapsed().ok())
                .map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
            json!({
                "chain": chain.subject().chain.as_str(), "key": key, "provider": chain.provider(),
                "height": mark.map(|mark| mark.0[0]), "position": mark.map(|mark| Lane::Tendermint.show(mark)),
                "is_precommit": mark.is_some_and(|mark| mark.0[2] == Step::Precommit as u64),
                "holds": service.journal().hold(chain.subject()).map(words_of),
                "signed": counts.signed, "refused": counts.refused, "missed": counts.missed,
                "last_signed_ms_ago": ago,
            })
        })
        .collect();
    let conditions: Vec<Value> =
        health.conditions().iter().map(|finding| json!({ "name": finding.name, "reason": finding.reason })).collect();
    let ledger = service.journal().status();
    json!({
        "schema": 1, "pid": std::process::id(), "face": manner.name(), "version": env!("CARGO_PKG_VERSION"), "face_version": manner.version(),
        "dry_run": service.is_dry_run(), "up_seconds": up.as_secs(),
        "chains": chains, "conditions": conditions, "reload": reloads.answer(),
        "ledger": { "volume": ledger.volume, "records": ledger.sequence, "durable": ledger.durable, "syncs": ledger.syncs, "failed": ledger.failed },
    })
}

/// A hold, and when it ends.
fn words_of(hold: Hold) -> String {
    let until = hold.until.map_or_else(
        || format!("it waits for {HOLD_HEIGHTS} heights above the first that a node asks for"),
        |mark| format!("closed is {}", Lane::Tendermint.show(mark)),
    );
    format!("{}; {until}", hold.cause)
}

fn asked(place: &Place, word: &str) -> Result<Vec<Value>, Report> {
    let directory = place.directory();
    let answers = ask_all(&directory.join(CONTROL), word);
    if answers.is_empty() {
        return Err(Report::new(format!("no signer runs with the ledger in {}", directory.display()))
            .hint("start one, name its ledger with --ledger, or run this as its user"));
    }
    Ok(answers)
}

/// `status`
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    place: Place,
    /// Again every two seconds
    #[arg(long)]
    watch: bool,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Runs the command.
    pub fn run(&self, shell: &Shell) -> Result<(), Report> {
        loop {
            let answers = asked(&self.place, "status")?;
            let is_unsafe = answers.iter().any(|answer| !text(answer, "/ledger/failed").is_empty());
            if self.json {
                said(shell.json(&json!({ "schema": 1, "processes": answers })))?;
            } else {
                let home = if self.watch && std::io::stdout().is_terminal() { CLEAR } else { "" };
                said(shell.line(format!("{home}{}", screen(&answers))))?;
            }
            if !self.watch {
                return match is_unsafe {
                    true => Err(Report::new("a ledger has stopped: nothing is signed").exit(Exit::Unsafe)),
                    false => Ok(()),
                };
            }
            std::thread::sleep(WATCH);
        }
    }
}

/// `top`
#[derive(Debug, Args)]
pub struct Top {
    #[command(flatten)]
    place: Place,
}

impl Top {
    /// Runs the command, until it is interrupted.
    pub fn run(self, shell: &Shell) -> Result<(), Report> {
        Status { place: self.place, watch: true, json: false }.run(shell)
    }
}

fn text(value: &Value, path: &str) -> String {
    match value.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// One screen.
fn screen(answers: &[Value]) -> String {
    let mut out = Vec::new();
    for answer in answers {
        let face = match text(answer, "/face") {
            face if face == Manner::Tmkms.name() => format!(" ({face} {})", text(answer, "/face_version")),
            _ => String::new(),
        };
        out.push(format!(
            "semel {}{face}, process {}, up {} s, ledger {} ({} records)",
            text(answer, "/version"),
            text(answer, "/pid"),
            text(answer, "/up_seconds"),
            text(answer, "/ledger/volume"),
            text(answer, "/ledger/records")
        ));
        let widest = list(answer, "chains").iter().map(|chain| text(chain, "/chain").len()).max().unwrap_or(0).max(5);
        out.push(format!(
            "  {:<widest$}  {:<22} {:>9} {:>8} {:>8}  key",
            "chain", "last signed", "ago", "signed", "refused"
        ));
        for chain in list(answer, "chains") {
            let ago = chain.get("last_signed_ms_ago").and_then(Value::as_u64);
            let ago = ago.map_or_else(|| "-".into(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100));
            let position =
                Some(text(chain, "/position")).filter(|text| !text.is_empty()).unwrap_or_else(|| "nothing".into());
            out.push(format!(
                "  {:<widest$}  {position:<22} {ago:>9} {:>8} {:>8}  {} ({})",
                text(chain, "/chain"),
                text(chain, "/signed"),
                text(chain, "/refused"),
                text(chain, "/key"),
                text(chain, "/provider")
            ));
        }
        for chain in list(answer, "chains").iter().filter(|chain| !text(chain, "/holds").is_empty()) {
            out.push(format!("  {}: signs nothing yet: {}", text(chain, "/chain"), text(chain, "/holds")));
        }
        for condition in list(answer, "conditions") {
            let reason = text(condition, "/reason");
            let word = if reason.is_empty() { "well".to_owned() } else { format!("not well: {reason}") };
            out.push(format!("  {}: {word}", text(condition, "/name")));
        }
        if answer.pointer("/reload/reloaded") == Some(&Value::Bool(false)) {
            out.push(format!("  the last reload was not taken: {}", text(answer, "/reload/text")));
        }
        if answer.get("dry_run") == Some(&Value::Bool(true)) {
            out.push("  STARTED WITH --dry-run, nothing is signed".into());
        }
        let failed = text(answer, "/ledger/failed");
        if !failed.is_empty() {
            out.push(format!("  THE LEDGER HAS STOPPED, nothing is signed: {failed}"));
        }
    }
    out.join("\n")
}

/// `reload`
#[derive(Debug, Args)]
pub struct Reload {
    #[command(flatten)]
    place: Place,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Reload {
    /// Runs the command.
    pub fn run(&self, shell: &Shell) -> Result<(), Report> {
        let answers = asked(&self.place, "reload")?;
        if self.json {
            said(shell.json(&json!({ "schema": 1, "processes": answers })))?;
        }
        let mut failed = 0;
        for answer in &answers {
            let words = [text(answer, "/text"), text(answer, "/error")].concat();
            if answer.get("reloaded") == Some(&Value::Bool(true)) {
                shell.status("Reloaded", words);
            } else {
                failed += 1;
                shell.error(words.trim_end());
            }
        }
        match failed {
            0 => Ok(()),
            _ => {
                Err(Report::new("the configuration was not taken, the old one stays")
                    .hint("mend it, then reload again"))
            }
        }
    }
}

/// `wait-window`
#[derive(Debug, Args)]
pub struct WaitWindow {
    #[command(flatten)]
    place: Place,
    /// Longest wait, such as 90s, 10m or 1h; a number alone is minutes
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    max: Duration,
}

/// `90s`, `10m`, `1h`, or minutes.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('s') => (number, 1),
        Some(number) if text.ends_with('h') => (number, 3600),
        Some(number) => (number, 60),
        None => (text, 60),
    };
    let number: u32 = number.parse().map_err(|_| "write 90s, 10m, 1h, or a number of minutes".to_owned())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

impl WaitWindow {
    /// Runs the command.
    pub fn run(&self, shell: &Shell) -> Result<(), Report> {
        let begun = Instant::now();
        while begun.elapsed() < self.max {
            let answers = asked(&self.place, "status")?;
            let mut chains = answers.iter().flat_map(|answer| list(answer, "chains")).peekable();
            let is_quiet = |chain: &Value| match chain.get("last_signed_ms_ago").and_then(Value::as_u64) {
                // A chain that signs nothing misses nothing.
                None => true,
                Some(ago) => {
                    ago > FRESH_MS * 60 || ago < FRESH_MS && chain.get("is_precommit") == Some(&Value::Bool(true))
                }
            };
            if chains.peek().is_none() || chains.all(is_quiet) {
                shell.status("Now", "every chain has just precommitted, or signs nothing: a restart costs least");
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        Err(Report::new(format!("no such moment within {} s", self.max.as_secs())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_or_are_minutes() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h", 3600), ("10", 600), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "-1m", "1d", "1 m", "99999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
