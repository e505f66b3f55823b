//! Checking a path against roots that a certificate vouches for.
//!
//! Source: RFC 9162 §2.1.3.2 and §2.1.4.2. In: roots, sizes, a leaf, a path. Out: a verdict.
//! Holds: a path that is altered, longer or shorter fails. Elsewhere: making paths (`tree`).

use super::{empty_root, node_hash};
use crate::crypto::Digest;

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

/// Whether `path` proves that the tree of `old` leaves under `old_root` is the beginning of that
/// of `new` leaves under `new_root`.
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
