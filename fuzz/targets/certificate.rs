//! Certificates of an aggregator that anybody may run: whatever decodes is judged without an end of the program, and one that holds alone has
//! the hash of its content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_aggregator::core::certificates::{verify_alone, verify_link};
use semel_aggregator::wire::certificate::decode;

fuzz_target!(|data: &[u8]| {
    let Ok(certificate) = decode(data) else { return };
    let alone = verify_alone(&certificate);
    if alone.is_ok() {
        assert_eq!(certificate.try_compute_hash().ok().as_ref(), Some(&certificate.hash));
    }
    // It never continues itself.
    assert!(certificate.previous_hash != certificate.hash || alone.is_err());
    let _judged = verify_link(&certificate, &certificate);
});
