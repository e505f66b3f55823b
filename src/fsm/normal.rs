//! Normal operation: what a member is, and what it does with each message in that role.
//!
//! Source: the Consortium's state map of a node; Mod-SMaRt, normal phase. In: [`Event`]. Out:
//! votes, decisions.
//! Holds: only follower, leader and checkpointing vote; failed absorbs everything; an event without
//! a place in a state is ignored and counted.
//! Elsewhere: the acts themselves (`core`), replacing the leader (`regency`), seats of the next
//! view (`view`).
//!
//! Every pair of state and event has an outcome; those that change the state are:
//!
//! ```text
//! initial       --start-->     recovering
//! recovering    --recovered--> synchronising
//! synchronising --heard-->     follower       q, ourselves counted, said where they stand
//! synchronising --heard-->     leader         ... and we lead
//! synchronising --settle-->    follower
//! synchronising --settle-->    leader
//! synchronising --heard-->     observer       we have no seat
//! synchronising --settle-->    observer
//! synchronising --change-->    observer       unseated, here and below
//! observer      --change-->    joining        invited
//! joining       --settle-->    synchronising
//! joining       --change-->    observer
//! follower      --settle-->    leader         a SYNC made us lead
//! leader        --settle-->    follower
//! follower      --change-->    checkpointing  a snapshot begins
//! leader        --change-->    checkpointing
//! checkpointing --change-->    follower       ... and ends
//! checkpointing --change-->    leader
//! follower      --change-->    observer
//! leader        --change-->    observer
//! checkpointing --change-->    observer
//! initial       --change-->    failed         our state contradicts a certificate, in any state
//! recovering    --change-->    failed
//! synchronising --change-->    failed
//! observer      --change-->    failed
//! joining       --change-->    failed
//! follower      --change-->    failed
//! leader        --change-->    failed
//! checkpointing --change-->    failed
//! wiped         --change-->    failed
//! synchronising --heard-->     wiped          our log was rolled back in an earlier life
//! synchronising --settle-->    wiped
//! initial       --change-->    wiped          our log was rolled back, found in any state
//! recovering    --change-->    wiped
//! synchronising --change-->    wiped
//! observer      --change-->    wiped
//! joining       --change-->    wiped
//! follower      --change-->    wiped
//! leader        --change-->    wiped
//! checkpointing --change-->    wiped
//! ```

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "`_ => Super` is how statig says: my superstate decides"
)]

use std::collections::BTreeMap;

use statig::prelude::*;

use super::Role;
use super::core::Scene;
use super::message::{Heard, Message, Payload, Status};
use crate::committee::{Height, Kind, Seat};
use crate::crypto::{Digest, Verified};
use crate::machine::{Span, Time};

/// What the normal machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Everything on the disk was read.
    Start,
    /// Our own log was applied.
    Recovered,
    /// Roles may have changed: a quorum answered, or a regency was installed.
    Settle,
    /// A checked message of a seat.
    Heard(Seat, Heard),
    /// The replica has a payload for a height that we lead.
    Propose(Height, Payload),
    /// The replica judged a payload.
    Checked(Height, Digest, bool),
    /// The resend timer ran out.
    Resend,
    /// What this member is to be changes.
    Change(Role),
}

/// The role of this member.
#[derive(Debug, Default)]
pub(super) struct Normal {
    /// Events that had no place in their state.
    pub(super) ignored: u64,
    /// When each seat was last told what it may lack.
    answered: BTreeMap<Seat, Time>,
    /// What `moves` was when the resend timer was armed.
    moves_seen: u64,
    /// What `moves` was when a status made us ask.
    asked_at: Option<u64>,
    /// Resend timers in a row that found nothing had moved.
    silent: u32,
}

#[state_machine(
    initial = "State::initial()",
    state(derive(Debug, Clone, PartialEq, Eq)),
    superstate(derive(Debug))
)]
impl Normal {
    #[state(superstate = "running")]
    fn initial(event: &Event) -> Outcome<State> {
        match event {
            Event::Start => Transition(State::recovering()),
            _ => Super,
        }
    }

    /// Applies our own log. Nothing is voted, peers are not heard.
    #[state(superstate = "running")]
    fn recovering(event: &Event) -> Outcome<State> {
        match event {
            Event::Recovered => Transition(State::synchronising()),
            _ => Super,
        }
    }

    /// Asks where the others stand; leaves when a quorum has said so, ourselves counted.
    #[state(superstate = "running", entry_action = "ask")]
    fn synchronising(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::Heard(seat, heard) => {
                if let Message::Status(status) = &**heard {
                    context.core.heard.insert(*seat, *status);
                    return self.role(context);
                }
                // Nothing is voted yet, but what is heard now need not be sent again.
                self.hear(*seat, heard.clone(), context);
                Handled
            }
            Event::Checked(height, digest, true) => {
                context.on_valid(*height, digest);
                Handled
            }
            Event::Checked(_, _, false) => Handled,
            Event::Settle => self.role(context),
            Event::Change(Role::Unseated) => Transition(State::observer()),
            Event::Resend => {
                context.ask_all();
                context.ask_recall();
                context.arm_resend();
                Handled
            }
            _ => Super,
        }
    }

    /// Has no seat: follows certified blocks, which the replica fetches.
    #[state(superstate = "running")]
    fn observer(event: &Event) -> Outcome<State> {
        match event {
            Event::Change(Role::Invited) => Transition(State::joining()),
            Event::Settle => Handled,
            _ => Super,
        }
    }

    /// Has been given a seat and has not taken it.
    #[state(superstate = "running")]
    fn joining(event: &Event) -> Outcome<State> {
        match event {
            Event::Settle => Transition(State::synchronising()),
            Event::Change(Role::Unseated) => Transition(State::observer()),
            _ => Super,
        }
    }

    #[state(superstate = "voting")]
    fn follower(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::Settle if context.core.is_leading() => Transition(State::leader()),
            Event::Change(Role::Checkpointing(true)) => Transition(State::checkpointing()),
            _ => Super,
        }
    }

    #[state(superstate = "voting")]
    fn leader(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::Propose(height, payload) => {
                context.propose(*height, payload.clone());
                context.arm_resend();
                Handled
            }
            Event::Settle if !context.core.is_leading() => Transition(State::follower()),
            Event::Change(Role::Checkpointing(true)) => Transition(State::checkpointing()),
            _ => Super,
        }
    }

    /// Takes a snapshot beside everything else: voting goes on, and a leader goes on proposing.
    #[state(superstate = "voting")]
    fn checkpointing(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::Propose(height, payload) => {
                context.propose(*height, payload.clone());
                Handled
            }
            Event::Change(Role::Checkpointing(false)) if context.core.is_leading() => {
                Transition(State::leader())
            }
            Event::Change(Role::Checkpointing(false)) => Transition(State::follower()),
            _ => Super,
        }
    }

    /// Our state contradicts a certificate: voting halts until an operator repairs it.
    #[state]
    fn failed(&mut self) -> Outcome<State> {
        self.ignored += 1;
        Handled
    }

    /// Our log was rolled back: we follow certified blocks and sign nothing any more.
    #[state(superstate = "running")]
    fn wiped(event: &Event) -> Outcome<State> {
        match event {
            Event::Settle => Handled,
            _ => Super,
        }
    }

    #[superstate(superstate = "running")]
    fn voting(&mut self, context: &mut Scene<'_>, event: &Event) -> Outcome<State> {
        match event {
            Event::Heard(seat, heard) => {
                self.hear(*seat, heard.clone(), context);
                Handled
            }
            Event::Checked(height, digest, true) => {
                context.on_valid(*height, digest);
                Handled
            }
            // WRITE just never goes out.
            Event::Checked(_, _, false) => Handled,
            Event::Resend => {
                self.resend(context);
                Handled
            }
            Event::Settle => Handled,
            Event::Change(Role::Unseated) => Transition(State::observer()),
            _ => Super,
        }
    }

    #[superstate]
    fn running(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::Change(Role::Failed) => Transition(State::failed()),
            Event::Change(Role::Wiped) => Transition(State::wiped()),
            _ => {
                self.ignored += 1;
                Handled
            }
        }
    }

    #[action]
    fn ask(context: &mut Scene<'_>) {
        if context.core.seat().is_none() {
            return; // Only seats ask seats.
        }
        context.resume_votes();
        context.ask_all();
        context.ask_recall();
        context.arm_resend();
    }

    /// The role that fits once a quorum, ourselves counted, has said where it stands.
    fn role(&mut self, context: &mut Scene<'_>) -> Outcome<State> {
        let Some(own) = context.core.seat() else {
            return match context.core.recall.lapse() {
                Some(_) => Transition(State::wiped()),
                None => Transition(State::observer()),
            };
        };
        let heard = context
            .core
            .heard
            .keys()
            .filter(|seat| **seat != own)
            .count();
        if heard + 1 < context.core.view.sizes().q || !context.core.is_cleared() {
            return Handled;
        }
        if context.core.is_leading() {
            Transition(State::leader())
        } else {
            Transition(State::follower())
        }
    }

    /// Mod-SMaRt, normal phase: one arm per message.
    fn hear(&mut self, from: Seat, heard: Heard, context: &mut Scene<'_>) {
        if let Message::Propose(vote, _) | Message::Vote(vote) = &*heard {
            context.note_regency(from, vote.ballot.regency);
        }
        match &*heard {
            Message::Propose(vote, payload) => {
                context.on_propose(Verified::vouch(*vote), payload.clone());
            }
            Message::Vote(vote) => {
                let vote = Verified::vouch(*vote);
                match vote.ballot.kind {
                    Kind::Write => context.on_write(vote),
                    Kind::Accept => context.on_accept(vote),
                    Kind::Propose | Kind::Persist => self.ignored += 1,
                }
            }
            Message::Decision(certificate, payload) => {
                context.on_decision(certificate.clone(), payload);
            }
            Message::Fetch(height, digest) => context.on_fetch(from, *height, digest),
            Message::Payload(height, payload) => context.on_payload(*height, payload),
            Message::Status(status) => self.on_status(from, status, context),
            Message::Stop(_) | Message::StopData(..) | Message::Sync(_) => self.ignored += 1,
            Message::Recall(_) => self.ignored += 1, // Heard in every state, before any of them.
        }
        if context.core.is_unsettled() && self.moves_seen == 0 {
            self.moves_seen = context.core.moves;
            context.arm_resend();
        }
    }

    /// Someone says where it stands: we give what it lacks, and learn whether we lag.
    fn on_status(&mut self, from: Seat, status: &Status, context: &mut Scene<'_>) {
        context.core.heard.insert(from, *status);
        if status.is_question {
            let own = context.core.status(false);
            context.send_to(from, Message::Status(own));
        }
        if status.is_question || context.core.is_unheard_by(from, status) {
            // A short question may have a long answer: one seat gets one in a while.
            let every = Span(context.core.options.resend.0 / 4);
            let last = self.answered.get(&from).copied().unwrap_or_default();
            if last == Time(0) || context.now - last >= every {
                self.answered.insert(from, context.now);
                context.answer(from, status);
            }
        }
        let is_ahead = status.decided > context.core.decided && !context.core.has_open();
        // Whoever asks may be ahead too. Once while nothing moves and no timer runs out: the answer
        // says as much again, and what it brings may take its time.
        if is_ahead && self.asked_at != Some(context.core.moves) {
            self.asked_at = Some(context.core.moves);
            let question = context.core.status(true);
            context.send_to(from, Message::Status(question));
        }
    }

    /// Nothing moved since the timer was armed: what was sent may be lost, so everybody is asked.
    fn resend(&mut self, context: &mut Scene<'_>) {
        self.asked_at = None;
        let is_stuck = self.moves_seen == context.core.moves;
        self.silent = if is_stuck {
            self.silent.saturating_add(1)
        } else {
            0
        };
        // While nothing moves, ask less and less often: after 1, 2, 4, 8 … up to 16 timers.
        context.propose_bound();
        if is_stuck && (self.silent.is_power_of_two() || self.silent.is_multiple_of(16)) {
            context.ask_all();
        }
        self.moves_seen = context.core.moves;
        if context.core.is_unsettled() {
            context.arm_resend();
        } else {
            // At rest: whoever missed something hears from this that it did.
            self.moves_seen = 0;
            self.silent = 0;
            context.say_status();
            context.arm_rest();
        }
    }
}

impl State {
    /// The state as people read it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            State::Initial {} => "initial",
            State::Recovering {} => "recovering",
            State::Synchronising {} => "synchronising",
            State::Observer {} => "observer",
            State::Joining {} => "joining",
            State::Follower {} => "follower",
            State::Leader {} => "leader",
            State::Checkpointing {} => "checkpointing",
            State::Failed {} => "failed",
            State::Wiped {} => "wiped",
        }
    }
}
