//! Many newcomers at once, and one that comes when the chain is idle.
//!
//! Source: design, 'checkpoints and bootstrap'; L3. In: chance, what is pruned. Out: members
//! without a seat that come together, and a last one.
//! Holds: who has not come is no part of the world: nothing is sent to it, nothing strikes it; an
//! idle chain gives the last one a fresh block within a bound.
//! Elsewhere: what a newcomer does (`quest`), who may get a seat (`census`).

use super::Options;
use super::dice::Dice;
use super::faults::Faults;
use super::member::Fate;
use super::queue::Happening;
use super::world::World;
use crate::committee::Height;

/// Newcomers that come together, at most.
pub(super) const CROWD_MAX: u32 = 16;
/// Worlds of a thousand with checkpoints and every fault to which a crowd comes where none is asked
/// for.
const DRAWN: u64 = 250;
/// How long behind the first pruning a crowd comes, in microseconds, at most.
const AFTER_US_MAX: u64 = 20_000_000;
/// How far apart its members start, in microseconds, at most.
const APART_US_MAX: u64 = 200_000;
/// How long the chain is idle before the last one comes, in microseconds.
const IDLE_US: u64 = 10_000_000;
/// How soon it must have a fresh block, in microseconds: the timeouts of a few tries, and so many
/// of the usual delays, each of which may be a hundred times as long.
const ANCHOR_US_MAX: u64 = 20_000_000;
const ANCHOR_DELAYS_MAX: u64 = 400;

/// Members that come together, and whether one comes at the end.
pub(super) fn draw(options: &Options) -> (usize, bool) {
    let mut dice = Dice::new(options.seed, 16);
    let is_drawn = dice.chance(DRAWN) && options.faults == Faults::all();
    let drawn = dice.within(2, CROWD_MAX.into());
    let count = match options.joiners {
        _ if options.checkpoint_blocks == 0 => 0,
        Some(joiners) => joiners.min(CROWD_MAX).into(),
        None if is_drawn => drawn,
        None => 0,
    };
    let count = usize::try_from(count).expect("a few");
    (count, options.checkpoint_blocks > 0)
}

/// Who has come, and who is to come.
pub(super) struct Crowd {
    /// Members that are part of the world: those behind them have not come.
    pub(super) present: usize,
    /// Members that come at once.
    to_come: usize,
    /// Whether it is settled when.
    is_called: bool,
    /// The member that came when the chain was idle: when, and what was certified then.
    late: Option<(usize, u64, Height)>,
    /// When it had a fresh block.
    is_anchored: bool,
}

impl Crowd {
    pub(super) fn new(options: &Options, members: usize) -> Self {
        let (to_come, is_one_late) = draw(options);
        Self {
            present: members - to_come - usize::from(is_one_late),
            to_come,
            is_called: false,
            late: None,
            is_anchored: false,
        }
    }
}

impl World {
    /// Something was pruned: newcomers will have to fetch a snapshot.
    pub(super) fn call_crowd(&mut self) {
        if self.crowd.to_come > 0 && !self.crowd.is_called {
            self.crowd.is_called = true;
            let after = self.dice.within(0, AFTER_US_MAX);
            self.later(after, Happening::Crowd);
        }
    }

    /// All that are to come do so at once.
    pub(super) fn come(&mut self) {
        let first = self.crowd.present;
        let count = std::mem::take(&mut self.crowd.to_come);
        self.crowd.present += count;
        for index in first..first + count {
            self.count("members of crowds");
            let after = self.dice.below(APART_US_MAX);
            self.later(after, Happening::Start(index));
        }
    }

    /// L3: who comes when no transaction flows gets a fresh certified block, and follows.
    pub(super) fn judge_idle(&mut self) {
        let index = self.crowd.present;
        if index == self.members.len() || !self.goes_on() {
            return;
        }
        self.run_until(self.now + IDLE_US, |_| false);
        self.crowd.present += 1;
        self.crowd.late = Some((index, self.now, self.oracle.certified));
        let member = &mut self.members[index];
        member.fate = Fate::Healthy;
        member.disk.shelf_mut().want(Some(Height(0)));
        self.later(0, Happening::Start(index));
        let delays = self.ground.setting.weather.delay_us * ANCHOR_DELAYS_MAX;
        let bound = ANCHOR_US_MAX + delays;
        self.run_until(self.now + bound, |world| world.crowd.is_anchored);
        if !self.crowd.is_anchored && self.goes_on() {
            let what = format!("an idle chain offers no fresh block within {bound} us");
            self.oracle.breaks("anchor", what);
        }
    }

    /// What was certified when a newcomer began, if the chain was idle then.
    pub(super) fn idle_since(&self, index: usize) -> Option<Height> {
        let late = self.crowd.late.filter(|(late, ..)| *late == index);
        late.map(|(_, _, certified)| certified)
    }

    /// A newcomer that began on an idle chain has a fresh block.
    pub(super) fn judge_idle_anchor(&mut self, index: usize, height: Height, least: Height) {
        if height < least {
            let what = format!("newcomer {index} takes {height} for fresh, not {least}");
            self.oracle.breaks("anchor", what);
        }
        if !std::mem::replace(&mut self.crowd.is_anchored, true) {
            self.count("anchors of idle chains");
        }
    }

    /// Runs until `is_done` or `deadline`, while no rule is broken.
    fn run_until(&mut self, deadline: u64, is_done: impl Fn(&Self) -> bool) {
        while self.now < deadline && !is_done(self) && self.goes_on() && self.step() {}
    }
}
