//! Regency change: replaces a leader that stopped ordering.
//!
//! Source: Bessani et al., Mod-SMaRt, synchronisation phase. In: timeouts, complaints, STOP,
//! STOP-DATA, SYNC. Out: the same messages, the progress timer, the new leader's bound proposals.
//! Holds: the installed regency never decreases; nothing is voted between STOP-DATA and SYNC; STOP
//! promises nothing. Elsewhere: who asks for what (`stops`), the claims (`collect`), what a SYNC
//! settles (`sync`), how long to wait (`pace`), leaders that are slow on purpose (`guard`).
//!
//! Every pair of state and event has an outcome; those that change the state are:
//!
//! ```text
//! steady     --timeout-->   stopping     nothing was ordered in time, and nobody is ahead of us
//! steady     --timeout-->   awaiting     ... and with ours q ask for it
//! steady     --timeout-->   collecting
//! steady     --complain-->  stopping     a transaction was overtaken too often
//! steady     --complain-->  awaiting
//! steady     --complain-->  collecting
//! steady     --progress-->  stopping     the guard finds the leader slow
//! steady     --progress-->  awaiting
//! steady     --progress-->  collecting
//! steady     --stop-->      stopping     f + 1 ask: we join
//! steady     --stop-->      awaiting     q ask: the regency is installed
//! steady     --stop-->      collecting   ... and we lead it
//! steady     --resend-->    awaiting     a restart found the regency installed
//! steady     --resend-->    collecting
//! stopping   --stop-->      awaiting
//! stopping   --stop-->      collecting
//! stopping   --timeout-->   steady       others are ahead: we lag, the leader does not
//! stopping   --progress-->  steady       the leader was slow, not dead
//! stopping   --work-->      steady       those whom we joined have taken it back
//! stopping   --sync-->      steady       the others changed without us
//! awaiting   --sync-->      steady
//! awaiting   --timeout-->   collecting   no SYNC came; the next regency is ours
//! awaiting   --stop-->      collecting
//! collecting --stop-data--> steady       n - f claims: our SYNC
//! collecting --sync-->      steady       our own from before a restart, or a later one
//! collecting --timeout-->   awaiting
//! collecting --stop-->      awaiting
//! collecting --stop-->      steady       claims for a later regency that is ours were here already
//! ```

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "`_ => Super` is how statig says: my superstate decides"
)]

use statig::prelude::*;

use super::collect::Collected;
use super::core::Scene;
use super::guard::Guard;
use super::message::{Message, Stop, Sync};
use super::pace::Pace;
use super::stops::Stops;
use super::sync::settle;
use super::{Event as Told, Options, Timer};
use crate::committee::{Certificate, Regency, Seat, StopData, View, Voter};
use crate::machine::{Span, Time};

/// A complaint stands for so many timeouts, though blocks flow; others have seen the same by then.
const COMPLAINT_TIMEOUTS: u64 = 8;
/// The guard's first interval, in first timeouts.
const GUARD_TIMEOUTS: u64 = 8;

/// What the regency machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The progress timer of a regency ran out.
    Timeout(Regency),
    /// The pool complains of the leader of a regency.
    Complain(Regency),
    /// A seat asks for a regency.
    Stop(Seat, Regency),
    /// A seat's claims.
    StopData(StopData, Vec<Certificate>),
    /// A leader's set.
    Sync(Sync),
    /// So much was ordered, and the oldest of what is left has waited so long.
    Progress(u64, Span),
    /// Whether there is work that a leader should order.
    Work(bool),
    /// We may sign from now on: what was asked for meanwhile counts.
    Cleared,
    /// What was sent may be lost: the resend timer ran out, or we have just started.
    Resend,
}

/// The progress timer runs in two halves: after the first we ask where the others stand, as the
/// paper's first timeout forwards requests, and after the second we ask for the next leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Off,
    First,
    Second,
}

/// The progress timer, the STOPs and the claims.
#[derive(Debug)]
pub(super) struct RegencyChange {
    stops: Stops,
    collected: Collected,
    pace: Pace,
    guard: Guard,
    watch: Watch,
    /// The last regency of whose leader we complained: once is enough.
    complained: Option<Regency>,
    /// Until when our STOP stands though blocks flow.
    insists_until: Time,
    /// Events that had no place in their state.
    pub(super) ignored: u64,
}

impl RegencyChange {
    pub(super) fn new(view: &View, options: &Options) -> Self {
        let interval = Span(options.pace.first.0.saturating_mul(GUARD_TIMEOUTS));
        Self {
            stops: Stops::new(options.resend),
            collected: Collected::default(),
            pace: Pace::new(options.pace),
            guard: Guard::new(view.sizes().n, interval),
            watch: Watch::Off,
            complained: None,
            insists_until: Time(0),
            ignored: 0,
        }
    }

    /// The present timeout.
    pub(super) fn timeout(&self) -> Span {
        self.pace.timeout()
    }
}

#[state_machine(
    initial = "State::steady()",
    state(derive(Debug, Clone, PartialEq, Eq)),
    superstate(derive(Debug))
)]
impl RegencyChange {
    /// The regency is installed and synchronised.
    #[state(superstate = "synchronised")]
    fn steady(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            // Paper, second timeout of a request: ⟨STOP, reg + 1⟩. Design, "Timers watch progress":
            // who lags behind f + 1 others catches up and complains of nobody.
            Event::Timeout(regency) if *regency == context.core.regency => {
                if self.is_first_half(context) || context.core.is_behind() {
                    return Handled;
                }
                self.ask(context.core.regency.next(), context);
                self.count(context, Some(State::stopping()))
            }
            // Design, "Timers watch progress": an overtaken transaction counts like a timeout.
            Event::Complain(regency) if *regency == context.core.regency => self.complain(context),
            // Design, "Slow-but-alive leaders are rotated by a guard".
            Event::Progress(ordered, oldest) => {
                if self.progress(*ordered, *oldest, context) {
                    return self.complain(context);
                }
                Handled
            }
            // Design, "A member resends its STOP, and once installed its STOP-DATA".
            Event::Resend if !context.core.is_synchronised => Transition(self.resume(context)),
            _ => Super,
        }
    }

    /// We asked for the next regency and go on voting in this one.
    #[state(superstate = "synchronised")]
    fn stopping(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::Timeout(regency) if *regency == context.core.regency => {
                if !self.is_first_half(context) && context.core.is_behind() {
                    return self.take_back(context);
                }
                self.say_stop(context);
                Handled
            }
            Event::Complain(regency) if *regency == context.core.regency => {
                self.insist(context);
                Handled
            }
            // Design, "STOP alone promises nothing": the leader was slow, not dead.
            Event::Progress(ordered, oldest) => {
                self.progress(*ordered, *oldest, context);
                if context.now < self.insists_until {
                    return Handled;
                }
                self.take_back(context)
            }
            Event::Work(has_work) => {
                self.on_work(*has_work, context);
                let f1 = context.core.view.sizes().f + 1;
                let others = self.stops.wanted_by(f1, context.core.seat(), context.now);
                let is_called_for = *has_work
                    || context.core.has_open()
                    || others > context.core.regency
                    || context.now < self.insists_until;
                if is_called_for {
                    return Handled;
                }
                self.take_back(context)
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
            // Paper: the new leader collects n − f STOP-DATA and sends SYNC.
            Event::StopData(data, proofs) => {
                self.collected.keep(data, proofs);
                self.try_sync(context).map_or(Handled, Transition)
            }
            _ => Super,
        }
    }

    #[superstate(superstate = "listening")]
    fn changing(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            // Design, "Timers watch progress": no SYNC in time, so the next leader is tried.
            Event::Timeout(regency) if *regency == context.core.regency => {
                if self.is_first_half(context) {
                    self.say_again(context);
                    return Handled;
                }
                self.ask(context.core.regency.next(), context);
                self.count(context, None)
            }
            Event::Resend => {
                self.say_again(context);
                Handled
            }
            _ => Super,
        }
    }

    #[superstate(superstate = "listening")]
    fn synchronised(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            // Who still claims for this regency has not seen its SYNC.
            Event::StopData(data, _) if data.regency <= context.core.regency => {
                context.give_sync(data.seat);
                Handled
            }
            Event::Resend => {
                if context.core.asked > context.core.regency {
                    self.say_stop(context);
                }
                Handled
            }
            _ => Super,
        }
    }

    #[superstate]
    fn listening(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::Stop(seat, regency) => {
                self.stops.hear(*seat, *regency, context.now);
                let joined = context.core.is_synchronised.then(State::stopping);
                let before = context.core.asked;
                self.join(context);
                let has_joined = context.core.asked > before;
                self.count(context, joined.filter(|_| has_joined))
            }
            Event::StopData(data, proofs) => {
                self.collected.keep(data, proofs);
                Handled
            }
            Event::Cleared => self.count(context, None),
            // Paper: every replica recomputes what the set settles and resumes.
            Event::Sync(sync) => self.on_sync(sync.clone(), context),
            Event::Work(has_work) => {
                self.on_work(*has_work, context);
                Handled
            }
            // Of a regency that ended, or while it is being replaced.
            Event::Timeout(_) | Event::Complain(_) | Event::Progress(..) | Event::Resend => {
                self.ignored += 1;
                Handled
            }
        }
    }

    /// Learns from what was ordered and watches for more; whether the leader is too slow.
    fn progress(&mut self, ordered: u64, oldest: Span, context: &mut Scene<'_>) -> bool {
        let slowest = context.core.slowest.take();
        self.pace.progress(context.now, slowest);
        if self.watch != Watch::Off {
            self.arm(context);
        }
        let (regency, laps) = (context.core.regency, (slowest.unwrap_or_default(), oldest));
        let is_slow = self.guard.is_slow(context.now, regency, ordered, laps);
        is_slow && !context.core.is_leading()
    }

    fn on_work(&mut self, has_work: bool, context: &mut Scene<'_>) {
        if context.core.seat().is_none() {
            return; // Who has no seat replaces nobody.
        }
        let is_asking = context.core.asked > context.core.regency;
        let is_open = context.core.has_open() || !context.core.is_synchronised;
        if has_work || is_open || is_asking {
            self.watch(context);
        } else if self.watch != Watch::Off {
            self.unwatch(context);
        }
    }

    fn watch(&mut self, context: &mut Scene<'_>) {
        if self.watch == Watch::Off {
            self.pace.begin(context.now);
            self.arm(context);
        }
    }

    fn unwatch(&mut self, context: &mut Scene<'_>) {
        self.watch = Watch::Off;
        let timer = Timer::Progress(context.core.regency);
        context.out.cancel(timer);
    }

    fn arm(&mut self, context: &mut Scene<'_>) {
        self.arm_half(Watch::First, context);
    }

    fn arm_half(&mut self, half: Watch, context: &mut Scene<'_>) {
        self.watch = half;
        let after = Span(self.pace.timeout().0.div_ceil(2));
        let timer = Timer::Progress(context.core.regency);
        context.out.arm(timer, after);
    }

    /// The timer ran out: after its first half we ask where the others stand and wait on; after
    /// the second it runs anew, whatever comes of it.
    fn is_first_half(&mut self, context: &mut Scene<'_>) -> bool {
        let is_first = self.watch == Watch::First;
        if is_first {
            context.ask_all();
        }
        let next = if is_first {
            Watch::Second
        } else {
            Watch::First
        };
        self.arm_half(next, context);
        is_first
    }

    /// Complains of the leader, once in its regency.
    fn complain(&mut self, context: &mut Scene<'_>) -> Outcome<State> {
        if !self.insist(context) {
            return Handled;
        }
        self.ask(context.core.regency.next(), context);
        self.count(context, Some(State::stopping()))
    }

    fn insist(&mut self, context: &Scene<'_>) -> bool {
        let regency = Some(context.core.regency);
        let is_first = self.complained.replace(context.core.regency) != regency;
        if is_first && context.core.seat().is_some() {
            let stands = Span(self.pace.timeout().0.saturating_mul(COMPLAINT_TIMEOUTS));
            self.insists_until = context.now + stands;
        }
        is_first && context.core.seat().is_some()
    }

    fn ask(&mut self, regency: Regency, context: &mut Scene<'_>) {
        context.core.asked = context.core.asked.max(regency);
        self.say_stop(context);
        context.arm_resend();
    }

    fn take_back(&mut self, context: &mut Scene<'_>) -> Outcome<State> {
        context.core.asked = context.core.regency;
        self.say_stop(context);
        Transition(State::steady())
    }

    /// Says what we ask for; our own word counts like another's.
    fn say_stop(&mut self, context: &mut Scene<'_>) {
        let Some(seat) = context.core.seat() else {
            return;
        };
        let regency = context.core.asked;
        self.stops.hear(seat, regency, context.now);
        context.send(Message::Stop(Stop {
            view: context.core.view.id(),
            regency,
            seat,
        }));
    }

    fn say_again(&mut self, context: &mut Scene<'_>) {
        self.say_stop(context);
        self.say_stop_data(context);
    }

    /// Sends the leader our claims, byte for byte what they were before.
    fn say_stop_data(&mut self, context: &mut Scene<'_>) {
        let leader = context.core.leader();
        let own = context.core.seat().filter(|own| *own != leader);
        let held = own.and_then(|own| self.collected.message(own, context.core.regency));
        if let Some(message) = held {
            context.send_to(leader, message);
        }
    }

    /// Paper: f + 1 STOPs make us join; one is from a correct seat, so no liar starts a change
    /// alone.
    fn join(&mut self, context: &mut Scene<'_>) {
        let f1 = context.core.view.sizes().f + 1;
        let joined = self.stops.wanted_by(f1, None, context.now);
        let is_new = joined > context.core.asked.max(context.core.regency);
        if is_new && context.core.seat().is_some() {
            self.ask(joined, context);
        }
    }

    /// Paper: q STOPs install; with fewer the state is `otherwise`, or stays what it is.
    fn count(&mut self, context: &mut Scene<'_>, otherwise: Option<State>) -> Outcome<State> {
        let q = context.core.view.sizes().q;
        let wanted = self.stops.wanted_by(q, None, context.now);
        // STOP-DATA is a promise: none is made before others have said what they hold of ours.
        let may_promise = context.core.seat().is_some() && context.core.is_cleared();
        if wanted > context.core.regency && may_promise {
            return Transition(self.install(wanted, context));
        }
        if otherwise.is_some() {
            self.watch(context);
        }
        otherwise.map_or(Handled, Transition)
    }

    /// Installs a regency durably and claims what we hold to its leader.
    fn install(&mut self, regency: Regency, context: &mut Scene<'_>) -> State {
        assert!(regency > context.core.regency, "a regency never goes back");
        self.unwatch(context);
        self.pace.ended(context.now);
        self.guard.rest();
        let (claims, proofs) = context.core.claims(regency);
        let base = context.core.base.as_ref();
        let base = base.map_or(Default::default(), |c| (c.ballot.height, c.ballot.digest));
        let timeout_us = self.pace.timeout().0;
        let voter = context.core.voter.as_mut();
        let (records, data) = voter
            .expect("only a seat counts STOPs")
            .stop(regency, base, timeout_us, claims, proofs.clone())
            .expect("claims are bounded, by height, and of regencies below an uninstalled one");
        context.save(records);
        context.core.enter(regency, false);
        context.core.asked = context.core.asked.max(regency);
        self.collected.forget_below(regency);
        self.collected.keep(&data, &proofs);
        context.out.emit(Told::Regency(regency, false));
        self.gather(context)
    }

    /// Our own STOP-DATA of before a restart counts as it did, and is said again.
    fn resume(&mut self, context: &mut Scene<'_>) -> State {
        let voter = context.core.voter.as_ref();
        if let Some((data, proofs)) = voter.and_then(Voter::stop_data) {
            self.collected.keep(data, proofs);
        }
        self.say_stop(context);
        self.gather(context)
    }

    /// Waits for the SYNC of the installed regency, or for what it is made of. Claims that came
    /// before we installed may make the set already.
    fn gather(&mut self, context: &mut Scene<'_>) -> State {
        self.arm(context);
        context.arm_resend();
        if context.core.seat() != Some(context.core.leader()) {
            self.say_stop_data(context);
            return State::awaiting();
        }
        self.try_sync(context).unwrap_or(State::collecting())
    }

    fn try_sync(&mut self, context: &mut Scene<'_>) -> Option<State> {
        let (view, regency) = (&context.core.view, context.core.regency);
        let sync = self.collected.sync(view, regency)?;
        context.send(Message::Sync(sync.clone()));
        self.start(sync, context)
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
        self.unwatch(context); // It runs again as soon as there is work.
        if regency > context.core.regency {
            self.pace.ended(context.now);
            self.guard.rest();
        }
        context.core.enter(regency, true);
        context.core.bound = settled.bound;
        context.core.sync = Some(sync);
        context.resume_votes();
        self.pace.adopt(settled.timeout_us);
        // The leader whom we gave up while we waited is there after all.
        let has_given_up = context.core.asked > regency;
        context.core.asked = regency;
        if has_given_up {
            self.say_stop(context);
        }
        context.arm_resend();
        context.out.emit(Told::Regency(regency, true));
        let base = settled.base;
        if let Some(base) = base.filter(|b| b.ballot.height > context.core.certified()) {
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
