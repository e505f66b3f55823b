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
//! | predicted wait of a group: half the progress timeout | `Busy` |

mod line;
mod load;
mod options;
mod own;
mod proposed;
mod recent;
mod shelf;
mod turns;

#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod turns_tests;

use std::collections::BTreeMap;

use self::line::{Lines, Waiting};
use self::load::{Load, cost};
pub use self::options::{BLOCK_BYTES_TARGET, Options, TURN_BLOCKS_LEAST};
use self::own::{Own, Weight};
use self::proposed::Proposed;
use self::recent::Recent;
use self::shelf::{Entry, Shelf};
pub use self::turns::Overtaken;
use self::turns::{Passing, Turns};
use super::{Denied, Ledger, PoolOverview};
pub use crate::blocks::INLINE_BYTES_MAX;
use crate::blocks::body::BLOCK_BATCHES_MAX;
use crate::blocks::{BatchRef, CheckedBatch, Group, SignedGroup};
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
/// The longest that a client is asked to stay away, in milliseconds.
pub const RETRY_AFTER_MS_MAX: u64 = 5_000;
/// When a client that met a full pool should try again, in milliseconds.
pub const RETRY_AFTER_MS: u64 = 250;

/// A block that was applied, as the pool sees it.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// Its batches.
    pub batches: &'a [Digest],
    /// Their bytes.
    pub bytes: usize,
    /// Its transactions.
    pub transactions: usize,
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
    turns: Turns,
    load: Load,
    /// The last height that was applied.
    applied: Height,
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
            turns: Turns::default(),
            load: Load::new(),
            applied: Height(0),
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
        self.turns = Turns::default();
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
    /// the client's share of it, is full, or when it would wait longer than `patience`. With
    /// nothing of this member under way a group is never too late: the estimate cannot lock it out.
    pub fn admit(
        &mut self,
        group: Verified<(SignedGroup, Group)>,
        ledger: &Ledger,
        now: Time,
        patience: Span,
    ) -> Result<(), Denied> {
        if self.own.contains(&group.1) {
            return Ok(());
        }
        ledger.admits(&group.1)?;
        let wait = self.wait(&group);
        if wait > patience && self.own.total() != Weight::default() {
            let late = Span(wait.0 - patience.0).as_ms();
            return Err(Denied::Busy {
                retry_after_ms: late.clamp(RETRY_AFTER_MS, RETRY_AFTER_MS_MAX),
            });
        }
        self.own.admit(group, now)
    }

    /// How long `group` would wait here until it is applied.
    fn wait(&self, (signed, group): &(SignedGroup, Group)) -> Span {
        let own = cost(self.own.total().plus(Weight::of_group(signed, group)));
        self.load
            .wait(own + self.shelf.before(&self.options.me, own))
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
            let own = cost(self.own.total());
            let queue = own + self.shelf.before(&self.options.me, own);
            self.load.sent(batch.digest, since, queue);
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
        if is_ready {
            let (queue, origins) = (self.shelf.used(&origin), self.shelf.origins());
            let allowance = self.options.allowance(queue, origins);
            self.turns.watch(*digest, self.known(), allowance);
        }
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
        let named = self.proposed.remove_all(height.next()..);
        named.iter().for_each(|digest| self.settle(digest));
        if plant::is(Plant::WorkDropped) {
            named.iter().for_each(|digest| self.remove(digest));
        }
    }

    /// The block at `height` was applied with these batches: they leave, and their late copies are
    /// not taken in again. Proposals at or below `height` are no longer open.
    pub fn commit(&mut self, height: Height, digests: &[Digest]) {
        let named = self.proposed.remove_all(..=height);
        for digest in digests {
            self.committed.insert(*digest, COMMITTED_MAX);
            self.settle(digest);
        }
        named.iter().for_each(|digest| self.settle(digest));
        self.applied = self.applied.max(height);
    }

    /// The block at `height`, decided before our eyes, was committed: how fast the ledger is, and
    /// whom its leader passed over, who may not have heard yet of what was said within `patience`.
    pub fn measure(&mut self, now: Time, patience: Span, block: &Committed<'_>) -> Overtaken {
        let weight = Weight {
            bytes: block.bytes,
            transactions: block.transactions,
        };
        let left = self.shelf.total().plus(self.own.open_weight());
        self.load.applied(now, cost(weight), cost(left));
        for digest in block.batches {
            self.load.arrived(now, digest);
        }
        self.turns.passed(&Passing {
            height: self.applied,
            is_full: self.options.is_full(block.bytes, block.batches.len()),
            now,
            patience,
        })
    }

    /// Nothing known of now counts as passing over a batch, or as a measure of the ledger: its
    /// leader is new, or ourselves, or blocks came that were made without us.
    pub fn excuse(&mut self) {
        self.turns.excuse(self.known());
        self.load.interrupt();
    }

    /// The highest height that may have been proposed before now, as far as is known here.
    fn known(&self) -> Height {
        self.applied.max(self.proposed.top())
    }

    /// Drops what can never execute above `height`, the last applied one; gives those batches.
    ///
    /// A batch of an open proposal stays: its block must be applied with it.
    pub fn expire(&mut self, height: Height) -> Vec<Digest> {
        self.own.expire(height);
        let mut over = self.shelf.expired(height);
        over.retain(|digest| !self.proposed.contains(digest));
        for digest in &over {
            self.load.lost(digest);
            self.remove(digest);
        }
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
        self.turns.forget(digest);
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
