//! The tables: those of the reference's version 44, and a few of ours.

use super::{Connection, Result, StoreError};
use std::path::Path;

/// Version of the reference's schema that this is.
pub const VERSION: i64 = 44;

const TABLES: &str = "
CREATE TABLE signed_entity_type (
    signed_entity_type_id integer NOT NULL PRIMARY KEY,
    name text NOT NULL UNIQUE
);
INSERT INTO signed_entity_type (signed_entity_type_id, name) VALUES
    (0, 'Mithril Stake Distribution'), (1, 'Cardano Stake Distribution'), (3, 'Cardano Transactions'),
    (4, 'Cardano Database'), (5, 'Cardano Blocks and Transactions');
CREATE TABLE signer (
    signer_id text NOT NULL PRIMARY KEY,
    pool_ticker text,
    created_at text NOT NULL,
    updated_at text NOT NULL,
    last_registered_at text
);
CREATE TABLE epoch_setting (
    epoch_setting_id integer NOT NULL PRIMARY KEY,
    protocol_parameters json NOT NULL,
    cardano_transactions_signing_config json,
    cardano_blocks_transactions_signing_config json
);
CREATE TABLE signer_registration (
    signer_id text NOT NULL,
    epoch_setting_id integer NOT NULL,
    verification_key text NOT NULL,
    verification_key_signature text,
    operational_certificate text,
    kes_period integer,
    stake integer,
    created_at text NOT NULL,
    verification_key_for_snark text,
    verification_key_signature_for_snark text,
    PRIMARY KEY (epoch_setting_id, signer_id),
    FOREIGN KEY (epoch_setting_id) REFERENCES epoch_setting(epoch_setting_id) ON DELETE CASCADE,
    FOREIGN KEY (signer_id) REFERENCES signer(signer_id)
);
CREATE TABLE open_message (
    open_message_id text NOT NULL PRIMARY KEY,
    epoch_setting_id integer NOT NULL,
    beacon json NOT NULL,
    signed_entity_type_id integer NOT NULL,
    created_at text NOT NULL,
    protocol_message json NOT NULL,
    is_certified bool NOT NULL DEFAULT false,
    is_expired bool NOT NULL DEFAULT false,
    expires_at text,
    FOREIGN KEY (epoch_setting_id) REFERENCES epoch_setting(epoch_setting_id) ON DELETE CASCADE,
    FOREIGN KEY (signed_entity_type_id) REFERENCES signed_entity_type(signed_entity_type_id)
);
CREATE TABLE single_signature (
    open_message_id text NOT NULL,
    signer_id text NOT NULL,
    registration_epoch_setting_id integer NOT NULL,
    lottery_indexes json NOT NULL,
    signature text NOT NULL,
    created_at text NOT NULL,
    PRIMARY KEY (open_message_id, signer_id, registration_epoch_setting_id),
    FOREIGN KEY (open_message_id) REFERENCES open_message(open_message_id) ON DELETE CASCADE,
    FOREIGN KEY (registration_epoch_setting_id, signer_id) REFERENCES signer_registration(epoch_setting_id, signer_id)
        ON DELETE CASCADE
);
CREATE TABLE buffered_single_signature (
    signed_entity_type_id integer NOT NULL,
    party_id text NOT NULL,
    lottery_indexes json NOT NULL,
    signature text NOT NULL,
    created_at text NOT NULL,
    PRIMARY KEY (signed_entity_type_id, party_id)
);
CREATE TABLE certificate (
    certificate_id text NOT NULL PRIMARY KEY,
    parent_certificate_id text,
    message text NOT NULL,
    signature text NOT NULL,
    aggregate_verification_key text NOT NULL,
    epoch integer NOT NULL,
    network text NOT NULL,
    signed_entity_type_id integer NOT NULL,
    signed_entity_beacon json NOT NULL,
    protocol_version text NOT NULL,
    protocol_parameters json NOT NULL,
    protocol_message json NOT NULL,
    signers json NOT NULL,
    initiated_at text NOT NULL,
    sealed_at text NOT NULL,
    aggregate_verification_key_snark text,
    ancillary_prover_data text,
    ancillary_verifier_data text,
    FOREIGN KEY (parent_certificate_id) REFERENCES certificate(certificate_id),
    FOREIGN KEY (signed_entity_type_id) REFERENCES signed_entity_type(signed_entity_type_id)
);
CREATE TABLE signed_entity (
    signed_entity_id text NOT NULL PRIMARY KEY,
    signed_entity_type_id integer NOT NULL,
    certificate_id text NOT NULL,
    beacon json NOT NULL,
    created_at text NOT NULL,
    artifact json NOT NULL,
    epoch integer GENERATED ALWAYS AS (CASE
        WHEN json_valid(beacon) AND json_type(beacon) = 'integer' THEN CAST(beacon AS integer)
        ELSE json_extract(beacon, '$.epoch') END) VIRTUAL,
    FOREIGN KEY (signed_entity_type_id) REFERENCES signed_entity_type(signed_entity_type_id),
    FOREIGN KEY (certificate_id) REFERENCES certificate(certificate_id)
);
CREATE TABLE stake_pool (
    stake_pool_id text NOT NULL,
    epoch integer NOT NULL,
    stake integer NOT NULL,
    created_at text NOT NULL,
    PRIMARY KEY (epoch, stake_pool_id)
);
CREATE TABLE immutable_file_digest (
    immutable_file_name text NOT NULL PRIMARY KEY,
    digest text NOT NULL
);
CREATE TABLE IF NOT EXISTS db_version (
    application_type text NOT NULL PRIMARY KEY,
    version integer NOT NULL,
    updated_at text NOT NULL
);
";

/// Under the reference's names; made where they are missing.
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS signer_registration_epoch_setting_id_index ON signer_registration(epoch_setting_id);
CREATE INDEX IF NOT EXISTS signer_registration_signer_id_index ON signer_registration(signer_id);
CREATE UNIQUE INDEX IF NOT EXISTS open_message_unique_index ON open_message(signed_entity_type_id, beacon);
CREATE INDEX IF NOT EXISTS open_message_epoch_setting_id_index ON open_message(epoch_setting_id);
CREATE INDEX IF NOT EXISTS open_message_signed_entity_type_id_index ON open_message(signed_entity_type_id);
CREATE INDEX IF NOT EXISTS single_signature_open_message_id_index ON single_signature(open_message_id);
CREATE INDEX IF NOT EXISTS single_signature_signer_id_index ON single_signature(signer_id);
CREATE INDEX IF NOT EXISTS single_signature_registration_epoch_setting_id_index
    ON single_signature(registration_epoch_setting_id);
CREATE INDEX IF NOT EXISTS buffered_single_signature_signed_entity_type_id
    ON buffered_single_signature(signed_entity_type_id);
CREATE INDEX IF NOT EXISTS buffered_single_signature_party_id_index ON buffered_single_signature(party_id);
CREATE INDEX IF NOT EXISTS epoch_index ON certificate(epoch);
CREATE INDEX IF NOT EXISTS certificate_parent_certificate_id_index ON certificate(parent_certificate_id);
CREATE INDEX IF NOT EXISTS signed_entity_signed_entity_type_id_index ON signed_entity(signed_entity_type_id);
CREATE INDEX IF NOT EXISTS signed_entity_certificate_id_index ON signed_entity(certificate_id);
CREATE UNIQUE INDEX IF NOT EXISTS signed_entity_unique_index ON signed_entity(signed_entity_type_id, beacon);
CREATE INDEX IF NOT EXISTS signed_entity_epoch ON signed_entity(epoch);
";

/// What only we have: made beside the tables of a reference, too.
const OWN_TABLES: &str = "
CREATE TABLE IF NOT EXISTS semel_operational_certificate (
    signer_id text NOT NULL PRIMARY KEY,
    issue_number integer NOT NULL
);
CREATE TABLE IF NOT EXISTS semel_verification_key (
    epoch_setting_id integer NOT NULL,
    point text NOT NULL,
    signer_id text NOT NULL,
    PRIMARY KEY (epoch_setting_id, point)
);
CREATE TABLE IF NOT EXISTS semel_immutable_file_stamp (
    immutable_file_name text NOT NULL PRIMARY KEY,
    size integer NOT NULL,
    modified_ns integer NOT NULL
);
CREATE TABLE IF NOT EXISTS semel_proof_of_bound_possession (
    epoch_setting_id integer NOT NULL,
    signer_id text NOT NULL,
    proof text NOT NULL,
    PRIMARY KEY (epoch_setting_id, signer_id),
    FOREIGN KEY (epoch_setting_id, signer_id) REFERENCES signer_registration(epoch_setting_id, signer_id) ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS semel_artifact_queue (
    signed_entity_type_id integer NOT NULL,
    beacon json NOT NULL,
    certificate_id text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    not_before text NOT NULL,
    last_error text,
    PRIMARY KEY (signed_entity_type_id, beacon)
);
";

pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    let found = check(connection, path)?;
    let transaction = connection.transaction()?;
    if found.is_none() {
        transaction.execute_batch(TABLES)?;
        transaction.execute(
            "INSERT INTO db_version (application_type, version, updated_at) VALUES ('aggregator', ?1, ?2)",
            (VERSION, super::text::time(&chrono::Utc::now())),
        )?;
    }
    transaction.execute_batch(INDEXES)?;
    transaction.execute_batch(OWN_TABLES)?;
    transaction.commit()?;
    Ok(())
}

/// Version of the tables in a file, none in an empty one; refuses what is not of this version.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<Option<i64>> {
    let found = version(connection)?;
    match found {
        Some(found) if found > VERSION => Err(StoreError::Newer { path: path.to_owned(), found }),
        Some(found) if found < VERSION => Err(StoreError::Older { path: path.to_owned(), found }),
        _ => Ok(found),
    }
}

/// A new database that is nowhere on the disk.
pub(super) fn in_memory() -> Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(TABLES)?;
    Ok(connection)
}

/// Version of the tables in a file; none in an empty one.
pub(super) fn version(connection: &Connection) -> Result<Option<i64>> {
    let has_table: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'db_version')",
        [],
        |row| row.get(0),
    )?;
    if !has_table {
        return Ok(None);
    }
    Ok(connection.query_row("SELECT max(version) FROM db_version", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::super::Store;

    #[test]
    fn a_new_database_has_the_types_and_the_indexes_that_the_reference_has() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let list = |sql: &'static str| {
            let rows = store.read(|db| {
                let mut statement = db.prepare(sql)?;
                let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
                Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
            });
            rows.unwrap()
        };
        let types = list("SELECT signed_entity_type_id || ' ' || name FROM signed_entity_type ORDER BY 1");
        assert_eq!(
            types,
            [
                "0 Mithril Stake Distribution",
                "1 Cardano Stake Distribution",
                "3 Cardano Transactions",
                "4 Cardano Database",
                "5 Cardano Blocks and Transactions",
            ]
        );
        let indexes =
            list("SELECT name FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite_%' ORDER BY 1");
        assert_eq!(
            indexes,
            [
                "buffered_single_signature_party_id_index",
                "buffered_single_signature_signed_entity_type_id",
                "certificate_parent_certificate_id_index",
                "epoch_index",
                "open_message_epoch_setting_id_index",
                "open_message_signed_entity_type_id_index",
                "open_message_unique_index",
                "signed_entity_certificate_id_index",
                "signed_entity_epoch",
                "signed_entity_signed_entity_type_id_index",
                "signed_entity_unique_index",
                "signer_registration_epoch_setting_id_index",
                "signer_registration_signer_id_index",
                "single_signature_open_message_id_index",
                "single_signature_registration_epoch_setting_id_index",
                "single_signature_signer_id_index",
            ]
        );
    }
}
