//! `noise://`: bytes of anybody; an honest peer of which one byte is altered on the way; frames behind the handshake. A peer that is
//! not the one that is expected never comes in, and what is sent is never longer than the three messages.
#![no_main]

use ed25519_dalek::{Signer as _, SigningKey};
use libfuzzer_sys::fuzz_target;
use semel_fuzz::Input;
use semel_kms::core::noise::{Established, Handshake, Identity, NoiseError, Progress, STATIC_KEY_PREFIX, Secrets};
use semel_kms::core::peer_id::PeerId;
use semel_kms::core::secret;
use zeroize::Zeroizing;

/// Two messages with identities, each below 256 bytes.
const SENT_MAX: usize = 512;
const OURS: u8 = 1;
const THEIRS: u8 = 2;

struct Key(SigningKey);

impl secret::Identity for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign_challenge(&self, _: &[u8; 32]) -> [u8; 64] {
        unreachable!("Noise has no challenge")
    }
}

impl Identity for Key {
    fn sign_static_key(&self, key: &[u8; 32]) -> [u8; 64] {
        self.0.sign(&[STATIC_KEY_PREFIX.as_slice(), key].concat()).to_bytes()
    }
}

fn key(seed: u8) -> Key {
    Key(SigningKey::from_bytes(&[seed; 32]))
}

fn peer(seed: u8) -> PeerId {
    PeerId::of(secret::Identity::public_key(&key(seed)))
}

fn secrets(seed: u8) -> Secrets {
    Secrets { static_key: Zeroizing::new([seed; 32]), ephemeral: Zeroizing::new([seed + 100; 32]) }
}

fn push(
    handshake: &mut Handshake,
    bytes: &[u8],
    seed: u8,
    out: &mut Vec<u8>,
) -> Result<Option<Box<Established>>, NoiseError> {
    let progress = handshake.push(bytes, &key(seed), out);
    assert!(out.len() <= SENT_MAX, "{} bytes are sent", out.len());
    Ok(match progress? {
        Progress::Established(established) => Some(established),
        Progress::Waiting => None,
    })
}

/// Bytes of anybody, to either side.
fn anybody(input: &Input<'_>, dials: bool) {
    let mut out = Vec::new();
    let handshake = match dials {
        true => Handshake::dial(peer(THEIRS), secrets(OURS), &mut out),
        false => Handshake::listen(peer(THEIRS), secrets(OURS)),
    };
    let mut handshake = handshake.expect("keys");
    for piece in input.cut(input.rest) {
        match push(&mut handshake, piece, OURS, &mut out) {
            Ok(found) => assert!(found.is_none(), "a stranger came in"),
            Err(_) => {
                assert_eq!(push(&mut handshake, piece, OURS, &mut out).err(), Some(NoiseError::Ended));
                return;
            }
        }
    }
}

/// An honest peer, of whose first or second message one byte is altered, or none; then frames of anybody.
fn honest(input: &Input<'_>) {
    let Some(([at, by], frames)) = input.rest.split_first_chunk::<2>() else { return };
    let mut altered = false;
    let mut alter = |message: &mut Vec<u8>, wanted: bool| {
        if let Some(byte) = message.get_mut(usize::from(*at)).filter(|_| wanted && *by != 0) {
            *byte ^= by;
            altered = true;
        }
    };
    let mut first = Vec::new();
    let mut ours = Handshake::dial(peer(THEIRS), secrets(OURS), &mut first).expect("keys");
    let mut theirs = Handshake::listen(peer(OURS), secrets(THEIRS)).expect("keys");
    alter(&mut first, !input.flag(2));
    let mut second = Vec::new();
    if push(&mut theirs, &first, THEIRS, &mut second).is_err() {
        return;
    }
    alter(&mut second, input.flag(2));
    let mut third = Vec::new();
    let Ok(Some(mut established)) = push(&mut ours, &second, OURS, &mut third) else { return };
    assert!(!altered, "what was altered on the way was taken");
    let mut opened = Vec::new();
    for piece in input.cut(frames) {
        if established.link.open(piece, &mut opened).is_err() {
            break;
        }
    }
    assert!(opened.is_empty(), "a frame of anybody opens");
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    match input.flags & 3 {
        0 => anybody(&input, true),
        1 => anybody(&input, false),
        _ => honest(&input),
    }
});
