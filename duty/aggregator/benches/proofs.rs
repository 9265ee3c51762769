//! Chain data and proofs, measured against mithril-merkle-tree in the same run.
//!
//! `cargo bench -p semel-aggregator --bench proofs` prints a table: import of the preview chunks of `../shared/data`, and of
//! chunks as full as mainnet's (150 transactions per range), which it makes; proofs from both; and two maps of 880,000 ranges
//! (mainnet's size) with their memory. `-- N` uses N ranges. Rates on two threads need two idle cores. `-- full` measures only
//! chain data of 880,000 ranges on disk: import, opening, memory, snapshots (needs 3 GB of room).

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a measurement may stop")]

use mithril_common::crypto_helper::{MKMap, MKMapNode, MKMapProof, MKTree, MKTreeNode, MKTreeStoreInMemory as Memory};
use mithril_common::entities::{BlockNumber, BlockNumberOffset, BlockRange};
use pallas_traverse::MultiEraBlock;
use semel_aggregator::core::merkle::{RangeMap, range_leaf};
use semel_aggregator::host::chaindata::{Certified, ChainData, Options, Provers};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What mithril-aggregator was reported to import: 90 million transactions in 21 hours.
const REFERENCE_IMPORT_PER_SECOND: f64 = 90e6 / (21.0 * 3600.0);

/// How long each rate is measured.
const SPAN: Duration = Duration::from_secs(3);

fn row(what: &str, value: String, against: String) {
    println!("{what:<62} {value:>18}  {against}");
}

/// Resident memory of this process in MiB.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Seconds that this thread has run: other programs on the machine do not count.
fn ran() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Calls of `work` per second on so many threads, and per second of one processor.
fn rate(threads: usize, work: impl Fn(usize) + Sync) -> (f64, f64) {
    let count = AtomicUsize::new(0);
    let start = Instant::now();
    let spent = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let before = ran();
                    while start.elapsed() < SPAN {
                        work(count.fetch_add(1, Ordering::Relaxed));
                    }
                    ran() - before
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<f64>()
    });
    let count = count.load(Ordering::Relaxed) as f64;
    (count / start.elapsed().as_secs_f64(), count / spent)
}

/// Number and transactions of every block, by pallas.
fn read_all(dir: &Path) -> Vec<(u64, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut names: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|kind| kind == "chunk"));
    names.sort();
    names.pop();
    for name in names {
        let bytes = std::fs::read(name).unwrap();
        let mut at = pallas_codec::minicbor::Decoder::new(&bytes);
        while at.position() < bytes.len() {
            let start = at.position();
            at.skip().unwrap();
            let block = MultiEraBlock::decode(&bytes[start..at.position()]).unwrap();
            blocks.push((block.number(), block.txs().iter().map(|tx| tx.hash().to_string()).collect()));
        }
    }
    blocks
}

/// What chunks are made of.
struct Shape {
    chunks: u64,
    /// Blocks per chunk.
    blocks: u64,
    /// Transactions of each block that has some.
    transactions: u64,
    /// How far such blocks are apart.
    every: u64,
    /// Whether headers are as large as they are.
    headers: bool,
}

/// Writes chunks of blocks shaped as Conway's, transactions of about 300 bytes; tells number and transactions of each block.
fn write_chunks(dir: &Path, shape: &Shape) -> Vec<(u64, Vec<String>)> {
    let (chunks, per_chunk) = (shape.chunks, shape.blocks);
    let mut all = Vec::new();
    use pallas_codec::minicbor::Encoder;
    let hash = |header: &[u8]| -> [u8; 32] {
        use blake2::{Blake2b, Digest, digest::consts::U32};
        Blake2b::<U32>::digest(header).into()
    };
    let mut previous: Option<[u8; 32]> = None;
    for chunk in 0..=chunks {
        let (mut bytes, mut index) = (Vec::new(), Vec::new());
        for number in chunk * per_chunk..if chunk == chunks { chunk * per_chunk } else { (chunk + 1) * per_chunk } {
            let count = if number % shape.every == 0 { shape.transactions } else { 0 };
            let mut header = Encoder::new(Vec::new());
            header.array(2).unwrap().array(10).unwrap().u64(number).unwrap().u64(number * 20 + 1).unwrap();
            match previous {
                Some(previous) => header.bytes(&previous).unwrap(),
                None => header.null().unwrap(),
            };
            let sizes = if shape.headers { [64, 64, 64, 64, 64, 64, 64, 448] } else { [0; 8] };
            for size in sizes {
                header.bytes(&vec![9; size]).unwrap();
            }
            let header = header.into_writer();
            let mut block = Encoder::new(vec![0x82, 7, 0x85]);
            block.writer_mut().extend_from_slice(&header);
            block.array(count).unwrap();
            let mut transactions = Vec::new();
            for transaction in 0..count {
                let start = block.writer().len();
                block.map(3).unwrap().u8(0).unwrap().array(2).unwrap();
                for _ in 0..2 {
                    block.array(2).unwrap().bytes(&[5; 32]).unwrap().u8(1).unwrap();
                }
                block.u8(1).unwrap().array(2).unwrap();
                for _ in 0..2 {
                    block.array(2).unwrap().bytes(&[6; 57]).unwrap().u64(123_456_789).unwrap();
                }
                block.u8(2).unwrap().u64(number * 10 + transaction).unwrap();
                transactions.push(hex::encode(hash(&block.writer()[start..])));
            }
            transactions.sort();
            all.push((number, transactions));
            block.array(count).unwrap();
            for _ in 0..count {
                block.map(1).unwrap().u8(0).unwrap().array(1).unwrap().array(2).unwrap();
                block.bytes(&[4; 32]).unwrap().bytes(&[3; 64]).unwrap();
            }
            block.map(0).unwrap().array(0).unwrap();
            let block = block.into_writer();
            let hash = hash(&header);
            index.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            index.extend_from_slice(&[0; 8]);
            index.extend_from_slice(&hash);
            index.extend_from_slice(&[0; 8]);
            bytes.extend_from_slice(&block);
            previous = Some(hash);
        }
        std::fs::write(dir.join(format!("{chunk:05}.chunk")), bytes).unwrap();
        std::fs::write(dir.join(format!("{chunk:05}.secondary")), index).unwrap();
    }
    all
}

fn import(what: &str, chunks: &Path, home: &Path) -> ChainData {
    println!("\n{what}");
    let start = Instant::now();
    let data = ChainData::open(home, Options::default()).unwrap();
    let last = std::cell::Cell::new(semel_aggregator::host::chaindata::Progress::default());
    let note = |progress| {
        last.set(progress);
        ControlFlow::Continue(())
    };
    data.import_immutables(chunks, BlockNumber(u64::MAX), &note).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let done = last.get();
    let per_second = done.transactions as f64 / seconds;
    row(
        &format!("import: {} blocks, {} transactions, {:.2} s", done.blocks, done.transactions, seconds),
        format!("{per_second:.0} tx/s"),
        format!("{:.0} x reference (goal 20)", per_second / REFERENCE_IMPORT_PER_SECOND),
    );
    row("import: chunks read", format!("{:.0} MB/s", done.bytes as f64 / 1e6 / seconds), String::new());
    row("import: blocks", format!("{:.0} blocks/s", done.blocks as f64 / seconds), String::new());
    let start = Instant::now();
    drop(data);
    let data = ChainData::open(home, Options::default()).unwrap();
    row("open again", format!("{:.1} ms", start.elapsed().as_secs_f64() * 1e3), String::new());
    data
}

/// Proofs of the oracle: a map with the roots of all ranges, into which the trees of the asked ranges are put, as the reference
/// does for each request. Per second of one processor.
fn oracle_rate(blocks: &[(u64, Vec<String>)], hashes: &[String], each: usize) -> f64 {
    let mut ranges = std::collections::BTreeMap::<u64, Vec<(u64, String)>>::new();
    for (number, transactions) in blocks {
        let leaves = ranges.entry(number / 15).or_default();
        leaves.extend(transactions.iter().map(|hash| (*number, hash.clone())));
    }
    ranges.retain(|_, leaves| !leaves.is_empty());
    ranges.values_mut().for_each(|leaves| leaves.sort());
    let home: std::collections::HashMap<&str, u64> =
        ranges.iter().flat_map(|(range, leaves)| leaves.iter().map(|(_, hash)| (hash.as_str(), *range))).collect();
    let tree = |range: u64| -> (BlockRange, MKMapNode<BlockRange, Memory>) {
        let leaves: Vec<MKTreeNode> = ranges[&range].iter().map(|(_, hash)| MKTreeNode::from(hash)).collect();
        let key = BlockRange::from(range * 15..range * 15 + 15);
        (key, MKMapNode::Tree(std::sync::Arc::new(MKTree::new(&leaves).unwrap())))
    };
    let mut map: MKMap<BlockRange, MKMapNode<BlockRange, Memory>, Memory> =
        MKMap::new_from_iter(ranges.keys().map(|range| tree(*range)).map(|(key, tree)| {
            use mithril_common::crypto_helper::MKMapValue;
            (key, MKMapNode::TreeNode(tree.compute_root().unwrap()))
        }))
        .unwrap();
    let (mut done, start, before) = (0, Instant::now(), ran());
    while start.elapsed() < SPAN {
        let asked: Vec<String> = (0..each).map(|i| hashes[(done * each + i) * 7919 % hashes.len()].clone()).collect();
        let wanted: std::collections::BTreeSet<u64> = asked.iter().map(|hash| home[hash.as_str()]).collect();
        for range in wanted {
            let (key, tree) = tree(range);
            map.replace(key, tree).unwrap();
        }
        let proof: MKMapProof<BlockRange> = map.compute_proof(&asked).unwrap();
        std::hint::black_box(hex::encode(serde_json::to_string(&proof).unwrap()));
        map.compress().unwrap();
        done += 1;
    }
    done as f64 / (ran() - before)
}

fn proofs(data: &ChainData, blocks: &[(u64, Vec<String>)]) {
    let (highest, _) = data.highest().unwrap();
    let root = data.transactions_root(highest).unwrap();
    let by = |merkle_root| Certified { certificate_hash: "c".to_owned(), block_number: highest, merkle_root };
    let v1 = data.transactions_prover(by(root)).unwrap();
    let v2 = data
        .blocks_transactions_prover(by(data.blocks_transactions_root(highest).unwrap()), BlockNumberOffset(1))
        .unwrap();
    let complete = (*highest + 1) / 15 * 15;
    let hashes: Vec<String> =
        blocks.iter().filter(|(number, _)| *number < complete).flat_map(|(_, hashes)| hashes.clone()).collect();
    let ask = |index: usize, each: usize| -> Vec<String> {
        (0..each).map(|i| hashes[(index * each + i) * 7919 % hashes.len()].clone()).collect()
    };
    for each in [1, 50, 100] {
        let theirs = oracle_rate(blocks, &hashes, each);
        let goal = match each {
            1 => " (goal 5000 /s)",
            50 => " (goal 500 /s)",
            _ => "",
        };
        let (wall, one) = rate(1, |index| {
            let message = v1.prove(&ask(index, each)).unwrap();
            assert_eq!(message.non_certified_transactions.len(), 0);
        });
        row(
            &format!("proof v1 of {each} hashes: /s; and per processor"),
            format!("{wall:.0}   {one:.0}"),
            format!("{:.0} x mithril-merkle-tree with its map cached, {theirs:.0}{goal}", one / theirs),
        );
        let (wall, one) = rate(2, |index| drop(v1.prove(&ask(index, each)).unwrap()));
        row("  2 threads", format!("{wall:.0}   {one:.0}"), String::new());
        let (wall, one) = rate(2, |index| drop(v2.prove_transactions(&ask(index, each)).unwrap()));
        row("  v2, 2 threads", format!("{wall:.0}   {one:.0}"), String::new());
    }
}

/// Two maps of mainnet's size, and what another snapshot costs.
fn maps(ranges: u32) {
    let before = resident_mib();
    let start = Instant::now();
    let (mut v1, mut v2) = (RangeMap::default(), RangeMap::default());
    for range in 0..ranges {
        let leaf = range_leaf(u64::from(range), &[7; 32]);
        v1.push(range, leaf).unwrap();
        v2.push(range, leaf).unwrap();
    }
    row(
        &format!("two maps of {ranges} ranges: build"),
        format!("{:.2} s", start.elapsed().as_secs_f64()),
        String::new(),
    );
    let ours = resident_mib() - before;
    row("two maps: memory", format!("{ours:.0} MiB"), "goal 150".to_owned());
    let start = Instant::now();
    let copies: Vec<(RangeMap, RangeMap)> = (0..50).map(|_| (v1.clone(), v2.clone())).collect();
    for copy in &copies {
        std::hint::black_box(copy.0.root().unwrap());
    }
    let each = start.elapsed().as_secs_f64() / 50.0;
    row("snapshot of both with its root", format!("{:.3} ms", each * 1e3), "goal 1 s".to_owned());
    row("50 more snapshots: memory", format!("{:.0} MiB", resident_mib() - before - ours), String::new());

    let before = resident_mib();
    let start = Instant::now();
    let theirs: MKMap<BlockRange, MKMapNode<BlockRange, Memory>, Memory> =
        MKMap::new_from_iter((0..u64::from(ranges)).map(|range| {
            (BlockRange::from(range * 15..range * 15 + 15), MKMapNode::TreeNode(MKTreeNode::new(vec![7; 32])))
        }))
        .unwrap();
    assert_eq!(theirs.compute_root().unwrap().to_vec(), v1.root().unwrap());
    let one = resident_mib() - before;
    row("mithril-merkle-tree, one map: build", format!("{:.2} s", start.elapsed().as_secs_f64()), String::new());
    row(
        "mithril-merkle-tree, one map: memory",
        format!("{one:.0} MiB"),
        format!("{:.1} x ours for one", one / (ours / 2.0)),
    );
    let start = Instant::now();
    let copy = theirs.clone();
    let seconds = start.elapsed().as_secs_f64();
    row("mithril-merkle-tree, one copy", format!("{:.2} s", seconds), format!("{:.0} x ours for two", seconds / each));
    drop(copy);
}

/// Chain data of mainnet's number of ranges, with all that a running prover has.
fn full() {
    let (chunks, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shape = Shape { chunks: 8800, blocks: 1500, transactions: 1, every: 15, headers: false };
    drop(write_chunks(chunks.path(), &shape));
    drop(import("880,000 ranges on disk", chunks.path(), home.path()));
    // In a process of its own, because this one keeps memory of the import.
    let program = std::env::current_exe().unwrap();
    assert!(std::process::Command::new(program).arg("open").arg(home.path()).status().unwrap().success());
}

/// What a prover of these chain data costs.
fn open(home: &Path) {
    let before = resident_mib();
    let start = Instant::now();
    let data = ChainData::open(home, Options::default()).unwrap();
    row("open", format!("{:.2} s", start.elapsed().as_secs_f64()), String::new());
    let (highest, _) = data.highest().unwrap();
    let provers = Provers::default();
    let start = Instant::now();
    let (v1, v2) = (data.transactions_root(highest).unwrap(), data.blocks_transactions_root(highest).unwrap());
    let by = |merkle_root| Certified { certificate_hash: "c".to_owned(), block_number: highest, merkle_root };
    provers.set_transactions(data.transactions_prover(by(v1)).unwrap());
    provers.set_blocks_transactions(data.blocks_transactions_prover(by(v2), BlockNumberOffset(1)).unwrap());
    row(
        "both snapshots, roots and switch",
        format!("{:.1} ms", start.elapsed().as_secs_f64() * 1e3),
        "goal 1 s".into(),
    );
    row("memory of maps, index and both provers", format!("{:.0} MiB", resident_mib() - before), String::new());
    row(
        "the same and the bound of the cache of trees",
        format!("{:.0} MiB", resident_mib() - before + 8.0),
        "goal 150".into(),
    );
}

fn main() {
    if std::env::args().any(|word| word == "full") {
        return full();
    }
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == "open") {
        return open(Path::new(&words[2]));
    }
    let ranges = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(880_000);
    println!("mainnet's size");
    maps(ranges);
    let chunks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cardano/preview/immutable");
    if chunks.exists() {
        let home = tempfile::tempdir().unwrap();
        let data = import("preview, 219 chunks", &chunks, home.path());
        proofs(&data, &read_all(&chunks));
    } else {
        println!("skipped: the preview chunks are absent ({})", chunks.display());
    }
    let (chunks, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shape = Shape { chunks: 100, blocks: 1080, transactions: 10, every: 1, headers: true };
    let blocks = write_chunks(chunks.path(), &shape);
    let data = import("as full as mainnet, 100 chunks", chunks.path(), home.path());
    proofs(&data, &blocks);
    drop(data);
}
