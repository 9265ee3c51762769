//! How public keys are shown and named.

use ripemd::Ripemd160;
use semel_guard::{Algorithm, PublicKey};
use sha2::{Digest as _, Sha256};

/// Amino's prefix and length of a public key.
fn amino_prefix(algorithm: Algorithm) -> &'static [u8] {
    match algorithm {
        Algorithm::Secp256k1 => &[0xeb, 0x5a, 0xe9, 0x87, 0x21],
        _ => &[0x16, 0x24, 0xde, 0x64, 0x20],
    }
}

/// The key with amino's prefix.
pub fn amino(key: &PublicKey) -> Vec<u8> {
    [amino_prefix(key.algorithm()), key.as_bytes()].concat()
}

/// A validator's address: the first 20 bytes of SHA-256 for Ed25519, RIPEMD-160 of SHA-256 for secp256k1.
pub fn address(key: &PublicKey) -> [u8; 20] {
    let hash = Sha256::digest(key.as_bytes());
    let mut out = [0; 20];
    match key.algorithm() {
        Algorithm::Secp256k1 => out.copy_from_slice(&Ripemd160::digest(hash)),
        _ => out.iter_mut().zip(hash).for_each(|(to, from)| *to = from),
    }
    out
}

/// bech32 with any human-readable part and without the length limit of addresses. None: the part cannot be one.
pub fn bech32(prefix: &str, bytes: &[u8]) -> Option<String> {
    let prefix = bech32::Hrp::parse(prefix).ok()?;
    bech32::encode::<Bech32NoLimit>(prefix, bytes).ok()
}

/// The checksum of bech32 with room for long human-readable parts.
#[derive(Debug, Clone, Copy)]
enum Bech32NoLimit {}

impl bech32::Checksum for Bech32NoLimit {
    type MidstateRepr = u32;
    const CHECKSUM_LENGTH: usize = 6;
    const CODE_LENGTH: usize = 1023;
    const GENERATOR_SH: [u32; 5] = <bech32::Bech32 as bech32::Checksum>::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = <bech32::Bech32 as bech32::Checksum>::TARGET_RESIDUE;
}
