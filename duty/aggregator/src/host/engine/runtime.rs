//! The runtime thread: looks at the chain, asks [`crate::core::runtime`] what to do, and does it.

use super::artifacts::BLOCK_KINDS;
use super::{Engine, EngineError, EraFailure, Event};
use crate::core::runtime::{Action, Facts, Open, State, decide};
use crate::face::metrics::{Plain, Timed, entity_label};
use crate::host::chain::{ChainError, View};
use crate::host::engine::seal::Aggregated;
use crate::host::store::entities::Pending;
use mithril_common::entities::{Epoch, SignedEntityType, SignedEntityTypeDiscriminants as Kind, TimePoint};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Times that one look may lead to another at once: entering an epoch, then opening its messages.
const ROUNDS_MAX: usize = 8;
/// Time that work under way gets at the end.
const FINISH_MAX: Duration = Duration::from_secs(20);
/// Pause before a type is aggregated again whose certificate could not be made.
const SEAL_PAUSE: Duration = Duration::from_secs(5);
/// No chain comes to this epoch; one that says so is not believed. Offsets of a few epochs are added without a check.
const EPOCH_MAX: Epoch = Epoch(1 << 40);

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
    aggregated: Vec<(SignedEntityType, Instant, Result<Aggregated, EngineError>)>,
    /// Types whose certificate could not be made, and when that is tried again.
    paused: BTreeMap<Kind, Instant>,
    /// Whether the first blocks are being imported: nothing over blocks is drafted meanwhile.
    is_preloading: bool,
    /// Whether the chain of certificates was read.
    is_chain_read: bool,
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
        let is_first_import = self.engine.is_first_import().unwrap_or_else(|error| {
            tracing::warn!(%error, "blocks are imported when the first message over them is made");
            false
        });
        self.lock().is_preloading = is_first_import;
        // May import blocks; nothing else waits for that.
        let is_started = self.spawn("proofs", move |this| {
            if is_first_import {
                if let Err(error) = this.engine.sources.preload() {
                    tracing::warn!(%error, "the blocks are not imported yet; the next message over them goes on with it");
                }
                this.lock().is_preloading = false;
                this.engine.tell(Event::Look);
            }
            if let Err(error) = this.engine.warm_up() {
                tracing::error!(%error, "no proofs are given until the next certificate");
            }
        });
        if !is_started {
            self.lock().is_preloading = false;
        }
        let mut next = Instant::now();
        loop {
            // Events, however many, do not keep it from looking at the chain.
            if Instant::now() >= next {
                next = Instant::now() + self.engine.options.interval;
                self.cycle();
            }
            match events.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Event::Look) => {
                    self.engine.looked();
                    self.act();
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// One cycle: looks at the chain, then acts.
    pub fn cycle(&self) {
        Plain::Cycles.add(1);
        self.engine.beat();
        match self.look() {
            Ok(view) => {
                self.engine.stand(|standing| standing.view = Some(view));
                if self.act() {
                    Plain::CyclesDone.add(1);
                }
            }
            Err(error) => self.engine.trouble(&error),
        }
    }

    fn look(&self) -> Result<View, EngineError> {
        if !self.lock().is_chain_read {
            self.engine.load_chain()?;
            self.lock().is_chain_read = true;
        }
        let view = self.engine.observer.view()?;
        if view.epoch > EPOCH_MAX {
            let why = format!("epoch {} is none", view.epoch);
            return Err(ChainError::Answer { whom: "the node".to_owned(), why }.into());
        }
        Ok(view)
    }

    /// Does what is to be done now; false when some of it could not be done.
    pub fn act(&self) -> bool {
        for _ in 0..ROUNDS_MAX {
            let (is_more, failures) = self.step();
            // What failed for one type holds up no other; it is tried again at the next look.
            for failure in &failures {
                self.engine.trouble(failure);
            }
            if !failures.is_empty() {
                return false;
            }
            if !is_more {
                self.engine.stand(|standing| standing.trouble = None);
                return true;
            }
        }
        true
    }

    /// Whether anything was done that may lead to more, and what failed.
    fn step(&self) -> (bool, Vec<EngineError>) {
        let Some(view) = self.engine.standing().view else { return (false, Vec::new()) };
        let mut failures = self.seal_aggregated();
        failures.extend(self.start_artifacts().err());
        let mut is_more = false;
        match self.decide(&view) {
            Err(error) => failures.push(error),
            Ok((state, actions, failed)) => {
                failures.extend(failed);
                let before = self.engine.standing().state;
                if before != state {
                    tell(before, state, *view.epoch);
                }
                self.engine.stand(|standing| standing.state = state);
                for action in actions {
                    match self.carry_out(action) {
                        Ok(more) => is_more |= more,
                        Err(error) => failures.push(error),
                    }
                }
            }
        }
        (is_more, failures)
    }

    fn decide(&self, view: &View) -> Result<(State, Vec<Action>, Option<EngineError>), EngineError> {
        let engine = &self.engine;
        let data = engine.epoch();
        let mut failed = None;
        let certifiable = match &data {
            Some(data) if data.epoch == view.epoch => {
                let number = engine.sources.immutable_number();
                let point = TimePoint::new(*view.epoch, *number.as_ref().unwrap_or(&0), view.tip.clone());
                let mut certifiable = engine.certifiable(data, &point);
                if let Err(error) = number {
                    certifiable.retain(|entity| Kind::from(entity) != Kind::CardanoDatabase);
                    failed = Some(error.into());
                }
                certifiable
            }
            _ => Vec::new(),
        };
        let jobs = self.lock();
        let mut busy: Vec<Kind> = jobs.drafting.union(&jobs.aggregating).copied().collect();
        if jobs.is_preloading {
            busy.extend(BLOCK_KINDS);
        }
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
        let (state, actions) = decide(&Facts {
            now: engine.now(),
            epoch: view.epoch,
            entered: data.as_ref().map(|data| data.epoch),
            has_signers: data.as_ref().is_some_and(|data| data.current.is_some() && data.next.is_some()),
            chain: engine.chain(),
            certifiable: &certifiable,
            busy: &busy,
            open: &open,
        });
        Ok((state, actions, failed))
    }

    fn carry_out(&self, action: Action) -> Result<bool, EngineError> {
        match action {
            Action::EnterEpoch(_) => {
                self.engine.enter_epoch()?;
                Ok(true)
            }
            Action::Expire(entity) => {
                if let Some(open) = self.engine.open_state(&entity) {
                    open.signed().end(|signed| signed.is_expired = true);
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
        let is_started = self.spawn("draft", move |this| {
            let began = Instant::now();
            let opened = this.engine.draft(&data, &entity).and_then(|message| Ok(this.engine.open(message)?));
            tracing::debug!(entity = %entity, milliseconds = %began.elapsed().as_millis(), "drafted");
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
        if !is_started {
            self.lock().drafting.remove(&kind);
        }
    }

    fn aggregate(&self, entity: SignedEntityType) {
        let kind = Kind::from(&entity);
        let Some(open) = self.engine.open_state(&entity) else { return };
        {
            let mut jobs = self.lock();
            if jobs.paused.get(&kind).is_some_and(|until| *until > Instant::now()) || !jobs.aggregating.insert(kind) {
                return;
            }
            jobs.paused.remove(&kind);
        }
        let is_started = self.spawn("aggregate", move |this| {
            let begun = Instant::now();
            let aggregated = this.engine.aggregate(&open);
            this.lock().aggregated.push((entity, begun, aggregated));
            this.engine.tell(Event::Look);
        });
        if !is_started {
            self.lock().aggregating.remove(&kind);
        }
    }

    fn seal_aggregated(&self) -> Vec<EngineError> {
        let mut failures = Vec::new();
        loop {
            let Some((entity, begun, aggregated)) = self.lock().aggregated.pop() else { return failures };
            let kind = Kind::from(&entity);
            self.lock().aggregating.remove(&kind);
            // None: the epoch has gone by.
            let Some(open) = self.engine.open_state(&entity) else { continue };
            match aggregated.and_then(|aggregated| self.engine.seal(&open, aggregated)) {
                Ok(_) => {
                    Plain::Certificates.add(1);
                    Timed::Sealing.record(entity_label(kind), begun.elapsed());
                }
                Err(error) => {
                    // Not at once again: what refuses now refuses in a moment, and each refusal is written down.
                    self.lock().paused.insert(kind, Instant::now() + SEAL_PAUSE);
                    failures.push(error);
                }
            }
        }
    }

    fn start_artifacts(&self) -> Result<(), EngineError> {
        let now = self.engine.now();
        // The first of each type whose time has come: one that cannot be made now holds up none behind it.
        let mut first: BTreeMap<Kind, Pending> = BTreeMap::new();
        for pending in self.engine.pending_artifacts()?.into_iter().filter(|pending| pending.not_before <= now) {
            first.entry(Kind::from(&pending.entity)).or_insert(pending);
        }
        for (kind, pending) in first {
            if !self.lock().making.insert(kind) {
                continue;
            }
            let is_started = self.spawn("artifact", move |this| {
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
            if !is_started {
                self.lock().making.remove(&kind);
            }
        }
        Ok(())
    }

    /// Waits for the threads beside the runtime: they end soon once the program is told to.
    pub fn finish(&self) {
        let until = Instant::now() + FINISH_MAX;
        while self.is_busy() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
            let mut jobs = self.lock();
            // Nobody seals any more.
            for (entity, ..) in std::mem::take(&mut jobs.aggregated) {
                jobs.aggregating.remove(&Kind::from(&entity));
            }
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

    /// Whether the thread was had.
    fn spawn(&self, name: &str, work: impl FnOnce(&Runtime) + Send + 'static) -> bool {
        let this = self.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&this));
        if let Err(error) = &thread {
            tracing::error!(%error, "no thread can be had");
        }
        thread.is_ok()
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
        if matches!(error, EngineError::Era(EraFailure::Unknown(_))) {
            self.tell(Event::Stop);
        }
    }
}

/// Writes down that the state changed; between ready and signing it does so all the time.
fn tell(before: State, now: State, epoch: u64) {
    match (before, now) {
        (_, State::Blocked(why)) => tracing::warn!(epoch, "nothing is certified: {why}"),
        (State::Blocked(_), _) => tracing::info!(epoch, state = now.name(), "certificates can be made again"),
        _ => tracing::debug!(epoch, before = before.name(), state = now.name(), "state"),
    }
}
