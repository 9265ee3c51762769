//! The node's immutable files: `NNNNN.chunk` with the blocks, `NNNNN.secondary` with where each starts.
//!
//! An entry of the secondary index is 56 bytes, big-endian: offset of the block (8), of its header (2), size of the header
//! (2), checksum (4), hash of the header (32), slot or epoch (8). A number is complete when a higher one is there: only
//! complete ones are read, because the node still appends to the last.

use super::block::ParsedBlock;
use super::disk::read_at;
use super::error::ChainDataError;
use crate::core::merkle::Hash;
use std::path::{Path, PathBuf};

/// Bytes of an entry of the secondary index.
const ENTRY: usize = 56;

/// A chunk holds at most 21,600 slots, of which one in twenty has a block of at most about 90 kB: 100 MB. With room.
const CHUNK_BYTES_MAX: u64 = 1 << 30;

/// The complete immutable files of a directory.
#[derive(Debug)]
pub(super) struct Immutables {
    dir: PathBuf,
    /// Numbers, without a gap.
    numbers: std::ops::Range<u64>,
}

/// The blocks of one chunk.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Parsed blocks, in their order.
    pub(super) blocks: Vec<ParsedBlock>,
    /// What could not be parsed and where.
    pub(super) unparsable: Vec<(String, String)>,
    /// Size of the chunk.
    pub(super) bytes: u64,
}

impl Immutables {
    pub(super) fn list(dir: &Path) -> Result<Self, ChainDataError> {
        let what = || ChainDataError::io(format!("listing {}", dir.display()));
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(what())? {
            let name = entry.map_err(what())?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".chunk"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        if let Some([before, _]) = numbers.array_windows().find(|[before, after]| before + 1 != *after) {
            return Err(ChainDataError::Immutable {
                file: format!("{:05}.chunk", before + 1),
                why: "it is missing, while higher numbers are there".to_owned(),
            });
        }
        let first = numbers.first().copied().unwrap_or_default();
        Ok(Self { dir: dir.to_owned(), numbers: first..numbers.last().copied().unwrap_or(first) })
    }

    /// Complete numbers.
    pub(super) fn numbers(&self) -> std::ops::Range<u64> {
        self.numbers.clone()
    }

    fn read(&self, number: u64, kind: &str) -> Result<Vec<u8>, ChainDataError> {
        let file = format!("{number:05}.{kind}");
        let path = self.dir.join(&file);
        let what = || ChainDataError::io(format!("reading {}", path.display()));
        let size = std::fs::metadata(&path).map_err(what())?.len();
        if size > CHUNK_BYTES_MAX {
            return Err(ChainDataError::Immutable { file, why: format!("{size} bytes are too many") });
        }
        std::fs::read(&path).map_err(what())
    }

    /// Size of a chunk in bytes; 0 when nobody can tell.
    pub(super) fn size(&self, number: u64) -> u64 {
        std::fs::metadata(self.dir.join(format!("{number:05}.chunk"))).map_or(0, |metadata| metadata.len())
    }

    /// Offset and header hash of each block of a chunk.
    pub(super) fn index(&self, number: u64) -> Result<Vec<(usize, Hash)>, ChainDataError> {
        let bytes = self.read(number, "secondary")?;
        let file = || format!("{number:05}.secondary");
        if bytes.len() % ENTRY != 0 {
            return Err(ChainDataError::Immutable { file: file(), why: "it ends within an entry".to_owned() });
        }
        let entry = |entry: &[u8]| -> Option<(usize, Hash)> {
            let offset = u64::from_be_bytes(entry.get(..8)?.try_into().ok()?);
            Some((usize::try_from(offset).ok()?, entry.get(16..48)?.try_into().ok()?))
        };
        bytes
            .chunks_exact(ENTRY)
            .map(entry)
            .collect::<Option<Vec<_>>>()
            .filter(|entries| entries.is_sorted_by(|before, after| before.0 < after.0))
            .ok_or_else(|| ChainDataError::Immutable { file: file(), why: "offsets do not ascend".to_owned() })
    }

    /// Reads and parses a chunk.
    pub(super) fn chunk(&self, number: u64) -> Result<Chunk, ChainDataError> {
        let index = self.index(number)?;
        let bytes = self.read(number, "chunk")?;
        let ends = index.iter().skip(1).map(|(start, _)| *start).chain([bytes.len()]);
        let mut chunk = Chunk { bytes: bytes.len() as u64, ..Chunk::default() };
        for ((start, hash), end) in index.iter().zip(ends) {
            let parsed = bytes
                .get(*start..end)
                .ok_or_else(|| "the chunk ends before it".to_owned())
                .and_then(|bytes| ParsedBlock::parse(bytes).map_err(|why| why.to_string()));
            match parsed {
                Ok(block) if block.hash == *hash => chunk.blocks.push(block),
                Ok(_) => chunk.unparsable.push((
                    format!("{number:05}.chunk at byte {start}"),
                    "its header's hash is not that of the index".to_owned(),
                )),
                Err(why) => chunk.unparsable.push((format!("{number:05}.chunk at byte {start}"), why)),
            }
        }
        Ok(chunk)
    }

    /// The last complete chunk that begins at or before this slot. None: all are empty or begin later.
    pub(super) fn chunk_of_slot(&self, slot: u64) -> Result<Option<u64>, ChainDataError> {
        let (mut low, mut high) = (self.numbers.start, self.numbers.end);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            // An empty or unparsable chunk tells nothing: ask the next one that does.
            let mut probe = middle;
            let mut first = None;
            while probe < high && first.is_none() {
                first = self.first_slot(probe)?;
                if first.is_none() {
                    probe += 1;
                }
            }
            match first {
                Some(first) if first <= slot => {
                    found = Some(probe);
                    low = probe + 1;
                }
                _ => high = middle,
            }
        }
        Ok(found)
    }

    /// Slot of a chunk's first block; none when it has none or it cannot be parsed.
    fn first_slot(&self, number: u64) -> Result<Option<u64>, ChainDataError> {
        let index = self.index(number)?;
        let Some((start, _)) = index.first() else { return Ok(None) };
        self.slot_at(number, *start, index.get(1).map(|(end, _)| *end))
    }

    /// Slot of the last block of all; none when the last chunk has none or it cannot be parsed.
    pub(super) fn last_slot(&self) -> Result<Option<u64>, ChainDataError> {
        let Some(number) = self.numbers().next_back() else { return Ok(None) };
        match self.index(number)?.last() {
            Some((start, _)) => self.slot_at(number, *start, None),
            None => Ok(None),
        }
    }

    /// Slot of the block between two offsets of a chunk; no end: that of the chunk.
    fn slot_at(&self, number: u64, start: usize, end: Option<usize>) -> Result<Option<u64>, ChainDataError> {
        let name = format!("{number:05}.chunk");
        let path = self.dir.join(&name);
        let what = || ChainDataError::io(format!("reading {}", path.display()));
        let file = std::fs::File::open(&path).map_err(what())?;
        let size = usize::try_from(file.metadata().map_err(what())?.len().min(CHUNK_BYTES_MAX)).unwrap_or_default();
        let end = end.unwrap_or(size).min(size);
        let bytes = read_at(&file, &name, start as u64, end.saturating_sub(start))?;
        Ok(ParsedBlock::parse(&bytes).ok().map(|block| block.slot))
    }
}
