//! When a snapshot is due: a function of the decided prefix.
//!
//! Source: design, 'checkpoints and bootstrap'. In: applied blocks. Out: the height behind which a
//! snapshot is taken, and which one may still become a checkpoint.
//! Holds: it counts blocks and bytes of operations, never time; a try is over with the next one,
//! and with its view; a checkpoint body that names another snapshot than the open one is an empty
//! block.
//! Elsewhere: taking it (`node`, `sim`), votes for it (`consortium::checkpoints`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Ledger, Parts};
use crate::blocks::body::Checkpoint;
use crate::blocks::{Body, CheckpointRules, Group, Link};
use crate::committee::Height;
use crate::crypto::Hasher;
use crate::membership::register::Register;

/// Blocks between two snapshots that are asked for: nobody makes them follow each other at will.
const ASKED_BLOCKS_MIN: u64 = 8;

/// Blocks that a snapshot has to become a checkpoint before one that is asked for takes its place.
const TRY_BLOCKS: u64 = 1024;

/// Where snapshots stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    /// The height of the last one that was due; genesis before the first.
    pub last: Height,
    /// Bytes of operations since then.
    pub bytes: u64,
    /// A member asks for the next one.
    pub is_asked: bool,
    /// The one that may still become a checkpoint, with the header there.
    pub open: Option<Link>,
}

/// What a snapshot holds of the ledger, beside the transactions that it remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Where it stands.
    pub parts: Parts,
    /// The members.
    pub register: Arc<Register>,
}

/// What a group counts: the bytes of its operations, and a little for each.
pub(super) fn weigh(group: &Group) -> u64 {
    let bytes = group
        .transactions
        .iter()
        .map(|t| t.operation.len() as u64 + 64);
    bytes.sum()
}

impl Snapshots {
    /// Takes the block at `link`, with so many bytes of operations.
    pub(super) fn apply(&mut self, link: Link, body: &Body, bytes: u64, rules: &CheckpointRules) {
        if matches!(body, Body::Checkpoint(_) | Body::Reconfiguration(_)) {
            self.open = None;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        let age = link.height.0.saturating_sub(self.last.0);
        let is_old = rules.every_blocks > 0 && age >= rules.every_blocks.into();
        let is_large = rules.every_bytes > 0 && self.bytes >= rules.every_bytes;
        // One that is being taken is not put off by the next one that is asked for.
        let spacing = match self.open {
            Some(_) => TRY_BLOCKS,
            None => ASKED_BLOCKS_MIN,
        };
        let is_spaced = self.last == Height(0) || age >= spacing;
        if is_old || is_large || self.is_asked && is_spaced {
            *self = Self {
                last: link.height,
                bytes: 0,
                is_asked: false,
                open: Some(link),
            };
        }
    }

    /// Whether `body` makes the open snapshot a checkpoint.
    pub(super) fn takes(&self, body: &Checkpoint) -> bool {
        let named = Link {
            height: body.height,
            digest: body.header,
        };
        self.open == Some(named)
    }

    /// Behind which block the next one is due at the latest, and after how many bytes more; nothing
    /// where neither blocks nor bytes alone make one due.
    pub fn due(&self, rules: &CheckpointRules) -> (Option<Height>, Option<u64>) {
        let count = u64::from(rules.every_blocks);
        let by_count = (count > 0).then(|| self.last.plus(count));
        let spacing = match self.last {
            Height(0) => 1,
            Height(_) => ASKED_BLOCKS_MIN,
        };
        let by_asking = self.is_asked.then(|| self.last.plus(spacing));
        let height = [by_count, by_asking].into_iter().flatten().min();
        let left = rules.every_bytes.saturating_sub(self.bytes);
        (height, (rules.every_bytes > 0).then_some(left))
    }

    /// Adds everything here to a digest by which members compare their states.
    pub(super) fn hash_into(&self, hasher: &mut Hasher) {
        let open = self.open.unwrap_or_default();
        for number in [
            self.last.0,
            self.bytes,
            self.is_asked.into(),
            self.open.is_some().into(),
            open.height.0,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(open.digest.as_bytes());
    }
}

impl Ledger {
    /// What a snapshot is taken of, where one is due behind the last block.
    pub fn base(&self) -> Option<Base> {
        let open = self.parts.snapshots.open?;
        (open.height == self.height()).then(|| Base {
            parts: self.parts.clone(),
            register: Arc::clone(&self.register),
        })
    }

    /// Where snapshots stand.
    pub fn snapshots(&self) -> Snapshots {
        self.parts.snapshots
    }

    /// The snapshot that may still become a checkpoint.
    pub fn open_snapshot(&self) -> Option<Link> {
        self.parts.snapshots.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_is_due_by_count_by_size_or_as_it_is_asked_for() {
        let rules = |every_blocks, every_bytes| CheckpointRules {
            every_blocks,
            every_bytes,
            ..CheckpointRules::default()
        };
        let at = |last, bytes, is_asked| Snapshots {
            last: Height(last),
            bytes,
            is_asked,
            open: None,
        };
        for (snapshots, rules, height, bytes) in [
            (at(0, 0, false), rules(16, 0), Some(16), None),
            (at(16, 100, false), rules(16, 1024), Some(32), Some(924)),
            (at(16, 0, true), rules(16, 0), Some(24), None),
            (at(16, 0, true), rules(0, 0), Some(24), None),
            (at(0, 0, true), rules(16, 0), Some(1), None),
            (at(40, 5000, false), rules(0, 1024), None, Some(0)),
        ] {
            let due = snapshots.due(&rules);
            assert_eq!(due, (height.map(Height), bytes), "{snapshots:?}");
        }
    }
}
