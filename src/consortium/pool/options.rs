//! What a pool is made of, and the bounds that follow.
//!
//! Source: design of admission and of the overtaking rule. In: the view, the genesis document.
//! Out: shares. Holds: a share has room for several batches, however many members there are.
//! Elsewhere: what is held against them (`pool`).

use super::own::Weight;
use super::turns::Allowance;
use super::{ORIGINS_BYTES_MAX, ORIGINS_TRANSACTIONS_MAX, POOL_BYTES_MAX, POOL_TRANSACTIONS_MAX};
use crate::blocks::GROUP_TRANSACTIONS_MAX;
use crate::blocks::body::BLOCK_BATCHES_MAX;
use crate::committee::MemberId;

/// Bytes of transactions in one block, as a leader aims for.
pub const BLOCK_BYTES_TARGET: usize = 2 << 20;
/// Bytes of full blocks, on the average at least: one and what did not fit it any more exceed the
/// target.
const FULL_BLOCK_BYTES: u64 = BLOCK_BYTES_TARGET as u64 / 2;
/// Blocks that may pass over a batch in any case, beside two windows.
pub const TURN_BLOCKS_LEAST: u64 = 8;
/// What a pool is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// This member.
    pub me: MemberId,
    /// Members that may spread batches, this one included.
    pub members_count: usize,
    /// Bytes of one batch, at most.
    pub batch_bytes_max: usize,
    /// Heights open above the decided prefix (W).
    pub window: u64,
}

impl Options {
    /// What one origin may have here.
    ///
    /// Twice what a member admits, so that one whose view of the chain is ahead is not refused.
    pub(super) fn share(&self) -> Weight {
        let members = self.members_count.max(1);
        let bytes = (2 * POOL_BYTES_MAX).min(ORIGINS_BYTES_MAX / members);
        let transactions = (2 * POOL_TRANSACTIONS_MAX).min(ORIGINS_TRANSACTIONS_MAX / members);
        Weight {
            bytes: bytes.max(4 * self.batch_bytes_max),
            transactions: transactions.max(4 * GROUP_TRANSACTIONS_MAX),
        }
    }

    /// Blocks that may pass over a ready batch of an origin that has `queue` here, where so many
    /// `origins` have something.
    ///
    /// Those of two windows, and some, are no fault: they may have been proposed before the
    /// acknowledgements reached the leader. Nor are as many as a leader that is fair over origins
    /// needs for the queue. What may stand before the batch at the leader is no more than the share
    /// of its origin, and is an excuse for full blocks alone.
    pub(super) fn allowance(&self, queue: Weight, origins: usize) -> Allowance {
        let origins = origins.max(self.members_count) as u64;
        let drain = |queue: Weight| {
            let by_bytes = (origins * queue.bytes as u64).div_ceil(FULL_BLOCK_BYTES);
            // No batch is empty, so there are no more batches than transactions.
            let count = origins * queue.transactions as u64;
            (by_bytes, count.div_ceil(BLOCK_BATCHES_MAX as u64))
        };
        let (by_bytes, by_count) = drain(queue);
        let (most_bytes, most_count) = drain(self.share());
        Allowance {
            blocks: 2 * self.window + TURN_BLOCKS_LEAST + by_bytes.max(by_count),
            full: most_bytes + most_count,
        }
    }

    /// Whether a leader may have closed a block of so many `bytes` and batches though more was
    /// ready: the next batch may be one of the largest.
    pub(super) fn is_full(&self, bytes: usize, batches: usize) -> bool {
        bytes + self.batch_bytes_max > BLOCK_BYTES_TARGET || batches >= BLOCK_BATCHES_MAX
    }

    /// What this member may admit.
    pub(super) fn own(&self) -> Weight {
        let share = self.share();
        Weight {
            bytes: POOL_BYTES_MAX.min(share.bytes / 2),
            transactions: POOL_TRANSACTIONS_MAX.min(share.transactions / 2),
        }
    }
}
