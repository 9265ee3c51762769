//! An array that only grows or is cut, and whose copies share what they have in common.
//!
//! Full chunks are immutable and counted; a copy costs one pointer per chunk and the last, unfilled chunk. That is what lets a
//! certified prefix be read by any number of readers while the writer goes on.

use std::sync::Arc;

/// Elements per chunk: 128 KiB of nodes.
const CHUNK: usize = 4096;

/// See the module.
#[derive(Debug, Clone)]
pub struct Shared<T> {
    full: Vec<Arc<[T]>>,
    tail: Vec<T>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { full: Vec::new(), tail: Vec::new() }
    }
}

impl<T: Copy> Shared<T> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full.len() * CHUNK + self.tail.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at this index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        match self.full.get(index / CHUNK) {
            Some(chunk) => chunk.get(index % CHUNK),
            None => self.tail.get(index - self.full.len() * CHUNK),
        }
    }

    /// The last element.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.len().checked_sub(1).and_then(|index| self.get(index))
    }

    /// Appends one.
    pub fn push(&mut self, value: T) {
        self.tail.push(value);
        if self.tail.len() == CHUNK {
            self.full.push(Arc::from(self.tail.as_slice()));
            self.tail.clear();
        }
    }

    /// Keeps the first `len` elements.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        let (chunks, rest) = (len / CHUNK, len % CHUNK);
        if let Some(chunk) = self.full.get(chunks) {
            self.tail = chunk.iter().take(rest).copied().collect();
            self.full.truncate(chunks);
        } else {
            self.tail.truncate(rest);
        }
    }

    /// How many elements from the start hold; they are those before all that do not.
    pub fn partition_point(&self, holds: impl Fn(&T) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle) {
                Some(value) if holds(value) => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_vector_whatever_is_pushed_and_cut() {
        let (mut ours, mut plain) = (Shared::default(), Vec::new());
        for round in 0..40_usize {
            let copy = (ours.clone(), plain.clone());
            for value in 0..round * 97 {
                ours.push(value);
                plain.push(value);
            }
            let cut = plain.len() * (round % 5) / 4;
            ours.truncate(cut);
            plain.truncate(cut);
            assert_eq!(ours.len(), plain.len());
            assert!((0..=plain.len()).all(|index| ours.get(index) == plain.get(index)));
            assert_eq!(ours.last(), plain.last());
            assert!((0..=copy.1.len()).all(|index| copy.0.get(index) == copy.1.get(index)), "a copy stays as it was");
        }
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let mut cut = Shared::default();
            (0..4 * CHUNK).for_each(|value| cut.push(value));
            cut.truncate(len);
            assert_eq!((cut.len(), cut.last().copied()), (len, len.checked_sub(1)));
        }
    }

    #[test]
    fn the_first_that_does_not_hold_is_found() {
        let mut values = Shared::default();
        (0..3 * CHUNK).for_each(|value| values.push(value * 2));
        for value in 0..6 * CHUNK + 3 {
            assert_eq!(values.partition_point(|have| *have < value), value.div_ceil(2).min(3 * CHUNK));
        }
    }
}
