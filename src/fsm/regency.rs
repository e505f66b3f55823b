//! Regency change: replaces a leader that stopped ordering.
//!
//! Source: Bessani et al., Mod-SMaRt, synchronisation phase. In: progress timeouts, STOP,
//! STOP-DATA, SYNC.
//! Out: the same messages, the progress timer, the new leader's bound proposals.
//! Holds: the installed regency never decreases; nothing is voted between STOP-DATA and SYNC; STOP
//! promises nothing.
//! Elsewhere: what a SYNC settles (`sync`), how long to wait (`pace`), who is in the committee
//! (`committee`).
//!
//! ```text
//! steady --timeout / f+1 STOPs--> stopping --q STOPs--> awaiting --SYNC--> steady
//!    ^                               |                     ^ |
//!    +----------progress-------------+        (leader) collecting --n-f STOP-DATA--> steady
//! ```

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "`_ => Super` is how statig says: my superstate decides"
)]

use std::collections::BTreeMap;

use statig::prelude::*;

use super::core::Scene;
use super::message::{Message, Stop, Sync};
use super::pace::{Pace, PaceOptions};
use super::sync::{is_proved, needed, settle};
use super::{Event as Told, Timer};
use crate::committee::{Certificate, Regency, Seat, StopData};

/// What the regency machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The progress timer of a regency ran out.
    Timeout(Regency),
    /// A seat asks for a regency.
    Stop(Seat, Regency),
    /// A seat's claims.
    StopData(StopData, Vec<Certificate>),
    /// A leader's set.
    Sync(Sync),
    /// The decided prefix grew by a block that is not empty.
    Progress,
    /// Whether there is work that a leader should order.
    Work(bool),
    /// What was sent may be lost.
    Resend,
    /// A seat stands below the regency whose SYNC we hold.
    Lags(Seat),
}

/// The progress timer, the STOPs and the claims.
#[derive(Debug)]
pub(super) struct RegencyChange {
    /// What each seat asks for; its newest word counts, so a STOP can be taken back.
    stops: BTreeMap<Seat, Regency>,
    /// What we ask for ourselves.
    asked: Regency,
    /// The newest claims of each seat, for a regency that we lead or may come to lead.
    data: BTreeMap<Seat, (StopData, Vec<Certificate>)>,
    /// The SYNC that started the installed regency, for those who missed it.
    held: Option<Sync>,
    pace: Pace,
    is_armed: bool,
    /// Events that had no place in their state.
    pub(super) ignored: u64,
}

impl RegencyChange {
    pub(super) fn new(options: PaceOptions) -> Self {
        Self {
            stops: BTreeMap::new(),
            asked: Regency(0),
            data: BTreeMap::new(),
            held: None,
            pace: Pace::new(options),
            is_armed: false,
            ignored: 0,
        }
    }
}

#[state_machine(
    initial = "State::steady()",
    state(derive(Debug, Clone, PartialEq, Eq)),
    superstate(derive(Debug))
)]
impl RegencyChange {
    /// The regency is installed and synchronised.
    #[state(superstate = "listening")]
    fn steady(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::Timeout(regency) if *regency == context.core.regency => {
                self.is_armed = false;
                self.pace.double();
                self.ask(context.core.regency.next(), context);
                self.count(context, State::stopping())
            }
            Event::Progress => {
                self.pace.progress(context.now);
                self.rearm(context);
                Handled
            }
            _ => Super,
        }
    }

    /// We asked for the next regency and go on voting in this one.
    #[state(superstate = "listening")]
    fn stopping(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::Timeout(regency) if *regency == context.core.regency => {
                self.is_armed = false;
                self.pace.double();
                self.say_stop(context);
                self.arm(context);
                Handled
            }
            // The leader was slow, not dead: the STOP is taken back.
            Event::Progress => {
                self.asked = context.core.regency;
                self.say_stop(context);
                self.pace.progress(context.now);
                self.rearm(context);
                Transition(State::steady())
            }
            _ => Super,
        }
    }

    /// Installed; waits for the leader's SYNC.
    #[state(superstate = "changing")]
    fn awaiting() -> Outcome<State> {
        Super
    }

    /// Installed, and the leader is ourselves: waits for n − f claims.
    #[state(superstate = "changing")]
    fn collecting(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::StopData(data, proofs) => {
                self.keep(data, proofs);
                self.try_sync(context)
            }
            _ => Super,
        }
    }

    #[superstate(superstate = "listening")]
    fn changing(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            // No SYNC in time: the next leader is tried, after twice as long.
            Event::Timeout(regency) if *regency == context.core.regency => {
                self.is_armed = false;
                self.pace.double();
                self.ask(context.core.regency.next(), context);
                self.arm(context);
                self.count_in_place(context)
            }
            Event::Resend => {
                self.say_stop(context);
                self.say_stop_data(context);
                Handled
            }
            Event::Progress => Handled,
            _ => Super,
        }
    }

    #[superstate]
    fn listening(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::Stop(seat, regency) => {
                self.stops.insert(*seat, *regency);
                self.count_in_place(context)
            }
            Event::StopData(data, proofs) => {
                self.keep(data, proofs);
                Handled
            }
            Event::Sync(sync) => self.on_sync(sync.clone(), context),
            Event::Lags(seat) => {
                if let Some(sync) = self.held.clone() {
                    context.send_to(*seat, Message::Sync(sync));
                }
                Handled
            }
            Event::Work(has_work) => {
                self.on_work(*has_work, context);
                Handled
            }
            Event::Resend => {
                if self.asked > context.core.regency {
                    self.say_stop(context);
                }
                Handled
            }
            Event::Timeout(_) => {
                self.ignored += 1; // Of a regency that ended.
                Handled
            }
            Event::Progress => Handled,
        }
    }

    fn on_work(&mut self, has_work: bool, context: &mut Scene<'_>) {
        if context.core.seat().is_none() {
            return; // Who has no seat replaces nobody.
        }
        let is_asking = self.asked > context.core.regency;
        let is_open = context.core.has_open() || !context.core.is_synchronised;
        let must_run = has_work || is_open || is_asking;
        match (must_run, self.is_armed) {
            (true, false) => {
                self.pace.begin(context.now);
                self.arm(context);
            }
            (false, true) => {
                self.is_armed = false;
                context.out.cancel(Timer::Progress(context.core.regency));
            }
            (true, true) | (false, false) => {}
        }
    }

    fn arm(&mut self, context: &mut Scene<'_>) {
        self.is_armed = true;
        context
            .out
            .arm(Timer::Progress(context.core.regency), self.pace.timeout());
    }

    fn rearm(&mut self, context: &mut Scene<'_>) {
        if self.is_armed {
            self.arm(context);
        }
    }

    fn ask(&mut self, regency: Regency, context: &mut Scene<'_>) {
        self.asked = self.asked.max(regency);
        self.say_stop(context);
    }

    /// Says what we ask for; our own word counts like another's.
    fn say_stop(&mut self, context: &mut Scene<'_>) {
        let Some(seat) = context.core.seat() else {
            return;
        };
        self.stops.insert(seat, self.asked);
        let stop = Stop {
            view: context.core.view.id(),
            regency: self.asked,
            seat,
        };
        context.send(Message::Stop(stop));
    }

    /// The highest regency that at least `count` seats ask for or for more.
    fn wanted_by(&self, count: usize) -> Regency {
        let mut asked: Vec<Regency> = self.stops.values().copied().collect();
        asked.sort_unstable_by(|a, b| b.cmp(a));
        asked.get(count - 1).copied().unwrap_or_default()
    }

    fn count_in_place(&mut self, context: &mut Scene<'_>) -> Outcome<State> {
        let before = self.asked;
        match self.counted(context) {
            Some(state) => Transition(state),
            // Joined: steady becomes stopping, a change under way stays what it is.
            None if self.asked > before && context.core.is_synchronised => {
                // A STOP may be lost: it is said again while this timer runs.
                if !self.is_armed {
                    self.arm(context);
                }
                Transition(State::stopping())
            }
            None => Handled,
        }
    }

    fn count(&mut self, context: &mut Scene<'_>, otherwise: State) -> Outcome<State> {
        if !self.is_armed {
            self.arm(context);
        }
        Transition(self.counted(context).unwrap_or(otherwise))
    }

    /// f + 1 STOPs make us join: one is from a correct seat, so no liar starts a change alone. q
    /// install.
    fn counted(&mut self, context: &mut Scene<'_>) -> Option<State> {
        context.core.seat()?;
        let sizes = context.core.view.sizes();
        let joined = self.wanted_by(sizes.f + 1);
        if joined > self.asked && joined > context.core.regency {
            self.ask(joined, context);
        }
        let installed = self.wanted_by(sizes.q);
        (installed > context.core.regency).then(|| self.install(installed, context))
    }

    /// Installs a regency durably and claims what we hold to its leader.
    fn install(&mut self, regency: Regency, context: &mut Scene<'_>) -> State {
        assert!(regency > context.core.regency, "a regency never goes back");
        context.out.cancel(Timer::Progress(context.core.regency));
        let (claims, proofs) = context.core.claims(regency);
        let base = context.core.base.as_ref();
        let base = base.map_or(Default::default(), |c| (c.ballot.height, c.ballot.digest));
        let timeout_us = self.pace.timeout().0;
        let voter = context
            .core
            .voter
            .as_mut()
            .expect("only a seat counts STOPs");
        let (records, data) = voter
            .stop(regency, base, timeout_us, claims)
            .expect("claims are bounded, by height, and of regencies below an uninstalled one");
        context.save(records);
        context.core.enter(regency, false);
        self.held = None;
        self.data.retain(|_, (held, _)| held.regency >= regency);
        self.arm(context);
        context.arm_resend();
        context.out.emit(Told::Regency(regency, false));
        self.keep(&data, &proofs);
        if context.core.seat() == Some(context.core.leader()) {
            // Claims that came before we installed may make the set already.
            return match self.set(context) {
                Some(sync) => {
                    context.send(Message::Sync(sync.clone()));
                    self.start(sync, context).unwrap_or(State::collecting())
                }
                None => State::collecting(),
            };
        }
        let leader = context.core.leader();
        context.send_to(leader, Message::StopData(data, proofs));
        State::awaiting()
    }

    /// Resends our claims byte for byte.
    fn say_stop_data(&mut self, context: &mut Scene<'_>) {
        let Some(own) = context.core.seat() else {
            return;
        };
        let leader = context.core.leader();
        let held = self
            .data
            .get(&own)
            .filter(|(data, _)| data.regency == context.core.regency);
        if let Some((data, proofs)) = held.filter(|_| leader != own) {
            context.send_to(leader, Message::StopData(data.clone(), proofs.clone()));
        }
    }

    /// Keeps a seat's newest claims; one without all its certificates counts for nothing.
    fn keep(&mut self, data: &StopData, proofs: &[Certificate]) {
        let is_newer = self
            .data
            .get(&data.seat)
            .is_none_or(|(h, _)| h.regency < data.regency);
        if is_newer && is_proved(data, proofs) {
            self.data.insert(data.seat, (data.clone(), proofs.to_vec()));
        }
    }

    fn try_sync(&mut self, context: &mut Scene<'_>) -> Outcome<State> {
        let Some(sync) = self.set(context) else {
            return Handled;
        };
        context.send(Message::Sync(sync.clone()));
        self.start(sync, context).map_or(Handled, Transition)
    }

    /// The SYNC, once n − f seats have claimed.
    fn set(&self, context: &Scene<'_>) -> Option<Sync> {
        let (count, regency) = (Sync::set_len(&context.core.view), context.core.regency);
        let fitting = self.data.values().filter(|(data, _)| data.is_for(regency));
        let chosen: Vec<_> = fitting.take(count).collect();
        if chosen.len() < count {
            return None;
        }
        let set: Vec<StopData> = chosen.iter().map(|(data, _)| data.clone()).collect();
        let all: Vec<Certificate> = chosen
            .iter()
            .flat_map(|(_, proofs)| proofs.clone())
            .collect();
        let proofs = needed(&set, &all);
        Some(Sync {
            view: context.core.view.id(),
            regency,
            set,
            proofs,
        })
    }

    fn on_sync(&mut self, sync: Sync, context: &mut Scene<'_>) -> Outcome<State> {
        let core = &context.core;
        let is_old =
            sync.regency < core.regency || (sync.regency == core.regency && core.is_synchronised);
        if is_old {
            self.ignored += 1;
            return Handled;
        }
        // Who sent a void one is not known here: a true set may have been stripped of its proofs on
        // the way.
        self.start(sync, context).map_or(Handled, Transition)
    }

    /// Starts the regency from what its SYNC settles; nothing when the SYNC is void.
    fn start(&mut self, sync: Sync, context: &mut Scene<'_>) -> Option<State> {
        let settled = settle(&sync, &context.core.view).ok()?;
        let regency = sync.regency;
        if let Some(voter) = &mut context.core.voter {
            let records = voter.install(regency);
            context.save(records);
        }
        context.out.cancel(Timer::Progress(context.core.regency));
        context.core.enter(regency, true);
        context.core.bound = settled.bound;
        context.resume_votes();
        self.asked = self.asked.max(regency);
        self.held = Some(sync);
        self.pace.adopt(settled.timeout_us);
        self.is_armed = false; // Armed again as soon as there is work.
        context.arm_resend();
        context.out.emit(Told::Regency(regency, true));
        if let Some(base) = settled
            .base
            .filter(|b| b.ballot.height > context.core.certified())
        {
            context.out.emit(Told::Behind(base));
        }
        context.propose_bound();
        Some(State::steady())
    }
}

impl State {
    /// The state as people read it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            State::Steady {} => "steady",
            State::Stopping {} => "stopping",
            State::Awaiting {} => "awaiting",
            State::Collecting {} => "collecting",
        }
    }
}
