//! A small ledger: a view chain, a checkpoint with its snapshot, and a block above.

use bytes::Bytes;

use crate::blocks::body::Checkpoint;
use crate::blocks::tests::fixtures::full_genesis;
use crate::blocks::tests::view_chain::Builder;
use crate::blocks::{Body, Genesis, Header, Link, Step};
use crate::bootstrap::shelf::Shelf;
use crate::checkpoint::{Holding, Leaf, Manifest, Page, Section};
use crate::committee::{Certificate, Height, MemberId, Taken, ViewId, Voter};
use crate::crypto::{Digest, Domain};

/// A snapshot with its block.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) block: (Header, Checkpoint),
    pub(super) manifest: Manifest,
    pub(super) segments: Vec<Bytes>,
}

/// What a member may keep.
#[derive(Clone)]
pub(super) struct Ledger {
    pub(super) genesis: Genesis,
    pub(super) builder: Builder,
    /// The newest certified block.
    pub(super) newest: (Header, Option<Certificate>),
    /// The newest last.
    pub(super) snapshots: Vec<Snapshot>,
    above: u64,
}

/// Bytes that follow from a number alone.
pub(super) fn filler(number: u64, bytes: usize) -> Bytes {
    let mut filled = Vec::with_capacity(bytes + 32);
    let mut digest = Digest::of(Domain::Audit, &number.to_le_bytes());
    while filled.len() < bytes {
        filled.extend_from_slice(digest.as_bytes());
        digest = Digest::of(Domain::Audit, digest.as_bytes());
    }
    filled.truncate(bytes);
    filled.into()
}

impl Ledger {
    /// One that has seen so many views behind view 0, and no other block.
    pub(super) fn new(views: u64) -> Self {
        let genesis = full_genesis();
        let mut ledger = Self {
            builder: Builder::new(&genesis),
            newest: (genesis.header(), None),
            snapshots: Vec::new(),
            above: 0,
            genesis,
        };
        (0..views).for_each(|_| ledger.rotate());
        ledger
    }

    /// One with a snapshot of so many segments.
    pub(super) fn with_snapshot(views: u64, segments: u32, bytes: usize) -> Self {
        let mut ledger = Self::new(views);
        ledger.snapshot((0..segments).map(|n| filler(n.into(), bytes)).collect());
        ledger
    }

    fn last_checkpoint(&self) -> Link {
        let last = self.snapshots.last().map(|snapshot| &snapshot.block.0);
        let last = last.cloned().unwrap_or_else(|| self.genesis.header());
        Link {
            height: last.height,
            digest: last.digest(),
        }
    }

    /// A checkpoint block over these segments, and blocks above.
    pub(super) fn snapshot(&mut self, segments: Vec<Bytes>) {
        let section = |index: usize| match index {
            0 => Section::Ledger,
            1 | 2 => Section::Memory,
            _ => Section::Application,
        };
        let leaves = segments.iter().enumerate();
        let leaves = leaves.map(|(index, segment)| Leaf::of(section(index), segment));
        let manifest = Manifest::new(leaves.collect()).expect("within bounds");
        let view = &self.builder.view;
        let taken = Taken {
            height: view.opening().height.plus(self.above + 1),
            header: Digest::of(Domain::Audit, b"a header"),
            manifest: manifest.root(),
            state: Digest::of(Domain::Audit, b"a state"),
            bytes: manifest.bytes(),
            segments: manifest.segments(),
        };
        let voters = self.builder.keys.iter();
        let voters = voters.filter_map(|key| Voter::new(view, key.clone()));
        let votes: Vec<_> = voters.filter_map(|v| v.vouch_snapshot(taken)).collect();
        let body = Checkpoint::assemble(view, &votes).expect("a quorum");
        let root = Body::Checkpoint(body.clone()).root();
        let before = self.last_checkpoint();
        let (header, _) = self.builder.block(self.above + 3, root, before);
        self.snapshots.push(Snapshot {
            block: (header, body),
            manifest,
            segments,
        });
        self.above += 5;
        self.advance();
    }

    /// One more certified block.
    pub(super) fn advance(&mut self) {
        self.above += 1;
        let body = Digest::of(Domain::Audit, &self.above.to_le_bytes());
        let link = self.last_checkpoint();
        let (header, certificate) = self.builder.block(self.above, body, link);
        self.newest = (header, Some(certificate));
    }

    /// One more view, and nothing in it yet.
    pub(super) fn rotate(&mut self) {
        let link = self.last_checkpoint();
        let above = self.above + 10;
        self.builder.step_with(|header| {
            header.height = header.height.plus(above);
            header.checkpoint = link;
        });
        let step = self.builder.steps.last().expect("it was made now");
        self.newest = (step.header.clone(), Some(step.certificate.clone()));
        self.above = 0;
    }

    pub(super) fn member(&self, seat: usize) -> MemberId {
        MemberId::of(&self.genesis.founders[seat].identity)
    }

    fn of(&self, manifest: &Digest) -> Option<&Snapshot> {
        let mut all = self.snapshots.iter();
        all.find(|snapshot| snapshot.manifest.root() == *manifest)
    }

    fn step_of(&self, view: ViewId) -> Option<&Step> {
        let index = usize::try_from(view.0.checked_sub(1)?).ok()?;
        self.builder.steps.get(index)
    }
}

impl Shelf for Ledger {
    fn newest(&self) -> ViewId {
        self.builder.view.id()
    }

    fn opened(&self, view: ViewId) -> Option<Digest> {
        match view {
            ViewId(0) => Some(self.genesis.header().digest()),
            ViewId(_) => Some(self.step_of(view)?.header.digest()),
        }
    }

    fn step(&self, view: ViewId) -> Option<Bytes> {
        Some(self.step_of(view)?.to_bytes().into())
    }

    fn header(&self, height: Height) -> Option<Header> {
        let newest = &self.newest.0;
        (newest.height == height).then(|| newest.clone())
    }

    fn checkpoint(&self, height: Height) -> Option<(Header, Checkpoint)> {
        let mut all = self.snapshots.iter().map(|snapshot| &snapshot.block);
        all.find(|(header, _)| header.height == height).cloned()
    }

    fn holding(&self, manifest: &Digest) -> Holding {
        match self.of(manifest) {
            Some(_) => Holding::All,
            None => Holding::Nothing,
        }
    }

    fn page(&self, manifest: &Digest, page: u32) -> Option<Page> {
        self.of(manifest)?.manifest.page(page)
    }

    fn segment(&self, manifest: &Digest, index: u32) -> Option<Bytes> {
        self.of(manifest)?.segments.get(index as usize).cloned()
    }
}
