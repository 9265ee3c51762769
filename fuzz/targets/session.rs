//! What a session makes of a request: to sign are only positions of this chain that exist, over bytes that say the same; every refusal
//! is a reply that a node reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_fuzz::{Input, undelimited};
use semel_guard::{Algorithm, ChainId, Domain, Position, PublicKey, Signature, Step};
use semel_kms::core::raw_bytes::{Dialect, RawBytes, may_be_canonical};
use semel_kms::core::session::{Extensions, Terms, ToSign, Verdict};
use semel_kms::core::sign_bytes::read;
use semel_kms::wire::{Family, REPLY_MAX, Request, Response, SignedType};

fn key(algorithm: Algorithm) -> PublicKey {
    let bytes: &[u8] = match algorithm {
        Algorithm::Secp256k1 => &[2; 33],
        _ => &[3; 32],
    };
    PublicKey::new(algorithm, bytes).expect("as long as such keys are")
}

/// The same request a second later.
fn later(request: &Request) -> Option<Request> {
    let mut request = request.clone();
    let seconds = match &mut request {
        Request::SignVote { vote, .. } => &mut vote.timestamp.seconds,
        Request::SignProposal { proposal, .. } => &mut proposal.timestamp.seconds,
        _ => return None,
    };
    *seconds = seconds.checked_add(1)?;
    Some(request)
}

fn check(terms: &Terms, family: Family, request: &Request, to_sign: &ToSign) {
    let step = match to_sign.kind {
        SignedType::Proposal => Step::Propose,
        SignedType::Prevote => Step::Prevote,
        SignedType::Precommit => Step::Precommit,
    };
    let height = u64::try_from(to_sign.height).expect("a height is positive");
    let round = u32::try_from(to_sign.round).expect("a round is not negative");
    assert!(height >= 1 && round <= i32::MAX.cast_unsigned());
    assert!(terms.max_height.is_none_or(|max| height <= max));
    assert_eq!(to_sign.position, Position::Tendermint { height, round, step });
    let (chain_id, kind, asked, asked_round, timestamp) = match request {
        Request::SignVote { vote, chain_id, .. } => (chain_id, vote.kind, vote.height, vote.round, vote.timestamp),
        Request::SignProposal { proposal, chain_id } => {
            (chain_id, proposal.kind, proposal.height, proposal.round, proposal.timestamp)
        }
        other => panic!("{other:?} is nothing to sign"),
    };
    assert_eq!((kind, asked, asked_round), (to_sign.kind.code(), to_sign.height, to_sign.round));
    assert!(family == Family::Amino || *chain_id == terms.chain_id);
    let canonical = read(&to_sign.sign_bytes.bytes).expect("sign bytes read back");
    assert_eq!(
        (canonical.kind, canonical.height, canonical.round, &canonical.block_id, canonical.timestamp),
        (to_sign.kind, to_sign.height, to_sign.round, to_sign.block_id(), timestamp)
    );
    assert_eq!(canonical.chain_id, terms.chain_id);
    let for_block = to_sign.kind == SignedType::Precommit && !to_sign.block_id().is_nil();
    assert!(!to_sign.with_extension || for_block && family == Family::Protobuf);
    assert!(for_block || to_sign.extension().is_empty());
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let family = input.family();
    let Ok(request) = Request::decode(family, input.rest) else { return };
    let chain_id = match &request {
        Request::SignVote { chain_id, .. } | Request::SignProposal { chain_id, .. } if input.flag(3) => {
            chain_id.clone()
        }
        _ => "semel-1".to_owned(),
    };
    let terms = Terms {
        chain_id,
        public_key: key(if input.flag(4) { Algorithm::Secp256k1 } else { Algorithm::Ed25519 }),
        max_height: input.flag(2).then_some(1_000_000),
        raw_bytes: RawBytes {
            dialect: if input.flag(5) { Dialect::V1 } else { Dialect::Auto },
            domains: vec![Domain::new("TEST").expect("a domain")],
        },
        extensions: if input.flag(1) { Extensions::Filled } else { Extensions::Always },
    };
    let reply = match terms.decide(family, request.clone()) {
        Verdict::Reply(response) => response,
        Verdict::Refuse(response) => {
            let is_error = matches!(
                &response,
                Response::PubKey(Err(_))
                    | Response::SignedVote(Err(_))
                    | Response::SignedProposal(Err(_))
                    | Response::SignedBytes(Err(_))
            );
            assert!(is_error, "{response:?}");
            response
        }
        Verdict::SignBytes(wanted) => {
            let chain = ChainId::new(&terms.chain_id).expect("a chain id");
            let bytes = wanted.message(&chain).bytes();
            assert!(read(&bytes).is_err() && !may_be_canonical(&bytes), "a vote is signed as bytes");
            Response::SignedBytes(Ok(vec![9; 64]))
        }
        Verdict::Sign(to_sign) => {
            check(&terms, family, &request, &to_sign);
            // A second later it is the same question, and the reply to it carries the first timestamp.
            if let Some(Verdict::Sign(later)) = later(&request).map(|later| terms.decide(family, later)) {
                assert_eq!(later.sign_bytes.content, to_sign.sign_bytes.content);
                assert_ne!(later.sign_bytes.bytes, to_sign.sign_bytes.bytes);
                let signature = Signature::new(&[9; 64]).expect("64 bytes");
                let extension = to_sign.with_extension.then_some(&signature);
                let first = to_sign.sign_bytes.bytes.clone();
                let repeated = later.signed(&first, &signature, extension);
                assert_eq!(repeated, to_sign.clone().signed(&first, &signature, extension));
            }
            to_sign.refused(2, "no".into())
        }
    };
    let encoded = reply.encode(family);
    assert!(encoded.len() <= REPLY_MAX, "a reply of {} bytes", encoded.len());
    // Amino has no message for raw bytes, and never asks for them.
    if family == Family::Protobuf || !matches!(reply, Response::SignedBytes(_)) {
        let read = Response::decode(family, &undelimited(&encoded));
        assert_eq!(read, Ok(reply));
    }
});
