//! The protocol as pure state machines: no socket, clock, disk or source of randomness.

pub mod noise;
pub mod peer_id;
pub mod raw_bytes;
pub mod secret;
pub mod session;
pub mod sign_bytes;

use sha2::{Digest as _, Sha256};

/// Name of a node or signer: the first 20 bytes of the SHA-256 of its Ed25519 key.
pub fn node_id(public_key: &[u8; 32]) -> [u8; 20] {
    let mut id = [0; 20];
    id.iter_mut().zip(Sha256::digest(public_key)).for_each(|(to, from)| *to = from);
    id
}
