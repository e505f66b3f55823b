//! The acts of ordering: PROPOSE, WRITE, ACCEPT and the decision, height by height.
//!
//! Source: Mod-SMaRt, normal phase, over a window of independent instances. In: payloads, votes and
//! certificates that the normal machine took. Out: votes that leave behind their records,
//! decisions.
//! Holds: a WRITE goes only to a valid payload that the regency's SYNC allows, an ACCEPT only to a
//! lock; no vote leaves for a height that is not open. Elsewhere: which event leads to which act
//! (`normal`), what is open (`core`), one height (`instance`), what is sent again (`repair`).

use super::core::Scene;
use super::instance::{Counted, Decided, Instance};
use super::message::{Message, Payload};
use super::{Event, Record};
use crate::committee::{Certificate, Height, Kind, Vote, VoterRecord};
use crate::crypto::{Digest, Verified};
use crate::plant::{self, Plant};

impl Scene<'_> {
    /// The instance of a height that somebody speaks of now.
    fn instance(&mut self, height: Height) -> &mut Instance {
        let instance = self.core.instance(height);
        instance.open(self.now);
        instance
    }

    /// Leaders propose: signs PROPOSE and, since the leader checked its own payload, WRITE behind
    /// one barrier.
    pub(super) fn propose(&mut self, height: Height, payload: Payload) {
        let regency = self.core.regency;
        let may = self.core.may_vote && self.core.is_leading() && self.core.is_open(height);
        let is_allowed = self
            .core
            .bound
            .get(&height)
            .is_none_or(|bound| *bound == payload.digest);
        if !may || !is_allowed {
            return; // The window moved or the leader changed while the payload was made.
        }
        let Some(voter) = &mut self.core.voter else {
            return;
        };
        let Ok((records, vote)) = voter.propose(regency, height, payload.digest) else {
            return;
        };
        let kept = self.core.kept(height);
        let instance = self.instance(height);
        instance.add_payload(&payload, &kept);
        instance.mark_valid(&payload.digest);
        instance.propose(vote.clone());
        // The bytes go first: whoever is found to have proposed is taken to have them, and its
        // WRITE saves them no more. One sync covers all.
        if !plant::is(Plant::LateBytes) {
            self.out.save(Record::Payload(height, payload.clone()));
        }
        self.save(records);
        self.send(Message::Propose(*vote, payload));
        self.try_write(height);
    }

    /// Followers: the leader named and brought a proposal.
    pub(super) fn on_propose(&mut self, vote: Verified<Vote>, payload: Payload) {
        let ballot = vote.ballot;
        let is_current = ballot.regency == self.core.regency && self.core.is_synchronised;
        if !is_current || !self.core.is_open(ballot.height) || ballot.digest != payload.digest {
            return; // Late, early or malformed; whatever matters is sent again.
        }
        if vote.seat != self.core.leader() {
            return self.fault(vote.seat, None);
        }
        let instance = self.instance(ballot.height);
        match instance.propose(vote.clone()) {
            Counted::Conflict(votes) => return self.fault(vote.seat, Some(votes)),
            Counted::Known if instance.payload(&payload.digest).is_some() => return,
            Counted::Known | Counted::New => {}
        }
        self.take_payload(ballot.height, payload);
    }

    /// Keeps a payload and has it checked when it is new.
    pub(super) fn take_payload(&mut self, height: Height, payload: Payload) {
        let kept = self.core.kept(height);
        if self.core.instance(height).add_payload(&payload, &kept) {
            self.core.moves += 1;
            self.out.emit(Event::Check(height, payload));
        } else {
            self.advance(height);
        }
    }

    /// The replica found a payload valid.
    pub(super) fn on_valid(&mut self, height: Height, digest: &Digest) {
        if height > self.core.decided {
            self.core.instance(height).mark_valid(digest);
            self.advance(height);
        }
    }

    /// Does all that the votes and payloads of `height` allow now.
    pub(super) fn advance(&mut self, height: Height) {
        self.try_write(height);
        self.try_accept(height);
        self.try_decide(height);
    }

    /// Signs WRITE for the leader's valid proposal, once per regency.
    fn try_write(&mut self, height: Height) {
        let (regency, is_open) = (self.core.regency, self.core.is_open(height));
        let Some(instance) = self.core.instances.get(&height) else {
            return;
        };
        let Some(lock) = instance.proposed().filter(|lock| lock.regency == regency) else {
            return;
        };
        // Over the SYNC set a bound height is written only with its bound digest.
        let is_allowed = self
            .core
            .bound
            .get(&height)
            .is_none_or(|bound| *bound == lock.digest);
        let may = self.core.may_vote && is_open && is_allowed && self.core.is_synchronised;
        if !may || !instance.is_valid(&lock.digest) || instance.decision().is_some() {
            return;
        }
        let payload = instance.payload(&lock.digest);
        let Some(voter) = &mut self.core.voter else {
            return;
        };
        let promise = voter.promise(height);
        if promise
            .and_then(|promise| promise.written)
            .is_some_and(|w| w.regency >= regency)
        {
            return;
        }
        let is_own = voter
            .promise(height)
            .is_some_and(|p| p.proposed == Some(lock));
        let Ok((records, vote)) = voter.write(regency, height, lock.digest) else {
            return;
        };
        // A WRITE leaves only when every byte it names is durable here; a leader saved them with
        // its PROPOSE.
        if let Some(payload) = payload.filter(|_| !is_own && !plant::is(Plant::LateBytes)) {
            self.out.save(Record::Payload(height, payload));
        }
        self.save_before(&vote, records);
        self.send(Message::Vote(*vote));
        self.on_write(vote);
    }

    /// Counts a WRITE.
    pub(super) fn on_write(&mut self, vote: Verified<Vote>) {
        let ballot = vote.ballot;
        let is_current = ballot.regency == self.core.regency && self.core.is_synchronised;
        let counts = is_current || plant::is(Plant::LockLowered);
        if !counts || !self.core.is_open(ballot.height) {
            return;
        }
        match self.instance(ballot.height).write(vote.clone()) {
            Counted::New => {
                self.core.moves += 1;
                self.try_accept(ballot.height);
            }
            Counted::Known => {}
            Counted::Conflict(votes) => self.fault(vote.seat, Some(votes)),
        }
    }

    /// Locks on a WRITE certificate and signs ACCEPT.
    fn try_accept(&mut self, height: Height) {
        if !self.core.may_vote {
            return;
        }
        let regency = self.core.regency;
        let Some(instance) = self.core.instances.get(&height) else {
            return;
        };
        let Some(writes) = instance.written(&self.core.view, regency) else {
            return;
        };
        let Some(voter) = &mut self.core.voter else {
            return;
        };
        let held = voter
            .promise(height)
            .and_then(|promise| promise.lock.as_ref());
        if held.is_some_and(|lock| lock.ballot == writes.ballot) {
            return;
        }
        let Ok((records, vote)) = voter.accept(&writes) else {
            return;
        };
        self.save_before(&vote, records);
        self.send(Message::Vote(*vote));
        self.on_accept(vote);
    }

    /// Counts an ACCEPT; one of an earlier regency still decides with others of its regency.
    pub(super) fn on_accept(&mut self, vote: Verified<Vote>) {
        let height = vote.ballot.height;
        if !self.core.is_open(height) {
            return;
        }
        match self.instance(height).accept(vote.clone()) {
            Counted::New => {
                self.core.moves += 1;
                self.try_decide(height);
            }
            Counted::Known => {}
            Counted::Conflict(votes) => self.fault(vote.seat, Some(votes)),
        }
    }

    pub(super) fn try_decide(&mut self, height: Height) {
        let Some(instance) = self.core.instances.get(&height) else {
            return;
        };
        let Some(certificate) = instance.accepted(&self.core.view) else {
            return;
        };
        self.decide(certificate.into_inner());
    }

    /// q ACCEPTs decide once their payload is held. A payload that we did not find valid ourselves
    /// was found so by the correct seats among them.
    pub(super) fn decide(&mut self, certificate: Certificate) {
        let (height, digest) = (certificate.ballot.height, certificate.ballot.digest);
        let instance = self.core.instance(height);
        let Some(payload) = instance.payload(&digest) else {
            if instance.decision().is_none() && !plant::is(Plant::NoFetch) {
                self.send(Message::Fetch(height, digest));
            }
            return;
        };
        match instance.decide(&certificate) {
            Decided::Known => return,
            Decided::Split => return self.out.emit(Event::Split(height)),
            Decided::New => {}
        }
        let opened = instance.opened();
        let short_until = self.core.presence.short_until(self.now);
        let took = opened.map(|opened| self.now - opened.max(short_until));
        self.core.slowest = self.core.slowest.max(took);
        self.core.moves += 1;
        let promise = self
            .core
            .voter
            .as_ref()
            .and_then(|voter| voter.promise(height));
        let is_saved = promise
            .and_then(|p| p.written)
            .is_some_and(|lock| lock.digest == digest);
        if !is_saved {
            self.out.save(Record::Payload(height, payload.clone()));
        }
        self.out.save(Record::Decision(certificate.clone()));
        self.out.emit(Event::Decided(height, payload, certificate));
        self.grow();
    }

    /// A seat that lagged is given a decision.
    pub(super) fn on_decision(&mut self, certificate: Certificate, payload: &Payload) {
        let ballot = certificate.ballot;
        if ballot.kind == Kind::Accept && self.core.is_open(ballot.height) {
            let kept = self.core.kept(ballot.height);
            self.core
                .instance(ballot.height)
                .add_payload(payload, &kept);
            self.decide(certificate);
        }
    }

    /// Moves the decided prefix over every decision that follows it.
    pub(super) fn grow(&mut self) {
        let (before, top) = (self.core.decided, self.core.top());
        while self.core.is_decided(self.core.decided.next()) {
            self.core.decided = self.core.decided.next();
        }
        if self.core.decided > before {
            self.out.emit(Event::Ordered(self.core.decided));
            self.wake_above(top);
        }
    }

    /// Heights above `top` that just came into the window may hold payloads to vote on, or be
    /// bound.
    fn wake_above(&mut self, top: Height) {
        if self.core.top() <= top {
            return;
        }
        let woken = top.next()..=self.core.top();
        let heights: Vec<Height> = self.core.instances.range(woken).map(|(h, _)| *h).collect();
        heights.into_iter().for_each(|height| self.advance(height));
        self.propose_bound();
    }

    /// A block certificate closes every height up to its own; `applied` is what the replica has
    /// applied.
    pub(super) fn on_certified(&mut self, certificate: Certificate, applied: Height) {
        if self.core.base.is_some() && certificate.ballot.height <= self.core.certified() {
            return;
        }
        let (closed, top) = (certificate.ballot.height.min(applied), self.core.top());
        self.core.base = Some(certificate);
        self.core.moves += 1;
        self.core.instances = self.core.instances.split_off(&closed.next());
        self.core.bound = self.core.bound.split_off(&closed.next());
        if let Some(voter) = &mut self.core.voter {
            voter.forget_below(closed.next());
        }
        self.core.decided = self.core.decided.max(applied);
        self.grow();
        self.wake_above(top);
    }

    /// Makes what `vote` promises durable; it leaves behind this barrier.
    fn save_before(&mut self, vote: &Vote, records: Vec<VoterRecord>) {
        if plant::is(Plant::EagerVote) {
            self.send(Message::Vote(*vote));
        }
        self.save(records);
    }
}
