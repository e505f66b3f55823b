//! The tree itself: its right edge, its complete nodes, its proofs.
//!
//! Source: RFC 9162 §2.1.1 to §2.1.4. In: leaf hashes, in order. Out: roots and paths.
//! Holds: one node on the edge per set bit of the size; a node is stored when it is complete,
//! once.
//! Elsewhere: checking paths (`verify`), what a leaf is (`receipts`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ReceiptError, empty_root, node_hash};
use crate::crypto::Digest;

/// The right edge of a tree: all that is needed to append and to give the root.
///
/// Holds one node per set bit of the size, the largest subtree first: at most 64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u64, Vec<Digest>)", into = "(u64, Vec<Digest>)")]
pub struct Frontier {
    size: u64,
    nodes: Vec<Digest>,
}

impl Frontier {
    /// The frontier of an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The nodes of the right edge, the largest subtree first.
    pub fn nodes(&self) -> &[Digest] {
        &self.nodes
    }

    /// Appends one leaf by its hash.
    pub fn append(&mut self, leaf: Digest) {
        self.append_with(leaf, |_, _, _| {});
    }

    /// The root of the tree so far.
    pub fn root(&self) -> Digest {
        let edge = self.nodes.iter().rev().copied();
        edge.reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(empty_root)
    }

    /// Appends one leaf and names every node that it completes, leaf first.
    fn append_with(&mut self, leaf: Digest, mut completed: impl FnMut(u8, u64, Digest)) {
        let (mut level, mut index, mut node) = (0, self.size, leaf);
        completed(level, index, node);
        while index & 1 == 1 {
            let left = self.nodes.pop();
            let left = left.expect("each set bit of the size has its node on the edge");
            node = node_hash(&left, &node);
            (level, index) = (level + 1, index >> 1);
            completed(level, index, node);
        }
        self.nodes.push(node);
        self.size = self
            .size
            .checked_add(1)
            .expect("a ledger has fewer than 2^64 leaves");
        assert_eq!(
            self.nodes.len(),
            self.size.count_ones() as usize,
            "one node per set bit"
        );
    }

    /// Each node of the edge with its level and index.
    pub fn placed(&self) -> impl Iterator<Item = (u8, u64, Digest)> + '_ {
        let levels = (0..64u8).rev().filter(|level| self.size >> level & 1 == 1);
        levels.zip(&self.nodes).map(|(level, node)| {
            // All leaves of higher levels stand to the left, so the node's index is the even
            // number just below the size at its level.
            (level, (self.size >> level) - 1, *node)
        })
    }
}

impl From<Frontier> for (u64, Vec<Digest>) {
    fn from(frontier: Frontier) -> Self {
        (frontier.size, frontier.nodes)
    }
}

impl TryFrom<(u64, Vec<Digest>)> for Frontier {
    type Error = ReceiptError;
    fn try_from((size, nodes): (u64, Vec<Digest>)) -> Result<Self, ReceiptError> {
        let need = size.count_ones() as usize;
        if nodes.len() != need {
            return Err(ReceiptError::Edge {
                size,
                have: nodes.len(),
                need,
            });
        }
        Ok(Self { size, nodes })
    }
}

/// Where complete nodes are kept: level 0 holds leaves, a node of level l covers 2^l of them.
pub trait Nodes {
    /// The node at a place, if it is kept.
    fn get(&self, level: u8, index: u64) -> Option<Digest>;
    /// Keeps a node; each place is written once, or again with the same value.
    fn put(&mut self, level: u8, index: u64, node: Digest);
}

/// Nodes in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryNodes(BTreeMap<(u8, u64), Digest>);

impl Nodes for MemoryNodes {
    fn get(&self, level: u8, index: u64) -> Option<Digest> {
        self.0.get(&(level, index)).copied()
    }

    fn put(&mut self, level: u8, index: u64, node: Digest) {
        let before = self.0.insert((level, index), node);
        assert!(
            before.is_none_or(|b| b == node),
            "a complete node never changes"
        );
    }
}

/// A tree that can prove: a frontier and the complete nodes behind it.
#[derive(Clone, Debug, Default)]
pub struct ReceiptTree<N> {
    frontier: Frontier,
    nodes: N,
}

impl<N: Nodes> ReceiptTree<N> {
    /// Goes on from `frontier` over the nodes kept so far, and keeps the edge itself.
    ///
    /// What lies left of the edge and is not in `nodes` can be fetched and given to
    /// [`ReceiptTree::fill`]; until then proofs that need it fail.
    pub fn resume(frontier: Frontier, mut nodes: N) -> Self {
        for (level, index, node) in frontier.placed() {
            nodes.put(level, index, node);
        }
        Self { frontier, nodes }
    }

    /// The right edge.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// The nodes kept.
    pub fn nodes(&self) -> &N {
        &self.nodes
    }

    /// The nodes kept, for what their store offers besides.
    pub fn nodes_mut(&mut self) -> &mut N {
        &mut self.nodes
    }

    /// Keeps two fetched nodes, the children of the kept node at (`level`, `index`), so that a
    /// tree is filled from its edge down and believes nobody.
    ///
    /// Errors: [`ReceiptError::Missing`] where that node is not kept or is a leaf,
    /// [`ReceiptError::Children`] where the two do not make it.
    pub fn fill(
        &mut self,
        (level, index): (u8, u64),
        [left, right]: [Digest; 2],
    ) -> Result<(), ReceiptError> {
        let node = self.nodes.get(level, index).filter(|_| level > 0);
        let node = node.ok_or(ReceiptError::Missing { level, index })?;
        if node_hash(&left, &right) != node {
            return Err(ReceiptError::Children { level, index });
        }
        self.nodes.put(level - 1, index * 2, left);
        self.nodes.put(level - 1, index * 2 + 1, right);
        Ok(())
    }

    /// Appends one leaf by its hash and gives its index.
    pub fn append(&mut self, leaf: Digest) -> u64 {
        let index = self.frontier.size;
        let nodes = &mut self.nodes;
        self.frontier
            .append_with(leaf, |level, index, node| nodes.put(level, index, node));
        index
    }

    /// The root over the first `size` leaves.
    ///
    /// Errors: [`ReceiptError::Range`] beyond the tree, [`ReceiptError::Missing`] where a node is
    /// not kept.
    pub fn root_at(&self, size: u64) -> Result<Digest, ReceiptError> {
        self.bound(size)?;
        if size == 0 {
            return Ok(empty_root());
        }
        self.subtree(0, size)
    }

    /// The path that proves leaf `index` in the tree of the first `size` leaves, lowest node
    /// first.
    ///
    /// Errors: as [`ReceiptTree::root_at`].
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Digest>, ReceiptError> {
        self.bound(size)?;
        if index >= size {
            return Err(ReceiptError::Range { asked: index, size });
        }
        let (mut from, mut to) = (0, size);
        let mut path = Vec::new();
        while to - from > 1 {
            let middle = from + split(to - from);
            if index < middle {
                path.push(self.subtree(middle, to)?);
                to = middle;
            } else {
                path.push(self.subtree(from, middle)?);
                from = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The path that proves that the tree of `old` leaves is the beginning of that of `new`
    /// leaves.
    ///
    /// Empty when `old` is 0 or equals `new`. Errors: as [`ReceiptTree::root_at`].
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Digest>, ReceiptError> {
        self.bound(new)?;
        if old > new {
            return Err(ReceiptError::Range {
                asked: old,
                size: new,
            });
        }
        let mut path = Vec::new();
        if old == 0 {
            return Ok(path);
        }
        let (mut from, mut to) = (0, new);
        while to != old {
            let middle = from + split(to - from);
            if old <= middle {
                path.push(self.subtree(middle, to)?);
                to = middle;
            } else {
                path.push(self.subtree(from, middle)?);
                from = middle;
            }
        }
        // A subtree that starts at 0 is the old tree itself, whose root the reader knows.
        if from > 0 {
            path.push(self.subtree(from, to)?);
        }
        path.reverse();
        Ok(path)
    }

    fn bound(&self, size: u64) -> Result<(), ReceiptError> {
        if size > self.frontier.size {
            return Err(ReceiptError::Range {
                asked: size,
                size: self.frontier.size,
            });
        }
        Ok(())
    }

    /// The hash over the leaves from `from` to `to`, where `from` is a multiple of the size
    /// rounded up to a power of two.
    fn subtree(&self, from: u64, to: u64) -> Result<Digest, ReceiptError> {
        let size = to - from;
        if !size.is_power_of_two() {
            let middle = from + split(size);
            let left = self.subtree(from, middle)?;
            return Ok(node_hash(&left, &self.subtree(middle, to)?));
        }
        let level = size.trailing_zeros() as u8;
        let index = from >> level;
        assert_eq!(
            index << level,
            from,
            "a complete subtree starts at a multiple of its size"
        );
        self.nodes
            .get(level, index)
            .ok_or(ReceiptError::Missing { level, index })
    }
}

/// The largest power of two below `size`, which is at least 2.
pub(super) fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}
