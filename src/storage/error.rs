//! Why the log refuses or fails.
//!
//! Source: none. In: what happened. Out: [`LogError`], which can be given to everybody who waits
//! for one sync. Holds: each names the file, and the offset where there is one. Elsewhere: errors
//! of the tables (`tables`) and of the data directory (`store`).

use std::io;
use std::sync::Arc;

use super::log::Position;
use super::store::StoreId;

/// Why the log refuses or fails.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The environment failed. Unless this was a read, the log takes nothing more until it is
    /// opened again.
    #[error("log file {file}: {act}: {source}")]
    Io {
        /// The name of the file.
        file: String,
        /// What was tried.
        act: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The disk is full. The record was not taken, what was taken before is whole, and the log goes
    /// on when there is room again.
    #[error("disk full: no room for log file {file} of {bytes} bytes")]
    Full {
        /// The name of the file that could not be made.
        file: String,
        /// Its length in bytes.
        bytes: u32,
    },
    /// The disk is at fault: what was durable cannot be read back. Nothing was changed.
    #[error("log file {file:08}.log is damaged at offset {offset}: {what}")]
    Damaged {
        /// The number of the file.
        file: u64,
        /// Where, in bytes from its start.
        offset: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// A file between two others is gone. Nothing was changed.
    #[error("log file {file:08}.log is missing")]
    Missing {
        /// The number of the file.
        file: u64,
    },
    /// The operator mixed two directories. Nothing was changed.
    #[error("log file {file:08}.log belongs to store {found}, not to {expected}")]
    Foreign {
        /// The number of the file.
        file: u64,
        /// Whose it is.
        found: StoreId,
        /// Whose it should be.
        expected: StoreId,
    },
    /// A newer program wrote it. Nothing was changed.
    #[error("log file {file:08}.log has format {found}; this program knows {known}")]
    Newer {
        /// The number of the file.
        file: u64,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The caller's record cannot fit into a file. The log is unchanged.
    #[error("a record of {bytes} bytes does not fit into a log file, which holds {bytes_max}")]
    TooLarge {
        /// The length of the record.
        bytes: usize,
        /// The longest possible.
        bytes_max: usize,
    },
    /// An earlier write or sync failed; what is durable is unknown until the log is opened again.
    #[error("the log stopped after an earlier failure: {cause}")]
    Poisoned {
        /// The earlier failure.
        cause: String,
    },
    /// The caller asks for a record that was not written yet, or never.
    #[error("there is no record at {position} yet")]
    NotWritten {
        /// What was asked for.
        position: Position,
    },
    /// The caller asks for a record that was pruned.
    #[error("the record at {position} was pruned")]
    Pruned {
        /// What was asked for.
        position: Position,
    },
    /// The caller wanted no more of an opening; nothing was changed.
    #[error("ended before the log was read")]
    Ended,
    /// The group commit has ended.
    #[error("the log is closed")]
    Closed,
}

/// Names the file and the act of a failure.
pub(super) fn failed(file: &str, act: &'static str) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io {
        file: file.to_owned(),
        act,
        source: Arc::new(source),
    }
}
