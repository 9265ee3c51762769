//! A configuration file: whatever stands in it, every finding has a place in it and can be shown, and a file without an error is read
//! without one again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_kms::face::config::{Look, examine};
use semel_ops::config::{Diagnostics, Source};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let checked = examine(&[Source::new("tmkms.toml", text)], Look::Text, Diagnostics::new());
    assert_eq!(checked.configs.is_empty(), checked.found.has_errors());
    let shown = checked.found.to_string();
    assert_eq!(shown.is_empty(), checked.found.is_empty());
    let _is_json = checked.found.to_json();
    // Two tenants with one file share everything, and that is found, not a panic.
    let twice = [Source::new("a.toml", text), Source::new("b.toml", text)];
    let twice = examine(&twice, Look::Text, Diagnostics::new());
    assert!(!checked.found.has_errors() || twice.found.has_errors());
});
