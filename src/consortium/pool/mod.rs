//! The pool: transactions on their way from admission to commit.
//!
//! Source: design of dissemination and admission. In: groups of clients, batches and
//! acknowledgements of members, what is proposed and committed. Out: batches to spread and to
//! propose.
//! Holds: what this member admitted leaves only when committed or when it can never execute any
//! more; a regency change loses nothing; every list has a bound.
//! Elsewhere: exactly-once execution (`ledger`), when to propose (`fsm`), durability and sending.
//!
//! | bound | when full |
//! |---|---|
//! | own groups: [`POOL_BYTES_MAX`], [`POOL_TRANSACTIONS_MAX`], [`CLIENT_SHARE`] | `Busy` |
//! | one origin: its share of [`ORIGINS_BYTES_MAX`], [`ORIGINS_TRANSACTIONS_MAX`] | refused |
//! | batches named by open proposals: window × `BLOCK_BATCHES_MAX` | the caller's window |
//! | acknowledgements ahead of their batch: [`EARLY_MAX`] per seat | oldest forgotten |
//! | committed digests: [`COMMITTED_MAX`] | oldest forgotten |

mod line;
mod own;
mod recent;
mod shelf;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::line::{Lines, Waiting};
use self::own::{Own, Weight};
use self::recent::Recent;
use self::shelf::{Entry, Shelf};
use super::{Denied, Ledger, PoolOverview};
pub use crate::blocks::INLINE_BYTES_MAX;
use crate::blocks::body::BLOCK_BATCHES_MAX;
use crate::blocks::{BatchRef, CheckedBatch, GROUP_TRANSACTIONS_MAX, Group, SignedGroup};
use crate::committee::{Height, MemberId, Seat, SeatSet, View};
use crate::crypto::{Digest, Verified};
use crate::machine::{Span, Time};
use crate::plant::{self, Plant};

/// Bytes of groups that this member has admitted and not seen committed, at most.
pub const POOL_BYTES_MAX: usize = 64 << 20;
/// Transactions that this member has admitted and not seen committed, at most.
pub const POOL_TRANSACTIONS_MAX: usize = 50_000;
/// One client has at most one part of so many of what may be admitted, but at least one group.
pub const CLIENT_SHARE: usize = 16;
/// Bytes of other members' batches, at most, shared out evenly.
pub const ORIGINS_BYTES_MAX: usize = 1 << 30;
/// Transactions in other members' batches, at most, shared out evenly.
pub const ORIGINS_TRANSACTIONS_MAX: usize = 800_000;
/// Bytes at which an own batch is closed.
pub const BATCH_BYTES_TARGET: usize = 256 << 10;
/// Committed batches whose late copies are known, at most.
pub const COMMITTED_MAX: usize = 1 << 16;
/// Acknowledgements of one seat for batches that have not come yet, at most.
pub const EARLY_MAX: usize = 4096;
/// When a client that met a full pool should try again, in milliseconds.
pub const RETRY_AFTER_MS: u64 = 250;

/// What a pool is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// This member.
    pub me: MemberId,
    /// Members that may spread batches, this one included.
    pub members_count: usize,
    /// Bytes of one batch, at most.
    pub batch_bytes_max: usize,
}

impl Options {
    /// What one origin may have here.
    ///
    /// Twice what a member admits, so that one whose view of the chain is ahead is not refused.
    fn share(&self) -> Weight {
        let members = self.members_count.max(1);
        let bytes = (2 * POOL_BYTES_MAX).min(ORIGINS_BYTES_MAX / members);
        let transactions = (2 * POOL_TRANSACTIONS_MAX).min(ORIGINS_TRANSACTIONS_MAX / members);
        Weight {
            bytes: bytes.max(4 * self.batch_bytes_max),
            transactions: transactions.max(4 * GROUP_TRANSACTIONS_MAX),
        }
    }

    /// What this member may admit.
    fn own(&self) -> Weight {
        let share = self.share();
        Weight {
            bytes: POOL_BYTES_MAX.min(share.bytes / 2),
            transactions: POOL_TRANSACTIONS_MAX.min(share.transactions / 2),
        }
    }
}

/// What became of a batch that another member sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in the pool now.
    New,
    /// It was there before.
    Known,
    /// It is committed; its copy is dropped.
    Late,
    /// Its origin has its share here; it is dropped and counted. Fetch it when a proposal names it.
    OverQuota,
}

/// The heights with an open proposal and the batches that each names.
#[derive(Clone, Debug, Default)]
struct Proposed {
    by_height: BTreeMap<Height, Vec<Digest>>,
    counts: BTreeMap<Digest, usize>,
}

impl Proposed {
    fn contains(&self, digest: &Digest) -> bool {
        self.counts.contains_key(digest)
    }

    fn insert(&mut self, height: Height, digests: &[Digest]) {
        for digest in digests {
            *self.counts.entry(*digest).or_default() += 1;
        }
        let before = self.by_height.insert(height, digests.to_vec());
        assert!(before.is_none(), "one proposal is open per height");
    }

    /// Closes the proposal at `height` and gives what it named.
    fn remove(&mut self, height: Height) -> Vec<Digest> {
        let digests = self.by_height.remove(&height).unwrap_or_default();
        for digest in &digests {
            let count = self.counts.get_mut(digest);
            let count = count.expect("each named batch is counted");
            *count -= 1;
            if *count == 0 {
                self.counts.remove(digest);
            }
        }
        digests
    }
}

/// Who must hold a batch before it is proposed by name.
#[derive(Clone, Debug)]
struct Holding {
    quorum: usize,
    /// The seat of this member in the view.
    seat: Option<Seat>,
    /// Acknowledgements ahead of their batch.
    early: BTreeMap<Seat, Recent>,
}

/// Transactions between admission and commit.
#[derive(Clone, Debug)]
pub struct Pool {
    options: Options,
    holding: Holding,
    own: Own,
    shelf: Shelf,
    lines: Lines,
    /// Batches that someone waits for, by arrival: own ones and those that a quorum holds.
    work: BTreeMap<u64, Time>,
    proposed: Proposed,
    committed: Recent,
    refused: u64,
}

impl Pool {
    /// An empty pool in `view`.
    pub fn new(options: Options, view: &View) -> Self {
        let mut pool = Self {
            options,
            holding: Holding {
                quorum: usize::MAX,
                seat: None,
                early: BTreeMap::new(),
            },
            own: Own::new(options.own(), options.batch_bytes_max),
            shelf: Shelf::default(),
            lines: Lines::default(),
            work: BTreeMap::new(),
            proposed: Proposed::default(),
            committed: Recent::default(),
            refused: 0,
        };
        pool.install(view);
        pool
    }

    /// Goes over to `view`: what seats of the view before acknowledged counts no more.
    pub fn install(&mut self, view: &View) {
        self.holding = Holding {
            quorum: view.sizes().q,
            seat: view.seat_of(&self.options.me),
            early: BTreeMap::new(),
        };
        let own: SeatSet = self.holding.seat.into_iter().collect();
        let digests: Vec<Digest> = self.held().collect();
        for digest in &digests {
            if let Some(entry) = self.shelf.get_mut(digest) {
                entry.holders = own.clone();
            }
            self.place(digest);
        }
    }

    /// Admits a client's group into the open batch. One that is here already is not taken twice.
    ///
    /// Errors: [`Denied::NotListed`], [`Denied::Expired`], and [`Denied::Busy`] when the pool, or
    /// the client's share of it, is full.
    pub fn admit(
        &mut self,
        group: Verified<(SignedGroup, Group)>,
        ledger: &Ledger,
        now: Time,
    ) -> Result<(), Denied> {
        if self.own.contains(&group.1) {
            return Ok(());
        }
        ledger.admits(&group.1)?;
        self.own.admit(group, now)
    }

    /// Whether an open batch has its size: [`Pool::flush`] is due now.
    pub fn is_full(&self) -> bool {
        self.own.is_full()
    }

    /// Closes the open batches and gives them, to be saved and spread.
    ///
    /// Groups whose very batch was committed before, and which is too large to be told from it, are
    /// dropped: their client signs anew.
    pub fn flush(&mut self) -> Vec<Verified<CheckedBatch>> {
        let committed = &self.committed;
        let closed = self.own.close(|digest| committed.contains(digest));
        let mut batches = Vec::with_capacity(closed.len());
        for (batch, since) in closed {
            self.take_own(batch.clone(), since);
            batches.push(batch);
        }
        batches
    }

    /// Takes in a batch that this member had saved before a restart and that is not committed; it
    /// counts as its own.
    pub fn restore(&mut self, batch: Verified<CheckedBatch>, now: Time) {
        let is_own = self
            .shelf
            .get(&batch.digest)
            .is_some_and(|entry| entry.origin == self.options.me);
        if !is_own && !self.committed.contains(&batch.digest) {
            self.own.restore(&batch);
            self.take_own(batch, now);
        }
    }

    fn take_own(&mut self, batch: Verified<CheckedBatch>, since: Time) {
        let digest = batch.digest;
        match self.shelf.get(&digest) {
            // Another member made the very same batch: it is ours too from now on.
            Some(entry) if entry.origin != self.options.me => {
                let (origin, arrival) = (entry.origin, entry.arrival);
                self.lines.remove(&origin, arrival);
                self.shelf.adopt(&digest, self.options.me);
                self.place(&digest);
            }
            Some(_) => {} // restored twice
            None => self.insert(self.options.me, batch, since),
        }
    }

    /// Takes a batch that `origin` sent. One that an open proposal names is taken whatever its
    /// origin has here, and once more after its commit: without it this member could not vote.
    pub fn add(&mut self, origin: MemberId, batch: Verified<CheckedBatch>, now: Time) -> Taken {
        let digest = batch.digest;
        if self.shelf.get(&digest).is_some() {
            return Taken::Known;
        }
        if !self.proposed.contains(&digest) {
            if self.committed.contains(&digest) {
                return Taken::Late;
            }
            let used = self.shelf.used(&origin).plus(Weight::of_batch(&batch));
            if !used.fits(&self.options.share()) {
                self.refused += 1;
                return Taken::OverQuota;
            }
        }
        self.insert(origin, batch, now);
        Taken::New
    }

    fn insert(&mut self, origin: MemberId, batch: Verified<CheckedBatch>, since: Time) {
        let digest = batch.digest;
        let mut holders: SeatSet = self.holding.seat.into_iter().collect();
        for (seat, early) in &mut self.holding.early {
            if early.remove(&digest) {
                holders.insert(*seat);
            }
        }
        self.shelf.insert(origin, batch, since, holders);
        self.place(&digest);
    }

    /// Notes that `by` holds a batch; only seats of the present view count.
    pub fn hold(&mut self, digest: &Digest, by: Seat) {
        let quorum = self.holding.quorum;
        if let Some(entry) = self.shelf.get_mut(digest) {
            if entry.holders.insert(by) && entry.holders.count() == quorum {
                self.place(digest);
            }
        } else if !self.committed.contains(digest) {
            let early = self.holding.early.entry(by).or_default();
            early.insert(*digest, EARLY_MAX);
        }
    }

    /// Puts a batch into the line and among the work where it belongs now.
    fn place(&mut self, digest: &Digest) {
        let Some(entry) = self.shelf.get(digest) else {
            return;
        };
        let Entry {
            origin, arrival, ..
        } = *entry;
        let is_ready = entry.holders.count() >= self.holding.quorum;
        let bytes = entry.batch.bytes.len();
        if is_ready || origin == self.options.me {
            self.work.insert(arrival, entry.since);
        } else {
            self.work.remove(&arrival);
        }
        self.lines.remove(&origin, arrival);
        let may_ride = bytes <= INLINE_BYTES_MAX;
        if !self.proposed.contains(digest) && (is_ready || may_ride) {
            let waiting = Waiting {
                digest: *digest,
                bytes,
                is_inline: !is_ready,
            };
            self.lines.insert(origin, arrival, waiting);
        }
    }

    /// What a leader proposes next: the oldest first and fair over origins, about `bytes_target`
    /// bytes and at least one batch if there is any.
    ///
    /// Batches that a quorum holds go by name; small ones that too few hold ride whole, within
    /// [`INLINE_BYTES_MAX`] in sum. Batches of open proposals are left out: see
    /// [`Pool::mark_proposed`].
    pub fn pick(&self, bytes_target: usize, count_max: usize) -> Vec<BatchRef> {
        let count_max = count_max.min(BLOCK_BATCHES_MAX);
        let picked = self.lines.pick(bytes_target, count_max);
        let by_ref = |waiting: Waiting| {
            if waiting.is_inline {
                let batch = self.get(&waiting.digest);
                let batch = batch.expect("what stands in a line is in the pool");
                BatchRef::Inline(batch.bytes.clone())
            } else {
                BatchRef::Named(waiting.digest)
            }
        };
        picked.into_iter().map(by_ref).collect()
    }

    /// Notes the batches of the open proposal at `height`, here or not; it replaces one noted
    /// before.
    pub fn mark_proposed(&mut self, height: Height, digests: &[Digest]) {
        let before = self.proposed.remove(height);
        self.proposed.insert(height, digests);
        before.iter().chain(digests).for_each(|d| self.settle(d));
    }

    /// Forgets the open proposals above `height`: their batches may be proposed again.
    pub fn unpropose_above(&mut self, height: Height) {
        let above = height.next()..;
        let heights: Vec<Height> = self
            .proposed
            .by_height
            .range(above)
            .map(|(height, _)| *height)
            .collect();
        for height in heights {
            let digests = self.proposed.remove(height);
            digests.iter().for_each(|digest| self.settle(digest));
            if plant::is(Plant::WorkDropped) {
                digests.iter().for_each(|digest| self.remove(digest));
            }
        }
    }

    /// The block at `height` was applied with these batches: they leave, and their late copies are
    /// not taken in again. Proposals at or below `height` are no longer open.
    pub fn commit(&mut self, height: Height, digests: &[Digest]) {
        let heights = self.proposed.by_height.range(..=height);
        let heights: Vec<Height> = heights.map(|(height, _)| *height).collect();
        let mut named: Vec<Digest> = Vec::new();
        for height in heights {
            named.append(&mut self.proposed.remove(height));
        }
        for digest in digests {
            self.committed.insert(*digest, COMMITTED_MAX);
            self.settle(digest);
        }
        named.iter().for_each(|digest| self.settle(digest));
    }

    /// Drops what can never execute above `height`, the last applied one; gives those batches.
    ///
    /// A batch of an open proposal stays: its block must be applied with it.
    pub fn expire(&mut self, height: Height) -> Vec<Digest> {
        self.own.expire(height);
        let mut over = self.shelf.expired(height);
        over.retain(|digest| !self.proposed.contains(digest));
        over.iter().for_each(|digest| self.remove(digest));
        over
    }

    /// A proposal that named this batch came or went.
    fn settle(&mut self, digest: &Digest) {
        // A copy of a committed batch is here only for a proposal that names it once more.
        if self.committed.contains(digest) && !self.proposed.contains(digest) {
            self.remove(digest);
        } else {
            self.place(digest);
        }
    }

    fn remove(&mut self, digest: &Digest) {
        let Some(entry) = self.shelf.remove(digest) else {
            return;
        };
        self.lines.remove(&entry.origin, entry.arrival);
        self.work.remove(&entry.arrival);
        if entry.origin == self.options.me {
            self.own.release(&entry.batch.groups);
        }
    }

    /// A batch that is here.
    pub fn get(&self, digest: &Digest) -> Option<&Verified<CheckedBatch>> {
        self.shelf.get(digest).map(|entry| &entry.batch)
    }

    /// Those of `digests` that are not here, each once.
    pub fn missing(&self, digests: &[Digest]) -> Vec<Digest> {
        let mut missing: Vec<Digest> = Vec::new();
        for digest in digests {
            if self.get(digest).is_none() && !missing.contains(digest) {
                missing.push(*digest);
            }
        }
        missing
    }

    /// Every batch that is here, oldest first: to acknowledge them to a new leader.
    pub fn held(&self) -> impl Iterator<Item = Digest> {
        self.shelf.in_order()
    }

    /// Batches of this member that are here, oldest first: to spread them again.
    pub fn own(&self) -> impl Iterator<Item = &Verified<CheckedBatch>> {
        let me = self.options.me;
        self.held().filter_map(move |digest| {
            let entry = self.shelf.get(&digest)?;
            (entry.origin == me).then_some(&entry.batch)
        })
    }

    /// Whether something is to be ordered: what this member admitted, or a batch that a quorum
    /// holds. A batch that its origin spread to a few alone is no reason to replace a leader.
    pub fn has_work(&self) -> bool {
        !self.work.is_empty() || self.own.open_since().is_some()
    }

    /// Whether [`Pool::pick`] would give something.
    pub fn has_choice(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Whether a batch can be proposed by name.
    pub fn has_ready(&self) -> bool {
        self.lines.has_ready()
    }

    /// How long the oldest work has waited; see [`Pool::has_work`].
    pub fn oldest_wait(&self, now: Time) -> Option<Span> {
        let first = self.work.values().next().copied();
        let oldest = [first, self.own.open_since()].into_iter().flatten().min();
        oldest.map(|since| now - since)
    }

    /// Batches that are here.
    pub fn len(&self) -> usize {
        self.shelf.len()
    }

    /// Whether there is neither a batch nor an open group.
    pub fn is_empty(&self) -> bool {
        self.shelf.len() == 0 && self.own.open_since().is_none()
    }

    /// Bytes of the batches that are here.
    pub fn bytes(&self) -> usize {
        self.shelf.total().bytes
    }

    /// What is here, for operators.
    pub fn overview(&self) -> PoolOverview {
        let here = self.shelf.total().plus(self.own.open_weight());
        PoolOverview {
            has_work: self.has_work(),
            transactions: here.transactions,
            bytes: here.bytes,
        }
    }

    /// Transactions that this member admitted and that are not committed.
    pub fn admitted(&self) -> usize {
        self.own.total().transactions
    }

    /// Batches refused so far because their origin had its share.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}
