//! The tables beside what the replay gives at the height where they stand.
//!
//! Source: interface, `verify`. In: a copy of the tables, every record and applied block of the
//! log. Out: every row that differs.
//! Holds: each table is compared both ways: no row is missing, none is too many, none differs.
//! Elsewhere: the bytes of the tables' files (`storage`), how rows come about (`keeper`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::VerifyError;
use super::files::{Scratch, copy};
use super::findings::{Findings, Place, log_file};
use super::replay::Replay;
use super::rows::{Cursor, Difference};
use super::tiles::{self, Span};
use crate::blocks::receipts::Frontier;
use crate::blocks::{BatchRef, Body, codec};
use crate::committee::Height;
use crate::consortium::ledger::{Parts, remembered};
use crate::consortium::records::Name;
use crate::consortium::{Applied, Ledger};
use crate::crypto::Digest;
use crate::membership::register::{ROW_KEYS, Register};
use crate::node::index::{
    BATCHES, BLOCKS, CERTIFICATES, META, RESULTS, SEQUENCES, STATE, kept, row,
};
use crate::node::keeper::{STANDING, Standing, result_rows};
use crate::node::recovery;
use crate::node::tiles::TILES;
use crate::storage::{
    Position, Range, TableError, TableOptions, Tables, open_tables, verify_tables,
};

const CACHE_BYTES: u64 = 64 << 20;
/// How findings name the tables where no file of them is meant.
const FOLDER: &str = "tables";

/// What looking at the tables' files gave.
pub(super) enum Opened {
    /// Whole: rows can be compared.
    Ready(Box<Compare>),
    /// Not whole: findings say where.
    Damaged,
    /// There are none.
    Absent,
    /// They do not say where they stand: somebody was ended while they were filled from a snapshot.
    Unfilled,
}

/// Checks the tables' files and opens a copy of them; a start fills them again where there is a
/// snapshot.
///
/// Errors: only when they cannot be read or copied.
pub(super) fn open(
    (dir, has_snapshot): (&Path, bool),
    scratch: &Scratch,
    findings: &mut Findings,
) -> Result<Opened, VerifyError> {
    if !dir.is_dir() {
        return Ok(Opened::Absent);
    }
    let report = verify_tables(dir, &scratch.folder("check"))?;
    let mut damaged = |file: String, what: String| {
        findings.add(format!("{FOLDER}/{file}"), Place::Tip, what);
        Ok(Opened::Damaged)
    };
    let Some(engine) = report.engine else {
        let Some(problem) = report.problems.into_iter().next() else {
            return damaged("ENGINE".into(), "the file is missing".into());
        };
        return damaged(problem.file, problem.what);
    };
    if !report.problems.is_empty() {
        for problem in report.problems {
            // Where an engine failed and no file is named, it is the engine's own.
            let file = match &problem.file[..] {
                "redb" => "tables.redb".into(),
                _ => problem.file,
            };
            let what = format!("byte {}: {}", problem.offset, problem.what);
            damaged(file, what)?;
        }
        return Ok(Opened::Damaged);
    }
    let target = scratch.folder(FOLDER);
    copy(dir, &target).map_err(|source| VerifyError::Io {
        path: target.clone(),
        source,
    })?;
    let options = TableOptions {
        tables: recovery::TABLES.map(str::to_owned).to_vec(),
        cache_bytes: CACHE_BYTES,
    };
    let opened = open_tables(&target, &engine, &options).and_then(Compare::new);
    match opened {
        Ok(Ok(compare)) if compare.standing.is_none() && has_snapshot => Ok(Opened::Unfilled),
        Ok(Ok(compare)) => {
            if !report.is_sealed {
                findings.note(
                    "the tables were not closed in good order: every row was checked, space that \
                     holds no row was not",
                );
            }
            Ok(Opened::Ready(Box::new(compare)))
        }
        Ok(Err(what)) => damaged(engine, what),
        Err(error) => damaged(engine, error.to_string()),
    }
}

/// The tables and how far the replay has come through them.
pub(super) struct Compare {
    tables: Box<dyn Tables>,
    /// None where nothing was committed yet.
    standing: Option<Standing>,
    saved: Position,
    height: Height,
    blocks: Cursor,
    certificates: Cursor,
    certified: BTreeMap<Height, Position>,
    results: Cursor,
    sequences: Cursor,
    batches: Batches,
    found: Vec<Difference>,
    /// The snapshot that the replay went on from: rows that follow from what is below it are not
    /// compared.
    base: Option<Height>,
    /// Log files, each with the highest block that needs it.
    needed: BTreeMap<u64, Height>,
    /// The register and the edge of the receipt log where the tables stand, once the replay came
    /// there.
    reached: Option<(Arc<Register>, Frontier)>,
}

/// Batches up to the record that the tables know.
#[derive(Default)]
struct Batches {
    logged: BTreeMap<Digest, Position>,
    /// Logged again, or behind the block that names it. Whether the tables held such a batch open
    /// depends on whether that block was in them when the record came.
    late: BTreeSet<Digest>,
    /// Named by a block before any record of theirs.
    inlined: BTreeSet<Digest>,
    /// Logged, and named by no block up to the tables' height.
    open: BTreeSet<Digest>,
    /// Named by blocks that are kept.
    needed: BTreeSet<Digest>,
}

impl Batches {
    fn logged(&mut self, digest: Digest, position: Position) {
        let is_repeated = self.logged.insert(digest, position).is_some();
        if is_repeated || self.inlined.contains(&digest) {
            self.late.insert(digest);
        }
        self.open.insert(digest);
    }

    /// A block names it; where it was logged, if it was open.
    fn named(&mut self, digest: Digest) -> Option<Position> {
        let was_open = self.open.remove(&digest);
        let position = self.logged.get(&digest).copied();
        if position.is_none() {
            self.inlined.insert(digest);
        }
        position.filter(|_| was_open)
    }
}

impl Compare {
    /// Before the first row; as inner error why the tables say nothing.
    fn new(tables: Box<dyn Tables>) -> Result<Result<Self, String>, TableError> {
        let standing: Option<Standing> = match tables.get(META, STANDING)? {
            None => None,
            Some(row) => match codec::decode(&row, codec::ENCODED_BYTES_MAX) {
                Ok(standing) => Some(standing),
                Err(error) => return Ok(Err(format!("table {META}, where it stands: {error}"))),
            },
        };
        let start = Position { file: 0, offset: 0 };
        let tip = standing.as_ref().map(|s| s.parts.tip.height);
        let cursor = |table| Cursor::new(table, Range::all());
        let (floor, receipts) = standing.as_ref().map_or((Height(0), 0), |s| s.pruned);
        let mut compare = Self {
            saved: standing.as_ref().map_or(start, Standing::saved),
            height: tip.unwrap_or(Height(0)),
            standing,
            tables,
            blocks: cursor(BLOCKS),
            certificates: cursor(CERTIFICATES),
            certified: BTreeMap::new(),
            results: cursor(RESULTS),
            sequences: cursor(SEQUENCES),
            batches: Batches::default(),
            found: Vec::new(),
            needed: BTreeMap::new(),
            base: None,
            reached: None,
        };
        if floor > Height(0) {
            // The log file that has them may be kept for later ones, and a kill may have left rows.
            // A certificate that opened the view is saved again though its block is gone.
            let above = floor.next().0.to_be_bytes();
            compare.blocks.start_at(&above);
            compare.certificates.start_at(&above);
            compare.skip(floor, receipts);
        }
        Ok(Ok(compare))
    }

    /// The replay goes on from a snapshot and stands there: blocks up to it are not replayed.
    pub(super) fn rebase(&mut self, replay: &Replay, findings: &mut Findings) {
        let tip = replay.ledger().tip();
        self.skip(tip.height, tip.receipts.size);
        self.stand(tip.height, replay, findings);
        self.tell(tip.height, findings);
    }

    /// What follows from executing blocks up to `height`, with so many receipts, is not compared.
    fn skip(&mut self, height: Height, receipts: u64) {
        if self.base.is_some_and(|base| base >= height) {
            return;
        }
        self.base = Some(height);
        self.results.start_at(&height.next().0.to_be_bytes());
        self.sequences.start_at(&receipts.to_be_bytes());
    }

    /// The height of the snapshot that the tables were filled from.
    pub(super) fn filled(&self) -> Height {
        self.standing
            .as_ref()
            .map_or(Height(0), |standing| standing.base.0)
    }

    /// A record of the log, in order.
    pub(super) fn record(&mut self, name: Name, position: Position) {
        if position > self.saved {
            return;
        }
        let value = row(position);
        if let Name::Block(height) | Name::Certificate(height) = name {
            self.need(position.file, height);
        }
        match name {
            Name::Block(height) => {
                let key = height.0.to_be_bytes();
                let row = (&key[..], &value[..]);
                self.blocks.expect(&*self.tables, row, &mut self.found);
            }
            // It may be saved again before log files are given up: the last one counts.
            Name::Certificate(height) => drop(self.certified.insert(height, position)),
            Name::Batch(digest) => self.batches.logged(digest, position),
            Name::Nameless => {}
        }
    }

    /// An applied block, in order; the ledger and the application stand behind it.
    pub(super) fn applied(&mut self, applied: &Applied, replay: &Replay, findings: &mut Findings) {
        let height = applied.block.header.height;
        if height > self.height {
            return;
        }
        for digest in applied.block.body.batches().map(BatchRef::digest) {
            if height > self.floor() {
                self.batches.needed.insert(digest);
            }
            if let Some(position) = self.batches.named(digest) {
                self.need(position.file, height);
            }
        }
        for (key, value) in result_rows(height, &kept(applied)) {
            let row = (&key[..], &value[..]);
            self.results.expect(&*self.tables, row, &mut self.found);
        }
        if let Some(first) = applied.receipts.first() {
            let (key, value) = (first.sequence.to_be_bytes(), height.0.to_be_bytes());
            let row = (&key[..], &value[..]);
            self.sequences.expect(&*self.tables, row, &mut self.found);
        }
        self.stand(height, replay, findings);
        self.tell(height, findings);
    }

    /// The ledger and the application stand at `height`.
    fn stand(&mut self, height: Height, replay: &Replay, findings: &mut Findings) {
        if height != self.height {
            return;
        }
        let ledger = replay.ledger();
        self.state(replay);
        self.parts(ledger, findings);
        self.memory(ledger, findings);
        let edge = ledger.parts().frontier.clone();
        self.reached = Some((Arc::clone(ledger.register()), edge));
    }

    /// A block for which a snapshot stands: it is not executed.
    pub(super) fn passed(&mut self, height: Height, body: &Body) {
        if height > self.height || height <= self.floor() {
            return;
        }
        for digest in body.batches().map(BatchRef::digest) {
            self.batches.needed.insert(digest);
            self.batches.named(digest);
        }
    }

    fn need(&mut self, file: u64, height: Height) {
        let needed = self.needed.entry(file).or_default();
        *needed = height.max(*needed);
    }

    /// The application's entries.
    fn state(&mut self, replay: &Replay) {
        let entries: BTreeMap<_, _> = replay.application().entries().collect();
        let mut cursor = Cursor::new(STATE, Range::all());
        for (key, value) in &entries {
            let row = (&key[..], &value[..]);
            cursor.expect(&*self.tables, row, &mut self.found);
        }
        cursor.finish(&*self.tables, &mut self.found);
    }

    /// Where the tables say that the ledger stands.
    fn parts(&self, ledger: &Ledger, findings: &mut Findings) {
        let Some(Standing { parts, .. }) = &self.standing else {
            return;
        };
        let Parts {
            tip,
            checkpoint,
            reconfiguration,
            frontier,
            views,
            marks,
            snapshots,
        } = ledger.parts();
        let fields = [
            ("tip", *tip == parts.tip),
            ("last checkpoint", *checkpoint == parts.checkpoint),
            (
                "last reconfiguration",
                *reconfiguration == parts.reconfiguration,
            ),
            ("edge of the receipt log", *frontier == parts.frontier),
            ("view", *views == parts.views),
            ("set of recent blocks", *marks == parts.marks),
            ("snapshot that is due", *snapshots == parts.snapshots),
        ];
        for (field, _) in fields.iter().filter(|(_, is_same)| !is_same) {
            let what = format!("table {META}, where it stands: the replay gives another {field}");
            findings.add(FOLDER, Place::Height(self.height), what);
        }
    }

    /// The transactions that a start would remember.
    fn memory(&self, ledger: &Ledger, findings: &mut Findings) {
        let place = Place::Height(self.height);
        let mut add = |what: String| {
            let what = format!("table {RESULTS}, remembered transactions: {what}");
            findings.add(FOLDER, place, what);
        };
        let of = (&self.height, ledger.parameters());
        let found = match recovery::remembered(&*self.tables, of, &|| true) {
            Ok(Ok(found)) => found,
            Ok(Err(what)) => return add(what),
            Err(error) => return add(error.to_string()),
        };
        for (name, executed) in &found {
            let is_same = ledger
                .answer(&name.0, name.1)
                .is_some_and(|ours| *ours == remembered(executed));
            if !is_same {
                add(format!(
                    "another answer for {} of client {}",
                    name.1, name.0
                ));
            }
        }
        let (have, want) = (found.len(), ledger.remembered());
        if have != want {
            add(format!("{have} there, the replay remembers {want}"));
        }
    }

    /// Hands over what was found in rows about `height`.
    fn tell(&mut self, height: Height, findings: &mut Findings) {
        for difference in self.found.drain(..) {
            let named = match (difference.table, &difference.key) {
                (BLOCKS | CERTIFICATES | RESULTS, Some(key)) => key.first_chunk(),
                _ => None,
            };
            let place = named.map_or(height, |bytes| Height(u64::from_be_bytes(*bytes)));
            findings.add(FOLDER, Place::Height(place), difference.to_string());
        }
    }

    /// Where the tables and a start from them begin must be kept; the newest snapshot is at
    /// `newest`.
    fn beginnings(&self, newest: Height, findings: &mut Findings) {
        let (base, receipts) = self.standing.as_ref().map_or((Height(0), 0), |s| s.base);
        if base > newest || (base == Height(0) && receipts != 0) {
            let what = format!("table {META}: filled from a snapshot at {base} that is not kept");
            findings.add(FOLDER, Place::Height(self.height), what);
        }
        let (floor, gone) = self.standing.as_ref().map_or((Height(0), 0), |s| s.pruned);
        if floor < base || (floor == Height(0) && gone != 0) {
            let what = format!("table {META}: {gone} receipts of blocks up to {floor} are pruned");
            findings.add(FOLDER, Place::Height(self.height), what);
        }
        let standing = self.standing.as_ref();
        if let Some(wrong) = standing.filter(|standing| standing.settled > standing.saved.0) {
            let settled = wrong.settled;
            let what = format!("table {META}: log file {settled} is not known to be settled");
            findings.add(FOLDER, Place::Height(self.height), what);
        }
        if let Some(floor) = self.base.filter(|floor| *floor > newest) {
            let what = format!("table {BLOCKS}: no snapshot is kept for rows up to {floor}");
            findings.add(FOLDER, Place::Height(floor), what);
        }
    }

    /// The log ended behind the record at `end`; the newest snapshot that is kept has this height.
    pub(super) fn finish(
        mut self,
        end: Position,
        (replay, newest): (&Replay, Height),
        findings: &mut Findings,
    ) {
        let tip = replay.good().0;
        self.beginnings(newest, findings);
        self.tell(tip, findings);
        if self.saved > end {
            let (saved, place) = (self.saved, Place::Height(tip.next()));
            let what = format!("the tables know the record at {saved}, the log ends at {end}");
            return findings.add(log_file(saved.file), place, what);
        }
        if self.height > tip {
            if !replay.is_stopped() {
                let what = format!(
                    "the tables stand at height {}, the log ends below",
                    self.height
                );
                findings.add(FOLDER, Place::Height(self.height), what);
            }
            findings.note(format!(
                "the tables stand at height {} and were compared up to {tip}",
                self.height
            ));
            return;
        }
        let (tables, found) = (&*self.tables, &mut self.found);
        for (height, position) in &self.certified {
            let (key, value) = (height.0.to_be_bytes(), row(*position));
            self.certificates
                .expect(tables, (&key[..], &value[..]), found);
        }
        for cursor in [
            &mut self.blocks,
            &mut self.certificates,
            &mut self.results,
            &mut self.sequences,
        ] {
            cursor.finish(tables, found);
        }
        if let Some(base) = self.base {
            findings.note(format!(
                "the blocks up to {base} are pruned: rows of {RESULTS} and {SEQUENCES} that follow \
                 from them were checked against their own checksums alone, and rows of {BLOCKS} \
                 and {CERTIFICATES} that a kill left may be there"
            ));
        }
        if let Some((register, edge)) = self.reached.take() {
            self.tiles(&edge, findings);
            self.meta(&register);
        } else if self.standing.is_some() && !replay.is_stopped() {
            findings.note(format!(
                "the tables stand at height {}, below the snapshot from which the log can be \
                 replayed: their state was not compared",
                self.height
            ));
        }
        self.batch_rows(findings);
        self.tell(self.height, findings);
    }

    /// The receipt log.
    fn tiles(&mut self, edge: &Frontier, findings: &mut Findings) {
        let standing = self.standing.as_ref();
        let (base, receipts) = standing.map_or((Height(0), 0), |standing| standing.base);
        let span = Span {
            edge,
            base: receipts,
            has_grown: self.height > base,
            pruned: standing.map_or(0, |standing| standing.pruned.1),
        };
        match tiles::compare(&*self.tables, &span, &mut self.found) {
            Ok(false) => {}
            Ok(true) => findings.note(
                "what stands in the receipt log below a row that differs was not compared with it",
            ),
            Err(error) => self.found.push(Difference::unreadable(TILES, &error)),
        }
    }

    fn meta(&mut self, register: &Register) {
        let mut cursor = Cursor::new(META, Range::all());
        // Its rows stand before the other one, and only once it changed, or came by a snapshot.
        if register.is_touched() || self.filled() > Height(0) {
            for (key, value) in ROW_KEYS.into_iter().zip(register.to_rows()) {
                let row = (key, &value[..]);
                cursor.expect(&*self.tables, row, &mut self.found);
            }
        }
        if let Some(standing) = &self.standing {
            // Its fields were compared; here only other rows matter.
            let value = codec::encode(standing);
            let row = (STANDING, &value[..]);
            cursor.expect(&*self.tables, row, &mut self.found);
        }
        cursor.finish(&*self.tables, &mut self.found);
    }

    fn batch_rows(&mut self, findings: &mut Findings) {
        let mut cursor = Cursor::new(BATCHES, Range::all());
        let kept = self.kept_from();
        let open = self.standing.iter().flat_map(|standing| &standing.open);
        let open: BTreeSet<Digest> = open.map(|(digest, _)| *digest).collect();
        for (digest, position) in &self.batches.logged {
            let value = row(*position);
            let row = (&digest.as_bytes()[..], &value[..]);
            // What a snapshot stands for may have been left out when the tables were filled.
            let is_named = self.batches.needed.contains(digest) || open.contains(digest);
            let is_due = self.filled() == Height(0) || is_named;
            if position.file >= kept && is_due {
                cursor.expect(&*self.tables, row, &mut self.found);
            } else {
                cursor.meets(&*self.tables, row, &mut self.found);
            }
        }
        cursor.finish(&*self.tables, &mut self.found);
        let Some(standing) = &self.standing else {
            return;
        };
        let is_whole = standing.pruned.0 == Height(0);
        let needed: Vec<(u64, Height)> = self.needed.iter().map(|(f, h)| (*f, *h)).collect();
        if is_whole && self.batches.late.is_empty() && needed != standing.needed {
            let what = format!("table {META}, log files: the replay needs others");
            findings.add(FOLDER, Place::Height(self.height), what);
        }
        let open: BTreeMap<Digest, (u64, u32)> = standing.open.iter().copied().collect();
        let Batches { logged, late, .. } = &self.batches;
        let missing = { self.batches.open.iter() }
            // Pruning forgets those that nobody will order any more.
            .filter(|digest| is_whole && !open.contains_key(digest));
        let extra = open.iter().filter(|(digest, (file, offset))| {
            let (file, offset) = (*file, *offset);
            !self.batches.open.contains(digest)
                || logged.get(digest) != Some(&Position { file, offset })
        });
        let wrong = missing.chain(extra.map(|(digest, _)| digest));
        for digest in wrong.filter(|digest| !late.contains(digest)) {
            let what = format!("table {META}, open batches: the replay differs in {digest}");
            findings.add(FOLDER, Place::Height(self.height), what);
        }
    }

    /// The log file from which on every batch has its row: of lower ones pruning may have taken it,
    /// though the file is there still.
    fn kept_from(&self) -> u64 {
        let Some(standing) = self.standing.as_ref().filter(|s| s.pruned.0 > Height(0)) else {
            return 0;
        };
        let floor = standing.pruned.0;
        let used = standing.needed.iter().filter(|(_, height)| *height > floor);
        let files = used.map(|(file, _)| *file);
        let open = standing.open.iter().map(|(_, (file, _))| *file);
        files.chain(open).fold(standing.settled, u64::min)
    }

    /// The block up to which rows were given up, or never were here.
    fn floor(&self) -> Height {
        let standing = self.standing.as_ref();
        standing.map_or(Height(0), |standing| standing.pruned.0)
    }
}
