//! Arguments: tmkms's flags and defaults, and our own beside them.

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Which configurations.
#[derive(Debug, Clone, Args)]
pub struct Configs {
    /// Configuration file, or a directory of them; may be repeated [default: $TMKMS_CONFIG_FILE, else tmkms.toml]
    #[arg(short, long, value_name = "PATH")]
    pub config: Vec<PathBuf>,
}

/// Where the ledger is.
#[derive(Debug, Clone, Args)]
pub(crate) struct LedgerArgs {
    /// Directory of the ledger [default: /var/lib/semel/ledger, or ~/.local/state/semel/ledger]
    #[arg(long, value_name = "DIR", env = "SEMEL_LEDGER")]
    pub ledger: Option<PathBuf>,
    /// Allow a ledger on a file system that forgets or is shared (tmpfs, overlay, NFS)
    #[arg(long)]
    pub i_accept_volatile_ledger: bool,
    /// Take over a ledger that was made on another host, which must never sign again
    #[arg(long)]
    pub adopt_host: bool,
}

/// What `[semel]` says, too; the command line wins.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SettingArgs {
    /// When an admission counts as durable; wins over the configuration
    #[arg(long, value_enum)]
    pub(crate) durability: Option<DurabilityArg>,
    /// Heights that `reserve` keeps ahead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) reserve_heights: Option<u64>,
    /// Serve /livez, /readyz and /metrics here
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<std::net::SocketAddr>,
    /// Shape of log lines
    #[arg(long, value_enum)]
    pub(crate) log_format: Option<LogFormatArg>,
}

/// `start`
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    pub(crate) configs: Configs,
    #[command(flatten)]
    pub(crate) ledger: LedgerArgs,
    /// More words in the log
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Connect and answer, but sign nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Leave the process free to write anywhere
    #[arg(long)]
    pub no_landlock: bool,
    /// Run as root
    #[arg(long, env = semel_ops::env::SEMEL_ALLOW_ROOT, hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub allow_root: bool,
}

/// When an admission counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityArg {
    /// Each position is on the disk before it is signed
    Sync,
    /// A bound a few heights ahead is
    Reserve,
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormatArg {
    /// For people
    Text,
    /// One object a line
    Json,
}

/// `init`
#[derive(Debug, Args)]
pub struct Init {
    /// Networks to make entries for, separated by commas
    #[arg(short, long, value_delimiter = ',', default_value = "cosmoshub")]
    pub networks: Vec<String>,
    /// Write over an existing configuration, keeping a dated copy of it
    #[arg(long)]
    pub force: bool,
    /// Show what would be made
    #[arg(long)]
    pub dry_run: bool,
    /// Directory to make
    pub path: PathBuf,
}

/// `softsign`
#[derive(Debug, Subcommand)]
pub enum Softsign {
    /// Make a new key
    Keygen {
        /// What the key is for
        #[arg(short = 't', long = "type", value_enum, default_value = "consensus")]
        kind: KeyKind,
        /// Write over an existing key, keeping a dated copy of it
        #[arg(long)]
        force: bool,
        /// Show what would be made
        #[arg(long)]
        dry_run: bool,
        /// File to make
        path: PathBuf,
    },
    /// Import a key of a node
    Import {
        /// Format of the key
        #[arg(short, long, value_enum, default_value = "json")]
        format: ImportFormat,
        /// Write over an existing key, keeping a dated copy of it
        #[arg(long)]
        force: bool,
        /// Show what would be made
        #[arg(long)]
        dry_run: bool,
        /// The node's priv_validator_key.json
        input: PathBuf,
        /// File to make
        output: PathBuf,
    },
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    /// secp256k1
    Account,
    /// Ed25519
    Consensus,
}

/// Formats that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// priv_validator_key.json
    Json,
}

/// Dialects of a state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DialectArg {
    /// tmkms
    Tmkms,
    /// The node's own signer (priv_validator_state.json)
    Cometbft,
    /// horcrux
    Horcrux,
}

/// Which key on which chain.
#[derive(Debug, Clone, Args)]
pub struct Which {
    #[command(flatten)]
    pub(crate) configs: Configs,
    #[command(flatten)]
    pub(crate) ledger: LedgerArgs,
    /// Only this chain
    #[arg(long, value_name = "ID")]
    pub chain: Option<String>,
}

/// A height, as a chain counts: no more than 2⁶³ − 1.
pub(super) fn height() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=i64::MAX.unsigned_abs())
}

/// `state`
#[derive(Debug, Subcommand)]
pub enum State {
    /// What was signed last, per key
    Show {
        #[command(flatten)]
        which: Which,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Raise the floor to what a state file of another signer says
    Import {
        #[command(flatten)]
        which: Which,
        /// Show what would change
        #[arg(long)]
        dry_run: bool,
        /// State file of tmkms, a node or horcrux
        file: PathBuf,
    },
    /// Write the state for another signer
    Export {
        #[command(flatten)]
        which: Which,
        /// For which signer
        #[arg(long, value_enum, default_value = "tmkms")]
        format: DialectArg,
        /// File to make [default: standard output]
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Hold a state file against the ledger
    Compare {
        #[command(flatten)]
        which: Which,
        /// For machines
        #[arg(long)]
        json: bool,
        /// State file
        file: PathBuf,
    },
    /// Sign nothing at or below a height
    SetFloor {
        #[command(flatten)]
        which: Which,
        /// Show what would change
        #[arg(long)]
        dry_run: bool,
        /// Highest height that is closed
        #[arg(value_parser = height())]
        height: u64,
    },
}
