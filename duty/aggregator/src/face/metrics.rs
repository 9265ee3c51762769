//! Names of metrics.

use mithril_common::entities::SignedEntityTypeDiscriminants as Kind;

/// A cycle began.
pub fn count_cycle() {}
/// A cycle ended well.
pub fn count_cycle_success() {}
/// A certificate was made.
pub fn count_certificate() {}
/// An artifact was made.
pub fn count_artifact(_kind: Kind) {}
/// A
pub fn count_signer_received(_: &str) {}
/// A
pub fn count_signer_successful(_: &str) {}
/// A
pub fn count_signature_received(_: &str) {}
/// A
pub fn count_signature_successful(_: &str) {}
/// A
pub fn count_immutables_restored(_: &str, _: &str, _: u64) {}
/// A
pub fn count_ancillary_restored(_: &str, _: &str) {}
/// A
pub fn count_complete_restoration(_: &str, _: &str) {}
/// A
pub fn count_partial_restoration(_: &str, _: &str) {}
/// A
pub fn count_proofs(_: &str, _: &str, _: u64) {}
/// A
pub fn count_proofs_v2(_: &str, _: &str, _: u64) {}
/// A
pub fn count_block_proofs(_: &str, _: &str, _: u64) {}
/// A
pub fn count_certificate_detail(_: &str, _: &str) {}
/// A
pub fn count_artifact_detail(_: Kind, _: &str, _: &str) {}
