//! What a block of the chain is to this network: a place, bytes, and where its header lies.
//!
//! Bytes are the CBOR of `[era, block]`, as a node stores and sends it. The header is the first member of `block`; its BLAKE2b-256
//! is the block's hash. Only eras from Shelley on have a header whose body begins with the block number.

use pallas_codec::minicbor::decode::{Decoder, Error};
use pallas_traverse::MultiEraBlock;
use std::sync::Arc;

/// Slots in one immutable file, as on preview.
pub const SLOTS_PER_CHUNK: u64 = 4_320;

/// One block.
#[derive(Debug, Clone)]
pub struct Block {
    /// Its slot.
    pub slot: u64,
    /// Its number.
    pub number: u64,
    /// Hash of its header.
    pub hash: [u8; 32],
    /// `[era, block]`, CBOR.
    pub bytes: Arc<[u8]>,
}

impl Block {
    /// Hashes of its transactions.
    pub fn transactions(&self) -> Vec<[u8; 32]> {
        let block = MultiEraBlock::decode(&self.bytes);
        block.map(|block| block.txs().iter().map(|transaction| *transaction.hash()).collect()).unwrap_or_default()
    }

    /// Number of the immutable file that holds it.
    pub fn chunk(&self) -> u64 {
        self.slot / SLOTS_PER_CHUNK
    }
}

/// Where the header lies in a block's bytes, and the number it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) offset: usize,
    pub(crate) length: usize,
    pub(crate) number: u64,
}

/// Finds the header of a block from Shelley on.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, Error> {
    let mut decoder = Decoder::new(bytes);
    decoder.array()?;
    if decoder.u8()? < 2 {
        return Err(Error::message("a block of Byron"));
    }
    decoder.array()?;
    let offset = decoder.position();
    let number = {
        let mut inside = decoder.clone();
        inside.array()?;
        inside.array()?;
        inside.u64()?
    };
    decoder.skip()?;
    Ok(Header { offset, length: decoder.position().saturating_sub(offset), number })
}
