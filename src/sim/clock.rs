//! A member's clock: ahead or behind, fast or slow, and it may jump.
//!
//! Source: the fault matrix, clocks. In: the world's time. Out: the member's.
//! Holds: within one life it never goes back, as the contract of machines asks; a jump back stands
//! still. Elsewhere: when it jumps (`trouble`).

use crate::machine::{Span, Time};

/// One million.
const MILLION: i64 = 1_000_000;

/// A clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// How far it is ahead, in microseconds.
    ahead_us: i64,
    /// How much faster it runs, in millionths.
    drift: i64,
    /// What it showed last in this life.
    last: u64,
}

impl Clock {
    /// A clock that is ahead and runs fast from the world's `beginning` on.
    pub(super) fn new(ahead_us: i64, drift: i64, beginning: u64) -> Self {
        // What it gained since the epoch is not what it gains in the world.
        let gained = signed(beginning) / MILLION * drift;
        let ahead_us = ahead_us - gained;
        Self {
            ahead_us,
            drift,
            last: 0,
        }
    }

    /// A life begins.
    pub(super) fn start(&mut self) {
        self.last = 0;
    }

    /// What it shows at `now`.
    pub(super) fn read(&mut self, now: u64) -> Time {
        let now = signed(now);
        let shown = now + now / MILLION * self.drift + self.ahead_us;
        self.last = self.last.max(u64::try_from(shown).unwrap_or_default());
        Time(self.last)
    }

    /// How long `span` takes in the world's time.
    pub(super) fn lasts(&self, span: Span) -> u64 {
        let span = signed(span.0);
        let shorter = span.saturating_mul(self.drift) / MILLION;
        u64::try_from(span.saturating_sub(shorter)).unwrap_or_default()
    }

    /// It jumps.
    pub(super) fn jump(&mut self, by_us: i64) {
        self.ahead_us += by_us;
    }
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}
