//! Import from chunks: real ones, broken ones, other ones.

use super::*;
use pallas_traverse::MultiEraBlock;

const PREVIEW: &str = "cardano/preview/immutable";

/// What pallas makes of the same bytes.
fn by_pallas(bytes: &[u8]) -> ParsedBlock {
    let block = MultiEraBlock::decode(bytes).unwrap();
    let mut transactions: Vec<Hash> = block.txs().iter().map(|transaction| *transaction.hash()).collect();
    transactions.sort_unstable();
    ParsedBlock {
        number: block.number(),
        slot: block.slot(),
        hash: *block.hash(),
        previous: block.header().previous_hash().map(|hash| *hash),
        boundary: matches!(block, MultiEraBlock::EpochBoundary(_)),
        transactions,
    }
}

/// A directory with some of the real chunks.
fn some_chunks(from: &Path, numbers: impl Iterator<Item = u64>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in numbers {
        for kind in ["chunk", "primary", "secondary"] {
            let name = format!("{number:05}.{kind}");
            std::os::unix::fs::symlink(from.join(&name), dir.path().join(&name)).unwrap();
        }
    }
    dir
}

#[test]
fn forty_real_chunks_have_the_roots_and_proofs_of_the_oracle() {
    let Some(preview) = shared_data("chaindata: forty_real_chunks", PREVIEW) else { return };
    let chunks = some_chunks(&preview.canonicalize().unwrap(), 0..41);
    let immutables = Immutables::list(chunks.path()).unwrap();
    assert_eq!(immutables.numbers(), 0..40, "the last is not complete");
    let blocks: Vec<ParsedBlock> = immutables.numbers().flat_map(|n| immutables.chunk(n).unwrap().blocks).collect();

    let home = tempfile::tempdir().unwrap();
    let data = ChainData::open(home.path(), Options::default()).unwrap();
    data.import_immutables(chunks.path(), BlockNumber(u64::MAX), &on).unwrap();
    let last = blocks.last().unwrap();
    assert_eq!(data.highest(), Some((BlockNumber(last.number), place(last))));
    let transactions: usize = blocks.iter().map(|block| block.transactions.len()).sum();
    assert_eq!(data.counts(), (blocks.len() as u64, transactions as u64));
    assert!(blocks.len() > 8000, "{} blocks", blocks.len());
    agrees(&data, &blocks, [0, 13, 14, 15, 4321, last.number]);
    let busy: Vec<ParsedBlock> = blocks.iter().filter(|block| !block.transactions.is_empty()).cloned().collect();
    assert!(!busy.is_empty());
    proves(&data, &busy, last.number);
}

#[test]
fn our_reading_of_a_block_is_that_of_pallas() {
    let Some(preview) = shared_data("chaindata: our_reading_of_a_block", PREVIEW) else { return };
    let mut seen = 0;
    for number in [0, 7, 60, 100, 156, 180, 202, 219] {
        let bytes = std::fs::read(preview.join(format!("{number:05}.chunk"))).unwrap();
        let mut at = pallas_codec::minicbor::Decoder::new(&bytes);
        while at.position() < bytes.len() {
            let start = at.position();
            at.skip().unwrap();
            let block = &bytes[start..at.position()];
            assert_eq!(ParsedBlock::parse(block).unwrap(), by_pallas(block));
            seen += 1;
        }
    }
    assert!(seen > 1400, "{seen} blocks");
    let Some(samples) = shared_data("chaindata: our_reading_of_a_block", "mithril/parsing/blocks") else { return };
    for era in ["byron2", "shelley1", "allegra1", "mary1", "alonzo1", "conway1"] {
        let text = std::fs::read_to_string(samples.join(format!("{era}.block"))).unwrap();
        let block = hex::decode(text.trim()).unwrap();
        let ours = ParsedBlock::parse(&block).unwrap();
        assert_eq!(ours, by_pallas(&block), "{era}");
        assert!(!ours.transactions.is_empty());
    }
}
