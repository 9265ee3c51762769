//! One connection to one node, from the handshake to its end.
//!
//! Requests are answered strictly one after another, each with one write. What a request takes beyond its answer (log line,
//! metrics) comes after the write.

use super::chain::{Ask, Chain, Signed};
use super::meters::Meters;
use super::stream::Stream;
use crate::core::secret::{Established, Expect, Handshake, Identity, Opener, Progress, Sealer, SecretError, Variant};
use crate::core::session::{CODE_CANNOT, CODE_DOUBLE_SIGN, Terms, ToSign, Verdict};
use crate::wire::{Delimited, DelimitedError, Family, Request, Response, WireError, family_of};
use semel_guard::{Benign, Denied, Reason};
use semel_ops::log::Collapse;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// Longest request, in bytes: proposals of some chains are large; 1 MiB and room for its envelope.
pub const REQUEST_MAX: usize = (1 << 20) + 4096;

/// A silent peer gets our key first after this time, where we know what it spoke last.
const SILENCE: Duration = Duration::from_secs(1);

/// Bytes read at once: 62 frames.
const READ_LEN: usize = 64 * 1024;

/// Longest text in an error reply.
const TEXT_MAX: usize = 512;

/// Who and what a connection is for.
pub(crate) struct Context<'a> {
    /// `CHAIN@ADDR`, as log lines begin.
    pub(crate) name: &'a str,
    pub(crate) chain: &'a Chain,
    pub(crate) terms: &'a Terms,
    pub(crate) identity: Option<&'a dyn Identity>,
    pub(crate) expect: Expect,
    /// Family of an unencrypted connection, if the configuration names one.
    pub(crate) family: Option<Family>,
    pub(crate) peer_id: Option<[u8; 20]>,
    pub(crate) timeout: Duration,
    pub(crate) meters: &'a Meters,
    /// Connect and answer, but sign nothing.
    pub(crate) dry_run: bool,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the node closed the connection")]
    Closed,
    #[error(
        "the node closed the connection within the handshake: it has a signer already, or does not speak the \
         protocol_version that is configured"
    )]
    ClosedEarly,
    #[error("no message for {0} s, not even a ping")]
    Silent(u64),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("handshake failed: {0}")]
    Handshake(#[source] SecretError),
    #[error("the connection cannot go on: {0}")]
    Secret(#[source] SecretError),
    #[error("expected peer {expected}, found {found}")]
    WrongPeer { expected: String, found: String },
    #[error("a TCP connection needs a secret_key")]
    NoIdentity,
    #[error("undecodable request: {0}")]
    Wire(#[from] WireError),
    #[error("undecodable request: {0}")]
    Delimited(#[from] DelimitedError),
}

impl Ended {
    /// One word, for metric labels.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Silent(_) => "silent",
            Self::Io(_) => "io",
            Self::ClosedEarly | Self::Handshake(_) => "handshake",
            Self::Secret(_) => "frame",
            Self::WrongPeer { .. } => "wrong_peer",
            Self::NoIdentity => "no_identity",
            Self::Wire(_) | Self::Delimited(_) => "undecodable",
        }
    }
}

/// What of a connection outlives it.
#[derive(Default)]
pub(crate) struct Memory {
    /// What the peer spoke last.
    pub(crate) variant: Option<Variant>,
    /// Refusals that were logged: a node that asks the same wrong thing for ever is told of now and then.
    refusals: Collapse,
}

/// What runs below the messages.
enum Channel {
    Plain,
    Secret { sealer: Sealer, opener: Opener },
}

/// Serves a node until the connection ends. `connected` is called once the node is known.
pub(crate) fn serve(
    stream: &mut Stream,
    context: &Context<'_>,
    memory: &mut Memory,
    connected: &mut dyn FnMut(Option<&Established>),
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
    connected: &mut dyn FnMut(Option<&Established>),
) -> Result<std::convert::Infallible, Ended> {
    stream.set_write_timeout(context.timeout)?;
    let mut messages = Delimited::new(REQUEST_MAX);
    let mut family = context.family;
    let mut channel = Channel::Plain;
    if stream.is_tcp() {
        let identity = context.identity.ok_or(Ended::NoIdentity)?;
        let known = std::mem::take(&mut memory.variant);
        let mut established = shake(stream, context, identity, known)?;
        if let Some(expected) = context.peer_id {
            let found = crate::core::node_id(&established.peer);
            if expected != found {
                let (expected, found) = (hex::encode(expected), hex::encode(found));
                return Err(Ended::WrongPeer { expected, found });
            }
        }
        memory.variant = Some(established.variant);
        family = Some(established.variant.family());
        connected(Some(&established));
        messages.buffer().append(&mut established.rest);
        let Established { sealer, opener, .. } = *established;
        channel = Channel::Secret { sealer, opener };
    } else {
        connected(None);
    }
    stream.set_read_timeout(context.timeout)?;
    let mut input = vec![0; READ_LEN];
    let mut output = Vec::new();
    // Bytes that come one by one are no message: each has the whole of `timeout`, and no more.
    let mut heard = Instant::now();
    loop {
        let received = Instant::now();
        while let Some(message) = messages.next_message()? {
            let family = match family {
                Some(family) => family,
                None => *family.insert(family_of(message).ok_or(WireError::NotAMessage)?),
            };
            let request = Request::decode(family, message)?;
            let (response, after) = answer(context, family, request);
            let reply = response.encode(family);
            match &mut channel {
                Channel::Plain => stream.write_all(&reply)?,
                Channel::Secret { sealer, .. } => {
                    output.clear();
                    sealer.seal(&reply, &mut output).map_err(Ended::Secret)?;
                    stream.write_all(&output)?;
                }
            }
            after.report(context, received, &mut memory.refusals);
            heard = Instant::now();
        }
        if heard.elapsed() > context.timeout {
            return Err(Ended::Silent(context.timeout.as_secs()));
        }
        let count = read(stream, &mut input, context.timeout)?;
        let bytes = input.get(..count).unwrap_or_default();
        match &mut channel {
            Channel::Plain => messages.buffer().extend_from_slice(bytes),
            Channel::Secret { opener, .. } => opener.push(bytes, messages.buffer()).map_err(Ended::Secret)?,
        }
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

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The handshake. A peer that has not spoken yet may be a node that has not taken us from its backlog: it is waited for.
fn shake(
    stream: &mut Stream,
    context: &Context<'_>,
    identity: &dyn Identity,
    known: Option<Variant>,
) -> Result<Box<Established>, Ended> {
    let mut ephemeral = [0; 32];
    getrandom::fill(&mut ephemeral).map_err(|error| io::Error::other(error.to_string()))?;
    let mut handshake = Handshake::new(context.expect, ephemeral);
    let first_word = match context.expect {
        Expect::Only(variant) => Some(variant),
        Expect::Auto => known,
    };
    stream.set_read_timeout(SILENCE)?;
    let mut input = [0; 4096];
    let mut output = Vec::new();
    let mut deadline = None;
    loop {
        match stream.read(&mut input) {
            Ok(0) => return Err(Ended::ClosedEarly),
            Ok(count) => {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + context.timeout);
                let bytes = input.get(..count).unwrap_or_default();
                let progress = handshake.push(bytes, identity, &mut output).map_err(Ended::Handshake)?;
                stream.write_all(&output)?;
                output.clear();
                if let Progress::Established(established) = progress {
                    return Ok(established);
                }
                if Instant::now() > deadline {
                    return Err(Ended::Silent(context.timeout.as_secs()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => {
                if let (true, Some(variant)) = (handshake.is_silent(), first_word) {
                    handshake.speak_first(variant, &mut output);
                    stream.write_all(&output)?;
                    output.clear();
                }
                if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    return Err(Ended::Silent(context.timeout.as_secs()));
                }
            }
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
        Verdict::SignRaw { unique_id, raw_bytes } => sign_raw(context, &unique_id, &raw_bytes),
    }
}

fn sign(context: &Context<'_>, wanted: ToSign) -> (Response, After) {
    let label = Label::of(&wanted);
    if context.dry_run {
        let response = wanted.refused(CODE_CANNOT, "this signer was started with --dry-run".into());
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

fn sign_raw(context: &Context<'_>, unique_id: &str, raw_bytes: &[u8]) -> (Response, After) {
    let signed = match context.dry_run {
        true => Err("this signer was started with --dry-run".to_owned()),
        false => context.chain.sign_raw(unique_id, raw_bytes).map_err(|error| error.to_string()),
    };
    match signed {
        Ok(signature) => {
            let name = unique_id.chars().take(64).filter(|c| !c.is_control()).collect::<String>();
            tracing::info!("[{}] signed RawBytes:{name} ({} bytes)", context.name, raw_bytes.len());
            (Response::SignedRawBytes(signature.as_bytes().to_vec()), After::Nothing)
        }
        Err(why) => {
            let description = why.chars().take(TEXT_MAX).collect();
            let response = Response::SignedBytes(crate::wire::ErrorReply { code: CODE_CANNOT, description });
            let after = After::Refused(error_text(&response));
            (response, after)
        }
    }
}

fn error_text(response: &Response) -> String {
    match response {
        Response::PubKey(Err(error))
        | Response::SignedVote(Err(error))
        | Response::SignedProposal(Err(error))
        | Response::SignedBytes(error) => error.description.clone(),
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
    fn report(self, context: &Context<'_>, received: Instant, refusals: &mut Collapse) {
        let name = context.name;
        match self {
            Self::Nothing => {}
            Self::Refused(why) => {
                context.meters.refused("request");
                if let Some(line) = refusals.observe(&format!("refused: {why}"), Instant::now()) {
                    tracing::warn!("[{name}] {line}");
                }
            }
            Self::Signed(signed) => {
                let (label, signed) = *signed;
                let total = received.elapsed();
                context.meters.signed(label.kind, label.position, &signed, total);
                let Label { kind, block, height, round, .. } = &label;
                let (step, ms) = (label.step(), total.as_millis());
                if signed.answer.repeated {
                    tracing::info!("[{name}] repeated {kind:?}:{block} at h/r/s {height}/{round}/{step} ({ms} ms)");
                } else {
                    tracing::info!("[{name}] signed {kind:?}:{block} at h/r/s {height}/{round}/{step} ({ms} ms)");
                }
            }
            Self::Denied(denied) => {
                let (label, denied) = *denied;
                let Label { kind, block, height, round, .. } = &label;
                let step = label.step();
                match &denied {
                    Denied::Refused(refusal) => {
                        context.meters.refused(refusal.reason.label());
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
                        context.meters.refused("key");
                        tracing::error!("[{name}] {kind:?}:{block} at h/r/s {height}/{round}/{step}: {error}");
                    }
                }
            }
        }
    }
}
