//! Proofs that transactions and blocks are certified.

use super::{Shared, reply, work};
use crate::face::metrics;
use crate::host::store::entities;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use mithril_common::entities::SignedEntityTypeDiscriminants as Kind;
use mithril_common::messages::{
    CardanoBlocksProofsMessage, CardanoTransactionsProofsMessage, CardanoTransactionsProofsV2Message,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Who makes proofs, at the newest certificate. A call takes a fraction of a millisecond to some milliseconds.
pub trait Prover: fmt::Debug + Send + Sync {
    /// Proof that transactions are certified. None: nothing is yet.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn transactions(&self, hashes: &[String]) -> Result<Option<CardanoTransactionsProofsMessage>, String>;

    /// The same in the second version.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn transactions_v2(&self, hashes: &[String]) -> Result<Option<CardanoTransactionsProofsV2Message>, String>;

    /// The same for blocks.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn blocks_v2(&self, hashes: &[String]) -> Result<Option<CardanoBlocksProofsMessage>, String>;
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    Transactions,
    TransactionsV2,
    BlocksV2,
}

impl Asked {
    fn parameter(self) -> &'static str {
        match self {
            Asked::Transactions | Asked::TransactionsV2 => "transaction_hashes",
            Asked::BlocksV2 => "block_hashes",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Asked::Transactions | Asked::TransactionsV2 => "invalid_transaction_hashes",
            Asked::BlocksV2 => "invalid_block_hashes",
        }
    }
}

/// `GET /proof/cardano-transaction`
pub async fn transactions(shared: State<Shared>, query: RawQuery, headers: HeaderMap) -> Response {
    answer(shared, query, &headers, Asked::Transactions).await
}

/// `GET /proof/v2/cardano-transaction`
pub async fn transactions_v2(shared: State<Shared>, query: RawQuery, headers: HeaderMap) -> Response {
    answer(shared, query, &headers, Asked::TransactionsV2).await
}

/// `GET /proof/v2/cardano-block`
pub async fn blocks_v2(shared: State<Shared>, query: RawQuery, headers: HeaderMap) -> Response {
    answer(shared, query, &headers, Asked::BlocksV2).await
}

async fn answer(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: &HeaderMap,
    asked: Asked,
) -> Response {
    let hashes = hashes(query.as_deref().unwrap_or_default(), asked.parameter(), shared.0.options.hashes_max);
    let (origin, client) = (shared.origin(headers), Shared::client(headers));
    let count = hashes.as_ref().map_or(0, Vec::len) as u64;
    match asked {
        Asked::Transactions => metrics::count_transaction_proof(false, count, &origin, client),
        Asked::TransactionsV2 => metrics::count_transaction_proof(true, count, &origin, client),
        Asked::BlocksV2 => metrics::count_block_proof(count, &origin, client),
    }
    let hashes = match hashes {
        Ok(hashes) => hashes,
        Err(why) => return reply::refused(StatusCode::BAD_REQUEST, asked.label(), &why),
    };
    // Whoever finds no place at once is told so: a queue behind a full queue helps nobody.
    let Ok(place) = Arc::clone(&shared.0.proofs).try_acquire_owned() else { return reply::busy() };
    // It is never closed.
    let Ok(turn) = Arc::clone(&shared.0.provers).acquire_owned().await else { return reply::busy() };
    let this = shared.clone();
    let made = work((place, turn), move || match this.prove(asked, &hashes)? {
        Some(body) => Ok::<_, String>((Some(body), false)),
        None => Ok((None, this.is_awaited(asked)?)),
    });
    match made.await {
        Ok(Ok((Some(body), _))) => reply::json(StatusCode::OK, Bytes::from(body), reply::Keep::Never),
        // It is certified, and after a start its blocks are still being read.
        Ok(Ok((None, true))) => reply::not_yet("the proofs are not ready yet"),
        Ok(Ok((None, false))) => reply::empty(StatusCode::NOT_FOUND),
        Ok(Err(why)) => reply::failed(&why),
        Err(error) => reply::failed(&error.to_string()),
    }
}

/// The hashes of a query, each once and in order, as they were written: what is not lower case is certified by nobody.
fn hashes(query: &str, parameter: &str, most: usize) -> Result<Vec<String>, String> {
    let value = query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == parameter))
        .map(|(_, value)| value.replace("%2C", ",").replace("%2c", ","));
    let Some(value) = value else { return Err(format!("the parameter {parameter} is missing")) };
    if value.split(',').count() > most {
        return Err(format!("at most {most} hashes can be asked for at once"));
    }
    let mut seen = BTreeSet::new();
    for hash in value.split(',') {
        if hash.len() != 64 || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err("a hash has 64 hexadecimal digits".to_owned());
        }
        seen.insert(hash.to_owned());
    }
    Ok(seen.into_iter().collect())
}

impl Shared {
    fn prove(&self, asked: Asked, hashes: &[String]) -> Result<Option<Vec<u8>>, String> {
        let prover = &self.0.prover;
        match asked {
            Asked::Transactions => encode(prover.transactions(hashes)?),
            Asked::TransactionsV2 => encode(prover.transactions_v2(hashes)?),
            Asked::BlocksV2 => encode(prover.blocks_v2(hashes)?),
        }
    }

    /// Whether there is something to prove, though nobody proves it now.
    fn is_awaited(&self, asked: Asked) -> Result<bool, String> {
        let kind = match asked {
            Asked::Transactions => Kind::CardanoTransactions,
            Asked::TransactionsV2 | Asked::BlocksV2 => Kind::CardanoBlocksTransactions,
        };
        let engine = &self.0.engine;
        let newest = engine.store().read(|db| entities::latest(db, kind, 1)).map_err(|error| error.to_string())?;
        Ok(engine.options().kinds.contains(&kind) && !newest.is_empty())
    }
}

fn encode<T: serde::Serialize>(message: Option<T>) -> Result<Option<Vec<u8>>, String> {
    message.map(|message| serde_json::to_vec(&message)).transpose().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::hashes;

    #[test]
    fn hashes_are_bounded_whole_and_each_once() {
        let (a, b) = ("a".repeat(64), "B".repeat(64));
        let query = |value: &str| hashes(&format!("x=1&transaction_hashes={value}"), "transaction_hashes", 2);
        assert_eq!(query(&a), Ok(vec![a.clone()]));
        assert_eq!(query(&format!("{a},{b}")), Ok(vec![b.clone(), a.clone()]));
        assert_eq!(query(&format!("{a}%2C{b}")).unwrap().len(), 2);
        assert_eq!(query(&format!("{a},{a}")), Ok(vec![a.clone()]));
        for wrong in
            ["", ",", "zz", &a[1..], &format!("{a}, {b}"), &format!("{a},"), &format!("{a},{a},{a}"), &"g".repeat(64)]
        {
            assert!(query(wrong).is_err(), "{wrong}");
        }
        assert!(hashes("", "transaction_hashes", 2).is_err());
    }
}
