//! A page of pools as a Blockfrost server lists them, and what is believed of it.

use serde::Deserialize;

/// Characters of a ticker and a name. CIP-6 has 5 and 50; a server may tell others.
const TICKER_MAX: usize = 128;
/// Characters of a pool's id: `pool1` and 51 more.
const ID_LENGTH: usize = 56;

/// A pool and what it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticker {
    /// The pool, bech32.
    pub party: String,
    /// `[TICKER] name`, of a pool that tells both.
    pub ticker: Option<String>,
}

#[derive(Deserialize)]
struct Pool {
    pool_id: String,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    ticker: Option<String>,
    name: Option<String>,
}

impl Metadata {
    /// Both, when they can be shown.
    fn joined(&self) -> Option<String> {
        let told =
            |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let joined = format!("[{}] {}", told(&self.ticker)?, told(&self.name)?);
        let is_shown = joined.chars().count() <= TICKER_MAX && !joined.chars().any(char::is_control);
        is_shown.then_some(joined)
    }
}

/// How many pools a page lists, and those of them whose id is one.
///
/// # Errors
/// When it is no such page.
pub fn page(json: &[u8]) -> Result<(usize, Vec<Ticker>), serde_json::Error> {
    let pools: Vec<Pool> = serde_json::from_slice(json)?;
    let count = pools.len();
    let believed = pools.into_iter().filter_map(|pool| {
        let is_pool = pool.pool_id.len() == ID_LENGTH
            && pool.pool_id.starts_with("pool1")
            && pool.pool_id.bytes().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit());
        let ticker = pool.metadata.and_then(|metadata| metadata.joined());
        is_pool.then_some(Ticker { party: pool.pool_id, ticker })
    });
    Ok((count, believed.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_a_ticker_when_it_tells_both_and_they_can_be_shown() {
        let id = |number: usize| format!("pool1{number:0>51}");
        let cases = [
            (serde_json::json!({"ticker": " ABC ", "name": "A pool"}), Some("[ABC] A pool".to_owned())),
            (
                serde_json::json!({"ticker": "ABCDE", "name": "n".repeat(120)}),
                Some(format!("[ABCDE] {}", "n".repeat(120))),
            ),
            (serde_json::json!({"ticker": "ABCDE", "name": "n".repeat(121)}), None),
            (serde_json::json!({"ticker": "ABC", "name": null}), None),
            (serde_json::json!({"ticker": "ABC"}), None),
            (serde_json::json!({"name": "no ticker"}), None),
            (serde_json::json!({"ticker": "", "name": "A pool"}), None),
            (serde_json::json!({"ticker": "A\u{7}B", "name": "A pool"}), None),
            (serde_json::json!(null), None),
        ];
        let mut pools: Vec<_> = cases
            .iter()
            .enumerate()
            .map(
                |(number, (metadata, _))| serde_json::json!({"pool_id": id(number), "hex": "00", "metadata": metadata}),
            )
            .collect();
        pools.push(serde_json::json!({"pool_id": id(99)}));
        let both = serde_json::json!({"ticker": "ABC", "name": "A pool"});
        pools.push(serde_json::json!({"pool_id": "pool1short", "metadata": both}));
        pools.push(serde_json::json!({"pool_id": format!("pool1'{}", "q".repeat(50)), "metadata": both}));
        let (count, tickers) = page(serde_json::Value::from(pools).to_string().as_bytes()).unwrap();
        assert_eq!(count, cases.len() + 3);
        let expected = cases.into_iter().map(|(_, ticker)| ticker).chain([None]);
        assert_eq!(tickers.into_iter().map(|one| one.ticker).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        for wrong in ["", "{}", "[{}]", "[1]", r#"{"status_code": 403, "error": "Forbidden"}"#] {
            assert!(page(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(page(b"[]").unwrap(), (0, Vec::new()));
    }
}
