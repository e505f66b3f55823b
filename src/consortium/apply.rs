//! Applying: decided or certified bodies execute in height order, and leaders make new ones.
//!
//! Source: `ARCHITECTURE.md`. In: decided payloads, certified blocks, results. Out: applied blocks.
//! Holds: one block executes at a time; a block is saved before anything speaks of it; a header
//! that
//! differs from the certified one halts voting.
//! Elsewhere: what follows from a block (`ledger`), PERSIST votes (`seal`).

use std::collections::BTreeMap;

use super::contract::{Change, Event, Execution, Record};
use super::ledger::{self, Decided, Ledger};
use super::message::{Block, Message};
use super::pool::{BLOCK_BYTES_TARGET, Committed};
use super::replica::{Consortium, Out};
use crate::blocks::{
    BatchRef, Body, CheckedBatch, FORMAT_VERSION, Group, PROPOSAL_BYTES_MAX, Proposal,
};
use crate::committee::Height;
use crate::crypto::{Digest, PublicKey, Verified};
use crate::fsm;
use crate::machine::{Span, Time, To};
use crate::plant::{self, Plant};

/// How far a leader's clock may be ahead of ours before its fresh proposals are not voted for.
const SKEW_MAX: Span = Span::from_ms(600_000);
/// While a proposal is open, the next one waits until so many bytes are ready.
const PIPELINE_BYTES: usize = 64 << 10;

/// A body to apply and where it came from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Decided here.
    Decided(Box<Proposal>),
    /// Fetched: certified, with the header that must follow from it.
    Certified(Box<Block>),
}

impl Source {
    pub(super) fn body(&self) -> &Body {
        match self {
            Source::Decided(proposal) => &proposal.body,
            Source::Certified(block) => &block.body,
        }
    }
}

/// The chain's growing end.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) ledger: Ledger,
    /// What is decided or certified above the ledger, by height; bounded by the window and by one
    /// extent.
    pub(super) pending: BTreeMap<Height, Source>,
    /// The block that executes: whether it is sealed and what its header must be, where known.
    under_way: Option<(bool, Option<Digest>)>,
    /// Header digests of applied blocks from the newest certified height on, and whether they are
    /// sealed.
    pub(super) recent: BTreeMap<Height, (Digest, bool)>,
}

impl Chain {
    pub(super) fn new(ledger: Ledger, recent: Vec<(Height, Digest, bool)>) -> Self {
        let recent = recent
            .into_iter()
            .map(|(height, digest, sealed)| (height, (digest, sealed)));
        let recent = recent.collect();
        Self {
            ledger,
            pending: BTreeMap::new(),
            under_way: None,
            recent,
        }
    }

    /// The height up to which bodies are here without a gap.
    pub(super) fn reach(&self) -> Height {
        let mut reach = self.ledger.height();
        while self.pending.contains_key(&reach.next()) {
            reach = reach.next();
        }
        reach
    }

    /// Whether the block at `height` executes now.
    pub(super) fn is_under_way(&self, height: Height) -> bool {
        self.under_way.is_some() && height == self.ledger.height().next()
    }

    /// Whether something is decided and not applied.
    pub(super) fn has_pending(&self) -> bool {
        self.under_way.is_some() || !self.pending.is_empty()
    }
}

impl Consortium {
    /// Judges a proposal: its bytes were judged when it was heard, so all that is left is whether
    /// every batch that it names is here.
    pub(super) fn on_check(
        &mut self,
        now: Time,
        height: Height,
        payload: &fsm::Payload,
        out: &mut Out,
    ) {
        let Ok(proposal) = Proposal::from_bytes(&payload.bytes) else {
            return;
        };
        if let Some(certificate) = proposal.carried.clone() {
            self.on_certificate(now, Verified::vouch(certificate), out);
        }
        // Clocks matter for a fresh proposal alone: one that may have been decided is taken as it
        // is.
        let latest = now.0.saturating_add(SKEW_MAX.0);
        if proposal.timestamp_us > latest && !self.ordering.is_bound(height) {
            return self.tell(
                now,
                fsm::Command::Checked(height, payload.digest, false),
                out,
            );
        }
        let digests = named(&proposal.body);
        let all: Vec<Digest> = proposal.body.batches().map(BatchRef::digest).collect();
        self.pool.mark_proposed(height, &all);
        let missing = self.pool.missing(&digests);
        if missing.is_empty() {
            let verdict = fsm::Command::Checked(height, payload.digest, true);
            self.tell(now, verdict, out);
        } else {
            self.await_batches(height, payload.digest, &missing);
            self.fetch_batches(out);
        }
    }

    /// A height is decided.
    pub(super) fn on_decided(&mut self, height: Height, payload: &fsm::Payload) {
        if height <= self.chain.ledger.height() {
            return;
        }
        // It was decoded when it was heard or made, so it decodes.
        if let Ok(proposal) = Proposal::from_bytes(&payload.bytes) {
            // What was decided above a view's last block is void.
            if proposal.view == self.chain.ledger.views().present {
                let source = Source::Decided(Box::new(proposal));
                self.chain.pending.entry(height).or_insert(source);
            }
        }
    }

    /// Begins the next block if nothing executes and all of it is here.
    pub(super) fn apply(&mut self, out: &mut Out) {
        let height = self.chain.ledger.height();
        self.chain.pending = self.chain.pending.split_off(&height.next());
        if self.chain.under_way.is_some() || self.ordering.state() == "failed" {
            return;
        }
        let is_ready = self.prefetch();
        self.fetch_batches(out);
        let source = self.chain.pending.get(&height.next());
        let Some(source) = source.filter(|_| is_ready) else {
            return;
        };
        let source = source.clone();
        let groups = self.groups(source.body());
        let names = names(&groups);
        let (decided, expected) = match source {
            Source::Decided(proposal) => {
                let decided = Decided {
                    height: proposal.height,
                    view: proposal.view,
                    proposed_us: proposal.timestamp_us,
                    is_sealed: proposal.is_sealed,
                    body: proposal.body,
                    groups,
                };
                (decided, None)
            }
            Source::Certified(block) => {
                let digest = block.header.digest();
                (Decided::replay(*block, groups), Some(digest))
            }
        };
        let execute = self.chain.ledger.begin(decided);
        self.chain.under_way = Some((execute.is_sealed, expected));
        out.emit(Event::Ordered(execute.height, names));
        out.emit(Event::Execute(execute));
    }

    /// The groups of a body whose named batches are all here.
    fn groups(&self, body: &Body) -> Vec<Group> {
        let bounds = self.options.genesis.parameters.bounds();
        let mut groups = Vec::new();
        for batch in body.batches() {
            match batch {
                BatchRef::Named(digest) => {
                    let batch = self.pool.get(digest).expect("nothing was missing");
                    groups.extend(batch.groups.iter().cloned());
                }
                BatchRef::Inline(bytes) => {
                    // Whatever is decided or certified was decoded by a quorum's correct seats.
                    let chain = self.view.chain();
                    let batch = CheckedBatch::decode(bytes.clone(), chain, &bounds);
                    groups.extend(batch.into_iter().flat_map(|(batch, _)| batch.groups));
                }
            }
        }
        groups
    }

    /// The application answered: the header is known, the block is saved, and whoever waits is
    /// told.
    pub(super) fn on_executed(&mut self, now: Time, execution: Execution, out: &mut Out) {
        let Some((is_sealed, expected)) = self.chain.under_way else {
            return;
        };
        let height = execution.height;
        let Ok(applied) = self.chain.ledger.finish(execution) else {
            // An application that answers less or more than it was asked is no basis for a vote.
            return self.halt_at(now, height, None, out);
        };
        self.chain.under_way = None;
        let (height, digest) = (applied.block.header.height, applied.digest);
        if let Some(certified) = expected.filter(|certified| *certified != digest) {
            return self.halt_at(now, height, Some(certified), out);
        }
        let batches: Vec<Digest> = applied.block.body.batches().map(BatchRef::digest).collect();
        let transactions = applied.answers.len();
        let bytes = applied.block.body.batches().map(|b| self.bytes_of(b)).sum();
        // A control block is one step like a transaction.
        let is_control = applied.block.body.is_control();
        let ordered = transactions as u64 + u64::from(is_control);
        self.chain.recent.insert(height, (digest, is_sealed));
        self.on_effect(now, &applied, out);
        if is_sealed && plant::is(Plant::EagerPersist) {
            self.seal(now, height, digest, out);
        }
        let register = applied.register.clone();
        out.save(Record::Block(applied.block.clone()));
        out.emit(Event::Applied(Box::new(applied)));
        if let Some(base) = self.chain.ledger.base() {
            out.emit(Event::Snapshot(Box::new(base)));
        }
        if let Some(register) = register {
            self.follow_register(now, height, &register, out);
        }
        self.pool.commit(height, &batches);
        self.pool.expire(height);
        let block = Committed {
            batches: &batches,
            bytes,
            transactions,
        };
        match expected {
            None => self.look_back(now, &block, out),
            Some(_) => self.pool.excuse(), // Fetched: it was ordered without us.
        }
        let faulty = self.view.sizes().f;
        self.catchup.applied(height, faulty);
        if is_sealed {
            self.seal(now, height, digest, out);
        }
        self.certify_reached(now, out);
        if ordered > 0 {
            self.progressed(out);
            self.ordered += ordered;
        }
    }

    /// A block shows how fast the ledger is and whom its leader passes over. Every holder spreads a
    /// batch again before the leader is blamed: he may lack it, or have been told of it by too few.
    fn look_back(&mut self, now: Time, block: &Committed<'_>, out: &mut Out) {
        let patience = self.ordering.timeout();
        let overtaken = self.pool.measure(now, patience, block);
        if self.ordering.has_lost_leader() {
            return self.pool.excuse(); // It hears none of our reminders.
        }
        if self.ordering.is_leading() || self.view.seat_of(&self.options.me).is_none() {
            return;
        }
        for digest in &overtaken.remind {
            if let Some(batch) = self.pool.get(digest) {
                out.send(To::Committee, Message::Batch(batch.bytes.clone()));
            }
        }
        if !overtaken.remind.is_empty() {
            out.send(To::Committee, Message::Held(overtaken.remind));
        }
        if self.passes_over_control(now) || overtaken.is_complaint {
            let (regency, _) = self.ordering.regency();
            self.tell(now, fsm::Command::Complain(regency), out);
        }
    }

    /// Our state contradicts a certificate: nothing is voted any more.
    pub(super) fn halt_at(
        &mut self,
        now: Time,
        height: Height,
        certified: Option<Digest>,
        out: &mut Out,
    ) {
        let ours = self.chain.ledger.tip().clone();
        let certified = certified.unwrap_or_default();
        out.emit(Event::Changed(Change::Halted {
            height,
            ours: Box::new(ours),
            certified,
        }));
        self.tell(now, fsm::Command::Change(fsm::Role::Failed), out);
    }

    /// Leaders propose: at once when nothing is open, else when enough has gathered.
    pub(super) fn lead(&mut self, now: Time, out: &mut Out) {
        while let Some((height, must_close)) = self.ordering.next_height() {
            // What was fetched and executes block by block is ordered, though its certificate is
            // only taken behind its last block: a body of today would have no place down there.
            if height <= self.chain.ledger.height() {
                return;
            }
            if self.handover.is_ending() && !must_close {
                return; // What stands above the view's last block is void.
            }
            let control = self.control_due();
            if self.is_early(control.as_ref(), height) && !must_close {
                return;
            }
            let is_alone = height == self.ordering.decided().next();
            let batches = match control {
                Some(_) => Vec::new(),
                None => self.pool.pick(BLOCK_BYTES_TARGET, usize::MAX),
            };
            let is_worth_it = match batches.is_empty() {
                false => is_alone || self.bytes_of_all(&batches) >= PIPELINE_BYTES,
                true => control.is_some() || is_alone && (self.needs_seal() || self.may_pass()),
            };
            if !is_worth_it && !must_close {
                return;
            }
            let digests: Vec<Digest> = batches.iter().map(BatchRef::digest).collect();
            self.pool.mark_proposed(height, &digests);
            let body = control.unwrap_or(Body::Transactions(batches));
            let (is_control, ends) = (body.is_control(), matches!(body, Body::Reconfiguration(_)));
            let proposal = Proposal {
                version: FORMAT_VERSION,
                chain: *self.view.chain(),
                view: self.view.id(),
                height,
                timestamp_us: now.0.min(ledger::TIMESTAMP_US_MAX),
                // Without backlog nothing follows soon that would seal it.
                is_sealed: !self.pool.has_choice(),
                body,
                carried: self.certificate().cloned(),
            };
            let payload = fsm::Payload {
                digest: proposal.digest(),
                bytes: proposal.to_bytes(),
            };
            assert!(
                payload.bytes.len() <= PROPOSAL_BYTES_MAX,
                "inline batches are bounded"
            );
            self.tell(now, fsm::Command::Propose(height, payload), out);
            if self
                .ordering
                .next_height()
                .is_some_and(|(next, _)| next == height)
            {
                return; // The machine did not take it; it will say when it can.
            }
            self.on_proposed(height, is_control, ends);
        }
    }

    /// Whether the last block has no seal and nothing follows that would cover it: the backlog that
    /// its leader saw went another way.
    pub(super) fn needs_seal(&self) -> bool {
        let tip = self.chain.ledger.height();
        let is_last = tip == self.ordering.decided() && !self.chain.has_pending();
        let is_sealed = self
            .chain
            .recent
            .get(&tip)
            .is_none_or(|(_, sealed)| *sealed);
        tip > self.certified() && is_last && !is_sealed
    }

    fn bytes_of_all(&self, batches: &[BatchRef]) -> usize {
        batches.iter().map(|batch| self.bytes_of(batch)).sum()
    }

    fn bytes_of(&self, batch: &BatchRef) -> usize {
        match batch {
            BatchRef::Named(digest) => self.pool.get(digest).map_or(0, |b| b.bytes.len()),
            BatchRef::Inline(bytes) => bytes.len(),
        }
    }
}

/// The batches that a body names and that must be here.
pub(super) fn named(body: &Body) -> Vec<Digest> {
    let named = body.batches().filter_map(|batch| match batch {
        BatchRef::Named(digest) => Some(*digest),
        BatchRef::Inline(_) => None,
    });
    named.collect()
}

fn names(groups: &[Group]) -> Vec<(PublicKey, u64)> {
    let of = |group: &Group| {
        let client = group.client;
        group
            .transactions
            .iter()
            .map(move |t| (client, t.sequence))
            .collect::<Vec<_>>()
    };
    groups.iter().flat_map(of).collect()
}
