//! The conformance suite, on every ledger of this crate.

use semel_ledger::conformance::{Reopened, run};
use semel_ledger::memory::MemoryLedger;
use semel_ledger::{Durability, Journal, Options};
use std::sync::Arc;

fn run_journal(durability: Durability, witness: Option<&str>) {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str, subjects: &[semel_guard::Subject]| -> Arc<dyn semel_guard::Ledger> {
        let options = Options {
            durability,
            allow_volatile: true,
            witness: witness.map(Into::into),
            // So short that they change in the middle of most cases.
            segment_records: 64,
            ..Options::at(directory.path().join(name))
        };
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
    run_journal(Durability::Reserve { heights: 8 }, Some("/dev/shm"));
}

#[test]
fn the_ledger_in_memory_conforms() {
    run(&|_, _| Arc::new(MemoryLedger::new()), Reopened::Nothing);
}
