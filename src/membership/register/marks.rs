//! Recent header digests: what a newcomer names to show that it has caught up.
//!
//! Source: design of admission: nobody is drawn before it has caught up. In: applied headers. Out:
//! whether a height and a digest are of a recent block.
//! Holds: every 8th block is marked, the newest 64 are kept, so a mark is good for about 512
//! blocks; it follows from the chain alone. Elsewhere: who is drawn then (`slate`).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::blocks::Link;
use crate::committee::Height;
use crate::crypto::Digest;

/// Every so many blocks one is marked.
pub const MARK_EVERY: u64 = 8;
/// Marks that are kept; the oldest gives way.
pub const MARKS_MAX: usize = 64;

/// The newest marked blocks, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Marks(VecDeque<Link>);

impl Marks {
    /// The marks of a chain that starts with `genesis`.
    pub fn new(genesis: Link) -> Self {
        let mut marks = Self::default();
        marks.push(genesis);
        marks
    }

    /// The highest height at or below `height` that may be named.
    pub fn height_below(height: Height) -> Height {
        Height(height.0 - height.0 % MARK_EVERY)
    }

    /// Notes an applied block; most are not marked.
    pub fn push(&mut self, block: Link) {
        if !block.height.0.is_multiple_of(MARK_EVERY) {
            return;
        }
        let last = self.0.back();
        assert!(
            last.is_none_or(|last| last.height < block.height),
            "blocks are applied in order"
        );
        self.0.push_back(block);
        if self.0.len() > MARKS_MAX {
            self.0.pop_front();
        }
    }

    /// The newest.
    pub fn last(&self) -> Option<&Link> {
        self.0.back()
    }

    /// The marks, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.iter()
    }

    /// Whether the block of `height` is marked and has that digest.
    pub fn has(&self, height: Height, digest: &Digest) -> bool {
        let is_named = |mark: &&Link| mark.height == height;
        self.0
            .iter()
            .find(is_named)
            .is_some_and(|mark| mark.digest == *digest)
    }
}
