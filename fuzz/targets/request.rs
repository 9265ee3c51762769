//! Requests of a node: whatever decodes says the same once it is encoded and decoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_fuzz::undelimited;
use semel_kms::wire::{Family, Request, family_of};

fuzz_target!(|data: &[u8]| {
    for family in [Family::Protobuf, Family::Amino] {
        let Ok(request) = Request::decode(family, data) else { continue };
        let message = undelimited(&request.encode(family));
        assert_eq!(Request::decode(family, &message).as_ref(), Ok(&request), "{family:?}");
        // A session takes its family from the first message. It must not be the other one. (The fields of a request for bytes are kept
        // unread, and four of them can spell what an amino message begins with; nothing that a node sends first.)
        if !matches!(request, Request::Unknown { .. } | Request::SignBytes { .. }) {
            assert_eq!(family_of(&message), Some(family));
        }
    }
});
