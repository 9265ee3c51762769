//! `semel kms bench`: this signer under load, and another one beside it, in turn, in one run.

mod error;
mod floor;
mod load;
mod process;
mod report;
mod stats;
mod syscalls;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use error::Trouble;
use load::{Node, Plan, Seen};
use process::Signers;
use report::{Report as Results, Round, Series};
use semel_devnet_tendermint::privval::Family;
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use stats::figures;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use syscalls::{Counts, Syscalls};

/// Samples of each floor, per round.
const FLOOR_SAMPLES: usize = 500;

/// Signatures that syscalls are counted over, of all validators together, and before them of each, so that all is warm.
const COUNTED: u32 = 500;
const UNCOUNTED: u32 = 10;

/// Measure this signer, and another one beside it
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Validators that sign at the same time; the other signer has a process for each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
    validators: u16,
    /// Processes of ours, which share the validators
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    processes: u16,
    /// Requests per validator and round
    #[arg(long, default_value_t = 8000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,
    /// Rounds of each signer, in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Another signer, as a command in which {config} is its tmkms.toml
    #[arg(long, value_name = "COMMAND")]
    against: Option<String>,
    /// When an admission counts as durable, for ours
    #[arg(long, default_value = "sync", value_parser = ["sync", "reserve"])]
    durability: String,
    /// Directory for keys, states and ledgers: its disk is what is measured [default: the current one]
    #[arg(long, value_name = "DIR", overrides_with = "dir")]
    dir: Option<PathBuf>,
    /// Requests per second of each validator, all due at the same moments [default: the next follows the answer]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Unix sockets instead of TCP
    #[arg(long)]
    unix: bool,
    /// Ask for vote extensions of this many bytes
    #[arg(long, value_name = "BYTES")]
    extension: Option<usize>,
    /// Ask for a proposal at each height, too
    #[arg(long)]
    proposals: bool,
    /// Count syscalls per signature, too, in a pass of its own under strace
    #[arg(long)]
    syscalls: bool,
    /// Write report.json and latency.svg there
    #[arg(long, value_name = "DIR", overrides_with = "report")]
    report: Option<PathBuf>,
    /// The table as JSON
    #[arg(long)]
    json: bool,
}

/// Each code of a benchmark with its words.
pub(crate) fn explained() -> impl Iterator<Item = (&'static str, String)> {
    error::EXPLAINED.iter().map(|(code, text)| (*code, (*text).to_owned()))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().map_err(|error| error.to_string())?;
    match rate.is_finite() && rate >= 0.001 {
        true => Ok(rate),
        false => Err("a rate is 0.001 requests a second or more".into()),
    }
}

impl Bench {
    /// Runs it.
    pub(crate) fn run(self, shell: &Shell) -> Result<(), Report> {
        if self.processes > self.validators {
            return Err(Trouble::Processes(self.processes, self.validators).into());
        }
        if self.syscalls && !syscalls::can_be_counted() {
            return Err(Trouble::NoStrace.into());
        }
        let base = self.dir.clone().unwrap_or_else(|| ".".into());
        let unusable = |error: io::Error| Trouble::Directory(base.clone(), error);
        let base = std::path::absolute(&base).map_err(unusable)?;
        let made: Vec<&Path> = base.ancestors().take_while(|path| !path.exists()).collect();
        let home = base.join(format!("semel-bench-{}", std::process::id()));
        std::fs::create_dir_all(&home).map_err(unusable)?;
        let results = std::fs::canonicalize(&home).map_err(unusable).and_then(|home| self.measure(&home, shell));
        let removed = std::fs::remove_dir_all(&home);
        // What was made for this goes again; where somebody put something, it stays.
        let _kept = made.into_iter().try_for_each(std::fs::remove_dir);
        let (results, not_counted) = results?;
        removed.map_err(unusable)?;
        if let Some(dir) = &self.report {
            self.write(dir, &results).map_err(|error| Trouble::Report(dir.clone(), error))?;
            shell.status("Wrote", dir.join("report.json").display());
        }
        let printed = if self.json { shell.json(&results) } else { shell.data(results.table().as_bytes()) };
        printed.map_err(|error| Trouble::Report("stdout".into(), error))?;
        let errors = results.series.iter().map(Series::errors).sum();
        let rounds: usize = results.series.iter().map(|series| series.rounds.len()).sum();
        let asked = u64::from(self.requests) * u64::from(self.validators) * rounds as u64;
        match (errors, not_counted) {
            (0, None) => Ok(()),
            (0, Some(trouble)) => Err(trouble.into()),
            (errors, _) => Err(Trouble::Errors(errors, asked).into()),
        }
    }

    fn write(&self, dir: &Path, results: &Results) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("report.json"), serde_json::to_vec_pretty(results)?)?;
        std::fs::write(dir.join("latency.svg"), results.svg())
    }

    /// Everything that was measured, and why syscalls were not counted if they should have been.
    fn measure(&self, home: &Path, shell: &Shell) -> Result<(Results, Option<Trouble>), Trouble> {
        let failed = |error: io::Error| Trouble::Directory(home.to_owned(), error);
        let plan = Plan {
            requests: self.requests as usize,
            interval: self.rate.map(|rate| Duration::from_secs_f64(1.0 / rate.max(0.001))),
            extension_len: self.extension,
            proposals: self.proposals,
            family: if self.extension.is_some() { Family::V038 } else { Family::V034 },
        };
        let mut ours = Series::new(format!("semel ({})", self.durability));
        let mut theirs = self.against.as_ref().map(|command| {
            let name = command.split_whitespace().next().unwrap_or_default();
            Series::new(Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned())
        });
        let (mut before, mut after, mut loopback) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            shell.status("Measuring", format!("round {round} of {}", self.rounds));
            before.extend(floor::disk(home, FLOOR_SAMPLES).map_err(failed)?);
            loopback.extend(floor::loopback(FLOOR_SAMPLES).map_err(failed)?);
            self.round(&home.join(format!("ours-{round}")), &plan, None, &mut ours)?;
            if let (Some(series), Some(command)) = (&mut theirs, &self.against) {
                self.round(&home.join(format!("theirs-{round}")), &plan, Some(command), series)?;
            }
            after.extend(floor::disk(home, FLOOR_SAMPLES).map_err(failed)?);
        }
        let mut not_counted = None;
        if self.syscalls {
            let signers =
                std::iter::once((None, &mut ours)).chain(theirs.as_mut().map(|it| (self.against.as_deref(), it)));
            for (command, series) in signers {
                shell.status("Counting", format!("syscalls of {}", series.name));
                match self.count(home, &plan, command, &series.name) {
                    Ok(syscalls) => series.syscalls = Some(syscalls),
                    Err(trouble) => {
                        shell.warning(&trouble);
                        not_counted = Some(trouble);
                    }
                }
            }
        }
        ours.all.sort_unstable();
        if let Some(series) = &mut theirs {
            series.all.sort_unstable();
        }
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let results = Results {
            version: env!("CARGO_PKG_VERSION"),
            validators: usize::from(self.validators),
            requests_per_validator: plan.requests,
            loop_kind: self.rate.map_or("closed loop".into(), |rate| format!("open loop at {rate}/s")),
            transport: if self.unix { "unix" } else { "tcp" },
            filesystem: filesystem(home),
            kernel,
            disk_floor_before: figures(&mut before),
            disk_floor_after: figures(&mut after),
            loopback_floor: figures(&mut loopback),
            series: std::iter::once(ours).chain(theirs).collect(),
            ratios: Vec::new(),
        };
        Ok((results.with_ratios(), not_counted))
    }

    /// A node for each validator, and what its signer is told of it; fresh keys and states.
    fn nodes(&self, home: &Path, plan: &Plan, is_other: bool) -> io::Result<(Vec<Node>, Vec<PathBuf>)> {
        std::fs::create_dir_all(home)?;
        let (mut nodes, mut configs) = (Vec::new(), Vec::new());
        for index in 0..self.validators {
            let chain = format!("bench-{index}");
            let unix = self.unix.then(|| home.join(format!("node-{index}.sock")));
            let node = Node::open(&chain, plan, unix)?;
            configs.push(write_config(home, index, &chain, &node.address, plan, is_other)?);
            nodes.push(node);
        }
        Ok((nodes, configs))
    }

    /// One signer from its start to its end.
    fn round(&self, home: &Path, plan: &Plan, command: Option<&str>, series: &mut Series) -> Result<(), Trouble> {
        let failed = |error: io::Error| Trouble::Directory(home.to_owned(), error);
        let (nodes, configs) = self.nodes(home, plan, command.is_some()).map_err(failed)?;
        let commands = self.commands(home, &configs, command).map_err(failed)?;
        let begun = Instant::now();
        let mut signers = Signers::start(&commands, home)?;
        let seen = load::run(&nodes, plan, begun).map_err(failed)?;
        let cost = signers.cost();
        let (ended, tail) = (signers.any_ended(), signers.log_tail());
        drop(signers);
        let errors = |node: &Seen| node.refusals + node.failures;
        let failure = seen.iter().filter(|node| errors(node) > 0).find_map(|node| node.failure.as_deref());
        let failure = failure.map(|why| {
            let ended = if ended { "a signer ended; " } else { "" };
            format!("{ended}first: {why}; its log ends: {tail}")
        });
        let mut latencies: Vec<u64> = seen.iter().flat_map(|node| node.latencies.iter().copied()).collect();
        series.all.extend(&latencies);
        let rates: Vec<f64> = seen.iter().map(Seen::rate).collect();
        series.rounds.push(Round {
            latency: figures(&mut latencies),
            signatures_per_second: rates.iter().sum(),
            signatures_per_second_by_connection: rates,
            refusals: seen.iter().map(|node| node.refusals).sum(),
            failures: seen.iter().map(|node| node.failures).sum(),
            failure,
            cost,
            start_ms: seen.iter().filter_map(|node| node.first).max().map(|first| first.as_secs_f64() * 1000.0),
        });
        Ok(())
    }

    /// Syscalls per signature of one signer, in the closed loop.
    fn count(&self, home: &Path, plan: &Plan, command: Option<&str>, name: &str) -> Result<Syscalls, Trouble> {
        let more = COUNTED.div_ceil(u32::from(self.validators)).max(UNCOUNTED);
        let home = home.join(if command.is_some() { "theirs" } else { "ours" });
        let short = self.count_pass(&home.join("short"), plan, UNCOUNTED, command, name)?;
        let long = self.count_pass(&home.join("long"), plan, UNCOUNTED + more, command, name)?;
        Ok(Syscalls::between(&short, &long, u64::from(more) * u64::from(self.validators)))
    }

    fn count_pass(
        &self,
        home: &Path,
        plan: &Plan,
        requests: u32,
        command: Option<&str>,
        name: &str,
    ) -> Result<Counts, Trouble> {
        let failed = |error: io::Error| Trouble::NotCounted(name.to_owned(), error.to_string());
        let plan = Plan { requests: requests as usize, interval: None, ..plan.clone() };
        let (nodes, configs) = self.nodes(home, &plan, command.is_some()).map_err(failed)?;
        let commands = self.commands(home, &configs, command).map_err(failed)?;
        let (commands, files) = syscalls::traced(commands, home);
        let mut signers = Signers::start(&commands, home)?;
        let seen = load::run(&nodes, &plan, Instant::now()).map_err(failed)?;
        if let Some(why) = seen.into_iter().find_map(|node| node.failure) {
            return Err(Trouble::NotCounted(name.to_owned(), format!("{why}; its log ends: {}", signers.log_tail())));
        }
        syscalls::counted(signers, &files).map_err(failed)
    }

    fn commands(&self, home: &Path, configs: &[PathBuf], command: Option<&str>) -> io::Result<Vec<Vec<String>>> {
        let text = |path: &Path| path.display().to_string();
        let Some(command) = command else {
            let program = text(&std::env::current_exe()?);
            // A ledger each: one has a bound on the processes that write to it, and opening it is one at a time.
            let of = |(index, configs): (usize, &[PathBuf])| {
                let mut words = vec![program.clone(), "kms".into(), "start".into()];
                words.extend([
                    "--ledger".into(),
                    text(&home.join(format!("ledger-{index}"))),
                    "--i-accept-volatile-ledger".into(),
                ]);
                words.push("--allow-root".into());
                words.extend(["--durability".into(), self.durability.clone()]);
                words.extend(configs.iter().flat_map(|config| ["-c".into(), text(config)]));
                words
            };
            // As even as can be: the first ones have one more.
            let (each, more) =
                (configs.len() / usize::from(self.processes), configs.len() % usize::from(self.processes));
            let (larger, smaller) = configs.split_at_checked(more * (each + 1)).unwrap_or((configs, &[]));
            return Ok(larger.chunks(each + 1).chain(smaller.chunks(each.max(1))).enumerate().map(of).collect());
        };
        let of = |config: &PathBuf| {
            command.split_whitespace().map(|word| word.replace("{config}", &text(config))).collect::<Vec<_>>()
        };
        Ok(configs.iter().map(of).collect())
    }
}

/// A key, an identity and a tmkms.toml.
fn write_config(
    home: &Path,
    index: u16,
    chain: &str,
    address: &str,
    plan: &Plan,
    is_other: bool,
) -> io::Result<PathBuf> {
    let secret = |name: &str| -> io::Result<PathBuf> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
        let path = home.join(format!("{name}-{index}.key"));
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        io::Write::write_all(&mut file, BASE64.encode(seed).as_bytes())?;
        Ok(path)
    };
    let (key, identity) = (secret("consensus")?, secret("identity")?);
    let state = home.join(format!("state-{index}.json"));
    // The other signer is told what ours finds out by itself.
    let protocol = if is_other { "protocol_version = \"v0.34\"\n" } else { "" };
    let extensions = if plan.extension_len.is_some() { "sign_extensions = true\n" } else { "" };
    let config = home.join(format!("tmkms-{index}.toml"));
    let text = format!(
        "[[chain]]\nid = \"{chain}\"\nkey_format = {{ type = \"hex\" }}\nstate_file = \"{}\"\n{extensions}\n\
         [[validator]]\nchain_id = \"{chain}\"\naddr = \"{address}\"\nsecret_key = \"{}\"\nreconnect = true\n{protocol}\n\
         [[providers.softsign]]\nchain_ids = [\"{chain}\"]\nkey_type = \"consensus\"\npath = \"{}\"\n",
        state.display(),
        identity.display(),
        key.display()
    );
    std::fs::write(&config, text)?;
    Ok(config)
}

/// Name of the file system under a path.
fn filesystem(path: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (point, kind) = (words.nth(1)?, words.next()?);
            path.starts_with(point).then(|| (point.len(), kind.to_owned()))
        })
        .max();
    best.map_or("unknown file system".into(), |(_, kind)| kind)
}
