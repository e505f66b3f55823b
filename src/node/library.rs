//! Answers newcomers and members that lag from what the disk has.
//!
//! Source: `ARCHITECTURE.md`; `bootstrap::shelf`. In: asks of members. Out: messages, leases.
//! Holds: nobody pulls more than its share, nor newcomers together more than the settings allow:
//! who did waits a while, and loses nothing that it asked for; whoever lags in the chain waits for
//! no newcomer; what a newcomer is fetching stays for a while.
//! Elsewhere: what is answered (`consortium::serve`, `bootstrap::shelf`), pruning (`curator`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::clock::Clock;
use super::config::Resources;
use super::desk::Line;
use super::index::Index;
use super::outlets::send;
use super::shelf::Held;
use super::views::{self, Opened};
use super::watch::Watch;
use crate::blocks::body::Checkpoint;
use crate::blocks::{Body, Genesis, Header};
use crate::bootstrap::{Ask, Leases, Message, Quota, QuotaOptions, shelf};
use crate::checkpoint::{Holding, Manifest, Page};
use crate::committee::{Height, MemberId, ViewId};
use crate::consortium::{Message as Frame, Standing, Wanted, serve};
use crate::crypto::Digest;
use crate::machine::Time;
use crate::net::Net;

/// Leases that the librarian gives and the curator heeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lent(Arc<Mutex<Leases>>);

impl Lent {
    /// The lowest snapshot that somebody fetches.
    pub(crate) fn floor(&self, now: Time) -> Option<Height> {
        self.with(|leases| leases.floor(now))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Leases) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a member wants of our disk.
#[derive(Debug)]
pub(crate) enum Serving {
    /// See [`Wanted`].
    Wanted(Wanted),
    /// Our vote on where the chain stands, to be sent with the header that it names.
    Anchor(Box<Standing>),
}

impl Serving {
    /// Who answers it.
    pub(crate) fn desk(&self) -> Desk {
        match self {
            Self::Wanted(Wanted::Blocks(_) | Wanted::End(..) | Wanted::Batches(_)) => Desk::Members,
            Self::Wanted(Wanted::Bootstrap(_)) | Self::Anchor(_) => Desk::Newcomers,
        }
    }

    /// Whether a newcomer begins anew with it: whatever it asked before went with its process.
    pub(crate) fn begins_anew(&self) -> bool {
        matches!(self, Self::Wanted(Wanted::Bootstrap(Ask::Steps(..))))
    }

    /// How many things have to be looked up.
    fn things(&self) -> usize {
        match self {
            Self::Wanted(Wanted::Batches(digests)) => digests.len(),
            Self::Wanted(Wanted::Bootstrap(ask)) => ask.things(),
            Self::Wanted(Wanted::Blocks(_) | Wanted::End(..)) | Self::Anchor(_) => 1,
        }
    }
}

/// What `resources` allow newcomers to pull together.
pub(crate) fn quota(resources: &Resources) -> QuotaOptions {
    QuotaOptions {
        total_bytes_per_second: u64::from(resources.serve_mib_per_second) << 20,
        ..QuotaOptions::default()
    }
}

/// A thread that answers, with a queue of its own: what consensus lacks does not stand behind what
/// newcomers fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Desk {
    /// For members that lack blocks or batches.
    Members,
    /// For newcomers; it gets what the processor has left.
    Newcomers,
}

/// The librarian.
pub(crate) struct Library {
    pub(crate) index: Arc<Index>,
    pub(crate) net: Arc<Net>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) genesis: Genesis,
    pub(crate) lent: Lent,
    pub(crate) clock: Clock,
    /// What everybody may pull together at this desk.
    pub(crate) quota: QuotaOptions,
}

impl Library {
    /// Answers until nobody asks any more.
    pub(crate) fn run(self, mut line: Line) {
        let mut quota = Quota::new(self.quota);
        while let Some((member, serving)) = line.next(|member| {
            let admitted = quota.admit(self.clock.now(), member);
            admitted.map_err(|wait| Duration::from_micros(wait.0))
        }) {
            let now = self.clock.now();
            let things = serving.things();
            let messages = match serving {
                Serving::Wanted(Wanted::Bootstrap(ask)) => self.teach(now, member, &ask),
                Serving::Wanted(wanted) => serve::answer(&*self.index, &wanted),
                Serving::Anchor(standing) => self.vouch(*standing),
            };
            let frames = messages.iter().map(|message| self.send(member, message));
            quota.spend(&member, things, frames.sum());
        }
    }

    /// Answers a newcomer, and keeps what it fetches for it.
    fn teach(&self, now: Time, member: MemberId, ask: &Ask) -> Vec<Frame> {
        if let Ask::Holding(manifest) = ask
            && let Some(held) = self.held(manifest)
        {
            self.lent
                .with(|leases| leases.hold(now, member, held.taken.height));
        }
        let answers = shelf::answer(self, ask).into_iter();
        answers.map(framed).collect()
    }

    fn vouch(&self, standing: Standing) -> Vec<Frame> {
        let Standing { vote, certificate } = standing;
        let anchor = shelf::anchor(self, vote, certificate);
        anchor.into_iter().map(framed).collect()
    }

    fn send(&self, member: MemberId, message: &Frame) -> usize {
        let frame = message.to_bytes();
        let bytes = frame.len();
        send(&self.net, &[member], message, frame);
        bytes
    }

    fn held(&self, manifest: &Digest) -> Option<Arc<Held>> {
        let mut held = self.index.shelf().held().into_iter();
        held.find(|held| held.taken.manifest == *manifest)
    }

    /// The newest view that a certificate leads to.
    fn last(&self) -> Opened {
        let first = Opened {
            view: ViewId(0),
            at: Height(0),
        };
        let certified = self.watch.newest_certified();
        let opened = certified.and_then(|held| Opened::newest(&self.index, &held).ok());
        opened.unwrap_or(first)
    }
}

fn framed(message: Message) -> Frame {
    Frame::Bootstrap(Box::new(message))
}

/// A page of a manifest.
pub(super) fn page_of(manifest: &Manifest, page: u32) -> Option<Page> {
    manifest.page(page)
}

impl shelf::Shelf for Library {
    fn newest(&self) -> ViewId {
        self.last().view
    }

    fn opened(&self, view: ViewId) -> Option<Digest> {
        if view == ViewId(0) {
            return Some(self.genesis.header().digest());
        }
        let steps = views::steps(&self.index, view, self.last(), (1, usize::MAX)).ok()?;
        Some(steps.first()?.header.digest())
    }

    fn step(&self, view: ViewId) -> Option<Bytes> {
        let steps = views::steps(&self.index, view, self.last(), (1, usize::MAX)).ok()?;
        Some(steps.first()?.to_bytes().into())
    }

    fn header(&self, height: Height) -> Option<Header> {
        if height == Height(0) {
            return Some(self.genesis.header());
        }
        Some(self.index.block_at(height).ok()??.header)
    }

    fn checkpoint(&self, height: Height) -> Option<(Header, Checkpoint)> {
        if let Ok(Some(block)) = self.index.block_at(height)
            && let Body::Checkpoint(body) = block.body
        {
            return Some((block.header, body));
        }
        let held = self.index.shelf().held().into_iter();
        let proofs = held.filter_map(|held| held.proof.clone());
        let mut blocks =
            proofs.filter_map(|proof| Some((proof.headers.first()?.clone(), proof.body)));
        blocks.find(|(header, _)| header.height == height)
    }

    fn holding(&self, manifest: &Digest) -> Holding {
        match self.held(manifest) {
            Some(_) => Holding::All,
            None => Holding::Nothing,
        }
    }

    fn page(&self, manifest: &Digest, page: u32) -> Option<Page> {
        page_of(&self.held(manifest)?.manifest, page)
    }

    fn segment(&self, manifest: &Digest, index: u32) -> Option<Bytes> {
        let held = self.held(manifest)?;
        let leaf = held.manifest.leaves().get(index as usize)?;
        self.index.shelf().segment(leaf).ok()
    }
}
