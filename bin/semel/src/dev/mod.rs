//! `semel dev`: networks in this process, with their duties done by the real programs over real sockets.
//!
//! ```text
//! kms          a Tendermint network, whose keys the signer signs for
//! aggregator   a Cardano network with Mithril signers, whose certificates the aggregator seals
//! ```

mod aggregator;
mod kms;

use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use semel_ops::shutdown::{Signals, Stop};
use std::io::IsTerminal;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Time between two looks at the networks.
const FRAME: Duration = Duration::from_millis(250);

/// A duty whose network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Duty {
    /// A Tendermint network and the signer
    Kms,
    /// A Cardano network, its Mithril signers and the aggregator
    Aggregator,
}

/// Run a Tendermint and a Cardano network in this process, signed for and certified by this program
#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// Run one network only
    #[arg(long, value_enum)]
    duty: Option<Duty>,
    /// End by itself after this many blocks of the Tendermint network
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    blocks: Option<u64>,
    /// End by itself after this many certificates, or when an epoch passed without one of every type
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    certificates: Option<u64>,
    /// Add a node that asks for conflicting votes
    #[arg(long)]
    attack: bool,
    /// Validators
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=20))]
    validators: u8,
    /// Time between blocks of the Tendermint network, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 400, value_parser = clap::value_parser!(u64).range(20..=60_000))]
    block_time: u64,
    /// Stake pools, each with a Mithril signer
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=100))]
    pools: u64,
    /// Leave the largest N of the pools to signers of another program: what these need to run is told and lies in --home
    #[arg(long, value_name = "N", default_value_t = 0, requires = "home")]
    external: u64,
    /// Length of an epoch of the Cardano network, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=86_400))]
    epoch_time: u64,
    /// Immutable files of a real chain whose blocks the Cardano network reveals [default: those of preview in ../shared/data, if
    /// they are there; else blocks are made up]
    #[arg(long, value_name = "DIR")]
    immutable: Option<PathBuf>,
    /// Keep keys, configurations, ledgers and databases in this directory, which must not exist [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// The summary as JSON; with --duty aggregator also, before it, a line with address and keys and one per certificate
    #[arg(long)]
    json: bool,
}

impl Dev {
    /// Runs it.
    pub(crate) fn run(self, shell: &Shell) -> Result<(), Report> {
        let failed = |what: &str, error: &(dyn std::error::Error + 'static)| Report::new(what.to_owned()).cause(error);
        self.misuse()?;
        let home = self.home.clone();
        let directory = home
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("semel-dev-{}-{}", std::process::id(), seconds())));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|error| failed(&format!("cannot make {}", directory.display()), &error))?;
        let ended = self.run_in(&directory, shell);
        if home.is_none() {
            let removed = std::fs::remove_dir_all(&directory);
            removed.map_err(|error| failed(&format!("cannot remove {}", directory.display()), &error))?;
        }
        ended
    }

    fn has(&self, duty: Duty) -> bool {
        self.duty.is_none_or(|only| only == duty)
    }

    /// Options of a network that does not run.
    fn misuse(&self) -> Result<(), Report> {
        let strange = |option: &str, duty: &str| {
            let message = format!("{option} means nothing to the network of --duty {duty}");
            Err(Report::new(message).exit(Exit::Misuse))
        };
        if !self.has(Duty::Kms) && self.blocks.is_some() {
            return strange("--blocks", "aggregator");
        }
        if !self.has(Duty::Kms) && self.attack {
            return strange("--attack", "aggregator");
        }
        if !self.has(Duty::Aggregator) && self.certificates.is_some() {
            return strange("--certificates", "kms");
        }
        if !self.has(Duty::Aggregator) && self.immutable.is_some() {
            return strange("--immutable", "kms");
        }
        if !self.has(Duty::Aggregator) && self.external > 0 {
            return strange("--external", "kms");
        }
        if self.external > self.pools {
            return Err(Report::new("--external is more than --pools").exit(Exit::Misuse));
        }
        Ok(())
    }

    fn run_in(&self, directory: &Path, shell: &Shell) -> Result<(), Report> {
        let stop = Stop::new();
        let _signals =
            Signals::install(&stop).map_err(|error| Report::new("the network did not start").cause(&error))?;
        let mut kms = match self.has(Duty::Kms) {
            true => Some(kms::Network::start(self, directory, &stop, shell)?),
            false => None,
        };
        let mut certify = match self.has(Duty::Aggregator) {
            true => Some(aggregator::Network::start(self, directory, shell)?),
            false => None,
        };
        let looked = self.watch(kms.as_mut(), certify.as_mut(), &stop, shell);
        let kms = kms.map(kms::Network::end).transpose();
        let certify = certify.map(aggregator::Network::end);
        looked?;
        self.conclude(kms?.as_ref(), certify.as_ref(), shell)
    }

    /// Shows the networks until they are to end.
    fn watch(
        &self,
        mut kms: Option<&mut kms::Network>,
        mut certify: Option<&mut aggregator::Network>,
        stop: &Stop,
        shell: &Shell,
    ) -> Result<(), Report> {
        let live = std::io::stderr().is_terminal() && !self.json;
        let mut shown = 0;
        while !stop.wait_timeout(FRAME) {
            let mut screens = Vec::new();
            // Lines that stay, above those that are drawn again and again.
            let mut above = Vec::new();
            let (mut done, mut over) = (self.blocks.is_some() || self.certificates.is_some(), false);
            if let Some(network) = kms.as_deref_mut() {
                let look = network.look();
                above.extend(look.line.filter(|_| !live).map(|line| ("Block", line)));
                done &= self.blocks.is_none_or(|blocks| look.blocks >= blocks);
                over |= look.stalled;
                screens.extend(live.then(|| network.screen()));
            }
            if let Some(network) = certify.as_deref_mut() {
                let look = network.look();
                if self.json && self.duty == Some(Duty::Aggregator) {
                    look.events.iter().try_for_each(|event| shell.json(event)).map_err(unwritten)?;
                }
                above.extend(look.lines.into_iter().filter(|(label, _)| !live || *label != aggregator::SEALED));
                done &= self.certificates.is_none_or(|certificates| look.certificates >= certificates);
                over |= look.has_ended || self.certificates.is_some() && look.has_gap;
                screens.extend(live.then(|| network.screen()));
            }
            let clear = if shown > 0 { format!("\x1b[{shown}A\x1b[J") } else { String::new() };
            if live {
                let above: String = above.iter().map(|(label, line)| format!("{label:>12} {line}\n")).collect();
                let screen = screens.join("\n\n");
                shell.note(format!("{clear}{above}{screen}"));
                shown = screen.lines().count();
            } else if !self.json {
                above.iter().for_each(|(label, line)| shell.status(label, line));
            }
            if done || over {
                break;
            }
        }
        Ok(())
    }

    fn conclude(
        &self,
        kms: Option<&kms::Ended>,
        certify: Option<&aggregator::Ended>,
        shell: &Shell,
    ) -> Result<(), Report> {
        if self.json {
            let mut summary = kms.map_or_else(serde_json::Map::new, kms::Ended::summary);
            summary.insert("schema".to_owned(), 1.into());
            if let Some(certify) = certify {
                summary.insert("certify".to_owned(), certify.summary());
            }
            shell.json(&summary).map_err(unwritten)?;
        } else {
            let lines = kms.iter().flat_map(|kms| kms.lines(self)).chain(certify.map(aggregator::Ended::line));
            for line in lines.collect::<Vec<_>>() {
                shell.line(line).map_err(unwritten)?;
            }
        }
        kms.map_or(Ok(()), |kms| kms.judge(self))?;
        certify.map_or(Ok(()), |certify| certify.judge(self))
    }
}

fn unwritten(error: std::io::Error) -> Report {
    Report::new("the summary was not written").cause(&error)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
