//! Sealing: a certificate is made once for each (signed entity type, beacon), because making it uses up a permit.
//!
//! The subject in the ledger is the network's genesis verification key on the network's name: the one key that a chain of
//! certificates hangs on. The digest is that of the message's hash as text. What the ledger keeps as the signature is the
//! certificate's hash: it is kept only after the certificate is in the database, so whoever finds a hash there and no
//! certificate has an older database than ledger.

use crate::core::entity;
use mithril_common::crypto_helper::GenesisEd25519VerificationKey;
use mithril_common::entities::SignedEntityType;
use semel_guard::{
    Algorithm, ChainId, Denied, Digest, Duty, DutyError, Guard, Ledger, Permit, PublicKey, SignError, Signature,
    Subject, SubjectError,
};

/// The right to make one certificate, for one message. Taken by value where a certificate is made.
#[derive(Debug)]
pub struct Right<'p> {
    digest: Digest,
    _permit: Spent<'p>,
}

struct Spent<'p>(#[expect(dead_code, reason = "held so that the permit lives and dies with the right")] Permit<'p>);

impl std::fmt::Debug for Spent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("permit")
    }
}

impl Right<'_> {
    /// Whether it is for this message's hash.
    pub fn is_for(&self, message_hash: &str) -> bool {
        self.digest == Digest::of(message_hash.as_bytes())
    }
}

/// A certificate that there is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Its hash.
    pub hash: [u8; 32],
    /// Whether it had been made before.
    pub repeated: bool,
}

/// Why no certificate is made.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The guard refused, or making it failed after the guard admitted it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The message is none.
    #[error(transparent)]
    Message(#[from] DutyError),
    /// The ledger holds something else than a certificate's hash.
    #[error("the ledger keeps no certificate's hash for {0}")]
    Kept(String),
}

/// The subject of a network's certificates.
///
/// # Errors
/// When the network's name cannot be one.
pub fn subject(genesis: &GenesisEd25519VerificationKey, network: &str) -> Result<Subject, SubjectError> {
    Ok(Subject {
        key: PublicKey::new(Algorithm::Ed25519, genesis.as_bytes())?,
        chain: ChainId::new(&format!("mithril-{network}"))?,
    })
}

/// Lets `make` make the certificate for `entity` with this message, once, and persist it; then remembers its hash.
///
/// `make` is not called when the ledger knows the certificate already, and is called again when the end of an earlier call was
/// never seen: it has to look for the certificate before it makes one.
///
/// # Errors
/// When another message was admitted for this beacon, the ledger cannot tell, or `make` fails.
pub fn seal<L: Ledger>(
    guard: &Guard<L>,
    subject: &Subject,
    entity: &SignedEntityType,
    message_hash: &str,
    make: impl FnOnce(Right<'_>) -> Result<[u8; 32], String>,
) -> Result<Sealed, SealError> {
    let duty = Duty::new(subject, entity::position(entity), message_hash.as_bytes())?;
    let answer = guard.admit(&duty, |permit, bytes| {
        let failed = |reason| SignError { provider: "aggregator".into(), reason };
        if permit.digest() != Digest::of(bytes) {
            return Err(failed("the permit is for another message".into()));
        }
        let right = Right { digest: permit.digest(), _permit: Spent(permit) };
        let hash = make(right).map_err(failed)?;
        Signature::new(&hash).map_err(|error| failed(error.to_string()))
    })?;
    let kept = || SealError::Kept(entity::position(entity).to_string());
    let hash = answer.signature.as_bytes().try_into().map_err(|_| kept())?;
    Ok(Sealed { hash, repeated: answer.repeated })
}
