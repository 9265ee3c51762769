//! Open messages, the single signatures for them, and signatures that came before their message.

use super::{Connection, Result, StoreError, text};
use crate::core::entity;
use chrono::{DateTime, Utc};
use mithril_common::crypto_helper::ProtocolSingleSignature;
use mithril_common::entities::{
    Epoch, LotteryIndex, PartyId, ProtocolMessage, SignedEntityType, SignedEntityTypeDiscriminants, SingleSignature,
};
use rusqlite::Row;

/// Signatures kept for messages that are not open yet, for each type. One per party; a party needs stake to have one.
pub const BUFFER_MAX: u64 = 20_000;

/// A message that signatures are taken for.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenMessage {
    /// Its id.
    pub id: String,
    /// Epoch in which it is signed.
    pub epoch: Epoch,
    /// What it certifies.
    pub entity: SignedEntityType,
    /// What is signed.
    pub message: ProtocolMessage,
    /// Whether it has its certificate.
    pub is_certified: bool,
    /// Whether no more signatures are taken.
    pub is_expired: bool,
    /// Since when signatures are taken.
    pub created_at: DateTime<Utc>,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "open_message_id, epoch_setting_id, beacon, signed_entity_type_id, created_at, protocol_message, \
     is_certified, is_expired, expires_at";

fn beacon(entity: &SignedEntityType) -> Result<String> {
    entity.get_json_beacon().map_err(|error| StoreError::value("a beacon", error))
}

/// Keeps a message, and gives the one that is kept: one that is there already for the same entity stays as it is.
pub fn open(db: &Connection, message: &OpenMessage) -> Result<OpenMessage> {
    db.prepare_cached(&format!(
        "INSERT INTO open_message ({COLUMNS}) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9) \
         ON CONFLICT (signed_entity_type_id, beacon) DO NOTHING"
    ))?
    .execute((
        &message.id,
        text::number(*message.epoch),
        beacon(&message.entity)?,
        message.entity.index(),
        text::time(&message.created_at),
        text::json(&message.message)?,
        message.is_certified,
        message.is_expired,
        message.expires_at.as_ref().map(text::time),
    ))?;
    let sql = format!("SELECT {COLUMNS} FROM open_message WHERE signed_entity_type_id = ?1 AND beacon = ?2");
    db.prepare_cached(&sql)?.query_row((message.entity.index(), beacon(&message.entity)?), |row| Ok(read(row)))?
}

/// The messages of an epoch.
pub fn of_epoch(db: &Connection, epoch: Epoch) -> Result<Vec<OpenMessage>> {
    // A type that is certified no more, or has another beacon since.
    let is_of_today = "signed_entity_type_id != 2 \
         AND (signed_entity_type_id != 5 OR json_extract(beacon, '$.block_number_offset') IS NOT NULL)";
    let sql =
        format!("SELECT {COLUMNS} FROM open_message WHERE epoch_setting_id = ?1 AND {is_of_today} ORDER BY rowid");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([text::number(*epoch)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Forgets the messages of earlier epochs, with their signatures.
pub fn prune(db: &Connection, epoch: Epoch) -> Result<()> {
    db.execute("DELETE FROM open_message WHERE epoch_setting_id < ?1", [text::number(*epoch)])?;
    Ok(())
}

/// Marks a message certified.
pub fn certified(db: &Connection, entity: &SignedEntityType) -> Result<()> {
    mark(db, entity, "is_certified")
}

/// Marks a message expired.
pub fn expired(db: &Connection, entity: &SignedEntityType) -> Result<()> {
    mark(db, entity, "is_expired")
}

fn mark(db: &Connection, entity: &SignedEntityType, column: &str) -> Result<()> {
    let sql = format!("UPDATE open_message SET {column} = true WHERE signed_entity_type_id = ?1 AND beacon = ?2");
    db.prepare_cached(&sql)?.execute((entity.index(), beacon(entity)?))?;
    Ok(())
}

/// Keeps a signature for a message; one of the same party is replaced. `registered` is the epoch of the party's registration.
pub fn sign(
    db: &Connection,
    message: &str,
    registered: Epoch,
    signature: &SingleSignature,
    indexes: &[LotteryIndex],
    now: &DateTime<Utc>,
) -> Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO single_signature (open_message_id, signer_id, registration_epoch_setting_id, lottery_indexes, \
         signature, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((
        message,
        &signature.party_id,
        text::number(*registered),
        text::json(&indexes)?,
        encode(signature)?,
        text::time(now),
    ))?;
    Ok(())
}

/// The signatures for a message.
pub fn signatures(db: &Connection, message: &str) -> Result<Vec<SingleSignature>> {
    let mut statement = db.prepare_cached(
        "SELECT signer_id, lottery_indexes, signature FROM single_signature WHERE open_message_id = ?1 ORDER BY signer_id",
    )?;
    let mut rows = statement.query([message])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(row.get(0)?, &row.get::<_, String>(1)?, &row.get::<_, String>(2)?)?);
    }
    Ok(found)
}

/// Who signed a message, with which lottery indexes.
pub fn indexes(db: &Connection, message: &str) -> Result<Vec<(PartyId, Vec<LotteryIndex>)>> {
    let mut statement =
        db.prepare_cached("SELECT signer_id, lottery_indexes FROM single_signature WHERE open_message_id = ?1")?;
    let rows = statement.query_map([message], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (party, indexes) = row?;
        Ok((party, text::parse("lottery indexes", &indexes)?))
    })
    .collect()
}

/// Keeps a signature whose message is not open yet; one of the same party and type is replaced. Whether there was room.
pub fn buffer(
    db: &Connection,
    kind: SignedEntityTypeDiscriminants,
    signature: &SingleSignature,
    now: &DateTime<Utc>,
) -> Result<bool> {
    let count: i64 = db
        .prepare_cached("SELECT count(*) FROM buffered_single_signature WHERE signed_entity_type_id = ?1")?
        .query_row([kind.index()], |row| row.get(0))?;
    if text::unsigned(count)? >= BUFFER_MAX {
        return Ok(false);
    }
    db.prepare_cached(
        "INSERT OR REPLACE INTO buffered_single_signature (signed_entity_type_id, party_id, lottery_indexes, signature, \
         created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((
        kind.index(),
        &signature.party_id,
        text::json(&signature.won_indexes)?,
        encode(signature)?,
        text::time(now),
    ))?;
    Ok(true)
}

/// The signatures that wait for a message of a type.
pub fn buffered(db: &Connection, kind: SignedEntityTypeDiscriminants) -> Result<Vec<SingleSignature>> {
    let mut statement = db.prepare_cached(
        "SELECT party_id, lottery_indexes, signature FROM buffered_single_signature WHERE signed_entity_type_id = ?1",
    )?;
    let mut rows = statement.query([kind.index()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(row.get(0)?, &row.get::<_, String>(1)?, &row.get::<_, String>(2)?)?);
    }
    Ok(found)
}

/// Forgets a signature that waited.
pub fn unbuffer(db: &Connection, kind: SignedEntityTypeDiscriminants, party: &PartyId) -> Result<()> {
    db.prepare_cached("DELETE FROM buffered_single_signature WHERE signed_entity_type_id = ?1 AND party_id = ?2")?
        .execute((kind.index(), party))?;
    Ok(())
}

/// Forgets signatures that have waited since before `time`: their message will not come any more.
pub fn prune_buffer(db: &Connection, time: &DateTime<Utc>) -> Result<()> {
    db.execute("DELETE FROM buffered_single_signature WHERE created_at < ?1", [text::time(time)])?;
    Ok(())
}

fn encode(signature: &SingleSignature) -> Result<String> {
    signature.signature.to_json_hex().map_err(|error| StoreError::value("a single signature", format!("{error:#}")))
}

fn decode(party: PartyId, indexes: &str, signature: &str) -> Result<SingleSignature> {
    let signature = ProtocolSingleSignature::from_json_hex(signature)
        .map_err(|error| StoreError::value("a single signature", format!("{error:#}")))?;
    Ok(SingleSignature::new(party, signature, text::parse("lottery indexes", indexes)?))
}

fn read(row: &Row<'_>) -> Result<OpenMessage> {
    let string = |column| row.get::<_, String>(column);
    let kind = SignedEntityTypeDiscriminants::from_id(row.get(3)?)
        .map_err(|error| StoreError::value("a signed entity type", error))?;
    Ok(OpenMessage {
        id: row.get(0)?,
        epoch: Epoch(text::unsigned(row.get(1)?)?),
        entity: entity::from_beacon(kind, &text::column(row, 2)?).ok_or_else(|| StoreError::value("a beacon", kind))?,
        message: text::parse("a protocol message", &string(5)?)?,
        is_certified: row.get(6)?,
        is_expired: row.get(7)?,
        created_at: text::parse_time(&string(4)?)?,
        expires_at: row.get::<_, Option<String>>(8)?.map(|at| text::parse_time(&at)).transpose()?,
    })
}
