//! Nodes of the trie: their hashes, and the two acts that change its shape.
//!
//! Source: this file is the specification of the hashes, all BLAKE3 under `Domain::Map` of a first
//! byte and: `00` nothing (the empty map); `01` path, value digest (a leaf); `02` bit, low, high
//! (a branch); `03` value; `04` key. In: keys, values. Out: links.
//! Holds: a branch has two children, whose paths agree below its bit and differ in it.
//! Elsewhere: the map's accounts (`map`), the same hashes folded from a proof (`proof`).

use std::mem;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::crypto::{Digest, Domain, Hasher};

fn hash(kind: u8, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Domain::Map);
    hasher.update(&[kind]).update(bytes);
    hasher.finish()
}

pub(super) fn empty_hash() -> Digest {
    hash(0, &[])
}

// Leaves and branches are hashed in one piece: they are most of the work at a sealed height.
pub(super) fn leaf_hash(path: &Digest, value: &Digest) -> Digest {
    let mut bytes = [0; 65];
    bytes[0] = 1;
    bytes[1..33].copy_from_slice(path.as_bytes());
    bytes[33..].copy_from_slice(value.as_bytes());
    Digest::of(Domain::Map, &bytes)
}

pub(super) fn branch_hash(bit: u8, [low, high]: [&Digest; 2]) -> Digest {
    let mut bytes = [0; 66];
    bytes[..2].copy_from_slice(&[2, bit]);
    bytes[2..34].copy_from_slice(low.as_bytes());
    bytes[34..].copy_from_slice(high.as_bytes());
    Digest::of(Domain::Map, &bytes)
}

/// The digest of a value, as leaves bind it.
pub fn value_digest(value: &[u8]) -> Digest {
    hash(3, value)
}

/// The path of a key.
pub(crate) fn key_path(key: &[u8]) -> Digest {
    hash(4, key)
}

/// Which child `path` leads to at `bit`, counted from the highest bit of the first byte.
pub(super) fn side(path: &Digest, bit: u8) -> usize {
    (path.0[usize::from(bit / 8)] >> (7 - bit % 8) & 1).into()
}

/// The first bit in which two paths differ.
pub(super) fn first_difference(one: &Digest, other: &Digest) -> Option<u8> {
    let byte = one.0.iter().zip(&other.0).position(|(a, b)| a != b)?;
    let bit = (one.0[byte] ^ other.0[byte]).leading_zeros();
    Some(u8::try_from(byte as u32 * 8 + bit).expect("a path has 256 bits"))
}

/// A key with its value; replaced as a whole, never changed.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) path: Digest,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    hash: OnceLock<Digest>,
}

impl Leaf {
    pub(super) fn new(key: Bytes, value: Bytes) -> Self {
        let path = key_path(&key);
        Self {
            path,
            key,
            value,
            hash: OnceLock::new(),
        }
    }
}

/// A fork: the paths below differ first in `bit`.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) bit: u8,
    pub(super) children: [Link; 2],
    hash: OnceLock<Digest>,
    /// Entries below, and bytes of their keys and values.
    weight: OnceLock<(u64, u64)>,
}

impl Branch {
    /// What is below changes.
    fn touch(&mut self) {
        self.hash.take();
        self.weight.take();
    }
}

/// A shared node.
#[derive(Clone, Debug)]
pub(super) enum Link {
    Leaf(Arc<Leaf>),
    Branch(Arc<Branch>),
}

impl Link {
    /// The leaf that a walk by `path` ends at; its own if the key is there.
    pub(super) fn nearest(&self, path: &Digest) -> &Leaf {
        let mut link = self;
        loop {
            match link {
                Link::Leaf(leaf) => return leaf,
                Link::Branch(branch) => link = &branch.children[side(path, branch.bit)],
            }
        }
    }

    /// Bytes of all entries below, each with `overhead`; counted once, as deep as the hash.
    pub(super) fn weight(&self, overhead: u64) -> u64 {
        let (count, bytes) = self.counted();
        count * overhead + bytes
    }

    fn counted(&self) -> (u64, u64) {
        match self {
            Link::Leaf(leaf) => (1, (leaf.key.len() + leaf.value.len()) as u64),
            Link::Branch(branch) => *branch.weight.get_or_init(|| {
                let [low, high] = branch.children.each_ref().map(Link::counted);
                (low.0 + high.0, low.1 + high.1)
            }),
        }
    }

    /// The hash, computed once; the depth of the calls is at most that of a path, 256.
    pub(super) fn hash(&self) -> Digest {
        match self {
            Link::Leaf(leaf) => *leaf
                .hash
                .get_or_init(|| leaf_hash(&leaf.path, &value_digest(&leaf.value))),
            Link::Branch(branch) => *branch.hash.get_or_init(|| {
                let [low, high] = &branch.children;
                branch_hash(branch.bit, [&low.hash(), &high.hash()])
            }),
        }
    }
}

/// Puts `leaf` below `link`: in place of the leaf of its path, or, where the path is new and
/// differs from its nearest first at bit `at`, under a branch of its own. Nodes that others hold
/// are copied.
pub(super) fn graft(link: &mut Link, leaf: Arc<Leaf>, at: Option<u8>) {
    if let Link::Branch(branch) = link
        && at.is_none_or(|bit| branch.bit < bit)
    {
        let branch = Arc::make_mut(branch);
        branch.touch();
        let side = side(&leaf.path, branch.bit);
        return graft(&mut branch.children[side], leaf, at);
    }
    let Some(bit) = at else {
        *link = Link::Leaf(leaf);
        return;
    };
    let high = side(&leaf.path, bit) == 1;
    let new = Link::Leaf(leaf);
    let old = mem::replace(link, new.clone());
    if let Link::Branch(below) = &old {
        assert!(below.bit > bit, "bits grow on the way down");
    }
    let children = if high { [old, new] } else { [new, old] };
    *link = Link::Branch(Arc::new(Branch {
        bit,
        children,
        hash: OnceLock::new(),
        weight: OnceLock::new(),
    }));
}

/// Takes the leaf of `path`, which must be there, out from below the branch `link`; its sibling
/// takes the place of the branch above it.
pub(super) fn cut(link: &mut Link, path: &Digest) {
    let Link::Branch(branch) = link else {
        unreachable!("a cut starts at a branch and stops above a leaf");
    };
    let side = side(path, branch.bit);
    if let Link::Leaf(leaf) = &branch.children[side] {
        assert_eq!(leaf.path, *path, "what is cut was found before");
        let sibling = branch.children[1 - side].clone();
        *link = sibling;
        return;
    }
    let branch = Arc::make_mut(branch);
    branch.touch();
    cut(&mut branch.children[side], path);
}
