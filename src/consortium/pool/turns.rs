//! Whose turn it is: batches that a quorum holds and that a leader passes over.
//!
//! Source: overtaking rule of the settled timers: 2 · ⌈Q / block⌉ blocks, against censorship.
//! In: batches that became ready, heights that were applied. Out: what to remind of, a complaint.
//! Holds: heights count, never time; those of an earlier regency, those known before the batch was
//! ready, and those that were fetched count for nothing; the leader is reminded twice first.
//! Elsewhere: what is ready (`pool`), what a complaint leads to (`fsm`).
//!
//! A leader takes the oldest of each origin and as much of each, and it closes a block only when
//! nothing is left or the block is full. So a batch waits for no more full blocks than the queue of
//! its origin fills, times the origins. Before the complaint every holder spreads the batch again,
//! so a leader that lacked the bytes or the acknowledgements has both.

use std::collections::{BTreeMap, BTreeSet};

use crate::committee::Height;
use crate::crypto::Digest;

/// Batches of one block that the leader is reminded of at most; others have their turn later.
pub(super) const REMIND_MAX: usize = 8;
/// Reminders before a complaint.
const REMINDERS: u32 = 2;

/// What a height leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overtaken {
    /// Batches to be spread again and acknowledged again.
    pub remind: Vec<Digest>,
    /// A batch was overtaken although the leader was reminded of it: complain of the leader.
    pub is_complaint: bool,
}

/// A batch that waits for its turn.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// From this height on blocks count.
    since: Height,
    /// Blocks until the first reminder; as many again until the complaint.
    blocks: u64,
    reminders: u32,
    /// What it is looked at next.
    due: Height,
}

/// Batches by the height at which they are looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    /// No block up to here counts.
    excused: Height,
    watches: BTreeMap<Digest, Watch>,
    due: BTreeSet<(Height, Digest)>,
}

impl Turns {
    /// No block up to `height` overtook anything.
    pub(super) fn excuse(&mut self, height: Height) {
        self.excused = self.excused.max(height);
    }

    /// `batch` is ready; more than twice `blocks` above `known` may not pass it over.
    pub(super) fn watch(&mut self, batch: Digest, known: Height, blocks: u64) {
        if self.watches.contains_key(&batch) {
            return;
        }
        let watch = Watch {
            since: known,
            blocks,
            reminders: 0,
            due: known.plus(blocks),
        };
        self.due.insert((watch.due, batch));
        self.watches.insert(batch, watch);
    }

    /// `batch` left.
    pub(super) fn forget(&mut self, batch: &Digest) {
        if let Some(watch) = self.watches.remove(batch) {
            self.due.remove(&(watch.due, *batch));
        }
    }

    /// The block at `height` was applied, and what it ordered was forgotten.
    pub(super) fn passed(&mut self, height: Height) -> Overtaken {
        let mut overtaken = Overtaken::default();
        while let Some((due, batch)) = self.due.first().copied() {
            if due >= height || overtaken.remind.len() >= REMIND_MAX {
                break;
            }
            self.due.remove(&(due, batch));
            let watch = self.watches.get_mut(&batch);
            let watch = watch.expect("what is due is watched");
            if watch.since < self.excused {
                (watch.since, watch.reminders) = (self.excused, 0);
                watch.due = self.excused.plus(watch.blocks);
            } else if watch.reminders < REMINDERS {
                watch.reminders += 1;
                watch.due = height.plus(watch.blocks.div_ceil(REMINDERS.into()));
                overtaken.remind.push(batch);
            } else {
                overtaken.is_complaint = true;
                (watch.since, watch.reminders) = (height, 0);
                watch.due = height.plus(watch.blocks);
            }
            self.due.insert((watch.due, batch));
        }
        overtaken
    }
}
