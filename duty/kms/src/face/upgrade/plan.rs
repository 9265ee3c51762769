//! The plan of an upgrade: everything that will be written and done, and every check, before anything is.

use super::devices;
use super::rewrite::Change;
use crate::face::config;
use crate::face::users::{READ, User, WRITE, setting};
use semel_ledger::interchange::StateFile;
use semel_ops::config::{Diagnostics, Source};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::net::ToSocketAddrs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Version of the plan's format.
const SCHEMA: u32 = 1;

/// Files of one kind that a plan has, at most.
const FILES_MAX: usize = 1000;

/// Longest configuration or unit, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Longest plan or journal, in bytes: a thousand validators with two chains' files of 2 KiB each need 4 MiB.
pub(super) const PLAN_MAX: u64 = 64 << 20;

/// Space that has to be free, in bytes.
const FREE_MIN: u64 = 16 << 20;

/// Longest wait for a program that is asked for its version.
const VERSION_MAX: Duration = Duration::from_secs(5);

/// Longest answer of it that is read, in bytes.
const LINE_MAX: usize = 200;

/// What is asked for.
pub(super) struct Wanted {
    pub(super) change: Change,
    pub(super) configs: String,
    pub(super) units: Option<String>,
    pub(super) in_place_units: bool,
    pub(super) halt_height: Option<u64>,
    pub(super) max_skew: u64,
    pub(super) exec_template: Option<String>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Pass,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Check {
    pub(super) code: String,
    pub(super) verdict: Verdict,
    pub(super) what: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) fix: String,
}

/// A file that is written new, beside the one it comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NewFile {
    pub(super) old: PathBuf,
    pub(super) new: PathBuf,
    /// SHA-256 of the old file.
    pub(super) sha256: String,
    pub(super) content: String,
}

/// The state of one validator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) config: PathBuf,
    pub(super) old: PathBuf,
    pub(super) new: PathBuf,
    /// Height at the time of the plan; None: it could not be read.
    pub(super) height: Option<u64>,
}

/// A plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) schema: u32,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) suffix: String,
    pub(super) halt_height: Option<u64>,
    pub(super) exec_template: Option<String>,
    pub(super) configs: Vec<NewFile>,
    pub(super) states: Vec<State>,
    pub(super) units: Vec<NewFile>,
    pub(super) checks: Vec<Check>,
    /// The same in words, for people.
    pub(super) commands: Vec<String>,
    /// SHA-256 over everything above.
    pub(super) digest: String,
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Plan {
    /// Whether old and new chain have one id, so that their states are one.
    pub(super) fn keeps_id(&self) -> bool {
        self.from == self.to
    }

    /// What is stopped and started: the units. Where a template does it without units, what is named after the configurations.
    pub(super) fn names(&self, of: impl Fn(&NewFile) -> &PathBuf) -> Vec<String> {
        if self.units.is_empty() && self.exec_template.is_some() {
            return self.configs.iter().map(|file| stem(of(file))).collect();
        }
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.units.iter().map(|unit| name(of(unit))).collect()
    }

    /// The digest of what the plan says.
    fn computed(&self) -> String {
        let bare = Self { digest: String::new(), ..self.clone() };
        sha256(serde_json::to_string(&bare).unwrap_or_default().as_bytes())
    }

    /// A plan from its file.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if plan.schema != SCHEMA {
            return Err(format!("a plan of version {}, not {SCHEMA}", plan.schema));
        }
        if plan.computed() != plan.digest {
            return Err("it was edited after it was made".into());
        }
        Ok(plan)
    }

    pub(super) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    pub(super) fn fails(&self) -> usize {
        self.checks.iter().filter(|check| check.verdict == Verdict::Fail).count()
    }
}

/// The name of a file without its extension.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads a configuration, a unit or a state whole.
pub(super) fn read(path: &Path) -> std::io::Result<String> {
    read_up_to(path, FILE_MAX)
}

/// Reads a plan or a journal whole.
pub(super) fn read_plan(path: &Path) -> std::io::Result<String> {
    read_up_to(path, PLAN_MAX)
}

/// What is longer is none of ours, and a part of it says something else than the whole.
fn read_up_to(path: &Path, max: u64) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let error = format!("it is too large: more than {} MiB", max >> 20);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, error));
    }
    String::from_utf8(bytes).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error()))
}

fn paths(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let found = glob::glob(pattern).map_err(|error| format!("`{pattern}` is no pattern: {error}"))?;
    let mut found: Vec<PathBuf> =
        found.filter_map(Result::ok).filter(|path| path.is_file()).take(FILES_MAX + 1).collect();
    if found.len() > FILES_MAX {
        return Err(format!("`{pattern}` matches more than {FILES_MAX} files"));
    }
    found.sort();
    Ok(found)
}

/// Collects the checks.
#[derive(Default)]
pub(super) struct Checks(Vec<Check>);

impl Checks {
    pub(super) fn add(&mut self, code: &str, verdict: Verdict, what: impl Into<String>, fix: impl Into<String>) {
        let fix = if verdict == Verdict::Pass { String::new() } else { fix.into() };
        self.0.push(Check { code: code.into(), verdict, what: what.into(), fix });
    }

    /// The same, unless it was said already.
    pub(super) fn add_once(&mut self, code: &str, verdict: Verdict, what: String, fix: impl Into<String>) {
        if !self.0.iter().any(|check| check.code == code && check.what == what) {
            self.add(code, verdict, what, fix);
        }
    }
}

/// Makes a plan. What it would write is written by nobody yet.
pub(super) fn plan(wanted: &Wanted) -> Result<Plan, String> {
    let mut checks = Checks::default();
    let change = &wanted.change;
    let mut configs = Vec::new();
    let mut states = Vec::new();
    let mut addresses = Vec::new();
    for path in paths(&wanted.configs)? {
        if path == change.renamed(&path) || path.to_string_lossy().contains(&format!(".{}.", change.suffix)) {
            continue;
        }
        let text = read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let named = path.display();
        let made = match change.config(&text) {
            Ok(Some(made)) => made,
            Ok(None) => {
                checks.add(
                    "UPGRADE-0002",
                    Verdict::Warn,
                    format!("{named} has no chain {}", change.from),
                    "it is left as it is",
                );
                continue;
            }
            Err(error) => {
                checks.add(
                    "UPGRADE-0001",
                    Verdict::Fail,
                    format!("{named} does not parse: {}", error.lines().next().unwrap_or_default()),
                    "`config check` tells where",
                );
                continue;
            }
        };
        halts(&mut checks, wanted, &path, &made.max_heights);
        addresses.extend(made.addresses);
        for (old, new) in made.states {
            states.push(state(&mut checks, wanted, &path, old, new));
        }
        let new = change.renamed(&path);
        fresh(&mut checks, "UPGRADE-0003", &new, &made.text);
        configs.push(NewFile { old: path, new, sha256: sha256(text.as_bytes()), content: made.text });
    }
    if configs.is_empty() {
        checks.add(
            "UPGRADE-0002",
            Verdict::Fail,
            format!("no configuration of {} matches {}", change.from, wanted.configs),
            "quote the pattern, and compare the chain id with `id` of [[chain]]",
        );
    }
    new_configs(&mut checks, &configs, &states);
    skew(&mut checks, &states, wanted.max_skew);
    reach(&mut checks, &addresses);
    let units = units(&mut checks, wanted, &configs, &states)?;
    space(&mut checks, &configs);
    let mut plan = Plan {
        schema: SCHEMA,
        from: change.from.clone(),
        to: change.to.clone(),
        suffix: change.suffix.clone(),
        halt_height: wanted.halt_height,
        exec_template: wanted.exec_template.clone(),
        configs,
        states,
        units,
        checks: checks.0,
        commands: Vec::new(),
        digest: String::new(),
    };
    plan.commands = super::apply::steps(&plan).iter().map(|step| step.command(&plan)).collect();
    plan.digest = plan.computed();
    Ok(plan)
}

/// The old chain's end is in its configuration, so that nothing above it is signed.
fn halts(checks: &mut Checks, wanted: &Wanted, path: &Path, max_heights: &[Option<String>]) {
    let Some(halt) = wanted.halt_height else { return };
    let named = path.display();
    let ends = |height: &Option<String>| height.as_ref().and_then(|height| height.parse().ok()) == Some(halt);
    if !max_heights.is_empty() && max_heights.iter().all(ends) {
        checks.add("UPGRADE-0016", Verdict::Pass, format!("{named} signs up to height {halt}"), "");
    } else {
        checks.add("UPGRADE-0016", Verdict::Fail, format!("{named} does not end at height {halt}"), format!("add max_height = \"{halt}\" to each [[validator]] of the chain and reload the signer; the new configuration goes without"));
    }
}

/// What is at the place of a new file is nothing, or what will be written.
fn fresh(checks: &mut Checks, code: &str, path: &Path, content: &str) {
    let named = path.display();
    match read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            checks.add(code, Verdict::Pass, format!("{named} is free"), "")
        }
        Ok(there) if there == content => checks.add(code, Verdict::Pass, format!("{named} is there as it will be"), ""),
        _ => checks.add(
            code,
            Verdict::Fail,
            format!("{named} is there, and is another file"),
            "move it away, or take another --suffix",
        ),
    }
}

fn height_of(path: &Path) -> Result<u64, String> {
    let text = read(path).map_err(|error| error.to_string())?;
    StateFile::parse(text.as_bytes()).map(|state| state.height).map_err(|error| error.to_string())
}

fn state(checks: &mut Checks, wanted: &Wanted, config: &Path, old: PathBuf, new: PathBuf) -> State {
    let (named, coming) = (old.display().to_string(), new.display().to_string());
    let height = match height_of(&old) {
        Ok(height) => {
            checks.add("UPGRADE-0005", Verdict::Pass, format!("{named} is at height {height}"), "");
            Some(height)
        }
        Err(error) => {
            checks.add(
                "UPGRADE-0005",
                Verdict::Fail,
                format!("{named} cannot be read: {error}"),
                "a relative path counts from the unit's WorkingDirectory: name it absolutely",
            );
            None
        }
    };
    let keeps_id = wanted.change.from == wanted.change.to;
    match height_of(&new) {
        _ if !new.exists() => checks.add("UPGRADE-0004", Verdict::Pass, format!("{coming} is free"), ""),
        Ok(0) => checks.add("UPGRADE-0004", Verdict::Pass, format!("{coming} is there, at height 0"), ""),
        Ok(height) if keeps_id && Some(height) >= height_of(&old).ok() => {
            checks.add("UPGRADE-0004", Verdict::Pass, format!("{coming} is there, at height {height}"), "");
        }
        _ => checks.add(
            "UPGRADE-0004",
            Verdict::Fail,
            format!("{coming} is there, and is not a fresh state"),
            "move it away, or take another --suffix",
        ),
    }
    if keeps_id {
        checks.add(
            "UPGRADE-0006",
            Verdict::Pass,
            format!("{named} is carried over to {coming}: the chain id stays"),
            "",
        );
    }
    State { config: config.into(), old, new, height }
}

/// The new configurations together have no errors: no key or state file is shared, every reference is there.
fn new_configs(checks: &mut Checks, configs: &[NewFile], states: &[State]) {
    let sources: Vec<Source> =
        configs.iter().map(|file| Source::new(file.new.display().to_string(), &file.content)).collect();
    let checked = config::examine(&sources, config::Look::Files, Diagnostics::new());
    if checked.found.has_errors() {
        let text = checked.found.to_text();
        let first = text.lines().find(|line| line.contains("error")).unwrap_or_default().trim().to_owned();
        checks.add(
            "UPGRADE-0007",
            Verdict::Fail,
            format!("the new configurations are not valid: {first}"),
            "`config check` on the old ones tells more",
        );
    } else if !configs.is_empty() {
        checks.add(
            "UPGRADE-0007",
            Verdict::Pass,
            format!("{} new configurations are valid, no two share a key or a state file", configs.len()),
            "",
        );
    }
    devices::examine(checks, configs, states, &checked.configs);
}

/// All validators of one chain stop at nearly the same height.
fn skew(checks: &mut Checks, states: &[State], max: u64) {
    let heights = || states.iter().filter_map(|state| state.height);
    if let (Some(low), Some(high)) = (heights().min(), heights().max()) {
        let verdict = if high - low > max { Verdict::Warn } else { Verdict::Pass };
        checks.add(
            "UPGRADE-0010",
            verdict,
            format!("heights are from {low} to {high}"),
            "stop every node of the old chain first, or allow more with --max-skew",
        );
    }
}

fn reach(checks: &mut Checks, addresses: &[String]) {
    for address in addresses {
        let Some(place) = address.strip_prefix("tcp://") else { continue };
        let place = place.rsplit('@').next().unwrap_or(place);
        match place.to_socket_addrs() {
            Ok(_) => checks.add("UPGRADE-0012", Verdict::Pass, format!("{address} has an address"), ""),
            Err(error) => checks.add(
                "UPGRADE-0012",
                Verdict::Warn,
                format!("{address}: {error}"),
                "check the name, the VPN and the resolver",
            ),
        }
    }
}

fn units(checks: &mut Checks, wanted: &Wanted, configs: &[NewFile], states: &[State]) -> Result<Vec<NewFile>, String> {
    if let Some(template) = wanted.exec_template.as_ref().filter(|template| !template.contains("{action}")) {
        checks.add(
            "UPGRADE-0008",
            Verdict::Fail,
            format!("`{template}` does the same to stop and to start: it has no {{action}}"),
            "as in 'docker {action} {unit}'",
        );
    }
    let Some(pattern) = &wanted.units else {
        without_units(checks, wanted, configs);
        return Ok(Vec::new());
    };
    let moved: Vec<(PathBuf, PathBuf)> = configs.iter().map(|file| (file.old.clone(), file.new.clone())).collect();
    let mut units = Vec::new();
    let mut asked = Vec::new();
    for path in paths(pattern)? {
        if path.to_string_lossy().contains(&format!(".{}.", wanted.change.suffix)) {
            continue;
        }
        let text = read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let Some(content) = Change::unit(&text, &moved) else { continue };
        let new = if wanted.in_place_units { path.clone() } else { wanted.change.renamed(&path) };
        if !wanted.in_place_units {
            fresh(checks, "UPGRADE-0009", &new, &content);
        }
        let binary = setting(&text, "ExecStart").and_then(|line| line.split_whitespace().next().map(PathBuf::from));
        if let Some(binary) = binary.filter(|binary| !asked.contains(binary)) {
            program(checks, &path, &binary);
            asked.push(binary);
        }
        if let Some(user) = setting(&text, "User") {
            rights(checks, &user, &path, configs, states, &text);
        }
        units.push(NewFile { old: path, new, sha256: sha256(text.as_bytes()), content });
    }
    for file in configs {
        let named = file.old.display().to_string();
        let is_served = units.iter().any(|unit| unit.content.contains(&*file.new.to_string_lossy()));
        let verdict = if is_served { Verdict::Pass } else { Verdict::Fail };
        checks.add(
            "UPGRADE-0008",
            verdict,
            format!("{named} is in the ExecStart of {} unit", if is_served { "a" } else { "no" }),
            "name the units with --units; ExecStart has to hold the path as it is",
        );
    }
    Ok(units)
}

/// The program of a unit is there, and is Semel, of a version that is shown.
fn program(checks: &mut Checks, unit: &Path, binary: &Path) {
    let named = binary.display();
    if !binary.exists() {
        let what = format!("{}: there is no {named}", unit.display());
        return checks.add("UPGRADE-0014", Verdict::Fail, what, "correct ExecStart");
    }
    match version_of(binary) {
        Ok(said) if said.starts_with("semel ") => {
            checks.add("UPGRADE-0014", Verdict::Pass, format!("{named} is {said}"), "");
        }
        Ok(said) => checks.add(
            "UPGRADE-0014",
            Verdict::Warn,
            format!("{named} is not Semel: it says `{said}`"),
            "is it the program that is meant to sign on the new chain? It does not know this ledger",
        ),
        Err(why) => checks.add(
            "UPGRADE-0014",
            Verdict::Warn,
            format!("{named} does not tell what it is: {why}"),
            "run it with --version; correct ExecStart",
        ),
    }
}

/// The first line of what a program says to `--version`. A link to Semel answers as Semel.
fn version_of(binary: &Path) -> Result<String, String> {
    let mut asked = Command::new(binary);
    asked.arg0("semel").arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = asked.spawn().map_err(|error| error.to_string())?;
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if begun.elapsed() < VERSION_MAX => std::thread::sleep(Duration::from_millis(10)),
            ended => {
                let _gone = (child.kill(), child.wait());
                return Err(ended.err().map_or_else(|| "no answer in time".into(), |error| error.to_string()));
            }
        }
    }
    let mut said = vec![0; LINE_MAX];
    let mut len = 0;
    if let Some(mut out) = child.stdout.take() {
        // What the program left behind may hold the other end open: only what is there is read.
        let _set = rustix::fs::fcntl_setfl(&out, rustix::fs::OFlags::NONBLOCK);
        len = out.read(&mut said).unwrap_or(0);
    }
    said.truncate(len);
    let text = String::from_utf8_lossy(&said);
    let line: String = text.lines().next().unwrap_or_default().trim().chars().filter(|c| !c.is_control()).collect();
    Ok(line)
}

/// A template alone stops and starts what is named after the configurations; without it nobody would.
fn without_units(checks: &mut Checks, wanted: &Wanted, configs: &[NewFile]) {
    if wanted.exec_template.is_none() {
        checks.add(
            "UPGRADE-0008",
            Verdict::Fail,
            "nothing would be stopped or started",
            "name the units with --units, or how else it is done with --exec-template",
        );
        return;
    }
    let mut names = Vec::new();
    for file in configs {
        let (old, new) = (stem(&file.old), stem(&file.new));
        if names.contains(&old) {
            checks.add(
                "UPGRADE-0008",
                Verdict::Fail,
                format!("two configurations are named {old}"),
                "{unit} is the name of a configuration: make a plan for each directory",
            );
        } else {
            checks.add(
                "UPGRADE-0008",
                Verdict::Pass,
                format!("the template stops {old} and starts {new}, for {}", file.old.display()),
                "",
            );
        }
        names.push(old);
    }
}

/// The unit's user reads the configurations and writes where the states are.
fn rights(checks: &mut Checks, user: &str, unit: &Path, configs: &[NewFile], states: &[State], text: &str) {
    let Some(account) = User::named(user) else {
        checks.add(
            "UPGRADE-0011",
            Verdict::Fail,
            format!("{}: there is no user {user}", unit.display()),
            format!("`useradd --system {user}`, or correct User="),
        );
        return;
    };
    let mine = configs.iter().filter(|file| text.contains(&*file.old.to_string_lossy()));
    for file in mine {
        if !account.may(&file.old, READ) {
            checks.add(
                "UPGRADE-0011",
                Verdict::Fail,
                format!("{user} cannot read {}", file.old.display()),
                format!("chown {user} {}", file.old.display()),
            );
        }
        for state in states.iter().filter(|state| state.config == file.old) {
            let directory =
                state.new.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let (verdict, word) =
                if account.may(directory, WRITE) { (Verdict::Pass, "can") } else { (Verdict::Fail, "cannot") };
            checks.add(
                "UPGRADE-0011",
                verdict,
                format!("{user} {word} write {}", directory.display()),
                format!("chown {user}: {}", directory.display()),
            );
        }
    }
}

fn space(checks: &mut Checks, configs: &[NewFile]) {
    let Some(directory) = configs.first().and_then(|file| file.new.parent()) else { return };
    if let Ok(stat) = rustix::fs::statvfs(directory) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let verdict = if free < FREE_MIN { Verdict::Fail } else { Verdict::Pass };
        checks.add(
            "UPGRADE-0015",
            verdict,
            format!("{} MiB are free in {}", free >> 20, directory.display()),
            "make room first",
        );
    }
}
