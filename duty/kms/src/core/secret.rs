//! SecretConnection: the encrypted connection between node and signer over TCP, as a state machine.
//!
//! Station-to-station: both sides send an ephemeral X25519 key, derive two ChaCha20-Poly1305 keys, and prove their Ed25519
//! identity over a challenge. Three variants:
//!
//! | | ephemeral message | challenge | identity message |
//! |---|---|---|---|
//! | legacy (v0.32 and older) | amino, 34 bytes | HKDF bytes 64–95 | amino, 106 bytes |
//! | v0.33 | amino, 34 bytes | Merlin | amino, 106 bytes |
//! | v0.34 and newer | protobuf, 35 bytes | Merlin | protobuf, 103 bytes |
//!
//! A node writes its part of each stage without waiting for ours. So the signer reads first, and learns the variant from the
//! first byte and from which challenge the node's signature is over; nothing has to be configured.
//!
//! Frames: 4-byte little-endian length (0–1024) and 1024 bytes, sealed to 1044 bytes; nonce = 4 zero bytes and a 64-bit
//! little-endian counter per direction.

use crate::wire::Family;
use ed25519_dalek::{Signature, VerifyingKey};
use hkdf::Hkdf;
use merlin::Transcript;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;
use std::fmt;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

/// Data bytes of a frame.
const DATA_LEN: usize = 1024;
/// Bytes of a frame before sealing.
const PLAIN_LEN: usize = DATA_LEN + 4;
/// Bytes of a frame on the wire.
pub const FRAME_LEN: usize = PLAIN_LEN + 16;

const AMINO_EPHEMERAL: [u8; 2] = [0x21, 0x20];
const PROTO_EPHEMERAL: [u8; 3] = [0x22, 0x0a, 0x20];
/// 105 bytes: {1: 5 + 32 bytes of amino key, 2: 64 bytes}.
const AMINO_AUTH: [u8; 8] = [0x69, 0x0a, 0x25, 0x16, 0x24, 0xde, 0x64, 0x20];
/// 102 bytes: {1: {1: 32 bytes}, 2: 64 bytes}.
const PROTO_AUTH: [u8; 5] = [0x66, 0x0a, 0x22, 0x0a, 0x20];
const AUTH_SIGNATURE: [u8; 2] = [0x12, 0x40];

/// How the two sides shake hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Tendermint v0.32 and older.
    Legacy,
    /// Tendermint v0.33.
    V033,
    /// Tendermint v0.34, CometBFT.
    V034,
}

impl Variant {
    /// How messages are written on such a connection.
    pub const fn family(self) -> Family {
        match self {
            Self::Legacy | Self::V033 => Family::Amino,
            Self::V034 => Family::Protobuf,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy (v0.32 and older)",
            Self::V033 => "v0.33",
            Self::V034 => "v0.34 or newer",
        })
    }
}

/// Which variants are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever the peer speaks.
    Auto,
    /// This one.
    Only(Variant),
}

/// A connection that cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The first byte is neither an amino nor a protobuf ephemeral key.
    #[error("the peer does not speak SecretConnection: first bytes {0}")]
    NotSecretConnection(String),
    /// The configuration names another protocol.
    #[error("protocol_version asks for {expected}, and the node speaks {found}")]
    Variant {
        /// What the configuration names.
        expected: Variant,
        /// What the peer speaks.
        found: Variant,
    },
    /// The shared secret is zero: a key of low order.
    #[error("the peer's ephemeral key is of low order")]
    LowOrder,
    /// A frame does not open: wrong key, altered, repeated or out of order.
    #[error("a frame does not open: altered, repeated, out of order, or for another connection")]
    Frame,
    /// A frame says that it holds more than it can.
    #[error("a frame announces {0} bytes of 1024")]
    FrameLength(u32),
    /// The identity message is not one.
    #[error("the peer's identity message is malformed")]
    Identity,
    /// The peer does not hold the key it names.
    #[error("the peer's signature over the challenge is wrong")]
    Signature,
    /// 2⁶⁴ frames.
    #[error("the connection has sent as many frames as it may")]
    NonceOverflow,
}

/// Seals what we send.
pub struct Sealer {
    cipher: Option<Box<LessSafeKey>>,
    counter: Option<u64>,
}

/// Opens what we receive.
pub struct Opener {
    cipher: Option<Box<LessSafeKey>>,
    counter: Option<u64>,
    /// A frame that is not whole yet.
    partial: Vec<u8>,
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce.iter_mut().skip(4).zip(counter.to_le_bytes()).for_each(|(to, from)| *to = from);
    Nonce::assume_unique_for_key(nonce)
}

/// ring's, which takes a quarter of the time of the others for a frame. None, which seals and opens nothing, is for keys of
/// another length.
fn cipher(mut key: [u8; 32]) -> Option<Box<LessSafeKey>> {
    let cipher = UnboundKey::new(&CHACHA20_POLY1305, &key).ok().map(LessSafeKey::new).map(Box::new);
    key.zeroize();
    cipher
}

impl Sealer {
    /// Seals with this key, from counter 0.
    pub fn new(key: [u8; 32]) -> Self {
        Self { cipher: cipher(key), counter: Some(0) }
    }

    /// Appends the frames of `message` to `out`, to be sent with one write.
    pub fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), SecretError> {
        for chunk in message.chunks(DATA_LEN) {
            let counter = self.counter.ok_or(SecretError::NonceOverflow)?;
            let cipher = self.cipher.as_ref().ok_or(SecretError::Frame)?;
            let start = out.len();
            out.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
            out.extend_from_slice(chunk);
            out.resize(start + PLAIN_LEN, 0);
            let plain = out.get_mut(start..).unwrap_or_default();
            let tag = cipher.seal_in_place_separate_tag(nonce(counter), Aad::empty(), plain);
            out.extend_from_slice(tag.map_err(|_| SecretError::Frame)?.as_ref());
            self.counter = counter.checked_add(1);
        }
        Ok(())
    }
}

impl Opener {
    /// Opens with this key, from counter 0.
    pub fn new(key: [u8; 32]) -> Self {
        Self { cipher: cipher(key), counter: Some(0), partial: Vec::with_capacity(FRAME_LEN) }
    }

    /// Takes bytes from the stream and appends what whole frames hold to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), SecretError> {
        while !bytes.is_empty() {
            let missing = FRAME_LEN.saturating_sub(self.partial.len()).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
            self.partial.extend_from_slice(head);
            bytes = rest;
            if self.partial.len() == FRAME_LEN {
                self.open(out)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, out: &mut Vec<u8>) -> Result<(), SecretError> {
        let counter = self.counter.ok_or(SecretError::NonceOverflow)?;
        let cipher = self.cipher.as_ref().ok_or(SecretError::Frame)?;
        let plain = cipher.open_in_place(nonce(counter), Aad::empty(), &mut self.partial);
        let plain = plain.map_err(|_| SecretError::Frame)?;
        self.counter = counter.checked_add(1);
        let (length, data) = plain.split_first_chunk::<4>().ok_or(SecretError::Frame)?;
        let length = u32::from_le_bytes(*length);
        let data = data.get(..length as usize).ok_or(SecretError::FrameLength(length))?;
        out.extend_from_slice(data);
        self.partial.clear();
        Ok(())
    }
}

/// The identity of this side: an Ed25519 key that signs challenges and nothing else.
pub trait Identity {
    /// The public key.
    fn public_key(&self) -> [u8; 32];
    /// Signs a challenge.
    fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64];
}

/// A connection whose peer is known.
pub struct Established {
    /// The peer's Ed25519 key.
    pub peer: [u8; 32],
    /// How the two shook hands.
    pub variant: Variant,
    /// For what we send.
    pub sealer: Sealer,
    /// For what we receive.
    pub opener: Opener,
    /// What came behind the handshake, opened.
    pub rest: Vec<u8>,
}

/// What a step of the handshake comes to.
pub enum Progress {
    /// More bytes are needed.
    Waiting,
    /// Done.
    Established(Box<Established>),
}

/// A handshake under way.
pub struct Handshake {
    secret: StaticSecret,
    public: [u8; 32],
    expect: Expect,
    /// The variant in which our ephemeral key went out.
    spoken: Option<Variant>,
    stage: Stage,
    received: Vec<u8>,
}

enum Stage {
    Ephemeral,
    Auth(Box<Auth>),
    Ended,
}

struct Auth {
    keys: Keys,
    opener: Opener,
    opened: Vec<u8>,
    family: Family,
    /// Our identity is out already (we speak a fixed variant).
    sealer: Option<Sealer>,
}

struct Keys {
    send: [u8; 32],
    receive: [u8; 32],
    legacy: [u8; 32],
    merlin: [u8; 32],
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.send.zeroize();
        self.receive.zeroize();
        self.legacy.zeroize();
        self.merlin.zeroize();
    }
}

impl Keys {
    fn challenge(&self, variant: Variant) -> &[u8; 32] {
        match variant {
            Variant::Legacy => &self.legacy,
            Variant::V033 | Variant::V034 => &self.merlin,
        }
    }

    fn derive(secret: &StaticSecret, ours: &[u8; 32], theirs: &[u8; 32]) -> Result<Self, SecretError> {
        let shared = secret.diffie_hellman(&PublicKey::from(*theirs));
        if !shared.was_contributory() {
            return Err(SecretError::LowOrder);
        }
        Ok(Self::from_shared(shared.as_bytes(), ours, theirs))
    }

    fn from_shared(shared: &[u8; 32], ours: &[u8; 32], theirs: &[u8; 32]) -> Self {
        let (low, high) = if ours < theirs { (ours, theirs) } else { (theirs, ours) };
        let mut okm = Zeroizing::new([0; 96]);
        let info = b"TENDERMINT_SECRET_CONNECTION_KEY_AND_CHALLENGE_GEN";
        // 96 bytes are far below what HKDF can give (255 × 32), the one thing it refuses.
        let _fits = Hkdf::<Sha256>::new(None, shared).expand(info, okm.as_mut());
        let part = |from: usize| {
            let mut out = [0; 32];
            out.iter_mut().zip(okm.iter().skip(from)).for_each(|(to, from)| *to = *from);
            out
        };
        let (receive, send) = if ours == low { (part(0), part(32)) } else { (part(32), part(0)) };
        let mut transcript = Transcript::new(b"TENDERMINT_SECRET_CONNECTION_TRANSCRIPT_HASH");
        transcript.append_message(b"EPHEMERAL_LOWER_PUBLIC_KEY", low);
        transcript.append_message(b"EPHEMERAL_UPPER_PUBLIC_KEY", high);
        transcript.append_message(b"DH_SECRET", shared);
        let mut merlin = [0; 32];
        transcript.challenge_bytes(b"SECRET_CONNECTION_MAC", &mut merlin);
        Self { send, receive, legacy: part(64), merlin }
    }
}

impl Handshake {
    /// A handshake with this ephemeral secret (32 random bytes, never used again).
    pub fn new(expect: Expect, ephemeral: [u8; 32]) -> Self {
        let secret = StaticSecret::from(ephemeral);
        let public = PublicKey::from(&secret).to_bytes();
        Self { secret, public, expect, spoken: None, stage: Stage::Ephemeral, received: Vec::new() }
    }

    /// Appends our ephemeral key to `out` before the peer has spoken: what a node does, and a signer towards a silent peer.
    pub fn speak_first(&mut self, variant: Variant, out: &mut Vec<u8>) {
        if self.spoken.is_none() {
            self.spoken = Some(variant);
            match variant.family() {
                Family::Amino => out.extend_from_slice(&AMINO_EPHEMERAL),
                Family::Protobuf => out.extend_from_slice(&PROTO_EPHEMERAL),
            }
            out.extend_from_slice(&self.public);
        }
    }

    /// Whether the peer has said nothing yet.
    pub fn is_silent(&self) -> bool {
        matches!(self.stage, Stage::Ephemeral) && self.received.is_empty()
    }

    /// Takes bytes from the peer; appends to `out` what is to be sent now.
    pub fn push(&mut self, bytes: &[u8], identity: &dyn Identity, out: &mut Vec<u8>) -> Result<Progress, SecretError> {
        if let Stage::Ephemeral = self.stage {
            self.received.extend_from_slice(bytes);
            let Some((family, theirs)) = self.ephemeral()? else { return Ok(Progress::Waiting) };
            let keys = Keys::derive(&self.secret, &self.public, &theirs)?;
            let spoken = self.answer_ephemeral(family, out)?;
            let mut auth = Auth { opener: Opener::new(keys.receive), opened: Vec::new(), family, sealer: None, keys };
            // A fixed variant has one challenge; a side that speaks first waits for nobody.
            if let Some(variant) = spoken {
                auth.sealer = Some(send_identity(&auth.keys, variant, identity, out)?);
            }
            self.stage = Stage::Auth(Box::new(auth));
            let rest = std::mem::take(&mut self.received);
            return self.push_auth(&rest, identity, out);
        }
        self.push_auth(bytes, identity, out)
    }

    /// The peer's ephemeral key, once it is whole; it is taken out of what was received.
    fn ephemeral(&mut self) -> Result<Option<(Family, [u8; 32])>, SecretError> {
        let starts = |head: &[u8]| self.received.iter().zip(head).all(|(a, b)| a == b);
        let (family, head) = if starts(&AMINO_EPHEMERAL) {
            (Family::Amino, AMINO_EPHEMERAL.len())
        } else if starts(&PROTO_EPHEMERAL) {
            (Family::Protobuf, PROTO_EPHEMERAL.len())
        } else {
            let shown = self.received.iter().take(8).map(|byte| format!("{byte:02X}")).collect();
            return Err(SecretError::NotSecretConnection(shown));
        };
        let Some(key) = self.received.get(head..).and_then(|rest| rest.first_chunk::<32>()).copied() else {
            return Ok(None);
        };
        self.received.drain(..head + 32);
        Ok(Some((family, key)))
    }

    /// Sends our ephemeral key in the peer's family. Some: the variant is settled already.
    fn answer_ephemeral(&mut self, family: Family, out: &mut Vec<u8>) -> Result<Option<Variant>, SecretError> {
        let found = match family {
            Family::Amino => Variant::V033,
            Family::Protobuf => Variant::V034,
        };
        let fixed = match self.expect {
            Expect::Only(variant) => Some(variant),
            Expect::Auto => self.spoken,
        };
        match fixed {
            Some(expected) if expected.family() != family => Err(SecretError::Variant { expected, found }),
            Some(variant) => {
                self.speak_first(variant, out);
                Ok(Some(variant))
            }
            None => {
                self.speak_first(found, out);
                // Amino has two challenges: wait for the peer's signature. Protobuf has one.
                Ok((family == Family::Protobuf).then_some(found))
            }
        }
    }

    fn push_auth(&mut self, bytes: &[u8], identity: &dyn Identity, out: &mut Vec<u8>) -> Result<Progress, SecretError> {
        let Stage::Auth(auth) = &mut self.stage else { return Err(SecretError::Identity) };
        auth.opener.push(bytes, &mut auth.opened)?;
        let (head, length) = match auth.family {
            Family::Amino => (AMINO_AUTH.as_slice(), AMINO_AUTH.len() + 98),
            Family::Protobuf => (PROTO_AUTH.as_slice(), PROTO_AUTH.len() + 98),
        };
        let Some(message) = auth.opened.get(..length) else {
            let wrong = !auth.opened.iter().zip(head).all(|(a, b)| a == b);
            return if wrong { Err(SecretError::Identity) } else { Ok(Progress::Waiting) };
        };
        let (peer, signature) = parse_identity(message, head).ok_or(SecretError::Identity)?;
        let variant = verify(&auth.keys, auth.family, &peer, &signature)?;
        if let Expect::Only(expected) = self.expect
            && expected != variant
        {
            return Err(SecretError::Variant { expected, found: variant });
        }
        let sealer = match auth.sealer.take() {
            Some(sealer) => sealer,
            None => send_identity(&auth.keys, variant, identity, out)?,
        };
        let rest = auth.opened.split_off(length);
        let Stage::Auth(auth) = std::mem::replace(&mut self.stage, Stage::Ended) else {
            return Err(SecretError::Identity);
        };
        Ok(Progress::Established(Box::new(Established { peer, variant, sealer, opener: auth.opener, rest })))
    }
}

fn send_identity(
    keys: &Keys,
    variant: Variant,
    identity: &dyn Identity,
    out: &mut Vec<u8>,
) -> Result<Sealer, SecretError> {
    let mut message = Vec::with_capacity(106);
    message.extend_from_slice(match variant.family() {
        Family::Amino => &AMINO_AUTH,
        Family::Protobuf => &PROTO_AUTH,
    });
    message.extend_from_slice(&identity.public_key());
    message.extend_from_slice(&AUTH_SIGNATURE);
    message.extend_from_slice(&identity.sign_challenge(keys.challenge(variant)));
    let mut sealer = Sealer::new(keys.send);
    sealer.seal(&message, out)?;
    Ok(sealer)
}

fn parse_identity(message: &[u8], head: &[u8]) -> Option<([u8; 32], [u8; 64])> {
    let (key, rest) = message.strip_prefix(head)?.split_first_chunk::<32>()?;
    let signature = rest.strip_prefix(&AUTH_SIGNATURE)?;
    Some((*key, signature.try_into().ok()?))
}

/// Which variant's challenge the signature is over.
fn verify(keys: &Keys, family: Family, peer: &[u8; 32], signature: &[u8; 64]) -> Result<Variant, SecretError> {
    let key = VerifyingKey::from_bytes(peer).map_err(|_| SecretError::Identity)?;
    let signature = Signature::from_bytes(signature);
    let variants: &[Variant] = match family {
        Family::Protobuf => &[Variant::V034],
        Family::Amino => &[Variant::V033, Variant::Legacy],
    };
    let over = |variant: &&Variant| key.verify_strict(keys.challenge(**variant), &signature).is_ok();
    variants.iter().find(over).copied().ok_or(SecretError::Signature)
}

#[cfg(test)]
mod tests {
    use super::{FRAME_LEN, Keys, Opener, Sealer, SecretError};

    #[test]
    fn the_last_counter_is_used_once_and_never_starts_again() {
        let (mut sealer, mut opener) = (Sealer::new([7; 32]), Opener::new([7; 32]));
        (sealer.counter, opener.counter) = (Some(u64::MAX), Some(u64::MAX));
        let (mut sealed, mut opened) = (Vec::new(), Vec::new());
        sealer.seal(b"last", &mut sealed).unwrap();
        assert_eq!(sealer.seal(b"one more", &mut sealed), Err(SecretError::NonceOverflow));
        assert_eq!(sealed.len(), FRAME_LEN);
        opener.push(&sealed, &mut opened).unwrap();
        assert_eq!(opened, b"last");
        assert_eq!(opener.push(&sealed, &mut opened), Err(SecretError::NonceOverflow));
    }

    #[test]
    fn keys_and_the_old_challenge_are_those_of_the_field() {
        let golden = include_str!("../../testdata/derive_secrets.csv");
        let mut rows = 0;
        for line in golden.lines() {
            let columns: Vec<&str> = line.split(',').collect();
            let bytes = |index: usize| <[u8; 32]>::try_from(hex::decode(columns[index]).unwrap()).unwrap();
            let (ours, theirs) = if columns[1] == "true" { ([1; 32], [2; 32]) } else { ([2; 32], [1; 32]) };
            let keys = Keys::from_shared(&bytes(0), &ours, &theirs);
            assert_eq!((keys.receive, keys.send, keys.legacy), (bytes(2), bytes(3), bytes(4)), "row {rows}");
            rows += 1;
        }
        assert_eq!(rows, 32);
    }
}
