//! The plan of a key's way over, and its carrying out: floors first, then states and keys, the configuration last.

use super::super::config::{self, Config};
use super::super::init::{directories, identity, make};
use super::super::keyring::Keyring;
use super::super::start::{directory, options};
use super::super::state::{history_of, position, reached, state_report};
use super::super::{key_report, ledger_report, said};
use super::error::MigrateError;
use super::running::Watch;
use super::{Common, Found, Import, Move};
use crate::host::state::{StateError, adopt_state, mirrored, read};
use semel_guard::{ChainId, HOLD_HEIGHTS, HoldCause, Lane, Ledger, Mark, Subject};
use semel_keys::softsign::{self, Form, KeyType};
use semel_keys::{KeyError, KeyErrorKind, write_new};
use semel_ledger::Journal;
use semel_ledger::interchange::{Dialect, StateFile, floor_of};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A chain with all that is known of it.
pub(super) struct Planned {
    chain: Move,
    subject: Subject,
    key_text: String,
    state: Option<StateFile>,
    /// How far the ledger knows it signed.
    known: Option<Mark>,
    /// It watches before it signs, from before.
    is_held: bool,
}

/// The whole plan.
pub(super) struct Plan {
    signer: &'static str,
    /// What is written, and where; None: the old configuration stays.
    config: Option<(PathBuf, String)>,
    chains: Vec<Planned>,
    /// It is not the old one renewed, and needs what a new one needs.
    is_fresh: bool,
    pub(super) watch: Watch,
    pub(super) notes: Vec<String>,
    steps: Vec<String>,
    home: PathBuf,
    ledger: PathBuf,
    no_hold: bool,
}

impl Plan {
    pub(super) fn of(
        found: Found,
        config: &Config,
        written: Option<(PathBuf, String)>,
        home: PathBuf,
        common: &Common,
    ) -> Result<Self, Report> {
        let ledger = directory(&common.ledger, std::slice::from_ref(config));
        let mut keyring = Keyring::default();
        let mut chains = Vec::new();
        for mut chain in found.moves {
            let Some(entry) = config.chains.iter().find(|entry| entry.name == chain.chain) else { continue };
            let key = match &chain.import {
                Some(import) => import.public.clone(),
                None => keyring.key(config, entry)?.public_key().clone(),
            };
            let id = ChainId::new(&entry.id.value).map_err(|error| Report::of(&error))?;
            let subject = Subject { key, chain: id };
            let history = history_of(&ledger, &subject)?;
            if history.tombstone {
                return Err(Report::new(format!("the key of {} was handed over to another host", chain.chain))
                    .code_id("HANDOVER-0006")
                    .hint("`semel handover accept FILE` with the file of that handover takes it back")
                    .exit(Exit::Unsafe));
            }
            let (known, is_held) = (history.floor, history.hold.is_some());
            let key_text = config::display::public_key(&entry.key_format, &subject.key);
            chain.new_state = chain.new_state.or_else(|| Some(entry.state_file.value.clone()));
            chains.push(Planned { chain, subject, key_text, state: None, known, is_held });
        }
        let Found { signer, entries, mut watch, notes, steps, .. } = found;
        watch.files.extend(chains.iter().filter_map(|planned| Some(planned.chain.import.as_ref()?.from.clone())));
        let is_fresh = !entries.is_empty();
        let no_hold = common.no_hold;
        Ok(Self { signer, config: written, is_fresh, chains, watch, notes, steps, home, ledger, no_hold })
    }

    /// What the old signer says of itself.
    pub(super) fn read_states(&mut self) -> Result<(), Report> {
        for Planned { chain, subject, state, .. } in &mut self.chains {
            *state = read(&chain.state).map_err(|error| state_report(&error))?;
            let Some(state) = state else { continue };
            let owner = state.check_owner(subject.chain.as_str(), &subject.key.to_string());
            owner.map_err(|error| state_report(&StateError::Parse { path: chain.state.clone(), error }))?;
            self.notes.extend(state.warnings.iter().map(|warning| format!("{}: {warning}", chain.state.display())));
            if floor_of(state).is_none() {
                self.notes.push(format!(
                    "{}: nothing was signed, it says; if the key ever signed, bring the right state",
                    chain.state.display()
                ));
            }
        }
        Ok(())
    }

    /// Refuses what would be dangerous, or write over something.
    pub(super) fn may_go(&self, common: &Common) -> Result<(), Report> {
        for Planned { chain, .. } in self.chains.iter().filter(|planned| planned.state.is_none()) {
            if !common.i_accept_double_sign_risk {
                let (chain, path) = (chain.chain.clone(), chain.state.clone());
                return Err(MigrateError::NoState { chain, path }.into());
            }
        }
        if let Some((path, _)) = self.config.as_ref().filter(|(path, _)| std::fs::symlink_metadata(path).is_ok()) {
            return Err(MigrateError::Exists(path.clone()).into());
        }
        for import in self.chains.iter().filter_map(|planned| planned.chain.import.as_ref()) {
            import.is_done()?;
        }
        Ok(())
    }

    pub(super) fn show(&self, as_json: bool, shell: &Shell) -> Result<(), Report> {
        if as_json {
            let chains: Vec<Value> = self.chains.iter().map(|planned| planned.to_json(self.holds(planned))).collect();
            return said(shell.json(&json!({
                "schema": 1, "from": self.signer, "ledger": self.ledger, "chains": chains,
                "config": self.config.as_ref().map(|(path, _)| path), "steps": self.steps(),
            })));
        }
        said(shell.line(format!("from {}", self.signer)))?;
        for planned in &self.chains {
            said(shell.line(planned.to_text(&self.ledger, self.holds(planned))))?;
        }
        match &self.config {
            Some((path, _)) => said(shell.line(format!("configuration  → {}", path.display()))),
            None => said(shell.line("configuration  stays where it is")),
        }
    }

    pub(super) fn carry_out(&self, common: &Common, shell: &Shell) -> Result<(), Report> {
        let states = self.raise(common, shell)?;
        if let Some((path, text)) = &self.config {
            make(&self.home, 0o700)?;
            if self.is_fresh {
                directories(&self.home)?;
                identity(&self.home, shell)?;
                self.copy(&states, shell)?;
            }
            write_new(path, text.as_bytes(), None).map_err(|error| key_report(&error))?;
            shell.status("Wrote", path.display());
            let checked = config::check(std::slice::from_ref(path), config::Look::Everything);
            if checked.found.has_errors() {
                return Err(checked.found.into());
            }
            if !checked.found.is_empty() {
                shell.diagnostics(&checked.found);
            }
        }
        for step in self.steps() {
            shell.status("Next", step);
        }
        Ok(())
    }

    /// Whether the key watches before it signs: the old signer may have been missed, on another host above all.
    fn holds(&self, planned: &Planned) -> bool {
        !self.no_hold && (planned.is_held || planned.begins().is_some())
    }

    /// What is left for the operator; before anything is started, what a hold means.
    fn steps(&self) -> Vec<String> {
        let held = self.chains.iter().filter(|planned| self.holds(planned));
        let holds = held.map(|planned| {
            format!(
                "know that the key of {} watches {HOLD_HEIGHTS} heights before it signs (GUARD-0007). With more than a third of the power: \
                 --no-hold, or the chain stops; now, before the start: {}",
                planned.chain.chain,
                planned.end_of_hold(&self.ledger)
            )
        });
        holds.chain(self.steps.iter().cloned()).collect()
    }

    /// Whether the old signer started meanwhile, and whether it did and has ended already. The key is not here yet.
    fn look_again(&self) -> Result<(), Report> {
        let seen = self.watch.look();
        if !seen.is_empty() {
            return Err(MigrateError::Running(seen).into());
        }
        for planned in &self.chains {
            let now = read(&planned.chain.state).map_err(|error| state_report(&error))?;
            if now != planned.state {
                return Err(MigrateError::Moved {
                    chain: planned.chain.chain.clone(),
                    from: said_by(planned.state.as_ref()),
                    to: said_by(now.as_ref()),
                }
                .into());
            }
        }
        Ok(())
    }

    /// The floors, before anything else. What the ledger says then, for the state files.
    fn raise(&self, common: &Common, shell: &Shell) -> Result<Vec<StateFile>, Report> {
        let subjects: Vec<Subject> = self.chains.iter().map(|planned| planned.subject.clone()).collect();
        let journal = Journal::open(options(self.ledger.clone(), &common.ledger), &subjects);
        let journal = journal.map_err(|error| ledger_report(&error))?;
        let mut states = Vec::new();
        for planned in &self.chains {
            let Planned { chain, subject, state, .. } = planned;
            let failed = |error: StateError| state_report(&error);
            // Before its floor: what ends in between leaves a key that waits.
            let hold = planned.begins().map_or(Ok(()), |cause| journal.set_hold(subject, Some(cause)));
            hold.map_err(|error| failed(error.into()))?;
            let is_new =
                state.as_ref().map_or(Ok(false), |state| adopt_state(&journal, subject, state)).map_err(failed)?;
            let history = journal.history(subject, Lane::Tendermint).map_err(|error| failed(error.into()))?;
            // Nothing that could be started exists before this holds.
            if state.as_ref().and_then(floor_of).is_some_and(|wanted| history.floor.is_none_or(|floor| floor < wanted))
            {
                return Err(Report::new(format!("the ledger did not take the floor of {}", chain.chain))
                    .code_id("MIGRATE-0008")
                    .hint("nothing else was written; run the command again")
                    .exit(Exit::Unsafe));
            }
            let known = mirrored(subject, history.as_ref(), state.clone());
            shell.status(
                if is_new { "Raised" } else { "Unchanged" },
                format!("{}: {}", chain.chain, reached(history.floor)),
            );
            states.push(known);
        }
        self.look_again()?;
        for subject in subjects.iter().filter(|subject| self.no_hold && journal.hold(subject).is_some()) {
            journal.set_hold(subject, None).map_err(|error| state_report(&error.into()))?;
        }
        journal.close().map_err(|error| ledger_report(&error))?;
        Ok(states)
    }

    /// State files and keys, none of which is written over.
    fn copy(&self, states: &[StateFile], shell: &Shell) -> Result<(), Report> {
        for (Planned { chain, .. }, state) in self.chains.iter().zip(states) {
            if let Some(path) = chain.new_state.as_ref().filter(|path| !path.exists()) {
                write_new(path, state.render(Dialect::Tmkms).as_bytes(), None).map_err(|error| key_report(&error))?;
                shell.status("Wrote", path.display());
            }
            let Some(import) = &chain.import else { continue };
            if import.is_done()? {
                shell.status("Kept", format!("{}: it is the same key", import.to.display()));
                continue;
            }
            let done = match import.as_json {
                true => softsign::copy(&import.from, &import.to),
                false => softsign::import(&import.from, &import.to, None).map(|(public, _)| public),
            };
            done.map_err(|error| key_report(&error))?;
            shell.status("Imported", format!("the key of {} to {}", chain.chain, import.to.display()));
        }
        Ok(())
    }
}

impl Import {
    /// Whether the copy is there already. Another key under its name is an error.
    fn is_done(&self) -> Result<bool, Report> {
        if std::fs::symlink_metadata(&self.to).is_err() {
            return Ok(false);
        }
        let form = if self.as_json { Form::Json } else { Form::Base64 };
        match softsign::load(&self.to, form, KeyType::Consensus) {
            Ok((key, _)) if *key.public() == self.public => Ok(true),
            _ => Err(key_report(&KeyError { path: self.to.clone(), kind: KeyErrorKind::Exists })),
        }
    }
}

/// What a state says, as words.
fn said_by(state: Option<&StateFile>) -> String {
    state.map_or_else(|| "MISSING: nobody knows how far it signed".into(), position)
}

impl Planned {
    /// Whether the ledger is behind the state.
    fn rises(&self) -> bool {
        self.state.as_ref().and_then(floor_of).is_some_and(|wanted| self.known.is_none_or(|known| known < wanted))
    }

    /// Why the key watches from now on: what is known of it here comes from the old signer, or nothing is known.
    fn begins(&self) -> Option<HoldCause> {
        match (self.rises(), self.known) {
            (true, _) => Some(HoldCause::Imported),
            // Where nothing was signed, the chain may be about to begin: this one does not wait there.
            (false, None) => Some(HoldCause::New),
            (false, Some(_)) => None,
        }
    }

    /// How it is ended after all.
    fn end_of_hold(&self, ledger: &Path) -> String {
        match self.state.as_ref().and_then(floor_of) {
            Some(_) => format!(
                "semel ledger import --no-hold --ledger {} --key {} --chain {} {}",
                ledger.display(),
                self.subject.key,
                self.subject.chain,
                self.chain.state.display()
            ),
            None => "`[semel] hold_new_keys = false`".into(),
        }
    }

    fn knows(&self) -> String {
        reached(self.known)
    }

    fn to_text(&self, ledger: &Path, holds: bool) -> String {
        let Self { chain: Move { chain, state, import, .. }, key_text, .. } = self;
        let key = match import {
            Some(Import { from, to, .. }) => format!("{} → {}", from.display(), to.display()),
            None => "stays where it is".into(),
        };
        let first = if self.rises() { ", raised before anything else is written" } else { "" };
        let hold = match holds {
            true => format!("\n  hold     {HOLD_HEIGHTS} heights before it signs; --no-hold leaves that out"),
            false => String::new(),
        };
        format!(
            "{chain}  {key_text}\n  state    {}: {}\n  ledger   {}: {}{first}\n  key      {key}{hold}",
            state.display(),
            said_by(self.state.as_ref()),
            ledger.display(),
            self.knows()
        )
    }

    fn to_json(&self, holds: bool) -> Value {
        let Self { chain: Move { chain, state, import, new_state }, subject, state: read, .. } = self;
        json!({
            "chain": chain, "key": subject.key.to_string(), "state_file": state, "state": read.as_ref().map(position),
            "ledger": self.knows(), "new_state_file": new_state, "holds": holds,
            "key_file": import.as_ref().map(|import| json!({ "from": import.from, "to": import.to })),
        })
    }
}
