//! View generation: from founders to a view that can order, and from one view to the next.
//!
//! Source: the Consortium's view map (BUILD, ASSEMBLE, ESTABLISHED); the order of steps as settled
//! in `ARCHITECTURE.md`. In: seats that come and go, what the ledger says of the next committee,
//! keys that its members offer. Out: whether a quorum is connected, when a key is asked for, the
//! seats that a leader may order.
//! Holds: keys count for the newest assemble block alone, the first of each member and each but
//! once; countdowns are blocks, never seconds; nothing leads out of `over`.
//! Elsewhere: ordering in the view (`normal`, `regency`), who is named and when a committee is due
//! (`consortium::ledger`), secrets and their end (the driver).
//!
//! Every pair of state and event has an outcome; those that change the state are:
//!
//! ```text
//! forming    --connected-->    serving       q are connected for the first time
//! forming    --assembled-->    assembling    ... or blocks came from elsewhere
//! serving    --assembled-->    assembling    an assemble block names the next committee
//! assembling --key-->          ready         every key is here
//! assembling --applied-->      ready         the countdown is over, and n - f are here
//! ready      --assembled-->    assembling    another assemble block took its place
//! forming    --reconfigured--> ending        the last block of the view, here and below
//! serving    --reconfigured--> ending
//! assembling --reconfigured--> ending
//! ready      --reconfigured--> ending
//! ending     --certified-->    over          its certificate is durable
//! ```

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "`_ => Super` is how statig says: my superstate decides"
)]

use std::collections::{BTreeMap, BTreeSet};

use statig::prelude::*;

use crate::blocks::body::NextSeat;
use crate::blocks::{Call, NextKey};
use crate::committee::{Height, KeyProof, MemberId, Seat, Sizes, View};
use crate::plant::{self, Plant};

/// What an assemble block asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembly {
    /// What keys are made for.
    pub call: Call,
    /// Who is named, by seat.
    pub committee: Vec<MemberId>,
    /// The height up to which all keys are waited for; from there on n − f are enough.
    pub patience: Height,
}

/// What the view machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Links to this seat stand.
    Connected(Seat),
    /// Links to this seat fell.
    Disconnected(Seat),
    /// An assemble block was applied.
    Assembled(Assembly),
    /// A member's fresh key; its proofs hold.
    Key(NextKey),
    /// A block was applied.
    Applied(Height),
    /// The reconfiguration block was applied: the view has its last height.
    Reconfigured,
    /// The certificate of the reconfiguration block is durable.
    Certified,
}

/// Who of the view is connected, and what is there of the next one.
#[derive(Debug)]
pub(super) struct ViewGeneration {
    sizes: Sizes,
    /// Who votes in the view that is to end: of them at most f carry their keys over.
    seated: BTreeSet<MemberId>,
    connected: BTreeSet<Seat>,
    assembly: Option<Assembly>,
    /// Fresh keys of named members; at most one each.
    keys: BTreeMap<MemberId, KeyProof>,
}

impl ViewGeneration {
    /// The machine of `view` at `own`, which is connected to itself.
    pub(super) fn new(view: &View, own: Option<Seat>) -> Self {
        Self {
            sizes: view.sizes(),
            seated: view.seats().iter().map(|seat| seat.member).collect(),
            connected: own.into_iter().collect(),
            assembly: None,
            keys: BTreeMap::new(),
        }
    }

    /// Seats that are connected, ourselves counted.
    pub(super) fn connected(&self) -> usize {
        self.connected.len()
    }

    /// Whether a quorum is connected.
    pub(super) fn has_quorum(&self) -> bool {
        self.connected.len() >= self.sizes.q
    }

    /// What keys are made for now.
    pub(super) fn assembly(&self) -> Option<&Assembly> {
        self.assembly.as_ref()
    }

    /// Keys that are here, and how many are asked for.
    pub(super) fn keys(&self) -> (usize, usize) {
        let named = self.assembly.as_ref().map_or(0, |a| a.committee.len());
        (self.keys.len(), named)
    }

    /// The seats of the next view as far as keys are here; a member without one carries its
    /// certified key over.
    pub(super) fn seats(&self) -> Vec<NextSeat> {
        let committee = self.assembly.iter().flat_map(|a| &a.committee);
        let seat = |member: &MemberId| NextSeat {
            member: *member,
            fresh: self.keys.get(member).copied(),
        };
        committee.map(seat).collect()
    }

    fn begin(&mut self, assembly: &Assembly) -> State {
        assert!(!assembly.committee.is_empty(), "somebody is named");
        self.keys.clear();
        self.assembly = Some(assembly.clone());
        State::assembling()
    }

    /// Takes a key for the assembly; the first of a member counts, and of members that give the
    /// same one the first.
    fn take(&mut self, key: &NextKey) {
        let member = key.member();
        let is_asked = self.assembly.as_ref().is_some_and(|a| {
            let is_called = a.call == key.call || plant::is(Plant::AnyCall);
            is_called && a.committee.contains(&member)
        });
        let is_taken = self.keys.values().any(|proof| proof.key == key.proof.key);
        if is_asked && !is_taken {
            self.keys.entry(member).or_insert(key.proof);
        }
    }

    fn has_all(&self) -> bool {
        let (here, named) = self.keys();
        here == named
    }

    /// Whether the keys that are here make a view: n − f fresh ones, and no more carried over than
    /// the hand-over bears.
    fn has_enough(&self) -> bool {
        let seats = self.seats();
        let next = Sizes::of(seats.len());
        let carriers = seats.iter().filter(|seat| seat.fresh.is_none());
        let carried = carriers.filter(|seat| self.seated.contains(&seat.member));
        let lacks = usize::from(plant::is(Plant::FewFreshKeys));
        let is_fresh = self.keys.len() + lacks >= next.n - next.f;
        is_fresh && carried.count() <= next.f.min(self.sizes.f) + lacks
    }
}

#[state_machine(
    initial = "State::forming()",
    state(derive(Debug, Clone, PartialEq, Eq)),
    superstate(derive(Debug))
)]
impl ViewGeneration {
    /// The view has never had a quorum of connected seats here.
    #[state(superstate = "open")]
    fn forming(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::Connected(seat) => {
                self.connected.insert(*seat);
                if self.has_quorum() {
                    Transition(State::serving())
                } else {
                    Handled
                }
            }
            _ => Super,
        }
    }

    /// Nothing of the next view is known.
    #[state(superstate = "open")]
    fn serving() -> Outcome<State> {
        Super
    }

    /// The members that are named send their fresh keys.
    #[state(superstate = "open")]
    fn assembling(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::Key(key) => {
                self.take(key);
                if self.has_all() {
                    Transition(State::ready())
                } else {
                    Handled
                }
            }
            Event::Applied(height) => {
                let patience = self.assembly.as_ref().map(|a| a.patience);
                let is_over = patience.is_some_and(|patience| *height >= patience);
                if is_over && self.has_enough() {
                    Transition(State::ready())
                } else {
                    Handled
                }
            }
            _ => Super,
        }
    }

    /// The keys that are here make a view, and a leader may order it; later ones are taken too.
    #[state(superstate = "open")]
    fn ready(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::Key(key) => {
                self.take(key);
                Handled
            }
            _ => Super,
        }
    }

    /// The last block of the view is applied; its certificate is still to come.
    #[state(superstate = "linked")]
    fn ending(event: &Event) -> Outcome<State> {
        match event {
            Event::Certified => Transition(State::over()),
            _ => Super,
        }
    }

    /// The next view is proved: nothing is signed in this one any more.
    #[state(superstate = "linked")]
    fn over() -> Outcome<State> {
        Super
    }

    #[superstate(superstate = "linked")]
    fn open(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::Assembled(assembly) => Transition(self.begin(assembly)),
            Event::Reconfigured => Transition(State::ending()),
            _ => Super,
        }
    }

    #[superstate]
    fn linked(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::Connected(seat) => {
                self.connected.insert(*seat);
            }
            Event::Disconnected(seat) => {
                self.connected.remove(seat);
            }
            // Of no state that waits for it.
            Event::Assembled(_) | Event::Key(_) | Event::Applied(_) => {}
            Event::Reconfigured | Event::Certified => {}
        }
        Handled
    }
}

impl State {
    /// Whether a leader may order the reconfiguration.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self, State::Ready {})
    }

    /// The state as people read it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            State::Forming {} => "forming",
            State::Serving {} => "serving",
            State::Assembling {} => "assembling",
            State::Ready {} => "ready",
            State::Ending {} => "ending",
            State::Over {} => "over",
        }
    }
}
