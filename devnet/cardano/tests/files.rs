//! The node's files: trios byte for byte those of a real node, the newest always one ahead, what is complete never touched.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use mithril_common::entities::Epoch;
use semel_devnet_cardano::immutable::{self, Trio};
use semel_devnet_cardano::{CardanoNet, LedgerForm, Options};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Real immutable files; without, the test is on record as skipped.
fn preview(test: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cardano/preview/immutable");
    if path.is_dir() {
        return Some(path);
    }
    if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
        let mut log = fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{test}: no preview blocks under ../shared/data").unwrap();
    }
    None
}

fn net(change: impl FnOnce(&mut Options)) -> (TempDir, CardanoNet) {
    let directory = tempfile::tempdir().unwrap();
    let mut options = Options::new(directory.path());
    change(&mut options);
    (directory, CardanoNet::start(options).unwrap())
}

/// Files of a directory by name.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_trio_written_from_its_blocks_is_the_real_trio() {
    let Some(real) = preview("a_trio_written_from_its_blocks_is_the_real_trio") else { return };
    assert_eq!(immutable::count(&real), 220);
    let mut blocks = 0;
    for number in 0..220 {
        let read = immutable::read(&real, number).unwrap();
        blocks += read.len();
        // The last real one was still being written when it was taken.
        let file = |extension: &str| fs::read(real.join(format!("{number:05}.{extension}"))).unwrap();
        let wanted = Trio { chunk: file("chunk"), primary: file("primary"), secondary: file("secondary") };
        assert!(Trio::encode(number, &read, true).unwrap() == wanted, "trio {number}");
    }
    assert_eq!(blocks, 43_346);
}

#[test]
fn the_newest_trio_is_one_ahead_and_complete_ones_are_the_real_ones() {
    let Some(real) = preview("the_newest_trio_is_one_ahead_and_complete_ones_are_the_real_ones") else { return };
    let (_directory, net) = net(|options| options.immutable = Some(real.clone()));
    let directory = net.db_directory().join("immutable");
    // 4 trios are revealed, 20 blocks of them are not immutable yet.
    let first = files(&directory);
    let names: Vec<&String> = first.keys().filter(|name| name.ends_with("chunk")).collect();
    assert_eq!(names, ["00000.chunk", "00001.chunk", "00002.chunk", "00003.chunk"]);
    let of = |name: &str| fs::read(real.join(name)).unwrap();
    for name in first.keys().filter(|name| !name.starts_with("00003")) {
        assert!(first[name] == of(name), "{name}");
    }
    for name in ["00003.chunk", "00003.primary", "00003.secondary"] {
        assert!(first[name].len() < of(name).len() && of(name).starts_with(&first[name]), "{name}");
    }

    net.advance_epoch().unwrap();
    let next = files(&directory);
    assert_eq!(next.len(), 18);
    assert!(next["00003.primary"] == of("00003.primary"));
    assert!(!next.keys().any(|name| name.ends_with(".tmp")));
}

#[test]
fn what_is_complete_stays_when_the_chain_is_rolled_back_below_it() {
    let (_directory, net) = net(|_| {});
    let directory = net.db_directory().join("immutable");
    let before = files(&directory);
    net.fork(70).unwrap();
    assert!(files(&directory) == before);
    net.advance_epoch().unwrap();
    net.advance_epoch().unwrap();
    let after = files(&directory);
    assert!(after.len() > before.len());
    for name in before.keys().filter(|name| !name.starts_with("00003")) {
        assert!(after[name] == before[name], "{name}");
    }
}

#[test]
fn two_ledger_snapshots_are_kept_in_the_form_that_was_asked_for() {
    for (form, inside) in
        [(LedgerForm::Tables, Some("tables")), (LedgerForm::TablesTvar, Some("tables/tvar")), (LedgerForm::File, None)]
    {
        let (_directory, net) = net(|options| options.ledger_form = form);
        let ledger = net.db_directory().join("ledger");
        let slots = || {
            let entries = fs::read_dir(&ledger).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            entries.map(|name| name.parse::<u64>().unwrap()).collect::<std::collections::BTreeSet<_>>()
        };
        let before = slots();
        assert_eq!(before.len(), 2);
        net.advance_epoch().unwrap();
        let after = slots();
        assert_eq!(after.len(), 2);
        assert!(after.last() > before.last());
        let newest = ledger.join(after.last().unwrap().to_string());
        match inside {
            Some(tables) => {
                assert!(newest.join("state").is_file() && newest.join(tables).is_file());
                assert!(fs::read_to_string(newest.join("meta")).unwrap().contains("\"utxohd-mem\""));
            }
            None => assert!(newest.is_file()),
        }
    }
}

#[test]
fn made_up_blocks_follow_the_last_real_one() {
    let Some(real) = preview("made_up_blocks_follow_the_last_real_one") else { return };
    let (_directory, net) = net(|options| {
        options.immutable = Some(real);
        options.first_trios = 219;
        options.trios_per_epoch = 3;
    });
    net.advance_epoch().unwrap();
    let blocks = net.blocks();
    assert!(blocks.windows(2).all(|pair| pair[0].number + 1 == pair[1].number && pair[0].slot < pair[1].slot));
    assert_eq!(blocks.last().unwrap().chunk(), 221);
    assert_eq!(immutable::count(&net.db_directory().join("immutable")), 222);
}

#[test]
fn with_a_real_clock_epochs_and_blocks_come_by_themselves() {
    let (_directory, net) = net(|options| {
        options.epoch_time = Some(Duration::from_millis(400));
        options.tick_time = Duration::from_millis(50);
    });
    let (begun, first) = (Instant::now(), net.tip().unwrap().number);
    let mut within = false;
    while net.epoch() < Epoch(12) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        within |= net.epoch() == Epoch(10) && net.tip().unwrap().number > first;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(within, "blocks come within an epoch too");
    assert!(begun.elapsed() >= Duration::from_millis(700));
    net.stop();
}
