//! When checkpoints are due, and how their snapshots are cut.
//!
//! Source: `docs/formats.md`, genesis document. In: the document. Out: periods and sizes.
//! Holds: they are the same for every member and never change. Elsewhere: who obeys them
//! (`consortium::ledger`), segments (`checkpoint`).

use serde::{Deserialize, Serialize};

use crate::crypto::SignBytes;

/// Bytes of one segment, at most, whatever the document says: what an application cannot cut finer
/// fits too.
pub const SEGMENT_BYTES_MAX: usize = 1 << 20;

/// When checkpoints are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointRules {
    /// A snapshot is due so many blocks behind the last one; 0 for never by count.
    pub every_blocks: u32,
    /// A snapshot is due once operations of so many bytes were ordered since the last one; 0 for
    /// never by size.
    pub every_bytes: u64,
    /// Bytes of one segment, about: smaller ones are shared by more checkpoints, larger ones travel
    /// faster.
    pub segment_bytes: u32,
}

impl CheckpointRules {
    /// Whether they are those of a document that says nothing.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Adds their section to the document's sign bytes.
    pub(super) fn write(&self, bytes: SignBytes) -> SignBytes {
        bytes
            .u8(3)
            .u32(self.every_blocks)
            .u64(self.every_bytes)
            .u32(self.segment_bytes)
    }

    /// Whether they can be obeyed; else which one is wrong, and what it must be.
    pub(crate) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let blocks = self.every_blocks;
        if blocks != 0 && !(8..=100_000_000).contains(&blocks) {
            return Err(("checkpoints.every_blocks", "0 or between 8 and 100000000"));
        }
        if self.every_bytes != 0 && self.every_bytes < 1 << 10 {
            return Err(("checkpoints.every_bytes", "0 or at least 1024"));
        }
        if !(1 << 10..=SEGMENT_BYTES_MAX as u32).contains(&self.segment_bytes) {
            return Err(("checkpoints.segment_bytes", "between 1 KiB and 1 MiB"));
        }
        Ok(())
    }
}

impl Default for CheckpointRules {
    fn default() -> Self {
        Self {
            every_blocks: 100_000,
            every_bytes: 1 << 30,
            segment_bytes: 64 << 10,
        }
    }
}
