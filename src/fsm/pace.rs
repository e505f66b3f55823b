//! How long to wait for progress before the leader is replaced.
//!
//! Source: settled timers: measured, agreed at a regency change, doubled without progress, decaying
//! with it.
//! In: progress and timeouts. Out: a span. Holds: between the least and the most; never counts
//! requests.
//! Elsewhere: when the timer runs (`regency`).

use crate::machine::{Span, Time};

/// Bounds of the progress timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceOptions {
    /// What a fresh view starts with.
    pub first: Span,
    /// Never less.
    pub least: Span,
    /// Never more.
    pub most: Span,
}

/// The progress timeout.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    options: PaceOptions,
    timeout: Span,
    /// Mean and deviation of the time between two steps of progress, in microseconds.
    mean_us: u64,
    deviation_us: u64,
    last: Option<Time>,
}

impl Pace {
    pub(super) fn new(options: PaceOptions) -> Self {
        Self {
            options,
            timeout: options.first,
            mean_us: 0,
            deviation_us: 0,
            last: None,
        }
    }

    /// The present timeout.
    pub(super) fn timeout(&self) -> Span {
        self.timeout
    }

    /// The decided prefix grew: the estimate follows, the timeout decays towards it.
    pub(super) fn progress(&mut self, now: Time) {
        if let Some(last) = self.last.replace(now) {
            let sample = (now - last).0;
            let error = sample.abs_diff(self.mean_us);
            // Jacobson's weights: 1/8 for the mean, 1/4 for the deviation.
            self.mean_us = (self.mean_us * 7 + sample) / 8;
            self.deviation_us = (self.deviation_us * 3 + error) / 4;
        }
        let estimate = self.mean_us + 4 * self.deviation_us;
        let decayed = self.timeout.0 / 10 * 9;
        self.timeout = self.clamp(decayed.max(estimate));
    }

    /// Work begins at `now`: the pause before it is no sample, the time to its first progress is.
    pub(super) fn begin(&mut self, now: Time) {
        self.last = Some(now);
    }

    /// A regency passed without progress.
    pub(super) fn double(&mut self) {
        self.timeout = self.clamp(self.timeout.0.saturating_mul(2));
    }

    /// The regency change agreed on a value.
    pub(super) fn adopt(&mut self, timeout_us: u64) {
        self.timeout = self.clamp(timeout_us);
        self.last = None;
    }

    fn clamp(&self, us: u64) -> Span {
        Span(us.clamp(self.options.least.0, self.options.most.0))
    }
}
