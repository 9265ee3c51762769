//! The multi-call binary: the name it is called by, or its first word, picks the duty.
//!
//! `tmkms …` (a link to this binary) and `semel kms …` are the same code. Exit codes: 0 done, 1 failed or refused, 2
//! misuse, 3 unsafe state, 4 a PIN or password that is not accepted.

mod bench;
mod dev;

use clap::{CommandFactory, Parser, Subcommand};
use semel_kms::face;
use semel_ops::error::Report;
use semel_ops::shell::{Format, Shell};
use std::path::Path;
use std::process::ExitCode;

/// One program with which a validator operator signs, shares, certifies and produces, and never signs twice.
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
    /// What runs now: keys, nodes, last signatures, what is wrong
    Status(face::status::Status),
    /// The same, again and again
    Top(face::status::Top),
    /// Have the running processes read their configurations again
    Reload(face::status::Reload),
    /// Return when a restart costs least: right after every chain's precommit
    WaitWindow(face::status::WaitWindow),
    /// Look at everything that a signer stands on, and say what mends it
    Doctor(face::doctor::Examine),
    /// Gather what somebody who helps needs to see, without secrets
    Bundle(face::bundle::Bundle),
    /// See, check and mend the memory of what was signed, and move it
    #[command(subcommand, arg_required_else_help = true)]
    Ledger(semel_admin::LedgerVerb),
    /// Keep what was signed in an encrypted file, and take it back after a loss
    #[command(subcommand, arg_required_else_help = true)]
    Backup(semel_admin::Backup),
    /// Move a key to another host
    #[command(subcommand, arg_required_else_help = true)]
    Handover(semel_admin::Handover),
    /// Move validators to a new chain, and back
    #[command(subcommand, arg_required_else_help = true)]
    Upgrade(face::upgrade::Upgrade),
    /// Run a Tendermint network in this process, signed for by this signer
    Dev(dev::Dev),
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
    },
}

#[derive(Debug, Subcommand)]
enum Kms {
    #[command(flatten)]
    Face(face::Command),
    /// Measure this signer, and another one beside it
    Bench(bench::Bench),
}

/// Key management system for Tendermint and CometBFT validators.
#[derive(Debug, Parser)]
#[command(name = "tmkms", arg_required_else_help = true)]
struct Tmkms {
    #[command(subcommand)]
    verb: face::Command,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let called = arguments.first().and_then(|name| Path::new(name).file_stem()).unwrap_or_default().to_owned();
    let shell = Shell::stdio(Format::default());
    let done = if called == "tmkms" {
        face::run(Tmkms::parse_from(arguments).verb, face::Manner::Tmkms, &shell)
    } else {
        match Semel::parse_from(arguments).verb {
            Verb::Kms(Kms::Face(command)) => face::run(command, face::Manner::Semel, &shell),
            Verb::Kms(Kms::Bench(bench)) => bench.run(&shell),
            Verb::Status(status) => status.run(&shell),
            Verb::Top(top) => top.run(&shell),
            Verb::Reload(reload) => reload.run(&shell),
            Verb::WaitWindow(wait) => wait.run(&shell),
            Verb::Doctor(examine) => face::doctor::run(&examine, &shell),
            Verb::Bundle(bundle) => bundle.run(&shell),
            Verb::Ledger(verb) => face::ledger(&verb, &shell),
            Verb::Backup(verb) => face::backup(&verb, &shell),
            Verb::Handover(handover) => handover.run(&shell),
            Verb::Upgrade(upgrade) => face::upgrade::run(&upgrade, &shell),
            Verb::Dev(dev) => dev.run(&shell),
            Verb::Explain { code } => face::explain(code.as_deref(), &shell),
            Verb::Man { directory } => man(directory.as_deref(), &shell),
            Verb::Completions { shell: kind } => completions(kind, &shell),
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

/// The manual of every command, under both names.
fn man(directory: Option<&Path>, shell: &Shell) -> Result<(), Report> {
    let Some(directory) = directory else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Semel::command()).render(&mut page);
        return rendered
            .and_then(|()| shell.data(&page))
            .map_err(|error| Report::new("the page was not written").cause(&error));
    };
    for command in [Semel::command(), Tmkms::command()] {
        let written = clap_mangen::generate_to(command, directory);
        written.map_err(|error| Report::new(format!("cannot write to {}", directory.display())).cause(&error))?;
    }
    shell.status("Wrote", format!("a page per command into {}", directory.display()));
    Ok(())
}

fn completions(kind: clap_complete::Shell, shell: &Shell) -> Result<(), Report> {
    let mut script = Vec::new();
    clap_complete::generate(kind, &mut Semel::command(), "semel", &mut script);
    shell.data(&script).map_err(|error| Report::new("the script was not written").cause(&error))
}
