//! The running signer: chains, their nodes, and the ledger under them. Started once, changed by reloads, ended in order.

use super::chain::Chain;
use super::node::Node;
use super::plan::NodePlan;
use super::state::{self, StateNews};
use super::worker::{Door, STACK_LEN, Worker};
use crate::core::session::{Extensions, Terms};
use semel_guard::{Guard, HOLD_HEIGHTS, Key, Lane, Ledger, Subject};
use semel_ledger::{Claim, Journal, LedgerError};
use semel_ops::health::Health;
use semel_ops::shutdown::{Stop, StopReason};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for requests in hand at the end. systemd and operators see an end within a second.
const DRAIN_MAX: Duration = Duration::from_millis(800);

/// One key on one chain, and the nodes it signs for.
pub struct ChainPlan {
    /// The key and the chain.
    pub subject: Subject,
    /// The key.
    pub key: Key,
    /// The key as its operators know it.
    pub key_text: String,
    /// tmkms's state file.
    pub state_file: PathBuf,
    /// A missing state file is an error.
    pub require_state: bool,
    /// A program that tells the height of the chain.
    pub hook: Option<super::hook::Hook>,
    /// When vote extensions are signed.
    pub extensions: Extensions,
    /// The nodes.
    pub nodes: Vec<NodePlan>,
}

/// A signer that could not start, or a reload that changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A state file.
    #[error(transparent)]
    State(#[from] state::StateError),
    /// A hook.
    #[error(transparent)]
    Hook(#[from] super::hook::HookError),
    /// No thread.
    #[error("no thread for {0}: {1}")]
    Thread(String, std::io::Error),
    /// The key was handed over from this host.
    #[error("the key of {0} was handed over to another host, and signs nothing here")]
    HandedOver(String),
    /// Something that only a restart can change.
    #[error("{0} cannot change while the signer runs: restart it")]
    NeedsRestart(String),
}

struct Running {
    subject: Subject,
    fingerprint: String,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    /// No other process of this host dials this node with this key.
    _claim: Option<Claim>,
}

struct Served {
    chain: Arc<Chain>,
    key_text: String,
    state_file: PathBuf,
}

/// The running signer.
pub struct Service {
    journal: Journal,
    health: Health,
    stop: Stop,
    dry_run: bool,
    chains: Vec<Served>,
    nodes: Vec<Running>,
    /// Threads that serve the nodes of keys in memory: one per core, at most.
    workers: Vec<Worker>,
    live: Arc<AtomicUsize>,
}

impl Service {
    /// A signer over this ledger, with nothing to sign for yet. `stop` is told when its last node has ended.
    pub fn new(journal: Journal, health: Health, stop: Stop, dry_run: bool) -> Self {
        let (chains, nodes, workers) = (Vec::new(), Vec::new(), Vec::new());
        Self { journal, health, stop, dry_run, chains, nodes, workers, live: Arc::new(AtomicUsize::new(0)) }
    }

    /// Whether it only connects and answers, and signs nothing.
    pub const fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Makes the running signer be what `plans` say: new chains and nodes start, those that are gone stop, the others are not
    /// touched. On an error nothing has stopped.
    pub fn apply(&mut self, plans: Vec<ChainPlan>) -> Result<(), ServiceError> {
        let before: Vec<Subject> = self.chains.iter().map(|served| served.chain.subject().clone()).collect();
        let wanted: Vec<Subject> = plans.iter().map(|plan| plan.subject.clone()).collect();
        let applied = self.take_in(plans);
        if applied.is_err() {
            // Keys that came with it are free again.
            self.chains.retain(|served| before.contains(served.chain.subject()));
            let fresh: Vec<Subject> = wanted.into_iter().filter(|subject| !before.contains(subject)).collect();
            self.journal.release(&fresh);
        }
        applied
    }

    fn take_in(&mut self, plans: Vec<ChainPlan>) -> Result<(), ServiceError> {
        let subjects: Vec<Subject> = plans.iter().map(|plan| plan.subject.clone()).collect();
        self.journal.register(&subjects)?;
        for subject in &subjects {
            // Each request would be refused all the same; this says so before a validator is missed.
            if self.journal.history(subject, Lane::Tendermint).is_ok_and(|history| history.tombstone) {
                return Err(ServiceError::HandedOver(subject.chain.to_string()));
            }
        }
        for plan in &plans {
            let known = self.chains.iter().find(|served| *served.chain.subject() == plan.subject);
            if known.is_some_and(|served| served.state_file != plan.state_file) {
                return Err(ServiceError::NeedsRestart(format!("the state_file of {}", plan.subject.chain)));
            }
        }
        let mut wanted = Vec::new();
        for plan in plans {
            let ChainPlan { subject, key, key_text, state_file, require_state, hook, extensions, nodes } = plan;
            let known = self.chains.iter().find(|served| *served.chain.subject() == subject);
            let chain = match known {
                Some(served) => Arc::clone(&served.chain),
                None => {
                    tracing::info!(
                        "[keyring:{}] added consensus {} key: {key_text}",
                        key.provider(),
                        algorithm(&subject)
                    );
                    let mirror = match self.dry_run {
                        // Nothing is signed, so nothing has to be raised: a wrong file closes no height.
                        true => {
                            tracing::info!(
                                "[{}] {}",
                                subject.chain,
                                state::preview(&self.journal, &subject, &state_file, require_state)?
                            );
                            None
                        }
                        false => {
                            let (mut mirror, news) =
                                state::reconcile(&self.journal, &subject, &state_file, require_state)?;
                            say(&subject, &news);
                            if let Some(hook) = hook {
                                let before = self
                                    .journal
                                    .history(&subject, Lane::Tendermint)
                                    .map_err(state::StateError::from)?
                                    .floor;
                                hook.raise_floor(&self.journal, &subject, &self.stop)?;
                                state::follow(&self.journal, &subject, before, &mut mirror, &state_file)?;
                            }
                            Some(mirror)
                        }
                    };
                    if let Some(hold) = self.journal.hold(&subject) {
                        tracing::warn!(
                            "[{}] this key signs nothing yet: {}, so it watches for {HOLD_HEIGHTS} heights above the first that a node asks for (GUARD-0007)",
                            subject.chain,
                            hold.cause
                        );
                    }
                    let guard = Guard::new(self.journal.clone());
                    let chain = Arc::new(Chain::new(subject.clone(), key, guard, mirror));
                    self.chains.push(Served { chain: Arc::clone(&chain), key_text, state_file });
                    chain
                }
            };
            for node in nodes {
                let terms = Terms {
                    chain_id: subject.chain.as_str().to_owned(),
                    public_key: subject.key.clone(),
                    max_height: node.max_height,
                    extensions,
                    raw_bytes: node.raw_bytes.clone(),
                };
                let fingerprint = format!("{:?} {} {extensions:?}", subject, node.fingerprint());
                wanted.push((subject.clone(), fingerprint, Arc::clone(&chain), terms, node));
            }
        }
        let (kept, gone): (Vec<Running>, Vec<Running>) = std::mem::take(&mut self.nodes)
            .into_iter()
            .partition(|running| wanted.iter().any(|(_, fingerprint, ..)| *fingerprint == running.fingerprint));
        wanted.retain(|(_, fingerprint, ..)| !kept.iter().any(|running| running.fingerprint == *fingerprint));
        self.nodes = kept;
        // A node that another process has is refused before anything stops.
        let claim = |subject: &Subject, plan: &NodePlan| self.journal.claim_node(subject, &plan.endpoint.to_string());
        let claims: Result<Vec<Option<Claim>>, LedgerError> =
            wanted.iter().map(|(subject, .., plan)| claim(subject, plan)).collect();
        let claims = match claims {
            Ok(claims) => claims,
            Err(error) => {
                self.nodes.extend(gone);
                return Err(error.into());
            }
        };
        end(gone, Instant::now() + DRAIN_MAX);
        for ((subject, fingerprint, chain, terms, plan), claimed) in wanted.into_iter().zip(claims) {
            // One that this process had until now is claimed anew.
            let claimed = match claimed {
                Some(claimed) => Some(claimed),
                None => self.journal.claim_node(&subject, &plan.endpoint.to_string())?,
            };
            let worker = (!chain.blocks()).then(|| self.worker()).transpose()?;
            let node = Node { plan, chain, terms, health: self.health.clone(), dry_run: self.dry_run, worker };
            let running = self.start(subject, fingerprint, node, claimed)?;
            self.nodes.push(running);
        }
        let released: Vec<Subject> = self
            .chains
            .iter()
            .map(|served| served.chain.subject().clone())
            .filter(|subject| !subjects.contains(subject))
            .collect();
        self.chains.retain(|served| subjects.contains(served.chain.subject()));
        self.journal.release(&released);
        Ok(())
    }

    /// Who serves the next node.
    fn worker(&mut self) -> Result<Arc<Door>, ServiceError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.workers.len() < cores {
            let name = format!("signer {}", self.workers.len());
            self.workers.push(Worker::start(&name).map_err(|error| ServiceError::Thread(name, error))?);
        }
        let fewest = self.workers.iter().min_by_key(|worker| worker.nodes()).map(Worker::door);
        fewest.ok_or_else(|| ServiceError::Thread("a signer".into(), std::io::ErrorKind::NotFound.into()))
    }

    fn start(
        &self,
        subject: Subject,
        fingerprint: String,
        node: Node,
        claim: Option<Claim>,
    ) -> Result<Running, ServiceError> {
        let stop = Stop::new();
        let (mine, all, live) = (stop.clone(), self.stop.clone(), Arc::clone(&self.live));
        live.fetch_add(1, Ordering::SeqCst);
        let name = format!("node {}", node.plan.endpoint);
        let thread = std::thread::Builder::new().name(name.clone()).stack_size(STACK_LEN).spawn(move || {
            node.run(&mine);
            if live.fetch_sub(1, Ordering::SeqCst) == 1 && !mine.is_stopped() {
                all.stop(StopReason::Failed);
            }
        });
        let thread = thread.map_err(|error| ServiceError::Thread(name, error))?;
        Ok(Running { subject, fingerprint, stop, thread: Some(thread), _claim: claim })
    }

    /// Every key that is signed with.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.nodes.iter().map(|running| &running.subject)
    }

    /// Every chain that is served, with its key as operators know it.
    pub fn chains(&self) -> impl Iterator<Item = (&Chain, &str)> {
        self.chains.iter().map(|served| (served.chain.as_ref(), served.key_text.as_str()))
    }

    /// The ledger.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Ends in order: requests in hand are answered, the ledger is closed.
    pub fn shutdown(mut self) -> Result<(), LedgerError> {
        let deadline = Instant::now() + DRAIN_MAX;
        end(std::mem::take(&mut self.nodes), deadline);
        join(self.workers.into_iter().map(Worker::close), deadline);
        self.chains.iter().for_each(|served| served.chain.settle());
        self.journal.close()
    }
}

/// Stops nodes, and waits for requests in hand.
fn end(mut nodes: Vec<Running>, deadline: Instant) {
    for running in &nodes {
        running.stop.stop(StopReason::Asked);
    }
    join(nodes.iter_mut().filter_map(|running| running.thread.take()), deadline);
}

/// Waits for threads, and not longer than that.
fn join(threads: impl Iterator<Item = JoinHandle<()>>, deadline: Instant) {
    for thread in threads.collect::<Vec<_>>() {
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if thread.is_finished() {
            // A thread that panicked is done as well.
            let _done = thread.join();
        }
    }
}

fn algorithm(subject: &Subject) -> &'static str {
    match subject.key.algorithm() {
        semel_guard::Algorithm::Ed25519 => "Ed25519",
        _ => "Secp256k1",
    }
}

fn say(subject: &Subject, news: &StateNews) {
    let chain = &subject.chain;
    if news.is_alarming() { tracing::warn!("[{chain}] {news}") } else { tracing::info!("[{chain}] {news}") }
}
