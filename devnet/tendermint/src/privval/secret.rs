//! The node's end of a SecretConnection: speaks first, in the variant of its family.

use super::{Family, MESSAGE_DEADLINE, remote::RemoteError, socket::Socket};
use ed25519_dalek::{Signer as _, SigningKey};
use semel_kms::core::secret::{Established, Expect, Handshake, Identity, Progress, Variant};
use std::{
    io::{Read as _, Write as _},
    time::Instant,
};

/// Reads during the handshake, in bytes.
const CHUNK: usize = 2_048;

struct Node<'a>(&'a SigningKey);

impl Identity for Node<'_> {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64] {
        self.0.sign(challenge).to_bytes()
    }
}

const fn variant(family: Family) -> Variant {
    match family {
        Family::Legacy => Variant::Legacy,
        Family::V033 => Variant::V033,
        Family::V034 | Family::V038 => Variant::V034,
    }
}

/// Shakes hands on a fresh connection.
pub(super) fn shake(
    socket: &mut Socket,
    family: Family,
    identity: &SigningKey,
) -> Result<Box<Established>, RemoteError> {
    let begin = Instant::now();
    let mut ephemeral = [0; 32];
    getrandom::fill(&mut ephemeral).map_err(|error| std::io::Error::other(error.to_string()))?;
    let variant = variant(family);
    let mut handshake = Handshake::new(Expect::Only(variant), ephemeral);
    let mut out = Vec::with_capacity(CHUNK);
    handshake.speak_first(variant, &mut out);
    loop {
        socket.write_all(&out)?;
        out.clear();
        if begin.elapsed() > MESSAGE_DEADLINE {
            return Err(RemoteError::TimedOut);
        }
        let mut chunk = [0; CHUNK];
        let read = socket.read(&mut chunk).map_err(super::remote::in_time)?;
        if read == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let bytes = chunk.get(..read).unwrap_or_default();
        match handshake.push(bytes, &Node(identity), &mut out)? {
            Progress::Waiting => {}
            Progress::Established(established) => {
                socket.write_all(&out)?;
                return Ok(established);
            }
        }
    }
}
