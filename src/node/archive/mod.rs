//! Archives: the chain as objects that outlive every member.
//!
//! Source: `docs/formats.md` and `docs/archive.md`. In: a member's log, running or not; objects.
//! Out: extents, their proofs and a tail.
//! Holds: an extent has the same bytes whoever writes it and is there once; nothing is archived
//! that no certificate covers; the member's folder is only read.
//! Elsewhere: whether an archive holds what it says (`verify`), where objects lie (`storage`).

mod cut;
mod extent;
mod names;
mod proof;
mod writer;

use crate::committee::{Height, ViewId};
use crate::crypto::Digest;
use crate::node::config::ConfigError;
use crate::node::error::GenesisFile;
use crate::storage::{LogError, ObjectsError, StoreError};

pub(super) use self::cut::Cut;
pub(super) use self::extent::{Extent, ExtentError, extent_bytes_max};
pub(super) use self::names::{Kind, Listing, folder, name, tail};
pub(super) use self::proof::{
    PROOF_BYTES_MAX, Proof, TAIL_OPENING_BYTES, decode_tail, tail_opening,
};
pub use self::writer::{Archiver, Round, Tail};

/// Why a member's chain was not archived. What was written before is whole.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The place of the archive failed, or refused.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The member's settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The member's genesis document cannot be read.
    #[error(transparent)]
    Genesis(#[from] GenesisFile),
    /// The member's data folder has no id.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The member's log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record of the log is none of ours.
    #[error("a record of the log: {what}")]
    Record {
        /// What is wrong.
        what: String,
    },
    /// The log is of another chain than the genesis document.
    #[error("block {height} in the log is of chain {chain}, not of the genesis document's")]
    OtherChain {
        /// The height.
        height: Height,
        /// The chain that it names.
        chain: Digest,
    },
    /// Neither the archive nor the member's log has these heights.
    #[error("heights {first} to {last} are neither in the archive nor in this member's log")]
    Gap {
        /// The first that is missing.
        first: Height,
        /// The last that is missing.
        last: Height,
    },
    /// The archive holds another chain than this member.
    #[error("the archive has another block at height {height} than this member")]
    Differs {
        /// The height.
        height: Height,
    },
    /// A block of the log does not follow the one before it.
    #[error("block {height} in the log does not follow the one before it")]
    Unlinked {
        /// The height.
        height: Height,
    },
    /// The member's block is not the one that its certificate is of.
    #[error("the log's certificate of height {height} is of another block than its own")]
    Diverges {
        /// The height.
        height: Height,
    },
    /// The log has no certificate of a view that has ended.
    #[error("the log has no certificate of view {view} that covers height {height}")]
    Uncovered {
        /// The last height of an extent.
        height: Height,
        /// Its view.
        view: ViewId,
    },
    /// A batch is not in the log, or not as it is named.
    #[error("batch {digest}, which block {height} names, is not in the log before it")]
    Batch {
        /// The block.
        height: Height,
        /// The batch.
        digest: Digest,
    },
    /// An object is there and is not what this member would write.
    #[error("{name} is there, and is not what this member has: {what} (heights {first} to {last})")]
    Object {
        /// Its name.
        name: String,
        /// The first height that it is of.
        first: Height,
        /// The last height that it is of.
        last: Height,
        /// How it differs.
        what: String,
    },
}

impl ArchiveError {
    /// Whether another try later may go well: the store did not answer, or the log was pruned while
    /// it was read.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Objects(error) => matches!(error, ObjectsError::Failed { .. }),
            Self::Log(error) => matches!(
                error,
                LogError::Io { .. } | LogError::Missing { .. } | LogError::Pruned { .. }
            ),
            Self::Config(_)
            | Self::Genesis(_)
            | Self::Store(_)
            | Self::Record { .. }
            | Self::OtherChain { .. }
            | Self::Gap { .. }
            | Self::Differs { .. }
            | Self::Unlinked { .. }
            | Self::Diverges { .. }
            | Self::Uncovered { .. }
            | Self::Batch { .. }
            | Self::Object { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests;
