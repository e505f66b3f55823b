//! Whose turn it is: batches that a quorum holds and that a leader passes over.
//!
//! Source: overtaking rule of the settled timers: 2 · ⌈Q / block⌉ blocks, against censorship.
//! In: batches that became ready, heights that were applied. Out: what to remind of, a complaint.
//! Holds: time alone never blames; heights of an earlier regency, those known before the batch was
//! ready, and those that were fetched count for nothing; the leader is reminded twice first.
//! Elsewhere: what is ready (`pool`), what a complaint leads to (`fsm`).
//!
//! A leader takes the oldest of each origin and as much of each, and it closes a block only when
//! nothing is left or the block is full. So a block that is not full has no excuse. Full ones have:
//! a leader may have got this batch last of all that its origin may have there, however little of
//! it is here, since an origin that lies gives each member what it likes.
//!
//! Before the complaint every holder spreads the batch again, so a leader that lacked the bytes or
//! the acknowledgements has both, once they had the time of one progress timeout to come: fast
//! blocks outrun a large batch. Who has no link to the leader reminds it of nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::committee::Height;
use crate::crypto::Digest;
use crate::machine::{Span, Time};

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

/// How many blocks may pass over a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Until the first reminder, and again until the complaint; in the second half those that are
    /// not full.
    pub(super) blocks: u64,
    /// Full ones that excuse a leader which was reminded.
    pub(super) full: u64,
}

/// A block, as it passes over what waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    pub(super) height: Height,
    /// Whether no other batch would have fitted.
    pub(super) is_full: bool,
    pub(super) now: Time,
    /// How long a reminder may be on its way.
    pub(super) patience: Span,
}

/// A batch that waits for its turn.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// From this height on blocks count.
    since: Height,
    allowance: Allowance,
    reminders: u32,
    /// Full blocks applied before the first reminder, and when and at which height that was.
    reminded: (u64, Time, Height),
    /// What it is looked at next.
    due: Height,
}

/// Batches by the height at which they are looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    /// No block up to here counts.
    excused: Height,
    /// Full blocks that were applied.
    full: u64,
    watches: BTreeMap<Digest, Watch>,
    due: BTreeSet<(Height, Digest)>,
}

impl Watch {
    /// Blames nobody for blocks up to `since`.
    fn restart(&mut self, since: Height) {
        (self.since, self.reminders) = (since, 0);
        self.due = since.plus(self.allowance.blocks);
    }

    /// How many blocks have to pass still before the leader is to blame, where `full` were.
    fn wants(&self, full: u64, block: &Passing) -> u64 {
        let (before, since, from) = self.reminded;
        let full = full - before;
        let passed = block.height.0.saturating_sub(from.0);
        let spare = self
            .allowance
            .blocks
            .saturating_sub(passed.saturating_sub(full));
        let spare = spare.min(self.allowance.full.saturating_sub(full));
        let is_soon = block.now - since < block.patience;
        spare.max(u64::from(is_soon))
    }
}

impl Turns {
    /// No block up to `height` overtook anything.
    pub(super) fn excuse(&mut self, height: Height) {
        self.excused = self.excused.max(height);
    }

    /// `batch` is ready; more than what `allowance` grants may not pass it over above `known`.
    pub(super) fn watch(&mut self, batch: Digest, known: Height, allowance: Allowance) {
        if self.watches.contains_key(&batch) {
            return;
        }
        let mut watch = Watch {
            since: known,
            allowance,
            reminders: 0,
            reminded: (0, Time(0), known),
            due: known,
        };
        watch.restart(known);
        self.due.insert((watch.due, batch));
        self.watches.insert(batch, watch);
    }

    /// `batch` left.
    pub(super) fn forget(&mut self, batch: &Digest) {
        if let Some(watch) = self.watches.remove(batch) {
            self.due.remove(&(watch.due, *batch));
        }
    }

    /// A block was applied, and what it ordered was forgotten.
    pub(super) fn passed(&mut self, block: &Passing) -> Overtaken {
        let height = block.height;
        self.full += u64::from(block.is_full);
        let mut overtaken = Overtaken::default();
        while let Some((due, batch)) = self.due.first().copied() {
            if due >= height || overtaken.remind.len() >= REMIND_MAX {
                break;
            }
            self.due.remove(&(due, batch));
            let watch = self.watches.get_mut(&batch);
            let watch = watch.expect("what is due is watched");
            if watch.since < self.excused {
                watch.restart(self.excused);
            } else if watch.reminders < REMINDERS {
                if watch.reminders == 0 {
                    watch.reminded = (self.full, block.now, height);
                }
                watch.reminders += 1;
                let half = watch.allowance.blocks.div_ceil(REMINDERS.into());
                watch.due = height.plus(half);
                overtaken.remind.push(batch);
            } else if let wants @ 1.. = watch.wants(self.full, block) {
                watch.due = height.plus(wants - 1);
            } else {
                overtaken.is_complaint = true;
                watch.restart(height);
            }
            self.due.insert((watch.due, batch));
        }
        overtaken
    }
}
