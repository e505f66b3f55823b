//! The acts of a regency change.
//!
//! Source: Bessani et al., Mod-SMaRt, synchronisation phase; each act names its step. In: what a
//! transition of `regency` asks for. Out: STOP, STOP-DATA, SYNC, the progress timer, the state.
//! Holds: what is claimed is durable before it leaves; a regency is installed once.
//! Elsewhere: which event leads to which act (`regency`).

use statig::prelude::*;

use super::core::Scene;
use super::guard::Step;
use super::message::{Message, Stop, Sync};
use super::regency::{RegencyChange, State, Watch};
use super::sync::settle;
use super::{Event as Told, Timer};
use crate::committee::{Regency, Voter};
use crate::machine::Span;
use crate::plant::{self, Plant};

/// A complaint stands for so many timeouts, though blocks flow; others have seen the same by then.
const COMPLAINT_TIMEOUTS: u64 = 8;

impl RegencyChange {
    /// Learns from what was ordered and watches for more; whether the leader is too slow.
    pub(super) fn progress(&mut self, ordered: u64, oldest: Span, context: &mut Scene<'_>) -> bool {
        let slowest = context.core.slowest.take();
        self.pace
            .excuse(context.core.presence.short_until(context.now));
        self.pace.progress(context.now, slowest);
        if self.watch != Watch::Off {
            self.arm(context);
        }
        let step = Step {
            ordered,
            lap: slowest.unwrap_or_default(),
            oldest,
            timeout: self.pace.timeout(),
        };
        let regency = context.core.regency;
        let is_slow = self.guard.is_slow(context.now, regency, &step);
        is_slow && !context.core.is_leading()
    }

    pub(super) fn on_work(&mut self, has_work: bool, context: &mut Scene<'_>) {
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

    pub(super) fn watch(&mut self, context: &mut Scene<'_>) {
        if self.watch == Watch::Off {
            self.pace.begin(context.now);
            self.arm(context);
        }
    }

    pub(super) fn unwatch(&mut self, context: &mut Scene<'_>) {
        self.watch = Watch::Off;
        let timer = Timer::Progress(context.core.regency);
        context.out.cancel(timer);
    }

    pub(super) fn arm(&mut self, context: &mut Scene<'_>) {
        self.arm_half(Watch::First, context);
    }

    pub(super) fn arm_half(&mut self, half: Watch, context: &mut Scene<'_>) {
        self.watch = half;
        let after = self.half(context);
        self.due = context.now + after;
        context
            .out
            .arm(Timer::Progress(context.core.regency), after);
    }

    /// Half of the timeout. While no link to the leader stands it runs twice as fast: fewer than
    /// f + 1 seats replace nobody, and without f + 1 a leader of 3f + 1 or 3f + 2 seats has no
    /// quorum. One of 3f + 3 may have just a quorum left and is replaced as it would be later.
    fn half(&self, context: &Scene<'_>) -> Span {
        let is_lost = context.core.presence.has_lost(context.core.leader());
        let parts = if is_lost { 4 } else { 2 };
        Span(self.pace.timeout().0.div_ceil(parts))
    }

    /// Links to the leader fell: what is left of the present half is cut short. A link that stands
    /// again gives nothing back, so that a leader that lets it flap gains no time.
    pub(super) fn hurry(&mut self, context: &mut Scene<'_>) {
        let is_on = self.watch != Watch::Off && context.core.seat().is_some();
        if is_on && context.now + self.half(context) < self.due {
            self.arm_half(self.watch, context);
        }
    }

    /// Half of the timer ran out: after the first we ask where the others stand and wait on; after
    /// the second it runs anew, whatever comes of it. Gives whether it was the first.
    pub(super) fn pass_half(&mut self, context: &mut Scene<'_>) -> bool {
        let is_first = self.watch == Watch::First;
        if is_first {
            self.questioned_at = context.now;
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
    pub(super) fn complain(&mut self, context: &mut Scene<'_>) -> Outcome<State> {
        if !self.insist(context) {
            return Handled;
        }
        self.ask(context.core.regency.next(), context);
        self.count(context, Some(State::Stopping {}))
    }

    pub(super) fn insist(&mut self, context: &Scene<'_>) -> bool {
        let regency = Some(context.core.regency);
        let is_first = self.complained.replace(context.core.regency) != regency;
        if is_first && context.core.seat().is_some() {
            let stands = Span(self.pace.timeout().0.saturating_mul(COMPLAINT_TIMEOUTS));
            self.insists_until = context.now + stands;
        }
        is_first && context.core.seat().is_some()
    }

    pub(super) fn ask(&mut self, regency: Regency, context: &mut Scene<'_>) {
        if regency > context.core.asked {
            context.core.asked = regency;
            self.asked_at = context.now;
        }
        self.say_stop(context);
        context.arm_resend();
    }

    pub(super) fn take_back(&mut self, context: &mut Scene<'_>) -> Outcome<State> {
        context.core.asked = context.core.regency;
        self.say_stop(context);
        Transition(State::Steady {})
    }

    /// Says what we ask for; our own word counts like another's.
    pub(super) fn say_stop(&mut self, context: &mut Scene<'_>) {
        let Some(seat) = context.core.seat() else {
            return;
        };
        let regency = context.core.asked;
        if plant::is(Plant::StopOnce) && self.stops.has_heard(seat, regency) {
            return;
        }
        self.stops.hear(seat, regency, context.now);
        context.send(Message::Stop(Stop {
            view: context.core.view.id(),
            regency,
            seat,
        }));
    }

    pub(super) fn say_again(&mut self, context: &mut Scene<'_>) {
        self.say_stop(context);
        self.say_stop_data(context);
    }

    /// Sends the leader our claims, byte for byte what they were before.
    pub(super) fn say_stop_data(&mut self, context: &mut Scene<'_>) {
        let leader = context.core.leader();
        let own = context.core.seat().filter(|own| *own != leader);
        let held = own.and_then(|own| self.collected.message(own, context.core.regency));
        if let Some(message) = held {
            context.send_to(leader, message);
        }
    }

    /// Paper: f + 1 STOPs make us join; one is from a correct seat, so no liar starts a change
    /// alone.
    pub(super) fn join(&mut self, context: &mut Scene<'_>) {
        let f1 = match plant::is(Plant::EagerJoin) {
            true => 1,
            false => context.core.view.sizes().f + 1,
        };
        let joined = self.stops.wanted_by(f1, None, context.now);
        let is_new = joined > context.core.asked.max(context.core.regency);
        if is_new && context.core.seat().is_some() {
            self.ask(joined, context);
        }
    }

    /// Paper: q STOPs install; with fewer the state is `otherwise`, or stays what it is.
    pub(super) fn count(
        &mut self,
        context: &mut Scene<'_>,
        otherwise: Option<State>,
    ) -> Outcome<State> {
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
    pub(super) fn install(&mut self, regency: Regency, context: &mut Scene<'_>) -> State {
        assert!(regency > context.core.regency, "a regency never goes back");
        self.unwatch(context);
        let is_asked = context.core.asked > context.core.regency;
        let short_until = context.core.presence.short_until(context.now);
        let since = self.asked_at.max(short_until);
        let took = is_asked.then(|| context.now - since);
        self.end(took.unwrap_or_default(), context);
        let (claims, proofs) = context.core.claims(regency);
        let base = context.core.base.as_ref();
        let opening = context.core.view.opening();
        let opening = (opening.height, opening.digest);
        let base = base.map_or(opening, |c| (c.ballot.height, c.ballot.digest));
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
        self.collected.keep(&data, &proofs, &context.core.view);
        context.out.emit(Told::Regency(regency, false));
        self.gather(context)
    }

    /// The regency is over; replacing its leader took `change`.
    fn end(&mut self, change: Span, context: &Scene<'_>) {
        let was_silent = context.core.leader_heard < self.questioned_at;
        self.pace
            .excuse(context.core.presence.short_until(context.now));
        self.pace.ended(context.now, change, was_silent);
        self.guard.rest();
    }

    /// Our own STOP-DATA of before a restart counts as it did, and is said again.
    pub(super) fn resume(&mut self, context: &mut Scene<'_>) -> State {
        let voter = context.core.voter.as_ref();
        if let Some((data, proofs)) = voter.and_then(Voter::stop_data) {
            self.collected.keep(data, proofs, &context.core.view);
        }
        self.say_stop(context);
        self.gather(context)
    }

    /// Waits for the SYNC of the installed regency, or for what it is made of. Claims that came
    /// before we installed may make the set already.
    pub(super) fn gather(&mut self, context: &mut Scene<'_>) -> State {
        self.arm(context);
        context.arm_resend();
        if context.core.seat() != Some(context.core.leader()) {
            self.say_stop_data(context);
            return State::Awaiting {};
        }
        self.try_sync(context).unwrap_or(State::Collecting {})
    }

    pub(super) fn try_sync(&mut self, context: &mut Scene<'_>) -> Option<State> {
        let (view, regency) = (&context.core.view, context.core.regency);
        let sync = self.collected.sync(view, regency)?;
        context.send(Message::Sync(sync.clone()));
        self.start(sync, context)
    }

    pub(super) fn on_sync(&mut self, sync: Sync, context: &mut Scene<'_>) -> Outcome<State> {
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
    pub(super) fn start(&mut self, sync: Sync, context: &mut Scene<'_>) -> Option<State> {
        let settled = settle(&sync, &context.core.view).ok()?;
        let regency = sync.regency;
        if let Some(voter) = &mut context.core.voter {
            let records = voter.install(regency);
            context.save(records);
        }
        self.unwatch(context); // It runs again as soon as there is work.
        if regency > context.core.regency {
            self.end(Span(0), context);
        }
        context.core.enter(regency, true);
        context.core.bind(settled.bound);
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
        Some(State::Steady {})
    }
}
