//! `yubihsm`: setting a device up, and its keys, in tmkms's words.
//!
//! None of these commands signs for a chain. `test` signs 128 zero bytes, which are no vote and no proposal of any version: those begin
//! with their length.

mod keys;
mod setup;

use super::args::{Configs, KeyKind};
use super::keyring::{hsm_report, place};
use super::{config, said};
use clap::{Args, Subcommand, ValueEnum};
use semel_keys::yubihsm::{Client, Open, Place};
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between two attempts of `test` after one that failed.
const TEST_PAUSE: Duration = Duration::from_millis(250);

/// What `test` signs.
const TEST_MESSAGE: [u8; 128] = [0; 128];

/// `yubihsm`
#[derive(Debug, Subcommand)]
pub enum YubiHsm {
    /// List the devices on USB
    Detect {
        #[command(flatten)]
        configs: Configs,
        /// Taken for compatibility
        #[arg(short, long)]
        verbose: bool,
    },
    /// Erase a device and set it up anew, from 24 words that can do it again
    Setup(Setup),
    /// Keys in a device
    #[command(subcommand)]
    Keys(Keys),
    /// Sign again and again with a key, until it is ended
    Test {
        #[command(flatten)]
        configs: Configs,
        /// Taken for compatibility
        #[arg(short, long)]
        verbose: bool,
        /// End after so many signatures
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Number of the key, decimal or 0x…
        key_id: String,
    },
}

/// `yubihsm setup`
#[derive(Debug, Args)]
pub struct Setup {
    #[command(flatten)]
    pub(super) configs: Configs,
    /// Taken for compatibility
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Print what would be put into the device, and end
    #[arg(short, long, visible_alias = "dry-run")]
    pub(super) print_only: bool,
    /// Read the 24 words of an earlier setup from standard input
    #[arg(short, long)]
    pub(super) restore: bool,
    /// Write the report of the setup, as JSON, into this new file
    #[arg(short, long, value_name = "FILE")]
    pub(super) write_report: Option<PathBuf>,
}

/// `yubihsm keys`
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a new key in the device
    Generate(Generate),
    /// List the keys of the device
    List {
        #[command(flatten)]
        configs: Configs,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Write a key, encrypted under a wrap key, into a new file
    Export {
        #[command(flatten)]
        configs: Configs,
        /// Number of the key, decimal or 0x…
        #[arg(short, long)]
        id: String,
        /// Number of the wrap key
        #[arg(short, long, default_value = "1")]
        wrapkey: String,
        /// Show what would be written
        #[arg(long)]
        dry_run: bool,
        /// File to make
        path: PathBuf,
    },
    /// Put a key into the device
    Import(Import),
}

/// `yubihsm keys generate`
#[derive(Debug, Args)]
pub struct Generate {
    #[command(flatten)]
    pub(super) configs: Configs,
    /// Label of the key [default: TYPE:TIME]
    #[arg(short, long)]
    pub(super) label: Option<String>,
    /// Bech32 prefix under which the key is shown
    #[arg(short, long)]
    pub(super) prefix: Option<String>,
    /// What the key is for
    #[arg(short = 't', long = "type", value_enum, default_value = "consensus")]
    pub(super) kind: KeyKind,
    /// The key can never leave the device, not even encrypted
    #[arg(long)]
    pub(super) non_exportable: bool,
    /// Write a backup, encrypted under the wrap key, into this new file
    #[arg(short, long, value_name = "FILE")]
    pub(super) backup: Option<PathBuf>,
    /// Number of the wrap key for the backup
    #[arg(short, long)]
    pub(super) wrapkey: Option<String>,
    /// Show what would be made
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Number of the new key, decimal or 0x…
    #[arg(required = true, value_name = "KEY_ID")]
    pub(super) key_ids: Vec<String>,
}

/// `yubihsm keys import`
#[derive(Debug, Args)]
pub struct Import {
    #[command(flatten)]
    pub(super) configs: Configs,
    /// Number under which the key is put, decimal or 0x…
    #[arg(short, long)]
    pub(super) id: Option<String>,
    /// Number of the wrap key of a backup
    #[arg(short, long)]
    pub(super) wrapkey: Option<String>,
    /// Form of the file [default: json for priv_validator_key.json, else wrap]
    #[arg(short = 't', long = "type", value_enum)]
    pub(super) kind: Option<ImportKind>,
    /// Label of the key
    #[arg(short, long)]
    pub(super) label: Option<String>,
    /// Show what would be put where
    #[arg(long)]
    pub(super) dry_run: bool,
    /// The file
    pub(super) path: PathBuf,
}

/// Forms of a key to import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ImportKind {
    /// A backup of a device
    Wrap,
    /// A softsign key
    Base64,
    /// A node's priv_validator_key.json
    Json,
}

/// Runs a command.
pub(super) fn run(command: &YubiHsm, shell: &Shell) -> Result<(), Report> {
    match command {
        YubiHsm::Detect { .. } => detect(shell),
        YubiHsm::Setup(setup) => setup::run(setup, shell),
        YubiHsm::Keys(keys) => keys::run(keys, shell),
        YubiHsm::Test { configs, count, key_id, .. } => test(configs, *count, key_id, shell),
    }
}

/// The one device of the configurations, and the configurations.
pub(super) fn device(configs: &Configs) -> Result<(Vec<config::Config>, Place), Report> {
    let configs = config::load_without_states(&configs.paths())?;
    let first = configs.iter().flat_map(|config| &config.yubihsm).next();
    let device = first.ok_or_else(|| {
        Report::new("the configuration has no YubiHSM").hint("add a [[providers.yubihsm]] with its adapter and auth")
    })?;
    let place = place(device).map_err(|error| hsm_report(&error))?;
    Ok((configs, place))
}

/// A session that lasts for a command.
pub(super) fn session(place: &Place) -> Result<Open, Report> {
    place.open(true).map_err(|error| hsm_report(&error))
}

/// The device's serial number.
pub(super) fn serial(client: &Client, place: &Place) -> Result<String, Report> {
    let info = client.device_info().map_err(|error| hsm_report(&place.failed(&error)))?;
    Ok(info.serial_number.to_string())
}

/// A number of an object, decimal or hexadecimal.
pub(super) fn number(text: &str) -> Result<u16, Report> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    match parsed {
        Ok(number @ 1..) => Ok(number),
        _ => Err(Report::new(format!("`{}` is no number of a key", text.escape_debug()))
            .hint("1 to 65534, decimal or with 0x in front")),
    }
}

fn detect(shell: &Shell) -> Result<(), Report> {
    let devices = semel_keys::yubihsm::usb_devices().map_err(|error| hsm_report(&error))?;
    if devices.is_empty() {
        return Err(Report::new("no YubiHSM 2 devices detected!"));
    }
    said(shell.line("Detected YubiHSM2 USB devices:"))?;
    for (serial, bus) in devices {
        said(shell.line(format!("- Serial #{serial} (bus {bus})")))?;
    }
    Ok(())
}

fn test(configs: &Configs, count: Option<u64>, key_id: &str, shell: &Shell) -> Result<(), Report> {
    let key = number(key_id)?;
    let (_, place) = device(configs)?;
    let client = session(&place)?;
    let (mut signed, mut failed) = (0, 0_u64);
    while count.is_none_or(|count| signed + failed < count) {
        let begun = Instant::now();
        match client.sign_ed25519(key, TEST_MESSAGE) {
            Ok(_) => {
                signed += 1;
                shell.status(
                    "Success",
                    format!("signed message using key ID #{key} in {} ms", begun.elapsed().as_millis()),
                );
            }
            Err(error) => {
                failed += 1;
                shell.error(place.failed(&error));
                std::thread::sleep(TEST_PAUSE);
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Report::new(format!("{failed} of {} signatures failed", signed + failed))),
    }
}
