//! Immutable files: what a node keeps of the part of the chain that cannot change any more.
//!
//! A *trio* holds the blocks of 4,320 slots. All integers are big-endian.
//!
//! ```text
//! NNNNN.chunk       the blocks, one after the other
//! NNNNN.secondary   per block 56 bytes: offset u64 | header offset u16 | header length u16 | CRC-32 u32 | hash 32 | slot u64
//! NNNNN.primary     version 1 | one u32 per slot, and one more: where the slot's entry begins in the secondary file
//! ```
//!
//! Slot 0 of the primary file is the boundary block of Byron, so the chain's slots begin at 1. The file of a trio that is
//! still being written ends after its last block's slot.

use crate::block::{Block, SLOTS_PER_CHUNK, header};
use pallas_codec::minicbor::decode;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of one entry of a secondary file.
const ENTRY_BYTES: usize = 56;

/// Why immutable files cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ImmutableError {
    /// The file system says no.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An index and its chunk do not fit together.
    #[error("immutable file {number:05} does not fit its index")]
    Index {
        /// Which trio.
        number: u64,
    },
    /// A block that cannot be read.
    #[error("a block in immutable file {number:05}: {source}")]
    Block {
        /// Which trio.
        number: u64,
        /// Why.
        source: decode::Error,
    },
}

/// The three files of one trio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trio {
    /// `NNNNN.chunk`
    pub chunk: Vec<u8>,
    /// `NNNNN.primary`
    pub primary: Vec<u8>,
    /// `NNNNN.secondary`
    pub secondary: Vec<u8>,
}

impl Trio {
    /// The files that hold these blocks, which must be those of trio `number` in order; complete, or ending after the last.
    pub fn encode(number: u64, blocks: &[Block], complete: bool) -> Result<Self, ImmutableError> {
        let mut trio = Self { chunk: Vec::new(), primary: vec![1], secondary: Vec::new() };
        let mut slots = vec![0_u32];
        let first = number * SLOTS_PER_CHUNK;
        for block in blocks {
            let relative =
                block.slot.checked_sub(first).map(|slot| slot + 1).and_then(|slot| usize::try_from(slot).ok());
            let relative = relative.filter(|slot| *slot + 1 >= slots.len()).ok_or(ImmutableError::Index { number })?;
            let start = u32::try_from(trio.secondary.len()).map_err(|_| ImmutableError::Index { number })?;
            slots.resize(relative + 1, start);
            let found = header(&block.bytes).map_err(|source| ImmutableError::Block { number, source })?;
            trio.secondary.extend_from_slice(&(trio.chunk.len() as u64).to_be_bytes());
            for size in [found.offset, found.length] {
                let size = u16::try_from(size).map_err(|_| ImmutableError::Index { number })?;
                trio.secondary.extend_from_slice(&size.to_be_bytes());
            }
            trio.secondary.extend_from_slice(&crc32(&block.bytes).to_be_bytes());
            trio.secondary.extend_from_slice(&block.hash);
            trio.secondary.extend_from_slice(&block.slot.to_be_bytes());
            trio.chunk.extend_from_slice(&block.bytes);
            slots.push(start + u32::try_from(ENTRY_BYTES).unwrap_or_default());
        }
        if complete {
            let all = usize::try_from(SLOTS_PER_CHUNK + 2).unwrap_or_default();
            let end = slots.last().copied().unwrap_or_default();
            slots.resize(all.max(slots.len()), end);
        }
        trio.primary.extend(slots.into_iter().flat_map(u32::to_be_bytes));
        Ok(trio)
    }

    /// Writes the trio's files, each at once; the chunk last, so that a trio that is seen is whole.
    pub fn write(&self, directory: &Path, number: u64) -> Result<(), ImmutableError> {
        for (extension, bytes) in [("secondary", &self.secondary), ("primary", &self.primary), ("chunk", &self.chunk)] {
            replace(&directory.join(format!("{number:05}.{extension}")), bytes)?;
        }
        Ok(())
    }
}

/// Writes a file so that a reader sees the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ImmutableError> {
    let failed = |source| ImmutableError::File { path: path.to_owned(), source };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let aside = PathBuf::from(aside);
    let mut file = fs::File::create(&aside).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    drop(file);
    fs::rename(&aside, path).map_err(failed)
}

/// How many trios, counted from 0 without a gap, a directory holds.
pub fn count(directory: &Path) -> u64 {
    (0..).take_while(|number| directory.join(format!("{number:05}.secondary")).is_file()).count() as u64
}

/// Blocks of one trio.
pub fn read(directory: &Path, number: u64) -> Result<Vec<Block>, ImmutableError> {
    let file = |extension: &str| {
        let path = directory.join(format!("{number:05}.{extension}"));
        fs::read(&path).map_err(|source| ImmutableError::File { path, source })
    };
    let (chunk, secondary) = (file("chunk")?, file("secondary")?);
    let entries: Vec<&[u8]> = secondary.chunks_exact(ENTRY_BYTES).collect();
    let offsets: Vec<Option<usize>> = entries
        .iter()
        .map(|entry| number_at(entry, 0).and_then(|offset| usize::try_from(offset).ok()))
        .chain([Some(chunk.len())])
        .collect();
    let mut blocks = Vec::with_capacity(entries.len());
    for (entry, ends) in entries.iter().zip(offsets.windows(2)) {
        let block = match ends {
            [Some(start), Some(end)] => block(entry, chunk.get(*start..*end)),
            _ => None,
        };
        let (slot, hash, bytes) = block.ok_or(ImmutableError::Index { number })?;
        let found = header(bytes).map_err(|source| ImmutableError::Block { number, source })?;
        blocks.push(Block { slot, number: found.number, hash, bytes: Arc::from(bytes) });
    }
    Ok(blocks)
}

fn block<'a>(entry: &[u8], bytes: Option<&'a [u8]>) -> Option<(u64, [u8; 32], &'a [u8])> {
    let hash = entry.get(16..48)?.try_into().ok()?;
    Some((number_at(entry, 48)?, hash, bytes?))
}

fn number_at(entry: &[u8], at: usize) -> Option<u64> {
    entry.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}

/// CRC-32 of IEEE 802.3, of each byte.
#[expect(clippy::indexing_slicing, reason = "the index is below 256, and this is done by the compiler")]
const CRC32: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut sum: u32 = byte;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg());
            bit += 1;
        }
        table[byte as usize] = sum;
        byte += 1;
    }
    table
};

/// CRC-32 of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        let [low, ..] = sum.to_le_bytes();
        (sum >> 8) ^ CRC32.get(usize::from(low ^ byte)).copied().unwrap_or_default()
    };
    !bytes.iter().fold(u32::MAX, step)
}
