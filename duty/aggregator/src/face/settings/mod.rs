//! The settings of mithril-aggregator 0.9, typed: what the environment, the configuration file and the options say.
//!
//! [`Layers`] puts the sources on top of each other, [`Settings::read`] makes values of them and tells everything that is wrong
//! at once. Nothing here opens a socket, or a file that it could change. Where the guide for operators forgets a setting, a default takes its
//! place (§12 of the specification); public trust anchors are never made up: GENESIS_VERIFICATION_KEY has to be set.

mod artifacts;
mod chain;
pub mod env_file;
mod layers;
mod read;
mod server;
mod start;
mod table;
#[cfg(test)]
mod tests;

pub use artifacts::{AncillarySigner, Artifacts, Compression, KmsCredentials, Uploader};
pub use chain::{ChainAccess, NetworkName, NodeVersion};
pub use layers::{Layers, Origin, Surroundings};
pub use server::{Blockfrost, Dmq, Http, Import, ORIGIN_TAGS};
pub use table::{Need, ROWS, Row, find};

use super::args::{Globals, Serve};
use super::codes;
use crate::host::era::{EraReader, MarkersOnChain};
use mithril_common::crypto_helper::GenesisEd25519VerificationKey;
use mithril_common::entities::{
    BlockNumber, BlockNumberOffset, CardanoBlocksTransactionsSigningConfig, CardanoNetwork,
    CardanoTransactionsSigningConfig, ProtocolParameters, SignedEntityTypeDiscriminants,
};
use read::{Reader, suggestion, variable};
use reqwest::Url;
use semel_ops::code::Code;
use semel_ops::config::{Diagnostic, Diagnostics, Place};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use start::nearest_there;

/// Fewest epochs that are kept: aggregate keys need that many.
const RETENTION_EPOCHS_MIN: u64 = 3;
/// Longest interval of any kind: one day.
const INTERVAL_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// The retired type of whole snapshots: its signatures are answered with 410.
pub const RETIRED_ENTITY_TYPE: &str = "CardanoImmutableFilesFull";
/// Where the guide puts the databases.
const GUIDE_STORES: &str = "/opt/mithril/stores";

/// What every command that looks at the chain or the databases needs.
#[derive(Debug, Clone)]
pub struct Base {
    /// Whether this is a test environment.
    pub is_test: bool,
    /// Name of the network, as certificates have it.
    pub network_name: NetworkName,
    /// The network with its magic.
    pub network: CardanoNetwork,
    /// Who tells the chain.
    pub chain: ChainAccess,
    /// Database directory of the Cardano node.
    pub db_directory: PathBuf,
    /// Directory of our databases.
    pub data_stores_directory: PathBuf,
    /// Protocol parameters, which a leader needs.
    pub protocol_parameters: Option<ProtocolParameters>,
    /// Who tells the eras.
    pub era_reader: EraReader,
    /// Where protocol configurations are announced.
    pub protocol_configurations: Option<MarkersOnChain>,
}

/// Who this aggregator is to the others.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// It registers signers and fixes the parameters.
    Leader {
        /// Parameters for the epochs to come.
        parameters: ProtocolParameters,
    },
    /// It takes both from a leader.
    Follower {
        /// URL of the leader.
        leader: Url,
        /// URL of the aggregator that the certificate chain comes from.
        chain: Url,
    },
}

/// What is certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entities {
    /// Types; MithrilStakeDistribution is always among them.
    pub types: BTreeSet<SignedEntityTypeDiscriminants>,
    /// The retired type was asked for.
    pub wants_retired: bool,
    /// Beacons of transactions.
    pub transactions: CardanoTransactionsSigningConfig,
    /// Beacons of blocks and transactions.
    pub blocks_transactions: CardanoBlocksTransactionsSigningConfig,
}

/// Everything that `serve` needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Chain, databases, eras.
    pub base: Base,
    /// Version of the Cardano node.
    pub node_version: NodeVersion,
    /// Leader or follower.
    pub role: Role,
    /// Key that genesis certificates are verified with.
    pub genesis_verification_key: GenesisEd25519VerificationKey,
    /// What is certified.
    pub entities: Entities,
    /// Interval between two looks at the chain.
    pub run_interval: Duration,
    /// Epochs that are kept; none: all of them.
    pub retention_epochs: Option<u64>,
    /// The HTTP server.
    pub http: Http,
    /// Where metrics are served; none: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Archives of the Cardano database.
    pub artifacts: Artifacts,
    /// Forget the digests of immutable files at start.
    pub reset_digests_cache: bool,
    /// Compute every digest each time.
    pub disable_digests_cache: bool,
    /// How the chain is read in.
    pub import: Import,
    /// The DMQ node; none: signatures come over HTTP only.
    pub dmq: Option<Dmq>,
    /// Tickers of pools; none: no import.
    pub blockfrost: Option<Blockfrost>,
    /// Interval between two imports of tickers.
    pub signer_importer_interval: Duration,
    /// Interval between two usage reports.
    pub usage_report_interval: Duration,
    /// Days that an event is kept; none: for ever.
    pub event_retention_days: Option<u64>,
}

/// What was read: the value when nothing is wrong with it, and everything that was found, warnings included.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The value; none when something is wrong.
    pub value: Option<T>,
    /// Errors and warnings.
    pub found: Diagnostics,
}

impl<T> Outcome<T> {
    fn of(value: Option<T>, layers: Layers) -> Self {
        let value = value.filter(|_| !layers.found.has_errors());
        Self { value, found: layers.found }
    }
}

impl Layers {
    /// Everything that the command line, the environment and the configuration file say.
    pub fn of(globals: &Globals, serve: Option<&Serve>, surroundings: &Surroundings) -> Layers {
        let mut layers = Layers::read(&globals.config_directory, &globals.run_mode, surroundings);
        if let Some(directory) = &globals.db_directory {
            layers.set_flag("db_directory", "--db-directory", directory.display());
        }
        if let Some(serve) = serve {
            layers.set_serve(serve);
        }
        layers
    }

    fn set_serve(&mut self, serve: &Serve) {
        let port = |port: Option<u16>| port.map(|port| port.to_string());
        let ip = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string());
        let flag = |flag: bool| flag.then(|| "true".to_owned());
        let snapshots = serve.snapshot_directory.as_ref().map(|path| path.display().to_string());
        for (key, name, value) in [
            ("server_ip", "--server-ip", ip(serve.server_ip)),
            ("server_port", "--server-port", port(serve.server_port)),
            ("snapshot_directory", "--snapshot-directory", snapshots),
            ("disable_digests_cache", "--disable-digests-cache", flag(serve.disable_digests_cache)),
            ("reset_digests_cache", "--reset-digests-cache", flag(serve.reset_digests_cache)),
            ("allow_unparsable_block", "--allow-unparsable-block", flag(serve.allow_unparsable_block)),
            ("enable_metrics_server", "--enable-metrics-server", flag(serve.enable_metrics_server)),
            ("metrics_server_ip", "--metrics-server-ip", ip(serve.metrics_server_ip)),
            ("metrics_server_port", "--metrics-server-port", port(serve.metrics_server_port)),
            ("leader_aggregator_endpoint", "--leader-aggregator-endpoint", serve.leader_aggregator_endpoint.clone()),
            (
                "certificate_chain_aggregator_endpoint",
                "--certificate-chain-aggregator-endpoint",
                serve.certificate_chain_aggregator_endpoint.clone(),
            ),
        ] {
            if let Some(value) = value {
                self.set_flag(key, name, value);
            }
        }
    }
}

impl Base {
    /// Reads what a tool needs.
    pub fn read(layers: Layers) -> Outcome<Base> {
        let value = Reader { layers: &layers }.base();
        Outcome::of(value, layers)
    }
}

impl Settings {
    /// Reads what the server needs.
    pub fn read(layers: Layers) -> Outcome<Settings> {
        let value = Reader { layers: &layers }.settings();
        Outcome::of(value, layers)
    }
}

/// The variable that is nearly spelt like this.
pub fn nearest(name: &str) -> Option<String> {
    layers::nearest(name, &Row::variable)
}

/// The databases' directory alone, which needs no network and no chain.
pub fn stores_directory(layers: &Layers) -> PathBuf {
    Reader { layers }.stores()
}

#[cfg(test)]
impl Settings {
    /// Those of a leader of a development network, with these changes.
    pub(crate) fn of_a_leader(changes: &[(&str, &str)]) -> Settings {
        let key = hex::encode(ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().as_bytes());
        let pairs = [
            ("NETWORK", "devnet"),
            ("NETWORK_MAGIC", "42"),
            ("CARDANO_NODE_SOCKET_PATH", "/ipc/node.socket"),
            ("CARDANO_NODE_VERSION", "10.7.1"),
            ("PROTOCOL_PARAMETERS__K", "5"),
            ("PROTOCOL_PARAMETERS__M", "100"),
            ("PROTOCOL_PARAMETERS__PHI_F", "0.70"),
            ("GENESIS_VERIFICATION_KEY", &key),
        ];
        let variables = pairs.iter().chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let layers = Layers::read(Path::new("/nowhere"), "dev", &Surroundings::Given(variables.collect()));
        let outcome = Settings::read(layers);
        outcome.value.unwrap_or_else(|| panic!("{}", outcome.found))
    }
}

impl Reader<'_> {
    fn base(&self) -> Option<Base> {
        let is_test = self.choice("environment", &[("Production", false), ("Test", true)]);
        let network = self.network();
        let chain = self.chain(is_test == Some(true));
        let parameters = self.parameters();
        let era_reader = self.era_reader();
        let protocol_configurations = self.protocol_configurations();
        let (network_name, network) = network?;
        Some(Base {
            is_test: is_test?,
            network_name,
            network,
            chain: chain?,
            db_directory: self.path("db_directory")?,
            data_stores_directory: self.stores(),
            protocol_parameters: parameters.ok()?,
            era_reader: era_reader?,
            protocol_configurations: protocol_configurations.ok()?,
        })
    }

    fn settings(&self) -> Option<Settings> {
        let base = self.base();
        let node_version = self.node_version();
        let role = self.role();
        let key = self.genesis_key();
        let entities = self.entities();
        let http = self.http();
        let metrics = self.metrics();
        // Mistakes in archives are told even when nobody knows yet whether there will be any.
        let is_certified = |wanted| entities.as_ref().is_some_and(|entities| entities.types.contains(&wanted));
        let artifacts = self.artifacts(is_certified(SignedEntityTypeDiscriminants::CardanoDatabase));
        let network = base.as_ref().map(|base| base.network);
        let import = self.import(network);
        let dmq = self.dmq();
        let blockfrost = self.blockfrost();
        self.signature_type();
        let run_interval = self.interval("run_interval", 1, 1..=INTERVAL_MS_MAX);
        let retention = self.number("store_retention_limit", 0..=u64::MAX);
        let signers = self.interval("signer_importer_run_interval", 60_000, 1..=60 * 24 * 366);
        let usage = self.interval("persist_usage_report_interval_in_seconds", 1000, 1..=24 * 60 * 60);
        let events = self.number("event_retention_days", 1..=36_525);
        let (reset, disable) = (self.flag("reset_digests_cache"), self.flag("disable_digests_cache"));
        Some(Settings {
            base: base?,
            node_version: node_version?,
            role: role?,
            genesis_verification_key: key?,
            entities: entities?,
            run_interval: run_interval?,
            retention_epochs: retention.map(|epochs| epochs.max(RETENTION_EPOCHS_MIN)),
            http: http?,
            metrics: metrics?,
            artifacts: artifacts?,
            reset_digests_cache: reset?,
            disable_digests_cache: disable?,
            import: import?,
            dmq: dmq.ok()?,
            blockfrost: blockfrost.ok()?,
            signer_importer_interval: signers?,
            usage_report_interval: usage?,
            event_retention_days: events,
        })
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(|said| PathBuf::from(said.as_str()))
    }

    fn interval(&self, key: &str, unit_ms: u64, range: std::ops::RangeInclusive<u64>) -> Option<Duration> {
        self.number(key, range).map(|units| Duration::from_millis(units.saturating_mul(unit_ms)))
    }

    fn stores(&self) -> PathBuf {
        self.path("data_stores_directory").unwrap_or_else(|| match is_writable(Path::new(GUIDE_STORES)) {
            true => PathBuf::from(GUIDE_STORES),
            false => PathBuf::from("./stores"),
        })
    }

    /// Parameters, when any of them is given; they are given whole or not at all.
    fn parameters(&self) -> Result<Option<ProtocolParameters>, ()> {
        let keys = ["protocol_parameters.k", "protocol_parameters.m", "protocol_parameters.phi_f"];
        if !keys.iter().any(|key| self.entry(key).is_some()) {
            return Ok(None);
        }
        for key in keys.iter().filter(|key| self.entry(key).is_none()) {
            self.missing(key, "the other protocol parameters are set", None);
        }
        let [k, m, phi_f] = keys;
        let (k_given, m, phi_f) =
            (self.number(k, 1..=u64::MAX), self.number(m, 1..=u64::MAX), self.parsed::<f64>(phi_f, "a number"));
        let (Some(k_value), Some(m), Some(phi_f)) = (k_given, m, phi_f) else { return Err(()) };
        let parameters = ProtocolParameters::new(k_value, m, phi_f);
        match parameters.check_parameters() {
            // Not a number passes every comparison.
            Ok(()) if phi_f.is_finite() => Ok(Some(parameters)),
            Ok(()) => {
                self.error(&codes::OUT_OF_RANGE, keys[2], format!("{} has to be a number", variable(keys[2])));
                Err(())
            }
            Err(error) if k_value > m => {
                self.error(&codes::CONTRADICTION, k, format!("{} and {}: {error}", variable(k), variable(keys[1])));
                Err(())
            }
            Err(error) => {
                self.error(&codes::OUT_OF_RANGE, keys[2], format!("{}: {error}", variable(keys[2])));
                Err(())
            }
        }
    }

    fn url(&self, key: &str) -> Option<Url> {
        let said = self.text(key)?;
        let url = Url::parse(&said).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if url.is_none() {
            let message = format!("{} is no URL of a server", variable(key));
            self.error_with(&codes::WRONG_TYPE, key, message, "such as https://aggregator.example.com/aggregator");
        }
        url
    }

    fn role(&self) -> Option<Role> {
        let (leader_key, chain_key) = ("leader_aggregator_endpoint", "certificate_chain_aggregator_endpoint");
        if self.entry(leader_key).is_some() {
            let (leader, chain) = (self.url(leader_key), self.url(chain_key));
            let has_chain = self.entry(chain_key).is_some();
            let leader = leader?;
            let chain = if has_chain { chain? } else { leader.clone() };
            return Some(Role::Follower { leader, chain });
        }
        if self.entry(chain_key).is_some() {
            let message = format!("{} is for followers, and {} is not set", variable(chain_key), variable(leader_key));
            self.error(&codes::CONTRADICTION, chain_key, message);
        }
        match self.parameters() {
            Ok(Some(parameters)) => Some(Role::Leader { parameters }),
            Ok(None) => {
                let hint = "a leader needs PROTOCOL_PARAMETERS__K, __M and __PHI_F; a follower needs LEADER_AGGREGATOR_ENDPOINT";
                self.missing("protocol_parameters.k", "this aggregator leads", Some(hint.to_owned()));
                None
            }
            Err(()) => None,
        }
    }

    fn entities(&self) -> Option<Entities> {
        let key = "signed_entity_types";
        let said = self.text(key).unwrap_or_default();
        let mut types = BTreeSet::from([SignedEntityTypeDiscriminants::MithrilStakeDistribution]);
        let mut wants_retired = false;
        for (index, word) in said.split(',').map(str::trim).enumerate().filter(|(_, word)| !word.is_empty()) {
            if word == RETIRED_ENTITY_TYPE {
                wants_retired = true;
                let message = format!("{RETIRED_ENTITY_TYPE} is retired: nothing is certified for it");
                self.warning_at(&codes::RETIRED, &self.part(key, word), message, None);
            } else if let Ok(known) = word.parse() {
                types.insert(known);
            } else {
                let all = SignedEntityTypeDiscriminants::all();
                let names: Vec<&str> = all.iter().map(AsRef::as_ref).collect();
                let message = format!("{}: type {} is not known, and left out", variable(key), index.saturating_add(1));
                let hint = suggestion(word, &names);
                self.warning_at(&codes::NOT_A_CHOICE, &self.part(key, word), message, Some(hint));
            }
        }
        let config = |prefix: &str| {
            let offset = self.number(&format!("{prefix}.security_parameter"), 0..=u64::from(u32::MAX));
            let step = self.number(&format!("{prefix}.step"), 1..=u64::from(u32::MAX));
            Some((BlockNumberOffset(offset?), BlockNumber(step?)))
        };
        let transactions = config("cardano_transactions_signing_config");
        let blocks = config("cardano_blocks_transactions_signing_config");
        let ((security_parameter, step), (blocks_offset, blocks_step)) = (transactions?, blocks?);
        let has_both = [
            SignedEntityTypeDiscriminants::CardanoTransactions,
            SignedEntityTypeDiscriminants::CardanoBlocksTransactions,
        ]
        .iter()
        .all(|kind| types.contains(kind));
        if has_both && blocks_offset > security_parameter {
            // A signer takes a range of blocks whole that it has stored for transactions, also beyond the beacon.
            let key = "cardano_blocks_transactions_signing_config.security_parameter";
            let message = format!(
                "{} is {blocks_offset}, for transactions {security_parameter}: signers then sign different roots of blocks",
                variable(key)
            );
            let hint = format!("set it to {security_parameter} or less");
            self.warning_at(&codes::CONTRADICTION, &self.place(key), message, Some(hint));
        }
        Some(Entities {
            types,
            wants_retired,
            transactions: CardanoTransactionsSigningConfig { security_parameter, step },
            blocks_transactions: CardanoBlocksTransactionsSigningConfig {
                security_parameter: blocks_offset,
                step: blocks_step,
            },
        })
    }

    fn warning_at(&self, code: &'static Code, place: &Place, message: String, hint: Option<String>) {
        self.layers.found.push(Diagnostic::warning(code, place, message).maybe_hint(hint));
    }

    fn signature_type(&self) {
        let key = "aggregate_signature_type";
        let words = [("Concatenation", true), ("Snark", false), ("IvcSnark", false)];
        if self.choice(key, &words) == Some(false) {
            let message = format!("{} asks for proofs that are not made here", variable(key));
            self.error_with(&codes::NOT_A_CHOICE, key, message, "all public networks run Concatenation");
        }
    }
}

/// Whether this user can write into the directory, or make it.
fn is_writable(directory: &Path) -> bool {
    let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let nearest = directory.ancestors().take(2).find(|path| path.exists());
    nearest.is_some_and(|path| rustix::fs::access(path, wanted).is_ok())
}
