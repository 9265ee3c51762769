//! Roots and proofs over any store of nodes (spec §4.1; byte-equal to ckb-merkle-mountain-range 0.6.1).
//!
//! Two nodes merge as BLAKE2s-256(left ‖ right). The root bags summits from the right: the right one comes first. Items of a
//! proof go summit by summit from the left, inside each level by level from the leaves; a summit without a proven leaf is one
//! item, and several such at the right end are one item bagged together.

use super::position::{Peak, peaks, position_of, size_of};
use super::{Hash, MerkleError};
use blake2::{Blake2s256, Digest};
use std::borrow::Cow;

/// BLAKE2s-256 of both, left first.
#[must_use]
pub fn merge(left: &[u8], right: &[u8]) -> Hash {
    Blake2s256::new().chain_update(left).chain_update(right).finalize().into()
}

/// A store of the nodes of one mountain range.
pub trait Nodes {
    /// How many leaves it has.
    fn leaves(&self) -> u64;

    /// The node of one of its perfect trees that is `index`th from the left at this height; none where there is no such.
    fn node(&self, peak: Peak, height: u32, index: u64) -> Option<Cow<'_, [u8]>>;
}

/// That some leaves belong to a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof<'a> {
    /// The root.
    pub root: Cow<'a, [u8]>,
    /// Proven leaves and their positions, in ascending order.
    pub leaves: Vec<(u64, Cow<'a, [u8]>)>,
    /// Number of nodes of the mountain range.
    pub size: u64,
    /// What a verifier needs beside the leaves.
    pub items: Vec<Cow<'a, [u8]>>,
}

fn node(nodes: &impl Nodes, peak: Peak, height: u32, index: u64) -> Result<Cow<'_, [u8]>, MerkleError> {
    nodes.node(peak, height, index).ok_or_else(|| MerkleError::NoNode(peak.node(height, index)))
}

fn summit(nodes: &impl Nodes, peak: Peak) -> Result<Cow<'_, [u8]>, MerkleError> {
    node(nodes, peak, peak.height, 0)
}

fn bag(summits: &mut Vec<Cow<'_, [u8]>>) {
    while let Some(right) = summits.pop() {
        match summits.pop() {
            Some(left) => summits.push(Cow::Owned(merge(&right, &left).to_vec())),
            None => {
                summits.push(right);
                return;
            }
        }
    }
}

/// The root: the only leaf itself when there is one.
///
/// # Errors
/// No leaf at all.
pub fn root(nodes: &impl Nodes) -> Result<Cow<'_, [u8]>, MerkleError> {
    let mut summits = peaks(nodes.leaves()).map(|peak| summit(nodes, peak)).collect::<Result<Vec<_>, _>>()?;
    bag(&mut summits);
    summits.pop().ok_or(MerkleError::NoLeaves)
}

/// Proves the leaves with these indices under the root, which the caller knows.
///
/// # Errors
/// No index at all, or one behind the end.
pub fn prove<'a>(nodes: &'a impl Nodes, root: &'a [u8], indices: &[u64]) -> Result<Proof<'a>, MerkleError> {
    let mut wanted = indices.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let last = *wanted.last().ok_or(MerkleError::NoLeaves)?;
    if last >= nodes.leaves() {
        return Err(MerkleError::NoLeaf(last));
    }
    let mut items = Vec::new();
    let mut leaves = Vec::with_capacity(wanted.len());
    let mut rest = wanted.as_slice();
    let mut untouched = 0;
    for peak in peaks(nodes.leaves()) {
        let (inside, right) = rest.split_at(rest.partition_point(|index| *index < peak.end()));
        rest = right;
        if inside.is_empty() {
            items.push(summit(nodes, peak)?);
            untouched += 1;
        } else {
            climb(nodes, peak, inside, &mut items)?;
            for index in inside {
                leaves.push((position_of(*index), node(nodes, peak, 0, index.saturating_sub(peak.first))?));
            }
            untouched = 0;
        }
    }
    if untouched > 1 {
        let mut right = items.split_off(items.len().saturating_sub(untouched));
        bag(&mut right);
        items.append(&mut right);
    }
    Ok(Proof { root: Cow::Borrowed(root), leaves, size: size_of(nodes.leaves()), items })
}

/// Siblings that a verifier cannot compute on its way from these leaves to the summit.
fn climb<'a>(
    nodes: &'a impl Nodes,
    peak: Peak,
    inside: &[u64],
    items: &mut Vec<Cow<'a, [u8]>>,
) -> Result<(), MerkleError> {
    let mut level: Vec<u64> = inside.iter().map(|index| index.saturating_sub(peak.first)).collect();
    for height in 0..peak.height {
        let mut parents: Vec<u64> = Vec::with_capacity(level.len());
        let mut rest = level.iter().copied().peekable();
        while let Some(index) = rest.next() {
            let sibling = index ^ 1;
            if rest.next_if_eq(&sibling).is_none() {
                items.push(node(nodes, peak, height, sibling)?);
            }
            parents.push(index >> 1);
        }
        level = parents;
    }
    Ok(())
}
