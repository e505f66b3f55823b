//! Checkpoints in the world: they are taken and prune; who falls behind fetches one from everybody.
//!
//! Source: what `node` does for its member. In: events of replicas, messages of a bootstrap. Out:
//! snapshots on shelves, answers, members that go on from one.
//! Holds: what a newcomer takes is what the chain has (S5), and of the liars among its servers it
//! names no correct one (S6); what it keeps is bounded (B1).
//! Elsewhere: the machine (`bootstrap`), shelves (`shelf`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::dice::Dice;
use super::disk::Disk;
use super::member::{Fate, Leaving};
use super::queue::Happening;
use super::shelf::Snapshot;
use super::world::World;
use crate::blocks::body::Checkpoint;
use crate::blocks::{Body, Header, Step};
use crate::bootstrap::{
    self, Answer, Ask, Assembled, Bootstrap, Command, Event, Fresh, Options, PEERS_MAX, Record,
    Timer, shelf,
};
use crate::checkpoint::{Holding, Page};
use crate::committee::{Certificate, Height, MEMBERS_MAX, MemberId, ViewId};
use crate::consortium::ledger::Base;
use crate::consortium::serve::Archive;
use crate::consortium::{Message, Standing};
use crate::crypto::{Digest, Domain};
use crate::machine::{Input, Machine, Outbox, Output, Time, To};

/// How long a snapshot takes to be durable.
const TAKE_US: u64 = 200_000;

/// A member that fetches a checkpoint.
pub(super) struct Quest {
    machine: Bootstrap,
    timers: BTreeMap<Timer, u64>,
    armed: u64,
}

/// What a member serves to newcomers.
struct Stock<'a> {
    disk: &'a Disk,
    genesis: Digest,
}

impl shelf::Shelf for Stock<'_> {
    fn newest(&self) -> ViewId {
        self.disk.shelf().newest_view()
    }

    fn opened(&self, view: ViewId) -> Option<Digest> {
        match view {
            ViewId(0) => Some(self.genesis),
            ViewId(_) => Some(self.disk.shelf().step(view)?.header.digest()),
        }
    }

    fn step(&self, view: ViewId) -> Option<Bytes> {
        Some(self.disk.shelf().step(view)?.to_bytes().into())
    }

    fn header(&self, height: Height) -> Option<Header> {
        Some(self.disk.block(height)?.header)
    }

    fn checkpoint(&self, height: Height) -> Option<(Header, Checkpoint)> {
        self.disk.shelf().checkpoint(height)
    }

    fn holding(&self, manifest: &Digest) -> Holding {
        self.disk.shelf().holding(manifest)
    }

    fn page(&self, manifest: &Digest, page: u32) -> Option<Page> {
        self.disk.shelf().page(manifest, page)
    }

    fn segment(&self, manifest: &Digest, index: u32) -> Option<Bytes> {
        self.disk.shelf().segment(manifest, index)
    }
}

impl World {
    /// A snapshot is due at a member; some time later it is durable.
    pub(super) fn take_snapshot(&mut self, index: usize, base: Base) {
        let member = &mut self.members[index];
        let Some(running) = &member.running else {
            return;
        };
        if running.replica.ledger().height() != base.parts.tip.height {
            return; // Behind a barrier for so long that the state is another by now.
        }
        let snapshot = Snapshot::cut(base, running.replica.ledger(), &*running.app);
        let (taken, life) = (snapshot.taken, member.life);
        member.disk.shelf_mut().put(snapshot);
        let after = self.dice.delay(TAKE_US);
        self.later(after, Happening::Taken(index, life, taken));
    }

    /// A certificate may cover a checkpoint: what that makes superfluous goes, unless a newcomer
    /// holds a lease on it.
    pub(super) fn prune(&mut self, index: usize, certificate: &Certificate) {
        let member = &mut self.members[index];
        let Some(running) = &member.running else {
            return;
        };
        let tip = running.replica.ledger().tip().checkpoint;
        if tip.height == Height(0) || tip.height > certificate.ballot.height {
            return;
        }
        let Some(block) = member.disk.block(tip.height) else {
            return;
        };
        let Body::Checkpoint(body) = &block.body else {
            return;
        };
        if member.disk.shelf_mut().certify(&block.header, body) {
            let floor = member.leases.floor(Time(self.now));
            let is_leased = floor.is_some_and(|floor| floor < body.height);
            if !is_leased {
                member.disk.shelf_mut().prune(body.height);
            }
        }
    }

    /// A newcomer asks what a member's disk may have; a villain answers as it likes.
    pub(super) fn teach(&mut self, index: usize, who: MemberId, ask: &Ask) {
        let genesis = self.ground.genesis.header().digest();
        let now = Time(self.now);
        let member = &mut self.members[index];
        if let Ask::Holding(manifest) = ask
            && let Some(height) = member.disk.shelf().height_of(manifest)
        {
            member.leases.hold(now, who, height);
        }
        let disk = &member.disk;
        let answers = shelf::answer(&Stock { disk, genesis }, ask);
        self.answer(index, who, answers);
    }

    /// A member's word on where it stands leaves, with the header.
    pub(super) fn anchor(&mut self, index: usize, who: MemberId, standing: Standing) {
        let genesis = self.ground.genesis.header();
        let disk = &self.members[index].disk;
        let Standing { vote, certificate } = standing;
        let answer = match vote.height {
            Height(0) => Some(bootstrap::Message::Answer(Answer::Anchor(Box::new(
                bootstrap::Anchor {
                    vote,
                    header: genesis,
                    certificate,
                },
            )))),
            Height(_) => {
                let genesis = genesis.digest();
                shelf::anchor(&Stock { disk, genesis }, vote, certificate)
            }
        };
        self.answer(index, who, answer.into_iter().collect());
    }

    fn answer(&mut self, index: usize, who: MemberId, mut answers: Vec<bootstrap::Message>) {
        if self.oracle.is_faulty(index) {
            let mut dice = self.dice.clone();
            answers = answers
                .into_iter()
                .flat_map(|answer| lie(answer, &mut dice))
                .collect();
            self.dice = dice;
            self.count("lies to newcomers");
        }
        let messages = answers.into_iter();
        let leaving = messages
            .map(|message| Leaving::Send(To::One(who), Message::Bootstrap(Box::new(message))));
        self.leave(index, leaving.collect());
    }

    /// What a member lacks nobody has any more: it fetches a checkpoint.
    pub(super) fn fall_behind(&mut self, index: usize) {
        let member = &mut self.members[index];
        let Some(running) = member.running.take() else {
            return;
        };
        let local = running.replica.ledger().height();
        member.disk.close();
        member.disk.shelf_mut().want(Some(local));
        self.count("bootstraps");
        self.begin_quest(index, local);
    }

    /// A member starts with fetching a checkpoint.
    pub(super) fn begin_quest(&mut self, index: usize, local: Height) {
        let genesis = self.ground.genesis.clone();
        let member = &mut self.members[index];
        member.life += 1;
        let text = format!("{} {index} {}", self.ground.options.seed, member.life);
        let options = Options {
            me: member.id,
            genesis,
            pin: None,
            verifier: self.ground.verifier,
            seed: Digest::of(Domain::Audit, text.as_bytes()).0,
            local,
            own: member.keys.publics(),
        };
        let held = member.disk.shelf().to_go_on();
        let machine = Bootstrap::new(options, held).expect("what was proved holds again");
        member.quest = Some(Quest {
            machine,
            timers: BTreeMap::new(),
            armed: 0,
        });
        self.quest(index, Input::Command(Command::Start));
        self.connect(index);
    }

    pub(super) fn quest_link(&mut self, index: usize, other: MemberId, is_up: bool) {
        let command = match is_up {
            true => Command::Connected(other),
            false => Command::Disconnected(other),
        };
        self.quest(index, Input::Command(command));
    }

    pub(super) fn quest_hear(&mut self, index: usize, from: MemberId, message: Message) {
        if let Message::Bootstrap(message) = message {
            let message = *message;
            self.quest(index, Input::Message { from, message });
        } else if let Message::Certificate(certificate) = message {
            let seen = Command::Seen(from, certificate.ballot.height);
            self.quest(index, Input::Command(seen));
        }
    }

    pub(super) fn quest_timer(&mut self, index: usize, life: u64, timer: Timer, number: u64) {
        let member = &mut self.members[index];
        let quest = member.quest.as_mut().filter(|_| member.life == life);
        let is_due = quest.is_some_and(|quest| quest.timers.get(&timer) == Some(&number));
        if is_due {
            self.quest(index, Input::Timer(timer));
        }
    }

    fn quest(&mut self, index: usize, input: Input<Bootstrap>) {
        let member = &mut self.members[index];
        let now = member.clock.read(self.now);
        let Some(quest) = &mut member.quest else {
            return;
        };
        let mut out = Outbox::new();
        quest.machine.handle(now, input, &mut out);
        if quest.machine.kept() > 2 * PEERS_MAX + MEMBERS_MAX {
            let what = format!("newcomer {index} keeps too much");
            self.oracle.breaks("bound", what);
        }
        for output in out.drain() {
            self.carry_quest(index, output);
        }
    }

    fn carry_quest(&mut self, index: usize, output: Output<Bootstrap>) {
        let member = &mut self.members[index];
        match output {
            Output::Save(Record::Step(bytes)) => {
                let step = Step::from_bytes(&bytes).expect("what is saved decodes");
                member.disk.shelf_mut().add_step(step);
            }
            Output::Save(Record::Target(target)) => member.disk.shelf_mut().aim(target),
            Output::Save(Record::Page(page)) => member.disk.shelf_mut().add_page(*page),
            Output::Send { to, message } => {
                let message = Message::Bootstrap(Box::new(message));
                self.send_plain(index, to, message);
            }
            Output::Arm { timer, after } => {
                let Some(quest) = &mut member.quest else {
                    return;
                };
                quest.armed += 1;
                quest.timers.insert(timer, quest.armed);
                let (life, number) = (member.life, quest.armed);
                let lasts = member.clock.lasts(after);
                self.later(lasts, Happening::QuestTimer(index, life, timer, number));
            }
            Output::Cancel(timer) => {
                if let Some(quest) = &mut member.quest {
                    quest.timers.remove(&timer);
                }
            }
            Output::Emit(event) => self.on_quest(index, event),
        }
    }

    fn on_quest(&mut self, index: usize, event: Event) {
        match event {
            Event::Members(_) | Event::Stage(_) => {}
            Event::Segment(_, leaf, bytes) => {
                let shelf = self.members[index].disk.shelf_mut();
                if !leaf.is_of(&bytes) || !shelf.add_segment(leaf.digest, bytes) {
                    let what = format!("newcomer {index} takes a segment that is none, or twice");
                    self.oracle.breaks("segments", what);
                }
            }
            Event::Banned(who, misdeed) => match self.ground.by_id.get(&who) {
                Some(who) if self.oracle.is_faulty(*who) => self.count("banned servers"),
                who => {
                    let what = format!("newcomer {index} bans {who:?}: {misdeed}");
                    self.oracle.breaks("faultless", what);
                }
            },
            Event::Serve(who, ask) => self.teach(index, who, &ask),
            Event::NotFresh { .. } => self.count("anchors that were not fresh"),
            Event::Gone(_) => self.count("snapshots that were gone"),
            Event::Forked { view, .. } => {
                self.oracle.breaks("views", format!("a fork at {view}"));
            }
            Event::Void(taken, error) => {
                let what = format!("the checkpoint of {}: {error}", taken.height);
                self.oracle.breaks("agreement", what);
            }
            Event::Replay(fresh) => {
                self.judge_fresh(index, &fresh);
                self.end_quest(index);
            }
            Event::Assembled(assembled) => self.assembled(index, *assembled),
        }
    }

    fn judge_fresh(&mut self, index: usize, fresh: &Fresh) {
        let (height, digest) = (fresh.header.height, fresh.header.digest());
        if height > Height(0) && !self.oracle.is_block(height, &digest) {
            let what = format!("newcomer {index} believes in another block at {height}");
            self.oracle.breaks("bootstrap", what);
        }
    }

    fn assembled(&mut self, index: usize, assembled: Assembled) {
        let Assembled { target, manifest } = assembled;
        self.judge_fresh(index, &target.anchor);
        let taken = target.taken();
        let checkpoint = &target.checkpoint;
        let is_ours = self.oracle.is_block(taken.height, &taken.header)
            && self
                .oracle
                .is_block(checkpoint.height, &checkpoint.digest());
        if !is_ours {
            let what = format!(
                "newcomer {index} takes another snapshot of {}",
                taken.height
            );
            self.oracle.breaks("bootstrap", what);
            return;
        }
        self.count("snapshots fetched");
        let disk = &mut self.members[index].disk;
        let records = disk.written();
        disk.shelf_mut().assemble(&target, &manifest, records);
        self.end_quest(index);
    }

    /// A member goes on from what it has.
    fn end_quest(&mut self, index: usize) {
        let member = &mut self.members[index];
        member.quest = None;
        member.disk.shelf_mut().want(None);
        if member.fate != Fate::Ruined {
            self.later(1_000, Happening::Start(index));
        }
    }
}

/// What a villain makes of an answer.
fn lie(answer: bootstrap::Message, dice: &mut Dice) -> Vec<bootstrap::Message> {
    let bootstrap::Message::Answer(answer) = answer else {
        return vec![answer];
    };
    let mut answer = answer;
    let way = dice.index(6);
    match (&mut answer, way) {
        (_, 0) => return Vec::new(),
        (Answer::Segment(_, _, bytes), 1) => {
            let mut wrong = bytes.to_vec();
            wrong[0] ^= 1;
            *bytes = wrong.into();
        }
        (Answer::Segment(_, _, bytes), 2) => drop(bytes.split_off(bytes.len() - 1)),
        (Answer::Segment(_, index, _), 3) => *index ^= 1,
        (Answer::Anchor(anchor), 1) => anchor.header.timestamp_us ^= 1,
        (Answer::Anchor(anchor), 2) => anchor.vote.nonce.0[0] ^= 1,
        (Answer::Anchor(anchor), 3) => anchor.certificate = None,
        (Answer::Checkpoint(block), 1) => block.1.manifest.0[0] ^= 1,
        (Answer::Page(_, page), 1) => page.leaves.reverse(),
        (Answer::Steps(steps), 1) => steps.reverse(),
        (_, 4) => {
            let message = bootstrap::Message::Answer(answer);
            return vec![message; 3];
        }
        (Answer::Steps(_) | Answer::Anchor(_) | Answer::Checkpoint(_), _) => {}
        (Answer::Holding(..) | Answer::Page(..), _) => {}
        (Answer::Segment(..) | Answer::Lacks(..), _) => {}
    }
    vec![bootstrap::Message::Answer(answer)]
}
