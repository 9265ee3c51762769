//! Canonical sign bytes: the bytes under every signature.
//!
//! Follows CometBFT's `types/canonical.go` (protobuf family) and Tendermint v0.33 (amino family): varint length, then the
//! canonical message; zero values are absent, the time is always present, a nil block id is absent. This is an encoder of the
//! node's own, apart from the signer's, so that a mistake in either shows as a bad signature instead of as agreement.

use super::{
    block::{BlockId, Height, Round, Time},
    vote::{Proposal, Vote, VoteKind},
};

/// The two ways of encoding what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// v0.33 and older.
    Amino,
    /// v0.34 and later.
    Protobuf,
}

/// Sign bytes of a vote.
pub fn vote_sign_bytes(encoding: Encoding, chain: &str, vote: &Vote) -> Vec<u8> {
    let mut body = Vec::with_capacity(192);
    let kind = match vote.kind {
        VoteKind::Prevote => 1,
        VoteKind::Precommit => 2,
    };
    field_varint(&mut body, 0x08, kind);
    field_fixed(&mut body, 0x11, vote.height.0);
    field_fixed(&mut body, 0x19, u64::from(vote.round.0));
    if let Some(block) = &vote.block {
        field_bytes(&mut body, 0x22, &block_id(encoding, block));
    }
    field_bytes(&mut body, 0x2a, &timestamp(vote.time));
    field_bytes_nonempty(&mut body, 0x32, chain.as_bytes());
    delimited(&body)
}

/// Sign bytes of a proposal.
pub fn proposal_sign_bytes(encoding: Encoding, chain: &str, proposal: &Proposal) -> Vec<u8> {
    let mut body = Vec::with_capacity(192);
    field_varint(&mut body, 0x08, 32);
    field_fixed(&mut body, 0x11, proposal.height.0);
    field_fixed(&mut body, 0x19, u64::from(proposal.round.0));
    // −1, "no proof of lock", is all ones in either encoding.
    let pol_round = proposal.pol_round.map_or(u64::MAX, |round| u64::from(round.0));
    match encoding {
        Encoding::Amino => field_fixed(&mut body, 0x21, pol_round),
        Encoding::Protobuf => field_varint(&mut body, 0x20, pol_round),
    }
    field_bytes(&mut body, 0x2a, &block_id(encoding, &proposal.block));
    field_bytes(&mut body, 0x32, &timestamp(proposal.time));
    field_bytes_nonempty(&mut body, 0x3a, chain.as_bytes());
    delimited(&body)
}

/// Sign bytes of a vote extension (v0.38 and later).
pub fn extension_sign_bytes(chain: &str, height: Height, round: Round, extension: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(extension.len().saturating_add(96));
    field_bytes_nonempty(&mut body, 0x0a, extension);
    field_fixed(&mut body, 0x11, height.0);
    field_fixed(&mut body, 0x19, u64::from(round.0));
    field_bytes_nonempty(&mut body, 0x22, chain.as_bytes());
    delimited(&body)
}

fn block_id(encoding: Encoding, id: &BlockId) -> Vec<u8> {
    let mut parts = Vec::with_capacity(40);
    match encoding {
        Encoding::Amino => {
            field_bytes(&mut parts, 0x0a, &id.parts_hash);
            field_varint(&mut parts, 0x10, u64::from(id.parts_total));
        }
        Encoding::Protobuf => {
            field_varint(&mut parts, 0x08, u64::from(id.parts_total));
            field_bytes(&mut parts, 0x12, &id.parts_hash);
        }
    }
    let mut out = Vec::with_capacity(80);
    field_bytes(&mut out, 0x0a, &id.hash);
    field_bytes(&mut out, 0x12, &parts);
    out
}

fn timestamp(time: Time) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    field_varint(&mut out, 0x08, time.seconds.cast_unsigned());
    field_varint(&mut out, 0x10, u64::from(time.nanos));
    out
}

fn delimited(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len().saturating_add(3));
    varint(&mut out, body.len() as u64);
    out.extend_from_slice(body);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field_varint(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        varint(out, value);
    }
}

fn field_fixed(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn field_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn field_bytes_nonempty(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        field_bytes(out, tag, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO_TIME: Time = Time { seconds: -62_135_596_800, nanos: 0 };

    fn nil(kind: VoteKind, height: u64, round: u32) -> Vote {
        let (height, round) = (Height(height), Round(round));
        Vote { kind, height, round, block: None, time: ZERO_TIME, validator: 0, extension: Vec::new() }
    }

    #[test]
    fn known_vote_of_the_field_has_the_known_bytes_in_both_encodings() {
        for encoding in [Encoding::Amino, Encoding::Protobuf] {
            let bytes = vote_sign_bytes(encoding, "", &nil(VoteKind::Precommit, 1, 1));
            assert_eq!(hex::encode(bytes), "2108021101000000000000001901000000000000002a0b088092b8c398feffffff01");
        }
    }

    #[test]
    fn a_block_id_is_laid_out_by_its_encoding() {
        let id = BlockId { hash: [1; 32], parts_total: 3, parts_hash: [2; 32] };
        let amino = hex::encode(block_id(Encoding::Amino, &id));
        let protobuf = hex::encode(block_id(Encoding::Protobuf, &id));
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        assert_eq!(amino, format!("0a20{one}12240a20{two}1003"));
        assert_eq!(protobuf, format!("0a20{one}122408031220{two}"));
    }

    #[test]
    fn a_proposal_has_its_missing_pol_round_as_minus_one() {
        let block = BlockId { hash: [1; 32], parts_total: 1, parts_hash: [2; 32] };
        let time = Time { seconds: 0, nanos: 0 };
        let proposal = Proposal { height: Height(1), round: Round(0), pol_round: None, block, time };
        let protobuf = hex::encode(proposal_sign_bytes(Encoding::Protobuf, "c", &proposal));
        let amino = hex::encode(proposal_sign_bytes(Encoding::Amino, "c", &proposal));
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let head = "0820110100000000000000";
        // The epoch is present and empty; round 0 is absent.
        let tail = "32003a0163";
        assert_eq!(protobuf, format!("65{head}20ffffffffffffffffff012a480a20{one}122408011220{two}{tail}"));
        assert_eq!(amino, format!("63{head}21ffffffffffffffff2a480a20{one}12240a20{two}1001{tail}"));
    }

    #[test]
    fn an_extension_is_signed_with_its_place_and_chain() {
        let bytes = extension_sign_bytes("test_chain_id", Height(1), Round(0), b"ext");
        assert_eq!(hex::encode(bytes), "1d0a03657874110100000000000000220d746573745f636861696e5f6964");
    }
}
