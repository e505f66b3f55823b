//! What a newcomer has for other newcomers, while it gathers itself.
//!
//! Source: design, 'checkpoints and bootstrap'. In: the shelf, the snapshot under way. Out: what is
//! there of it.
//! Holds: nothing is offered that was not checked on arrival.
//! Elsewhere: how it becomes answers (`bootstrap::shelf`), what a running member has (`library`).

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::library::page_of;
use super::shelf::{Held as Snapshot, Shelf};
use crate::blocks::{Genesis, Header, Step};
use crate::bootstrap::shelf as answers;
use crate::checkpoint::{Assembler, Holding, Page};
use crate::committee::{Height, ViewId};
use crate::crypto::Digest;

/// What a newcomer has for others.
pub(super) struct Partial<'a> {
    pub(super) shelf: &'a Shelf,
    pub(super) gathering: Option<&'a Assembler>,
    pub(super) genesis: &'a Genesis,
}

impl Partial<'_> {
    fn at(&self, view: ViewId) -> Option<Step> {
        let steps = self.shelf.steps();
        let (height, _) = steps.into_iter().find(|(_, made)| *made == view)?;
        self.shelf.step(height).ok().flatten()
    }

    fn whole(&self, manifest: &Digest) -> Option<Arc<Snapshot>> {
        let mut held = self.shelf.held().into_iter();
        held.find(|held| held.taken.manifest == *manifest)
    }

    fn under_way(&self, manifest: &Digest) -> Option<&Assembler> {
        self.gathering
            .filter(|assembler| assembler.taken().manifest == *manifest)
    }
}

impl answers::Shelf for Partial<'_> {
    fn newest(&self) -> ViewId {
        let steps: BTreeSet<ViewId> = self.shelf.steps().iter().map(|(_, view)| *view).collect();
        steps.last().copied().unwrap_or_default()
    }

    fn opened(&self, view: ViewId) -> Option<Digest> {
        match view {
            ViewId(0) => Some(self.genesis.header().digest()),
            view => self.at(view).map(|step| step.header.digest()),
        }
    }

    fn step(&self, view: ViewId) -> Option<Bytes> {
        self.at(view).map(|step| step.to_bytes().into())
    }

    fn header(&self, _: Height) -> Option<Header> {
        None
    }

    fn checkpoint(&self, height: Height) -> Option<(Header, crate::blocks::body::Checkpoint)> {
        let proofs = self
            .shelf
            .held()
            .into_iter()
            .filter_map(|held| held.proof.clone());
        let mut blocks =
            proofs.filter_map(|proof| Some((proof.headers.first()?.clone(), proof.body)));
        blocks.find(|(header, _)| header.height == height)
    }

    fn holding(&self, manifest: &Digest) -> Holding {
        match (self.whole(manifest), self.under_way(manifest)) {
            (Some(_), _) => Holding::All,
            (None, Some(assembler)) => assembler.holding(),
            (None, None) => Holding::Nothing,
        }
    }

    fn page(&self, manifest: &Digest, page: u32) -> Option<Page> {
        if let Some(held) = self.whole(manifest) {
            return page_of(&held.manifest, page);
        }
        page_of(self.under_way(manifest)?.manifest()?, page)
    }

    fn segment(&self, manifest: &Digest, index: u32) -> Option<Bytes> {
        let whole = self.whole(manifest);
        let leaves = match (&whole, self.under_way(manifest)) {
            (Some(held), _) => held.manifest.leaves(),
            (None, Some(assembler)) => assembler.manifest()?.leaves(),
            (None, None) => return None,
        };
        self.shelf.segment(leaves.get(index as usize)?).ok()
    }
}
