//! What the tests of the ledger share: keys, duties, and a way to skip loudly.
#![expect(dead_code, reason = "each test binary uses a part of it")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop, and says why it does not run"
)]

use semel_guard::{
    Algorithm, Answer, ChainId, Denied, Digest, Duty, Guard, Ledger, Position, PublicKey, Reason, SignError, Signature,
    Step, Subject,
};
use semel_ledger::{Durability, Options};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Key number `n`, on a chain.
pub(crate) fn subject(n: u8) -> Subject {
    let key = PublicKey::new(Algorithm::Ed25519, &[n; 32]).unwrap();
    Subject { key, chain: ChainId::new("test-1").unwrap() }
}

/// A precommit.
pub(crate) fn precommit(height: u64) -> Position {
    Position::Tendermint { height, round: 0, step: Step::Precommit }
}

/// What the key makes of a message: the same for the same message.
pub(crate) fn signature_of(bytes: &[u8]) -> Signature {
    Signature::new(&[Digest::of(bytes).0, Digest::of(b"second half").0].concat()).unwrap()
}

/// Asks for a signature over `text` at `position`.
pub(crate) fn ask<L: Ledger>(
    guard: &Guard<L>,
    subject: &Subject,
    position: Position,
    text: &str,
) -> Result<Answer, Denied> {
    let duty = Duty::new(subject, position, text.as_bytes()).unwrap();
    guard.admit(&duty, |_permit, bytes| -> Result<_, SignError> { Ok(signature_of(bytes)) })
}

/// Why nothing was signed; None: it was.
pub(crate) fn refusal<T>(asked: Result<T, Denied>) -> Option<Reason> {
    match asked {
        Ok(_) => None,
        Err(Denied::Refused(refusal)) => Some(refusal.reason),
        Err(other) => panic!("neither signed nor refused: {other}"),
    }
}

/// This test binary once more, as another process in which `test` finds its role in the environment. It is killed, at the
/// latest, when this is dropped.
pub(crate) struct Process {
    child: Child,
    /// What it says.
    pub(crate) out: Option<ChildStdout>,
}

impl Process {
    /// Starts it.
    pub(crate) fn start(test: &str, (variable, role): (&str, &str)) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(variable, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take();
        Self { child, out }
    }

    /// `kill -9`; returns once it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Says something to the process that started this one.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // Whoever read it may be gone; then nobody counts on it.
    let _written = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
}

/// Says that a test cannot run here, and lets the count know.
pub(crate) fn skip(name: &str, reason: &str) {
    println!("SKIP: {name}: {reason}");
    if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        // In one piece: other tests write there, too.
        file.write_all(format!("{name}: {reason}\n").as_bytes()).unwrap();
    }
}

/// A ledger on the disk of this host, whatever its file system, without a witness. Its segments are so short that they change
/// in the middle of most tests.
pub(crate) fn at(directory: &Path, durability: Durability) -> Options {
    Options { durability, allow_volatile: true, witness: None, segment_records: 64, ..Options::at(directory) }
}

/// A directory of its own for a witness, where there is a file system that forgets.
pub(crate) fn witness_directory(test: &str) -> Option<tempfile::TempDir> {
    let directory = tempfile::tempdir_in("/dev/shm").ok();
    if directory.is_none() {
        skip(test, "no directory can be made in /dev/shm");
    }
    directory
}

/// Seed number `n` of a test, which SEMEL_SEED shifts to others.
pub(crate) fn seed(n: u64) -> u64 {
    let shift = std::env::var("SEMEL_SEED").map_or(0, |text| text.parse::<u64>().unwrap());
    n.wrapping_add(shift.wrapping_mul(1 << 32))
}

/// Small, seeded, good enough to choose faults.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// The next number (SplitMix64).
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }
}
