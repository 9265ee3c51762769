//! How a node is reached, and what is signed for it.

use super::stream::Endpoint;
use crate::core::noise::Identity;
use crate::core::raw_bytes::RawBytes;
use crate::core::secret::Expect;
use crate::wire::Family;
use std::sync::Arc;
use std::time::Duration;

/// How to reach a node.
#[derive(Clone)]
pub struct NodePlan {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its identity, where it is pinned.
    pub peer_id: Option<[u8; 20]>,
    /// Our identity on an encrypted connection.
    pub identity: Option<Arc<dyn Identity + Send + Sync>>,
    /// Longest wait for a message or a write.
    pub timeout: Duration,
    /// Dial again after the first error.
    pub reconnect: bool,
    /// Highest height that is signed through this node.
    pub max_height: Option<u64>,
    /// Which handshakes are welcome.
    pub expect: Expect,
    /// How messages are written, where there is no handshake that tells.
    pub family: Option<Family>,
    /// Which bytes are signed that are neither vote nor proposal.
    pub raw_bytes: RawBytes,
}

impl NodePlan {
    /// Everything in which two plans can differ, as text.
    pub(crate) fn fingerprint(&self) -> String {
        let identity = self.identity.as_ref().map(|identity| hex::encode(identity.public_key()));
        let Self { endpoint, peer_id, timeout, reconnect, max_height, expect, family, raw_bytes, .. } = self;
        let way = format!("{endpoint:?} {peer_id:?} {identity:?} {timeout:?} {reconnect}");
        format!("{way} {max_height:?} {expect:?} {family:?} {raw_bytes:?}")
    }
}
