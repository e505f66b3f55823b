//! Hand-over: control bodies that are due, keys for the next view, and the step from view to view.
//!
//! Source: settled rules of views, hand-over. In: what applied blocks effected, fresh keys, the
//! certificate of a reconfiguration. Out: control proposals, our own key, the next view.
//! Holds: nobody votes in a view before the certificate that opened it is durable here; nothing
//! above a reconfiguration block is voted, applied or persisted in its view; what was ordered there
//! returns to the pool.
//! Elsewhere: when a committee is due (`ledger`), which keys count (`fsm::view`), secrets (the
//! driver).

use std::collections::BTreeMap;

use super::catchup::CatchUp;
use super::contract::{Applied, Change, Event, Timer, Wanted};
use super::ledger::{Announced, Due, Effect};
use super::message::Message;
use super::replica::{Consortium, Out};
use super::seal::Seals;
use crate::blocks::body::Reconfiguration;
use crate::blocks::{Body, Call, NextKey};
use crate::committee::{Certificate, Height, MemberId, Opening, View, ViewId, Voter};
use crate::crypto::{SecretKey, Verified};
use crate::fsm::{self, Assembly, Ordering, Resumed};
use crate::machine::{Span, Time, To};
use crate::plant::{self, Plant};

/// How often keys are sent again, and how fast a leader lets heights pass while they are waited
/// for.
const KEYS_EVERY: Span = Span::from_ms(250);

/// So often keys are sent again without a block before a countdown stands still: its leader is
/// gone.
const WAITS_MAX: u32 = 8;
/// Blocks without excuse that may pass over a control body.
const OWED_MAX: u64 = 8;

/// How far the leader of this regency passed over control bodies.
#[derive(Debug, Default)]
struct Passed {
    /// Blocks since one is due.
    run: u64,
    /// Blocks that have no excuse: what was proposed before it was due has one.
    owed: u64,
    since: Option<Time>,
}

/// What a replica knows of the next view.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Our key for the view that is called.
    own: Option<NextKey>,
    /// The height at which we proposed a control body that is not applied yet, and whether it ends
    /// the view.
    proposed: Option<(Height, bool)>,
    passed: Passed,
    /// How often keys were sent again since the last block.
    waits: u32,
    /// A height may pass though nothing is there to be ordered.
    lets_pass: bool,
    is_armed: bool,
    /// The last block of the view, once it is applied, and what it holds.
    last: Option<(Opening, Box<Reconfiguration>)>,
    /// The view that follows, while the driver has not answered.
    next: Option<Box<View>>,
    /// What opened the present view; for those who are behind it.
    opened: Option<Certificate>,
    /// When each member was last given what ended its view.
    helped: BTreeMap<MemberId, Time>,
}

impl Handover {
    /// A replica whose view was opened by this certificate, and may have its last block.
    pub(super) fn new(
        opened: Option<Certificate>,
        last: Option<(Opening, Box<Reconfiguration>)>,
    ) -> Self {
        Self {
            opened,
            last,
            ..Self::default()
        }
    }

    /// What opened the present view.
    pub(super) fn opened(&self) -> Option<&Certificate> {
        self.opened.as_ref()
    }

    /// Whether one view is over and the next has not begun.
    pub(super) fn is_between(&self) -> bool {
        self.next.is_some()
    }

    /// Whether the view has its last block, or we proposed it: nothing is proposed above.
    pub(super) fn is_ending(&self) -> bool {
        self.last.is_some() || self.proposed.is_some_and(|(_, ends)| ends)
    }
}

impl Consortium {
    /// The control body that a leader has to order next: an assemble body that is due, or the
    /// reconfiguration once the keys are there.
    pub(super) fn control_due(&self) -> Option<Body> {
        let is_busy = self.handover.last.is_some() || self.handover.proposed.is_some();
        if is_busy || !self.options.makes_keys {
            return None;
        }
        match self.chain.ledger.due() {
            Some(Due::Body(body)) => return Some(body.clone()),
            Some(Due::Draw(freeze)) => return self.drawn(freeze).cloned().map(Body::Assemble),
            None => {}
        }
        self.checkpoint_due().or_else(|| {
            let seats = self.ordering.next_seats()?;
            let body = self.chain.ledger.reconfiguration(seats)?;
            Some(Body::Reconfiguration(body))
        })
    }

    /// Whether the leader, whoever it is, owes a control body.
    pub(super) fn is_control_due(&self) -> bool {
        self.handover.proposed.is_some() || self.is_control_owed() || self.is_stalled()
    }

    /// Whether a control body could be ordered now: [`Consortium::control_due`] without making it.
    fn is_control_owed(&self) -> bool {
        let is_busy = self.handover.last.is_some() || self.handover.proposed.is_some();
        if is_busy || !self.options.makes_keys {
            return false;
        }
        let ledger = &self.chain.ledger;
        match ledger.due() {
            Some(Due::Body(_)) => true,
            Some(Due::Draw(freeze)) => self.drawn(freeze).is_some(),
            None if self.checkpoint_due().is_some() => true,
            None => ledger.may_reconfigure() && self.ordering.next_seats().is_some(),
        }
    }

    /// Whether a control body is to wait until all below `height` is applied: a block on the way
    /// may change the list that it follows from, and it would be an empty one then.
    pub(super) fn is_early(&self, control: Option<&Body>, height: Height) -> bool {
        let is_of_list = matches!(control, Some(Body::Freeze(_) | Body::Assemble(_)));
        is_of_list && height != self.chain.ledger.height().next()
    }

    /// Whether something is waited for and no block passes that would end it: without anything
    /// else to order nobody would miss a leader that is gone.
    fn is_stalled(&self) -> bool {
        let (ledger, assembly) = (&self.chain.ledger, self.ordering.assembly());
        let height = ledger.height();
        let counts_down = assembly.is_some_and(|assembly| height < assembly.patience)
            || ledger.register().is_generating(height.next())
            || self.draw.is_some();
        counts_down && self.handover.waits > WAITS_MAX && !self.handover.is_ending()
    }

    /// Ordering begins, and what was under way between two views before a restart goes on.
    pub(super) fn begin_view(&mut self, now: Time, out: &mut Out) {
        self.tell(now, fsm::Command::Start, out);
        match &self.handover.last {
            Some((opening, _)) => {
                let last = opening.height;
                self.tell(now, fsm::Command::Reconfigured(last), out);
            }
            None => {
                self.call(now, out);
                self.begin_draw(out);
            }
        }
    }

    /// Whether a leader may close a height that holds nothing, so that a countdown goes on.
    pub(super) fn may_pass(&self) -> bool {
        self.handover.lets_pass && !self.handover.is_ending()
    }

    /// We proposed at `height`.
    pub(super) fn on_proposed(&mut self, height: Height, is_control: bool, ends: bool) {
        self.handover.lets_pass = false;
        if is_control {
            self.handover.proposed = Some((height, ends));
        }
    }

    /// What a leader proposed may never be decided: it is due again.
    pub(super) fn unpropose_control(&mut self) {
        self.handover.passed = Passed::default();
        self.handover.proposed = None;
    }

    /// A block was applied that was ordered before our eyes: whether its leader passes over a
    /// control body, as one would that is about to be excluded.
    ///
    /// A reconfiguration counts behind its countdown: before, the leader may lack a key that is
    /// here.
    pub(super) fn passes_over_control(&mut self, now: Time) -> bool {
        let height = self.chain.ledger.height();
        let assembly = self.ordering.assembly();
        let is_over = assembly.is_none_or(|assembly| height >= assembly.patience);
        let is_due = self.is_control_owed() && (self.chain.ledger.due().is_some() || is_over);
        // What it needs may come to the leader later than to us, by as much as it is sent again.
        let patience = self.ordering.timeout().max(KEYS_EVERY);
        // What is owed adds up: a leader that names one committee after the other and lets none
        // begin owes a little each time.
        let passed = &mut self.handover.passed;
        passed.run = if is_due { passed.run + 1 } else { 0 };
        if passed.run <= u64::from(self.options.genesis.parameters.window) {
            return false;
        }
        passed.owed += 1;
        let since = *passed.since.get_or_insert(now);
        passed.owed > OWED_MAX && now - since > patience
    }

    /// A block was applied: what it means for the views.
    pub(super) fn on_effect(&mut self, now: Time, applied: &Applied, out: &mut Out) {
        let height = applied.block.header.height;
        self.handover.waits = 0;
        if self.handover.proposed.is_some_and(|(at, _)| at <= height) {
            self.handover.proposed = None;
        }
        match (applied.effect, &applied.block.body) {
            (Some(Effect::Assembled), _) => {
                self.draw = None;
                self.call(now, out);
            }
            (Some(Effect::Frozen), _) => {
                self.tell(now, fsm::Command::Applied(height), out);
                self.begin_draw(out);
            }
            (Some(Effect::Reconfigured), Body::Reconfiguration(body)) => {
                let digest = applied.digest;
                self.handover.last = Some((Opening { height, digest }, Box::new(body.clone())));
                self.pool.unpropose_above(height);
                drop(self.chain.pending.split_off(&height.next()));
                self.tell(now, fsm::Command::Reconfigured(height), out);
            }
            (Some(Effect::Checkpointed), Body::Checkpoint(body)) => {
                self.on_checkpoint(now, body, out);
                self.tell(now, fsm::Command::Applied(height), out);
            }
            _ => self.tell(now, fsm::Command::Applied(height), out),
        }
    }

    /// A committee is announced: its members make keys, and everybody collects them.
    pub(super) fn call(&mut self, now: Time, out: &mut Out) {
        let ledger = &self.chain.ledger;
        let next = ledger.views().present.next();
        let wait = ledger.register().answer_blocks();
        let Some(Announced { at, committee }) = ledger.views().announced.clone() else {
            return;
        };
        let call = Call {
            next,
            assemble: at.digest,
        };
        self.handover.own = None;
        if !self.options.makes_keys {
            return; // Nobody's key would come.
        }
        if committee.contains(&self.options.me) {
            out.emit(Event::MakeKey(call));
        }
        let assembly = Assembly {
            call,
            committee,
            patience: at.height.plus(wait / 2),
        };
        self.tell(now, fsm::Command::Assembled(assembly), out);
        self.arm_keys(out);
    }

    pub(super) fn arm_keys(&mut self, out: &mut Out) {
        if !self.handover.is_armed {
            self.handover.is_armed = true;
            out.arm(Timer::Key, KEYS_EVERY);
        }
    }

    /// Our own key is durable.
    pub(super) fn on_own_key(&mut self, now: Time, key: NextKey, out: &mut Out) {
        let is_asked = self.ordering.assembly().is_some_and(|a| a.call == key.call);
        if is_asked && !self.handover.is_ending() {
            self.handover.own = Some(key);
            out.send(To::Committee, Message::Key(Box::new(key)));
            self.on_key(now, &Verified::vouch(key), out);
        }
    }

    /// A member's key: fresh is what nobody has. A leader that took another one would propose what
    /// nobody may vote for.
    pub(super) fn on_key(&mut self, now: Time, key: &NextKey, out: &mut Out) {
        if self.chain.ledger.register().uses(&key.proof.key) {
            return;
        }
        self.tell(now, fsm::Command::Key(*key), out);
    }

    /// Keys that were sent may be lost, and a countdown in blocks needs blocks.
    pub(super) fn keys_again(&mut self, out: &mut Out) {
        self.handover.is_armed = false;
        let is_awaited = self.ordering.assembly().is_some() || self.draw.is_some();
        if !is_awaited || self.handover.is_ending() {
            return;
        }
        self.share_again(out);
        if let Some(key) = self.handover.own {
            out.send(To::Committee, Message::Key(Box::new(key)));
        }
        self.handover.lets_pass = true;
        self.handover.waits = self.handover.waits.saturating_add(1);
        self.arm_keys(out);
    }

    /// A certificate is durable. That of the view's last block opens the next one.
    pub(super) fn open_next(&mut self, certificate: &Certificate, out: &mut Out) {
        let Some((opening, body)) = &self.handover.last else {
            return;
        };
        if certificate.ballot.height != opening.height {
            return;
        }
        let view = body.view(self.view.chain(), *opening);
        // The ledger took it as a view's end, so its bytes were checked when it was voted on.
        let view = Box::new(view.expect("a certified reconfiguration makes a view"));
        if !plant::is(Plant::EndIgnored) {
            self.ordering.retire();
        }
        self.handover.opened = Some(certificate.clone());
        self.handover.next = Some(view.clone());
        out.emit(Event::View(view));
    }

    /// The driver has erased what had to be erased: the next view begins.
    pub(super) fn enter(
        &mut self,
        now: Time,
        id: ViewId,
        (secret, is_fresh): (Option<Box<SecretKey>>, bool),
        out: &mut Out,
    ) {
        let Some(view) = self.handover.next.take_if(|view| view.id() == id) else {
            return;
        };
        let (regency, _) = self.ordering.regency();
        out.cancel(Timer::Order(fsm::Timer::Progress(regency)));
        out.cancel(Timer::Order(fsm::Timer::Resend));
        let resumed = Resumed {
            voter: secret.and_then(|secret| Voter::new(&view, *secret)),
            certificate: None,
            applied: self.chain.ledger.height(),
            payloads: Vec::new(),
            decisions: Vec::new(),
            is_fresh,
        };
        self.view = *view;
        self.ordering = Ordering::new(self.view.clone(), self.options.ordering(), resumed);
        self.handover = Handover::new(self.handover.opened.take(), None);
        self.draw = None;
        self.seals = Seals::default();
        let connected = self.catchup.connected().clone();
        self.catchup = CatchUp::new(&self.options.me, &self.view);
        self.pool.install(&self.view);
        self.forget_vacancies();
        self.checkpoints.enter();
        self.told = fsm::Work::default();
        out.emit(Event::Changed(Change::View(id)));
        self.tell(now, fsm::Command::Start, out);
        for member in connected {
            self.on_connected(now, member, out);
        }
        self.resume(out);
        self.arm_spread(out);
    }

    /// A member speaks in another view. One that lags is given what ended its view; one ahead of us
    /// is asked for blocks.
    pub(super) fn on_elsewhere(&mut self, now: Time, from: MemberId, view: ViewId, out: &mut Out) {
        if view > self.view.id() {
            self.catchup.ahead(from);
        }
        let last = self.handover.helped.get(&from);
        if last.is_some_and(|last| now - *last < KEYS_EVERY) {
            return; // It says much in a short while, and one answer is enough.
        }
        self.handover.helped.insert(from, now);
        if view < self.view.id() {
            let newest = self.chain.ledger.parts().reconfiguration.height;
            out.emit(Event::Serve(from, Wanted::End(view, newest)));
        } else if view > self.view.id() {
            let next = self.chain.reach().next();
            out.send(To::One(from), Message::Request(next));
        }
    }
}
