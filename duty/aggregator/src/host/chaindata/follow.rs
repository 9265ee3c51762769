//! Blocks behind the immutable files: chain-sync with the node, roll-backs included.

use super::block::ParsedBlock;
use super::error::ChainDataError;
use super::{ChainData, Progress, ROLL_BACK_MAX};
use crate::host::chain::{Observer, Place, Step};
use std::ops::ControlFlow;

/// Blocks per batch.
const BATCH_BLOCKS: usize = 10_000;

/// Transactions per batch, not far above.
const BATCH_TRANSACTIONS: usize = 200_000;

/// Steps back from the highest block at which we ask whether the node knows ours: 1, 2, 4, … and the first.
const KNOWN_DOUBLINGS: u32 = 33;

/// Blocks that are not written yet.
#[derive(Default)]
struct Pending {
    blocks: Vec<ParsedBlock>,
    transactions: usize,
}

impl ChainData {
    pub(super) fn walk(
        &self,
        observer: &dyn Observer,
        up_to: u64,
        progress: &dyn Fn(Progress) -> ControlFlow<()>,
    ) -> Result<bool, ChainDataError> {
        let mut walk = observer.blocks(&self.known()?)?;
        let mut pending = Pending::default();
        let mut state = Progress::default();
        // What is here counts only when the node has said from where it goes on.
        let mut agreed = false;
        loop {
            if agreed && self.reaches(&pending, up_to) {
                self.write(&mut pending, &mut state)?;
                return Ok(true);
            }
            match walk.step()? {
                Step::Forward(cbor) => {
                    agreed = true;
                    if let Some(beyond) = self.forward(&cbor, up_to, &mut pending)? {
                        self.write(&mut pending, &mut state)?;
                        return self.jumped(beyond, up_to);
                    }
                }
                Step::Backward(place) => {
                    agreed = true;
                    self.backward(place, &mut pending)?;
                }
                Step::AtTip => {
                    self.write(&mut pending, &mut state)?;
                    return Ok(self.highest().is_some_and(|(highest, _)| *highest >= up_to));
                }
            }
            if pending.blocks.len() >= BATCH_BLOCKS || pending.transactions >= BATCH_TRANSACTIONS {
                self.write(&mut pending, &mut state)?;
                if progress(state).is_break() {
                    return Err(ChainDataError::Stopped);
                }
            }
        }
    }

    fn reaches(&self, pending: &Pending, up_to: u64) -> bool {
        let here = self.highest().map(|(number, _)| *number);
        pending.blocks.last().map(|block| block.number).or(here).is_some_and(|number| number >= up_to)
    }

    /// A block behind what is wanted came before the wanted one: that one could not be parsed, or the node lies.
    fn jumped(&self, beyond: u64, up_to: u64) -> Result<bool, ChainDataError> {
        if self.options.allow_unparsable_block || self.highest().is_some_and(|(highest, _)| *highest >= up_to) {
            return Ok(true);
        }
        Err(ChainDataError::NotNext { number: beyond, why: format!("block {up_to} did not come") })
    }

    /// Takes the next block, or tells its number when it is behind what is wanted.
    fn forward(&self, cbor: &[u8], up_to: u64, pending: &mut Pending) -> Result<Option<u64>, ChainDataError> {
        match ParsedBlock::parse(cbor) {
            Ok(block) if block.number > up_to => Ok(Some(block.number)),
            Ok(block) => {
                pending.transactions += block.transactions.len();
                pending.blocks.push(block);
                Ok(None)
            }
            Err(why) => {
                let after =
                    pending.blocks.last().map(|block| block.number).or(self.highest().map(|(number, _)| *number));
                let place = after.map_or("the first".to_owned(), |after| format!("after block {after}"));
                if self.options.allow_unparsable_block {
                    tracing::warn!(place, %why, "a block that cannot be parsed is left out");
                    return Ok(None);
                }
                Err(ChainDataError::Unparsable { place, why: why.to_string() })
            }
        }
    }

    fn backward(&self, place: Option<Place>, pending: &mut Pending) -> Result<(), ChainDataError> {
        let slot = place.map(|place| place.slot);
        while pending.blocks.last().is_some_and(|block| slot.is_none_or(|slot| block.slot > slot)) {
            pending.blocks.pop();
        }
        match (pending.blocks.last(), place) {
            (Some(last), Some(place)) if last.slot == place.slot && last.hash != place.hash => {
                Err(ChainDataError::OtherBlock { slot: place.slot })
            }
            (Some(_), _) => Ok(()),
            (None, place) => self.writer()?.roll_back(&self.shared, place),
        }
    }

    fn write(&self, pending: &mut Pending, state: &mut Progress) -> Result<(), ChainDataError> {
        self.writer()?.append(&self.shared, &pending.blocks, self.options.allow_unparsable_block)?;
        state.blocks += pending.blocks.len() as u64;
        state.transactions += pending.transactions as u64;
        state.highest = self.highest().map(|(number, _)| number);
        *pending = Pending::default();
        Ok(())
    }

    /// Blocks of ours, newest first, of which the node may know one. The highest certified one is among them: who knows it
    /// never goes on from below it.
    fn known(&self) -> Result<Vec<Place>, ChainDataError> {
        let certified = self.writer()?.certified();
        let view = self.shared.view();
        let Some(last) = view.blocks.checked_sub(1) else { return Ok(Vec::new()) };
        let back = [0].into_iter().chain((0..KNOWN_DOUBLINGS).map(|power| 1_u64 << power));
        let mut indices: Vec<u64> = back.map_while(|back| last.checked_sub(back)).chain([0]).collect();
        // The furthest that a network goes back to.
        indices.extend(last.checked_sub(ROLL_BACK_MAX));
        if let Some(certified) = certified {
            indices.push(self.shared.store.find(view.blocks, view.base, certified)?.min(last));
        }
        indices.sort_unstable_by(|one, other| other.cmp(one));
        indices.dedup();
        let mut places = Vec::with_capacity(indices.len());
        for index in indices {
            let record = self.shared.store.record(index, view.blocks)?;
            places.extend(record.map(|record| Place { slot: record.slot, hash: record.hash }));
        }
        Ok(places)
    }
}
