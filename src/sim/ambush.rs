//! Ambushes: who locks or decides alone is cut off while the others replace the leader.
//!
//! Source: the adversary of partial synchrony, which has the network until it is calm; the shortest
//! runs by which a model broke the ordering rules. In: regencies, votes that arrive, locks and
//! decisions. Out: votes that are lost, and one member at a time that is cut off.
//! Holds: an ambush lasts for one regency, a series for a few in a row; calm ends it and mends what
//! it cut. Elsewhere: cuts that strike by chance (`trouble`), what a villain adds (`villain`).

use super::dice::Dice;
use super::queue::Happening;
use super::world::World;
use crate::committee::{Ballot, Height, Kind};
use crate::consortium::Heard;
use crate::fsm;

/// Of a thousand ambushes at a time when nobody is cut off so many make somebody deaf.
const DEAF: u64 = 300;
/// Regencies of a series, at most.
const SERIES_MAX: u64 = 4;
/// After a series who is cut off stays so for so many first timeouts: the others order meanwhile.
const ABSENCE_MIN: u64 = 2;
const ABSENCE_MAX: u64 = 8;
/// Nobody is cut off for longer: without it the others may not be enough to replace a leader.
const ABSENCE_US_MAX: u64 = 100_000_000;

/// What the network does in one regency.
#[derive(Clone, Copy, Debug)]
struct Ambush {
    regency: u64,
    /// Votes of this kind reach only the victim: it locks alone, or decides alone. If it is cut off
    /// already they reach nobody, and the regency ends without one.
    kind: Kind,
    victim: usize,
    /// They do so at every height, or at every second one, where the others decide without it.
    every: u64,
    /// Who was cut off before, or somebody else, hears no vote: what it has locked stays what it
    /// was.
    deaf: Option<usize>,
}

impl Ambush {
    /// Whether it is laid for votes of that kind at that height.
    fn is_for(&self, kind: Kind, height: Height) -> bool {
        self.kind == kind && height.0.is_multiple_of(self.every)
    }

    fn loses(&self, to: usize, ballot: &Ballot) -> bool {
        let is_alone = self.is_for(ballot.kind, ballot.height) && to != self.victim;
        ballot.regency.0 == self.regency && (is_alone || self.deaf == Some(to))
    }
}

/// The ambushes of a world.
#[derive(Debug)]
pub(super) struct Ambushes {
    dice: Dice,
    laid: Option<Ambush>,
    /// Regencies that the series still lasts.
    left: u64,
}

impl Ambushes {
    /// None yet; all follows from `dice`.
    pub(super) fn new(dice: Dice) -> Self {
        Self {
            dice,
            laid: None,
            left: 0,
        }
    }
}

impl World {
    /// A series begins in the present regency, unless one is under way.
    pub(super) fn begin_ambushes(&mut self) {
        if self.ambushes.laid.is_some() {
            return;
        }
        self.ambushes.left = self.ambushes.dice.within(1, SERIES_MAX);
        self.lay_ambush();
    }

    /// The regency is a new one: the ambush of the last is over, and the next is laid.
    pub(super) fn next_ambush(&mut self) {
        if self.ambushes.laid.take().is_some() {
            self.ambushes.left -= 1;
            self.lay_ambush();
        }
    }

    fn lay_ambush(&mut self) {
        let seats = 0..self.ground.options.members;
        let can: Vec<usize> = seats.filter(|seat| !self.oracle.is_faulty(*seat)).collect();
        let dice = &mut self.ambushes.dice;
        if self.ambushes.left == 0 || can.is_empty() {
            let first = self.ground.setting.pace().first.0;
            let absence = first * dice.within(ABSENCE_MIN, ABSENCE_MAX);
            if let Some(outcast) = self.net.outcast() {
                self.later(absence, Happening::Return(outcast));
            }
            return;
        }
        let mut anybody = || can[dice.index(can.len())];
        let (victim, deaf) = (anybody(), anybody());
        let deaf = (dice.chance(DEAF) && deaf != victim).then_some(deaf);
        self.ambushes.laid = Some(Ambush {
            regency: self.counts.regencies,
            kind: [Kind::Write, Kind::Accept][dice.index(2)],
            victim,
            every: dice.within(1, 2),
            deaf: self.net.outcast().or(deaf),
        });
    }

    /// Whether what arrives at `to` is lost.
    pub(super) fn is_ambushed(&self, from: usize, to: usize, heard: &Heard) -> bool {
        if self.net.is_outcast(from) || self.net.is_outcast(to) {
            return true; // It was on its way.
        }
        let Heard::Order(order) = heard else {
            return false;
        };
        let fsm::Message::Vote(vote) = &**order else {
            return false;
        };
        let laid = self.ambushes.laid.as_ref();
        laid.is_some_and(|ambush| ambush.loses(to, &vote.ballot))
    }

    /// `member` is about to say its ACCEPT, so it has locked.
    pub(super) fn on_lock(&mut self, member: usize, accept: &Ballot) {
        let laid = self.ambushes.laid.as_ref();
        if laid.is_some_and(|ambush| ambush.regency == accept.regency.0) {
            self.spring_ambush(member, Kind::Write, accept.height);
        }
    }

    /// `member` has decided everything up to `height`.
    pub(super) fn on_decision(&mut self, member: usize, height: Height) {
        self.spring_ambush(member, Kind::Accept, height);
    }

    /// If that is what was waited for, the member is cut off, and who was so before is no more.
    fn spring_ambush(&mut self, member: usize, kind: Kind, height: Height) {
        let laid = self.ambushes.laid.as_ref();
        let is_waited_for =
            laid.is_some_and(|ambush| ambush.victim == member && ambush.is_for(kind, height));
        if self.net.is_outcast(member) || !is_waited_for {
            return;
        }
        self.count("sprung ambushes");
        self.cast_out(Some(member));
        self.later(ABSENCE_US_MAX, Happening::Return(member));
    }

    /// An outcast returns, if it is still the last.
    pub(super) fn return_outcast(&mut self, member: usize) {
        if self.net.is_outcast(member) {
            self.cast_out(None);
        }
    }

    /// All of it ends.
    pub(super) fn end_ambushes(&mut self) {
        self.ambushes.laid = None;
        self.cast_out(None);
    }

    /// One member and nobody else is cut off; both ends of its links learn of it.
    fn cast_out(&mut self, outcast: Option<usize>) {
        let before = self.net.cast_out(outcast);
        let changed = [(before, true), (outcast, false)];
        let changed = changed
            .into_iter()
            .filter_map(|(who, is_up)| Some((who?, is_up)));
        for (member, is_up) in changed {
            for other in (0..self.members.len()).filter(|other| *other != member) {
                let after = match is_up {
                    true => self.ambushes.dice.delay(1_000),
                    false => 1_000,
                };
                self.later(after, Happening::Link(member, other, is_up));
                self.later(after, Happening::Link(other, member, is_up));
            }
        }
    }
}
