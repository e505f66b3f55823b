//! The guard against leaders that are slow on purpose: alive enough for the timer, and no more.
//!
//! Source: Aardvark (NSDI 2009) and Prime, as settled for this project. In: what was ordered, and
//! whether work stood waiting. Out: whether the leader is to be complained of.
//! Holds: only intervals in which a backlog stood from end to end are compared; at most one
//! complaint per interval, and each doubles the interval, so a view that lasts a time t has at
//! most log2(t / interval) of them and ends with a leader for good.
//! Elsewhere: leaders that do nothing at all (`pace`), what a complaint leads to (`regency`).

use std::collections::BTreeMap;

use crate::committee::Regency;
use crate::machine::{Span, Time};

/// A leader orders at least so many hundredths of the best rate of the last n regencies.
const SHARE_PERCENT: u64 = 80;
/// A backlog stands where the oldest work has waited this many times as long as the block that was
/// just ordered took from its first word on: that block could have held it.
const STANDING: u64 = 2;

/// The first interval, in timeouts.
const TIMEOUTS: u64 = 8;

/// One step of the decided prefix, as the guard looks at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Transactions and control blocks in it.
    pub(super) ordered: u64,
    /// What its slowest height took.
    pub(super) lap: Span,
    /// How long the oldest work that is left has waited.
    pub(super) oldest: Span,
    /// The present timeout.
    pub(super) timeout: Span,
}

/// What the leaders of the last regencies were able to order.
#[derive(Debug)]
pub(super) struct Guard {
    /// Regencies that are remembered.
    turns: u64,
    /// How often we complained, so how often the interval has doubled.
    complaints: u32,
    /// The present interval: its beginning, and what was ordered in it.
    since: Option<Time>,
    ordered: u64,
    /// The best rate per regency, in transactions per 1000 seconds.
    best: BTreeMap<Regency, u64>,
}

impl Guard {
    /// A guard of a committee with `turns` leaders.
    pub(super) fn new(turns: usize) -> Self {
        Self {
            turns: turns as u64,
            complaints: 0,
            since: None,
            ordered: 0,
            best: BTreeMap::new(),
        }
    }

    /// Whether the leader of `regency`, who ordered `step`, is too slow.
    pub(super) fn is_slow(&mut self, now: Time, regency: Regency, step: &Step) -> bool {
        if step.oldest.0 < step.lap.0.saturating_mul(STANDING) {
            self.rest(); // It keeps up with what there is.
            return false;
        }
        let Some(since) = self.since else {
            self.since = Some(now);
            return false;
        };
        self.ordered += step.ordered;
        let passed = now - since;
        let doubled = TIMEOUTS.saturating_mul(1 << self.complaints.min(32));
        if passed.0 < step.timeout.0.saturating_mul(doubled) {
            return false;
        }
        let rate = self.ordered.saturating_mul(1_000_000_000) / passed.0.max(1);
        self.rest();
        self.since = Some(now);
        self.judge(regency, rate)
    }

    /// No backlog, or another leader: what was counted is not compared.
    pub(super) fn rest(&mut self) {
        self.since = None;
        self.ordered = 0;
    }

    fn judge(&mut self, regency: Regency, rate: u64) -> bool {
        let oldest = Regency(regency.0.saturating_sub(self.turns));
        self.best = self.best.split_off(&oldest);
        let own = self.best.entry(regency).or_default();
        *own = rate.max(*own);
        let best = self.best.values().copied().max().unwrap_or_default();
        let is_slow = rate.saturating_mul(100) < best.saturating_mul(SHARE_PERCENT);
        self.complaints += u32::from(is_slow);
        is_slow
    }
}
