//! The simulated log of one member: what is written, what is durable, and how it comes back.
//!
//! Source: `ARCHITECTURE.md`, durability. In: records. Out: an archive to serve from, and a
//! replica's restored state.
//! Holds: only what a sync covered counts as durable; records come back in the order in which they
//! were saved, or the damage is found. Elsewhere: the real log beneath it in worlds that take the
//! complete path (`stored`), real files (`storage`), the real recovery (`node`).

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;

use super::dice::Dice;
use super::hints::Retention;
use super::keyring::Keyring;
use super::shelf::{Shelf, Snapshot};
use super::stored::Stored;
use crate::application::Application;
use crate::blocks::{BatchRef, CheckedBatch, Genesis, Group, Parameters};
use crate::committee::{Certificate, Height, MemberId, View};
use crate::consortium::restoring::{self, Beside, Restoring};
use crate::consortium::serve::{self, Archive};
use crate::consortium::{
    Applied, Block, Decided, Execute, Execution, Ledger, Outcome, Record, Restored, records,
};
use crate::crypto::{Digest, Domain, SecretKey, Verified, Verifier};
use crate::storage::simulated::Crash;

/// Of a thousand power losses so many damage the tables.
const TABLES_LOST: u64 = 20;

/// A member's log.
#[derive(Default)]
pub(super) struct Disk {
    records: Vec<Record>,
    /// How many of them are durable.
    durable: usize,
    /// The real log, in some worlds.
    stored: Option<Stored>,
    tables: Option<Tables>,
    /// A record whose checksum does not hold any more.
    flipped: Option<usize>,
    /// The next sync fails.
    fails: bool,
    blocks: BTreeMap<Height, usize>,
    certificates: BTreeMap<Height, usize>,
    batches: BTreeMap<Digest, usize>,
    shelf: Shelf,
    /// What is kept below the newest checkpoint; none where that prunes all.
    retention: Option<Retention>,
    /// Bytes of the log up to each durable record, where something is kept.
    offsets: Vec<u64>,
}

/// What `node` keeps in tables beside its log, so that a start need not replay everything: written
/// at each start, and at times lost with the power, which a start from genesis makes good.
struct Tables {
    ledger: Ledger,
    rows: Vec<(Bytes, Bytes)>,
    /// Records that are in it.
    folded: usize,
    /// Batches that stand in no block.
    open: Vec<Verified<CheckedBatch>>,
}

impl Tables {
    fn new(root: &Root<'_>) -> Self {
        Self {
            ledger: Ledger::genesis(root.genesis).with_verifier(root.verifier),
            rows: Vec::new(),
            folded: 0,
            open: Vec::new(),
        }
    }

    /// Tables out of a snapshot.
    fn of(root: &Root<'_>, snapshot: &Snapshot) -> Self {
        let (ledger, app) = snapshot.restore(root);
        Self {
            ledger: ledger.with_verifier(root.verifier),
            rows: app.entries().collect(),
            folded: 0,
            open: Vec::new(),
        }
    }

    /// Gives the application its state back.
    fn load(&self, app: &mut dyn Application) {
        let height = self.ledger.height();
        if height > Height(0) {
            let loaded = app.load(&mut self.rows.iter().cloned().map(Ok), height.0);
            loaded.expect("these are the entries of the same application");
            if let Some(root) = self.ledger.tip().state {
                assert!(
                    app.retain(height.0, &root),
                    "the state is that of its header"
                );
            }
        }
    }
}

/// Why a member does not start from its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It found the damage that was done to it.
    Damaged(String),
    /// It reads something else than was synced and does not know.
    Deceived(String),
}

impl Disk {
    /// A disk with the real log on it.
    pub(super) fn stored(number: usize) -> Self {
        Self {
            stored: Some(Stored::new(number)),
            ..Self::default()
        }
    }

    /// The same, of a member that keeps blocks below its newest checkpoint.
    pub(super) fn keeping(self, retention: Option<Retention>) -> Self {
        Self { retention, ..self }
    }

    /// What is kept below the newest checkpoint; none where that prunes all.
    pub(super) fn retention(&self) -> Option<Retention> {
        self.retention
    }

    /// Blocks up to the snapshot at `height` are superfluous, but for those that are kept.
    pub(super) fn prune(&mut self, height: Height) {
        let kept = self.retention.map_or(Some(1), Retention::checkpoints);
        self.shelf.prune(height, kept);
    }

    /// Writes a record; it is not durable yet.
    pub(super) fn write(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Records written.
    pub(super) fn written(&self) -> usize {
        self.records.len()
    }

    /// Records that are durable.
    pub(super) fn durable(&self) -> usize {
        self.durable
    }

    /// Whether the block with this header is durable.
    pub(super) fn holds(&self, height: Height, header: &Digest) -> bool {
        let record = self.blocks.get(&height).map(|index| &self.records[*index]);
        matches!(record, Some(Record::Block(block)) if block.header.digest() == *header)
    }

    /// The next sync fails.
    pub(super) fn fail_sync(&mut self) {
        self.fails = true;
        self.stored.iter_mut().for_each(Stored::fail_sync);
    }

    /// A sync that began when `upto` records were written has ended; false when it failed, and
    /// nobody knows what is on the disk.
    pub(super) fn synced(&mut self, upto: usize) -> bool {
        let logged = self
            .stored
            .as_mut()
            .map(|stored| stored.sync(&self.records, upto));
        if std::mem::take(&mut self.fails) || logged.is_some_and(|result| result.is_err()) {
            return false;
        }
        self.take(upto);
        true
    }

    /// Counts the first `upto` records as durable and can serve them.
    fn take(&mut self, upto: usize) {
        for index in self.durable..upto {
            if self.retention.is_some() {
                let (_, payload) = records::encode(self.records[index].clone());
                let before = self.offsets.last().copied().unwrap_or_default();
                self.offsets.push(before + payload.len() as u64);
            }
            match &self.records[index] {
                Record::Block(block) => drop(self.blocks.insert(block.header.height, index)),
                Record::Certificate(certificate) => {
                    let height = certificate.ballot.height;
                    self.certificates.insert(height, index);
                    if let Some(block) = self.held(height) {
                        self.shelf.step_of(&block, certificate);
                    }
                }
                Record::Batch(bytes) => {
                    self.batches.insert(Digest::of(Domain::Batch, bytes), index);
                }
                Record::Voter(..) | Record::Payload(..) => {}
                Record::Decision(_) | Record::Engine(..) | Record::Fault(_) => {}
            }
        }
        self.durable = self.durable.max(upto);
    }

    /// Power is lost: `how` what was not durable is torn.
    pub(super) fn crash(&mut self, how: Crash, dice: &mut Dice) {
        self.fails = false;
        if dice.chance(TABLES_LOST) {
            self.tables = None;
        }
        self.shelf.crash(how, dice);
        let open = self.records.len() - self.durable;
        match &mut self.stored {
            Some(stored) => stored.crash(&self.records, how, dice),
            None => {
                // A log ends at its first hole, so any subset is a prefix to it.
                let kept = match how {
                    Crash::Lose => 0,
                    Crash::Keep => open,
                    Crash::Prefix | Crash::Subset => dice.index(open + 1),
                };
                self.records.truncate(self.durable + kept);
                self.take(self.records.len());
            }
        }
    }

    /// The member ends in good order.
    pub(super) fn close(&mut self) {
        self.fails = false;
        self.shelf.close();
        self.stored
            .iter_mut()
            .for_each(|stored| stored.close(&self.records));
        self.take(self.records.len());
    }

    /// Its tables were not whole when power was lost.
    pub(super) fn lose_tables(&mut self) {
        self.tables = None;
    }

    /// The disk is an older copy of itself: of its records the first `kept` are left.
    pub(super) fn roll_back(&mut self, kept: usize) {
        let mut records = std::mem::take(&mut self.records);
        records.truncate(kept);
        let stored = self.stored.take().map(|stored| stored.again(&records));
        let shelf = std::mem::take(&mut self.shelf).rolled_back(kept);
        *self = Self {
            records,
            stored,
            shelf,
            retention: self.retention,
            ..Self::default()
        };
        self.take(kept);
    }

    /// A bit of something durable flips, where there is something.
    pub(super) fn flip(&mut self, dice: &mut Dice) {
        if self.durable > 0 {
            self.flipped = Some(dice.index(self.durable));
            self.stored.iter_mut().for_each(|stored| stored.flip(dice));
        }
    }

    /// Reads everything again at a start, as far as it survived.
    ///
    /// Errors: [`Unreadable`]; the member must not start.
    pub(super) fn open(&mut self) -> Result<(), Unreadable> {
        let flipped = self.flipped.take();
        let Some(stored) = &mut self.stored else {
            let damage = |index| Unreadable::Damaged(format!("record {index}: checksum"));
            return flipped.map_or(Ok(()), |index| Err(damage(index)));
        };
        let read = match stored.open() {
            Ok(read) => read,
            Err(error) if flipped.is_some() => return Err(Unreadable::Damaged(error.to_string())),
            Err(error) => return Err(Unreadable::Deceived(error.to_string())),
        };
        let durable = self.durable;
        if read.get(..durable) != Some(&self.records[..durable]) {
            let what = format!("{} records instead of {durable} or more", read.len());
            return Err(Unreadable::Deceived(what));
        }
        self.records = read;
        self.take(self.records.len());
        Ok(())
    }

    /// What a member starts from, and its application at the same height.
    pub(super) fn recover(&mut self, root: &Root<'_>, mut app: Box<dyn Application>) -> Recovered {
        let base = self.shelf.base();
        let tables = self
            .tables
            .take()
            .filter(|tables| tables.ledger.height() >= base);
        let tables = tables.unwrap_or_else(|| match self.shelf.at(base) {
            Some(snapshot) => Tables::of(root, snapshot),
            None => Tables::new(root),
        });
        tables.load(&mut *app);
        let Tables {
            mut ledger,
            mut open,
            folded,
            ..
        } = tables;
        let from = ledger.height();
        let mut applied = Vec::new();
        let mut restoring = Restoring::default();
        // What opened views below the snapshot; above it the records say it.
        let steps = self.shelf.steps();
        let below = steps.filter(|step| step.header.height <= base);
        below.for_each(|step| restoring.take(&Record::Certificate(step.certificate.clone())));
        for (index, record) in self.records.iter().enumerate() {
            restoring.take(record);
            match record {
                Record::Batch(bytes) if index >= folded => open.push(root.batch(bytes)),
                Record::Block(block) if index >= folded && block.header.height <= base => {
                    let named: Vec<Digest> = block.body.batches().map(BatchRef::digest).collect();
                    open.retain(|held| !named.contains(&held.digest));
                }
                Record::Block(block) if index >= folded => {
                    applied.push(self.replay(root, block, &open, (&mut ledger, &mut *app)));
                    let named: Vec<Digest> = block.body.batches().map(BatchRef::digest).collect();
                    open.retain(|held| !named.contains(&held.digest));
                }
                Record::Batch(_) | Record::Block(_) | Record::Certificate(_) => {}
                Record::Voter(..) | Record::Payload(..) | Record::Decision(_) => {}
                Record::Engine(..) | Record::Fault(_) => {}
            }
        }
        self.tables = Some(Tables {
            ledger: ledger.clone(),
            rows: app.entries().collect(),
            folded: self.records.len(),
            open: open.clone(),
        });
        let recent = self.recent(restoring.certified(), ledger.parameters());
        let restored = restoring.finish(Beside {
            ledger,
            recent,
            batches: open,
            founders: root.view,
            block: &|height| self.block(height),
            secret: &|view| root.secret(view),
        });
        let restored = restored.expect("the blocks of views were applied");
        Recovered {
            restored,
            app,
            from,
            applied,
        }
    }

    /// Applies a stored block again.
    fn replay(
        &self,
        root: &Root<'_>,
        block: &Block,
        open: &[Verified<CheckedBatch>],
        (ledger, app): (&mut Ledger, &mut dyn Application),
    ) -> Applied {
        let mut groups: Vec<Group> = Vec::new();
        for batch in block.body.batches() {
            match batch {
                BatchRef::Inline(bytes) => groups.extend(root.batch(bytes).into_inner().groups),
                BatchRef::Named(digest) => {
                    let held = open.iter().find(|batch| batch.digest == *digest).cloned();
                    let stored = || Some(root.batch(&self.batch(digest)?));
                    let batch = held.or_else(stored);
                    let batch = batch.expect("a batch is durable before the block that names it");
                    groups.extend(batch.into_inner().groups);
                }
            }
        }
        let execute = ledger.begin(Decided::replay(block.clone(), groups));
        let applied = ledger.finish(run(app, &execute));
        let applied = applied.expect("an application gives one outcome per operation");
        let name = root.me;
        assert_eq!(
            applied.block, *block,
            "member {name} replays its own blocks"
        );
        applied
    }

    /// Blocks from `certified` on: header digest and whether it is sealed.
    fn recent(&self, certified: Height, parameters: &Parameters) -> Vec<(Height, Digest, bool)> {
        let blocks = self.blocks.range(certified..);
        let blocks = blocks.filter_map(|(_, index)| match &self.records[*index] {
            Record::Block(block) => Some(restoring::recent(block, parameters)),
            Record::Voter(..) | Record::Payload(..) | Record::Decision(_) => None,
            Record::Batch(_) | Record::Certificate(_) => None,
            Record::Engine(..) | Record::Fault(_) => None,
        });
        blocks.collect()
    }
}

impl Disk {
    /// Snapshots and the view chain.
    pub(super) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    pub(super) fn shelf_mut(&mut self) -> &mut Shelf {
        &mut self.shelf
    }

    /// The block at `height`, whether or not it counts as pruned.
    fn held(&self, height: Height) -> Option<Block> {
        let Record::Block(block) = &self.records[*self.blocks.get(&height)?] else {
            return None;
        };
        Some(block.clone())
    }

    /// In which file of the log the block at `height` stands, were they of `file_bytes`.
    fn file_of(&self, height: Height, file_bytes: u64) -> Option<u64> {
        let offset = self.offsets.get(*self.blocks.get(&height)?)?;
        Some(offset / file_bytes)
    }
}

impl Archive for Disk {
    fn block(&self, height: Height) -> Option<Block> {
        let is_pruned = height <= self.shelf.floor();
        let held = self.held(height).filter(|_| !is_pruned);
        held.or_else(|| self.shelf.block(height))
    }

    fn certificate_at_or_after(&self, height: Height) -> Option<Certificate> {
        if let Some(certificate) = self.shelf.certificate(height) {
            return Some(certificate);
        }
        let (_, index) = self.certificates.range(height..).next()?;
        let Record::Certificate(certificate) = &self.records[*index] else {
            return None;
        };
        Some(certificate.clone())
    }

    fn first(&self) -> Height {
        self.shelf.floor().next()
    }

    fn shorter(&self, from: Height) -> Option<Height> {
        let file_bytes = self.retention?.file_bytes();
        let taken = self.shelf.newest_certified()?;
        let file = |height| Ok::<_, Infallible>(self.file_of(height, file_bytes));
        let shorter = serve::shorter(from, &taken, file_bytes, file);
        shorter.unwrap_or_else(|never| match never {})
    }

    fn batch(&self, digest: &Digest) -> Option<Bytes> {
        let Record::Batch(bytes) = &self.records[*self.batches.get(digest)?] else {
            return None;
        };
        Some(bytes.clone())
    }
}

/// What a log gave back.
pub(super) struct Recovered {
    pub(super) restored: Restored,
    pub(super) app: Box<dyn Application>,
    /// Where the tables stood.
    pub(super) from: Height,
    /// Every block of the log above that, applied again.
    pub(super) applied: Vec<Applied>,
}

/// What a log is read against.
pub(super) struct Root<'a> {
    pub(super) genesis: &'a Genesis,
    pub(super) view: &'a View,
    pub(super) me: MemberId,
    /// The consensus keys that are not erased.
    pub(super) keys: &'a Keyring,
    /// The signature scheme of the world.
    pub(super) verifier: Verifier,
}

impl Root<'_> {
    /// Our key in `view`, where we have a seat and still have it.
    fn secret(&self, view: &View) -> Option<SecretKey> {
        self.keys.secret(view, &self.me).cloned()
    }

    fn batch(&self, bytes: &Bytes) -> Verified<CheckedBatch> {
        let bounds = self.genesis.parameters.bounds();
        let decoded = CheckedBatch::decode(bytes.clone(), self.view.chain(), &bounds);
        let (batch, _) = decoded.expect("a batch in the log was checked before it was saved");
        Verified::vouch(batch)
    }
}

/// Runs a block on an application.
pub(super) fn run(app: &mut dyn Application, block: &Execute) -> Execution {
    let operations: Vec<&[u8]> = block.operations.iter().map(|bytes| &bytes[..]).collect();
    let executed = app.execute(&crate::application::Block {
        height: block.height.0,
        timestamp_us: block.timestamp_us,
        operations: &operations,
        sealed: block.is_sealed,
    });
    let outcomes = executed.results.into_iter().map(|one| Outcome {
        code: one.code,
        bytes: one.bytes,
    });
    Execution {
        height: block.height,
        outcomes: outcomes.collect(),
        state: executed.state_root,
    }
}
