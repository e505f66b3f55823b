//! How long a group would wait: what this member refuses before a progress timer could see it.
//!
//! Source: admission by the predicted sojourn, W = Q/μ + what every transaction takes. In: applied
//! blocks, what waits. Out: a prediction.
//! Holds: integers only and of one size; whatever was measured, a member with nothing of its own
//! under way admits; an overload that ends is forgotten with its backlog.
//! Elsewhere: how much a pool may hold at all (`own`), the timeout (`fsm`).
//!
//! μ is what leaves per second while something waits all along. A ledger that has no backlog shows
//! what is asked of it and not what it can do, so such a stretch raises μ and never lowers it: one
//! that was slow and admits little since is found out by the little that it does in no time.
//! The rest, batch delay, round trips, sync and execution, is not added up from guesses: it is the
//! part of the sojourn of our own batches that the queue before them does not explain.

use super::own::Weight;
use crate::crypto::Digest;
use crate::machine::{Span, Time};

/// What one transaction costs beside its bytes, in bytes: its signature, its receipt, its answer.
const TRANSACTION_COST: u64 = 256;
/// The rate before anything was measured, in cost per second: a machine that does less is found out
/// by its first stretch under load.
const RATE_FIRST: u64 = 4 << 20;
/// Stretches shorter than this are no measure of a rate: blocks come in bursts.
const STRETCH: Span = Span::from_ms(50);
/// The longest prediction: what is worse is as bad.
const WAIT_MAX: Span = Span::from_ms(60_000);

/// What ordering and executing an amount of transactions costs, in bytes.
pub(super) fn cost(weight: Weight) -> u64 {
    weight.bytes as u64 + TRANSACTION_COST * weight.transactions as u64
}

/// A stretch of time from one block to a later one.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    since: Time,
    /// What left the pool in it.
    cost: u64,
    /// Whether something waited all along, and after each of its blocks as much again.
    is_loaded: bool,
}

/// One own batch whose sojourn is measured.
#[derive(Clone, Copy, Debug)]
struct Probe {
    batch: Digest,
    since: Time,
    /// What stood before it.
    queue: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// μ, in cost per second.
    rate: u64,
    /// What a transaction takes though nothing stands before it.
    base: Span,
    stretch: Option<Stretch>,
    probe: Option<Probe>,
}

impl Load {
    /// Nothing measured.
    pub(super) fn new() -> Self {
        Self {
            rate: RATE_FIRST,
            base: Span(0),
            stretch: None,
            probe: None,
        }
    }

    /// A block of `cost` was applied at `now`; `left` still waits.
    pub(super) fn applied(&mut self, now: Time, cost: u64, left: u64) {
        let Some(stretch) = &mut self.stretch else {
            // What stood before this block is not known to have stood all along.
            self.stretch = Some(Stretch::begin(now, left));
            return;
        };
        stretch.cost = stretch.cost.saturating_add(cost);
        stretch.is_loaded &= left > 0 && left >= cost;
        let (sample, span) = (*stretch, now - stretch.since);
        if span >= STRETCH {
            self.stretch = Some(Stretch::begin(now, left));
            self.measured(
                sample.cost.saturating_mul(1_000_000) / span.0,
                sample.is_loaded,
            );
        }
    }

    /// A higher rate is believed at once, a lower one by a quarter and under load alone.
    fn measured(&mut self, sample: u64, is_loaded: bool) {
        if sample >= self.rate {
            self.rate = sample;
        } else if is_loaded {
            self.rate = (self.rate - (self.rate - sample) / 4).max(1);
        }
    }

    /// An own batch leaves for the others behind `queue`; one at a time is measured.
    pub(super) fn sent(&mut self, batch: Digest, since: Time, queue: u64) {
        if self.probe.is_none() {
            self.probe = Some(Probe {
                batch,
                since,
                queue,
            });
        }
    }

    /// An own batch was applied at `now`.
    pub(super) fn arrived(&mut self, now: Time, batch: &Digest) {
        if let Some(probe) = self.probe.take_if(|probe| probe.batch == *batch) {
            let sojourn = now - probe.since;
            let rest = sojourn.0.saturating_sub(self.drain(probe.queue).0);
            let rest = rest.min(WAIT_MAX.0);
            self.base = match self.base {
                Span(0) => Span(rest),
                Span(base) if rest < base => Span(base.midpoint(rest)),
                Span(base) => Span((base * 7 + rest) / 8),
            };
        }
    }

    /// An own batch left in a way that says nothing of how long it takes.
    pub(super) fn lost(&mut self, batch: &Digest) {
        self.probe.take_if(|probe| probe.batch == *batch);
    }

    /// The leader changed: a pause that is its own measures neither.
    pub(super) fn interrupt(&mut self) {
        (self.stretch, self.probe) = (None, None);
    }

    fn drain(&self, queue: u64) -> Span {
        let us = queue.saturating_mul(1_000_000) / self.rate;
        Span(us.min(WAIT_MAX.0))
    }

    /// How long what comes behind `queue` would wait until it is applied.
    pub(super) fn wait(&self, queue: u64) -> Span {
        Span(self.drain(queue).0 + self.base.0)
    }
}

impl Stretch {
    fn begin(now: Time, left: u64) -> Self {
        Self {
            since: now,
            cost: 0,
            is_loaded: left > 0,
        }
    }
}
