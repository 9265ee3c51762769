//! The host under a signer: limits, clock, memory, other signers.

use super::super::config;
use super::super::processes::processes;
use semel_ops::doctor::{Doctor, Verdict};
use std::path::Path;

/// Files that a signer should be able to open: the guide's unit allows 4096.
const FILES_MIN: u64 = 1024;

pub(super) fn examine(doctor: &mut Doctor, configs: &[config::Config], running: &[u32]) {
    let limit = |resource| rustix::process::getrlimit(resource).current;
    let files = limit(rustix::process::Resource::Nofile);
    doctor.demand(
        "DOC-0701",
        files.is_none_or(|files| files >= FILES_MIN),
        Verdict::Warn,
        format!("{} files may be open", files.map_or_else(|| "any number of".into(), |files| files.to_string())),
        "LimitNOFILE=4096 in the unit",
    );
    let core = limit(rustix::process::Resource::Core);
    doctor.demand(
        "DOC-0702",
        core == Some(0),
        Verdict::Warn,
        "a crash writes no memory to the disk",
        "LimitCORE=0 in the unit, or `ulimit -c 0`: a core file holds keys",
    );
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    doctor.demand(
        "DOC-0703",
        swaps.lines().count() <= 1,
        Verdict::Warn,
        format!("{} swap areas are in use", swaps.lines().count().saturating_sub(1)),
        "MemorySwapMax=0 in the unit: what is swapped out may hold keys",
    );
    let is_root = rustix::process::geteuid().is_root();
    doctor.demand(
        "DOC-0704",
        !is_root,
        Verdict::Warn,
        if is_root { "this runs as root" } else { "this does not run as root" },
        "run the signer as a user of its own, and this check as that user: what root may read says nothing",
    );
    let is_synchronized = Path::new("/run/systemd/timesync/synchronized").exists();
    let disciplines = ["chronyd", "ntpd", "systemd-timesyn", "ntpsec"];
    let keeps_time = is_synchronized || processes().any(|process| disciplines.contains(&process.name.as_str()));
    doctor.demand(
        "DOC-0705",
        keeps_time,
        Verdict::Warn,
        if keeps_time { "the clock is kept" } else { "nothing on this host keeps the clock" },
        "install chrony or systemd-timesyncd: votes carry the node's clock, logs this one",
    );
    memory(doctor, configs, running);
    others(doctor, configs, running);
}

/// Whether the keys of signers that run lie in memory that is never swapped out.
fn memory(doctor: &mut Doctor, configs: &[config::Config], running: &[u32]) {
    let has_keys = configs.iter().any(|config| {
        !config.softsign.is_empty() || config.validators.iter().any(|validator| validator.secret_key.is_some())
    });
    if !has_keys || running.is_empty() {
        let why = if has_keys { "no signer runs with this ledger: its memory" } else { "no key is in a file: memory" };
        return doctor.check("DOC-0708", Verdict::Skipped, format!("{why} was not looked at"), "");
    }
    for number in running {
        let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        let locked =
            status.lines().find_map(|line| line.strip_prefix("VmLck:")?.split_whitespace().next()?.parse().ok());
        let locked: u64 = locked.unwrap_or_default();
        doctor.demand(
            "DOC-0708",
            locked > 0,
            Verdict::Warn,
            format!("process {number} keeps {locked} kB, with its keys, out of swap"),
            "LimitMEMLOCK=64M in the unit, or `ulimit -l`, then start the signer again",
        );
    }
}

/// Another tmkms or horcrux with one of our files.
fn others(doctor: &mut Doctor, configs: &[config::Config], running: &[u32]) {
    let paths: Vec<String> = configs.iter().map(|config| config.path.display().to_string()).collect();
    let mut seen = 0;
    for process in processes() {
        let (number, name, words) = (process.id, &process.name, &process.words);
        let is_signer =
            matches!(name.as_str(), "tmkms" | "horcrux" | "semel") && words.iter().any(|word| word == "start");
        if !is_signer {
            continue;
        }
        seen += 1;
        // The program of a signer is hidden from its own user, as its memory is.
        let is_ours = running.contains(&number)
            || process
                .link("exe")
                .is_some_and(|exe| exe.file_name().is_some_and(|name| name.to_string_lossy().starts_with("semel")));
        let shares = words.iter().find(|word| paths.contains(word));
        if let Some(path) = shares {
            doctor.demand(
                "DOC-0706",
                is_ours,
                Verdict::Unsafe,
                format!("process {number} ({name}) runs with {path}"),
                "stop the other signer before this one starts: it does not know this ledger",
            );
        }
    }
    doctor.pass("DOC-0707", format!("{seen} signers run on this host"));
}
