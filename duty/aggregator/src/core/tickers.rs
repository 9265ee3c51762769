//! A page of pools as a Blockfrost server lists them, and what is believed of it.

use serde::Deserialize;

/// Characters of a ticker. CIP-6 has 3 to 5; a server may tell others.
const TICKER_MAX: usize = 16;
/// Characters of a pool's id: `pool1` and 51 more.
const ID_LENGTH: usize = 56;

/// A pool and what it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticker {
    /// The pool, bech32.
    pub party: String,
    /// Its ticker.
    pub ticker: String,
}

#[derive(Deserialize)]
struct Pool {
    pool_id: String,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    ticker: Option<String>,
}

/// How many pools a page lists, and those of them that have a ticker which can be shown.
///
/// # Errors
/// When it is no such page.
pub fn page(json: &[u8]) -> Result<(usize, Vec<Ticker>), serde_json::Error> {
    let pools: Vec<Pool> = serde_json::from_slice(json)?;
    let count = pools.len();
    let believed = pools.into_iter().filter_map(|pool| {
        let ticker = pool.metadata?.ticker?.trim().to_owned();
        let is_shown = (1..=TICKER_MAX).contains(&ticker.chars().count()) && !ticker.chars().any(char::is_control);
        let is_pool = pool.pool_id.len() == ID_LENGTH
            && pool.pool_id.starts_with("pool1")
            && pool.pool_id.bytes().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit());
        (is_shown && is_pool).then_some(Ticker { party: pool.pool_id, ticker })
    });
    Ok((count, believed.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_without_a_ticker_and_texts_that_are_none_are_passed_over() {
        let id = |last: &str| format!("pool1{}{last}", "q".repeat(50));
        let pools = serde_json::json!([
            {"pool_id": id("a"), "hex": "00", "live_stake": "1", "metadata": {"ticker": " ABC ", "name": null}},
            {"pool_id": id("b"), "metadata": null},
            {"pool_id": id("c")},
            {"pool_id": id("d"), "metadata": {"name": "no ticker"}},
            {"pool_id": id("e"), "metadata": {"ticker": ""}},
            {"pool_id": id("f"), "metadata": {"ticker": "A\u{7}B"}},
            {"pool_id": id("g"), "metadata": {"ticker": "A".repeat(17)}},
            {"pool_id": "pool1short", "metadata": {"ticker": "ABC"}},
            {"pool_id": id("'"), "metadata": {"ticker": "ABC"}},
        ]);
        let (count, tickers) = page(pools.to_string().as_bytes()).unwrap();
        assert_eq!(count, 9);
        assert_eq!(tickers, [Ticker { party: id("a"), ticker: "ABC".to_owned() }]);
        for wrong in ["", "{}", "[{}]", "[1]", r#"{"status_code": 403, "error": "Forbidden"}"#] {
            assert!(page(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(page(b"[]").unwrap(), (0, Vec::new()));
    }
}
