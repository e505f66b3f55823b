//! The simulated log of one member: what is written, what is durable, and how it comes back.
//!
//! Source: `ARCHITECTURE.md`, durability. In: records. Out: an archive to serve from, and a
//! replica's
//! restored state. Holds: only what a sync covered counts as durable; records come back in the
//! order in
//! which they were saved. Elsewhere: real files (`storage`), the real recovery (`node`).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::application::Application;
use crate::blocks::{BatchRef, Body, CheckedBatch, Genesis, Group};
use crate::committee::{Certificate, Height, MemberId, View, Voter};
use crate::consortium::serve::Archive;
use crate::consortium::{
    Applied, Block, Decided, Execute, Execution, Ledger, Outcome, Record, Restored,
};
use crate::crypto::{Digest, Domain, SecretKey, Verified};

/// A member's log.
#[derive(Debug, Default)]
pub(super) struct Disk {
    records: Vec<Record>,
    /// How many of them are durable.
    durable: usize,
    blocks: BTreeMap<Height, usize>,
    certificates: BTreeMap<Height, usize>,
    batches: BTreeMap<Digest, usize>,
}

impl Disk {
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

    /// A sync that began when `upto` records were written has ended.
    pub(super) fn synced(&mut self, upto: usize) {
        for index in self.durable..upto {
            match &self.records[index] {
                Record::Block(block) => drop(self.blocks.insert(block.header.height, index)),
                Record::Certificate(certificate) => {
                    self.certificates.insert(certificate.ballot.height, index);
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

    /// Power is lost: of what is not durable the first `kept` records survive.
    pub(super) fn crash(&mut self, kept: usize) {
        let survivors = (self.durable + kept).min(self.records.len());
        self.records.truncate(survivors);
        self.synced(survivors);
    }

    /// What a member starts from, and its application at the same height.
    pub(super) fn recover(&self, root: &Root<'_>, mut app: Box<dyn Application>) -> Recovered {
        let mut ledger = Ledger::genesis(root.genesis);
        let mut batches: BTreeMap<Digest, Verified<CheckedBatch>> = BTreeMap::new();
        let mut order: Vec<Digest> = Vec::new();
        let mut blocks: Vec<&Block> = Vec::new();
        let mut certificate: Option<Certificate> = None;
        let mut journal = Vec::new();
        let mut faults = Vec::new();
        let mut voter = root.secret.clone().and_then(|s| Voter::new(root.view, s));
        for record in &self.records {
            match record {
                Record::Voter(_, record) => voter.iter_mut().for_each(|v| v.resume(record)),
                Record::Batch(bytes) => {
                    let batch = root.batch(bytes);
                    order.push(batch.digest);
                    batches.insert(batch.digest, batch);
                }
                Record::Block(block) => blocks.push(block),
                Record::Certificate(c) => certificate = Some(c.clone()),
                Record::Payload(..) | Record::Decision(_) => {}
                Record::Engine(_, bytes) => journal.push(bytes.clone()),
                Record::Fault(fault) => faults.push(fault.clone()),
            }
        }
        let certified = certificate.as_ref().map_or(Height(0), |c| c.ballot.height);
        let (mut recent, mut applied) = (Vec::new(), Vec::new());
        for block in blocks {
            let (sealed, again) = root.replay(block, &batches, &mut ledger, &mut *app);
            applied.push(again);
            let names = block.body.batches().map(BatchRef::digest);
            names.for_each(|digest| order.retain(|held| *held != digest));
            if block.header.height >= certified {
                recent.push((block.header.height, ledger.tip_digest(), sealed));
            }
        }
        let restored = Restored {
            ledger,
            voter,
            certificate,
            recent,
            payloads: self.payloads(certified),
            decisions: self.decisions(certified),
            journal,
            faults,
            batches: order
                .iter()
                .filter_map(|digest| batches.remove(digest))
                .collect(),
        };
        Recovered {
            restored,
            app,
            applied,
        }
    }

    fn payloads(&self, above: Height) -> Vec<(Height, crate::fsm::Payload)> {
        let payloads = self.records.iter().filter_map(|record| {
            let Record::Payload(height, payload) = record else {
                return None;
            };
            (*height > above).then(|| (*height, payload.clone()))
        });
        payloads.collect()
    }

    fn decisions(&self, above: Height) -> Vec<Certificate> {
        let decisions = self.records.iter().filter_map(|record| {
            let Record::Decision(certificate) = record else {
                return None;
            };
            (certificate.ballot.height > above).then(|| certificate.clone())
        });
        decisions.collect()
    }
}

impl Archive for Disk {
    fn block(&self, height: Height) -> Option<Block> {
        let Record::Block(block) = &self.records[*self.blocks.get(&height)?] else {
            return None;
        };
        Some(block.clone())
    }

    fn certificate_at_or_after(&self, height: Height) -> Option<Certificate> {
        let (_, index) = self.certificates.range(height..).next()?;
        let Record::Certificate(certificate) = &self.records[*index] else {
            return None;
        };
        Some(certificate.clone())
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
    /// Every block of the log, applied again.
    pub(super) applied: Vec<Applied>,
}

/// What a log is read against.
pub(super) struct Root<'a> {
    pub(super) genesis: &'a Genesis,
    pub(super) view: &'a View,
    pub(super) me: MemberId,
    /// The consensus key; none without a seat.
    pub(super) secret: Option<SecretKey>,
}

impl Root<'_> {
    fn batch(&self, bytes: &Bytes) -> Verified<CheckedBatch> {
        let bounds = self.genesis.parameters.bounds();
        let decoded = CheckedBatch::decode(bytes.clone(), self.view.chain(), &bounds);
        let (batch, _) = decoded.expect("a batch in the log was checked before it was saved");
        Verified::vouch(batch)
    }

    fn groups(
        &self,
        body: &Body,
        batches: &BTreeMap<Digest, Verified<CheckedBatch>>,
    ) -> Vec<Group> {
        let mut groups = Vec::new();
        for batch in body.batches() {
            match batch {
                BatchRef::Inline(bytes) => groups.extend(self.batch(bytes).into_inner().groups),
                BatchRef::Named(digest) => {
                    let batch = batches.get(digest);
                    let batch = batch.expect("a batch is durable before the block that names it");
                    groups.extend(batch.groups.iter().cloned());
                }
            }
        }
        groups
    }

    /// Applies a stored block again; whether it is sealed, and what it gives.
    fn replay(
        &self,
        block: &Block,
        batches: &BTreeMap<Digest, Verified<CheckedBatch>>,
        ledger: &mut Ledger,
        app: &mut dyn Application,
    ) -> (bool, Applied) {
        let groups = self.groups(&block.body, batches);
        let execute = ledger.begin(Decided::replay(block.clone(), groups));
        let sealed = execute.is_sealed;
        let applied = ledger.finish(run(app, &execute));
        let applied = applied.expect("an application gives one outcome per operation");
        let name = self.me;
        assert_eq!(
            applied.block, *block,
            "member {name} replays its own blocks"
        );
        (sealed, applied)
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
