//! What the normal and the regency machine share: the window of open heights, the voter, the
//! regency.
//!
//! Source: Mod-SMaRt over a window of independent instances. In: checked votes, payloads,
//! certificates.
//! Out: votes that leave behind their records, decisions.
//! Holds: the decided prefix only grows; a WRITE goes only to a valid payload that the regency's
//! SYNC allows; no vote leaves for a height more than W above the decided prefix. Elsewhere: roles
//! (`normal`), leaders that fail (`regency`).

use std::collections::{BTreeMap, BTreeSet};

use super::instance::{Counted, Decided, Instance};
use super::message::{Message, Payload, Status, Sync};
use super::recall::Recall;
use super::{Event, Options, Ordering, Record, Resumed};
use crate::blocks::evidence::Evidence;
use crate::committee::{Certificate, Height, Kind, Regency, Seat, View, Vote, Voter, VoterRecord};
use crate::crypto::{Digest, Verified};
use crate::machine::{Outbox, Span, Time, To};
use crate::plant::{self, Plant};

/// The shared state.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) view: View,
    pub(super) voter: Option<Voter>,
    pub(super) options: Options,
    /// The installed regency.
    pub(super) regency: Regency,
    /// Whether its SYNC was seen; regency 0 needs none.
    pub(super) is_synchronised: bool,
    /// The SYNC that started it, for those who missed it.
    pub(super) sync: Option<Sync>,
    /// The regency that we ask for; the installed one when we ask for no other.
    pub(super) asked: Regency,
    /// The newest block certificate: everything up to its height is closed.
    pub(super) base: Option<Certificate>,
    /// Everything up to here is decided.
    pub(super) decided: Height,
    pub(super) instances: BTreeMap<Height, Instance>,
    /// The highest regency that each seat was heard to vote in.
    pub(super) rumours: BTreeMap<Seat, Regency>,
    /// The last height of the view, once it is known: nothing above it is voted on.
    pub(super) last: Option<Height>,
    /// What the last SYNC bound.
    pub(super) bound: BTreeMap<Height, Digest>,
    /// Where each seat stood when it said so last.
    pub(super) heard: BTreeMap<Seat, Status>,
    /// When the leader of the installed regency said something last.
    pub(super) leader_heard: Time,
    /// Seats to which links fell and do not stand again.
    pub(super) lost: BTreeSet<Seat>,
    /// Since when links to a quorum stand, where they ever fell.
    pub(super) quorum_since: Time,
    /// Whether the normal machine is in a state that votes.
    pub(super) may_vote: bool,
    /// What the slowest height took to be decided, among those since the last progress.
    pub(super) slowest: Option<Span>,
    /// Counts what happened, so that a resend timer sees whether anything did.
    pub(super) moves: u64,
    /// What is held of others' words, and what they still have to say of ours.
    pub(super) recall: Recall,
}

/// A machine's hand on the shared state while it takes one input.
pub(super) struct Scene<'a> {
    pub(super) core: &'a mut Core,
    pub(super) now: Time,
    pub(super) out: &'a mut Outbox<Ordering>,
}

impl Core {
    pub(super) fn new(view: View, options: Options, resumed: Resumed) -> Self {
        let regency = resumed.voter.as_ref().map_or(Regency(0), Voter::installed);
        let certified = resumed.certificate.as_ref();
        let opening = view.opening().height;
        let certified = certified.map_or(opening, |base| base.ballot.height);
        let mut core = Self {
            view,
            recall: Recall::new(resumed.voter.as_ref(), certified, resumed.is_fresh),
            // A log that was once found rolled back signs nothing any more.
            voter: resumed.voter.filter(|voter| voter.lapse().is_none()),
            options,
            regency,
            is_synchronised: regency == Regency(0),
            sync: None,
            asked: regency,
            base: resumed.certificate,
            decided: resumed.applied,
            instances: BTreeMap::new(),
            rumours: BTreeMap::new(),
            last: None,
            bound: BTreeMap::new(),
            heard: BTreeMap::new(),
            leader_heard: Time(0),
            lost: BTreeSet::new(),
            quorum_since: Time(0),
            may_vote: false,
            slowest: None,
            moves: 0,
        };
        let closed = core.certified().min(core.decided);
        for (height, payload) in resumed.payloads.into_iter().filter(|(h, _)| *h > closed) {
            let instance = core.instance(height);
            instance.add_payload(&payload, &[]);
            // It was written, so it was valid before the restart.
            instance.mark_valid(&payload.digest);
        }
        for decision in resumed
            .decisions
            .iter()
            .filter(|c| c.ballot.height > closed)
        {
            let instance = core.instance(decision.ballot.height);
            if instance.payload(&decision.ballot.digest).is_some() {
                instance.decide(decision);
            }
        }
        while core.is_decided(core.decided.next()) {
            core.decided = core.decided.next();
        }
        core
    }

    /// Our seat, where we have one.
    pub(super) fn seat(&self) -> Option<Seat> {
        self.voter.as_ref().map(Voter::seat)
    }

    /// Who leads the installed regency.
    pub(super) fn leader(&self) -> Seat {
        self.view.leader(self.regency)
    }

    /// Whether we lead and may propose.
    pub(super) fn is_leading(&self) -> bool {
        self.is_synchronised && self.seat() == Some(self.leader())
    }

    /// The height of the newest block certificate.
    pub(super) fn certified(&self) -> Height {
        self.base
            .as_ref()
            .map_or(self.view.opening().height, |base| base.ballot.height)
    }

    /// The highest height on which we vote: at most W above what is decided, and not so far above
    /// what is certified that a STOP-DATA could not claim it all.
    pub(super) fn top(&self) -> Height {
        let window = self.options.window;
        let reach = self
            .certified()
            .plus(self.options.ahead_max.saturating_add(window));
        let last = self.last.unwrap_or(Height(u64::MAX));
        self.decided.plus(window).min(reach).min(last)
    }

    /// The view ends with the block at `last`, which is applied: decisions above it are void.
    pub(super) fn end_at(&mut self, last: Height) {
        assert!(last > self.view.opening().height, "a view has a block");
        self.last = Some(last);
        self.decided = last;
        drop(self.instances.split_off(&last.next()));
        drop(self.bound.split_off(&last.next()));
    }

    /// Whether we vote on `height` now.
    pub(super) fn is_open(&self, height: Height) -> bool {
        height > self.decided && (height <= self.top() || plant::is(Plant::NoWindow))
    }

    /// Whether a height at or below one that is known of is undecided.
    pub(super) fn has_open(&self) -> bool {
        let mut above = self
            .instances
            .range(self.decided.next()..)
            .map(|(_, instance)| instance);
        let is_bound = self.bound.range(self.decided.next()..).next().is_some();
        let join = self.view.sizes().f + 1;
        is_bound || above.any(|instance| instance.is_open(join) || instance.decision().is_some())
    }

    /// Whether something that others sent may be missing here: a decision, a block certificate, the
    /// SYNC of our regency, a STOP, or a whole regency.
    pub(super) fn is_unsettled(&self) -> bool {
        let is_changing = !self.is_synchronised || self.asked > self.regency;
        let is_late = is_changing || self.is_regency_over();
        self.has_open() || self.decided > self.certified() || is_late
    }

    /// Whether f + 1 seats say that they have decided more than we, so at least one correct seat
    /// has and will give it: we lag, which is no fault of the leader.
    pub(super) fn is_behind(&self) -> bool {
        let ahead = self
            .heard
            .iter()
            .filter(|(seat, status)| Some(**seat) != self.seat() && status.decided > self.decided);
        ahead.count() > self.view.sizes().f
    }

    /// Whether f + 1 seats vote above our regency: one of them is correct, and a SYNC was missed
    /// here.
    fn is_regency_over(&self) -> bool {
        let above = self.rumours.values().filter(|heard| **heard > self.regency);
        above.count() > self.view.sizes().f
    }

    /// The digests whose bytes others may still ask us for at `height`: what is proposed, locked,
    /// bound or decided.
    pub(super) fn kept(&self, height: Height) -> Vec<Digest> {
        let promise = self.voter.as_ref().and_then(|voter| voter.promise(height));
        let locked = promise.and_then(|promise| Some(promise.lock.as_ref()?.ballot.digest));
        let instance = self.instances.get(&height);
        let decided = instance.and_then(|i| Some(i.decision()?.ballot.digest));
        let proposed = instance.and_then(|i| Some(i.proposed()?.digest));
        let bound = self.bound.get(&height).copied();
        [locked, decided, proposed, bound]
            .into_iter()
            .flatten()
            .collect()
    }

    fn is_decided(&self, height: Height) -> bool {
        self.instances
            .get(&height)
            .is_some_and(|i| i.decision().is_some())
    }

    /// The lowest height that we, leading, may propose, and whether a bound height above it waits
    /// for it.
    pub(super) fn next_height(&self) -> Option<(Height, bool)> {
        if !self.is_leading() {
            return None;
        }
        let voter = self.voter.as_ref()?;
        let most = self
            .top()
            .min(self.certified().plus(self.options.ahead_max));
        let mut height = self.decided.next();
        while height <= most {
            let proposed = voter.promise(height).and_then(|promise| promise.proposed);
            let is_proposed = proposed.is_some_and(|lock| lock.regency == self.regency);
            let is_decided = self
                .instances
                .get(&height)
                .is_some_and(|i| i.decision().is_some());
            if !is_proposed && !is_decided && !self.bound.contains_key(&height) {
                let is_waited_for = self.bound.keys().any(|bound| *bound > height);
                return Some((height, is_waited_for));
            }
            height = height.next();
        }
        None
    }

    /// Where we stand.
    pub(super) fn status(&self, is_question: bool) -> Status {
        Status {
            view: self.view.id(),
            regency: self.regency,
            is_synchronised: self.is_synchronised,
            decided: self.decided,
            certified: self.certified(),
            is_question,
        }
    }

    /// Enters `regency`: its WRITEs count from nothing, what the last SYNC bound binds no more
    /// until the next says so.
    pub(super) fn enter(&mut self, regency: Regency, is_synchronised: bool) {
        assert!(regency >= self.regency, "a regency never goes back");
        self.regency = regency;
        self.is_synchronised = is_synchronised;
        self.sync = None;
        self.slowest = None;
        self.bound.clear();
        self.moves += 1;
        let instances = self.instances.values_mut();
        instances.for_each(Instance::enter_regency);
    }

    pub(super) fn instance(&mut self, height: Height) -> &mut Instance {
        self.instances.entry(height).or_default()
    }
}

impl Scene<'_> {
    /// The instance of a height that somebody speaks of now.
    fn instance(&mut self, height: Height) -> &mut Instance {
        let instance = self.core.instance(height);
        instance.open(self.now);
        instance
    }

    pub(super) fn send(&mut self, message: Message) {
        self.out.send(To::Committee, message);
    }

    pub(super) fn send_to(&mut self, seat: Seat, message: Message) {
        self.out.send(To::One(seat), message);
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
        let took = opened.map(|opened| self.now - opened.max(self.core.quorum_since));
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

    pub(super) fn save(&mut self, records: Vec<VoterRecord>) {
        for record in records {
            self.out.save(Record::Voter(record));
        }
    }

    pub(super) fn fault(&mut self, seat: Seat, votes: Option<Box<(Vote, Vote)>>) {
        let evidence = votes.map(|votes| Box::new(Evidence::Votes(votes.0, votes.1)));
        self.out.emit(Event::Fault(seat, evidence));
    }
}
