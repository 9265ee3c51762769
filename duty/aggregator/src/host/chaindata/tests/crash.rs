//! The power goes at any write; a disk that is full for a while; files that someone changed.

use super::*;
use crate::host::chaindata::disk::Fuse;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

/// Entries in memory before they become a run: so few that runs are written and merged all the time.
const RECENT: usize = 12;

fn open(home: &Path, writes: usize, loses: bool) -> (Result<ChainData, ChainDataError>, Arc<Fuse>) {
    let fuse = Arc::new(Fuse { writes: AtomicUsize::new(writes), loses, ..Fuse::default() });
    let mut disk = Disk::open(home).unwrap();
    disk.fuse = Some(Arc::clone(&fuse));
    let data = ChainData::open_on(disk, Options::default());
    if let Ok(data) = &data {
        data.writer.lock().unwrap().keep_recent(RECENT);
    }
    (data, fuse)
}

/// What is done, step by step, and the chain that is there after each.
fn steps() -> Vec<(Vec<Vec<u8>>, Option<u64>)> {
    let (old, fork) = (chain(64, 0, 0), chain(64, 33, 4));
    vec![
        (old[..10].to_vec(), None),
        (old[..31].to_vec(), None),
        (old[..32].to_vec(), None),
        (old[..50].to_vec(), Some(20)),
        (old[..33].to_vec(), Some(20)),
        (fork[..46].to_vec(), Some(20)),
        (fork[..64].to_vec(), Some(59)),
    ]
}

/// Goes from what is there to this chain.
fn to(data: &ChainData, blocks: &[Vec<u8>], certified: Option<u64>) -> Result<(), ChainDataError> {
    let want = parsed(blocks);
    let have = data.counts().0 as usize;
    let shared = &data.shared;
    let mut common = 0;
    for (index, block) in want.iter().enumerate().take(have) {
        let there = shared.store.record(index as u64, have as u64)?.unwrap();
        if there.hash == block.hash {
            common = index + 1;
        }
    }
    if common < have {
        data.writer()?.roll_back(shared, common.checked_sub(1).map(|index| place(&want[index])))?;
    }
    append(data, &blocks[common..])?;
    match certified {
        Some(block) => data.certify(BlockNumber(block)),
        None => Ok(()),
    }
}

/// Everything that can be asked of a chain: its end, roots, and proofs of all blocks and transactions.
fn answers(data: &ChainData, blocks: &[Vec<u8>]) -> Result<Vec<String>, ChainDataError> {
    let mut answers = vec![format!("{:?}", data.highest())];
    let Some((highest, _)) = data.highest() else { return Ok(answers) };
    for up_to in [*highest / 3, *highest / 2, *highest] {
        answers.push(match data.transactions_root(BlockNumber(up_to)) {
            Err(ChainDataError::Merkle(why)) => why.to_string(),
            other => other?,
        });
        answers.push(data.blocks_transactions_root(BlockNumber(up_to))?);
    }
    let by = certified(*highest, &data.blocks_transactions_root(highest)?);
    // A prover that certifies nothing, so that the chain may still go back.
    let prover = BlocksTransactionsProver::new(&data.shared, by, BlockNumberOffset(0), 1000)?;
    let blocks = parsed(blocks);
    let hashes: Vec<String> = blocks.iter().flat_map(|block| &block.transactions).map(hex::encode).collect();
    answers.push(serde_json::to_string(&prover.prove_transactions(&hashes)?).unwrap());
    let hashes: Vec<String> = blocks.iter().map(|block| hex::encode(block.hash)).collect();
    answers.push(serde_json::to_string(&prover.prove_blocks(&hashes)?).unwrap());
    Ok(answers)
}

/// What is there is this chain.
fn is(data: &ChainData, blocks: &[Vec<u8>]) {
    assert_eq!(answers(data, blocks).unwrap(), right_answers(blocks));
}

/// What a fresh directory answers, once it is seen that the oracle agrees and that proofs hold.
fn right_answers(blocks: &[Vec<u8>]) -> Vec<String> {
    static KNOWN: Mutex<BTreeMap<Vec<Vec<u8>>, Vec<String>>> = Mutex::new(BTreeMap::new());
    if let Some(known) = KNOWN.lock().unwrap().get(blocks) {
        return known.clone();
    }
    let home = tempfile::tempdir().unwrap();
    let data = ChainData::open(home.path(), Options::default()).unwrap();
    append(&data, blocks).unwrap();
    let right = answers(&data, blocks).unwrap();
    if let Some(highest) = blocks.len().checked_sub(1) {
        agrees(&data, &parsed(blocks), 0..blocks.len() as u64);
        proves(&data, &parsed(blocks), highest as u64);
    }
    KNOWN.lock().unwrap().insert(blocks.to_vec(), right.clone());
    right
}

/// Every state that may be on disk: after each step, and between its parts.
fn states() -> Vec<Vec<Vec<u8>>> {
    let mut states = vec![Vec::new()];
    let steps = steps();
    states.extend(steps.iter().map(|(blocks, _)| blocks.clone()));
    states
}

#[test]
fn whenever_the_power_goes_the_last_or_the_next_state_is_there_and_the_work_goes_on() {
    stop_at_every_write(false);
}

#[test]
fn the_same_when_everything_that_was_not_flushed_is_lost() {
    stop_at_every_write(true);
}

fn stop_at_every_write(loses: bool) {
    let steps = steps();
    let mut writes = 0;
    loop {
        let home = tempfile::tempdir().unwrap();
        let mut done = 0;
        let (data, _fuse) = open(home.path(), writes, loses);
        let whole = data.is_ok_and(|data| {
            let whole = steps.iter().all(|(blocks, certified)| {
                let there = to(&data, blocks, *certified).is_ok();
                done += usize::from(there);
                there
            });
            data.writer.lock().unwrap().disk.lose();
            whole
        });
        let (data, _fuse) = open(home.path(), usize::MAX, false);
        let data = data.unwrap();
        let states = states();
        let may_be = [&states[done], &states[(done + 1).min(states.len() - 1)]];
        let count = data.counts().0 as usize;
        let there =
            may_be.iter().find(|state| state.len() == count).unwrap_or_else(|| panic!("{writes}: {count} blocks"));
        is(&data, there);
        for (blocks, certified) in &steps[done..] {
            to(&data, blocks, *certified).unwrap();
        }
        is(&data, &states[states.len() - 1]);
        if whole {
            break;
        }
        writes += 1;
    }
    assert!(writes > 80, "only {writes} writes");
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_nothing_but_that_while() {
    let steps = steps();
    let mut writes = 0;
    loop {
        let home = tempfile::tempdir().unwrap();
        let (data, fuse) = open(home.path(), writes, false);
        let Ok(data) = data else {
            writes += 1;
            continue;
        };
        let mut failures = 0;
        for (blocks, certified) in &steps {
            while to(&data, blocks, *certified).is_err() {
                failures += 1;
                assert!(failures < 3);
                fuse.writes.store(usize::MAX, SeqCst);
            }
            is(&data, blocks);
        }
        drop(data);
        is(&ChainData::open(home.path(), Options::default()).unwrap(), &steps[steps.len() - 1].0);
        if failures == 0 {
            break;
        }
        writes += 3;
    }
}

#[test]
fn a_byte_that_someone_changed_is_an_error_or_nothing_but_never_another_answer() {
    let home = tempfile::tempdir().unwrap();
    let blocks = chain(64, 0, 0);
    {
        let (data, _fuse) = open(home.path(), usize::MAX, false);
        append(&data.unwrap(), &blocks).unwrap();
    }
    let right = right_answers(&blocks);
    let mut changed = 0;
    for entry in std::fs::read_dir(home.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(good.len() / 24 + 1) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let told = ChainData::open(home.path(), Options::default()).and_then(|data| answers(&data, &blocks));
            match told {
                Ok(told) => assert_eq!(told, right, "{name} at {at}"),
                Err(ChainDataError::Damaged { .. } | ChainDataError::Newer { .. }) => changed += 1,
                Err(why) => panic!("{name} at {at}: {why}"),
            }
        }
        std::fs::write(&path, &good).unwrap();
    }
    assert!(changed > 100, "{changed} changes were noticed");
}

#[test]
fn a_file_that_is_too_short_or_gone_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    {
        let (data, _fuse) = open(home.path(), usize::MAX, false);
        append(&data.unwrap(), &chain(64, 0, 0)).unwrap();
    }
    let names: Vec<PathBuf> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in names.iter().filter(|path| !path.ends_with("lock") && !path.ends_with("manifest")) {
        let good = std::fs::read(path).unwrap();
        std::fs::write(path, &good[..good.len() - 1]).unwrap();
        let told = ChainData::open(home.path(), Options::default());
        assert!(matches!(told, Err(ChainDataError::Damaged { .. })), "{}: {told:?}", path.display());
        std::fs::remove_file(path).unwrap();
        let told = ChainData::open(home.path(), Options::default());
        assert!(matches!(told, Err(ChainDataError::Damaged { .. })), "{}: {told:?}", path.display());
        std::fs::write(path, &good).unwrap();
    }
    is(&ChainData::open(home.path(), Options::default()).unwrap(), &chain(64, 0, 0));
}

#[test]
fn a_directory_in_use_or_of_a_newer_version_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let data = ChainData::open(home.path(), Options::default()).unwrap();
    let second = ChainData::open(home.path(), Options::default());
    assert!(matches!(second, Err(ChainDataError::Locked(_))));
    append(&data, &chain(3, 0, 0)).unwrap();
    drop(data);
    let body = r#"{"format":2,"something":"else"}"#;
    let sum = crc32c::crc32c(body.as_bytes());
    std::fs::write(home.path().join("manifest"), format!("{body}\n{sum:08x}\n")).unwrap();
    let newer = ChainData::open(home.path(), Options::default());
    assert!(matches!(newer, Err(ChainDataError::Newer { found: 2, known: 1 })));
}
