//! Blocks of a chain: whatever is read has its transactions in order, and follows from all of its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_aggregator::host::chaindata::ParsedBlock;

fuzz_target!(|data: &[u8]| {
    let Ok(block) = ParsedBlock::parse(data) else { return };
    assert!(block.transactions.is_sorted());
    let longer = [data, &[0]].concat();
    assert!(ParsedBlock::parse(&longer).is_err());
});
