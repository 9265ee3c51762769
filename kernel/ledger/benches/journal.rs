//! What an admission costs: from the question to the kept signature, with a key that signs at once.
//!
//! ```text
//! BENCH_DIR=/var/lib/semel cargo bench -p semel-ledger --bench journal
//! ```
//! One line per result: what, how many, p50, p99, p99.9, the longest, in microseconds. The floor is what the disk takes for one
//! record without a ledger: a write of 512 bytes into a preallocated file, and an fdatasync. It is measured in turns with
//! the admissions, so that all of them meet the same disk. BENCH_SECONDS: how long, in all (default 15).
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may stop, and prints its results")]

use semel_guard::{Algorithm, ChainId, Digest, Duty, Guard, Position, PublicKey, Signature, Step, Subject};
use semel_ledger::{Durability, Journal, Options, RECORD_LEN, RESERVE_HEIGHTS_DEFAULT};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Steps of one height that are measured in a row, before the next is.
const STEPS: [Step; 3] = [Step::Propose, Step::Prevote, Step::Precommit];

/// Pause after each height: on a real chain, what runs in the background is over long before the next one.
const PAUSE: Duration = Duration::from_millis(2);

/// Bytes of the preallocated file of the floor; as a segment of the ledger.
const FILE_LEN: usize = 2 << 20;

/// What is measured, and the times it took.
struct Series {
    name: &'static str,
    times: Vec<Duration>,
}

impl Series {
    fn new(name: &'static str) -> Self {
        Self { name, times: Vec::new() }
    }

    fn measure(&mut self, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.times.push(start.elapsed());
    }

    fn print(&mut self) {
        self.times.sort_unstable();
        let count = self.times.len();
        let quantile = |per_mille: usize| {
            let index = (count * per_mille / 1000).min(count.saturating_sub(1));
            self.times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e6
        };
        let [half, most, nearly_all, longest] = [500, 990, 999, 1000].map(quantile);
        let name = self.name;
        println!("{name:<22} n={count:<7} p50={half:.1} p99={most:.1} p99.9={nearly_all:.1} max={longest:.1} us");
    }
}

/// The floor: one record without a ledger.
struct Raw {
    file: File,
    next: usize,
}

impl Raw {
    fn new(directory: &Path) -> Self {
        let file = File::create(directory.join("raw")).unwrap();
        file.write_all_at(&vec![0; FILE_LEN], 0).unwrap();
        file.sync_all().unwrap();
        Self { file, next: 0 }
    }

    fn write(&mut self) {
        self.file.write_all_at(&[1; RECORD_LEN], self.next as u64).unwrap();
        self.file.sync_data().unwrap();
        self.next = (self.next + RECORD_LEN) % FILE_LEN;
    }
}

fn open(directory: &Path, witness: Option<&Path>, durability: Durability, subject: &Subject) -> Guard<Journal> {
    let witness = witness.map(Path::to_path_buf);
    let options = Options { durability, witness, allow_volatile: true, ..Options::at(directory) };
    Guard::new(Journal::open(options, std::slice::from_ref(subject)).unwrap())
}

fn admit(guard: &Guard<Journal>, subject: &Subject, height: u64, step: Step) {
    // As long as a precommit with a long chain id.
    let mut bytes = [7; 120];
    bytes.iter_mut().zip(height.to_le_bytes()).for_each(|(to, from)| *to = from);
    let duty = Duty::new(subject, Position::Tendermint { height, round: 0, step }, &bytes).unwrap();
    let signature = Signature::new(&[9; 64]).unwrap();
    let answer = guard.admit(&duty, |permit, bytes| {
        assert_eq!(permit.digest(), Digest::of(bytes));
        Ok(signature)
    });
    assert!(!answer.unwrap().repeated);
}

fn main() {
    // A test run starts every target; only `cargo bench` wants the numbers.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let parent =
        std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let seconds = std::env::var("BENCH_SECONDS").map_or(15.0, |text| text.parse().unwrap());
    let directory = tempfile::tempdir_in(&parent).unwrap();
    let key = PublicKey::new(Algorithm::Ed25519, &[1; 32]).unwrap();
    let subject = Subject { key, chain: ChainId::new("bench-1").unwrap() };
    let witness = tempfile::tempdir_in("/dev/shm").ok();
    let witness = witness.as_ref().map(tempfile::TempDir::path);
    let sync = open(&directory.path().join("sync"), witness, Durability::Sync, &subject);
    let reserve = Durability::Reserve { heights: RESERVE_HEIGHTS_DEFAULT };
    let reserve = open(&directory.path().join("reserve"), witness, reserve, &subject);
    let mut raw = Raw::new(directory.path());
    let mut floor = Series::new("write 512 + fdatasync");
    let mut in_sync = Series::new("admit + keep, sync");
    let mut in_reserve = Series::new("admit + keep, reserve");
    println!("in {}, for {seconds} s", parent.display());
    let start = Instant::now();
    for height in 1.. {
        for step in STEPS {
            floor.measure(|| raw.write());
            in_sync.measure(|| admit(&sync, &subject, height, step));
            in_reserve.measure(|| admit(&reserve, &subject, height, step));
        }
        if start.elapsed().as_secs_f64() > seconds {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    [&mut floor, &mut in_sync, &mut in_reserve].into_iter().for_each(Series::print);
    for guard in [sync, reserve] {
        let status = guard.ledger().status();
        assert_eq!(status.failed, None);
        guard.ledger().close().unwrap();
    }
}
