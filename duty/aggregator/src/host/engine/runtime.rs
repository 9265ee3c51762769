//! The runtime thread: looks at the chain, asks [`crate::core::runtime`] what to do, and does it.

use super::{Engine, EngineError, Event};
use crate::core::runtime::{Action, Facts, Open, State, decide};
use crate::face::metrics::Plain;
use crate::host::chain::View;
use crate::host::engine::seal::Aggregated;
use mithril_common::entities::{SignedEntityType, SignedEntityTypeDiscriminants as Kind, TimePoint};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Times that one look may lead to another at once: entering an epoch, then opening its messages.
const ROUNDS_MAX: usize = 8;

/// Time that work under way gets at the end.
const FINISH_MAX: std::time::Duration = std::time::Duration::from_secs(20);

/// What threads beside the runtime are at.
#[derive(Debug, Default)]
struct Jobs {
    /// Types whose message is being drafted.
    drafting: BTreeSet<Kind>,
    /// Types whose signatures are being aggregated.
    aggregating: BTreeSet<Kind>,
    /// Types whose artifact is being made.
    making: BTreeSet<Kind>,
    /// What was aggregated and waits to be sealed.
    aggregated: Vec<(SignedEntityType, Result<Aggregated, EngineError>)>,
}

/// Runs an engine.
#[derive(Debug, Clone)]
pub struct Runtime {
    engine: Arc<Engine>,
    jobs: Arc<Mutex<Jobs>>,
}

impl Runtime {
    /// A runtime of this engine.
    pub fn new(engine: Arc<Engine>) -> Runtime {
        Runtime { engine, jobs: Arc::default() }
    }

    /// Looks and acts until it is told to end: at every interval, and at every event.
    pub fn run(&self, events: &Receiver<Event>) {
        if let Err(error) = self.engine.load_chain().and_then(|()| self.engine.warm_up()) {
            tracing::error!(%error, "what was certified before cannot be read");
        }
        let mut next = Instant::now();
        loop {
            match events.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Event::Look) => {
                    self.act();
                }
                Ok(Event::Changed) => {}
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + self.engine.options.interval;
                    self.cycle();
                }
            }
        }
    }

    /// One cycle: looks at the chain, then acts.
    pub fn cycle(&self) {
        Plain::Cycles.add(1);
        let looked = self.engine.observer.view();
        match looked {
            Ok(view) => {
                self.engine.stand(|standing| standing.view = Some(view));
                if self.act() {
                    Plain::CyclesDone.add(1);
                }
            }
            Err(error) => self.engine.trouble(&error.into()),
        }
    }

    /// Does what is to be done now; false when it could not be done.
    pub fn act(&self) -> bool {
        for _ in 0..ROUNDS_MAX {
            match self.step() {
                Ok(true) => {}
                Ok(false) => {
                    self.engine.stand(|standing| standing.trouble = None);
                    return true;
                }
                Err(error) => {
                    self.engine.trouble(&error);
                    return false;
                }
            }
        }
        true
    }

    /// Whether anything was done that may lead to more.
    fn step(&self) -> Result<bool, EngineError> {
        let Some(view) = self.engine.standing().view else { return Ok(false) };
        self.seal_aggregated()?;
        self.start_artifacts()?;
        let (state, actions) = self.decide(&view)?;
        self.engine.stand(|standing| standing.state = state);
        let mut is_more = false;
        for action in actions {
            is_more |= self.carry_out(action)?;
        }
        Ok(is_more)
    }

    fn decide(&self, view: &View) -> Result<(State, Vec<Action>), EngineError> {
        let engine = &self.engine;
        let data = engine.epoch();
        let certifiable = match &data {
            Some(data) if data.epoch == view.epoch => {
                let number = engine.sources.immutable_number()?;
                let point = TimePoint::new(*view.epoch, number, view.tip.clone());
                engine.certifiable(data, &point)
            }
            _ => Vec::new(),
        };
        let jobs = self.lock();
        let busy: Vec<Kind> = jobs.drafting.union(&jobs.aggregating).copied().collect();
        drop(jobs);
        let open: Vec<Open> = engine
            .open_messages()
            .iter()
            // What is being aggregated is neither taken again nor expired.
            .filter(|open| !busy.contains(&Kind::from(&open.message.entity)) || open.signed().is_certified)
            .map(|open| {
                let signed = open.signed();
                Open {
                    entity: open.message.entity.clone(),
                    is_certified: signed.is_certified,
                    is_expired: signed.is_expired,
                    expires_at: open.message.expires_at,
                    has_quorum: signed.quorum.is_reached(),
                }
            })
            .collect();
        Ok(decide(&Facts {
            now: engine.now(),
            epoch: view.epoch,
            entered: data.as_ref().map(|data| data.epoch),
            has_signers: data.as_ref().is_some_and(|data| data.current.is_some() && data.next.is_some()),
            chain: engine.chain(),
            certifiable: &certifiable,
            busy: &busy,
            open: &open,
        }))
    }

    fn carry_out(&self, action: Action) -> Result<bool, EngineError> {
        match action {
            Action::EnterEpoch(_) => {
                self.engine.enter_epoch()?;
                Ok(true)
            }
            Action::Expire(entity) => {
                if let Some(open) = self.engine.open_state(&entity) {
                    open.signed().is_expired = true;
                }
                let gone = entity.clone();
                self.engine.store.write(move |db| crate::host::store::messages::expired(db, &gone))?;
                tracing::info!(entity = %entity, "no more signatures are taken");
                Ok(true)
            }
            Action::Open(entity) => {
                self.draft(entity);
                Ok(false)
            }
            Action::Certify(entity) => {
                self.aggregate(entity);
                Ok(false)
            }
        }
    }

    /// Drafts and opens a message on a thread of its own: a root over many files takes long.
    fn draft(&self, entity: SignedEntityType) {
        let Some(data) = self.engine.epoch() else { return };
        let kind = Kind::from(&entity);
        if !self.lock().drafting.insert(kind) {
            return;
        }
        self.spawn("draft", move |this| {
            let opened = this.engine.draft(&data, &entity).and_then(|message| Ok(this.engine.open(message)?));
            this.lock().drafting.remove(&kind);
            match opened {
                Ok(Some(open)) => {
                    tracing::info!(entity = %entity, message = open.hash, "signatures are taken");
                    this.engine.tell(Event::Look);
                }
                Ok(None) => {}
                Err(EngineError::Source(super::SourceError::NotYet(why))) => {
                    tracing::debug!(entity = %entity, why, "not yet");
                }
                Err(error) => this.engine.trouble(&error),
            }
        });
    }

    fn aggregate(&self, entity: SignedEntityType) {
        let kind = Kind::from(&entity);
        let Some(open) = self.engine.open_state(&entity) else { return };
        if !self.lock().aggregating.insert(kind) {
            return;
        }
        self.spawn("aggregate", move |this| {
            let aggregated = this.engine.aggregate(&open);
            this.lock().aggregated.push((entity, aggregated));
            this.engine.tell(Event::Look);
        });
    }

    fn seal_aggregated(&self) -> Result<(), EngineError> {
        loop {
            let Some((entity, aggregated)) = self.lock().aggregated.pop() else { return Ok(()) };
            self.lock().aggregating.remove(&Kind::from(&entity));
            // None: the epoch has gone by.
            if let Some(open) = self.engine.open_state(&entity) {
                self.engine.seal(&open, aggregated?)?;
                Plain::Certificates.add(1);
            }
        }
    }

    fn start_artifacts(&self) -> Result<(), EngineError> {
        let now = self.engine.now();
        let mut first: BTreeMap<Kind, _> = BTreeMap::new();
        for pending in self.engine.pending_artifacts()? {
            first.entry(Kind::from(&pending.entity)).or_insert(pending);
        }
        for (kind, pending) in first {
            if pending.not_before > now || !self.lock().making.insert(kind) {
                continue;
            }
            self.spawn("artifact", move |this| {
                let made = this.engine.make_artifact(&pending);
                this.lock().making.remove(&kind);
                match made {
                    Ok(()) => {
                        produced(kind).add(1);
                        this.engine.tell(Event::Look);
                    }
                    Err(error) => {
                        tracing::warn!(entity = %pending.entity, %error, attempt = pending.attempts + 1, "no artifact yet");
                    }
                }
            });
        }
        Ok(())
    }

    /// Waits for the threads beside the runtime: they end soon once the program is told to.
    pub fn finish(&self) {
        let until = Instant::now() + FINISH_MAX;
        while self.is_busy() && Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(5));
            self.lock().aggregated.clear();
        }
    }

    /// Whether threads beside the runtime are at work.
    pub fn is_busy(&self) -> bool {
        let jobs = self.lock();
        !(jobs.drafting.is_empty()
            && jobs.aggregating.is_empty()
            && jobs.making.is_empty()
            && jobs.aggregated.is_empty())
    }

    fn spawn(&self, name: &str, work: impl FnOnce(&Runtime) + Send + 'static) {
        let this = self.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&this));
        if let Err(error) = thread {
            tracing::error!(%error, "no thread can be had");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts the artifacts of a type.
fn produced(kind: Kind) -> Plain {
    match kind {
        Kind::MithrilStakeDistribution => Plain::MithrilStakeDistributionArtifacts,
        Kind::CardanoStakeDistribution => Plain::CardanoStakeDistributionArtifacts,
        Kind::CardanoDatabase => Plain::CardanoDatabaseArtifacts,
        Kind::CardanoTransactions => Plain::CardanoTransactionArtifacts,
        Kind::CardanoBlocksTransactions => Plain::CardanoBlocksTransactionsArtifacts,
    }
}

impl Engine {
    fn stand(&self, change: impl FnOnce(&mut super::Standing)) {
        change(&mut self.standing.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn trouble(&self, error: &EngineError) {
        tracing::warn!(%error, "the cycle did not end well; it is tried again");
        let text = error.to_string();
        self.stand(|standing| standing.trouble = Some(text));
        if matches!(error, EngineError::Era(super::EraFailure::Unknown(_))) {
            self.tell(Event::Stop);
        }
    }
}
