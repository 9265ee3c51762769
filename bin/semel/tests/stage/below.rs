//! A node below its messages: the bytes of its handshake and frames, to cut and to spoil.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]
#![allow(dead_code, clippy::allow_attributes, reason = "some test binaries use none of it")]

use super::PATIENCE;
use semel_devnet_tendermint::privval::Listener;
use semel_devnet_tendermint::privval::socket::Socket;
use semel_kms::core::secret::{Established, Expect, Handshake, Identity, Progress, Variant};
use std::io::{Read, Write};

/// A socket on which every read and write ends in time.
pub(crate) fn caller(node: &Listener) -> Socket {
    let socket = node.accept_socket(PATIENCE).unwrap();
    let Socket::Tcp(stream) = &socket else { panic!("TCP") };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

struct Node;

impl Identity for Node {
    fn public_key(&self) -> [u8; 32] {
        ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes()
    }

    fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64] {
        use ed25519_dalek::Signer as _;
        ed25519_dalek::SigningKey::from_bytes(&[9; 32]).sign(challenge).to_bytes()
    }
}

/// Shakes hands as a node of v0.34 does, and leaves the frames to the caller. At most `limit` bytes leave the node.
pub(crate) fn shaken(socket: &mut Socket, limit: usize) -> Option<Box<Established>> {
    let mut handshake = Handshake::new(Expect::Only(Variant::V034), [5; 32]);
    let (mut out, mut sent) = (Vec::new(), 0);
    handshake.speak_first(Variant::V034, &mut out);
    loop {
        let allowed = out.len().min(limit - sent);
        socket.write_all(&out[..allowed]).unwrap();
        sent += allowed;
        if allowed < out.len() {
            return None;
        }
        out.clear();
        let mut chunk = [0; 2048];
        let count = socket.read(&mut chunk).unwrap();
        assert_ne!(count, 0, "it hung up");
        if let Progress::Established(established) = handshake.push(&chunk[..count], &Node, &mut out).unwrap() {
            let allowed = out.len().min(limit - sent);
            socket.write_all(&out[..allowed]).unwrap();
            return (allowed == out.len()).then_some(established);
        }
    }
}
