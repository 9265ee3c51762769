//! The units of an upgrade: which of them serves a configuration, what it becomes for the new chain, and whether it can run.

use super::plan::{Checks, FILES_MAX, NewFile, State, Verdict, Wanted, fresh, sha256, stem};
use super::rewrite::{is_same, whole};
use crate::face::units::{Mention, Unit, matching};
use crate::face::users::{READ, User, WRITE};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a program that is asked for its version.
const VERSION_MAX: Duration = Duration::from_secs(5);

/// Longest answer of it that is read, in bytes.
const LINE_MAX: usize = 200;

/// Files that are named one by one in a text.
const FLAGS_MAX: usize = 4;

/// Units, and what stands beside them.
type Services = (Vec<NewFile>, Vec<NewFile>);

/// The units and drop-ins for the new chain.
pub(super) fn examine(
    checks: &mut Checks,
    wanted: &Wanted,
    configs: &[NewFile],
    states: &[State],
) -> Result<Services, String> {
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
        return Ok(Services::default());
    };
    let moved: Vec<(PathBuf, PathBuf)> = configs.iter().map(|file| (whole(&file.old), file.new.clone())).collect();
    let (mut units, mut drop_ins) = Services::default();
    let (mut asked, mut served, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for path in matching(pattern, FILES_MAX)? {
        if path.to_string_lossy().contains(&format!(".{}.", wanted.change.suffix)) {
            continue;
        }
        let unit = Unit::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        // A unit and the link that enables it are one.
        if units.iter().any(|known: &NewFile| known.old == unit.path) {
            continue;
        }
        let all = unit.configs();
        told.extend(directories(checks, &unit, &all, configs));
        if is_unclear(checks, &unit, &all, configs) {
            continue;
        }
        let named: Vec<PathBuf> = all.iter().filter(|named| !named.is_open).map(|named| whole(&named.path)).collect();
        let of_unit = configs.iter().zip(&moved).filter(|(_, (old, _))| named.contains(old));
        let mine: Vec<&NewFile> = of_unit.map(|(file, _)| file).collect();
        told.extend(mine.iter().map(|file| file.old.clone()));
        let renamed = |mention: &Mention| wanted.change.mention(mention, &moved);
        let written: Vec<Option<String>> = (0..unit.parts.len()).map(|part| unit.rewritten(part, renamed)).collect();
        if mine.is_empty() || !is_own(checks, wanted, &unit, &written) {
            continue;
        }
        served.extend(mine.iter().map(|file| file.old.clone()));
        let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let new = if wanted.in_place_units { unit.path.clone() } else { wanted.change.renamed(&unit.path) };
        for (at, (part, written)) in unit.parts.iter().zip(written).enumerate() {
            if at > 0 && (part.is_shared || wanted.in_place_units && written.is_none()) {
                continue;
            }
            let content = written.unwrap_or_else(|| part.text.clone());
            let content = if wanted.in_place_units { content } else { unit.settled(&content) };
            let (old, new) = match at {
                0 => (unit.path.clone(), new.clone()),
                _ if wanted.in_place_units => (part.path.clone(), part.path.clone()),
                // Where the old one lies, in the directory of the new unit's name.
                _ => {
                    let place = part.path.parent().unwrap_or(Path::new("."));
                    let place = place.with_file_name(format!("{}.d", name_of(&new)));
                    (part.path.clone(), place.join(name_of(&part.path)))
                }
            };
            if old != new {
                fresh(checks, "UPGRADE-0009", &new, &content);
            }
            let template = unit.elsewhere().filter(|_| at == 0).map(Path::to_owned);
            let file = NewFile { old, new, sha256: sha256(part.text.as_bytes()), content, template };
            if at == 0 { units.push(file) } else { drop_ins.push(file) }
        }
        if let Some(binary) = unit.program().filter(|binary| !asked.contains(binary)) {
            program(checks, &unit.path, &binary);
            asked.push(binary);
        }
        if let Some(user) = unit.setting("User") {
            rights(checks, &user, &unit.path, &mine, states);
        }
    }
    for file in configs.iter().filter(|file| served.contains(&file.old) || !told.contains(&file.old)) {
        let named = file.old.display().to_string();
        let is_served = served.contains(&file.old);
        checks.add(
            "UPGRADE-0008",
            if is_served { Verdict::Pass } else { Verdict::Fail },
            format!("{named} is in the ExecStart of {} unit", if is_served { "a" } else { "no" }),
            "name the units with --units; ExecStart has to name the file with -c, without a variable",
        );
    }
    Ok((units, drop_ins))
}

/// Old and new files lie side by side: a unit that takes the directory would serve both chains. The configurations that are in it.
fn directories(checks: &mut Checks, unit: &Unit, all: &[Mention], configs: &[NewFile]) -> Vec<PathBuf> {
    let mut told = Vec::new();
    for named in all.iter().filter(|named| !named.is_open && named.path.is_dir()) {
        let is_in = |file: &&NewFile| file.old.parent().is_some_and(|parent| is_same(parent, &named.path));
        let inside: Vec<&NewFile> = configs.iter().filter(is_in).collect();
        if inside.is_empty() {
            continue;
        }
        let mut flags: Vec<String> =
            inside.iter().take(FLAGS_MAX).map(|file| format!("-c {}", file.old.display())).collect();
        if inside.len() > FLAGS_MAX {
            flags.push(format!("and so on, {} files", inside.len()));
        }
        checks.add(
            "UPGRADE-0008",
            Verdict::Fail,
            format!("{} names the directory {}, where the new files would lie too", unit.path.display(), named.text),
            format!(
                "name the files in it: `systemctl edit` the unit, with an empty ExecStart= and one that has {}",
                flags.join(" ")
            ),
        );
        told.extend(inside.into_iter().map(|file| file.old.clone()));
    }
    told
}

/// A template that would serve a configuration if it had an instance.
fn is_unclear(checks: &mut Checks, unit: &Unit, all: &[Mention], configs: &[NewFile]) -> bool {
    let is_near = |named: &Mention| {
        let directory = named.path.parent();
        configs.iter().any(|file| directory.zip(file.old.parent()).is_some_and(|(one, other)| is_same(one, other)))
    };
    if unit.is_template() && all.iter().any(is_near) {
        let name = unit.path.file_name().unwrap_or_default().to_string_lossy().replace("@.", "@*.");
        checks.add(
            "UPGRADE-0008",
            Verdict::Fail,
            format!("{} is a template: only its instances are started and stopped", unit.path.display()),
            format!(
                "name the instances: --units '/etc/systemd/system/multi-user.target.wants/{name}', or one by its name"
            ),
        );
    }
    unit.is_template()
}

/// What has to change belongs to this unit alone.
fn is_own(checks: &mut Checks, wanted: &Wanted, unit: &Unit, written: &[Option<String>]) -> bool {
    let named = unit.path.display();
    let (what, fix) = match unit.elsewhere().filter(|_| wanted.in_place_units) {
        Some(source) => (
            format!("{named} is made of {}, which is not its own", source.display()),
            "leave --in-place-units away: then there is a new unit beside it",
        ),
        None => {
            let mut drop_ins = unit.parts.iter().zip(written).skip(1);
            let Some((part, _)) = drop_ins.find(|(part, written)| part.is_shared && written.is_some()) else {
                return true;
            };
            (
                format!("{} names a configuration for {named}, and counts for other units too", part.path.display()),
                "name the configuration in the unit itself, or in a drop-in of its own",
            )
        }
    };
    checks.add("UPGRADE-0008", Verdict::Fail, what, fix);
    false
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
fn rights(checks: &mut Checks, user: &str, unit: &Path, mine: &[&NewFile], states: &[State]) {
    let Some(account) = User::named(user) else {
        checks.add(
            "UPGRADE-0011",
            Verdict::Fail,
            format!("{}: there is no user {user}", unit.display()),
            format!("`useradd --system {user}`, or correct User="),
        );
        return;
    };
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
