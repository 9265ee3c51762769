//! Certificates: whether one holds, whether it continues a chain, and how one is made.
//!
//! ```text
//! genesis (epoch g) ← first of g+1 ← first of g+2 ← … ← first of e
//!                                       ↖ others of g+2     ↖ others of e
//! ```
//!
//! A certificate holds when its hash, its message, its signature and its epoch fit; it continues another when the other names
//! its keys and parameters: as its own in the same epoch, as the next ones in the epoch before. Mithril specification of the
//! certificate chain; the order of the checks is ours: cheap ones first, because a stranger may give us anything.

use crate::core::seal::Right;
use crate::wire::certificate::is_lottery;
use mithril_common::crypto_helper::{
    GenesisEd25519Signature, GenesisEd25519VerificationKey, PROTOCOL_VERSION, ProtocolAggregateVerificationKey,
    ProtocolAggregateVerificationKeyForConcatenation, ProtocolMultiSignature,
};
use mithril_common::entities::{
    Certificate, CertificateMetadata, CertificateSignature, Epoch, ProtocolMessage, ProtocolMessagePartKey as Part,
    ProtocolParameters, SignedEntityType, StakeDistributionParty,
};

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Its content has another hash, or none can be computed.
    #[error("its hash is not that of its content")]
    Hash,
    /// It signs something else than its message.
    #[error("what is signed is not the hash of its message")]
    Message,
    /// Its parameters make no lottery: k and m are 1 at least, k is at most m, and phi_f lies above 0 and at most at 1.
    #[error("its parameters make no lottery")]
    Lottery,
    /// The message is for another epoch.
    #[error("its message is not for its epoch")]
    Epoch,
    /// The signature does not hold.
    #[error("its signature does not hold: {0}")]
    Signature(String),
    /// A genesis certificate stands where a certificate of signers should, or the other way round.
    #[error("it is {0}")]
    Kind(&'static str),
    /// It names itself as the one before it.
    #[error("it continues itself")]
    Loop,
    /// It names none before it, and no genesis key has signed it.
    #[error("it continues no certificate, and is no genesis")]
    Orphan,
    /// The one before it is another.
    #[error("it continues {named}, not {given}")]
    Previous {
        /// What it names.
        named: String,
        /// What was given.
        given: String,
    },
    /// An epoch lies between it and the one before.
    #[error("it is of epoch {this}, the one before it of epoch {before}")]
    Gap {
        /// Its epoch.
        this: Epoch,
        /// Epoch of the one before.
        before: Epoch,
    },
    /// The one before it hands over to other keys.
    #[error("the certificate before it hands over to other keys")]
    Keys,
    /// The one before it hands over to other parameters.
    #[error("the certificate before it hands over to other parameters")]
    Parameters,
}

/// Checks all of a certificate of signers that does not need another certificate.
///
/// # Errors
/// The first flaw.
pub fn verify_alone(certificate: &Certificate) -> Result<(), Flaw> {
    let CertificateSignature::MultiSignature(_, signature) = &certificate.signature else {
        return Err(Flaw::Kind("a genesis certificate"));
    };
    if certificate.is_chaining_to_itself() {
        return Err(Flaw::Loop);
    }
    // What signers sign does not cover this name.
    if certificate.previous_hash.is_empty() {
        return Err(Flaw::Orphan);
    }
    verify_content(certificate)?;
    signature
        .verify(
            certificate.signed_message.as_bytes(),
            &certificate.create_aggregate_verification_key(),
            &certificate.metadata.protocol_parameters.clone().into(),
            None,
            None,
        )
        .map_err(|error| Flaw::Signature(format!("{error:#}")))
}

/// Checks a genesis certificate.
///
/// # Errors
/// The first flaw.
pub fn verify_genesis(certificate: &Certificate, key: &GenesisEd25519VerificationKey) -> Result<(), Flaw> {
    let CertificateSignature::GenesisSignature(signature) = &certificate.signature else {
        return Err(Flaw::Kind("no genesis certificate"));
    };
    if !certificate.previous_hash.is_empty() {
        return Err(Flaw::Kind("a genesis certificate that continues another"));
    }
    verify_content(certificate)?;
    key.verify(certificate.signed_message.as_bytes(), signature).map_err(|error| Flaw::Signature(format!("{error:#}")))
}

/// Checks that a certificate continues another.
///
/// # Errors
/// The first flaw.
pub fn verify_link(certificate: &Certificate, previous: &Certificate) -> Result<(), Flaw> {
    verify_parameters(certificate)?;
    verify_parameters(previous)?;
    if certificate.previous_hash != previous.hash {
        return Err(Flaw::Previous { named: certificate.previous_hash.clone(), given: previous.hash.clone() });
    }
    let is_same_epoch = certificate.epoch == previous.epoch;
    // A chain only goes forward; the distance alone would let one go back.
    if !is_same_epoch && certificate.epoch != previous.epoch.next() {
        return Err(Flaw::Gap { this: certificate.epoch, before: previous.epoch });
    }
    let next = |part| previous.protocol_message.get_message_part(&part);
    let keys = match is_same_epoch {
        true => previous.aggregate_verification_key == certificate.aggregate_verification_key,
        false => next(Part::NextAggregateVerificationKey)
            .and_then(|text| ProtocolAggregateVerificationKeyForConcatenation::from_json_hex(text).ok())
            .is_some_and(|keys| keys == certificate.aggregate_verification_key),
    };
    if !keys {
        return Err(Flaw::Keys);
    }
    let own = &certificate.metadata.protocol_parameters;
    let parameters = match is_same_epoch {
        true => previous.metadata.protocol_parameters == *own,
        false => next(Part::NextProtocolParameters).is_some_and(|hash| *hash == own.compute_hash()),
    };
    if parameters { Ok(()) } else { Err(Flaw::Parameters) }
}

/// Asked before anything else: see [`crate::wire::certificate`].
fn verify_parameters(certificate: &Certificate) -> Result<(), Flaw> {
    match is_lottery(&certificate.metadata.protocol_parameters) {
        true => Ok(()),
        false => Err(Flaw::Lottery),
    }
}

fn verify_content(certificate: &Certificate) -> Result<(), Flaw> {
    verify_parameters(certificate)?;
    if certificate.protocol_message.compute_hash() != certificate.signed_message {
        return Err(Flaw::Message);
    }
    let epoch = certificate.protocol_message.get_message_part(&Part::CurrentEpoch);
    if epoch.is_none_or(|epoch| *epoch != certificate.epoch.to_string()) {
        return Err(Flaw::Epoch);
    }
    match certificate.try_compute_hash() {
        Ok(hash) if hash == certificate.hash => Ok(()),
        _ => Err(Flaw::Hash),
    }
}

/// What a certificate is made of.
#[derive(Debug)]
pub struct Parts {
    /// Hash of the certificate that it continues: the first of its epoch, or of the epoch before when it is the first.
    pub previous_hash: String,
    /// Epoch in which it is signed.
    pub epoch: Epoch,
    /// Name of the network.
    pub network: String,
    /// Parameters of the signers' lottery.
    pub parameters: ProtocolParameters,
    /// When signatures were first taken.
    pub initiated_at: chrono::DateTime<chrono::Utc>,
    /// When there were enough.
    pub sealed_at: chrono::DateTime<chrono::Utc>,
    /// Everybody whose signature was there.
    pub signers: Vec<StakeDistributionParty>,
    /// What was signed.
    pub message: ProtocolMessage,
    /// The signers' aggregate verification key.
    pub key: ProtocolAggregateVerificationKey,
}

/// Why a certificate is not made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The right to make one is for another message.
    #[error("the guard admitted another message than the certificate's")]
    OtherMessage,
    /// Its hash cannot be computed.
    #[error("the certificate's hash cannot be computed: {0}")]
    Hash(String),
}

/// Makes the one certificate that `right` allows.
///
/// # Errors
/// When the right is for another message, or a part cannot be encoded.
pub fn build(
    right: Right<'_>,
    parts: Parts,
    entity: SignedEntityType,
    signature: ProtocolMultiSignature,
) -> Result<Certificate, BuildError> {
    assemble(right, parts, CertificateSignature::MultiSignature(entity, signature))
}

/// Makes the one genesis certificate that `right` allows.
///
/// # Errors
/// As [`build`].
pub fn build_genesis(
    right: Right<'_>,
    parts: Parts,
    signature: GenesisEd25519Signature,
) -> Result<Certificate, BuildError> {
    assemble(right, parts, CertificateSignature::GenesisSignature(signature))
}

fn assemble(right: Right<'_>, parts: Parts, signature: CertificateSignature) -> Result<Certificate, BuildError> {
    if !right.is_for(&parts.message.compute_hash()) {
        return Err(BuildError::OtherMessage);
    }
    let metadata = CertificateMetadata::new(
        parts.network,
        PROTOCOL_VERSION.to_owned(),
        parts.parameters,
        parts.initiated_at,
        parts.sealed_at,
        parts.signers,
    );
    Certificate::try_new(parts.previous_hash, parts.epoch, metadata, parts.message, parts.key, signature, None, None)
        .map_err(|error| BuildError::Hash(format!("{error:#}")))
}
