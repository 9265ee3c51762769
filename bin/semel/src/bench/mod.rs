//! `semel kms bench`: this signer under load, and another one beside it, in turn, in one run.

mod floor;
mod load;
mod process;
mod report;
mod stats;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use load::{Node, Plan};
use process::{Cost, Signers};
use report::{Report as Results, Round, Series};
use semel_devnet_tendermint::privval::Family;
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use stats::figures;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Samples of each floor, per round.
const FLOOR_SAMPLES: usize = 500;

/// Measure this signer, and another one beside it
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Validators that sign at the same time: one process of ours, one each of the other signer's
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
    validators: u16,
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
    /// Write report.json and latency.svg there
    #[arg(long, value_name = "DIR", overrides_with = "report")]
    report: Option<PathBuf>,
    /// The table as JSON
    #[arg(long)]
    json: bool,
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
        let failed = |error: io::Error| Report::new("the benchmark failed").because(error.to_string());
        let base = match &self.dir {
            Some(dir) => dir.clone(),
            None => std::env::current_dir().map_err(failed)?,
        };
        let home = base.join(format!("semel-bench-{}", std::process::id()));
        std::fs::create_dir_all(&home).map_err(failed)?;
        let home = std::fs::canonicalize(&home).map_err(failed)?;
        let results = self.measure(&home, shell);
        // What could not be removed is named by the system; the figures count all the same.
        let removed = std::fs::remove_dir_all(&home);
        let results = results.map_err(failed)?;
        removed.map_err(failed)?;
        if let Some(dir) = &self.report {
            let json = serde_json::to_vec_pretty(&results).map_err(|error| failed(error.into()))?;
            std::fs::create_dir_all(dir).map_err(failed)?;
            std::fs::write(dir.join("report.json"), json).map_err(failed)?;
            std::fs::write(dir.join("latency.svg"), results.svg()).map_err(failed)?;
            shell.status("Wrote", dir.join("report.json").display());
        }
        let printed = if self.json { shell.json(&results) } else { shell.data(results.table().as_bytes()) };
        printed.map_err(failed)?;
        let refusals: u64 = results.series.iter().flat_map(|series| &series.rounds).map(|round| round.refusals).sum();
        match refusals {
            0 => Ok(()),
            count => Err(Report::new(format!("{count} requests were refused"))),
        }
    }

    fn measure(&self, home: &Path, shell: &Shell) -> io::Result<Results> {
        let plan = Plan {
            requests: self.requests as usize,
            interval: self.rate.map(|rate| Duration::from_secs_f64(1.0 / rate.max(0.001))),
            extension_len: self.extension,
            proposals: self.proposals,
            family: if self.extension.is_some() { Family::V038 } else { Family::V034 },
        };
        let mut ours = Series { name: format!("semel ({})", self.durability), rounds: Vec::new(), all: Vec::new() };
        let mut theirs = self.against.as_ref().map(|command| {
            let name = command.split_whitespace().next().unwrap_or_default();
            let name = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
            Series { name, rounds: Vec::new(), all: Vec::new() }
        });
        let (mut disk, mut loopback) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            shell.status("Measuring", format!("round {round} of {}", self.rounds));
            disk.extend(floor::disk(home, FLOOR_SAMPLES)?);
            loopback.extend(floor::loopback(FLOOR_SAMPLES)?);
            self.round(&home.join(format!("ours-{round}")), &plan, None, &mut ours)?;
            if let (Some(series), Some(command)) = (&mut theirs, &self.against) {
                self.round(&home.join(format!("theirs-{round}")), &plan, Some(command), series)?;
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
            disk_floor: figures(&mut disk),
            loopback_floor: figures(&mut loopback),
            series: std::iter::once(ours).chain(theirs).collect(),
            ratios: Vec::new(),
        };
        Ok(results.with_ratios())
    }

    /// One signer, fresh keys and states, from its start to its end.
    fn round(&self, home: &Path, plan: &Plan, command: Option<&str>, series: &mut Series) -> io::Result<()> {
        std::fs::create_dir_all(home)?;
        let mut nodes = Vec::new();
        let mut configs = Vec::new();
        for index in 0..self.validators {
            let chain = format!("bench-{index}");
            let unix = self.unix.then(|| home.join(format!("node-{index}.sock")));
            let node = Node::open(&chain, plan, unix)?;
            configs.push(write_config(home, index, &chain, &node.address, plan, command.is_some())?);
            nodes.push(node);
        }
        let begun = Instant::now();
        let mut signers = Signers::start(&self.commands(home, &configs, command)?, home)?;
        let seen = load::run(&nodes, plan, begun);
        let cost: Cost = signers.cost();
        let (ended, tail) = (signers.any_ended(), signers.log_tail());
        drop(signers);
        let (mut latencies, mut refusals, mut rate, mut first) = (Vec::new(), 0, 0.0, Duration::ZERO);
        let seen = seen.map_err(|error| {
            let ended = if ended { "a signer ended; " } else { "" };
            io::Error::other(format!("{}: {ended}{error}; its log ends: {tail}", series.name))
        })?;
        for node in seen {
            rate += node.latencies.len() as f64 / node.took.as_secs_f64();
            refusals += node.refusals;
            first = first.max(node.first);
            latencies.extend(node.latencies);
        }
        series.all.extend(&latencies);
        series.rounds.push(Round {
            latency: figures(&mut latencies),
            signatures_per_second: rate,
            refusals,
            cost,
            start_ms: first.as_secs_f64() * 1000.0,
        });
        Ok(())
    }

    fn commands(&self, home: &Path, configs: &[PathBuf], command: Option<&str>) -> io::Result<Vec<Vec<String>>> {
        let text = |path: &Path| path.display().to_string();
        let Some(command) = command else {
            let mut words = vec![text(&std::env::current_exe()?), "kms".into(), "start".into()];
            words.extend(["--ledger".into(), text(&home.join("ledger")), "--i-accept-volatile-ledger".into()]);
            words.push("--allow-root".into());
            words.extend(["--durability".into(), self.durability.clone()]);
            words.extend(configs.iter().flat_map(|config| ["-c".into(), text(config)]));
            return Ok(vec![words]);
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
