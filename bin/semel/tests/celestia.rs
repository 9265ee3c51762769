//! Celestia's raw bytes: signed under a prefix of their own, for the node's own chain, and never in the place of a vote.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod stage;

use ed25519_dalek::{Signature, SigningKey, Verifier};
use semel_devnet_tendermint::consensus::Encoding;
use semel_devnet_tendermint::consensus::canonical::vote_sign_bytes;
use semel_devnet_tendermint::privval::{Family, Remote};
use stage::{CHAIN, Stage, called, node, prevote};

/// Field `number` with these bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 128);
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

fn request(chain: &str, raw: &[u8], id: &str) -> Vec<u8> {
    [field(1, chain.as_bytes()), field(2, raw), field(3, id.as_bytes())].concat()
}

/// Asks with request 9; the signature, or the words of the refusal.
fn ask(remote: &mut Remote, body: &[u8]) -> Result<Vec<u8>, String> {
    let len = body.len();
    let head = if len < 128 { vec![0x4a, len as u8] } else { vec![0x4a, len as u8 | 0x80, (len >> 7) as u8] };
    remote.send(&[head, body.to_vec()].concat()).unwrap();
    let answer = remote.receive().unwrap().to_vec();
    assert_eq!(answer[0], 0x52, "{answer:02x?}");
    match answer[2..] {
        [0x0a, 64, ..] => Ok(answer[4..].to_vec()),
        _ => Err(String::from_utf8_lossy(&answer).into_owned()),
    }
}

#[test]
fn bytes_of_an_application_are_signed_under_their_prefix_and_nothing_else_is() {
    let stage = Stage::new();
    let node = node(Family::V038);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = called(&node);
    let public = SigningKey::from_bytes(&[1; 32]).verifying_key();
    let body = request(CHAIN, b"some bytes", "blob");
    let signature = ask(&mut remote, &body).unwrap();
    let message = [&b"COMET::RAW_BYTES::SIGN"[..], &[body.len() as u8], &body].concat();
    public.verify(&message, &Signature::from_slice(&signature).unwrap()).unwrap();
    assert_eq!(ask(&mut remote, &body).unwrap(), signature, "asked again, the same");
    signer.said("signed RawBytes:blob (10 bytes)");
    // A vote in the place of the bytes is signed as bytes, and is no signature of the vote.
    let vote = vote_sign_bytes(Encoding::Protobuf, CHAIN, &prevote(9, 1));
    let signature = ask(&mut remote, &request(CHAIN, &vote, "blob")).unwrap();
    assert!(public.verify(&vote, &Signature::from_slice(&signature).unwrap()).is_err());
    for refused in [
        request("other-1", b"x", "blob"),
        request(CHAIN, b"", "blob")[..].to_vec(),
        [field(1, CHAIN.as_bytes()), field(2, b"x")].concat(),
        field(1, &vote),
        vec![],
    ] {
        let words = ask(&mut remote, &refused).unwrap_err();
        assert!(words.contains("they could be a vote"), "{words}");
    }
    remote.sign_vote(&prevote(9, 1)).unwrap();
}
