//! Stake pools: cold key, KES key and operational certificate, all from a seed.
//!
//! A pool's id is BLAKE2b-224 of its cold verification key; its party id is that in bech32 with prefix `pool`. KES keys are
//! Sum6: 64 periods from that of the certificate on.

use kes_summed_ed25519::kes::{Sum6Kes, Sum6KesSig};
use kes_summed_ed25519::traits::KesSk;
use mithril_common::StdResult;
use mithril_common::crypto_helper::{
    ColdKeyGenerator, KesPeriod, KesSigner, OpCert, SerDeShelleyFileFormat, Sum6KesBytes,
};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::{fmt, io};

/// File of a pool's KES key, as [`Pool::save`] writes it.
pub const KES_KEY_FILE: &str = "kes.skey";
/// File of its operational certificate.
pub const CERTIFICATE_FILE: &str = "opcert.cert";

/// Bytes of a Sum6 key and its period.
const KES_KEY_BYTES: usize = Sum6Kes::SIZE + 4;

/// A stake pool with its keys.
#[derive(Clone)]
pub struct Pool {
    /// Its id in bech32.
    pub party_id: String,
    /// Its id.
    pub id: [u8; 28],
    /// The certificate of its KES key.
    pub certificate: OpCert,
    kes_seed: [u8; 32],
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.party_id).finish()
    }
}

/// A pool's keys cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("keys of pool {index} cannot be made: {why}")]
pub struct PoolError {
    /// Which pool.
    pub index: u64,
    /// Why.
    pub why: String,
}

impl Pool {
    /// Pool number `index` of the network with this seed; its certificate begins at KES period `start`.
    pub fn new(seed: u64, index: u64, start: KesPeriod) -> Result<Self, PoolError> {
        let key_seed = |purpose: u64| {
            let mut bytes = [0_u8; 32];
            let words = [seed, index, purpose, 0x5e_4e_1d_e7];
            for (into, from) in bytes.iter_mut().zip(words.into_iter().flat_map(u64::to_le_bytes)) {
                *into = from;
            }
            bytes
        };
        let kes_seed = key_seed(1);
        let (mut buffer, mut once) = ([0; KES_KEY_BYTES], kes_seed);
        let (_, verification) = Sum6Kes::keygen(&mut buffer, &mut once);
        let certificate =
            OpCert::new(verification, 0, start, ColdKeyGenerator::create_deterministic_keypair(key_seed(0)));
        let party_id =
            certificate.compute_protocol_party_id().map_err(|why| PoolError { index, why: why.to_string() })?;
        Ok(Self { party_id, id: certificate.compute_protocol_party_id_as_bytes(), certificate, kes_seed })
    }

    /// Writes its KES key and its certificate in the files that cardano-cli writes, for a signer of another program.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        let (mut buffer, mut once) = ([0; KES_KEY_BYTES], self.kes_seed);
        let (key, _) = Sum6Kes::keygen(&mut buffer, &mut once);
        // It wipes itself when it goes.
        let bytes = key.as_bytes().try_into().map_err(io::Error::other)?;
        save(&directory.join(KES_KEY_FILE), &Sum6KesBytes(bytes))?;
        save(&directory.join(CERTIFICATE_FILE), &self.certificate)
    }
}

fn save<T: SerDeShelleyFileFormat>(path: &Path, what: &T) -> io::Result<()> {
    let cbor = what.to_cbor_hex().map_err(io::Error::other)?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let envelope = serde_json::json!({ "type": T::TYPE, "description": T::DESCRIPTION, "cborHex": cbor });
    Ok(serde_json::to_writer_pretty(file, &envelope)?)
}

impl KesSigner for Pool {
    fn sign(&self, message: &[u8], period: KesPeriod) -> StdResult<(Sum6KesSig, OpCert)> {
        let (mut buffer, mut once) = ([0; KES_KEY_BYTES], self.kes_seed);
        let (mut key, _) = Sum6Kes::keygen(&mut buffer, &mut once);
        let evolutions = period.0.saturating_sub(self.certificate.get_start_kes_period().0);
        for _ in 0..evolutions {
            key.update().map_err(|why| std::io::Error::other(format!("{why:?}")))?;
        }
        Ok((key.sign(message), self.certificate.clone()))
    }
}
