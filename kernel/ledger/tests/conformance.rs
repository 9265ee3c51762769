//! The conformance suite, on every ledger of this crate.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod scene;

use scene::{at, witness_directory};
use semel_ledger::conformance::{Reopened, run};
use semel_ledger::memory::MemoryLedger;
use semel_ledger::{Durability, Journal, Options};
use std::path::Path;
use std::sync::Arc;

fn run_journal(durability: Durability, witness: Option<&Path>) {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str, subjects: &[semel_guard::Subject]| -> Arc<dyn semel_guard::Ledger> {
        let options =
            Options { witness: witness.map(Path::to_path_buf), ..at(&directory.path().join(name), durability) };
        Arc::new(Journal::open(options, subjects).unwrap())
    };
    run(&open, Reopened::Everything);
}

#[test]
fn the_journal_conforms_in_sync_mode() {
    run_journal(Durability::Sync, None);
}

#[test]
fn the_journal_conforms_in_reserve_mode() {
    run_journal(Durability::Reserve { heights: 8 }, None);
}

#[test]
fn the_journal_conforms_in_reserve_mode_with_a_witness() {
    let Some(witness) = witness_directory("the_journal_conforms_in_reserve_mode_with_a_witness") else { return };
    run_journal(Durability::Reserve { heights: 8 }, Some(witness.path()));
}

#[test]
fn the_ledger_in_memory_conforms() {
    run(&|_, _| Arc::new(MemoryLedger::new()), Reopened::Nothing);
}
