//! `semel dev`: a Tendermint network in this process, whose four keys are signed for by the real signer over real sockets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semel_devnet_tendermint::{Config, Devnet, Snapshot, public_key};
use semel_kms::face;
use semel_kms::host::service::Service;
use semel_ledger::{Durability, Journal, Options};
use semel_ops::error::Report;
use semel_ops::health::Health;
use semel_ops::shell::Shell;
use semel_ops::shutdown::{Signals, Stop};
use std::io::IsTerminal;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Time between two looks at the network.
const FRAME: Duration = Duration::from_millis(250);

/// Longest wait for the next block before the run counts as failed.
const STALLED: Duration = Duration::from_secs(60);

/// Run a Tendermint network in this process, signed for by this signer
#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// End by itself after this many blocks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    blocks: Option<u64>,
    /// Add a node that asks for conflicting votes
    #[arg(long)]
    attack: bool,
    /// Validators
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=20))]
    validators: u8,
    /// Time between blocks, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 400, value_parser = clap::value_parser!(u64).range(20..=60_000))]
    block_time: u64,
    /// Keep keys, configurations and the ledger in this directory, which must not exist [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// The summary as JSON
    #[arg(long)]
    json: bool,
}

impl Dev {
    /// Runs it.
    pub(crate) fn run(self, shell: &Shell) -> Result<(), Report> {
        let failed = |what: &str, error: &(dyn std::error::Error + 'static)| Report::new(what.to_owned()).cause(error);
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

    fn run_in(&self, directory: &Path, shell: &Shell) -> Result<(), Report> {
        let io = |error: std::io::Error| Report::new("the network did not start").cause(&error);
        let stop = Stop::new();
        let _signals = Signals::install(&stop).map_err(io)?;
        let chain = format!("semel-dev-{}", seconds());
        let mut seeds = Vec::new();
        for _ in 0..self.validators {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| io(std::io::Error::other(error.to_string())))?;
            seeds.push(seed);
        }
        let mut config = Config::new(&chain, seeds.iter().map(public_key));
        config = config.block_interval(Duration::from_millis(self.block_time));
        config.attack = self.attack;
        let devnet = Devnet::start(config).map_err(|error| Report::new("the network did not start").cause(&error))?;
        let mut configs = Vec::new();
        for (index, (seed, address)) in seeds.iter().zip(devnet.addresses()).enumerate() {
            let attacker = devnet.attack_address().filter(|_| index == 0).map(ToString::to_string);
            let addresses: Vec<String> = std::iter::once(address.to_string()).chain(attacker).collect();
            configs.push(write_config(directory, index, &chain, seed, &addresses).map_err(io)?);
        }
        let mut options = Options::at(directory.join("ledger"));
        options.durability = Durability::Sync;
        // The network ends with this process, and its ledger may be as short-lived.
        options.allow_volatile = true;
        let plans = face::plans(&configs)?;
        let journal = Journal::open(options, &[]).map_err(|error| face::ledger_report(&error))?;
        let mut service = Service::new(journal, Health::new(), stop.clone(), false);
        service.apply(plans).map_err(|error| face::service_report(&error))?;
        let several = if self.validators == 1 { "validator" } else { "validators" };
        shell.status("Started", format!("{} {several} of {chain}, all keys in this process", self.validators));
        let live = std::io::stderr().is_terminal() && !self.json;
        let stalled = self.watch(&devnet, &stop, shell, live);
        // Nodes first: one without its signer waits for it.
        let last = devnet.stop();
        service.shutdown().map_err(|error| face::ledger_report(&error))?;
        self.conclude(&last, stalled, shell)
    }

    /// Shows the network until it is to end. True: no block came for too long.
    fn watch(&self, devnet: &Devnet, stop: &Stop, shell: &Shell, live: bool) -> bool {
        let (mut shown, mut height) = (0, 0);
        let mut still = Duration::ZERO;
        while !stop.wait_timeout(FRAME) {
            let snapshot = devnet.snapshot();
            if snapshot.blocks_settled > height {
                (height, still) = (snapshot.blocks_settled, Duration::ZERO);
            } else {
                still += FRAME;
            }
            if live {
                let screen = self.screen(&snapshot);
                let up = if shown > 0 { format!("\x1b[{shown}A\x1b[J") } else { String::new() };
                shell.note(format!("{up}{screen}"));
                shown = screen.lines().count();
            } else if still.is_zero() && !self.json {
                shell.status("Block", block_line(&snapshot));
            }
            if self.blocks.is_some_and(|blocks| snapshot.blocks_settled >= blocks) {
                return false;
            }
            if still > STALLED {
                return true;
            }
        }
        false
    }

    fn screen(&self, snapshot: &Snapshot) -> String {
        let mut out = String::new();
        let mut line = |text: String| out.extend([text.as_str(), "\n"]);
        let seconds = snapshot.running_for.as_secs();
        line(format!(
            "height #{}   {} blocks with every signature, {} without   {seconds} s   Ctrl-C ends it",
            snapshot.height,
            snapshot.blocks_settled - snapshot.blocks_incomplete,
            snapshot.blocks_incomplete
        ));
        line(format!(
            "{:<12} {:>10} {:>9} {:>9} {:>9} {:>9}  {}",
            "validator", "signed", "refused", "p50 ms", "p99 ms", "max ms", "signer"
        ));
        for (index, validator) in snapshot.validators.iter().enumerate() {
            let ms = |duration: Duration| format!("{:.2}", duration.as_secs_f64() * 1000.0);
            line(format!(
                "{index:<12} {:>10} {:>9} {:>9} {:>9} {:>9}  {}",
                validator.signed,
                validator.refused,
                ms(validator.latency.p50),
                ms(validator.latency.p99),
                ms(validator.latency.max),
                if validator.connected { "connected" } else { "waiting" }
            ));
        }
        if let Some(attack) = &snapshot.attack {
            line(format!(
                "attacker     {} conflicting requests, {} refused, {} granted",
                attack.asked, attack.refused, attack.granted
            ));
            if let Some(refusal) = &attack.last_refusal {
                line(format!("             last: {}", refusal.chars().take(100).collect::<String>()));
            }
        }
        line(format!("evidence of a double signature: {}", snapshot.evidence.len()));
        out.trim_end().to_owned()
    }

    fn conclude(&self, last: &Snapshot, stalled: bool, shell: &Shell) -> Result<(), Report> {
        let signed: u64 = last.validators.iter().map(|validator| validator.signed).sum();
        let refused: u64 = last.validators.iter().map(|validator| validator.refused).sum();
        let latency = last.slowest();
        let granted = last.attack.as_ref().map_or(0, |attack| attack.granted);
        let (asked, attack_refused) = last.attack.as_ref().map_or((0, 0), |attack| (attack.asked, attack.refused));
        let summary = serde_json::json!({
            "blocks": last.blocks_settled,
            "blocks_without_a_signature_of_ours": last.blocks_incomplete,
            "signatures": signed,
            "refusals": refused,
            "latency_p50_us": latency.p50.as_micros() as u64,
            "latency_p99_us": latency.p99.as_micros() as u64,
            "evidence": last.evidence.len(),
            "attack": { "asked": asked, "refused": attack_refused, "granted": granted },
        });
        let text = format!(
            "{} blocks, {} signatures, {} blocks without a signature of ours, {refused} refusals, p50 {:.2} ms, p99 {:.2} ms, \
             {} double signatures",
            last.blocks_settled,
            signed,
            last.blocks_incomplete,
            latency.p50.as_secs_f64() * 1000.0,
            latency.p99.as_secs_f64() * 1000.0,
            last.evidence.len()
        );
        let printed = if self.json { shell.json(&summary) } else { shell.line(&text) };
        printed.map_err(|error| Report::new("the summary was not written").cause(&error))?;
        if self.attack && !self.json {
            let line = format!("attack: {asked} conflicting requests, {attack_refused} refused, {granted} granted");
            shell.line(line).map_err(|error| Report::new("the summary was not written").cause(&error))?;
        }
        let short = self.blocks.is_some_and(|blocks| last.blocks_settled < blocks);
        if stalled {
            Err(Report::new(format!("no block for {} s", STALLED.as_secs())))
        } else if last.blocks_incomplete > 0 {
            Err(Report::new(format!("{} blocks lack a signature of ours", last.blocks_incomplete)))
        } else if !last.evidence.is_empty() || granted > 0 {
            Err(Report::new("a double signature was made").exit(semel_ops::error::Exit::Unsafe))
        } else if self.attack && asked == 0 && last.blocks_settled > 0 {
            Err(Report::new("the attacker did not come to ask anything"))
        } else if short {
            Err(Report::new("ended before the blocks that were asked for"))
        } else {
            Ok(())
        }
    }
}

fn block_line(snapshot: &Snapshot) -> String {
    let settled = snapshot.blocks.iter().rev().find(|block| block.settled);
    settled.map_or_else(String::new, |block| {
        format!(
            "#{} round {} by validator {}, {} of {} signatures",
            block.height,
            block.round,
            block.proposer,
            block.signers.len(),
            block.signers.len() + block.missing.len()
        )
    })
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A key, an identity and a tmkms.toml, as an operator has them.
fn write_config(
    directory: &Path,
    index: usize,
    chain: &str,
    seed: &[u8; 32],
    addresses: &[String],
) -> std::io::Result<PathBuf> {
    let secret = |name: &str, seed: &[u8; 32]| -> std::io::Result<PathBuf> {
        let path = directory.join(format!("{name}-{index}.key"));
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut file, BASE64.encode(seed).as_bytes())?;
        Ok(path)
    };
    let mut identity = [0; 32];
    getrandom::fill(&mut identity).map_err(|error| std::io::Error::other(error.to_string()))?;
    let (key, identity) = (secret("consensus", seed)?, secret("identity", &identity)?);
    let mut text = format!(
        "[[chain]]\nid = \"{chain}\"\nkey_format = {{ type = \"hex\" }}\nstate_file = \"{}\"\n",
        directory.join(format!("state-{index}.json")).display()
    );
    for address in addresses {
        text += &format!(
            "\n[[validator]]\nchain_id = \"{chain}\"\naddr = \"{address}\"\nsecret_key = \"{}\"\n",
            identity.display()
        );
    }
    text += &format!(
        "\n[[providers.softsign]]\nchain_ids = [\"{chain}\"]\nkey_type = \"consensus\"\npath = \"{}\"\n",
        key.display()
    );
    let path = directory.join(format!("tmkms-{index}.toml"));
    std::fs::write(&path, text)?;
    Ok(path)
}
