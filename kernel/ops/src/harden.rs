//! What a signer gives up once it runs: it is not root, its memory is in no core file and open to no debugger, and it writes nowhere but
//! where it has to.
//!
//! The kernel's Landlock holds the second for the rest of the process' life, for every thread that talks to a node, and for the programs that
//! are started. Where the kernel has
//! none, the process runs without; the sandbox of a systemd unit does the same from outside.

use crate::error::Report;
use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit};
use std::path::{Path, PathBuf};

/// The version of Landlock that is asked for; older kernels give what they have.
const ABI_WANTED: ABI = ABI::V4;

/// Stops what runs as root, unless the operator said that it may.
///
/// # Errors
/// `HOST-0001`.
pub fn refuse_root(is_allowed: bool) -> Result<(), Report> {
    if is_allowed || !geteuid().is_root() {
        return Ok(());
    }
    let report = Report::new("a signer does not run as root").code_id("HOST-0001");
    let report =
        report.because("whoever breaks into it would have the whole host, and files that it makes would be root's");
    Err(report
        .hint("run it as a user of its own (User=tmkms in the unit; sudo -u tmkms in a shell), or say --allow-root"))
}

/// Keeps memory out of core files and away from debuggers of the same user. What failed comes back in words.
pub fn seal_memory() -> Vec<String> {
    let mut failed = Vec::new();
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        failed.push(format!("core files are not forbidden: {error}"));
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        failed.push(format!("memory stays open to debuggers: {error}"));
    }
    failed
}

/// Lets this thread, and every thread and program that it starts from now on, write below these directories and nowhere else. Reading is not restricted.
///
/// # Errors
/// A directory that cannot be opened, or a kernel that refuses; nothing is restricted then. `Ok(false)`: the kernel has no Landlock.
pub fn write_only_below(directories: &[PathBuf]) -> Result<bool, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let writes = AccessFs::from_write(ABI_WANTED);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writes)
        .and_then(Ruleset::create)
        .map_err(|error| text(&error))?;
    // What every program writes to: nothing, and its own terminal.
    let always = ["/dev/null", "/dev/tty", "/dev/pts"].map(PathBuf::from);
    for directory in directories.iter().chain(&always) {
        let opened = match PathFd::new(directory) {
            Ok(opened) => opened,
            Err(_) if always.contains(directory) => continue,
            Err(error) => return Err(format!("{}: {error}", directory.display())),
        };
        let access = if directory.is_dir() { writes } else { writes & AccessFs::from_file(ABI_WANTED) };
        rules = rules.add_rule(PathBeneath::new(opened, access)).map_err(|error| text(&error))?;
    }
    let status = rules.restrict_self().map_err(|error| text(&error))?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// The directory of a file; `.` for a bare name.
pub fn directory_of(file: &Path) -> PathBuf {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
}
