//! Import from the node's immutable files: chunks are parsed in parallel while the chunks before them are written.

use super::block::ParsedBlock;
use super::error::ChainDataError;
use super::immutable::{Chunk, Immutables};
use super::{ChainData, Progress};
use crate::host::chain::Place;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use std::ops::{ControlFlow, Range};
use std::sync::mpsc::sync_channel;

/// Chunks per batch at most; with small ones a batch is a few ten thousand blocks.
const BATCH_CHUNKS: u64 = 64;

/// Bytes of chunks per batch, not far above: what is parsed and written at the same time is two batches.
const BATCH_BYTES: u64 = 256 << 20;

/// A batch of parsed chunks.
type Batch = Result<Vec<Chunk>, ChainDataError>;

impl ChainData {
    pub(super) fn import(
        &self,
        immutables: &Immutables,
        up_to: u64,
        progress: &dyn Fn(Progress) -> ControlFlow<()>,
    ) -> Result<(), ChainDataError> {
        let Some(start) = self.start_of_import(immutables)? else { return Ok(()) };
        let mut state = Progress { chunks: immutables.numbers().end - start, ..Progress::default() };
        let (sender, batches) = sync_channel::<Batch>(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = start;
                while next < immutables.numbers().end {
                    let range = batch_from(immutables, next);
                    next = range.end;
                    let parsed = range.into_par_iter().map(|number| immutables.chunk(number)).collect();
                    // The writer has what it wants, or failed.
                    if sender.send(parsed).is_err() {
                        return;
                    }
                }
            });
            // Moved in here, so that leaving early ends the other thread.
            let batches = batches;
            for batch in &batches {
                let reached = self.take_batch(batch?, up_to, &mut state)?;
                state.highest = self.highest().map(|(number, _)| number);
                if progress(state).is_break() {
                    return Err(ChainDataError::Stopped);
                }
                if reached {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Appends the blocks of a batch that are not here yet; true when nothing behind it is wanted.
    fn take_batch(&self, chunks: Vec<Chunk>, up_to: u64, state: &mut Progress) -> Result<bool, ChainDataError> {
        let mut fresh: Vec<ParsedBlock> = Vec::new();
        // Nothing at or before the highest block, nor a boundary block that was seen.
        let slot = self.highest().map(|(_, place)| place.slot);
        let mut reached = false;
        for chunk in chunks {
            for (place, why) in chunk.unparsable {
                if !self.options.allow_unparsable_block {
                    return Err(ChainDataError::Unparsable { place, why });
                }
                tracing::warn!(place, why, "a block that cannot be parsed is left out");
            }
            state.bytes += chunk.bytes;
            state.done += 1;
            for block in chunk.blocks {
                if block.number > up_to {
                    reached = true;
                } else if !reached && slot.is_none_or(|slot| block.slot > slot) {
                    fresh.push(block);
                }
            }
        }
        state.blocks += fresh.len() as u64;
        state.transactions += fresh.iter().map(|block| block.transactions.len() as u64).sum::<u64>();
        self.writer()?.append(&self.shared, &fresh, self.options.allow_unparsable_block)?;
        Ok(reached)
    }

    /// The chunk in which the import goes on; none: what is here goes beyond the immutable files. Goes back first when what
    /// is here is not in them.
    fn start_of_import(&self, immutables: &Immutables) -> Result<Option<u64>, ChainDataError> {
        let numbers = immutables.numbers();
        if numbers.is_empty() {
            return Ok(None);
        }
        let Some((_, place)) = self.highest() else { return Ok(Some(numbers.start)) };
        match self.standing(immutables, place)? {
            Standing::In(chunk) => Ok(Some(chunk)),
            Standing::Beyond => Ok(None),
            Standing::Other => self.back_to_common(immutables),
        }
    }

    /// Goes back to the highest block that the immutable files have too.
    fn back_to_common(&self, immutables: &Immutables) -> Result<Option<u64>, ChainDataError> {
        let view = self.shared.view();
        let (mut low, mut high, mut found) = (0, view.blocks, None);
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(record) = self.shared.store.record(middle, view.blocks)? else { break };
            let place = Place { slot: record.slot, hash: record.hash };
            match self.standing(immutables, place)? {
                Standing::In(chunk) => {
                    found = Some((place, chunk));
                    low = middle + 1;
                }
                Standing::Beyond | Standing::Other => high = middle,
            }
        }
        self.writer()?.roll_back(&self.shared, found.map(|(place, _)| place))?;
        Ok(Some(found.map_or(immutables.numbers().start, |(_, chunk)| chunk)))
    }

    /// Where a block stands towards the immutable files.
    fn standing(&self, immutables: &Immutables, place: Place) -> Result<Standing, ChainDataError> {
        let Some(chunk) = immutables.chunk_of_slot(place.slot)? else { return Ok(Standing::Other) };
        if immutables.index(chunk)?.iter().any(|(_, hash)| *hash == place.hash) {
            return Ok(Standing::In(chunk));
        }
        // Where the last chunk is empty, the one that we found tells.
        let last = match immutables.last_slot()? {
            None => immutables.chunk(chunk)?.blocks.last().map(|block| block.slot),
            last => last,
        };
        let behind = last.is_none_or(|last| last < place.slot);
        Ok(if behind { Standing::Beyond } else { Standing::Other })
    }
}

/// Where a block stands towards the immutable files.
enum Standing {
    /// In this chunk.
    In(u64),
    /// Its slot is behind them.
    Beyond,
    /// They have another chain.
    Other,
}

/// The next batch: so many chunks, or so many bytes.
fn batch_from(immutables: &Immutables, start: u64) -> Range<u64> {
    let most = start.saturating_add(BATCH_CHUNKS).min(immutables.numbers().end);
    let mut bytes = 0;
    let mut end = start;
    while end < most && (end == start || bytes < BATCH_BYTES) {
        bytes += immutables.size(end);
        end += 1;
    }
    start..end
}
