//! A Tendermint network in this process, whose keys are signed for by the real signer over real sockets.

use super::{Dev, FRAME, seconds};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semel_devnet_tendermint::{Config, Devnet, Snapshot, public_key};
use semel_kms::face;
use semel_kms::host::service::Service;
use semel_ledger::{Durability, Journal, Options};
use semel_ops::error::{Exit, Report};
use semel_ops::health::Health;
use semel_ops::shell::Shell;
use semel_ops::shutdown::Stop;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for the next block before the run counts as failed.
const STALLED: Duration = Duration::from_secs(60);

/// A running network and its signer.
pub(super) struct Network {
    devnet: Devnet,
    service: Service,
    height: u64,
    still: Duration,
}

/// What one look has seen.
pub(super) struct Look {
    /// The newest block, if it is new.
    pub(super) line: Option<String>,
    /// Blocks so far.
    pub(super) blocks: u64,
    /// Whether no block came for too long.
    pub(super) stalled: bool,
}

/// A network that has ended.
pub(super) struct Ended {
    last: Snapshot,
    stalled: bool,
}

impl Network {
    /// Starts nodes and signer.
    pub(super) fn start(dev: &Dev, directory: &Path, stop: &Stop, shell: &Shell) -> Result<Self, Report> {
        let io = |error: std::io::Error| Report::new("the network did not start").cause(&error);
        let chain = format!("semel-dev-{}", seconds());
        let mut seeds = Vec::new();
        for _ in 0..dev.validators {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| io(std::io::Error::other(error.to_string())))?;
            seeds.push(seed);
        }
        let mut config = Config::new(&chain, seeds.iter().map(public_key));
        config = config.block_interval(Duration::from_millis(dev.block_time));
        config.attack = dev.attack;
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
        let several = if dev.validators == 1 { "validator" } else { "validators" };
        shell.status("Started", format!("{} {several} of {chain}, all keys in this process", dev.validators));
        Ok(Self { devnet, service, height: 0, still: Duration::ZERO })
    }

    /// Looks once.
    pub(super) fn look(&mut self) -> Look {
        let snapshot = self.devnet.snapshot();
        let is_new = snapshot.blocks_settled > self.height;
        if is_new {
            (self.height, self.still) = (snapshot.blocks_settled, Duration::ZERO);
        } else {
            self.still += FRAME;
        }
        let line = is_new.then(|| block_line(&snapshot));
        Look { line, blocks: snapshot.blocks_settled, stalled: self.still > STALLED }
    }

    /// What is going on, for a terminal.
    pub(super) fn screen(&self) -> String {
        let snapshot = self.devnet.snapshot();
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

    /// Ends it.
    pub(super) fn end(self) -> Result<Ended, Report> {
        // Nodes first: one without its signer waits for it.
        let last = self.devnet.stop();
        self.service.shutdown().map_err(|error| face::ledger_report(&error))?;
        Ok(Ended { last, stalled: self.still > STALLED })
    }
}

impl Ended {
    /// Requests of the attacker: all, refused, granted.
    fn attack(&self) -> (u64, u64, u64) {
        self.last.attack.as_ref().map_or((0, 0, 0), |attack| (attack.asked, attack.refused, attack.granted))
    }

    fn signed_and_refused(&self) -> (u64, u64) {
        let sum = |(signed, refused): (u64, u64), (more, others): (u64, u64)| (signed + more, refused + others);
        self.last.validators.iter().map(|validator| (validator.signed, validator.refused)).fold((0, 0), sum)
    }

    /// In numbers.
    pub(super) fn summary(&self) -> serde_json::Map<String, serde_json::Value> {
        let (last, latency) = (&self.last, self.last.slowest());
        let ((signed, refused), (asked, attack_refused, granted)) = (self.signed_and_refused(), self.attack());
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
        summary.as_object().cloned().unwrap_or_default()
    }

    /// In words.
    pub(super) fn lines(&self, dev: &Dev) -> Vec<String> {
        let (last, latency) = (&self.last, self.last.slowest());
        let ((signed, refused), (asked, attack_refused, granted)) = (self.signed_and_refused(), self.attack());
        let mut lines = vec![format!(
            "{} blocks, {} signatures, {} blocks without a signature of ours, {refused} refusals, p50 {:.2} ms, p99 {:.2} ms, \
             {} double signatures",
            last.blocks_settled,
            signed,
            last.blocks_incomplete,
            latency.p50.as_secs_f64() * 1000.0,
            latency.p99.as_secs_f64() * 1000.0,
            last.evidence.len()
        )];
        if dev.attack {
            let line = format!("attack: {asked} conflicting requests, {attack_refused} refused, {granted} granted");
            lines.push(line);
        }
        lines
    }

    /// Whether it went as it should.
    pub(super) fn judge(&self, dev: &Dev) -> Result<(), Report> {
        let (last, (asked, _, granted)) = (&self.last, self.attack());
        if self.stalled {
            Err(Report::new(format!("no block for {} s", STALLED.as_secs())))
        } else if last.blocks_incomplete > 0 {
            Err(Report::new(format!("{} blocks lack a signature of ours", last.blocks_incomplete)))
        } else if !last.evidence.is_empty() || granted > 0 {
            Err(Report::new("a double signature was made").exit(Exit::Unsafe))
        } else if dev.attack && asked == 0 && last.blocks_settled > 0 {
            Err(Report::new("the attacker did not come to ask anything"))
        } else if dev.blocks.is_some_and(|blocks| last.blocks_settled < blocks) {
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
