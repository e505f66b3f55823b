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

/// What the leaders of the last regencies were able to order.
#[derive(Debug)]
pub(super) struct Guard {
    /// Regencies that are remembered.
    turns: u64,
    interval: Span,
    /// The present interval: its beginning, and what was ordered in it.
    since: Option<Time>,
    ordered: u64,
    /// The best rate per regency, in transactions per 1000 seconds.
    best: BTreeMap<Regency, u64>,
}

impl Guard {
    /// A guard of a committee with `turns` leaders that looks once in an `interval`.
    pub(super) fn new(turns: usize, interval: Span) -> Self {
        Self {
            turns: turns as u64,
            interval,
            since: None,
            ordered: 0,
            best: BTreeMap::new(),
        }
    }

    /// So many transactions were ordered, the slowest height of them in `lap`, while the oldest
    /// that is left has waited for `oldest`. Whether the leader of `regency` is too slow.
    pub(super) fn is_slow(
        &mut self,
        now: Time,
        regency: Regency,
        ordered: u64,
        (lap, oldest): (Span, Span),
    ) -> bool {
        if oldest.0 < lap.0.saturating_mul(STANDING) {
            self.rest(); // It keeps up with what there is.
            return false;
        }
        let Some(since) = self.since else {
            self.since = Some(now);
            return false;
        };
        self.ordered += ordered;
        let passed = now - since;
        if passed < self.interval {
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
        if is_slow {
            self.interval = Span(self.interval.0.saturating_mul(2));
        }
        is_slow
    }
}
