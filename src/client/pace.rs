//! How long silence lasts before another member is asked.
//!
//! Source: RFC 6298. In: times that answers took. Out: a timeout in milliseconds.
//! Holds: between [`TIMEOUT_MS_MIN`] and [`TIMEOUT_MS_MAX`]; doubles with each silence until an
//! answer comes. Elsewhere: who is asked (`roster`).

use std::time::Duration;

/// No timeout is shorter, in milliseconds.
pub const TIMEOUT_MS_MIN: u64 = 250;
/// No timeout is longer, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 10_000;
/// The timeout before anything was measured, in milliseconds.
const TIMEOUT_MS_FIRST: u64 = 2_000;

/// The smoothed time of answers and its spread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    /// Mean and spread in milliseconds, once something was measured.
    measured: Option<(f64, f64)>,
    /// Silences since the last answer.
    doublings: u32,
}

impl Pace {
    /// An answer took `took`.
    pub(crate) fn answered(&mut self, took: Duration) {
        let ms = took.as_secs_f64() * 1_000.0;
        self.doublings = 0;
        self.measured = Some(match self.measured {
            None => (ms, ms / 2.0),
            Some((mean, spread)) => (
                0.875 * mean + 0.125 * ms,
                0.75 * spread + 0.25 * (mean - ms).abs(),
            ),
        });
    }

    /// Nothing came in time.
    pub(crate) fn silent(&mut self) {
        self.doublings = (self.doublings + 1).min(8);
    }

    /// How long to wait now.
    pub(crate) fn timeout(&self) -> Duration {
        let base = match self.measured {
            None => TIMEOUT_MS_FIRST,
            // Saturating: a float beyond the range becomes its end.
            Some((mean, spread)) => (mean + 4.0 * spread) as u64,
        };
        let base = base.clamp(TIMEOUT_MS_MIN, TIMEOUT_MS_MAX);
        Duration::from_millis((base << self.doublings).min(TIMEOUT_MS_MAX))
    }
}
