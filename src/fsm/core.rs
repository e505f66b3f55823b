//! What the normal and the regency machine share: the window of open heights, the voter, the
//! regency.
//!
//! Source: Mod-SMaRt over a window of independent instances. In: what the disk gave back. Out: what
//! follows from the shared state: who leads, which heights are open, who lags.
//! Holds: the decided prefix only grows, and so does the regency; no height more than W above the
//! decided prefix is open. Elsewhere: the acts of ordering (`voting`), roles (`normal`), leaders
//! that fail (`regency`).

use std::collections::BTreeMap;

use super::instance::Instance;
use super::message::{Message, Payload, Status, Sync};
use super::presence::Presence;
use super::recall::Recall;
use super::{Event, Options, Ordering, Record, Resumed};
use crate::blocks::evidence::Evidence;
use crate::committee::{Certificate, Height, Regency, Seat, View, Vote, Voter, VoterRecord};
use crate::crypto::Digest;
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
    /// Who can vote, as far as is known here.
    pub(super) presence: Presence,
    /// Whether the normal machine is in a state that votes.
    pub(super) may_vote: bool,
    /// What the slowest height took to be decided, among those since the last progress.
    pub(super) slowest: Option<Span>,
    /// Counts what happened, so that a resend timer sees whether anything did.
    pub(super) moves: u64,
    /// When the resend timer runs out, while it runs.
    pub(super) resend_due: Option<Time>,
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
            presence: Presence::new(view.sizes().q),
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
            may_vote: false,
            resend_due: None,
            slowest: None,
            moves: 0,
        };
        core.resume(resumed.payloads, &resumed.decisions);
        core
    }

    /// Promises, payloads and decisions that a start would need.
    pub(super) fn holdings(&self) -> Vec<Record> {
        let promises = self.voter.iter().flat_map(Voter::records);
        // A voter whose log was rolled back is none any more, and must not become one again.
        let lapse = self.recall.lapse().map(VoterRecord::Lapsed);
        let mut records: Vec<Record> = promises.chain(lapse).map(Record::Voter).collect();
        for (height, instance) in &self.instances {
            let payloads = instance.payloads();
            records.extend(payloads.map(|payload| Record::Payload(*height, payload)));
            records.extend(instance.decision().cloned().map(Record::Decision));
        }
        records
    }

    /// Takes up what the disk had above what is applied or certified.
    fn resume(&mut self, payloads: Vec<(Height, Payload)>, decisions: &[Certificate]) {
        let closed = self.certified().min(self.decided);
        for (height, payload) in payloads.into_iter().filter(|(h, _)| *h > closed) {
            // One height may have been written in many regencies: what is locked or decided stays.
            let mut kept = self.kept(height);
            let decided = decisions.iter().map(|decision| &decision.ballot);
            let decided = decided.filter(|ballot| ballot.height == height);
            kept.extend(decided.map(|ballot| ballot.digest));
            let instance = self.instance(height);
            instance.add_payload(&payload, &kept);
            // It was written, so it was valid before the restart.
            instance.mark_valid(&payload.digest);
        }
        for decision in decisions.iter().filter(|c| c.ballot.height > closed) {
            let instance = self.instance(decision.ballot.height);
            if instance.payload(&decision.ballot.digest).is_some() {
                instance.decide(decision);
            }
        }
        while self.is_decided(self.decided.next()) {
            self.decided = self.decided.next();
        }
    }

    /// Whether the normal machine may vote from now on.
    pub(super) fn allow(&mut self, may_vote: bool, now: Time) {
        self.may_vote = may_vote;
        if let Some(own) = self.seat() {
            self.presence.count(own, may_vote, now);
        }
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

    /// What a SYNC bound; what lies above the view's last height is void.
    pub(super) fn bind(&mut self, mut bound: BTreeMap<Height, Digest>) {
        if let Some(last) = self.last {
            drop(bound.split_off(&last.next()));
        }
        self.bound = bound;
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

    /// Whether `seat`, which stands in our regency, has no vote at the height that is open here
    /// next: perhaps nothing of it arrived there, and who knows of nothing asks for nothing.
    pub(super) fn is_unheard_by(&self, seat: Seat, status: &Status) -> bool {
        let next = self.instances.get(&self.decided.next());
        let is_silent = next.is_some_and(|instance| instance.votes_of(seat).next().is_none());
        let stands_here = status.regency == self.regency && status.is_synchronised;
        is_silent && stands_here && status.decided <= self.decided
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

    pub(super) fn is_decided(&self, height: Height) -> bool {
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
    pub(super) fn send(&mut self, message: Message) {
        self.out.send(To::Committee, message);
    }

    pub(super) fn send_to(&mut self, seat: Seat, message: Message) {
        self.out.send(To::One(seat), message);
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
