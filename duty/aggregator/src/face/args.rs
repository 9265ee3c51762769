//! The command line of mithril-aggregator 0.9, and our own words beside it.
//!
//! Global options may stand before or after the subcommand. Without a subcommand the server runs: the service file of the
//! guide starts it so. Secrets that are given as text are wiped when the last holder lets go, and are never printed.

use clap::{Args, Subcommand};
use mithril_common::crypto_helper::GenesisEd25519VerificationKey;
use mithril_common::entities::{Epoch, SupportedEra};
use semel_ops::env;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A secret from the command line or the environment. Clones share one text, which is wiped with the last of them.
#[derive(Clone)]
pub struct SecretText(Arc<Zeroizing<String>>);

impl SecretText {
    /// Takes a text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl std::str::FromStr for SecretText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

/// Everything behind `mithril-aggregator`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What may stand before or after the subcommand.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Run mode
    #[arg(short, long, global = true, default_value = "dev", next_line_help = true)]
    pub run_mode: String,
    /// Verbosity level
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Directory of the Cardano node files
    #[arg(long, global = true)]
    pub db_directory: Option<PathBuf>,
    /// Directory where the configuration file is located
    #[arg(long, global = true, default_value = "./config")]
    pub config_directory: PathBuf,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Genesis tools
    #[command(subcommand)]
    Genesis(Genesis),
    /// Era tools
    #[command(subcommand)]
    Era(Era),
    /// Server runtime mode
    Serve(Serve),
    /// List of tools to upkeep the aggregator
    #[command(subcommand)]
    Tools(Tools),
    /// Database tools
    #[command(subcommand)]
    Database(Database),
    /// Protocol configuration tools
    #[command(subcommand)]
    ProtocolConfiguration(ProtocolConfiguration),
    /// Check, explain, show and make configurations
    #[command(subcommand)]
    Config(Config),
    /// Verify a certificate chain from its newest certificate down to genesis
    Verify(Verify),
    /// What a running aggregator does now
    Status(Status),
    /// Look at everything that the aggregator stands on, and say what mends it
    Doctor(Doctor),
    /// Measure the parts that others wait for, each against its goal
    Bench(super::bench::Bench),
    /// The public list of networks
    #[command(subcommand)]
    Registry(Registry),
}

/// Words of ours that the root help of mithril-aggregator does not list.
pub const OWN_WORDS: [&str; 7] =
    ["protocol-configuration", "config", "verify", "status", "doctor", "bench", "registry"];

/// `serve`: each wins over the configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct Serve {
    /// Server listening IP
    #[arg(long)]
    pub server_ip: Option<IpAddr>,
    /// Server TCP port
    #[arg(long)]
    pub server_port: Option<u16>,
    /// Directory to store snapshots
    #[arg(long)]
    pub snapshot_directory: Option<PathBuf>,
    /// Disable immutables digests cache
    #[arg(long)]
    pub disable_digests_cache: bool,
    /// Reset existing immutables digests cache
    #[arg(long)]
    pub reset_digests_cache: bool,
    /// Go on when a block of the chain cannot be parsed; never on mainnet and preprod
    #[arg(long)]
    pub allow_unparsable_block: bool,
    /// Enable metrics HTTP server (Prometheus endpoint on /metrics)
    #[arg(long)]
    pub enable_metrics_server: bool,
    /// Metrics HTTP server IP
    #[arg(long)]
    pub metrics_server_ip: Option<IpAddr>,
    /// Metrics HTTP server listening port
    #[arg(long)]
    pub metrics_server_port: Option<u16>,
    /// Endpoint of the leader aggregator: makes this one a follower
    #[arg(long)]
    pub leader_aggregator_endpoint: Option<String>,
    /// Endpoint of the aggregator that the certificate chain comes from [default: the leader]
    #[arg(long)]
    pub certificate_chain_aggregator_endpoint: Option<String>,
}

/// Which era a genesis command is for.
#[derive(Debug, Clone, Copy, Args)]
pub struct MithrilEra {
    /// Mithril era [default: pythagoras]
    #[arg(long, value_name = "ERA")]
    pub mithril_era: Option<SupportedEra>,
}

impl MithrilEra {
    /// The era that is meant. Two eras exist and one is in force everywhere, so it goes without saying.
    pub fn era(self) -> SupportedEra {
        self.mithril_era.unwrap_or(SupportedEra::Pythagoras)
    }
}

/// `genesis`
#[derive(Debug, Clone, Subcommand)]
pub enum Genesis {
    /// Write the bytes that the genesis key has to sign
    Export {
        /// Target path
        #[arg(long)]
        target_path: PathBuf,
        /// For which era
        #[command(flatten)]
        era: MithrilEra,
    },
    /// Import a signed genesis payload and make the genesis certificate of it
    Import {
        /// Signed payload path
        #[arg(long)]
        signed_payload_path: PathBuf,
        /// Genesis verification key, JSON-hex
        #[arg(long, value_parser = verification_key)]
        genesis_verification_key: GenesisEd25519VerificationKey,
        /// For which era
        #[command(flatten)]
        era: MithrilEra,
    },
    /// Sign an exported genesis payload, offline
    Sign {
        /// Path of the payload to sign
        #[arg(long)]
        to_sign_payload_path: PathBuf,
        /// Path of the signed payload
        #[arg(long)]
        target_signed_payload_path: PathBuf,
        /// Path of the genesis secret key
        #[arg(long)]
        genesis_secret_key_path: PathBuf,
        /// For which era
        #[command(flatten)]
        era: MithrilEra,
    },
    /// Export, sign and import at once: for test networks only
    Bootstrap {
        /// Genesis secret key, JSON-hex (test only)
        #[arg(long, env = env::GENESIS_SECRET_KEY, hide_env_values = true)]
        genesis_secret_key: SecretText,
        /// For which era
        #[command(flatten)]
        era: MithrilEra,
    },
    /// Make a genesis key pair: genesis.sk and genesis.vk
    GenerateKeypair {
        /// Directory for the two files
        #[arg(long)]
        target_path: PathBuf,
        /// For which era
        #[command(flatten)]
        era: MithrilEra,
    },
}

/// `era`
#[derive(Debug, Clone, Subcommand)]
pub enum Era {
    /// List the eras that this program supports
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the datum of a transaction that announces eras
    GenerateTxDatum {
        /// Target path
        #[arg(long)]
        target_path: PathBuf,
        /// Epoch at which the current era starts
        #[arg(long, env = env::CURRENT_ERA_EPOCH, value_parser = epoch)]
        current_era_epoch: Epoch,
        /// Epoch at which the next era starts; it is announced without an epoch when left out
        #[arg(long, env = env::NEXT_ERA_EPOCH, value_parser = epoch)]
        next_era_epoch: Option<Epoch>,
        /// Era markers secret key, JSON-hex
        #[arg(long, env = env::ERA_MARKERS_SECRET_KEY, hide_env_values = true)]
        era_markers_secret_key: SecretText,
    },
    /// Make an era markers key pair: era.sk and era.vk
    GenerateKeypair {
        /// Directory for the two files
        #[arg(long)]
        target_path: PathBuf,
    },
}

fn verification_key(text: &str) -> Result<GenesisEd25519VerificationKey, &'static str> {
    text.trim().try_into().map_err(|_| "this is no key in JSON-hex: the whole content of the .vk file is needed")
}

fn epoch(text: &str) -> Result<Epoch, std::num::ParseIntError> {
    text.parse().map(Epoch)
}

/// `tools`
#[derive(Debug, Clone, Subcommand)]
pub enum Tools {
    /// Recompute the hash of every certificate, oldest first, and vacuum the database
    RecomputeCertificatesHash(DryRun),
}

/// `database`
#[derive(Debug, Clone, Subcommand)]
pub enum Database {
    /// Bring the databases to the form that this version writes
    Migrate {
        /// Which
        #[command(flatten)]
        stores: Stores,
        /// Whether to do it
        #[command(flatten)]
        dry: DryRun,
    },
    /// Give back what the main database no longer uses
    Vacuum {
        /// Which
        #[command(flatten)]
        stores: Stores,
        /// Whether to do it
        #[command(flatten)]
        dry: DryRun,
    },
    /// Take over the database of a mithril-aggregator into an empty one, certificates byte for byte
    Import {
        /// Its aggregator.sqlite3, or the directory that holds it; only read
        #[arg(long)]
        from: PathBuf,
        /// Where to
        #[command(flatten)]
        stores: Stores,
        /// Whether to do it
        #[command(flatten)]
        dry: DryRun,
    },
}

/// Whether a command only tells.
#[derive(Debug, Clone, Copy, Args)]
pub struct DryRun {
    /// Tell what would be done, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Where the databases are.
#[derive(Debug, Clone, Args)]
pub struct Stores {
    /// Stores directory
    #[arg(long, env = env::STORES_DIRECTORY)]
    pub stores_directory: PathBuf,
}

/// `protocol-configuration`
#[derive(Debug, Clone, Subcommand)]
pub enum ProtocolConfiguration {
    /// Write the protocol configurations of the chain, or the defaults, for people to edit
    ExportMarkers {
        /// Target path
        #[arg(long)]
        target_path: PathBuf,
        /// The defaults instead of what the chain has
        #[arg(long)]
        default: bool,
    },
    /// Check edited protocol configurations and write the datum of the transaction that announces them
    ImportMarkers {
        /// Path of the edited configurations
        #[arg(long)]
        import_path: PathBuf,
        /// Target path
        #[arg(long)]
        target_path: PathBuf,
        /// Protocol configuration markers secret key, JSON-hex
        #[arg(long, env = env::PROTOCOL_CONFIGURATION_MARKERS_SECRET_KEY, hide_env_values = true)]
        protocol_configuration_markers_secret_key: SecretText,
        /// Do not compare with what the chain has
        #[arg(long)]
        force: bool,
    },
}

/// `config`
#[derive(Debug, Clone, Subcommand)]
pub enum Config {
    /// Say everything that is wrong with a configuration
    Check {
        /// Which environment
        #[command(flatten)]
        from: EnvFile,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what every setting is
    Show {
        /// Which environment
        #[command(flatten)]
        from: EnvFile,
        /// And where it comes from
        #[arg(long)]
        origin: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Explain a variable; without one, list them all
    Explain {
        /// Its name, such as RUN_INTERVAL
        variable: Option<String>,
    },
    /// Print an environment file to start with
    Init {
        /// Cardano network: mainnet, preprod, preview, devnet
        #[arg(long)]
        network: String,
        /// Follow the network's leader instead of leading
        #[arg(long)]
        follower: bool,
    },
}

/// Which environment is meant.
#[derive(Debug, Clone, Args)]
pub struct EnvFile {
    /// Read this EnvironmentFile as systemd does, instead of the environment of this process
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

/// `verify`
#[derive(Debug, Clone, Args)]
pub struct Verify {
    /// URL of an aggregator, or a stores directory
    pub whose: String,
    /// Genesis verification key, JSON-hex
    #[arg(long, env = env::GENESIS_VERIFICATION_KEY, hide_env_values = true, value_parser = verification_key)]
    pub genesis_verification_key: GenesisEd25519VerificationKey,
    /// Begin at this certificate instead of the newest
    #[arg(long, value_name = "HASH")]
    pub from: Option<String>,
    /// Remember here how far it came, and go on from there
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `status`
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// URL of the aggregator [default: the one that this configuration serves]
    pub url: Option<String>,
    /// Which environment
    #[command(flatten)]
    pub from: EnvFile,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `doctor`
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Which environment
    #[command(flatten)]
    pub from: EnvFile,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `registry`
#[derive(Debug, Clone, Subcommand)]
pub enum Registry {
    /// Print networks.json with one aggregator more, for a pull request
    Add {
        /// The file as it is published
        #[arg(long, value_name = "FILE")]
        networks: PathBuf,
        /// Name of the Mithril network, such as release-preprod
        #[arg(long, value_name = "NAME")]
        mithril_network: String,
        /// Public URL of the aggregator
        #[arg(long, value_name = "URL", value_parser = endpoint)]
        endpoint: reqwest::Url,
    },
}

fn endpoint(text: &str) -> Result<reqwest::Url, &'static str> {
    let url = reqwest::Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.has_host());
    url.ok_or("signers and clients need a URL that begins with https://")
}
