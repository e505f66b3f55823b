//! The clock of the driver: never goes back, starts at the wall clock.
//!
//! Source: `machine.rs`. In: the system's clocks. Out: [`Time`] since the Unix epoch.
//! Holds: it grows as the monotonic clock does, whatever happens to the wall clock.
//! Elsewhere: virtual time (`sim`).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::machine::Time;

/// A clock that never goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    base: Time,
}

impl Clock {
    /// Starts at the wall clock.
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            start: Instant::now(),
            base: Time(micros(since.unwrap_or_default())),
        }
    }

    /// Now.
    pub(crate) fn now(&self) -> Time {
        Time(self.base.0 + micros(self.start.elapsed()))
    }

    /// How long until `deadline`.
    pub(crate) fn until(&self, deadline: Time) -> Duration {
        Duration::from_micros((deadline - self.now()).0)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
