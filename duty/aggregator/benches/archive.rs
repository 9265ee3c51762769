//! Digests and archives of immutable files, beside `sha256sum` and `zstd` on the same files.
//!
//! ```text
//! BENCH_DB=/db BENCH_DIR=/var/tmp cargo bench -p semel-aggregator --bench archive
//! ```
//! BENCH_DB: a node's database (default: the 220 preview trios of the shared data). BENCH_DIR: where archives are written (default: the
//! system's temporary directory). BENCH_TURNS: how often each is measured, in turns (default 5); the fastest counts. One line per
//! result: seconds, MB/s of uncompressed bytes. The last line is ours over theirs, digests and archives together; the aim is 0.80.
//!
//! Theirs is `sha256sum` of all files, then `tar` of all into one `zstd -9 -T4`, which syncs nothing. Ours is the whole artifact
//! with the default settings (level 9, 4 workers): an archive per trio, each hashed on its way in and out, synced and read back.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may stop, and prints its results")]

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use mithril_common::entities::{CardanoDbBeacon, CardanoNetwork};
use semel_aggregator::host::artifact::{
    Compression, DatabaseMaker, Layout, LocalUploader, ManifestSigner, ManifestSigningError,
};
use semel_aggregator::host::immutable::{CachePolicy, Digester, Digests, ImmutableFiles, MemoryCache};
use semel_ops::shutdown::Stop;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Secret(SigningKey, VerifyingKey);

impl ManifestSigner for Secret {
    fn verification_key(&self) -> &VerifyingKey {
        &self.1
    }

    fn sign(&self, files: &[(&str, [u8; 32])]) -> Result<[u8; 64], ManifestSigningError> {
        let text: String = files.iter().map(|(path, hash)| format!("{path}{}", hex::encode(hash))).collect();
        Ok(self.0.sign(&Sha256::digest(text)).to_bytes())
    }
}

/// The files, and a ledger that costs next to nothing.
fn database(files: &ImmutableFiles, below: &Path) -> PathBuf {
    let db = below.join("db");
    let ledger = db.join("ledger/1");
    fs::create_dir_all(&ledger).unwrap();
    std::os::unix::fs::symlink(fs::canonicalize(files.directory()).unwrap(), db.join("immutable")).unwrap();
    fs::write(ledger.join("meta"), r#"{"backend":"utxohd-mem"}"#).unwrap();
    fs::write(ledger.join("state"), "").unwrap();
    fs::write(ledger.join("tables"), "").unwrap();
    db
}

fn shell(directory: &Path, script: &str) -> Duration {
    let started = Instant::now();
    let status = Command::new("sh").args(["-ec", script]).current_dir(directory).stdout(Stdio::null()).status();
    assert!(status.unwrap().success(), "{script}");
    started.elapsed()
}

fn digests(files: &ImmutableFiles, last: u64) -> (Digests, Duration) {
    let (cache, stop) = (MemoryCache::default(), Stop::new());
    let digester = Digester { cache: &cache, policy: CachePolicy::Off, stop: &stop };
    let started = Instant::now();
    let digests = digester.digests(files, last, &|_| {}).unwrap();
    (digests, started.elapsed())
}

fn archives(db: &Path, snapshots: &Path, digests: &Digests, last: u64) -> Duration {
    let _ = fs::remove_dir_all(snapshots);
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key();
    let maker = DatabaseMaker {
        db: db.to_path_buf(),
        network: CardanoNetwork::TestNet(2),
        node_version: "10.7.1".to_owned(),
        compression: Compression::default(),
        layout: Layout::open(snapshots).unwrap(),
        manifest: Arc::new(Secret(key, public)),
        uploaders: vec![Arc::new(LocalUploader::new("http://localhost"))],
        digests_route: String::new(),
    };
    let root = digests.merkle_root().unwrap();
    let started = Instant::now();
    maker.make(&CardanoDbBeacon::new(1, last), &root, digests, &Stop::new(), &|_| {}).unwrap();
    started.elapsed()
}

fn main() {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cardano/preview");
    let given = std::env::var_os("BENCH_DB").map_or_else(default, PathBuf::from);
    if !given.exists() {
        return println!("{} is absent", given.display());
    }
    let turns: u32 = std::env::var("BENCH_TURNS").ok().and_then(|turns| turns.parse().ok()).unwrap_or(5).max(1);
    let below = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let work = tempfile::tempdir_in(below).unwrap();
    let files = ImmutableFiles::list(&given).unwrap();
    let last = files.last_complete().unwrap();
    let db = database(&files, work.path());
    let names = files.complete_up_to(last).unwrap();
    let bytes: u64 = names.iter().map(|name| fs::metadata(files.directory().join(name)).unwrap().len()).sum();
    fs::write(work.path().join("names"), names.join("\n")).unwrap();
    let list = work.path().join("names");
    let sha256sum = format!("xargs sha256sum < {}", list.display());
    let zstd = format!("tar -c -T {} | zstd -9 -T4 -q -f -o {}/all.tar.zst", list.display(), work.path().display());
    let mut fastest = [Duration::MAX; 4];
    for _ in 0..turns {
        let (found, ours_digest) = digests(&files, last);
        let ours_archive = archives(&db, &work.path().join("snapshots"), &found, last);
        let theirs = [shell(files.directory(), &sha256sum), shell(files.directory(), &zstd)];
        for (best, time) in fastest.iter_mut().zip([ours_digest, ours_archive, theirs[0], theirs[1]]) {
            *best = time.min(*best);
        }
    }
    println!("{} files, {:.1} MB, {turns} turns", names.len(), bytes as f64 / 1e6);
    for (name, time) in ["semel digests", "semel archives", "sha256sum", "tar | zstd"].iter().zip(&fastest) {
        println!("{name:<16} {:.3} s  {:>7.0} MB/s", time.as_secs_f64(), bytes as f64 / 1e6 / time.as_secs_f64());
    }
    let ratio = (fastest[2] + fastest[3]).as_secs_f64() / (fastest[0] + fastest[1]).as_secs_f64();
    println!("together, ours over theirs: {ratio:.2}");
}
