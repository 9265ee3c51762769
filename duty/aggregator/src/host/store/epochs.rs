//! What belongs to an epoch: its settings, stakes and registrations.

use super::{Connection, Result, StoreError, text};
use crate::core::tickers::Ticker;
use chrono::{DateTime, Utc};
use mithril_common::crypto_helper::{
    KesEvolutions, ProtocolOpCert, ProtocolSignerVerificationKeyForConcatenation,
    ProtocolSignerVerificationKeySignatureForConcatenation,
};
use mithril_common::entities::{
    CardanoBlocksTransactionsSigningConfig, CardanoTransactionsSigningConfig, Epoch, PartyId, ProtocolParameters,
    SignedEntityTypeDiscriminants, Signer, SignerWithStake, StakeDistribution,
};
use rusqlite::OptionalExtension;
use std::collections::BTreeSet;

/// Settings of an epoch. Once recorded they never change.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Parameters of the lottery.
    pub parameters: ProtocolParameters,
    /// How transactions are certified.
    pub transactions: Option<CardanoTransactionsSigningConfig>,
    /// How blocks and transactions are certified.
    pub blocks_transactions: Option<CardanoBlocksTransactionsSigningConfig>,
}

impl Settings {
    /// Those of the types that can be worked on with these settings.
    pub fn configured(
        &self,
        kinds: &BTreeSet<SignedEntityTypeDiscriminants>,
    ) -> BTreeSet<SignedEntityTypeDiscriminants> {
        let has_settings = |kind: &SignedEntityTypeDiscriminants| match kind {
            SignedEntityTypeDiscriminants::CardanoTransactions => self.transactions.is_some(),
            SignedEntityTypeDiscriminants::CardanoBlocksTransactions => self.blocks_transactions.is_some(),
            _ => true,
        };
        kinds.iter().copied().filter(has_settings).collect()
    }
}

/// Records an epoch's settings, unless there are some.
pub fn record_settings(db: &Connection, epoch: Epoch, settings: &Settings) -> Result<()> {
    db.prepare_cached(
        "INSERT OR IGNORE INTO epoch_setting (epoch_setting_id, protocol_parameters, cardano_transactions_signing_config, \
         cardano_blocks_transactions_signing_config) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((
        text::number(*epoch),
        text::json(&settings.parameters)?,
        settings.transactions.as_ref().map(text::json).transpose()?,
        settings.blocks_transactions.as_ref().map(text::json).transpose()?,
    ))?;
    Ok(())
}

/// Adds the signing configurations that an epoch's settings lack; what they have stays. Only for an epoch that nobody signs by
/// yet: signers read an epoch's settings once, when it begins.
pub fn complete_settings(db: &Connection, epoch: Epoch, settings: &Settings) -> Result<()> {
    db.prepare_cached(
        "UPDATE epoch_setting SET \
         cardano_transactions_signing_config = coalesce(cardano_transactions_signing_config, ?2), \
         cardano_blocks_transactions_signing_config = coalesce(cardano_blocks_transactions_signing_config, ?3) \
         WHERE epoch_setting_id = ?1",
    )?
    .execute((
        text::number(*epoch),
        settings.transactions.as_ref().map(text::json).transpose()?,
        settings.blocks_transactions.as_ref().map(text::json).transpose()?,
    ))?;
    Ok(())
}

/// An epoch's settings.
pub fn settings(db: &Connection, epoch: Epoch) -> Result<Option<Settings>> {
    let found = db
        .prepare_cached(
            "SELECT protocol_parameters, cardano_transactions_signing_config, cardano_blocks_transactions_signing_config \
             FROM epoch_setting WHERE epoch_setting_id = ?1",
        )?
        .query_row([text::number(*epoch)], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, Option<String>>(2)?))
        })
        .optional()?;
    let Some((parameters, transactions, blocks_transactions)) = found else { return Ok(None) };
    Ok(Some(Settings {
        parameters: text::parse("protocol parameters", &parameters)?,
        transactions: transactions.map(|json| text::parse("a signing configuration", &json)).transpose()?,
        blocks_transactions: blocks_transactions
            .map(|json| text::parse("a signing configuration", &json))
            .transpose()?,
    }))
}

/// Records stakes for an epoch, unless there are some.
pub fn record_stakes(db: &Connection, epoch: Epoch, stakes: &StakeDistribution, now: &DateTime<Utc>) -> Result<()> {
    let epoch = text::number(*epoch);
    let is_known: bool = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM stake_pool WHERE epoch = ?1)")?
        .query_row([epoch], |row| row.get(0))?;
    if is_known {
        return Ok(());
    }
    let now = text::time(now);
    let mut statement =
        db.prepare_cached("INSERT INTO stake_pool (stake_pool_id, epoch, stake, created_at) VALUES (?1, ?2, ?3, ?4)")?;
    for (pool, stake) in stakes {
        statement.execute((pool, epoch, text::number(*stake), &now))?;
    }
    Ok(())
}

/// An epoch's stakes; empty when none are known.
pub fn stakes(db: &Connection, epoch: Epoch) -> Result<StakeDistribution> {
    let mut statement = db.prepare_cached("SELECT stake_pool_id, stake FROM stake_pool WHERE epoch = ?1")?;
    let rows = statement.query_map([text::number(*epoch)], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    let mut stakes = StakeDistribution::new();
    for row in rows {
        let (pool, stake) = row?;
        stakes.insert(pool, text::unsigned(stake)?);
    }
    Ok(stakes)
}

/// Keeps a signer for an epoch; an earlier registration of the same party for the same epoch is replaced. Whether there was none.
pub fn register(db: &Connection, epoch: Epoch, signer: &SignerWithStake, now: &DateTime<Utc>) -> Result<bool> {
    let unencodable = |error| StoreError::value("a registration", format!("{error:#}"));
    let now = text::time(now);
    db.prepare_cached(
        "INSERT INTO signer (signer_id, created_at, updated_at, last_registered_at) VALUES (?1, ?2, ?2, ?2) \
         ON CONFLICT (signer_id) DO UPDATE SET updated_at = ?2, last_registered_at = ?2",
    )?
    .execute((&signer.party_id, &now))?;
    let is_new: bool = db
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM signer_registration WHERE epoch_setting_id = ?1 AND signer_id = ?2)",
        )?
        .query_row((text::number(*epoch), &signer.party_id), |row| row.get(0))?;
    let key = signer.verification_key_for_concatenation.to_json_hex().map_err(unencodable)?;
    let signature = signer.verification_key_signature_for_concatenation.map(|one| one.to_json_hex());
    let certificate = signer.operational_certificate.as_ref().map(|one| one.to_json_hex());
    // Not "replace": that would delete the row, and signatures that refer to it.
    db.prepare_cached(
        "INSERT INTO signer_registration (signer_id, epoch_setting_id, verification_key, verification_key_signature, \
         operational_certificate, kes_period, stake, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         ON CONFLICT (epoch_setting_id, signer_id) DO UPDATE SET verification_key = ?3, verification_key_signature = ?4, \
         operational_certificate = ?5, kes_period = ?6, stake = ?7, created_at = ?8",
    )?
    .execute((
        &signer.party_id,
        text::number(*epoch),
        key,
        signature.transpose().map_err(unencodable)?,
        certificate.transpose().map_err(unencodable)?,
        signer.kes_evolutions.map(|one| text::number(*one)),
        text::number(signer.stake),
        &now,
    ))?;
    if let Some(certificate) = &signer.operational_certificate {
        db.prepare_cached(
            "INSERT INTO semel_operational_certificate (signer_id, issue_number) VALUES (?1, ?2) \
             ON CONFLICT (signer_id) DO UPDATE SET issue_number = max(issue_number, ?2)",
        )?
        .execute((&signer.party_id, text::number(certificate.get_issue_number())))?;
    }
    Ok(is_new)
}

/// What is known of a party that registers for `epoch` with `key` (hex).
pub fn known(db: &Connection, epoch: Epoch, party: &str, key: &str) -> Result<crate::core::registration::Known> {
    let issue_number: Option<i64> = db
        .prepare_cached("SELECT issue_number FROM semel_operational_certificate WHERE signer_id = ?1")?
        .query_row([party], |row| row.get(0))
        .optional()?;
    let epoch = text::number(*epoch);
    let is_of_earlier = "EXISTS (SELECT 1 FROM signer_registration AS earlier WHERE earlier.signer_id = ?2 \
         AND earlier.epoch_setting_id < ?1 AND earlier.verification_key =";
    let is_old_key: bool =
        db.prepare_cached(&format!("SELECT {is_of_earlier} ?3)"))?.query_row((epoch, party, key), |row| row.get(0))?;
    let has_new_key: bool = db
        .prepare_cached(&format!(
            "SELECT EXISTS (SELECT 1 FROM signer_registration AS now WHERE now.epoch_setting_id = ?1 AND now.signer_id = ?2 \
             AND now.verification_key != ?3 AND NOT {is_of_earlier} now.verification_key))"
        ))?
        .query_row((epoch, party, key), |row| row.get(0))?;
    Ok(crate::core::registration::Known {
        issue_number: issue_number.map(text::unsigned).transpose()?,
        has_new_key,
        is_old_key,
    })
}

/// Whether another party holds the point of a key, without its proof of possession, for an epoch.
pub fn is_taken(db: &Connection, epoch: Epoch, party: &str, point: &str) -> Result<bool> {
    Ok(db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM semel_verification_key WHERE epoch_setting_id = ?1 AND point = ?3 AND signer_id != ?2)",
        )?
        .query_row((text::number(*epoch), party, point), |row| row.get(0))?)
}

/// Takes the point of a key for a party and an epoch.
pub fn take(db: &Connection, epoch: Epoch, party: &str, point: &str) -> Result<()> {
    let epoch = text::number(*epoch);
    db.prepare_cached("DELETE FROM semel_verification_key WHERE epoch_setting_id = ?1 AND signer_id = ?2")?
        .execute((epoch, party))?;
    db.prepare_cached("INSERT INTO semel_verification_key (epoch_setting_id, point, signer_id) VALUES (?1, ?2, ?3)")?
        .execute((epoch, point, party))?;
    Ok(())
}

/// Parties and stakes that are registered for an epoch.
pub fn registered(db: &Connection, epoch: Epoch) -> Result<Vec<(PartyId, u64)>> {
    let mut statement = db.prepare_cached(
        "SELECT signer_id, stake FROM signer_registration WHERE epoch_setting_id = ?1 ORDER BY signer_id",
    )?;
    let rows = statement.query_map([text::number(*epoch)], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))?;
    rows.map(|row| {
        let (party, stake) = row?;
        Ok((party, text::unsigned(stake.unwrap_or_default())?))
    })
    .collect()
}

/// Signers kept for an epoch, by party.
pub fn signers(db: &Connection, epoch: Epoch) -> Result<Vec<SignerWithStake>> {
    let broken = |error| StoreError::value("a registration", format!("{error:#}"));
    let mut statement = db.prepare_cached(
        "SELECT signer_id, verification_key, verification_key_signature, operational_certificate, kes_period, stake \
         FROM signer_registration WHERE epoch_setting_id = ?1 ORDER BY signer_id",
    )?;
    let mut rows = statement.query([text::number(*epoch)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(1)?;
        let signature: Option<String> = row.get(2)?;
        let certificate: Option<String> = row.get(3)?;
        let period: Option<i64> = row.get(4)?;
        let stake: Option<i64> = row.get(5)?;
        let signer = Signer {
            party_id: row.get(0)?,
            verification_key_for_concatenation: ProtocolSignerVerificationKeyForConcatenation::try_from(key.as_str())
                .map_err(broken)?,
            verification_key_signature_for_concatenation: signature
                .map(|text| ProtocolSignerVerificationKeySignatureForConcatenation::try_from(text.as_str()))
                .transpose()
                .map_err(broken)?,
            operational_certificate: certificate
                .map(|text| ProtocolOpCert::try_from(text.as_str()))
                .transpose()
                .map_err(broken)?,
            kes_evolutions: period.map(text::unsigned).transpose()?.map(KesEvolutions),
        };
        found.push(SignerWithStake::from_signer(signer, text::unsigned(stake.unwrap_or_default())?));
    }
    Ok(found)
}

/// A signer as explorers list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The pool.
    pub party: PartyId,
    /// Its ticker, where one is known.
    pub ticker: Option<String>,
    /// Whether it ever registered.
    pub has_registered: bool,
}

/// Everybody who ever registered or is listed as a pool; who came last is first.
pub fn tickers(db: &Connection) -> Result<Vec<Known>> {
    let mut statement = db.prepare_cached(
        "SELECT signer_id, pool_ticker, last_registered_at IS NOT NULL FROM signer ORDER BY rowid DESC",
    )?;
    let rows = statement
        .query_map([], |row| Ok(Known { party: row.get(0)?, ticker: row.get(1)?, has_registered: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Keeps pools and their tickers, also of pools that never registered, and forgets the ticker of one that has none any more; how
/// many are new or other than before.
pub fn set_tickers(db: &Connection, tickers: &[Ticker], now: &DateTime<Utc>) -> Result<usize> {
    let now = text::time(now);
    let mut statement = db.prepare_cached(
        "INSERT INTO signer (signer_id, pool_ticker, created_at, updated_at) VALUES (?1, ?2, ?3, ?3) \
         ON CONFLICT (signer_id) DO UPDATE SET pool_ticker = ?2, updated_at = ?3 WHERE pool_ticker IS NOT ?2",
    )?;
    let mut changed = 0;
    for one in tickers {
        changed += statement.execute((&one.party, &one.ticker, &now))?;
    }
    Ok(changed)
}

/// Forgets what is older than `kept` epochs before `epoch`; registrations go before the settings that they refer to.
pub fn prune(db: &Connection, epoch: Epoch, kept: u64) -> Result<()> {
    let before = |epoch: u64| text::number(epoch.saturating_sub(kept));
    db.execute("DELETE FROM stake_pool WHERE epoch < ?1", [before(*epoch)])?;
    db.execute("DELETE FROM signer_registration WHERE epoch_setting_id < ?1", [before(*epoch.next())])?;
    db.execute("DELETE FROM semel_verification_key WHERE epoch_setting_id < ?1", [before(*epoch)])?;
    db.execute("DELETE FROM epoch_setting WHERE epoch_setting_id < ?1", [before(*epoch)])?;
    Ok(())
}
