//! `state`: what was signed last, and how it moves between signers. No command here lowers a floor.

use super::args::{DialectArg, State, Which};
use super::keyring::Keyring;
use super::plans::{Tenant, tenants_of};
use super::start::{directory, options};
use super::{config, ledger_report, said};
use crate::host::state::{StateError, adopt_state, mirrored, read, state_of_history};
use semel_admin::{Floor, Wait, put_out};
use semel_guard::{History, Lane, Mark, Step, Subject};
use semel_ledger::interchange::{Dialect, Mirror, StateFile, floor_of};
use semel_ledger::{Journal, Options};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Runs a command.
pub(super) fn run(command: &State, shell: &Shell) -> Result<(), Report> {
    match command {
        State::Show { which, json } => show(which, *json, shell),
        State::Import { which, dry_run, file } => import(which, file, *dry_run, shell),
        State::Export { which, format, output } => export(which, *format, output.as_deref(), shell),
        State::Compare { which, json, file } => compare(which, file, *json, shell),
        State::SetFloor { which, dry_run, height } => set_floor(which, *height, *dry_run, shell),
    }
}

pub(super) fn state_report(error: &StateError) -> Report {
    Report::new(error.to_string()).code_id(error.code()).hint(error.hint())
}

/// Every chain that is meant, with its key.
fn chosen<'a>(which: &Which, configs: &'a [config::Config]) -> Result<Vec<Tenant<'a>>, Report> {
    let wanted =
        |chain: &config::Chain| which.chain.as_ref().is_none_or(|name| chain.id.value == *name || chain.name == *name);
    let found = tenants_of(configs, wanted, &mut Keyring::default())?;
    let found: Vec<Tenant<'a>> = found.into_iter().map(|(_, tenant)| tenant).collect();
    if found.is_empty() {
        let text = match &which.chain {
            Some(name) => format!("the configuration has no chain {name}"),
            None => "the configuration has no chain".into(),
        };
        return Err(no_chain(text, configs));
    }
    Ok(found)
}

/// The one chain that is meant.
fn only<'a>(which: &Which, configs: &'a [config::Config]) -> Result<Tenant<'a>, Report> {
    let mut found = chosen(which, configs)?;
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(no_chain("the configuration has several chains".into(), configs)),
    }
}

/// A command line that names no chain of the configurations, or not which one.
fn no_chain(text: String, configs: &[config::Config]) -> Report {
    let names: Vec<&str> = configs.iter().flat_map(|config| &config.chains).map(|chain| chain.name.as_str()).collect();
    let hint = match names.as_slice() {
        [] => "name another configuration with -c".into(),
        names => format!("name one with --chain: {}", names.join(", ")),
    };
    Report::new(text).code_id("STATE-0109").hint(hint).exit(Exit::Misuse)
}

/// What a ledger holds of a key, read without its lock; empty of one that it does not know.
pub(super) fn history_of(directory: &Path, subject: &Subject) -> Result<Arc<History>, Report> {
    Ok(history_in(directory, subject)?.unwrap_or_default())
}

/// The same; none of a key that it does not know.
fn history_in(directory: &Path, subject: &Subject) -> Result<Option<Arc<History>>, Report> {
    let all = if directory.exists() { Journal::inspect(directory) } else { Ok(Vec::new()) };
    let all = all.map_err(|error| ledger_report(&error))?;
    let known = all.into_iter().find(|known| known.subject == *subject);
    let of_lane = |known: semel_ledger::Known| known.lanes.into_iter().find(|(lane, _)| *lane == Lane::Tendermint);
    Ok(known.map(|known| of_lane(known).map(|(_, history)| history).unwrap_or_default()))
}

/// The same, of a tenant.
fn known(which: &Which, configs: &[config::Config], tenant: &Tenant<'_>) -> Result<Arc<History>, Report> {
    history_of(&directory(&which.ledger, configs), &tenant.subject)
}

pub(super) fn position(state: &StateFile) -> String {
    reached(floor_of(state))
}

/// A state with the very position of the floor, where its message is not known and the file of tmkms closes the height instead.
fn exact(state: StateFile, floor: Option<Mark>) -> StateFile {
    let position = floor.and_then(|Mark([_, round, step])| Some((u32::try_from(round).ok()?, Step::from_code(step)?)));
    match position {
        Some((round, step)) => StateFile { round, step: Some(step), ..state },
        None => state,
    }
}

/// How far a key signed, in words.
pub(super) fn reached(floor: Option<Mark>) -> String {
    floor.map_or_else(|| "nothing signed".into(), |mark| Lane::Tendermint.show(mark))
}

fn show(which: &Which, as_json: bool, shell: &Shell) -> Result<(), Report> {
    let configs = config::load_without_states(&which.configs.paths())?;
    let mut rows = Vec::new();
    for tenant in chosen(which, &configs)? {
        let ledger = known(which, &configs, &tenant)?;
        let file = read(&tenant.chain.state_file.value).map_err(|error| state_report(&error))?;
        rows.push((tenant, ledger, file));
    }
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(tenant, ledger, file)| {
                let position = reached(ledger.floor);
                let state = exact(state_of_history(&tenant.subject, ledger), ledger.floor);
                json!({
                    "chain": tenant.chain.id.value,
                    "key": tenant.key_text,
                    "height": state.height,
                    "round": state.round,
                    "step": state.step.map(|step| step as u8),
                    "position": position,
                    "state_file": tenant.chain.state_file.value,
                    "state_file_height": file.as_ref().map(|file| file.height),
                })
            })
            .collect();
        return said(shell.json(&json!({ "schema": 1, "chains": rows })));
    }
    for (tenant, ledger, file) in rows {
        let chain = &tenant.chain.id.value;
        let file = file.map_or_else(|| "missing".into(), |file| position(&file));
        said(shell.line(format!(
            "{chain}  {}  ledger: {}  state file: {file}",
            tenant.key_text,
            reached(ledger.floor)
        )))?;
    }
    Ok(())
}

/// The state file that the command line names, if it is of this key.
fn given(path: &Path, subject: &Subject) -> Result<StateFile, Report> {
    let file = read(path).map_err(|error| state_report(&error))?;
    let file = file.ok_or_else(|| {
        Report::new(format!("{}: no such file", path.display()))
            .code_id("STATE-0101")
            .hint("name the state file of tmkms, a node (data/priv_validator_state.json) or horcrux")
    })?;
    let owner = file.check_owner(subject.chain.as_str(), &subject.key.to_string());
    owner.map_err(|error| state_report(&StateError::Parse { path: path.into(), error }))?;
    Ok(file)
}

fn import(which: &Which, path: &Path, dry_run: bool, shell: &Shell) -> Result<(), Report> {
    let configs = config::load_without_states(&which.configs.paths())?;
    let tenant = only(which, &configs)?;
    let file = given(path, &tenant.subject)?;
    for warning in &file.warnings {
        shell.warning(format!("{}: {warning} (STATE-0110)", path.display()));
        shell.hint(
            "at most a position too many is closed; `state compare` says where the ledger stands, --dry-run what would change",
        );
    }
    let Some(floor) = floor_of(&file) else {
        shell.status("Nothing", "the file says that nothing was signed");
        return Ok(());
    };
    raise(which, &configs, &tenant, floor, Some(&file), dry_run, shell)
}

/// Closes every height up to `height`.
pub(super) fn set_floor(which: &Which, height: u64, dry_run: bool, shell: &Shell) -> Result<(), Report> {
    let configs = config::load_without_states(&which.configs.paths())?;
    let tenant = only(which, &configs)?;
    let floor = Mark([height.saturating_add(1), 0, 0]);
    raise(which, &configs, &tenant, floor, None, dry_run, shell)
}

/// Raises the ledger to `floor`, which is what `file` says, where there is one.
fn raise(
    which: &Which,
    configs: &[config::Config],
    tenant: &Tenant<'_>,
    floor: Mark,
    file: Option<&StateFile>,
    dry_run: bool,
    shell: &Shell,
) -> Result<(), Report> {
    refuse_stranger(which, configs, tenant)?;
    let present = known(which, configs, tenant)?.floor;
    let (chain, lane) = (&tenant.chain.id.value, Lane::Tendermint);
    let change = format!("{chain}: {} → {}", reached(present), lane.show(floor));
    let unchanged = || shell.status("Unchanged", format!("{chain}: {} is at or above it already", reached(present)));
    if dry_run {
        match present.is_some_and(|present| present >= floor) {
            true => unchanged(),
            false => shell.status("Would raise", change),
        }
        return Ok(());
    }
    let options = options(directory(&which.ledger, configs), &which.ledger);
    // What is shown as closed may be a bound that is only promised: under the lock of the key the floor is exact.
    let has_risen = match file {
        Some(file) => adopted(options, &tenant.subject, file)?,
        None => {
            let floor = Floor { subject: tenant.subject.clone(), lane, mark: floor };
            semel_admin::raise(options, &[floor], Wait::AsBefore)? > 0
        }
    };
    match has_risen {
        false => unchanged(),
        true => shell.status("Raised", change),
    }
    // One that is not there is the signer's to make, and one that is none the operator's to put right.
    let path = &tenant.chain.state_file.value;
    let said = read(path).ok().flatten().map(|file| floor_of(&file));
    let history = known(which, configs, tenant)?;
    if said.is_some_and(|said| said < history.floor) {
        let failed = |error| state_report(&StateError::Mirror { path: path.clone(), error });
        Mirror::open(path)
            .and_then(|mut mirror| mirror.write(&mirrored(&tenant.subject, &history, file.cloned())))
            .map_err(failed)?;
        shell.status("Wrote", path.display());
    }
    Ok(())
}

/// Puts what a state file says into the ledger, with the message that was signed, as far as the file has it. False: the ledger was there.
fn adopted(options: Options, subject: &Subject, file: &StateFile) -> Result<bool, Report> {
    let journal = Journal::open(options, std::slice::from_ref(subject)).map_err(|error| ledger_report(&error))?;
    let has_risen = adopt_state(&journal, subject, file).map_err(|error| state_report(&error))?;
    journal.close().map_err(|error| ledger_report(&error))?;
    Ok(has_risen)
}

/// Root's own ledger is not that of a service that runs as another user, and a floor in it would protect nothing.
fn refuse_stranger(which: &Which, configs: &[config::Config], tenant: &Tenant<'_>) -> Result<(), Report> {
    let is_named = which.ledger.ledger.is_some()
        || configs.iter().any(|config| config.semel.as_ref().is_some_and(|semel| semel.ledger.is_some()));
    if is_named || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let state = &tenant.chain.state_file.value;
    let owner = |path: &Path| std::fs::metadata(path).ok().map(|meta| meta.uid());
    let owner = owner(state).or_else(|| owner(&semel_ops::harden::directory_of(state))).unwrap_or_default();
    if owner == 0 {
        return Ok(());
    }
    let text = format!("{} belongs to user {owner}, whose ledger may be another than root's", state.display());
    let hint = format!(
        "run this as the user of the signer (`sudo -u '#{owner}' …`), or name its ledger with --ledger; the signer's log has `ledger in DIR`"
    );
    Err(Report::new(text).code_id("STATE-0105").hint(hint))
}

fn export(which: &Which, format: DialectArg, output: Option<&Path>, shell: &Shell) -> Result<(), Report> {
    let configs = config::load_without_states(&which.configs.paths())?;
    let tenant = only(which, &configs)?;
    let dialect = match format {
        DialectArg::Tmkms => Dialect::Tmkms,
        DialectArg::Cometbft => Dialect::FilePv,
        DialectArg::Horcrux => Dialect::Horcrux,
    };
    let ledger = directory(&which.ledger, &configs);
    // Height 0 in the hands of another signer would let it sign everything again.
    let history = history_in(&ledger, &tenant.subject)?.ok_or_else(|| {
        Report::new(format!("the ledger in {} does not know the key of {}", ledger.display(), tenant.chain.id.value))
            .code_id("STATE-0104")
            .hint("name the ledger that it signed with: --ledger")
    })?;
    let state = state_of_history(&tenant.subject, &history);
    let text = match dialect {
        Dialect::Tmkms => state,
        // They refuse a position whose message they do not have.
        Dialect::FilePv | Dialect::Horcrux => exact(state, history.floor),
    };
    let text = text.render(dialect);
    put_out(output, &text, shell)
}

fn compare(which: &Which, path: &Path, as_json: bool, shell: &Shell) -> Result<(), Report> {
    let configs = config::load_without_states(&which.configs.paths())?;
    let tenant = only(which, &configs)?;
    let ledger = known(which, &configs, &tenant)?.floor;
    let file = given(path, &tenant.subject)?;
    let order = floor_of(&file).cmp(&ledger);
    let word = match order {
        std::cmp::Ordering::Less => "behind",
        std::cmp::Ordering::Equal => "equal",
        std::cmp::Ordering::Greater => "ahead",
    };
    if as_json {
        return said(
            shell.json(&json!({ "schema": 1, "file": position(&file), "ledger": reached(ledger), "file_is": word })),
        );
    }
    said(shell.line(format!("file: {}  ledger: {}  the file is {word}", position(&file), reached(ledger))))
}
