//! Batches between their record and the block that names them.
//!
//! Source: design, 'the chain'. In: records of batches. Out: their bytes, asked for by digest.
//! Holds: at most `HELD_BYTES_MAX` bytes are in memory, and a few dozen per batch for its place;
//! what was let go of is read again.
//! Elsewhere: what a batch holds (`blocks`).

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::walk::Log;
use crate::crypto::Digest;
use crate::storage::{LogReader, Position};

/// Bytes of batches held in memory; the oldest is let go of first.
const HELD_BYTES_MAX: usize = 256 << 20;

/// The batches of a log.
pub(super) struct Batches {
    places: HashMap<Digest, Position>,
    held: HashMap<Digest, Bytes>,
    order: VecDeque<Digest>,
    bytes: usize,
    log: LogReader,
}

impl Batches {
    /// No batch of `log` yet.
    pub(super) fn new(log: &Log) -> Self {
        Self {
            places: HashMap::new(),
            held: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            log: LogReader::read_only(&log.dir, log.store),
        }
    }

    /// Takes in the batch at `position`; whether it was not here before.
    pub(super) fn take(&mut self, digest: Digest, bytes: &Bytes, position: Position) -> bool {
        if self.places.insert(digest, position).is_some() {
            return false;
        }
        self.bytes += bytes.len();
        self.held.insert(digest, bytes.clone());
        self.order.push_back(digest);
        while self.bytes > HELD_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.release(&oldest);
        }
        true
    }

    /// Whether a batch was logged.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.places.contains_key(digest)
    }

    /// The bytes of a batch for the block that names it; nothing where it was not logged, or cannot
    /// be read again.
    pub(super) fn give(&mut self, digest: &Digest) -> Option<Bytes> {
        if let Some(bytes) = self.release(digest) {
            return Some(bytes);
        }
        let (_, bytes) = self.log.read(*self.places.get(digest)?).ok()?;
        Some(bytes.into())
    }

    /// Lets go of a batch's bytes and gives them.
    pub(super) fn release(&mut self, digest: &Digest) -> Option<Bytes> {
        let bytes = self.held.remove(digest)?;
        self.bytes -= bytes.len();
        Some(bytes)
    }
}
