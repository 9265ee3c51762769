//! Trees of ranges that were asked for lately, up to a number of bytes.
//!
//! Two generations: what is found in the old one moves to the new one; when the new one is full, it becomes the old one. So at
//! most the bound is kept, and what is asked for often stays. Each tree is kept with its range's leaf, which tells whether it is
//! still the one.

use crate::core::merkle::{Form, Hash, RangeLeaves, Tree};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Form of the tree, range, and the last block in it.
pub(super) type Key = (Form, u64, u64);

/// A tree and the leaf of its range.
pub(super) type Kept = Arc<(Hash, Tree<RangeLeaves>)>;

fn weight(kept: &Kept) -> usize {
    kept.1.leaves().weight() + kept.1.upper().len() * 32 + size_of::<Tree<RangeLeaves>>()
}

#[derive(Debug, Default)]
struct Generations {
    new: HashMap<Key, Kept>,
    new_bytes: usize,
    old: HashMap<Key, Kept>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    generations: Mutex<Generations>,
    bytes_max: usize,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { generations: Mutex::default(), bytes_max }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Kept> {
        let mut all = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = all.new.get(key) {
            return Some(Arc::clone(tree));
        }
        let tree = all.old.remove(key)?;
        self.insert(&mut all, *key, Arc::clone(&tree));
        Some(tree)
    }

    pub(super) fn put(&self, key: Key, tree: &Kept) {
        let mut all = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        self.insert(&mut all, key, Arc::clone(tree));
    }

    fn insert(&self, all: &mut Generations, key: Key, tree: Kept) {
        let weight = weight(&tree);
        // Each generation has half.
        if all.new_bytes + weight > self.bytes_max / 2 {
            all.old = std::mem::take(&mut all.new);
            all.new_bytes = 0;
        }
        if weight <= self.bytes_max / 2 && all.new.insert(key, tree).is_none() {
            all.new_bytes += weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::merkle::{Block, range_tree};

    fn tree(transactions: u8) -> Kept {
        let transactions = (0..transactions).map(|number| [number; 32]).collect();
        let block = Block { number: 1, slot: 1, hash: [0; 32], transactions };
        Arc::new(([0; 32], range_tree(Form::Transactions, vec![block]).unwrap()))
    }

    #[test]
    fn it_keeps_what_is_asked_for_and_never_more_than_its_bound() {
        let one = weight(&tree(10));
        let cache = Cache::new(one * 20);
        let key = |range| (Form::Transactions, range, 0);
        for range in 0..1000 {
            assert!(cache.get(&key(range)).is_none());
            cache.put(key(range), &tree(10));
            assert!(cache.get(&key(0)).is_some(), "what is always asked for stays");
            let all = cache.generations.lock().unwrap();
            let weight: usize = all.new.values().chain(all.old.values()).map(weight).sum();
            assert!(weight <= one * 20);
        }
        cache.put(key(5000), &tree(200));
        assert!(cache.get(&key(5000)).is_none(), "a tree greater than the bound is not kept");
    }
}
