//! Where nodes of a Merkle mountain range are (spec §4.1).
//!
//! Nodes are numbered in the order in which they come to be: a leaf, then every parent that it completes. A mountain range of
//! `n` leaves is a row of perfect trees, one for each bit set in `n`, the highest first. Units: leaves and nodes, from 0.

/// How many nodes a mountain range of this many leaves has.
#[must_use]
pub const fn size_of(leaves: u64) -> u64 {
    // A perfect tree of 2^h leaves has 2^(h+1) - 1 nodes; there is one such tree for each bit that is set.
    leaves.saturating_mul(2).saturating_sub(leaves.count_ones() as u64)
}

/// Position of the leaf with this index: where a mountain range of `index` leaves ends.
#[must_use]
pub const fn position_of(index: u64) -> u64 {
    size_of(index)
}

/// One perfect tree of a mountain range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    /// Height: it has 2^height leaves.
    pub height: u32,
    /// Index of its first leaf.
    pub first: u64,
}

impl Peak {
    /// Index after its last leaf.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.first.saturating_add(1 << self.height)
    }

    /// Position of the node `index`th from the left at this height of the tree.
    #[must_use]
    pub const fn node(self, height: u32, index: u64) -> u64 {
        // A node follows its rightmost leaf by as many nodes as it is high.
        let rightmost = self.first.saturating_add((index.saturating_add(1) << height).saturating_sub(1));
        position_of(rightmost).saturating_add(height as u64)
    }
}

/// The perfect trees of a mountain range, from left to right.
pub fn peaks(leaves: u64) -> impl DoubleEndedIterator<Item = Peak> {
    (0..u64::BITS).rev().filter(move |height| leaves >> height & 1 == 1).map(move |height| Peak {
        height,
        // Higher bits lie to the left.
        first: leaves.checked_shr(height + 1).unwrap_or(0).checked_shl(height + 1).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eleven leaves: summits at 14, 17 and 18.
    #[test]
    fn nodes_are_numbered_as_they_come_to_be() {
        let summits: Vec<u64> = peaks(11).map(|peak| peak.node(peak.height, 0)).collect();
        assert_eq!(summits, [14, 17, 18]);
        let leaves: Vec<u64> = (0..11).map(position_of).collect();
        assert_eq!(leaves, [0, 1, 3, 4, 7, 8, 10, 11, 15, 16, 18]);
        assert_eq!(size_of(11), 19);
        let first = peaks(11).next().unwrap();
        assert_eq!((first.node(1, 3), first.node(2, 1), first.end()), (12, 13, 8));
    }

    #[test]
    fn no_leaf_is_no_node() {
        assert_eq!(size_of(0), 0);
        assert_eq!(peaks(0).count(), 0);
    }

    #[test]
    fn the_greatest_count_does_not_wrap() {
        assert_eq!(peaks(u64::MAX).count(), 64);
        assert_eq!(size_of(u64::MAX), u64::MAX - 64);
    }
}
