//! Settings about the chain: network, node, keys, eras.

use super::read::{Reader, variable};
use crate::core::era::EraMarker;
use crate::face::codes;
use crate::host::era::{EraReader, MarkersOnChain};
use mithril_common::crypto_helper::GenesisEd25519VerificationKey;
use mithril_common::crypto_helper::ed25519::Ed25519VerificationKey;
use mithril_common::entities::CardanoNetwork;
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;

/// Genesis key of release-mainnet, as Mithril publishes it.
const GENESIS_MAINNET: &str = "5b3139312c36362c3134302c3138352c3133382c31312c3233372c3230372c3235302c3134342c32372c322c3138382c33302c31322c38312c3135352c3230342c31302c3137392c37352c32332c3133382c3139362c3231372c352c31342c32302c35372c37392c33392c3137365d";
/// Genesis key of release-preprod and of the preview networks.
const GENESIS_TEST_NETWORKS: &str = "5b3132372c37332c3132342c3136312c362c3133372c3133312c3231332c3230372c3131372c3139382c38352c3137362c3139392c3136322c3234312c36382c3132332c3131392c3134352c31332c3233322c3234332c34392c3232392c322c3234392c3230352c3230352c33392c3233352c34345d";

/// Name of a network, as certificates and archives spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkName {
    /// mainnet
    Mainnet,
    /// preprod
    Preprod,
    /// preview
    Preview,
    /// devnet
    Devnet,
    /// A network with a magic of its own.
    Private,
}

impl NetworkName {
    /// The public Mithril network of this Cardano network, if there is one.
    pub const fn mithril_network(self) -> Option<&'static str> {
        match self {
            Self::Mainnet => Some("release-mainnet"),
            Self::Preprod => Some("release-preprod"),
            Self::Preview => Some("pre-release-preview"),
            Self::Devnet | Self::Private => None,
        }
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mainnet => "mainnet",
            Self::Preprod => "preprod",
            Self::Preview => "preview",
            Self::Devnet => "devnet",
            Self::Private => "private",
        })
    }
}

/// Who tells the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainAccess {
    /// The node, over its socket.
    Node {
        /// The socket.
        socket: PathBuf,
    },
    /// `cardano-cli`, once per question.
    CardanoCli {
        /// The program.
        program: PathBuf,
        /// The socket that it asks, when one is set.
        socket: Option<PathBuf>,
    },
    /// Nobody: what a test has set.
    Fake,
}

/// Version of the Cardano node: numbers decide, the text is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeVersion {
    /// Major, minor, patch.
    pub numbers: (u64, u64, u64),
    text: String,
}

impl NodeVersion {
    /// Reads `10.5.0`, with whatever a semantic version may have behind it.
    pub fn parse(text: &str) -> Option<NodeVersion> {
        let core = text.split(['-', '+']).next().unwrap_or_default();
        let has_tail = core.len() < text.len();
        let tail = text.get(core.len().saturating_add(1)..).unwrap_or_default();
        let is_sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
        if has_tail && (tail.is_empty() || !tail.chars().all(is_sound)) {
            return None;
        }
        let mut parts = core.split('.').map(|part| {
            let is_plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u64>().ok().filter(|_| is_plain && (part == "0" || !part.starts_with('0')))
        });
        let numbers = (parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then(|| NodeVersion { numbers, text: text.to_owned() })
    }
}

impl fmt::Display for NodeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Reader<'_> {
    pub(super) fn network(&self) -> Option<(NetworkName, CardanoNetwork)> {
        let key = "network";
        if self.entry(key).is_none() {
            self.missing(
                key,
                "every aggregator works for one network",
                Some("NETWORK=preprod, for example".to_owned()),
            );
            return None;
        }
        let said = self.text(key)?.to_lowercase();
        let name = match said.as_str() {
            "mainnet" => NetworkName::Mainnet,
            "preprod" => NetworkName::Preprod,
            "preview" => NetworkName::Preview,
            "devnet" => NetworkName::Devnet,
            "private" => NetworkName::Private,
            _ => {
                let words = ["mainnet", "preprod", "preview", "devnet", "private"];
                let message = format!("{} is no network that is known", variable(key));
                self.error_with(&codes::NOT_A_CHOICE, key, message, super::suggestion(&said, &words));
                return None;
            }
        };
        let magic = match self.entry("network_magic") {
            Some(_) => Some(self.number("network_magic", 0..=u64::from(u32::MAX))?),
            None => None,
        };
        match CardanoNetwork::from_code(said.to_string(), magic) {
            Ok(network) => Some((name, network)),
            Err(_) => {
                self.missing("network_magic", "a private network has a magic of its own", None);
                None
            }
        }
    }

    pub(super) fn chain(&self, is_test: bool) -> Option<ChainAccess> {
        #[derive(Clone, Copy)]
        enum Kind {
            Node,
            Cli,
            Fake,
        }
        let words = [("pallas", Kind::Node), ("cardano-cli", Kind::Cli), ("fake", Kind::Fake)];
        let kind = self.choice("chain_observer_type", &words)?;
        let socket = self.text("cardano_node_socket_path").map(|said| PathBuf::from(said.as_str()));
        match (kind, socket) {
            _ if is_test => Some(ChainAccess::Fake),
            (Kind::Fake, _) => {
                let key = "chain_observer_type";
                let message = format!("{} is fake: the chain is made up, and no node is asked", variable(key));
                let hint = "pallas asks the node; ENVIRONMENT=Test says that this is a test";
                self.warning_at(&codes::CONTRADICTION, &self.place(key), message, Some(hint.to_owned()));
                Some(ChainAccess::Fake)
            }
            (Kind::Cli, socket) => {
                let program = PathBuf::from(self.text("cardano_cli_path")?.as_str());
                Some(ChainAccess::CardanoCli { program, socket })
            }
            (Kind::Node, Some(socket)) => Some(ChainAccess::Node { socket }),
            (Kind::Node, None) => {
                let hint = "CARDANO_NODE_SOCKET_PATH=/cardano/ipc/node.socket, for example";
                self.missing("cardano_node_socket_path", "the node is asked over its socket", Some(hint.to_owned()));
                None
            }
        }
    }

    pub(super) fn node_version(&self) -> Option<NodeVersion> {
        let key = "cardano_node_version";
        if self.entry(key).is_none() {
            let hint = "CARDANO_NODE_VERSION=10.7.1, as `cardano-node --version` tells";
            self.missing(key, "it decides how ledger snapshots lie on the disk", Some(hint.to_owned()));
            return None;
        }
        let said = self.text(key)?;
        let version = NodeVersion::parse(&said);
        if version.is_none() {
            self.error_with(&codes::WRONG_TYPE, key, format!("{} is no version", variable(key)), "such as 10.7.1");
        }
        version
    }

    pub(super) fn genesis_key(&self) -> Option<GenesisEd25519VerificationKey> {
        let key = "genesis_verification_key";
        let Some(entry) = self.entry(key) else {
            let network = self.text("network").unwrap_or_default();
            let name = match network.to_lowercase().as_str() {
                "mainnet" => NetworkName::Mainnet.mithril_network(),
                "preprod" => NetworkName::Preprod.mithril_network(),
                "preview" => NetworkName::Preview.mithril_network(),
                _ => None,
            };
            let Some(name) = name else {
                let hint = "the content of the genesis.vk that `genesis generate-keypair` wrote".to_owned();
                self.missing(key, "it is what all certificates rest on", Some(hint));
                return None;
            };
            let message = format!("{} is not set: the published key of {name} counts", variable(key));
            let place = "https://raw.githubusercontent.com/IntersectMBO/mithril/main/mithril-infra/configuration";
            let finding = semel_ops::config::Diagnostic::warning(&codes::PRESET, &self.layers.home, message);
            self.layers.found.push(finding.hint(format!("compare it: wget -q -O - {place}/{name}/genesis.vkey")));
            return verification_key(if name == "release-mainnet" { GENESIS_MAINNET } else { GENESIS_TEST_NETWORKS });
        };
        let said = self.text(key)?;
        let parsed = verification_key(&said);
        if parsed.is_none() {
            let what = if said.starts_with('0') { "a bundle of two keys, which is not read here" } else { "no key" };
            let message = format!("{} is {what}", variable(key));
            self.layers.found.push(semel_ops::config::Diagnostic::error(&codes::NOT_A_KEY, &entry.place(), message));
        }
        parsed
    }

    pub(super) fn era_reader(&self) -> Option<EraReader> {
        let (kind, key) = ("era_reader_adapter_type", "era_reader_adapter_params");
        #[derive(Clone, Copy, PartialEq)]
        enum Kind {
            Bootstrap,
            Latest,
            Dummy,
            File,
            Chain,
        }
        let words = [
            ("cardano-chain", Kind::Chain),
            ("file", Kind::File),
            ("dummy", Kind::Dummy),
            ("bootstrap", Kind::Bootstrap),
            ("bootstrap-latest", Kind::Latest),
        ];
        let chosen = self.choice(kind, &words);
        let needs = matches!(chosen?, Kind::Dummy | Kind::File | Kind::Chain);
        if self.entry(key).is_none() && needs {
            let why = format!("{} says where to look", variable(kind));
            self.missing(key, &why, Some("`config explain ERA_READER_ADAPTER_PARAMS` shows its fields".to_owned()));
            return None;
        }
        match chosen? {
            Kind::Bootstrap => Some(EraReader::Bootstrap),
            Kind::Latest => Some(EraReader::BootstrapLatest),
            Kind::Chain => self.markers_on_chain(key).map(EraReader::CardanoChain),
            Kind::File => {
                let object = self.object(key)?;
                let [path] = self.fields(key, &object, ["markers_file"], &[])?;
                Some(EraReader::File(PathBuf::from(path.as_str())))
            }
            Kind::Dummy => {
                let object = self.object(key)?;
                let markers = object.get("markers").cloned().unwrap_or(Value::Null);
                match serde_json::from_value::<Vec<EraMarker>>(markers) {
                    Ok(markers) => Some(EraReader::Dummy(markers)),
                    Err(_) => {
                        let message = format!("`markers` in {} is no list of {{\"name\", \"epoch\"}}", variable(key));
                        self.error_in(&codes::WRONG_SHAPE, key, "markers", message);
                        None
                    }
                }
            }
        }
    }

    fn markers_on_chain(&self, key: &str) -> Option<MarkersOnChain> {
        let object = self.object(key)?;
        let [address, said] = self.fields(key, &object, ["address", "verification_key"], &[])?;
        let is_address = pallas_addresses::Address::from_bech32(&address).is_ok();
        if !is_address {
            let message = format!("`address` in {} is no address of Cardano", variable(key));
            self.error_in(&codes::WRONG_SHAPE, key, "address", message);
        }
        let Some(verification_key) = verification_key(&said) else {
            let message = format!("`verification_key` in {} is no key", variable(key));
            self.error_in(&codes::NOT_A_KEY, key, "verification_key", message);
            return None;
        };
        is_address.then(|| MarkersOnChain { address: address.to_string(), verification_key })
    }

    pub(super) fn protocol_configurations(&self) -> Result<Option<MarkersOnChain>, ()> {
        let (kind, key) =
            ("protocol_configuration_reader_adapter_type", "protocol_configuration_reader_adapter_params");
        if self.entry(kind).is_some() {
            self.choice(kind, &[("cardano-chain", ())]).ok_or(())?;
        }
        match self.entry(key) {
            Some(_) => self.markers_on_chain(key).map(Some).ok_or(()),
            None => Ok(None),
        }
    }
}

/// A key in JSON-hex, or in hex.
pub(super) fn verification_key(said: &str) -> Option<Ed25519VerificationKey> {
    Ed25519VerificationKey::try_from(said.trim()).ok()
}
