//! Reads the log once, record by record, and checks everything that it says.
//!
//! Source: design, 'the chain'. In: the records of a log, in order. Out: how far the chain holds.
//! Holds: a block counts only behind the one that it names, over the body that it binds, with every
//! batch logged before it; what is wrong is told and reading goes on.
//! Elsewhere: frames (`storage`), execution (`replay`), promises (`votes`), tables (`compare`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;

use bytes::Bytes;

use super::batches::Batches;
use super::checks::{Checker, Subject};
use super::compare::Compare;
use super::findings::{Findings, Place, log_file};
use super::kept::Kept;
use super::locate;
use super::replay::Replay;
use super::views::Views;
use super::votes::{self, Votes};
use crate::application::Application;
use crate::blocks::{BatchRef, Body, Bounds, CheckedBatch, Genesis, Group, Header};
use crate::committee::{Certificate, Height, Kind, Opening, View, VoterRecord};
use crate::consortium::records::{self, Name};
use crate::consortium::{Block, Record};
use crate::crypto::{Check, Digest};
use crate::node::carried::Carried;
use crate::node::shelf::SNAPSHOTS;
use crate::storage::{self, LogError, Position, Report, StoreId, verify_log};

/// Bytes of the log between two words about progress.
const PROGRESS_BYTES: u64 = 4 << 20;
/// Heights below a certificate at which a promise may still be repeated.
const PROMISES_KEPT: u64 = 4096;

/// What the log is checked against.
pub(super) struct Context {
    pub(super) genesis: Genesis,
    /// View 0; those after it stand in the log.
    pub(super) founders: View,
    pub(super) bounds: Bounds,
    /// Makes an application at height 0.
    pub(super) make: fn() -> Box<dyn Application>,
    /// What the ledger starts from, where it is a successor.
    pub(super) carried: Option<Carried>,
}

/// A log folder.
pub(super) struct Log {
    pub(super) dir: PathBuf,
    pub(super) store: StoreId,
    /// Whether a process writes to it.
    pub(super) is_running: bool,
}

/// How far the chain holds, and what was read.
pub(super) struct Walked {
    pub(super) height: Height,
    pub(super) digest: Digest,
    pub(super) state_digest: Digest,
    pub(super) blocks: u64,
    pub(super) views: u64,
    pub(super) checkpoints: u64,
    pub(super) signatures: u64,
    pub(super) certified: Option<Height>,
    /// Whether a process wrote to the directory.
    pub(super) is_running: bool,
    /// The ledger and the application there.
    pub(super) replay: Replay,
}

impl Walked {
    /// Nothing was read: the chain stands at genesis.
    pub(super) fn nothing(context: &Context) -> Self {
        let replay = Replay::new(context);
        let (height, digest) = replay.good();
        Self {
            height,
            digest,
            state_digest: replay.state_digest(),
            blocks: 0,
            views: 1,
            checkpoints: 0,
            signatures: 0,
            certified: None,
            is_running: false,
            replay,
        }
    }
}

/// Reads the log.
///
/// Errors: only when its folder cannot be read.
pub(super) fn walk(
    context: &Context,
    log: &Log,
    (compare, kept): (Option<Compare>, &Kept),
    findings: &mut Findings,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Walked, LogError> {
    if !log.dir.is_dir() {
        return Ok(Walked::nothing(context));
    }
    let mut told = Progress::new(log);
    let (walked, is_foreign, wrong, report) = thread::scope(|scope| {
        let (checker, workers) = Checker::start(scope);
        let mut walk = Walk::new(context, log, (compare, checker, kept), findings);
        if told.is_pruned() {
            walk.begin();
        }
        let report = verify_log(&log.dir, log.store, |record| {
            told.tell(record.position, progress);
            walk.visit(record);
        });
        let (walked, is_foreign) = walk.finish();
        (walked, is_foreign, workers.join(), report)
    });
    let report = report?;
    progress(told.total, told.total);
    if !is_foreign {
        told.first(kept, findings);
        problems(log, report, findings);
        wrong
            .into_iter()
            .for_each(|subject| unsigned(subject, findings));
    }
    Ok(walked)
}

/// Where every log file starts in the whole.
struct Progress {
    starts: BTreeMap<u64, u64>,
    total: u64,
    next: u64,
}

impl Progress {
    fn new(log: &Log) -> Self {
        let entries = std::fs::read_dir(&log.dir).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number: u64 = name.strip_suffix(".log")?.parse().ok()?;
            Some((number, entry.metadata().ok()?.len()))
        });
        let mut starts: BTreeMap<u64, u64> = files.collect();
        let mut total = 0;
        for bytes in starts.values_mut() {
            (*bytes, total) = (total, total + *bytes);
        }
        Self {
            starts,
            total,
            next: 0,
        }
    }

    fn tell(&mut self, position: Position, progress: &mut dyn FnMut(u64, u64)) {
        let start = self.starts.get(&position.file).copied().unwrap_or(0);
        let done = start + u64::from(position.offset);
        if done >= self.next {
            self.next = done + PROGRESS_BYTES;
            progress(done, self.total.max(done));
        }
    }

    /// Whether the log begins at a later file than the first.
    fn is_pruned(&self) -> bool {
        self.starts.keys().next().is_some_and(|first| *first > 1)
    }

    /// Earlier files are given up for a snapshot alone.
    fn first(&self, kept: &Kept, findings: &mut Findings) {
        if self.is_pruned() && kept.bases.is_empty() {
            let what = "the file is missing: the log starts at a later one, and no snapshot that \
                        holds stands for what was before";
            findings.add(log_file(1), Place::Height(Height(1)), what);
        }
    }
}

/// Takes over what is wrong with frames.
fn problems(log: &Log, report: Report, findings: &mut Findings) {
    for problem in report.problems {
        let file = format!("log/{}", problem.file);
        let what = format!("byte {}: {}", problem.offset, problem.what);
        let number = problem.file.strip_suffix(".log");
        let number = number.and_then(|number| number.parse().ok());
        let is_torn = || {
            let path = log.dir.join(&problem.file);
            number.is_some()
                && problem.what.contains("checksum")
                && locate::is_torn(&path, problem.offset)
        };
        if problem.is_tail && (log.is_running || is_torn()) {
            findings.note(format!(
                "{file}, {what}: an unfinished write, never durable"
            ));
            continue;
        }
        let offset = u32::try_from(problem.offset).unwrap_or(u32::MAX);
        let place = number.map_or(Place::Tip, |file| Place::At(Position { file, offset }));
        findings.add(file, place, what);
    }
}

/// Tells of a signature that does not hold.
fn unsigned(subject: Subject, findings: &mut Findings) {
    let (position, place, what) = match subject {
        Subject::Batch(digest, position) => {
            let what = format!("batch {digest}: a client's signature does not hold");
            (position, Place::Batch(digest, position), what)
        }
        Subject::Inline(height, position) => {
            let what = "a client's signature does not hold".to_owned();
            (position, Place::Height(height), what)
        }
        Subject::Votes(height, position) => {
            let what = "a member's signature does not hold".to_owned();
            (position, Place::Height(height), what)
        }
    };
    let what = format!("record at byte {}: {what}", position.offset);
    findings.add(log_file(position.file), place, what);
}

/// The state of one reading.
struct Walk<'a> {
    context: &'a Context,
    findings: &'a mut Findings,
    checker: Checker,
    compare: Option<Compare>,
    kept: &'a Kept,
    /// The snapshot that the replay went on from; blocks up to there are not replayed.
    base: Height,
    batches: Batches,
    views: Views,
    votes: Votes,
    replay: Replay,
    /// The last block in order, with its header's digest.
    last: (Header, Digest),
    counts: Counts,
    /// Behind every record.
    end: Position,
    /// Whether the log is of another chain; then nothing else in it means anything.
    is_foreign: bool,
}

#[derive(Default)]
struct Counts {
    blocks: u64,
    checkpoints: u64,
    certified: Option<Height>,
}

impl<'a> Walk<'a> {
    fn new(
        context: &'a Context,
        log: &Log,
        (compare, checker, kept): (Option<Compare>, Checker, &'a Kept),
        findings: &'a mut Findings,
    ) -> Self {
        let header = context.genesis.header();
        let digest = header.digest();
        Self {
            context,
            findings,
            checker,
            compare,
            kept,
            base: Height(0),
            batches: Batches::new(log),
            views: Views::of(&context.founders),
            votes: Votes::default(),
            replay: Replay::new(context),
            last: (header, digest),
            counts: Counts::default(),
            end: Position { file: 0, offset: 0 },
            is_foreign: false,
        }
    }

    /// The log begins behind blocks that were pruned: what its first records speak of is known from
    /// the view chain.
    fn begin(&mut self) {
        if let Some(held) = self.kept.bases.first() {
            let height = held.taken.height;
            self.views.proved(&self.kept.steps, height);
            self.votes.begin(height.next());
            self.base = height;
        }
    }

    /// Blocks below `first` are not here: the replay goes on from a snapshot, if there is one.
    fn rebase(&mut self, first: Height) -> bool {
        let Some((held, shelf)) = self.kept.base_for(first).zip(self.kept.shelf.as_ref()) else {
            return false;
        };
        let height = held.taken.height;
        match self.replay.rebase(self.context, shelf, &held) {
            Err(what) => {
                let what = format!("snapshot {height}: {what}");
                self.findings.add(SNAPSHOTS, Place::Height(height), what);
                return false;
            }
            Ok(tip) => {
                let receipts = tip.receipts.size;
                let compared = self.compare.as_mut().map(|c| c.rebase(height, receipts));
                if let Some(Err(error)) = compared {
                    self.findings
                        .add("tables", Place::Height(height), error.to_string());
                    self.compare = None;
                }
                self.last = (tip, held.taken.header);
            }
        }
        self.views.proved(&self.kept.steps, height);
        self.votes.forget_below(height.next());
        self.base = height;
        self.findings.note(format!(
            "blocks up to {height} are pruned; the replay goes on from the snapshot there"
        ));
        true
    }

    /// A record may be the first behind blocks that were never here: it speaks of a snapshot's own
    /// height, or of a view that only the view chain knows.
    fn meet(&mut self, record: &Record) {
        let (view, height) = match record {
            Record::Voter(view, VoterRecord::Persisted(height, _)) => (*view, *height),
            Record::Voter(view, _) => (*view, Height(0)),
            Record::Certificate(held) | Record::Decision(held) => {
                (held.ballot.view, held.ballot.height)
            }
            Record::Payload(..) | Record::Batch(_) | Record::Block(_) => return,
            Record::Engine(..) | Record::Fault(_) => return,
        };
        let tip = self.last.0.height;
        let mut bases = self.kept.bases.iter().map(|held| held.taken.height);
        let is_base = height > tip && bases.any(|base| base == height);
        if is_base || self.views.get(view).is_none() {
            // Where there is no snapshot the record is judged as it is.
            self.rebase(tip.next().next());
        }
    }

    /// A block that a snapshot stands for.
    fn pass(&mut self, block: &Block, position: Position) {
        self.known(Name::Block(block.header.height), position);
        // Its PERSIST may follow.
        let digest = block.header.digest();
        self.votes.block(block, digest).ok();
        for batch in block.body.batches() {
            self.batches.release(&batch.digest());
        }
    }

    fn visit(&mut self, record: storage::Record<'_>) {
        self.end = record.position;
        if self.is_foreign {
            return;
        }
        match records::decode(record.kind, record.payload) {
            Ok(decoded) => self.take(decoded, record.position),
            Err(error) => {
                let height = self.last.0.height.next();
                self.findings.at(record.position, height, error);
            }
        }
    }

    fn take(&mut self, record: Record, position: Position) {
        self.meet(&record);
        let name = records::name(&record);
        match record {
            Record::Batch(bytes) => self.batch(name, bytes, position),
            Record::Block(block) => self.block(block, position),
            Record::Certificate(certificate) => self.certificate(&certificate, position),
            Record::Voter(view, promise) => {
                let looked = self.votes.promise(&self.views, view, &promise);
                self.looked(looked, position);
            }
            Record::Payload(height, payload) => {
                let law = (self.context, &self.views);
                let looked = self.votes.payload(law, height, &payload);
                self.looked(looked, position);
            }
            Record::Decision(decision) => {
                let looked = self.votes.decision(&self.views, &decision);
                self.looked(looked, position);
            }
            // Its checksum held; what it says only the engine knows.
            Record::Engine(..) => {}
            Record::Fault(fault) => {
                let looked = votes::fault((self.context, &self.views), &fault);
                self.looked(looked, position);
            }
        }
    }

    fn looked(
        &mut self,
        looked: Result<(Height, Vec<Check>), (Height, String)>,
        position: Position,
    ) {
        match looked {
            Ok((_, checks)) if checks.is_empty() => {}
            Ok((height, checks)) => self.checker.add(Subject::Votes(height, position), checks),
            Err((height, what)) => self.findings.at(position, height, what),
        }
    }

    fn known(&mut self, name: Name, position: Position) {
        if let Some(compare) = &mut self.compare {
            compare.record(name, position);
        }
    }

    fn batch(&mut self, name: Name, bytes: Bytes, position: Position) {
        self.known(name, position);
        let chain = self.context.founders.chain();
        match CheckedBatch::decode(bytes.clone(), chain, &self.context.bounds) {
            Err(error) => {
                let (height, what) = (self.last.0.height.next(), format!("batch: {error}"));
                self.findings.at(position, height, what);
            }
            Ok((batch, checks)) => {
                if self.batches.take(batch.digest, &bytes, position) {
                    let subject = Subject::Batch(batch.digest, position);
                    self.checker.add(subject, checks);
                }
            }
        }
    }

    fn block(&mut self, block: Block, position: Position) {
        let (height, ours) = (block.header.height, *self.context.founders.chain());
        if block.header.chain != ours {
            let found = block.header.chain;
            let what = format!("a block of chain {found}, the genesis document makes {ours}");
            self.findings.clear();
            self.findings.at(position, height, what);
            (self.is_foreign, self.compare) = (true, None);
            return self.replay.stop();
        }
        self.counts.blocks += 1;
        self.counts.checkpoints += u64::from(matches!(block.body, Body::Checkpoint(_)));
        if height > self.last.0.height.next() {
            // Where there is no snapshot it is missed below.
            self.rebase(height);
        }
        if height <= self.base {
            return self.pass(&block, position);
        }
        let tip = self.last.0.height;
        if height <= tip {
            let what = format!("block {height} stands behind block {tip}");
            return self.findings.at(position, height, what);
        }
        let digest = block.header.digest();
        let linked = self.links(&block, digest);
        // Also where it does not follow: what stands behind it is of the view that it made.
        let handed = self.hand_over(&block, digest, position);
        if let Err((at, what)) = linked.and(handed) {
            self.findings.at(position, at, what);
            self.replay.stop();
        }
        self.last = (block.header.clone(), digest);
        self.known(Name::Block(height), position);
        match self.groups(&block, position) {
            Err(what) => {
                self.findings.at(position, height, what);
                self.replay.stop();
            }
            Ok(groups) if !self.replay.is_stopped() => self.apply(block, groups, position),
            Ok(_) => {}
        }
    }

    /// Whether the block follows the last one; else which height is wrong and how.
    fn links(&mut self, block: &Block, digest: Digest) -> Result<(), (Height, String)> {
        let (tip, tip_digest) = &self.last;
        let Block { header, body } = block;
        let (height, want) = (header.height, tip.height.next());
        self.votes
            .block(block, digest)
            .map_err(|what| (height, what))?;
        if height != want {
            let what = format!("block {want} is missing: block {height} stands in its place");
            return Err((want, what));
        }
        let wrong = |what: String| Err((height, what));
        if let Err(error) = header.follows(tip, tip_digest) {
            return wrong(error.to_string());
        }
        let present = self.views.present().id();
        if header.view != present {
            let got = header.view;
            return wrong(format!(
                "it is of view {got}, the blocks before it lead to {present}"
            ));
        }
        if header.body != body.root() {
            return wrong("its body is not what its header binds".into());
        }
        match body.check() {
            Ok(()) => Ok(()),
            Err(error) => wrong(format!("its body: {error}")),
        }
    }

    /// Takes in the view that the block makes, if it makes one.
    fn hand_over(
        &mut self,
        block: &Block,
        digest: Digest,
        position: Position,
    ) -> Result<(), (Height, String)> {
        let Body::Reconfiguration(body) = &block.body else {
            return Ok(());
        };
        let height = block.header.height;
        let made = self.views.make(body, Opening { height, digest });
        let checks = made.map_err(|what| (height, format!("it makes no view: {what}")))?;
        self.checker.add(Subject::Votes(height, position), checks);
        Ok(())
    }

    /// The groups of a block's batches.
    fn groups(&mut self, block: &Block, position: Position) -> Result<Vec<Group>, String> {
        let (chain, bounds) = (*self.context.founders.chain(), self.context.bounds);
        let mut groups = Vec::new();
        for batch in block.body.batches() {
            let digest = batch.digest();
            let (bytes, is_checked) = match batch {
                BatchRef::Inline(bytes) => {
                    self.batches.release(&digest);
                    (Some(bytes.clone()), self.batches.has(&digest))
                }
                BatchRef::Named(_) => (self.batches.give(&digest), true),
            };
            let bytes = bytes.ok_or_else(|| {
                format!("batch {digest}, which it names, is not in the log before it")
            })?;
            let decoded = CheckedBatch::decode(bytes, &chain, &bounds);
            let (batch, checks) = decoded.map_err(|error| format!("batch {digest}: {error}"))?;
            if !is_checked {
                let subject = Subject::Inline(block.header.height, position);
                self.checker.add(subject, checks);
            }
            groups.extend(batch.groups);
        }
        Ok(groups)
    }

    fn apply(&mut self, block: Block, groups: Vec<Group>, position: Position) {
        let height = block.header.height;
        match self.replay.apply(block, groups) {
            Err(what) => self.findings.at(position, height, what),
            Ok(applied) => {
                if let Some(compare) = &mut self.compare {
                    compare.applied(&applied, &self.replay, self.findings);
                }
            }
        }
    }

    fn certificate(&mut self, certificate: &Certificate, position: Position) {
        let ballot = certificate.ballot;
        let height = ballot.height;
        self.known(Name::Certificate(height), position);
        if height <= self.base {
            return;
        }
        let checks = self.views.certifier(&ballot).and_then(|view| {
            let checks = certificate.checks(view);
            checks.map_err(|error| error.to_string())
        });
        let looked = match checks {
            Err(what) => Err(format!("a certificate: {what}")),
            Ok(_) if ballot.kind != Kind::Persist => {
                Err("a block certificate without PERSIST votes".into())
            }
            Ok(checks) => match self.votes.header(height) {
                Some((_, header)) if header == ballot.digest => Ok(checks),
                Some((_, header)) => Err(format!(
                    "a certificate of header {}, the stored one is {header}",
                    ballot.digest
                )),
                None => Err("a certificate of a block that is not stored before it".into()),
            },
        };
        match looked {
            Err(what) => self.findings.at(position, height, what),
            Ok(checks) => {
                self.checker.add(Subject::Votes(height, position), checks);
                self.counts.certified = self.counts.certified.max(Some(height));
                self.views.certified(&ballot);
                self.votes.forget_below(height.minus(PROMISES_KEPT));
            }
        }
    }

    /// Settles what only the end of the log tells; gives whether it is of another chain as well.
    fn finish(mut self) -> (Walked, bool) {
        if let Some(compare) = self.compare.take() {
            let newest = self.kept.bases.last().map(|held| held.taken.height);
            let replayed = (&self.replay, newest.unwrap_or_default());
            compare.finish(self.end, replayed, self.findings);
        }
        let (height, digest) = self.replay.good();
        let last = self.last.0.height;
        if self.replay.is_stopped() && !self.is_foreign {
            self.findings.note(format!(
                "blocks were executed up to height {height}, links were checked up to {last}"
            ));
        }
        let walked = Walked {
            height,
            digest,
            state_digest: self.replay.state_digest(),
            blocks: self.counts.blocks,
            views: self.views.count(),
            checkpoints: self.counts.checkpoints,
            signatures: self.checker.finish() + self.kept.signatures,
            certified: self.counts.certified,
            is_running: false,
            replay: self.replay,
        };
        (walked, self.is_foreign)
    }
}
