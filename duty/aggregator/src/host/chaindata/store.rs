//! Blocks, transactions and range leaves, each in a file of fixed records that is appended to.
//!
//! | File | Record | Bytes |
//! |---|---|---|
//! | `blocks` | number, slot, hash, index of the first transaction, number of transactions, their CRC-32C, CRC-32C | 4 8 32 8 4 4 4 |
//! | `transactions` | hash | 32 |
//! | `ranges` | range, which leaves there are (1: v1, 2: v2), leaf v1, leaf v2, index of the first upper node, number of upper nodes, their CRC-32C, CRC-32C | 4 4 32 32 8 4 4 4 |
//! | `nodes` | upper node; of each range those of v1, then those of v2 | 32 |
//!
//! Integers are little-endian. Block numbers ascend strictly; the record of range n is the nth. Every record that is read is
//! compared with its checksum; and a proof's tree, made from these, with the range's leaf.

use super::disk::{Disk, read_at};
use super::error::ChainDataError;
use crate::core::merkle::{Block, Hash, RANGE_LENGTH};
use std::fs::File;
use std::ops::Range;

pub(super) const BLOCKS: &str = "blocks";
pub(super) const TRANSACTIONS: &str = "transactions";
pub(super) const RANGES: &str = "ranges";
pub(super) const NODES: &str = "nodes";

pub(super) const BLOCK_BYTES: u64 = 64;
pub(super) const TRANSACTION_BYTES: u64 = 32;
pub(super) const RANGE_BYTES: u64 = 92;
pub(super) const NODE_BYTES: u64 = 32;

/// A block of 90 kB has no more; a record that says more is damaged.
const BLOCK_TRANSACTIONS_MAX: u32 = 65_535;

/// Record of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) slot: u64,
    pub(super) hash: Hash,
    pub(super) first: u64,
    pub(super) count: u32,
    /// CRC-32C of the hashes of its transactions.
    pub(super) sum: u32,
}

/// Takes `N` bytes from the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*front)
}

/// Whether the last four bytes are the checksum of those before.
fn sound(bytes: &[u8]) -> bool {
    bytes.split_last_chunk::<4>().is_some_and(|(body, sum)| crc32c::crc32c(body) == u32::from_le_bytes(*sum))
}

/// Appends a checksum of what was written since `start`.
fn seal(out: &mut Vec<u8>, start: usize) {
    let sum = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&sum.to_le_bytes());
}

impl Record {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        // Numbers beyond 32 bits are refused before.
        out.extend_from_slice(&u32::try_from(self.number).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&self.slot.to_le_bytes());
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.sum.to_le_bytes());
        seal(out, start);
    }

    fn read(bytes: &[u8]) -> Result<Self, ChainDataError> {
        let parse = |mut bytes: &[u8]| -> Option<Self> {
            Some(Self {
                number: u64::from(u32::from_le_bytes(take(&mut bytes)?)),
                slot: u64::from_le_bytes(take(&mut bytes)?),
                hash: take(&mut bytes)?,
                first: u64::from_le_bytes(take(&mut bytes)?),
                count: u32::from_le_bytes(take(&mut bytes)?),
                sum: u32::from_le_bytes(take(&mut bytes)?),
            })
        };
        parse(bytes)
            .filter(|record| sound(bytes) && record.count <= BLOCK_TRANSACTIONS_MAX)
            .ok_or_else(|| ChainDataError::damaged(BLOCKS, "the checksum of a record is wrong"))
    }
}

/// A complete range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RangeRecord {
    pub(super) range: u64,
    /// None: no transactions.
    pub(super) v1: Option<Hash>,
    /// None: no blocks.
    pub(super) v2: Option<Hash>,
    /// Its first upper node.
    pub(super) first: u64,
    /// How many upper nodes both trees have.
    pub(super) count: u32,
    /// CRC-32C of them.
    pub(super) sum: u32,
}

impl RangeRecord {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        // Numbers of blocks have 32 bits, those of ranges too.
        out.extend_from_slice(&u32::try_from(self.range).unwrap_or(u32::MAX).to_le_bytes());
        let which = u32::from(self.v1.is_some()) | u32::from(self.v2.is_some()) << 1;
        out.extend_from_slice(&which.to_le_bytes());
        out.extend_from_slice(&self.v1.unwrap_or_default());
        out.extend_from_slice(&self.v2.unwrap_or_default());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.sum.to_le_bytes());
        seal(out, start);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let sound = sound(bytes);
        let mut bytes = bytes;
        let range = u64::from(u32::from_le_bytes(take(&mut bytes)?));
        let which = u32::from_le_bytes(take(&mut bytes)?);
        let (v1, v2) = (take(&mut bytes)?, take(&mut bytes)?);
        let record = Self {
            range,
            v1: (which & 1 != 0).then_some(v1),
            v2: (which & 2 != 0).then_some(v2),
            first: u64::from_le_bytes(take(&mut bytes)?),
            count: u32::from_le_bytes(take(&mut bytes)?),
            sum: u32::from_le_bytes(take(&mut bytes)?),
        };
        sound.then_some(record)
    }
}

/// The files, open for reading and writing.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) blocks: File,
    pub(super) transactions: File,
    pub(super) ranges: File,
    pub(super) nodes: File,
}

impl Store {
    pub(super) fn open(disk: &Disk) -> Result<Self, ChainDataError> {
        Ok(Self {
            blocks: disk.open_file(BLOCKS)?,
            transactions: disk.open_file(TRANSACTIONS)?,
            ranges: disk.open_file(RANGES)?,
            nodes: disk.open_file(NODES)?,
        })
    }

    /// The records from `index`, `count` of them.
    pub(super) fn records(&self, index: u64, count: usize) -> Result<Vec<Record>, ChainDataError> {
        let bytes = read_at(&self.blocks, BLOCKS, index.saturating_mul(BLOCK_BYTES), count * BLOCK_BYTES as usize)?;
        bytes.chunks_exact(BLOCK_BYTES as usize).map(Record::read).collect()
    }

    /// The record at this index; none when it is not below `count`.
    pub(super) fn record(&self, index: u64, count: u64) -> Result<Option<Record>, ChainDataError> {
        if index >= count {
            return Ok(None);
        }
        Ok(self.records(index, 1)?.first().copied())
    }

    /// How many of the first `count` records come before the first that does not hold; `guess` is asked first.
    pub(super) fn partition(
        &self,
        count: u64,
        guess: u64,
        holds: impl Fn(&Record) -> bool,
    ) -> Result<u64, ChainDataError> {
        let holds_at = |index: u64| Ok::<_, ChainDataError>(self.record(index, count)?.is_some_and(|one| holds(&one)));
        let (mut low, mut high) = (0, count);
        if guess < count && !holds_at(guess)? {
            high = guess;
            match guess.checked_sub(1) {
                Some(before) if !holds_at(before)? => high = before,
                _ => low = guess,
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if holds_at(middle)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Index of the first of `count` records whose number is at least this; `base` is the number of record 0.
    pub(super) fn find(&self, count: u64, base: u64, number: u64) -> Result<u64, ChainDataError> {
        self.partition(count, number.saturating_sub(base), |record| record.number < number)
    }

    /// Blocks of a range from its first to `last` inclusive, with their transactions.
    pub(super) fn range(&self, count: u64, base: u64, range: u64, last: u64) -> Result<Vec<Block>, ChainDataError> {
        let from = range.saturating_mul(RANGE_LENGTH);
        let most = last.saturating_sub(from).saturating_add(1).min(RANGE_LENGTH);
        if from > last {
            return Ok(Vec::new());
        }
        // Numbers seldom have gaps: the guess is nearly always right, and its record is read with those that follow.
        let guess = from.saturating_sub(base).min(count);
        let len = |start: u64| usize::try_from(most.min(count - start)).unwrap_or_default();
        let mut records = self.records(guess, len(guess))?;
        if records.first().is_none_or(|first| first.number != from) {
            let start = self.find(count, base, from)?;
            records = self.records(start, len(start))?;
        }
        records.retain(|record| record.number >= from && record.number <= last);
        self.with_transactions(&records)
    }

    pub(super) fn with_transactions(&self, records: &[Record]) -> Result<Vec<Block>, ChainDataError> {
        let first = records.first().map_or(0, |record| record.first);
        let total: usize = records.iter().map(|record| record.count as usize).sum();
        let offset = first.saturating_mul(TRANSACTION_BYTES);
        let bytes = read_at(&self.transactions, TRANSACTIONS, offset, total * TRANSACTION_BYTES as usize)?;
        let (hashes, _) = bytes.as_chunks::<{ TRANSACTION_BYTES as usize }>();
        let mut rest = hashes;
        let mut blocks = Vec::with_capacity(records.len());
        for record in records {
            let (own, others) = rest
                .split_at_checked(record.count as usize)
                .ok_or_else(|| ChainDataError::damaged(BLOCKS, "records of blocks overlap"))?;
            rest = others;
            if crc32c::crc32c(own.as_flattened()) != record.sum {
                return Err(ChainDataError::damaged(TRANSACTIONS, "the checksum of a block's transactions is wrong"));
            }
            blocks.push(Block {
                number: record.number,
                slot: record.slot,
                hash: record.hash,
                transactions: own.to_vec(),
            });
        }
        Ok(blocks)
    }

    /// The records of these ranges.
    pub(super) fn ranges(&self, ranges: Range<u64>) -> Result<Vec<RangeRecord>, ChainDataError> {
        let len = ranges.end.saturating_sub(ranges.start).saturating_mul(RANGE_BYTES);
        let offset = ranges.start.saturating_mul(RANGE_BYTES);
        let bytes = read_at(&self.ranges, RANGES, offset, usize::try_from(len).unwrap_or(usize::MAX))?;
        let records = bytes.chunks_exact(RANGE_BYTES as usize).zip(ranges).map(|(bytes, range)| {
            RangeRecord::read(bytes)
                .filter(|record| record.range == range)
                .ok_or_else(|| ChainDataError::damaged(RANGES, format!("record {range} is not what was written")))
        });
        records.collect()
    }

    /// The upper nodes of both trees of a complete range.
    pub(super) fn nodes(&self, range: u64) -> Result<Vec<Hash>, ChainDataError> {
        let Some(record) = self.ranges(range..range.saturating_add(1))?.pop() else { return Ok(Vec::new()) };
        let offset = record.first.saturating_mul(NODE_BYTES);
        let bytes = read_at(&self.nodes, NODES, offset, record.count as usize * NODE_BYTES as usize)?;
        if crc32c::crc32c(&bytes) != record.sum {
            return Err(ChainDataError::damaged(NODES, format!("the checksum of range {range} is wrong")));
        }
        let (nodes, _) = bytes.as_chunks::<{ NODE_BYTES as usize }>();
        Ok(nodes.to_vec())
    }
}
