//! What admission costs without a disk and without a key: `cargo bench -p semel-guard`.

use semel_guard::{
    Advance, Algorithm, ChainId, Digest, Duty, Entry, Guard, History, Lane, Ledger, Mark, Position, PublicKey, Refusal,
    Signature, Step, Subject, Unavailable, Version,
};
use std::hint::black_box;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Commits at once.
#[derive(Default)]
struct Memory(Mutex<Arc<History>>);

impl Ledger for Memory {
    fn history(&self, _: &Subject, _: Lane) -> Result<Arc<History>, Unavailable> {
        self.0.lock().map(|history| Arc::clone(&history)).map_err(|error| Unavailable(error.to_string()))
    }
    fn advance(&self, _: &Subject, lane: Lane, _: Version, entry: Entry) -> Advance {
        let Ok(mut history) = self.0.lock() else { return Advance::Unknown("poisoned".into()) };
        let history = Arc::make_mut(&mut history);
        history.push(lane, entry);
        Advance::Committed(history.version)
    }
    fn keep(&self, _: &Subject, _: Lane, mark: Mark, digest: Digest, signature: &Signature) {
        if let Ok(mut history) = self.0.lock() {
            Arc::make_mut(&mut history).keep(mark, digest, *signature);
        }
    }
    fn raise(&self, _: &Subject, _: Lane, _: Mark) -> Result<(), Unavailable> {
        Ok(())
    }
    fn bury(&self, _: &Subject, _: bool) -> Result<(), Unavailable> {
        Ok(())
    }
    fn refused(&self, _: &Refusal) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo test --benches` wants to know that it runs, not how fast.
    let rounds: u64 = if std::env::args().any(|argument| argument == "--bench") { 1_000_000 } else { 1_000 };
    let key = PublicKey::new(Algorithm::Ed25519, &[1; 32])?;
    let subject = Subject { key, chain: ChainId::new("cosmoshub-4")? };
    let signature = Signature::new(&[7; 64])?;
    let mut vote = [0x5a; 122];
    let content = [0xa5; 108];
    let mut out = std::io::stdout();
    let mut report = |what: &str, rounds: u64, start: Instant| {
        writeln!(out, "{what}: {:.0} ns", start.elapsed().as_nanos() as f64 / rounds as f64)
    };

    let start = Instant::now();
    for height in 1..=rounds {
        vote[..8].copy_from_slice(&height.to_le_bytes());
        let position = Position::Tendermint { height, round: 0, step: Step::Precommit };
        black_box(Duty::with_content(&subject, position, black_box(&vote), black_box(&content))?);
    }
    report("duty (two SHA-256)", rounds, start)?;

    let guard = Guard::new(Memory::default());
    let start = Instant::now();
    for height in 1..=rounds {
        vote[..8].copy_from_slice(&height.to_le_bytes());
        let position = Position::Tendermint { height, round: 0, step: Step::Precommit };
        let duty = Duty::with_content(&subject, position, &vote, &content)?;
        black_box(guard.admit(&duty, |_, _| Ok(signature))?);
    }
    report("admit, fresh, 16 answers known", rounds, start)?;

    let position = Position::Tendermint { height: rounds, round: 0, step: Step::Precommit };
    let start = Instant::now();
    for _ in 0..rounds {
        let duty = Duty::with_content(&subject, position, &vote, &content)?;
        black_box(guard.admit(&duty, |_, _| Ok(signature))?);
    }
    report("admit, repeat", rounds, start)?;

    let start = Instant::now();
    for _ in 0..rounds {
        let duty = Duty::new(&subject, position, &content)?;
        black_box(guard.admit(&duty, |_, _| Ok(signature)).is_err());
    }
    report("admit, conflict", rounds, start)?;
    Ok(())
}
