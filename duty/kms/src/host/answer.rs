//! What a request gets: begun, finished once it is durable, and told of once the answer is out.

use super::chain::{Ask, Chain, Extension, Signed, Started};
use super::meters::{Meters, Times};
use super::plan::NodePlan;
use crate::core::raw_bytes::BytesToSign;
use crate::core::session::{CODE_CANNOT, CODE_DOUBLE_SIGN, Terms, ToSign, Verdict};
use crate::wire::{ErrorReply, Family, Request, Response, SignedType};
use semel_guard::{Denied, Reason, SignError};
use semel_ops::log::Collapse;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest text in an error reply.
const TEXT_MAX: usize = 512;

/// Longest name of bytes in a log line, in characters.
const NAME_MAX: usize = 64;

/// Who and what a connection is for. Outlives it.
pub(crate) struct Context {
    /// `CHAIN@ADDR`, as log lines begin.
    pub(crate) name: String,
    pub(crate) chain: Arc<Chain>,
    pub(crate) terms: Terms,
    pub(crate) plan: NodePlan,
    pub(crate) meters: Meters,
    /// Connect and answer, but sign nothing.
    pub(crate) dry_run: bool,
    /// Refusals that were logged: a node that asks the same wrong thing for ever is told of now and then.
    pub(crate) refusals: Mutex<Collapse>,
}

/// A request on its way.
pub(super) enum Opened<'c> {
    /// Its answer is known.
    Answered(Box<(Response, After)>),
    /// It is in the ledger, and waits to be durable.
    Started(Box<Signing<'c>>),
}

/// A vote or proposal that the guard has begun.
pub(super) struct Signing<'c> {
    wanted: ToSign,
    label: Label,
    started: Started<'c>,
}

/// What is said and counted once the answer is out.
pub(crate) enum After {
    Nothing,
    Refused(String),
    Signed(Box<(Label, Signed)>),
    Denied(Box<(Label, Denied)>),
    SignedBytes(Box<BytesToSign>),
    KeyFailed(SignError),
}

/// A vote or proposal, as log lines name it.
pub(crate) struct Label {
    kind: SignedType,
    /// How the block's hash begins; None: nil.
    block: Option<String>,
    height: i64,
    round: i64,
    position: semel_guard::Position,
}

/// Decides, and begins what is to be signed.
pub(super) fn begin(context: &Context, family: Family, request: Request) -> Opened<'_> {
    let answered = match context.terms.decide(family, request) {
        Verdict::Reply(response) => (response, After::Nothing),
        Verdict::Refuse(response) => refused(response),
        Verdict::SignBytes(wanted) => sign_bytes(context, wanted),
        Verdict::Sign(wanted) if context.dry_run => refused(wanted.refused(CODE_CANNOT, DRY_RUN.into())),
        Verdict::Sign(wanted) => {
            let label = Label::of(&wanted);
            let ask = Ask {
                position: wanted.position,
                sign_bytes: &wanted.sign_bytes.bytes,
                content: &wanted.sign_bytes.content,
            };
            match context.chain.begin(&ask) {
                Ok(started) => return Opened::Started(Box::new(Signing { wanted: *wanted, label, started })),
                Err(denied) => told(*wanted, label, denied),
            }
        }
    };
    Opened::Answered(Box::new(answered))
}

impl Signing<'_> {
    /// Waits until it is durable, and signs.
    pub(super) fn finish(self, context: &Context) -> (Response, After) {
        let Self { wanted, label, started } = self;
        let ToSign { height, round, .. } = wanted;
        let extension = wanted.with_extension.then(|| Extension { height, round, bytes: wanted.extension() });
        match context.chain.finish(started, extension) {
            Ok(signed) => {
                let answer = &signed.answer;
                let response = wanted.signed(&answer.bytes, &answer.signature, signed.extension.as_ref());
                (response, After::Signed(Box::new((label, signed))))
            }
            Err(denied) => told(wanted, label, denied),
        }
    }
}

const DRY_RUN: &str = "this signer was started with --dry-run";

fn refused(response: Response) -> (Response, After) {
    let after = After::Refused(error_text(&response));
    (response, after)
}

/// The error reply to what the guard or the key denied.
fn told(wanted: ToSign, label: Label, denied: Denied) -> (Response, After) {
    let code = match &denied {
        Denied::Refused(refusal) => match refusal.reason {
            Reason::Conflict | Reason::Regression => CODE_DOUBLE_SIGN,
            _ => CODE_CANNOT,
        },
        Denied::NotSigned(_) => CODE_CANNOT,
    };
    let text = denied.to_string().chars().take(TEXT_MAX).collect();
    (wanted.refused(code, text), After::Denied(Box::new((label, denied))))
}

fn sign_bytes(context: &Context, wanted: Box<BytesToSign>) -> (Response, After) {
    let failed = |description| Response::SignedBytes(Err(ErrorReply { code: CODE_CANNOT, description }));
    if context.dry_run {
        return refused(failed(DRY_RUN.into()));
    }
    match context.chain.sign_benign(&wanted.message(&context.chain.subject().chain)) {
        Ok(signature) => (Response::SignedBytes(Ok(signature.as_bytes().to_vec())), After::SignedBytes(wanted)),
        Err(error) => (failed(error.to_string().chars().take(TEXT_MAX).collect()), After::KeyFailed(error)),
    }
}

fn error_text(response: &Response) -> String {
    match response {
        Response::PubKey(Err(error))
        | Response::SignedVote(Err(error))
        | Response::SignedProposal(Err(error))
        | Response::SignedBytes(Err(error)) => error.description.clone(),
        _ => String::new(),
    }
}

impl Label {
    fn of(wanted: &ToSign) -> Self {
        let hash = &wanted.block_id().hash;
        let shown = || hash.iter().take(5).map(|byte| format!("{byte:02X}")).collect();
        let block = (!hash.is_empty()).then(shown);
        Self { kind: wanted.kind, block, height: wanted.height, round: wanted.round, position: wanted.position }
    }

    fn block(&self) -> &str {
        self.block.as_deref().unwrap_or("<nil>")
    }

    /// As tmkms numbers them: 0 proposal, 1 prevote, 2 precommit.
    fn step(&self) -> u8 {
        match self.kind {
            SignedType::Proposal => 0,
            SignedType::Prevote => 1,
            SignedType::Precommit => 2,
        }
    }
}

impl After {
    /// Who waited with others for one sync waited as long as they did, whoever of them asked for it.
    pub(super) fn share(&mut self, waited: &mut Duration) {
        if let Self::Signed(signed) = self
            && let (_, signed) = signed.as_mut()
            && !signed.answer.repeated
        {
            signed.fsync = signed.fsync.max(*waited);
            *waited = signed.fsync;
        }
    }

    /// Height and round of the precommit that follows, where something can be done for it ahead.
    pub(super) fn next_precommit(&self, context: &Context) -> Option<(i64, i64)> {
        let Self::Signed(signed) = self else { return None };
        let (Label { kind, block, height, round, .. }, _) = signed.as_ref();
        let is_for_block = *kind == SignedType::Prevote && block.is_some();
        (is_for_block && context.chain.wants_ahead()).then_some((*height, *round))
    }

    pub(super) fn report(self, context: &Context, times: Times) {
        let name = &context.name;
        match self {
            Self::Nothing => {}
            Self::Refused(why) => {
                context.meters.refused(None, "request");
                let mut refusals = context.refusals.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(line) = refusals.observe(&format!("refused: {why}"), Instant::now()) {
                    tracing::warn!("[{name}] {line}");
                }
            }
            Self::Signed(signed) => {
                let (label, signed) = *signed;
                context.meters.signed(label.kind, &signed, times);
                context.chain.tally().signed(label.position);
                let Label { kind, height, round, .. } = &label;
                let (block, step, ms) = (label.block(), label.step(), times.total.as_millis());
                if signed.answer.repeated {
                    tracing::info!("[{name}] repeated {kind:?}:{block} at h/r/s {height}/{round}/{step} ({ms} ms)");
                } else {
                    tracing::info!("[{name}] signed {kind:?}:{block} at h/r/s {height}/{round}/{step} ({ms} ms)");
                }
            }
            Self::SignedBytes(wanted) => {
                context.meters.signed_bytes();
                let what: String = wanted.what().chars().take(NAME_MAX).filter(|c| !c.is_control()).collect();
                tracing::info!("[{name}] signed RawBytes:{what} ({} ms)", times.total.as_millis());
            }
            Self::KeyFailed(error) => {
                context.meters.refused(None, "key");
                tracing::error!("[{name}] bytes: {error}");
            }
            Self::Denied(denied) => {
                let (label, denied) = *denied;
                let Label { kind, height, round, .. } = &label;
                let (block, step) = (label.block(), label.step());
                context.chain.tally().refused();
                match &denied {
                    Denied::Refused(refusal) => {
                        context.meters.refused(Some(*kind), refusal.reason.label());
                        let hint = refusal.reason.hint();
                        if refusal.reason == Reason::Conflict {
                            tracing::error!(
                                "[{name}] attempted double sign {kind:?}:{block} at h/r/s {height}/{round}/{step}: \
                                 {refusal}; {hint}"
                            );
                        } else {
                            tracing::warn!("[{name}] {refusal}; {hint}");
                        }
                    }
                    Denied::NotSigned(error) => {
                        context.meters.refused(Some(*kind), "key");
                        tracing::error!("[{name}] {kind:?}:{block} at h/r/s {height}/{round}/{step}: {error}");
                    }
                }
            }
        }
    }
}
