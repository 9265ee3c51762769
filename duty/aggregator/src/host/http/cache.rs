//! Replies that were built once.
//!
//! A reply is kept with the engine's version at which it was built, and served while that is the version; what never changes (a
//! certificate by its hash) is kept whatever the version. Only what exists is kept: a stranger who asks for hashes that do not exist
//! cannot fill it.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Bytes that are kept. A certificate of 3,000 signers has some 1.8 MB.
const BYTES_MAX: usize = 512 << 20;
/// What an entry costs beside its path and its body, in bytes.
const OVERHEAD: usize = 160;

#[derive(Debug, Clone)]
struct Kept {
    body: Bytes,
    // None: for ever.
    version: Option<u64>,
}

/// Replies by path.
#[derive(Debug, Default)]
pub(super) struct Cache {
    inside: RwLock<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    replies: HashMap<String, Kept>,
    bytes: usize,
}

impl Cache {
    pub(super) fn get(&self, path: &str, version: u64) -> Option<Bytes> {
        let inside = self.inside.read().unwrap_or_else(PoisonError::into_inner);
        let kept = inside.replies.get(path)?;
        (kept.version.is_none_or(|at| at == version)).then(|| kept.body.clone())
    }

    pub(super) fn put(&self, path: &str, body: &Bytes, version: Option<u64>) {
        let mut inside = self.inside.write().unwrap_or_else(PoisonError::into_inner);
        let Inside { replies, bytes } = &mut *inside;
        let cost = |body: &Bytes| body.len() + path.len() + OVERHEAD;
        if *bytes + cost(body) > BYTES_MAX {
            // Rare: everything that is asked for again is built again.
            replies.clear();
            *bytes = 0;
        }
        *bytes += cost(body);
        if let Some(before) = replies.insert(path.to_owned(), Kept { body: body.clone(), version }) {
            *bytes -= cost(&before.body);
        }
    }
}
