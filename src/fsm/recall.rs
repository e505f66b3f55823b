//! The check before the first vote: what others hold from us must be known to our log.
//!
//! Source: the rule against amnesia in `ARCHITECTURE.md`. In: votes of every seat, questions of
//! seats that start, answers to ours. Out: answers, and the verdict on our own log.
//! Holds: nothing is signed before a quorum, ourselves counted, has answered; every answer bears
//! our own signatures, so nobody can lie more than by leaving something out; a log that lacks one
//! of them was rolled back, and signs nothing any more in this view.
//! Elsewhere: what a log knows (`committee::Memory`), when the role changes (`normal`).

use std::collections::{BTreeMap, BTreeSet};

use super::core::{Core, Scene};
use super::instance::Instance;
use super::message::{HELD_VOTES_MAX, Held, Message, Recall as Said};
use crate::blocks::evidence::{Evidence, forgets};
use crate::committee::{
    Height, Kind, Lapse, Memory, Promised, Seat, StopData, Vote, Voter, VoterRecord,
};
use crate::crypto::Digest;
use crate::machine::{Outbox, Span, Time};
use crate::plant::{self, Plant};

/// What is remembered of others, and what they say of us.
#[derive(Debug)]
pub(super) struct Recall {
    /// What our log knew at the start; none without a seat.
    memory: Option<Memory>,
    /// The number of our question; drawn from the clock, so that no answer to an earlier life
    /// counts.
    number: u64,
    answered: BTreeSet<Seat>,
    is_fresh: bool,
    /// Why we sign nothing any more.
    lapse: Option<Lapse>,
    /// The highest vote of each seat and kind that was heard: closed heights are forgotten
    /// elsewhere. Four per seat.
    newest: BTreeMap<(Seat, Kind), Vote>,
    /// The newest STOP-DATA of each seat. One per seat.
    stop_data: BTreeMap<Seat, StopData>,
    /// When each seat was answered last.
    told: BTreeMap<Seat, Time>,
}

/// What an answer to our question led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing new.
    Same,
    /// A quorum answered, and our log knows all of it.
    Cleared,
    /// Our log was rolled back.
    Lapsed(Lapse),
}

impl Recall {
    /// Before the first question, with what the log gave back; of a key that `is_fresh` nobody can
    /// hold anything.
    pub(super) fn new(voter: Option<&Voter>, certified: Height, is_fresh: bool) -> Self {
        Self {
            is_fresh,
            memory: voter.map(|voter| Memory::of(voter, certified)),
            number: 0,
            answered: BTreeSet::new(),
            lapse: voter.and_then(Voter::lapse),
            newest: BTreeMap::new(),
            stop_data: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Why we sign nothing any more.
    pub(super) fn lapse(&self) -> Option<Lapse> {
        self.lapse
    }

    /// Remembers a vote, should its seat ask.
    pub(super) fn note(&mut self, vote: &Vote) {
        let place = |vote: &Vote| (vote.ballot.height, vote.ballot.regency);
        let held = self
            .newest
            .entry((vote.seat, vote.ballot.kind))
            .or_insert(*vote);
        if place(vote) > place(held) {
            *held = *vote;
        }
    }

    /// Remembers a STOP-DATA, should its seat ask; gives what proves that it contradicts what the
    /// seat said before.
    pub(super) fn note_stop_data(&mut self, data: &StopData) -> Option<Evidence> {
        let held = self.stop_data.get(&data.seat);
        let twice = held.filter(|held| held.regency == data.regency && *held != data);
        let twice = twice.map(|held| Evidence::Claims(held.clone(), data.clone()));
        let accept = self.newest.get(&(data.seat, Kind::Accept));
        let forgotten = accept.filter(|vote| forgets(vote, data));
        let forgotten = forgotten.map(|vote| Evidence::Amnesia(*vote, data.clone()));
        if held.is_none_or(|held| held.regency < data.regency) {
            self.stop_data.insert(data.seat, data.clone());
        }
        twice.or(forgotten)
    }
}

impl Core {
    /// Whether votes may leave: a quorum, ourselves counted, holds nothing of ours that our log
    /// lacks.
    pub(super) fn is_cleared(&self) -> bool {
        let is_answered = self.recall.answered.len() + 1 >= self.view.sizes().q;
        is_answered || self.recall.is_fresh || plant::is(Plant::NoQuestion)
    }

    /// Everything we hold that `seat` signed: what is open, what stands in certificates, and the
    /// newest of each kind. A bounded number, the highest.
    fn held_of(&self, seat: Seat) -> Held {
        let mut votes: BTreeMap<(Height, Kind, Digest), Vote> = BTreeMap::new();
        let locks = self.voter.iter().flat_map(Voter::promises);
        let locks = locks.filter_map(|(_, promise)| promise.lock.as_ref());
        let decisions = self.instances.values().filter_map(Instance::decision);
        let certificates = self.base.iter().chain(locks).chain(decisions);
        let certified = certificates.filter_map(|certificate| certificate.vote_of(seat));
        let proposals = self.instances.values().filter_map(Instance::proposal);
        let proposals = proposals.filter(|vote| vote.seat == seat).copied();
        let open = self.instances.values().flat_map(|one| one.votes_of(seat));
        let newest = self
            .recall
            .newest
            .range((seat, Kind::Propose)..=(seat, Kind::Persist));
        let newest = newest.map(|(_, vote)| *vote);
        for vote in certified.chain(proposals).chain(open).chain(newest) {
            let ballot = vote.ballot;
            votes.insert((ballot.height, ballot.kind, ballot.digest), vote);
        }
        Held {
            votes: votes.into_values().rev().take(HELD_VOTES_MAX).collect(),
            stop_data: self.recall.stop_data.get(&seat).cloned(),
        }
    }

    /// The first of `held` that our log does not know, where it is ours at all.
    fn unknown_of(&self, held: &Held) -> Option<Promised> {
        let voter = self.voter.as_ref()?;
        let own = voter.seat();
        // After the check the voter's own promises count: a late answer may name newer ones.
        let now = self
            .is_cleared()
            .then(|| Memory::of(voter, self.certified()));
        let memory = now.as_ref().or(self.recall.memory.as_ref())?;
        let mut votes = held.votes.iter().filter(|vote| vote.seat == own);
        let vote = votes.find(|vote| !memory.knows(vote));
        let stop_data = held.stop_data.iter().filter(|data| data.seat == own);
        let mut stop_data = stop_data.filter(|data| !memory.knows_stop_data(data));
        let vote = vote.map(|vote| Promised::Vote(vote.ballot));
        vote.or_else(|| {
            stop_data
                .next()
                .map(|data| Promised::StopData(data.regency))
        })
    }

    /// A seat answers our question.
    pub(super) fn recalled(&mut self, holder: Seat, number: u64, held: &Held) -> Verdict {
        let is_ours = number == self.recall.number && number > 0;
        if !is_ours || self.recall.lapse.is_some() {
            return Verdict::Same;
        }
        if let Some(promise) = self.unknown_of(held) {
            let lapse = Lapse { holder, promise };
            self.recall.lapse = Some(lapse);
            return Verdict::Lapsed(lapse);
        }
        let was_cleared = self.is_cleared();
        self.recall.answered.insert(holder);
        match self.is_cleared() && !was_cleared {
            true => Verdict::Cleared,
            false => Verdict::Same,
        }
    }

    /// Our log was rolled back: the voter is given up, and that is durable.
    pub(super) fn lapse(&mut self, lapse: Lapse, out: &mut Outbox<super::Ordering>) {
        let record = VoterRecord::Lapsed(lapse);
        out.save(super::Record::Voter(record));
        self.voter = None;
        self.recall.memory = None;
        out.emit(super::Event::Lapsed(lapse));
    }
}

impl Scene<'_> {
    /// Asks every seat that has not answered what it holds from us.
    pub(super) fn ask_recall(&mut self) {
        let Some(own) = self.core.seat().filter(|_| !self.core.is_cleared()) else {
            return;
        };
        if self.core.recall.number == 0 {
            self.core.recall.number = self.now.0.max(1);
        }
        let question = Message::Recall(Said::Ask(self.core.recall.number));
        for index in 0..self.core.view.sizes().n {
            let seat = Seat(u16::try_from(index).expect("a view has at most 256 seats"));
            if seat != own && !self.core.recall.answered.contains(&seat) {
                self.send_to(seat, question.clone());
            }
        }
    }

    /// A seat that starts is told what we hold from it, as often as it may have lost the answer:
    /// a short question has a long one.
    pub(super) fn answer_recall(&mut self, seat: Seat, number: u64) {
        let every = Span(self.core.options.resend.0 / 4);
        let last = self.core.recall.told.get(&seat);
        if last.is_some_and(|last| self.now - *last < every) {
            return;
        }
        self.core.recall.told.insert(seat, self.now);
        let held = self.core.held_of(seat);
        self.send_to(seat, Message::Recall(Said::Held(number, held)));
    }
}
