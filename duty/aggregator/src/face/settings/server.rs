//! Settings of the server: where it listens, how the chain is read in, who else is asked.

use super::INTERVAL_MS_MAX;
use super::read::{Reader, variable};
use crate::face::args::SecretText;
use crate::face::codes;
use crate::host::http::tls::Files as TlsFiles;
use mithril_common::entities::{BlockNumberOffset, CardanoNetwork};
use reqwest::Url;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Origin tags that are always counted under their own name.
pub const ORIGIN_TAGS: [&str; 4] = ["EXPLORER", "BENCHMARK", "CI", "NA"];
/// Sizes of pools that somebody may mean.
const POOL_SIZES: std::ops::RangeInclusive<u64> = 1..=1000;

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where it listens.
    pub address: SocketAddr,
    /// Under which URL clients reach it, with a slash at its end.
    pub public_url: Url,
    /// Tags that are counted under their own name.
    pub origin_tags: BTreeSet<String>,
    /// Hashes that a request for proofs may name.
    pub hashes_per_request_max: usize,
    /// Certificate and key; none: no TLS.
    pub tls: Option<TlsFiles>,
}

/// How the chain is read in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Blocks below the tip that the import at start leaves out.
    pub preload_security_parameter: BlockNumberOffset,
    /// Go on when a block cannot be parsed.
    pub allow_unparsable_block: bool,
}

/// The DMQ node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dmq {
    /// Its socket.
    pub socket: PathBuf,
    /// Magic of its network, when it is none of the known ones.
    pub magic: Option<u64>,
    /// Pause after it failed.
    pub wait_on_error: Duration,
}

/// Tickers of pools.
#[derive(Debug, Clone)]
pub struct Blockfrost {
    /// The secret that names the project.
    pub project_id: SecretText,
    /// Another server than the public one.
    pub base_url: Option<Url>,
}

impl Reader<'_> {
    pub(super) fn http(&self) -> Option<Http> {
        let ip = self.parsed::<IpAddr>("server_ip", "an IP address");
        let port = self.number("server_port", 1..=u64::from(u16::MAX));
        let hashes = self.size("cardano_prover_max_hashes_allowed_by_request", 1..=1_000);
        let is_public = self.entry("public_server_url").is_some();
        let given = self.url("public_server_url").filter(|url| self.is_public_base(url));
        let tls = self.tls();
        let address = SocketAddr::new(ip?, u16::try_from(port?).ok()?);
        let public = match is_public {
            true => given?,
            false => {
                let scheme = if tls.as_ref().is_ok_and(Option::is_some) { "https" } else { "http" };
                Url::parse(&format!("{scheme}://{address}/aggregator/")).ok()?
            }
        };
        let said = self.text("custom_origin_tag_white_list").unwrap_or_default();
        let more = said.split(',').map(str::trim).filter(|tag| !tag.is_empty());
        Some(Http {
            address,
            public_url: with_slash(public),
            origin_tags: ORIGIN_TAGS.into_iter().chain(more).map(str::to_owned).collect(),
            hashes_per_request_max: hashes?,
            tls: tls.ok()?,
        })
    }

    /// Paths are put behind it, and it is told to everybody.
    fn is_public_base(&self, url: &Url) -> bool {
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_base = !has_user && url.query().is_none() && url.fragment().is_none();
        if !is_base {
            let key = "public_server_url";
            let message = format!("{} has a user, a query or a fragment: no path can be put behind it", variable(key));
            self.error_with(&codes::WRONG_TYPE, key, message, "such as https://aggregator.example.com/aggregator");
        }
        is_base
    }

    fn tls(&self) -> Result<Option<TlsFiles>, ()> {
        let (certificate, key) = ("server_tls_certificate_path", "server_tls_key_path");
        match (self.path(certificate), self.path(key)) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
            (Some(_), None) => {
                self.missing(key, "SERVER_TLS_CERTIFICATE_PATH is set", None);
                Err(())
            }
            (None, Some(_)) => {
                self.missing(certificate, "SERVER_TLS_KEY_PATH is set", None);
                Err(())
            }
        }
    }

    pub(super) fn metrics(&self) -> Option<Option<SocketAddr>> {
        let is_on = self.flag("enable_metrics_server");
        let ip = self.parsed::<IpAddr>("metrics_server_ip", "an IP address");
        let port = self.number("metrics_server_port", 1..=u64::from(u16::MAX));
        let address = SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), u16::try_from(port?).ok()?);
        Some((is_on? && ip.is_some()).then_some(address))
    }

    pub(super) fn import(&self, network: Option<CardanoNetwork>) -> Option<Import> {
        let asked = self.flag("allow_unparsable_block");
        let allowed = network.and_then(|network| network.compute_allow_unparsable_block(asked?).ok());
        if asked == Some(true) && allowed == Some(false) {
            let message = "ALLOW_UNPARSABLE_BLOCK has no effect on mainnet and preprod".to_owned();
            self.warning(&codes::RETIRED, "allow_unparsable_block", message);
        }
        let preload = self.number("preload_security_parameter", 0..=u64::from(u32::MAX));
        self.number("cardano_transactions_block_streamer_max_roll_forwards_per_poll", 0..=u64::MAX);
        self.number("cardano_transactions_block_streamer_throttling_interval", 0..=u64::MAX);
        for accepted in [
            "cardano_transactions_prover_cache_pool_size",
            "cardano_transactions_database_connection_pool_size",
            "cardano_blocks_transactions_prover_cache_pool_size",
            "cardano_blocks_transactions_database_connection_pool_size",
        ] {
            if self.number(accepted, 0..=u64::MAX).is_some_and(|size| !POOL_SIZES.contains(&size)) {
                let message = format!("{} makes no sense, and changes nothing here", variable(accepted));
                self.warning(&codes::RETIRED, accepted, message);
            }
        }
        Some(Import {
            preload_security_parameter: BlockNumberOffset(preload?),
            // Without a network there are other errors.
            allow_unparsable_block: allowed.unwrap_or(false),
        })
    }

    pub(super) fn dmq(&self) -> Result<Option<Dmq>, ()> {
        let wait = self.interval("signature_processor_wait_delay_on_error_ms", 1, 0..=INTERVAL_MS_MAX).ok_or(())?;
        let magic = match self.entry("dmq_network_magic") {
            Some(_) => Some(self.number("dmq_network_magic", 0..=u64::from(u32::MAX)).ok_or(())?),
            None => None,
        };
        Ok(self.path("dmq_node_socket_path").map(|socket| Dmq { socket, magic, wait_on_error: wait }))
    }

    pub(super) fn blockfrost(&self) -> Result<Option<Blockfrost>, ()> {
        let key = "blockfrost_parameters";
        if self.entry(key).is_none() {
            return Ok(None);
        }
        let object = self.object(key).ok_or(())?;
        let [project_id] = self.fields(key, &object, ["project_id"], &["base_url"]).ok_or(())?;
        let base_url = match object.get("base_url").and_then(serde_json::Value::as_str) {
            Some(said) => match Url::parse(said) {
                Ok(url) => Some(url),
                Err(_) => {
                    let message = format!("`base_url` in {} is no URL", variable(key));
                    self.error_in(&codes::WRONG_SHAPE, key, "base_url", message);
                    return Err(());
                }
            },
            None => None,
        };
        Ok(Some(Blockfrost { project_id: SecretText::new(project_id.as_str()), base_url }))
    }
}

/// The URL with a slash at the end of its path.
fn with_slash(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}
