//! Replies of a signer, as a node reads them: whatever decodes says the same once it is encoded and decoded again, but for
//! a vote extension that would make the reply longer than a node reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_fuzz::undelimited;
use semel_kms::wire::{Family, REPLY_MAX, Response};

fuzz_target!(|data: &[u8]| {
    for family in [Family::Protobuf, Family::Amino] {
        let Ok(mut response) = Response::decode(family, data) else { continue };
        let encoded = response.encode(family);
        let again = Response::decode(family, &undelimited(&encoded));
        if let (Response::SignedVote(Ok(vote)), Ok(Response::SignedVote(Ok(read)))) = (&mut response, &again)
            && read.extension.is_empty()
            && !vote.extension.is_empty()
        {
            let with_extension = encoded.len() + vote.extension.len() + 8;
            assert!(with_extension > REPLY_MAX, "an extension was left out of {with_extension} bytes");
            vote.extension.clear();
        }
        assert_eq!(again.as_ref(), Ok(&response), "{family:?}");
    }
});
