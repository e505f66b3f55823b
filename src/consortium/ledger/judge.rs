//! Decides for each transaction of a block whether it executes.
//!
//! Source: design of transactions and exactly-once execution. In: groups in order, the memory of
//! the ledger. Out: one fate per transaction, and those that execute.
//! Holds: the judgement depends on the decided prefix alone and changes nothing; a name executes at
//! most once in it.
//! Elsewhere: carrying it out (`ledger`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::contract::{Executed, Verdict};
use super::super::lookup::Lookup;
use super::{Ledger, Name};
use crate::blocks::{CheckedBatch, Group, Transaction};
use crate::committee::Height;
use crate::crypto::{Digest, PublicKey};
use crate::membership::register;
use crate::plant::{self, Plant};

/// What becomes of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is the next of [`Judgement::fresh`].
    Executes,
    /// Its name is remembered, or executes earlier in this block, with the same operation.
    Repeats,
    /// It does not execute.
    Refused(Verdict),
}

/// A transaction that executes in this block.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    pub(super) name: Name,
    /// The digest of its group.
    pub(super) group: Digest,
    /// Its place in the group.
    pub(super) index: u32,
    /// The digest of its operation.
    pub(super) digest: Digest,
    /// The last height at which it is remembered.
    pub(super) expiry: Height,
    /// What the application is to do.
    pub(super) operation: Bytes,
}

/// What becomes of a block's transactions.
#[derive(Clone, Debug, Default)]
pub(super) struct Judgement {
    /// One per transaction, in order.
    pub(super) fates: Vec<(Name, Fate)>,
    /// Those that execute, in order.
    pub(super) fresh: Vec<Fresh>,
    /// Names remembered before, whose memory a repeat lengthens.
    pub(super) extended: Vec<(Name, Height)>,
}

impl Judgement {
    /// The operations that the application executes, in order; those of the ledger itself are left
    /// out.
    pub(super) fn operations(&self) -> Vec<Bytes> {
        self.foreign().map(|f| f.operation.clone()).collect()
    }

    /// How many operations the application executes.
    pub(super) fn foreign_count(&self) -> usize {
        self.foreign().count()
    }

    fn foreign(&self) -> impl Iterator<Item = &Fresh> {
        let is_foreign = |fresh: &&Fresh| !register::is_own(&fresh.operation);
        self.fresh.iter().filter(is_foreign)
    }
}

impl Ledger {
    /// The same ledger, in which these names of a predecessor execute nothing up to their heights:
    /// they were used there.
    pub fn inheriting(mut self, names: Arc<BTreeMap<Name, Height>>) -> Self {
        self.inherited = names;
        self
    }

    /// Every name that executes nothing any more, with the last height of that: those that it
    /// remembers, and those of a predecessor.
    pub fn used(&self) -> BTreeMap<Name, Height> {
        let height = self.height();
        let mut used: BTreeMap<Name, Height> = (*self.inherited).clone();
        used.retain(|_, last| *last > height);
        for (name, executed) in self.entries() {
            let last = used.entry(name).or_default();
            *last = executed.expiry.max(*last);
        }
        used
    }
}

/// Judges `groups` as the block at `height`, the one after the ledger's tip.
pub(super) fn judge(ledger: &Ledger, height: Height, groups: Vec<Group>) -> Judgement {
    let mut bench = Bench {
        ledger,
        height,
        most: height.plus(ledger.parameters.expiry_blocks_max.into()),
        held: ledger.memory.len_from(height),
        places: Lookup::default(),
        judgement: Judgement::default(),
    };
    for group in groups {
        for (index, transaction) in (0u32..).zip(group.transactions) {
            let name = (group.client, transaction.sequence);
            let may = ledger.may_submit(&group.client, &transaction.operation);
            let fate = if may {
                bench.fate(name, &group.digest, index, transaction)
            } else {
                Fate::Refused(Verdict::NotListed)
            };
            bench.judgement.fates.push((name, fate));
        }
    }
    bench.judgement
}

struct Bench<'a> {
    ledger: &'a Ledger,
    height: Height,
    /// The largest expiry.
    most: Height,
    /// Names that are remembered after this block, so far.
    held: usize,
    /// Names that execute in this block and their places in it.
    places: Lookup<Name, usize>,
    judgement: Judgement,
}

impl Bench<'_> {
    fn fate(&mut self, name: Name, group: &Digest, index: u32, transaction: Transaction) -> Fate {
        let expiry = transaction.expiry;
        let is_late = expiry < self.height && !plant::is(Plant::ExpiryIgnored);
        if is_late || expiry > self.most {
            return Fate::Refused(Verdict::Expired);
        }
        let used = self.ledger.inherited.get(&name);
        if used.is_some_and(|last| *last >= self.height) {
            return Fate::Refused(Verdict::Expired);
        }
        let digest = transaction.digest();
        if let Some(place) = self.places.get(&name) {
            let first = &mut self.judgement.fresh[*place];
            if first.digest != digest {
                return Fate::Refused(Verdict::Conflict);
            }
            first.expiry = first.expiry.max(expiry);
            return Fate::Repeats;
        }
        if let Some(before) = self.remembered(&name) {
            if before.operation != digest {
                return Fate::Refused(Verdict::Conflict);
            }
            // A later copy could execute once its earlier one is forgotten: remember the longer.
            if expiry > before.expiry {
                self.judgement.extended.push((name, expiry));
            }
            return Fate::Repeats;
        }
        if self.held >= self.ledger.parameters.remembered_max as usize {
            return Fate::Refused(Verdict::Busy);
        }
        self.held += 1;
        self.places.insert(name, self.judgement.fresh.len());
        self.judgement.fresh.push(Fresh {
            name,
            group: *group,
            index,
            digest,
            expiry,
            operation: transaction.operation,
        });
        Fate::Executes
    }

    /// What the ledger remembers of `name`, aside from what ends before this block.
    fn remembered(&self, name: &Name) -> Option<&Executed> {
        let executed = self.ledger.memory.get(name);
        executed.filter(|executed| executed.expiry >= self.height)
    }
}

impl Ledger {
    /// Whether nothing of a batch can execute any more. One that reached the log behind the block
    /// that named it looks open there, and nobody else takes it again.
    pub(in super::super) fn has_settled(&self, batch: &CheckedBatch) -> bool {
        let height = self.height();
        let is_over = |client: &PublicKey, t: &Transaction| {
            t.expiry <= height || self.answer(client, t.sequence).is_some()
        };
        let of_group = |group: &Group| {
            let mut transactions = group.transactions.iter();
            transactions.all(|transaction| is_over(&group.client, transaction))
        };
        batch.groups.iter().all(of_group)
    }
}
