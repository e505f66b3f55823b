//! The world: virtual time, members, links, clients, and one queue of what happens next.
//!
//! Source: `machine.rs` and its law. In: options. Out: a report. Holds: what happens next follows
//! from the
//! seed alone; every event enters the audit. Elsewhere: the law at one member (`member`), chance
//! (`dice`),
//! rules (`oracle`), what goes wrong when (`trouble`).

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use bytes::Bytes;

use super::clients::{Clients, Submission};
use super::dice::Dice;
use super::disk::{self, Recovered, Root};
use super::member::{Leaving, Member, Running};
use super::net::Net;
use super::oracle::Oracle;
use super::setting::Setting;
use super::{Options, Report, Violation};
use crate::application::Registry;
use crate::blocks::Genesis;
use crate::committee::{MemberId, View};
use crate::consortium::serve;
use crate::consortium::{
    Change, Command, Consortium, Ears, Event, Execute, Execution, HearError, Heard, Message,
    Options as ReplicaOptions, Timer,
};
use crate::crypto::{Digest, Domain, Hasher, Verifier};
use crate::fsm::PaceOptions;
use crate::machine::{Input, Span, Time, To};
use crate::plant::{self, Plant};

/// When worlds begin, in microseconds since the Unix epoch.
const BEGINNING_US: u64 = 1_700_000_000_000_000;
/// How long after the last fault everything admitted must have committed.
const CALM_US: u64 = 120_000_000;
/// How often it is looked whether it has.
const LOOK_US: u64 = 200_000;
/// Outputs that may wait behind one barrier.
const WAITING_MAX: usize = 100_000;

/// A frame on its way.
pub(super) struct Frame {
    from: usize,
    bytes: Bytes,
    /// What it says: every receiver has the same ears, so it is heard once.
    heard: OnceCell<Result<Heard, HearError>>,
}

/// What happens next. Members are named with the life that it belongs to.
pub(super) enum Happening {
    Start(usize),
    Frame(usize, u64, Rc<Frame>),
    Timer(usize, u64, Timer, u64),
    Synced(usize, u64, usize),
    Executed(usize, u64, Execution),
    Link(usize, usize, bool),
    Client,
    Trouble,
    Mend,
}

struct Entry(u64, u64, Happening);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What the world is made of and does not change.
pub(super) struct Ground {
    pub(super) options: Options,
    pub(super) setting: Setting,
    pub(super) genesis: Genesis,
    pub(super) view: View,
    pub(super) verifier: Verifier,
    pub(super) by_id: BTreeMap<MemberId, usize>,
    ears: Ears,
}

/// A world.
pub(super) struct World {
    pub(super) ground: Ground,
    pub(super) now: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    number: u64,
    pub(super) members: Vec<Member>,
    pub(super) net: Net,
    pub(super) clients: Clients,
    pub(super) oracle: Oracle,
    pub(super) dice: Dice,
    /// Whether the phase with faults is over.
    pub(super) is_calm: bool,
    audit: Hasher,
    counts: Counts,
}

/// What is counted for the report.
#[derive(Default)]
pub(super) struct Counts {
    steps: u64,
    regencies: u64,
    pub(super) faults: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn new(options: &Options) -> Self {
        let setting = Setting::draw(options);
        let (genesis, view, verifier) = setting.found(options);
        let ears = Ears {
            view: view.clone(),
            bounds: genesis.parameters.bounds(),
            ahead_max: genesis.parameters.ahead_max,
            verifier,
        };
        let members = setting.members(&genesis);
        let dice = |part| Dice::new(options.seed, part);
        let parameters = genesis.parameters.clone();
        Self {
            now: BEGINNING_US,
            queue: BinaryHeap::new(),
            number: 0,
            net: Net::new(setting.weather, dice(2)),
            clients: Clients::new(&genesis, setting.client_secrets(), setting.large, dice(3)),
            oracle: Oracle::new(view.clone(), verifier, parameters, members.len()),
            dice: dice(4),
            is_calm: false,
            audit: Hasher::new(Domain::Audit),
            counts: Counts::default(),
            ground: Ground {
                options: options.clone(),
                by_id: members.iter().enumerate().map(|(i, m)| (m.id, i)).collect(),
                setting,
                genesis,
                view,
                verifier,
                ears,
            },
            members,
        }
    }

    /// Runs the whole history.
    pub(super) fn run(&mut self) {
        self.begin();
        let steps = self.ground.options.steps;
        while self.counts.steps < steps && self.oracle.broken.is_empty() && self.step() {}
        self.calm();
        self.settle();
    }

    /// Members start one after the other; clients and trouble follow.
    pub(super) fn begin(&mut self) {
        for member in 0..self.members.len() {
            let at = self.dice.below(50_000);
            self.later(at, Happening::Start(member));
        }
        self.later(100_000, Happening::Client);
        self.later(300_000, Happening::Trouble);
    }

    /// Runs until everything admitted is answered everywhere, or too much time has passed.
    pub(super) fn settle(&mut self) {
        let deadline = self.now + CALM_US;
        let mut look = self.now;
        while self.now < deadline && self.oracle.broken.is_empty() {
            if self.now >= look {
                look = self.now + LOOK_US;
                if self.unsettled().is_none() {
                    return;
                }
            }
            if !self.step() {
                break;
            }
        }
        if let Some(why) = self.unsettled().filter(|_| self.oracle.broken.is_empty()) {
            self.oracle.breaks("liveness", why);
        }
    }

    /// Runs for `us` microseconds of the world.
    #[cfg(test)]
    pub(super) fn run_for(&mut self, us: u64) {
        let until = self.now + us;
        while self.now < until && self.oracle.broken.is_empty() && self.step() {}
    }

    #[cfg(test)]
    pub(super) fn overviews(&self) -> impl Iterator<Item = crate::consortium::Overview> + '_ {
        let running = self
            .members
            .iter()
            .filter_map(|member| member.running.as_ref());
        running.map(|running| running.replica.overview())
    }

    /// Takes the next happening; false when there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(Reverse(Entry(at, _, happening))) = self.queue.pop() else {
            return false;
        };
        assert!(at >= self.now, "time never goes back");
        self.now = at;
        self.counts.steps += 1;
        match happening {
            Happening::Start(member) => self.start(member),
            Happening::Frame(member, life, frame) => self.arrive(member, life, &frame),
            Happening::Timer(member, life, timer, number) => {
                let running = self.alive(member, life);
                if running.is_some_and(|running| running.take_timer(&timer, number)) {
                    self.input(member, Input::Timer(timer));
                }
            }
            Happening::Synced(member, life, upto) => self.synced(member, life, upto),
            Happening::Executed(member, life, execution) => {
                if self.alive(member, life).is_some() {
                    self.input(member, Input::Command(Command::Executed(execution)));
                }
            }
            Happening::Link(one, other, is_up) => self.link(one, other, is_up),
            Happening::Client => self.submit(),
            Happening::Trouble => self.trouble(),
            Happening::Mend => self.mend_after(),
        }
        true
    }

    /// Something happens `after` microseconds from now.
    pub(super) fn later(&mut self, after: u64, what: Happening) {
        self.number += 1;
        self.queue
            .push(Reverse(Entry(self.now + after, self.number, what)));
    }

    /// The member, if it is still in that life.
    fn alive(&mut self, member: usize, life: u64) -> Option<&mut Running> {
        let member = &mut self.members[member];
        if member.life == life {
            member.running.as_mut()
        } else {
            None
        }
    }

    fn note(&mut self, kind: u8, member: usize, what: &[u8]) {
        let mut head = [0; 13];
        head[0] = kind;
        head[1..9].copy_from_slice(&self.now.to_le_bytes());
        let index = u32::try_from(member).expect("few members");
        head[9..].copy_from_slice(&index.to_le_bytes());
        self.audit.update(&head).update(what);
    }

    /// A member starts from its disk.
    pub(super) fn start(&mut self, index: usize) {
        if self.members[index].running.is_some() {
            return;
        }
        let ground = &self.ground;
        let member = &mut self.members[index];
        let registry = Registry::standard().expect("our own applications have distinct names");
        let plugin = registry.get(&ground.genesis.parameters.application);
        let app = (plugin.expect("the world's application is registered").make)();
        let root = Root {
            genesis: &ground.genesis,
            view: &ground.view,
            me: member.id,
            secret: member.secret.clone(),
        };
        let recovered = member.disk.recover(&root, app);
        let Recovered {
            restored,
            app,
            applied,
        } = recovered;
        let height = restored.ledger.height();
        let options = ReplicaOptions {
            me: member.id,
            genesis: ground.genesis.clone(),
            verifier: ground.verifier,
            identity: member.identity.clone(),
            overlay: "full-gossip".into(),
            seed: Digest::of(Domain::Audit, member.id.0.as_bytes()).0,
            first_counter: (self.now / 1_000) << 20,
            pace: PaceOptions {
                first: Span(ground.setting.timeout_us),
                least: Span(ground.setting.timeout_us / 4),
                most: Span::from_ms(30_000),
            },
            resend: Span(ground.setting.resend_us),
        };
        let now = Time(self.now + member.skew_us);
        let replica = Consortium::new(options, restored, now).expect("founders make a view");
        member.running = Some(Running::new(replica, app));
        member.life += 1;
        self.oracle.started(index, &applied);
        self.note(1, index, &height.0.to_le_bytes());
        self.input(index, Input::Command(Command::Start));
        for other in (0..self.members.len()).filter(|other| *other != index) {
            let after = self.dice.delay(2_000);
            self.later(after, Happening::Link(index, other, true));
        }
    }

    /// A link comes or goes: both ends are told, where they are up.
    fn link(&mut self, one: usize, other: usize, is_up: bool) {
        let stands = self.net.is_up(one, other) && self.net.is_up(other, one);
        let both = self.members[one].running.is_some() && self.members[other].running.is_some();
        if is_up && !(stands && both) {
            return;
        }
        for (at, peer) in [(one, other), (other, one)] {
            let peer = self.members[peer].id;
            let command = if is_up {
                Command::Connected(peer)
            } else {
                Command::Disconnected(peer)
            };
            self.input(at, Input::Command(command));
        }
    }

    /// Hands one input to a member that is up and carries out what leaves.
    pub(super) fn input(&mut self, index: usize, input: Input<Consortium>) {
        let mut leaving = Vec::new();
        let member = &mut self.members[index];
        let Some(running) = &mut member.running else {
            return;
        };
        let now = Time(self.now + member.skew_us);
        running.handle(now, input, &mut member.disk, &mut leaving);
        member.waited_most = member.waited_most.max(running.waits());
        self.sync(index);
        self.carry_out(index, leaving);
    }

    /// Begins a sync where something is written and none is under way.
    fn sync(&mut self, index: usize) {
        let member = &mut self.members[index];
        let Some(running) = member.running.as_mut().filter(|running| !running.syncs) else {
            return;
        };
        let (written, life) = (member.disk.written(), member.life);
        if written > member.disk.durable() {
            running.syncs = true;
            let after = self.dice.delay(self.ground.setting.sync_us);
            self.later(after, Happening::Synced(index, life, written));
        }
    }

    fn synced(&mut self, index: usize, life: u64, upto: usize) {
        if self.alive(index, life).is_none() {
            return;
        }
        self.note(2, index, &(upto as u64).to_le_bytes());
        let member = &mut self.members[index];
        member.disk.synced(upto);
        let mut leaving = Vec::new();
        if let Some(running) = &mut member.running {
            running.syncs = false;
            running.release(&member.disk, &mut leaving);
            if running.waits() > WAITING_MAX {
                self.oracle
                    .breaks("bound", format!("member {index} holds too much back"));
            }
        }
        self.sync(index);
        self.carry_out(index, leaving);
    }

    fn carry_out(&mut self, index: usize, leaving: Vec<Leaving>) {
        for what in leaving {
            match what {
                Leaving::Send(to, message) => self.send(index, to, &message),
                Leaving::Emit(event) => self.on_event(index, event),
                Leaving::Arm(timer, after, number) => {
                    let life = self.members[index].life;
                    self.later(after.0, Happening::Timer(index, life, timer, number));
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: To<MemberId>, message: &Message) {
        let bytes = message.to_bytes();
        self.note(3, from, &bytes);
        let lane = message.lane();
        let frame = Rc::new(Frame {
            from,
            bytes,
            heard: OnceCell::new(),
        });
        let receivers: Vec<usize> = match to {
            To::One(member) => self
                .ground
                .by_id
                .get(&member)
                .copied()
                .into_iter()
                .collect(),
            To::Committee => (0..self.ground.options.members).collect(),
            To::Members => (0..self.members.len()).collect(),
        };
        for receiver in receivers.into_iter().filter(|receiver| *receiver != from) {
            let length = frame.bytes.len();
            let copies = self.net.send(self.now, (from, receiver), lane, length);
            let life = self.members[receiver].life;
            for at in copies.into_iter().flatten() {
                let after = at - self.now;
                self.later(after, Happening::Frame(receiver, life, Rc::clone(&frame)));
            }
        }
    }

    fn arrive(&mut self, to: usize, life: u64, frame: &Frame) {
        if self.alive(to, life).is_none() {
            return;
        }
        let from = self.members[frame.from].id;
        let ears = &self.ground.ears;
        let heard = frame.heard.get_or_init(|| ears.hear(&from, &frame.bytes));
        let (sender, length) = (frame.from, frame.bytes.len() as u64);
        match heard {
            Ok(message) => {
                self.note(4, to, &length.to_le_bytes());
                let message = message.clone();
                self.input(to, Input::Message { from, message });
            }
            Err(error) => {
                self.oracle
                    .breaks("faultless", format!("member {sender} says: {error}"));
            }
        }
    }

    fn on_event(&mut self, index: usize, event: Event) {
        match event {
            Event::Execute(block) => self.execute(index, &block),
            Event::Submitted(group, result) => {
                let life = self.members[index].life;
                self.note(5, index, group.as_bytes());
                self.clients.told(&group, result.is_ok(), index, life);
            }
            Event::Ordered(height, names) => self.oracle.ordered(index, height, names),
            Event::Applied(applied) => {
                self.note(6, index, applied.digest.as_bytes());
                self.oracle.applied(index, &applied);
            }
            Event::Certified(certificate) => {
                self.note(7, index, certificate.digest().as_bytes());
                self.oracle.certified(index, &certificate);
            }
            Event::Serve(member, wanted) => {
                let answers = serve::answer(&self.members[index].disk, &wanted);
                answers
                    .iter()
                    .for_each(|answer| self.send(index, To::One(member), answer));
            }
            Event::Changed(change) => self.on_change(index, change),
        }
    }

    fn on_change(&mut self, index: usize, change: Change) {
        match change {
            Change::State(_) | Change::Reached(..) => {}
            Change::Regency(regency, _) => {
                self.counts.regencies = self.counts.regencies.max(regency);
            }
            Change::Fault(fault) => {
                let (who, kind) = (self.ground.by_id.get(&fault.who), fault.kind);
                let what = format!("member {index} accuses {who:?} of {kind:?}");
                self.oracle.breaks("faultless", what);
            }
            Change::Lapsed(_, promise) => {
                self.oracle
                    .breaks("memory", format!("member {index} does not know {promise}"));
            }
            Change::Halted { height, .. } => {
                self.oracle
                    .breaks("agreement", format!("member {index} halts at {height}"));
            }
        }
    }

    fn execute(&mut self, index: usize, block: &Execute) {
        let planted = plant::is(Plant::OwnResults) && index == 1 && block.height.0 > 20;
        let member = &mut self.members[index];
        let life = member.life;
        let Some(running) = &mut member.running else {
            return;
        };
        let mut execution = disk::run(&mut *running.app, block);
        if let Some(outcome) = execution.outcomes.first_mut().filter(|_| planted) {
            outcome.code ^= 1;
        }
        let after = self.dice.delay(self.ground.setting.execute_us);
        self.later(after, Happening::Executed(index, life, execution));
    }

    fn submit(&mut self) {
        if self.is_calm {
            return;
        }
        let submission: Submission = self.clients.submit(self.oracle.height());
        let member = self.dice.index(self.ground.options.members);
        self.input(member, Input::Command(Command::Submit(submission)));
        let after = self.dice.delay(self.ground.setting.client_us);
        self.later(after, Happening::Client);
    }

    /// Why not everything is well yet.
    pub(super) fn unsettled(&self) -> Option<String> {
        let height = self.oracle.height();
        for (index, member) in self.members.iter().enumerate() {
            let Some(running) = &member.running else {
                return Some(format!("member {index} is down"));
            };
            let at = running.replica.overview();
            if at.height != height || at.certified != height {
                return Some(self.describe(format!("member {index} lags")));
            }
        }
        let open = self.clients.admitted.iter().find(|admitted| {
            let lives_on = self.members[admitted.member].life == admitted.life;
            let is_open = admitted
                .names
                .iter()
                .any(|name| !self.oracle.is_answered(name));
            lives_on && is_open && admitted.expiry > height
        });
        open.map(|admitted| {
            let by = admitted.member;
            self.describe(format!("what member {by} admitted never commits"))
        })
    }

    fn describe(&self, what: String) -> String {
        let mut text = format!("{what}; the chain has {} blocks", self.oracle.height());
        for (index, member) in self.members.iter().enumerate() {
            if let Some(running) = &member.running {
                let at = running.replica.overview();
                text += &format!(
                    "; {index}: {}/{} height {} certified {} regency {} work {}",
                    at.state,
                    at.regency_state,
                    at.height,
                    at.certified,
                    at.regency,
                    at.pool.has_work
                );
            }
        }
        text
    }

    pub(super) fn breaks(&mut self, oracle: &'static str, what: String) {
        self.oracle.breaks(oracle, what);
    }

    pub(super) fn count(&mut self, fault: &'static str) {
        *self.counts.faults.entry(fault).or_default() += 1;
    }

    pub(super) fn report(&mut self) -> Report {
        let options = &self.ground.options;
        let violations = self.oracle.broken.iter().map(|broken| Violation {
            seed: options.seed,
            oracle: broken.oracle.to_owned(),
            what: broken.what.clone(),
            replay: options.replay(),
        });
        let mut faults = self.counts.faults.clone();
        faults.insert("lost", self.net.lost);
        faults.insert("duplicated", self.net.duplicated);
        Report {
            seed: options.seed,
            steps: self.counts.steps,
            simulated_seconds: (self.now - BEGINNING_US) as f64 / 1e6,
            wall_seconds: 0.0,
            blocks: self.oracle.height().0,
            regencies: self.counts.regencies,
            views: 1,
            violations: violations.collect(),
            faults,
            audit: self.audit.finish().to_string(),
        }
    }
}
