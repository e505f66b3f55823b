//! Regency change: replaces a leader that stopped ordering.
//!
//! Source: Bessani et al., Mod-SMaRt, synchronisation phase. In: timeouts, complaints, STOP,
//! STOP-DATA, SYNC. Out: the same messages, the progress timer, the new leader's bound proposals.
//! Holds: the installed regency never decreases; nothing is voted between STOP-DATA and SYNC; STOP
//! promises nothing. Elsewhere: who asks for what (`stops`), the claims (`collect`), what a SYNC
//! settles (`sync`), how long to wait (`pace`), slow leaders (`guard`), the acts that the
//! transitions name (`change`).
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
//! stopping   --stop-->      steady       ... where claims for it were here already, as below
//! stopping   --timeout-->   steady       others are ahead: we lag, the leader does not
//! stopping   --progress-->  steady       the leader was slow, not dead
//! stopping   --work-->      steady       those whom we joined have taken it back
//! stopping   --sync-->      steady       the others changed without us
//! awaiting   --sync-->      steady
//! awaiting   --timeout-->   collecting   no SYNC came; the next regency is ours
//! awaiting   --timeout-->   steady
//! awaiting   --stop-->      collecting
//! awaiting   --stop-->      steady
//! collecting --stop-data--> steady       n - f claims: our SYNC
//! collecting --sync-->      steady       our own from before a restart, or a later one
//! collecting --timeout-->   awaiting     too few claims came
//! collecting --stop-->      awaiting
//! collecting --stop-->      steady
//! ```

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "`_ => Super` is how statig says: my superstate decides"
)]

use statig::prelude::*;

use super::Options;
use super::collect::Collected;
use super::core::Scene;
use super::guard::Guard;
use super::message::Sync;
use super::pace::Pace;
use super::stops::Stops;
use crate::committee::{Certificate, Regency, Seat, StopData, View};
use crate::machine::{Span, Time};

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
    /// Links to the leader fell.
    Lost,
    /// We may sign from now on: what was asked for meanwhile counts.
    Cleared,
    /// What was sent may be lost: the resend timer ran out, or we have just started.
    Resend,
}

/// The progress timer runs in two halves: after the first we ask where the others stand, as the
/// paper's first timeout forwards requests, and after the second we ask for the next leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// It does not run.
    Off,
    /// The half after which we ask where the others stand.
    First,
    /// The half after which we complain.
    Second,
}

/// The progress timer, the STOPs and the claims.
#[derive(Debug)]
pub(super) struct RegencyChange {
    pub(super) stops: Stops,
    pub(super) collected: Collected,
    pub(super) pace: Pace,
    pub(super) guard: Guard,
    pub(super) watch: Watch,
    /// When the present half ends.
    pub(super) due: Time,
    /// The last regency of whose leader we complained: once is enough.
    pub(super) complained: Option<Regency>,
    /// When we asked last where the others stand, since nothing moved.
    pub(super) questioned_at: Time,
    /// When we first asked for what we ask for.
    pub(super) asked_at: Time,
    /// Until when our STOP stands though blocks flow.
    pub(super) insists_until: Time,
    /// Events that had no place in their state.
    pub(super) ignored: u64,
}

impl RegencyChange {
    pub(super) fn new(view: &View, options: &Options) -> Self {
        Self {
            stops: Stops::new(options.resend),
            collected: Collected::default(),
            pace: Pace::new(options.pace),
            guard: Guard::new(view.sizes().n),
            watch: Watch::Off,
            due: Time(0),
            complained: None,
            questioned_at: Time(0),
            asked_at: Time(0),
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
                if self.pass_half(context) || context.core.is_behind() {
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
                if !self.pass_half(context) && context.core.is_behind() {
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
                self.collected.keep(data, proofs, &context.core.view);
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
                if self.pass_half(context) {
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
                self.collected.keep(data, proofs, &context.core.view);
                Handled
            }
            Event::Cleared => self.count(context, None),
            // Paper: every replica recomputes what the set settles and resumes.
            Event::Sync(sync) => self.on_sync(sync.clone(), context),
            Event::Work(has_work) => {
                self.on_work(*has_work, context);
                Handled
            }
            Event::Lost => {
                self.hurry(context);
                Handled
            }
            // Of a regency that ended, or while it is being replaced.
            Event::Timeout(_) | Event::Complain(_) | Event::Progress(..) | Event::Resend => {
                self.ignored += 1;
                Handled
            }
        }
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
