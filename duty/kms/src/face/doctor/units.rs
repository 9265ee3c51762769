//! The systemd units that start a signer: what they name is there, and belongs to their user.

use super::super::config;
use super::super::units::{Unit, matching};
use super::super::users::{READ, User, WRITE};
use semel_ops::doctor::{Doctor, Verdict};
use std::path::Path;

/// What allows root in the environment of a unit.
const ALLOW_ROOT: &str = "SEMEL_ALLOW_ROOT=1";

/// Units that are looked at, at most.
const UNITS_MAX: usize = 1000;

fn group_exists(group: &str) -> bool {
    std::fs::read_to_string("/etc/group")
        .is_ok_and(|text| text.lines().any(|line| line.split(':').next() == Some(group)))
}

pub(super) fn examine(doctor: &mut Doctor, pattern: &str, configs: &[config::Config]) {
    let units = matching(pattern, UNITS_MAX).unwrap_or_default();
    doctor.demand(
        "DOC-0801",
        !units.is_empty(),
        Verdict::Fail,
        format!("{} units match {pattern}", units.len()),
        "quote the pattern, as --units '/etc/systemd/system/tmkms-*.service'",
    );
    for unit in units {
        let named = unit.display();
        let Ok(service) = Unit::read(&unit) else {
            doctor.check(
                "DOC-0801",
                Verdict::Fail,
                format!("{named} cannot be read"),
                "run this as a user who may read it",
            );
            continue;
        };
        let Some(program) = service.program() else {
            doctor.check("DOC-0802", Verdict::Fail, format!("{named} starts nothing"), "add ExecStart=");
            continue;
        };
        doctor.demand(
            "DOC-0802",
            program.exists(),
            Verdict::Fail,
            format!("{named} starts {}", program.display()),
            format!("there is no {}: install it there, or correct ExecStart", program.display()),
        );
        let user = service.setting("User").unwrap_or_else(|| "root".into());
        let account = User::named(&user);
        doctor.demand(
            "DOC-0804",
            account.is_some(),
            Verdict::Fail,
            format!("{named} runs as {user}"),
            format!("there is no user {user}: useradd --system --user-group {user}"),
        );
        root(doctor, &unit, &service, &user, configs);
        if let Some(group) = service.setting("Group") {
            doctor.demand(
                "DOC-0805",
                group_exists(&group),
                Verdict::Fail,
                format!("{named} runs in the group {group}"),
                format!("there is no group {group}; `chown -R {user}:{user}` is what was meant"),
            );
        }
        for config in service.configs() {
            if config.is_open {
                let why = if service.is_template() { "an instance of this template" } else { "its environment" };
                let what = format!("{named} names {}: only {why} tells which file that is", config.text);
                doctor.check("DOC-0803", Verdict::Skipped, what, "");
                continue;
            }
            let path = &config.path;
            let shown = path.display();
            let there = path.exists();
            // The guide lists its new configurations under a directory of another name than the one it writes them to.
            let elsewhere =
                path.parent().and_then(Path::parent).zip(path.file_name()).map(|(above, name)| above.join(name));
            let fix = match elsewhere.filter(|other| other.exists()) {
                Some(other) => format!("it is {}: correct ExecStart, or move the file", other.display()),
                None => "correct ExecStart, or put the file there".into(),
            };
            doctor.demand("DOC-0803", there, Verdict::Fail, format!("{named} names {shown}"), fix);
            if let (Some(account), true) = (account, there) {
                rights(doctor, &user, account, path, configs);
            }
        }
    }
}

/// A unit without a user of its own starts no signer, unless somebody said that it may.
fn root(doctor: &mut Doctor, unit: &Path, service: &Unit, user: &str, configs: &[config::Config]) {
    let is_allowed =
        service.lines().any(|(key, value)| {
            key.starts_with("Environment") && value.contains(ALLOW_ROOT)
                || key.starts_with("ExecStart") && value.contains("--allow-root")
        }) || configs.iter().any(|config| config.semel.as_ref().is_some_and(|semel| semel.allow_root == Some(true)));
    doctor.demand(
        "DOC-0809",
        user != "root" || is_allowed,
        Verdict::Fail,
        format!("{} starts a signer as {user}", unit.display()),
        "add User= with a user of its own, who owns its files; or say --allow-root in ExecStart",
    );
}

/// The unit's user reads and writes what the configuration names.
fn rights(doctor: &mut Doctor, user: &str, account: User, path: &Path, configs: &[config::Config]) {
    // A mistyped group in a chown leaves files that belong to nobody: this line is the whole remedy.
    let chown = |path: &Path| format!("sudo chown -R {user}:{user} {}", path.parent().unwrap_or(path).display());
    let reads = |doctor: &mut Doctor, code, path: &Path| {
        let words = format!("{user} reads {}", path.display());
        doctor.demand(code, account.may(path, READ), Verdict::Fail, words, chown(path));
    };
    reads(doctor, "DOC-0806", path);
    let is_meant = |config: &&config::Config| config.path == path || config.path.parent() == Some(path);
    for config in configs.iter().filter(is_meant) {
        for chain in &config.chains {
            let state = &chain.state_file.value;
            let directory = state.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            doctor.demand(
                "DOC-0807",
                account.may(directory, WRITE),
                Verdict::Fail,
                format!("{user} writes {}", directory.display()),
                chown(state),
            );
        }
        let keys = config.softsign.iter().map(|key| &key.path.value);
        for secret in keys.chain(config.validators.iter().filter_map(|v| Some(&v.secret_key.as_ref()?.value))) {
            reads(doctor, "DOC-0808", secret);
        }
    }
}
