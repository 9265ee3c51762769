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
    signer.said("signed RawBytes:blob");
    // A vote in the place of the bytes is signed as bytes, and is no signature of the vote.
    let vote = vote_sign_bytes(Encoding::Protobuf, CHAIN, &prevote(9, 1));
    let signature = ask(&mut remote, &request(CHAIN, &vote, "blob")).unwrap();
    assert!(public.verify(&vote, &Signature::from_slice(&signature).unwrap()).is_err());
    let refusals = [
        (request("other-1", b"x", "blob"), "they could be a vote"),
        (request(CHAIN, b"", "blob"), "they could be a vote"),
        ([field(1, CHAIN.as_bytes()), field(2, b"x")].concat(), "they could be a vote"),
        (field(1, &vote), "read as a message of consensus"),
        (field(1, b"TEST::bytes"), "allow_sign_bytes can name"),
        (vec![], "has no bytes"),
    ];
    for (body, words) in refusals {
        let refusal = ask(&mut remote, &body).unwrap_err();
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
    remote.sign_vote(&prevote(9, 1)).unwrap();
}

#[test]
fn bytes_of_v1_are_signed_behind_a_beginning_that_is_allowed() {
    let stage = Stage::new();
    let node = node(Family::V038);
    let config = stage.config(&[node.address().to_string()]);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[[validator]]", "[[validator]]\nallow_sign_bytes = [\"TEST::\"]")).unwrap();
    let signer = stage.start(&config);
    let mut remote = called(&node);
    let public = SigningKey::from_bytes(&[1; 32]).verifying_key();
    let signature = ask(&mut remote, &field(1, b"TEST::bytes")).unwrap();
    public.verify(b"TEST::bytes", &Signature::from_slice(&signature).unwrap()).unwrap();
    signer.said("signed RawBytes:TEST::");
    let vote = vote_sign_bytes(Encoding::Protobuf, CHAIN, &prevote(9, 1));
    for (bytes, words) in [(b"OTHER::bytes".as_slice(), "allow_sign_bytes"), (&vote, "a message of consensus")] {
        let refusal = ask(&mut remote, &field(1, bytes)).unwrap_err();
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
    remote.sign_vote(&prevote(9, 1)).unwrap();
}
