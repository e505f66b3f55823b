//! Checkpoints in the world: they are taken and prune; who falls behind fetches one from everybody.
//!
//! Source: what `node` does for its member. In: events of replicas, messages of a bootstrap. Out:
//! snapshots on shelves, answers, members that go on from one.
//! Holds: what a newcomer takes is what the chain has (S5), and of the liars among its servers it
//! names no correct one (S6); what it keeps is bounded (B1).
//! Elsewhere: the machine (`bootstrap`), shelves (`shelf`), lies (`liars`), where newcomers lose
//! power (`doom`), many at once (`crowd`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::disk::Disk;
use super::doom::{self, Doom, Regained};
use super::member::{Fate, Leaving, Member};
use super::queue::Happening;
use super::shelf::Snapshot;
use super::world::World;
use crate::blocks::body::Checkpoint;
use crate::blocks::{Body, Header, Step};
use crate::bootstrap::{
    self, Answer, Ask, Assembled, Bootstrap, Command, Event, Fresh, Options, PEERS_MAX, Record,
    Stage, Timer, shelf,
};
use crate::checkpoint::{Assembler, Holding, Page};
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
    pub(super) machine: Bootstrap,
    timers: BTreeMap<Timer, u64>,
    armed: u64,
    /// Where the outputs stand that are carried out.
    step: doom::Step,
    doom: Option<Doom>,
    regained: Regained,
    /// The fresh block must be at least as high: the chain was idle when this began.
    least: Option<Height>,
}

impl Quest {
    /// Outputs of another stage follow.
    fn enter(&mut self, stage: Stage) {
        let gathering = self.machine.gathering();
        let has_manifest = gathering.is_none_or(|gathering| gathering.manifest().is_some());
        self.step = match stage {
            Stage::Idle | Stage::Walk => doom::Step::Walk,
            Stage::Anchor => doom::Step::Anchor,
            Stage::Checkpoint => doom::Step::Checkpoint,
            Stage::Gather if !has_manifest => doom::Step::Page,
            Stage::Gather => doom::Step::Segments,
            Stage::Done | Stage::Stuck => doom::Step::Listing,
        };
    }

    /// The height of the snapshot that is gathered.
    pub(super) fn gathers(&self) -> Option<Height> {
        Some(self.machine.gathering()?.taken().height)
    }
}

/// What a member serves to newcomers.
struct Stock<'a> {
    disk: &'a Disk,
    /// What it gathers itself.
    gathering: Option<&'a Assembler>,
    genesis: Digest,
}

impl Stock<'_> {
    fn under_way(&self, manifest: &Digest) -> Option<&Assembler> {
        self.gathering
            .filter(|assembler| assembler.taken().manifest == *manifest)
    }
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
        match (
            self.disk.shelf().holding(manifest),
            self.under_way(manifest),
        ) {
            (Holding::Nothing, Some(assembler)) => assembler.holding(),
            (whole, _) => whole,
        }
    }

    fn page(&self, manifest: &Digest, page: u32) -> Option<Page> {
        let whole = self.disk.shelf().page(manifest, page);
        whole.or_else(|| self.under_way(manifest)?.manifest()?.page(page))
    }

    fn segment(&self, manifest: &Digest, index: u32) -> Option<Bytes> {
        let whole = self.disk.shelf().segment(manifest, index);
        whole.or_else(|| {
            let leaves = self.under_way(manifest)?.manifest()?.leaves();
            self.disk.shelf().find(&leaves.get(index as usize)?.digest)
        })
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
                member.disk.prune(body.height);
            }
            let height = body.height;
            self.new_checkpoint(height);
            self.call_crowd();
        }
    }

    /// A checkpoint is certified somewhere: it may be newer than what newcomers gather.
    fn new_checkpoint(&mut self, height: Height) {
        if height <= self.counts.checkpoint {
            return;
        }
        self.counts.checkpoint = height;
        let gathered = self.members.iter().filter_map(Member::gathers);
        let overtaken = gathered.filter(|gathered| *gathered < height).count();
        (0..overtaken).for_each(|_| self.count("checkpoints under way overtaken"));
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
        let stock = Stock {
            disk: &member.disk,
            gathering: member
                .quest
                .as_ref()
                .and_then(|quest| quest.machine.gathering()),
            genesis,
        };
        let answers = shelf::answer(&stock, ask);
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
                let stock = Stock {
                    disk,
                    gathering: None,
                    genesis: genesis.digest(),
                };
                shelf::anchor(&stock, vote, certificate)
            }
        };
        self.answer(index, who, answer.into_iter().collect());
    }

    fn answer(&mut self, index: usize, who: MemberId, answers: Vec<bootstrap::Message>) {
        if self.oracle.is_faulty(index) {
            let leaving = self.lie(index, who, answers);
            return self.leave(index, leaving);
        }
        let segments = answers.iter().filter_map(|answer| match answer {
            bootstrap::Message::Answer(Answer::Segment(_, _, bytes)) => Some(bytes.len() as u64),
            bootstrap::Message::Answer(_) | bootstrap::Message::Ask(_) => None,
        });
        self.members[index].served += segments.sum::<u64>();
        let messages = answers.into_iter();
        let leaving = messages
            .map(|message| Leaving::Send(To::One(who), Message::Bootstrap(Box::new(message))));
        self.leave(index, leaving.collect());
    }

    /// What a member lacks nobody has any more: it fetches a checkpoint.
    pub(super) fn fall_behind(&mut self, index: usize) {
        self.count("bootstraps");
        self.go_back(index);
    }

    /// This life of a member ends in order, and the next one fetches a checkpoint above what it
    /// holds certified; its log stays.
    pub(super) fn go_back(&mut self, index: usize) {
        let member = &mut self.members[index];
        let Some(running) = member.running.take() else {
            return;
        };
        let local = running.replica.overview().certified;
        member.disk.close();
        member.disk.shelf_mut().want(Some(local));
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
        if let Err(what) = member.disk.shelf_mut().open() {
            self.oracle
                .breaks("storage", format!("newcomer {index}: {what}"));
            return;
        }
        let held = member.disk.shelf().to_go_on();
        let regained = Regained::of(&held);
        let machine = Bootstrap::new(options, held).expect("what was proved holds again");
        let doom = self.draw_doom();
        self.members[index].quest = Some(Quest {
            machine,
            timers: BTreeMap::new(),
            armed: 0,
            step: doom::Step::Walk,
            doom,
            regained,
            least: self.idle_since(index),
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
            let Some(quest) = &mut self.members[index].quest else {
                return; // Power was lost, or there is nothing more to fetch.
            };
            let step = quest.step;
            if quest.doom.as_mut().is_some_and(|doom| doom.strikes(step)) {
                return self.meet_doom(index, step);
            }
            self.judge_again(index, &output);
            self.carry_quest(index, output);
        }
    }

    /// What the disk gave back is neither asked for nor saved again.
    fn judge_again(&mut self, index: usize, output: &Output<Bootstrap>) {
        let Some(quest) = &mut self.members[index].quest else {
            return;
        };
        let again = match output {
            Output::Save(record) => quest.regained.judge_record(record),
            Output::Send { message, .. } => match message {
                bootstrap::Message::Ask(ask) => {
                    quest.regained.judge_ask(ask, quest.machine.gathering())
                }
                bootstrap::Message::Answer(_) => None,
            },
            Output::Emit(Event::Gone(_)) => {
                quest.regained.gone();
                None
            }
            Output::Emit(_) | Output::Arm { .. } | Output::Cancel(_) => None,
        };
        if let Some(what) = again {
            let what = format!("newcomer {index} has {what}, and fetches it again");
            self.oracle.breaks("resumption", what);
        }
    }

    fn carry_quest(&mut self, index: usize, output: Output<Bootstrap>) {
        let member = &mut self.members[index];
        match output {
            Output::Save(Record::Step(bytes)) => {
                let step = Step::from_bytes(&bytes).expect("what is saved decodes");
                member.disk.shelf_mut().add_step(step);
            }
            Output::Save(Record::Target(target)) => {
                let anchor = target.anchor.clone();
                member.disk.shelf_mut().aim(target);
                self.judge_fresh(index, &anchor);
            }
            Output::Save(Record::Page(page)) => {
                member.disk.shelf_mut().add_page(*page);
                if let Some(quest) = &mut member.quest {
                    quest.enter(Stage::Gather);
                }
            }
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
            Event::Members(_) => {}
            Event::Stage(stage) => {
                if let Some(quest) = &mut self.members[index].quest {
                    quest.enter(stage);
                }
            }
            Event::Segment(_, leaf, bytes) => {
                let shelf = self.members[index].disk.shelf_mut();
                if !leaf.is_of(&bytes) || !shelf.add_segment(&leaf.digest, &bytes) {
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
                let shelf = self.members[index].disk.shelf_mut();
                shelf.await_block(fresh.header.height);
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
        let quest = self.members[index].quest.as_ref();
        if let Some(least) = quest.and_then(|quest| quest.least) {
            self.judge_idle_anchor(index, height, least);
        }
    }

    fn assembled(&mut self, index: usize, assembled: Assembled) {
        let Assembled { target, manifest } = assembled;
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
        let quest = self.members[index].quest.as_ref();
        let doom = quest.and_then(|quest| quest.doom);
        let disk = &mut self.members[index].disk;
        if let Some(digest) = disk.shelf_mut().sync(&manifest) {
            let what = format!("newcomer {index} lists a snapshot and may lose {digest}");
            self.oracle.breaks("durability", what);
        }
        let records = disk.written();
        disk.shelf_mut().assemble(&target, &manifest, records);
        disk.shelf_mut().await_block(target.anchor.header.height);
        match doom.is_some_and(|doom| doom.step == doom::Step::Listing) {
            true => self.meet_doom(index, doom::Step::Listing),
            false => self.end_quest(index),
        }
    }

    /// A member goes on from what it has.
    fn end_quest(&mut self, index: usize) {
        let member = &mut self.members[index];
        let doom = member.quest.take().and_then(|quest| quest.doom);
        member.disk.shelf_mut().want(None);
        member.disk.shelf_mut().close();
        if member.fate != Fate::Ruined {
            self.later(1_000, Happening::Start(index));
            self.follow_doom(index, doom);
        }
    }
}
