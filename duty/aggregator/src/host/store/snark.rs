//! What signers of the Lagrange era register beside their key: kept as it came, given back as it came, and not understood.
//!
//! Certificates of today need none of it, and the hash of a signer does not cover it here; yet signers that read themselves back,
//! and clients of a later version, must find what was sent (§3.9 of the specification). Every field is hex of at most
//! [`FIELD_MAX`] digits. The proof of possession has no column in the reference's table: it has a table of its own.

use super::{Connection, Result, text};
use mithril_common::entities::{Epoch, PartyId};
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Digits of a field at most. A KES signature, the longest, has 448 bytes: some 4,000 digits as hex of JSON.
pub const FIELD_MAX: usize = 16_384;

/// The fields, by their names in messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnarkFields {
    /// Key of the other proof system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification_key_for_snark: Option<String>,
    /// KES signature over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification_key_signature_for_snark: Option<String>,
    /// Proof that the signer holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_of_bound_possession_for_snark: Option<String>,
}

impl SnarkFields {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == SnarkFields::default()
    }

    /// The first field that cannot be kept.
    pub fn refused(&self) -> Option<&'static str> {
        let is_hex = |text: &String| text.len() <= FIELD_MAX && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        [
            ("verification_key_for_snark", &self.verification_key_for_snark),
            ("verification_key_signature_for_snark", &self.verification_key_signature_for_snark),
            ("proof_of_bound_possession_for_snark", &self.proof_of_bound_possession_for_snark),
        ]
        .into_iter()
        .find(|(_, field)| field.as_ref().is_some_and(|text| !is_hex(text)))
        .map(|(name, _)| name)
    }

    /// Those of a signer in JSON.
    pub fn of(signer: &Map<String, Value>) -> SnarkFields {
        let field = |name: &str| signer.get(name).and_then(Value::as_str).map(str::to_owned);
        SnarkFields {
            verification_key_for_snark: field("verification_key_for_snark"),
            verification_key_signature_for_snark: field("verification_key_signature_for_snark"),
            proof_of_bound_possession_for_snark: field("proof_of_bound_possession_for_snark"),
        }
    }

    /// Adds them to a signer in JSON.
    fn add_to(&self, signer: &mut Map<String, Value>) {
        if let Ok(Value::Object(fields)) = serde_json::to_value(self) {
            signer.extend(fields);
        }
    }
}

/// The fields of those signers that have any.
pub type ByParty = HashMap<PartyId, SnarkFields>;

/// Adds to every signer in a JSON array what is kept of him.
pub fn add_to_signers(signers: Option<&mut Value>, kept: &ByParty) {
    for signer in signers.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
        let fields = signer.get("party_id").and_then(Value::as_str).and_then(|party| kept.get(party)).cloned();
        if let Some(fields) = fields {
            fields.add_to(signer);
        }
    }
}

/// The fields in a JSON array of signers.
pub fn of_signers(signers: Option<&Value>) -> ByParty {
    let signers = signers.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    let of = |signer: &Map<String, Value>| {
        Some((signer.get("party_id")?.as_str()?.to_owned(), SnarkFields::of(signer))).filter(|(_, one)| !one.is_empty())
    };
    signers.filter_map(of).collect()
}

/// Keeps what came with a registration, which is in the table already. `key_before` is what was registered before it for this
/// epoch: under the same key, fields that do not come again stay.
pub fn keep(db: &Connection, epoch: Epoch, party: &str, fields: &SnarkFields, key_before: Option<&str>) -> Result<()> {
    let row = (text::number(*epoch), party);
    if key(db, epoch, party)?.as_deref() != key_before {
        db.prepare_cached(
            "UPDATE signer_registration SET verification_key_for_snark = NULL, verification_key_signature_for_snark = NULL \
             WHERE epoch_setting_id = ?1 AND signer_id = ?2",
        )?
        .execute(row)?;
        db.prepare_cached(
            "DELETE FROM semel_proof_of_bound_possession WHERE epoch_setting_id = ?1 AND signer_id = ?2",
        )?
        .execute(row)?;
    }
    if fields.is_empty() {
        return Ok(());
    }
    db.prepare_cached(
        "UPDATE signer_registration SET verification_key_for_snark = coalesce(?3, verification_key_for_snark), \
         verification_key_signature_for_snark = coalesce(?4, verification_key_signature_for_snark) \
         WHERE epoch_setting_id = ?1 AND signer_id = ?2",
    )?
    .execute((row.0, row.1, &fields.verification_key_for_snark, &fields.verification_key_signature_for_snark))?;
    if let Some(proof) = &fields.proof_of_bound_possession_for_snark {
        db.prepare_cached(
            "INSERT INTO semel_proof_of_bound_possession (epoch_setting_id, signer_id, proof) VALUES (?1, ?2, ?3) \
             ON CONFLICT (epoch_setting_id, signer_id) DO UPDATE SET proof = ?3",
        )?
        .execute((row.0, row.1, proof))?;
    }
    Ok(())
}

/// The key that a party is registered with for an epoch.
pub fn key(db: &Connection, epoch: Epoch, party: &str) -> Result<Option<String>> {
    let sql = "SELECT verification_key FROM signer_registration WHERE epoch_setting_id = ?1 AND signer_id = ?2";
    Ok(db.prepare_cached(sql)?.query_row((text::number(*epoch), party), |row| row.get(0)).optional()?)
}

/// What is kept of an epoch's signers.
pub fn of_epoch(db: &Connection, epoch: Epoch) -> Result<ByParty> {
    let mut statement = db.prepare_cached(
        "SELECT one.signer_id, one.verification_key_for_snark, one.verification_key_signature_for_snark, own.proof \
         FROM signer_registration AS one LEFT JOIN semel_proof_of_bound_possession AS own \
             ON own.epoch_setting_id = one.epoch_setting_id AND own.signer_id = one.signer_id \
         WHERE one.epoch_setting_id = ?1 \
         AND coalesce(one.verification_key_for_snark, one.verification_key_signature_for_snark, own.proof) IS NOT NULL",
    )?;
    let rows = statement.query_map([text::number(*epoch)], |row| {
        let fields = SnarkFields {
            verification_key_for_snark: row.get(1)?,
            verification_key_signature_for_snark: row.get(2)?,
            proof_of_bound_possession_for_snark: row.get(3)?,
        };
        Ok((row.get(0)?, fields))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_hex_of_a_bounded_length() {
        let with = |text: &str| SnarkFields { verification_key_for_snark: Some(text.to_owned()), ..Default::default() };
        for good in ["", "00ff", "ABcd", &"a".repeat(FIELD_MAX)] {
            assert_eq!(with(good).refused(), None);
        }
        for bad in ["xyz", "\"", "0 ", &"a".repeat(FIELD_MAX + 1)] {
            assert_eq!(with(bad).refused(), Some("verification_key_for_snark"));
        }
    }

    #[test]
    fn fields_come_back_to_the_signer_that_they_came_from() {
        let sent = json!([
            {"party_id": "a", "verification_key_for_snark": "01", "proof_of_bound_possession_for_snark": "02"},
            {"party_id": "b", "verification_key_for_snark": null},
            {"verification_key_for_snark": "01"}, 7,
        ]);
        let kept = of_signers(Some(&sent));
        assert_eq!(kept.len(), 1);
        let mut bare = json!([{"party_id": "b"}, {"party_id": "a", "stake": 1}]);
        add_to_signers(Some(&mut bare), &kept);
        let expected = json!([{"party_id": "b"}, {"party_id": "a", "stake": 1, "verification_key_for_snark": "01",
            "proof_of_bound_possession_for_snark": "02"}]);
        assert_eq!(bare, expected);
    }
}
