//! The chain as far as this network has revealed it, and where more of it comes from.
//!
//! Blocks come from real immutable files while there are any, and are made up after that. A roll-back takes revealed blocks
//! away: they come again, unless the chain forks there and everything after is made up. Followers learn of roll-backs from a
//! log: position in the chain, one entry per roll-back, oldest first.

use crate::block::Block;
use crate::immutable::{self, ImmutableError};
use crate::synthetic;
use std::collections::VecDeque;
use std::path::PathBuf;

/// Why the chain does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Real blocks cannot be read.
    #[error(transparent)]
    Immutable(#[from] ImmutableError),
    /// A block cannot be made up.
    #[error("a block cannot be made up: {0}")]
    Make(String),
}

/// Revealed blocks and the source of more.
#[derive(Debug)]
pub(crate) struct Chain {
    blocks: Vec<Block>,
    rollbacks: Vec<usize>,
    real: Option<PathBuf>,
    trios: u64,
    next_trio: u64,
    waiting: VecDeque<Block>,
    fork: u64,
}

impl Chain {
    /// A chain of which nothing is revealed, over the immutable files of a directory if there is one.
    pub(crate) fn new(real: Option<PathBuf>) -> Self {
        let trios = real.as_deref().map_or(0, immutable::count);
        Self { blocks: Vec::new(), rollbacks: Vec::new(), real, trios, next_trio: 0, waiting: VecDeque::new(), fork: 0 }
    }

    /// Revealed blocks, oldest first.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The newest revealed block.
    pub(crate) fn tip(&self) -> Option<&Block> {
        self.blocks.last()
    }

    /// How many blocks were left after each roll-back.
    pub(crate) fn rollbacks(&self) -> &[usize] {
        &self.rollbacks
    }

    /// Reveals one more block.
    pub(crate) fn reveal(&mut self) -> Result<&Block, ChainError> {
        let block = self.take_next()?;
        self.blocks.push(block);
        self.blocks.last().ok_or_else(|| ChainError::Make("no block".to_owned()))
    }

    /// Reveals blocks up to the last of the trios below `chunk`.
    pub(crate) fn reveal_below(&mut self, chunk: u64) -> Result<(), ChainError> {
        loop {
            let next = self.take_next()?;
            if next.chunk() >= chunk {
                self.waiting.push_front(next);
                return Ok(());
            }
            self.blocks.push(next);
        }
    }

    /// Blocks that are still to be revealed below `chunk`.
    pub(crate) fn left_below(&mut self, chunk: u64) -> Result<usize, ChainError> {
        let revealed = self.blocks.len();
        self.reveal_below(chunk)?;
        let hidden = self.blocks.split_off(revealed.min(self.blocks.len()));
        let count = hidden.len();
        for block in hidden.into_iter().rev() {
            self.waiting.push_front(block);
        }
        Ok(count)
    }

    /// Takes the newest `count` blocks away; with `fork`, what comes next is another chain.
    pub(crate) fn roll_back(&mut self, count: usize, fork: bool) {
        let left = self.blocks.len().saturating_sub(count);
        let taken = self.blocks.split_off(left);
        self.rollbacks.push(left);
        if fork {
            self.fork += 1;
            self.waiting.clear();
            self.next_trio = self.trios;
        } else {
            for block in taken.into_iter().rev() {
                self.waiting.push_front(block);
            }
        }
    }

    fn take_next(&mut self) -> Result<Block, ChainError> {
        while self.waiting.is_empty() && self.next_trio < self.trios {
            if let Some(directory) = &self.real {
                self.waiting.extend(immutable::read(directory, self.next_trio)?);
            }
            self.next_trio += 1;
        }
        match self.waiting.pop_front() {
            Some(block) => Ok(block),
            None => synthetic::after(self.blocks.last(), self.fork).map_err(|why| ChainError::Make(why.to_string())),
        }
    }
}
