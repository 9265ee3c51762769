//! From configurations to what the host runs: keys are loaded, addresses and protocols translated.

use super::config::{self, Address, ProtocolVersion};
use super::key_report;
use super::keyring::Keyring;
use crate::core::noise;
use crate::core::peer_id::PeerId;
use crate::core::raw_bytes::RawBytes;
use crate::core::secret::{self, Expect, Variant};
use crate::core::session::Extensions;
use crate::host::hook::Hook;
use crate::host::plan::NodePlan;
use crate::host::service::ChainPlan;
use crate::host::stream::Endpoint;
use crate::wire::Family;
use semel_guard::{ChainId, Key, Subject};
use semel_keys::identity;
use semel_ops::error::Report;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The identity of a connection, as `core` asks for it.
struct NodeIdentity(identity::Identity);

impl secret::Identity for NodeIdentity {
    fn public_key(&self) -> [u8; 32] {
        self.0.public_key()
    }

    fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64] {
        self.0.sign_challenge(challenge)
    }
}

impl noise::Identity for NodeIdentity {
    fn sign_static_key(&self, key: &[u8; 32]) -> [u8; 64] {
        self.0.sign_static_key(key)
    }
}

/// Our identity, shared by the nodes that know us by it.
pub(super) type SharedIdentity = Arc<dyn noise::Identity + Send + Sync>;

/// One key on one chain, and what the configuration says of it.
pub(super) struct Tenant<'a> {
    pub(super) chain: &'a config::Chain,
    pub(super) subject: Subject,
    pub(super) key: Key,
    pub(super) key_text: String,
}

/// Every chain of every configuration, with its key.
pub(super) fn tenants<'a>(
    configs: &'a [config::Config],
    keyring: &mut Keyring,
) -> Result<Vec<(&'a config::Config, Tenant<'a>)>, Report> {
    tenants_of(configs, |_| true, keyring)
}

/// Those chains that are wanted: keys of others are not touched, whatever device has them.
pub(super) fn tenants_of<'a>(
    configs: &'a [config::Config],
    wanted: impl Fn(&config::Chain) -> bool,
    keyring: &mut Keyring,
) -> Result<Vec<(&'a config::Config, Tenant<'a>)>, Report> {
    let mut out = Vec::new();
    for config in configs {
        for chain in config.chains.iter().filter(|chain| wanted(chain)) {
            let key = keyring.key(config, chain)?;
            let chain_id = ChainId::new(&chain.id.value).map_err(|error| Report::of(&error))?;
            let subject = Subject { key: key.public_key().clone(), chain: chain_id };
            let key_text = config::display::public_key(&chain.key_format, &subject.key);
            out.push((config, Tenant { chain, subject, key, key_text }));
        }
    }
    Ok(out)
}

/// What the host is to run.
pub fn plans_of(configs: &[config::Config], keyring: &mut Keyring) -> Result<Vec<ChainPlan>, Report> {
    let mut identities: HashMap<PathBuf, SharedIdentity> = HashMap::new();
    let mut plans = Vec::new();
    for config in configs {
        for warning in &config.warnings {
            let hint = warning.hint.as_deref().unwrap_or_default();
            tracing::warn!("{}: {}; {hint}", warning.code.id, warning.message);
        }
    }
    for (config, Tenant { chain, subject, key, key_text }) in tenants(configs, keyring)? {
        let mut nodes = Vec::new();
        for validator in config.validators_of(&chain.name) {
            let identity = validator.secret_key.as_ref().map(|path| load_identity(&path.value, &mut identities));
            let identity = identity.transpose()?;
            if let (Address::Noise { .. }, Some(identity)) = (&validator.addr.value, &identity) {
                // What the operator writes into the node's priv_validator_laddr.
                tracing::info!("KMS peer ID: {}", PeerId::of(identity.public_key()));
            }
            nodes.push(node(validator, identity));
        }
        let hook = chain.state_hook.as_ref().map(|hook| Hook {
            command: hook.cmd.clone(),
            timeout: hook.timeout,
            fail_closed: hook.fail_closed,
        });
        let extensions = match chain.sign_extensions {
            None | Some(true) => {
                if key.provider() != "softsign" {
                    tracing::info!(
                        "[{}] a precommit takes two signatures of the device: the vote and its extension, which CometBFT v0.38.0 to \
                         v0.38.10 and v1.0.0 want even where it is empty; for other nodes, sign_extensions = false makes it one",
                        chain.id.value
                    );
                }
                Extensions::Always
            }
            Some(false) => {
                tracing::warn!(
                    "[{}] sign_extensions = false: CometBFT v0.38.0 to v0.38.10 and v1.0.0 stop without an extension \
                     signature; leave the key out to have it signed where it belongs",
                    chain.id.value
                );
                Extensions::Filled
            }
        };
        plans.push(ChainPlan {
            subject,
            key,
            key_text,
            state_file: chain.state_file.value.clone(),
            require_state: chain.require_state,
            hook,
            extensions,
            nodes,
        });
    }
    if let Some(why) = semel_keys::locked::refused() {
        tracing::warn!(
            "keys in memory may be swapped out: {why}; LimitMEMLOCK=8M in the unit, or ulimit -l, lets them be locked"
        );
    }
    Ok(plans)
}

pub(super) fn load_identity(
    path: &PathBuf,
    known: &mut HashMap<PathBuf, SharedIdentity>,
) -> Result<SharedIdentity, Report> {
    if let Some(identity) = known.get(path) {
        return Ok(Arc::clone(identity));
    }
    let identity = identity::Identity::load(path).map_err(|error| key_report(&error))?;
    tracing::info!("KMS node ID: {}", identity.node_id());
    let identity: SharedIdentity = Arc::new(NodeIdentity(identity));
    known.insert(path.clone(), Arc::clone(&identity));
    Ok(identity)
}

/// What the host is to do with a node.
pub(super) fn node(validator: &config::Validator, identity: Option<SharedIdentity>) -> NodePlan {
    let (endpoint, peer_id) = match &validator.addr.value {
        Address::Tcp { peer_id, host, port } => (Endpoint::Tcp { host: host.clone(), port: *port }, *peer_id),
        Address::Noise { peer, address } => (Endpoint::Noise { peer: *peer, address: *address }, None),
        Address::Unix(path) => (Endpoint::Unix(path.clone()), None),
        Address::Abstract(name) => (Endpoint::Abstract(name.clone()), None),
    };
    let (expect, family) = match validator.protocol_version {
        ProtocolVersion::Auto => (Expect::Auto, None),
        ProtocolVersion::Legacy => (Expect::Only(Variant::Legacy), Some(Family::Amino)),
        ProtocolVersion::V0_33 => (Expect::Only(Variant::V033), Some(Family::Amino)),
        _ => (Expect::Only(Variant::V034), Some(Family::Protobuf)),
    };
    NodePlan {
        endpoint,
        peer_id,
        identity,
        timeout: validator.timeout,
        reconnect: validator.reconnect,
        max_height: validator.max_height,
        expect,
        family,
        raw_bytes: RawBytes { dialect: validator.dialect, domains: validator.allow_sign_bytes.clone() },
    }
}
