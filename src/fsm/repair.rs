//! Repair: what may have been lost is sent again, and what others lack is given.
//!
//! Source: links lose messages and members restart; Mod-SMaRt assumes neither. In: statuses,
//! fetches, payloads. Out: votes, proposals and decisions sent again, questions.
//! Holds: nothing here makes a promise that was not made before; answers are bounded in messages
//! and bytes. Elsewhere: the acts of ordering (`core`), when to ask (`normal`).

use super::Timer;
use super::core::Scene;
use super::instance::Instance;
use super::message::{Message, Payload, Status};
use crate::committee::{Height, Lock, Regency, Seat, Vote};
use crate::crypto::{Digest, Verified};
use crate::machine::Span;

/// A member at rest says where it stands after so many spans of the resend timer.
const REST_FACTOR: u64 = 16;

/// Decisions that one answer to a lagging seat carries, at most; it asks again for more.
const DECISIONS_PER_ANSWER: usize = 8;
/// Bytes of payloads after which an answer ends.
const ANSWER_BYTES: usize = 1 << 20;

impl Scene<'_> {
    /// Restores our own votes after a restart, so that they can be sent again.
    pub(super) fn resume_votes(&mut self) {
        let regency = self.core.regency;
        let Some(voter) = &mut self.core.voter else {
            return;
        };
        let promises: Vec<_> = voter.promises().map(|(h, p)| (h, p.clone())).collect();
        for (height, promise) in promises {
            if height <= self.core.decided {
                continue;
            }
            let of_now = |lock: &Lock| lock.regency == regency;
            let proposed = promise.proposed.filter(of_now);
            let written = promise.written.filter(of_now);
            let lock = promise.lock.filter(|lock| lock.ballot.regency == regency);
            let instance = self.core.instances.entry(height).or_default();
            // The same digest as before: the voter signs the same bytes and makes no record.
            if let Some(Ok((_, vote))) = proposed.map(|p| voter.propose(regency, height, p.digest))
            {
                instance.propose(vote);
            }
            if let Some(Ok((_, vote))) = written.map(|w| voter.write(regency, height, w.digest)) {
                instance.write(vote);
            }
            if let Some(Ok((_, vote))) = lock.map(|lock| voter.accept(&Verified::vouch(lock))) {
                instance.accept(vote);
            }
        }
    }

    /// Tells `seat`, which stands at `status`, what we have and it may lack.
    pub(super) fn answer(&mut self, seat: Seat, status: &Status) {
        let from = status.decided.next();
        let mut messages = Vec::new();
        let mut bytes = 0;
        for (height, instance) in self.core.instances.range(from..) {
            if messages.len() >= DECISIONS_PER_ANSWER * 4 || bytes > ANSWER_BYTES {
                break;
            }
            bytes += instance.bytes();
            if let Some(certificate) = instance.decision() {
                let payload = instance.payload(&certificate.ballot.digest);
                let decision = payload.map(|p| Message::Decision(certificate.clone(), p));
                messages.extend(decision);
                continue;
            }
            messages.extend(self.open_votes(*height, instance));
        }
        messages
            .into_iter()
            .for_each(|message| self.send_to(seat, message));
    }

    /// Our own votes of an open height and the proposal they are for.
    fn open_votes(&self, height: Height, instance: &Instance) -> Vec<Message> {
        let mut messages = Vec::new();
        if !self.core.is_open(height) {
            return messages;
        }
        if let Some(vote) = instance
            .proposal()
            .filter(|v| v.ballot.regency == self.core.regency)
        {
            let payload = instance.payload(&vote.ballot.digest);
            messages.extend(payload.map(|payload| Message::Propose(*vote, payload)));
        }
        if let Some(seat) = self.core.seat() {
            messages.extend(instance.votes_of(seat).map(Message::Vote));
        }
        messages
    }

    /// A seat lacks a payload.
    pub(super) fn on_fetch(&mut self, seat: Seat, height: Height, digest: &Digest) {
        let Some(instance) = self.core.instances.get(&height) else {
            return;
        };
        let Some(payload) = instance.payload(digest) else {
            return;
        };
        let decision = instance
            .decision()
            .filter(|c| c.ballot.digest == *digest)
            .cloned();
        // A PROPOSE of a regency that ended is dropped on arrival and its payload with it: a new
        // leader would never get the bytes of what its SYNC bound.
        let is_current = |vote: &&Vote| {
            vote.ballot.digest == *digest && vote.ballot.regency == self.core.regency
        };
        let message = match (decision, instance.proposal().filter(is_current)) {
            (Some(certificate), _) => Message::Decision(certificate, payload),
            (None, Some(vote)) => Message::Propose(*vote, payload),
            (None, None) => Message::Payload(height, payload),
        };
        self.send_to(seat, message);
    }

    /// Gives `seat` the SYNC of our regency, which it lacks.
    pub(super) fn give_sync(&mut self, seat: Seat) {
        if let Some(sync) = self.core.sync.clone() {
            self.send_to(seat, Message::Sync(sync));
        }
    }

    /// A payload that we asked for arrives; it counts only where a bound or a proposal names it.
    pub(super) fn on_payload(&mut self, height: Height, payload: &Payload) {
        if !self.core.is_open(height) {
            return;
        }
        let is_bound = self.core.bound.get(&height) == Some(&payload.digest);
        let instance = self.core.instances.get(&height);
        let is_proposed = instance
            .and_then(Instance::proposed)
            .is_some_and(|lock| lock.digest == payload.digest);
        let accepted = instance.and_then(|i| i.accepted(&self.core.view));
        let is_accepted = accepted.is_some_and(|c| c.ballot.digest == payload.digest);
        if !is_bound && !is_proposed && !is_accepted {
            return;
        }
        self.take_payload(height, payload.clone());
        self.try_decide(height);
        if is_bound && self.core.is_leading() {
            self.propose(height, payload.clone());
        }
    }

    /// A new leader proposes what its SYNC bound, as far as the window reaches; bytes it lacks are
    /// asked for.
    pub(super) fn propose_bound(&mut self) {
        if !self.core.is_leading() {
            return;
        }
        let bound: Vec<(Height, Digest)> = self.core.bound.clone().into_iter().collect();
        for (height, digest) in bound {
            let instance = self.core.instances.get(&height);
            if !self.core.is_open(height) || instance.is_some_and(|i| i.decision().is_some()) {
                continue;
            }
            match instance.and_then(|instance| instance.payload(&digest)) {
                Some(payload) if !self.has_proposed(height) => self.propose(height, payload),
                Some(_) => {}
                None => self.send(Message::Fetch(height, digest)),
            }
        }
    }

    fn has_proposed(&self, height: Height) -> bool {
        let promise = self
            .core
            .voter
            .as_ref()
            .and_then(|voter| voter.promise(height));
        let regency = self.core.regency;
        promise
            .and_then(|p| p.proposed)
            .is_some_and(|lock| lock.regency == regency)
    }

    /// A seat votes in a regency above ours: we missed its SYNC, and ask for it.
    pub(super) fn note_regency(&mut self, from: Seat, regency: Regency) {
        let heard = self.core.rumours.get(&from).copied().unwrap_or_default();
        if regency > self.core.regency.max(heard) {
            self.core.rumours.insert(from, regency);
            let question = self.core.status(true);
            self.send_to(from, Message::Status(question));
        }
    }

    /// Does all that votes, payloads and the SYNC allow at every open height: after votes were not
    /// allowed.
    pub(super) fn advance_all(&mut self) {
        let above = self.core.instances.range(self.core.decided.next()..);
        let heights: Vec<Height> = above.map(|(height, _)| *height).collect();
        heights.into_iter().for_each(|height| self.advance(height));
        self.propose_bound();
    }

    /// Asks every seat where it stands.
    pub(super) fn ask_all(&mut self) {
        let question = self.core.status(true);
        self.send(Message::Status(question));
    }

    /// Tells every seat where we stand.
    pub(super) fn say_status(&mut self) {
        let status = self.core.status(false);
        self.send(Message::Status(status));
    }

    /// Arms the same timer as [`Scene::arm_resend`] for a member with nothing to wait for.
    pub(super) fn arm_rest(&mut self) {
        let rest = Span(self.core.options.resend.0.saturating_mul(REST_FACTOR));
        self.arm_resend_in(rest);
    }

    /// Arms the timer that asks where the others stand.
    pub(super) fn arm_resend(&mut self) {
        self.arm_resend_in(self.core.options.resend);
    }

    /// A timer that runs is never put off: whoever arms it ever again would starve what it does.
    fn arm_resend_in(&mut self, span: Span) {
        let due = self.now + span;
        if self.core.resend_due.is_none_or(|earlier| due < earlier) {
            self.core.resend_due = Some(due);
            self.out.arm(Timer::Resend, span);
        }
    }
}
