//! Blocks of a chain that nobody minted: what this network makes when the real ones are absent, at their end, or on a fork.
//!
//! They are Conway blocks with the real shape: header and transactions decode, hashes are BLAKE2b-256 of the bytes they cover,
//! the previous hash is the previous block's. VRF proofs and signatures are patterns: nobody here checks them.

use crate::block::Block;
use blake2::{Blake2b, Digest as _, digest::consts::U32};
use pallas_codec::minicbor::Encoder;
use pallas_codec::minicbor::data::Tag;
use std::convert::Infallible;
use std::sync::Arc;

type Bytes = Vec<u8>;

/// Slots between two blocks: 24 in an immutable file.
pub(crate) const SLOTS_BETWEEN: u64 = 180;

/// Tag of Conway in `[era, block]`.
const CONWAY: u8 = 7;

/// A block could not be encoded.
pub(crate) type MakeError = pallas_codec::minicbor::encode::Error<Infallible>;

/// The block after `parent`, or the first; `fork` makes it another one than that of another fork.
pub(crate) fn after(parent: Option<&Block>, fork: u64) -> Result<Block, MakeError> {
    let (number, slot) = match parent {
        Some(parent) => (parent.number + 1, (parent.slot / SLOTS_BETWEEN + 1) * SLOTS_BETWEEN),
        None => (0, 0),
    };
    let transactions = number % 4;
    let [mut bodies, mut witnesses] = [Bytes::new(), Bytes::new()];
    Encoder::new(&mut bodies).array(transactions)?;
    Encoder::new(&mut witnesses).array(transactions)?;
    for index in 0..transactions {
        transaction(&mut bodies, number, index, fork)?;
        Encoder::new(&mut witnesses).map(0)?;
    }
    let (auxiliary, invalid) = (vec![0xa0], vec![0x80]);
    let parts = [&bodies, &witnesses, &auxiliary, &invalid];
    let body_hash = hash(&parts.iter().flat_map(|part| hash(part)).collect::<Bytes>());
    let body_bytes: usize = parts.iter().map(|part| part.len()).sum();

    let mut header = Bytes::new();
    let mut e = Encoder::new(&mut header);
    e.array(2)?.array(10)?.u64(number)?.u64(slot)?;
    match parent {
        Some(parent) => e.bytes(&parent.hash)?,
        None => e.null()?,
    };
    e.bytes(&hash(&fork.to_be_bytes()))?.bytes(&hash(b"vrf"))?;
    e.array(2)?.bytes(&[1; 64])?.bytes(&[2; 80])?;
    e.u64(body_bytes as u64)?.bytes(&body_hash)?;
    e.array(4)?.bytes(&hash(b"hot"))?.u64(0)?.u64(0)?.bytes(&[3; 64])?;
    e.array(2)?.u8(9)?.u8(0)?;
    e.bytes(&[4; 448])?;

    let mut bytes = Bytes::new();
    Encoder::new(&mut bytes).array(2)?.u8(CONWAY)?.array(5)?;
    bytes.extend_from_slice(&header);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    Ok(Block { slot, number, hash: hash(&header), bytes: Arc::from(bytes) })
}

/// One input, one output, a fee.
fn transaction(into: &mut Bytes, number: u64, index: u64, fork: u64) -> Result<(), MakeError> {
    let seed: Bytes = [number, index, fork].into_iter().flat_map(u64::to_be_bytes).collect();
    let mut e = Encoder::new(into);
    e.map(3)?;
    e.u8(0)?.tag(Tag::new(258))?.array(1)?.array(2)?.bytes(&hash(&seed))?.u64(index)?;
    e.u8(1)?.array(1)?.map(2)?.u8(0)?.bytes(&[0x60; 29])?.u8(1)?.u64(1_000_000 + number)?;
    e.u8(2)?.u64(170_000)?;
    Ok(())
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Blake2b::<U32>::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pallas_traverse::MultiEraBlock;

    #[test]
    fn a_chain_of_made_blocks_decodes_and_its_hashes_are_those_of_its_bytes() {
        let mut parent: Option<Block> = None;
        for number in 0..50 {
            let made = after(parent.as_ref(), 0).unwrap();
            let read = MultiEraBlock::decode(&made.bytes).unwrap();
            assert_eq!((read.number(), read.slot(), *read.hash()), (made.number, made.slot, made.hash));
            assert_eq!(read.number(), number);
            assert_eq!(read.tx_count() as u64, number % 4);
            assert_eq!(read.header().previous_hash().map(|hash| *hash), parent.as_ref().map(|block| block.hash));
            parent = Some(made);
        }
        let fork = after(parent.as_ref(), 1).unwrap();
        assert_ne!(fork.hash, after(parent.as_ref(), 0).unwrap().hash);
    }
}
