//! The multi-call binary: the name it is called by, or its first word, picks the duty.
//!
//! `tmkms …` (a link to this binary) and `semel kms …` are the same code, and so are `mithril-aggregator …` and
//! `semel aggregator …`. Exit codes: 0 done, 1 failed or refused, 2
//! misuse, 3 unsafe state, 4 a PIN or password that is not accepted.

mod bench;
mod dev;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use semel_aggregator::face as aggregator;
use semel_kms::face;
use semel_ops::error::Report;
use semel_ops::shell::{Format, Shell};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// One program with which a validator operator signs and certifies, and never signs twice.
#[derive(Debug, Parser)]
#[command(name = "semel", version, arg_required_else_help = true)]
struct Semel {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Sign for Tendermint and CometBFT nodes, with the files and words of tmkms
    #[command(subcommand, arg_required_else_help = true)]
    Kms(Kms),
    /// Certify what Cardano holds, with the files and words of mithril-aggregator
    Aggregator(aggregator::args::Arguments),
    #[command(flatten)]
    Shared(face::Shared),
    /// See, check and mend the memory of what was signed, and move it
    #[command(subcommand, arg_required_else_help = true)]
    Ledger(semel_admin::LedgerVerb),
    #[command(flatten)]
    Aid(Aid),
    /// Run a Tendermint and a Cardano network in this process, signed for and certified by this program
    Dev(dev::Dev),
}

/// What is there under both names.
#[derive(Debug, Subcommand)]
enum Aid {
    /// The status, again and again
    Top(face::status::Top),
    /// Return when a restart costs least: right after every chain's precommit
    WaitWindow(face::status::WaitWindow),
    /// Gather what somebody who helps needs to see, without secrets
    Bundle(face::bundle::Bundle),
    /// Keep what was signed in an encrypted file, and take it back after a loss
    #[command(subcommand, arg_required_else_help = true)]
    Backup(semel_admin::Backup),
    /// Move a key to another host
    #[command(subcommand, arg_required_else_help = true)]
    Handover(semel_admin::Handover),
    #[command(flatten)]
    Help(Help),
}

// What every name has: the program about itself. (A doc comment would take the place of the command's own words in its help.)
#[derive(Debug, Subcommand)]
enum Help {
    /// Explain a code such as GUARD-0003
    Explain {
        /// The code
        code: Option<String>,
    },
    /// Print the manual, or write a page per command
    Man {
        /// Directory for the pages, which has to be there
        directory: Option<std::path::PathBuf>,
    },
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
        /// For which name of this program [default: the one that it was called by]
        #[arg(long, value_enum)]
        name: Option<Name>,
    },
}

/// Names of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Semel,
    Tmkms,
    MithrilAggregator,
}

impl Name {
    fn command(self) -> clap::Command {
        match self {
            Self::Semel => Semel::command(),
            Self::Tmkms => Tmkms::command(),
            // Words that mithril-aggregator does not have: they work, and its help stays as it is.
            Self::MithrilAggregator => {
                let command = Help::augment_subcommands(aggregator::hide_own_words(MithrilAggregator::command()));
                Help::WORDS.iter().fold(command, |all, word| all.mut_subcommand(word, |one| one.hide(true)))
            }
        }
    }
}

#[derive(Debug, Subcommand)]
enum Kms {
    #[command(flatten)]
    Face(face::Command),
    /// Measure this signer, and another one beside it
    Bench(bench::Bench),
    #[command(flatten)]
    Aid(Aid),
}

/// Key management system for Tendermint and CometBFT validators.
#[derive(Debug, Parser)]
#[command(name = "tmkms", arg_required_else_help = true)]
struct Tmkms {
    #[command(subcommand)]
    verb: Word,
}

#[derive(Debug, Subcommand)]
enum Word {
    #[command(flatten)]
    Face(face::Command),
    #[command(flatten)]
    Aid(Aid),
}

/// Mithril aggregator node
#[derive(Debug, Parser)]
#[command(
    name = "mithril-aggregator",
    version = aggregator::AGGREGATOR_VERSION,
    override_usage = "mithril-aggregator [OPTIONS] <COMMAND>"
)]
struct MithrilAggregator {
    #[command(flatten)]
    arguments: aggregator::args::Arguments,
}

/// What `mithril-aggregator` was told to do.
enum Certify {
    Face(Box<MithrilAggregator>),
    Help(Help),
}

impl Certify {
    fn parse(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let matches = Name::MithrilAggregator.command().try_get_matches_from(arguments)?;
        match matches.subcommand_name().is_some_and(Help::has_subcommand) {
            true => Help::from_arg_matches(&matches).map(Self::Help),
            false => MithrilAggregator::from_arg_matches(&matches).map(|face| Self::Face(Box::new(face))),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let called = arguments.first().and_then(|name| Path::new(name).file_stem()).unwrap_or_default().to_owned();
    let shell = Shell::stdio(Format::default());
    let done = if called == "mithril-aggregator" {
        match Certify::parse(&arguments) {
            Ok(Certify::Face(parsed)) => aggregator::run(parsed.arguments, &shell),
            Ok(Certify::Help(help)) => help.run(Name::MithrilAggregator, &shell),
            Err(error) => return misuse(&error, &[]),
        }
    } else if called == "tmkms" {
        let parsed = match Tmkms::try_parse_from(&arguments) {
            Ok(parsed) => parsed,
            Err(error) => return misuse(&error, arguments.get(1..).unwrap_or_default()),
        };
        match parsed.verb {
            Word::Face(command) => face::run(command, face::Manner::Tmkms, &shell),
            Word::Aid(aid) => aid.run(Name::Tmkms, &shell),
        }
    } else {
        let parsed = match Semel::try_parse_from(&arguments) {
            Ok(parsed) => parsed,
            Err(error) => return misuse(&error, arguments.get(2..).unwrap_or_default()),
        };
        match parsed.verb {
            Verb::Kms(Kms::Face(command)) => face::run(command, face::Manner::Semel, &shell),
            Verb::Kms(Kms::Bench(bench)) => bench.run(&shell),
            Verb::Kms(Kms::Aid(aid)) => aid.run(Name::Semel, &shell),
            Verb::Aggregator(arguments) => aggregator::run(arguments, &shell),
            Verb::Shared(command) => face::run_shared(command, &shell),
            Verb::Ledger(verb) => face::ledger(&verb, &shell),
            Verb::Aid(aid) => aid.run(Name::Semel, &shell),
            Verb::Dev(dev) => dev.run(&shell),
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            shell.report(&report);
            report.exit_code().into()
        }
    }
}

/// Says what is wrong with the words. Scripts know that tmkms ends with 1 where some of its commands get too few or too many, and where a
/// key is to be imported from a format that it does not know.
fn misuse(error: &clap::Error, words: &[OsString]) -> ExitCode {
    // As clap does: nobody is left to be told.
    let _printed = error.print();
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).take(3).collect();
    let is_of_tmkms = matches!(
        words.as_slice(),
        ["init", ..] | ["softsign", "keygen" | "import", ..] | ["yubihsm", "keys", "generate"]
    );
    let is_argument = |name: &str| match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.starts_with(name),
        _ => false,
    };
    let is_count = match error.kind() {
        ErrorKind::MissingRequiredArgument | ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues => true,
        ErrorKind::UnknownArgument => !is_argument("-"),
        _ => false,
    };
    let is_format = matches!(words.as_slice(), ["softsign", "import", ..])
        && error.kind() == ErrorKind::InvalidValue
        && is_argument("--format");
    match is_of_tmkms && is_count || is_format {
        true => ExitCode::FAILURE,
        false => u8::try_from(error.exit_code()).unwrap_or(2).into(),
    }
}

impl Aid {
    fn run(self, called: Name, shell: &Shell) -> Result<(), Report> {
        match self {
            Self::Top(top) => top.run(shell),
            Self::WaitWindow(wait) => wait.run(shell),
            Self::Bundle(bundle) => bundle.run(shell),
            Self::Backup(verb) => face::backup(&verb, shell),
            Self::Handover(handover) => handover.run(shell),
            Self::Help(help) => help.run(called, shell),
        }
    }
}

impl Help {
    const WORDS: [&str; 3] = ["explain", "man", "completions"];

    fn run(self, called: Name, shell: &Shell) -> Result<(), Report> {
        match self {
            Self::Explain { code } => {
                let more = aggregator::explained().into_iter().chain(bench::explained()).collect();
                face::explain(code.as_deref(), more, shell)
            }
            Self::Man { directory } => man(directory.as_deref(), called, shell),
            Self::Completions { shell: kind, name } => completions(kind, name.unwrap_or(called), shell),
        }
    }
}

/// The manual of every command, under both names; without a directory, of the name that was called.
fn man(directory: Option<&Path>, called: Name, shell: &Shell) -> Result<(), Report> {
    let Some(directory) = directory else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(called.command()).render(&mut page);
        return rendered
            .and_then(|()| shell.data(&page))
            .map_err(|error| Report::new("the page was not written").cause(&error));
    };
    for command in [Name::Semel, Name::Tmkms, Name::MithrilAggregator].map(Name::command) {
        let written = clap_mangen::generate_to(command, directory);
        written.map_err(|error| Report::new(format!("cannot write to {}", directory.display())).cause(&error))?;
    }
    shell.status("Wrote", format!("a page per command into {}", directory.display()));
    Ok(())
}

fn completions(kind: clap_complete::Shell, name: Name, shell: &Shell) -> Result<(), Report> {
    let mut script = Vec::new();
    let mut command = name.command();
    let called = command.get_name().to_owned();
    clap_complete::generate(kind, &mut command, called, &mut script);
    shell.data(&script).map_err(|error| Report::new("the script was not written").cause(&error))
}
