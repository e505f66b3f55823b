//! Walking the view chain: one member is asked after another, and at the end all of them.
//!
//! Source: design, 'checkpoints and bootstrap', step 2; light clients. In: steps. Out: proved
//! steps, whom they list, forks.
//! Holds: a step is told of only when it holds; an honest member that stands on another fork, lags,
//! or answers late is not taken for a liar: it is asked where it parted from us.
//! Elsewhere: what a step must satisfy (`blocks::ViewChain`).

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::RngExt as _;

use super::contract::{Contact, Event, Misdeed, Record};
use super::machine::{Bootstrap, Out, State};
use super::message::{Answer, Ask};
use crate::blocks::Step;
use crate::committee::{MemberId, ViewId};
use crate::machine::{Span, Time};

/// How long one member is asked before the next is.
const PULL: Span = Span::from_ms(1_000);
/// How long all members have to say that there is nothing newer.
const CROSS: Span = Span::from_ms(1_000);
/// How long an answer may take before the same member is asked again.
const STALE: Span = Span::from_ms(900);

/// A walk under way.
#[derive(Debug)]
pub(super) struct Walk {
    /// Who is asked for the next stretch; nobody while all are asked whether there is one.
    puller: Option<MemberId>,
    /// Whether all are asked.
    is_cross: bool,
    /// Who gave nothing in its turn. Bounded by the members that can be reached.
    tried: BTreeSet<MemberId>,
    /// Who knows of nothing newer. Bounded likewise.
    agreed: BTreeSet<MemberId>,
    until: Time,
}

impl Walk {
    fn new() -> Self {
        Self {
            puller: None,
            is_cross: false,
            tried: BTreeSet::new(),
            agreed: BTreeSet::new(),
            until: Time(0),
        }
    }

    pub(super) fn lose(&mut self, who: &MemberId) {
        self.tried.remove(who);
        self.agreed.remove(who);
        if self.puller.as_ref() == Some(who) {
            self.puller = None;
        }
    }
}

/// What a member's steps are to us.
enum Found {
    /// Nothing that we lack.
    Nothing,
    /// So many steps were walked.
    Walked,
    /// It parted from us at or before this view: what stands before is asked for.
    Earlier(ViewId),
    /// The sender is at fault.
    Lie(Misdeed),
    /// Two steps that both hold.
    Fork(Box<Step>),
}

impl Bootstrap {
    pub(super) fn begin_walk(&mut self, now: Time, out: &mut Out) {
        let pin = self.options.pin.filter(|_| self.is_below_pin());
        if let Some(pin) = pin.filter(|_| self.trail.is_none()) {
            self.begin_guide(now, pin, out);
            return;
        }
        self.enter(State::Walk(Walk::new()), out);
        self.walk_on(now, out);
    }

    /// Asks whoever is to be asked now; goes on to the anchor once there is nobody.
    pub(super) fn walk_on(&mut self, now: Time, out: &mut Out) {
        let State::Walk(walk) = &mut self.state else {
            return;
        };
        if self.peers.is_empty() {
            walk.puller = None;
            walk.is_cross = false;
            return; // A link that stands calls this again.
        }
        if walk.is_cross {
            let peers = self.peers.keys();
            let until = walk.until;
            let is_agreed = peers.clone().all(|who| walk.agreed.contains(who));
            match self.is_below_pin() {
                // Whoever knows the views up to the pin is away.
                true if now >= until => self.begin_walk(now, out),
                false if is_agreed || now >= until => self.begin_seek(now, out),
                true | false => {}
            }
            return;
        }
        if let Some(puller) = walk.puller.filter(|_| now >= walk.until) {
            walk.tried.insert(puller);
            walk.puller = None;
        }
        if walk.puller.is_some() {
            return;
        }
        let untried = self.peers.keys().filter(|who| !walk.tried.contains(who));
        // Seats first: they are few, and have all that there is.
        let view = &self.chain.newest().view;
        let (seats, others): (Vec<MemberId>, Vec<MemberId>) = untried
            .copied()
            .partition(|who| view.seat_of(who).is_some());
        let untried = if seats.is_empty() { others } else { seats };
        match untried.len() {
            0 => self.cross(now, out),
            count => {
                let next = untried[self.rng.random_range(0..count)];
                self.pull(now, next, out);
            }
        }
    }

    /// Asks one member for the next stretch.
    fn pull(&mut self, now: Time, who: MemberId, out: &mut Out) {
        if let State::Walk(walk) = &mut self.state {
            walk.puller = Some(who);
            walk.is_cross = false;
            walk.until = now + PULL;
        }
        self.ask_steps(now, who, self.chain.newest().view.id(), out);
    }

    /// Asks all whether they know of anything newer, or of anything else.
    fn cross(&mut self, now: Time, out: &mut Out) {
        let State::Walk(walk) = &mut self.state else {
            return;
        };
        walk.puller = None;
        walk.is_cross = true;
        walk.until = now + CROSS;
        let agreed = &walk.agreed;
        let others = self.peers.keys().filter(|who| !agreed.contains(*who));
        let others: Vec<MemberId> = others.copied().collect();
        let newest = self.chain.newest().view.id();
        for who in others {
            self.ask_steps(now, who, newest, out);
        }
        self.walk_on(now, out);
    }

    /// Asks `who` for what follows `view`, unless it owes an answer.
    pub(super) fn ask_steps(&mut self, now: Time, who: MemberId, view: ViewId, out: &mut Out) {
        let Some(opened) = self.chain.opened(view) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&who) else {
            return;
        };
        if peer.steps.is_some_and(|(_, at)| now - at < STALE) {
            return;
        }
        peer.steps = Some((view, now));
        self.ask(who, Ask::Steps(view, opened.digest), out);
    }

    /// Steps arrive; they are looked at in every stage, for a walk may have to go on.
    pub(super) fn on_steps(&mut self, now: Time, from: MemberId, steps: &[Bytes], out: &mut Out) {
        if matches!(self.state, State::Guide(_)) {
            self.on_way(now, from, steps, out);
            return;
        }
        let asked = self.peers.get_mut(&from).and_then(|peer| peer.steps.take());
        let Some((asked, _)) = asked else {
            // Asked for by the question for an anchor, or late.
            self.take_steps(now, from, (self.chain.newest().view.id(), steps), out);
            return;
        };
        self.take_steps(now, from, (asked, steps), out);
    }

    fn take_steps(
        &mut self,
        now: Time,
        from: MemberId,
        (asked, steps): (ViewId, &[Bytes]),
        out: &mut Out,
    ) {
        match self.judge(asked, steps, out) {
            Found::Nothing => self.agree(now, from, out),
            Found::Walked => self.walked(now, from, out),
            Found::Earlier(view) => self.ask_steps(now, from, view, out),
            Found::Lie(misdeed) => self.ban(now, from, misdeed, out),
            Found::Fork(step) => {
                let view = step.body.next;
                let ours = self.chain.opened(view);
                let ours = ours.map_or(crate::crypto::Digest::ZERO, |link| link.digest);
                let theirs = step.header.digest();
                self.enter(State::Stuck, out);
                out.emit(Event::Forked {
                    view,
                    ours,
                    theirs,
                    from,
                });
            }
        }
    }

    /// What the steps are that a member sent, who was asked for those behind `asked`.
    fn judge(&mut self, asked: ViewId, steps: &[Bytes], out: &mut Out) -> Found {
        let Some(steps) = Answer::decode_steps(steps) else {
            return Found::Lie(Misdeed::Malformed);
        };
        let known = |step: &Step| {
            let ours = self.chain.opened(step.header.view.next());
            ours.is_some_and(|ours| ours.digest == step.header.digest())
        };
        let common = steps.iter().take_while(|step| known(step)).count();
        let Some(first) = steps.get(common) else {
            return Found::Nothing;
        };
        let newest = self.chain.newest().view.id();
        let makes = first.header.view.next();
        if makes > newest.next() && self.is_below_pin() {
            return Found::Nothing; // It was asked as a guide, and answers late.
        }
        if makes > newest {
            return self.follow(&steps[common..], out);
        }
        // Ours leads past the pin, so it is the true one up to there.
        let pinned = self.options.pin;
        if pinned.is_some_and(|pin| makes <= pin.view) {
            return Found::Lie(Misdeed::OtherRoot { view: makes });
        }
        match self.chain.examine(first, &self.options.verifier) {
            Ok(()) => Found::Fork(Box::new(first.clone())),
            // It parted from us before this step, unless it has the step before too.
            Err(_) if common == 0 && makes <= asked && makes > ViewId(1) => {
                Found::Earlier(ViewId(makes.0 - 1))
            }
            Err(wrong) => Found::Lie(wrong.into()),
        }
    }

    /// Walks on along steps that nobody gave before.
    fn follow(&mut self, steps: &[Step], out: &mut Out) -> Found {
        let strays = |step: &&Step| {
            let trail = self.trail.as_ref();
            let on_it = trail.and_then(|trail| trail.opened(step.header.view.next()));
            on_it.is_some_and(|link| link.digest != step.header.digest())
        };
        if let Some(step) = steps.iter().find(strays) {
            let view = step.header.view.next();
            return Found::Lie(Misdeed::OtherRoot { view });
        }
        if let Err(wrong) = self.chain.walk(steps, &self.options.verifier) {
            return Found::Lie(wrong.into());
        }
        for step in steps {
            out.save(Record::Step(step.to_bytes().into()));
        }
        if let Some(last) = steps.last() {
            self.contacts = Contact::listed(&last.body);
            out.emit(Event::Members(self.contacts.clone()));
        }
        Found::Walked
    }

    /// A member knows of nothing newer.
    fn agree(&mut self, now: Time, from: MemberId, out: &mut Out) {
        let State::Walk(walk) = &mut self.state else {
            return;
        };
        walk.agreed.insert(from);
        walk.tried.insert(from);
        if walk.puller == Some(from) {
            self.cross(now, out);
        } else {
            self.walk_on(now, out);
        }
    }

    /// The chain is longer now: there may be more, and what was asked of the view before is void.
    /// Whoever gave this is not asked again before the others, where there are any: it may give a
    /// step at a time, and slowly.
    fn walked(&mut self, now: Time, from: MemberId, out: &mut Out) {
        self.fill_places(now, out);
        let mut next = Walk::new();
        if self.peers.keys().any(|other| *other != from) {
            next.tried.insert(from);
        }
        match &mut self.state {
            State::Walk(walk) => *walk = next,
            State::Anchor(_) => self.enter(State::Walk(next), out),
            State::Checkpoint(_) | State::Gather(_) => return, // What is fetched is fresh enough.
            State::Idle | State::Guide(_) | State::Done | State::Stuck => return,
        }
        self.walk_on(now, out);
    }
}
