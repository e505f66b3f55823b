//! The authenticated map: keys and values in memory under one root digest.
//!
//! Source: binary Patricia (crit-bit) tries after Morrison, with BLAKE3 over each node. In: keys
//! and values. Out: roots, [`MapProof`]s, entries in path order.
//! Holds: the shape is a function of the set of keys alone, so the root is one of the contents;
//! bits grow on the way down; a clone costs one count and shares everything.
//! Elsewhere: what keys mean (`kv`), which roots stay provable (`kv`).
//!
//! A path is the digest of a key. A branch names the first bit in which the paths below it differ
//! and its hash binds that bit, so a walk by one key's bits ends at one leaf: the key's own, or
//! proof that the key is absent. Hashes are computed when a root is asked for, along changed
//! nodes.

mod node;
mod proof;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::node::key_path;
pub use self::node::value_digest;
use self::node::{Leaf, Link, cut, empty_hash, first_difference, graft, side};
pub use self::proof::{MapProof, PROOF_BYTES_MAX, ProofError};
use super::read::Bound;

/// Longest key in bytes; a longer one is refused where it is decoded.
pub const KEY_BYTES_MAX: usize = 1024;

/// Longest value in bytes; a longer one is refused where it is decoded.
pub const VALUE_BYTES_MAX: usize = 128 * 1024;

pub(crate) const KEY: Bound = Bound {
    field: "key",
    min: 1,
    max: KEY_BYTES_MAX,
};
pub(crate) const VALUE: Bound = Bound {
    field: "value",
    min: 0,
    max: VALUE_BYTES_MAX,
};

/// A map with a root digest, whose clones are snapshots that cost nothing.
#[derive(Clone, Debug, Default)]
pub struct Map {
    root: Option<Link>,
    count: u64,
    bytes: u64,
}

impl Map {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of keys.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        let path = key_path(key);
        let leaf = self.root.as_ref()?.nearest(&path);
        (leaf.path == path).then_some(&leaf.value)
    }

    /// Sets the value of `key` and gives the one before.
    pub fn insert(&mut self, key: Bytes, value: Bytes) -> Option<Bytes> {
        self.bytes += size(&key, &value);
        let leaf = Arc::new(Leaf::new(key, value));
        let Some(root) = &mut self.root else {
            self.root = Some(Link::Leaf(leaf));
            self.count = 1;
            return None;
        };
        let near = root.nearest(&leaf.path);
        let at = first_difference(&near.path, &leaf.path);
        let before = at.is_none().then(|| near.value.clone());
        match &before {
            Some(value) => self.bytes -= size(&leaf.key, value),
            None => self.count += 1,
        }
        graft(root, leaf, at);
        before
    }

    /// Removes `key` and gives its value.
    pub fn remove(&mut self, key: &[u8]) -> Option<Bytes> {
        let path = key_path(key);
        let root = self.root.as_mut()?;
        let near = root.nearest(&path);
        if near.path != path {
            return None;
        }
        let value = near.value.clone();
        match root {
            Link::Leaf(_) => self.root = None,
            Link::Branch(_) => cut(root, &path),
        }
        self.count -= 1;
        self.bytes -= size(key, &value);
        Some(value)
    }

    /// The digest of the contents; hashes what changed since it was last asked for.
    pub fn root(&self) -> crate::crypto::Digest {
        self.root.as_ref().map_or_else(empty_hash, Link::hash)
    }

    /// A proof of the value of `key`, or of its absence, under [`Map::root`].
    pub fn prove(&self, key: &[u8]) -> MapProof {
        let path = key_path(key);
        let Some(mut link) = self.root.as_ref() else {
            return MapProof::nothing(path);
        };
        let mut steps = Vec::new();
        loop {
            match link {
                Link::Branch(branch) => {
                    let side = side(&path, branch.bit);
                    steps.push((branch.bit, branch.children[1 - side].hash()));
                    link = &branch.children[side];
                }
                Link::Leaf(leaf) => return MapProof::at_leaf(path, leaf, steps),
            }
        }
    }

    /// The entries in path order, cut into the largest parts of the trie that have at most `most`
    /// bytes, where an entry counts its key, its value and `overhead`; one that is longer by itself
    /// is a piece of its own. The whole is walked once, and later what changed.
    pub fn pieces(&self, overhead: u64, most: usize) -> Pieces {
        Pieces {
            todo: self.root.iter().cloned().collect(),
            overhead,
            most: most as u64,
        }
    }

    /// Every key and value in path order, of the map as it is now, whatever happens to it later.
    pub fn entries(&self) -> Entries {
        Entries {
            todo: self.root.iter().cloned().collect(),
        }
    }
}

/// The entries of one state of a map, in pieces that follow its shape.
#[derive(Clone, Debug)]
pub struct Pieces {
    todo: Vec<Link>,
    overhead: u64,
    most: u64,
}

impl Iterator for Pieces {
    type Item = Entries;
    fn next(&mut self) -> Option<Entries> {
        loop {
            let link = self.todo.pop()?;
            match &link {
                Link::Branch(branch) if link.weight(self.overhead) > self.most => {
                    let [low, high] = &branch.children;
                    self.todo.extend([high.clone(), low.clone()]);
                }
                Link::Branch(_) | Link::Leaf(_) => return Some(Entries { todo: vec![link] }),
            }
        }
    }
}

fn size(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

/// The entries of one state of a map, in the order of their keys' digests.
#[derive(Clone, Debug)]
pub struct Entries {
    /// What is still to be visited, the next on top; as deep as the trie, at most 257.
    todo: Vec<Link>,
}

impl Iterator for Entries {
    type Item = (Bytes, Bytes);
    fn next(&mut self) -> Option<(Bytes, Bytes)> {
        loop {
            match self.todo.pop()? {
                Link::Leaf(leaf) => return Some((leaf.key.clone(), leaf.value.clone())),
                Link::Branch(branch) => {
                    let [low, high] = &branch.children;
                    self.todo.push(high.clone());
                    self.todo.push(low.clone());
                }
            }
        }
    }
}
