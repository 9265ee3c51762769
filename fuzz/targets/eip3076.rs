//! EIP-3076 interchange files of anybody: what is read says the same once it is written and read again, and its minimal form
//! closes what it closes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_guard::Lane;
use semel_ledger::interchange::eip3076::Interchange;

fuzz_target!(|data: &[u8]| {
    let Ok(interchange) = Interchange::parse(data) else { return };
    let again = Interchange::parse(interchange.render().as_bytes());
    assert_eq!(again.as_ref().ok(), Some(&interchange));
    let minimal = interchange.minified();
    for record in &interchange.records {
        for (lane, floor) in record.floors() {
            let same = minimal.records.iter().filter(|other| other.key == record.key);
            let closed = same
                .flat_map(|other| other.floors())
                .any(|(other, kept)| other == lane && lane.higher(kept, floor) == kept);
            assert!(closed, "{lane} {floor:?} is open in {minimal:?}");
            assert_ne!(lane, Lane::Tendermint);
        }
    }
});
