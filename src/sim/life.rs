//! The life of a member in the world: start, input, what leaves, stop.
//!
//! Source: `machine.rs` and its law. In: inputs. Out: frames, timers and events, carried out.
//! Holds: all that leaves a villain passes through its hands; a correct member is never accused.
//! Elsewhere: the law at one member (`member`), frames (`post`), what goes wrong (`trouble`).

use super::audit::brief;
use super::disk::{self, Disk, Recovered, Root, Unreadable};
use super::keyring::Keyring;
use super::member::{Fate, Leaving, Running};
use super::queue::Happening;
use super::villain::{Stage, Villain};
use super::world::{Ground, World};
use crate::application::Registry;
use crate::bootstrap::Leases;
use crate::committee::{Height, MemberId};
use crate::consortium::{
    Applied, Burden, Change, Command, Consortium, Event, Execute, Options as ReplicaOptions, Wanted,
};
use crate::crypto::{Digest, Domain, SecretKey};
use crate::machine::{Input, Span, Time, To};
use crate::plant::{self, Plant};

/// Outputs that may wait behind one barrier.
const WAITING_MAX: usize = 20_000;

/// A member as its disk makes it, where its tables stood, and the blocks above that.
pub(super) struct Booted {
    pub(super) running: Running,
    from: Height,
    applied: Vec<Applied>,
}

impl Ground {
    /// A member as its disk makes it, and the blocks of its disk; the first key is its identity.
    pub(super) fn boot(
        &self,
        me: MemberId,
        (identity, keys): (&SecretKey, &Keyring),
        disk: &mut Disk,
        now: Time,
    ) -> Booted {
        let registry = Registry::standard().expect("our own applications have distinct names");
        let plugin = registry.get(&self.genesis.parameters.application);
        let app = (plugin.expect("the world's application is registered").make)();
        let root = Root {
            genesis: &self.genesis,
            view: &self.view,
            me,
            keys,
            verifier: self.verifier,
        };
        let Recovered {
            restored,
            app,
            from,
            applied,
        } = disk.recover(&root, app);
        let options = ReplicaOptions {
            me,
            genesis: self.genesis.clone(),
            verifier: self.verifier,
            identity: identity.clone(),
            overlay: "full-gossip".into(),
            seed: Digest::of(Domain::Audit, me.0.as_bytes()).0,
            first_counter: (now.0 / 1_000) << 20,
            pace: self.setting.pace(),
            resend: Span(self.setting.resend_us),
            makes_keys: !self.by_id.get(&me).is_some_and(|n| self.setting.dodges(*n)),
        };
        let replica = Consortium::new(options, restored, now).expect("founders make a view");
        let running = Running::new(replica, app);
        Booted {
            running,
            from,
            applied,
        }
    }
}

impl World {
    /// A member starts from its disk.
    pub(super) fn start(&mut self, index: usize) {
        let is_calm = self.is_calm;
        let member = &mut self.members[index];
        let is_wanted = !is_calm || member.comes_back();
        if member.is_up() || member.fate == Fate::Ruined || !is_wanted {
            return;
        }
        if let Err(why) = member.disk.open() {
            member.fate = Fate::Ruined;
            return self.unreadable(index, why);
        }
        member.clock.start();
        member.leases = Leases::new();
        if let Some(local) = member.disk.shelf().wanted() {
            return self.begin_quest(index, local);
        }
        let now = member.clock.read(self.now);
        member.keys.restart();
        let keys = (&member.identity, &member.keys);
        let Booted {
            running,
            from,
            applied,
        } = self.ground.boot(member.id, keys, &mut member.disk, now);
        let height = running.replica.ledger().height();
        // It may be the first to stand in a view: the power went before the hand-over was told.
        let view = running.replica.view().clone();
        let regency = running.replica.overview().regency.0;
        let is_whole = member.keys.resume(&view, &member.id);
        member.running = Some(running);
        member.life += 1;
        member.tried = None;
        member.ended = member.ended.max(view.id());
        member.forgot += 1;
        if !is_whole && !self.oracle.may_lapse(index) {
            let what = format!(
                "member {index} has lost the secret of its seat in {}",
                view.id()
            );
            self.oracle.breaks("keys", what);
        }
        self.known_view(index, &view);
        // The same of a regency: it was installed durably, and nobody heard of it.
        self.on_regency(index, regency);
        self.oracle.started(index, from, &applied);
        if !self.oracle.is_faulty(index) {
            applied.iter().for_each(|block| self.census.follow(block));
        }
        self.members[index].disk.shelf_mut().came_to(height);
        self.note(1, index, [height.0]);
        self.input(index, Input::Command(Command::Start));
        if let Some(taken) = self.members[index].disk.shelf().newest_taken() {
            self.input(index, Input::Command(Command::Taken(taken)));
        }
        self.connect(index);
    }

    /// The links of a member that starts come up one after the other.
    pub(super) fn connect(&mut self, index: usize) {
        for other in (0..self.crowd.present).filter(|other| *other != index) {
            let after = self.dice.delay(2_000);
            self.later(after, Happening::Link(index, other, true));
            self.later(after, Happening::Link(other, index, true));
        }
    }

    /// A member did not start: it found damage, or was deceived and did not find it.
    fn unreadable(&mut self, index: usize, why: Unreadable) {
        match why {
            Unreadable::Damaged(_) => self.count("damage found"),
            Unreadable::Deceived(what) => {
                let what = format!("the disk of member {index}: {what}");
                self.oracle.breaks("storage", what);
            }
        }
    }

    /// A member that stood still goes on: everything that happened meanwhile happens now.
    pub(super) fn resume(&mut self, index: usize) {
        for happening in self.members[index].paused.take().into_iter().flatten() {
            self.later(0, happening);
        }
    }

    /// A member that is up learns that the link to another stands or fell.
    pub(super) fn link(&mut self, index: usize, other: usize, is_up: bool) {
        let stands = self.net.is_up(index, other) && self.net.is_up(other, index);
        if is_up && !(stands && self.members[other].is_up()) {
            return;
        }
        let other = self.members[other].id;
        if self.members[index].quest.is_some() {
            return self.quest_link(index, other, is_up);
        }
        let command = match is_up {
            true => Command::Connected(other),
            false => Command::Disconnected(other),
        };
        self.input(index, Input::Command(command));
    }

    /// Hands one input to a member that is up and carries out what leaves.
    pub(super) fn input(&mut self, index: usize, input: Input<Consortium>) {
        if self.members[index].running.is_none() {
            return;
        }
        self.as_villain(index, |villain, stage| villain.hear(stage, &input));
        let now = self.members[index].clock.read(self.now);
        let mut leaving = Vec::new();
        let member = &mut self.members[index];
        let Some(running) = &mut member.running else {
            return;
        };
        running.handle(now, input, &mut member.disk, &mut leaving);
        let most = Burden::most(&self.ground.genesis.parameters);
        if let Some(part) = running.replica.burden().excess(&most) {
            let what = format!("member {index} keeps too many {part}");
            self.oracle.breaks("bound", what);
        }
        self.sync(index);
        self.leave(index, leaving);
    }

    /// Something leaves a member: of a villain what it makes of it.
    pub(super) fn leave(&mut self, index: usize, leaving: Vec<Leaving>) {
        if self.members[index].villain.is_none() {
            return self.carry_out(index, leaving);
        }
        self.as_villain(index, |villain, stage| villain.twist(stage, leaving));
    }

    /// Lets the villain that a member is do something, and carries that out.
    fn as_villain(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut dyn Villain, &Stage<'_>) -> Vec<Leaving>,
    ) {
        let member = &mut self.members[index];
        let Some(villain) = &mut member.villain else {
            return;
        };
        let stage = Stage {
            now: member.clock.read(self.now),
            me: member.id,
            ground: &self.ground,
            identity: &member.identity,
            keys: &member.keys,
            view: member
                .running
                .as_ref()
                .map(|running| running.replica.view()),
        };
        let leaving = act(&mut **villain, &stage);
        self.carry_out(index, leaving);
    }

    /// What a villain held back leaves.
    pub(super) fn leave_late(&mut self, index: usize, life: u64, what: Leaving) {
        if self.alive(index, life).is_some() {
            self.carry_out(index, vec![what]);
        }
    }

    /// A villain is woken.
    pub(super) fn wake(&mut self, index: usize, life: u64, number: u64) {
        if self.alive(index, life).is_some() {
            self.as_villain(index, |villain, stage| villain.wake(stage, number));
        }
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
            let slow = member.slow_disk;
            let after = self.dice.delay(self.ground.setting.sync_us) * slow;
            self.later(after, Happening::Synced(index, life, written));
        }
    }

    pub(super) fn synced(&mut self, index: usize, life: u64, upto: usize) {
        if self.alive(index, life).is_none() {
            return;
        }
        self.note(2, index, [upto as u64]);
        let member = &mut self.members[index];
        if !member.disk.synced(upto) {
            return self.crash_by_disk(index);
        }
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
        self.leave(index, leaving);
    }

    /// A sync failed: nobody knows what is on the disk, so the member ends as if power were lost.
    fn crash_by_disk(&mut self, index: usize) {
        let mut dice = self.dice.clone();
        let after = dice.within(10_000, 2_000_000);
        self.crash(index, after, &mut dice);
        self.dice = dice;
    }

    fn carry_out(&mut self, index: usize, leaving: Vec<Leaving>) {
        let life = self.members[index].life;
        for what in leaving {
            match what {
                Leaving::Send(to, message) => self.send(index, to, message),
                Leaving::Bytes(to, lane, bytes) => self.send_bytes(index, to, lane, bytes),
                Leaving::Emit(event) => self.on_event(index, event),
                Leaving::Arm(timer, after, number) => {
                    let lasts = self.members[index].clock.lasts(after);
                    self.later(lasts, Happening::Timer(index, life, timer, number));
                }
                Leaving::Later(after, what) => {
                    self.later(after.0, Happening::Leave(index, life, *what));
                }
                Leaving::Wake(after, number) => {
                    self.later(after.0, Happening::Wake(index, life, number));
                }
            }
        }
    }

    fn on_event(&mut self, index: usize, event: Event) {
        match event {
            Event::Execute(block) => self.execute(index, &block),
            Event::Submitted(group, result) => {
                let life = self.members[index].life;
                self.note(5, index, [brief(&group)]);
                self.clients.told(&group, result.is_ok(), index, life);
                if result.is_err() {
                    self.refused(index, &group);
                }
            }
            Event::Ordered(height, names) => {
                self.oracle.ordered(index, height, names);
                self.on_decision(index, height);
            }
            Event::Applied(applied) => {
                self.note(6, index, [brief(&applied.digest)]);
                self.oracle.applied(index, &applied);
                let height = applied.block.header.height;
                self.members[index].disk.shelf_mut().came_to(height);
                self.whisper(index);
                if self.has_census {
                    self.follow(index, &applied);
                }
                if self.ground.options.sample {
                    self.give_part(index, &applied);
                }
            }
            Event::Certified(certificate) => {
                self.note(7, index, [brief(&certificate.ballot.digest)]);
                self.oracle.certified(index, &certificate);
                self.prune(index, &certificate);
            }
            Event::Serve(member, Wanted::Bootstrap(ask)) => self.teach(index, member, &ask),
            Event::Serve(member, wanted) => {
                let answers = self.serve(index, member, &wanted);
                let leaving = answers.map(|answer| Leaving::Send(To::One(member), answer));
                self.leave(index, leaving.collect());
            }
            Event::Changed(change) => self.on_change(index, change),
            Event::Snapshot(base) => self.take_snapshot(index, *base),
            Event::Resaved(..) | Event::Settled(_) => {}
            Event::Anchored(member, standing) => self.anchor(index, member, *standing),
            Event::TooFar => self.fall_behind(index),
            Event::Shorter => self.on_shorter(index),
            Event::MakeKey(call) => self.make_key(index, call),
            Event::View(view) => {
                let ended = &mut self.members[index].ended;
                *ended = (*ended).max(view.id());
                self.step_over(index, &view);
            }
        }
    }

    fn on_change(&mut self, index: usize, change: Change) {
        match change {
            Change::State(_) | Change::Reached(..) => {}
            Change::View(view) => self.counts.views = self.counts.views.max(view.0),
            Change::Regency(regency, _) => self.on_regency(index, regency),
            Change::Fault(_) if self.oracle.is_faulty(index) => {}
            Change::Fault(fault) => match self.ground.by_id.get(&fault.who) {
                Some(who) if self.oracle.is_faulty(*who) => self.count("accusations"),
                who => {
                    let what = format!("member {index} accuses {who:?} of {:?}", fault.kind);
                    self.oracle.breaks("faultless", what);
                }
            },
            Change::Lapsed(..) if self.oracle.may_lapse(index) => self.count("lapses"),
            Change::Lapsed(_, promise) => {
                let what = format!("member {index} lost nothing and does not know {promise}");
                self.oracle.breaks("memory", what);
            }
            Change::Halted { .. } | Change::Diverged { .. } if self.oracle.is_faulty(index) => {}
            Change::Diverged { ours, .. } => {
                let what = format!("member {index} took another snapshot at {}", ours.height);
                self.oracle.breaks("agreement", what);
            }
            Change::Halted { height, .. } => {
                self.oracle
                    .breaks("agreement", format!("member {index} halts at {height}"));
            }
        }
    }

    fn on_regency(&mut self, index: usize, regency: u64) {
        let member = &mut self.members[index];
        if member.regency < regency {
            member.regency = regency;
            member.changes += 1;
        }
        if member.villain.is_some() {
            return;
        }
        let highest = self.counts.regencies;
        if regency > highest + 1 {
            let what = format!("member {index} enters {regency}, and nobody was beyond {highest}");
            self.oracle.breaks("regencies", what);
        }
        if regency > highest {
            self.counts.regencies = regency;
            self.next_ambush();
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
}
