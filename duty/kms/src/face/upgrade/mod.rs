//! `upgrade`: the move of validators to a new chain, and back, as a plan that is made, checked, carried out and undone.
//!
//! The old files are never touched: the new chain gets configurations, states and units of its own beside them. Stepping back is safe
//! because the chain id is in every signature, and because no floor of the ledger falls.

mod apply;
mod devices;
mod plan;
mod rewrite;
mod services;

use apply::{Host, Run, Step, Way};
use clap::{Args, Subcommand};
use plan::{Plan, Verdict, Wanted};
use rewrite::Change;
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use serde_json::json;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::{key_report, said};

/// `upgrade`
#[derive(Debug, Subcommand)]
pub enum Upgrade {
    /// Make and check a plan; nothing is changed
    Plan(MakePlan),
    /// Do what a plan says; after an interruption, go on
    Apply(Carry),
    /// What of a plan is done
    Status {
        /// For machines
        #[arg(long)]
        json: bool,
        /// The plan
        plan: PathBuf,
    },
    /// Go back to the old chain; nothing is deleted
    Rollback(Carry),
}

/// `upgrade plan`
#[derive(Debug, Args)]
pub struct MakePlan {
    /// Id of the old chain
    #[arg(long, value_name = "CHAIN")]
    from: String,
    /// Id of the new chain
    #[arg(long, value_name = "CHAIN")]
    to: String,
    /// protocol_version of the new chain's configurations [default: as it is]
    #[arg(long, value_name = "VERSION")]
    protocol: Option<String>,
    /// Goes before the extension of new files: tmkms.01.toml becomes tmkms.01.v3.toml
    #[arg(long, default_value = "new")]
    suffix: String,
    /// The configurations, as a quoted pattern
    #[arg(long, value_name = "GLOB")]
    configs: String,
    /// The systemd units, as a quoted pattern
    #[arg(long, value_name = "GLOB")]
    units: Option<String>,
    /// Edit the units instead of making new ones beside them
    #[arg(long, requires = "units")]
    in_place_units: bool,
    /// Wait for the precommits of this height of the old chain, and 10 s in which nothing new is signed at it
    #[arg(long, value_name = "HEIGHT")]
    halt_height: Option<u64>,
    /// Heights that validators may be apart
    #[arg(long, value_name = "N", default_value_t = 1)]
    max_skew: u64,
    /// How a unit is started and stopped without systemd, as in 'docker {action} {unit}'
    #[arg(long, value_name = "WORDS")]
    exec_template: Option<String>,
    /// Where the plan is written
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Print the plan for machines
    #[arg(long)]
    json: bool,
    /// Check, and write no plan
    #[arg(long)]
    dry_run: bool,
}

/// `upgrade apply`, `upgrade rollback`
#[derive(Debug, Args)]
pub struct Carry {
    /// Print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// The systemctl to use
    #[arg(long, value_name = "PATH", default_value = "systemctl")]
    systemctl: String,
    /// The plan
    plan: PathBuf,
}

/// Runs a command.
pub fn run(command: &Upgrade, shell: &Shell) -> Result<(), Report> {
    match command {
        Upgrade::Plan(wanted) => make(wanted, shell),
        Upgrade::Apply(carry) => go(carry, Way::Apply, shell),
        Upgrade::Status { json, plan } => status(plan, *json, shell),
        Upgrade::Rollback(carry) => go(carry, Way::Rollback, shell),
    }
}

fn make(command: &MakePlan, shell: &Shell) -> Result<(), Report> {
    let failed = |why: String| Report::new(format!("no plan: {why}")).code_id("UPGRADE-0017");
    if !command.suffix.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        || command.suffix.is_empty()
    {
        return Err(failed("a suffix has letters, digits, - and _".into()));
    }
    let wanted = Wanted {
        change: Change {
            from: command.from.clone(),
            to: command.to.clone(),
            protocol: command.protocol.clone(),
            suffix: command.suffix.clone(),
        },
        configs: command.configs.clone(),
        units: command.units.clone(),
        in_place_units: command.in_place_units,
        halt_height: command.halt_height,
        max_skew: command.max_skew,
        exec_template: command.exec_template.clone(),
    };
    let plan = plan::plan(&wanted).map_err(failed)?;
    if command.json {
        said(shell.json(&plan))?;
    } else {
        print(&plan, shell)?;
    }
    let fails = plan.fails();
    if fails > 0 {
        return Err(Report::new(format!("{fails} of {} checks failed, and no plan was written", plan.checks.len()))
            .code_id("UPGRADE-0017")
            .hint("mend what failed, then make the plan again"));
    }
    if let (Some(out), false) = (&command.out, command.dry_run) {
        let text = plan.text();
        if text.len() as u64 > plan::PLAN_MAX {
            let what = format!("no plan: it would be too large, more than {} MiB", plan::PLAN_MAX >> 20);
            return Err(apply::too_large(what));
        }
        semel_keys::write_new(out, text.as_bytes(), None).map_err(|error| key_report(&error))?;
        shell.status("Planned", format!("{}; `upgrade apply {}` carries it out", out.display(), out.display()));
    }
    Ok(())
}

fn print(plan: &Plan, shell: &Shell) -> Result<(), Report> {
    let line = |text: String| said(shell.line(text));
    line(format!("{} to {}", plan.from, plan.to))?;
    let widest = plan.states.iter().map(|state| state.config.display().to_string().len()).max().unwrap_or(0);
    line(format!("\n{:<widest$}  {:>12}  state", "configuration", "height"))?;
    for state in &plan.states {
        let height = state.height.map_or_else(|| "?".into(), |height| height.to_string());
        line(format!("{:<widest$}  {height:>12}  {}", state.config.display(), state.old.display()))?;
    }
    line("\nchecks".into())?;
    for check in &plan.checks {
        let word = match check.verdict {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        line(format!("  {word}  {}  {}", check.code, check.what))?;
        if !check.fix.is_empty() {
            line(format!("        fix: {}", check.fix))?;
        }
    }
    line("\nwhat will be done".into())?;
    for command in &plan.commands {
        line(format!("  {command}"))?;
    }
    Ok(())
}

fn load(path: &Path) -> Result<Plan, Report> {
    let named = |why: String| Report::new(format!("{}: {why}", path.display()));
    let text = plan::read_plan(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => apply::too_large(format!("{}: {error}", path.display())),
        _ => named(error.to_string()).hint("`upgrade plan … --out FILE` makes it"),
    })?;
    Plan::parse(&text).map_err(|why| named(why).code_id("UPGRADE-0019").hint("make the plan anew"))
}

fn journal_of(plan: &Path) -> PathBuf {
    let mut name = plan.as_os_str().to_owned();
    name.push(".journal");
    name.into()
}

fn go(command: &Carry, way: Way, shell: &Shell) -> Result<(), Report> {
    let plan = load(&command.plan)?;
    let run = Run {
        plan: &plan,
        journal: journal_of(&command.plan),
        systemctl: command.systemctl.clone(),
        ground: &Host,
        shell,
    };
    let left = run.left(way).map_err(|stopped| stopped.report())?;
    if command.dry_run {
        for step in &left {
            said(shell.line(step.command(&plan)))?;
        }
        return Ok(());
    }
    if !command.yes && !left.is_empty() {
        let question = match way {
            Way::Apply => format!("Move {} validators from {} to {}? (y/N)", plan.configs.len(), plan.from, plan.to),
            Way::Rollback => format!("Go back from {} to {}? (y/N)", plan.to, plan.from),
        };
        shell.note(question);
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map_err(|error| Report::new("no answer").cause(&error))?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Report::new("nothing was done").hint("--yes does not ask"));
        }
    }
    run.go(way).map_err(|stopped| stopped.report())?;
    match way {
        Way::Apply => shell.status(
            "Upgraded",
            format!("{} to {}; `upgrade rollback {}` goes back", plan.from, plan.to, command.plan.display()),
        ),
        Way::Rollback => shell.status("Rolled back", format!("{} serves again, with its own files", plan.from)),
    }
    Ok(())
}

fn status(path: &Path, as_json: bool, shell: &Shell) -> Result<(), Report> {
    let plan = load(path)?;
    let run = Run { plan: &plan, journal: journal_of(path), systemctl: String::new(), ground: &Host, shell };
    let journal = apply::journal(&run.journal, &plan).map_err(|stopped| stopped.report())?;
    let is_back = journal.iter().any(|done| done.way == Way::Rollback);
    let way = if is_back { Way::Rollback } else { Way::Apply };
    let left: Vec<Step> = run.left(way).map_err(|stopped| stopped.report())?;
    let all = if is_back { apply::steps_back(&plan) } else { apply::steps(&plan) };
    let word = match (is_back, journal.is_empty(), left.is_empty()) {
        (_, true, _) => "planned",
        (false, _, true) => "applied",
        (false, ..) => "apply interrupted",
        (true, _, true) => "rolled back",
        (true, ..) => "rollback interrupted",
    };
    if as_json {
        let steps: Vec<_> =
            all.iter().map(|step| json!({ "step": step.command(&plan), "done": !left.contains(step) })).collect();
        return said(
            shell.json(&json!({ "schema": 1, "from": plan.from, "to": plan.to, "state": word, "steps": steps })),
        );
    }
    said(shell.line(format!(
        "{} to {}: {word}, {} of {} steps done",
        plan.from,
        plan.to,
        all.len() - left.len(),
        all.len()
    )))?;
    for step in &all {
        let mark = if left.contains(step) { "     " } else { "done " };
        said(shell.line(format!("  {mark} {}", step.command(&plan))))?;
    }
    Ok(())
}
