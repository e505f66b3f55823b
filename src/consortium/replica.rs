//! The replica itself: one place where every input arrives and is routed.
//!
//! Source: `ARCHITECTURE.md`. In: [`Heard`] messages, timers, commands. Out: messages, records,
//! events.
//! Holds: no decision is made here; every height is applied once, in order, whether it was decided
//! here or came certified.
//! Elsewhere: applying (`apply`), sealing (`seal`), catching up (`catchup`), ordering (`fsm`).

use std::collections::BTreeSet;

use super::anchors::Anchors;
use super::apply::Chain;
use super::catchup::CatchUp;
use super::checkpoints::Checkpoints;
use super::contract::{Change, Command, Event, Fault, Record, Timer};
use super::draw::Draw;
use super::faults::Faults;
use super::gate::{PlugError, Plugs};
use super::losses::Vacancies;
use super::message::{Ears, Heard, Message};
use super::pool::{self, Pool};
use super::restoring::named_by;
use super::seal::{self, Seals};
use super::views::Handover;
use super::{Denied, Ledger};
use crate::blocks::body::Reconfiguration;
use crate::blocks::{CheckedBatch, Genesis, Group, SignedGroup};
use crate::committee::{Certificate, Height, MemberId, Opening, Regency, View, Voter};
use crate::consensus::EngineInput;
use crate::crypto::{Digest, SecretKey, Verified, Verifier};
use crate::fsm::{self, Ordering, PaceOptions, Resumed};
use crate::machine::{Input, Machine, Outbox, Output, Span, Time, To};
use crate::membership::{List, OverlayInput, Roster};

/// How long an own batch gathers while an earlier one is under way: the batch delay.
pub const GATHER: Span = Span::from_ms(4);
/// What a replica is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member.
    pub me: MemberId,
    /// The chain's genesis document.
    pub genesis: Genesis,
    /// The signature scheme.
    pub verifier: Verifier,
    /// This member's identity key: it signs what the overlay spreads and nothing else.
    pub identity: SecretKey,
    /// The overlay, by name.
    pub overlay: String,
    /// Where all chance comes from.
    pub seed: [u8; 32],
    /// See [`crate::membership::OverlaySetup::first_counter`].
    pub first_counter: u64,
    /// Bounds of the progress timeout and how long nothing may move before the others are asked.
    pub pace: PaceOptions,
    /// See [`fsm::Options::resend`].
    pub resend: Span,
    /// Whether the driver makes keys for next views: where it does not no committee is called.
    pub makes_keys: bool,
}

impl Options {
    /// What ordering is made with in every view.
    pub(super) fn ordering(&self) -> fsm::Options {
        let parameters = &self.genesis.parameters;
        fsm::Options {
            window: parameters.window.into(),
            ahead_max: parameters.ahead_max.into(),
            resend: self.resend,
            pace: self.pace,
        }
    }
}

/// What the disk gave back.
#[derive(Debug)]
pub struct Restored {
    /// The ledger at the last block of the log.
    pub ledger: Ledger,
    /// The view that orders here: the newest whose opening certificate is durable.
    pub view: View,
    /// That certificate; none in view 0.
    pub opened: Option<Certificate>,
    /// The last block of the view, where it is applied and its certificate is not durable.
    pub ending: Option<(Opening, Box<Reconfiguration>)>,
    /// The voter, its records applied; none without a seat.
    pub voter: Option<Voter>,
    /// The newest block certificate.
    pub certificate: Option<Certificate>,
    /// Applied blocks from the certificate's height on: header digest and whether it is sealed.
    pub recent: Vec<(Height, Digest, bool)>,
    /// Payloads of heights above the certificate.
    pub payloads: Vec<(Height, fsm::Payload)>,
    /// Decisions of heights above the certificate.
    pub decisions: Vec<Certificate>,
    /// What the group engine journalled, in order.
    pub journal: Vec<bytes::Bytes>,
    /// Faults of others that were kept.
    pub faults: Vec<Fault>,
    /// Batches of the log that stand in no applied block.
    pub batches: Vec<Verified<CheckedBatch>>,
}

/// One member's replica.
pub struct Consortium {
    pub(super) options: Options,
    pub(super) view: View,
    pub(super) ordering: Ordering,
    pub(super) chain: Chain,
    pub(super) pool: Pool,
    pub(super) seals: Seals,
    pub(super) catchup: CatchUp,
    pub(super) plugs: Plugs,
    pub(super) roster: Roster,
    pub(super) faults: Faults,
    pub(super) handover: Handover,
    /// The beacon that the next committee waits for.
    pub(super) draw: Option<Draw>,
    pub(super) vacancies: Vacancies,
    pub(super) checkpoints: Checkpoints,
    pub(super) anchors: Anchors,
    /// Batches of others of which only the leader was told; bounded by what the pool takes.
    pub(super) untold: BTreeSet<Digest>,
    /// What ordering was told last.
    pub(super) told: fsm::Work,
    /// Transactions and control blocks applied since the start.
    pub(super) ordered: u64,
    is_flush_armed: bool,
    /// How often own batches were spread again without a block, where the timer runs.
    pub(super) spread_again: Option<u32>,
    /// Own batches that were spread again so far: the next ones have their turn.
    pub(super) spread_turn: usize,
}

/// What one input leads to.
pub(super) type Out = Outbox<Consortium>;

impl Consortium {
    /// A replica that resumes from what the disk gave back; it does nothing before
    /// [`Command::Start`].
    ///
    /// Errors: [`PlugError`] when a plug-in is unknown.
    pub fn new(options: Options, restored: Restored, now: Time) -> Result<Self, PlugError> {
        let view = restored.view;
        let newest = restored.certificate.as_ref().or(restored.opened.as_ref());
        let plugs = Plugs::make(&options, newest, restored.journal)?;
        let parameters = &options.genesis.parameters;
        let ordering = options.ordering();
        let resumed = Resumed {
            voter: restored.voter,
            certificate: restored.certificate,
            applied: restored.ledger.height(),
            payloads: restored.payloads,
            decisions: restored.decisions,
            is_fresh: false,
        };
        let pool_options = pool::Options {
            me: options.me,
            members_count: options.genesis.founders.len(),
            batch_bytes_max: parameters.batch_bytes_max as usize,
            window: parameters.window.into(),
        };
        let ledger = restored.ledger.with_verifier(options.verifier);
        let list = List::of(ledger.register(), ledger.height()).map_err(PlugError::new)?;
        let mut pool = Pool::new(pool_options, &view);
        // What is decided or may be needs its batches here, whether or not they still do anything:
        // where nobody else sits, nobody else can be asked.
        let mut named = BTreeSet::new();
        for (height, digests) in named_by(&resumed.payloads) {
            pool.mark_proposed(height, &digests);
            named.extend(digests);
        }
        let open = restored.batches.into_iter();
        let is_open = |batch: &CheckedBatch| named.contains(&batch.digest);
        for batch in open.filter(|batch| is_open(batch) || !ledger.has_settled(batch)) {
            pool.restore(batch, now);
        }
        Ok(Self {
            ordering: Ordering::new(view.clone(), ordering, resumed),
            chain: Chain::new(ledger, restored.recent),
            seals: Seals::default(),
            catchup: CatchUp::new(&options.me, &view),
            plugs,
            roster: Roster::new(list),
            pool,
            view,
            options,
            faults: Faults::restore(&restored.faults),
            handover: Handover::new(restored.opened, restored.ending),
            draw: None,
            vacancies: Vacancies::default(),
            checkpoints: Checkpoints::default(),
            anchors: Anchors::default(),
            untold: BTreeSet::new(),
            told: fsm::Work::default(),
            ordered: 0,
            is_flush_armed: false,
            spread_again: None,
            spread_turn: 0,
        })
    }

    /// The ledger of everything applied.
    pub fn ledger(&self) -> &Ledger {
        &self.chain.ledger
    }

    /// Who we are.
    pub fn me(&self) -> MemberId {
        self.options.me
    }

    /// The view that orders here.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The members that the chain lists, to read and to follow.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// What frames to this replica are checked against.
    pub fn ears(&self) -> Ears {
        Ears {
            view: self.view.clone(),
            bounds: self.options.genesis.parameters.bounds(),
            ahead_max: self.options.genesis.parameters.ahead_max,
            verifier: self.options.verifier,
        }
    }

    /// The newest block certificate; at the start of a view the one that opened it.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.ordering.certificate().or(self.handover.opened())
    }

    /// The newest certified height that is applied here.
    pub(super) fn certified(&self) -> Height {
        let opening = self.view.opening().height;
        self.certificate()
            .map_or(opening, |held| held.ballot.height)
    }

    fn hear(&mut self, now: Time, from: MemberId, heard: Heard, out: &mut Out) {
        // It may have been checked before a hand-over, against seats that are no more.
        if heard.view().is_some_and(|view| view != self.view.id()) {
            return;
        }
        match heard {
            Heard::Order(message) => self.on_order(now, from, message, out),
            Heard::Persist(vote) => {
                self.on_alive(&from);
                self.on_persist(now, vote, out);
            }
            Heard::Batch(batch) => self.on_batch(now, from, batch, out),
            Heard::Held(digests) => {
                if let Some(seat) = self.view.seat_of(&from) {
                    digests
                        .iter()
                        .for_each(|digest| self.pool.hold(digest, seat));
                }
            }
            Heard::Fetch(digests) => self.on_fetch(from, digests, out),
            Heard::Request(height) => {
                out.emit(Event::Serve(from, super::Wanted::Blocks(height)));
            }
            Heard::Extent(extent) => self.on_extent(now, extent, out),
            Heard::Certificate(certificate) => self.on_certificate(now, certificate, out),
            Heard::Overlay(bytes) => {
                self.overlay(now, OverlayInput::Message { from, bytes }, out);
            }
            Heard::Engine(bytes) => self.gate(now, EngineInput::Message { from, bytes }, out),
            Heard::Key(key) => self.on_key(now, &key, out),
            Heard::Beacon(freeze, part) => self.on_beacon(&from, &freeze, part),
            Heard::Vacant(view) => self.on_vacant(from, view),
            Heard::Snapshot(vote) => self.on_snapshot(vote),
            Heard::Bootstrap(message) => self.on_newcomer(now, from, *message, out),
            Heard::Pruned(first) => self.on_pruned(from, first, out),
            Heard::Shorter(height) => self.on_shorter(from, height, out),
        }
    }

    fn on_order(&mut self, now: Time, from: MemberId, message: fsm::Heard, out: &mut Out) {
        let Some(seat) = self.view.seat_of(&from) else {
            return;
        };
        if let fsm::Message::Status(status) = &*message {
            self.help(from, status, out);
            self.tell_vacancy(To::One(from), out); // Lost, or said before it stood in this view.
        }
        if matches!(&*message, fsm::Message::Vote(_)) {
            self.on_alive(&from);
        }
        self.order(
            now,
            Input::Message {
                from: seat,
                message,
            },
            out,
        );
    }

    /// Hands one input to the ordering machines and carries out what they want.
    pub(super) fn order(&mut self, now: Time, input: Input<Ordering>, out: &mut Out) {
        let mut inner = Outbox::new();
        self.ordering.handle(now, input, &mut inner);
        for output in inner.drain() {
            match output {
                Output::Save(fsm::Record::Voter(record)) => {
                    out.save(Record::Voter(self.view.id(), record));
                }
                Output::Save(fsm::Record::Payload(height, payload)) => {
                    out.save(Record::Payload(height, payload));
                }
                Output::Save(fsm::Record::Decision(certificate)) => {
                    out.save(Record::Decision(certificate));
                }
                Output::Send { to, message } => {
                    let to = match to {
                        To::One(seat) => match self.view.member(seat) {
                            Some(member) => To::One(member),
                            None => continue,
                        },
                        To::Committee => To::Committee,
                        To::Members => To::Members,
                    };
                    out.send(to, Message::Order(message));
                }
                Output::Arm { timer, after } => out.arm(Timer::Order(timer), after),
                Output::Cancel(timer) => out.cancel(Timer::Order(timer)),
                Output::Emit(event) => self.on_event(now, event, out),
            }
        }
    }

    pub(super) fn tell(&mut self, now: Time, command: fsm::Command, out: &mut Out) {
        self.order(now, Input::Command(command), out);
    }

    pub(super) fn on_event(&mut self, now: Time, event: fsm::Event, out: &mut Out) {
        match event {
            fsm::Event::Check(height, payload) => self.on_check(now, height, &payload, out),
            fsm::Event::Decided(height, payload, _) => self.on_decided(height, &payload),
            fsm::Event::Ordered(_) => {}
            fsm::Event::Behind(certificate) => {
                self.on_certificate(now, Verified::vouch(certificate), out);
            }
            fsm::Event::Regency(regency, is_synchronised) => {
                self.on_regency(regency, is_synchronised, out);
            }
            fsm::Event::Fault(seat, evidence) => self.accuse(seat, evidence, out),
            fsm::Event::Split(height) => self.halt_at(now, height, None, out),
            fsm::Event::Lapsed(lapse) => {
                let holder = self.view.member(lapse.holder).unwrap_or(self.options.me);
                out.emit(Event::Changed(Change::Lapsed(holder, lapse.promise)));
                self.count_losses();
                self.tell_vacancy(To::Members, out);
            }
        }
    }

    /// A new leader learns what we hold; a member that leads no more spreads what it kept for
    /// itself.
    fn on_regency(&mut self, regency: Regency, is_synchronised: bool, out: &mut Out) {
        let leader = self.view.member(self.view.leader(regency));
        let Some(leader) = leader else { return };
        out.emit(Event::Changed(Change::Regency(regency.0, leader)));
        self.unpropose_control();
        self.pool
            .unpropose_above(self.ordering.decided().max(self.chain.reach()));
        // A proposal that waits may be bound: what it names is still taken whoever brings it.
        for (height, missing) in self.catchup.wanted() {
            self.pool.mark_proposed(height, &missing);
        }
        self.pool.excuse();
        if !is_synchronised || leader == self.options.me {
            return;
        }
        self.give_batches(To::Committee, out);
        self.tell_all_held(leader, out);
    }

    fn on_batch(
        &mut self,
        now: Time,
        from: MemberId,
        batch: Verified<CheckedBatch>,
        out: &mut Out,
    ) {
        let (digest, bytes) = (batch.digest, batch.bytes.clone());
        match self.pool.add(from, batch, now) {
            pool::Taken::New => {
                out.save(Record::Batch(bytes));
                self.acknowledge(digest, out);
                self.note_held(digest, out);
                self.on_arrived(now, &digest, out);
            }
            // It comes again since nothing commits it, so the leader may be the one who is away:
            // everybody must learn that a quorum holds it, or the origin alone would replace him.
            pool::Taken::Known => self.note_held(digest, out),
            pool::Taken::Late | pool::Taken::OverQuota => {}
        }
    }

    fn submit(&mut self, now: Time, submission: Verified<(SignedGroup, Group)>, out: &mut Out) {
        let digest = submission.1.digest;
        let state = self.ordering.state();
        let result = if matches!(state, "initial" | "recovering" | "failed") {
            Err(Denied::NotReady { state })
        } else {
            // What waits for longer than this would be taken for a leader's fault.
            let patience = Span(self.ordering.timeout().0 / 2);
            self.pool
                .admit(submission, &self.chain.ledger, now, patience)
        };
        if result.is_ok() {
            // A lone group goes at once; while own batches are under way, more gather first.
            let is_lone = self.pool.own().next().is_none();
            if self.pool.is_full() {
                self.flush(now, out);
            } else if !self.is_flush_armed {
                self.is_flush_armed = true;
                out.arm(Timer::Flush, if is_lone { Span(0) } else { GATHER });
            }
        }
        out.emit(Event::Submitted(digest, result));
    }

    fn flush(&mut self, _now: Time, out: &mut Out) {
        let leads = self.ordering.is_leading();
        for batch in self.pool.flush() {
            out.save(Record::Batch(batch.bytes.clone()));
            // What a leader can inline it need not spread.
            if !leads || batch.bytes.len() > pool::INLINE_BYTES_MAX {
                out.send(To::Committee, Message::Batch(batch.bytes.clone()));
            }
            self.acknowledge(batch.digest, out);
        }
        self.arm_spread(out);
    }

    fn command(&mut self, now: Time, command: Command, out: &mut Out) {
        match command {
            Command::Start => {
                self.start_plugs(now, out);
                self.begin_view(now, out);
                self.count_losses();
                self.resume(out);
                self.arm_spread(out);
            }
            Command::Accuse(fault) => self.fault(fault, out),
            Command::Key(key) => self.on_own_key(now, *key, out),
            Command::Enter(id, secret, is_fresh) => self.enter(now, id, (secret, is_fresh), out),
            Command::Elsewhere(from, view) => self.on_elsewhere(now, from, view, out),
            Command::Taken(taken) => self.on_taken(now, taken, out),
            Command::Resave(number) => self.resave(number, out),
            Command::Settle(number) => {
                self.save_again(out);
                out.emit(Event::Settled(number));
            }
            Command::Submit(submission) => self.submit(now, submission, out),
            Command::Executed(execution) => self.on_executed(now, execution, out),
            Command::Connected(member) => {
                self.overlay(now, OverlayInput::Reachable(member, true), out);
                self.on_connected(now, member, out);
            }
            Command::Disconnected(member) => {
                self.overlay(now, OverlayInput::Reachable(member, false), out);
                self.on_disconnected(now, &member, out);
            }
        }
    }

    fn on_timer(&mut self, now: Time, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Order(timer) => self.order(now, Input::Timer(timer), out),
            Timer::Flush => {
                self.is_flush_armed = false;
                self.flush(now, out);
            }
            Timer::Fetch => self.fetch_again(out),
            Timer::Tell => self.spread_newest(now, out),
            Timer::Engine(timer) => self.gate(now, EngineInput::Timer(timer), out),
            Timer::Overlay(timer) => self.overlay(now, OverlayInput::Timer(timer), out),
            Timer::Spread => self.spread_more(out),
            Timer::Held => self.say_held(out),
            Timer::Key => self.keys_again(out),
            Timer::Snapshot => self.vote_snapshot_again(out),
        }
    }

    /// What every input may have made possible.
    fn settle(&mut self, now: Time, before: &'static str, out: &mut Out) {
        self.apply(out);
        self.lead(now, out);
        let is_open = self.chain.has_pending() || self.ordering.has_open();
        let work = fsm::Work {
            is_due: self.pool.has_work() || is_open || self.needs_seal() || self.is_control_due(),
            oldest: self.pool.oldest_wait(now).unwrap_or_default(),
            ordered: self.ordered,
        };
        if work != self.told || work.is_due {
            self.told = work;
            self.tell(now, fsm::Command::Work(work), out);
        }
        let state = self.ordering.state();
        if state != before {
            // A seat that is a quorum by itself goes through all states of a start at once.
            if !seal::votes_in(before) {
                self.seal_again(now, out);
            }
            out.emit(Event::Changed(Change::State(state)));
        }
    }
}

impl Machine for Consortium {
    type Peer = MemberId;
    type Message = Message;
    type Heard = Heard;
    type Timer = Timer;
    type Command = Command;
    type Record = Record;
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Out) {
        let before = self.ordering.state();
        match input {
            Input::Message { from, message } => self.hear(now, from, message, out),
            Input::Timer(timer) => self.on_timer(now, timer, out),
            Input::Command(command) => self.command(now, command, out),
        }
        self.settle(now, before, out);
    }
}
