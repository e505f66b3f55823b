//! The world: virtual time, members, links, clients, and one queue of what happens next.
//!
//! Source: `machine.rs` and its law. In: options. Out: a report.
//! Holds: what happens next follows from the seed alone; every event enters the audit.
//! Elsewhere: members (`life`), what they say to each other (`post`), what goes wrong (`trouble`),
//! rules (`oracle`), chance (`dice`).

use std::collections::{BTreeMap, HashSet};

use super::ambush::Ambushes;
use super::audit::Audit;
use super::census::Census;
use super::clients::{Clients, Submission};
use super::crowd::Crowd;
use super::dice::Dice;
use super::doom::Dooms;
use super::faults::Fault;
use super::hints::Hints;
use super::liars::Liars;
use super::member::{Fate, Member, Running};
use super::net::Net;
use super::oracle::{Oracle, faulty_max};
use super::promises::Promises;
use super::queue::{Happening, Queue};
use super::setting::Setting;
use super::trouble::Trouble;
use super::{Options, Report, Violation};
use crate::blocks::Genesis;
use crate::committee::{Height, MemberId, View, ViewId};
use crate::consortium::{Command, Ears};
use crate::crypto::{Digest, Verifier};
use crate::fsm::PaceOptions;
use crate::machine::Input;

/// When worlds begin, in microseconds since the Unix epoch.
pub(super) const BEGINNING_US: u64 = 1_700_000_000_000_000;
/// How long after the last fault everything admitted must have committed, and a probe after it.
const CALM_US: u64 = 300_000_000;
/// Of a thousand submissions so many begin a burst, a few of which are silences instead.
const BURSTS: u64 = 30;
const SILENCES: u64 = 3;
/// Submissions in a burst at most, and how long clients are silent.
const BURST_MAX: u64 = 20;
const SILENCE_US_MAX: u64 = 20_000_000;
/// What waits at most for a member that stands still.
const HELD_MAX: usize = 20_000;
/// How often it is looked whether it has.
const LOOK_US: u64 = 200_000;

/// What the world is made of and does not change.
pub(super) struct Ground {
    pub(super) options: Options,
    pub(super) setting: Setting,
    pub(super) genesis: Genesis,
    pub(super) view: View,
    pub(super) verifier: Verifier,
    pub(super) by_id: BTreeMap<MemberId, usize>,
    /// What frames are checked against, by the view in which their receiver stands.
    pub(super) ears: BTreeMap<ViewId, Ears>,
}

/// A world.
pub(super) struct World {
    pub(super) ground: Ground,
    pub(super) now: u64,
    queue: Queue,
    pub(super) members: Vec<Member>,
    pub(super) net: Net,
    pub(super) clients: Clients,
    pub(super) oracle: Oracle,
    pub(super) promises: Promises,
    /// Signatures that were found to hold, by name; nobody goes through them.
    pub(super) known: HashSet<Digest>,
    pub(super) dice: Dice,
    pub(super) troubles: Vec<(Fault, Trouble)>,
    pub(super) ambushes: Ambushes,
    pub(super) dooms: Dooms,
    pub(super) liars: Liars,
    pub(super) crowd: Crowd,
    pub(super) hints: Hints,
    /// Whether members come and go.
    pub(super) has_census: bool,
    pub(super) census: Census,
    /// When the next act of members may begin.
    pub(super) next_act: u64,
    /// Submissions of a burst that are still to come.
    burst: u64,
    /// Whether the phase with faults is over.
    pub(super) is_calm: bool,
    audit: Audit,
    pub(super) counts: Counts,
}

/// What is counted for the report.
#[derive(Default)]
pub(super) struct Counts {
    steps: u64,
    pub(super) regencies: u64,
    /// The newest view that was entered.
    pub(super) views: u64,
    /// The highest checkpoint that a member holds certified.
    pub(super) checkpoint: Height,
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
        let by_id: BTreeMap<MemberId, usize> =
            members.iter().enumerate().map(|(i, m)| (m.id, i)).collect();
        let faulty: Vec<bool> = members.iter().map(|m| m.villain.is_some()).collect();
        Self {
            now: BEGINNING_US,
            queue: Queue::default(),
            net: Net::new(setting.weather, members.len(), dice(2)),
            clients: Clients::new(&genesis, setting.client_secrets(), setting.large, dice(3)),
            oracle: Oracle::new(view.clone(), verifier, parameters, faulty),
            promises: Promises::default(),
            known: HashSet::new(),
            dice: dice(4),
            troubles: Trouble::draw(options.seed, options.strength),
            ambushes: Ambushes::new(dice(8)),
            dooms: Dooms::new(dice(17)),
            liars: Liars::new(dice(18)),
            crowd: Crowd::new(options, members.len()),
            hints: Hints::new(dice(20)),
            has_census: setting.newcomers > 0,
            census: Census::new(options, &genesis, by_id.clone()),
            next_act: 0,
            burst: 0,
            is_calm: false,
            audit: Audit::new(),
            counts: Counts::default(),
            ground: Ground {
                options: options.clone(),
                by_id,
                setting,
                genesis,
                view,
                verifier,
                ears: BTreeMap::from([(ViewId(0), ears)]),
            },
            members,
        }
    }

    /// Runs the whole history: a phase with faults, then calm, in which a healthy quorum commits
    /// all that its members admitted, and a probe after it.
    pub(super) fn run(&mut self) {
        self.begin();
        let (steps, end) = (
            self.ground.options.steps,
            self.now + self.ground.setting.lasts_us,
        );
        while self.counts.steps < steps && self.now < end && self.goes_on() && self.step() {}
        self.calm();
        self.settle();
        self.probe();
        self.settle();
        self.judge_idle();
        self.settle();
        self.judge_the_end();
    }

    /// Members start one after the other; clients and trouble follow.
    pub(super) fn begin(&mut self) {
        for member in 0..self.crowd.present {
            let at = self.dice.below(50_000);
            self.later(at, Happening::Start(member));
        }
        self.later(100_000, Happening::Client);
        if self.has_census {
            self.later(2_000_000, Happening::Census);
        }
        self.begin_trouble();
    }

    /// Whether no rule was broken.
    pub(super) fn goes_on(&self) -> bool {
        self.oracle.broken.is_empty()
    }

    /// Runs until everything admitted is answered everywhere, or too much time has passed.
    pub(super) fn settle(&mut self) {
        let deadline = self.now + CALM_US;
        let mut look = self.now;
        while self.now < deadline && self.goes_on() {
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
        if let Some(why) = self.unsettled().filter(|_| self.goes_on()) {
            self.oracle.breaks("liveness", why);
        }
    }

    /// Every healthy seat gets a group that nobody sent before.
    fn probe(&mut self) {
        for index in 0..self.ground.options.members {
            if self.members[index].fate == Fate::Healthy && self.goes_on() {
                let probe = self.clients.probe(self.oracle.height());
                self.input(index, Input::Command(Command::Submit(probe)));
            }
        }
    }

    /// What can be judged only at the end.
    fn judge_the_end(&mut self) {
        self.oracle.end();
        let PaceOptions { least, most, .. } = self.ground.setting.pace();
        let doublings = u64::from((most.0 / least.0.max(1)).max(1).ilog2()) + 1;
        let bound = doublings + faulty_max(self.ground.options.members) as u64 + 1;
        let healthy = self
            .members
            .iter()
            .filter(|member| member.fate == Fate::Healthy);
        let changes = healthy
            .map(|member| member.changes)
            .max()
            .unwrap_or_default();
        if changes > bound {
            let what = format!("{changes} regencies after the last fault, more than {bound}");
            self.oracle.breaks("regencies", what);
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
        let Some((at, happening)) = self.queue.pop() else {
            return false;
        };
        assert!(at >= self.now, "time never goes back");
        self.now = at;
        self.counts.steps += 1;
        let paused = happening
            .seen_by()
            .map(|member| &mut self.members[member].paused);
        if let Some(Some(held)) = paused {
            // What does not fit the buffers of a process that stands still is lost.
            if held.len() < HELD_MAX {
                held.push(happening);
            }
            return true;
        }
        match happening {
            Happening::Start(member) => self.start(member),
            Happening::Frame(member, life, frame) => self.arrive(member, life, &frame),
            Happening::Timer(member, life, timer, number) => {
                let running = self.alive(member, life);
                if running.is_some_and(|running| running.take_timer(&timer, number)) {
                    self.input(member, Input::Timer(timer));
                }
            }
            Happening::QuestTimer(member, life, timer, number) => {
                self.quest_timer(member, life, timer, number);
            }
            Happening::Taken(member, life, taken) => {
                if self.alive(member, life).is_some() {
                    self.input(member, Input::Command(Command::Taken(taken)));
                }
            }
            Happening::Synced(member, life, upto) => self.synced(member, life, upto),
            Happening::Executed(member, life, execution) => {
                if self.alive(member, life).is_some() {
                    self.input(member, Input::Command(Command::Executed(execution)));
                }
            }
            Happening::Leave(member, life, what) => self.leave_late(member, life, what),
            Happening::Wake(member, life, number) => self.wake(member, life, number),
            Happening::Link(one, other, is_up) => self.link(one, other, is_up),
            Happening::Keys(member, life, command) => {
                if self.alive(member, life).is_some() {
                    let enters = matches!(command, Command::Enter(..));
                    self.members[member].forgot += u64::from(enters);
                    self.input(member, Input::Command(command));
                }
            }
            Happening::Client => self.submit(),
            Happening::Census => self.look_round(),
            Happening::Submit(member, life, submission) => {
                if self.alive(member, life).is_some() {
                    self.input(member, Input::Command(Command::Submit(submission)));
                }
            }
            Happening::Trouble(index) => self.trouble(index),
            Happening::Cut(from, to, is_cut) if !self.is_calm => self.cut_link(from, to, is_cut),
            Happening::Return(member) => self.return_outcast(member),
            Happening::Fast(from, to) => self.net.slow(from, to, 1),
            Happening::FastDisk(member) => self.members[member].slow_disk = 1,
            Happening::Resume(member) if !self.is_calm => self.resume(member),
            Happening::Cut(..) | Happening::Resume(_) => {}
            Happening::CrashLoop(member, left) => self.crash_again(member, left),
            Happening::Doom(member, life, step) => self.late_doom(member, life, step),
            Happening::Crowd => self.come(),
        }
        true
    }

    /// Something happens `after` microseconds from now.
    pub(super) fn later(&mut self, after: u64, what: Happening) {
        self.queue.push(self.now + after, what);
    }

    /// The member, if it is still in that life.
    pub(super) fn alive(&mut self, member: usize, life: u64) -> Option<&mut Running> {
        let member = &mut self.members[member];
        if member.life == life {
            member.running.as_mut()
        } else {
            None
        }
    }

    /// An event of `kind` at a member enters the audit.
    pub(super) fn note<const N: usize>(&mut self, kind: u64, member: usize, what: [u64; N]) {
        self.audit.note([self.now, kind << 32 | member as u64]);
        self.audit.note(what);
    }

    fn submit(&mut self) {
        if self.is_calm {
            return;
        }
        let submission: Submission = self.clients.submit(self.oracle.height());
        let member = self.dice.index(self.ground.options.members);
        self.input(member, Input::Command(Command::Submit(submission)));
        let after = match (self.burst, self.dice.below(1000)) {
            (1.., _) => {
                self.burst -= 1;
                self.dice.delay(500)
            }
            (0, BURSTS..) => self.dice.delay(self.ground.setting.client_us),
            (0, SILENCES..) => {
                self.burst = self.dice.within(2, BURST_MAX);
                self.dice.delay(500)
            }
            (0, _) => self.dice.within(5_000_000, SILENCE_US_MAX),
        };
        self.later(after, Happening::Client);
    }

    /// Why not everything is well yet.
    pub(super) fn unsettled(&self) -> Option<String> {
        let height = self.oracle.height();
        if self.has_census && !self.census.is_settled() {
            return Some(self.describe("a view is due and does not begin".into()));
        }
        if let Some(ordered) = self.oracle.open_promise() {
            return Some(format!("{ordered} was told ordered and is not applied"));
        }
        let all = self.members.iter().take(self.crowd.present).enumerate();
        for (index, member) in all.filter(|(_, member)| member.fate == Fate::Healthy) {
            let Some(running) = &member.running else {
                return Some(format!("member {index} is down"));
            };
            let at = running.replica.overview();
            if at.height != height || at.certified != height {
                return Some(self.describe(format!("member {index} lags")));
            }
        }
        let open = self.clients.admitted.iter().find(|admitted| {
            let by = &self.members[admitted.member];
            let lives_on = by.life == admitted.life && by.fate == Fate::Healthy;
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
                    "; {index}: view {} {}/{} height {} certified {} regency {} work {}",
                    running.replica.view().id(),
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
            cpu_seconds: 0.0,
            fault_events: Fault::ALL.iter().filter_map(|f| faults.get(f.name())).sum(),
            blocks: self.oracle.height().0,
            regencies: self.counts.regencies,
            views: self.counts.views + 1,
            violations: violations.collect(),
            faults,
            audit: self.audit.to_string(),
        }
    }
}
