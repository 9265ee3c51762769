//! Who answers each word of the command line.

use super::args::{Arguments, Command, Database, EnvFile, Genesis, Globals, OWN_WORDS, Serve, Tools};
use super::settings::{Base, Layers, Outcome, Settings, Surroundings, stores_directory};
use super::{configure, logs, tools};
use crate::host::commands::{self, CommandError};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;

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
        Command::Tools(Tools::RecomputeCertificatesHash) => {
            let layers = Layers::of(&globals, None, &Surroundings::Process);
            commands::recompute_certificates_hash(&stores_directory(&layers)).map_err(|error| failed(&error))
        }
        Command::Database(Database::Migrate(stores)) => {
            commands::database_migrate(&stores.stores_directory).map_err(|error| failed(&error))
        }
        Command::Database(Database::Vacuum(stores)) => {
            commands::database_vacuum(&stores.stores_directory).map_err(|error| failed(&error))
        }
        Command::ProtocolConfiguration(verb) => tools::protocol_configuration(verb, shell, || base(&globals, shell)),
        Command::Config(verb) => configure::run(verb, &globals, shell),
        Command::Registry(verb) => tools::registry(&verb, shell),
        Command::Verify(what) => commands::verify(&what, shell).map_err(|error| failed(&error)),
        Command::Status(what) => {
            let settings = match what.url {
                Some(_) => None,
                None => Some(read(Settings::read(layers(&globals, &what.from)), shell)?),
            };
            commands::status(&what, settings.as_ref(), shell).map_err(|error| failed(&error))
        }
        Command::Doctor(what) => {
            let outcome = Settings::read(layers(&globals, &what.from));
            shell.diagnostics(&outcome.found);
            commands::doctor(&what, outcome.value.as_ref(), shell).map_err(|error| failed(&error))
        }
    }
}

fn serve(globals: &Globals, flags: &Serve, shell: &Shell) -> Result<(), Report> {
    let outcome = Settings::read(Layers::of(globals, Some(flags), &Surroundings::Process));
    let settings = match outcome.value {
        Some(settings) => settings,
        None => return Err(outcome.found.into()),
    };
    let _log = logs::init(globals.verbose, logs::Sink::Stdout).map_err(|error| Report::of(&error))?;
    for warning in outcome.found.sorted() {
        let hint = warning.hint.unwrap_or_default();
        tracing::warn!(code = warning.code.id, place = %warning.place, hint, "{}", warning.message);
    }
    commands::serve(settings, shell).map_err(|error| failed(&error))
}

fn genesis(genesis: Genesis, globals: &Globals, shell: &Shell) -> Result<(), Report> {
    match genesis {
        Genesis::Export { target_path, era } => {
            tools::only_pythagoras(era)?;
            commands::genesis_export(&base(globals, shell)?, &target_path).map_err(|error| failed(&error))
        }
        Genesis::Import { signed_payload_path, genesis_verification_key, era } => {
            tools::only_pythagoras(era)?;
            let base = base(globals, shell)?;
            commands::genesis_import(&base, &signed_payload_path, &genesis_verification_key)
                .map_err(|error| failed(&error))
        }
        Genesis::Bootstrap { genesis_secret_key, era } => {
            tools::only_pythagoras(era)?;
            let key = tools::secret_key(&genesis_secret_key)?;
            commands::genesis_bootstrap(&base(globals, shell)?, &key).map_err(|error| failed(&error))
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

/// A command that failed, for the person at the terminal.
pub(super) fn failed(error: &CommandError) -> Report {
    let report = Report::of(error);
    match error {
        CommandError::NotInThisBuild(_) => report.code_id("AGG-0010"),
    }
}
