//! A world with a virtual clock: servers with a bounded pace, links that delay and lose, newcomers
//! whose disks survive them.
//!
//! Holds: equal seeds give equal worlds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::rngs::ChaCha12Rng;
use rand::{RngExt as _, SeedableRng as _};

use super::ledger::Ledger;
use crate::blocks::Step;
use crate::blocks::codec;
use crate::bootstrap::shelf::{self, Shelf};
use crate::bootstrap::*;
use crate::checkpoint::{Holding, Page};
use crate::committee::{Height, MemberId, Voter};
use crate::crypto::{Digest, Domain, PublicKey, Verifier};
use crate::machine::{Input, Machine, Outbox, Output, Span, Time, To};

/// What becomes of an answer of a server.
pub(super) type Twist = Box<dyn Fn(&mut Saying) -> Vec<Message>>;

/// What a server is about to say.
pub(super) struct Saying<'a> {
    pub(super) ask: &'a Ask,
    pub(super) answers: Vec<Message>,
    pub(super) ledger: &'a Ledger,
}

/// Answers with no more than their first step.
pub(super) fn a_step_at_a_time(answers: Vec<Message>) -> Vec<Message> {
    let first = |message: Message| match message {
        Message::Answer(Answer::Steps(steps)) => {
            Message::Answer(Answer::Steps(steps.into_iter().take(1).collect()))
        }
        other @ (Message::Ask(_) | Message::Answer(_)) => other,
    };
    answers.into_iter().map(first).collect()
}

/// A member that serves.
pub(super) struct Server {
    pub(super) id: MemberId,
    pub(super) ledger: Ledger,
    pub(super) twist: Option<Twist>,
    /// Bytes per second.
    pub(super) pace: u64,
    pub(super) is_up: bool,
    busy: Time,
    /// Bytes of segments that it sent.
    pub(super) sent: u64,
}

/// What survives a newcomer.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) steps: Vec<Step>,
    pub(super) target: Option<Box<Target>>,
    pub(super) pages: Vec<Page>,
    pub(super) segments: BTreeMap<Digest, Bytes>,
}

impl Disk {
    /// A step that an earlier try left for this view gives way, with those behind it.
    fn keep(&mut self, step: Step) {
        let is_same_view = |held: &Step| held.body.next == step.body.next;
        let index = self.steps.iter().position(is_same_view);
        match index {
            Some(index) if self.steps[index] == step => return,
            Some(index) => self.steps.truncate(index),
            None => {}
        }
        assert_eq!(
            step.body.next.0,
            self.steps.len() as u64 + 1,
            "steps are saved in order"
        );
        self.steps.push(step);
    }
}

/// A member that bootstraps.
pub(super) struct Newcomer {
    pub(super) id: MemberId,
    pub(super) machine: Bootstrap,
    pub(super) disk: Disk,
    pub(super) events: Vec<Event>,
    /// What it asked for in all its lives.
    pub(super) asked: Vec<Ask>,
    /// How many inputs it had.
    pub(super) inputs: u64,
    /// Whom it heard last.
    pub(super) heard: Option<MemberId>,
    busy: Time,
    pub(super) sent: u64,
    pub(super) done_at: Option<Time>,
}

enum What {
    Message(MemberId, Message),
    Timer(Timer, u64),
    Connected(MemberId),
}

/// The world.
pub(super) struct World {
    pub(super) now: Time,
    pub(super) servers: Vec<Server>,
    pub(super) newcomers: Vec<Newcomer>,
    /// Of a million messages so many are lost.
    pub(super) loss_ppm: u32,
    pub(super) pin: Option<Pin>,
    pub(super) local: Height,
    pub(super) own: BTreeSet<PublicKey>,
    pub(super) rng: ChaCha12Rng,
    seed: u64,
    queue: BTreeMap<(Time, u64), (MemberId, What)>,
    armed: BTreeMap<(MemberId, Timer), u64>,
    sequence: u64,
}

const LATENCY_US: u64 = 5_000;
const JITTER_US: u64 = 3_000;

impl World {
    /// Four seats and further observers that serve `ledger`; nobody bootstraps yet.
    pub(super) fn new(seed: u64, ledger: &Ledger, servers: usize) -> Self {
        let server = |index: usize| Server {
            id: match index {
                0..4 => ledger.member(index),
                _ => MemberId(Digest::of(Domain::Member, &[index as u8])),
            },
            ledger: ledger.clone(),
            twist: None,
            pace: 1_000_000,
            is_up: true,
            busy: Time(0),
            sent: 0,
        };
        Self {
            now: Time(1),
            servers: (0..servers).map(server).collect(),
            newcomers: Vec::new(),
            loss_ppm: 0,
            pin: None,
            local: Height(0),
            own: BTreeSet::new(),
            rng: ChaCha12Rng::seed_from_u64(seed),
            seed,
            queue: BTreeMap::new(),
            armed: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Four servers, and a newcomer that has more than a hundred segments.
    pub(super) fn half_way(ledger: &Ledger) -> (Self, usize) {
        let mut world = Self::new(1, ledger, 4);
        let new = world.join();
        let is_half = world.run(20, |world| {
            world.newcomers[new].machine.tally().segments_held > 100
        });
        assert!(is_half);
        (world, new)
    }

    pub(super) fn twist(
        &mut self,
        server: usize,
        twist: impl Fn(&mut Saying) -> Vec<Message> + 'static,
    ) {
        self.servers[server].twist = Some(Box::new(twist));
    }

    fn machine(&mut self, id: MemberId, disk: &Disk) -> Bootstrap {
        let options = Options {
            me: id,
            genesis: self.servers[0].ledger.genesis.clone(),
            pin: self.pin,
            verifier: Verifier::ed25519(),
            seed: self.rng.random(),
            local: self.local,
            own: self.own.clone(),
        };
        let held = Held {
            steps: disk.steps.clone(),
            target: disk.target.clone(),
            pages: disk.pages.clone(),
            segments: disk.segments.keys().copied().collect(),
        };
        Bootstrap::new(options, held).expect("what the disk has holds")
    }

    /// A newcomer starts, and reaches everybody.
    pub(super) fn join(&mut self) -> usize {
        self.join_with(Disk::default())
    }

    pub(super) fn join_with(&mut self, disk: Disk) -> usize {
        let index = self.newcomers.len();
        let id = MemberId(Digest::of(
            Domain::Member,
            format!("new {index}").as_bytes(),
        ));
        self.join_as(id, disk)
    }

    /// A member of this id starts, which may have a seat.
    pub(super) fn join_as(&mut self, id: MemberId, disk: Disk) -> usize {
        let index = self.newcomers.len();
        let machine = self.machine(id, &disk);
        self.newcomers.push(Newcomer {
            id,
            machine,
            disk,
            events: Vec::new(),
            asked: Vec::new(),
            inputs: 0,
            heard: None,
            busy: Time(0),
            sent: 0,
            done_at: None,
        });
        self.start(index);
        index
    }

    fn start(&mut self, index: usize) {
        self.tell(index, Input::Command(Command::Start));
        let id = self.newcomers[index].id;
        let servers: Vec<MemberId> = self.servers.iter().map(|one| one.id).collect();
        for server in servers {
            let after = self.rng.random_range(0..20_000);
            self.push(after, id, What::Connected(server));
        }
        for other in 0..self.newcomers.len() {
            let other = self.newcomers[other].id;
            if other != id {
                self.push(10_000, id, What::Connected(other));
                self.push(10_000, other, What::Connected(id));
            }
        }
    }

    /// A newcomer's process dies and starts again with its disk.
    pub(super) fn crash(&mut self, index: usize) {
        let id = self.newcomers[index].id;
        self.queue.retain(|_, (to, what)| {
            let is_from = matches!(what, What::Message(from, _) if *from == id);
            *to != id && !is_from
        });
        self.armed.retain(|(who, _), _| *who != id);
        let disk = std::mem::take(&mut self.newcomers[index].disk);
        let machine = self.machine(id, &disk);
        let newcomer = &mut self.newcomers[index];
        newcomer.machine = machine;
        newcomer.disk = disk;
        self.start(index);
    }

    /// A server dies for good.
    pub(super) fn stop(&mut self, server: usize) {
        self.servers[server].is_up = false;
        let id = self.servers[server].id;
        for index in 0..self.newcomers.len() {
            self.tell(index, Input::Command(Command::Disconnected(id)));
        }
    }

    fn push(&mut self, after_us: u64, to: MemberId, what: What) {
        self.sequence += 1;
        let at = self.now + Span(after_us);
        self.queue.insert((at, self.sequence), (to, what));
    }

    /// Runs until nothing is left, the time is over, or `until` says so; whether it did.
    pub(super) fn run(&mut self, seconds: u64, until: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + Span::from_ms(seconds * 1_000);
        while !until(self) {
            let Some(entry) = self.queue.first_entry() else {
                return false;
            };
            if entry.key().0 > end {
                self.now = end;
                return false;
            }
            let ((at, _), (to, what)) = entry.remove_entry();
            self.now = at.max(self.now);
            self.happen(to, what);
        }
        true
    }

    /// Runs until every newcomer is done.
    pub(super) fn finish(&mut self, seconds: u64) {
        let is_done = self.run(seconds, |world| {
            let mut all = world.newcomers.iter();
            all.all(|one| one.machine.stage() == Stage::Done)
        });
        let stages: Vec<Stage> = self.newcomers.iter().map(|n| n.machine.stage()).collect();
        assert!(is_done, "seed {}: {stages:?} at {:?}", self.seed, self.now);
    }

    fn happen(&mut self, to: MemberId, what: What) {
        let newcomer = self.newcomers.iter().position(|one| one.id == to);
        match (newcomer, what) {
            (Some(index), What::Message(from, message)) => {
                self.tell(index, Input::Message { from, message });
            }
            (Some(index), What::Timer(timer, number)) => {
                if self.armed.get(&(to, timer)) == Some(&number) {
                    self.armed.remove(&(to, timer));
                    self.tell(index, Input::Timer(timer));
                }
            }
            (Some(index), What::Connected(who)) => {
                let is_down = self.servers.iter().any(|one| one.id == who && !one.is_up);
                if !is_down {
                    self.tell(index, Input::Command(Command::Connected(who)));
                }
            }
            (None, What::Message(from, Message::Ask(ask))) => self.serve(&to, from, &ask),
            (None, What::Message(..) | What::Timer(..) | What::Connected(_)) => {}
        }
    }

    pub(super) fn tell(&mut self, index: usize, input: Input<Bootstrap>) {
        let (id, now) = (self.newcomers[index].id, self.now);
        let mut out = Outbox::new();
        let newcomer = &mut self.newcomers[index];
        newcomer.inputs += 1;
        if let Input::Message { from, .. } = &input {
            newcomer.heard = Some(*from);
        }
        newcomer.machine.handle(now, input, &mut out);
        for output in out.drain() {
            self.carry_out(index, id, output);
        }
    }

    fn carry_out(&mut self, index: usize, id: MemberId, output: Output<Bootstrap>) {
        let newcomer = &mut self.newcomers[index];
        match output {
            Output::Save(Record::Step(bytes)) => {
                let step = Step::from_bytes(&bytes).expect("what is saved decodes");
                newcomer.disk.keep(step);
            }
            Output::Save(Record::Target(target)) => {
                newcomer.disk.target = Some(target);
                newcomer.disk.pages.clear();
            }
            Output::Save(Record::Page(page)) => newcomer.disk.pages.push(*page),
            Output::Send { to, message } => {
                let To::One(to) = to else {
                    panic!("a newcomer knows whom it asks");
                };
                if let Message::Ask(ask) = &message {
                    newcomer.asked.push(ask.clone());
                }
                self.send(id, to, message, None);
            }
            Output::Arm { timer, after } => {
                self.sequence += 1;
                self.armed.insert((id, timer), self.sequence);
                let number = self.sequence;
                let at = self.now + after;
                self.queue
                    .insert((at, number), (id, What::Timer(timer, number)));
            }
            Output::Cancel(timer) => {
                self.armed.remove(&(id, timer));
            }
            Output::Emit(event) => self.on_event(index, event),
        }
    }

    fn on_event(&mut self, index: usize, event: Event) {
        let now = self.now;
        let newcomer = &mut self.newcomers[index];
        match &event {
            Event::Segment(_, leaf, bytes) => {
                assert!(leaf.is_of(bytes), "only proved segments are told of");
                let before = newcomer.disk.segments.insert(leaf.digest, bytes.clone());
                assert_eq!(before, None, "a segment is told of once");
                return; // Their bytes are on the disk.
            }
            Event::Serve(to, ask) => {
                let (to, ask) = (*to, ask.clone());
                let answers = shelf::answer(&Part(newcomer), &ask);
                let id = newcomer.id;
                for answer in answers {
                    self.send(id, to, answer, Some(index));
                }
                return;
            }
            Event::Assembled(_) | Event::Replay(_) => newcomer.done_at = Some(now),
            Event::Members(_) | Event::Stage(_) | Event::Banned(..) => {}
            Event::NotFresh { .. } | Event::Gone(_) | Event::Forked { .. } | Event::Void(..) => {}
        }
        self.newcomers[index].events.push(event);
    }

    /// A server answers.
    fn serve(&mut self, server: &MemberId, from: MemberId, ask: &Ask) {
        let Some(index) = self.servers.iter().position(|one| one.id == *server) else {
            return;
        };
        let server = &self.servers[index];
        if !server.is_up {
            return;
        }
        let ledger = &server.ledger;
        let mut answers = shelf::answer(ledger, ask);
        if let Ask::Anchor(view, nonce) = ask
            && *view == ledger.newest()
            && index < 4
        {
            let key = ledger.builder.keys[index].clone();
            let voter = Voter::new(&ledger.builder.view, key).expect("a seat");
            let (header, certificate) = ledger.newest.clone();
            let vote = voter.vouch_anchor(*nonce, (header.height, header.digest()));
            answers.extend(shelf::anchor(ledger, vote, certificate));
        }
        if let Some(twist) = &server.twist {
            answers = twist(&mut Saying {
                ask,
                answers,
                ledger,
            });
        }
        let id = server.id;
        for answer in answers {
            self.send(id, from, answer, None);
        }
    }

    /// A message travels: bytes take their time at the sender, and some get lost.
    fn send(&mut self, from: MemberId, to: MemberId, message: Message, newcomer: Option<usize>) {
        let bytes = codec::encode(&message).len() as u64;
        let of_segment = match &message {
            Message::Answer(Answer::Segment(_, _, bytes)) => bytes.len() as u64,
            Message::Answer(_) | Message::Ask(_) => 0,
        };
        let now = self.now;
        let mut leaves = now;
        if let Some(server) = self.servers.iter_mut().find(|one| one.id == from) {
            server.sent += of_segment;
            leaves = server.busy.max(now) + Span(bytes * 1_000_000 / server.pace);
            server.busy = leaves;
        } else if let Some(newcomer) = newcomer.map(|index| &mut self.newcomers[index]) {
            newcomer.sent += of_segment;
            leaves = newcomer.busy.max(now) + Span(bytes);
            newcomer.busy = leaves;
        }
        if self.rng.random_range(0..1_000_000) < self.loss_ppm {
            return;
        }
        let after = (leaves - now).0 + LATENCY_US + self.rng.random_range(0..JITTER_US);
        self.push(after, to, What::Message(from, message));
    }
}

/// What a newcomer has for others.
struct Part<'a>(&'a Newcomer);

impl Shelf for Part<'_> {
    fn newest(&self) -> crate::committee::ViewId {
        self.0.machine.views().newest().view.id()
    }

    fn opened(&self, view: crate::committee::ViewId) -> Option<Digest> {
        Some(self.0.machine.views().opened(view)?.digest)
    }

    fn step(&self, view: crate::committee::ViewId) -> Option<Bytes> {
        let index = usize::try_from(view.0.checked_sub(1)?).ok()?;
        Some(self.0.disk.steps.get(index)?.to_bytes().into())
    }

    fn header(&self, _: Height) -> Option<crate::blocks::Header> {
        None
    }

    fn checkpoint(
        &self,
        height: Height,
    ) -> Option<(crate::blocks::Header, crate::blocks::body::Checkpoint)> {
        let target = self.0.disk.target.as_ref()?;
        (target.checkpoint.height == height)
            .then(|| (target.checkpoint.clone(), target.body.clone()))
    }

    fn holding(&self, manifest: &Digest) -> Holding {
        let target = self.0.disk.target.as_ref();
        if target.is_none_or(|target| target.body.manifest != *manifest) {
            return Holding::Nothing;
        }
        match self.0.machine.gathering() {
            Some(assembler) => assembler.holding(),
            None if self.0.machine.stage() == Stage::Done => Holding::All,
            None => Holding::Nothing,
        }
    }

    fn page(&self, _: &Digest, page: u32) -> Option<Page> {
        let mut pages = self.0.disk.pages.iter();
        pages.find(|one| one.page == page).cloned()
    }

    fn segment(&self, _: &Digest, index: u32) -> Option<Bytes> {
        let leaves = self.0.disk.pages.iter().flat_map(|page| &page.leaves);
        let leaf = leaves.into_iter().nth(index as usize)?;
        self.0.disk.segments.get(&leaf.digest).cloned()
    }
}

/// Which segments were asked for, and how often.
pub(super) fn asked_segments(asked: &[Ask]) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    for ask in asked {
        if let Ask::Segments(_, segments) = ask {
            for segment in segments {
                *counts.entry(*segment).or_default() += 1;
            }
        }
    }
    counts
}

/// Who is banned according to a newcomer.
pub(super) fn banned(newcomer: &Newcomer) -> BTreeSet<MemberId> {
    let mut banned = BTreeSet::new();
    for event in &newcomer.events {
        if let Event::Banned(who, _) = event {
            banned.insert(*who);
        }
    }
    banned
}

/// The snapshot is whole and the one of this ledger.
pub(super) fn is_whole(newcomer: &Newcomer, ledger: &Ledger) -> bool {
    let assembled = newcomer.events.iter().find_map(|event| {
        let Event::Assembled(assembled) = event else {
            return None;
        };
        Some(assembled)
    });
    let Some(assembled) = assembled else {
        return false;
    };
    let segments = assembled.manifest.leaves().iter();
    let segments: Option<Vec<Bytes>> = segments
        .map(|leaf| newcomer.disk.segments.get(&leaf.digest).cloned())
        .collect();
    ledger
        .snapshots
        .iter()
        .any(|snapshot| Some(&snapshot.segments) == segments.as_ref())
}
