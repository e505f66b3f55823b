//! The newest digests of a kind, up to a bound.
//!
//! Source: design of bounds. In: digests. Out: whether one is among them.
//! Holds: never more than the bound; the oldest is forgotten first.
//! Elsewhere: what they mean (`pool`).

use std::collections::{BTreeSet, VecDeque};

use crate::crypto::Digest;

/// A set of digests that forgets its oldest.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    set: BTreeSet<Digest>,
    /// In order of insertion; may name digests that were taken out meanwhile.
    order: VecDeque<Digest>,
}

impl Recent {
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.set.contains(digest)
    }

    /// Adds `digest`, and forgets the oldest beyond `most`.
    pub(super) fn insert(&mut self, digest: Digest, most: usize) {
        if !self.set.insert(digest) {
            return;
        }
        self.order.push_back(digest);
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.set.remove(&oldest);
            }
        }
    }

    /// Takes `digest` out; whether it was in.
    pub(super) fn remove(&mut self, digest: &Digest) -> bool {
        self.set.remove(digest)
    }
}
