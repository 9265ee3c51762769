//! `ledger fsck` and `ledger adopt`: what is wrong with a ledger is said, and mended only where nobody has to guess.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod stage;

use semel_devnet_tendermint::privval::Family;
use stage::{Ran, Signer, Stage, called, node, prevote, refusal, skip};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// What is done to a segment whose last record is in this slot.
type Damage = fn(&mut [u8], usize);

/// Bytes of a record.
const RECORD: usize = 512;

fn ledger(stage: &Stage, words: &str) -> Ran {
    let place = ["--ledger", "DIR/ledger", "--i-accept-volatile-ledger"];
    let words: Vec<&str> = words.split(' ').collect();
    stage.run(&[&["ledger", words[0]], &place[..], &words[1..]].concat())
}

/// Signs prevotes of these heights, and the process ends as in a crash.
fn signed(stage: &Stage, heights: std::ops::RangeInclusive<u64>) {
    let node = node(Family::V034);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    for height in heights {
        remote.sign_vote(&prevote(height, 1)).unwrap();
    }
    signer.kill();
}

fn start(stage: &Stage) -> (Signer, semel_devnet_tendermint::privval::Remote) {
    let node = node(Family::V034);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    let remote = called(&node);
    (signer, remote)
}

/// The segment with the last record of the chain, its bytes, and the slot of that record.
fn tail(stage: &Stage) -> (PathBuf, Vec<u8>, usize) {
    let sequence = |slot: &[u8]| u64::from_le_bytes(slot[8..16].try_into().unwrap());
    let segments = (0..4).map(|index| stage.path(&format!("ledger/volume-0/segment-{index}")));
    let last_of = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        let last = bytes.chunks_exact(RECORD).enumerate().map(|(at, slot)| (sequence(slot), at)).max().unwrap();
        (last, path, bytes)
    };
    let ((_, at), path, bytes) = segments.map(last_of).max_by_key(|(last, ..)| *last).unwrap();
    (path, bytes, at)
}

#[test]
fn a_whole_ledger_is_looked_at_beside_a_running_signer() {
    let stage = Stage::new();
    let (_signer, mut remote) = start(&stage);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    let whole = ledger(&stage, "fsck");
    assert!(whole.code == 0 && whole.stdout.is_empty() && whole.stderr.contains("every one is whole"), "{whole:?}");
    let json: serde_json::Value = serde_json::from_str(&ledger(&stage, "fsck --json").stdout).unwrap();
    assert_eq!((json["findings"].as_array().unwrap().len(), json["volumes"][0]["volume"].as_u64()), (0, Some(0)));
    let none = stage.run(&["ledger", "fsck", "--ledger", "DIR/none"]);
    assert!(none.code == 1 && none.stderr.contains("there is no ledger"), "{none:?}");
}

#[test]
fn a_half_written_record_at_the_end_is_cut_off_and_the_keys_watch() {
    let stage = Stage::new();
    signed(&stage, 1..=5);
    let (path, mut bytes, at) = tail(&stage);
    // The next record, of which only the beginning came to the disk.
    let mut half = bytes[at * RECORD..][..200].to_vec();
    half[8] += 1;
    bytes[(at + 1) * RECORD..][..200].copy_from_slice(&half);
    fs::write(&path, &bytes).unwrap();
    let verified = ledger_read(&stage, "verify");
    assert!(verified.code == 3 && verified.stderr.contains("LEDGER-0003"), "{verified:?}");
    for words in ["fsck", "fsck --dry-run", "fsck --repair --dry-run"] {
        let found = ledger(&stage, words);
        assert!(found.code == 3 && found.stderr.contains("FSCK-0002"), "{words}: {found:?}");
        assert!(found.stdout.contains("was written half"), "{found:?}");
        assert!(!found.stderr.contains("every one is whole"), "{found:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is written");
    }
    let mended = ledger(&stage, "fsck --repair");
    assert!(mended.code == 0 && mended.stderr.contains("Mended"), "{mended:?}");
    let copies: Vec<_> = fs::read_dir(stage.path("ledger/damaged")).unwrap().collect();
    assert!(copies.len() == 1 && fs::read(copies[0].as_ref().unwrap().path()).unwrap() == bytes);
    assert_eq!(ledger(&stage, "fsck").code, 0);
    assert!(ledger_read(&stage, "show").stdout.contains("prevote #5/0"), "no floor fell");
    let (signer, mut remote) = start(&stage);
    signer.said("this key signs nothing yet: the end of the ledger was mended");
    refusal(remote.sign_vote(&prevote(5, 2)));
    // This may have been the lost one.
    assert!(refusal(remote.sign_vote(&prevote(6, 2))).1.contains("GUARD-0007"));
    remote.sign_vote(&prevote(10, 2)).unwrap();
}

fn ledger_read(stage: &Stage, verb: &str) -> Ran {
    stage.run(&["ledger", verb, "--ledger", "DIR/ledger"])
}

#[test]
fn what_may_have_been_acknowledged_is_not_mended() {
    let damages: [(&str, Damage); 4] = [
        ("a bit of the last record", |bytes, at| bytes[at * RECORD + 60] ^= 1),
        ("a bit of its end", |bytes, at| bytes[at * RECORD + 495] ^= 1),
        ("a record before", |bytes, at| bytes[(at - 1) * RECORD + 60] ^= 1),
        ("two halves", |bytes, at| {
            bytes[(at + 1) * RECORD] = 7;
            bytes[(at + 2) * RECORD] = 7;
        }),
    ];
    for (name, damage) in damages {
        let stage = Stage::new();
        signed(&stage, 1..=3);
        let (path, mut bytes, at) = tail(&stage);
        damage(&mut bytes, at);
        fs::write(&path, &bytes).unwrap();
        for words in ["fsck", "fsck --repair"] {
            let found = ledger(&stage, words);
            assert!(found.code == 3 && found.stderr.contains("FSCK-0001"), "{name}: {found:?}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "{name}: it was written");
        }
    }
    let stage = Stage::new();
    signed(&stage, 1..=3);
    fs::remove_file(stage.path("ledger/host")).unwrap();
    let found = ledger(&stage, "fsck --repair");
    assert!(found.code == 3 && found.stdout.contains("the file is gone"), "{found:?}");
}

#[test]
fn permissions_and_what_a_crash_left_are_mended_but_not_while_a_signer_runs() {
    let stage = Stage::new();
    let (signer, mut remote) = start(&stage);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    let mode = |name: &str, mode| fs::set_permissions(stage.path(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("ledger/volume-0/segment-1", 0o666);
    fs::write(stage.path("ledger/host.new"), "half").unwrap();
    fs::write(stage.path("ledger/notes.txt"), "mine").unwrap();
    let found = ledger(&stage, "fsck");
    assert!(found.code == 3 && found.stdout.contains("mode 0666 lets others write it"), "{found:?}");
    assert!(found.stdout.contains("note    DIR/ledger/notes.txt: does not belong to a ledger"), "{found:?}");
    let busy = ledger(&stage, "fsck --repair");
    assert!(busy.code == 3 && busy.stderr.contains("LEDGER-0002") && busy.stderr.contains("kms start"), "{busy:?}");
    assert!(stage.path("ledger/host.new").exists());
    remote.sign_vote(&prevote(2, 1)).unwrap();
    signer.kill();
    let mended = ledger(&stage, "fsck --repair --json");
    let json: serde_json::Value = serde_json::from_str(&mended.stdout).unwrap();
    assert_eq!((mended.code, json["mended"].as_array().unwrap().len()), (0, 2), "{mended:?}");
    assert!(!stage.path("ledger/host.new").exists() && stage.path("ledger/notes.txt").exists());
    let (_signer, mut remote) = start(&stage);
    remote.sign_vote(&prevote(3, 1)).unwrap();
}

#[test]
fn a_ledger_of_another_host_is_shown_and_adopted_with_its_floors() {
    if fs::read_to_string("/etc/machine-id").is_ok_and(|id| id.trim().is_empty())
        || !fs::exists("/etc/machine-id").unwrap()
    {
        skip("a_ledger_of_another_host_is_shown_and_adopted_with_its_floors", "this host has no machine id");
        return;
    }
    let stage = Stage::new();
    signed(&stage, 1..=9);
    let here = ledger(&stage, "adopt --i-accept-double-sign-risk");
    assert!(here.code == 0 && here.stderr.contains("Unchanged"), "{here:?}");
    let text = stage.read("ledger/host");
    let own = text.lines().find_map(|line| line.strip_prefix("host ")).unwrap().to_owned();
    stage.edit("ledger/host", &own, "0123456789abcdef");
    let found = ledger(&stage, "fsck");
    assert!(found.code == 3 && found.stdout.contains("belongs to another host"), "{found:?}");
    let node = node(Family::V034);
    let mut refused = stage.start(&stage.config(&[node.address().to_string()]));
    assert_eq!(refused.ended().code(), Some(3));
    refused.said("LEDGER-0004");
    let asked = ledger(&stage, "adopt");
    assert!(
        asked.code == 3 && asked.stderr.contains("ADOPT-0001") && asked.stdout.contains("prevote #9/0"),
        "{asked:?}"
    );
    let dry = ledger(&stage, "adopt --dry-run --i-accept-double-sign-risk");
    assert!(dry.code == 0 && dry.stderr.contains("Would adopt"), "{dry:?}");
    assert!(stage.read("ledger/host").contains("0123456789abcdef"));
    let done = ledger(&stage, "adopt --i-accept-double-sign-risk");
    assert!(done.code == 0 && done.stderr.contains("Adopted"), "{done:?}");
    assert!(stage.read("ledger/host").contains(&own));
    let (signer, mut remote) = start(&stage);
    signer.said("this key signs nothing yet: the ledger was adopted from another host");
    refusal(remote.sign_vote(&prevote(9, 2)));
    assert!(refusal(remote.sign_vote(&prevote(12, 2))).1.contains("GUARD-0007"));
    remote.sign_vote(&prevote(16, 2)).unwrap();
}
