//! Sign bytes read back: they come from the ledger and from state files of other signers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_kms::core::sign_bytes::{proposal, read, vote};
use semel_kms::wire::{Family, Proposal, SignedType, Vote};

fuzz_target!(|data: &[u8]| {
    let Ok(canonical) = read(data) else { return };
    let (kind, height, round) = (canonical.kind.code(), canonical.height, canonical.round);
    let (block_id, timestamp) = (canonical.block_id.clone(), canonical.timestamp);
    // What was read, written again in either family, reads as the same.
    for family in [Family::Protobuf, Family::Amino] {
        let bytes = if canonical.kind == SignedType::Proposal {
            let message =
                Proposal { kind, height, round, block_id: block_id.clone(), timestamp, ..Proposal::default() };
            proposal(family, &message, &canonical.chain_id)
        } else {
            let message = Vote { kind, height, round, block_id: block_id.clone(), timestamp, ..Vote::default() };
            vote(family, &message, &canonical.chain_id)
        };
        assert_eq!(read(&bytes.bytes).as_ref(), Ok(&canonical), "{family:?}");
        // In amino, 1970 is left out, and the content is always written as protobuf.
        assert!(family == Family::Amino || bytes.content.len() < bytes.bytes.len());
    }
});
