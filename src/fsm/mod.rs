//! The three state machines: normal operation, regency change, view generation.
//!
//! Source: Mod-SMaRt; the Consortium's state maps. In: messages between seats, timers, payloads.
//! Out: decisions.
//! Holds: heights in a bounded window are independent instances; a decided height is decided for
//! ever; two events of one machine never run at once.
//! Elsewhere: what a payload is and whether it is valid (`consortium`), who signs
//! (`committee::voter`).

mod change;
mod collect;
mod core;
mod guard;
mod instance;
mod message;
mod normal;
mod pace;
mod presence;
mod recall;
mod regency;
mod repair;
mod stops;
mod sync;
mod view;
mod voting;

use statig::blocking::{IntoStateMachineExt as _, StateMachine};

use self::core::{Core, Scene};
pub use self::instance::PAYLOADS_MAX;
pub use self::message::{Heard, Held, Message, MessageError, Payload, Recall, Status, Stop, Sync};
use self::normal::Normal;
pub use self::pace::PaceOptions;
use self::regency::RegencyChange;
pub use self::view::Assembly;
use self::view::ViewGeneration;
use crate::blocks::NextKey;
use crate::blocks::body::NextSeat;
use crate::blocks::evidence::Evidence;
use crate::committee::{
    Certificate, Height, Lapse, Regency, Seat, StopData, View, Vote, Voter, VoterRecord,
};
use crate::crypto::{Digest, Verified};
use crate::machine::{Input, Machine, Outbox, Span, Time, To};

/// What a timer of the ordering machines guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Progress in this regency: without it the leader is replaced.
    Progress(Regency),
    /// What was sent may be lost: ask where the others stand.
    Resend,
}

/// What the ordering machines are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Everything on the disk was read and applied.
    Start,
    /// A payload for a height that [`Ordering::next_height`] named.
    Propose(Height, Payload),
    /// The verdict on a payload of [`Event::Check`].
    Checked(Height, Digest, bool),
    /// A block certificate is held; everything up to the second height is applied here.
    Certified(Certificate, Height),
    /// What waits to be ordered and what was; told whenever either may have changed.
    Work(Work),
    /// The leader of a regency is unfair: a transaction that it could have ordered was overtaken by
    /// too many blocks. Counts like a timeout, once per regency; one of a regency that has ended
    /// is harmless. Blocks that flow do not take it back for a while, since it is not about them.
    Complain(Regency),
    /// Links to this seat stand, or fell.
    Connected(Seat, bool),
    /// What this member is to be changes.
    Change(Role),
    /// An assemble block was applied.
    Assembled(Assembly),
    /// A member's fresh key for the next view; its proofs hold.
    Key(NextKey),
    /// A block was applied.
    Applied(Height),
    /// The reconfiguration block was applied: the view's last height. What was decided above it is
    /// void.
    Reconfigured(Height),
}

/// What waits to be ordered here, and what was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Whether there is admitted work or a control block due.
    pub is_due: bool,
    /// How long the oldest admitted work has waited; 0 without any.
    pub oldest: Span,
    /// Transactions and control blocks in the blocks that this member has applied since it
    /// started. Where this grows there is progress: blocks without any are none.
    pub ordered: u64,
}

/// What a member may be told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has been given a seat that it has yet to take.
    Invited,
    /// It has no seat any more.
    Unseated,
    /// It takes a snapshot, or has taken it.
    Checkpointing(bool),
    /// Its state contradicts a certificate: it stops voting.
    Failed,
    /// Its log was rolled back: it signs nothing any more and goes on following.
    Wiped,
}

/// What must be durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A promise.
    Voter(VoterRecord),
    /// The payload that a WRITE names.
    Payload(Height, Payload),
    /// A decision, for those who missed it: until a block certificate covers it nothing else can
    /// give it to them.
    Decision(Certificate),
}

/// What the ordering machines tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Judge this payload by its bytes and answer with [`Command::Checked`], at once or when its
    /// bytes are here.
    Check(Height, Payload),
    /// q ACCEPTs: the height is decided.
    Decided(Height, Payload, Certificate),
    /// Every height up to this one is decided.
    Ordered(Height),
    /// A block certificate above ours: fetch the blocks.
    Behind(Certificate),
    /// A regency was installed; whether its SYNC was seen.
    Regency(Regency, bool),
    /// A seat broke a rule, with what proves it where anything does.
    Fault(Seat, Option<Box<Evidence>>),
    /// Two decisions at one height: more than f seats are faulty.
    Split(Height),
    /// Our log lacks what we signed: it was rolled back, and we sign nothing any more.
    Lapsed(Lapse),
}

/// What does not change while a view lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Heights open above the decided prefix (W).
    pub window: u64,
    /// Heights ordered above the newest block certificate (E).
    pub ahead_max: u64,
    /// How long nothing may move before the others are asked.
    pub resend: Span,
    /// Bounds of the progress timeout.
    pub pace: PaceOptions,
}

/// What a member brings back from its disk.
#[derive(Debug)]
pub struct Resumed {
    /// Its voter with every promise; none without a seat.
    pub voter: Option<Voter>,
    /// The newest block certificate of this view.
    pub certificate: Option<Certificate>,
    /// The height up to which blocks are applied.
    pub applied: Height,
    /// Payloads that it wrote above the certificate.
    pub payloads: Vec<(Height, Payload)>,
    /// Decisions above the certificate.
    pub decisions: Vec<Certificate>,
    /// Whether the key was made in this life of the process and never voted: then no log can lack
    /// what it signed, and nobody is asked.
    pub is_fresh: bool,
}

/// Mod-SMaRt in one view: the normal and the regency machine over one window.
pub struct Ordering {
    core: Core,
    normal: StateMachine<Normal>,
    regency: StateMachine<RegencyChange>,
    generation: StateMachine<ViewGeneration>,
    /// What the replica said last.
    work: Work,
}

impl Ordering {
    /// Ordering in `view`, resumed from what the disk had.
    pub fn new(view: View, options: Options, resumed: Resumed) -> Self {
        let own = resumed.voter.as_ref().map(Voter::seat);
        Self {
            generation: ViewGeneration::new(&view, own).state_machine(),
            regency: RegencyChange::new(&view, &options).state_machine(),
            core: Core::new(view, options, resumed),
            work: Work::default(),
            normal: Normal::default().state_machine(),
        }
    }

    /// The state of the normal machine.
    pub fn state(&self) -> &'static str {
        self.normal.state().name()
    }

    /// The state of the regency machine.
    pub fn regency_state(&self) -> &'static str {
        self.regency.state().name()
    }

    /// How long this member waits for progress before it asks for another leader.
    pub fn timeout(&self) -> Span {
        self.regency.inner().timeout()
    }

    /// The state of the view machine, and how many seats are connected, ourselves counted.
    pub fn view_state(&self) -> (&'static str, usize) {
        (
            self.generation.state().name(),
            self.generation.inner().connected(),
        )
    }

    /// What fresh keys are made for now.
    pub fn assembly(&self) -> Option<&Assembly> {
        self.generation.inner().assembly()
    }

    /// Fresh keys for the next view that are here, and how many are asked for.
    pub fn next_keys(&self) -> (usize, usize) {
        self.generation.inner().keys()
    }

    /// Whether anything can be signed here in this view.
    pub fn has_voter(&self) -> bool {
        self.core.voter.is_some()
    }

    /// The seats of the next view, once a leader may order them.
    pub fn next_seats(&self) -> Option<Vec<NextSeat>> {
        let is_ready = self.generation.state().is_ready();
        is_ready.then(|| self.generation.inner().seats())
    }

    /// Gives the voter away for good: its view is over, and its secret goes with it.
    pub fn retire(&mut self) {
        self.core.voter = None;
    }

    /// The installed regency and its leader.
    pub fn regency(&self) -> (Regency, Seat) {
        (self.core.regency, self.core.leader())
    }

    /// Whether we lead and may propose.
    pub fn is_leading(&self) -> bool {
        self.core.is_leading() && matches!(self.state(), "leader" | "checkpointing")
    }

    /// The lowest height that we may propose, and whether it must be closed because a bound height
    /// waits above it.
    pub fn next_height(&self) -> Option<(Height, bool)> {
        if self.is_leading() {
            self.core.next_height()
        } else {
            None
        }
    }

    /// Whether the last SYNC bound `height`: its payload is not fresh.
    pub fn is_bound(&self, height: Height) -> bool {
        self.core.bound.contains_key(&height)
    }

    /// Whether the payload of `digest` is held for `height`.
    pub fn has_payload(&self, height: Height, digest: &Digest) -> bool {
        let instance = self.core.instances.get(&height);
        instance.is_some_and(|instance| instance.payload(digest).is_some())
    }

    /// Every height up to this one is decided.
    pub fn decided(&self) -> Height {
        self.core.decided
    }

    /// Heights of which a proposal or a vote is kept.
    pub fn open_heights(&self) -> usize {
        self.core.instances.len()
    }

    /// Heights that are known of and undecided, or decided above a gap.
    pub fn has_open(&self) -> bool {
        self.core.has_open()
    }

    /// The voter signs PERSIST through this door.
    pub fn voter(&self) -> Option<&Voter> {
        self.core.voter.as_ref()
    }

    /// The same, to sign with.
    pub fn voter_mut(&mut self) -> Option<&mut Voter> {
        self.core.voter.as_mut()
    }

    /// Remembers a PERSIST, should its seat ask for it after a start.
    pub fn note(&mut self, vote: &Verified<Vote>) {
        self.core.recall.note(vote);
    }

    /// Whether links to the leader fell and do not stand again.
    pub fn has_lost_leader(&self) -> bool {
        self.core.presence.has_lost(self.core.leader())
    }

    /// Decided payloads that are held, by height.
    pub fn decisions(&self) -> impl Iterator<Item = (Height, Payload)> {
        self.core.instances.iter().filter_map(|(height, instance)| {
            let digest = instance.decision()?.ballot.digest;
            Some((*height, instance.payload(&digest)?))
        })
    }

    /// Everything of open heights that was saved and still holds, to be saved again.
    pub fn holdings(&self) -> Vec<Record> {
        self.core.holdings()
    }

    /// The newest block certificate.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.core.base.as_ref()
    }

    /// Events that no state had a place for.
    pub fn ignored(&self) -> u64 {
        self.normal.inner().ignored + self.regency.inner().ignored
    }

    fn normal(&mut self, now: Time, event: &normal::Event, out: &mut Outbox<Self>) {
        let mut scene = Scene {
            core: &mut self.core,
            now,
            out,
        };
        #[cfg(test)]
        let before = self.normal.state().name();
        self.normal.handle_with_context(event, &mut scene);
        #[cfg(test)]
        tests::edges::saw(before, &|| format!("{event:?}"), self.state());
        let may_vote = matches!(self.state(), "follower" | "leader" | "checkpointing");
        if may_vote != self.core.may_vote {
            self.core.allow(may_vote, now);
            let mut scene = Scene {
                core: &mut self.core,
                now,
                out,
            };
            if may_vote {
                scene.say_status(); // Nobody counts on us before.
            }
            scene.advance_all();
        }
    }

    fn change(&mut self, now: Time, event: &regency::Event, out: &mut Outbox<Self>) {
        let mut scene = Scene {
            core: &mut self.core,
            now,
            out,
        };
        let before = scene.core.regency;
        let was_synchronised = scene.core.is_synchronised;
        #[cfg(test)]
        let state = self.regency.state().name();
        self.regency.handle_with_context(event, &mut scene);
        #[cfg(test)]
        tests::edges::saw(state, &|| format!("{event:?}"), self.regency_state());
        if self.core.regency != before || self.core.is_synchronised != was_synchronised {
            self.normal(now, &normal::Event::Settle, out);
        }
    }

    fn hear(&mut self, now: Time, from: Seat, heard: Heard, out: &mut Outbox<Self>) {
        // STOP and what follows are heard in every state but these: a leader that stalls can always
        // be replaced.
        let is_deaf = matches!(self.state(), "initial" | "recovering" | "failed" | "wiped");
        self.remember(from, &heard, out);
        self.core.presence.heard(from, &heard, now);
        if from == self.core.leader() {
            self.core.leader_heard = now;
        }
        match &*heard {
            Message::Stop(stop) if !is_deaf => {
                self.change(now, &regency::Event::Stop(from, stop.regency), out);
            }
            Message::StopData(data, proofs) if !is_deaf => {
                let event = regency::Event::StopData(data.clone(), proofs.clone());
                self.change(now, &event, out);
            }
            Message::Sync(sync) if !is_deaf => {
                self.change(now, &regency::Event::Sync(sync.clone()), out);
            }
            Message::Status(status) => {
                let lags = status.regency < self.core.regency
                    || (status.regency == self.core.regency && !status.is_synchronised);
                self.normal(now, &normal::Event::Heard(from, heard), out);
                if lags && !is_deaf {
                    Scene {
                        core: &mut self.core,
                        now,
                        out,
                    }
                    .give_sync(from);
                }
            }
            Message::Stop(_) | Message::StopData(..) | Message::Sync(_) => {} // Deaf.
            Message::Propose(..) | Message::Vote(_) | Message::Decision(..) => {
                self.normal(now, &normal::Event::Heard(from, heard), out);
            }
            Message::Fetch(..) | Message::Payload(..) => {
                self.normal(now, &normal::Event::Heard(from, heard), out);
            }
            Message::Recall(Recall::Ask(number)) => Scene {
                core: &mut self.core,
                now,
                out,
            }
            .answer_recall(from, *number),
            Message::Recall(Recall::Held(number, held)) => {
                let verdict = self.core.recalled(from, *number, held);
                self.on_recalled(now, verdict, out);
            }
        }
    }

    /// Remembers what a seat signed, should it ask for it after a start; what contradicts it is a
    /// fault.
    fn remember(&mut self, from: Seat, heard: &Message, out: &mut Outbox<Self>) {
        match heard {
            Message::Propose(vote, _) | Message::Vote(vote) => self.core.recall.note(vote),
            Message::StopData(data, proofs) => {
                self.watch_claims(data, out);
                if !sync::is_proved(data, proofs, &self.core.view) {
                    out.emit(Event::Fault(from, None));
                }
            }
            Message::Sync(sync) => {
                sync.set
                    .iter()
                    .for_each(|data| self.watch_claims(data, out));
                // Whoever passes a SYNC on has found it to hold.
                if sync::settle(sync, &self.core.view).is_err() {
                    out.emit(Event::Fault(from, None));
                }
            }
            Message::Stop(_) | Message::Decision(..) | Message::Fetch(..) => {}
            Message::Payload(..) | Message::Status(_) | Message::Recall(_) => {}
        }
    }

    fn watch_claims(&mut self, data: &StopData, out: &mut Outbox<Self>) {
        if let Some(evidence) = self.core.recall.note_stop_data(data) {
            out.emit(Event::Fault(data.seat, Some(Box::new(evidence))));
        }
    }

    /// What an answer about our own votes leads to.
    fn on_recalled(&mut self, now: Time, verdict: recall::Verdict, out: &mut Outbox<Self>) {
        match verdict {
            recall::Verdict::Same => {}
            recall::Verdict::Cleared => {
                self.normal(now, &normal::Event::Settle, out);
                self.change(now, &regency::Event::Cleared, out);
            }
            recall::Verdict::Lapsed(lapse) => {
                self.core.lapse(lapse, out);
                self.core.resend_due = None;
                out.cancel(Timer::Resend);
                out.cancel(Timer::Progress(self.core.regency));
                self.normal(now, &normal::Event::Change(Role::Wiped), out);
            }
        }
    }

    fn generate(&mut self, event: &view::Event) {
        #[cfg(test)]
        let before = self.generation.state().name();
        self.generation.handle(event);
        #[cfg(test)]
        tests::edges::saw(before, &|| format!("{event:?}"), self.view_state().0);
    }

    /// The links to `seat` stand, or fell.
    fn link(&mut self, now: Time, seat: Seat, stands: bool, out: &mut Outbox<Self>) {
        self.core.presence.link(seat, stands);
        if !stands {
            self.generate(&view::Event::Disconnected(seat));
            if seat == self.core.leader() {
                self.change(now, &regency::Event::Lost, out);
            }
            return;
        }
        self.generate(&view::Event::Connected(seat));
        // What was sent before may be lost, and so may the answer to our first question.
        match self.state() {
            "synchronising" => self.normal(now, &normal::Event::Resend, out),
            "follower" | "leader" | "checkpointing" => {
                let message = Message::Status(self.core.status(true));
                out.send(To::One(seat), message);
            }
            _ => {}
        }
    }

    fn command(&mut self, now: Time, command: Command, out: &mut Outbox<Self>) {
        match command {
            Command::Start => {
                self.normal(now, &normal::Event::Start, out);
                self.normal(now, &normal::Event::Recovered, out);
                self.normal(now, &normal::Event::Settle, out);
                if let Some(lapse) = self.core.recall.lapse() {
                    out.emit(Event::Lapsed(lapse)); // Found in an earlier life.
                }
                self.change(now, &regency::Event::Resend, out);
            }
            Command::Propose(height, payload) => {
                self.normal(now, &normal::Event::Propose(height, payload), out);
            }
            Command::Checked(height, digest, is_valid) => {
                self.normal(now, &normal::Event::Checked(height, digest, is_valid), out);
            }
            Command::Certified(certificate, applied) => {
                if self.core.last == Some(certificate.ballot.height) {
                    self.generate(&view::Event::Certified);
                }
                Scene {
                    core: &mut self.core,
                    now,
                    out,
                }
                .on_certified(certificate, applied);
            }
            Command::Assembled(assembly) => {
                self.generate(&view::Event::Assembled(assembly));
            }
            Command::Key(key) => self.generate(&view::Event::Key(key)),
            Command::Applied(height) => self.generate(&view::Event::Applied(height)),
            Command::Reconfigured(last) => {
                self.generate(&view::Event::Reconfigured);
                self.core.end_at(last);
            }
            Command::Work(work) => {
                let ordered = work.ordered.saturating_sub(self.work.ordered);
                self.work = work;
                if ordered > 0 {
                    let event = regency::Event::Progress(ordered, work.oldest);
                    self.change(now, &event, out);
                }
            }
            Command::Complain(regency) => {
                self.change(now, &regency::Event::Complain(regency), out);
            }
            Command::Connected(seat, stands) => self.link(now, seat, stands, out),
            Command::Change(role) => self.normal(now, &normal::Event::Change(role), out),
        }
    }
}

impl Machine for Ordering {
    type Peer = Seat;
    type Message = Message;
    type Heard = Heard;
    type Timer = Timer;
    type Command = Command;
    type Record = Record;
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        if self.state() == "failed" {
            return; // Nothing is voted, asked or answered any more.
        }
        match input {
            Input::Message { from, message } => self.hear(now, from, message, out),
            Input::Timer(_) if self.state() == "wiped" => {} // Guards nothing any more.
            Input::Timer(Timer::Progress(regency)) => {
                self.change(now, &regency::Event::Timeout(regency), out);
            }
            Input::Timer(Timer::Resend) => {
                self.core.resend_due = None;
                self.normal(now, &normal::Event::Resend, out);
                self.change(now, &regency::Event::Resend, out);
            }
            Input::Command(command) => self.command(now, command, out),
        }
        // Whether the progress timer must run depends on work and on what is open, and any input
        // may change it.
        self.change(now, &regency::Event::Work(self.work.is_due), out);
    }
}

#[cfg(test)]
mod tests;
