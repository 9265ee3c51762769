//! A ledger whose segments were changed, or put together by somebody who can compute checksums: it opens or it is refused; what
//! opens signs one message at a position, also after it was opened once more, and where no checksum was mended it has lost nothing.
//!
//! An input: bit 0 of the first byte mends checksums, bit 1 the chain of hashes, too; bit 2 opens with `reserve`; bit 3 gives the
//! rest as the whole of the first segment. Else the rest are changes of 5 bytes: file, slot, place (2), value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_fuzz::disk::{Files, MemoryDisk};
use semel_guard::{
    Algorithm, ChainId, Digest, Duty, Guard, Lane, Ledger, Mark, Position, PublicKey, SignError, Signature, Step,
    Subject,
};
use semel_ledger::{Durability, HostIdentity, Journal, LedgerError, Options, RECORD_LEN};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const DIRECTORY: &str = "/ledger";
const CRC: usize = RECORD_LEN - 4;
const PREVIOUS: usize = CRC - 16;

/// Heights that the ledger holds before it is changed: some segments are used up.
const HEIGHTS: u64 = 40;

fn subjects() -> [Subject; 2] {
    [1, 2].map(|n| Subject {
        key: PublicKey::new(Algorithm::Ed25519, &[n; 32]).expect("32 bytes"),
        chain: ChainId::new("test-1").expect("a chain id"),
    })
}

fn open(disk: &MemoryDisk, durability: Durability) -> Result<Journal, LedgerError> {
    let options = Options {
        durability,
        host: Some(HostIdentity::from_text("here")),
        disk: Arc::new(disk.clone()),
        witness: None,
        check: false,
        segment_records: 16,
        ..Options::at(DIRECTORY)
    };
    Journal::open(options, &subjects())
}

fn ask(guard: &Guard<Journal>, subject: &Subject, position: Position, text: &str) -> bool {
    let signature = |bytes: &[u8]| Signature::new(&[Digest::of(bytes).0; 2].concat()).expect("64 bytes");
    let duty = Duty::new(subject, position, text.as_bytes()).expect("a short message");
    guard.admit(&duty, |_permit, bytes| -> Result<_, SignError> { Ok(signature(bytes)) }).is_ok()
}

fn floors(journal: &Journal) -> [Option<Mark>; 2] {
    subjects().map(|subject| journal.history(&subject, Lane::Tendermint).ok().and_then(|history| history.floor))
}

/// A ledger that is whole, and its floors.
fn whole() -> &'static (Files, [Option<Mark>; 2]) {
    static WHOLE: OnceLock<(Files, [Option<Mark>; 2])> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let disk = MemoryDisk::default();
        let journal = open(&disk, Durability::Sync).expect("an empty disk is fine");
        let guard = Guard::new(journal.clone());
        for height in 1..=HEIGHTS {
            for subject in &subjects() {
                let position = Position::Tendermint { height, round: 0, step: Step::Precommit };
                assert!(ask(&guard, subject, position, "block"));
            }
        }
        let floors = floors(&journal);
        assert!(floors.iter().all(Option::is_some));
        (disk.files(), floors)
    })
}

fn segments(files: &Files) -> Vec<PathBuf> {
    let is_segment = |path: &&PathBuf| path.display().to_string().contains("segment-");
    files.keys().filter(is_segment).cloned().collect()
}

/// Makes checksums right, and on request what each record says of the one before it.
fn mend(segment: &mut [u8], chain: bool) {
    let mut previous: Option<[u8; 16]> = None;
    for slot in segment.chunks_exact_mut(RECORD_LEN).filter(|slot| slot.starts_with(b"SML1")) {
        if let Some(previous) = previous.filter(|_| chain) {
            slot[PREVIOUS..CRC].copy_from_slice(&previous);
        }
        let crc = crc32c::crc32c(&slot[..CRC]);
        slot[CRC..].copy_from_slice(&crc.to_le_bytes());
        previous = Sha256::digest(&*slot).first_chunk().copied();
    }
}

fn is_empty(slot: &[u8]) -> bool {
    slot.iter().all(|byte| *byte == 0)
}

fuzz_target!(|data: &[u8]| {
    let Some((flags, rest)) = data.split_first() else { return };
    let flag = |bit: u8| flags & 1 << bit != 0;
    let (good, before) = whole();
    let mut files = good.clone();
    let segments = segments(&files);
    if flag(3) {
        let first = files.get_mut(&segments[0]).expect("it is there");
        let len = rest.len().min(first.len());
        first[..len].copy_from_slice(&rest[..len]);
    }
    let changes = if flag(3) { &[] } else { rest };
    for change in changes.chunks_exact(5) {
        let [file, slot, low, high, value] = *change else { continue };
        let path = match usize::from(file) {
            255 => Path::new(DIRECTORY).join("host"),
            file => segments[file % segments.len()].clone(),
        };
        let place = usize::from(slot) * RECORD_LEN + usize::from(u16::from_le_bytes([low, high])) % RECORD_LEN;
        if let Some(byte) = files.get_mut(&path).and_then(|bytes| bytes.get_mut(place)) {
            *byte = value;
        }
    }
    let is_forged = flag(0) || flag(1);
    if is_forged {
        for segment in &segments {
            mend(files.get_mut(segment).expect("it is there"), flag(1));
        }
    }
    // A record that is gone as if it had never been written is no damage that can be seen in each place.
    let is_emptied = segments.iter().any(|path| {
        let slots = good[path].chunks_exact(RECORD_LEN).zip(files[path].chunks_exact(RECORD_LEN));
        slots.into_iter().any(|(before, after)| !is_empty(before) && is_empty(after))
    });
    let is_whole = files == *good;
    let disk = MemoryDisk::holding(files);
    let durability = if flag(2) { Durability::Reserve { heights: 8 } } else { Durability::Sync };
    let journal = match open(&disk, durability) {
        Ok(journal) => journal,
        Err(error) => {
            assert!(!is_whole, "nothing was changed, and it does not open: {error}");
            assert!(!error.code().is_empty() && !error.hint().is_empty() && !error.to_string().is_empty());
            return;
        }
    };
    let after = floors(&journal);
    if !is_forged && !is_emptied {
        assert!(after[0] >= before[0] && after[1] >= before[1], "{after:?} is below {before:?}");
    }
    let guard = Guard::new(journal.clone());
    for (subject, floor) in subjects().iter().zip(after) {
        let Mark([height, ..]) = floor.unwrap_or_default();
        let next = Position::Tendermint { height: height.saturating_add(1), round: 0, step: Step::Propose };
        let (first, second) = (ask(&guard, subject, next, "a block"), ask(&guard, subject, next, "another block"));
        assert!(!(first && second), "two messages at {next:?}");
        assert!(is_forged || first, "it opens, and signs nothing at {next:?}");
    }
    let last = floors(&journal);
    let closed = journal.close();
    drop((guard, journal));
    if closed.is_ok() && !is_forged {
        let again = open(&disk, durability).map(|journal| (floors(&journal), journal.close()));
        let (again, _) = again.unwrap_or_else(|error| panic!("what it wrote does not open: {error}"));
        assert!(again[0] >= last[0] && again[1] >= last[1], "{again:?} is below {last:?}");
    }
});
