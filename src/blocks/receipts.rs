//! The receipt log: one Merkle tree over a fixed-size receipt per executed transaction.
//!
//! Source: RFC 6962 §2.1 and RFC 9162 §2.1, SHA-256. In: receipts, in order. Out: roots, proofs, verdicts.
//! Holds: an appended leaf is never moved or changed; only complete nodes are stored, each once.
//! Elsewhere: where nodes are kept on disk (`storage`), the certificate over a root (`committee`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::crypto::{Digest, Domain, Hasher, PublicKey, sha256};

#[cfg(test)]
mod tests;

/// The first byte of an encoded receipt.
pub const RECEIPT_VERSION: u8 = 1;

/// Length of an encoded receipt: version 1, sequence 8, height 8, client 32, client sequence 8,
/// group 32, index 4, outcome 32.
pub const RECEIPT_BYTES: usize = 125;

/// Digests in the longest inclusion proof of a tree of up to 2⁶⁴ − 1 leaves.
pub const INCLUSION_PATH_MAX: usize = 64;

/// Digests in the longest consistency proof.
pub const CONSISTENCY_PATH_MAX: usize = 65;

/// What happened to one transaction, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Place among all executed transactions since genesis, from 0: the leaf's index.
    pub sequence: u64,
    /// Height of the block that holds it.
    pub height: u64,
    /// Who signed it.
    pub client: PublicKey,
    /// The client's name for it.
    pub client_sequence: u64,
    /// Digest of the signed group that holds it.
    pub group: Digest,
    /// Place in that group, from 0.
    pub index: u32,
    /// Digest of its result, see [`outcome_digest`].
    pub outcome: Digest,
}

impl Receipt {
    /// The leaf's bytes: the version, then the fields in order, integers little-endian.
    pub fn to_bytes(&self) -> [u8; RECEIPT_BYTES] {
        let mut bytes = [0; RECEIPT_BYTES];
        bytes[0] = RECEIPT_VERSION;
        bytes[1..9].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.height.to_le_bytes());
        bytes[17..49].copy_from_slice(self.client.as_bytes());
        bytes[49..57].copy_from_slice(&self.client_sequence.to_le_bytes());
        bytes[57..89].copy_from_slice(self.group.as_bytes());
        bytes[89..93].copy_from_slice(&self.index.to_le_bytes());
        bytes[93..125].copy_from_slice(self.outcome.as_bytes());
        bytes
    }

    /// Reads what [`Receipt::to_bytes`] wrote.
    ///
    /// Errors: [`ReceiptError::Length`] and [`ReceiptError::Version`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let bytes: &[u8; RECEIPT_BYTES] = bytes
            .try_into()
            .map_err(|_| ReceiptError::Length { got: bytes.len() })?;
        if bytes[0] != RECEIPT_VERSION {
            return Err(ReceiptError::Version { got: bytes[0] });
        }
        Ok(Self {
            sequence: u64::from_le_bytes(field(bytes, 1)),
            height: u64::from_le_bytes(field(bytes, 9)),
            client: PublicKey(Digest(field(bytes, 17))),
            client_sequence: u64::from_le_bytes(field(bytes, 49)),
            group: Digest(field(bytes, 57)),
            index: u32::from_le_bytes(field(bytes, 89)),
            outcome: Digest(field(bytes, 93)),
        })
    }

    /// The hash of this receipt's leaf.
    pub fn leaf(&self) -> Digest {
        leaf_hash(&self.to_bytes())
    }
}

fn field<const N: usize>(bytes: &[u8; RECEIPT_BYTES], from: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[from..from + N]);
    field
}

/// The digest of a transaction's result: BLAKE3 of the code, little-endian, and the bytes.
pub fn outcome_digest(code: u16, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Domain::Outcome);
    hasher.update(&code.to_le_bytes()).update(bytes);
    hasher.finish()
}

/// SHA-256 of 0x00 and the leaf's bytes.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    sha256(&[&[0], leaf])
}

/// SHA-256 of 0x01 and two nodes.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    sha256(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The root of a tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    sha256(&[])
}

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
    fn placed(&self) -> impl Iterator<Item = (u8, u64, Digest)> + '_ {
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
    /// What lies left of the edge and is not in `nodes` can be given later through
    /// [`ReceiptTree::nodes_mut`]; until then proofs that need it fail.
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

    /// The nodes kept, to add fetched ones or to flush.
    pub fn nodes_mut(&mut self) -> &mut N {
        &mut self.nodes
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

    /// The path that proves leaf `index` in the tree of the first `size` leaves, lowest node first.
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

    /// The path that proves that the tree of `old` leaves is the beginning of that of `new` leaves.
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
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// Whether `path` proves leaf `index` under `root` in a tree of `size` leaves.
///
/// Source: RFC 9162 §2.1.3.2.
pub fn verify_inclusion(
    root: &Digest,
    size: u64,
    index: u64,
    leaf: &Digest,
    path: &[Digest],
) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut node) = (index, size - 1, *leaf);
    for step in path {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            node = node_hash(step, &node);
            (place, last) = skip(place, last);
        } else {
            node = node_hash(&node, step);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && node == *root
}

/// Whether `path` proves that the tree of `old` leaves under `old_root` is the beginning of that of
/// `new` leaves under `new_root`.
///
/// Source: RFC 9162 §2.1.4.2. The empty tree is the beginning of every tree.
pub fn verify_consistency(
    (old, old_root): (u64, &Digest),
    (new, new_root): (u64, &Digest),
    path: &[Digest],
) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return path.is_empty() && *old_root == empty_root();
    }
    let (first, rest) = match path {
        [] => return false,
        path if old.is_power_of_two() => (old_root, path),
        [first, rest @ ..] => (first, rest),
    };
    let shift = (old - 1).trailing_ones();
    let (mut place, mut last) = ((old - 1) >> shift, (new - 1) >> shift);
    let (mut old_node, mut new_node) = (*first, *first);
    for step in rest {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            old_node = node_hash(step, &old_node);
            new_node = node_hash(step, &new_node);
            (place, last) = skip(place, last);
        } else {
            new_node = node_hash(&new_node, step);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && old_node == *old_root && new_node == *new_root
}

/// Passes over the levels at which the right edge has no sibling.
fn skip(place: u64, last: u64) -> (u64, u64) {
    let levels = if place == 0 {
        0
    } else {
        place.trailing_zeros()
    };
    (place >> levels, last >> levels)
}

/// Why bytes are no receipt or a proof cannot be made. Nothing changed in any case.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Whoever wrote the bytes is at fault.
    #[error("a receipt has 125 bytes, not {got}")]
    Length {
        /// Bytes given.
        got: usize,
    },
    /// Whoever wrote the bytes is at fault, or newer than we are.
    #[error("receipt version {got} is not known")]
    Version {
        /// The first byte.
        got: u8,
    },
    /// Whoever wrote the frontier is at fault.
    #[error("a frontier of {size} leaves has {need} nodes, not {have}")]
    Edge {
        /// Leaves stated.
        size: u64,
        /// Nodes given.
        have: usize,
        /// Nodes that the size asks for.
        need: usize,
    },
    /// The caller asks beyond the tree.
    #[error("{asked} is beyond a tree of {size} leaves")]
    Range {
        /// Index or size asked for.
        asked: u64,
        /// Leaves there are.
        size: u64,
    },
    /// The node was never fetched here; nobody's fault.
    #[error("the node at level {level}, index {index} is not kept here")]
    Missing {
        /// Its level.
        level: u8,
        /// Its index in the level.
        index: u64,
    },
}
