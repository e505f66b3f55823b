//! Batches by digest, by arrival, by expiry, and what each origin has here.
//!
//! Source: design of dissemination. In: checked batches. Out: entries.
//! Holds: every index names the same batches; what an origin has is the sum of its entries.
//! Elsewhere: what may come in and what leaves (`pool`).

use std::collections::{BTreeMap, BTreeSet};

use super::load::cost;
use super::own::{Weight, expiry};
use crate::blocks::CheckedBatch;
use crate::committee::{Height, MemberId, SeatSet};
use crate::crypto::{Digest, Verified};
use crate::machine::Time;

/// A batch and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) batch: Verified<CheckedBatch>,
    /// Who sent it here first.
    pub(super) origin: MemberId,
    /// Its place in the order of arrival.
    pub(super) arrival: u64,
    /// When it, or the first group in it, came.
    pub(super) since: Time,
    /// Seats of the present view that hold it.
    pub(super) holders: SeatSet,
    /// The last height at which something in it may execute.
    expiry: Height,
}

/// The batches.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    entries: BTreeMap<Digest, Entry>,
    by_arrival: BTreeMap<u64, Digest>,
    by_expiry: BTreeMap<Height, BTreeSet<Digest>>,
    used: BTreeMap<MemberId, Weight>,
    arrivals: u64,
    total: Weight,
}

impl Shelf {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn total(&self) -> Weight {
        self.total
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&Entry> {
        self.entries.get(digest)
    }

    pub(super) fn get_mut(&mut self, digest: &Digest) -> Option<&mut Entry> {
        self.entries.get_mut(digest)
    }

    /// Digests in order of arrival.
    pub(super) fn in_order(&self) -> impl Iterator<Item = Digest> {
        self.by_arrival.values().copied()
    }

    /// What `origin` has here.
    pub(super) fn used(&self, origin: &MemberId) -> Weight {
        self.used.get(origin).copied().unwrap_or_default()
    }

    /// Origins that have something here.
    pub(super) fn origins(&self) -> usize {
        self.used.len()
    }

    /// What a leader that is fair over origins orders before the last of `own` that `me` has here:
    /// of each other origin no more than of `me`, however much it has.
    pub(super) fn before(&self, me: &MemberId, own: u64) -> u64 {
        let others = self.used.iter().filter(|(origin, _)| *origin != me);
        others.map(|(_, used)| cost(*used).min(own)).sum()
    }

    /// Adds a batch that is not here.
    pub(super) fn insert(
        &mut self,
        origin: MemberId,
        batch: Verified<CheckedBatch>,
        since: Time,
        holders: SeatSet,
    ) {
        let digest = batch.digest;
        let expiry = batch.groups.iter().map(expiry).max().unwrap_or_default();
        let arrival = self.arrivals;
        self.arrivals += 1;
        let weight = Weight::of_batch(&batch);
        self.total.add(weight);
        self.used.entry(origin).or_default().add(weight);
        self.by_arrival.insert(arrival, digest);
        self.by_expiry.entry(expiry).or_default().insert(digest);
        let entry = Entry {
            batch,
            origin,
            arrival,
            since,
            holders,
            expiry,
        };
        let before = self.entries.insert(digest, entry);
        assert!(before.is_none(), "a batch stands here once");
    }

    /// Gives a batch that is here to another origin.
    pub(super) fn adopt(&mut self, digest: &Digest, origin: MemberId) {
        let Some(entry) = self.entries.get_mut(digest) else {
            return;
        };
        let weight = Weight::of_batch(&entry.batch);
        let before = std::mem::replace(&mut entry.origin, origin);
        self.give_back(&before, weight);
        self.used.entry(origin).or_default().add(weight);
    }

    fn give_back(&mut self, origin: &MemberId, weight: Weight) {
        let used = self.used.get_mut(origin);
        let used = used.expect("each batch is counted for its origin");
        used.subtract(weight);
        if *used == Weight::default() {
            self.used.remove(origin);
        }
    }

    /// Takes a batch out.
    pub(super) fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.entries.remove(digest)?;
        let weight = Weight::of_batch(&entry.batch);
        self.total.subtract(weight);
        self.give_back(&entry.origin, weight);
        self.by_arrival.remove(&entry.arrival);
        let digests = self.by_expiry.get_mut(&entry.expiry);
        let digests = digests.expect("each batch stands under its expiry");
        digests.remove(digest);
        if digests.is_empty() {
            self.by_expiry.remove(&entry.expiry);
        }
        Some(entry)
    }

    /// Batches in which nothing can execute above `height`.
    pub(super) fn expired(&self, height: Height) -> Vec<Digest> {
        let over = self.by_expiry.range(..=height);
        over.flat_map(|(_, digests)| digests).copied().collect()
    }
}
