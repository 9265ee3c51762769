//! Metric names and help texts as dashboards for mithril-aggregator ask for them, and gauges of our own.
//!
//! | Family | Labels | From when |
//! |---|---|---|
//! | [`ByClient`] | `origin_tag`, `client_type` | the start, with `NA` |
//! | [`ByOrigin`] | `origin_tag` | the start, with `NA` or `HTTP` |
//! | [`Plain`] | none | the start |
//! | `semel_aggregator_*` | see [`Gauge`] | first use |
//!
//! Counters never fall while the process lives. `origin_tag` is one of the tags that the settings allow, else `NA`; the caller sees to
//! that, so that nobody outside makes labels. Counters of details and proofs rise before a request is checked: a 404 counts, too.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use mithril_common::entities::SignedEntityTypeDiscriminants as Kind;
use std::time::Duration;

/// Who asks, as `mithril-client-type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientType {
    /// The client's command line.
    Cli,
    /// The client in a browser.
    Wasm,
    /// The client library.
    Library,
    /// Somebody else.
    Na,
}

impl ClientType {
    /// Of a header's text.
    pub fn parse(text: &str) -> Self {
        match text {
            "CLI" => Self::Cli,
            "WASM" => Self::Wasm,
            "LIBRARY" => Self::Library,
            _ => Self::Na,
        }
    }

    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cli => "CLI",
            Self::Wasm => "WASM",
            Self::Library => "LIBRARY",
            Self::Na => "NA",
        }
    }
}

/// A family of counters: variants with name and help text.
macro_rules! counters {
    ($(#[$about:meta])* $family:ident { $($(#[$what:meta])* $variant:ident = $name:literal, $help:literal;)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $family { $($(#[$what])* $variant,)* }

        impl $family {
            /// All of them.
            pub const ALL: &'static [$family] = &[$($family::$variant),*];

            /// Name of the counter.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("mithril_aggregator_", $name, "_since_startup"),)* }
            }

            /// What it counts.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

counters! {
    /// Counters by origin tag and client type.
    ByClient {
        /// Certificates. Also exported without the prefix, as mithril-aggregator 0.9 does.
        CertificateDetail = "certificate_detail_total_served",
            "Certificate details served since startup on a Mithril aggregator node";
        /// The retired snapshots: stays 0.
        CardanoDbDetail = "artifact_detail_cardano_db_total_served",
            "Number of Cardano immutable files full artifact details served since startup on a Mithril aggregator node";
        /// Restorations of the retired snapshots.
        CardanoDbRestoration = "cardano_db_total_restoration",
            "Number of Cardano immutable files full restorations since startup on a Mithril aggregator node";
        /// Immutable files, by number of files.
        ImmutableFilesRestored = "cardano_db_immutable_files_restored",
            "Number of Cardano immutable files restored since startup on a Mithril aggregator node";
        /// Ancillary files.
        AncillaryFilesRestored = "cardano_db_ancillary_files_restored",
            "Number of Cardano ancillary files restored since startup on a Mithril aggregator node";
        /// Whole databases.
        CompleteRestoration = "cardano_db_complete_restoration",
            "Number of complete Cardano database restorations since startup on a Mithril aggregator node";
        /// Parts of a database.
        PartialRestoration = "cardano_db_partial_restoration",
            "Number of partial Cardano database restorations since startup on a Mithril aggregator node";
        /// Cardano databases.
        CardanoDatabaseDetail = "artifact_detail_cardano_database_total_served",
            "Number of Cardano database artifact details served since startup on a Mithril aggregator node";
        /// Mithril stake distributions.
        MithrilStakeDistributionDetail = "artifact_detail_mithril_stake_distribution_total_served",
            "Number of Mithril stake distribution artifact details served since startup on a Mithril aggregator node";
        /// Cardano stake distributions.
        CardanoStakeDistributionDetail = "artifact_detail_cardano_stake_distribution_total_served",
            "Number of Cardano stake distribution artifact details served since startup on a Mithril aggregator node";
        /// Snapshots of transactions.
        CardanoTransactionDetail = "artifact_detail_cardano_transaction_total_served",
            "Number of Cardano transaction artifact details served since startup on a Mithril aggregator node";
        /// Snapshots of blocks and transactions.
        CardanoBlocksTransactionsDetail = "artifact_detail_cardano_blocks_transactions_total_served",
            "Number of Cardano blocks and transactions artifact details served since startup on a Mithril aggregator node";
        /// Proofs of transactions.
        TransactionProofs = "proof_cardano_transaction_total_proofs_served",
            "Number of Cardano transaction proofs served since startup on a Mithril aggregator node";
        /// Hashes in such requests, each once.
        TransactionProofHashes = "proof_cardano_transaction_total_transactions_served",
            "Number of Cardano transaction hashes requested for proof since startup on a Mithril aggregator node";
        /// Proofs of transactions, version 2.
        TransactionProofsV2 = "proof_v2_cardano_transaction_total_proofs_served",
            "Number of Cardano transaction proofs (v2) served since startup on a Mithril aggregator node";
        /// Hashes in such requests, each once.
        TransactionProofHashesV2 = "proof_v2_cardano_transaction_total_transactions_served",
            "Number of Cardano transaction hashes requested for proof (v2) since startup on a Mithril aggregator node";
        /// Proofs of blocks.
        BlockProofsV2 = "proof_v2_cardano_block_total_proofs_served",
            "Number of Cardano block proofs (v2) served since startup on a Mithril aggregator node";
        /// Hashes in such requests, each once.
        BlockProofHashesV2 = "proof_v2_cardano_block_total_blocks_served",
            "Number of Cardano block hashes requested for proof (v2) since startup on a Mithril aggregator node";
    }
}

counters! {
    /// Counters by origin tag; of signatures, `HTTP` or `DMQ`.
    ByOrigin {
        /// Registrations that came.
        SignerRegistrations = "signer_registration_total_received",
            "Number of signer registrations received since startup on a Mithril aggregator node";
        /// Registrations that were taken.
        SignerRegistrationsTaken = "signer_registration_total_successful",
            "Number of successful signer registrations received since startup on a Mithril aggregator node";
        /// Single signatures that came.
        Signatures = "signature_registration_total_received",
            "Number of signature registrations received since startup on a Mithril aggregator node";
        /// Single signatures that were taken.
        SignaturesTaken = "signature_registration_total_successful",
            "Number of successful signature registrations received since startup on a Mithril aggregator node";
    }
}

counters! {
    /// Counters without labels: they are there from the start.
    Plain {
        /// Certificates.
        Certificates = "certificate_total_produced",
            "Number of certificates produced since startup on a Mithril aggregator node";
        /// The retired snapshots: stays 0.
        CardanoDbArtifacts = "artifact_cardano_db_total_produced",
            "Number of Cardano immutable files full artifacts produced since startup on a Mithril aggregator node";
        /// Cardano databases.
        CardanoDatabaseArtifacts = "artifact_cardano_database_total_produced",
            "Number of Cardano database artifacts produced since startup on a Mithril aggregator node";
        /// Mithril stake distributions.
        MithrilStakeDistributionArtifacts = "artifact_mithril_stake_distribution_total_produced",
            "Number of Mithril stake distribution artifacts produced since startup on a Mithril aggregator node";
        /// Cardano stake distributions.
        CardanoStakeDistributionArtifacts = "artifact_cardano_stake_distribution_total_produced",
            "Number of Cardano stake distribution artifacts produced since startup on a Mithril aggregator node";
        /// Snapshots of transactions.
        CardanoTransactionArtifacts = "artifact_cardano_transaction_total_produced",
            "Number of Cardano transaction artifacts produced since startup on a Mithril aggregator node";
        /// Snapshots of blocks and transactions.
        CardanoBlocksTransactionsArtifacts = "artifact_cardano_blocks_transactions_total_produced",
            "Number of Cardano blocks and transactions artifacts produced since startup on a Mithril aggregator node";
        /// Looks at the chain that went well.
        CyclesDone = "runtime_cycle_success",
            "Number of successful runtime cycles since startup on a Mithril aggregator";
        /// Looks at the chain.
        Cycles = "runtime_cycle_total",
            "Number of runtime cycles since startup on a Mithril aggregator";
    }
}

/// [`ByClient::CertificateDetail`] as mithril-aggregator 0.9 spells it.
pub const CERTIFICATE_DETAIL_WITHOUT_PREFIX: &str = "certificate_detail_total_served_since_startup";

/// Gauges that mithril-aggregator does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gauge {
    /// 1 for the state that the runtime is in, label `state`.
    State,
    /// Current epoch.
    Epoch,
    /// Signers registered for the epoch.
    Signers,
    /// Share of the Cardano stake that is registered, 0 to 1.
    StakeCoverage,
    /// Lottery indexes that an open message has, label `entity`.
    OpenMessageIndexes,
    /// Share of the quorum that an open message has, 0 to 1, label `entity`.
    OpenMessageProgress,
    /// Seconds since the newest certificate.
    CertificateAgeSeconds,
    /// Highest block that proofs are made for, label `entity`.
    ProverBlock,
    /// Bytes of a database, label `database`.
    DatabaseBytes,
    /// Artifacts that wait to be made.
    ArtifactsQueued,
}

impl Gauge {
    /// All of them.
    pub const ALL: [Gauge; 10] = [
        Self::State,
        Self::Epoch,
        Self::Signers,
        Self::StakeCoverage,
        Self::OpenMessageIndexes,
        Self::OpenMessageProgress,
        Self::CertificateAgeSeconds,
        Self::ProverBlock,
        Self::DatabaseBytes,
        Self::ArtifactsQueued,
    ];

    /// Name, label if it has one, and what it tells.
    pub const fn row(self) -> (&'static str, Option<&'static str>, &'static str) {
        match self {
            Self::State => ("semel_aggregator_state", Some("state"), "1 for the state that the runtime is in."),
            Self::Epoch => ("semel_aggregator_epoch", None, "Current epoch of Cardano."),
            Self::Signers => ("semel_aggregator_signers", None, "Signers registered for the current epoch."),
            Self::StakeCoverage => {
                ("semel_aggregator_stake_coverage_ratio", None, "Share of the stake of Cardano that is registered.")
            }
            Self::OpenMessageIndexes => {
                ("semel_aggregator_open_message_indexes", Some("entity"), "Lottery indexes that an open message has.")
            }
            Self::OpenMessageProgress => (
                "semel_aggregator_open_message_progress_ratio",
                Some("entity"),
                "Indexes of an open message by its quorum.",
            ),
            Self::CertificateAgeSeconds => {
                ("semel_aggregator_certificate_age_seconds", None, "Seconds since the newest certificate was sealed.")
            }
            Self::ProverBlock => {
                ("semel_aggregator_prover_block", Some("entity"), "Highest block that proofs are made for.")
            }
            Self::DatabaseBytes => {
                ("semel_aggregator_database_bytes", Some("database"), "Bytes of a database on the disk.")
            }
            Self::ArtifactsQueued => ("semel_aggregator_artifacts_queued", None, "Artifacts that wait to be made."),
        }
    }

    /// Sets the gauge; `value` of its label, if it has one, from a bounded set.
    pub fn set(self, label_value: &'static str, number: f64) {
        match self.row() {
            (name, Some(label), _) => gauge!(name, label => label_value).set(number),
            (name, None, _) => gauge!(name).set(number),
        }
    }
}

/// What takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timed {
    /// A request, label: class of routes.
    Request,
    /// A single signature, from its arrival until it counts, label: `HTTP`.
    SignatureCheck,
    /// From the quorum to the certificate, label: entity.
    Sealing,
}

impl Timed {
    /// All of them.
    pub const ALL: [Timed; 3] = [Self::Request, Self::SignatureCheck, Self::Sealing];

    /// Name, label, and what it tells.
    pub const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Request => ("semel_aggregator_request_seconds", "class", "Time to answer a request."),
            Self::SignatureCheck => {
                ("semel_aggregator_signature_check_seconds", "origin_tag", "Time until a single signature counts.")
            }
            Self::Sealing => ("semel_aggregator_sealing_seconds", "entity", "Time from the quorum to the certificate."),
        }
    }

    /// Records how long it took.
    pub fn record(self, label_value: &'static str, took: Duration) {
        let (name, label, _) = self.row();
        histogram!(name, label => label_value).record(took.as_secs_f64());
    }
}

impl ByClient {
    /// Counts `n` of them.
    pub fn add(self, origin: &str, client: ClientType, n: u64) {
        let add = |name: &'static str| {
            counter!(name, "origin_tag" => origin.to_owned(), "client_type" => client.label()).increment(n);
        };
        add(self.name());
        if self == Self::CertificateDetail {
            add(CERTIFICATE_DETAIL_WITHOUT_PREFIX);
        }
    }
}

impl ByOrigin {
    /// The label at the start.
    const fn origin(self) -> &'static str {
        match self {
            Self::SignerRegistrations | Self::SignerRegistrationsTaken => "NA",
            Self::Signatures | Self::SignaturesTaken => "HTTP",
        }
    }

    /// Counts `n` of them.
    pub fn add(self, origin: &str, n: u64) {
        counter!(self.name(), "origin_tag" => origin.to_owned()).increment(n);
    }
}

impl Plain {
    /// Counts `n` of them.
    pub fn add(self, n: u64) {
        counter!(self.name()).increment(n);
    }
}

/// Label of a type.
pub const fn entity_label(kind: Kind) -> &'static str {
    match kind {
        Kind::MithrilStakeDistribution => "MithrilStakeDistribution",
        Kind::CardanoStakeDistribution => "CardanoStakeDistribution",
        Kind::CardanoDatabase => "CardanoDatabase",
        Kind::CardanoTransactions => "CardanoTransactions",
        Kind::CardanoBlocksTransactions => "CardanoBlocksTransactions",
    }
}

/// A certificate was asked for.
pub fn count_certificate_detail(origin: &str, client: ClientType) {
    ByClient::CertificateDetail.add(origin, client, 1);
}

/// A proof of `hashes` transactions was asked for, each hash counted once; `is_v2`: by the second version of the route.
pub fn count_transaction_proof(is_v2: bool, hashes: u64, origin: &str, client: ClientType) {
    let (proofs, named) = match is_v2 {
        true => (ByClient::TransactionProofsV2, ByClient::TransactionProofHashesV2),
        false => (ByClient::TransactionProofs, ByClient::TransactionProofHashes),
    };
    proofs.add(origin, client, 1);
    named.add(origin, client, hashes);
}

/// A proof of `hashes` blocks was asked for, each hash counted once.
pub fn count_block_proof(hashes: u64, origin: &str, client: ClientType) {
    ByClient::BlockProofsV2.add(origin, client, 1);
    ByClient::BlockProofHashesV2.add(origin, client, hashes);
}

/// Says once what each metric is, and starts each at 0: those with labels under the ones of nobody in particular.
pub fn start() {
    for metric in ByClient::ALL {
        describe_counter!(metric.name(), metric.help());
        metric.add(ClientType::Na.label(), ClientType::Na, 0);
    }
    describe_counter!(CERTIFICATE_DETAIL_WITHOUT_PREFIX, ByClient::CertificateDetail.help());
    for metric in ByOrigin::ALL {
        describe_counter!(metric.name(), metric.help());
        metric.add(metric.origin(), 0);
    }
    for metric in Plain::ALL {
        describe_counter!(metric.name(), metric.help());
        metric.add(0);
    }
    for metric in Gauge::ALL {
        let (name, _, help) = metric.row();
        describe_gauge!(name, help);
    }
    for metric in Timed::ALL {
        let (name, _, help) = metric.row();
        describe_histogram!(name, Unit::Seconds, help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn all() -> BTreeMap<&'static str, &'static str> {
        let by_client = ByClient::ALL.iter().map(|one| (one.name(), one.help()));
        let by_origin = ByOrigin::ALL.iter().map(|one| (one.name(), one.help()));
        let plain = Plain::ALL.iter().map(|one| (one.name(), one.help()));
        by_client.chain(by_origin).chain(plain).collect()
    }

    fn rendered(count: impl FnOnce()) -> String {
        let (recorder, metrics) = semel_ops::metrics::Metrics::local().unwrap();
        metrics::with_local_recorder(&recorder, || {
            start();
            count();
        });
        metrics.render()
    }

    #[test]
    fn every_name_of_the_guide_is_there_with_its_help_text() {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/guides/M-mithril-aggregator.md");
        let Ok(text) = std::fs::read_to_string(&guide) else {
            if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
                use std::io::Write as _;
                let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
                writeln!(log, "every_name_of_the_guide_is_there_with_its_help_text: no guide").unwrap();
            }
            return;
        };
        let all = all();
        let rows: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("| **mithril_aggregator_"))
            .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('*')).collect::<Vec<_>>())
            .collect();
        assert_eq!(rows.len(), 25);
        for row in rows {
            assert_eq!(all.get(row[1]), Some(&row[2]), "{}", row[1]);
        }
    }

    #[test]
    fn all_names_are_frozen() {
        let mut found: Vec<_> = all().into_keys().collect();
        found.push(CERTIFICATE_DETAIL_WITHOUT_PREFIX);
        found.extend(Gauge::ALL.map(|one| one.row().0));
        found.extend(Timed::ALL.map(|one| one.row().0));
        found.sort_unstable();
        let golden = include_str!("../../testdata/metrics.txt");
        assert_eq!(found.join("\n"), golden.trim_end());
    }

    #[test]
    fn every_counter_is_there_from_the_start() {
        let text = rendered(|| {});
        for metric in Plain::ALL {
            let (name, help) = (metric.name(), metric.help());
            assert!(text.contains(&format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} 0\n")), "{text}");
        }
        for metric in ByClient::ALL {
            let line = format!("{}{{origin_tag=\"NA\",client_type=\"NA\"}} 0\n", metric.name());
            assert!(text.contains(&line), "{line}{text}");
        }
        for metric in ByOrigin::ALL {
            assert!(text.contains(&format!("{}{{origin_tag=", metric.name())), "{text}");
        }
        let text = rendered(|| {
            count_certificate_detail("EXPLORER", ClientType::parse("CLI"));
            count_certificate_detail("NA", ClientType::parse("something else"));
            count_transaction_proof(false, 3, "NA", ClientType::Wasm);
            ByOrigin::Signatures.add("DMQ", 2);
            Gauge::State.set("ready", 1.0);
            Timed::Request.record("read", Duration::from_millis(2));
        });
        for line in [
            "mithril_aggregator_certificate_detail_total_served_since_startup{origin_tag=\"EXPLORER\",client_type=\"CLI\"} 1",
            "certificate_detail_total_served_since_startup{origin_tag=\"EXPLORER\",client_type=\"CLI\"} 1",
            "certificate_detail_total_served_since_startup{origin_tag=\"NA\",client_type=\"NA\"} 1",
            "mithril_aggregator_proof_cardano_transaction_total_transactions_served_since_startup{origin_tag=\"NA\",client_type=\"WASM\"} 3",
            "mithril_aggregator_signature_registration_total_received_since_startup{origin_tag=\"DMQ\"} 2",
            "semel_aggregator_state{state=\"ready\"} 1",
            "semel_aggregator_request_seconds_count{class=\"read\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
