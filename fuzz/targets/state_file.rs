//! `priv_validator_state.json` of any signer: what was read never reads as less once it is written, in any dialect; and in
//! ours nothing of it is lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_guard::Step;
use semel_ledger::interchange::{Dialect, StateFile};

fn position(state: &StateFile) -> (u64, u32, Option<Step>) {
    (state.height, state.round, state.step)
}

fn again(state: &StateFile, dialect: Dialect) -> StateFile {
    let text = state.render(dialect);
    StateFile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fuzz_target!(|data: &[u8]| {
    let Ok(state) = StateFile::parse(data) else { return };
    for dialect in [Dialect::Tmkms, Dialect::FilePv, Dialect::Horcrux] {
        let once = again(&state, dialect);
        assert!(position(&once) >= position(&state), "{dialect:?}: {once:?} is below {state:?}");
        let twice = again(&once, dialect);
        assert!(position(&twice) >= position(&once), "{dialect:?}: {twice:?} is below {once:?}");
        assert_eq!(again(&twice, dialect), twice, "{dialect:?}");
    }
    let ours = again(&state, Dialect::Tmkms);
    // A height without a step is written as the last one of its round.
    let step = state.step.or((state.height > 0).then_some(Step::Precommit));
    assert_eq!(ours, StateFile { step, dialect: Dialect::Tmkms, warnings: Vec::new(), ..state });
});
