//! One connection to one node, from the handshake to its end.
//!
//! Requests are answered strictly one after another, each with one write. What a request takes beyond its answer (log line,
//! metrics) comes after the write.

use super::chain::{Ask, Chain, Signed};
use super::channel::{Channel, Greeted, Peer, greet};
use super::ended::Ended;
use super::meters::{Meters, Times};
use super::plan::NodePlan;
use super::stream::{Stream, is_timeout};
use crate::core::peer_id::PeerId;
use crate::core::raw_bytes::BytesToSign;
use crate::core::secret::Variant;
use crate::core::session::{CODE_CANNOT, CODE_DOUBLE_SIGN, Terms, ToSign, Verdict};
use crate::wire::{Delimited, ErrorReply, Family, Request, Response, WireError, family_of};
use semel_guard::{Benign, Denied, Reason, SignError};
use semel_ops::log::Collapse;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// Longest request, in bytes: proposals of some chains are large; 1 MiB and room for its envelope.
pub const REQUEST_MAX: usize = (1 << 20) + 4096;

/// Bytes read at once: 62 frames.
const READ_LEN: usize = 64 * 1024;

/// Longest text in an error reply.
const TEXT_MAX: usize = 512;

/// Longest name of bytes in a log line, in characters.
const NAME_MAX: usize = 64;

/// Who and what a connection is for.
pub(crate) struct Context<'a> {
    /// `CHAIN@ADDR`, as log lines begin.
    pub(crate) name: &'a str,
    pub(crate) chain: &'a Chain,
    pub(crate) terms: &'a Terms,
    pub(crate) plan: &'a NodePlan,
    pub(crate) meters: &'a Meters,
    /// Connect and answer, but sign nothing.
    pub(crate) dry_run: bool,
}

/// What of a connection outlives it.
#[derive(Default)]
pub(crate) struct Memory {
    /// What the peer spoke last.
    pub(crate) variant: Option<Variant>,
    /// Refusals that were logged: a node that asks the same wrong thing for ever is told of now and then.
    refusals: Collapse,
}

/// Serves a node until the connection ends. `connected` is called once the node is known.
pub(crate) fn serve(
    stream: &mut Stream,
    context: &Context<'_>,
    memory: &mut Memory,
    connected: &mut dyn FnMut(Option<&Peer>),
) -> Ended {
    let result = serve_inner(stream, context, memory, connected);
    match result {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

fn serve_inner(
    stream: &mut Stream,
    context: &Context<'_>,
    memory: &mut Memory,
    connected: &mut dyn FnMut(Option<&Peer>),
) -> Result<std::convert::Infallible, Ended> {
    stream.set_write_timeout(context.plan.timeout)?;
    let mut messages = Delimited::new(REQUEST_MAX);
    let Greeted { mut channel, mut family, peer, mut rest } = greet(stream, context.plan, &mut memory.variant, None)?;
    connected(peer.as_ref());
    messages.buffer().append(&mut rest);
    stream.set_read_timeout(context.plan.timeout)?;
    let mut input = vec![0; READ_LEN];
    let mut output = Vec::new();
    // Bytes that come one by one are no message: each has the whole of `timeout`, and no more.
    let mut heard = Instant::now();
    let mut asked = false;
    loop {
        while let Some(message) = messages.next_message()? {
            let received = Instant::now();
            let family = match family {
                Some(family) => family,
                None => *family.insert(family_of(message).ok_or(WireError::NotAMessage)?),
            };
            let request = Request::decode(family, message)?;
            let decode = received.elapsed();
            let (response, after) = answer(context, family, request);
            let begun = Instant::now();
            let reply = response.encode(family);
            output.clear();
            channel.seal(&reply, &mut output)?;
            stream.write_all(&output)?;
            let times = Times { decode, write: begun.elapsed(), total: received.elapsed() };
            after.report(context, times, &mut memory.refusals);
            heard = Instant::now();
            asked = true;
        }
        if heard.elapsed() > context.plan.timeout {
            return Err(Ended::Silent(context.plan.timeout.as_secs()));
        }
        let count = read(stream, &mut input, context.plan.timeout).map_err(|ended| {
            match (ended, &channel, &context.plan.identity) {
                (Ended::Closed, Channel::Noise(_), Some(identity)) if !asked => {
                    Ended::NotWelcome(PeerId::of(identity.public_key()))
                }
                (ended, ..) => ended,
            }
        })?;
        channel.open(input.get(..count).unwrap_or_default(), messages.buffer())?;
    }
}

fn read(stream: &mut Stream, input: &mut [u8], timeout: Duration) -> Result<usize, Ended> {
    loop {
        match stream.read(input) {
            Ok(0) => return Err(Ended::Closed),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Err(Ended::Silent(timeout.as_secs())),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What is said and counted once the answer is out.
enum After {
    Nothing,
    Refused(String),
    Signed(Box<(Label, Signed)>),
    Denied(Box<(Label, Denied)>),
    SignedBytes(Box<BytesToSign>),
    KeyFailed(SignError),
}

/// A vote or proposal, as log lines name it.
struct Label {
    kind: crate::wire::SignedType,
    block: String,
    height: i64,
    round: i64,
    position: semel_guard::Position,
}

fn answer(context: &Context<'_>, family: Family, request: Request) -> (Response, After) {
    match context.terms.decide(family, request) {
        Verdict::Reply(response) => (response, After::Nothing),
        Verdict::Refuse(response) => {
            let after = After::Refused(error_text(&response));
            (response, after)
        }
        Verdict::Sign(wanted) => sign(context, *wanted),
        Verdict::SignBytes(wanted) => sign_bytes(context, wanted),
    }
}

const DRY_RUN: &str = "this signer was started with --dry-run";

fn sign_bytes(context: &Context<'_>, wanted: Box<BytesToSign>) -> (Response, After) {
    let refused = |description| Response::SignedBytes(Err(ErrorReply { code: CODE_CANNOT, description }));
    if context.dry_run {
        return (refused(DRY_RUN.into()), After::Refused(DRY_RUN.into()));
    }
    match context.chain.sign_benign(&wanted.message(&context.chain.subject().chain)) {
        Ok(signature) => (Response::SignedBytes(Ok(signature.as_bytes().to_vec())), After::SignedBytes(wanted)),
        Err(error) => (refused(error.to_string().chars().take(TEXT_MAX).collect()), After::KeyFailed(error)),
    }
}

fn sign(context: &Context<'_>, wanted: ToSign) -> (Response, After) {
    let label = Label::of(&wanted);
    if context.dry_run {
        let response = wanted.refused(CODE_CANNOT, DRY_RUN.into());
        let after = After::Refused(error_text(&response));
        return (response, after);
    }
    let extension = wanted.with_extension.then(|| Benign::VoteExtension {
        chain: &context.chain.subject().chain,
        height: wanted.height,
        round: wanted.round,
        extension: wanted.extension(),
    });
    let ask = Ask {
        position: wanted.position,
        sign_bytes: &wanted.sign_bytes.bytes,
        content: &wanted.sign_bytes.content,
        extension,
    };
    match context.chain.sign(&ask) {
        Ok(signed) => {
            let answer = &signed.answer;
            let response = wanted.signed(&answer.bytes, &answer.signature, signed.extension.as_ref());
            (response, After::Signed(Box::new((label, signed))))
        }
        Err(denied) => {
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
        let block = match hash.as_slice() {
            [] => "<nil>".to_owned(),
            hash => hash.iter().take(5).map(|byte| format!("{byte:02X}")).collect(),
        };
        Self { kind: wanted.kind, block, height: wanted.height, round: wanted.round, position: wanted.position }
    }

    /// As tmkms numbers them: 0 proposal, 1 prevote, 2 precommit.
    fn step(&self) -> u8 {
        match self.kind {
            crate::wire::SignedType::Proposal => 0,
            crate::wire::SignedType::Prevote => 1,
            crate::wire::SignedType::Precommit => 2,
        }
    }
}

impl After {
    fn report(self, context: &Context<'_>, times: Times, refusals: &mut Collapse) {
        let name = context.name;
        match self {
            Self::Nothing => {}
            Self::Refused(why) => {
                context.meters.refused(None, "request");
                if let Some(line) = refusals.observe(&format!("refused: {why}"), Instant::now()) {
                    tracing::warn!("[{name}] {line}");
                }
            }
            Self::Signed(signed) => {
                let (label, signed) = *signed;
                context.meters.signed(label.kind, &signed, times);
                context.chain.tally().signed(label.position);
                let Label { kind, block, height, round, .. } = &label;
                let (step, ms) = (label.step(), times.total.as_millis());
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
                let Label { kind, block, height, round, .. } = &label;
                let step = label.step();
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
