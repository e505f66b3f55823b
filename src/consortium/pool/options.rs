//! What a pool is made of, and the bounds that follow.
//!
//! Source: design of admission and of the overtaking rule. In: the view, the genesis document.
//! Out: shares. Holds: a share has room for several batches, however many members there are.
//! Elsewhere: what is held against them (`pool`).

use super::own::Weight;
use super::{ORIGINS_BYTES_MAX, ORIGINS_TRANSACTIONS_MAX, POOL_BYTES_MAX, POOL_TRANSACTIONS_MAX};
use crate::blocks::GROUP_TRANSACTIONS_MAX;
use crate::blocks::body::BLOCK_BATCHES_MAX;
use crate::committee::MemberId;

/// Bytes of a block that a leader closes though more is ready, at least: its target less a batch.
const FULL_BLOCK_BYTES: u64 = 1 << 20;
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

    /// Blocks that may pass over a ready batch before its leader is reminded, of an origin that has
    /// `queue` here; a complaint needs more than twice as many.
    ///
    /// Those of two windows, and some, are no fault: they may have been proposed before the
    /// acknowledgements reached the leader. Beyond that only full blocks are an excuse.
    pub(super) fn turn_blocks(&self, queue: Weight, origins: usize) -> u64 {
        let origins = origins.max(self.members_count) as u64;
        let by_bytes = (origins * queue.bytes as u64).div_ceil(FULL_BLOCK_BYTES);
        // No batch is empty, so there are no more batches than transactions.
        let by_count = (origins * queue.transactions as u64).div_ceil(BLOCK_BATCHES_MAX as u64);
        2 * self.window + TURN_BLOCKS_LEAST + by_bytes.max(by_count)
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
