//! What a simulated member keeps beside its log: snapshots, and the view chain.
//!
//! Source: `node::shelf`, of which it is the twin. In: states to cut, steps, what was fetched. Out:
//! the same, to serve and to start from.
//! Holds: what `node` seals counts as durable once it is written; fetched segments do so behind a
//! sync; a block at or below its floor counts as pruned, though the log has it still.
//! Elsewhere: when (`quest`), segments and what a power loss leaves of them (`packed`), the log
//! (`disk`).

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use super::dice::Dice;
use super::disk::Root;
use super::packed::Packed;
use crate::application::{Application, Registry};
use crate::blocks::body::Checkpoint;
use crate::blocks::{Body, Header, Step};
use crate::bootstrap::{Held, Target};
use crate::checkpoint::{Holding, Leaf, Manifest, Page, Section};
use crate::committee::{Certificate, Height, Taken, ViewId};
use crate::consortium::ledger::Base;
use crate::consortium::snapshot::{CutError, Reader, Whole};
use crate::consortium::{Block, Ledger};
use crate::crypto::Digest;
use crate::storage::simulated::Crash;

/// Snapshots that are kept beside the base.
const SNAPSHOTS_MAX: usize = 3;

/// A whole snapshot.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) taken: Taken,
    manifest: Manifest,
    segments: Vec<Bytes>,
    /// Its checkpoint block, once it is one.
    block: Option<(Header, Checkpoint)>,
}

impl Snapshot {
    /// Cuts the state of a ledger and its application.
    pub(super) fn cut(base: Base, ledger: &Ledger, app: &dyn Application) -> Self {
        let bytes = ledger.parameters().checkpoints.segment_bytes as usize;
        let pieces = app.snapshot(bytes);
        let memory: BTreeMap<u64, _> = ledger
            .entries()
            .map(|(name, executed)| (executed.sequence, (name, executed.clone())))
            .collect();
        let whole = Whole {
            base,
            memory: memory.into_values(),
            pieces: pieces.chunks,
            application: pieces.digest,
        };
        let mut segments = Vec::new();
        let cut = whole.cut(bytes, |_: &Leaf, segment| {
            segments.push(segment);
            Ok::<(), CutError<io::Error>>(())
        });
        let (manifest, taken) = cut.expect("a small state is within all bounds");
        Self {
            taken,
            manifest,
            segments,
            block: None,
        }
    }

    /// Its checkpoint block, once it is one.
    pub(super) fn block(&self) -> Option<&(Header, Checkpoint)> {
        self.block.as_ref()
    }

    /// Its segment of this number, and a page of its manifest.
    pub(super) fn segment(&self, index: u32) -> Option<&Bytes> {
        self.segments.get(index as usize)
    }

    pub(super) fn page(&self, page: u32) -> Option<Page> {
        self.manifest.page(page)
    }

    /// Its segment of this digest.
    fn find(&self, digest: &Digest) -> Option<&Bytes> {
        let mut leaves = self.manifest.leaves().iter();
        let place = leaves.position(|leaf| leaf.digest == *digest)?;
        self.segments.get(place)
    }

    /// The ledger and the application that it makes.
    pub(super) fn restore(&self, root: &Root<'_>) -> (Ledger, Box<dyn Application>) {
        let registry = Registry::standard().expect("our own applications have distinct names");
        let plugin = registry.get(&root.genesis.parameters.application);
        let mut app = (plugin.expect("it is registered").make)();
        let mut reader = Reader::default();
        let mut pieces = Vec::new();
        for (leaf, segment) in self.manifest.leaves().iter().zip(&self.segments) {
            match leaf.section {
                Section::Application => pieces.push(Ok(segment.clone())),
                Section::Ledger | Section::Memory => {
                    let took = reader.take(leaf.section, segment);
                    took.expect("it is the certified segment");
                }
            }
        }
        let content = reader.finish(&root.genesis.chain());
        let content = content.expect("they are the certified segments");
        let restored = app.restore(&mut pieces.into_iter());
        restored.expect("they are the certified pieces");
        let checked = content.check(&self.taken, &app.state_digest());
        checked.expect("the state is the certified one");
        let tip = content.parts.tip.clone();
        if let Some(root) = tip.state {
            app.retain(tip.height.0, &root);
        }
        let register = Some(content.register);
        let ledger = Ledger::restore(root.genesis, content.parts, register, content.memory);
        (ledger.expect("it was one when it was cut"), app)
    }
}

/// Snapshots and the view chain of one member.
#[derive(Default)]
pub(super) struct Shelf {
    snapshots: BTreeMap<Height, Snapshot>,
    /// A start begins here; there is a snapshot here, or it is 0.
    base: Height,
    /// Blocks up to here are not served any more: the base, or below it.
    floor: Height,
    /// Checkpoints whose blocks are kept, the oldest first.
    kept: Vec<Height>,
    /// The fresh block that the chain must come to, after a bootstrap.
    awaited: Option<Height>,
    /// Snapshots that were fetched, and how many records the log had then.
    origins: Vec<(usize, Snapshot)>,
    /// By view.
    steps: BTreeMap<ViewId, Step>,
    /// While a checkpoint is to be fetched: where the own ledger stands.
    wanted: Option<Height>,
    target: Option<Box<Target>>,
    pages: Vec<Page>,
    /// Segments that were fetched.
    packed: Packed,
}

impl Shelf {
    pub(super) fn base(&self) -> Height {
        self.base
    }

    pub(super) fn floor(&self) -> Height {
        self.floor
    }

    /// The fresh block that the chain must still come to, after a bootstrap.
    pub(super) fn awaited(&self) -> Option<Height> {
        self.awaited
    }

    /// A newcomer goes on, with a chain that must come to this height.
    pub(super) fn await_block(&mut self, height: Height) {
        self.awaited = Some(height);
    }

    /// The chain has come to `height`.
    pub(super) fn came_to(&mut self, height: Height) {
        self.awaited.take_if(|awaited| *awaited <= height);
    }

    pub(super) fn at(&self, height: Height) -> Option<&Snapshot> {
        self.snapshots.get(&height)
    }

    pub(super) fn newest_taken(&self) -> Option<Taken> {
        let (_, snapshot) = self.snapshots.last_key_value()?;
        Some(snapshot.taken)
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.values()
    }

    /// A block is certified: it may be a step.
    pub(super) fn step_of(&mut self, block: &Block, certificate: &Certificate) {
        if let Body::Reconfiguration(body) = &block.body {
            let step = Step {
                header: block.header.clone(),
                body: body.clone(),
                certificate: certificate.clone(),
            };
            self.steps.entry(body.next).or_insert(step);
        }
    }

    /// The block of a step.
    pub(super) fn block(&self, height: Height) -> Option<Block> {
        let step = self
            .steps
            .values()
            .find(|step| step.header.height == height)?;
        Some(Block {
            header: step.header.clone(),
            body: Body::Reconfiguration(step.body.clone()),
        })
    }

    /// The certificate of the step at this very height.
    pub(super) fn certificate(&self, height: Height) -> Option<Certificate> {
        let step = self
            .steps
            .values()
            .find(|step| step.header.height == height)?;
        Some(step.certificate.clone())
    }

    pub(super) fn put(&mut self, snapshot: Snapshot) {
        self.snapshots.insert(snapshot.taken.height, snapshot);
        let base = self.base;
        while self.snapshots.len() > SNAPSHOTS_MAX {
            let oldest = self.snapshots.keys().find(|height| **height != base);
            let Some(oldest) = oldest.copied() else { break };
            self.snapshots.remove(&oldest);
        }
    }

    /// The snapshot of `body` became a checkpoint with this header; whether it is here.
    pub(super) fn certify(&mut self, header: &Header, body: &Checkpoint) -> bool {
        let held = self.snapshots.get_mut(&body.height);
        let Some(held) = held.filter(|held| held.taken == body.taken()) else {
            return false;
        };
        held.block = Some((header.clone(), body.clone()));
        true
    }

    /// Blocks up to the snapshot at `height` are superfluous, but for those above the oldest of
    /// the newest `kept` checkpoints; none where all blocks are kept.
    pub(super) fn prune(&mut self, height: Height, kept: Option<usize>) {
        if height > self.base && self.snapshots.contains_key(&height) {
            self.base = height;
            self.snapshots.retain(|held, _| *held >= height);
            if let Some(kept) = kept {
                self.kept.push(height);
                self.kept.drain(..self.kept.len().saturating_sub(kept));
                self.floor = self.kept.first().map_or(height, |oldest| *oldest);
            }
        }
        assert!(self.floor <= self.base, "a start has the blocks above it");
    }

    /// The newest snapshot that became a checkpoint.
    pub(super) fn newest_certified(&self) -> Option<Taken> {
        let mut held = self.snapshots.values().rev();
        Some(held.find(|held| held.block.is_some())?.taken)
    }

    /// The disk is an older copy of itself with `kept` records: what was fetched later is gone.
    pub(super) fn rolled_back(self, kept: usize) -> Self {
        let mut older = Self::default();
        let origins = self.origins.into_iter();
        older.origins = origins.filter(|(records, _)| *records < kept).collect();
        if let Some((_, snapshot)) = older.origins.last().cloned() {
            older.steps = self.steps;
            older
                .steps
                .retain(|_, step| step.header.height <= snapshot.taken.height);
            older.base = snapshot.taken.height;
            older.floor = older.base;
            older.kept = vec![older.base];
            older.put(snapshot);
        }
        older
    }

    pub(super) fn wanted(&self) -> Option<Height> {
        self.wanted
    }

    pub(super) fn want(&mut self, local: Option<Height>) {
        self.wanted = local;
    }

    /// What a newcomer goes on from.
    pub(super) fn to_go_on(&self) -> Held {
        let own = self.snapshots.values();
        let own = own.flat_map(|held| held.manifest.leaves().iter().map(|leaf| leaf.digest));
        Held {
            steps: self.steps.values().cloned().collect(),
            target: self.target.clone(),
            pages: self.pages.clone(),
            segments: own.chain(self.packed.digests()).collect(),
        }
    }

    /// A newcomer begins: it reads the segments of an earlier try.
    ///
    /// Errors: what was durable and is not there.
    pub(super) fn open(&mut self) -> Result<(), String> {
        self.packed.open()
    }

    /// Power is lost.
    pub(super) fn crash(&mut self, how: Crash, dice: &mut Dice) {
        self.packed.crash(how, dice);
    }

    /// The process ends in good order.
    pub(super) fn close(&mut self) {
        self.packed.close();
    }

    pub(super) fn add_step(&mut self, step: Step) {
        self.steps.insert(step.body.next, step);
    }

    pub(super) fn aim(&mut self, target: Box<Target>) {
        self.target = Some(target);
        self.pages.clear();
    }

    pub(super) fn add_page(&mut self, page: Page) {
        self.pages.push(page);
    }

    /// Whether the segment is new.
    pub(super) fn add_segment(&mut self, digest: &Digest, bytes: &[u8]) -> bool {
        self.packed.add(digest, bytes)
    }

    /// A segment that was fetched, or that a snapshot has.
    pub(super) fn find(&self, digest: &Digest) -> Option<Bytes> {
        let mut held = self.snapshots.values();
        let own = held.find_map(|held| held.find(digest).cloned());
        own.or_else(|| self.packed.read(digest))
    }

    /// Everything of the snapshot is here and is made durable: which segment would not survive a
    /// power loss all the same.
    pub(super) fn sync(&mut self, manifest: &Manifest) -> Option<Digest> {
        self.packed.sync();
        let own = |digest: &Digest| {
            let mut held = self.snapshots.values();
            held.any(|held| held.find(digest).is_some())
        };
        let leaves = manifest.leaves().iter().map(|leaf| leaf.digest);
        self.packed.at_risk(leaves.filter(|digest| !own(digest)))
    }

    /// Everything of the snapshot is durable, and the log has `records`: it is the base from now
    /// on.
    pub(super) fn assemble(&mut self, target: &Target, manifest: &Manifest, records: usize) {
        let segments = manifest.leaves().iter().map(|leaf| {
            let segment = self.find(&leaf.digest);
            segment.expect("every segment was told of or held")
        });
        let snapshot = Snapshot {
            taken: target.taken(),
            manifest: manifest.clone(),
            segments: segments.collect(),
            block: Some((target.checkpoint.clone(), target.body.clone())),
        };
        self.packed = Packed::default();
        self.base = snapshot.taken.height;
        // Of the blocks below it some were never here.
        self.floor = self.base;
        self.kept = vec![self.base];
        self.snapshots.clear();
        self.origins.push((records, snapshot.clone()));
        self.put(snapshot);
        self.target = None;
        self.pages.clear();
    }

    /// A certified snapshot beside the one with this manifest: the oldest.
    pub(super) fn other(&self, manifest: &Digest) -> Option<&Snapshot> {
        let mut held = self.snapshots.values();
        held.find(|held| held.block.is_some() && held.taken.manifest != *manifest)
    }

    fn of(&self, manifest: &Digest) -> Option<&Snapshot> {
        let mut held = self.snapshots.values();
        held.find(|held| held.block.is_some() && held.taken.manifest == *manifest)
    }

    /// The height of the snapshot with this manifest, where it is here.
    pub(super) fn height_of(&self, manifest: &Digest) -> Option<Height> {
        Some(self.of(manifest)?.taken.height)
    }

    pub(super) fn newest_view(&self) -> ViewId {
        self.steps
            .last_key_value()
            .map_or(ViewId(0), |(view, _)| *view)
    }

    pub(super) fn step(&self, view: ViewId) -> Option<&Step> {
        self.steps.get(&view)
    }

    pub(super) fn checkpoint(&self, height: Height) -> Option<(Header, Checkpoint)> {
        let blocks = self
            .snapshots
            .values()
            .filter_map(|held| held.block.as_ref());
        let mut blocks = blocks.filter(|(header, _)| header.height == height);
        blocks.next().cloned()
    }

    pub(super) fn holding(&self, manifest: &Digest) -> Holding {
        match self.of(manifest) {
            Some(_) => Holding::All,
            None => Holding::Nothing,
        }
    }

    pub(super) fn page(&self, manifest: &Digest, page: u32) -> Option<Page> {
        self.of(manifest)?.manifest.page(page)
    }

    pub(super) fn segment(&self, manifest: &Digest, index: u32) -> Option<Bytes> {
        self.of(manifest)?.segments.get(index as usize).cloned()
    }
}
