//! Every setting: its name, its default, what it means. The environment's name is the key in capitals, `.` spelt `__`.

/// When a setting has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Never.
    Optional,
    /// Always.
    Always,
    /// In the case that these words say.
    When(&'static str),
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Path in the configuration file: `protocol_parameters.k`.
    pub key: &'static str,
    /// Its value when nobody sets it, as it would be written.
    pub default: Option<&'static str>,
    /// When it has to be there.
    pub need: Need,
    /// Its value is never shown.
    pub is_secret: bool,
    /// Its value is a JSON object.
    pub is_object: bool,
    /// What it means: unit, range, effect.
    pub about: &'static str,
}

impl Row {
    /// Name of the environment variable.
    pub fn variable(&self) -> String {
        self.key.to_uppercase().replace('.', "__")
    }

    const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    const fn needed(mut self) -> Self {
        self.need = Need::Always;
        self
    }

    const fn when(mut self, case: &'static str) -> Self {
        self.need = Need::When(case);
        self
    }

    const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    const fn object(mut self) -> Self {
        self.is_object = true;
        self
    }
}

const fn row(key: &'static str, about: &'static str) -> Row {
    Row { key, default: None, need: Need::Optional, is_secret: false, is_object: false, about }
}

/// The setting with this key.
pub fn find(key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.key == key)
}

/// Every setting, in the order in which they are shown.
pub const ROWS: &[Row] = &[
    row("environment", "Production or Test; Test takes a chain that it is told").default("Production"),
    row("network", "Cardano network: mainnet, preprod, preview, devnet or private").needed(),
    row("network_magic", "magic of a private network; the named networks have their own").when("NETWORK is private"),
    row("cardano_node_socket_path", "socket of the Cardano node").when("the chain observer is pallas"),
    row("cardano_node_version", "version of the Cardano node, such as 10.5.0: it decides how ledger snapshots lie on the disk").needed(),
    row("cardano_cli_path", "cardano-cli, for CHAIN_OBSERVER_TYPE=cardano-cli only").default("cardano-cli"),
    row("chain_observer_type", "who tells the chain: pallas, cardano-cli or fake").default("pallas"),
    row("protocol_parameters.k", "quorum: lottery indexes that a multi-signature needs").when("this aggregator leads"),
    row("protocol_parameters.m", "lotteries per message; at least k").when("this aggregator leads"),
    row("protocol_parameters.phi_f", "chance of the whole stake to win a lottery: above 0, at most 1").when("this aggregator leads"),
    row("signed_entity_types", "what is certified, separated by commas: CardanoStakeDistribution, CardanoDatabase, CardanoTransactions, CardanoBlocksTransactions; MithrilStakeDistribution always is"),
    row("aggregate_signature_type", "Concatenation; Snark and IvcSnark are not made here").default("Concatenation"),
    row("run_interval", "milliseconds between two looks at the chain").default("60000"),
    row("store_retention_limit", "epochs that are kept, never fewer than 3; without it, all of them"),
    row("genesis_verification_key", "key that genesis certificates are verified with, JSON-hex; public, one per Mithril network").needed(),
    row("era_reader_adapter_type", "who tells the eras: cardano-chain, file, dummy, bootstrap, bootstrap-latest").default("bootstrap"),
    row("era_reader_adapter_params", "JSON: {\"address\", \"verification_key\"} for cardano-chain, {\"markers_file\"} for file, {\"markers\"} for dummy").object().when("the adapter is cardano-chain, file or dummy"),
    row("leader_aggregator_endpoint", "URL of the leader: makes this aggregator a follower"),
    row("certificate_chain_aggregator_endpoint", "URL of the aggregator that a follower takes the certificate chain from; the leader, when left out"),
    row("server_ip", "address that the HTTP server listens on").default("0.0.0.0"),
    row("server_port", "port that the HTTP server listens on").default("8080"),
    row("public_server_url", "URL under which clients reach this server; with or without a path or a slash at its end"),
    row("server_tls_certificate_path", "PEM file of the server's certificate and those between it and its root: the HTTP server speaks TLS; read again when it changes"),
    row("server_tls_key_path", "PEM file of the certificate's private key, not encrypted; read again when it changes").when("SERVER_TLS_CERTIFICATE_PATH is set"),
    row("custom_origin_tag_white_list", "origin tags that are counted under their own name, beside EXPLORER, BENCHMARK, CI and NA; separated by commas"),
    row("db_directory", "database directory of the Cardano node").default("/db"),
    row("data_stores_directory", "directory of the databases; /opt/mithril/stores when that can be written, else ./stores"),
    row("snapshot_directory", "directory of artifacts").default("."),
    row("snapshot_uploader_type", "where archives go: gcp, s3 (whatever speaks it), or local").default("gcp"),
    row("snapshot_bucket_name", "bucket of the archives").when("CardanoDatabase is certified and the uploader is gcp or s3"),
    row("snapshot_use_cdn_domain", "the bucket's name is a domain of its own").default("false"),
    row("google_application_credentials_json", "service account of the bucket: the JSON itself, no path").secret().when("CardanoDatabase is certified and the uploader is gcp"),
    row("aws_access_key_id", "access key of an S3 bucket").when("CardanoDatabase is certified and the uploader is s3"),
    row("aws_secret_access_key", "its secret").secret().when("CardanoDatabase is certified and the uploader is s3"),
    row("aws_region", "region of an S3 bucket; whatever a service that has none wants to see").default("us-east-1"),
    row("aws_endpoint_url", "address of a service that speaks S3, http or https; none: Amazon's"),
    row("snapshot_public_url", "where clients find what lies in an S3 bucket; none: the service's address and the bucket's name"),
    row("google_application_credentials_gcp_kms_json", "service account of the key service, when ANCILLARY_FILES_SIGNER_CONFIG names this variable").secret(),
    row("snapshot_compression_algorithm", "zstandard; gzip is accepted, and zstandard is written, because clients of today reject gzip").default("zstandard"),
    row("snapshot_gzip_compatibility", "true: SNAPSHOT_COMPRESSION_ALGORITHM=gzip is taken at its word, for clients of 2026 and older").default("false"),
    row("zstandard_parameters.level", "compression level, -131072 (fast) to 22 (small); 0: that of zstandard itself").default("9"),
    row("zstandard_parameters.number_of_workers", "threads of the compression; 0: the one that asks").default("4"),
    row("ancillary_files_signer_config", "JSON: {\"type\": \"secret-key\", \"secret_key\": HEX} or {\"type\": \"gcp-kms\", \"resource_name\": …, \"credentials_json_env_var\": …}").object().secret().when("CardanoDatabase is certified"),
    row("reset_digests_cache", "forget the digests of immutable files at start").default("false"),
    row("disable_digests_cache", "compute every digest each time").default("false"),
    row("allow_unparsable_block", "go on when a block cannot be parsed; never on mainnet and preprod").default("false"),
    row("cardano_transactions_signing_config.security_parameter", "blocks below the tip that are not certified yet").default("3000"),
    row("cardano_transactions_signing_config.step", "blocks between two certificates of transactions").default("120"),
    row("cardano_blocks_transactions_signing_config.security_parameter", "blocks below the tip that are not certified yet").default("3000"),
    row("cardano_blocks_transactions_signing_config.step", "blocks between two certificates of blocks and transactions").default("120"),
    row("preload_security_parameter", "blocks below the tip that the import at start leaves out").default("2160"),
    row("cardano_prover_max_hashes_allowed_by_request", "hashes that a request for proofs may name").default("100"),
    row("cardano_transactions_prover_cache_pool_size", "accepted; one map serves any number of readers").default("10"),
    row("cardano_transactions_database_connection_pool_size", "accepted; one map serves any number of readers").default("10"),
    row("cardano_blocks_transactions_prover_cache_pool_size", "accepted; one map serves any number of readers").default("10"),
    row("cardano_blocks_transactions_database_connection_pool_size", "accepted; both kinds of proofs share their readers").default("10"),
    row("cardano_transactions_block_streamer_max_roll_forwards_per_poll", "accepted, and changes nothing here: blocks are taken as the node gives them").default("10000"),
    row("cardano_transactions_block_streamer_throttling_interval", "accepted, and changes nothing here").default("50"),
    row("dmq_node_socket_path", "socket of the DMQ node; without it, signatures come over HTTP only"),
    row("dmq_network_magic", "magic of the DMQ network, when it is none of the known ones"),
    row("signature_processor_wait_delay_on_error_ms", "milliseconds to wait after the DMQ node failed").default("1000"),
    row("blockfrost_parameters", "JSON: {\"project_id\", \"base_url\"}: tickers of pools are taken from there").object().secret(),
    row("signer_importer_run_interval", "minutes between two imports of tickers").default("720"),
    row("protocol_configuration_reader_adapter_type", "who tells the protocol configurations to the tools: cardano-chain"),
    row("protocol_configuration_reader_adapter_params", "JSON: {\"address\", \"verification_key\"} of the protocol configurations on the chain").object(),
    row("enable_metrics_server", "serve /metrics for Prometheus").default("false"),
    row("metrics_server_ip", "address that the metrics server listens on").default("0.0.0.0"),
    row("metrics_server_port", "port that the metrics server listens on").default("9090"),
    row("persist_usage_report_interval_in_seconds", "seconds between two usage reports into the event database").default("10"),
    row("event_retention_days", "days that the event database (monitoring.sqlite3) keeps an event; without it, for ever"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_one_row_and_one_variable() {
        let mut names: Vec<_> = ROWS.iter().map(Row::variable).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(find("protocol_parameters.phi_f").unwrap().variable(), "PROTOCOL_PARAMETERS__PHI_F");
    }
}
