//! Certificates.
//!
//! Some rows are passed over as if they were not there, with one warning: a certificate of a type that is not certified any more
//! (whole snapshots of immutable files; blocks and transactions without an offset), and one with parts of another proof system
//! (SNARK), which its JSON must not lack. Nobody could verify what would be given of them. Chains through them do not hold.

use super::{Connection, Result, StoreError, text};
use crate::core::entity;
use mithril_common::crypto_helper::{
    GenesisEd25519Signature, ProtocolAggregateVerificationKeyForConcatenation, ProtocolMultiSignature,
};
use mithril_common::entities::{
    Certificate, CertificateMetadata, CertificateSignature, Epoch, SignedEntityType, SignedEntityTypeDiscriminants,
};
use rusqlite::{OptionalExtension, Row};
use std::sync::Once;

const COLUMNS: &str = "certificate_id, parent_certificate_id, message, signature, aggregate_verification_key, epoch, network, \
     signed_entity_type_id, signed_entity_beacon, protocol_version, protocol_parameters, protocol_message, signers, \
     initiated_at, sealed_at";

/// Columns that only certificates of another proof system fill.
pub(super) const SNARK_COLUMNS: [&str; 3] =
    ["aggregate_verification_key_snark", "ancillary_prover_data", "ancillary_verifier_data"];
/// A genesis of another proof system has a second signature: JSON instead of hex.
pub(super) const HAS_TWO_SIGNATURES: &str = "(parent_certificate_id IS NULL AND signature LIKE '{%')";

/// Stores a certificate.
pub fn insert(db: &Connection, certificate: &Certificate) -> Result<()> {
    let unencodable = |error| StoreError::value("a certificate", format!("{error:#}"));
    let signature = match &certificate.signature {
        CertificateSignature::GenesisSignature(signature) => signature.to_bytes_hex(),
        CertificateSignature::MultiSignature(_, signature) => signature.to_json_hex(),
    };
    let entity = certificate.signed_entity_type();
    let metadata = &certificate.metadata;
    let parent = (!certificate.previous_hash.is_empty()).then_some(&certificate.previous_hash);
    db.prepare_cached(&format!(
        "INSERT INTO certificate ({COLUMNS}) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)"
    ))?
    .execute((
        &certificate.hash,
        parent,
        &certificate.signed_message,
        signature.map_err(unencodable)?,
        certificate.aggregate_verification_key.to_json_hex().map_err(unencodable)?,
        text::number(*certificate.epoch),
        &metadata.network,
        entity.index(),
        entity.get_json_beacon().map_err(unencodable)?,
        &metadata.protocol_version,
        text::json(&metadata.protocol_parameters)?,
        text::json(&certificate.protocol_message)?,
        text::json(&metadata.signers)?,
        text::time(&metadata.initiated_at),
        text::time(&metadata.sealed_at),
    ))?;
    Ok(())
}

/// The certificate with this hash.
pub fn get(db: &Connection, hash: &str) -> Result<Option<Certificate>> {
    one(db, "certificate_id = ?1", [hash])
}

/// The newest certificates, newest first.
pub fn latest(db: &Connection, limit: usize) -> Result<Vec<Certificate>> {
    some(db, "true", [], limit)
}

/// The newest genesis certificate.
pub fn latest_genesis(db: &Connection) -> Result<Option<Certificate>> {
    one(db, "parent_certificate_id IS NULL", [])
}

/// The certificate that the next one of `epoch` continues: the first of `epoch`, or of the epoch before.
pub fn master(db: &Connection, epoch: Epoch) -> Result<Option<Certificate>> {
    one(
        db,
        "epoch IN (?1, ?1 - 1) AND (parent_certificate_id IS NULL OR epoch != \
         (SELECT parent.epoch FROM certificate AS parent WHERE parent.certificate_id = certificate.parent_certificate_id))",
        [text::number(*epoch)],
    )
}

/// The certificate of an entity that was signed in an epoch. A genesis certificate is none.
pub fn of_entity(db: &Connection, entity: &SignedEntityType, epoch: Epoch) -> Result<Option<Certificate>> {
    let beacon = entity.get_json_beacon().map_err(|error| StoreError::value("a beacon", error))?;
    one(
        db,
        "epoch = ?3 AND parent_certificate_id IS NOT NULL AND signed_entity_type_id = ?1 AND signed_entity_beacon = ?2",
        (entity.index(), beacon, text::number(*epoch)),
    )
}

/// When the newest one was sealed.
pub fn latest_sealed_at(db: &Connection) -> Result<Option<chrono::DateTime<chrono::Utc>>> {
    let found: Option<String> = db
        .prepare_cached("SELECT sealed_at FROM certificate ORDER BY rowid DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    found.map(|at| text::parse_time(&at)).transpose()
}

/// How many there are.
pub fn count(db: &Connection) -> Result<u64> {
    text::unsigned(db.query_row("SELECT count(*) FROM certificate", [], |row| row.get(0))?)
}

fn one(db: &Connection, condition: &str, parameters: impl rusqlite::Params) -> Result<Option<Certificate>> {
    Ok(some(db, condition, parameters, 1)?.pop())
}

/// Those that can be read, newest first. Rows are large: they are looked up one by one, so that nothing sorts them.
fn some(db: &Connection, condition: &str, parameters: impl rusqlite::Params, limit: usize) -> Result<Vec<Certificate>> {
    let sql = format!("SELECT rowid FROM certificate WHERE {condition} ORDER BY rowid DESC");
    let mut statement = db.prepare_cached(&sql)?;
    let mut ids = statement.query(parameters)?;
    let snark = SNARK_COLUMNS.join(", ");
    let sql = format!(
        "SELECT {COLUMNS}, coalesce({snark}) IS NOT NULL OR {HAS_TWO_SIGNATURES} FROM certificate WHERE rowid = ?1"
    );
    let mut one = db.prepare_cached(&sql)?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(id) = ids.next()?
    {
        let mut rows = one.query([id.get::<_, i64>(0)?])?;
        let Some(row) = rows.next()? else { continue };
        match signed(row)? {
            Some(entity) if !row.get::<_, bool>(15)? => found.push(read(row, entity)?),
            _ => passed_over(&row.get::<_, String>(0)?),
        }
    }
    Ok(found)
}

fn passed_over(certificate: &str) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        tracing::warn!(
            certificate,
            "the database holds certificates of a form that this version does not know; they are passed over"
        );
    });
}

/// What a row certifies. None: something that is not known any more.
fn signed(row: &Row<'_>) -> Result<Option<SignedEntityType>> {
    if row.get::<_, Option<String>>(1)?.is_none() {
        return Ok(Some(SignedEntityType::genesis(Epoch(text::unsigned(row.get(5)?)?))));
    }
    let Ok(kind) = SignedEntityTypeDiscriminants::from_id(row.get(7)?) else { return Ok(None) };
    match entity::from_beacon(kind, &text::column(row, 8)?) {
        None if kind != SignedEntityTypeDiscriminants::CardanoBlocksTransactions => {
            Err(StoreError::value("a beacon", kind))
        }
        found => Ok(found),
    }
}

fn read(row: &Row<'_>, entity: SignedEntityType) -> Result<Certificate> {
    let broken = |error| StoreError::value("a certificate", format!("{error:#}"));
    let string = |column| row.get::<_, String>(column);
    let parent: Option<String> = row.get(1)?;
    let signature = match parent {
        None => CertificateSignature::GenesisSignature(
            GenesisEd25519Signature::try_from(string(3)?.as_str()).map_err(broken)?,
        ),
        Some(_) => CertificateSignature::MultiSignature(
            entity,
            ProtocolMultiSignature::from_json_hex(&string(3)?).map_err(broken)?,
        ),
    };
    Ok(Certificate {
        hash: row.get(0)?,
        previous_hash: parent.unwrap_or_default(),
        epoch: Epoch(text::unsigned(row.get(5)?)?),
        metadata: CertificateMetadata {
            network: row.get(6)?,
            protocol_version: row.get(9)?,
            protocol_parameters: text::parse("protocol parameters", &string(10)?)?,
            initiated_at: text::parse_time(&string(13)?)?,
            sealed_at: text::parse_time(&string(14)?)?,
            signers: text::parse("signers", &string(12)?)?,
        },
        protocol_message: text::parse("a protocol message", &string(11)?)?,
        signed_message: row.get(2)?,
        aggregate_verification_key: ProtocolAggregateVerificationKeyForConcatenation::from_json_hex(&string(4)?)
            .map_err(broken)?,
        ancillary_prover_data: None,
        ancillary_verifier_data: None,
        signature,
    })
}

/// A certificate whose hash is another than its content's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The hash that it has.
    pub old: String,
    /// The hash of its content.
    pub new: String,
    /// Hash of its parent, as it is then; empty of a genesis.
    pub parent: String,
}

/// What [`recompute_hashes`] would do: how many certificates there are, and which change. Only reads.
pub fn wrong_hashes(db: &Connection) -> Result<(u64, Vec<Renamed>)> {
    let hashes: Vec<String> = {
        let mut statement = db.prepare("SELECT certificate_id FROM certificate ORDER BY rowid")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut names = std::collections::HashMap::new();
    let mut renamed = Vec::new();
    let count = hashes.len() as u64;
    for old in hashes {
        let Some(mut certificate) = get(db, &old)? else { continue };
        if let Some(parent) = names.get(&certificate.previous_hash) {
            certificate.previous_hash = String::clone(parent);
        }
        let new =
            certificate.try_compute_hash().map_err(|error| StoreError::value("a certificate", format!("{error:#}")))?;
        if new == old {
            continue;
        }
        names.insert(old.clone(), new.clone());
        renamed.push(Renamed { old, new, parent: certificate.previous_hash });
    }
    Ok((count, renamed))
}

/// Recomputes the hash of every certificate, oldest first, and with it what the next ones refer to. How many there are, and how
/// many changed.
pub fn recompute_hashes(db: &Connection) -> Result<(u64, u64)> {
    let (count, renamed) = wrong_hashes(db)?;
    db.execute_batch("PRAGMA defer_foreign_keys = ON")?;
    for Renamed { old, new, parent } in &renamed {
        let parent = (!parent.is_empty()).then_some(parent);
        db.execute(
            "UPDATE certificate SET certificate_id = ?1, parent_certificate_id = ?2 WHERE certificate_id = ?3",
            (new, parent, old),
        )?;
        for table in ["signed_entity", "semel_artifact_queue"] {
            let sql = format!("UPDATE {table} SET certificate_id = ?1 WHERE certificate_id = ?2");
            db.execute(&sql, (new, old))?;
        }
    }
    Ok((count, renamed.len() as u64))
}
