//! The timers of one machine, earliest first.
//!
//! Source: `machine.rs`. In: arms and cancels. Out: timers that have run out.
//! Holds: one deadline per timer; arming again replaces it.
//! Elsewhere: the clock (`driver`).

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::{Span, Time};

/// Armed timers.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    deadlines: BTreeMap<T, Time>,
    order: BTreeSet<(Time, T)>,
}

impl<T: Ord + Clone> Timers<T> {
    /// None is armed.
    pub(crate) fn new() -> Self {
        Self {
            deadlines: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Runs `timer` out at `after` from `now`.
    pub(crate) fn arm(&mut self, now: Time, timer: T, after: Span) {
        self.cancel(&timer);
        let deadline = now + after;
        self.order.insert((deadline, timer.clone()));
        self.deadlines.insert(timer, deadline);
    }

    /// Forgets `timer`.
    pub(crate) fn cancel(&mut self, timer: &T) {
        if let Some(deadline) = self.deadlines.remove(timer) {
            self.order.remove(&(deadline, timer.clone()));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.order.first().map(|(deadline, _)| *deadline)
    }

    /// Takes one timer that has run out at `now`.
    pub(crate) fn due(&mut self, now: Time) -> Option<T> {
        self.next().filter(|deadline| *deadline <= now)?;
        let (_, timer) = self.order.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }
}
