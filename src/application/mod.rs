//! The state machines that run on the ledger, and the contract they obey.
//!
//! Source: `ARCHITECTURE.md`. In: operations in block order, requests, chunks of a snapshot. Out:
//! outcomes, state roots, proofs, changes to store.
//! Holds: the same blocks give the same outcomes, roots and snapshot bytes at every member; a
//! failing operation changes nothing and stays in its block with a code; nothing in an operation
//! panics.
//! Elsewhere: order and signatures (`consortium`), tables (`storage`), who calls this (`node`).
//!
//! A host drives one [`Application`] from one thread: `execute` for each block, at sealed heights
//! `drain_changes` into its tables, `release` when a later root has its certificate. Anything else
//! reads through a [`Reader`], which is a snapshot that costs nothing and moves to other threads.

pub mod kv;
pub mod map;
mod read;
mod registry;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

pub use self::read::ReadError;
pub use self::registry::{Plugin, Registration, Registry, RegistryError};
pub use crate::blocks::Outcome;
use crate::crypto::Digest;

/// What one block asks of an application.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Its height; above every height executed before, gaps are blocks without operations.
    pub height: u64,
    /// Its timestamp in microseconds; grows from block to block, is no member's clock.
    pub timestamp_us: u64,
    /// The operations that execute, in order.
    pub operations: &'a [&'a [u8]],
    /// Whether members will sign this height, so that its root is wanted.
    pub sealed: bool,
}

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// One outcome per operation, in order.
    pub results: Vec<Outcome>,
    /// The state root after the block, where it is sealed and the application keeps one.
    pub state_root: Option<Digest>,
}

/// One entry to store, by key: its value, or `None` where the key is gone.
pub type Change = (Bytes, Option<Bytes>);

/// A state at one height, as a stream of chunks that stays as it is while execution goes on.
pub struct Snapshot {
    /// The height after which it was taken.
    pub height: u64,
    /// The digest of the state, equal to [`Application::state_digest`] at that height.
    pub digest: Digest,
    /// The bytes in pieces, equal at every member: each is a segment of a checkpoint.
    pub chunks: Box<dyn Iterator<Item = Bytes> + Send>,
}

/// Reads of one state, from any thread, while execution goes on.
pub trait Reader: Send + Sync {
    /// The height after which this state stands.
    fn height(&self) -> u64;

    /// Answers a request in the application's own encoding.
    ///
    /// Errors: [`QueryError::Malformed`].
    fn query(&self, request: &[u8]) -> Result<Vec<u8>, QueryError>;

    /// A proof of `key` under the sealed root `root`, for [`Application::verify`].
    ///
    /// Errors: [`QueryError::Root`] where that root is not retained, [`QueryError::Uncertified`]
    /// where the application keeps no authenticated state.
    fn prove(&self, key: &[u8], root: &Digest) -> Result<Vec<u8>, QueryError>;
}

/// A deterministic state machine over bytes.
pub trait Application: Send + Sync {
    /// Whether `operation` may enter a block: by its bytes alone, never by state.
    ///
    /// A fresh instance answers as any other, so checks may run beside execution.
    fn check(&self, operation: &[u8]) -> Result<(), CheckError>;

    /// Executes one block. The height must be above [`Application::height`].
    fn execute(&mut self, block: &Block<'_>) -> Executed;

    /// The last height executed, restored or loaded; 0 is genesis.
    fn height(&self) -> u64;

    /// The digest of the contents, whatever way led to them.
    fn state_digest(&self) -> Digest;

    /// A reader of the state as it is now.
    fn reader(&self) -> Arc<dyn Reader>;

    /// [`Reader::query`] on the state as it is now.
    fn query(&self, request: &[u8]) -> Result<Vec<u8>, QueryError> {
        self.reader().query(request)
    }

    /// [`Reader::prove`] on the state as it is now.
    fn prove(&self, key: &[u8], root: &Digest) -> Result<Vec<u8>, QueryError> {
        self.reader().prove(key, root)
    }

    /// What `proof` shows of `key` under `root`: its value or, as `None`, its absence. Uses no
    /// state.
    ///
    /// Errors: [`VerifyError`] where it shows nothing.
    fn verify(&self, root: &Digest, key: &[u8], proof: &[u8])
    -> Result<Option<Bytes>, VerifyError>;

    /// An operation for people and programs to read.
    fn operation_to_json(&self, operation: &[u8]) -> Value {
        hex::encode(operation).into()
    }

    /// The operation that people and programs write as `operation`.
    ///
    /// Errors: where it is none, or not one that [`Application::check`] lets pass.
    fn operation_from_json(&self, operation: &Value) -> Result<Vec<u8>, CheckError> {
        let bytes = operation.as_str().and_then(|text| hex::decode(text).ok());
        let bytes = bytes.ok_or_else(|| CheckError {
            reason: "an operation is written as a string of hex digits".to_owned(),
        })?;
        self.check(&bytes)?;
        Ok(bytes)
    }

    /// The outcome of `operation` for people and programs to read.
    fn outcome_to_json(&self, operation: &[u8], outcome: &Outcome) -> Value {
        let _ = operation;
        serde_json::json!({ "code": outcome.code, "bytes": hex::encode(&outcome.bytes) })
    }

    /// Keeps the sealed root of `height` provable, and says whether it is. A sealed block's root
    /// is kept from its execution on; this brings back that of a state that was loaded or
    /// restored.
    fn retain(&mut self, height: u64, root: &Digest) -> bool;

    /// Lets go of the roots of heights below `below`.
    fn release(&mut self, below: u64);

    /// The state as it is now, in pieces of about `piece_bytes` and at most
    /// [`SEGMENT_BYTES_MAX`](crate::blocks::SEGMENT_BYTES_MAX); none is empty.
    ///
    /// Where a piece ends is a function of the contents, and best one that few changes move: what
    /// is equal in two snapshots is stored and fetched once.
    fn snapshot(&self, piece_bytes: usize) -> Snapshot;

    /// Takes over the state of a snapshot. Changes nothing on error. Afterwards no change is
    /// pending: the host clears its tables and fills them from [`Application::entries`].
    fn restore(&mut self, chunks: Chunks<'_>) -> Result<(), RestoreError>;

    /// What changed since the last call, one entry per key, in the order of keys.
    fn drain_changes(&mut self) -> Vec<Change>;

    /// Every entry of the state as it is now, as the tables should hold them.
    fn entries(&self) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + Send>;

    /// Takes over the entries that a table held at `height`, in any order. Changes nothing on
    /// error.
    fn load(&mut self, entries: TableEntries<'_>, height: u64) -> Result<(), RestoreError>;
}

/// The chunks of a snapshot, cut anywhere.
pub type Chunks<'a> = &'a mut dyn Iterator<Item = io::Result<Bytes>>;

/// The entries of a table.
pub type TableEntries<'a> = &'a mut dyn Iterator<Item = io::Result<(Bytes, Bytes)>>;

/// Why an operation may not enter a block. The client is at fault, or a member that let it pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operation refused: {reason}")]
pub struct CheckError {
    /// What is wrong with its bytes.
    pub reason: String,
}

/// Why a request has no answer. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The caller's bytes are no request.
    #[error("request refused: {reason}")]
    Malformed {
        /// What is wrong with them.
        reason: String,
    },
    /// The root was never sealed here, or was released; ask for a newer one.
    #[error("the state under root {root} is not kept")]
    Root {
        /// The root asked for.
        root: Digest,
    },
    /// This application proves nothing; read through an ordered transaction.
    #[error("this application keeps no authenticated state")]
    Uncertified,
}

/// Why a proof shows nothing. Whoever gave it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proof refused: {reason}")]
pub struct VerifyError {
    /// What is wrong with it.
    pub reason: String,
}

/// Why a state was not taken over. The state is the one before.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Whoever made the bytes is at fault.
    #[error("unreadable state: {0}")]
    Read(#[from] ReadError),
    /// Whoever made the bytes is at fault: an entry is out of order or stands twice.
    #[error("entry {index} is not in its place")]
    Order {
        /// The entry's place in the stream.
        index: u64,
    },
    /// Whoever made the bytes is at fault: no chain reaches such a state.
    #[error("the state is larger than {max} bytes")]
    Size {
        /// The bound.
        max: u64,
    },
    /// The source failed; nobody's fault.
    #[error("the source of the state failed: {0}")]
    Source(#[from] io::Error),
}
