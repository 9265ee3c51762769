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

/// A directory of chunks of our own making; the last is never complete.
fn write_chunks(dir: &Path, chunks: &[&[Vec<u8>]]) {
    for (number, blocks) in chunks.iter().enumerate() {
        let (mut bytes, mut index) = (Vec::new(), Vec::new());
        for block in *blocks {
            index.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            index.extend_from_slice(&[0; 8]);
            index.extend_from_slice(&ParsedBlock::parse(block).map_or([0; 32], |block| block.hash));
            index.extend_from_slice(&[0; 8]);
            bytes.extend_from_slice(block);
        }
        std::fs::write(dir.join(format!("{number:05}.chunk")), bytes).unwrap();
        std::fs::write(dir.join(format!("{number:05}.secondary")), index).unwrap();
    }
}

/// A Byron boundary block: it bears the number of the block before it.
fn boundary(number: u64, epoch: u64, previous: Hash) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new());
    out.array(2).unwrap().u8(0).unwrap().array(3).unwrap();
    out.array(5).unwrap().u32(764_824_073).unwrap().bytes(&previous).unwrap().bytes(&[3; 32]).unwrap();
    out.array(2).unwrap().u64(epoch).unwrap().array(1).unwrap().u64(number).unwrap();
    out.array(1).unwrap().map(0).unwrap();
    out.array(0).unwrap().array(0).unwrap();
    out.into_writer()
}

fn import(data: &ChainData, chunks: &Path, up_to: u64) -> Result<(), ChainDataError> {
    data.import_immutables(chunks, BlockNumber(up_to), &on)
}

fn new() -> (tempfile::TempDir, tempfile::TempDir, ChainData) {
    let (home, chunks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = ChainData::open(home.path(), Options::default()).unwrap();
    (home, chunks, data)
}

#[test]
fn an_import_that_stops_and_goes_on_is_the_import_at_once() {
    let blocks = chain(120, 0, 0);
    let (_home, chunks, data) = new();
    write_chunks(chunks.path(), &[&blocks[..30], &blocks[30..31], &[], &blocks[31..77], &[], &blocks[77..], &[]]);
    for up_to in [0, 14, 29, 30, 31, 76, 77, 118, u64::MAX, 5] {
        import(&data, chunks.path(), up_to).unwrap();
        let highest = up_to.min(119).max(data.highest().unwrap().0.0);
        assert_eq!(data.highest().unwrap().0, BlockNumber(highest));
    }
    agrees(&data, &parsed(&blocks), [0, 29, 30, 44, 119]);

    let (_home, _, data) = new();
    let stop = |_: Progress| ControlFlow::Break(());
    let told = data.import_immutables(chunks.path(), BlockNumber(u64::MAX), &stop);
    assert!(matches!(told, Err(ChainDataError::Stopped)));
    import(&data, chunks.path(), u64::MAX).unwrap();
    agrees(&data, &parsed(&blocks), [119]);
}

#[test]
fn the_last_chunk_is_left_to_chain_sync() {
    let blocks = chain(60, 0, 0);
    let (_home, chunks, data) = new();
    import(&data, chunks.path(), u64::MAX).unwrap();
    assert_eq!(data.highest(), None, "there is no chunk at all");
    write_chunks(chunks.path(), &[&blocks[..40]]);
    import(&data, chunks.path(), u64::MAX).unwrap();
    assert_eq!(data.highest(), None, "the only chunk is not complete");
    write_chunks(chunks.path(), &[&blocks[..40], &blocks[40..]]);
    import(&data, chunks.path(), u64::MAX).unwrap();
    assert_eq!(data.highest().unwrap().0, BlockNumber(39));
    append(&data, &blocks[40..]).unwrap();
    import(&data, chunks.path(), u64::MAX).unwrap();
    assert_eq!(data.highest().unwrap().0, BlockNumber(59), "what goes beyond the chunks stays");
}

#[test]
fn what_the_immutable_files_do_not_have_is_taken_back() {
    let (old, new_chain) = (chain(90, 0, 0), chain(90, 47, 6));
    for have in [48, 60, 90] {
        let (_home, chunks, data) = new();
        write_chunks(chunks.path(), &[&new_chain[..30], &new_chain[30..60], &new_chain[60..], &[]]);
        append(&data, &old[..have]).unwrap();
        import(&data, chunks.path(), u64::MAX).unwrap();
        agrees(&data, &parsed(&new_chain), [44, 46, 47, 89]);
    }
    let (_home, chunks, data) = new();
    write_chunks(chunks.path(), &[&new_chain, &[]]);
    append(&data, &old).unwrap();
    data.certify(BlockNumber(47)).unwrap();
    let told = import(&data, chunks.path(), u64::MAX);
    assert!(matches!(told, Err(ChainDataError::BelowCertified { .. })), "{told:?}");
    agrees(&data, &parsed(&old), [89]);
}

#[test]
fn boundary_blocks_are_left_out_except_the_first() {
    let first = boundary(0, 0, [7; 32]);
    let mut blocks = vec![first.clone()];
    let mut stored = parsed(&blocks);
    let mut previous = stored[0].hash;
    for number in 1..50_u64 {
        // The first block of each epoch comes in the slot of the boundary before it.
        if number % 10 == 0 {
            blocks.push(boundary(number - 1, number / 10, previous));
            previous = ParsedBlock::parse(blocks.last().unwrap()).unwrap().hash;
        }
        let slot = number / 10 * 21_600 + number % 10 * 20;
        blocks.push(cbor(number, slot, Some(previous), &[number]));
        let block = ParsedBlock::parse(blocks.last().unwrap()).unwrap();
        previous = block.hash;
        stored.push(block);
    }
    for block in blocks.iter().filter(|block| block[1] == 0) {
        assert_eq!(ParsedBlock::parse(block).unwrap(), by_pallas(block));
        assert!(ParsedBlock::parse(block).unwrap().boundary);
    }
    // Borders of chunks everywhere, also right behind a boundary block, and stops there.
    for border in 1..blocks.len() {
        let (home, chunks, data) = new();
        write_chunks(chunks.path(), &[&blocks[..border], &[]]);
        import(&data, chunks.path(), u64::MAX).unwrap();
        drop(data);
        let data = ChainData::open(home.path(), Options::default()).unwrap();
        write_chunks(chunks.path(), &[&blocks[..border], &blocks[border..], &[]]);
        import(&data, chunks.path(), u64::MAX).unwrap();
        assert_eq!(data.counts().0, 50);
        agrees(&data, &stored, [0, 14, 49]);
    }
    let (_home, _, data) = new();
    append(&data, &blocks).unwrap();
    assert_eq!(data.counts().0, 50);
    proves(&data, &stored, 49);
}

#[test]
fn an_unparsable_block_is_an_error_unless_it_is_allowed() {
    let Some(broken) = shared_data("chaindata: an_unparsable_block", "mithril/parsing/parsing_error/immutable") else {
        return;
    };
    let (_home, _, data) = new();
    let told = import(&data, &broken, u64::MAX);
    match told {
        Err(ChainDataError::Unparsable { place, .. }) => assert_eq!(place, "04831.chunk at byte 0"),
        other => panic!("{other:?}"),
    }
    assert_eq!(data.highest(), None);

    let blocks = chain(70, 0, 0);
    let chunks = tempfile::tempdir().unwrap();
    let mut bad = blocks[..40].to_vec();
    bad[20] = vec![0x20; 40];
    bad[37] = vec![0x82, 7];
    write_chunks(chunks.path(), &[&bad, &blocks[40..], &[]]);
    let told = import(&data, chunks.path(), u64::MAX);
    assert!(matches!(told, Err(ChainDataError::Unparsable { .. })));

    let home = tempfile::tempdir().unwrap();
    let options = Options { allow_unparsable_block: true, ..Options::default() };
    let data = ChainData::open(home.path(), options).unwrap();
    import(&data, chunks.path(), u64::MAX).unwrap();
    let mut rest = parsed(&blocks);
    rest.remove(37);
    rest.remove(20);
    assert_eq!(data.counts().0, 68);
    agrees(&data, &rest, [19, 20, 21, 36, 37, 38, 44, 69]);
    proves(&data, &rest, 69);
}

#[test]
fn broken_immutable_files_are_errors_that_say_where() {
    let blocks = chain(70, 0, 0);
    let good = || {
        let (home, chunks, data) = new();
        write_chunks(chunks.path(), &[&blocks[..30], &blocks[30..50], &blocks[50..], &[]]);
        (home, chunks, data)
    };
    let told = |break_it: &dyn Fn(&Path)| {
        let (_home, chunks, data) = good();
        break_it(chunks.path());
        let told = import(&data, chunks.path(), u64::MAX).unwrap_err();
        assert!(data.highest().is_none_or(|(number, _)| *number == 29));
        told
    };
    let missing = told(&|dir| std::fs::remove_file(dir.join("00001.chunk")).unwrap());
    assert_eq!(missing.to_string(), "immutable file 00001.chunk: it is missing, while higher numbers are there");
    let no_index = told(&|dir| std::fs::remove_file(dir.join("00001.secondary")).unwrap());
    assert!(matches!(no_index, ChainDataError::Io { .. }));
    let cut = told(&|dir| {
        let file = std::fs::OpenOptions::new().write(true).open(dir.join("00001.chunk")).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    });
    assert!(matches!(cut, ChainDataError::Unparsable { .. }), "{cut}");
    let short = told(&|dir| std::fs::write(dir.join("00001.secondary"), [0; 57]).unwrap());
    assert!(matches!(short, ChainDataError::Immutable { .. }));
    let wild = told(&|dir| std::fs::write(dir.join("00001.secondary"), [0xff; 112]).unwrap());
    assert!(matches!(wild, ChainDataError::Immutable { .. }));
    let far = told(&|dir| {
        let mut index = vec![0; 112];
        index[56..64].copy_from_slice(&u64::MAX.to_be_bytes());
        std::fs::write(dir.join("00001.secondary"), index).unwrap();
    });
    assert!(matches!(far, ChainDataError::Unparsable { .. }));
    let swapped = told(&|dir| {
        for kind in ["chunk", "secondary"] {
            std::fs::copy(dir.join(format!("00002.{kind}")), dir.join(format!("00001.{kind}"))).unwrap();
        }
    });
    assert!(matches!(swapped, ChainDataError::NotNext { number: 50, .. }));
    let gone = told(&|dir| std::fs::remove_dir_all(dir).unwrap());
    assert!(matches!(gone, ChainDataError::Io { .. }));
}

#[test]
fn no_bytes_whatever_make_reading_a_block_panic() {
    let block = chain(4, 0, 0).pop().unwrap();
    for at in 0..block.len() {
        let _ = ParsedBlock::parse(&block[..at]);
        for bit in 0..8 {
            let mut bad = block.clone();
            bad[at] ^= 1 << bit;
            let _ = ParsedBlock::parse(&bad);
        }
    }
    // Deep nesting and lengths that nothing backs.
    for deep in [
        [0x82, 7].repeat(100_000),
        [vec![0x82, 7], vec![0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]].concat(),
    ] {
        assert!(ParsedBlock::parse(&deep).is_err());
    }
    let mut nested = vec![0x82, 7, 0x85];
    nested.extend([0x81].repeat(1_000_000));
    assert!(ParsedBlock::parse(&nested).is_err());
}
