//! What the commands of the face do to databases, chain and network.

use super::chain::Observer;
use crate::face::args::{Doctor, Status, Verify};
use crate::face::settings::{Base, Settings};
use mithril_common::crypto_helper::GenesisEd25519VerificationKey;
use semel_guard::Key;
use semel_ops::shell::Shell;
use std::path::Path;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The part is not there.
    #[error("{0} is not available in this build")]
    NotInThisBuild(&'static str),
}

/// Whoever tells the chain, as the settings say.
///
/// # Errors
/// Nobody can be asked.
pub fn observer(_base: &Base) -> Result<Box<dyn Observer>, CommandError> {
    Err(CommandError::NotInThisBuild("the way to the chain"))
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// It could not start, or a part of it ended.
pub fn serve(_settings: Settings, _shell: &Shell) -> Result<(), CommandError> {
    Err(CommandError::NotInThisBuild("the server"))
}

/// Writes the 64 hex characters that the genesis key has to sign.
///
/// # Errors
/// The chain or the databases do not tell what belongs into the message.
pub fn genesis_export(_base: &Base, _target: &Path) -> Result<(), CommandError> {
    Err(CommandError::NotInThisBuild("genesis export"))
}

/// Makes the genesis certificate of a signed payload (64 bytes), verifies and stores it.
///
/// # Errors
/// The signature is not of this key or message, or the certificate cannot be stored.
pub fn genesis_import(_base: &Base, _signed: &Path, _key: &GenesisEd25519VerificationKey) -> Result<(), CommandError> {
    Err(CommandError::NotInThisBuild("genesis import"))
}

/// Export, sign and import at once.
///
/// # Errors
/// As of the two.
pub fn genesis_bootstrap(_base: &Base, _key: &Key) -> Result<(), CommandError> {
    Err(CommandError::NotInThisBuild("genesis bootstrap"))
}

/// Recomputes the hash of every certificate, oldest first.
///
/// # Errors
/// The database cannot be read or written.
pub fn recompute_certificates_hash(_stores: &Path) -> Result<(), CommandError> {
    Err(CommandError::NotInThisBuild("tools recompute-certificates-hash"))
}

/// Brings the databases to the form of this version.
///
/// # Errors
/// A database cannot be read or written, or is of a newer version.
pub fn database_migrate(_stores: &Path) -> Result<(), CommandError> {
    Err(CommandError::NotInThisBuild("database migrate"))
}

/// Gives back what the main database no longer uses.
///
/// # Errors
/// The database cannot be read or written.
pub fn database_vacuum(_stores: &Path) -> Result<(), CommandError> {
    Err(CommandError::NotInThisBuild("database vacuum"))
}

/// Walks and verifies a certificate chain.
///
/// # Errors
/// A certificate is not valid, or cannot be had.
pub fn verify(_what: &Verify, _shell: &Shell) -> Result<(), CommandError> {
    Err(CommandError::NotInThisBuild("verify"))
}

/// Tells what a running aggregator does; without settings, `what.url` has to be there.
///
/// # Errors
/// It does not answer.
pub fn status(_what: &Status, _settings: Option<&Settings>, _shell: &Shell) -> Result<(), CommandError> {
    Err(CommandError::NotInThisBuild("status"))
}

/// Looks at everything that the aggregator stands on.
///
/// # Errors
/// Something is wrong.
pub fn doctor(_what: &Doctor, _settings: Option<&Settings>, _shell: &Shell) -> Result<(), CommandError> {
    Err(CommandError::NotInThisBuild("doctor"))
}
