//! Artifacts of certified entities, those that are still to be made, and digests of immutable files.
//!
//! An artifact of blocks and transactions whose beacon has no offset is passed over: nobody can verify its certificate any more.

use super::{Connection, Result, StoreError, text};
use crate::core::entity;
use chrono::{DateTime, Utc};
use mithril_common::entities::{SignedEntityType, SignedEntityTypeDiscriminants};
use rusqlite::{OptionalExtension, Row};
use std::collections::BTreeMap;

/// The artifact of a certified entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Its id: a hash of its content.
    pub id: String,
    /// What it is of.
    pub entity: SignedEntityType,
    /// The certificate that certifies it.
    pub certificate: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Its content, as JSON with a `type`.
    pub content: String,
}

const COLUMNS: &str = "signed_entity_id, signed_entity_type_id, certificate_id, beacon, created_at, artifact";
const READABLE: &str = "(signed_entity_type_id != 5 OR json_extract(beacon, '$.block_number_offset') IS NOT NULL)";

fn beacon(entity: &SignedEntityType) -> Result<String> {
    entity.get_json_beacon().map_err(|error| StoreError::value("a beacon", error))
}

/// Keeps an artifact, and takes it off the list of those to be made.
pub fn insert(db: &Connection, artifact: &Artifact) -> Result<()> {
    let beacon = beacon(&artifact.entity)?;
    db.prepare_cached(&format!("INSERT OR IGNORE INTO signed_entity ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"))?
        .execute((
            &artifact.id,
            artifact.entity.index(),
            &artifact.certificate,
            &beacon,
            text::time(&artifact.created_at),
            &artifact.content,
        ))?;
    db.prepare_cached("DELETE FROM semel_artifact_queue WHERE signed_entity_type_id = ?1 AND beacon = ?2")?
        .execute((artifact.entity.index(), &beacon))?;
    Ok(())
}

/// The artifact with this id.
pub fn get(db: &Connection, kind: SignedEntityTypeDiscriminants, id: &str) -> Result<Option<Artifact>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM signed_entity WHERE signed_entity_type_id = ?1 AND signed_entity_id = ?2 AND {READABLE}"
    );
    db.prepare_cached(&sql)?.query_row((kind.index(), id), |row| Ok(read(row))).optional()?.transpose()
}

/// The newest artifacts of a type, newest first.
pub fn latest(db: &Connection, kind: SignedEntityTypeDiscriminants, limit: usize) -> Result<Vec<Artifact>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM signed_entity WHERE signed_entity_type_id = ?1 AND {READABLE} ORDER BY rowid DESC LIMIT ?2"
    );
    many(db, &sql, (kind.index(), text::number(limit as u64)))
}

/// The newest artifacts of a type whose beacon is of an epoch, newest first.
pub fn of_epoch(
    db: &Connection,
    kind: SignedEntityTypeDiscriminants,
    epoch: u64,
    limit: usize,
) -> Result<Vec<Artifact>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM signed_entity WHERE signed_entity_type_id = ?1 AND epoch = ?2 AND {READABLE} \
         ORDER BY rowid DESC LIMIT ?3"
    );
    many(db, &sql, (kind.index(), text::number(epoch), text::number(limit as u64)))
}

fn many(db: &Connection, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<Artifact>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<Artifact> {
    let kind = SignedEntityTypeDiscriminants::from_id(row.get(1)?)
        .map_err(|error| StoreError::value("a signed entity type", error))?;
    let beacon = text::column(row, 3)?;
    Ok(Artifact {
        id: row.get(0)?,
        entity: entity::from_beacon(kind, &beacon).ok_or_else(|| StoreError::value("a beacon", kind))?,
        certificate: row.get(2)?,
        created_at: text::parse_time(&row.get::<_, String>(4)?)?,
        content: row.get(5)?,
    })
}

/// An artifact that is certified and still to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// What it is of.
    pub entity: SignedEntityType,
    /// The certificate.
    pub certificate: String,
    /// How often it failed.
    pub attempts: u64,
    /// When it is tried next.
    pub not_before: DateTime<Utc>,
    /// Why it failed last.
    pub last_error: Option<String>,
}

/// Puts an artifact on the list of those to be made.
pub fn enqueue(db: &Connection, entity: &SignedEntityType, certificate: &str, now: &DateTime<Utc>) -> Result<()> {
    db.prepare_cached(
        "INSERT OR IGNORE INTO semel_artifact_queue (signed_entity_type_id, beacon, certificate_id, not_before) \
         VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((entity.index(), beacon(entity)?, certificate, text::time(now)))?;
    Ok(())
}

/// Notes that making an artifact failed, and when to try again.
pub fn postpone(db: &Connection, entity: &SignedEntityType, until: &DateTime<Utc>, why: &str) -> Result<()> {
    db.prepare_cached(
        "UPDATE semel_artifact_queue SET attempts = attempts + 1, not_before = ?3, last_error = ?4 \
         WHERE signed_entity_type_id = ?1 AND beacon = ?2",
    )?
    .execute((entity.index(), beacon(entity)?, text::time(until), why))?;
    Ok(())
}

/// What is still to be made, first come first.
pub fn pending(db: &Connection) -> Result<Vec<Pending>> {
    let mut statement = db.prepare_cached(
        "SELECT signed_entity_type_id, beacon, certificate_id, attempts, not_before, last_error FROM semel_artifact_queue \
         ORDER BY rowid",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let kind = SignedEntityTypeDiscriminants::from_id(row.get(0)?)
            .map_err(|error| StoreError::value("a signed entity type", error))?;
        found.push(Pending {
            entity: entity::from_beacon(kind, &text::column(row, 1)?)
                .ok_or_else(|| StoreError::value("a beacon", kind))?,
            certificate: row.get(2)?,
            attempts: text::unsigned(row.get(3)?)?,
            not_before: text::parse_time(&row.get::<_, String>(4)?)?,
            last_error: row.get(5)?,
        });
    }
    Ok(found)
}

/// Digests of immutable files, by name.
pub fn digests(db: &Connection) -> Result<BTreeMap<String, String>> {
    let mut statement = db.prepare_cached("SELECT immutable_file_name, digest FROM immutable_file_digest")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Forgets all digests.
pub fn forget_digests(db: &Connection) -> Result<()> {
    db.execute("DELETE FROM immutable_file_digest", [])?;
    Ok(())
}
