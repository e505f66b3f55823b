//! What goes wrong in a world, and when.
//!
//! Source: the fault matrix of the project. In: chance, options. Out: cuts, crashes, restarts, and
//! calm at the end.
//! Holds: each kind rolls dice of its own, so that one more or less does not stir the others; what
//! goes wrong ends, except for what calm leaves dead for good.
//! Elsewhere: what weather does to single frames (`net`), what a crash does to a log (`disk`).

use super::census::bit;
use super::dice::Dice;
use super::faults::{Fault, Faults};
use super::member::{Fate, Member};
use super::oracle::quorum;
use super::queue::Happening;
use super::world::World;
use crate::committee::MemberId;
use crate::storage::simulated::Crash;

/// How long a fault lasts, in microseconds, at most.
const FAULT_US_MAX: u64 = 8_000_000;
/// Kinds that strike one time after another; the others are weather.
const STRIKES: &[Fault] = &[
    Fault::Partition,
    Fault::OneWay,
    Fault::Isolate,
    Fault::Flap,
    Fault::SlowLink,
    Fault::Clog,
    Fault::Restart,
    Fault::Crash,
    Fault::Pause,
    Fault::CrashLoop,
    Fault::AllDown,
    Fault::SyncFails,
    Fault::BitFlip,
    Fault::Full,
    Fault::SlowDisk,
    Fault::Jump,
    Fault::Rollback,
    Fault::Ambush,
];
/// How often a link flaps, or a member crashes in a loop, at most.
const REPEATS_MAX: u64 = 12;
/// The longest jump of a clock.
const JUMP_US_MAX: u64 = 600_000_000;

/// One kind of trouble: chance of its own, and how often it strikes.
pub(super) struct Trouble {
    dice: Dice,
    /// The mean time between two; never where there is none.
    every_us: Option<u64>,
}

impl Trouble {
    /// Every kind of the world of `seed`, at `strength` of a hundred.
    pub(super) fn draw(seed: u64, strength: u64) -> Vec<(Fault, Self)> {
        let of = |fault: Fault| {
            let mut dice = Dice::new(seed, 1_000 + fault as u64);
            let is_on = dice.chance(500);
            let every_us = dice.within(10_000_000, 60_000_000) * 100 / strength.max(1);
            (
                fault,
                Self {
                    dice,
                    every_us: is_on.then_some(every_us),
                },
            )
        };
        STRIKES.iter().map(|fault| of(*fault)).collect()
    }
}

impl World {
    /// Every kind of trouble that this world has begins.
    pub(super) fn begin_trouble(&mut self) {
        for index in 0..self.troubles.len() {
            if self.ground.options.faults.has(self.troubles[index].0) {
                self.next_trouble(index);
            }
        }
    }

    fn next_trouble(&mut self, index: usize) {
        let (_, trouble) = &mut self.troubles[index];
        if let Some(every_us) = trouble.every_us {
            let after = trouble.dice.within(every_us / 10, every_us * 19 / 10);
            self.later(after, Happening::Trouble(index));
        }
    }

    /// Something goes wrong, and again later.
    pub(super) fn trouble(&mut self, index: usize) {
        if self.is_calm {
            return;
        }
        let (fault, trouble) = &mut self.troubles[index];
        let fault = *fault;
        // The dice are lent to what strikes, and come back.
        let mut dice = trouble.dice.clone();
        self.count(fault.name());
        self.strike(fault, &mut dice);
        self.troubles[index].1.dice = dice;
        self.next_trouble(index);
    }

    fn strike(&mut self, fault: Fault, dice: &mut Dice) {
        let count = self.crowd.present;
        let (one, lasts) = (self.victim(dice), duration(dice));
        let other = (one + 1 + dice.index(count.max(2) - 1)) % count;
        match fault {
            Fault::Partition | Fault::OneWay => {
                let side: Vec<bool> = (0..count).map(|_| dice.chance(500)).collect();
                self.part(&side, fault == Fault::OneWay, lasts);
            }
            Fault::Isolate => {
                let side: Vec<bool> = (0..count).map(|member| member == one).collect();
                self.part(&side, false, lasts);
            }
            Fault::Flap => {
                for turn in 0..dice.within(2, REPEATS_MAX) {
                    self.later(turn * lasts / 4, Happening::Cut(one, other, turn % 2 == 0));
                }
                self.later(
                    REPEATS_MAX * lasts / 4 + 1,
                    Happening::Cut(one, other, false),
                );
            }
            Fault::SlowLink => {
                self.net.slow(one, other, dice.within(2, 50));
                self.later(lasts, Happening::Fast(one, other));
            }
            Fault::Clog => self.net.clog(one, other, self.now + lasts),
            Fault::Restart => self.restart(one, lasts),
            Fault::Crash => self.crash(one, lasts, dice),
            Fault::CrashLoop => {
                self.later(0, Happening::CrashLoop(one, dice.within(2, REPEATS_MAX)))
            }
            Fault::AllDown => (0..count).for_each(|member| self.crash(member, lasts, dice)),
            Fault::Pause => self.pause(one, lasts),
            Fault::SyncFails | Fault::Full if self.members[one].running.is_some() => {
                self.members[one].disk.fail_sync();
            }
            Fault::SyncFails | Fault::Full => {}
            Fault::BitFlip => self.flip(one, lasts, dice),
            Fault::Rollback => drop(self.roll_back(one, dice)),
            Fault::Ambush => self.begin_ambushes(),
            Fault::SlowDisk => {
                self.members[one].slow_disk = dice.within(2, 100);
                self.later(lasts, Happening::FastDisk(one));
            }
            Fault::Jump => {
                let by = i64::try_from(dice.below(JUMP_US_MAX)).expect("a short jump");
                self.members[one]
                    .clock
                    .jump(if dice.chance(500) { by } else { -by });
            }
            Fault::Loss | Fault::Duplicate | Fault::Reorder | Fault::Torn | Fault::Drift => {}
            Fault::Villains | Fault::Doom => {}
        }
    }

    /// Whom it strikes: the leader more often than others.
    fn victim(&self, dice: &mut Dice) -> usize {
        let anybody = dice.index(self.crowd.present);
        let leads = dice.chance(300);
        self.leader().filter(|_| leads).unwrap_or(anybody)
    }

    fn part(&mut self, side: &[bool], one_way: bool, lasts: u64) {
        self.cut(side, one_way, true);
        for (from, to) in between(side) {
            self.later(lasts, Happening::Cut(from, to, false));
        }
    }

    /// Cuts the links between members on different sides, or mends them; one way only from true to
    /// false.
    pub(super) fn cut(&mut self, side: &[bool], one_way: bool, is_cut: bool) {
        for (from, to) in between(side) {
            self.cut_link(from, to, is_cut);
            if !one_way {
                self.cut_link(to, from, is_cut);
            }
        }
    }

    /// Cuts one direction of a link, or mends both; both ends learn of it.
    pub(super) fn cut_link(&mut self, from: usize, to: usize, is_cut: bool) {
        self.net.cut(from, to, is_cut);
        if !is_cut {
            self.net.cut(to, from, false);
        }
        let after = if is_cut {
            1_000
        } else {
            self.dice.delay(1_000)
        };
        self.later(after, Happening::Link(from, to, !is_cut));
        self.later(after, Happening::Link(to, from, !is_cut));
    }

    /// Who leads the highest regency that any member knows.
    pub(super) fn leader(&self) -> Option<usize> {
        let known = self.members.iter().filter_map(|member| {
            let at = member.running.as_ref()?.replica.overview();
            Some((at.view, at.regency, at.leader?))
        });
        let leader: MemberId = known.max_by_key(|(view, regency, _)| (*view, *regency))?.2;
        self.ground.by_id.get(&leader).copied()
    }

    /// A member ends in good order and starts again.
    pub(super) fn restart(&mut self, index: usize, after: u64) {
        if self.take_down(index) {
            self.members[index].disk.close();
            self.later(after, Happening::Start(index));
        }
    }

    /// A member loses power and starts again.
    pub(super) fn crash(&mut self, index: usize, after: u64, dice: &mut Dice) {
        if self.lose_power(index, dice) {
            self.later(after, Happening::Start(index));
        }
    }

    /// A member loses power: what is not durable is gone, or torn where disks tear; whether it was
    /// up.
    pub(super) fn lose_power(&mut self, index: usize, dice: &mut Dice) -> bool {
        let was_up = self.take_down(index);
        if was_up {
            let tears = self.ground.options.faults.has(Fault::Torn);
            let how = match dice.index(4) {
                turn if tears => Crash::ALL[turn],
                _ => Crash::Lose,
            };
            self.members[index].disk.crash(how, dice);
        }
        was_up
    }

    /// One more crash of a loop: soon after its start a member loses power again.
    pub(super) fn crash_again(&mut self, index: usize, left: u64) {
        if self.is_calm {
            return;
        }
        let mut dice = self.dice.clone();
        self.crash(index, dice.within(1_000, 100_000), &mut dice);
        if left > 0 {
            let after = dice.within(2_000, 1_000_000);
            self.later(after, Happening::CrashLoop(index, left - 1));
        }
        self.dice = dice;
    }

    /// A member stands still.
    pub(super) fn pause(&mut self, index: usize, lasts: u64) {
        let member = &mut self.members[index];
        if member.running.is_some() && member.paused.is_none() {
            member.paused = Some(Vec::new());
            self.later(lasts, Happening::Resume(index));
        }
    }

    /// A bit flips on the disk of a member that is down, if it can be spared: it finds the damage
    /// and never comes back.
    fn flip(&mut self, index: usize, lasts: u64, dice: &mut Dice) {
        if self.spare(index) && self.take_down(index) {
            let member = &mut self.members[index];
            member.disk.close();
            member.disk.flip(dice);
            self.later(lasts, Happening::Start(index));
        }
    }

    /// A member is down from now on; whether it was up. Its peers learn of it.
    fn take_down(&mut self, index: usize) -> bool {
        let member = &mut self.members[index];
        member.paused = None;
        let was_questing = member.quest.take().is_some();
        if member.running.take().is_none() && !was_questing {
            return false;
        }
        if !was_questing && self.members.iter().any(|one| one.gathers().is_some()) {
            self.count("servers down while newcomers gather");
        }
        for other in (0..self.crowd.present).filter(|other| *other != index) {
            self.later(1_000, Happening::Link(other, index, false));
        }
        true
    }

    /// The faults end. A healthy quorum stays for good: its links are mended, and who is down comes
    /// back. In a part of the worlds that is everybody; in the others the rest is dead or cut off.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.come();
        self.net.calm();
        self.end_ambushes();
        let mut dice = Dice::new(self.ground.options.seed, 7);
        let is_quiet = self.ground.options.faults == Faults::none();
        let is_everybody = is_quiet || dice.chance(500);
        let is_cut_off = dice.chance(500);
        self.choose_healthy(is_everybody, &mut dice);
        for index in 0..self.crowd.present {
            let member = &mut self.members[index];
            member.changes = 0;
            if matches!(member.fate, Fate::Healthy | Fate::Back) {
                member.slow_disk = 1;
                self.resume(index);
                self.later(1_000, Happening::Start(index));
            } else if member.villain.is_none() && !is_cut_off {
                self.lose_power(index, &mut dice);
            }
        }
        self.mend(is_cut_off);
    }

    /// Mends every link, but for those between the healthy and the rest where it is cut off.
    fn mend(&mut self, is_cut_off: bool) {
        let count = self.members.len();
        let mut healthy: Vec<bool> = self.members.iter().map(Member::comes_back).collect();
        healthy[self.crowd.present..].fill(true); // Who comes last meets the healthy.
        for (from, to) in (0..count).flat_map(|from| (from + 1..count).map(move |to| (from, to))) {
            if is_cut_off && healthy[from] != healthy[to] {
                self.cut_link(from, to, true);
                self.cut_link(to, from, true);
            } else if !self.net.is_up(from, to) || !self.net.is_up(to, from) {
                self.cut_link(from, to, false);
            }
        }
    }

    /// Healthy are q seats that can be, or everybody who can.
    fn choose_healthy(&mut self, is_everybody: bool, dice: &mut Dice) {
        if self.has_census {
            return self.choose_bearable(is_everybody, dice);
        }
        let seats = self.ground.options.members;
        let first = dice.index(seats);
        let mut need = match self.ground.options.sample {
            true => seats - self.ground.options.bearable(),
            false => quorum(seats),
        };
        for turn in 0..self.crowd.present {
            let index = if turn < seats {
                (first + turn) % seats
            } else {
                turn
            };
            let is_lost = self.oracle.may_lapse(index);
            let member = &mut self.members[index];
            let can = !is_lost && member.fate == Fate::Open;
            if is_lost && is_everybody && member.fate == Fate::Open {
                member.fate = Fate::Back;
            }
            if can && (is_everybody || need > 0) {
                member.fate = Fate::Healthy;
                need = need.saturating_sub(1);
            }
        }
    }
}

impl World {
    /// Where members come and go everybody is healthy but those whose absence every committee
    /// bears.
    fn choose_bearable(&mut self, is_everybody: bool, dice: &mut Dice) {
        let first = dice.index(self.crowd.present);
        let mut dead = 0;
        for turn in 0..self.crowd.present {
            let index = (first + turn) % self.crowd.present;
            let spares = !is_everybody && dice.chance(500);
            if spares && self.bears(dead | bit(index), None) {
                dead |= bit(index);
                continue;
            }
            let is_lost = self.oracle.may_lapse(index);
            let member = &mut self.members[index];
            member.fate = match member.fate {
                Fate::Open if is_lost => Fate::Back,
                Fate::Open => Fate::Healthy,
                Fate::Healthy | Fate::Back | Fate::Ruined => member.fate,
            };
        }
    }
}

/// How long something lasts: mostly short, at times long.
fn duration(dice: &mut Dice) -> u64 {
    let most = [100_000, 1_000_000, FAULT_US_MAX][dice.index(3)];
    dice.within(most / 10, most)
}

/// Links from members on one side to those on the other.
fn between(side: &[bool]) -> Vec<(usize, usize)> {
    let pairs = (0..side.len()).flat_map(|from| (0..side.len()).map(move |to| (from, to)));
    pairs
        .filter(|(from, to)| side[*from] && !side[*to])
        .collect()
}
