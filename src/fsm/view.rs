//! View generation: from founders to a view that can order, and from one view to the next.
//!
//! Source: the Consortium's view map (BUILD, ESTABLISHED); genesis as settled in `ARCHITECTURE.md`.
//! In: seats that
//! come and go. Out: whether a quorum of the view is connected.
//! Holds: view 0 is formed as soon as q founders are connected, ourselves counted; a view is never
//! unformed, only
//! short of a quorum. Elsewhere: ordering in the view (`normal`, `regency`).
//!
//! ```text
//! forming --q connected--> serving <--q connected-- short
//!                             +------fewer---------> short
//! ```
//!
//! Freeze, assemble, key collection and hand-over are further states of this machine; they come
//! with views that
//! change. The bodies that they order are in their final form in `blocks::body`.

use std::collections::BTreeSet;

use statig::prelude::*;

use crate::committee::{Seat, View};

/// What the view machine is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Links to this seat stand.
    Connected(Seat),
    /// Links to this seat fell.
    Disconnected(Seat),
}

/// Who of the view is connected.
#[derive(Debug)]
pub(super) struct ViewGeneration {
    quorum: usize,
    connected: BTreeSet<Seat>,
}

impl ViewGeneration {
    /// The machine of `view` at `own`, which is connected to itself.
    pub(super) fn new(view: &View, own: Option<Seat>) -> Self {
        Self {
            quorum: view.sizes().q,
            connected: own.into_iter().collect(),
        }
    }

    /// Seats that are connected, ourselves counted.
    pub(super) fn connected(&self) -> usize {
        self.connected.len()
    }

    fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Connected(seat) => self.connected.insert(*seat),
            Event::Disconnected(seat) => self.connected.remove(seat),
        };
        self.connected.len() >= self.quorum
    }
}

#[state_machine(
    initial = "State::forming()",
    state(derive(Debug, Clone, PartialEq, Eq)),
    superstate(derive(Debug))
)]
impl ViewGeneration {
    /// The view has never had a quorum of connected seats here.
    #[state]
    fn forming(&mut self, event: &Event) -> Outcome<State> {
        if self.take(event) {
            Transition(State::serving())
        } else {
            Handled
        }
    }

    /// A quorum is connected.
    #[state]
    fn serving(&mut self, event: &Event) -> Outcome<State> {
        if self.take(event) {
            Handled
        } else {
            Transition(State::short())
        }
    }

    /// Fewer than a quorum are connected: nothing can be ordered until they return.
    #[state]
    fn short(&mut self, event: &Event) -> Outcome<State> {
        if self.take(event) {
            Transition(State::serving())
        } else {
            Handled
        }
    }
}

impl State {
    /// The state as people read it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            State::Forming {} => "forming",
            State::Serving {} => "serving",
            State::Short {} => "short",
        }
    }
}
