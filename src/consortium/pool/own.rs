//! What this member admitted from clients and has not seen committed.
//!
//! Source: design of admission. In: checked groups. Out: batches to spread.
//! Holds: what is admitted stays within [`Bound`] in sum, and one client within its share or one
//! group; a group is taken in once.
//! Elsewhere: batches once they are closed (`pool`), whether a group may execute (`ledger`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{BATCH_BYTES_TARGET, CLIENT_SHARE, RETRY_AFTER_MS};
use crate::blocks::{Batch, CheckedBatch, Group, SignedGroup, codec};
use crate::committee::Height;
use crate::consortium::Denied;
use crate::crypto::{Digest, Domain, PublicKey, Verified};
use crate::machine::Time;

/// Bytes that a signed group needs in a batch beside its own: client, length, signature.
const GROUP_EXTRA_BYTES: usize = 32 + 8 + 64;
/// Bytes that a batch needs beside its groups: their count.
const BATCH_EXTRA_BYTES: usize = 8;

/// An amount of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) bytes: usize,
    pub(super) transactions: usize,
}

impl Weight {
    pub(super) fn of_batch(batch: &CheckedBatch) -> Self {
        Self {
            bytes: batch.bytes.len(),
            transactions: batch.transactions_count(),
        }
    }

    pub(super) fn of_group(signed: &SignedGroup, group: &Group) -> Self {
        Self {
            bytes: signed.bytes.len() + GROUP_EXTRA_BYTES,
            transactions: group.transactions.len(),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.transactions += other.transactions;
    }

    pub(super) fn subtract(&mut self, other: Self) {
        assert!(self.bytes >= other.bytes, "no more leaves than came in");
        assert!(
            self.transactions >= other.transactions,
            "no more leaves than came in"
        );
        self.bytes -= other.bytes;
        self.transactions -= other.transactions;
    }

    pub(super) fn plus(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    /// Whether neither bytes nor transactions exceed those of `bound`.
    pub(super) fn fits(&self, bound: &Self) -> bool {
        self.bytes <= bound.bytes && self.transactions <= bound.transactions
    }

    fn share(self, parts: usize) -> Self {
        Self {
            bytes: self.bytes / parts,
            transactions: self.transactions / parts,
        }
    }
}

/// The last height at which a transaction of `group` may execute.
pub(super) fn expiry(group: &Group) -> Height {
    let expiries = group.transactions.iter().map(|t| t.expiry);
    expiries.max().unwrap_or_default()
}

type GroupName = (PublicKey, Digest);

/// A batch that still gathers.
#[derive(Clone, Debug)]
struct Open {
    signed: Vec<SignedGroup>,
    groups: Vec<Group>,
    bytes: usize,
    since: Time,
}

/// Admitted groups: those in batches by weight, those of open batches whole.
#[derive(Clone, Debug)]
pub(super) struct Own {
    bound: Weight,
    groups: BTreeMap<GroupName, Weight>,
    clients: BTreeMap<PublicKey, Weight>,
    total: Weight,
    open: Vec<Open>,
    /// Bytes at which a batch is closed.
    batch_bytes: usize,
    /// Bytes of the largest batch that others accept.
    batch_bytes_max: usize,
}

impl Own {
    /// Nothing admitted.
    pub(super) fn new(bound: Weight, batch_bytes_max: usize) -> Self {
        Self {
            bound,
            groups: BTreeMap::new(),
            clients: BTreeMap::new(),
            total: Weight::default(),
            open: Vec::new(),
            batch_bytes: batch_bytes_max.min(BATCH_BYTES_TARGET),
            batch_bytes_max,
        }
    }

    pub(super) fn total(&self) -> Weight {
        self.total
    }

    pub(super) fn contains(&self, group: &Group) -> bool {
        self.groups.contains_key(&(group.client, group.digest))
    }

    /// Whether a batch has its size and should be closed now.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() > 1 || self.open.iter().any(|open| open.bytes >= self.batch_bytes)
    }

    /// Since when the oldest open group waits.
    pub(super) fn open_since(&self) -> Option<Time> {
        self.open.first().map(|open| open.since)
    }

    /// What the open batches hold.
    pub(super) fn open_weight(&self) -> Weight {
        let mut sum = Weight::default();
        for open in &self.open {
            let transactions = open.groups.iter().map(|group| group.transactions.len());
            sum.add(Weight {
                bytes: open.bytes,
                transactions: transactions.sum(),
            });
        }
        sum
    }

    /// Takes a group that is not in it into the open batch.
    pub(super) fn admit(
        &mut self,
        checked: Verified<(SignedGroup, Group)>,
        now: Time,
    ) -> Result<(), Denied> {
        let (signed, group) = checked.into_inner();
        let weight = Weight::of_group(&signed, &group);
        let used = self.clients.get(&group.client).copied();
        let is_within_share = used.is_none_or(|used| {
            let share = self.bound.share(CLIENT_SHARE);
            used.plus(weight).fits(&share)
        });
        if !is_within_share || !self.total.plus(weight).fits(&self.bound) {
            return Err(Denied::Busy {
                retry_after_ms: RETRY_AFTER_MS,
            });
        }
        self.account((group.client, group.digest), weight);
        let limit = self.batch_bytes;
        match self.open.last_mut() {
            Some(open) if open.bytes + weight.bytes <= limit => {
                open.bytes += weight.bytes;
                open.signed.push(signed);
                open.groups.push(group);
            }
            Some(_) | None => self.open.push(Open {
                signed: vec![signed],
                groups: vec![group],
                bytes: BATCH_EXTRA_BYTES + weight.bytes,
                since: now,
            }),
        }
        Ok(())
    }

    fn account(&mut self, name: GroupName, weight: Weight) {
        if self.groups.insert(name, weight).is_none() {
            self.clients.entry(name.0).or_default().add(weight);
            self.total.add(weight);
        }
    }

    /// Counts the groups of a batch that was admitted before a restart.
    pub(super) fn restore(&mut self, batch: &CheckedBatch) {
        for group in &batch.groups {
            let operations = group.transactions.iter().map(|t| t.operation.len() + 24);
            let weight = Weight {
                bytes: 8 + operations.sum::<usize>() + GROUP_EXTRA_BYTES,
                transactions: group.transactions.len(),
            };
            if !self.contains(group) {
                self.account((group.client, group.digest), weight);
            }
        }
    }

    /// Forgets groups that were committed or can never execute; others are left alone.
    pub(super) fn release(&mut self, groups: &[Group]) {
        for group in groups {
            let name = (group.client, group.digest);
            let Some(weight) = self.groups.remove(&name) else {
                continue;
            };
            self.total.subtract(weight);
            let used = self.clients.get_mut(&group.client);
            let used = used.expect("each admitted group is counted for its client");
            used.subtract(weight);
            if *used == Weight::default() {
                self.clients.remove(&group.client);
            }
        }
    }

    /// Drops open groups that can never execute above `height`; gives how many.
    pub(super) fn expire(&mut self, height: Height) -> usize {
        let mut dropped = Vec::new();
        for open in &mut self.open {
            let is_over: Vec<bool> = open.groups.iter().map(|g| expiry(g) <= height).collect();
            if !is_over.contains(&true) {
                continue;
            }
            let pairs = open.signed.drain(..).zip(open.groups.drain(..));
            let pairs: Vec<(SignedGroup, Group)> = pairs.collect();
            for ((signed, group), is_over) in pairs.into_iter().zip(is_over) {
                if is_over {
                    open.bytes -= Weight::of_group(&signed, &group).bytes;
                    dropped.push(group);
                } else {
                    open.signed.push(signed);
                    open.groups.push(group);
                }
            }
        }
        self.open.retain(|open| !open.groups.is_empty());
        self.release(&dropped);
        dropped.len()
    }

    /// Closes what is open, into batches that are not `taken`; the groups stay counted until they
    /// are released.
    pub(super) fn close(
        &mut self,
        taken: impl Fn(&Digest) -> bool,
    ) -> Vec<(Verified<CheckedBatch>, Time)> {
        let mut closed = Vec::new();
        for mut open in std::mem::take(&mut self.open) {
            let mut batch = open.batch();
            // The very same groups were ordered before and are offered again, say because they met
            // a busy ledger. Others drop late copies by digest, so this one needs another.
            while taken(&batch.digest) && open.lengthen(self.batch_bytes_max) {
                batch = open.batch();
            }
            if taken(&batch.digest) {
                self.release(&batch.groups);
            } else {
                closed.push((batch, open.since));
            }
        }
        closed
    }
}

impl Open {
    fn batch(&self) -> Verified<CheckedBatch> {
        let batch = Batch {
            groups: self.signed.clone(),
        };
        let bytes = Bytes::from(codec::encode(&batch));
        assert_eq!(bytes.len(), self.bytes, "the size of a batch is foreseen");
        Verified::vouch(CheckedBatch {
            digest: Digest::of(Domain::Batch, &bytes),
            bytes,
            groups: self.groups.clone(),
        })
    }

    /// Repeats the smallest group, which executes once all the same; whether it fits.
    fn lengthen(&mut self, most: usize) -> bool {
        let smallest = self.signed.iter().zip(&self.groups);
        let smallest = smallest.min_by_key(|(signed, _)| signed.bytes.len());
        let Some((signed, group)) = smallest else {
            return false;
        };
        let (signed, group) = (signed.clone(), group.clone());
        let bytes = self.bytes + Weight::of_group(&signed, &group).bytes;
        if bytes > most {
            return false;
        }
        self.bytes = bytes;
        self.signed.push(signed);
        self.groups.push(group);
        true
    }
}
