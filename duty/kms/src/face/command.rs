//! The command line: every word, and who answers it.

use super::args::{Init, Softsign, Start, State, Which, height};
use super::{Manner, configure, doctor, files_of, init, said, softsign, start, state, upgrade, yubihsm};
use crate::host::state::state_of_history;
use clap::Subcommand;
use semel_ops::error::Report;
use semel_ops::shell::Shell;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign for the nodes in a configuration.
    Start(Start),
    /// Print the version.
    Version,
    /// Make a directory with a configuration and the keys it needs.
    Init(Init),
    /// Make and import keys in files.
    #[command(subcommand)]
    Softsign(Softsign),
    /// What `semel` has, too.
    #[command(flatten)]
    Shared(Shared),
    /// Set a YubiHSM up, and manage its keys.
    #[command(subcommand, name = "yubihsm")]
    YubiHsm(super::yubihsm::YubiHsm),
    /// See what was signed, and set where it begins.
    #[command(subcommand)]
    Ledger(LedgerCommand),
}

/// Words that need no name of a duty before them.
#[derive(Debug, Subcommand)]
pub enum Shared {
    /// See the keys of configurations, make and import them, let one go.
    #[command(subcommand)]
    Key(super::key::Key),
    /// Make, check, show, compare and renew configurations.
    #[command(subcommand)]
    Config(super::configure::Config),
    /// See and move what was signed last.
    #[command(subcommand)]
    State(State),
    /// Take over from another signer.
    #[command(subcommand)]
    Migrate(super::migrate::Migrate),
    /// What runs now: keys, nodes, last signatures, what is wrong.
    Status(super::status::Status),
    /// Have the running processes read their configurations again.
    Reload(super::status::Reload),
    /// Look at everything that the signer stands on, and say what mends it.
    Doctor(super::doctor::Examine),
    /// Move validators to a new chain, and back.
    #[command(subcommand)]
    Upgrade(super::upgrade::Upgrade),
}

/// `ledger`
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    #[command(flatten)]
    Kernel(semel_admin::LedgerVerb),
    /// Sign nothing at or below a height
    Init {
        #[command(flatten)]
        which: Which,
        /// Highest height that is closed
        #[arg(short = 'H', long, value_parser = height())]
        height: u64,
        /// Taken for compatibility: the whole height is closed
        #[arg(short, long)]
        round: Option<u64>,
        /// Show what would change
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs a command.
pub fn run(command: Command, manner: Manner, shell: &Shell) -> Result<(), Report> {
    match command {
        Command::Start(start) => start::run(&start, manner),
        Command::Version => said(shell.line(manner.version())),
        Command::Init(init) => init::run(&init, shell),
        Command::Softsign(softsign) => softsign::run(&softsign, shell),
        Command::Shared(command) => run_shared(command, shell),
        Command::YubiHsm(command) => yubihsm::run(&command, shell),
        Command::Ledger(LedgerCommand::Kernel(verb)) => ledger(&verb, shell),
        Command::Ledger(LedgerCommand::Init { which, height, round: _, dry_run }) => {
            state::set_floor(&which, height, dry_run, shell)
        }
    }
}

/// Runs a command that `semel` has, too.
pub fn run_shared(command: Shared, shell: &Shell) -> Result<(), Report> {
    match command {
        Shared::Key(command) => command.run(shell),
        Shared::Config(command) => configure::run(&command, shell),
        Shared::State(state) => state::run(&state, shell),
        Shared::Migrate(command) => command.run(shell),
        Shared::Status(command) => command.run(shell),
        Shared::Reload(command) => command.run(shell),
        Shared::Doctor(command) => doctor::run(&command, shell),
        Shared::Upgrade(command) => upgrade::run(&command, shell),
    }
}

/// Runs a command of the ledger.
pub fn ledger(verb: &semel_admin::LedgerVerb, shell: &Shell) -> Result<(), Report> {
    verb.run(state_of_history, shell)
}

/// Runs a command of backups.
pub fn backup(verb: &semel_admin::Backup, shell: &Shell) -> Result<(), Report> {
    verb.run(files_of, shell)
}
