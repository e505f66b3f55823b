//! Open proposals by height, and the batches that they name.
//!
//! Source: design of dissemination. In: heights with digests. Out: whether a batch is spoken for.
//! Holds: one proposal is open per height; a batch that two of them name is spoken for until both
//! are closed.
//! Elsewhere: what closes one (`pool`).

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use crate::committee::Height;
use crate::crypto::Digest;

/// The heights with an open proposal and the batches that each names.
#[derive(Clone, Debug, Default)]
pub(super) struct Proposed {
    by_height: BTreeMap<Height, Vec<Digest>>,
    counts: BTreeMap<Digest, usize>,
}

impl Proposed {
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.counts.contains_key(digest)
    }

    pub(super) fn insert(&mut self, height: Height, digests: &[Digest]) {
        for digest in digests {
            *self.counts.entry(*digest).or_default() += 1;
        }
        let before = self.by_height.insert(height, digests.to_vec());
        assert!(before.is_none(), "one proposal is open per height");
    }

    /// Closes the proposal at `height` and gives what it named.
    pub(super) fn remove(&mut self, height: Height) -> Vec<Digest> {
        let digests = self.by_height.remove(&height).unwrap_or_default();
        for digest in &digests {
            let count = self.counts.get_mut(digest);
            let count = count.expect("each named batch is counted");
            *count -= 1;
            if *count == 0 {
                self.counts.remove(digest);
            }
        }
        digests
    }

    /// Closes the proposals at `heights` and gives what they named.
    pub(super) fn remove_all(&mut self, heights: impl RangeBounds<Height>) -> Vec<Digest> {
        let open = self.by_height.range(heights);
        let heights: Vec<Height> = open.map(|(height, _)| *height).collect();
        let named = heights.into_iter().map(|height| self.remove(height));
        named.flatten().collect()
    }

    /// The highest height with an open proposal.
    pub(super) fn top(&self) -> Height {
        let top = self.by_height.keys().next_back();
        top.copied().unwrap_or_default()
    }
}
