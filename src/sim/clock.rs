//! A member's clock: ahead or behind, fast or slow, and it may jump.
//!
//! Source: the fault matrix, clocks. In: the world's time. Out: the member's.
//! Holds: within one life it never jumps, as `node` reads the wall clock at its start and then one
//! that only goes on. Elsewhere: when it jumps (`trouble`).

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
    /// How far the wall clock jumped since the member started.
    jumped_us: i64,
}

impl Clock {
    /// A clock that is ahead and runs fast from the world's `beginning` on.
    pub(super) fn new(ahead_us: i64, drift: i64, beginning: u64) -> Self {
        // What it gained since the epoch is not what it gains in the world.
        let gained = gain(signed(beginning), drift);
        let ahead_us = ahead_us - gained;
        Self {
            ahead_us,
            drift,
            jumped_us: 0,
        }
    }

    /// A life begins: the wall clock is read.
    pub(super) fn start(&mut self) {
        self.ahead_us += std::mem::take(&mut self.jumped_us);
    }

    /// What it shows at `now`.
    pub(super) fn read(&self, now: u64) -> Time {
        let now = signed(now);
        let shown = now + gain(now, self.drift) + self.ahead_us;
        Time(u64::try_from(shown).unwrap_or_default())
    }

    /// How long `span` takes in the world's time.
    pub(super) fn lasts(&self, span: Span) -> u64 {
        let span = signed(span.0);
        let shorter = span.saturating_mul(self.drift) / MILLION;
        u64::try_from(span.saturating_sub(shorter)).unwrap_or_default()
    }

    /// The wall clock jumps.
    pub(super) fn jump(&mut self, by_us: i64) {
        self.jumped_us += by_us;
    }
}

/// What a clock gains in `us`: less than that, so it never goes back.
fn gain(us: i64, drift: i64) -> i64 {
    let (seconds, rest) = (us / MILLION, us % MILLION);
    seconds * drift + rest * drift / MILLION
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}
