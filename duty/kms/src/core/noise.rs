//! `noise://`: the encrypted connection between signer and node of CometBFT v0.40 and later, as a state machine.
//!
//! Noise XX over Curve25519, ChaCha20-Poly1305 and SHA-256, with the identities of libp2p in its second and third message:
//!
//! ```text
//! signer → node   e
//! node → signer   e, ee, s, es   {1: identity key, 2: its signature over "noise-libp2p-static-key:" and the static key}
//! signer → node   s, se          the same of ours
//! ```
//!
//! Each message, and each frame after them, has a length of 2 bytes before it, high byte first; nothing is negotiated. Both sides
//! know each other's name beforehand, and end the handshake with anybody else. So this is the one way over a network on which
//! the signer knows its node. Static keys are made anew for each connection; what lasts is the Ed25519 identity.
//!
//! Frames hold at most 65519 bytes and a tag of 16; their order is part of what is sealed.

use super::peer_id::{KEY_HEAD, PeerId};
use super::secret;
use crate::wire::proto::{Fields, Value, put_bytes};
use ed25519_dalek::{Signature, VerifyingKey};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};
use std::fmt;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

const PROTOCOL: &str = "Noise_XX_25519_ChaChaPoly_SHA256";

/// What a static key is signed behind.
pub const STATIC_KEY_PREFIX: &[u8; 24] = b"noise-libp2p-static-key:";

/// Longest handshake message that is read, in bytes. A node's has some 230; what it may add to its payload is not read.
pub const HANDSHAKE_MAX: usize = 4096;

/// Bytes of a tag.
const TAG_LEN: usize = 16;

/// Longest sealed frame, in bytes, without its length.
pub const FRAME_MAX: usize = u16::MAX as usize;

/// Most data bytes of a frame.
const DATA_MAX: usize = FRAME_MAX - TAG_LEN;

/// A connection that cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// A handshake message that is longer than any.
    #[error("a handshake message announces {0} bytes, at most {HANDSHAKE_MAX} are read: the peer does not speak Noise")]
    HandshakeLength(usize),
    /// A handshake message that does not open.
    #[error("a handshake message does not open: altered, out of order, or the peer does not speak Noise")]
    Handshake,
    /// The identity payload is not one.
    #[error("the peer's identity is malformed, or no Ed25519 key")]
    Identity,
    /// The peer does not hold the key it names.
    #[error("the peer's signature over its static key is wrong")]
    Signature,
    /// Somebody else.
    #[error("expected peer {expected}, found {found}")]
    WrongPeer {
        /// Configured.
        expected: PeerId,
        /// Who is there.
        found: PeerId,
    },
    /// A frame does not open.
    #[error("a frame does not open: altered, repeated, out of order, or for another connection")]
    Frame,
    /// The handshake is over.
    #[error("the handshake is over")]
    Ended,
    /// The Noise parameters are not to be had.
    #[error("Noise cannot be set up: {0}")]
    Setup(String),
}

/// The identity of this side: an Ed25519 key that signs static keys, behind their prefix, besides challenges.
pub trait Identity: secret::Identity {
    /// Signs [`STATIC_KEY_PREFIX`] and this key.
    fn sign_static_key(&self, key: &[u8; 32]) -> [u8; 64];
}

/// Random bytes for one connection, never used again.
pub struct Secrets {
    /// The static key.
    pub static_key: Zeroizing<[u8; 32]>,
    /// The ephemeral key.
    pub ephemeral: Zeroizing<[u8; 32]>,
}

/// What a step of the handshake comes to.
pub enum Progress {
    /// More bytes are needed.
    Waiting,
    /// Done.
    Established(Box<Established>),
}

/// A connection whose peer is known.
pub struct Established {
    /// Who it is.
    pub peer: PeerId,
    /// Seals and opens.
    pub link: Link,
    /// What came behind the handshake, opened.
    pub rest: Vec<u8>,
}

/// A handshake under way.
pub struct Handshake {
    state: Option<HandshakeState>,
    stage: Stage,
    expected: PeerId,
    static_public: [u8; 32],
    received: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The node waits for the first message.
    First,
    /// The signer waits for the second.
    Second,
    /// The node waits for the third.
    Third,
}

/// Gives snow the ephemeral key that was given to us, once.
struct Given(Option<Zeroizing<[u8; 32]>>);

impl Random for Given {
    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), snow::Error> {
        let given = self.0.take().filter(|given| given.len() == to.len()).ok_or(snow::Error::Rng)?;
        to.copy_from_slice(given.as_ref());
        Ok(())
    }
}

/// Everything of snow's own, but for randomness.
struct Resolver(std::sync::Mutex<Option<Zeroizing<[u8; 32]>>>);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        let given = self.0.lock().ok()?.take();
        Some(Box::new(Given(given)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

impl Handshake {
    /// The signer's side, which speaks first: appends its first message to `out`.
    ///
    /// # Errors
    /// [`NoiseError::Setup`].
    pub fn dial(expected: PeerId, secrets: Secrets, out: &mut Vec<u8>) -> Result<Self, NoiseError> {
        let mut handshake = Self::new(expected, secrets, true)?;
        handshake.write(&[], out)?;
        Ok(handshake)
    }

    /// The node's side, which waits.
    ///
    /// # Errors
    /// [`NoiseError::Setup`].
    pub fn listen(expected: PeerId, secrets: Secrets) -> Result<Self, NoiseError> {
        Self::new(expected, secrets, false)
    }

    fn new(expected: PeerId, secrets: Secrets, dials: bool) -> Result<Self, NoiseError> {
        let setup = |error: snow::Error| NoiseError::Setup(error.to_string());
        let Secrets { static_key, ephemeral } = secrets;
        let resolver = Resolver(std::sync::Mutex::new(Some(ephemeral)));
        let params = PROTOCOL.parse().map_err(setup)?;
        let builder = Builder::with_resolver(params, Box::new(resolver));
        let builder = builder.local_private_key(static_key.as_ref()).map_err(setup)?;
        let state = if dials { builder.build_initiator() } else { builder.build_responder() };
        let static_public = PublicKey::from(&StaticSecret::from(*static_key)).to_bytes();
        let stage = if dials { Stage::Second } else { Stage::First };
        Ok(Self { state: Some(state.map_err(setup)?), stage, expected, static_public, received: Vec::new() })
    }

    /// Whether the peer has said nothing yet.
    pub fn is_silent(&self) -> bool {
        self.stage != Stage::Third && self.received.is_empty()
    }

    /// Takes bytes from the peer; appends to `out` what is to be sent now. After an error there is nothing more to say.
    ///
    /// # Errors
    /// Why the peer is not trusted.
    pub fn push(&mut self, bytes: &[u8], identity: &dyn Identity, out: &mut Vec<u8>) -> Result<Progress, NoiseError> {
        let progress = self.advance(bytes, identity, out);
        if progress.is_err() {
            self.state = None;
        }
        progress
    }

    fn advance(&mut self, bytes: &[u8], identity: &dyn Identity, out: &mut Vec<u8>) -> Result<Progress, NoiseError> {
        if self.state.is_none() {
            return Err(NoiseError::Ended);
        }
        self.received.extend_from_slice(bytes);
        while let Some(message) = self.take_message()? {
            let payload = self.read(&message)?;
            match self.stage {
                Stage::First => {
                    self.write(&self.payload(identity), out)?;
                    self.stage = Stage::Third;
                }
                Stage::Second => {
                    self.check_peer(&payload)?;
                    self.write(&self.payload(identity), out)?;
                    return self.establish();
                }
                Stage::Third => {
                    self.check_peer(&payload)?;
                    return self.establish();
                }
            }
        }
        Ok(Progress::Waiting)
    }

    fn state(&mut self) -> Result<&mut HandshakeState, NoiseError> {
        self.state.as_mut().ok_or(NoiseError::Ended)
    }

    /// The next message, once it is whole.
    fn take_message(&mut self) -> Result<Option<Vec<u8>>, NoiseError> {
        let Some((length, rest)) = self.received.split_first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > HANDSHAKE_MAX {
            return Err(NoiseError::HandshakeLength(length));
        }
        let Some(message) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.received.drain(..length + 2);
        Ok(Some(message))
    }

    fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let mut payload = vec![0; HANDSHAKE_MAX];
        let count = self.state()?.read_message(message, &mut payload).map_err(|_| NoiseError::Handshake)?;
        payload.truncate(count);
        Ok(payload)
    }

    fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let mut message = vec![0; HANDSHAKE_MAX];
        let count = self.state()?.write_message(payload, &mut message).map_err(|_| NoiseError::Handshake)?;
        message.truncate(count);
        out.extend_from_slice(&(count as u16).to_be_bytes());
        out.append(&mut message);
        Ok(())
    }

    /// {1: our key, 2: its signature over our static key}
    fn payload(&self, identity: &dyn Identity) -> Vec<u8> {
        let mut out = Vec::with_capacity(112);
        put_bytes(&mut out, 1, &[KEY_HEAD.as_slice(), &identity.public_key()].concat());
        put_bytes(&mut out, 2, &identity.sign_static_key(&self.static_public));
        out
    }

    /// The peer is the one that is expected, and holds its key.
    fn check_peer(&mut self, payload: &[u8]) -> Result<(), NoiseError> {
        let expected = self.expected;
        let remote: Option<[u8; 32]> = self.state()?.get_remote_static().and_then(|key| key.try_into().ok());
        let remote = remote.ok_or(NoiseError::Handshake)?;
        let (key, signature) = identity_of(payload).ok_or(NoiseError::Identity)?;
        let verifying = VerifyingKey::from_bytes(&key).map_err(|_| NoiseError::Identity)?;
        let signed = [STATIC_KEY_PREFIX.as_slice(), &remote].concat();
        verifying.verify_strict(&signed, &signature).map_err(|_| NoiseError::Signature)?;
        // Only now it is known who is there.
        let found = PeerId::of(key);
        if found == expected { Ok(()) } else { Err(NoiseError::WrongPeer { expected, found }) }
    }

    fn establish(&mut self) -> Result<Progress, NoiseError> {
        let state = self.state.take().ok_or(NoiseError::Ended)?;
        let transport = state.into_transport_mode().map_err(|_| NoiseError::Handshake)?;
        let mut link = Link { transport, partial: Vec::new() };
        let mut rest = Vec::new();
        link.open(&std::mem::take(&mut self.received), &mut rest)?;
        Ok(Progress::Established(Box::new(Established { peer: self.expected, link, rest })))
    }
}

fn identity_of(payload: &[u8]) -> Option<([u8; 32], Signature)> {
    let (mut key, mut signature) = (None, None);
    for field in Fields(payload) {
        let field = field.ok()?;
        match (field.number, field.value) {
            (1, Value::Bytes(bytes)) => key = Some(ed25519_key(bytes)?),
            (2, Value::Bytes(bytes)) => signature = Signature::from_slice(bytes).ok(),
            _ => {}
        }
    }
    key.zip(signature)
}

/// {1: 1, 2: 32 bytes}
fn ed25519_key(message: &[u8]) -> Option<[u8; 32]> {
    let (mut kind, mut data) = (0, None);
    for field in Fields(message) {
        let field = field.ok()?;
        match (field.number, field.value) {
            (1, Value::Varint(number)) => kind = number,
            (2, Value::Bytes(bytes)) => data = <[u8; 32]>::try_from(bytes).ok(),
            _ => {}
        }
    }
    data.filter(|_| kind == 1)
}

/// Seals what is sent and opens what is received.
pub struct Link {
    transport: TransportState,
    /// A frame that is not whole yet, with its length.
    partial: Vec<u8>,
}

impl Link {
    /// Appends the frames of `message` to `out`, to be sent with one write.
    ///
    /// # Errors
    /// [`NoiseError::Frame`] after 2⁶⁴ − 1 frames.
    pub fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        for chunk in message.chunks(DATA_MAX) {
            let length = chunk.len() + TAG_LEN;
            out.extend_from_slice(&(length as u16).to_be_bytes());
            let start = out.len();
            out.resize(start + length, 0);
            let sealed = out.get_mut(start..).unwrap_or_default();
            self.transport.write_message(chunk, sealed).map_err(|_| NoiseError::Frame)?;
        }
        Ok(())
    }

    /// Takes bytes from the stream and appends what whole frames hold to `out`.
    ///
    /// # Errors
    /// [`NoiseError::Frame`]; the connection is over then.
    pub fn open(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        while !bytes.is_empty() {
            let whole = match self.partial.first_chunk::<2>() {
                Some(length) => 2 + usize::from(u16::from_be_bytes(*length)),
                None => 2,
            };
            let missing = whole.saturating_sub(self.partial.len()).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
            self.partial.extend_from_slice(head);
            bytes = rest;
            self.open_whole(out)?;
        }
        Ok(())
    }

    /// Opens the frame that is kept, if it is whole.
    fn open_whole(&mut self, out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let Some((length, frame)) = self.partial.split_first_chunk::<2>() else { return Ok(()) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length < TAG_LEN {
            return Err(NoiseError::Frame);
        }
        if frame.len() < length {
            return Ok(());
        }
        let start = out.len();
        // snow wants room for the tag too.
        out.resize(start + length, 0);
        let plain = out.get_mut(start..).unwrap_or_default();
        let opened = self.transport.read_message(frame, plain);
        out.truncate(start + opened.as_ref().copied().unwrap_or(0));
        self.partial.clear();
        opened.map(|_| ()).map_err(|_| NoiseError::Frame)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}
