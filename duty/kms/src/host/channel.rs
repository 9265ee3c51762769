//! What runs below the messages of a connection: nothing, a SecretConnection or Noise.

use super::ended::Ended;
use super::plan::NodePlan;
use super::stream::{Endpoint, Stream, is_timeout};
use crate::core::noise::{self, Link, NoiseError, Secrets};
use crate::core::peer_id::PeerId;
use crate::core::secret::{Established, Expect, Handshake, Opener, Progress, Sealer, Variant};
use crate::wire::Family;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A silent peer gets our key first after this time, where we know what it spoke last.
const SILENCE: Duration = Duration::from_secs(1);

/// Bytes of a handshake that are read at once.
const READ_LEN: usize = 4096;

/// See the module.
pub(crate) enum Channel {
    /// A unix socket.
    Plain,
    /// `tcp://`
    Secret {
        /// For what we send.
        sealer: Sealer,
        /// For what we receive.
        opener: Opener,
    },
    /// `noise://`
    Noise(Box<Link>),
}

/// Who is at the other end of an encrypted connection.
pub(crate) struct Peer {
    /// Its name, as the configuration would write it.
    pub(crate) id: String,
    /// How the two shook hands.
    pub(crate) handshake: String,
}

/// A connection on which messages can be exchanged.
pub(crate) struct Greeted {
    pub(crate) channel: Channel,
    /// How messages are written, where it is known.
    pub(crate) family: Option<Family>,
    pub(crate) peer: Option<Peer>,
    /// What came behind the handshake, opened.
    pub(crate) rest: Vec<u8>,
}

impl Channel {
    /// Appends to `out` what `message` is on the wire.
    pub(crate) fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Ended> {
        match self {
            Self::Plain => out.extend_from_slice(message),
            Self::Secret { sealer, .. } => sealer.seal(message, out).map_err(Ended::Secret)?,
            Self::Noise(link) => link.seal(message, out).map_err(Ended::Noise)?,
        }
        Ok(())
    }

    /// Appends to `out` what `bytes` from the wire hold.
    pub(crate) fn open(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Ended> {
        match self {
            Self::Plain => out.extend_from_slice(bytes),
            Self::Secret { opener, .. } => opener.push(bytes, out).map_err(Ended::Secret)?,
            Self::Noise(link) => link.open(bytes, out).map_err(Ended::Noise)?,
        }
        Ok(())
    }
}

/// Shakes hands as the address asks for it. `last` is what the peer spoke the last time, and what it speaks now. A silent peer is waited
/// for until `deadline`, or for ever.
pub(crate) fn greet(
    stream: &mut Stream,
    plan: &NodePlan,
    last: &mut Option<Variant>,
    deadline: Option<Instant>,
) -> Result<Greeted, Ended> {
    match &plan.endpoint {
        Endpoint::Tcp { .. } => secret(stream, plan, last, deadline),
        Endpoint::Noise { peer, .. } => encrypted(stream, plan, *peer, deadline),
        Endpoint::Unix(_) | Endpoint::Abstract(_) => {
            Ok(Greeted { channel: Channel::Plain, family: plan.family, peer: None, rest: Vec::new() })
        }
    }
}

/// Shakes hands, and nothing more: how, and with whom.
pub(crate) fn meet(stream: &mut Stream, plan: &NodePlan) -> Result<String, Ended> {
    let peer = greet(stream, plan, &mut None, Some(Instant::now() + plan.timeout))?.peer;
    Ok(peer.map_or_else(|| "without a handshake".to_owned(), |peer| format!("{} with {}", peer.handshake, peer.id)))
}

fn secret(
    stream: &mut Stream,
    plan: &NodePlan,
    last: &mut Option<Variant>,
    deadline: Option<Instant>,
) -> Result<Greeted, Ended> {
    let known = last.take();
    let established = shake(stream, plan, known, deadline)?;
    let id = crate::core::node_id(&established.peer);
    if let Some(expected) = plan.peer_id.filter(|expected| *expected != id) {
        return Err(Ended::WrongPeer { expected: hex::encode(expected), found: hex::encode(id) });
    }
    let Established { variant, sealer, opener, rest, .. } = *established;
    *last = Some(variant);
    Ok(Greeted {
        channel: Channel::Secret { sealer, opener },
        family: Some(variant.family()),
        peer: Some(Peer { id: hex::encode(id), handshake: variant.to_string() }),
        rest,
    })
}

/// The handshake of a SecretConnection. A peer that has not spoken yet may be a node that has not taken us from its backlog: it is
/// waited for.
fn shake(
    stream: &mut Stream,
    plan: &NodePlan,
    known: Option<Variant>,
    deadline: Option<Instant>,
) -> Result<Box<Established>, Ended> {
    let identity = plan.identity.as_deref().ok_or(Ended::NoIdentity)?;
    let mut handshake = Handshake::new(plan.expect, *random()?);
    let first_word = match plan.expect {
        Expect::Only(variant) => Some(variant),
        Expect::Auto => known,
    };
    let mut output = Vec::new();
    exchange(stream, plan.timeout, deadline, |bytes| {
        output.clear();
        let Some(bytes) = bytes else {
            if let (true, Some(variant)) = (handshake.is_silent(), first_word) {
                handshake.speak_first(variant, &mut output);
            }
            return Ok((std::mem::take(&mut output), None));
        };
        let progress = handshake.push(bytes, identity, &mut output).map_err(Ended::Handshake)?;
        let done = match progress {
            Progress::Established(established) => Some(established),
            Progress::Waiting => None,
        };
        Ok((std::mem::take(&mut output), done))
    })
}

fn encrypted(stream: &mut Stream, plan: &NodePlan, peer: PeerId, deadline: Option<Instant>) -> Result<Greeted, Ended> {
    let identity = plan.identity.as_deref().ok_or(Ended::NoIdentity)?;
    let failed = |error| match error {
        NoiseError::WrongPeer { expected, found } => {
            Ended::WrongPeer { expected: expected.to_string(), found: found.to_string() }
        }
        error => Ended::NoiseHandshake(error),
    };
    let mut output = Vec::new();
    let secrets = Secrets { static_key: random()?, ephemeral: random()? };
    let mut handshake = noise::Handshake::dial(peer, secrets, &mut output).map_err(failed)?;
    stream.write_all(&output)?;
    let established = exchange(stream, plan.timeout, deadline, |bytes| {
        let mut output = Vec::new();
        let done = match handshake.push(bytes.unwrap_or_default(), identity, &mut output).map_err(failed)? {
            noise::Progress::Established(established) => Some(established),
            noise::Progress::Waiting => None,
        };
        Ok((output, done))
    })?;
    let noise::Established { peer, link, rest } = *established;
    Ok(Greeted {
        channel: Channel::Noise(Box::new(link)),
        family: Some(Family::Protobuf),
        peer: Some(Peer { id: peer.to_string(), handshake: "noise".to_owned() }),
        rest,
    })
}

/// Reads and writes until a handshake is done: `step` gets what came, or nothing after a silence, and gives what is to be sent.
/// From the first byte on there is a deadline, if there was none before.
fn exchange<T>(
    stream: &mut Stream,
    timeout: Duration,
    mut deadline: Option<Instant>,
    mut step: impl FnMut(Option<&[u8]>) -> Result<(Vec<u8>, Option<T>), Ended>,
) -> Result<T, Ended> {
    stream.set_read_timeout(SILENCE)?;
    let mut input = [0; READ_LEN];
    loop {
        let (output, done) = match stream.read(&mut input) {
            Ok(0) => return Err(Ended::ClosedEarly),
            Ok(count) => {
                deadline.get_or_insert_with(|| Instant::now() + timeout);
                step(input.get(..count))?
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if is_timeout(&error) => step(None)?,
            Err(error) => return Err(error.into()),
        };
        stream.write_all(&output)?;
        if let Some(done) = done {
            return Ok(done);
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(Ended::Silent(timeout.as_secs()));
        }
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>, Ended> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}
