//! Coming to a pinned view: one member at a time shows the way from genesis on.
//!
//! Source: design, 'checkpoints and bootstrap', step 1. In: steps. Out: asks, the trail.
//! Holds: keys of old views may be in wrong hands, so steps below the pin count for nothing until
//! the pinned one fits: none is saved, and nobody is asked for a fresh block; who showed a way that
//! does not lead there is asked again once all others were; one guide holds the others off for a
//! bounded time, which doubles with every round, so that a slow one gets there as well.
//! Elsewhere: the walk along the trail, whose steps are saved (`walk`).

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::RngExt as _;

use super::contract::{Contact, Event, Misdeed, Pin};
use super::machine::{Bootstrap, Out, State};
use super::message::{Answer, Ask};
use crate::blocks::{Step, ViewChain};
use crate::committee::{MEMBERS_MAX, MemberId};
use crate::machine::{Span, Time};

/// How long a guide may take for a stretch in the first round, and how long a new round is put off.
const PULL: Span = Span::from_ms(1_000);
/// How long a guide may take for the whole way in the first round.
const LEASE: Span = Span::from_ms(10_000);
/// So often it doubles, at most.
const DOUBLINGS_MAX: u32 = 10;

/// A way that is shown.
pub(super) struct Guide {
    pin: Pin,
    /// The views that the guide has shown.
    shown: ViewChain,
    /// Who shows the way.
    who: Option<MemberId>,
    /// Who did not lead to the pin in this round; a link that falls changes nothing about it.
    tried: BTreeSet<MemberId>,
    rounds: u32,
    /// When the next stretch is overdue, or nobody is asked before.
    until: Time,
    /// When the whole way is overdue.
    lease: Time,
}

impl Guide {
    /// `first` as it has grown: a link may need longer than anybody thought of.
    fn patience(&self, first: Span) -> Span {
        Span(first.0 << self.rounds.min(DOUBLINGS_MAX))
    }

    /// The guide does not lead to the pin.
    fn give_up(&mut self) {
        if self.tried.len() >= MEMBERS_MAX {
            self.tried.clear(); // As if a round was over.
        }
        self.tried.extend(self.who.take());
        self.until = Time(0);
    }

    pub(super) fn lose(&mut self, who: &MemberId) {
        if self.who.as_ref() == Some(who) {
            self.give_up();
        }
    }
}

impl Bootstrap {
    /// Whether the pinned view is not proved yet.
    pub(super) fn is_below_pin(&self) -> bool {
        let newest = self.chain.newest().view.id();
        self.options.pin.is_some_and(|pin| newest < pin.view)
    }

    pub(super) fn begin_guide(&mut self, now: Time, pin: Pin, out: &mut Out) {
        let guide = Guide {
            pin,
            shown: self.chain.clone(),
            who: None,
            tried: BTreeSet::new(),
            rounds: 0,
            until: now,
            lease: now,
        };
        self.enter(State::Guide(Box::new(guide)), out);
        self.guide_on(now, out);
    }

    /// Takes the next guide once there is none, or the one that there is took too long.
    pub(super) fn guide_on(&mut self, now: Time, out: &mut Out) {
        let State::Guide(guide) = &mut self.state else {
            return;
        };
        if now < guide.until && (guide.who.is_none() || now < guide.lease) {
            return;
        }
        guide.give_up();
        let untried = self.peers.keys().filter(|who| !guide.tried.contains(who));
        let untried: Vec<MemberId> = untried.copied().collect();
        if self.peers.is_empty() {
            return; // A link that stands calls this again.
        }
        if untried.is_empty() {
            guide.tried.clear();
            guide.rounds = guide.rounds.saturating_add(1);
            guide.until = now + PULL;
            return;
        }
        guide.who = Some(untried[self.rng.random_range(0..untried.len())]);
        guide.shown = self.chain.clone();
        guide.lease = now + guide.patience(LEASE);
        self.ask_guide(now, out);
    }

    /// Asks for the next stretch.
    fn ask_guide(&mut self, now: Time, out: &mut Out) {
        let State::Guide(guide) = &mut self.state else {
            return;
        };
        guide.until = now + guide.patience(PULL);
        let newest = guide.shown.newest().view.id();
        let opened = guide.shown.opened(newest);
        if let (Some(who), Some(opened)) = (guide.who, opened) {
            self.ask(who, Ask::Steps(newest, opened.digest), out);
        }
    }

    /// Steps arrive while the way to the pin is looked for.
    pub(super) fn on_way(&mut self, now: Time, from: MemberId, steps: &[Bytes], out: &mut Out) {
        let State::Guide(guide) = &mut self.state else {
            return;
        };
        if guide.who != Some(from) {
            return; // Late.
        }
        let Some(steps) = Answer::decode_steps(steps) else {
            self.ban(now, from, Misdeed::Malformed, out);
            return;
        };
        if steps.is_empty() {
            guide.give_up();
            self.guide_on(now, out);
            return;
        }
        let (newest, pin) = (guide.shown.newest().view.id(), guide.pin);
        let is_open = |step: &Step| (newest..pin.view).contains(&step.header.view);
        let open: Vec<Step> = steps.into_iter().filter(is_open).collect();
        let Some(last) = open.last().filter(|_| open[0].header.view == newest) else {
            return; // An answer to what was asked before.
        };
        if last.header.view.next() == pin.view && last.header.digest() != pin.digest {
            let view = pin.view;
            self.ban(now, from, Misdeed::OtherRoot { view }, out);
            return;
        }
        if let Err(wrong) = guide.shown.walk(&open, &self.options.verifier) {
            self.ban(now, from, wrong.into(), out);
            return;
        }
        if guide.shown.newest().view.id() == pin.view {
            self.arrive(now, out);
            return;
        }
        // Nobody is given up for whom it lists: they may be there for a fork alone.
        let mut contacts = Contact::listed(&last.body);
        contacts.extend(self.contacts.iter().cloned());
        out.emit(Event::Members(contacts));
        self.ask_guide(now, out);
    }

    /// The pinned step fits, and with it all that it names: steps on the disk are of use, or not.
    fn arrive(&mut self, now: Time, out: &mut Out) {
        let State::Guide(guide) = &self.state else {
            return;
        };
        let trail = guide.shown.clone();
        if let Some(aside) = self.aside.take() {
            let newest = aside.newest().view.id();
            if aside.opened(newest) == trail.opened(newest) {
                self.chain = aside;
            }
        }
        self.trail = Some(trail);
        self.begin_walk(now, out);
    }
}
