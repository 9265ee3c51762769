//! A Cardano network in this process: a node, stake pools with Mithril signers, and the aggregator that certifies what they sign.
//!
//! All of it is below one thread that lets everything else on this host go first while validators run, too: a vote does not wait for
//! a certificate. The first two epochs are moved by hand, because nobody could sign in them; then the clock is real.

use super::{Dev, Duty, FRAME};
use semel_devnet_cardano::certified::{Certified, CertifiedError, Conditions};
use semel_devnet_cardano::signer::{Conduct, Population};
use semel_devnet_cardano::watch::{Passed, Sealed, Watch};
use semel_devnet_cardano::{CERTIFICATE_FILE, CardanoNet, KES_KEY_FILE, NetError, Options, Pool, ProtocolParameters};
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use semel_ops::shutdown::{Stop, StopReason};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Label of a certificate's line.
pub(super) const SEALED: &str = "Sealed";
/// Where real blocks are looked for, from the directory of a clone.
const PREVIEW: &str = "../shared/data/cardano/preview/immutable";
/// How nice the network's threads are.
const NICE: i32 = 10;
/// Time between two looks of a signer at the aggregator.
const SIGNER_INTERVAL: Duration = Duration::from_millis(500);
/// Blocks between two certificates of transactions, on real blocks and on made-up ones, which are fewer: some in each epoch, and not
/// more than one can read.
const STEPS: [u64; 2] = [240, 30];
/// Epochs that the aggregator keeps.
const RETENTION: u64 = 20;
/// Of about 70 lotteries that are won by anybody, so many have to be signed: no pool can do that alone.
const PARAMETERS: ProtocolParameters = ProtocolParameters { k: 50, m: 100, phi_f: 0.7 };

/// Why the network does not run.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Certified(#[from] CertifiedError),
    #[error("the database does not answer: {0}")]
    Look(String),
    #[error("{0}: {1}")]
    Keys(String, #[source] std::io::Error),
    #[error("no thread can be had: {0}")]
    Thread(#[source] std::io::Error),
    #[error("its runtime has ended: {0}")]
    Ended(String),
}

/// Where it is reached, and the keys that its clients need.
#[derive(Debug, Clone)]
struct Reached {
    url: String,
    genesis: String,
    ancillary: String,
}

/// A pool whose signer is another program.
#[derive(Debug, Clone)]
struct Left {
    party: String,
    /// The environment of its signer, with the paths of its keys.
    environment: PathBuf,
}

/// What the network's thread tells.
#[derive(Debug, Default)]
struct Told {
    reached: Option<Reached>,
    left: Vec<Left>,
    epoch: u64,
    sealed: Vec<Sealed>,
    passed: Vec<Passed>,
    trouble: Option<String>,
    failure: Option<String>,
}

type Shared = Arc<Mutex<Told>>;

fn told(shared: &Shared) -> MutexGuard<'_, Told> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running network.
pub(super) struct Network {
    stop: Stop,
    shared: Shared,
    thread: Option<JoinHandle<()>>,
    seen: Seen,
}

/// What was seen so far.
#[derive(Debug, Default, Clone)]
struct Seen {
    pools: u64,
    reached: Option<Reached>,
    epoch: u64,
    certificates: u64,
    by_kind: BTreeMap<String, (u64, String)>,
    epochs: u64,
    gaps: Vec<Passed>,
    transaction: Option<String>,
    block: Option<String>,
    trouble: Option<String>,
    failure: Option<String>,
}

/// What one look has seen.
pub(super) struct Look {
    /// New lines: label and text.
    pub(super) lines: Vec<(&'static str, String)>,
    /// The same for programs.
    pub(super) events: Vec<Value>,
    /// Certificates so far, but for the genesis.
    pub(super) certificates: u64,
    /// Whether an epoch passed without a certificate of every type.
    pub(super) has_gap: bool,
    /// Whether the network ended by itself.
    pub(super) has_ended: bool,
}

/// A network that has ended.
pub(super) struct Ended {
    seen: Seen,
}

/// What the thread is to run.
struct Plan {
    options: Options,
    conditions: Conditions,
    epoch_time: Duration,
    /// So many of the largest pools have signers of another program, which find what they need here.
    external: (usize, PathBuf),
}

impl Network {
    /// Starts it; it serves a little later.
    pub(super) fn start(dev: &Dev, directory: &Path, shell: &Shell) -> Result<Self, Report> {
        let failed = |error: &(dyn std::error::Error + 'static)| Report::new("the network did not start").cause(error);
        let directory = directory.join("cardano");
        let stop = Stop::new();
        let mut options = Options::new(directory.join("node"));
        std::fs::create_dir_all(&options.directory).map_err(|error| failed(&error))?;
        options.immutable = match &dev.immutable {
            Some(path) if !path.join("00000.chunk").is_file() => {
                return Err(Report::new(format!("there is no 00000.chunk in {}", path.display())));
            }
            Some(path) => Some(path.clone()),
            None => Some(PathBuf::from(PREVIEW)).filter(|path| path.is_dir()),
        };
        options.pools = dev.pools;
        options.parameters = PARAMETERS;
        let [real, made_up] = STEPS;
        let (blocks, step) = if options.immutable.is_some() { ("real", real) } else { ("made-up", made_up) };
        shell.status(
            "Started",
            format!("{} stake pools with signers, {blocks} blocks, epochs of {} s", dev.pools, dev.epoch_time),
        );
        let mut conditions = Conditions::new(directory.join("aggregator"));
        conditions.step = step;
        conditions.retention = Some(RETENTION);
        conditions.stop = stop.clone();
        let external = (usize::try_from(dev.external).unwrap_or(usize::MAX), directory.join("pools"));
        let plan = Plan { options, conditions, epoch_time: Duration::from_secs(dev.epoch_time), external };
        let shared = Shared::default();
        let (mine, mine_stop) = (Arc::clone(&shared), stop.clone());
        let has_validators = dev.has(Duty::Kms);
        let run = move || {
            if has_validators {
                // What this thread starts is as nice as it is. Without it everything works, only less smoothly.
                let _nice = rustix::process::setpriority_process(None, NICE);
            }
            match run(plan, &mine, &mine_stop) {
                Ok(()) | Err(Failure::Certified(CertifiedError::Stopped)) => {}
                Err(failure) => told(&mine).failure = Some(failure.to_string()),
            }
        };
        let seen = Seen { pools: dev.pools, ..Seen::default() };
        let thread = std::thread::Builder::new().name("cardano".to_owned()).spawn(run);
        Ok(Self { stop, shared, thread: Some(thread.map_err(|error| failed(&error))?), seen })
    }

    /// Looks once.
    pub(super) fn look(&mut self) -> Look {
        let mut told = told(&self.shared);
        let (mut lines, mut events) = (Vec::new(), Vec::new());
        let seen = &mut self.seen;
        if let Some(reached) = told.reached.take() {
            lines.push(("Serving", reached.url.clone()));
            lines.push(("Genesis key", reached.genesis.clone()));
            lines.push(("Ancillary", reached.ancillary.clone()));
            events.push(json!({
                "event": "serving",
                "url": reached.url,
                "genesis_verification_key": reached.genesis,
                "ancillary_verification_key": reached.ancillary,
            }));
            seen.reached = Some(reached);
        }
        for Left { party, environment } in told.left.drain(..) {
            lines.push(("Pool", format!("{party} waits for its signer: {}", environment.display())));
            events.push(json!({ "event": "pool", "party_id": party, "environment": environment }));
        }
        for sealed in told.sealed.drain(..) {
            lines.push((SEALED, line(&sealed, seen.pools)));
            events.push(event(&sealed));
            seen.take(sealed);
        }
        for passed in told.passed.drain(..) {
            events.push(json!({ "event": "epoch passed", "epoch": passed.epoch, "without": passed.without }));
            seen.epochs += 1;
            if !passed.without.is_empty() {
                lines.push(("Missing", gap(&passed)));
                seen.gaps.push(passed);
            }
        }
        seen.epoch = told.epoch;
        seen.trouble.clone_from(&told.trouble);
        seen.failure.clone_from(&told.failure);
        let (certificates, has_gap, has_ended) = (seen.certificates, !seen.gaps.is_empty(), seen.failure.is_some());
        Look { lines, events, certificates, has_gap, has_ended }
    }

    /// What is going on, for a terminal.
    pub(super) fn screen(&self) -> String {
        let seen = &self.seen;
        let Some(reached) = &seen.reached else { return "The Cardano network begins".to_owned() };
        let mut out = format!("epoch {}   {} certificates   {}\n", seen.epoch, seen.certificates, reached.url);
        out += &format!("{:<26} {:>6}  newest\n", "type", "sealed");
        for (kind, (count, newest)) in &seen.by_kind {
            out += &format!("{kind:<26} {count:>6}  {newest}\n");
        }
        out += &format!("{} epochs passed, {} without a certificate of every type", seen.epochs, seen.gaps.len());
        if let Some(trouble) = &seen.trouble {
            out += &format!("\ntrouble: {}", trouble.chars().take(100).collect::<String>());
        }
        out
    }

    /// Ends it.
    pub(super) fn end(mut self) -> Ended {
        self.finish();
        self.look();
        Ended { seen: self.seen.clone() }
    }

    fn finish(&mut self) {
        self.stop.stop(StopReason::Asked);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            drop(thread.join());
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Seen {
    fn take(&mut self, sealed: Sealed) {
        if sealed.kind != "Genesis" {
            self.certificates += 1;
        }
        // As wide as a terminal is at least.
        let Sealed { beacon, epoch, signers, .. } = &sealed;
        let newest = format!("{beacon}, epoch {epoch}, {signers} of {} signed", self.pools);
        let of_kind = self.by_kind.entry(sealed.kind).or_default();
        *of_kind = (of_kind.0 + 1, newest);
        self.transaction = sealed.transaction.or(self.transaction.take());
        self.block = sealed.block.or(self.block.take());
    }
}

impl Ended {
    /// In numbers.
    pub(super) fn summary(&self) -> Value {
        let seen = &self.seen;
        let by_kind: BTreeMap<_, _> = seen.by_kind.iter().map(|(kind, (count, _))| (kind, count)).collect();
        let reached = seen.reached.as_ref();
        json!({
            "certificates": seen.certificates,
            "by_type": by_kind,
            "epoch": seen.epoch,
            "epochs_passed": seen.epochs,
            "epochs_without_every_type": seen.gaps.len(),
            "url": reached.map(|reached| &reached.url),
            "genesis_verification_key": reached.map(|reached| &reached.genesis),
            "ancillary_verification_key": reached.map(|reached| &reached.ancillary),
            "transaction": seen.transaction,
            "block": seen.block,
        })
    }

    /// In words.
    pub(super) fn line(&self) -> String {
        let seen = &self.seen;
        let kinds = seen.by_kind.keys().filter(|kind| *kind != "Genesis").count();
        format!(
            "{} certificates of {kinds} types, {} epochs passed, {} without a certificate of every type",
            seen.certificates,
            seen.epochs,
            seen.gaps.len()
        )
    }

    /// Whether it went as it should.
    pub(super) fn judge(&self, dev: &Dev) -> Result<(), Report> {
        let seen = &self.seen;
        if let Some(failure) = &seen.failure {
            Err(Report::new("the Cardano network ended").because(failure))
        } else if let Some(passed) = seen.gaps.first() {
            let report = Report::new(gap(passed));
            Err(seen.trouble.iter().fold(report, |report, trouble| report.because(trouble)))
        } else if dev.certificates.is_some_and(|certificates| seen.certificates < certificates) {
            Err(Report::new("ended before the certificates that were asked for"))
        } else {
            Ok(())
        }
    }
}

fn gap(passed: &Passed) -> String {
    format!("epoch {} passed without a certificate of {}", passed.epoch, passed.without.join(", "))
}

fn line(sealed: &Sealed, pools: u64) -> String {
    let Sealed { kind, beacon, epoch, signers, hash, .. } = sealed;
    let hash = hash.get(..12).unwrap_or(hash);
    format!("{kind} {beacon}, epoch {epoch}, {signers} of {pools} signed, {hash}")
}

fn event(sealed: &Sealed) -> Value {
    json!({
        "event": "certificate",
        "type": sealed.kind,
        "beacon": sealed.beacon,
        "epoch": sealed.epoch,
        "hash": sealed.hash,
        "signers": sealed.signers,
        "block": sealed.block,
        "transaction": sealed.transaction,
    })
}

/// The network from its beginning to its end.
fn run(plan: Plan, shared: &Shared, stop: &Stop) -> Result<(), Failure> {
    let mut net = CardanoNet::start(plan.options)?;
    let certified = Certified::start(&net, &plan.conditions)?;
    let mut watch = Watch::new(&net, &certified);
    told(shared).reached = Some(Reached {
        url: certified.url().to_owned(),
        genesis: certified.genesis_key().to_owned(),
        ancillary: certified.ancillary_key().to_owned(),
    });
    let mut signers = net.signers(certified.url()).map_err(CertifiedError::from)?;
    certified.begin(&net, &mut signers)?;
    let (external, directory) = plan.external;
    for (pool, signer) in net.pools().iter().zip(&mut signers).rev().take(external) {
        signer.set_conduct(Conduct::Leaves);
        let left = leave(pool, &net, &certified, &directory);
        told(shared).left.push(left.map_err(|why| Failure::Keys(directory.display().to_string(), why))?);
    }
    net.start_clock(plan.epoch_time)?;
    // What a tick brings is seen in the certificates, or missing there.
    let _signers = Population::start(signers, SIGNER_INTERVAL, |_, _| {}).map_err(Failure::Thread)?;
    loop {
        let (sealed, passed) = watch.look(&net, &certified).map_err(|error| Failure::Look(error.to_string()))?;
        let trouble = certified.running().engine().standing().trouble;
        let mut told = told(shared);
        told.epoch = *net.epoch();
        told.sealed.extend(sealed);
        told.passed.extend(passed);
        told.trouble.clone_from(&trouble);
        drop(told);
        if certified.running().has_ended() {
            return Err(Failure::Ended(trouble.unwrap_or_default()));
        }
        if stop.wait_timeout(FRAME) {
            return Ok(());
        }
    }
}

/// Writes what a signer of another program needs to sign for a pool.
fn leave(pool: &Pool, net: &CardanoNet, certified: &Certified, directory: &Path) -> std::io::Result<Left> {
    let directory = std::path::absolute(directory.join(&pool.party_id))?;
    std::fs::create_dir_all(&directory)?;
    pool.save(&directory)?;
    let of = |name: &str| directory.join(name).display().to_string();
    let security = net.security_parameter().to_string();
    let settings = [
        ("NETWORK", net.network().to_string()),
        ("CARDANO_NODE_SOCKET_PATH", std::path::absolute(net.socket())?.display().to_string()),
        ("CARDANO_CLI_PATH", "cardano-cli".to_owned()),
        ("DB_DIRECTORY", std::path::absolute(net.db_directory())?.display().to_string()),
        ("DATA_STORES_DIRECTORY", of("stores")),
        ("KES_SECRET_KEY_PATH", of(KES_KEY_FILE)),
        ("OPERATIONAL_CERTIFICATE_PATH", of(CERTIFICATE_FILE)),
        ("AGGREGATOR_ENDPOINT", certified.url().to_owned()),
        ("ERA_READER_ADAPTER_TYPE", "bootstrap".to_owned()),
        ("RUN_INTERVAL", SIGNER_INTERVAL.as_millis().to_string()),
        ("STORE_RETENTION_LIMIT", "5".to_owned()),
        ("NETWORK_SECURITY_PARAMETER", security.clone()),
        ("PRELOAD_SECURITY_PARAMETER", security),
        // By default ten seconds pass before it posts: here they are an epoch. With its delayer skipped it posts nothing.
        ("SIGNATURE_PUBLISHER_DELAYER_DELAY_MS", SIGNER_INTERVAL.as_millis().to_string()),
        ("SIGNATURE_PUBLISHER_RETRY_DELAY_MS", SIGNER_INTERVAL.as_millis().to_string()),
    ];
    let environment = directory.join("signer.env");
    let lines: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    std::fs::write(&environment, lines)?;
    Ok(Left { party: pool.party_id.clone(), environment })
}
