//! The plan of an upgrade: everything that will be written and done, and every check, before anything is.

use super::rewrite::Change;
use super::{devices, services};
use crate::face::config;
use semel_ledger::interchange::StateFile;
use semel_ops::config::{Diagnostics, Source};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

/// Version of the plan's format.
const SCHEMA: u32 = 1;

/// Files of one kind that a plan has, at most.
pub(super) const FILES_MAX: usize = 1000;

/// Longest configuration or unit, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Longest plan or journal, in bytes: a thousand validators with two chains' files of 2 KiB each need 4 MiB.
pub(super) const PLAN_MAX: u64 = 64 << 20;

/// Space that has to be free, in bytes.
const FREE_MIN: u64 = 16 << 20;

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
    /// What is read in its place, where there is no such file: the template of an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<PathBuf>,
}

impl NewFile {
    /// The file that it is made from.
    pub(super) fn source(&self) -> &Path {
        self.template.as_deref().unwrap_or(&self.old)
    }
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
    /// What stands beside the units, in directories of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) drop_ins: Vec<NewFile>,
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

    /// Everything that is written but states.
    pub(super) fn files(&self) -> impl Iterator<Item = &NewFile> {
        self.configs.iter().chain(&self.drop_ins).chain(&self.units)
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
pub(super) fn stem(path: &Path) -> String {
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
        configs.push(NewFile { old: path, new, sha256: sha256(text.as_bytes()), content: made.text, template: None });
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
    let (units, drop_ins) = services::examine(&mut checks, wanted, &configs, &states)?;
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
        drop_ins,
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
pub(super) fn fresh(checks: &mut Checks, code: &str, path: &Path, content: &str) {
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
