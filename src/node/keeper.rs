//! Writes behind: what was applied goes into the tables, a sealed height at a time.
//!
//! Source: `ARCHITECTURE.md`. In: durable records, applied blocks, the application's changes. Out:
//! one atomic commit for everything up to a sealed height.
//! Holds: the tables never stand above what the log holds durably; all tables stand at one height.
//! Elsewhere: the log, which is the truth (`storage`), reading (`index`), the start (`recovery`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::index::{
    BATCHES, BLOCKS, CERTIFICATES, Index, Kept, META, RESULTS, SEQUENCES, STATE, place, row,
};
use super::scribe::Pruning;
use super::tiles::{TILES, Tiles};
use crate::application;
use crate::blocks::receipts::ReceiptTree;
use crate::blocks::{Body, Header, Link};
use crate::committee::Height;
use crate::consortium::Applied;
use crate::consortium::ledger::{Parts, Snapshots, Views};
use crate::consortium::records::Name;
use crate::crypto::Digest;
use crate::membership::register::{ROW_KEYS, Register};
use crate::storage::{Batch, Direction, Position, Range, Row, TableError, Tables};

/// Bytes of one row of results, about; a longer one is split.
const RESULTS_BYTES: usize = 128 << 10;
/// Changes that wait in memory before they are committed though more come.
const PENDING_MAX: usize = 100_000;
/// Sealed heights that wait in memory before they are committed though more come.
const SEALS_MAX: usize = 64;

/// Rows that are given up in one commit; one of results may have 128 KiB.
const THINNED_AT_ONCE: usize = 256;
/// Such commits between two flushes.
const PIECES_UNFLUSHED_MAX: u64 = 64;
/// Rows of batches that are looked at together.
const BATCHES_AT_ONCE: usize = 4096;

/// The row of [`META`] that says where the tables stand.
pub(crate) const STANDING: &[u8] = b"standing";

/// Where the tables stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// The ledger, aside from what it remembers.
    pub(crate) parts: Parts,
    /// The last record of the log that the tables know, file and offset.
    pub(crate) saved: (u64, u32),
    /// Logged batches that no applied block names.
    pub(crate) open: Vec<(Digest, (u64, u32))>,
    /// Log files, each with the highest block that needs it.
    pub(crate) needed: Vec<(u64, Height)>,
    /// The snapshot that the tables were filled from, and its receipts: rows below are not here.
    pub(crate) base: (Height, u64),
    /// A start reads the log from this file on: whatever it needs of lower ones and the tables do
    /// not hold is saved again there.
    pub(crate) settled: u64,
    /// Rows of blocks up to this height, with so many receipts, were given up or never here. It is
    /// said before they go, so a kill in between leaves more of them than it says and never fewer.
    pub(crate) pruned: (Height, u64),
}

impl Standing {
    /// The last record of the log that the tables know.
    pub(crate) fn saved(&self) -> Position {
        let (file, offset) = self.saved;
        Position { file, offset }
    }
}

/// An applied block that is not in the tables.
struct Waiting {
    header: Header,
    digest: Digest,
    is_checkpoint: bool,
    /// Where views stand behind it, if it changed that.
    views: Option<Box<Views>>,
    snapshots: Snapshots,
    kept: Arc<Vec<Kept>>,
    leaves: Vec<Digest>,
    batches: Vec<Digest>,
    register: Option<Arc<Register>>,
}

/// What the tables know of log files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// Logged batches that no applied block names.
    pub(crate) open: BTreeMap<Digest, Position>,
    /// Log files, each with the highest block that needs it.
    pub(crate) needed: BTreeMap<u64, Height>,
    /// See [`Standing::base`].
    pub(crate) base: (Height, u64),
    /// See [`Standing::settled`].
    pub(crate) settled: u64,
    /// See [`Standing::pruned`].
    pub(crate) pruned: (Height, u64),
}

/// The writer of the tables.
pub(crate) struct Keeper {
    index: Arc<Index>,
    receipts: ReceiptTree<Tiles>,
    parts: Parts,
    saved: Position,
    open: BTreeMap<Digest, Position>,
    /// Log files, each with the highest block that needs it.
    needed: BTreeMap<u64, Height>,
    base: (Height, u64),
    settled: u64,
    pruned: (Height, u64),
    records: Vec<(Name, Position)>,
    blocks: VecDeque<Waiting>,
    changes: VecDeque<(Height, Vec<application::Change>)>,
    pending: usize,
    /// Heights that an expiry may lie ahead.
    span: u64,
}

impl Keeper {
    /// Goes on from where the tables of `index` stand.
    pub(crate) fn new(
        index: Arc<Index>,
        span: u64,
        parts: Parts,
        saved: Position,
        files: Files,
    ) -> Self {
        let Files {
            open,
            needed,
            base,
            settled,
            pruned,
        } = files;
        let tiles = Tiles::new(Arc::clone(index.tables()));
        Self {
            receipts: ReceiptTree::resume(parts.frontier.clone(), tiles),
            index,
            parts,
            saved,
            open,
            needed,
            base,
            settled,
            pruned,
            records: Vec::new(),
            blocks: VecDeque::new(),
            changes: VecDeque::new(),
            pending: 0,
            span,
        }
    }

    /// Notes a durable record.
    pub(crate) fn saved(&mut self, name: Name, position: Position) {
        assert!(position >= self.saved, "records become durable in order");
        self.saved = position;
        match name {
            Name::Batch(digest) => drop(self.open.insert(digest, position)),
            Name::Block(height) | Name::Certificate(height) => self.need(position.file, height),
            Name::Nameless => {}
        }
        if name != Name::Nameless {
            self.records.push((name, position));
            self.pending += 1;
        }
    }

    /// See [`Standing::settled`]: whatever was saved again for it was noted before. Never above the
    /// file of the newest record, which a start must read.
    pub(crate) fn settle(&mut self, file: u64) {
        self.settled = self.settled.max(file.min(self.saved.file));
    }

    /// See [`Standing::settled`].
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    /// The log file of the newest record that was noted.
    pub(crate) fn newest_file(&self) -> u64 {
        self.saved.file
    }

    /// Notes an applied block, whose record is durable.
    pub(crate) fn applied(&mut self, applied: &Applied, kept: Arc<Vec<Kept>>) {
        let header = applied.block.header.clone();
        let last = self.blocks.back().map_or(&self.parts.tip, |w| &w.header);
        assert_eq!(
            header.height,
            last.height.next(),
            "blocks are applied in order"
        );
        self.pending += kept.len() + 1;
        self.blocks.push_back(Waiting {
            header,
            digest: applied.digest,
            is_checkpoint: matches!(applied.block.body, Body::Checkpoint(_)),
            views: applied.views.clone(),
            snapshots: applied.snapshots,
            kept,
            leaves: applied.receipts.iter().map(|r| r.leaf()).collect(),
            register: applied.register.clone(),
            batches: applied
                .block
                .body
                .batches()
                .map(|batch| batch.digest())
                .collect(),
        });
    }

    /// Notes what the application changed up to the sealed `height`.
    pub(crate) fn changed(&mut self, height: Height, changes: Vec<application::Change>) {
        self.pending += changes.len();
        self.changes.push_back((height, changes));
    }

    /// Whether so much waits that it should be committed now.
    pub(crate) fn is_full(&self) -> bool {
        self.pending >= PENDING_MAX || self.changes.len() >= SEALS_MAX
    }

    /// Commits everything up to the highest sealed height that was applied; gives that height, or
    /// nothing when there is none.
    ///
    /// Errors: what the tables said; the tables stand where they stood.
    pub(crate) fn commit(&mut self) -> Result<Option<Height>, TableError> {
        let Some(top) = self.blocks.back().map(|block| block.header.height) else {
            return Ok(None);
        };
        let ready = self.changes.iter().rev();
        // What a successor starts from is there at height 0, and no block stands there.
        let is_done = |height: &Height| *height > Height(0) && *height <= top;
        let Some(height) = ready.map(|(height, _)| *height).find(is_done) else {
            return Ok(None);
        };
        let mut batch = Batch::new();
        let (saved, mut register) = (self.saved, None);
        for (name, position) in self.records.drain(..) {
            put_record(&mut batch, name, position);
        }
        while self
            .blocks
            .front()
            .is_some_and(|b| b.header.height <= height)
        {
            let mut block = self.blocks.pop_front().expect("the queue has a front");
            register = block.register.take().or(register);
            self.put_block(&mut batch, block);
        }
        if let Some(register) = register {
            put_register(&mut batch, &register);
        }
        while self.changes.front().is_some_and(|(at, _)| *at <= height) {
            let (_, changes) = self.changes.pop_front().expect("the queue has a front");
            for (key, value) in changes {
                match value {
                    Some(value) => batch.put(STATE, key, value),
                    None => batch.delete(STATE, key),
                }
            }
        }
        self.parts.frontier = self.receipts.frontier().clone();
        self.receipts.nodes_mut().drain_into(&mut batch)?;
        batch.put(META, STANDING, self.standing(saved));
        self.index.tables().commit(batch)?;
        self.index.committed(saved, height);
        let waiting = self.blocks.iter().map(|block| block.kept.len() + 1);
        let changing = self.changes.iter().map(|(_, changes)| changes.len());
        self.pending = waiting.chain(changing).sum();
        Ok(Some(height))
    }

    /// Makes what was committed durable.
    ///
    /// Errors: what the tables said; the process must end.
    pub(crate) fn flush(&self) -> Result<(), TableError> {
        self.index.tables().flush()
    }

    fn standing(&self, saved: Position) -> Vec<u8> {
        let open = self.open.iter();
        crate::blocks::codec::encode(&Standing {
            parts: self.parts.clone(),
            saved: (saved.file, saved.offset),
            open: open
                .map(|(digest, at)| (*digest, (at.file, at.offset)))
                .collect(),
            needed: self.needed.iter().map(|(file, at)| (*file, *at)).collect(),
            base: self.base,
            settled: self.settled,
            pruned: self.pruned,
        })
    }

    fn put_block(&mut self, batch: &mut Batch, block: Waiting) {
        let height = block.header.height;
        if !block.leaves.is_empty() {
            let first = self.receipts.frontier().size();
            batch.put(SEQUENCES, first.to_be_bytes(), height.0.to_be_bytes());
        }
        for leaf in &block.leaves {
            self.receipts.append(*leaf);
        }
        for digest in &block.batches {
            if let Some(position) = self.open.remove(digest) {
                self.need(position.file, height);
            }
        }
        put_results(batch, height, &block.kept);
        let link = Link {
            height,
            digest: block.digest,
        };
        if block.is_checkpoint {
            self.parts.checkpoint = link;
        }
        if let Some(views) = block.views {
            if views.present != self.parts.views.present {
                self.parts.reconfiguration = link;
            }
            self.parts.views = *views;
        }
        self.parts.snapshots = block.snapshots;
        self.parts.marks.push(link);
        self.parts.tip = block.header;
    }

    /// The block at `height` needs log file `file`.
    fn need(&mut self, file: u64, height: Height) {
        let needed = self.needed.entry(file).or_default();
        *needed = height.max(*needed);
    }

    /// Gives up rows of blocks up to a height; gives the first log file that is still needed, or
    /// nothing where the tables do not stand above that height.
    ///
    /// Errors: what the tables said; the tables stand where they stood.
    pub(crate) fn prune(&mut self, pruning: &Pruning) -> Result<Option<u64>, TableError> {
        let (floor, before, held) = (pruning.floor, pruning.before, &pruning.held);
        if self.parts.tip.height < floor {
            return Ok(None);
        }
        let waiting: BTreeSet<Digest> = { self.blocks.iter() }
            .flat_map(|block| block.batches.iter().copied())
            .collect();
        // What the pool holds stays; the rest nobody will order any more.
        let is_wanted = |digest: &Digest, at: &mut Position| {
            at.file >= before || held.contains(digest) || waiting.contains(digest)
        };
        self.open.retain(is_wanted);
        let used = self.needed.iter().filter(|(_, height)| **height > floor);
        let open = self.open.values().map(|position| position.file);
        let files = used.map(|(file, _)| *file).chain(open);
        // What a start reads stays: of lower files all that counts is saved again.
        let first = files.fold(before.min(self.settled), u64::min);
        self.needed.retain(|file, _| *file >= first);
        self.pruned = self.pruned.max((floor, pruning.receipts));
        let mut batch = Batch::new();
        for (name, position) in self.records.drain(..) {
            put_record(&mut batch, name, position);
        }
        batch.put(META, STANDING, self.standing(self.saved));
        self.index.tables().commit(batch)?;
        self.index.committed(self.saved, self.parts.tip.height);
        self.thin(pruning)?;
        let mut rest = Batch::new();
        self.forget(pruning, first, &mut rest)?;
        self.index.tables().commit(rest)?;
        Ok(Some(first))
    }

    /// Gives up most rows, each table from its lowest on. A start between two commits misses none:
    /// the checkpoint above is durable. Events go before their blocks: what is refused as pruned is
    /// told by the lowest event.
    fn thin(&self, pruning: &Pruning) -> Result<(), TableError> {
        let above = pruning.floor.next().0;
        let remembered = pruning.floor.minus(self.span).0;
        let below = |end: u64| Range::between(&[], &end.to_be_bytes());
        let ranges = [
            (SEQUENCES, below(pruning.receipts)),
            (BLOCKS, below(above)),
            (CERTIFICATES, below(above)),
            (RESULTS, below(remembered)),
            (TILES, Tiles::forgotten(pruning.receipts)),
        ];
        thin_out(&**self.index.tables(), ranges)
    }

    /// The rows that go.
    fn forget(&self, pruning: &Pruning, first: u64, batch: &mut Batch) -> Result<(), TableError> {
        let above = pruning.floor.next().0.to_be_bytes();
        batch.delete_range(BLOCKS, Range::between(&[], &above));
        batch.delete_range(CERTIFICATES, Range::between(&[], &above));
        let receipts = pruning.receipts.to_be_bytes();
        batch.delete_range(SEQUENCES, Range::between(&[], &receipts));
        assert!(
            pruning.receipts <= self.parts.frontier.size(),
            "what goes was written before"
        );
        batch.delete_range(TILES, Tiles::forgotten(pruning.receipts));
        // Snapshots that are still to be cut, all of them above the floor, need what they remember.
        let remembered = pruning.floor.minus(self.span);
        let results = remembered.0.to_be_bytes();
        batch.delete_range(RESULTS, Range::between(&[], &results));
        self.forget_batches(first)
    }

    /// The rows of batches in log files below `first`, in pieces.
    fn forget_batches(&self, first: u64) -> Result<(), TableError> {
        let tables = self.index.tables();
        let mut from = Vec::new();
        loop {
            let range = Range::starting_at(&from);
            let rows = tables.scan(BATCHES, &range, Direction::Forward, BATCHES_AT_ONCE)?;
            let Some((last, _)) = rows.last() else { break };
            from = [last, &[0][..]].concat();
            let gone = { rows.into_iter() }
                .filter(|(_, row)| place(row).is_none_or(|position| position.file < first));
            let mut batch = Batch::new();
            gone.for_each(|(digest, _)| batch.delete(BATCHES, digest));
            if !batch.is_empty() {
                tables.commit(batch)?;
            }
        }
        Ok(())
    }
}

/// Removes most rows of ranges in pieces, so that no commit grows with them; what is left, less
/// than one piece of each, goes with a commit of the caller.
pub(crate) fn thin_out<'a>(
    tables: &dyn Tables,
    ranges: impl IntoIterator<Item = (&'a str, Range)>,
) -> Result<(), TableError> {
    let mut pieces = 0_u64;
    for (table, range) in ranges {
        loop {
            let rows = tables.scan(table, &range, Direction::Forward, THINNED_AT_ONCE)?;
            if rows.len() < THINNED_AT_ONCE {
                break;
            }
            let mut batch = Batch::new();
            rows.into_iter()
                .for_each(|(key, _)| batch.delete(table, key));
            tables.commit(batch)?;
            pieces += 1;
            if pieces.is_multiple_of(PIECES_UNFLUSHED_MAX) {
                tables.flush()?;
            }
        }
    }
    Ok(())
}

fn put_register(batch: &mut Batch, register: &Register) {
    for (key, row) in ROW_KEYS.into_iter().zip(register.to_rows()) {
        batch.put(META, key, row);
    }
}

fn put_record(batch: &mut Batch, name: Name, position: Position) {
    match name {
        Name::Batch(digest) => batch.put(BATCHES, digest.0, row(position)),
        Name::Block(height) => batch.put(BLOCKS, height.0.to_be_bytes(), row(position)),
        Name::Certificate(height) => {
            batch.put(CERTIFICATES, height.0.to_be_bytes(), row(position));
        }
        Name::Nameless => {}
    }
}

fn put_results(batch: &mut Batch, height: Height, kept: &[Kept]) {
    for (key, row) in result_rows(height, kept) {
        batch.put(RESULTS, key, row);
    }
}

/// The rows of [`RESULTS`] that hold what executed or repeated at `height`.
pub(crate) fn result_rows(height: Height, kept: &[Kept]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut piece: u32 = 0;
    let mut rest = kept;
    while !rest.is_empty() {
        let mut bytes = 0;
        let sizes = rest
            .iter()
            .map(|one| 256 + one.executed.outcome.bytes.len());
        let count = sizes
            .take_while(|size| {
                let fits = bytes == 0 || bytes + size <= RESULTS_BYTES;
                bytes += size;
                fits
            })
            .count();
        let (now, later) = rest.split_at(count.max(1));
        let mut key = height.0.to_be_bytes().to_vec();
        key.extend_from_slice(&piece.to_be_bytes());
        rows.push((key, crate::blocks::codec::encode(&now.to_vec())));
        (piece, rest) = (piece + 1, later);
    }
    rows
}
