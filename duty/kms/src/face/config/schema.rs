//! The tables of `tmkms.toml`, one struct each, one field per key.
//!
//! Values that later checks or messages point at carry their place. What stands here has been validated: references are
//! resolved to the *names* of chains of the same file (a chain without a name has its id as its name).

use crate::core::peer_id::PeerId;
pub use crate::core::raw_bytes::Dialect;
use semel_guard::Domain;
pub(super) use semel_keys::pkcs11::{Selector, Wanted};
pub use semel_keys::softsign::{Form as SoftsignFormat, KeyType};
use semel_ops::config::{Diagnostic, Place, Secret, Spanned};
use semel_ops::log::LogFormat;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One configuration file: a tenant with its own chains, keys and state.
#[derive(Debug)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// `[[chain]]`
    pub chains: Vec<Chain>,
    /// `[[validator]]`
    pub validators: Vec<Validator>,
    /// `[[providers.softsign]]`
    pub softsign: Vec<Softsign>,
    /// `[[providers.yubihsm]]`, at most one.
    pub yubihsm: Vec<Yubihsm>,
    /// `[[providers.pkcs11]]`, one per token.
    pub pkcs11: Vec<Pkcs11>,
    /// `[semel]`
    pub semel: Option<Semel>,
    /// Findings in this file that do not keep it from being used.
    pub warnings: Vec<Diagnostic>,
}

/// What signs for a chain.
#[derive(Debug, Clone, Copy)]
pub enum SigningKey<'a> {
    /// A key in a file.
    Softsign(&'a Softsign),
    /// A key in a YubiHSM.
    Yubihsm(&'a Yubihsm, &'a YubihsmKey),
    /// A key in a PKCS#11 token.
    Pkcs11(&'a Pkcs11, &'a Pkcs11Key),
}

impl Config {
    /// The validators of a chain, by its name.
    pub fn validators_of(&self, chain: &str) -> impl Iterator<Item = &Validator> {
        self.validators.iter().filter(move |validator| validator.chain == chain)
    }

    /// Every file with a secret in it that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &PathBuf> {
        let keys = self.softsign.iter().map(|key| &key.path);
        let identities = self.validators.iter().filter_map(|validator| validator.secret_key.as_ref());
        let passwords = self.yubihsm.iter().map(|device| &device.auth.password);
        let passwords =
            passwords.chain(self.pkcs11.iter().map(|token| &token.pin)).filter_map(|password| match password {
                Password::File(path) => Some(path),
                Password::Text(_) => None,
            });
        keys.chain(identities).chain(passwords).map(|path| &path.value)
    }

    /// The key that signs for a chain, by its name: its consensus key, or, when it has none, its only account key.
    pub fn signing_key(&self, chain: &str) -> Option<SigningKey<'_>> {
        let keys = self.keys_of(chain);
        let of = |wanted: KeyType| keys.iter().find(|(key_type, _)| *key_type == wanted).map(|(_, key)| *key);
        of(KeyType::Consensus).or_else(|| of(KeyType::Account))
    }

    /// Every key that names a chain.
    pub(super) fn keys_of(&self, chain: &str) -> Vec<(KeyType, SigningKey<'_>)> {
        let named = |chains: &[String]| chains.iter().any(|name| name == chain);
        let files = self.softsign.iter().filter(|key| named(&key.chains));
        let files = files.map(|key| (key.key_type, SigningKey::Softsign(key)));
        let devices = self.yubihsm.iter().flat_map(|hsm| hsm.keys.iter().map(move |key| (hsm, key)));
        let devices = devices.filter(|(_, key)| named(&key.chains));
        let devices = devices.map(|(hsm, key)| (key.key_type, SigningKey::Yubihsm(hsm, key)));
        let tokens = self.pkcs11.iter().flat_map(|token| token.keys.iter().map(move |key| (token, key)));
        let tokens = tokens.filter(|(_, key)| named(&key.chains));
        let tokens = tokens.map(|(token, key)| (key.key_type, SigningKey::Pkcs11(token, key)));
        files.chain(devices).chain(tokens).collect()
    }
}

impl<'a> SigningKey<'a> {
    /// Where it stands.
    pub fn place(&self) -> &'a Place {
        match self {
            SigningKey::Softsign(key) => &key.place,
            SigningKey::Yubihsm(_, key) => &key.place,
            SigningKey::Pkcs11(_, key) => &key.place,
        }
    }
}

/// `[[chain]]`
#[derive(Debug)]
pub struct Chain {
    /// Chain id: 1 to 50 of `A-Z a-z 0-9 - _ .`
    pub id: Spanned<String>,
    /// What the other tables of the file may call it; its id unless the file says otherwise.
    pub name: String,
    /// How its public keys are displayed.
    pub key_format: KeyFormat,
    /// Whether vote extensions are signed, when the file says.
    pub sign_extensions: Option<bool>,
    /// Where the state is kept; relative to the current directory.
    pub state_file: Spanned<PathBuf>,
    /// A missing state file is an error.
    pub require_state: bool,
    /// A program that tells the height of the chain.
    pub state_hook: Option<StateHook>,
    /// The table.
    pub place: Place,
}

/// `state_hook` of `[[chain]]`
#[derive(Debug, Clone)]
pub struct StateHook {
    /// Program and arguments, never empty.
    pub cmd: Vec<String>,
    /// How long it may run; default 5 s.
    pub timeout: Duration,
    /// A failure stops the start; default true.
    pub fail_closed: bool,
}

/// `key_format` of `[[chain]]`; see the module `display` for the forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFormat {
    /// bech32 with a human part for each kind of key.
    Bech32 {
        /// Human part of account keys.
        account_key_prefix: String,
        /// Human part of consensus keys.
        consensus_key_prefix: String,
    },
    /// The JSON of the Cosmos SDK.
    CosmosJson,
    /// Upper-case hex.
    Hex,
}

/// `[[validator]]`
#[derive(Debug)]
pub struct Validator {
    /// Where the node listens.
    pub addr: Spanned<Address>,
    /// Name of the chain.
    pub chain: String,
    /// Dial again after an error; default true.
    pub reconnect: bool,
    /// Longest wait for a read or a write; default 10 s. Not used on unix sockets.
    pub timeout: Duration,
    /// Our identity on the encrypted connection; there on TCP and Noise.
    pub secret_key: Option<Spanned<PathBuf>>,
    /// Highest height that is signed.
    pub max_height: Option<u64>,
    /// What the node speaks; default auto.
    pub protocol_version: ProtocolVersion,
    /// Whose requests for a signature of bytes the node makes; default auto.
    pub dialect: Dialect,
    /// How bytes must begin that a CometBFT v1 node may have signed; nothing by default.
    pub allow_sign_bytes: Vec<Domain>,
    /// The table.
    pub place: Place,
}

/// `addr` of `[[validator]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `tcp://[ID@]HOST:PORT`
    Tcp {
        /// Who the node must be: the first 20 bytes of SHA-256 of its Ed25519 key.
        peer_id: Option<[u8; 20]>,
        /// Name or address, without brackets.
        host: String,
        /// Port, not 0.
        port: u16,
    },
    /// `noise://ID@IP:PORT`
    Noise {
        /// Who the node must be, as `cometbft show-node-id --libp2p` prints it.
        peer: PeerId,
        /// Address and port, not 0.
        address: SocketAddr,
    },
    /// `unix://PATH`
    Unix(PathBuf),
    /// `unix://@NAME`
    Abstract(String),
}

/// `protocol_version` of `[[validator]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProtocolVersion {
    /// Found out at each connection.
    #[default]
    Auto,
    /// Tendermint before v0.33, amino.
    Legacy,
    /// v0.33, amino.
    V0_33,
    /// v0.34, protobuf.
    V0_34,
    /// v0.37, protobuf.
    V0_37,
    /// v0.38, protobuf.
    V0_38,
    /// v0.39, protobuf.
    V0_39,
    /// v0.40, protobuf.
    V0_40,
    /// v1.0, protobuf.
    V1_0,
}

impl ProtocolVersion {
    /// Every value with its word.
    pub const WORDS: [(&'static str, ProtocolVersion); 9] = [
        ("auto", ProtocolVersion::Auto),
        ("legacy", ProtocolVersion::Legacy),
        ("v0.33", ProtocolVersion::V0_33),
        ("v0.34", ProtocolVersion::V0_34),
        ("v0.37", ProtocolVersion::V0_37),
        ("v0.38", ProtocolVersion::V0_38),
        ("v0.39", ProtocolVersion::V0_39),
        ("v0.40", ProtocolVersion::V0_40),
        ("v1.0", ProtocolVersion::V1_0),
    ];
}

/// `[[providers.softsign]]`
#[derive(Debug)]
pub struct Softsign {
    /// Names of chains.
    pub chains: Vec<String>,
    /// What the key is for; default consensus.
    pub key_type: KeyType,
    /// How the file is written; default base64.
    pub key_format: SoftsignFormat,
    /// The file.
    pub path: Spanned<PathBuf>,
    /// The table.
    pub place: Place,
}

/// `[[providers.yubihsm]]`
#[derive(Debug)]
pub struct Yubihsm {
    /// How the device is reached.
    pub adapter: Adapter,
    /// How we log in.
    pub auth: Auth,
    /// Its keys.
    pub keys: Vec<YubihsmKey>,
    /// Which device, on USB.
    pub serial_number: Option<u32>,
    /// Serve the device to yubihsm-shell.
    pub connector_server: Option<ConnectorServer>,
    /// The table.
    pub place: Place,
}

/// `adapter` of `[[providers.yubihsm]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adapter {
    /// The device on USB.
    Usb {
        /// Longest wait; default 1 s.
        timeout: Duration,
    },
    /// A yubihsm-connector.
    Http {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

/// `auth` of `[[providers.yubihsm]]`
#[derive(Debug)]
pub struct Auth {
    /// Number of the authentication key.
    pub key: u16,
    /// Its password.
    pub password: Password,
}

/// Where the password is.
#[derive(Debug)]
pub enum Password {
    /// In a file; white space at its end does not belong to it.
    File(Spanned<PathBuf>),
    /// In the configuration.
    Text(Secret),
}

/// An entry of `keys` of `[[providers.yubihsm]]`
#[derive(Debug)]
pub struct YubihsmKey {
    /// Names of chains.
    pub chains: Vec<String>,
    /// Object id.
    pub key: Spanned<u16>,
    /// What the key is for; default consensus.
    pub key_type: KeyType,
    /// The table.
    pub place: Place,
}

/// `connector_server` of `[[providers.yubihsm]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorServer {
    /// Host and port that it listens on.
    pub laddr: (String, u16),
    /// Authentication key of the command line tools.
    pub cli_auth_key: Option<u16>,
}

/// `[[providers.pkcs11]]`
#[derive(Debug)]
pub struct Pkcs11 {
    /// The module, a shared library.
    pub module: Spanned<PathBuf>,
    /// Which of its tokens.
    pub token: Selector,
    /// The user's PIN.
    pub pin: Password,
    /// Its keys.
    pub keys: Vec<Pkcs11Key>,
    /// The table.
    pub place: Place,
}

/// An entry of `keys` of `[[providers.pkcs11]]`
#[derive(Debug)]
pub struct Pkcs11Key {
    /// Names of chains.
    pub chains: Vec<String>,
    /// CKA_LABEL and CKA_ID.
    pub wanted: Wanted,
    /// What the key is for; default consensus.
    pub key_type: KeyType,
    /// The table.
    pub place: Place,
}

/// When an admission counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Each position is on the disk first.
    #[default]
    Sync,
    /// A bound a few heights ahead is.
    Reserve,
}

/// `[semel]`: what tmkms does not have. One process has one of each, so files that are started together must agree.
#[derive(Debug, Default)]
pub struct Semel {
    /// When an admission counts as durable.
    pub durability: Option<Durability>,
    /// Heights that `reserve` keeps ahead, 1 to 1000.
    pub reserve_heights: Option<u64>,
    /// Directory of the ledger.
    pub ledger: Option<PathBuf>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub http_addr: Option<SocketAddr>,
    /// A key that is new to a ledger with a history watches a few heights before it signs.
    pub hold_new_keys: Option<bool>,
    /// Shape of log lines.
    pub log_format: Option<LogFormat>,
    /// Whether the signer may run as root.
    pub allow_root: Option<bool>,
    /// What is set, as text with its place.
    pub(in super::super) set: Vec<(&'static str, Spanned<String>)>,
}
