//! Who answers each word of the command line.

use super::args::{Arguments, Command, EnvFile, Genesis, Globals, OWN_WORDS, Serve, Tools};
use super::settings::{Base, Layers, Outcome, Settings, Surroundings, stores_directory};
use super::{configure, databases, logs, tools};
use crate::host::commands::{self, CommandError, look};
use crate::host::store::StoreError;
use crate::host::walk::WalkError;
use crate::host::walk::origin::{Kind, OriginError};
use semel_ledger::LedgerErrorKind;
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use serde_json::json;

/// Hides, in the help, the words that mithril-aggregator does not have. They work all the same.
pub fn hide_own_words(mut command: clap::Command) -> clap::Command {
    for word in OWN_WORDS {
        command = command.mut_subcommand(word, |subcommand| subcommand.hide(true));
    }
    command
}

/// Does what the arguments say; without a subcommand, runs the server.
///
/// # Errors
/// What went wrong, for the person at the terminal.
pub fn run(arguments: Arguments, shell: &Shell) -> Result<(), Report> {
    let globals = arguments.globals;
    let Some(command) = arguments.command else {
        shell.hint("no command was given, so the server starts, as with `serve`");
        return serve(&globals, &Serve::default(), shell);
    };
    if let Command::Serve(flags) = &command {
        return serve(&globals, flags, shell);
    }
    let _log =
        logs::init(globals.verbose, logs::Sink::Stderr).map_err(|error| Report::of(&error).exit(Exit::Misuse))?;
    match command {
        Command::Serve(_) => Ok(()),
        Command::Genesis(genesis) => self::genesis(genesis, &globals, shell),
        Command::Era(era) => tools::era(era, shell),
        Command::Tools(Tools::RecomputeCertificatesHash(dry)) => {
            let layers = Layers::of(&globals, None, &Surroundings::Process);
            databases::recompute(&stores_directory(&layers), dry, shell).map_err(failed)
        }
        Command::Database(verb) => databases::run(&verb, shell).map_err(failed),
        Command::ProtocolConfiguration(verb) => tools::protocol_configuration(verb, shell, || base(&globals, shell)),
        Command::Config(verb) => configure::run(verb, &globals, shell),
        Command::Registry(verb) => tools::registry(&verb, shell),
        Command::Verify(what) => {
            let verified = commands::verify::verify(&what, shell).map_err(failed);
            if let (Err(report), true) = (&verified, what.json) {
                let why = json!({ "holds": false, "why": report.message(), "code": report.code_text() });
                tools::said(shell.json(&why))?;
            }
            verified
        }
        Command::Status(what) => {
            let settings = match what.url {
                Some(_) => None,
                None => Some(read(Settings::read(layers(&globals, &what.from)), shell)?),
            };
            look::status(&what, settings.as_ref(), shell).map_err(failed)
        }
        Command::Bench(what) => super::bench::run(&what, shell),
        Command::Doctor(what) => {
            let outcome = Settings::read(layers(&globals, &what.from));
            shell.diagnostics(&outcome.found);
            look::doctor(&what, outcome.value.as_ref(), shell).map_err(failed)
        }
    }
}

fn serve(globals: &Globals, flags: &Serve, shell: &Shell) -> Result<(), Report> {
    let outcome = Settings::read_to_start(Layers::of(globals, Some(flags), &Surroundings::Process));
    let settings = match outcome.value {
        Some(settings) => settings,
        None => return Err(outcome.found.into()),
    };
    let _log = logs::init(globals.verbose, logs::Sink::Stdout).map_err(|error| Report::of(&error))?;
    for warning in outcome.found.sorted() {
        let hint = warning.hint.unwrap_or_default();
        tracing::warn!(code = warning.code.id, place = %warning.place, hint, "{}", warning.message);
    }
    commands::serve::serve(settings, shell).map_err(failed)
}

fn genesis(genesis: Genesis, globals: &Globals, shell: &Shell) -> Result<(), Report> {
    match genesis {
        Genesis::Export { target_path, era } => {
            tools::only_pythagoras(era)?;
            commands::genesis::export(&base(globals, shell)?, &target_path).map_err(failed)
        }
        Genesis::Import { signed_payload_path, genesis_verification_key, era } => {
            tools::only_pythagoras(era)?;
            let base = base(globals, shell)?;
            let hash = commands::genesis::import(&base, &signed_payload_path, &genesis_verification_key);
            sealed(&hash.map_err(failed)?, shell);
            Ok(())
        }
        Genesis::Bootstrap { genesis_secret_key, era } => {
            tools::only_pythagoras(era)?;
            let key = tools::secret_key(&genesis_secret_key)?;
            sealed(&commands::genesis::bootstrap(&base(globals, shell)?, &key).map_err(failed)?, shell);
            Ok(())
        }
        Genesis::Sign { to_sign_payload_path, target_signed_payload_path, genesis_secret_key_path, era } => {
            tools::only_pythagoras(era)?;
            tools::sign_genesis(&to_sign_payload_path, &target_signed_payload_path, &genesis_secret_key_path, shell)
        }
        Genesis::GenerateKeypair { target_path, era } => {
            tools::only_pythagoras(era)?;
            tools::generate_keypair(&target_path, "genesis", shell)
        }
    }
}

/// What the environment that is meant says.
pub(super) fn layers(globals: &Globals, from: &EnvFile) -> Layers {
    let surroundings = match &from.env_file {
        Some(path) => Surroundings::EnvFile(path.clone()),
        None => Surroundings::Process,
    };
    Layers::of(globals, None, &surroundings)
}

fn base(globals: &Globals, shell: &Shell) -> Result<Base, Report> {
    read(Base::read(Layers::of(globals, None, &Surroundings::Process)), shell)
}

fn read<T>(outcome: Outcome<T>, shell: &Shell) -> Result<T, Report> {
    match outcome.value {
        Some(value) => {
            if !outcome.found.is_empty() {
                shell.diagnostics(&outcome.found);
            }
            Ok(value)
        }
        None => Err(outcome.found.into()),
    }
}

fn sealed(hash: &str, shell: &Shell) {
    shell.status("Sealed", format!("the genesis certificate {hash}; certificates follow in the next epoch"));
}

/// A command that failed, for the person at the terminal.
pub(super) fn failed(error: CommandError) -> Report {
    use crate::host::aggregator::StartError;
    let report = Report::of(&error);
    match error {
        CommandError::Found(report) => *report,
        CommandError::Walk { whose, why } => {
            let (code, hint) = walk_failed(whose, &why);
            report.code_id(code).hint(hint)
        }
        CommandError::Status { .. } => report.code_id("AGG-0013").hint(NO_ANSWER),
        CommandError::Store(StoreError::Held { .. }) => {
            report.code_id("AGG-0024").hint("stop it, or wait until it has ended")
        }
        CommandError::Store(StoreError::Absent { .. }) => {
            report.code_id("AGG-0023").hint("check the path; `serve` and `database import` make a database")
        }
        CommandError::Store(_) | CommandError::Events(_) => {
            report.code_id("AGG-0014").hint("see DATA_STORES_DIRECTORY, and who else has it open")
        }
        CommandError::Chain(_) => report.code_id("AGG-0015").hint("see whether the node runs, and `doctor`"),
        CommandError::Engine(_) => report.code_id("AGG-0016").hint("see `doctor`"),
        CommandError::Start(StartError::Ledger(why)) => report.code_id("AGG-0017").hint(match why.kind {
            LedgerErrorKind::Io(_) | LedgerErrorKind::Permissions(_) => {
                "name a directory that this user alone may write with SEMEL_LEDGER, or give the unit a StateDirectory"
            }
            _ => "stop the server that holds the ledger, or name another with SEMEL_LEDGER",
        }),
        CommandError::Start(_) | CommandError::ChainData(_) | CommandError::Artifact(_) | CommandError::Host(..) => {
            report.code_id("AGG-0018").hint("see `doctor`")
        }
        CommandError::Setting(_) | CommandError::Keys(_) => report.code_id("AGG-0019").hint("see `config explain`"),
        CommandError::Payload { .. } => report.code_id("AGG-0020").hint("give what `genesis sign` has written"),
        CommandError::File { .. } | CommandError::Shell(_) | CommandError::Bench(_) => report.code_id("AGG-0001"),
        CommandError::Ended(_) => report.code_id("AGG-0021").hint("the log has the cause"),
    }
}

const NO_ANSWER: &str = "see whether it runs, and whether the address ends with /aggregator";

/// Code and hint of a walk that did not come to its end.
fn walk_failed(whose: Kind, why: &WalkError) -> (&'static str, &'static str) {
    match (why, whose) {
        (WalkError::Stopped(_), _) => ("AGG-0022", "with --resume FILE it goes on where it was"),
        (WalkError::Flawed { .. } | WalkError::Other { .. }, Kind::Url) => (
            "AGG-0012",
            "see whether the genesis key is of this network, and ask another aggregator for the certificate",
        ),
        (WalkError::Flawed { .. } | WalkError::Other { .. }, Kind::Directory) => {
            ("AGG-0012", "see whether the genesis key is of this network; else restore the database")
        }
        (WalkError::Flawed { .. } | WalkError::Other { .. }, Kind::File) => {
            ("AGG-0012", "see whether the genesis key is of this network; else fetch the certificates again")
        }
        (WalkError::Origin(OriginError::Store(_)), _) => {
            ("AGG-0014", "see whether this user may read the directory, and which program made its database")
        }
        (WalkError::Origin(_), Kind::Url) => ("AGG-0013", NO_ANSWER),
        (WalkError::Origin(_), Kind::Directory) => (
            "AGG-0013",
            "name a stores directory; certificates of forms that nobody can verify any more count as missing",
        ),
        (WalkError::Origin(_), Kind::File) => (
            "AGG-0013",
            "name a URL (https://…), a stores directory, or a JSON file of all certificates down to the genesis",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_that_fails_has_the_code_of_its_cause_and_the_hint_of_its_origin() {
        let other = || WalkError::Other { asked: "a".to_owned(), given: "b".to_owned() };
        let missing = || OriginError::Missing { hash: "a".to_owned(), place: "here".to_owned() }.into();
        let database = || OriginError::Store(crate::host::store::StoreError::Ended).into();
        for (whose, why, code, hint) in [
            (Kind::Url, other(), "AGG-0012", "another aggregator"),
            (Kind::Directory, other(), "AGG-0012", "restore"),
            (Kind::File, other(), "AGG-0012", "fetch"),
            (Kind::Url, missing(), "AGG-0013", "/aggregator"),
            (Kind::Directory, missing(), "AGG-0013", "stores directory"),
            (Kind::File, missing(), "AGG-0013", "JSON file"),
            (Kind::Directory, database(), "AGG-0014", "may read"),
            (Kind::Url, WalkError::Stopped(7), "AGG-0022", "--resume"),
        ] {
            let report = failed(CommandError::Walk { whose, why });
            assert_eq!(report.code_text(), Some(code));
            assert!(report.hint_text().unwrap().contains(hint), "{code}: {report:?}");
        }
    }
}
