//! Doing what a plan says, and undoing it: in small steps, each of which is in a journal before the next begins.
//!
//! A step that was cut off is done again: each of them may be. What the journal calls done is not.

use super::plan::{Plan, read, read_plan, sha256};
use semel_guard::Step::Precommit;
use semel_ledger::interchange::{Dialect, StateFile};
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest wait for a unit to stop or start.
const UNIT_MAX: Duration = Duration::from_secs(90);

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A unit runs when it is still the same process after this time: one that dies at once is started again by systemd.
const SETTLED: Duration = Duration::from_secs(3);

/// Time between two looks at the states.
const SECOND: Duration = Duration::from_secs(1);

/// How long nothing new is signed at the halt height before it counts as the end: a block that found no majority takes another round.
const HALT_GRACE: Duration = Duration::from_secs(10);

/// The world that a plan changes. A test puts another one here, which fails at any operation.
pub(super) trait Ground {
    /// Puts a new file in its place, whole and durable, with owner and mode of another.
    fn write(&self, path: &Path, content: &[u8], like: &Path) -> io::Result<()>;
    /// Adds a line to a file, durably.
    fn append(&self, path: &Path, line: &str) -> io::Result<()>;
    /// Runs a command; its output if it succeeds.
    fn run(&self, words: &[String]) -> io::Result<(bool, String)>;
    /// Lets time pass.
    fn wait(&self, time: Duration);
}

/// This host.
pub(super) struct Host;

impl Ground for Host {
    fn write(&self, path: &Path, content: &[u8], like: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The drop-ins of a unit have a directory of their own.
        if name.ends_with(".conf") && !directory.exists() {
            std::fs::create_dir(directory)?;
            if let Some(above) = directory.parent() {
                File::open(above)?.sync_all()?;
            }
        }
        let placed = (|| {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            if let Ok(meta) = std::fs::metadata(like) {
                // Only root may give files away; anybody else owns the old one already, or cannot keep its owner.
                let _kept = std::os::unix::fs::fchown(&file, Some(meta.uid()), Some(meta.gid()));
                file.set_permissions(std::fs::Permissions::from_mode(meta.mode() & 0o7777))?;
            }
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        })();
        if placed.is_err() {
            let _gone = std::fs::remove_file(&temporary);
        }
        placed?;
        File::open(directory)?.sync_all()
    }

    fn append(&self, path: &Path, line: &str) -> io::Result<()> {
        let is_new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        // A line that was cut off ends where the next one begins.
        let mut last = *b"\n";
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        let is_cut = last != *b"\n";
        file.write_all(format!("{}{line}\n", if is_cut { "\n" } else { "" }).as_bytes())?;
        file.sync_all()?;
        if is_new {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    fn run(&self, words: &[String]) -> io::Result<(bool, String)> {
        let Some((program, arguments)) = words.split_first() else { return Ok((true, String::new())) };
        let done = Command::new(program).args(arguments).output()?;
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).trim().to_owned();
        Ok((done.status.success(), text))
    }

    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Waits until the old chain has come to its end.
    Halt(u64),
    /// `stop`, `disable`, `enable`, `start` of a unit.
    Unit(&'static str, String),
    /// Waits until a unit is not active any more.
    Inactive(String),
    /// Waits until a unit is active.
    Active(String),
    /// Looks whether all units run on, each as the same process.
    Settled(Vec<String>),
    /// Takes note of the heights that the old chain ended with.
    Heights,
    /// Writes one of the plan's files.
    Write(PathBuf),
    /// Writes the state of the new chain: fresh, or carried over where the id stays.
    State(PathBuf),
    /// Puts an old unit back that was edited in place.
    Restore(PathBuf),
    /// Carries the higher of both states back, where the id stays.
    CarryBack(PathBuf),
    /// Makes systemd read its units again.
    DaemonReload,
}

impl Step {
    /// Its name in the journal.
    fn name(&self) -> String {
        match self {
            Self::Halt(_) => "halt".into(),
            Self::Unit(verb, unit) => format!("{verb} {unit}"),
            Self::Inactive(unit) => format!("inactive {unit}"),
            Self::Active(unit) => format!("active {unit}"),
            Self::Settled(_) => "settled".into(),
            Self::Heights => "heights".into(),
            Self::Write(path) => format!("write {}", path.display()),
            Self::State(path) => format!("state {}", path.display()),
            Self::Restore(path) => format!("restore {}", path.display()),
            Self::CarryBack(path) => format!("carry back {}", path.display()),
            Self::DaemonReload => "daemon-reload".into(),
        }
    }

    /// In the words of a shell.
    pub(super) fn command(&self, plan: &Plan) -> String {
        match self {
            Self::Halt(height) => {
                format!(
                    "# wait for every precommit at height {height}, and {} s in which nothing new is signed there",
                    HALT_GRACE.as_secs()
                )
            }
            Self::Unit(verb, unit) => service(plan, "systemctl", verb, unit).join(" "),
            Self::Inactive(unit) => format!("# wait until {unit} has ended"),
            Self::Active(unit) => format!("# wait until {unit} runs"),
            Self::Settled(_) => format!("# wait {} s: every unit has to run on as the same process", SETTLED.as_secs()),
            Self::Heights => "# read the height of every old state".into(),
            Self::Write(path) => format!("# write {}", path.display()),
            Self::State(path) if plan.keeps_id() => format!("# carry the state over to {}", path.display()),
            Self::State(path) => format!("# make {} at height 0", path.display()),
            Self::Restore(path) => format!("# put {} back as it was", path.display()),
            Self::CarryBack(path) => format!("# carry the higher state to {}", path.display()),
            Self::DaemonReload => "systemctl daemon-reload".into(),
        }
    }
}

/// The words that do something with a unit.
fn service(plan: &Plan, systemctl: &str, verb: &str, unit: &str) -> Vec<String> {
    let Some(template) = &plan.exec_template else { return vec![systemctl.into(), verb.into(), unit.into()] };
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    template.split_whitespace().map(|word| word.replace("{action}", verb).replace("{unit}", name)).collect()
}

/// Old units end. By a template they are only stopped: nothing else of a unit means anything to a container.
fn ended(plan: &Plan, units: Vec<String>) -> Vec<Step> {
    let has_template = plan.exec_template.is_some();
    let stop = |unit: &String| {
        let disable = (!has_template).then(|| Step::Unit("disable", unit.clone()));
        [Some(Step::Unit("stop", unit.clone())), disable].into_iter().flatten()
    };
    let mut steps: Vec<Step> = units.iter().flat_map(stop).collect();
    if !has_template {
        steps.extend(units.into_iter().map(Step::Inactive));
    }
    steps
}

/// New units begin. What a template starts is not asked how it is.
fn begun(plan: &Plan, units: Vec<String>) -> Vec<Step> {
    if plan.exec_template.is_some() {
        return units.into_iter().map(|unit| Step::Unit("start", unit)).collect();
    }
    if units.is_empty() {
        return Vec::new();
    }
    let start = |unit: &String| [Step::Unit("enable", unit.clone()), Step::Unit("start", unit.clone())];
    let mut steps = vec![Step::DaemonReload];
    steps.extend(units.iter().flat_map(start));
    steps.extend(units.iter().cloned().map(Step::Active));
    steps.push(Step::Settled(units));
    steps
}

/// The steps of an upgrade, in order.
pub(super) fn steps(plan: &Plan) -> Vec<Step> {
    let mut steps: Vec<Step> = plan.halt_height.map(Step::Halt).into_iter().collect();
    steps.extend(ended(plan, plan.names(|file| &file.old)));
    steps.push(Step::Heights);
    steps.extend(plan.configs.iter().map(|file| Step::Write(file.new.clone())));
    steps.extend(plan.states.iter().map(|state| Step::State(state.new.clone())));
    steps.extend(plan.drop_ins.iter().chain(&plan.units).map(|file| Step::Write(file.new.clone())));
    steps.extend(begun(plan, plan.names(|file| &file.new)));
    steps
}

/// The steps back, in order. Nothing is deleted.
pub(super) fn steps_back(plan: &Plan) -> Vec<Step> {
    let mut steps = ended(plan, plan.names(|file| &file.new));
    let edited = plan.drop_ins.iter().chain(&plan.units).filter(|file| file.old == file.new);
    steps.extend(edited.map(|file| Step::Restore(file.old.clone())));
    if plan.keeps_id() {
        steps.extend(plan.states.iter().map(|state| Step::CarryBack(state.old.clone())));
    }
    steps.extend(begun(plan, plan.names(|file| &file.old)));
    steps
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    Apply,
    Rollback,
}

/// A line of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) way: Way,
    pub(super) step: String,
    /// Digest of the plan that it belongs to.
    pub(super) plan: String,
    /// The old chain's states, old units: what a later step needs to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<serde_json::Value>,
}

/// Everything that was done for a plan. A last line that was cut off was not done.
pub(super) fn journal(path: &Path, plan: &Plan) -> Result<Vec<Done>, Stopped> {
    let text = match read_plan(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.map_err(|error| Stopped::Io(path.display().to_string(), error))?,
    };
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str::<Done>(line).ok())
        .filter(|done| done.plan == plan.digest)
        .collect())
}

/// What stops an upgrade.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stopped {
    #[error("{0}")]
    Refused(String, &'static str, String),
    #[error("{0}: {1}")]
    Io(String, io::Error),
    #[error("`{0}` failed: {1}")]
    Command(String, String),
}

impl Stopped {
    pub(super) fn report(&self) -> Report {
        let again = "what was done stays done; the same command goes on from here";
        match self {
            Self::Refused(_, code, hint) => Report::new(self.to_string()).code_id(code).hint(hint.as_str()),
            Self::Io(_, error) if error.kind() == io::ErrorKind::FileTooLarge => too_large(self.to_string()),
            Self::Io(..) => Report::new(self.to_string()).code_id("UPGRADE-0022").hint(again),
            Self::Command(..) => Report::new(self.to_string()).code_id("UPGRADE-0023").hint(again),
        }
    }
}

/// A file that nobody reads to its end.
pub(super) fn too_large(what: String) -> Report {
    Report::new(what).code_id("UPGRADE-0025").hint("make a plan for each part of the configurations, with --configs")
}

/// Where a state is: height, round and step; 0 where it does not tell the step.
fn position(state: &StateFile) -> (u64, u32, u8) {
    (state.height, state.round, state.step.map_or(0, |step| step as u8))
}

/// The same in words.
fn words(state: &StateFile) -> String {
    let step = state.step.map_or_else(|| "no step".into(), |step| format!("a {step}"));
    format!("{}/{}, {step}", state.height, state.round)
}

/// Whether two states of one position say that something else was signed there.
fn differ(one: &StateFile, other: &StateFile) -> bool {
    let bytes = one.sign_bytes.as_ref().zip(other.sign_bytes.as_ref());
    one.block_id != other.block_id || bytes.is_some_and(|(one, other)| one != other)
}

/// A plan that is being carried out.
pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) journal: PathBuf,
    pub(super) systemctl: String,
    pub(super) ground: &'a dyn Ground,
    pub(super) shell: &'a Shell,
}

impl Run<'_> {
    fn refused(what: impl Into<String>, code: &'static str, hint: impl Into<String>) -> Stopped {
        Stopped::Refused(what.into(), code, hint.into())
    }

    /// The steps that are left.
    pub(super) fn left(&self, way: Way) -> Result<Vec<Step>, Stopped> {
        let journal = journal(&self.journal, self.plan)?;
        let done: HashSet<String> = journal.into_iter().filter(|done| done.way == way).map(|done| done.step).collect();
        let all = if way == Way::Apply { steps(self.plan) } else { steps_back(self.plan) };
        Ok(all.into_iter().filter(|step| !done.contains(&step.name())).collect())
    }

    /// Does what is left.
    pub(super) fn go(&self, way: Way) -> Result<(), Stopped> {
        let journal = journal(&self.journal, self.plan)?;
        match way {
            Way::Apply if journal.iter().any(|done| done.way == Way::Rollback) => {
                return Err(Self::refused("this plan was rolled back", "UPGRADE-0021", "make a new plan"));
            }
            Way::Apply => self.inputs_are_as_planned(&journal)?,
            Way::Rollback => self.old_files_are_as_they_were(&journal)?,
        }
        for step in self.left(way)? {
            let note = self.step(&step, way)?;
            self.note(way, step.name(), note)?;
        }
        if way == Way::Rollback && steps_back(self.plan).is_empty() {
            self.note(way, "nothing".into(), None)?;
        }
        Ok(())
    }

    /// Puts into the journal what was done.
    fn note(&self, way: Way, step: String, note: Option<serde_json::Value>) -> Result<(), Stopped> {
        let done = Done { way, step, plan: self.plan.digest.clone(), note };
        let line = serde_json::to_string(&done).unwrap_or_default();
        let named = |error| Stopped::Io(self.journal.display().to_string(), error);
        self.ground.append(&self.journal, &line).map_err(named)
    }

    /// The files that the plan was made from have not changed; what is to be written is not there, or is.
    fn inputs_are_as_planned(&self, journal: &[Done]) -> Result<(), Stopped> {
        for file in self.plan.files() {
            let name = Step::Write(file.new.clone()).name();
            let is_written = journal.iter().any(|done| done.step == name);
            let text = read(file.source()).map_err(|error| Stopped::Io(file.source().display().to_string(), error))?;
            // A unit that is edited in place may have been, before the journal could say so.
            let is_new = file.old == file.new && text == file.content;
            if !is_new && sha256(text.as_bytes()) != file.sha256 {
                return Err(Self::refused(
                    format!("{} has changed since the plan was made", file.source().display()),
                    "UPGRADE-0018",
                    "make the plan anew",
                ));
            }
            match read(&file.new) {
                Ok(there) if file.old != file.new && !is_written && there != file.content => {
                    return Err(Self::refused(
                        format!("{} is there, and is another file", file.new.display()),
                        "UPGRADE-0003",
                        "move it away, then go on",
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Stepping back is safe as long as the old files are those that were left.
    fn old_files_are_as_they_were(&self, journal: &[Done]) -> Result<(), Stopped> {
        for file in self.plan.files().filter(|file| file.old != file.new) {
            let text = read(file.source()).map_err(|error| Stopped::Io(file.source().display().to_string(), error))?;
            if sha256(text.as_bytes()) != file.sha256 {
                return Err(Self::refused(
                    format!("{} has changed since the plan was made", file.source().display()),
                    "UPGRADE-0018",
                    "put it back from a backup, then go on",
                ));
            }
        }
        let Some(note) =
            journal.iter().find(|done| done.step == Step::Heights.name()).and_then(|done| done.note.clone())
        else {
            return Ok(());
        };
        for state in &self.plan.states {
            let path = state.old.display().to_string();
            let Some(left) = note.get(&path) else { continue };
            // The note of an older version is the height alone.
            let height = left.as_u64();
            let left = StateFile::parse(left.to_string().as_bytes()).unwrap_or_default();
            let now = self.state(&state.old)?;
            let is_lower = height.map_or(position(&now) < position(&left), |height| now.height < height);
            if is_lower {
                let left = height.map_or_else(|| words(&left), |height| height.to_string());
                return Err(Self::refused(
                    format!("{path} is at height {}; the old chain was left at {left}", words(&now)),
                    "UPGRADE-0020",
                    "put the state file back: below it, something could be signed twice (the ledger refuses that, too)",
                ));
            }
            if height.is_none() && position(&now) == position(&left) && differ(&now, &left) {
                return Err(Self::refused(
                    format!(
                        "{path} is another state of height {} than the one that the old chain was left with",
                        words(&now)
                    ),
                    "UPGRADE-0020",
                    "put the state file back: with it, something else could be signed there (the ledger refuses that, too)",
                ));
            }
        }
        Ok(())
    }

    fn state(&self, path: &Path) -> Result<StateFile, Stopped> {
        let text = read(path).map_err(|error| Stopped::Io(path.display().to_string(), error))?;
        StateFile::parse(text.as_bytes()).map_err(|error| {
            Self::refused(format!("{}: {error}", path.display()), "UPGRADE-0005", "put the state file back")
        })
    }

    fn step(&self, step: &Step, way: Way) -> Result<Option<serde_json::Value>, Stopped> {
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |error| Stopped::Io(path, error)
        };
        match step {
            Step::Halt(height) => self.await_halt(*height)?,
            Step::Unit(verb, unit) => {
                self.command(&service(self.plan, &self.systemctl, verb, unit))?;
                self.shell.status(label(verb), unit);
            }
            Step::Inactive(unit) => self.await_unit(unit, false)?,
            Step::Active(unit) => self.await_unit(unit, true)?,
            Step::Settled(units) => self.settle(units)?,
            Step::DaemonReload => self.command(&[self.systemctl.clone(), "daemon-reload".into()])?,
            Step::Heights => {
                let mut heights = serde_json::Map::new();
                for state in &self.plan.states {
                    let left = self.state(&state.old)?;
                    self.shell.status("Height", format!("{} in {}", left.height, state.old.display()));
                    let note = serde_json::from_str(&left.render(Dialect::Tmkms)).unwrap_or_default();
                    heights.insert(state.old.display().to_string(), note);
                }
                return Ok(Some(heights.into()));
            }
            Step::Write(path) => {
                let file = self.plan.files().find(|file| file.new == *path);
                if let Some(file) = file {
                    let note = (file.old == file.new).then(|| read(&file.old).ok()).flatten();
                    // The old text of a unit that is edited in place is in the journal before it is gone.
                    if let Some(old) = note.filter(|old| sha256(old.as_bytes()) == file.sha256) {
                        self.note(way, format!("kept {}", path.display()), Some(old.into()))?;
                    }
                    self.ground.write(path, file.content.as_bytes(), file.source()).map_err(io(path))?;
                    self.shell.status("Wrote", path.display());
                }
            }
            Step::State(path) => {
                if let Some(state) = self.plan.states.iter().find(|state| state.new == *path) {
                    let content = match self.plan.keeps_id() {
                        true => self.higher(&state.old, &state.new)?.render(Dialect::Tmkms),
                        // What is there already is a fresh state; the plan made sure of it.
                        false if path.exists() => return Ok(None),
                        false => StateFile::default().render(Dialect::Tmkms),
                    };
                    self.ground.write(path, content.as_bytes(), &state.old).map_err(io(path))?;
                    self.shell.status("Wrote", path.display());
                }
            }
            Step::Restore(path) => {
                let name = format!("kept {}", path.display());
                let kept = journal(&self.journal, self.plan)?.into_iter().find(|done| done.step == name);
                let text = kept.and_then(|done| done.note).and_then(|note| note.as_str().map(str::to_owned));
                if let Some(text) = text {
                    self.ground.write(path, text.as_bytes(), path).map_err(io(path))?;
                    self.shell.status("Restored", path.display());
                }
            }
            Step::CarryBack(path) => {
                if let Some(state) = self.plan.states.iter().find(|state| state.old == *path) {
                    let content = self.higher(&state.old, &state.new)?.render(Dialect::Tmkms);
                    self.ground.write(path, content.as_bytes(), path).map_err(io(path))?;
                    self.shell.status("Carried", path.display());
                }
            }
        }
        Ok(None)
    }

    /// The higher of two states; the second may be missing.
    fn higher(&self, one: &Path, other: &Path) -> Result<StateFile, Stopped> {
        let first = self.state(one)?;
        if !other.exists() {
            return Ok(first);
        }
        let second = self.state(other)?;
        Ok(if position(&second) > position(&first) { second } else { first })
    }

    fn command(&self, words: &[String]) -> Result<(), Stopped> {
        let text = words.join(" ");
        match self.ground.run(words) {
            Ok((true, _)) => Ok(()),
            Ok((false, said)) => Err(Stopped::Command(text, said)),
            Err(error) => Err(Stopped::Command(text, error.to_string())),
        }
    }

    /// The old chain runs up to its halt height: every validator has its precommit there, without which the height may never be
    /// committed, and no further round wants another one.
    fn await_halt(&self, halt: u64) -> Result<(), Stopped> {
        let (mut said, mut last, mut quiet) = (None, Vec::new(), Duration::ZERO);
        loop {
            let states = self.plan.states.iter().map(|state| self.state(&state.old)).collect::<Result<Vec<_>, _>>()?;
            // What is above has left the halt height behind, and may go on.
            let open: Vec<StateFile> = states.into_iter().filter(|state| state.height <= halt).collect();
            let is_precommitted = open.iter().all(|state| (state.height, state.step) == (halt, Some(Precommit)));
            if open != last {
                (last, quiet) = (open, Duration::ZERO);
            }
            if is_precommitted && (last.is_empty() || quiet >= HALT_GRACE) {
                return Ok(());
            }
            let waits = match last.iter().min_by_key(|state| position(state)) {
                Some(lowest) if !is_precommitted => {
                    format!("for a precommit at height {halt}: the lowest state is at {}", words(lowest))
                }
                _ => format!("for {} s in which nothing new is signed at height {halt}", HALT_GRACE.as_secs()),
            };
            if said.as_ref() != Some(&waits) {
                self.shell.status("Waiting", &waits);
                said = Some(waits);
            }
            self.ground.wait(SECOND);
            quiet += SECOND;
        }
    }

    /// What systemd says of a unit, whether it is well or not.
    fn asked(&self, words: &[&str]) -> Result<String, Stopped> {
        let words: Vec<String> = [&[self.systemctl.as_str()], words].concat().into_iter().map(str::to_owned).collect();
        let said = self.ground.run(&words).map_err(|error| Stopped::Command(words.join(" "), error.to_string()))?;
        Ok(said.1)
    }

    /// The process of a unit that is active; empty where systemd does not tell its number.
    fn process(&self, unit: &str) -> Result<Option<String>, Stopped> {
        if !matches!(self.asked(&["is-active", unit])?.as_str(), "active" | "reloading") {
            return Ok(None);
        }
        let shown = self.asked(&["show", "--property=MainPID", unit])?;
        Ok(Some(shown.lines().find_map(|line| line.strip_prefix("MainPID=")).unwrap_or_default().into()))
    }

    /// Each unit runs on, as the same process.
    fn settle(&self, units: &[String]) -> Result<(), Stopped> {
        let look = || units.iter().map(|unit| self.process(unit)).collect::<Result<Vec<_>, _>>();
        let first = look()?;
        self.ground.wait(SETTLED);
        for ((unit, before), after) in units.iter().zip(first).zip(look()?) {
            if before.is_none() || before != after {
                return Err(Self::refused(
                    format!("{unit} does not keep running"),
                    "UPGRADE-0024",
                    format!("journalctl -u {unit} tells why; then run the same command again, or roll back"),
                ));
            }
        }
        Ok(())
    }

    fn await_unit(&self, unit: &str, active: bool) -> Result<(), Stopped> {
        let begun = Instant::now();
        loop {
            let said = self.asked(&["is-active", unit])?;
            let is_active = matches!(said.as_str(), "active" | "reloading");
            let is_over = matches!(said.as_str(), "inactive" | "failed" | "unknown");
            if is_active == active && (active || is_over) {
                return Ok(());
            }
            if active && said == "failed" || begun.elapsed() > UNIT_MAX {
                return Err(Self::refused(
                    format!("{unit} is {said}"),
                    "UPGRADE-0024",
                    format!("journalctl -u {unit} tells why; then run the same command again, or roll back"),
                ));
            }
            self.ground.wait(LOOK);
        }
    }
}

fn label(verb: &str) -> &'static str {
    match verb {
        "stop" => "Stopped",
        "disable" => "Disabled",
        "enable" => "Enabled",
        _ => "Started",
    }
}

#[cfg(test)]
mod tests;
