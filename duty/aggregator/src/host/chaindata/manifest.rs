//! What of the files counts: one small text, replaced whole.
//!
//! Everything else is appended behind the lengths that the manifest says, flushed, and counts when the next manifest is there.
//! So a stop at any write leaves what the last manifest says.

use super::disk::Disk;
use super::error::ChainDataError;
use serde::{Deserialize, Serialize};

/// Name of the file.
const NAME: &str = "manifest";

/// Format that this version writes.
const FORMAT: u32 = 1;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Format of the directory.
    pub(super) format: u32,
    /// Grows by one at each replacement.
    pub(super) generation: u64,
    /// Records of blocks.
    pub(super) blocks: u64,
    /// Hashes of transactions.
    pub(super) transactions: u64,
    /// Complete ranges, from the first.
    pub(super) ranges: u64,
    /// Upper nodes of their trees.
    pub(super) nodes: u64,
    /// Records of blocks whose hashes the runs have.
    pub(super) indexed: u64,
    /// Hash of the last block seen, when that is not the last record: a boundary block.
    pub(super) link: Option<String>,
    /// Highest block number below which nothing goes back.
    pub(super) certified: Option<u64>,
    /// Runs of the index.
    pub(super) runs: Vec<RunEntry>,
}

/// A run of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunEntry {
    /// Name of its file.
    pub(super) file: String,
    /// How many entries it has.
    pub(super) entries: u64,
    /// CRC-32C of its fences.
    pub(super) fences: u32,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            format: FORMAT,
            generation: 0,
            blocks: 0,
            transactions: 0,
            ranges: 0,
            nodes: 0,
            indexed: 0,
            link: None,
            certified: None,
            runs: Vec::new(),
        }
    }
}

/// What every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Manifest {
    /// Reads it; an empty one when there is none.
    pub(super) fn read(disk: &Disk) -> Result<Self, ChainDataError> {
        let Some(bytes) = disk.read(NAME)? else { return Ok(Self::default()) };
        let damaged = |why: &str| ChainDataError::damaged(NAME, why);
        let text = String::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let (body, sum) = text.trim_end().rsplit_once('\n').ok_or_else(|| damaged("it has no checksum"))?;
        if sum != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
            return Err(damaged("its checksum is wrong"));
        }
        let format: Format = serde_json::from_str(body).map_err(|why| damaged(&why.to_string()))?;
        if format.format > FORMAT {
            return Err(ChainDataError::Newer { found: format.format, known: FORMAT });
        }
        serde_json::from_str(body).map_err(|why| damaged(&why.to_string()))
    }

    /// Replaces it. What it counts was flushed before.
    pub(super) fn write(&self, disk: &Disk) -> Result<(), ChainDataError> {
        let body = serde_json::to_string(self).map_err(|why| ChainDataError::damaged(NAME, why.to_string()))?;
        let sum = crc32c::crc32c(body.as_bytes());
        disk.replace(NAME, format!("{body}\n{sum:08x}\n").as_bytes())
    }
}
