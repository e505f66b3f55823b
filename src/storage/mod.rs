//! Storage: a durable log, tables that can be rebuilt, objects of an archive, and a twin of the
//! disk for the simulator.
//!
//! Source: design, 'durability, exactly'. In: opaque bytes. Out: the same bytes after a kill or a
//! power loss. Holds: only what [`Log::sync`] or [`Tables::flush`] confirmed counts as durable;
//! damage is named, never skipped. Elsewhere: what a block, a vote or a batch is (`blocks`,
//! `node`).

mod commit;
mod error;
mod follow;
mod frame;
mod log;
mod medium;
mod objects;
mod packs;
mod pool;
mod reader;
mod recovery;
mod sealed;
pub mod simulated;
mod store;
mod tables;
mod verify;

pub use commit::{GroupCommit, GroupOptions, Rejected};
pub use error::LogError;
pub use follow::Follower;
pub use log::{FILE_BYTES_MAX, FILE_BYTES_MIN, Log, LogCounts, Options, Position, Record};
pub use medium::{Directory, Medium, MediumFile};
pub use objects::{Access, Listed, Objects, ObjectsError, without_secrets};
pub use packs::{PackError, Packs, is_pack_name};
pub use pool::Pool;
pub use reader::LogReader;
pub use recovery::{Reading, Recovered};
pub use sealed::{SealedError, read_sealed, write_sealed};
pub use store::{Store, StoreError, StoreId};
#[cfg(test)]
pub(crate) use tables::Tapped;
pub use tables::{
    Batch, Direction, KEY_BYTES_MAX, Range, Row, TableError, TableOptions, Tables, TablesReport,
    VALUE_BYTES_MAX, engines, open_tables, verify_tables,
};
pub use verify::{Problem, Report, verify_log};

#[cfg(test)]
mod tests;
