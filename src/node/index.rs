//! Where things stand: blocks, certificates, batches and results, in tables and in memory.
//!
//! Source: `ARCHITECTURE.md`. In: what became durable or was applied. Out: positions, results.
//! Holds: what is not in the tables yet is in memory; nothing here is needed to be safe, for all
//! of it can be rebuilt from the log.
//! Elsewhere: the log (`storage`), when memory goes into tables (`keeper`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::shelf::Shelf;
use super::views::Trail;
use crate::blocks::codec;
use crate::blocks::receipts::Receipt;
use crate::blocks::{Body, Step};
use crate::committee::{Certificate, Height};
use crate::consortium::ledger::{Name, remembered};
use crate::consortium::records;
use crate::consortium::serve::{self, Archive};
use crate::consortium::{Applied, Block, Executed, Record, Verdict};
use crate::crypto::{Digest, PublicKey};
use crate::storage::{Direction, LogError, LogReader, Position, Range, TableError, Tables};

/// Heights to log positions.
pub(crate) const BLOCKS: &str = "blocks";
/// Heights to log positions.
pub(crate) const CERTIFICATES: &str = "certificates";
/// Batch digests to log positions.
pub(crate) const BATCHES: &str = "batches";
/// (Height, piece) to what executed there.
pub(crate) const RESULTS: &str = "results";
/// The first ledger sequence of a block to its height.
pub(crate) const SEQUENCES: &str = "sequences";
/// The application's entries.
pub(crate) const STATE: &str = "state";
/// Where the tables stand.
pub(crate) const META: &str = "meta";

/// One executed or repeated transaction of a block, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The client.
    pub(crate) client: PublicKey,
    /// Its sequence.
    pub(crate) client_sequence: u64,
    /// Where it executed and what it gave.
    pub(crate) executed: Executed,
    /// The group that holds it, and its place there; none where it repeats an earlier one.
    pub(crate) place: Option<(Digest, u32)>,
}

impl Kept {
    /// The receipt of an executed transaction; none where it repeats an earlier one.
    pub(crate) fn receipt(&self) -> Option<Receipt> {
        let (group, index) = self.place?;
        Some(Receipt {
            sequence: self.executed.sequence,
            height: self.executed.height.0,
            client: self.client,
            client_sequence: self.client_sequence,
            group,
            index,
            outcome: self.executed.outcome_digest,
        })
    }
}

/// What executed or repeated in `applied`, in order.
pub(crate) fn kept(applied: &Applied) -> Vec<Kept> {
    let mut receipts = applied.receipts.iter();
    let mut kept = Vec::with_capacity(applied.answers.len());
    for answer in &applied.answers {
        let (executed, place) = match &answer.verdict {
            Verdict::Executed(executed) => {
                let receipt = receipts.next();
                let receipt = receipt.expect("each executed transaction has its receipt");
                (executed, Some((receipt.group, receipt.index)))
            }
            Verdict::Repeated(executed) => (executed, None),
            Verdict::Conflict | Verdict::Expired | Verdict::Busy | Verdict::NotListed => continue,
        };
        kept.push(Kept {
            client: answer.client,
            client_sequence: answer.sequence,
            executed: executed.clone(),
            place,
        });
    }
    kept
}

/// Why something that should be here is not. The disk is at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// The tables failed.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A row or a record is not as it was written.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// Which.
        what: String,
        /// What is wrong.
        reason: String,
    },
}

/// What is not in the tables yet.
#[derive(Default)]
struct Recent {
    blocks: BTreeMap<Height, Position>,
    certificates: BTreeMap<Height, Position>,
    batches: HashMap<Digest, Position>,
    results: BTreeMap<Height, Arc<Vec<Kept>>>,
    sequences: BTreeMap<u64, Height>,
}

/// The index; every thread may ask.
pub(crate) struct Index {
    tables: Arc<dyn Tables>,
    log: LogReader,
    /// Length of a file of the log.
    file_bytes: u64,
    recent: RwLock<Recent>,
    trail: Trail,
    shelf: Arc<Shelf>,
}

impl Index {
    /// The index of `tables` over a log with files of so many bytes, with what `shelf` keeps of
    /// blocks that were pruned.
    pub(crate) fn new(
        tables: Arc<dyn Tables>,
        (log, file_bytes): (LogReader, u32),
        shelf: Arc<Shelf>,
    ) -> Self {
        Self {
            tables,
            log,
            file_bytes: file_bytes.into(),
            recent: RwLock::default(),
            trail: Trail::default(),
            shelf,
        }
    }

    /// What is kept beside the log.
    pub(crate) fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// Behind the last record of the log.
    pub(crate) fn log_end(&self) -> Position {
        self.log.end()
    }

    /// The lowest block that the log has; the next one above the tip where it has none.
    pub(crate) fn first_block(&self) -> Result<Option<Height>, IndexError> {
        // What waits in memory first: meanwhile it may go into the tables, and is found twice.
        let recent = self.read().blocks.keys().next().copied();
        let stored = self.first_row(BLOCKS)?.map(Height);
        Ok([stored, recent].into_iter().flatten().min())
    }

    /// The lowest sequence of which the block is in the log.
    pub(crate) fn first_sequence(&self) -> Result<Option<u64>, IndexError> {
        let recent = self.read().sequences.keys().next().copied(); // first, as above
        let stored = self.first_row(SEQUENCES)?;
        Ok([stored, recent].into_iter().flatten().min())
    }

    /// The lowest key of a table whose keys are numbers.
    fn first_row(&self, table: &str) -> Result<Option<u64>, IndexError> {
        let all = Range::all();
        let rows = self.tables.scan(table, &all, Direction::Forward, 1)?;
        let key = rows.first().and_then(|(key, _)| key[..].try_into().ok());
        Ok(key.map(u64::from_be_bytes))
    }

    /// What the ledger remembered behind the block at `height`, by place in the receipt log; every
    /// block up to there was noted, and an expiry lies at most `span` blocks ahead.
    pub(crate) fn remembered(
        &self,
        height: Height,
        span: u64,
    ) -> Result<BTreeMap<u64, (Name, Executed)>, IndexError> {
        // What waits in memory first: meanwhile it may go into the tables, and is found twice.
        let recent: Vec<Arc<Vec<Kept>>> = {
            let recent = self.read();
            let upto = recent.results.range(..=height);
            upto.map(|(_, kept)| Arc::clone(kept)).collect()
        };
        let mut memory = BTreeMap::new();
        let mut take = |kept: &[Kept]| {
            let ended = |one: &&Kept| one.executed.expiry >= height;
            for one in kept.iter().filter(ended) {
                let name = (one.client, one.client_sequence);
                let executed = remembered(&one.executed);
                memory.insert(executed.sequence, (name, executed));
            }
        };
        let mut from = height.minus(span).0.to_be_bytes().to_vec();
        let to = height.next().0.to_be_bytes();
        loop {
            let range = Range::between(&from, &to);
            let rows = self.tables.scan(RESULTS, &range, Direction::Forward, 64)?;
            let Some((last, _)) = rows.last() else { break };
            from = [last, &[0][..]].concat();
            for (_, row) in rows {
                take(&decode_results(&row)?);
            }
        }
        recent.iter().for_each(|kept| take(kept));
        Ok(memory)
    }

    /// The tables.
    pub(crate) fn tables(&self) -> &Arc<dyn Tables> {
        &self.tables
    }

    /// Where blocks are that made views.
    pub(crate) fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Notes where a record stands.
    pub(crate) fn saved(&self, name: records::Name, position: Position) {
        let mut recent = self.write();
        match name {
            records::Name::Batch(digest) => drop(recent.batches.insert(digest, position)),
            records::Name::Block(height) => drop(recent.blocks.insert(height, position)),
            records::Name::Certificate(height) => {
                recent.certificates.insert(height, position);
            }
            records::Name::Nameless => {}
        }
    }

    /// Notes what a block gave.
    pub(crate) fn applied(&self, applied: &Applied, kept: Arc<Vec<Kept>>) {
        let height = applied.block.header.height;
        let mut recent = self.write();
        if let Some(first) = applied.receipts.first() {
            recent.sequences.insert(first.sequence, height);
        }
        recent.results.insert(height, kept);
    }

    /// Drops from memory what the tables hold now: every record at or before `saved`, every result
    /// at or below `height`.
    pub(crate) fn committed(&self, saved: Position, height: Height) {
        let mut recent = self.write();
        recent.blocks.retain(|_, position| *position > saved);
        recent.certificates.retain(|_, position| *position > saved);
        recent.batches.retain(|_, position| *position > saved);
        recent.results = recent.results.split_off(&height.next());
        recent.sequences.retain(|_, at| *at > height);
    }

    /// The block at `height`; none where it was not applied here.
    pub(crate) fn block_at(&self, height: Height) -> Result<Option<Block>, IndexError> {
        match self.kept_record(self.block_place(height)?)? {
            None => Ok(self.step(height)?.map(|step| Block {
                header: step.header,
                body: Body::Reconfiguration(step.body),
            })),
            Some(Record::Block(block)) => Ok(Some(block)),
            Some(_) => Err(damaged(format!("block {height}"), "another record")),
        }
    }

    /// The certificate of the lowest height from `height` on that has one.
    pub(crate) fn certificate_from(
        &self,
        height: Height,
    ) -> Result<Option<Certificate>, IndexError> {
        let from = Range::starting_at(&height.0.to_be_bytes());
        let stored = self
            .tables
            .scan(CERTIFICATES, &from, Direction::Forward, 1)?;
        let stored = stored.first().and_then(|(key, value)| {
            Some((
                Height(u64::from_be_bytes(key[..].try_into().ok()?)),
                place(value)?,
            ))
        });
        let recent = {
            let recent = self.read();
            let first = recent.certificates.range(height..).next();
            first.map(|(height, position)| (*height, *position))
        };
        let first = [stored, recent].into_iter().flatten().min();
        // A step that was kept may stand below all that the log has.
        let steps = self.shelf.steps();
        let step = steps.iter().map(|(at, _)| *at).find(|at| *at >= height);
        if let Some(at) = step.filter(|at| first.is_none_or(|(first, _)| *at <= first)) {
            return Ok(self.step(at)?.map(|step| step.certificate));
        }
        match self.kept_record(first.map(|(_, position)| position))? {
            None => Ok(None),
            Some(Record::Certificate(certificate)) => Ok(Some(certificate)),
            Some(_) => Err(damaged("a certificate".into(), "another record")),
        }
    }

    fn block_place(&self, height: Height) -> Result<Option<Position>, IndexError> {
        let recent = self.read().blocks.get(&height).copied();
        self.position(recent, BLOCKS, &height.0.to_be_bytes())
    }

    /// The bytes of a batch.
    pub(crate) fn batch_of(&self, digest: &Digest) -> Result<Option<Bytes>, IndexError> {
        let recent = self.read().batches.get(digest).copied();
        let position = self.position(recent, BATCHES, digest.as_bytes())?;
        match self.kept_record(position)? {
            None => Ok(None),
            Some(Record::Batch(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(damaged(format!("batch {digest}"), "another record")),
        }
    }

    /// What executed or repeated at `height`.
    pub(crate) fn results(&self, height: Height) -> Result<Arc<Vec<Kept>>, IndexError> {
        if let Some(kept) = self.read().results.get(&height) {
            return Ok(Arc::clone(kept));
        }
        let range = Range::prefix(&height.0.to_be_bytes());
        let rows = self
            .tables
            .scan(RESULTS, &range, Direction::Forward, usize::MAX)?;
        let mut kept = Vec::new();
        for (_, row) in rows {
            kept.extend(decode_results(&row)?);
        }
        Ok(Arc::new(kept))
    }

    /// The height of the block that holds the transaction at `sequence`; the caller knows that it
    /// executed.
    pub(crate) fn height_of(&self, sequence: u64) -> Result<Option<Height>, IndexError> {
        let recent = {
            let recent = self.read();
            let last = recent.sequences.range(..=sequence).next_back();
            last.map(|(_, height)| *height)
        };
        if recent.is_some() {
            return Ok(recent);
        }
        let below = Range::between(&[], &sequence.saturating_add(1).to_be_bytes());
        let rows = self.tables.scan(SEQUENCES, &below, Direction::Reverse, 1)?;
        let height = rows.first().and_then(|(_, row)| row[..].try_into().ok());
        Ok(height.map(|bytes| Height(u64::from_be_bytes(bytes))))
    }

    /// The record at `position`.
    pub(crate) fn record(&self, position: Position) -> Result<Record, IndexError> {
        let (kind, bytes) = self.log.read(position)?;
        let decoded = records::decode(kind, &bytes);
        decoded.map_err(|error| damaged(format!("the record at {position}"), error))
    }

    /// The record at `position`, unless it was given up meanwhile.
    fn kept_record(&self, position: Option<Position>) -> Result<Option<Record>, IndexError> {
        match position.map(|position| self.record(position)).transpose() {
            Err(IndexError::Log(LogError::Pruned { .. })) => Ok(None),
            other => other,
        }
    }

    fn step(&self, height: Height) -> Result<Option<Step>, IndexError> {
        let step = self.shelf.step(height);
        step.map_err(|error| damaged(format!("the step at {height}"), error))
    }

    fn position(
        &self,
        recent: Option<Position>,
        table: &str,
        key: &[u8],
    ) -> Result<Option<Position>, IndexError> {
        if recent.is_some() {
            return Ok(recent);
        }
        Ok(self.tables.get(table, key)?.and_then(|row| place(&row)))
    }

    fn read(&self) -> RwLockReadGuard<'_, Recent> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Recent> {
        self.recent.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive for Index {
    fn block(&self, height: Height) -> Option<Block> {
        told(self.block_at(height))
    }

    fn certificate_at_or_after(&self, height: Height) -> Option<Certificate> {
        told(self.certificate_from(height))
    }

    fn batch(&self, digest: &Digest) -> Option<Bytes> {
        told(self.batch_of(digest))
    }

    fn first(&self) -> Height {
        let base = self
            .shelf
            .newest()
            .map_or(Height(0), |held| held.taken.height);
        let first = told(self.first_block().map(|first| first.or(Some(base.next()))));
        first.unwrap_or(Height(1))
    }

    fn shorter(&self, from: Height) -> Option<Height> {
        let taken = self.shelf.newest()?.taken;
        let file = |height| Ok(self.block_place(height)?.map(|place| place.file));
        told(serve::shorter(from, &taken, self.file_bytes, file))
    }
}

/// A disk that cannot be read is told to the operator; whoever asked hears nothing.
fn told<T>(found: Result<Option<T>, IndexError>) -> Option<T> {
    found.unwrap_or_else(|error| {
        tracing::error!(%error, "the archive cannot be read");
        None
    })
}

/// The row of a position.
pub(crate) fn row(position: Position) -> Vec<u8> {
    let mut row = position.file.to_be_bytes().to_vec();
    row.extend_from_slice(&position.offset.to_be_bytes());
    row
}

/// The position of a row.
pub(crate) fn place(row: &[u8]) -> Option<Position> {
    let (file, offset) = row.split_at_checked(8)?;
    Some(Position {
        file: u64::from_be_bytes(file.try_into().ok()?),
        offset: u32::from_be_bytes(offset.try_into().ok()?),
    })
}

/// What a row of [`RESULTS`] holds.
pub(crate) fn decode_results(row: &[u8]) -> Result<Vec<Kept>, IndexError> {
    codec::decode(row, codec::ENCODED_BYTES_MAX)
        .map_err(|error| damaged("a row of results".into(), error))
}

fn damaged(what: String, reason: impl ToString) -> IndexError {
    IndexError::Damaged {
        what,
        reason: reason.to_string(),
    }
}
