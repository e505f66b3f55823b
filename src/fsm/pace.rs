//! How long to wait for progress before the leader is replaced.
//!
//! Source: settled timers: measured, agreed at a regency change, doubled without progress, decaying
//! with it; Jacobson's estimator. In: laps, ends of regencies. Out: a span.
//! Holds: between the least and the most; never counts requests; a wait that turned out too short
//! is a lap like any other, so the same false alarm is not raised for ever.
//! Elsewhere: when the timer runs (`regency`), what the next regency starts with (`sync`).

use std::collections::VecDeque;

use crate::machine::{Span, Time};
use crate::plant::{self, Plant};

/// Laps that are remembered.
const LAPS_MAX: usize = 100;
/// So many times the slowest of ninety-nine in a hundred laps are waited for, at least.
const MARGIN: u64 = 3;
/// STOP-DATA, SYNC, PROPOSE, WRITE and ACCEPT travel after STOP before anything is ordered; with
/// what disks take between them it is so many times what STOP took.
const CHANGE_STEPS: u64 = 8;
/// One change makes the timeout so many times what it was, at most: our own asking may have stood
/// alone for long.
const GROWTH_MAX: u64 = 16;

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

/// The progress timeout, and what it was learnt from.
///
/// A lap is what one step of the decided prefix took: since the step before it or since work began,
/// or, where that is more, since the first word of the slowest height in it. So several heights
/// that one late message decides at once count as one slow lap and not as many short ones, and
/// what disks and execution took is in every lap.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    options: PaceOptions,
    timeout: Span,
    /// Mean and deviation of laps in microseconds; none before the first.
    smooth: Option<(u64, u64)>,
    laps: VecDeque<u64>,
    /// When the present lap began.
    since: Option<Time>,
    /// Whether this regency has ordered anything.
    is_fruitful: bool,
}

impl Pace {
    pub(super) fn new(options: PaceOptions) -> Self {
        Self {
            timeout: options.first,
            options,
            smooth: None,
            laps: VecDeque::new(),
            since: None,
            is_fruitful: false,
        }
    }

    /// The present timeout.
    pub(super) fn timeout(&self) -> Span {
        self.timeout
    }

    /// Work begins at `now`: the rest before it is no lap.
    pub(super) fn begin(&mut self, now: Time) {
        self.since = Some(now);
    }

    /// There was no quorum until `until`: the wait before it tells nothing of a leader.
    pub(super) fn excuse(&mut self, until: Time) {
        self.since = self.since.map(|since| since.max(until));
    }

    /// Something was ordered, by decisions made here of which the slowest took `slowest`: the
    /// timeout decays towards the estimate. Blocks that were fetched from others come without and
    /// end a lap that was none: whoever was cut off would take its absence for the leader's.
    pub(super) fn progress(&mut self, now: Time, slowest: Option<Span>) {
        let since = self.since.replace(now);
        let Some(slowest) = slowest else {
            return;
        };
        let lap = since.map_or(Span(0), |since| now - since);
        // A regency's first step is no lap: its leader orders what others left, with bytes that it
        // may have to fetch, and one such step would make the wait for the next dead leader long.
        if std::mem::replace(&mut self.is_fruitful, true) {
            self.learn(lap.max(slowest));
        }
        let decayed = self.timeout.0 / 10 * 9;
        self.timeout = self.clamp(decayed.max(self.estimate()));
    }

    /// The regency is replaced; between our asking for it and q doing so passed `change`.
    ///
    /// The next is given twice as long: its leader has to collect claims and to order what has
    /// gathered meanwhile; where this helps, the timeout decays again. If the last one had ordered
    /// anything, the wait that led to this is a lap: were it a false alarm, that was too short. It
    /// was none where the leader `was_silent` when we asked: the dead teach nothing about pace. A
    /// change takes as long as STOPs travel, so on links that have become slow one is enough to
    /// learn how slow.
    pub(super) fn ended(&mut self, now: Time, change: Span, was_silent: bool) {
        let before = self.timeout.0;
        let teaches = self.is_fruitful && !was_silent;
        if let Some(since) = self.since.take().filter(|_| teaches) {
            self.learn(now - since);
        }
        let travelled = change.0.saturating_mul(CHANGE_STEPS);
        let travelled = travelled.min(before.saturating_mul(GROWTH_MAX));
        let doubled = before.saturating_mul(2);
        self.timeout = self.clamp(doubled.max(self.estimate()).max(travelled));
        self.is_fruitful = false;
    }

    /// The regency change agreed on a value. Who has seen slower laps than the others waits for as
    /// long as it has learnt to.
    pub(super) fn adopt(&mut self, timeout_us: u64) {
        self.timeout = self.clamp(timeout_us.max(self.estimate()));
    }

    fn learn(&mut self, lap: Span) {
        let lap = lap.0;
        // Jacobson's weights: 1/8 for the mean, 1/4 for the deviation, and his beginning.
        self.smooth = Some(match self.smooth {
            None => (lap, lap / 2),
            Some((mean, deviation)) => {
                let error = lap.abs_diff(mean);
                ((mean * 7 + lap) / 8, (deviation * 3 + error) / 4)
            }
        });
        if self.laps.len() == LAPS_MAX {
            self.laps.pop_front();
        }
        self.laps.push_back(lap);
    }

    /// What was measured says to wait for so long: mean and four deviations, or three times the lap
    /// that ninety-nine in a hundred do not exceed.
    fn estimate(&self) -> u64 {
        let (mean, deviation) = self.smooth.unwrap_or_default();
        let mut laps: Vec<u64> = self.laps.iter().copied().collect();
        laps.sort_unstable();
        let rank = (laps.len() * 99).div_ceil(100);
        let slow = rank.checked_sub(1).map_or(0, |index| laps[index]);
        (mean + 4 * deviation).max(MARGIN * slow)
    }

    fn clamp(&self, us: u64) -> Span {
        let most = match plant::is(Plant::FlatTimeout) {
            true => self.timeout,
            false => self.options.most,
        };
        Span(us.clamp(self.options.least.0, most.0))
    }
}
